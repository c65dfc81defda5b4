//! The structures that the XDP program and this crate share, made by build.rs from bpf/shared.h,
//! and how addresses are written in them.

// Some of it is for the program alone.
#![allow(dead_code, missing_docs)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

include!(concat!(env!("OUT_DIR"), "/shared.rs"));

/// An address as the program keeps it: IPv4 as ::ffff:a.b.c.d, in wire order.
pub fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

/// Which places of the table of sources' rates clients have: two whose hash is the same share one.
#[derive(Clone, Debug)]
pub struct SourceSlots {
    pub(crate) seed: u64,
    pub(crate) services: HashMap<String, u32>,
}

impl SourceSlots {
    /// As `within_rates` of bpf/fresh.h has it.
    pub fn of(&self, service: &str, source: IpAddr) -> Option<u32> {
        let [upper, lower]: [u64; 2] = zerocopy::transmute!(octets(source));
        let network = if upper == 0 { lower } else { upper };
        let number = *self.services.get(service)?;
        Some(mix(mix(self.seed, network), number.into()) as u32 & (SOURCE_RATES - 1))
    }
}

/// `mix` of bpf/tables.h.
pub fn mix(hash: u64, value: u64) -> u64 {
    let hash = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 32)
}

pub fn words(address: IpAddr) -> [u32; 4] {
    zerocopy::transmute!(octets(address))
}

pub fn address_of(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

pub fn address_of_words(words: [u32; 4]) -> IpAddr {
    address_of(zerocopy::transmute!(words))
}

pub fn address_of_longs(longs: [u64; 2]) -> IpAddr {
    address_of(zerocopy::transmute!(longs))
}

pub fn longs(address: IpAddr) -> [u64; 2] {
    zerocopy::transmute!(octets(address))
}

/// A prefix as a mask of 128 bits; `v4` counts from the 96th bit.
pub fn mask_words(prefix: u8, v4: bool) -> [u32; 4] {
    let bits = if v4 { 96 + u32::from(prefix.min(32)) } else { u32::from(prefix.min(128)) };
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    zerocopy::transmute!(mask.to_be_bytes())
}

/// A next hop: MAC in wire order in the low six bytes, the interface above.
pub fn hop(mac: [u8; 6], interface: u16) -> u64 {
    let [a, b, c, d, e, f] = mac;
    let [low, high] = interface.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, low, high])
}
