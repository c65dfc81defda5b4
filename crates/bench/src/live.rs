//! Layer 4 with live frames: NAT through virtual pairs, beside the kernel's own NAT.
//!
//! One core sends UDP datagrams; everything that becomes of them happens on that core, in its
//! interrupts, so packets a second are nanoseconds a packet. What sending itself and the way to the
//! load balancer cost is measured with a program there that drops at once, and taken off.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_testbed::{Hosts, Place, command};

pub struct Live {
    pub name: &'static str,
    /// Packets a second that reach the real server, of each round.
    pub rates: Vec<f64>,
}

/// Sends datagrams from so many ports until the time is over.
pub fn send(target: std::net::SocketAddr, flows: usize, seconds: f64) -> anyhow::Result<u64> {
    let sockets: Vec<UdpSocket> = (0..flows)
        .map(|_| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(target)?;
            Ok(socket)
        })
        .collect::<std::io::Result<_>>()?;
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        for socket in sockets.iter().cycle().take(256) {
            sent += u64::from(socket.send(&[0; 18]).is_ok());
        }
    }
    Ok(sent)
}

const DROP: &str = "int drop(void *context) __attribute__((section(\"xdp\")));\nint drop(void *context) { return 1; }\nchar LICENSE[] __attribute__((section(\"license\"))) = \"GPL\";\n";
const VIP: &str = "10.77.0.105:5000";

pub fn run(rounds: usize, flows: usize) -> anyhow::Result<Vec<Live>> {
    let place = Place::new("live");
    let source = place.write("drop.c", DROP).display().to_string();
    let object = place.file("drop.o").display().to_string();
    let built = command("clang", &["-O2", "-target", "bpf", "-g", "-c", &source, "-o", &object]);
    anyhow::ensure!(built.code == 0, "clang: {}", built.err);
    let names = ["dropped at once", "nftables DNAT", "nat, generic", "nat, native"];
    let mut all: Vec<Live> = names.iter().map(|name| Live { name, rates: Vec::new() }).collect();
    for _ in 0..rounds {
        for live in &mut all {
            let rate = round(&place, &object, live.name, flows)?;
            live.rates.push(rate);
        }
    }
    Ok(all)
}

fn round(place: &Place, object: &str, variant: &str, flows: usize) -> anyhow::Result<f64> {
    let mut hosts = Hosts::new().ok_or_else(|| anyhow::anyhow!("needs root"))?;
    hosts.add("lb", &[("front", &["10.77.0.1/24"]), ("back", &["10.78.0.1/24"])]);
    hosts.add("c", &[("front", &["10.77.0.2/24"])]);
    hosts.add("b", &[("back", &["10.78.0.11/24"])]);
    hosts.ip("b", &["route", "add", "default", "via", "10.78.0.1"]);
    // Both ends know each other before the sink stops listening.
    hosts.run("lb", "ping", &["-c", "1", "-W", "2", "10.78.0.11"]);
    hosts.run("c", "ping", &["-c", "1", "-W", "2", "10.77.0.1"]);
    let mac = hosts.run("b", "cat", &["/sys/class/net/e0/address"]).out.trim().to_owned();
    hosts.ip("lb", &["neigh", "replace", "10.78.0.11", "lladdr", &mac, "dev", "e1", "nud", "permanent"]);
    let mac = hosts.run("lb", "cat", &["/sys/class/net/e0/address"]).out.trim().to_owned();
    hosts.ip("c", &["neigh", "replace", "10.77.0.105", "lladdr", &mac, "dev", "e0", "nud", "permanent"]);
    let mut daemon = None;
    match variant {
        "nftables DNAT" => {
            hosts.run("lb", "sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
            hosts.ip("lb", &["addr", "add", "10.77.0.105/32", "dev", "e0"]);
            let rules = "table ip n {\n chain p { type nat hook prerouting priority dstnat; udp dport 5000 dnat to 10.78.0.11; }\n chain q { type nat hook postrouting priority srcnat; oifname e1 masquerade; }\n}\n";
            let file = place.write("rules.nft", rules).display().to_string();
            let set = hosts.run("lb", "nft", &["-f", &file]);
            anyhow::ensure!(set.code == 0, "nft: {}", set.err);
        }
        "dropped at once" => {
            hosts.ip("lb", &["addr", "add", "10.77.0.105/32", "dev", "e0"]);
            hosts.ip("lb", &["link", "set", "e0", "xdpgeneric", "object", object, "section", "xdp"]);
        }
        _ => {
            if variant == "nat, native" {
                hosts.allow_native(place, "lb", 2);
                hosts.allow_native(place, "c", 1);
                hosts.allow_native(place, "b", 1);
            }
            let way = variant.rsplit(' ').next().unwrap_or("generic");
            let folder = place.folder().display();
            let config = format!(
                "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n[layer-4]\nattach = \"{way}\"\n[[virtual-service]]\nname = \"n\"\nvip = [\"{VIP}\"]\nmode = \"nat\"\nprotocol = \"udp\"\nhealth-check = {{ type = \"none\" }}\n[[virtual-service.real-server]]\nname = \"b\"\naddress = \"10.78.0.11\"\n"
            );
            let file = place.write("live.toml", config).display().to_string();
            let program = std::env::current_exe()?.with_file_name("evenkeel").display().to_string();
            daemon = Some(hosts.start("lb", &program, &["run", "--config", &file], &place.file("live.log")));
            std::thread::sleep(Duration::from_secs(2));
        }
    }
    // The sink takes frames and drops them; the switch's counter says how many.
    hosts.ip("b", &["link", "set", "e0", "xdpdrv", "object", object, "section", "xdp"]);
    let (host, end) = if variant == "dropped at once" { ("lb", "e0") } else { ("b", "e0") };
    let counter = format!("/sys/class/net/{end}/statistics/rx_packets");
    let read = || hosts.run(host, "cat", &[&counter]).out.trim().parse::<f64>().unwrap_or(0.0);
    let sender = std::env::current_exe()?.display().to_string();
    let before = read();
    let seconds = 2.0;
    let mut run = Command::new("ip");
    let flows = flows.to_string();
    run.args(["netns", "exec", &hosts.name("c"), "taskset", "-c", "0", &sender, "send", VIP, &flows, "2"]);
    anyhow::ensure!(run.output()?.status.success(), "the sender failed");
    let rate = (read() - before) / seconds;
    if let Some(mut daemon) = daemon {
        daemon.signal(rustix::process::Signal::INT);
        daemon.wait();
    }
    let _ = std::fs::remove_dir_all(Path::new(&place.file("state")));
    Ok(rate)
}

pub fn render(all: &[Live], flows: usize) -> String {
    let median = |live: &Live| {
        let mut rates = live.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(0.0)
    };
    let floor = all.first().map_or(0.0, median);
    let mut text = format!(
        "| live frames, {flows} flows | packets a second | ns a packet, less the floor |\n| --- | --- | --- |\n"
    );
    for live in all {
        let net = 1e9 / median(live) - 1e9 / floor;
        text += &format!("| {} | {:.0} | {:.0} |\n", live.name, median(live), net);
    }
    text
}
