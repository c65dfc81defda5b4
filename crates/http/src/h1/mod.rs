//! HTTP/1 (RFC 9112) as functions over bytes: what a head says, where a body ends, how a head is
//! rewritten. It is strict: whatever two readers could understand differently is refused.
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

/// Bytes of a head that are read at most. Who reads heads has a lower limit: of what is taken of others, and of
/// what this program has rewritten, which may be a little longer.
pub const HEAD_AT_MOST: usize = 4 << 20;

/// A test of a field's name.
pub type NameTest<'a> = &'a dyn Fn(&[u8]) -> bool;

/// A stretch of the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of the stretch, in the buffer that it belongs to.
    pub fn of<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        head.get(self.range()).unwrap_or(&[])
    }

    /// Where it lies in that buffer.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    fn within(head: &[u8], part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).saturating_sub(head.as_ptr() as usize);
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112 section 7.1).
    Chunked,
    /// Only of responses.
    UntilClose,
}

/// Follows a body through the bytes that carry it.
#[derive(Clone, Debug)]
pub enum Body {
    /// So many bytes are left.
    Length(u64),
    /// Chunks are followed.
    Chunked(Chunked),
    /// Everything until the connection ends.
    UntilClose,
}

impl Body {
    /// A body of which nothing has come yet.
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

    /// A trailer says what only a proxy may say: it must not go on.
    pub fn has_forged_trailer(&self) -> bool {
        matches!(self, Body::Chunked(chunked) if chunked.has_forged_trailer())
    }

    /// The last byte of the body has been fed.
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
    /// The request line cannot be read.
    RequestLine,
    /// The status line cannot be read.
    StatusLine,
    /// Another major version than 1.
    Version,
    /// The target is no path, no absolute URI with the same host, or holds characters that it must not.
    Target,
    /// A field's name or value holds what it must not.
    Field,
    /// A line does not end in CRLF.
    LineEnding,
    /// More fields than are taken.
    TooManyFields,
    /// HTTP/1.1 without `Host`.
    MissingHost,
    /// Several `Host` fields, or one that names no host.
    Host,
    /// A length that is no number, or two that differ.
    ContentLength,
    /// A transfer coding that ends in another than `chunked`, or is given where it must not be.
    TransferEncoding,
    /// A transfer coding that this proxy does not know.
    UnknownCoding,
    /// Both a length and a transfer coding.
    ConflictingFraming,
    /// The size of a chunk cannot be read.
    ChunkSize,
    /// Chunk extensions are too long or hold what they must not.
    ChunkExtension,
    /// A chunk does not end where its size says.
    Chunk,
    /// A trailer is too long, forbidden, or cannot be read.
    Trailer,
    /// A method that this proxy does not serve: CONNECT.
    Method,
}

impl Malformed {
    /// The status that the client gets.
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
