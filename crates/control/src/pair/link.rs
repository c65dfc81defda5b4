//! The link to the peer in the daemon: what the nodes tell each other over it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_agree::past::{Head, Lineage};
use evenkeel_api as api;
use evenkeel_l4::Batch;
use evenkeel_model::PairSettings;
use evenkeel_peer::{
    Applicant, Code, Event, Frame, Identity, Invite, Joined, Link, LinkOptions, fingerprint,
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing::{info, warn};

use super::super::keep::KeptVip;
use super::super::overrides::Live;
use super::keys::{Keys, hex, unhex};
use super::tables::{Outlet, Tables};

const SAY: u8 = 16;
const TABLES: u8 = 17;
const FLOWS: u8 = 18;
const REMOVED: u8 = 19;
/// How long a code is good for.
pub const INVITED: Duration = Duration::from_secs(600);

/// What one node says to the other. A newer version may say more: what is not known is passed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Say {
    /// Where the sender stands.
    Hello {
        name: String,
        active: bool,
        stand: Head,
        #[serde(flatten)]
        way: Lineage,
        live: Live,
        /// The sender does not know where the receiver stands: it is told in return. Each node has a connection
        /// of its own to the other, and one of them may come anew alone.
        #[serde(default)]
        asks: bool,
        /// Of its interfaces: who answers with one of them for an address is no stranger.
        #[serde(default)]
        macs: BTreeSet<[u8; 6]>,
    },
    /// Take this configuration: the receiver's is an ancestor of it, or a person wants it so.
    Configuration {
        stand: Head,
        #[serde(flatten)]
        way: Lineage,
        text: String,
        forced: bool,
    },
    /// Is this the next configuration of both?
    Prepare {
        id: u64,
        base: u64,
        stand: Head,
        text: String,
        #[serde(default)]
        options: api::CommitOptions,
    },
    Prepared {
        id: u64,
        refused: Option<String>,
    },
    /// It is.
    Commit {
        id: u64,
    },
    Committed {
        id: u64,
        failed: Option<String>,
    },
    /// A revision that would have gone back by itself stays.
    Confirm {
        revision: u64,
    },
    /// Admin states and weights.
    Live {
        live: Live,
    },
    /// Who may log in, and tokens.
    People {
        text: String,
    },
    /// Connections of layer 7 that began and ended lately: client and VIP. They cannot move to the
    /// other node; but who waits on one can be told.
    Connections {
        begun: Vec<(SocketAddr, SocketAddr)>,
        ended: Vec<(SocketAddr, SocketAddr)>,
        anew: bool,
    },
    /// Keys of the pair, the one in use first. `old_first` while the other node may not have the new one.
    Keys {
        secrets: Vec<[u8; 32]>,
        old_first: bool,
    },
    /// The receiver of keys has them.
    KeysTaken,
    /// Keys of TLS session tickets.
    Tickets {
        secrets: evenkeel_l7::tls::TicketSecrets,
    },
    /// Close what is open on the receiver, too.
    LockDown {
        who: String,
    },
    LockedDown {
        report: api::Lockdown,
    },
    /// The sender gives its role away by plan: its connections of layer 7 on these are to come to it for a
    /// while.
    Keep {
        vips: Vec<KeptVip>,
        for_ms: u64,
    },
    /// The receiver may give it away now.
    Kept {
        refused: Option<String>,
    },
    /// There are none any more.
    KeepNoMore,
    /// Somebody wants the sender to be active.
    GiveRole,
    /// How much the sender remembers of clients.
    Knows {
        knows: api::PairKnowledge,
    },
    /// The sender did not run for a while: why it may have lost its role.
    StoodStill {
        stall: api::StoodStill,
    },
    /// Files that the next configuration names.
    Files {
        files: Vec<(PathBuf, String)>,
    },
    /// Files of managed certificates: a name, and what it holds; nothing where it is gone.
    Managed {
        id: u64,
        active: bool,
        files: Vec<(String, Option<String>)>,
    },
    ManagedKept {
        id: u64,
        failed: Option<String>,
    },
    /// A step of an upgrade, for the receiver.
    Upgrade {
        id: u64,
        step: api::PairUpgrade,
    },
    Upgraded {
        id: u64,
        result: Result<api::PairUpgraded, String>,
    },
    #[serde(other)]
    Unknown,
}

