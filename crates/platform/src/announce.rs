//! Tells a network where an address is now: gratuitous ARP and unsolicited neighbour adverts; and
//! asks it whether somebody else has one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::os::fd::IntoRawFd;
use std::time::{Duration, Instant};

use pnet_datalink::{
    Channel, ChannelType, Config, DataLinkReceiver, DataLinkSender, MacAddr, NetworkInterface,
};
use socket2::{Domain, Protocol, Socket, Type};

const BROADCAST: [u8; 6] = [0xff; 6];
const ETHERTYPE_ARP: u16 = 0x0806;
const ARP: [u8; 2] = ETHERTYPE_ARP.to_be_bytes();
/// Frames that waited are read away before something is asked.
const WAITING: usize = 2_000;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// How long one look for an answer takes at most.
const READ: Duration = Duration::from_millis(2);
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERT: u8 = 136;
/// Override: what the receiver knew is wrong.
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_ADDRESS: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// One interface on which addresses are announced. Open before it is needed: opening takes longer
/// than sending.
pub struct Announcer {
    index: u32,
    name: String,
    mac: [u8; 6],
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
}

impl Announcer {
    pub fn open(index: u32, name: &str, mac: [u8; 6]) -> io::Result<Announcer> {
        let [a, b, c, d, e, f] = mac;
        let interface = NetworkInterface {
            name: name.into(),
            description: String::new(),
            index,
            mac: Some(MacAddr(a, b, c, d, e, f)),
            ips: Vec::new(),
            flags: 0,
        };
        // For ARP alone: a socket for all frames would cost every packet of the interface a copy.
        let protocol = Protocol::from(i32::from(ETHERTYPE_ARP.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
        let config = Config {
            read_timeout: Some(READ),
            channel_type: ChannelType::Layer3(ETHERTYPE_ARP),
            promiscuous: false,
            socket_fd: Some(socket.into_raw_fd()),
            ..Config::default()
        };
        match pnet_datalink::channel(&interface, config)? {
            Channel::Ethernet(sender, receiver) => {
                Ok(Announcer { index, name: name.into(), mac, sender, receiver })
            }
            _ => Err(io::Error::other("no Ethernet")),
        }
    }

    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Says that an address is here.
    pub fn announce(&mut self, address: IpAddr) -> io::Result<()> {
        match address {
            // Some learn from requests alone, some from replies.
            IpAddr::V4(own) => [REQUEST, REPLY].into_iter().try_for_each(|operation| {
                let target = if operation == REQUEST { [0; 6] } else { BROADCAST };
                self.send(&arp(operation, self.mac, own, target, own))
            }),
            IpAddr::V6(own) => self.advertise(own),
        }
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sender.send_to(frame, None).unwrap_or_else(|| Err(io::Error::other("the frame was not sent")))
    }

    /// RFC 4861 §7.2.6.
    fn advertise(&self, own: Ipv6Addr) -> io::Result<()> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_if_v6(self.index)?;
        socket.bind(&SocketAddrV6::new(own, 0, 0, 0).into())?;
        let mut message = vec![NEIGHBOUR_ADVERT, 0, 0, 0, OVERRIDE, 0, 0, 0];
        message.extend(own.octets());
        message.extend([TARGET_LINK_ADDRESS, 1]);
        message.extend(self.mac);
        socket.send_to(&message, &SocketAddrV6::new(ALL_NODES, 0, 0, self.index).into()).map(drop)
    }

    /// Whoever else answers first for one of these addresses.
    pub fn ask(&mut self, addresses: &[IpAddr], within: Duration) -> Option<(IpAddr, [u8; 6])> {
        let mut first = None;
        self.probe(addresses, within, |address, mac| {
            first = Some((address, mac));
            true
        });
        first
    }

    /// Who else answers for each of these addresses; over as soon as all are known to be taken.
    ///
    /// `own`: MACs of this machine, which is nobody else by any of its interfaces.
    pub fn ask_each(
        &mut self,
        addresses: &[IpAddr],
        own: &[[u8; 6]],
        within: Duration,
    ) -> BTreeMap<IpAddr, [u8; 6]> {
        let mut each = BTreeMap::new();
        self.probe(addresses, within, |address, mac| {
            if own.contains(&mac) {
                return false;
            }
            each.insert(address, mac);
            each.len() == addresses.len()
        });
        each
    }

    /// All MACs but the interface's own that answer for each address.
    pub fn ask_all(&mut self, addresses: &[IpAddr], within: Duration) -> BTreeMap<IpAddr, BTreeSet<[u8; 6]>> {
        let mut all: BTreeMap<IpAddr, BTreeSet<[u8; 6]>> = BTreeMap::new();
        self.probe(addresses, within, |address, mac| {
            all.entry(address).or_default().insert(mac);
            false
        });
        all
    }

    /// Who of these answers, asked from an own address of that network: some do not answer one who has
    /// none. A thread that was late still takes what came in time.
    pub fn answering(
        &mut self,
        own: Option<Ipv4Addr>,
        addresses: &[IpAddr],
        within: Duration,
    ) -> BTreeSet<IpAddr> {
        let _ = (0..WAITING).find(|_| self.receiver.next().is_err());
        let mut ears6 = addresses.iter().any(IpAddr::is_ipv6).then(|| self.listen6().ok()).flatten();
        for address in addresses {
            let _ = match address {
                IpAddr::V4(address) => {
                    let own = own.unwrap_or(Ipv4Addr::UNSPECIFIED);
                    self.send(&arp(REQUEST, self.mac, own, [0; 6], *address))
                }
                IpAddr::V6(address) => self.send(&solicitation(self.mac, *address)),
            };
        }
        let (end, mut answered) = (Instant::now() + within, BTreeSet::new());
        loop {
            let late = Instant::now() >= end;
            let heard4 = self.receiver.next().ok().map(<[u8]>::to_vec);
            let mut message = [0; 1500];
            let length = ears6.as_mut().and_then(|socket| socket.read(&mut message).ok()).unwrap_or(0);
            let nothing = heard4.is_none() && length == 0;
            let heard4 = heard4.and_then(|frame| reply_of(&frame)).map(|(mac, a)| (mac, IpAddr::V4(a)));
            let heard6 = advert_of(&message[..length]).map(|(mac, a)| (mac, IpAddr::V6(a)));
            let others = heard4.into_iter().chain(heard6).filter(|(mac, _)| *mac != self.mac);
            answered.extend(others.map(|(_, address)| address).filter(|a| addresses.contains(a)));
            if answered.len() == addresses.len() || (late && nothing) || Instant::now() >= end + within {
                return answered;
            }
        }
    }

    /// Asks without claiming the addresses (RFC 5227, RFC 4862 §5.4), and listens until somebody has
    /// heard enough.
    fn probe(
        &mut self,
        addresses: &[IpAddr],
        within: Duration,
        mut enough: impl FnMut(IpAddr, [u8; 6]) -> bool,
    ) {
        let (mut asked4, mut ears6) = (false, None);
        for address in addresses {
            match address {
                IpAddr::V4(address) => {
                    if !asked4 {
                        let _ = (0..WAITING).find(|_| self.receiver.next().is_err());
                    }
                    asked4 = true;
                    let probe = arp(REQUEST, self.mac, Ipv4Addr::UNSPECIFIED, [0; 6], *address);
                    let _ = self.send(&probe);
                }
                IpAddr::V6(address) => {
                    if ears6.is_none() {
                        ears6 = self.listen6().ok();
                    }
                    let _ = self.send(&solicitation(self.mac, *address));
                }
            }
        }
        let end = Instant::now() + within;
        while (asked4 || ears6.is_some()) && Instant::now() < end {
            let heard4 = match asked4 {
                // A time-out of the socket is an error here.
                true => self.receiver.next().ok().and_then(reply_of),
                false => None,
            };
            let heard4 = heard4.map(|(mac, address)| (mac, IpAddr::V4(address)));
            let mut message = [0; 1500];
            let length = ears6.as_mut().and_then(|socket| socket.read(&mut message).ok()).unwrap_or(0);
            let heard6 = advert_of(&message[..length]).map(|(mac, address)| (mac, IpAddr::V6(address)));
            for (mac, address) in heard4.into_iter().chain(heard6) {
                if mac != self.mac && addresses.contains(&address) && enough(address, mac) {
                    return;
                }
            }
        }
    }

    /// Hears the neighbour adverts of this interface.
    fn listen6(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(self.name.as_bytes()))?;
        socket.join_multicast_v6(&ALL_NODES, self.index)?;
        socket.set_read_timeout(Some(READ))?;
        Ok(socket)
    }
}

