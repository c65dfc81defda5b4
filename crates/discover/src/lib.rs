//! Finds real servers that are not written by address: looks their names up again and again, and follows
//! lists of them.
//!
//! In: names, lists and rules. Out: what changed, told to a channel. Never: a choice among the addresses
//! of a name, a server's state; whoever asks is never waited for.

mod ask;
mod consul;
mod docker;
mod finder;
pub mod hosts;
mod http;
mod known;
mod listing;

pub use ask::QuestionCounts;
pub use finder::{Finder, Found, Listed, News, Remembered, Wants};
pub use known::Failure;
pub use listing::{Details, Endpoint, List, file_sd, file_sd_yaml};
