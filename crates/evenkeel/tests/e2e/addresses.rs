//! Who the client is, kept on the way: PROXY protocol, ports, source addresses.

use std::io::{Read, Write};
use std::time::Duration;

use evenkeel_testbed::{Connection, Place, Scripted, get, haproxy, read_head, require};

use crate::{service, start};

/// Tells the first bytes of each connection up to an empty line, and the head after a header.
fn showing(place: &Place, port: u16) -> Scripted {
    Scripted::start(place.at(port), |mut stream| {
        let Ok(peer) = stream.peer_addr() else { return };
        while let Some(head) = read_head(&mut stream) {
            let body = format!("{peer} {head}");
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    })
}

#[test]
fn proxy_headers_are_believed_from_those_who_may_send_them() {
    let place = Place::new("proxy-in");
    let _server = showing(&place, 9001);
    let keys = "health-check = { type = \"none\" }\nproxy-protocol-from = [\"127.0.0.0/8\"]\nforwarded = [\"x-forwarded-for\", \"x-forwarded-port\", \"x-forwarded-proto\"]\ntimeouts = { request = \"400ms\" }";
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], keys));
    let ask = |header: &[u8]| {
        let mut connection = Connection::open(place.at(8080));
        connection.send(header);
        connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.answer().map(|a| a.text()).unwrap_or_default()
    };
    let v1 = ask(b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n");
    assert!(
        v1.contains("X-Forwarded-For: 192.0.2.7\r\n") && v1.contains("X-Forwarded-Port: 443\r\n"),
        "{v1}"
    );
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2c".to_vec();
    v2.extend("2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v2.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v2.extend([0x13, 0x88, 0x20, 0xfb]);
    // The client spoke TLS with the sender.
    v2.extend([0x20, 0, 5, 1, 0, 0, 0, 0]);
    let text = ask(&v2);
    assert!(
        text.contains("X-Forwarded-For: 2001:db8::7\r\n")
            && text.contains("X-Forwarded-Port: 8443\r\n")
            && text.contains("X-Forwarded-Proto: https\r\n"),
        "{text}"
    );
    let local = ask(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    assert!(local.contains("X-Forwarded-For: 127."), "the proxy's own checks: {local}");
    let mut pieces = Connection::open(place.at(8080));
    for byte in b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n" {
        pieces.send([*byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(pieces.answer().unwrap().text().contains("192.0.2.7"));
    // Missing, lying, endless, late.
    for bad in [
        &b""[..],
        b"PROXY TCP4 999.0.2.7 198.51.100.1 5000 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02",
        &[b'P'; 300],
    ] {
        assert_eq!(ask(bad), "", "{:?}", bad.escape_ascii().to_string());
    }
    let mut silent = Connection::open(place.at(8080));
    silent.send("PROXY TCP4 ");
    assert!(silent.is_closed());
    assert!(evenkeel.service("web")["bad-requests"].as_u64().unwrap() >= 4);
    // Others may not: their header is no request.
    let keys = keys.replace("127.0.0.0/8", "192.0.2.0/24");
    evenkeel.commit(&place, &service("web", "http", place.at(8080), &[place.at(9001)], &keys));
    assert_eq!(ask(b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n"), "400 Bad Request\n");
    assert!(get(place.at(8080), "/").text().contains("X-Forwarded-For: 127."));
}

#[test]
fn real_servers_get_proxy_headers() {
    if !require(&["haproxy"]) {
        return;
    }
    let place = Place::new("proxy-out");
    let _server = showing(&place, 9001);
    // HAProxy reads the headers, strictly, and tells what they said.
    let config = format!(
        "defaults\n timeout connect 2s\n timeout client 5s\n timeout server 5s\nfrontend f\n mode http\n bind {} accept-proxy\n http-request set-header X-Src %[src]:%[src_port]\n http-request set-header X-Dst %[dst]:%[dst_port]\n default_backend b\nbackend b\n mode http\n server s {}\n",
        place.at(9002),
        place.at(9001)
    );
    let _haproxy = haproxy(&place, &config, place.at(9002));
    for version in ["v1", "v2"] {
        let keys = format!("health-check = {{ type = \"none\" }}\nsend-proxy = \"{version}\"");
        for mode in ["http", "tcp"] {
            let evenkeel = start(&place, &service("web", mode, place.at(8080), &[place.at(9002)], &keys));
            for _ in 0..2 {
                let mut connection = Connection::open(place.at(8080));
                let from = connection.stream().local_addr().unwrap();
                for _ in 0..2 {
                    let text = connection.get("/").text().to_lowercase();
                    assert!(text.contains(&format!("x-src: {from}\r\n")), "{version} {mode}: {text}");
                    assert!(
                        text.contains(&format!("x-dst: {}\r\n", place.at(8080))),
                        "{version} {mode}: {text}"
                    );
                }
            }
            drop(evenkeel);
        }
    }
}

#[test]
fn a_trusted_peers_header_names_the_client() {
    if !require(&["curl"]) {
        return;
    }
    let place = Place::new("client-address");
    let (_one, _two) = (showing(&place, 9001), showing(&place, 9002));
    let networks = place.write("networks", "# the CDN\n127.0.0.0/8\n");
    let log = place.file("access.log");
    let keys = format!(
        "health-check = {{ type = \"none\" }}\nforwarded = [\"x-real-ip\"]\nclient-address = {{ header = \"X-Client\", trusted = [\"{}\"] }}\npersistence = {{ type = \"source\" }}\nsend-proxy = \"v1\"",
        networks.display()
    );
    let routes = "[[virtual-service.route]]\nname = \"no\"\nwhen = 'source(\"198.51.100.0/24\")'\ndeny = { status = 403 }\n[[virtual-service.route]]\nname = \"limit\"\nwhen = 'path(\"/limited\")'\nrate-limit = { rate = \"1/1h\" }\n";
    let servers = [place.at(9001), place.at(9002)];
    let config = format!(
        "[log]\naccess = \"{}\"\n{}{routes}",
        log.display(),
        service("web", "http", place.at(8080), &servers, &keys)
    );
    let evenkeel = start(&place, &config);
    let mut connection = Connection::open(place.at(8080));
    let own = connection.stream().local_addr().unwrap();
    let mut ask = |path: &str, header: &str| {
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{header}\r\n"));
        connection.answer().unwrap()
    };
    // One connection, several clients: each request is its client's, the PROXY header the connection's.
    for client in ["192.0.2.7", "203.0.113.9", "2001:db8::7"] {
        for _ in 0..3 {
            let text = ask("/", &format!("X-Client: 198.51.100.1, {client}\r\n")).text();
            assert!(text.contains(&format!("X-Real-IP: {client}\r\n")), "{text}");
        }
    }
    assert!(ask("/", "").text().contains(&format!("X-Real-IP: {}\r\n", own.ip())));
    assert!(ask("/", "X-Client: nobody\r\n").text().contains(&format!("X-Real-IP: {}\r\n", own.ip())));
    assert_eq!(ask("/", "X-Client: 198.51.100.7\r\n").status, 403);
    let limited: Vec<u16> = ["192.0.2.7", "192.0.2.8", "192.0.2.7"]
        .map(|client| ask("/limited", &format!("X-Client: {client}\r\n")).status)
        .to_vec();
    assert_eq!(limited, [200, 200, 429]);
    // The table knows clients, not the CDN.
    let known = evenkeel.json(&["persistence", "list", "web"]).to_string();
    assert!(known.contains("203.0.113.9") && known.contains("2001:db8::7"), "{known}");
    let url = format!("http://{}/h2", place.at(8080));
    let arguments = ["-sS", "--http2-prior-knowledge", &url, "-H", "X-Client: 203.0.113.9"];
    let h2 = evenkeel_testbed::command("curl", &arguments);
    assert!(h2.out.contains("X-Real-IP: 203.0.113.9\r\n"), "{}{}", h2.out, h2.err);
    let written = |text: &str| {
        let has = || std::fs::read_to_string(&log).unwrap_or_default().contains(text);
        evenkeel_testbed::eventually(text, Duration::from_secs(5), has);
    };
    written(&format!("203.0.113.9:{}", own.port()));
    // What is no longer trusted is no longer looked at, once the file says so.
    place.write("networks", "192.0.2.0/24\n");
    evenkeel_testbed::eventually("the file is read again", Duration::from_secs(10), || {
        get_with(place.at(8080), "X-Client: 203.0.113.9").contains("X-Real-IP: 127.")
    });
}

/// What the server shows of a request with this field.
fn get_with(at: std::net::SocketAddr, field: &str) -> String {
    let mut connection = Connection::open(at);
    connection.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
    connection.answer().map(|answer| answer.text()).unwrap_or_default()
}

#[test]
fn one_service_on_many_ports_keeps_the_port() {
    let place = Place::new("ports");
    let (_a, _b) = (showing(&place, 7001), showing(&place, 7002));
    let other = Place::new("ports-vip");
    let ip = place.at(1).ip();
    for mode in ["http", "tcp"] {
        let config = format!(
            "[[virtual-service]]\nname = \"many\"\nvip = [\"{}:7001-7002\"]\nmode = \"{mode}\"\nhealth-check = {{ type = \"none\" }}\n[[virtual-service.real-server]]\nname = \"a\"\naddress = \"{ip}\"\n",
            other.at(1).ip()
        );
        let _evenkeel = start(&other, &config);
        for port in [7001, 7002, 7001] {
            let text = get(other.at(port), "/").text();
            assert!(text.contains("GET / HTTP/1.1"), "{mode} {port}: {text}");
        }
        assert_eq!(_a.connections() + _b.connections(), 3 * if mode == "http" { 1 } else { 2 }, "{mode}");
    }
}

#[test]
fn connections_come_from_the_address_that_is_set() {
    let place = Place::new("source");
    let _server = showing(&place, 9001);
    let keys = "health-check = { type = \"none\" }\nsource = \"127.9.9.9\"\nsource-interface = \"lo\"";
    let _evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], keys));
    assert!(get(place.at(8080), "/").text().starts_with("127.9.9.9:"));
}

#[test]
fn connections_end_with_their_server_where_that_is_wanted() {
    let place = Place::new("marked-down");
    let server = Scripted::start(place.at(9001), |mut stream| {
        let mut buffer = [0; 100];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..count]);
        }
    });
    // The probe goes elsewhere, so that it can fail while the connection is well.
    let probed = Scripted::start(place.at(9002), |_| {});
    for (keys, ends) in [("", false), ("on-marked-down = \"close\"", true)] {
        let keys = format!(
            "{keys}\nhealth-check = {{ type = \"tcp\", port = 9002, interval = \"50ms\", fall = 1, rise = 1 }}"
        );
        let evenkeel = start(&place, &service("echo", "tcp", place.at(8080), &[place.at(9001)], &keys));
        evenkeel_testbed::eventually("the server is up", Duration::from_secs(5), || {
            evenkeel.service("echo")["state"] == "up"
        });
        let mut connection = Connection::open(place.at(8080));
        connection.send("hello");
        assert!(connection.read_some());
        if ends {
            drop(probed);
            assert!(connection.is_closed());
            return;
        }
    }
    drop(server);
}

