//! Single rules of the packet path, each with frames made for it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use evenkeel_l4::reference::{DROP, PASS, SEND};
use evenkeel_l4::{Forwarding, Persist, Pick, Plane, Run, ServiceSpec, Takes};
use evenkeel_model::{FlowRate, PortRange};
use evenkeel_testbed::eventually;
use evenkeel_testbed::frame::{ACK, FIN, Frame, RST, SYN};

use super::{hops, ip, plane, service};

const SERVERS: [&str; 10] = [
    "10.8.0.1",
    "10.8.0.2",
    "10.8.0.3",
    "10.8.0.4",
    "10.8.0.5",
    "10.8.0.6",
    "10.8.0.7",
    "10.8.0.8",
    "10.8.0.9",
    "10.8.0.10",
];
const VIP: &str = "10.7.0.1:80";

struct Bench {
    plane: Plane,
    book: std::path::PathBuf,
    out: Vec<u8>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.book);
    }
}

/// A DR service with so many servers, changed by the test.
fn bench(servers: usize, change: impl FnOnce(&mut ServiceSpec)) -> Option<(Bench, ServiceSpec)> {
    sized(1 << 16, servers, change)
}

fn sized(flows: u32, servers: usize, change: impl FnOnce(&mut ServiceSpec)) -> Option<(Bench, ServiceSpec)> {
    let (mut plane, book) = plane(flows)?;
    let names: Vec<String> = (0..servers).map(|n| n.to_string()).collect();
    let list: Vec<(&str, SocketAddr)> =
        (0..servers).map(|n| (names[n].as_str(), SocketAddr::new(ip(SERVERS[n]), 0))).collect();
    let mut spec = service("web", &[VIP], Forwarding::Dr, &list);
    change(&mut spec);
    plane.set_hops(hops(&SERVERS)).unwrap();
    plane.set_services(vec![spec.clone()]).unwrap();
    Some((Bench { plane, book, out: vec![0; 4096] }, spec))
}

fn client(number: u32) -> SocketAddr {
    let [a, b, c, _] = (number / 50_000 * 256 + 1).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(20 + a, b, c, 1)), 1024 + (number % 50_000) as u16)
}

impl Bench {
    fn send(&mut self, frame: &Frame) -> Run {
        self.plane.run_frame(&frame.bytes(), &mut self.out, 1).unwrap()
    }

    /// The server that a segment to the VIP goes to.
    fn server(&mut self, client: SocketAddr, flags: u8) -> Option<usize> {
        let run = self.send(&Frame::tcp(client, VIP.parse().unwrap(), flags));
        (run.action == SEND && self.out[..5] == [2, 0, 0, 0, 1]).then(|| usize::from(self.out[5]))
    }

    fn open(&mut self, number: u32) -> Option<usize> {
        let server = self.server(client(number), SYN);
        if server.is_some() {
            assert_eq!(self.server(client(number), ACK), server, "the second segment follows the first");
        }
        server
    }

    fn datagram(&mut self, number: u32) -> Option<usize> {
        let run = self.send(&Frame::udp(client(number), VIP.parse().unwrap(), b"x"));
        (run.action == SEND && self.out[..5] == [2, 0, 0, 0, 1]).then(|| usize::from(self.out[5]))
    }

    fn close(&mut self, number: u32) {
        self.server(client(number), RST);
    }

    fn tally(&mut self, clients: std::ops::Range<u32>) -> BTreeMap<usize, usize> {
        let mut tally = BTreeMap::new();
        for number in clients {
            *tally.entry(self.open(number).unwrap()).or_default() += 1;
        }
        tally
    }

    fn reason(&self, name: &str) -> u64 {
        self.plane.reason(name)
    }
}

