//! Two load balancers that share addresses, with clients and real servers on hosts of their own.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::{Hosts, Output, Place, Process, command, eventually};

/// `lb1` and `lb2` on the segments `front` (10.77.0.0/24, fd77::/64), `back` (10.78.0.0/24) and
/// `heart` (10.79.0.0/24); a client `c`, a further host `d`, servers `s1`, `s2` in front, `b1`, `b2`
/// behind, whose way out is 10.78.0.254.
pub struct PairLab {
    pub hosts: Hosts,
    pub place: Place,
    pub program: String,
    pub nodes: [Option<Process>; 2],
    _servers: Vec<Process>,
}

pub const NODES: [&str; 2] = ["lb1", "lb2"];

impl PairLab {
    pub fn new(test: &str, program: &str) -> Option<PairLab> {
        let mut hosts = Hosts::new()?;
        let place = Place::new(test);
        for (node, front, back, link) in [
            ("lb1", ["10.77.0.1/24", "fd77::1/64"], "10.78.0.1/24", "10.79.0.1/24"),
            ("lb2", ["10.77.0.2/24", "fd77::2/64"], "10.78.0.2/24", "10.79.0.2/24"),
        ] {
            hosts.add(node, &[("front", &front), ("back", &[back]), ("heart", &[link])]);
        }
        hosts.add("c", &[("front", &["10.77.0.9/24", "fd77::9/64"])]);
        hosts.add("d", &[("front", &["10.77.0.8/24", "fd77::8/64"])]);
        hosts.add("s1", &[("front", &["10.77.0.11/24", "fd77::11/64"])]);
        hosts.add("s2", &[("front", &["10.77.0.12/24", "fd77::12/64"])]);
        hosts.add("b1", &[("back", &["10.78.0.11/24"])]);
        hosts.add("b2", &[("back", &["10.78.0.12/24"])]);
        for back in ["b1", "b2"] {
            hosts.ip(back, &["route", "add", "default", "via", "10.78.0.254"]);
        }
        let servers = ["s1", "s2", "b1", "b2"].map(|s| hosts.nginx(&place, s, &[80, 8080])).into();
        Some(PairLab { hosts, place, program: program.into(), nodes: [None, None], _servers: servers })
    }

    pub fn folder(&self, node: usize) -> PathBuf {
        self.place.folder().join(NODES[node])
    }

    pub fn config_file(&self, node: usize) -> PathBuf {
        self.folder(node).join("evenkeel.toml")
    }

    /// The file of a node: its own part (with more keys of `[pair]`), and what both have.
    pub fn config(&self, node: usize, pair: &str, shared: &str) -> String {
        let folder = self.folder(node).display().to_string();
        let (other, priority) = (2 - node, 150 - node * 50);
        format!(
            "[admin]\nsocket = \"{folder}/admin.sock\"\n[state]\ndirectory = \"{folder}/state\"\n[pair]\nname = \"lb{}\"\npeer = \"10.79.0.{other}:9694\"\npriority = {priority}\n{pair}\n[[pair.vrrp]]\ninterface = \"e0\"\nrouter-id = 51\n{shared}",
            node + 1
        )
    }

    pub fn write(&self, node: usize, config: &str) {
        std::fs::create_dir_all(self.folder(node)).unwrap();
        std::fs::write(self.config_file(node), config).unwrap();
    }

    pub fn start(&mut self, node: usize) {
        let file = self.config_file(node).display().to_string();
        let log = self.folder(node).join("daemon.log");
        let number = std::fs::read(&log).map_or(0, |text| text.len());
        if number > 0 {
            let _ = std::fs::rename(&log, self.folder(node).join(format!("daemon.log.{number}")));
        }
        self.nodes[node] =
            Some(self.hosts.start(NODES[node], &self.program, &["run", "--config", &file], &log));
        eventually(&format!("{} answers", NODES[node]), Duration::from_secs(20), || {
            self.cli(node, &["status"]).code == 0
        });
    }

