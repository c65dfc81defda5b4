//! The cases, and how a round of one is run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::growth;
use crate::peers::{self, Beside, Peer, Process, Setup, memory_of};
use crate::report;

pub struct Plan {
    pub rounds: usize,
    pub seconds: f64,
    /// Only cases whose name holds one of these; all, where there are none.
    pub only: Vec<String>,
    pub beside: Vec<Beside>,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }

    /// Every program side by side; ours is the first.
    fn peers(&self, setup: &Setup) -> anyhow::Result<Vec<Peer>> {
        let mut peers = vec![setup.evenkeel()?, setup.haproxy()?, setup.nginx()?];
        for (number, beside) in self.beside.iter().enumerate() {
            peers.push(setup.beside(beside, number as u16)?);
        }
        Ok(peers)
    }
}

#[derive(Default)]
pub struct Measured {
    pub results: Vec<CaseResult>,
    pub failed: Vec<String>,
}

impl Measured {
    fn take(&mut self, name: &str, outcome: anyhow::Result<Vec<CaseResult>>) {
        match outcome {
            Ok(results) => {
                results.iter().for_each(|result| eprintln!("{}: {}", result.name, report::brief(result)));
                self.results.extend(results);
            }
            Err(error) => {
                eprintln!("{name}: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    RequestsPerCpuSecond,
    MegabytesPerCpuSecond,
    Microseconds,
    BytesPerConnection,
    Milliseconds,
    Megabytes,
}

impl Unit {
    /// Whether more of it is better.
    pub fn higher_is_better(self) -> bool {
        matches!(self, Unit::RequestsPerCpuSecond | Unit::MegabytesPerCpuSecond)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Unit::RequestsPerCpuSecond => "requests a CPU second",
            Unit::MegabytesPerCpuSecond => "MB a CPU second",
            Unit::Microseconds => "p99, microseconds",
            Unit::BytesPerConnection => "bytes a connection",
            Unit::Milliseconds => "milliseconds",
            Unit::Megabytes => "MB",
        }
    }
}

/// Figures of one program in one case, a round each.
pub struct Series {
    pub peer: String,
    pub figures: Vec<f64>,
    pub errors: u64,
}

pub struct CaseResult {
    pub name: String,
    pub unit: Unit,
    pub bar: &'static str,
    pub series: Vec<Series>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Own,
    /// `h2load` with these arguments: HTTP/2, and HTTP/1.1 over TLS.
    H2load(&'static [&'static str]),
    /// `openssl s_time` with these arguments: TLS handshakes, a request each.
    Handshakes(&'static [&'static str]),
}

/// Which of a program's listeners is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Http,
    Tcp,
    Tls,
    TlsRsa,
    OneRoute,
    HundredRoutes,
    LargeMap,
    Hosts,
    Paths,
    Expressions,
    Counted,
}

impl Port {
    fn only_ours(self) -> bool {
        matches!(
            self,
            Port::OneRoute
                | Port::HundredRoutes
                | Port::LargeMap
                | Port::Hosts
                | Port::Paths
                | Port::Expressions
                | Port::Counted
        )
    }
}

struct Case {
    name: &'static str,
    kind: &'static str,
    /// What makes the load; the own generator where nothing is named.
    tool: Tool,
    port: Port,
    path: &'static str,
    connections: usize,
    logging: bool,
    unit: Unit,
    bar: &'static str,
}

const fn http(
    name: &'static str,
    kind: &'static str,
    path: &'static str,
    connections: usize,
    bar: &'static str,
) -> Case {
    let (tool, port) = (Tool::Own, Port::Http);
    Case { name, kind, tool, port, path, connections, logging: false, unit: Unit::RequestsPerCpuSecond, bar }
}

