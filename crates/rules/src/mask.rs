//! Addresses of which some bits are kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::evaluate::address_in;

/// A mask for each kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    v4: u32,
    v6: u128,
}

impl Mask {
    /// How many bits, or which: `24`, `255.255.255.0`, `64`, `ffff:ffff::`. Without the second one addresses of
    /// IPv6 are kept whole.
    pub fn parse(v4: &str, v6: Option<&str>) -> Result<Mask, String> {
        let bits = |text: &str, most: u32| text.parse::<u32>().ok().filter(|bits| *bits <= most);
        let wrong = |text: &str| format!("{text:?} is neither a number of bits nor a mask");
        let v4 = match bits(v4, 32) {
            Some(bits) => u32::MAX.checked_shl(32 - bits).unwrap_or(0),
            None => v4.parse::<Ipv4Addr>().map_err(|_| wrong(v4))?.to_bits(),
        };
        let v6 = match v6.map(|text| (text, bits(text, 128))) {
            None => u128::MAX,
            Some((_, Some(bits))) => u128::MAX.checked_shl(128 - bits).unwrap_or(0),
            Some((text, None)) => text.parse::<Ipv6Addr>().map_err(|_| wrong(text))?.to_bits(),
        };
        Ok(Mask { v4, v6 })
    }

    /// What is left of an address; nothing of what is none. A port is left out. One of IPv4 that is written as IPv6 is one of IPv4.
    pub fn applied(self, address: &[u8]) -> Vec<u8> {
        let masked = match address_in(address) {
            Some(IpAddr::V4(address)) => Ipv4Addr::from_bits(address.to_bits() & self.v4).to_string(),
            Some(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() & self.v6).to_string(),
            None => String::new(),
        };
        masked.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_masks() {
        let check = |v4: &str, v6: Option<&str>, address: &str, expect: &str| {
            let masked = Mask::parse(v4, v6).unwrap().applied(address.as_bytes());
            assert_eq!(String::from_utf8(masked).unwrap(), expect, "{address} by {v4} {v6:?}");
        };
        check("24", None, "192.0.2.77", "192.0.2.0");
        check("255.0.255.0", None, "192.0.2.77", "192.0.2.0");
        check("0", Some("0"), "192.0.2.77", "0.0.0.0");
        check("24", None, "2001:db8::77", "2001:db8::77");
        check("24", Some("32"), "2001:db8:1::77", "2001:db8::");
        check("24", Some("ffff:ffff::ff00"), "2001:db8:1::1277", "2001:db8::1200");
        check("32", Some("64"), "::ffff:192.0.2.77", "192.0.2.77");
        check("32", Some("64"), "192.0.2.77:80", "192.0.2.77");
        check("32", None, "[2001:db8::77]:80", "2001:db8::77");
        check("24", Some("64"), "nothing", "");
        for (v4, v6) in [("33", None), ("x", None), ("24", Some("129")), ("24", Some("1.2.3.4"))] {
            assert!(Mask::parse(v4, v6).is_err(), "{v4} {v6:?}");
        }
    }
}