#[test]
fn schedulers_share_as_they_say() {
    let Some((mut b, mut spec)) = bench(3, |s| s.servers[0].weight = 200) else { return };
    assert_eq!(b.tally(0..400), [(0, 200), (1, 100), (2, 100)].into());
    for (pick, at) in
        [(Pick::LeastConnections, 1_000), (Pick::ShortestExpectedDelay, 2_000), (Pick::NeverQueue, 3_000)]
    {
        spec.pick = pick;
        spec.name = format!("{pick:?}");
        b.plane.set_services(vec![spec.clone()]).unwrap();
        let tally = b.tally(at..at + 400);
        assert!((195..=205).contains(&tally[&0]) && (95..=105).contains(&tally[&1]), "{pick:?}: {tally:?}");
        // Who loses half its connections gets the next ones.
        let lost: Vec<u32> =
            (at..at + 400).filter(|n| b.server(client(*n), ACK) == Some(1)).take(50).collect();
        lost.iter().for_each(|n| b.close(*n));
        let tally = b.tally(at + 400..at + 440);
        assert!(tally.get(&1).copied().unwrap_or(0) >= 38, "{pick:?}: {tally:?}");
    }
    for pick in [Pick::Maglev, Pick::Random, Pick::SourceHash] {
        spec.pick = pick;
        spec.name = format!("{pick:?}");
        b.plane.set_services(vec![spec.clone()]).unwrap();
        let mut tally: BTreeMap<usize, usize> = BTreeMap::new();
        for n in 0..4_000u32 {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x3000_0000 + n * 7)), 5000);
            *tally.entry(b.server(address, SYN).unwrap()).or_default() += 1;
        }
        assert!((1_800..=2_200).contains(&tally[&0]), "{pick:?}: {tally:?}");
        if pick == Pick::SourceHash {
            let one = |port| SocketAddr::new(ip("48.0.0.1"), port);
            let first = b.server(one(1), SYN);
            assert!((2..50).all(|port| b.server(one(port), SYN) == first), "one address, one server");
        }
    }
    spec.pick = Pick::DestinationHash;
    spec.name = "destination".into();
    b.plane.set_services(vec![spec.clone()]).unwrap();
    assert_eq!(b.tally(5_000..5_100).len(), 1);
    spec.pick = Pick::First;
    spec.name = "first".into();
    spec.servers[0].max_connections = 10;
    b.plane.set_services(vec![spec]).unwrap();
    assert_eq!(b.tally(6_000..6_030), [(0, 10), (1, 20)].into());
}

#[test]
fn a_full_server_takes_clients_again_below_its_minimum() {
    let limits = |s: &mut ServiceSpec| {
        (s.servers[0].max_connections, s.servers[0].min_connections) = (10, 5);
    };
    let Some((mut b, _)) = bench(2, limits) else { return };
    assert_eq!(b.tally(0..40), [(0, 10), (1, 30)].into());
    let own: Vec<u32> = (0..40).filter(|n| b.server(client(*n), ACK) == Some(0)).collect();
    own.iter().take(5).for_each(|n| b.close(*n));
    assert_eq!(b.tally(40..60), [(1, 20)].into(), "five are not below five");
    b.close(own[5]);
    assert_eq!(b.tally(60..80)[&0], 6);
    // With both full nobody is served, and told so.
    let Some((mut b, _)) = bench(1, |s| s.servers[0].max_connections = 3) else { return };
    b.tally(0..3);
    let run = b.send(&Frame::tcp(client(9), VIP.parse().unwrap(), SYN));
    assert_eq!((run.action, b.out[47]), (SEND, RST | ACK));
    assert_eq!(b.reason("no-real-server"), 1);
}

#[test]
fn losing_one_of_ten_servers_moves_its_own_clients_alone() {
    let Some((mut b, spec)) = bench(10, |s| s.pick = Pick::Maglev) else { return };
    let before: Vec<usize> = (0..5_000).map(|n| b.open(n).unwrap()).collect();
    let probe = |b: &mut Bench| -> Vec<usize> {
        // New flows with the same hash each time: their entries are ended again.
        let address = |n: u32| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x5000_0000 + n)), 7);
        let found = (0..5_000).map(|n| b.server(address(n), SYN).unwrap()).collect();
        (0..5_000).for_each(|n| assert!(b.server(address(n), RST).is_some()));
        found
    };
    let first = probe(&mut b);
    let share = first.iter().filter(|s| **s == 3).count();
    for removed in [false, true] {
        let mut changed = spec.clone();
        if removed {
            changed.servers.remove(3);
        } else {
            changed.servers[3].takes = Takes { existing: true, ..Takes::default() };
        }
        b.plane.set_services(vec![changed]).unwrap();
        let after: Vec<usize> = (0..5_000).map(|n| b.server(client(n), ACK).unwrap()).collect();
        assert_eq!(before, after, "established flows stay");
        let second = probe(&mut b);
        let moved = first.iter().zip(&second).filter(|(a, b)| a != b).count();
        assert_eq!(moved, share, "its own, and no other (removed: {removed})");
        assert!(second.iter().all(|s| *s != 3));
    }
}

