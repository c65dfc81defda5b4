//! HTTP/1 as it is spoken: framing, pipelining, interim answers, upgrades, early answers, aborts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, get, read_head};

use crate::{service, start};

/// A service before one scripted server.
fn before(
    place: &Place,
    keys: &str,
    serve: impl Fn(TcpStream) + Send + Sync + 'static,
) -> (Evenkeel, Scripted) {
    let server = Scripted::start(place.at(9001), serve);
    let keys = format!("health-check = {{ type = \"none\" }}\n{keys}");
    (start(place, &service("web", "http", place.at(8080), &[place.at(9001)], &keys)), server)
}

/// Answers with the head and body that it got; bodies by Content-Length or until `0\r\n\r\n`.
fn mirror(mut stream: TcpStream) {
    while let Some(head) = read_head(&mut stream) {
        let lower = head.to_lowercase();
        let mut body = Vec::new();
        if let Some(at) = lower.find("content-length: ") {
            let length = lower[at + 16..].split("\r\n").next().unwrap().parse().unwrap();
            body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
        } else if lower.contains("transfer-encoding: chunked") {
            let mut byte = [0];
            while !body.ends_with(b"0\r\n\r\n") && !body.ends_with(b"T: 1\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                body.push(byte[0]);
            }
        }
        let _ =
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len() + body.len());
        let _ = stream.write_all(&body);
    }
}

#[test]
fn heads_are_rewritten_and_bodies_are_not() {
    let place = Place::new("mirror");
    let (_evenkeel, _server) =
        before(&place, "forwarded = [\"x-forwarded-for\", \"x-forwarded-proto\"]", mirror);
    let mut connection = Connection::open(place.at(8080));
    connection.send("POST /a?b HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nX-Forwarded-Proto: https\r\nContent-Length: 5\r\n\r\nhello");
    let address = connection.stream().local_addr().unwrap().ip();
    assert_eq!(
        connection.answer().unwrap().text(),
        format!(
            "POST /a?b HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nX-Forwarded-For: {address}\r\nX-Forwarded-Proto: http\r\n\r\nhello"
        )
    );
    connection.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n");
    // What comes behind the body goes no further: no look at the head sees it.
    assert!(connection.answer().unwrap().text().ends_with("\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n"));
    // The same again, one byte at a time.
    for byte in "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc".bytes() {
        connection.send([byte]);
    }
    assert!(connection.answer().unwrap().text().ends_with("\r\n\r\nabc"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let place = Place::new("pipeline");
    let (_evenkeel, server) = before(&place, "", mirror);
    let mut connection = Connection::open(place.at(8080));
    let mut all = String::new();
    for n in 0..50 {
        all.push_str(&format!("PUT /{n} HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{n:02}"));
    }
    connection.send(all);
    for n in 0..50 {
        let text = connection.answer().unwrap().text();
        assert!(text.starts_with(&format!("PUT /{n} ")) && text.ends_with(&format!("{n:02}")), "{text}");
    }
    assert_eq!(server.connections(), 1, "the server's connection is kept");
}

#[test]
fn large_bodies_pass_both_ways_unharmed() {
    let place = Place::new("large");
    let (_evenkeel, _server) = before(&place, "", mirror);
    let body: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let mut connection = Connection::open(place.at(8080));
    let mut writer = connection.stream().try_clone().unwrap();
    let sent = body.clone();
    let sender = std::thread::spawn(move || {
        write!(writer, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", sent.len()).unwrap();
        writer.write_all(&sent).unwrap();
    });
    let answer = connection.answer().unwrap();
    sender.join().unwrap();
    assert!(answer.body.ends_with(&body));
    assert_eq!(get(place.at(8080), "/").status, 200);
}

#[test]
fn bodiless_answers_end_where_they_should() {
    let place = Place::new("bodiless");
    let (_evenkeel, server) = before(&place, "", |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let _ = stream.write_all(match head.split(' ').nth(1).unwrap() {
                "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
                "/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
                "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n".as_slice(),
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            });
        }
    });
    let mut connection = Connection::open(place.at(8080));
    assert_eq!(connection.get("/304").status, 304);
    assert_eq!(connection.get("/204").status, 204);
    connection.send("HEAD /head HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = connection.answer_to("HEAD").unwrap();
    assert_eq!((head.status, head.field("content-length")), (200, Some("500")));
    assert_eq!(connection.get("/").text(), "ok");
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_answer_that_ends_with_its_connection_is_passed_so() {
    let place = Place::new("untilclose");
    let (_evenkeel, _server) = before(&place, "", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end");
    });
    let mut connection = Connection::open(place.at(8080));
    let answer = connection.get("/");
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("until the end", Some("close")));
}

#[test]
fn a_cut_answer_is_not_taken_for_a_whole_one() {
    let place = Place::new("cut");
    let (_evenkeel, _server) = before(&place, "", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    });
    let mut connection = Connection::open(place.at(8080));
    connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(connection.answer(), None);
    assert!(connection.is_closed());
}

