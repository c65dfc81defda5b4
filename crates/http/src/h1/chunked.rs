//! Finds the end of a chunked body (RFC 9112 section 7.1). Chunks are forwarded as they came, so whatever
//! another reader could understand differently is refused.
//!
//! In: bytes of the body. Out: how many belong to it, where trailers lie. Never: a copy of the body.

use std::ops::Range;

use super::Malformed;

/// Bytes of all chunk extensions of a body, and of its trailers.
const EXTENSION_BYTES: u16 = 256;
const TRAILER_BYTES: u16 = 4096;
/// Hexadecimal digits of a chunk's size.
const SIZE_DIGITS: u8 = 15;

/// Finds the end of a chunked body in the bytes that carry it, fed piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    left: u64,
    digits: u8,
    spent: u16,
    trailer: TrailerName,
    has_forged_trailer: bool,
    /// Where trailers lay in the bytes that were fed last.
    trailers: Range<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Complete,
}

impl State {
    fn is_in_trailer(self) -> bool {
        matches!(self, State::TrailerName | State::TrailerValue | State::TrailerLf)
    }
}

impl Chunked {
    /// The body has ended, trailers included.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Where trailers lie in the bytes that were fed last. They can be left out: the body stays valid.
    pub fn trailers(&self) -> Range<usize> {
        self.trailers.clone()
    }

    /// One of them is what [`is_forged_trailer`] says.
    pub fn has_forged_trailer(&self) -> bool {
        self.has_forged_trailer
    }

    /// Takes the chunks off: moves their data to the front of `bytes`. How many of the bytes belong to the
    /// body, and how many bytes of data are in front now.
    pub fn extract(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Malformed> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() && self.state != State::Complete {
            if self.state == State::Data {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                bytes.copy_within(at..at + count, kept);
                kept += count;
                self.pass(count);
                at += count;
                continue;
            }
            self.step(bytes[at])?;
            at += 1;
        }
        Ok((at, kept))
    }

    fn pass(&mut self, count: usize) {
        self.left -= count as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
    }

    /// How many of the bytes belong to the body: all of them, unless it ends within.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        self.trailers = 0..0;
        while at < bytes.len() && self.state != State::Complete {
            if self.state == State::Data {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.pass(count);
                at += count;
                continue;
            }
            let before = self.state;
            self.step(bytes[at])?;
            if before == State::TrailerLf || self.state.is_in_trailer() {
                let start = if self.trailers.is_empty() { at } else { self.trailers.start };
                self.trailers = start..at + 1;
            }
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.size_digit(byte)?,
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => return Err(Malformed::ChunkSize),
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.spend(EXTENSION_BYTES, Malformed::ChunkExtension)?;
                State::Extension
            }
            (State::Extension, _) => return Err(Malformed::ChunkExtension),
            (State::SizeLf, b'\n') if self.left == 0 => {
                self.spent = 0;
                State::TrailerStart
            }
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, _) if is_token(byte) => {
                self.trailer = TrailerName::default();
                self.trailer_name(byte)?
            }
            (State::TrailerName, b':') if may_be_trailer(self.trailer.bytes()) => {
                self.has_forged_trailer |= is_forged_trailer(self.trailer.bytes());
                State::TrailerValue
            }
            (State::TrailerName, _) if is_token(byte) => self.trailer_name(byte)?,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.spend(TRAILER_BYTES, Malformed::Trailer)?;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Complete,
            (State::DataCr | State::DataLf, _) => return Err(Malformed::Chunk),
            (State::SizeLf, _) => return Err(Malformed::ChunkSize),
            _ => return Err(Malformed::Trailer),
        };
        Ok(())
    }

    fn size_digit(&mut self, byte: u8) -> Result<State, Malformed> {
        if self.digits == 0 {
            self.left = 0;
        }
        self.digits += 1;
        if self.digits > SIZE_DIGITS {
            return Err(Malformed::ChunkSize);
        }
        let value = (byte as char).to_digit(16).unwrap_or(0);
        self.left = self.left << 4 | u64::from(value);
        Ok(State::Size)
    }

    fn trailer_name(&mut self, byte: u8) -> Result<State, Malformed> {
        self.spend(TRAILER_BYTES, Malformed::Trailer)?;
        self.trailer.push(byte);
        Ok(State::TrailerName)
    }

    /// Counts a byte of an extension or a trailer, over the whole body.
    fn spend(&mut self, limit: u16, error: Malformed) -> Result<(), Malformed> {
        self.spent += 1;
        if self.spent > limit { Err(error) } else { Ok(()) }
    }
}

/// The first bytes of a trailer's name, as many as the longest forbidden name has.
#[derive(Clone, Copy, Debug, Default)]
struct TrailerName {
    bytes: [u8; 24],
    len: u8,
}

impl TrailerName {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(usize::from(self.len)) {
            *slot = byte;
        }
        self.len = self.len.saturating_add(1);
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

/// Fields that frame, route or authenticate a message (RFC 9110 section 6.5.1).
const FORBIDDEN: [&[u8]; 16] = [
    b"content-length",
    b"transfer-encoding",
    b"host",
    b"connection",
    b"keep-alive",
    b"upgrade",
    b"te",
    b"trailer",
    b"expect",
    b"authorization",
    b"cookie",
    b"set-cookie",
    b"content-encoding",
    b"content-type",
    b"content-range",
    b"proxy-connection",
];

/// Whether a field of this name may come behind a body.
pub fn may_be_trailer(name: &[u8]) -> bool {
    !FORBIDDEN.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// Whether a server could take it for a field that must not come behind a body, or for one in which a proxy
/// says who its client is: those of CGI and WSGI read `_` and its like as `-`. It is dropped with all other
/// trailers, but where trailers go on it must not. Of longer names the first 24 bytes are enough.
pub fn is_forged_trailer(name: &[u8]) -> bool {
    const IDENTITY: [&[u8]; 2] = [b"forwarded", b"x-real-ip"];
    const IDENTITY_BEGINS: [&[u8]; 2] = [b"x-forwarded-", b"x-client-cert-"];
    let mut folded = [0; 24];
    let len = name.len().min(folded.len());
    for (to, byte) in folded.iter_mut().zip(name) {
        *to = if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    }
    let folded = &folded[..len];
    FORBIDDEN.contains(&folded)
        || IDENTITY.contains(&folded)
        || IDENTITY_BEGINS.iter().any(|begin| folded.starts_with(begin))
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
