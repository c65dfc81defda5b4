//! Health checks: every type against a server that is well and one that is not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use evenkeel_testbed::{Authority, Evenkeel, Place, Scripted, eventually, node, require};

use crate::{service, start};

type Serve = fn(&mut TcpStream, bool);

/// Says lines, each after a line has come; the first at once.
fn lines(stream: &mut TcpStream, answers: &[&str]) {
    let mut byte = [0];
    for (number, answer) in answers.iter().enumerate() {
        while number > 0 && byte != *b"\n" {
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
        }
        byte = [0];
        let _ = stream.write_all(answer.as_bytes());
    }
    let _ = stream.read(&mut byte);
}

/// Reads so many bytes, then answers.
fn after(stream: &mut TcpStream, count: usize, answer: &[u8]) {
    let mut bytes = vec![0; count];
    if stream.read_exact(&mut bytes).is_ok() {
        let _ = stream.write_all(answer);
        let _ = stream.read(&mut bytes);
    }
}

/// Type with its keys, how both servers behave, what the failing probe says.
const OVER_TCP: &[(&str, Serve, &str)] = &[
    (
        "\"smtp\", host = \"lb.example\"",
        |s, good| {
            lines(
                s,
                if good { &["220 mail ESMTP\r\n", "250 hello\r\n", "221 bye\r\n"] } else { &["554 no\r\n"] },
            )
        },
        "got \"554 no\"",
    ),
    (
        "\"imap\"",
        |s, good| {
            lines(s, if good { &["* OK ready\r\n", "* BYE\r\na1 OK done\r\n"] } else { &["* BYE full\r\n"] })
        },
        "got \"* BYE full\"",
    ),
    (
        "\"imap\", user = \"u\", password = \"p\\\"w\"",
        |s, good| {
            lines(
                s,
                if good {
                    &["* OK ready\r\n", "a1 OK in\r\n", "a2 OK out\r\n"]
                } else {
                    &["* OK ready\r\n", "a1 NO\r\n"]
                },
            )
        },
        "got \"a1 NO\"",
    ),
    (
        "\"pop\"",
        |s, good| lines(s, if good { &["+OK\r\n", "+OK\r\n"] } else { &["-ERR\r\n"] }),
        "got \"-ERR\"",
    ),
    (
        "\"ftp\", user = \"u\", password = \"p\"",
        |s, good| {
            lines(
                s,
                if good {
                    &["220-first\r\n220 x\r\n", "331 pw\r\n", "230 in\r\n", "221 bye\r\n"]
                } else {
                    &["220 x\r\n", "331 pw\r\n", "530 no\r\n"]
                },
            )
        },
        "got \"530 no\"",
    ),
    ("\"redis\"", |s, good| after(s, 6, if good { b"+PONG\r\n" } else { b"-LOADING\r\n" }), "-LOADING"),
    (
        "\"mysql\"",
        |s, good| {
            after(
                s,
                0,
                if good {
                    b"\x4a\0\0\0\x0a8.0.36-test\0"
                } else {
                    b"\x20\0\0\0\xff\x10\x04Too many connections"
                },
            )
        },
        "Too many connections",
    ),
    (
        "\"postgresql\", user = \"lb\"",
        |s, good| {
            after(s, 17, if good { b"R\0\0\0\x08\0\0\0\x03" } else { b"E\0\0\0\x20SFATAL\0Mstarting up\0\0" })
        },
        "refused: starting up",
    ),
    (
        "\"ldap\"",
        |s, good| {
            after(
                s,
                14,
                if good {
                    b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"
                } else {
                    b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x34\x04\x00\x04\x00"
                },
            )
        },
        "refused with code 52",
    ),
    (
        "\"rdp\"",
        |s, good| {
            after(
                s,
                19,
                if good {
                    b"\x03\0\0\x13\x0e\xd0\0\0\x12\x34\0\x02\0\x08\0\x02\0\0\0"
                } else {
                    b"HTTP/1.1 400 Bad\r\n\r\n"
                },
            )
        },
        "no RDP",
    ),
    (
        "\"sip\", udp = false",
        |s, good| after(s, 300, if good { b"SIP/2.0 200 OK\r\n\r\n" } else { b"SIP/2.0 503 No\r\n\r\n" }),
        "SIP/2.0 503 No",
    ),
    (
        "\"tcp\", send = \"ping\\n\", expect = \"pong\"",
        |s, good| after(s, 5, if good { b"xpongx" } else { b"what?" }),
        "expected \"pong\", got \"what?\"",
    ),
    (
        "\"tcp\", steps = [{ expect-regex = \"^hi [0-9]+\" }, { send-hex = \"00 ff\" }, { expect-hex = \"ff00\" }]",
        |s, good| {
            let _ = s.write_all(b"hi 42\n");
            after(s, 2, if good { b"\xff\x00" } else { b"\x00\xff" })
        },
        "step 3: expected",
    ),
    (
        "\"http\", method = \"POST\", path = \"/h\", body = \"b\", headers = { X-A = \"1\" }, status = \"200,204\", expect-regex = \"all (fine|well)\", expect-headers = { X-B = \"2\" }",
        |s, good| {
            let head = evenkeel_testbed::read_head(s).unwrap_or_default();
            let right = good
                && head.starts_with("POST /h HTTP/1.1\r\n")
                && head.contains("X-A: 1\r\n")
                && head.contains("Content-Length: 1\r\n");
            let _ = s.write_all(if right {
                b"HTTP/1.1 200 OK\r\nX-B: 12\r\nContent-Length: 8\r\n\r\nall well"
            } else {
                b"HTTP/1.1 200 OK\r\nX-B: 12\r\nContent-Length: 7\r\n\r\nall bad"
            });
        },
        "the body does not match /all (fine|well)/",
    ),
    (
        "\"tcp\", send-proxy = true, expect = \"ok\"",
        |s, good| {
            let mut head = [0; 16];
            let local = s.read_exact(&mut head).is_ok() && head.ends_with(b"\x20\0\0\0");
            let _ = s.write_all(if local && good { b"ok" } else { b"no" });
        },
        "got \"no\"",
    ),
];

