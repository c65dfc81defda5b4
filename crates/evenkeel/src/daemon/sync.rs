//! Two nodes, one configuration: commits that are on both, catching up, live changes, ticket keys,
//! flows and tables.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_admin::{Kind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_l4::Tap;
use evenkeel_l7::tls::TicketSecrets;
use evenkeel_peer::Code;
use tracing::{info, warn};

use super::control::{Control, read, wall_ms};
use super::pair::{FromPeer, Keys, Pair, PeerLink, Say, Stand, Tables, tables_of};

/// How long the peer may take to say whether it would commit.
const PATIENCE: Duration = Duration::from_secs(3);
/// Connections of the peer that are remembered.
const MOST_CONNECTIONS: usize = 1_000_000;

/// What goes on between the two nodes.
#[derive(Default)]
pub struct Sync {
    pub link: Option<PeerLink>,
    pub tables: Option<Arc<Tables>>,
    pub tap: Option<Tap>,
    pub(super) peer: Option<PeerStand>,
    pending: Option<Pending>,
    /// A configuration of the peer's that this node has said it would take.
    prepared: Option<Prepared>,
    tickets: TicketSecrets,
    /// The stamp of the people that the peer was told of.
    people: AtomicU64,
    next_id: u64,
    /// Connections that the peer has been told of; taken while they are listed.
    told: Arc<Mutex<HashSet<(SocketAddr, SocketAddr)>>>,
    tell_at: Option<Instant>,
    /// A lockdown of both nodes that began here.
    pub(super) asking: Option<super::lockdown::Asking>,
    /// The active peer's connections of layer 7.
    theirs: HashSet<(SocketAddr, SocketAddr)>,
}

#[derive(Clone, Debug)]
pub(super) struct PeerStand {
    pub(super) name: String,
    stand: Stand,
    history: Vec<u64>,
}

/// A commit of this node's that waits for the peer.
struct Pending {
    id: u64,
    text: String,
    options: api::CommitOptions,
    deadline: Instant,
    /// Committed here; the peer has been told.
    done: Option<api::Committed>,
    reply: Reply<api::Committed>,
}

struct Prepared {
    id: u64,
    stand: Stand,
    text: String,
    options: api::CommitOptions,
    until: Instant,
}

/// How this node's configuration stands to the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Unknown,
    Same,
    Ahead,
    Behind,
    Differs,
}

impl Relation {
    fn as_str(self) -> &'static str {
        match self {
            Relation::Unknown => "not known",
            Relation::Same => "same",
            Relation::Ahead => "this node is ahead",
            Relation::Behind => "the peer is ahead",
            Relation::Differs => {
                "differs: `evenkeel pair push` on the node whose configuration shall be kept"
            }
        }
    }
}

impl Sync {
    pub fn with(link: PeerLink, tables: Arc<Tables>) -> Sync {
        Sync { link: Some(link), tables: Some(tables), ..Sync::default() }
    }
}

impl Control {
    fn stand(&self) -> Stand {
        Stand { revision: self.revision(), hash: self.overrides().shared_hash() }
    }

    fn relation(&self) -> Relation {
        let Some(peer) = &self.sync().peer else { return Relation::Unknown };
        let own = self.overrides();
        match () {
            () if peer.stand.hash == own.shared_hash() => Relation::Same,
            () if own.history().contains(&peer.stand.hash) => Relation::Ahead,
            () if peer.history.contains(&own.shared_hash()) => Relation::Behind,
            () => Relation::Differs,
        }
    }

    pub fn link_status(&self) -> Option<api::PairLink> {
        let link = self.sync().link.as_ref()?;
        let mut status = link.status();
        status.configuration = self.relation().as_str().into();
        Some(status)
    }

    pub(super) fn link_up(&self) -> Option<&PeerLink> {
        self.sync().link.as_ref().filter(|link| link.is_up())
    }

    fn say(&self, say: &Say) {
        if let Some(link) = self.link_up() {
            link.say(say);
        }
    }

    // What comes from the peer

