//! What SNMP sees: a private snmpd with the program as its sub-agent, read by snmpwalk, told to snmptrapd.

use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Place, Process, Scripted, eventually, get, require};

use crate::{service, start};

const ROOT: &str = "1.3.6.1.4.1.8072.9999.9999.7133";

/// Of the snmpd that sends traps of v3, with the secret of both users.
const ENGINE: &str = "0x8000000001020304";
const PASSWORD: &str = "a-long-password";

/// An snmpd of its own: its socket, port and state.
fn snmpd(place: &Place) -> Process {
    let socket = place.file("agentx");
    let config = format!(
        "agentAddress udp:{agent}\nrocommunity public\nmaster agentx\nagentXSocket {}\nagentXTimeout 5\ntrap2sink {trap} public\n\
         trapsess -v 3 -e {ENGINE} -l authPriv -u watcher -a SHA-256 -A {PASSWORD} -x AES -X {PASSWORD} {trap}\n\
         trapsess -Ci -v 3 -l authPriv -u asker -a SHA-256 -A {PASSWORD} -x AES -X {PASSWORD} {trap}\n",
        socket.display(),
        agent = place.at(1161),
        trap = place.at(1162),
    );
    let file = place.write("snmpd.conf", config);
    let process = Process::start(
        Command::new("snmpd")
            .env("SNMP_PERSISTENT_DIR", place.file("snmpd-state"))
            .args(["-f", "-C", "-r", "-Lf"])
            .arg(place.file("snmpd.log"))
            .arg("-c")
            .arg(file)
            .arg("-p")
            .arg(place.file("snmpd.pid")),
    );
    eventually("snmpd waits for sub-agents", Duration::from_secs(20), || socket.exists());
    process
}

