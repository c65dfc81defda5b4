//! Which client goes to which server: a bounded table shared by all event loops.
//!
//! Striped: a lookup takes one of 16 short locks, held for a hash look-up and never across I/O.
//! Only pools with table persistence come here. The table grows as clients come, to its bound;
//! then the entry nearest its end among eight gives way.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::hash::{hash_address, hash_bytes};

const STRIPES: usize = 16;
const CANDIDATES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub client: IpAddr,
    pub server: u32,
    pub expires_ms: u64,
}

pub struct SourceTable {
    stripes: [Mutex<Stripe>; STRIPES],
    timeout_ms: u64,
}

#[derive(Default)]
struct Stripe {
    index: HashMap<u128, u32, BuildHasherDefault<KeyHasher>>,
    entries: Vec<(u128, u32, u64)>,
    limit: usize,
    hand: usize,
}

impl SourceTable {
    pub fn new(size: u32, timeout_ms: u64) -> SourceTable {
        let limit = (size as usize).div_ceil(STRIPES).max(1);
        let stripe = || Mutex::new(Stripe { limit, ..Stripe::default() });
        SourceTable { stripes: std::array::from_fn(|_| stripe()), timeout_ms }
    }

    /// The server of a client, whose entry lives on for another timeout.
    pub fn lookup(&self, client: IpAddr, now_ms: u64) -> Option<u32> {
        let mut stripe = self.stripe(client);
        let slot = *stripe.index.get(&key(client))? as usize;
        let (_, server, expires) = &mut stripe.entries[slot];
        if *expires <= now_ms {
            return None;
        }
        *expires = now_ms + self.timeout_ms;
        Some(*server)
    }

    /// The entry as it is, without renewing it.
    pub fn peek(&self, client: IpAddr, now_ms: u64) -> Option<Entry> {
        let stripe = self.stripe(client);
        let slot = *stripe.index.get(&key(client))? as usize;
        let (_, server, expires_ms) = stripe.entries[slot];
        (expires_ms > now_ms).then_some(Entry { client, server, expires_ms })
    }

    /// Where two first connections of a client race, the first one's choice holds: the answer is
    /// the server that the client goes to, which may not be the one proposed.
    pub fn insert_or_get(
        &self,
        client: IpAddr,
        server: u32,
        now_ms: u64,
        usable: impl Fn(u32) -> bool,
    ) -> u32 {
        let mut stripe = self.stripe(client);
        let expires = now_ms + self.timeout_ms;
        match stripe.index.get(&key(client)).map(|slot| *slot as usize) {
            Some(slot) => {
                let entry = &mut stripe.entries[slot];
                if entry.2 <= now_ms || !usable(entry.1) {
                    entry.1 = server;
                }
                entry.2 = expires;
                entry.1
            }
            None => {
                stripe.insert(key(client), server, expires, now_ms);
                server
            }
        }
    }

    pub fn set(&self, entry: Entry, now_ms: u64) {
        let mut stripe = self.stripe(entry.client);
        stripe.remove(key(entry.client));
        stripe.insert(key(entry.client), entry.server, entry.expires_ms, now_ms);
    }

    /// Removes the entry of one client; whether there was one.
    pub fn remove(&self, client: IpAddr) -> bool {
        self.stripe(client).remove(key(client))
    }

    /// Removes every entry, or those of one server; how many there were.
    pub fn clear(&self, server: Option<u32>) -> usize {
        let mut cleared = 0;
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            let doomed: Vec<u128> = stripe
                .entries
                .iter()
                .filter(|(_, s, _)| server.is_none_or(|only| only == *s))
                .map(|(key, _, _)| *key)
                .collect();
            cleared += doomed.len();
            for key in doomed {
                stripe.remove(key);
            }
        }
        cleared
    }

    /// The live entries, in no order.
    pub fn entries(&self, now_ms: u64) -> Vec<Entry> {
        let mut all = Vec::new();
        for stripe in &self.stripes {
            let stripe = lock(stripe);
            let live = stripe.entries.iter().filter(|(_, _, expires)| *expires > now_ms);
            all.extend(live.map(|(key, server, expires)| Entry {
                client: Ipv6Addr::from(*key).to_canonical(),
                server: *server,
                expires_ms: *expires,
            }));
        }
        all
    }

    fn stripe(&self, client: IpAddr) -> MutexGuard<'_, Stripe> {
        lock(&self.stripes[hash_address(client) as usize % STRIPES])
    }
}

