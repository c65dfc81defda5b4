//! The daemon: one loop that owns the configuration and the servers' states, and tells the
//! engine, the health checker and the admin server what to do.

mod control;
mod explain;
mod handover;
mod history;
mod imagined;
mod layer4;
mod metrics;
mod overrides;
mod pair;
mod servers;
mod status;
mod sync;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use evenkeel_admin::{Handle, Request, metrics_router, socket_router};
use evenkeel_config::Report;
use evenkeel_l7::{Engine, EngineOptions, Notice};
use evenkeel_model::Snapshot;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, channel, unbounded_channel};
use tracing::{error, info, warn};

use crate::cli::{Exit, Failure, Outcome, RunArguments};
use control::{Control, Setup};
pub use explain::offline as explain_offline;
use handover::Successor;
pub use pair::{run_guard as guard, run_witness as witness};

/// Idle connections of a process that stops: long enough for a client in mid-thought.
const IDLE_AT_STOP: Duration = Duration::from_millis(500);
/// The same where a successor runs: nobody is in a hurry.
const IDLE_AT_HANDOVER: Duration = Duration::from_secs(10);

pub fn run(arguments: &RunArguments) -> Outcome {
    // Standard output may be the access log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let text = crate::cli::read_file(&arguments.config)?;
    let snapshot = evenkeel_config::read(&text).map_err(|problems| {
        let file = arguments.config.display().to_string();
        eprint!("{}", Report { file: &file, text: &text, problems: &problems });
        Failure::new(Exit::Configuration, "")
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments, text, snapshot))
}

async fn serve(arguments: &RunArguments, text: String, snapshot: Snapshot) -> Outcome {
    let files = evenkeel_platform::raise_file_limit();
    let program = std::env::current_exe().ok();
    let mut inherited = handover::take_over(&snapshot.admin.socket, arguments.no_take_over)?;
    let workers = match snapshot.limits.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => usize::from(n),
    };
    let needed = u64::from(snapshot.limits.max_connections) * 2;
    if files < needed {
        warn!(
            open_files = files,
            needed, "the limit of open files is below max-connections and their servers"
        );
    }
    let notices = forward_notices();
    let options = EngineOptions { workers, buffer_memory: snapshot.limits.buffer_memory };
    let mut engine = Engine::start(&options, &notices.0)?;
    let mut admin_sockets = Vec::new();
    engine.adopt(evenkeel_platform::stored_sockets());
    if let Some(inherited) = &mut inherited {
        engine.adopt(std::mem::take(&mut inherited.listeners));
        admin_sockets = std::mem::take(&mut inherited.admin);
    }
    let (reports, mut report_inbox) = unbounded_channel();
    let setup = Setup {
        path: arguments.config.clone(),
        engine,
        checker: evenkeel_health::Checker::start(reports)?,
        inherited: inherited.as_mut().map(|i| std::mem::take(&mut i.state)),
    };
    let mut control = Control::start(setup, text, snapshot).map_err(|e| Failure::new(Exit::Failed, e))?;
    let (requests, mut request_inbox) = channel(64);
    let plain = start_admin(&control, Handle(requests), admin_sockets)?;
    let mut successors = handover::listen(&control.snapshot().admin.socket)?;
    let resume = match inherited {
        Some(inherited) => inherited.ready()?,
        None => None,
    };
    let (roles, mut news_inbox) = unbounded_channel();
    let (peer, mut peer_inbox) = unbounded_channel();
    control.start_pair(pair::PairNews { roles, peer }, resume).map_err(|e| Failure::new(Exit::Failed, e))?;
    evenkeel_platform::notify_service_manager(&format!("READY=1\nMAINPID={}", std::process::id()));
    let services = control.snapshot().services.len();
    info!(services, workers, revision = control.revision(), "running");

    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut again = signal(SignalKind::user_defined2())?;
    let mut notice_inbox = notices.1;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let (mut handed_over, mut for_good) = (false, false);
    loop {
        tokio::select! {
            Some(request) = request_inbox.recv() => control.answer(request),
            Some(report) = report_inbox.recv() => control.on_report(report),
            Some(notice) = notice_inbox.recv() => control.on_notice(notice),
            Some(news) = news_inbox.recv() => control.on_news(&news),
            Some(news) = peer_inbox.recv() => control.on_peer(news),
            _ = tick.tick() => control.on_tick(),
            _ = hangup.recv() => control.reload(),
            _ = again.recv() => start_successor(program.as_ref()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => {
                for_good = true;
                break;
            }
            Some(successor) = successors.recv() => {
                if hand_over(&mut control, &plain, successor).await {
                    handed_over = true;
                    break;
                }
            }
        }
        control.flush_layer4();
    }
    drop(request_inbox);
    let end = End { handed_over, for_good };
    drain(control, notice_inbox, end, arguments.drain_timeout, workers, terminate, interrupt).await;
    Ok(())
}

