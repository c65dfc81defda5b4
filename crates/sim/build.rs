//! Writes mutants of the pair's rules for tests/mutants.rs: each with one rule broken. A mutant
//! whose place in the sources is gone stops the build, so that the list stays true.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Name, file, what stands there, what stands there instead. Three rules are not among them, because no
/// seed missed them while the others hold: a process that is replaced leaves its life to the next one (a new life
/// is introduced within two beats), a node keeps its own promise (it ends with the silence that
/// is waited for anyway), and a hand-over from before the last change of roles does not count.
const MUTANTS: &[(&str, &str, &str, &str)] = &[
    (
        "too_quick_to_bury",
        "election",
        "now.saturating_sub(heard_at.max(self.silent_from))",
        "now.saturating_sub(heard_at.max(self.silent_from)) + 100",
    ),
    (
        "time_it_did_not_run_counts_as_silence",
        "election",
        "            self.silent_from = now;",
        "            self.silent_from = self.silent_from.max(0);",
    ),
    (
        "a_thawed_node_goes_on",
        "election",
        "Role::Active if missed >= self.settings.dead_ms => self.give_up(Why::DidNotRun, now),",
        "",
    ),
    (
        "promises_are_counted_from_their_arrival",
        "election",
        "self.peer_promise_until.max(at + Millis::from(beat.promise_ms))",
        "{ let _ = at; now + Millis::from(beat.promise_ms) + 30 }",
    ),
    (
        "active_without_the_peers_leave",
        "election",
        "if peer.beat.role != Role::Active && vouched && self.asks(now) {",
        "if peer.beat.role != Role::Active && self.asks(now) {",
    ),
    ("both_stay_active", "election", "if deaf || beat.fitness.beats(&self.fitness()) {", "if deaf {"),
    ("both_give_up", "election", "if deaf || beat.fitness.beats(&self.fitness()) {", "if now >= since {"),
    (
        "the_deaf_are_not_given_way",
        "election",
        "if deaf || beat.fitness.beats(&self.fitness()) {",
        "if !deaf && beat.fitness.beats(&self.fitness()) {",
    ),
    (
        "stays_without_a_quorum",
        "election",
        "Role::Active if !self.may_stay(now) => self.give_up(Why::NoQuorum, now),",
        "",
    ),
    (
        "takes_over_without_the_witness",
        "election",
        "Some(_) => now < self.stays_until(),",
        "Some(_) => true,",
    ),
    (
        "starts_active",
        "election",
        "Role::Joining if now >= self.join_until => self.become_passive(Why::Started, now),",
        "Role::Joining if now >= self.last_tick => self.become_active(Why::Started, now),",
    ),
    (
        "never_takes_over",
        "election",
        "            if vouched && self.silence(now) >= self.settings.dead_ms {",
        "            if vouched && self.silence(now) >= self.settings.dead_ms * 100 {",
    ),
    (
        "two_askers_wait_for_each_other",
        "election",
        "(p.asks && (!asks || p.fitness.beats(&self.fitness())))",
        "(p.asks && !asks)",
    ),
    (
        "the_witness_lends_to_both",
        "witness",
        "self.holder.is_some_and(|(node, until)| node != ask.node && now < until)",
        "false",
    ),
    (
        "leases_are_counted_from_the_answer",
        "election",
        "self.witness_until.max(asked_at + Millis::from(lease_ms))",
        "{ let _ = asked_at; now + Millis::from(lease_ms) + 60 }",
    ),
    ("seals_are_not_looked_at", "seal", "            return Err(Refused::Forged);", ""),
    (
        "replays_are_taken",
        "seal",
        "                peer.take(number)?;",
        "                let _ = peer.take(number);",
    ),
    (
        "any_life_is_believed",
        "seal",
        "        if !named {",
        "        if !named && self.peer.is_none() && self.number == 0 {",
    ),
    ("nobody_is_asked", "reach", "        if reason {\n", "        if false {\n"),
    ("the_first_that_heals_takes_over", "reach", "|| now < self.settles_at)", "|| false)"),
    (
        "the_undecided_ask_for_the_role",
        "election",
        "if self.undecided && active { reach::WORST } else { 0 }",
        "0",
    ),
    // Clients and where they think that the addresses are.
    (
        "a_takeover_is_not_announced",
        "announce",
        "        self.due.push(now);\n",
        "        self.due.clear();\n",
    ),
    ("it_is_said_once", "announce", "AGAIN_MS.iter().rev().map", "AGAIN_MS.iter().rev().take(0).map"),
    ("a_meeting_is_no_reason_to_say_it", "announce", "if met && self.held {", "if false && met {"),
    (
        "a_path_that_is_back_is_no_reason_to_say_it",
        "announce",
        "if over && self.held {",
        "if false && over {",
    ),
    (
        "a_takeover_that_nobody_heard_of_stays_unknown",
        "election",
        "self.events.push(Event::PeerWasActive);",
        "let _ = Event::PeerWasActive;",
    ),
    (
        "silence_is_no_reason_to_say_it",
        "announce",
        "now < since + EVERY => WHILE_SILENT",
        "now < since => WHILE_SILENT",
    ),
    ("a_node_that_gave_up_says_it_on", "announce", "if !self.held || !(is_due", "if !(is_due"),
    // The guard of the addresses, and what the kernel keeps of them.
    (
        "a_stuck_guard_is_waited_for",
        "guard",
        "now.saturating_sub(since) >= STUCK_MS",
        "now.saturating_sub(since) >= STUCK_MS * 100",
    ),
    ("a_silent_daemon_is_trusted", "guard", "        !self.held.is_empty()\n    }", "        false\n    }"),
    (
        "a_dead_daemon_keeps_its_addresses",
        "guard",
        "(std::mem::take(&mut self.held), self.last_words",
        "(BTreeSet::new(), self.last_words",
    ),
    (
        "nobody_is_told_of_a_death",
        "guard",
        "self.last_words.take().filter(|_| was_active)",
        "self.last_words.take().filter(|_| !was_active)",
    ),
    (
        "half_a_line_is_lost",
        "guard",
        "self.partial.extend_from_slice(bytes);",
        "self.partial = bytes.to_vec();",
    ),
    ("a_guard_takes_its_successors_addresses", "guard", "                    self.held.clear();\n", ""),
    ("nothing_is_asked_for_again", "lease", "self == Holding::Held", "false"),
    ("what_was_given_up_is_asked_for", "lease", "self == Holding::Held", "self != Holding::None"),
    ("what_was_given_up_comes_back", "lease", "self == Holding::Given", "false"),
    ("asked_for_again_too_late", "lease", "RENEW_MS: Millis = 2_000", "RENEW_MS: Millis = 9_500"),
    // Processes that are replaced, and nodes that join.
    (
        "a_new_process_begins_with_old_numbers",
        "seal",
        "(self.life, self.number) = (memory.life, memory.number);",
        "(self.life, self.number) = (memory.life, memory.number.saturating_sub(1_500));",
    ),
    (
        "a_new_process_knows_no_numbers",
        "seal",
        "Peer { life, highest, seen: u64::MAX }",
        "Peer { life, highest: highest * 0, seen: 0 }",
    ),
    (
        "a_new_process_knows_no_lives",
        "seal",
        "self.past = memory.past.into_iter().collect();",
        "self.peer = None;",
    ),
    (
        "nobody_vouches_for_a_new_process",
        "election",
        "self.witness_until = vouched_until;",
        "let _ = vouched_until;",
    ),
    (
        "a_new_process_forgets_its_role",
        "election",
        "(self.role, self.role_since) = (role, now);",
        "(self.role, self.role_since) = (Role::Passive, now + 0 * role as u64);",
    ),
    (
        "who_joins_is_active",
        "election",
        "(self.role, self.role_since) = (Role::Joining, now);",
        "(self.role, self.role_since) = (Role::Active, now);",
    ),
    // The configuration.
    (
        "steps_named_by_their_text_alone",
        "past",
        "let mut z = before.rotate_left(29) ^ ",
        "let mut z = 0 * before ^ ",
    ),
    ("commits_whatever_runs_by_now", "agreement", "() if pending.base != own.id() =>", "() if false =>"),
    (
        "the_active_node_gives_way_too",
        "agreement",
        "        if collides && active {",
        "        if collides && active && false {",
    ),
    (
        "nobody_gives_way",
        "agreement",
        "        if collides {\n            self.pending = None;",
        "        if false {\n            self.pending = None;",
    ),
    (
        "takes_what_does_not_come_after",
        "agreement",
        "        forced || after",
        "        forced || after || true",
    ),
    ("takes_nothing", "agreement", "        forced || after", "        forced"),
    (
        "sends_again_and_again",
        "agreement",
        "Relation::Ahead if self.sent == sends =>",
        "Relation::Ahead if false && self.sent == sends =>",
    ),
    (
        "a_new_link_changes_nothing",
        "agreement",
        "    pub fn on_link_up(&mut self) {\n        self.sent = None;",
        "    pub fn on_link_up(&mut self) {",
    ),
    (
        "both_adopt",
        "agreement",
        "Relation::SameTextOtherHistory if own.id() < peer.head.id =>",
        "Relation::SameTextOtherHistory =>",
    ),
    (
        "nobody_adopts",
        "agreement",
        "Relation::SameTextOtherHistory if own.id() < peer.head.id =>",
        "Relation::SameTextOtherHistory if false =>",
    ),
    ("calls_it_undone", "agreement", "if pending.done { Settled::Done }", "if false { Settled::Done }"),
    ("forgets_what_it_asked", "agreement", "Settled::Undone })", "Settled::Undone }).filter(|_| false)"),
    (
        "a_withdrawn_promise_stands",
        "agreement",
        "self.prepared.take_if(|p| p.id == id);\n    }\n\n    /// The other node answers.",
        "let _ = id;\n    }\n\n    /// The other node answers.",
    ),
    ("the_second_operator_overwrites", "admission", "base != self.running)", "base > self.running)"),
    ("every_base_is_refused", "admission", "base != self.running)", "base != 0 * self.running)"),
    (
        "commits_what_cannot_be_stored",
        "admission",
        "storable().map_err(|why| (NotAdmitted::NotStorable, Some(why)))",
        "{ let _ = storable; Ok(()) }",
    ),
    ("backups_are_restored_anywhere", "admission", "if !active && linked {", "if false && linked {"),
    ("no_backup_is_restored", "admission", "if !active && linked {", "if !active || linked {"),
    ("behind_is_other", "agreement", "() if peer.lineage.steps.contains(&own.id()) =>", "() if false =>"),
    ("commits_alone_in_step", "agreement", "Relation::Same if linked =>", "Relation::Same if !linked =>"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let (vrrp, agree) = (Path::new("../vrrp/src"), Path::new("../agree/src"));
    let files = ["announce", "beat", "election", "guard", "lease", "pace", "reach", "seal", "witness"]
        .map(|f| (f, vrrp.join(f).with_extension("rs")));
    let configuration = ["admission", "agreement", "past"].map(|f| (f, agree.join(f).with_extension("rs")));
    let worlds = ["world", "checks", "lives", "node", "clients", "edits", "machine", "chance", "plan"]
        .map(|f| (f, PathBuf::from("src/truth").join(f).with_extension("rs")));
    let sources: Vec<(&str, String)> = files
        .into_iter()
        .chain(configuration)
        .chain(worlds)
        .map(|(name, path)| {
            println!("cargo::rerun-if-changed={}", path.display());
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let text = text.split("\n#[cfg(test)]").next().unwrap_or("").to_owned();
            let text = text.replace("use crate::Millis", "use evenkeel_vrrp::Millis");
            (name, text.replace("use crate::", "use super::"))
        })
        .collect();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let (mut modules, mut list) = (String::new(), String::new());
    for (mutant, file, from, to) in MUTANTS {
        let folder = out.join(mutant);
        std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let _ = writeln!(modules, "mod {mutant} {{");
        for (name, text) in &sources {
            let text = match name == file {
                true => {
                    let places = text.matches(from).count();
                    assert!(places == 1, "mutant {mutant}: {places} places in {file}.rs");
                    text.replace(from, to)
                }
                false => text.clone(),
            };
            let path = folder.join(name).with_extension("rs");
            std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let _ = writeln!(modules, "    #[path = {:?}]\n    pub mod {name};", path.display().to_string());
        }
        let _ = writeln!(modules, "}}");
        let world = match *file {
            "agreement" | "past" | "admission" => "edits",
            "guard" | "lease" => "machine",
            _ => "world",
        };
        let _ = writeln!(list, "    ({mutant:?}, |seed| {mutant}::{world}::broken(seed)),");
    }
    let text = format!("{modules}\nconst MUTANTS: &[(&str, fn(u64) -> Option<String>)] = &[\n{list}];\n");
    let path = out.join("mutants.rs");
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
