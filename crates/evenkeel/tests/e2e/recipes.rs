//! The recipes of docs/recipes.md, run: each with its own configuration, of which only addresses and files are
//! other ones, before scripted servers. What the page says of it is what happens.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_testbed::{
    Authority, Connection, Evenkeel, Place, Scripted, command, eventually, has_program, node, read_head,
    require,
};

use crate::start;

const PAGE: &str = include_str!("../../../../docs/recipes.md");

/// A recipe at work, and where its addresses are now.
struct Kitchen {
    place: Place,
    /// Of each address of the page.
    places: BTreeMap<String, Place>,
    text: String,
}

impl Kitchen {
    /// The configuration below this heading of the page.
    fn new(heading: &str, name: &str) -> Kitchen {
        let place = Place::new(&format!("recipe-{name}"));
        let (_, rest) = PAGE.split_once(&format!("## {heading}\n")).unwrap_or_else(|| panic!("{heading}"));
        let (_, rest) = rest.split_once("```toml\n").unwrap();
        let (written, _) = rest.split_once("```").unwrap();
        let mut places = BTreeMap::new();
        let mut text = String::new();
        for line in written.lines() {
            let mut line = line.to_owned();
            let key = line.trim().split(' ').next().unwrap_or("").to_owned();
            // What answers and clients say stays as the page has it.
            if ["address", "vip"].contains(&key.as_str()) {
                for last in 1..255 {
                    let address = format!("192.0.2.{last}");
                    let Some(at) = line.find(&format!("{address}:")) else { continue };
                    let own = places
                        .entry(address.clone())
                        .or_insert_with(|| Place::new(&format!("recipe-{name}-{last}")));
                    line.replace_range(at..at + address.len(), &own.at(0).ip().to_string());
                }
            }
            text += &line;
            text.push('\n');
        }
        Kitchen { place, places, text }
    }

    fn at(&self, address: &str) -> SocketAddr {
        let (host, port) = address.rsplit_once(':').unwrap();
        self.places[host].at(port.parse().unwrap())
    }

    fn replace(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{from}\n{}", self.text);
        self.text = self.text.replace(from, to);
    }

    fn certificate(&mut self) {
        let authority = Authority::new(&self.place, "authority");
        let file = authority.server(&self.place, "www.pem", &["www.example.org"]);
        self.replace("/etc/evenkeel/certs/www.pem", &file.display().to_string());
    }

    fn start(&self) -> Evenkeel {
        start(&self.place, &self.text)
    }
}

