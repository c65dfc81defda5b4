//! What people do and are told while a node runs: closing connections, agents, backups alone, histograms,
//! the program's log, a backup of another node.

use std::io::{Read, Write};
use std::time::Duration;

use evenkeel_testbed::{Connection, Place, Scripted, command, eventually, get};

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
