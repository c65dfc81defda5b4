//! Nodes that join a pair and that leave it: whatever goes wrong, clients are served as before.

use std::time::Duration;

use evenkeel_testbed::eventually;
use evenkeel_testbed::pair::PairLab;

use crate::layer4::service;
use crate::pair::{FRONT, lab};

const CHECK: &str = "health-check = { type = \"tcp\", interval = \"1s\" }";

/// The node's file without `[pair]`.
fn alone(lab: &PairLab, node: usize, shared: &str) -> String {
    let text = lab.config(node, "", "");
    format!("{}{shared}", &text[..text.find("[pair]").unwrap()])
}

/// `plan` or `commit` of a node's file with another shared part.
fn change(lab: &PairLab, verb: &str, node: usize, shared: &str) -> evenkeel_testbed::Output {
    let file = lab.place.write("changed.toml", lab.config(node, "", shared)).display().to_string();
    lab.cli(node, &[verb, &file])
}

fn name_of(lab: &PairLab, node: usize) -> String {
    lab.json(node, &["pair", "status"])["name"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_join_that_is_refused_changes_nothing() {
    let Some(mut lab) = lab("pair-refused-join") else { return };
    for node in 0..2 {
        let vip = format!("10.77.0.{}:80", 100 + node);
        lab.write(node, &alone(&lab, node, &service("web", &vip, "http", CHECK, FRONT)));
        lab.start(node);
    }
    let serves = |lab: &PairLab, vip: &str| {
        lab.hosts.run("c", "curl", &["-sf", "-m", "2", "-o", "/dev/null", &format!("http://{vip}/")]).code
            == 0
    };
    eventually("both serve", Duration::from_secs(10), || {
        serves(&lab, "10.77.0.100") && serves(&lab, "10.77.0.101")
    });
    let inviting = std::fs::read_to_string(lab.config_file(0)).unwrap();
    for (peer, why) in [("10.79.0.1", "own address"), ("nonsense", "is no address")] {
        let refused = lab.cli(0, &["pair", "invite", "--peer", peer, "--interface", "e0"]);
        assert!(refused.code != 0 && refused.err.contains(why), "{refused:?}");
        assert_eq!(std::fs::read_to_string(lab.config_file(0)).unwrap(), inviting, "nothing is changed");
    }
    let invite = ["pair", "invite", "--peer", "10.79.0.2", "--interface", "e0", "--json"];
    let invitation: serde_json::Value = serde_json::from_str(&lab.cli(0, &invite).out).unwrap();
    let code = invitation["code"].as_str().unwrap().to_owned();
    // What would be dropped of a second one is refused.
    for other in [["--peer", "10.79.0.3"], ["--interface", "e7"], ["--name", "other"]] {
        let refused = lab.cli(0, &[&["pair", "invite"][..], &other].concat());
        assert!(refused.code != 0 && refused.err.contains(other[1]), "{refused:?}");
    }
    let (place, secret) = code.split_once('/').unwrap();
    let digit = if secret.starts_with('0') { "1" } else { "0" };
    let before = std::fs::read_to_string(lab.config_file(1)).unwrap();
    let wrong = format!("{place}/{digit}{}", &secret[1..]);
    // A digit, a machine that is not there, an interface that this one has not.
    let nobody = format!("10.79.0.7:9694/{secret}");
    for (code, interface) in [(&wrong, "e0"), (&nobody, "e0"), (&code, "")] {
        let name = if interface.is_empty() { "--name=not a name" } else { "--name=lb2" };
        let interface = if interface.is_empty() { "e0" } else { interface };
        let refused = lab.cli(1, &["pair", "join", code, name, "--interface", interface]);
        assert_ne!(refused.code, 0, "{code}: {}", refused.out);
        assert_eq!(std::fs::read_to_string(lab.config_file(1)).unwrap(), before, "{code}");
        assert!(lab.has(1, "10.77.0.101") && serves(&lab, "10.77.0.101"), "{code}");
    }
    // Half a pair is none: a machine that has not the address that was invited, one name for two, a peer elsewhere.
    let not_there = |address: &str, verb: &str| {
        lab.hosts.ip("lb2", &["addr", verb, &format!("{address}/24"), "dev", "e2"]);
    };
    not_there("10.79.0.2", "del");
    not_there("10.79.0.3", "add");
    let elsewhere = lab.cli(1, &["pair", "join", &code, "--name", "lb2", "--interface", "e0"]);
    not_there("10.79.0.3", "del");
    not_there("10.79.0.2", "add");
    let named = lab.cli(1, &["pair", "join", &code, "--name", &name_of(&lab, 0), "--interface", "e0"]);
    let request = serde_json::json!({ "code": code, "name": "lb2", "peer": "10.79.0.77", "interface": "e0" });
    let socket = lab.folder(1).join("admin.sock").display().to_string();
    let place = "http://node/api/v1/pair/join";
    let body = request.to_string();
    let post = ["-s", "--fail-with-body", "--unix-socket", &socket, "--json", &body, place];
    let wrong = evenkeel_testbed::command("curl", &post);
    let wrong = evenkeel_testbed::Output { err: wrong.out.clone(), ..wrong };
    for (refused, says) in [
        (&elsewhere, "expects its peer at 10.79.0.2"),
        (&named, "both nodes would be named"),
        (&wrong, "10.79.0.77"),
    ] {
        assert!(refused.code != 0 && refused.err.contains(says), "{says}: {refused:?}");
        assert!(refused.err.contains("nothing was changed"), "{refused:?}");
        assert_eq!(std::fs::read_to_string(lab.config_file(1)).unwrap(), before, "{says}");
        assert_eq!(lab.json(0, &["pair", "status"])["peer"]["heard"], false);
    }
    // The code is still good.
    let joined = lab.cli(1, &["pair", "join", &code, "--name", "lb2", "--interface", "e0"]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    // What a second join says otherwise than [pair] is refused, and so is a name that the other node has.
    for other in [["--interface", "e7"], ["--name", "other"]] {
        let refused = lab.cli(1, &[&["pair", "join", &code][..], &other].concat());
        assert!(refused.code != 0 && refused.err.contains(other[1]), "{refused:?}");
    }
    let renamed = std::fs::read_to_string(lab.config_file(1)).unwrap();
    let renamed = renamed.replace("name = \"lb2\"", &format!("name = {:?}", name_of(&lab, 0)));
    let file = lab.place.write("renamed.toml", renamed).display().to_string();
    eventually("the name is taken", Duration::from_secs(5), || {
        lab.cli(1, &["commit", &file]).err.contains("named")
    });
    lab.await_role(1, "passive");
    assert!(serves(&lab, "10.77.0.100"), "{}", lab.log(0));
}

#[test]
fn a_node_leaves_where_no_address_is_had_twice() {
    let Some(mut lab) = lab("pair-leave") else { return };
    let shared = service("web", "10.77.0.100:80", "http", CHECK, FRONT);
    lab.start_pair("", &shared);
    let leave = |lab: &PairLab, node: usize| {
        let file = lab.place.write("alone.toml", alone(lab, node, &shared)).display().to_string();
        lab.cli(node, &["commit", &file])
    };
    for (node, says) in [(0, "refused while"), (1, "goes on as it is")] {
        let file = lab.place.write("alone.toml", alone(&lab, node, &shared)).display().to_string();
        let planned = lab.cli(node, &["plan", &file]);
        assert!(planned.out.contains(says), "{planned:?}");
    }
    let refused = leave(&lab, 0);
    assert!(refused.code != 0 && refused.err.contains("switch-over"), "{refused:?}");
    lab.await_role(0, "active");
    let left = leave(&lab, 1);
    assert!(left.code == 0 && left.out.contains("left the pair"), "{left:?}");
    std::thread::sleep(Duration::from_secs(1));
    assert!(lab.has(0, "10.77.0.100") && !lab.has(1, "10.77.0.100"), "{}", lab.log(1));
    // Nobody is there any more who could take them.
    eventually("the other one leaves, too", Duration::from_secs(5), || leave(&lab, 0).code == 0);
    assert!(lab.has(0, "10.77.0.100"), "{}", lab.log(0));
}

/// A VIP that another machine has is refused by a plan and a commit on either node; the other node is no other machine.
#[test]
fn an_address_that_a_stranger_has_is_not_taken_by_a_pair() {
    let Some(mut lab) = lab("pair-stranger") else { return };
    let web = service("web", "10.77.0.100:80", "http", CHECK, FRONT);
    lab.start_pair("", &web);
    lab.await_role(0, "active");
    lab.await_role(1, "passive");
    for (node, (vip, bare)) in (0..2).flat_map(|n| {
        [("10.77.0.12:8088", "10.77.0.12"), ("[fd77::12]:8088", "fd77::12")].map(|vip| (n, vip))
    }) {
        let text = format!("{web}\n{}", service("stolen", vip, "http", CHECK, FRONT));
        for verb in ["plan", "commit"] {
            let refused = change(&lab, verb, node, &text);
            let says = format!("{bare} is in use");
            assert!(refused.code != 0 && refused.err.contains(&says), "{verb} on {node}: {refused:?}");
        }
        assert!((0..2).all(|n| !lab.has(n, bare)), "nothing was changed");
    }
    // What the other node has by itself is no stranger's.
    lab.hosts.ip("lb2", &["addr", "add", "10.77.0.88/32", "dev", "e0"]);
    let text = format!("{web}\n{}", service("more", "10.77.0.88:80", "http", CHECK, FRONT));
    let taken = change(&lab, "commit", 0, &text);
    assert!(taken.code == 0 && taken.out.contains("the peer: committed"), "{taken:?}");
}

/// What only the active node can know or do is not answered with "none" by the passive one.
#[test]
fn the_passive_node_says_what_is_the_active_nodes() {
    let Some(mut lab) = lab("pair-elsewhere") else { return };
    let nat = "persistence = { type = \"source\" }\nhealth-check = { type = \"none\" }";
    let shared = [
        service("web", "10.77.0.100:80", "http", CHECK, FRONT),
        service(
            "nat",
            "10.77.0.101:80",
            "snat",
            &format!("{nat}\nsource-addresses = [\"10.77.0.150\"]"),
            FRONT,
        ),
        "[network]\nfloating-ips = [\"10.77.0.150/24\"]\n".to_owned(),
    ];
    lab.start_pair("", &shared.concat());
    for (verb, says) in [
        (&["drain", "web/s1", "--wait"][..], "wait for their end there"),
        (&["close", "web"], "close them there"),
        (&["close", "nat"], "close them there"),
        (&["persistence", "clear", "nat"], "clear them there"),
    ] {
        let refused = lab.cli(1, verb);
        assert!(refused.code != 0 && refused.err.contains(says), "{verb:?}: {refused:?}");
    }
    // A client is remembered there as soon as its connection is; one that is cleared is forgotten there.
    assert_eq!(lab.hosts.run("c", "curl", &["-sS", "-m", "5", "http://10.77.0.101/"]).code, 0);
    let listed = |node| lab.cli(node, &["persistence", "list", "nat"]).out;
    eventually("the passive node remembers the client", Duration::from_secs(2), || {
        listed(1).contains("10.77.0.9")
    });
    assert!(
        listed(1).contains("once it is active") && !listed(0).contains("once it is active"),
        "{}",
        listed(1)
    );
    assert_eq!(lab.cli(0, &["persistence", "clear", "nat"]).code, 0);
    eventually("both forget it", Duration::from_secs(2), || (0..2).all(|n| !listed(n).contains("10.77.0.9")));
    assert!(lab.cli(1, &["status"]).out.contains("clients are at the active node"));
    assert!(!lab.cli(0, &["status"]).out.contains("clients are at the active node"));
    let halted = lab.cli(1, &["halt", "web/s1"]);
    assert!(halted.code == 0 && halted.out.contains("the active node has"), "{halted:?}");
    assert!(lab.cli(0, &["drain", "web/s2", "--wait"]).code == 0);
    assert!(lab.cli(0, &["close", "web"]).code == 0);
}

const DEAF: &str = "table inet deaf { chain incoming { type filter hook input priority 0; udp dport 9694 drop; ip protocol 112 drop; }; }";

/// Beats that are lost on one path, in one direction or in both, while another carries them.
#[test]
fn a_path_on_which_nothing_comes_is_told() {
    let Some(mut lab) = lab("pair-silent-path") else { return };
    if !evenkeel_testbed::require(&["nft"]) {
        return;
    }
    lab.start_pair("", &service("web", "10.77.0.100:80", "http", CHECK, FRONT));
    let ends = |lab: &PairLab, node| {
        let status = lab.json(node, &["pair", "status"]);
        let silent = |path: &serde_json::Value| {
            path["trouble"].as_str().is_some_and(|why| why.contains("no beat of the peer"))
        };
        let paths = status["paths"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> = paths
            .iter()
            .filter(|p| silent(p))
            .filter_map(|p| p["name"].as_str())
            .map(str::to_owned)
            .collect();
        let doctor = lab.cli(node, &["doctor"]).out;
        let told = names.iter().filter(|name| doctor.contains(*name)).count();
        let misses = status["peer"]["misses-a-path"] == true;
        (names.join(", "), told, misses && doctor.contains("does not hear this node"))
    };
    // A node that hears nothing at all while it is heard cannot know it; the other one says it.
    assert_eq!(lab.hosts.run("lb1", "nft", &[DEAF]).code, 0);
    eventually("the deaf node is told of", Duration::from_secs(8), || {
        let says = "does not hear this node on any path";
        lab.cli(1, &["doctor"]).out.contains(says) && lab.cli(1, &["pair", "status"]).out.contains(says)
    });
    eventually("people are told", Duration::from_secs(25), || {
        lab.cli(1, &["events"]).out.contains("does not hear this node on any path")
    });
    assert_eq!(lab.hosts.run("lb1", "nft", &["delete table inet deaf"]).code, 0);
    eventually("and told of its end", Duration::from_secs(10), || {
        lab.cli(1, &["events"]).out.contains("well again")
    });
    let nothing = (String::new(), 0, false);
    eventually("all is well", Duration::from_secs(5), || (0..2).all(|n| ends(&lab, n) == nothing));
    for (from, to) in [(0, 1), (1, 0)] {
        for (drop, path) in [
            ("udp dport 9694", format!("link 10.79.0.{}:9694", 2 - to)),
            ("ip protocol 112", "vrrp e0 51".into()),
        ] {
            let node = if to == 0 { "lb1" } else { "lb2" };
            let rules = format!(
                "table inet lost {{ chain incoming {{ type filter hook input priority 0; {drop} drop; }}; }}"
            );
            assert_eq!(lab.hosts.run(node, "nft", &[&rules]).code, 0);
            eventually(&format!("{path} is silent on {to}"), Duration::from_secs(8), || {
                ends(&lab, to) == (path.clone(), 1, false) && ends(&lab, from) == (String::new(), 0, true)
            });
            assert_eq!((lab.role(0).as_str(), lab.role(1).as_str()), ("active", "passive"));
            assert_eq!(lab.hosts.run(node, "nft", &["delete table inet lost"]).code, 0);
            eventually("it is well again", Duration::from_secs(8), || {
                (0..2).all(|n| ends(&lab, n) == nothing)
            });
        }
    }
}
