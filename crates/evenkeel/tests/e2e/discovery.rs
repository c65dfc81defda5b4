//! Servers that are written by name, and lists of servers, before a scripted name server.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_testbed::{Evenkeel, Place, Scripted, eventually, get};

use crate::start;

/// How a name server answers.
#[derive(Clone, Debug)]
pub enum Mood {
    /// To questions for A; for AAAA there is nothing.
    Says(Vec<IpAddr>),
    /// The same over TCP alone.
    Truncates(Vec<IpAddr>),
    NoName,
    Refuses,
    Silent,
    /// Bytes that are no answer, and one with another id.
    Lies,
}

pub struct NameServer {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    pub fn start(address: SocketAddr, mood: Mood) -> NameServer {
        let (mood, asked) = (Arc::new(Mutex::new(mood)), Arc::new(AtomicUsize::new(0)));
        let udp = UdpSocket::bind(address).unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        let (now, count) = (mood.clone(), asked.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let mood = now.lock().unwrap().clone();
                for answer in answers(&buffer[..length], &mood, false) {
                    let _ = udp.send_to(&answer, from);
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let now = mood.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                let _ = stream.read_exact(&mut length);
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                let _ = stream.read_exact(&mut question);
                let mood = now.lock().unwrap().clone();
                for answer in answers(&question, &mood, true) {
                    let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
                    let _ = stream.write_all(&answer);
                }
            }
        });
        NameServer { mood, asked }
    }

    /// Answers so from now on; returns when so many questions have been asked since.
    pub fn becomes(&self, mood: Mood, questions: usize) {
        let what = format!("questions while {mood:?}");
        *self.mood.lock().unwrap() = mood;
        let before = self.asked.load(Ordering::SeqCst);
        eventually(&what, Duration::from_secs(60), || {
            self.asked.load(Ordering::SeqCst) >= before + questions
        });
    }
}

/// An answer of the header and question that came, with these flags.
fn answers(question: &[u8], mood: &Mood, over_tcp: bool) -> Vec<Vec<u8>> {
    let end = 12 + question[12..].iter().position(|b| *b == 0).unwrap_or(0) + 5;
    let is_a = question[end - 3] == 1;
    let head = |flags: [u8; 2], count: u8| {
        let mut out = question[..end].to_vec();
        out[2..12].copy_from_slice(&[flags[0], flags[1], 0, 1, 0, count, 0, 0, 0, 0]);
        out
    };
    let full = |all: &[IpAddr]| {
        let all = if is_a { all } else { &[] };
        let mut out = head([0x81, 0x80], all.len() as u8);
        for address in all {
            let IpAddr::V4(address) = address else { continue };
            out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            out.extend(address.octets());
        }
        out
    };
    match mood {
        Mood::Says(all) => vec![full(all)],
        Mood::Truncates(all) if over_tcp => vec![full(all)],
        Mood::Truncates(_) => vec![head([0x83, 0x80], 0)],
        Mood::NoName => vec![head([0x81, 0x83], 0)],
        Mood::Refuses => vec![head([0x81, 0x85], 0)],
        Mood::Silent => Vec::new(),
        Mood::Lies => {
            let mut other = full(&[Ipv4Addr::new(127, 66, 66, 66).into()]);
            other[0] ^= 1;
            let short = full(&[Ipv4Addr::new(127, 66, 66, 66).into()]);
            vec![other, short[..short.len() - 2].to_vec(), vec![0xff; 100], Vec::new()]
        }
    }
}

/// A resolver that asks this server and nothing of the machine.
pub fn resolver(dns: SocketAddr) -> String {
    format!(
        "[resolver]\nname-servers = [\"{dns}\"]\nhosts = \"/dev/null\"\nresolv-conf = \"/dev/null\"\ntimeout = \"200ms\"\nretries = 0\nmin-ttl = \"100ms\"\nmax-ttl = \"100ms\"\nretry-after = \"100ms\"\nhold = {{ obsolete = \"0s\" }}\n"
    )
}

