//! What one node tells the other, twenty times a second, by every way there is.

use crate::Millis;
use crate::seal::{Conversation, Opened, Refused};

/// What a node is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Just started: it listens, and promises nothing.
    Joining,
    Passive,
    Active,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Joining, Role::Passive, Role::Active];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Joining => "joining",
            Role::Passive => "passive",
            Role::Active => "active",
        }
    }

    fn number(self) -> u8 {
        match self {
            Role::Joining => 0,
            Role::Passive => 1,
            Role::Active => 2,
        }
    }

    fn of(number: u8) -> Option<Role> {
        Role::ALL.into_iter().find(|r| r.number() == number)
    }
}

/// How fit a node is to be active. The one with fewer troubles is fitter, then the one with the
/// higher priority, then the higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitness {
    /// What is wrong with it now, weighed: links down, addresses that do not answer.
    pub trouble: u16,
    /// As configured.
    pub priority: u8,
    /// Tells two nodes apart that are alike otherwise.
    pub node: u64,
}

impl Fitness {
    pub fn beats(&self, other: &Fitness) -> bool {
        let rank = |f: &Fitness| (u16::MAX - f.trouble, f.priority, f.node);
        rank(self) > rank(other)
    }
}

/// One message. Times in it are spans, so that the nodes' clocks need not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    pub role: Role,
    pub fitness: Fitness,
    /// The sender has given up being active for the receiver's sake.
    pub hands_over: bool,
    /// The sender wants to be active, and asks the receiver to give it up.
    pub asks: bool,
    /// On one of its paths the sender does not hear the receiver, on another it does; or it reaches less than
    /// all whom it has asked for that.
    pub doubts: bool,
    /// The sender's process has ended: what outlives it sends this in its place (see
    /// [`last_words`](crate::election::Election::last_words)).
    pub died: bool,
    /// The time of death that the sender would have, by what it has heard; 0 where it does not measure.
    pub wants_dead_ms: u16,
    /// The sender will not become active within this time, come what may.
    pub promise_ms: u32,
    /// A number of this message, in this life of the sender.
    pub number: u64,
    /// The last number that the sender had from the receiver, of its present life; 0 is none.
    pub heard: u64,
    /// How long ago that was.
    pub heard_age_ms: u32,
    /// Of the configuration that the sender runs.
    pub revision: u64,
    /// How often the sender has become active in this life: it tells of a time of which no other beat was heard. 0 of an
    /// older version.
    pub takeovers: u32,
}

impl Beat {
    pub const LEN: usize = 56;

    fn flags(&self) -> u8 {
        u8::from(self.hands_over)
            | u8::from(self.asks) << 1
            | u8::from(self.doubts) << 2
            | u8::from(self.died) << 3
    }

    pub fn encode(&self) -> [u8; Beat::LEN] {
        let mut bytes = [0; Beat::LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &[self.role.number(), self.flags()]);
        put(2, &self.fitness.trouble.to_be_bytes());
        put(4, &[self.fitness.priority]);
        put(6, &self.wants_dead_ms.to_be_bytes());
        put(8, &self.fitness.node.to_be_bytes());
        put(16, &self.promise_ms.to_be_bytes());
        put(20, &self.heard_age_ms.to_be_bytes());
        put(24, &self.number.to_be_bytes());
        put(32, &self.heard.to_be_bytes());
        put(40, &self.revision.to_be_bytes());
        put(48, &self.takeovers.to_be_bytes());
        bytes
    }

    /// Opens a sealed beat. A life that comes after another one has heard this node meanwhile.
    pub fn open<'a>(peer: &mut Conversation, message: &'a [u8]) -> Result<Opened<'a>, Refused> {
        let since = peer.believed_at();
        peer.open(message, |body, replaces| {
            Beat::parse(body).is_some_and(|beat| !replaces || beat.heard > since)
        })
    }

    /// Later versions may say more behind what is known here.
    pub fn parse(bytes: &[u8]) -> Option<Beat> {
        let bytes: &[u8; Beat::LEN] = bytes.get(..Beat::LEN)?.try_into().ok()?;
        let long = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(eight)
        };
        let word = |at: usize| (long(at) >> 32) as u32;
        Some(Beat {
            role: Role::of(bytes[0])?,
            fitness: Fitness {
                trouble: u16::from_be_bytes([bytes[2], bytes[3]]),
                priority: bytes[4],
                node: long(8),
            },
            hands_over: bytes[1] & 1 > 0,
            asks: bytes[1] & 2 > 0,
            doubts: bytes[1] & 4 > 0,
            died: bytes[1] & 8 > 0,
            wants_dead_ms: u16::from_be_bytes([bytes[6], bytes[7]]),
            promise_ms: word(16),
            heard_age_ms: word(20),
            number: long(24),
            heard: long(32),
            revision: long(40),
            takeovers: word(48),
        })
    }
}

/// Ages that a beat can tell.
pub fn age_ms(since: Millis, now: Millis) -> u32 {
    u32::try_from(now.saturating_sub(since)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_comes_back_as_it_was() {
        let beat = Beat {
            role: Role::Passive,
            fitness: Fitness { trouble: 300, priority: 150, node: 0xdead_beef_0102_0304 },
            hands_over: true,
            asks: false,
            doubts: true,
            died: true,
            wants_dead_ms: 97,
            promise_ms: 150,
            number: 77,
            heard: 1 << 40,
            heard_age_ms: 49,
            revision: 12,
            takeovers: 3,
        };
        assert_eq!(Beat::parse(&beat.encode()), Some(beat));
        let mut longer = beat.encode().to_vec();
        longer.extend([1, 2, 3]);
        assert_eq!(Beat::parse(&longer), Some(beat), "a later version's");
        for cut in 0..Beat::LEN {
            assert_eq!(Beat::parse(&beat.encode()[..cut]), None);
        }
        longer[0] = 9;
        assert_eq!(Beat::parse(&longer), None, "no such role");
    }

    #[test]
    fn troubles_count_before_priority() {
        let fit = |trouble, priority, node| Fitness { trouble, priority, node };
        assert!(fit(0, 1, 1).beats(&fit(1, 255, 2)));
        assert!(fit(5, 101, 1).beats(&fit(5, 100, 2)));
        assert!(fit(5, 100, 2).beats(&fit(5, 100, 1)));
        assert!(!fit(5, 100, 1).beats(&fit(5, 100, 1)));
    }
}
