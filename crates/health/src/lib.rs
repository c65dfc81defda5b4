//! Runs health probes and tells what each one found.
//!
//! In: targets. Out: one [`Report`] a probe. Never: the verdict (that is `balance`), the traffic.

mod agent;
mod connect;
mod datagram;
mod found;
mod grpc;
mod http;
mod ping;
mod runner;
mod script;
mod steps;

pub use agent::{AgentAdmin, AgentState, parse as parse_agent};
pub use found::{Failure, Found, Layer, Outcome};
pub use http::{HttpFailure, ResponseScan};
pub use runner::{Checker, Report, Target};
