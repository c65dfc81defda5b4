//! Messages of the DNS: questions for addresses and services with their answers, and signed updates.
//!
//! In: names, bytes of anybody. Out: bytes to send, what bytes say. Never: a socket, a clock, a secret; more
//! work than a message has bytes.

mod message;
mod update;

pub use message::{Bad, Kind, RECORDS, Reply, Service, question, reply};
pub use update::{Signature, code, is_answer, question_for_zone, sign, update, wire, zone_begins};
