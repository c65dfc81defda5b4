//! Layer 4 over time: restarts, a daemon that dies or freezes, servers that come and go, UDP,
//! errors of routers on the way.

use std::time::Duration;

use evenkeel_testbed::frame::{Frame, SYN};
use evenkeel_testbed::{Process, eventually};
use rustix::process::Signal;

use super::layer4::{FRONT4, Lab, service};

const BACK: &[(&str, &str)] = &[("b1", "10.78.0.11:8080"), ("b2", "10.78.0.12:8080")];

/// A download that takes about six seconds.
struct Download {
    process: Process,
    file: std::path::PathBuf,
}

impl Lab {
    fn download(&self, vip: &str, name: &str) -> Download {
        let file = self.place.file(name);
        let url = format!("http://{vip}/slow");
        let arguments = ["-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{size_download}", &url];
        let process = self.hosts.start("c", "curl", &arguments, &file);
        std::thread::sleep(Duration::from_millis(500));
        Download { process, file }
    }

    fn modes(&self) -> String {
        self.config(
            "",
            &(service("dr", "10.77.0.100:80", "dr", "", FRONT4)
                + &service("nat", "10.77.0.105:80", "nat", "", BACK)
                + &service("snat", "10.77.0.101:80", "snat", "", BACK)),
        )
    }

    fn again(&mut self) {
        let config = std::fs::read_to_string(self.place.file("evenkeel.toml")).unwrap();
        self.start(&config);
    }

    fn answers(&self, vip: &str) -> bool {
        let url = format!("http://{vip}/");
        self.curl("c", &url, &["--max-time", "1"]).code == 0
    }
}

impl Download {
    fn must_be_whole(mut self) {
        eventually("the download ends", Duration::from_secs(40), || self.process.has_ended());
        let got = std::fs::read_to_string(&self.file).unwrap();
        assert_eq!(got, (4 << 20).to_string(), "{}", self.file.display());
    }
}

const VIPS: [&str; 3] = ["10.77.0.100", "10.77.0.105", "10.77.0.101"];

#[test]
fn connections_survive_restart_and_upgrade() {
    let Some(mut lab) = Lab::new("l4-restart", false) else { return };
    lab.set_up("dr", &["10.77.0.100"]);
    let config = lab.modes();
    lab.start(&config);
    VIPS.iter().for_each(|vip| eventually(vip, Duration::from_secs(10), || lab.answers(vip)));
    // A part alone.
    let downloads = VIPS.map(|vip| lab.download(vip, &format!("part-{vip}")));
    let said = lab.cli(&["restart", "layer4"]);
    assert!(said.out.contains("attached again to ") && said.out.contains("flows are kept"), "{said:?}");
    let said = lab.cli(&["restart", "checks"]);
    assert!(said.out.contains(" checks begin again"), "{said:?}");
    VIPS.iter().for_each(|vip| assert!(lab.answers(vip), "{vip}"));
    downloads.into_iter().for_each(Download::must_be_whole);
    // A stop and a start, with a pause between.
    let downloads = VIPS.map(|vip| lab.download(vip, &format!("restart-{vip}")));
    let mut daemon = lab.daemon.take().unwrap();
    daemon.signal(Signal::TERM);
    eventually("the daemon stops", Duration::from_secs(20), || daemon.has_ended());
    assert!(lab.answers(VIPS[0]), "packets are forwarded without a daemon, for a while");
    std::thread::sleep(Duration::from_secs(1));
    lab.again();
    downloads.into_iter().for_each(Download::must_be_whole);
    let log = std::fs::read_to_string(lab.place.file("daemon.log")).unwrap();
    assert!(log.contains("goes on with the flows of the process before"), "{log}");
    // Killed: what was under way goes on when the next one is there.
    let downloads = VIPS.map(|vip| lab.download(vip, &format!("killed-{vip}")));
    let mut daemon = lab.daemon.take().unwrap();
    daemon.signal(Signal::KILL);
    eventually("the daemon is dead", Duration::from_secs(5), || daemon.has_ended());
    eventually("and its traffic with it", Duration::from_secs(3), || !lab.answers(VIPS[1]));
    lab.again();
    downloads.into_iter().for_each(Download::must_be_whole);
    // An upgrade in place.
    let downloads = VIPS.map(|vip| lab.download(vip, &format!("upgrade-{vip}")));
    let before = lab.cli(&["status", "--json"]).out;
    lab.daemon.as_ref().unwrap().signal(Signal::USR2);
    eventually("the successor answers", Duration::from_secs(20), || {
        let now = lab.cli(&["status", "--json"]);
        now.code == 0 && uptime(&now.out) < uptime(&before)
    });
    VIPS.iter().for_each(|vip| assert!(lab.answers(vip), "{vip}"));
    downloads.into_iter().for_each(Download::must_be_whole);
    // The successor is a process of its own: end it by its number.
    let pids = lab.hosts.run("lb", "pgrep", &["-f", &lab.place.file("evenkeel.toml").display().to_string()]);
    for pid in pids.out.split_whitespace() {
        lab.hosts.run("lb", "kill", &["-INT", pid]);
    }
    let mut left = String::new();
    eventually("an interrupt takes all away", Duration::from_secs(20), || {
        left = lab.hosts.run("lb", "ip", &["addr"]).out;
        !left.contains("10.77.0.100") && !left.contains("xdp")
    });
}

