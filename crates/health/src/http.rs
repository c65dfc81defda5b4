//! The HTTP probe: one request, and a scan of the answer that reads no more than it needs.

use std::net::SocketAddr;

use evenkeel_model::HttpProbe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::Stream;
use crate::found::{Failure, Found};

const HEAD_AT_MOST: usize = 16 * 1024;
const BODY_AT_MOST: usize = 64 * 1024;

pub async fn probe(
    stream: &mut dyn Stream,
    probe: &HttpProbe,
    address: SocketAddr,
) -> Result<Found, Failure> {
    let request = request(probe, address);
    let broken = |e: std::io::Error| format!("connection broke: {e}");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut scan = ResponseScan::default();
    let mut buffer = vec![0; 8 * 1024];
    loop {
        // TLS tells an end without a goodbye as an error: what came before it counts.
        let count = match stream.read(&mut buffer).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            other => other.map_err(broken)?,
        };
        scan.feed(&buffer[..count]);
        match scan.judge(probe, count == 0) {
            Some(Ok(status)) => {
                let detail = format!("HTTP {status}");
                return Ok(Found { detail, code: Some(status), said: scan.reason(), step: None });
            }
            Some(Err(failure @ (HttpFailure::NoHttp | HttpFailure::Cut))) => {
                return Err(failure.to_string().into());
            }
            Some(Err(failure)) => {
                return Err(Failure::refused(failure.to_string(), scan.status(), scan.reason()));
            }
            None => {}
        }
    }
}

fn request(probe: &HttpProbe, address: SocketAddr) -> String {
    use std::fmt::Write;
    let version = if probe.version_10 { "1.0" } else { "1.1" };
    let mut request = format!("{} {} HTTP/{version}\r\n", probe.method, probe.path);
    // Where no host is needed none is made up.
    let host = probe.host.clone().or_else(|| (!probe.version_10).then(|| address.to_string()));
    if let Some(host) = host {
        let _ = write!(request, "Host: {host}\r\n");
    }
    let has = |name: &str| probe.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    // A check of a switch to another protocol says what becomes of the connection itself.
    if !probe.version_10 && !has("Connection") {
        request.push_str("Connection: close\r\n");
    }
    for (name, value) in [("User-Agent", "evenkeel-health"), ("Accept", "*/*")] {
        if !has(name) {
            let _ = write!(request, "{name}: {value}\r\n");
        }
    }
    for (name, value) in &probe.headers {
        let _ = write!(request, "{name}: {}\r\n", value.expose());
    }
    let body = probe.body.expose();
    if !body.is_empty() {
        let _ = write!(request, "Content-Length: {}\r\n", body.len());
    }
    request + "\r\n" + body
}

/// Why an answer does not pass.
#[derive(Debug, PartialEq, Eq)]
pub enum HttpFailure {
    NoHttp,
    Status {
        got: u16,
        expected: String,
    },
    TextMissing {
        text: String,
    },
    /// A regular expression that nothing matches, or that is none.
    NoMatch {
        pattern: String,
    },
    HeaderMissing {
        name: String,
    },
    /// What must not be there is.
    Unwanted {
        what: String,
    },
    Cut,
}

impl std::fmt::Display for HttpFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HttpFailure::NoHttp => f.write_str("the answer is no HTTP"),
            HttpFailure::Status { got, expected } => write!(f, "HTTP {got}, expected {expected}"),
            HttpFailure::TextMissing { text } => write!(f, "the body does not hold {text:?}"),
            HttpFailure::NoMatch { pattern } => write!(f, "the body does not match /{pattern}/"),
            HttpFailure::HeaderMissing { name } => write!(f, "the header {name} is not as expected"),
            HttpFailure::Unwanted { what } => write!(f, "{what} must not be there"),
            HttpFailure::Cut => f.write_str("connection closed before the answer"),
        }
    }
}

/// Collects an answer, bounded, and judges it as soon as enough is there.
#[derive(Debug, Default)]
pub struct ResponseScan {
    bytes: Vec<u8>,
}

