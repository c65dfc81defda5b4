//! How often, and how many at a time: limits by key.
//!
//! Rates are kept as the generic cell rate algorithm does: one number a key, the time at which
//! the key's allowance is whole again (ITU-T I.371).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::hash::{Identity, hash_bytes};

const STRIPES: usize = 16;
/// Keys of one stripe at most; when they are reached, keys that have their whole allowance go,
/// and if that is not enough all do.
const KEYS: usize = 16 * 1024;

type Numbers = HashMap<u64, u64, BuildHasherDefault<Identity>>;

/// At most so many in a period, evenly refilled.
pub struct RateLimit {
    stripes: [Mutex<Numbers>; STRIPES],
    /// Microseconds between two at the allowed rate.
    interval_us: u64,
    /// How far ahead of even spacing a key may be.
    burst_us: u64,
}

impl RateLimit {
    /// `count` a `period_ms`, as many at once at most.
    pub fn new(count: u32, period_ms: u64) -> RateLimit {
        let period_us = period_ms.max(1) * 1_000;
        let interval_us = (period_us / u64::from(count.max(1))).max(1);
        RateLimit { stripes: Default::default(), interval_us, burst_us: period_us }
    }

    /// Whether one more is allowed now; if not, after how many milliseconds it would be.
    pub fn take(&self, key: &[u8], now_ms: u64) -> Result<(), u64> {
        let hash = hash_bytes(key);
        let mut stripe = lock(&self.stripes[hash as usize % STRIPES]);
        let now_us = now_ms * 1_000;
        if stripe.len() >= KEYS && !stripe.contains_key(&hash) {
            stripe.retain(|_, whole_at| *whole_at > now_us);
            if stripe.len() >= KEYS {
                stripe.clear();
            }
        }
        let whole_at = stripe.entry(hash).or_insert(now_us);
        let next = (*whole_at).max(now_us) + self.interval_us;
        if next > now_us + self.burst_us {
            return Err((next - now_us - self.burst_us).div_ceil(1_000));
        }
        *whole_at = next;
        Ok(())
    }
}

/// At most so many at a time.
pub struct ConcurrencyLimit {
    stripes: [Mutex<Numbers>; STRIPES],
    max: u64,
}

impl ConcurrencyLimit {
    pub fn new(max: u32) -> ConcurrencyLimit {
        ConcurrencyLimit { stripes: Default::default(), max: u64::from(max) }
    }

    /// Takes a place of a key, to be given back with [`Self::leave`] under the number returned.
    pub fn enter(&self, key: &[u8]) -> Option<u64> {
        let hash = hash_bytes(key);
        let mut stripe = lock(&self.stripes[hash as usize % STRIPES]);
        let now = stripe.entry(hash).or_insert(0);
        if *now >= self.max {
            return None;
        }
        *now += 1;
        Some(hash)
    }

    /// Takes a place again that was left too early, also over the limit.
    pub fn stay(&self, hash: u64) {
        *lock(&self.stripes[hash as usize % STRIPES]).entry(hash).or_insert(0) += 1;
    }

    pub fn leave(&self, hash: u64) {
        let mut stripe = lock(&self.stripes[hash as usize % STRIPES]);
        if let Some(now) = stripe.get_mut(&hash) {
            *now = now.saturating_sub(1);
            if *now == 0 {
                stripe.remove(&hash);
            }
        }
    }
}

fn lock(stripe: &Mutex<Numbers>) -> MutexGuard<'_, Numbers> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let limit = RateLimit::new(5, 1_000);
        let taken = |now_ms| (0..100).filter(|_| limit.take(b"a", now_ms).is_ok()).count();
        assert_eq!(taken(0), 5);
        assert_eq!(taken(100), 0);
        assert_eq!(limit.take(b"a", 100), Err(100));
        assert_eq!(taken(200), 1);
        assert_eq!(taken(1_200), 5);
        assert!(limit.take(b"b", 1_200).is_ok(), "other keys have their own");
    }

    #[test]
    fn places() {
        let limit = ConcurrencyLimit::new(2);
        let first = limit.enter(b"a");
        assert!(first.is_some() && limit.enter(b"a").is_some());
        assert_eq!(limit.enter(b"a"), None);
        assert!(limit.enter(b"b").is_some());
        limit.leave(first.unwrap());
        assert!(limit.enter(b"a").is_some());
        limit.stay(first.unwrap());
        limit.leave(first.unwrap());
        assert_eq!(limit.enter(b"a"), None, "who stays counts, over the limit too");
    }

    #[test]
    fn memory_is_bounded() {
        let limit = RateLimit::new(1, 1_000);
        for n in 0..1_000_000u32 {
            let _ = limit.take(&n.to_be_bytes(), 0);
        }
        let kept: usize = limit.stripes.iter().map(|s| s.lock().unwrap().len()).sum();
        assert!(kept <= STRIPES * KEYS);
    }
}
