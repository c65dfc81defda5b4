//! HTTP/1: heads and bodies that never end, answers that nobody reads, framing that two readers could
//! understand differently.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_testbed::{Place, Scripted};

use crate::cost::{Attack, Target, is_closed};

#[test]
fn clients_that_never_end() {
    let target = Target::start("hostile-slow", "", "");
    let shapes: [(&str, &[u8]); 4] = [
        ("half a head", b"GET / HTTP/1.1\r\nHost: test\r\nX-A: "),
        ("half a body", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nabc"),
        ("half a chunk", b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc"),
        ("nothing", b""),
    ];
    for (what, bytes) in shapes {
        target.endures(what, 32, |target| {
            let mut attack = Attack::default();
            for _ in 0..300 {
                let stream = target.connect();
                attack.send(&stream, bytes);
                attack.held.push(stream);
            }
            attack
        });
    }
}

#[test]
fn bytes_without_end() {
    let target = Target::start("hostile-endless", "", "");
    let chunked: &[u8] = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let shapes: [(&str, &[u8], &[u8]); 4] = [
        ("fields without end", b"GET / HTTP/1.1\r\nHost: test\r\n", b"X-A: b\r\n"),
        ("a target without end", b"GET /", b"aaaaaaaa"),
        ("a chunk's extension without end", chunked, b"1;a=bcdefgh"),
        (
            "trailers without end",
            b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-A: b\r\n",
        ),
    ];
    for (what, first, again) in shapes {
        target.endures(what, 24, |target| {
            let mut attack = Attack::default();
            let block = again.repeat(512);
            for _ in 0..20 {
                let stream = target.connect();
                attack.send(&stream, first);
                for _ in 0..64 {
                    attack.send(&stream, &block);
                }
                attack.held.push(stream);
            }
            for stream in &attack.held {
                assert!(is_closed(stream, Duration::from_secs(60)), "{what}: it goes on");
            }
            attack
        });
    }
}

#[test]
fn answers_that_nobody_reads() {
    let target = Target::start("hostile-unread", "[limits]\nbuffer-memory = \"32MiB\"\n", "");
    target.endures("pipelined requests, answers unread", 32, |target| {
        let mut attack = Attack::default();
        let block = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(500);
        for _ in 0..50 {
            let stream = target.connect();
            stream.set_nonblocking(true).expect("a flag");
            attack.send(&stream, &block);
            attack.held.push(stream);
        }
        attack
    });
}

/// A server that keeps what it gets, and answers what ends so.
pub fn server_that_keeps(place: &Place, end: &'static [u8]) -> (Scripted, Arc<Mutex<Vec<u8>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let server = Scripted::start(place.at(9001), move |mut stream| {
        let mut some = [0; 65_536];
        while let Ok(count @ 1..) = stream.read(&mut some) {
            kept.lock().unwrap().extend_from_slice(&some[..count]);
            if some[..count].ends_with(end)
                && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").is_err()
            {
                return;
            }
        }
    });
    (server, seen)
}

/// What the server gets is kept, to see that nothing of an attack was a request of its own.
#[test]
fn framing_that_two_could_understand_differently() {
    let place = Place::new("hostile-framing");
    let (_server, seen) = server_that_keeps(&place, b"");
    let config = format!(
        "[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\n\
         [[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
        place.at(8080),
        place.at(9001)
    );
    let _evenkeel = evenkeel_testbed::Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &config);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n";
    let with = |fields: &str, body: &str| format!("POST /x HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n{body}");
    let refused = [
        with("Content-Length: 3\r\nContent-Length: 4", "abc"),
        with("Content-Length: 3, 4", "abc"),
        with("Content-Length: +3", "abc"),
        with("Content-Length: 0x3", "abc"),
        with("Content-Length: 3 3", "abc"),
        with("Content-Length:", "abc"),
        with("Content-Length: 99999999999999999999", "abc"),
        with("Content-Length: 3\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{hidden}")),
        with("Transfer-Encoding: xchunked", &format!("0\r\n\r\n{hidden}")),
        with("Transfer-Encoding: chunked, identity", &format!("0\r\n\r\n{hidden}")),
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{hidden}")),
        with("Transfer-Encoding:\x0bchunked", &format!("0\r\n\r\n{hidden}")),
        with("Transfer-Encoding : chunked", &format!("0\r\n\r\n{hidden}")),
        with("Transfer-Encoding\r\n : chunked", &format!("0\r\n\r\n{hidden}")),
        with("X-A: b\r\n folded", hidden),
        with("X-A: b\rTransfer-Encoding: chunked", &format!("0\r\n\r\n{hidden}")),
        with("X-A: b\0c", hidden),
        with(": b", hidden),
        with("Host: other", hidden),
        with("Transfer-Encoding: chunked", &format!("-1\r\n{hidden}")),
        with("Transfer-Encoding: chunked", &format!("0x0\r\n\r\n{hidden}")),
        with("Transfer-Encoding: chunked", &format!("10000000000000000\r\n{hidden}")),
        with("Transfer-Encoding: chunked", &format!("1\r\nab\r\n{hidden}")),
        with(
            "Transfer-Encoding: chunked",
            "1;\nGET /hidden HTTP/1.1\r\nHost: test\r\n\r\n\r\nX\r\n0\r\n\r\n",
        ),
        format!("GET /x HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("GET /x#y HTTP/1.1\r\nHost: test\r\n\r\n{}", ""),
        "GET /x HTTP/1.1\r\n\r\n".to_owned(),
    ];
    for request in &refused {
        let mut client = evenkeel_testbed::Connection::open(place.at(8080));
        client.send(request);
        let status = client.answer().map(|answer| answer.status);
        assert!(status.is_none_or(|s| (400..600).contains(&s)), "{request:?} got {status:?}");
        assert!(client.is_closed(), "{request:?} left its connection open");
    }
    let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    assert!(!seen.contains("GET /hidden"), "the server saw {seen:?}");
    println!("{} requests with ambiguous framing: refused, none reached the server whole", refused.len());
}