/// A web server that keeps the heads it gets.
fn keeping(at: SocketAddr, answer: &'static str) -> (Scripted, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let server = Scripted::start(at, move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if !head.contains("evenkeel-health") {
                kept.lock().unwrap().push(head);
            }
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (server, seen)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What curl says of an answer: its status, then its headers and body.
fn curl(url: &str, more: &[&str]) -> String {
    let all = [&["-sS", "-k", "-i", "--max-time", "10"], more, &[url]].concat();
    let done = command("curl", &all);
    let text = format!("{}{}", done.out, done.err);
    text.split_once(' ').map_or(text.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn behind_a_cdn_strangers_are_kept_off_and_clients_are_known() {
    if !require(&["curl"]) {
        return;
    }
    let mut kitchen = Kitchen::new("Behind a CDN or another proxy", "cdn");
    kitchen.certificate();
    // The CDN is where this test can be.
    kitchen.replace("\"203.0.113.0/24\"", "\"127.0.0.2/32\"");
    let (_server, seen) = keeping(kitchen.at("192.0.2.21:8080"), OK);
    let evenkeel = kitchen.start();
    evenkeel.await_server("behind-a-cdn", "web1", "up");
    let url = format!("https://{}/", kitchen.at("192.0.2.10:443"));
    let ask = |source: &str, header: &str| curl(&url, &["--interface", source, "-H", header]);
    assert!(ask("127.0.0.1", "X-A: b").starts_with("403"), "a stranger");
    let lies = ask("127.0.0.1", "CF-Connecting-IP: 203.0.113.9");
    assert!(lies.starts_with("403"), "a stranger who says what only the CDN may say: {lies}");
    let blocked = ask("127.0.0.2", "CF-Connecting-IP: 198.51.100.7");
    assert!(blocked.starts_with("403"), "{blocked}");
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
    let served = ask("127.0.0.2", "CF-Connecting-IP: 203.0.113.77");
    assert!(served.starts_with("200"), "{served}");
    let heads = seen.lock().unwrap().clone();
    let lines: Vec<String> = heads[0].lines().map(str::to_lowercase).collect();
    let told: Vec<&String> = lines.iter().filter(|line| line.starts_with("x-forwarded-for:")).collect();
    assert_eq!(told, ["x-forwarded-for: 203.0.113.77"], "{heads:?}");
    // What the client wrote itself gives way.
    let lie = [
        "--interface",
        "127.0.0.2",
        "-H",
        "CF-Connecting-IP: 203.0.113.78",
        "-H",
        "X-Forwarded-For: 1.2.3.4",
    ];
    assert!(curl(&url, &lie).starts_with("200"));
    let last = seen.lock().unwrap().last().cloned().unwrap().to_lowercase();
    assert!(last.contains("x-forwarded-for: 203.0.113.78") && !last.contains("1.2.3.4"), "{last}");
}

/// PostgreSQL as far as a check and a client ask: it wants a password, and repeats what comes then.
fn postgresql(at: SocketAddr, name: &'static str, is_well: Arc<AtomicBool>) -> Scripted {
    Scripted::start(at, move |mut stream| {
        let mut begin = [0; 256];
        let Ok(1..) = stream.read(&mut begin) else { return };
        let answer: &[u8] = if is_well.load(SeqCst) { b"R\0\0\0\x08\0\0\0\x03" } else { b"?" };
        if stream.write_all(answer).is_err() || stream.write_all(name.as_bytes()).is_err() {
            return;
        }
        while let Ok(count @ 1..) = stream.read(&mut begin) {
            let _ = stream.write_all(&begin[..count]);
        }
    })
}

#[test]
fn databases_go_to_the_primary_and_connect_anew_when_it_is_gone() {
    let kitchen = Kitchen::new("Databases and other long sessions", "databases");
    let well = [Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true))];
    let _primary = postgresql(kitchen.at("192.0.2.31:5432"), "primary", well[0].clone());
    let _standby = postgresql(kitchen.at("192.0.2.32:5432"), "standby", well[1].clone());
    let evenkeel = kitchen.start();
    evenkeel.await_server("postgresql", "primary", "up");
    evenkeel.await_server("postgresql", "standby", "up");
    let vip = kitchen.at("192.0.2.10:5432");
    let open = || {
        let mut connection = Connection::open(vip);
        connection.send(b"\0\0\0\x08\x04\xd2\x16\x2f");
        let mut answer = Vec::new();
        let mut stream = connection.stream().try_clone().unwrap();
        let mut bytes = [0; 64];
        while answer.len() < 9 + 7 {
            match stream.read(&mut bytes) {
                Ok(count @ 1..) => answer.extend_from_slice(&bytes[..count]),
                _ => break,
            }
        }
        (connection, String::from_utf8_lossy(answer.get(9..).unwrap_or(b"")).into_owned())
    };
    let mut sessions: Vec<Connection> = Vec::new();
    for _ in 0..6 {
        let (session, server) = open();
        assert_eq!(server, "primary", "`first`: everybody at the first server that is up");
        sessions.push(session);
    }
    if has_program("ss") {
        // Both sides of each session are asked whether they are still there, after a minute.
        let all = command("ss", &["-tno", "state", "established"]).out;
        let of =
            |address: String| all.lines().filter(|l| l.contains(&address) && l.contains("keepalive")).count();
        assert!(of(vip.to_string()) >= 6, "{all}");
        assert!(of(kitchen.at("192.0.2.31:5432").to_string()) >= 6, "{all}");
    }
    well[0].store(false, SeqCst);
    evenkeel.await_server("postgresql", "primary", "down");
    for session in &mut sessions {
        eventually("its sessions end", Duration::from_secs(5), || session.is_closed());
    }
    assert_eq!(open().1, "standby");
    well[0].store(true, SeqCst);
    evenkeel.await_server("postgresql", "primary", "up");
    assert_eq!(open().1, "primary");
}

