//! What was removed from tables lately. A node that was away, and starts first, still has it: it is
//! told when it is met again, for as long as an entry may live. An entry that was used after it had been
//! removed elsewhere stays: clients have come to it since.

use std::collections::HashMap;

/// Removals that are remembered of one table; of more the latest.
const MOST: usize = 100_000;

/// By table and key: when, by this machine's wall clock.
#[derive(Debug, Default)]
pub struct Removed(HashMap<String, HashMap<Box<[u8]>, u64>>);

impl Removed {
    pub fn note(&mut self, table: &str, key: &[u8], at_ms: u64) {
        if !self.0.contains_key(table) {
            self.0.insert(table.into(), HashMap::new());
        }
        let Some(keys) = self.0.get_mut(table) else { return };
        if keys.len() >= MOST {
            // The older half goes.
            let mut times: Vec<u64> = keys.values().copied().collect();
            let (_, middle, _) = times.select_nth_unstable(MOST / 2);
            let middle = *middle;
            keys.retain(|_, at| *at > middle);
        }
        keys.insert(key.into(), at_ms);
    }

    /// There is an entry again, last used at this time; whether it is to be kept.
    pub fn is_later(&mut self, table: &str, key: &[u8], used_ms: u64) -> bool {
        let Some(keys) = self.0.get_mut(table) else { return true };
        if keys.get(key).is_some_and(|at| used_ms < *at) {
            return false;
        }
        keys.remove(key);
        true
    }

    /// Those of a table that an entry elsewhere may have outlived: key and time. The others are forgotten.
    pub fn of(&mut self, table: &str, expire_ms: u64, now_ms: u64) -> Vec<(Box<[u8]>, u64)> {
        let Some(keys) = self.0.get_mut(table) else { return Vec::new() };
        keys.retain(|_, at| at.saturating_add(expire_ms) > now_ms);
        keys.iter().map(|(key, at)| (key.clone(), *at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_later_lives_and_nothing_is_remembered_for_ever() {
        let mut removed = Removed::default();
        removed.note("one", b"key", 1_000);
        removed.note("one", b"other", 1_500);
        assert!(!removed.is_later("one", b"key", 999));
        assert!(removed.is_later("two", b"key", 1_000) && removed.is_later("one", b"unknown", 0));
        assert!(removed.is_later("one", b"key", 1_000));
        assert!(removed.is_later("one", b"key", 900), "forgotten with its return");
        assert_eq!(removed.of("one", 500, 1_999).len(), 1);
        assert!(removed.of("one", 500, 2_000).is_empty());
        for n in 0..=MOST as u64 {
            removed.note("full", &n.to_be_bytes(), n);
        }
        let kept = removed.of("full", u64::MAX, 0);
        assert!(kept.len() <= MOST && kept.iter().any(|(_, at)| *at == MOST as u64));
    }
}
