//! HTTP/1 (RFC 9112) as functions over bytes: what a head says, where a body ends, how a head is
//! rewritten. Strict: what two readers could understand differently is refused.
//!
//! In: bytes. Out: facts, new heads. Never: a socket, a clock, an allocation once warm.

pub mod chunked;
pub mod field;
pub mod request;
pub mod response;

use std::ops::Range;

use chunked::Chunked;

/// Fields of one head at most.
pub const FIELDS: usize = 128;

/// Says of a field's name whether the field is meant.
pub type NameTest<'a> = &'a dyn Fn(&[u8]) -> bool;

/// A stretch of the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u16,
    pub end: u16,
}

impl Span {
    pub fn of<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        head.get(usize::from(self.start)..usize::from(self.end)).unwrap_or(&[])
    }

    fn within(head: &[u8], part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).saturating_sub(head.as_ptr() as usize);
        Span { start: start as u16, end: (start + part.len()) as u16 }
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Only of responses.
    UntilClose,
}

/// Follows a body through the bytes that carry it.
#[derive(Clone, Debug)]
pub enum Body {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    pub fn new(framing: Framing) -> Body {
        match framing {
            Framing::None => Body::Length(0),
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Chunked::default()),
            Framing::UntilClose => Body::UntilClose,
        }
    }

    /// How many of the next bytes belong to the body.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Body::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                Ok(count)
            }
            Body::Chunked(chunked) => chunked.feed(bytes),
            Body::UntilClose => Ok(bytes.len()),
        }
    }

    /// Where trailers lie in the bytes that were fed last.
    pub fn trailers(&self) -> Range<usize> {
        match self {
            Body::Chunked(chunked) => chunked.trailers(),
            Body::Length(_) | Body::UntilClose => 0..0,
        }
    }

    pub fn is_complete(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunked) => chunked.is_complete(),
            Body::UntilClose => false,
        }
    }
}

/// Why bytes are no acceptable HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    RequestLine,
    StatusLine,
    Version,
    Target,
    Field,
    LineEnding,
    TooManyFields,
    MissingHost,
    Host,
    ContentLength,
    TransferEncoding,
    UnknownCoding,
    ConflictingFraming,
    ChunkSize,
    ChunkExtension,
    Chunk,
    Trailer,
    Method,
}

impl Malformed {
    /// What a client is told: 400, or what RFC 9110 has for the case.
    pub fn status(self) -> u16 {
        match self {
            Malformed::TooManyFields => 431,
            Malformed::UnknownCoding => 501,
            Malformed::Method => 405,
            Malformed::Version => 505,
            _ => 400,
        }
    }
}

#[cfg(test)]
mod tests;