fn walk(place: &Place, from: &str) -> String {
    let output = Command::new("snmpwalk")
        .args(["-v2c", "-c", "public", "-On", "-Cc", "-t", "5", "-m", "", "-M", ""])
        .arg(format!("udp:{}", place.at(1161)))
        .arg(format!("{ROOT}{from}"))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn config(place: &Place) -> String {
    let agentx = place.file("agentx").display().to_string();
    let check = "health-check = { type = \"tcp\", interval = \"300ms\", fall = 1, rise = 1 }";
    format!(
        "[snmp]\nagentx = \"{agentx}\"\n[[alerts.snmp]]\nagentx = \"{agentx}\"\nkinds = [\"server-down\", \"service-down\"]\n{}",
        service("web", "http", place.at(8080), &[place.at(9001), place.at(9)], check),
    )
}

#[test]
fn snmp_sees_services_and_is_told_of_what_happens() {
    if !require(&["snmpd", "snmpwalk", "snmptrapd"]) {
        return;
    }
    let place = Place::new("snmp");
    // Traps of v3 are told by the engine that sends them, informs by the one that is told.
    let users = format!(
        "disableAuthorization yes\ncreateUser -e {ENGINE} watcher SHA-256 {PASSWORD} AES {PASSWORD}\ncreateUser asker SHA-256 {PASSWORD} AES {PASSWORD}\nformat2 %P|%N\\n%v\\n\n"
    );
    let trap_config = place.write("snmptrapd.conf", users);
    let traps = Process::start(
        Command::new("snmptrapd")
            .env("SNMP_PERSISTENT_DIR", place.file("snmptrapd-state"))
            .args(["-f", "-C", "-On", "-m", "", "-M", "", "-Lf"])
            .arg(place.file("traps.log"))
            .arg("-c")
            .arg(trap_config)
            .arg("-p")
            .arg(place.file("snmptrapd.pid"))
            .arg(format!("udp:{}", place.at(1162))),
    );
    let agent = snmpd(&place);
    let server = Scripted::named(place.at(9001), "hello");
    let evenkeel = start(&place, &config(&place));
    let long = Duration::from_secs(30);
    eventually("the service is seen", long, || walk(&place, ".1.3.1.3").contains("\"web\""));
    // State, requests of 64 bits, servers.
    eventually("one of two servers is up", long, || {
        walk(&place, ".1.3.1.7").contains("INTEGER: 2") && walk(&place, ".1.4.1.6").contains("INTEGER: 2")
    });
    let all = walk(&place, "");
    assert!(all.contains("Counter64: 0") && all.contains(&place.at(9).to_string()), "{all}");
    assert!(all.contains(env!("CARGO_PKG_VERSION")), "{all}");
    for _ in 0..3 {
        assert_eq!(get(place.at(8080), "/").status, 200);
    }
    eventually("requests are counted", long, || walk(&place, ".1.3.1.12").contains("Counter64: 3"));
    // Nothing can be set.
    let first = walk(&place, ".1.3.1.3");
    let name = first.split_whitespace().next().unwrap().to_owned();
    let set = Command::new("snmpset")
        .args(["-v2c", "-c", "public", "-m", "", "-M", "", "-t", "5"])
        .arg(format!("udp:{}", place.at(1161)))
        .args([name.as_str(), "s", "other"])
        .output()
        .unwrap();
    assert!(!set.status.success());
    let told = || std::fs::read_to_string(place.file("traps.log")).unwrap_or_default();
    eventually("a server that is down is told of", long, || {
        told().contains(&format!(".{ROOT}.0.1")) && told().contains("web/s2 is down")
    });
    eventually("it is told by v3 as well, signed and encrypted, as a trap and as an inform", long, || {
        let told = told();
        let is = |what: &str, user: &str| {
            told.lines().any(|line| line.contains(what) && line.contains(user) && line.contains("v3"))
        };
        is("TRAP", "watcher") && is("INFORM", "asker")
    });
    let tested = evenkeel.json(&["test-alerts"]);
    assert_eq!(tested["receivers"][0]["sent"], true, "{tested}");
    eventually("a test is told of", long, || told().contains(&format!(".{ROOT}.0.15")));
    // It goes, and it is said; it comes back, and it is seen again.
    drop(agent);
    let trouble = || evenkeel.json(&["status"])["snmp"].as_str().unwrap_or("").to_owned();
    eventually("its absence is known", long, || trouble().contains("agentx"));
    let doctor = evenkeel.cli(&["doctor"]);
    assert!(doctor.out.contains("SNMP"), "{doctor:?}");
    let _ = std::fs::remove_file(place.file("agentx"));
    let again = snmpd(&place);
    eventually("it is seen again", long, || walk(&place, ".1.3.1.3").contains("\"web\""));
    eventually("nothing is wrong any more", long, || trouble().is_empty());
    drop((again, traps, server));
}

/// The virtual routers of a pair, as VRRPV3-MIB has them.
#[test]
fn snmp_sees_the_virtual_routers_of_a_pair() {
    if !require(&["snmpd", "snmpwalk"]) {
        return;
    }
    let Some(mut lab) = crate::pair::lab("snmp-vrrp") else { return };
    let folder = lab.place.file("snmp");
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("agentx").display().to_string();
    let config = format!(
        "agentAddress udp:127.0.0.1:1161\nrocommunity public\nmaster agentx\nagentXSocket {socket}\n"
    );
    let file = lab.place.write("snmp/snmpd.conf", config).display().to_string();
    let state = format!("SNMP_PERSISTENT_DIR={}", folder.display());
    lab.hosts.ip("lb1", &["link", "set", "lo", "up"]);
    let _agent = lab.hosts.start(
        "lb1",
        "env",
        &[&state, "snmpd", "-f", "-C", "-r", "-Lo", "-c", &file, "-p", &format!("{}/pid", folder.display())],
        &folder.join("log"),
    );
    eventually("snmpd waits for sub-agents", Duration::from_secs(20), || folder.join("agentx").exists());
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    let shared = format!("[snmp]\nagentx = \"{socket}\"\n")
        + &crate::layer4::service("web", "10.77.0.100:80", "http", check, crate::pair::FRONT);
    lab.start_pair("", &shared);
    let walk = || {
        let arguments = ["-v2c", "-c", "public", "-On", "-Cc", "-t", "5", "-m", "", "-M", ""];
        let place = ["udp:127.0.0.1:1161", "1.3.6.1.2.1.207"];
        lab.hosts.run("lb1", "snmpwalk", &[&arguments[..], &place].concat()).out
    };
    let shown = lab.hosts.run("lb1", "cat", &["/sys/class/net/e0/ifindex"]).out;
    let row = format!("{}.51.1", shown.trim());
    let has = |text: &str, column: &str, value: &str| {
        text.lines().any(|line| {
            line.starts_with(&format!(".1.3.6.1.2.1.207.1.1.{column}.{row}")) && line.contains(value)
        })
    };
    eventually("the router is the master", Duration::from_secs(30), || has(&walk(), "1.1.6", "INTEGER: 3"));
    let all = walk();
    for (column, value) in [
        // The master's and its own address are 10.77.0.1.
        ("1.1.3", "0A 4D 00 01"),
        ("1.1.4", "0A 4D 00 01"),
        ("1.1.8", "INTEGER: 1"),
        ("1.1.13", "INTEGER: 1"),
        ("2.1.2", ".4.10.77.0.100 = INTEGER: 1"),
    ] {
        assert!(has(&all, column, value), "{column} {value}\n{all}");
    }
    assert_eq!(lab.cli(0, &["pair", "switch-over"]).code, 0);
    eventually("the router is a backup", Duration::from_secs(30), || has(&walk(), "1.1.6", "INTEGER: 2"));
}

#[test]
fn what_is_no_address_of_an_agent_is_said() {
    let place = Place::new("snmp-wrong");
    let evenkeel = start(&place, &service("web", "tcp", place.at(8080), &[place.at(9)], ""));
    for text in ["[snmp]\nagentx = \"somewhere\"\n", "[[alerts.snmp]]\nagentx = \"udp:1:2\"\n"] {
        let file = place.write("bad.toml", text);
        let output = evenkeel.cli(&["check", &file.display().to_string()]);
        let said = format!("{}{}", output.out, output.err);
        assert!(output.code == 78 && said.contains("/var/agentx/master"), "{said}");
    }
}
