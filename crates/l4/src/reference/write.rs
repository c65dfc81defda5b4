//! Writes what a frame should become.

use std::net::{IpAddr, SocketAddr};

use evenkeel_model::Tunnel;

use super::read::{ETHERNET, Fragment, Packet, u16_at};
use super::{ACK, FIN, RST, SEND, SYN, Tuple, Verdict, drop_it};
use crate::shared::GUE_PORT;

pub(super) fn is_last_hop(frame: &[u8], packet: &Packet) -> bool {
    frame[ETHERNET + if packet.v6 { 7 } else { 8 }] <= 1
}

/// RFC 1624, equation 3, over whole words.
pub(super) fn adjust(sum: u16, from: &[u8], to: &[u8]) -> u16 {
    let mut total = u32::from(!sum);
    for (a, b) in from.chunks(2).zip(to.chunks(2)) {
        total += u32::from(!u16_at(a, 0)) + u32::from(u16_at(b, 0));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// Replaces bytes and adjusts the checksums that cover them.
pub(super) fn replace(frame: &mut [u8], at: usize, new: &[u8], sums: &[usize]) {
    let old = frame[at..at + new.len()].to_vec();
    frame[at..at + new.len()].copy_from_slice(new);
    for sum in sums {
        let adjusted = adjust(u16_at(frame, *sum), &old, new);
        frame[*sum..sum + 2].copy_from_slice(&adjusted.to_be_bytes());
    }
}

pub(super) fn lower_ttl(frame: &mut [u8], packet: &Packet) {
    if packet.v6 {
        frame[ETHERNET + 7] -= 1;
        return;
    }
    let word = [frame[ETHERNET + 8] - 1, frame[ETHERNET + 9]];
    replace(frame, ETHERNET + 8, &word, &[ETHERNET + 10]);
}

pub(super) fn octets(address: IpAddr, v6: bool) -> Vec<u8> {
    match address {
        IpAddr::V4(a) if v6 => a.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

pub(super) fn translate(frame: &mut [u8], packet: &Packet, (source, target): (SocketAddr, SocketAddr)) {
    let (first, size) = if packet.v6 { (ETHERNET + 8, 16) } else { (ETHERNET + 12, 4) };
    let at = packet.transport;
    let mut sums = Vec::new();
    let mut udp_without = false;
    if packet.fragment != Fragment::Later {
        let sum = at + if packet.protocol == 6 { 16 } else { 6 };
        udp_without = packet.protocol == 17 && u16_at(frame, sum) == 0;
        if !udp_without {
            sums.push(sum);
        }
        replace(frame, at, &source.port().to_be_bytes(), &sums);
        replace(frame, at + 2, &target.port().to_be_bytes(), &sums);
    }
    if !packet.v6 {
        sums.push(ETHERNET + 10);
    }
    replace(frame, first, &octets(source.ip(), packet.v6), &sums);
    replace(frame, first + size, &octets(target.ip(), packet.v6), &sums);
    if packet.fragment != Fragment::Later && packet.protocol == 17 && !udp_without {
        // Zero would say that there is no checksum (RFC 768).
        let sum = at + 6;
        if u16_at(frame, sum) == 0 {
            frame[sum..sum + 2].copy_from_slice(&[0xff, 0xff]);
        }
    }
}

pub(super) fn encapsulate(
    frame: &[u8],
    packet: &Packet,
    own: IpAddr,
    real: IpAddr,
    tunnel: Tunnel,
    seen: &[u8],
) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    let tos = match packet.v6 {
        true => frame[ETHERNET] << 4 | frame[ETHERNET + 1] >> 4,
        false => frame[ETHERNET + 1],
    };
    let inner = if packet.v6 { 41 } else { 4 };
    let (protocol, udp) = if tunnel == Tunnel::Gue { (17, 8) } else { (inner, 0) };
    let header = if real.is_ipv4() { 20 } else { 40 };
    if real.is_ipv4() {
        out.extend_from_slice(&[8, 0, 0x45, tos]);
        out.extend_from_slice(&((packet.length + 20 + udp) as u16).to_be_bytes());
        out.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
        out.extend(octets(own, false));
        out.extend(octets(real, false));
        let zero = vec![0; 20];
        let sum = adjust(0xffff, &zero, &out[ETHERNET..ETHERNET + 20]);
        out[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    } else {
        out.extend_from_slice(&[0x86, 0xdd, 0x60 | tos >> 4, tos << 4, 0, 0]);
        out.extend_from_slice(&((packet.length + udp) as u16).to_be_bytes());
        out.extend_from_slice(&[protocol, 64]);
        out.extend(octets(own, true));
        out.extend(octets(real, true));
    }
    if tunnel == Tunnel::Gue {
        let at = ETHERNET + header;
        let port = if seen.len() > at + 2 { u16_at(seen, at) } else { 0 };
        out.extend_from_slice(&port.max(49_152).to_be_bytes());
        out.extend_from_slice(&(GUE_PORT as u16).to_be_bytes());
        out.extend_from_slice(&((packet.length + 8) as u16).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    }
    out.extend_from_slice(&frame[ETHERNET..]);
    out
}

pub(super) enum Answer {
    TimeExceeded,
    TooBig(u16),
}

/// An ICMP error for the sender of this packet.
pub(super) fn answer(frame: &[u8], packet: &Packet, what: Answer) -> Verdict {
    let quoted = if packet.v6 { 48 } else { 28 };
    if !packet.plain || frame.len() < ETHERNET + quoted {
        return drop_it();
    }
    let ip = &frame[ETHERNET..ETHERNET + quoted];
    let (kind, code, mtu) = match (what, packet.v6) {
        (Answer::TimeExceeded, false) => (11, 0, 0),
        (Answer::TooBig(mtu), false) => (3, 4, mtu),
        (Answer::TimeExceeded, true) => (3, 0, 0),
        (Answer::TooBig(mtu), true) => (2, 0, mtu),
    };
    let mut icmp = vec![kind, code, 0, 0, 0, 0];
    icmp.extend_from_slice(&mtu.to_be_bytes());
    icmp.extend_from_slice(ip);
    let mut out = [&frame[6..12], &frame[..6], &frame[12..14]].concat();
    if packet.v6 {
        out.extend_from_slice(&[0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 64]);
        out.extend_from_slice(&ip[24..40]);
        out.extend_from_slice(&ip[8..24]);
        let pseudo = [&ip[8..40], &[0, icmp.len() as u8, 0, 58], &icmp].concat();
        let sum = adjust(0xffff, &vec![0; pseudo.len()], &pseudo);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    } else {
        let mut header = vec![0x45, 0xc0, 0, (20 + icmp.len()) as u8, 0, 0, 0, 0, 64, 1, 0, 0];
        header.extend_from_slice(&ip[16..20]);
        header.extend_from_slice(&ip[12..16]);
        let sum = adjust(0xffff, &[0; 20], &header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&header);
        let sum = adjust(0xffff, &vec![0; icmp.len()], &icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    out.extend_from_slice(&icmp);
    Verdict { action: SEND, frame: out }
}

/// A reset for the sender of this segment.
pub(super) fn reset(frame: &[u8], packet: &Packet) -> Verdict {
    let network = if packet.v6 { 40 } else { 20 };
    if !packet.plain || frame.len() < ETHERNET + network + 20 || packet.flags & RST != 0 {
        return drop_it();
    }
    let mut out = [&frame[6..12], &frame[..6], &frame[12..ETHERNET + network + 20]].concat();
    let tcp = ETHERNET + network;
    let segment = &frame[tcp..tcp + 20];
    let spoken = packet.length as u32 - network as u32 - u32::from(segment[12] >> 4) * 4
        + u32::from(packet.flags & SYN != 0)
        + u32::from(packet.flags & FIN != 0);
    out[tcp..tcp + 2].copy_from_slice(&segment[2..4]);
    out[tcp + 2..tcp + 4].copy_from_slice(&segment[..2]);
    let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
    if packet.flags & ACK != 0 {
        out[tcp + 4..tcp + 8].copy_from_slice(&segment[8..12]);
        out[tcp + 8..tcp + 12].fill(0);
        out[tcp + 13] = RST;
    } else {
        out[tcp + 4..tcp + 8].fill(0);
        out[tcp + 8..tcp + 12].copy_from_slice(&sequence.wrapping_add(spoken).to_be_bytes());
        out[tcp + 13] = RST | ACK;
    }
    out[tcp + 12] = 5 << 4;
    out[tcp + 14..tcp + 20].fill(0);
    let ip = ETHERNET;
    if packet.v6 {
        out[ip + 4..ip + 6].copy_from_slice(&20u16.to_be_bytes());
        out[ip + 7] = 64;
        out[ip + 8..ip + 24].copy_from_slice(&frame[ip + 24..ip + 40]);
        out[ip + 24..ip + 40].copy_from_slice(&frame[ip + 8..ip + 24]);
    } else {
        out[ip + 2..ip + 4].copy_from_slice(&40u16.to_be_bytes());
        out[ip + 6..ip + 8].copy_from_slice(&[0x40, 0]);
        out[ip + 8] = 64;
        out[ip + 10..ip + 12].fill(0);
        out[ip + 12..ip + 16].copy_from_slice(&frame[ip + 16..ip + 20]);
        out[ip + 16..ip + 20].copy_from_slice(&frame[ip + 12..ip + 16]);
        let sum = adjust(0xffff, &[0; 20], &out[ip..ip + 20]);
        out[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
    }
    let addresses = if packet.v6 { ip + 8..ip + 40 } else { ip + 12..ip + 20 };
    let pseudo = [&out[addresses], &[0, 20, 0, 6], &out[tcp..tcp + 20]].concat();
    let sum = adjust(0xffff, &vec![0; pseudo.len()], &pseudo);
    out[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    Verdict { action: SEND, frame: out }
}

pub(super) fn write_quoted(frame: &mut [u8], packet: &Packet, to: Tuple, shift: u32) {
    let icmp = packet.transport + 2;
    let at = packet.transport + 8;
    let (header, size, first) = if packet.v6 { (40, 16, 8) } else { (20, 4, 12) };
    let before = u16_at(frame, icmp);
    let old = frame[at..at + header + 8].to_vec();
    let sums: &[usize] = if packet.v6 { &[] } else { &[at + 10] };
    replace(frame, at + first, &octets(to.source.ip(), packet.v6), sums);
    replace(frame, at + first + size, &octets(to.target.ip(), packet.v6), sums);
    replace(frame, at + header, &to.source.port().to_be_bytes(), &[]);
    replace(frame, at + header + 2, &to.target.port().to_be_bytes(), &[]);
    let number = &mut frame[at + header + 4..at + header + 8];
    let shifted = u32::from_be_bytes([number[0], number[1], number[2], number[3]]).wrapping_add(shift);
    number.copy_from_slice(&shifted.to_be_bytes());
    let adjusted = adjust(before, &old, &frame[at..at + header + 8]);
    frame[icmp..icmp + 2].copy_from_slice(&adjusted.to_be_bytes());
}

pub(super) fn write_outer(frame: &mut [u8], packet: &Packet, (source, target): (IpAddr, IpAddr)) {
    let (first, size) = if packet.v6 { (ETHERNET + 8, 16) } else { (ETHERNET + 12, 4) };
    let sum = if packet.v6 { packet.transport + 2 } else { ETHERNET + 10 };
    replace(frame, first, &octets(source, packet.v6), &[sum]);
    replace(frame, first + size, &octets(target, packet.v6), &[sum]);
}
