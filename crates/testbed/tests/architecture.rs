//! Invariants of the house, kept over `cargo metadata`: who may import whom, what licences, and
//! that the tree holds no unsafe code, no machine path, no overlong file without a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const PURE: &[&str] = &[
    "model", "rules", "routes", "config", "balance", "vrrp", "agree", "import", "http", "dns", "node",
    "agentx",
];
/// What edges share beside the pure crates.
const BASE: &[&str] = &["files", "trust", "scripts"];
const EDGES: &[&str] =
    &["l4", "l7", "health", "discover", "platform", "peer", "series", "alert", "acme", "snmp", "upgrade"];
const TOP: &[&str] = &["api", "admin", "console", "control", "haproxy", "evenkeel"];
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
            "admin" => vec!["api", "trust"],
            "console" => vec!["api"],
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

/// Whether a licence expression holds with these licences alone: parts joined by `AND`, each a choice.
fn is_allowed(licence: &str, allowed: &BTreeSet<&str>) -> bool {
    let choice = |part: &str| {
        let part = part.trim_matches(['(', ')', ' ']).replace('/', " OR ");
        part.split(" OR ").any(|one| allowed.contains(one.trim()))
    };
    !licence.is_empty() && licence.split(" AND ").all(choice)
}

#[test]
fn licences_are_those_that_deny_toml_allows() {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = text.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    let allowed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(allowed.contains("MIT") && !allowed.iter().any(|one| one.contains("GPL")), "{allowed:?}");
    assert!(is_allowed("MIT/Apache-2.0", &allowed) && is_allowed("(MIT OR GPL-3.0) AND ISC", &allowed));
    assert!(!is_allowed("MIT AND GPL-3.0", &allowed) && !is_allowed("", &allowed));
    for package in metadata()["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("");
        assert!(is_allowed(licence, &allowed), "{}: licence {licence:?}", package["name"]);
    }
}

