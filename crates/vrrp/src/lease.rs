//! How long the kernel keeps an address that is lent to it, and who asks for it again.
//!
//! In: what becomes of the addresses, the time. Out: whether they are asked for again, or taken back. Never: the kernel.

use crate::Millis;

/// How long the kernel keeps an address that nobody asks for again: the daemon and its guard are both dead,
/// or both stopped.
pub const LIFE_MS: Millis = 8_000;
pub const RENEW_MS: Millis = 2_000;

/// What becomes of the addresses that a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holding {
    #[default]
    None,
    Held,
    /// They are another process's now.
    Left,
    /// This node has given them up.
    Given,
}

impl Holding {
    /// Looked at before each address is asked for.
    pub fn is_renewed(self) -> bool {
        self == Holding::Held
    }

    /// Looked at after it: what was given up meanwhile is removed, should this have brought it back.
    pub fn is_taken_back(self) -> bool {
        self == Holding::Given
    }
}

/// When they are asked for again.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    renewed_at: Millis,
}

impl Renewal {
    pub fn new(now: Millis) -> Renewal {
        Renewal { renewed_at: now }
    }

    pub fn is_due(&mut self, now: Millis) -> bool {
        let is_due = now.saturating_sub(self.renewed_at) >= RENEW_MS;
        if is_due {
            self.renewed_at = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_three_times_within_its_life() {
        let mut renewal = Renewal::new(500);
        let times = (500..500 + LIFE_MS).filter(|now| renewal.is_due(*now)).count();
        assert_eq!(times, 3);
    }

    #[test]
    fn only_what_is_held_is_asked_for_and_only_what_was_given_up_is_taken_back() {
        for (holding, renewed, taken_back) in [
            (Holding::None, false, false),
            (Holding::Held, true, false),
            (Holding::Left, false, false),
            (Holding::Given, false, true),
        ] {
            assert_eq!((holding.is_renewed(), holding.is_taken_back()), (renewed, taken_back), "{holding:?}");
        }
    }
}
