//! What the daemon and the pair's thread say to each other, and what both can see.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_l4::FlowGate;
use evenkeel_model::PairSettings;
use evenkeel_vrrp::beat::{Beat, Role};
use evenkeel_vrrp::election::Event;
use evenkeel_vrrp::seal::Memory;
use tracing::{error, info, warn};

use super::floating::Moving;
use super::reach::Targets;
use super::stall::Stall;

/// What the daemon tells the thread.
pub enum Order {
    Wanted(Moving),
    Trouble(u16),
    /// Machines that this node asks where it may be cut off.
    Targets(Targets),
    Settings(Box<PairSettings>),
    Keys(Vec<[u8; 32]>),
    Hold(bool),
    /// The packet path follows the role from now on.
    Gate(FlowGate),
    /// The paths are closed and opened again.
    Reopen,
    /// The peer shall be active.
    Give(Sender<Result<(), String>>),
    /// This node shall be.
    Want(Sender<Result<(), String>>),
    Stop {
        end: End,
        done: Sender<Resume>,
    },
}

/// What becomes of the addresses when the thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The next process of this node has them already.
    Successor,
    /// The peer gets them; where there is none they stay for the next process.
    Restart,
    /// They go.
    ForGood,
}

/// What the thread tells the daemon.
#[derive(Clone, Debug)]
pub enum News {
    Role {
        active: bool,
        handed_over: bool,
        role: Role,
        why: String,
    },
    /// This process plays the active node's part of the process before it.
    Resumed,
    PeerFound,
    PeerLost,
    SplitBrain(bool),
    /// The peer was active for a moment, too, of which nothing was heard.
    PeerWasActive,
    /// The pair's thread did not run for so long that a peer takes it for dead.
    StoodStill {
        stall: Stall,
        was_active: bool,
    },
}

impl News {
    /// What the election says of the other node.
    pub fn of_the_peer(event: Event) -> Option<News> {
        match event {
            Event::Became(..) => None,
            Event::PeerFound => Some(News::PeerFound),
            Event::PeerLost => Some(News::PeerLost),
            Event::SplitBrain => Some(News::SplitBrain(true)),
            Event::SplitBrainOver => Some(News::SplitBrain(false)),
            Event::PeerWasActive => Some(News::PeerWasActive),
        }
    }

    pub fn of(role: Role, handed_over: bool, why: &str) -> News {
        News::Role { active: role == Role::Active, handed_over, role, why: why.into() }
    }
}

/// For the next process of this node, so that the peer sees one life.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Resume {
    pub active: bool,
    pub life: u64,
    pub number: u64,
    /// The peer's life, and the highest number that was heard of it.
    #[serde(default)]
    pub peer: Option<(u64, u64)>,
    /// Lives of the peer that are over.
    #[serde(default)]
    pub past: Vec<u64>,
    /// Until when the peer or the witness vouches for this node, by the machine's monotonic clock.
    #[serde(default)]
    pub vouched_until_ms: u64,
}

impl Resume {
    pub fn of(active: bool, memory: Memory, vouched_until_ms: u64) -> Resume {
        let Memory { life, number, peer, past } = memory;
        Resume { active, life, number, peer, past, vouched_until_ms }
    }

    pub fn memory(&self) -> Memory {
        // Room for what the former process sent after it wrote this down.
        let number = self.number + 1_000;
        Memory { life: self.life, number, peer: self.peer, past: self.past.clone() }
    }
}

/// What can be seen of the thread, renewed as it goes.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub role: Option<Role>,
    pub why: String,
    pub since: Option<Instant>,
    pub peer_alive: bool,
    pub peer: Option<Beat>,
    pub peer_heard: Option<Instant>,
    pub split_brain: bool,
    pub held: bool,
    pub trouble: u16,
    /// What this node does not reach.
    pub unreached: Option<String>,
    pub paired: bool,
    pub paths: Vec<(String, Option<Instant>, Option<String>)>,
    pub beats: Option<evenkeel_api::PairBeats>,
    pub refused: BTreeMap<&'static str, u64>,
    pub announced: Option<Instant>,
    pub unplaced: Vec<IpAddr>,
    pub real_time: Option<String>,
    pub guarded: bool,
    pub witness: Option<(SocketAddr, Option<Instant>)>,
    pub conflict: Option<String>,
    /// The last one.
    pub stall: Option<Stall>,
}

/// Things shared with the daemon.
pub struct PairShared {
    pub view: Mutex<View>,
    /// Of the configuration that runs, told to the peer.
    pub revision: AtomicU64,
    active: AtomicBool,
}

impl PairShared {
    pub fn new() -> PairShared {
        PairShared { view: Mutex::default(), revision: AtomicU64::new(0), active: AtomicBool::new(false) }
    }

    pub fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_active(&self, active: bool) {
        self.active.store(active, Relaxed);
    }

    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }
}

#[derive(Clone)]
pub struct Handle {
    pub orders: Sender<Order>,
    pub bell: Arc<OwnedFd>,
    pub shared: Arc<PairShared>,
}

impl Handle {
    pub fn send(&self, order: Order) {
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Ends the thread; what the next process needs.
    pub fn stop(&self, end: End) -> Resume {
        let (done, answer) = channel();
        self.send(Order::Stop { end, done });
        answer.recv_timeout(Duration::from_secs(2)).unwrap_or_default()
    }
}

/// Says a change of role in the daemon's log.
pub fn log(item: &News) {
    match item {
        News::Role { role, why, .. } => info!(role = role.as_str(), why, "role changed"),
        News::Resumed => info!("the role of the process before is taken over: active"),
        News::PeerFound => info!("the peer is heard"),
        News::PeerLost => warn!("the peer is silent on every path"),
        News::SplitBrain(true) => error!("split brain: both nodes are active"),
        News::SplitBrain(false) => warn!("split brain is over"),
        News::PeerWasActive => {
            warn!("the peer was active, too, for a moment: this node announces its addresses again")
        }
        News::StoodStill { stall, .. } => {
            warn!(ms = stall.lasted.as_millis() as u64, cause = stall.cause, "this node stood still");
        }
    }
}