    pub fn on_peer(&mut self, news: FromPeer) {
        match news {
            FromPeer::Up { program } => {
                if let Some(link) = &mut self.sync_mut().link {
                    link.program = Some(program);
                }
                self.sync().told.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.say_hello();
                // What the peer said of itself may have come first.
                self.compare();
                if self.is_active_node() {
                    self.tell_everything();
                }
            }
            FromPeer::Down => {
                self.sync_mut().peer = None;
                self.sync_mut().prepared = None;
                self.settle_pending("the link to the peer broke");
            }
            FromPeer::Joined { name } => info!(peer = name, "the pair is made"),
            FromPeer::Said(say) => self.on_said(say),
            FromPeer::Flows(batch) => {
                if !self.is_active_node()
                    && let Some(plane) = self.layer4().plane()
                    && let Err(error) = plane.adopt(&batch)
                {
                    warn!(%error, "flows of the peer cannot be put into the table");
                }
            }
            FromPeer::JoinedOther { result, reply } => {
                let result = result.and_then(|(keys, more)| self.joined(keys, &more));
                let refuse = |why| Refused::new(Kind::Failed, why);
                let _ = reply.send(result.map_err(refuse).and_then(|()| self.pair_status()));
            }
        }
    }

    fn say_hello(&self) {
        let Some(pair) = self.pair() else { return };
        self.say(&Say::Hello {
            name: pair.settings().name.as_str().into(),
            active: pair.is_active(),
            stand: self.stand(),
            history: self.overrides().history().to_vec(),
            live: self.overrides().live().clone(),
        });
        self.tell_people();
    }

    /// To a peer that knows nothing, or has been away.
    fn tell_everything(&self) {
        if let Some(tables) = &self.sync().tables {
            tables.tell_whole();
        }
        if let Some(tap) = &self.sync().tap {
            tap.tell_whole();
        }
        self.say(&Say::Tickets { secrets: self.engine().tickets().secrets() });
    }

    fn on_said(&mut self, say: Say) {
        match say {
            Say::Hello { name, active: _, stand, history, live } => {
                self.sync_mut().peer = Some(PeerStand { name, stand, history });
                self.take_live(&live);
                self.compare();
            }
            Say::Configuration { stand, history, text, forced } => {
                let known = history.contains(&self.overrides().shared_hash());
                if forced || known {
                    let about = from_peer();
                    match self.take_configuration(&text, stand, &history, &about) {
                        Ok(()) => info!(revision = stand.revision, "took the peer's configuration"),
                        Err(why) => warn!(why, "the peer's configuration cannot be taken"),
                    }
                    self.say_hello();
                }
            }
            Say::Prepare { id, base, stand, text, options } => {
                let refused = self.prepare(id, base, stand, text, options).err();
                self.say(&Say::Prepared { id, refused });
            }
            Say::Prepared { id, refused } => self.on_prepared(id, refused),
            Say::Commit { id } => {
                let prepared = self.sync_mut().prepared.take().filter(|p| p.id == id);
                let failed = match prepared {
                    Some(p) => self.take_configuration(&p.text, p.stand, &[], &p.options).err(),
                    None => Some("it was not prepared".into()),
                };
                if let Some(why) = &failed {
                    warn!(why, "a commit of the peer cannot be followed");
                }
                self.say(&Say::Committed { id, failed });
                self.say_hello();
            }
            Say::Committed { id, failed } => {
                let pending = self.sync_mut().pending.take_if(|p| p.id == id && p.done.is_some());
                if let Some(Pending { done: Some(mut committed), reply, .. }) = pending {
                    committed.peer = Some(match failed {
                        None => "committed".into(),
                        Some(why) => format!("NOT committed: {why}"),
                    });
                    let _ = reply.send(Ok(committed));
                }
            }
            Say::Confirm { revision } => {
                if self.overrides().unconfirmed().is_some_and(|u| u.revision == revision) {
                    self.overrides_mut().set_unconfirmed(None);
                    self.save_overrides();
                    info!(revision, "the configuration is confirmed on the other node");
                }
            }
            Say::Live { live } => self.take_live(&live),
            Say::People { text } => self.take_people(&text),
            Say::Connections { begun, ended, anew } => {
                let theirs = &mut self.sync_mut().theirs;
                if anew {
                    theirs.clear();
                }
                for connection in &ended {
                    theirs.remove(connection);
                }
                theirs.extend(begun);
                // More than fit a busy node are not the peer's.
                if theirs.len() > MOST_CONNECTIONS {
                    theirs.clear();
                }
            }
            Say::Keys { secrets, old_first } => match self.use_keys(secrets) {
                Ok(()) if old_first => self.say(&Say::KeysTaken),
                Ok(()) => info!("the pair has a new key"),
                Err(why) => warn!(why, "the pair's new key cannot be used"),
            },
            // Both open with both keys: now both may seal with the new one.
            Say::KeysTaken => {
                let mut secrets = self.pair().map(|p| p.keys().secrets()).unwrap_or_default();
                secrets.reverse();
                match self.use_keys(secrets.clone()) {
                    Ok(()) => {
                        self.say(&Say::Keys { secrets, old_first: false });
                        info!("the pair has a new key");
                    }
                    Err(why) => warn!(why, "the pair's new key cannot be used"),
                }
            }
            Say::Tickets { secrets } => {
                if !self.is_active_node() {
                    self.engine().adopt_tickets(secrets);
                }
            }
            Say::LockDown { who } => self.lock_down_for_peer(&who),
            Say::LockedDown { report } => self.peer_is_locked_down(report),
            Say::Unknown => {}
        }
    }

