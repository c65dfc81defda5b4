//! Strangers at the admin address: connections that say nothing, logins that never end, wrong passwords.

use std::net::TcpStream;
use std::sync::Arc;

use evenkeel_testbed::{command, require};
use evenkeel_trust::Anyone;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::cost::{Attack, Target, connect_from};
use crate::http2::preface;
use crate::tls::HALF_HELLO;

pub const ADMIN: &str = "[admin]\nsocket = \"FOLDER/admin.sock\"\nlisten = [\"ADMIN\"]\n";
const SOURCES: [&str; 5] = ["127.0.0.1", "127.77.0.1", "127.77.0.2", "127.77.0.3", "127.77.0.4"];

/// A person with a token, who does what people do.
struct Person<'a> {
    target: &'a Target,
    token: String,
}

impl Person<'_> {
    fn new(target: &Target) -> Person<'_> {
        let token = target.evenkeel.ok(&["token", "add", "person", "--role", "admin"]).trim().to_owned();
        Person { target, token }
    }

    fn gets(&self, path: &str) -> String {
        let url = format!("https://{}{path}", self.target.place.at(9443));
        let token = format!("Authorization: Bearer {}", self.token);
        let arguments = ["-sk", "-m", "25", "-o", "/dev/null", "-w", "%{http_code}", "-H", &token, &url];
        command("curl", &arguments).out
    }

    /// The UI's first page, its states, a log in that is refused, and the command line.
    fn works(&self, what: &str) {
        for path in ["/api/v1/status", "/api/v1/configuration", "/healthz"] {
            assert_eq!(self.gets(path), "200", "{what}: {path}");
        }
        assert!(["200", "404"].contains(&&*self.gets("/")), "{what}: the UI");
        assert_eq!(self.target.evenkeel.cli(&["status"]).code, 0, "{what}: the command line");
    }
}

fn over_tls(stream: TcpStream, protocol: &[u8]) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").ok()?).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).ok()?;
    stream.set_write_timeout(Some(std::time::Duration::from_secs(10))).ok()?;
    Some(StreamOwned::new(client, stream))
}

/// Opens so many connections over TLS from several addresses, sends some bytes on each and keeps them. Who is
/// not let in is not counted.
fn opened(target: &Target, count: usize, protocol: &[u8], bytes: &[u8]) -> Attack {
    let mut attack = Attack::default();
    for number in 0..count {
        let Some(stream) = connect_from(SOURCES[number % SOURCES.len()], target.place.at(9443)) else {
            continue;
        };
        let Some(mut tls) = over_tls(stream, protocol) else { continue };
        if std::io::Write::write_all(&mut tls, bytes).is_ok() {
            attack.sent += bytes.len() as u64;
            attack.held.push(tls.sock);
        }
    }
    attack
}

#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    if !require(&["curl"]) {
        return;
    }
    let target = Target::start("hostile-admin", ADMIN, "");
    let person = Person::new(&target);
    person.works("before");
    target.endures("1,000 silent connections of HTTP/2 at the admin address", 192, |target| {
        let attack = opened(target, 1_000, b"h2", &preface(&[]));
        person.works("beside silent connections");
        attack
    });
    target.endures("1,000 unfinished handshakes at the admin address", 96, |target| {
        let mut attack = Attack::default();
        for number in 0..1_000 {
            let source = SOURCES[number % SOURCES.len()];
            let Some(stream) = connect_from(source, target.place.at(9443)) else { continue };
            attack.send(&stream, HALF_HELLO);
            attack.held.push(stream);
        }
        person.works("beside unfinished handshakes");
        attack
    });
    target.endures("300 logins that do not end", 96, |target| {
        let head = b"POST /api/v1/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{";
        let attack = opened(target, 300, b"http/1.1", head);
        person.works("beside logins that do not end");
        attack
    });
    person.works("after all");
}

