//! HTTP/2 (RFC 9113) towards clients and real servers. Sessions speak HTTP/1 on both sides of
//! them; a connection's task turns that into frames and back.

pub mod connection;
mod dechunk;
mod fields;
pub mod frame;
pub mod hpack;
pub mod mux;
mod text;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::h1::request::Request;

/// Base64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let number = part.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - part.len()));
        for place in 0..4 {
            match place <= part.len() {
                true => out.push(char::from(DIGITS[(number >> (18 - 6 * place)) as usize & 63])),
                false => out.push('='),
            }
        }
    }
    out
}

/// What a WebSocket's client expects of the answer (RFC 6455 section 4.2.2).
fn websocket_accept(request: &Request, head: &[u8]) -> String {
    let named = |f: &&crate::h1::field::Field| f.name.of(head).eq_ignore_ascii_case(b"sec-websocket-key");
    let key = request.fields.iter().find(named).map_or(&b""[..], |f| f.value.of(head));
    let whole = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref())
}

#[cfg(test)]
mod tests;
