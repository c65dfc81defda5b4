//! The daemon: one loop that owns the configuration and the servers' states, and tells the
//! engine, the health checker and the admin server what to do.

mod acme;
mod addresses;
mod administration;
mod apply;
mod certificates;
mod commits;
mod control;
mod discovery;
mod expected;
mod explain;
mod handover;
mod happenings;
mod history;
mod imagined;
mod joining;
mod keep;
mod lag;
mod layer4;
mod lockdown;
mod machine;
mod maintenance;
mod metrics;
pub mod neighbours;
mod node;
pub mod outcome;
mod overrides;
mod pair;
mod pair_upgrade;
mod pair_watch;
mod parts;
pub mod program_log;
mod reading;
mod recorder;
mod run_time;
mod secrets;
mod servers;
mod shared_files;
mod sharing;
mod snmp;
mod status;
mod storage;
mod sync;
pub mod text;
mod upkeep;
mod warnings;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use evenkeel_admin::{Handle, Request};
use evenkeel_l7::{Engine, EngineOptions, Notice};
use evenkeel_model::Snapshot;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel};
use tracing::{error, info, warn};

pub use certificates::described;
pub use control::wall_ms;
use control::{Control, Setup};
pub use explain::offline as explain_offline;
use handover::{Inherited, Successor};
pub use node::answer_question as answer_for_node;
use outcome::{Exit, Failure, Outcome};
pub use pair::{run_guard as guard, run_witness as witness};
pub use servers::{ServerTurn, Turn, Watcher};

/// Idle connections of a process that stops: long enough for a client in mid-thought.
const IDLE_AT_STOP: Duration = Duration::from_millis(500);
/// The same where a successor runs: nobody is in a hurry.
const IDLE_AT_HANDOVER: Duration = Duration::from_secs(10);
/// The last connection decides.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a process is run.
pub struct Start {
    /// The file that commits are written to.
    pub config: PathBuf,
    pub text: String,
    pub snapshot: Snapshot,
    pub no_take_over: bool,
    pub drain_timeout: Duration,
    /// Ends when standard input is closed, and removes this folder.
    pub ends_with_input: Option<PathBuf>,
    pub signals: Signals,
    /// Listening sockets that the process was given.
    pub adopted: Vec<(SocketAddr, OwnedFd)>,
    /// A process without sockets to give, which ends when this one runs, may have the same ports.
    pub shares_ports: bool,
    /// The admin socket of the process to take over from, where that is another than the own.
    pub predecessor: Option<PathBuf>,
    /// Told when all is there to serve, before the process that is taken over from stops.
    pub about_to_serve: Option<Box<dyn FnOnce()>>,
    /// Told when everything runs.
    pub ready: Option<Ready>,
    /// Told of each probe and of what becomes of servers.
    pub watcher: Option<Watcher>,
}

pub type Ready = Box<dyn FnOnce(Handle) -> Outcome>;

/// What signals mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// HUP reads the file anew, TERM drains, INT stops for good, USR2 starts a successor.
    Own,
    /// USR1 finishes what there is, however long that takes; TERM and INT end at once.
    Haproxy,
}

pub async fn serve(start: Start) -> Outcome {
    let Start {
        config,
        text,
        snapshot,
        no_take_over,
        drain_timeout,
        ends_with_input,
        signals,
        adopted,
        shares_ports,
        predecessor,
        about_to_serve,
        ready,
        watcher,
    } = start;
    let from = predecessor.as_ref().unwrap_or(&snapshot.admin.socket);
    let mut inherited = handover::take_over(from, no_take_over)?;
    let workers = event_loops(&snapshot);
    let (notices, notice_inbox) = forward_notices();
    let mut engine = start_engine(workers, &snapshot, &notices)?;
    engine.adopt(adopted);
    if shares_ports {
        engine.share_ports();
    }
    let taken = |i: &mut Inherited| (std::mem::take(&mut i.listeners), std::mem::take(&mut i.admin));
    let (listeners, admin_sockets) = inherited.as_mut().map(taken).unwrap_or_default();
    engine.adopt(listeners);
    let (reports, report_inbox) = unbounded_channel();
    let setup = Setup {
        path: config,
        engine,
        checker: evenkeel_health::Checker::start(reports)?,
        inherited: inherited.as_mut().map(|i| std::mem::take(&mut i.state)),
        watcher,
        about_to_serve,
    };
    let mut control = Control::start(setup, text, snapshot).map_err(|e| Failure::new(Exit::Failed, e))?;
    let (requests, request_inbox) = channel(64);
    let handle = Handle(requests);
    control.start_administration(handle.clone(), admin_sockets)?;
    let successors = handover::listen(&control.snapshot().admin.socket)?;
    let resume = match inherited {
        Some(inherited) => inherited.ready()?,
        None => None,
    };
    // The process before has stopped, or there was none.
    control.clear_leftovers();
    let found = control.found_inbox();
    let (roles, news) = unbounded_channel();
    let (to_daemon, peer) = unbounded_channel();
    let acme = control.acme.inbox();
    let news_of_pair = pair::PairNews { roles, peer: to_daemon };
    control.start_pair(news_of_pair, resume).map_err(|e| Failure::new(Exit::Failed, e))?;
    // From here on a signal does what it means.
    let mut signal_streams = SignalStreams::new()?;
    evenkeel_platform::notify_service_manager(&format!("READY=1\nMAINPID={}", std::process::id()));
    info!(services = control.snapshot().services.len(), workers, revision = control.revision(), "running");
    if let Some(ready) = ready {
        ready(handle)?;
    }
    let mut inboxes = Inboxes {
        requests: request_inbox,
        reports: report_inbox,
        notices: notice_inbox,
        news,
        peer,
        acme,
        found,
        successors,
        input_ended: watch_input(ends_with_input.is_some())?,
    };
    let end = run(&mut control, &mut inboxes, &mut signal_streams, signals, drain_timeout).await?;
    // A successor goes on in it.
    let folder = ends_with_input.filter(|_| !end.handed_over);
    drop(inboxes.requests);
    drain(control, inboxes.notices, end, workers, signal_streams).await;
    let _ = folder.map(std::fs::remove_dir_all);
    Ok(())
}

