//! The lines themselves.

use std::net::{IpAddr, SocketAddr};

use evenkeel_model::LogFormat;
use evenkeel_rules::{LineFormat, Template};

use super::{LocalTime, Phase, Record, Surroundings, custom};

/// How a service's lines are written.
#[derive(Debug)]
pub enum LineStyle {
    Haproxy,
    Json,
    Line(LineFormat),
}

impl LineStyle {
    pub fn of(format: &LogFormat) -> LineStyle {
        match format {
            LogFormat::Haproxy => LineStyle::Haproxy,
            LogFormat::Json => LineStyle::Json,
            LogFormat::Line(line) => LineStyle::Line(line.clone()),
        }
    }

    /// What it asks of requests when the routes have been walked.
    pub fn requests(&self) -> &[Template] {
        match self {
            LineStyle::Line(line) => line.requests(),
            LineStyle::Haproxy | LineStyle::Json => &[],
        }
    }
}

/// Appends one line with its line ending.
pub fn write_line(
    style: &LineStyle,
    record: &Record,
    around: &Surroundings<'_>,
    time: &mut LocalTime,
    out: &mut Vec<u8>,
) {
    match style {
        LineStyle::Haproxy if around.http => haproxy_http(record, around, time, out),
        LineStyle::Haproxy => haproxy_tcp(record, around, time, out),
        LineStyle::Json => json(record, around, out),
        LineStyle::Line(line) => custom::write(line, record, around, time, out),
    }
    out.push(b'\n');
}

/// The status as HAProxy writes it: 400 of a client that gave up, see [`Record::given_up`]; otherwise -1 where
/// there was none.
pub(super) fn haproxy_status(record: &Record) -> i64 {
    match record.status {
        0 if record.given_up => 400,
        0 => -1,
        status => i64::from(status),
    }
}

/// HAProxy's `option httplog`:
/// `%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq "%r"`
fn haproxy_http(record: &Record, around: &Surroundings<'_>, time: &mut LocalTime, out: &mut Vec<u8>) {
    opening(record, around, time, out);
    let timers = Timers::of(record);
    join(out, b'/', &[timers.request, timers.wait, timers.connect, timers.response]);
    out.push(b'/');
    so_far(out, timers.active, around.early);
    out.push(b' ');
    number(out, haproxy_status(record));
    out.push(b' ');
    so_far(out, record.bytes_out as i64, around.early);
    out.extend_from_slice(b" - - ");
    out.extend_from_slice(&record.termination.letters());
    out.push(b' ');
    connections(record, around, out);
    for captured in [&record.captured, &record.captured_answer] {
        if !captured.is_empty() {
            out.extend_from_slice(b" {");
            haproxy_escape(super::texts(captured), out);
            out.push(b'}');
        }
    }
    out.extend_from_slice(b" \"");
    match record.line.as_slice() {
        b"" => out.extend_from_slice(b"<BADREQ>"),
        line => haproxy_escape(line, out),
    }
    out.push(b'"');
}

/// HAProxy's `option tcplog`: `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq`
fn haproxy_tcp(record: &Record, around: &Surroundings<'_>, time: &mut LocalTime, out: &mut Vec<u8>) {
    opening(record, around, time, out);
    let timers = Timers::of(record);
    join(out, b'/', &[timers.wait, timers.connect]);
    out.push(b'/');
    so_far(out, timers.active, around.early);
    out.push(b' ');
    so_far(out, record.bytes_out as i64, around.early);
    let [cause, phase, ..] = record.termination.letters();
    out.extend_from_slice(&[b' ', cause, phase, b' ']);
    connections(record, around, out);
}

fn opening(record: &Record, around: &Surroundings<'_>, time: &mut LocalTime, out: &mut Vec<u8>) {
    address(out, record.client);
    out.extend_from_slice(b" [");
    out.extend_from_slice(time.clf(record.wall_ms).as_bytes());
    out.push(b'.');
    let millis = record.wall_ms % 1_000;
    out.extend_from_slice(&[100, 10, 1].map(|scale| b'0' + (millis / scale % 10) as u8));
    out.extend_from_slice(b"] ");
    out.extend_from_slice(around.service.as_bytes());
    if around.tls.is_some() {
        out.push(b'~');
    }
    out.push(b' ');
    out.extend_from_slice(pool_name(record, around).as_bytes());
    out.push(b'/');
    out.extend_from_slice(server_name(record).as_bytes());
    out.push(b' ');
}