const SERVICE: &str = "[[virtual-service]]\nname = \"web\"\nvip = [\"VIP\"]\nmode = \"http\"\n";

fn service(vip: SocketAddr, rest: &str) -> String {
    format!("{}{rest}", SERVICE.replace("VIP", &vip.to_string()))
}

pub fn serves(place: &Place, name: &str) {
    eventually(&format!("{name} serves"), Duration::from_secs(30), || {
        let answer = get(place.at(8000), "/");
        answer.status == 200 && answer.text() == name
    });
}

pub fn events(evenkeel: &Evenkeel) -> String {
    evenkeel.ok(&["events"])
}

#[test]
fn a_name_is_followed_and_survives_every_outage() {
    let (place, other) = (Place::new("discovery"), Place::new("discovery-other"));
    let (a, b) = (place.at(9000), other.at(9000));
    let _servers = [Scripted::named(a, "a"), Scripted::named(b, "b")];
    let dns = NameServer::start(place.at(5300), Mood::Says(vec![a.ip()]));
    let server = "  [[virtual-service.real-server]]\n  name = \"s1\"\n  address = \"Web.Test:9000\"\n";
    let config = resolver(place.at(5300)) + &service(place.at(8000), server);
    let mut evenkeel = start(&place, &config);
    // The start waited for the answer.
    assert_eq!(get(place.at(8000), "/").text(), "a");
    let shown = evenkeel.server("web", "s1");
    assert_eq!((&shown["host"], &shown["address"]), (&"web.test".into(), &a.to_string().into()));
    let text = evenkeel.ok(&["status"]);
    assert!(text.contains("(web.test)"), "{text}");

    // More answers in another order, and lies, change nothing.
    dns.becomes(Mood::Says(vec![b.ip(), a.ip()]), 6);
    dns.becomes(Mood::Says(vec![a.ip(), b.ip()]), 6);
    dns.becomes(Mood::Lies, 4);
    assert_eq!(get(place.at(8000), "/").text(), "a");
    assert!(evenkeel.server("web", "s1")["total-connections"].as_u64() >= Some(2));

    // It moves.
    dns.becomes(Mood::Says(vec![b.ip()]), 2);
    serves(&place, "b");
    // Over TCP alone.
    dns.becomes(Mood::Truncates(vec![a.ip()]), 2);
    serves(&place, "a");

    // The last good answer stays.
    for mood in [Mood::NoName, Mood::Refuses, Mood::Silent] {
        dns.becomes(mood.clone(), 6);
        assert_eq!(get(place.at(8000), "/").text(), "a", "{mood:?}");
    }
    eventually("the outage is told of", Duration::from_secs(10), || {
        events(&evenkeel).contains("web.test cannot be looked up: no name server answers")
    });
    // A start without DNS.
    evenkeel.process.signal(rustix::process::Signal::INT);
    evenkeel.process.wait();
    evenkeel.start_again();
    assert_eq!(get(place.at(8000), "/").text(), "a");
    dns.becomes(Mood::Says(vec![b.ip()]), 2);
    serves(&place, "b");
    eventually("its end is told of", Duration::from_secs(10), || {
        events(&evenkeel).contains("web.test is found again")
    });
}

#[test]
fn a_start_without_dns_has_its_servers_down() {
    let place = Place::new("discovery-start");
    let a = place.at(9000);
    let _server = Scripted::named(a, "a");
    let dns = NameServer::start(place.at(5300), Mood::NoName);
    let server = "resolve = { init = [\"none\"] }\n  [[virtual-service.real-server]]\n  name = \"s1\"\n  address = \"web.test:9000\"\n";
    let config = resolver(place.at(5300)) + &service(place.at(8000), server);
    let evenkeel = start(&place, &config);
    assert_eq!(get(place.at(8000), "/").status, 503);
    eventually("the reason is shown", Duration::from_secs(10), || {
        let shown = evenkeel.server("web", "s1");
        let detail = shown["check"]["detail"].as_str().unwrap_or_default().to_owned();
        shown["state"] == "down" && shown["address"] == "web.test:9000" && detail.contains("does not exist")
    });
    dns.becomes(Mood::Says(vec![a.ip()]), 2);
    serves(&place, "a");
    let plan = place.write("plan.toml", Evenkeel::complete(&place, &config.replace("web.test", "x.test")));
    let plan = evenkeel.ok(&["plan", &plan.display().to_string()]);
    assert!(plan.contains("address web.test:9000 becomes x.test:9000"), "{plan}");
}

