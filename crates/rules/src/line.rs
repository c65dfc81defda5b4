//! Lines of the access log that are written as a text says: `{time} {source} "{request}" {status}`.

use crate::ParseError;
use crate::template::{Piece, Template, scan};

/// What is known when a request or connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineField {
    Time,
    TimeUtc,
    TimeLocal,
    Seconds,
    Milliseconds,
    Client,
    ClientPort,
    Service,
    TlsMark,
    Pool,
    Server,
    ServerAddress,
    ServerPort,
    Request,
    RequestMethod,
    RequestUri,
    RequestPath,
    RequestPathOnly,
    RequestQuery,
    RequestVersion,
    Status,
    BytesIn,
    BytesOut,
    RequestMs,
    QueueMs,
    ConnectMs,
    ResponseMs,
    DataMs,
    TotalMs,
    Termination,
    TerminationState,
    ProcessConnections,
    ServiceConnections,
    PoolConnections,
    ServerConnections,
    Retries,
    ServerQueue,
    PoolQueue,
    Captured,
    CapturedAnswer,
    ProcessId,
    Host,
}

/// A field of a line, for the reference and for whoever mistypes it.
#[derive(Debug)]
pub struct LineFieldDoc {
    pub name: &'static str,
    pub field: LineField,
    pub doc: &'static str,
}

const fn field(name: &'static str, field: LineField, doc: &'static str) -> LineFieldDoc {
    LineFieldDoc { name, field, doc }
}

pub static LINE_FIELDS: &[LineFieldDoc] = &[
    field("time", LineField::Time, "when it came: `20/Nov/2026:21:33:21.123`"),
    field("time-utc", LineField::TimeUtc, "`20/Nov/2026:20:33:21 +0000`"),
    field("time-local", LineField::TimeLocal, "`20/Nov/2026:21:33:21 +0100`"),
    field("time-seconds", LineField::Seconds, "seconds since 1970"),
    field("time-milliseconds", LineField::Milliseconds, "and the milliseconds, in three digits"),
    field("client", LineField::Client, "the client's address"),
    field("client-port", LineField::ClientPort, "and port"),
    field("service", LineField::Service, "the virtual service"),
    field("tls-mark", LineField::TlsMark, "`~` where the client spoke TLS"),
    field("pool", LineField::Pool, "the pool; the service where none was chosen"),
    field("server", LineField::Server, "the real server, or `<NOSRV>`"),
    field("server-address", LineField::ServerAddress, "its address"),
    field("server-port", LineField::ServerPort, "and port"),
    field("request", LineField::Request, "the request line as it came"),
    field("request-method", LineField::RequestMethod, "its method"),
    field("request-uri", LineField::RequestUri, "its target"),
    field("request-path", LineField::RequestPath, "its target without the query"),
    field("request-path-only", LineField::RequestPathOnly, "the same without scheme and host"),
    field("request-query", LineField::RequestQuery, "its query with the `?`"),
    field("request-version", LineField::RequestVersion, "its version: `HTTP/1.1`"),
    field("status", LineField::Status, "the answer's status, or -1"),
    field("bytes-in", LineField::BytesIn, "bytes from the client"),
    field("bytes-out", LineField::BytesOut, "bytes to the client"),
    field("request-ms", LineField::RequestMs, "milliseconds until the head was there; -1 where it never was"),
    field("queue-ms", LineField::QueueMs, "milliseconds in queues"),
    field("connect-ms", LineField::ConnectMs, "milliseconds until the server was connected"),
    field("response-ms", LineField::ResponseMs, "milliseconds until the server's head was there"),
    field("data-ms", LineField::DataMs, "milliseconds from there to the end"),
    field("total-ms", LineField::TotalMs, "milliseconds of it all"),
    field("termination", LineField::Termination, "how it ended, in HAProxy's two letters"),
    field("termination-state", LineField::TerminationState, "the same with the two of the cookie"),
    field("process-connections", LineField::ProcessConnections, "connections of the program now"),
    field("service-connections", LineField::ServiceConnections, "of the service"),
    field("pool-connections", LineField::PoolConnections, "of the pool"),
    field("server-connections", LineField::ServerConnections, "of the real server"),
    field(
        "retries",
        LineField::Retries,
        "how often another try was needed, `+` before it for another server",
    ),
    field("server-queue", LineField::ServerQueue, "requests before it in the server's queue"),
    field("pool-queue", LineField::PoolQueue, "and in the pool's"),
    field("captured", LineField::Captured, "what routes captured"),
    field("captured-answer", LineField::CapturedAnswer, "and of the answer"),
    field("process-id", LineField::ProcessId, "the program's number"),
    field("hostname", LineField::Host, "this machine's name"),
];

