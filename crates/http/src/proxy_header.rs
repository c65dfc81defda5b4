//! The PROXY protocol, versions 1 and 2: who the client is, said by another proxy before the
//! first byte (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The addresses, unless the connection is the proxy's own (LOCAL, UNKNOWN).
    pub addresses: Option<Addresses>,
    /// The client spoke TLS with the sender.
    pub tls: bool,
    /// Where its values lie, see [`value`].
    pub values: (usize, usize),
    /// Bytes that the header takes.
    pub len: usize,
}

/// The two ends of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// What a version 2 header says of the client's TLS.
#[derive(Clone, Copy, Debug)]
pub struct ClientTls<'a> {
    /// `TLSv1.3` and the like.
    pub version: &'a str,
    /// The host name that the client asked for.
    pub server_name: Option<&'a str>,
    /// The common name of the client's certificate, where it was verified.
    pub common_name: Option<&'a str>,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHeader {
    /// More bytes are needed to tell.
    Partial,
    /// The bytes are no header, or one that cannot be believed.
    Bad,
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest version 1 header, line ending included.
const V1_AT_MOST: usize = 107;
/// Longer ones hold nothing that is used.
const V2_AT_MOST: usize = 2048;
const TYPE_CRC32C: u8 = 0x03;
const TYPE_SSL: u8 = 0x20;

/// Reads a header of either version from the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Result<Header, NoHeader> {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes[..common] == SIGNATURE[..common] {
        return v2(bytes);
    }
    let start = bytes.len().min(6);
    if bytes[..start] != b"PROXY "[..start] {
        return Err(NoHeader::Bad);
    }
    v1(bytes)
}

fn v1(bytes: &[u8]) -> Result<Header, NoHeader> {
    let within = &bytes[..bytes.len().min(V1_AT_MOST)];
    let Some(end) = memchr::memmem::find(within, b"\r\n") else {
        return Err(if bytes.len() < V1_AT_MOST { NoHeader::Partial } else { NoHeader::Bad });
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| NoHeader::Bad)?;
    let words: Vec<&str> = line.split(' ').collect();
    let len = end + 2;
    let addresses = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let address =
                |text: &str| text.parse::<IpAddr>().ok().filter(|a| a.is_ipv4() == (*family == "TCP4"));
            let port =
                |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
            let read = || {
                Some(Addresses {
                    source: SocketAddr::new(address(source)?, port(from)?),
                    destination: SocketAddr::new(address(destination)?, port(to)?),
                })
            };
            Some(read().ok_or(NoHeader::Bad)?)
        }
        _ => return Err(NoHeader::Bad),
    };
    Ok(Header { addresses, tls: false, values: (0, 0), len })
}

fn v2(bytes: &[u8]) -> Result<Header, NoHeader> {
    let Some((head, rest)) = bytes.split_at_checked(16) else { return Err(NoHeader::Partial) };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if head[12] >> 4 != 2 || length > V2_AT_MOST {
        return Err(NoHeader::Bad);
    }
    let Some(body) = rest.get(..length) else { return Err(NoHeader::Partial) };
    let (addresses, taken) = match (head[12] & 0x0f, head[13] >> 4, head[13] & 0x0f) {
        (0, ..) => (None, length),
        (1, 1, 1) => (Some(v2_addresses(body, 4)?), 12),
        (1, 2, 1) => (Some(v2_addresses(body, 16)?), 36),
        (1, 0, 0) => (None, 0),
        // Datagrams and Unix sockets: valid, and without an address that is used here (2.2: as UNSPEC).
        (1, 1, 2) => (None, 12),
        (1, 2, 2) => (None, 36),
        (1, 3, 1 | 2) => (None, 216),
        _ => return Err(NoHeader::Bad),
    };
    if body.len() < taken {
        return Err(NoHeader::Bad);
    }
    let tls = extras(&body[taken..])?;
    if let Some(at) = checksum(&body[taken..]) {
        check_sum(&bytes[..16 + length], 16 + taken + at)?;
    }
    Ok(Header { addresses, tls, values: (16 + taken, 16 + length), len: 16 + length })
}

