//! Layer 4: nanoseconds a packet, by BPF_PROG_TEST_RUN, beside programs that do nothing.
//!
//! Every run is one frame, so that a frame never meets what an earlier run made of it. The cases
//! take turns in short windows; of each case the least and the median window count, with the same
//! harness's floor (XDP_TX at once) taken off.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use evenkeel_l4::{Floor, Forwarding, Hop, Options, Persist, Pick, Plane, Server, ServiceSpec, Sizes, Takes};
use evenkeel_model::{FlowTimeouts, PortRange, SynCookies, Tunnel, Vip};
use evenkeel_testbed::frame::{ACK, Frame, SYN};

/// Runs of one window; fewer where each makes a new flow.
const WINDOW: usize = 10_000;
const NEW_WINDOW: usize = 1_000;

pub struct Measured {
    pub name: String,
    pub least: f64,
    pub median: f64,
}

struct Case {
    name: String,
    /// A program to compare with, in place of the packet path.
    floor: Option<&'static str>,
    make: Box<dyn FnMut() -> Vec<u8>>,
    window: usize,
    /// XDP_TX is 3; anything else would be another case than the one measured.
    expect: u32,
}

fn vip(mode: usize, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::V4(Ipv4Addr::new(10, 99, 0, 100 + mode as u8)),
        true => IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x100 + mode as u16)),
    }
}

fn real(number: u16, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::V4(Ipv4Addr::new(10, 98, (number >> 8) as u8, number as u8)),
        true => IpAddr::V6(Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, number)),
    }
}

fn client(number: u32, v6: bool) -> SocketAddr {
    let port = 1024 + (number % 60_000) as u16;
    let [_, b, c, d] = (number / 60_000 + 1).to_be_bytes();
    match v6 {
        false => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(11, b, c, d)), port),
        true => {
            let low = u16::from_be_bytes([c, d]);
            SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd11, 0, 0, 0, 0, 0, u16::from(b), low)), port)
        }
    }
}

const MODES: [(&str, Forwarding); 4] = [
    ("dr", Forwarding::Dr),
    ("nat", Forwarding::Nat),
    ("tun", Forwarding::Tun(Tunnel::Ip)),
    ("snat", Forwarding::Snat),
];
/// The service that remembers its clients.
const PERSISTENT: usize = 4;

fn services() -> Vec<ServiceSpec> {
    let mut all = Vec::new();
    for v6 in [false, true] {
        let modes = MODES.iter().map(|m| (m.0, m.1, Pick::Maglev, None));
        let remembers = Persist { mask: 24, mask6: 64, timeout: Duration::from_secs(300) };
        let least = ("persistent", Forwarding::Dr, Pick::LeastConnections, Some(remembers));
        for (number, (name, forwarding, pick, persist)) in modes.chain([least]).enumerate() {
            let servers = (1..=10).map(|n| Server {
                name: format!("s{n}"),
                address: SocketAddr::new(real(n, v6), 80),
                weight: 100,
                takes: Takes { new: true, persistent: true, existing: true, resets: false, remembered: true },
                max_connections: 0,
                min_connections: 0,
                keep_when_removed: true,
            });
            let hour = Duration::from_secs(3600);
            all.push(ServiceSpec {
                name: format!("{name}-{v6}"),
                vips: Vip::parse(&SocketAddr::new(vip(number, v6), 80).to_string()).into_iter().collect(),
                tcp: true,
                udp: true,
                forwarding,
                pick,
                persist,
                timeouts: FlowTimeouts {
                    syn: Duration::from_secs(5),
                    established: hour,
                    closing: hour,
                    closed: hour,
                    udp: hour,
                },
                rate: None,
                source_rate: None,
                syn_cookies: SynCookies::Off,
                sources: Vec::new(),
                source_ports: PortRange { first: 1024, last: 65_000 },
                servers: servers.collect(),
            });
        }
    }
    all
}

