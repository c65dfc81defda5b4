//! The one thread of real-time priority: beats, the election, and the addresses that follow it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use evenkeel_l4::FlowGate;
use evenkeel_model::PairSettings;
use evenkeel_platform::Network;
use evenkeel_scripts::Job;
use evenkeel_vrrp::advert::Version;
use evenkeel_vrrp::beat::{Beat, Role};
use evenkeel_vrrp::election::{Election, Event, Settings, Why};
use evenkeel_vrrp::router::{Group, RouterSettings};
use evenkeel_vrrp::seal::{Conversation, Keys, Refused};
use evenkeel_vrrp::witness::Asker;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, warn};

use super::floating::{Floating, Moving};
use super::guard::Guard;
use super::handle::{End, Handle, News, Order, PairShared, Resume, View};
use super::network_watcher::{self, Lent, NetworkSnapshot, NetworkWatcher};
use super::pace::Beats;
use super::paths::{Path, Received, paths_of, told};
use super::reach::{Surroundings, Targets};
use super::stall::{Stages, StallWatch, seconds};
use crate::control::monotonic_ms;

/// The guard takes the addresses away after such a silence of this thread.
const GUARD: Duration = Duration::from_millis(250);
/// Between two starts of a guard.
const GUARD_AGAIN: Duration = Duration::from_secs(1);
/// Somebody who answers for the addresses is let be for so long, should the peer's daemon alone be
/// dead: its guard needs a moment.
const CONFLICT: Duration = Duration::from_secs(1);
/// What a takeover is put off by then.
const RETREAT_MS: u64 = 60;
/// What is shown is tried again so soon where somebody reads it just then.
const SHOW_AGAIN: Duration = Duration::from_millis(5);
/// How long a notify script may take.
const NOTIFY_LIMIT: Duration = Duration::from_secs(300);
/// The witness's lease beside the shortest time of death.
const LEASE_MS: u64 = 200;

pub struct Start {
    pub settings: PairSettings,
    pub keys: Vec<[u8; 32]>,
    pub node: u64,
    pub life: u64,
    pub held: bool,
    pub resume: Option<Resume>,
    pub wanted: Moving,
    pub targets: Targets,
    pub addresses_file: PathBuf,
    pub news: UnboundedSender<News>,
}

pub fn start(start: Start) -> std::io::Result<Handle> {
    let (orders, inbox) = channel();
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let shared = Arc::new(PairShared::new());
    let (own_bell, own_shared) = (bell.clone(), shared.clone());
    let lent = Arc::new(Lent::default());
    let floating = Floating::hurried(start.addresses_file.clone(), lent.clone())?;
    let network_watcher = NetworkWatcher::open(bell.clone(), lent)?;
    let mut surroundings = Surroundings::open(bell.clone())?;
    surroundings.set_targets(start.targets.clone());
    std::thread::Builder::new().name("pair".into()).spawn(move || {
        let senses = Senses { floating, network_watcher, surroundings };
        let mut thread = Thread::new(start, senses, inbox, own_bell, own_shared);
        thread.run();
    })?;
    Ok(Handle { orders, bell, shared })
}

enum ElectionMode {
    /// With an Evenkeel node as peer.
    Pair { election: Box<Election>, peer: Conversation, heard: u64 },
    /// Beside routers of any make.
    Routers(Group),
}

/// What the thread sees the machine with.
struct Senses {
    floating: Floating,
    network_watcher: NetworkWatcher,
    surroundings: Surroundings,
}

struct Thread {
    settings: PairSettings,
    keys: Vec<[u8; 32]>,
    node: u64,
    brain: ElectionMode,
    witness: Option<(UdpSocket, SocketAddr, Asker)>,
    witness_heard: Option<Instant>,
    /// It has said that it lends nothing yet.
    witness_is_quiet: bool,
    paths: Vec<Path>,
    floating: Floating,
    network_watcher: NetworkWatcher,
    surroundings: Surroundings,
    beats: Beats,
    stalls: StallWatch,
    guard: Guard,
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
    shared: Arc<PairShared>,
    /// The way of packets, opened and closed with the role.
    gate: Option<FlowGate>,
    news: UnboundedSender<News>,
    started: Instant,
    show_at: Instant,
    refused: BTreeMap<&'static str, u64>,
    trouble: u16,
    why: String,
    conflict_since: Option<Instant>,
    conflict: Option<String>,
    real_time: Option<String>,
}