#[test]
fn the_hosts_file_is_followed() {
    let (place, other) = (Place::new("discovery-hosts"), Place::new("discovery-hosts-other"));
    let (a, b) = (place.at(9000), other.at(9000));
    let _servers = [Scripted::named(a, "a"), Scripted::named(b, "b")];
    let hosts = place.write("hosts", format!("{} web.test\n", a.ip()));
    let server = "  [[virtual-service.real-server]]\n  name = \"s1\"\n  address = \"web.test:9000\"\n";
    let resolver = resolver(place.at(5300)).replace("hosts = \"/dev/null\"", &format!("hosts = {hosts:?}"));
    let _evenkeel = start(&place, &(resolver + &service(place.at(8000), server)));
    assert_eq!(get(place.at(8000), "/").text(), "a");
    place.write("hosts", format!("{} web.test\n", b.ip()));
    serves(&place, "b");
}

#[test]
fn a_list_in_a_file_is_followed_and_not_when_it_empties() {
    let (place, other) = (Place::new("discovery-file"), Place::new("discovery-file-other"));
    let (a, b) = (place.at(9000), other.at(9000));
    let _servers = [Scripted::named(a, "a"), Scripted::named(b, "b")];
    let file = place.write("list.json", format!("[{{\"targets\":[\"{a}\"]}}]"));
    let discover = format!(
        "discover = [{{ type = \"file\", path = {file:?}, interval = \"200ms\", settle = \"0s\" }}]\n"
    );
    let evenkeel = start(&place, &(resolver(place.at(5300)) + &service(place.at(8000), &discover)));
    assert_eq!(get(place.at(8000), "/").text(), "a");
    let found = evenkeel.server("web", &a.to_string());
    assert_eq!(found["found-in"], format!("file {}", file.display()));
    place.write("list.json", format!("[{{\"targets\":[\"{b}\"]}}]"));
    serves(&place, "b");
    for (bad, why) in [("[]", "it has 0 servers"), ("[{", "it is no JSON")] {
        place.write("list.json", bad);
        eventually(why, Duration::from_secs(15), || events(&evenkeel).contains(why));
        assert_eq!(get(place.at(8000), "/").text(), "b", "{bad}");
    }
    std::fs::remove_file(&file).unwrap();
    eventually("its loss is told of", Duration::from_secs(15), || events(&evenkeel).contains("No such file"));
    assert_eq!(get(place.at(8000), "/").text(), "b");
}

#[test]
fn a_list_over_http_and_the_addresses_of_a_name_are_servers() {
    let (place, other) = (Place::new("discovery-http"), Place::new("discovery-http-other"));
    let (a, b) = (place.at(9000), other.at(9000));
    let _servers = [Scripted::named(a, "a"), Scripted::named(b, "b")];
    let registry = Scripted::named(place.at(9100), &format!("[{{\"targets\":[\"{a}\"]}}]"));
    let _dns = NameServer::start(place.at(5300), Mood::Says(vec![b.ip()]));
    let discover = format!(
        "discover = [{{ type = \"http\", url = \"http://{}/sd\", interval = \"200ms\" }}, {{ type = \"dns\", name = \"b.test\", port = 9000 }}]\n",
        place.at(9100)
    );
    let evenkeel = start(&place, &(resolver(place.at(5300)) + &service(place.at(8000), &discover)));
    serves(&place, "a");
    serves(&place, "b");
    // The registry is gone: its server stays.
    drop(registry);
    eventually("the loss is told of", Duration::from_secs(20), || {
        events(&evenkeel).contains("the list http://") && events(&evenkeel).contains("is not taken")
    });
    serves(&place, "a");
}
