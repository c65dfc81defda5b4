//! The connection's journey: accept (`worker`), read just enough (`client`), pick (`persist`, `pick`),
//! connect or reuse and relay (`exchange`, `flow`, `relay`), log and count (`account`).

pub mod account;
pub mod answer;
mod body_first;
pub mod client;
pub mod connect;
pub mod exchange;
pub mod facts;
pub mod failure;
pub mod flow;
pub mod forwarded;
pub mod greet;
mod hidden_body;
pub mod persist;
pub mod pick;
pub mod relay;
pub mod route;
mod runtime;
pub mod session;
#[cfg(test)]
mod sizes;
pub mod tcp;

pub use runtime::{PoolRuntime, ServerRuntime, Service, ServiceView, Waiter};
