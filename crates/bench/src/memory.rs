//! Memory that clients make a program hold: connections of HTTP/1 and HTTP/2 that are idle, that wait for
//! an answer, that do not read one, or that never end a request; and what stays when they are gone.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::peers::{ORIGIN, Process, listening, memory_of, pinned};

const SILENT: &str = "127.0.0.1:19002";
/// What the page begins with here; what stands before it is written by the other benchmarks.
pub const HEADING: &str = "## Memory that clients hold";
/// The program's own bound in these runs.
const BUFFER_MEMORY_MB: u64 = 64;
const STREAMS: u32 = 100;

/// One way to make a program hold memory.
struct Shape {
    name: &'static str,
    h2: bool,
    connections: usize,
    /// The real server never answers.
    silent: bool,
    /// The answer is read to its end.
    reads: bool,
    bytes: fn() -> Vec<u8>,
}

const fn shape(
    name: &'static str,
    h2: bool,
    connections: usize,
    silent: bool,
    bytes: fn() -> Vec<u8>,
) -> Shape {
    Shape { name, h2, connections, silent, reads: false, bytes }
}

const SHAPES: &[Shape] = &[
    Shape { reads: true, ..shape("HTTP/1, idle after a request", false, 1000, false, || get("/s", "")) },
    shape("HTTP/1, 1 MiB is not read", false, 1000, false, || get("/m", "")),
    shape("HTTP/1, waits for the server", false, 1000, true, || get("/s", "")),
    shape("HTTP/1, waits, 4 KB of fields", false, 1000, true, || get("/s", &field(3900))),
    shape("HTTP/1, half a head of 1 KB", false, 1000, true, || {
        let mut head = get("/s", &field(900));
        head.truncate(head.len() - 4);
        head
    }),
    shape("HTTP/1, half a body of 1 KB", false, 1000, true, || {
        let mut head = b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_vec();
        head.resize(head.len() + 1000, b'x');
        head
    }),
    Shape {
        reads: true,
        ..shape("HTTP/2, idle after a request", true, 1000, false, || requests(1, "/s", 0, 0))
    },
    shape("HTTP/2, 100 streams, 1 MiB is not read", true, 50, false, || requests(STREAMS, "/m", 0, 0)),
    shape("HTTP/2, 100 streams wait for the server", true, 50, true, || requests(STREAMS, "/s", 0, 0)),
    shape("HTTP/2, 100 streams wait, heads of 4 KB from the table", true, 50, true, || {
        requests(STREAMS, "/s", 3900, 1)
    }),
    shape("HTTP/2, 100 streams wait, heads of 12 KB from the table", true, 50, true, || {
        requests(STREAMS, "/s", 3900, 3)
    }),
    shape("HTTP/2, half a header block of 1 KB", true, 1000, true, || {
        let mut bytes = preface();
        frame(1, 1, 1, &[0; 1000], &mut bytes);
        bytes[PREFACE_LEN + 4] = 0;
        bytes
    }),
    shape("HTTP/2, 100 streams, half a body of 1 KB each", true, 50, true, || {
        let mut bytes = preface();
        for number in 0..STREAMS {
            frame(1, 4, 2 * number + 1, &block("POST", "/s"), &mut bytes);
            frame(0, 0, 2 * number + 1, &[b'x'; 1000], &mut bytes);
        }
        bytes
    }),
];

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn field(length: usize) -> String {
    format!("X-A: {}\r\n", "y".repeat(length))
}

/// The preface and empty SETTINGS.
const PREFACE_LEN: usize = 24 + 9;

fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(4, 0, 0, &[], &mut bytes);
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Method, scheme, path and authority as literals that enter no table.
fn block(method: &str, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a")] {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// So many requests; each names a field of `length` bytes `times` times, which the first puts in the table.
fn requests(count: u32, path: &str, length: usize, times: usize) -> Vec<u8> {
    let mut bytes = preface();
    for number in 0..count {
        let mut block = block("GET", path);
        if number == 0 && length > 0 {
            // A literal that enters the table: `x-a`, with a length of two further bytes.
            block.extend_from_slice(b"\x40\x03x-a\x7f");
            let rest = length - 127;
            block.extend_from_slice(&[(rest & 0x7f) as u8 | 0x80, (rest >> 7) as u8]);
            block.resize(block.len() + length, b'y');
        } else {
            block.resize(block.len() + times, 0xbe);
        }
        frame(1, 5, 2 * number + 1, &block, &mut bytes);
    }
    bytes
}

/// A program under measurement, with its ports: HTTP/1, HTTP/2, and both before the silent server.
struct Held {
    name: &'static str,
    process: Process,
    ports: [u16; 4],
}

impl Held {
    fn port(&self, shape: &Shape) -> SocketAddr {
        let at = usize::from(shape.silent) * 2 + usize::from(shape.h2);
        SocketAddr::from(([127, 0, 0, 1], self.ports[at]))
    }

    fn memory(&self) -> u64 {
        memory_of(self.process.0.id())
    }
}

fn evenkeel(folder: &Path) -> anyhow::Result<Held> {
    let shown = folder.display();
    let mut text = format!(
        "[admin]\nsocket = \"{shown}/admin.sock\"\n[state]\ndirectory = \"{shown}/state\"\n\
         [limits]\nworkers = 1\nbuffer-memory = \"{BUFFER_MEMORY_MB}MiB\"\n"
    );
    for (name, port, server) in [("web", 18180, ORIGIN), ("silent", 18182, SILENT)] {
        let _ = write!(
            text,
            "[[virtual-service]]\nname = \"{name}\"\nvip = [\"127.0.0.1:{port}\"]\nmode = \"http\"\n\
             timeouts = {{ client = \"300s\", server = \"300s\", request = \"300s\", keep-alive = \"300s\" }}\n\
             health-check = {{ type = \"none\" }}\n\
             [[virtual-service.real-server]]\nname = \"o\"\naddress = \"{server}\"\n"
        );
    }
    let config = folder.join("evenkeel.toml");
    std::fs::write(&config, text)?;
    let program = std::env::current_exe()?.with_file_name("evenkeel");
    let mut command = pinned("0", program);
    command.args(["run", "--drain-timeout", "0s", "--config"]).arg(config);
    started("evenkeel", command, [18180, 18180, 18182, 18182])
}

fn haproxy(folder: &Path) -> anyhow::Result<Held> {
    let mut text = "global\n nbthread 1\n maxconn 7500\ndefaults\n mode http\n timeout connect 4s\n \
                    timeout client 300s\n timeout server 300s\n timeout http-request 300s\n"
        .to_owned();
    for (name, one, two, server) in [("web", 18190, 18191, ORIGIN), ("silent", 18192, 18193, SILENT)] {
        let _ = write!(
            text,
            "listen {name}\n bind 127.0.0.1:{one}\n bind 127.0.0.1:{two} proto h2\n server o {server}\n"
        );
    }
    let config = folder.join("memory.cfg");
    std::fs::write(&config, text)?;
    let mut command = pinned("0", "haproxy");
    command.arg("-db").arg("-f").arg(config);
    started("haproxy", command, [18190, 18191, 18192, 18193])
}

fn started(name: &'static str, mut command: std::process::Command, ports: [u16; 4]) -> anyhow::Result<Held> {
    let process = Process(command.stdout(Stdio::null()).spawn()?);
    listening(SocketAddr::from(([127, 0, 0, 1], ports[0])))
        .with_context(|| format!("{name} did not start"))?;
    Ok(Held { name, process, ports })
}

/// What a program held.
struct Figures {
    sent: u64,
    grown: u64,
    left: u64,
}

fn measure(held: &Held, shape: &Shape) -> anyhow::Result<Figures> {
    let address = held.port(shape);
    let before = held.memory();
    let bytes = (shape.bytes)();
    let mut open = Vec::new();
    let mut peak = before;
    for number in 0..shape.connections {
        let mut stream = TcpStream::connect(address)?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096)?;
        stream.write_all(&bytes)?;
        if shape.reads {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut some = [0; 4096];
            // All of a small answer is in one or two reads.
            while stream.read(&mut some)? == some.len() {}
        }
        open.push(stream);
        if number % 16 == 0 {
            peak = peak.max(held.memory());
        }
    }
    peak = peak.max(settled(held, 2, |now, last| now > last));
    let sent = bytes.len() as u64 * shape.connections as u64;
    drop(open);
    let left = settled(held, 5, |now, last| now < last);
    Ok(Figures { sent, grown: peak - before, left: left.saturating_sub(before) })
}

