//! Who gets what: weights, loss and return, drain, halt, persistence, queue, fallback.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use evenkeel_testbed::{
    Connection, Place, Scripted, eventually, get, haproxy, nginx, nginx_with, read_head, require,
};

use crate::{service, start};

fn tally(vip: std::net::SocketAddr, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(get(vip, "/").text()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn requests_are_spread_by_weight_over_real_servers() {
    if !require(&["nginx"]) {
        return;
    }
    let place = Place::new("weights");
    let _servers = [nginx(&place, "one", place.at(9001)), nginx(&place, "two", place.at(9002))];
    let config = service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], "");
    let evenkeel = start(&place, &config.replace("9001\"", "9001\"\n  weight = 300"));
    let counts = tally(place.at(8080), 400);
    // Two event loops count their own turns, so each may be off by one round.
    assert!((292..=308).contains(&counts["one"]), "{counts:?}");
    evenkeel.ok(&["weight", "web/s1", "100"]);
    let counts = tally(place.at(8080), 400);
    assert!((192..=208).contains(&counts["one"]), "{counts:?}");
}

#[test]
fn a_lost_server_costs_no_request_and_comes_back() {
    if !require(&["nginx"]) {
        return;
    }
    let place = Place::new("loss");
    let mut first = nginx(&place, "one", place.at(9001));
    let _second = nginx(&place, "two", place.at(9002));
    let config = service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], "");
    let evenkeel = start(&place, &config);
    evenkeel.await_server("web", "s1", "up");
    first.signal(rustix::process::Signal::TERM);
    first.wait();
    // The first refused connection takes it out; its request goes to the other server.
    let counts = tally(place.at(8080), 50);
    assert_eq!(counts.get("two"), Some(&50), "{counts:?}");
    let server = evenkeel.server("web", "s1");
    assert_eq!((&server["state"], &evenkeel.service("web")["state"]), (&"down".into(), &"degraded".into()));
    assert!(server["check"]["detail"].as_str().unwrap().contains("refused"), "{server}");
    let first = nginx(&place, "one", place.at(9001));
    evenkeel.await_server("web", "s1", "up");
    let counts = tally(place.at(8080), 20);
    assert!(counts.get("one").is_some_and(|n| *n >= 8), "{counts:?}");
    drop(first);
}

#[test]
fn a_silent_server_is_found_within_six_seconds() {
    let place = Place::new("silent");
    // Accepts in the kernel, never answers: only an HTTP probe notices.
    let silent = std::net::TcpListener::bind(place.at(9001)).unwrap();
    let _other = Scripted::named(place.at(9002), "two");
    let keys = "health-check = { type = \"http\" }";
    let started = Instant::now();
    let evenkeel =
        start(&place, &service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], keys));
    evenkeel.await_server("web", "s1", "down");
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(evenkeel.server("web", "s1")["check"]["detail"].as_str().unwrap().contains("no answer within"));
    assert_eq!(tally(place.at(8080), 10)["two"], 10);
    drop(silent);
}

#[test]
fn a_server_that_falls_silent_later_is_found_too() {
    let place = Place::new("falls");
    let silent = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = silent.clone();
    let _server = Scripted::start(place.at(9001), move |mut stream| {
        while read_head(&mut stream).is_some() {
            if switch.load(std::sync::atomic::Ordering::SeqCst) {
                std::thread::sleep(Duration::from_secs(20));
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
        }
    });
    let _other = Scripted::named(place.at(9002), "two");
    let keys = "health-check = { type = \"http\" }";
    let servers = [place.at(9001), place.at(9002)];
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &servers, keys));
    evenkeel.await_server("web", "s1", "up");
    silent.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("it is down", Duration::from_secs(6), || evenkeel.server("web", "s1")["state"] == "down");
    assert_eq!(tally(place.at(8080), 10)["two"], 10);
}

