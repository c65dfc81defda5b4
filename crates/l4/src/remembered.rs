//! Where the program keeps what it remembers of a client, as bpf/tables.h has it.
//!
//! In: a service's persistence, the table's secret, a client. Out: the bucket and the entry in it. Never: a map.

use crate::shared::{PersistenceBucket, Setup, address_of_longs, mask_words, mix};
use crate::spec::Persist;

/// What one service remembers its clients by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembers {
    service: u32,
    mask: [u64; 2],
    mask6: [u64; 2],
}

impl Remembers {
    pub fn new(service: u32, persist: Persist) -> Remembers {
        let longs = |words: [u32; 4]| -> [u64; 2] { zerocopy::transmute!(words) };
        let (mask, mask6) = (mask_words(persist.mask, true), mask_words(persist.mask6, false));
        Remembers { service, mask: longs(mask), mask6: longs(mask6) }
    }

    /// The network that a client is remembered as: see `persist`.
    pub fn key(&self, client: [u64; 2]) -> [u64; 2] {
        let mask = if address_of_longs(client).is_ipv4() { self.mask } else { self.mask6 };
        [client[0] & mask[0], client[1] & mask[1]]
    }

    /// The bucket of a key, and its fingerprint: see `hash_client`.
    pub fn place(&self, key: [u64; 2], setup: &Setup) -> (u32, u32) {
        let hash = mix(mix(setup.seed_b, key[0]), key[1]);
        let hash = mix(mix(hash, self.service.into()), setup.seed_a);
        (hash as u32 & setup.persistence_mask, (hash >> 32) as u32 | 1)
    }

    /// Where a key's clients go, and for how many ticks yet: see `find_persistent`.
    pub fn find(
        &self,
        key: [u64; 2],
        fingerprint: u32,
        bucket: &PersistenceBucket,
        tick: u32,
    ) -> Option<(u32, u32)> {
        let mut places = bucket.tag.iter().zip(&bucket.entry);
        let (tag, entry) = places.find(|(tag, entry)| {
            let lives = (**tag >> 32) as u32 == fingerprint && **tag as u32 > tick;
            lives && entry.client == key && entry.service == self.service
        })?;
        Some((entry.destination, *tag as u32 - tick))
    }
}
