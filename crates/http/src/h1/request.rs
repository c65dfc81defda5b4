//! A request's head: what it asks for, how its body is framed, how it is rewritten for the real server.

use std::borrow::Cow;

use super::field::{self, Field, FieldKind};
use super::{Body, FIELDS, Framing, HEAD_AT_MOST, Malformed, NameTest, Span};

/// Facts of a parsed request head. Spans point into the buffer it was parsed from.
#[derive(Debug)]
pub struct Request {
    /// Bytes of the head, the empty line included.
    pub head_len: usize,
    /// What is asked for.
    pub method: Method,
    /// The request line without its line ending, as it came.
    pub line: Span,
    /// The method as it came.
    pub method_span: Span,
    /// Path and query: of an absolute target what follows the authority.
    pub target: Span,
    /// The value of `Host`; empty if there is none.
    pub host: Span,
    /// The target named scheme and authority.
    absolute: bool,
    /// More than one space stands between the words of the request line, which is taken as `wide`.
    spaced: bool,
    /// HTTP/1.1, not HTTP/1.0.
    pub version_11: bool,
    /// How the end of the body is found.
    pub framing: Framing,
    /// The client wants to send another request on this connection.
    pub keep_alive: bool,
    /// `Connection: upgrade` with an `Upgrade` that is passed on.
    pub upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// All fields, in their order.
    pub fields: Vec<Field>,
    /// Also heads are taken that HAProxy takes, and what it refuses is refused: see [`Malformed`] for what is refused otherwise. It is set
    /// before a head is parsed.
    pub wide: bool,
    /// And targets with a fragment, or with another host than `Host`.
    pub loose: bool,
}

/// Methods that are treated in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: the answer has no body.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// TRACE.
    Trace,
    /// Any other method.
    Other,
}

impl Method {
    /// The method of this name; names differ in upper and lower case.
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            _ => Method::Other,
        }
    }

    /// Whether doing it twice has the same effect as doing it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Other)
    }
}

/// What is changed on the way to the real server.
#[derive(Default)]
pub struct Edits<'a> {
    /// `X-Forwarded-For` line to add.
    pub forwarded_for: Option<&'a str>,
    /// `X-Forwarded-Proto` line to write instead of the client's.
    pub forwarded_proto: Option<&'a str>,
    /// Remove this cookie.
    pub hide_cookie: Option<&'a [u8]>,
    /// Remove `SERVER~` from the value of this cookie.
    pub strip_cookie: Option<&'a [u8]>,
    /// `Host` for a request of HTTP/1.0 that has none.
    pub default_host: &'a str,
    /// The server is asked in HTTP/1.0, as the client asked.
    pub version_10: bool,
    /// Path and query instead of the client's.
    pub target: Option<&'a [u8]>,
    /// A target that named scheme and authority goes on with them.
    pub keeps_authority: bool,
    /// Another method.
    pub method: Option<&'a [u8]>,
    /// Fields that stay behind, by their names.
    pub drops: Option<NameTest<'a>>,
    /// Whole lines to add.
    pub lines: &'a [u8],
}

impl Default for Request {
    fn default() -> Request {
        Request {
            head_len: 0,
            method: Method::Other,
            line: Span::default(),
            method_span: Span::default(),
            target: Span::default(),
            host: Span::default(),
            absolute: false,
            version_11: true,
            framing: Framing::None,
            keep_alive: true,
            upgrade: false,
            expects_continue: false,
            fields: Vec::new(),
            spaced: false,
            wide: false,
            loose: false,
        }
    }
}

