//! Hashes that every node and every version computes alike (XXH3, 64 bits).

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::xxh3_64;

pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The hash of sdbm, of which HAProxy makes its own choice of servers.
pub fn hash_sdbm(bytes: &[u8]) -> u64 {
    let sum = |sum: u32, byte: &u8| sum.wrapping_mul(65_599).wrapping_add(u32::from(*byte));
    u64::from(bytes.iter().fold(0, sum))
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

/// The hasher of tables whose keys are hashes already.
#[derive(Default)]
pub struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash_bytes(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash.rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
