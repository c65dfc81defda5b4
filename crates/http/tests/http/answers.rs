//! Towards real servers: what a server may answer, and what becomes of the stream or the connection.

use evenkeel_http::h2::frame::{ErrorCode, flag, kind};
use evenkeel_http::h2::{Role, StreamIo};

use crate::peer::{Engine, Frame, block, data, frame, number, reset, settings, window_update};

const END_HEADERS: u8 = flag::END_HEADERS;
const ENDS: u8 = END_HEADERS | flag::END_STREAM;

/// What the session reads and what becomes of the stream.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// This text, and the end.
    Answer(String),
    /// The stream was reset with this code, after this text.
    Reset(u32, String),
    /// The connection ended with this code.
    Goaway(u32),
    /// The server has not begun with the request.
    Refused,
    /// This text, and nothing more yet.
    Open(String),
}

fn answer(text: &str) -> Outcome {
    Outcome::Answer(text.to_owned())
}

fn reset_with(code: ErrorCode, text: &str) -> Outcome {
    Outcome::Reset(number(code), text.to_owned())
}

fn head(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags, 1, &block(fields))
}

/// Sends a request on stream 1, then gives the engine the server's bytes.
fn play(request: &str, bytes: &[u8]) -> Outcome {
    let mut engine = Engine::new(Role::Client, usize::MAX);
    engine.send(&settings(&[(8, 1)])).unwrap();
    let session = engine.mux.open();
    session.write(request.as_bytes());
    let sent = engine.frames();
    assert!(sent.iter().any(|f| f.kind == kind::HEADERS && f.stream == 1), "the request is sent");
    if let Err(error) = engine.send(bytes) {
        let goaway = engine.frames().into_iter().find(|f| f.kind == kind::GOAWAY);
        assert_eq!(goaway.as_ref().and_then(Frame::code), Some(number(error.0)));
        assert!(session.is_broken() && session.readable());
        return Outcome::Goaway(number(error.0));
    }
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let last = loop {
        match session.read(&mut buffer) {
            StreamIo::Done(count) => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
            other => break other,
        }
    };
    let frames = engine.frames();
    let code = frames.iter().filter(|f| f.kind == kind::RST_STREAM).find_map(Frame::code);
    match (last, code) {
        (StreamIo::End, _) => Outcome::Answer(text),
        (StreamIo::Blocked, _) => Outcome::Open(text),
        _ if session.is_refused() => Outcome::Refused,
        (_, code) => Outcome::Reset(code.unwrap_or(u32::MAX), text),
    }
}

/// Name, request, parts of the answer, outcome.
type Case = (&'static str, &'static str, Vec<Vec<u8>>, Outcome);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: (&str, &str) = (":status", "200");
const FIVE: (&str, &str) = ("content-length", "5");
const START: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn whole_answers() -> Vec<Case> {
    vec![
        ("no body", GET, vec![head(ENDS, &[OK])], answer(&format!("{START}content-length: 0\r\n\r\n"))),
        (
            "a length",
            GET,
            vec![head(END_HEADERS, &[OK, FIVE]), data(1, true, b"hello")],
            answer(&format!("{START}content-length: 5\r\n\r\nhello")),
        ),
        (
            "no length, trailers",
            GET,
            vec![head(END_HEADERS, &[OK]), data(1, false, b"hello"), head(ENDS, &[("x-t", "1")])],
            answer(&format!("{CHUNKED}5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n")),
        ),
        (
            "an interim answer first",
            GET,
            vec![head(END_HEADERS, &[(":status", "103")]), head(ENDS, &[(":status", "204")])],
            answer("HTTP/1.1 103 Status\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
        ),
        (
            "the answer to HEAD",
            HEAD,
            vec![head(ENDS, &[OK, FIVE])],
            answer(&format!("{START}content-length: 5\r\n\r\n")),
        ),
        (
            "the answer to HEAD, with an empty DATA frame",
            HEAD,
            vec![head(END_HEADERS, &[OK, FIVE]), data(1, true, b"")],
            answer(&format!("{START}content-length: 5\r\n\r\n")),
        ),
        (
            "a body behind the answer to HEAD",
            HEAD,
            vec![head(END_HEADERS, &[OK]), data(1, true, b"hello")],
            reset_with(ErrorCode::Protocol, &format!("{START}\r\n")),
        ),
    ]
}

fn broken_answers() -> Vec<Case> {
    let protocol = || reset_with(ErrorCode::Protocol, "");
    vec![
        ("DATA before the head", GET, vec![data(1, false, b"x")], protocol()),
        ("an interim answer that ends", GET, vec![head(ENDS, &[(":status", "103")])], protocol()),
        ("no status", GET, vec![head(ENDS, &[("x-a", "1")])], protocol()),
        ("a status that is none", GET, vec![head(ENDS, &[(":status", "2000")])], protocol()),
        ("switching protocols", GET, vec![head(ENDS, &[(":status", "101")])], protocol()),
        ("a pseudo-field of requests", GET, vec![head(ENDS, &[OK, (":path", "/")])], protocol()),
        ("a length without its body", GET, vec![head(ENDS, &[OK, FIVE])], protocol()),
        (
            "a body shorter than its length, with trailers",
            GET,
            vec![head(END_HEADERS, &[OK, FIVE]), data(1, false, b"he"), head(ENDS, &[("x-t", "1")])],
            reset_with(ErrorCode::Protocol, &format!("{START}content-length: 5\r\n\r\nhe")),
        ),
        (
            "trailers that do not end",
            GET,
            vec![head(END_HEADERS, &[OK]), head(END_HEADERS, &[("x-t", "1")])],
            reset_with(ErrorCode::Protocol, CHUNKED),
        ),
        (
            "fields without end",
            GET,
            vec![head(ENDS, &[&[OK][..], &[("x-a", "1"); 200]].concat())],
            reset_with(ErrorCode::EnhanceYourCalm, ""),
        ),
    ]
}

fn ends_of_connections() -> Vec<Case> {
    vec![
        ("refused", GET, vec![reset(1, number(ErrorCode::RefusedStream))], Outcome::Refused),
        ("GOAWAY before the request", GET, vec![frame(kind::GOAWAY, 0, 0, &[0; 8])], Outcome::Refused),
        (
            "GOAWAY behind the request",
            GET,
            vec![frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), head(END_HEADERS, &[OK])],
            Outcome::Open(CHUNKED.to_owned()),
        ),
        (
            "HEADERS on a stream nobody opened",
            GET,
            vec![frame(kind::HEADERS, ENDS, 3, &block(&[OK]))],
            Outcome::Goaway(1),
        ),
        ("DATA on a stream of the server", GET, vec![data(2, true, b"x")], Outcome::Goaway(1)),
        ("WINDOW_UPDATE on an idle stream", GET, vec![window_update(3, 1)], Outcome::Goaway(1)),
        ("PUSH_PROMISE", GET, vec![frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])], Outcome::Goaway(1)),
    ]
}

