//! A body compressed piece by piece, in chunks.

use flate2::{Compress, Compression, Crc, FlushCompress};

/// What an encoder holds.
pub const MEMORY: usize = 320 * 1024;

/// What stands around the compressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// `gzip` (RFC 1952).
    Gzip,
    /// `deflate` (RFC 1950).
    Zlib,
    /// Compressed bytes alone (RFC 1951).
    Raw,
    /// The bytes are not compressed.
    Plain,
}

/// What comes after the bytes that are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// More, at once.
    Goes,
    /// More, some time: what was given is to be read before.
    Rests,
    /// Nothing.
    Ends,
}

/// Digits of a chunk's size with the line's end.
const SIZE_LINE: usize = 6;
/// What follows a chunk's data, and the last chunk.
const AFTER: usize = 2 + 5;
/// `gzip` with no name, time and system.
const GZIP_HEAD: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
const ZLIB_HEAD: &[u8] = &[0x78, 0x01];

/// Compresses one body after another; it is large, and used again.
#[derive(Debug)]
pub struct Encoder {
    deflate: Compress,
    wrapper: Wrapper,
    begun: bool,
    /// Bytes were taken that no reader can have yet.
    holds: bool,
    ended: bool,
    crc: Crc,
    adler: Adler,
}

impl Encoder {
    /// One for a body.
    pub fn new(wrapper: Wrapper) -> Encoder {
        Encoder {
            deflate: Compress::new(Compression::fast(), false),
            wrapper,
            begun: false,
            holds: false,
            ended: false,
            crc: Crc::new(),
            adler: Adler::default(),
        }
    }

    /// Begins with another body.
    pub fn restart(&mut self, wrapper: Wrapper) {
        self.deflate.reset();
        self.crc.reset();
        (self.wrapper, self.begun, self.holds, self.ended) = (wrapper, false, false, false);
        self.adler = Adler::default();
    }

    /// Bytes were taken that [`Input::Rests`] would bring out.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// All is written, the last chunk included.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes bytes and writes at most one chunk, and the end where there is one, to `out`, which has room for
    /// some hundred bytes at least. How many were taken, and where in `out` the chunk is. To be called
    /// again while it takes or writes something.
    pub fn encode(&mut self, bytes: &[u8], input: Input, out: &mut [u8]) -> (usize, std::ops::Range<usize>) {
        if self.ended || out.len() < SIZE_LINE + AFTER + 64 {
            return (0, 0..0);
        }
        let end = out.len().min(0xffff) - AFTER;
        let mut at = SIZE_LINE;
        if !std::mem::replace(&mut self.begun, true) {
            let head = match self.wrapper {
                Wrapper::Gzip => GZIP_HEAD,
                Wrapper::Zlib => ZLIB_HEAD,
                Wrapper::Raw | Wrapper::Plain => b"",
            };
            out[at..at + head.len()].copy_from_slice(head);
            at += head.len();
        }
        // Room for what follows the compressed bytes.
        let (taken, written, is_last) = self.deflate(bytes, input, &mut out[at..end - 8]);
        at += written;
        if is_last {
            at += self.check(&mut out[at..]);
            self.ended = true;
        }
        (taken, frame(out, at, is_last))
    }

    fn deflate(&mut self, bytes: &[u8], input: Input, out: &mut [u8]) -> (usize, usize, bool) {
        if self.wrapper == Wrapper::Plain {
            let taken = bytes.len().min(out.len());
            out[..taken].copy_from_slice(&bytes[..taken]);
            return (taken, taken, input == Input::Ends && taken == bytes.len());
        }
        let flush = match input {
            Input::Goes => FlushCompress::None,
            Input::Rests => FlushCompress::Sync,
            Input::Ends => FlushCompress::Finish,
        };
        if input != Input::Ends && bytes.is_empty() && !self.holds {
            return (0, 0, false);
        }
        let before = (self.deflate.total_in(), self.deflate.total_out());
        let status = self.deflate.compress(bytes, out, flush);
        let taken = (self.deflate.total_in() - before.0) as usize;
        let written = (self.deflate.total_out() - before.1) as usize;
        match self.wrapper {
            Wrapper::Gzip => self.crc.update(&bytes[..taken]),
            Wrapper::Zlib => self.adler.update(&bytes[..taken]),
            Wrapper::Raw | Wrapper::Plain => {}
        }
        // What did not fit comes with the next call.
        self.holds = match input {
            Input::Goes => true,
            Input::Rests | Input::Ends => written == out.len() || taken < bytes.len(),
        };
        (taken, written, matches!(status, Ok(flate2::Status::StreamEnd)))
    }

    /// What lets a reader see that it has all.
    fn check(&self, out: &mut [u8]) -> usize {
        match self.wrapper {
            Wrapper::Gzip => {
                out[..4].copy_from_slice(&self.crc.sum().to_le_bytes());
                out[4..8].copy_from_slice(&self.crc.amount().to_le_bytes());
                8
            }
            Wrapper::Zlib => {
                out[..4].copy_from_slice(&self.adler.sum().to_be_bytes());
                4
            }
            Wrapper::Raw | Wrapper::Plain => 0,
        }
    }
}

/// Makes a chunk of the data between [`SIZE_LINE`] and `end`; where it is with its frame.
fn frame(out: &mut [u8], end: usize, is_last: bool) -> std::ops::Range<usize> {
    let (mut start, mut at) = (SIZE_LINE, end);
    let size = end - SIZE_LINE;
    if size > 0 {
        let mut left = size;
        start -= 2;
        out[start..SIZE_LINE].copy_from_slice(b"\r\n");
        while left > 0 {
            start -= 1;
            out[start] = b"0123456789abcdef"[left % 16];
            left /= 16;
        }
        out[at..at + 2].copy_from_slice(b"\r\n");
        at += 2;
    }
    if is_last {
        out[at..at + 5].copy_from_slice(b"0\r\n\r\n");
        at += 5;
    }
    start..at
}

/// The sum of `deflate` (RFC 1950 section 8.2).
#[derive(Clone, Copy, Debug)]
struct Adler {
    low: u32,
    high: u32,
}

impl Default for Adler {
    fn default() -> Adler {
        Adler { low: 1, high: 0 }
    }
}

impl Adler {
    /// Bytes after which the sums still fit.
    const AT_ONCE: usize = 5552;
    const MODULUS: u32 = 65_521;

    fn update(&mut self, bytes: &[u8]) {
        for some in bytes.chunks(Adler::AT_ONCE) {
            for byte in some {
                self.low += u32::from(*byte);
                self.high += self.low;
            }
            self.low %= Adler::MODULUS;
            self.high %= Adler::MODULUS;
        }
    }

    fn sum(self) -> u32 {
        self.high << 16 | self.low
    }
}