/// What comes from the peer, for the daemon's loop.
#[derive(Debug)]
pub enum FromPeer {
    Up {
        program: String,
    },
    Down,
    Joined {
        name: String,
    },
    Said(Say),
    Flows(Batch),
    /// What the other node says to this one, which would join it.
    Admitted {
        result: Result<Admission, String>,
        peer: SocketAddr,
        part: api::PairPart,
        reply: evenkeel_admin::Reply<api::Pair>,
    },
}

/// The link of a node.
pub struct PeerLink {
    link: Arc<Link>,
    identity: Identity,
    /// Ends the runtime's thread.
    _alive: std::sync::mpsc::Sender<()>,
    pub program: Option<String>,
}

struct ToPeer(Arc<Link>);

impl Outlet for ToPeer {
    fn is_open(&self) -> bool {
        self.0.is_up()
    }

    fn send(&self, body: Vec<u8>) {
        self.0.send(Frame { kind: TABLES, body });
    }

    fn send_removed(&self, body: Vec<u8>) {
        self.0.send(Frame { kind: REMOVED, body });
    }
}

impl PeerLink {
    /// Starts the link on a thread of its own, and the tables' pump beside it.
    pub fn start(
        settings: &PairSettings,
        folder: &Path,
        journal: PathBuf,
        out: UnboundedSender<FromPeer>,
    ) -> Result<(PeerLink, Arc<Tables>), String> {
        let peer = settings.peer.ok_or("there is no peer")?;
        let identity = own_identity(folder, settings.name.as_str())?;
        let options = LinkOptions {
            listen: settings.listen,
            peer,
            identity: own_identity(folder, settings.name.as_str())?,
            peer_certificate: peer_certificate(folder),
            program: format!("evenkeel {}", env!("CARGO_PKG_VERSION")),
        };
        let (ready, started) = std::sync::mpsc::channel();
        let (alive, end) = std::sync::mpsc::channel::<()>();
        let folder = folder.to_path_buf();
        std::thread::Builder::new()
            .name("peer".into())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(ready.send(Err(error.to_string()))),
                };
                runtime.block_on(async move {
                    let (events, mut inbox) = unbounded_channel();
                    let link = match Link::start(options, events) {
                        Ok(link) => Arc::new(link),
                        Err(error) => return drop(ready.send(Err(error.to_string()))),
                    };
                    let tables = Arc::new(Tables::start(journal, ToPeer(link.clone())));
                    let _ = ready.send(Ok((link, tables.clone())));
                    let mut pulse = tokio::time::interval(Duration::from_millis(500));
                    loop {
                        tokio::select! {
                            event = inbox.recv() => match event {
                                Some(event) => on_event(event, &tables, &folder, &out),
                                None => return,
                            },
                            _ = pulse.tick() => {
                                if end.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                                    return;
                                }
                            }
                        }
                    }
                });
            })
            .map_err(|e| e.to_string())?;
        let (link, tables) = started.recv().map_err(|e| e.to_string())??;
        Ok((PeerLink { link, identity, _alive: alive, program: None }, tables))
    }

    pub fn say(&self, say: &Say) {
        if let Ok(body) = serde_json::to_vec(say) {
            self.link.send(Frame { kind: SAY, body });
        }
    }

    /// For threads that say something by themselves.
    pub fn sayer(&self) -> impl Fn(&Say) + Send + use<> {
        let link = self.link.clone();
        move |say| {
            if let Ok(body) = serde_json::to_vec(say) {
                link.send(Frame { kind: SAY, body });
            }
        }
    }

    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Where flows go, from the thread that reads them.
    pub fn flow_outlet(&self) -> impl FnMut(Batch) + Send + use<> {
        let link = self.link.clone();
        move |batch: Batch| {
            if link.is_up() {
                link.send(Frame { kind: FLOWS, body: batch.encode() });
            }
        }
    }

    /// Opens an invitation.
    pub fn invite(
        &self,
        settings: &PairSettings,
        keys: &Keys,
        body: serde_json::Value,
    ) -> Result<Code, String> {
        let peer = settings.peer.ok_or("there is no peer")?;
        let mut secret = [0; 16];
        secret.copy_from_slice(&Keys::fresh()[..16]);
        let answer = serde_json::json!({ "keys": in_hex(keys), "more": body });
        let joined = Joined { certificate: hex(&self.identity.certificate), body: answer };
        let admits = Box::new(admits(settings));
        self.link.invite(Invite { secret, until: Instant::now() + INVITED, admits, answer: joined });
        let address = match settings.listen.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => evenkeel_platform::Network::open()
                .and_then(|mut network| network.way_to(peer.ip()))
                .ok()
                .and_then(|way| way.source)
                .ok_or_else(|| format!("there is no way to the peer's address {}", peer.ip()))?,
        };
        let address = SocketAddr::new(address, settings.listen.port());
        Ok(Code { address, secret, fingerprint: fingerprint(&self.identity.certificate) })
    }

    /// Whoever joins is to have the keys of that moment.
    pub fn renew_invitation(&self, keys: &Keys) {
        self.link.change_invitation(|answer| answer.body["keys"] = in_hex(keys).into());
    }

    /// The certificate by which the other node is known from now on.
    pub fn set_peer(&self, certificate: Vec<u8>) {
        self.link.set_peer(CertificateDer::from(certificate));
    }

    pub fn status(&self) -> api::PairLink {
        use std::sync::atomic::Ordering::Relaxed;
        let state = &self.link.state;
        api::PairLink {
            connected: self.link.is_up(),
            detail: state.detail(),
            peer_version: self.program.as_deref().map(version_of).map(str::to_owned),
            configuration: String::new(),
            waiting: state.waiting(),
            lag_ms: self.link.lag().map(|lag| lag.as_millis() as u64),
            sent: state.sent.load(Relaxed),
            received: state.received.load(Relaxed),
            here: None,
            there: None,
        }
    }
}