fn settings_of(settings: &PairSettings, node: u64) -> Settings {
    let every_ms = settings.interval().as_millis() as u64;
    let dead_ms = every_ms * u64::from(settings.dead_after);
    Settings {
        node,
        priority: settings.routers.iter().map(|r| r.priority).max().unwrap_or(settings.priority),
        every_ms,
        dead_ms,
        join_ms: settings.join.as_millis() as u64,
        failback: settings.failback,
        takes_over_alone: settings.takes_over_alone,
        witness_lease_ms: settings.witness.map(|_| LEASE_MS.max(dead_ms + dead_ms / 3) as u32),
    }
}

impl Thread {
    fn new(
        start: Start,
        senses: Senses,
        orders: Receiver<Order>,
        bell: Arc<OwnedFd>,
        shared: Arc<PairShared>,
    ) -> Thread {
        let started = Instant::now();
        let settings = start.settings;
        let resume = start.resume.filter(|r| r.life > 0);
        let brain = match settings.peer {
            Some(_) => {
                let mut election = Box::new(Election::new(settings_of(&settings, start.node), 0));
                let mut peer = Conversation::new(Keys::new(&start.keys), start.life, 0);
                if let Some(resume) = &resume {
                    peer.resume(resume.memory());
                    let vouched = resume.vouched_until_ms.saturating_sub(monotonic_ms());
                    election.resume(if resume.active { Role::Active } else { Role::Passive }, vouched, 0);
                }
                election.hold(start.held || start.keys.is_empty(), 0);
                ElectionMode::Pair { election, peer, heard: 0 }
            }
            None => {
                let routers = settings.routers.iter().map(|r| RouterSettings {
                    version: if r.version == 2 { Version::V2 } else { Version::V3 },
                    router_id: r.router_id,
                    priority: r.priority,
                    interval_ms: r.interval.as_millis() as u32,
                    addresses: Vec::new(),
                });
                let mut group = Group::new(routers.collect(), settings.failback, 0);
                group.hold(start.held, 0);
                ElectionMode::Routers(group)
            }
        };
        let mut thread = Thread {
            paths: paths_of(&settings),
            witness: None,
            witness_heard: None,
            witness_is_quiet: false,
            keys: start.keys,
            node: start.node,
            brain,
            floating: senses.floating,
            network_watcher: senses.network_watcher,
            surroundings: senses.surroundings,
            beats: Beats::of(&settings, 0),
            stalls: StallWatch::start(),
            guard: Guard::start(GUARD),
            orders,
            bell,
            shared,
            gate: None,
            news: start.news,
            started,
            show_at: started,
            refused: BTreeMap::new(),
            trouble: 0,
            why: "started".into(),
            conflict_since: None,
            conflict: None,
            real_time: None,
            settings,
        };
        thread.open_witness(start.life);
        thread.set_wanted(start.wanted);
        if resume.is_some_and(|r| r.active) {
            thread.resume_active();
        }
        thread
    }

    fn resume_active(&mut self) {
        // The addresses are on the interfaces already; they are only to be known.
        let seen =
            Network::open().and_then(|mut n| network_watcher::snapshot(&mut n, &self.floating.wanted()));
        match seen {
            Ok(seen) => self.see(seen),
            Err(error) => warn!(%error, "the interfaces cannot be read"),
        }
        self.become_role(Role::Active, "taken over from the process before");
        // No election has decided it: who waits for a change of role would hear of none.
        let _ = self.news.send(News::Resumed);
    }

    fn open_witness(&mut self, life: u64) {
        let Some(address) = self.settings.witness else { return };
        let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        let opened = UdpSocket::bind((any, 0)).and_then(|s| s.set_nonblocking(true).map(|()| s));
        match opened {
            Ok(socket) => {
                self.witness = Some((socket, address, Asker::new(Keys::new(&self.keys), life)));
            }
            Err(error) => error!(%error, "the witness cannot be asked"),
        }
    }

