//! Failed attempts, counted; too many shut the door for a while.
//!
//! A lock is of a name and of the network that the attempts came from, so that nobody is kept out
//! by somebody elsewhere. Networks are whole addresses of IPv4 and /64 of IPv6.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::{FailureKind, Refused};

/// Attempts that fail before the door shuts.
const FREE: u32 = 5;
/// The same for a person where that person has logged in lately.
const FREE_WHERE_KNOWN: u32 = 20;
const LATELY_MS: u64 = 30 * 24 * 3_600_000;
const FIRST_MS: u64 = 30_000;
const LONGEST_MS: u64 = 3_600_000;
/// Without failures for this long the count begins anew.
const FORGET_MS: u64 = 24 * 3_600_000;
/// More keys than this, and the oldest goes.
const MOST: usize = 10_000;

/// What was tried; each has a count of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Password,
    Code,
}

/// Whose attempts are counted: a person's from a network, or anybody's from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    purpose: Purpose,
    name: Option<String>,
    network: String,
}

#[derive(Default)]
pub struct Lock {
    failed: HashMap<Key, Failed>,
    /// Where people have logged in, and when.
    places: HashMap<(String, String), u64>,
    failures: u64,
}

#[derive(Default)]
struct Failed {
    times: u32,
    last_ms: u64,
}

impl Failed {
    fn left_ms(&self, free: u32, now_ms: u64) -> u64 {
        let Some(over) = self.times.checked_sub(free) else { return 0 };
        let pause = (FIRST_MS << over.min(12)).min(LONGEST_MS);
        (self.last_ms + pause).saturating_sub(now_ms)
    }
}

/// Whose network an address is of: others of it are taken for the same.
pub fn network_of(from: &str) -> String {
    match from.parse::<IpAddr>().map(|a| a.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from(network))
        }
        _ => from.to_owned(),
    }
}

impl Lock {
    /// The longest that the person has to wait anywhere.
    pub fn left_ms(&self, name: &str, now_ms: u64) -> u64 {
        let own = self.failed.iter().filter(|(key, _)| key.name.as_deref() == Some(name));
        own.map(|(key, failed)| failed.left_ms(self.free(name, &key.network, now_ms), now_ms))
            .max()
            .unwrap_or(0)
    }

    fn is_known(&self, name: &str, network: &str, now_ms: u64) -> bool {
        let place = self.places.get(&(name.to_owned(), network.to_owned()));
        place.is_some_and(|at| now_ms.saturating_sub(*at) < LATELY_MS)
    }

    fn free(&self, name: &str, network: &str, now_ms: u64) -> u32 {
        if self.is_known(name, network, now_ms) { FREE_WHERE_KNOWN } else { FREE }
    }

    pub fn may(&self, purpose: Purpose, name: &str, from: &str, now_ms: u64) -> Result<(), Refused> {
        let network = network_of(from);
        let left = |name: Option<&str>, free| {
            let key = Key { purpose, name: name.map(str::to_owned), network: network.clone() };
            self.failed.get(&key).map_or(0, |f| f.left_ms(free, now_ms))
        };
        // Where a person is known, what others do at the same address does not count.
        let anybody = if self.is_known(name, &network, now_ms) { 0 } else { left(None, FREE) };
        match left(Some(name), self.free(name, &network, now_ms)).max(anybody) {
            0 => Ok(()),
            left => {
                let seconds = left.div_ceil(1000);
                Err(Refused::new(FailureKind::Locked, format!("too many failed attempts: wait {seconds} s")))
            }
        }
    }

    pub fn failed(&mut self, purpose: Purpose, name: &str, from: &str, now_ms: u64) {
        self.failures += 1;
        self.failed.retain(|_, f| now_ms.saturating_sub(f.last_ms) < FORGET_MS);
        for name in [Some(name.to_owned()), None] {
            let key = Key { purpose, name, network: network_of(from) };
            if self.failed.len() >= MOST && !self.failed.contains_key(&key) {
                let oldest = self.failed.iter().min_by_key(|(_, f)| f.last_ms).map(|(k, _)| k.clone());
                if let Some(oldest) = oldest {
                    self.failed.remove(&oldest);
                }
            }
            let failed = self.failed.entry(key).or_default();
            failed.times += 1;
            failed.last_ms = now_ms;
        }
    }

    /// A failure that locks nobody out.
    pub fn count(&mut self) {
        self.failures += 1;
    }

    /// The person is known there from now on.
    pub fn succeeded(&mut self, name: &str, from: &str, now_ms: u64) {
        let network = network_of(from);
        self.failed.retain(|key, _| {
            key.network != network || key.name.as_deref().is_some_and(|other| other != name)
        });
        self.places.retain(|_, at| now_ms.saturating_sub(*at) < LATELY_MS);
        if self.places.len() >= MOST {
            let oldest = self.places.iter().min_by_key(|(_, at)| **at).map(|(place, _)| place.clone());
            if let Some(oldest) = oldest {
                self.places.remove(&oldest);
            }
        }
        self.places.insert((name.to_owned(), network), now_ms);
    }

    /// Opens every door that was shut to the person, and those of the networks that it was shut in.
    pub fn unlock(&mut self, name: &str) {
        let own = self.failed.keys().filter(|key| key.name.as_deref() == Some(name));
        let networks: Vec<String> = own.map(|key| key.network.clone()).collect();
        self.failed.retain(|key, _| match &key.name {
            Some(other) => other != name,
            None => !networks.contains(&key.network),
        });
    }

    pub fn failures(&self) -> u64 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_addresses() {
        assert_eq!(network_of("192.0.2.1"), "192.0.2.1");
        assert_eq!(network_of("::ffff:192.0.2.1"), "::ffff:192.0.2.1");
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(network_of("socket"), "socket");
    }

    #[test]
    fn nobody_is_kept_out_by_somebody_elsewhere() {
        let mut lock = Lock::default();
        let may = |lock: &Lock, name: &str, from: &str| lock.may(Purpose::Password, name, from, 1000).is_ok();
        for host in 0..5 {
            lock.failed(Purpose::Password, "ann", &format!("2001:db8::{host}"), 1000);
        }
        assert!(!may(&lock, "ann", "2001:db8::99"), "the same /64");
        assert!(!may(&lock, "bob", "2001:db8::99"), "the address for anybody");
        assert!(may(&lock, "ann", "2001:db8:0:1::1") && may(&lock, "ann", "192.0.2.1"));
        assert!(lock.may(Purpose::Code, "ann", "2001:db8::1", 1000).is_ok(), "codes are counted apart");
        assert!(lock.left_ms("ann", 1000) > 0 && lock.left_ms("bob", 1000) == 0);
        lock.unlock("ann");
        assert!(may(&lock, "ann", "2001:db8::99") && may(&lock, "bob", "2001:db8::99"));
        // Where somebody has logged in lately, strangers behind the same address do not matter.
        lock.succeeded("ann", "192.0.2.1", 1000);
        for _ in 0..5 {
            lock.failed(Purpose::Password, "x", "192.0.2.1", 1000);
            lock.failed(Purpose::Password, "ann", "192.0.2.1", 1000);
        }
        assert!(may(&lock, "ann", "192.0.2.1") && !may(&lock, "bob", "192.0.2.1"));
        (0..15).for_each(|_| lock.failed(Purpose::Password, "ann", "192.0.2.1", 1000));
        assert!(!may(&lock, "ann", "192.0.2.1"), "not for ever");
    }
}
