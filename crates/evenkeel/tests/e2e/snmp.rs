//! What SNMP sees: a private snmpd with the program as its sub-agent, read by snmpwalk, told to snmptrapd.

use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Place, Process, Scripted, eventually, get, require};

use crate::{service, start};

const ROOT: &str = "1.3.6.1.4.1.8072.9999.9999.7133";

/// An snmpd of its own: its socket, port and state.
fn snmpd(place: &Place) -> Process {
    let socket = place.file("agentx");
    let config = format!(
        "agentAddress udp:{agent}\nrocommunity public\nmaster agentx\nagentXSocket {}\nagentXTimeout 5\ntrap2sink {trap} public\n",
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
    let trap_config = place.write("snmptrapd.conf", "disableAuthorization yes\n");
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
