//! A third that lends a lease to one of two nodes at a time.
//!
//! In: a node's request, the time. Out: the lease, or who has it. A lease runs from the sending of
//! the request on the node and from its arrival here, so it always ends on the node first.

use crate::Millis;
use crate::seal::{Conversation, Keys};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Comes back in the answer.
    pub number: u64,
    pub node: u64,
    /// 0 gives the lease back.
    pub lease_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub number: u64,
    pub granted: bool,
    /// Where nothing is granted: how long this witness still lends nothing to anybody.
    pub lease_ms: u32,
}

impl Ask {
    pub fn encode(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.node.to_be_bytes());
        bytes[16..].copy_from_slice(&self.lease_ms.to_be_bytes());
        bytes
    }

    /// Exactly what `encode` makes: by its length a request is no answer, whoever sends it on.
    pub fn parse(bytes: &[u8]) -> Option<Ask> {
        let bytes: &[u8; 20] = bytes.try_into().ok()?;
        let (number, rest) = bytes.split_first_chunk()?;
        let (node, rest) = rest.split_first_chunk()?;
        let (lease, _) = rest.split_first_chunk()?;
        Some(Ask {
            number: u64::from_be_bytes(*number),
            node: u64::from_be_bytes(*node),
            lease_ms: u32::from_be_bytes(*lease),
        })
    }
}

impl Answer {
    pub fn encode(&self) -> [u8; 13] {
        let mut bytes = [0; 13];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.lease_ms.to_be_bytes());
        bytes[12] = u8::from(self.granted);
        bytes
    }

    /// Exactly what `encode` makes: by its length an answer is no request.
    pub fn parse(bytes: &[u8]) -> Option<Answer> {
        let bytes: &[u8; 13] = bytes.try_into().ok()?;
        let (number, rest) = bytes.split_first_chunk()?;
        let (lease, rest) = rest.split_first_chunk()?;
        Some(Answer {
            number: u64::from_be_bytes(*number),
            lease_ms: u32::from_be_bytes(*lease),
            granted: *rest.first()? == 1,
        })
    }
}

/// The conversation of a node with the witness, by its topic.
pub const TOPIC: u8 = 1;

/// A node's end of that conversation.
pub struct Asker {
    conversation: Conversation,
    /// The number of the last request.
    asked: u64,
    /// The same, when the present life of the witness was proven.
    believed_at: u64,
}

impl Asker {
    pub fn new(keys: Keys, life: u64) -> Asker {
        Asker { conversation: Conversation::new(keys, life, TOPIC), asked: 0, believed_at: 0 }
    }

    pub fn set_keys(&mut self, keys: Keys) {
        self.conversation.set_keys(keys);
    }

    pub fn seal(&mut self, ask: &Ask) -> Vec<u8> {
        self.asked = ask.number;
        self.conversation.seal(&ask.encode())
    }

    /// What the witness says. Requests of the other node, which has the same key, are none; and a witness that
    /// comes after another one answers what was asked since then.
    pub fn open(&mut self, message: &[u8]) -> Option<Answer> {
        let since = self.believed_at;
        let fits = |body: &[u8], replaces: bool| {
            Answer::parse(body).is_some_and(|answer| !replaces || answer.number > since)
        };
        let opened = self.conversation.open(message, fits).ok()?;
        if opened.new_life {
            self.believed_at = self.asked;
        }
        Answer::parse(opened.body)
    }
}

/// Leases that a witness lends at most.
pub const LONGEST_LEASE_MS: u32 = 10_000;

#[derive(Clone, Debug)]
pub struct Witness {
    /// What a former life of this witness may have lent ends now.
    quiet_until: Millis,
    holder: Option<(u64, Millis)>,
    /// The longest lease that was ever lent, as far as is known: a next life waits for so long.
    longest_ms: u32,
}

impl Witness {
    pub fn new(now: Millis) -> Witness {
        Witness { quiet_until: now + Millis::from(LONGEST_LEASE_MS), holder: None, longest_ms: 0 }
    }