#[test]
fn kubernetes_is_passed_through_to_masters_that_are_ready() {
    if !require(&["curl", "node", "openssl"]) {
        return;
    }
    let kitchen = Kitchen::new("The API of Kubernetes", "kubernetes");
    let authority = Authority::new(&kitchen.place, "cluster");
    let pem = authority.server(&kitchen.place, "api.pem", &["kubernetes.default"]);
    let script = format!(
        "const fs=require('fs'),pem=fs.readFileSync({pem:?});\nrequire('https').createServer({{key:pem,cert:pem}},(q,r)=>{{const off=fs.existsSync(__filename+'.off');r.statusCode=q.url==='/readyz'?(off?500:200):200;r.end(__filename.split('/').pop())}}).listen(+process.argv[3],process.argv[2]);\n"
    );
    let masters = [("master1", "192.0.2.41:6443"), ("master2", "192.0.2.42:6443")];
    let _servers = masters.map(|(name, at)| node(&kitchen.place, name, kitchen.at(at), &script));
    let evenkeel = kitchen.start();
    masters.iter().for_each(|(name, _)| evenkeel.await_server("kubernetes", name, "up"));
    let vip = kitchen.at("192.0.2.10:6443");
    let ca = authority.file.display().to_string();
    let resolve = format!("kubernetes.default:6443:{}", vip.ip());
    // The client verifies the masters' own certificate: TLS is passed through.
    let ask = || {
        let arguments = [
            "-sS",
            "--max-time",
            "10",
            "--cacert",
            &ca,
            "--resolve",
            &resolve,
            "https://kubernetes.default:6443/version",
        ];
        command("curl", &arguments)
    };
    let who = || ask().out.trim_end_matches(".js").to_owned();
    let mut seen = std::collections::BTreeSet::new();
    eventually("both masters answer", Duration::from_secs(10), || {
        seen.insert(who());
        seen.len() == 2
    });
    assert!(seen.contains("master1") && seen.contains("master2"), "{seen:?} {}", ask().err);
    kitchen.place.write("master1.js.off", "");
    evenkeel.await_server("kubernetes", "master1", "down");
    assert!((0..6).all(|_| who() == "master2"), "one that is not ready gets nobody");
}

/// A connection from this address, and what the server says first.
fn greeted(vip: SocketAddr, client: u8) -> String {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, client)), 0)).unwrap();
    connect(&socket, &vip).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut name = [0; 7];
    let count = stream.read(&mut name).unwrap_or(0);
    String::from_utf8_lossy(&name[..count]).into_owned()
}

#[test]
fn mqtt_clients_come_back_to_their_broker() {
    let kitchen = Kitchen::new("MQTT", "mqtt");
    let broker = |name: &'static str, at: &str| {
        Scripted::start(kitchen.at(at), move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
            let _ = stream.read(&mut [0; 16]);
        })
    };
    let first = broker("broker1", "192.0.2.51:1883");
    let second = broker("broker2", "192.0.2.52:1883");
    let evenkeel = kitchen.start();
    ["broker1", "broker2"].iter().for_each(|name| evenkeel.await_server("mqtt", name, "up"));
    let vip = kitchen.at("192.0.2.10:1883");
    let own: Vec<String> = (2..12).map(|client| greeted(vip, client)).collect();
    assert!(own.contains(&"broker1".to_owned()) && own.contains(&"broker2".to_owned()), "{own:?}");
    for _ in 0..3 {
        let again: Vec<String> = (2..12).map(|client| greeted(vip, client)).collect();
        assert_eq!(again, own);
    }
    drop(first);
    evenkeel.await_server("mqtt", "broker1", "down");
    assert!((2..12).all(|client| greeted(vip, client) == "broker2"));
    drop(second);
}

