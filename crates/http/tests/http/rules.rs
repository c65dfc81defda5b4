//! Rules of RFC 9113 and RFC 7541, one a line, in the order and by the names of the public list of
//! h2spec: what a client sends, and what a server must make of it.

use evenkeel_http::h2::Role;
use evenkeel_http::h2::frame::{self, ErrorCode, flag, kind, setting};

use crate::peer::{
    Engine, Frame, block, data, frame, get, number, post, request_block, reset, settings, status,
    window_update,
};

const END_HEADERS: u8 = flag::END_HEADERS;
const END_STREAM: u8 = flag::END_STREAM;
const ENDS: u8 = END_HEADERS | END_STREAM;

/// What must come of it. All but [`Expect::Goaway`] leave a connection that still answers.
#[derive(Debug)]
enum Expect {
    /// The connection ends with this code.
    Goaway(ErrorCode),
    /// This stream alone ends with this code.
    Reset(u32, ErrorCode),
    /// This stream gets a whole answer with status 200.
    Answer(u32),
    /// A frame of this kind, with these flags and bytes.
    Frame(u8, u8, &'static [u8]),
    /// DATA frames on stream 1 that carry so many bytes each.
    Pieces(&'static [usize]),
    /// Nothing special.
    Fine,
}

use Expect::{Answer, Fine, Goaway, Pieces, Reset};

/// Steps of bytes; between two steps the server's sessions run and its output is read.
type Rule = (&'static str, Vec<Vec<u8>>, Expect);

fn once(name: &'static str, parts: &[Vec<u8>], expect: Expect) -> Rule {
    (name, vec![parts.concat()], expect)
}

fn steps(name: &'static str, steps: &[Vec<u8>], expect: Expect) -> Rule {
    (name, steps.to_vec(), expect)
}

fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags, stream, block)
}

/// A request whose fields are these alone.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    headers(1, ENDS, &block(fields))
}

/// A request with an additional field.
fn with(name: &str, value: &str) -> Vec<u8> {
    headers(1, ENDS, &request_block("GET", &[(name, value)]))
}

fn continuation(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::CONTINUATION, flags, stream, block)
}

fn priority(stream: u32, depends_on: u32, weight: u8) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, &[&depends_on.to_be_bytes()[..], &[weight]].concat())
}

fn ping(flags: u8, stream: u32) -> Vec<u8> {
    frame(kind::PING, flags, stream, b"h2spec\0\0")
}

/// The pseudo-fields of a GET from the static table, then `rest`.
fn hpack(rest: &[u8]) -> Vec<u8> {
    headers(1, ENDS, &[&[0x82, 0x84, 0x86][..], b"\x41\x09a.example", rest].concat())
}

