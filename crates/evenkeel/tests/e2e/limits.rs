//! Bounds: connections, heads, slow clients, floods of idle connections, memory.

use std::time::{Duration, Instant};

use evenkeel_testbed::{Connection, Place, Scripted, eventually, get};

use crate::{service, start};

#[test]
fn connections_over_the_limit_wait_until_one_ends() {
    let place = Place::new("maxconn");
    let _server = Scripted::named(place.at(9001), "one");
    let config = service("web", "http", place.at(8080), &[place.at(9001)], "max-connections = 2");
    let evenkeel = start(&place, &config);
    let mut first = Connection::open(place.at(8080));
    let second = Connection::open(place.at(8080));
    assert_eq!(first.get("/").status, 200);
    eventually("both are counted", Duration::from_secs(2), || {
        evenkeel.service("web")["current-connections"] == 2
    });
    let mut third = Connection::open(place.at(8080));
    third.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(evenkeel.service("web")["current-connections"], 2);
    drop(second);
    assert_eq!(third.answer().unwrap().status, 200);
}

#[test]
fn slow_heads_end_after_their_time() {
    let place = Place::new("slowhead");
    let _server = Scripted::named(place.at(9001), "one");
    let keys = "timeouts = { request = \"400ms\", keep-alive = \"300ms\" }";
    let _evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], keys));
    let started = Instant::now();
    let mut slow = Connection::open(place.at(8080));
    slow.send("GET / HTTP/1.1\r\nHost: te");
    assert_eq!(slow.answer().unwrap().status, 408);
    let mut silent = Connection::open(place.at(8080));
    assert_eq!(silent.answer().unwrap().status, 408);
    let mut kept = Connection::open(place.at(8080));
    assert_eq!(kept.get("/").status, 200);
    assert!(kept.is_closed() && kept.rest.is_empty());
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn heads_are_bounded() {
    let place = Place::new("heads");
    let _server = Scripted::named(place.at(9001), "one");
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], ""));
    let check = |head: String, status: u16| {
        let mut connection = Connection::open(place.at(8080));
        connection.send(&head);
        let answer = connection.answer().unwrap_or_else(|| panic!("no answer to {} bytes", head.len()));
        assert_eq!(answer.status, status, "{:.60}…", head);
    };
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    check(head(&format!("A: {}\r\n", "x".repeat(15_000))), 200);
    check(head(&format!("A: {}\r\n", "x".repeat(17_000))), 431);
    check(head(&"A: b\r\n".repeat(127)), 200);
    check(head(&"A: b\r\n".repeat(128)), 431);
    check(format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(20_000)), 431);
    assert_eq!(evenkeel.service("web")["bad-requests"], 3);
}

#[test]
fn thousands_of_idle_connections_cost_little() {
    // With room for it where 20,000 files may be open: half of those are for servers.
    const IDLE: usize = 9_000;
    let place = Place::new("idleload");
    let _server = Scripted::named(place.at(9001), "one");
    let keys = "timeouts = { keep-alive = \"5m\" }";
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], keys));
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", evenkeel.process.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    get(place.at(8080), "/");
    let before = memory();
    let mut idle: Vec<Connection> = Vec::new();
    for _ in 0..IDLE {
        let mut connection = Connection::open(place.at(8080));
        assert_eq!(connection.get("/").status, 200);
        idle.push(connection);
    }
    assert_eq!(evenkeel.service("web")["current-connections"], IDLE);
    let each = memory().saturating_sub(before) / IDLE as u64;
    assert!(each < 1024, "{each} bytes an idle connection");
    let listed = evenkeel.json(&["connections", "--state", "idle"]);
    assert_eq!(listed.as_array().unwrap().len(), IDLE);
    for connection in idle.iter_mut().step_by(100) {
        assert_eq!(connection.get("/").status, 200);
    }
}