#[test]
fn http_probes_judge_status_and_text() {
    if !require(&["nginx"]) {
        return;
    }
    let place = Place::new("probes");
    let locations = "location /good { return 200 \"all is fine\"; } location /bad { return 500; } location / { return 302 /x; }";
    let _nginx = nginx_with(&place, "origin", place.at(9001), locations);
    let check = |name: &str, port: u16, keys: &str| {
        let keys = format!("health-check = {{ type = \"http\", interval = \"200ms\", {keys} }}");
        service(name, "http", place.at(port), &[place.at(9001)], &keys)
    };
    let config = check("good", 8080, "path = \"/good\", expect = \"is fine\"")
        + &check("status", 8081, "path = \"/bad\"")
        + &check("text", 8082, "path = \"/good\", expect = \"is broken\"")
        + &check("redirect", 8083, "path = \"/\", status = \"200\"")
        + &check("port", 8084, "path = \"/good\", port = 9002");
    let evenkeel = start(&place, &config);
    let detail = |service: &str, state: &str| {
        evenkeel.await_server(service, "s1", state);
        evenkeel.server(service, "s1")["check"]["detail"].as_str().unwrap().to_owned()
    };
    assert!(detail("good", "up").starts_with("HTTP 200 in"));
    assert_eq!(detail("status", "down"), "HTTP 500, expected 200-399");
    assert_eq!(detail("text", "down"), "the body does not hold \"is broken\"");
    assert_eq!(detail("redirect", "down"), "HTTP 302, expected 200");
    assert_eq!(detail("port", "down"), "connection refused");
}

#[test]
fn draining_finishes_a_download_and_sends_nobody_new() {
    let place = Place::new("drain");
    let slow = |mut stream: std::net::TcpStream| {
        while read_head(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(150));
                let _ = stream.write_all(&[b'x'; 10]);
            }
        }
    };
    let _slow = Scripted::start(place.at(9001), slow);
    let evenkeel = start(
        &place,
        &service("web", "http", place.at(8080), &[place.at(9001)], "health-check = { type = \"none\" }"),
    );
    let mut download = Connection::open(place.at(8080));
    download.send("GET /big HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the download runs", Duration::from_secs(5), || {
        evenkeel.server("web", "s1")["current-connections"] == 1
    });
    let early = evenkeel.cli(&["drain", "web/s1", "--wait", "--timeout", "200ms"]);
    assert_eq!(early.code, 3, "{early:?}");
    assert_eq!(get(place.at(8080), "/").status, 503);
    let drained = evenkeel.ok(&["drain", "web/s1", "--wait"]);
    assert_eq!(drained, "web/s1 is draining, no connections\n");
    assert_eq!(download.answer().unwrap().body.len(), 100);
    assert_eq!(evenkeel.service("web")["state"], "halted");
    evenkeel.ok(&["online", "web/s1"]);
    assert_eq!(get(place.at(8080), "/").status, 200);
}

#[test]
fn halting_closes_connections() {
    let place = Place::new("halt");
    let _echo = Scripted::start(place.at(9001), |mut stream| {
        let mut reader = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut reader, &mut stream);
    });
    let evenkeel = start(&place, &service("raw", "tcp", place.at(8081), &[place.at(9001)], ""));
    let mut connection = Connection::open(place.at(8081));
    connection.send("hello");
    assert!(connection.read_some());
    evenkeel.ok(&["halt", "raw/s1", "--wait"]);
    assert!(connection.is_closed());
    assert!(Connection::open(place.at(8081)).is_closed());
}

#[test]
fn admin_states_and_weights_survive_a_restart() {
    let place = Place::new("survive");
    let _server = Scripted::named(place.at(9001), "one");
    let config = service("web", "http", place.at(8080), &[place.at(9001)], "");
    let mut evenkeel = start(&place, &config);
    evenkeel.ok(&["drain", "web/s1"]);
    evenkeel.ok(&["weight", "web/s1", "7"]);
    evenkeel.process.kill();
    let evenkeel = start(&place, &config);
    let server = evenkeel.server("web", "s1");
    assert_eq!((&server["admin-state"], &server["weight"]), (&"draining".into(), &7.into()));
}