    fn set_wanted(&mut self, wanted: Moving) {
        if let ElectionMode::Routers(group) = &mut self.brain {
            for (at, router) in self.settings.routers.iter().enumerate() {
                let fits = wanted.configured.iter().map(|w| w.0).filter(|a| a.is_ipv6() == router.ipv6);
                group.set_addresses(at, fits.collect());
            }
        }
        self.floating.set_wanted(wanted.all());
        self.network_watcher.look_for(self.floating.wanted());
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn role(&self) -> Role {
        match &self.brain {
            ElectionMode::Pair { election, .. } => election.role(),
            ElectionMode::Routers(group) => group.role(),
        }
    }

    fn run(&mut self) {
        self.stalls = StallWatch::start();
        self.real_time = evenkeel_platform::run_first().err();
        if let Some(why) = &self.real_time {
            warn!(
                why,
                "the pair's thread has no real-time priority: a busy machine may lose its role for nothing"
            );
        }
        loop {
            let mut stages = Stages::start();
            self.wait();
            stages.done("waiting", &mut self.stalls);
            // The time first: what was not heard while this did not run is no silence.
            self.tick();
            self.receive();
            stages.done("receiving", &mut self.stalls);
            let mut stopped = None;
            while let Ok(order) = self.orders.try_recv() {
                if let Order::Stop { end, done } = order {
                    stopped = Some((end, done));
                    break;
                }
                self.obey(order);
            }
            self.look_around();
            stages.done("orders", &mut self.stalls);
            self.apply_orders();
            stages.done("a change of role", &mut self.stalls);
            if let Some((end, done)) = stopped {
                let resume = self.stop(end);
                let _ = done.send(resume);
                return;
            }
            self.send();
            stages.done("sending", &mut self.stalls);
            self.guard.beat();
            self.replace_guard();
            stages.done("the guard", &mut self.stalls);
            let now = Instant::now();
            self.floating.announce_when_due();
            stages.done("announcing", &mut self.stalls);
            if let Some(seen) = self.network_watcher.seen() {
                match seen.at > self.floating.changed_at {
                    true => self.see(seen),
                    false => self.network_watcher.look_for(self.floating.wanted()),
                }
                stages.done("following the interfaces", &mut self.stalls);
            }
            if now >= self.show_at {
                self.show_at = now + Duration::from_millis(100);
                self.show();
                stages.done("showing", &mut self.stalls);
            }
        }
    }

    fn wait(&mut self) {
        let now = self.now();
        let next = match &self.brain {
            ElectionMode::Pair { election, .. } => election.next_at(now),
            ElectionMode::Routers(group) => group.next_at(now),
        };
        // The guard wants to hear of this thread, too.
        let left = Duration::from_millis(next.saturating_sub(now).clamp(1, 50));
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        fds.extend(self.witness.iter().map(|w| PollFd::from_borrowed_fd(w.0.as_fd(), PollFlags::IN)));
        let open = self.paths.iter().filter_map(Path::fd);
        fds.extend(open.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let limit = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        let _ = poll(&mut fds, Some(&limit));
        if fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)) {
            // What stays so must not keep this thread, which goes first, busy for ever.
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.bell, &mut count);
        self.beats.woke(left);
        let (long, was_active) = (self.dead_after(), self.role() == Role::Active);
        if let Some(stall) = self.stalls.woke(left, long) {
            let _ = self.news.send(News::StoodStill { stall: stall.clone(), was_active });
        }
    }