    /// Both nodes, joined by a code, the first one active.
    pub fn start_pair(&mut self, pair: &str, shared: &str) {
        for node in 0..2 {
            self.write(node, &self.config(node, pair, shared));
            self.start(node);
        }
        self.join();
    }

    pub fn join(&mut self) {
        let invited = self.cli(0, &["pair", "invite", "--json"]);
        let invitation: Value = serde_json::from_str(&invited.out).unwrap_or_default();
        let code = invitation["code"].as_str().unwrap_or_else(|| panic!("{}", invited.err)).to_owned();
        self.await_role(0, "active");
        let joined = self.cli(1, &["pair", "join", &code]);
        assert_eq!(joined.code, 0, "{}{}", joined.out, joined.err);
        eventually("both nodes know each other", Duration::from_secs(15), || {
            (0..2).all(|node| {
                let pair = self.json(node, &["pair", "status"]);
                pair["peer"]["heard"] == true && pair["link"]["connected"] == true
            })
        });
        self.await_role(1, "passive");
    }

    pub fn cli(&self, node: usize, arguments: &[&str]) -> Output {
        let socket = self.folder(node).join("admin.sock").display().to_string();
        command(&self.program, &[arguments, &["--socket", &socket]].concat())
    }

    pub fn json(&self, node: usize, arguments: &[&str]) -> Value {
        let output = self.cli(node, &[arguments, &["--json"]].concat());
        serde_json::from_str(&output.out).unwrap_or(Value::Null)
    }

    pub fn role(&self, node: usize) -> String {
        self.json(node, &["pair", "status"])["role"].as_str().unwrap_or("silent").to_owned()
    }

    pub fn await_role(&self, node: usize, role: &str) {
        let mut last = String::new();
        for _ in 0..400 {
            last = self.role(node);
            if last == role {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let log = std::fs::read_to_string(self.folder(node).join("daemon.log")).unwrap_or_default();
        panic!("lb{} is {last}, not {role}\n{log}", node + 1);
    }

    /// Whether an address is on a node now, as the kernel has it.
    pub fn has(&self, node: usize, address: &str) -> bool {
        let shown = command("ip", &["-n", &self.hosts.name(NODES[node]), "-br", "addr"]);
        shown.out.split_whitespace().any(|word| word.split('/').next() == Some(address))
    }

    pub fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.folder(node).join("daemon.log")).unwrap_or_default()
    }

    /// Traffic from a host: see [`Traffic`].
    pub fn traffic(&self, host: &str, script: &str, arguments: &[&str]) -> Traffic {
        let number =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let file = self.place.write(&format!("traffic-{number}.js"), script).display().to_string();
        let out = self.place.file(&format!("traffic-{number}.json"));
        let log = self.place.file(&format!("traffic-{number}.log"));
        let target = out.display().to_string();
        let arguments = [&[file.as_str(), &target][..], arguments].concat();
        Traffic { process: self.hosts.start(host, "node", &arguments, &log), out, log }
    }
}

/// A client that runs until it is told to end, and then says what it saw.
pub struct Traffic {
    process: Process,
    out: PathBuf,
    log: PathBuf,
}

impl Traffic {
    /// It runs before all others: what it waits for is then not its own turn on a busy machine.
    pub fn run_first(&self) {
        let set = command("chrt", &["-f", "-a", "-p", "20", &self.process.id().to_string()]);
        assert_eq!(set.code, 0, "{}", set.err);
    }

    pub fn end(mut self) -> Value {
        self.process.signal(rustix::process::Signal::TERM);
        let _ = self.process.wait();
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_else(|e| {
            panic!("{e}: {text} {}", std::fs::read_to_string(&self.log).unwrap_or_default())
        })
    }
}