/// HAProxy writes the frontend's name where no backend was chosen.
pub(super) fn pool_name<'a>(record: &Record, around: &Surroundings<'a>) -> &'a str {
    if record.routed { around.pool } else { around.service }
}

pub(super) fn server_name(record: &Record) -> &str {
    record.server.as_deref().map_or("<NOSRV>", |s| s.name())
}

fn connections(record: &Record, around: &Surroundings<'_>, out: &mut Vec<u8>) {
    let counts = [around.process, around.service_now, (around.pool_now)(), around.server_now];
    join(out, b'/', &counts.map(|count| count as i64));
    out.push(b'/');
    if record.redispatched {
        out.push(b'+');
    }
    number(out, i64::from(record.retries));
    out.push(b' ');
    join(out, b'/', &[i64::from(record.server_queue), i64::from(record.pool_queue)]);
}

/// HAProxy's five timers: milliseconds, -1 where the stage was not reached.
pub(super) struct Timers {
    pub(super) request: i64,
    pub(super) wait: i64,
    pub(super) connect: i64,
    pub(super) response: i64,
    pub(super) active: i64,
}

impl Timers {
    pub(super) fn of(record: &Record) -> Timers {
        let between = |from: Option<u64>, to: Option<u64>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_sub(from) as i64,
            _ => -1,
        };
        let start = Some(record.start_ms);
        let left_queue = (record.termination.phase == Some(Phase::Queue)).then_some(record.end_ms);
        Timers {
            request: between(start, record.head_ms),
            // Who leaves while waiting has waited until the end.
            wait: between(record.head_ms, record.queued_ms.or(left_queue)),
            connect: between(record.queued_ms, record.connected_ms),
            response: between(record.connected_ms, record.answered_ms),
            active: between(start, Some(record.end_ms)),
        }
    }
}

fn json(record: &Record, around: &Surroundings<'_>, out: &mut Vec<u8>) {
    let timers = Timers::of(record);
    out.extend_from_slice(b"{\"time-ms\":");
    number(out, record.wall_ms as i64);
    out.extend_from_slice(b",\"client\":\"");
    address(out, record.client);
    out.extend_from_slice(b"\",\"service\":\"");
    out.extend_from_slice(around.service.as_bytes());
    out.extend_from_slice(b"\",\"pool\":\"");
    out.extend_from_slice(around.pool.as_bytes());
    out.extend_from_slice(b"\",\"server\":");
    match &record.server {
        Some(server) => quoted(server.name().as_bytes(), out),
        None => out.extend_from_slice(b"null"),
    }
    if around.http {
        out.extend_from_slice(b",\"request\":");
        quoted(&record.line, out);
        field(out, "status", i64::from(record.status));
        field(out, "request-ms", timers.request);
        field(out, "response-ms", timers.response);
    }
    field(out, "queue-ms", timers.wait);
    field(out, "connect-ms", timers.connect);
    field(out, "total-ms", timers.active);
    field(out, "bytes-in", record.bytes_in as i64);
    field(out, "bytes-out", record.bytes_out as i64);
    field(out, "retries", i64::from(record.retries));
    if around.http && around.h2 {
        out.extend_from_slice(b",\"http-version\":\"2\"");
    }
    if !record.captured.is_empty() {
        out.extend_from_slice(b",\"captured\":");
        quoted(super::texts(&record.captured), out);
    }
    if !record.captured_answer.is_empty() {
        out.extend_from_slice(b",\"captured-answer\":");
        quoted(super::texts(&record.captured_answer), out);
    }
    if let Some(tls) = around.tls {
        tls_fields(tls, out);
    }
    out.extend_from_slice(b",\"termination\":\"");
    out.extend_from_slice(&record.termination.letters());
    out.extend_from_slice(b"\"}");
}

fn tls_fields(tls: &crate::tls::Facts, out: &mut Vec<u8>) {
    let mut text = |name: &str, value: &str| {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        quoted(value.as_bytes(), out);
    };
    text("tls-version", tls.version);
    text("tls-cipher", tls.cipher);
    if let Some(sni) = &tls.sni {
        text("sni", sni);
    }
    if let Some(peer) = &tls.peer {
        text("client-subject", &peer.subject);
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: i64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    number(out, value);
}

/// A JSON string; bytes beyond ASCII are shown as Latin-1.
fn quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&hex(*byte));
            }
        }
    }
    out.push(b'"');
}