fn v2_addresses(body: &[u8], width: usize) -> Result<Addresses, NoHeader> {
    let bytes = body.get(..2 * width + 4).ok_or(NoHeader::Bad)?;
    let address = |at: usize| -> IpAddr {
        match <[u8; 16]>::try_from(&bytes[at..at + width]) {
            Ok(octets) => Ipv6Addr::from(octets).into(),
            Err(_) => Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]).into(),
        }
    };
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    Ok(Addresses {
        source: SocketAddr::new(address(0), port(2 * width)),
        destination: SocketAddr::new(address(width), port(2 * width + 2)),
    })
}

/// Walks the extra values, which must fit; whether one says that the client spoke TLS.
fn extras(mut rest: &[u8]) -> Result<bool, NoHeader> {
    let mut tls = false;
    while !rest.is_empty() {
        let (head, after) = rest.split_at_checked(3).ok_or(NoHeader::Bad)?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let (value, next) = after.split_at_checked(length).ok_or(NoHeader::Bad)?;
        tls |= head[0] == TYPE_SSL && value.first().is_some_and(|client| client & 1 == 1);
        rest = next;
    }
    Ok(tls)
}

/// The value of a kind among those of a header.
pub fn value(mut values: &[u8], wanted: u8) -> Option<&[u8]> {
    while let Some(([kind, high, low], after)) = values.split_first_chunk::<3>() {
        let (value, next) = after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        if *kind == wanted {
            return Some(value);
        }
        values = next;
    }
    None
}

/// Where the value of the checksum lies among the extra values, if there is one.
fn checksum(extras: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some([kind, high, low]) = extras.get(at..at + 3) {
        if *kind == TYPE_CRC32C {
            return Some(at + 3);
        }
        at += 3 + usize::from(u16::from_be_bytes([*high, *low]));
    }
    None
}

/// Compares the checksum of a whole header, which is made with zeros in its own place.
fn check_sum(header: &[u8], at: usize) -> Result<(), NoHeader> {
    let length = usize::from(u16::from_be_bytes([header[at - 2], header[at - 1]]));
    let said = header.get(at..at + 4).filter(|_| length == 4).ok_or(NoHeader::Bad)?;
    let own = at..at + 4;
    let bytes = header.iter().enumerate().map(|(n, byte)| if own.contains(&n) { 0 } else { *byte });
    match crc32c(bytes).to_be_bytes() == said {
        true => Ok(()),
        false => Err(NoHeader::Bad),
    }
}

/// CRC-32C (RFC 9260 appendix A), bit by bit: a header comes once a connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(byte), shift))
}

/// Writes a version 1 header.
pub fn write_v1(addresses: &Addresses, out: &mut Vec<u8>) {
    use std::io::Write;
    let (source, destination) = same_family(addresses);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (addresses.source.port(), addresses.destination.port());
    let _ = write!(out, "PROXY {family} {source} {destination} {from} {to}\r\n");
}

