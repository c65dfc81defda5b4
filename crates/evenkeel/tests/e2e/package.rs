//! The Debian package, in a clean Debian.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use evenkeel_testbed::{Place, Process, eventually, note_skip, require, skip};

/// What the package depends on, recommends, and this test asks with.
const PACKAGES: &str = "libelf1,curl,systemd,systemd-sysv,dbus,iproute2,nftables,ethtool";

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn it_is_installed_started_and_removed_in_a_clean_debian() {
    if !require(&["debootstrap", "dpkg-deb", "unshare"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("root, for debootstrap");
    }
    let place = Place::new("package");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let made = run(Command::new("sh")
        .arg(project.join("scripts/deb.sh"))
        .arg(place.folder())
        .arg(env!("CARGO_BIN_EXE_evenkeel")));
    let package = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let root = place.file("root");
    let bootstrap = Command::new("debootstrap")
        .args(["--variant=minbase", "--include", PACKAGES, "bookworm"])
        .arg(&root)
        .arg("http://deb.debian.org/debian")
        .output()
        .unwrap();
    if !bootstrap.status.success() {
        return skip("Debian's mirror, for debootstrap");
    }
    std::fs::copy(&package, root.join("evenkeel.deb")).unwrap();
    // Its own network, processes and mounts: nothing outlives the shell in it.
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]).arg("chroot").arg(&root);
        command.args(["sh", "-ec", &format!("mount -t proc proc /proc; {script}")]);
        String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
    };
    inside("dpkg -i /evenkeel.deb");
    for file in [
        "usr/sbin/evenkeel",
        "lib/systemd/system/evenkeel.service",
        "lib/systemd/system/evenkeel-scripts.service",
        "lib/systemd/system/evenkeel-scripts.socket",
        "lib/systemd/system/evenkeel-node.socket",
        "lib/systemd/system/evenkeel-node@.service",
        "lib/systemd/system/evenkeel-upgrade.socket",
        "lib/systemd/system/evenkeel-upgrade@.service",
        "usr/share/man/man1/evenkeel.1.gz",
        "usr/share/man/man1/evenkeel-commit.1.gz",
        "usr/share/bash-completion/completions/evenkeel",
        "usr/share/doc/evenkeel/configuration.md",
    ] {
        assert!(root.join(file).exists(), "{file}");
    }
    let told = inside(
        "evenkeel check /etc/evenkeel/evenkeel.toml; ip link set lo up 2>/dev/null || true; \
         evenkeel run & p=$!; until evenkeel status >/dev/null 2>&1; do sleep 0.1; done; \
         echo 'correct horse battery' | evenkeel user add ann --role admin --password-stdin; \
         evenkeel --json status; evenkeel cert; kill $p; wait $p",
    );
    assert!(
        told.contains("ann") && told.contains("\"revision\": 1") && told.contains("the web UI"),
        "{told}"
    );
    // The configuration is the administrator's; all else goes.
    std::fs::write(root.join("etc/evenkeel/evenkeel.toml"), "# mine\n").unwrap();
    inside("dpkg -i /evenkeel.deb");
    assert_eq!(std::fs::read_to_string(root.join("etc/evenkeel/evenkeel.toml")).unwrap(), "# mine\n");
    inside("dpkg -P evenkeel");
    eventually("all is gone", std::time::Duration::from_secs(1), || {
        !root.join("usr/sbin/evenkeel").exists()
            && !root.join("var/lib/evenkeel").exists()
            && !root.join("etc/evenkeel/evenkeel.toml").exists()
    });
    under_systemd(&place, &root);
}

