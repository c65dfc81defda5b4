//! Two nodes with floating addresses, seen by clients that count everything.

use std::time::Duration;

use evenkeel_testbed::pair::{KEPT_CONNECTIONS, NEW_CONNECTIONS, PairLab};
use evenkeel_testbed::{eventually, require};
use rustix::process::Signal;

use crate::layer4::service;

const PROGRAMS: &[&str] = &["ip", "curl", "nginx", "ethtool", "node", "chrt"];

pub fn lab(test: &str) -> Option<PairLab> {
    if !require(PROGRAMS) {
        return None;
    }
    PairLab::new(test, env!("CARGO_BIN_EXE_evenkeel"))
}

pub const FRONT: &[(&str, &str)] = &[("s1", "10.77.0.11:80"), ("s2", "10.77.0.12:80")];
pub const BACK: &[(&str, &str)] = &[("b1", "10.78.0.11:8080"), ("b2", "10.78.0.12:8080")];

/// A service of layer 7, and one of each mode of layer 4 that needs no helper on the servers.
fn shared() -> String {
    let web = "persistence = { type = \"source\" }\nhealth-check = { type = \"tcp\", interval = \"1s\" }";
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    [
        "[network]\nfloating-ips = [\"10.78.0.254/24\", \"10.77.0.150/24\"]\n".to_owned(),
        service("web", "10.77.0.100:80", "http", web, FRONT),
        service("web6", "[fd77::100]:80", "http", check, FRONT),
        service("nat", "10.77.0.101:80", "nat", check, BACK),
        service(
            "snat",
            "10.77.0.102:80",
            "snat",
            &format!("scheduler = \"least-connections\"\nsource-addresses = [\"10.77.0.150\"]\n{check}"),
            FRONT,
        ),
        service("dr", "10.77.0.103:80", "dr", check, &[("s1", "10.77.0.11"), ("s2", "10.77.0.12")]),
    ]
    .concat()
}

fn only(lab: &PairLab, node: usize) {
    for address in ["10.77.0.100", "10.77.0.101", "10.78.0.254", "fd77::100"] {
        eventually(&format!("{address} is on one node"), Duration::from_secs(5), || {
            lab.has(node, address) && !lab.has(1 - node, address)
        });
    }
}

#[test]
fn connections_of_layer_4_outlive_their_node() {
    let Some(mut lab) = lab("pair-flows") else { return };
    const SCHEDULERS: [&str; 9] = [
        "round-robin",
        "least-connections",
        "shortest-expected-delay",
        "never-queue",
        "source-hash",
        "destination-hash",
        "maglev",
        "random",
        "first",
    ];
    const EACH: usize = 6;
    let real: [(&str, &[(&str, &str)]); 4] = [
        ("nat", BACK),
        ("snat", FRONT),
        ("dr", &[("s1", "10.77.0.11"), ("s2", "10.77.0.12")]),
        ("tun", &[("s1", "10.77.0.11"), ("s2", "10.77.0.12")]),
    ];
    let mut text = "[network]\nfloating-ips = [\"10.78.0.254/24\", \"10.77.0.150/24\"]\n".to_owned();
    let mut vips: Vec<(&str, Vec<String>)> = Vec::new();
    for (number, (mode, servers)) in real.iter().enumerate() {
        let of_mode: Vec<String> =
            (0..SCHEDULERS.len()).map(|s| format!("10.77.0.{}", 160 + 20 * number + s)).collect();
        for (scheduler, vip) in SCHEDULERS.iter().zip(&of_mode) {
            let from = if *mode == "snat" { "source-addresses = [\"10.77.0.150\"]\n" } else { "" };
            let check = "health-check = { type = \"tcp\", port = 8080, interval = \"1s\" }";
            let keys = format!("scheduler = \"{scheduler}\"\n{from}{check}");
            text += &service(&format!("{mode}-{scheduler}"), &format!("{vip}:80"), mode, &keys, servers);
        }
        vips.push((mode, of_mode));
    }
    for (mode, of_mode) in &vips[2..] {
        let addresses: Vec<&str> = of_mode.iter().flat_map(|vip| ["--vip", vip]).collect();
        for server in ["s1", "s2"] {
            let arguments = [&["real-server", "setup", "--mode", mode][..], &addresses].concat();
            let done = lab.hosts.run(server, env!("CARGO_BIN_EXE_evenkeel"), &arguments);
            assert_eq!(done.code, 0, "{}{}", done.out, done.err);
        }
    }
    let all_on = |lab: &PairLab, node: usize| {
        for vip in ["10.78.0.254", "10.77.0.150"].into_iter().chain(vips.iter().map(|v| v.1[0].as_str())) {
            eventually(&format!("{vip} is on one node"), Duration::from_secs(5), || {
                lab.has(node, vip) && !lab.has(1 - node, vip)
            });
        }
    };
    lab.start_pair("", &text);
    all_on(&lab, 0);
    let count = EACH * SCHEDULERS.len();
    let kept: Vec<_> = vips
        .iter()
        .map(|(_, hosts)| {
            lab.traffic("c", KEPT_CONNECTIONS, &[&hosts.join(","), "80", &count.to_string(), "250"])
        })
        .collect();
    std::thread::sleep(Duration::from_secs(3));
    let known = lab.json(1, &["status"])["layer-4"]["flows"].as_u64();
    // First an orderly change, then a death without a word.
    let switched = lab.json(0, &["pair", "switch-over"]);
    assert_eq!(switched["active"], "peer", "{switched} {known:?}");
    lab.await_role(1, "active");
    all_on(&lab, 1);
    std::thread::sleep(Duration::from_secs(2));
    lab.nodes[1].take().unwrap().signal(Signal::KILL);
    lab.await_role(0, "active");
    all_on(&lab, 0);
    std::thread::sleep(Duration::from_secs(3));
    for ((mode, hosts), kept) in vips.iter().zip(kept) {
        let seen = kept.end();
        assert_eq!(
            (&seen["opened"], &seen["ended"], &seen["hung"]),
            (&count.into(), &0.into(), &0.into()),
            "{mode} {hosts:?} {SCHEDULERS:?}: {seen}"
        );
        assert!(seen["requests"].as_u64() > Some(800), "{mode}: {seen}");
    }
}

