//! The ways to keep a client on its real server, beyond source address and inserted cookie.

use std::io::{Read, Write};
use std::time::Duration;

use evenkeel_testbed::{Answer, Connection, Place, Scripted, command, eventually, read_head, require};

use crate::{service, start};

/// Servers that set a cookie of the application and tell the cookies that they got.
fn applications(place: &Place, count: u16) -> Vec<Scripted> {
    let one = |number: u16| {
        Scripted::start(place.at(9000 + number), move |mut stream| {
            while let Some(head) = read_head(&mut stream) {
                let cookies: String = head.lines().filter(|l| l.starts_with("Cookie:")).collect();
                let body = format!("s{number} {cookies}");
                let set = if head.starts_with("GET /login") {
                    "Set-Cookie: APP=id42; Path=/; HttpOnly\r\n"
                } else {
                    ""
                };
                let _ =
                    write!(stream, "HTTP/1.1 200 OK\r\n{set}Content-Length: {}\r\n\r\n{body}", body.len());
            }
        })
    };
    (1..=count).map(one).collect()
}

fn config(place: &Place, persistence: &str) -> String {
    let servers: Vec<_> = (1..=4).map(|n| place.at(9000 + n)).collect();
    let keys = format!("health-check = {{ type = \"none\" }}\npersistence = {{ {persistence} }}");
    service("web", "http", place.at(8080), &servers, &keys)
}

fn ask(place: &Place, request: &str) -> Answer {
    let mut connection = Connection::open(place.at(8080));
    connection.send(format!("{request}\r\nHost: a\r\n\r\n"));
    connection.answer().unwrap_or_else(|| panic!("no answer to {request}"))
}

/// The server that answered each of some requests.
fn who(place: &Place, request: &str) -> String {
    ask(place, request).text().split(' ').next().unwrap_or("").to_owned()
}

/// The first cookie that an answer sets, and where it came from.
fn login(place: &Place) -> (String, String) {
    let answer = ask(place, "GET /login HTTP/1.1");
    let cookie = answer.field("set-cookie").unwrap_or("").to_owned();
    (cookie, answer.text().split(' ').next().unwrap_or("").to_owned())
}

#[test]
fn cookies_of_the_application_are_rewritten_prefixed_or_read() {
    let place = Place::new("cookies");
    let _servers = applications(&place, 4);
    let evenkeel = start(&place, &config(&place, "type = \"cookie\", name = \"APP\", method = \"rewrite\""));
    for _ in 0..5 {
        let (cookie, server) = login(&place);
        assert_eq!(cookie, format!("APP={server}; Path=/; HttpOnly"));
        for _ in 0..4 {
            assert_eq!(who(&place, &format!("GET / HTTP/1.1\r\nCookie: APP={server}")), server);
        }
    }
    evenkeel.commit(&place, &config(&place, "type = \"cookie\", name = \"APP\", method = \"prefix\""));
    for _ in 0..5 {
        let (cookie, server) = login(&place);
        assert_eq!(cookie, format!("APP={server}~id42; Path=/; HttpOnly"));
        let answer = ask(&place, &format!("GET / HTTP/1.1\r\nCookie: a=b; APP={server}~id42; c=d"));
        assert_eq!(
            answer.text(),
            format!("{server} Cookie: a=b; APP=id42; c=d"),
            "the application sees its own"
        );
    }
    evenkeel.commit(&place, &config(&place, "type = \"cookie\", name = \"APP\", method = \"passive\""));
    assert_eq!(login(&place).0, "APP=id42; Path=/; HttpOnly");
    for _ in 0..4 {
        assert_eq!(who(&place, "GET / HTTP/1.1\r\nCookie: APP=s3"), "s3");
    }
}

#[test]
fn a_cookie_can_be_for_several_domains() {
    let place = Place::new("cookie-domains");
    let _servers = applications(&place, 2);
    let rule = "type = \"cookie\", name = \"S\", domains = [\"a.example\", \"b.example\"], httponly = true";
    let _evenkeel = start(&place, &config(&place, rule));
    let answer = ask(&place, "GET / HTTP/1.1");
    let cookies: Vec<_> =
        answer.head.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).map(str::to_owned).collect();
    let server = answer.text().split(' ').next().unwrap().to_owned();
    let set = |domain: &str| format!("S={server}; path=/; domain={domain}; HttpOnly");
    assert_eq!(cookies, [set("a.example"), set("b.example")]);
}