fn generic() -> Vec<Rule> {
    let half = request_block("GET", &[("x-a", "1")]);
    let (front, back) = half.split_at(10);
    vec![
        once("generic/1/1 preface", &[get(1)], Answer(1)),
        once("generic/2/1 PRIORITY on an idle stream", &[priority(1, 0, 255), get(1)], Answer(1)),
        once("generic/2/2 WINDOW_UPDATE, half-closed", &[get(1), window_update(1, 100)], Answer(1)),
        once("generic/2/3 PRIORITY, half-closed", &[get(1), priority(1, 0, 255)], Answer(1)),
        once("generic/2/4 RST_STREAM, half-closed", &[get(1), reset(1, number(ErrorCode::Cancel))], Fine),
        steps("generic/2/5 PRIORITY, closed", &[get(1), priority(1, 0, 255)], Answer(1)),
        once("generic/3.1/1 DATA", &[post(1), data(1, true, b"test")], Answer(1)),
        once(
            "generic/3.1/2 several DATA",
            &[post(1), data(1, false, b"te"), data(1, true, b"st")],
            Answer(1),
        ),
        once(
            "generic/3.1/3 padded DATA",
            &[post(1), frame(kind::DATA, flag::PADDED | END_STREAM, 1, b"\x03test\0\0\0")],
            Answer(1),
        ),
        once("generic/3.2/1 HEADERS", &[get(1)], Answer(1)),
        once(
            "generic/3.2/2 padded HEADERS",
            &[headers(1, ENDS | flag::PADDED, &[&[2][..], &half, &[0, 0]].concat())],
            Answer(1),
        ),
        once(
            "generic/3.2/3 HEADERS with priority",
            &[headers(1, ENDS | flag::PRIORITY, &[&[0, 0, 0, 0, 255][..], &half].concat())],
            Answer(1),
        ),
        once("generic/3.3/1 PRIORITY of weight 1", &[priority(1, 0, 0), get(1)], Answer(1)),
        once("generic/3.3/2 PRIORITY of weight 256", &[priority(1, 0, 255), get(1)], Answer(1)),
        once("generic/3.3/3 PRIORITY with a dependency", &[priority(3, 1, 9), get(1)], Answer(1)),
        once("generic/3.3/4 exclusive PRIORITY", &[priority(3, 1 << 31 | 1, 9), get(1)], Answer(1)),
        once("generic/3.3/5 PRIORITY above the first request", &[priority(5, 0, 9), get(3)], Answer(3)),
        steps("generic/3.4/1 RST_STREAM", &[[post(1), reset(1, 8)].concat(), get(3)], Answer(3)),
        once("generic/3.5/1 SETTINGS", &[settings(&[])], Expect::Frame(kind::SETTINGS, flag::ACK, b"")),
        once("generic/3.7/1 PING", &[ping(0, 0)], Expect::Frame(kind::PING, flag::ACK, b"h2spec\0\0")),
        once("generic/3.8/1 GOAWAY", &[frame(kind::GOAWAY, 0, 0, &[0; 8])], Fine),
        once("generic/3.9/1 WINDOW_UPDATE, connection", &[window_update(0, 1), get(1)], Answer(1)),
        once("generic/3.9/2 WINDOW_UPDATE, stream", &[get(1), window_update(1, 1)], Answer(1)),
        once(
            "generic/3.10/1 CONTINUATION",
            &[headers(1, END_STREAM, front), continuation(1, END_HEADERS, back)],
            Answer(1),
        ),
        once(
            "generic/3.10/2 several CONTINUATION",
            &[
                headers(1, END_STREAM, front),
                continuation(1, 0, &back[..5]),
                continuation(1, END_HEADERS, &back[5..]),
            ],
            Answer(1),
        ),
        once("generic/4/1 GET", &[get(1)], Answer(1)),
        once("generic/4/2 HEAD", &[headers(1, ENDS, &request_block("HEAD", &[]))], Fine),
        once("generic/4/3 POST", &[post(1), data(1, true, b"test")], Answer(1)),
        once(
            "generic/4/4 POST with trailers",
            &[post(1), data(1, false, b"test"), headers(1, ENDS, &block(&[("x-test", "ok")]))],
            Answer(1),
        ),
    ]
}

fn generic_hpack() -> Vec<Rule> {
    // `user-agent` is entry 58 of the static table; in Huffman code "" is nothing and "a" is 0x1f.
    let answered = |name, rest: &[u8]| once(name, &[hpack(rest)], Answer(1));
    vec![
        answered("generic/5/1 indexed", b""),
        answered("generic/5/2 incremental, indexed name", b"\x7a\x00"),
        answered("generic/5/3 incremental, indexed name, Huffman", b"\x7a\x81\x1f"),
        answered("generic/5/4 incremental, new name", b"\x40\x01x\x01y"),
        answered("generic/5/5 incremental, new name, Huffman", b"\x40\x81\x1f\x81\x1f"),
        answered("generic/5/6 without indexing, indexed name", b"\x0f\x2b\x01y"),
        answered("generic/5/7 without indexing, indexed name, Huffman", b"\x0f\x2b\x81\x1f"),
        answered("generic/5/8 without indexing, new name", b"\x00\x01x\x01y"),
        answered("generic/5/9 without indexing, new name, Huffman", b"\x00\x81\x1f\x81\x1f"),
        answered("generic/5/10 never indexed, indexed name", b"\x1f\x2b\x01y"),
        answered("generic/5/11 never indexed, indexed name, Huffman", b"\x1f\x2b\x81\x1f"),
        answered("generic/5/12 never indexed, new name", b"\x10\x01x\x01y"),
        answered("generic/5/13 never indexed, new name, Huffman", b"\x10\x81\x1f\x81\x1f"),
        once("generic/5/14 size update", &[headers(1, ENDS, b"\x20\x82\x84\x86")], Answer(1)),
        once(
            "generic/5/15 two size updates",
            &[headers(1, ENDS, b"\x20\x3f\xe1\x1f\x82\x84\x86")],
            Answer(1),
        ),
        steps(
            "generic/5 entry of an earlier block",
            &[hpack(b""), headers(3, ENDS, b"\x82\x84\x86\xbe")],
            Answer(3),
        ),
    ]
}

