//! Requests that say in another spelling what routes refuse. No server gets one of them.

use evenkeel_testbed::{Connection, Evenkeel, Place};

use crate::http1::server_that_keeps;

const ROUTES: &str = "[[virtual-service.route]]\nwhen = 'path(\"/internal\", \"/internal/*\")'\ndeny = {}\n\
    [[virtual-service.route]]\nwhen = 'host(\"secret.example\")'\ndeny = {}\n\
    [[virtual-service.route]]\nwhen = 'method(\"DELETE\")'\ndeny = {}\n";

/// Paths that some server takes for one below `/internal`.
const PATHS: &[&str] = &[
    "/internal/x",
    "/internal?x",
    "/%69nternal/x",
    "//internal/x",
    "/x//../internal/x",
    "/./internal/x",
    "/%2e/internal/x",
    "/x/%2e%2e/internal/x",
    "/x/.%2E/internal/x",
    "/x/..;a=b/internal/x",
    "/;a/internal/x",
    "/internal;a/x",
    "/x/..%2finternal/x",
    "/internal%2fx",
    "/internal%5cx",
    "/internal\\x",
    "/internal%00/x",
    "/%u0069nternal/x",
    "/%U0069nternal/x",
    "/%c1%a9nternal/x",
    "/%e0%81%a9nternal/x",
    "/%f0%80%81%a9nternal/x",
    "/x/%c0%ae%c0%ae/internal/x",
    "/x/..%c0%afinternal/x",
    "http://a/internal/x",
    "HTTP://a/x/../internal/x",
    "http://a//internal/x",
];

const HOSTS: &[&str] = &[
    "secret.example",
    "SECRET.example",
    "secret.example.",
    "secret.example..",
    "secret.example:80",
    "secret.example.:80",
    "secret.example:",
    "secret%2eexample",
    "%73ecret.example",
    "[secret.example]",
    "a,secret.example",
    "a@secret.example",
    "secret.example/",
    "\u{ff53}ecret.example",
];

/// Whole requests; `wide` are those of a service that takes what HAProxy takes.
const WHOLE: &[&str] = &[
    "delete /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "DeLeTe /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://secret.example/x HTTP/1.0\r\n\r\n",
    "GET http://SECRET.example./x HTTP/1.0\r\n\r\n",
    "GET https://secret.example/x HTTP/1.1\r\nHost: \r\n\r\n",
    "GET http://a:b@secret.example:80/x HTTP/1.1\r\nHost: \r\n\r\n",
    "GET http://secret.example/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nHost: secret.example\r\n\r\n",
];

/// Two services with the same routes, one of which takes the heads that HAProxy takes.
fn strict_and_wide(place: &Place, routes: &str) -> String {
    let service = |name: &str, port: u16, keys: &str| {
        format!(
            "[[virtual-service]]\nname = \"{name}\"\nvip = [\"{}\"]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\n\
             {keys}\n{routes}[[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
            place.at(port),
            place.at(9001)
        )
    };
    service("strict", 8080, "") + &service("wide", 8081, "request-heads = \"wide\"")
}

#[test]
fn no_other_spelling_passes_a_route() {
    let place = Place::new("hostile-spellings");
    let (_server, seen) = server_that_keeps(&place, b"");
    let config = strict_and_wide(&place, ROUTES);
    let _evenkeel = Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &config);
    let paths = PATHS.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let hosts = HOSTS.iter().map(|host| format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let all: Vec<String> = paths.chain(hosts).chain(WHOLE.iter().map(|&one| one.to_owned())).collect();
    for port in [8080, 8081] {
        for request in &all {
            let mut client = Connection::open(place.at(port));
            client.send(request);
            let status = client.answer().map(|answer| answer.status);
            assert!(matches!(status, Some(400..500)), "{port}: {request:?} got {status:?}");
            let got = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
            assert!(got.is_empty(), "{port}: {request:?} came to the server: {got:?}");
        }
    }
    // What only looks like one is served.
    for path in ["/internals", "/x/internal", "/caf%C3%A9", "/%E2%82%AC", "/a%20b", "/%e9t%e9"] {
        let mut client = Connection::open(place.at(8080));
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.answer().map(|answer| answer.status), Some(200), "{path}");
    }
    println!("{} requests in other spellings: none passed a route", all.len());
}

