//! Deadlines of many timers at a constant cost each: a wheel of 2048 slots of 16 ms.
//!
//! Timers beyond the wheel's 32 s sit in its last slot and are looked at again from there, so one
//! wheel serves any deadline. A timer that moved on is not removed: its owner arms it again when
//! the wheel comes to the old place.

const TICK_MS: u64 = 16;
const SLOTS: u64 = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Task(u32),
    Slot(u32),
}

#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub target: Target,
    pub generation: u32,
}

pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    occupied: [u64; (SLOTS / 64) as usize],
    /// The first tick that has not been looked at.
    tick: u64,
}

impl Wheel {
    pub fn new(now_ms: u64) -> Wheel {
        Wheel {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; (SLOTS / 64) as usize],
            tick: now_ms / TICK_MS,
        }
    }

    /// Files a timer; returns when the wheel will come to it.
    pub fn insert(&mut self, deadline_ms: u64, target: Target, generation: u32) -> u64 {
        let wanted = deadline_ms.div_ceil(TICK_MS);
        let tick = wanted.clamp(self.tick, self.tick + SLOTS - 1);
        let slot = (tick % SLOTS) as usize;
        self.slots[slot].push(Entry { target, generation });
        self.occupied[slot / 64] |= 1 << (slot % 64);
        tick * TICK_MS
    }

    /// When the next timer is due, if there is any.
    pub fn next_ms(&self) -> Option<u64> {
        let words = self.occupied.len();
        let start = (self.tick % SLOTS) as usize;
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let slot = (word * 64) as u64 + u64::from(bits.trailing_zeros());
                let ahead = (slot + SLOTS - start as u64) % SLOTS;
                return Some((self.tick + ahead) * TICK_MS);
            }
        }
        None
    }

    /// Takes out every entry that is due.
    pub fn advance(&mut self, now_ms: u64, due: &mut Vec<Entry>) {
        let last = now_ms / TICK_MS;
        if last < self.tick {
            return;
        }
        let steps = (last - self.tick + 1).min(SLOTS);
        for tick in self.tick..self.tick + steps {
            let slot = (tick % SLOTS) as usize;
            if self.occupied[slot / 64] & (1 << (slot % 64)) != 0 {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
                due.append(&mut self.slots[slot]);
            }
        }
        self.tick = last + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timer_comes_up_once_and_not_early() {
        let mut wheel = Wheel::new(1_000_000);
        let mut state = 42u64;
        let mut armed = Vec::new();
        for n in 0..500u32 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let deadline = 1_000_000 + (state >> 33) % 60_000;
            armed.push((deadline, wheel.insert(deadline, Target::Task(n), n)));
        }
        let mut seen = vec![0; 500];
        let mut now = 1_000_000;
        while let Some(next) = wheel.next_ms() {
            assert!(next >= now.min(next));
            now = now.max(next);
            let mut due = Vec::new();
            wheel.advance(now, &mut due);
            assert!(!due.is_empty());
            for entry in due {
                let n = entry.generation as usize;
                assert_eq!(armed[n].1, next);
                assert!(next >= armed[n].0 || next - 1_000_000 > 32_000, "timer {n} is early");
                seen[n] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count == 1));
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let mut wheel = Wheel::new(0);
        for n in 0..100u32 {
            wheel.insert(u64::from(n) * 300, Target::Slot(n), n);
        }
        let mut due = Vec::new();
        wheel.advance(10_000_000, &mut due);
        assert_eq!(due.len(), 100);
        assert_eq!(wheel.next_ms(), None);
    }
}
