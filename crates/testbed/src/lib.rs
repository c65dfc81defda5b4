//! Everything an end-to-end test needs: an address of its own, the program under test, real
//! servers, scripted servers, a client that sees bytes.
//!
//! Processes are ended by their own handle, whatever happens to the test.

mod client;
pub mod frame;
mod hosts;
pub mod pair;
mod pki;
mod place;
mod process;
mod scripted;
mod server;

pub use client::{Answer, Connection, get, parse_answer};
pub use hosts::Hosts;
pub use pki::Authority;
pub use place::{Place, eventually, note_skip, require, skip, within};
pub use process::{Evenkeel, Output, Process, command, has_program};
pub use scripted::{Scripted, read_head};
pub use server::{apache, haproxy, nginx, nginx_with, node};
