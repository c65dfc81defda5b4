//! Attacks on the built program, a class each: what bad clients send, what strangers do at the admin
//! address, what configurations name. Each ends in bounded time, is printed with what it cost beside a
//! normal client, and fails when normal clients are not served, or when memory or descriptors pass their
//! bounds. Nothing is asserted of time.

mod admin;
mod configurations;
mod cost;
mod http1;
mod http2;
mod limits;
mod memory;
mod people;
mod ports;
mod servers;
mod spellings;
mod tls;