#[test]
fn inserted_cookies_are_for_posts_and_grow_old() {
    let place = Place::new("cookie-age");
    let _servers = applications(&place, 4);
    let rule = "type = \"cookie\", name = \"S\", postonly = true, indirect = true, max-idle = \"1h\", max-life = \"2h\", secure = true, samesite = \"strict\", domains = [\"example.org\"]";
    let _evenkeel = start(&place, &config(&place, rule));
    assert_eq!(ask(&place, "GET / HTTP/1.1").field("set-cookie"), None);
    let answer = ask(&place, "POST / HTTP/1.1\r\nContent-Length: 0");
    let cookie = answer.field("set-cookie").unwrap().to_owned();
    let server = answer.text().split(' ').next().unwrap().to_owned();
    assert!(cookie.starts_with(&format!("S={server}|")), "{cookie}");
    assert!(cookie.ends_with("; path=/; domain=example.org; Secure; SameSite=Strict"), "{cookie}");
    let value = cookie.split(';').next().unwrap();
    let again = ask(&place, &format!("POST / HTTP/1.1\r\nContent-Length: 0\r\nCookie: {value}"));
    assert!(again.text().starts_with(&server) && again.field("set-cookie").is_some(), "renewed by its use");
    assert!(!again.text().contains("Cookie"), "indirect");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let at = |last: u64, first: u64| {
        let cookie = format!("GET / HTTP/1.1\r\nCookie: S=s2|{:x}|{:x}", now - last, now - first);
        (0..6).all(|_| who(&place, &cookie) == "s2")
    };
    assert!(at(1800, 3000));
    assert!(!at(3700, 3800), "idle for too long");
    assert!(!at(100, 7300), "too old");
    assert!(
        (0..6).any(|_| who(&place, "GET / HTTP/1.1\r\nCookie: S=s2") != "s2"),
        "without a time it counts as old"
    );
}

#[test]
fn headers_and_learned_cookies_have_tables() {
    let place = Place::new("tables");
    let _servers = applications(&place, 4);
    let evenkeel = start(&place, &config(&place, "type = \"header\", name = \"X-User\", expire = \"1h\""));
    for user in ["alice", "bob", "carol", "dave"] {
        let server = who(&place, &format!("GET / HTTP/1.1\r\nX-User: {user}"));
        for _ in 0..4 {
            assert_eq!(who(&place, &format!("GET / HTTP/1.1\r\nx-user: {user}")), server);
        }
    }
    let listed = evenkeel.json(&["persistence", "list", "web"]);
    let keys: Vec<_> = listed.as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["alice", "bob", "carol", "dave"]);
    let some = evenkeel.json(&["persistence", "list", "web", "--key", "ar"]);
    assert_eq!((some.as_array().unwrap().len(), &some[0]["key"]), (1, &listed[2]["key"]));
    let server = listed[0]["real-server"].as_str().unwrap();
    let on_it = evenkeel.json(&["persistence", "list", "web", "--server", server]);
    assert!(on_it.as_array().unwrap().iter().all(|e| e["real-server"] == server));
    assert_eq!(evenkeel.ok(&["persistence", "clear", "web", "bob"]).trim(), "1 entry cleared");
    evenkeel.commit(&place, &config(&place, "type = \"app-cookie\", name = \"APP\""));
    let (cookie, server) = login(&place);
    assert!(cookie.starts_with("APP=id42"), "{cookie}");
    for _ in 0..6 {
        assert_eq!(who(&place, "GET / HTTP/1.1\r\nCookie: APP=id42"), server);
    }
    assert_eq!(evenkeel.json(&["persistence", "list", "web"])[0]["real-server"], server.as_str());
}

#[test]
fn parameters_of_queries_keep_their_server() {
    let place = Place::new("query");
    let _servers = applications(&place, 4);
    let evenkeel = start(&place, &config(&place, "type = \"query\", name = \"room\", expire = \"1h\""));
    for room in ["a", "b", "c", "d", "e"] {
        let server = who(&place, &format!("GET /?room={room} HTTP/1.1"));
        for target in ["/x?y=1&room=", "/?room="] {
            assert_eq!(who(&place, &format!("GET {target}{room} HTTP/1.1")), server, "{room}");
        }
    }
    // Without a value nobody is kept.
    assert!((0..8).any(|_| who(&place, "GET /?room= HTTP/1.1") != who(&place, "GET /?rooms=a HTTP/1.1")));
    let listed = evenkeel.json(&["persistence", "list", "web"]);
    let keys: Vec<_> = listed.as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "c", "d", "e"]);
    let explained = evenkeel.ok(&["explain", &format!("http://{}/?room=a", place.at(8080))]);
    assert!(explained.contains("room=a"), "{explained}");
}

