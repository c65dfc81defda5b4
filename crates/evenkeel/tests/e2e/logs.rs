//! The access log beside HAProxy's own, live tail, metrics.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, eventually, get, haproxy, nginx, require};

use crate::{service, start};

/// One story, told to whichever load balancer listens there.
fn story(vip: SocketAddr, raw: SocketAddr) {
    // Each connection is gone before the next comes, so that the counts are the same.
    let pause = || std::thread::sleep(Duration::from_millis(400));
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
fn lines_of_ones_own_are_haproxys_log_format() {
    if !require(&["nginx", "haproxy"]) {
        return;
    }
    let place = Place::new("log-format");
    let _nginx = nginx(&place, "origin", place.at(9001));
    let config = |web: SocketAddr, raw: SocketAddr, log: &str| {
        format!(
            "global\nlog {log} local0\nmaxconn 100\ndefaults\nlog global\ntimeout connect 4s\ntimeout client 42s\ntimeout server 43s\n\
             frontend web\nmode http\nlog-format \"%f %ci %b/%s %ST %{{+Q}}r m=%HM u=%HU p=%HP o=%HPO q=%HQ v=%HV a=%[var(txn.a)] l=%[var(txn.a),lower] %tsc %rc %sq/%bq {{x}} 100%%\"\n\
             bind {web}\nhttp-request set-var(txn.a) req.fhdr(x-agent)\ndefault_backend pool\n\
             backend pool\nmode http\nserver s1 {}\n\
             frontend raw\nmode tcp\nlog-format \"%f %ci %fi:%fp %b/%s %si:%sp %ts %B\"\nbind {raw}\ndefault_backend rawpool\n\
             backend rawpool\nmode tcp\nserver s1 {}\n",
            place.at(9001),
            place.at(9001)
        )
    };
    let theirs =
        haproxy(&place, &config(place.at(8090), place.at(8091), "stdout format raw"), place.at(8090));
    let file = place.write("ours.cfg", config(place.at(8080), place.at(8081), "stdout format raw"));
    let output = std::fs::File::create(place.file("ours.log")).unwrap();
    let mut ours = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    ours.args(["haproxy", "-db", "-f"]).arg(file).stdout(output);
    let ours = evenkeel_testbed::Process::start(&mut ours);
    eventually("it serves", Duration::from_secs(10), || std::net::TcpStream::connect(place.at(8080)).is_ok());
    let more = |web: SocketAddr| {
        let mut kept = Connection::open(web);
        for (target, agent) in
            [("/a?b=c&d", "Moz/5 (x)"), ("http://test/abs/olute?q", "UPPER"), ("/none", "")]
        {
            kept.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\nX-Agent: {agent}\r\n\r\n"));
            kept.answer();
        }
        drop(kept);
        std::thread::sleep(Duration::from_millis(400));
    };
    more(place.at(8090));
    story(place.at(8090), place.at(8091));
    more(place.at(8080));
    story(place.at(8080), place.at(8081));
    eventually("the lines are written", Duration::from_secs(5), || {
        std::fs::read_to_string(place.file("ours.log")).unwrap().contains("raw ")
    });
    drop((theirs, ours));
    let port = |port: u16| place.at(port).port().to_string();
    let lines = |path: &str, own: [u16; 2]| -> Vec<String> {
        let text = std::fs::read_to_string(place.file(path)).unwrap();
        let lines = text.lines().filter(|l| l.starts_with("web ") || l.starts_with("raw "));
        // The tests' own waiting said nothing.
        let lines = lines.filter(|l| !l.contains(" CR-- "));
        lines.map(|l| l.replace(&port(own[1]), "PORT").replace(&port(own[0]), "PORT")).collect()
    };
    let (ours, theirs) = (lines("ours.log", [8080, 8081]), lines("haproxy.log", [8090, 8091]));
    assert!(ours.len() >= 9, "{ours:#?}");
    assert_eq!(ours, theirs);
}

#[test]
fn services_have_lines_of_their_own() {
    let place = Place::new("own-lines");
    let _server = Scripted::named(place.at(9001), "one");
    let log = place.file("access.log");
    let own = "log-format = '{{\"agent\":\"{header:User-Agent|json}\",\"status\":{status}}}'";
    let text =
        format!("[log]\naccess = \"{}\"\nformat = '{{service}} {{header:X-A}} {{status}}'\n", log.display())
            + &service("web", "http", place.at(8080), &[place.at(9001)], "")
            + &service("own", "http", place.at(8081), &[place.at(9001)], own);
    let evenkeel = start(&place, &text);
    for port in [8080, 8081] {
        let mut connection = Connection::open(place.at(port));
        connection.send("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \"quoted\"\r\nX-A: a\tb\"\r\n\r\n");
        assert_eq!(connection.answer().map(|a| a.status), Some(200));
    }
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("two lines", Duration::from_secs(5), || read().lines().count() == 2);
    let lines = read();
    assert!(lines.contains("web a#09b#22 200\n"), "what could end a field is escaped: {lines}");
    let json = lines.lines().find(|l| l.starts_with('{')).unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!((json["agent"].as_str(), json["status"].as_u64()), (Some("\"quoted\""), Some(200)));
    // A change is heard without a restart; a mistake names the field.
    let changed = place.write(
        "changed.toml",
        Evenkeel::complete(&place, &text).replace("{service} {header:X-A} {status}", "now {status}"),
    );
    evenkeel.ok(&["commit", &changed.display().to_string()]);
    get(place.at(8080), "/");
    eventually("the new form", Duration::from_secs(5), || read().contains("now 200\n"));
    let wrong =
        place.write("wrong.toml", Evenkeel::complete(&place, &text).replace("{status}'", "{statsu}'"));
    let told =
        evenkeel_testbed::command(env!("CARGO_BIN_EXE_evenkeel"), &["check", &wrong.display().to_string()]);
    assert!(
        told.code != 0 && told.err.contains("{statsu}") && told.err.contains("bytes-out"),
        "{}",
        told.err
    );
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

/// What of a line's severity rules say, at every place where they can, and targets that take a part alone.
#[test]
fn rules_say_how_lines_are_marked() {
    if !require(&["nginx", "haproxy"]) {
        return;
    }
    let place = Place::new("log-level");
    let _nginx = nginx(&place, "origin", place.at(9001));
    let config = |web: SocketAddr, raw: SocketAddr, levels: &str| {
        let server = place.at(9001);
        format!(
            "global\nlog stdout format short local0 {levels}\ndefaults\nlog global\ntimeout connect 4s\ntimeout client 42s\ntimeout server 43s\n\
             frontend web\nmode http\nlog-format \"web %HP %ST\"\nbind {web}\n\
             http-request set-log-level silent if {{ path /silent /denied /answered }}\n\
             http-request set-log-level err if {{ path /err }}\n\
             http-request set-log-level notice if {{ path /twice }}\n\
             http-request set-log-level debug if {{ path /twice }}\n\
             http-request set-log-level silent if {{ path /again }}\n\
             http-request set-log-level emerg if {{ path /again }}\n\
             http-request deny if {{ path /denied /refused }}\n\
             http-request return status 200 if {{ path /answered }}\n\
             http-response set-log-level silent if {{ var(txn.quiet) -m found }}\n\
             http-response set-log-level alert if {{ status 200 }} {{ var(txn.loud) -m found }}\n\
             http-request set-var(txn.quiet) int(1) if {{ path /late }}\n\
             http-request set-var(txn.loud) int(1) if {{ path /loud }}\n\
             default_backend pool\n\
             backend pool\nmode http\nhttp-request set-log-level crit if {{ path /pool }}\nserver s1 {server}\n\
             frontend raw\nmode tcp\nlog-format \"raw %ts\"\nbind {raw}\ntcp-request content set-log-level warning if {{ src 127.0.0.0/8 }}\ndefault_backend rawpool\n\
             backend rawpool\nmode tcp\nserver s1 {server}\n",
        )
    };
    let paths = [
        "/usual",
        "/silent",
        "/err",
        "/twice",
        "/again",
        "/denied",
        "/refused",
        "/answered",
        "/late",
        "/none",
        "/pool",
    ];
    let talk = |web: SocketAddr, raw: SocketAddr| {
        paths.iter().for_each(|path| drop(get(web, path)));
        let mut kept = Connection::open(web);
        // What one request's rules say is not the next one's.
        ["/silent", "/usual", "/err", "/usual"].iter().for_each(|path| drop(kept.get(path)));
        drop(kept);
        let mut tcp = Connection::open(raw);
        tcp.send("GET /tcp HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        tcp.read_all();
    };
    for (number, levels) in ["", "warning", "warning err"].into_iter().enumerate() {
        let at = |port: u16| place.at(port + 2 * number as u16);
        let theirs = haproxy(&place, &config(at(8090), at(8091), levels), at(8090));
        let file = place.write("ours.cfg", config(at(8080), at(8081), levels));
        let output = std::fs::File::create(place.file("ours.log")).unwrap();
        let mut ours = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        ours.args(["haproxy", "-db", "-f"]).arg(file).stdout(output);
        let ours = evenkeel_testbed::Process::start(&mut ours);
        eventually("it serves", Duration::from_secs(10), || std::net::TcpStream::connect(at(8080)).is_ok());
        talk(at(8090), at(8091));
        talk(at(8080), at(8081));
        eventually("the lines are written", Duration::from_secs(5), || {
            std::fs::read_to_string(place.file("ours.log")).unwrap().contains("raw ")
        });
        drop((theirs, ours));
        let lines = |path: &str| -> Vec<String> {
            let text = std::fs::read_to_string(place.file(path)).unwrap();
            let lines = text.lines().filter(|l| l.contains(">web /") || l.contains(">raw "));
            // Threads write their lines by themselves.
            let mut lines: Vec<String> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let (ours, theirs) = (lines("ours.log"), lines("haproxy.log"));
        assert!(ours.len() >= 4, "{ours:#?}");
        assert_eq!(ours, theirs, "{levels}");
    }
}
