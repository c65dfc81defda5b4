//! The process as HAProxy's users handle it: background, master and worker, pids, reloads.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use evenkeel_import::{SocketAccess, StatsSocket};

use super::arguments::Arguments;
use super::master::{self, Master, Workers};
use super::sockets::{Door, Sockets};

/// Tells a child of this program what it is.
const PART: &str = "EVENKEEL_HAPROXY_PART";
/// The worker that a new one replaces.
const REPLACES: &str = "EVENKEEL_HAPROXY_REPLACES";
/// Where a child says that it is ready.
const READY: &str = "EVENKEEL_HAPROXY_READY";
/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Where the command line's relative paths begin, also for processes that are started later.
static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// `-C`: from here on paths begin in that folder.
pub fn change_folder(folder: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("Could not change to directory {}: {e}", folder.display());
    let _ = FOLDER.set(std::env::current_dir().map_err(failed)?);
    std::env::set_current_dir(folder).map_err(failed)
}

pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

pub fn random_word() -> String {
    let mut raw = [0u8; 16];
    // Without randomness nobody can name it either: the page then refuses everybody.
    let _ = aws_lc_rs::rand::fill(&mut raw);
    evenkeel_admin::hex(&raw)
}

fn part() -> Option<String> {
    std::env::var(PART).ok()
}

pub fn is_worker() -> bool {
    part().as_deref() == Some("worker")
}

pub fn is_background() -> bool {
    part().is_some_and(|p| p == "background")
}

/// What belongs to a process while it runs.
pub fn folder(pid: u32) -> PathBuf {
    base().join(pid.to_string())
}

fn base() -> PathBuf {
    match (getuid().is_root(), std::env::var_os("XDG_RUNTIME_DIR")) {
        (true, _) => PathBuf::from("/run/evenkeel-haproxy"),
        (false, Some(runtime)) => PathBuf::from(runtime).join("evenkeel-haproxy"),
        (false, None) => std::env::temp_dir().join(format!("evenkeel-haproxy-{}", getuid().as_raw())),
    }
}

/// A folder that nobody else may look into.
fn make_private(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let about = std::fs::symlink_metadata(folder).map_err(failed)?;
    if !about.is_dir() || about.uid() != getuid().as_raw() || about.mode() & 0o077 != 0 {
        return Err(format!("{} belongs to somebody else, or is open to others", folder.display()));
    }
    Ok(())
}

pub fn make_folder(folder: &Path) -> Result<(), String> {
    make_private(&base())?;
    let _ = std::fs::remove_dir_all(folder);
    make_private(folder)?;
    make_private(&folder.join("state"))
}

pub fn remove_folder(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}

/// Processes that finish and that end when this one serves: what the command line says, or the worker before.
pub fn others(arguments: &Arguments) -> (Vec<u32>, Vec<u32>) {
    match std::env::var(REPLACES).ok().and_then(|pid| pid.parse().ok()) {
        Some(pid) => (vec![pid], Vec::new()),
        None => (arguments.finish.clone(), arguments.terminate.clone()),
    }
}

/// The admin socket of the process to take the listening sockets from.
pub fn predecessor(arguments: &Arguments, pids: &[u32]) -> Option<PathBuf> {
    let asked = arguments.take_from.as_deref().and_then(|socket| match pid_behind(socket) {
        Some(pid) => Some(pid),
        None => {
            eprintln!("[WARNING]  ({}) : -x {socket}: nobody answers there", std::process::id());
            None
        }
    });
    let socket = |pid: &u32| folder(*pid).join("admin.sock");
    let all: Vec<u32> = asked.into_iter().chain(pids.iter().rev().copied()).collect();
    all.iter().map(socket).find(|s| {
        let mut name = s.as_os_str().to_owned();
        name.push(".handover");
        Path::new(&name).exists()
    })
}

/// The process that serves a stats socket.
fn pid_behind(socket: &str) -> Option<u32> {
    use std::io::Read;
    let mut stream = UnixStream::connect(socket.strip_prefix("unix@").unwrap_or(socket)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"show info\n").ok()?;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text.lines().find_map(|l| l.strip_prefix("Pid: "))?.trim().parse().ok()
}

/// Old processes finish or end, now that this one serves.
pub fn end_others(finish: &[u32], terminate: &[u32]) {
    send(finish, Signal::USR1);
    send(terminate, Signal::TERM);
}

