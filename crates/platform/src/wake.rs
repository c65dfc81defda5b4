//! Wakes a client that waits on a connection which no longer exists: a segment out of its window
//! makes it say where it stands (RFC 9293 §3.10.7.4), and the kernel answers that with a reset.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};

const TCP: u8 = 6;
const ACK: u8 = 0x10;

pub struct Waker {
    v4: Socket,
}

impl Waker {
    pub fn open() -> io::Result<Waker> {
        let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(TCP))))?;
        v4.set_header_included_v4(true)?;
        // Nothing is read from it.
        v4.set_recv_buffer_size(1)?;
        Ok(Waker { v4 })
    }

    pub fn wake(&self, vip: SocketAddr, client: SocketAddr) -> io::Result<()> {
        let segment = segment(vip, client);
        match (vip.ip(), client.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let mut packet = vec![0x45, 0];
                packet.extend((20 + segment.len() as u16).to_be_bytes());
                packet.extend([0, 0, 0x40, 0, 64, TCP, 0, 0]);
                packet.extend(source.octets());
                packet.extend(target.octets());
                packet.extend(segment);
                self.v4.send_to(&packet, &SocketAddr::new(client.ip(), 0).into()).map(drop)
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(i32::from(TCP))))?;
                socket.set_recv_buffer_size(1)?;
                socket.bind(&SocketAddrV6::new(source, 0, 0, 0).into())?;
                socket.send_to(&segment, &SocketAddrV6::new(target, 0, 0, 0).into()).map(drop)
            }
            _ => Ok(()),
        }
    }
}

fn segment(source: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(target.port().to_be_bytes());
    // Sequence and acknowledgement of nothing.
    bytes.extend([0; 8]);
    bytes.extend([5 << 4, ACK, 0, 0, 0, 0, 0, 0]);
    let octets = |address: IpAddr| match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let pseudo = [octets(source.ip()), octets(target.ip()), vec![0, TCP, 0, bytes.len() as u8]].concat();
    let words = pseudo.chunks(2).chain(bytes.chunks(2));
    let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
}
