//! Switching to another protocol: `Upgrade` of HTTP/1 and the extended CONNECT of HTTP/2 (RFC 8441).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;

use crate::h1::Framing;
use crate::h1::field::FieldKind;
use crate::h1::request::{Method, Request};

/// The protocol that a request asks to switch to, if an extended CONNECT can ask for it (RFC 8441): a GET
/// without a body that names one protocol. Other requests are sent without the upgrade, which a server may
/// ignore anyway (RFC 9110 section 7.8).
pub fn requested_protocol<'a>(request: &Request, head: &'a [u8]) -> Option<&'a [u8]> {
    if !request.upgrade || request.method != Method::Get || request.framing != Framing::None {
        return None;
    }
    let mut asked = request.fields.iter().filter(|f| f.kind == FieldKind::Upgrade).map(|f| f.value.of(head));
    let protocol = asked.next().filter(|_| asked.next().is_none())?;
    is_protocol(protocol).then_some(protocol)
}

/// Whether this can be the name of a protocol to switch to. HTTP/2 itself is not offered that way.
pub fn is_protocol(name: &[u8]) -> bool {
    let token = !name.is_empty() && name.len() <= 64 && name.iter().all(|b| crate::h1::chunked::is_token(*b));
    token && !name.eq_ignore_ascii_case(b"h2c")
}

pub fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}

/// The fields of the 101 answer that a session reads once the server has accepted the extended CONNECT.
pub struct Switch {
    /// `Upgrade`.
    pub protocol: Vec<u8>,
    /// `Sec-WebSocket-Accept`, for a WebSocket.
    pub accept: Option<String>,
}

/// The `Sec-WebSocket-Accept` that proves that the key was read (RFC 6455 section 4.2.2).
pub fn websocket_accept(request: &Request, head: &[u8]) -> String {
    let named = |f: &&crate::h1::field::Field| f.name.of(head).eq_ignore_ascii_case(b"sec-websocket-key");
    let key = request.fields.iter().find(named).map_or(&b""[..], |f| f.value.of(head));
    let whole = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref())
}
