//! AgentX (RFC 2741): how a sub-agent speaks to the SNMP agent of its machine.
//!
//! In: bytes of the agent, a view of what there is to read. Out: bytes for the agent, and what happened.
//! Never: a socket, a clock, a thread; what the values mean. Bytes of the agent are hostile.

mod codec;
pub mod mib;
mod oid;
mod session;
mod view;

pub use codec::{Frame, Invalid, LONGEST, Pdu, SearchRange, decode, encode, length};
pub use oid::Oid;
pub use session::{Event, Session};
pub use view::{Value, VarBind, View};

#[cfg(test)]
mod tests;