#[test]
fn one_persistence_entry_for_all_ports_and_addresses() {
    let remember = |s: &mut ServiceSpec| {
        s.vips = ["10.7.0.1:80,443", "10.7.0.2:6000-7000", "10.7.0.3:*"]
            .iter()
            .map(|v| evenkeel_model::Vip::parse(v).unwrap())
            .collect();
        s.persist = Some(Persist { mask: 24, mask6: 64, timeout: Duration::from_secs(60) });
    };
    let Some((mut b, mut spec)) = bench(4, remember) else { return };
    let mut chosen = HashMap::new();
    let targets =
        ["10.7.0.1:80", "10.7.0.1:443", "10.7.0.2:6000", "10.7.0.2:6999", "10.7.0.3:1", "10.7.0.3:65535"];
    for round in 0..3u16 {
        for network in 0..20u8 {
            for (n, target) in targets.iter().enumerate() {
                for udp in [false, true] {
                    let source = SocketAddr::new(
                        IpAddr::V4(Ipv4Addr::new(30, 0, network, 1 + round as u8)),
                        1000 * (round + 1) + n as u16,
                    );
                    let mut frame = Frame::tcp(source, target.parse().unwrap(), SYN);
                    frame.udp = udp;
                    assert_eq!(b.send(&frame).action, SEND, "{target}");
                    let server = b.out[5];
                    assert_eq!(
                        *chosen.entry(network).or_insert(server),
                        server,
                        "{target}, network {network}"
                    );
                }
            }
        }
    }
    assert_eq!(chosen.values().collect::<std::collections::BTreeSet<_>>().len(), 4);
    let outside = Frame::tcp(client(1), "10.7.0.2:5999".parse().unwrap(), SYN);
    assert_eq!(b.send(&outside).action, PASS, "a port of nobody is the kernel's");
    let known = b.plane.persistent("web").unwrap();
    assert_eq!(known.len(), 20);
    // A draining server keeps its persistent clients, another does not get new ones.
    let drained = usize::from(chosen[&0]);
    spec.servers[drained].takes.new = false;
    b.plane.set_services(vec![spec]).unwrap();
    let at = |network: u8, port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(30, 0, network, 99)), port);
    assert_eq!(b.server(at(0, 1), SYN), Some(drained));
    assert!((100..160).all(|network| b.server(at(network, 1), SYN) != Some(drained)));
    assert_eq!(b.plane.forget_persistent("web", Some(ip("30.0.0.0"))).unwrap(), 1);
    assert_ne!(b.server(at(0, 2), SYN), Some(drained), "forgotten");
}

