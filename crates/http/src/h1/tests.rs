use proptest::prelude::*;

use super::field::{find_cookie, write_without};
use super::request::{Edits, Method, Request};
use super::response::{self, Response};
use super::*;

fn parse(head: &str) -> Result<Request, Malformed> {
    let mut request = Request::default();
    match request.parse(head.as_bytes())? {
        true => Ok(request),
        false => panic!("{head:?} is incomplete"),
    }
}

/// A request line and fields of HTTP/1.1 with a host.
fn with(fields: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

#[test]
fn framing_of_requests() {
    let check = |fields: &str, expect: Result<Framing, Malformed>| {
        assert_eq!(parse(&with(fields)).map(|r| r.framing), expect, "{fields:?}");
    };
    use Malformed::*;
    check("", Ok(Framing::None));
    check("Content-Length: 5\r\n", Ok(Framing::Length(5)));
    check("Content-Length:5\r\n", Ok(Framing::Length(5)));
    check("Content-Length: \t5 \r\n", Ok(Framing::Length(5)));
    check("content-length: 0\r\n", Ok(Framing::None));
    check("Content-Length: 5\r\ncontent-length: 5\r\n", Ok(Framing::Length(5)));
    check("Content-Length: 5\r\nContent-Length: 6\r\n", Err(ContentLength));
    for bad in [
        "",
        "5,",
        "5, 5",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "9223372036854775808",
        "99999999999999999999",
        "5;",
        "\u{665}",
    ] {
        check(&format!("Content-Length: {bad}\r\n"), Err(ContentLength));
    }
    check("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked));
    check("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked));
    check("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(ConflictingFraming));
    check("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(ConflictingFraming));
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(TransferEncoding));
    check("Transfer-Encoding: gzip, chunked\r\n", Err(UnknownCoding));
    check("Transfer-Encoding: chunked, gzip, chunked\r\n", Err(TransferEncoding));
    check("Transfer-Encoding: chunked, chunked\r\n", Err(TransferEncoding));
    for bad in [
        "xchunked",
        "chunked, gzip",
        "chunked, identity",
        "identity",
        "",
        ",chunked",
        "\"chunked\"",
        "chunked;q=1",
        "chu nked",
        "gzip",
    ] {
        check(&format!("Transfer-Encoding: {bad}\r\n"), Err(TransferEncoding));
    }
    check("Transfer-Encoding:\u{b}chunked\r\n", Err(Field));
    check("Transfer-Encoding: \r\n chunked\r\n", Err(Field));
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(parse(old).map(|r| r.framing), Err(TransferEncoding));
}

#[test]
fn what_a_head_may_not_be() {
    let check = |head: &str, expect: Malformed| {
        assert_eq!(parse(head).map(|_| ()), Err(expect), "{head:?}");
    };
    use Malformed::*;
    check(&with("A : b\r\n"), Field);
    check(&with(" A: b\r\n"), Field);
    check(&with("A: b\r\n c\r\n"), Field);
    check(&with(": b\r\n"), Field);
    check(&with("A\r\n"), Field);
    check(&with("A: b\0c\r\n"), Field);
    check(&with("A: b\rc\r\n"), Field);
    check(&with("A: b\u{1}c\r\n"), Field);
    check(&with("A: b\u{7f}c\r\n"), Field);
    check(&with("A\0: b\r\n"), Field);
    check(&with("A: b\n"), LineEnding);
    check("GET / HTTP/1.1\nHost: h\r\n\r\n", LineEnding);
    check("GET / HTTP/1.1\r\nHost: h\n\r\n", LineEnding);
    check("GET / HTTP/1.1\r\nHost: h\r\n\n", LineEnding);
    check("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine);
    check("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine);
    check("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine);
    check("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine);
    check("GET / HTTP/2.0\r\nHost: h\r\n\r\n", Version);
    check("GET / HTTP/1.2\r\nHost: h\r\n\r\n", Version);
    check("GET / http/1.1\r\nHost: h\r\n\r\n", RequestLine);
    check("GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n", Target);
    check("GET /#a HTTP/1.1\r\nHost: h\r\n\r\n", Target);
    check("GET a HTTP/1.1\r\nHost: h\r\n\r\n", Target);
    check("GET * HTTP/1.1\r\nHost: h\r\n\r\n", Target);
    check("GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", Target);
    check("GET http://h@x/ HTTP/1.1\r\nHost: h\r\n\r\n", Target);
    check("GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n", Target);
    check("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", Target);
    check("GET / HTTP/1.1\r\n\r\n", MissingHost);
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Host);
    for bad in ["a,b", "a@b", "a b", "a/b", "a:b", "a:999999", ":80", "[::1", "a\"", "a<b", "a\\b"] {
        check(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n"), Host);
    }
    check("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", Method);
    check(&with(&"A: b\r\n".repeat(200)), TooManyFields);
    for noise in ["\u{16}\u{3}\u{1}", "\0", "\r\n\r\n", " GET"] {
        assert!(Request::default().parse(noise.as_bytes()).is_err(), "{noise:?} is waited for");
    }
}

#[test]
fn heads_for_the_real_server() {
    let check = |head: &str, edits: Edits<'_>, expect: &str| {
        let mut out = Vec::new();
        parse(head).unwrap().write(head.as_bytes(), &edits, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    };
    check(
        "GET /a?b HTTP/1.1\r\nHost: h\r\nA:b\r\n\r\n",
        Edits::default(),
        "GET /a?b HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
    );
    check(
        "\r\nGET http://h HTTP/1.1\r\nHost: h\r\n\r\n",
        Edits::default(),
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    check(
        "OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n",
        Edits::default(),
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    check(
        "GET http://h/x HTTP/1.1\r\nHost: H\r\n\r\n",
        Edits::default(),
        "GET /x HTTP/1.1\r\nHost: H\r\n\r\n",
    );
    check(
        "GET / HTTP/1.0\r\n\r\n",
        Edits { default_host: "s", ..Edits::default() },
        "GET / HTTP/1.1\r\nHost: s\r\n\r\n",
    );
    check(
        "GET / HTTP/1.0\r\n\r\n",
        Edits { version_10: true, ..Edits::default() },
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    );
    check(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close, Cookie, X-Forwarded-For, Foo\r\nCookie: a=b\r\nX-Forwarded-For: 1\r\nFoo: 2\r\nTE: trailers\r\nKeep-Alive: 5\r\n\r\n",
        Edits { forwarded_for: Some("9.9.9.9"), ..Edits::default() },
        "GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\nX-Forwarded-For: 1\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
    );
    check(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\n\r\n",
        Edits { forwarded_proto: Some("http"), ..Edits::default() },
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: http\r\n\r\n",
    );
    check(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        Edits::default(),
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    );
    for (fields, what) in [
        (
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
            "h2c is not passed on",
        ),
        ("Upgrade: websocket\r\n", "an upgrade needs Connection"),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut out = Vec::new();
        let request = parse(&head).unwrap();
        request.write(head.as_bytes(), &Edits::default(), &mut out);
        assert_eq!(out, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "{what}");
        assert!(!request.upgrade);
    }
    check(
        "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n",
        Edits::default(),
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    let expects = "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    check(expects, Edits::default(), expects);
    check(
        "GET / HTTP/1.1\r\nHost: h\r\nX_Forwarded-For: 1\r\nx-forwarded_proto: https\r\nX_Forwarded_For: 2\r\nX.Forwarded.For: 3\r\nx~forwarded+proto: 4\r\n\r\n",
        Edits { forwarded_for: Some("9.9.9.9"), forwarded_proto: Some("http"), ..Edits::default() },
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: http\r\n\r\n",
    );
    let hide = || Edits { hide_cookie: Some(b"S"), ..Edits::default() };
    let cookies = |value: &str| format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {value}\r\n\r\n");
    check(&cookies("a=1; S=x; b=2"), hide(), &cookies("a=1; b=2"));
    check(&cookies("S=x; b=2"), hide(), &cookies("b=2"));
    check(&cookies("a=1; S=x"), hide(), &cookies("a=1"));
    check(&cookies("S=x"), hide(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    check(&cookies("SS=x; a"), hide(), &cookies("SS=x; a"));
}

#[test]
fn cookies() {
    let check = |value: &str, expect: Option<&str>| {
        let found = find_cookie(value.as_bytes(), b"S").map(|v| std::str::from_utf8(v).unwrap());
        assert_eq!(found, expect, "{value:?}");
    };
    check("S=a", Some("a"));
    check("x=1;S=a;y", Some("a"));
    check("x=1; S=\"a\"", Some("a"));
    check("XS=a; SS=c", None);
    check("XS=a; S =b; SS=c", Some("b"));
    check("S=", Some(""));
    check("", None);
    check(";;;=;", None);
    let without = |value: &str| {
        let mut out = Vec::new();
        let left = write_without(value.as_bytes(), b"S", false, &mut out);
        assert_eq!(left, !out.is_empty());
        String::from_utf8(out).unwrap()
    };
    assert_eq!(without("a=1 ;  S=2 ; b=3"), "a=1; b=3");
    assert_eq!(without("XS=a; S =b; SS=c"), "XS=a; SS=c", "what is found is taken out");
    assert_eq!(without("S=1; S=2;S=3"), "", "every cookie of the name is taken out");
}

fn respond(head: &str, method: request::Method) -> Result<Response, Malformed> {
    let mut response = Response::default();
    match response.parse(head.as_bytes(), method)? {
        true => Ok(response),
        false => panic!("{head:?} is incomplete"),
    }
}

#[test]
fn framing_of_responses() {
    use request::Method::{Get, Head};
    let check = |status: &str, fields: &str, method, expect: Result<(Framing, bool), Malformed>| {
        let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        assert_eq!(respond(&head, method).map(|r| (r.framing, r.keep_alive)), expect, "{head:?}");
    };
    check("200 OK", "Content-Length: 5\r\n", Get, Ok((Framing::Length(5), true)));
    check("200", "Content-Length: 5\r\nConnection: close\r\n", Get, Ok((Framing::Length(5), false)));
    check("200 OK", "Content-Length: 5\r\n", Head, Ok((Framing::None, true)));
    check("304 Not Modified", "Content-Length: 5\r\n", Get, Ok((Framing::None, true)));
    check("204 No Content", "", Get, Ok((Framing::None, true)));
    check("200 OK", "", Get, Ok((Framing::UntilClose, false)));
    check("200 OK", "Transfer-Encoding: chunked\r\n", Get, Ok((Framing::Chunked, true)));
    check(
        "200 OK",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        Get,
        Err(Malformed::ConflictingFraming),
    );
    check("200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n", Get, Err(Malformed::ContentLength));
    check("200 OK", "Transfer-Encoding: gzip\r\n", Get, Err(Malformed::TransferEncoding));
    check("099 No", "", Get, Err(Malformed::StatusLine));
    check("600 No", "", Get, Err(Malformed::StatusLine));
    check("200 OK", "A: b\n", Get, Err(Malformed::LineEnding));
    assert_eq!(
        respond("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Get).map(|_| ()),
        Err(Malformed::TransferEncoding)
    );
    assert!(respond("HTTP/2 200 OK\r\n\r\n", Get).is_err());
    let old = respond("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", Get).unwrap();
    assert!(old.keep_alive);
}

#[test]
fn heads_for_the_client() {
    let head = "HTTP/1.0 200 Fine\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nCache-Control: public\r\nContent-Length: 1\r\nContent-Length: 1\r\nSet-Cookie: a=b\r\n\r\n";
    let edits = response::Edits {
        connection: Some("close"),
        set_cookie: Some("S=1; path=/"),
        private: true,
        ..response::Edits::default()
    };
    let mut out = Vec::new();
    respond(head, request::Method::Get).unwrap().write(head.as_bytes(), &edits, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200 Fine\r\nContent-Length: 1\r\nSet-Cookie: a=b\r\nset-cookie: S=1; path=/\r\ncache-control: private\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn answers_without_a_body_frame_none() {
    for status in ["100 Continue", "103 Early Hints", "204 No Content"] {
        let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n");
        let mut out = Vec::new();
        let answer = respond(&head, request::Method::Get).unwrap();
        answer.write(head.as_bytes(), &response::Edits::default(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 {status}\r\nA: b\r\n\r\n"));
    }
}

#[test]
fn trailers_are_found_and_chunks_taken_off() {
    let text = b"5;x=y\r\nhello\r\n3\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\nGET";
    for piece in 1..text.len() {
        let (mut chunked, mut without) = (Chunked::default(), Vec::new());
        let (mut taker, mut data) = (Chunked::default(), Vec::new());
        for part in text.chunks(piece) {
            let taken = chunked.feed(part).unwrap();
            let trailers = chunked.trailers();
            without.extend_from_slice(&part[..trailers.start]);
            without.extend_from_slice(&part[trailers.end..taken]);
            let mut part = part.to_vec();
            let (also_taken, kept) = taker.extract(&mut part).unwrap();
            assert_eq!(also_taken, taken);
            data.extend_from_slice(&part[..kept]);
        }
        assert!(chunked.is_complete() && taker.is_complete());
        assert_eq!(without, b"5;x=y\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n", "in pieces of {piece}");
        assert_eq!(data, b"helloabc", "in pieces of {piece}");
    }
}

#[test]
fn chunked_bodies() {
    let check = |body: &str, expect: Result<usize, Malformed>| {
        for piece in [1, 2, 3, 7, body.len().max(1)] {
            let mut chunked = Chunked::default();
            let mut taken = 0;
            let mut result = Ok(());
            for part in body.as_bytes().chunks(piece) {
                match chunked.feed(part) {
                    Ok(count) => taken += count,
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
                if chunked.is_complete() {
                    break;
                }
            }
            let got = result.map(|()| if chunked.is_complete() { taken } else { usize::MAX });
            assert_eq!(got, expect, "{body:?} in pieces of {piece}");
        }
    };
    use Malformed::*;
    let unfinished = Ok(usize::MAX);
    check("0\r\n\r\n", Ok(5));
    check("5\r\nhello\r\n0\r\n\r\nGET", Ok(15));
    check("5;a=b\r\nhello\r\n00\r\nX: y\r\n\r\n", Ok(26));
    check("A\r\n0123456789\r\n0\r\n\r\n", Ok(20));
    check("5\r\nhello\r\n", unfinished);
    check("5\r\nhello\r\n0\r\n", unfinished);
    for bad in [
        "\r\n",
        "+5\r\n",
        "-5\r\n",
        "0x5\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\n",
        "g\r\n",
        "5\rx",
        "10000000000000000\r\n",
        "8000000000000000\r\n",
        "0000000000000000\r\n",
    ] {
        check(bad, Err(ChunkSize));
    }
    check("5\r\nhelloX", Err(Chunk));
    check("5\r\nhello\n0\r\n\r\n", Err(Chunk));
    check("5\r\nhello\rX", Err(Chunk));
    check("5;a\nb\r\n", Err(ChunkExtension));
    check("5;\0\r\n", Err(ChunkExtension));
    check(&format!("5;{}\r\n", "a".repeat(300)), Err(ChunkExtension));
    check(&"1;abcdefgh\r\nx\r\n".repeat(100), Err(ChunkExtension));
    for bad in [
        "Content-Length: 5",
        "transfer-encoding: chunked",
        "Host: x",
        "Connection: close",
        "Cookie: a",
        " a: b",
        "a b: c",
        "a",
        ": b",
        "a: b\0",
        "a: b\rc",
    ] {
        check(&format!("0\r\n{bad}\r\n\r\n"), Err(Trailer));
    }
    check(&format!("0\r\nA: {}\r\n\r\n", "x".repeat(5000)), Err(Trailer));
    check("0\r\n\n", Err(Trailer));
}

proptest! {
    #[test]
    fn noise_never_panics_and_never_grows(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut request = Request::default();
        if let Ok(true) = request.parse(&bytes) {
            let mut out = Vec::new();
            request.write(&bytes, &Edits::default(), &mut out);
            prop_assert!(out.len() <= bytes.len() * 2 + 64);
        }
        let _ = Response::default().parse(&bytes, request::Method::Get);
        let mut chunked = Chunked::default();
        if let Ok(count) = chunked.feed(&bytes) {
            prop_assert!(count <= bytes.len());
        }
        find_cookie(&bytes, b"S");
    }

    /// What is sent on reads back as the same request: no origin can see another one.
    #[test]
    fn a_forwarded_head_means_the_same(
        method in "(GET|POST|PUT|PATCH|OPTIONS)",
        target in "/[a-z0-9/?=%.;]{0,20}",
        fields in proptest::collection::vec(("[A-Za-z-]{1,12}", "[ -~]{0,20}"), 0..8),
        length in proptest::option::of(0u64..1000),
    ) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: example.org\r\n");
        for (name, value) in &fields {
            head.push_str(&format!("{name}:{value}\r\n"));
        }
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let mut request = Request::default();
        if let Ok(true) = request.parse(head.as_bytes()) {
            let mut out = Vec::new();
            request.write(head.as_bytes(), &Edits::default(), &mut out);
            let mut again = Request::default();
            prop_assert_eq!(again.parse(&out), Ok(true));
            prop_assert_eq!(again.framing, request.framing);
            prop_assert_eq!(again.path(&out), request.path(head.as_bytes()));
            prop_assert_eq!(again.head_len, out.len());
        }
    }
}

#[test]
fn heads_longer_than_any_may_be_are_refused() {
    let field = format!("X-A: {}\r\n", "y".repeat(HEAD_AT_MOST / 99));
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", field.repeat(100));
    assert!(long.len() > HEAD_AT_MOST);
    assert_eq!(Request::default().parse(long.as_bytes()), Err(Malformed::TooManyFields));
    let long = format!("HTTP/1.1 200 OK\r\n{}\r\n", field.repeat(100));
    assert_eq!(Response::default().parse(long.as_bytes(), Method::Get), Err(Malformed::TooManyFields));
}

/// What an answer's head becomes with these edits.
fn rewritten(head: &str, edits: &response::Edits<'_>) -> String {
    let mut out = Vec::new();
    respond(head, request::Method::Get).unwrap().write(head.as_bytes(), edits, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn cookies_of_answers() {
    let head = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: S=v; Path=/; Secure\r\nX: y\r\n\r\n";
    let answer = respond(head, request::Method::Get).unwrap();
    assert_eq!(answer.sets_cookie(head.as_bytes(), b"S"), Some(&b"v"[..]));
    assert_eq!(answer.sets_cookie(head.as_bytes(), b"s"), None);
    for (edit, line) in [
        (response::CookieEdit::Drop, ""),
        (response::CookieEdit::Value(b"new"), "Set-Cookie: S=new; Path=/; Secure\r\n"),
        (response::CookieEdit::Prefix(b"one"), "Set-Cookie: S=one~v; Path=/; Secure\r\n"),
    ] {
        let edits = response::Edits { cookie: Some((b"S", edit)), ..response::Edits::default() };
        let expect = format!("HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n{line}X: y\r\n\r\n");
        assert_eq!(rewritten(head, &edits), expect);
    }
}

#[test]
fn answers_are_rewritten() {
    let head = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 0\r\nUpgrade: h2c\r\n\r\n";
    let no_server = |name: &[u8]| name.eq_ignore_ascii_case(b"server") || name == b"Content-Length";
    let edits = response::Edits {
        status: Some((404, "Not Found")),
        drops: Some(&no_server),
        lines: b"A: b\r\n",
        ..response::Edits::default()
    };
    assert_eq!(rewritten(head, &edits), "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nA: b\r\n\r\n");
    let switching = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(
        rewritten(switching, &response::Edits::default()),
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
}

#[test]
fn requests_keep_a_host_and_lose_prefixes_of_cookies() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nCookie: S=one~v; a=b\r\n\r\n";
    let request = parse(head).unwrap();
    assert_eq!(request.cookie(head.as_bytes(), b"S"), Some(&b"one~v"[..]));
    let write = |edits: &Edits<'_>| {
        let mut out = Vec::new();
        request.write(head.as_bytes(), edits, &mut out);
        String::from_utf8(out).unwrap()
    };
    let stripped = Edits { strip_cookie: Some(b"S"), ..Edits::default() };
    assert_eq!(write(&stripped), "GET / HTTP/1.1\r\nHost: h\r\nCookie: S=v; a=b\r\n\r\n");
    let host = |name: &[u8]| name == b"Host" || name == b"Cookie";
    let dropped = Edits { drops: Some(&host), ..Edits::default() };
    assert_eq!(write(&dropped), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let replaced = Edits { lines: b"Host: other\r\n", ..dropped };
    assert_eq!(write(&replaced), "GET / HTTP/1.1\r\nHost: other\r\n\r\n");
}

#[test]
fn bodies_are_followed_to_their_end() {
    let mut length = Body::new(Framing::Length(5));
    assert_eq!((length.feed(b"123").unwrap(), length.is_complete()), (3, false));
    assert_eq!((length.feed(b"4567").unwrap(), length.is_complete()), (2, true));
    assert!(length.trailers().is_empty() && Body::new(Framing::None).is_complete());
    let mut chunked = Body::new(Framing::Chunked);
    let text = b"1\r\na\r\n0\r\nA: b\r\n\r\nnext";
    assert_eq!((chunked.feed(text).unwrap(), chunked.is_complete()), (17, true));
    assert_eq!(&text[chunked.trailers()], b"A: b\r\n");
    let mut endless = Body::new(Framing::UntilClose);
    assert_eq!((endless.feed(b"all").unwrap(), endless.is_complete()), (3, false));
}

#[test]
fn hosts() {
    for (host, good) in [
        ("", true),
        ("a.example", true),
        ("a.example:80", true),
        ("[::1]", true),
        ("[::1]:80", true),
        ("[::1", false),
        ("[::1]x", false),
        (":80", false),
        ("a:b", false),
        ("a:123456", false),
        ("a b", false),
        ("a/b", false),
    ] {
        let read = parse(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(read.map(|_| ()).map_err(|e| e.status()), if good { Ok(()) } else { Err(400) }, "{host}");
    }
    for (head, status) in [
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ] {
        assert_eq!(parse(head).map(|_| ()).map_err(|e| e.status()), Err(status), "{head}");
    }
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(FIELDS));
    assert_eq!(parse(&many).map(|_| ()).map_err(|e| e.status()), Err(431));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(FIELDS + 1));
    assert_eq!(respond(&many, request::Method::Get).map(|_| ()), Err(Malformed::TooManyFields));
}

#[test]
fn heads_that_are_taken_where_wide_ones_are() {
    let wide = |head: &str| {
        let mut request = Request::default();
        let whole = {
            request.wide = true;
            request.parse(head.as_bytes())
        };
        whole.map(|_| request)
    };
    let go_on = |head: &str| {
        let request = wide(head).unwrap_or_else(|e| panic!("{head:?}: {e:?}"));
        let mut out = Vec::new();
        let edits = Edits { keeps_authority: true, ..Edits::default() };
        request.write(head.as_bytes(), &edits, &mut out);
        String::from_utf8(out).unwrap()
    };
    for (head, expect) in [
        ("GET /a HTTP/1.1\r\n\r\n", "GET /a HTTP/1.1\r\n\r\n"),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", "GET * HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n", "GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("GET http://h HTTP/1.1\r\nHost: h:80\r\n\r\n", "GET http://h HTTP/1.1\r\nHost: h:80\r\n\r\n"),
        ("GET foo://u:p@h/a HTTP/1.1\r\nHost: h\r\n\r\n", "GET foo://u:p@h/a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("GET  /a   HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        (
            "GET /a HTTP/1.1\r\nHost: h\r\nTE: gzip, Trailers\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n",
        ),
        ("GET /a HTTP/1.1\r\nHost: h\r\nTE: gzip\r\n\r\n", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nTE: trailers;q=0.5\r\n\r\n", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        assert_eq!(go_on(head), expect);
    }
    let both = wide("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(both.is_ok_and(|r| !r.keep_alive && r.framing == Framing::Chunked));
    for head in [
        "GET http://h/a HTTP/1.1\r\nHost: other\r\n\r\n",
        "GET http://h:443/a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
        "GET 1x://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        assert!(wide(head).is_err(), "{head:?}");
    }
    for head in [
        "GET /a HTTP/1.1\r\n\r\n",
        "GET  /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET foo://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        assert!(wide(head).is_ok() && Request::default().parse(head.as_bytes()).is_err(), "{head:?}");
    }
}