#[test]
fn servers_that_fail_their_clients_get_a_pause() {
    let place = Place::new("outlier");
    let _good = Scripted::named(place.at(9001), "good");
    let _bad = Scripted::answering(place.at(9002), "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    let keys =
        "health-check = { type = \"tcp\", interval = \"100ms\" }\noutlier = { failures = 3, pause = \"1s\" }";
    let evenkeel =
        start(&place, &service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], keys));
    evenkeel_testbed::eventually("it was probed", Duration::from_secs(5), || {
        evenkeel.service("web")["real-servers"][1]["check"]["verdict"] == "passed"
    });
    let ask = |_: &i32| {
        // The daemon decides, not the loop: it needs a turn of its own between two requests.
        std::thread::sleep(Duration::from_millis(5));
        get(place.at(8080), "/").status == 500
    };
    let bad = || (0..20).filter(ask).count();
    // The loop tells the daemon, which decides: one or two more may be on their way meanwhile.
    let failed = bad();
    assert!((3..=6).contains(&failed), "three failures, then a pause: {failed}");
    let server = &evenkeel.service("web")["real-servers"][1];
    assert_eq!(
        (server["state"].as_str(), server["check"]["verdict"].as_str()),
        (Some("down"), Some("passed"))
    );
    assert!(
        server["check"]["detail"].as_str().unwrap().starts_with("paused for 1 s: 3 failures in a row"),
        "{server}"
    );
    evenkeel_testbed::eventually("it is tried again", Duration::from_secs(5), || {
        get(place.at(8080), "/").status == 500
    });
}
