//! What a commit leaves alone: connections of every mode over every change of their service.

use std::time::Duration;

use evenkeel_testbed::eventually;

use crate::layer4::Lab;
use crate::pair::{FRONT, lab as pair_lab};

const LONG: Duration = Duration::from_secs(30);
/// Layer 4's flows that have ended are forgotten soon.
const FLOWS: &str = "[layer-4]\nconnections = 20000\n";
const MODES: [&str; 5] = ["tcp", "snat", "nat", "dr", "http"];

/// One service of each mode, on VIPs of their own.
#[derive(Clone)]
struct Services {
    modes: [&'static str; 5],
    name: &'static str,
    first_vip: usize,
    server: &'static str,
    address: &'static str,
}

impl Services {
    fn text(&self) -> String {
        let service = |(at, mode): (usize, &&str)| {
            let port = if *mode == "dr" { "" } else { ":80" };
            let vip = self.vip(at);
            format!(
                "[[virtual-service]]\nname = \"{}{at}\"\nvip = [\"{vip}:80\"]\nmode = \"{mode}\"\nhealth-check = {{ type = \"none\" }}\n[[virtual-service.real-server]]\nname = \"{}\"\naddress = \"{}{port}\"\n",
                self.name, self.server, self.address
            )
        };
        self.modes.iter().enumerate().map(service).collect()
    }

    fn vip(&self, at: usize) -> String {
        format!("10.77.0.{}", self.first_vip + at)
    }
}

const BASE: Services =
    Services { modes: MODES, name: "a", first_vip: 60, server: "s1", address: "10.77.0.11" };

/// The client whose way back from the servers leads over the load balancer.
fn client_of(mode: &str) -> &'static str {
    if mode == "nat" { "d" } else { "c" }
}

/// Starts a download of some seconds in each mode, commits, and asks what became of them.
fn keeps(lab: &Lab, what: &str, after: &str) {
    let log = |mode: &str| lab.place.file(&format!("{what}-{mode}.log"));
    let downloads = MODES.iter().enumerate().map(|(at, mode)| {
        let url = format!("http://{}/slow", BASE.vip(at));
        let arguments =
            ["-sS", "--max-time", "25", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url];
        (*mode, lab.hosts.start(client_of(mode), "curl", &arguments, &log(mode)))
    });
    let mut downloads: Vec<_> = downloads.collect();
    let open =
        |host: &str| lab.hosts.run(host, "ss", &["-Htn", "state", "established"]).out.matches(":80").count();
    eventually("the downloads run", LONG, || open("c") + open("d") >= MODES.len());
    let file = lab.place.write("next.toml", lab.config(FLOWS, after));
    let planned = lab.cli(&["plan", &file.display().to_string()]);
    assert!(planned.code == 0 && !planned.out.contains("may be cut"), "{what}: {planned:?}");
    let done = lab.cli(&["commit", &file.display().to_string()]);
    assert_eq!(done.code, 0, "{what}: {}{}", done.out, done.err);
    for (mode, download) in &mut downloads {
        eventually("a download ends", LONG, || download.has_ended());
        let told = std::fs::read_to_string(log(mode)).unwrap();
        assert_eq!(told, format!("200 {}", 4 << 20), "{what}, mode {mode}");
    }
}

