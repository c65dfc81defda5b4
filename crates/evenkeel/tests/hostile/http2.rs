//! HTTP/2: floods, games with windows, header blocks without end, streams that nobody reads.

use std::time::Duration;

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