fn wait_for(evenkeel: &Evenkeel, name: &str, bad: &str) {
    eventually(&format!("{name}: one passes, one fails"), Duration::from_secs(15), || {
        let found = evenkeel.service(name);
        let check = |n: usize| found["real-servers"][n]["check"].clone();
        if check(0)["verdict"] == "none" || check(1)["verdict"] == "none" {
            return false;
        }
        assert_eq!(check(0)["verdict"], "passed", "{name}: {}", check(0)["detail"]);
        assert_eq!(check(1)["verdict"], "failed", "{name}: {}", check(1)["detail"]);
        let detail = check(1)["detail"].as_str().unwrap_or("").to_owned();
        assert!(detail.contains(bad), "{name}: {detail}");
        true
    });
}

/// A service with two servers and a check.
fn checked(place: &Place, number: u16, servers: [SocketAddr; 2], check: &str) -> String {
    let keys = format!("health-check = {{ type = {check}, interval = \"200ms\" }}");
    service(&format!("c{number}"), "tcp", place.at(10_000 + number), &servers, &keys)
}

#[test]
fn conversations_over_tcp() {
    let place = Place::new("health-tcp");
    let mut config = String::new();
    let mut running = Vec::new();
    for (number, (check, serve, _)) in OVER_TCP.iter().enumerate() {
        let ports = [11_000 + 2 * number as u16, 11_001 + 2 * number as u16];
        for (port, good) in [(ports[0], true), (ports[1], false)] {
            let serve = *serve;
            running.push(Scripted::start(place.at(port), move |mut stream| serve(&mut stream, good)));
        }
        config += &checked(&place, number as u16, ports.map(|p| place.at(p)), check);
    }
    let evenkeel = start(&place, &config);
    for (number, (_, _, bad)) in OVER_TCP.iter().enumerate() {
        wait_for(&evenkeel, &format!("c{number}"), bad);
    }
    drop(running);
}

/// Answers datagrams until the test ends.
fn datagrams(address: SocketAddr, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            // Not its own answer first: it must be passed over.
            let _ = socket.send_to(b"noise", from);
            let _ = socket.send_to(&answer(&buffer[..count]), from);
        }
    });
}