#[test]
fn a_change_that_cannot_be_stored_is_refused_for_good() {
    let place = Place::new("unstored");
    let _servers = [Scripted::named(place.at(9001), "one"), Scripted::named(place.at(9002), "two")];
    let servers = [place.at(9001), place.at(9002)];
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &servers, ""));
    std::fs::remove_dir_all(place.file("state")).unwrap();
    std::fs::write(place.file("state"), "in the way").unwrap();
    let refused = evenkeel.cli(&["drain", "web/s1"]);
    assert!(refused.code == 1 && refused.err.contains("could not be stored"), "{refused:?}");
    std::fs::remove_file(place.file("state")).unwrap();
    evenkeel.ok(&["weight", "web/s2", "50"]);
    evenkeel.process.signal(rustix::process::Signal::HUP);
    eventually("the file is applied", Duration::from_secs(5), || {
        evenkeel.log().contains("configuration committed")
    });
    assert_eq!(evenkeel.server("web", "s1")["admin-state"], "online");
    assert_eq!(evenkeel.server("web", "s2")["weight"], 50);
}

#[test]
fn a_cookie_keeps_a_client_on_its_server() {
    let place = Place::new("cookie");
    let echo = |name: &'static str| {
        move |mut stream: std::net::TcpStream| {
            while let Some(head) = read_head(&mut stream) {
                let seen = head.lines().find(|l| l.to_lowercase().starts_with("cookie")).unwrap_or("none");
                let body = format!("{name}|{seen}");
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        }
    };
    let _one = Scripted::start(place.at(9001), echo("s1"));
    let two = Scripted::start(place.at(9002), echo("s2"));
    let keys = "persistence = { type = \"cookie\", name = \"SRV\", indirect = true, nocache = true, httponly = true, secure = true, samesite = \"lax\", domains = [\"example.org\"] }";
    let evenkeel =
        start(&place, &service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], keys));
    let first = get(place.at(8080), "/");
    let server = first.text()[..2].to_owned();
    let expected = format!("SRV={server}; path=/; domain=example.org; HttpOnly; Secure; SameSite=Lax");
    assert_eq!(first.field("set-cookie"), Some(expected.as_str()), "{}", first.head);
    assert_eq!(first.field("cache-control"), Some("private"));
    let with = |cookie: &str| {
        let mut connection = Connection::open(place.at(8080));
        connection.send(format!("GET / HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n"));
        connection.answer().unwrap()
    };
    for _ in 0..10 {
        let answer = with("a=1; SRV=s2; b=2");
        assert_eq!(answer.text(), "s2|Cookie: a=1; b=2", "the server does not see the cookie");
        assert_eq!(answer.field("set-cookie"), None);
    }
    assert!(with("SRV=nobody").field("set-cookie").is_some());
    // A draining server keeps its clients; a dead one gives them up.
    evenkeel.ok(&["drain", "web/s2"]);
    assert_eq!(with("SRV=s2").text(), "s2|none");
    assert!(get(place.at(8080), "/").text().starts_with("s1"));
    drop(two);
    eventually("s2 is down", Duration::from_secs(10), || evenkeel.server("web", "s2")["state"] == "down");
    let moved = with("SRV=s2");
    assert!(moved.text().starts_with("s1"), "{}", moved.text());
    assert!(moved.field("set-cookie").is_some_and(|c| c.starts_with("SRV=s1")));
}

#[test]
fn a_source_address_keeps_its_server_across_a_hand_over() {
    let place = Place::new("source");
    let _servers: Vec<_> = (1..=3).map(|n| Scripted::named(place.at(9000 + n), &format!("s{n}"))).collect();
    let servers = [place.at(9001), place.at(9002), place.at(9003)];
    let keys = "persistence = { type = \"source\", mask = 24, timeout = \"10m\" }";
    let mut evenkeel = start(&place, &service("web", "http", place.at(8080), &servers, keys));
    let server = get(place.at(8080), "/").text();
    let stays = || (0..10).all(|_| get(place.at(8080), "/").text() == server);
    assert!(stays());
    let entries = evenkeel.json(&["persistence", "list", "web"]);
    assert_eq!((entries.as_array().unwrap().len(), &entries[0]["real-server"]), (1, &server.clone().into()));
    let old = evenkeel.hand_over();
    assert!(stays(), "the successor knows the client");
    drop(old);
    let key = entries[0]["key"].as_str().unwrap();
    assert_eq!(evenkeel.ok(&["persistence", "clear", "web", key]), "1 entry cleared\n");
    assert_eq!(evenkeel.json(&["persistence", "list", "web"]).as_array().unwrap().len(), 0);
}

