//! The layer-7 proxy engine: event loops that accept, route, connect and relay.
//!
//! In: a checked snapshot, states of real servers, listening sockets handed over. Out: traffic,
//! counters, log lines, notices about servers. Never: configuration files, health probes, JSON.

mod auth;
mod buffer;
mod challenge;
pub mod counters;
mod engine;
mod file_error;
mod h2;
mod link;
mod listen;
mod log;
mod proxy;
mod reactor;
mod routing;
mod spec;
pub mod tls;
mod worker;

use evenkeel_http::{h1, proxy_header, rdp};

pub use challenge::{ChallengeAnswer, Challenges};
pub use engine::{ApplyError, Engine, EngineOptions, PreparedEngine, check_files, unmatchable_lists};
pub use file_error::FileError;
pub use listen::{check_free, listen};
pub use log::{LogHandle, host_name};
pub use routing::{ListFiles, TableSpec, unknown_pool};
pub use spec::{
    Closing, ConnectionInfo, EngineConfig, Notice, PoolSpec, ServerSpec, ServerState, ServiceSpec,
};

/// The day of the week (0 is Monday) and the minute of the day, here and now.
pub fn local_minute() -> (u8, u16) {
    log::LocalTime::new().minute(reactor::now().wall_ms)
}

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    reactor::now().wall_ms / 1_000
}

/// Milliseconds of the monotonic clock that event loops and persistence tables count in.
pub fn monotonic_ms() -> u64 {
    reactor::now().mono_ms
}