    /// A stall that long is a death to the peer.
    fn dead_after(&self) -> Duration {
        match &self.brain {
            ElectionMode::Pair { election, .. } => Duration::from_millis(election.settings().dead_ms),
            ElectionMode::Routers(_) => GUARD,
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        match &mut self.brain {
            ElectionMode::Pair { election, .. } => election.tick(now),
            ElectionMode::Routers(group) => group.tick(now),
        }
    }

    fn receive(&mut self) {
        let now = self.now();
        let mut came = Vec::new();
        for path in &mut self.paths {
            came.clear();
            path.receive(&mut came);
            for received in came.drain(..) {
                let refused = match (received, &mut self.brain) {
                    (Received::Sealed(bytes), ElectionMode::Pair { election, peer, heard }) => {
                        match Beat::open(peer, &bytes) {
                            Ok(opened) => {
                                path.heard_at = Some(Instant::now());
                                if let Some(beat) = Beat::parse(opened.body) {
                                    if opened.new_life || beat.number > *heard {
                                        *heard = beat.number;
                                        self.beats.heard(opened.new_life, now);
                                    }
                                    election.receive(beat, opened.new_life, now);
                                }
                                None
                            }
                            // The same beat by another way. One that is older says nothing of the way.
                            Err(why @ Refused::Again) => {
                                path.heard_at = Some(Instant::now());
                                Some(why.as_str())
                            }
                            Err(why) => Some(why.as_str()),
                        }
                    }
                    (Received::Advert { router, advert, source, own }, ElectionMode::Routers(group)) => {
                        path.heard_at = Some(Instant::now());
                        group.receive(router, &advert, source, own, now);
                        None
                    }
                    (Received::Advert { .. }, ElectionMode::Pair { .. }) => Some("VRRP without a seal"),
                    (Received::Sealed(_), ElectionMode::Routers(_)) => Some("sealed, but there is no peer"),
                    (Received::Malformed(why), _) => Some(told(&self.refused, why)),
                };
                if let Some(why) = refused {
                    *self.refused.entry(why).or_default() += 1;
                }
            }
        }
        let (Some((socket, address, asker)), ElectionMode::Pair { election, .. }) =
            (&mut self.witness, &mut self.brain)
        else {
            return;
        };
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if from != *address {
                continue;
            }
            if let Some(answer) = asker.open(&buffer[..length]) {
                self.witness_heard = Some(Instant::now());
                let is_quiet = !answer.granted && answer.lease_ms > 0;
                if is_quiet && !std::mem::replace(&mut self.witness_is_quiet, is_quiet) {
                    warn!(for_ms = answer.lease_ms, "the witness has just started and lends nothing yet");
                }
                self.witness_is_quiet = is_quiet;
                election.hear_witness(&answer, now);
            }
        }
    }

    /// Whether this node may be cut off from the clients, and is to say so.
    fn look_around(&mut self) {
        let now = self.now();
        let trouble = self.trouble.saturating_add(self.surroundings.links_down());
        match &mut self.brain {
            ElectionMode::Pair { election, .. } => {
                self.surroundings.update(&self.paths, election, trouble, now);
                self.beats.agree(election, now);
                self.floating.set_doubts(election.is_a_path_in_doubt());
            }
            ElectionMode::Routers(group) => group.set_trouble(trouble),
        }
    }

    fn obey(&mut self, order: Order) {
        let now = self.now();
        match order {
            Order::Wanted(wanted) => self.set_wanted(wanted),
            Order::Targets(targets) => self.surroundings.set_targets(targets),
            Order::Gate(gate) => {
                gate.set(self.shared.is_active());
                self.gate = Some(gate);
            }
            Order::Trouble(trouble) => self.trouble = trouble,
            Order::Settings(settings) => self.set_settings(*settings),
            Order::Keys(keys) => self.set_keys(keys),
            Order::Reopen => {
                self.paths = paths_of(&self.settings);
                self.network_watcher.look_for(self.floating.wanted());
            }
            Order::Hold(held) => match &mut self.brain {
                ElectionMode::Pair { election, .. } => election.hold(held || self.keys.is_empty(), now),
                ElectionMode::Routers(group) => group.hold(held, now),
            },
            Order::Give(reply) => {
                let given = match &mut self.brain {
                    ElectionMode::Pair { election, .. } if election.role() != Role::Active => {
                        Err("this node is not active".to_owned())
                    }
                    ElectionMode::Pair { election, .. } => match election.give_to_peer(now) {
                        true => Ok(()),
                        false => {
                            Err("the peer cannot take over: it is not heard, not passive, or held".to_owned())
                        }
                    },
                    ElectionMode::Routers(group) => {
                        group.resign(now);
                        Ok(())
                    }
                };
                let _ = reply.send(given);
            }
            Order::Want(reply) => {
                let wanted = match &mut self.brain {
                    ElectionMode::Pair { election, .. } => match election.want() {
                        true => Ok(()),
                        false => Err("this node is active already, or held passive".to_owned()),
                    },
                    ElectionMode::Routers(_) => Err("ask the active router to switch over".to_owned()),
                };
                let _ = reply.send(wanted);
            }
            Order::Stop { .. } => {}
        }
    }

