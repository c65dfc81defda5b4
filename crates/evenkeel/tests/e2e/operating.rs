//! What people do and are told while a node runs: closing connections, agents, backups alone, histograms,
//! the program's log, a backup of another node.

use std::io::{Read, Write};
use std::time::Duration;

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, command, eventually, get};

use crate::{service, start};

const LONG: Duration = Duration::from_secs(20);

fn echo(place: &Place, port: u16) -> Scripted {
    Scripted::start(place.at(port), |mut stream| {
        let mut buffer = [0; 100];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..count]);
        }
    })
}

/// An upload over HTTP/2, and one over HTTP/1: what lists and closes connections counts each once, and tells
/// what has passed while it still does.
fn one_connection_of_http2_is_one(place: &Place, evenkeel: &Evenkeel) {
    let _silent = Scripted::start(place.at(9004), |mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(1..) = stream.read(&mut buffer) {}
    });
    let silent =
        service("web", "http", place.at(8080), &[place.at(9004)], "health-check = { type = \"none\" }");
    evenkeel.commit(place, &silent);
    let mut upload = Connection::open(place.at(8080));
    upload.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n");
    upload.send("x".repeat(20_000));
    // The preface, settings, and a head (`POST / http a`, HPACK without tables) whose body goes on.
    let head = b"\x83\x84\x86\x01\x01a";
    let frame = |kind: u8, flags: u8, stream: u8, body: &[u8]| {
        let length = body.len() as u32;
        [&length.to_be_bytes()[1..], &[kind, flags, 0, 0, 0, stream], body].concat()
    };
    let mut stream = std::net::TcpStream::connect(place.at(8080)).unwrap();
    let data = vec![b'x'; 10_000];
    let parts = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, b""), frame(1, 4, 1, head)];
    stream.write_all(&[parts.concat(), frame(0, 0, 1, &data)].concat()).unwrap();
    eventually("both uploads are told as they pass", LONG, || {
        let all = evenkeel.json(&["connections", "--service", "web"]);
        let all = all.as_array().unwrap();
        all.len() == 3 && all.iter().all(|c| c["bytes-in"].as_u64() >= Some(10_000))
    });
    let told = evenkeel.ok(&["connections"]);
    assert!(told.contains("2 connections of 1 client"), "{told}");
    let closed = evenkeel.ok(&["close", "web"]);
    assert!(closed.contains("2 connections closed"), "{closed}");
}

#[test]
fn connections_of_a_server_a_client_and_a_service_are_closed() {
    let place = Place::new("close");
    let (_a, _b) = (echo(&place, 9001), echo(&place, 9002));
    let keys = "scheduler = \"round-robin\"\nhealth-check = { type = \"none\" }";
    let evenkeel =
        start(&place, &service("echo", "tcp", place.at(8080), &[place.at(9001), place.at(9002)], keys));
    let open = || {
        let mut connection = Connection::open(place.at(8080));
        connection.send("hello");
        assert!(connection.read_some());
        connection
    };
    let of = |server: &str| evenkeel.server("echo", server)["current-connections"].as_u64().unwrap();
    let mut all: Vec<Connection> = (0..4).map(|_| open()).collect();
    assert_eq!((of("s1"), of("s2")), (2, 2));
    assert!(evenkeel.ok(&["connections"]).contains("4 connections of 1 client"));
    assert!(evenkeel.ok(&["close", "echo/s1"]).contains("2 connections closed"));
    eventually("those of one server end", LONG, || (of("s1"), of("s2")) == (0, 2));
    // Nothing of somebody else.
    let nobody = evenkeel.ok(&["close", "echo", "--client", "192.0.2.9"]);
    assert!(nobody.contains("0 connections closed"), "{nobody}");
    all.push(open());
    let client = all[0].stream().local_addr().unwrap().ip().to_string();
    assert!(evenkeel.ok(&["close", "--client", &client]).contains("3 connections closed"));
    assert!(all.iter_mut().all(Connection::is_closed));
    let one = open();
    assert!(evenkeel.ok(&["close", "echo"]).contains("1 connection closed"));
    drop(one);
    for (arguments, why) in [
        (&["close", "nobody"][..], "no virtual service named nobody"),
        (&["close", "echo/nobody"], "no real server named nobody"),
        (&["close"], "required"),
        (&["connections", "--service", "nobody"], "no virtual service named nobody"),
        (&["connections", "--server", "nobody"], "no real server named nobody"),
        (&["connections", "--state", "nothing"], "nothing is no state"),
        (&["backup", "/nonexistent/b"], "/nonexistent/b cannot be written"),
        (&["real-server", "steps", "linux", "--vip", "192.0.2.1", "--method", "redirect"], "loopback alone"),
    ] {
        let refused = evenkeel.cli(arguments);
        assert!(refused.code != 0 && refused.err.contains(why), "{refused:?}");
    }
    // A client that waits between two requests.
    let _web = Scripted::named(place.at(9003), "web");
    evenkeel.commit(
        &place,
        &service("web", "http", place.at(8080), &[place.at(9003)], "health-check = { type = \"none\" }"),
    );
    let mut idle = Connection::open(place.at(8080));
    idle.get("/");
    eventually("it waits", LONG, || {
        evenkeel.ok(&["connections", "--state", "idle"]).contains("1 connection of")
    });
    assert!(evenkeel.ok(&["close", "web"]).contains("1 connection closed"));
    assert!(idle.is_closed());
    one_connection_of_http2_is_one(&place, &evenkeel);
    // What the program said of itself is kept; response times are told by real server.
    get(place.at(8080), "/");
    let socket = evenkeel.socket().display().to_string();
    let ask =
        |path: &str| command("curl", &["-sS", "--unix-socket", &socket, &format!("http://x{path}")]).out;
    let log = ask("/api/v1/program-log");
    assert!(log.contains("configuration committed"), "{log}");
    let metrics = ask("/metrics");
    let line = "evenkeel_server_response_seconds_count{pool=\"web\",server=\"s1\"} ";
    let count = metrics.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_default();
    assert!(count.parse::<u64>().is_ok_and(|n| n >= 2), "{count:?}");
}