impl ResponseScan {
    pub fn feed(&mut self, bytes: &[u8]) {
        let room = (HEAD_AT_MOST + BODY_AT_MOST).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The answer's first line from this word on.
    fn first_line(&self, word: usize) -> &[u8] {
        let line = self.bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or(&[]);
        line.splitn(3, |b| *b == b' ').nth(word).unwrap_or(&[])
    }

    fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.first_line(1)).ok()?.parse().ok()
    }

    fn reason(&self) -> String {
        crate::steps::first_line(self.first_line(2))
    }

    /// The status when the answer passes, why it does not, or `None` while more is needed.
    pub fn judge(&self, probe: &HttpProbe, ended: bool) -> Option<Result<u16, HttpFailure>> {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        let (status, head_len) = match response.parse(&self.bytes) {
            Ok(httparse::Status::Complete(len)) => (response.code.unwrap_or(0), len),
            Ok(httparse::Status::Partial) if ended => return Some(Err(HttpFailure::Cut)),
            Ok(httparse::Status::Partial) if self.bytes.len() < HEAD_AT_MOST => return None,
            _ => return Some(Err(HttpFailure::NoHttp)),
        };
        if !probe.status.contains(status) {
            let expected = probe.status.to_string();
            return Some(Err(HttpFailure::Status { got: status, expected }));
        }
        for (name, holds) in &probe.expect_headers {
            let named = |h: &&httparse::Header<'_>| h.name.eq_ignore_ascii_case(name);
            let found = response.headers.iter().filter(named);
            if !found.into_iter().any(|h| memchr::memmem::find(h.value, holds.as_bytes()).is_some()) {
                return Some(Err(HttpFailure::HeaderMissing { name: name.clone() }));
            }
        }
        if let Some(failure) = headers_by_regex(probe, response.headers) {
            return Some(Err(failure));
        }
        let refuses = probe.refuse.is_some() || probe.refuse_regex.is_some();
        if probe.expect.is_none() && probe.expect_regex.is_none() && !refuses {
            return Some(Ok(status));
        }
        let chunked = response.headers.iter().any(|h| {
            h.name.eq_ignore_ascii_case("transfer-encoding")
                && h.value.to_ascii_lowercase().ends_with(b"chunked")
        });
        let body = &self.bytes[head_len..];
        let (plain, last) = if chunked { dechunk(body) } else { (body.to_vec(), false) };
        let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|h| std::str::from_utf8(h.value).ok()?.trim().parse::<usize>().ok());
        let whole = last || !chunked && length.is_some_and(|length| body.len() >= length);
        let bodiless = matches!(status, 204 | 304) || probe.method == "HEAD";
        let full = self.bytes.len() >= HEAD_AT_MOST + BODY_AT_MOST || body.len() >= BODY_AT_MOST;
        let over = ended || full || whole || bodiless;
        if let Some(what) = unwanted(probe, &plain) {
            return Some(Err(HttpFailure::Unwanted { what }));
        }
        match missing(probe, &plain) {
            Some(missing) => over.then_some(Err(missing)),
            None => (over || !refuses).then_some(Ok(status)),
        }
    }
}

