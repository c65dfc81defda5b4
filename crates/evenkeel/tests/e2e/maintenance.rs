//! Times in which real servers take no new clients, and come back by themselves.

use std::time::Duration;

use evenkeel_testbed::{Place, Scripted, eventually};

use crate::{service, start};

#[test]
fn a_server_is_drained_at_its_time_and_comes_back() {
    let place = Place::new("maintenance");
    let servers: Vec<_> = (1..=3).map(|n| Scripted::named(place.at(9000 + n), &format!("s{n}"))).collect();
    let addresses = [place.at(9001), place.at(9002), place.at(9003)];
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &addresses, ""));
    let state = |name: &str| evenkeel.server("web", name)["admin-state"].as_str().unwrap().to_owned();
    let long = Duration::from_secs(30);
    // One that somebody has halted is that person's affair.
    evenkeel.ok(&["halt", "web/s3"]);
    let planned =
        evenkeel.json(&["maintenance", "plan", "web/s1", "web/s3", "--for", "5s", "-m", "new disks"]);
    assert_eq!((planned[0]["begun"].as_bool(), state("s1").as_str()), (Some(true), "draining"));
    assert_eq!(state("s3"), "halted");
    eventually("it is over", long, || state("s1") == "online");
    assert_eq!(state("s3"), "halted", "it was not the maintenance that turned it");
    assert!(evenkeel.ok(&["maintenance", "list"]).contains("no maintenance is planned"));

    // One to come does nothing, survives a restart, and is dropped.
    evenkeel.ok(&["maintenance", "plan", "web/s1", "--at", "2099-01-01T00:00", "--for", "1h", "--halt"]);
    assert_eq!(state("s1"), "online");
    // One that is on is ended; what somebody changed meanwhile stays.
    evenkeel.ok(&["maintenance", "plan", "web/s1", "web/s2", "--for", "1h"]);
    assert_eq!((state("s1").as_str(), state("s2").as_str()), ("draining", "draining"));
    evenkeel.ok(&["halt", "web/s2"]);
    let stored = std::fs::read_to_string(place.file("state/state.json")).unwrap();
    assert!(stored.contains("\"maintenance\"") && stored.contains("\"turned\""), "{stored}");
    let listed = evenkeel.json(&["maintenance", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    for one in listed.as_array().unwrap() {
        evenkeel.ok(&["maintenance", "end", one["id"].as_str().unwrap()]);
    }
    assert_eq!((state("s1").as_str(), state("s2").as_str()), ("online", "halted"));
    for (wrong, why) in [
        (vec!["web/none", "--for", "1h"], "no real server none"),
        (vec!["none/s1", "--for", "1h"], "none"),
        (vec!["web/s1", "--at", "2001-01-01T00:00", "--for", "1h"], "not in the past"),
        (vec!["web/s1", "--for", "60d"], "30 days"),
    ] {
        let output = evenkeel.cli(&[vec!["maintenance", "plan"], wrong].concat());
        assert!(output.code != 0 && output.err.contains(why), "{why}: {output:?}");
    }
    assert_eq!(evenkeel.cli(&["maintenance", "end", "77"]).code, 1);
    drop(servers);
}