fn frames_and_sizes() -> Vec<Rule> {
    let reserved = |mut bytes: Vec<u8>| {
        bytes[5] |= 0x80;
        bytes
    };
    let full = vec![b'x'; frame::PAYLOAD_AT_MOST];
    let large = vec![b'x'; frame::PAYLOAD_AT_MOST + 1];
    let large_headers = request_block("GET", &[("x-a", &"y".repeat(frame::PAYLOAD_AT_MOST))]);
    vec![
        once("4.1/1 unknown type", &[frame(0xff, 0, 0, &[0; 8]), get(1)], Answer(1)),
        once("4.1/2 undefined flag", &[ping(0x16, 0)], Expect::Frame(kind::PING, flag::ACK, b"h2spec\0\0")),
        once(
            "4.1/3 reserved bit",
            &[reserved(ping(0, 0))],
            Expect::Frame(kind::PING, flag::ACK, b"h2spec\0\0"),
        ),
        once("4.2/1 DATA of 2^14 bytes", &[post(1), data(1, true, &full)], Answer(1)),
        once("4.2/2 DATA too large", &[post(1), data(1, true, &large)], Goaway(ErrorCode::FrameSize)),
        once("4.2/3 HEADERS too large", &[headers(1, ENDS, &large_headers)], Goaway(ErrorCode::FrameSize)),
        once("4.3/1 a block that is none", &[headers(1, ENDS, b"\x40\x01")], Goaway(ErrorCode::Compression)),
        once(
            "4.3/2 PRIORITY amid a block",
            &[headers(1, END_STREAM, &block(&[])), priority(1, 0, 1)],
            Goaway(ErrorCode::Protocol),
        ),
        once(
            "4.3/3 HEADERS of another stream amid a block",
            &[headers(1, END_STREAM, &block(&[])), get(3)],
            Goaway(ErrorCode::Protocol),
        ),
    ]
}

fn states() -> Vec<Rule> {
    let cancel = || reset(1, number(ErrorCode::Cancel));
    let late = || headers(1, ENDS, &request_block("GET", &[]));
    vec![
        once("5.1/1 idle: DATA", &[data(1, true, b"test")], Goaway(ErrorCode::Protocol)),
        once("5.1/2 idle: RST_STREAM", &[cancel()], Goaway(ErrorCode::Protocol)),
        once("5.1/3 idle: WINDOW_UPDATE", &[window_update(1, 100)], Goaway(ErrorCode::Protocol)),
        once("5.1/4 idle: CONTINUATION", &[continuation(1, END_HEADERS, b"")], Goaway(ErrorCode::Protocol)),
        once("5.1/5 half-closed: DATA", &[get(1), data(1, true, b"t")], Reset(1, ErrorCode::StreamClosed)),
        once("5.1/6 half-closed: HEADERS", &[get(1), late()], Reset(1, ErrorCode::StreamClosed)),
        once(
            "5.1/7 half-closed: CONTINUATION",
            &[get(1), continuation(1, END_HEADERS, b"")],
            Goaway(ErrorCode::Protocol),
        ),
        once(
            "5.1/8 reset: DATA",
            &[post(1), cancel(), data(1, true, b"test")],
            Reset(1, ErrorCode::StreamClosed),
        ),
        once("5.1/9 reset: HEADERS", &[post(1), cancel(), late()], Goaway(ErrorCode::StreamClosed)),
        once(
            "5.1/10 reset: CONTINUATION",
            &[post(1), cancel(), continuation(1, END_HEADERS, b"")],
            Goaway(ErrorCode::Protocol),
        ),
        steps("5.1/11 closed: DATA", &[get(1), data(1, true, b"test")], Reset(1, ErrorCode::StreamClosed)),
        steps("5.1/12 closed: HEADERS", &[get(1), late()], Goaway(ErrorCode::StreamClosed)),
        steps(
            "5.1/13 closed: CONTINUATION",
            &[get(1), continuation(1, END_HEADERS, b"")],
            Goaway(ErrorCode::Protocol),
        ),
        once("5.1.1/1 an even stream", &[get(2)], Goaway(ErrorCode::Protocol)),
        steps("5.1.1/2 a smaller stream", &[get(5), get(3)], Goaway(ErrorCode::StreamClosed)),
        once(
            "5.1.2/1 too many streams",
            &(0..101).map(|n| post(1 + 2 * n)).collect::<Vec<_>>(),
            Reset(201, ErrorCode::RefusedStream),
        ),
        once(
            "5.3.1/1 HEADERS that depend on themselves",
            &[headers(1, ENDS | flag::PRIORITY, &[&[0, 0, 0, 1, 255][..], &block(&[])].concat())],
            Goaway(ErrorCode::Protocol),
        ),
        once(
            "5.3.1/2 PRIORITY that depends on itself",
            &[get(1), priority(1, 1, 9)],
            Reset(1, ErrorCode::Protocol),
        ),
        once(
            "5.4.1/1 a wrong PING ends the connection",
            &[frame(kind::PING, 0, 0, b"123")],
            Goaway(ErrorCode::FrameSize),
        ),
        once("5.5/1 unknown extension", &[frame(0xff, 0, 1, b"unknown"), get(1)], Answer(1)),
        once(
            "5.5/2 unknown extension amid a block",
            &[headers(1, END_STREAM, &block(&[])), frame(0xff, 0, 1, b"unknown")],
            Goaway(ErrorCode::Protocol),
        ),
    ]
}

