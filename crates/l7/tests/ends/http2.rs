//! The same of clients that speak HTTP/2, over TLS and without it: the ways in which a stream ends, and those in
//! which its connection does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_http::h2::frame::{self, flag, kind};
use evenkeel_testbed::{Authority, Place, eventually};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::{
    ABORT, ANSWER, DENY, HALF_ANSWER, IMPATIENT, REDIRECT, Running, SERVER_PORT, SHORT, Server, TARPIT,
    UNTIL_END,
};

/// What a client does, one after the other.
#[derive(Clone, Copy)]
enum Act {
    /// A request on stream 1, which ends there.
    Get,
    /// The same, and the stream's reset with it.
    GetAndReset,
    /// One with a body of ten bytes to come.
    Post,
    /// One whose body has no length.
    PostUnsaid,
    /// So many bytes of the body.
    Body(usize),
    /// The last bytes of it.
    LastBody(usize),
    /// A request with a field that must not be there.
    Malformed,
    /// A request without a host.
    Hostless,
    /// Half a header block.
    HalfBlock,
    /// Waits until the server has a connection.
    Reached,
    /// Waits for the answer's head.
    Headed,
    /// Waits for the first bytes of its body.
    Begun,
    /// Resets the stream.
    Reset,
    /// Says that no more streams will come.
    Goaway,
    /// Any other frame: its kind, flags, stream and payload.
    Frame(u8, u8, u32, &'static [u8]),
    /// Sends no more, but reads on.
    HalfClose,
    /// Ends the connection, over TLS without a word.
    Leave,
    /// An administrator ends the client's connection.
    IsClosed,
    /// The process is to end: what is under way is finished.
    Eased,
}

use Act::{
    Begun, Body, Eased, Frame, Get, GetAndReset, Goaway, HalfBlock, HalfClose, Headed, Hostless, IsClosed,
    LastBody, Leave, Malformed, Post, PostUnsaid, Reached, Reset,
};

struct End {
    what: &'static str,
    keys: &'static str,
    server: Server,
    acts: &'static [Act],
    /// Of the log; none where nothing is written.
    line: Option<&'static str>,
}

const fn end(
    what: &'static str,
    keys: &'static str,
    server: Server,
    acts: &'static [Act],
    line: &'static str,
) -> End {
    End { what, keys, server, acts, line: Some(line) }
}

const fn silent(what: &'static str, keys: &'static str, acts: &'static [Act]) -> End {
    End { what, keys, server: Server::Answers, acts, line: None }
}

const TOO_SMALL: &str = "max-body = \"4B\"";
/// SETTINGS: streams begin without a window.
const NO_WINDOW: Act = Frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
const TOO_MUCH_WINDOW: Act = Frame(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]);
/// DATA of no stream breaks the connection.
const BREAKS: Act = Frame(kind::DATA, 0, 0, b"x");