fn event_loops(snapshot: &Snapshot) -> usize {
    match snapshot.limits.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => usize::from(n),
    }
}

/// The engine with the sockets that the service manager kept, within what the limit of open files allows.
fn start_engine(
    workers: usize,
    snapshot: &Snapshot,
    notices: &std::sync::mpsc::Sender<Notice>,
) -> std::io::Result<Engine> {
    let files = evenkeel_platform::raise_file_limit();
    let options = EngineOptions { workers, buffer_memory: snapshot.limits.buffer_memory };
    let mut engine = Engine::start(&options, notices)?;
    let (wanted, held) = (snapshot.limits.max_connections, engine.hold_within(files));
    if held < wanted {
        warn!(
            open_files = files,
            max_connections = wanted,
            held_to = held,
            "the limit of open files allows fewer connections than max-connections: it is held to fewer"
        );
    }
    engine.adopt(evenkeel_platform::stored_sockets());
    Ok(engine)
}

/// What the loop of the daemon takes its work from.
struct Inboxes {
    /// Of the admin server and the command line.
    requests: Receiver<Request>,
    /// Of the health checker.
    reports: UnboundedReceiver<evenkeel_health::Report>,
    /// Of the event loops.
    notices: UnboundedReceiver<Notice>,
    /// Of the election.
    news: UnboundedReceiver<pair::News>,
    peer: UnboundedReceiver<pair::FromPeer>,
    acme: UnboundedReceiver<acme::News>,
    /// Of name servers and other sources of servers.
    found: UnboundedReceiver<evenkeel_discover::News>,
    /// Processes that want to take over.
    successors: UnboundedReceiver<Successor>,
    input_ended: UnboundedReceiver<()>,
}

struct SignalStreams {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    user1: Signal,
    user2: Signal,
}