fn uptime(status: &str) -> u64 {
    let after = status.split("\"uptime-seconds\":").nth(1).unwrap_or("");
    after.trim().split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
fn a_commit_that_layer_4_refuses_changes_nothing() {
    let Some(mut lab) = Lab::new("l4-refused", false) else { return };
    lab.set_up("dr", &["10.77.0.100"]);
    let good = service("web", "10.77.0.100:80", "dr", "", FRONT4);
    let config = lab.config("", &good);
    lab.start(&config);
    eventually("it serves", Duration::from_secs(10), || lab.answers("10.77.0.100"));
    for change in [["drain", "web/s1"].as_slice(), &["weight", "web/s2", "7"]] {
        assert_eq!(lab.cli(change).code, 0);
    }
    let stands = || {
        let file = |name: &str| std::fs::read_to_string(lab.place.file(name)).unwrap();
        let status = lab.cli(&["status"]).out;
        let servers: Vec<String> =
            status.lines().filter(|l| l.contains("s1") || l.contains("s2")).map(str::to_owned).collect();
        (file("evenkeel.toml"), file("state/state.json"), servers.len(), status.contains("more"))
    };
    let before = stands();
    // More source addresses than layer 4 has room for; and what would end the live changes.
    let sources: Vec<String> = (0..1025).map(|n| format!("\"10.99.{}.{}\"", n / 250, n % 250 + 1)).collect();
    let sources = format!("source-addresses = [{}]", sources.join(", "));
    let changed = good
        .replace("10.77.0.11\"", "10.77.0.11\"\nadmin-state = \"halted\"")
        .replace("10.77.0.12\"", "10.77.0.12\"\nweight = 44");
    let more = service("more", "10.77.0.101:80", "snat", &sources, &[("b1", "10.78.0.11:8080")]);
    let refused = lab.place.write("refused.toml", lab.config("", &(changed + &more))).display().to_string();
    let said = lab.cli(&["commit", &refused]);
    assert!(said.code != 0 && said.err.contains("layer 4 holds 1024 source addresses"), "{said:?}");
    assert_eq!(stands(), before);
    assert!(lab.answers("10.77.0.100"), "what ran goes on");
    // The room is not used up by what was refused.
    let more = service("more", "10.77.0.101:80", "snat", "", &[("b1", "10.78.0.11:8080")]);
    let next = lab.place.write("next.toml", lab.config("", &(good + &more))).display().to_string();
    let said = lab.cli(&["commit", &next]);
    assert_eq!(said.code, 0, "{said:?}");
    eventually("both serve", Duration::from_secs(10), || {
        lab.answers("10.77.0.100") && lab.answers("10.77.0.101")
    });
}

/// However a process ends and whatever the next one serves at its VIPs, the kernel ends up as the
/// configuration says.
#[test]
fn what_a_process_leaves_is_gone_where_the_next_one_does_not_want_it() {
    let Some(mut lab) = Lab::new("l4-leftovers", false) else { return };
    const MODES: [&str; 4] = ["dr", "nat", "tun", "snat"];
    let vip = |n: usize| format!("10.77.0.{}", 100 + n);
    for n in 0..MODES.len() {
        lab.hosts.ip("lb", &["addr", "add", &format!("{}/32", vip(n)), "dev", "e0"]);
    }
    let with_port = [("s1", "10.77.0.11:80"), ("s2", "10.77.0.12:80")];
    let packets: String = (0..MODES.len())
        .map(|n| {
            let servers = if matches!(MODES[n], "dr" | "tun") { FRONT4 } else { &with_port[..] };
            service(MODES[n], &format!("{}:80", vip(n)), MODES[n], "", servers)
        })
        .collect();
    let packets = lab.config("", &packets);
    let programs = |lab: &Lab| lab.hosts.run("lb", "ip", &["link"]).out.matches("xdp").count();
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        for after in ["tcp", "http", "none"] {
            lab.start(&packets);
            eventually("layer 4 is attached", Duration::from_secs(10), || programs(&lab) > 0);
            let mut daemon = lab.daemon.take().unwrap();
            daemon.signal(signal);
            eventually("it ends", Duration::from_secs(20), || daemon.has_ended());
            let served: String = match after {
                "none" => String::new(),
                mode => (0..MODES.len())
                    .map(|n| service(MODES[n], &format!("{}:80", vip(n)), mode, "", &with_port))
                    .collect(),
            };
            let config = lab.config("", &served);
            lab.start(&config);
            let told = format!("{signal:?}, then {after}");
            assert_eq!(programs(&lab), 0, "{told}");
            for n in (0..MODES.len()).filter(|_| after != "none") {
                eventually(&format!("{told}: {}", vip(n)), Duration::from_secs(10), || lab.answers(&vip(n)));
            }
            let mut daemon = lab.daemon.take().unwrap();
            daemon.kill();
        }
    }
}

#[test]
fn a_frozen_daemon_loses_its_traffic_and_gets_it_back() {
    let Some(mut lab) = Lab::new("l4-frozen", false) else { return };
    lab.set_up("dr", &["10.77.0.100"]);
    let config = lab.modes();
    lab.start(&config);
    VIPS.iter().for_each(|vip| eventually(vip, Duration::from_secs(10), || lab.answers(vip)));
    let download = lab.download(VIPS[1], "frozen");
    lab.daemon.as_ref().unwrap().signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(1200));
    VIPS.iter().for_each(|vip| assert!(!lab.answers(vip), "{vip} is served after the lease"));
    lab.daemon.as_ref().unwrap().signal(Signal::CONT);
    VIPS.iter().for_each(|vip| eventually(vip, Duration::from_secs(10), || lab.answers(vip)));
    download.must_be_whole();
}

