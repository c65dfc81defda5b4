//! When a certificate is renewed, and when what failed is tried again. Time is an argument.

use std::time::Duration;

use crate::Seconds;

/// A number of 0 to 999 that is always the same for a text: both nodes of a pair come to the same time.
pub fn spread(text: &str) -> u64 {
    // FNV-1a, its upper bits mixed down: neighbouring names shall not be neighbours.
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 29)) % 1000
}

/// When a certificate is renewed: within the authority's window, or at about two thirds of its life.
pub fn renewal_at(
    not_before: Seconds,
    not_after: Seconds,
    window: Option<(Seconds, Seconds)>,
    spread: u64,
) -> Seconds {
    let share = |length: Seconds, of: i128| (i128::from(length) * of / 1000) as Seconds;
    if let Some((from, to)) = window.filter(|(from, to)| from < to) {
        let at = from.saturating_add(share(to.saturating_sub(from), i128::from(spread)));
        // A window beyond the end of the certificate is a mistake.
        if at < not_after {
            return at;
        }
    }
    let life = not_after.saturating_sub(not_before).max(0);
    // 62 % to 67 % of it.
    not_before.saturating_add(share(life, 620 + i128::from(spread) / 20))
}

/// How long to wait after so many failures in a row. `left` is what remains of the certificate in use.
pub fn back_off(failures: u32, told: Option<Duration>, left: Option<Duration>, spread: u64) -> Duration {
    const FIRST: u64 = 300;
    const MOST: u64 = 12 * 3600;
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    // Short certificates leave less time for patience; authorities count failures by the hour.
    let most = left.map_or(MOST, |left| (left.as_secs() / 8).clamp(FIRST, MOST));
    let wait = doubled.min(most);
    let wait = wait + wait * (spread % 1000) / 5000;
    // Nobody is believed who asks for years.
    let told = told.map_or(0, |told| told.as_secs().min(7 * 86_400));
    Duration::from_secs(wait.max(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Seconds = 86_400;

    #[test]
    fn renewals_follow_the_window_or_the_life() {
        for life in [90 * DAY, 6 * DAY, 3600, 365 * DAY] {
            for spread in [0, 1, 500, 999] {
                let at = renewal_at(1000, 1000 + life, None, spread);
                let share = (at - 1000) * 1000 / life;
                assert!((615..=675).contains(&share), "{life} {share}");
                let window = (1000 + life / 2, 1000 + life / 2 + life / 10);
                let at = renewal_at(1000, 1000 + life, Some(window), spread);
                assert!(window.0 <= at && at < window.1);
                // What the authority says may be nonsense.
                for window in [(i64::MIN, i64::MAX), (i64::MAX - 1, i64::MAX), (9, 9), (10, 9), (1, 2)] {
                    assert!(renewal_at(1000, 1000 + life, Some(window), spread) < 1000 + life);
                }
            }
        }
        // At once, where the authority has revoked it.
        assert!(renewal_at(1000, 1000 + DAY, Some((1, 2)), 5) < 1000);
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(back_off(1, None, None, 0), minutes(5));
        assert_eq!(back_off(2, None, None, 0), minutes(10));
        assert!(back_off(u32::MAX, None, None, 999) <= minutes(15 * 60));
        assert_eq!(back_off(1, Some(minutes(600)), None, 0), minutes(600));
        assert!(back_off(9, Some(Duration::MAX), None, 0) <= minutes(7 * 24 * 60));
        assert!(back_off(20, None, Some(minutes(80)), 0) <= minutes(10));
    }

    #[test]
    fn names_are_spread() {
        let all: std::collections::HashSet<u64> =
            (0..100).map(|n| spread(&format!("web{n}")) / 100).collect();
        assert!(all.len() >= 8, "{all:?}");
    }
}