impl SignalStreams {
    fn new() -> std::io::Result<SignalStreams> {
        Ok(SignalStreams {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }
}

/// The loop of the daemon, until something ends it.
async fn run(
    control: &mut Control,
    inboxes: &mut Inboxes,
    streams: &mut SignalStreams,
    signals: Signals,
    drain_timeout: Duration,
) -> std::io::Result<End> {
    let program = std::env::current_exe().ok();
    let own = signals == Signals::Own;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let end = End { handed_over: false, for_good: false, drain_timeout };
    loop {
        tokio::select! {
            Some(request) = inboxes.requests.recv() => control.answer(request),
            Some(report) = inboxes.reports.recv() => {
                control.on_report(report);
                at_hand(&mut inboxes.reports).for_each(|report| control.on_report(report));
            }
            Some(notice) = inboxes.notices.recv() => {
                control.on_notice(notice);
                at_hand(&mut inboxes.notices).for_each(|notice| control.on_notice(notice));
            }
            Some(news) = inboxes.news.recv() => control.on_news(&news),
            Some(news) = inboxes.peer.recv() => control.on_peer(news),
            Some(news) = inboxes.acme.recv() => control.on_acme(news),
            Some(news) = inboxes.found.recv() => {
                control.on_found(news);
                at_hand(&mut inboxes.found).for_each(|news| control.on_found(news));
                control.go_on_with_commits();
            }
            _ = tick.tick() => control.on_tick(),
            _ = streams.hangup.recv() => {
                if own {
                    control.reload();
                }
            }
            _ = streams.user1.recv() => {
                if !own {
                    return Ok(End { drain_timeout: FOR_EVER, ..end });
                }
            }
            _ = streams.user2.recv(), if own => {
                if let Err(why) = start_successor(program.as_ref()) {
                    error!(why, "no successor");
                }
            }
            _ = streams.terminate.recv() => return Ok(end),
            Some(()) = inboxes.input_ended.recv() => {
                return Ok(End { for_good: true, drain_timeout: Duration::ZERO, ..end });
            }
            _ = streams.interrupt.recv() => return Ok(End { for_good: own, ..end }),
            Some(successor) = inboxes.successors.recv() => {
                if hand_over(control, successor).await {
                    return Ok(End { handed_over: true, ..end });
                }
            }
        }
        control.tell_states();
        control.flush_layer4();
    }
}

/// What lies in an inbox already, as much as fits in one turn of the daemon: what follows from all of it
/// together is done once.
fn at_hand<T>(inbox: &mut UnboundedReceiver<T>) -> impl Iterator<Item = T> {
    const MOST: usize = 256;
    std::iter::from_fn(|| inbox.try_recv().ok()).take(MOST)
}

/// Tells when standard input is closed: whoever started this process has ended, however it did.
fn watch_input(wanted: bool) -> std::io::Result<UnboundedReceiver<()>> {
    let (ended, inbox) = unbounded_channel();
    if wanted {
        std::thread::Builder::new().name("input".into()).spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = ended.send(());
        })?;
    }
    Ok(inbox)
}