    /// A new configuration of the pair itself. What cannot change at run time is told at the commit.
    fn set_settings(&mut self, settings: PairSettings) {
        if let ElectionMode::Pair { election, .. } = &mut self.brain {
            election.set_settings(settings_of(&settings, self.node));
            self.beats = Beats::of(&settings, self.started.elapsed().as_millis() as u64);
        }
        let same_paths = (settings.peer, settings.listen, &settings.serial, &settings.routers)
            == (self.settings.peer, self.settings.listen, &self.settings.serial, &self.settings.routers);
        if !same_paths && settings.peer.is_some() {
            self.paths = paths_of(&settings);
        }
        let other_witness = settings.witness != self.settings.witness;
        self.settings = settings;
        self.network_watcher.look_for(self.floating.wanted());
        if other_witness {
            self.witness = None;
            self.open_witness(super::random());
        }
    }

    fn set_keys(&mut self, keys: Vec<[u8; 32]>) {
        let first = self.keys.is_empty() && !keys.is_empty();
        let now = self.now();
        if let ElectionMode::Pair { election, peer, .. } = &mut self.brain {
            peer.set_keys(Keys::new(&keys));
            if first {
                election.rejoin(now);
            }
        }
        if let Some((_, _, asker)) = &mut self.witness {
            asker.set_keys(Keys::new(&keys));
        }
        if first {
            // What could not be read without a key was no attack.
            self.refused.clear();
        }
        self.keys = keys;
        self.show_at = Instant::now();
    }

    /// What the election has decided is done here, before anybody is told.
    fn apply_orders(&mut self) {
        let (mut news, mut met) = (Vec::new(), Vec::new());
        match &mut self.brain {
            ElectionMode::Pair { election, .. } => {
                for event in election.take_events() {
                    met.push(event);
                    match event {
                        Event::Became(Role::Active, Why::PeerSilent) if self.in_conflict() => {}
                        Event::Became(role, why) => {
                            news.push(News::of(role, why == Why::HandedOver, &self.reason(why)));
                        }
                        of_the_peer => news.extend(News::of_the_peer(of_the_peer)),
                    }
                }
            }
            ElectionMode::Routers(group) => {
                use evenkeel_vrrp::router::Change;
                for (role, change) in group.take_changes() {
                    let why = match change {
                        Change::MasterSilent => "no router of higher rank is heard",
                        Change::Outranked => "a router of higher rank is active",
                        Change::Told => "switched over by command",
                    };
                    news.push(News::of(role, false, why));
                }
            }
        }
        for item in news {
            match &item {
                News::Role { role, why, .. } => self.become_role(*role, why),
                News::PeerFound => self.conflict_since = None,
                _ => {}
            }
            let _ = self.news.send(item);
        }
        met.iter().for_each(|event| self.floating.on_event(event));
    }

    /// Why a role changed, in words; this node's own stall, where that is the reason.
    fn reason(&self, why: Why) -> String {
        let ElectionMode::Pair { election, .. } = &self.brain else { return why.as_str().into() };
        let stall = self.stalls.recent().map(|stall| stall.in_words());
        match (why, stall) {
            (Why::DidNotRun, Some(stall)) => {
                let dead = election.settings().dead_ms;
                format!("{stall}: its peer takes over after {dead} ms without a beat")
            }
            (Why::BothActive, Some(stall)) => format!("{}, since {stall}", why.as_str()),
            (Why::PeerSilent, _) => match election.silent_for(self.now()) {
                Some(silent) => format!("{}: no beat for {}", why.as_str(), seconds(silent)),
                None => why.as_str().into(),
            },
            _ => why.as_str().into(),
        }
    }