/// A client that is remembered here is remembered by the other node as soon as its flow is established there, and one
/// that somebody removed is forgotten there. Numbers and secrets of the two are their own.
#[test]
fn the_other_node_remembers_a_client_at_once() {
    let remember = |s: &mut ServiceSpec| {
        s.pick = Pick::RoundRobin;
        s.persist = Some(Persist { mask: 24, mask6: 64, timeout: Duration::from_secs(600) });
    };
    let Some((mut here, _)) = sized(1_024, 4, remember) else { return };
    let there = std::thread::spawn(move || {
        let (bench, spec) = sized(1_024, 4, remember)?;
        let other = ServiceSpec { name: "another".into(), vips: Vec::new(), ..spec.clone() };
        let mut bench = bench;
        bench.plane.set_services(vec![other, spec]).unwrap();
        Some(bench)
    });
    let Some(there) = there.join().unwrap() else { return };
    let (out, batches) = std::sync::mpsc::channel();
    let tap = here.plane.tap(move |batch| drop(out.send(batch))).unwrap();
    tap.set_active(true);
    // The first look is the whole table; the next one is 20 s away.
    std::thread::sleep(Duration::from_millis(300));
    let at = |network: u8, port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(30, 0, network, 9)), port);
    for network in 0..20 {
        for port in 1..4 {
            here.server(at(network, port), SYN);
            here.server(at(network, port), ACK);
        }
        // Not established: a flood would be told, too.
        here.server(at(100 + network, 1), SYN);
    }
    let listed = |bench: &Bench| {
        let mut all: Vec<_> =
            bench.plane.persistent("web").unwrap().into_iter().map(|p| (p.client, p.server)).collect();
        all.sort();
        all
    };
    let hear = |expect: usize| {
        let since = std::time::Instant::now();
        let mut records = 0;
        while listed(&there).len() != expect && since.elapsed() < Duration::from_secs(3) {
            if let Ok(batch) = batches.recv_timeout(Duration::from_millis(100)) {
                records += batch.clients.len();
                let batch = evenkeel_l4::Batch::parse(&batch.encode()).unwrap();
                there.plane.adopt(&batch).unwrap();
            }
        }
        records
    };
    let records = hear(20);
    let established = |(client, _): &(IpAddr, String)| matches!(client, IpAddr::V4(a) if a.octets()[2] < 100);
    let own: Vec<_> = listed(&here).into_iter().filter(established).collect();
    assert_eq!((listed(&there), own.len()), (own, 20));
    assert!(records <= 60, "not once a packet: {records}");
    assert_eq!(here.plane.forget_persistent("web", Some(ip("30.0.7.0"))).unwrap(), 1);
    tap.tell_forgotten("web", Some(ip("30.0.7.0")));
    hear(19);
    assert!(!listed(&there).iter().any(|(client, _)| *client == ip("30.0.7.0")), "{:?}", listed(&there));
    here.plane.forget_persistent("web", None).unwrap();
    tap.tell_forgotten("web", None);
    hear(0);
    assert_eq!(listed(&there), Vec::new());
}

/// Of a service that is taken away or named otherwise, established connections finish; of a server that keeps none when
/// it is removed, they end.
#[test]
fn flows_outlive_their_service() {
    let Some((mut b, mut spec)) = sized(1_024, 2, |s| s.pick = Pick::First) else { return };
    let mut other = spec.clone();
    (other.name, other.vips) =
        ("other".into(), super::service("x", &["10.7.0.9:80"], Forwarding::Dr, &[]).vips);
    b.plane.set_services(vec![spec.clone(), other.clone()]).unwrap();
    assert_eq!(b.server(client(1), SYN), Some(0));
    assert_eq!(b.server(client(1), ACK), Some(0));
    b.plane.set_services(vec![other.clone()]).unwrap();
    assert_eq!(b.server(client(1), ACK), Some(0), "it finishes");
    assert_eq!(b.server(client(2), SYN), None, "and nobody new comes");
    // Under another name.
    spec.name = "renamed".into();
    spec.servers[0].keep_when_removed = false;
    b.plane.set_services(vec![spec.clone(), other.clone()]).unwrap();
    assert_eq!((b.server(client(1), ACK), b.server(client(3), SYN)), (Some(0), Some(0)));
    b.plane.set_services(vec![other]).unwrap();
    assert_eq!((b.server(client(1), ACK), b.server(client(3), ACK)), (Some(0), None));
}

/// Of the last service, too; and datagrams go where they went, as long as nobody else has them.
#[test]
fn flows_outlive_the_last_service() {
    let Some((mut b, mut spec)) = sized(1_024, 2, |s| {
        (s.pick, s.udp) = (Pick::First, true);
    }) else {
        return;
    };
    assert_eq!((b.open(1), b.datagram(1)), (Some(0), Some(0)));
    // The way to a server that has left is known on, and followed.
    let other = spec.servers.remove(0);
    b.plane.set_services(vec![spec.clone()]).unwrap();
    let mut ways = hops(&SERVERS);
    let hop = ways.get_mut(&other.address.ip()).unwrap();
    hop.mac[5] = 9;
    b.plane.set_hops(ways).unwrap();
    assert_eq!((b.server(client(1), ACK), b.datagram(1)), (Some(9), Some(9)));
    assert_eq!((b.open(2), b.datagram(2)), (Some(1), Some(1)));
    assert!(b.plane.has_open_flows().unwrap());
    b.plane.set_services(Vec::new()).unwrap();
    let vip: IpAddr = VIP.parse::<SocketAddr>().unwrap().ip();
    let asked = [vip, ip("192.0.2.1")].into();
    assert_eq!(b.plane.in_use(&asked).unwrap(), [vip].into());
    for (number, server) in [(1, 9), (2, 1)] {
        assert_eq!((b.server(client(number), ACK), b.datagram(number)), (Some(server), Some(server)));
    }
    assert_eq!((b.server(client(3), SYN), b.datagram(3)), (None, None), "nobody new comes");
}

