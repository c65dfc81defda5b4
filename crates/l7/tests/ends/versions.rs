//! HTTP/1.0 on either side: it goes on as such only where heads are taken as HAProxy takes them, and never with chunks.

use std::io::Write;

use evenkeel_testbed::{Connection, Place, Scripted, read_head};

use crate::{Running, SERVER_PORT};

/// Answers with the request line that it got, in HTTP/1.0 where the path says so.
fn server(place: &Place) -> Scripted {
    Scripted::start(place.at(SERVER_PORT), |mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let line = head.lines().next().unwrap_or_default();
        let version = if line.contains("/old") { "1.0" } else { "1.1" };
        let length = line.len();
        let _ = write!(stream, "HTTP/{version} 200 OK\r\nContent-Length: {length}\r\n\r\n{line}");
    })
}

#[test]
fn versions_go_on_where_heads_are_wide() {
    const CHUNKED: &str = "POST /c HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for (number, keys, ask, line, version) in [
        (0, "request-heads = \"wide\"", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0", "HTTP/1.1"),
        (1, "request-heads = \"wide\"", CHUNKED, "POST /c HTTP/1.1", "HTTP/1.1"),
        (
            2,
            "request-heads = \"wide\"",
            "GET /old HTTP/1.1\r\nHost: t\r\n\r\n",
            "GET /old HTTP/1.1",
            "HTTP/1.0",
        ),
        (3, "", "GET / HTTP/1.0\r\nHost: t\r\n\r\n", "GET / HTTP/1.1", "HTTP/1.1"),
        (4, "", "GET /old HTTP/1.1\r\nHost: t\r\n\r\n", "GET /old HTTP/1.1", "HTTP/1.1"),
    ] {
        let place = Place::new(&format!("ends-versions-{number}"));
        let _server = server(&place);
        let running = Running::start(place, "http", keys, "");
        let mut connection = Connection::open(running.vip);
        connection.send(ask);
        let answer = connection.answer().expect("an answer");
        assert_eq!(answer.text(), line, "{ask}");
        assert!(answer.head.starts_with(version), "{ask}: {}", answer.head);
        let keeps = answer.field("connection") == Some("keep-alive");
        assert_eq!(keeps, version == "HTTP/1.0", "{ask}: {}", answer.head);
        running.close_all();
    }
}
