//! VIPs and floating addresses of a single node: placed, asked for, kept and taken away by the program.

use std::time::Duration;

use evenkeel_testbed::eventually;
use rustix::process::Signal;

use crate::layer4::Lab;

const LONG: Duration = Duration::from_secs(30);

fn web(vips: &[&str]) -> String {
    let vips: Vec<String> = vips.iter().map(|v| format!("\"{v}\"")).collect();
    format!(
        "[[virtual-service]]\nname = \"web\"\nvip = [{}]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\n[[virtual-service.real-server]]\nname = \"s1\"\naddress = \"10.77.0.11:80\"\n",
        vips.join(", ")
    )
}

impl Lab {
    fn has(&self, address: &str) -> bool {
        self.hosts.run("lb", "ip", &["addr"]).out.contains(&format!(" {address} "))
    }

    fn try_commit(&self, verb: &str, keys: &str, services: &str) -> evenkeel_testbed::Output {
        let file = self.place.write("next.toml", self.config(keys, services));
        self.cli(&[verb, &file.display().to_string()])
    }

    fn answers_at(&self, host: &str) -> bool {
        self.curl("c", &format!("http://{host}/"), &[]).out.starts_with("s1 ")
    }
}

#[test]
fn a_vip_that_nobody_had_is_placed_and_goes_with_its_service() {
    let Some(mut lab) = Lab::new("vip-placed", false) else { return };
    let none = lab.config("", "");
    lab.start(&none);
    let vips = ["10.77.0.50:80", "[fd77::50]:80", "10.77.0.1:8088"];
    let planned = lab.try_commit("plan", "", &web(&vips));
    assert_eq!(planned.code, 0, "{}", planned.err);
    assert!(planned.out.contains("address 10.77.0.50/32: is put on e0"), "{}", planned.out);
    assert!(planned.out.contains("address fd77::50/128: is put on e0"), "{}", planned.out);
    assert!(!planned.out.contains("address 10.77.0.1"), "the machine's own is no news: {}", planned.out);
    assert!(!lab.has("10.77.0.50/32"), "a plan changes nothing");
    let done = lab.try_commit("commit", "", &web(&vips));
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    assert!(lab.has("10.77.0.50/32") && lab.has("fd77::50/128"));
    for at in ["10.77.0.50", "[fd77::50]", "10.77.0.1:8088"] {
        eventually(at, LONG, || lab.answers_at(at));
    }
    // One whose network is nowhere here is refused with what to do, by a plan and by a commit.
    for verb in ["plan", "commit"] {
        let refused = lab.try_commit(verb, "", &web(&["192.0.2.5:80"]));
        assert_ne!(refused.code, 0, "{}", refused.out);
        assert!(
            refused.err.contains("10.77.0.1/24 on e0") && refused.err.contains("floating-ips"),
            "{}",
            refused.err
        );
    }
    // Nobody has these for himself; the last one only here, since .255 is the end of e0's network.
    for vip in ["224.0.0.5", "255.255.255.255", "[ff02::5]", "[fe80::5]", "10.77.0.255", "10.77.0.0"] {
        for verb in ["plan", "commit"] {
            let refused = lab.try_commit(verb, "", &web(&["10.77.0.50:80", &format!("{vip}:80")]));
            assert_ne!(refused.code, 0, "{verb} of {vip}: {}", refused.out);
            assert!(refused.err.contains(vip.trim_matches(['[', ']'])), "{}", refused.err);
        }
    }
    for verb in ["plan", "commit"] {
        let refused = lab.try_commit(verb, "[network]\nown-vips = false\n", &web(&["10.77.0.61:80"]));
        assert!(refused.code != 0 && refused.err.contains("own-vips = false"), "{verb}: {refused:?}");
    }
    // One that another machine answers for is not taken from it, which a plan says, too.
    let planned = lab.try_commit("plan", "", &web(&["10.77.0.50:80", "10.77.0.12:80"]));
    assert!(planned.code != 0 && planned.err.contains("10.77.0.12 is in use"), "{planned:?}");
    let taken = lab.try_commit("commit", "", &web(&["10.77.0.50:80", "10.77.0.12:80", "[fd77::12]:80"]));
    assert!(taken.code != 0 && taken.err.contains("10.77.0.12 is in use"), "{taken:?}");
    assert!(!lab.has("10.77.0.12/32") && !lab.has("fd77::12/128"));
    let taken = lab.try_commit("commit", "", &web(&["10.77.0.50:80", "10.77.0.51:80", "[fd77::12]:80"]));
    assert!(taken.code != 0 && taken.err.contains("fd77::12 is in use"), "{taken:?}");
    assert!(!lab.has("10.77.0.51/32"), "what was refused leaves nothing");
    // A later part refuses: the address goes again.
    let bad = format!(
        "{}\n[[virtual-service]]\nname = \"more\"\nvip = [\"10.77.0.1:22222\"]\nmode = \"tcp\"\n[[virtual-service.real-server]]\nname = \"s1\"\naddress = \"10.77.0.11:80\"\n",
        web(&["10.77.0.52:80"])
    );
    let listens = "require('net').createServer().listen(22222, '10.77.0.1')";
    let holds = lab.hosts.start("lb", "node", &["-e", listens], &lab.place.file("node.log"));
    eventually("the port is taken", LONG, || lab.hosts.run("lb", "ss", &["-tln"]).out.contains(":22222"));
    let refused = lab.try_commit("commit", "", &bad);
    assert!(refused.code != 0 && !lab.has("10.77.0.52/32"), "{refused:?}");
    drop(holds);
    assert!(lab.answers_at("10.77.0.50"), "all this did not hurt what is served");
    // Floating addresses need no service, and go when they are not wanted.
    let floating = "[network]\nfloating-ips = [\"10.78.0.254/24\"]\n";
    let done = lab.try_commit("commit", floating, &web(&["10.77.0.50:80"]));
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(lab.has("10.78.0.254/24") && lab.has("10.77.0.50/32"));
    assert!(lab.has("10.77.0.1/24"), "the machine's own stays");
    eventually("the other VIP goes", LONG, || !lab.has("fd77::50/128"));
    let done = lab.try_commit("commit", "", &web(&["10.77.0.1:8088"]));
    assert_eq!(done.code, 0, "{}", done.err);
    eventually("all are gone", LONG, || !lab.has("10.78.0.254/24") && !lab.has("10.77.0.50/32"));
    assert!(lab.has("10.77.0.1/24"), "the machine's own stays");
}

