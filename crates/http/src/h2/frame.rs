//! Frames of HTTP/2 (RFC 9113 section 4): nine bytes of header, and what they carry.

pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEADER: usize = 9;
/// What a frame carries at most, on both sides: the default.
pub const PAYLOAD_AT_MOST: usize = 16_384;

pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Why a stream or a connection ends (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    SettingsTimeout = 4,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    pub fn parse(bytes: &[u8]) -> Option<Head> {
        let b: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        Some(Head {
            length: usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2]),
            kind: b[3],
            flags: b[4],
            stream: u32::from_be_bytes([b[5] & 0x7f, b[6], b[7], b[8]]),
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn bytes(&self) -> [u8; HEADER] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }
}

pub fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&Head { length: payload.len(), kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

pub fn write_reset(stream: u32, code: Code, out: &mut Vec<u8>) {
    write(kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes(), out);
}

pub fn write_window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    write(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes(), out);
}

pub fn write_goaway(last: u32, code: Code, out: &mut Vec<u8>) {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend_from_slice(&(code as u32).to_be_bytes());
    write(kind::GOAWAY, 0, 0, &payload, out);
}

pub fn write_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(settings.len() * 6);
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    write(kind::SETTINGS, 0, 0, &payload, out);
}

/// Writes a header block, in as many frames as it takes.
pub fn write_headers(stream: u32, end: bool, block: &[u8], out: &mut Vec<u8>) {
    let mut parts = block.chunks(PAYLOAD_AT_MOST).peekable();
    let mut kind = kind::HEADERS;
    let mut flags = if end { flag::END_STREAM } else { 0 };
    loop {
        let part = parts.next().unwrap_or(&[]);
        if parts.peek().is_none() {
            return write(kind, flags | flag::END_HEADERS, stream, part, out);
        }
        write(kind, flags, stream, part, out);
        (kind, flags) = (kind::CONTINUATION, 0);
    }
}

/// What a DATA or HEADERS frame carries without its padding and priority.
pub fn unpad<'a>(head: &Head, mut payload: &'a [u8]) -> Option<&'a [u8]> {
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (length, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*length), rest);
    }
    if head.kind == kind::HEADERS && head.has(flag::PRIORITY) {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back() {
        let head = Head { length: 0x01_02_03, kind: 9, flags: 0x2d, stream: 0x7fff_fffe };
        assert_eq!(Head::parse(&head.bytes()), Some(head));
        assert_eq!(Head::parse(&head.bytes()[..8]), None);
    }

    #[test]
    fn padding() {
        let head = |kind, flags| Head { length: 0, kind, flags, stream: 1 };
        assert_eq!(unpad(&head(kind::DATA, 0), b"abc"), Some(&b"abc"[..]));
        assert_eq!(unpad(&head(kind::DATA, flag::PADDED), b"\x02abcd"), Some(&b"ab"[..]));
        assert_eq!(unpad(&head(kind::DATA, flag::PADDED), b"\x05abcd"), None);
        assert_eq!(unpad(&head(kind::DATA, flag::PADDED), b""), None);
        let both = flag::PADDED | flag::PRIORITY;
        assert_eq!(unpad(&head(kind::HEADERS, both), b"\x01\0\0\0\0\0ab"), Some(&b"a"[..]));
        assert_eq!(unpad(&head(kind::HEADERS, flag::PRIORITY), b"\0\0\0"), None);
    }

    #[test]
    fn long_blocks_are_continued() {
        let mut out = Vec::new();
        write_headers(3, true, &vec![7; PAYLOAD_AT_MOST + 1], &mut out);
        let first = Head::parse(&out).unwrap();
        assert_eq!(
            (first.kind, first.flags, first.length),
            (kind::HEADERS, flag::END_STREAM, PAYLOAD_AT_MOST)
        );
        let second = Head::parse(&out[HEADER + PAYLOAD_AT_MOST..]).unwrap();
        assert_eq!((second.kind, second.flags, second.length), (kind::CONTINUATION, flag::END_HEADERS, 1));
    }
}