/// One server for all, and no way back until it is down itself: what databases in a circle want.
#[test]
fn all_clients_of_an_address_are_on_one_server_and_a_backup_may_keep_them() {
    let place = Place::new("destination");
    let _servers = applications(&place, 2);
    for mode in ["http", "tcp"] {
        let servers = [place.at(9001), place.at(9002)];
        let keys = "health-check = { type = \"none\" }\npersistence = { type = \"destination\" }";
        let text = service("web", mode, place.at(8080), &servers, keys);
        let text = text.replace("9002\"", "9002\"\n  backup = true\n  keeps-clients = true");
        let evenkeel = start(&place, &text);
        let all_on = |name: &str| (0..4).all(|_| who(&place, "GET / HTTP/1.1") == name);
        assert!(all_on("s1"), "{mode}");
        evenkeel.ok(&["halt", "web/s1"]);
        eventually("the backup serves", Duration::from_secs(5), || all_on("s2"));
        evenkeel.ok(&["online", "web/s1"]);
        assert!(all_on("s2"), "{mode}: nobody goes back");
        evenkeel.ok(&["halt", "web/s2"]);
        eventually("the first serves again", Duration::from_secs(5), || all_on("s1"));
        evenkeel.ok(&["online", "web/s2"]);
        assert!(all_on("s1"), "{mode}");
    }
}

/// A connection request of X.224 with a routing line, as RDP clients send it.
pub fn rdp(line: &str) -> Vec<u8> {
    let mut message = vec![0xe0, 0, 0, 0, 0, 0];
    message.extend_from_slice(line.as_bytes());
    message.extend_from_slice(&[1, 0, 8, 0, 3, 0, 0, 0]);
    let mut bytes = vec![3, 0];
    bytes.extend_from_slice(&(message.len() as u16 + 5).to_be_bytes());
    bytes.push(message.len() as u8);
    bytes.extend(message);
    bytes
}

