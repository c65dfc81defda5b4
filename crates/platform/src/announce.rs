//! Tells a network where an address is now: gratuitous ARP and unsolicited neighbour adverts; and
//! asks it whether somebody else has one.

use std::io;
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
const NEIGHBOUR_ADVERT: u8 = 136;
/// Override: what the receiver knew is wrong.
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_ADDRESS: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// One interface on which addresses are announced. Open before it is needed: opening takes longer
/// than sending.
pub struct Announcer {
    index: u32,
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
            read_timeout: Some(Duration::from_millis(2)),
            channel_type: ChannelType::Layer3(ETHERTYPE_ARP),
            promiscuous: false,
            socket_fd: Some(socket.into_raw_fd()),
            ..Config::default()
        };
        match pnet_datalink::channel(&interface, config)? {
            Channel::Ethernet(sender, receiver) => Ok(Announcer { index, mac, sender, receiver }),
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

    /// Whoever else answers for one of these addresses within a time (RFC 5227's probe).
    pub fn ask(&mut self, addresses: &[IpAddr], within: Duration) -> Option<(IpAddr, [u8; 6])> {
        let asked: Vec<Ipv4Addr> = addresses
            .iter()
            .filter_map(|a| match a {
                IpAddr::V4(a) => Some(*a),
                IpAddr::V6(_) => None,
            })
            .collect();
        if asked.is_empty() {
            return None;
        }
        let _ = (0..WAITING).find(|_| self.receiver.next().is_err());
        for address in &asked {
            let probe = arp(REQUEST, self.mac, Ipv4Addr::UNSPECIFIED, [0; 6], *address);
            let _ = self.send(&probe);
        }
        let end = Instant::now() + within;
        while Instant::now() < end {
            // A time-out of the socket is an error here.
            let Ok(frame) = self.receiver.next() else { continue };
            let Some((mac, address)) = reply_of(frame) else { continue };
            if mac != self.mac && asked.contains(&address) {
                return Some((address.into(), mac));
            }
        }
        None
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