#[test]
fn questions_over_udp_and_icmp() {
    let place = Place::new("health-udp");
    let at = |n: u16| [place.at(12_000 + 2 * n), place.at(12_001 + 2 * n)];
    let dns = |code: u8| {
        move |query: &[u8]| {
            let mut answer = query.to_vec();
            (answer[2], answer[3]) = (0x81, 0x80 | code);
            answer
        }
    };
    datagrams(at(0)[0], dns(0));
    datagrams(at(0)[1], dns(2));
    let ntp = |stratum: u8| {
        move |query: &[u8]| {
            let mut answer = vec![0; 48];
            (answer[0], answer[1]) = (0x24, stratum);
            answer[24..32].copy_from_slice(&query[40..48]);
            answer
        }
    };
    datagrams(at(1)[0], ntp(2));
    datagrams(at(1)[1], ntp(16));
    let sip = |status: &'static str| {
        move |_: &[u8]| format!("SIP/2.0 {status}\r\nCSeq: 1 OPTIONS\r\n\r\n").into_bytes()
    };
    datagrams(at(2)[0], sip("200 OK"));
    datagrams(at(2)[1], sip("503 Busy"));
    // An answer that is not signed with the secret.
    datagrams(at(3)[1], |query| [&[2, query[1], 0, 20][..], &[7; 16]].concat());
    let evenkeel = start(
        &place,
        &(checked(&place, 0, at(0), "\"dns\", name = \"www.example.org\"")
            + &checked(&place, 1, at(1), "\"ntp\"")
            + &checked(&place, 2, at(2), "\"sip\"")
            + &checked(&place, 3, at(3), "\"radius\", user = \"u\", password = \"p\", secret = \"s\"")
            + &checked(&place, 4, [place.at(1), "127.0.0.1:1".parse().unwrap()], "\"ping\"")),
    );
    wait_for(&evenkeel, "c0", "DNS error 2");
    wait_for(&evenkeel, "c1", "not synchronised (stratum 16)");
    wait_for(&evenkeel, "c2", "SIP 503 Busy");
    eventually("RADIUS was asked", Duration::from_secs(10), || {
        let found = evenkeel.service("c3");
        let detail = |n: usize| found["real-servers"][n]["check"]["detail"].as_str().unwrap_or("").to_owned();
        detail(0).contains("refused") && detail(1).contains("signed with another secret")
    });
    eventually("ping was answered", Duration::from_secs(10), || {
        let check = evenkeel.service("c4")["real-servers"][0]["check"].clone();
        assert_ne!(check["verdict"], "failed", "{check}");
        check["detail"].as_str().is_some_and(|d| d.starts_with("echo in "))
    });
}

#[test]
fn freeradius_accepts_the_user_of_the_check() {
    if !require(&["freeradius"]) {
        return;
    }
    let place = Place::new("radius");
    let folder = place.folder().display().to_string();
    let at = place.at(1812);
    let (ip, port) = (at.ip(), at.port());
    place.write("users", "probe Cleartext-Password := \"open sesame and more than sixteen\"\n");
    let daemon = format!(
        "name = test\nprefix = /usr\nlibdir = /usr/lib/freeradius\nraddbdir = {folder}\nlogdir = {folder}\nrun_dir = {folder}\nsecurity {{\n  allow_core_dumps = no\n  max_attributes = 200\n  reject_delay = 0\n}}\nmodules {{\n  pap {{\n  }}\n  files {{\n    filename = {folder}/users\n  }}\n}}\nclient any {{\n  ipaddr = 127.0.0.0/8\n  secret = s3cret\n  require_message_authenticator = yes\n}}\nserver default {{\n  listen {{\n    type = auth\n    ipaddr = {ip}\n    port = {port}\n  }}\n  authorize {{\n    files\n    pap\n  }}\n  authenticate {{\n    pap\n  }}\n}}\n"
    );
    place.write("radiusd.conf", daemon);
    let log = std::fs::File::create(place.file("radius.log")).unwrap();
    let mut command = std::process::Command::new("freeradius");
    let _server =
        evenkeel_testbed::Process::start(command.args(["-f", "-l", "stdout", "-d", &folder]).stdout(log));
    let check = |number: u16, password: &str, secret: &str| {
        let keys = format!(
            "health-check = {{ type = \"radius\", user = \"probe\", password = \"{password}\", secret = \"{secret}\", interval = \"200ms\" }}"
        );
        service(&format!("c{number}"), "tcp", place.at(10_000 + number), &[at], &keys)
    };
    let evenkeel = start(
        &place,
        &(check(0, "open sesame and more than sixteen", "s3cret")
            + &check(1, "wrong", "s3cret")
            + &check(2, "wrong", "other")),
    );
    for (name, verdict, detail) in
        [("c0", "passed", "accepted"), ("c1", "failed", "the user was refused"), ("c2", "failed", "")]
    {
        eventually(&format!("{name} {verdict}"), Duration::from_secs(15), || {
            let check = evenkeel.service(name)["real-servers"][0]["check"].clone();
            check["verdict"] == verdict && check["detail"].as_str().is_some_and(|d| d.contains(detail))
        });
    }
}