/// A backup's connections, when the server that it stood in for takes clients again.
#[test]
fn connections_with_backups_end_or_stay() {
    let Some(mut lab) = Lab::new("l4-backups", false) else { return };
    let of = |name: &str, vip: &str, keys: &str| {
        let keys = format!("{keys}\nhealth-check = {{ type = \"none\" }}");
        service(name, vip, "snat", &keys, BACK).replace("12:8080\"", "12:8080\"\nbackup = true")
    };
    let closing = of("closing", "10.77.0.105:80", "on-marked-up = \"close-backups\"");
    let config = lab.config("", &(closing + &of("keeping", "10.77.0.101:80", "")));
    lab.start(&config);
    let each = [("closing", "10.77.0.105"), ("keeping", "10.77.0.101")];
    each.iter().for_each(|(_, vip)| eventually(vip, Duration::from_secs(10), || lab.answers(vip)));
    for (name, _) in each {
        assert_eq!(lab.cli(&["halt", &format!("{name}/b1")]).code, 0);
    }
    let downloads = each.map(|(name, vip)| lab.download(vip, name));
    for (name, _) in each {
        assert_eq!(lab.cli(&["online", &format!("{name}/b1")]).code, 0);
    }
    let [mut ended, whole] = downloads;
    eventually("the connection ends", Duration::from_secs(3), || ended.process.has_ended());
    let got = std::fs::read_to_string(&ended.file).unwrap();
    assert_ne!(got, (4 << 20).to_string());
    whole.must_be_whole();
}