fn send(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|p| Pid::from_raw(*p as i32)) {
        let _ = kill_process(pid, signal);
    }
}

/// Tells whoever started this process that it serves.
pub fn say_ready() {
    if let Some(socket) = std::env::var_os(READY)
        && let Ok(mut stream) = UnixStream::connect(socket)
    {
        let _ = stream.write_all(b"R");
    }
    if is_background() {
        detach();
    }
}

/// A worker does not outlive its master.
pub fn end_with_the_master() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
}

/// Whoever started this process may wait for the end of its output.
fn detach() {
    let _ = rustix::process::setsid();
    if let Ok(nothing) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&nothing);
        let _ = rustix::stdio::dup2_stdout(&nothing);
        let _ = rustix::stdio::dup2_stderr(&nothing);
    }
}

/// A child that is starting.
struct Starting {
    child: Child,
    ready: UnixListener,
    file: PathBuf,
}

/// This program again, as another part of it.
fn spawn(part: &str, replaces: Option<u32>) -> Result<Starting, String> {
    make_private(&base())?;
    let file = base().join(format!("ready-{}", random_word()));
    let ready = UnixListener::bind(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let _ = ready.set_nonblocking(true);
    let mut words = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(words.next().unwrap_or_else(|| "haproxy".into()));
    command.args(words).env(PART, part).env(READY, &file).stdin(Stdio::null());
    if let Some(folder) = FOLDER.get() {
        command.current_dir(folder);
    }
    match replaces {
        Some(pid) => command.env(REPLACES, pid.to_string()),
        None => command.env_remove(REPLACES),
    };
    let child = command.spawn().map_err(|e| format!("the process cannot be started: {e}"))?;
    Ok(Starting { child, ready, file })
}

impl Starting {
    /// Waits until it serves; otherwise how it ended.
    fn wait(mut self) -> Result<Child, ExitCode> {
        let end = std::time::Instant::now() + START_LIMIT;
        let outcome = loop {
            if self.ready.accept().is_ok() {
                break Ok(());
            }
            match self.child.try_wait() {
                Ok(Some(status)) => break Err(code_of(status)),
                Ok(None) if std::time::Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                _ => {
                    let _ = self.child.kill();
                    break Err(ExitCode::FAILURE);
                }
            }
        };
        let _ = std::fs::remove_file(&self.file);
        outcome.map(|()| self.child)
    }
}

fn code_of(status: ExitStatus) -> ExitCode {
    let signal = status.signal().map(|s| 128 + s);
    ExitCode::from(status.code().or(signal).unwrap_or(1).clamp(0, 255) as u8)
}

fn write_pid(file: Option<&Path>, pid: u32) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, format!("{pid}\n"))
        .map_err(|e| format!("Cannot create pidfile {}: {e}", file.display()))
}

