//! Sealed messages: only who has the pair's key can make them, and each is taken once.
//!
//! A message carries the sender's life (a random number of this start of the program) and the
//! receiver's life as the sender knows it. One that does not name the receiver's present life only
//! introduces its sender: nothing recorded before the receiver started can count. Within a life,
//! numbers only go up; a window lets the ways a message takes overtake each other.

use std::collections::HashSet;

use aws_lc_rs::hmac;

const MAGIC: [u8; 4] = *b"EKS1";
/// Lives that a message names: the proven one, and such as may be proving themselves.
const NAMES: usize = 5;
const HEAD: usize = 4 + 4 + 8 + 8 + 8 * NAMES;
const TAG: usize = 16;
/// Numbers that may come late.
const WINDOW: u64 = 64;
/// Lives of the other side that may be proving themselves at a time.
const STRANGERS: usize = 64;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    Malformed,
    /// Of a key that is not known here.
    Key,
    /// The seal is wrong.
    Forged,
    /// Heard a moment ago: the same message by another way.
    Again,
    /// Too old, or of a life that is over.
    Replayed,
    /// It names a life of this node that is over, or none: its sender is answered, not believed.
    Stranger,
    /// It came from this node itself.
    Own,
}

impl Refused {
    pub const ALL: [Refused; 7] = [
        Refused::Malformed,
        Refused::Key,
        Refused::Forged,
        Refused::Again,
        Refused::Replayed,
        Refused::Stranger,
        Refused::Own,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Malformed => "malformed",
            Refused::Key => "unknown key",
            Refused::Forged => "wrong seal",
            Refused::Again => "heard before",
            Refused::Replayed => "replayed",
            Refused::Stranger => "introduction",
            Refused::Own => "own",
        }
    }
}

#[derive(Clone)]
struct Key {
    id: u32,
    key: hmac::Key,
}

/// The keys of a pair: the first seals, all of them open, so that keys change without a gap.
#[derive(Clone)]
pub struct Keys(Vec<Key>);

/// A message whose seal is right; whether it is new is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    pub topic: u8,
    pub body: &'a [u8],
    life: u64,
    number: u64,
    /// Lives of the receiver that it names.
    names: [u64; NAMES],
}

impl Keys {
    pub fn new(secrets: &[[u8; 32]]) -> Keys {
        let keys = secrets.iter().map(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let tag = hmac::sign(&key, b"evenkeel key id");
            let id = tag.as_ref().iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte));
            Key { id, key }
        });
        Keys(keys.collect())
    }

    /// Looks at the seal alone.
    pub fn verify<'a>(&self, message: &'a [u8]) -> Result<Sealed<'a>, Refused> {
        let head = message.get(..HEAD).ok_or(Refused::Malformed)?;
        let end = message.len().checked_sub(TAG).filter(|end| *end >= HEAD).ok_or(Refused::Malformed)?;
        if head[..4] != MAGIC {
            return Err(Refused::Malformed);
        }
        let long = |at: usize| head[at..at + 8].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let key_id = (long(4) >> 32) as u32;
        let key = self.0.iter().find(|k| k.id == key_id).ok_or(Refused::Key)?;
        if aws_lc_rs::constant_time::verify_slices_are_equal(
            &Keys::sign(key, &message[..end]),
            &message[end..],
        )
        .is_err()
        {
            return Err(Refused::Forged);
        }
        let number = long(16);
        Ok(Sealed {
            topic: number as u8,
            body: &message[HEAD..end],
            life: long(8),
            number: number >> 8,
            names: std::array::from_fn(|n| long(24 + n * 8)),
        })
    }

    fn sign(key: &Key, bytes: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&key.key, bytes).as_ref()[..TAG]);
        tag
    }
}