/// Two networks around the machine: a client, and a real server that says whom it sees.
const NETWORKS: &str = r#"
ip link set lo up
ip netns add c; ip link add e0 type veth peer name c0 netns c
ip addr add 10.50.0.1/24 dev e0; ip link set e0 up
ip -n c addr add 10.50.0.9/24 dev c0; ip -n c link set c0 up
ip netns add s; ip link add e1 type veth peer name s0 netns s
ip addr add 10.51.0.1/24 dev e1; ip link set e1 up
ip -n s addr add 10.51.0.11/24 dev s0; ip -n s link set s0 up; ip -n s link set lo up
ip -n s route add default via 10.51.0.254
mkdir -m 700 /etc/letsencrypt
printf '#!/bin/sh\necho "$(id -un) $(grep CapEff /proc/self/status | cut -f 2)"\n' >/usr/local/bin/looks
chmod 755 /usr/local/bin/looks
mkdir /srv/s
cat >/srv/s/s.toml <<'END'
[admin]
socket = "/srv/s/admin.sock"
[state]
directory = "/srv/s/state"
[[virtual-service]]
name = "origin"
vip = ["10.51.0.11:80"]
mode = "http"
real-server = []
[[virtual-service.route]]
answer = { status = 200, body = "sees {source}", variables = true }
END
systemd-run -q --unit=origin ip netns exec s /usr/sbin/evenkeel run --config /srv/s/s.toml
"#;

/// Everything that needs more than an ordinary user may.
const DEMANDING: &str = r#"
[network]
floating-ips = ["10.51.0.254/24"]
[pair]
name = "a"
[[pair.vrrp]]
interface = "e0"
router-id = 7
interval = "100ms"
[[virtual-service]]
name = "web"
vip = ["10.50.0.100:80"]
mode = "http"
health-check = { type = "script", command = "/usr/local/bin/looks", interval = "500ms" }
real-server = [{ name = "o", address = "10.51.0.11:80" }]
[[virtual-service]]
name = "clear"
vip = ["10.50.0.101:80"]
mode = "http"
source = "client"
health-check = { type = "ping" }
real-server = [{ name = "s", address = "10.51.0.11:80" }]
[[virtual-service]]
name = "nat"
vip = ["10.50.0.102:80"]
mode = "nat"
health-check = { type = "tcp" }
real-server = [{ name = "s", address = "10.51.0.11:80" }]
"#;