    /// Before a takeover that nobody offered: does somebody have the addresses? It waits then, but
    /// not for ever.
    fn in_conflict(&mut self) -> bool {
        let found = self.floating.conflict();
        let since = *self.conflict_since.get_or_insert_with(Instant::now);
        let Some((address, mac)) = found.filter(|_| since.elapsed() < CONFLICT) else {
            self.conflict_since = None;
            return false;
        };
        let mac = evenkeel_platform::mac_text(mac);
        let what = format!("{mac} has {address}");
        if self.conflict.as_ref() != Some(&what) {
            warn!(%address, mac, "the peer is silent on every path, but somebody has its addresses: the takeover waits a moment");
            self.conflict = Some(what);
        }
        let now = self.now();
        let ElectionMode::Pair { election, .. } = &mut self.brain else { return false };
        election.retreat(now + RETREAT_MS, now);
        true
    }

    fn set_active(&self, active: bool) {
        self.shared.set_active(active);
        if let Some(gate) = &self.gate {
            gate.set(active);
        }
    }

    fn become_role(&mut self, role: Role, why: &str) {
        why.clone_into(&mut self.why);
        let active = role == Role::Active;
        if active {
            self.set_active(true);
            self.floating.take(&mut self.guard);
        } else {
            self.set_active(false);
            self.floating.give(&mut self.guard);
        }
        self.show_at = Instant::now();
        let Some(script) = self.settings.notify.clone() else { return };
        let word = if active { "MASTER" } else { "BACKUP" };
        let (name, priority) = (self.settings.name.as_str().to_owned(), self.settings.priority.to_string());
        std::thread::spawn(move || {
            let arguments = ["INSTANCE", &name, word, &priority].map(str::to_owned).to_vec();
            let limit = Some(NOTIFY_LIMIT);
            let job = Job { command: script.clone(), arguments, limit, ..Job::default() };
            match evenkeel_scripts::run_and_wait(&job) {
                Ok(ended) if ended.code == Some(0) => {}
                Ok(ended) => {
                    warn!(script = %script.display(), how = ended.in_words(), "the notify script failed");
                }
                Err(why) => warn!(script = %script.display(), why, "the notify script did not run"),
            }
        });
    }

    fn send(&mut self) {
        let now = self.now();
        match &mut self.brain {
            ElectionMode::Pair { election, peer, heard } => {
                let revision = self.shared.revision.load(Relaxed);
                let number = peer.next_number();
                if !self.keys.is_empty()
                    && let Some(beat) = election.poll_beat(number, *heard, revision, now)
                {
                    let message = peer.seal(&beat.encode());
                    self.paths.iter_mut().for_each(|path| path.send_sealed(&message));
                    // A number of its own, which only a dead process uses: beats go on behind it.
                    let number = peer.next_number();
                    let last = election.last_words(number, *heard, revision, now);
                    let last = last.map(|beat| peer.seal(&beat.encode())).zip(self.settings.peer);
                    match last {
                        Some((message, to)) => {
                            self.guard.set_last_words(Some((self.settings.listen.ip(), to, &message)));
                        }
                        None if self.guard.has_last_words() => self.guard.set_last_words(None),
                        None => {}
                    }
                }
                if let Some((socket, address, asker)) = &mut self.witness
                    && let Some(ask) = election.poll_ask(now)
                {
                    let _ = socket.send_to(&asker.seal(&ask), *address);
                }
            }
            ElectionMode::Routers(group) => {
                for (router, advert) in group.take_messages() {
                    let own = self.paths.iter_mut().filter(|p| p.router() == Some(router));
                    own.for_each(|path| path.send_advert(&advert));
                }
            }
        }
    }

