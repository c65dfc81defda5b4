//! The kernel's view of the network, over netlink: interfaces, addresses, routes, neighbours.
//!
//! In: questions, and addresses to add or remove. Out: plain values. Never: a decision.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Groups of rtnetlink(7).
const NEIGHBOURS: &[u32] = &[3];
const LINKS: u32 = 1;
/// Links, addresses and routes of both families.
const ROUTES: &[u32] = &[1, 5, 7, 9, 11];
/// Marks addresses that this program added (IFA_PROTO; kernels before 5.18 pass it over).
const OURS: u8 = 0xe7;
/// Marks such as stay for connections that are being finished, and that nobody else is to hear of.
const KEPT: u8 = 0xe8;
/// Answers of one question at most.
const ANSWERS: usize = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    pub mtu: u32,
    pub up: bool,
    /// A cable with somebody at its other end.
    pub carrier: bool,
    pub loopback: bool,
    /// One end of a virtual pair, whose native XDP needs a program on the other end as well.
    pub veth: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    pub interface: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// The kernel says that this program added it.
    pub ours: bool,
    /// The kernel says who added it, which old ones do of none.
    pub marked: bool,
    /// It is here for connections that are being finished: see [`Network::keep_address`].
    pub kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WayTo {
    pub interface: u32,
    /// The router, where the address is not on the link itself.
    pub gateway: Option<IpAddr>,
    /// What this machine would send from.
    pub source: Option<IpAddr>,
}

impl WayTo {
    pub fn next_hop(&self, target: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(target)
    }
}

/// Where packets to a network go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub to: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub interface: u32,
}