/// One end of a conversation that goes by several ways at once.
pub struct Conversation {
    keys: Keys,
    /// Of this start of the program.
    life: u64,
    number: u64,
    /// Which conversation of the node this is: with its peer, or with a witness.
    topic: u8,
    /// The other side's life, proven.
    peer: Option<Peer>,
    /// The number of the last own message when that life was proven.
    believed_at: u64,
    /// Lives that have introduced themselves; the latest are answered, all of them in turn.
    strangers: Vec<u64>,
    /// Lives of the other side that are over.
    past: HashSet<u64>,
}

/// See [`Conversation::memory`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub life: u64,
    pub number: u64,
    /// The other side's life, and the highest number that was heard of it.
    pub peer: Option<(u64, u64)>,
    /// Lives of the other side that are over.
    pub past: Vec<u64>,
}

struct Peer {
    life: u64,
    highest: u64,
    /// Bit n: `highest - n` was heard.
    seen: u64,
}

/// A message that was believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    pub number: u64,
    pub body: &'a [u8],
    /// It is the first of a new life of the other side.
    pub new_life: bool,
}

impl Conversation {
    /// `life` is random and never 0.
    pub fn new(keys: Keys, life: u64, topic: u8) -> Conversation {
        Conversation {
            keys,
            life: life.max(1),
            number: 0,
            topic,
            peer: None,
            believed_at: 0,
            strangers: Vec::new(),
            past: HashSet::new(),
        }
    }

    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
    }

    pub fn life(&self) -> u64 {
        self.life
    }

    /// What the next process of this node needs, to be the same to the other side.
    pub fn memory(&self) -> Memory {
        Memory {
            life: self.life,
            number: self.number,
            peer: self.peer.as_ref().map(|p| (p.life, p.highest)),
            past: self.past.iter().copied().collect(),
        }
    }

    /// Goes on where another process of this node stopped. This life is older than the process: what was recorded
    /// of the other side in it names it, so that lives and numbers that were heard are to be known here as well.
    pub fn resume(&mut self, memory: Memory) {
        (self.life, self.number) = (memory.life, memory.number);
        self.believed_at = self.number;
        self.peer = memory.peer.map(|(life, highest)| Peer { life, highest, seen: u64::MAX });
        self.past = memory.past.into_iter().collect();
    }

    /// What the other side says of an own message with a higher number, it says after its present life was proven.
    pub fn believed_at(&self) -> u64 {
        self.believed_at
    }

    /// Whether a life of the other side is proven.
    pub fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// Makes all worthless that was sealed for this life, but goes on with the other side's.
    pub fn renew(&mut self, life: u64) {
        self.life = life.max(1);
    }

    /// The number that the next message gets.
    pub fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// Somebody is proving itself: it needs an answer soon.
    pub fn has_stranger(&self) -> bool {
        !self.strangers.is_empty()
    }

    pub fn seal(&mut self, body: &[u8]) -> Vec<u8> {
        self.number += 1;
        let known = self.peer.as_ref().map_or(0, |p| p.life);
        // A stranger is answered beside the peer that is known: a recorded introduction must not
        // make this node deaf or dumb to the true one.
        let turn = self.strangers.len().min(NAMES - 1);
        self.strangers.rotate_left(turn);
        let strangers = self.strangers.iter().rev().copied().chain(std::iter::repeat(0));
        let Some(key) = self.keys.0.first() else { return Vec::new() };
        let mut message = Vec::with_capacity(HEAD + 8 + body.len() + TAG);
        message.extend(MAGIC);
        message.extend(key.id.to_be_bytes());
        message.extend(self.life.to_be_bytes());
        message.extend((self.number << 8 | u64::from(self.topic)).to_be_bytes());
        for name in std::iter::once(known).chain(strangers).take(NAMES) {
            message.extend(name.to_be_bytes());
        }
        message.extend(body);
        let tag = Keys::sign(key, &message);
        message.extend(tag);
        message
    }

    /// Believes a message whose body `fits`, which is given the body and whether the message would put another
    /// life in the place of one that was proven. A body that never comes by this conversation was passed on by
    /// somebody who took it elsewhere: it must not even introduce its sender. And whoever comes after a proven
    /// life has to answer something later than that: what was kept back of a life that is over names this one
    /// as well.
    pub fn open<'a>(
        &mut self,
        message: &'a [u8],
        fits: impl Fn(&[u8], bool) -> bool,
    ) -> Result<Opened<'a>, Refused> {
        let Sealed { topic, body, life, number, names } = self.keys.verify(message)?;
        let replaces = self.peer.as_ref().is_some_and(|peer| peer.life != life);
        if life == self.life {
            return Err(Refused::Own);
        }
        if self.past.contains(&life) {
            return Err(Refused::Replayed);
        }
        if topic != self.topic || !fits(body, false) {
            return Err(Refused::Malformed);
        }
        let named = names.contains(&self.life) && fits(body, replaces);
        if !named {
            if self.peer.as_ref().is_none_or(|p| p.life != life) && !self.strangers.contains(&life) {
                if self.strangers.len() >= STRANGERS {
                    self.strangers.remove(0);
                }
                self.strangers.push(life);
            }
            return Err(Refused::Stranger);
        }
        match &mut self.peer {
            Some(peer) if peer.life == life => {
                peer.take(number)?;
                self.strangers.retain(|s| *s != life);
                Ok(Opened { number, body, new_life: false })
            }
            // It names this life, so it was made after this one began and answers it.
            _ => {
                if let Some(before) = self.peer.replace(Peer { life, highest: number, seen: 1 }) {
                    self.past.insert(before.life);
                }
                self.believed_at = self.number;
                self.strangers.clear();
                Ok(Opened { number, body, new_life: true })
            }
        }
    }
}

