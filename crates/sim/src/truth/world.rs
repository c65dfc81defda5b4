//! Two nodes, maybe a witness, and what lies between them. Everything that happens follows from a
//! seed: start times, losses, delays, copies, partitions, freezes, deaths, an attacker.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::announce::Announcements;
use super::beat::{Beat, Role};
use super::chance::Chance;
use super::clients::Clients;
use super::election::{Election, Event, Settings, Why};
use super::node::{Life, Node, Packet, WAYS};
use super::pace::{Bounds, Pace};
use super::plan::{FAULTS_END, Fault, START, WITNESS, plan};
use super::reach::Reach;
use super::seal::{Conversation, Keys, Refused};
use super::witness::{Answer, Ask, Asker, Witness};

type Millis = u64;

pub const EVERY: Millis = 50;
pub const DEAD: Millis = 150;
pub const JOIN: Millis = 400;
/// After so much silence of the daemon its guard takes the addresses away.
const GUARD: Millis = 250;
const LEASE: u32 = 200;
/// Nobody may have the addresses for no longer than this after the last fault.
pub const UNOWNED: Millis = 1_200;
const END: Millis = FAULTS_END + 4_000;
pub const BOUNDS: Bounds =
    Bounds { shortest_dead_ms: 40, longest_dead_ms: DEAD, longest_every_ms: EVERY, learn_ms: 1_000 };
pub const KEY: [u8; 32] = [42; 32];

/// Seeds that broke a rule once. A takeover of which no beat was heard was not announced over: the first six. A node
/// whose port heals first took the role: the seventh. The others were mistakes of this world: a role that went back to
/// the fitter node was laid on a process that was replaced, and a node without the key was to vouch for the other, and an
/// attacker was blamed for five milliseconds, and the silence of a lossy network was forgotten as soon as a process did
/// not run for a moment, and a node waited longer than the daemon's thread does for what vouched for it to end.
pub const FOUND: [u64; 16] = [
    37_021, 39_383, 61_866, 117_198, 161_114, 173_773, 182_917, 26_248, 52_584, 76_528, 113_424, 151_584,
    253_886, 525_176, 717_917, 2_156_769,
];

#[derive(Clone, Debug)]
pub(super) enum Happens {
    Arrives(Packet),
    Wakes(usize),
    /// Something that came has made a moment of a node earlier than the one that it waits for.
    Looks(usize),
    Fault(Fault),
    Attack,
    /// A process that was replaced goes on.
    Goes(usize),
    /// The guard of a node that has died tells the other one.
    LastWords(usize, Vec<u8>),
    /// The machines that a node has asked whether it reaches them have answered, or have not.
    Round(usize),
}