#[test]
fn an_agent_that_says_down_is_the_verdict_and_an_event() {
    let place = Place::new("agent-down");
    let _server = Scripted::named(place.at(15_000), "a");
    let words = std::sync::Arc::new(std::sync::Mutex::new("up\n".to_owned()));
    let said = words.clone();
    let _agent = Scripted::start(place.at(3333), move |mut stream| {
        let _ = stream.write_all(said.lock().unwrap().as_bytes());
    });
    let keys = "health-check = { type = \"tcp\", interval = \"100ms\", agent = { interval = \"100ms\" } }";
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(15_000)], keys));
    let check = || evenkeel.server("web", "s1")["check"].clone();
    eventually("it was probed", LONG, || check()["verdict"] == "passed");
    *words.lock().unwrap() = "down # disk full\n".into();
    eventually("it is down", LONG, || evenkeel.server("web", "s1")["state"] == "down");
    eventually("the agent's reason is the verdict", LONG, || {
        check()["verdict"] == "failed" && check()["detail"] == "agent: down (disk full)"
    });
    let told = || evenkeel.ok(&["events"]);
    eventually("it is told", LONG, || told().contains("web/s1 is down: agent: down (disk full)"));
    eventually("the service is down", LONG, || told().contains("web is down"));
    *words.lock().unwrap() = "up\n".into();
    eventually("it is up again", LONG, || told().contains("web/s1 is up: agent: up"));
    eventually("by its probes", LONG, || check()["verdict"] == "passed");
}

#[test]
fn a_service_on_backups_alone_is_an_event() {
    let place = Place::new("on-backups");
    let own = Scripted::named(place.at(9001), "own");
    let _spare = Scripted::named(place.at(9002), "spare");
    let check = "health-check = { type = \"tcp\", interval = \"100ms\", fall = 1, rise = 1 }";
    let config = service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], check);
    let config = config.replacen("name = \"s2\"", "name = \"s2\"\nbackup = true", 1);
    let evenkeel = start(&place, &config);
    eventually("it is served", LONG, || get(place.at(8080), "/").text().contains("own"));
    drop(own);
    let told = || evenkeel.ok(&["events"]);
    eventually("it is told", LONG, || told().contains("web is served by its backup servers alone"));
    let _own = Scripted::named(place.at(9001), "own");
    eventually("it is over", LONG, || told().contains("web is served by its own servers again"));
}

