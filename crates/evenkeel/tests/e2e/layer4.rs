//! Layer 4 between hosts of their own: every mode, both IP versions, both ways to attach.

use std::collections::BTreeSet;
use std::time::Duration;

use evenkeel_testbed::{Hosts, Output, Place, Process, command, eventually, require};

const PROGRAMS: &[&str] = &["ip", "curl", "nginx", "ethtool", "tcpdump", "node"];

/// A load balancer with clients `c` and `d` and servers `s1`, `s2` beside it, and servers `b1`,
/// `b2` behind it.
pub struct Lab {
    pub hosts: Hosts,
    pub place: Place,
    pub daemon: Option<Process>,
    _servers: Vec<Process>,
}

impl Lab {
    pub fn new(test: &str, native: bool) -> Option<Lab> {
        if !require(PROGRAMS) {
            return None;
        }
        let mut hosts = Hosts::new()?;
        let place = Place::new(test);
        hosts.add(
            "lb",
            &[("front", &["10.77.0.1/24", "fd77::1/64"]), ("back", &["10.78.0.1/24", "fd78::1/64"])],
        );
        hosts.add("c", &[("front", &["10.77.0.2/24", "fd77::2/64"])]);
        hosts.add("d", &[("front", &["10.77.0.3/24", "fd77::3/64"])]);
        hosts.add("s1", &[("front", &["10.77.0.11/24", "fd77::11/64"])]);
        hosts.add("s2", &[("front", &["10.77.0.12/24", "fd77::12/64"])]);
        hosts.add("b1", &[("back", &["10.78.0.11/24", "fd78::11/64"])]);
        hosts.add("b2", &[("back", &["10.78.0.12/24", "fd78::12/64"])]);
        for back in ["b1", "b2"] {
            hosts.ip(back, &["route", "add", "default", "via", "10.78.0.1"]);
            hosts.ip(back, &["-6", "route", "add", "default", "via", "fd78::1"]);
        }
        // One-armed NAT: the way back to this client leads over the load balancer.
        for front in ["s1", "s2"] {
            hosts.ip(front, &["route", "add", "10.77.0.3/32", "via", "10.77.0.1"]);
            hosts.ip(front, &["-6", "route", "add", "fd77::3/128", "via", "fd77::1"]);
        }
        if native {
            hosts.allow_native(&place, "lb", 2);
            for host in ["c", "d", "s1", "s2", "b1", "b2"] {
                hosts.allow_native(&place, host, 1);
            }
        }
        let servers = ["s1", "s2", "b1", "b2"].map(|s| hosts.nginx(&place, s, &[80, 8080]));
        Some(Lab { hosts, place, daemon: None, _servers: servers.into() })
    }

    pub fn config(&self, keys: &str, services: &str) -> String {
        let folder = self.place.folder().display();
        format!(
            "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n{keys}\n{services}"
        )
    }

    pub fn start(&mut self, config: &str) {
        let file = self.place.write("evenkeel.toml", config).display().to_string();
        let log = self.place.file("daemon.log");
        let program = env!("CARGO_BIN_EXE_evenkeel");
        self.daemon = Some(self.hosts.start("lb", program, &["run", "--config", &file], &log));
        eventually("the daemon answers", Duration::from_secs(20), || self.cli(&["status"]).code == 0);
    }

    pub fn cli(&self, arguments: &[&str]) -> Output {
        let socket = self.place.file("admin.sock").display().to_string();
        command(env!("CARGO_BIN_EXE_evenkeel"), &[arguments, &["--socket", &socket]].concat())
    }

    pub fn real_server(&self, host: &str, verb: &str, mode: &str, vips: &[&str]) -> Output {
        let vips: Vec<&str> = vips.iter().flat_map(|v| ["--vip", v]).collect();
        let arguments = [&["real-server", verb, "--mode", mode][..], &vips].concat();
        self.hosts.run(host, env!("CARGO_BIN_EXE_evenkeel"), &arguments)
    }

    pub fn set_up(&self, mode: &str, vips: &[&str]) {
        for server in ["s1", "s2"] {
            let done = self.real_server(server, "setup", mode, vips);
            assert_eq!(done.code, 0, "{}{}", done.out, done.err);
        }
    }

    pub fn curl(&self, client: &str, url: &str, more: &[&str]) -> Output {
        self.hosts.run(client, "curl", &[&["-sS", "-g", "--max-time", "5"], more, &[url]].concat())
    }

    /// Every server answers, sees this address of the client and this port of its own.
    pub fn serves(&self, client: &str, vip: &str, servers: &[&str], sees: &str, port: u16) {
        let url = format!("http://{vip}/");
        let (mut found, mut last) = (BTreeSet::new(), String::new());
        eventually(&format!("{servers:?} answer at {vip}"), Duration::from_secs(10), || {
            let answer = self.curl(client, &url, &[]);
            last = format!("{}{}", answer.out, answer.err);
            let mut words = answer.out.split(' ');
            if let (Some(server), Some(seen), Some(on)) = (words.next(), words.next(), words.next()) {
                assert_eq!((seen, on), (sees, port.to_string().as_str()), "{vip} at {server}");
                found.insert(server.to_owned());
            }
            servers.iter().all(|s| found.contains(*s))
        });
        assert_eq!(found.len(), servers.len(), "{found:?} {last}");
    }

