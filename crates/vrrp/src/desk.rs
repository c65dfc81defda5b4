//! Where nodes come to the witness: who asks is told by what is sealed, not by where it came from.
//!
//! In: a datagram, the time. Out: the answer to it, or nothing. Each node has one conversation, by
//! the node's number inside the seal, and begins with
//! the life of this witness: what was recorded is worth nothing from any address. What has no right seal leaves no trace.

use std::collections::HashMap;

use crate::Millis;
use crate::seal::{Conversation, Keys, Refused};
use crate::witness::{Answer, Ask, TOPIC, Witness};

/// Nodes that have a conversation: two, and what they were before their disks were replaced.
const NODES: usize = 64;

pub struct Desk {
    keys: Keys,
    /// Of this start of the witness; the latest of those that its conversations have.
    life: u64,
    nodes: HashMap<u64, Node>,
    witness: Witness,
}

struct Node {
    conversation: Conversation,
    /// The number of the last request that was heard. An older one that comes late was overtaken
    /// by what the node wants now, or was kept back by somebody.
    last: u64,
}

impl Desk {
    pub fn new(keys: Keys, life: u64, witness: Witness) -> Desk {
        Desk { keys, life, nodes: HashMap::new(), witness }
    }

    pub fn holder(&self, now: Millis) -> Option<u64> {
        self.witness.holder(now)
    }

    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    pub fn answer(&mut self, message: &[u8], now: Millis) -> Option<Vec<u8>> {
        let sealed = self.keys.verify(message).ok().filter(|s| s.topic == TOPIC)?;
        let id = Ask::parse(sealed.body)?.node;
        if !self.nodes.contains_key(&id) && self.nodes.len() >= NODES {
            return None;
        }
        let (keys, life) = (&self.keys, self.life);
        let node = self
            .nodes
            .entry(id)
            .or_insert_with(|| Node { conversation: Conversation::new(keys.clone(), life, TOPIC), last: 0 });
        let known = node.conversation.has_peer();
        let is_request = |body: &[u8], _: bool| Ask::parse(body).is_some();
        let answer = match node.conversation.open(message, is_request) {
            Ok(opened) if !opened.new_life && opened.number <= node.last => return None,
            Ok(opened) => {
                node.last = opened.number;
                // What was kept back of the node's former lives names the present one of this conversation.
                if opened.new_life && known {
                    self.life = self.life.wrapping_add(1);
                    node.conversation.renew(self.life);
                }
                self.witness.ask(&Ask::parse(opened.body)?, now)
            }
            // Whoever introduces itself learns this life.
            Err(Refused::Stranger) => Answer { number: 0, granted: false, lease_ms: 0 },
            Err(_) => return None,
        };
        Some(node.conversation.seal(&answer.encode()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness;

    fn keys() -> Keys {
        Keys::new(&[[7; 32]])
    }

    /// A node, and what it seals.
    struct Asker(u64, witness::Asker, u64);

    impl Asker {
        fn new(node: u64, life: u64) -> Asker {
            Asker(node, witness::Asker::new(keys(), life), 0)
        }

        fn ask(&mut self, lease_ms: u32) -> Vec<u8> {
            self.2 += 1;
            self.1.seal(&Ask { number: self.2, node: self.0, lease_ms })
        }

        fn receive(&mut self, answer: Option<Vec<u8>>) -> Option<Answer> {
            self.1.open(&answer?)
        }

        fn introduce(&mut self, desk: &mut Desk) {
            let hello = self.ask(0);
            assert!(!self.receive(desk.answer(&hello, 20_000)).unwrap().granted);
        }
    }

    #[test]
    fn what_was_recorded_is_worth_nothing() {
        let mut desk = Desk::new(keys(), 99, Witness::new(0));
        let (mut one, mut two) = (Asker::new(1, 1000), Asker::new(2, 2000));
        one.introduce(&mut desk);
        two.introduce(&mut desk);
        let recorded = one.ask(8_000);
        let answered = desk.answer(&recorded, 20_000);
        assert!(one.receive(answered).unwrap().granted);
        assert_eq!(desk.answer(&recorded, 27_000), None, "nobody else prolongs the lease");
        let give_back = one.ask(0);
        let answered = desk.answer(&give_back, 20_001);
        assert!(!one.receive(answered).unwrap().granted);
        let again = one.ask(8_000);
        assert!(one.receive(desk.answer(&again, 20_002)).unwrap().granted);
        assert_eq!(desk.answer(&give_back, 20_003), None);
        // One that was kept back, and never heard, comes too late as well.
        let (kept_back, prolonged) = (one.ask(0), one.ask(8_000));
        assert!(one.receive(desk.answer(&prolonged, 20_004)).unwrap().granted);
        assert_eq!(desk.answer(&kept_back, 20_005), None);
        let other = two.ask(8_000);
        assert!(!two.receive(desk.answer(&other, 20_006)).unwrap().granted, "node 1 has it");
        assert_eq!(desk.holder(20_006), Some(1));
        let other = two.ask(8_000);
        assert!(two.receive(desk.answer(&other, 28_005)).unwrap().granted);
    }

    #[test]
    fn strangers_leave_no_trace() {
        let mut desk = Desk::new(keys(), 99, Witness::new(0));
        let mut foreign = Conversation::new(Keys::new(&[[8; 32]]), 5, TOPIC);
        for node in 0..200 {
            let ask = Ask { number: 1, node, lease_ms: 10 };
            assert_eq!(desk.answer(&foreign.seal(&ask.encode()), 20_000), None);
            assert_eq!(desk.answer(&ask.encode(), 20_000), None);
        }
        // What the nodes say to each other, sealed with the same key, is no request.
        let mut beats = Conversation::new(keys(), 5, 0);
        assert_eq!(desk.answer(&beats.seal(&[0; 64]), 20_000), None);
        assert!(desk.nodes.is_empty());
        for node in 0..200 {
            let hello = Asker::new(node, 1000 + node).ask(0);
            let _ = desk.answer(&hello, 20_000);
        }
        assert_eq!(desk.nodes.len(), NODES);
    }
}