const ENDS: &[End] = &[
    end("an answer", "", Server::Answers, &[Get], "200 --"),
    end("a client that opens no more streams", "", Server::Answers, &[Get, Goaway], "200 --"),
    end("a body with its end", "", Server::Answers, &[Post, Body(5), LastBody(5)], "200 --"),
    // The client's head
    silent("nothing but a beginning", "", &[Leave]),
    silent("a beginning and silence", IMPATIENT, &[]),
    silent("half a header block and an end", "", &[HalfBlock, Leave]),
    silent("half a header block and silence", IMPATIENT, &[HalfBlock]),
    end("a field of a connection", "", Server::Answers, &[Malformed], "400 PR"),
    // There may be none to tell (RFC 9113 section 8.3.1).
    end("no host", "", Server::Answers, &[Hostless], "200 --"),
    // What routes say
    end("a page", ANSWER, Server::Answers, &[Get], "200 LR"),
    end("a refusal", DENY, Server::Answers, &[Get], "403 PR"),
    end("a redirect", REDIRECT, Server::Answers, &[Get], "302 LR"),
    end("a tar pit", TARPIT, Server::Answers, &[Get], "429 PT"),
    end("a reset before the tar pit", TARPIT, Server::Answers, &[GetAndReset], "-1 PT"),
    end("a reset in the tar pit", TARPIT, Server::Answers, &[Get, Reset], "-1 PT"),
    // Connecting
    end("nobody listens", "", Server::Absent, &[Get], "503 SC"),
    // The client's body
    end("half a body and a reset", "", Server::Silent, &[Post, Body(5), Reached, Reset], "-1 CH"),
    end("half a body and an end", "", Server::Silent, &[Post, Body(5), Reached, Leave], "-1 CH"),
    end("half a body and silence", IMPATIENT, Server::Silent, &[Post, Body(5)], "408 cD"),
    end(
        "half a body without a length and silence",
        IMPATIENT,
        Server::Silent,
        &[PostUnsaid, Body(5)],
        "408 cD",
    ),
    end("a length that is too large", TOO_SMALL, Server::Silent, &[Post, Body(5)], "413 PD"),
    end("a body that is too large", TOO_SMALL, Server::Silent, &[PostUnsaid, Body(5)], "413 PD"),
    end("more than its length", "", Server::Silent, &[Post, LastBody(11)], "400 PD"),
    end("less than its length", "", Server::Silent, &[Post, LastBody(9)], "400 PD"),
    // Before the server's head
    end("a reset", "", Server::Silent, &[Get, Reached, Reset], "-1 CH"),
    end("a reset with its request", "", Server::Silent, &[GetAndReset], "-1 CH"),
    end("an end", "", Server::Silent, &[Get, Reached, Leave], "-1 CH"),
    end("a reset where that is asked for", ABORT, Server::Silent, &[Get, Reached, Reset], "-1 CH"),
    end("a broken connection", "", Server::Silent, &[Get, Reached, BREAKS], "400 PD"),
    end("a window beyond all bounds", "", Server::Silent, &[Get, Reached, TOO_MUCH_WINDOW], "400 PD"),
    end("an administrator", "", Server::Silent, &[Get, Reached, IsClosed], "503 KH"),
    end("the server says nothing", SHORT, Server::Silent, &[Get], "504 sH"),
    end("the server ends without a word", "", Server::Closes, &[Get], "502 SH"),
    end("half a head of an answer", "", Server::Says("HTTP/1.1 200 OK\r\nA: "), &[Get], "502 SH"),
    end("no head of an answer", "", Server::Says("hello\r\n\r\n"), &[Get], "502 PH"),
    // In the server's body
    end("a reset in an answer", "", Server::Begins(HALF_ANSWER), &[Get, Begun, Reset], "200 CD"),
    end("an end in an answer", "", Server::Begins(HALF_ANSWER), &[Get, Begun, Leave], "200 CD"),
    end("a broken connection in an answer", "", Server::Begins(HALF_ANSWER), &[Get, Begun, BREAKS], "200 PD"),
    end("an administrator in an answer", "", Server::Begins(HALF_ANSWER), &[Get, Begun, IsClosed], "200 KD"),
    end("half an answer, and the end", "", Server::Says(HALF_ANSWER), &[Get], "200 SD"),
    end("half an answer, and silence", SHORT, Server::Begins(HALF_ANSWER), &[Get], "200 sD"),
    end("an answer that nobody takes", IMPATIENT, Server::Large, &[NO_WINDOW, Get], "200 cD"),
    end(
        "a reset of one that nobody takes",
        "",
        Server::Large,
        &[NO_WINDOW, Get, Reached, Headed, Reset],
        "200 CD",
    ),
    end(
        "an end of one that nobody takes",
        "",
        Server::Large,
        &[NO_WINDOW, Get, Reached, Headed, Leave],
        "200 CD",
    ),
    end("an answer that ends with its connection", "", Server::Says(UNTIL_END), &[Get], "200 --"),
    // The end of the process
    end("the process is to end", SHORT, Server::Silent, &[Get, Reached, Eased], "504 sH"),
    end(
        "the process is to end in an answer",
        SHORT,
        Server::Begins(HALF_ANSWER),
        &[Get, Begun, Eased],
        "200 sD",
    ),
    // Half a connection is none: what it is for are frames both ways.
    end("it sends no more", "", Server::Silent, &[Get, Reached, HalfClose], "-1 CH"),
];

