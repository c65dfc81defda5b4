use proptest::prelude::*;

use super::*;
use crate::hash::hash_bytes;

/// Looks of one turn.
const TURN: u64 = 65_536;

fn tick(balancer: &mut Balancer, now_ms: u64) {
    if balancer.tick(&mut { TURN }) {
        balancer.refresh(now_ms, &mut { u64::MAX });
    }
}

fn server(name: &str, weight: u16) -> Server {
    Server {
        name: name.into(),
        weight,
        admin: AdminState::Online,
        up: true,
        backup: false,
        up_since_ms: None,
        connections: 0,
        answer_us: 0,
    }
}

fn pool(scheduler: Scheduler, weights: &[u16]) -> Balancer {
    let servers = weights.iter().enumerate().map(|(i, w)| server(&format!("s{i}"), *w)).collect();
    Balancer::new(scheduler, 0, servers, 0)
}

/// Picks so often with keys and random numbers spread out; how often each server came.
fn tally(balancer: &mut Balancer, picks: u64, hold: bool) -> Vec<u64> {
    let mut counts = vec![0; balancer.servers().len()];
    for n in 0..picks {
        let hash = hash_bytes(&n.to_be_bytes());
        if let Some(i) = balancer.pick(hash, hash.rotate_left(17), |_| true) {
            counts[i] += 1;
            balancer.connected(i);
            if !hold {
                balancer.disconnected(i);
            }
        }
    }
    counts
}

#[test]
fn round_robin_is_exact_and_smooth() {
    assert_eq!(tally(&mut pool(Scheduler::RoundRobin, &[5, 1, 1]), 700, false), [500, 100, 100]);
    assert_eq!(tally(&mut pool(Scheduler::RoundRobin, &[100, 100]), 10, false), [5, 5]);
    let mut balancer = pool(Scheduler::RoundRobin, &[3, 1]);
    let order: Vec<usize> = (0..8).filter_map(|_| balancer.pick(0, 0, |_| true)).collect();
    for window in order.windows(4) {
        assert!(window.contains(&1), "the light server starves in {order:?}");
    }
}

#[test]
fn least_connections_follows_load_and_rotates_when_idle() {
    assert_eq!(tally(&mut pool(Scheduler::LeastConnections, &[1, 1, 1]), 9, false), [3, 3, 3]);
    assert_eq!(tally(&mut pool(Scheduler::LeastConnections, &[3, 1]), 400, true), [300, 100]);
    let mut balancer = pool(Scheduler::LeastConnections, &[1, 1]);
    balancer.connected(0);
    assert_eq!(balancer.pick(0, 0, |_| true), Some(1));
    assert_eq!(balancer.pick(0, 0, |i| i != 1), Some(0));
}

#[test]
fn every_scheduler_respects_weight_state_and_eligibility() {
    for scheduler in Scheduler::ALL {
        let mut balancer = pool(scheduler, &[100, 100, 100, 0]);
        balancer.update(1, 0, |s| s.up = false);
        let counts = tally(&mut balancer, 3000, false);
        assert_eq!(counts[1] + counts[3], 0, "{scheduler:?}");
        assert_eq!(counts.iter().sum::<u64>(), 3000, "{scheduler:?}");
        for n in 0..100u64 {
            let picked = balancer.pick(hash_bytes(&n.to_be_bytes()), n << 32, |i| i != 0);
            assert_eq!(picked, Some(2), "{scheduler:?}");
        }
        assert_eq!(balancer.pick(1, 1, |_| false), None, "{scheduler:?}");
        for i in [0, 2] {
            balancer.update(i, 0, |s| s.admin = AdminState::Draining);
        }
        assert_eq!(balancer.pick(1, 1, |_| true), None, "{scheduler:?}");
        assert!(balancer.servers()[0].takes_persistent_clients());
    }
}

