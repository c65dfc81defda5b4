//! Header fields: which ones this proxy acts on, and how their values are read.
//!
//! In: names, values. Out: kinds, numbers, members, cookies. Never: whole heads.

use super::{Malformed, Span};

/// One header field of a parsed head.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Where the name stands.
    pub name: Span,
    /// Where the value stands, without white space around it.
    pub value: Span,
    /// What the name means.
    pub kind: FieldKind,
}

/// What a field means to this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// No meaning here: passed on as it is.
    Other,
    /// `Host`.
    Host,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Connection`.
    Connection,
    /// Meant for this hop only: never passed on.
    HopByHop,
    /// `Upgrade`.
    Upgrade,
    /// `Expect`.
    Expect,
    /// `Cookie`.
    Cookie,
    /// `Set-Cookie`.
    SetCookie,
    /// `Cache-Control`.
    CacheControl,
    /// `X-Forwarded-Proto`, or a name that CGI, WSGI and PHP servers read as that.
    XForwardedProto,
    /// A name like `X_Forwarded-For` or `X.Forwarded.For`, which CGI, WSGI and PHP servers read as
    /// `X-Forwarded-For`.
    LikeXForwardedFor,
    /// A name like `Content_Length`, which such servers read as `Content-Length`: a second word about where
    /// the body ends.
    LikeFraming,
    /// Named by `Connection`, so meant for this hop only.
    Nominated,
}

impl FieldKind {
    /// Whether the field frames the message or changes its protocol: routes cannot remove it.
    pub fn is_framing(self) -> bool {
        matches!(
            self,
            FieldKind::ContentLength
                | FieldKind::TransferEncoding
                | FieldKind::Connection
                | FieldKind::Upgrade
        )
    }

    /// The kind of a field of this name, in upper or lower case.
    pub fn of(name: &[u8]) -> FieldKind {
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        // CGI, WSGI and PHP servers read `_` as `-`, and some everything that is no letter or digit.
        let alike = |word: &[u8]| {
            let is =
                |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*b == b'-' && !a.is_ascii_alphanumeric());
            name.iter().zip(word).all(is)
        };
        match name.len() {
            2 if is(b"te") => FieldKind::HopByHop,
            4 if is(b"host") => FieldKind::Host,
            6 if is(b"cookie") => FieldKind::Cookie,
            6 if is(b"expect") => FieldKind::Expect,
            7 if is(b"upgrade") => FieldKind::Upgrade,
            10 if is(b"connection") => FieldKind::Connection,
            10 if is(b"keep-alive") => FieldKind::HopByHop,
            10 if is(b"set-cookie") => FieldKind::SetCookie,
            13 if is(b"cache-control") => FieldKind::CacheControl,
            14 if is(b"content-length") => FieldKind::ContentLength,
            14 if is(b"http2-settings") => FieldKind::HopByHop,
            16 if is(b"proxy-connection") => FieldKind::HopByHop,
            17 if is(b"transfer-encoding") => FieldKind::TransferEncoding,
            14 if alike(b"content-length") => FieldKind::LikeFraming,
            17 if alike(b"transfer-encoding") => FieldKind::LikeFraming,
            15 if !is(b"x-forwarded-for") && alike(b"x-forwarded-for") => FieldKind::LikeXForwardedFor,
            17 if alike(b"x-forwarded-proto") => FieldKind::XForwardedProto,
            _ => FieldKind::Other,
        }
    }
}

/// The comma-separated members of a value.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

/// Whether a word is among the comma-separated members of a value, in upper or lower case.
pub fn has_member(value: &[u8], word: &[u8]) -> bool {
    members(value).any(|m| m.eq_ignore_ascii_case(word))
}

/// Reads a `Content-Length`: digits only, below 2^63.
pub fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::ContentLength);
    }
    let number = value.iter().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b - b'0')));
    number.filter(|n| *n < 1 << 63).ok_or(Malformed::ContentLength)
}

/// Checks a `Transfer-Encoding`: `chunked` alone is accepted. Other codings before it are
/// [`Malformed::UnknownCoding`], anything else is [`Malformed::TransferEncoding`].
pub fn transfer_encoding(value: &[u8]) -> Result<(), Malformed> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let known = |m: &[u8]| {
        [&b"gzip"[..], b"x-gzip", b"compress", b"deflate", b"identity"]
            .iter()
            .any(|k| m.eq_ignore_ascii_case(k))
    };
    let codings = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let chunked_last = codings.clone().next_back().is_some_and(|m| m.eq_ignore_ascii_case(b"chunked"));
    // Chunks stand once, at the end (RFC 9112 section 7.1).
    let count = codings.clone().count();
    let all_known = codings.take(count - 1).all(known);
    match chunked_last && all_known {
        true => Err(Malformed::UnknownCoding),
        false => Err(Malformed::TransferEncoding),
    }
}

/// Whether `Connection` may name this field as meant for one hop. Fields that mean something to the server
/// or to this proxy are passed on although a client names them there.
pub fn may_be_nominated(name: &[u8]) -> bool {
    const END_TO_END: [&[u8]; 12] = [
        b"cookie",
        b"set-cookie",
        b"authorization",
        b"host",
        b"date",
        b"location",
        b"cache-control",
        b"forwarded",
        b"via",
        b"range",
        b"origin",
        b"referer",
    ];
    let starts = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
    let end_to_end = END_TO_END.iter().any(|word| name.eq_ignore_ascii_case(word));
    !(end_to_end || starts(b"x-") || starts(b"content-") || starts(b"access-control-") || starts(b"if-"))
}

/// The value of the first cookie of a name in a `Cookie` field.
pub fn find_cookie<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    cookies(value, name).next()
}

/// The values of all cookies of a name in a `Cookie` field.
pub fn cookies<'a>(value: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let bare =
        |found: &'a [u8]| found.strip_prefix(b"\"").and_then(|f| f.strip_suffix(b"\"")).unwrap_or(found);
    pairs(value).filter_map(move |pair| cookie_value(pair, name)).map(bare)
}

/// The names of all cookies in a `Cookie` field.
pub fn cookie_names(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let name = |pair: &'_ [u8]| memchr::memchr(b'=', pair);
    pairs(value).filter_map(move |pair| Some(pair[..name(pair)?].trim_ascii()))
}

/// Appends a `Cookie` value without the cookies of a name, or (`strip`) with what follows the first
/// `~` of their values; whether anything is left of it.
pub fn write_without(value: &[u8], name: &[u8], strip: bool, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    for pair in pairs(value) {
        let ours = cookie_value(pair, name);
        if ours.is_some() && !strip {
            continue;
        }
        if out.len() > start {
            out.extend_from_slice(b"; ");
        }
        match ours.and_then(|v| memchr::memchr(b'~', v).map(|at| &v[at + 1..])) {
            Some(rest) => {
                out.extend_from_slice(name);
                out.push(b'=');
                out.extend_from_slice(rest);
            }
            None => out.extend_from_slice(pair),
        }
    }
    out.len() > start
}

fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

fn cookie_value<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if name.is_empty() {
        return Some(pair[memchr::memchr(b'=', pair)? + 1..].trim_ascii());
    }
    // Some write spaces around the sign.
    Some(pair.strip_prefix(name)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii())
}

/// The word `upgrade` of `Connection` in the sender's spelling.
pub fn upgrade_word<'a>(fields: &[Field], head: &'a [u8]) -> &'a [u8] {
    let values = fields.iter().filter(|f| f.kind == FieldKind::Connection).map(|f| f.value.of(head));
    let mut words = values.flat_map(|value| value.split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    words.find(|word| word.eq_ignore_ascii_case(b"upgrade")).unwrap_or(b"upgrade")
}
