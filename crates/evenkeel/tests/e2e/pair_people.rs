//! What people changed on two nodes before they were a pair, and while they did not hear each other.

use std::time::Duration;

use evenkeel_testbed::eventually;
use evenkeel_testbed::pair::PairLab;

use crate::layer4::service;
use crate::pair::{FRONT, lab};

const SOON: Duration = Duration::from_secs(15);

fn add_user(lab: &PairLab, node: usize, name: &str) {
    let (program, socket) = (env!("CARGO_BIN_EXE_evenkeel"), lab.folder(node).join("admin.sock"));
    let line = format!(
        "echo 'correct horse battery' | {program} --socket {} user add {name} --role admin --password-stdin",
        socket.display()
    );
    let added = evenkeel_testbed::command("sh", &["-c", &line]);
    assert_eq!(added.code, 0, "{}{}", added.out, added.err);
}

/// Everything that people change live: who there is, admin states, weights, servers, maintenance.
fn all(lab: &PairLab, node: usize) -> [String; 4] {
    [&["user", "list"][..], &["token", "list"], &["maintenance", "list"], &["status", "web"]].map(
        |arguments| {
            let shown = lab.json(node, arguments);
            match arguments[0] {
                "user" => named(&shown, "name"),
                "token" => named(&shown, "name"),
                "maintenance" => shown.as_array().map_or(0, Vec::len).to_string(),
                _ => {
                    let servers =
                        shown.pointer("/virtual-services/0/real-servers").cloned().unwrap_or_default();
                    assert!(servers.is_array(), "{shown}");
                    let of =
                        |s: &serde_json::Value| format!("{} {} {}", s["name"], s["admin-state"], s["weight"]);
                    servers
                        .as_array()
                        .map(|all| all.iter().map(of).collect::<Vec<_>>().join(","))
                        .unwrap_or_default()
                }
            }
        },
    )
}

fn named(list: &serde_json::Value, key: &str) -> String {
    let all = list.as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = all.iter().map(|one| one[key].to_string()).collect();
    names.sort();
    names.join(",")
}

fn done(lab: &PairLab, node: usize, arguments: &[&str]) {
    let done = lab.cli(node, arguments);
    assert_eq!(done.code, 0, "{arguments:?}: {}{}", done.out, done.err);
}

#[test]
fn the_node_that_joins_brings_nothing_of_its_own() {
    let Some(mut lab) = lab("pair-people") else { return };
    let shared = service("web", "10.77.0.100:80", "http", "health-check = { type = \"none\" }", FRONT);
    for node in 0..2 {
        lab.write(node, &lab.config(node, "", &shared));
        lab.start(node);
    }
    add_user(&lab, 0, "ann");
    done(&lab, 0, &["drain", "web/s2"]);
    // The new machine has been changed more often.
    for name in ["bob", "bea", "ben"] {
        add_user(&lab, 1, name);
        done(&lab, 1, &["token", "add", name, "--role", "operator"]);
    }
    done(&lab, 1, &["halt", "web/s1"]);
    done(&lab, 1, &["weight", "web/s2", "7"]);
    done(&lab, 1, &["server", "add", "web/old", "--address", "10.77.0.99:80"]);
    let serving = all(&lab, 0);
    assert!(serving[0].contains("ann") && serving[3].contains("drain"), "{serving:?}");
    lab.join();
    eventually("both have what the serving node had", SOON, || {
        all(&lab, 1) == serving && all(&lab, 0) == serving
    });
    let events = lab.cli(1, &["events"]).out;
    assert!(events.contains("people and tokens are those of lb1 now (gone: "), "{events}");
    // Both change as often while the link is cut, and find together again.
    lab.hosts.run("lb2", "nft", &["add table inet cut; add chain inet cut in { type filter hook input priority -300; }; add rule inet cut in ip saddr 10.79.0.1 tcp dport 9694 drop; add rule inet cut in ip saddr 10.79.0.1 tcp sport 9694 drop"]);
    let linked = |lab: &PairLab| lab.json(0, &["pair", "status"])["link"]["connected"] == true;
    eventually("the link is gone", Duration::from_secs(60), || !linked(&lab));
    for (node, name, server) in [(0, "cem", "web/s1"), (1, "dot", "web/s2")] {
        add_user(&lab, node, name);
        done(&lab, node, &["weight", server, "9"]);
    }
    lab.hosts.run("lb2", "nft", &["delete table inet cut"]);
    eventually("they are linked again", Duration::from_secs(60), || linked(&lab));
    eventually("both have the same", SOON, || all(&lab, 0) == all(&lab, 1));
    let told = |node: usize, text: &str| lab.cli(node, &["events"]).out.contains(text);
    assert!((0..2).any(|node| told(node, "(gone: cem") || told(node, "(gone: dot")), "who lost is told");
    assert!((0..2).any(|node| told(node, "admin states, weights and run-time servers are those of")));
}