impl Request {
    /// Reads a head into `self`, reusing its memory. `Ok(false)`: more bytes are needed.
    pub fn parse(&mut self, buffer: &[u8]) -> Result<bool, Malformed> {
        let mut storage = [const { std::mem::MaybeUninit::uninit() }; FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        let mut config = httparse::ParserConfig::default();
        config.allow_multiple_spaces_in_request_line_delimiters(self.wide);
        let parts = config.parse_request_with_uninit_headers(&mut parsed, buffer, &mut storage);
        let head_len = match parts {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return plausible(buffer).map(|()| false),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
            Err(httparse::Error::Version) => return Err(bad_version(buffer)),
            Err(httparse::Error::Token) => return Err(Malformed::RequestLine),
            Err(httparse::Error::NewLine) => return Err(Malformed::LineEnding),
            Err(_) => return Err(Malformed::Field),
        };
        if head_len > HEAD_AT_MOST {
            return Err(Malformed::TooManyFields);
        }
        let head = &buffer[..head_len];
        let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Malformed::RequestLine);
        };
        self.head_len = head_len;
        self.method = Method::of(method.as_bytes());
        self.method_span = Span::within(head, method.as_bytes());
        self.version_11 = minor == 1;
        let target_end = Span::within(head, target.as_bytes()).end as usize;
        let line_end = target_end + memchr::memchr(b'\r', &head[target_end..]).unwrap_or(0);
        self.spaced =
            line_end - self.method_span.start as usize != method.len() + 1 + target.len() + " HTTP/1.1".len();
        self.line = Span { start: self.method_span.start, end: line_end as u32 };
        // One empty line before a request is accepted (RFC 9112 section 2.2).
        if !matches!(&head[..self.line.start as usize], b"" | b"\r\n") {
            return Err(Malformed::RequestLine);
        }
        super::response::check_lines(head, line_end, parsed.headers)?;
        self.read_fields(head, parsed.headers)?;
        self.read_target(head, method, target)
    }

    fn read_fields(&mut self, head: &[u8], headers: &[httparse::Header<'_>]) -> Result<(), Malformed> {
        self.fields.clear();
        self.host = Span::default();
        let (mut length, mut chunked) = (None, false);
        let (mut close, mut keep, mut connection_upgrade, mut nominates) = (false, false, false, false);
        let (mut hosts, mut upgrades, mut expect) = (0, false, false);
        let (mut websocket, mut key) = (false, false);
        for header in headers {
            let mut kind = FieldKind::of(header.name.as_bytes());
            let value = header.value;
            match kind {
                // One that says the same again does not go on.
                FieldKind::Host if self.wide && hosts == 1 && value == self.host.of(head) => {
                    kind = FieldKind::HopByHop;
                }
                FieldKind::Host => {
                    hosts += 1;
                    self.host = Span::within(head, value);
                }
                FieldKind::ContentLength => {
                    let this = field::content_length(value)?;
                    if length.replace(this).is_some_and(|before| before != this) {
                        return Err(Malformed::ContentLength);
                    }
                }
                FieldKind::TransferEncoding => {
                    if std::mem::replace(&mut chunked, true) {
                        return Err(Malformed::TransferEncoding);
                    }
                    field::transfer_encoding(value)?;
                }
                FieldKind::Connection => {
                    for member in field::members(value) {
                        match member {
                            m if m.eq_ignore_ascii_case(b"close") => close = true,
                            m if m.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                            m if m.eq_ignore_ascii_case(b"upgrade") => connection_upgrade = true,
                            m => nominates |= field::may_be_nominated(m),
                        }
                    }
                }
                FieldKind::LikeFraming if self.wide => kind = FieldKind::HopByHop,
                FieldKind::LikeFraming => return Err(Malformed::Field),
                // HTTP/2 is not offered by upgrade; RFC 9113 withdrew it.
                FieldKind::Upgrade if field::has_member(value, b"h2c") => kind = FieldKind::HopByHop,
                FieldKind::Upgrade => {
                    upgrades = true;
                    websocket |= field::has_member(value, b"websocket");
                }
                FieldKind::Expect => expect |= value.eq_ignore_ascii_case(b"100-continue"),
                _ => key |= header.name.eq_ignore_ascii_case("sec-websocket-key"),
            }
            self.fields.push(Field {
                name: Span::within(head, header.name.as_bytes()),
                value: Span::within(head, value),
                kind,
            });
        }
        let ends = self.frame(length, chunked)?;
        match hosts {
            0 if self.version_11 && !self.wide => return Err(Malformed::MissingHost),
            0 => {}
            1 if valid_host(self.host.of(head)) || self.wide && is_like_host(self.host.of(head)) => {}
            _ => return Err(Malformed::Host),
        }
        self.keep_alive = !ends && if self.version_11 { !close } else { keep && !close };
        self.upgrade = upgrades && connection_upgrade && self.version_11;
        // RFC 6455 section 4.2.1.
        if self.wide && self.upgrade && websocket && !key {
            return Err(Malformed::Field);
        }
        self.expects_continue = expect && self.version_11 && self.framing != Framing::None;
        if nominates {
            self.nominate(head, headers);
        }
        Ok(())
    }

    /// How the end of the body is found; whether nothing may follow on the connection.
    fn frame(&mut self, length: Option<u64>, chunked: bool) -> Result<bool, Malformed> {
        self.framing = match (length, chunked) {
            // The chunks count, and the length does not go on (RFC 9112 section 6.3).
            (_, true) if self.wide && (length.is_some() || !self.version_11) => {
                self.fields.retain(|field| field.kind != FieldKind::ContentLength);
                self.framing = Framing::Chunked;
                return Ok(true);
            }
            (Some(_), true) => return Err(Malformed::ConflictingFraming),
            (None, true) if !self.version_11 => return Err(Malformed::TransferEncoding),
            (None, true) => Framing::Chunked,
            (Some(0), false) | (None, false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        Ok(false)
    }

    /// Marks the fields that `Connection` names as meant for this hop.
    fn nominate(&mut self, head: &[u8], headers: &[httparse::Header<'_>]) {
        let named = |name: &[u8]| {
            let connections =
                headers.iter().filter(|h| FieldKind::of(h.name.as_bytes()) == FieldKind::Connection);
            connections.into_iter().any(|h| field::has_member(h.value, name))
        };
        for field in &mut self.fields {
            let name = field.name.of(head);
            if field.kind == FieldKind::Other && field::may_be_nominated(name) && named(name) {
                field.kind = FieldKind::Nominated;
            }
        }
    }

    fn read_target(&mut self, head: &[u8], method: &str, target: &str) -> Result<bool, Malformed> {
        if method == "CONNECT" {
            return Err(Malformed::Method);
        }
        let plain = |b: &u8| matches!(b, 0x21..=0x7e) && (*b != b'#' || self.loose);
        if target.is_empty() || !target.as_bytes().iter().all(plain) {
            return Err(Malformed::Target);
        }
        self.target = Span::within(head, target.as_bytes());
        self.absolute = false;
        if target.starts_with('/') || (target == "*" && (method == "OPTIONS" || self.wide)) {
            return Ok(true);
        }
        let (scheme, rest) = target.split_once("://").ok_or(Malformed::Target)?;
        let of_web = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        if !(of_web || self.wide && is_scheme(scheme)) {
            return Err(Malformed::Target);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // Who asks is no part of the host.
        let at = authority.rfind('@').filter(|_| self.wide).map_or(0, |at| at + 1);
        let (authority, host) = (&authority[at..], self.host.of(head));
        let same = match self.wide {
            true => self.loose || host.is_empty() || is_same_host(scheme, authority.as_bytes(), host),
            false => host.is_empty() && !self.version_11 || host.eq_ignore_ascii_case(authority.as_bytes()),
        };
        if !valid_host(authority.as_bytes()) || authority.is_empty() || !same || path.starts_with('?') {
            return Err(Malformed::Target);
        }
        self.absolute = true;
        if host.is_empty() && !self.wide {
            self.host = Span::within(head, authority.as_bytes());
        }
        self.target = Span::within(head, path.as_bytes());
        if path.is_empty() {
            self.target = Span { start: self.line.end, end: self.line.end };
        }
        Ok(true)
    }

    /// The path and query; of an absolute target without one `/`, for OPTIONS `*` (RFC 9112
    /// section 3.2.4).
    pub fn path<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        match self.target.of(head) {
            b"" if self.method == Method::Options => b"*",
            b"" => b"/",
            path => path,
        }
    }

    /// The target as it came, whole where it was an address.
    pub fn whole_target<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        let whole = self.line.of(head).split(|byte| *byte == b' ').nth(1);
        whole.filter(|_| self.absolute).unwrap_or_else(|| self.path(head))
    }

    /// Scheme and authority of the target, where it named them.
    pub fn authority<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        let whole = if self.absolute { self.whole_target(head) } else { b"" };
        &whole[..whole.len() - self.target.of(head).len().min(whole.len())]
    }

    /// The host that is asked: where no field names one, that of the target, which is what servers go by (RFC 9112
    /// section 3.2.2).
    pub fn named_host<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        let host = self.host.of(head);
        if !host.is_empty() {
            return host;
        }
        let authority = self.authority(head);
        let authority = memchr::memmem::find(authority, b"://").map_or(authority, |at| &authority[at + 3..]);
        memchr::memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..])
    }

    /// The body, as far as it lies behind the head; without its chunks.
    pub fn body<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let behind = bytes.get(self.head_len..).unwrap_or(&[]);
        match Body::new(self.framing) {
            Body::Length(length) => {
                let end = usize::try_from(length).unwrap_or(usize::MAX).min(behind.len());
                Cow::Borrowed(&behind[..end])
            }
            Body::Chunked(mut chunked) => {
                let mut data = behind.to_vec();
                let kept = chunked.extract(&mut data).map_or(0, |(_, kept)| kept);
                data.truncate(kept);
                Cow::Owned(data)
            }
            Body::UntilClose => Cow::Borrowed(behind),
        }
    }

    /// Hands the values of the cookies of a name (of all, where it is empty) to a test until one will do; whether one did.
    pub fn any_cookie(&self, head: &[u8], name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let cookies = self.fields.iter().filter(|f| f.kind == FieldKind::Cookie);
        cookies.map(|f| f.value.of(head)).any(|value| field::cookies(value, name).any(&mut *test))
    }

    /// The same with the names of all cookies.
    pub fn any_cookie_name(&self, head: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let cookies = self.fields.iter().filter(|f| f.kind == FieldKind::Cookie);
        cookies.map(|f| f.value.of(head)).any(|value| field::cookie_names(value).any(&mut *test))
    }

    /// The value of a cookie that the client sent.
    pub fn cookie<'a>(&self, head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        let cookies = self.fields.iter().filter(|f| f.kind == FieldKind::Cookie);
        cookies.map(|f| f.value.of(head)).find_map(|v| field::find_cookie(v, name))
    }

    /// Of what a client takes beside the body trailers alone are no matter of this hop.
    fn takes_trailers(&self, head: &[u8]) -> bool {
        let fields = self.fields.iter().filter(|field| field.kind == FieldKind::HopByHop);
        let of_te = fields.filter(|field| field.name.of(head).eq_ignore_ascii_case(b"te"));
        // It has no weight (RFC 9110 section 10.1.4).
        of_te.into_iter().any(|field| field::has_member(field.value.of(head), b"trailers"))
    }

    /// Writes the head for the real server.
    pub fn write(&self, head: &[u8], edits: &Edits<'_>, out: &mut Vec<u8>) {
        out.clear();
        if self.absolute
            || self.spaced
            || !self.version_11
            || edits.target.is_some()
            || edits.method.is_some()
        {
            out.extend_from_slice(edits.method.unwrap_or_else(|| self.method_span.of(head)));
            out.push(b' ');
            let authority = if edits.keeps_authority { self.authority(head) } else { b"" };
            out.extend_from_slice(authority);
            let own = if authority.is_empty() { self.path(head) } else { self.target.of(head) };
            out.extend_from_slice(edits.target.unwrap_or(own));
            // Servers are asked in HTTP/1.1, whatever the client speaks, unless it is said otherwise. For a
            // client of HTTP/1.0 the chunks of the answer are taken off.
            out.extend_from_slice(if edits.version_10 { b" HTTP/1.0" } else { b" HTTP/1.1" });
        } else {
            out.extend_from_slice(self.line.of(head));
        }
        out.extend_from_slice(b"\r\n");
        let mut lengths = 0;
        let mut copier = Copier::new(head);
        let mut drops_host = false;
        for field in &self.fields {
            let dropped = edits.drops.is_some_and(|drops| drops(field.name.of(head)));
            if dropped && !field.kind.is_framing() {
                // HTTP/1.1 requires the field: it is written below, unless a route adds another.
                drops_host |= field.kind == FieldKind::Host;
                continue;
            }
            let keep = match field.kind {
                FieldKind::Connection | FieldKind::HopByHop | FieldKind::Nominated => false,
                FieldKind::Upgrade => self.upgrade,
                FieldKind::XForwardedProto => edits.forwarded_proto.is_none(),
                FieldKind::LikeXForwardedFor => edits.forwarded_for.is_none(),
                // Some servers wait for ever for the body that `100-continue` announces and that is not there.
                FieldKind::Expect => {
                    self.expects_continue || !field.value.of(head).eq_ignore_ascii_case(b"100-continue")
                }
                FieldKind::ContentLength => {
                    lengths += 1;
                    lengths == 1
                }
                FieldKind::Cookie => match (edits.hide_cookie, edits.strip_cookie) {
                    (None, None) => true,
                    (hide, strip) => {
                        copier.flush(out);
                        let name = hide.or(strip).unwrap_or_default();
                        self.write_cookie(head, field, name, strip.is_some(), out)
                    }
                },
                _ => true,
            };
            if keep {
                copier.keep(field, out);
            }
        }
        copier.flush(out);
        let has_host = |lines: &[u8]| {
            lines.split(|b| *b == b'\n').any(|l| l.len() > 5 && l[..5].eq_ignore_ascii_case(b"host:"))
        };
        let of_target = self.absolute && !self.wide && self.fields.iter().all(|f| f.kind != FieldKind::Host);
        if (drops_host || of_target) && !has_host(edits.lines) {
            line(out, b"Host", self.host.of(head));
        } else if self.host == Span::default() && !edits.default_host.is_empty() && !has_host(edits.lines) {
            line(out, b"Host", edits.default_host.as_bytes());
        }
        if let Some(client) = edits.forwarded_for {
            line(out, b"X-Forwarded-For", client.as_bytes());
        }
        if let Some(scheme) = edits.forwarded_proto {
            line(out, b"X-Forwarded-Proto", scheme.as_bytes());
        }
        out.extend_from_slice(edits.lines);
        self.write_hop(head, edits.version_10, out);
        out.extend_from_slice(b"\r\n");
    }

    /// What is between this program and the server alone.
    fn write_hop(&self, head: &[u8], version_10: bool, out: &mut Vec<u8>) {
        if self.wide && self.takes_trailers(head) {
            line(out, b"TE", b"trailers");
        }
        if version_10 {
            line(out, b"Connection", b"keep-alive");
        }
        if self.upgrade {
            line(out, b"Connection", field::upgrade_word(&self.fields, head));
        }
    }

    /// Writes a `Cookie` line without one cookie, or without the part of its value up to `~`. `true`, and
    /// nothing is written, if the line does not hold the cookie.
    fn write_cookie(&self, head: &[u8], field: &Field, name: &[u8], strip: bool, out: &mut Vec<u8>) -> bool {
        let value = field.value.of(head);
        if field::find_cookie(value, name).is_none() {
            return true;
        }
        let start = out.len();
        out.extend_from_slice(field.name.of(head));
        out.extend_from_slice(b": ");
        match field::write_without(value, name, strip, out) {
            true => out.extend_from_slice(b"\r\n"),
            false => out.truncate(start),
        }
        false
    }
}

