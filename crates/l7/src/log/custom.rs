//! Lines that are written as a text says.

use std::sync::OnceLock;

use evenkeel_rules::{LineField, LineFormat, LinePart};

use super::format::{Timers, haproxy_escape, haproxy_status, ip, number, pool_name, server_name, so_far};
use super::{LocalTime, Record, Surroundings};

pub fn write(
    line: &LineFormat,
    record: &Record,
    around: &Surroundings<'_>,
    time: &mut LocalTime,
    out: &mut Vec<u8>,
) {
    for part in line.parts() {
        match part {
            LinePart::Text(text) => out.extend_from_slice(text),
            LinePart::Field(which) => field(*which, record, around, time, out),
            LinePart::Request(index, raw) => {
                let start = index.checked_sub(1).and_then(|before| record.text_ends.get(before)).copied();
                let end = record.text_ends.get(*index).copied().unwrap_or(0);
                // Where the request was never read it says nothing.
                let text = record.texts.get(start.unwrap_or(0)..end).unwrap_or(b"");
                match (text, raw) {
                    (b"", false) => out.push(b'-'),
                    (text, true) => out.extend_from_slice(text),
                    (text, false) => haproxy_escape(text, out),
                }
            }
        }
    }
}

fn field(
    which: LineField,
    record: &Record,
    around: &Surroundings<'_>,
    time: &mut LocalTime,
    out: &mut Vec<u8>,
) {
    let timers = Timers::of(record);
    let letters = record.termination.letters();
    let connections = |count: u64, out: &mut Vec<u8>| number(out, count as i64);
    match which {
        LineField::Time => {
            out.extend_from_slice(time.clf(record.wall_ms).as_bytes());
            out.push(b'.');
            milliseconds(record.wall_ms, out);
        }
        LineField::TimeUtc => out.extend_from_slice(time.utc(record.wall_ms).as_bytes()),
        LineField::TimeLocal => out.extend_from_slice(time.zoned(record.wall_ms).as_bytes()),
        LineField::Seconds => number(out, (record.wall_ms / 1_000) as i64),
        LineField::Milliseconds => milliseconds(record.wall_ms, out),
        LineField::Client => ip(out, record.client.ip()),
        LineField::ClientPort => number(out, i64::from(record.client.port())),
        LineField::Service => out.extend_from_slice(around.service.as_bytes()),
        LineField::TlsMark => out.extend_from_slice(if around.tls.is_some() { b"~" } else { b"" }),
        LineField::Pool => out.extend_from_slice(pool_name(record, around).as_bytes()),
        LineField::Server => out.extend_from_slice(server_name(record).as_bytes()),
        LineField::ServerAddress => match &record.server {
            Some(server) => ip(out, server.address.ip()),
            None => out.push(b'-'),
        },
        LineField::ServerPort => match &record.server {
            Some(server) => number(out, i64::from(server.address.port())),
            None => out.push(b'-'),
        },
        LineField::Request
        | LineField::RequestMethod
        | LineField::RequestUri
        | LineField::RequestPath
        | LineField::RequestPathOnly
        | LineField::RequestQuery
        | LineField::RequestVersion => match record.line.as_slice() {
            b"" => out.extend_from_slice(b"<BADREQ>"),
            line => haproxy_escape(of_line(which, line), out),
        },
        LineField::Status => number(out, haproxy_status(record)),
        LineField::BytesIn => number(out, record.bytes_in as i64),
        LineField::BytesOut => so_far(out, record.bytes_out as i64, around.early),
        LineField::RequestMs => number(out, timers.request),
        LineField::QueueMs => number(out, timers.wait),
        LineField::ConnectMs => number(out, timers.connect),
        LineField::ResponseMs => number(out, timers.response),
        LineField::DataMs => {
            let since = record.answered_ms.map(|at| record.end_ms.saturating_sub(at) as i64);
            number(out, since.unwrap_or(-1));
        }
        LineField::TotalMs => so_far(out, timers.active, around.early),
        LineField::Termination => out.extend_from_slice(&letters[..2]),
        LineField::TerminationState => out.extend_from_slice(&letters),
        LineField::ProcessConnections => connections(around.process, out),
        LineField::ServiceConnections => connections(around.service_now, out),
        LineField::PoolConnections => connections((around.pool_now)(), out),
        LineField::ServerConnections => connections(around.server_now, out),
        LineField::Retries => {
            if record.redispatched {
                out.push(b'+');
            }
            number(out, i64::from(record.retries));
        }
        LineField::ServerQueue => number(out, i64::from(record.server_queue)),
        LineField::PoolQueue => number(out, i64::from(record.pool_queue)),
        LineField::Captured => haproxy_escape(super::texts(&record.captured), out),
        LineField::CapturedAnswer => haproxy_escape(super::texts(&record.captured_answer), out),
        LineField::ProcessId => number(out, i64::from(std::process::id())),
        LineField::Host => out.extend_from_slice(host_name()),
    }
}

/// The name of this machine.
pub fn host_name() -> &'static [u8] {
    static NAME: OnceLock<Vec<u8>> = OnceLock::new();
    NAME.get_or_init(|| rustix::system::uname().nodename().to_bytes().to_vec())
}

fn milliseconds(wall_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[100, 10, 1].map(|scale| b'0' + (wall_ms / scale % 10) as u8));
}

/// A part of a request line.
fn of_line(which: LineField, line: &[u8]) -> &[u8] {
    let (method, rest) = split(line, memchr::memchr(b' ', line));
    let (uri, version) = split(rest, memchr::memrchr(b' ', rest));
    let query = memchr::memchr(b'?', uri);
    let path = &uri[..query.unwrap_or(uri.len())];
    match which {
        LineField::RequestMethod => method,
        LineField::RequestUri => uri,
        LineField::RequestPath => path,
        LineField::RequestPathOnly if !path.starts_with(b"/") => {
            let host = memchr::memmem::find(path, b"://").map(|at| &path[at + 3..]);
            host.and_then(|host| Some(&host[memchr::memchr(b'/', host)?..])).unwrap_or(path)
        }
        LineField::RequestPathOnly => path,
        LineField::RequestQuery => query.map_or(&[], |at| &uri[at..]),
        LineField::RequestVersion => version,
        _ => line,
    }
}

fn split(text: &[u8], at: Option<usize>) -> (&[u8], &[u8]) {
    at.map_or((text, &[]), |at| (&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_request_lines() {
        let line = b"GET http://h/a/b?c=d HTTP/1.1";
        let part = |which| String::from_utf8_lossy(of_line(which, line)).into_owned();
        assert_eq!(part(LineField::RequestMethod), "GET");
        assert_eq!(part(LineField::RequestUri), "http://h/a/b?c=d");
        assert_eq!(part(LineField::RequestPath), "http://h/a/b");
        assert_eq!(part(LineField::RequestPathOnly), "/a/b");
        assert_eq!(part(LineField::RequestQuery), "?c=d");
        assert_eq!(part(LineField::RequestVersion), "HTTP/1.1");
        assert_eq!(of_line(LineField::RequestQuery, b"GET"), b"");
        assert_eq!(of_line(LineField::RequestPathOnly, b"OPTIONS * HTTP/1.0"), b"*");
    }
}
