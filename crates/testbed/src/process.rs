//! Processes that end with their handle, and the program under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{Place, eventually};

pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        Process(command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }

    pub fn wait(&mut self) -> Option<i32> {
        self.0.wait().ok().and_then(|status| status.code())
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Process {
        Process(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Servers with children of their own end them when asked.
        self.signal(rustix::process::Signal::TERM);
        for _ in 0..50 {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.into_iter().any(|folder: PathBuf| folder.join(name).exists())
}

/// What a command-line verb printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end, bounded in time by `timeout`.
pub fn command(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    let output = command.arg("30").arg(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    Output {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running daemon of the program under test.
pub struct Evenkeel {
    program: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    pub process: Process,
}

impl Evenkeel {
    /// Starts the daemon with a configuration; `[admin]` and `[state]` are added.
    pub fn start(program: &str, place: &Place, config: &str) -> Evenkeel {
        let socket = place.file("admin.sock");
        let path = place.write("evenkeel.toml", Self::complete(place, config));
        let log = place.file("daemon.log");
        let process = Self::launch(Path::new(program), &path, &log);
        let evenkeel = Evenkeel { program: program.into(), config: path, socket, log, process };
        eventually("the daemon answers", Duration::from_secs(10), || {
            assert!(evenkeel.process_is_there(), "the daemon ended:\n{}", evenkeel.log());
            evenkeel.cli(&["status"]).code == 0
        });
        evenkeel
    }

    fn process_is_there(&self) -> bool {
        Path::new(&format!("/proc/{}/fd", self.process.id())).exists()
    }

    /// The configuration as the daemon gets it.
    pub fn complete(place: &Place, config: &str) -> String {
        let folder = place.folder().display();
        let extra = if config.contains("[admin]") { "" } else { "[admin]\nsocket = \"SOCKET\"\n" };
        let extra = extra.replace("SOCKET", &format!("{folder}/admin.sock"));
        format!("{extra}[state]\ndirectory = \"{folder}/state\"\n{config}")
    }

    fn launch(program: &Path, config: &Path, log: &Path) -> Process {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        Process::start(Command::new(program).args(["run", "--config"]).arg(config).stderr(file))
    }

    /// After its end: the same configuration again.
    pub fn start_again(&mut self) {
        self.process = Self::launch(&self.program, &self.config, &self.log);
        eventually("the daemon answers again", Duration::from_secs(10), || {
            assert!(self.process_is_there(), "the daemon ended:\n{}", self.log());
            self.cli(&["status"]).code == 0
        });
    }

    /// Starts a second daemon on the same configuration, which takes over; returns the old one.
    pub fn hand_over(&mut self) -> Process {
        let before = self.log().matches("INFO running").count();
        let successor = Self::launch(&self.program, &self.config, &self.log);
        let old = std::mem::replace(&mut self.process, successor);
        eventually("the successor runs", Duration::from_secs(15), || {
            self.log().matches("INFO running").count() > before
        });
        old
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn config_path(&self) -> &Path {
        &self.config
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs a verb of the command line.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let output = Command::new(&self.program)
            .env("EVENKEEL_SOCKET", &self.socket)
            .args(arguments)
            .output()
            .expect("the program runs");
        Output {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a verb that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert_eq!(output.code, 0, "{arguments:?}: {output:?}\n{}", self.log());
        output.out
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_str(&self.ok(&all)).expect("JSON")
    }

    /// Commits a new configuration, completed as at the start.
    pub fn commit(&self, place: &Place, config: &str) -> String {
        let path = place.write("next.toml", Self::complete(place, config));
        self.ok(&["commit", &path.display().to_string()])
    }

    pub fn service(&self, name: &str) -> Value {
        let status = self.json(&["status"]);
        let services = status["virtual-services"].as_array().cloned().unwrap_or_default();
        services.into_iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("no service {name}"))
    }

    pub fn server(&self, service: &str, name: &str) -> Value {
        let service = self.service(service);
        let servers = service["real-servers"].as_array().cloned().unwrap_or_default();
        servers.into_iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("no server {name}"))
    }

    /// Waits until health checks see a server so.
    pub fn await_server(&self, service: &str, name: &str, state: &str) {
        eventually(&format!("{service}/{name} is {state}"), Duration::from_secs(15), || {
            let server = self.server(service, name);
            server["state"] == state && server["check"]["verdict"] != "none"
        });
    }
}