/// A server that is full is so by the limits that it has now.
#[test]
fn limits_that_change_hold_at_once() {
    let Some((mut b, mut spec)) = sized(1_024, 1, |s| s.servers[0].max_connections = 3) else { return };
    let mut set = |b: &mut Bench, upper: u32, lower: u32| {
        (spec.servers[0].max_connections, spec.servers[0].min_connections) = (upper, lower);
        b.plane.set_services(vec![spec.clone()]).unwrap();
    };
    assert_eq!((1..=3).filter_map(|n| b.open(n)).count(), 3);
    assert_eq!(b.server(client(4), SYN), None);
    set(&mut b, 0, 0);
    assert_eq!(b.open(4), Some(0), "there is no limit any more");
    set(&mut b, 6, 0);
    assert_eq!((b.open(5), b.open(6), b.server(client(7), SYN)), (Some(0), Some(0), None));
    set(&mut b, 10, 0);
    assert_eq!(b.open(7), Some(0), "a higher one");
    set(&mut b, 7, 0);
    assert_eq!(b.open(8), Some(0), "the first one above a lower limit finds it");
    assert_eq!(b.server(client(9), SYN), None);
    set(&mut b, 7, 7);
    b.close(1);
    assert_eq!(b.server(client(9), SYN), None, "not below what is few enough");
    set(&mut b, 7, 8);
    assert_eq!(b.server(client(9), SYN), None, "the limit itself holds");
    b.close(2);
    assert_eq!(b.open(9), Some(0));
}

/// A backup serves while it must. Its clients go back as soon as another server can take them, and what they began
/// goes on where it is.
#[test]
fn persistence_remembers_no_backup() {
    let Some((mut b, mut spec)) = sized(1_024, 4, |s| {
        s.pick = Pick::First;
        s.persist = Some(Persist { mask: 32, mask6: 128, timeout: Duration::from_secs(600) });
    }) else {
        return;
    };
    let proper = spec.servers[0].takes;
    spec.servers[0].takes = Takes { existing: true, remembered: true, ..Takes::default() };
    spec.servers[1].takes.remembered = false;
    b.plane.set_services(vec![spec.clone()]).unwrap();
    let at = |port: u16| SocketAddr::new(ip("30.0.0.1"), port);
    assert_eq!(b.server(at(1), SYN), Some(1));
    assert_eq!(b.plane.persistent("web").unwrap().len(), 0);
    // One that is remembered, and becomes a backup.
    spec.servers[2].takes.new = true;
    spec.servers[1].takes.new = false;
    b.plane.set_services(vec![spec.clone()]).unwrap();
    assert_eq!(b.server(at(2), SYN), Some(2));
    assert_eq!(b.plane.persistent("web").unwrap().len(), 1);
    spec.servers[2].takes.remembered = false;
    spec.servers[0].takes = proper;
    b.plane.set_services(vec![spec]).unwrap();
    assert_eq!(b.server(at(3), SYN), Some(0), "new connections go back");
    assert_eq!((b.server(at(1), ACK), b.server(at(2), ACK)), (Some(1), Some(2)), "old ones stay");
    assert_eq!(b.server(at(4), SYN), Some(0));
}