impl Peer {
    fn take(&mut self, number: u64) -> Result<(), Refused> {
        if number > self.highest {
            let ahead = number - self.highest;
            self.seen = if ahead >= WINDOW { 0 } else { self.seen << ahead };
            self.seen |= 1;
            self.highest = number;
            return Ok(());
        }
        let behind = self.highest - number;
        if behind >= WINDOW {
            return Err(Refused::Replayed);
        }
        if self.seen & 1 << behind > 0 {
            return Err(Refused::Again);
        }
        self.seen |= 1 << behind;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(_: &[u8], _: bool) -> bool {
        true
    }

    fn ends() -> (Conversation, Conversation) {
        let end = |life| Conversation::new(Keys::new(&[[7; 32]]), life, 0);
        (end(100), end(200))
    }

    /// Lets two ends get to know each other.
    fn introduce(a: &mut Conversation, b: &mut Conversation) {
        assert_eq!(b.open(&a.seal(b"1"), any), Err(Refused::Stranger));
        assert!(a.open(&b.seal(b"2"), any).unwrap().new_life);
        assert!(b.open(&a.seal(b"3"), any).unwrap().new_life);
    }

    #[test]
    fn messages_are_taken_once_and_in_nearly_any_order() {
        let (mut a, mut b) = ends();
        introduce(&mut a, &mut b);
        let sealed: Vec<Vec<u8>> = (0..100u8).map(|n| a.seal(&[n])).collect();
        for at in [3, 1, 0, 2, 60] {
            assert_eq!(b.open(&sealed[at], any).map(|o| o.body[0]), Ok(at as u8));
            assert_eq!(b.open(&sealed[at], any), Err(Refused::Again), "{at} again");
        }
        assert!(b.open(&sealed[99], any).is_ok());
        assert_eq!(b.open(&sealed[20], any), Err(Refused::Replayed), "too far behind");
        assert!(b.open(&sealed[50], any).is_ok());
        let own = a.seal(b"x");
        assert_eq!(a.open(&own, any), Err(Refused::Own));
    }

    #[test]
    fn nothing_altered_is_taken() {
        let (mut a, mut b) = ends();
        introduce(&mut a, &mut b);
        let sealed = a.seal(b"body");
        for at in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[at / 8] ^= 1 << (at % 8);
            assert!(b.open(&altered, any).is_err(), "bit {at}");
        }
        for cut in 0..sealed.len() {
            assert!(b.open(&sealed[..cut], any).is_err(), "cut at {cut}");
        }
        assert!(b.open(&sealed, any).is_ok());
    }

