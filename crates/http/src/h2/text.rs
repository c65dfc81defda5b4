//! Translates between the fields of HTTP/2 and the heads of HTTP/1, which sessions read and write.
//!
//! In: fields, parsed heads. Out: heads, header blocks, how the body is framed. Never: frames, bodies.

use super::fields::{Fields, Malformed, check};
use super::hpack::{encode, encode_status};
use super::upgrade::{Switch, is_protocol, is_websocket};
use crate::h1::chunked::{is_forged_trailer, may_be_trailer};
use crate::h1::field::FieldKind;
use crate::h1::request::{Method, Request, bare_host};
use crate::h1::response::Response;
use crate::h1::{Framing, field};

/// What a head says of the body that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body.
    Empty,
    /// So many bytes, as they are.
    Length(u64),
    /// Bytes that HTTP/1 carries in chunks.
    Chunked,
    /// Bytes of another protocol, until the end.
    Raw,
}

/// What a translated request's head says.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The method that the session reads.
    pub method: Method,
    /// How its body comes.
    pub following: BodyFraming,
}

/// Writes a request's head as HTTP/1. `ended`: no body follows. `key` is the `Sec-WebSocket-Key` that a
/// WebSocket's request gets. `absolute`: the target is written with its scheme and authority.
pub fn request_to_text(
    fields: &Fields,
    ended: bool,
    key: &str,
    absolute: bool,
    out: &mut Vec<u8>,
) -> Result<Received, Malformed> {
    let pseudo = check(fields, false)?;
    let (Some(method), None) = (pseudo.method, pseudo.status) else { return Err(Malformed) };
    let (Some(scheme), Some(path)) = (pseudo.scheme, pseudo.path) else { return Err(Malformed) };
    let tunnel = match (method, pseudo.protocol) {
        (b"CONNECT", Some(protocol)) if is_protocol(protocol) => Some(protocol),
        (b"CONNECT", _) | (_, Some(_)) => return Err(Malformed),
        _ => None,
    };
    let token = |b: &u8| crate::h1::chunked::is_token(*b);
    let plain = |b: &u8| matches!(b, 0x21..=0x7e) && *b != b'#';
    if !(method.iter().all(token) && !method.is_empty() && path.iter().all(plain)) {
        return Err(Malformed);
    }
    let rooted = path.first() == Some(&b'/') || (path == b"*" && method == b"OPTIONS");
    if !rooted || !matches!(scheme, b"http" | b"https") {
        return Err(Malformed);
    }
    let mut hosts = fields.iter().filter(|(name, _)| *name == b"host").map(|(_, value)| value);
    let host = hosts.next();
    let authority = match (pseudo.authority, host) {
        (Some(b""), _) => return Err(Malformed),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return Err(Malformed),
        (Some(authority), _) => authority,
        (None, Some(host)) => host,
        // A request need not name its host (RFC 9113 section 8.3.1); in HTTP/1 the field is then empty
        // (RFC 9112 section 3.2).
        (None, None) => b"",
    };
    if hosts.next().is_some() || authority.contains(&b'@') {
        return Err(Malformed);
    }
    out.extend_from_slice(if tunnel.is_some() { b"GET" } else { method });
    out.push(b' ');
    let authority = if absolute { bare_host(scheme, authority) } else { authority };
    if absolute && !authority.is_empty() && path != b"*" {
        out.extend_from_slice(scheme);
        out.extend_from_slice(b"://");
        out.extend_from_slice(authority);
    }
    out.extend_from_slice(path);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(authority);
    out.extend_from_slice(b"\r\n");
    let length = copy_fields(fields, out)?;
    let following = match (tunnel, ended, length) {
        (Some(protocol), ..) => {
            line(b"connection", b"upgrade", out);
            line(b"upgrade", protocol, out);
            if is_websocket(protocol) {
                line(b"sec-websocket-key", key.as_bytes(), out);
            }
            BodyFraming::Raw
        }
        (_, true, Some(1..)) => return Err(Malformed),
        (_, true, length) => {
            if length.is_none() && matches!(method, b"POST" | b"PUT" | b"PATCH") {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
            BodyFraming::Empty
        }
        (_, false, Some(length)) => BodyFraming::Length(length),
        (_, false, None) => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            BodyFraming::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok(Received { method: Method::of(if tunnel.is_some() { b"GET" } else { method }), following })
}

/// Copies all fields but pseudo-fields, `host` and `te`; several `cookie` fields become one line
/// (RFC 9113 section 8.2.3). Returns the value of `content-length`.
fn copy_fields(fields: &Fields, out: &mut Vec<u8>) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for (name, value) in fields.iter() {
        match name {
            [b':', ..] | b"host" | b"te" | b"cookie" => continue,
            b"content-length" => {
                let this = field::content_length(value).map_err(|_| Malformed)?;
                if length.replace(this).is_some_and(|before| before != this) {
                    return Err(Malformed);
                }
            }
            _ => {}
        }
        line(name, value, out);
    }
    let mut crumbs = fields.iter().filter(|(name, _)| *name == b"cookie").map(|(_, value)| value);
    if let Some(first) = crumbs.next() {
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first);
        for crumb in crumbs {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(crumb);
        }
        out.extend_from_slice(b"\r\n");
    }
    Ok(length)
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes an answer's head as HTTP/1; its status and the framing of its body. `switch` is set where the
/// request asked for another protocol.
pub fn response_to_text(
    fields: &Fields,
    ended: bool,
    method: Method,
    switch: Option<&Switch>,
    out: &mut Vec<u8>,
) -> Result<(u16, BodyFraming), Malformed> {
    let pseudo = check(fields, false)?;
    let status = pseudo.status.and_then(|s| std::str::from_utf8(s).ok()?.parse::<u16>().ok());
    let status = status.filter(|s| (100..600).contains(s) && *s != 101).ok_or(Malformed)?;
    if pseudo.method.is_some() || pseudo.path.is_some() {
        return Err(Malformed);
    }
    let switches = switch.filter(|_| status == 200);
    let shown = if switches.is_some() { 101 } else { status };
    out.extend_from_slice(format!("HTTP/1.1 {shown} {}\r\n", crate::status::reason(shown)).as_bytes());
    let length = copy_fields(fields, out)?;
    let bodiless = method == Method::Head || status < 200 || matches!(status, 204 | 304);
    let following = match (switches, ended, length) {
        (Some(switch), ..) => {
            line(b"connection", b"upgrade", out);
            line(b"upgrade", &switch.protocol, out);
            if let Some(accept) = &switch.accept {
                line(b"sec-websocket-accept", accept.as_bytes(), out);
            }
            BodyFraming::Raw
        }
        (None, ..) if bodiless => BodyFraming::Empty,
        (None, true, Some(1..)) => return Err(Malformed),
        (None, true, length) => {
            if length.is_none() {
                line(b"content-length", b"0", out);
            }
            BodyFraming::Empty
        }
        (None, false, Some(length)) => BodyFraming::Length(length),
        (None, false, None) => {
            line(b"transfer-encoding", b"chunked", out);
            BodyFraming::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok((status, following))
}

/// Writes trailers after the last chunk.
pub fn trailers_to_text(fields: &Fields, out: &mut Vec<u8>) -> Result<(), Malformed> {
    check(fields, true)?;
    out.extend_from_slice(b"0\r\n");
    for (name, value) in fields.iter() {
        // Others would make the session refuse the whole body, as it does for HTTP/1.
        if may_be_trailer(name) && !is_forged_trailer(name) {
            line(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Encodes a parsed answer's head.
pub fn response_to_block(response: &Response, head: &[u8], tunnel: bool, out: &mut Vec<u8>) -> BodyFraming {
    encode_status(if tunnel && response.status == 101 { 200 } else { response.status }, out);
    for f in response.fields() {
        let name = f.name.of(head);
        let own = tunnel && name.eq_ignore_ascii_case(b"sec-websocket-accept");
        match f.kind {
            FieldKind::Connection
            | FieldKind::HopByHop
            | FieldKind::Upgrade
            | FieldKind::TransferEncoding => {}
            _ if own => {}
            _ => encode_lower(name, f.value.of(head), out),
        }
    }
    match response.framing {
        _ if response.status == 101 => BodyFraming::Raw,
        Framing::None => BodyFraming::Empty,
        Framing::Length(length) => BodyFraming::Length(length),
        Framing::Chunked => BodyFraming::Chunked,
        Framing::UntilClose => BodyFraming::Raw,
    }
}

/// Encodes a parsed request's head. `protocol` is what it asks to switch to.
pub fn request_to_block(
    request: &Request,
    head: &[u8],
    scheme: &[u8],
    protocol: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> BodyFraming {
    let tunnel = protocol.is_some();
    encode(b":method", if tunnel { b"CONNECT" } else { request.method_span.of(head) }, out);
    if let Some(protocol) = protocol {
        encode(b":protocol", protocol, out);
    }
    encode(b":scheme", scheme, out);
    // An empty host is left out (RFC 9113 section 8.3.1).
    let host = request.host.of(head);
    if !host.is_empty() {
        encode(b":authority", host, out);
    }
    encode(b":path", request.path(head), out);
    let mut grpc = false;
    for f in &request.fields {
        let (name, value) = (f.name.of(head), f.value.of(head));
        let own = protocol.is_some_and(is_websocket) && name.eq_ignore_ascii_case(b"sec-websocket-key");
        match f.kind {
            FieldKind::Connection
            | FieldKind::HopByHop
            | FieldKind::Nominated
            | FieldKind::Upgrade
            | FieldKind::TransferEncoding
            | FieldKind::Host => {}
            _ if own => {}
            _ => {
                grpc |= name.eq_ignore_ascii_case(b"content-type") && value.starts_with(b"application/grpc");
                encode_lower(name, value, out);
            }
        }
    }
    if grpc {
        // gRPC servers require it; the client's own `te` belonged to its hop.
        encode(b"te", b"trailers", out);
    }
    match request.framing {
        _ if tunnel => BodyFraming::Raw,
        Framing::None => BodyFraming::Empty,
        Framing::Length(length) => BodyFraming::Length(length),
        Framing::Chunked | Framing::UntilClose => BodyFraming::Chunked,
    }
}

/// Encodes the lines of a trailer section.
pub fn trailers_to_block(section: &[u8], out: &mut Vec<u8>) {
    for text in section.split(|b| *b == b'\n') {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let Some(at) = memchr::memchr(b':', text) else { continue };
        encode_lower(&text[..at], text[at + 1..].trim_ascii(), out);
    }
}

fn encode_lower(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let mut lower = [0; 128];
    match lower.get_mut(..name.len()) {
        Some(lower) => {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            encode(lower, value, out);
        }
        None => encode(&name.to_ascii_lowercase(), value, out),
    }
}
