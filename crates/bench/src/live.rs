//! Layer 4 with live frames: NAT through virtual pairs, beside the kernel's own NAT.
//!
//! One core sends UDP datagrams; everything that becomes of them happens on that core, in its
//! interrupts, so packets a second are nanoseconds a packet. What sending itself and the way to the
//! load balancer cost is measured with a program there that drops at once, and taken off.
//!
//! Twice: as frames of a driver, which is where a network card's come from, and from sockets, where
//! the kernel's own NAT is given the buffers that XDP first has to turn into frames.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_l4::Generator;
use evenkeel_testbed::frame::Frame;
use evenkeel_testbed::{Hosts, Place, Process, command};

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

/// A program that drops every frame, compiled.
fn dropping(place: &Place) -> anyhow::Result<String> {
    let source = place.write("drop.c", DROP).display().to_string();
    let object = place.file("drop.o").display().to_string();
    let built = command("clang", &["-O2", "-target", "bpf", "-g", "-c", &source, "-o", &object]);
    anyhow::ensure!(built.code == 0, "clang: {}", built.err);
    Ok(object)
}

/// The kernel's NAT, out of this interface.
fn nftables(place: &Place, hosts: &Hosts, out: &str) -> anyhow::Result<()> {
    let rules = format!(
        "table ip n {{\n chain p {{ type nat hook prerouting priority dstnat; udp dport 5000 dnat to 10.78.0.11; }}\n chain q {{ type nat hook postrouting priority srcnat; oifname {out} masquerade; }}\n}}\n"
    );
    let file = place.write("rules.nft", rules).display().to_string();
    let set = hosts.run("lb", "nft", &["-f", &file]);
    anyhow::ensure!(set.code == 0, "nft: {}", set.err);
    Ok(())
}