#[test]
fn below_its_quorum_a_service_is_its_backups_or_down() {
    let place = Place::new("quorum");
    let first = Scripted::named(place.at(9001), "one");
    let _second = Scripted::named(place.at(9002), "two");
    let _spare = Scripted::named(place.at(9003), "spare");
    let keys = "quorum = 200\nhealth-check = { type = \"tcp\", interval = \"100ms\", fall = 1, rise = 1 }";
    let with =
        service("web", "http", place.at(8080), &[place.at(9001), place.at(9002), place.at(9003)], keys)
            .replacen("name = \"s3\"", "name = \"s3\"\nbackup = true", 1);
    let without = service("bare", "http", place.at(8081), &[place.at(9001), place.at(9002)], keys);
    let evenkeel = start(&place, &(with + &without));
    let state = |name: &str| evenkeel.service(name)["state"].as_str().unwrap_or("").to_owned();
    eventually("both are up", LONG, || state("web") == "up" && state("bare") == "up");
    assert!((0..10).all(|_| !get(place.at(8080), "/").text().contains("spare")));
    drop(first);
    let told = || evenkeel.ok(&["events"]);
    eventually("the backup serves", LONG, || {
        (0..6).all(|_| get(place.at(8080), "/").text().contains("spare")) && state("web") == "degraded"
    });
    eventually("it is told", LONG, || {
        told().contains("web is served by its backup servers alone: less weight is up than the quorum of 200")
            && told().contains("bare is down: less weight is up than the quorum of 200")
    });
    assert_eq!(state("bare"), "down");
    assert_eq!(get(place.at(8081), "/").text(), "two", "who is left goes on");
    let why = evenkeel.ok(&["explain", &format!("http://{}/", place.at(8080))]);
    assert!(why.contains("below the quorum"), "{why}");
    let _first = Scripted::named(place.at(9001), "one");
    eventually("all is well", LONG, || {
        told().contains("web is served by its own servers again") && told().contains("bare is served again")
    });
    assert!((0..10).all(|_| !get(place.at(8080), "/").text().contains("spare")));
}

/// The same at layer 4, where servers that are drained count for nothing.
#[test]
fn below_its_quorum_a_service_of_layer_4_is_its_backups() {
    let Some(mut lab) = crate::pair::lab("quorum-layer4") else { return };
    let keys = "quorum = 200\nsource-addresses = [\"10.77.0.150\"]\nhealth-check = { type = \"tcp\", interval = \"300ms\", fall = 1, rise = 1 }";
    let servers = [("s1", "10.77.0.11:80"), ("s2", "10.77.0.12:80"), ("b1", "10.78.0.11:8080")];
    let web = crate::layer4::service("web", "10.77.0.102:80", "snat", keys, &servers);
    let web = web.replacen("name = \"b1\"", "name = \"b1\"\nbackup = true", 1);
    let ips = "[network]\nfloating-ips = [\"10.77.0.150/24\", \"10.78.0.254/24\"]\n";
    lab.start_pair("", &(ips.to_owned() + &web));
    let asked = || {
        let hosts = (0..8)
            .map(|_| lab.hosts.run("c", "curl", &["-sS", "--max-time", "2", "http://10.77.0.102/"]).out);
        let hosts: std::collections::BTreeSet<String> =
            hosts.map(|answer| answer.split(' ').next().unwrap_or("").to_owned()).collect();
        hosts.into_iter().collect::<Vec<_>>().join(" ")
    };
    eventually("its servers serve", LONG, || asked() == "s1 s2");
    assert_eq!(lab.cli(0, &["drain", "web/s1"]).code, 0);
    eventually("the backup serves", LONG, || asked() == "b1");
    assert_eq!(lab.cli(0, &["online", "web/s1"]).code, 0);
    eventually("its servers serve again", LONG, || asked() == "s1 s2");
}

#[test]
fn a_backup_of_another_node_is_restored_as_this_one_or_as_that_one() {
    let places = [Place::new("restore-one"), Place::new("restore-two")];
    let _server = Scripted::named(places[0].at(9001), "one");
    let pair = |name: &str, place: &Place| {
        format!("[pair]\nname = \"{name}\"\npeer = \"127.0.0.1:1\"\nlisten = \"{}\"\n", place.at(9694))
    };
    let web = service("web", "http", places[0].at(8080), &[places[0].at(9001)], "");
    let first = start(&places[0], &(pair("lb1", &places[0]) + &web));
    let file = places[0].file("lb1.json").display().to_string();
    first.ok(&["backup", &file]);
    drop(first);
    let second = start(&places[1], &pair("lb2", &places[1]));
    let refused = second.cli(&["restore", &file]);
    assert!(refused.code != 0 && refused.err.contains("as=this-node"), "{refused:?}");
    assert!(
        !std::fs::read_to_string(second.config_path()).unwrap().contains("\"web\""),
        "nothing has happened"
    );
    let said = second.ok(&["restore", &file, "--as", "this-node"]);
    assert!(said.contains("stays passive"), "{said}");
    let text = std::fs::read_to_string(second.config_path()).unwrap();
    assert!(text.contains("\"lb2\"") && text.contains("\"web\"") && !text.contains("\"lb1\""), "{text}");
    eventually("it is held", LONG, || second.json(&["pair", "status"])["held"] == true);
}