#[test]
fn a_full_table_keeps_what_is_established() {
    let Some((mut b, _)) = sized(128, 4, |s| s.pick = Pick::Maglev) else { return };
    let mut established: Vec<(u32, usize)> = Vec::new();
    for number in 0..60 {
        established.push((number, b.open(number).unwrap()));
    }
    // A flood of first segments: each is served, none at the cost of the established.
    for number in 1_000..21_000 {
        assert!(b.server(client(number), SYN).is_some());
    }
    for (number, server) in &established {
        assert_eq!(b.server(client(*number), ACK), Some(*server));
    }
    assert!(b.reason("evicted") > 10_000);
    let flows = b.plane.flow_reader().unwrap().flows(1_000, |f| f.state == "established").unwrap();
    assert_eq!(flows.len(), 60);
    // Where all is established, flows go where their hash says, and are not forgotten half-way.
    let all: Vec<usize> = (100_000..100_400).map(|n| b.open(n).unwrap()).collect();
    assert!(b.reason("stateless") > 0 && b.reason("table-full") > 0);
    let again: Vec<usize> = (100_000..100_400).map(|n| b.server(client(n), ACK).unwrap()).collect();
    assert_eq!(all, again);
}

#[test]
fn ports_of_snat_run_out_loudly() {
    let few = |s: &mut ServiceSpec| {
        s.forwarding = Forwarding::Snat;
        s.source_ports = PortRange { first: 2000, last: 2009 };
        s.sources = vec![ip("10.9.0.1"), ip("10.9.0.2")];
    };
    let Some((mut b, _)) = bench(1, few) else { return };
    let mut used = std::collections::BTreeSet::new();
    let mut open = Vec::new();
    for number in 0..400 {
        let run = b.send(&Frame::tcp(client(number), VIP.parse().unwrap(), SYN));
        if run.action == SEND {
            let port = u16::from_be_bytes([b.out[34], b.out[35]]);
            assert!(used.insert((b.out[29], port)), "no port twice");
            assert!((2000..=2009).contains(&port));
            open.push(number);
        }
    }
    assert!(used.len() >= 18, "{}", used.len());
    assert!(b.reason("snat-ports-exhausted") > 300);
    b.close(open[0]);
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(
        b.plane.counts("web", "0", SocketAddr::new(ip(SERVERS[0]), 0)).active as usize,
        used.len() - 1
    );
}

#[test]
fn limits_on_new_flows_leave_known_ones_alone() {
    let limit = |s: &mut ServiceSpec| s.rate = Some(FlowRate { per_second: 50, burst: 100 });
    let Some((mut b, _)) = bench(2, limit) else { return };
    let taken = (0..1_000).filter(|n| b.open(*n).is_some()).count();
    assert!((100..=140).contains(&taken), "{taken}");
    assert!(b.reason("rate-limited") > 800);
    assert!((0..100).all(|n| b.server(client(n), ACK).is_some()), "established flows are served");
    let limit = |s: &mut ServiceSpec| s.source_rate = Some(FlowRate { per_second: 10, burst: 20 });
    let Some((mut b, _)) = bench(2, limit) else { return };
    let of = |host: u8, port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(40, 0, 0, host)), port);
    let greedy = (0..500).filter(|port| b.server(of(1, 1000 + port), SYN).is_some()).count();
    assert!((20..=26).contains(&greedy), "{greedy}");
    assert!((2..20).all(|host| b.server(of(host, 1), SYN).is_some()), "others are not held up");
}

#[test]
fn states_are_what_the_client_shows() {
    let short = |s: &mut ServiceSpec| {
        s.timeouts.closed = Duration::from_millis(300);
        s.timeouts.syn = Duration::from_millis(300);
    };
    let Some((mut b, _)) = bench(1, short) else { return };
    let state = |b: &Bench| {
        let flows = b.plane.flow_reader().unwrap().flows(10, |_| true).unwrap();
        flows.first().map_or("", |f| f.state)
    };
    let loads = |b: &Bench| {
        let counts = b.plane.counts("web", "0", SocketAddr::new(ip(SERVERS[0]), 0));
        (counts.active, counts.inactive)
    };
    b.server(client(0), SYN);
    assert_eq!((state(&b), loads(&b)), ("syn-received", (1, 0)));
    b.server(client(0), ACK);
    assert_eq!((state(&b), loads(&b)), ("established", (1, 0)));
    b.server(client(0), FIN | ACK);
    assert_eq!((state(&b), loads(&b)), ("closing", (0, 1)));
    b.server(client(0), ACK);
    assert_eq!(state(&b), "closing");
    b.server(client(0), RST);
    assert_eq!((state(&b), loads(&b)), ("closed", (0, 1)));
    let gone = || (state(&b), loads(&b)) == ("", (0, 0));
    eventually("the closed flow is swept", Duration::from_secs(10), gone);
    b.server(client(1), SYN);
    let gone = || (state(&b), loads(&b)) == ("", (0, 0));
    eventually("a first segment alone does not last", Duration::from_secs(10), gone);
    assert_eq!(b.plane.counts("web", "0", SocketAddr::new(ip(SERVERS[0]), 0)).flows, 2);
}

