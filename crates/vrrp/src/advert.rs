//! VRRP's one message on the wire: version 3 (RFC 9568) and version 2 (RFC 3768).
//!
//! The receiver's checks of RFC 9568 §7.1 that need the IP header take what they need as
//! arguments. Version 3 has had its checksum with and without a pseudo-header in IPv4; both are
//! taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IANA's number of the protocol.
pub const PROTOCOL: u8 = 112;
/// Routers send with this time to live, so nobody beyond a router can.
pub const TTL: u8 = 255;
pub const GROUP4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// Addresses of a message at most, so that it fits a packet.
pub const MOST_ADDRESSES: usize = 70;

const ADVERTISEMENT: u8 = 1;
/// Unassigned, so that routers of other makes pass it over (RFC 9568 §7.1).
const SEALED: u8 = 14;
const HEAD: usize = 8;
/// How messages of version 2 are authenticated (RFC 2338 §5.3.6).
const NO_PASSWORD: u8 = 0;
const SIMPLE_PASSWORD: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    V2,
    V3,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    pub version: Version,
    pub router_id: u8,
    /// 0: the sender stops being active; 255: it owns the addresses.
    pub priority: u8,
    /// Between two messages; whole seconds in version 2.
    pub interval_ms: u32,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Advert(Advert),
    /// A sealed body of a pair of this router id.
    Sealed(u8, Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    Length,
    Version,
    Type,
    Checksum,
    /// Not sent from this link.
    Ttl,
    /// Another password of version 2, or of two routers one has none.
    Authentication,
}

impl Malformed {
    pub fn as_str(self) -> &'static str {
        match self {
            Malformed::Length => "wrong length",
            Malformed::Version => "unknown version",
            Malformed::Type => "unknown type",
            Malformed::Checksum => "wrong checksum",
            Malformed::Ttl => "time to live is not 255",
            Malformed::Authentication => "another password of version 2 than [[pair.vrrp]] password",
        }
    }
}

/// A password of version 2: what RFC 2338 called simple text (§5.3.6). RFC 3768 has given it up, keepalived has not.
/// Whoever hears one message can send others: it tells routers apart, and keeps nobody out.
pub type Password = [u8; 8];

/// At most eight bytes.
pub fn password(text: &str) -> Password {
    let mut password = [0; 8];
    password.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    password
}

impl Advert {
    /// The password is of version 2 alone.
    pub fn encode(&self, source: IpAddr, target: IpAddr, password: Option<Password>) -> Vec<u8> {
        let addresses = &self.addresses[..self.addresses.len().min(MOST_ADDRESSES)];
        let mut bytes = Vec::with_capacity(HEAD + addresses.len() * 16 + 8);
        let (version, word) = match self.version {
            Version::V2 => {
                let kind = if password.is_some() { SIMPLE_PASSWORD } else { NO_PASSWORD };
                (2, u16::from(kind) << 8 | (self.interval_ms / 1000).clamp(1, 255) as u16)
            }
            Version::V3 => (3, (self.interval_ms / 10).clamp(1, 4095) as u16),
        };
        bytes.extend([version << 4 | ADVERTISEMENT, self.router_id, self.priority, addresses.len() as u8]);
        bytes.extend(word.to_be_bytes());
        bytes.extend([0, 0]);
        for address in addresses {
            match address {
                IpAddr::V4(a) => bytes.extend(a.octets()),
                IpAddr::V6(a) => bytes.extend(a.octets()),
            }
        }
        if self.version == Version::V2 {
            bytes.extend(password.unwrap_or_default());
        }
        fill_checksum(&mut bytes, self.version == Version::V3, source, target);
        bytes
    }
}

/// Carries a sealed body where VRRP goes, with the same head.
pub fn encode_sealed(router_id: u8, priority: u8, body: &[u8], source: IpAddr, target: IpAddr) -> Vec<u8> {
    let mut bytes = vec![3 << 4 | SEALED, router_id, priority, 0, 0, 0, 0, 0];
    bytes.extend(body);
    fill_checksum(&mut bytes, true, source, target);
    bytes
}

fn fill_checksum(bytes: &mut [u8], pseudo: bool, source: IpAddr, target: IpAddr) {
    let start = if pseudo { pseudo_header(source, target, bytes.len()) } else { 0 };
    let sum = checksum(start, bytes).to_be_bytes();
    bytes[6..8].copy_from_slice(&sum);
}

