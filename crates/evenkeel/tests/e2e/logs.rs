//! The access log beside HAProxy's own, live tail, metrics.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_testbed::{Connection, Place, Scripted, eventually, get, haproxy, nginx, require};

use crate::{service, start};

/// One story, told to whichever load balancer listens there.
fn story(vip: SocketAddr, raw: SocketAddr) {
    // Each connection is gone before the next comes, so that the counts are the same.
    let pause = || std::thread::sleep(Duration::from_millis(100));
    get(vip, "/plain");
    pause();
    get(vip, "/quote\"d");
    pause();
    let mut kept = Connection::open(vip);
    kept.get("/one");
    kept.get("/two");
    drop(kept);
    pause();
    let mut post = Connection::open(vip);
    post.send("POST /form HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    post.answer();
    drop(post);
    pause();
    let mut bad = Connection::open(vip);
    bad.send("NONSENSE\r\n\r\n");
    bad.answer();
    drop(bad);
    pause();
    let mut tcp = Connection::open(raw);
    tcp.send("GET /tcp HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    tcp.read_all();
    std::thread::sleep(Duration::from_millis(300));
}

/// A line without what differs from run to run: ports, times, sizes of own error pages.
fn mask(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    words[0] = words[0].rsplit_once(':').map_or_else(String::new, |(ip, _)| ip.to_owned());
    words[1] = "[time]".into();
    let timers: Vec<&str> = words[4].split('/').map(|t| if t == "-1" { "-1" } else { "n" }).collect();
    words[4] = timers.join("/");
    // HAProxy counts its own form of a head, a byte off the wire; error pages differ.
    if line.contains(" web ") {
        words[6] = "size".into();
    }
    words.join(" ")
}

#[test]
fn lines_are_haproxys_byte_for_byte() {
    if !require(&["nginx", "haproxy"]) {
        return;
    }
    let place = Place::new("logs");
    let _nginx = nginx(&place, "origin", place.at(9001));
    let timeouts = "timeout connect 4s\ntimeout client 42s\ntimeout server 43s";
    let config = format!(
        "global\nlog stdout format raw local0\nmaxconn 100\ndefaults\nlog global\n{timeouts}\n\
         frontend web\nmode http\noption httplog\nbind {}\ndefault_backend web\n\
         backend web\nmode http\nserver s1 {}\n\
         listen raw\nmode tcp\noption tcplog\nbind {}\nserver s1 {}\n",
        place.at(8090),
        place.at(9001),
        place.at(8091),
        place.at(9001)
    );
    let theirs = haproxy(&place, &config, place.at(8090));
    let log = place.file("access.log");
    let text = format!("[log]\naccess = \"{}\"\n", log.display())
        + &service("web", "http", place.at(8080), &[place.at(9001)], "")
        + &service("raw", "tcp", place.at(8081), &[place.at(9001)], "");
    let _evenkeel = start(&place, &text);
    story(place.at(8090), place.at(8091));
    story(place.at(8080), place.at(8081));
    drop(theirs);
    let lines = |path: &str| -> Vec<String> {
        let text = std::fs::read_to_string(place.file(path)).unwrap();
        text.lines().filter(|l| l.contains(" web ") || l.contains(" raw ")).map(mask).collect()
    };
    let (ours, theirs) = (lines("access.log"), lines("haproxy.log"));
    // HAProxy's line for the test's own waiting for it to listen comes first.
    let theirs = theirs[theirs.len().saturating_sub(ours.len())..].to_vec();
    assert_eq!(ours, theirs);
}

#[test]
fn live_tail_and_json_and_metrics() {
    let place = Place::new("tail");
    let _server = Scripted::named(place.at(9001), "one");
    let text = format!(
        "[admin]\nsocket = \"{}/admin.sock\"\nplain-listen = [\"{}\"]\nmetrics-allow = [\"127.0.0.0/8\"]\n[log]\nformat = \"json\"\n",
        place.folder().display(),
        place.at(9080)
    ) + &service("web", "http", place.at(8080), &[place.at(9001)], "");
    let evenkeel = start(&place, &text);
    let mut tail = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["logs", "--follow", "--grep", "/seen", "--count", "2", "--socket"])
        .arg(evenkeel.socket())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ended = false;
    eventually("two lines come", Duration::from_secs(10), || {
        get(place.at(8080), "/other");
        get(place.at(8080), "/seen");
        ended = tail.try_wait().unwrap().is_some();
        ended
    });
    let mut lines = String::new();
    tail.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.contains("\"request\":\"GET /seen HTTP/1.1\",\"status\":200"), "{lines}");
    let metrics = get(place.at(9080), "/metrics").text();
    // Grafana's dashboard asks for nothing that is not there.
    let dashboard =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/grafana/evenkeel.json");
    let dashboard = std::fs::read_to_string(dashboard).unwrap();
    let panels: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(panels["panels"].as_array().unwrap().len() > 10);
    for word in dashboard
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|w| w.starts_with("evenkeel_"))
    {
        // No service of this test ends TLS.
        let there = metrics.contains(&format!("# TYPE {word} ")) || metrics.contains(&format!("\n{word}{{"));
        assert!(there, "the dashboard asks for {word}");
    }
    let value = |name: &str| {
        let line =
            metrics.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("evenkeel_service_requests_total{service=\"web\"}") >= 4.0);
    assert_eq!(value("evenkeel_server_up{pool=\"web\",server=\"s1\"}"), 1.0);
    let all = value("evenkeel_service_response_seconds_count{service=\"web\"}");
    assert_eq!(value("evenkeel_service_response_seconds_bucket{service=\"web\",le=\"+Inf\"}"), all);
    assert_eq!(get(place.at(9080), "/healthz").text(), "ok\n");
    assert_eq!(get(place.at(9080), "/api/v1/status").status, 404, "the API is on the socket alone");
}
