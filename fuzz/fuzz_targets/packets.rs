//! Any bytes as frames of a client: the packet path in the kernel and its reference agree on each.
//! Needs root. A frame is a length byte times eight, and so many bytes behind an Ethernet header.
#![no_main]

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use evenkeel_l4::reference::{Limited, Observation, Reference, SEND};
use evenkeel_l4::{Forwarding, Hop, Options, Pick, Plane, Server, ServiceSpec, Sizes, Takes};
use evenkeel_model::{FlowTimeouts, PortRange, SynCookies, Tunnel, Vip};
use libfuzzer_sys::fuzz_target;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn service(name: &str, vip: &str, forwarding: Forwarding, real: SocketAddr) -> ServiceSpec {
    let hour = Duration::from_secs(3600);
    ServiceSpec {
        name: name.into(),
        vips: vec![Vip::parse(vip).unwrap()],
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
        servers: vec![Server {
            name: "a".into(),
            address: real,
            weight: 1,
            takes: Takes { new: true, persistent: true, existing: true, resets: false },
            max_connections: 0,
            min_connections: 0,
            keep_when_removed: true,
        }],
    }
}

fn start() -> (Plane, Reference) {
    let book = std::env::temp_dir().join(format!("evenkeel-fuzz-{}.json", std::process::id()));
    let mut plane = Plane::start(&Options {
        sizes: Sizes { flows: 1 << 20, persistent: 1024 },
        lease: Duration::from_secs(3600),
        book,
        interfaces: Vec::new(),
        seed: (1, 2),
        icmp_rate: 0,
    })
    .expect("root, to load programs");
    plane.set_frame_interface(1, MAC).unwrap();
    let (four, six): (SocketAddr, SocketAddr) = ("10.8.0.1:0".parse().unwrap(), "[fd08::1]:0".parse().unwrap());
    let hop = |source: &str| Hop {
        interface: 1,
        mac: [2, 0, 0, 0, 1, 1],
        source: source.parse().ok(),
        mtu: 1500,
    };
    let hops: HashMap<IpAddr, Hop> =
        [(four.ip(), hop("10.9.0.1")), (six.ip(), hop("fd09::1"))].into_iter().collect();
    let modes = [Forwarding::Dr, Forwarding::Nat, Forwarding::Tun(Tunnel::Ip), Forwarding::Snat];
    let mut services = Vec::new();
    for (number, mode) in modes.into_iter().enumerate() {
        services.push(service(&format!("a{number}"), &format!("10.7.0.{number}:*"), mode, four));
        services.push(service(&format!("b{number}"), &format!("[fd07::{number}]:*"), mode, six));
    }
    plane.set_hops(hops.clone()).unwrap();
    plane.set_services(services.clone()).unwrap();
    let mut reference = Reference::new(MAC);
    reference.set_services(services, hops);
    (plane, reference)
}

thread_local! {
    static BOTH: RefCell<Option<(Plane, Reference)>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    BOTH.with(|both| {
        let mut both = both.borrow_mut();
        let (plane, reference) = both.get_or_insert_with(start);
        plane.tick();
        let mut rest = bytes;
        let mut out = vec![0; 4096];
        while let Some((length, behind)) = rest.split_first() {
            let (body, behind) = behind.split_at((usize::from(*length) * 8).min(behind.len()));
            rest = behind;
            let kind: [u8; 2] = if body.first().is_some_and(|b| b >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
            let frame = [&MAC[..], &[2, 0, 0, 0, 0, 9], &kind, body].concat();
            let clock = plane.clock().unwrap();
            let run = plane.run_frame(&frame, &mut out, 1).unwrap();
            let until = plane.clock().unwrap().jiffies;
            let limited = Limited::default();
            let seen = Observation { action: run.action, frame: &out[..run.length], limited, clock, until };
            let mut expected = reference.process(&frame, &seen);
            if run.action != SEND && run.action != expected.action && reference.may_have_forgotten(&frame) {
                expected = reference.process(&frame, &seen);
            }
            assert_eq!(run.action, expected.action);
            if run.action == SEND {
                assert_eq!(&out[..run.length], expected.frame);
            }
        }
    });
});