#[derive(Clone, Debug)]
pub enum LinePart {
    Text(Box<[u8]>),
    Field(LineField),
    /// One of [`LineFormat::requests`]; `true` where nothing in it is escaped any more.
    Request(usize, bool),
}

/// A line that was checked. Two are equal that are written alike.
#[derive(Clone)]
pub struct LineFormat {
    source: Box<str>,
    parts: Vec<LinePart>,
    requests: Vec<Template>,
}

crate::written_alike!(LineFormat, source);

impl LineFormat {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Fields of lines, and beside them the variables of other texts, which are asked when the routes
    /// have been walked.
    pub fn parse(text: &str) -> Result<LineFormat, ParseError> {
        let mut line = LineFormat { source: text.into(), parts: Vec::new(), requests: Vec::new() };
        scan(text, &mut |at, piece| {
            let word = match piece {
                Piece::Literal(literal) => {
                    if let Some(found) = literal.bytes().position(|b| b < b' ') {
                        let place = at + found..at + found + 1;
                        return Err(ParseError::at(place, "a line has no control characters"));
                    }
                    match line.parts.last_mut() {
                        Some(LinePart::Text(known)) => *known = [known, literal.as_bytes()].concat().into(),
                        _ => line.parts.push(LinePart::Text(literal.as_bytes().into())),
                    }
                    return Ok(());
                }
                Piece::Variable(word) => word,
            };
            match LINE_FIELDS.iter().find(|f| f.name == word.trim()) {
                Some(known) => line.parts.push(LinePart::Field(known.field)),
                None => {
                    let raw = word.trim().ends_with("|json");
                    line.parts.push(LinePart::Request(line.requests.len(), raw));
                    line.requests.push(request(&format!("{{{word}}}"), at)?);
                }
            }
            Ok(())
        })?;
        Ok(line)
    }

    pub fn parts(&self) -> &[LinePart] {
        &self.parts
    }

    /// What is asked of the request.
    pub fn requests(&self) -> &[Template] {
        &self.requests
    }
}

fn request(text: &str, at: usize) -> Result<Template, ParseError> {
    let template = Template::parse(text).map_err(|e| {
        let names: Vec<&str> = LINE_FIELDS.iter().map(|f| f.name).collect();
        let help = format!("{}; of lines: {}", e.help.clone().unwrap_or_default(), names.join(", "));
        ParseError { span: at + e.span.start..at + e.span.end, ..e }.help(help)
    })?;
    if template.has_captures() {
        return Err(ParseError::at(at..at + text.len(), "a line has no condition that captures"));
    }
    if !template.files().is_empty() {
        let error = ParseError::at(at..at + text.len(), "a line asks no map");
        return Err(error.help("ask it with `set-variable` in a route, and write {variable:NAME}"));
    }
    if template.needs_answer() {
        let error = ParseError::at(at..at + text.len(), "it asks about an answer");
        return Err(error.help("capture it in [[virtual-service.answer-route]], and write {captured-answer}"));
    }
    Ok(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_made_of_fields_and_texts() {
        let line = LineFormat::parse("{client} [{time}] {{{header:X-Id|lower}}} {status}").unwrap();
        assert_eq!((line.parts().len(), line.requests().len()), (7, 1));
        assert!(matches!(line.parts()[4], LinePart::Request(0, false)));
        let json = LineFormat::parse("{{\"agent\":\"{header:User-Agent|json}\"}}").unwrap();
        assert!(matches!(json.parts()[1], LinePart::Request(0, true)));
        for bad in ["{nobody}", "{client", "a\nb", "{1}", "{answer-header:X}"] {
            assert!(LineFormat::parse(bad).is_err(), "{bad}");
        }
        assert!(LineFormat::parse("{nobody}").unwrap_err().help.unwrap().contains("bytes-out"));
    }
}
