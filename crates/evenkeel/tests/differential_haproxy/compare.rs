//! Both programs before the same clients, and where they differ.

use std::process::Command;

use evenkeel_testbed::require;

use crate::case::Case;
use crate::side::{Side, case_name};

/// Runs all cases of a group beside HAProxy. What the program says that it does differently is no
/// difference; `told` holds what of the cases it may refuse, so that none is refused unnoticed, and
/// `known` what differs for a reason.
pub fn compare(group: &str, cases: &[Case], told: &[&str], known: &[&str]) {
    if !require(&["haproxy"]) {
        return;
    }
    let mut sides = [
        Side::new("haproxy", group, || Command::new("haproxy")),
        Side::new("evenkeel", group, || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
            command.arg("haproxy");
            command
        }),
    ];
    for side in &sides {
        crate::prepare(&side.place);
    }
    let all: Vec<(usize, &Case)> = cases.iter().enumerate().collect();
    // Not every flag goes with every fetch.
    let (right, _, invalid) = what_is_taken(&sides[0], all);
    if std::env::var_os("EVENKEEL_SHOW_INVALID").is_some() {
        invalid.iter().for_each(|(case, why)| println!("=== HAProxy refuses:\n{}\n  {why}", case.shown()));
    }
    let (taken, noted, refused) = what_is_taken(&sides[1], right);
    let mut wrong: Vec<String> = Vec::new();
    for (case, why) in &refused {
        if !told.iter().any(|known| case.config.contains(known)) {
            wrong.push(format!("=== refused:\n{}\n  {why}", case.shown()));
        }
    }
    for side in &mut sides {
        side.start(&taken);
    }
    let (mut different, mut known_ones) = (0, 0);
    for (number, case) in &taken {
        // What differs for a known reason is not waited for.
        if noted.contains(number) || known.iter().any(|text| case.config.contains(text)) {
            known_ones += 1;
            continue;
        }
        let found = differences(&sides, *number, case);
        if !found.is_empty() {
            different += 1;
            wrong.push(format!("=== {}\n{}\n{}", case_name(*number), case.shown(), found.join("\n")));
        }
    }
    println!(
        "{group}: {} configurations, {} not HAProxy's, {} compared, {} refused, {known_ones} known, {different} differ",
        cases.len(),
        invalid.len(),
        taken.len() - known_ones,
        refused.len()
    );
    assert!(wrong.is_empty(), "{} of {group} differ:\n{}", wrong.len(), wrong.join("\n"));
}

type Numbered<'c> = Vec<(usize, &'c Case)>;

/// The cases that this program takes, those of them that it says something of, and what it refuses.
fn what_is_taken<'c>(ours: &Side, all: Numbered<'c>) -> (Numbered<'c>, Vec<usize>, Vec<(&'c Case, String)>) {
    let mut taken = all;
    let mut refused = Vec::new();
    for _ in 0..80 {
        let (text, ranges) = ours.text(&taken);
        let (good, said) = ours.check(&text);
        let of = |at: usize, level: &str| {
            let ((from, to), name) = (ranges[at], case_name(taken[at].0));
            let mine = |text: &&str| {
                let line = line_of(text).is_some_and(|line| (from..=to).contains(&line));
                text.contains(level) && (line || text.contains(&name))
            };
            said.lines().find(mine)
        };
        if good {
            let noted = (0..taken.len()).filter(|at| of(*at, "[WARNING]").is_some()).map(|at| taken[at].0);
            let noted = noted.collect();
            return (taken, noted, refused);
        }
        let before = taken.len();
        let mut kept = Vec::new();
        for (at, (number, case)) in taken.iter().enumerate() {
            match of(at, "[ALERT]") {
                Some(why) => refused.push((*case, why.to_owned())),
                None => kept.push((*number, *case)),
            }
        }
        assert!(kept.len() < before, "the refusal names no line: {said}");
        taken = kept;
    }
    panic!("what is refused has no end");
}

/// The line that a message is about.
fn line_of(message: &str) -> Option<usize> {
    let (_, rest) = message.split_once("parsing [")?;
    let (place, _) = rest.split_once(']')?;
    place.rsplit(':').next()?.parse().ok()
}

fn differences(sides: &[Side; 2], number: usize, case: &Case) -> Vec<String> {
    let mut found = Vec::new();
    let [theirs, ours] = sides;
    let answers = [theirs.answers(number, case), ours.answers(number, case)];
    for (at, ask) in case.asks.iter().enumerate() {
        let (old, new) = (&answers[0][at], &answers[1][at]);
        if old != new {
            let first = ask.replace("\r\n", " | ");
            found.push(format!("--- {first}\n{}", diff(old, new)));
        }
    }
    let logged = theirs.logged(number, case.asks.len());
    let own = ours.logged(number, logged.len());
    if logged != own {
        found.push(format!("--- log\n{}", diff(&logged.join("\n"), &own.join("\n"))));
    }
    let mut asked = (theirs.asked(number), ours.asked(number));
    evenkeel_testbed::within(std::time::Duration::from_secs(4), || {
        asked = (theirs.asked(number), ours.asked(number));
        asked.0 == asked.1
    });
    let (old, new) = asked;
    if old != new {
        found.push(format!("--- what its server was asked\n{}", diff(&old.join("\n\n"), &new.join("\n\n"))));
    }
    if case.states {
        let states = |side: &Side| rows(&side.ask("show stat"), number);
        let mut both = (states(theirs), states(ours));
        evenkeel_testbed::within(std::time::Duration::from_secs(8), || {
            both = (states(theirs), states(ours));
            both.0 == both.1
        });
        if both.0 != both.1 {
            found.push(format!("--- show stat\n{}", diff(&both.0.join("\n"), &both.1.join("\n"))));
        }
    }
    found
}

/// Columns of the case's rows that say what became of its servers.
fn rows(text: &str, number: usize) -> Vec<String> {
    let mut lines = text.lines();
    let heads: Vec<&str> = lines.next().unwrap_or("").trim_start_matches("# ").split(',').collect();
    let wanted = ["pxname", "svname", "status", "weight", "act", "bck", "hrsp_2xx", "hrsp_4xx", "hrsp_5xx"];
    let places: Vec<usize> = wanted.iter().filter_map(|w| heads.iter().position(|h| h == w)).collect();
    let own = lines.filter(|line| line.starts_with(&case_name(number)));
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        places.iter().map(|at| fields.get(*at).copied().unwrap_or("")).collect::<Vec<_>>().join(",")
    };
    own.map(row).collect()
}

/// Lines that only one of two texts has.
fn diff(old: &str, new: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let lost = before.iter().filter(|line| !after.contains(line)).map(|line| format!("  haproxy:  {line}"));
    let more = after.iter().filter(|line| !before.contains(line)).map(|line| format!("  evenkeel: {line}"));
    let all: Vec<String> = lost.chain(more).collect();
    if all.is_empty() { format!("  haproxy:\n{old}\n  evenkeel:\n{new}") } else { all.join("\n") }
}
