//! Servers that the stats socket adds where there were none, and what else a client or an administrator does on
//! a process of HAProxy's command line, beside HAProxy.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_testbed::{Place, Scripted, eventually, get, has_program};

use crate::haproxy::{ask, ours, run};

/// Waits for a line of the log that holds a text.
fn told(syslog: &UdpSocket, name: &str, text: &str) -> String {
    let limit = Instant::now() + Duration::from_secs(10);
    let (mut seen, mut line) = (String::new(), [0; 2048]);
    while Instant::now() < limit {
        if let Ok(length) = syslog.recv(&mut line) {
            let line = String::from_utf8_lossy(&line[..length]).into_owned();
            if line.contains(text) {
                return line;
            }
            seen += &line;
        }
    }
    panic!("{name}: no line with {text:?} in {seen}");
}

fn walk(name: &str, command: Command) {
    let place = Place::new(&format!("added-{name}"));
    let socket = place.file("stats.sock");
    let syslog = UdpSocket::bind(place.at(5514)).unwrap();
    syslog.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let _server =
        Scripted::answering(place.at(9001), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned());
    let text = format!(
        "global\n  stats socket {} mode 600 level admin\n  log {log} local0 info\ndefaults\n  mode http\n  log global\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\nlisten l\n  bind {}\n  balance random\nfrontend whole\n  bind {}\n  option httplog\n  option http-buffer-request\n  default_backend be\nbackend be\n  option log-health-checks\n  option httpchk GET /\nfrontend taker\n  bind {taker} accept-proxy\n  http-request return status 200 content-type text/plain lf-string %[src]\nlisten mixed\n  bind {mixed}\n  balance roundrobin\n  server told {taker} send-proxy\n  server plain {server}\nbackend tls\n  server t0 {server} no-ssl\n  default-server ssl verify none\n  server t1 {server} no-ssl\n  server t2 {server}\n",
        socket.display(),
        place.at(8080),
        place.at(8081),
        log = place.at(5514),
        taker = place.at(8082),
        mixed = place.at(8083),
        server = place.at(9001),
    );
    let _process = run(&place, command, &text);
    let answer = || {
        let mut stream = TcpStream::connect(place.at(8080)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut all = String::new();
        stream.read_to_string(&mut all).ok()?;
        all.get(9..12).map(str::to_owned)
    };
    let mut first = None;
    eventually("it answers", Duration::from_secs(30), || {
        first = first.take().or_else(answer);
        first.is_some()
    });
    assert!(socket.exists(), "{name}: who has an answer finds the stats socket");
    assert_eq!(first.as_deref(), Some("503"), "{name}");
    let does = |command: &str, expect: &str| {
        let said = ask(&socket, command);
        assert!(said.contains(expect), "{name}: {command}: {said:?}");
    };
    let server = place.at(9001);
    does(&format!("add server l/s1 {server}"), "New server registered.");
    does("enable server l/s1", "");
    assert_eq!(get(place.at(8080), "/").status, 200, "{name}: a listen takes servers");
    does(&format!("add server l/s2 {server}"), "New server registered.");
    // A backend's own check is that of servers that come later.
    does(&format!("add server be/s1 {server} check inter 200ms rise 1 fall 1"), "New server registered.");
    does("enable server be/s1", "");
    does("enable health be/s1", "");
    told(&syslog, name, "Health check for server be/s1 succeeded, reason: Layer7 check passed, code: 200");
    // HAProxy answers 400 from version 3.0 on. A client that closes in the middle of a body that is waited for.
    let mut cut = TcpStream::connect(place.at(8081)).unwrap();
    cut.write_all(b"POST /cut HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    let _ = cut.read_to_string(&mut said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{name}: {said}");
    let line = told(&syslog, name, "\"POST /cut HTTP/1.1\"");
    assert!(
        line.contains(" be/<NOSRV> ")
            && (line.contains(" 400 ") || line.contains(" -1 "))
            && line.contains(" CR-- "),
        "{name}: {line}"
    );
    assert!(line.contains("/-1/-1/-1/"), "{name}: {line}");
    // Servers of one backend get a PROXY header as each line says.
    let mut texts: Vec<String> = (0..4).map(|_| get(place.at(8083), "/").text()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 2, "{name}: {texts:?}");
    does(&format!("add server mixed/s3 {server} send-proxy-v2 proto h1"), "New server registered.");
    does(&format!("add server mixed/s4 {server} proto h9"), "unknown MUX protocol");
    // TLS of a server is switched where it was ready for it.
    let tls = |server: &str, expect: &str| {
        let all = ask(&socket, "show servers state tls");
        let line = all.lines().find(|line| line.contains(&format!(" {server} "))).unwrap_or_default();
        assert!(line.contains(&format!(" - {expect} 0 - - 0")), "{name}: {server} {expect}: {all}");
    };
    tls("t0", "-1");
    tls("t1", "-1");
    tls("t2", "1");
    does("set server tls/t1 ssl on", "server ssl setting updated");
    tls("t1", "1");
    does("set server tls/t1 ssl off", "server ssl setting updated");
    tls("t1", "0");
    does("set server tls/t0 ssl on", "'set server <srv> ssl' cannot be set");
    does("debug dev log Early", "");
    does("expert-mode on; debug dev log Victory", "");
    let line = told(&syslog, name, "Victory\n");
    assert!(line.starts_with("<134>"), "{name}: {line}");
}

#[test]
fn servers_are_added_where_there_were_none() {
    walk("ours", ours());
    if has_program("haproxy") {
        walk("theirs", Command::new("haproxy"));
    }
}
