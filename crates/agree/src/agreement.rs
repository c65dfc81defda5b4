//! What two nodes say to each other about a commit, and what follows from it.

use crate::Millis;
use crate::past::{Head, Lineage, Past};

/// How long the other node may take to say whether it would commit.
pub const PATIENCE: Millis = 6_000;
/// A node that could not take what it was sent is sent it again after this time: a port may be free
/// by then, a file be there.
pub const AGAIN: Millis = 10_000;

/// How this node's configuration stands to the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Unknown,
    Same,
    /// The same text, to which each has come by a way of its own.
    SameTextOtherHistory,
    Ahead,
    Behind,
    /// Neither comes from the other.
    Differs,
}

#[derive(Clone, Debug)]
struct PeerHead {
    head: Head,
    lineage: Lineage,
}

impl PeerHead {
    /// It speaks version 1 of the link, where hashes of texts stand for steps.
    fn is_old(&self) -> bool {
        self.head.id == 0
    }
}

/// A commit that began here.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: u64,
    /// The step that it was made for.
    base: u64,
    /// It is done here, and the other node has been told.
    done: bool,
    until: Millis,
}

/// A commit of the other node's that this one has said it would take.
#[derive(Clone, Copy, Debug)]
struct Prepared {
    id: u64,
    base: u64,
    until: Millis,
}

/// What becomes of a commit that somebody asks for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The other node is away, or not in step: here alone.
    Alone,
    /// Another one is under way.
    Busy,
    /// Ask the other node first.
    Ask { id: u64 },
}

/// What a greeting of the other node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeted {
    Nothing,
    /// It is behind: send it the configuration.
    Send,
    /// The same text by another way, and its way is the one that is kept.
    Adopt,
    /// People have to decide.
    Differs,
}

/// The answer to what the other node asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitReply {
    /// Yes. This node's own commit, of which the other has heard nothing, is given up where there is
    /// one.
    Yes { gave_up: bool },
    /// It was made for a step that this node does not run.
    OtherBase,
    /// This node's own commit goes first.
    Busy,
}

/// What to do with the other node's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Nobody asked, or it is over.
    Late,
    GiveUp,
    /// What it was made for does not run any more.
    Changed,
    Commit,
}

/// Why the other node's word to commit is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfollowed {
    NotPrepared,
    Changed,
}

/// A commit whose other half nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing was changed.
    Undone,
    /// It is done here; the other node follows when it is back.
    Done,
}

#[derive(Clone, Debug, Default)]
pub struct Agreement {
    peer: Option<PeerHead>,
    pending: Option<Pending>,
    prepared: Option<Prepared>,
    /// The step that was sent, and the one that the other node ran then: one that cannot take it is
    /// not sent it at each greeting, but now and then.
    sent: Option<(u64, u64)>,
    again_at: Option<Millis>,
    last: u64,
}

impl Agreement {
    pub fn relation(&self, own: &Past) -> Relation {
        let Some(peer) = &self.peer else { return Relation::Unknown };
        if peer.is_old() {
            return match () {
                () if peer.head.text == own.text() => Relation::Same,
                () if own.lineage().texts.contains(&peer.head.text) => Relation::Ahead,
                () if peer.lineage.texts.contains(&own.text()) => Relation::Behind,
                () => Relation::Differs,
            };
        }
        match () {
            () if peer.head.id == own.id() => Relation::Same,
            () if own.lineage().steps.contains(&peer.head.id) => Relation::Ahead,
            () if peer.lineage.steps.contains(&own.id()) => Relation::Behind,
            () if peer.head.text == own.text() => Relation::SameTextOtherHistory,
            () => Relation::Differs,
        }
    }

    /// How the other node came to what it runs.
    pub fn peers_lineage(&self) -> Lineage {
        self.peer.as_ref().map(|peer| peer.lineage.clone()).unwrap_or_default()
    }

    /// What the other node knows this node's step by.
    pub fn base(&self, own: &Past) -> u64 {
        match &self.peer {
            Some(peer) if peer.is_old() => own.text(),
            _ => own.id(),
        }
    }

    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// A commit is asked for here.
    pub fn begin(&mut self, own: &Past, linked: bool, now: Millis) -> Begin {
        let promised = self.prepared.is_some_and(|p| now < p.until);
        if self.pending.is_some() || promised {
            return Begin::Busy;
        }
        match self.relation(own) {
            Relation::Same if linked => {}
            // In a moment one of them has the other's past.
            Relation::SameTextOtherHistory if linked => return Begin::Busy,
            _ => return Begin::Alone,
        }
        self.last += 1;
        self.pending = Some(Pending { id: self.last, base: own.id(), done: false, until: now + PATIENCE });
        Begin::Ask { id: self.last }
    }

