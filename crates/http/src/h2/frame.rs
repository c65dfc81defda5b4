//! Frames of HTTP/2 (RFC 9113 section 4): nine bytes of header, and what they carry.

/// What a client sends before its first frame (section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub const HEADER: usize = 9;
/// The largest payload of a frame, in both directions: the default, which no setting changes here.
pub const PAYLOAD_AT_MOST: usize = 16_384;

/// Flags of frames.
pub mod flag {
    /// DATA, HEADERS: the sender's last frame on the stream.
    pub const END_STREAM: u8 = 0x1;
    /// SETTINGS, PING: an acknowledgement.
    pub const ACK: u8 = 0x1;
    /// HEADERS, CONTINUATION: the header block ends here.
    pub const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS: padding follows.
    pub const PADDED: u8 = 0x8;
    /// HEADERS: a priority comes first.
    pub const PRIORITY: u8 = 0x20;
}

/// Types of frames (section 6).
pub mod kind {
    /// Bytes of a message's body.
    pub const DATA: u8 = 0;
    /// The first part of a header block.
    pub const HEADERS: u8 = 1;
    /// A priority, which is checked and ignored.
    pub const PRIORITY: u8 = 2;
    /// The end of one stream.
    pub const RST_STREAM: u8 = 3;
    /// Settings of the connection, or their acknowledgement.
    pub const SETTINGS: u8 = 4;
    /// An announced push: no peer may send one here.
    pub const PUSH_PROMISE: u8 = 5;
    /// A question whether the peer is there, or the answer.
    pub const PING: u8 = 6;
    /// The end of the connection, at once or after the present streams.
    pub const GOAWAY: u8 = 7;
    /// More bytes that the peer may send.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a header block.
    pub const CONTINUATION: u8 = 9;
}

/// Why a stream or a connection ends (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCode {
    /// NO_ERROR: nothing is wrong.
    NoError = 0,
    /// PROTOCOL_ERROR.
    Protocol = 1,
    /// INTERNAL_ERROR.
    Internal = 2,
    /// FLOW_CONTROL_ERROR.
    FlowControl = 3,
    /// SETTINGS_TIMEOUT.
    SettingsTimeout = 4,
    /// STREAM_CLOSED.
    StreamClosed = 5,
    /// FRAME_SIZE_ERROR.
    FrameSize = 6,
    /// REFUSED_STREAM: the request was not begun with and can be sent again.
    RefusedStream = 7,
    /// CANCEL: the stream is no longer needed.
    Cancel = 8,
    /// COMPRESSION_ERROR.
    Compression = 9,
    /// ENHANCE_YOUR_CALM: the peer costs too much.
    EnhanceYourCalm = 11,
}

/// Names of settings (section 6.5.2).
pub mod setting {
    /// Bytes of the peer's header table.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// Whether the server may push.
    pub const ENABLE_PUSH: u16 = 2;
    /// Streams that the peer may have open.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// The send window of a new stream.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// The largest payload of a frame.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// The largest header list.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// Whether the extended CONNECT is understood (RFC 8441).
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// The nine bytes before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub length: usize,
    /// One of [`kind`], or unknown.
    pub kind: u8,
    /// Some of [`flag`]; which ones are meant depends on the kind.
    pub flags: u8,
    /// The stream's number; 0 is the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// Reads a header; `None` while it is not there as a whole.
    pub fn parse(bytes: &[u8]) -> Option<FrameHeader> {
        let b: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        Some(FrameHeader {
            length: usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2]),
            kind: b[3],
            flags: b[4],
            stream: u32::from_be_bytes([b[5] & 0x7f, b[6], b[7], b[8]]),
        })
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The header as it is sent.
    pub fn bytes(&self) -> [u8; HEADER] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }
}

/// Appends a frame.
pub fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&FrameHeader { length: payload.len(), kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

/// Appends a RST_STREAM frame.
pub fn write_reset(stream: u32, code: ErrorCode, out: &mut Vec<u8>) {
    write(kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes(), out);
}

/// Appends a WINDOW_UPDATE frame.
pub fn write_window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    write(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes(), out);
}

/// Appends a GOAWAY frame; `last` is the last stream that this side has begun to serve.
pub fn write_goaway(last: u32, code: ErrorCode, out: &mut Vec<u8>) {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend_from_slice(&(code as u32).to_be_bytes());
    write(kind::GOAWAY, 0, 0, &payload, out);
}

/// Appends a SETTINGS frame of names and values.
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

/// What a DATA or HEADERS frame carries without its padding and priority; `None` if those are longer than
/// the frame.
pub fn unpad<'a>(head: &FrameHeader, mut payload: &'a [u8]) -> Option<&'a [u8]> {
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
        let head = FrameHeader { length: 0x01_02_03, kind: 9, flags: 0x2d, stream: 0x7fff_fffe };
        assert_eq!(FrameHeader::parse(&head.bytes()), Some(head));
        assert_eq!(FrameHeader::parse(&head.bytes()[..8]), None);
    }

    #[test]
    fn padding() {
        let head = |kind, flags| FrameHeader { length: 0, kind, flags, stream: 1 };
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
        let first = FrameHeader::parse(&out).unwrap();
        assert_eq!(
            (first.kind, first.flags, first.length),
            (kind::HEADERS, flag::END_STREAM, PAYLOAD_AT_MOST)
        );
        let second = FrameHeader::parse(&out[HEADER + PAYLOAD_AT_MOST..]).unwrap();
        assert_eq!((second.kind, second.flags, second.length), (kind::CONTINUATION, flag::END_HEADERS, 1));
    }
}