#[test]
fn a_closed_flow_is_reset_by_the_next_packet_of_either_side() {
    for forwarding in [Forwarding::Dr, Forwarding::Nat, Forwarding::Snat] {
        let Some((mut b, _)) = bench(1, |s| s.forwarding = forwarding) else { return };
        let vip: SocketAddr = VIP.parse().unwrap();
        let real = SocketAddr::new(ip(SERVERS[0]), vip.port());
        let loads = |b: &Bench| {
            let counts = b.plane.counts("web", "0", SocketAddr::new(ip(SERVERS[0]), 0));
            (counts.active, counts.inactive)
        };
        let to = |b: &Bench| <[u8; 6]>::try_from(&b.out[..6]).unwrap();
        let flags = |b: &Bench| b.out[14 + 20 + 13];
        let closed_by = |b: &Bench, wanted: &dyn Fn(u16) -> bool| {
            b.plane.flow_reader().unwrap().close(|f| wanted(f.client.port())).unwrap()
        };
        (0..3).for_each(|n| assert!(b.open(n).is_some()));
        assert_eq!(loads(&b), (3, 0));
        assert_eq!(closed_by(&b, &|port| port != client(2).port()), 2, "{forwarding:?}");
        assert_eq!(loads(&b), (1, 2), "{forwarding:?}: they do not count as open");
        assert_eq!(closed_by(&b, &|port| port != client(2).port()), 0, "nothing is closed twice");
        let listed = b.plane.flow_reader().unwrap().flows(10, |f| f.state == "cut").unwrap();
        assert_eq!(listed.len(), 2);
        // The client speaks: it is reset, again and again, and its server hears nothing.
        for flags_sent in [ACK, ACK, FIN | ACK] {
            let run = b.send(&Frame::tcp(client(0), vip, flags_sent));
            assert_eq!((run.action, flags(&b)), (SEND, RST), "{forwarding:?}");
            assert_eq!(to(&b), Frame::tcp(client(0), vip, ACK).source_mac, "back to the client");
        }
        assert!(b.server(client(2), ACK).is_some(), "{forwarding:?}: the others go on");
        if forwarding == Forwarding::Nat {
            // The server speaks first: that becomes the client's reset, what comes then is its own.
            let said = Frame::tcp(real, client(1), ACK | 8);
            let run = b.send(&said);
            assert_eq!((run.action, flags(&b)), (SEND, RST | ACK));
            assert_eq!(b.out[14 + 16..14 + 20], [20, 0, 0, 1], "to the client");
            let run = b.send(&said);
            assert_eq!((run.action, flags(&b)), (SEND, RST));
            assert_eq!(b.out[14 + 16..14 + 20], [10, 8, 0, 1], "to the server");
            let run = b.send(&Frame::tcp(client(1), vip, ACK));
            assert_eq!((run.action, flags(&b)), (SEND, RST), "and who was not told is told now");
        }
        // A new connection on the same ports is a new flow.
        assert!(b.open(0).is_some(), "{forwarding:?}");
        assert_eq!(loads(&b).0, 2);
        // A datagram of a closed flow begins a new one.
        let datagram = Frame::udp(client(7), vip, b"?");
        assert_eq!(b.send(&datagram).action, SEND);
        let before = b.reason("new-flow");
        assert!(b.plane.cut(client(7), vip, 17).unwrap());
        assert_eq!((b.send(&datagram).action, b.reason("new-flow")), (SEND, before + 1), "{forwarding:?}");
    }
}

