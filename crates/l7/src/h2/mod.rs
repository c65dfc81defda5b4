//! Drives HTTP/2: reads and writes links, tells the engine (`evenkeel_http::h2`) the time, wakes the
//! tasks that it names.

pub mod connection;
mod stream_link;

pub use stream_link::StreamLink;
