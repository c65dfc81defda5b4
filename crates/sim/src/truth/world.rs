//! Two nodes, maybe a witness, and what lies between them. Everything that happens follows from a
//! seed: start times, losses, delays, copies, partitions, freezes, deaths, an attacker.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::beat::{Beat, Role};
use super::chance::Chance;
use super::election::{Election, Event, Settings, Why};
use super::node::{Life, Node, Packet, WAYS};
use super::pace::{Bounds, Pace};
use super::plan::{FAULTS_END, Fault, START, WITNESS, plan};
use super::reach::{Reach, WORST};
use super::seal::{Conversation, Keys, Refused};
use super::witness::{Answer, Ask, Witness};

type Millis = u64;

const EVERY: Millis = 50;
const DEAD: Millis = 150;
const JOIN: Millis = 400;
/// After so much silence of the daemon its guard takes the addresses away.
const GUARD: Millis = 250;
const LEASE: u32 = 200;
/// Nobody may have the addresses for no longer than this after the last fault.
const UNOWNED: Millis = 1_200;
const END: Millis = FAULTS_END + 4_000;
const BOUNDS: Bounds =
    Bounds { shortest_dead_ms: 40, longest_dead_ms: DEAD, longest_every_ms: EVERY, learn_ms: 1_000 };
const KEY: [u8; 32] = [42; 32];

#[derive(Clone, Debug)]
enum Happens {
    Arrives(Packet),
    Wakes(usize),
    Fault(Fault),
    Attack,
    /// The guard of a node that has died tells the other one.
    LastWords(usize, Vec<u8>),
    /// The machines that a node has asked whether it reaches them have answered, or have not.
    Round(usize),
}

pub struct World {
    chance: Chance,
    attacker: Chance,
    now: Millis,
    order: u64,
    queue: BinaryHeap<Reverse<(Millis, u64, usize)>>,
    events: Vec<Option<Happens>>,
    nodes: Vec<Node>,
    with_witness: bool,
    healthy: bool,
    failback: bool,
    adaptive: bool,
    witness: Option<(Witness, [Conversation; 2])>,
    /// Until when each direction of each way is cut.
    cut: [[[Millis; WAYS]; 3]; 3],
    loss: (u64, Millis),
    delay: Millis,
    recorded: Vec<Packet>,
    last_fault: Millis,
    /// Since then each direction has carried beats well.
    heard_at: [Millis; 2],
    excused_until: Millis,
    one_deaf_since: Option<Millis>,
    long_deaf_at: Millis,
    two_until: Millis,
    unowned_since: Option<Millis>,
    /// Until when each node's port is dead.
    port_dead: [Millis; 2],
    fault_at: Millis,
    /// When a port last died, and when one was dead and the other was not.
    port_at: Millis,
    unequal_at: Millis,
    misplaced_since: Option<Millis>,
    needless: Option<String>,
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
    // Every eighth world is healthy: there not a role may change at another time.
    if seed.is_multiple_of(8) {
        return match play(seed, false) {
            Ok(calm) if calm.history == attacked.history => None,
            Ok(_) => Some("forged and replayed messages changed something".into()),
            Err(broken) => Some(format!("without an attacker, {} ms: {}", broken.at, broken.what)),
        };
    }
    None
}