#[test]
fn backups_serve_only_when_no_other_can() {
    let mut spare = server("spare", 100);
    spare.backup = true;
    let mut balancer =
        Balancer::new(Scheduler::RoundRobin, 0, vec![server("a", 100), server("b", 100), spare], 0);
    assert_eq!(tally(&mut balancer, 100, false), [50, 50, 0]);
    balancer.update(0, 0, |s| s.up = false);
    balancer.update(1, 0, |s| s.up = false);
    assert_eq!(tally(&mut balancer, 100, false), [0, 0, 100]);
    balancer.update(1, 0, |s| s.up = true);
    assert_eq!(tally(&mut balancer, 100, false), [0, 100, 0]);
}

#[test]
fn hashing_moves_little_when_a_server_goes() {
    for count in [2usize, 3, 10, 100] {
        let mut balancer = pool(Scheduler::Maglev, &vec![100; count]);
        let keys: Vec<u64> = (0..20_000u64).map(|n| hash_bytes(&n.to_be_bytes())).collect();
        let picks = |b: &mut Balancer| -> Vec<_> { keys.iter().map(|k| b.pick(*k, 0, |_| true)).collect() };
        let before = picks(&mut balancer);
        let mut share = vec![0usize; count];
        before.iter().flatten().for_each(|i| share[*i] += 1);
        let fair = keys.len() / count;
        assert!(share.iter().all(|s| s.abs_diff(fair) < fair / 4 + 20), "{count}: {share:?}");
        balancer.update(0, 0, |s| s.up = false);
        let after = picks(&mut balancer);
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != Some(0) && a != b).count();
        assert!(moved <= keys.len() / 20, "{count} servers: {moved} keys of others moved");
        balancer.update(0, 0, |s| s.up = true);
        assert_eq!(picks(&mut balancer), before, "coming back restores every key");
    }
}

#[test]
fn hashing_honours_weights() {
    let counts = tally(&mut pool(Scheduler::SourceHash, &[300, 100]), 20_000, false);
    assert!((14_000..16_000).contains(&counts[0]), "{counts:?}");
}

#[test]
fn slow_start_grows_from_a_tenth() {
    let mut slow = server("slow", 100);
    slow.up_since_ms = Some(10_000);
    let mut balancer = Balancer::new(Scheduler::RoundRobin, 10_000, vec![server("a", 100), slow], 10_000);
    assert!(balancer.is_warming());
    let counts = tally(&mut balancer, 1100, false);
    assert!((90..=110).contains(&counts[1]), "{counts:?}");
    tick(&mut balancer, 15_000);
    let counts = tally(&mut balancer, 1550, false);
    assert!((530..=560).contains(&counts[1]), "{counts:?}");
    tick(&mut balancer, 20_000);
    assert!(!balancer.is_warming());
    let counts = tally(&mut balancer, 1000, false);
    assert!((499..=501).contains(&counts[1]), "{counts:?}");
}

#[test]
fn explains_each_server() {
    let mut spare = server("spare", 100);
    spare.backup = true;
    let servers = vec![server("a", 100), server("b", 100), server("c", 0), server("d", 100), spare];
    let mut balancer = Balancer::new(Scheduler::RoundRobin, 0, servers, 0);
    balancer.update(3, 0, |s| s.up = false);
    let reasons: Vec<_> = balancer.explain(Some(0), |i| i == 1).into_iter().map(|c| c.refusal).collect();
    assert_eq!(
        reasons,
        [
            None,
            Some(Refusal::Full),
            Some(Refusal::WeightZero),
            Some(Refusal::Down),
            Some(Refusal::BackupNotNeeded)
        ]
    );
}