#[test]
fn only_own_frames_and_only_within_the_lease() {
    let Some((mut b, _)) = bench(1, |_| {}) else { return };
    b.open(0).unwrap();
    let mut frame = Frame::tcp(client(0), VIP.parse().unwrap(), ACK);
    assert_eq!(b.send(&frame).action, SEND);
    frame.target_mac[5] = 9;
    assert_eq!(b.send(&frame).action, PASS, "a frame for another machine");
    frame.target_mac[5] = 1;
    b.plane.leave_running(Duration::from_millis(200));
    assert_eq!(b.send(&frame).action, SEND, "within the grace");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(b.send(&frame).action, DROP);
    assert_eq!(b.send(&Frame::tcp(client(5), VIP.parse().unwrap(), SYN)).action, DROP);
    assert_eq!(b.send(&Frame::tcp(client(5), "10.7.0.99:80".parse().unwrap(), SYN)).action, PASS);
    assert_eq!(b.reason("lease-ended"), 2);
}

/// First segments of so many random addresses.
fn flood(b: &mut Bench, count: u32) {
    let mut random = 88_172_645_463_325_252u64;
    for _ in 0..count {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let source =
            SocketAddr::new(IpAddr::V4(Ipv4Addr::from(random as u32 | 0x4000_0000)), (random >> 40) as u16);
        b.server(source, SYN);
    }
}

#[test]
fn a_million_random_first_segments_leave_established_clients_served() {
    for forwarding in [Forwarding::Dr, Forwarding::Nat] {
        let Some((mut b, _)) = sized(1 << 14, 4, |s| s.forwarding = forwarding) else { return };
        let before: Vec<Option<usize>> = (0..1_000).map(|n| b.open(n)).collect();
        assert!(before.iter().all(Option::is_some));
        flood(&mut b, 1_000_000);
        let refused = b.reason("table-full");
        assert!(refused < 10, "{forwarding:?}: {refused} of the flood found no room to displace another in");
        let after: Vec<Option<usize>> = (0..1_000).map(|n| b.server(client(n), ACK)).collect();
        assert_eq!(before, after, "{forwarding:?}");
        assert!((0..100).all(|n| b.open(2_000 + n).is_some()), "{forwarding:?}: new clients get in as well");
    }
}

#[test]
fn sources_share_a_rate_where_their_places_say_so_and_nowhere_else() {
    let limit = |s: &mut ServiceSpec| s.source_rate = Some(FlowRate { per_second: 1, burst: 9 });
    let Some((mut b, _)) = bench(2, limit) else { return };
    let slots = b.plane.source_slots();
    let address = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n));
    let mut seen = std::collections::HashMap::new();
    let (first, second) = (0..)
        .find_map(|n| Some((seen.insert(slots.of("web", address(n)).unwrap(), n)?, n)))
        .expect("two of 65,537 meet");
    let opens = |b: &mut Bench, n: u32, from: u16| {
        (from..from + 20).filter(|port| b.server(SocketAddr::new(address(n), *port), SYN).is_some()).count()
    };
    assert!((10..12).contains(&opens(&mut b, first, 1000)));
    assert!(opens(&mut b, second, 2000) < 3, "it shares what is used up");
    assert!((10..12).contains(&opens(&mut b, 70_000_000, 3000)), "another does not");
}

#[test]
fn over_its_rate_a_service_asks_for_proof_and_keeps_no_entry() {
    let limit = |s: &mut ServiceSpec| {
        s.forwarding = Forwarding::Nat;
        s.rate = Some(FlowRate { per_second: 1, burst: 100 });
        s.syn_cookies = evenkeel_model::SynCookies::OverRate;
    };
    let Some((mut b, _)) = bench(2, limit) else { return };
    let known: Vec<u32> = (0..50).filter(|n| b.open(*n).is_some()).collect();
    flood(&mut b, 20_000);
    let asked = b.reason("cookie-sent");
    assert!(asked > 19_000, "{asked}");
    assert!(known.iter().all(|n| b.server(client(*n), ACK).is_some()));
    let flows = b.plane.flow_reader().unwrap().flows(100_000, |_| true).unwrap();
    assert!(flows.len() < 300, "{}", flows.len());
    // A wrong number proves nothing: it is what any segment without a flow is, and the rate is used up.
    flood(&mut b, 200);
    let forged = b.server(SocketAddr::new(ip("50.0.0.1"), 99), ACK);
    assert_eq!((forged, b.reason("cookie-wrong")), (None, 1));
}
