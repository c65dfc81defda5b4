//! Faults of a pair that are not seen by the silence of every path.

use std::time::Duration;

use evenkeel_testbed::eventually;
use evenkeel_testbed::pair::NEW_CONNECTIONS;
use rustix::process::Signal;

use crate::layer4::service;
use crate::pair::{FRONT, lab};

fn web() -> String {
    service("web", "10.77.0.100:80", "http", "health-check = { type = \"tcp\", interval = \"1s\" }", FRONT)
}

/// Drops what comes to an interface of a host, or lets it pass again; its carrier stays.
fn deafen(lab: &evenkeel_testbed::pair::PairLab, host: &str, interface: &str, deaf: bool) {
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
        let cut = |lab: &evenkeel_testbed::pair::PairLab, on: bool| match (how, on) {
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
    let changes = |lab: &evenkeel_testbed::pair::PairLab| {
        (0..2).map(|node| lab.log(node).matches("role changed").count()).sum::<usize>()
    };
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
    let has = |lab: &evenkeel_testbed::pair::PairLab, node| lab.has(node, "10.77.0.100");
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
