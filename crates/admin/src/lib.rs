//! The admin server: REST API on the Unix socket, `/metrics` and `/healthz` on plain HTTP.
//!
//! In: HTTP requests. Out: [`Request`]s to the daemon's one loop, their answers as JSON.
//! Never: a decision of its own.

mod routes;

use evenkeel_api as api;
use tokio::sync::{mpsc, oneshot};

pub use routes::{metrics_router, socket_router};

/// What the admin server asks of the daemon.
pub enum Request {
    Status(oneshot::Sender<api::Status>),
    Plan { text: String, reply: Reply<api::Plan> },
    Commit { text: String, options: api::CommitOptions, reply: Reply<api::Committed> },
    Confirm(Reply<api::Confirmed>),
    Rollback { rollback: api::Rollback, reply: Reply<api::Committed> },
    History(oneshot::Sender<Vec<api::Revision>>),
    Revision { revision: u64, reply: Reply<api::RevisionText> },
    Change { service: String, server: String, change: api::ServerChange, reply: Reply<api::RealServer> },
    Connections { filter: api::ConnectionFilter, reply: oneshot::Sender<Vec<api::Connection>> },
    Persistence { service: String, reply: Reply<Vec<api::PersistenceEntry>> },
    ClearPersistence { service: String, key: Option<String>, reply: Reply<api::Cleared> },
    Explain { question: api::Question, reply: Reply<api::Explanation> },
    Pair(Reply<api::Pair>),
    SwitchOver(Reply<api::SwitchedOver>),
    Hold { held: bool, reply: Reply<api::Pair> },
    RotateKey(Reply<api::Pair>),
    Push(Reply<api::Pair>),
    Invite(Reply<api::Invitation>),
    Join { code: String, reply: Reply<api::Pair> },
    Metrics(oneshot::Sender<String>),
    Logs(oneshot::Sender<std::sync::mpsc::Receiver<Vec<u8>>>),
}

pub type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// A request that was understood and not carried out.
#[derive(Debug)]
pub struct Refused {
    pub kind: Kind,
    pub failure: api::Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration has problems.
    Invalid,
    /// What the request names does not exist.
    NotFound,
    /// It is right, but could not be done now.
    Failed,
}

impl Refused {
    pub fn new(kind: Kind, error: impl Into<String>) -> Refused {
        Refused { kind, failure: api::Failure { error: error.into(), problems: Vec::new() } }
    }
}

/// Where requests go.
#[derive(Clone)]
pub struct Handle(pub mpsc::Sender<Request>);
