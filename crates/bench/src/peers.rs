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
    pub name: String,
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

pub fn pinned(core: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

pub fn origin() -> anyhow::Result<Process> {
    // At every address of loopback, so that there can be many real servers.
    let process = Process(pinned("1", std::env::current_exe()?).args(["origin", "0.0.0.0:19001"]).spawn()?);
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

/// A round of `h2load`; requests that succeeded, bytes, requests that failed.
pub fn h2load(arguments: &[&str], address: SocketAddr, path: &str) -> anyhow::Result<[u64; 3]> {
    let url = format!("https://{address}{path}");
    let output = pinned("1", "h2load").args(arguments).arg(url).output().context("h2load cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let before = |word: &str| {
        let line = text.lines().find(|l| l.starts_with("requests:")).unwrap_or("");
        let part = line.split(',').find(|p| p.trim_end().ends_with(word)).unwrap_or("");
        part.split_whitespace().find_map(|w| w.parse::<u64>().ok()).unwrap_or(0)
    };
    if before("succeeded") == 0 {
        bail!("h2load said {text:?}");
    }
    Ok([before("succeeded"), 0, before("failed")])
}

/// A round of handshakes, one after the other, each with a request.
pub fn handshakes(
    arguments: &[&str],
    address: SocketAddr,
    path: &str,
    seconds: f64,
) -> anyhow::Result<[u64; 3]> {
    let seconds = (seconds.ceil() as u64).max(1).to_string();
    let output = pinned("1", "openssl")
        .args(["s_time", "-connect", &address.to_string(), "-www", path, "-time", &seconds])
        .args(arguments)
        .output()
        .context("openssl cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // `1234 connections in 2 real seconds, 0 bytes read per connection`
    let line = text.lines().find(|l| l.contains("real seconds")).unwrap_or("");
    let count = line.split_whitespace().next().and_then(|w| w.parse::<u64>().ok());
    count.map(|count| [count, 0, 0]).with_context(|| format!("openssl said {text:?}"))
}

/// Starts connections that are held idle until the handle is dropped.
pub fn hold(kind: &str, address: SocketAddr, connections: usize, seconds: f64) -> anyhow::Result<Process> {
    use std::io::BufRead;
    let mut child = pinned("1", std::env::current_exe()?)
        .args(["load", kind, &address.to_string(), "/s", &connections.to_string(), &seconds.to_string()])
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

/// Gives the running Evenkeel another configuration.
pub fn commit(folder: &Path, text: &str) -> anyhow::Result<()> {
    let next = folder.join("next.toml");
    std::fs::write(&next, text)?;
    let program = std::env::current_exe()?.with_file_name("evenkeel");
    let mut command = pinned("1", program);
    command.arg("commit").arg("--socket").arg(folder.join("admin.sock")).arg(&next).stdout(Stdio::null());
    anyhow::ensure!(command.status()?.success(), "the commit failed");
    Ok(())
}

pub fn listening(address: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if started.elapsed() > Duration::from_secs(10) {
            bail!("nothing listens on {address}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

const EVENKEEL_PORT: u16 = 18_060;
/// The first port of programs that are named on the command line.
const BESIDE_PORT: u16 = 18_400;
/// How many each of them has.
const PORTS: u16 = 20;

/// Another program to measure: `evenkeel-before=/path` or `haproxy-3.4=/path`.
#[derive(Clone, Debug)]
pub struct Beside {
    pub name: String,
    pub program: PathBuf,
    kind: PeerProgram,
}

#[derive(Clone, Copy, Debug)]
enum PeerProgram {
    Evenkeel,
    Haproxy,
}

impl Beside {
    pub fn version_flag(&self) -> &'static str {
        match self.kind {
            PeerProgram::Evenkeel => "--version",
            PeerProgram::Haproxy => "-v",
        }
    }
}

impl std::str::FromStr for Beside {
    type Err = String;

    fn from_str(text: &str) -> Result<Beside, String> {
        let (name, program) = text.split_once('=').ok_or("NAME=PROGRAM is expected")?;
        let kind = match name {
            _ if name.starts_with("evenkeel-") => PeerProgram::Evenkeel,
            _ if name.starts_with("haproxy-") => PeerProgram::Haproxy,
            _ => return Err("the name begins with evenkeel- or haproxy-".into()),
        };
        Ok(Beside { name: name.into(), program: program.into(), kind })
    }
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

    /// Certificates that all programs use: elliptic curves and RSA.
    fn certificates(&self) -> anyhow::Result<[PathBuf; 2]> {
        let make = |name: &str, key: &[&str]| -> anyhow::Result<PathBuf> {
            let (pem, key_file) =
                (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")));
            if pem.exists() {
                return Ok(pem);
            }
            let mut command = Command::new("openssl");
            command
                .args(["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=localhost", "-newkey"])
                .args(key);
            command.arg("-keyout").arg(&key_file).arg("-out").arg(&pem).stderr(Stdio::null());
            anyhow::ensure!(command.status()?.success(), "openssl made no certificate");
            let whole = std::fs::read_to_string(&pem)? + &std::fs::read_to_string(&key_file)?;
            std::fs::write(&pem, whole)?;
            // HAProxy would take it for the key of the .pem.
            std::fs::remove_file(&key_file)?;
            Ok(pem)
        };
        Ok([make("ecdsa", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])?, make("rsa", &["rsa:2048"])?])
    }

    /// Services of ours with routes: one, a hundred, a large map.
    fn routes(&self, base: u16) -> anyhow::Result<String> {
        let map: String = (0..100_000).map(|n| format!("h{n}.example.org web-pool\n")).collect();
        let map = self.write("hosts.map", map + "127.0.0.1 web-pool\n")?;
        let mut text = format!(
            "[[table]]\nname = \"clients\"\nperiod = \"10s\"\n[[pool]]\nname = \"web-pool\"\n[[pool.real-server]]\nname = \"o\"\naddress = \"{ORIGIN}\"\n"
        );
        let last = "[[virtual-service.route]]\nwhen = 'path(\"/s\")'\npool = \"web-pool\"\n";
        let hundred: String = (0..99)
            .map(|n| format!("[[virtual-service.route]]\nwhen = 'path(\"/app{n}/*\") && method(\"GET\")'\npool = \"web-pool\"\n"))
            .collect();
        let mapped = format!("[[virtual-service.route]]\npool-map = {{ file = \"{}\" }}\n", map.display());
        let thousand = |when: &dyn Fn(usize) -> String, last: &str| -> String {
            let each = |n| format!("[[virtual-service.route]]\nwhen = '{}'\npool = \"web-pool\"\n", when(n));
            (0..999).map(each).collect::<String>()
                + &format!("[[virtual-service.route]]\nwhen = '{last}'\npool = \"web-pool\"\n")
        };
        let hosts = thousand(&|n| format!("host(\"h{n}.example.org\")"), "host(\"bench\")");
        let paths = thousand(&|n| format!("path(\"/app{n}/*\")"), "path(\"/s*\")");
        let expressions = thousand(&|n| format!("path =~ \"^/app{n}/[a-z]+$\""), "path =~ \"^/[a-z]$\"");
        let counted = "[[virtual-service.route]]\ntrack = \"clients\"\n[[virtual-service.route]]\nwhen = 'rate(\"clients\", \"requests\") > 1000000000 || rate(\"clients\", \"errors\") > 1000000000'\ndeny = { status = 429 }\n".to_owned();
        for (name, port, routes) in [
            ("one", 4, last.to_owned()),
            ("hundred", 5, hundred + last),
            ("map", 6, mapped),
            ("hosts", 7, hosts),
            ("paths", 8, paths),
            ("expressions", 9, expressions),
            ("counted", 10, counted + last),
        ] {
            let port = base + port;
            text += &format!(
                "[[virtual-service]]\nname = \"{name}\"\nvip = [\"127.0.0.1:{port}\"]\nmode = \"http\"\npool = \"web-pool\"\n{routes}"
            );
        }
        Ok(text)
    }

    pub fn evenkeel(&self) -> anyhow::Result<Peer> {
        self.evenkeel_of("evenkeel", &std::env::current_exe()?.with_file_name("evenkeel"), EVENKEEL_PORT)
    }

    /// One that the caller names: the kind of program is the beginning of the name.
    pub fn beside(&self, beside: &Beside, number: u16) -> anyhow::Result<Peer> {
        let base = BESIDE_PORT + PORTS * number;
        let folder = self.folder.join(&beside.name);
        std::fs::create_dir_all(&folder)?;
        let setup = Setup { folder, logging: self.logging };
        match beside.kind {
            PeerProgram::Evenkeel => setup.evenkeel_of(&beside.name, &beside.program, base),
            PeerProgram::Haproxy => setup.haproxy_of(&beside.name, &beside.program, base),
        }
    }

    fn evenkeel_of(&self, name: &str, program: &Path, base: u16) -> anyhow::Result<Peer> {
        let folder = self.folder.display();
        let certificates = self.certificates()?;
        let tls: String = [("tls", base + 2, &certificates[0]), ("rsa", base + 3, &certificates[1])]
            .iter()
            .map(|(name, port, file)| {
                format!("[[virtual-service]]\nname = \"{name}\"\nvip = [\"127.0.0.1:{port}\"]\nmode = \"http\"\ntls = {{ certificates = [\"{}\"] }}\npool = \"web-pool\"\n", file.display())
            })
            .collect();
        let routes = self.routes(base)?;
        let access = if self.logging { format!("{folder}/evenkeel.log") } else { "off".into() };
        let text = format!(
            "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n[log]\naccess = \"{access}\"\n[limits]\nworkers = 1\n\
             [[virtual-service]]\nname = \"web\"\nvip = [\"127.0.0.1:{base}\"]\nmode = \"http\"\n[[virtual-service.real-server]]\nname = \"o\"\naddress = \"{ORIGIN}\"\n\
             [[virtual-service]]\nname = \"raw\"\nvip = [\"127.0.0.1:{}\"]\nmode = \"tcp\"\n[[virtual-service.real-server]]\nname = \"o\"\naddress = \"{ORIGIN}\"\n{tls}{routes}",
            base + 1
        );
        let config = self.write("evenkeel.toml", text)?;
        let process =
            pinned("0", program).args(["run", "--drain-timeout", "0s", "--config"]).arg(config).spawn()?;
        peer(name, base, process)
    }

    /// Ours with services of the caller's, the last of which is at this address.
    pub fn evenkeel_with(&self, name: &str, services: &str, last: SocketAddr) -> anyhow::Result<Peer> {
        let folder = self.folder.display();
        let text = format!(
            "[admin]\nsocket = \"{folder}/{name}.sock\"\n[state]\ndirectory = \"{folder}/{name}\"\n[log]\naccess = \"off\"\n[limits]\nworkers = 1\n{services}"
        );
        let config = self.write(&format!("{name}.toml"), text)?;
        let program = std::env::current_exe()?.with_file_name("evenkeel");
        let process =
            pinned("0", program).args(["run", "--drain-timeout", "0s", "--config"]).arg(config).spawn()?;
        let process = Process(process);
        listening(last).context("evenkeel did not start")?;
        Ok(Peer { name: "evenkeel".into(), http: last, tcp: last, process })
    }

    pub fn haproxy(&self) -> anyhow::Result<Peer> {
        self.haproxy_of("haproxy", Path::new("haproxy"), 18090)
    }

    fn haproxy_of(&self, name: &str, program: &Path, base: u16) -> anyhow::Result<Peer> {
        let certificates = self.certificates()?;
        let (log, option) = match self.logging {
            true => ("log stdout format raw local0", "log global\n option httplog"),
            false => ("", ""),
        };
        let text = format!(
            "global\n {log}\n nbthread 1\n maxconn 7500\n\
             defaults\n {option}\n timeout connect 4s\n timeout client 300s\n timeout server 300s\n\
             listen web\n mode http\n bind 127.0.0.1:{2}\n server o {ORIGIN}\n\
             listen tls\n mode http\n bind 127.0.0.1:{3} ssl crt {0} alpn h2,http/1.1\n server o {ORIGIN}\n\
             listen rsa\n mode http\n bind 127.0.0.1:{4} ssl crt {1} alpn h2,http/1.1\n server o {ORIGIN}\n\
             listen raw\n mode tcp\n option splice-auto\n bind 127.0.0.1:{5}\n server o {ORIGIN}\n",
            certificates[0].display(),
            certificates[1].display(),
            base,
            base + 2,
            base + 3,
            base + 1
        );
        let config = self.write("haproxy.cfg", text)?;
        let log = std::fs::File::create(self.folder.join("haproxy.log"))?;
        let process = pinned("0", program).arg("-db").arg("-f").arg(config).stdout(log).spawn()?;
        peer(name, base, process)
    }

    pub fn nginx(&self) -> anyhow::Result<Peer> {
        let folder = self.folder.display();
        let certificates = self.certificates()?;
        let proxied =
            "location / { proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection \"\"; }";
        let tls: String = [(18102, &certificates[0]), (18103, &certificates[1])]
            .iter()
            .map(|(port, file)| {
                let file = file.display();
                format!("server {{ listen 127.0.0.1:{port} ssl http2 backlog=4096; http2_max_requests 1000000000; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on; ssl_certificate {file}; ssl_certificate_key {file}; {proxied} }}\n")
            })
            .collect();
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
             server {{ listen 127.0.0.1:18100 backlog=4096; location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} {tls} }}\n\
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

fn peer(name: &str, port: u16, child: Child) -> anyhow::Result<Peer> {
    let process = Process(child);
    let http = SocketAddr::from(([127, 0, 0, 1], port));
    let tcp = SocketAddr::from(([127, 0, 0, 1], port + 1));
    listening(http).with_context(|| format!("{name} did not start"))?;
    Ok(Peer { name: name.to_owned(), http, tcp, process })
}

impl Peer {
    pub fn has_tcp(&self) -> bool {
        TcpStream::connect(self.tcp).is_ok()
    }
}