    /// Four MiB each way.
    pub fn carries(&self, client: &str, vip: &str) {
        let down =
            self.curl(client, &format!("http://{vip}/large"), &["-o", "/dev/null", "-w", "%{size_download}"]);
        assert_eq!(down.out, (4 << 20).to_string(), "{vip}: {}", down.err);
        let file = self.place.folder().join("nginx-s1/large").display().to_string();
        let from = format!("@{file}");
        let up = self.curl(client, &format!("http://{vip}/upload"), &["--data-binary", &from]);
        let took: u64 = up.out.strip_prefix("took ").and_then(|n| n.parse().ok()).unwrap_or(0);
        assert!(took > 4 << 20, "{vip}: {:?} {}", up.out, up.err);
    }
}

pub fn service(name: &str, vip: &str, mode: &str, keys: &str, servers: &[(&str, &str)]) -> String {
    let mut text =
        format!("[[virtual-service]]\nname = \"{name}\"\nvip = [\"{vip}\"]\nmode = \"{mode}\"\n{keys}\n");
    for (name, address) in servers {
        text += &format!("[[virtual-service.real-server]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    }
    text
}

pub const FRONT4: &[(&str, &str)] = &[("s1", "10.77.0.11"), ("s2", "10.77.0.12")];
pub const FRONT6: &[(&str, &str)] = &[("s1", "fd77::11"), ("s2", "fd77::12")];

fn every_mode(native: bool) {
    let name = if native { "l4-native" } else { "l4-generic" };
    let Some(mut lab) = Lab::new(name, native) else { return };
    lab.set_up("dr", &["10.77.0.100", "fd77::100"]);
    lab.set_up("tun", &["10.77.0.102", "10.77.0.103", "10.77.0.104", "fd77::102", "fd77::103", "fd77::104"]);
    let front8080: &[(&str, &str)] = &[("s1", "10.77.0.11:8080"), ("s2", "10.77.0.12:8080")];
    let front8080v6: &[(&str, &str)] = &[("s1", "[fd77::11]:8080"), ("s2", "[fd77::12]:8080")];
    let back: &[(&str, &str)] = &[("b1", "10.78.0.11:8080"), ("b2", "10.78.0.12:8080")];
    let back6: &[(&str, &str)] = &[("b1", "[fd78::11]:8080"), ("b2", "[fd78::12]:8080")];
    let gue = "tunnel = \"gue\"";
    let config = [
        service("dr4", "10.77.0.100:80", "dr", "", FRONT4),
        service("dr6", "[fd77::100]:80", "dr", "", FRONT6),
        service("snat4", "10.77.0.101:80", "snat", "", front8080),
        service("snat6", "[fd77::101]:80", "snat", "", front8080v6),
        service("tun44", "10.77.0.102:80", "tun", "", FRONT4),
        service("tun66", "[fd77::102]:80", "tun", "", FRONT6),
        service("tun46", "10.77.0.103:80", "tun", "", FRONT6),
        service("tun64", "[fd77::103]:80", "tun", "", FRONT4),
        service("gue4", "10.77.0.104:80", "tun", gue, FRONT4),
        service("gue6", "[fd77::104]:80", "tun", gue, FRONT6),
        service("nat4", "10.77.0.105:80", "nat", "", back),
        service("nat6", "[fd77::105]:80", "nat", "", back6),
        service("one4", "10.77.0.106:80", "nat", "", front8080),
        service("one6", "[fd77::106]:80", "nat", "", front8080v6),
    ]
    .concat();
    let attach = if native { "[layer-4]\nattach = \"native\"\n" } else { "" };
    let config = lab.config(attach, &config);
    lab.start(&config);
    let how = if native { "(native)" } else { "(generic)" };
    eventually("both interfaces", Duration::from_secs(10), || {
        lab.cli(&["status"]).out.contains(&format!("layer 4 on e0 {how}, e1 {how}"))
    });
    for (client, vip, servers, sees, port) in [
        ("c", "10.77.0.100", ["s1", "s2"], "10.77.0.2", 80),
        ("c", "[fd77::100]", ["s1", "s2"], "fd77::2", 80),
        ("c", "10.77.0.101", ["s1", "s2"], "10.77.0.1", 8080),
        ("c", "[fd77::101]", ["s1", "s2"], "fd77::1", 8080),
        ("c", "10.77.0.102", ["s1", "s2"], "10.77.0.2", 80),
        ("c", "[fd77::102]", ["s1", "s2"], "fd77::2", 80),
        ("c", "10.77.0.103", ["s1", "s2"], "10.77.0.2", 80),
        ("c", "[fd77::103]", ["s1", "s2"], "fd77::2", 80),
        ("c", "10.77.0.104", ["s1", "s2"], "10.77.0.2", 80),
        ("c", "[fd77::104]", ["s1", "s2"], "fd77::2", 80),
        ("c", "10.77.0.105", ["b1", "b2"], "10.77.0.2", 8080),
        ("c", "[fd77::105]", ["b1", "b2"], "fd77::2", 8080),
        ("d", "10.77.0.106", ["s1", "s2"], "10.77.0.3", 8080),
        ("d", "[fd77::106]", ["s1", "s2"], "fd77::3", 8080),
    ] {
        lab.serves(client, vip, &servers, sees, port);
        lab.carries(client, vip);
    }
}

#[test]
fn every_mode_attached_generic() {
    every_mode(false);
}

#[test]
fn every_mode_attached_native() {
    every_mode(true);
}
