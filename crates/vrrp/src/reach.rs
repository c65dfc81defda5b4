//! What a node still reaches, where its peer is heard on one path and not on another: a switch's port
//! can be dead while it keeps its carrier, and then neither node knows which of them is cut off.
//!
//! In: how long each path has been silent, what the peer doubts, which machines answered. Out: whether
//! to ask them, and how much what is missing weighs. Both nodes ask; the one that reaches more is fitter.

use crate::Millis;

/// What it weighs to reach none: more than anything but a link that is down.
pub const WORST: u16 = 60;
/// Without an answer in so many rounds, one after the other, a machine is not reached.
pub const ROUNDS: usize = 2;
/// Where more is reached than before, the other node finds that out within so many times of death.
const SETTLE: Millis = 4;
/// A path that is heard again for so many times of death is well.
const CALM: Millis = 10;

#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// A path of this node's has been silent while another was not, since then.
    silent_since: Option<Millis>,
    silent: bool,
    /// There was a reason to ask at the last look; a new one begins.
    reason: bool,
    begins: bool,
    /// There is a reason to ask until then.
    until: Millis,
    /// The last rounds: a bit for each machine that answered.
    rounds: [u64; ROUNDS],
    count: usize,
    /// What was broken heals for both, and one of them knows it first.
    settles_at: Millis,
    /// Machines that are asked.
    of: u32,
}

impl Reach {
    /// `silences`: of each path, how long it has been silent. `peer_doubts`: the peer says that one of its
    /// paths is silent. Whether machines are to be asked.
    pub fn update(
        &mut self,
        silences: impl Iterator<Item = Millis>,
        peer_doubts: bool,
        dead_ms: Millis,
        now: Millis,
    ) -> bool {
        let (mut least, mut most) = (Millis::MAX, 0);
        for silence in silences {
            (least, most) = (least.min(silence), most.max(silence));
        }
        // Where all are silent the peer is dead, or this process did not run. What comes again does not
        // come by all paths at the same moment.
        let differ = most >= dead_ms && least <= dead_ms / 2;
        self.silent_since = differ.then(|| self.silent_since.unwrap_or(now));
        self.silent = self.silent_since.is_some_and(|since| now - since >= dead_ms / 3);
        let reason = self.silent || peer_doubts;
        if reason && !std::mem::replace(&mut self.reason, reason) {
            // What answered before says nothing of now.
            (self.count, self.begins) = (0, true);
        }
        self.reason = reason;
        if reason {
            self.until = now + CALM * dead_ms;
        }
        if !self.asks(now) {
            (self.count, self.of) = (0, 0);
        }
        self.asks(now)
    }

    pub fn asks(&self, now: Millis) -> bool {
        now < self.until
    }

    /// Whether there is a new reason to ask, since this was asked last.
    pub fn begins(&mut self) -> bool {
        std::mem::take(&mut self.begins)
    }

    /// What the peer is told: it is to ask, too, and goes on while this node reaches less than all.
    pub fn doubts(&self) -> bool {
        self.silent || self.trouble() > 0
    }

    /// One round: of `of` machines those answered whose bit is set.
    pub fn answered(&mut self, answers: u64, of: u32, dead_ms: Millis, now: Millis) {
        let before = self.reached();
        if of != self.of {
            (self.count, self.of) = (0, of);
        }
        self.rounds.rotate_right(1);
        self.rounds[0] = answers;
        self.count = (self.count + 1).min(ROUNDS);
        // One that answered nobody a round ago is healing as well, although one round proves nothing.
        let (deaf, reached) =
            (self.count > 1 && self.rounds[1] == 0, self.reached().map(|(reached, _)| reached));
        let heals = match (before, reached) {
            (Some((before, _)), Some(after)) => after > before,
            (None, Some(after)) => deaf && after > 0,
            _ => false,
        };
        if heals {
            self.settles_at = now + SETTLE * dead_ms;
        }
    }

    /// How many of how many are reached, where that is certain.
    pub fn reached(&self) -> Option<(u32, u32)> {
        let seen = self.rounds[..self.count].iter().fold(0, |all, round| all | round);
        let reached = seen.count_ones().min(self.of);
        let certain = self.of > 0 && (self.count == ROUNDS || reached == self.of);
        certain.then_some((reached, self.of))
    }

