//! A response's head: its status, how its body is framed, what goes on to the client.

use super::field::{self, Field, FieldKind};
use super::request::{Copier, Method, line};
use super::{FIELDS, Framing, HEAD_AT_MOST, Malformed, NameTest, Span};

/// Facts of a parsed response head. Spans point into the buffer it was parsed from.
#[derive(Debug)]
pub struct Response {
    /// Bytes of the head, the empty line included.
    pub head_len: usize,
    /// The status.
    pub status: u16,
    /// HTTP/1.1, not HTTP/1.0.
    pub version_11: bool,
    /// How the end of the body is found.
    pub framing: Framing,
    /// And how, had the request not been HEAD: what comes where the server was asked with another method.
    pub framing_with_body: Framing,
    /// The real server will take another request on this connection.
    pub keep_alive: bool,
    /// Also heads are taken that HAProxy takes: chunks in HTTP/1.0, or beside a length. The chunks count, the
    /// length does not go on, and nothing may follow on either connection. It is set before a head is parsed.
    pub wide: bool,
    /// The head frames the body in two ways, which is taken as `wide`.
    pub doubtful: bool,
    status_line: Span,
    fields: Vec<Field>,
}

impl Default for Response {
    fn default() -> Response {
        Response {
            head_len: 0,
            status: 0,
            version_11: true,
            framing: Framing::None,
            framing_with_body: Framing::None,
            keep_alive: false,
            wide: false,
            doubtful: false,
            status_line: Span::default(),
            fields: Vec::new(),
        }
    }
}

/// What is changed on the way to the client.
#[derive(Default)]
pub struct Edits<'a> {
    /// `Connection` to write, if any.
    pub connection: Option<&'a str>,
    /// Values of `Set-Cookie` fields to add, one a line.
    pub set_cookie: Option<&'a str>,
    /// Mark the answer as not for shared caches: `Cache-Control: private`.
    pub private: bool,
    /// What becomes of a cookie that the real server sets.
    pub cookie: Option<(&'a [u8], CookieEdit<'a>)>,
    /// Fields that stay behind, by their names.
    pub drops: Option<NameTest<'a>>,
    /// Whole lines to add.
    pub lines: &'a [u8],
    /// Another status, with its phrase.
    pub status: Option<(u16, &'a str)>,
    /// The client knows no chunks: they are taken off and `Transfer-Encoding` stays behind.
    pub without_chunks: bool,
    /// The head says HTTP/1.0.
    pub version_10: bool,
}

