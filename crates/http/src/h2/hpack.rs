//! HPACK (RFC 7541): compressed header blocks.
//!
//! In: header blocks, fields. Out: fields, header blocks. Never: the meaning of fields.

use std::collections::VecDeque;

use self::DecodeError::{Malformed, TooMuch};

/// The lengths of the Huffman codes of Appendix B. The code is canonical, so the codes follow from their
/// lengths. The end-of-string symbol, thirty ones, follows after these.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const LONGEST: usize = 30;
/// Codes up to this length are found in one step.
const SHORT: usize = 9;

/// The Huffman code: symbols in the order of their codes; for each length its first code and the index of
/// the first symbol of that length.
struct Code {
    symbols: [u8; 256],
    first: [u32; LONGEST + 2],
    start: [u16; LONGEST + 2],
    /// For each value of the next nine bits: the symbol and the length of its code, 0 if that is longer.
    short: [(u8, u8); 1 << SHORT],
}

static CODE: Code = canonical();

const fn canonical() -> Code {
    let mut code = Code {
        symbols: [0; 256],
        first: [0; LONGEST + 2],
        start: [0; LONGEST + 2],
        short: [(0, 0); 1 << SHORT],
    };
    let (mut next, mut at, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        code.first[length] = next;
        code.start[length] = at as u16;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                code.symbols[at] = symbol as u8;
                if length <= SHORT {
                    let mut rest = 0;
                    while rest < 1 << (SHORT - length) {
                        code.short[(next as usize) << (SHORT - length) | rest] = (symbol as u8, length as u8);
                        rest += 1;
                    }
                }
                at += 1;
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    code.start[LONGEST + 1] = at as u16;
    code
}

/// Appends the decoded bytes of a Huffman-coded string.
fn decode_huffman(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (mut bits, mut held) = (0u64, 0usize);
    let mut rest = bytes.iter();
    loop {
        while held <= 56 {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        // Bits beyond the end are ones, as padding is.
        let window =
            (if held >= 32 { bits >> (held - 32) } else { bits << (32 - held) | ((1 << (32 - held)) - 1) })
                as u32;
        let (symbol, length) = CODE.short[(window >> (32 - SHORT)) as usize];
        let (symbol, length) = match length {
            // Thirty ones are the end-of-string symbol, which no string holds (section 5.2); fewer are
            // padding.
            0 => match long(window) {
                None if held >= LONGEST => return Err(Malformed),
                found => found.unwrap_or((0, LONGEST + 1)),
            },
            _ => (symbol, usize::from(length)),
        };
        if length > held {
            // What is left must be padding: fewer than eight bits, all ones.
            let padding = held < 8 && bits & ((1 << held) - 1) == (1 << held) - 1;
            return if padding { Ok(()) } else { Err(Malformed) };
        }
        out.push(symbol);
        held -= length;
        bits &= (1u64 << held) - 1;
    }
}

/// Finds a symbol whose code is longer than [`SHORT`].
fn long(window: u32) -> Option<(u8, usize)> {
    (SHORT + 1..=LONGEST).find_map(|length| {
        let code = window >> (32 - length);
        let count = u32::from(CODE.start[length + 1] - CODE.start[length]);
        let index = code.checked_sub(CODE.first[length]).filter(|index| *index < count)?;
        Some((CODE.symbols[usize::from(CODE.start[length]) + index as usize], length))
    })
}

/// The static table of Appendix A, from index 1.
#[rustfmt::skip]
static STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// Why a header block was not decoded to its end. The connection is lost, because the tables of both
/// sides would differ from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It breaks a rule of RFC 7541.
    Malformed,
    /// It makes the decoder copy many times its own size.
    TooMuch,
}

/// Bytes that an entry of the dynamic table counts for beside its name and value (section 4.1).
const OVERHEAD: usize = 32;
/// What literal fields of a block may copy, beside four times the block: names that are taken from the
/// table by a byte or two can be long.
const COPIED_AT_MOST: u64 = 32 * 1024;
/// The size of the dynamic table, the default: no setting changes it here.
pub const TABLE_SIZE: usize = 4096;

/// Decodes the header blocks of one connection, and keeps its dynamic table.
pub struct Decoder {
    /// The newest first: name and value in one piece, and the length of the name.
    table: VecDeque<(Box<[u8]>, usize)>,
    size: usize,
    limit: usize,
    name: Vec<u8>,
    value: Vec<u8>,
    /// Bytes of literal fields since the beginning.
    copied: u64,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            table: VecDeque::new(),
            size: 0,
            limit: TABLE_SIZE,
            name: Vec::new(),
            value: Vec::new(),
            copied: 0,
        }
    }
}

