//! One pool's servers and the scheduler among them. Each event loop has its own.

use std::sync::Arc;

use evenkeel_model::{AdminState, Scheduler};

use crate::least::MinTree;
use crate::maglev::{Build, Maglev};
use crate::rotation::Rotation;

/// What the scheduler knows of a real server.
#[derive(Clone, Debug)]
pub struct Server {
    /// As the configuration has it in memory.
    pub name: Arc<str>,
    pub weight: u16,
    pub admin: AdminState,
    pub up: bool,
    pub backup: bool,
    /// When it last came up, for slow start; `None` when it always was.
    pub up_since_ms: Option<u64>,
    /// Connections or requests this event loop has with it.
    pub connections: u32,
    /// What its answers took of late, in microseconds; 0 as long as none came.
    pub answer_us: u32,
}

impl Server {
    pub fn takes_new_clients(&self) -> bool {
        self.up && self.admin == AdminState::Online && self.weight > 0
    }

    /// Draining servers and those of weight 0 keep the clients they have.
    pub fn takes_persistent_clients(&self) -> bool {
        self.up && self.admin != AdminState::Halted
    }
}

/// Why a server was not chosen, for `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Down,
    Draining,
    Halted,
    WeightZero,
    BackupNotNeeded,
    /// Backups serve in its place.
    BelowQuorum,
    Full,
    NotItsTurn,
}

/// One server as the scheduler saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub server: usize,
    pub effective_weight: u32,
    pub connections: u32,
    pub refusal: Option<Refusal>,
}

/// A weight of 1 in units of effective weight, which leaves room for slow start's fractions.
const WEIGHT_UNIT: u32 = 256;

/// What a scheduler works by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strategy {
    RoundRobin,
    Least,
    /// Of Maglev, by a hash.
    Table,
    Random,
    FirstFit,
}

