//! The same of clients that speak HTTP/1 over TLS, and of handshakes.

use std::time::Duration;

use evenkeel_testbed::{Authority, Place, eventually};

use crate::http2::Wire;
use crate::{ABORT, GET, HALF_ANSWER, HALF_HEAD, IMPATIENT, POST_HALF, Running, SERVER_PORT, SHORT, Server};

/// How a client's part of a connection goes on behind what it has sent.
#[derive(Clone, Copy)]
enum Then {
    Waits,
    /// Says in the words of TLS that it sends no more, and reads on.
    Finishes,
    /// The connection is gone, without a word of TLS.
    Leaves,
    /// A record that cannot be opened follows.
    Garbles,
    IsClosed,
}

struct End {
    what: &'static str,
    keys: &'static str,
    server: Server,
    sends: &'static str,
    /// The first bytes of the answer are awaited before.
    begun: bool,
    then: Then,
    line: &'static str,
}

const fn end(
    what: &'static str,
    keys: &'static str,
    server: Server,
    sends: &'static str,
    then: Then,
    line: &'static str,
) -> End {
    End { what, keys, server, sends, begun: false, then, line }
}

const fn begun(what: &'static str, then: Then, line: &'static str) -> End {
    End { begun: true, ..end(what, "", Server::Begins(HALF_ANSWER), GET, then, line) }
}

const ENDS: &[End] = &[
    end("an answer", "", Server::Answers, GET, Then::Waits, "200 --"),
    end("it sends no more", "", Server::Answers, GET, Then::Finishes, "200 --"),
    end("half a head, and silence", IMPATIENT, Server::Answers, HALF_HEAD, Then::Waits, "408 cR"),
    end("half a head, and the end", "", Server::Answers, HALF_HEAD, Then::Finishes, "400 CR"),
    end("half a head, and gone", "", Server::Answers, HALF_HEAD, Then::Leaves, "400 CR"),
    end("half a body, and silence", IMPATIENT, Server::Silent, POST_HALF, Then::Waits, "408 cD"),
    end("half a body, and the end", "", Server::Silent, POST_HALF, Then::Finishes, "-1 CH"),
    end("half a body, and gone", "", Server::Silent, POST_HALF, Then::Leaves, "-1 CH"),
    end("half a body, and no TLS", "", Server::Silent, POST_HALF, Then::Garbles, "-1 CH"),
    end("gone where that counts", ABORT, Server::Silent, GET, Then::Leaves, "-1 CH"),
    end("the server says nothing", SHORT, Server::Silent, GET, Then::Waits, "504 sH"),
    end("the server ends without a word", "", Server::Closes, GET, Then::Waits, "502 SH"),
    end("an administrator", "", Server::Silent, GET, Then::IsClosed, "503 KH"),
    end("half an answer, and the end", "", Server::Says(HALF_ANSWER), GET, Then::Waits, "200 SD"),
    end("half an answer, and silence", SHORT, Server::Begins(HALF_ANSWER), GET, Then::Waits, "200 sD"),
    // With bytes unread that is a reset. Without, it may be one that only sends no more.
    End { begun: true, ..end("gone in an answer", "", Server::Large, GET, Then::Leaves, "200 CD") },
    begun("an administrator in an answer", Then::IsClosed, "200 KD"),
    end("an answer that nobody takes", IMPATIENT, Server::Large, GET, Then::Waits, "200 cD"),
];

#[test]
fn every_end_of_a_request_over_tls_is_told_and_leaves_nothing() {
    let mut wrong = Vec::new();
    for (number, end) in ENDS.iter().enumerate() {
        let place = Place::new(&format!("ends-tls-{number}"));
        let server = end.server.start(place.at(SERVER_PORT));
        let certificate = Authority::new(&place, "ca").server(&place, "server.pem", &["a.example"]);
        let keys = format!("tls = {{ certificates = [\"{}\"] }}\n{}", certificate.display(), end.keys);
        let running = Running::start(place, "http", &keys, "");
        let mut wire = Wire::open(&running, true, b"http/1.1");
        wire.send(end.sends.as_bytes());
        if end.sends.contains("\r\n\r\n") && !matches!(end.then, Then::Waits) {
            let reached = || server.as_ref().is_some_and(|server| server.connections() > 0);
            eventually("the server has it", Duration::from_secs(20), reached);
        }
        if end.begun {
            assert!(matches!(wire.read(&mut [0]), Ok(1)), "{}", end.what);
        }
        let mut kept = Some(wire);
        match end.then {
            Then::Waits => {}
            Then::Finishes => kept.as_mut().unwrap().finish_sending(),
            Then::Leaves => kept = None,
            Then::Garbles => {
                let _ = std::io::Write::write_all(
                    &mut kept.as_ref().unwrap().socket(),
                    &[
                        0x17, 3, 3, 0, 40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
                        20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
                    ],
                );
            }
            Then::IsClosed => running.close_all(),
        }
        let told = running.line(end.what);
        if told != end.line {
            wrong.push(format!("{}: {told:?}, expected {:?}", end.what, end.line));
        }
        if kept.is_some() {
            running.close_all();
        }
        running.comes_to_rest(end.what);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A handshake that comes to nothing has a line of its own, or none where nobody spoke.
#[test]
fn every_end_of_a_handshake_is_told_and_leaves_nothing() {
    const HALF: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3];
    const ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 40];
    let ends: [(&str, &[u8], bool, Option<&str>); 6] = [
        ("nothing, and the end", b"", true, None),
        ("nothing, and silence", b"", false, Some("-1 cR")),
        ("half a hello, and the end", HALF, true, None),
        ("half a hello, and silence", HALF, false, Some("-1 cR")),
        ("no TLS", GET.as_bytes(), false, Some("-1 PR")),
        ("an alert", ALERT, false, Some("-1 PR")),
    ];
    for (number, (what, sends, leaves, line)) in ends.into_iter().enumerate() {
        let place = Place::new(&format!("ends-handshake-{number}"));
        let certificate = Authority::new(&place, "ca").server(&place, "server.pem", &["a.example"]);
        let keys = format!("tls = {{ certificates = [\"{}\"] }}\n{IMPATIENT}", certificate.display());
        let running = Running::start(place, "http", &keys, "");
        let mut wire = Wire::open(&running, false, b"");
        wire.send(sends);
        let kept = (!leaves).then_some(wire);
        if let Some(line) = line {
            assert_eq!(running.line(what), line, "{what}");
        }
        drop(kept);
        running.comes_to_rest(what);
        assert!(running.lines.try_recv().is_err(), "{what}: another line");
    }
}
