//! The same of real servers that speak HTTP/2: how they end streams and connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use evenkeel_http::h2::frame::{self, ErrorCode, FrameHeader, kind};
use evenkeel_testbed::{Connection, Place, Scripted, eventually};

use crate::{GET, POST_HALF, Running, SERVER_PORT};

/// What a server does once it has the head of a request.
#[derive(Clone, Copy)]
enum Reply {
    /// A whole answer.
    Answer,
    /// Half a body of ten bytes.
    Half,
    /// The answer's head says less than its body holds.
    TooMuch,
    /// A head without a status.
    Statusless,
    Reset(ErrorCode),
    /// No stream of the connection has been looked at.
    GoawayBefore,
    /// This one is still answered.
    GoawayBehind,
    /// A frame that breaks the connection.
    Break,
    End,
}

use Reply::{Answer, Break, GoawayBefore, GoawayBehind, Half, Statusless, TooMuch};

#[derive(Clone, Copy)]
enum Then {
    Asks(&'static str),
    Leaves(&'static str),
    IsClosed(&'static str),
}

struct End {
    what: &'static str,
    keys: &'static str,
    replies: &'static [Reply],
    client: Then,
    line: &'static str,
}

const fn end(
    what: &'static str,
    keys: &'static str,
    replies: &'static [Reply],
    client: Then,
    line: &'static str,
) -> End {
    End { what, keys, replies, client, line }
}

const NO_RETRY: &str = "retries = 0";
const SHORT: &str = "retries = 0\ntimeouts = { client = \"20s\", request = \"20s\", server = \"300ms\" }";
const IMPATIENT: &str =
    "retries = 0\ntimeouts = { client = \"300ms\", request = \"300ms\", server = \"20s\" }";
const ABORT: &str = "retries = 0\nabort-on-close = true";

const ENDS: &[End] = &[
    end("an answer", NO_RETRY, &[Answer], Then::Asks(GET), "200 --"),
    end("an answer, and no more streams", NO_RETRY, &[GoawayBehind, Answer], Then::Asks(GET), "200 --"),
    // Before the head
    end("silence", SHORT, &[], Then::Asks(GET), "504 sH"),
    end("the end", NO_RETRY, &[Reply::End], Then::Asks(GET), "502 SH"),
    end("a reset", NO_RETRY, &[Reply::Reset(ErrorCode::Internal)], Then::Asks(GET), "502 SH"),
    end("a refused stream", NO_RETRY, &[Reply::Reset(ErrorCode::RefusedStream)], Then::Asks(GET), "502 SH"),
    end(
        "a connection that ends before the stream",
        NO_RETRY,
        &[GoawayBefore, Reply::End],
        Then::Asks(GET),
        "502 SH",
    ),
    end("a broken connection", NO_RETRY, &[Break], Then::Asks(GET), "502 SH"),
    end("no status", NO_RETRY, &[Statusless], Then::Asks(GET), "502 PH"),
    end("the client leaves", ABORT, &[], Then::Leaves(GET), "400 CH"),
    end("half a body, and the client leaves", NO_RETRY, &[], Then::Leaves(POST_HALF), "-1 CH"),
    end("half a body, and silence", IMPATIENT, &[], Then::Asks(POST_HALF), "408 cD"),
    end("an administrator", NO_RETRY, &[], Then::IsClosed(GET), "503 KH"),
    // In the body
    end("half an answer and silence", SHORT, &[Half], Then::Asks(GET), "200 sD"),
    end("half an answer and the end", NO_RETRY, &[Half, Reply::End], Then::Asks(GET), "200 SD"),
    end(
        "half an answer and a reset",
        NO_RETRY,
        &[Half, Reply::Reset(ErrorCode::Internal)],
        Then::Asks(GET),
        "200 SD",
    ),
    end("half an answer and a broken connection", NO_RETRY, &[Half, Break], Then::Asks(GET), "200 SD"),
    end("more than its length", NO_RETRY, &[TooMuch], Then::Asks(GET), "200 SD"),
    end("half an answer and the client leaves", NO_RETRY, &[Half], Then::Leaves(GET), "200 CD"),
    end("half an answer and an administrator", NO_RETRY, &[Half], Then::IsClosed(GET), "200 KD"),
];

/// `:status: 200` of the static table, and a length.
fn head(length: &str) -> Vec<u8> {
    let mut block = vec![0x88, 0x0f, 0x0d, length.len() as u8];
    block.extend_from_slice(length.as_bytes());
    block
}

fn reply(reply: Reply, stream: u32, out: &mut Vec<u8>) {
    match reply {
        Answer => {
            frame::write_headers(stream, false, &head("4"), out);
            frame::write(kind::DATA, frame::flag::END_STREAM, stream, b"fine", out);
        }
        Half => {
            frame::write_headers(stream, false, &head("10"), out);
            frame::write(kind::DATA, 0, stream, b"12345", out);
        }
        TooMuch => {
            frame::write_headers(stream, false, &head("2"), out);
            frame::write(kind::DATA, frame::flag::END_STREAM, stream, b"12345", out);
        }
        Statusless => frame::write_headers(stream, true, &head("4")[1..], out),
        Reply::Reset(code) => frame::write_reset(stream, code, out),
        GoawayBefore => frame::write_goaway(0, ErrorCode::NoError, out),
        GoawayBehind => frame::write_goaway(stream, ErrorCode::NoError, out),
        Break => frame::write(kind::DATA, 0, 0, b"x", out),
        Reply::End => {}
    }
}

/// A server that does this with each of the first requests, and answers the others.
fn serve(mut stream: TcpStream, replies: &[Reply], first_ones: &AtomicUsize) {
    let mut first = [0; frame::PREFACE.len()];
    if stream.read_exact(&mut first).is_err() {
        return;
    }
    let mut out = Vec::new();
    frame::write_settings(&[], &mut out);
    let _ = stream.write_all(&out);
    let mut bytes = [0; frame::HEADER];
    while stream.read_exact(&mut bytes).is_ok() {
        let head = FrameHeader::parse(&bytes).unwrap();
        let mut payload = vec![0; head.length];
        if stream.read_exact(&mut payload).is_err() {
            return;
        }
        if head.kind != kind::HEADERS {
            continue;
        }
        let is_first = first_ones.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        for one in if is_first { replies } else { &[Answer] } {
            let mut out = Vec::new();
            reply(*one, head.stream, &mut out);
            let _ = stream.write_all(&out);
            if matches!(one, Reply::End) {
                // What was said arrives first: what came and was not read would make a reset of it.
                std::thread::sleep(Duration::from_millis(50));
                return;
            }
        }
    }
}

fn start(address: SocketAddr, replies: &'static [Reply]) -> Scripted {
    let all = AtomicUsize::new(usize::MAX);
    Scripted::start(address, move |stream| serve(stream, replies, &all))
}

#[test]
fn every_end_of_a_servers_stream_is_told_and_leaves_nothing() {
    let mut wrong = Vec::new();
    for (number, end) in ENDS.iter().enumerate() {
        let place = Place::new(&format!("ends-h2s-{number}"));
        let server = start(place.at(SERVER_PORT), end.replies);
        let keys = format!("server-http = \"2\"\n{}", end.keys);
        let running = Running::start(place, "http", &keys, "");
        let mut client = Connection::open(running.vip);
        let (Then::Asks(text) | Then::Leaves(text) | Then::IsClosed(text)) = end.client;
        client.send(text);
        if !matches!(end.client, Then::Asks(_)) {
            eventually("the server has it", Duration::from_secs(20), || server.connections() > 0);
            if matches!(end.replies, [Half, ..]) {
                assert!(client.stream().peek(&mut [0]).is_ok_and(|came| came == 1), "{}", end.what);
            } else {
                // Its request follows the beginning of the connection.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        match end.client {
            Then::Asks(_) => {}
            Then::Leaves(_) => drop(client),
            Then::IsClosed(_) => running.close_all(),
        }
        let told = running.line(end.what);
        if told != end.line {
            wrong.push(format!("{}: {told:?}, expected {:?}", end.what, end.line));
        }
        running.close_all();
        running.comes_to_rest(end.what);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a server has not begun with is asked again, whatever it is; what it may have begun with only where that
/// does no harm (RFC 9113 section 8.7).
#[test]
fn what_a_server_has_not_begun_with_is_asked_again() {
    const POST: &str = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";
    const REFUSED: &[Reply] = &[Reply::Reset(ErrorCode::RefusedStream)];
    const GOING: &[Reply] = &[GoawayBefore];
    const GONE: &[Reply] = &[GoawayBefore, Reply::End];
    const RESET: &[Reply] = &[Reply::Reset(ErrorCode::Internal)];
    let ends: [(&str, &'static [Reply], &str, &str); 8] = [
        ("a refused GET", REFUSED, GET, "200 --"),
        ("a refused POST", REFUSED, POST, "200 --"),
        ("a GET behind a GOAWAY", GOING, GET, "200 --"),
        ("a POST behind a GOAWAY", GOING, POST, "200 --"),
        ("a GET behind a GOAWAY and the end", GONE, GET, "200 --"),
        ("a POST behind a GOAWAY and the end", GONE, POST, "200 --"),
        ("a GET that is reset", RESET, GET, "200 --"),
        ("a POST that is reset", RESET, POST, "502 SH"),
    ];
    let mut wrong = Vec::new();
    for (number, (what, replies, request, line)) in ends.into_iter().enumerate() {
        let place = Place::new(&format!("ends-h2-again-{number}"));
        let first = AtomicUsize::new(1);
        let _server = Scripted::start(place.at(SERVER_PORT), move |stream| serve(stream, replies, &first));
        let running = Running::start(place, "http", "server-http = \"2\"\nretries = 1", "");
        let mut client = Connection::open(running.vip);
        client.send(request);
        let told = running.line(what);
        if told != line {
            wrong.push(format!("{what}: {told:?}, expected {line:?}"));
        }
        running.close_all();
        running.comes_to_rest(what);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
