//! The load generator: many connections from one thread, as cheap as can be.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::io::Errno;

use crate::poll::{Poll, connect, read, write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadKind {
    /// Kept-alive requests, the next when the answer is there.
    Keep,
    /// The same, each connection to another service: those of the scale test, by their addresses.
    Spread,
    /// A new connection a request.
    Close,
    /// Kept-alive requests at a fixed rate; latency counts from when a request was due.
    Rate,
    /// Opens connections, has one request answered on each, and holds them idle.
    Idle,
    /// The same over TLS.
    IdleTls,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub requests: u64,
    pub bytes: u64,
    pub errors: u64,
    pub p99_us: u64,
}

struct Client {
    fd: Option<OwnedFd>,
    /// Bytes of the answer that have come; its whole length is known after the first.
    got: usize,
    due: Instant,
    busy: bool,
    writable: bool,
}

struct Generator {
    poll: Poll,
    address: SocketAddr,
    request: Vec<u8>,
    clients: Vec<Client>,
    answer_len: usize,
    counted: Counted,
    latencies_us: Vec<u32>,
    buffer: Vec<u8>,
    kind: LoadKind,
}

pub fn run(
    kind: LoadKind,
    address: SocketAddr,
    path: &str,
    connections: usize,
    seconds: f64,
    rate: f64,
) -> anyhow::Result<Counted> {
    if kind == LoadKind::IdleTls {
        crate::secure::hold(address, path, connections, seconds)?;
        return Ok(Counted::default());
    }
    let close = if kind == LoadKind::Close { "Connection: close\r\n" } else { "" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{close}\r\n").into_bytes();
    let now = Instant::now();
    let clients =
        (0..connections).map(|_| Client { fd: None, got: 0, due: now, busy: false, writable: false });
    let mut generator = Generator {
        poll: Poll::new()?,
        address,
        request,
        clients: clients.collect(),
        answer_len: learn(address, path)?,
        counted: Counted::default(),
        latencies_us: Vec::new(),
        buffer: vec![0; 262_144],
        kind,
    };
    let end = now + Duration::from_secs_f64(seconds);
    match kind {
        LoadKind::Keep | LoadKind::Spread | LoadKind::Close => generator.closed_loop(end)?,
        LoadKind::Rate => generator.fixed_rate(end, rate)?,
        LoadKind::Idle | LoadKind::IdleTls => generator.hold(end)?,
    }
    let latencies = &mut generator.latencies_us;
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or(0);
    Ok(Counted { p99_us: u64::from(p99), ..generator.counted })
}

/// The length of a whole answer, which is the same each time.
fn learn(address: SocketAddr, path: &str) -> anyhow::Result<usize> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").map(|i| i + 4).unwrap_or(0);
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..head]));
    Ok(answer.len() - head)
}

impl Generator {
    fn closed_loop(&mut self, end: Instant) -> anyhow::Result<()> {
        for index in 0..self.clients.len() {
            self.start(index)?;
        }
        while Instant::now() < end {
            for token in self.poll.wait(Duration::from_millis(100))? {
                if self.advance(token)? {
                    self.start(token)?;
                }
            }
        }
        Ok(())
    }

    fn fixed_rate(&mut self, end: Instant, rate: f64) -> anyhow::Result<()> {
        let gap = Duration::from_secs_f64(1.0 / rate);
        let mut due = Instant::now();
        let mut free: Vec<usize> = (0..self.clients.len()).collect();
        while due < end {
            let now = Instant::now();
            while due <= now {
                let Some(index) = free.pop() else { break };
                self.clients[index].due = due;
                self.start(index)?;
                due += gap;
            }
            let wait = due.saturating_duration_since(Instant::now()).min(Duration::from_millis(1));
            for token in self.poll.wait(wait)? {
                if self.advance(token)? {
                    let late = self.clients[token].due.elapsed();
                    self.latencies_us.push(late.as_micros().min(u128::from(u32::MAX)) as u32);
                    free.push(token);
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, end: Instant) -> anyhow::Result<()> {
        let mut left = 0;
        for index in 0..self.clients.len() {
            self.start(index)?;
            left += 1;
            // A few at a time, so that the listener's queue never overflows.
            while left > 64 {
                for token in self.poll.wait(Duration::from_millis(100))? {
                    left -= usize::from(self.advance(token)?);
                }
            }
        }
        while left > 0 && Instant::now() < end {
            for token in self.poll.wait(Duration::from_millis(100))? {
                left -= usize::from(self.advance(token)?);
            }
        }
        println!("holding");
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Sends the next request of a client, on a new connection where it has none.
    fn start(&mut self, index: usize) -> anyhow::Result<()> {
        let address = self.address_of(index);
        let client = &mut self.clients[index];
        (client.got, client.busy) = (0, true);
        if client.fd.is_none() {
            let fd = connect(address)?;
            // On loopback the first write usually finds the connection up.
            client.writable = write(&fd, &self.request).is_err();
            self.poll.add(&fd, index, client.writable)?;
            client.fd = Some(fd);
            return Ok(());
        }
        let sent = client.fd.as_ref().map(|fd| write(fd, &self.request));
        if !matches!(sent, Some(Ok(_))) {
            self.fail(index);
            return self.start(index);
        }
        Ok(())
    }

    fn address_of(&self, index: usize) -> SocketAddr {
        match (self.kind, self.address) {
            (LoadKind::Spread, SocketAddr::V4(first)) => {
                let [a, b, ..] = first.ip().octets();
                // 512 connections come to each twentieth of 10,000.
                let number = index * 19;
                let ip = [a, b, (number / 250 % 40) as u8, (number % 250 + 1) as u8];
                SocketAddr::from((ip, first.port()))
            }
            (_, address) => address,
        }
    }

    fn fail(&mut self, index: usize) {
        self.counted.errors += 1;
        self.clients[index].fd = None;
    }

    /// Takes what has come; whether the answer is whole (or failed).
    fn advance(&mut self, index: usize) -> anyhow::Result<bool> {
        let client = &mut self.clients[index];
        let Some(fd) = &client.fd else { return Ok(false) };
        if client.writable {
            if write(fd, &self.request).is_err() {
                self.fail(index);
                return Ok(true);
            }
            self.poll.only_read(fd, index)?;
            client.writable = false;
            return Ok(false);
        }
        let count = match read(fd, &mut self.buffer) {
            Ok(0) | Err(Errno::CONNRESET) => {
                let idle = !client.busy;
                client.fd = None;
                self.counted.errors += u64::from(!idle);
                return Ok(!idle);
            }
            Ok(count) => count,
            Err(_) => return Ok(false),
        };
        let bytes = &self.buffer[..count];
        if client.got == 0 {
            // The head's length differs between proxies; the body's does not.
            let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(count, |i| i + 4);
            self.counted.errors += u64::from(!bytes.starts_with(b"HTTP/1.1 200"));
            client.got = count - head + 1;
        } else {
            client.got += count;
        }
        self.counted.bytes += count as u64;
        if client.got > self.answer_len {
            self.counted.requests += 1;
            client.busy = false;
            if self.kind == LoadKind::Close {
                client.fd = None;
            }
            return Ok(true);
        }
        Ok(false)
    }
}
