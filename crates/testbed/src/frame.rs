//! Builds Ethernet frames byte by byte, right or wrong on purpose.

use std::net::{IpAddr, SocketAddr};

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;
pub const FIN: u8 = 1;
pub const RST: u8 = 4;

/// A TCP or UDP packet; `bytes` writes it with right checksums.
#[derive(Clone, Debug)]
pub struct Frame {
    pub source_mac: [u8; 6],
    pub target_mac: [u8; 6],
    pub source: SocketAddr,
    pub target: SocketAddr,
    pub udp: bool,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledged: u32,
    /// TCP options, a multiple of four bytes.
    pub tcp_options: Vec<u8>,
    pub ttl: u8,
    pub payload: Vec<u8>,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers, each with its number; the chain is made here.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Identity, offset in bytes, whether more follow.
    pub fragment: Option<(u32, u16, bool)>,
    pub do_not_fragment: bool,
}

impl Frame {
    pub fn tcp(source: SocketAddr, target: SocketAddr, flags: u8) -> Frame {
        Frame {
            source_mac: [2, 0, 0, 0, 0, 0xc1],
            target_mac: [2, 0, 0, 0, 0, 1],
            source,
            target,
            udp: false,
            flags,
            sequence: 1,
            acknowledged: 2,
            tcp_options: Vec::new(),
            ttl: 64,
            payload: Vec::new(),
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            do_not_fragment: true,
        }
    }

    pub fn udp(source: SocketAddr, target: SocketAddr, payload: &[u8]) -> Frame {
        Frame { udp: true, payload: payload.to_vec(), ..Frame::tcp(source, target, 0) }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let later = self.fragment.is_some_and(|(_, offset, _)| offset > 0);
        let transport = if later { self.payload.clone() } else { self.transport() };
        let mut out = Vec::new();
        out.extend_from_slice(&self.target_mac);
        out.extend_from_slice(&self.source_mac);
        let protocol = if self.udp { 17 } else { 6 };
        match (self.source.ip(), self.target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                out.extend_from_slice(&[8, 0]);
                let header = 20 + self.options.len();
                let (identity, offset, more) = self.fragment.unwrap_or((0, 0, false));
                let mut flags = (offset / 8) | (u16::from(more) << 13);
                if self.do_not_fragment && self.fragment.is_none() {
                    flags |= 0x4000;
                }
                let mut ip = vec![0x40 | (header / 4) as u8, 0];
                ip.extend_from_slice(&((header + transport.len()) as u16).to_be_bytes());
                ip.extend_from_slice(&(identity as u16).to_be_bytes());
                ip.extend_from_slice(&flags.to_be_bytes());
                ip.extend_from_slice(&[self.ttl, protocol, 0, 0]);
                ip.extend_from_slice(&source.octets());
                ip.extend_from_slice(&target.octets());
                ip.extend_from_slice(&self.options);
                let sum = checksum(&[&ip]);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                out.extend_from_slice(&ip);
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                out.extend_from_slice(&[0x86, 0xdd]);
                let mut chain: Vec<(u8, Vec<u8>)> = self.extensions.clone();
                if let Some((identity, offset, more)) = self.fragment {
                    let mut body = vec![0, 0];
                    body.extend_from_slice(&((offset & !7) | u16::from(more)).to_be_bytes());
                    body.extend_from_slice(&identity.to_be_bytes());
                    chain.push((44, body));
                }
                let length: usize = chain.iter().map(|c| c.1.len()).sum();
                out.extend_from_slice(&[0x60, 0, 0, 0]);
                out.extend_from_slice(&((length + transport.len()) as u16).to_be_bytes());
                out.push(chain.first().map_or(protocol, |c| c.0));
                out.push(self.ttl);
                out.extend_from_slice(&source.octets());
                out.extend_from_slice(&target.octets());
                for i in 0..chain.len() {
                    let mut body = chain[i].1.clone();
                    body[0] = chain.get(i + 1).map_or(protocol, |c| c.0);
                    out.extend_from_slice(&body);
                }
            }
            _ => panic!("one IP version"),
        }
        out.extend_from_slice(&transport);
        out
    }

    fn transport(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.source.port().to_be_bytes());
        out.extend_from_slice(&self.target.port().to_be_bytes());
        let at = if self.udp {
            out.extend_from_slice(&((8 + self.payload.len()) as u16).to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            6
        } else {
            out.extend_from_slice(&self.sequence.to_be_bytes());
            out.extend_from_slice(&self.acknowledged.to_be_bytes());
            let header = 0x50 + 4 * self.tcp_options.len() as u8;
            out.extend_from_slice(&[header, self.flags, 0x20, 0, 0, 0, 0, 0]);
            out.extend_from_slice(&self.tcp_options);
            16
        };
        out.extend_from_slice(&self.payload);
        let sum = transport_sum(self.source.ip(), self.target.ip(), if self.udp { 17 } else { 6 }, &out);
        let sum = if self.udp && sum == 0 { 0xffff } else { sum };
        out[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        out
    }
}

/// The checksum of a transport header with its pseudo-header; 0 over one that is right.
pub fn transport_sum(source: IpAddr, target: IpAddr, protocol: u8, transport: &[u8]) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let [a, b, c, d] = (transport.len() as u32).to_be_bytes();
    checksum(&[&octets(source), &octets(target), &[a, b, c, d], &[0, protocol], transport])
}

/// RFC 1071, over parts of even length but the last.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
