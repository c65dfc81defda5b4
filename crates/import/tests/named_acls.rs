//! A test that an ACL names means what it means where it is written in braces, in every rule.

use std::collections::BTreeMap;

use evenkeel_import::{Source, SourceKind, import, keywords};

/// Rules with a condition, by the mode of their proxy.
const RULES: [(&str, &str); 24] = [
    ("http", "http-request deny"),
    ("http", "http-request allow"),
    ("http", "http-request auth"),
    ("http", "http-request set-header X-A b"),
    ("http", "http-request set-var(txn.x) str(a)"),
    ("http", "http-request track-sc0 src table b"),
    ("http", "http-request redirect location /x"),
    ("http", "http-request set-header X-A %[srv_name]"),
    ("http", "redirect prefix /x"),
    ("http", "http-response set-header X-A b"),
    ("http", "http-response add-header X-A b"),
    ("http", "http-response del-header X-A"),
    ("http", "http-response set-var(txn.x) str(a)"),
    ("http", "http-response replace-header X-A ^(.*)$ \\1"),
    ("http", "http-response set-status 404"),
    ("http", "http-response deny"),
    ("http", "http-after-response set-header X-A b"),
    ("http", "use_backend b"),
    ("http", "use-server s"),
    ("http", "monitor fail"),
    ("http", "tcp-response content reject"),
    ("tcp", "tcp-request connection reject"),
    ("tcp", "tcp-request content reject"),
    ("tcp", "use_backend b"),
];

/// What the file becomes: the text, and whether something could not be carried over.
fn becomes(mode: &str, lines: &str) -> (String, bool) {
    let text = format!(
        "userlist u\n  user a insecure-password x\ndefaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
         listen a\n  bind 192.0.2.1:80\n  stick-table type ip size 1k store gpc0,http_req_rate(1s)\n  monitor-uri /m\n{lines}  server s 192.0.2.2:80\n\
         backend b\n  stick-table type ip size 1k store gpc0,http_req_rate(1s)\n  server t 192.0.2.3:80\n"
    );
    let source = Source { kind: SourceKind::Haproxy, file: "h.cfg".into(), text };
    let imported = import(&[source], &BTreeMap::new());
    (imported.text, imported.left.iter().any(|left| left.severity != evenkeel_import::Severity::Note))
}

/// The lines that one of the two has alone.
fn shown(test: &str, inline: &(String, bool), named: &(String, bool)) -> String {
    let alone = |one: &str, other: &str| -> String {
        let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.collect::<Vec<_>>().join("\n")
    };
    let (of_inline, of_named) = (alone(&inline.0, &named.0), alone(&named.0, &inline.0));
    format!("{test}, left out {} {}:\n{of_inline}\n--- named:\n{of_named}", inline.1, named.1)
}

fn check(test: &str) -> Vec<String> {
    let mut differ = Vec::new();
    for (mode, rule) in RULES {
        for sense in ["if", "unless", "if !"] {
            let (sense, not) = sense.split_once(' ').unwrap_or((sense, ""));
            // What ends the rules is seen by the next one.
            let next = if mode == "http" { "  http-request set-header X-N n\n" } else { "" };
            let inline = becomes(mode, &format!("  {rule} {sense} {not}{{ {test} }}\n{next}"));
            let named = becomes(mode, &format!("  acl x {test}\n  {rule} {sense} {not}x\n{next}"));
            if inline != named && !(inline.1 && named.1) {
                differ.push(shown(&format!("{rule} {sense} {not}{{ {test} }}"), &inline, &named));
            }
        }
    }
    differ
}

#[test]
fn named_tests_mean_what_inline_ones_mean() {
    let usual = [
        "res.hdr(X-B) -m found",
        "res.fhdr(Content-Type) -m beg text/html",
        "shdr_beg(Content-Type) text/html",
        "status 500",
        "status ge 400",
        "srv_name s",
        "srv_id 1",
        "res.cook(a) x",
        "var(txn.y) -m found",
        "http_auth(u)",
        "src 192.0.2.0/24",
        "path_beg /a",
        "hdr(host) -i a.example",
        "be_name b",
        "fe_name a",
        "sc0_http_req_rate(b) gt 5",
        "src_get_gpc0(b) gt 5",
        "nbsrv(b) lt 1",
    ];
    let differ: Vec<String> = usual.iter().flat_map(|test| check(test)).collect();
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n\n"));
}

/// Every sample that the manual names, with usual arguments.
#[test]
fn every_sample_may_stand_in_a_named_test() {
    let mut differ = Vec::new();
    for (_, sample) in keywords().filter(|(place, _)| *place == "sample") {
        for argument in ["", "(x)", "(b)"] {
            let test = format!("{sample}{argument} 1");
            let inline = becomes("http", &format!("  http-response set-header X-A b if {{ {test} }}\n"));
            let named = becomes("http", &format!("  acl x {test}\n  http-response set-header X-A b if x\n"));
            if inline != named && !(inline.1 && named.1) {
                differ.push(shown(&test, &inline, &named));
            }
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n\n"));
}