    /// The other node says what it runs, and how it came to it.
    pub fn on_hello(&mut self, own: &Past, head: Head, lineage: Lineage) -> Greeted {
        self.peer = Some(PeerHead { head, lineage });
        self.compare(own)
    }

    /// What is to be done about what is known of the other node.
    pub fn compare(&mut self, own: &Past) -> Greeted {
        let Some(peer) = &self.peer else { return Greeted::Nothing };
        let sends = Some((own.id(), if peer.is_old() { peer.head.text } else { peer.head.id }));
        match self.relation(own) {
            Relation::Ahead if self.sent == sends => Greeted::Nothing,
            Relation::Ahead => {
                self.sent = sends;
                self.again_at = None;
                Greeted::Send
            }
            // Both choose alike.
            Relation::SameTextOtherHistory if own.id() < peer.head.id => Greeted::Adopt,
            Relation::Differs => Greeted::Differs,
            _ => Greeted::Nothing,
        }
    }

    /// What was sent and not taken is to be sent once more.
    pub fn is_due_again(&mut self, own: &Past, now: Millis) -> bool {
        if self.sent.is_none() || self.relation(own) != Relation::Ahead {
            self.again_at = None;
            return false;
        }
        let is_due = now >= *self.again_at.get_or_insert(now + AGAIN);
        if is_due {
            (self.sent, self.again_at) = (None, None);
        }
        is_due
    }

    /// Whether a configuration that the other node sends is taken: it comes after this node's, or
    /// somebody wants it so.
    pub fn on_configuration(&mut self, own: &Past, head: Head, lineage: Lineage, forced: bool) -> bool {
        let peer = PeerHead { head, lineage };
        let after = match peer.is_old() {
            true => peer.lineage.texts.contains(&own.text()),
            false => peer.lineage.steps.contains(&own.id()),
        };
        self.peer = Some(peer);
        forced || after
    }

    /// Whether this node takes the configuration that came with an invitation. It is as old as the invitation: one
    /// that is linked and in step, or is to be sent what is newer, has no use for it.
    pub fn takes_invitation(&self, own: &Past) -> bool {
        !matches!(self.relation(own), Relation::Same | Relation::Behind)
    }

    /// The other node asks whether this one would commit.
    pub fn on_ask(&mut self, own: &Past, active: bool, id: u64, base: u64, now: Millis) -> CommitReply {
        if base != self.base(own) {
            return CommitReply::OtherBase;
        }
        let base = own.id();
        let collides = self.pending.is_some_and(|p| !p.done);
        // Both edited the same step: the active node's edit is the one that goes on.
        if collides && active {
            return CommitReply::Busy;
        }
        if collides {
            self.pending = None;
        }
        self.prepared = Some(Prepared { id, base, until: now + PATIENCE });
        CommitReply::Yes { gave_up: collides }
    }

    /// What was prepared cannot be committed here after all.
    pub fn withdraw(&mut self, id: u64) {
        self.prepared.take_if(|p| p.id == id);
    }

    /// The other node answers.
    pub fn on_answer(&mut self, own: &Past, id: u64, refused: bool, now: Millis) -> Answered {
        let Some(pending) = self.pending.take_if(|p| p.id == id && !p.done) else { return Answered::Late };
        match () {
            () if refused => Answered::GiveUp,
            () if pending.base != own.id() => Answered::Changed,
            () => {
                self.pending = Some(Pending { done: true, until: now + PATIENCE, ..pending });
                Answered::Commit
            }
        }
    }

    /// The commit failed here: the other node is not told, and forgets it.
    pub fn failed(&mut self) {
        self.pending = None;
    }

    /// The other node has committed, and says so: this one follows.
    pub fn on_commit(&mut self, own: &Past, id: u64) -> Result<(), Unfollowed> {
        let prepared = self.prepared.take_if(|p| p.id == id).ok_or(Unfollowed::NotPrepared)?;
        if prepared.base == own.id() { Ok(()) } else { Err(Unfollowed::Changed) }
    }

    /// This node has followed the other one: both run the same now, as a greeting will say as well.
    pub fn followed(&mut self, own: &Past) {
        if let Some(peer) = &mut self.peer {
            let id = if peer.is_old() { 0 } else { own.id() };
            peer.head = Head { id, text: own.text(), ..peer.head };
        }
    }

    /// The other node has followed, or not; whether somebody here waits to hear it.
    pub fn on_committed(&mut self, own: &Past, id: u64, failed: bool) -> bool {
        let waits = self.pending.take_if(|p| p.id == id && p.done).is_some();
        if waits && !failed {
            self.followed(own);
        }
        waits
    }

    /// What the other node said of itself may have come before; nothing could be sent then.
    pub fn on_link_up(&mut self) {
        self.sent = None;
    }

