//! What an attack costs beside a normal client.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, eventually, within};
use rustix::net::{AddressFamily, SocketType};

/// The program with one service and one real server that answers.
pub struct Target {
    pub place: Place,
    pub evenkeel: Evenkeel,
    _server: Scripted,
}

/// What the attacker has sent, and holds while the normal client is served.
#[derive(Default)]
pub struct Attack {
    pub sent: u64,
    pub held: Vec<TcpStream>,
}

impl Attack {
    pub fn send(&mut self, mut stream: &TcpStream, bytes: &[u8]) {
        // A program that refuses early has closed already.
        if std::io::Write::write_all(&mut stream, bytes).is_ok() {
            self.sent += bytes.len() as u64;
        }
    }
}

/// Resources of a process at a moment.
#[derive(Clone, Copy)]
struct Usage {
    memory_kb: u64,
    files: usize,
    cpu_ms: u64,
}

fn usage(process: u32) -> Usage {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the program lives");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("its memory");
    let memory_kb = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the program lives");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0);
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).expect("its files").count();
    Usage { memory_kb, files, cpu_ms: ticks * 10 }
}

pub fn memory_kb(target: &Target) -> u64 {
    usage(target.evenkeel.process.id()).memory_kb
}

impl Target {
    /// `keys` are of the service, `more` stands before it.
    pub fn start(name: &str, more: &str, keys: &str) -> Target {
        let place = Place::new(name);
        let server = Scripted::named(place.at(9001), "one");
        let config = format!(
            "{more}\n[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\n\
             health-check = {{ type = \"none\" }}\n{keys}\n\
             [[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
            place.at(8080),
            place.at(9001)
        );
        let config = config.replace("FOLDER", &place.folder().display().to_string());
        let config = config.replace("ADMIN", &place.at(9443).to_string());
        let evenkeel = Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &config);
        Target { place, evenkeel, _server: server }
    }

    pub fn vip(&self) -> SocketAddr {
        self.place.at(8080)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.vip()).expect("the kernel accepts");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        stream
    }

    /// A normal client's request on a connection of its own.
    pub fn is_served(&self) -> bool {
        let mut client = Connection::open(self.vip());
        client.stream().set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let answer = client.answer();
        let served = answer.as_ref().is_some_and(|answer| answer.status == 200 && answer.text() == "one");
        if !served {
            println!("a normal client got {answer:?}");
        }
        served
    }

    /// Runs an attack, serves a normal client while it goes on, and compares. `memory_mb` is what the
    /// program may grow by.
    pub fn endures(&self, what: &str, memory_mb: u64, attack: impl FnOnce(&Target) -> Attack) {
        const REQUESTS: u64 = 20;
        let process = self.evenkeel.process.id();
        let serve =
            || (0..REQUESTS).for_each(|_| assert!(self.is_served(), "{what}: a normal client is not served"));
        serve();
        let before = usage(process);
        serve();
        let normal = usage(process);
        let attack = attack(self);
        let attacked = usage(process);
        serve();
        let after = usage(process);
        let memory_kb = attacked.memory_kb.max(after.memory_kb).saturating_sub(before.memory_kb);
        println!(
            "{what}: {} kB sent, {} connections held: {memory_kb} kB of memory, {} ms of CPU; a normal request: {:.1} ms, beside the attack {:.1} ms",
            attack.sent / 1024,
            attack.held.len(),
            attacked.cpu_ms - normal.cpu_ms,
            (normal.cpu_ms - before.cpu_ms) as f64 / REQUESTS as f64,
            (after.cpu_ms - attacked.cpu_ms) as f64 / REQUESTS as f64,
        );
        assert!(memory_kb <= memory_mb << 10, "{what}: {memory_kb} kB of memory");
        // One each, and one to a server for each of their requests: HTTP/2 has a hundred at a time, and some
        // two hundred whose stream was reset before its connection to the server was there.
        let most = before.files + 401 * attack.held.len() + 64;
        assert!(after.files <= most, "{what}: {} open files, {most} at most", after.files);
        drop(attack);
        // Connections to servers rest for a minute; clients' are gone.
        eventually(&format!("{what}: its connections are gone"), Duration::from_secs(120), || {
            self.evenkeel.service("web")["current-connections"] == 0
        });
    }
}

/// A connection from an address of this machine.
pub fn connect_from(source: &str, target: SocketAddr) -> Option<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    let source: SocketAddr = SocketAddr::new(source.parse().expect("an address"), 0);
    rustix::net::bind(&socket, &source).ok()?;
    rustix::net::connect(&socket, &target).ok()?;
    Some(TcpStream::from(socket))
}

/// Waits for a while; whether the other side has closed.
pub fn is_closed(stream: &TcpStream, limit: Duration) -> bool {
    let mut some = [0; 65_536];
    let mut stream = stream;
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    within(limit, || match std::io::Read::read(&mut stream, &mut some) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    })
}