proptest! {
    /// Whatever happens to the servers, a pick is a server that may be picked, and there is one
    /// whenever any may.
    #[test]
    fn picks_are_always_allowed(
        scheduler in proptest::sample::select(Scheduler::ALL.to_vec()),
        events in proptest::collection::vec((0usize..5, 0u8..6, any::<u64>()), 1..80),
    ) {
        let mut balancer = pool(scheduler, &[10, 20, 30, 1, 65535]);
        for (time, (i, event, random)) in events.into_iter().enumerate() {
            let now = time as u64 * 100;
            match event {
                0 => balancer.update(i, now, |s| s.up = !s.up),
                1 => balancer.update(i, now, |s| s.weight = random as u16),
                2 => balancer.update(i, now, |s| s.admin = AdminState::ALL[random as usize % 3]),
                3 => balancer.update(i, now, |s| s.backup = !s.backup),
                4 => balancer.disconnected(i),
                _ => tick(&mut balancer, now),
            }
            let able = balancer.servers().iter().filter(|s| s.takes_new_clients()).count();
            prop_assert_eq!(balancer.able(), able);
            let picked = balancer.pick(random, random, |s| s != i);
            let may = |s: &Server| s.takes_new_clients();
            let candidates: Vec<usize> = {
                let of = |backup: bool| -> Vec<usize> {
                    let all = balancer.servers().iter().enumerate();
                    all.filter(|(_, s)| may(s) && s.backup == backup).map(|(n, _)| n).collect()
                };
                if of(false).is_empty() { of(true) } else { of(false) }
            };
            match picked {
                Some(p) => {
                    prop_assert!(p != i && candidates.contains(&p));
                    balancer.connected(p);
                }
                None => prop_assert!(candidates.iter().all(|c| *c == i)),
            }
        }
    }
}

#[test]
fn balancers_that_follow_each_other_go_through_one_round() {
    for weights in [&[100u16, 100][..], &[3, 1], &[10, 20, 30]] {
        let mut both = [pool(Scheduler::RoundRobin, weights), pool(Scheduler::RoundRobin, weights)];
        // One was busy alone before, and one hears later that a server was away.
        for _ in 0..5 {
            both[0].pick(0, 0, |_| true);
        }
        both[1].update(0, 0, |s| s.up = false);
        both[1].update(0, 0, |s| s.up = true);
        let (mut counts, mut random) = (vec![0u32; weights.len()], 7u64);
        let total: u32 = weights.iter().map(|w| u32::from(*w)).sum();
        let turns = u64::from(total) * 12;
        for turn in 0..turns {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let balancer = &mut both[(random >> 63) as usize];
            balancer.catch_up(turn);
            counts[balancer.pick(0, 0, |_| true).unwrap()] += 1;
        }
        let wanted: Vec<u32> = weights.iter().map(|w| u32::from(*w) * 12).collect();
        assert_eq!(counts, wanted, "{weights:?}");
    }
}

#[test]
fn a_turn_costs_the_same_however_many_others_took() {
    let mut near = pool(Scheduler::RoundRobin, &[3, 1]);
    let mut far = near.clone();
    for turn in 0..8 {
        near.catch_up(turn);
        far.catch_up(turn + 4_000_000_000_000);
        assert_eq!(near.pick(0, 0, |_| true), far.pick(0, 0, |_| true));
    }
}

#[test]
fn turns_of_a_full_server_are_shared_by_the_others() {
    let mut balancer = pool(Scheduler::RoundRobin, &[1, 1, 1, 1]);
    let mut counts = [0; 4];
    (0..300).filter_map(|_| balancer.pick(0, 0, |i| i != 1)).for_each(|i| counts[i] += 1);
    assert_eq!(counts[1], 0);
    assert!([0, 2, 3].iter().all(|i| (90..=110).contains(&counts[*i])), "{counts:?}");
}

#[test]
fn the_quickest_server_takes_most_and_a_slow_one_is_tried_again() {
    let mut balancer = pool(Scheduler::LeastResponseTime, &[100, 100]);
    for _ in 0..20 {
        balancer.answered(0, 1_000, false);
        balancer.answered(1, 9_000, false);
    }
    // As many at a time as make both wait alike: nine to one.
    assert_eq!(tally(&mut balancer, 100, true), [90, 10]);
    let mut balancer = pool(Scheduler::LeastResponseTime, &[100, 100]);
    balancer.answered(0, 1_000, false);
    balancer.answered(1, 50_000, false);
    assert_eq!(balancer.pick(0, 0, |_| true), Some(0));
    let ticks = (1u64..200).find(|second| {
        balancer.answered(0, 1_000, false);
        tick(&mut balancer, second * 1_000);
        balancer.pick(0, 0, |_| true) == Some(1)
    });
    assert!(ticks.is_some_and(|n| (10..60).contains(&n)), "tried again after {ticks:?} seconds");
}