const CASES: &[Case] = &[
    http("kept alive, 64 connections, 128 B", "keep", "/s", 64, "1.3"),
    http("kept alive, 512 connections, 128 B", "keep", "/s", 512, "1.4"),
    http("kept alive, 64 connections, 10 KiB", "keep", "/k", 64, "1.3"),
    http("kept alive, 512 connections, 10 KiB", "keep", "/k", 512, "1.4"),
    Case {
        logging: true,
        ..http("kept alive, 64 connections, 128 B, access log to a file", "keep", "/s", 64, "1.3")
    },
    Case {
        logging: true,
        ..http("kept alive, 512 connections, 128 B, access log to a file", "keep", "/s", 512, "1.3")
    },
    http("new connection a request, 64 at a time", "close", "/s", 64, "1.2"),
    Case {
        unit: Unit::MegabytesPerCpuSecond,
        ..http("HTTP, 1 MiB answers, 16 connections", "keep", "/m", 16, "2.5")
    },
    Case {
        port: Port::Tcp,
        unit: Unit::MegabytesPerCpuSecond,
        ..http("TCP relay, 1 MiB answers, 16 connections", "keep", "/m", 16, "1.8")
    },
    Case {
        port: Port::Tcp,
        ..http("TCP relay, a short connection each, 64 at a time", "close", "/s", 64, "1.2")
    },
    Case {
        tool: Tool::H2load(&["--h1", "-n", "60000", "-c", "64"]),
        port: Port::Tls,
        ..http("HTTPS kept alive, HTTP/1.1, 64 connections, 128 B", "", "/s", 64, "1.3")
    },
    Case {
        tool: Tool::H2load(&["--h1", "-n", "1500", "-c", "16"]),
        port: Port::Tls,
        ..http("HTTPS, 1 MiB answers, HTTP/1.1, 16 connections", "", "/m", 16, "1.3")
    },
    Case {
        tool: Tool::H2load(&["-n", "100000", "-c", "4", "-m", "100"]),
        port: Port::Tls,
        ..http("HTTP/2 over TLS from clients, HTTP/1.1 to servers, 4 x 100 streams", "", "/s", 4, "1.3")
    },
    Case {
        tool: Tool::Handshakes(&["-new"]),
        port: Port::Tls,
        ..http("TLS 1.3 full handshake with a request, ECDSA P-256", "", "/s", 1, "1.35")
    },
    Case {
        tool: Tool::Handshakes(&["-new"]),
        port: Port::TlsRsa,
        ..http("TLS 1.3 full handshake with a request, RSA-2048", "", "/s", 1, "1.35")
    },
    Case {
        tool: Tool::Handshakes(&["-reuse"]),
        port: Port::Tls,
        ..http("TLS 1.3 resumed handshake with a request", "", "/s", 1, "1.35")
    },
    Case { port: Port::OneRoute, ..http("routes: one", "keep", "/s", 64, "") },
    Case {
        port: Port::HundredRoutes,
        ..http("routes: 100, the last one holds", "keep", "/s", 64, "0.95 of one route")
    },
    Case {
        port: Port::Counted,
        ..http("routes: one, a table counts clients and two of its rates are asked", "keep", "/s", 64, "")
    },
    Case {
        port: Port::LargeMap,
        ..http("routes: a map of 100,000 hosts", "keep", "/s", 64, "0.95 of one route")
    },
    Case {
        port: Port::Hosts,
        ..http("routes: 1,000 hosts, the last one holds", "keep", "/s", 64, "0.91 of one route")
    },
    Case {
        port: Port::Paths,
        ..http("routes: 1,000 beginnings of paths, the last one holds", "keep", "/s", 64, "0.91 of one route")
    },
    Case {
        port: Port::Expressions,
        ..http("routes: 1,000 regular expressions, the last one holds", "keep", "/s", 64, "0.67 of one route")
    },
];

/// One round with the case's tool; requests, bytes, errors.
fn one_round(plan: &Plan, case: &Case, peer: &Peer) -> anyhow::Result<[u64; 3]> {
    let address = std::net::SocketAddr::new(peer.http.ip(), peer.http.port() + case.port as u16);
    match case.tool {
        Tool::Own => {
            let [requests, bytes, errors, _] =
                peers::load(case.kind, address, case.path, case.connections, plan.seconds, 0.0)?;
            Ok([requests, bytes, errors])
        }
        Tool::H2load(arguments) => peers::h2load(arguments, address, case.path),
        Tool::Handshakes(arguments) => peers::handshakes(arguments, address, case.path, plan.seconds),
    }
}

