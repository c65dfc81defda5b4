//! Somebody who has recorded everything that the nodes and the witness ever said, and passes any of it on to
//! anyone: in another order, again, back to its sender, to a third one, before and after restarts.
//!
//! A seed names a world; a failure says it.

use std::collections::HashSet;

use crate::beat::{Beat, Fitness, Role};
use crate::desk::Desk;
use crate::seal::{Conversation, Keys};
use crate::witness::{Answer, Ask, Asker, Witness};

/// Where messages come in. Every exchange that is sealed with the pair's key has a line in `EXCHANGES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Door {
    /// The paths of a node to its peer.
    Beats(usize),
    /// A node's socket to the witness.
    Answers(usize),
    Witness,
}

const DOORS: [Door; 5] = [Door::Beats(0), Door::Beats(1), Door::Answers(0), Door::Answers(1), Door::Witness];

/// Who says something of its own accord, and to which door. Answers follow from requests.
const EXCHANGES: [(&str, usize, Door); 6] = [
    ("beat", 0, Door::Beats(1)),
    ("beat", 1, Door::Beats(0)),
    ("last words", 0, Door::Beats(1)),
    ("last words", 1, Door::Beats(0)),
    ("request", 0, Door::Witness),
    ("request", 1, Door::Witness),
];

#[derive(Clone)]
struct Recorded {
    bytes: Vec<u8>,
    to: Door,
}