#[test]
fn interim_answers_pass_and_continue_works() {
    let place = Place::new("continue");
    let (_evenkeel, _server) = before(&place, "", |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            assert!(head.to_lowercase().contains("expect: 100-continue"));
            let _ = stream
                .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
            let mut body = [0; 5];
            stream.read_exact(&mut body).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut connection = Connection::open(place.at(8080));
    connection.send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(connection.answer().unwrap().status, 103);
    assert_eq!(connection.answer().unwrap().status, 100);
    connection.send("hello");
    assert_eq!(connection.answer().unwrap().text(), "ok");
}

#[test]
fn an_early_answer_ends_an_upload() {
    let place = Place::new("early");
    let (_evenkeel, _server) = before(&place, "", |mut stream| {
        read_head(&mut stream);
        let _ =
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        std::thread::sleep(Duration::from_millis(300));
    });
    let mut connection = Connection::open(place.at(8080));
    connection.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000\r\n\r\nstart");
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
    assert_eq!(answer.field("connection"), Some("close"));
    connection.send("more");
    assert!(connection.is_closed());
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let place = Place::new("halfclose");
    let (_evenkeel, _server) = before(&place, "", |mut stream| {
        read_head(&mut stream);
        std::thread::sleep(Duration::from_millis(200));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let mut connection = Connection::open(place.at(8080));
    connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    connection.finish_sending();
    assert_eq!(connection.answer().unwrap().text(), "ok");
}

#[test]
fn websockets_pass_and_survive_a_configuration_change() {
    let place = Place::new("websocket");
    let echo = |mut stream: TcpStream| {
        let Some(head) = read_head(&mut stream) else { return };
        if !head.contains("Upgrade: websocket") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
            return;
        }
        assert!(head.contains("Connection: Upgrade"), "{head}");
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nwelcome",
        );
        let mut reader = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut reader, &mut stream);
    };
    let (mut evenkeel, _server) = before(&place, "", echo);
    let mut connection = Connection::open(place.at(8080));
    connection.send(
        "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")));
    while connection.rest != b"welcome" {
        assert!(connection.read_some());
    }
    connection.rest.clear();
    let talk = |connection: &mut Connection, word: &str| {
        connection.send(word);
        while connection.rest.len() < word.len() {
            assert!(connection.read_some(), "the connection ended at {word}");
        }
        let got = String::from_utf8(std::mem::take(&mut connection.rest)).unwrap();
        assert!(got.ends_with(word), "{got:?}");
    };
    talk(&mut connection, "first");
    evenkeel.commit(&place, &service("web", "http", place.at(8080), &[place.at(9009)], ""));
    talk(&mut connection, "after a change of every server");
    evenkeel.commit(&place, &service("other", "http", place.at(8081), &[place.at(9009)], ""));
    talk(&mut connection, "after the service was removed");
    let mut old = evenkeel.hand_over();
    talk(&mut connection, "after a hand-over");
    assert!(!old.has_ended());
    drop(connection);
    evenkeel_testbed::eventually("the old process ends", Duration::from_secs(10), || old.has_ended());
}

#[test]
fn an_answer_of_our_own_keeps_the_connection() {
    let place = Place::new("own-keeps");
    let _evenkeel = start(
        &place,
        &service("web", "http", place.at(8080), &[place.at(9009)], "health-check = { type = \"none\" }"),
    );
    let mut connection = Connection::open(place.at(8080));
    for _ in 0..3 {
        let answer = connection.get("/");
        assert_eq!((answer.status, answer.field("connection")), (503, None));
    }
    connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    assert_eq!(connection.answer().unwrap().field("connection"), Some("close"), "the rest never came");
}

