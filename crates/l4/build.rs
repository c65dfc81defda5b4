//! Builds the XDP program with clang, and writes the structures of bpf/shared.h for Rust.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=bpf");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let headers = std::env::var_os("DEP_BPF_INCLUDE").expect("libbpf-sys names its headers");
    for program in ["evenkeel", "decapsulate", "floor", "generator"] {
        compile(program, &PathBuf::from(&headers), &out);
    }
    let shared = std::fs::read_to_string("bpf/shared.h").expect("bpf/shared.h");
    std::fs::write(out.join("shared.rs"), translate(&shared)).expect("OUT_DIR is writable");
}

fn compile(program: &str, headers: &std::path::Path, out: &std::path::Path) {
    let mut clang = Command::new(std::env::var_os("CLANG").unwrap_or_else(|| "clang".into()));
    clang.args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"]);
    clang.arg("-Wno-address-of-packed-member").arg("-I").arg(headers);
    // Debian keeps asm/types.h in a folder that is named after the machine.
    let machine = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    clang.arg(format!("-I/usr/include/{machine}-linux-gnu"));
    clang.arg("-c").arg(format!("bpf/{program}.bpf.c")).arg("-o").arg(out.join(format!("{program}.o")));
    let status = clang.status().unwrap_or_else(|error| {
        panic!("clang, which compiles the XDP program, cannot be run: {error}; on Debian: apt install clang")
    });
    assert!(status.success(), "clang did not compile bpf/{program}.bpf.c");
}

/// The few forms that shared.h is written in.
fn translate(text: &str) -> String {
    let mut rust = String::new();
    let mut in_comment = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.starts_with("/*") {
            in_comment = true;
        }
        if in_comment {
            in_comment = !line.ends_with("*/");
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["#define", name, value] => {
                writeln!(rust, "pub const {name}: u32 = {value};").expect("a string");
            }
            ["struct", name, "{"] => {
                writeln!(
                    rust,
                    "#[repr(C)]\n#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]\npub struct {} {{",
                    camel(name)
                )
                .expect("a string");
                for field in lines.by_ref().map(str::trim).take_while(|l| *l != "};") {
                    writeln!(rust, "    pub {},", translate_field(field)).expect("a string");
                }
                rust.push_str("}\n");
            }
            _ => panic!("bpf/shared.h holds what build.rs does not understand: {line}"),
        }
    }
    rust
}

fn translate_field(field: &str) -> String {
    let field = field.strip_suffix(';').expect("a field ends with a semicolon");
    let (kind, name) = field.rsplit_once(' ').expect("a type and a name");
    let kind = match kind {
        "__u8" => "u8".to_owned(),
        "__u16" => "u16".to_owned(),
        "__u32" => "u32".to_owned(),
        "__u64" => "u64".to_owned(),
        other => camel(other.strip_prefix("struct ").expect("a structure")),
    };
    match name.split_once('[') {
        None => format!("{name}: {kind}"),
        Some((name, length)) => {
            let length = length.strip_suffix(']').expect("a bracket");
            // A number, or the name of one.
            let cast = if length.parse::<u32>().is_ok() { "" } else { " as usize" };
            format!("{name}: [{kind}; {length}{cast}]")
        }
    }
}

fn camel(name: &str) -> String {
    let mut out = String::new();
    for part in name.split('_') {
        let mut letters = part.chars();
        out.extend(letters.next().map(|l| l.to_ascii_uppercase()));
        out.extend(letters);
    }
    out
}
