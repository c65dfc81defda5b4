//! Answers that are compressed on their way to a client: which coding it takes, what its head becomes.
//!
//! In: fields of a request, a head as it would go on. Out: the coding, the new head. Never: a body in one piece.

mod encoder;
#[cfg(test)]
mod tests;

pub use encoder::{Encoder, Input, MEMORY, Wrapper};

use std::borrow::Cow;

/// The first of `names`, in their order, among those that a client likes best; none where it takes none of
/// them. `fields` are the values of its `Accept-Encoding` (RFC 9110 section 12.5.3).
pub fn choose<'a>(fields: impl Iterator<Item = &'a [u8]> + Clone, names: &[&str]) -> Option<usize> {
    let quality = |name: &str| {
        let mut any = 0;
        for member in fields.clone().flat_map(|field| field.split(|byte| *byte == b',')) {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().unwrap_or_default();
            let weight = parts.find_map(weight).unwrap_or(1_000);
            if coding.eq_ignore_ascii_case(name.as_bytes()) {
                return weight;
            }
            if coding == b"*" {
                any = weight;
            }
        }
        any
    };
    let mut best: Option<(usize, u16)> = None;
    for (at, name) in names.iter().enumerate() {
        let quality = quality(name);
        if quality > best.map_or(0, |(_, best)| best) {
            best = Some((at, quality));
        }
    }
    best.map(|(at, _)| at)
}

/// Thousandths of `q=0.5`. What is no weight refuses.
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or(parameter.strip_prefix(b"Q="))?;
    let (whole, rest) = value.split_at_checked(1)?;
    let fraction = rest.strip_prefix(b".").unwrap_or_default();
    let digits = fraction.iter().take_while(|digit| digit.is_ascii_digit()).take(3);
    let thousandths = digits.zip([100, 10, 1]).map(|(digit, place)| u16::from(digit - b'0') * place).sum();
    Some(if whole == b"1" { 1_000 } else { thousandths })
}

/// A browser that says it can, and cannot: Netscape 4, and Internet Explorer before its second service pack.
pub fn is_broken_browser(agent: &[u8]) -> bool {
    if !agent.starts_with(b"Mozilla/4") {
        return false;
    }
    let Some(at) = memchr::memmem::find(agent, b"MSIE ") else { return true };
    let version = agent.get(at + 5).copied().unwrap_or(b'0');
    let many = agent.get(at + 6).is_some_and(u8::is_ascii_digit);
    !(many || version >= b'7' || version == b'6' && memchr::memmem::find(agent, b"SV1").is_some())
}

/// What an answer must be like, and what it becomes.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The name of the coding; none where the bytes stay as they are.
    pub coding: Option<&'a str>,
    /// Types that are compressed: `text/*` stands for all of a kind, `*` for all there are.
    pub types: &'a [String],
    /// Answers that say they are shorter stay as they are.
    pub min_size: u64,
}

/// Fields of an answer that decide.
#[derive(Default)]
struct Facts<'a> {
    etag: Option<&'a [u8]>,
    etags: u8,
    content_type: Option<&'a [u8]>,
    length: Option<u64>,
    vary: Vec<&'a [u8]>,
    is_left: bool,
}

/// Writes the head of an answer as that of a compressed one, in chunks; false where it must stay as it is.
/// `head` is one that was written by this program, for a client of HTTP/1.1.
pub fn rewrite(head: &[u8], offer: &Offer<'_>, out: &mut Vec<u8>) -> bool {
    let mut facts = Facts::default();
    if !may_be_compressed(head) {
        return false;
    }
    fields(head).for_each(|(name, value)| facts.note(name, value));
    let known = facts.length.is_some_and(|length| length < offer.min_size.max(1));
    if facts.is_left || known || facts.etags > 1 || !is_of_types(facts.content_type, offer.types) {
        return false;
    }
    let etag = match facts.etag.map(weak) {
        Some(None) => return false,
        Some(Some(etag)) if offer.coding.is_some() => Some(etag),
        _ => None,
    };
    out.clear();
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    out.extend_from_slice(lines.next().unwrap_or_default());
    for line in lines {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let gone: &[&str] = match offer.coding {
            Some(_) => &["content-length", "transfer-encoding", "etag", "vary", "accept-ranges"],
            None => &["content-length", "transfer-encoding"],
        };
        if line.trim_ascii().is_empty() || gone.iter().any(|gone| name.eq_ignore_ascii_case(gone.as_bytes()))
        {
            continue;
        }
        out.extend_from_slice(line);
    }
    let mut line = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    if let Some(coding) = offer.coding {
        line("Content-Encoding", coding.as_bytes());
        line("Vary", &varies(&facts.vary));
    }
    if let Some(etag) = etag {
        line("ETag", &etag);
    }
    line("Transfer-Encoding", b"chunked");
    out.extend_from_slice(b"\r\n");
    true
}

/// The status allows it, and the version knows chunks.
fn may_be_compressed(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 20") && head.get(11).is_some_and(|digit| (b'0'..=b'3').contains(digit))
}

fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| {
        let at = memchr::memchr(b':', line)?;
        Some((&line[..at], line[at + 1..].trim_ascii()))
    })
}

fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

impl<'a> Facts<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("vary") => self.vary.push(value),
            4 if is("etag") => (self.etag, self.etags) = (Some(value), self.etags.saturating_add(1)),
            12 if is("content-type") => self.content_type = Some(value),
            13 if is("cache-control") => {
                self.is_left |= members(value).any(|word| word.eq_ignore_ascii_case(b"no-transform"));
            }
            14 if is("content-length") => {
                self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            // A part of something, what is compressed, and what would no longer be true.
            _ => {
                let left = ["content-encoding", "content-range", "content-md5", "content-digest", "trailer"];
                self.is_left |= left.iter().any(|known| is(known));
            }
        }
    }
}

fn is_of_types(content_type: Option<&[u8]>, types: &[String]) -> bool {
    let Some(value) = content_type else { return types.iter().any(|of| of == "*") };
    let name = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let begins =
        |start: &str| name.get(..start.len()).is_some_and(|name| name.eq_ignore_ascii_case(start.as_bytes()));
    // Its parts have heads of their own; calls end with what follows the body.
    if begins("multipart/") || begins("application/grpc") {
        return false;
    }
    types.iter().any(|of| match of.strip_suffix('*') {
        Some(start) => begins(start),
        None => name.eq_ignore_ascii_case(of.as_bytes()),
    })
}

/// A validator of what has other bytes now (RFC 9110 section 8.8.1); none where it is none.
fn weak(etag: &[u8]) -> Option<Cow<'_, [u8]>> {
    let opaque = etag.strip_prefix(b"W/").unwrap_or(etag);
    if opaque.len() < 2 || !opaque.starts_with(b"\"") || !opaque.ends_with(b"\"") {
        return None;
    }
    Some(match etag.starts_with(b"W/") {
        true => Cow::Borrowed(etag),
        false => Cow::Owned([b"W/", etag].concat()),
    })
}

/// `Vary` with what decides here beside what decided at the server.
fn varies(before: &[&[u8]]) -> Vec<u8> {
    let mut all =
        before.iter().copied().filter(|value| !value.is_empty()).collect::<Vec<_>>().join(&b","[..]);
    let known = members(&all).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if !known {
        if !all.is_empty() {
            all.push(b',');
        }
        all.extend_from_slice(b"Accept-Encoding");
    }
    all
}
