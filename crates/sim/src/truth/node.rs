//! What the made-up world knows of a node, and what goes between two of them.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them.

use std::collections::VecDeque;

use super::announce::Announcements;
use super::election::Election;
use super::pace::Pace;
use super::reach::Reach;
use super::seal::Conversation;
use super::witness::Asker;

type Millis = u64;

/// Ways from one node to the other.
pub const WAYS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Dead,
    Runs,
    Frozen,
}

pub struct Node {
    pub life: Life,
    pub election: Election,
    pub peer: Conversation,
    pub witness: Asker,
    /// Between this node's clock and the world's.
    pub offset: Millis,
    /// Its clock gains one millisecond in so many.
    pub drift: u64,
    /// What the kernel keeps while the process is frozen.
    pub inbox: VecDeque<Packet>,
    pub holds: bool,
    pub announcements: Announcements,
    /// It has the pair's key.
    pub keyed: bool,
    pub frozen_at: Millis,
    pub heard_number: u64,
    /// By each way, on the world's clock.
    pub heard_by: [Millis; WAYS],
    pub reach: Reach,
    /// In half of the worlds beats adapt.
    pub pace: Option<Pace>,
    pub heard_local: Millis,
    /// What is wrong with it besides.
    pub trouble: u16,
    /// Rounds of questions since it began to ask.
    pub rounds: u64,
    /// What its guard tells the other one when it dies.
    pub last_words: Option<Vec<u8>>,
    /// When its timer wakes it, on the world's clock, and when it was to look earlier.
    pub wakes_at: Millis,
    pub looks_at: Millis,
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub to: usize,
    pub from: usize,
    pub way: usize,
    /// Of the attacker.
    pub forged: bool,
    pub bytes: Vec<u8>,
}
