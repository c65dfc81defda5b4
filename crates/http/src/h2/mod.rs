//! HTTP/2 (RFC 9113), either end of a connection. Sessions speak HTTP/1 on their streams; the
//! multiplexer turns that into frames and back.
//!
//! In: the time, bytes of the peer, bytes of sessions. Out: bytes for the peer and for sessions, new
//! streams, whom to wake. Never: a socket, a clock, a call back.

mod dechunk;
mod fields;
pub mod frame;
pub mod hpack;
mod mux;
mod run_queue;
mod stream;
mod text;
mod upgrade;

pub use mux::{ConnectionError, Mux, Opened, Role, Usage};
pub use run_queue::Waiter;
pub use stream::{StreamHandle, StreamIo};

/// Whether bytes begin as a connection of HTTP/2 does (RFC 9113 section 3.3).
pub fn is_preface(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PRI * HTTP/2.0\r\n")
}

#[cfg(test)]
mod tests;
