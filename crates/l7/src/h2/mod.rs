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

use crate::h1::Framing;
use crate::h1::field::Kind;
use crate::h1::request::{Method, Request};

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

/// The protocol that a request asks for, where HTTP/2 can say so (RFC 8441): one name, and no body.
/// Other requests go without; a server may ignore an upgrade anyway (RFC 9110 section 7.8).
fn protocol_asked<'a>(request: &Request, head: &'a [u8]) -> Option<&'a [u8]> {
    if !request.upgrade || request.method != Method::Get || request.framing != Framing::None {
        return None;
    }
    let mut asked = request.fields.iter().filter(|f| f.kind == Kind::Upgrade).map(|f| f.value.of(head));
    let protocol = asked.next().filter(|_| asked.next().is_none())?;
    is_protocol(protocol).then_some(protocol)
}

/// HTTP/2 itself is no protocol to switch to, neither here nor in HTTP/1.
fn is_protocol(name: &[u8]) -> bool {
    let token = !name.is_empty() && name.len() <= 64 && name.iter().all(|b| crate::h1::chunked::is_token(*b));
    token && !name.eq_ignore_ascii_case(b"h2c")
}

fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}

/// What a client of HTTP/1 is told once the server has taken its upgrade.
struct Switch {
    protocol: Vec<u8>,
    /// Of a WebSocket.
    accept: Option<String>,
}

/// What a WebSocket's client expects of the answer (RFC 6455 section 4.2.2).
fn websocket_accept(request: &Request, head: &[u8]) -> String {
    let named = |f: &&crate::h1::field::Field| f.name.of(head).eq_ignore_ascii_case(b"sec-websocket-key");
    let key = request.fields.iter().find(named).map_or(&b""[..], |f| f.value.of(head));
    let whole = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref())
}

/// Drives both ends of a connection with bytes of anybody's making: for the fuzz target. Each
/// stream that is opened is answered, and read.
pub fn exercise(bytes: &[u8]) {
    use crate::reactor::{Io, Reactor};
    use crate::stream::{Signal, StreamLink};
    use std::cell::OnceCell;

    thread_local! {
        static LOOP: OnceCell<crate::reactor::Loop> = const { OnceCell::new() };
    }
    let Ok(made) = LOOP.with(|kept| match kept.get() {
        Some(reactor) => Ok(*reactor),
        None => Reactor::leak().inspect(|reactor| {
            let _ = kept.set(reactor);
        }),
    }) else {
        return;
    };
    for role in [mux::Role::Server, mux::Role::Client] {
        let mut connection = mux::Mux::new(role, Signal::new(made), false, 1);
        let mut links = Vec::new();
        let mut all = Vec::new();
        if role == mux::Role::Server {
            all.extend_from_slice(frame::PREFACE);
        } else {
            links.push(StreamLink::new(connection.open()));
            links[0].try_write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        }
        frame::write_settings(&[], &mut all);
        all.extend_from_slice(bytes);
        let (mut at, mut end) = (0, 0);
        let mut buffer = [0; 512];
        while end < all.len() {
            end = (end + 97).min(all.len());
            match connection.receive(&all[at..end], end as u64) {
                Ok(taken) => at += taken,
                Err(_) => break,
            }
            for opened in std::mem::take(&mut connection.opened) {
                let link = StreamLink::new(opened.stream);
                link.try_write(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                );
                links.push(link);
            }
            for link in &links {
                while let Io::Done(_) = link.try_read(&mut buffer) {}
            }
            connection.produce(end as u64);
            assert!(connection.out.len() < 1 << 20, "output is bounded");
            connection.out.clear();
            if links.len() > 8 {
                links.clear();
            }
        }
        connection.abandon();
    }
}

#[cfg(test)]
mod tests;