#[test]
fn the_fallback_serves_when_nobody_else_can() {
    let place = Place::new("fallback");
    let page = "fallback = { status = 503, body = \"<h1>Back soon.</h1>\" }";
    let _spare = Scripted::named(place.at(9009), "spare");
    let server = format!("fallback = {{ server = \"{}\" }}", place.at(9009));
    let config = service("page", "http", place.at(8080), &[place.at(9001)], page)
        + &service("spare", "http", place.at(8081), &[place.at(9001)], &server);
    let _evenkeel = start(&place, &config);
    let mut connection = Connection::open(place.at(8080));
    for _ in 0..2 {
        let answer = connection.get("/");
        assert_eq!((answer.status, answer.text().as_str()), (503, "<h1>Back soon.</h1>"));
        assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    }
    assert_eq!(get(place.at(8081), "/").text(), "spare");
}

#[test]
fn full_servers_make_clients_wait_in_order() {
    let place = Place::new("queue");
    let _slow = Scripted::start(place.at(9001), |mut stream| {
        while read_head(&mut stream).is_some() {
            std::thread::sleep(Duration::from_millis(300));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let keys = "timeouts = { queue = \"700ms\" }\nhealth-check = { type = \"none\" }";
    let config = service("web", "http", place.at(8080), &[place.at(9001)], keys);
    let evenkeel = start(&place, &config.replace("9001\"", "9001\"\n  max-connections = 1"));
    let clients: Vec<_> = (0..5)
        .map(|n| {
            let vip = place.at(8080);
            let client = std::thread::spawn(move || get(vip, "/").status);
            std::thread::sleep(Duration::from_millis(20 * (n == 0) as u64));
            client
        })
        .collect();
    eventually("clients wait", Duration::from_secs(2), || {
        evenkeel.service("web")["queued"].as_u64() > Some(1)
    });
    let statuses: Vec<u16> = clients.into_iter().map(|c| c.join().unwrap()).collect();
    let served = statuses.iter().filter(|s| **s == 200).count();
    // One at once, two within the queue's 700 ms, the rest told to go.
    assert!((2..=3).contains(&served), "{statuses:?}");
    assert!(statuses.iter().all(|s| *s == 200 || *s == 503), "{statuses:?}");
    assert_eq!(get(place.at(8080), "/").status, 200);
    assert_eq!(evenkeel.service("web")["queued"], 0);
}

#[test]
fn a_server_that_came_up_starts_slowly() {
    let place = Place::new("slowstart");
    let _one = Scripted::named(place.at(9001), "one");
    let keys = "slow-start = \"5s\"\nhealth-check = { type = \"tcp\", interval = \"100ms\", rise = 1 }";
    let evenkeel =
        start(&place, &service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], keys));
    evenkeel.await_server("web", "s2", "down");
    let _two = Scripted::named(place.at(9002), "two");
    evenkeel.await_server("web", "s2", "up");
    let early = tally(place.at(8080), 200).get("two").copied().unwrap_or(0);
    assert!((1..70).contains(&early), "{early} of 200 at once");
    std::thread::sleep(Duration::from_secs(6));
    let late = tally(place.at(8080), 200)["two"];
    assert!((95..=105).contains(&late), "{late} of 200 after the slow start");
}

#[test]
fn backups_wait_for_their_turn() {
    let place = Place::new("backup");
    let one = Scripted::named(place.at(9001), "one");
    let _two = Scripted::named(place.at(9002), "two");
    let config = service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], "");
    let _evenkeel = start(&place, &config.replace("9002\"", "9002\"\n  backup = true"));
    assert_eq!(tally(place.at(8080), 10).get("one"), Some(&10));
    drop(one);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(tally(place.at(8080), 10).get("two"), Some(&10));
}

