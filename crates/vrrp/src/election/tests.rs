//! Two elections that hear each other.

use super::*;

fn settings(node: u64) -> Settings {
    Settings {
        node,
        priority: 100,
        every_ms: 50,
        dead_ms: 150,
        join_ms: 400,
        failback: false,
        takes_over_alone: true,
        witness_lease_ms: None,
    }
}

/// Two nodes that hear each other, and the last beat of each.
struct Two {
    nodes: [Election; 2],
    numbers: [u64; 2],
    now: Millis,
}

impl Two {
    /// Runs until one is active and each knows that the other hears it.
    fn settled() -> Two {
        let nodes = [Election::new(settings(1), 0), Election::new(settings(2), 0)];
        let mut two = Two { nodes, numbers: [0; 2], now: 0 };
        two.run(2_000);
        two
    }

    fn run(&mut self, lasts: Millis) {
        let end = self.now + lasts;
        while self.now < end {
            self.now += 1;
            for at in 0..2 {
                self.nodes[at].tick(self.now);
                let (number, heard) = (self.numbers[at] + 1, self.numbers[1 - at]);
                if let Some(beat) = self.nodes[at].poll_beat(number, heard, 0, self.now) {
                    self.numbers[at] = number;
                    self.nodes[1 - at].receive(beat, false, self.now);
                }
            }
        }
    }

    fn active(&self) -> usize {
        let active = |at: &usize| self.nodes[*at].role() == Role::Active;
        let all: Vec<usize> = (0..2).filter(active).collect();
        assert_eq!(all.len(), 1);
        all[0]
    }

    fn last_words(&self, at: usize) -> Option<Beat> {
        self.nodes[at].last_words(self.numbers[at] + 1, self.numbers[1 - at], 0, self.now)
    }
}

#[test]
fn a_death_that_is_told_needs_no_silence() {
    let mut two = Two::settled();
    let (dead, other) = (two.active(), 1 - two.active());
    let words = two.last_words(dead).expect("the other one can take over");
    assert_eq!(two.last_words(other), None, "a passive node has nothing to hand over");
    let _ = two.nodes[other].take_events();
    two.nodes[other].receive(words, false, two.now + 3);
    assert_eq!(two.nodes[other].role(), Role::Active);
    let events = two.nodes[other].take_events();
    assert_eq!(events, [Event::Became(Role::Active, Why::PeerDied)]);
    two.nodes[other].receive(words, false, two.now + 5);
    assert_eq!(two.nodes[other].take_events(), [], "told twice");
}

#[test]
fn a_death_that_was_told_too_late_is_not_believed() {
    let mut two = Two::settled();
    let (dead, other) = (two.active(), 1 - two.active());
    let words = two.last_words(dead).expect("the other one can take over");
    // The process was frozen, not dead, and goes on.
    two.run(400);
    two.nodes[other].receive(words, false, two.now);
    assert_eq!(two.active(), dead);
}

#[test]
fn a_takeover_of_the_other_node_that_nobody_heard_of_is_told_by_its_next_beat() {
    let mut two = Two::settled();
    let (active, other) = (two.active(), 1 - two.active());
    // The other one hears nothing for a while, takes over, hears a beat and gives up; what it said is lost.
    while two.nodes[other].role() != Role::Active {
        two.now += 1;
        two.nodes.iter_mut().for_each(|node| node.tick(two.now));
    }
    two.numbers[other] += 1;
    assert!(two.nodes[other].poll_beat(two.numbers[other], two.numbers[active], 0, two.now).is_some());
    let _ = two.nodes[active].take_events();
    two.numbers[active] += 1;
    let (number, heard) = (two.numbers[active], two.numbers[other]);
    let beat = two.nodes[active].poll_beat(number, heard, 0, two.now).expect("it is due");
    two.nodes[other].receive(beat, false, two.now);
    assert_eq!(two.nodes[other].role(), Role::Passive);
    two.run(100);
    assert_eq!(two.active(), active);
    let events = two.nodes[active].take_events();
    assert_eq!(events.iter().filter(|e| **e == Event::PeerWasActive).count(), 1, "{events:?}");
    // A switch-over is no news to either.
    assert!(two.nodes[active].give_to_peer(two.now));
    two.run(500);
    assert_eq!(two.active(), other);
    let events: Vec<Event> = two.nodes.iter_mut().flat_map(Election::take_events).collect();
    assert!(!events.contains(&Event::PeerWasActive), "{events:?}");
}

#[test]
fn what_somebody_switched_over_does_not_fail_back_while_the_peer_is_there() {
    let with_failback = |node| Settings { failback: true, ..settings(node) };
    for by in ["the active node gives", "the passive one wants"] {
        let nodes = [Election::new(with_failback(1), 0), Election::new(with_failback(2), 0)];
        let mut two = Two { nodes, numbers: [0; 2], now: 0 };
        two.run(4_000);
        assert_eq!(two.active(), 1, "the fitter one");
        match by {
            "the active node gives" => assert!(two.nodes[1].give_to_peer(two.now)),
            _ => assert!(two.nodes[0].want()),
        }
        two.run(10_000);
        assert_eq!(two.active(), 0, "{by}");
        // Troubles count as before, and what they moved comes back.
        two.nodes[0].set_trouble(3);
        two.run(3_000);
        assert_eq!(two.active(), 1, "{by}");
        two.nodes[1].set_trouble(5);
        two.run(3_000);
        assert_eq!(two.active(), 0, "{by}");
        two.nodes.iter_mut().for_each(|node| node.set_trouble(0));
        two.run(3_000);
        assert_eq!(two.active(), 1, "{by}");
    }
}

#[test]
fn nothing_is_handed_to_one_that_cannot_take_it() {
    let mut two = Two::settled();
    let (dead, other) = (two.active(), 1 - two.active());
    two.nodes[other].hold(true, two.now);
    two.run(200);
    assert_eq!(two.last_words(dead), None, "it is held");
    two.nodes[other].hold(false, two.now);
    two.run(200);
    assert!(two.last_words(dead).is_some());
    let end = two.now + 400;
    while two.now < end {
        two.now += 1;
        two.nodes[dead].tick(two.now);
        let _ = two.nodes[dead].poll_beat(two.numbers[dead] + 1, two.numbers[other], 0, two.now);
    }
    assert_eq!(two.last_words(dead), None, "it is not heard");
}