/// Writes a version 2 header, which can say that the client spoke TLS and for which host.
/// `values` follow as they are: see [`add_value`].
pub fn write_v2(addresses: &Addresses, tls: Option<&ClientTls<'_>>, values: &[u8], out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(64);
    let (source, destination) = same_family(addresses);
    for address in [source, destination] {
        match address {
            IpAddr::V4(ip) => body.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => body.extend_from_slice(&ip.octets()),
        }
    }
    body.extend_from_slice(&addresses.source.port().to_be_bytes());
    body.extend_from_slice(&addresses.destination.port().to_be_bytes());
    if let Some(tls) = tls {
        let mut value = |kind: u8, value: &[u8]| {
            body.push(kind);
            body.extend_from_slice(&(value.len() as u16).to_be_bytes());
            body.extend_from_slice(value);
        };
        if let Some(name) = tls.server_name {
            value(0x02, name.as_bytes());
        }
        let version = tls.version.as_bytes();
        let verified = tls.common_name.is_some();
        let mut ssl = vec![if verified { 0x07 } else { 0x01 }, 0, 0, 0, u8::from(!verified)];
        if !verified {
            // Nothing was verified and nothing failed.
            ssl[4] = 0;
        }
        ssl.push(0x21);
        ssl.extend_from_slice(&(version.len() as u16).to_be_bytes());
        ssl.extend_from_slice(version);
        if let Some(name) = tls.common_name {
            ssl.push(0x22);
            ssl.extend_from_slice(&(name.len() as u16).to_be_bytes());
            ssl.extend_from_slice(name.as_bytes());
        }
        value(TYPE_SSL, &ssl);
    }
    body.extend_from_slice(values);
    out.extend_from_slice(SIGNATURE);
    out.push(0x21);
    out.push(if source.is_ipv4() { 0x11 } else { 0x21 });
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(&body);
}