    #[test]
    fn what_was_recorded_before_a_start_is_worth_nothing() {
        let (mut a, mut b) = ends();
        introduce(&mut a, &mut b);
        let recorded: Vec<Vec<u8>> = (0..10).map(|_| a.seal(b"i am active")).collect();
        let mut reborn = Conversation::new(Keys::new(&[[7; 32]]), 201, 0);
        assert!(recorded.iter().all(|m| reborn.open(m, any) == Err(Refused::Stranger)));
        // The other one starts anew, and its former life is replayed to the one that knew it.
        let mut second = Conversation::new(Keys::new(&[[7; 32]]), 101, 0);
        let _ = b.open(&second.seal(b"hello"), any);
        assert!(second.open(&b.seal(b"hello"), any).is_ok());
        assert!(b.open(&second.seal(b"hello"), any).unwrap().new_life);
        assert!(recorded.iter().all(|m| b.open(m, any) == Err(Refused::Replayed)));
        // And recorded introductions do not make it dumb to the true one.
        let mut other = Conversation::new(Keys::new(&[[7; 32]]), 55, 0);
        assert_eq!(b.open(&other.seal(b"?"), any), Err(Refused::Stranger));
        assert!(second.open(&b.seal(b"on"), any).is_ok());
        assert!(b.open(&second.seal(b"on"), any).is_ok());
    }

    /// A process that is replaced leaves its life to the next one: what was recorded in it stays worth nothing.
    #[test]
    fn what_was_recorded_before_a_process_was_replaced_is_worth_nothing() {
        let (mut a, mut b) = ends();
        introduce(&mut a, &mut b);
        let former: Vec<Vec<u8>> = (0..5).map(|_| a.seal(b"i am active")).collect();
        assert!(former.iter().all(|m| b.open(m, any).is_ok()));
        // The other side starts anew.
        let mut second = Conversation::new(Keys::new(&[[7; 32]]), 101, 0);
        let _ = b.open(&second.seal(b"hello"), any);
        assert!(second.open(&b.seal(b"hello"), any).is_ok());
        let recorded: Vec<Vec<u8>> = (0..5).map(|_| second.seal(b"i hand over")).collect();
        assert!(recorded.iter().all(|m| b.open(m, any).is_ok()));
        let mut next = Conversation::new(Keys::new(&[[7; 32]]), 999, 0);
        next.resume(Memory { number: b.memory().number + 1_000, ..b.memory() });
        for message in former.iter().chain(&recorded) {
            assert!(matches!(next.open(message, any), Err(Refused::Replayed | Refused::Again)));
        }
        assert!(
            !next.open(&second.seal(b"on"), any).unwrap().new_life,
            "it goes on with the one that it knows"
        );
        assert!(!second.open(&next.seal(b"on"), any).unwrap().new_life);
    }

    #[test]
    fn keys_change_without_a_gap() {
        let (mut a, mut b) = ends();
        introduce(&mut a, &mut b);
        b.set_keys(Keys::new(&[[7; 32], [8; 32]]));
        assert!(b.open(&a.seal(b"old"), any).is_ok());
        a.set_keys(Keys::new(&[[8; 32], [7; 32]]));
        assert!(b.open(&a.seal(b"new"), any).is_ok());
        assert!(a.open(&b.seal(b"old"), any).is_ok());
        b.set_keys(Keys::new(&[[8; 32]]));
        assert!(a.open(&b.seal(b"new"), any).is_ok());
        a.set_keys(Keys::new(&[[9; 32]]));
        assert_eq!(b.open(&a.seal(b"foreign"), any), Err(Refused::Key));
    }
}