pub fn run(rounds: usize) -> anyhow::Result<Vec<Measured>> {
    let (mut plane, book) = start()?;
    // Frames of test runs come in on the loopback interface, and go out there.
    plane.set_frame_interface(1, [2, 0, 0, 0, 0, 1])?;
    let both = [false, true].into_iter();
    let hops: HashMap<IpAddr, Hop> =
        both.flat_map(|v6| (1..=10).map(move |n| (real(n, v6), hop(v6)))).collect();
    plane.set_hops(hops)?;
    plane.set_services(services())?;
    plane.tick();
    let floor = Floor::load()?;
    let mut out = vec![0; 4096];
    let mut cases: Vec<Case> = Vec::new();
    floor.add_vip(SocketAddr::new(vip(0, false), 80))?;
    let mut established =
        |name: String, mode: usize, v6: bool, flows: u32, from: u32| -> anyhow::Result<()> {
            let target = SocketAddr::new(vip(mode, v6), 80);
            for number in from..from + flows {
                for flags in [SYN, ACK] {
                    plane.run_frame(&Frame::tcp(client(number, v6), target, flags).bytes(), &mut out, 1)?;
                }
            }
            let mut random = 1u64;
            let make = move || {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let number = from + ((random >> 33) as u32) % flows;
                Frame::tcp(client(number, v6), target, ACK).bytes()
            };
            cases.push(Case { name, floor: None, make: Box::new(make), window: WINDOW, expect: 3 });
            Ok(())
        };
    established("established, dr, 1 flow".into(), 0, false, 1, 0)?;
    established("established, dr, 1k flows".into(), 0, false, 1_000, 2_000_000)?;
    established("established, dr, IPv6, 1k flows".into(), 0, true, 1_000, 0)?;
    for (mode, name) in [(1, "nat"), (2, "tun"), (3, "snat")] {
        established(format!("established, {name}, 1k flows"), mode, false, 1_000, 0)?;
        established(format!("established, {name}, IPv6, 1k flows"), mode, true, 1_000, 0)?;
    }
    // Behind the others, which then lie in a table that is as full for each.
    established("established, dr, 64k flows".into(), 0, false, 65_536, 0)?;
    established("established, dr, 512k flows".into(), 0, false, 524_288, 0)?;
    for (name, flows) in [("1k", 1_000), ("64k", 65_536), ("512k", 524_288)] {
        let target = SocketAddr::new(vip(0, false), 80);
        for number in 0..flows {
            let frame = Frame::tcp(client(number, false), target, ACK).bytes();
            floor.run("floor_lookups", &frame, &mut out)?;
        }
        let mut random = 1u64;
        let make = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Frame::tcp(client(((random >> 33) as u32) % flows, false), target, ACK).bytes()
        };
        let name = format!("look-ups alone, hash and LRU, {name} flows");
        cases.push(Case {
            name,
            floor: Some("floor_lookups"),
            make: Box::new(make),
            window: WINDOW,
            expect: 3,
        });
    }
    for (name, mode, v6, floor) in [
        ("new flow with insert, dr", 0, false, None),
        ("new flow with insert, dr, IPv6", 0, true, None),
        ("new flow with insert, nat", 1, false, None),
        ("new flow with insert, snat", 3, false, None),
        ("new flow of a persistent client, least connections", PERSISTENT, false, None),
        ("look-ups alone, new flow", 0, false, Some("floor_lookups")),
    ] {
        let mut number = 10_000_000;
        let target = SocketAddr::new(vip(mode, v6), 80);
        let make = move || {
            number += 1;
            Frame::tcp(client(number, v6), target, SYN).bytes()
        };
        cases.push(Case { name: name.into(), floor, make: Box::new(make), window: NEW_WINDOW, expect: 3 });
    }
    let mut windows: Vec<Vec<f64>> = vec![Vec::new(); cases.len() + 2];
    let frame = Frame::tcp(client(1, false), SocketAddr::new(vip(0, false), 80), ACK).bytes();
    for _ in 0..rounds {
        for (at, name) in ["floor_pass", "floor_tx"].iter().enumerate() {
            let mut total = 0;
            for _ in 0..WINDOW {
                total += floor.run(name, &frame, &mut out)?;
            }
            windows[at].push(total as f64 / WINDOW as f64);
        }
        for (at, case) in cases.iter_mut().enumerate() {
            let frames: Vec<Vec<u8>> = (0..case.window).map(|_| (case.make)()).collect();
            let mut total = 0;
            for frame in &frames {
                if let Some(program) = case.floor {
                    total += floor.run(program, frame, &mut out)?;
                    continue;
                }
                let run = plane.run_frame(frame, &mut out, 1)?;
                let reasons = || plane.reasons().into_iter().filter(|r| r.1 > 0).collect::<Vec<_>>();
                anyhow::ensure!(run.action == case.expect, "{}: {} {:?}", case.name, run.action, reasons());
                total += run.nanoseconds;
            }
            windows[at + 2].push(total as f64 / case.window as f64);
        }
        plane.tick();
    }
    let names = ["XDP_PASS at once", "XDP_TX at once"].map(String::from);
    let names = names.into_iter().chain(cases.into_iter().map(|c| c.name));
    plane.remove();
    let _ = std::fs::remove_file(book);
    Ok(names
        .zip(windows)
        .map(|(name, mut of_case)| {
            of_case.sort_by(f64::total_cmp);
            Measured { name, least: of_case[0], median: of_case[of_case.len() / 2] }
        })
        .collect())
}