/// A new connection every few milliseconds, each with one request: `HOST PORT EVERY_MS`. Says how
/// many were answered and failed, the longest time between two answers, and all longer than 10 ms with
/// their beginning (milliseconds since 1970).
pub const NEW_CONNECTIONS: &str = r#"
const net = require('net'), fs = require('fs');
const [out, host, port, every] = process.argv.slice(2);
let sent = 0, answered = 0, failed = 0, last = 0, gap = 0, slowest = 0;
const fails = {}, gaps = [], origin = Date.now() - Number(process.hrtime.bigint()) / 1e6;
function one() {
  sent++;
  const began = process.hrtime.bigint();
  let done = false, text = '';
  const s = net.connect({ host, port: +port });
  const end = why => {
    if (done) return;
    done = true; clearTimeout(t); s.destroy();
    const now = Number(process.hrtime.bigint()) / 1e6;
    if (!why) {
      answered++;
      if (last) gap = Math.max(gap, now - last);
      if (last && now - last > 10) gaps.push([Math.round(origin + last), Math.round(now - last)]);
      last = now;
      slowest = Math.max(slowest, now - Number(began) / 1e6);
    } else { failed++; fails[why] = (fails[why] || 0) + 1; }
  };
  const t = setTimeout(() => end('time-out'), 2500);
  s.on('connect', () => s.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'));
  s.on('data', d => { text += d; if (text.startsWith('HTTP/1.1 200') && text.includes('\r\n\r\n')) end(); });
  s.on('error', e => end(e.code));
  s.on('close', () => end('closed'));
}
const timer = setInterval(one, +every);
process.on('SIGTERM', () => {
  clearInterval(timer);
  const now = Number(process.hrtime.bigint()) / 1e6;
  if (last && now - last > 10) gaps.push([Math.round(origin + last), Math.round(now - last)]);
  setTimeout(() => {
    fs.writeFileSync(out, JSON.stringify({ sent, answered, failed, fails, gaps, gap_ms: Math.round(gap), slowest_ms: Math.round(slowest) }));
    process.exit(0);
  }, 300);
});
"#;

/// Connections that are kept: `HOST,… PORT COUNT EVERY_MS`, to the hosts in turn. Says how many were
/// opened, are still good, ended (to which hosts, and after what time without an answer), and the
/// longest wait for an answer.
pub const KEPT_CONNECTIONS: &str = r#"
const net = require('net'), fs = require('fs');
const [out, host, port, count, every] = process.argv.slice(2);
let opened = 0, ended = 0, requests = 0, stall = 0, endedAfter = 0;
const waits = new Map(), lost = {}, hosts = host.split(',');
const ms = () => Number(process.hrtime.bigint()) / 1e6;
function keep(host) {
  const s = net.connect({ host, port: +port });
  s.host = host;
  let last = ms(), open = false, text = '';
  s.on('connect', () => { open = true; opened++; ask(); });
  const ask = () => { if (!s.destroyed) { waits.set(s, ms()); s.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'); } };
  s.on('data', d => {
    text += d;
    const head = text.indexOf('\r\n\r\n');
    if (head < 0) return;
    const length = /content-length: (\d+)/i.exec(text);
    if (text.length < head + 4 + (length ? +length[1] : 0)) return;
    text = ''; requests++;
    stall = Math.max(stall, ms() - waits.get(s)); waits.delete(s);
    last = ms();
    setTimeout(ask, +every);
  });
  s.on('error', () => {});
  s.on('close', () => { if (open) { ended++; lost[host] = (lost[host] || 0) + 1; endedAfter = Math.max(endedAfter, ms() - last); } waits.delete(s); });
}
for (let i = 0; i < +count; i++) setTimeout(keep, i * 5, hosts[i % hosts.length]);
setInterval(() => {}, 1000);
process.on('SIGTERM', () => {
  const now = ms();
  let hung = 0;
  for (const [s, since] of waits) if (now - since > 1500) { hung++; lost[s.host] = (lost[s.host] || 0) + 1; }
  fs.writeFileSync(out, JSON.stringify({ opened, ended, hung, lost, requests, stall_ms: Math.round(stall), ended_after_ms: Math.round(endedAfter) }));
  process.exit(0);
});
"#;