/// A stripe stays sound at every step, so a panic elsewhere does not spoil it.
fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(client: IpAddr) -> u128 {
    match client {
        IpAddr::V4(a) => a.to_ipv6_mapped().into(),
        IpAddr::V6(a) => a.into(),
    }
}

impl Stripe {
    fn insert(&mut self, key: u128, server: u32, expires: u64, now_ms: u64) {
        if self.entries.len() < self.limit {
            self.index.insert(key, self.entries.len() as u32);
            self.entries.push((key, server, expires));
            return;
        }
        let count = self.entries.len();
        let candidates = (0..CANDIDATES.min(count)).map(|i| (self.hand + i) % count);
        let victim = candidates.min_by_key(|slot| self.entries[*slot].2.saturating_sub(now_ms)).unwrap_or(0);
        self.hand = (self.hand + CANDIDATES) % count;
        self.index.remove(&self.entries[victim].0);
        self.index.insert(key, victim as u32);
        self.entries[victim] = (key, server, expires);
    }

    fn remove(&mut self, key: u128) -> bool {
        let Some(slot) = self.index.remove(&key) else { return false };
        self.entries.swap_remove(slot as usize);
        if let Some((moved, _, _)) = self.entries.get(slot as usize) {
            self.index.insert(*moved, slot);
        }
        self.hand = 0;
        true
    }
}

#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash_bytes(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn entries_live_for_a_timeout_after_their_last_use() {
        let table = SourceTable::new(100, 1_000);
        assert_eq!(table.insert_or_get(client(1), 7, 0, |_| true), 7);
        assert_eq!(table.insert_or_get(client(1), 8, 10, |_| true), 7, "the first choice holds");
        assert_eq!(table.lookup(client(1), 900), Some(7));
        assert_eq!(table.lookup(client(1), 1_800), Some(7));
        assert_eq!(table.lookup(client(1), 2_801), None);
        assert_eq!(table.insert_or_get(client(1), 8, 2_801, |_| true), 8);
        assert_eq!(
            table.insert_or_get(client(1), 9, 2_802, |s| s != 8),
            9,
            "a dead server's entry gives way"
        );
        assert!(table.remove(client(1)));
        assert!(!table.remove(client(1)));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_fresh() {
        let table = SourceTable::new(160, 1_000);
        for n in 0..10_000 {
            table.insert_or_get(client(n), n, u64::from(n), |_| true);
        }
        let entries = table.entries(0);
        assert_eq!(entries.len(), 160);
        let recent = entries.iter().filter(|e| e.server > 9_000).count();
        assert!(recent > 140, "{recent} of 160 are recent");
        assert_eq!(table.clear(Some(9_999)), 1);
        assert_eq!(table.clear(None), 159);
        assert!(table.entries(0).is_empty());
    }

    #[test]
    fn both_families() {
        let table = SourceTable::new(16, 1_000);
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        table.set(Entry { client: v6, server: 3, expires_ms: 50 }, 0);
        table.set(Entry { client: client(9), server: 4, expires_ms: 50 }, 0);
        let mut found = table.entries(10);
        found.sort_by_key(|e| e.server);
        assert_eq!((found[0].client, found[1].client), (v6, client(9)));
        assert_eq!(table.peek(v6, 10).map(|e| e.server), Some(3));
        assert_eq!(table.peek(v6, 60), None);
    }
}
