//! Lists the files of the built web UI, if it was built.

use std::fmt::Write;
use std::path::Path;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut list = String::from("static FILES: &[File] = &[\n");
    let mut files: Vec<_> =
        std::fs::read_dir(&dist).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(path) = name.strip_suffix(".gz") else { continue };
        let media = match path.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("webmanifest") => "application/manifest+json",
            _ => "application/octet-stream",
        };
        let _ = writeln!(
            list,
            "    File {{ path: {path:?}, media: {media:?}, bytes: include_bytes!({:?}) }},",
            file.display().to_string()
        );
    }
    list.push_str("];\n");
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    if let Err(error) = std::fs::write(Path::new(&out).join("ui.rs"), list) {
        println!("cargo::error=the list of the web UI's files cannot be written: {error}");
    }
}
