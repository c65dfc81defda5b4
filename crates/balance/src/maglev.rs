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
    /// The table was made for an earlier list of servers: where each of them is in the present one.
    moved: Vec<u32>,
}

/// Of a server that the present list does not have.
pub const GONE: u32 = u32::MAX;

impl Maglev {
    /// `members`: server index, name (decides its permutation), weight above zero.
    /// `capacity`: servers of the pool in any state, so that the table's size never changes
    /// while servers come and go.
    pub fn rebuild(&mut self, capacity: usize, members: &[(u32, &str, u32)]) {
        self.rebuild_with(SLOTS_PER_SERVER, capacity, members);
    }

    /// The same with so many slots a server, where less than fair shares are good enough.
    pub fn rebuild_with(&mut self, slots: usize, capacity: usize, members: &[(u32, &str, u32)]) {
        let mut build = Build::new(slots, capacity, members);
        let mut unlimited = u64::MAX;
        while !build.step(&mut unlimited) {}
        self.finish(build);
    }

    /// A table to be filled step by step, beside the one in use.
    pub fn begin(capacity: usize, members: &[(u32, &str, u32)]) -> Build {
        Build::new(SLOTS_PER_SERVER, capacity, members)
    }

    /// A table of the servers in turns, each as often as its weight says among all weights without their
    /// common part. HAProxy's map is the same: `key % size` finds the same server for the same hash.
    pub fn take_turns(&mut self, members: &[(u32, &str, u32)]) {
        let common = members.iter().fold(0, |known, (_, _, weight)| greatest_common_divisor(known, *weight));
        let weight = |member: &(u32, &str, u32)| i64::from(member.2 / common.max(1));
        let total: i64 = members.iter().map(weight).sum();
        let mut credit = vec![0i64; members.len()];
        self.moved = Vec::new();
        self.slots = (0..total.min(i64::from(SIZES[SIZES.len() - 1])))
            .filter_map(|_| {
                credit.iter_mut().zip(members).for_each(|(credit, member)| *credit += weight(member));
                // The first of those that have waited longest.
                let best = (0..members.len()).rev().max_by_key(|at| credit[*at])?;
                credit[best] -= total;
                Some(members[best].0)
            })
            .collect();
    }

    /// Takes a table that is filled.
    pub fn finish(&mut self, build: Build) {
        self.slots = build.slots;
        self.moved = Vec::new();
    }

    /// The same table for another list of servers: `places` tells where each one of the present list is
    /// in the new one, or [`GONE`].
    pub fn moved(self, places: &[u32]) -> Maglev {
        let place = |i: u32| places.get(i as usize).copied().unwrap_or(GONE);
        let moved = match self.moved.is_empty() {
            true => places.to_vec(),
            false => self.moved.iter().map(|i| place(*i)).collect(),
        };
        Maglev { moved, ..self }
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

    /// The same, looking at no more than so many slots.
    pub fn pick_within(&self, most: usize, key: u64, mut eligible: impl FnMut(u32) -> bool) -> Option<u32> {
        let size = self.slots.len();
        let start = (key % (size as u64).max(1)) as usize;
        let present = |slot: u32| match self.moved.is_empty() {
            true => slot,
            false => self.moved.get(slot as usize).copied().unwrap_or(GONE),
        };
        let mut slots = (0..size.min(most)).map(|i| present(self.slots[(start + i) % size]));
        slots.find(|s| *s != GONE && eligible(*s))
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// A table on its way.
#[derive(Clone, Debug)]
pub struct Build {
    slots: Vec<u32>,
    members: Vec<Member>,
    heaviest: u64,
    filled: usize,
    /// Whose turn it is.
    at: usize,
    /// It has taken its turn and looks for its slot.
    looking: bool,
}

#[derive(Clone, Debug)]
struct Member {
    server: u32,
    weight: u64,
    turns: u64,
    walk: Walk,
}

impl Build {
    fn new(slots: usize, capacity: usize, members: &[(u32, &str, u32)]) -> Build {
        let wanted = capacity.max(members.len()) * slots;
        let largest = SIZES[SIZES.len() - 1];
        let size = SIZES.into_iter().find(|s| *s as usize >= wanted).unwrap_or(largest);
        let heaviest = u64::from(members.iter().map(|m| m.2).max().unwrap_or(0));
        let size = if members.is_empty() { 0 } else { size };
        let members = members.iter().map(|(server, name, weight)| Member {
            server: *server,
            weight: u64::from(*weight),
            turns: 0,
            walk: Walk::new(name, size.max(2)),
        });
        Build {
            slots: vec![u32::MAX; size as usize],
            members: members.collect(),
            heaviest,
            filled: 0,
            at: 0,
            looking: false,
        }
    }

    /// Fills slots for as long as `looks` at the table or at a member are left; whether it is done.
    pub fn step(&mut self, looks: &mut u64) -> bool {
        while *looks > 0 {
            if self.filled == self.slots.len() {
                return true;
            }
            *looks -= 1;
            let member = &mut self.members[self.at];
            if !self.looking {
                member.turns += member.weight;
                self.looking = member.turns >= self.heaviest;
                if self.looking {
                    member.turns -= self.heaviest;
                } else {
                    self.at = (self.at + 1) % self.members.len();
                    continue;
                }
            }
            let slot = member.walk.next(self.slots.len());
            if self.slots[slot] == u32::MAX {
                self.slots[slot] = member.server;
                self.filled += 1;
                self.looking = false;
                self.at = (self.at + 1) % self.members.len();
            }
        }
        self.filled == self.slots.len()
    }
}

#[derive(Clone, Debug)]
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

    fn next(&mut self, size: usize) -> usize {
        let slot = self.position as usize;
        self.position = ((u64::from(self.position) + u64::from(self.skip)) % size as u64) as u32;
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_in_turns_have_each_key_by_what_is_left_of_it() {
        let mut table = Maglev::default();
        table.take_turns(&[(4, "a", 100), (7, "b", 100), (9, "c", 100)]);
        assert_eq!(table.slots(), [4, 7, 9]);
        assert_eq!((0..4).filter_map(|key| table.pick(key, |_| true)).collect::<Vec<_>>(), [4, 7, 9, 4]);
        table.take_turns(&[(4, "a", 20), (7, "b", 10)]);
        assert_eq!(table.slots(), [4, 7, 4]);
        table.take_turns(&[]);
        assert_eq!(table.pick(1, |_| true), None);
    }
}