/// A connection to the kernel's routing tables.
pub struct Network {
    socket: Socket,
    sequence: u32,
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

impl Network {
    pub fn open() -> io::Result<Network> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Network { socket, sequence: 0 })
    }

    pub fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(interface_of).collect())
    }

    pub fn addresses(&mut self) -> io::Result<Vec<OwnAddress>> {
        let answers = self.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(own_address_of).collect())
    }

    /// MACs of neighbours that are known and have not failed.
    pub fn neighbours(&mut self) -> io::Result<HashMap<(u32, IpAddr), [u8; 6]>> {
        let answers = self.ask(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(neighbour_of).collect())
    }

    /// The way that the kernel's routes choose for an address.
    pub fn way_to(&mut self, target: IpAddr) -> io::Result<WayTo> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(target);
        message.header.destination_prefix_length = if target.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(target.into()));
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), 0)?;
        let found = answers.iter().find_map(|answer| {
            let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
            let mut way = WayTo { interface: 0, gateway: None, source: None };
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => way.interface = *index,
                    RouteAttribute::Gateway(address) => way.gateway = plain(address),
                    RouteAttribute::PrefSource(address) => way.source = plain(address),
                    _ => {}
                }
            }
            (way.interface > 0).then_some(way)
        });
        found
            .ok_or_else(|| io::Error::new(io::ErrorKind::NetworkUnreachable, format!("no route to {target}")))
    }

    /// The routers of default routes, and their interfaces.
    pub fn default_gateways(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let answers = self.ask(RouteNetlinkMessage::GetRoute(RouteMessage::default()), NLM_F_DUMP)?;
        let gateway = |answer: &RouteNetlinkMessage| {
            let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
            if route.header.destination_prefix_length > 0 {
                return None;
            }
            let (mut interface, mut router) = (None, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => interface = Some(*index),
                    RouteAttribute::Gateway(address) => router = plain(address),
                    _ => {}
                }
            }
            interface.zip(router)
        };
        Ok(answers.iter().filter_map(gateway).collect())
    }

    /// The routes of the main table.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut all = Vec::new();
        for any in [IpAddr::from([0, 0, 0, 0]), IpAddr::from([0u16; 8])] {
            let mut message = RouteMessage::default();
            message.header.address_family = family(any);
            let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
            all.extend(answers.iter().filter_map(|answer| route_of(answer, any)));
        }
        Ok(all)
    }

    /// Has the kernel look for a neighbour, as if it had a packet for it.
    pub fn look_for(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = interface;
        message.header.flags = NeighbourFlags::Use;
        message.header.state = NeighbourState::None;
        let target = match address {
            IpAddr::V4(a) => NeighbourAddress::Inet(a),
            IpAddr::V6(a) => NeighbourAddress::Inet6(a),
        };
        message.attributes.push(NeighbourAttribute::Destination(target));
        let flags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;
        self.ask(RouteNetlinkMessage::NewNeighbour(message), flags).map(drop)
    }

    /// Adds an address; that it is there already is no error. Duplicate detection of IPv6 is left
    /// out: an address that moves between nodes must work at once.
    pub fn add_address(&mut self, interface: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewAddress(address_message(interface, address, prefix));
        match self.ask(message, NLM_F_CREATE | NLM_F_ACK) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop),
        }
    }

    /// As [`Network::add_address`], for so long alone: the kernel takes it away where nobody says it again. Its
    /// grain is a second.
    pub fn lend_address(
        &mut self,
        interface: u32,
        address: IpAddr,
        prefix: u8,
        life: Duration,
    ) -> io::Result<()> {
        self.lend(interface, address, prefix, life, OURS)
    }

    fn lend(
        &mut self,
        interface: u32,
        address: IpAddr,
        prefix: u8,
        life: Duration,
        mark: u8,
    ) -> io::Result<()> {
        let mut message = address_message(interface, address, prefix);
        let replaced = |a: &AddressAttribute| {
            matches!(a, AddressAttribute::CacheInfo(_) | AddressAttribute::Protocol(_))
        };
        message.attributes.retain(|a| !replaced(a));
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(mark)));
        let seconds = u32::try_from(life.as_secs()).unwrap_or(u32::MAX);
        let mut info = CacheInfo::default();
        // See `address_message` for IPv6.
        (info.ifa_preferred, info.ifa_valid) = (if address.is_ipv6() { 0 } else { seconds }, seconds);
        message.attributes.push(AddressAttribute::CacheInfo(info));
        let flags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;
        self.ask(RouteNetlinkMessage::NewAddress(message), flags).map(drop)
    }

    /// Adds an address for connections that are finished here while another machine has it.
    pub fn keep_address(&mut self, interface: u32, address: IpAddr, life: Duration) -> io::Result<()> {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        self.lend(interface, address, whole, life, KEPT)?;
        // A kernel that does not know the mark would have it taken for the machine's own.
        let marked = |o: &OwnAddress| o.interface == interface && o.address == address && o.kept;
        match self.addresses()?.iter().any(marked) {
            true => Ok(()),
            false => {
                self.remove_address(interface, address, whole)?;
                Err(io::Error::other("this kernel marks no addresses (before 5.18)"))
            }
        }
    }

    pub fn remove_address(&mut self, interface: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelAddress(address_message(interface, address, prefix));
        self.ask(message, NLM_F_ACK).map(drop)
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let many = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut answers = Vec::new();
        loop {
            let (received, _) = self.socket.recv_from_full()?;
            let mut rest = received.as_slice();
            while rest.len() >= 16 && answers.len() < ANSWERS {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                if length < 16 || length > rest.len() {
                    break;
                }
                // What this library cannot read is of no use here either.
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&rest[..length]);
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
                let Ok(answer) = answer else { continue };
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(inner) => {
                        answers.push(inner);
                        if !many && flags & NLM_F_ACK == 0 {
                            return Ok(answers);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Counts changes of the kernel's tables.
pub struct NetworkChanges {
    neighbours: Arc<AtomicU64>,
    routes: Arc<AtomicU64>,
}

impl NetworkChanges {
    pub fn watch() -> io::Result<NetworkChanges> {
        Ok(NetworkChanges { neighbours: count_changes(NEIGHBOURS)?, routes: count_changes(ROUTES)? })
    }

    pub fn of_neighbours(&self) -> u64 {
        self.neighbours.load(Relaxed)
    }

    /// Of links, addresses and routes.
    pub fn of_routes(&self) -> u64 {
        self.routes.load(Relaxed)
    }
}

/// Calls `tell` at the start and whenever something of an interface has changed, its carrier for example,
/// with what the interfaces are then; until it says that nobody listens. The kernel tells it at once.
pub fn follow_interfaces(mut tell: impl FnMut(Vec<Interface>) -> bool + Send + 'static) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.add_membership(LINKS)?;
    let mut network = Network::open()?;
    std::thread::Builder::new().name("links".into()).spawn(move || {
        let _ = crate::run_first();
        loop {
            if network.interfaces().is_ok_and(|interfaces| !tell(interfaces)) {
                return;
            }
            // An overflow of the socket is news too.
            if socket.recv_from_full().is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    })?;
    Ok(())
}

fn count_changes(groups: &[u32]) -> io::Result<Arc<AtomicU64>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    // Groups that this kernel lacks bring no news.
    groups.iter().for_each(|group| drop(socket.add_membership(*group)));
    let changes = Arc::new(AtomicU64::new(1));
    let own = Arc::downgrade(&changes);
    std::thread::Builder::new().name("network".into()).spawn(move || {
        loop {
            // An overflow of the socket is news too.
            let read = socket.recv_from_full();
            let Some(changes) = own.upgrade() else { return };
            changes.fetch_add(1, Relaxed);
            if read.is_err() {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    })?;
    Ok(changes)
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}

fn address_message(interface: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = interface;
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        // Deprecated from the start: what this machine itself sends must not come from it.
        let mut life = CacheInfo::default();
        (life.ifa_preferred, life.ifa_valid) = (0, u32::MAX);
        message.attributes.push(AddressAttribute::CacheInfo(life));
    }
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(OURS)));
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

fn interface_of(answer: &RouteNetlinkMessage) -> Option<Interface> {
    let RouteNetlinkMessage::NewLink(link) = answer else { return None };
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 1500,
        up: link.header.flags.contains(LinkFlags::Up),
        carrier: link.header.flags.contains(LinkFlags::LowerUp),
        loopback: link.header.link_layer_type == LinkLayerType::Loopback,
        veth: false,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Address(mac) => interface.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::LinkInfo(all) => {
                interface.veth = all.iter().any(|i| matches!(i, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    Some(interface)
}

fn own_address_of(answer: &RouteNetlinkMessage) -> Option<OwnAddress> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let (mut found, mut ours, mut marked, mut kept) = (None, false, false, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Protocol(protocol) => {
                marked = true;
                ours = matches!(protocol, AddressProtocol::Other(OURS));
                kept = matches!(protocol, AddressProtocol::Other(KEPT));
            }
            // The own end, where the two differ.
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    let (interface, prefix) = (message.header.index, message.header.prefix_len);
    Some(OwnAddress { interface, address: found?, prefix, ours, marked, kept })
}

/// A route of the main table to other machines; `any` is the address of no network.
fn route_of(answer: &RouteNetlinkMessage, any: IpAddr) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    let header = &message.header;
    let is_of_main = header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
    let mut route = Route { to: any, prefix: header.destination_prefix_length, gateway: None, interface: 0 };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.to = plain(address)?,
            RouteAttribute::Gateway(address) => route.gateway = plain(address),
            RouteAttribute::Oif(index) => route.interface = *index,
            _ => {}
        }
    }
    (is_of_main && route.interface > 0).then_some(route)
}

fn neighbour_of(answer: &RouteNetlinkMessage) -> Option<((u32, IpAddr), [u8; 6])> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
    if matches!(
        message.header.state,
        NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::None
    ) {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(IpAddr::V4(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => address = Some(IpAddr::V6(*a)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some(((message.header.ifindex, address?), mac?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there() {
        let mut network = Network::open().unwrap();
        let interfaces = network.interfaces().unwrap();
        let loopback = interfaces.iter().find(|i| i.loopback).unwrap();
        assert_eq!(loopback.name, "lo");
        let addresses = network.addresses().unwrap();
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let own = addresses.iter().find(|a| a.address == local).unwrap();
        assert_eq!((own.interface, own.prefix), (loopback.index, 8));
        let way = network.way_to(local).unwrap();
        assert_eq!((way.interface, way.gateway), (loopback.index, None));
        network.neighbours().unwrap();
        assert!(network.routes().unwrap().iter().all(|route| route.interface > 0));
    }

    #[test]
    fn an_address_that_this_program_added_is_known_by_the_kernel() {
        let mut network = Network::open().unwrap();
        let loopback = network.interfaces().unwrap().into_iter().find(|i| i.loopback).unwrap().index;
        let place: IpAddr = "192.0.2.231".parse().unwrap();
        if let Err(error) = network.add_address(loopback, place, 32) {
            return eprintln!("not tested: {error}");
        }
        let addresses = network.addresses();
        network.remove_address(loopback, place, 32).unwrap();
        let addresses = addresses.unwrap();
        let ours: Vec<IpAddr> = addresses.iter().filter(|a| a.ours).map(|a| a.address).collect();
        assert!(ours.contains(&place), "{addresses:?}");
        assert!(!ours.contains(&"127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_address_that_is_lent_goes_by_itself() {
        let mut network = Network::open().unwrap();
        let loopback = network.interfaces().unwrap().into_iter().find(|i| i.loopback).unwrap().index;
        let places: [(IpAddr, u8); 2] =
            [("192.0.2.232".parse().unwrap(), 32), ("2001:db8::e7".parse().unwrap(), 128)];
        let there = |network: &mut Network, place: &IpAddr| {
            network.addresses().unwrap().iter().any(|a| a.address == *place && a.ours)
        };
        for (place, prefix) in places {
            if let Err(error) = network.lend_address(loopback, place, prefix, Duration::from_secs(100)) {
                eprintln!("not tested: {error}");
                continue;
            }
            assert!(there(&mut network, &place));
            // Said again, for a shorter time.
            network.lend_address(loopback, place, prefix, Duration::from_secs(1)).unwrap();
            let began = std::time::Instant::now();
            while there(&mut network, &place) {
                assert!(began.elapsed() < Duration::from_secs(60), "{place}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