/// Ten thousand services of five servers each: seconds to tell the packet path, and to change one.
pub fn scale() -> anyhow::Result<(f64, f64)> {
    let (mut plane, book) = start()?;
    let template = services().swap_remove(0);
    let hops: HashMap<IpAddr, Hop> = (1..=10).map(|n| (real(n, false), hop(false))).collect();
    plane.set_hops(hops)?;
    let many: Vec<ServiceSpec> = (0..10_000u32)
        .map(|n| {
            let [_, _, high, low] = n.to_be_bytes();
            let mut service = template.clone();
            service.name = format!("service-{n}");
            service.vips = Vip::parse(&format!("10.55.{high}.{low}:80")).into_iter().collect();
            service.servers.truncate(5);
            service.pick = Pick::RoundRobin;
            service
        })
        .collect();
    let begin = std::time::Instant::now();
    plane.set_services(many.clone())?;
    let all = begin.elapsed().as_secs_f64();
    let begin = std::time::Instant::now();
    let mut one = many[5_000].clone();
    one.servers[2].takes.new = false;
    plane.set_service(one)?;
    let change = begin.elapsed().as_secs_f64();
    plane.remove();
    let _ = std::fs::remove_file(book);
    Ok((all, change))
}

fn start() -> anyhow::Result<(Plane, std::path::PathBuf)> {
    let book = std::env::temp_dir().join(format!("evenkeel-bench-{}.json", std::process::id()));
    let plane = Plane::start(&Options {
        sizes: Sizes { flows: 1 << 20, persistent: 1 << 18 },
        lease: Duration::from_secs(60),
        book: book.clone(),
        interfaces: Vec::new(),
        seed: (0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03),
        icmp_rate: 1000,
    })?;
    Ok((plane, book))
}

fn hop(v6: bool) -> Hop {
    Hop { interface: 1, mac: [2, 0, 0, 0, 1, 1], source: Some(real(1000, v6)), mtu: 1500 }
}

pub fn render(all: &[Measured]) -> String {
    let floor = all.iter().find(|m| m.name.starts_with("XDP_TX"));
    let (least, median) = floor.map_or((0.0, 0.0), |f| (f.least, f.median));
    let mut text = String::from(
        "| packet | ns, least window | ns, median window | net of XDP_TX, least | net, median |\n| --- | --- | --- | --- | --- |\n",
    );
    for m in all {
        text += &format!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            m.name,
            m.least,
            m.median,
            m.least - least,
            m.median - median
        );
    }
    text
}
