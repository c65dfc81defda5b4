//! The program in the kernel, by BPF_PROG_TEST_RUN, against its reference and against a capture's
//! eye: checksums and addresses.

mod differential;
mod rules;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use evenkeel_l4::{Forwarding, Hop, Options, Pick, Plane, Server, ServiceSpec, Sizes, Takes};
use evenkeel_model::{FlowTimeouts, PortRange, SynCookies, Vip};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn plane(flows: u32) -> Option<(Plane, std::path::PathBuf)> {
    // Only root may load programs; as root nothing is skipped.
    if !std::process::Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n") {
        println!("SKIPPED: needs root to load programs");
        return None;
    }
    let name = format!("evenkeel-l4-{}-{:?}.json", std::process::id(), std::thread::current().id());
    let book = std::env::temp_dir().join(name);
    let plane = Plane::start(&Options {
        sizes: Sizes { flows, persistent: 4096 },
        lease: Duration::from_secs(600),
        book: book.clone(),
        interfaces: Vec::new(),
        seed: (1, 2),
        icmp_rate: 0,
    });
    let plane = plane.unwrap();
    plane.set_frame_interface(1, MAC).unwrap();
    Some((plane, book))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service(name: &str, vips: &[&str], forwarding: Forwarding, servers: &[(&str, SocketAddr)]) -> ServiceSpec {
    let hour = Duration::from_secs(3600);
    let servers = servers.iter().map(|(name, address)| Server {
        name: (*name).into(),
        address: *address,
        weight: 100,
        takes: Takes { new: true, persistent: true, existing: true, resets: false, remembered: true },
        max_connections: 0,
        min_connections: 0,
        keep_when_removed: true,
    });
    ServiceSpec {
        name: name.into(),
        vips: vips.iter().map(|v| Vip::parse(v).unwrap()).collect(),
        tcp: true,
        udp: true,
        forwarding,
        pick: Pick::RoundRobin,
        persist: None,
        timeouts: FlowTimeouts { syn: hour, established: hour, closing: hour, closed: hour, udp: hour },
        rate: None,
        source_rate: None,
        syn_cookies: SynCookies::Off,
        sources: Vec::new(),
        source_ports: PortRange { first: 1024, last: 32_767 },
        servers: servers.collect(),
    }
}

fn hops(servers: &[&str]) -> HashMap<IpAddr, Hop> {
    let hop = |number: usize, address: IpAddr| Hop {
        interface: 1,
        mac: [2, 0, 0, 0, 1, number as u8],
        source: Some(if address.is_ipv4() { ip("10.9.0.1") } else { ip("fd09::1") }),
        mtu: 1500,
    };
    servers.iter().enumerate().map(|(number, a)| (ip(a), hop(number, ip(a)))).collect()
}
