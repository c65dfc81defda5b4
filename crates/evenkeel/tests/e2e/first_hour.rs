//! The first hour: two fresh machines, a browser, an address that nobody had, a power cut.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Hosts, Place, Process, eventually, has_program, require, skip};

const LONG: Duration = Duration::from_secs(120);

fn ui() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui")
}

/// A fresh node, and the code of its first start.
fn fresh(hosts: &Hosts, place: &Place, host: &str, address: &str) -> (Process, String) {
    let folder = place.folder().join(host);
    std::fs::create_dir_all(&folder).unwrap();
    let shown = folder.display();
    let config = format!(
        "[admin]\nsocket = \"{shown}/admin.sock\"\nlisten = [\"{address}:9443\"]\n[state]\ndirectory = \"{shown}/state\"\n"
    );
    let file = folder.join("evenkeel.toml");
    std::fs::write(&file, config).unwrap();
    let log = folder.join("daemon.log");
    let arguments = ["run", "--config", &file.display().to_string()];
    let daemon = hosts.start(host, env!("CARGO_BIN_EXE_evenkeel"), &arguments, &log);
    let mut code = String::new();
    eventually("a code is printed", LONG, || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let found = text.split_once("with the code ").and_then(|(_, rest)| rest.get(..23));
        code = found.unwrap_or_default().to_owned();
        !code.is_empty()
    });
    (daemon, code)
}

#[test]
fn two_machines_serve_after_an_hour_in_the_browser() {
    if !require(&["ip", "ethtool", "nginx"]) {
        return;
    }
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|p| has_program(p));
    let built =
        ui().join("dist/index.html.gz").exists() && ui().join("node_modules/playwright-core").exists();
    let (Some(chromium), true, true) = (chromium, built, has_program("node")) else {
        return skip("chromium, node and `make ui`");
    };
    let Some(mut hosts) = Hosts::new() else { return };
    let place = Place::new("first-hour");
    for (host, address) in [
        ("lb1", "10.77.0.1/24"),
        ("lb2", "10.77.0.2/24"),
        ("c", "10.77.0.9/24"),
        ("s1", "10.77.0.11/24"),
        ("s2", "10.77.0.12/24"),
    ] {
        hosts.add(host, &[("front", &[address])]);
    }
    let _servers = ["s1", "s2"].map(|server| hosts.nginx(&place, server, &[80]));
    let (mut first, one) = fresh(&hosts, &place, "lb1", "10.77.0.1");
    let (_second, two) = fresh(&hosts, &place, "lb2", "10.77.0.2");
    let path = Command::new("sh").args(["-c", &format!("command -v {chromium}")]).output().unwrap();
    let given = serde_json::json!({
        "first": "https://10.77.0.1:9443",
        "second": "https://10.77.0.2:9443",
        "codes": [one, two],
        "peer": "10.77.0.2",
        "vip": "10.77.0.50",
        "servers": ["10.77.0.11", "10.77.0.12"],
        "folder": place.folder(),
        "chromium": String::from_utf8_lossy(&path.stdout).trim(),
    });
    let log = place.file("hour.log");
    let out = std::fs::File::create(&log).unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &hosts.name("c"), "node", "test/hour.mjs", &given.to_string()]);
    command.current_dir(ui()).stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
    let mut walk = Process::start(&mut command);
    let said = || {
        let node = |host: &str| {
            std::fs::read_to_string(place.folder().join(host).join("daemon.log")).unwrap_or_default()
        };
        format!("{}\n{}\n{}", std::fs::read_to_string(&log).unwrap_or_default(), node("lb1"), node("lb2"))
    };
    let mut ended = false;
    eventually("the power is to be cut", Duration::from_secs(300), || {
        ended = walk.has_ended();
        ended || place.file("cut").exists()
    });
    assert!(!ended, "{}", said());
    hosts.ip("switch", &["link", "set", "lb10", "down"]);
    first.kill();
    std::fs::write(place.file("cut.done"), "").unwrap();
    assert_eq!(walk.wait(), Some(0), "{}", said());
}