/// Gives the sockets and states to a successor; whether it has taken them.
async fn hand_over(control: &mut Control, plain: &[(SocketAddr, OwnedFd)], successor: Successor) -> bool {
    info!("another process takes over");
    let state = control.state_for_successor();
    let listening = control.engine().listening();
    let admin = plain.iter().map(|(address, fd)| (*address, fd.as_fd()));
    let mut waiting = match successor.give(&listening, &admin.collect::<Vec<_>>(), &state) {
        Ok(waiting) => waiting,
        Err(error) => {
            warn!(%error, "the other process did not take over");
            return false;
        }
    };
    let ready = tokio::task::spawn_blocking(move || waiting.until_ready().map(|()| waiting));
    match ready.await {
        Ok(Ok(mut waiting)) => {
            if let Some(resume) = control.end_pair(pair::End::Successor) {
                waiting.say(&resume);
            }
            true
        }
        Ok(Err(error)) => {
            warn!(%error, "the other process did not get ready; this one goes on");
            false
        }
        Err(_) => false,
    }
}

/// How a process comes to its end.
#[derive(Clone, Copy)]
struct End {
    /// Another one goes on.
    handed_over: bool,
    /// A person wants everything gone.
    for_good: bool,
}

async fn drain(
    mut control: Control,
    mut notices: UnboundedReceiver<Notice>,
    End { handed_over, for_good }: End,
    limit: Duration,
    workers: usize,
    mut terminate: tokio::signal::unix::Signal,
    mut interrupt: tokio::signal::unix::Signal,
) {
    if !handed_over {
        evenkeel_platform::notify_service_manager("STOPPING=1");
    }
    // The peer takes new clients at once; where there is none, the addresses stay.
    control.end_pair(if for_good { pair::End::ForGood } else { pair::End::Restart });
    if handed_over {
        control.end_layer4(false);
    }
    let connections = control.engine().connection_count();
    info!(connections, handed_over, "draining");
    control.drain(if handed_over { IDLE_AT_HANDOVER } else { IDLE_AT_STOP });
    let mut left = workers;
    // After a hand-over the last connection decides: a successor serves everybody else.
    let limit = if handed_over { Duration::from_secs(24 * 3600) } else { limit };
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    // Packets are forwarded for as long as connections are finished.
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    while left > 0 {
        tokio::select! {
            Some(notice) = notices.recv() => {
                if let Notice::Drained { .. } = notice {
                    left -= 1;
                }
            }
            _ = tick.tick(), if !handed_over => control.tick_layer4(),
            () = &mut deadline => {
                warn!(connections = control.engine().connection_count(), "connections were cut at the end of the drain time");
                break;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    control.engine().log().flush();
    if !handed_over {
        control.end_layer4(for_good);
        control.clean_up();
        let socket = &control.snapshot().admin.socket;
        let _ = std::fs::remove_file(socket);
        let _ = std::fs::remove_file(handover::path(socket));
    }
    info!("stopped");
}

/// The engine's threads report over a plain channel; this carries it into the async loop.
fn forward_notices() -> (std::sync::mpsc::Sender<Notice>, UnboundedReceiver<Notice>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (forward, inbox) = unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(notice) = receiver.recv() {
            if forward.send(notice).is_err() {
                return;
            }
        }
    });
    (sender, inbox)
}

/// Serves the admin socket and the plain listeners; returns the latter for a hand-over.
fn start_admin(
    control: &Control,
    handle: Handle,
    mut adopted: Vec<(SocketAddr, OwnedFd)>,
) -> Result<Vec<(SocketAddr, OwnedFd)>, Failure> {
    let admin = &control.snapshot().admin;
    let private = |e: std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot listen on {}: {e}", admin.socket.display()))
    };
    let socket = evenkeel_platform::listen_private(&admin.socket).map_err(private)?;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    let router = socket_router(handle.clone());
    tokio::spawn(async move { axum::serve(socket, router).await });
    let mut kept = Vec::new();
    for listen in &admin.plain_listen {
        let address = listen.0;
        let fd = match adopted.iter().position(|(a, _)| *a == address) {
            Some(at) => adopted.swap_remove(at).1,
            None => evenkeel_l7::listen(address, false)
                .map_err(|e| Failure::new(Exit::Failed, format!("cannot listen on {address}: {e}")))?,
        };
        kept.push((address, fd.try_clone()?));
        let listener = tokio::net::TcpListener::from_std(fd.into())?;
        let router = metrics_router(handle.clone(), admin.metrics_allow.clone());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
    }
    Ok(kept)
}