    /// Who is ahead brings the other up to date.
    fn compare(&mut self) {
        match self.relation() {
            Relation::Ahead => self.send_configuration(false),
            Relation::Differs => warn!(
                peer = self.sync().peer.as_ref().map(|p| p.name.as_str()),
                "the nodes have different configurations, and neither comes from the other: each keeps its own"
            ),
            _ => {}
        }
    }

    fn send_configuration(&self, forced: bool) {
        let Some(text) = evenkeel_config::shared(&self.running_text()) else { return };
        let history = self.overrides().history().to_vec();
        self.say(&Say::Configuration { stand: self.stand(), history, text, forced });
    }

    fn take_configuration(
        &mut self,
        shared: &str,
        stand: Stand,
        history: &[u64],
        options: &api::CommitOptions,
    ) -> Result<(), String> {
        let text = evenkeel_config::adopt(&self.running_text(), shared).ok_or("it is no TOML")?;
        let refused = |refused: Refused| match refused.failure.problems.first() {
            Some(p) => format!("line {}: {}", p.line, p.message),
            None => refused.failure.detail,
        };
        self.commit_as(text, stand.revision, options).map_err(refused)?;
        if !history.is_empty() {
            self.overrides_mut().adopt_history(history);
            self.save_overrides();
        }
        Ok(())
    }

    // Commits

    /// What the other node would do at a commit now; nothing where there is none.
    pub fn peer_would(&self) -> Option<String> {
        self.pair().filter(|p| p.settings().peer.is_some())?;
        let words = match (self.link_up().is_some(), self.relation()) {
            (true, Relation::Same) => "the other node commits it too, or neither does",
            (true, Relation::Differs) => "the other node keeps its own configuration: it differs",
            (true, _) => "the other node is brought up to date first",
            (false, _) => "the other node is not reachable, and follows when it is back",
        };
        Some(words.into())
    }

    /// Commits on both nodes, or says that it could not.
    pub fn commit_on_both(
        &mut self,
        text: String,
        options: api::CommitOptions,
        reply: Reply<api::Committed>,
    ) {
        if let Some(base) = options.base.filter(|base| *base != self.revision()) {
            let why = format!(
                "it was made for revision {base}, and revision {} is the running one: look at what changed, then try again",
                self.revision()
            );
            let _ = reply.send(Err(Refused::new(Kind::Changed, why)));
            return;
        }
        let in_step = self.link_up().is_some() && self.relation() == Relation::Same;
        if !in_step {
            let result = self.commit_as(text, 0, &options).map(|mut committed| {
                committed.peer =
                    self.pair().filter(|p| p.settings().peer.is_some()).map(|_| match self.relation() {
                        Relation::Differs => "NOT committed: it has another configuration".into(),
                        _ => "NOT committed: it is not reachable now, and follows when it is back".into(),
                    });
                committed
            });
            self.compare();
            let _ = reply.send(result);
            return;
        }
        if let Err(refused) = read(&text) {
            let _ = reply.send(Err(refused));
            return;
        }
        if self.sync().pending.is_some()
            || self.sync().prepared.as_ref().is_some_and(|p| Instant::now() < p.until)
        {
            let why =
                "another commit is under way on one of the nodes; look at what it changed, then try again";
            let _ = reply.send(Err(Refused::new(Kind::Failed, why)));
            return;
        }
        let shared = evenkeel_config::shared(&text).unwrap_or_default();
        let stand = Stand {
            revision: self.revision() + 1,
            hash: evenkeel_balance::hash_bytes(shared.trim().as_bytes()),
        };
        let base = self.overrides().shared_hash();
        self.sync_mut().next_id += 1;
        let id = self.sync().next_id;
        self.say(&Say::Prepare { id, base, stand, text: shared, options: options.clone() });
        let deadline = Instant::now() + PATIENCE;
        self.sync_mut().pending = Some(Pending { id, text, options, deadline, done: None, reply });
    }

