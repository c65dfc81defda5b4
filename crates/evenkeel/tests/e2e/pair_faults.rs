//! Faults of a pair that are not seen by the silence of every path.

use std::time::Duration;

use evenkeel_testbed::eventually;
use evenkeel_testbed::pair::{KEPT_CONNECTIONS, NEW_CONNECTIONS, PairLab};
use rustix::process::Signal;

use crate::layer4::service;
use crate::pair::{BACK, FRONT, lab};

fn web() -> String {
    service("web", "10.77.0.100:80", "http", "health-check = { type = \"tcp\", interval = \"1s\" }", FRONT)
}

/// Drops what comes to an interface of a host, or lets it pass again; its carrier stays.
fn deafen(lab: &PairLab, host: &str, interface: &str, deaf: bool) {
    let table = format!(
        "table netdev {interface} {{ chain c {{ type filter hook ingress device {interface} priority 0; policy drop; }}; }}"
    );
    let name = format!("delete table netdev {interface}");
    let done = lab.hosts.run(host, "nft", &[if deaf { &table } else { &name }]);
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
}

/// The active node's port is dead in both directions, in one, in the other: each time the node that still
/// reaches the servers takes over, and nobody moves while both reach the same.
#[test]
fn a_dead_switch_port_with_carrier_is_seen() {
    let Some(mut lab) = lab("pair-dead-port") else { return };
    if !evenkeel_testbed::require(&["nft"]) {
        return;
    }
    lab.start_pair("", &web());
    let mut active = 0;
    for how in ["dead", "deaf", "mute"] {
        let port = format!("{}0", evenkeel_testbed::pair::NODES[active]);
        let host = evenkeel_testbed::pair::NODES[active];
        let cut = |lab: &PairLab, on: bool| match (how, on) {
            ("dead", true) => lab.hosts.ip("switch", &["link", "set", &port, "nomaster"]),
            ("dead", false) => lab.hosts.ip("switch", &["link", "set", &port, "master", "front"]),
            ("deaf", on) => deafen(lab, host, "e0", on),
            (_, on) => deafen(lab, "switch", &port, on),
        };
        let client = lab.traffic("c", NEW_CONNECTIONS, &["10.77.0.100", "80", "10"]);
        std::thread::sleep(Duration::from_secs(2));
        cut(&lab, true);
        lab.await_role(1 - active, "active");
        lab.await_role(active, "passive");
        std::thread::sleep(Duration::from_secs(3));
        let seen = client.end();
        eprintln!("{how}: {seen}");
        assert!(seen["gap_ms"].as_u64().unwrap() < 5_000, "{how}: {seen}");
        let status = lab.json(active, &["pair", "status"]);
        assert!(status["troubles"].to_string().contains("0 of 2 machines"), "{how}: {status}");
        assert_eq!(lab.role(1 - active), "active", "it stays so");
        cut(&lab, false);
        eventually("it is well again", Duration::from_secs(20), || {
            lab.json(active, &["pair", "status"])["troubles"] == serde_json::json!([])
        });
        assert_eq!(lab.role(1 - active), "active", "nothing goes back by itself");
        active = 1 - active;
    }
    // The switch itself is dead: both reach the same, and nobody's role changes.
    let changes =
        |lab: &PairLab| (0..2).map(|node| lab.log(node).matches("role changed").count()).sum::<usize>();
    let before = changes(&lab);
    for node in ["lb10", "lb20"] {
        lab.hosts.ip("switch", &["link", "set", node, "nomaster"]);
    }
    eventually("both know", Duration::from_secs(10), || {
        (0..2).all(|n| lab.json(n, &["pair", "status"])["troubles"].to_string().contains("0 of 2 machines"))
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(changes(&lab), before, "{}{}", lab.log(0), lab.log(1));
}

/// Nobody is left to take the addresses away but the kernel.
#[test]
fn with_the_daemon_and_its_guard_both_gone_the_addresses_go_too() {
    let Some(mut lab) = lab("pair-unguarded") else { return };
    lab.start_pair("", &web());
    let has = |lab: &PairLab, node| lab.has(node, "10.77.0.100");
    eventually("the VIP is on the first node", Duration::from_secs(10), || has(&lab, 0));
    // It is kept for as long as somebody lives.
    std::thread::sleep(Duration::from_secs(12));
    assert!(has(&lab, 0), "{}", lab.log(0));
    for stopped in [true, false] {
        let active = usize::from(lab.role(1) == "active");
        let daemon = lab.nodes[active].as_ref().unwrap().id();
        let children = format!("/proc/{daemon}/task/{daemon}/children");
        let of_all_threads = std::fs::read_dir(format!("/proc/{daemon}/task")).unwrap().flatten();
        let children: Vec<String> = of_all_threads
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .chain(std::fs::read_to_string(children).ok())
            .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let guards = children.iter().filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"guard")
        });
        let guards: Vec<rustix::process::Pid> =
            guards.filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)).collect();
        assert!(!guards.is_empty(), "{children:?}");
        let all = |signal| {
            guards.iter().for_each(|pid| {
                let _ = rustix::process::kill_process(*pid, signal);
            })
        };
        // It must not see the end of the other before its own.
        all(Signal::STOP);
        lab.nodes[active].as_ref().unwrap().signal(if stopped { Signal::STOP } else { Signal::KILL });
        if !stopped {
            all(Signal::KILL);
        }
        lab.await_role(1 - active, "active");
        eventually("the kernel takes the VIP away", Duration::from_secs(60), || !has(&lab, active));
        assert!(has(&lab, 1 - active));
        if stopped {
            all(Signal::CONT);
            lab.nodes[active].as_ref().unwrap().signal(Signal::CONT);
            lab.await_role(active, "passive");
            eventually("it is on one node", Duration::from_secs(30), || {
                !has(&lab, active) && has(&lab, 1 - active)
            });
        }
    }
}

