//! The first hour: two fresh machines, a browser, an address that nobody had, a power cut. Once with the program
//! as it is built, once with the package in two clean Debians.

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
    (daemon, code_of_first_start(&log))
}

fn code_of_first_start(log: &Path) -> String {
    let mut code = String::new();
    eventually("a code is printed", LONG, || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let found = text.split_once("with the code ").and_then(|(_, rest)| rest.get(..23));
        code = found.unwrap_or_default().to_owned();
        !code.is_empty()
    });
    code
}

/// A clean Debian with the package in it; `None` where there is no mirror.
fn debian(place: &Place) -> Option<PathBuf> {
    let root = place.file("root");
    let made = Command::new("debootstrap")
        .args(["--variant=minbase", "--include", "libelf1,iproute2,nftables,ethtool", "bookworm"])
        .arg(&root)
        .arg("http://deb.debian.org/debian")
        .output()
        .unwrap();
    if !made.status.success() {
        skip("Debian's mirror, for debootstrap");
        return None;
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let packed = Command::new("sh")
        .arg(project.join("scripts/deb.sh"))
        .arg(place.folder())
        .arg(env!("CARGO_BIN_EXE_evenkeel"))
        .env("DPKG_DEB_COMPRESSOR_TYPE", "none")
        .output()
        .unwrap();
    let package = String::from_utf8_lossy(&packed.stdout).trim().to_owned();
    std::fs::copy(&package, root.join("evenkeel.deb")).unwrap();
    let script = "mount -t proc proc /proc; dpkg -i /evenkeel.deb";
    let installed = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "chroot"])
        .arg(&root)
        .args(["sh", "-ec", script])
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    Some(root)
}

/// The node as its package starts it: the unit's command, its user, its capabilities, the packaged
/// configuration, in which the administrator has written where the web UI listens.
fn installed(hosts: &Hosts, place: &Place, host: &str, address: &str) -> (Process, String) {
    let root = place.file(&format!("root-{host}"));
    let copied = Command::new("cp").arg("-a").arg(place.file("root")).arg(&root).status().unwrap();
    assert!(copied.success());
    let unit = std::fs::read_to_string(root.join("lib/systemd/system/evenkeel.service")).unwrap();
    let said = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key}\n{unit}")).to_owned()
    };
    let capabilities = said("AmbientCapabilities").to_lowercase().replace("cap_", "+").replace(' ', ",");
    let (user, command) = (said("User"), said("ExecStart"));
    let script = format!(
        "mount -t proc proc /proc; mount -t sysfs sysfs /sys\n\
         sed -i 's/127.0.0.1:9443/{address}:9443/' /etc/evenkeel/evenkeel.toml\n\
         install -d -o {user} -g {user} -m 755 /run/evenkeel\n\
         exec setpriv --reuid={user} --regid={user} --init-groups --no-new-privs --bounding-set=-all,{capabilities} \
         --inh-caps={capabilities} --ambient-caps={capabilities} {command}"
    );
    let log = place.folder().join(host).join("daemon.log");
    std::fs::create_dir_all(place.folder().join(host)).unwrap();
    let shown = root.display().to_string();
    let arguments = ["--mount", "--pid", "--fork", "--kill-child", "chroot", &shown, "sh", "-ec", &script];
    let daemon = hosts.start(host, "unshare", &arguments, &log);
    (daemon, code_of_first_start(&log))
}

/// The browser; `None` where something is missing that the walk needs.
fn browser() -> Option<&'static str> {
    if !require(&["ip", "ethtool", "nginx"]) {
        return None;
    }
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|p| has_program(p));
    let built =
        ui().join("dist/index.html.gz").exists() && ui().join("node_modules/playwright-core").exists();
    let (Some(chromium), true, true) = (chromium, built, has_program("node")) else {
        skip("chromium, node and `make ui`");
        return None;
    };
    Some(chromium)
}

#[test]
fn two_machines_serve_after_an_hour_in_the_browser() {
    let Some(chromium) = browser() else { return };
    let Some(hosts) = Hosts::new() else { return };
    walk(chromium, hosts, &Place::new("first-hour"), fresh);
}

#[test]
fn packages_in_clean_debians_serve_after_an_hour_in_the_browser() {
    if !require(&["debootstrap", "dpkg-deb", "unshare"]) {
        return;
    }
    let Some(chromium) = browser() else { return };
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new("first-hour-package");
    if debian(&place).is_some() {
        walk(chromium, hosts, &place, installed);
    }
}

/// The hour: two nodes are started, a browser does the rest, and the first node's power is cut.
fn walk(
    chromium: &str,
    mut hosts: Hosts,
    place: &Place,
    start: fn(&Hosts, &Place, &str, &str) -> (Process, String),
) {
    for (host, address) in [
        ("lb1", "10.77.0.1/24"),
        ("lb2", "10.77.0.2/24"),
        ("c", "10.77.0.9/24"),
        ("s1", "10.77.0.11/24"),
        ("s2", "10.77.0.12/24"),
    ] {
        hosts.add(host, &[("front", &[address])]);
    }
    let _servers = ["s1", "s2"].map(|server| hosts.nginx(place, server, &[80]));
    let (mut first, one) = start(&hosts, place, "lb1", "10.77.0.1");
    let (_second, two) = start(&hosts, place, "lb2", "10.77.0.2");
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
