//! How many frames without use a peer may send: a bucket of tokens that time and useful frames fill.
//!
//! In: the time, frames. Out: whether the peer is over its budget. Never: which frame it was.

/// A token bucket over milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    left: u32,
    most: u32,
    /// Milliseconds for one token.
    refill_ms: u64,
    refilled_ms: u64,
}

impl Budget {
    /// A full bucket of `most` tokens that gains one every `refill_ms`.
    pub const fn new(most: u32, refill_ms: u64) -> Budget {
        Budget { left: most, most, refill_ms, refilled_ms: 0 }
    }

    /// Fills in what time has brought.
    pub fn refill(&mut self, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.refilled_ms) / self.refill_ms;
        if gained > 0 {
            self.refilled_ms += gained * self.refill_ms;
            self.give_back(u32::try_from(gained).unwrap_or(u32::MAX));
        }
    }

    /// Takes one token; false if there was none.
    pub fn charge(&mut self) -> bool {
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }

    pub fn give_back(&mut self, tokens: u32) {
        self.left = self.left.saturating_add(tokens).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_with_time_and_never_exceed_the_bucket() {
        let mut budget = Budget::new(3, 10);
        budget.refill(1_000_000);
        assert_eq!((0..5).map(|_| budget.charge()).collect::<Vec<_>>(), [true, true, true, false, false]);
        budget.refill(1_000_009);
        assert!(!budget.charge());
        budget.refill(1_000_010);
        assert!(budget.charge() && !budget.charge());
        budget.refill(2_000_000);
        budget.give_back(u32::MAX);
        assert_eq!((0..5).filter(|_| budget.charge()).count(), 3);
        budget.refill(0);
        assert!(!budget.charge(), "a clock that goes back gives nothing");
    }
}