/// What of the headers is not as expressions want it.
fn headers_by_regex(probe: &HttpProbe, headers: &[httparse::Header<'_>]) -> Option<HttpFailure> {
    let found = |name: &str, pattern: &str| {
        let Ok(regex) = evenkeel_rules::regex(pattern, false) else { return false };
        headers.iter().any(|h| h.name.eq_ignore_ascii_case(name) && regex.is_match(h.value))
    };
    let absent = probe.expect_headers_regex.iter().find(|(name, pattern)| !found(name, pattern));
    if let Some((name, _)) = absent {
        return Some(HttpFailure::HeaderMissing { name: name.clone() });
    }
    let there = probe.refuse_headers_regex.iter().find(|(name, pattern)| found(name, pattern))?;
    Some(HttpFailure::Unwanted { what: format!("the header {}", there.0) })
}

/// What a body has that it should not.
fn unwanted(probe: &HttpProbe, body: &[u8]) -> Option<String> {
    if let Some(text) = &probe.refuse
        && memchr::memmem::find(body, text.as_bytes()).is_some()
    {
        return Some(format!("{text:?}"));
    }
    let pattern = probe.refuse_regex.as_ref()?;
    let regex = evenkeel_rules::regex(pattern, false).ok()?;
    regex.is_match(body).then(|| format!("/{pattern}/"))
}

/// What a body does not have that it should.
fn missing(probe: &HttpProbe, body: &[u8]) -> Option<HttpFailure> {
    if let Some(text) = &probe.expect
        && memchr::memmem::find(body, text.as_bytes()).is_none()
    {
        return Some(HttpFailure::TextMissing { text: text.clone() });
    }
    let pattern = probe.expect_regex.as_ref()?;
    match evenkeel_rules::regex(pattern, false) {
        Ok(regex) if regex.is_match(body) => None,
        _ => Some(HttpFailure::NoMatch { pattern: pattern.clone() }),
    }
}

/// The data of a chunked body, as far as it has come and makes sense; whether the last chunk is among it.
fn dechunk(mut body: &[u8]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    while let Some(end) = memchr::memchr(b'\n', body) {
        let line = std::str::from_utf8(&body[..end]).unwrap_or("");
        let digits = line.split(';').next().unwrap_or("").trim();
        let Ok(size) = usize::from_str_radix(digits, 16) else { break };
        let rest = &body[end + 1..];
        let take = size.min(rest.len());
        data.extend_from_slice(&rest[..take]);
        if size == 0 {
            return (data, true);
        }
        if take < size {
            break;
        }
        body = rest.get(size + 2..).unwrap_or(&[]);
    }
    (data, false)
}

#[cfg(test)]
mod tests {
    use evenkeel_model::StatusSet;

    use super::*;

    fn check(answer: &str, expect: Option<&str>, ended: bool, result: Option<Result<u16, HttpFailure>>) {
        let probe = HttpProbe {
            method: "GET".into(),
            path: "/".into(),
            status: StatusSet(vec![(200, 399)]),
            expect: expect.map(str::to_owned),
            ..HttpProbe::default()
        };
        let mut scan = ResponseScan::default();
        scan.feed(answer.as_bytes());
        assert_eq!(scan.judge(&probe, ended), result, "{answer:?}");
    }

    #[test]
    fn answers_are_judged() {
        let missing = || Some(Err(HttpFailure::TextMissing { text: "all fine".into() }));
        check("HTTP/1.1 200 OK\r\n\r\n", None, false, Some(Ok(200)));
        check("HTTP/1.1 200 OK\r\n", None, false, None);
        check("HTTP/1.1 200 OK\r\n", None, true, Some(Err(HttpFailure::Cut)));
        check("", None, true, Some(Err(HttpFailure::Cut)));
        check("SSH-2.0-x\r\n", None, false, Some(Err(HttpFailure::NoHttp)));
        check(
            "HTTP/1.1 500 No\r\n\r\n",
            None,
            false,
            Some(Err(HttpFailure::Status { got: 500, expected: "200-399".into() })),
        );
        check("HTTP/1.1 200 OK\r\n\r\nall f", Some("all fine"), false, None);
        check("HTTP/1.1 200 OK\r\n\r\nall f", Some("all fine"), true, missing());
        check("HTTP/1.1 200 OK\r\n\r\nall fine", Some("all fine"), false, Some(Ok(200)));
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall f\r\n3\r\nine\r\n0\r\n\r\n";
        check(chunked, Some("all fine"), true, Some(Ok(200)));
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(200_000));
        check(&endless, Some("all fine"), false, missing());
    }

    #[test]
    fn what_must_not_be_there() {
        let probe = |edit: fn(&mut HttpProbe)| {
            let mut probe = HttpProbe { status: StatusSet(vec![(200, 399)]), ..HttpProbe::default() };
            edit(&mut probe);
            probe
        };
        let judged = |probe: &HttpProbe, answer: &str, ended: bool| {
            let mut scan = ResponseScan::default();
            scan.feed(answer.as_bytes());
            scan.judge(probe, ended).map(|result| result.is_ok())
        };
        let text = probe(|p| p.refuse = Some("bad".into()));
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n";
        assert_eq!(judged(&text, &format!("{answer}all"), false), None, "the rest may be bad");
        assert_eq!(judged(&text, &format!("{answer}all ok"), false), Some(true));
        assert_eq!(judged(&text, &format!("{answer}a bad"), false), Some(false));
        assert_eq!(judged(&text, "HTTP/1.1 200 OK\r\n\r\nfine", true), Some(true));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
        assert_eq!(judged(&text, chunks, false), None);
        assert_eq!(judged(&text, &format!("{chunks}0\r\n\r\n"), false), Some(true));
        let regex = probe(|p| p.refuse_regex = Some("b.d".into()));
        assert_eq!(judged(&regex, &format!("{answer}a bid "), false), Some(false));
        let header = probe(|p| p.refuse_headers_regex = vec![("x-a".into(), "^b".into())]);
        assert_eq!(judged(&header, "HTTP/1.1 200 OK\r\nX-A: bc\r\n\r\n", false), Some(false));
        assert_eq!(judged(&header, "HTTP/1.1 200 OK\r\nX-A: cb\r\n\r\n", false), Some(true));
        let header = probe(|p| p.expect_headers_regex = vec![("x-a".into(), "^b".into())]);
        assert_eq!(judged(&header, "HTTP/1.1 200 OK\r\nX-A: bc\r\n\r\n", false), Some(true));
        assert_eq!(judged(&header, "HTTP/1.1 200 OK\r\n\r\n", false), Some(false));
    }
}
