//! TCP services: bulk, half-closes, who speaks first, refusals.

use std::io::{Read, Write};
use std::time::Duration;

use evenkeel_testbed::{Connection, Place, Scripted};

use crate::{service, start};

#[test]
fn bulk_passes_both_ways_with_half_closes() {
    let place = Place::new("bulk");
    let _server = Scripted::start(place.at(9001), |mut stream| {
        // Reads everything first, so that the end of the client's bytes must come through.
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = stream.write_all(&all);
    });
    let _evenkeel = start(&place, &service("raw", "tcp", place.at(8081), &[place.at(9001)], ""));
    let body: Vec<u8> = (0..2_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let mut connection = Connection::open(place.at(8081));
    connection.send(&body);
    connection.finish_sending();
    assert!(connection.read_all() == body);
}

#[test]
fn the_server_may_speak_first_and_close_first() {
    let place = Place::new("first");
    let _server = Scripted::start(place.at(9001), |mut stream| {
        let _ = stream.write_all(b"220 ready\r\n");
    });
    let _evenkeel = start(&place, &service("raw", "tcp", place.at(8081), &[place.at(9001)], ""));
    for _ in 0..20 {
        assert_eq!(Connection::open(place.at(8081)).read_all(), b"220 ready\r\n");
    }
}

#[test]
fn a_refused_connection_goes_to_the_next_server() {
    let place = Place::new("refused");
    let _server = Scripted::start(place.at(9002), |mut stream| {
        let _ = stream.write_all(b"two");
    });
    let servers = [place.at(9001), place.at(9002)];
    let evenkeel =
        start(&place, &service("raw", "tcp", place.at(8081), &servers, "health-check = { type = \"none\" }"));
    for _ in 0..10 {
        assert_eq!(Connection::open(place.at(8081)).read_all(), b"two");
    }
    // Each event loop may find out for itself, once.
    let errors = evenkeel.server("raw", "s1")["connect-errors"].as_u64().unwrap();
    assert!((1..=2).contains(&errors), "{errors} attempts");
    assert_eq!(evenkeel.service("raw")["current-connections"], 0);
}

#[test]
fn silence_ends_a_connection_after_its_time() {
    let place = Place::new("idle");
    let _server = Scripted::start(place.at(9001), |stream| {
        std::thread::sleep(Duration::from_secs(5));
        drop(stream);
    });
    let keys = "timeouts = { client = \"300ms\", server = \"300ms\" }";
    let _evenkeel = start(&place, &service("raw", "tcp", place.at(8081), &[place.at(9001)], keys));
    let mut connection = Connection::open(place.at(8081));
    let started = std::time::Instant::now();
    assert!(connection.is_closed());
    assert!(started.elapsed() < Duration::from_secs(3));
}