/// Whether a node that has the code is the one that `[pair]` of this one speaks of: else each would look for the other
/// where it is not.
fn admits(settings: &PairSettings) -> impl Fn(&Applicant) -> Result<(), String> + Send + use<> {
    let (name, peer, listen) = (settings.name.to_string(), settings.peer, settings.listen.port());
    move |applicant| {
        if applicant.name == name {
            return Err(format!(
                "both nodes would be named {name:?}; give the one that joins another name (`evenkeel pair join CODE --name NAME`, or `name` in its [pair])"
            ));
        }
        let has = |address: &IpAddr| applicant.addresses.is_empty() || applicant.addresses.contains(address);
        let listens = |port: u16| applicant.port.is_none_or(|own| own == port);
        if let Some(expected) = peer.filter(|peer| !has(&peer.ip()) || !listens(peer.port())) {
            let there = match applicant.addresses.is_empty() {
                true => String::new(),
                false => format!(", and this machine has {}", in_a_row(&applicant.addresses)),
            };
            return Err(format!(
                "it expects its peer at {expected}{there}; join on the machine that has that address, or change `peer` in [pair] of the node that made the code, and make a new one"
            ));
        }
        let own = evenkeel_platform::Network::open().and_then(|mut network| network.addresses());
        let is_own =
            |address: IpAddr| own.as_ref().map_or(true, |own| own.iter().any(|o| o.address == address));
        match applicant.peer.filter(|at| !is_own(at.ip()) || at.port() != listen) {
            None => Ok(()),
            Some(wrong) => Err(format!(
                "the one that joins looks for its peer at {wrong}, where the node that made the code is not (it listens on port {listen}); take the address of the code, or change `peer` in [pair] of the one that joins"
            )),
        }
    }
}

