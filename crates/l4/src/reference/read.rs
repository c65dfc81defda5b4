//! Takes frames apart.

use std::net::{IpAddr, SocketAddr};

use super::{FragmentKey, Tuple};
use crate::shared::address_of;

/// A frame taken apart.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) v6: bool,
    pub(super) source: IpAddr,
    pub(super) target: IpAddr,
    pub(super) protocol: u8,
    /// First and last byte of the IP packet, and where its transport begins.
    pub(super) length: usize,
    pub(super) transport: usize,
    pub(super) plain: bool,
    pub(super) fragment: Fragment,
    pub(super) identity: u32,
    pub(super) ports: (u16, u16),
    pub(super) flags: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    None,
    First,
    Later,
}

pub(super) enum Read {
    Fine(Packet),
    Other,
    Malformed,
}

pub(super) const ETHERNET: usize = 14;

impl Packet {
    pub(super) fn tuple(&self) -> Tuple {
        Tuple {
            source: SocketAddr::new(self.source, self.ports.0),
            target: SocketAddr::new(self.target, self.ports.1),
            protocol: self.protocol,
        }
    }

    pub(super) fn fragment_key(&self) -> FragmentKey {
        FragmentKey {
            source: self.source,
            target: self.target,
            identity: self.identity,
            protocol: self.protocol,
        }
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn mac_at(bytes: &[u8], at: usize) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    mac
}

pub(super) fn ip_at(bytes: &[u8], at: usize, size: usize) -> IpAddr {
    let mut octets = [0; 16];
    if size == 4 {
        octets[10..12].copy_from_slice(&[0xff, 0xff]);
        octets[12..].copy_from_slice(&bytes[at..at + 4]);
        return address_of(octets);
    }
    octets.copy_from_slice(&bytes[at..at + 16]);
    address_of(octets)
}

pub(super) fn read(frame: &[u8]) -> Read {
    match u16_at(frame, 12) {
        0x0800 => read_v4(frame),
        0x86dd => read_v6(frame),
        _ => Read::Other,
    }
}

pub(super) fn read_v4(frame: &[u8]) -> Read {
    let ip = &frame[ETHERNET..];
    if ip.len() < 20 {
        return Read::Malformed;
    }
    let (header, total) = (usize::from(ip[0] & 15) * 4, usize::from(u16_at(ip, 2)));
    if ip[0] >> 4 != 4 || header < 20 || total < header || total > ip.len() {
        return Read::Malformed;
    }
    let fragment = u16_at(ip, 6) & 0x3fff;
    read_ports(
        frame,
        Packet {
            v6: false,
            source: ip_at(ip, 12, 4),
            target: ip_at(ip, 16, 4),
            protocol: ip[9],
            length: total,
            transport: ETHERNET + header,
            plain: header == 20,
            fragment: match (fragment, fragment & 0x1fff) {
                (0, _) => Fragment::None,
                (_, 0) => Fragment::First,
                _ => Fragment::Later,
            },
            identity: u32::from(u16_at(ip, 4)),
            ports: (0, 0),
            flags: 0,
        },
    )
}

pub(super) fn read_v6(frame: &[u8]) -> Read {
    let ip = &frame[ETHERNET..];
    if ip.len() < 40 || ip[0] >> 4 != 6 || usize::from(u16_at(ip, 4)) + 40 > ip.len() {
        return Read::Malformed;
    }
    let total = usize::from(u16_at(ip, 4)) + 40;
    if ip_at(ip, 8, 16).is_ipv4() || ip_at(ip, 24, 16).is_ipv4() {
        return Read::Malformed;
    }
    let mut packet = Packet {
        v6: true,
        source: ip_at(ip, 8, 16),
        target: ip_at(ip, 24, 16),
        protocol: ip[6],
        length: total,
        transport: ETHERNET + 40,
        plain: true,
        fragment: Fragment::None,
        identity: 0,
        ports: (0, 0),
        flags: 0,
    };
    let mut at = packet.transport;
    for _ in 0..6 {
        if matches!(packet.protocol, 6 | 17) && at == ETHERNET + 40 {
            break;
        }
        match packet.protocol {
            0 | 43 | 60 => {
                let Some(header) = frame.get(at..at + 8) else { return Read::Malformed };
                packet.protocol = header[0];
                at += (usize::from(header[1]) + 1) * 8;
                packet.plain = false;
            }
            44 => {
                let Some(header) = frame.get(at..at + 8) else { return Read::Malformed };
                packet.protocol = header[0];
                let offset = u16_at(header, 2) & 0xfff9;
                packet.identity = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
                if offset != 0 {
                    packet.fragment = if offset >> 3 != 0 { Fragment::Later } else { Fragment::First };
                }
                at += 8;
                packet.plain = false;
                if packet.fragment == Fragment::Later {
                    break;
                }
            }
            _ => {}
        }
        if at > 0x1ff - 64 {
            return Read::Other;
        }
    }
    if at - ETHERNET > total {
        return Read::Malformed;
    }
    packet.transport = at;
    read_ports(frame, packet)
}

pub(super) fn read_ports(frame: &[u8], mut packet: Packet) -> Read {
    if packet.fragment == Fragment::Later {
        return Read::Fine(packet);
    }
    let left = packet.length + ETHERNET - packet.transport;
    let body = &frame[packet.transport.min(frame.len())..];
    match packet.protocol {
        6 => {
            if body.len() < 20 {
                return Read::Malformed;
            }
            let header = usize::from(body[12] >> 4) * 4;
            if header < 20 || header > left {
                return Read::Malformed;
            }
            packet.flags = body[13];
        }
        17 if body.len() < 8 || left < 8 => return Read::Malformed,
        17 => {}
        _ => return Read::Fine(packet),
    }
    packet.ports = (u16_at(body, 0), u16_at(body, 2));
    Read::Fine(packet)
}

/// The packet that an ICMP error is about.
pub(super) fn quoted(frame: &[u8], packet: &Packet) -> Option<Tuple> {
    let at = packet.transport + 8;
    let (header, size, first) = if packet.v6 { (40, 16, 8) } else { (20, 4, 12) };
    let ip = frame.get(at..at + header)?;
    if !packet.v6 && (ip[0] != 0x45 || u16_at(ip, 6) & 0x1fff != 0) {
        return None;
    }
    let protocol = if packet.v6 { ip[6] } else { ip[9] };
    let ports = frame.get(at + header..at + header + 8)?;
    matches!(protocol, 6 | 17).then(|| Tuple {
        source: SocketAddr::new(ip_at(ip, first, size), u16_at(ports, 0)),
        target: SocketAddr::new(ip_at(ip, first + size, size), u16_at(ports, 2)),
        protocol,
    })
}
