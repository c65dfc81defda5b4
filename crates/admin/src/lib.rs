//! The admin server: REST API, web UI, metrics; who may use it; the audit log.
//!
//! In: HTTP requests. Out: [`Request`]s to the daemon's one loop, their answers as JSON.
//! Never: a decision about traffic, a file of the configuration.

mod accounts;
mod audit;
pub mod connected;
mod gate;
mod given;
mod leftover;
mod live;
mod maintenance;
mod openapi;
mod people;
mod picture;
mod routes;
mod run_time;
mod scrape;
mod serve;
mod table;
mod ui;

use std::sync::Arc;

use evenkeel_api as api;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use accounts::{Accounts, By, Who, Write, hex};
pub use audit::Audit;
pub use gate::now_ms;
pub use rustls::ServerConfig;
pub use serve::{Listening, Tls, plain, secure, socket, tls};
pub use ui::is_built as ui_is_built;

/// What the admin server asks of the daemon.
pub enum Request {
    Status(oneshot::Sender<api::Status>),
    /// The same with one virtual service, at the cost of one.
    ServiceStatus {
        service: String,
        reply: Reply<api::Status>,
    },
    Configuration(Reply<api::Configuration>),
    /// The number of the running revision alone.
    RunningRevision(oneshot::Sender<u64>),
    Propose {
        edits: api::Edits,
        reply: Reply<api::Proposal>,
    },
    Schema(oneshot::Sender<serde_json::Value>),
    Plan {
        text: String,
        reply: Reply<api::Plan>,
    },
    Commit {
        text: String,
        options: api::CommitOptions,
        reply: Reply<api::Committed>,
    },
    Confirm(Reply<api::Confirmed>),
    Rollback {
        rollback: api::Rollback,
        reply: Reply<api::Committed>,
    },
    History(oneshot::Sender<Vec<api::Revision>>),
    Revision {
        revision: u64,
        reply: Reply<api::RevisionText>,
    },
    Change {
        service: String,
        server: String,
        change: api::ServerChange,
        reply: Reply<api::RealServer>,
    },
    /// A real server that the file does not have.
    AddServer {
        service: String,
        server: String,
        keys: api::ServerKeys,
        by: String,
        reply: Reply<api::RunTimeServer>,
    },
    /// Keys of a real server, whether it is of the file or was added.
    SetServer {
        service: String,
        server: String,
        keys: api::ServerKeys,
        by: String,
        reply: Reply<api::RunTimeServer>,
    },
    RemoveServer {
        service: String,
        server: String,
        /// One that the file has goes as well, until the file says something new of it.
        even_of_file: bool,
        reply: Reply<api::RunTimeServer>,
    },
    RunTimeServers(oneshot::Sender<Vec<api::RunTimeServer>>),
    Maintenance(oneshot::Sender<Vec<api::MaintenanceWindow>>),
    PlanMaintenance {
        planned: api::PlannedMaintenance,
        by: String,
        reply: Reply<api::MaintenanceWindow>,
    },
    EndMaintenance {
        id: String,
        reply: Reply<api::MaintenanceWindow>,
    },
    NameServers(oneshot::Sender<Vec<api::NameServer>>),
    Connections {
        filter: api::ConnectionFilter,
        reply: oneshot::Sender<Vec<api::Connection>>,
    },
    CloseConnections {
        which: api::Closing,
        reply: Reply<api::Closed>,
    },
    /// The machine's network, names and time.
    Machine(Reply<api::Machine>),
    /// What the program has said of itself lately.
    ProgramLog(oneshot::Sender<Vec<String>>),
    Persistence {
        service: String,
        reply: Reply<Vec<api::PersistenceEntry>>,
    },
    ClearPersistence {
        service: String,
        key: Option<String>,
        reply: Reply<api::Cleared>,
    },
    Explain {
        question: api::Question,
        reply: Reply<api::Explanation>,
    },
    Series {
        query: api::SeriesQuery,
        reply: Reply<api::Series>,
    },
    Happenings(oneshot::Sender<Vec<api::Happening>>),
    /// Has files that the configuration names read at once; why they cannot be used.
    ReadFiles(oneshot::Sender<Result<(), String>>),
    Certificates(oneshot::Sender<Vec<api::Certificate>>),
    PutCertificate {
        name: String,
        pem: String,
        reply: Reply<api::Certificate>,
    },
    ManageCertificate {
        name: String,
        action: api::CertificateAction,
        reply: Reply<api::Certificate>,
    },
    Doctor(Reply<serde_json::Value>),
    Attempt {
        attempt: api::Attempt,
        /// Whoever asks may configure: any address, any file, and the answer is told.
        free: bool,
        reply: Reply<api::Attempted>,
    },
    WhoHas {
        address: std::net::IpAddr,
        reply: Reply<Vec<api::Holder>>,
    },
    TestAlerts(Reply<api::AlertsTested>),
    Backup(Reply<api::Backup>),
    Restore {
        backup: Box<api::Backup>,
        options: api::RestoreOptions,
        who: String,
        reply: Reply<api::Restored>,
    },
    SupportBundle(Reply<serde_json::Value>),
    /// The part of a lockdown that is not about people; the rest has been done.
    Lockdown {
        who: String,
        from: String,
        reply: Reply<api::Lockdown>,
    },
    Restart {
        part: api::Part,
        reply: Reply<api::Restarting>,
    },
    Pair(Reply<api::Pair>),
    SwitchOver(Reply<api::SwitchedOver>),
    UpgradeOther {
        step: api::PairUpgrade,
        reply: Reply<api::PairUpgraded>,
    },
    Hold {
        held: bool,
        reply: Reply<api::Pair>,
    },
    RotateKey(Reply<api::Pair>),
    Push(Reply<api::Pair>),
    Invite {
        part: api::PairPart,
        reply: Reply<api::Invitation>,
    },
    Join {
        join: api::Join,
        reply: Reply<api::Pair>,
    },
    Metrics(oneshot::Sender<String>),
    Logs(oneshot::Sender<std::sync::mpsc::Receiver<Vec<u8>>>),
}

pub type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// A request that was understood and not carried out.
#[derive(Debug)]
pub struct Refused {
    pub kind: FailureKind,
    pub failure: api::Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// What was sent has problems.
    Invalid,
    /// What the request names does not exist.
    NotFound,
    /// It is right, but could not be done now.
    Failed,
    /// It was made for a revision that no longer is the running one.
    Changed,
    /// Nobody knows who asks.
    Unknown,
    /// All is right but the second factor.
    SecondFactor,
    /// It is known who asks, and they may not.
    Forbidden,
    /// Too many attempts have failed.
    Locked,
    /// Too much of one person is under way.
    Busy,
}

impl Refused {
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Refused {
        Refused { kind, failure: api::Failure { detail: detail.into(), ..api::Failure::default() } }
    }
}

/// Where requests go.
#[derive(Clone)]
pub struct Handle(pub mpsc::Sender<Request>);

/// What goes on, for those who watch.
#[derive(Clone)]
pub struct Feed {
    /// A new status every second while anybody watches; nothing else.
    pub status: Arc<watch::Sender<Option<Arc<api::Status>>>>,
    pub happenings: broadcast::Sender<api::Happening>,
}

/// Everything that a route may need. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub handle: Handle,
    pub accounts: Accounts,
    pub audit: Audit,
    pub feed: Feed,
    /// This node's name.
    pub node: Arc<str>,
}