#[test]
fn rdp_users_and_broker_tokens_find_their_server() {
    let place = Place::new("rdp");
    let _servers: Vec<_> = (1..=4u16)
        .map(|number| {
            Scripted::start(place.at(9000 + number), move |mut stream| {
                let mut head = [0; 4];
                if stream.read_exact(&mut head).is_err() {
                    return;
                }
                let mut rest = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]])) - 4];
                if stream.read_exact(&mut rest).is_ok() {
                    let _ = stream.write_all(format!("s{number}").as_bytes());
                }
            })
        })
        .collect();
    let servers: Vec<_> = (1..=4).map(|n| place.at(9000 + n)).collect();
    let keys = "health-check = { type = \"none\" }\npersistence = { type = \"rdp-cookie\", expire = \"1h\" }";
    let config = service("ts", "tcp", place.at(3389), &servers, keys);
    let keys = "health-check = { type = \"none\" }\nscheduler = \"rdp-cookie-hash\"";
    let hashed = service("hashed", "tcp", place.at(3390), &servers, keys);
    let evenkeel = start(&place, &format!("[limits]\nworkers = 1\n{config}{hashed}"));
    let ask_at = |port: u16, bytes: &[u8]| {
        let mut connection = Connection::open(place.at(port));
        connection.send(bytes);
        connection.read_some();
        String::from_utf8_lossy(&connection.rest).into_owned()
    };
    let ask = |bytes: &[u8]| ask_at(3389, bytes);
    // By the hash of the user, without a table.
    let by_hash: std::collections::BTreeSet<_> = (0..20)
        .map(|n| {
            let server = ask_at(3390, &rdp(&format!("Cookie: mstshash=u{n}\r\n")));
            assert_eq!(ask_at(3390, &rdp(&format!("Cookie: mstshash=D\\U{n}\r\n"))), server);
            server
        })
        .collect();
    assert_eq!(by_hash.len(), 4);
    let mut seen = std::collections::BTreeSet::new();
    for user in ["alice", "bob", "carol", "dave", "LONGDOMAI"] {
        let server = ask(&rdp(&format!("Cookie: mstshash={user}\r\n")));
        for _ in 0..3 {
            assert_eq!(ask(&rdp(&format!("Cookie: mstshash={}\r\n", user.to_uppercase()))), server);
        }
        seen.insert(server);
    }
    assert_eq!(seen.len(), 4, "users spread over the servers");
    let bob = ask(&rdp("Cookie: mstshash=bob\r\n"));
    assert_eq!(ask(&rdp("Cookie: mstshash=C\\bob\r\n")), bob);
    for same in ["bob@c", "c/bob", "corp.example\\BOB", "bob@corp.example"] {
        assert_eq!(ask(&rdp(&format!("Cookie: mstshash={same}\r\n"))), bob, "{same}");
    }
    // A broker's token names the server; one that is not of the pool counts as none.
    let token = |address: std::net::SocketAddr| {
        let std::net::IpAddr::V4(ip) = address.ip() else { unreachable!() };
        format!("Cookie: msts={}.{}.0000\r\n", u32::from_le_bytes(ip.octets()), address.port().swap_bytes())
    };
    for (number, server) in servers.iter().enumerate() {
        assert_eq!(ask(&rdp(&token(*server))), format!("s{}", number + 1));
    }
    let listed = evenkeel.ok(&["persistence", "list", "ts"]);
    assert!(!listed.contains("source:"), "a token says nothing about its address: {listed}");
    let stranger = ask(&rdp(&token("192.0.2.1:3389".parse().unwrap())));
    // Without a cookie the client's address decides.
    for _ in 0..4 {
        assert_eq!(ask(&rdp("")), stranger);
    }
    let listed = evenkeel.ok(&["persistence", "list", "ts"]);
    for key in ["user:alice", "user:longdomai", "source:127."] {
        assert!(listed.contains(key), "{key} in {listed}");
    }
    // Bytes in pieces, and what is no RDP at all.
    let mut slow = Connection::open(place.at(3389));
    for byte in rdp("Cookie: mstshash=bob\r\n") {
        slow.send([byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
    slow.read_some();
    assert_eq!(String::from_utf8_lossy(&slow.rest), bob);
    let mut noise = Connection::open(place.at(3389));
    noise.send([3, 0, 0, 8, 255, 255, 255, 255]);
    assert!(noise.read_some() || noise.rest.is_empty());
}

#[test]
fn tls_sessions_come_back_to_the_server_that_knows_them() {
    if !require(&["openssl"]) {
        return;
    }
    let place = Place::new("session-id");
    let ca = evenkeel_testbed::Authority::new(&place, "ca");
    let pem = ca.server(&place, "a.pem", &["a.example"]).display().to_string();
    // Real servers with session caches of their own; tickets are off, so sessions have ids.
    let servers: Vec<_> = (1..=3).map(|n| place.at(9000 + n)).collect();
    let _running: Vec<_> = servers
        .iter()
        .map(|address| {
            let mut command = std::process::Command::new("openssl");
            command.args(["s_server", "-accept", &address.to_string(), "-cert", &pem, "-key", &pem]);
            command.args(["-tls1_2", "-no_ticket", "-quiet", "-www"]);
            evenkeel_testbed::Process::start(
                command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()),
            )
        })
        .collect();
    for address in &servers {
        eventually("openssl listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(address).is_ok()
        });
    }
    let keys = "health-check = { type = \"none\" }\npersistence = { type = \"tls-session-id\" }";
    let evenkeel = start(&place, &service("tls", "tcp", place.at(8443), &servers, keys));
    let run = |arguments: &str| {
        let text = format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 10 openssl s_client -connect {} -tls1_2 -ign_eof {arguments} 2>&1",
            place.at(8443)
        );
        command("sh", &["-c", &text]).out
    };
    for client in 0..4 {
        let file = place.file(&format!("session{client}")).display().to_string();
        assert!(run(&format!("-sess_out {file}")).contains("New, TLSv1.2"));
        for _ in 0..4 {
            assert!(run(&format!("-sess_in {file}")).contains("Reused, TLSv1.2"), "client {client}");
        }
    }
    assert!(evenkeel.ok(&["persistence", "list", "tls"]).contains("0x"));
}

