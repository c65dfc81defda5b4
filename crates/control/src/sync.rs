//! What two nodes tell each other besides configurations: live changes, people, keys, flows, tables.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_agree::agreement::Relation;
use evenkeel_agree::past::{Head, Lineage};
use evenkeel_api as api;
use evenkeel_l4::Tap;
use evenkeel_l7::tls::TicketSecrets;
use tracing::{info, warn};

use super::commits::{Commits, from_peer};
use super::control::Control;
use super::pair::{FromPeer, Keys, Pair, PeerLink, Say, Tables, seconds, tables_of};

/// Priorities of the nodes of a pair that is made by a code.
const FIRST: u8 = 150;
pub(super) const SECOND: u8 = 100;
/// Of the link between two nodes.
const PORT: u16 = 9694;

/// The address of the other node, with the port that it has unless another is written.
pub(super) fn with_port(peer: &str) -> String {
    match peer.parse::<std::net::IpAddr>() {
        Ok(address) => SocketAddr::new(address, PORT).to_string(),
        Err(_) => peer.to_owned(),
    }
}

/// Of all interfaces of this machine that could answer for an address.
fn own_macs() -> BTreeSet<[u8; 6]> {
    let interfaces = evenkeel_platform::Network::open().and_then(|mut network| network.interfaces());
    let interfaces = interfaces.unwrap_or_default().into_iter();
    interfaces.map(|i| i.mac).filter(|mac| *mac != [0; 6]).collect()
}

/// A stall so long ago is told to a peer that comes back.
const STALL_IS_NEWS: Duration = Duration::from_secs(600);
/// Connections of the peer that are remembered.
const MOST_CONNECTIONS: usize = 1_000_000;

/// What goes on between the two nodes.
#[derive(Default)]
pub struct Sync {
    pub link: Option<PeerLink>,
    pub tables: Option<Arc<Tables>>,
    pub tap: Option<Tap>,
    /// The other node's name, once it has said so.
    pub(super) peer: Option<String>,
    /// Those of its interfaces, since it last said them.
    pub(super) peer_macs: BTreeSet<[u8; 6]>,
    /// Its last stall, and when it told of it.
    peer_stall: Option<(Instant, api::StoodStill)>,
    pub(super) commits: Commits,
    tickets: TicketSecrets,
    /// The stamp of the people that the peer was told of.
    people: AtomicU64,
    /// Connections that the peer has been told of; taken while they are listed.
    told: Arc<Mutex<HashSet<(SocketAddr, SocketAddr)>>>,
    tell_at: Option<Instant>,
    pub(super) knowledge: super::lag::Knowledge,
    pub(super) watch: super::pair_watch::PairWatch,
    /// A lockdown of both nodes that began here.
    pub(super) asking: Option<super::lockdown::Asking>,
    /// A step of an upgrade that the other node does.
    pub(super) upgrading: Option<super::pair_upgrade::PendingStep>,
    /// The active peer's connections of layer 7.
    theirs: HashSet<(SocketAddr, SocketAddr)>,
    pub(super) files: super::shared_files::SharedFiles,
}

impl Sync {
    pub fn with(link: PeerLink, tables: Arc<Tables>) -> Sync {
        Sync { link: Some(link), tables: Some(tables), ..Sync::default() }
    }
}

impl Control {
    pub fn link_status(&self) -> Option<api::PairLink> {
        let link = self.sync().link.as_ref()?;
        let mut status = link.status();
        status.configuration = self.relation_in_words();
        status.here = Some(self.knows());
        status.there = self.sync().knowledge.there();
        Some(status)
    }

    pub(super) fn link_up(&self) -> Option<&PeerLink> {
        self.sync().link.as_ref().filter(|link| link.is_up())
    }

    pub(super) fn say(&self, say: &Say) {
        if let Some(link) = self.link_up() {
            link.say(say);
        }
    }

    // What comes from the peer

    pub fn on_peer(&mut self, news: FromPeer) {
        match news {
            FromPeer::Up { program } => {
                self.tell_stall();
                if let Some(link) = &mut self.sync_mut().link {
                    link.program = Some(program);
                }
                self.sync().told.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.sync_mut().files.forget();
                self.link_came();
                self.tell_managed();
                if let Some(tables) = &self.sync().tables {
                    tables.tell_removed();
                }
                if self.is_active_node() {
                    self.tell_everything();
                }
            }
            FromPeer::Down => {
                self.sync_mut().knowledge.forget();
                self.link_broke();
            }
            FromPeer::Joined { name } => {
                info!(peer = name, "the pair is made");
                self.sync_mut().peer = Some(name);
            }
            FromPeer::Said(say) => self.on_said(say),
            FromPeer::Flows(batch) => {
                if !self.is_active_node()
                    && let Some(plane) = self.layer4().plane()
                    && let Err(error) = plane.adopt(&batch)
                {
                    warn!(%error, "flows of the peer cannot be put into the table");
                }
            }
            FromPeer::Admitted { result, peer, part, reply } => {
                let _ = reply.send(self.admitted(result, &part, peer));
            }
        }
    }