fn frame_definitions() -> Vec<Rule> {
    vec![
        once("6.1/1 DATA on stream 0", &[data(0, true, b"t")], Goaway(ErrorCode::Protocol)),
        once(
            "6.1/2 DATA on a stream not open",
            &[get(1), data(1, true, b"t")],
            Reset(1, ErrorCode::StreamClosed),
        ),
        once(
            "6.1/3 DATA with more padding than bytes",
            &[post(1), frame(kind::DATA, flag::PADDED | END_STREAM, 1, b"\x05test")],
            Goaway(ErrorCode::Protocol),
        ),
        once(
            "6.2/1 PRIORITY behind HEADERS",
            &[headers(1, 0, b""), priority(1, 0, 1)],
            Goaway(ErrorCode::Protocol),
        ),
        once("6.2/2 HEADERS behind HEADERS", &[headers(1, 0, b""), get(3)], Goaway(ErrorCode::Protocol)),
        once("6.2/3 HEADERS on stream 0", &[get(0)], Goaway(ErrorCode::Protocol)),
        once(
            "6.2/4 HEADERS with more padding than bytes",
            &[headers(1, ENDS | flag::PADDED, b"\x09\x82\x84\x86")],
            Goaway(ErrorCode::Protocol),
        ),
        once("6.3/1 PRIORITY on stream 0", &[priority(0, 0, 1)], Goaway(ErrorCode::Protocol)),
        once(
            "6.3/2 PRIORITY of a wrong size",
            &[get(1), frame(kind::PRIORITY, 0, 1, b"1234")],
            Reset(1, ErrorCode::FrameSize),
        ),
        once("6.4/1 RST_STREAM on stream 0", &[reset(0, 8)], Goaway(ErrorCode::Protocol)),
        once("6.4/2 RST_STREAM on an idle stream", &[reset(1, 8)], Goaway(ErrorCode::Protocol)),
        once(
            "6.4/3 RST_STREAM of a wrong size",
            &[post(1), frame(kind::RST_STREAM, 0, 1, b"123")],
            Goaway(ErrorCode::FrameSize),
        ),
    ]
}

