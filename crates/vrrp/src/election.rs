//! The election between two nodes.
//!
//! A node is active because the other one let it (a promise, or a hand-over), or because the other
//! one is silent on every way. A promise says that its maker will not become active for a while; it
//! is counted from a moment before it was made, on the clock of who relies on it, so that no two
//! clocks need to agree. With a witness, being active always rests on a promise of the other node
//! or a lease of the witness, and ends with it.

use std::collections::VecDeque;

use crate::Millis;
use crate::beat::{Beat, Fitness, Role, age_ms};
use crate::reach;
use crate::witness::{Answer, Ask};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub node: u64,
    pub priority: u8,
    /// Between two beats.
    pub every_ms: Millis,
    /// Silence on all ways for so long means that the other one is dead.
    pub dead_ms: Millis,
    /// How long a node that starts listens before it acts.
    pub join_ms: Millis,
    /// The node of the higher priority takes over whenever it can.
    pub failback: bool,
    /// Without a witness, silence of the peer makes this node active.
    pub takes_over_alone: bool,
    /// Leases that a witness is asked for.
    pub witness_lease_ms: Option<u32>,
}

/// Why a role changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    Started,
    /// The other one is silent on every way.
    PeerSilent,
    /// It was given up for this node.
    HandedOver,
    /// The other one's process has ended.
    PeerDied,
    /// Nobody was active, and the other one agreed.
    Agreed,
    /// Both were active, and the other one stays so.
    BothActive,
    /// The other one asked, because it is fitter or somebody wanted it so.
    Asked,
    /// A person or the end of the program.
    Told,
    /// This process did not run for so long that the other one has taken over.
    DidNotRun,
    /// Neither the peer nor the witness vouches for this node.
    NoQuorum,
    PeerActive,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Started => "started",
            Why::PeerSilent => "the peer is silent on every path",
            Why::HandedOver => "the peer handed over",
            Why::PeerDied => "the peer's daemon has died",
            Why::Agreed => "no node was active and the peer agreed",
            Why::BothActive => "both nodes were active and the peer stays active",
            Why::Asked => "the peer asked to be active",
            Why::Told => "switched over by command",
            Why::DidNotRun => "this process did not run for a while",
            Why::NoQuorum => "neither the peer nor the witness vouches for this node",
            Why::PeerActive => "the peer is active",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Became(Role, Why),
    PeerFound,
    PeerLost,
    /// Both nodes are active.
    SplitBrain,
    SplitBrainOver,
    /// The peer was active while this node was, and had given up when it was heard.
    PeerWasActive,
}

/// What is known of the other node.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub beat: Beat,
    pub heard_at: Millis,
}

pub struct Election {
    settings: Settings,
    role: Role,
    role_since: Millis,
    trouble: u16,
    /// A path is silent while another is not.
    doubts: bool,
    wants_dead_ms: u16,
    /// It is being found out what this node still reaches.
    undecided: bool,
    /// Stays passive until told otherwise.
    held: bool,
    /// Somebody told this node to become active.
    wanted: bool,
    /// Somebody gave the role to the peer: it does not go back to the fitter node by itself while the peer is there.
    given: bool,
    last_tick: Millis,
    join_until: Millis,
    peer: Option<Peer>,
    peer_alive: bool,
    /// Silence counts from here at the earliest.
    silent_from: Millis,
    /// The other one will not become active before.
    peer_promise_until: Millis,
    /// This node will not.
    promised_until: Millis,
    handing_over_until: Millis,
    /// What the other one said before it heard this of this node was meant for an active one.
    gave_up_with: u64,
    /// Somebody else answers for the addresses; no takeover before.
    retreat_until: Millis,
    /// No voluntary change before.
    calm_until: Millis,
    witness_until: Millis,
    asked: VecDeque<(u64, Millis)>,
    ask_number: u64,
    ask_at: Millis,
    beat_at: Millis,
    sent: VecDeque<(u64, Millis)>,
    /// The last beat asked for the role.
    sent_asks: bool,
    split_since: Option<Millis>,
    /// How often this node has become active, and the peer by its last beat.
    takeovers: u32,
    peer_takeovers: Option<u32>,
    events: Vec<Event>,
}

/// Beats whose time of sending is known.
const SENT: usize = 256;
/// A voluntary change is followed by at least so many spans of silence without another.
const CALM: Millis = 10;