fn arp(operation: u8, mac: [u8; 6], own: Ipv4Addr, target_mac: [u8; 6], target: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &BROADCAST);
    put(6, &mac);
    put(12, &ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    put(14, &[0, 1, 8, 0, 6, 4, 0, operation]);
    put(22, &mac);
    put(28, &own.octets());
    put(32, &target_mac);
    put(38, &target.octets());
    frame
}

/// Who a reply is from, and for which address.
fn reply_of(frame: &[u8]) -> Option<([u8; 6], Ipv4Addr)> {
    let frame: &[u8; 42] = frame.get(..42)?.try_into().ok()?;
    let is_reply = frame[12..14] == ARP && frame[20..22] == [0, REPLY];
    let mac = frame[22..28].try_into().ok()?;
    is_reply.then_some((mac, Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31])))
}

/// Asks for an address from none (RFC 4861 §4.3): everybody hears the answer.
fn solicitation(mac: [u8; 6], target: Ipv6Addr) -> [u8; 78] {
    const LENGTH: u8 = 24;
    const ICMPV6: u8 = 58;
    let octets = target.octets();
    let mut group = [0; 16];
    group[..13].copy_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
    group[13..].copy_from_slice(&octets[13..]);
    let mut frame = [0; 78];
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x33, 0x33]);
    put(2, &group[12..]);
    put(6, &mac);
    put(12, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, LENGTH, ICMPV6, 255]);
    put(38, &group);
    put(54, &[NEIGHBOUR_SOLICITATION]);
    put(62, &octets);
    // The pseudo header of RFC 8200 §8.1; the source is zero.
    let words = frame[38..78].chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum = words.sum::<u32>() + u32::from(LENGTH) + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[56..58].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

/// Who a neighbour advert is from, and for which address.
fn advert_of(message: &[u8]) -> Option<([u8; 6], Ipv6Addr)> {
    let fixed: &[u8; 24] = message.get(..24)?.try_into().ok()?;
    let target: [u8; 16] = fixed[8..].try_into().ok()?;
    let option = message.get(24..32).filter(|o| o[..2] == [TARGET_LINK_ADDRESS, 1])?;
    (fixed[0] == NEIGHBOUR_ADVERT).then_some((option[2..].try_into().ok()?, target.into()))
}