    pub fn on_link_down(&mut self) -> Option<Settled> {
        self.peer = None;
        self.prepared = None;
        self.sent = None;
        self.settle()
    }

    /// The other node has taken too long.
    pub fn tick(&mut self, now: Millis) -> Option<Settled> {
        self.prepared.take_if(|p| now >= p.until);
        match self.pending {
            Some(pending) if now >= pending.until => self.settle(),
            _ => None,
        }
    }

    fn settle(&mut self) -> Option<Settled> {
        let pending = self.pending.take()?;
        Some(if pending.done { Settled::Done } else { Settled::Undone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_brings_nothing_back_that_a_linked_node_has_left() {
        let (mut agreement, own) = (Agreement::default(), ran(&[1, 2, 3]));
        assert!(agreement.takes_invitation(&own), "nothing is heard yet");
        let mut greet = |texts: &[u64]| {
            let peer = ran(texts);
            agreement.on_hello(&own, peer.head(1), peer.lineage().clone());
            agreement.takes_invitation(&own)
        };
        assert!(!greet(&[1, 2, 3]), "in step");
        assert!(!greet(&[1, 2, 3, 4]), "it is sent");
        assert!(greet(&[1, 2]), "who joins has the other's");
        assert!(greet(&[7]));
    }

    fn ran(texts: &[u64]) -> Past {
        let mut past = Past::default();
        texts.iter().for_each(|text| past.run(*text));
        past
    }

    /// As version 1 of the link says it: no steps.
    fn old(texts: &[u64]) -> (Head, Lineage) {
        let head = Head { revision: 1, id: 0, text: texts.last().copied().unwrap_or(0) };
        (head, Lineage { steps: Vec::new(), texts: texts.to_vec() })
    }

    #[test]
    fn a_peer_of_an_older_version_is_told_by_hashes_of_texts() {
        for (own, peer, relation) in [
            (&[1, 2][..], &[1, 2][..], Relation::Same),
            (&[1, 2, 3], &[1, 2], Relation::Ahead),
            (&[1], &[1, 2], Relation::Behind),
            (&[1, 3], &[1, 2], Relation::Differs),
        ] {
            let (own, mut agreement) = (ran(own), Agreement::default());
            let (head, lineage) = old(peer);
            let greeted = agreement.on_hello(&own, head, lineage);
            assert_eq!(agreement.relation(&own), relation);
            assert_eq!(greeted == Greeted::Send, relation == Relation::Ahead);
            assert_eq!(greeted == Greeted::Differs, relation == Relation::Differs);
        }
    }

    #[test]
    fn a_node_that_could_not_take_it_is_sent_it_again_later() {
        let (own, behind, mut agreement) = (ran(&[1, 2]), ran(&[1]), Agreement::default());
        let hello =
            |agreement: &mut Agreement| agreement.on_hello(&own, behind.head(1), behind.lineage().clone());
        assert_eq!(hello(&mut agreement), Greeted::Send);
        assert_eq!(hello(&mut agreement), Greeted::Nothing, "not at each greeting");
        assert!(!agreement.is_due_again(&own, 100));
        assert!(!agreement.is_due_again(&own, 100 + AGAIN - 1));
        assert!(agreement.is_due_again(&own, 100 + AGAIN));
        assert_eq!(agreement.compare(&own), Greeted::Send);
        // It has taken it: nothing is due any more.
        agreement.followed(&own);
        assert_eq!(agreement.relation(&own), Relation::Same);
        assert!(!agreement.is_due_again(&own, 100 + 5 * AGAIN));
    }

    #[test]
    fn commits_go_both_ways_between_two_versions() {
        let (own, mut agreement) = (ran(&[1, 2]), Agreement::default());
        let (head, lineage) = old(&[1, 2]);
        agreement.on_hello(&own, head, lineage);
        assert_eq!(agreement.begin(&own, true, 0), Begin::Ask { id: 1 });
        assert_eq!(agreement.base(&own), 2, "it knows this node's step by its text");
        assert_eq!(agreement.on_answer(&own, 1, false, 1), Answered::Commit);
        let own = ran(&[1, 2, 3]);
        assert!(agreement.on_committed(&own, 1, false));
        assert_eq!(agreement.relation(&own), Relation::Same);
        assert_eq!(agreement.on_ask(&own, true, 7, 9, 2), CommitReply::OtherBase);
        assert_eq!(agreement.on_ask(&own, true, 7, 3, 2), CommitReply::Yes { gave_up: false });
        assert_eq!(agreement.on_commit(&own, 7), Ok(()));
        // One that is away and comes back further on.
        let (head, lineage) = old(&[1, 2, 3, 4]);
        assert!(agreement.on_configuration(&own, head, lineage, false));
        let (head, lineage) = old(&[8, 9]);
        assert!(!agreement.on_configuration(&own, head, lineage, false));
    }
}