#[test]
fn clients_cannot_say_what_the_load_balancer_says() {
    let place = Place::new("forged");
    let keys = "forwarded = [\"x-forwarded-for\", \"x-forwarded-proto\", \"x-forwarded-host\", \"x-real-ip\", \"forwarded\"]";
    let (_evenkeel, _server) = before(&place, keys, mirror);
    let mut connection = Connection::open(place.at(8080));
    let names =
        ["X-Real-IP", "X_Real_IP", "X_Forwarded_For", "X_Forwarded-Host", "X_FORWARDED_PROTO", "Forwarded"];
    let fields: String = names.iter().map(|name| format!("{name}: forged\r\n")).collect();
    connection.send(format!("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{fields}\r\n"));
    let text = connection.answer().unwrap().text();
    assert!(text.contains("X-Real-IP: 127.0.0.1") && !text.contains("forged"), "{text}");
    assert!(!text.contains("Expect"), "{text}");
}

#[test]
fn an_upgrade_may_come_with_an_interim_answer() {
    let place = Place::new("interim101");
    let (_evenkeel, _server) = before(&place, "", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello",
        );
        std::thread::sleep(Duration::from_millis(300));
    });
    let mut connection = Connection::open(place.at(8080));
    connection.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(connection.answer().unwrap().status, 103);
    assert_eq!(connection.answer().unwrap().status, 101);
    while connection.rest != b"hello" {
        assert!(connection.read_some());
    }
}

#[test]
fn an_upgrade_that_is_refused_is_an_ordinary_answer() {
    let place = Place::new("noupgrade");
    let (_evenkeel, _server) = before(&place, "", |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let body = if head.starts_with("GET /second") { "second" } else { "first" };
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    let mut connection = Connection::open(place.at(8080));
    // What follows the head is held back until a 101: here it is the next request.
    connection.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /second HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(connection.answer().unwrap().text(), "first");
    assert_eq!(connection.answer().unwrap().text(), "second");
}

#[test]
fn a_101_that_nobody_asked_for_is_refused() {
    let place = Place::new("forced101");
    let (_evenkeel, _server) = before(&place, "", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    });
    assert_eq!(get(place.at(8080), "/").status, 502);
}

#[test]
fn bytes_behind_an_answer_poison_no_other_request() {
    let place = Place::new("poison");
    let (_evenkeel, server) = before(&place, "", |mut stream| {
        while read_head(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        }
    });
    for _ in 0..3 {
        assert_eq!(get(place.at(8080), "/").text(), "ok");
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn old_clients_are_served() {
    let place = Place::new("http10");
    let (_evenkeel, _server) = before(&place, "", mirror);
    let mut connection = Connection::open(place.at(8080));
    connection.send("GET / HTTP/1.0\r\n\r\n");
    let answer = connection.answer().unwrap();
    assert!(answer.text().starts_with("GET / HTTP/1.1\r\nHost: "), "{}", answer.text());
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(connection.is_closed());
    let mut connection = Connection::open(place.at(8080));
    for _ in 0..2 {
        connection.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(connection.answer().unwrap().field("connection"), Some("keep-alive"));
    }
}

/// Every way in which this program answers itself, whatever the client speaks.
#[test]
fn answers_of_our_own_keep_the_connection() {
    let place = Place::new("own-kept");
    let _server = Scripted::start(place.at(9001), mirror);
    let way =
        |path: &str, does: &str| format!("[[virtual-service.route]]\nwhen = 'path(\"{path}\")'\n{does}\n");
    let routes: String = [
        ("/deny", "deny = { status = 403 }"),
        ("/answer", "answer = { status = 200, body = \"hi\" }"),
        ("/redirect", "redirect = { location = \"/x\" }"),
        ("/password", "basic-auth = { realm = \"r\", accounts = { a = \"plain:b\" } }"),
        ("/slowly", "tarpit = { delay = \"10ms\", status = 500 }"),
        ("/often", "rate-limit = { rate = \"1/1h\" }"),
        ("/dead", "pool = \"dead\""),
        ("/refuses", "pool = \"refuses\""),
    ]
    .iter()
    .map(|(path, does)| way(path, does))
    .collect();
    let answers = "[[virtual-service.answer-route]]\nwhen = 'path(\"/taken\")'\ndeny = { status = 502 }\n[[virtual-service.answer-route]]\nwhen = 'path(\"/moved\")'\nredirect = { location = \"/y\" }\n";
    let text = format!(
        "[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\npool = \"ok\"\nfallback = {{ body = \"down\" }}\n{routes}{answers}[[pool]]\nname = \"ok\"\n[[pool.real-server]]\nname = \"s1\"\naddress = \"{}\"\n[[pool]]\nname = \"dead\"\n[[pool.real-server]]\nname = \"halted\"\naddress = \"{}\"\nadmin-state = \"halted\"\n[[pool]]\nname = \"refuses\"\nhealth-check = {{ type = \"none\" }}\n[[pool.real-server]]\nname = \"nobody\"\naddress = \"{}\"\n",
        place.at(8080),
        place.at(9001),
        place.at(9002),
        place.at(9003),
    );
    let _evenkeel = start(&place, &text);
    for (version, says) in [("1.0", Some("keep-alive")), ("1.1", None)] {
        for (path, status) in [
            ("/deny", 403),
            ("/answer", 200),
            ("/redirect", 302),
            ("/password", 401),
            ("/slowly", 500),
            ("/often", 429),
            ("/dead", 503),
            ("/refuses", 503),
            ("/taken", 502),
            ("/moved", 302),
        ] {
            let mut connection = Connection::open(place.at(8080));
            let ask = format!("GET {path} HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
            if path == "/often" {
                connection.send(&ask);
                connection.answer();
            }
            connection.send(&ask);
            let answer = connection.answer().unwrap_or_else(|| panic!("{path} of {version}"));
            assert_eq!((answer.status, answer.field("connection")), (status, says), "{path} of {version}");
            connection.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
            assert_eq!(connection.answer().map(|a| a.status), Some(200), "{path} of {version}");
        }
    }
}

#[test]
fn an_old_client_gets_the_chunks_taken_off() {
    let place = Place::new("oldchunks");
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let _server = Scripted::answering(place.at(9001), answer);
    let _evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], ""));
    let mut connection = Connection::open(place.at(8080));
    connection.send("GET / HTTP/1.0\r\n\r\n");
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.field("transfer-encoding"), None);
    assert_eq!(get(place.at(8080), "/").text(), "ok");
}