impl Recorded {
    /// Of its sender: a later one has a higher number.
    fn life(&self) -> u64 {
        self.bytes[8..16].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

struct Node {
    peer: Conversation,
    /// The last beat that was believed.
    heard: u64,
    witness: Asker,
    asked: u64,
    /// Made ahead, for the guard to send.
    last_words: Option<Recorded>,
}

struct World {
    chance: u64,
    lives: u64,
    nodes: [Node; 2],
    desk: Desk,
    recorded: Vec<Recorded>,
    taken: HashSet<(usize, Door)>,
    /// The latest life of its sender that a door has believed, and of which life of its own.
    believed: Vec<(Door, usize, u64)>,
}

impl Node {
    fn beat(&mut self, node: usize) -> Vec<u8> {
        let beat = Beat {
            role: Role::Active,
            fitness: Fitness { trouble: 0, priority: 100, node: NODES[node] },
            hands_over: false,
            asks: false,
            doubts: false,
            died: false,
            wants_dead_ms: 0,
            promise_ms: 0,
            number: self.peer.next_number(),
            heard: self.heard,
            takeovers: 0,
            heard_age_ms: 0,
            revision: 1,
        };
        self.peer.seal(&beat.encode())
    }

    fn receive_beat(&mut self, message: &[u8]) -> bool {
        let Ok(opened) = Beat::open(&mut self.peer, message) else { return false };
        self.heard = if opened.new_life { opened.number } else { self.heard.max(opened.number) };
        true
    }
}

fn keys() -> Keys {
    Keys::new(&[[7; 32]])
}

/// Numbers of nodes whose bytes, read as an answer, would be a grant.
const NODES: [u64; 2] = [0xffff_ffff_01ff_ffff, 0xffff_ffff_01ff_fffe];

impl World {
    fn new(seed: u64) -> World {
        let (recorded, taken, believed) = (Vec::new(), HashSet::new(), Vec::new());
        let desk = Desk::new(keys(), 3 << 20, Witness::after(0, 0));
        let nodes = [1, 2].map(|life| Node {
            peer: Conversation::new(keys(), life << 20, 0),
            heard: 0,
            witness: Asker::new(keys(), life << 20),
            asked: 0,
            last_words: None,
        });
        let chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        World { chance, lives: 3, nodes, desk, recorded, taken, believed }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) as usize % below
    }

    fn say(&mut self, line: usize) -> usize {
        let (what, from, to) = EXCHANGES[line];
        let node = &mut self.nodes[from];
        let beat = |node: &mut Node| Recorded { bytes: node.beat(from), to };
        let message = match what {
            "last words" => {
                let next = beat(node);
                node.last_words.replace(next).unwrap_or_else(|| beat(node))
            }
            "beat" => beat(node),
            _ => {
                node.asked += 1;
                let ask = Ask { number: node.asked, node: NODES[from], lease_ms: 1_000 };
                Recorded { bytes: node.witness.seal(&ask), to }
            }
        };
        self.recorded.push(message);
        self.recorded.len() - 1
    }

    /// Brings a recorded message to a door. Whether it was believed there.
    fn bring(&mut self, number: usize, door: Door) -> bool {
        let message = self.recorded[number].clone();
        let believed = match door {
            Door::Beats(node) => self.nodes[node].receive_beat(&message.bytes),
            Door::Answers(node) => self.nodes[node].witness.open(&message.bytes).is_some(),
            Door::Witness => match self.desk.answer(&message.bytes, 0) {
                None => false,
                Some(bytes) => {
                    let body = keys().verify(&message.bytes).map(|s| s.body.to_vec()).unwrap_or_default();
                    let node = Ask::parse(&body).map(|ask| ask.node);
                    let to = Door::Answers(usize::from(node == Some(NODES[1])));
                    // An introduction is answered with number 0, and changes no lease.
                    let sealed = keys().verify(&bytes).map(|s| Answer::parse(s.body).map(|a| a.number));
                    let heard = sealed != Ok(Some(0));
                    self.recorded.push(Recorded { bytes, to });
                    heard
                }
            },
        };
        if believed {
            self.look_at(number, door);
        }
        believed
    }

    fn look_at(&mut self, number: usize, door: Door) {
        let message = &self.recorded[number];
        assert_eq!(message.to, door, "message {number} was believed by another than it was for");
        assert!(self.taken.insert((number, door)), "message {number} was believed twice by {door:?}");
        let from = match keys().verify(&message.bytes).ok().and_then(|s| Ask::parse(s.body)) {
            Some(ask) => ask.node as usize,
            None => 0,
        };
        let before = self.believed.iter_mut().find(|(d, f, _)| (*d, *f) == (door, from));
        match before {
            Some((_, _, life)) => {
                assert!(message.life() >= *life, "{door:?} goes back to a life that was over");
                *life = message.life();
            }
            None => self.believed.push((door, from, message.life())),
        }
    }

    fn restart(&mut self, who: usize) {
        self.lives += 1;
        let life = self.lives << 20;
        let Some(node) = self.nodes.get_mut(who) else {
            self.desk = Desk::new(keys(), life, Witness::after(0, 0));
            self.believed.retain(|(door, _, _)| *door != Door::Witness);
            return;
        };
        (node.peer, node.witness) = (Conversation::new(keys(), life, 0), Asker::new(keys(), life));
        (node.heard, node.asked, node.last_words) = (0, 0, None);
        self.believed.retain(|(door, _, _)| ![Door::Beats(who), Door::Answers(who)].contains(door));
    }

    /// The process is replaced: its conversation with the peer goes on, that with the witness begins anew.
    fn replace(&mut self, who: usize) {
        self.lives += 1;
        let life = self.lives << 20;
        let node = &mut self.nodes[who];
        let mut memory = node.peer.memory();
        memory.number += 1_000;
        (node.peer, node.witness) = (Conversation::new(keys(), life, 0), Asker::new(keys(), life));
        node.peer.resume(memory);
        (node.heard, node.asked, node.last_words) = (0, 0, None);
        self.believed.retain(|(door, _, _)| *door != Door::Answers(who));
    }

    fn attack(&mut self) {
        if self.recorded.is_empty() {
            return;
        }
        let (number, door) = (self.draw(self.recorded.len()), DOORS[self.draw(DOORS.len())]);
        self.bring(number, door);
    }

    fn step(&mut self) {
        match self.draw(40) {
            0 => {
                let who = self.draw(3);
                self.restart(who);
            }
            1 => {
                let who = self.draw(2);
                self.replace(who);
            }
            2..20 => {
                let line = self.draw(EXCHANGES.len());
                let number = self.say(line);
                // Some are kept back.
                if self.draw(4) > 0 {
                    self.deliver(number);
                }
            }
            _ => self.attack(),
        }
    }

    /// As it was meant, with the answer that it brings.
    fn deliver(&mut self, number: usize) -> bool {
        let before = self.recorded.len();
        let believed = self.bring(number, self.recorded[number].to);
        (before..self.recorded.len()).fold(believed, |_, answer| {
            let to = self.recorded[answer].to;
            self.bring(answer, to) && believed
        })
    }
}

#[test]
fn what_was_recorded_is_believed_once_and_by_whom_it_was_for() {
    let seeds = std::env::var("EVENKEEL_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..3_000 {
                world.step();
            }
            // Whoever speaks the truth is heard again, while the other one goes on.
            for line in [0, 1, 4, 5] {
                let heard = (0..60).any(|_| {
                    world.attack();
                    for line in [0, 1, 4, 5] {
                        let number = world.say(line);
                        world.deliver(number);
                    }
                    let number = world.say(line);
                    world.deliver(number)
                });
                assert!(heard, "{:?} is not heard any more", EXCHANGES[line]);
            }
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