/// What becomes of a cookie that a real server sets.
#[derive(Clone, Copy, Debug)]
pub enum CookieEdit<'a> {
    /// It stays behind.
    Drop,
    /// The value becomes this.
    Value(&'a [u8]),
    /// This and `~` come before the value.
    Prefix(&'a [u8]),
}

impl Response {
    /// Reads a head into `self`, reusing its memory. `Ok(false)`: more bytes are needed.
    pub fn parse(&mut self, buffer: &[u8], request: Method) -> Result<bool, Malformed> {
        let mut storage = [const { std::mem::MaybeUninit::uninit() }; FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let result = config.parse_response_with_uninit_headers(&mut parsed, buffer, &mut storage);
        let head_len = match result {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
            Err(httparse::Error::Version | httparse::Error::Status) => return Err(Malformed::StatusLine),
            Err(_) => return Err(Malformed::Field),
        };
        if head_len > HEAD_AT_MOST {
            return Err(Malformed::TooManyFields);
        }
        let head = &buffer[..head_len];
        let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(Malformed::StatusLine);
        };
        let end = memchr::memchr(b'\n', head).unwrap_or(head.len());
        let text = head[..end].strip_suffix(b"\r").ok_or(Malformed::LineEnding)?;
        if !(100..=599).contains(&status) || !text.starts_with(b"HTTP/1.") || text.contains(&b'\r') {
            return Err(Malformed::StatusLine);
        }
        self.head_len = head_len;
        self.status = status;
        self.version_11 = minor == 1;
        self.status_line = Span::within(head, text);
        check_lines(head, text.len(), parsed.headers)?;
        self.read_fields(head, parsed.headers, request)?;
        Ok(true)
    }

    fn read_fields(
        &mut self,
        head: &[u8],
        headers: &[httparse::Header<'_>],
        request: Method,
    ) -> Result<(), Malformed> {
        self.fields.clear();
        let (mut length, mut chunked) = (None, false);
        let (mut close, mut keep) = (false, false);
        for header in headers {
            let kind = FieldKind::of(header.name.as_bytes());
            match kind {
                FieldKind::ContentLength => {
                    let this = field::content_length(header.value)?;
                    if length.replace(this).is_some_and(|before| before != this) {
                        return Err(Malformed::ContentLength);
                    }
                }
                FieldKind::TransferEncoding => {
                    if std::mem::replace(&mut chunked, true) || !self.version_11 && !self.wide {
                        return Err(Malformed::TransferEncoding);
                    }
                    field::transfer_encoding(header.value)?;
                }
                FieldKind::Connection => {
                    close |= field::has_member(header.value, b"close");
                    keep |= field::has_member(header.value, b"keep-alive");
                }
                _ => {}
            }
            self.fields.push(Field {
                name: Span::within(head, header.name.as_bytes()),
                value: Span::within(head, header.value),
                kind,
            });
        }
        self.doubtful = chunked && (length.is_some() || !self.version_11);
        if self.doubtful && !self.wide {
            return Err(Malformed::ConflictingFraming);
        }
        if self.doubtful {
            self.fields.retain(|field| field.kind != FieldKind::ContentLength);
        }
        let bodiless = self.status < 200 || matches!(self.status, 204 | 304);
        self.framing_with_body = match (length, chunked) {
            _ if bodiless => Framing::None,
            (_, true) => Framing::Chunked,
            (Some(0), _) => Framing::None,
            (Some(length), _) => Framing::Length(length),
            (None, false) => Framing::UntilClose,
        };
        self.framing = if request == Method::Head { Framing::None } else { self.framing_with_body };
        self.keep_alive = if self.version_11 { !close } else { keep && !close };
        self.keep_alive &= self.framing != Framing::UntilClose && !self.doubtful;
        Ok(())
    }

    /// All fields, in their order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The value of a cookie that the answer sets.
    pub fn sets_cookie<'a>(&self, head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        let cookies = self.fields.iter().filter(|f| f.kind == FieldKind::SetCookie);
        cookies.map(|f| f.value.of(head)).find_map(|value| set_value(value, name))
    }

    /// The answer switches to WebSocket and does not prove that its server speaks that (RFC 6455 section 4.2.2).
    pub fn lacks_websocket_proof(&self, head: &[u8]) -> bool {
        let switches =
            |f: &Field| f.kind == FieldKind::Upgrade && field::has_member(f.value.of(head), b"websocket");
        let proves = |f: &Field| f.name.of(head).eq_ignore_ascii_case(b"sec-websocket-accept");
        self.fields.iter().any(switches) && !self.fields.iter().any(proves)
    }

    /// 100, 103 and the like: an interim answer, the final one follows.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Writes the head for the client.
    pub fn write(&self, head: &[u8], edits: &Edits<'_>, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(if edits.version_10 { b"HTTP/1.0" } else { b"HTTP/1.1" });
        match edits.status {
            None => out.extend_from_slice(&self.status_line.of(head)["HTTP/1.1".len()..]),
            Some((status, phrase)) => out.extend_from_slice(format!(" {status} {phrase}").as_bytes()),
        }
        out.extend_from_slice(b"\r\n");
        let switching = self.status == 101;
        let mut lengths = 0;
        let mut copier = Copier::new(head);
        for field in &self.fields {
            let dropped = edits.drops.is_some_and(|drops| drops(field.name.of(head)));
            if dropped && !field.kind.is_framing() {
                continue;
            }
            let keep = match field.kind {
                FieldKind::SetCookie => {
                    match edits.cookie.filter(|(name, _)| set_value(field.value.of(head), name).is_some()) {
                        None => true,
                        Some((name, edit)) => {
                            copier.flush(out);
                            write_set_cookie(field.value.of(head), name, edit, out);
                            false
                        }
                    }
                }
                FieldKind::Connection | FieldKind::HopByHop => false,
                FieldKind::Upgrade => switching || self.status == 426,
                // Answers of these statuses must not have the field (RFC 9112 section 6.1).
                FieldKind::TransferEncoding => {
                    let about_body = matches!(self.framing, Framing::Chunked | Framing::None);
                    about_body && self.status >= 200 && self.status != 204 && !edits.without_chunks
                }
                FieldKind::ContentLength => {
                    lengths += 1;
                    lengths == 1 && self.status >= 200 && self.status != 204
                }
                FieldKind::CacheControl => !edits.private,
                _ => true,
            };
            if keep {
                copier.keep(field, out);
            }
        }
        copier.flush(out);
        out.extend_from_slice(edits.lines);
        for cookie in edits.set_cookie.into_iter().flat_map(str::lines) {
            line(out, b"set-cookie", cookie.as_bytes());
        }
        if edits.private {
            line(out, b"cache-control", b"private");
        }
        if switching {
            line(out, b"Connection", field::upgrade_word(&self.fields, head));
        } else if let Some(connection) = edits.connection {
            line(out, b"Connection", connection.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The value of the cookie, and nothing of its attributes, if a `Set-Cookie` sets this cookie.
fn set_value<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let pair = field.split(|b| *b == b';').next()?.trim_ascii();
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

fn write_set_cookie(field: &[u8], name: &[u8], edit: CookieEdit<'_>, out: &mut Vec<u8>) {
    let Some(value) = set_value(field, name) else { return };
    let attributes = memchr::memchr(b';', field).map_or(&b""[..], |at| &field[at..]);
    let (front, rest): (&[u8], &[u8]) = match edit {
        CookieEdit::Drop => return,
        CookieEdit::Value(new) => (new, b""),
        CookieEdit::Prefix(server) => (server, value),
    };
    out.extend_from_slice(b"Set-Cookie: ");
    out.extend_from_slice(name);
    out.push(b'=');
    out.extend_from_slice(front);
    if matches!(edit, CookieEdit::Prefix(_)) {
        out.push(b'~');
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(attributes);
    out.extend_from_slice(b"\r\n");
}

/// Checks that every line of a head ends in CRLF: the parser accepts a bare LF.
pub fn check_lines(
    head: &[u8],
    first_line_end: usize,
    headers: &[httparse::Header<'_>],
) -> Result<(), Malformed> {
    let mut end = first_line_end;
    for header in headers {
        let name = Span::within(head, header.name.as_bytes());
        if head.get(end..name.start as usize) != Some(b"\r\n") {
            return Err(Malformed::LineEnding);
        }
        if head.get(name.end as usize) != Some(&b':') {
            return Err(Malformed::Field);
        }
        // Trailing white space belongs to no value: skip it to the line's end.
        end = match header.value {
            [] => name.end as usize + 1,
            value => Span::within(head, value).end as usize,
        };
        while matches!(head.get(end), Some(b' ' | b'\t')) {
            end += 1;
        }
    }
    if head.get(end..) != Some(b"\r\n\r\n") {
        return Err(Malformed::LineEnding);
    }
    Ok(())
}