pub struct World {
    pub(super) chance: Chance,
    pub(super) attacker: Chance,
    pub(super) now: Millis,
    pub(super) order: u64,
    pub(super) queue: BinaryHeap<Reverse<(Millis, u64, usize)>>,
    events: Vec<Option<Happens>>,
    pub(super) nodes: Vec<Node>,
    pub(super) with_witness: bool,
    pub(super) healthy: bool,
    pub(super) failback: bool,
    pub(super) adaptive: bool,
    pub(super) witness: Option<(Witness, [Conversation; 2])>,
    /// Until when each direction of each way is cut.
    pub(super) cut: [[[Millis; WAYS]; 3]; 3],
    pub(super) loss: (u64, Millis),
    pub(super) delay: Millis,
    pub(super) recorded: Vec<Packet>,
    pub(super) last_fault: Millis,
    /// Since then each direction has carried beats well.
    pub(super) heard_at: [Millis; 2],
    /// When that was looked at last, and which nodes ran then.
    pub(super) looked_at: (Millis, [bool; 2]),
    pub(super) excused_until: Millis,
    pub(super) one_deaf_since: Option<Millis>,
    pub(super) long_deaf_at: Millis,
    pub(super) two_until: Millis,
    pub(super) unowned_since: Option<Millis>,
    /// Until when each node's port is dead.
    pub(super) port_dead: [Millis; 2],
    pub(super) fault_at: Millis,
    /// When a port last died, and when one was dead and the other was not.
    pub(super) port_at: Millis,
    pub(super) unequal_at: Millis,
    pub(super) misplaced_since: Option<Millis>,
    pub(super) needless: Option<String>,
    pub(super) clients: Clients,
    /// Who was active when a process was replaced in a world where nothing else happened, and until when that stays.
    pub(super) replaced: Option<(usize, Millis)>,
    /// Roles, for a comparison with the same world without an attacker.
    pub history: Vec<(Millis, usize, &'static str)>,
    pub trace: Option<Vec<String>>,
}

/// What went wrong in a world.
#[derive(Debug)]
pub struct Broken {
    pub seed: u64,
    pub at: Millis,
    pub what: String,
}

/// Plays one seed to its end.
pub fn play(seed: u64, attacked: bool) -> Result<World, Broken> {
    play_traced(seed, attacked, false)
}

/// What is wrong with a seed's world, an attacker's traces among it.
pub fn broken(seed: u64) -> Option<String> {
    let attacked = match play(seed, true) {
        Ok(world) => world,
        Err(broken) => return Some(format!("{} ms: {}", broken.at, broken.what)),
    };
    // Every eighth world is healthy: there no role may change otherwise. Times may differ by a beat: an introduction that
    // is played back can only spare its true sender the way to the witness and back.
    if seed.is_multiple_of(8) {
        return match play(seed, false) {
            Ok(calm) if is_alike(&calm.history, &attacked.history) => None,
            Ok(_) => Some("forged and replayed messages changed something".into()),
            Err(broken) => Some(format!("without an attacker, {} ms: {}", broken.at, broken.what)),
        };
    }
    None
}

fn is_alike(one: &[(Millis, usize, &str)], other: &[(Millis, usize, &str)]) -> bool {
    let near =
        |((at, node, role), (other_at, other_node, other_role)): (&(Millis, _, _), &(Millis, _, _))| {
            at.abs_diff(*other_at) <= EVERY && (node, role) == (other_node, other_role)
        };
    one.len() == other.len() && one.iter().zip(other).all(near)
}

pub fn play_traced(seed: u64, attacked: bool, traced: bool) -> Result<World, Broken> {
    let mut world = World::new(seed, attacked);
    world.trace = traced.then(|| vec![world.in_words()]);
    let result = world.run();
    if let Some(trace) = &world.trace {
        trace.iter().for_each(|line| println!("{line}"));
    }
    match result {
        Ok(()) => Ok(world),
        Err(what) => Err(Broken { seed, at: world.now, what }),
    }
}

impl World {
    fn new(seed: u64, attacked: bool) -> World {
        let mut chance = Chance::new(seed);
        let with_witness = chance.percent(40);
        let failback = chance.percent(30);
        let delay = 1 + chance.below(8);
        let adaptive = chance.percent(50);
        let mut world = World {
            attacker: Chance::new(seed ^ 0xa77a_c4e2),
            now: START - 1_000,
            order: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            nodes: Vec::new(),
            with_witness,
            healthy: seed.is_multiple_of(8),
            failback,
            adaptive,
            witness: None,
            cut: Default::default(),
            loss: (if chance.percent(30) && !seed.is_multiple_of(8) { chance.below(8) } else { 0 }, END),
            delay,
            recorded: Vec::new(),
            last_fault: START,
            heard_at: [START; 2],
            looked_at: (START - 1_000, [false; 2]),
            excused_until: START + 1_500,
            one_deaf_since: None,
            long_deaf_at: 0,
            two_until: 0,
            unowned_since: None,
            port_dead: [0; 2],
            fault_at: START,
            port_at: 0,
            unequal_at: START,
            misplaced_since: None,
            needless: None,
            clients: Clients::default(),
            replaced: None,
            history: Vec::new(),
            trace: None,
            chance,
        };
        if with_witness {
            world.start_witness(0);
        }
        for at in 0..2 {
            let node = world.new_node(at, START);
            world.nodes.push(node);
            world.nodes[at].life = Life::Dead;
            let start = START - 500 + world.chance.below(900);
            world.at(start, Happens::Fault(Fault::Start(at)));
        }
        for (when, fault) in plan(&mut world.chance, world.healthy, with_witness) {
            world.at(when, Happens::Fault(fault));
        }
        if attacked {
            for _ in 0..40 {
                let when = START + world.attacker.below(END - START - 500);
                world.at(when, Happens::Attack);
            }
        }
        world
    }

