//! ICMP echo, by the kernel's own ping sockets where they are allowed, else by a raw one.

use std::net::SocketAddr;
use std::time::Instant;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub async fn probe(address: SocketAddr, number: u16) -> Result<String, String> {
    let (domain, protocol) = match address {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => (socket, false),
        Err(_) => (Socket::new(domain, Type::RAW, Some(protocol)).map_err(|e| format!("ping: {e}"))?, true),
    };
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    let mut target = address;
    target.set_port(0);
    socket.connect(&SockAddr::from(target)).map_err(|e| crate::connect::describe(&e))?;
    let mark = (Instant::now(), number);
    let mark = md5::compute(format!("{mark:?}")).0;
    let mut packet = vec![if address.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
    packet.extend_from_slice(&[mark[0], mark[1]]);
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&mark);
    // The kernel fills it in for ping sockets and for IPv6.
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    // What the kernel sends and receives on it are datagrams like any others.
    let socket = tokio::net::UdpSocket::from_std(socket.into()).map_err(|e| e.to_string())?;
    socket.send(&packet).await.map_err(|e| crate::connect::describe(&e))?;
    let reply = if address.is_ipv4() { 0 } else { 129 };
    let mut buffer = [0; 512];
    loop {
        let count = socket.recv(&mut buffer).await.map_err(|e| crate::connect::describe(&e))?;
        // A raw IPv4 socket shows the IP header too.
        let skip = if raw && address.is_ipv4() { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
        let answer = buffer.get(skip..count).unwrap_or(&[]);
        if answer.first() == Some(&reply) && answer.ends_with(&mark) {
            return Ok("echo".into());
        }
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
