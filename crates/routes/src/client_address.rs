//! The client's address as a trusted peer says it in a header: a CDN, or another proxy.
//!
//! In: the peer of the connection, the values of the header. Out: the address that counts. What others than
//! the trusted ones say is not looked at.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use evenkeel_model::ClientAddressRule;
use evenkeel_rules::NetworkSet;

/// Who is believed about a client's address, and in which header.
#[derive(Clone, Debug)]
pub struct ClientAddress {
    /// The header, in lower case.
    pub header: Box<[u8]>,
    /// It is RFC 7239's `Forwarded`, whose addresses stand behind `for=`.
    is_forwarded: bool,
    networks: NetworkSet,
    files: Vec<Arc<NetworkSet>>,
    /// Addresses of trusted peers in the value are passed over.
    recursive: bool,
}

impl ClientAddress {
    pub(crate) fn new(rule: &ClientAddressRule, files: Vec<Arc<NetworkSet>>) -> ClientAddress {
        let header = rule.header.to_ascii_lowercase();
        let mut networks = NetworkSet::default();
        for (address, prefix) in &rule.trusted {
            networks.insert(&format!("{address}/{prefix}"));
        }
        ClientAddress {
            is_forwarded: header == "forwarded",
            header: header.into_bytes().into(),
            networks,
            files,
            recursive: rule.recursive,
        }
    }

    /// Whether what this peer says is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.networks.contains(peer) || self.files.iter().any(|networks| networks.contains(peer))
    }

    /// The client of a request whose connection has this peer. `values` are those of the header as they came,
    /// the last one first. Each proxy adds the address it sees behind those it was told, so the value is read
    /// from its end; what is no address ends it.
    pub fn find<'v>(&self, peer: SocketAddr, values: impl Iterator<Item = &'v [u8]>) -> Option<SocketAddr> {
        if !self.trusts(peer.ip()) {
            return None;
        }
        let mut found = None;
        let elements = values.flat_map(|value| value.rsplit(|byte| *byte == b','));
        for element in elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()) {
            let text = if self.is_forwarded { node_of(element) } else { Some(element) };
            let Some((address, port)) = text.and_then(address_of) else { break };
            found = Some(SocketAddr::new(address, port.unwrap_or(peer.port())));
            if !self.recursive || !self.trusts(address) {
                break;
            }
        }
        found
    }
}

/// The node behind `for=` in an element of `Forwarded` (RFC 7239 section 4).
fn node_of(element: &[u8]) -> Option<&[u8]> {
    let mut pairs = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| {
        pair.get(..4).filter(|name| name.eq_ignore_ascii_case(b"for="))?;
        pair.get(4..)
    })?;
    Some(value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value))
}

/// `ADDRESS`, `ADDRESS:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn address_of(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address.to_canonical(), None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_canonical(), Some(address.port())));
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some((inner.parse::<IpAddr>().ok()?.to_canonical(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, recursive: bool, peer: &str, values: &[&str], expect: Option<&str>) {
        let trusted = vec![([10, 0, 0, 0].into(), 8), ("2001:db8::".parse().unwrap(), 32)];
        let rule = ClientAddressRule { header: header.to_owned(), trusted, files: Vec::new(), recursive };
        let rule = ClientAddress::new(&rule, Vec::new());
        let found = rule.find(peer.parse().unwrap(), values.iter().rev().map(|value| value.as_bytes()));
        assert_eq!(found.map(|a| a.to_string()).as_deref(), expect, "{header}: {values:?} from {peer}");
    }

    #[test]
    fn only_trusted_peers_are_believed() {
        let cdn = "CF-Connecting-IP";
        check(cdn, true, "10.1.2.3:40000", &["198.51.100.7"], Some("198.51.100.7:40000"));
        check(cdn, true, "[::ffff:10.1.2.3]:40000", &["198.51.100.7"], Some("198.51.100.7:40000"));
        check(cdn, true, "[2001:db8::1]:40000", &["2001:db9::7"], Some("[2001:db9::7]:40000"));
        check(cdn, true, "192.0.2.3:40000", &["198.51.100.7"], None);
        check(cdn, true, "10.1.2.3:40000", &[], None);
        for junk in ["", " , ", "unknown", "198.51.100.7.", "198.51.100.7 1", "1", "[::1", "198.51.100.7:x"] {
            check(cdn, true, "10.1.2.3:40000", &[junk], None);
        }
        check(cdn, true, "10.1.2.3:40000", &[" 198.51.100.7:81 "], Some("198.51.100.7:81"));
        check(cdn, true, "10.1.2.3:40000", &["[2001:db9::7]"], Some("[2001:db9::7]:40000"));
        check(cdn, true, "10.1.2.3:40000", &["[2001:db9::7]:82"], Some("[2001:db9::7]:82"));
        check(cdn, true, "10.1.2.3:40000", &["::ffff:198.51.100.7"], Some("198.51.100.7:40000"));
    }

    #[test]
    fn lists_are_read_from_their_end_and_no_further_than_the_first_stranger() {
        let list = "X-Forwarded-For";
        let peer = "10.1.2.3:1";
        check(list, true, peer, &["6.6.6.6, 198.51.100.7, 10.0.0.1"], Some("198.51.100.7:1"));
        check(list, true, peer, &["6.6.6.6", "198.51.100.7", "10.0.0.1,10.0.0.2"], Some("198.51.100.7:1"));
        check(list, false, peer, &["6.6.6.6, 198.51.100.7, 10.0.0.1"], Some("10.0.0.1:1"));
        // Clients of the trusted networks themselves.
        check(list, true, peer, &["10.0.0.9, 10.0.0.1"], Some("10.0.0.9:1"));
        check(list, true, peer, &["6.6.6.6, junk, 10.0.0.1"], Some("10.0.0.1:1"));
        check(list, true, peer, &["6.6.6.6, junk"], None);
    }

    #[test]
    fn forwarded_has_its_addresses_behind_for() {
        let peer = "10.1.2.3:1";
        check(
            "Forwarded",
            true,
            peer,
            &["for=6.6.6.6, For=198.51.100.7;proto=https"],
            Some("198.51.100.7:1"),
        );
        check("forwarded", true, peer, &["proto=http;for=\"[2001:db9::7]:82\""], Some("[2001:db9::7]:82"));
        check("Forwarded", true, peer, &["for=198.51.100.7, for=unknown"], None);
        check("Forwarded", true, peer, &["198.51.100.7"], None);
    }
}