    pub(super) fn at(&mut self, when: Millis, what: Happens) {
        self.order += 1;
        self.queue.push(Reverse((when, self.order, self.events.len())));
        self.events.push(Some(what));
    }

    /// What a story begins with.
    fn in_words(&self) -> String {
        let World { with_witness, healthy, failback, adaptive, delay, loss, .. } = self;
        let priorities: Vec<u8> = self.nodes.iter().map(|n| n.election.settings().priority).collect();
        format!(
            "witness {with_witness}, healthy {healthy}, failback {failback}, adaptive {adaptive}, delay {delay} ms, \
             loss {} %, priorities {priorities:?}",
            loss.0
        )
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {}", self.now + 1_000 - START, line()));
        }
    }

    pub(super) fn new_node(&mut self, at: usize, now: Millis) -> Node {
        let settings = Settings {
            node: at as u64 + 1,
            priority: if self.chance.percent(50) { 100 } else { 100 + at as u8 },
            every_ms: EVERY,
            dead_ms: DEAD,
            join_ms: JOIN,
            failback: self.failback,
            takes_over_alone: true,
            witness_lease_ms: self.with_witness.then_some(LEASE),
        };
        let offset = self.chance.below(1 << 40);
        let drift = 2_000 + self.chance.below(100_000);
        let life = self.chance.draw();
        let local = now + offset + now / drift;
        let pace = self.adaptive.then(|| Pace::new(BOUNDS, local));
        Node {
            life: Life::Runs,
            election: Election::new(settings, local),
            peer: Conversation::new(Keys::new(&[KEY]), life, 0),
            witness: Asker::new(Keys::new(&[KEY]), life),
            offset,
            drift,
            inbox: VecDeque::new(),
            holds: false,
            announcements: Announcements::default(),
            keyed: true,
            frozen_at: 0,
            heard_number: 0,
            heard_by: [now; WAYS],
            reach: Reach::default(),
            pace,
            heard_local: 0,
            trouble: 0,
            rounds: 0,
            last_words: None,
            wakes_at: 0,
            looks_at: 0,
        }
    }

    fn start_witness(&mut self, since: Millis) {
        let mut end = || Conversation::new(Keys::new(&[KEY]), self.chance.draw(), 1);
        self.witness = Some((Witness::new(since), [end(), end()]));
    }

    pub(super) fn local(&self, node: usize) -> Millis {
        let node = &self.nodes[node];
        self.now + node.offset + self.now / node.drift
    }

    // The run

    fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((when, _, index))) = self.queue.pop() {
            if when > END {
                break;
            }
            // Between two events nothing moves: what lasted too long shows at the next.
            self.now = when;
            self.guard();
            let Some(what) = self.events[index].take() else { continue };
            match what {
                Happens::Arrives(packet) => self.arrive(packet),
                Happens::Wakes(node) => self.wake(node),
                Happens::Looks(node) if self.nodes[node].life == Life::Runs => {
                    let now = self.local(node);
                    self.nodes[node].election.tick(now);
                    self.after(node);
                }
                Happens::Looks(_) => {}
                Happens::Fault(fault) => self.fault(fault),
                Happens::LastWords(at, words) => self.send(at, 1 - at, 0, words),
                Happens::Attack => self.attack(),
                Happens::Goes(at) if self.nodes[at].life == Life::Frozen => {
                    self.nodes[at].life = Life::Runs;
                    self.nodes[at].inbox.clear();
                    self.wake(at);
                }
                Happens::Goes(_) => {}
                Happens::Round(node) => self.round(node),
            }
            self.check()?;
        }
        self.check_end()
    }

    /// The guard of a process that is frozen, or has died.
    fn guard(&mut self) {
        for node in &mut self.nodes {
            let late = node.life == Life::Frozen && self.now >= node.frozen_at + GUARD;
            if node.life == Life::Dead || late {
                node.holds = false;
            }
        }
    }

    fn wake(&mut self, at: usize) {
        if self.nodes[at].life != Life::Runs {
            return;
        }
        let now = self.local(at);
        let node = &mut self.nodes[at];
        node.election.tick(now);
        self.after(at);
        let now = self.local(at);
        let next = self.nodes[at].election.next_at(now + 1);
        self.nodes[at].wakes_at = self.now + (next - now).max(1);
        // Timers are late now and then.
        let late = if self.chance.percent(5) { self.chance.below(15) } else { 0 };
        let when = self.now + (next - now).max(1) + late;
        self.at(when, Happens::Wakes(at));
    }

    /// Whatever happened to a node: its messages go out, its addresses come or go.
    fn after(&mut self, at: usize) {
        self.look_around(at);
        let needless = self.is_balanced();
        let now = self.local(at);
        let node = &mut self.nodes[at];
        let mut met = Vec::new();
        for event in node.election.take_events() {
            met.push(event);
            if let (Event::Became(Role::Active, _), Some((before, until))) = (event, self.replaced)
                && self.now < until
                && before != at
            {
                self.needless = Some("the role moved as a process was replaced".into());
            }
            if event == Event::Became(Role::Active, Why::HandedOver) && needless {
                self.needless = Some("the role moved although no node reaches more".into());
            }
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:>6} node {at}: {event:?}", self.now + 1_000 - START));
            }
        }
        node.election.check_invariants(now);
        let holds = node.election.role() == Role::Active;
        if !holds {
            node.announcements.end();
        }
        if holds != node.holds {
            node.holds = holds;
            if holds {
                node.announcements.begin(now);
            }
            self.history.push((self.now, at, node.election.role().as_str()));
        }
        met.iter().for_each(|event| node.announcements.on_event(event, now));
        node.announcements.set_doubts(node.election.is_a_path_in_doubt(), now);
        if node.announcements.poll(now) {
            self.announce(at);
        }
        let node = &mut self.nodes[at];
        if !node.keyed {
            return;
        }
        let number = node.peer.next_number();
        let beat = node.election.poll_beat(number, node.heard_number, 0, now);
        let sealed = beat.map(|beat| node.peer.seal(&beat.encode()));
        if beat.is_some() {
            let number = node.peer.next_number();
            let last = node.election.last_words(number, node.heard_number, 0, now);
            node.last_words = last.map(|beat| node.peer.seal(&beat.encode()));
        }
        let ask = node.election.poll_ask(now).map(|ask| node.witness.seal(&ask));
        if let Some(bytes) = sealed {
            for way in 0..WAYS {
                self.send(at, 1 - at, way, bytes.clone());
            }
        }
        if let Some(bytes) = ask {
            self.send(at, WITNESS, 0, bytes);
        }
        self.look_earlier(at);
    }

    /// The daemon's thread asks anew how long it may wait whenever something has come.
    fn look_earlier(&mut self, at: usize) {
        let now = self.local(at);
        let node = &mut self.nodes[at];
        let when = self.now + (node.election.next_at(now + 1) - now).max(1);
        let is_known = self.now < node.looks_at && node.looks_at <= when;
        if when < node.wakes_at && !is_known {
            node.looks_at = when;
            self.at(when, Happens::Looks(at));
        }
    }

    /// Clients learn where the addresses are, unless it is lost on the way.
    fn announce(&mut self, at: usize) {
        let (percent, until) = self.loss;
        for client in 0..2 {
            let lost = self.now < until && self.chance.percent(percent);
            if !lost && self.now >= self.port_dead[at] {
                self.clients.learn(client, at, self.now);
            }
        }
    }

    /// See the daemon's thread: it compares its paths and asks whom it reaches.
    fn look_around(&mut self, at: usize) {
        let now = self.local(at);
        let node = &mut self.nodes[at];
        let silences = node.heard_by.iter().map(|heard| self.now.saturating_sub(*heard));
        let alive = node.election.peer_alive();
        let doubts = alive && node.election.peer().is_some_and(|p| p.beat.doubts);
        let dead_ms = node.election.settings().dead_ms;
        let before = (node.reach.reached(), node.reach.asks(now));
        let asks = node.reach.update(silences.filter(|_| alive), doubts, dead_ms, now);
        let after = (node.reach.reached(), asks);
        if before != after
            && let Some(trace) = &mut self.trace
        {
            trace.push(format!("{:>6} node {at}: reach {after:?}", self.now + 1_000 - START));
        }
        let node = &mut self.nodes[at];
        if node.reach.begins() && node.rounds > 0 {
            node.rounds = 1;
        }
        if asks && node.rounds == 0 {
            node.rounds = 1;
            self.order += 1;
            self.queue.push(Reverse((self.now + 60, self.order, self.events.len())));
            self.events.push(Some(Happens::Round(at)));
        }
        let node = &mut self.nodes[at];
        node.election.set_doubts(node.reach.doubts(), node.reach.is_undecided(now));
        node.election.set_trouble(node.trouble.saturating_add(node.reach.trouble()));
        let peer = node.election.peer().filter(|_| alive).map(|p| u64::from(p.beat.wants_dead_ms));
        if let Some((pace, peer)) = node.pace.as_mut().zip(peer) {
            let (every, dead) = pace.agree(peer, now);
            node.election.set_pace(every, dead, pace.wants_dead_ms(now));
        }
    }

    fn round(&mut self, at: usize) {
        let now = self.local(at);
        let dead = self.now < self.port_dead[at];
        // An answer is lost now and then, not twice.
        let lossy = self.chance.percent(20) && self.nodes[at].rounds % 2 == 1;
        let answers = if lossy { self.chance.below(8) } else { 7 };
        let node = &mut self.nodes[at];
        if node.life == Life::Dead || !node.reach.asks(now) {
            node.rounds = 0;
            return;
        }
        node.rounds += 1;
        node.reach.answered(if dead { 0 } else { answers }, 3, DEAD, now);
        let reached = node.reach.reached();
        let next = if node.rounds < 5 { 60 } else { 250 };
        self.at(self.now + next, Happens::Round(at));
        self.note(|| format!("node {at}: answers {answers:b}, dead {dead}, reached {reached:?}"));
        if self.nodes[at].life == Life::Runs {
            self.after(at);
        }
    }

    fn send(&mut self, from: usize, to: usize, way: usize, bytes: Vec<u8>) {
        let (percent, until) = self.loss;
        let lost = self.now < until && self.chance.percent(percent);
        let copies = 1 + u64::from(self.chance.percent(3));
        for _ in 0..copies {
            let late = if self.chance.percent(4) { self.chance.below(40) } else { 0 };
            let when = self.now + self.chance.below(self.delay) + late;
            if !lost && self.now >= self.cut[from][to][way] {
                let packet = Packet { to, from, way, forged: false, bytes: bytes.clone() };
                self.at(when, Happens::Arrives(packet));
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        // What was heard once; something kept back and delivered later is a late message, no replay.
        let heard = match self.nodes.get(packet.to) {
            Some(node) => node.life == Life::Runs,
            None => self.witness.is_some(),
        };
        if !packet.forged && heard && self.recorded.len() < 400 {
            self.recorded.push(Packet { forged: true, ..packet.clone() });
        }
        if packet.to == WITNESS {
            return self.arrive_at_witness(&packet);
        }
        match self.nodes[packet.to].life {
            Life::Dead => {}
            Life::Frozen => {
                self.heard_at[packet.to] = self.now;
                let inbox = &mut self.nodes[packet.to].inbox;
                if inbox.len() < 64 {
                    inbox.push_back(packet);
                }
            }
            Life::Runs => self.take(packet),
        }
    }

    fn take(&mut self, packet: Packet) {
        let (at, now) = (packet.to, self.local(packet.to));
        if packet.from == WITNESS {
            let node = &mut self.nodes[at];
            let answer = node.witness.open(&packet.bytes);
            if let Some(answer) = answer {
                node.election.hear_witness(&answer, now);
                self.after(at);
            }
            return;
        }
        let node = &mut self.nodes[at];
        let opened = match Beat::open(&mut node.peer, &packet.bytes) {
            Ok(opened) => opened,
            Err(why) => {
                // The same beat by another way.
                if why == Refused::Again && !packet.forged {
                    node.heard_by[packet.way] = self.now;
                }
                return;
            }
        };
        node.heard_by[packet.way] = self.now;
        let Some(beat) = Beat::parse(opened.body) else { return };
        if opened.new_life || beat.number > node.heard_number {
            node.heard_number = beat.number;
            let before = std::mem::replace(&mut node.heard_local, now);
            match &mut node.pace {
                Some(pace) if opened.new_life || before == 0 => pace.lose(),
                Some(pace) => pace.receive(now - before, 0, now),
                None => {}
            }
        }
        node.election.receive(beat, opened.new_life, now);
        // One that was under way for too long is not heard.
        if node.election.peer().is_some_and(|p| p.heard_at == now) {
            self.heard_at[at] = self.now;
        }
        self.after(at);
    }

    fn arrive_at_witness(&mut self, packet: &Packet) {
        let Some((witness, ends)) = &mut self.witness else { return };
        let Some(end) = ends.get_mut(packet.from) else { return };
        let answer = match end.open(&packet.bytes, |_, _| true) {
            Ok(opened) => Ask::parse(opened.body).map(|ask| witness.ask(&ask, self.now)),
            // Whoever introduces itself learns this life.
            Err(_) if packet.forged => None,
            Err(_) => Some(Answer { number: 0, granted: false, lease_ms: 0 }),
        };
        if let Some(answer) = answer {
            let bytes = end.seal(&answer.encode());
            self.send(WITNESS, packet.from, 0, bytes);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.note(|| format!("{fault:?}"));
        self.last_fault = self.last_fault.max(self.now);
        let quiet = self.healthy && self.now > self.fault_at + 2 * JOIN + 1_500;
        // Where nodes fail back, one that somebody made active gives up again when it has been so for a while.
        let active = self.nodes.iter().position(|n| n.holds).filter(|at| {
            self.local(*at).saturating_sub(self.nodes[*at].election.role_since()) > 10 * DEAD + 1_000
        });
        self.replaced = match fault {
            Fault::Replace(..) => active.filter(|_| quiet).map(|active| (active, self.now + 1_000)),
            _ => None,
        };
        match fault {
            Fault::Port { .. } => self.port_at = self.now,
            _ => self.fault_at = self.now,
        }
        match fault {
            Fault::Kill(at) => self.kill(at),
            Fault::Start(at) if self.nodes[at].life == Life::Dead => self.restart(at),
            Fault::Start(_) => {}
            Fault::Freeze(at, lasts) if self.nodes[at].life == Life::Runs => {
                self.nodes[at].life = Life::Frozen;
                self.nodes[at].frozen_at = self.now;
                self.last_fault = self.last_fault.max(self.now + lasts);
                // Its guard needs as long.
                if self.nodes[at].holds {
                    self.excuse(if lasts < DEAD { lasts + DEAD + EVERY } else { lasts.min(GUARD) + 20 });
                }
            }
            Fault::Thaw(at) if self.nodes[at].life == Life::Frozen => {
                self.nodes[at].life = Life::Runs;
                // Before it knows, what it does is done without the addresses.
                for packet in std::mem::take(&mut self.nodes[at].inbox) {
                    // The timer is looked at first: see the daemon's loop.
                    let now = self.local(at);
                    self.nodes[at].election.tick(now);
                    self.take(packet);
                }
                self.wake(at);
            }
            Fault::Freeze(..) | Fault::Thaw(_) => {}
            Fault::Replace(at, takes) if self.nodes[at].life == Life::Runs => self.replace(at, takes),
            Fault::Join(at) => self.lose_key(at),
            Fault::GetsKey(at) if !self.nodes[at].keyed => self.get_key(at),
            Fault::Replace(..) | Fault::GetsKey(_) => {}
            Fault::Cut { from, to, way, lasts } => self.cut(from, to, way, lasts),
            Fault::Port { at, into, out, lasts } => {
                let until = self.now + lasts;
                self.port_dead[at] = self.port_dead[at].max(until);
                if into {
                    self.cut[1 - at][at][0] = self.cut[1 - at][at][0].max(until);
                }
                if out {
                    self.cut[at][1 - at][0] = self.cut[at][1 - at][0].max(until);
                }
            }
            Fault::Loss { percent, lasts } => {
                self.loss = (percent, self.now + lasts);
                self.last_fault = self.last_fault.max(self.now + lasts);
            }
            Fault::Give(at) if self.nodes[at].life == Life::Runs => {
                let now = self.local(at);
                self.nodes[at].election.give_to_peer(now);
                self.after(at);
            }
            Fault::Want(at) if self.nodes[at].life == Life::Runs => {
                self.nodes[at].election.want();
            }
            Fault::Trouble(at, trouble) => self.nodes[at].trouble = trouble,
            Fault::Give(_) | Fault::Want(_) => {}
            Fault::WitnessDies => self.witness = None,
            Fault::WitnessStarts if self.witness.is_none() => {
                // Its quiet time is cut short: what its former life lent has ended by then.
                self.start_witness(self.now - 10_000 + u64::from(LEASE));
                self.last_fault = self.last_fault.max(self.now + u64::from(LEASE));
            }
            Fault::WitnessStarts => {}
            Fault::Heal => self.heal(),
        }
    }

    fn cut(&mut self, from: usize, to: usize, way: Option<usize>, lasts: Millis) {
        if way.is_none_or(|way| way == 0) && from < 2 && to < 2 {
            self.clients.part(self.now + lasts);
        }
        for (n, until) in self.cut[from][to].iter_mut().enumerate() {
            if way.is_none_or(|w| w == n) {
                *until = (*until).max(self.now + lasts);
            }
        }
        self.last_fault = self.last_fault.max(self.now + lasts);
    }

    /// The network is whole and both nodes run.
    fn heal(&mut self) {
        (0..2).for_each(|at| self.fault(Fault::GetsKey(at)));
        self.clients.heal();
        self.cut = Default::default();
        self.port_dead = [0; 2];
        self.loss = (0, 0);
        for at in 0..2 {
            match self.nodes[at].life {
                Life::Dead => self.fault(Fault::Start(at)),
                Life::Frozen => self.fault(Fault::Thaw(at)),
                Life::Runs => {}
            }
        }
    }

    /// Plays back what it has heard, alters it, and makes things up.
    fn attack(&mut self) {
        let at = self.attacker.below(2) as usize;
        let mut packets = Vec::new();
        for _ in 0..6 {
            if self.recorded.is_empty() {
                break;
            }
            let index = self.attacker.below(self.recorded.len() as u64) as usize;
            let mut packet = self.recorded[index].clone();
            if self.attacker.percent(30) {
                let byte = self.attacker.below(packet.bytes.len() as u64) as usize;
                packet.bytes[byte] ^= 1 << self.attacker.below(8);
            }
            if self.attacker.percent(30) {
                packet.to = at;
            }
            packets.push(packet);
        }
        for packet in packets {
            // A frozen node's are left out: in its inbox a copy could be first, which is no replay.
            if packet.to == WITNESS || self.nodes[packet.to].life == Life::Runs {
                self.arrive(packet);
            }
        }
    }
}