/// HAProxy writes what is not printable, and `"` and `#`, as `#XX`.
pub(super) fn haproxy_escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'"' | b'#' | 0..=0x1f | 0x7f.. => {
                out.push(b'#');
                out.extend_from_slice(&hex(*byte).map(|d| d.to_ascii_uppercase()));
            }
            _ => out.push(*byte),
        }
    }
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// `ADDRESS:PORT` as HAProxy writes it: IPv6 without brackets.
pub fn address(out: &mut Vec<u8>, address: SocketAddr) {
    ip(out, address.ip());
    out.push(b':');
    number(out, i64::from(address.port()));
}

pub(super) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                number(out, i64::from(octet));
            }
        }
        IpAddr::V6(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
    }
}

fn join(out: &mut Vec<u8>, separator: u8, numbers: &[i64]) {
    for (i, value) in numbers.iter().enumerate() {
        if i > 0 {
            out.push(separator);
        }
        number(out, *value);
    }
}

/// A number that still grows has a `+` before it.
pub(super) fn so_far(out: &mut Vec<u8>, value: i64, early: bool) {
    if early {
        out.push(b'+');
    }
    number(out, value);
}

pub(super) fn number(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Cause, Termination};

    fn record() -> Record {
        Record {
            wall_ms: 1_700_000_000_123,
            start_ms: 1_000,
            head_ms: Some(1_001),
            queued_ms: Some(1_001),
            connected_ms: Some(1_003),
            answered_ms: Some(1_010),
            end_ms: 1_020,
            status: 200,
            routed: true,
            given_up: false,
            bytes_in: 80,
            bytes_out: 345,
            line: b"GET /a\"b# HTTP/1.1".to_vec(),
            ..Record::new("10.0.1.2:33317".parse().unwrap())
        }
    }

    fn check(style: &LineStyle, http: bool, record: &Record, expect: &str) {
        let around = Surroundings {
            tls: None,
            h2: false,
            early: record.written,
            service: "web",
            pool: "static",
            http,
            process: 5,
            service_now: 4,
            pool_now: &|| 3,
            server_now: 2,
        };
        let mut out = Vec::new();
        write_line(style, record, &around, &mut LocalTime::new(), &mut out);
        let line = String::from_utf8(out).unwrap();
        let shown = match (line.find('['), line.find(']')) {
            (Some(start), Some(end)) => format!("{}{}", &line[..start], &line[end + 1..]),
            _ => line,
        };
        assert_eq!(shown, expect);
    }

    #[test]
    fn haproxy_lines() {
        check(
            &LineStyle::Haproxy,
            true,
            &record(),
            "10.0.1.2:33317  web static/<NOSRV> 1/0/2/7/20 200 345 - - ---- 5/4/3/2/0 0/0 \"GET /a#22b#23 HTTP/1.1\"\n",
        );
        check(
            &LineStyle::Haproxy,
            false,
            &record(),
            "10.0.1.2:33317  web static/<NOSRV> 0/2/20 345 -- 5/4/3/2/0 0/0\n",
        );
        // Before its end: what still grows is marked.
        check(
            &LineStyle::Haproxy,
            false,
            &Record { written: true, ..record() },
            "10.0.1.2:33317  web static/<NOSRV> 0/2/+20 +345 -- 5/4/3/2/0 0/0\n",
        );
        let failed = Record {
            head_ms: None,
            queued_ms: None,
            connected_ms: None,
            answered_ms: None,
            status: 0,
            line: Vec::new(),
            routed: false,
            given_up: false,
            retries: 3,
            redispatched: true,
            termination: Termination {
                cause: Some(Cause::ClientAbort),
                phase: Some(Phase::Request),
                ..Termination::default()
            },
            ..record()
        };
        check(
            &LineStyle::Haproxy,
            true,
            &failed,
            "10.0.1.2:33317  web web/<NOSRV> -1/-1/-1/-1/20 -1 345 - - CR-- 5/4/3/2/+3 0/0 \"<BADREQ>\"\n",
        );
    }

    #[test]
    fn json_lines_are_json() {
        check(
            &LineStyle::Json,
            true,
            &record(),
            "{\"time-ms\":1700000000123,\"client\":\"10.0.1.2:33317\",\"service\":\"web\",\"pool\":\"static\",\"server\":null,\"request\":\"GET /a\\\"b# HTTP/1.1\",\"status\":200,\"request-ms\":1,\"response-ms\":7,\"queue-ms\":0,\"connect-ms\":2,\"total-ms\":20,\"bytes-in\":80,\"bytes-out\":345,\"retries\":0,\"termination\":\"----\"}\n",
        );
    }

    #[test]
    fn numbers() {
        for value in [0, 7, -1, 10, 4_294_967_296, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
