//! What is refused again and again: the first is an entry, the rest of a period is a count.
//!
//! Whoever is turned away costs the record little, however often they come: a stranger has few
//! entries a period, and all strangers together not many more.

use std::collections::HashMap;

use crate::accounts::network_of;

/// How long failures are counted before the count is an entry.
pub const PERIOD_MS: u64 = 10 * 60_000;
/// Kinds of failures with an entry of their own in a period: of one network nobody is known at, of
/// all of them, of one person, of all people.
const OF_A_NETWORK: usize = 6;
const OF_STRANGERS: usize = 12;
const OF_A_PERSON: usize = 64;
const OF_PEOPLE: usize = 512;

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Failure {
    /// `None`: nobody is known by the request.
    pub person: Option<String>,
    pub from: String,
    pub what: String,
    pub outcome: String,
}

/// What is left to say of a period.
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    pub who: String,
    pub from: String,
    pub what: String,
    pub outcome: String,
}

#[derive(Default)]
pub struct Repeats {
    since_ms: u64,
    seen: HashMap<Failure, u64>,
    /// Without an entry of their own, and the last of them.
    others: u64,
    last: Option<Failure>,
}

impl Repeats {
    pub fn is_due(&self, now_ms: u64) -> bool {
        let idle = self.seen.is_empty() && self.others == 0;
        !idle && now_ms.abs_diff(self.since_ms) >= PERIOD_MS
    }

    /// Whether it is an entry of its own.
    pub fn is_first(&mut self, failure: Failure, now_ms: u64) -> bool {
        if self.seen.is_empty() && self.others == 0 {
            self.since_ms = now_ms;
        }
        if let Some(count) = self.seen.get_mut(&failure) {
            *count += 1;
            return false;
        }
        let network = network_of(&failure.from);
        let alike = |f: &&Failure| f.person.is_some() == failure.person.is_some();
        let near = |f: &&Failure| match &failure.person {
            Some(_) => f.person == failure.person,
            None => network_of(&f.from) == network,
        };
        let all = self.seen.keys().filter(alike).count();
        let own = self.seen.keys().filter(alike).filter(near).count();
        let room = match failure.person {
            Some(_) => own < OF_A_PERSON && all < OF_PEOPLE,
            None => own < OF_A_NETWORK && all < OF_STRANGERS,
        };
        match room {
            true => drop(self.seen.insert(failure, 0)),
            false => {
                self.others += 1;
                self.last = Some(failure);
            }
        }
        room
    }

    /// Ends the period.
    pub fn take(&mut self) -> Vec<Count> {
        let mut counts: Vec<Count> = Vec::new();
        for (f, more) in self.seen.drain().filter(|(_, more)| *more > 0) {
            counts.push(Count {
                who: f.person.unwrap_or_else(|| "nobody".into()),
                from: f.from,
                what: format!("{more} more like this: {}", f.what),
                outcome: f.outcome,
            });
        }
        counts.sort_by(|a, b| (&a.who, &a.from, &a.what).cmp(&(&b.who, &b.from, &b.what)));
        if let Some(last) = self.last.take() {
            counts.push(Count {
                who: last.person.unwrap_or_else(|| "nobody".into()),
                from: last.from,
                what: match self.others {
                    1 => format!("1 more failure of its own kind: {}", last.what),
                    others => format!("{others} more failures of several kinds, the last: {}", last.what),
                },
                outcome: last.outcome,
            });
        }
        self.others = 0;
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(person: Option<&str>, from: &str, what: &str) -> Failure {
        let (person, from) = (person.map(str::to_owned), from.to_owned());
        Failure { person, from, what: what.into(), outcome: "401".into() }
    }

    #[test]
    fn strangers_have_few_entries() {
        let mut repeats = Repeats::default();
        let mut entries = 0;
        for n in 0..10_000 {
            let from = format!("2001:db8:{:x}::{n:x}", n % 100);
            entries += usize::from(repeats.is_first(failure(None, &from, &format!("login: {n}")), 7));
        }
        assert_eq!(entries, OF_STRANGERS);
        assert!(
            repeats.is_first(failure(Some("ann"), "192.0.2.1", "login"), 8),
            "people are not crowded out"
        );
        assert!(!repeats.is_due(8) && repeats.is_due(7 + PERIOD_MS));
        let counts = repeats.take();
        assert!(counts.len() == 1 && counts[0].what.starts_with("9988 more failures"), "{counts:?}");
        assert!(!repeats.is_due(u64::MAX));
    }

    #[test]
    fn what_comes_again_is_counted() {
        let mut repeats = Repeats::default();
        let same = || failure(None, "192.0.2.1", "login: ann");
        assert!(repeats.is_first(same(), 7));
        for _ in 0..5 {
            assert!(!repeats.is_first(same(), 8));
        }
        assert_eq!(repeats.take()[0].what, "5 more like this: login: ann");
        assert!(repeats.is_first(same(), 9) && repeats.take().is_empty());
    }

    #[test]
    fn a_network_does_not_crowd_out_others() {
        let mut repeats = Repeats::default();
        let entries = (0..100).filter(|n| repeats.is_first(failure(None, "192.0.2.1", &n.to_string()), 7));
        assert_eq!(entries.count(), OF_A_NETWORK);
        assert!(repeats.is_first(failure(None, "192.0.2.2", "x"), 7));
    }
}
