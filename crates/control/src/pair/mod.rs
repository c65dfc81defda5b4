//! The pair in the daemon: what the thread of the election needs, what is told of it.

mod floating;
mod guard;
mod handle;
mod journal;
mod keys;
mod link;
mod network_watcher;
mod pace;
mod paths;
mod reach;
mod removed;
mod stall;
mod tables;
mod thread;
mod trouble;
mod witness;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_api as api;
use evenkeel_l4::FlowGate;
use evenkeel_model::{PairSettings, Snapshot, VrrpSettings};
use evenkeel_vrrp::beat::Role;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};

pub use floating::{Announcers, Floating, Moving, Spot, floating_of, foreign, noted, spot};
pub use guard::{Guard, GuardedAddress, run as run_guard};
pub use handle::{End, News, PairShared, Resume, log};
use handle::{Handle, Order, View};
pub use journal::replay;
pub use keys::{Keys, random};
pub use link::{Admission, FromPeer, INVITED, PeerLink, Say, ask_to_join, own_identity, store_peer};
pub use network_watcher::{NetworkSnapshot as NetworkSeen, snapshot as network_snapshot};
pub use stall::seconds;
pub use tables::{Tables, tables_of};
use thread::Start;
use trouble::Troubles;
pub use witness::run as run_witness;

/// Where news of the pair go.
#[derive(Clone)]
pub struct PairNews {
    pub roles: UnboundedSender<News>,
    pub peer: UnboundedSender<FromPeer>,
}

/// The pair of a configuration that has one.
pub struct Pair {
    handle: Handle,
    settings: PairSettings,
    keys: Keys,
    troubles: Troubles,
    moving: Moving,
    /// The file whose presence keeps this node passive.
    held_file: PathBuf,
}

impl Pair {
    pub fn start(
        settings: PairSettings,
        snapshot: &Snapshot,
        resume: Option<Resume>,
        moving: Moving,
        news: UnboundedSender<News>,
    ) -> Result<Pair, String> {
        let folder = snapshot.state_directory.join("pair");
        let keys = Keys::load(&folder)?;
        let held_file = folder.join("held");
        let handle = thread::start(Start {
            keys: keys.secrets(),
            node: keys.node(),
            life: random(),
            held: held_file.exists(),
            resume,
            wanted: moving.clone(),
            targets: reach::Targets::of(&settings, snapshot),
            addresses_file: snapshot.state_directory.join("addresses.json"),
            settings: settings.clone(),
            news,
        })
        .map_err(|e| format!("the pair's thread cannot be started: {e}"))?;
        if settings.peer.is_some() && keys.secrets().is_empty() {
            warn!(
                "this node has no key of a pair yet and stays passive: `evenkeel pair invite` makes one, `evenkeel pair join CODE` takes the peer's"
            );
        }
        let troubles = Troubles::start(&settings).map_err(|e| e.to_string())?;
        Ok(Pair { handle, settings, keys, troubles, moving, held_file })
    }

    pub fn shared(&self) -> &Arc<PairShared> {
        &self.handle.shared
    }

