//! Failed attempts, counted; too many shut the door for a while.

use std::collections::HashMap;

use crate::{Kind, Refused};

/// Attempts that fail before the door shuts.
const FREE: u32 = 5;
const FIRST_MS: u64 = 30_000;
const LONGEST_MS: u64 = 3_600_000;
/// Without failures for this long the count begins anew.
const FORGET_MS: u64 = 24 * 3_600_000;
/// More keys than this, and the oldest goes.
const MOST: usize = 10_000;

#[derive(Default)]
pub struct Lock {
    failed: HashMap<String, Failed>,
    failures: u64,
}

struct Failed {
    times: u32,
    last_ms: u64,
}

impl Failed {
    fn until_ms(&self) -> u64 {
        let over = self.times.saturating_sub(FREE);
        match (self.times >= FREE).then(|| FIRST_MS << over.min(12)) {
            Some(pause) => self.last_ms + pause.min(LONGEST_MS),
            None => 0,
        }
    }
}

impl Lock {
    pub fn left_ms(&self, key: &str, now_ms: u64) -> u64 {
        self.failed.get(key).map_or(0, |f| f.until_ms().saturating_sub(now_ms))
    }

    pub fn may(&mut self, key: &str, now_ms: u64) -> Result<(), Refused> {
        match self.left_ms(key, now_ms) {
            0 => Ok(()),
            left => {
                let seconds = left.div_ceil(1000);
                Err(Refused::new(Kind::Locked, format!("too many failed attempts: wait {seconds} s")))
            }
        }
    }

    pub fn failed(&mut self, key: &str, now_ms: u64) {
        self.failures += 1;
        self.failed.retain(|_, f| now_ms.saturating_sub(f.last_ms) < FORGET_MS);
        if self.failed.len() >= MOST && !self.failed.contains_key(key) {
            let oldest = self.failed.iter().min_by_key(|(_, f)| f.last_ms).map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                self.failed.remove(&oldest);
            }
        }
        let failed = self.failed.entry(key.into()).or_insert(Failed { times: 0, last_ms: 0 });
        failed.times += 1;
        failed.last_ms = now_ms;
    }

    pub fn succeeded(&mut self, key: &str) {
        self.failed.remove(key);
    }

    pub fn failures(&self) -> u64 {
        self.failures
    }
}