#[test]
fn connections_of_every_mode_outlive_every_change_of_their_service() {
    let Some(mut lab) = Lab::new("kept", false) else { return };
    lab.set_up("dr", &[&BASE.vip(3), &BASE.vip(0)]);
    let base = BASE.text();
    let config = lab.config(FLOWS, &base);
    lab.start(&config);
    let back = |lab: &Lab| {
        let file = lab.place.write("next.toml", lab.config(FLOWS, &base));
        let done = lab.cli(&["commit", &file.display().to_string()]);
        assert_eq!(done.code, 0, "{}{}", done.out, done.err);
        for (at, mode) in MODES.iter().enumerate() {
            let url = format!("http://{}/", BASE.vip(at));
            eventually(&url, LONG, || lab.curl(client_of(mode), &url, &[]).out.starts_with("s1 "));
        }
    };
    back(&lab);
    let elsewhere = "[[virtual-service]]\nname = \"z\"\nvip = [\"10.77.0.1:8088\"]\nmode = \"http\"\n[[virtual-service.real-server]]\nname = \"s2\"\naddress = \"10.77.0.12:80\"\n";
    let rotated = Services { modes: ["dr", "tcp", "snat", "http", "nat"], ..BASE };
    let changes = [
        ("services renamed", Services { name: "b", ..BASE }.text()),
        ("other VIPs", Services { first_vip: 80, ..BASE }.text()),
        ("servers replaced", Services { server: "s2", address: "10.77.0.12", ..BASE }.text()),
        ("servers renamed", Services { server: "other", ..BASE }.text()),
        ("other modes", rotated.text()),
        ("services removed", elsewhere.into()),
    ];
    for (what, after) in changes {
        keeps(&lab, what, &after);
        back(&lab);
    }
    // When nothing is open any more, nothing stays.
    let file = lab.place.write("next.toml", lab.config(FLOWS, elsewhere));
    assert_eq!(lab.cli(&["commit", &file.display().to_string()]).code, 0);
    let gone = || !lab.hosts.run("lb", "ip", &["addr"]).out.contains("10.77.0.6");
    eventually("the addresses go", Duration::from_secs(150), gone);
    eventually("layer 4 goes", LONG, || !lab.hosts.run("lb", "ip", &["link"]).out.contains("xdp"));
}

/// On a pair, too: the addresses of what is removed stay where they are until the last connection has ended.
#[test]
fn connections_outlive_their_service_on_a_pair() {
    let Some(mut lab) = pair_lab("pair-kept") else { return };
    let check = "health-check = { type = \"none\" }";
    let from = format!("source-addresses = [\"10.77.0.150\"]\n{check}");
    let floating = "[network]\nfloating-ips = [\"10.77.0.150/24\"]\n";
    let web = crate::layer4::service("web", "10.77.0.100:80", "http", check, FRONT);
    let tcp = crate::layer4::service("tcp", "10.77.0.101:80", "tcp", check, FRONT);
    let snat = crate::layer4::service("snat", "10.77.0.102:80", "snat", &from, FRONT);
    lab.start_pair("", &[floating, &web, &tcp, &snat].concat());
    let vips = ["10.77.0.100", "10.77.0.101", "10.77.0.102"];
    let log = |vip: &str| lab.place.file(&format!("{vip}.log"));
    let mut downloads = vips.map(|vip| {
        eventually(vip, LONG, || {
            lab.hosts.run("c", "curl", &["-sf", "-m", "2", &format!("http://{vip}/")]).code == 0
        });
        let url = format!("http://{vip}/slow");
        let arguments =
            ["-sS", "--max-time", "25", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url];
        lab.hosts.start("c", "curl", &arguments, &log(vip))
    });
    std::thread::sleep(Duration::from_secs(1));
    let elsewhere = crate::layer4::service("z", "10.77.0.109:80", "http", check, FRONT);
    let next = lab.place.write("next.toml", lab.config(0, "", &elsewhere));
    let done = lab.cli(0, &["commit", &next.display().to_string()]);
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    for (vip, download) in vips.iter().zip(&mut downloads) {
        eventually("a download ends", LONG, || download.has_ended());
        assert_eq!(std::fs::read_to_string(log(vip)).unwrap(), format!("200 {}", 4 << 20), "{vip}");
    }
    for vip in ["10.77.0.100", "10.77.0.101", "10.77.0.102", "10.77.0.150"] {
        eventually(vip, Duration::from_secs(150), || !lab.has(0, vip) && !lab.has(1, vip));
    }
    assert!(lab.has(0, "10.77.0.109"));
}