/// A client's connection, over TLS or without.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    pub fn open(running: &Running, tls: bool, protocol: &[u8]) -> Wire {
        let stream = TcpStream::connect(running.vip).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        if !tls {
            return Wire::Plain(stream);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(evenkeel_trust::Anyone(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("a.example").unwrap();
        Wire::Tls(Box::new(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(tls) => &tls.sock,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // Who refuses early may have closed: the line tells.
        let _ = match self {
            Wire::Plain(stream) => stream.write_all(bytes),
            Wire::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(buffer),
            Wire::Tls(tls) => tls.read(buffer),
        }
    }

    /// Says that nothing more comes, and reads on.
    pub fn finish_sending(&mut self) {
        if let Wire::Tls(tls) = self {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        let _ = self.socket().shutdown(std::net::Shutdown::Write);
    }
}

fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
}

pub fn head(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", method), (":scheme", "http"), (":path", "/")].iter().chain(more) {
        field(name, value, &mut block);
    }
    block
}

pub const HOST: (&str, &str) = (":authority", "a.example");

pub fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn headers(end: bool, block: &[u8]) -> Vec<u8> {
    written(|out| frame::write_headers(1, end, block, out))
}

/// Reads until a frame of this kind comes.
fn await_frame(wire: &mut Wire, wanted: u8, what: &str) {
    let (mut got, mut some) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(head) = frame::FrameHeader::parse(&got) {
            let whole = frame::HEADER + head.length;
            if head.kind == wanted {
                return;
            }
            if got.len() < whole {
                break;
            }
            got.drain(..whole);
        }
        match wire.read(&mut some) {
            Ok(count @ 1..) => got.extend_from_slice(&some[..count]),
            other => panic!("{what}: the connection ends before a frame of kind {wanted}: {other:?}"),
        }
    }
}

/// Whether the client is still there afterwards.
fn act(act: Act, wire: Wire, running: &Running, reached: &dyn Fn() -> bool, what: &str) -> Option<Wire> {
    let mut wire = wire;
    match act {
        Get => wire.send(&headers(true, &head("GET", &[HOST]))),
        GetAndReset => {
            let mut both = headers(true, &head("GET", &[HOST]));
            frame::write_reset(1, frame::ErrorCode::Cancel, &mut both);
            wire.send(&both);
        }
        Post => wire.send(&headers(false, &head("POST", &[HOST, ("content-length", "10")]))),
        PostUnsaid => wire.send(&headers(false, &head("POST", &[HOST]))),
        Malformed => wire.send(&headers(true, &head("GET", &[HOST, ("connection", "close")]))),
        Hostless => wire.send(&headers(true, &head("GET", &[]))),
        HalfBlock => wire.send(&written(|out| frame::write(kind::HEADERS, 0, 1, &head("GET", &[HOST]), out))),
        Body(count) => wire.send(&written(|out| frame::write(kind::DATA, 0, 1, &vec![b'x'; count], out))),
        LastBody(count) => {
            wire.send(&written(|out| frame::write(kind::DATA, flag::END_STREAM, 1, &vec![b'x'; count], out)));
        }
        Reached => eventually("the server has it", Duration::from_secs(20), reached),
        Headed => await_frame(&mut wire, kind::HEADERS, what),
        Begun => await_frame(&mut wire, kind::DATA, what),
        Reset => wire.send(&written(|out| frame::write_reset(1, frame::ErrorCode::Cancel, out))),
        Goaway => wire.send(&written(|out| frame::write_goaway(0, frame::ErrorCode::NoError, out))),
        Frame(kind, flags, stream, payload) => {
            wire.send(&written(|out| frame::write(kind, flags, stream, payload, out)));
        }
        HalfClose => wire.finish_sending(),
        Leave => return None,
        IsClosed => running.close_all(),
        Eased => running.engine.ease(Some(Duration::from_millis(50))),
    }
    Some(wire)
}

fn play(tls: bool) {
    let mut wrong = Vec::new();
    for (number, end) in ENDS.iter().enumerate() {
        let place = Place::new(&format!("ends-h2-{tls}-{number}"));
        let server = end.server.start(place.at(SERVER_PORT));
        let certificate = Authority::new(&place, "ca").server(&place, "server.pem", &["a.example"]);
        let keys = match tls {
            true => format!("tls = {{ certificates = [\"{}\"] }}\n{}", certificate.display(), end.keys),
            false => end.keys.to_owned(),
        };
        let running = Running::start(place, "http", &keys, "");
        let reached = || server.as_ref().is_some_and(|server| server.connections() > 0);
        let mut wire = Some(Wire::open(&running, tls, b"h2"));
        wire.as_mut().unwrap().send(&written(|out| {
            out.extend_from_slice(frame::PREFACE);
            frame::write_settings(&[], out);
        }));
        for one in end.acts {
            let open = wire.take().unwrap_or_else(|| panic!("{}: nothing follows an end", end.what));
            wire = act(*one, open, &running, &reached, end.what);
        }
        match end.line {
            Some(line) => {
                let told = running.line(end.what);
                if told != line {
                    wrong.push(format!("{}: {told:?}, expected {line:?}", end.what));
                }
            }
            // The connection ends by itself, or stays without a request.
            None if wire.is_some() => {
                let begun = Instant::now();
                while running.engine.connection_count() > 0 && begun.elapsed() < Duration::from_secs(2) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            None => {}
        }
        if wire.is_some() {
            running.close_all();
        }
        running.comes_to_rest(end.what);
        if end.line.is_none() {
            assert!(running.lines.try_recv().is_err(), "{}: a line", end.what);
        }
    }
    assert!(wrong.is_empty(), "tls: {tls}\n{}", wrong.join("\n"));
}

#[test]
fn every_end_of_a_stream_is_told_and_leaves_nothing() {
    play(false);
}

#[test]
fn every_end_of_a_stream_over_tls_is_told_and_leaves_nothing() {
    play(true);
}

/// Streams that are reset with their requests take nobody's place in a queue.
#[test]
fn streams_that_are_gone_wait_in_no_queue() {
    let place = Place::new("ends-h2-queue");
    let _server = Server::Silent.start(place.at(SERVER_PORT));
    let keys = "timeouts = { queue = \"20s\", server = \"20s\" }";
    let running = Running::start(place, "http", keys, "max-connections = 1");
    let pool = running.engine.config().pools[0].clone();
    let mut wire = Wire::open(&running, false, b"");
    wire.send(&written(|out| {
        out.extend_from_slice(frame::PREFACE);
        frame::write_settings(&[], out);
        frame::write_headers(1, true, &head("GET", &[HOST]), out);
    }));
    let busy = || pool.current.sum(|counter| counter.get()) == 1;
    eventually("the first is with the server", Duration::from_secs(20), busy);
    let begun = Instant::now();
    for number in 1..=20 {
        wire.send(&written(|out| {
            frame::write_headers(2 * number + 1, true, &head("GET", &[HOST]), out);
            frame::write_reset(2 * number + 1, frame::ErrorCode::Cancel, out);
        }));
    }
    for _ in 0..20 {
        assert_eq!(running.line("a reset with its request"), "-1 CQ");
    }
    assert_eq!(pool.waiting.load(std::sync::atomic::Ordering::Relaxed), 0);
    println!("20 of them were gone after {} ms", begun.elapsed().as_millis());
    running.close_all();
    running.comes_to_rest("streams that are gone");
}
