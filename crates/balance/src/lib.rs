//! Picks real servers.
//!
//! In: a pool's servers with their states, a key, random numbers, the time. Out: the index of a
//! server, verdicts about its health, entries of a persistence table.
//! Never: a socket, a clock, a file. Time is in milliseconds of any monotonic clock.

mod balancer;
mod counts;
mod hash;
mod health;
mod least;
mod limiter;
mod maglev;
mod rotation;
mod table;

pub use balancer::{Balancer, Choice, Refusal, Server};
pub use counts::{Activity, Counter, Figure};
pub use hash::{hash_address, hash_bytes, hash_flow, hash_sdbm};
pub use health::{Health, Transition};
pub use limiter::{ConcurrencyLimit, RateLimit};
pub use maglev::{GONE, Maglev};
pub use table::{Change, ChangedEntry, Entry, Key, OnChange, Table};