#[test]
fn checks_over_tls_and_grpc() {
    if !require(&["node"]) {
        return;
    }
    let place = Place::new("health-tls");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "s.pem", &["s.example"]);
    let other = ca.server(&place, "t.pem", &["t.example"]);
    let https = |name: &str, port: u16, pem: &std::path::Path| {
        let text = std::fs::read_to_string(pem).unwrap();
        let script = format!(
            "require('https').createServer({{ key: `{text}`, cert: `{text}` }}, (q, s) => s.end('ok')).listen(+process.argv[3], process.argv[2]);"
        );
        node(&place, name, place.at(port), &script)
    };
    let _servers = [https("a", 13_000, &pem), https("b", 13_001, &other)];
    let health = "const h = require('http2').createServer(); h.on('stream', (s) => { s.on('error', () => {}); s.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true }); s.on('wantTrailers', () => s.sendTrailers({ 'grpc-status': '0' })); s.end(Buffer.from([0, 0, 0, 0, 2, 8, STATE])); }); h.listen(+process.argv[3], process.argv[2]);";
    let _grpc = [
        node(&place, "g1", place.at(13_002), &health.replace("STATE", "1")),
        node(&place, "g2", place.at(13_003), &health.replace("STATE", "2")),
    ];
    let plain = Scripted::start(place.at(13_005), |mut stream| {
        let _ = stream.write_all(b"220 this is no TLS\r\n");
    });
    let tls = format!("tls = {{ ca = \"{}\", sni = \"s.example\" }}", ca.file.display());
    let evenkeel = start(
        &place,
        &(checked(
            &place,
            0,
            [place.at(13_000), place.at(13_001)],
            &format!("\"http\", expect = \"ok\", {tls}"),
        ) + &checked(&place, 1, [place.at(13_000), place.at(13_005)], "\"tls\"")
            + &checked(&place, 2, [place.at(13_002), place.at(13_003)], "\"grpc\"")),
    );
    wait_for(&evenkeel, "c0", "not valid for name");
    wait_for(&evenkeel, "c1", "TLS: ");
    wait_for(&evenkeel, "c2", "NOT_SERVING");
    drop(plain);
}

#[test]
fn scripts_decide_in_both_conventions() {
    let place = Place::new("health-script");
    use std::os::unix::fs::PermissionsExt;
    let script = |name: &str, text: &str| {
        let path = place.write(name, format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let judge = script("judge", "echo \"$# $1:$2 $3:$4 $SECRET\"\ntest \"$4\" = 14000");
    let weigh = script("weigh", "test $# = 1 && exit 52; exit 1");
    let slow = script("slow", "sleep 60 & sleep 60");
    let _servers = [Scripted::named(place.at(14_000), "a"), Scripted::named(place.at(14_001), "b")];
    let both = [place.at(14_000), place.at(14_001)];
    let evenkeel = start(
        &place,
        &(checked(&place, 0, both, &format!("\"script\", command = \"{judge}\""))
            + &checked(
                &place,
                1,
                both,
                &format!("\"script\", command = \"{weigh}\", arguments = [\"x\"], keepalived = true"),
            )
            + &checked(&place, 2, both, &format!("\"script\", command = \"{slow}\", timeout = \"300ms\""))),
    );
    wait_for(&evenkeel, "c0", "exit status 1");
    let good = evenkeel.service("c0")["real-servers"][0]["check"]["detail"].as_str().unwrap().to_owned();
    let expect = format!("exit status 0: 4 {} {} ", place.at(10_000), place.at(14_000));
    assert!(good.starts_with(expect.trim_end()), "{good}");
    eventually("half the weight", Duration::from_secs(10), || {
        evenkeel.service("c1")["real-servers"][0]["weight"] == 50
    });
    eventually("a slow script is ended", Duration::from_secs(10), || {
        evenkeel.service("c2")["state"] == "down"
    });
    let left = evenkeel_testbed::command("pgrep", &["-f", &slow]);
    std::thread::sleep(Duration::from_millis(100));
    assert!(left.out.lines().count() <= 3, "at most the probes under way: {}", left.out);
}

#[test]
fn agents_say_weights_and_states() {
    let place = Place::new("health-agent");
    let _servers = [Scripted::named(place.at(15_000), "a")];
    let words = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let said = words.clone();
    let _agent = Scripted::start(place.at(3333), move |mut stream| {
        let _ = stream.write_all(said.lock().unwrap().as_bytes());
    });
    let keys = "health-check = { type = \"tcp\", interval = \"100ms\", agent = { interval = \"100ms\" } }";
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(15_000)], keys));
    let server = |key: &str| evenkeel.service("web")["real-servers"][0][key].clone();
    for (line, key, value) in [
        ("50%\n", "weight", serde_json::json!(50)),
        ("drain\n", "admin-state", "draining".into()),
        ("nonsense\n", "admin-state", "draining".into()),
        ("ready 100%\n", "admin-state", "online".into()),
        ("ready up\n", "weight", 100.into()),
        ("down # disk full\n", "state", "down".into()),
        ("up\n", "state", "up".into()),
        ("maxconn:30\n", "max-connections", 30.into()),
        ("up\n", "max-connections", 30.into()),
        ("maint\n", "admin-state", "halted".into()),
    ] {
        *words.lock().unwrap() = line.to_owned();
        eventually(line, Duration::from_secs(5), || server(key) == value);
    }
    assert!(evenkeel.log().contains("disk full"));
}