    /// One that has gone, or was given up, has a successor at once, whatever the other helpers do; one that does not stay
    /// is tried again now and then.
    fn replace_guard(&mut self) {
        if self.guard.is_there() || self.guard.age() < GUARD_AGAIN {
            return;
        }
        self.guard = Guard::start(GUARD);
        if self.floating.are_held() {
            self.floating.take(&mut self.guard);
        }
    }

    fn see(&mut self, seen: NetworkSnapshot) {
        let own = seen.own.clone();
        self.floating.see(seen, &mut self.guard);
        let interfaces = self.floating.interfaces();
        for path in &mut self.paths {
            let before = path.trouble.clone();
            path.open(&own, interfaces, &self.bell);
            if path.trouble.is_some() && path.trouble != before {
                warn!(path = path.name, why = path.trouble, "a path to the peer does not work");
            }
        }
    }

    fn stop(&mut self, end: End) -> Resume {
        let active = self.role() == Role::Active;
        let now = self.now();
        let alone = match &self.brain {
            ElectionMode::Pair { election, .. } => end == End::Restart && active && !election.peer_alive(),
            ElectionMode::Routers(_) => false,
        };
        let keep = end == End::Successor;
        if keep || alone {
            self.floating.leave();
            std::mem::replace(&mut self.guard, Guard::none()).leave();
        } else {
            match &mut self.brain {
                ElectionMode::Pair { election, .. } => {
                    if !election.give_to_peer(now) {
                        election.hold(true, now);
                    }
                }
                ElectionMode::Routers(group) => group.hold(true, now),
            }
            self.apply_orders();
            self.send();
        }
        match &self.brain {
            ElectionMode::Pair { peer, election, .. } if keep => {
                let left = election.vouched_until().saturating_sub(self.now());
                Resume::of(active, peer.memory(), monotonic_ms() + left)
            }
            _ => Resume { active, life: 1, ..Resume::default() },
        }
    }

    fn own_trouble(&mut self) -> u16 {
        let links = self.surroundings.links_down();
        self.trouble.saturating_add(links).saturating_add(self.surroundings.trouble())
    }

    fn show(&mut self) {
        let mut view = View {
            role: Some(self.role()),
            why: self.why.clone(),
            trouble: self.own_trouble(),
            unreached: self.surroundings.describe(),
            paired: !self.keys.is_empty(),
            paths: self.paths.iter().map(|p| (p.name.clone(), p.heard_at, p.trouble.clone())).collect(),
            refused: self.refused.clone(),
            announced: self.floating.announced_at,
            unplaced: self.floating.unplaced.clone(),
            real_time: self.real_time.clone(),
            guarded: self.guard.is_there(),
            witness: self.settings.witness.map(|address| (address, self.witness_heard)),
            conflict: self.conflict.clone(),
            stall: self.stalls.last.clone(),
            ..View::default()
        };
        let at = |ms: u64| self.started + Duration::from_millis(ms);
        match &self.brain {
            ElectionMode::Pair { election, .. } => {
                view.since = Some(at(election.role_since()));
                view.peer_alive = election.peer_alive();
                view.peer = election.peer().map(|p| p.beat);
                view.peer_heard = election.peer().map(|p| at(p.heard_at));
                view.split_brain = election.is_split();
                view.beats = Some(self.beats.view(election, self.now()));
                view.held = election.is_held();
            }
            ElectionMode::Routers(group) => {
                view.since = Some(at(group.role_since()));
                view.held = group.is_held();
                view.paired = true;
                let heard =
                    (0..self.settings.routers.len()).filter_map(|r| group.heard(r)).map(|h| h.2).max();
                view.peer_heard = heard.map(at);
                let recent = heard.is_some_and(|h| self.now().saturating_sub(h) < 4_000);
                view.peer_alive = recent;
            }
        }
        // Whoever reads it has an ordinary priority, and may be kept from going on: never wait.
        match self.shared.view.try_lock() {
            Ok(mut place) => *place = view,
            Err(TryLockError::Poisoned(place)) => *place.into_inner() = view,
            Err(TryLockError::WouldBlock) => self.show_at = Instant::now() + SHOW_AGAIN,
        }
    }
}