    fn prepare(
        &mut self,
        id: u64,
        base: u64,
        stand: Stand,
        shared: String,
        options: api::CommitOptions,
    ) -> Result<(), String> {
        if base != self.overrides().shared_hash() {
            return Err(format!("it has revision {}, which this node does not know", self.revision()));
        }
        if self.sync().pending.as_ref().is_some_and(|p| p.done.is_none()) {
            // Both edited the same revision: the active node's edit is the one that goes on.
            if self.is_active_node() {
                return Err(format!(
                    "it commits another change of the same revision now. Its change:\n{}",
                    self.pending_difference()
                ));
            }
            let theirs =
                difference(&evenkeel_config::shared(&self.running_text()).unwrap_or_default(), &shared);
            if let Some(pending) = self.sync_mut().pending.take() {
                let why = format!(
                    "the other node commits another change of the same revision now; nothing was changed here. Its change:\n{theirs}"
                );
                let _ = pending.reply.send(Err(Refused::new(Kind::Failed, why)));
            }
        }
        let text = evenkeel_config::adopt(&self.running_text(), &shared).ok_or("it is no TOML")?;
        if let Err(refused) = read(&text) {
            let first = refused.failure.problems.first();
            return Err(
                first.map_or(refused.failure.detail.clone(), |p| format!("line {}: {}", p.line, p.message))
            );
        }
        self.sync_mut().prepared =
            Some(Prepared { id, stand, text: shared, options, until: Instant::now() + PATIENCE });
        Ok(())
    }

    fn pending_difference(&self) -> String {
        let Some(pending) = &self.sync().pending else { return String::new() };
        let shared = |text: &str| evenkeel_config::shared(text).unwrap_or_default();
        difference(&shared(&self.running_text()), &shared(&pending.text))
    }

    fn on_prepared(&mut self, id: u64, refused: Option<String>) {
        let Some(pending) = self.sync_mut().pending.take_if(|p| p.id == id && p.done.is_none()) else {
            return;
        };
        if let Some(why) = refused {
            let why = format!("nothing was changed: the other node refuses: {why}");
            let _ = pending.reply.send(Err(Refused::new(Kind::Failed, why)));
            return;
        }
        match self.commit_as(pending.text.clone(), 0, &pending.options) {
            Err(refused) => drop(pending.reply.send(Err(refused))),
            Ok(committed) => {
                self.say(&Say::Commit { id });
                self.say_hello();
                let deadline = Instant::now() + PATIENCE;
                self.sync_mut().pending = Some(Pending { done: Some(committed), deadline, ..pending });
            }
        }
    }

    /// The running revision stays.
    pub fn confirm(&mut self) -> Result<api::Confirmed, Refused> {
        if self.overrides().unconfirmed().is_none() {
            return Err(Refused::new(Kind::NotFound, "no commit waits to be confirmed"));
        }
        self.overrides_mut().set_unconfirmed(None);
        self.save_overrides();
        let revision = self.revision();
        self.say(&Say::Confirm { revision });
        info!(revision, "the configuration is confirmed");
        Ok(api::Confirmed { revision })
    }