#[test]
fn servers_drain_halt_leave_and_fail_without_hurting_others() {
    let Some(mut lab) = Lab::new("l4-servers", false) else { return };
    lab.set_up("dr", &["10.77.0.100"]);
    let check =
        "health-check = { type = \"tcp\", interval = \"300ms\", timeout = \"200ms\", fall = 2, rise = 1 }";
    let with = |keys: &str, servers: &[(&str, &str)]| service("nat", "10.77.0.105:80", "nat", keys, servers);
    let config = lab.config("", &with(check, BACK));
    lab.start(&config);
    let vip = "10.77.0.105";
    eventually("it serves", Duration::from_secs(10), || lab.answers(vip));
    let who = |lab: &Lab| {
        let answer = lab.curl("c", "http://10.77.0.105/", &["--max-time", "2"]);
        answer.out.split(' ').next().unwrap_or("").to_owned()
    };
    let only = |lab: &Lab, server: &str| (0..6).all(|_| who(lab) == server);
    // Two downloads, one on each server.
    let downloads = [lab.download(vip, "one"), lab.download(vip, "two")];
    let listed = lab.cli(&["connections", "--service", "nat", "--state", "established"]).out;
    assert!(listed.contains("b1") && listed.contains("b2"), "{listed}");
    assert_eq!(lab.cli(&["drain", "nat/b1"]).code, 0);
    assert!(only(&lab, "b2"), "a draining server gets nobody new");
    assert_eq!(lab.cli(&["online", "nat/b1"]).code, 0);
    // The server leaves the configuration and is there again; its download does not notice.
    let without = lab.place.write("without.toml", lab.config("", &with(check, &BACK[1..])));
    let done = lab.cli(&["commit", &without.display().to_string()]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(only(&lab, "b2"), "a removed server gets nobody new");
    let with_both = lab.place.write("with.toml", lab.config("", &with(check, BACK)));
    assert_eq!(lab.cli(&["commit", &with_both.display().to_string()]).code, 0);
    eventually("the server is back", Duration::from_secs(5), || who(&lab) == "b1");
    downloads.into_iter().for_each(Download::must_be_whole);
    // Halted: its connections end at once, and say so.
    let downloads = [lab.download(vip, "three"), lab.download(vip, "four")];
    assert_eq!(lab.cli(&["halt", "nat/b1"]).code, 0);
    let mut ended = 0;
    for mut download in downloads {
        std::thread::sleep(Duration::from_millis(700));
        if download.process.has_ended() {
            let text = std::fs::read_to_string(&download.file).unwrap();
            assert!(text.contains("reset"), "{text}");
            ended += 1;
        } else {
            download.must_be_whole();
        }
    }
    assert_eq!(ended, 1, "the halted server's connection ends, the other's does not");
    assert_eq!(lab.cli(&["online", "nat/b1"]).code, 0);
    // A dead server is left out once its checks fail.
    lab.hosts.ip("b1", &["link", "set", "e0", "down"]);
    eventually("its checks fail", Duration::from_secs(10), || {
        lab.cli(&["status"]).out.lines().any(|l| l.contains("b1 ") && l.contains("down"))
    });
    assert!(only(&lab, "b2"));
    lab.hosts.ip("b1", &["link", "set", "e0", "up"]);
    lab.hosts.ip("b1", &["route", "add", "default", "via", "10.78.0.1"]);
    eventually("it serves again", Duration::from_secs(10), || who(&lab) == "b1");
    // Nobody left: clients are told at once.
    for server in ["nat/b1", "nat/b2"] {
        assert_eq!(lab.cli(&["drain", server]).code, 0);
    }
    let refused = lab.curl("c", "http://10.77.0.105/", &[]);
    assert_eq!(refused.code, 7, "refused: {}", refused.err);
}

/// Of a single connection, a client, a server and a service: those that are meant end, the others do not.
#[test]
fn connections_of_layer_4_are_closed_one_by_one_and_together() {
    let Some(mut lab) = Lab::new("l4-close", false) else { return };
    lab.set_up("dr", &["10.77.0.100"]);
    let config = lab.modes();
    lab.start(&config);
    VIPS.iter().for_each(|vip| eventually(vip, Duration::from_secs(10), || lab.answers(vip)));
    let established = |lab: &Lab| {
        let listed = lab.cli(&["connections", "--state", "established", "--json"]).out;
        serde_json::from_str::<Vec<serde_json::Value>>(&listed).unwrap()
    };
    for (vip, name) in VIPS.iter().zip(["dr", "nat", "snat"]) {
        // So many of those that have ended need not have left yet.
        eventually("nothing else is open", Duration::from_secs(20), || established(&lab).is_empty());
        let close = |lab: &Lab, words: &[&str]| {
            let done = lab.cli(&[&["close"], words].concat());
            assert_eq!(done.code, 0, "{words:?}: {}{}", done.out, done.err);
            done.out.trim().to_owned()
        };
        // What is asked for, and how many of four downloads (two on each server) end by it.
        let ways: &[&str] = match name {
            "dr" => &["one", "server", "client"],
            "nat" => &["server", "service"],
            _ => &["one", "service"],
        };
        for what in ways.iter().copied() {
            let mut downloads: Vec<Download> =
                (0..4).map(|n| lab.download(vip, &format!("{name}-{what}-{n}"))).collect();
            let listed = established(&lab);
            assert_eq!(listed.len(), 4, "{listed:?}");
            let first = listed[0]["client"].as_str().unwrap().to_owned();
            let server = listed[0]["real-server"].as_str().unwrap().to_owned();
            let (said, meant) = match what {
                "one" => (close(&lab, &["--client", &first]), 1),
                "server" => {
                    let of = listed.iter().filter(|c| c["real-server"] == server.as_str()).count();
                    (close(&lab, &[&format!("{name}/{server}")]), of)
                }
                "client" => (close(&lab, &["--client", "10.77.0.2"]), 4),
                _ => (close(&lab, &[name]), 4),
            };
            assert!(said.starts_with(&format!("{meant} connection")), "{said}");
            assert!(said.contains("the next packet of either side is answered with a reset"), "{said}");
            assert!(close(&lab, &[name, "--client", "10.77.0.3"]).starts_with("0 connections"), "of nobody");
            eventually(&format!("{name}, {what}: {meant} end"), Duration::from_secs(5), || {
                downloads.iter_mut().filter_map(|d| d.process.has_ended().then_some(())).count() == meant
            });
            for mut download in downloads {
                if download.process.has_ended() {
                    let text = std::fs::read_to_string(&download.file).unwrap();
                    assert!(text.contains("reset"), "{text}");
                } else {
                    download.must_be_whole();
                }
            }
            assert!(lab.answers(vip), "new connections are served");
        }
    }
    for (words, why) in [
        (&["nat/nobody"][..], "nat has no real server named nobody"),
        (&["nobody"], "there is no virtual service named nobody"),
        (&["--client", "here"], "it is no address"),
    ] {
        let refused = lab.cli(&[&["close"], words].concat());
        assert!(refused.code != 0 && refused.err.contains(why), "{words:?}: {}", refused.err);
    }
}

#[test]
fn udp_ranges_and_all_ports() {
    let Some(mut lab) = Lab::new("l4-udp", false) else { return };
    let echo = "const d=require('dgram');for(const [t,p] of [['udp4',53],['udp4',6005],['udp4',9999]]){const s=d.createSocket(t);s.on('message',(m,r)=>s.send(process.argv[1]+' '+p+' '+m,r.port,r.address));s.bind(p)}";
    let mut servers = Vec::new();
    for server in ["b1", "b2"] {
        let log = lab.place.file(&format!("echo-{server}"));
        servers.push(lab.hosts.start(server, "node", &["-e", echo, server], &log));
    }
    let plain: &[(&str, &str)] = &[("b1", "10.78.0.11"), ("b2", "10.78.0.12")];
    let check = "health-check = { type = \"ping\" }";
    let udp = format!("protocol = \"udp\"\n{check}");
    let both =
        format!("protocol = \"both\"\n{check}\npersistence = {{ type = \"source\", timeout = \"1m\" }}");
    let config = lab.config(
        "",
        &(service("dns", "10.77.0.110:53", "nat", &udp, &[("b1", "10.78.0.11:53"), ("b2", "10.78.0.12:53")])
            + &service("range", "10.77.0.110:6000-6010", "nat", &udp, plain)
            + &service("every", "10.77.0.111:*", "nat", &both, plain)),
    );
    lab.start(&config);
    let ask = "const s=require('dgram').createSocket('udp4');s.on('message',m=>{console.log(''+m);process.exit(0)});s.send('hi',+process.argv[2],process.argv[1]);setTimeout(()=>process.exit(1),2000)";
    let say =
        |vip: &str, port: &str| lab.hosts.run("c", "node", &["-e", ask, vip, port]).out.trim().to_owned();
    eventually("an answer over UDP", Duration::from_secs(15), || say("10.77.0.110", "53").ends_with("53 hi"));
    eventually("in a range", Duration::from_secs(10), || say("10.77.0.110", "6005").ends_with("6005 hi"));
    // One client, one server, over every port and both protocols.
    let mut found: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    eventually("on every port", Duration::from_secs(10), || say("10.77.0.111", "9999").ends_with("9999 hi"));
    for port in ["9999", "6005", "53"] {
        found.insert(say("10.77.0.111", port).split(' ').next().unwrap_or("").to_owned());
    }
    for port in ["80", "8080"] {
        let answer = lab.curl("c", &format!("http://10.77.0.111:{port}/"), &[]).out;
        found.insert(answer.split(' ').next().unwrap_or("").to_owned());
    }
    assert_eq!(found.len(), 1, "{found:?}");
    let kept = lab.cli(&["persistence", "list", "every"]).out;
    assert!(kept.contains("10.77.0.2"), "{kept}");
    let listed = lab.cli(&["connections", "--service", "dns"]).out;
    assert!(listed.contains("udp") && listed.contains("10.77.0.110:53"), "{listed}");
}

#[test]
fn path_mtu_messages_reach_the_right_server() {
    let Some(mut lab) = Lab::new("l4-mtu", false) else { return };
    let always = "protection = { syn-cookies = \"always\" }";
    // A client behind a router whose link carries less than the others.
    lab.hosts.add(
        "r",
        &[("front", &["10.77.0.254/24", "fd77::254/64"]), ("far", &["10.79.0.1/24", "fd79::1/64"])],
    );
    lab.hosts.add("far", &[("far", &["10.79.0.2/24", "fd79::2/64"])]);
    lab.hosts.add("far2", &[("far", &["10.79.0.3/24", "fd79::3/64"])]);
    lab.hosts.run("r", "sysctl", &["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    lab.hosts.ip("r", &["route", "change", "10.79.0.0/24", "dev", "e1", "mtu", "lock", "1300"]);
    lab.hosts.ip("r", &["-6", "route", "add", "fd79::/64", "dev", "e1", "mtu", "1300", "metric", "10"]);
    for far in ["far", "far2"] {
        lab.hosts.ip(far, &["route", "add", "default", "via", "10.79.0.1"]);
        lab.hosts.ip(far, &["-6", "route", "add", "default", "via", "fd79::1"]);
    }
    for host in ["lb", "s1", "s2"] {
        lab.hosts.ip(host, &["route", "add", "10.79.0.0/24", "via", "10.77.0.254"]);
        lab.hosts.ip(host, &["-6", "route", "add", "fd79::/64", "via", "fd77::254"]);
    }
    lab.set_up("dr", &["10.77.0.100", "fd77::100"]);
    lab.set_up("tun", &["10.77.0.102"]);
    let back6: &[(&str, &str)] = &[("b1", "[fd78::11]:8080"), ("b2", "[fd78::12]:8080")];
    let front6: &[(&str, &str)] = &[("s1", "fd77::11"), ("s2", "fd77::12")];
    let config = lab.config(
        "",
        &(service("dr", "10.77.0.100:80", "dr", "", FRONT4)
            + &service("dr6", "[fd77::100]:80", "dr", "", front6)
            + &service("nat", "10.77.0.105:80", "nat", "", BACK)
            + &service("nat6", "[fd77::105]:80", "nat", "", back6)
            + &service("snat", "10.77.0.101:80", "snat", "", BACK)
            + &service("tun", "10.77.0.102:80", "tun", "", FRONT4)
            + &service("asks", "10.77.0.107:80", "nat", always, BACK)
            + &service("asks6", "[fd77::107]:80", "snat", always, back6)),
    );
    lab.start(&config);
    let all = ["10.77.0.100", "[fd77::100]", "10.77.0.105", "[fd77::105]", "10.77.0.101", "10.77.0.102"];
    // After a cookie the real server's numbers are not the client's; by another client, of whom the
    // servers have not learned yet.
    let asked = ["10.77.0.107", "[fd77::107]"];
    for (far, vip) in all.map(|vip| ("far", vip)).into_iter().chain(asked.map(|vip| ("far2", vip))) {
        let url = format!("http://{vip}/");
        eventually(vip, Duration::from_secs(10), || lab.curl(far, &url, &["--max-time", "1"]).code == 0);
        // Two, so that both servers learn.
        for _ in 0..2 {
            let large = lab.curl(
                far,
                &format!("http://{vip}/large"),
                &["-o", "/dev/null", "-w", "%{size_download}", "--max-time", "10"],
            );
            assert_eq!(large.out, (4 << 20).to_string(), "{vip}: {}", large.err);
        }
    }
    let status = lab.cli(&["status", "--json"]).out;
    let forwarded = status.split("\"icmp-forwarded\":").nth(1).unwrap_or("0");
    let count: u64 = forwarded.trim().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    assert!(count >= 11, "{count} {status}");
}

#[test]
fn clients_that_must_prove_their_address_are_served() {
    let Some(mut lab) = Lab::new("l4-cookies", false) else { return };
    let always = "protection = { syn-cookies = \"always\" }";
    let over = "protection = { new-connections = \"1/10s\" }";
    let back6: &[(&str, &str)] = &[("b1", "[fd78::11]:8080"), ("b2", "[fd78::12]:8080")];
    let config = lab.config(
        "",
        &(service("nat", "10.77.0.105:80", "nat", always, BACK)
            + &service("nat6", "[fd77::105]:80", "nat", always, back6)
            + &service("snat", "10.77.0.101:80", "snat", always, BACK)
            + &service("snat6", "[fd77::101]:80", "snat", always, back6)
            + &service("over", "10.77.0.106:80", "nat", over, BACK)),
    );
    lab.start(&config);
    for (vip, sees) in [
        ("10.77.0.105", "10.77.0.2"),
        ("[fd77::105]", "fd77::2"),
        ("10.77.0.101", "10.78.0.1"),
        ("[fd77::101]", "fd78::1"),
        ("10.77.0.106", "10.77.0.2"),
    ] {
        lab.serves("c", vip, &["b1", "b2"], sees, 8080);
        lab.carries("c", vip);
    }
    // A server that refuses is heard.
    let check = "health-check = { type = \"ping\" }";
    let refused =
        service("nat", "10.77.0.105:80", "nat", &format!("{always}\n{check}"), &[("b1", "10.78.0.11:99")]);
    let file = lab.place.write("refused.toml", lab.config("", &refused));
    assert_eq!(lab.cli(&["commit", &file.display().to_string()]).code, 0);
    let answer = lab.curl("c", "http://10.77.0.105/", &["--max-time", "3"]);
    // Refused (7), or reset (56) when the client was quicker; not left to its own clock (28).
    assert!(matches!(answer.code, 7 | 56), "{}", answer.err);
    assert!(lab.cli(&["status"]).out.contains("cookie-sent"));
}

/// A million first segments from random sources, in frames of their own, while downloads go on.
#[test]
fn a_live_flood_leaves_established_clients_served() {
    let Some(mut lab) = Lab::new("l4-flood", true) else { return };
    lab.hosts.add("g", &[]);
    lab.hosts.join("flood", [("lb", &["10.80.0.1/24"]), ("g", &["10.80.0.2/24"])]);
    lab.hosts.take_native(&lab.place, "g", "flood");
    lab.set_up("dr", &["10.77.0.100"]);
    let limited = "protection = { new-connections = \"100/s\" }";
    let config = lab.config(
        "[layer-4]\nattach = \"native\"\ninterfaces = [\"e0\", \"e1\", \"flood\"]\n",
        &(service("dr", "10.77.0.100:80", "dr", "", FRONT4)
            + &service("nat", "10.77.0.105:80", "nat", limited, BACK)
            + &service("snat", "10.77.0.101:80", "snat", limited, BACK)),
    );
    lab.start(&config);
    for (vip, servers, sees, port) in [
        ("10.77.0.100", ["s1", "s2"], "10.77.0.2", 80),
        ("10.77.0.105", ["b1", "b2"], "10.77.0.2", 8080),
        ("10.77.0.101", ["b1", "b2"], "10.78.0.1", 8080),
    ] {
        lab.serves("c", vip, &servers, sees, port);
    }
    let downloads = VIPS.map(|vip| lab.download(vip, &format!("flooded-{vip}")));
    let read = |host: &str, path: &str| lab.hosts.run(host, "cat", &[path]).out.trim().to_owned();
    let index = read("g", "/sys/class/net/flood/ifindex").parse().unwrap();
    let mac = read("lb", "/sys/class/net/flood/address");
    let generator = evenkeel_l4::Generator::load().unwrap();
    for vip in VIPS {
        let mut frame = Frame::tcp("30.0.0.1:1".parse().unwrap(), format!("{vip}:80").parse().unwrap(), SYN);
        frame.tcp_options = vec![2, 4, 5, 0xb4];
        let octets: Vec<u8> = mac.split(':').map(|o| u8::from_str_radix(o, 16).unwrap()).collect();
        frame.target_mac.copy_from_slice(&octets);
        let mut bytes = frame.bytes();
        bytes.resize(60, 0);
        // In parts, so that the machine's two cores are not all the flood's.
        for part in 0..10 {
            let until = (Duration::from_secs(10), 33_400);
            let sent = lab
                .hosts
                .inside("g", || generator.send(index, &bytes, [30, 0, 0, part].into(), None, until).unwrap());
            assert_eq!(sent, 33_400);
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(lab.answers(vip), "{vip} takes new clients under the flood");
    }
    for download in downloads {
        download.must_be_whole();
    }
    let status = lab.cli(&["status", "--json"]).out;
    let count = |reason: &str| -> u64 {
        let behind = status.split(&format!("\"{reason}\":")).nth(1).unwrap_or("0");
        behind.trim().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    // Nearly all of a million arrived: the rest of DR's and what the cables' queues dropped.
    assert!(count("new-flow") > 250_000, "{status}");
    assert!(count("cookie-sent") > 500_000, "{status}");
}

#[test]
fn checks_through_the_vip_find_servers_that_do_not_know_it() {
    let Some(mut lab) = Lab::new("l4-through", false) else { return };
    let check = "health-check = { type = \"http\", path = \"/\", through-vip = true, interval = \"300ms\", timeout = \"250ms\", fall = 2, rise = 1 }";
    let front6: &[(&str, &str)] = &[("s1", "fd77::11"), ("s2", "fd77::12")];
    let config = lab.config(
        "",
        &(service("dr", "10.77.0.100:80", "dr", check, FRONT4)
            + &service("dr6", "[fd77::100]:80", "dr", check, front6)
            + &service("tun", "10.77.0.102:80", "tun", check, FRONT4)
            + &service("tun6", "[fd77::102]:80", "tun", check, front6)
            + &service("gue", "10.77.0.103:80", "tun", &format!("tunnel = \"gue\"\n{check}"), FRONT4)
            + &service("gue6", "[fd77::103]:80", "tun", &format!("tunnel = \"gue\"\n{check}"), front6)),
    );
    lab.start(&config);
    let services = ["dr", "dr6", "tun", "tun6", "gue", "gue6"];
    let state = |lab: &Lab, service: &str, server: &str| {
        let status = lab.cli(&["status", service]).out;
        let line = status.lines().find(|l| l.trim_start().starts_with(&format!("{server} "))).unwrap_or("");
        line.split_whitespace().nth(1).unwrap_or("").to_owned()
    };
    // nginx runs and answers on the servers' own addresses, but nobody has the VIPs yet.
    for service in services {
        for server in ["s1", "s2"] {
            eventually(&format!("{service}/{server} is down"), Duration::from_secs(10), || {
                state(&lab, service, server) == "down"
            });
        }
    }
    lab.real_server("s1", "setup", "dr", &["10.77.0.100", "fd77::100"]);
    lab.real_server("s1", "setup", "tun", &["10.77.0.102", "fd77::102", "10.77.0.103", "fd77::103"]);
    for service in services {
        eventually(&format!("{service}/s1 is up"), Duration::from_secs(10), || {
            state(&lab, service, "s1") == "up"
        });
        assert_eq!(state(&lab, service, "s2"), "down", "{service}");
    }
    lab.serves("c", "10.77.0.100", &["s1"], "10.77.0.2", 80);
    assert_eq!(lab.real_server("s1", "undo", "dr", &["10.77.0.100", "fd77::100"]).code, 0);
    for service in ["dr", "dr6"] {
        eventually("without the VIP it is down", Duration::from_secs(10), || {
            state(&lab, service, "s1") == "down"
        });
    }
}

#[test]
fn the_gateway_floats_and_servers_get_out_through_it() {
    let Some(mut lab) = Lab::new("l4-gateway-ip", false) else { return };
    for (server, number) in [("b1", 11), ("b2", 12)] {
        lab.hosts.ip(server, &["route", "replace", "default", "via", "10.78.0.254"]);
        let seen = lab.hosts.run(server, "ip", &["addr"]).out;
        assert!(seen.contains(&format!("10.78.0.{number}")));
    }
    let keys = "[network]\nfloating-ips = [\"10.78.0.254/24\"]\n";
    let out = |lab: &Lab| lab.hosts.run("b1", "curl", &["-sS", "--max-time", "2", "http://10.77.0.11/"]).out;
    let config = lab.config(keys, &service("nat", "10.77.0.105:80", "nat", "", BACK));
    lab.start(&config);
    eventually("the floating gateway carries answers", Duration::from_secs(10), || {
        lab.answers("10.77.0.105")
    });
    assert_eq!(out(&lab), "", "without auto-nat the server does not get out");
    let with = lab.config(keys, &service("nat", "10.77.0.105:80", "nat", "auto-nat = true", BACK));
    let file = lab.place.write("auto.toml", with);
    assert_eq!(lab.cli(&["commit", &file.display().to_string()]).code, 0);
    // s1 says whom it saw: the load balancer.
    eventually("the server gets out", Duration::from_secs(10), || out(&lab) == "s1 10.77.0.1 80");
    assert!(lab.answers("10.77.0.105"), "and is still balanced");
    let named = "auto-nat = true\nauto-nat-addresses = [\"10.77.0.105\"]";
    let file = lab
        .place
        .write("named.toml", lab.config(keys, &service("nat", "10.77.0.105:80", "nat", named, BACK)));
    assert_eq!(lab.cli(&["commit", &file.display().to_string()]).code, 0);
    eventually("with the address that is named", Duration::from_secs(10), || {
        out(&lab) == "s1 10.77.0.105 80"
    });
    assert!(lab.answers("10.77.0.105"), "and is still balanced");
    lab.daemon.as_ref().unwrap().signal(Signal::INT);
    eventually("rules and addresses are gone", Duration::from_secs(10), || {
        !lab.hosts.run("lb", "nft", &["list", "tables"]).out.contains("evenkeel")
            && !lab.hosts.run("lb", "ip", &["addr"]).out.contains("10.78.0.254")
    });
}

#[test]
fn a_redirect_does_for_a_vip_and_removal_may_close() {
    let Some(mut lab) = Lab::new("l4-redirect", false) else { return };
    for server in ["s1", "s2"] {
        let program = env!("CARGO_BIN_EXE_evenkeel");
        let arguments = ["real-server", "setup", "--vip", "10.77.0.100", "--method", "redirect"];
        let done = lab.hosts.run(server, program, &arguments);
        assert_eq!(done.code, 0, "{}{}", done.out, done.err);
        assert!(!lab.hosts.run(server, "ip", &["addr"]).out.contains("10.77.0.100"));
    }
    let close = "on-removal = \"close\"";
    let config = lab.config("", &service("web", "10.77.0.100:80", "dr", close, FRONT4));
    lab.start(&config);
    lab.serves("c", "10.77.0.100", &["s1", "s2"], "10.77.0.2", 80);
    let mut downloads = [lab.download("10.77.0.100", "one"), lab.download("10.77.0.100", "two")];
    let less = lab
        .place
        .write("less.toml", lab.config("", &service("web", "10.77.0.100:80", "dr", close, &FRONT4[1..])));
    assert_eq!(lab.cli(&["commit", &less.display().to_string()]).code, 0);
    std::thread::sleep(Duration::from_millis(1500));
    let ended = downloads.iter_mut().filter_map(|d| d.process.has_ended().then_some(())).count();
    assert_eq!(ended, 1, "the removed server's connection is closed");
    for download in downloads {
        let whole = std::fs::read_to_string(&download.file).unwrap();
        if !whole.contains("reset") {
            download.must_be_whole();
        }
    }
}

/// One setup after the other is what a machine with several services sees.
#[test]
fn a_real_server_learns_and_forgets_its_vips_one_by_one() {
    let Some(mut lab) = Lab::new("l4-real-server", false) else { return };
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let by = |verb: &str, vip: &str, more: &[&str]| {
        lab.hosts.run("s1", program, &[&["real-server", verb, "--vip", vip], more].concat())
    };
    let (tun, redirect) = (["--mode", "tun"], ["--method", "redirect"]);
    let vips: [(&str, &[&str]); 6] = [
        ("10.77.0.100", &[]),
        ("10.77.0.101", &redirect),
        ("10.77.0.103", &redirect),
        ("fd77::103", &redirect),
        ("10.77.0.102", &tun),
        ("fd77::102", &tun),
    ];
    for (vip, how) in vips {
        let before = by("check", vip, how);
        assert!(before.code != 0 && before.out.contains("MISSING"), "{vip}: {}", before.out);
        let done = by("setup", vip, how);
        assert_eq!(done.code, 0, "{vip}: {}{}", done.out, done.err);
    }
    // The later ones took nothing from the earlier ones.
    let right = |vip: &str, how: &[&str]| by("check", vip, how).code == 0;
    assert!(vips.iter().all(|(vip, how)| right(vip, how)));
    for gone in ["10.77.0.101", "10.77.0.102"] {
        let how: &[&str] = if gone == "10.77.0.101" { &redirect } else { &tun };
        assert_eq!(by("undo", gone, how).code, 0);
        assert!(!right(gone, how), "{gone}");
    }
    let left = vips.iter().filter(|(vip, _)| !["10.77.0.101", "10.77.0.102"].contains(vip));
    for (vip, how) in left {
        assert!(right(vip, how), "{vip}: {}", by("check", vip, how).out);
    }
    // Seen from a client: what is left is served, by IP-in-IP as well.
    let config = lab.config(
        "",
        &(service("dr", "10.77.0.100:80", "dr", "", &FRONT4[..1])
            + &service("redirect", "10.77.0.103:80", "dr", "", &FRONT4[..1])
            + &service("tun6", "[fd77::102]:80", "tun", "", &[("s1", "fd77::11")])),
    );
    lab.start(&config);
    for (vip, sees) in
        [("10.77.0.100", "10.77.0.2"), ("10.77.0.103", "10.77.0.2"), ("[fd77::102]", "fd77::2")]
    {
        lab.serves("c", vip, &["s1"], sees, 80);
    }
    let undo = |vip: &str, how: &[&str]| {
        assert_eq!(
            lab.hosts.run("s1", program, &[&["real-server", "undo", "--vip", vip], how].concat()).code,
            0
        )
    };
    vips.iter().for_each(|(vip, how)| undo(vip, how));
    let tables = lab.hosts.run("s1", "nft", &["list", "tables"]).out;
    let link = lab.hosts.run("s1", "ip", &["link", "show", "e0"]).out;
    assert!(!tables.contains("evenkeel") && !link.contains("xdp"), "{tables}{link}");
    assert_eq!(lab.hosts.run("s1", "sysctl", &["-n", "net.ipv4.conf.all.arp_ignore"]).out.trim(), "0");
}

/// What the wire shows: MACs, TTL and checksums as another program reads them.
#[test]
fn a_capture_finds_macs_ttl_and_checksums_right() {
    let Some(mut lab) = Lab::new("l4-capture", false) else { return };
    lab.set_up("dr", &["10.77.0.100", "fd77::100"]);
    lab.set_up("tun", &["10.77.0.102"]);
    // Checks come from this machine with a TTL of their own.
    let none = "health-check = { type = \"none\" }";
    let front6: &[(&str, &str)] = &[("s1", "fd77::11")];
    let back6: &[(&str, &str)] = &[("b1", "[fd78::11]:8080")];
    let config = lab.config(
        "",
        &(service("dr", "10.77.0.100:80", "dr", none, &FRONT4[..1])
            + &service("dr6", "[fd77::100]:80", "dr", none, front6)
            + &service("tun", "10.77.0.102:80", "tun", none, &FRONT4[..1])
            + &service("nat", "10.77.0.105:80", "nat", none, &BACK[..1])
            + &service("nat6", "[fd77::105]:80", "nat", none, back6)
            + &service("snat", "10.77.0.101:80", "snat", none, &BACK[..1])),
    );
    lab.start(&config);
    let mac = |host: &str, end: &str| {
        let path = format!("/sys/class/net/{end}/address");
        lab.hosts.run(host, "cat", &[&path]).out.trim().to_owned()
    };
    let vips = ["10.77.0.100", "[fd77::100]", "10.77.0.102", "10.77.0.105", "[fd77::105]", "10.77.0.101"];
    vips.iter().for_each(|vip| eventually(vip, Duration::from_secs(10), || lab.answers(vip)));
    let captures: Vec<(&str, Process, std::path::PathBuf)> = ["s1", "b1", "c"]
        .into_iter()
        .map(|host| {
            let file = lab.place.file(&format!("capture-{host}"));
            // The receiving side alone: what a host sends, its driver may still complete.
            let arguments = ["-i", "e0", "-nevvv", "-l", "-Q", "in", "tcp or ip proto 4"];
            (host, lab.hosts.start(host, "tcpdump", &arguments, &file), file)
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    for vip in vips {
        assert!(lab.answers(vip), "{vip}");
    }
    std::thread::sleep(Duration::from_millis(500));
    for (host, process, file) in captures {
        process.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(300));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.matches("cksum").count() > 10 && text.contains("(correct)"), "{host}: {text}");
        assert!(!text.contains("incorrect") && !text.contains("bad cksum"), "{host}: {text}");
        // From the load balancer's MAC to this host's; a client's TTL of 64 is one less.
        let from = mac("lb", if host == "b1" { "e1" } else { "e0" });
        let balanced = format!("{from} > {}", mac(host, "e0"));
        assert!(text.contains(&balanced), "{host}: {balanced}\n{text}");
        let lines = text.lines().filter(|l| l.contains(&balanced));
        assert!(lines.clone().all(|l| !l.contains("ttl 64") || l.contains("proto IPIP")), "{host}: {text}");
        assert!(lines.clone().any(|l| l.contains("ttl 63") || l.contains("hlim 63")), "{host}: {text}");
    }
}