/// Gives the sockets and states to a successor; whether it has taken them.
async fn hand_over(control: &mut Control, successor: Successor) -> bool {
    info!("another process takes over");
    let state = control.state_for_successor();
    let listening = control.engine().listening();
    let admin = control.administration().map(|a| a.sockets()).unwrap_or_default();
    let mut waiting = match successor.give(&listening, &admin, &state) {
        Ok(waiting) => waiting,
        Err(error) => {
            warn!(%error, "the other process did not take over");
            return false;
        }
    };
    let ready = tokio::task::spawn_blocking(move || waiting.until_ready().map(|()| waiting));
    match ready.await {
        Ok(Ok(mut waiting)) => {
            // People are the successor's from here on, and what they change.
            control.administration_mut().into_iter().for_each(|a| a.silence());
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
    /// How long connections may go on.
    drain_timeout: Duration,
}

async fn drain(
    mut control: Control,
    mut notices: UnboundedReceiver<Notice>,
    End { handed_over, for_good, drain_timeout: limit }: End,
    workers: usize,
    SignalStreams { mut terminate, mut interrupt, .. }: SignalStreams,
) {
    if !handed_over {
        evenkeel_platform::notify_service_manager("STOPPING=1");
    }
    // The peer takes new clients at once; where there is none, the addresses stay.
    let removes = for_good || control.snapshot().addresses.remove_at_stop;
    control.end_pair(if removes { pair::End::ForGood } else { pair::End::Restart });
    if handed_over {
        control.end_layer4(false);
        control.end_addresses(addresses::End::Keep);
    }
    let connections = control.engine().connection_count();
    info!(connections, handed_over, "draining");
    control.end_snmp();
    control.drain(if handed_over { IDLE_AT_HANDOVER } else { IDLE_AT_STOP });
    let mut left = workers;
    // After a hand-over the last connection decides: a successor serves everybody else.
    let limit = if handed_over { FOR_EVER } else { limit };
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
                let connections = control.engine().connection_count();
                if connections > 0 {
                    warn!(connections, "connections were cut at the end of the drain time");
                }
                break;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    control.engine().log().flush();
    if !handed_over {
        control.end_layer4(for_good);
        control.end_addresses(if removes { addresses::End::Remove } else { addresses::End::Keep });
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

/// The program file may be a new one by now. It asks for the sockets itself.
fn start_successor(program: Option<&PathBuf>) -> Result<(), String> {
    let program = program.ok_or("the path of the program is not known")?;
    // A replaced file shows as deleted in /proc.
    let text = program.to_string_lossy();
    let path = text.strip_suffix(" (deleted)").unwrap_or(&text).to_owned();
    let started = std::process::Command::new(&path).args(std::env::args_os().skip(1)).spawn();
    let mut child = started.map_err(|e| format!("{path} could not be started: {e}"))?;
    info!(process = child.id(), program = path, "started a successor");
    // Reaped when it ends, which is after this process in the usual case.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Sends an answer; whoever asked may have gone.
fn reply<T>(to: tokio::sync::oneshot::Sender<T>, value: T) {
    let _ = to.send(value);
}

impl Control {
    fn answer(&mut self, request: Request) {
        match request {
            Request::Status(to) => reply(to, self.status()),
            Request::ServiceStatus { service, reply: to } => reply(to, self.status_of(&service)),
            Request::Plan { text, reply: to } => self.plan_when_asked(text, to),
            Request::Commit { text, options, reply: to } => self.commit_when_known(text, options, to),
            Request::Confirm(to) => reply(to, self.confirm()),
            Request::Rollback { rollback, reply: to } => self.roll_back(rollback, to),
            Request::History(to) => reply(to, self.history.list()),
            Request::Revision { revision, reply: to } => reply(to, self.revision_text(revision)),
            Request::Change { service, server, change, reply: to } => {
                reply(to, self.change(&service, &server, &change));
            }
            Request::AddServer { service, server, keys, by, reply: to } => {
                reply(to, self.add_server(&service, &server, keys, &by));
            }
            Request::SetServer { service, server, keys, by, reply: to } => {
                reply(to, self.set_server(&service, &server, keys, &by));
            }
            Request::RemoveServer { service, server, even_of_file, reply: to } => {
                reply(to, self.remove_server(&service, &server, even_of_file));
            }
            Request::Maintenance(to) => reply(to, self.maintenance()),
            Request::PlanMaintenance { planned, by, reply: to } => {
                reply(to, self.plan_maintenance(&planned, &by));
            }
            Request::EndMaintenance { id, reply: to } => reply(to, self.end_maintenance(&id)),
            Request::NameServers(to) => reply(to, self.discovery.name_servers()),
            Request::RunTimeServers(to) => reply(to, self.run_time_servers()),
            Request::Connections { filter, reply: to } => {
                let listing = self.connections(filter);
                tokio::task::spawn_blocking(move || reply(to, listing.collect()));
            }
            Request::CloseConnections { which, reply: to } => match self.close_connections(which) {
                Err(refused) => reply(to, Err(refused)),
                Ok(ending) => {
                    tokio::task::spawn_blocking(move || reply(to, ending.carry_out()));
                }
            },
            Request::Machine(to) => self.machine(to),
            Request::ProgramLog(to) => reply(to, crate::program_log::recent()),
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
                    self.switch_over(switch, to);
                }
                Err(refused) => reply(to, Err(refused)),
            },
            Request::UpgradeOther { step, reply: to } => self.upgrade_other(step, to),
            Request::Hold { held, reply: to } => {
                let done = self.pair_or_refused().and_then(|pair| pair.hold(held));
                reply(to, done.and_then(|()| self.pair_status()));
            }
            Request::Invite { part, reply: to } => reply(to, self.invite(&part)),
            Request::Join { join, reply: to } => self.join(&join, to),
            // A large text takes a while to become data.
            Request::Configuration(to) => {
                let running = self.configuration();
                tokio::task::spawn_blocking(move || reply(to, Ok(running())));
            }
            Request::RunningRevision(to) => reply(to, self.revision()),
            Request::Propose { edits, reply: to } => self.propose_when_asked(edits, to),
            Request::Schema(to) => reply(to, evenkeel_config::json_schema()),
            Request::Series { query, reply: to } => self.series(&query, to),
            Request::Happenings(to) => reply(to, self.happenings.list()),
            Request::ReadFiles(to) => reply(to, self.read_files()),
            Request::Certificates(to) => reply(to, self.certificates()),
            Request::PutCertificate { name, pem, reply: to } => reply(to, self.put_certificate(&name, &pem)),
            Request::ManageCertificate { name, action, reply: to } => {
                reply(to, self.manage_certificate(&name, action));
            }
            Request::Doctor(to) => self.doctor(to),
            Request::Attempt { attempt, free, reply: to } => self.attempt(&attempt, free, to),
            Request::TestAlerts(to) => self.test_alerts(to),
            Request::Backup(to) => reply(to, self.backup()),
            Request::Restore { backup, options, who, reply: to } => {
                self.restore(*backup, options, &who, to);
            }
            Request::SupportBundle(to) => reply(to, Ok(self.support_bundle())),
            Request::Lockdown { who, from, reply: to } => self.lockdown(&who, &from, to),
            Request::Restart { part, reply: to } => reply(to, self.restart(part)),
            Request::WhoHas { address, reply: to } => parts::who_has(address, to),
            Request::Metrics(to) => {
                let sample = metrics::Sample::of(self);
                tokio::task::spawn_blocking(move || reply(to, sample.render()));
            }
            Request::Logs(to) => reply(to, self.engine().log().subscribe()),
        }
    }
}