impl Strategy {
    fn of(scheduler: Scheduler) -> Strategy {
        match scheduler {
            Scheduler::RoundRobin => Strategy::RoundRobin,
            Scheduler::LeastConnections
            | Scheduler::ShortestExpectedDelay
            | Scheduler::NeverQueue
            | Scheduler::LeastResponseTime => Strategy::Least,
            Scheduler::SourceHash
            | Scheduler::DestinationHash
            | Scheduler::UriHash
            | Scheduler::HeaderHash
            | Scheduler::QueryHash
            | Scheduler::CookieHash
            | Scheduler::RdpCookieHash
            | Scheduler::Maglev => Strategy::Table,
            Scheduler::Random => Strategy::Random,
            Scheduler::First => Strategy::FirstFit,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Balancer {
    scheduler: Scheduler,
    slow_start_ms: u64,
    /// Backups are picked in their order, not all at once.
    one_backup: bool,
    /// See [`Self::quorum`]; 0 is none.
    quorum: u32,
    /// Percent of its fair share that a server takes at most of what is hashed; 0 is no bound.
    bound: u64,
    /// The table is the servers in turns.
    modulo: bool,
    servers: Vec<Server>,
    /// How many of them take new clients.
    able: usize,
    /// Of all servers.
    connections: u64,
    /// Of all members.
    weight: u64,
    /// By server, whether an answer was timed since the last tick.
    heard: Vec<bool>,
    /// What a member whose answers nobody knows yet is taken to need.
    usual_us: u32,
    /// Servers that may be picked now: primaries, or backups when no primary is left.
    members: Vec<u32>,
    /// By server, whether it is one of them.
    is_member: Vec<bool>,
    /// Effective weight by server.
    weights: Vec<u32>,
    rotation: Rotation,
    maglev: Maglev,
    /// The next table, where it is too large to be filled at once.
    build: Option<Build>,
    /// Servers have changed since what is made of them was made.
    dirty: bool,
    /// They have while a table was being filled, which is filled again after it.
    outdated: bool,
    /// By position in `members`.
    least: MinTree<(u64, u64)>,
    position: Vec<u32>,
    cumulative: Vec<u64>,
    picks: u64,
    /// The number of the next turn.
    turn: u64,
    /// One round of turns, the same in every balancer of the pool; empty where it is too long to keep.
    round: Vec<u32>,
}

/// Looks that a server costs when what is made of all of them is made anew.
const LOOKS_A_SERVER: u64 = 4;
/// Slots that a pick looks at in a table that another one will replace.
const STALE_SLOTS: usize = 1_024;
/// Rounds that are longer are each balancer's own.
const LONGEST_ROUND: u64 = 256;

impl Balancer {
    /// With everything made at once.
    pub fn new(scheduler: Scheduler, slow_start_ms: u64, servers: Vec<Server>, now_ms: u64) -> Balancer {
        Balancer::begin(scheduler, slow_start_ms, servers, now_ms, &mut { u64::MAX })
    }

    /// A large table is begun with the `looks` that are left; [`Self::step`] goes on with it.
    pub fn begin(
        scheduler: Scheduler,
        slow_start_ms: u64,
        servers: Vec<Server>,
        now_ms: u64,
        looks: &mut u64,
    ) -> Balancer {
        let mut balancer = Balancer {
            scheduler,
            slow_start_ms,
            bound: 0,
            modulo: false,
            one_backup: false,
            quorum: 0,
            weights: vec![0; servers.len()],
            position: vec![u32::MAX; servers.len()],
            heard: vec![false; servers.len()],
            able: servers.iter().filter(|s| s.takes_new_clients()).count(),
            connections: servers.iter().map(|s| u64::from(s.connections)).sum(),
            weight: 0,
            usual_us: 0,
            servers,
            members: Vec::new(),
            is_member: Vec::new(),
            rotation: Rotation::default(),
            maglev: Maglev::default(),
            build: None,
            dirty: false,
            outdated: false,
            least: MinTree::default(),
            cumulative: Vec::new(),
            picks: 0,
            turn: 0,
            round: Vec::new(),
        };
        balancer.rebuild(now_ms, looks);
        balancer
    }

    /// As long as its own table is being filled it goes by that of the balancer before it. `places`
    /// tells where each server of that one is now, or [`crate::GONE`].
    pub fn after(mut self, before: Balancer, places: &[u32]) -> Balancer {
        if self.build.is_some() {
            self.maglev = before.maglev.moved(places);
        }
        self
    }

    /// Hashing passes over servers that have more than `percent` of their fair share of connections
    /// (Mirrokni et al., "Consistent Hashing with Bounded Loads", 2016); 0 is no bound.
    pub fn bounded(self, percent: u16) -> Balancer {
        Balancer { bound: u64::from(percent), ..self }
    }

    /// Hashes are divided by the number of servers, in place of a table that changes little with them.
    pub fn modulo(mut self, modulo: bool, now_ms: u64, looks: &mut u64) -> Balancer {
        self.modulo = modulo;
        if modulo {
            self.build = None;
            self.rebuild(now_ms, looks);
        }
        self
    }

    /// Of several backups that could be picked the first alone is.
    pub fn one_backup(mut self, one: bool, now_ms: u64, looks: &mut u64) -> Balancer {
        self.one_backup = one;
        let backups = self.members.first().is_some_and(|first| self.servers[*first as usize].backup);
        if one && backups && self.members.len() > 1 {
            self.rebuild(now_ms, looks);
        }
        self
    }

    /// When backups serve, and how many of them: see [`Self::one_backup`] and [`Self::quorum`].
    pub fn backups(self, one: bool, quorum: u32, now_ms: u64, looks: &mut u64) -> Balancer {
        self.one_backup(one, now_ms, looks).quorum(quorum, now_ms, looks)
    }

    /// Backups serve while the others together have less weight than this.
    pub fn quorum(mut self, quorum: u32, now_ms: u64, looks: &mut u64) -> Balancer {
        self.quorum = quorum;
        if quorum > 0 {
            self.rebuild(now_ms, looks);
        }
        self
    }

    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Changes a server's state. It is not picked any more if it must not be; whatever else follows from
    /// the change waits for [`Self::refresh`], so that many changes cost as much as one.
    pub fn note(&mut self, server: usize, change: impl FnOnce(&mut Server)) {
        let known = &mut self.servers[server];
        let before = usize::from(known.takes_new_clients());
        change(known);
        self.able = self.able - before + usize::from(known.takes_new_clients());
        self.dirty = true;
    }

    /// How many servers take new clients, as of the last change that was noted.
    pub fn able(&self) -> usize {
        self.able
    }

    /// Does what noted changes ask for; whether there were any. Takes what it costs off `looks`.
    pub fn refresh(&mut self, now_ms: u64, looks: &mut u64) -> bool {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty {
            self.rebuild(now_ms, looks);
        }
        dirty
    }

    /// Goes on with a large table for as long as `looks` are left; whether none is on its way.
    pub fn step(&mut self, looks: &mut u64) -> bool {
        let Some(build) = &mut self.build else { return true };
        if !build.step(looks) {
            return false;
        }
        if let Some(build) = self.build.take() {
            self.maglev.finish(build);
        }
        if std::mem::take(&mut self.outdated) {
            self.begin_table(looks);
        }
        self.build.is_none()
    }

    fn begin_table(&mut self, looks: &mut u64) {
        if self.build.is_some() {
            self.outdated = true;
            return;
        }
        let named = self.members.iter().map(|i| {
            let slot = *i as usize;
            (*i, &*self.servers[slot].name, self.weights[slot])
        });
        let named = named.collect::<Vec<_>>();
        if self.modulo {
            return self.maglev.take_turns(&named);
        }
        let mut build = Maglev::begin(self.servers.len(), &named);
        if build.step(looks) {
            self.maglev.finish(build);
        } else {
            self.build = Some(build);
        }
    }

    /// Changes a server's state; the next pick follows it.
    pub fn update(&mut self, server: usize, now_ms: u64, change: impl FnOnce(&mut Server)) {
        self.note(server, change);
        self.rebuild(now_ms, &mut { u64::MAX });
    }

    /// What time alone changes: slow start, and the memory of slow answers; whether it asks for a
    /// [`Self::refresh`]. Call about once a second.
    pub fn tick(&mut self, looks: &mut u64) -> bool {
        *looks = looks.saturating_sub(self.servers.len() as u64);
        let forgets = self.scheduler == Scheduler::LeastResponseTime && self.forget();
        self.dirty |= forgets || self.is_warming();
        self.dirty
    }

    /// A server that gets no clients for its slow answers is tried again after a while.
    fn forget(&mut self) -> bool {
        let mut changed = false;
        for (server, heard) in self.servers.iter_mut().zip(&mut self.heard) {
            let silent = !std::mem::take(heard) && server.connections == 0 && server.answer_us > 1;
            if silent {
                server.answer_us -= server.answer_us.div_ceil(8).min(server.answer_us - 1);
                changed = true;
            }
        }
        changed
    }

    pub fn is_warming(&self) -> bool {
        self.members.iter().any(|i| {
            let i = *i as usize;
            self.weights[i] < u32::from(self.servers[i].weight) * WEIGHT_UNIT
        })
    }

    pub fn has_candidates(&self) -> bool {
        !self.members.is_empty()
    }

    /// Several balancers of one pool may go through one round.
    pub fn takes_turns(&self) -> bool {
        self.scheduler == Scheduler::RoundRobin
    }

    /// The next pick has this number among those of all balancers of the pool. Its place in the round
    /// follows from the number alone, however many turns others took. Where a round is too long to keep,
    /// each balancer goes through its own.
    pub fn catch_up(&mut self, turn: u64) {
        self.turn = turn;
    }

    /// Picks a server for a new client. `key` is the hash for hashing schedulers, `random` any
    /// number, `eligible` refuses servers that are full or were tried already.
    pub fn pick(&mut self, key: u64, random: u64, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let stale = self.dirty || self.build.is_some();
        let (servers, is_member) = (&self.servers, &self.is_member);
        let fits = |i: usize| !stale || (servers[i].takes_new_clients() && is_member[i]);
        let able = |i: u32| fits(i as usize) && eligible(i as usize);
        let picked = match Strategy::of(self.scheduler) {
            Strategy::RoundRobin if self.round.is_empty() => self.rotation.pick(able),
            Strategy::RoundRobin => {
                let turn = self.turn;
                self.turn = turn.wrapping_add(1);
                pick_by_turn(&self.round, turn, able)
            }
            Strategy::Least => self.pick_least(able),
            Strategy::Table => {
                // A server whose weight is tiny beside another's may own no slot of the table.
                let any = || {
                    let (before, after) =
                        self.members.split_at((key % self.members.len().max(1) as u64) as usize);
                    after.iter().chain(before).copied().find(|i| able(*i))
                };
                if stale {
                    let found = self.maglev.pick_within(STALE_SLOTS, key, &able);
                    return found.or_else(any).map(|i| i as usize);
                }
                let within = || self.maglev.pick(key, |i| able(i) && self.is_within_bound(i));
                let bounded = if self.bound == 0 { None } else { within() };
                bounded.or_else(|| self.maglev.pick(key, &able)).or_else(any)
            }
            Strategy::Random => self.pick_random(random, able),
            Strategy::FirstFit => self.members.iter().copied().find(|i| able(*i)),
        }?;
        Some(picked as usize)
    }

    fn is_member(&self, server: usize) -> bool {
        self.is_member.get(server).is_some_and(|is| *is)
    }

    fn is_within_bound(&self, server: u32) -> bool {
        let server = server as usize;
        let has = u64::from(self.servers[server].connections);
        let fair = (self.connections + 1) * u64::from(self.weights[server]) * self.bound;
        has < fair.div_ceil(100 * self.weight.max(1))
    }

    pub fn connected(&mut self, server: usize) {
        self.servers[server].connections += 1;
        self.connections += 1;
        self.picks += 1;
        self.reweigh(server);
    }

    /// Whether somebody should time the answers.
    pub fn times_answers(&self) -> bool {
        self.scheduler == Scheduler::LeastResponseTime
    }

    /// A server took so long to answer. Failing fast makes no server look better than it was.
    pub fn answered(&mut self, server: usize, took_us: u32, failed: bool) {
        let Some(known) = self.servers.get_mut(server) else { return };
        let floor = if failed { known.answer_us.max(self.usual_us) } else { 1 };
        let took = took_us.max(floor).max(1);
        known.answer_us = match known.answer_us {
            0 => took,
            before => ((u64::from(before) * 7 + u64::from(took)) / 8).max(1) as u32,
        };
        self.heard[server] = true;
        self.reweigh_load(server);
    }

    pub fn disconnected(&mut self, server: usize) {
        let connections = &mut self.servers[server].connections;
        *connections = connections.saturating_sub(1);
        self.connections = self.connections.saturating_sub(1);
        self.reweigh_load(server);
    }

    /// Every server with the reason it would not be picked instead of `chosen`.
    pub fn explain(&self, chosen: Option<usize>, full: impl Fn(usize) -> bool) -> Vec<Choice> {
        let reason = |i: usize, server: &Server| match () {
            () if chosen == Some(i) => None,
            () if server.admin == AdminState::Halted => Some(Refusal::Halted),
            () if !server.up => Some(Refusal::Down),
            () if server.admin == AdminState::Draining => Some(Refusal::Draining),
            () if server.weight == 0 => Some(Refusal::WeightZero),
            () if !self.is_member(i) && server.backup => Some(Refusal::BackupNotNeeded),
            () if !self.is_member(i) => Some(Refusal::BelowQuorum),
            () if full(i) => Some(Refusal::Full),
            () => Some(Refusal::NotItsTurn),
        };
        let each = self.servers.iter().enumerate();
        each.map(|(i, server)| Choice {
            server: i,
            effective_weight: self.weights[i] / WEIGHT_UNIT,
            connections: server.connections,
            refusal: reason(i, server),
        })
        .collect()
    }

    /// The members, none of which is a backup, have less weight than the quorum.
    fn lacks_quorum(&self) -> bool {
        let weight = |i: &u32| u64::from(self.servers[*i as usize].weight);
        self.quorum > 0 && self.members.iter().map(weight).sum::<u64>() < u64::from(self.quorum)
    }

    fn rebuild(&mut self, now_ms: u64, looks: &mut u64) {
        *looks = looks.saturating_sub(LOOKS_A_SERVER * self.servers.len() as u64);
        let able = |backup: bool| {
            let all = self.servers.iter().enumerate();
            all.filter(move |(_, s)| s.takes_new_clients() && s.backup == backup)
                .map(|(i, _)| i as u32)
                .collect::<Vec<_>>()
        };
        self.members = able(false);
        if self.members.is_empty() || self.lacks_quorum() {
            let mut backups = able(true);
            if self.one_backup {
                backups.truncate(1);
            }
            if !backups.is_empty() {
                self.members = backups;
            }
        }
        self.is_member.clear();
        self.is_member.resize(self.servers.len(), false);
        self.members.iter().for_each(|i| self.is_member[*i as usize] = true);
        self.dirty = false;
        for (i, server) in self.servers.iter().enumerate() {
            self.weights[i] = effective_weight(server, self.slow_start_ms, now_ms);
        }
        self.weight = self.members.iter().map(|i| u64::from(self.weights[*i as usize])).sum();
        let times = self.members.iter().map(|i| self.servers[*i as usize].answer_us).filter(|us| *us > 0);
        let (sum, count) = times.fold((0, 0), |(sum, count), us| (sum + u64::from(us), count + 1));
        self.usual_us = (sum / count.max(1)) as u32;
        let (servers, weights) = (&self.servers, &self.weights);
        match Strategy::of(self.scheduler) {
            Strategy::RoundRobin => {
                self.rotation.rebuild(servers.len(), &self.members, |i| weights[i as usize]);
                let all = || self.members.iter().map(|i| u64::from(weights[*i as usize]));
                let divisor = all().fold(0, greatest_divisor).max(1);
                let round = all().sum::<u64>() / divisor;
                self.round.clear();
                if round <= LONGEST_ROUND {
                    self.rotation.restart();
                    self.round.extend((0..round).filter_map(|_| self.rotation.pick(|_| true)));
                }
            }
            Strategy::Least => {
                self.position.fill(u32::MAX);
                for (position, i) in self.members.iter().enumerate() {
                    self.position[*i as usize] = position as u32;
                }
                let keys: Vec<(u64, u64)> =
                    self.members.iter().map(|i| (self.load_of(*i as usize), 0)).collect();
                self.least.rebuild(keys);
            }
            Strategy::Table => {
                self.begin_table(looks);
            }
            Strategy::Random => {
                let mut sum = 0;
                self.cumulative.clear();
                self.cumulative.extend(self.members.iter().map(|i| {
                    sum += u64::from(weights[*i as usize]);
                    sum
                }));
            }
            Strategy::FirstFit => {}
        }
    }

    fn pick_least(&self, able: impl Fn(u32) -> bool) -> Option<u32> {
        let (position, _) = self.least.smallest()?;
        if able(self.members[position]) {
            return Some(self.members[position]);
        }
        let keys = self.least.keys().iter().zip(&self.members);
        keys.filter(|(_, i)| able(**i)).min_by_key(|(key, _)| **key).map(|(_, i)| *i)
    }

    /// Among equally loaded servers the one picked longest ago goes first.
    fn reweigh(&mut self, server: usize) {
        if let Some(position) = self.least_position(server) {
            let key = self.load_of(server);
            self.least.set(position, (key, self.picks));
        }
    }

    fn reweigh_load(&mut self, server: usize) {
        if let Some(position) = self.least_position(server) {
            let key = self.load_of(server);
            let (_, picked) = self.least.keys()[position];
            self.least.set(position, (key, picked));
        }
    }

    fn load_of(&self, server: usize) -> u64 {
        let (known, weight) = (&self.servers[server], self.weights[server]);
        if self.scheduler != Scheduler::LeastResponseTime {
            return load(known, weight);
        }
        let took = if known.answer_us == 0 { self.usual_us } else { known.answer_us };
        let wait = u128::from(took) * (u128::from(known.connections) + 1);
        u64::try_from((wait << 16) / u128::from(weight.max(1))).unwrap_or(u64::MAX)
    }

    fn least_position(&self, server: usize) -> Option<usize> {
        let least = Strategy::of(self.scheduler) == Strategy::Least;
        let position = if least { self.position[server] } else { u32::MAX };
        (position != u32::MAX).then_some(position as usize)
    }

    /// The less loaded of two drawn by weight (Mitzenmacher, "The Power of Two Choices", 2001).
    fn pick_random(&self, random: u64, able: impl Fn(u32) -> bool) -> Option<u32> {
        let total = *self.cumulative.last()?;
        let draw = |number: u64| {
            let at = number % total;
            self.members[self.cumulative.partition_point(|sum| *sum <= at)]
        };
        let (a, b) = (draw(random & 0xffff_ffff), draw(random >> 32));
        let weigh = |i: u32| load(&self.servers[i as usize], self.weights[i as usize]);
        let better = if weigh(b) < weigh(a) { b } else { a };
        if able(better) {
            return Some(better);
        }
        self.members.iter().copied().filter(|i| able(*i)).min_by_key(|i| weigh(*i))
    }
}

/// The server whose turn it is. The turn of one that cannot be picked goes to another place of the
/// round, to a different one each time, so that no neighbour gets all of its clients.
fn pick_by_turn(round: &[u32], turn: u64, able: impl Fn(u32) -> bool) -> Option<u32> {
    let length = round.len() as u64;
    let (at, lap) = (turn % length, turn / length);
    let place = |offset: u64| round[((at + offset) % length) as usize];
    let first = Some(place(0)).filter(|i| able(*i));
    let others = (length - 1).max(1);
    first.or_else(|| (0..others).map(|n| place(1 + (lap + n) % others)).find(|i| able(*i)))
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// Connections a unit of weight would have with one more.
fn load(server: &Server, weight: u32) -> u64 {
    ((u64::from(server.connections) + 1) << 24) / u64::from(weight.max(1))
}

fn effective_weight(server: &Server, slow_start_ms: u64, now_ms: u64) -> u32 {
    let full = u32::from(server.weight) * WEIGHT_UNIT;
    let Some(since) = server.up_since_ms else { return full };
    let age = now_ms.saturating_sub(since);
    if age >= slow_start_ms || full == 0 {
        return full;
    }
    // Starts at a tenth, so that the first clients come soon, and grows evenly.
    let share = (u64::from(full) * (slow_start_ms + 9 * age)) / (10 * slow_start_ms);
    (share as u32).clamp(1, full)
}

#[cfg(test)]
mod tests;
