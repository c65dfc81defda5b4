//! Runs health probes and tells what each one found.
//!
//! In: targets. Out: one [`Report`] a probe. Never: the verdict (that is `balance`), the traffic.

mod http;
mod runner;

pub use http::{HttpFailure, ResponseScan};
pub use runner::{Checker, Report, Target};