/// Each way in turn, in rounds.
fn in_turn(
    name: &str,
    ways: &[&'static str],
    rounds: usize,
    round: impl Fn(&Place, &str, &str) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<Live>> {
    let place = Place::new(name);
    let object = dropping(&place)?;
    let mut all: Vec<Live> = ways.iter().map(|name| Live { name, rates: Vec::new() }).collect();
    for _ in 0..rounds {
        for live in &mut all {
            live.rates.push(round(&place, &object, live.name)?);
        }
    }
    Ok(all)
}

pub fn run(rounds: usize, flows: usize) -> anyhow::Result<Vec<Live>> {
    let ways = ["dropped at once", "nftables DNAT", "nat, generic", "nat, native"];
    in_turn("live", &ways, rounds, |place, object, way| round(place, object, way, flows))
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
            nftables(place, &hosts, "e1")?;
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
            daemon = Some(balancer(place, &hosts, way)?);
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

/// The same with frames as a driver hands them on: made by the generator, on cables without a switch.
pub fn run_as_driver(rounds: usize, flows: u32) -> anyhow::Result<Vec<Live>> {
    let ways = ["dropped at once", "nftables DNAT", "nat, native"];
    in_turn("driver", &ways, rounds, |place, object, way| driver_round(place, object, way, flows))
}

fn driver_round(place: &Place, object: &str, variant: &str, flows: u32) -> anyhow::Result<f64> {
    let mut hosts = Hosts::new().ok_or_else(|| anyhow::anyhow!("needs root"))?;
    for host in ["lb", "gen", "sink"] {
        hosts.add(host, &[]);
    }
    hosts.join("front", [("lb", &["10.77.0.1/16"]), ("gen", &["10.77.0.2/16"])]);
    hosts.join("back", [("lb", &["10.78.0.1/24"]), ("sink", &["10.78.0.11/24"])]);
    let mac = |host: &str, link: &str| {
        hosts.run(host, "cat", &[&format!("/sys/class/net/{link}/address")]).out.trim().to_owned()
    };
    let nft = variant == "nftables DNAT";
    // What the kernel's NAT sends is for a stranger's MAC: the least work for the sink's kernel.
    let real = if nft { "02:00:00:00:00:77".to_owned() } else { mac("sink", "back") };
    hosts.ip("lb", &["neigh", "replace", "10.78.0.11", "lladdr", &real, "dev", "back", "nud", "permanent"]);
    // A driver takes frames by NAPI: with a program on the interface, or with GRO.
    let on = |host: &str, link: &str| {
        hosts.ip(host, &["link", "set", link, "xdpdrv", "object", object, "section", "xdp"])
    };
    on("gen", "front");
    let mut daemon = None;
    match variant {
        "dropped at once" => on("lb", "front"),
        "nftables DNAT" => {
            for (name, value) in
                [("ip_forward", "1"), ("conf.all.rp_filter", "0"), ("conf.front.rp_filter", "0")]
            {
                hosts.run("lb", "sysctl", &["-qw", &format!("net.ipv4.{name}={value}")]);
            }
            hosts.run("lb", "ethtool", &["-K", "front", "gro", "on"]);
            hosts.ip("lb", &["addr", "add", "10.77.0.105/32", "dev", "front"]);
            nftables(place, &hosts, "back")?;
        }
        _ => {
            on("sink", "back");
            daemon = Some(balancer(place, &hosts, "native")?);
        }
    }
    let (host, counter) = match variant {
        "dropped at once" => ("lb", "/sys/class/net/front/statistics/rx_packets"),
        "nftables DNAT" => ("lb", "/sys/class/net/back/statistics/tx_packets"),
        _ => ("sink", "/sys/class/net/back/statistics/rx_packets"),
    };
    let read = || hosts.run(host, "cat", &[counter]).out.trim().parse::<f64>().unwrap_or(0.0);
    let index = hosts.run("gen", "cat", &["/sys/class/net/front/ifindex"]).out.trim().parse()?;
    let target: std::net::SocketAddr = VIP.parse()?;
    let mut frame = Frame::udp("10.77.1.1:1".parse()?, target, &[0; 18]);
    frame.target_mac = mac_of(&mac("lb", "front"))?;
    let mut bytes = frame.bytes();
    // No checksum.
    bytes[40..42].fill(0);
    let generator = Generator::load()?;
    let (before, seconds) = (read(), 2.0);
    hosts.inside("gen", || -> anyhow::Result<()> {
        let mut one = rustix::thread::CpuSet::new();
        one.set(0);
        rustix::thread::sched_setaffinity(None, &one)?;
        let until = (Duration::from_secs_f64(seconds), u64::MAX);
        generator.send(index, &bytes, [10, 77, 1, 1].into(), Some(flows), until)?;
        Ok(())
    })?;
    let rate = (read() - before) / seconds;
    if let Some(mut daemon) = daemon {
        daemon.signal(rustix::process::Signal::INT);
        daemon.wait();
    }
    let _ = std::fs::remove_dir_all(Path::new(&place.file("state")));
    Ok(rate)
}

fn mac_of(text: &str) -> anyhow::Result<[u8; 6]> {
    let octets: Result<Vec<u8>, _> = text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    octets?.try_into().map_err(|_| anyhow::anyhow!("no MAC: {text}"))
}

/// Evenkeel with one service, attached this way.
fn balancer(place: &Place, hosts: &Hosts, way: &str) -> anyhow::Result<Process> {
    let folder = place.folder().display();
    let config = format!(
        "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n[layer-4]\nattach = \"{way}\"\n[[virtual-service]]\nname = \"n\"\nvip = [\"{VIP}\"]\nmode = \"nat\"\nprotocol = \"udp\"\nhealth-check = {{ type = \"none\" }}\n[[virtual-service.real-server]]\nname = \"b\"\naddress = \"10.78.0.11\"\n"
    );
    let file = place.write("live.toml", config).display().to_string();
    let program = std::env::current_exe()?.with_file_name("evenkeel").display().to_string();
    let daemon = hosts.start("lb", &program, &["run", "--config", &file], &place.file("live.log"));
    std::thread::sleep(Duration::from_secs(2));
    Ok(daemon)
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