fn connection_frames() -> Vec<Rule> {
    let setting = |name, value| settings(&[(name, value)]);
    vec![
        once(
            "6.5/1 SETTINGS ACK with content",
            &[frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])],
            Goaway(ErrorCode::FrameSize),
        ),
        once("6.5/2 SETTINGS on a stream", &[frame(kind::SETTINGS, 0, 1, b"")], Goaway(ErrorCode::Protocol)),
        once(
            "6.5/3 SETTINGS of a wrong size",
            &[frame(kind::SETTINGS, 0, 0, b"123")],
            Goaway(ErrorCode::FrameSize),
        ),
        once("6.5.2/1 ENABLE_PUSH", &[setting(setting::ENABLE_PUSH, 2)], Goaway(ErrorCode::Protocol)),
        once(
            "6.5.2/2 INITIAL_WINDOW_SIZE",
            &[setting(setting::INITIAL_WINDOW_SIZE, 1 << 31)],
            Goaway(ErrorCode::FlowControl),
        ),
        once(
            "6.5.2/3 MAX_FRAME_SIZE, small",
            &[setting(setting::MAX_FRAME_SIZE, 16_383)],
            Goaway(ErrorCode::Protocol),
        ),
        once(
            "6.5.2/4 MAX_FRAME_SIZE, large",
            &[setting(setting::MAX_FRAME_SIZE, 1 << 24)],
            Goaway(ErrorCode::Protocol),
        ),
        once(
            "6.5.2/5 an unknown setting",
            &[setting(0xff, 1)],
            Expect::Frame(kind::SETTINGS, flag::ACK, b""),
        ),
        once(
            "6.5.3/1 a setting twice",
            &[settings(&[(setting::INITIAL_WINDOW_SIZE, 100), (setting::INITIAL_WINDOW_SIZE, 1)]), get(1)],
            Pieces(&[1]),
        ),
        once(
            "6.5.3/2 SETTINGS are acknowledged",
            &[settings(&[])],
            Expect::Frame(kind::SETTINGS, flag::ACK, b""),
        ),
        once("6.7/1 PING", &[ping(0, 0)], Expect::Frame(kind::PING, flag::ACK, b"h2spec\0\0")),
        once("6.7/2 PING with ACK", &[ping(flag::ACK, 0)], Fine),
        once("6.7/3 PING on a stream", &[ping(0, 1)], Goaway(ErrorCode::Protocol)),
        once(
            "6.7/4 PING of a wrong size",
            &[frame(kind::PING, 0, 0, b"123456")],
            Goaway(ErrorCode::FrameSize),
        ),
        once("6.8/1 GOAWAY on a stream", &[frame(kind::GOAWAY, 0, 1, &[0; 8])], Goaway(ErrorCode::Protocol)),
        once(
            "6.8 GOAWAY of a wrong size",
            &[frame(kind::GOAWAY, 0, 0, &[0; 7])],
            Goaway(ErrorCode::FrameSize),
        ),
    ]
}

fn windows() -> Vec<Rule> {
    let small = |size| settings(&[(setting::INITIAL_WINDOW_SIZE, size)]);
    vec![
        once("6.9/1 no increment, connection", &[window_update(0, 0)], Goaway(ErrorCode::Protocol)),
        once("6.9/2 no increment, stream", &[post(1), window_update(1, 0)], Reset(1, ErrorCode::Protocol)),
        once("6.9/3 a wrong size", &[frame(kind::WINDOW_UPDATE, 0, 0, b"123")], Goaway(ErrorCode::FrameSize)),
        once("6.9.1/1 a window of one byte", &[small(1), get(1)], Pieces(&[1])),
        once(
            "6.9.1/2 a window of the connection above 2^31-1",
            &[window_update(0, 0x7fff_ffff), window_update(0, 0x7fff_ffff)],
            Goaway(ErrorCode::FlowControl),
        ),
        once(
            "6.9.1/3 a window of a stream above 2^31-1",
            &[post(1), window_update(1, 0x7fff_ffff), window_update(1, 0x7fff_ffff)],
            Reset(1, ErrorCode::FlowControl),
        ),
        steps("6.9.2/1 the initial window grows", &[[small(0), get(1)].concat(), small(1)], Pieces(&[1])),
        steps(
            "6.9.2/2 a negative window",
            &[[small(3), get(1)].concat(), small(2), window_update(1, 2)],
            Pieces(&[3, 1]),
        ),
        once("6.9.2/3 an initial window too large", &[small(1 << 31)], Goaway(ErrorCode::FlowControl)),
        once(
            "6.9.2 the initial window takes one that is open above 2^31-1",
            &[post(1), window_update(1, 0x7fff_0000), small(0x7fff_ffff)],
            Goaway(ErrorCode::FlowControl),
        ),
    ]
}