/// Kept connections with servers are worth less than a request that needs a descriptor.
#[test]
fn idle_connections_with_servers_leave_descriptors_for_clients() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    const SERVERS: usize = 600;
    const PORT: u16 = 9_771;
    let place = Place::new("idleservers");
    let everywhere = std::net::SocketAddr::from(([0, 0, 0, 0], PORT));
    let _servers = Scripted::named(everywhere, "any");
    let servers: Vec<std::net::SocketAddr> = (0..SERVERS)
        .map(|n| std::net::SocketAddr::from(([127, 44, (n / 250) as u8, (n % 250) as u8 + 1], PORT)))
        .collect();
    let keys = "scheduler = \"round-robin\"\nhealth-check = { type = \"none\" }";
    let config = service("web", "http", place.at(8080), &servers, keys);
    let evenkeel = start(&place, &format!("[limits]\nworkers = 1\n{config}"));
    let mut kept = Connection::open(place.at(8080));
    assert_eq!(kept.get("/").status, 200);
    let pid = Pid::from_raw(evenkeel.process.id() as i32);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(250), maximum: Some(250) }).unwrap();
    for number in 0..SERVERS {
        assert_eq!(kept.get("/").status, 200, "request {number} on a kept connection");
        if number % 3 == 0 {
            assert_eq!(get(place.at(8080), "/").status, 200, "request {number} on a new one");
        }
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", evenkeel.process.id())).unwrap().count();
    assert!(files > 100, "the limit was reached: {files}");
}

#[test]
fn memory_for_bytes_in_flight_is_bounded() {
    let place = Place::new("memory");
    let _server = Scripted::named(place.at(9001), "one");
    let config = service("web", "http", place.at(8080), &[place.at(9001)], "");
    let evenkeel = start(&place, &format!("[limits]\nbuffer-memory = \"1MiB\"\n{config}"));
    // Unfinished heads hold a buffer each; more of them than there are buffers.
    let slow: Vec<Connection> = (0..200)
        .map(|_| {
            let mut connection = Connection::open(place.at(8080));
            connection.send("GET / HTTP/1.1\r\nHost: te");
            connection
        })
        .collect();
    let mut refused = 0;
    eventually("requests are refused", Duration::from_secs(5), || {
        let mut connection = Connection::open(place.at(8080));
        connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        refused = connection.answer().map_or(0, |a| a.status);
        refused == 503
    });
    drop(slow);
    eventually("service returns", Duration::from_secs(5), || get(place.at(8080), "/").status == 200);
    drop(evenkeel);
}

#[test]
fn slow_bodies_and_slow_readers_end_after_their_time() {
    let place = Place::new("slowbody");
    let _server = Scripted::start(place.at(9001), |mut stream| {
        use std::io::{Read, Write};
        while let Some(head) = evenkeel_testbed::read_head(&mut stream) {
            if head.starts_with("POST") {
                let mut body = [0; 100];
                if stream.read_exact(&mut body).is_err() {
                    return;
                }
            }
            let size = if head.starts_with("GET /big") { 50_000_000 } else { 2 };
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
            if stream.write_all(&vec![b'x'; size]).is_err() {
                return;
            }
        }
    });
    let keys = "timeouts = { client = \"400ms\" }\nhealth-check = { type = \"none\" }";
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], keys));
    let mut slow = Connection::open(place.at(8080));
    slow.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nsome");
    assert_eq!(slow.answer().unwrap().status, 408);
    let mut reader = Connection::open(place.at(8080));
    reader.send("GET /big HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the place on the server is free again", Duration::from_secs(5), || {
        evenkeel.server("web", "s1")["total-connections"] == 2
            && evenkeel.server("web", "s1")["current-connections"] == 0
    });
    // Slow, but moving: not cut.
    let mut moving = Connection::open(place.at(8080));
    moving.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        moving.send([b'x'; 10]);
    }
    assert_eq!(moving.answer().unwrap().status, 200);
}
