//! What the schedulers of the packet path read: a ring of turns, a list of members, a table of
//! consistent hashing. Made here, so that a packet only looks things up.

use std::collections::HashSet;

use evenkeel_balance::Maglev;

use crate::spec::Pick;

/// Turns of one round at most; finer shares are rounded.
const RING_AT_MOST: u64 = 4096;

/// A destination that takes new clients.
#[derive(Clone, Debug)]
pub struct Member<'s> {
    pub number: u32,
    pub name: &'s str,
    pub weight: u16,
}

/// For round robin and random a destination once for each unit of its weight, spread evenly
/// (the smooth order of nginx); else each once.
pub fn ring(pick: Pick, members: &[Member<'_>]) -> Vec<u32> {
    match pick {
        Pick::RoundRobin | Pick::Random => turns(members),
        _ => members.iter().map(|m| m.number).collect(),
    }
}

fn turns(members: &[Member<'_>]) -> Vec<u32> {
    let divisor = members.iter().fold(0, |a, m| gcd(a, u64::from(m.weight))).max(1);
    let mut shares: Vec<u64> = members.iter().map(|m| u64::from(m.weight) / divisor).collect();
    let total: u64 = shares.iter().sum();
    if total > RING_AT_MOST {
        shares.iter_mut().for_each(|s| *s = (*s * RING_AT_MOST / total).max(1));
    }
    let total: u64 = shares.iter().sum();
    let mut credit = vec![0i64; members.len()];
    let mut ring = Vec::with_capacity(total as usize);
    for _ in 0..total {
        credit.iter_mut().zip(&shares).for_each(|(c, s)| *c += *s as i64);
        let Some(best) = (0..credit.len()).max_by_key(|i| (credit[*i], std::cmp::Reverse(*i))) else { break };
        credit[best] -= total as i64;
        ring.push(members[best].number);
    }
    ring
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Slots of consistent hashing. The table is made of all servers, and those that take no new
/// clients are then replaced slot by slot, so that a server that goes and comes again moves no
/// client of another.
pub fn hash(pick: Pick, all: &[Member<'_>], able: &[Member<'_>]) -> Vec<u32> {
    // Other schedulers use it only where there is no entry, and shares may be rough.
    let slots = match pick {
        Pick::Maglev | Pick::SourceHash | Pick::DestinationHash => 100,
        _ => 20,
    };
    let build = |members: &[Member<'_>]| {
        let mut maglev = Maglev::default();
        let members: Vec<_> = members.iter().map(|m| (m.number, m.name, u32::from(m.weight))).collect();
        maglev.rebuild_with(slots, all.len(), &members);
        maglev.slots().to_vec()
    };
    if able.is_empty() {
        return Vec::new();
    }
    let mut slots = build(all);
    if able.len() < all.len() {
        let numbers: HashSet<u32> = able.iter().map(|m| m.number).collect();
        let instead = build(able);
        for (slot, other) in slots.iter_mut().zip(instead).filter(|(slot, _)| !numbers.contains(*slot)) {
            *slot = other;
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_weights() {
        let member = |number, weight| Member { number, name: "x", weight };
        let check = |weights: &[u16], expect: &[u32]| {
            let members: Vec<_> = (0..).zip(weights).map(|(n, w)| member(n, *w)).collect();
            assert_eq!(ring(Pick::RoundRobin, &members), expect);
        };
        check(&[100, 100], &[0, 1]);
        check(&[200, 100], &[0, 1, 0]);
        check(&[], &[]);
        check(&[5], &[0]);
        let members: Vec<_> = (0..100).map(|n| member(n, 65_535 - n as u16)).collect();
        let ring = ring(Pick::RoundRobin, &members);
        assert!(ring.len() <= 4200 && (0..100).all(|n| ring.contains(&n)));
    }
}
