//! Weighted round robin: the server whose turn came first goes first (earliest deadline first).
//!
//! Each server has a virtual deadline; picking one moves it on by the inverse of its weight. The
//! order is as smooth as weights allow and a pick costs O(log n).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SCALE: u64 = 1 << 32;
const REBASE_AT: u64 = 1 << 61;

#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// By server; kept while a server is out, so that it does not come back owing turns.
    deadlines: Vec<u64>,
    steps: Vec<u64>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    now: u64,
}

impl Rotation {
    /// Takes the servers that may be picked, with their weights.
    pub fn rebuild(&mut self, count: usize, members: &[u32], weight: impl Fn(u32) -> u32) {
        let was_member: Vec<bool> = {
            let mut set = vec![false; count];
            for Reverse((_, i)) in &self.heap {
                if let Some(slot) = set.get_mut(*i as usize) {
                    *slot = true;
                }
            }
            set
        };
        self.deadlines.resize(count, 0);
        self.steps.resize(count, SCALE);
        let members = members.iter().copied();
        for i in members.clone() {
            let step = SCALE / u64::from(weight(i).max(1));
            let slot = i as usize;
            if !was_member[slot] || self.steps[slot] != step {
                self.steps[slot] = step;
                self.deadlines[slot] = self.now + step;
            }
        }
        self.heap = members.map(|i| Reverse((self.deadlines[i as usize], i))).collect();
    }

    /// Begins the round anew, as every rotation of these weights does.
    pub fn restart(&mut self) {
        for Reverse((_, i)) in &self.heap {
            self.deadlines[*i as usize] = self.steps[*i as usize];
        }
        self.now = 0;
        self.reheap();
    }

    pub fn pick(&mut self, eligible: impl Fn(u32) -> bool) -> Option<u32> {
        let Reverse((_, first)) = *self.heap.peek()?;
        let picked = if eligible(first) { first } else { self.next_eligible(eligible)? };
        let slot = picked as usize;
        self.now = self.now.max(self.deadlines[slot]);
        self.deadlines[slot] += self.steps[slot];
        if picked == first {
            if let Some(mut top) = self.heap.peek_mut() {
                *top = Reverse((self.deadlines[slot], picked));
            }
        } else {
            self.reheap();
        }
        if self.now > REBASE_AT {
            self.rebase();
        }
        Some(picked)
    }

    fn next_eligible(&self, eligible: impl Fn(u32) -> bool) -> Option<u32> {
        let able = self.heap.iter().filter(|Reverse((_, i))| eligible(*i));
        able.map(|Reverse(entry)| *entry).min().map(|(_, i)| i)
    }

    fn reheap(&mut self) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        for Reverse((deadline, i)) in &mut entries {
            *deadline = self.deadlines[*i as usize];
        }
        self.heap = entries.into();
    }

    fn rebase(&mut self) {
        let base = self.now;
        for deadline in &mut self.deadlines {
            *deadline = deadline.saturating_sub(base);
        }
        self.now = 0;
        self.reheap();
    }
}