fn continuations() -> Vec<Rule> {
    let half = request_block("GET", &[]);
    let (front, back) = half.split_at(10);
    let head = || headers(1, END_STREAM, front);
    let rest = |stream, flags| continuation(stream, flags, back);
    vec![
        once("6.10/1 several", &[head(), continuation(1, 0, b""), rest(1, END_HEADERS)], Answer(1)),
        once(
            "6.10/2 another frame between",
            &[head(), continuation(1, 0, b""), data(1, true, b"")],
            Goaway(ErrorCode::Protocol),
        ),
        once("6.10/3 on stream 0", &[head(), rest(0, END_HEADERS)], Goaway(ErrorCode::Protocol)),
        once("6.10/4 behind HEADERS that end", &[get(1), rest(1, END_HEADERS)], Goaway(ErrorCode::Protocol)),
        once(
            "6.10/5 behind CONTINUATION that ends",
            &[head(), rest(1, END_HEADERS), rest(1, END_HEADERS)],
            Goaway(ErrorCode::Protocol),
        ),
        once(
            "6.10/6 behind DATA",
            &[post(1), data(1, true, b"t"), continuation(1, END_HEADERS, b"")],
            Goaway(ErrorCode::Protocol),
        ),
        once(
            "7/1 GOAWAY with an unknown code",
            &[frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff])],
            Fine,
        ),
        once("7/2 RST_STREAM with an unknown code", &[post(1), reset(1, 0xff), get(3)], Answer(3)),
    ]
}

fn messages() -> Vec<Rule> {
    let bad = |name, bytes: Vec<u8>| once(name, &[bytes], Reset(1, ErrorCode::Protocol));
    let with_length =
        |length: &str| headers(1, END_HEADERS, &request_block("POST", &[("content-length", length)]));
    let (method, scheme, path) = ((":method", "GET"), (":scheme", "http"), (":path", "/"));
    vec![
        once(
            "8.1/1 a second HEADERS that does not end",
            &[post(1), data(1, false, b"test"), headers(1, END_HEADERS, &block(&[("x-a", "1")]))],
            Reset(1, ErrorCode::Protocol),
        ),
        bad("8.1.2/1 upper case", with("X-TEST", "ok")),
        bad("8.1.2.1/1 an unknown pseudo-field", with(":test", "ok")),
        bad("8.1.2.1/2 a pseudo-field of answers", with(":status", "200")),
        once(
            "8.1.2.1/3 a pseudo-field in trailers",
            &[post(1), data(1, false, b"t"), headers(1, ENDS, &block(&[(":method", "POST")]))],
            Reset(1, ErrorCode::Protocol),
        ),
        bad("8.1.2.1/4 a pseudo-field behind others", fields(&[method, scheme, ("x-a", "1"), path])),
        bad("8.1.2.2/1 a field of the connection", with("connection", "keep-alive")),
        bad("8.1.2.2/2 TE", with("te", "trailers, deflate")),
        once("8.1.2.2 TE: trailers", &[with("te", "trailers")], Answer(1)),
        bad("8.1.2.3/1 an empty path", fields(&[method, scheme, (":path", "")])),
        bad("8.1.2.3/2 no method", fields(&[scheme, path])),
        bad("8.1.2.3/3 no scheme", fields(&[method, path])),
        bad("8.1.2.3/4 no path", fields(&[method, scheme])),
        bad("8.1.2.3/5 the method twice", fields(&[method, method, scheme, path])),
        bad("8.1.2.3/6 the scheme twice", fields(&[method, scheme, scheme, path])),
        bad("8.1.2.3/7 the path twice", fields(&[method, scheme, path, path])),
        once(
            "8.1.2.6/1 a wrong length",
            &[with_length("1"), data(1, true, b"test")],
            Reset(1, ErrorCode::Protocol),
        ),
        once(
            "8.1.2.6/2 a wrong length in pieces",
            &[with_length("9"), data(1, false, b"test"), data(1, true, b"test")],
            Reset(1, ErrorCode::Protocol),
        ),
        once(
            "8.2/1 PUSH_PROMISE",
            &[post(1), frame(kind::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82, 0x84, 0x86])],
            Goaway(ErrorCode::Protocol),
        ),
    ]
}

