//! Takes the chunks off a body that a session wrote in HTTP/1.
//!
//! In: bytes of the body. Out: where data and trailers lie in them. Never: a copy.

use std::ops::Range;

/// Which part of a chunked body the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dechunk {
    /// The line with a chunk's size.
    #[default]
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The line ending behind a chunk.
    DataEnd,
    /// The trailer section.
    Trailers,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the body.
    Data(Range<usize>),
    /// The body has ended; these are the lines of its trailers.
    End(Range<usize>),
    /// More bytes are needed.
    More,
    /// The body breaks the rules of chunks.
    Malformed,
}

/// A chunk's size with its extensions, and a trailer section: longer ones are malformed.
const LINE_AT_MOST: usize = 1024;
const TRAILERS_AT_MOST: usize = 8 * 1024;

impl Dechunk {
    /// The next piece of at most so much data, and how many bytes it takes.
    pub fn next(&mut self, bytes: &[u8], at_most: usize) -> (usize, Piece) {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self {
                Dechunk::Data(left) => {
                    let count = (*left).min(rest.len() as u64).min(at_most as u64) as usize;
                    if count == 0 {
                        return (at, Piece::More);
                    }
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Dechunk::DataEnd;
                    }
                    return (at + count, Piece::Data(at..at + count));
                }
                Dechunk::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        *self = Dechunk::Size;
                    }
                    [] | [b'\r'] => return (at, Piece::More),
                    _ => return (at, Piece::Malformed),
                },
                Dechunk::Size => {
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        return (at, if rest.len() > LINE_AT_MOST { Piece::Malformed } else { Piece::More });
                    };
                    let digits = rest[..end].split(|b| matches!(b, b';' | b'\r')).next().unwrap_or(&[]);
                    let text = std::str::from_utf8(digits).ok().filter(|d| !d.is_empty() && d.len() <= 15);
                    let Some(size) = text.and_then(|d| u64::from_str_radix(d, 16).ok()) else {
                        return (at, Piece::Malformed);
                    };
                    at += end + 1;
                    *self = if size == 0 { Dechunk::Trailers } else { Dechunk::Data(size) };
                }
                Dechunk::Trailers => {
                    if rest.starts_with(b"\r\n") {
                        return (at + 2, Piece::End(at..at));
                    }
                    return match memchr::memmem::find(rest, b"\r\n\r\n") {
                        Some(end) => (at + end + 4, Piece::End(at..at + end + 2)),
                        None if rest.len() > TRAILERS_AT_MOST => (at, Piece::Malformed),
                        None => (at, Piece::More),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_out_whole_however_they_are_cut() {
        let text = b"5;x=y\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nA: b\r\nC: d\r\n\r\n";
        for step in 1..text.len() {
            let (mut state, mut data, mut start, mut end) = (Dechunk::default(), Vec::new(), 0, 0);
            let trailers = loop {
                let (taken, piece) = state.next(&text[start..end], 7);
                match piece {
                    Piece::Data(range) => data.extend_from_slice(&text[start..end][range]),
                    Piece::End(range) => break text[start..end][range].to_vec(),
                    Piece::More => end = (end + step).min(text.len()),
                    Piece::Malformed => panic!("step {step}"),
                }
                start += taken;
            };
            assert_eq!(
                (data.as_slice(), trailers.as_slice()),
                (&b"hello0123456789abcdef"[..], &b"A: b\r\nC: d\r\n"[..])
            );
        }
        for bad in [&b"x\r\n"[..], b"\r\n", b"5\r\nhelloXX", b"fffffffffffffffff\r\n"] {
            let mut state = Dechunk::default();
            let (taken, first) = state.next(bad, 100);
            let last = if matches!(first, Piece::Data(_)) { state.next(&bad[taken..], 100).1 } else { first };
            assert_eq!(last, Piece::Malformed, "{bad:?}");
        }
    }
}
