//! The layer-7 proxy engine: event loops that accept, route, connect and relay.
//!
//! In: a checked snapshot, states of real servers, listening sockets handed over. Out: traffic,
//! counters, log lines, notices about servers. Never: configuration files, health probes, JSON.

mod buffer;
pub mod counters;
mod engine;
pub mod h1;
mod log;
mod proxy;
mod reactor;
mod spec;
mod worker;

pub use engine::{ApplyError, Engine, EngineOptions, listen};
pub use log::LogHandle;
pub use spec::{ConnectionInfo, EngineConfig, Notice, PoolSpec, ServerSpec, ServerState, ServiceSpec};

/// Milliseconds of the monotonic clock that event loops and persistence tables count in.
pub fn monotonic_ms() -> u64 {
    reactor::now().mono_ms
}