impl Election {
    pub fn new(settings: Settings, now: Millis) -> Election {
        Election {
            role: Role::Joining,
            role_since: now,
            trouble: 0,
            doubts: false,
            wants_dead_ms: 0,
            undecided: false,
            held: false,
            wanted: false,
            given: false,
            last_tick: now,
            join_until: now + settings.join_ms.max(settings.dead_ms * 2),
            peer: None,
            peer_alive: false,
            silent_from: now,
            peer_promise_until: 0,
            promised_until: 0,
            handing_over_until: 0,
            gave_up_with: 0,
            retreat_until: 0,
            calm_until: 0,
            witness_until: 0,
            asked: VecDeque::new(),
            ask_number: 0,
            ask_at: now,
            beat_at: now,
            sent: VecDeque::new(),
            sent_asks: false,
            split_since: None,
            takeovers: 0,
            peer_takeovers: None,
            events: Vec::new(),
            settings,
        }
    }

    /// Until when the peer or the witness vouches for this node.
    pub fn vouched_until(&self) -> Millis {
        self.peer_promise_until.max(self.witness_until)
    }

    /// Goes on in the role that another process of this node had a moment ago, with what vouched for it.
    pub fn resume(&mut self, role: Role, vouched_until: Millis, now: Millis) {
        (self.role, self.role_since) = (role, now);
        if role == Role::Active {
            self.witness_until = vouched_until;
        }
        // Neither is known here: whether somebody put the role where it is, and what was promised.
        self.given = role == Role::Passive;
        self.promised_until = now + self.settings.dead_ms;
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn role_since(&self) -> Millis {
        self.role_since
    }

    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    pub fn peer_alive(&self) -> bool {
        self.peer_alive
    }

    /// How long the peer, which was heard before, has not been.
    pub fn silent_for(&self, now: Millis) -> Option<Millis> {
        self.peer.as_ref().map(|p| now.saturating_sub(p.heard_at))
    }

    /// On one of the paths between the nodes one of them does not hear the other, or did not a moment ago.
    pub fn is_a_path_in_doubt(&self) -> bool {
        self.doubts || self.peer.as_ref().is_some_and(|p| p.beat.doubts)
    }

    pub fn is_split(&self) -> bool {
        self.split_since.is_some()
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn fitness(&self) -> Fitness {
        let trouble = if self.held { u16::MAX } else { self.trouble };
        Fitness { trouble, priority: self.settings.priority, node: self.settings.node }
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    // What people and the machine say

    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub fn set_trouble(&mut self, trouble: u16) {
        let trouble = trouble.min(u16::MAX - 1);
        if trouble != self.trouble {
            self.trouble = trouble;
            // The other node is to know at once.
            self.beat_at = self.last_tick;
        }
    }

    /// How often beats are sent and without how many the peer is dead, as both have agreed by what they have
    /// measured (see [`crate::pace::Pace`]), and what the peer is told.
    pub fn set_pace(&mut self, every_ms: Millis, dead_ms: Millis, wants_dead_ms: Millis) {
        self.settings.every_ms = every_ms;
        self.settings.dead_ms = dead_ms;
        self.wants_dead_ms = u16::try_from(wants_dead_ms).unwrap_or(u16::MAX);
    }

    /// What is known of the paths (see [`reach::Reach`]): whether one is silent, and whether it is not known
    /// yet how much this node still reaches.
    pub fn set_doubts(&mut self, doubts: bool, undecided: bool) {
        (self.doubts, self.undecided) = (doubts, undecided);
    }

    /// Held nodes stay passive even when alone.
    pub fn hold(&mut self, held: bool, now: Millis) {
        self.held = held;
        self.given = false;
        if held && self.role == Role::Active {
            self.give_up(Why::Told, now);
        }
    }

    /// Listens first, as after a start: what was silent until now may have been deafness.
    pub fn rejoin(&mut self, now: Millis) {
        self.held = false;
        self.silent_from = now;
        if self.role != Role::Active {
            (self.role, self.role_since) = (Role::Joining, now);
            self.join_until = now + self.settings.join_ms.max(self.settings.dead_ms * 2);
        }
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The other node shall be active; false where it cannot.
    pub fn give_to_peer(&mut self, now: Millis) -> bool {
        let can = self.role == Role::Active && self.peer_can_serve();
        if can {
            self.give_up(Why::Told, now);
            self.given = true;
        }
        can
    }

    /// This node shall be active; false where it is held.
    pub fn want(&mut self) -> bool {
        self.wanted = !self.held && self.role != Role::Active;
        self.wanted
    }

    /// Takes back becoming active a moment ago: the addresses are in use. Tried again at `until`.
    pub fn retreat(&mut self, until: Millis, now: Millis) {
        if self.role == Role::Active {
            (self.role, self.role_since) = (Role::Passive, now);
            self.takeovers = self.takeovers.wrapping_sub(1);
            self.retreat_until = until;
            self.beat_at = now;
        }
    }

    fn peer_can_serve(&self) -> bool {
        self.peer_alive
            && self.peer.as_ref().is_some_and(|p| {
                p.beat.role == Role::Passive && p.beat.fitness.trouble < u16::MAX && self.hears_us(&p.beat)
            })
    }

    fn hears_us(&self, beat: &Beat) -> bool {
        beat.heard > 0 && Millis::from(beat.heard_age_ms) < self.settings.dead_ms
    }

    // Messages

    /// A beat of the other node, believed and in any order.
    pub fn receive(&mut self, beat: Beat, new_life: bool, now: Millis) {
        if new_life {
            self.peer = None;
            self.peer_promise_until = 0;
            self.peer_takeovers = None;
        }
        if self.peer.as_ref().is_some_and(|p| beat.number <= p.beat.number) {
            return;
        }
        // It was sent after this node's beat that it names, by what it says of its own waiting.
        let sent_at = self.sent.iter().find(|(number, _)| *number == beat.heard).map(|(_, at)| *at);
        let made_after = sent_at.map(|at| at + Millis::from(beat.heard_age_ms));
        // Of one that hears this node, that moment is near the true one: it tells late beats.
        if self.hears_us(&beat) && made_after.is_some_and(|at| now.saturating_sub(at) > self.settings.dead_ms)
        {
            return;
        }
        let answers = beat.heard >= self.gave_up_with;
        if let Some(at) = made_after.filter(|_| beat.promise_ms > 0 && answers) {
            self.peer_promise_until = self.peer_promise_until.max(at + Millis::from(beat.promise_ms));
        }
        if !self.peer_alive {
            self.peer_alive = true;
            self.events.push(Event::PeerFound);
            // It knows of this node as soon as it can.
            self.beat_at = now;
        }
        if beat.role == Role::Active || beat.hands_over {
            self.handing_over_until = 0;
        }
        let beat = Beat { hands_over: beat.hands_over && answers, ..beat };
        let known = self.peer_takeovers.replace(beat.takeovers);
        // A process that was replaced counts from zero again.
        let took_over = beat.takeovers > 0 && known.is_some_and(|known| known != beat.takeovers);
        if took_over && self.role == Role::Active && beat.role != Role::Active {
            self.events.push(Event::PeerWasActive);
        }
        self.peer = Some(Peer { beat, heard_at: now });
        match self.role {
            Role::Active => self.hear_as_active(&beat, now),
            Role::Joining if beat.role == Role::Active => self.become_passive(Why::PeerActive, now),
            Role::Joining | Role::Passive => {
                self.consider(now);
                if !self.sent_asks && self.asks(now) {
                    self.beat_at = now;
                }
            }
        }
        let split = self.role == Role::Active && beat.role == Role::Active;
        if !split && self.split_since.take().is_some() {
            self.events.push(Event::SplitBrainOver);
        }
    }

    fn hear_as_active(&mut self, beat: &Beat, now: Millis) {
        if beat.role == Role::Active {
            let since = *self.split_since.get_or_insert_with(|| {
                self.events.push(Event::SplitBrain);
                self.beat_at = now;
                now
            });
            // One that cannot hear would never give way.
            let deaf = !self.hears_us(beat) && now.saturating_sub(since) >= self.settings.dead_ms;
            if deaf || beat.fitness.beats(&self.fitness()) {
                self.give_up(Why::BothActive, now);
            }
        } else if beat.asks && now >= self.calm_until && self.peer_can_serve() {
            // One that is not fitter asks because somebody wanted it.
            let wanted = !beat.fitness.beats(&self.fitness());
            self.give_up(Why::Asked, now);
            self.given = wanted;
        }
    }

    /// The next beat, if it is time for one.
    pub fn poll_beat(&mut self, number: u64, heard: u64, revision: u64, now: Millis) -> Option<Beat> {
        if now < self.beat_at {
            return None;
        }
        self.beat_at = now + self.settings.every_ms;
        let (heard_at, peer) = match &self.peer {
            Some(peer) => (peer.heard_at, Some(peer.beat)),
            None => (0, None),
        };
        let handing_over = self.role == Role::Passive && now < self.handing_over_until;
        let asks = self.asks(now);
        let lets = peer.is_some_and(|p| {
            p.role == Role::Active || handing_over || (p.asks && (!asks || p.fitness.beats(&self.fitness())))
        });
        let promise_ms = match self.role {
            Role::Passive if self.peer_alive && lets => {
                (heard_at + self.settings.dead_ms).saturating_sub(now)
            }
            Role::Joining if self.peer_alive => {
                (heard_at + self.settings.dead_ms).min(self.join_until).saturating_sub(now)
            }
            _ => 0,
        };
        self.promised_until = self.promised_until.max(now + promise_ms);
        self.sent_asks = asks;
        self.sent.push_back((number, now));
        if self.sent.len() > SENT {
            self.sent.pop_front();
        }
        Some(Beat {
            role: self.role,
            fitness: self.fitness(),
            hands_over: handing_over,
            asks,
            doubts: self.doubts,
            died: false,
            wants_dead_ms: self.wants_dead_ms,
            promise_ms: promise_ms as u32,
            number,
            heard: if peer.is_some() { heard } else { 0 },
            heard_age_ms: age_ms(heard_at, now),
            revision,
            takeovers: self.takeovers,
        })
    }

    /// The beat that is to be sent once this process has ended, by something that outlives it and has taken
    /// the addresses away. It hands over, and promises what a process that is gone keeps: its successor listens
    /// for at least that long before it acts. `None` where nobody could take over, or nothing is to be handed.
    pub fn last_words(&self, number: u64, heard: u64, revision: u64, now: Millis) -> Option<Beat> {
        let peer = self.peer.as_ref().filter(|_| self.role == Role::Active && self.peer_can_serve())?;
        Some(Beat {
            role: Role::Passive,
            fitness: Fitness { trouble: u16::MAX, ..self.fitness() },
            hands_over: true,
            asks: false,
            doubts: self.doubts,
            died: true,
            wants_dead_ms: self.wants_dead_ms,
            promise_ms: (self.settings.dead_ms * 2) as u32,
            number,
            heard,
            heard_age_ms: age_ms(peer.heard_at, now),
            revision,
            takeovers: self.takeovers,
        })
    }

    pub fn next_beat_at(&self) -> Millis {
        self.beat_at
    }

    /// This node wants to be active although another is, or is the one to be where none is.
    fn asks(&self, now: Millis) -> bool {
        let Some(peer) = &self.peer else { return false };
        if self.role != Role::Passive || self.held {
            return false;
        }
        if self.wanted {
            return true;
        }
        let (own, other) = (self.fitness(), peer.beat.fitness);
        // Until it knows, a node takes it that it reaches nobody.
        let own = Fitness { trouble: own.trouble.saturating_add(self.worst_doubt()), ..own };
        match peer.beat.role {
            _ if now < self.handing_over_until => false,
            Role::Active if now < self.calm_until => false,
            Role::Active => {
                own.trouble < other.trouble || (self.settings.failback && !self.given && own.beats(&other))
            }
            // It cannot serve yet, and nobody else does.
            Role::Joining => true,
            Role::Passive => own.beats(&other),
        }
    }

    fn worst_doubt(&self) -> u16 {
        let active = self.peer.is_some_and(|p| p.beat.role == Role::Active);
        if self.undecided && active { reach::WORST } else { 0 }
    }

    // Time

    pub fn tick(&mut self, now: Millis) {
        let missed = now.saturating_sub(self.last_tick);
        self.last_tick = now;
        if missed > self.settings.dead_ms / 2 {
            // What was not heard while this process did not run is no silence.
            self.silent_from = now;
        }
        if self.peer_alive && self.silence(now) >= self.settings.dead_ms {
            self.peer_alive = false;
            self.given = false;
            self.events.push(Event::PeerLost);
            if self.split_since.take().is_some() {
                self.events.push(Event::SplitBrainOver);
            }
        }
        match self.role {
            Role::Active if missed >= self.settings.dead_ms => self.give_up(Why::DidNotRun, now),
            Role::Active if !self.may_stay(now) => self.give_up(Why::NoQuorum, now),
            Role::Active => {}
            Role::Joining if now >= self.join_until => self.become_passive(Why::Started, now),
            Role::Joining => {}
            Role::Passive => self.consider(now),
        }
    }

    fn silence(&self, now: Millis) -> Millis {
        let heard_at = self.peer.as_ref().map_or(0, |p| p.heard_at);
        now.saturating_sub(heard_at.max(self.silent_from))
    }

    /// With a witness somebody else must vouch for an active node.
    fn may_stay(&self, now: Millis) -> bool {
        self.settings.witness_lease_ms.is_none() || now < self.stays_until()
    }

    /// Somewhat before what vouches for this node ends: timers may be late.
    fn stays_until(&self) -> Millis {
        self.peer_promise_until.max(self.witness_until).saturating_sub(self.settings.dead_ms / 5)
    }

    /// Whether a passive node becomes active.
    fn consider(&mut self, now: Millis) {
        if self.role != Role::Passive || self.held || now < self.retreat_until {
            return;
        }
        let vouched = now + self.settings.dead_ms / 5 < self.peer_promise_until;
        let handed = self.peer.is_some_and(|p| self.peer_alive && p.beat.hands_over);
        if handed && vouched {
            // What this node has promised was for the one that gives up, and is bound itself now.
            let died = self.peer.is_some_and(|p| p.beat.died);
            return self.become_active(if died { Why::PeerDied } else { Why::HandedOver }, now);
        }
        if now < self.promised_until {
            return;
        }
        let Some(peer) = self.peer.filter(|_| self.peer_alive) else {
            let vouched = match self.settings.witness_lease_ms {
                Some(_) => now < self.stays_until(),
                None => self.settings.takes_over_alone,
            };
            if vouched && self.silence(now) >= self.settings.dead_ms {
                self.become_active(Why::PeerSilent, now);
            }
            return;
        };
        if peer.beat.role != Role::Active && vouched && self.asks(now) {
            self.become_active(Why::Agreed, now);
        }
    }

    fn become_active(&mut self, why: Why, now: Millis) {
        (self.role, self.role_since) = (Role::Active, now);
        self.takeovers = self.takeovers.wrapping_add(1);
        (self.wanted, self.given) = (false, false);
        self.handing_over_until = 0;
        self.calm_until = now + CALM * self.settings.dead_ms;
        self.beat_at = now;
        self.ask_at = now;
        self.events.push(Event::Became(Role::Active, why));
    }

    fn become_passive(&mut self, why: Why, now: Millis) {
        (self.role, self.role_since) = (Role::Passive, now);
        self.beat_at = now;
        self.events.push(Event::Became(Role::Passive, why));
    }

    fn give_up(&mut self, why: Why, now: Millis) {
        if matches!(why, Why::Told | Why::Asked) {
            self.handing_over_until = now + self.settings.dead_ms;
        }
        self.gave_up_with = self.sent.back().map_or(0, |(number, _)| number + 1);
        self.peer_promise_until = 0;
        self.wanted = false;
        self.calm_until = now + CALM * self.settings.dead_ms;
        // A lease of the witness that is not needed any more is given back by not prolonging it.
        self.become_passive(why, now);
    }

    // The witness

    /// The next question to the witness, if it is time for one.
    pub fn poll_ask(&mut self, now: Millis) -> Option<Ask> {
        let lease_ms = self.settings.witness_lease_ms?;
        let alone =
            self.role == Role::Passive && !self.peer_alive && !self.held && now >= self.promised_until;
        if now < self.ask_at || !(self.role == Role::Active || alone) {
            return None;
        }
        self.ask_at = now + Millis::from(lease_ms) / 5;
        self.ask_number += 1;
        self.asked.push_back((self.ask_number, now));
        if self.asked.len() > 16 {
            self.asked.pop_front();
        }
        Some(Ask { number: self.ask_number, node: self.settings.node, lease_ms })
    }

    pub fn hear_witness(&mut self, answer: &Answer, now: Millis) {
        let asked_at = self.asked.iter().find(|(number, _)| *number == answer.number).map(|(_, at)| *at);
        let Some(asked_at) = asked_at.filter(|_| answer.granted) else { return };
        // Never more than was asked for.
        let lease_ms = answer.lease_ms.min(self.settings.witness_lease_ms.unwrap_or(0));
        self.witness_until = self.witness_until.max(asked_at + Millis::from(lease_ms));
        self.consider(now);
    }

    pub fn witness_until(&self) -> Millis {
        self.witness_until
    }

    /// When something may have to be done next.
    pub fn next_at(&self, now: Millis) -> Millis {
        let mut next = self.beat_at.min(self.last_tick + (self.settings.dead_ms / 4).max(1));
        if self.role == Role::Passive && self.peer_alive {
            let heard_at = self.peer.as_ref().map_or(0, |p| p.heard_at).max(self.silent_from);
            next = next.min(heard_at + self.settings.dead_ms);
        }
        if self.role == Role::Active && self.settings.witness_lease_ms.is_some() {
            next = next.min(self.stays_until());
        }
        next.max(now)
    }

    /// What is always so.
    pub fn check_invariants(&self, now: Millis) {
        if self.role == Role::Active {
            assert!(!self.held, "a held node is active");
        }
        assert!(self.role_since <= now && self.last_tick <= now);
    }
}

#[cfg(test)]
mod tests;
