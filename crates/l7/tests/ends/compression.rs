//! Answers that are compressed: what clients get of each kind, piece by piece as servers send it, and that nothing
//! counts as open afterwards.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use evenkeel_testbed::{Connection, Place, Scripted, read_head};
use flate2::read::{GzDecoder, ZlibDecoder};

use crate::{Running, SERVER_PORT};

fn plain(answer: &evenkeel_testbed::Answer) -> Vec<u8> {
    let mut out = Vec::new();
    match answer.field("content-encoding") {
        Some("gzip") => GzDecoder::new(&answer.body[..]).read_to_end(&mut out).map(drop),
        Some("deflate") => ZlibDecoder::new(&answer.body[..]).read_to_end(&mut out).map(drop),
        _ => {
            out.clone_from(&answer.body);
            Ok(())
        }
    }
    .expect("what was compressed is read again");
    out
}

/// A server that answers with what its path says: `LENGTH`, `chunked` and `close` are ways to end a body.
fn server(place: &Place) -> Scripted {
    Scripted::start(place.at(SERVER_PORT), |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = body();
            let asked = head.to_ascii_lowercase().contains("accept-encoding");
            let common = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Asked: {asked}\r\n");
            let whole = match path.as_str() {
                "/chunked" => {
                    let mut whole = format!("{common}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
                    for piece in body.chunks(7_777) {
                        whole.extend_from_slice(format!("{:x};a=b\r\n", piece.len()).as_bytes());
                        whole.extend_from_slice(piece);
                        whole.extend_from_slice(b"\r\n");
                    }
                    whole.extend_from_slice(b"0\r\nX-Trailer: a\r\n\r\n");
                    whole
                }
                "/close" => {
                    let _ = stream.write_all(&[format!("{common}\r\n").as_bytes(), &body].concat());
                    return;
                }
                "/image" => {
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\nabc".to_vec()
                }
                _ => [format!("{common}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(),
            };
            if stream.write_all(&whole).is_err() {
                return;
            }
        }
    })
}

fn body() -> Vec<u8> {
    (0..40_000u32).flat_map(|number| format!("{} line\n", number * 7919 % 1_000).into_bytes()).collect()
}

#[test]
fn bodies_arrive_as_they_were_sent() {
    let place = Place::new("ends-compression");
    let _server = server(&place);
    let keys = "compression = { codings = [\"gzip\", \"deflate\"], offload = true }";
    let running = Running::start(place, "http", keys, "");
    for path in ["/", "/chunked", "/close"] {
        for coding in ["gzip", "deflate"] {
            let mut connection = Connection::open(running.vip);
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\nAccept-Encoding: {coding}\r\n\r\n"));
            let answer = connection.answer().expect("an answer");
            assert_eq!(answer.field("content-encoding"), Some(coding), "{path}: {}", answer.head);
            assert_eq!(answer.field("vary"), Some("Accept-Encoding"), "{path}");
            assert_eq!(answer.field("x-asked"), Some("false"), "offload: {path}");
            assert!(answer.field("content-length").is_none(), "{path}: {}", answer.head);
            assert!(plain(&answer) == body(), "{path} by {coding}");
            assert!(answer.body.len() < body().len() / 2, "{path}: {}", answer.body.len());
            if path != "/close" {
                // The connection goes on.
                connection.send("GET /image HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n");
                let image = connection.answer().expect("another answer");
                assert_eq!((image.text().as_str(), image.field("content-encoding")), ("abc", None));
            }
        }
    }
    for (ask, asked) in [
        ("GET / HTTP/1.1\r\nHost: t\r\n\r\n", "false"),
        ("GET / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: br, gzip;q=0\r\n\r\n", "true"),
        ("GET / HTTP/1.0\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n", "true"),
    ] {
        let mut connection = Connection::open(running.vip);
        connection.send(ask);
        let answer = connection.answer().expect("an answer");
        assert_eq!(answer.field("content-encoding"), None, "{ask}: {}", answer.head);
        assert_eq!((answer.field("vary"), answer.field("x-asked")), (None, Some(asked)), "{ask}");
        assert!(answer.body == body(), "{ask}");
    }
    running.close_all();
    running.comes_to_rest("compression");
}

#[test]
fn what_a_server_says_is_not_held_back() {
    let place = Place::new("ends-compression-events");
    let _server = Scripted::start(place.at(SERVER_PORT), |mut stream| {
        if read_head(&mut stream).is_some() {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(format!("{head}b\r\ndata: one\n\n\r\n").as_bytes());
            // The second event comes once the first was read.
            let mut rest = [0; 64];
            let _ = stream.read(&mut rest);
        }
    });
    let running = Running::start(place, "http", "compression = {}", "");
    let mut connection = Connection::open(running.vip);
    connection.send("GET / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n");
    let begun = Instant::now();
    let mut came = Vec::new();
    let stream = connection.stream();
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let text = loop {
        let mut some = [0; 1024];
        let count = (&mut &*stream).read(&mut some).expect("it reads");
        assert!(count > 0, "the answer ended");
        came.extend_from_slice(&some[..count]);
        let Some(at) = came.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let mut body = came[at + 4..].to_vec();
        let mut chunks = evenkeel_http::h1::chunked::Chunked::default();
        let Ok((_, kept)) = chunks.extract(&mut body) else { continue };
        let mut text = [0; 64];
        let read = GzDecoder::new(&body[..kept]).read(&mut text).unwrap_or(0);
        if read > 0 {
            break String::from_utf8_lossy(&text[..read]).into_owned();
        }
    };
    assert_eq!(text, "data: one\n\n");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(connection);
    running.close_all();
    running.comes_to_rest("events");
}
