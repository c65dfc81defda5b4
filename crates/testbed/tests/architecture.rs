//! Invariants of the house, kept over `cargo metadata`: who may import whom, what licences, and
//! that the tree holds no unsafe code, no machine path, no overlong file without a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const PURE: &[&str] = &["model", "rules", "routes", "config", "balance", "vrrp", "agree", "import", "http"];
/// What edges share beside the pure crates.
const BASE: &[&str] = &["files", "trust", "scripts"];
const EDGES: &[&str] = &["l4", "l7", "health", "discover", "platform", "peer", "series", "alert", "acme"];
const TOP: &[&str] = &["api", "admin", "control", "haproxy", "evenkeel"];
const DEVELOPMENT: &[&str] = &["testbed", "bench", "sim", "mutate"];

/// Libraries that reach for a socket, a clock or a thread.
const IMPURE_LIBRARIES: &[&str] = &["tokio", "rustix", "axum", "hyper", "slab", "jiff", "tracing"];

/// What pure code must not name: time, sockets, threads and files are others' business.
const IMPURE_WORDS: &[&str] = &[
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "File::open",
    "epoll::",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn short(name: &str) -> &str {
    name.strip_prefix("evenkeel-").unwrap_or(name)
}

/// Each room with what it imports, tests aside.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|p| members.contains(p["id"].as_str().unwrap()))
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let used = dependencies
                .filter(|d| d["kind"].is_null())
                .map(|d| short(d["name"].as_str().unwrap()).to_owned());
            (short(package["name"].as_str().unwrap()).to_owned(), used.collect())
        })
        .collect()
}

#[test]
fn rooms_import_one_way() {
    let imports = imports();
    let all: Vec<&str> = [PURE, BASE, EDGES, TOP, DEVELOPMENT].concat();
    for (room, used) in &imports {
        assert!(
            all.contains(&room.as_str()),
            "{room} has no place in the house: add it to this test and ARCHITECTURE.md"
        );
        let ours: BTreeSet<&str> = used.iter().map(String::as_str).filter(|u| all.contains(u)).collect();
        let allowed: Vec<&str> = match room.as_str() {
            r if PURE.contains(&r) => PURE.to_vec(),
            r if BASE.contains(&r) => vec![],
            r if EDGES.contains(&r) => [PURE, BASE].concat(),
            "api" => vec![],
            "admin" => vec!["api"],
            "control" => [PURE, BASE, EDGES, &["api", "admin"]].concat(),
            "haproxy" => [PURE, BASE, EDGES, &["api", "admin", "control"]].concat(),
            _ => all.clone(),
        };
        for one in ours {
            assert!(allowed.contains(&one), "{room} must not import {one}");
        }
        if PURE.contains(&room.as_str()) {
            for library in IMPURE_LIBRARIES {
                assert!(!used.contains(*library), "{room} is pure and must not import {library}");
            }
        }
    }
    let evenkeel = &imports["evenkeel"];
    assert!(DEVELOPMENT.iter().all(|d| !evenkeel.contains(*d)), "the binary holds nothing of the tests");
}

#[test]
fn nothing_of_the_binary_is_copyleft() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("");
        let free = [
            "MIT",
            "Apache-2.0",
            "BSD",
            "ISC",
            "Unicode-3.0",
            "Unlicense",
            "Zlib",
            "BSL-1.0",
            "CDLA-Permissive-2.0",
        ];
        assert!(free.iter().any(|l| licence.contains(l)), "{}: licence {licence:?}", package["name"]);
        assert!(
            !licence.contains("GPL") || licence.contains(" OR "),
            "{}: licence {licence:?}",
            package["name"]
        );
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_sources_are_tidy() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    assert!(files.len() > 30);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.display();
        let is_test = file.components().any(|c| c.as_os_str() == "tests") || file.ends_with("tests.rs");
        assert!(text.starts_with("//!") || is_test, "{name} does not say what it is for");
        assert!(
            text.lines().count() <= 800 || is_test,
            "{name} is longer than 800 lines: split it by what changes together"
        );
        let home = root().display().to_string();
        assert!(!text.contains(&home), "{name} holds a path of this machine");
        for word in ["unsafe {", "todo!(", "unimplemented!(", "dbg!("] {
            assert!(!text.contains(word) || file.ends_with("architecture.rs"), "{name} holds {word}");
        }
    }
}

#[test]
fn pure_rooms_name_no_clock_socket_thread_or_file() {
    for room in PURE {
        let mut files = Vec::new();
        sources(&root().join("crates").join(room).join("src"), &mut files);
        assert!(!files.is_empty(), "{room} has sources");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in IMPURE_WORDS {
                assert!(!text.contains(word), "{}: {room} is pure and must not name {word}", file.display());
            }
        }
    }
}