impl Decoder {
    /// Decodes a whole header block and calls `field` for each name and value.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), DecodeError> {
        let mut begun = false;
        let most = self.copied + COPIED_AT_MOST + 4 * block.len() as u64;
        while let Some(first) = block.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                let (name, value) = self.entry(index)?;
                field(name, value);
            } else if first & 0xe0 == 0x20 {
                // Size updates may come only at the beginning of a block (section 4.2).
                let limit = integer(&mut block, 5)?;
                if begun || limit > TABLE_SIZE {
                    return Err(Malformed);
                }
                self.limit = limit;
                self.evict(0);
                continue;
            } else {
                let indexed = first & 0x40 != 0;
                let index = integer(&mut block, if indexed { 6 } else { 4 })?;
                let (mut name, mut value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
                name.clear();
                value.clear();
                match index {
                    0 => string(&mut block, &mut name)?,
                    index => name.extend_from_slice(self.entry(index)?.0),
                }
                string(&mut block, &mut value)?;
                self.copied += (name.len() + value.len()) as u64;
                if self.copied > most {
                    return Err(TooMuch);
                }
                field(&name, &value);
                if indexed {
                    self.insert(&name, &value);
                }
                (self.name, self.value) = (name, value);
            }
            begun = true;
        }
        Ok(())
    }

    /// Frees what fields are decoded into.
    pub fn hold_little(&mut self) {
        (self.name, self.value) = (Vec::new(), Vec::new());
    }

    /// The size of the dynamic table (section 4.1).
    pub fn table_size(&self) -> usize {
        self.size
    }

    /// Bytes of literal fields since the beginning: what decoding has copied.
    pub fn copied(&self) -> u64 {
        self.copied
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), DecodeError> {
        let at = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (bytes, name) = self.table.get(at - STATIC.len()).ok_or(Malformed)?;
        Ok(bytes.split_at(*name))
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.evict(size);
        if size <= self.limit {
            self.table.push_front(([name, value].concat().into(), name.len()));
            self.size += size;
        }
    }

    /// Makes room; an entry larger than the table empties it (section 4.4).
    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some((bytes, _)) = self.table.pop_back() else { return };
            self.size -= bytes.len() + OVERHEAD;
        }
    }
}

/// Reads an integer with a prefix of so many bits (section 5.1). Integers of 2^28 and more are refused:
/// nothing here is that large.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, DecodeError> {
    let (first, mut rest) = block.split_first().ok_or(Malformed)?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first().ok_or(Malformed)?;
            rest = after;
            if shift > 21 {
                return Err(Malformed);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let huffman = block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    match huffman {
        true => decode_huffman(bytes, out),
        false => {
            out.extend_from_slice(bytes);
            Ok(())
        }
    }
}

fn write_integer(value: usize, prefix: u32, flags: u8, out: &mut Vec<u8>) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        return out.push(flags | value as u8);
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    write_integer(bytes.len(), 7, 0, out);
    out.extend_from_slice(bytes);
}

/// The index of a name in the static table.
fn static_name(name: &[u8]) -> Option<usize> {
    STATIC
        .iter()
        .position(|(known, _)| known.len() == name.len() && known.as_bytes() == name)
        .map(|at| at + 1)
}

/// The first byte of a literal that no table may hold, at this hop or a later one (section 6.2.3).
const NEVER_INDEXED: u8 = 0x10;

/// Appends a field as a literal that is never indexed. A field that came with that mark must keep it
/// (section 6.2.3), and the marks are lost where sessions speak HTTP/1: so every field gets it.
pub fn encode(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match static_name(name) {
        Some(index) => write_integer(index, 4, NEVER_INDEXED, out),
        None => {
            out.push(NEVER_INDEXED);
            write_string(name, out);
        }
    }
    write_string(value, out);
}

/// Appends the new size of this side's dynamic table, which must come first in a block (section 4.2).
pub fn encode_table_size(size: usize, out: &mut Vec<u8>) {
    write_integer(size, 5, 0x20, out);
}

