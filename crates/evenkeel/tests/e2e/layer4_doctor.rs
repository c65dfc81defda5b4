//! Trouble that is staged, and found by `evenkeel doctor`.

use std::time::Duration;

use evenkeel_testbed::eventually;

use super::layer4::{FRONT4, FRONT6, Lab, service};

impl Lab {
    /// What the doctor says; it runs on the load balancer.
    fn doctor(&self) -> String {
        let socket = self.place.file("admin.sock").display().to_string();
        let output = self.hosts.run("lb", env!("CARGO_BIN_EXE_evenkeel"), &["doctor", "--socket", &socket]);
        output.out + &output.err
    }

    fn finds(&self, trouble: &[&str]) {
        let mut said = String::new();
        eventually(&format!("{trouble:?}"), Duration::from_secs(15), || {
            said = self.doctor();
            trouble.iter().all(|t| said.contains(t))
        });
    }
}

#[test]
fn doctor_finds_nothing_where_all_is_well() {
    let Some(mut lab) = Lab::new("l4-well", false) else { return };
    lab.set_up("dr", &["10.77.0.100"]);
    let config = lab.config("", &service("web", "10.77.0.100:80", "dr", "", FRONT4));
    lab.start(&config);
    lab.serves("c", "10.77.0.100", &["s1", "s2"], "10.77.0.2", 80);
    lab.finds(&["nothing is wrong that can be seen from here"]);
    for server in ["s1", "s2"] {
        assert_eq!(lab.real_server(server, "check", "dr", &["10.77.0.100"]).code, 0);
        assert_eq!(lab.real_server(server, "undo", "dr", &["10.77.0.100"]).code, 0);
        let check = lab.real_server(server, "check", "dr", &["10.77.0.100"]);
        assert_eq!(check.code, 1);
        assert!(check.out.contains("MISSING 10.77.0.100 is on the loopback interface"), "{}", check.out);
    }
}

#[test]
fn doctor_finds_servers_that_answer_arp_or_know_no_vip() {
    let Some(mut lab) = Lab::new("l4-arp", false) else { return };
    // One has the VIP on its network card, the other not at all.
    lab.hosts.ip("s1", &["addr", "add", "10.77.0.100/32", "dev", "e0"]);
    lab.hosts.ip("s2", &["addr", "add", "fd77::100/128", "dev", "e0", "nodad"]);
    let config = lab.config(
        "",
        &[
            service("web", "10.77.0.100:80", "dr", "", FRONT4),
            service("six", "[fd77::100]:80", "dr", "", FRONT6),
            service("plain", "10.77.0.140:80", "tcp", "", FRONT4),
        ]
        .concat(),
    );
    lab.start(&config);
    lab.finds(&[
        "the real server s1 (10.77.0.11, ",
        "answers ARP for the VIP 10.77.0.100",
        "real-server setup --mode dr",
    ]);
    lab.finds(&["the real server s2 (fd77::12, ", "answers neighbour discovery for the VIP fd77::100"]);
    let told = lab.cli(&["who-has", "10.77.0.100"]);
    assert!(told.out.contains("10.77.0.11"), "{told:?}");
    let told = lab.cli(&["who-has", "10.77.0.55"]);
    assert!(told.out.contains("no other machine"), "{told:?}");
    let told = lab.cli(&["who-has", "192.0.2.55"]);
    assert!(told.code != 0 && told.err.contains("is in no network"), "{told:?}");
    // Whatever a service's mode is: a machine with its VIP takes its clients.
    lab.hosts.ip("c", &["addr", "add", "10.77.0.140/24", "dev", "e0"]);
    lab.finds(&[
        "ERROR   plain: ",
        "answers ARP for the VIP 10.77.0.140",
        "take 10.77.0.140 off that machine",
    ]);
    lab.hosts.ip("c", &["addr", "del", "10.77.0.140/24", "dev", "e0"]);
    let check = lab.real_server("s1", "check", "dr", &["10.77.0.100"]);
    assert!(check.out.contains("10.77.0.100 is on e0"), "{}", check.out);
    lab.hosts.ip("s1", &["addr", "del", "10.77.0.100/32", "dev", "e0"]);
    for _ in 0..8 {
        lab.curl("c", "http://10.77.0.100/", &["--max-time", "0.3"]);
    }
    lab.finds(&["web/s1: ", "web/s2: ", "1 client sent", "real-server check --mode dr --vip 10.77.0.100"]);
    lab.hosts.ip("lb", &["link", "set", "e0", "down"]);
    lab.finds(&["the interface is down: clients do not reach 10.77.0.", "ip link set e0 up"]);
}

#[test]
fn doctor_finds_a_missing_gateway_and_own_addresses_and_offloads() {
    let Some(mut lab) = Lab::new("l4-gateway", false) else { return };
    lab.hosts.ip("b1", &["route", "del", "default"]);
    lab.hosts.ip("b2", &["route", "del", "default"]);
    lab.hosts.run("lb", "ethtool", &["-K", "e1", "gro", "on"]);
    let back: &[(&str, &str)] =
        &[("b1", "10.78.0.11:8080"), ("b2", "10.78.0.12:8080"), ("nobody", "10.78.0.99:8080")];
    let config = lab.config(
        "",
        &(service("web", "10.77.0.105:80", "nat", "", back)
            + &service("own", "10.77.0.1:8000", "nat", "", back)
            + &service("tun", "10.77.0.102:80", "tun", "", FRONT4)),
    );
    lab.start(&config);
    for _ in 0..8 {
        lab.curl("c", "http://10.77.0.105/", &["--max-time", "0.3"]);
    }
    lab.finds(&[
        "web/b1: ",
        "the server's answers do not come back through this machine",
        "default gateway must be this machine",
        "10.78.0.99: its MAC address is not known",
        "the VIP 10.77.0.1 is the own address of e0",
        "generic-receive-offload is on",
        "ethtool -K e1 gro off",
        "do not fit into the tunnel",
    ]);
}