/// Whether nothing counts as open any more on a node.
pub fn is_at_rest(lab: &PairLab, node: usize) -> bool {
    let status = lab.json(node, &["status"]);
    let none = |value: &serde_json::Value| value == 0;
    let services = status["virtual-services"].as_array().cloned().unwrap_or_default();
    none(&status["connections"])
        && !services.is_empty()
        && services.iter().all(|service| {
            let servers = service["real-servers"].as_array().cloned().unwrap_or_default();
            none(&service["current-connections"])
                && none(&service["queued"])
                && servers.iter().all(|server| none(&server["current-connections"]))
        })
}

/// Counters of connections that were cut at a change of role come back to zero, however often.
#[test]
fn after_many_switch_overs_under_load_every_counter_is_zero() {
    let Some(mut lab) = lab("pair-counters") else { return };
    let rounds = crate::pair_keep::rounds(8);
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    let limit =
        |text: String| text.replace("address = \"10.77.0.1", "max-connections = 40\n  address = \"10.77.0.1");
    let text = [
        limit(service("web", "10.77.0.100:80", "http", check, FRONT)),
        limit(service("raw", "10.77.0.101:80", "tcp", check, FRONT)),
        service("back", "10.77.0.102:80", "http", check, BACK),
    ]
    .concat();
    lab.start_pair("", &text);
    let load: Vec<_> = [
        (NEW_CONNECTIONS, vec!["10.77.0.100", "80", "15"]),
        (NEW_CONNECTIONS, vec!["10.77.0.101", "80", "15"]),
        (KEPT_CONNECTIONS, vec!["10.77.0.100,10.77.0.101,10.77.0.102", "80", "60", "100"]),
        (WAITING, vec!["10.77.0.100", "80", "20"]),
        (WAITING, vec!["10.77.0.101", "80", "20"]),
    ]
    .into_iter()
    .map(|(script, arguments)| lab.traffic("c", script, &arguments))
    .collect();
    std::thread::sleep(Duration::from_secs(1));
    let mut active = 0;
    for round in 0..rounds {
        let done = lab.cli(active, &["pair", "switch-over"]);
        assert_eq!(done.code, 0, "round {round}: {}{}", done.out, done.err);
        active = 1 - active;
        lab.await_role(active, "active");
        lab.await_role(1 - active, "passive");
        std::thread::sleep(Duration::from_millis(200));
    }
    load.into_iter().for_each(|traffic| drop(traffic.end()));
    for node in 0..2 {
        eventually("every counter is zero", Duration::from_secs(60), || is_at_rest(&lab, node));
    }
    let answer = lab.hosts.run("c", "curl", &["-sS", "--max-time", "10", "http://10.77.0.100/"]);
    assert!(answer.out.starts_with('s'), "{answer:?}");
}