    pub fn roll_back(&mut self, rollback: api::Rollback, reply: Reply<api::Committed>) {
        let wanted = rollback.revision.or_else(|| self.history.before(self.revision()));
        let found = wanted.and_then(|revision| Some((revision, self.history.text(revision)?)));
        let Some((revision, text)) = found else {
            let why = match wanted {
                Some(revision) => {
                    format!("revision {revision} is not kept; `evenkeel history` lists those that are")
                }
                None => "there is no revision before the running one".into(),
            };
            let _ = reply.send(Err(Refused::new(Kind::NotFound, why)));
            return;
        };
        let message = Some(format!("back to revision {revision}"));
        self.commit_on_both(
            text,
            api::CommitOptions { author: rollback.author, message, confirm_ms: None, base: rollback.base },
            reply,
        );
    }

    pub fn revision_text(&self, revision: u64) -> Result<api::RevisionText, Refused> {
        let missing = || Refused::new(Kind::NotFound, format!("revision {revision} is not kept"));
        self.history.text(revision).map(|text| api::RevisionText { revision, text }).ok_or_else(missing)
    }

    /// Goes back where nobody confirmed in time. The passive node waits a little longer: the active
    /// one does it for both.
    fn look_at_unconfirmed(&mut self) {
        let Some(unconfirmed) = self.overrides().unconfirmed() else { return };
        let grace_ms = if self.is_active_node() { 0 } else { 3_000 };
        if wall_ms() < unconfirmed.until_ms + grace_ms || self.sync().pending.is_some() {
            return;
        }
        warn!(back_to = unconfirmed.back_to, "nobody has confirmed the configuration: going back");
        let (reply, _) = tokio::sync::oneshot::channel();
        let author = Some("evenkeel: not confirmed".into());
        let revision = Some(unconfirmed.back_to);
        self.roll_back(api::Rollback { revision, author, base: None }, reply);
        if self.sync().pending.is_none() {
            // Done, or impossible: not again.
            self.overrides_mut().set_unconfirmed(None);
            self.save_overrides();
        }
    }

    /// The peer will not answer any more.
    fn settle_pending(&mut self, why: &str) {
        let Some(pending) = self.sync_mut().pending.take() else { return };
        let answer = match pending.done {
            Some(mut committed) => {
                committed.peer = Some(format!("not confirmed: {why}; it follows when it is back"));
                Ok(committed)
            }
            None => Err(Refused::new(Kind::Failed, format!("nothing was changed: {why}"))),
        };
        let _ = pending.reply.send(answer);
    }

    /// After a change that was made here alone, such as an edited file.
    pub fn tell_configuration(&mut self) {
        if self.link_up().is_some() && self.relation() == Relation::Ahead {
            self.send_configuration(false);
        }
    }

    /// The peer shall have this node's configuration, whatever it has.
    pub fn push_configuration(&mut self) -> Result<api::Pair, Refused> {
        if self.link_up().is_none() {
            return Err(Refused::new(Kind::Failed, "the peer is not reachable"));
        }
        self.send_configuration(true);
        self.pair_status()
    }

    // Live changes and keys

    pub fn tell_live(&self) {
        self.say(&Say::Live { live: self.overrides().live().clone() });
    }

    fn take_live(&mut self, live: &super::overrides::Live) {
        if self.overrides_mut().adopt_live(live) {
            self.save_overrides();
            self.push_states();
            info!("took the peer's admin states and weights");
        }
    }

    fn tell_people(&self) {
        if let Some(administration) = self.administration() {
            let (stamp, text) = administration.app().accounts.shared();
            self.sync().people.store(stamp, Relaxed);
            self.say(&Say::People { text });
        }
    }

    fn take_people(&self, text: &str) {
        let Some(administration) = self.administration() else { return };
        let accounts = &administration.app().accounts;
        match accounts.adopt(text) {
            Ok(true) => {
                self.sync().people.store(accounts.stamp(), Relaxed);
                info!("took the peer's people and tokens");
            }
            Ok(false) => {}
            Err(refused) => warn!(why = refused.failure.detail, "the peer's people cannot be taken"),
        }
    }

