//! `head-size`: heads that are longer than most, in HTTP/1 and HTTP/2, on both sides; and what they may hold.

use std::time::Duration;

use evenkeel_testbed::{Connection, Place, Scripted, command, eventually, get, node, require};

use crate::{service, start};

/// Answers over HTTP/1 with the length of what came, and with fields of `?n=SIZE` bytes in all.
const ONE: &str = r#"
require('http').createServer({ maxHeaderSize: 4 << 20 }, (request, response) => {
  const size = +(new URL(request.url, 'http://a').searchParams.get('n') || 0);
  for (let n = 0; n * 50000 < size; n++) response.setHeader('x-long-' + n, 'y'.repeat(Math.min(50000, size - n * 50000)));
  let got = 0;
  for (const name in request.headers) if (name.startsWith('x-long')) got += request.headers[name].length;
  response.end('got ' + got);
}).listen(+process.argv[3], process.argv[2]);
"#;

/// The same over HTTP/2.
const TWO: &str = r#"
const server = require('http2').createServer({ settings: { maxHeaderListSize: 4 << 20 }, maxSendHeaderBlockLength: 4 << 20 });
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  const size = +(new URL(headers[':path'], 'http://a').searchParams.get('n') || 0);
  const answer = { ':status': 200 };
  for (let n = 0; n * 50000 < size; n++) answer['x-long-' + n] = 'y'.repeat(Math.min(50000, size - n * 50000));
  let got = 0;
  for (const name in headers) if (name.startsWith('x-long')) got += headers[name].length;
  stream.respond(answer);
  stream.end('got ' + got);
});
server.listen(+process.argv[3], process.argv[2]);
"#;

/// Sends one request over HTTP/2, with fields of so many bytes; prints the status, the length of the answer's
/// long fields, and its body.
const CLIENT: &str = r#"
const [url, path, size] = process.argv.slice(2);
const session = require('http2').connect(url, { settings: { maxHeaderListSize: 4 << 20 }, maxSendHeaderBlockLength: 4 << 20 });
session.on('error', (error) => { console.log('session ' + error.code); process.exit(0); });
const headers = { ':path': path };
for (let n = 0; n * 50000 < +size; n++) headers['x-long-' + n] = 'y'.repeat(Math.min(50000, +size - n * 50000));
const request = session.request(headers);
let status, got = 0, body = '';
request.on('response', (answer) => {
  status = answer[':status'];
  for (const name in answer) if (name.startsWith('x-long')) got += answer[name].length;
});
request.on('error', (error) => { console.log('stream ' + error.code); process.exit(0); });
request.on('data', (data) => body += data);
request.on('end', () => { console.log(status + ' ' + got + ' ' + body.slice(0, 20)); process.exit(0); });
request.end();
"#;

fn long(size: usize) -> String {
    let fields = (0..size.div_ceil(50_000)).map(|n| {
        let length = (size - n * 50_000).min(50_000);
        format!("X-Long-{n}: {}\r\n", "y".repeat(length))
    });
    fields.collect()
}

/// Status, bytes of long fields and body of the answer to a request over HTTP/1.
fn one(connection: &mut Connection, answer: usize, request: usize) -> (u16, usize, String) {
    connection.send(format!("GET /?n={answer} HTTP/1.1\r\nHost: test\r\n{}\r\n", long(request)));
    let answer = connection.answer().expect("an answer");
    let got = (0..100).filter_map(|n| answer.field(&format!("x-long-{n}"))).map(str::len).sum();
    (answer.status, got, answer.text())
}

