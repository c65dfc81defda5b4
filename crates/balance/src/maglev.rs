//! Consistent hashing by table (Eisenbud et al., "Maglev", NSDI 2016, section 3.4), weighted:
//! a lookup is one index, and losing a server moves little more than that server's share.

use crate::hash::hash_bytes;

/// Primes, so that every step through the table visits every slot.
const SIZES: [u32; 8] = [251, 1_021, 4_093, 16_381, 65_537, 262_139, 1_048_573, 4_194_301];
/// Slots a server gets at least, on average; the error of its share is about one in so many.
const SLOTS_PER_SERVER: usize = 100;

#[derive(Clone, Debug, Default)]
pub struct Maglev {
    slots: Vec<u32>,
}

impl Maglev {
    /// `members`: server index, name (decides its permutation), weight above zero.
    /// `capacity`: servers of the pool in any state, so that the table's size never changes
    /// while servers come and go.
    pub fn rebuild(&mut self, capacity: usize, members: &[(u32, &str, u32)]) {
        self.rebuild_with(SLOTS_PER_SERVER, capacity, members);
    }

    /// The same with so many slots a server, where less than fair shares are good enough.
    pub fn rebuild_with(&mut self, slots: usize, capacity: usize, members: &[(u32, &str, u32)]) {
        self.slots.clear();
        let Some(heaviest) = members.iter().map(|m| m.2).max() else { return };
        let wanted = capacity.max(members.len()) * slots;
        let largest = SIZES[SIZES.len() - 1];
        let size = SIZES.into_iter().find(|s| *s as usize >= wanted).unwrap_or(largest);
        let mut walks: Vec<Walk> = members.iter().map(|m| Walk::new(m.1, size)).collect();
        let mut turns = vec![0u64; members.len()];
        self.slots.resize(size as usize, u32::MAX);
        let mut filled = 0;
        while filled < size {
            for (i, (server, _, weight)) in members.iter().enumerate() {
                turns[i] += u64::from(*weight);
                if turns[i] < u64::from(heaviest) {
                    continue;
                }
                turns[i] -= u64::from(heaviest);
                let slot = walks[i].next_free(&self.slots, size);
                self.slots[slot] = *server;
                filled += 1;
                if filled == size {
                    break;
                }
            }
        }
    }

    /// The table itself: a server for each slot.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The server of a key; where it is not eligible, the next eligible one in the table.
    pub fn pick(&self, key: u64, mut eligible: impl FnMut(u32) -> bool) -> Option<u32> {
        let size = self.slots.len();
        if size == 0 {
            return None;
        }
        let start = (key % size as u64) as usize;
        (0..size).map(|i| self.slots[(start + i) % size]).find(|s| eligible(*s))
    }
}

struct Walk {
    position: u32,
    skip: u32,
}

impl Walk {
    fn new(name: &str, size: u32) -> Walk {
        let hash = hash_bytes(name.as_bytes());
        let (low, high) = (hash as u32, (hash >> 32) as u32);
        Walk { position: low % size, skip: high % (size - 1) + 1 }
    }

    fn next_free(&mut self, slots: &[u32], size: u32) -> usize {
        loop {
            let slot = self.position as usize;
            self.position = ((u64::from(self.position) + u64::from(self.skip)) % u64::from(size)) as u32;
            if slots[slot] == u32::MAX {
                return slot;
            }
        }
    }
}
