//! Clients and servers that do anything at any time, while people change everything: nothing
//! panics, nothing leaks, and service is whole again when it is over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use evenkeel_testbed::{Place, Scripted, eventually, get};

use crate::{service, start};

/// A small generator, so that a seed tells the whole story.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn nap(&mut self, most_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.below(most_ms)));
    }
}

fn wild_server(mut stream: TcpStream, seed: u64) {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhey",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/9 nonsense\r\n\r\n",
        "",
    ];
    let mut random = Random(seed);
    let mut buffer = [0; 4096];
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        random.nap(4);
        let answer = random.pick(ANSWERS).as_bytes();
        let cut =
            if random.below(4) == 0 { random.below(answer.len() as u64 + 1) as usize } else { answer.len() };
        for piece in answer[..cut].chunks(1 + random.below(40) as usize) {
            if stream.write_all(piece).is_err() {
                return;
            }
        }
        match random.below(8) {
            0 => return,
            1 => {
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                return;
            }
            _ => {}
        }
    }
}

fn wild_client(address: SocketAddr, random: &mut Random) {
    const REQUESTS: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nshort",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nearly",
        "GET / HTTP/1.0\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nCookie: SERVERID=s1; x=y\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "\u{16}\u{3}\u{1}garbage",
        "GET / HTTP/1.1\r\nHost: a\r\n",
    ];
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    stream.set_read_timeout(Some(Duration::from_millis(1 + random.below(60)))).unwrap();
    for _ in 0..1 + random.below(5) {
        let request = random.pick(REQUESTS).as_bytes();
        for piece in request.chunks(1 + random.below(60) as usize) {
            if stream.write_all(piece).is_err() {
                return;
            }
        }
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer);
    }
    match random.below(4) {
        0 => drop(rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))),
        1 => drop(stream.shutdown(std::net::Shutdown::Write)),
        _ => {}
    }
}

#[test]
fn anything_at_any_time() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let place = Place::new("chaos");
    let wild = move |stream: TcpStream| {
        let port = stream.peer_addr().map_or(0, |a| a.port());
        wild_server(stream, seed ^ u64::from(port));
    };
    let _wild: Vec<Scripted> = (1..=3).map(|n| Scripted::start(place.at(9000 + n), wild)).collect();
    let _calm = Scripted::named(place.at(9010), "calm");
    let servers = [place.at(9001), place.at(9002), place.at(9003), place.at(9009)];
    let short = "timeouts = { connect = \"300ms\", client = \"300ms\", server = \"300ms\", queue = \"200ms\", request = \"300ms\", keep-alive = \"300ms\", tunnel = \"300ms\" }\nhealth-check = { type = \"tcp\", interval = \"100ms\" }";
    let configuration = |variant: u64| {
        let keys = |more: &str| format!("{short}\n{more}");
        let limit = |text: String| text.replace("9001\"", "9001\"\n  max-connections = 2");
        let mut text = limit(service(
            "cookie",
            "http",
            place.at(8080),
            &servers,
            &keys(
                "persistence = { type = \"cookie\", indirect = true, nocache = true }\nscheduler = \"least-connections\"",
            ),
        )) + &limit(service(
            "source",
            "http",
            place.at(8081),
            &servers,
            &keys(
                "persistence = { type = \"source\", size = 16 }\nfallback = { status = 503, body = \"x\" }",
            ),
        )) + &service("raw", "tcp", place.at(8082), &servers, &keys("scheduler = \"random\""))
            + &service("calm", "http", place.at(8083), &[place.at(9010)], "");
        if variant % 2 == 1 {
            text = text
                .replace("least-connections", "maglev")
                .replace("max-connections = 2", "max-connections = 1");
            text += &service("more", "http", place.at(8084), &servers, short);
        }
        text
    };
    let evenkeel = start(&place, &configuration(0));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..12u64)
        .map(|n| {
            let (stop, vip) = (stop.clone(), place.at(8080 + (n % 3) as u16));
            std::thread::spawn(move || {
                let mut random = Random(seed.wrapping_add(n * 7919));
                while !stop.load(SeqCst) {
                    wild_client(vip, &mut random);
                }
            })
        })
        .collect();
    let mut random = Random(seed);
    let started = Instant::now();
    let mut calm = 0;
    while started.elapsed() < Duration::from_secs(8) {
        let server = format!("{}/s{}", random.pick(&["cookie", "source", "raw"]), 1 + random.below(4));
        match random.below(7) {
            0 => drop(evenkeel.cli(&["drain", &server])),
            1 => drop(evenkeel.cli(&["halt", &server])),
            2 | 3 => drop(evenkeel.cli(&["online", &server])),
            4 => drop(evenkeel.cli(&["weight", &server, &random.below(300).to_string()])),
            5 => drop(evenkeel.commit(&place, &configuration(random.below(2)))),
            _ => drop(evenkeel.cli(&["connections"])),
        }
        // In the middle of it all, an ordinary service has ordinary clients.
        assert_eq!(get(place.at(8083), "/").text(), "calm", "SEED={seed}");
        calm += 1;
        random.nap(30);
    }
    stop.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let wild: u64 =
        ["cookie", "source"].iter().filter_map(|s| evenkeel.service(s)["requests"].as_u64()).sum();
    println!("{calm} ordinary requests, {wild} wild ones");
    assert!(calm > 20 && wild > 500, "{calm} ordinary requests, {wild} wild ones");
    assert!(!evenkeel.log().contains("panicked"), "SEED={seed}\n{}", evenkeel.log());
    eventually("nothing is left over", Duration::from_secs(10), || {
        let status = evenkeel.json(&["status"]);
        let services = status["virtual-services"].as_array().unwrap();
        let none = |value: &serde_json::Value| value == 0;
        status["connections"] == 0
            && services.iter().all(|s| {
                let servers = s["real-servers"].as_array().unwrap();
                none(&s["current-connections"])
                    && none(&s["queued"])
                    && servers.iter().all(|r| none(&r["current-connections"]))
            })
    });
}