#[test]
fn the_standby_hears_of_flows_after_the_active_process_is_replaced() {
    let Some(mut lab) = lab("pair-usr2") else { return };
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    let text = "[network]\nfloating-ips = [\"10.78.0.254/24\"]\n".to_owned()
        + &service("nat", "10.77.0.101:80", "nat", check, BACK);
    lab.start_pair("", &text);
    eventually("the VIP is on the first node", Duration::from_secs(10), || lab.has(0, "10.77.0.101"));
    let flows = |lab: &PairLab, node| lab.json(node, &["status"])["layer-4"]["flows"].as_u64().unwrap_or(0);
    lab.nodes[0].as_ref().unwrap().signal(Signal::USR2);
    eventually("the successor runs", Duration::from_secs(20), || lab.log(0).matches(" running").count() > 1);
    // It takes the role over a moment after it runs; the peer never has it.
    lab.await_role(0, "active");
    assert_eq!(lab.role(1), "passive", "{}", lab.log(1));
    let kept = lab.traffic("c", KEPT_CONNECTIONS, &["10.77.0.101", "80", "40", "250"]);
    eventually("the standby knows them", Duration::from_secs(15), || flows(&lab, 1) >= 40);
    kept.end();
    let log = lab.log(0);
    let pid = log.split("process=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let pid = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)).expect("its number");
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn a_dead_a_frozen_and_a_cut_off_node_are_replaced_at_once() {
    let Some(mut lab) = lab("pair-failover") else { return };
    // Here connections end with the role.
    lab.start_pair("switch-over-drain = \"0s\"", &shared());
    let new = |lab: &PairLab, vip: &str| lab.traffic("c", NEW_CONNECTIONS, &[vip, "80", "10"]);
    let gap = |seen: &serde_json::Value| seen["gap_ms"].as_u64().unwrap_or(u64::MAX);

    // An orderly change: no request fails.
    let client = new(&lab, "10.77.0.100");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lab.cli(0, &["pair", "switch-over"]).code, 0);
    std::thread::sleep(Duration::from_secs(2));
    let seen = client.end();
    assert!(gap(&seen) < 1_000, "{seen}");
    only(&lab, 1);

    // SIGKILL: the guard takes the addresses away, the peer has them.
    let client = new(&lab, "10.77.0.100");
    std::thread::sleep(Duration::from_secs(1));
    lab.nodes[1].take().unwrap().signal(Signal::KILL);
    lab.await_role(0, "active");
    only(&lab, 0);
    std::thread::sleep(Duration::from_secs(2));
    let seen = client.end();
    assert!(gap(&seen) < 2_000, "{seen}");

    // A node that comes back joins passive and disturbs nothing.
    lab.start(1);
    lab.await_role(1, "passive");
    only(&lab, 0);

    // Connections of layer 7 cannot live on, but none hangs: even an idle one ends.
    let idle = lab.traffic("c", KEPT_CONNECTIONS, &["10.77.0.100", "80", "60", "60000"]);
    let busy = lab.traffic("c", KEPT_CONNECTIONS, &["fd77::100", "80", "60", "100"]);
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(lab.cli(0, &["pair", "switch-over"]).code, 0);
    std::thread::sleep(Duration::from_millis(1_500));
    for (what, kept) in [("idle", idle), ("busy", busy)] {
        let seen = kept.end();
        assert_eq!((&seen["opened"], &seen["ended"]), (&60.into(), &60.into()), "{what}: {seen}");
    }
    assert_eq!(lab.cli(1, &["pair", "switch-over"]).code, 0);
    lab.await_role(0, "active");

    // SIGSTOP: the same, and when it wakes up it knows its place.
    lab.nodes[0].as_ref().unwrap().signal(Signal::STOP);
    only(&lab, 1);
    lab.nodes[0].as_ref().unwrap().signal(Signal::CONT);
    lab.await_role(0, "passive");
    only(&lab, 1);
    assert!(lab.log(0).contains("this node stood still for"), "{}", lab.log(0));

    // The cable of the active node: the other one is fitter.
    lab.hosts.ip("switch", &["link", "set", "lb20", "down"]);
    lab.await_role(0, "active");
    eventually("it is told why", Duration::from_secs(10), || lab.log(1).contains("e0 is down"));
    lab.hosts.ip("switch", &["link", "set", "lb20", "up"]);
    only(&lab, 0);

    // All paths at once: both are active until they hear each other, then one of them, always the
    // same.
    lab.hosts.ip("switch", &["link", "set", "lb20", "down"]);
    lab.hosts.ip("switch", &["link", "set", "lb22", "down"]);
    lab.await_role(1, "active");
    lab.hosts.ip("switch", &["link", "set", "lb22", "up"]);
    lab.hosts.ip("switch", &["link", "set", "lb20", "up"]);
    // A machine that stood still just then makes it the other one.
    if lab.log(1).contains("this node stood still for") {
        eventually("one of them is active", Duration::from_secs(10), || lab.role(0) != lab.role(1));
        if lab.role(1) == "active" {
            assert_eq!(lab.cli(1, &["pair", "switch-over"]).code, 0);
        }
    }
    lab.await_role(1, "passive");
    only(&lab, 0);
    assert!((lab.log(0) + &lab.log(1)).contains("split brain"), "{}{}", lab.log(0), lab.log(1));

    // People are told of it.
    let events = lab.cli(0, &["events"]).out + &lab.cli(1, &["events"]).out;
    for told in ["lb1 is active", "both nodes of the pair are active", "lb2 does not hear its peer"] {
        assert!(events.contains(told), "{told}: {events}");
    }

    // SIGTERM hands over without waiting for silence; SIGUSR2 changes nothing for the peer.
    lab.nodes[0].as_ref().unwrap().signal(Signal::USR2);
    eventually("the successor runs", Duration::from_secs(20), || lab.log(0).matches("running").count() > 1);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((lab.role(0), lab.role(1)), ("active".into(), "passive".into()), "{}", lab.log(0));
    assert!(!lab.log(1).rsplit("split brain is over").next().unwrap().contains("silent"), "{}", lab.log(1));
    let successor = lab.json(0, &["status"]);
    assert_eq!(successor["node"]["role"], "active");
    lab.nodes[0].take().unwrap().kill();
    // The successor is nobody's child here: it would go on for ever.
    let log = lab.log(0);
    let pid = log.split("process=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let pid = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)).expect("its number");
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// Clients that wait for an answer and connect again when they hear that their connection is over: `HOST
/// PORT COUNT`. Says the longest time in which one of them heard nothing at all.
const WAITING_CLIENTS: &str = r#"
const net = require('net'), fs = require('fs');
const [out, host, port, count] = process.argv.slice(2);
const ms = () => Number(process.hrtime.bigint()) / 1e6;
const silent = new Map();
let opened = 0, reset = 0, longest = 0, heard = 0;
function one(id) {
  const s = net.connect({ host, port: +port });
  s.on('connect', () => { opened++; s.write('GET /drip HTTP/1.1\r\nHost: x\r\n\r\n'); });
  s.on('data', () => { heard++; note(id); });
  s.on('error', e => { if (e.code === 'ECONNRESET') reset++; });
  s.on('close', () => { note(id); setTimeout(one, 20, id); });
}
function note(id) { look(id); silent.set(id, ms()); }
function look(id) { longest = Math.max(longest, ms() - (silent.get(id) || ms())); }
for (let i = 0; i < +count; i++) { silent.set(i, ms()); one(i); }
process.on('SIGTERM', () => {
  for (const id of silent.keys()) look(id);
  fs.writeFileSync(out, JSON.stringify({ opened, reset, heard, longest_ms: Math.round(longest) }));
  process.exit(0);
});
"#;

/// The machine lives, the daemon does not: nobody waits for it until a time-out of their own.
#[test]
fn clients_of_a_killed_and_of_a_frozen_daemon_hear_of_it() {
    let Some(mut lab) = lab("pair-waiting") else { return };
    lab.start_pair("", &shared());
    only(&lab, 0);
    for (signal, node) in [(Signal::STOP, 0), (Signal::KILL, 1)] {
        let clients = lab.traffic("c", WAITING_CLIENTS, &["10.77.0.100", "80", "128"]);
        std::thread::sleep(Duration::from_millis(1_500));
        lab.nodes[node].as_ref().unwrap().signal(signal);
        lab.await_role(1 - node, "active");
        std::thread::sleep(Duration::from_secs(5));
        let seen = clients.end();
        eprintln!("{signal:?}: {seen}");
        assert!(seen["opened"].as_u64().unwrap() >= 100, "they connect again: {seen}");
        assert!(seen["longest_ms"].as_u64().unwrap() < 3_500, "{signal:?}: {seen}");
        if signal == Signal::STOP {
            lab.nodes[node].as_ref().unwrap().signal(Signal::CONT);
            lab.await_role(node, "passive");
        }
    }
}

#[test]
fn either_node_edits_and_both_have_it() {
    let Some(mut lab) = lab("pair-edits") else { return };
    lab.start_pair("", &shared());
    let edit = |lab: &PairLab, node: usize, from: &str, to: &str| {
        let text = std::fs::read_to_string(lab.config_file(node)).unwrap();
        assert!(text.contains(from), "{text}");
        let file = lab.place.write(&format!("edit{node}.toml"), text.replace(from, to));
        file.display().to_string()
    };
    let text = |lab: &PairLab, node: usize| std::fs::read_to_string(lab.config_file(node)).unwrap();

    // People and tokens are the pair's.
    assert_eq!(lab.cli(1, &["token", "add", "of-both"]).code, 0);
    eventually("the other node knows the token", Duration::from_secs(10), || {
        lab.cli(0, &["token", "list"]).out.contains("of-both")
    });

    // On the passive node; the active one has it too, and keeps its own part.
    let file = edit(&lab, 1, "name = \"web\"", "name = \"shop\" # renamed");
    let committed = lab.json(1, &["commit", &file]);
    assert_eq!(committed["peer"], "committed", "{committed}");
    assert!(text(&lab, 0).contains("# renamed") && text(&lab, 0).contains("name = \"lb1\""));
    assert!(lab.cli(0, &["status"]).out.contains("shop"));

    // What one node refuses is on none.
    let file = edit(&lab, 0, "10.77.0.101:80", "10.77.0.100:80");
    let refused = lab.cli(0, &["commit", &file]);
    assert_ne!(refused.code, 0);
    assert!(text(&lab, 0).contains("10.77.0.101:80") && text(&lab, 1).contains("10.77.0.101:80"));

    // Both edit at once: one is told why not, and both have the same.
    let files = [edit(&lab, 0, "renamed", "by one"), edit(&lab, 1, "renamed", "by two")];
    let outputs = std::thread::scope(|scope| {
        let lab = &lab;
        let handles = [0, 1].map(|node| {
            let file = &files[node];
            scope.spawn(move || lab.cli(node, &["commit", file]))
        });
        handles.map(|h| h.join().unwrap())
    });
    let same = |lab: &PairLab| text(lab, 0).contains("# by one") == text(lab, 1).contains("# by one");
    eventually("both have the same", Duration::from_secs(5), || same(&lab));
    let failed: Vec<_> = outputs.iter().filter(|o| o.code != 0).collect();
    assert!(
        failed.iter().all(|o| o.err.contains("same revision")
            || o.err.contains("under way")
            || o.err.contains("was made for revision")
            || o.err.contains("does not know")),
        "{outputs:?}"
    );

    // Live changes and persistence are on both.
    assert_eq!(lab.cli(0, &["weight", "shop/s1", "7"]).code, 0);
    assert_eq!(lab.cli(1, &["drain", "nat/b1"]).code, 0);
    eventually("weights and states are on both", Duration::from_secs(5), || {
        (0..2).all(|node| {
            let status = lab.json(node, &["status"]).to_string();
            status.contains("\"weight\":7") && status.contains("draining")
        })
    });
    let answer = lab.hosts.run("c", "curl", &["-sS", "--max-time", "3", "http://10.77.0.100/"]);
    let server = answer.out.split(' ').next().unwrap().to_owned();
    eventually("the client is known on both", Duration::from_secs(5), || {
        lab.cli(1, &["persistence", "list", "shop"]).out.contains(&format!("10.77.0.9  {server}"))
    });
    assert_eq!(lab.cli(1, &["persistence", "clear", "shop"]).code, 0);
    eventually("it is forgotten on both", Duration::from_secs(5), || {
        !lab.cli(0, &["persistence", "list", "shop"]).out.contains("10.77.0.9")
    });

    // A node that was away catches up; deleted entries do not return with it.
    let _ = lab.hosts.run("c", "curl", &["-sS", "--max-time", "3", "http://10.77.0.100/"]);
    eventually("the client is known again", Duration::from_secs(5), || {
        lab.cli(1, &["persistence", "list", "shop"]).out.contains("10.77.0.9")
    });
    std::thread::sleep(Duration::from_secs(1));
    lab.nodes[1].take().unwrap().signal(Signal::KILL);
    eventually("the link is down", Duration::from_secs(10), || {
        lab.json(0, &["pair", "status"])["link"]["connected"] == false
    });
    assert_eq!(lab.cli(0, &["persistence", "clear", "shop"]).code, 0);
    let file = edit(&lab, 0, "name = \"shop\"", "name = \"market\"");
    let committed = lab.json(0, &["commit", &file]);
    assert!(committed["peer"].as_str().unwrap_or("").contains("not reachable"), "{committed}");
    lab.start(1);
    eventually("the node that was away has caught up", Duration::from_secs(10), || {
        text(&lab, 1).contains("market") || lab.log(1).contains("cannot be taken")
    });
    assert!(text(&lab, 1).contains("market"), "{}", lab.log(1));
    assert!(!lab.cli(1, &["persistence", "list", "market"]).out.contains("10.77.0.9"));

    // Going back while it is away is a step forward: it follows there, too.
    lab.nodes[1].take().unwrap().signal(Signal::KILL);
    eventually("the link is down", Duration::from_secs(10), || {
        lab.json(0, &["pair", "status"])["link"]["connected"] == false
    });
    assert_eq!(lab.cli(0, &["rollback"]).code, 0);
    assert!(text(&lab, 0).contains("name = \"shop\""));
    lab.start(1);
    eventually("it has gone back too", Duration::from_secs(10), || text(&lab, 1).contains("name = \"shop\""));
    std::thread::sleep(Duration::from_secs(1));
    for node in 0..2 {
        let said = lab.json(node, &["pair", "status"]);
        assert_eq!(said["link"]["configuration"], "same", "{said}");
        assert!(text(&lab, node).contains("name = \"shop\""), "{}", lab.log(node));
    }
    let back = lab.json(1, &["rollback"]);
    assert_eq!(back["peer"], "committed", "{back}");
    assert!(text(&lab, 0).contains("name = \"market\"") && text(&lab, 1).contains("name = \"market\""));

    // Tables outlive the death of both.
    let _ = lab.hosts.run("c", "curl", &["-sS", "--max-time", "3", "http://10.77.0.100/"]);
    eventually("the client is known", Duration::from_secs(5), || {
        (0..2).all(|node| lab.cli(node, &["persistence", "list", "market"]).out.contains("10.77.0.9"))
    });
    std::thread::sleep(Duration::from_millis(1_200));
    for node in 0..2 {
        lab.nodes[node].take().unwrap().signal(Signal::KILL);
    }
    lab.start(0);
    assert!(lab.cli(0, &["persistence", "list", "market"]).out.contains("10.77.0.9"), "{}", lab.log(0));
}

/// What the other node's machine has not is found before anything is changed.
#[test]
fn a_commit_that_the_other_machine_cannot_run_changes_nothing() {
    let Some(mut lab) = lab("pair-prepare") else { return };
    lab.start_pair("", &shared());
    let text = |lab: &PairLab, node: usize| std::fs::read_to_string(lab.config_file(node)).unwrap();
    let before = [text(&lab, 0), text(&lab, 1)];
    let with = |keys: &str| {
        let keys = format!("health-check = {{ type = \"none\" }}\n{keys}");
        service("more", "10.77.0.104:8088", "http", &keys, FRONT)
    };
    let refused = |lab: &PairLab, more: &str, reason: &str| {
        let file = lab.place.write("more.toml", before[0].clone() + more).display().to_string();
        let answer = lab.cli(0, &["commit", &file]);
        assert_ne!(answer.code, 0, "{answer:?}");
        assert!(answer.err.contains("the other node refuses") && answer.err.contains(reason), "{answer:?}");
        assert!((0..2).all(|node| text(lab, node) == before[node]), "nothing is changed");
        assert!(!lab.cli(0, &["status"]).out.contains("more"));
        let said = lab.json(0, &["pair", "status"]);
        assert_eq!(said["link"]["configuration"], "same", "{said}");
    };
    refused(&lab, &with("tls = { certificates = [\"/nowhere/more.pem\"] }"), "more.pem");
    let mut taken = lab.hosts.nginx(&lab.place, "lb2", &[8088]);
    eventually("the port is taken", Duration::from_secs(10), || {
        lab.hosts.run("lb2", "curl", &["-s", "http://127.0.0.1:8088/"]).code == 0
    });
    refused(&lab, &with(""), "8088");

    // While the other node is away the commit is made; it follows when it can.
    lab.nodes[1].take().unwrap().signal(Signal::KILL);
    eventually("the link is down", Duration::from_secs(10), || {
        lab.json(0, &["pair", "status"])["link"]["connected"] == false
    });
    let file = lab.place.write("more.toml", before[0].clone() + &with("")).display().to_string();
    let committed = lab.json(0, &["commit", &file]);
    assert!(committed["peer"].as_str().unwrap_or("").contains("not reachable"), "{committed}");
    lab.start(1);
    eventually("it says why it does not follow", Duration::from_secs(15), || {
        let said = lab.json(1, &["pair", "status"])["link"]["configuration"].to_string();
        said.contains("cannot use what it has") && said.contains("8088")
    });
    taken.signal(Signal::TERM);
    let _ = taken.wait();
    eventually("it follows when it can", Duration::from_secs(30), || text(&lab, 1).contains("\"more\""));

    // Who edited an older revision is shown what changed meanwhile.
    let revision = committed["revision"].as_u64().unwrap();
    let lost = lab.cli(0, &["commit", &file, "--base", &(revision - 1).to_string()]);
    assert_ne!(lost.code, 0, "{lost:?}");
    assert!(lost.err.contains("+ name = \"more\"") && lost.err.contains("evenkeel diff"), "{lost:?}");
}

#[test]
fn an_unconfirmed_commit_goes_with_the_node_that_made_it() {
    let Some(mut lab) = lab("pair-unconfirmed") else { return };
    lab.start_pair("", &shared());
    only(&lab, 0);
    let text = std::fs::read_to_string(lab.config_file(0)).unwrap();
    let file = lab.place.write("edit.toml", text.replace("name = \"web\"", "name = \"shop\""));
    let committed = lab.json(0, &["commit", &file.display().to_string(), "--confirm", "4s"]);
    assert_eq!(committed["peer"], "committed", "{committed}");
    let has = |lab: &PairLab, word: &str| {
        std::fs::read_to_string(lab.config_file(1)).unwrap().contains(&format!("name = \"{word}\""))
    };
    assert!(has(&lab, "shop") && !has(&lab, "web"));
    // Somebody else has one of the addresses: the takeover waits a moment, and says so.
    lab.hosts.ip("d", &["address", "add", "fd77::100/128", "dev", "e0", "nodad"]);
    // Nothing is heard of it any more, not even that it has died.
    let cables = |state: &str| {
        for cable in ["lb10", "lb11", "lb12"] {
            lab.hosts.ip("switch", &["link", "set", cable, state]);
        }
    };
    cables("down");
    if let Some(daemon) = &lab.nodes[0] {
        daemon.signal(Signal::KILL);
    }
    eventually("the conflict is in the log", Duration::from_secs(10), || {
        let log = lab.log(1);
        log.contains("the takeover waits a moment") && log.contains("fd77::100")
    });
    lab.hosts.ip("d", &["address", "del", "fd77::100/128", "dev", "e0"]);
    lab.await_role(1, "active");
    only(&lab, 1);
    eventually("the survivor goes back", Duration::from_secs(12), || has(&lab, "web") && !has(&lab, "shop"));
    assert!(lab.log(1).contains("nobody has confirmed the configuration"), "{}", lab.log(1));
    let answer = lab.hosts.run("c", "curl", &["-sS", "--max-time", "3", "http://10.77.0.100/"]);
    assert!(answer.out.starts_with('s'), "{}{}", answer.out, answer.err);
    // The node that comes back follows.
    cables("up");
    lab.start(0);
    eventually("the other one has it too", Duration::from_secs(10), || {
        std::fs::read_to_string(lab.config_file(0)).unwrap().contains("name = \"web\"")
    });
}

/// One node after the other gets a newer program, and the pair works all the time. Run with
/// `EVENKEEL_OLD=/path/to/an/older/evenkeel cargo test --test e2e -- --ignored an_older_version`.
#[test]
#[ignore = "needs an older build: EVENKEEL_OLD"]
fn an_older_version_is_a_peer() {
    let old = std::env::var("EVENKEEL_OLD").expect("the older program");
    let Some(mut lab) = lab("pair-versions") else { return };
    let new = std::mem::replace(&mut lab.program, old);
    lab.start_pair("", &shared());
    only(&lab, 0);
    let edit = |lab: &PairLab, node: usize, from: &str, to: &str| {
        let text = std::fs::read_to_string(lab.config_file(node)).unwrap().replace(from, to);
        let file = lab.place.write("edit.toml", text).display().to_string();
        lab.json(node, &["commit", &file])["peer"].clone()
    };
    let has = |lab: &PairLab, word: &str| {
        (0..2).all(|node| std::fs::read_to_string(lab.config_file(node)).unwrap().contains(word))
    };
    assert_eq!(edit(&lab, 0, "name = \"web\"", "name = \"one\""), "committed");
    // The passive node first.
    let client = lab.traffic("c", NEW_CONNECTIONS, &["10.77.0.100", "80", "20"]);
    lab.nodes[1].take().unwrap().signal(Signal::TERM);
    assert!(edit(&lab, 0, "name = \"one\"", "name = \"two\"").as_str().unwrap().contains("not reachable"));
    lab.program = new;
    lab.start(1);
    eventually("the newer node has caught up", Duration::from_secs(10), || has(&lab, "name = \"two\""));
    assert_eq!(edit(&lab, 0, "name = \"two\"", "name = \"three\""), "committed");
    assert_eq!(edit(&lab, 1, "name = \"three\"", "name = \"four\""), "committed");
    assert!(has(&lab, "name = \"four\""));
    for node in 0..2 {
        assert_eq!(lab.json(node, &["pair", "status"])["link"]["configuration"], "same");
    }
    // It takes over, and the older one is brought up to date when it was away.
    assert_eq!(lab.cli(0, &["pair", "switch-over"]).code, 0);
    lab.await_role(1, "active");
    only(&lab, 1);
    let seen = client.end();
    assert!(seen["gap_ms"].as_u64() < Some(1_000), "{seen}");
    lab.nodes[0].take().unwrap().signal(Signal::TERM);
    assert!(edit(&lab, 1, "name = \"four\"", "name = \"five\"").as_str().unwrap().contains("not reachable"));
    let new = std::mem::replace(&mut lab.program, std::env::var("EVENKEEL_OLD").unwrap());
    lab.start(0);
    eventually("the older node has caught up", Duration::from_secs(10), || has(&lab, "name = \"five\""));
    // Then the other one.
    lab.nodes[0].take().unwrap().signal(Signal::TERM);
    lab.program = new;
    lab.start(0);
    eventually("both are in step", Duration::from_secs(10), || {
        (0..2).all(|node| lab.json(node, &["pair", "status"])["link"]["configuration"] == "same")
    });
    assert_eq!(edit(&lab, 0, "name = \"five\"", "name = \"six\""), "committed");
    assert!(has(&lab, "name = \"six\""));
}

/// Messages that anybody could send change nothing.
#[test]
fn forged_adverts_change_nothing() {
    let Some(mut lab) = lab("pair-forged") else { return };
    if !require(&["keepalived"]) {
        return;
    }
    lab.start_pair("", &shared());
    let config = "global_defs {\n vrrp_version 3\n vrrp_garp_master_delay 60\n}\nvrrp_instance A {\n state MASTER\n interface e0\n virtual_router_id 51\n priority 255\n advert_int 0.05\n virtual_ipaddress { 10.77.0.240/32 dev e0 }\n}\n";
    let file = lab.place.write("forger.conf", config).display().to_string();
    let log = lab.place.file("forger.log");
    let pid = lab.place.file("forger.pid").display().to_string();
    let client = lab.traffic("c", NEW_CONNECTIONS, &["10.77.0.100", "80", "10"]);
    // Adverts without a fault: those of an Evenkeel that has no peer.
    let folder = lab.place.folder().join("other").display().to_string();
    let text = format!(
        "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n[pair]\nname = \"other\"\n[[pair.vrrp]]\ninterface = \"e0\"\nrouter-id = 51\npriority = 254\ninterval = \"20ms\"\n"
    );
    let other = lab.place.write("other.toml", text).display().to_string();
    let other_log = lab.place.file("other.log");
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let _other = lab.hosts.start("d", program, &["run", "--config", &other], &other_log);
    let forger = lab.hosts.start(
        "d",
        "keepalived",
        &["-n", "-l", "-f", &file, "-p", &pid, "-r", &format!("{pid}.v")],
        &log,
    );
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((lab.role(0), lab.role(1)), ("active".into(), "passive".into()));
    let refused = lab.json(0, &["pair", "status"])["refused"].clone();
    assert!(
        refused["VRRP without a seal"].as_u64() > Some(10),
        "{refused} {}",
        std::fs::read_to_string(&log).unwrap()
    );
    drop(forger);
    let seen = client.end();
    assert_eq!(seen["failed"], 0, "{seen}");
    only(&lab, 0);
}

#[test]
fn a_real_keepalived_is_a_peer_in_both_directions() {
    let Some(mut lab) = lab("pair-keepalived") else { return };
    if !require(&["keepalived"]) {
        return;
    }
    let folder = lab.folder(0).display().to_string();
    // The last rounds with a password: the same, and another, with which each is deaf to the other.
    let text = |version: u8, interval: &str, password: &str| {
        let version = format!("{version}\n{password}");
        format!(
            "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n[pair]\nname = \"lb1\"\nfailback = true\n[[pair.vrrp]]\ninterface = \"e0\"\nrouter-id = 51\npriority = 150\nversion = {version}\ninterval = \"{interval}\"\n[[pair.vrrp]]\ninterface = \"e1\"\nrouter-id = 52\npriority = 150\nversion = {version}\ninterval = \"{interval}\"\n{}",
            service("web", "10.77.0.100:80", "http", "", FRONT)
        )
    };
    let rounds =
        [(3, "100ms", "0.1", ""), (2, "1s", "1", ""), (2, "1s", "1", "s3cret"), (2, "1s", "1", "another")];
    for (version, interval, advert, password) in rounds {
        let (own, theirs) = match password {
            "" => (String::new(), String::new()),
            own => (
                format!("password = \"{own}\""),
                " authentication {\n  auth_type PASS\n  auth_pass s3cret\n }\n".to_owned(),
            ),
        };
        let instance = |name: &str, interface: &str, id: u8, address: &str| {
            format!(
                "vrrp_instance {name} {{\n state BACKUP\n interface {interface}\n virtual_router_id {id}\n priority 100\n advert_int {advert}\n{theirs} virtual_ipaddress {{ {address} }}\n}}\n"
            )
        };
        let config = format!(
            "global_defs {{\n vrrp_version {version}\n}}\nvrrp_sync_group G {{\n group {{\n  A\n  B\n }}\n}}\n{}{}",
            instance("A", "e0", 51, "10.77.0.100/32 dev e0"),
            instance("B", "e1", 52, "10.78.0.254/24 dev e1"),
        );
        let file = lab.place.write("keepalived.conf", config).display().to_string();
        let log = lab.place.file(&format!("keepalived{version}{password}.log"));
        let pid = lab.place.file(&format!("keepalived{version}{password}.pid")).display().to_string();
        let peer = lab.hosts.start(
            "lb2",
            "keepalived",
            &["-n", "-l", "-f", &file, "-p", &pid, "-r", &format!("{pid}.v")],
            &log,
        );
        eventually("keepalived alone is active", Duration::from_secs(15), || lab.has(1, "10.77.0.100"));
        // The higher priority takes over, and keepalived gives way.
        let wanted = text(version, interval, &own);
        lab.write(0, &wanted);
        lab.start(0);
        if password == "another" {
            eventually("each is deaf to the other", Duration::from_secs(15), || {
                lab.has(0, "10.77.0.100") && lab.has(1, "10.77.0.100")
            });
            let told = || lab.log(0).contains("another password of version 2");
            eventually("the log says why", Duration::from_secs(15), told);
            lab.nodes[0].take().unwrap().signal(Signal::TERM);
            continue;
        }
        eventually(
            &format!("evenkeel took over from keepalived, version {version}"),
            Duration::from_secs(15),
            || lab.has(0, "10.77.0.100") && !lab.has(1, "10.77.0.100"),
        );
        // One that gives up is followed at once, the whole group of it.
        lab.nodes[0].take().unwrap().signal(Signal::TERM);
        eventually("keepalived has it again", Duration::from_secs(15), || {
            !lab.has(0, "10.77.0.100") && lab.has(1, "10.77.0.100")
        });
        drop(peer);
        eventually("keepalived is gone", Duration::from_secs(10), || !lab.has(1, "10.77.0.100"));
    }
}

#[test]
fn keepalived_over_ipv6_and_to_one_address() {
    let Some(mut lab) = lab("pair-keepalived6") else { return };
    if !require(&["keepalived"]) {
        return;
    }
    let folder = lab.folder(0).display().to_string();
    for (number, (vip, ours, theirs)) in [
        ("fd77::100", "family = \"ipv6\"", ""),
        ("10.77.0.100", "unicast = [\"10.77.0.2\"]", "unicast_src_ip 10.77.0.2\n unicast_peer { 10.77.0.1 }"),
        (
            "fd77::100",
            "family = \"ipv6\"\nunicast = [\"fd77::2\"]",
            "unicast_src_ip fd77::2\n unicast_peer { fd77::1 }",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let prefix = if vip.contains(':') { 128 } else { 32 };
        let config = format!(
            "global_defs {{\n vrrp_version 3\n}}\nvrrp_instance A {{\n state BACKUP\n interface e0\n virtual_router_id 51\n priority 100\n advert_int 0.1\n {theirs}\n virtual_ipaddress {{ {vip}/{prefix} dev e0 }}\n}}\n"
        );
        let file = lab.place.write("keepalived.conf", config).display().to_string();
        let log = lab.place.file(&format!("keepalived{number}.log"));
        let pid = lab.place.file(&format!("keepalived{number}.pid")).display().to_string();
        let arguments = ["-n", "-l", "-D", "-f", &file, "-p", &pid, "-r", &format!("{pid}.v")];
        let peer = lab.hosts.start("lb2", "keepalived", &arguments, &log);
        eventually("keepalived alone is active", Duration::from_secs(15), || lab.has(1, vip));
        let shown = if vip.contains(':') { format!("[{vip}]:80") } else { format!("{vip}:80") };
        let node = format!(
            "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n[pair]\nname = \"lb1\"\nfailback = true\n[[pair.vrrp]]\ninterface = \"e0\"\nrouter-id = 51\npriority = 150\ninterval = \"100ms\"\n{ours}\n"
        );
        lab.write(0, &(node + &service("web", &shown, "http", "", FRONT)));
        lab.start(0);
        let told = || std::fs::read_to_string(&log).unwrap_or_default() + &lab.log(0);
        let mut last = String::new();
        for _ in 0..600 {
            last = format!("{} {}", lab.has(0, vip), lab.has(1, vip));
            if last == "true false" {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        assert_eq!(last, "true false", "evenkeel took over with {ours:?}\n{}", told());
        // It stays: keepalived hears the adverts and accepts them.
        std::thread::sleep(Duration::from_millis(1_500));
        assert!(lab.has(0, vip) && !lab.has(1, vip), "{ours:?}\n{}", told());
        lab.nodes[0].take().unwrap().signal(Signal::TERM);
        eventually("keepalived has it again", Duration::from_secs(15), || {
            !lab.has(0, vip) && lab.has(1, vip)
        });
        drop(peer);
        eventually("keepalived is gone", Duration::from_secs(10), || !lab.has(1, vip));
    }
}

/// Two ends of a serial line that are connected for as long as this lives.
fn serial_line() -> [(std::fs::File, String); 2] {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    [(), ()].map(|()| {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        (master.into(), name)
    })
}

#[test]
fn a_serial_line_is_a_path_when_all_else_is_cut() {
    use std::io::{Read, Write};
    let Some(mut lab) = lab("pair-serial") else { return };
    let ends = serial_line();
    for (from, to) in [(0, 1), (1, 0)] {
        let (mut from, mut to) = (ends[from].0.try_clone().unwrap(), ends[to].0.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            loop {
                match from.read(&mut buffer) {
                    Ok(n) if n > 0 => drop(to.write_all(&buffer[..n])),
                    // Nobody has it open at the moment.
                    _ => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
    }
    for (node, end) in ends.iter().enumerate() {
        let own = format!("serial = \"{}\"", end.1);
        lab.write(node, &lab.config(node, &own, &shared()));
        lab.start(node);
    }
    lab.join();
    let heard = |lab: &PairLab, word: &str| {
        let pair = lab.json(0, &["pair", "status"]);
        let paths = pair["paths"].as_array().cloned().unwrap_or_default();
        let path = paths.iter().find(|p| p["name"].as_str().unwrap_or("").starts_with(word)).cloned();
        path.and_then(|p| p["heard-ms-ago"].as_u64()).unwrap_or(u64::MAX)
    };
    eventually("the line is heard", Duration::from_secs(5), || heard(&lab, "serial") < 300);
    for end in ["lb12", "lb22", "lb10"] {
        lab.hosts.ip("switch", &["link", "set", end, "down"]);
    }
    eventually("only the line is heard", Duration::from_secs(5), || {
        heard(&lab, "link") > 1_000 && heard(&lab, "vrrp") > 1_000 && heard(&lab, "serial") < 300
    });
    // The active node's cable is out, and the line tells the other that it is fitter.
    lab.await_role(1, "active");
    lab.await_role(0, "passive");
    assert!(!lab.log(0).contains("split brain") && !lab.log(1).contains("split brain"));
}

#[test]
fn a_rehearsal_measures_what_it_does() {
    let Some(mut lab) = lab("pair-rehearsal") else { return };
    // A script is told of every change of role, as keepalived tells it.
    let script = format!("#!/bin/sh\necho \"$*\" >> {}$2\n", lab.place.file("told-").display());
    let script = lab.place.write("notify.sh", script);
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // It runs as nobody.
    for node in ["lb1", "lb2"] {
        let out = lab.place.write(&format!("told-{node}"), "");
        std::fs::set_permissions(out, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    }
    lab.start_pair(&format!("notify = \"{}\"", script.display()), &shared());
    let seen = lab.cli(0, &["pair", "rehearse", "--json"]);
    let seen: serde_json::Value = serde_json::from_str(&seen.out).unwrap_or_else(|_| panic!("{}", seen.err));
    assert!(seen["there-ms"].as_u64() < Some(2_000) && seen["back-ms"].as_u64() < Some(2_000), "{seen}");
    lab.await_role(0, "active");
    let told = |node: &str, line: &str| {
        let text = std::fs::read_to_string(lab.place.file(&format!("told-{node}"))).unwrap_or_default();
        text.lines().filter(|l| *l == line).count()
    };
    eventually("the script was told", Duration::from_secs(5), || {
        told("lb1", "INSTANCE lb1 MASTER 150") >= 2
            && told("lb1", "INSTANCE lb1 BACKUP 150") >= 1
            && told("lb2", "INSTANCE lb2 MASTER 100") == 1
            && told("lb2", "INSTANCE lb2 BACKUP 100") >= 1
    });
    assert_ne!(lab.cli(1, &["pair", "rehearse"]).code, 0);
    // A node that is held stays passive even when it is alone.
    assert_eq!(lab.cli(1, &["pair", "hold"]).code, 0);
    lab.nodes[1].take().unwrap().signal(Signal::KILL);
    lab.start(1);
    lab.nodes[0].take().unwrap().signal(Signal::KILL);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lab.role(1), "passive");
    assert_eq!(lab.cli(1, &["pair", "release"]).code, 0);
    lab.await_role(1, "active");
}

#[test]
fn a_witness_leaves_exactly_one_active() {
    let Some(mut lab) = lab("pair-witness") else { return };
    let folder = lab.place.folder().join("witness");
    std::fs::create_dir_all(&folder).unwrap();
    lab.start_pair("", &shared());
    std::fs::copy(lab.folder(0).join("state/pair/key"), folder.join("key")).unwrap();
    let log = lab.place.file("witness.log");
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let arguments = ["witness", "--listen", "10.77.0.8:9695", "--folder", &folder.display().to_string()];
    let _witness = lab.hosts.start("d", program, &arguments, &log);
    // It lends nothing before what a former life may have lent has ended.
    std::thread::sleep(Duration::from_millis(10_500));
    for node in 0..2 {
        lab.write(node, &lab.config(node, "witness = \"10.77.0.8:9695\"", &shared()));
        lab.nodes[node].as_ref().unwrap().signal(Signal::HUP);
    }
    eventually("the witness is heard", Duration::from_secs(5), || {
        lab.json(0, &["pair", "status"])["witness"]["heard-ms-ago"].is_u64()
    });
    lab.await_role(0, "active");
    // A process that is replaced goes on with what vouched for the one before: no role moves.
    lab.nodes[0].as_ref().unwrap().signal(Signal::USR2);
    eventually("the next process goes on", Duration::from_secs(20), || {
        lab.log(0).contains("the role of the process before is taken over")
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((lab.role(0), lab.role(1)), ("active".into(), "passive".into()), "{}", lab.log(0));
    assert!(!lab.log(1).contains("role=\"active\""), "{}", lab.log(1));
    // The nodes do not hear each other, and both reach the witness: the active one has the lease.
    for end in ["lb12", "lb22"] {
        lab.hosts.ip("switch", &["link", "set", end, "down"]);
    }
    let cut = |lab: &PairLab, how: &str| {
        let table = "table netdev cut { chain c { type filter hook ingress device e0 priority 0; ip saddr 10.77.0.1 ip protocol 112 drop; }; }";
        match how {
            "cut" => lab.hosts.run("lb2", "nft", &[table]),
            _ => lab.hosts.run("lb2", "nft", &["delete", "table", "netdev", "cut"]),
        }
    };
    let done = cut(&lab, "cut");
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((lab.role(0), lab.role(1)), ("active".into(), "passive".into()), "{}", lab.log(1));
    only(&lab, 0);
    // The active one is cut off from everybody: it gives up by itself, and the other one has it.
    lab.hosts.ip("switch", &["link", "set", "lb10", "down"]);
    lab.await_role(1, "active");
    lab.await_role(0, "passive");
    assert!(!lab.has(0, "10.77.0.100"));
}

#[test]
fn counts_tls_sessions_and_keys_are_the_pairs() {
    let Some(mut lab) = lab("pair-shares") else { return };
    if !require(&["openssl"]) {
        return;
    }
    let ca = evenkeel_testbed::Authority::new(&lab.place, "ca");
    let pem = ca.server(&lab.place, "a.pem", &["a.example"]).display().to_string();
    let tables = "[[table]]\nname = \"clients\"\nperiod = \"60s\"\n";
    let shared = [
        tables.to_owned(),
        service("web", "10.77.0.100:80", "http", "", FRONT),
        "[[virtual-service.route]]\nname = \"count\"\ntrack = \"clients\"\n".to_owned(),
        service(
            "secure",
            "10.77.0.100:443",
            "http",
            &format!("tls = {{ certificates = [\"{pem}\"] }}"),
            FRONT,
        ),
    ]
    .concat();
    lab.start_pair("", &shared);
    // Nodes hear each other again at once, and nobody's role changes.
    assert!(lab.cli(1, &["restart", "pair"]).out.contains("opened again"));
    assert!(lab.cli(0, &["restart", "pair"]).out.contains("the role stays"));
    let ask = |lab: &PairLab, count: usize| {
        for _ in 0..count {
            let answer = lab.hosts.run("c", "curl", &["-sS", "--max-time", "3", "http://10.77.0.100/"]);
            assert_eq!(answer.code, 0, "{}", answer.err);
        }
    };
    let session = lab.place.file("session").display().to_string();
    let handshake = |lab: &PairLab, more: &str| {
        let line = format!(
            "printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' | timeout 10 openssl s_client -connect 10.77.0.100:443 -ign_eof {more} 2>&1"
        );
        lab.hosts.run("c", "sh", &["-c", &line]).out
    };
    ask(&lab, 10);
    assert!(handshake(&lab, &format!("-sess_out {session}")).contains("New, TLSv"));
    assert_eq!(lab.cli(0, &["pair", "rotate-key"]).code, 0);
    eventually("both have the new key", Duration::from_secs(5), || {
        let keys =
            [0, 1].map(|node| std::fs::read_to_string(lab.folder(node).join("state/pair/key")).unwrap());
        keys[0] == keys[1] && lab.log(0).contains("the pair has a new key")
    });
    assert!(!lab.log(1).contains("silent on every path"), "{}", lab.log(1));
    assert_eq!(lab.cli(0, &["pair", "switch-over"]).code, 0);
    lab.await_role(1, "active");
    only_vip(&lab, 1);
    ask(&lab, 10);
    let listed = lab.cli(1, &["persistence", "list", "clients", "--json"]).out;
    let entries: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let all = entries.as_array().cloned().unwrap_or_default();
    let client = all.iter().find(|e| e["key"].as_str().unwrap_or("").contains("10.77.0.9")).cloned();
    assert_eq!(client.unwrap_or_default()["activity"]["requests"]["total"], 20, "{entries}");
    assert!(handshake(&lab, &format!("-sess_in {session}")).contains("Reused, TLSv"));
}

fn only_vip(lab: &PairLab, node: usize) {
    eventually("the VIP is on one node", Duration::from_secs(5), || {
        lab.has(node, "10.77.0.100") && !lab.has(1 - node, "10.77.0.100")
    });
}

#[test]
fn a_lockdown_is_of_both_nodes() {
    let Some(mut lab) = lab("pair-lockdown") else { return };
    for node in 0..2 {
        let doors = format!("[admin]\nlisten = [\"10.79.0.{}:9443\"]\n", node + 1);
        lab.write(node, &lab.config(node, "", &shared()).replace("[admin]\n", &doors));
        lab.start(node);
    }
    lab.join();
    eventually("each node knows where the other stands", Duration::from_secs(5), || {
        lab.json(0, &["pair", "status"])["link"]["configuration"] == "same"
    });
    let key = |lab: &PairLab, node: usize| std::fs::read(lab.folder(node).join("state/pair/key")).unwrap();
    let before = key(&lab, 0);
    let report = lab.cli(1, &["lockdown"]);
    for line in [
        "lb1: the web UI speaks TLS 1.3 only",
        "lb1: only 127.0.0.0/8, ::1/128 may connect to the web UI",
        "done  the web UI speaks TLS 1.3 only",
        "the pair has a new key, on both nodes",
        "committed as revision",
    ] {
        assert!(report.out.contains(line), "{line}: {report:?}");
    }
    for node in 0..2 {
        let text = std::fs::read_to_string(lab.config_file(node)).unwrap();
        assert!(text.contains("min-tls = \"1.3\"") && text.contains("allow = ["), "{text}");
    }
    eventually("both have the new key", Duration::from_secs(5), || {
        key(&lab, 0) == key(&lab, 1)
            && key(&lab, 0) != before
            && lab.log(1).contains("the pair has a new key")
    });
    assert_eq!((lab.role(0), lab.role(1)), ("active".into(), "passive".into()));
    // One alone says that the other is left.
    lab.nodes[0].take().unwrap().signal(Signal::KILL);
    eventually("the link is down", Duration::from_secs(10), || {
        lab.json(1, &["pair", "status"])["link"]["connected"] == false
    });
    let report = lab.cli(1, &["lockdown"]);
    assert!(report.out.contains("LEFT  the other node is not reachable"), "{report:?}");
}
