//! Sockets of VRRP: one interface, one family, messages of protocol 112.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{RecvFlags, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

const PROTOCOL: i32 = 112;
const TTL: u32 = 255;

pub struct VrrpSocket {
    socket: Socket,
    /// Sent from, and told apart from one's own by.
    pub source: IpAddr,
    targets: Vec<SocketAddr>,
}

/// The payload of a packet that came in.
#[derive(Debug)]
pub struct VrrpPacket {
    pub payload: Vec<u8>,
    pub source: IpAddr,
    pub target: IpAddr,
    pub ttl: u8,
}

impl VrrpSocket {
    /// `source` is an own address of the interface; messages go to the group or to single routers.
    pub fn open(
        interface: (&str, u32),
        source: IpAddr,
        group: IpAddr,
        unicast: &[IpAddr],
    ) -> io::Result<VrrpSocket> {
        let (name, index) = interface;
        let domain = if source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(PROTOCOL)))?;
        socket.bind_device(Some(name.as_bytes()))?;
        match group {
            IpAddr::V4(group) => {
                socket.set_ttl_v4(TTL)?;
                socket.set_multicast_ttl_v4(TTL)?;
                socket.set_multicast_loop_v4(false)?;
                let by_index = socket2::InterfaceIndexOrAddress::Index(index);
                socket.join_multicast_v4_n(&group, &by_index)?;
                if let IpAddr::V4(own) = source {
                    socket.set_multicast_if_v4(&own)?;
                }
                // Of several own addresses this is the one that is compared in elections.
                socket.set_header_included_v4(true)?;
            }
            IpAddr::V6(group) => {
                socket.set_unicast_hops_v6(TTL)?;
                socket.set_multicast_hops_v6(TTL)?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_if_v6(index)?;
                socket.join_multicast_v6(&group, index)?;
            }
        }
        socket.set_nonblocking(true)?;
        let to = |address: IpAddr| match address {
            IpAddr::V6(a) => std::net::SocketAddrV6::new(a, 0, 0, index).into(),
            IpAddr::V4(_) => SocketAddr::new(address, 0),
        };
        let targets = match unicast.is_empty() {
            true => vec![to(group)],
            false => unicast.iter().map(|a| to(*a)).collect(),
        };
        Ok(VrrpSocket { socket, source, targets })
    }

    /// Sends what `message` makes for each target's address.
    pub fn send(&self, message: impl Fn(IpAddr) -> Vec<u8>) -> io::Result<()> {
        for target in &self.targets {
            let payload = message(target.ip());
            let packet = match (self.source, target.ip()) {
                (IpAddr::V4(source), IpAddr::V4(to)) => with_header(source, to, &payload),
                _ => payload,
            };
            self.socket.send_to(&packet, &(*target).into())?;
        }
        Ok(())
    }

    /// The next packet, if one is there.
    pub fn receive(&self) -> Option<VrrpPacket> {
        let mut buffer = [0u8; 2048];
        let (length, _, from) = recvfrom(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
        let packet = buffer.get(..length)?;
        if self.source.is_ipv4() {
            let head: &[u8; 20] = packet.get(..20)?.try_into().ok()?;
            let four = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]);
            let payload = packet.get(usize::from(head[0] & 15) * 4..)?.to_vec();
            return Some(VrrpPacket {
                payload,
                source: four(12).into(),
                target: four(16).into(),
                ttl: head[8],
            });
        }
        let source = SocketAddr::try_from(from?).ok()?.ip();
        let IpAddr::V6(v6) = source else { return None };
        let known = self.targets.iter().any(|t| t.ip() == source);
        // A packet with a link-local source has passed no router.
        let ttl = if known || v6.is_unicast_link_local() { TTL as u8 } else { 0 };
        let target = match self.targets.first()?.ip() {
            group if group.is_multicast() => group,
            _ => self.source,
        };
        Some(VrrpPacket { payload: packet.to_vec(), source, target, ttl })
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn with_header(source: Ipv4Addr, target: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = Vec::with_capacity(usize::from(length));
    // Internetwork control (RFC 9568 §5.1 leaves it open; routers treat it as their own).
    packet.extend([0x45, 0xc0]);
    packet.extend(length.to_be_bytes());
    // The kernel fills in the identification and the checksum.
    packet.extend([0, 0, 0, 0, TTL as u8, PROTOCOL as u8, 0, 0]);
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet.extend(payload);
    packet
}