    pub fn tick_sync(&mut self) {
        let now = Instant::now();
        let stamp = self.administration().map_or(0, |a| a.app().accounts.stamp());
        if stamp != self.sync().people.load(Relaxed) && self.link_up().is_some() {
            self.tell_people();
        }
        self.look_at_unconfirmed();
        self.tick_lockdown();
        if self.sync().pending.as_ref().is_some_and(|p| now >= p.deadline) {
            self.settle_pending("the peer did not answer in time");
        }
        self.sync_mut().prepared.take_if(|p| now >= p.until);
        self.tell_connections(now);
        if self.sync().link.is_some() && self.is_active_node() {
            let secrets = self.engine().tickets().secrets();
            if secrets != self.sync().tickets {
                self.say(&Say::Tickets { secrets: secrets.clone() });
                self.sync_mut().tickets = secrets;
            }
        }
    }

    /// The role has changed.
    pub fn follow_role(&mut self, active: bool, handed_over: bool) {
        if let Some(tap) = &self.sync().tap {
            tap.tell(active);
        }
        self.sync().told.lock().unwrap_or_else(PoisonError::into_inner).clear();
        match active {
            true => {
                self.wake_clients();
                self.say(&Say::Connections { begun: Vec::new(), ended: Vec::new(), anew: true });
            }
            false => self.engine().cut_clients(),
        }
        // What it knows is the truth now; after a hand-over both know the same.
        if active && !handed_over && self.link_up().is_some() {
            self.tell_everything();
        }
    }

    /// Lists the connections of layer 7 for the peer, now and then.
    fn tell_connections(&mut self, now: Instant) {
        if self.sync().tell_at.is_some_and(|at| now < at) || !self.is_active_node() {
            return;
        }
        let Some(link) = self.link_up() else { return };
        let say = link.sayer();
        let count = self.engine().connection_count();
        let (parts, workers) = (self.engine().connections(), self.engine().workers());
        let told = self.sync().told.clone();
        let pause = match count {
            0..5_000 => 400,
            5_000..50_000 => 2_000,
            _ => 10_000,
        };
        self.sync_mut().tell_at = Some(now + Duration::from_millis(pause));
        tokio::task::spawn_blocking(move || {
            let lists = (0..workers).filter_map(|_| parts.recv_timeout(Duration::from_secs(1)).ok());
            let present: HashSet<(SocketAddr, SocketAddr)> =
                lists.flatten().map(|c| (c.client, c.vip)).collect();
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            let begun: Vec<_> = present.difference(&told).copied().collect();
            let ended: Vec<_> = told.difference(&present).copied().collect();
            if !begun.is_empty() || !ended.is_empty() {
                say(&Say::Connections { begun, ended, anew: told.is_empty() });
            }
            *told = present;
        });
    }

    /// Clients that wait on connections of the former active node hear that these are over.
    fn wake_clients(&mut self) {
        let theirs = std::mem::take(&mut self.sync_mut().theirs);
        if theirs.is_empty() {
            return;
        }
        info!(
            connections = theirs.len(),
            "clients of the former active node are told that their connections are over"
        );
        std::thread::spawn(move || {
            let waker = match evenkeel_platform::Waker::open() {
                Ok(waker) => waker,
                Err(error) => return warn!(%error, "clients cannot be told"),
            };
            let mut theirs = theirs;
            // A segment may be lost, or come before the address does; and a client answers such
            // ones twice a second at most.
            for within_ms in [100, 600, 600] {
                waker.ask(&theirs);
                waker.reset(&mut theirs, Duration::from_millis(within_ms));
            }
        });
    }

    /// The services have changed: what is told to the peer changes with them.
    pub fn follow_services(&mut self) {
        let tables = tables_of(self.engine().config());
        if let Some(place) = &self.sync().tables {
            place.set(tables);
        }
        let Some(link) = &self.sync().link else { return };
        if self.sync().tap.is_some() != self.layer4().plane().is_some() {
            let outlet = link.flow_outlet();
            let tap = self.layer4_mut().tap(outlet);
            let active = self.is_active_node();
            if let Some(tap) = &tap {
                tap.tell(active);
            }
            self.sync_mut().tap = tap;
        }
    }

    // Making a pair