#[test]
fn hashing_sends_a_path_to_one_server() {
    let place = Place::new("urihash");
    let _servers: Vec<_> = (1..=3).map(|n| Scripted::named(place.at(9000 + n), &format!("s{n}"))).collect();
    let servers = [place.at(9001), place.at(9002), place.at(9003)];
    let evenkeel =
        start(&place, &service("web", "http", place.at(8080), &servers, "scheduler = \"uri-hash\""));
    let mut used = std::collections::BTreeSet::new();
    for n in 0..30 {
        let path = format!("/page{n}");
        let server = get(place.at(8080), &path).text();
        assert_eq!(get(place.at(8080), &format!("{path}?x=1")).text(), server);
        let explained = evenkeel.json(&["explain", &format!("http://{}{path}", place.at(8080))]);
        assert_eq!(explained["real-server"].as_str(), Some(server.as_str()), "explain says what happens");
        used.insert(server);
    }
    assert_eq!(used.len(), 3);
}

#[test]
fn hashing_sends_what_a_request_says_to_one_server() {
    let place = Place::new("keyhash");
    let _servers: Vec<_> = (1..=3).map(|n| Scripted::named(place.at(9000 + n), &format!("s{n}"))).collect();
    let servers = [place.at(9001), place.at(9002), place.at(9003)];
    let schedulers = [("header", "X-User"), ("query", "user"), ("cookie", "USER")];
    let text: String = schedulers
        .iter()
        .zip(8081..)
        .map(|((kind, key), port)| {
            let keys = format!("scheduler = \"{kind}-hash\"\nhash-key = \"{key}\"");
            service(kind, "http", place.at(port), &servers, &keys)
        })
        .collect();
    let evenkeel = start(&place, &text);
    let ask = |port: u16, path: &str, header: &str| {
        let mut connection = Connection::open(place.at(port));
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{header}\r\n"));
        connection.answer().unwrap().text()
    };
    let spread = |ask: &dyn Fn(u32) -> String| {
        let servers = (0..30).map(|user| {
            let first = ask(user);
            (0..3).for_each(|_| assert_eq!(ask(user), first, "user {user}"));
            first
        });
        servers.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(spread(&|user| ask(8081, &format!("/{}", user % 2), &format!("x-user: {user}\r\n"))), 3);
    assert_eq!(spread(&|user| ask(8082, &format!("/a?b=1&user={user}&c"), "")), 3);
    assert_eq!(spread(&|user| ask(8083, "/", &format!("Cookie: a=b; USER={user}\r\n"))), 3);
    let explained = |arguments: &[&str]| {
        let said = evenkeel.json(arguments);
        assert!(said["reasons"].to_string().contains("by the hash of the"), "{said}");
        said["real-server"].as_str().unwrap_or_default().to_owned()
    };
    let url = |port: u16, path: &str| format!("http://{}{path}", place.at(port));
    for user in 0..10 {
        let header = format!("X-User: {user}");
        assert_eq!(
            explained(&["explain", &url(8081, "/"), "--header", &header]),
            ask(8081, "/", &format!("{header}\r\n"))
        );
        let path = format!("/?user={user}");
        assert_eq!(explained(&["explain", &url(8082, &path)]), ask(8082, &path, ""));
    }
    // Who does not say is sent anywhere.
    let anywhere: std::collections::BTreeSet<_> = (0..40).map(|_| ask(8081, "/", "")).collect();
    assert_eq!(anywhere.len(), 3);
}

#[test]
fn a_bound_keeps_one_hot_path_from_one_server() {
    let place = Place::new("bounded");
    let slow = |name: &'static str| {
        move |mut stream: std::net::TcpStream| {
            while read_head(&mut stream).is_some() {
                std::thread::sleep(Duration::from_millis(300));
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{name}");
                let _ = stream.write_all(text.as_bytes());
            }
        }
    };
    let _servers: Vec<_> = ["s1", "s2", "s3", "s4"]
        .into_iter()
        .zip(9001..)
        .map(|(name, port)| Scripted::start(place.at(port), slow(name)))
        .collect();
    let servers: Vec<_> = (9001..=9004).map(|port| place.at(port)).collect();
    let rules = "scheduler = \"uri-hash\"\nhealth-check = { type = \"none\" }";
    let free = service("free", "http", place.at(8081), &servers, rules);
    let keys = format!("{rules}\nhash-balance-factor = 125");
    let bounded = service("bounded", "http", place.at(8082), &servers, &keys);
    let _evenkeel = start(&place, &format!("[limits]\nworkers = 1\n{free}{bounded}"));
    let at_once = |port: u16| {
        let mut clients: Vec<_> = (0..40).map(|_| Connection::open(place.at(port))).collect();
        clients.iter_mut().for_each(|c| c.send("GET /hot HTTP/1.1\r\nHost: a\r\n\r\n"));
        let mut counts = BTreeMap::new();
        for client in &mut clients {
            *counts.entry(client.answer().unwrap().text()).or_insert(0) += 1;
        }
        counts
    };
    assert_eq!(at_once(8081).len(), 1, "one path, one server");
    let counts = at_once(8082);
    assert!(counts.len() == 4 && counts.values().all(|count| *count <= 13), "{counts:?}");
}