/// A route protects also where the one who wrote it used another spelling; what nothing could match is told.
#[test]
fn routes_that_are_written_in_another_spelling_protect() {
    let place = Place::new("hostile-written");
    let (_server, seen) = server_that_keeps(&place, b"");
    let route = |when: &str| format!("[[virtual-service.route]]\nwhen = '{when}'\ndeny = {{}}\n");
    place.write("hosts", "list.example\nb\u{fc}cher.example\n");
    let cases = [
        (r#"path("/twice//x")"#.to_owned(), "GET /twice/x HTTP/1.1\r\nHost: a"),
        (r#"path("/%69nternal/*")"#.to_owned(), "GET /internal/x HTTP/1.1\r\nHost: a"),
        (r#"path("/x/../up/x")"#.to_owned(), "GET /up/x HTTP/1.1\r\nHost: a"),
        (r#"path("/dot/./z")"#.to_owned(), "GET /dot/z HTTP/1.1\r\nHost: a"),
        ("path(\"/caf\u{e9}/*\")".to_owned(), "GET /caf%C3%A9/x HTTP/1.1\r\nHost: a"),
        (r#"path("/lower%c3%a9")"#.to_owned(), "GET /lower%C3%A9 HTTP/1.1\r\nHost: a"),
        (r#"path == "/same//x""#.to_owned(), "GET /same/x HTTP/1.1\r\nHost: a"),
        (r#"host("final.example.")"#.to_owned(), "GET / HTTP/1.1\r\nHost: final.example"),
        ("host(\"stra\u{df}e.example\")".to_owned(), "GET / HTTP/1.1\r\nHost: xn--strae-oqa.example"),
        ("host == \"\u{d6}l.example\"".to_owned(), "GET / HTTP/1.1\r\nHost: XN--L-0GA.example."),
        (format!("host(\"@{}\")", place.file("hosts").display()), "GET / HTTP/1.1\r\nHost: list.example"),
        (
            format!("host(\"@{}\")", place.file("hosts").display()),
            "GET / HTTP/1.1\r\nHost: xn--bcher-kva.example",
        ),
        (r#"method("patch")"#.to_owned(), "PATCH / HTTP/1.1\r\nHost: a"),
        (r#"scheme("HTTP") && path("/scheme")"#.to_owned(), "GET /scheme HTTP/1.1\r\nHost: a"),
    ];
    // Against odd spellings, which the normal form has not: they refuse nothing, and least of all everything.
    let odd = [r#"path("*/../*")"#, r#"path("*//*")"#, r#"path("//*")"#];
    let written = cases.iter().map(|(when, _)| when.as_str()).chain(odd);
    let routes: String = written.map(route).collect();
    let _evenkeel =
        Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &strict_and_wide(&place, &routes));
    for (when, request) in &cases {
        for port in [8080, 8081] {
            let mut client = Connection::open(place.at(port));
            client.send(format!("{request}\r\n\r\n"));
            let status = client.answer().map(|answer| answer.status);
            assert_eq!(status, Some(403), "{when}: {request:?} at {port}");
        }
    }
    assert!(seen.lock().unwrap().is_empty(), "a request came to the server");
    let mut client = Connection::open(place.at(8080));
    client.send("GET /other HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_ne!(client.answer().map(|answer| answer.status), Some(403));
    for (when, why) in [
        (r#"host("a.example:8080")"#, "without its port"),
        (r#"path("/a;b/*")"#, "without its parameters"),
        (r#"path("/q?x=1")"#, "before its query"),
        (r#"path("*/../*")"#, "raw-path"),
        (r#"path("*//*")"#, "raw-path"),
    ] {
        let file = place.write("told.toml", strict_and_wide(&place, &route(when)));
        let checked = evenkeel_testbed::command(
            env!("CARGO_BIN_EXE_evenkeel"),
            &["check", &file.display().to_string()],
        );
        assert!(
            checked.code == 0 && (checked.out.clone() + &checked.err).contains(why),
            "{when}: {checked:?}"
        );
    }
}

/// Who a client is, it cannot say behind a body either, where trailers are passed on.
#[test]
fn identity_is_not_taken_from_trailers() {
    let place = Place::new("hostile-trailers");
    let (_server, seen) = server_that_keeps(&place, b"");
    let config =
        strict_and_wide(&place, "").replace("mode = \"http\"", "mode = \"http\"\nrequest-trailers = true");
    let evenkeel = Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &config);
    let send = |name: &str| {
        seen.lock().unwrap().clear();
        let mut client = Connection::open(place.at(8080));
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n{name}: forged\r\n\r\n"
        ));
        let _ = client.answer();
        String::from_utf8_lossy(&std::mem::take(&mut *seen.lock().unwrap())).into_owned()
    };
    for name in [
        "X-Client-Cert-CN",
        "X_Client_Cert_CN",
        "x.client.cert.subject",
        "X-Client-Cert-Fingerprint-And-More",
        "X-Forwarded-For",
        "X_Forwarded_Proto",
        "X-Real-IP",
        "x~real~ip",
        "Forwarded",
        "FORWARDED",
        "Content_Length",
        "Transfer.Encoding",
        "Cookie",
        "Authorization",
    ] {
        let got = send(name);
        assert!(!got.contains("forged"), "{name}: {got}");
    }
    let got = send("X-Checksum");
    assert!(got.contains("X-Checksum: forged"), "{got}");
    // Where trailers are dropped, these are dropped with the others.
    evenkeel.commit(&place, &strict_and_wide(&place, ""));
    for name in ["X-Client-Cert-CN", "X_Real_IP", "Content_Length", "X-Checksum"] {
        let got = send(name);
        assert!(
            got.starts_with("POST / HTTP/1.1\r\n") && got.ends_with("1\r\nA\r\n0\r\n\r\n"),
            "{name}: {got}"
        );
    }
}

/// Names that servers of CGI, WSGI and PHP take for those that say where a body ends.
#[test]
fn names_like_those_of_framing_reach_no_server() {
    let place = Place::new("hostile-names");
    let (_server, seen) = server_that_keeps(&place, b"abc");
    let config = strict_and_wide(&place, "");
    let _evenkeel = Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &config);
    for name in [
        "Content_Length: 30",
        "Content.Length: 30",
        "Transfer_Encoding: chunked",
        "transfer~encoding: chunked",
    ] {
        for (port, expect) in [(8080, 400), (8081, 200)] {
            let mut client = Connection::open(place.at(port));
            client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{name}\r\nContent-Length: 3\r\n\r\nabc"));
            assert_eq!(client.answer().map(|answer| answer.status), Some(expect), "{name} at {port}");
        }
        let got = String::from_utf8_lossy(&seen.lock().unwrap()).to_ascii_lowercase();
        assert!(!got.contains(&name[..name.len() - 4].to_ascii_lowercase()), "{name}: {got}");
    }
}