#[test]
fn places_in_answers_are_those_that_clients_can_go_to() {
    if !require(&["curl"]) {
        return;
    }
    let mut kitchen = Kitchen::new("Places in answers: Location and cookies", "places");
    kitchen.certificate();
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.61:8080/login?a=b\r\nSet-Cookie: one=1\r\nSet-Cookie: two=2; Path=/; Domain=.app.internal\r\nContent-Length: 0\r\n\r\n";
    let (_server, _) = keeping(kitchen.at("192.0.2.61:8080"), answer);
    let evenkeel = kitchen.start();
    evenkeel.await_server("places", "app1", "up");
    let got = curl(&format!("https://{}/", kitchen.at("192.0.2.10:443")), &[]).to_lowercase();
    for wanted in [
        "302",
        "location: https://www.example.org/login?a=b\r\n",
        "set-cookie: one=1; secure\r\n",
        "set-cookie: two=2; path=/; domain=www.example.org; secure\r\n",
    ] {
        assert!(got.contains(wanted), "{wanted}\n{got}");
    }
}

#[test]
fn upper_and_lower_case_are_as_the_page_says() {
    let kitchen = Kitchen::new("Texts, upper and lower case, and `*`", "case");
    let (_server, seen) = keeping(kitchen.at("192.0.2.21:8080"), OK);
    let evenkeel = kitchen.start();
    evenkeel.await_server("case", "web1", "up");
    let ask = |path: &str, headers: &str| {
        let mut connection = Connection::open(kitchen.at("192.0.2.10:80"));
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: A.test\r\n{headers}\r\n"));
        connection.answer().unwrap().status
    };
    for (path, headers, expect) in [
        ("/", "", 200),
        ("/admin", "", 403),
        ("/ADMIN", "", 403),
        ("/Admin/users", "", 403),
        ("/administrator", "", 200),
        ("/a/b.PhP", "", 403),
        ("/a/b.php5", "", 200),
        ("/", "User-Agent: SomeBOT/1\r\n", 429),
        ("/", "User-Agent: SomeBOT/1\r\nCookie: a=b\r\n", 200),
        ("/", "user-agent: robot\r\n", 429),
    ] {
        assert_eq!(ask(path, headers), expect, "{path} {headers}");
    }
    let brotli = |headers: &str| {
        assert_eq!(ask("/", headers), 200);
        seen.lock().unwrap().last().unwrap().to_lowercase().contains("x-brotli: 1")
    };
    for (headers, expect) in [
        ("Accept-Encoding: gzip, br\r\n", true),
        ("Accept-Encoding: br;q=0.5, gzip\r\n", true),
        ("Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n", true),
        ("Accept-Encoding: gzip, brotli\r\n", false),
        ("Accept-Encoding: BR\r\n", false),
        ("", false),
    ] {
        assert_eq!(brotli(headers), expect, "{headers}");
    }
}