/// What has been measured. A case that fails is told, and the rest goes on.
pub fn run(plan: &Plan) -> anyhow::Result<Measured> {
    let folder = std::env::temp_dir().join(format!("evenkeel-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let _origin = peers::origin()?;
    let mut measured = Measured::default();
    for logging in [false, true] {
        let begun = beside_others(plan, &folder, logging, &mut measured);
        measured.take("the programs side by side", begun.map(|()| Vec::new()));
    }
    type Part = (&'static str, fn(&Plan, &Path) -> anyhow::Result<Vec<CaseResult>>);
    let parts: [Part; 4] = [
        ("idle", |plan, folder| Ok(vec![idle(plan, folder, false)?, idle(plan, folder, true)?])),
        ("pools", growth::of_pools),
        ("services", growth::of_services),
        ("scale", |_, folder| scale(folder)),
    ];
    for (name, part) in parts.into_iter().filter(|(name, _)| plan.wants(name)) {
        eprintln!("{name}");
        measured.take(name, part(plan, &folder));
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(measured)
}

fn beside_others(plan: &Plan, folder: &Path, logging: bool, measured: &mut Measured) -> anyhow::Result<()> {
    let cases: Vec<&Case> = CASES.iter().filter(|c| c.logging == logging && plan.wants(c.name)).collect();
    if cases.is_empty() && (logging || !(plan.wants("changes") || plan.wants("latency"))) {
        return Ok(());
    }
    let setup = Setup { folder: folder.to_path_buf(), logging };
    let peers = plan.peers(&setup)?;
    for case in cases {
        eprintln!("{}", case.name);
        measured.take(case.name, throughput(plan, case, &peers).map(|result| vec![result]));
    }
    if !logging && plan.wants("changes") {
        eprintln!("changes");
        measured.take("changes", under_change(plan, folder, &peers[0]));
    }
    if !logging && plan.wants("latency") {
        eprintln!("latency");
        measured.take("latency", latency(plan, &peers).map(|result| vec![result]));
    }
    Ok(())
}

fn throughput(plan: &Plan, case: &Case, peers: &[Peer]) -> anyhow::Result<CaseResult> {
    let able: Vec<&Peer> = peers
        .iter()
        .filter(|p| case.port != Port::Tcp || p.has_tcp())
        .filter(|p| !case.port.only_ours() || p.name.starts_with("evenkeel"))
        .collect();
    let mut series: Vec<Series> =
        able.iter().map(|p| Series { peer: p.name.clone(), figures: Vec::new(), errors: 0 }).collect();
    // The first round warms up and does not count.
    for round in 0..=plan.rounds {
        for (peer, series) in able.iter().zip(&mut series) {
            let before = peer.cpu();
            let [requests, bytes, errors] = one_round(plan, case, peer)?;
            let spent = (peer.cpu() - before).as_secs_f64();
            let work = match case.unit {
                Unit::MegabytesPerCpuSecond => bytes as f64 / 1e6,
                _ => requests as f64,
            };
            if round > 0 {
                series.figures.push(work / spent.max(1e-9));
                series.errors += errors;
            }
        }
    }
    Ok(CaseResult { name: case.name.into(), unit: case.unit, bar: case.bar, series })
}

/// p99 at 70% of what HAProxy can do, the same rate for everybody.
fn latency(plan: &Plan, peers: &[Peer]) -> anyhow::Result<CaseResult> {
    let [requests, ..] = peers::load("keep", peers[1].http, "/s", 64, plan.seconds, 0.0)?;
    let rate = requests as f64 / plan.seconds * 0.7;
    let mut series: Vec<Series> =
        peers.iter().map(|p| Series { peer: p.name.clone(), figures: Vec::new(), errors: 0 }).collect();
    for _ in 0..plan.rounds {
        for (peer, series) in peers.iter().zip(&mut series) {
            let [_, _, errors, p99] = peers::load("rate", peer.http, "/s", 64, plan.seconds, rate)?;
            series.figures.push(p99 as f64);
            series.errors += errors;
        }
    }
    let name = format!("latency at 70% of HAProxy's saturation ({rate:.0} requests a second)");
    Ok(CaseResult { name, unit: Unit::Microseconds, bar: "1.0 (HAProxy)", series })
}

/// p99 at the same rate, with nothing else going on and while a changed configuration is committed
/// again and again: two rows, the second of which is to be within a fifth of the first.
fn under_change(plan: &Plan, folder: &std::path::Path, ours: &Peer) -> anyhow::Result<Vec<CaseResult>> {
    let [requests, ..] = peers::load("keep", ours.http, "/s", 64, plan.seconds, 0.0)?;
    let rate = requests as f64 / plan.seconds * 0.5;
    let text = std::fs::read_to_string(folder.join("evenkeel.toml"))?;
    let changed = text.replacen("name = \"web\"\n", "name = \"web\"\nretries = 2\n", 1);
    anyhow::ensure!(text != changed, "nothing was changed");
    let mut rows = ["at rest", "with a change every half second"].map(|what| CaseResult {
        name: format!("changes: latency at half the saturation ({rate:.0} requests a second), {what}"),
        unit: Unit::Microseconds,
        bar: if what == "at rest" { "" } else { "1.2 times at rest" },
        series: vec![Series { peer: "evenkeel".into(), figures: Vec::new(), errors: 0 }],
    });
    for _ in 0..plan.rounds {
        for (changes, row) in [false, true].into_iter().zip(&mut rows) {
            let over = std::sync::atomic::AtomicBool::new(false);
            let (counted, commits) = std::thread::scope(|scope| {
                let (over, texts) = (&over, [&changed, &text]);
                let committing = scope.spawn(move || {
                    let mut count = 0;
                    while changes && !over.load(std::sync::atomic::Ordering::Relaxed) {
                        peers::commit(folder, texts[count % 2])?;
                        count += 1;
                        std::thread::sleep(Duration::from_millis(500));
                    }
                    anyhow::Ok(count)
                });
                let counted = peers::load("rate", ours.http, "/s", 64, plan.seconds, rate);
                over.store(true, std::sync::atomic::Ordering::Relaxed);
                (counted, committing.join())
            });
            let commits = commits.map_err(|_| anyhow::anyhow!("the committing thread ended"))??;
            anyhow::ensure!(commits > 0 || !changes, "nothing was committed");
            let [_, _, errors, p99] = counted?;
            row.series[0].figures.push(p99 as f64);
            row.series[0].errors += errors;
        }
    }
    Ok(rows.into())
}

/// Memory that an idle, kept-alive client connection costs in the proxy's process.
fn idle(plan: &Plan, folder: &std::path::Path, tls: bool) -> anyhow::Result<CaseResult> {
    const CONNECTIONS: usize = 7_000;
    let setup = Setup { folder: folder.to_path_buf(), logging: false };
    let mut series = Vec::new();
    for peer in plan.peers(&setup)? {
        peers::load("keep", peer.http, "/s", 64, 1.0, 0.0)?;
        let secure = std::net::SocketAddr::new(peer.http.ip(), peer.http.port() + Port::Tls as u16);
        let (kind, address) = if tls { ("idle-tls", secure) } else { ("idle", peer.http) };
        // What the first connections make a program set up is not theirs.
        drop(peers::hold(kind, address, 200, 60.0)?);
        std::thread::sleep(Duration::from_millis(500));
        let before = peer.memory();
        let held = peers::hold(kind, address, CONNECTIONS, 60.0)?;
        std::thread::sleep(Duration::from_secs(1));
        let each = peer.memory().saturating_sub(before) as f64 / CONNECTIONS as f64;
        drop(held);
        series.push(Series { peer: peer.name.clone(), figures: vec![each], errors: 0 });
    }
    let name = format!("{CONNECTIONS} idle connections{}", if tls { " over TLS" } else { "" });
    Ok(CaseResult { name, unit: Unit::BytesPerConnection, bar: if tls { "3.0" } else { "2.0" }, series })
}

/// 10,000 services with 50,000 real servers: start, one change, memory.
fn scale(folder: &std::path::Path) -> anyhow::Result<Vec<CaseResult>> {
    let program = std::env::current_exe()?.with_file_name("evenkeel");
    let config: PathBuf = folder.join("scale.toml");
    let socket = folder.join("scale.sock");
    let text = |weight: u32| {
        let mut text = format!(
            "[admin]\nsocket = \"{}\"\n[state]\ndirectory = \"{}/scale\"\n[limits]\nworkers = 1\n",
            socket.display(),
            folder.display()
        );
        for service in 0..10_000u32 {
            let [_, _, c, d] = service.to_be_bytes();
            text.push_str(&format!("[[virtual-service]]\nname = \"s{service}\"\nvip = [\"127.20.{c}.{d}:18200\"]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\n"));
            for server in 1..=5 {
                let weight = if service == 5_000 && server == 1 { weight } else { 100 };
                text.push_str(&format!("[[virtual-service.real-server]]\nname = \"r{server}\"\naddress = \"127.21.{c}.{d}:{}\"\nweight = {weight}\n", 18300 + server));
            }
        }
        text
    };
    std::fs::write(&config, text(100))?;
    let started = Instant::now();
    let child = std::process::Command::new(&program)
        .args(["run", "--drain-timeout", "0s", "--config"])
        .arg(&config)
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let process = Process(child);
    while std::net::TcpStream::connect("127.20.39.15:18200").is_err() || !socket.exists() {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(60), "10,000 services did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let start = started.elapsed().as_secs_f64() * 1e3;
    let memory = memory_of(process.0.id()) as f64 / 1e6;
    let mut changes = Vec::new();
    for _ in 0..5 {
        let changing = Instant::now();
        let status = std::process::Command::new(&program)
            .args(["weight", "s5000/r1", "50", "--socket"])
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .status()?;
        anyhow::ensure!(status.success(), "the weight could not be changed");
        changes.push(changing.elapsed().as_secs_f64() * 1e3);
    }
    let next = folder.join("scale-next.toml");
    std::fs::write(&next, text(70))?;
    let committing = Instant::now();
    let status = std::process::Command::new(&program)
        .args(["commit", "--socket"])
        .arg(&socket)
        .arg(&next)
        .stdout(std::process::Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "the commit failed");
    let commit = committing.elapsed().as_secs_f64() * 1e3;
    let one = |name: &str, unit, bar, figures| CaseResult {
        name: format!("scale: 10,000 services, 50,000 real servers: {name}"),
        unit,
        bar,
        series: vec![Series { peer: "evenkeel".into(), figures, errors: 0 }],
    };
    Ok(vec![
        one("start", Unit::Milliseconds, "below 5000", vec![start]),
        one("one weight changed", Unit::Milliseconds, "below 50", changes),
        one("whole file committed again with one change", Unit::Milliseconds, "", vec![commit]),
        one("memory", Unit::Megabytes, "below 1000", vec![memory]),
    ])
}