#[test]
fn a_client_that_goes_away_frees_its_place_on_the_server() {
    let place = Place::new("abort");
    let (evenkeel, _server) = before(&place, "", |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("GET /slow") {
                std::thread::sleep(Duration::from_secs(5));
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut connection = Connection::open(place.at(8080));
    connection.get("/");
    connection.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    evenkeel_testbed::eventually("the request is on the server", Duration::from_secs(2), || {
        evenkeel.server("web", "s1")["current-connections"] == 1
    });
    rustix::net::sockopt::set_socket_linger(connection.stream(), Some(Duration::ZERO)).unwrap();
    drop(connection);
    evenkeel_testbed::eventually("its place is free", Duration::from_secs(2), || {
        evenkeel.server("web", "s1")["current-connections"] == 0
    });
}

#[test]
fn kept_connections_that_the_server_closed_cost_nothing() {
    let place = Place::new("stale");
    let (_evenkeel, server) = before(&place, "", |mut stream| {
        // One answer a connection, without saying so.
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let mut connection = Connection::open(place.at(8080));
    for _ in 0..20 {
        assert_eq!(connection.get("/").text(), "ok");
        connection.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(connection.answer().unwrap().status, 200);
    }
    assert!(server.connections() >= 40);
}

#[test]
fn a_server_that_says_nonsense_is_a_bad_gateway() {
    let place = Place::new("nonsense");
    let (sender, receiver) = channel::<Vec<u8>>();
    let receiver = std::sync::Mutex::new(receiver);
    let (_evenkeel, _server) = before(&place, "timeouts = { server = \"300ms\" }", move |mut stream| {
        read_head(&mut stream);
        let bytes = receiver.lock().unwrap().recv().unwrap();
        let _ = stream.write_all(&bytes);
        if bytes.is_empty() {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let check = |answer: &str, status: u16| {
        sender.send(answer.as_bytes().to_vec()).unwrap();
        let mut connection = Connection::open(place.at(8080));
        let mut last = connection.get("/");
        while last.status == 100 {
            last = connection.answer().unwrap();
        }
        assert_eq!(last.status, status, "{answer:?}");
    };
    check("SSH-2.0-OpenSSH\r\n\r\n", 502);
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 502);
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502);
    check("HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n", 502);
    check(&format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(20_000)), 502);
    check(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(40), 502);
    check("HTTP/1.1 200 OK\r\n", 502);
    check("", 504);
}

/// Identity that a server keeps for a connection (NTLM) must never reach another client.
#[test]
fn connections_on_which_a_client_was_named_are_its_own() {
    let place = Place::new("named-connections");
    // Asks who it is, in two steps, and remembers the name for the connection, as IIS does.
    let serve = |name: &'static str| {
        move |mut stream: std::net::TcpStream| {
            let (mut known, mut challenged) = (String::from("nobody"), false);
            while let Some(head) = read_head(&mut stream) {
                let given = head.lines().find_map(|l| l.strip_prefix("Authorization: NTLM "));
                let challenge = match given {
                    Some("hello") => {
                        challenged = true;
                        Some("NTLM challenge")
                    }
                    Some(who) if challenged => {
                        known = who.to_owned();
                        None
                    }
                    _ if known == "nobody" && head.contains("/private") => Some("NTLM"),
                    _ => None,
                };
                let (status, field) = match challenge {
                    Some(text) => ("401 Unauthorized", format!("WWW-Authenticate: {text}\r\n")),
                    None => ("200 OK", String::new()),
                };
                let body = format!("{name} {known}");
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\n{field}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        }
    };
    let servers =
        [Scripted::start(place.at(9001), serve("s1")), Scripted::start(place.at(9002), serve("s2"))];
    let config = service(
        "web",
        "http",
        place.at(8080),
        &[place.at(9001), place.at(9002)],
        "health-check = { type = \"none\" }",
    ) + &service(
        "own",
        "http",
        place.at(8081),
        &[place.at(9001)],
        "health-check = { type = \"none\" }\nconnection-reuse = \"client\"",
    );
    let _evenkeel = start(&place, &config);
    let ask = |connection: &mut Connection, path: &str, method: &str, who: &str| {
        let field = if who.is_empty() { String::new() } else { format!("Authorization: NTLM {who}\r\n") };
        connection
            .send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n{field}\r\n"));
        let answer = connection.answer_to(method).expect("an answer");
        (answer.status, answer.text())
    };
    for round in 0..8 {
        let mut connection = Connection::open(place.at(8080));
        assert_eq!(ask(&mut connection, "/private", "GET", "").0, 401);
        assert_eq!(ask(&mut connection, "/private", "GET", "hello").0, 401);
        let me = format!("user{round}");
        let (status, body) = ask(&mut connection, "/private", "POST", &me);
        assert_eq!(status, 200, "the answer to the challenge goes where the challenge came from");
        let server = body.split(' ').next().unwrap().to_owned();
        for method in ["GET", "POST", "GET"] {
            let now = ask(&mut connection, "/private", method, "");
            assert_eq!(now, (200, format!("{server} {me}")), "the same server knows it still");
            // Others, at the same time and afterwards, are nobody.
            let (_, other) = ask(&mut Connection::open(place.at(8080)), "/", "GET", "");
            assert!(other.ends_with(" nobody"), "{other}");
        }
    }
    for _ in 0..20 {
        assert!(get(place.at(8080), "/").text().ends_with(" nobody"));
    }
    // Where it is wanted, every client has its own connections.
    let before = servers[0].connections();
    for _ in 0..3 {
        let mut connection = Connection::open(place.at(8081));
        (0..4).for_each(|_| assert_eq!(connection.get("/").status, 200));
    }
    assert_eq!(servers[0].connections() - before, 3);
}

/// What must not be sent twice goes over the connection that the same client's last request went over, and opens
/// none beside it.
#[test]
fn a_post_goes_where_its_clients_last_request_went() {
    let place = Place::new("own-connection");
    let (_evenkeel, server) = before(&place, "", mirror);
    let mut connection = Connection::open(place.at(8080));
    // The server has kept it open once.
    (0..2).for_each(|_| drop(connection.get("/")));
    for number in 0..5 {
        let request = format!("POST /{number} HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab");
        connection.send(&request);
        assert!(connection.answer().unwrap().text().starts_with(&format!("POST /{number} ")));
    }
    assert_eq!(server.connections(), 1);
}

/// The body behind the answer to a HEAD that goes on as GET is taken off, and the connection is kept.
#[test]
fn a_head_that_goes_on_as_get_keeps_its_connection() {
    let place = Place::new("hidden-body");
    let server = |mut stream: TcpStream| {
        while let Some(head) = read_head(&mut stream) {
            let body = "x".repeat(100_000);
            let sent = match head.contains("/chunks") {
                true => write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n"
                ),
                false => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{body}"),
            };
            if sent.is_err() {
                return;
            }
        }
    };
    let keys = "route = [{ rewrite-method = \"GET\" }]";
    let (_evenkeel, server) = before(&place, keys, server);
    let mut connection = Connection::open(place.at(8080));
    for path in ["/a", "/chunks", "/b", "/chunks"] {
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let answer = connection.answer_to("HEAD").unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{path}");
    }
    connection.send("GET /end HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(connection.answer().unwrap().text().len(), 100_000);
    assert_eq!(server.connections(), 1);
}