/// Clients whose answers take minutes, and that connect again when they are cut: `HOST PORT COUNT`.
const WAITING: &str = r#"
const net = require('net'), fs = require('fs');
const [out, host, port, count] = process.argv.slice(2);
let opened = 0;
function one() {
  const s = net.connect({ host, port: +port });
  s.on('connect', () => { opened++; s.write('GET /drip HTTP/1.1\r\nHost: x\r\n\r\n'); });
  s.on('data', () => {});
  s.on('error', () => {});
  s.on('close', () => setTimeout(one, 50));
}
for (let i = 0; i < +count; i++) one();
process.on('SIGTERM', () => { fs.writeFileSync(out, JSON.stringify({ opened })); process.exit(0); });
"#;

/// Beats become more frequent where none is late, the reason is told, and a node that is gone is replaced
/// by what they say. `EVENKEEL_ROUNDS` for figures.
#[test]
fn adaptive_beats_follow_what_is_measured() {
    let Some(mut lab) = lab("pair-adaptive") else { return };
    let rounds = std::env::var("EVENKEEL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    lab.start_pair("learning-time = \"1s\"", &web());
    let beats = |lab: &PairLab, node| lab.json(node, &["pair", "status"])["beats"].clone();
    let quick = |lab: &PairLab| {
        eventually("beats adapt", Duration::from_secs(120), || {
            (0..2).all(|node| beats(lab, node)["dead-after-ms"].as_u64().is_some_and(|ms| ms < 150))
        });
    };
    quick(&lab);
    // Of what it measures itself, or of what its peer does: whichever needs more.
    let why = beats(&lab, 0)["why"].as_str().unwrap().to_owned();
    assert!(why.contains("after its time") || why.contains("the peer hears"), "{why}");
    let mut active = 0;
    for (fault, ports) in [("kill -9", &[][..]), ("link down", &["0"]), ("power cut", &["0", "1", "2"])] {
        for _ in 0..rounds {
            quick(&lab);
            if rounds > 1 {
                std::thread::sleep(Duration::from_secs(10));
            }
            let now = beats(&lab, active);
            let client = lab.traffic("c", NEW_CONNECTIONS, &["10.77.0.100", "80", "5"]);
            std::thread::sleep(Duration::from_secs(2));
            let name = evenkeel_testbed::pair::NODES[active];
            let set = |lab: &PairLab, state: &str| {
                if ports.len() == 1 {
                    return lab.hosts.ip("switch", &["link", "set", &format!("{name}0"), state]);
                }
                // All at the same moment, and no carrier tells of it.
                let chain = |port: &&str| {
                    format!(
                        "chain c{port} {{ type filter hook ingress device {name}{port} priority 0; policy drop; }};"
                    )
                };
                let table = ports.iter().map(chain).collect::<String>();
                let rules = match state {
                    "down" => format!("table netdev power {{ {table} }}"),
                    _ => "delete table netdev power".into(),
                };
                let done = lab.hosts.run("switch", "nft", &[&rules]);
                assert_eq!(done.code, 0, "{done:?}");
            };
            match ports {
                [] => lab.nodes[active].take().unwrap().signal(Signal::KILL),
                _ => set(&lab, "down"),
            }
            lab.await_role(1 - active, "active");
            std::thread::sleep(Duration::from_secs(2));
            let seen = client.end();
            eprintln!("{fault}: gap {} ms, slowest {} ms, beats {now}", seen["gap_ms"], seen["slowest_ms"]);
            assert!(seen["gap_ms"].as_u64().unwrap() < 5_000, "{fault}: {seen}");
            match ports {
                [] => lab.start(active),
                _ => set(&lab, "up"),
            }
            // Where both were active, one of them stays so.
            eventually("one is active", Duration::from_secs(20), || {
                let mut roles = [lab.role(0), lab.role(1)];
                roles.sort();
                roles == ["active", "passive"]
            });
            active = usize::from(lab.role(1) == "active");
        }
    }
}

