//! Real servers that lie: framing of answers that two readers could understand differently, bytes that
//! nobody asked for. What they send reaches no other request.

use std::io::Write;
use std::time::Duration;

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, read_head};

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";

/// Answers, each followed by one more that nobody asked for.
const ANSWERS: &[(&str, &str)] = &[
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\nok"),
    (
        "length and chunks",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    ("folded line", "HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 40\r\nContent-Length: 2\r\n\r\nok"),
    ("more than its length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"),
    (
        "204 with chunks",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEVIL\r\n0\r\n\r\n",
    ),
    ("304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
    (
        "LF in a chunk's extension",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nXX\r\nok\r\n0\r\n\r\n",
    ),
    (
        "chunk of 2^64",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n",
    ),
    ("CR in a value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: EVIL=1\r\nContent-Length: 2\r\n\r\nok"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok"),
    ("LF in the reason", "HTTP/1.1 200 O\nSet-Cookie: EVIL=1\r\nContent-Length: 2\r\n\r\nok"),
    ("space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
    ("chunks of HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("a 101 that nobody asked for", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ("status 000", "HTTP/1.1 000 X\r\nContent-Length: 2\r\n\r\nok"),
    ("status 2000", "HTTP/1.1 2000 X\r\nContent-Length: 2\r\n\r\nok"),
    ("no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n"),
];

#[test]
fn what_servers_send_unasked_reaches_nobody() {
    let place = Place::new("hostile-servers");
    let _server = Scripted::start(place.at(9001), |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let number = head.split(' ').nth(1).and_then(|path| path[1..].parse::<usize>().ok());
            let answer = match number {
                Some(number) => format!("{}{EVIL}", ANSWERS[number].1),
                None => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_owned(),
            };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let config = format!(
        "[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\n\
         [[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
        place.at(8080),
        place.at(9001)
    );
    let _evenkeel = Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &config);
    for (number, (what, _)) in ANSWERS.iter().enumerate() {
        let mut client = Connection::open(place.at(8080));
        client.stream().set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        let got = String::from_utf8_lossy(&client.read_all()).into_owned();
        assert!(got.starts_with("HTTP/1.1 "), "{what}: {got:?}");
        assert!(!got.contains("EVIL"), "{what}: {got:?}");
        for _ in 0..2 {
            let next = evenkeel_testbed::get(place.at(8080), "/next");
            assert_eq!((next.status, next.text()), (200, "fine".into()), "after {what}");
        }
    }
    println!("{} answers of lying servers: none reached another request", ANSWERS.len());
}
