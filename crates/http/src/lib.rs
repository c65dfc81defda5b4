//! The protocols of layer 7 as functions over bytes: HTTP/1 heads and framing, the HTTP/2 engine with
//! HPACK, the PROXY header, and the first messages of RDP and TLS clients.
//!
//! In: bytes, the time. Out: facts, new bytes, events. Never: a socket, a clock, a thread, an event loop.

#![warn(missing_docs)]

pub mod client_hello;
pub mod coding;
pub mod h1;
pub mod h2;
pub mod memory;
pub mod proxy_header;
pub mod rdp;
pub mod status;
