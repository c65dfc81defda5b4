//! VIPs with their ports, and plain listen addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    #[error(
        "expected ADDRESS:PORTS, such as \"192.0.2.10:80\", \"[2001:db8::1]:80,443\" or \"192.0.2.10:6000-6100\""
    )]
    Shape,
    #[error("{0:?} is not an IPv4 or IPv6 address")]
    Address(String),
    #[error("{0:?} is not a port (1 to 65535) or a range of ports (6000-6100)")]
    Port(String),
    #[error("the range {0}-{1} ends before it starts")]
    Backwards(u16, u16),
    #[error("{0} is {1}: clients cannot connect to it on one machine")]
    Shared(IpAddr, &'static str),
}

/// What an address is that no machine has for itself.
pub fn shared_address(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(a) if a.is_broadcast() => Some("the broadcast address of every network"),
        IpAddr::V6(a) if a.is_unicast_link_local() => Some("a link-local address, which each link has anew"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ => None,
    }
}

/// An inclusive range of ports, never holding port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// Sorted ranges that do not touch; `*` is 1-65535.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortSet(Vec<PortRange>);

impl PortSet {
    pub fn parse(text: &str) -> Result<PortSet, AddressError> {
        if text == "*" {
            return Ok(PortSet(vec![PortRange { first: 1, last: u16::MAX }]));
        }
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let port = |digits: &str| {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                match digits.parse::<u16>() {
                    Ok(port) if plain && port != 0 => Ok(port),
                    _ => Err(AddressError::Port(part.into())),
                }
            };
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (port(first)?, port(last)?),
                None => (port(part)?, port(part)?),
            };
            if first > last {
                return Err(AddressError::Backwards(first, last));
            }
            ranges.push(PortRange { first, last });
        }
        ranges.sort();
        let mut merged: Vec<PortRange> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(before) if u32::from(range.first) <= u32::from(before.last) + 1 => {
                    before.last = before.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Ok(PortSet(merged))
    }

    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    pub fn is_all(&self) -> bool {
        self.0 == [PortRange { first: 1, last: u16::MAX }]
    }

    pub fn count(&self) -> usize {
        self.0.iter().map(|r| usize::from(r.last - r.first) + 1).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().flat_map(|r| r.first..=r.last)
    }

    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|r| (r.first..=r.last).contains(&port))
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("*");
        }
        for (i, range) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match range.first == range.last {
                true => write!(f, "{}", range.first)?,
                false => write!(f, "{}-{}", range.first, range.last)?,
            }
        }
        Ok(())
    }
}

/// An address that clients use, with its ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vip {
    pub address: IpAddr,
    pub ports: PortSet,
}

impl Vip {
    pub fn parse(text: &str) -> Result<Vip, AddressError> {
        let (address, ports) = split_host(text)?;
        match shared_address(address) {
            Some(what) => Err(AddressError::Shared(address, what)),
            None => Ok(Vip { address, ports: PortSet::parse(ports)? }),
        }
    }

    /// The VIPs of one text: `*:PORTS` is all addresses, of IPv4 and of IPv6.
    pub fn parse_all(text: &str) -> Result<Vec<Vip>, AddressError> {
        let Some(ports) = text.strip_prefix("*:") else { return Ok(vec![Vip::parse(text)?]) };
        let ports = PortSet::parse(ports)?;
        let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        Ok(all.map(|address| Vip { address, ports: ports.clone() }).into())
    }

    pub fn socket_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.ports.iter().map(|port| SocketAddr::new(self.address, port))
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(a) => write!(f, "{a}:{}", self.ports),
            IpAddr::V6(a) => write!(f, "[{a}]:{}", self.ports),
        }
    }
}

/// An address without a port; IPv6 may have its brackets.
pub fn bare_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// `ADDRESS:PORT` with one port from 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenAddress(pub SocketAddr);

impl ListenAddress {
    pub fn parse(text: &str) -> Result<ListenAddress, AddressError> {
        let (address, ports) = split_host(text)?;
        let set = PortSet::parse(ports)?;
        match set.count() {
            1 => Ok(ListenAddress(SocketAddr::new(address, set.ranges()[0].first))),
            _ => Err(AddressError::Port(ports.into())),
        }
    }
}

fn split_host(text: &str) -> Result<(IpAddr, &str), AddressError> {
    let (host, ports) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or(AddressError::Shape)?,
        None => match text.rsplit_once(':') {
            Some((host, ports)) if !host.contains(':') => (host, ports),
            _ => return Err(AddressError::Shape),
        },
    };
    let address: IpAddr = host.parse().map_err(|_| AddressError::Address(host.into()))?;
    match (address, text.starts_with('[')) {
        (IpAddr::V4(_), false) | (IpAddr::V6(_), true) => Ok((address, ports)),
        _ => Err(AddressError::Shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips() {
        let check = |text: &str, shown: Option<&str>| {
            assert_eq!(Vip::parse(text).ok().map(|v| v.to_string()).as_deref(), shown, "{text}");
        };
        check("127.0.0.1:80", Some("127.0.0.1:80"));
        check("[::1]:80", Some("[::1]:80"));
        check("10.0.0.1:443,80", Some("10.0.0.1:80,443"));
        check("10.0.0.1:60000-60100", Some("10.0.0.1:60000-60100"));
        check("10.0.0.1:80-90,85-95,96", Some("10.0.0.1:80-96"));
        check("10.0.0.1:*", Some("10.0.0.1:*"));
        for bad in [
            "",
            "80",
            "10.0.0.1",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "::1:80",
            "[10.0.0.1]:80",
            "[::1]",
            "10.0.0.1:90-80",
            "10.0.0.1:+80",
            "host:80",
            "10.0.0.1:80,",
            "[::1]80",
        ] {
            check(bad, None);
        }
        let all = |text: &str| {
            let vips = Vip::parse_all(text).ok()?;
            Some(vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(all("*:80,443").as_deref(), Some("0.0.0.0:80,443 [::]:80,443"));
        assert_eq!(all("10.0.0.1:80").as_deref(), Some("10.0.0.1:80"));
        for bad in ["*", "*:", "*:0", "*80", "[*]:80"] {
            assert_eq!(all(bad), None, "{bad}");
        }
        assert_eq!(bare_address("[fd50::11]"), bare_address("fd50::11"));
        assert_eq!(bare_address("fd50::11"), "fd50::11".parse().ok());
        assert!(
            ["[10.0.0.1]", "[fd50::11", "fd50::11]", "[fd50::11]:80"]
                .iter()
                .all(|t| bare_address(t).is_none())
        );
        assert_eq!(Vip::parse("10.0.0.1:5-1"), Err(AddressError::Backwards(5, 1)));
        assert!(ListenAddress::parse("127.0.0.1:80,81").is_err());
    }
}
