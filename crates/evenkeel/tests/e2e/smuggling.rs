//! Framing attacks before three origins: whatever a client sends, an origin sees no request that
//! the proxy did not see as one, and every good request in between is answered.

use std::time::Duration;

use evenkeel_testbed::{Connection, Place, Process, apache, get, nginx_with, node, require, within};

use crate::{service, start};

/// A request that an attack tries to get past the proxy.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n";

/// Heads that are refused, or mean the same to everybody.
fn corpus() -> Vec<String> {
    let head = |fields: &str| format!("POST /attack HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let mut all = Vec::new();
    let lengths = [
        "",
        " ",
        "5,",
        "5, 5",
        ",5",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5 5",
        "5;",
        "5.0",
        "1e1",
        "\"5\"",
        "\t5\t",
        "05",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551621",
        "\u{b}5",
        "5\u{c}",
        "٥",
    ];
    for length in lengths {
        all.push(head(&format!("Content-Length: {length}\r\n")) + "hello" + HIDDEN);
    }
    for (a, b) in [("5", "6"), ("0", "44"), ("44", "0"), ("5", "5"), ("5", "05")] {
        all.push(head(&format!("Content-Length: {a}\r\nContent-Length: {b}\r\n")) + "hello" + HIDDEN);
    }
    let codings = [
        "chunked",
        "Chunked",
        "xchunked",
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "\"chunked\"",
        "chunked;q=1",
        "chunk",
        " chunked",
        "\tchunked",
        "\u{b}chunked",
        "chunked\u{b}",
        "\0chunked",
        "x chunked",
        ",chunked",
        "chunked,",
        "CHUNKED ",
    ];
    for coding in codings {
        let field = format!("Transfer-Encoding: {coding}\r\n");
        all.push(head(&field) + "0\r\n\r\n" + HIDDEN);
        all.push(head(&format!("{field}Content-Length: 5\r\n")) + "0\r\n\r\n" + HIDDEN);
        all.push(head(&format!("Content-Length: 44\r\n{field}")) + "0\r\n\r\n" + HIDDEN);
        all.push(head(&format!("{field}Transfer-Encoding: identity\r\n")) + "0\r\n\r\n" + HIDDEN);
    }
    let names = [
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer_Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "\u{feff}Transfer-Encoding: chunked",
        "X: y\r\n\u{b}Transfer-Encoding: chunked",
        "Content-Length : 5",
        "Content-Length\u{b}: 5",
        "Content_Length: 5",
    ];
    for name in names {
        all.push(head(&format!("{name}\r\n")) + "0\r\n\r\n" + HIDDEN);
        all.push(head(&format!("Content-Length: 5\r\n{name}\r\n")) + "0\r\n\r\n" + HIDDEN);
    }
    let chunks = [
        "+0\r\n\r\n",
        "0x0\r\n\r\n",
        "-1\r\n\r\n",
        "0\n\n",
        "0\r\n\n",
        "5\nhello\n0\n\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "10000000000000000\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\n\r\n",
        "8000000000000000\r\n\r\n",
        "0;a\nb\r\n\r\n",
        "0;\r\r\n\r\n",
        "0 \r\n\r\n",
        " 0\r\n\r\n",
        "0\t\r\n\r\n",
        "5;x=\"a\r\nhello\r\n0\r\n\r\n",
        "0\r\nContent-Length: 44\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: other\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "2\r\nab\r\r\n0\r\n\r\n",
        "00000000000000000\r\n\r\n",
        "\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nGood: trailer\r\n\r\n",
        "5;ok=1\r\nhello\r\n0\r\n\r\n",
    ];
    for chunk in chunks {
        all.push(head("Transfer-Encoding: chunked\r\n") + chunk + HIDDEN);
    }
    let lines = [
        "GET http://other/attack HTTP/1.1",
        "GET http://test@other/attack HTTP/1.1",
        "GET http://test/attack HTTP/1.1",
        "GET //other/attack HTTP/1.1",
        "GET /attack#frag HTTP/1.1",
        "GET /a/..;/attack HTTP/1.1",
        "GET /%2e%2e/attack HTTP/1.1",
        "GET /attack HTTP/1.1 ",
        "GET  /attack HTTP/1.1",
        "GET\t/attack\tHTTP/1.1",
        "GET /attack HTTP/1.1\r",
        "GET /attack HTTP/1.0",
        "GET /attack HTTP/0.9",
        "GET /attack HTTP/1.10",
        "GET /attack http/1.1",
        "GET /attack",
        "CONNECT test:80 HTTP/1.1",
        "GET /att\tack HTTP/1.1",
        "GET /att\u{e9}ck HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "get /attack HTTP/1.1",
        "PRI * HTTP/2.0",
    ];
    for line in lines {
        all.push(format!("{line}\r\nHost: test\r\n\r\n{HIDDEN}"));
        all.push(format!("{line}\r\nHost: test\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()));
    }
    let hosts = [
        "Host: a\r\nHost: b\r\n",
        "Host: a, b\r\n",
        "Host: a@b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "",
        "Host:\r\n",
        "Host: a\r\n b\r\n",
        "Host : a\r\n",
    ];
    for host in hosts {
        all.push(format!("GET /attack HTTP/1.1\r\n{host}\r\n{HIDDEN}"));
    }
    for connection in [
        "close, Host",
        "close, Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-For, Cookie",
        "keep-alive\r\nConnection: close",
    ] {
        all.push(
            head(&format!("Connection: {connection}\r\nContent-Length: {}\r\nCookie: a=b\r\n", HIDDEN.len()))
                + HIDDEN,
        );
    }
    for upgrade in ["websocket", "h2c", "h2c, websocket"] {
        all.push(format!("GET /attack HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n{HIDDEN}"));
    }
    all.push(format!(
        "GET /attack HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n{HIDDEN}",
        HIDDEN.len()
    ));
    all.push(format!("HEAD /attack HTTP/1.1\r\nHost: test\r\n\r\n{HIDDEN}"));
    all.push(format!("\r\nGET /attack HTTP/1.1\r\nHost: test\r\n\r\n{HIDDEN}"));
    all.push(format!("\n\nGET /attack HTTP/1.1\r\nHost: test\r\n\r\n{HIDDEN}"));
    all
}

/// Method and target of the request lines that a log holds in quotes.
fn quoted_requests(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| line.split('"').nth(1));
    lines.map(|request| request.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

fn attack(place: &Place, name: &str, seen: impl Fn() -> Vec<String>, _origin: Process) {
    let log = place.file("access.log");
    let config = format!("[log]\naccess = \"{}\"\n", log.display())
        + &service(
            "web",
            "http",
            place.at(8080),
            &[place.at(9001)],
            "health-check = { type = \"none\" }\ntimeouts = { server = \"1s\", client = \"500ms\", request = \"500ms\" }",
        );
    let evenkeel = start(place, &config);
    let before = seen().len();
    let corpus = corpus();
    assert!(corpus.len() > 200);
    for (number, payload) in corpus.iter().enumerate() {
        let mut connection = Connection::open(place.at(8080));
        connection.stream().set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        connection.send(payload);
        connection.finish_sending();
        connection.read_all();
        let good = get(place.at(8080), &format!("/good{number}"));
        assert!(good.status < 500, "{name}: {} after {payload:?}", good.status);
    }
    let forwarded = || -> Vec<String> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        quoted_requests(
            &text.lines().filter(|l| !l.contains("<NOSRV>")).map(|l| format!("{l}\n")).collect::<String>(),
        )
    };
    // Absolute targets are forwarded as paths.
    let normal = |request: String| request.replace(" http://test/", " /");
    let unknown = || -> Option<String> {
        let mut left: Vec<String> = forwarded().into_iter().map(normal).collect();
        seen()[before..].iter().find_map(|request| {
            let Some(at) = left.iter().position(|f| f == request) else { return Some(request.clone()) };
            left.remove(at);
            None
        })
    };
    let last = format!("GET /good{}", corpus.len() - 1);
    // Every event loop writes its lines of the log in its own time.
    let both = || forwarded().contains(&last) && seen().contains(&last) && unknown().is_none();
    if !within(Duration::from_secs(5), both) {
        panic!("{name} saw {:?}, which the proxy did not forward so often", unknown());
    }
    let (forwarded, seen) = (forwarded(), seen());
    for number in 0..corpus.len() {
        assert!(seen.contains(&format!("GET /good{number}")), "{name} did not see good request {number}");
    }
    let attacks = forwarded.iter().filter(|f| !f.contains("/good")).count();
    let refused = evenkeel.service("web")["bad-requests"].as_u64().unwrap();
    println!("{name}: {attacks} requests forwarded, {refused} refused, {} seen", seen.len() - before);
    assert!(attacks > 30 && refused > 150, "{attacks} forwarded, {refused} refused");
}

#[test]
fn nginx_sees_what_the_proxy_sees() {
    if !require(&["nginx"]) {
        return;
    }
    let place = Place::new("smugnginx");
    let log = place.file("seen.log");
    let locations = format!("access_log {} combined; location / {{ return 200 \"x\"; }}", log.display());
    let origin = nginx_with(&place, "origin", place.at(9001), &locations);
    attack(&place, "nginx", || quoted_requests(&std::fs::read_to_string(&log).unwrap_or_default()), origin);
}

#[test]
fn apache_sees_what_the_proxy_sees() {
    if !require(&["apache2"]) {
        return;
    }
    let place = Place::new("smugapache");
    let log = place.file("origin/seen.log");
    let origin = apache(&place, "origin", place.at(9001));
    attack(&place, "apache", || quoted_requests(&std::fs::read_to_string(&log).unwrap_or_default()), origin);
}

#[test]
fn node_sees_what_the_proxy_sees() {
    if !require(&["node"]) {
        return;
    }
    let place = Place::new("smugnode");
    let log = place.file("seen.log");
    let script = format!(
        "const http = require('http'), fs = require('fs');\n\
         http.createServer((req, res) => {{\n\
           fs.appendFileSync({:?}, '\"' + req.method + ' ' + req.url + '\"\\n');\n\
           req.resume(); req.on('end', () => res.end('x')); req.on('error', () => {{}});\n\
         }}).listen(Number(process.argv[3]), process.argv[2]);\n",
        log.display().to_string()
    );
    let origin = node(&place, "origin", place.at(9001), &script);
    attack(&place, "node", || quoted_requests(&std::fs::read_to_string(&log).unwrap_or_default()), origin);
}