/// Reads the payload of an IP packet of protocol 112. One of version 2 must have this password.
pub fn parse(
    bytes: &[u8],
    source: IpAddr,
    target: IpAddr,
    ttl: u8,
    password: Option<Password>,
) -> Result<Message, Malformed> {
    if ttl != TTL {
        return Err(Malformed::Ttl);
    }
    let head = bytes.get(..HEAD).ok_or(Malformed::Length)?;
    let version = match head[0] >> 4 {
        2 => Version::V2,
        3 => Version::V3,
        _ => return Err(Malformed::Version),
    };
    let right = |start| checksum(start, bytes) == 0;
    let with = version == Version::V3 && right(pseudo_header(source, target, bytes.len()));
    let without = (version == Version::V2 || source.is_ipv4()) && right(0);
    if !with && !without {
        return Err(Malformed::Checksum);
    }
    let word = u16::from_be_bytes([head[4], head[5]]);
    match (version, head[0] & 15) {
        (Version::V3, SEALED) => return Ok(Message::Sealed(head[1], bytes[HEAD..].to_vec())),
        (_, ADVERTISEMENT) => {}
        _ => return Err(Malformed::Type),
    }
    let size = match (version, source) {
        (Version::V2, IpAddr::V6(_)) => return Err(Malformed::Version),
        (_, IpAddr::V4(_)) => 4,
        (_, IpAddr::V6(_)) => 16,
    };
    // Eight bytes of version 2 are for a password.
    let behind = if version == Version::V2 { 8 } else { 0 };
    let end = HEAD + usize::from(head[3]) * size;
    let list = bytes.get(HEAD..end).filter(|_| bytes.len() >= end + behind).ok_or(Malformed::Length)?;
    if version == Version::V2 {
        let wanted = if password.is_some() { SIMPLE_PASSWORD } else { NO_PASSWORD };
        let same = password.is_none_or(|password| {
            aws_lc_rs::constant_time::verify_slices_are_equal(&bytes[end..end + behind], &password).is_ok()
        });
        if word >> 8 != u16::from(wanted) || !same {
            return Err(Malformed::Authentication);
        }
    }
    let addresses = list.chunks_exact(size).map(|chunk| match <[u8; 16]>::try_from(chunk) {
        Ok(octets) => IpAddr::V6(octets.into()),
        Err(_) => IpAddr::V4(Ipv4Addr::new(chunk[0], chunk[1], chunk[2], chunk[3])),
    });
    let interval_ms = match version {
        Version::V2 => u32::from(word & 0xff) * 1000,
        Version::V3 => u32::from(word & 0xfff) * 10,
    };
    if interval_ms == 0 {
        return Err(Malformed::Length);
    }
    let addresses = addresses.collect();
    Ok(Message::Advert(Advert { version, router_id: head[1], priority: head[2], interval_ms, addresses }))
}

fn pseudo_header(source: IpAddr, target: IpAddr, length: usize) -> u32 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let sum = sum_of(&octets(source)) + sum_of(&octets(target));
    sum + u32::from(PROTOCOL) + length as u32
}

fn sum_of(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    words.sum()
}

/// RFC 1071.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start + sum_of(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(v6: bool) -> (IpAddr, IpAddr) {
        match v6 {
            false => ("10.0.0.1".parse().unwrap(), GROUP4.into()),
            true => ("fe80::1".parse().unwrap(), GROUP6.into()),
        }
    }

    fn advert(version: Version, v6: bool) -> Advert {
        let address = |n: u8| match v6 {
            false => IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
            true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n))),
        };
        let addresses = vec![address(100), address(101)];
        Advert { version, router_id: 51, priority: 150, interval_ms: 1000, addresses }
    }

    #[test]
    fn adverts_come_back_as_they_were() {
        for (version, v6) in [(Version::V2, false), (Version::V3, false), (Version::V3, true)] {
            let (source, target) = ends(v6);
            let sent = advert(version, v6);
            let bytes = sent.encode(source, target, None);
            assert_eq!(parse(&bytes, source, target, 255, None), Ok(Message::Advert(sent.clone())));
            assert_eq!(parse(&bytes, source, target, 254, None), Err(Malformed::Ttl));
            // Version 3 has no passwords.
            let (own, other) = (Some(password("s3cret")), Some(password("s3cre7")));
            let locked = sent.encode(source, target, own);
            assert_eq!(parse(&locked, source, target, 255, own), Ok(Message::Advert(sent)));
            for password in [None, other] {
                let is_taken = parse(&locked, source, target, 255, password).is_ok();
                assert_eq!(is_taken, version == Version::V3, "{password:?}");
            }
            assert_eq!(parse(&bytes, source, target, 255, own).is_ok(), version == Version::V3);
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 0x10;
                assert!(parse(&altered, source, target, 255, None).is_err(), "byte {at}");
                assert!(parse(&bytes[..at], source, target, 255, None).is_err(), "cut at {at}");
            }
        }
        let (source, target) = ends(true);
        let sealed = encode_sealed(7, 100, b"body", source, target);
        assert_eq!(parse(&sealed, source, target, 255, None), Ok(Message::Sealed(7, b"body".to_vec())));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), v6: bool) {
            let (source, target) = ends(v6);
            let _ = parse(&bytes, source, target, 255, None);
            let mut fixed = bytes.clone();
            if fixed.len() >= 8 {
                fixed[6..8].copy_from_slice(&[0, 0]);
                fill_checksum(&mut fixed, true, source, target);
                let _ = parse(&fixed, source, target, 255, Some([7; 8]));
            }
        }
    }
}