    /// As [`Witness::new`], where the longest lease of former lives is known: all of them have ended
    /// after that time.
    pub fn after(longest_ms: u32, now: Millis) -> Witness {
        let longest_ms = longest_ms.min(LONGEST_LEASE_MS);
        Witness { quiet_until: now + Millis::from(longest_ms), holder: None, longest_ms }
    }

    /// To be kept before an answer leaves.
    pub fn longest_ms(&self) -> u32 {
        self.longest_ms
    }

    /// How long it still lends nothing because it has just started.
    pub fn quiet_ms(&self, now: Millis) -> Millis {
        self.quiet_until.saturating_sub(now)
    }

    pub fn ask(&mut self, ask: &Ask, now: Millis) -> Answer {
        let lease_ms = ask.lease_ms.min(LONGEST_LEASE_MS);
        let others = self.holder.is_some_and(|(node, until)| node != ask.node && now < until);
        let granted = !others && now >= self.quiet_until && lease_ms > 0;
        if granted {
            self.holder = Some((ask.node, now + Millis::from(lease_ms)));
            self.longest_ms = self.longest_ms.max(lease_ms);
        } else if lease_ms == 0 && self.holder.is_some_and(|(node, _)| node == ask.node) {
            self.holder = None;
        }
        let quiet_ms = self.quiet_ms(now).min(Millis::from(LONGEST_LEASE_MS)) as u32;
        Answer { number: ask.number, granted, lease_ms: if granted { lease_ms } else { quiet_ms } }
    }

    pub fn holder(&self, now: Millis) -> Option<u64> {
        self.holder.filter(|(_, until)| now < *until).map(|(node, _)| node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_knows_its_past_waits_no_longer_than_its_leases_could_last() {
        let ask = |node| Ask { number: 1, node, lease_ms: 400 };
        let mut witness = Witness::new(0);
        let refused = witness.ask(&ask(1), 2_000);
        assert_eq!((refused.granted, refused.lease_ms), (false, 8_000), "it says for how long");
        assert!(witness.ask(&ask(1), 10_000).granted);
        assert_eq!(witness.longest_ms(), 400);
        let mut next = Witness::after(witness.longest_ms(), 0);
        assert!(!next.ask(&ask(2), 399).granted, "the lease of the former life");
        assert!(next.ask(&ask(2), 400).granted);
        let refused = next.ask(&ask(1), 401);
        assert_eq!((refused.granted, refused.lease_ms), (false, 0), "another node has it");
        assert!(!Witness::after(u32::MAX, 0).ask(&ask(1), 9_999).granted);
    }

    #[test]
    fn one_at_a_time() {
        let mut witness = Witness::new(0);
        let ask = |node, lease_ms| Ask { number: 1, node, lease_ms };
        assert!(!witness.ask(&ask(1, 200), 9_999).granted, "a former life may have lent it");
        assert!(witness.ask(&ask(1, 200), 10_000).granted);
        assert!(!witness.ask(&ask(2, 200), 10_199).granted);
        assert!(witness.ask(&ask(1, 200), 10_150).granted, "prolonged");
        assert!(!witness.ask(&ask(2, 200), 10_300).granted);
        assert!(witness.ask(&ask(2, 200), 10_350).granted);
        assert_eq!(witness.holder(10_351), Some(2));
        assert!(!witness.ask(&ask(1, 0), 10_360).granted);
        assert_eq!(witness.holder(10_361), Some(2), "nobody gives back what is not theirs");
        witness.ask(&ask(2, 0), 10_370);
        assert!(witness.ask(&ask(1, 200), 10_371).granted);
        let answer = Answer { number: 9, granted: true, lease_ms: 5 };
        assert_eq!(Answer::parse(&answer.encode()), Some(answer));
        assert_eq!(Ask::parse(&ask(3, 4).encode()), Some(ask(3, 4)));
        assert_eq!(Ask::parse(&[0; 19]), None);
    }
}
