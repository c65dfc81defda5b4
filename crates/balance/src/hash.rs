//! Hashes that every node and every version computes alike (XXH3, 64 bits).

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::xxh3_64;

pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The client's address; IPv4 and its IPv4-mapped form hash alike.
pub fn hash_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(a) => xxh3_64(&a.octets()),
        IpAddr::V6(a) => xxh3_64(&a.octets()),
    }
}

/// The client's address and port.
pub fn hash_flow(client: SocketAddr) -> u64 {
    hash_address(client.ip()) ^ u64::from(client.port()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
