//! `evenkeel demo`: real servers, a load balancer, traffic and a view of who gets what, all on
//! loopback. One server is killed on the way and started again. Nothing stays, however it ends: on a
//! signal it clears up itself; where it is killed its children see their standard input end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use evenkeel_api as api;

use super::client::Client;
use super::table::Table;
use super::{Exit, Failure, Outcome};

const CLIENTS: usize = 8;
/// The story, in seconds: a server dies, later it is back.
const KILL_AT: u64 = 6;
const RETURN_AT: u64 = 14;
const STORY: u64 = 26;

/// Children that end with the demo, however it ends.
struct Processes {
    folder: PathBuf,
    children: BTreeMap<String, Child>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Set by the signals that end a program: the terminal has gone, or somebody wants it so.
fn told_to_end() -> std::io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, told.clone())?;
    }
    Ok(told)
}

struct Traffic {
    answered: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

pub fn run(duration: Option<Duration>, port: u16) -> Outcome {
    let told_to_end = told_to_end()?;
    let folder = std::env::temp_dir().join(format!("evenkeel-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut processes = Processes { folder: folder.clone(), children: BTreeMap::new() };
    let servers: Vec<(String, SocketAddr)> =
        (1..=3).map(|n| (format!("web{n}"), SocketAddr::from(([127, 0, 0, 1], port + n)))).collect();
    for (name, address) in &servers {
        processes.children.insert(name.clone(), start_server(name, *address)?);
    }
    let vip = SocketAddr::from(([127, 0, 0, 1], port));
    let tcp_vip = SocketAddr::from(([127, 0, 0, 1], port + 4));
    let config = folder.join("evenkeel.toml");
    let web = SocketAddr::from(([127, 0, 0, 1], port + 5));
    std::fs::write(&config, configuration(&folder, web, vip, tcp_vip, &servers))?;
    let daemon = Command::new(std::env::current_exe()?)
        .args(["run", "--config"])
        .arg(&config)
        .arg("--ends-with-input")
        .arg(&folder)
        .stdin(Stdio::piped())
        // What the terminal sends to all of its programs is not for it: the demo ends it.
        .process_group(0)
        .stderr(std::fs::File::create(folder.join("daemon.log"))?)
        .spawn()?;
    processes.children.insert("evenkeel".into(), daemon);
    let socket = folder.join("admin.sock");
    wait_until_running(&socket, &folder, &told_to_end)?;
    if told_to_end.load(Relaxed) {
        return Ok(());
    }
    let password = password()?;
    let new = api::NewUser { name: "demo".into(), role: api::Role::Admin, password: password.clone() };
    let _: Vec<api::User> = Client::new(&socket).post("/api/v1/users", &new)?;
    println!("Web UI:  https://{web}/   user demo, password {password}");
    println!("         (the certificate is of its own making: the browser asks once)");

    let traffic = Arc::new(Traffic {
        answered: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let traffic = traffic.clone();
            // Every other client talks to the TCP service, a new connection each time.
            let (vip, keep) = if n % 2 == 0 { (vip, true) } else { (tcp_vip, false) };
            std::thread::spawn(move || client(vip, keep, &traffic))
        })
        .collect();
    let end = End { at: duration.map(|d| Instant::now() + d), told: &told_to_end };
    let told = show(&mut processes, &servers, vip, &socket, &traffic, &end);
    traffic.stop.store(true, Relaxed);
    clients.into_iter().for_each(|client| drop(client.join()));
    told?;
    let (answered, failed) = (traffic.answered.load(Relaxed), traffic.failed.load(Relaxed));
    // There may be no terminal any more.
    let _ = writeln!(
        std::io::stdout(),
        "\n{} answered, {failed} failed",
        evenkeel_model::counted(answered, "request", "requests")
    );
    if failed > 0 { Err(Failure::new(Exit::Failed, "requests failed")) } else { Ok(()) }
}

/// When the demo is over.
struct End<'a> {
    at: Option<Instant>,
    told: &'a AtomicBool,
}

impl End<'_> {
    /// Waits for a second; whether the end has come.
    fn comes_within_a_second(&self) -> bool {
        let next = Instant::now() + Duration::from_secs(1);
        while Instant::now() < next && !self.told.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.told.load(Relaxed)
    }

    fn has_come(&self) -> bool {
        self.told.load(Relaxed) || self.at.is_some_and(|at| Instant::now() >= at)
    }
}

/// Of this run alone.
fn password() -> Result<String, Failure> {
    let mut raw = [0; 8];
    let failed = |_| Failure::new(Exit::Failed, "there is no randomness");
    aws_lc_rs::rand::fill(&mut raw).map_err(failed)?;
    Ok(evenkeel_admin::hex(&raw))
}

fn start_server(name: &str, address: SocketAddr) -> Result<Child, Failure> {
    let program = std::env::current_exe()?;
    Ok(Command::new(program)
        .args(["demo-server", name, &address.to_string()])
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()?)
}

fn configuration(
    folder: &std::path::Path,
    web: SocketAddr,
    vip: SocketAddr,
    tcp_vip: SocketAddr,
    servers: &[(String, SocketAddr)],
) -> String {
    let folder = folder.display();
    let mut text = format!(
        "[admin]\nsocket = \"{folder}/admin.sock\"\nlisten = [\"{web}\"]\n\n[state]\ndirectory = \"{folder}/state\"\n"
    );
    let services = [
        (
            "web",
            "http",
            vip,
            "health-check = { type = \"http\", path = \"/\", interval = \"1s\" }\nfallback = { status = 503, body = \"Back soon.\" }",
        ),
        ("raw", "tcp", tcp_vip, "health-check = { type = \"tcp\", interval = \"1s\" }"),
    ];
    for (name, mode, vip, keys) in services {
        text.push_str(&format!("\n[[virtual-service]]\nname = \"{name}\"\nvip = [\"{vip}\"]\nmode = \"{mode}\"\nscheduler = \"round-robin\"\n{keys}\n"));
        for (i, (name, address)) in servers.iter().enumerate() {
            let weight = if i == 0 { 200 } else { 100 };
            text.push_str(&format!("\n  [[virtual-service.real-server]]\n  name = \"{name}\"\n  address = \"{address}\"\n  weight = {weight}\n"));
        }
    }
    text
}

fn wait_until_running(
    socket: &std::path::Path,
    folder: &std::path::Path,
    told_to_end: &AtomicBool,
) -> Outcome {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        let answers = Client::new(socket).get::<api::Status>("/api/v1/status").is_ok();
        if answers || told_to_end.load(Relaxed) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = std::fs::read_to_string(folder.join("daemon.log")).unwrap_or_default();
    Err(Failure::new(Exit::Failed, format!("the daemon did not start:\n{log}")))
}

fn show(
    processes: &mut Processes,
    servers: &[(String, SocketAddr)],
    vip: SocketAddr,
    socket: &std::path::Path,
    traffic: &Traffic,
    end: &End<'_>,
) -> Outcome {
    let terminal = std::io::stdout().is_terminal();
    println!("Evenkeel runs at http://{vip}/ before {} real servers. In another terminal:", servers.len());
    println!("  curl http://{vip}/        (HTTP)");
    println!("  curl http://{}/        (TCP relay)", SocketAddr::new(vip.ip(), vip.port() + 4));
    println!("  evenkeel --socket {} status", socket.display());
    println!("  evenkeel --socket {} drain web/web3 --wait", socket.display());
    let started = Instant::now();
    let mut before: BTreeMap<String, u64> = BTreeMap::new();
    let (mut answered_before, mut event) = (0, String::new());
    let victim = &servers[1];
    loop {
        if end.comes_within_a_second() {
            return Ok(());
        }
        let second = started.elapsed().as_secs();
        match second % STORY {
            KILL_AT => {
                if let Some(mut child) = processes.children.remove(&victim.0) {
                    event = format!("{} (process {}) was killed", victim.0, child.id());
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            RETURN_AT if !processes.children.contains_key(&victim.0) => {
                processes.children.insert(victim.0.clone(), start_server(&victim.0, victim.1)?);
                event = format!("{} was started again", victim.0);
            }
            _ => {}
        }
        let status: api::Status = Client::new(socket).get("/api/v1/status")?;
        let mut table = Table::new(&["SERVER", "STATE", "WEIGHT", "TAKES/S", "", "LAST CHECK"], &[2, 3]);
        let all = status.virtual_services.iter().flat_map(|s| s.real_servers.iter().map(move |r| (s, r)));
        for (service, server) in all {
            let name = format!("{} {}/{}", service.mode, service.name, server.name);
            let old = before.insert(name.clone(), server.total_connections).unwrap_or(0);
            let rate = server.total_connections - old;
            let bar = "#".repeat((rate / 50).min(40) as usize);
            table.row(vec![
                name,
                server.state.clone(),
                server.weight.to_string(),
                rate.to_string(),
                bar,
                server.check.detail.clone(),
            ]);
        }
        let answered = traffic.answered.load(Relaxed);
        let clear = if terminal { "\x1b[2J\x1b[H" } else { "" };
        let shown = writeln!(
            std::io::stdout(),
            "{clear}\nEvenkeel demo, http://{vip}/, second {second}   {event}\n\n{table}\n{} requests a second, {} failed so far. Ctrl-C ends it.",
            answered - answered_before,
            traffic.failed.load(Relaxed)
        );
        if shown.is_err() {
            // Nobody looks any more.
            return Ok(());
        }
        answered_before = answered;
        if end.has_come() {
            return Ok(());
        }
    }
}

/// A client that keeps its connection or opens one each time, and counts every request that is
/// not answered with 200. A TCP connection ends with its server, whatever stands in between; its
/// client opens another and asks once more.
fn client(vip: SocketAddr, keep: bool, traffic: &Traffic) {
    let mut connection: Option<BufReader<TcpStream>> = None;
    while !traffic.stop.load(Relaxed) {
        let attempts = if keep { 1 } else { 2 };
        let answered = (0..attempts).any(|_| matches!(ask(vip, keep, &mut connection), Ok(200)));
        let counter = if answered { &traffic.answered } else { &traffic.failed };
        counter.fetch_add(1, Relaxed);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ask(vip: SocketAddr, keep: bool, kept: &mut Option<BufReader<TcpStream>>) -> std::io::Result<u16> {
    let mut reader = match kept.take() {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect(vip)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            BufReader::new(stream)
        }
    };
    reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n")?;
    let (status, close) = read_answer(&mut reader)?;
    if keep && !close {
        *kept = Some(reader);
    }
    Ok(status)
}

fn read_answer(reader: &mut BufReader<TcpStream>) -> std::io::Result<(u16, bool)> {
    let (mut status, mut length, mut close) = (0, 0, false);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let lower = line.trim_end().to_ascii_lowercase();
        match lower.split_once(':') {
            _ if lower.is_empty() => break,
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(("connection", value)) => close = value.trim() == "close",
            Some(_) => {}
            None => status = lower.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((status, close))
}

/// A small real server that says its name. It ends with its standard input.
pub fn serve(name: &str, address: SocketAddr) -> Outcome {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(0);
    });
    let listener = TcpListener::bind(address)
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot listen on {address}: {e}; try --port")))?;
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        std::thread::spawn(move || {
            let Ok(mut writer) = stream.try_clone() else { return };
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            loop {
                line.clear();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if line != "\r\n" && line != "\n" => continue,
                    Ok(_) => {}
                }
                let body = format!("Hello from {name}\n");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                if writer.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
