//! The routes of a service: compiled once for each configuration, and walked for each request,
//! connection and answer.
//!
//! In: checked routes of the model, what a request says ([`Source`]). Out: a [`Verdict`], what changes
//! ([`Changes`]), what is counted and limited on the way ([`Effects`]). Never: a file, a socket, a clock,
//! a thread.
//!
//! There is one walk. The event loops run it for what clients send, `explain` runs it for a request that
//! nobody sent and puts each step into words; they differ only in the three traits that they implement.

#![warn(missing_docs)]

mod changes;
mod client_address;
mod compile;
mod index;
mod view;
mod walk;

pub use changes::{Addresses, Changes, HeadChanges, Variables};
pub use client_address::ClientAddress;
pub use compile::{AnswerRoute, Edit, Loader, Resources, Route, RouteAction, RouteTable, Routes, compile};
pub use view::{Source, View, parameters, without_port};
pub use walk::{AnswerVerdict, Effects, Next, Verdict, Walk, walk_answer};

#[cfg(test)]
mod tests;
