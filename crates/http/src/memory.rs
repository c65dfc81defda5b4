//! A bound on the memory that many holders share: buffers of a loop, streams of all its connections.

use std::cell::Cell;

/// What a session costs beside the bytes of its client: its task, its parsed head, what will be logged.
pub const SESSION_MEMORY: usize = 10 * 1024;

/// What a connection may hold while half of the memory is in use.
const SHARE_WHEN_SHORT: usize = 128 * 1024;

/// Bytes in use, and how many may be.
///
/// One counter for one thread: holders add what they take and subtract what they give back.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: Cell<usize>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes, none of them in use.
    pub fn new(limit: usize) -> MemoryBudget {
        MemoryBudget { limit, used: Cell::new(0) }
    }

    /// Counts bytes that a holder has taken. The caller asks before, if it may not take them.
    pub fn take(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
    }

    /// Counts bytes that a holder has given back.
    pub fn give_back(&self, bytes: usize) {
        debug_assert!(bytes <= self.used.get(), "more is given back than was taken");
        self.used.set(self.used.get().saturating_sub(bytes));
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Half of the memory is in use: holders of much get no more.
    pub fn is_short(&self) -> bool {
        self.used.get() >= self.limit / 2
    }

    /// What a connection may hold and still be given more: the less, the less there is, so that a few that
    /// hold much leave something to the others.
    pub fn share(&self) -> usize {
        match self.used.get() {
            used if used < self.limit / 2 => usize::MAX,
            used if used < self.limit / 4 * 3 => SHARE_WHEN_SHORT,
            _ => SHARE_WHEN_SHORT / 8,
        }
    }

    /// Seven eighths are in use: the rest is for work that has begun, nothing new is taken on.
    pub fn refuses_new(&self) -> bool {
        self.used.get() >= self.limit - self.limit / 8
    }

    /// All of it is in use.
    pub fn is_full(&self) -> bool {
        self.used.get() >= self.limit
    }
}

impl Default for MemoryBudget {
    /// A budget that is never short.
    fn default() -> MemoryBudget {
        MemoryBudget::new(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let memory = MemoryBudget::new(80);
        let state = |memory: &MemoryBudget| (memory.is_short(), memory.refuses_new(), memory.is_full());
        for (take, expect) in [
            (39, (false, false, false)),
            (1, (true, false, false)),
            (29, (true, false, false)),
            (1, (true, true, false)),
            (10, (true, true, true)),
        ] {
            memory.take(take);
            assert_eq!(state(&memory), expect, "{} used", memory.used());
        }
        assert_eq!(memory.share(), SHARE_WHEN_SHORT / 8);
        memory.give_back(40);
        assert_eq!(memory.share(), SHARE_WHEN_SHORT);
        memory.give_back(1);
        assert_eq!(memory.share(), usize::MAX);
        memory.give_back(39);
        assert_eq!((memory.used(), state(&memory)), (0, (false, false, false)));
    }
}