#[test]
fn answers_of_servers() {
    for (name, request, parts, expect) in
        whole_answers().into_iter().chain(broken_answers()).chain(ends_of_connections())
    {
        assert_eq!(play(request, &parts.concat()), expect, "{name}");
    }
}

/// An upgrade of HTTP/1 becomes an extended CONNECT, and the server's 200 becomes the 101 that the client
/// of HTTP/1 expects (RFC 8441).
#[test]
fn websockets_towards_servers() {
    let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let accepted = [head(END_HEADERS, &[(":status", "200")]), data(1, false, b"frame")].concat();
    let expect = "HTTP/1.1 101 Status\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nframe";
    assert_eq!(play(request, &accepted), Outcome::Open(expect.to_owned()));
    let refused = head(ENDS, &[(":status", "403")]);
    assert_eq!(play(request, &refused), answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"));
    // A server that makes no tunnels does not get the request.
    let mut engine = Engine::new(Role::Client, usize::MAX);
    engine.send(&settings(&[])).unwrap();
    let session = engine.mux.open();
    session.write(request.as_bytes());
    assert!(engine.frames().iter().all(|f| f.stream == 0));
    assert!(session.is_broken() && engine.mux.stream_count() == 0);
    // The session's end is the tunnel's end.
    let mut engine = Engine::new(Role::Client, usize::MAX);
    engine.send(&settings(&[(8, 1)])).unwrap();
    let session = engine.mux.open();
    session.write(request.as_bytes());
    engine.frames();
    engine.send(&accepted).unwrap();
    session.write(b"last words");
    session.end_writes();
    let last = engine.frames().pop().unwrap();
    assert_eq!(
        (last.kind, last.flags, last.payload.as_slice()),
        (kind::DATA, flag::END_STREAM, &b"last words"[..])
    );
}

/// A request of a session that went away is cancelled; one that nobody can send is not sent.
#[test]
fn requests_that_are_given_up() {
    let mut engine = Engine::new(Role::Client, usize::MAX);
    engine.send(&settings(&[])).unwrap();
    let (whole, half, nonsense) = (engine.mux.open(), engine.mux.open(), engine.mux.open());
    whole.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    half.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
    nonsense.write(b"no request\r\n\r\n");
    engine.frames();
    assert!(nonsense.is_broken());
    drop((whole, half));
    let resets: Vec<_> = engine.frames().iter().map(|f| (f.kind, f.stream, f.code())).collect();
    let cancel = Some(number(ErrorCode::Cancel));
    assert_eq!(resets, [(kind::RST_STREAM, 1, cancel), (kind::RST_STREAM, 3, cancel)]);
    assert_eq!((engine.mux.stream_count(), engine.mux.session_count()), (0, 1));
}

/// A peer that reads nothing is not read from for ever.
#[test]
fn answers_to_control_frames_do_not_pile_up() {
    let mut engine = Engine::new(Role::Server, usize::MAX);
    let hello = [&evenkeel_http::h2::frame::PREFACE[..], &settings(&[])].concat();
    assert!(evenkeel_http::h2::is_preface(&hello));
    engine.send(&hello).unwrap();
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    for _ in 0..100_000 {
        // As fast as the budget allows.
        engine.now_ms += 10;
        engine.send(&ping).unwrap();
        if engine.input_len() > 0 {
            break;
        }
    }
    assert_eq!(engine.input_len(), ping.len(), "the engine takes no more");
    assert!((256 * 1024..257 * 1024).contains(&engine.mux.out.len()));
    // It goes on when the peer has read.
    engine.mux.out.clear();
    engine.send(&ping).unwrap();
    assert_eq!((engine.input_len(), engine.frames().len()), (0, 2));
    assert!(!engine.mux.is_retired());
}
