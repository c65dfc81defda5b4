//! Real servers that are added, set and removed while the program runs.

use std::time::Duration;

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, eventually, get};

use crate::pair::{FRONT, lab};
use crate::{service, start};

fn serves(place: &Place, name: &str) {
    eventually(&format!("{name} serves"), Duration::from_secs(30), || {
        let answer = get(place.at(8000), "/");
        answer.status == 200 && answer.text() == name
    });
}

fn refused(evenkeel: &Evenkeel, arguments: &[&str], why: &str) {
    let output = evenkeel.cli(arguments);
    assert!(output.code != 0 && output.err.contains(why), "{arguments:?}: {output:?}");
}

#[test]
fn servers_come_and_go_and_survive_restarts() {
    let (place, other) = (Place::new("run-time"), Place::new("run-time-other"));
    let (a, b) = (place.at(9000), other.at(9000));
    let _servers = [Scripted::named(a, "a"), Scripted::named(b, "b")];
    let config = service("web", "http", place.at(8000), &[a], "");
    let mut evenkeel = start(&place, &config);
    assert_eq!(get(place.at(8000), "/").text(), "a");

    // What the file could not say is refused, and changes nothing.
    let there = b.to_string();
    let add = |name: &str, rest: &[&str]| {
        [&["server", "add", name], rest].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (name, rest, why) in [
        ("web/s1", vec!["--address", &there], "in the configuration's file"),
        ("web/s2", vec!["--address", &a.to_string()], "has the address of s1"),
        ("web/s2", vec!["--address", &place.at(8000).to_string()], "is the VIP"),
        ("web/s2", vec!["--address", "10.0.0.256:80"], "address"),
        ("web/s2", vec!["--address", &there, "--key", "weigth=3"], "did you mean `weight`"),
        ("web/s2", vec!["--address", &there, "--cookie", "s1"], "has the cookie of s1"),
        ("web/s2", vec!["--address", &there, "--expires", "0s"], "expires"),
        ("nobody/s2", vec!["--address", &there], "no virtual service or pool named nobody"),
        ("web/s2", vec![], "needs --address"),
    ] {
        let arguments = add(name, &rest);
        refused(&evenkeel, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), why);
    }
    refused(&evenkeel, &["server", "remove", "web/s1"], "is in the configuration's file");
    refused(&evenkeel, &["server", "set", "web/s2", "--weight", "1"], "no real server named s2");
    assert_eq!(evenkeel.json(&["server", "list"]), serde_json::json!([]));

    // One comes, and is seen everywhere apart from the file.
    let added = evenkeel.json(&["server", "add", "web/s2", "--address", &there, "--weight", "50"]);
    assert_eq!((&added["added"], &added["keys"]["weight"]), (&true.into(), &50.into()));
    serves(&place, "b");
    let shown = evenkeel.server("web", "s2");
    assert_eq!((&shown["found-in"], &shown["weight"]), (&"added at run time".into(), &50.into()));
    assert!(evenkeel.ok(&["status"]).contains("[added at run time for "));
    refused(&evenkeel, &["server", "add", "web/s2", "--address", &there], "added at run time");
    assert!(evenkeel.ok(&["audit"]).contains("run-time-servers/web/s2"));
    let told = evenkeel.ok(&["explain", &format!("http://{}/", place.at(8000))]);
    assert!(told.contains("s2"), "{told}");
    let plan = place
        .write("plan.toml", Evenkeel::complete(&place, &config.replace("mode =", "max-queue = 7\nmode =")));
    let plan = evenkeel.ok(&["plan", &plan.display().to_string()]);
    assert!(plan.contains("1 real server that the file does not have stay"), "{plan}");

    // Keys of both are set.
    evenkeel.ok(&["server", "set", "web/s2", "--weight", "0"]);
    evenkeel.ok(&["server", "set", "web/s1", "--address", &there.replace(":9000", ":9001")]);
    let moved = evenkeel.server("web", "s1");
    assert_eq!(moved["address"], there.replace(":9000", ":9001"));
    assert_eq!(moved["set-at-run-time"]["address"], there.replace(":9000", ":9001"));

    // All of it is there after a restart, and after a successor took over.
    evenkeel.process.signal(rustix::process::Signal::INT);
    evenkeel.process.wait();
    let since = added["since-ms"].clone();
    evenkeel.start_again();
    assert_eq!(evenkeel.server("web", "s2")["weight"], 0);
    assert_eq!(evenkeel.server("web", "s2")["found-since-ms"], since);
    assert_eq!(evenkeel.server("web", "s1")["address"], there.replace(":9000", ":9001"));
    evenkeel.ok(&["server", "remove", "web/s1"]);
    assert_eq!(evenkeel.server("web", "s1")["address"], a.to_string());
    evenkeel.ok(&["server", "set", "web/s2", "--weight", "100"]);
    serves(&place, "b");
    serves(&place, "a");

    // A connection to a server that goes is finished.
    evenkeel.ok(&["halt", "web/s1"]);
    let mut kept = Connection::open(place.at(8000));
    assert_eq!(kept.get("/").text(), "b");
    evenkeel.ok(&["online", "web/s1"]);
    let gone = evenkeel.ok(&["server", "remove", "web/s2"]);
    assert!(gone.contains("web/s2 is removed"), "{gone}");
    assert_eq!(kept.get("/").text(), "a");
    for _ in 0..4 {
        assert_eq!(get(place.at(8000), "/").text(), "a");
    }

    // One with a time goes by itself.
    evenkeel.ok(&["server", "add", "web/s3", "--address", &there, "--expires", "1s"]);
    eventually("it has gone", Duration::from_secs(30), || {
        evenkeel.json(&["server", "list"]) == serde_json::json!([])
    });
    assert_eq!(evenkeel.service("web")["real-servers"].as_array().map(Vec::len), Some(1));
    // What the file says goes before.
    evenkeel.ok(&["server", "add", "web/s2", "--address", &there]);
    evenkeel.commit(&place, &service("web", "http", place.at(8000), &[a, b], ""));
    assert_eq!(evenkeel.server("web", "s2")["found-in"], serde_json::Value::Null);
    assert_eq!(evenkeel.json(&["server", "list"]), serde_json::json!([]));
}

#[test]
fn both_nodes_of_a_pair_have_them() {
    let Some(mut lab) = lab("run-time-pair") else { return };
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    let shared = crate::layer4::service("web", "10.77.0.100:80", "http", check, &FRONT[..1]);
    lab.start_pair("", &shared);
    let has = |lab: &evenkeel_testbed::pair::PairLab, node: usize, what: &str| {
        lab.json(node, &["status"]).to_string().contains(what)
    };
    let added = lab.cli(0, &["server", "add", "web/s2", "--address", "10.77.0.12:80", "--weight", "77"]);
    assert_eq!(added.code, 0, "{added:?}");
    for node in 0..2 {
        eventually("both have it", Duration::from_secs(20), || has(&lab, node, "10.77.0.12:80"));
    }
    // By the other node, too.
    let removed = lab.cli(1, &["server", "set", "web/s1", "--address", "10.77.0.12:8080"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    for node in 0..2 {
        eventually("both have moved it", Duration::from_secs(20), || has(&lab, node, "10.77.0.12:8080"));
    }
    assert_eq!(lab.cli(1, &["server", "remove", "web/s2"]).code, 0);
    for node in 0..2 {
        eventually("both have it no more", Duration::from_secs(20), || {
            has(&lab, node, "virtual-services") && !has(&lab, node, "10.77.0.12:80\"")
        });
    }
}
