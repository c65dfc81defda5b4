//! HTTP/2: floods, games with windows, header blocks without end, streams that nobody reads.

use std::time::Duration;

use evenkeel_testbed::{Evenkeel, Place, eventually};

use crate::cost::{Attack, Target, is_closed};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

pub fn preface(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, settings)].concat()
}

/// The header block of a GET, without entries of tables.
pub fn block() -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")] {
        out.push(0);
        for text in [name, value] {
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// Connections that begin, and then send what `each` makes of a round's number, for so many rounds.
fn flood(target: &Target, connections: u32, rounds: u32, each: impl Fn(u32) -> Vec<u8>) -> Attack {
    let mut attack = Attack::default();
    for _ in 0..connections {
        let stream = target.connect();
        stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a time-out");
        attack.send(&stream, &preface(&[]));
        for round in 0..rounds {
            let before = attack.sent;
            attack.send(&stream, &each(round));
            if attack.sent == before {
                break;
            }
        }
        attack.held.push(stream);
    }
    attack
}

#[test]
fn floods_of_frames() {
    let target = Target::start("hostile-frames", "", "");
    type Round = fn(u32) -> Vec<u8>;
    let shapes: [(&str, Round); 7] = [
        ("rapid resets", |n| {
            let opened =
                |n| [frame(HEADERS, 5, n, &block()), frame(RST_STREAM, 0, n, &[0, 0, 0, 8])].concat();
            (0..100).flat_map(|k| opened(2 * (100 * n + k) + 1)).collect()
        }),
        ("resets that the server is made to send", |n| {
            let opened = |n| [frame(HEADERS, 5, n, &block()), frame(WINDOW_UPDATE, 0, n, &[0; 4])].concat();
            (0..100).flat_map(|k| opened(2 * (100 * n + k) + 1)).collect()
        }),
        ("pings", |_| frame(PING, 0, 0, &[0; 8]).repeat(500)),
        ("settings", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(500)),
        ("priorities", |_| frame(PRIORITY, 0, 1001, &[0, 0, 0, 3, 9]).repeat(500)),
        ("empty data", |n| match n {
            0 => frame(HEADERS, 4, 1, &block()),
            _ => frame(DATA, 0, 1, &[]).repeat(500),
        }),
        ("windows opened byte by byte", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(500)),
    ];
    for (what, round) in shapes {
        target.endures(what, 48, |target| {
            let attack = flood(target, 10, 40, round);
            for stream in &attack.held {
                assert!(is_closed(stream, Duration::from_secs(60)), "{what}: it goes on");
            }
            attack
        });
    }
}

#[test]
fn header_blocks_that_do_not_end() {
    let target = Target::start("hostile-blocks", "", "");
    target.endures("continuations", 32, |target| {
        let attack = flood(target, 20, 200, |n| match n {
            0 => frame(HEADERS, 1, 1, &block()),
            _ => frame(CONTINUATION, 0, 1, &[0x80 | 2; 8192]),
        });
        for stream in &attack.held {
            assert!(is_closed(stream, Duration::from_secs(60)), "continuations: it goes on");
        }
        attack
    });
    target.endures("half header blocks, held", 32, |target| {
        flood(target, 200, 1, |_| frame(HEADERS, 1, 1, &[0x82; 500]))
    });
}

#[test]
fn streams_that_nobody_reads() {
    let target = Target::start("hostile-windows", "[limits]\nbuffer-memory = \"32MiB\"\n", "");
    target.endures("100 streams a connection without a window", 48, |target| {
        let mut attack = Attack::default();
        for _ in 0..40 {
            let stream = target.connect();
            attack.send(&stream, &preface(&[0, 4, 0, 0, 0, 0]));
            let all: Vec<u8> = (0..100).flat_map(|n| frame(HEADERS, 5, 2 * n + 1, &block())).collect();
            attack.send(&stream, &all);
            attack.held.push(stream);
        }
        attack
    });
}

/// A header block of literals.
fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

fn post(more: &[(&str, &str)]) -> Vec<u8> {
    let request = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")];
    frame(HEADERS, 4, 1, &literals(&[&request[..], more].concat()))
}

/// Each way in which a client ends a stream or its connection while the server is thinking, and what the
/// log says of it: whose fault it was, and the status that HTTP/1 would have answered.
#[test]
fn how_a_stream_ended_is_in_the_log() {
    let place = Place::new("hostile-h2-log");
    let _silent = std::net::TcpListener::bind(place.at(9001)).expect("a server that does not answer");
    let log = place.file("access.log");
    let config = format!(
        "[log]\naccess = \"{}\"\n[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\n\
         health-check = {{ type = \"none\" }}\n[[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
        log.display(),
        place.at(8080),
        place.at(9001)
    );
    let _evenkeel = Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &config);
    const MALFORMED: &str = " 400 0 - - PD-- ";
    const REFUSED: &str = " 400 0 - - PR-- ";
    const LEFT: &str = " -1 0 - - CH-- ";
    const POST: &str = "\"POST / HTTP/2.0\"";
    const NONE: &str = "\"<BADREQ>\"";
    let five = || post(&[("content-length", "5")]);
    let with_length = |data: Vec<u8>| [five(), data].concat();
    let then = |more: Vec<u8>| [post(&[]), more].concat();
    let trailers = |flags, fields: &[(&str, &str)]| frame(HEADERS, flags, 1, &literals(fields));
    let get = || frame(HEADERS, 5, 1, &block());
    let large = "x".repeat(100);
    let large: Vec<(&str, &str)> = (0..150).map(|_| ("x-large", large.as_str())).collect();
    let large = literals(&large);
    let large = [
        frame(HEADERS, 1, 1, &[block(), large[..14_000].to_vec()].concat()),
        frame(CONTINUATION, 4, 1, &large[14_000..]),
    ];
    let cases: [(&str, Vec<u8>, &str, &str); 19] = [
        ("a body too short", with_length(frame(DATA, 1, 1, b"abc")), MALFORMED, POST),
        ("none where one was announced", with_length(frame(DATA, 1, 1, b"")), MALFORMED, POST),
        ("a body too long", with_length(frame(DATA, 0, 1, b"abcdef")), MALFORMED, POST),
        ("too long with its second frame", with_length(frame(DATA, 0, 1, b"abc").repeat(2)), MALFORMED, POST),
        ("too short by trailers", with_length(trailers(5, &[("x-a", "b")])), MALFORMED, POST),
        ("trailers that end nothing", then(trailers(4, &[("x-a", "b")])), MALFORMED, POST),
        ("trailers with an upper-case name", then(trailers(5, &[("X-A", "b")])), MALFORMED, POST),
        ("trailers with a pseudo-header", then(trailers(5, &[(":path", "/")])), MALFORMED, POST),
        ("data behind the end", [get(), frame(DATA, 0, 1, b"abc")].concat(), MALFORMED, "\"GET / HTTP/2.0\""),
        ("a window opened by nothing", then(frame(WINDOW_UPDATE, 0, 1, &[0; 4])), MALFORMED, POST),
        ("a window too wide", then(frame(WINDOW_UPDATE, 0, 1, &[0x7f, 255, 255, 255])), MALFORMED, POST),
        ("a broken connection", then(frame(PING, 0, 0, &[0; 7])), MALFORMED, POST),
        (
            "a connection's window too wide",
            then(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])),
            MALFORMED,
            POST,
        ),
        ("a broken connection without a request", frame(PING, 0, 0, &[0; 7]), REFUSED, NONE),
        ("an upper-case name", post(&[("X-A", "b")]), REFUSED, NONE),
        ("a field of HTTP/1's connections", post(&[("connection", "close")]), REFUSED, NONE),
        ("a head too large", large.concat(), " 431 14 - - PR-- ", NONE),
        ("a reset by the client", then(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])), LEFT, POST),
        ("a connection that is closed", post(&[]), LEFT, POST),
    ];
    for (what, bytes, ended, line) in cases {
        std::fs::write(&log, "").expect("the log can be emptied");
        let mut stream = std::net::TcpStream::connect(place.at(8080)).expect("the kernel accepts");
        std::io::Write::write_all(&mut stream, &[preface(&[]), bytes].concat()).expect("it is sent");
        if what == "a connection that is closed" {
            std::thread::sleep(Duration::from_millis(200));
            drop(stream);
        }
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        eventually(what, Duration::from_secs(10), || read().contains('\n'));
        let lines = read();
        assert_eq!(lines.lines().count(), 1, "{what}: {lines}");
        assert!(lines.contains(ended) && lines.contains(line), "{what}: {lines} instead of{ended}{line}");
    }
}
