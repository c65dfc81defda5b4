//! What is known of one name: which of its addresses are used, and when it is looked up again.
//!
//! In: answers and failures with their time. Out: addresses in an order that answers do not change. Never: a
//! socket, a clock.

use std::net::IpAddr;
use std::time::Duration;

use evenkeel_model::ResolverSettings;

/// Why a look-up has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name does not exist, or has no address.
    NoName,
    Refused,
    Timeout,
    Other,
}

impl Failure {
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::NoName => "the name does not exist or has no address",
            Failure::Refused => "the name servers refuse",
            Failure::Timeout => "no name server answers",
            Failure::Other => "the name servers fail",
        }
    }
}

/// What one look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<IpAddr>,
    pub ttl: Duration,
    /// The answers for both kinds of addresses came.
    pub whole: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Known {
    /// With the time at which each was last answered, by address.
    addresses: Vec<(IpAddr, u64)>,
    /// The last good answer.
    good_ms: u64,
    failing: Option<Failure>,
}

impl Known {
    /// What is remembered from before a restart.
    pub fn remembered(addresses: &[IpAddr], now_ms: u64) -> Known {
        let mut known = Known { good_ms: now_ms, ..Known::default() };
        known.addresses = addresses.iter().map(|a| (*a, now_ms)).collect();
        known.addresses.sort();
        known.addresses.dedup();
        known
    }

    pub fn failing(&self) -> Option<Failure> {
        self.failing
    }

    /// Takes a good answer; how long until the next look-up.
    pub fn on_answer(&mut self, now_ms: u64, answer: &Answer, rules: &ResolverSettings) -> Duration {
        let obsolete_ms = rules.hold.obsolete.as_millis() as u64;
        for address in &answer.addresses {
            match self.addresses.iter_mut().find(|(known, _)| known == address) {
                Some((_, seen_ms)) => *seen_ms = now_ms,
                None => self.addresses.push((*address, now_ms)),
            }
        }
        self.addresses.retain(|(address, seen_ms)| {
            let kept = !answer.whole || now_ms.saturating_sub(*seen_ms) < obsolete_ms;
            kept || answer.addresses.contains(address)
        });
        self.addresses.sort();
        self.addresses.truncate(evenkeel_dns::RECORDS);
        self.good_ms = now_ms;
        self.failing = None;
        match rules.hold.valid {
            Some(valid) => valid,
            None => answer.ttl.clamp(rules.min_ttl, rules.max_ttl),
        }
    }

    /// The last good answer stays for as long as the rules hold it.
    pub fn on_failure(&mut self, now_ms: u64, failure: Failure, rules: &ResolverSettings) -> Duration {
        self.failing = Some(failure);
        let hold = match failure {
            Failure::NoName => rules.hold.nx,
            Failure::Refused => rules.hold.refused,
            Failure::Timeout => rules.hold.timeout,
            Failure::Other => rules.hold.other,
        };
        let since_ms = now_ms.saturating_sub(self.good_ms);
        if hold.is_some_and(|hold| since_ms >= hold.as_millis() as u64) {
            self.addresses.clear();
        }
        rules.retry_after
    }

    /// By address, whatever the order of answers.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str], ttl_s: u64) -> Answer {
        let addresses = addresses.iter().map(|t| t.parse().unwrap()).collect();
        Answer { addresses, ttl: Duration::from_secs(ttl_s), whole: true }
    }

    fn shown(known: &Known) -> String {
        known.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn order_and_rotation_change_nothing() {
        let rules = ResolverSettings::default();
        let mut known = Known::default();
        known.on_answer(0, &answer(&["10.0.0.2", "10.0.0.1"], 60), &rules);
        assert_eq!(shown(&known), "10.0.0.1 10.0.0.2");
        known.on_answer(1_000, &answer(&["10.0.0.1", "10.0.0.2"], 60), &rules);
        assert_eq!(shown(&known), "10.0.0.1 10.0.0.2");
        // Only some of many in turn.
        known.on_answer(2_000, &answer(&["10.0.0.2"], 60), &rules);
        assert_eq!(shown(&known), "10.0.0.1 10.0.0.2");
        known.on_answer(31_000, &answer(&["10.0.0.2"], 60), &rules);
        assert_eq!(shown(&known), "10.0.0.2");
        // One of two questions stayed without answer.
        known.on_answer(99_000, &Answer { whole: false, ..answer(&["10.0.0.3"], 60) }, &rules);
        assert_eq!(shown(&known), "10.0.0.2 10.0.0.3");
    }

    #[test]
    fn the_ttl_has_bounds() {
        let mut rules = ResolverSettings::default();
        let next = |ttl_s, rules: &ResolverSettings| {
            Known::default().on_answer(0, &answer(&["10.0.0.1"], ttl_s), rules).as_millis()
        };
        assert_eq!(next(0, &rules), 1_000);
        assert_eq!(next(60, &rules), 60_000);
        assert_eq!(next(1 << 31, &rules), 300_000);
        rules.hold.valid = Some(Duration::from_secs(10));
        assert_eq!(next(60, &rules), 10_000);
    }

    #[test]
    fn the_last_good_answer_stays() {
        let mut rules = ResolverSettings::default();
        let mut known = Known::default();
        known.on_answer(0, &answer(&["10.0.0.1"], 60), &rules);
        let day_ms = 86_400_000;
        for failure in [Failure::NoName, Failure::Refused, Failure::Timeout, Failure::Other] {
            assert_eq!(known.on_failure(day_ms, failure, &rules), rules.retry_after);
            assert_eq!((shown(&known).as_str(), known.failing()), ("10.0.0.1", Some(failure)));
        }
        rules.hold.nx = Some(Duration::from_secs(30));
        known.on_failure(29_999, Failure::NoName, &rules);
        known.on_failure(day_ms, Failure::Timeout, &rules);
        assert_eq!(shown(&known), "10.0.0.1");
        known.on_failure(30_000, Failure::NoName, &rules);
        assert_eq!(shown(&known), "");
        known.on_answer(40_000, &answer(&["10.0.0.1"], 60), &rules);
        assert_eq!((shown(&known).as_str(), known.failing()), ("10.0.0.1", None));
    }
}
