//! What is counted of an answer, as a client finds it that has the answer and asks at once, on another connection
//! and hence, now and then, another event loop.

use std::io::Write;

use evenkeel_testbed::{Answer, Connection, Place, Scripted, read_head};

use crate::{service, start};

/// Answers with what it was told in `X-Seen`, and with the status that the path's last digit asks for.
fn telling(place: &Place) -> Scripted {
    Scripted::start(place.at(9001), |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let seen = head.lines().find_map(|line| line.strip_prefix("X-Seen: ")).unwrap_or("-").to_owned();
            let status = match head.split(' ').nth(1) {
                Some("/missing") => "404 Not Found",
                Some("/broken") => "500 Broken",
                _ => "200 OK",
            };
            let bytes = match head.starts_with("GET /chunks ") {
                true => format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{seen}\r\n0\r\n\r\n", seen.len()),
                false => format!("Content-Length: {}\r\n\r\n{seen}", seen.len()),
            };
            let _ = write!(stream, "HTTP/1.1 {status}\r\n{bytes}");
        }
    })
}

/// On a connection of its own.
fn ask(place: &Place, path: &str) -> Answer {
    let mut connection = Connection::open(place.at(8080));
    let coding = if path == "/zip" { "Accept-Encoding: gzip\r\n" } else { "" };
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{coding}\r\n"));
    connection.answer().unwrap_or_else(|| panic!("no answer to {path}"))
}

#[test]
fn who_has_an_answer_finds_it_counted() {
    const ROUNDS: usize = 150;
    let place = Place::new("counted");
    let _server = telling(&place);
    let table = "[limits]\nworkers = 4\n[[table]]\nname = \"clients\"\nperiod = \"60s\"\n";
    let routes = [
        "concurrency-limit = { max = 1 }",
        "track = \"clients\"",
        "set-header = { \"X-Seen\" = \"{count:clients,errors} {count:clients,failures} {count:clients,bytes-out} {count:clients,current} {count:clients,requests}\" }",
        "when = 'path(\"/own\")'\nanswer = { status = 403, body = \"no\" }",
    ];
    let keys = "health-check = { type = \"none\" }\ncompression = { types = [\"*\"] }";
    let web = service("web", "http", place.at(8080), &[place.at(9001)], keys);
    let routes: String = routes.map(|route| format!("[[virtual-service.route]]\n{route}\n")).concat();
    let evenkeel = start(&place, &format!("{table}{web}{routes}"));
    let (mut errors, mut failures, mut asked, mut sent) = (0, 0, 0, 0);
    for round in 0..ROUNDS {
        let path = ["/", "/missing", "/broken", "/chunks", "/zip", "/own"][round % 6];
        let answer = ask(&place, path);
        let (status, bytes) = (answer.status, answer.body.len() as u64);
        assert_eq!(answer.field("content-encoding").is_some(), path == "/zip");
        assert_ne!(status, 429, "round {round}: the place of the request before is free");
        asked += 1;
        errors += u64::from(status == 404 || status == 403);
        failures += u64::from(status == 500);
        sent += bytes;
        let next = ask(&place, "/");
        assert_eq!(next.status, 200, "round {round}");
        let seen = next.text();
        let seen: Vec<u64> = seen.split(' ').map(|figure| figure.parse().unwrap()).collect();
        assert_eq!(seen[..2], [errors, failures], "round {round} after {path}");
        assert!(seen[2] > sent, "round {round}: {seen:?} after {sent} bytes of bodies");
        assert_eq!(seen[3..], [1, asked + 1], "round {round}: it is the only one");
        asked += 1;
        sent += next.body.len() as u64;
    }
    let listed = evenkeel.service("web");
    assert_eq!(listed["requests"], asked);
    let answers = ask(&place, "/missing");
    assert_eq!(answers.status, 404);
    assert_eq!(evenkeel.service("web")["requests"], asked + 1);
}