/// Copies fields of a head. Fields that follow each other in the form `Name: value` are copied in one piece.
pub struct Copier<'a> {
    head: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Copier<'a> {
    /// Copies fields of this head.
    pub fn new(head: &'a [u8]) -> Copier<'a> {
        Copier { head, start: 0, end: 0 }
    }

    /// Passes a field on as it is.
    pub fn keep(&mut self, field: &Field, out: &mut Vec<u8>) {
        let (name, value) = (field.name, field.value);
        let (start, end) = (name.start as usize, value.end as usize + 2);
        let canonical = value.start == name.end + 2
            && self.head.get(name.end as usize..value.start as usize) == Some(b": ")
            && self.head.get(value.end as usize..end) == Some(b"\r\n");
        if canonical && start == self.end {
            self.end = end;
            return;
        }
        self.flush(out);
        if canonical {
            (self.start, self.end) = (start, end);
        } else {
            line(out, name.of(self.head), value.of(self.head));
        }
    }

    /// Writes the fields that were kept; needed before anything else is written.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[self.start..self.end]);
        (self.start, self.end) = (0, 0);
    }
}

/// Writes a line of a head. Control characters become spaces (RFC 9110 section 5.5), so that a value from
/// outside cannot end the line.
pub fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    let start = out.len();
    out.extend_from_slice(value);
    let is_control = |byte: &&mut u8| **byte != b'\t' && byte.is_ascii_control();
    out[start..].iter_mut().filter(is_control).for_each(|byte| *byte = b' ');
    out.extend_from_slice(b"\r\n");
}