    pub fn settings(&self) -> &PairSettings {
        &self.settings
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn is_active(&self) -> bool {
        self.handle.shared.is_active()
    }

    /// Follows a new configuration.
    pub fn apply(&mut self, settings: &PairSettings, snapshot: &Snapshot) {
        self.moving.follow(snapshot);
        self.handle.send(Order::Wanted(self.moving.clone()));
        self.handle.send(Order::Targets(reach::Targets::of(settings, snapshot)));
        if *settings != self.settings {
            self.handle.send(Order::Settings(Box::new(settings.clone())));
            self.troubles.set(settings);
            self.settings = settings.clone();
        }
    }

    /// Addresses of earlier configurations go when `in_use` says of them that no connection is open any more.
    pub fn let_go(&mut self, in_use: impl FnOnce(&BTreeSet<IpAddr>) -> BTreeSet<IpAddr>) {
        let leaving = self.moving.leaving();
        if !leaving.is_empty() && self.moving.let_go(&in_use(&leaving)) {
            self.handle.send(Order::Wanted(self.moving.clone()));
        }
    }

    /// The packet path follows the role from now on.
    pub fn set_gate(&self, gate: FlowGate) {
        // At once; the thread, which alone changes the role, sets it again as it is then.
        gate.set(self.is_active());
        self.handle.send(Order::Gate(gate));
    }

    pub fn set_revision(&self, revision: u64) {
        self.handle.shared.revision.store(revision, Relaxed);
    }

    /// `serving`: whether any service has a real server that is up.
    pub fn tick(&mut self, serving: bool) {
        if let Some(trouble) = self.troubles.update(&self.settings, serving) {
            info!(trouble, what = self.troubles.describe().join("; "), "this node's fitness changed");
            self.handle.send(Order::Trouble(trouble));
        }
    }

    pub fn stop(self, end: End) -> Resume {
        self.handle.stop(end)
    }

    /// What it takes to move the role, away from the daemon's loop.
    pub fn switch(&self) -> Switch {
        Switch { handle: self.handle.clone(), has_peer: self.settings.peer.is_some() }
    }

    /// Makes the pair's key if there is none.
    pub fn make_key(&mut self) -> Result<(), String> {
        self.keys.ensure()?;
        self.handle.send(Order::Keys(self.keys.secrets()));
        Ok(())
    }

    /// Takes the keys of the node that it joins.
    pub fn take_keys(&mut self, secrets: Vec<[u8; 32]>) -> Result<(), String> {
        self.keys.store(secrets)?;
        self.handle.send(Order::Keys(self.keys.secrets()));
        Ok(())
    }

    /// Opens the paths to the other node anew.
    pub fn restart(&self) {
        self.handle.send(Order::Reopen);
    }

    /// What it takes to keep this node passive later, away from the daemon's loop.
    pub fn holding(&self) -> Holding {
        Holding { handle: self.handle.clone(), held_file: self.held_file.clone() }
    }

    /// Keeps this node passive, or lets it be active again; survives a restart.
    pub fn hold(&self, held: bool) -> Result<(), Refused> {
        if held {
            return self.holding().hold();
        }
        let noted = evenkeel_files::remove(&self.held_file);
        noted.map_err(|e| Refused::new(FailureKind::Failed, format!("{}: {e}", self.held_file.display())))?;
        self.handle.send(Order::Hold(false));
        Ok(())
    }

    fn router(&self, router: &VrrpSettings) -> api::PairRouter {
        api::PairRouter {
            interface: router.interface.clone(),
            router_id: router.router_id,
            version: router.version,
            ipv6: router.ipv6,
            priority: router.priority,
            interval_ms: router.interval.as_millis() as u64,
            preempts: self.settings.failback,
            // Those of the whole configuration.
            addresses: Vec::new(),
        }
    }

    pub fn hears_peer(&self) -> bool {
        self.handle.shared.view().peer_alive
    }

    pub fn status(&self, revision: u64) -> api::Pair {
        let view = self.handle.shared.view();
        let ago = |at: Option<Instant>| at.map(|at| at.elapsed().as_millis() as u64);
        api::Pair {
            version: env!("CARGO_PKG_VERSION").into(),
            name: self.settings.name.as_str().into(),
            role: view.role.map_or("joining", Role::as_str).into(),
            why: view.why,
            since_ms: ago(view.since).unwrap_or(0),
            paired: view.paired,
            held: view.held,
            split_brain: view.split_brain,
            trouble: view.trouble,
            troubles: self.troubles.describe().into_iter().chain(view.unreached).collect(),
            priority: self.settings.priority,
            revision,
            peer: self.settings.peer.map(|address| api::PairPeer {
                name: None,
                address: address.to_string(),
                heard: view.peer_alive,
                heard_ms_ago: ago(view.peer_heard),
                role: view.peer.map(|p| p.role.as_str().into()),
                trouble: view.peer.map(|p| p.fitness.trouble),
                priority: view.peer.map(|p| p.fitness.priority),
                revision: view.peer.map(|p| p.revision),
                stood_still: None,
                misses_a_path: view.peer_alive && view.peer.is_some_and(|p| p.doubts),
                hears_this_node_ms_ago: view.peer.filter(|p| p.heard > 0).map(|p| u64::from(p.heard_age_ms)),
            }),
            paths: view
                .paths
                .into_iter()
                .map(|(name, heard, trouble)| {
                    let silent = || silent_path(heard, view.peer_alive, view.since);
                    api::PairPath { name, heard_ms_ago: ago(heard), trouble: trouble.or_else(silent) }
                })
                .collect(),
            beats: view.beats,
            witness: view.witness.map(|(address, heard)| api::PairWitness {
                address: address.to_string(),
                heard_ms_ago: ago(heard),
            }),
            link: None,
            refused: view.refused.into_iter().map(|(why, count)| (why.to_owned(), count)).collect(),
            announced_ms_ago: ago(view.announced),
            addresses_without_interface: view.unplaced.iter().map(ToString::to_string).collect(),
            conflict: view.conflict,
            stood_still: view.stall.map(|stall| stall.described()),
            guarded: view.guarded,
            real_time: view.real_time.is_none(),
            routers: self.settings.routers.iter().map(|router| self.router(router)).collect(),
        }
    }
}

/// A path on which nothing comes while the peer is heard on another for longer than this is told of.
const SILENT_PATH: Duration = Duration::from_secs(1);

/// What is said of a path that can be sent on, and brings nothing.
fn silent_path(heard: Option<Instant>, peer_alive: bool, since: Option<Instant>) -> Option<String> {
    let long = |at: Instant| at.elapsed() >= SILENT_PATH;
    match heard {
        _ if !peer_alive => None,
        Some(at) if long(at) => Some(format!(
            "no beat of the peer has come here for {}, while another path carries them",
            seconds(at.elapsed().as_millis() as u64)
        )),
        // Shortly after a start nothing may have come yet.
        None if since.is_some_and(long) => {
            Some("no beat of the peer has ever come here, while another path carries them".into())
        }
        _ => None,
    }
}

pub struct Holding {
    handle: Handle,
    held_file: PathBuf,
}

impl Holding {
    pub fn hold(&self) -> Result<(), Refused> {
        let noted = write_new(&self.held_file);
        noted.map_err(|e| Refused::new(FailureKind::Failed, format!("{}: {e}", self.held_file.display())))?;
        self.handle.send(Order::Hold(true));
        Ok(())
    }
}

/// Moves the role to the other node, or here if this one is passive.
pub struct Switch {
    handle: Handle,
    has_peer: bool,
}

impl Switch {
    /// Waits until this node is active, because the other one was asked to give the role away.
    pub fn given(&self, within: Duration) -> Option<api::SwitchedOver> {
        let began = Instant::now();
        while began.elapsed() < within {
            if self.handle.shared.view().role == Some(Role::Active) {
                let took_ms = began.elapsed().as_millis() as u64;
                return Some(api::SwitchedOver { active: "this node".into(), took_ms });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    pub fn over(&self) -> Result<api::SwitchedOver, Refused> {
        let (reply, answer) = std::sync::mpsc::channel();
        let began = Instant::now();
        let was_active = self.handle.shared.is_active();
        self.handle.send(if was_active { Order::Give(reply) } else { Order::Want(reply) });
        let silent = || Err("the pair's thread does not answer".into());
        let told = answer.recv_timeout(Duration::from_secs(2)).unwrap_or_else(|_| silent());
        told.map_err(|why| Refused::new(FailureKind::Failed, why))?;
        // The other role is a matter of milliseconds.
        let done = |view: &View| match was_active {
            true => !self.has_peer || view.peer.is_some_and(|p| p.role == Role::Active),
            false => view.role == Some(Role::Active),
        };
        while began.elapsed() < Duration::from_secs(2) {
            if done(&self.handle.shared.view()) {
                let active = if was_active { "peer" } else { "this node" };
                return Ok(api::SwitchedOver {
                    active: active.into(),
                    took_ms: began.elapsed().as_millis() as u64,
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(Refused::new(
            FailureKind::Failed,
            "the role has not moved within 2 s; see `evenkeel pair status`",
        ))
    }
}

fn write_new(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        evenkeel_files::make_folder(folder)?;
    }
    evenkeel_files::write_atomically(path, b"held\n")
}
