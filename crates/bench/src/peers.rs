//! The programs that are measured, each pinned to core 0 with one worker, and the processes
//! around them.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub const ORIGIN: &str = "127.0.0.1:19001";

/// A process that ends with its handle.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..100 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Peer {
    pub name: &'static str,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    process: Process,
}

impl Peer {
    /// CPU time of the program's processes so far, as the scheduler counted it.
    pub fn cpu(&self) -> Duration {
        let nanos: u64 = self.processes().iter().map(|id| cpu_of(*id)).sum();
        Duration::from_nanos(nanos)
    }

    /// Resident memory of its processes.
    pub fn memory(&self) -> u64 {
        self.processes().iter().map(|id| memory_of(*id)).sum()
    }

    fn processes(&self) -> Vec<u32> {
        let id = self.process.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|c| c.parse().ok());
        std::iter::once(id).chain(children).collect()
    }
}

pub fn cpu_of(process: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let spent = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    spent.sum()
}

pub fn memory_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn pinned(core: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

pub fn origin() -> anyhow::Result<Process> {
    let process = Process(pinned("1", std::env::current_exe()?).args(["origin", ORIGIN]).spawn()?);
    listening(ORIGIN.parse()?)?;
    Ok(process)
}

/// One round of load; requests, bytes, errors, p99 in microseconds.
pub fn load(
    kind: &str,
    address: SocketAddr,
    path: &str,
    connections: usize,
    seconds: f64,
    rate: f64,
) -> anyhow::Result<[u64; 4]> {
    let output = pinned("1", std::env::current_exe()?)
        .args([
            "load",
            kind,
            &address.to_string(),
            path,
            &connections.to_string(),
            &seconds.to_string(),
            &rate.to_string(),
        ])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or("");
    let numbers: Vec<u64> = last.split(' ').filter_map(|n| n.parse().ok()).collect();
    numbers.try_into().map_err(|_| anyhow::anyhow!("the load generator said {text:?}"))
}

/// Starts connections that are held idle until the handle is dropped.
pub fn hold(address: SocketAddr, connections: usize, seconds: f64) -> anyhow::Result<Process> {
    use std::io::BufRead;
    let mut child = pinned("1", std::env::current_exe()?)
        .args(["load", "idle", &address.to_string(), "/s", &connections.to_string(), &seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("no output")?;
    let process = Process(child);
    let mut line = String::new();
    std::io::BufReader::new(output).read_line(&mut line)?;
    if line.trim() != "holding" {
        bail!("the idle connections could not be opened: {line:?}");
    }
    Ok(process)
}

fn listening(address: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if started.elapsed() > Duration::from_secs(10) {
            bail!("nothing listens on {address}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub struct Setup {
    pub folder: PathBuf,
    pub logging: bool,
}

impl Setup {
    fn write(&self, name: &str, text: String) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    pub fn evenkeel(&self) -> anyhow::Result<Peer> {
        let folder = self.folder.display();
        let access = if self.logging { format!("{folder}/evenkeel.log") } else { "off".into() };
        let text = format!(
            "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n[log]\naccess = \"{access}\"\n[limits]\nworkers = 1\n\
             [[virtual-service]]\nname = \"web\"\nvip = [\"127.0.0.1:18080\"]\nmode = \"http\"\n[[virtual-service.real-server]]\nname = \"o\"\naddress = \"{ORIGIN}\"\n\
             [[virtual-service]]\nname = \"raw\"\nvip = [\"127.0.0.1:18081\"]\nmode = \"tcp\"\n[[virtual-service.real-server]]\nname = \"o\"\naddress = \"{ORIGIN}\"\n"
        );
        let config = self.write("evenkeel.toml", text)?;
        let program = std::env::current_exe()?.with_file_name("evenkeel");
        let process =
            pinned("0", program).args(["run", "--drain-timeout", "0s", "--config"]).arg(config).spawn()?;
        peer("evenkeel", 18080, process)
    }

    pub fn haproxy(&self) -> anyhow::Result<Peer> {
        let (log, option) = match self.logging {
            true => ("log stdout format raw local0", "log global\n option httplog"),
            false => ("", ""),
        };
        let text = format!(
            "global\n {log}\n nbthread 1\n maxconn 7500\n\
             defaults\n {option}\n timeout connect 4s\n timeout client 300s\n timeout server 300s\n\
             listen web\n mode http\n bind 127.0.0.1:18090\n server o {ORIGIN}\n\
             listen raw\n mode tcp\n option splice-auto\n bind 127.0.0.1:18091\n server o {ORIGIN}\n"
        );
        let config = self.write("haproxy.cfg", text)?;
        let log = std::fs::File::create(self.folder.join("haproxy.log"))?;
        let process = pinned("0", "haproxy").arg("-db").arg("-f").arg(config).stdout(log).spawn()?;
        peer("haproxy", 18090, process)
    }

    pub fn nginx(&self) -> anyhow::Result<Peer> {
        let folder = self.folder.display();
        let log =
            if self.logging { format!("access_log {folder}/nginx.log;") } else { "access_log off;".into() };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {folder}/tmp_{kind};\n"))
            .collect();
        let text = format!(
            "daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;\nevents {{ worker_connections 12000; }}\n\
             http {{ {log} {temporary} keepalive_requests 1000000000; keepalive_timeout 300s;\n\
             upstream o {{ server {ORIGIN}; keepalive 1024; keepalive_requests 1000000000; }}\n\
             server {{ listen 127.0.0.1:18100 backlog=4096; location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n\
             stream {{ server {{ listen 127.0.0.1:18101 backlog=4096; proxy_pass {ORIGIN}; }} }}\n"
        );
        let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
        let text = match module.exists() {
            true => format!("load_module {};\n{text}", module.display()),
            false => text.split("stream {").next().unwrap_or("").to_owned(),
        };
        let config = self.write("nginx.conf", text)?;
        let process = pinned("0", "nginx").arg("-p").arg(&self.folder).arg("-c").arg(config).spawn()?;
        peer("nginx", 18100, process)
    }
}

fn peer(name: &'static str, port: u16, child: Child) -> anyhow::Result<Peer> {
    let process = Process(child);
    let http = SocketAddr::from(([127, 0, 0, 1], port));
    let tcp = SocketAddr::from(([127, 0, 0, 1], port + 1));
    listening(http).with_context(|| format!("{name} did not start"))?;
    Ok(Peer { name, http, tcp, process })
}

impl Peer {
    pub fn has_tcp(&self) -> bool {
        TcpStream::connect(self.tcp).is_ok()
    }
}