pub fn play_traced(seed: u64, attacked: bool, traced: bool) -> Result<World, Broken> {
    let mut world = World::new(seed, attacked);
    world.trace = traced.then(Vec::new);
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

    fn at(&mut self, when: Millis, what: Happens) {
        self.order += 1;
        self.queue.push(Reverse((when, self.order, self.events.len())));
        self.events.push(Some(what));
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {}", self.now + 1_000 - START, line()));
        }
    }

    fn new_node(&mut self, at: usize, now: Millis) -> Node {
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
            witness: Conversation::new(Keys::new(&[KEY]), life, 1),
            offset,
            drift,
            inbox: VecDeque::new(),
            holds: false,
            frozen_at: 0,
            heard_number: 0,
            heard_by: [now; WAYS],
            reach: Reach::default(),
            pace,
            heard_local: 0,
            trouble: 0,
            rounds: 0,
            last_words: None,
        }
    }

    fn start_witness(&mut self, since: Millis) {
        let mut end = || Conversation::new(Keys::new(&[KEY]), self.chance.draw(), 1);
        self.witness = Some((Witness::new(since), [end(), end()]));
    }

    fn local(&self, node: usize) -> Millis {
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
                Happens::Fault(fault) => self.fault(fault),
                Happens::LastWords(at, words) => self.send(at, 1 - at, 0, words),
                Happens::Attack => self.attack(),
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
        for event in node.election.take_events() {
            if event == Event::Became(Role::Active, Why::HandedOver) && needless {
                self.needless = Some("the role moved although no node reaches more".into());
            }
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:>6} node {at}: {event:?}", self.now + 1_000 - START));
            }
        }
        node.election.check_invariants(now);
        let holds = node.election.role() == Role::Active;
        if holds != node.holds {
            node.holds = holds;
            self.history.push((self.now, at, node.election.role().as_str()));
        }
        let number = node.peer.next_number();
        let beat = node.election.poll_beat(number, node.heard_number, 0, now);
        let sealed = beat.map(|beat| node.peer.seal(&beat.encode()));
        if beat.is_some() {
            let number = node.peer.next_number();
            let last = node.election.last_words(number, node.heard_number, 0, now);
            node.last_words = last.map(|beat| node.peer.seal(&beat.encode()));
        }
        let ask = node.election.poll_ask(now).map(|ask| node.witness.seal(&ask.encode()));
        if let Some(bytes) = sealed {
            for way in 0..WAYS {
                self.send(at, 1 - at, way, bytes.clone());
            }
        }
        if let Some(bytes) = ask {
            self.send(at, WITNESS, 0, bytes);
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
            let answer = node.witness.open(&packet.bytes).ok().and_then(|o| Answer::parse(o.body));
            if let Some(answer) = answer {
                node.election.hear_witness(&answer, now);
                self.after(at);
            }
            return;
        }
        let node = &mut self.nodes[at];
        let opened = match node.peer.open(&packet.bytes) {
            Ok(opened) => opened,
            Err(why) => {
                // The same beat by another way.
                if why == Refused::Replayed && !packet.forged {
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
        let answer = match end.open(&packet.bytes) {
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
            Fault::Cut { from, to, way, lasts } => {
                for (n, until) in self.cut[from][to].iter_mut().enumerate() {
                    if way.is_none_or(|w| w == n) {
                        *until = (*until).max(self.now + lasts);
                    }
                }
                self.last_fault = self.last_fault.max(self.now + lasts);
            }
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

    fn kill(&mut self, at: usize) {
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

    fn restart(&mut self, at: usize) {
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

    /// The network is whole and both nodes run.
    fn heal(&mut self) {
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

    // What must hold

    fn excuse(&mut self, lasts: Millis) {
        self.excused_until = self.excused_until.max(self.now + lasts);
    }

    fn check(&mut self) -> Result<(), String> {
        let holders = self.nodes.iter().filter(|n| n.holds).count();
        let runs = [0, 1].map(|at| self.nodes[at].life == Life::Runs);
        let mut deaf = [false; 2];
        for at in 0..2 {
            // Beats that did not come for nearly the time of death are a partition, unless nobody
            // was there to send them.
            if !runs[1 - at] && self.cut[1 - at][at].iter().any(|until| self.now >= *until) {
                self.heard_at[at] = self.now;
            }
            let dead_ms = self.nodes[at].election.settings().dead_ms;
            deaf[at] = self.now.saturating_sub(self.heard_at[at]) >= dead_ms - 20;
        }
        let both_run = runs[0] && runs[1];
        self.check_places(both_run)?;
        if deaf[0] || deaf[1] {
            self.excuse(DEAD + EVERY + 60);
        }
        if holders == 2 {
            self.two_until = self.now;
        }
        if holders == 2 && both_run && deaf[0] != deaf[1] {
            let since = *self.one_deaf_since.get_or_insert(self.now);
            if self.now - since > EVERY / 2 {
                self.long_deaf_at = self.now;
            }
            if self.now - since > 2 * DEAD + 2 * EVERY {
                return Err("two nodes have the addresses although one hears the other".into());
            }
        } else {
            self.one_deaf_since = None;
        }
        // Where one was deaf for long, the end of that and its giving up may cross.
        let told = self.now.saturating_sub(self.last_fault) < 5;
        let crossed = told
            || (self.now < self.loss.1 + DEAD && self.loss.0 >= 20)
            || self.now - self.long_deaf_at < DEAD;
        if holders == 0 && both_run && !self.with_witness && self.now - self.two_until < 3 && !crossed {
            return Err("both nodes gave the addresses up".into());
        }
        let active = |n: &&Node| n.life == Life::Runs && n.election.role() == Role::Active;
        let believers = self.nodes.iter().filter(active).count();
        if self.with_witness && believers > 1 {
            return Err("two nodes are active beside a witness".into());
        }
        if holders > 1 && self.now > self.excused_until {
            return Err("two nodes have the addresses, and nothing parts them".into());
        }
        if holders > 0 {
            self.unowned_since = None;
            return Ok(());
        }
        let since = *self.unowned_since.get_or_insert(self.now);
        let connected = |a: usize, b: usize| {
            let up = |from: usize, to: usize| self.cut[from][to].iter().any(|until| self.now >= *until);
            up(a, b) && up(b, a)
        };
        let can = |at: usize| {
            let asked = self.witness.is_some()
                && self.cut[at][WITNESS][0] <= self.now
                && self.cut[WITNESS][at][0] <= self.now;
            runs[at] && (!self.with_witness || asked || (runs[1 - at] && connected(0, 1)))
        };
        let quiet = self.now.saturating_sub(since.max(self.last_fault));
        if quiet > UNOWNED && (can(0) || can(1)) {
            return Err(format!("nobody has had the addresses for {quiet} ms"));
        }
        Ok(())
    }

    /// Both nodes have long been equally fit, and nobody asked for a change.
    fn is_balanced(&self) -> bool {
        const LONG: Millis = 2_500;
        let [one, other] = [0, 1].map(|at| &self.nodes[at]);
        let dead = self.port_dead.map(|until| self.now < until);
        let lossy = self.loss.0 >= 10 && self.now < self.loss.1 + LONG;
        !self.failback
            && !lossy
            && dead[0] == dead[1]
            && self.now > self.unequal_at.max(self.fault_at) + LONG
            && one.trouble == other.trouble
            && one.life == Life::Runs
            && other.life == Life::Runs
    }

    /// Where both nodes hear each other, the one that reaches the clients has the addresses.
    fn check_places(&mut self, both_run: bool) -> Result<(), String> {
        // Two that die at the same moment do so one after the other here.
        let dead = self.port_dead.map(|until| self.now < until);
        if dead[0] != dead[1] && self.now > self.port_at {
            self.unequal_at = self.now;
        }
        if let Some(what) = self.needless.take() {
            return Err(what);
        }
        let heard = |from: usize, to: usize| self.now >= self.cut[from][to][1];
        let quiet = both_run && heard(0, 1) && heard(1, 0) && (self.now >= self.loss.1 || self.loss.0 < 10);
        let misplaced = quiet
            && (0..2).any(|at| {
                let (here, there) = (&self.nodes[at], &self.nodes[1 - at]);
                let worse = there.trouble < here.trouble + WORST / 3;
                let dead = self.now < self.port_dead[at] && self.now >= self.port_dead[1 - at];
                here.holds && !there.holds && dead && worse
            });
        if !misplaced {
            self.misplaced_since = None;
            return Ok(());
        }
        let since = *self.misplaced_since.get_or_insert(self.now);
        let lasts = self.now - since.max(self.fault_at).max(self.port_at);
        // One that took over a moment ago keeps the role for ten times of death.
        match lasts > 10 * DEAD + 1_000 {
            true => Err(format!("a node that reaches nobody has had the addresses for {lasts} ms")),
            false => Ok(()),
        }
    }

    fn check_end(&mut self) -> Result<(), String> {
        let roles: Vec<Role> = self.nodes.iter().map(|n| n.election.role()).collect();
        match roles[..] {
            [Role::Active, Role::Passive] | [Role::Passive, Role::Active] => Ok(()),
            _ => Err(format!("at the end the nodes are {roles:?}")),
        }
    }
}