/// `host[:port]`: what may stand in a Host field. Empty is allowed by RFC 9112 section 3.2.
fn valid_host(host: &[u8]) -> bool {
    let (name, port) = match host.first() {
        Some(b'[') => match host.iter().position(|b| *b == b']') {
            Some(end) => host.split_at(end + 1),
            None => return false,
        },
        _ => host.split_at(host.iter().position(|b| *b == b':').unwrap_or(host.len())),
    };
    let good_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    // Between brackets stands an address of IPv6 and nothing else (RFC 3986 section 3.2.2).
    let plain = |b: &u8| match name.first() {
        Some(b'[') => b.is_ascii_hexdigit() || b"[]:.".contains(b),
        _ => b.is_ascii_alphanumeric() || b"-._~%!$&'()*+=[]".contains(b),
    };
    good_port && name.iter().all(plain) && (port.is_empty() || !name.is_empty())
}

/// What HAProxy takes for a host besides: names and ports of the signs that those have, in any order.
fn is_like_host(host: &[u8]) -> bool {
    host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~:".contains(b))
}

/// The name of a scheme (RFC 3986 section 3.1).
fn is_scheme(name: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(rest)
}

/// Whether a target's authority and `Host` name the same host: the usual port of the scheme says nothing.
fn is_same_host(scheme: &str, authority: &[u8], host: &[u8]) -> bool {
    bare_host(scheme.as_bytes(), authority).eq_ignore_ascii_case(bare_host(scheme.as_bytes(), host))
}

/// An authority without the usual port of its scheme.
pub fn bare_host<'a>(scheme: &[u8], authority: &'a [u8]) -> &'a [u8] {
    let port: &[u8] = if scheme.eq_ignore_ascii_case(b"https") { b":443" } else { b":80" };
    authority.strip_suffix(port).or(authority.strip_suffix(b":")).unwrap_or(authority)
}

/// Refuses the beginning of something that cannot become a request line, so that nothing waits for the rest.
fn plausible(buffer: &[u8]) -> Result<(), Malformed> {
    let start = buffer.strip_prefix(b"\r\n").unwrap_or(buffer);
    match start.first() {
        Some(b) if !super::chunked::is_token(*b) && *b != b'\r' => Err(Malformed::RequestLine),
        _ if start.starts_with(b"\r\n") => Err(Malformed::RequestLine),
        _ => Ok(()),
    }
}

fn bad_version(buffer: &[u8]) -> Malformed {
    let line = buffer.split(|b| *b == b'\n').next().unwrap_or(buffer);
    let version = line.rsplit(|b| *b == b' ').next().unwrap_or(&[]).trim_ascii_end();
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Malformed::Version
        }
        _ => Malformed::RequestLine,
    }
}