#[test]
fn failing_fast_attracts_nobody() {
    let mut balancer = pool(Scheduler::LeastResponseTime, &[100, 100]);
    balancer.answered(0, 1_000, false);
    balancer.answered(1, 2_000, false);
    (0..50).for_each(|_| balancer.answered(1, 10, true));
    assert_eq!(balancer.pick(0, 0, |_| true), Some(0));
}

#[test]
fn a_server_nobody_knows_is_taken_for_a_usual_one() {
    let mut balancer = pool(Scheduler::LeastResponseTime, &[100, 100, 100]);
    balancer.answered(0, 1_000, false);
    balancer.answered(1, 3_000, false);
    balancer.update(2, 0, |_| {});
    let counts = tally(&mut balancer, 110, true);
    assert_eq!(counts, [60, 20, 30], "like one of 2 ms");
}

#[test]
fn bounded_hashing_passes_over_servers_with_more_than_their_share() {
    let one_key = |balancer: &mut Balancer, picks: usize| {
        let mut counts = vec![0; balancer.servers().len()];
        for _ in 0..picks {
            let picked = balancer.pick(42, 0, |_| true).expect("a server");
            counts[picked] += 1;
            balancer.connected(picked);
        }
        counts.sort_unstable();
        counts
    };
    let mut free = pool(Scheduler::UriHash, &[100, 100, 100, 100]);
    assert_eq!(one_key(&mut free, 100), [0, 0, 0, 100]);
    let mut bounded = pool(Scheduler::UriHash, &[100, 100, 100, 100]).bounded(125);
    let counts = one_key(&mut bounded, 100);
    assert!(counts.iter().all(|count| *count <= 32), "more than 125% of a quarter: {counts:?}");
    assert!(counts[3] >= 31, "{counts:?}");
}

#[test]
fn ten_thousand_servers_that_change_together_cost_a_turn_little() {
    let mut balancer = pool(Scheduler::Maglev, &[1; 10_000]);
    (0..9_000).for_each(|i| balancer.note(i, |s| s.up = false));
    assert!(balancer.build.is_none(), "noting builds nothing");
    assert!(balancer.pick(0, 0, |_| true).is_some_and(|i| i >= 9_000), "those that are down take nobody");
    let mut looks = TURN;
    assert!(balancer.refresh(0, &mut looks), "once for all of them");
    assert!(!balancer.refresh(0, &mut looks), "and no second time");
    let mut turns = 0u32;
    while !balancer.step(&mut { TURN }) {
        turns += 1;
        assert!(balancer.pick(hash_bytes(&turns.to_be_bytes()), 0, |_| true).is_some_and(|i| i >= 9_000));
        if turns == 1 {
            balancer.note(9_000, |s| s.up = false);
            balancer.refresh(0, &mut { TURN });
        }
    }
    assert!(turns > 1, "a table of that size is not filled in one turn");
    let mut fresh = Balancer::new(Scheduler::Maglev, 0, balancer.servers().to_vec(), 0);
    for n in 0..200u32 {
        let key = hash_bytes(&n.to_be_bytes());
        assert_eq!(balancer.pick(key, 0, |_| true), fresh.pick(key, 0, |_| true));
    }
}

#[test]
fn one_backup_after_the_other_or_all_of_them() {
    let backup = |name| Server { backup: true, ..server(name, 100) };
    let servers = vec![server("a", 100), backup("b"), backup("c")];
    for (one, expected) in [(true, vec![1, 1, 1, 1]), (false, vec![1, 2, 1, 2])] {
        let all = Balancer::new(Scheduler::RoundRobin, 0, servers.clone(), 0);
        let mut balancer = all.one_backup(one, 0, &mut { u64::MAX });
        let set = |balancer: &mut Balancer, index, up| {
            balancer.note(index, |s| s.up = up);
            balancer.refresh(0, &mut { u64::MAX });
        };
        set(&mut balancer, 0, false);
        let mut picked: Vec<_> = (0..4).filter_map(|_| balancer.pick(0, 0, |_| true)).collect();
        if picked.first() == Some(&2) {
            picked.reverse();
        }
        assert_eq!(picked, expected);
        set(&mut balancer, 1, false);
        assert_eq!(balancer.pick(0, 0, |_| true), Some(2), "the next one");
        // As it is for servers that were down at the beginning.
        let servers = balancer.servers().to_vec();
        let again = Balancer::new(Scheduler::RoundRobin, 0, servers, 0);
        let mut again = again.one_backup(one, 0, &mut { u64::MAX });
        set(&mut again, 1, true);
        assert!(again.pick(0, 0, |_| true).is_some_and(|i| i == 1 || !one));
    }
}