#[test]
fn the_server_that_answers_soonest_takes_most() {
    let place = Place::new("soonest");
    let pause = std::sync::Arc::new([5u64, 50].map(std::sync::atomic::AtomicU64::new));
    let _servers: Vec<_> = (0..2usize)
        .map(|number| {
            let pause = pause.clone();
            Scripted::start(place.at(9001 + number as u16), move |mut stream| {
                while read_head(&mut stream).is_some() {
                    let millis = pause[number].load(std::sync::atomic::Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(millis));
                    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ns{}", number + 1);
                    let _ = stream.write_all(text.as_bytes());
                }
            })
        })
        .collect();
    let keys = "scheduler = \"least-response-time\"\nhealth-check = { type = \"none\" }";
    let config = service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], keys);
    let evenkeel = start(&place, &format!("[limits]\nworkers = 1\n{config}"));
    tally(place.at(8080), 10);
    let counts = tally(place.at(8080), 60);
    assert!(counts["s1"] >= 57, "{counts:?}");
    let said = evenkeel.ok(&["explain", &format!("http://{}/", place.at(8080))]);
    assert!(said.contains("least-response-time: the shortest answers"), "{said}");
    // The quick one becomes slow, the other one quick: it is noticed by those who try.
    pause[0].store(150, std::sync::atomic::Ordering::Relaxed);
    pause[1].store(2, std::sync::atomic::Ordering::Relaxed);
    eventually("most go to the one that is quick now", Duration::from_secs(30), || {
        tally(place.at(8080), 20).get("s2").is_some_and(|count| *count >= 18)
    });
}

