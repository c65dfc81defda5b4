//! Tells clients that their connections no longer exist. A segment out of a connection's window makes
//! the client say where it stands (RFC 9293 §3.10.7.4); what it says is answered with a reset that fits.
//! The kernel would do that too, unless a socket of an earlier time is in the way, such as one in
//! TIME-WAIT.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

const TCP: u8 = 6;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Client and VIP.
pub type Ended = (SocketAddr, SocketAddr);

pub struct Waker {
    v4: Socket,
    v6: Option<Socket>,
}

impl Waker {
    pub fn open() -> io::Result<Waker> {
        let protocol = Some(Protocol::from(i32::from(TCP)));
        let v4 = Socket::new(Domain::IPV4, Type::RAW, protocol)?;
        v4.set_header_included_v4(true)?;
        v4.set_nonblocking(true)?;
        let v6 = Socket::new(Domain::IPV6, Type::RAW, protocol).ok();
        if let Some(v6) = &v6 {
            v6.set_nonblocking(true)?;
        }
        Ok(Waker { v4, v6 })
    }

    /// Asks each client where it stands.
    pub fn ask(&self, ended: &HashSet<Ended>) {
        for (at, (client, vip)) in ended.iter().enumerate() {
            let _ = self.send(*vip, *client, 0, ACK);
            if at % 500 == 499 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Resets those that answer within a time; they leave the set.
    pub fn reset(&self, ended: &mut HashSet<Ended>, within: Duration) {
        let end = Instant::now() + within;
        while Instant::now() < end && !ended.is_empty() {
            let mut heard = false;
            while let Some((client, vip, number)) = self.receive() {
                heard = true;
                let is_it = |e: &&Ended| e.0 == client && e.1.port() == vip.port();
                let found = match vip.ip().is_unspecified() {
                    true => ended.iter().find(is_it).copied(),
                    false => Some((client, vip)),
                };
                if let Some(found) = found.filter(|f| ended.remove(f)) {
                    let _ = self.send(found.1, client, number, RST);
                }
            }
            if !heard {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Who sent an acknowledgement, to whom, and what it expects next.
    fn receive(&self) -> Option<(SocketAddr, SocketAddr, u32)> {
        let mut buffer = [0u8; 128];
        if let Ok((length, _, _)) = recvfrom(&self.v4, &mut buffer[..], RecvFlags::DONTWAIT) {
            let packet = &buffer[..length.min(128)];
            let head: &[u8; 20] = packet.get(..20)?.try_into().ok()?;
            let four =
                |at: usize| IpAddr::V4(Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]));
            let segment = packet.get(usize::from(head[0] & 15) * 4..)?;
            return read(segment, four(12), four(16)).or(Some(NOBODY));
        }
        let (length, _, from) = recvfrom(self.v6.as_ref()?, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
        let source = SocketAddr::try_from(from?).ok()?.ip();
        // The target is not told; ports and the client's address find it.
        read(&buffer[..length.min(128)], source, IpAddr::from([0u16; 8])).or(Some(NOBODY))
    }

    fn send(&self, vip: SocketAddr, client: SocketAddr, number: u32, flags: u8) -> io::Result<()> {
        let segment = segment(vip, client, number, flags);
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

/// Something else came.
const NOBODY: (SocketAddr, SocketAddr, u32) = {
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    (nowhere, nowhere, 0)
};

fn read(segment: &[u8], source: IpAddr, target: IpAddr) -> Option<(SocketAddr, SocketAddr, u32)> {
    let head: &[u8; 20] = segment.get(..20)?.try_into().ok()?;
    let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let acknowledges = head[13] & (ACK | RST) == ACK;
    let number = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    acknowledges.then(|| (SocketAddr::new(source, port(0)), SocketAddr::new(target, port(2)), number))
}

fn segment(source: SocketAddr, target: SocketAddr, number: u32, flags: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(target.port().to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([5 << 4, flags, 0, 0, 0, 0, 0, 0]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_comes_back_as_it_was() {
        let (vip, client) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.9:40000".parse().unwrap());
        let mut sent = segment(vip, client, 0, ACK);
        sent[8..12].copy_from_slice(&77u32.to_be_bytes());
        assert_eq!(read(&sent, vip.ip(), client.ip()), Some((vip, client, 77)));
        assert_eq!(read(&segment(vip, client, 5, RST), vip.ip(), client.ip()), None);
        assert_eq!(read(&sent[..19], vip.ip(), client.ip()), None);
    }
}