#[test]
fn backups_serve_below_the_quorum() {
    let backup = |name| Server { backup: true, ..server(name, 100) };
    let check = |servers: &[Server], quorum: u32, down: &[usize], expected: &[usize]| {
        for scheduler in [Scheduler::RoundRobin, Scheduler::LeastConnections, Scheduler::SourceHash] {
            let balancer = Balancer::new(scheduler, 0, servers.to_vec(), 0);
            let mut balancer = balancer.quorum(quorum, 0, &mut { u64::MAX });
            down.iter().for_each(|index| balancer.note(*index, |s| s.up = false));
            balancer.refresh(0, &mut { u64::MAX });
            let keys = (0..200_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut picked: Vec<_> = keys.filter_map(|key| balancer.pick(key, key, |_| true)).collect();
            picked.sort();
            picked.dedup();
            // Connections are not counted here: the least loaded is one alone.
            let all = scheduler != Scheduler::LeastConnections;
            assert!(
                picked.iter().all(|i| expected.contains(i)),
                "{scheduler:?} {quorum} {down:?}: {picked:?}"
            );
            assert!(!all || picked == expected, "{scheduler:?} {quorum} {down:?}: {picked:?}");
            // Everything comes back.
            down.iter().for_each(|index| balancer.update(*index, 0, |s| s.up = true));
            assert!(balancer.pick(1, 1, |_| true).is_some_and(|i| !servers[i].backup));
        }
    };
    let mut with = vec![server("a", 100), server("b", 100), server("c", 100), backup("d")];
    check(&with, 0, &[0, 1], &[2]);
    check(&with, 200, &[0], &[1, 2]);
    check(&with, 200, &[0, 1], &[3]);
    check(&with, 101, &[0, 1], &[3]);
    // Without a backup that can, the rest goes on.
    check(&with, 200, &[0, 1, 3], &[2]);
    with.truncate(3);
    check(&with, 300, &[0], &[1, 2]);
}

#[test]
fn a_new_list_of_ten_thousand_servers_costs_a_turn_little() {
    let before = pool(Scheduler::SourceHash, &[1; 10_000]);
    let mut same = before.clone();
    // One is removed, one is new, all others have other places.
    let mut servers = before.servers()[1..].to_vec();
    servers.insert(0, server("fresh", 1));
    servers.reverse();
    let mut places: Vec<u32> = (0..10_000u32).map(|i| 9_999 - i).collect();
    places[0] = crate::GONE;
    let mut looks = TURN;
    let mut balancer =
        Balancer::begin(Scheduler::SourceHash, 0, servers, 0, &mut looks).after(before, &places);
    assert_eq!(looks, 0, "all of the turn, and no more");
    for key in (0..500u32).map(|n| hash_bytes(&n.to_be_bytes())) {
        let known = same.pick(key, 0, |_| true).map_or(0, |i| places[i]);
        let picked = balancer.pick(key, 0, |_| true).map(|i| i as u32);
        assert!(known == crate::GONE || picked == Some(known), "clients keep the servers they had");
    }
    let turns = (0..10_000).find(|_| balancer.step(&mut { TURN })).expect("it ends");
    assert!(turns > 1);
    let mut fresh = Balancer::new(Scheduler::SourceHash, 0, balancer.servers().to_vec(), 0);
    for key in (0..200u32).map(|n| hash_bytes(&n.to_be_bytes())) {
        assert_eq!(balancer.pick(key, 0, |_| true), fresh.pick(key, 0, |_| true));
    }
}