#[test]
fn wrong_passwords_of_strangers_keep_nobody_out() {
    if !require(&["curl"]) {
        return;
    }
    let target = Target::start("hostile-login", ADMIN, "");
    let person = Person::new(&target);
    let password = target.place.write("password", "correct horse battery\n");
    let add = format!(
        "EVENKEEL_SOCKET={} {} user add ann --role admin --password-stdin < {}",
        target.evenkeel.socket().display(),
        env!("CARGO_BIN_EXE_evenkeel"),
        password.display()
    );
    assert_eq!(command("sh", &["-c", &add]).code, 0);
    let url = format!("https://{}/api/v1/login", target.place.at(9443));
    let log_in = |source: &str, password: &str| {
        let body = format!(r#"{{"name":"ann","password":"{password}"}}"#);
        let arguments = [
            "-sk",
            "-m",
            "25",
            "--interface",
            source,
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            "Content-Type: application/json",
            "-d",
            &body,
            &url,
        ];
        command("curl", &arguments).out
    };
    target.endures("40 wrong passwords from strangers' addresses", 64, |_| {
        for number in 0..40 {
            let status = log_in(SOURCES[1 + number % 4], "wrong horse battery");
            assert!(["401", "429", "503"].contains(&&*status), "a wrong password got {status}");
        }
        Attack { sent: 40 * 300, ..Attack::default() }
    });
    assert_eq!(log_in("127.0.0.1", "correct horse battery"), "200", "the owner is kept out");
    person.works("after wrong passwords");
}

#[test]
fn metrics_that_nobody_reads() {
    if !require(&["curl"]) {
        return;
    }
    let keys = "[admin]\nsocket = \"FOLDER/admin.sock\"\nplain-listen = [\"ADMIN\"]\n";
    let target = Target::start("hostile-metrics", keys, "");
    let url = format!("http://{}/metrics", target.place.at(9443));
    let scrape = || {
        command("curl", &["-s", "-m", "25", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url])
            .out
    };
    let normal = scrape();
    assert!(normal.starts_with("200 "), "{normal}");
    target.endures("answers with metrics that are not read", 64, |target| {
        let mut attack = Attack::default();
        let pipelined = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(50);
        for number in 0..400 {
            let source = SOURCES[number % SOURCES.len()];
            let Some(stream) = connect_from(source, target.place.at(9443)) else { continue };
            attack.send(&stream, &pipelined);
            attack.held.push(stream);
        }
        assert!(scrape().starts_with("200 "), "who reads them gets them");
        attack
    });
}

/// A session of a person, as the headers that a script sends.
pub fn session_of(target: &Target, name: &str) -> Vec<String> {
    let url = format!("https://{}/api/v1/login", target.place.at(9443));
    let body = format!(r#"{{"name":"{name}","password":"correct horse battery"}}"#);
    let json = "Content-Type: application/json";
    let out = command("curl", &["-sk", "-m", "25", "-i", "-H", json, "-d", &body, &url]).out;
    let cookie = out.lines().find_map(|l| l.strip_prefix("set-cookie: ")).expect("a cookie");
    let csrf = out.split("\"csrf\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a word");
    vec![format!("Cookie: {}", cookie.split(';').next().unwrap_or("")), format!("X-Evenkeel-Csrf: {csrf}")]
}

/// A request over TLS of which so many bytes of the body are sent.
pub fn began(target: &Target, line: &str, headers: &[String], body: &str, sent: usize) -> Held {
    let stream = connect_from("127.0.0.1", target.place.at(9443)).expect("it is connected");
    let mut tls = over_tls(stream, b"http/1.1").expect("TLS");
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n\r\n",
        body.len(),
        headers.join("\r\n")
    );
    std::io::Write::write_all(&mut tls, head.as_bytes()).expect("the head is sent");
    std::io::Write::write_all(&mut tls, &body.as_bytes()[..sent]).expect("a part is sent");
    tls
}

pub type Held = StreamOwned<ClientConnection, TcpStream>;

/// What comes until the connection ends, or nothing comes for a while.
pub fn rest_of(tls: &mut Held) -> (String, bool) {
    let (mut said, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match std::io::Read::read(tls, &mut some) {
            Ok(0) => return (String::from_utf8_lossy(&said).into_owned(), true),
            Ok(count) => said.extend_from_slice(&some[..count]),
            Err(why) => {
                let ended =
                    !matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                return (String::from_utf8_lossy(&said).into_owned(), ended);
            }
        }
    }
}

#[test]
fn who_loses_a_role_does_nothing_more_by_what_was_begun() {
    if !require(&["curl"]) {
        return;
    }
    let target = Target::start("hostile-removed", ADMIN, "");
    let password = target.place.write("password", "correct horse battery\n");
    let person = Person::new(&target);
    let add = |name: &str, role: &str| {
        let add = format!(
            "EVENKEEL_SOCKET={} {} user add {name} --role {role} --password-stdin < {}",
            target.evenkeel.socket().display(),
            env!("CARGO_BIN_EXE_evenkeel"),
            password.display()
        );
        command("sh", &["-c", &add]).code
    };
    for odd in ["..", ".", "", "a/b", "a%2fb", "a b", "ann\u{200b}", "\u{430}nn"] {
        assert_ne!(add(&format!("'{odd}'"), "admin"), 0, "{odd:?} is a name");
    }
    assert_eq!(add("owner", "admin"), 0);
    for (name, ends) in [
        ("ann", vec!["user", "remove", "ann"]),
        ("bob", vec!["user", "role", "bob", "viewer"]),
        ("cat", vec!["user", "password", "cat"]),
    ] {
        assert_eq!(add(name, "admin"), 0);
        let own = session_of(&target, name);
        let evil = format!("evil{name}");
        let user = format!(r#"{{"name":"{evil}","role":"admin","password":"correct horse battery"}}"#);
        let token = format!(r#"{{"name":"{evil}","role":"admin"}}"#);
        let mut held: Vec<(Held, &str, usize)> = Vec::new();
        for sent in [0, 10, user.len() - 1] {
            held.push((began(&target, "POST /api/v1/users", &own, &user, sent), &user, sent));
        }
        held.push((began(&target, "POST /api/v1/tokens", &own, &token, 3), &token, 3));
        let mut live = began(&target, "GET /api/v1/live", &own, "", 0);
        let mut logs = began(&target, "GET /api/v1/logs", &own, "", 0);
        std::thread::sleep(std::time::Duration::from_millis(300));
        match ends.contains(&"password") {
            false => drop(target.evenkeel.ok(&ends)),
            true => {
                let change = format!(
                    "EVENKEEL_SOCKET={} {} user password {name} --password-stdin < {}",
                    target.evenkeel.socket().display(),
                    env!("CARGO_BIN_EXE_evenkeel"),
                    password.display()
                );
                assert_eq!(command("sh", &["-c", &change]).code, 0);
            }
        }
        for (mut tls, body, sent) in held {
            let _ = std::io::Write::write_all(&mut tls, &body.as_bytes()[sent..]);
            let said = rest_of(&mut tls).0;
            assert!(said.starts_with("HTTP/1.1 401"), "{name}, {sent} bytes before: {said}");
        }
        assert!(!target.evenkeel.ok(&["user", "list"]).contains(&evil), "{name} made a person");
        assert!(!target.evenkeel.ok(&["token", "list"]).contains(&evil), "{name} made a token");
        assert!(rest_of(&mut live).1, "{name} still sees states");
        assert!(rest_of(&mut logs).1, "{name} still sees logs");
        assert_eq!(
            command(
                "curl",
                &[
                    "-sk",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    "-H",
                    &own[0],
                    "-H",
                    &own[1],
                    &format!("https://{}/api/v1/status", target.place.at(9443))
                ]
            )
            .out,
            "401"
        );
    }
    person.works("after all");
}