#[test]
fn an_agent_says_how_many_requests_its_server_takes() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let place = Place::new("health-agent-limit");
    let (now, most) = (std::sync::Arc::new(AtomicUsize::new(0)), std::sync::Arc::new(AtomicUsize::new(0)));
    let (at_once, seen) = (now.clone(), most.clone());
    let _server = Scripted::start(place.at(15_100), move |mut stream| {
        while evenkeel_testbed::read_head(&mut stream).is_some() {
            seen.fetch_max(at_once.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::sleep(Duration::from_millis(100));
            at_once.fetch_sub(1, SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let _agent = Scripted::start(place.at(3333), move |mut stream| {
        let _ = stream.write_all(b"maxconn:1\n");
    });
    let keys = "health-check = { type = \"none\", agent = { interval = \"100ms\" } }";
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(15_100)], keys));
    eventually("the agent is heard", Duration::from_secs(5), || {
        evenkeel.service("web")["real-servers"][0]["max-connections"] == 1
    });
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let address = place.at(8080);
            std::thread::spawn(move || evenkeel_testbed::get(address, "/").status)
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap() == 200));
    assert_eq!(most.load(SeqCst), 1);
}

#[test]
fn servers_of_several_pools_are_probed_once() {
    let place = Place::new("health-shared");
    let server = Scripted::named(place.at(16_000), "a");
    let check = "health-check = { type = \"http\", interval = \"200ms\" }";
    let pools: String = (0..10)
        .map(|n| {
            format!(
                "[[pool]]\nname = \"p{n}\"\n{check}\n[[pool.real-server]]\nname = \"a\"\naddress = \"{}\"\n",
                place.at(16_000)
            )
        })
        .collect();
    let evenkeel = start(
        &place,
        &format!(
            "{pools}[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\npool = \"p0\"\n",
            place.at(8080)
        ),
    );
    eventually("it was probed", Duration::from_secs(5), || {
        evenkeel.service("web")["real-servers"][0]["check"]["verdict"] == "passed"
    });
    let before = server.connections();
    let started = std::time::Instant::now();
    let probes = || server.connections() - before;
    eventually("five probes", Duration::from_secs(5), || probes() >= 5);
    // Each pool for itself would make ten times as many.
    let (most, probes) = (started.elapsed().as_millis() as usize / 200 + 2, probes());
    assert!(probes <= most, "{probes} probes in {:?}", started.elapsed());
}

#[test]
fn each_real_server_is_probed_as_it_says_itself() {
    let place = Place::new("health-own");
    let servers: Vec<_> =
        ["a", "b"].iter().zip([17_000, 17_001]).map(|(n, p)| Scripted::named(place.at(p), n)).collect();
    let answer = |at, status: &'static str| {
        Scripted::start(place.at(at), move |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.0 {status}\r\n\r\n");
        })
    };
    // As Patroni says who is the primary: each on a port of its own.
    let _said = [answer(17_002, "200 OK"), answer(17_003, "503 replica")];
    let own = |at| format!("\nhealth-check = {{ port = {} }}\n", place.at(at).port());
    let check = "health-check = { type = \"http\", interval = \"300ms\", rise = 1, fall = 1 }";
    let both = [place.at(17_000), place.at(17_001)];
    let mut text = service("own", "tcp", place.at(17_004), &both, check);
    for (server, port) in both.iter().zip([17_002, 17_003]) {
        let address = format!("address = \"{server}\"");
        text = text.replace(&address, &(address.clone() + &own(port)));
    }
    let evenkeel = start(&place, &text);
    eventually("each by its own port", Duration::from_secs(10), || {
        let servers = evenkeel.service("own")["real-servers"].clone();
        let verdict = |at: usize| servers[at]["check"]["verdict"].clone();
        verdict(0) == "passed" && verdict(1) == "failed"
    });
    drop(servers);
}