/// What `deny.toml` says of sources and of versions, for those who have no cargo-deny.
#[test]
fn dependencies_come_from_the_registry_in_versions_that_are_named() {
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    for package in metadata()["packages"].as_array().unwrap() {
        let (name, source) = (&package["name"], &package["source"]);
        assert!(source.is_null() || source == registry, "{name} is from {source}");
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        for one in dependencies.filter(|one| source.is_null() && one["path"].is_null()) {
            assert_ne!(one["req"], "*", "{name} takes any version of {}", one["name"]);
        }
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

/// A stranger opens the files that ARCHITECTURE.md names.
#[test]
fn files_that_the_architecture_names_are_there() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let places: Vec<String> =
        files.iter().map(|file| file.display().to_string().replace("/src/", "/")).collect();
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let end = format!("/{}", name.replace("/src/", "/"));
        assert!(places.iter().any(|place| place.ends_with(&end)), "ARCHITECTURE.md: there is no {name}");
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

/// Names of types that said nothing to a stranger, or meant several things in this tree.
const RETIRED_TYPES: &[&str] = &[
    "Own",
    "OwnConnection",
    "Told",
    "Left",
    "Gravity",
    "Brain",
    "Eyes",
    "Seen",
    "Stand",
    "Way",
    "Twins",
    "Show",
    "Wish",
    "Asked",
    "Wanted",
    "Shared",
];

/// The same of functions.
const RETIRED_FUNCTIONS: &[&str] = &[
    "tell", "hear", "bell", "patience", "strain", "unheard", "blame", "homeless", "astray", "whole", "look",
];

/// Words that are good for one type, and puzzle as the name of several.
const ONE_TYPE_EACH: &[&str] = &["Kind", "Step", "Place", "Path", "Draft", "Signal"];

/// What a line declares: its keyword and the name.
fn declared(line: &str) -> Option<(&str, &str)> {
    const BEFORE: &[&str] = &["pub", "pub(super)", "pub(crate)", "const", "async", "unsafe", "extern"];
    let mut words = line.split_whitespace().skip_while(|word| BEFORE.contains(word));
    let keyword = words.next()?;
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    ["struct", "enum", "trait", "type", "fn"].contains(&keyword).then(|| (keyword, &name[..end]))
}

fn is_test(file: &Path) -> bool {
    file.components().any(|c| c.as_os_str() == "tests") || file.ends_with("tests.rs")
}

#[test]
fn names_are_those_that_a_stranger_can_search_for() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let mut types: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files.iter().filter(|file| !is_test(file)) {
        let text = std::fs::read_to_string(file).unwrap();
        for (keyword, name) in text.lines().filter_map(declared) {
            let retired = if keyword == "fn" { RETIRED_FUNCTIONS } else { RETIRED_TYPES };
            assert!(
                !retired.contains(&name),
                "{}: `{keyword} {name}` is a retired name: GLOSSARY.md has the terms",
                file.display()
            );
            if keyword != "fn" && ONE_TYPE_EACH.contains(&name) {
                types.entry(name.to_owned()).or_default().push(file.clone());
            }
        }
    }
    for (name, places) in types {
        assert!(places.len() == 1, "{name} names several types, in {places:?}");
    }
}

/// The import hands typed values to `config::tree`, which alone gives texts their quotes.
#[test]
fn the_import_pastes_no_toml() {
    let mut files = Vec::new();
    sources(&root().join("crates/import/src"), &mut files);
    for file in files.iter().filter(|file| !is_test(file)) {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for begin in ["\"{{ ", "\"[{{", "\"{ ", "serde_json"] {
            let line = code.lines().find(|line| line.contains(begin) && !line.trim().starts_with("//"));
            let known = begin == "serde_json" && file.ends_with("import/src/words.rs");
            assert!(line.is_none() || known, "{}: TOML as text: {line:?}", file.display());
        }
    }
}

/// Functions over 80 lines: none may join them, and who splits one takes it out here.
const LONG_FUNCTIONS: &[&str] = &[
    "admin/src/routes.rs: entries",
    "bench/src/packets.rs: run",
    "control/src/lib.rs: answer",
    "import/src/haproxy.rs: global",
    "import/src/haproxy.rs: line",
    "import/src/haproxy/bind.rs: bind_options",
    "import/src/haproxy/condition.rs: criterion",
    "import/src/haproxy/lexer.rs: split",
    "import/src/haproxy/proxy.rs: services",
    "import/src/haproxy/rules.rs: rule",
    "import/src/haproxy/sample.rs: converter",
    "import/src/haproxy/sample.rs: source",
    "import/src/haproxy/server.rs: option_by_option",
    "import/src/haproxy/server.rs: servers",
    "import/src/haproxy/walk.rs: pass",
    "l7/src/proxy/flow.rs: begin_answer",
    "rules/src/convert.rs: build",
    "rules/src/template.rs: source",
];

#[test]
fn functions_fit_a_screen() {
    const MOST: usize = 80;
    let mut files = Vec::new();
    let crates = root().join("crates");
    sources(&crates, &mut files);
    let mut long = BTreeSet::new();
    for file in files.iter().filter(|file| !is_test(file)) {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let name_of_file = file.strip_prefix(&crates).unwrap().display().to_string();
        for (at, line) in lines.iter().enumerate() {
            let Some(("fn", name)) = declared(line) else { continue };
            // Formatted code ends an item with a brace at the item's own indentation.
            let indentation = &line[..line.len() - line.trim_start().len()];
            let is_end = |l: &&str| {
                l.strip_prefix(indentation).is_some_and(|rest| rest.starts_with('}') || rest.ends_with("; }"))
            };
            let one_line = line.ends_with('}') || line.ends_with(';');
            let end = if one_line { 0 } else { lines[at..].iter().position(is_end).unwrap_or(0) };
            if end + 1 > MOST {
                long.insert(format!("{name_of_file}: {name}"));
            }
        }
    }
    let known: BTreeSet<String> = LONG_FUNCTIONS.iter().map(|&one| one.to_owned()).collect();
    let new: Vec<_> = long.difference(&known).collect();
    assert!(new.is_empty(), "functions of over {MOST} lines: {new:#?}");
    let split: Vec<_> = known.difference(&long).collect();
    assert!(split.is_empty(), "these are shorter now, take them out of LONG_FUNCTIONS: {split:#?}");
}

/// Words of what nobody may guess.
const SECRET_WORDS: &[&str] =
    &["secret", "secrets", "csrf", "token", "password", "passwords", "hmac", "credentials", "authorization"];

/// Comparisons of such names that tell a stranger nothing: of what the program itself holds, and of names.
const HARMLESS_COMPARISONS: &[&str] = &[
    "u.password == user.password",
    "a.password == b.password",
    "u.name == token.owner",
    "username.is_some() != password_file.is_some(",
    "secrets != self.sync().tickets",
];

/// The comparisons of a line, with their operands as far as the next space.
fn comparisons(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or(line);
    let mut found = Vec::new();
    for sign in [" == ", " != "] {
        for (at, _) in code.match_indices(sign) {
            let before = code[..at].rsplit([' ', '(', '!', '|']).next().unwrap_or("");
            // A call keeps its brackets.
            let before =
                if before.ends_with(')') { code[..at].rsplit(' ').next().unwrap_or("") } else { before };
            let after = code[at + sign.len()..].split([' ', ';', ',']).next().unwrap_or("");
            found.push(format!("{}{sign}{}", before.trim_start_matches('('), after.trim_end_matches(')')));
        }
    }
    for call in [".strip_prefix(", ".starts_with(", ".eq_ignore_ascii_case("] {
        for (at, _) in code.match_indices(call) {
            let before = code[..at].rsplit(' ').next().unwrap_or("");
            let after = code[at + call.len()..].split(')').next().unwrap_or("");
            // What begins with a word of this program is no guess.
            if !after.starts_with(['"', '\'']) && !after.starts_with("b\"") {
                found.push(format!("{before}{call}{after})"));
            }
        }
    }
    found
}

/// `==` ends at the first byte that differs, and how long it took says how much of a guess was right.
#[test]
fn secrets_are_compared_in_constant_time() {
    assert_eq!(comparisons("x if a.secret == given.secret;"), ["a.secret == given.secret"]);
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let mut known: BTreeSet<&str> = HARMLESS_COMPARISONS.iter().copied().collect();
    let shipped = |file: &&PathBuf| {
        !is_test(file) && !DEVELOPMENT.iter().any(|room| file.starts_with(root().join("crates").join(room)))
    };
    for file in files.iter().filter(shipped) {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
        for one in code.lines().flat_map(comparisons) {
            let names = one.split(|c: char| !c.is_alphabetic());
            if names.into_iter().any(|name| SECRET_WORDS.contains(&name)) && !known.remove(one.as_str()) {
                assert!(
                    HARMLESS_COMPARISONS.contains(&one.as_str()),
                    "{}: `{one}`: secrets are compared by aws_lc_rs::constant_time",
                    file.display()
                );
            }
        }
    }
    assert!(known.is_empty(), "these are gone, take them out of HARMLESS_COMPARISONS: {known:?}");
}