#[test]
fn requests_that_may_be_sent_twice_get_an_answer_from_another_server() {
    let place = Place::new("retry-on");
    // Takes requests, and ends the connection without a word, answers 503, or says nothing.
    let failing = |answer: &'static str, pause: u64| {
        move |mut stream: std::net::TcpStream| {
            while read_head(&mut stream).is_some() {
                std::thread::sleep(Duration::from_millis(pause));
                if answer.is_empty() || stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    };
    const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
    let _servers = [
        Scripted::start(place.at(9001), failing("", 0)),
        Scripted::start(place.at(9002), failing(BUSY, 0)),
        Scripted::start(place.at(9003), failing("", 700)),
        Scripted::start(place.at(9004), failing("no HTTP at all\r\n\r\n", 0)),
        Scripted::named(place.at(9009), "good"),
    ];
    let mut text = String::new();
    for (name, vip, bad, keys) in [
        ("default", 8081, 9001, ""),
        ("off", 8082, 9001, "retry-on = []"),
        ("busy", 8083, 9002, "retry-on = [\"503\"]"),
        ("slow", 8084, 9003, "retry-on = [\"timeout\"]\ntimeouts = { server = \"200ms\" }"),
        ("noise", 8085, 9004, "retry-on = [\"bad-answer\"]"),
        ("alone", 8086, 9002, "retry-on = [\"503\"]"),
        ("once", 8087, 9002, "retry-on = [\"503\"]"),
    ] {
        let servers = [place.at(bad), place.at(9009)];
        let servers = if name == "alone" { &servers[..1] } else { &servers[..] };
        let keys = format!("health-check = {{ type = \"none\" }}\n{keys}");
        text.push_str(&service(name, "http", place.at(vip), servers, &keys));
    }
    text += "[[virtual-service.route]]\nwhen = 'header(\"X-Once\")'\nretry = false\n";
    let evenkeel = start(&place, &text);
    let good = |vip: u16, method: &str| {
        let asked = (0..10).filter(|_| {
            let mut connection = Connection::open(place.at(vip));
            connection.send(format!("{method} / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"));
            connection.answer().is_some_and(|answer| answer.text() == "good")
        });
        asked.count()
    };
    for vip in [8081, 8083, 8084, 8085] {
        assert_eq!((vip, good(vip, "GET")), (vip, 10));
        assert_eq!((vip, good(vip, "POST")), (vip, 5), "only what may be sent twice");
    }
    assert_eq!(good(8082, "GET"), 5);
    // A route says that this one may be sent once.
    assert_eq!(good(8087, "GET"), 10);
    let busy = (0..10).filter(|_| {
        let mut connection = Connection::open(place.at(8087));
        connection.send("GET / HTTP/1.1\r\nHost: test\r\nX-Once: 1\r\n\r\n");
        connection.answer().is_some_and(|answer| answer.text() == "busy")
    });
    assert_eq!(busy.count(), 5);
    // There is nobody better: the last answer is the client's.
    assert_eq!(get(place.at(8086), "/").text(), "busy");
    assert_eq!(evenkeel.server("alone", "s1")["total-connections"], 4);
}

/// How many requests a server has at once while so many clients wait for its answers.
fn at_once(at: std::net::SocketAddr, clients: usize, most: &AtomicUsize) -> usize {
    most.store(0, SeqCst);
    std::thread::scope(|scope| {
        for number in 0..clients {
            // One after the other, so that both count the same clients when each of them comes.
            std::thread::sleep(Duration::from_millis(30));
            scope.spawn(move || assert_eq!(get(at, &format!("/{number}")).status, 200));
        }
    });
    most.load(SeqCst)
}

#[test]
fn places_grow_with_what_a_pool_has_to_do_as_haproxys_do() {
    if !require(&["haproxy"]) {
        return;
    }
    let place = Place::new("growing");
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (now.clone(), most.clone());
    let _server = Scripted::start(place.at(9001), move |mut stream| {
        while read_head(&mut stream).is_some() {
            highest.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::sleep(Duration::from_millis(500));
            counted.fetch_sub(1, SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let server = place.at(9001);
    let theirs = format!(
        "global\n nbthread 1\ndefaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n timeout queue 20s\nlisten l\n bind {}\n fullconn 8\n server s {server} minconn 1 maxconn 4\n",
        place.at(8081)
    );
    let _haproxy = haproxy(&place, &theirs, place.at(8081));
    let config = format!(
        "[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\nfull-connections = 8\ntimeouts = {{ queue = \"20s\" }}\nhealth-check = {{ type = \"none\" }}\n[[virtual-service.real-server]]\nname = \"s\"\naddress = \"{server}\"\nmin-connections = 1\nmax-connections = 4\n",
        place.at(8080)
    );
    let evenkeel = start(&place, &config);
    for clients in [3, 4, 7, 12] {
        let ours = at_once(place.at(8080), clients, &most);
        let theirs = at_once(place.at(8081), clients, &most);
        assert_eq!(ours, theirs, "{clients} clients");
        assert_eq!(ours, (clients / 2).clamp(1, 4), "{clients} clients");
    }
    // The import says the same.
    let file = place.write("haproxy.cfg", &theirs);
    let made = evenkeel.ok(&["import", "haproxy", &file.display().to_string()]);
    let wanted = ["full-connections = 8", "min-connections = 1", "max-connections = 4"];
    assert!(wanted.iter().all(|line| made.contains(line)), "{made}");
}