/// The memory when it has not moved on for so many seconds.
fn settled(held: &Held, seconds: u64, moves: impl Fn(u64, u64) -> bool) -> u64 {
    let (mut last, mut since) = (held.memory(), Instant::now());
    while since.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(50));
        let now = held.memory();
        if moves(now, last) {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Accepts, and says nothing. Connections that have ended are let go.
fn silent_server() -> anyhow::Result<()> {
    let listener = TcpListener::bind(SILENT)?;
    std::thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming().flatten() {
            if stream.set_nonblocking(true).is_ok() {
                open.push(stream);
            }
            if open.len().is_multiple_of(64) {
                open.retain(is_open);
            }
        }
    });
    Ok(())
}

fn is_open(mut stream: &TcpStream) -> bool {
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// The table.
pub fn run(folder: &Path, only: Option<&str>) -> anyhow::Result<String> {
    silent_server()?;
    let _origin = crate::peers::origin()?;
    let profile = std::env::current_exe()?;
    let profile =
        profile.parent().and_then(|p| p.file_name()).map_or_else(String::new, |n| n.to_string_lossy().into());
    let mut out = format!(
        "{HEADING}\n\nWritten by `evenkeel-bench memory`, with a build of the profile {profile}, \
         `buffer-memory` of {BUFFER_MEMORY_MB} MiB and one worker; each program is started anew for each row. \
         Growth of the resident memory at its peak, as kB a connection and as a multiple of the bytes that the \
         clients sent, and what of it was left in all (MB) when it fell no more after they were gone.\n\n\
         | clients | connections | sent, kB each | Evenkeel: kB each | times | left, MB | HAProxy: kB each | times | left, MB |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for shape in SHAPES.iter().filter(|shape| only.is_none_or(|only| shape.name.contains(only))) {
        let mut cells = String::new();
        let mut sent = 0;
        for start in [evenkeel, haproxy] {
            let held = start(folder)?;
            // What a program makes when it is first used is not the clients'.
            let warm = Shape { connections: 4, ..shape_of(shape) };
            measure(&held, &warm).with_context(|| format!("{}: {}", held.name, shape.name))?;
            let figures = measure(&held, shape).with_context(|| format!("{}: {}", held.name, shape.name))?;
            sent = figures.sent;
            let _ = write!(
                cells,
                " {:.1} | {:.1} | {:.1} |",
                figures.grown as f64 / 1024.0 / shape.connections as f64,
                figures.grown as f64 / sent as f64,
                figures.left as f64 / f64::from(1 << 20)
            );
        }
        let each = sent as f64 / 1024.0 / shape.connections as f64;
        let row = format!("| {} | {} | {each:.1} |{cells}\n", shape.name, shape.connections);
        eprint!("{row}");
        out += &row;
    }
    Ok(out)
}

fn shape_of(shape: &Shape) -> Shape {
    Shape { ..*shape }
}

/// Puts the table at the end of the page, in place of the one that is there.
pub fn write(page: &Path, table: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(page).unwrap_or_default();
    let before = text.split(HEADING).next().unwrap_or("").trim_end();
    Ok(std::fs::write(page, format!("{before}\n\n{table}"))?)
}