#[test]
fn heads_of_a_megabyte_pass_in_http1_and_http2_on_both_sides() {
    if !require(&["node"]) {
        return;
    }
    let place = Place::new("long-heads");
    let _one = node(&place, "one", place.at(9001), ONE);
    let _two = node(&place, "two", place.at(9002), TWO);
    let client = place.write("client.js", CLIENT).display().to_string();
    let checks = "health-check = { type = \"none\" }\n";
    let two = format!("{checks}server-http = \"2\"\n");
    let config = [
        service("one", "http", place.at(8001), &[place.at(9001)], &format!("{checks}head-size = \"1MiB\"")),
        service("two", "http", place.at(8002), &[place.at(9002)], &format!("{two}head-size = \"1MiB\"")),
        service("plain-one", "http", place.at(8003), &[place.at(9001)], checks),
        service("plain-two", "http", place.at(8004), &[place.at(9002)], &two),
        service("less", "http", place.at(8005), &[place.at(9001)], &format!("{checks}head-size = \"2KiB\"")),
    ];
    let evenkeel = start(&place, &config.concat());
    // HTTP/1 on both sides; the same connections carry short ones before and after.
    let mut connection = Connection::open(place.at(8001));
    for (answer, request) in
        [(0, 0), (1_000_000, 0), (0, 1_000_000), (20_000, 17_000), (900_000, 900_000), (0, 0)]
    {
        let expect = (200, answer, format!("got {request}"));
        assert_eq!(one(&mut connection, answer, request), expect);
    }
    // HTTP/2 to servers: one connection takes what its service may have.
    let mut connection = Connection::open(place.at(8002));
    for (answer, request) in [(0, 0), (800_000, 0), (0, 100_000), (20_000, 20_000), (0, 0)] {
        let expect = (200, answer, format!("got {request}"));
        assert_eq!(one(&mut connection, answer, request), expect);
    }
    // HTTP/2 from clients.
    for (port, answer, request) in [(8001, 100_000, 800_000), (8001, 0, 0), (8002, 100_000, 100_000)] {
        let url = format!("http://{}", place.at(port));
        let told = command("node", &[&client, &url, &format!("/?n={answer}"), &request.to_string()]);
        assert_eq!(told.out.trim(), format!("200 {answer} got {request}"), "{}", told.err);
    }
    // Without the key, or with less.
    let at = |port, answer, request| one(&mut Connection::open(place.at(port)), answer, request).0;
    assert_eq!(at(8003, 0, 15_000), 200);
    assert_eq!(at(8003, 0, 20_000), 431);
    assert_eq!(at(8003, 15_000, 0), 200);
    assert_eq!(at(8003, 20_000, 0), 502);
    assert_eq!(at(8004, 20_000, 0), 502);
    assert_eq!(at(8005, 0, 1_500), 200);
    assert_eq!(at(8005, 0, 2_500), 431);
    assert_eq!(at(8005, 2_500, 0), 502);
    let url = format!("http://{}", place.at(8004));
    let told = command("node", &[&client, &url, "/", "20000"]);
    assert!(told.out.starts_with("431 "), "{}{}", told.out, told.err);
    // More than the key allows.
    assert_eq!(at(8001, 0, 1_100_000), 431);
    assert_eq!(at(8001, 1_100_000, 0), 502);
    drop(evenkeel);
}

#[test]
fn requests_that_follow_a_long_head_are_read() {
    let place = Place::new("long-heads-pipeline");
    let _server = Scripted::named(place.at(9001), "one");
    let keys = "health-check = { type = \"none\" }\nhead-size = \"256KiB\"";
    let _evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], keys));
    let head = |size: usize| format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", long(size));
    let mut connection = Connection::open(place.at(8080));
    let all = [head(40_000), head(10).repeat(700), head(100_000), head(0).repeat(300), head(60_000)];
    connection.send(all.concat());
    for number in 0..1_003 {
        assert_eq!(connection.answer().map(|answer| answer.status), Some(200), "answer {number}");
    }
}

#[test]
fn long_heads_that_do_not_end_leave_half_of_the_memory_to_others() {
    let place = Place::new("long-heads-memory");
    let _server = Scripted::named(place.at(9001), "one");
    let checks = "health-check = { type = \"none\" }\n";
    let config = service("web", "http", place.at(8080), &[place.at(9001)], checks)
        + &service(
            "long",
            "http",
            place.at(8081),
            &[place.at(9001)],
            &format!("{checks}head-size = \"1MiB\""),
        );
    let limits = "[limits]\nworkers = 1\nbuffer-memory = \"16MiB\"\n";
    let evenkeel = start(&place, &format!("{limits}{config}"));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", evenkeel.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(get(place.at(8080), "/").status, 200);
    let before = resident();
    let begun = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Long: {}", "y".repeat(900_000));
    let mut slow: Vec<Connection> = (0..60)
        .map(|_| {
            let mut connection = Connection::open(place.at(8081));
            connection.send(&begun);
            connection
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(place.at(8080), "/").status, 200, "who needs little is served");
    }
    assert!(resident() < before + 32 * 1024, "{before} kB before, {} kB now", resident());
    let refused = slow.iter_mut().filter_map(Connection::answer).filter(|a| a.status == 503).count();
    assert!((40..60).contains(&refused), "{refused} of 60 were refused");
    drop(slow);
    eventually("long heads pass again", Duration::from_secs(5), || {
        one(&mut Connection::open(place.at(8081)), 0, 900_000).0 == 200
    });
}
