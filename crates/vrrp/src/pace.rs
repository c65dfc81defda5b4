//! How short the time of death may be: the shortest one that would not have been wrong in the last hours.
//!
//! In: how long after the beat before each beat came, and how long this process itself did not run
//! meanwhile; what the peer would have. Out: the time of death of both, and the time between two beats.
//! Both use the longer one of the two, so that the node that hears worse decides.

use crate::Millis;

/// Beats are at least so far apart.
pub const SHORTEST_EVERY: Millis = 10;
/// What was late counts for so many spans of [`SPAN`].
const SPANS: usize = 4;
const SPAN: Millis = 3_600_000;
/// Beside beats that may be lost, and what was late, for what has not been seen yet.
const SPARE: Millis = 5;
/// A time of death has so many beats.
const BEATS: Millis = 4;
/// It becomes shorter once in this time at most, by a fifth; longer at once.
const STEP: Millis = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub shortest_dead_ms: Millis,
    /// As configured; what a node begins with.
    pub longest_dead_ms: Millis,
    pub longest_every_ms: Millis,
    /// So much must have been heard before anything becomes shorter.
    pub learn_ms: Millis,
}

#[derive(Clone, Debug)]
pub struct Pace {
    bounds: Bounds,
    /// The latest beat of each span, the present one first.
    late: [Millis; SPANS],
    span_ends: Millis,
    /// Since when the peer is heard without an end.
    heard_from: Option<Millis>,
    every_ms: Millis,
    dead_ms: Millis,
    stepped_at: Millis,
}

impl Pace {
    pub fn new(bounds: Bounds, now: Millis) -> Pace {
        Pace {
            bounds,
            late: [0; SPANS],
            span_ends: now + SPAN,
            heard_from: None,
            every_ms: bounds.longest_every_ms,
            dead_ms: bounds.longest_dead_ms,
            stepped_at: now,
        }
    }

    /// A beat came `gap` after the one before, while this process did not run for `stalled` of that.
    pub fn receive(&mut self, gap: Millis, stalled: Millis, now: Millis) {
        while now >= self.span_ends {
            self.late.rotate_right(1);
            self.late[0] = 0;
            self.span_ends += SPAN;
        }
        self.heard_from.get_or_insert(now);
        // No time of death within the bounds would have been right there.
        if gap > self.bounds.longest_dead_ms {
            return;
        }
        let late = gap.saturating_sub(self.every_ms + stalled);
        self.late[0] = self.late[0].max(late);
    }

    /// The peer has begun anew, or was silent: what is known of its machine may be over.
    pub fn lose(&mut self) {
        self.heard_from = None;
    }

    /// The latest beat of the last hours, beyond its time.
    pub fn latest_ms(&self) -> Millis {
        self.late.iter().copied().max().unwrap_or(0)
    }

    /// The peer has not been heard for long enough to know how late its beats can be.
    pub fn is_learning(&self, now: Millis) -> bool {
        self.heard_from.is_none_or(|from| now < from + self.bounds.learn_ms)
    }

    /// What this node would have, by what it has heard.
    pub fn wants_dead_ms(&self, now: Millis) -> Millis {
        let Bounds { shortest_dead_ms, longest_dead_ms, .. } = self.bounds;
        if self.is_learning(now) {
            return longest_dead_ms;
        }
        // One beat may be lost, half as much again may be late.
        let late = self.latest_ms();
        let needed = 2 * SHORTEST_EVERY + late + late / 2 + SPARE;
        // The beats of a time of death are a part of it.
        let needed = needed.max((late + late / 2 + SPARE) * BEATS / (BEATS - 2));
        needed.max(shortest_dead_ms).min(longest_dead_ms)
    }

    /// What both have now; 0 of the peer is one that does not measure.
    pub fn agree(&mut self, peer_wants_ms: Millis, now: Millis) -> (Millis, Millis) {
        let longest = self.bounds.longest_dead_ms;
        let peer = if peer_wants_ms == 0 { longest } else { peer_wants_ms.min(longest) };
        let wanted = self.wants_dead_ms(now).max(peer);
        if wanted >= self.dead_ms {
            (self.dead_ms, self.stepped_at) = (wanted, now);
        } else if now >= self.stepped_at + STEP {
            (self.dead_ms, self.stepped_at) = (wanted.max(self.dead_ms - self.dead_ms.div_ceil(5)), now);
        }
        self.every_ms = match self.dead_ms == longest {
            true => self.bounds.longest_every_ms,
            false => (self.dead_ms / BEATS).max(SHORTEST_EVERY).min(self.bounds.longest_every_ms),
        };
        (self.every_ms, self.dead_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { shortest_dead_ms: 40, longest_dead_ms: 150, longest_every_ms: 50, learn_ms: 60_000 };

    /// Beats for some seconds, every tenth of them late.
    fn receive(pace: &mut Pace, from: Millis, seconds: Millis, late: Millis) -> Millis {
        let mut now = from;
        for beat in 0.. {
            if now >= from + seconds * 1_000 {
                break;
            }
            let gap = pace.every_ms + if beat % 10 == 0 { late } else { 0 };
            now += gap;
            pace.receive(gap, 0, now);
            pace.agree(pace.wants_dead_ms(now), now);
        }
        now
    }

    #[test]
    fn it_becomes_as_short_as_what_was_late_allows() {
        let mut pace = Pace::new(BOUNDS, 0);
        let now = receive(&mut pace, 0, 59, 0);
        assert_eq!((pace.every_ms, pace.dead_ms), (50, 150), "it has not learnt enough");
        let now = receive(&mut pace, now, 60, 0);
        assert_eq!((pace.every_ms, pace.dead_ms), (10, 40));
        // Something late makes it longer at once, for hours.
        let now = receive(&mut pace, now, 1, 20);
        assert_eq!(pace.dead_ms, 70);
        assert!(pace.dead_ms >= 2 * pace.every_ms + 20 + 10, "a beat lost and a beat late are no death");
        let now = receive(&mut pace, now, 3 * 3_600, 0);
        assert_eq!(pace.dead_ms, 70);
        receive(&mut pace, now, 3_600 + 60, 0);
        assert_eq!(pace.dead_ms, 40);
    }

    #[test]
    fn the_node_that_hears_worse_decides_and_an_older_one_keeps_what_is_configured() {
        let mut pace = Pace::new(BOUNDS, 0);
        let now = receive(&mut pace, 0, 120, 0);
        assert_eq!(pace.agree(100, now + 1), (25, 100));
        assert_eq!(pace.agree(0, now + 2), (50, 150));
        assert_eq!(pace.agree(9_000, now + 3), (50, 150), "nobody goes beyond what this node was told");
        assert_eq!(pace.agree(40, now + 2_000), (30, 120), "step by step");
    }

    #[test]
    fn own_stalls_and_true_deaths_say_nothing_of_the_peer() {
        let mut pace = Pace::new(BOUNDS, 0);
        let now = receive(&mut pace, 0, 120, 0);
        pace.receive(110, 100, now);
        assert_eq!(pace.latest_ms(), 0, "this process did not run");
        pace.receive(5_000, 0, now);
        assert_eq!(pace.latest_ms(), 0, "no time of death would have been right");
        pace.receive(110, 0, now);
        assert_eq!(pace.latest_ms(), 100);
        assert_eq!(pace.wants_dead_ms(now), 150);
        let mut pace = Pace::new(BOUNDS, 0);
        let now = receive(&mut pace, 0, 120, 0);
        pace.lose();
        assert_eq!(pace.wants_dead_ms(now), 150, "it learns anew");
    }
}