    pub(super) fn say_hello(&self) {
        let Some(pair) = self.pair() else { return };
        self.say(&Say::Hello {
            name: pair.settings().name.as_str().into(),
            active: pair.is_active(),
            stand: self.head(),
            way: self.overrides().past().lineage().clone(),
            live: self.overrides().live().clone(),
            asks: self.relation() == Relation::Unknown,
            macs: own_macs(),
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
            Say::Hello { name, active: _, stand, way, live, asks, macs } => {
                self.sync_mut().peer = Some(name);
                let before = self.overrides().live().clone();
                self.sync_mut().peer_macs = macs;
                self.take_live(&live);
                self.tell_live_change(&before);
                self.greeted(stand, way);
                if asks {
                    self.say_hello();
                }
            }
            Say::Configuration { stand, way, text, forced } => {
                self.configuration_came(stand, &way, &text, forced);
            }
            Say::Prepare { id, base, stand, text, options } => {
                let refused = self.prepare(id, base, stand, text, options).err();
                self.say(&Say::Prepared { id, refused });
            }
            Say::Prepared { id, refused } => self.on_prepared(id, refused),
            Say::Commit { id } => self.follow_commit(id),
            Say::Committed { id, failed } => self.on_committed(id, failed),
            Say::Confirm { revision } => self.peer_confirmed(revision),
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
            Say::Keep { vips, for_ms } => self.keep_for_peer(&vips, for_ms),
            Say::Kept { refused } => self.kept(refused),
            Say::KeepNoMore => self.keep_no_more(),
            Say::GiveRole => self.give_role(),
            Say::Knows { knows } => self.peer_knows(knows),
            Say::StoodStill { stall } => self.peer_stood_still(stall),
            Say::Files { files } => self.named_files_came(files),
            Say::Managed { id, active, files } => self.take_managed(id, active, files),
            Say::ManagedKept { id, failed } => self.managed_kept(id, failed),
            Say::Upgrade { id, step } => self.upgrade_for_peer(id, step),
            Say::Upgraded { id, result } => self.other_upgraded(id, result),
            Say::Unknown => {}
        }
    }

    /// A link that broke with a stall could not carry the news of it.
    fn tell_stall(&self) {
        let stall = self.pair().and_then(|pair| pair.shared().view().stall);
        if let Some(stall) = stall.filter(|stall| stall.at.elapsed() < STALL_IS_NEWS) {
            self.say(&Say::StoodStill { stall: stall.described() });
        }
    }

    /// This node knew of nothing but silence.
    fn peer_stood_still(&mut self, stall: api::StoodStill) {
        let ended =
            |at: Instant, stall: &api::StoodStill| at.checked_sub(Duration::from_millis(stall.ended_ms_ago));
        let now = Instant::now();
        let is_known = self.sync().peer_stall.as_ref().is_some_and(|(at, known)| {
            let (one, other) = (ended(*at, known), ended(now, &stall));
            let apart = one.zip(other).map(|(one, other)| one.max(other) - one.min(other));
            known.lasted_ms == stall.lasted_ms && apart.is_some_and(|apart| apart < Duration::from_secs(2))
        });
        if is_known {
            return;
        }
        let lasted = Duration::from_millis(stall.lasted_ms.saturating_add(stall.ended_ms_ago));
        let since = self.pair().and_then(|pair| pair.shared().view().since);
        let took_over = self.is_active_node() && since.is_some_and(|since| since.elapsed() <= lasted);
        let peer = self.peer_name();
        let after = if took_over { "; this node has taken over meanwhile" } else { "" };
        let text = format!(
            "{peer} says that it stood still for {}: {}{after}",
            seconds(stall.lasted_ms),
            stall.cause
        );
        warn!(ms = stall.lasted_ms, cause = stall.cause, took_over, "the peer stood still");
        if took_over {
            let node = self.node_name();
            self.happen("role", "info", &node, text);
        }
        self.sync_mut().peer_stall = Some((now, stall));
    }

    // Live changes and keys

    pub fn tell_live(&self) {
        self.say(&Say::Live { live: self.overrides().live().clone() });
    }

    fn take_live(&mut self, live: &super::overrides::Live) {
        self.change_live(|own| own.adopt_live(live));
    }

    fn replace_live(&mut self, live: &super::overrides::Live) {
        self.change_live(|own| {
            own.replace_live(live.clone());
            true
        });
    }

    /// What people changed live here while the nodes were apart, and the other node's changes have replaced.
    fn tell_live_change(&mut self, before: &super::overrides::Live) {
        let change = before.change_to(self.overrides().live());
        if change.is_empty() {
            return;
        }
        let (peer, change) = (self.peer_name(), change.join(", "));
        let text = format!("admin states, weights and run-time servers are those of {peer} now: {change}");
        self.happen("pair", "warning", &self.node_name(), text);
    }

    /// Live changes of the other node, if `take` says that they were taken.
    fn change_live(&mut self, take: impl FnOnce(&mut super::overrides::Overrides) -> bool) {
        let before = self.overrides().servers().clone();
        if take(self.overrides_mut()) {
            self.save_overrides();
            if *self.overrides().servers() != before {
                self.follow_run_time();
            }
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

    fn take_people(&mut self, text: &str) {
        let Some(accounts) = self.administration().map(|a| a.app().accounts.clone()) else { return };
        match accounts.adopt(text) {
            Ok(Some(change)) => {
                self.sync().people.store(accounts.stamp(), Relaxed);
                info!("took the peer's people and tokens");
                let text = format!("people and tokens are those of {} now ({change})", self.peer_name());
                self.happen("pair", "info", &self.node_name(), text);
            }
            Ok(None) => {}
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
        self.tick_upgrade();
        self.tick_commits();
        self.tell_connections(now);
        self.tick_knowledge(now);
        self.tick_pair_watch(now);
        if self.sync().link.is_some() && self.is_active_node() {
            let secrets = self.engine().tickets().secrets();
            if secrets != self.sync().tickets {
                self.say(&Say::Tickets { secrets: secrets.clone() });
                self.sync_mut().tickets = secrets;
            }
        }
    }

    /// This process is the active node's next one: the peer hears from it what it heard from the last.
    pub fn resume_role(&mut self) {
        if let Some(tap) = &self.sync().tap {
            tap.set_active(true);
        }
        if self.link_up().is_some() {
            self.tell_everything();
        }
    }

    /// The role has changed.
    pub fn follow_role(&mut self, active: bool, handed_over: bool) {
        if let Some(tap) = &self.sync().tap {
            tap.set_active(active);
        }
        self.sync().told.lock().unwrap_or_else(PoisonError::into_inner).clear();
        match active {
            true => {
                // Connections that were being finished are ordinary ones again.
                self.leave_nothing();
                // Theirs go on.
                if self.keeping.forwards() {
                    self.sync_mut().theirs.clear();
                } else {
                    self.wake_clients();
                }
                self.say(&Say::Connections { begun: Vec::new(), ended: Vec::new(), anew: true });
            }
            false => self.finish_or_cut(),
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
                tap.set_active(active);
            }
            self.sync_mut().tap = tap;
        }
    }

    // Making a pair

    /// The running configuration with `[pair]`.
    pub(super) fn with_pair(
        &self,
        part: &api::PairPart,
        peer: &str,
        priority: u8,
    ) -> Result<String, Refused> {
        let host = self.node_name();
        let own = host.split('.').next().unwrap_or(&host);
        let mut pair = serde_json::json!({
            "name": part.name.as_deref().unwrap_or(own),
            "peer": peer,
            "priority": priority,
        });
        if let Some(interface) = part.interface.as_ref().filter(|i| !i.is_empty()) {
            pair["vrrp"] = serde_json::json!([{ "interface": interface, "router-id": 51 }]);
        }
        let set = evenkeel_config::Change::Set { at: vec!["pair".into()], value: pair };
        let text = evenkeel_config::edit(&self.running_text(), &[set]);
        text.map_err(|why| Refused::new(FailureKind::Invalid, why))
    }

    /// Writes `[pair]` into a configuration that has none, as a revision of its own.
    pub(super) fn write_pair(
        &mut self,
        part: &api::PairPart,
        peer: &str,
        priority: u8,
    ) -> Result<(), Refused> {
        let text = self.with_pair(part, peer, priority)?;
        let about = api::CommitOptions {
            author: Some("the pair that is made".into()),
            message: Some(format!("a pair with {peer}")),
            ..Default::default()
        };
        self.commit_as(text, 0, &about).map(drop)
    }

    /// The first node of a pair goes on being active: it has the key before it has a peer.
    fn begin_pair(&mut self, part: &api::PairPart, peer: &str) -> Result<(), Refused> {
        let made = Keys::load(&self.pair_folder()).and_then(|mut keys| keys.ensure());
        made.map_err(|why| Refused::new(FailureKind::Failed, why))?;
        self.begins_pair = true;
        let written = self.write_pair(part, peer, FIRST);
        self.begins_pair = false;
        written
    }

    pub fn invite(&mut self, part: &api::PairPart) -> Result<api::Invitation, Refused> {
        self.check_part(part)?;
        if let (None, Some(peer)) = (self.pair(), &part.peer) {
            self.begin_pair(part, &with_port(peer))?;
        }
        let refuse = |why: String| Refused::new(FailureKind::Failed, why);
        let shared = super::overrides::shared_of(&self.running_text());
        let stand = self.head();
        let Lineage { steps, texts } = self.overrides().past().lineage();
        let live = self.overrides().live().clone();
        let more = serde_json::json!({ "text": shared, "stand": stand, "steps": steps, "history": texts, "live": live, "name": self.node_name() });
        let pair = self.pair_or_refused()?;
        pair.make_key().map_err(refuse)?;
        let (settings, keys) = (pair.settings().clone(), pair.keys().clone());
        let why =
            "a pair with routers of other makes has no code: name the other Evenkeel node in [pair] peer";
        let link = self.sync().link.as_ref().ok_or_else(|| refuse(why.into()))?;
        let code = link.invite(&settings, &keys, more).map_err(refuse)?;
        Ok(api::Invitation { code: code.to_string(), valid_seconds: super::pair::INVITED.as_secs() })
    }

    pub(super) fn joined(&mut self, keys: Vec<[u8; 32]>, more: &serde_json::Value) -> Result<(), String> {
        self.pair_mut().ok_or("this node has no [pair] any more")?.take_keys(keys)?;
        if let Some(name) = more["name"].as_str() {
            self.sync_mut().peer = Some(name.into());
        }
        let text = more["text"].as_str().ok_or("the other node sent no configuration")?;
        let stand: Head = serde_json::from_value(more["stand"].clone()).map_err(|e| e.to_string())?;
        let way: Lineage = serde_json::from_value(more.clone()).map_err(|e| e.to_string())?;
        // Before the other node can hear of this one's, and once more when the configuration has forgotten some.
        let live: super::overrides::Live = serde_json::from_value(more["live"].clone()).unwrap_or_default();
        self.replace_live(&live);
        if self.agree(|agreement, own| agreement.takes_invitation(own)) {
            let taken = self.take_configuration(text, stand, &way, &from_peer());
            self.replace_live(&live);
            // A link that stands already has told the other node of what ran before.
            self.say_hello();
            taken.map_err(|why| format!("joined, but its configuration cannot be used here: {why}"))?;
        }
        Ok(())
    }

    fn use_keys(&mut self, secrets: Vec<[u8; 32]>) -> Result<(), String> {
        self.pair_mut().ok_or("this node has no [pair]")?.take_keys(secrets)?;
        if let (Some(pair), Some(link)) = (self.pair(), &self.sync().link) {
            link.renew_invitation(pair.keys());
        }
        Ok(())
    }

    /// Makes a new key for the pair. Both nodes open with both before one seals with the new one, so
    /// no beat is lost.
    pub fn rotate_key(&mut self) -> Result<api::Pair, Refused> {
        let refuse = |why: &str| Refused::new(FailureKind::Failed, why);
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
        let addresses = super::pair::floating_of(self.snapshot());
        let addresses: Vec<String> = addresses.iter().map(|(address, _)| address.to_string()).collect();
        status.routers.iter_mut().for_each(|router| router.addresses.clone_from(&addresses));
        if let Some(peer) = &mut status.peer {
            peer.name.clone_from(&self.sync().peer);
            peer.stood_still = self.sync().peer_stall.as_ref().map(|(told, stall)| {
                let ended_ms_ago = stall.ended_ms_ago + told.elapsed().as_millis() as u64;
                api::StoodStill { ended_ms_ago, ..stall.clone() }
            });
        }
        Ok(status)
    }

    pub(super) fn peer_name(&self) -> String {
        self.sync().peer.clone().unwrap_or_else(|| "the other node".into())
    }

    pub(super) fn is_active_node(&self) -> bool {
        self.pair().is_none_or(Pair::is_active)
    }
}