/// The first of some addresses, for people.
fn in_a_row(addresses: &[IpAddr]) -> String {
    let first: Vec<String> = addresses.iter().take(6).map(IpAddr::to_string).collect();
    let more = if addresses.len() > first.len() { ", …" } else { "" };
    first.join(", ") + more
}

/// What the node that made a code gives to the one that joins.
#[derive(Debug)]
pub struct Admission {
    pub keys: Vec<[u8; 32]>,
    pub certificate: Vec<u8>,
    pub more: serde_json::Value,
}

pub async fn ask_to_join(
    identity: &Identity,
    code: &Code,
    applicant: &Applicant,
) -> Result<Admission, String> {
    let joined = evenkeel_peer::join(identity, code, applicant).await?;
    let keys = joined.body["keys"].as_array().cloned().unwrap_or_default();
    let keys: Option<Vec<[u8; 32]>> = keys.iter().map(|k| unhex(k.as_str()?)?.try_into().ok()).collect();
    let keys = keys.filter(|k| !k.is_empty()).ok_or("the other node sent no key")?;
    let certificate = unhex(&joined.certificate).ok_or("the other node sent no certificate")?;
    Ok(Admission { keys, certificate, more: joined.body["more"].clone() })
}

fn in_hex(keys: &Keys) -> Vec<String> {
    keys.secrets().iter().map(|key| hex(key)).collect()
}

/// The version in what a program calls itself.
fn version_of(program: &str) -> &str {
    program.strip_prefix("evenkeel ").unwrap_or(program)
}

fn on_event(event: Event, tables: &Tables, folder: &Path, out: &UnboundedSender<FromPeer>) {
    let news = match event {
        Event::Up { program } => FromPeer::Up { program },
        Event::Down(_) => FromPeer::Down,
        Event::Joined { certificate, name } => {
            if let Err(error) = store_peer(folder, &certificate) {
                warn!(error, "the peer's certificate cannot be stored");
            }
            info!(peer = name, "a node has joined");
            FromPeer::Joined { name }
        }
        Event::Frame(frame) => match frame.kind {
            TABLES => return tables.apply_remote(&frame.body),
            REMOVED => return tables.apply_removed(&frame.body),
            SAY => match serde_json::from_slice(&frame.body) {
                Ok(say) => FromPeer::Said(say),
                Err(error) => return warn!(%error, "a message of the peer is not understood"),
            },
            FLOWS => match Batch::parse(&frame.body) {
                Some(batch) => FromPeer::Flows(batch),
                None => return warn!("flows of the peer are not understood"),
            },
            // Of a later version.
            _ => return,
        },
    };
    let _ = out.send(news);
}

pub fn own_identity(folder: &Path, name: &str) -> Result<Identity, String> {
    let file = folder.join("identity.pem");
    let pem = match std::fs::read_to_string(&file) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let pem = Identity::make(name).map_err(|e| e.to_string())?;
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            evenkeel_files::write_private(&file, pem.as_bytes())
                .map_err(|e| format!("{}: {e}", file.display()))?;
            pem
        }
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    Identity::read(&pem, &file).map_err(|e| e.to_string())
}

fn peer_certificate(folder: &Path) -> Option<CertificateDer<'static>> {
    let der = std::fs::read(folder.join("peer.der")).ok()?;
    (!der.is_empty()).then(|| CertificateDer::from(der))
}

pub fn store_peer(folder: &Path, certificate: &[u8]) -> Result<(), String> {
    let file = folder.join("peer.der");
    evenkeel_files::write_private(&file, certificate).map_err(|e| format!("{}: {e}", file.display()))
}