/// SIGUSR2: the program file may be a new one by now. It asks for the sockets itself.
fn start_successor(program: Option<&PathBuf>) {
    let Some(program) = program else {
        error!("SIGUSR2: the path of the program is not known");
        return;
    };
    // A replaced file shows as deleted in /proc.
    let text = program.to_string_lossy();
    let path = text.strip_suffix(" (deleted)").unwrap_or(&text).to_owned();
    match std::process::Command::new(&path).args(std::env::args_os().skip(1)).spawn() {
        Ok(child) => {
            info!(process = child.id(), program = path, "started a successor");
            // Reaped when it ends, which is after this process in the usual case.
            std::thread::spawn(move || {
                let mut child = child;
                let _ = child.wait();
            });
        }
        Err(error) => error!(%error, program = path, "a successor could not be started"),
    }
}

/// Sends an answer; whoever asked may have gone.
fn reply<T>(to: tokio::sync::oneshot::Sender<T>, value: T) {
    let _ = to.send(value);
}

impl Control {
    fn answer(&mut self, request: Request) {
        match request {
            Request::Status(to) => reply(to, self.status()),
            Request::Plan { text, reply: to } => reply(to, self.plan(&text)),
            Request::Commit { text, options, reply: to } => self.commit_on_both(text, options, to),
            Request::Confirm(to) => reply(to, self.confirm()),
            Request::Rollback { rollback, reply: to } => self.roll_back(rollback, to),
            Request::History(to) => reply(to, self.history.list()),
            Request::Revision { revision, reply: to } => reply(to, self.revision_text(revision)),
            Request::Change { service, server, change, reply: to } => {
                reply(to, self.change(&service, &server, &change));
            }
            Request::Connections { filter, reply: to } => {
                let listing = self.connections(filter);
                tokio::task::spawn_blocking(move || reply(to, listing.collect()));
            }
            Request::Persistence { service, reply: to } => reply(to, self.persistence(&service)),
            Request::ClearPersistence { service, key, reply: to } => {
                reply(to, self.clear_persistence(&service, key.as_deref()));
            }
            Request::Explain { question, reply: to } => reply(to, self.explain(&question)),
            Request::Pair(to) => reply(to, self.pair_status()),
            Request::RotateKey(to) => reply(to, self.rotate_key()),
            Request::Push(to) => reply(to, self.push_configuration()),
            Request::SwitchOver(to) => match self.pair_or_refused() {
                Ok(pair) => {
                    let switch = pair.switch();
                    tokio::task::spawn_blocking(move || reply(to, switch.over()));
                }
                Err(refused) => reply(to, Err(refused)),
            },
            Request::Hold { held, reply: to } => {
                let done = self.pair_or_refused().and_then(|pair| pair.hold(held));
                reply(to, done.and_then(|()| self.pair_status()));
            }
            Request::Invite(to) => reply(to, self.invite()),
            Request::Join { code, reply: to } => self.join(&code, to),
            Request::Metrics(to) => reply(to, metrics::render(self)),
            Request::Logs(to) => reply(to, self.engine().log().follow()),
        }
    }
}
