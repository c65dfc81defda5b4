//! Configurations of others: what they did is what Evenkeel does with the import.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, eventually, get, haproxy, require};

use crate::persistence::rdp;
use crate::start;

struct Run {
    code: i32,
    out: String,
    err: String,
}

fn import(words: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel")).arg("import").args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Today's HAProxy takes the old words no longer.
fn modern(config: &str) -> String {
    let mut text = config.to_owned();
    for (old, new) in [
        ("contimeout", "timeout connect"),
        ("clitimeout", "timeout client"),
        ("srvtimeout", "timeout server"),
    ] {
        text = text.replace(old, new);
    }
    let lines = text.lines().map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["listen", name, place] => format!("listen {name}\n  bind {place}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// HAProxy with a configuration, and Evenkeel with its import on another address.
fn both(
    place: &Place,
    config: &str,
    vip: SocketAddr,
    ours: SocketAddr,
) -> (evenkeel_testbed::Process, Evenkeel) {
    let file = place.write("old.cfg", config.replace(&vip.ip().to_string(), &ours.ip().to_string()));
    let imported = import(&["haproxy", &file.display().to_string()]);
    assert_eq!(imported.code, 0, "{}\n{}", imported.out, imported.err);
    let old = haproxy(place, &modern(config), vip);
    (old, start(place, &imported.out))
}

/// The same where only what is bound moves: the servers stay where they are.
fn beside(
    place: &Place,
    other: &Place,
    config: &str,
    [vip, ours]: [SocketAddr; 2],
) -> (evenkeel_testbed::Process, Evenkeel) {
    let file = place.write("old.cfg", config.replacen(&vip.to_string(), &ours.to_string(), 1));
    let imported = import(&["haproxy", &file.display().to_string()]);
    assert_eq!(imported.code, 0, "{}\n{}", imported.out, imported.err);
    (haproxy(place, &modern(config), vip), start(other, &imported.out))
}

/// The servers that answer so many requests.
fn answers(at: SocketAddr, count: usize, cookie: Option<&str>) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let mut connection = Connection::open(at);
        let cookie = cookie.map_or_else(String::new, |c| format!("Cookie: {c}\r\n"));
        connection.send(format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{cookie}\r\n"));
        let answer = connection.answer().unwrap();
        *seen.entry(format!("{} {}", answer.status, answer.text().trim())).or_insert(0) += 1;
    }
    seen
}

#[test]
fn a_web_farm_is_as_it_was() {
    let place = Place::new("import-web");
    if !require(&["haproxy"]) {
        return;
    }
    let other = Place::new("import-web-other");
    let (vip, ours) = (place.at(8080), other.at(8080));
    let mut servers: Vec<Scripted> = ["web1", "web2"]
        .iter()
        .zip([9001, 9002])
        .map(|(name, port)| Scripted::named(place.at(port), name))
        .collect();
    // The servers stay where they are; only what is bound moves.
    let config = format!(
        "global\n  maxconn 1000\ndefaults\n  mode http\n  contimeout 4000\n  clitimeout 42000\n  srvtimeout 43000\n  retries 2\n  option redispatch\nlisten shop\n  bind {vip}\n  balance roundrobin\n  option forwardfor\n  cookie SERVERID insert indirect nocache\n  acl secret path_beg /secret\n  http-request deny if secret\n  server web1 {} cookie web1 check inter 300 rise 1 fall 1\n  server web2 {} cookie web2 check inter 300 rise 1 fall 1\n",
        place.at(9001),
        place.at(9002)
    );
    let (_old, evenkeel) = beside(&place, &other, &config, [vip, ours]);
    evenkeel.await_server("shop", "web1", "up");
    evenkeel.await_server("shop", "web2", "up");
    // Distribution: each event loop takes its own turns, so that they differ by one or two.
    for at in [ours, vip] {
        let seen = answers(at, 20, None);
        assert!(seen.len() == 2 && seen.values().all(|count| (8..=12).contains(count)), "{seen:?}");
    }
    // Stickiness, refusals, the cookie itself.
    for cookie in ["SERVERID=web2", "other=1; SERVERID=web1"] {
        assert_eq!(answers(ours, 6, Some(cookie)), answers(vip, 6, Some(cookie)), "{cookie:?}");
    }
    assert_eq!((get(ours, "/secret/x").status, get(vip, "/secret/x").status), (403, 403));
    let cookie = |at| {
        let answer = get(at, "/");
        let field = answer.field("set-cookie").expect("a cookie").to_owned();
        field.split('=').next().unwrap_or("").to_owned()
    };
    assert_eq!(cookie(vip), cookie(ours));
    // Failover: the cookie of a dead server leads to the other.
    servers.truncate(1);
    for at in [vip, ours] {
        eventually("the dead server is out", Duration::from_secs(10), || {
            answers(at, 4, Some("SERVERID=web2")) == BTreeMap::from([("200 web1".to_owned(), 4)])
        });
    }
}

#[test]
fn many_ports_keep_their_port_and_their_clients() {
    let place = Place::new("import-ports");
    if !require(&["haproxy"]) {
        return;
    }
    let (one, two, other) = (Place::new("import-s1"), Place::new("import-s2"), Place::new("import-vip"));
    let ports = [5060, 5061, 5065];
    let _servers: Vec<Scripted> = ports
        .iter()
        .flat_map(|port| {
            [
                Scripted::named(one.at(*port), &format!("one {port}")),
                Scripted::named(two.at(*port), &format!("two {port}")),
            ]
        })
        .collect();
    let config = format!(
        "defaults\n  contimeout 4000\n  clitimeout 30m\n  srvtimeout 30m\nlisten OCS {}\n  bind {},{}\n  mode tcp\n  balance leastconn\n  stick-table type ip size 10240k expire 30m\n  stick on src\n  server one {} weight 1 check port 5061 inter 300 rise 1 fall 2\n  server two {} weight 1 check port 5061 inter 300 rise 1 fall 2\n  option redispatch\n",
        place.at(5061),
        place.at(5060),
        place.at(5065),
        one.at(0).ip(),
        two.at(0).ip()
    );
    let ours_at = other.at(0);
    let (vip, ours) = (place.at(5061), SocketAddr::new(ours_at.ip(), 5061));
    let (_old, _evenkeel) = both(&place, &config, vip, ours);
    for at in [vip, ours] {
        let mut names = Vec::new();
        for port in ports {
            let seen = answers(SocketAddr::new(at.ip(), port), 4, None);
            assert_eq!(seen.len(), 1, "one client, one server: {seen:?}");
            let answer = seen.into_keys().next().unwrap();
            assert!(answer.ends_with(&format!(" {port}")), "the port is kept: {answer}");
            names.push(answer.split(' ').nth(1).unwrap().to_owned());
        }
        names.dedup();
        assert_eq!(names.len(), 1, "on every port: {names:?}");
    }
}

#[test]
fn what_cannot_be_carried_over_is_named() {
    let place = Place::new("import-left");
    let file = place.write("h.cfg", "frontend a\n bind 127.0.0.1:81\n mode http\n http-request lua.x\n default_backend b\nbackend b\n server s host..example.org:80\n server t 127.0.0.1:82\n");
    let path = file.display().to_string();
    let told = import(&["haproxy", &path]);
    assert_eq!(told.code, 0, "{}", told.err);
    for line in [":4: http-request lua.x: not carried over", ":7: s: host..example.org:80 is no address"] {
        assert!(told.err.contains(line), "{line}: {}", told.err);
    }
    assert_eq!(import(&["haproxy", &path, "--strict"]).code, 1);
    let json: serde_json::Value = serde_json::from_str(&import(&["haproxy", &path, "--json"]).out).unwrap();
    assert_eq!((json["left"].as_array().unwrap().len(), &json["left"][0]["line"]), (2, &7.into()));
    assert!(import(&["nginx", &path]).err.contains("no kind of configuration"));
    assert_eq!(import(&["haproxy"]).code, 2);
    let bad = place.write("bad.cfg", "listen a 127.0.0.1:81\n server s 127.0.0.1:82\n maxconn many\n");
    let refused = import(&["haproxy", &bad.display().to_string()]);
    assert!(
        refused.code == 78 && refused.err.contains("only you can mend"),
        "{} {}",
        refused.code,
        refused.err
    );
}

#[test]
fn remote_desktops_are_where_they_were() {
    let place = Place::new("import-rdp");
    if !require(&["haproxy"]) {
        return;
    }
    let other = Place::new("import-rdp-other");
    let (vip, ours) = (place.at(3389), other.at(3389));
    let desktop = |name: &'static str| {
        move |mut stream: std::net::TcpStream| {
            use std::io::{Read, Write};
            let mut head = [0; 4];
            if stream.read_exact(&mut head).is_ok() {
                let mut rest = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]])) - 4];
                if stream.read_exact(&mut rest).is_ok() {
                    let _ = stream.write_all(name.as_bytes());
                }
            }
        }
    };
    let mut servers = vec![
        Scripted::start(place.at(9001), desktop("ts1")),
        Scripted::start(place.at(9002), desktop("ts2")),
    ];
    // As the appliance wrote it, with a table beside the hash.
    let config = format!(
        "defaults\n  timeout connect 4000\n  clitimeout 1h\n  srvtimeout 1h\nlisten VIP1\n  bind {vip}\n  mode tcp\n  tcp-request inspect-delay 5s\n  tcp-request content accept if RDP_COOKIE\n  persist rdp-cookie\n  balance rdp-cookie\n  option tcpka\n  option tcplog\n  server ts1 {} weight 1 check inter 300 rise 1 fall 1\n  server ts2 {} weight 1 check inter 300 rise 1 fall 1\n  option redispatch\n",
        place.at(9001),
        place.at(9002)
    );
    let (_old, evenkeel) = beside(&place, &other, &config, [vip, ours]);
    evenkeel.await_server("VIP1", "ts1", "up");
    evenkeel.await_server("VIP1", "ts2", "up");
    let ask = |at: SocketAddr, line: &str| {
        let mut connection = Connection::open(at);
        connection.send(rdp(line));
        connection.read_some();
        String::from_utf8_lossy(&connection.rest).into_owned()
    };
    let user = |at, name: &str| ask(at, &format!("Cookie: mstshash={name}\r\n"));
    let mut where_they_are = BTreeMap::new();
    for at in [vip, ours] {
        let spread: std::collections::BTreeSet<String> = (0..16)
            .map(|n| {
                let name = format!("user{n}");
                let server = user(at, &name);
                (0..4).for_each(|_| assert_eq!(user(at, &name), server, "{name} at {at}"));
                where_they_are.insert((at, name), server.clone());
                server
            })
            .collect();
        assert_eq!(spread.len(), 2, "users are spread at {at}");
        // A broker's token names its server.
        for (port, name) in [(9001, "ts1"), (9002, "ts2")] {
            let address = place.at(port);
            let std::net::IpAddr::V4(ip) = address.ip() else { unreachable!() };
            let token = format!(
                "Cookie: msts={}.{}.0000\r\n",
                u32::from_le_bytes(ip.octets()),
                address.port().swap_bytes()
            );
            assert_eq!(ask(at, &token), name, "a token at {at}");
        }
    }
    // A dead server's users go to the other one; the others stay.
    servers.truncate(1);
    for at in [vip, ours] {
        eventually("the dead server is out", Duration::from_secs(10), || {
            (0..16).all(|n| user(at, &format!("user{n}")) == "ts1")
        });
    }
}