fn hpack_rules() -> Vec<Rule> {
    let bad = |name, rest: &[u8]| once(name, &[hpack(rest)], Goaway(ErrorCode::Compression));
    vec![
        bad("hpack/2.3.3/1 an index beyond the tables", b"\xff\x00"),
        bad("hpack/2.3.3/2 a name beyond the tables", b"\x7f\x00\x01y"),
        bad("hpack/4.2/1 a size update at the end", b"\x20"),
        bad("hpack/5.2/1 padding of more than seven bits", b"\x00\x82\x1f\xff\x01y"),
        bad("hpack/5.2/2 padding of zeros", b"\x00\x81\x18\x01y"),
        bad("hpack/5.2/3 the end-of-string symbol", b"\x00\x84\xff\xff\xff\xff\x01y"),
        bad("hpack/6.1/1 index 0", b"\x80"),
        once(
            "hpack/6.3/1 a table larger than allowed",
            &[headers(1, ENDS, b"\x3f\xe2\x1f\x82\x84\x86")],
            Goaway(ErrorCode::Compression),
        ),
    ]
}

/// Plays a rule; what the server sent after its own settings.
fn play(steps: &[Vec<u8>]) -> Vec<Frame> {
    let mut engine = Engine::new(Role::Server, usize::MAX);
    let hello = [&frame::PREFACE[..], &settings(&[])].concat();
    engine.send(&hello).unwrap();
    engine.frames();
    let mut frames = Vec::new();
    for step in steps {
        let ended = engine.send(step).is_err();
        engine.answer();
        frames.extend(engine.frames());
        if ended {
            return frames;
        }
    }
    engine.send(&frame(kind::PING, 0, 0, b"still on")).unwrap();
    frames.extend(engine.frames());
    frames
}

#[test]
fn rules_of_the_standards() {
    let all = [
        generic(),
        generic_hpack(),
        frames_and_sizes(),
        states(),
        frame_definitions(),
        connection_frames(),
        windows(),
        continuations(),
        messages(),
        hpack_rules(),
    ];
    let mut wrong = Vec::new();
    for (name, steps, expect) in all.into_iter().flatten() {
        let frames = play(&steps);
        let goaway = frames.iter().find(|f| f.kind == kind::GOAWAY).and_then(Frame::code);
        let resets: Vec<_> = frames.iter().filter(|f| f.kind == kind::RST_STREAM).collect();
        let resets: Vec<_> = resets.iter().map(|f| (f.stream, f.code().unwrap())).collect();
        let alive = frames.iter().any(|f| f.kind == kind::PING && f.payload == b"still on");
        let data_of = |stream: u32| frames.iter().filter(move |f| f.kind == kind::DATA && f.stream == stream);
        let good = match &expect {
            Goaway(code) => goaway == Some(number(*code)),
            Reset(stream, code) => alive && resets == [(*stream, number(*code))],
            Answer(stream) => {
                let head = frames.iter().find(|f| f.kind == kind::HEADERS && f.stream == *stream);
                let body = data_of(*stream).next_back();
                head.and_then(status).as_deref() == Some("200")
                    && body.is_some_and(|f| f.payload == b"hello" && f.flags & END_STREAM != 0)
            }
            Expect::Frame(kind, flags, payload) => {
                frames.iter().any(|f| f.kind == *kind && f.flags == *flags && f.payload == *payload)
            }
            Pieces(sizes) => data_of(1).map(|f| f.payload.len()).eq(sizes.iter().copied()),
            Fine => resets.is_empty(),
        };
        let whole = matches!(expect, Goaway(_) | Reset(..)) || resets.is_empty();
        let lives = alive && goaway.is_none() || matches!(expect, Goaway(_));
        if !(good && whole && lives) {
            wrong.push(format!("{name}: {expect:?} expected, got {frames:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} rules are broken:\n{}", wrong.len(), wrong.join("\n"));
}

/// 3.5: what is no preface ends the connection.
#[test]
fn the_preface() {
    let mut engine = Engine::new(Role::Server, usize::MAX);
    assert_eq!(engine.send(b"INVALID CONNECTION PREFACE\r\n\r\n").unwrap_err().0, ErrorCode::Protocol);
    // In pieces it is as good.
    let mut engine = Engine::new(Role::Server, usize::MAX);
    let hello = [&frame::PREFACE[..], &settings(&[]), &get(1)].concat();
    hello.iter().for_each(|byte| engine.send(&[*byte]).unwrap());
    engine.answer();
    assert!(engine.frames().iter().any(|f| f.kind == kind::DATA && f.payload == b"hello"));
}
