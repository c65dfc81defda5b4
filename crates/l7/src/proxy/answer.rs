//! Answers that the load balancer gives itself.

use evenkeel_model::Fallback;

use super::session::Client;
use crate::h1::request::line;
use crate::reactor::{Io, Stop};
use crate::worker::Worker;

pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

/// Writes a whole answer to a failed request.
pub fn error(status: u16, close: bool, out: &mut Vec<u8>) {
    let body = format!("{status} {}\n", reason(status));
    write(status, "text/plain; charset=utf-8", body.as_bytes(), close, false, out);
}

pub fn page(fallback: &Fallback, close: bool, head_only: bool, out: &mut Vec<u8>) -> Option<u16> {
    let Fallback::Page { status, body, content_type } = fallback else { return None };
    write(*status, content_type, body.as_bytes(), close, head_only, out);
    Some(*status)
}

fn write(status: u16, content_type: &str, body: &[u8], close: bool, head_only: bool, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
    line(out, b"Content-Type", content_type.as_bytes());
    line(out, b"Content-Length", body.len().to_string().as_bytes());
    line(out, b"Cache-Control", b"no-store");
    if close {
        line(out, b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(body);
    }
}

/// Sends bytes to a client; `Err` when it no longer takes them.
pub async fn send(worker: &Worker, client: &Client, bytes: &[u8], timeout_ms: u64) -> Result<(), ()> {
    let mut sent = 0;
    let deadline_ms = worker.reactor.now_ms() + timeout_ms;
    while sent < bytes.len() {
        match client.sock.try_write(&bytes[sent..]) {
            Io::Done(count) => sent += count,
            Io::Blocked => {
                client.sock.want_write();
                match worker.reactor.wait(deadline_ms).await {
                    Ok(()) => {}
                    Err(Stop::TimedOut | Stop::Killed) => return Err(()),
                }
            }
            Io::Eof | Io::Failed(_) => return Err(()),
        }
    }
    Ok(())
}

/// Closes a connection whose client may still be sending: an immediate close would reset it and
/// could take the answer away with it (RFC 9112 section 9.6).
pub async fn linger(worker: &Worker, client: &Client) {
    const LINGER_MS: u64 = 1_000;
    const LINGER_BYTES: usize = 256 * 1024;
    client.sock.shutdown_write();
    let Some(mut buffer) = worker.buffers.get() else { return };
    let deadline_ms = worker.reactor.now_ms() + LINGER_MS;
    let mut discarded = 0;
    while discarded < LINGER_BYTES {
        match client.sock.try_read(buffer.room()) {
            Io::Done(count) => discarded += count,
            Io::Blocked => {
                client.sock.want_read();
                if worker.reactor.wait(deadline_ms).await.is_err() {
                    return;
                }
            }
            Io::Eof | Io::Failed(_) => return,
        }
        buffer.clear();
    }
}