#[test]
fn users_come_in_with_the_passwords_they_have() {
    let place = Place::new("import-users");
    if !require(&["haproxy"]) {
        return;
    }
    let other = Place::new("import-users-other");
    let (vip, ours) = (place.at(8080), other.at(8080));
    let _server = Scripted::named(place.at(9001), "in");
    // ann: "Hello world!"; bob: "hello"; only ann is an admin.
    let config = format!(
        "userlist staff\n  group admins users ann\n  user ann password $5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5\n  user bob insecure-password hello\ndefaults\n  mode http\n  timeout connect 4s\n  timeout client 4s\n  timeout server 4s\nlisten web\n  bind {vip}\n  acl known http_auth(staff)\n  acl admins http_auth_group(staff) admins\n  http-request auth realm Staff if !known {{ path_beg /staff }}\n  http-request auth realm Admins if !admins {{ path_beg /admin }}\n  server a {}\n",
        place.at(9001)
    );
    let file = place.write("old.cfg", config.replacen(&vip.to_string(), &ours.to_string(), 1));
    let imported = import(&["haproxy", &file.display().to_string(), "--strict"]);
    assert_eq!(imported.code, 0, "{}\n{}", imported.out, imported.err);
    let _old = haproxy(&place, &config, vip);
    let _evenkeel = start(&other, &imported.out);
    let ask = |at: SocketAddr, path: &str, credentials: &str| {
        let mut connection = Connection::open(at);
        let header = match credentials {
            "" => String::new(),
            encoded => format!("Authorization: Basic {encoded}\r\n"),
        };
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{header}\r\n"));
        let answer = connection.answer().unwrap();
        // Evenkeel says besides that names and passwords are UTF-8 (RFC 7617).
        let challenge = answer.field("www-authenticate").and_then(|f| f.split(',').next());
        (answer.status, challenge.map(str::to_lowercase))
    };
    // ann:Hello world!, bob:hello, bob:wrong, eve:hello
    for who in ["", "YW5uOkhlbGxvIHdvcmxkIQ==", "Ym9iOmhlbGxv", "Ym9iOndyb25n", "ZXZlOmhlbGxv"] {
        for path in ["/", "/staff/x", "/admin/x"] {
            assert_eq!(ask(ours, path, who), ask(vip, path, who), "{who:?} at {path}");
        }
    }
    assert_eq!(ask(ours, "/admin/x", "YW5uOkhlbGxvIHdvcmxkIQ==").0, 200);
    assert_eq!(ask(ours, "/admin/x", "Ym9iOmhlbGxv").0, 401);
}
