//! What a daemon and the guard of its addresses say to each other, and what the guard does about it.
//!
//! In: lines, what the pipe took, the time, the daemon's silence or end. Out: bytes for the pipe, addresses to remove,
//! whether the peer is told. Never: a process, a pipe, the kernel.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::Millis;

/// Interface, address, length of the network.
pub type GuardedAddress = (u32, IpAddr, u8);

/// A guard that takes nothing for so long is replaced.
pub const STUCK_MS: Millis = 500;

/// The daemon's end: what is said waits here while the pipe has no room, so that nobody waits for the guard.
#[derive(Debug, Default)]
pub struct GuardPipe {
    pending: VecDeque<u8>,
    stuck_since: Option<Millis>,
    has_words: bool,
}

impl GuardPipe {
    pub fn hold(&mut self, (interface, address, prefix): GuardedAddress) {
        self.say(&format!("hold {interface} {address} {prefix}\n"));
    }

    pub fn drop_all(&mut self) {
        self.say("drop\n");
        self.has_words = false;
    }

    /// What the peer is told, sealed, when the daemon has died: `None` takes back what was said before.
    pub fn set_last_words(&mut self, words: Option<(IpAddr, SocketAddr, &str)>) {
        match words {
            // What was said before is as good, and the pipe is full.
            Some(_) if !self.pending.is_empty() => {}
            Some((from, to, message)) => self.say(&format!("words {from} {to} {message}\n")),
            None => self.say("silence\n"),
        }
        self.has_words = words.is_some();
    }

    pub fn has_last_words(&self) -> bool {
        self.has_words
    }

    pub fn beat(&mut self) {
        // What it takes of what waits is a sign of life, too.
        if self.pending.is_empty() {
            self.say("beat\n");
        }
    }

    fn say(&mut self, line: &str) {
        self.pending.extend(line.as_bytes());
    }

    /// What is to be written next.
    pub fn pending(&mut self) -> &[u8] {
        self.pending.make_contiguous()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The pipe took so much.
    pub fn taken(&mut self, bytes: usize) {
        self.pending.drain(..bytes.min(self.pending.len()));
        self.stuck_since = None;
    }

    /// The pipe takes nothing now: whether the guard is given up.
    pub fn is_stuck(&mut self, now: Millis) -> bool {
        let since = *self.stuck_since.get_or_insert(now);
        now.saturating_sub(since) >= STUCK_MS
    }
}

/// What the peer is told when the daemon has died; the message is as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    pub from: IpAddr,
    pub to: SocketAddr,
    pub message: String,
}

/// The guard's end: what the daemon has said so far.
#[derive(Debug, Default)]
pub struct GuardOrders {
    held: BTreeSet<GuardedAddress>,
    last_words: Option<LastWords>,
    /// A line that is not whole yet.
    partial: Vec<u8>,
}

impl GuardOrders {
    pub fn read(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["hold", interface, address, prefix] => {
                    let place = interface.parse().ok().zip(address.parse().ok()).zip(prefix.parse().ok());
                    self.held
                        .extend(place.map(|((interface, address), prefix)| (interface, address, prefix)));
                }
                ["drop"] => {
                    self.held.clear();
                    self.last_words = None;
                }
                ["words", from, to, message] => {
                    let message = message.to_owned();
                    let ends = from.parse().ok().zip(to.parse().ok());
                    self.last_words = ends.map(|(from, to)| LastWords { from, to, message });
                }
                ["silence"] => self.last_words = None,
                _ => {}
            }
        }
    }

    /// It waits for the next line no longer than the silence that it allows.
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// The daemon has been silent for too long. It may come back to life; then it begins anew. What it would have said
    /// with its death is not true any more.
    pub fn on_silence(&mut self) -> BTreeSet<GuardedAddress> {
        self.last_words = None;
        std::mem::take(&mut self.held)
    }

    /// The daemon has ended: what is removed, and what the peer is told once that is done.
    pub fn on_end(&mut self) -> (BTreeSet<GuardedAddress>, Option<LastWords>) {
        let was_active = !self.held.is_empty();
        (std::mem::take(&mut self.held), self.last_words.take().filter(|_| was_active))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: GuardedAddress = (3, IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 32);

    fn words() -> Option<(IpAddr, SocketAddr, &'static str)> {
        Some(([192, 0, 2, 2].into(), SocketAddr::from(([192, 0, 2, 3], 9694)), "00ff"))
    }

    /// All that was said, in pieces of so many bytes.
    fn carry(pipe: &mut GuardPipe, orders: &mut GuardOrders, piece: usize) {
        while !pipe.is_empty() {
            let bytes: Vec<u8> = pipe.pending().iter().take(piece).copied().collect();
            orders.read(&bytes);
            pipe.taken(bytes.len());
        }
    }

    #[test]
    fn the_guard_knows_what_it_was_told_however_it_came() {
        for piece in [1, 2, 7, 4096] {
            let (mut pipe, mut orders) = (GuardPipe::default(), GuardOrders::default());
            pipe.hold(PLACE);
            carry(&mut pipe, &mut orders, piece);
            pipe.set_last_words(words());
            carry(&mut pipe, &mut orders, piece);
            assert!(orders.is_waiting());
            let (gone, told) = orders.on_end();
            assert_eq!(gone, BTreeSet::from([PLACE]));
            assert_eq!(told.map(|words| words.message).as_deref(), Some("00ff"));
            assert_eq!(orders.on_end(), (BTreeSet::new(), None));
        }
    }

    #[test]
    fn a_daemon_that_was_silent_says_nothing_by_its_death() {
        let (mut pipe, mut orders) = (GuardPipe::default(), GuardOrders::default());
        pipe.hold(PLACE);
        carry(&mut pipe, &mut orders, 4096);
        pipe.set_last_words(words());
        carry(&mut pipe, &mut orders, 4096);
        assert_eq!(orders.on_silence(), BTreeSet::from([PLACE]));
        pipe.hold(PLACE);
        carry(&mut pipe, &mut orders, 4096);
        assert_eq!(orders.on_end().1, None, "these words are of before");
    }

    #[test]
    fn one_that_takes_nothing_is_given_up_and_one_that_takes_a_byte_is_not() {
        let mut pipe = GuardPipe::default();
        pipe.hold(PLACE);
        assert!(!pipe.is_stuck(1_000));
        assert!(!pipe.is_stuck(1_000 + STUCK_MS - 1));
        pipe.taken(1);
        assert!(!pipe.is_stuck(1_000 + STUCK_MS));
        assert!(pipe.is_stuck(1_000 + 2 * STUCK_MS));
    }
}
