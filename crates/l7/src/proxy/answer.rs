//! Answers that the load balancer gives itself.

pub use evenkeel_http::status::reason;
use evenkeel_model::Fallback;

use super::connect::is_named_by;
use super::session::Client;
use crate::h1::field::Field;
use crate::h1::request::line;
use crate::h1::response::Response;
use crate::reactor::{Io, Stop};
use crate::routing::Page;
use crate::worker::Worker;

/// An answer of this program's own.
#[derive(Default)]
pub struct LocalReply<'a> {
    pub status: u16,
    pub content_type: &'a str,
    pub body: &'a [u8],
    /// Whole lines to add, and those of a page.
    pub lines: &'a [u8],
    pub page_lines: &'a [u8],
    /// What the client is told of its connection.
    pub connection: Option<&'static str>,
    /// The answer to HEAD.
    pub head_only: bool,
}

impl LocalReply<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).as_bytes());
        let bodiless = matches!(self.status, 204 | 304);
        if !bodiless {
            if !self.body.is_empty() {
                line(out, b"Content-Type", self.content_type.as_bytes());
            }
            line(out, b"Content-Length", self.body.len().to_string().as_bytes());
        }
        let stored = memchr::memmem::find(&self.page_lines.to_ascii_lowercase(), b"cache-control:").is_some();
        if (self.status >= 400 || self.status == 200) && !stored {
            line(out, b"Cache-Control", b"no-store");
        }
        out.extend_from_slice(self.page_lines);
        out.extend_from_slice(self.lines);
        if let Some(connection) = self.connection {
            line(out, b"Connection", connection.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if !self.head_only && !bodiless {
            out.extend_from_slice(self.body);
        }
    }
}

/// Writes a whole answer to a failed request: the service's page for it, or a few words. Nothing where
/// the page is silence.
pub fn error(status: u16, pages: &[(u16, Page)], own: LocalReply<'_>, out: &mut Vec<u8>) {
    match pages.iter().find(|(of, _)| *of == status) {
        Some((_, page)) if page.is_silence() => out.clear(),
        Some((_, page)) => {
            let (content_type, page_lines) = (&page.content_type, &page.lines);
            let status = page.status.unwrap_or(status);
            LocalReply { status, content_type, page_lines, body: &page.body, ..own }.write(out);
        }
        None => {
            let body = format!("{status} {}\n", reason(status));
            let content_type = "text/plain; charset=utf-8";
            LocalReply { status, content_type, body: body.as_bytes(), ..own }.write(out);
        }
    }
}

pub fn page(
    fallback: &Fallback,
    connection: Option<&'static str>,
    head_only: bool,
    out: &mut Vec<u8>,
) -> Option<u16> {
    let Fallback::Page { status, body, content_type } = fallback else { return None };
    LocalReply {
        status: *status,
        content_type,
        body: body.as_bytes(),
        connection,
        head_only,
        ..LocalReply::default()
    }
    .write(out);
    Some(*status)
}

/// Sends bytes to a client; `Err` when it no longer takes them.
pub async fn send(worker: &Worker, client: &Client, bytes: &[u8], timeout_ms: u64) -> Result<(), ()> {
    let mut sent = 0;
    let deadline_ms = worker.reactor.now_ms() + timeout_ms;
    while sent < bytes.len() {
        match client.link.try_write(&bytes[sent..]) {
            Io::Done(count) => sent += count,
            Io::Blocked => {
                client.link.want_write();
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
    if client.h2 {
        // The end of a stream takes nothing away.
        return;
    }
    const LINGER_MS: u64 = 1_000;
    const LINGER_BYTES: usize = 256 * 1024;
    let most = LINGER_BYTES + client.service.view().spec.service.head_size as usize;
    client.link.shutdown_write();
    let Some(mut buffer) = worker.buffers.get() else { return };
    let deadline_ms = worker.reactor.now_ms() + LINGER_MS;
    let mut discarded = 0;
    while discarded < most {
        match client.link.try_read(buffer.room()) {
            Io::Done(count) => discarded += count,
            Io::Blocked => {
                client.link.want_read();
                if worker.reactor.wait(deadline_ms).await.is_err() {
                    return;
                }
            }
            Io::Eof | Io::Failed(_) => return,
        }
        buffer.clear();
    }
}

/// What the client is told of its connection.
pub fn connection_field(kept: bool, version_11: bool) -> Option<&'static str> {
    match (kept, version_11) {
        (false, _) => Some("close"),
        (true, false) => Some("keep-alive"),
        (true, true) => None,
    }
}

/// The server wants a password for this connection, as NTLM does.
pub fn asks_for_credentials(response: &Response, head: &[u8]) -> bool {
    let names = [&b"www-authenticate"[..], b"proxy-authenticate"];
    let asks = |f: &Field| names.iter().any(|name| is_named_by(f.name.of(head), name, f.value.of(head)));
    response.fields().iter().any(asks)
}
