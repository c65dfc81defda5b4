//! What the engine tells its event loops: the configuration with identities, counters and the
//! few values that loops share.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use evenkeel_balance::Table;
use evenkeel_model::{AdminState, Name, Pool, RealServer, ServerTls, VirtualService};

use crate::counters::{Counter, PerCore, ServerCounters, ServiceCounters};
use crate::log::LineStyle;
use crate::routing::{Page, RouteFiles, Routes, TableSpec};
use crate::tls::{TlsClient, TlsServer};

/// One configuration as the event loops use it. Equal parts of two configurations are the same
/// allocation, which is how a loop knows what did not change.
pub struct EngineConfig {
    pub services: Vec<Arc<ServiceSpec>>,
    pub pools: Vec<Arc<PoolSpec>>,
    pub tables: Vec<Arc<TableSpec>>,
    pub max_connections: u32,
}

pub struct ServiceSpec {
    pub id: u32,
    pub pool_id: u32,
    /// The pools that routes name, by the number they use; the first is the service's own.
    pub pool_ids: Vec<u32>,
    pub routes: Arc<Routes>,
    /// What they were made of.
    pub route_files: RouteFiles,
    pub error_pages: Vec<(u16, Page)>,
    pub line: LineStyle,
    pub service: Arc<VirtualService>,
    pub counters: Arc<PerCore<ServiceCounters>>,
    /// Client connections of all loops.
    pub connections: Arc<AtomicU32>,
    /// The server that takes clients when no real server is left.
    pub fallback_server: Option<Arc<ServerSpec>>,
    pub tls: Option<Arc<TlsServer>>,
}

impl ServiceSpec {
    /// It has as many client connections as it may have.
    pub fn is_full(&self) -> bool {
        let limit = self.service.max_connections;
        limit != 0 && self.connections.load(std::sync::atomic::Ordering::Relaxed) >= limit
    }
}

pub struct PoolSpec {
    pub id: u32,
    pub pool: Arc<Pool>,
    pub servers: Vec<Arc<ServerSpec>>,
    pub table: Option<Arc<Table>>,
    /// Clients of all loops that wait for a place on a server of this pool.
    pub waiting: Arc<AtomicU32>,
    /// Requests or connections with its servers now.
    pub current: Arc<PerCore<Counter>>,
    /// Whose turn it is in round robin, of all loops.
    pub turns: Arc<AtomicU64>,
    /// TLS as its servers speak it: one context for each of what they need.
    pub tls: ServersTls,
    /// Some of its servers speak HTTP/2, and all of them do.
    pub some_speak_h2: bool,
    pub all_speak_h2: bool,
}

/// By what is spoken, and whether that is HTTP/2.
pub type ServersTls = HashMap<(ServerTls, bool), Arc<TlsClient>>;

impl PoolSpec {
    /// Connections made for the one would be wrong for the other: other settings, or other files.
    pub fn reaches_otherwise(&self, other: &PoolSpec) -> bool {
        let same = |(settings, tls): (&(ServerTls, bool), &Arc<TlsClient>)| {
            other.tls.get(settings).is_none_or(|other| other.has_files_of(tls))
        };
        self.pool.reaches_otherwise(&other.pool) || !self.tls.iter().all(same)
    }
}

impl std::fmt::Debug for PoolSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolSpec").field("id", &self.id).field("pool", &self.pool).finish()
    }
}

#[derive(Debug)]
pub struct ServerSpec {
    /// The same server (pool, name, address) keeps its number across configurations.
    pub id: u32,
    pub server: RealServer,
    pub tls: Option<Arc<TlsClient>>,
    pub counters: Arc<PerCore<ServerCounters>>,
    /// Requests or connections of all loops; kept only when the server has a limit.
    pub active: Arc<AtomicU32>,
    /// Failures in a row, of all loops; kept only when the pool ejects outliers.
    pub failures: Arc<AtomicU32>,
}

/// A real server's changing state, as health checks and people set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerState {
    pub up: bool,
    pub up_since_ms: Option<u64>,
    pub admin: AdminState,
    pub weight: u16,
    /// What its agent asks for in the place of the configured limit; 0 is none.
    pub max_connections: Option<u32>,
}

impl ServerState {
    /// As the configuration has it, of a server that nothing is known of yet.
    pub fn begin(server: &evenkeel_model::RealServer) -> ServerState {
        let (admin, weight) = (server.admin_state, server.weight.get());
        ServerState { up: true, up_since_ms: None, admin, weight, max_connections: None }
    }
}

/// What traffic told a loop about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It refused a connection: this loop sends it nothing more until told otherwise.
    Refused { server: u32 },
    /// It did not answer in time, or was unreachable: worth a probe now.
    Suspect { server: u32 },
    /// It failed so often in a row that it gets a pause.
    Outlier { server: u32 },
    /// TLS with it came to nothing.
    Handshake { server: u32, why: String },
    /// A client's certificate was not accepted; told once a second at most.
    ClientCertificate { service: Name, client: SocketAddr, why: String },
    /// This loop has no connection left and accepts no more.
    Drained { core: usize },
    /// This loop has ended by a fault of the program.
    Broken { core: usize },
}

/// Which client connections are to be closed: those that fit all that is said.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    pub service: Option<String>,
    pub server: Option<String>,
    pub client: Option<IpAddr>,
    /// The port of the client: one connection.
    pub client_port: Option<u16>,
}

impl Closing {
    /// A connection that waits for its next request has no server.
    pub fn fits(&self, service: &str, server: Option<&str>, client: SocketAddr) -> bool {
        self.service.as_deref().is_none_or(|wanted| wanted == service)
            && self.server.as_deref().is_none_or(|wanted| Some(wanted) == server)
            && self.client.is_none_or(|wanted| wanted.to_canonical() == client.ip().to_canonical())
            && self.client_port.is_none_or(|wanted| wanted == client.port())
    }
}

/// One client connection, for listings.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    pub service: String,
    pub server: Option<String>,
    /// The number, in its loop, of the HTTP/2 connection that this is, or is a stream of.
    pub http2: Option<u32>,
    /// `idle`, `reading`, `queued`, `connecting`, `waiting`, `answering`, `relaying`.
    pub state: &'static str,
    pub age_ms: u64,
    pub requests: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub core: usize,
}