/// `-D`: ends as soon as the process in the background serves.
pub fn go_to_background(arguments: &Arguments, pidfile: Option<&str>) -> Result<ExitCode, String> {
    let pidfile = arguments.pidfile.clone().or_else(|| pidfile.map(PathBuf::from));
    match spawn("background", None)?.wait() {
        Ok(child) => {
            write_pid(pidfile.as_deref(), child.id())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

/// `-W`: a process that starts workers, and a new one at SIGUSR2 or SIGHUP, which takes over.
pub fn run_master(
    arguments: &Arguments,
    runtime: &tokio::runtime::Runtime,
    background: bool,
    pidfile: Option<&str>,
) -> Result<ExitCode, String> {
    if background && !is_background() {
        return go_to_background(arguments, pidfile);
    }
    let pidfile = arguments.pidfile.clone().or_else(|| pidfile.map(PathBuf::from));
    let signals = Signals::new()?;
    let mut sockets = Sockets::default();
    let door =
        arguments.master_socket.as_deref().map(|place| master_door(&mut sockets, place)).transpose()?;
    let first = match spawn("worker", None)?.wait() {
        Ok(child) => child,
        Err(code) => return Ok(code),
    };
    sockets.to_publish().publish().map_err(|e| format!("the master's socket cannot get its name: {e}"))?;
    let (reload, wishes) = tokio::sync::mpsc::channel(8);
    let workers = Arc::new(Mutex::new(Workers::of(first.id())));
    let _inside = runtime.enter();
    if let Some(door) = door {
        master::serve(door, Master { workers: workers.clone(), reload: reload.clone() });
    }
    if !is_background() {
        write_pid(pidfile.as_deref(), std::process::id())?;
    }
    evenkeel_platform::notify_service_manager(&format!("READY=1\nMAINPID={}", std::process::id()));
    say_ready();
    // The channel stays open while somebody may wish.
    let code = runtime.block_on(attend(first, signals, &workers, wishes));
    drop((reload, sockets));
    code
}

/// `-S PLACE[,mode,600][,user,NAME][,group,NAME]`.
fn master_door(sockets: &mut Sockets, place: &str) -> Result<Door, String> {
    let mut words = place.split(',');
    let place = words.next().unwrap_or_default().to_owned();
    let options: Vec<&str> = words.collect();
    let wanted = StatsSocket { line: 0, place, level: "admin".into(), access: SocketAccess::of(&options) };
    let mut doors = sockets.open_doors(&[wanted])?;
    doors.pop().map(|(door, _)| door).ok_or_else(|| "-S expects a socket".to_owned())
}

/// Heard from before the first worker serves.
struct Signals {
    again: Stream,
    hangup: Stream,
    softly: Stream,
    terminate: Stream,
    interrupt: Stream,
    children: Stream,
}

impl Signals {
    fn new() -> Result<Signals, String> {
        let stream = |kind| signal(kind).map_err(|e| e.to_string());
        Ok(Signals {
            again: stream(SignalKind::user_defined2())?,
            hangup: stream(SignalKind::hangup())?,
            softly: stream(SignalKind::user_defined1())?,
            terminate: stream(SignalKind::terminate())?,
            interrupt: stream(SignalKind::interrupt())?,
            children: stream(SignalKind::child())?,
        })
    }
}

async fn attend(
    first: Child,
    signals: Signals,
    workers: &Mutex<Workers>,
    mut wishes: tokio::sync::mpsc::Receiver<tokio::sync::oneshot::Sender<bool>>,
) -> Result<ExitCode, String> {
    let Signals { mut again, mut hangup, mut softly, mut terminate, mut interrupt, mut children } = signals;
    let mut current = first;
    let mut old: Vec<Child> = Vec::new();
    let (mut stopping, mut interrupted) = (false, false);
    loop {
        let mut wish = None;
        let reload = tokio::select! {
            Some(asked) = wishes.recv() => {
                wish = Some(asked);
                true
            }
            _ = again.recv() => true,
            _ = hangup.recv() => true,
            _ = softly.recv() => {
                stopping = true;
                send(&[current.id()], Signal::USR1);
                false
            }
            _ = terminate.recv() => {
                stopping = true;
                let all: Vec<u32> = old.iter().map(Child::id).chain([current.id()]).collect();
                send(&all, Signal::TERM);
                false
            }
            _ = interrupt.recv() => {
                (stopping, interrupted) = (true, true);
                let all: Vec<u32> = old.iter().map(Child::id).chain([current.id()]).collect();
                send(&all, Signal::INT);
                false
            }
            _ = children.recv() => false,
        };
        if reload && !stopping {
            evenkeel_platform::notify_service_manager("RELOADING=1");
            let outcome = match spawn("worker", Some(current.id())) {
                Ok(started) => tokio::task::spawn_blocking(move || started.wait()).await.ok(),
                Err(why) => {
                    eprintln!("[WARNING]  ({}) : {why}", std::process::id());
                    None
                }
            };
            let good = matches!(outcome, Some(Ok(_)));
            match outcome {
                Some(Ok(child)) => {
                    workers.lock().unwrap_or_else(PoisonError::into_inner).replaced(child.id());
                    old.push(std::mem::replace(&mut current, child));
                }
                _ => eprintln!(
                    "[WARNING]  ({}) : the new worker did not start; the old one goes on",
                    std::process::id()
                ),
            }
            if let Some(asked) = wish {
                let _ = asked.send(good);
            }
            evenkeel_platform::notify_service_manager("READY=1");
        }
        old.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let pids: Vec<u32> = old.iter().map(Child::id).collect();
        workers.lock().unwrap_or_else(PoisonError::into_inner).keep(&pids);
        if let Ok(Some(status)) = current.try_wait() {
            if stopping {
                // Shells and supervisors know 130 for an interrupt.
                return Ok(if interrupted { ExitCode::from(130) } else { ExitCode::SUCCESS });
            }
            eprintln!(
                "[ALERT]    ({}) : Current worker ({}) exited: {status}",
                std::process::id(),
                current.id()
            );
            return Ok(code_of(status));
        }
    }
}