/// The table of certificates that are refused: each is, with the words that the page names.
#[test]
fn certificates_are_refused_for_what_the_page_says() {
    if !require(&["openssl", "node"]) {
        return;
    }
    let place = Place::new("recipe-certificates");
    let (authority, other) = (Authority::new(&place, "inner"), Authority::new(&place, "strange"));
    let day = Duration::from_secs(86_400);
    let expired = authority.server_within(&place, "expired.pem", &["s.test"], day * 9, Duration::ZERO);
    let good = authority.server(&place, "good.pem", &["s.test"]);
    let named = authority.server(&place, "named.pem", &["t.test"]);
    let unknown = other.server(&place, "unknown.pem", &["s.test"]);
    // Version 1, as `openssl x509 -req` makes it without -extfile.
    let path = |name: &str| place.file(name).display().to_string();
    let run = |arguments: &[&str]| {
        let done = command("openssl", arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
    };
    run(&[
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=s.test",
        "-keyout",
        &path("v1.key"),
        "-out",
        &path("v1.csr"),
    ]);
    run(&[
        "x509",
        "-req",
        "-in",
        &path("v1.csr"),
        "-signkey",
        &path("v1.key"),
        "-days",
        "9",
        "-out",
        &path("v1.crt"),
    ]);
    let text = ["v1.crt", "v1.key"].map(|name| std::fs::read_to_string(place.file(name)).unwrap()).concat();
    let v1 = place.write("v1.pem", text);
    let script = |pem: &Path| {
        format!(
            "const pem=require('fs').readFileSync({pem:?});require('https').createServer({{key:pem,cert:pem}},(q,r)=>r.end('ok')).listen(+process.argv[3],process.argv[2]);\n"
        )
    };
    let mut config = String::new();
    let mut servers = Vec::new();
    let all: [(&str, &Path, &str); 5] = [
        ("good", &good, ""),
        ("version-1", &v1, "version 1"),
        ("name", &named, "not valid for name"),
        ("issuer", &unknown, "UnknownIssuer"),
        ("expired", &expired, "expired"),
    ];
    for (number, (name, pem, _)) in all.iter().enumerate() {
        let at = place.at(9001 + number as u16);
        servers.push(node(&place, name, at, &script(pem)));
        let vip = place.at(8001 + number as u16);
        let ca = authority.file.display();
        config += &format!(
            "[[virtual-service]]\nname = \"{name}\"\nvip = [\"{vip}\"]\nmode = \"http\"\nserver-tls = {{ ca = \"{ca}\", sni = \"s.test\" }}\nhealth-check = {{ type = \"http\", path = \"/\", interval = \"300ms\", fall = 1, rise = 1 }}\n  [[virtual-service.real-server]]\n  name = \"s\"\n  address = \"{at}\"\n"
        );
    }
    let evenkeel = start(&place, &config);
    evenkeel.await_server("good", "s", "up");
    let (_, table) = PAGE.split_once("## Certificates that are refused\n").unwrap();
    for (name, _, words) in &all[1..] {
        evenkeel.await_server(name, "s", "down");
        let detail = evenkeel.server(name, "s")["check"]["detail"].as_str().unwrap_or("").to_owned();
        assert!(detail.contains(words), "{name}: {detail}");
        let first = |row: &str| row.trim_start_matches("| ").split(" |").next().unwrap_or("").to_owned();
        assert!(table.lines().any(|row| row.starts_with("| ") && first(row).contains(words)), "{words}");
    }
}

#[test]
fn heads_are_as_long_as_the_page_says() {
    let place = Place::new("recipe-heads");
    let at = place.at(9001);
    // It says as much as it is asked for.
    let _server = Scripted::start(at, |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let length = head.split("/?").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
            let filler = "a".repeat(length.unwrap_or(0));
            let answer = format!("HTTP/1.1 200 OK\r\nX-A: {filler}\r\nContent-Length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let config = crate::service("web", "http", place.at(8080), &[at], "health-check = { type = \"tcp\" }");
    let evenkeel = start(&place, &config);
    evenkeel.await_server("web", "s1", "up");
    let status = |request: usize, answer: usize| {
        let mut connection = Connection::open(place.at(8080));
        let filler = "a".repeat(request);
        connection.send(format!("GET /?{answer} HTTP/1.1\r\nHost: a\r\nX-A: {filler}\r\n\r\n"));
        connection.answer().map_or(0, |answer| answer.status)
    };
    assert!(PAGE.contains("may have 16 KiB each"));
    for (request, answer, expect) in [
        (15 << 10, 0, 200),
        (17 << 10, 0, 431),
        (0, 15 << 10, 200),
        (0, 17 << 10, 502),
        (15 << 10, 15 << 10, 200),
    ] {
        assert_eq!(status(request, answer), expect, "{request} {answer}");
    }
}

/// The table of what differs from HAProxy where nothing is written: Evenkeel's column is the reference's.
#[test]
fn defaults_are_those_of_the_page() {
    let reference = include_str!("../../../../docs/reference/configuration.md");
    let (_, table) = PAGE.split_once("## What differs from HAProxy where nothing is written\n").unwrap();
    let (_, times) = reference.split_once("timeouts").unwrap();
    let row = |begin: &str| {
        let line = table
            .lines()
            .find(|line| line.starts_with(&format!("| {begin}")))
            .unwrap_or_else(|| panic!("{begin}"));
        line.trim_end_matches(" |").rsplit(" | ").next().unwrap_or("").to_owned()
    };
    assert_eq!(row("connect, client, server"), "4 s, 42 s, 43 s");
    for (key, expect) in
        [("connect", "4s"), ("client", "42s"), ("server", "43s"), ("queue", "10s"), ("request", "10s")]
    {
        let found = times
            .lines()
            .any(|line| line.starts_with(&format!("| `{key}`")) && line.contains(&format!("`{expect}`")));
        assert!(found, "{key} = {expect} is not the reference's");
    }
    assert!(row("waiting for a server").contains("10 s") && row("a request's head").contains("10 s"));
}