#[test]
fn a_crash_loses_no_address_and_steals_none() {
    let Some(mut lab) = Lab::new("vip-crash", false) else { return };
    // The administrator's own, of the same kind as a VIP.
    lab.hosts.ip("lb", &["addr", "add", "10.77.0.61/32", "dev", "e0"]);
    let config = lab.config("", &web(&["10.77.0.60:80", "10.77.0.61:80"]));
    lab.start(&config);
    eventually("it is served", LONG, || lab.answers_at("10.77.0.60") && lab.answers_at("10.77.0.61"));
    lab.daemon.take().unwrap().kill();
    assert!(lab.has("10.77.0.60/32"), "the kernel has it");
    lab.start(&config);
    eventually("the next process serves it", LONG, || lab.answers_at("10.77.0.60"));
    // A crash again, and somebody writes another file meanwhile: what nobody wants is taken away, and what
    // the machine has itself stays.
    lab.daemon.take().unwrap().kill();
    let other = lab.config("", &web(&["10.77.0.1:8088"]));
    lab.start(&other);
    eventually("it is gone", LONG, || !lab.has("10.77.0.60/32"));
    assert!(lab.has("10.77.0.61/32"), "the administrator's own stays");
    // An address that an earlier note claims, and that the administrator has added since.
    let done = lab.try_commit("commit", "", &web(&["10.77.0.60:80"]));
    assert_eq!(done.code, 0, "{}", done.err);
    lab.daemon.take().unwrap().kill();
    lab.hosts.ip("lb", &["addr", "del", "10.77.0.60/32", "dev", "e0"]);
    lab.hosts.ip("lb", &["addr", "add", "10.77.0.60/32", "dev", "e0"]);
    lab.start(&other);
    eventually("it serves", LONG, || lab.answers_at("10.77.0.1:8088"));
    assert!(lab.has("10.77.0.60/32"), "it is the administrator's now");
}

#[test]
fn a_stop_keeps_the_addresses_unless_it_is_told_otherwise() {
    let Some(mut lab) = Lab::new("vip-stop", false) else { return };
    for (keys, stays) in [("", true), ("[network]\nat-stop = \"remove\"\n", false)] {
        let config = lab.config(keys, &web(&["10.77.0.70:80"]));
        lab.start(&config);
        eventually("it is served", LONG, || lab.answers_at("10.77.0.70"));
        let mut daemon = lab.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        eventually("it stops", LONG, || daemon.has_ended());
        assert_eq!(lab.has("10.77.0.70/32"), stays, "{keys}");
    }
}

#[test]
fn connections_outlive_the_wish_for_their_address() {
    let Some(mut lab) = Lab::new("vip-lingers", false) else { return };
    let both = lab.config("", &web(&["10.77.0.80:80", "10.77.0.1:8088"]));
    lab.start(&both);
    eventually("it is served", LONG, || lab.answers_at("10.77.0.80"));
    let log = lab.place.file("slow.log");
    let slow = ["-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "http://10.77.0.80/slow"];
    let mut download = lab.hosts.start("c", "curl", &slow, &log);
    let connected =
        || lab.hosts.run("lb", "ss", &["-tn", "state", "established"]).out.contains("10.77.0.80:80");
    eventually("the download runs", LONG, connected);
    let done = lab.try_commit("commit", "", &web(&["10.77.0.1:8088"]));
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(lab.has("10.77.0.80/32"), "it is in use");
    eventually("the download ends", LONG, || download.has_ended());
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.starts_with("200 "), "{told}");
    eventually("then it goes", LONG, || !lab.has("10.77.0.80/32"));
}

#[test]
fn a_start_serves_the_rest_while_an_address_is_missing() {
    let Some(mut lab) = Lab::new("vip-missing", false) else { return };
    let config = lab.config("", &web(&["10.77.0.90:80", "10.77.0.12:80", "192.0.2.5:80"]));
    lab.start(&config);
    eventually("it is served", LONG, || lab.answers_at("10.77.0.90"));
    assert!(!lab.has("10.77.0.12/32"), "another machine answers for it");
    let log = || std::fs::read_to_string(lab.place.file("daemon.log")).unwrap();
    assert!(
        log().contains("10.77.0.12 is in use") && log().contains("192.0.2.5 is on no interface"),
        "{}",
        log()
    );
    // The other machine leaves, the network comes.
    lab.hosts.ip("s2", &["addr", "del", "10.77.0.12/24", "dev", "e0"]);
    lab.hosts.ip("lb", &["addr", "add", "192.0.2.1/24", "dev", "e1"]);
    eventually("they are placed", LONG, || lab.has("10.77.0.12/32") && lab.has("192.0.2.5/32"));
    // Somebody takes one away by mistake.
    lab.hosts.ip("lb", &["addr", "del", "10.77.0.90/32", "dev", "e0"]);
    eventually("it comes back", LONG, || lab.answers_at("10.77.0.90"));
}