/// What is closed on the active node does not go on with its successor, which has heard of it; the rest does.
#[test]
fn what_was_closed_before_a_takeover_stays_closed() {
    let Some(mut lab) = lab("pair-closed") else { return };
    let shared = [
        "[network]\nfloating-ips = [\"10.78.0.254/24\", \"10.77.0.150/24\"]\n".to_owned(),
        service("nat", "10.77.0.101:80", "nat", "", BACK),
        service("snat", "10.77.0.102:80", "snat", "source-addresses = [\"10.77.0.150\"]", FRONT),
        service("sticky", "10.77.0.100:80", "http", "persistence = { type = \"source\" }", FRONT),
    ];
    lab.start_pair("", &shared.concat());
    let [nat, snat] = ["10.77.0.101", "10.77.0.102"];
    // They ask again after four seconds: the next packet of each is for the other node.
    let kept = |host: &str, vip: &str| lab.traffic(host, KEPT_CONNECTIONS, &[vip, "80", "10", "4000"]);
    let closed = [kept("c", nat), kept("c", snat)];
    let others = [kept("d", nat), kept("d", snat)];
    let sticky = lab.traffic("c", NEW_CONNECTIONS, &["10.77.0.100", "80", "100"]);
    let flows = |lab: &PairLab, node: usize, state: &str| {
        let listed = lab.json(node, &["connections", "--client", "10.77.0.9", "--state", state]);
        listed.as_array().map_or(0, |all| all.iter().filter(|c| c["vip"] != "10.77.0.100:80").count())
    };
    let entries = |lab: &PairLab, node: usize| {
        lab.json(node, &["persistence", "list", "sticky"]).as_array().map_or(0, Vec::len)
    };
    eventually("both nodes know all of them", Duration::from_secs(20), || {
        (0..2).all(|node| flows(&lab, node, "established") == 20 && entries(&lab, node) == 1)
    });
    std::thread::sleep(Duration::from_millis(300));
    let done = lab.cli(0, &["close", "--client", "10.77.0.9"]);
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    assert!(done.out.contains("20 of ") || done.out.starts_with("20 connections closed"), "{}", done.out);
    eventually("the other node has it", Duration::from_secs(2), || flows(&lab, 1, "cut") == 20);
    lab.nodes[0].take().unwrap().signal(Signal::KILL);
    lab.await_role(1, "active");
    std::thread::sleep(Duration::from_secs(6));
    for kept in closed {
        let seen = kept.end();
        assert_eq!(
            (&seen["opened"], &seen["ended"], &seen["hung"]),
            (&10.into(), &10.into(), &0.into()),
            "{seen}"
        );
    }
    for kept in others {
        let seen = kept.end();
        assert_eq!(
            (&seen["opened"], &seen["ended"], &seen["hung"]),
            (&10.into(), &0.into(), &0.into()),
            "{seen}"
        );
    }
    drop(sticky.end());
    // To close connections is not to forget where their client belongs: that is `persistence clear`.
    assert_eq!(entries(&lab, 1), 1);
}