#[test]
fn a_backup_is_never_remembered() {
    let place = Place::new("unremembered");
    let named = |name: &'static str| {
        move |mut stream: std::net::TcpStream| {
            while read_head(&mut stream).is_some() {
                let head = "HTTP/1.1 200 OK\r\nSet-Cookie: APP=x\r\nContent-Length: 2\r\n\r\n";
                let _ = write!(stream, "{head}{name}");
            }
        }
    };
    let _proper = Scripted::start(place.at(9001), named("s1"));
    let _other = Scripted::start(place.at(9002), named("s2"));
    let ways = ["cookie\", name = \"S", "source", "header\", name = \"X-User", "app-cookie\", name = \"APP"];
    let mut config = String::new();
    for (port, way) in (8080..).zip(ways) {
        for (port, key) in [(port, "backup"), (port + 10, "non-stick")] {
            let servers = [place.at(9001), place.at(9002)];
            let keys = format!("health-check = {{ type = \"none\" }}\npersistence = {{ type = \"{way}\" }}");
            let text = service(&format!("s{port}"), "http", place.at(port), &servers, &keys);
            config += &text.replace("9002\"", &format!("9002\"\n  {key} = true"));
        }
    }
    let evenkeel = start(&place, &config);
    for port in [8080, 8081, 8082, 8083, 8090, 8091, 8092, 8093] {
        let service = format!("s{port}");
        let ask = |cookies: &str| {
            let mut connection = Connection::open(place.at(port));
            connection
                .send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-User: u\r\nCookie: {cookies}\r\n\r\n"));
            connection.answer().unwrap()
        };
        evenkeel.ok(&["halt", &format!("{service}/s1")]);
        eventually("the other serves", Duration::from_secs(5), || ask("APP=x").text() == "s2");
        let answer = ask("APP=x");
        assert!(!answer.head.contains("S=s2"), "{port}: {}", answer.head);
        let listed = evenkeel.cli(&["persistence", "list", &service]);
        assert!(!listed.out.contains("s2"), "{port}: {}", listed.out);
        evenkeel.ok(&["online", &format!("{service}/s1")]);
        eventually("the first serves", Duration::from_secs(5), || ask("S=s2; APP=x").text() == "s1");
        // From now on it is the first that is remembered.
        for _ in 0..6 {
            assert_eq!(ask("S=s1; APP=x").text(), "s1", "{port}");
        }
        if port >= 8090 {
            continue;
        }
        for _ in 0..3 {
            assert_eq!(ask("S=s2; APP=x").text(), "s1", "{port}: a cookie names no backup");
        }
    }
}

#[test]
fn clients_of_a_drained_server_stay_or_move() {
    let place = Place::new("drained");
    let named = |name: &'static str| {
        move |mut stream: std::net::TcpStream| {
            while read_head(&mut stream).is_some() {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{name}");
            }
        }
    };
    let _one = Scripted::start(place.at(9001), named("s1"));
    let _two = Scripted::start(place.at(9002), named("s2"));
    let ways = [
        ("cookie\", name = \"S", "http"),
        ("header\", name = \"X-User", "http"),
        ("source", "http"),
        ("source", "tcp"),
    ];
    let mut config = String::new();
    for (port, (way, mode)) in (8080..).zip(ways) {
        for (port, drained) in [(port, "stay"), (port + 10, "move")] {
            let keys = format!(
                "health-check = {{ type = \"none\" }}\npersistence = {{ type = \"{way}\", drained = \"{drained}\" }}"
            );
            let servers = [place.at(9001), place.at(9002)];
            config += &service(&format!("s{port}"), mode, place.at(port), &servers, &keys);
        }
    }
    let evenkeel = start(&place, &config);
    for port in [8080, 8081, 8082, 8083, 8090, 8091, 8092, 8093] {
        let ask = |server: &str| {
            let mut connection = Connection::open(place.at(port));
            connection
                .send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-User: u\r\nCookie: S={server}\r\n\r\n"));
            connection.answer().unwrap()
        };
        let first = ask("s1").text();
        assert_eq!(ask(&first).text(), first, "{port}");
        evenkeel.ok(&["drain", &format!("s{port}/{first}")]);
        if port < 8090 {
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(ask(&first).text(), first, "{port}: it stays");
            continue;
        }
        eventually("it moves", Duration::from_secs(5), || ask(&first).text() != first);
        let answer = ask(&first);
        assert_ne!(answer.text(), first, "{port}");
        if port == 8090 {
            assert!(answer.head.contains(&format!("S={}", answer.text())), "{}", answer.head);
            continue;
        }
        // It is remembered where it went, also when the first is back.
        evenkeel.ok(&["online", &format!("s{port}/{first}")]);
        std::thread::sleep(Duration::from_millis(100));
        for _ in 0..4 {
            assert_ne!(ask("none").text(), first, "{port}");
        }
    }
}