/// Appends the status of an answer.
pub fn encode_status(status: u16, out: &mut Vec<u8>) {
    let known = [200, 204, 206, 304, 400, 404, 500].iter().position(|s| *s == status);
    match known {
        Some(at) => out.push(0x80 | (8 + at as u8)),
        None => {
            out.push(8);
            write_string(status.to_string().as_bytes(), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, DecodeError> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decoder.decode(block, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    /// The end-of-string symbol, as a whole or in part, and padding (RFC 7541 section 5.2).
    #[test]
    fn padding_of_huffman_texts() {
        let check = |text: &[u8], expect: Result<&str, DecodeError>| {
            let mut out = Vec::new();
            let got = decode_huffman(text, &mut out).map(|()| String::from_utf8(out).unwrap());
            assert_eq!(got, expect.map(str::to_owned), "{text:x?}");
        };
        // '0' is 00000, 'a' is 00011.
        check(&[0b0000_0111], Ok("0"));
        check(&[0b0000_0110], Err(Malformed));
        check(&[0b0000_0111, 0xff], Err(Malformed));
        check(&[0xff], Err(Malformed));
        check(&[0xff; 3], Err(Malformed));
        check(&[0xff; 4], Err(Malformed));
        check(&[0b0001_1111, 0xff, 0xff, 0xff, 0xff], Err(Malformed));
        check(&[0b0001_1111, 0xff, 0xff, 0xff, 0xe0, 0x07], Err(Malformed));
        check(&[], Ok(""));
    }

    #[test]
    fn fields_are_marked_never_to_be_indexed() {
        for (name, value) in [("authorization", "x"), ("x-own", "y")] {
            let mut block = Vec::new();
            encode(name.as_bytes(), value.as_bytes(), &mut block);
            assert_eq!(block[0] & 0xf0, NEVER_INDEXED, "{name}");
        }
    }

    fn check(decoder: &mut Decoder, block: &str, expect: &[(&str, &str)], size: usize) {
        let fields = decode(decoder, &hex(block)).unwrap();
        let shown: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(shown, expect);
        assert_eq!(decoder.size, size, "{block}");
    }

    /// RFC 7541 Appendix C.3, C.4 and C.6.
    #[test]
    fn the_examples_of_the_standard() {
        let mut plain = Decoder::default();
        let first =
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        check(&mut plain, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &first, 57);
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        check(&mut plain, "8286 84be 5808 6e6f 2d63 6163 6865", &second, 110);
        let mut huffman = Decoder::default();
        check(&mut huffman, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &first, 57);
        check(&mut huffman, "8286 84be 5886 a8eb 1064 9cbf", &second, 110);
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        check(&mut huffman, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", &third, 164);
        let mut answers = Decoder::default();
        let date = "Mon, 21 Oct 2013 20:13:21 GMT";
        let block = "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        let expect = [
            (":status", "302"),
            ("cache-control", "private"),
            ("date", date),
            ("location", "https://www.example.com"),
        ];
        check(&mut answers, block, &expect, 222);
        assert_eq!(answers.limit, 256);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for bad in [
            "80",
            "be",
            "ff80808080808001",
            "40",
            "4001",
            "400161",
            "0085ffffffff ff",
            "8220",
            "3fe21f",
            "00",
            "0081ff",
        ] {
            assert_eq!(decode(&mut Decoder::default(), &hex(bad)), Err(Malformed), "{bad}");
        }
        // Padding of eight bits, and of zeros.
        assert_eq!(decode_huffman(&[0x1f, 0xff], &mut Vec::new()), Err(Malformed));
        assert_eq!(decode_huffman(&[0x18], &mut Vec::new()), Err(Malformed));
        let mut out = Vec::new();
        assert_eq!(decode_huffman(&[0x1f], &mut out), Ok(()));
        assert_eq!(out, b"a");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut decoder = Decoder::default();
        for n in 0..1000u32 {
            let mut block = vec![0x40];
            write_string(&n.to_be_bytes(), &mut block);
            write_string(&[b'x'; 100], &mut block);
            decode(&mut decoder, &block).unwrap();
            assert!(decoder.size <= TABLE_SIZE);
        }
        let mut large = vec![0x40];
        write_string(b"n", &mut large);
        write_string(&[b'x'; 5000], &mut large);
        decode(&mut decoder, &large).unwrap();
        assert_eq!((decoder.size, decoder.table.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(fields in proptest::collection::vec(("[a-z-]{1,40}", ".{0,300}"), 0..20), status in 100u16..600) {
            let mut block = Vec::new();
            encode_status(status, &mut block);
            for (name, value) in &fields {
                encode(name.as_bytes(), value.as_bytes(), &mut block);
            }
            let mut expect = vec![(":status".to_owned(), status.to_string())];
            expect.extend(fields);
            prop_assert_eq!(decode(&mut Decoder::default(), &block).unwrap(), expect);
        }

        #[test]
        fn noise_does_no_harm(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10)) {
            let mut decoder = Decoder::default();
            for block in blocks {
                let _ = decode(&mut decoder, &block);
                prop_assert!(decoder.size <= TABLE_SIZE);
            }
        }
    }
}
