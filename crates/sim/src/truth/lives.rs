//! How nodes of a made-up world die, begin anew, and are replaced.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them.

use super::beat::Role;
use super::election::{Election, Settings};
use super::node::Life;
use super::pace::Pace;
use super::seal::{Keys, Memory};
use super::world::{BOUNDS, DEAD, EVERY, Happens, JOIN, KEY, World};

type Millis = u64;

impl World {
    pub(super) fn kill(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        // A frozen process that is killed has lost its addresses already; what it said is old.
        let words = node.last_words.take().filter(|_| node.holds);
        node.life = Life::Dead;
        node.inbox.clear();
        if let Some(words) = words {
            // It ends connections and takes the addresses away before.
            let busy = if self.chance.percent(10) { self.chance.below(200) } else { 0 };
            let when = self.now + 1 + self.chance.below(10) + busy;
            self.at(when, Happens::LastWords(at, words));
        }
    }

    pub(super) fn restart(&mut self, at: usize) {
        let drift = self.nodes[at].drift;
        let mut node = self.new_node(at, self.now);
        // The machine's clock goes on.
        node.drift = drift;
        node.offset = self.nodes[at].offset;
        let local = self.now + node.offset + self.now / drift;
        let settings = Settings { every_ms: EVERY, dead_ms: DEAD, ..node.election.settings().clone() };
        node.election = Election::new(settings, local);
        node.pace = self.adaptive.then(|| Pace::new(BOUNDS, local));
        self.nodes[at] = node;
        self.excuse(JOIN + 2 * DEAD);
        self.at(self.now, Happens::Wakes(at));
    }

    /// A node that begins anew without the pair's key: it is held until it has joined.
    pub(super) fn lose_key(&mut self, at: usize) {
        self.kill(at);
        self.restart(at);
        let now = self.local(at);
        let node = &mut self.nodes[at];
        node.keyed = false;
        node.peer.set_keys(Keys::new(&[]));
        node.witness.set_keys(Keys::new(&[]));
        node.election.hold(true, now);
    }

    pub(super) fn get_key(&mut self, at: usize) {
        let now = self.local(at);
        let node = &mut self.nodes[at];
        node.keyed = true;
        node.peer.set_keys(Keys::new(&[KEY]));
        node.witness.set_keys(Keys::new(&[KEY]));
        node.election.rejoin(now);
        self.excuse(JOIN + 2 * DEAD);
    }

    /// The next process of the same node: the peer sees one life, and the addresses stay.
    pub(super) fn replace(&mut self, at: usize, takes: Millis) {
        let before = &self.nodes[at];
        let (memory, role) = (before.peer.memory(), before.election.role());
        let vouched = before.election.vouched_until();
        let (drift, offset, holds, keyed) = (before.drift, before.offset, before.holds, before.keyed);
        if role == Role::Joining || !keyed {
            return;
        }
        let (trouble, settings) = (before.trouble, before.election.settings().clone());
        let mut node = self.new_node(at, self.now);
        let local = self.now + offset + self.now / drift;
        node.election = Election::new(Settings { every_ms: EVERY, dead_ms: DEAD, ..settings }, local);
        node.pace = self.adaptive.then(|| Pace::new(BOUNDS, local));
        node.peer.resume(Memory { number: memory.number + 1_000, ..memory });
        node.election.resume(if role == Role::Active { role } else { Role::Passive }, vouched, local);
        (node.drift, node.offset, node.holds, node.trouble) = (drift, offset, holds, trouble);
        if holds {
            node.announcements.begin(local);
        }
        // What comes meanwhile is for nobody.
        (node.life, node.frozen_at) = (Life::Frozen, self.now);
        self.nodes[at] = node;
        self.excuse(takes + DEAD + EVERY);
        self.last_fault = self.last_fault.max(self.now + takes);
        self.at(self.now + takes, Happens::Goes(at));
    }
}