/// Who loses the role because it stood still says so itself, and its peer, which knows of silence only, has it
/// from there: in status, log and what happened, on either node.
#[test]
fn a_node_that_stood_still_says_so_and_its_peer_knows_it() {
    let Some(mut lab) = lab("pair-stall") else { return };
    lab.start_pair("", &web());
    for stopped in [0, 1] {
        lab.await_role(stopped, "active");
        let other = 1 - stopped;
        let daemon = lab.nodes[stopped].as_ref().unwrap();
        daemon.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(1_200));
        daemon.signal(Signal::CONT);
        lab.await_role(stopped, "passive");
        lab.await_role(other, "active");
        let own = lab.json(stopped, &["pair", "status"]);
        let lasted = own["stood-still"]["lasted-ms"].as_u64().unwrap_or(0);
        assert!((1_000..10_000).contains(&lasted), "{own}");
        assert!(own["stood-still"]["cause"].as_str().unwrap().contains("stopped"), "{own}");
        let why = own["why"].as_str().unwrap();
        assert!(why.contains("this node stood still for 1.") && why.contains("without a beat"), "{why}");
        let why = lab.json(other, &["pair", "status"])["why"].to_string();
        assert!(why.contains("silent on every path: no beat for "), "{why}");
        eventually("the peer has it from the node itself", Duration::from_secs(20), || {
            lab.json(other, &["pair", "status"])["peer"]["stood-still"]["lasted-ms"] == lasted
        });
        assert!(lab.cli(stopped, &["pair", "status"]).out.contains("\nthis node stood still for 1."));
        assert!(lab.cli(other, &["pair", "status"]).out.contains("\nthe peer stood still for 1."));
        assert!(lab.log(stopped).contains("this node stood still"), "{}", lab.log(stopped));
        assert!(lab.log(other).contains("the peer stood still"), "{}", lab.log(other));
        let happened = |node: usize| {
            let file = lab.folder(node).join("state/happenings.log");
            std::fs::read_to_string(file).unwrap_or_default()
        };
        eventually("both keep it", Duration::from_secs(20), || {
            happened(stopped).contains("stood still for 1.")
                && happened(other).contains("taken over meanwhile")
        });
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// A daemon that dies need not be missed: its guard takes the addresses away, and says so to the peer.
#[test]
fn the_guard_tells_the_peer_that_its_daemon_has_died() {
    let Some(mut lab) = lab("pair-last-words") else { return };
    // By silence alone the peer would wait for two seconds.
    lab.start_pair("dead-after = 40\n", &web());
    let active = usize::from(lab.role(1) == "active");
    lab.nodes[active].take().unwrap().signal(Signal::KILL);
    lab.await_role(1 - active, "active");
    let why = lab.json(1 - active, &["pair", "status"])["why"].to_string();
    assert!(why.contains("the peer's daemon has died"), "{why}");
    assert!(!lab.has(active, "10.77.0.100"), "its guard was first");
    assert!(lab.has(1 - active, "10.77.0.100"));
    // It comes back as the passive one.
    lab.start(active);
    lab.await_role(active, "passive");
    assert_eq!(lab.role(1 - active), "active");
}

/// What is restored is both nodes': not from the one that follows, and no node becomes the other one.
#[test]
fn a_backup_does_not_roll_the_active_node_back_and_makes_no_twin() {
    let Some(mut lab) = lab("pair-restore") else { return };
    lab.start_pair("", &web());
    let text = |lab: &PairLab, node: usize| std::fs::read_to_string(lab.config_file(node)).unwrap();
    let backup = lab.place.file("backup.json").display().to_string();
    let made = lab.cli(0, &["backup", &backup]);
    assert_eq!(made.code, 0, "{}{}", made.out, made.err);
    let edited = text(&lab, 0).replace("name = \"web\"", "name = \"shop\"");
    let file = lab.place.write("edit.toml", edited).display().to_string();
    assert_eq!(lab.json(0, &["commit", &file])["peer"], "committed");
    let refused = lab.cli(1, &["restore", &backup]);
    assert_ne!(refused.code, 0, "{}", refused.out);
    assert!(refused.err.contains("restore it on the active node"), "{}", refused.err);
    assert!((0..2).all(|node| text(&lab, node).contains("name = \"shop\"")));
    assert_eq!((lab.role(0), lab.role(1)), ("active".into(), "passive".into()));
    // A node that is there is not made twice.
    let twin = lab.place.file("twin.json").display().to_string();
    assert_eq!(lab.cli(1, &["backup", &twin]).code, 0);
    let refused = lab.cli(0, &["restore", &twin, "--as", "that-node"]);
    assert!(refused.code != 0 && refused.err.contains("lb2 is on, and heard"), "{}", refused.err);
    // The first node is gone for good, and its backup is all there is.
    lab.nodes[0].take().unwrap().signal(Signal::KILL);
    lab.await_role(1, "active");
    eventually("the link is down", Duration::from_secs(20), || {
        lab.json(1, &["pair", "status"])["link"]["connected"] == false
    });
    let refused = lab.cli(1, &["restore", &backup]);
    assert!(refused.code != 0 && refused.err.contains("as=this-node"), "{}", refused.err);
    let restored = lab.cli(1, &["restore", &backup, "--as", "this-node"]);
    assert_eq!(restored.code, 0, "{}{}", restored.out, restored.err);
    let own = text(&lab, 1);
    assert!(own.contains("name = \"lb2\"") && own.contains("name = \"web\""), "{own}");
    assert!(!own.contains("name = \"lb1\""), "{own}");
}

/// What the other node refuses is nowhere, the admin states of the backup among it.
#[test]
fn a_backup_that_the_other_node_refuses_changes_nothing() {
    let Some(mut lab) = lab("pair-restore-refused") else { return };
    let more = service("more", "10.77.0.104:8088", "http", "health-check = { type = \"none\" }", FRONT);
    lab.start_pair("", &(web() + &more));
    let text = |lab: &PairLab, node: usize| std::fs::read_to_string(lab.config_file(node)).unwrap();
    let states =
        |lab: &PairLab| [0, 1].map(|node| lab.json(node, &["status"]).to_string().contains("draining"));
    assert_eq!(lab.cli(0, &["drain", "web/s1"]).code, 0);
    eventually("both know that it drains", Duration::from_secs(10), || states(&lab) == [true; 2]);
    let backup = lab.place.file("backup.json").display().to_string();
    assert_eq!(lab.cli(0, &["backup", &backup]).code, 0);
    assert_eq!(lab.cli(0, &["online", "web/s1"]).code, 0);
    eventually("both know that it does not", Duration::from_secs(10), || states(&lab) == [false; 2]);
    let file = lab.place.write("less.toml", lab.config(0, "", &web())).display().to_string();
    assert_eq!(lab.json(0, &["commit", &file])["peer"], "committed");
    // The port is somebody else's on the other node by now.
    let _taken = lab.hosts.nginx(&lab.place, "lb2", &[8088]);
    eventually("the port is taken", Duration::from_secs(10), || {
        lab.hosts.run("lb2", "curl", &["-s", "http://127.0.0.1:8088/"]).code == 0
    });
    let before = [text(&lab, 0), text(&lab, 1)];
    let refused = lab.cli(0, &["restore", &backup]);
    assert!(refused.code != 0 && refused.err.contains("the other node refuses"), "{refused:?}");
    assert!(refused.err.contains("8088"), "{refused:?}");
    assert_eq!([text(&lab, 0), text(&lab, 1)], before);
    assert_eq!(states(&lab), [false; 2], "admin states are as they were");
    assert_eq!((lab.role(0), lab.role(1)), ("active".into(), "passive".into()));
}

/// Each node has a connection of its own to the other. One of them breaks and comes again, the other stays.
#[test]
fn a_link_that_breaks_one_way_leaves_nobody_without_knowledge_of_the_other() {
    let Some(mut lab) = lab("pair-one-link") else { return };
    lab.start_pair("", &web());
    let relation = |lab: &PairLab, node| lab.json(node, &["pair", "status"])["link"]["configuration"].clone();
    let same = |lab: &PairLab| (0..2).all(|node| relation(lab, node) == "same");
    eventually("both know each other", Duration::from_secs(20), || same(&lab));
    let closed = lab.hosts.run("lb1", "ss", &["-K", "dst", "10.79.0.2", "dport", "=", "9694"]);
    assert!(closed.out.contains("10.79.0.2"), "{}{}", closed.out, closed.err);
    eventually("the link breaks", Duration::from_secs(20), || {
        lab.log(0).matches("the link to the peer is up").count() > 1
    });
    assert_eq!(lab.log(1).matches("the link to the peer is up").count(), 1, "{}", lab.log(1));
    eventually("both know each other again", Duration::from_secs(20), || same(&lab));
    let text =
        std::fs::read_to_string(lab.config_file(0)).unwrap().replace("name = \"web\"", "name = \"shop\"");
    let file = lab.place.write("edit.toml", text).display().to_string();
    assert_eq!(lab.json(0, &["commit", &file])["peer"], "committed");
}

/// An invitation is older than the moment it is used: commits and new keys came in between, and the node that joins
/// may still have the link of before.
#[test]
fn a_node_that_joins_by_an_older_code_brings_nothing_back() {
    let Some(mut lab) = lab("pair-join-late") else { return };
    lab.start_pair("", &web());
    let text = |lab: &PairLab, node: usize| std::fs::read_to_string(lab.config_file(node)).unwrap();
    let commit = |lab: &PairLab, name: &str| {
        let more = service(name, "10.77.0.104:8088", "http", "health-check = { type = \"none\" }", FRONT);
        let file = lab.place.write("more.toml", lab.config(0, "", &(web() + &more))).display().to_string();
        assert_eq!(lab.json(0, &["commit", &file])["peer"], "committed", "{name}");
        assert!((0..2).all(|node| text(lab, node).contains(&format!("\"{name}\""))), "{name}");
    };
    for loses_its_key in [true, false] {
        if loses_its_key {
            lab.nodes[1].take().unwrap().signal(Signal::KILL);
            std::fs::remove_file(lab.folder(1).join("state/pair/key")).unwrap();
            lab.start(1);
        }
        eventually("the link is there", Duration::from_secs(15), || {
            let link = &lab.json(0, &["pair", "status"])["link"];
            link["connected"] == true && link["configuration"] == "same"
        });
        let code = lab.json(0, &["pair", "invite"])["code"].as_str().unwrap().to_owned();
        commit(&lab, "one");
        commit(&lab, "two");
        if !loses_its_key {
            assert_eq!(lab.cli(0, &["pair", "rotate-key"]).code, 0);
            eventually("it has a new key", Duration::from_secs(5), || lab.log(0).contains("a new key"));
        }
        let joined = lab.cli(1, &["pair", "join", &code]);
        assert_eq!(joined.code, 0, "{}{}", joined.out, joined.err);
        assert!(text(&lab, 1).contains("\"two\""), "what was committed on both since stays");
        commit(&lab, "three");
        lab.await_role(1, "passive");
        let keys = [0, 1].map(|node| std::fs::read(lab.folder(node).join("state/pair/key")).unwrap());
        assert_eq!(keys[0], keys[1]);
        let status = lab.json(1, &["pair", "status"]);
        assert_eq!((&status["peer"]["heard"], &status["held"]), (&true.into(), &false.into()), "{status}");
        assert_eq!(lab.role(0), "active");
    }
}