    pub fn invite(&mut self) -> Result<api::Invitation, Refused> {
        let refuse = |why: String| Refused::new(Kind::Failed, why);
        let shared = evenkeel_config::shared(&self.running_text()).unwrap_or_default();
        let stand = self.stand();
        let history = self.overrides().history().to_vec();
        let live = self.overrides().live().clone();
        let more = serde_json::json!({ "text": shared, "stand": stand, "history": history, "live": live });
        let pair = self.pair_or_refused()?;
        pair.make_key().map_err(refuse)?;
        let (settings, keys) = (pair.settings().clone(), pair.keys().clone());
        let why =
            "a pair with routers of other makes has no code: name the other Evenkeel node in [pair] peer";
        let link = self.sync().link.as_ref().ok_or_else(|| refuse(why.into()))?;
        let code = link.invite(&settings, &keys, more).map_err(refuse)?;
        Ok(api::Invitation { code: code.to_string(), valid_seconds: super::pair::INVITED.as_secs() })
    }

    pub fn join(&mut self, code: &str, reply: Reply<api::Pair>) {
        let start = || -> Result<(Code, String), Refused> {
            let code = Code::parse(code).map_err(|why| Refused::new(Kind::Invalid, why))?;
            let pair = self.pair().ok_or_else(|| {
                let why = "this node's configuration has no [pair]: write one with `name` and the other node's address as `peer`, and commit it";
                Refused::new(Kind::NotFound, why)
            })?;
            Ok((code, pair.settings().name.as_str().to_owned()))
        };
        match (start(), &self.sync().link) {
            (Ok((code, name)), Some(link)) => link.join(code, name, reply),
            (Err(refused), _) => drop(reply.send(Err(refused))),
            (Ok(_), None) => {
                let why = "[pair] has no `peer`: there is no other Evenkeel node to join";
                let _ = reply.send(Err(Refused::new(Kind::Failed, why)));
            }
        }
    }

    fn joined(&mut self, keys: Vec<[u8; 32]>, more: &serde_json::Value) -> Result<(), String> {
        self.pair_mut().ok_or("this node has no [pair] any more")?.take_keys(keys)?;
        let text = more["text"].as_str().ok_or("the other node sent no configuration")?;
        let stand: Stand = serde_json::from_value(more["stand"].clone()).map_err(|e| e.to_string())?;
        let history: Vec<u64> = serde_json::from_value(more["history"].clone()).map_err(|e| e.to_string())?;
        self.take_configuration(text, stand, &history, &from_peer())
            .map_err(|why| format!("joined, but its configuration cannot be used here: {why}"))?;
        if let Ok(live) = serde_json::from_value(more["live"].clone()) {
            self.take_live(&live);
        }
        Ok(())
    }

    fn use_keys(&mut self, secrets: Vec<[u8; 32]>) -> Result<(), String> {
        self.pair_mut().ok_or("this node has no [pair]")?.take_keys(secrets)
    }

    /// Makes a new key for the pair. Both nodes open with both before one seals with the new one, so
    /// no beat is lost.
    pub fn rotate_key(&mut self) -> Result<api::Pair, Refused> {
        let refuse = |why: &str| Refused::new(Kind::Failed, why);
        if self.link_up().is_none() {
            return Err(refuse("the peer is not reachable: it would not know the new key"));
        }
        let pair = self.pair_or_refused()?;
        let current = pair.keys().secrets().first().copied();
        let secrets = vec![current.ok_or_else(|| refuse("there is no key yet"))?, Keys::fresh()];
        self.use_keys(secrets.clone()).map_err(|why| refuse(&why))?;
        self.say(&Say::Keys { secrets, old_first: true });
        self.pair_status()
    }

    pub fn pair_status(&mut self) -> Result<api::Pair, Refused> {
        let revision = self.revision();
        let link = self.link_status();
        let mut status = self.pair_or_refused()?.status(revision);
        status.link = link;
        Ok(status)
    }

    fn is_active_node(&self) -> bool {
        self.pair().is_none_or(Pair::is_active)
    }
}

fn from_peer() -> api::CommitOptions {
    api::CommitOptions { author: Some("the other node".into()), ..api::CommitOptions::default() }
}

/// The lines that differ, for people.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let left = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(left).take_while(|(a, b)| a == b).count();
    let removed = old[head..old.len() - tail].iter().map(|line| format!("- {line}"));
    let added = new[head..new.len() - tail].iter().map(|line| format!("+ {line}"));
    removed.chain(added).take(40).collect::<Vec<_>>().join("\n")
}