/// Adds a value of a header, cut to what one may have.
pub fn add_value(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    let value = &value[..value.len().min(VALUE_AT_MOST)];
    out.push(kind);
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

/// HAProxy takes no longer ones.
const VALUE_AT_MOST: usize = 1024;

/// Both addresses in one family, as a header must have them.
fn same_family(addresses: &Addresses) -> (IpAddr, IpAddr) {
    let (source, destination) =
        (addresses.source.ip().to_canonical(), addresses.destination.ip().to_canonical());
    let wide = |address: IpAddr| match address {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(_) => address,
    };
    match source.is_ipv4() == destination.is_ipv4() {
        true => (source, destination),
        false => (wide(source), wide(destination)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn headers_come_back_as_they_were_written() {
        for both in [addresses("1.2.3.4:5", "6.7.8.9:10"), addresses("[2001:db8::1]:5", "[::2]:65535")] {
            let mut v1 = Vec::new();
            write_v1(&both, &mut v1);
            let mut v2 = Vec::new();
            write_v2(&both, None, b"", &mut v2);
            let mut tls = Vec::new();
            let facts = ClientTls { version: "TLSv1.3", server_name: Some("a.example"), common_name: None };
            write_v2(&both, Some(&facts), b"", &mut tls);
            for (bytes, spoke) in [(v1, false), (v2, false), (tls, true)] {
                let mut more = bytes.clone();
                more.extend_from_slice(b"GET /");
                let header = parse(&more).unwrap();
                assert_eq!((header.addresses, header.len, header.tls), (Some(both), bytes.len(), spoke));
                for cut in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..cut]), Err(NoHeader::Partial), "{cut}");
                }
            }
        }
    }

    #[test]
    fn both_addresses_are_of_one_family() {
        let mixed = addresses("1.2.3.4:5", "[2001:db8::1]:80");
        let mut v1 = Vec::new();
        write_v1(&mixed, &mut v1);
        assert_eq!(v1, b"PROXY TCP6 ::ffff:1.2.3.4 2001:db8::1 5 80\r\n");
        let mut v2 = Vec::new();
        write_v2(&mixed, None, b"", &mut v2);
        let expect = addresses("[::ffff:1.2.3.4]:5", "[2001:db8::1]:80");
        assert_eq!(parse(&v2).unwrap().addresses, Some(expect));
        // An IPv4 address in an IPv6 socket is one of IPv4.
        let mut mapped = Vec::new();
        write_v1(&addresses("[::ffff:1.2.3.4]:5", "6.7.8.9:80"), &mut mapped);
        assert_eq!(mapped, b"PROXY TCP4 1.2.3.4 6.7.8.9 5 80\r\n");
    }

    #[test]
    fn certificates_are_named() {
        let tls = ClientTls { version: "TLSv1.3", server_name: None, common_name: Some("Alice") };
        let mut out = Vec::new();
        write_v2(&addresses("1.2.3.4:5", "6.7.8.9:10"), Some(&tls), b"", &mut out);
        let header = parse(&out).unwrap();
        assert!(header.tls && header.len == out.len());
        // TLS, with a certificate of this connection and of its session, verified: 7 and a result of 0.
        let value = b"\x20\x00\x17\x07\0\0\0\0\x21\x00\x07TLSv1.3\x22\x00\x05Alice";
        assert!(out.ends_with(value), "{}", out.escape_ascii());
    }

    #[test]
    fn what_lies_is_refused() {
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap().addresses, None);
        assert_eq!(parse(b"PROXY UNKNOWN ffff:: ::1 1 2\r\nX").unwrap().len, 30);
        for bad in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 70000 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            &[b'P'; 200],
        ] {
            assert_eq!(parse(bad), Err(NoHeader::Bad), "{:?}", bad.escape_ascii().to_string());
        }
        let long = [b"PROXY ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!(parse(&long), Err(NoHeader::Bad));
        let v2 = |command: u8, family: u8, body: &[u8], claimed: u16| {
            [SIGNATURE.as_slice(), &[command, family], &claimed.to_be_bytes(), body].concat()
        };
        assert_eq!(parse(&v2(0x20, 0, b"", 0)).unwrap().addresses, None, "LOCAL");
        assert_eq!(parse(&v2(0x21, 0, b"", 0)).unwrap().addresses, None, "UNSPEC");
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 11], 11)), Err(NoHeader::Bad), "too short for its family");
        // Valid families that no client here has: their addresses are passed over, as those of UNSPEC.
        for (family, length) in [(0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216)] {
            let whole = vec![7; length];
            let read = parse(&v2(0x21, family, &whole, length as u16)).unwrap();
            assert_eq!((read.addresses, read.len), (None, 16 + length), "{family:#x}");
            let short = parse(&v2(0x21, family, &whole[1..], length as u16 - 1));
            assert_eq!(short, Err(NoHeader::Bad), "{family:#x}");
        }
        for family in [0x13, 0x30, 0x33, 0x41] {
            assert_eq!(parse(&v2(0x21, family, &[0; 216], 216)), Err(NoHeader::Bad), "{family:#x}");
        }
        assert_eq!(parse(&v2(0x11, 0x11, &[0; 12], 12)), Err(NoHeader::Bad), "version 1 in 2's clothes");
        assert_eq!(parse(&v2(0x22, 0x11, &[0; 12], 12)), Err(NoHeader::Bad), "no such command");
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 12], 0xffff)), Err(NoHeader::Bad), "endless");
        let with_sum = |sum: [u8; 4]| v2(0x21, 0x11, &[&[0; 12][..], &[3, 0, 4], &sum].concat(), 19);
        let zeros = with_sum([0; 4]);
        let right = with_sum(crc32c(zeros.iter().copied()).to_be_bytes());
        assert!(parse(&right).is_ok());
        assert_eq!(parse(&zeros), Err(NoHeader::Bad), "a checksum that does not fit");
        let short = [&[0; 12][..], &[3, 0, 2, 0, 0]].concat();
        assert_eq!(parse(&v2(0x21, 0x11, &short, 17)), Err(NoHeader::Bad), "half a checksum");
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let past = [&[0; 12][..], &[0x20, 0xff, 0xff, 1]].concat();
        assert_eq!(parse(&v2(0x21, 0x11, &past, 16)), Err(NoHeader::Bad), "a value past the end");
    }

    #[test]
    fn values_are_found_by_their_kind() {
        let mut bytes = Vec::new();
        let facts = ClientTls { version: "TLSv1.3", server_name: Some("a.example"), common_name: None };
        write_v2(&addresses("1.2.3.4:5", "6.7.8.9:10"), Some(&facts), b"", &mut bytes);
        let header = parse(&bytes).unwrap();
        let values = &bytes[header.values.0..header.values.1];
        assert_eq!(value(values, 0x02), Some(&b"a.example"[..]));
        assert_eq!((value(values, 0x05), value(&[2, 0, 9, 1], 2), value(&[], 2)), (None, None, None));
    }
}
