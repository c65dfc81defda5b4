//! A share of the seeds in every run of the tests; `evenkeel-sim` plays as many as wanted.

use evenkeel_sim::truth::{edits, machine, world};

#[test]
fn the_rules_hold_in_many_worlds() {
    let found: Vec<String> = (0..3_000)
        .filter_map(|seed| world::broken(seed).map(|what| format!("seed {seed}: {what}")))
        .collect();
    assert!(found.is_empty(), "see `evenkeel-sim --story SEED`:\n{}", found.join("\n"));
}

/// Worlds that broke a rule once.
#[test]
fn what_was_found_stays_mended() {
    let worlds = world::FOUND.iter().filter_map(|seed| Some((seed, world::broken(*seed)?)));
    let machines = machine::FOUND.iter().filter_map(|seed| Some((seed, machine::broken(*seed)?)));
    let found: Vec<String> =
        worlds.chain(machines).map(|(seed, what)| format!("seed {seed}: {what}")).collect();
    assert!(found.is_empty(), "see `evenkeel-sim --story SEED` or `--machine SEED`:\n{}", found.join("\n"));
}

#[test]
fn both_nodes_come_to_one_configuration() {
    let found: Vec<String> = (0..10_000)
        .filter_map(|seed| edits::broken(seed).map(|what| format!("seed {seed}: {what}")))
        .collect();
    assert!(found.is_empty(), "see `evenkeel-sim --edits SEED`:\n{}", found.join("\n"));
}

#[test]
fn addresses_end_with_whoever_has_them() {
    let found: Vec<String> = (0..600)
        .filter_map(|seed| machine::broken(seed).map(|what| format!("seed {seed}: {what}")))
        .collect();
    assert!(found.is_empty(), "see `evenkeel-sim --machine SEED`:\n{}", found.join("\n"));
}