    pub fn trouble(&self) -> u16 {
        let Some((reached, of)) = self.reached() else { return 0 };
        (u32::from(WORST) * (of - reached)).div_ceil(of) as u16
    }

    /// It does not know yet how much it reaches, or not yet whether the other node reaches more by now, too.
    pub fn is_undecided(&self, now: Millis) -> bool {
        self.asks(now) && (self.reached().is_none() || now < self.settles_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Millis = 150;

    fn doubting() -> Reach {
        let mut reach = Reach::default();
        assert!(!reach.update([160, 10].into_iter(), false, DEAD, 950), "it may come in a moment");
        assert!(reach.update([210, 10].into_iter(), false, DEAD, 1_000));
        reach
    }

    #[test]
    fn one_silent_path_is_a_reason_to_ask_and_all_of_them_are_none() {
        let mut reach = Reach::default();
        assert!(!reach.update([40, 10].into_iter(), false, DEAD, 1_000), "both are heard");
        assert!(!reach.update([400, 410].into_iter(), false, DEAD, 1_000), "the peer is dead");
        assert!(!reach.update(std::iter::empty(), false, DEAD, 1_000));
        assert!(doubting().doubts());
        assert!(reach.update([10, 10].into_iter(), true, DEAD, 1_000), "the peer does not hear this node");
        assert!(!reach.doubts(), "what the peer said is not said back");
        assert!(reach.update([10, 10].into_iter(), false, DEAD, 2_400));
        assert!(!reach.update([10, 10].into_iter(), false, DEAD, 2_500), "it is over after a while");
    }

    #[test]
    fn what_is_missing_weighs_by_its_share_and_only_when_it_is_certain() {
        let mut reach = doubting();
        assert!(reach.is_undecided(1_000));
        reach.answered(0, 3, DEAD, 1_000);
        assert!(reach.is_undecided(1_000), "one round proves nothing");
        assert_eq!(reach.trouble(), 0);
        reach.answered(0, 3, DEAD, 1_000);
        assert_eq!((reach.reached(), reach.trouble()), (Some((0, 3)), WORST));
        reach.answered(0b001, 3, DEAD, 1_000);
        reach.answered(0b010, 3, DEAD, 1_000);
        assert_eq!((reach.reached(), reach.trouble()), (Some((2, 3)), 20), "an answer may be lost");
        let mut reach = doubting();
        reach.answered(0b111, 3, DEAD, 1_000);
        assert_eq!((reach.reached(), reach.trouble()), (Some((3, 3)), 0), "nothing better can come");
        reach.answered(0, 2, DEAD, 1_000);
        assert!(reach.is_undecided(1_000), "other machines are asked");
    }

    #[test]
    fn who_reaches_more_than_before_waits_until_the_other_one_knows_too() {
        let mut reach = doubting();
        (0..2).for_each(|_| reach.answered(0, 3, DEAD, 1_000));
        reach.answered(0b111, 3, DEAD, 1_100);
        assert_eq!(reach.trouble(), 0);
        assert!(reach.is_undecided(1_600) && !reach.is_undecided(1_700));
    }

    #[test]
    fn who_reached_nobody_a_round_ago_waits_too() {
        let mut reach = doubting();
        reach.answered(0, 3, DEAD, 1_000);
        reach.answered(0b111, 3, DEAD, 1_060);
        assert!(
            reach.is_undecided(1_600) && !reach.is_undecided(1_660),
            "the port of the other heals with its own"
        );
        let mut reach = doubting();
        reach.answered(0b011, 3, DEAD, 1_000);
        reach.answered(0b111, 3, DEAD, 1_060);
        assert!(!reach.is_undecided(1_060), "an answer was lost");
    }

    #[test]
    fn a_new_reason_begins_anew() {
        let mut reach = doubting();
        assert!(reach.begins() && !reach.begins());
        reach.answered(0b111, 3, DEAD, 1_000);
        assert!(reach.update([10, 10].into_iter(), false, DEAD, 1_100) && !reach.is_undecided(1_100));
        assert!(reach.update([10, 10].into_iter(), true, DEAD, 1_200) && reach.is_undecided(1_200));
        assert!(reach.begins());
    }

    #[test]
    fn who_knows_nobody_to_ask_is_never_certain() {
        let mut reach = doubting();
        (0..5).for_each(|_| reach.answered(0, 0, DEAD, 1_000));
        assert!(reach.is_undecided(1_000));
        assert_eq!(reach.trouble(), 0);
    }
}