/// Boots the root and installs the package there: the service runs as a user of its own, does what
/// it is for, and loses no request to restarts and upgrades.
fn under_systemd(place: &Place, root: &Path) {
    if !require(&["systemd-nspawn", "nsenter"]) {
        return;
    }
    let boot = || {
        let log = std::fs::File::create(place.file("boot.log")).unwrap();
        let mut command = Command::new("systemd-nspawn");
        command.args(["--quiet", "--register=no", "--keep-unit", "--network-veth", "--capability=all"]);
        command.args(["--system-call-filter=bpf", "-M", &format!("ek-{}", std::process::id()), "-b", "-D"]);
        Process::start(command.arg(root).stdout(log.try_clone().unwrap()).stderr(log))
    };
    let machine = RefCell::new(boot());
    let first = || {
        let id = machine.borrow().id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().next().map(str::to_owned)
    };
    let said = |script: &str| {
        let first = first().unwrap_or_default();
        let mut command = Command::new("nsenter");
        command.args(["-t", &first, "-m", "-u", "-i", "-n", "-p", "-r", "-w", "sh", "-ec", script]);
        command.output().unwrap()
    };
    let inside = |script: &str| {
        let output = said(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let journal = || text(&said("journalctl --no-pager -b -u evenkeel | tail -n 40").stdout);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}\n{out}{err}\n{}", journal());
        out
    };
    let up = || {
        (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(200));
            let state = first().map(|_| said("systemctl is-system-running || true").stdout);
            state.is_some_and(|state| state.starts_with(b"running") || state.starts_with(b"degraded"))
        })
    };
    if !up() {
        return note_skip("a machine on which systemd-nspawn can boot");
    }
    inside("dpkg -i /evenkeel.deb; systemctl is-active evenkeel; systemctl is-enabled evenkeel");
    inside(NETWORKS);
    std::fs::write(root.join("srv/new.toml"), DEMANDING).unwrap();
    inside("evenkeel commit /srv/new.toml; systemctl restart evenkeel");
    let main = "/proc/$(systemctl show -p MainPID --value evenkeel)";
    let status = inside(&format!("stat -c %U {main}; cat {main}/status"));
    assert!(status.starts_with("evenkeel\n"), "{status}");
    // Networks, packets, low ports, priority, reading certificates; nothing else, also for nobody's sake.
    for set in ["CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t000000c000803404")), "{status}");
    }
    let curl = |vip: &str| format!("ip netns exec c curl -sS --max-time 3 http://{vip}/");
    for (vip, sees) in [
        ("10.50.0.100", "sees 10.51.0."),
        ("10.50.0.101", "sees 10.50.0.9"),
        ("10.50.0.102", "sees 10.50.0.9"),
    ] {
        let mut last = String::new();
        let served = (0..150).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            last = String::from_utf8_lossy(&said(&curl(vip)).stdout).into_owned();
            last.starts_with(sees)
        });
        let why = "evenkeel status; ip -br address; journalctl --no-pager -b -u origin | tail -n 20; journalctl --no-pager -b -u evenkeel | tail -n 20";
        assert!(served, "{vip}: {last}\n{}", inside(why));
    }
    let shown = inside("evenkeel status");
    let is_nobody = shown.contains(" 0000000000000000") && !shown.contains("exit status 0: evenkeel 0");
    assert!(is_nobody, "a script has neither capabilities nor this user: {shown}");
    let threads = inside(&format!("for t in {main}/task/*; do echo $(cat $t/comm $t/stat); done"));
    let scheduled = threads.lines().filter(|line| line.split(' ').rev().nth(11) == Some("2"));
    let names: Vec<&str> = scheduled.map(|line| line.split(' ').next().unwrap()).collect();
    let expect = ["pair-reach", "links", "pair"];
    assert_eq!(names, expect, "threads of the election alone have real-time priority: {threads}");
    // Requests go on over a restart, a reload, and an upgrade.
    inside(
        "systemd-run -q --unit=client sh -c 'while :; do ip netns exec c curl -sS --max-time 8 -o /dev/null -w \"%{http_code}\\n\" http://10.50.0.100/; done >/srv/answers 2>&1'",
    );
    inside("sleep 1; systemctl restart evenkeel; sleep 1");
    inside(
        "sed -i 's/name = \"web\"/name = \"shop\"/' /etc/evenkeel/evenkeel.toml; systemctl reload evenkeel",
    );
    eventually("the file is applied", Duration::from_secs(5), || inside("evenkeel status").contains("shop"));
    let before = inside("systemctl show -p MainPID --value evenkeel");
    inside("dpkg -i /evenkeel.deb");
    eventually("another process goes on", Duration::from_secs(20), || {
        let now = inside("systemctl show -p MainPID --value evenkeel");
        now != before && inside("systemctl is-active evenkeel").starts_with("active")
    });
    inside("sleep 1; systemctl stop client");
    let answers = std::fs::read_to_string(root.join("srv/answers")).unwrap();
    let failed: Vec<_> = answers.lines().filter(|line| *line != "200").collect();
    assert!(answers.lines().count() > 30 && failed.is_empty(), "{failed:?} of {}", answers.lines().count());
    // A real server is one again after a boot, for every VIP it was made one for; not for those undone.
    let setups = [
        "setup --vip 10.60.0.100 --vip fd60::100",
        "setup --vip 10.60.0.101 --method redirect",
        "setup --vip 10.60.0.102 --mode tun --interface host0",
        "setup --vip 10.60.0.103",
    ];
    setups.iter().for_each(|setup| drop(inside(&format!("evenkeel real-server {setup} --persist"))));
    inside("evenkeel real-server undo --vip 10.60.0.103");
    let turn_off = || {
        said("systemctl poweroff");
        eventually("the machine is off", Duration::from_secs(20), || machine.borrow_mut().has_ended());
    };
    turn_off();
    machine.replace(boot());
    assert!(up(), "booted again");
    for setup in &setups[..3] {
        inside(&format!("evenkeel real-server check {}", setup.strip_prefix("setup ").unwrap()));
    }
    let left = inside("ip -br address show lo; systemctl list-unit-files 'evenkeel-real-server-*'");
    assert!(!left.contains("10.60.0.103") && left.contains("10.60.0.100"), "{left}");
    inside("dpkg -P evenkeel");
    assert!(!inside("getent passwd").contains("evenkeel") && !root.join("var/lib/evenkeel").exists());
    turn_off();
}
