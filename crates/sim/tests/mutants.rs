//! The simulator is worth what it finds: each mutant of the rules must be caught by some seed.

// Mutants are wrong on purpose.
#![allow(dead_code, unused, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/mutants.rs"));

const SEEDS: u64 = 6_000;

#[test]
fn every_mutant_is_caught() {
    let mut missed = Vec::new();
    for (name, broken) in MUTANTS {
        let seeds = (0..SEEDS).chain(evenkeel_sim::truth::world::FOUND);
        match seeds.into_iter().find_map(|seed| broken(seed).map(|what| (seed, what))) {
            Some((seed, what)) => println!("{name}: seed {seed}: {what}"),
            None => missed.push(*name),
        }
    }
    assert!(missed.is_empty(), "not caught in {SEEDS} seeds: {missed:?}");
}
