//! One event loop of the proxy: accepts, parks idle connections, runs sessions, takes orders.

mod orders;
mod passwords;
mod presence;
mod servers;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::Duration;

use evenkeel_http::coding::Encoder;
use evenkeel_model::Mode;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use slab::Slab;

use crate::auth::Attempt;
use crate::buffer::BufferPool;
use crate::link::Link;
use crate::log::{Cause, Lines, LocalTime, LogHandle, Phase, Record};
use crate::proxy::session::{self, Client, Session};
use crate::proxy::{PoolRuntime, Service, account, answer};
use crate::reactor::{Event, Loop, Owner, Pipe, Reactor, Sock, Watch};
use crate::spec::{Closing, ConnectionInfo, EngineConfig, Notice, ServerState};
pub use passwords::Busy;
use passwords::Passwords;
pub use presence::Presence;
use presence::Present;
use servers::IdleServer;
pub use servers::PinnedConnection;

/// Sessions that rest for the next burst of connections.
const RESTING_SESSIONS: usize = 1024;
const ACCEPTS_A_TURN: usize = 64;
/// How long a listener rests after an accept that failed for want of descriptors or memory.
const ACCEPT_REST_MS: u64 = 100;
/// How often a paused listener's condition is looked at, since connections leave in other loops too.
const PAUSE_CHECK_MS: u64 = 10;
const LOG_BUFFER: usize = 32 * 1024;
/// Lines leave at once, unless others of the same loop have just done so: those of several loops stand in the log in
/// the order in which clients were answered, as far as that can be, and a busy loop wakes the writer 250 times a second.
const LOG_DELAY_MS: u64 = 4;
/// What loops share: a few numbers, and each other's mailboxes.
pub struct EngineShared {
    connections: AtomicU32,
    max_connections: AtomicU32,
    /// For clients and servers of all loops.
    descriptors: AtomicUsize,
    pub mailboxes: Vec<Mailbox>,
    /// Answers to challenges of authorities.
    pub challenges: Arc<crate::challenge::Challenges>,
    /// The thread that hashes passwords.
    pub passwords: std::sync::OnceLock<SyncSender<Attempt>>,
}

impl EngineShared {
    pub fn new(mailboxes: Vec<Mailbox>) -> EngineShared {
        EngineShared {
            connections: AtomicU32::new(0),
            max_connections: AtomicU32::new(u32::MAX),
            descriptors: AtomicUsize::new(usize::MAX),
            mailboxes,
            challenges: Arc::default(),
            passwords: std::sync::OnceLock::new(),
        }
    }

    pub fn connections(&self) -> u64 {
        u64::from(self.connections.load(Relaxed))
    }

    pub fn set_max_connections(&self, limit: u32) {
        self.max_connections.store(limit, Relaxed);
    }

    /// For all loops together.
    pub fn set_descriptors(&self, limit: usize) {
        self.descriptors.store(limit, Relaxed);
    }

    fn idle_servers_at_most(&self) -> usize {
        let (all, clients) = (self.descriptors.load(Relaxed), self.connections.load(Relaxed));
        (idle_at_most(all, clients as usize) / self.mailboxes.len().max(1)).max(1)
    }

    fn is_full(&self) -> bool {
        self.connections.load(Relaxed) >= self.max_connections.load(Relaxed)
    }
}

/// In how many descriptors connections to servers may wait for their next request: in three quarters of those
/// that clients and their servers leave, so that a pool of thousands keeps its connections while there is
/// room, and in a quarter of all in any case.
fn idle_at_most(descriptors: usize, clients: usize) -> usize {
    let free = descriptors.saturating_sub(clients.saturating_mul(2));
    (free - free / 4).max(descriptors / 4)
}

/// Where a loop takes orders.
pub struct Mailbox {
    sender: Sender<Message>,
    bell: Arc<OwnedFd>,
}

impl Mailbox {
    pub fn new() -> std::io::Result<(Mailbox, Receiver<Message>, Arc<OwnedFd>)> {
        let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (sender, receiver) = std::sync::mpsc::channel();
        Ok((Mailbox { sender, bell: bell.clone() }, receiver, bell))
    }

    pub fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }
}

/// More changes of servers are more orders, so that a turn may end between them.
pub const CHANGES_AN_ORDER: usize = 1_024;

pub enum Message {
    Apply(Apply),
    /// What has changed since the last order like this, at most [`CHANGES_AN_ORDER`] servers.
    Servers(Arc<[(u32, ServerState)]>),
    /// A place on a server became free in another loop.
    Nudge {
        pool: u32,
        server: u32,
    },
    /// Accept no more, finish what there is, close idle connections after this long.
    Drain {
        idle_ms: u64,
    },
    /// Finish what there is, close idle connections after this long, and go on listening; or as usual again.
    Ease {
        idle_ms: Option<u64>,
    },
    /// The VIPs are another node's now: no client of theirs is one of this node's.
    CutClients,
    /// Ends some client connections; how many there were goes back.
    Close(Arc<Closing>, Sender<usize>),
    List(Sender<Vec<ConnectionInfo>>),
    /// A password was hashed.
    Verified {
        number: u64,
        right: bool,
    },
}

pub struct Apply {
    pub config: Arc<EngineConfig>,
    pub states: Arc<HashMap<u32, ServerState>>,
    pub close: Vec<u64>,
    pub open: Vec<OpenListener>,
    pub done: Sender<()>,
}

pub struct OpenListener {
    pub id: u64,
    pub service: u32,
    pub address: SocketAddr,
    pub fd: Arc<OwnedFd>,
}

struct Listener {
    id: u64,
    watch: Watch,
    address: SocketAddr,
    service: Rc<Service>,
    paused: Cell<Option<Pause>>,
}

/// Why a listener accepts nothing, and what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// The service or the process is at its limit: until a connection leaves.
    Full,
    /// An accept failed: until this time.
    Until(u64),
}

pub struct Worker {
    pub core: usize,
    pub reactor: Loop,
    pub buffers: &'static BufferPool,
    /// Encoders that no answer uses.
    pub encoders: RefCell<Vec<Encoder>>,
    pub log: LogHandle,
    pub shared: Arc<EngineShared>,
    services: RefCell<HashMap<u32, Rc<Service>>>,
    pools: RefCell<HashMap<u32, Rc<PoolRuntime>>>,
    listeners: RefCell<Slab<Listener>>,
    idle_clients: RefCell<Slab<Present>>,
    idle_servers: RefCell<Slab<IdleServer>>,
    /// Where it goes on to look for one that has waited long.
    idle_hand: Cell<usize>,
    /// How many connections were kept for one client.
    own_connections: Cell<u64>,
    resting: RefCell<Vec<Rc<Session>>>,
    /// The fewest that rested since [`Self::free_unused`].
    fewest_resting: Cell<usize>,
    sessions: RefCell<HashMap<u32, Rc<Session>>>,
    pipes: RefCell<Vec<Pipe>>,
    /// Heads, and texts in them, are written here before they take their place in a buffer: one memory
    /// for all sessions.
    pub head: Cell<Vec<u8>>,
    pub text: Cell<String>,
    lines: RefCell<Lines>,
    lines_left_ms: Cell<u64>,
    time: RefCell<LocalTime>,
    random: Cell<u64>,
    /// When the next refused certificate of a client is told.
    pub certificates_told_ms: Cell<u64>,
    /// Set while draining: how long idle connections may stay.
    draining: Cell<Option<u64>>,
    /// Set while the clients of this node are another node's.
    easing: Cell<Option<u64>>,
    /// Keys of listeners that are paused.
    paused: RefCell<Vec<usize>>,
    /// Pools whose servers have changed in this turn, and those with a table on its way.
    /// The one that waits longest is first.
    changed: RefCell<VecDeque<u32>>,
    /// Pools that the tick of this second has not come to yet.
    unticked: RefCell<Vec<u32>>,
    /// By server, its pool.
    pool_of: RefCell<HashMap<u32, u32>>,
    ticked_ms: Cell<u64>,
    clients: Rc<Cell<u32>>,
    passwords: RefCell<Passwords>,
    notices: Sender<Notice>,
    orders: Receiver<Message>,
    bell: Arc<OwnedFd>,
}

/// What a loop is started with.
pub struct Start {
    pub core: usize,
    pub shared: Arc<EngineShared>,
    pub log: LogHandle,
    pub buffer_memory: u64,
    pub notices: Sender<Notice>,
    pub orders: Receiver<Message>,
    pub bell: Arc<OwnedFd>,
}

/// Runs a loop; should it fail as a whole, the daemon hears of it.
pub fn guard(start: Start) {
    let (core, notices) = (start.core, start.notices.clone());
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(start)));
    if !matches!(ended, Ok(Ok(()))) {
        let _ = notices.send(Notice::Broken { core });
    }
}

/// Runs a loop until it has drained.
fn run(start: Start) -> std::io::Result<()> {
    let reactor = Reactor::leak()?;
    let bell = Sock::new(reactor, start.bell.try_clone()?, Owner::Mailbox);
    let worker = Box::leak(Box::new(Worker {
        core: start.core,
        reactor,
        buffers: BufferPool::leak(start.buffer_memory),
        encoders: RefCell::default(),
        log: start.log,
        shared: start.shared,
        services: RefCell::default(),
        pools: RefCell::default(),
        listeners: RefCell::default(),
        idle_clients: RefCell::default(),
        idle_servers: RefCell::default(),
        idle_hand: Cell::new(0),
        own_connections: Cell::new(0),
        resting: RefCell::default(),
        fewest_resting: Cell::new(0),
        sessions: RefCell::default(),
        pipes: RefCell::default(),
        head: Cell::default(),
        text: Cell::default(),
        lines: RefCell::default(),
        lines_left_ms: Cell::new(0),
        time: RefCell::default(),
        certificates_told_ms: Cell::new(0),
        random: Cell::new(0x9e37_79b9_7f4a_7c15 ^ (reactor.now().wall_ms << 8) ^ start.core as u64),
        draining: Cell::new(None),
        easing: Cell::new(None),
        paused: RefCell::default(),
        changed: RefCell::default(),
        unticked: RefCell::default(),
        pool_of: RefCell::default(),
        ticked_ms: Cell::new(0),
        clients: Rc::default(),
        passwords: RefCell::default(),
        notices: start.notices,
        orders: start.orders,
        bell: start.bell,
    }));
    let worker: &'static Worker = worker;
    let mut events = Vec::with_capacity(512);
    while !worker.is_done() {
        let limit = Duration::from_millis(
            match (worker.paused.borrow().is_empty(), worker.lines.borrow().bytes.is_empty()) {
                (false, _) => PAUSE_CHECK_MS,
                (true, false) => LOG_DELAY_MS,
                (true, true) => 1_000,
            },
        );
        let is_at_rest = worker.changed.borrow().is_empty() && worker.unticked.borrow().is_empty();
        let limit = if is_at_rest { limit } else { Duration::ZERO };
        reactor.turn(&mut events, limit, |event| worker.handle(event))?;
        worker.after_turn();
    }
    drop(bell);
    worker.flush_log();
    worker.notify(Notice::Drained { core: worker.core });
    Ok(())
}

impl Worker {
    pub fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    pub fn random(&self) -> u64 {
        // xorshift64*; good enough to spread clients, which is all it is for.
        let mut x = self.random.get() | 1;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Every answer is its connection's last.
    pub fn finishes(&self) -> bool {
        self.is_draining() || self.easing.get().is_some()
    }

    fn is_done(&self) -> bool {
        self.is_draining() && self.clients.get() == 0
    }

    fn handle(&'static self, event: Event) {
        match event {
            Event::Ready(Owner::Listener(key)) => self.accept(key as usize),
            Event::Ready(Owner::IdleClient(key)) => {
                let present = self.idle_clients.borrow_mut().try_remove(key as usize);
                if let Some(Present { client, presence }) = present {
                    client.link.set_owner(Owner::Task);
                    self.start(client, Some(presence));
                }
            }
            Event::Ready(Owner::IdleServer(key)) => {
                // That it can be written to, and session tickets of TLS, come late and say nothing about
                // the connection.
                let idle = self.idle_servers.borrow();
                let stays = idle.get(key as usize).is_some_and(|idle| idle.link.is_quiet());
                drop(idle);
                if !stays {
                    self.drop_idle_server(key);
                }
            }
            Event::Deadline(Owner::IdleServer(key)) => self.drop_idle_server(key),
            Event::Deadline(Owner::IdleClient(key)) => self.expire_idle_client(key),
            Event::Ready(Owner::Mailbox) => self.take_orders(),
            Event::Ready(Owner::Task) | Event::Deadline(_) => {}
        }
    }

    fn after_turn(&'static self) {
        let now_ms = self.reactor.now_ms();
        if !self.lines.borrow().bytes.is_empty() && now_ms >= self.lines_left_ms.get() + LOG_DELAY_MS {
            self.lines_left_ms.set(now_ms);
            self.flush_log();
        }
        self.resume_listeners();
        self.refresh_pools();
        if self.unticked.borrow().is_empty() && now_ms >= self.ticked_ms.get() + 1_000 {
            self.ticked_ms.set(now_ms);
            self.free_unused();
            self.unticked.borrow_mut().extend(self.pools.borrow().keys());
        }
        self.tick_pools();
    }

    // Connections

    fn accept(&'static self, key: usize) {
        for _ in 0..ACCEPTS_A_TURN {
            let accepted = {
                let listeners = self.listeners.borrow();
                let Some(listener) = listeners.get(key) else { return };
                let view = listener.service.view();
                if view.spec.is_full() || self.shared.is_full() {
                    self.pause(key, listener, Pause::Full);
                    return;
                }
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                match rustix::net::acceptfrom_with(listener.watch.fd(), flags) {
                    Ok((fd, address)) => {
                        if let Some(how) = &view.spec.service.tcp_keep_alive {
                            crate::reactor::keep_alive(&fd, how);
                        }
                        crate::reactor::user_timeout(&fd, view.spec.service.tcp_user_timeout);
                        (fd, address, listener.service.clone(), listener.address)
                    }
                    Err(Errno::AGAIN) => return,
                    Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => continue,
                    Err(_) if self.close_some_idle_servers() => continue,
                    Err(_) => {
                        // Out of file descriptors or memory: breathe, then try again.
                        self.pause(key, listener, Pause::Until(self.reactor.now_ms() + ACCEPT_REST_MS));
                        return;
                    }
                }
            };
            let (fd, address, service, vip) = accepted;
            // A client of a socket that is a file has no address but the one that stands for the file.
            let address = address.and_then(|a| SocketAddr::try_from(a).ok());
            let address = address.unwrap_or_else(|| SocketAddr::new(vip.ip(), 0));
            let vip = match vip.ip().is_unspecified() {
                true => local_address(&fd).unwrap_or(vip),
                false => vip,
            };
            self.welcome(fd, address, service, vip);
            // A client takes back what idle connections have had: each may need two descriptors.
            self.trim_idle_servers();
        }
    }

    fn welcome(&'static self, fd: OwnedFd, address: SocketAddr, service: Rc<Service>, vip: SocketAddr) {
        let clock = self.reactor.now();
        let presence = Presence::new(self.core, &self.clients, &self.shared, &service);
        let client = Box::new(Client {
            link: Link::Plain(Sock::new(self.reactor, fd, Owner::Task)),
            service,
            address,
            vip,
            values: None,
            header_values: Vec::new(),
            told_values: Vec::new(),
            told: false,
            named: false,
            came: None,
            accepted_ms: clock.mono_ms,
            accepted_wall_ms: clock.wall_ms,
            tls: None,
            over_tls: false,
            h2: false,
            greeted: false,
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
            input: None,
            own: None,
        });
        self.start(client, Some(presence));
    }

    /// A stream of a connection that is counted already.
    pub fn start_session(&'static self, client: Box<Client>) {
        self.start(client, None);
    }

    fn start(&'static self, client: Box<Client>, presence: Option<Presence>) {
        let resting = self.resting.borrow_mut().pop();
        self.fewest_resting.set(self.fewest_resting.get().min(self.resting.borrow().len()));
        let session = resting.unwrap_or_else(|| {
            let session = Rc::new(Session::default());
            let task = self.reactor.spawn(session::run(self, session.clone()));
            session.task.set(task);
            self.sessions.borrow_mut().insert(task, session.clone());
            session
        });
        *session.job.borrow_mut() = Some((client, presence));
        self.reactor.run(session.task.get());
    }

    /// The session is free; `false` tells its task to end.
    pub fn release_session(&self, session: &Rc<Session>) -> bool {
        self.reactor.forgive(session.task.get());
        if self.resting.borrow().len() >= RESTING_SESSIONS || self.is_draining() {
            self.sessions.borrow_mut().remove(&session.task.get());
            return false;
        }
        self.resting.borrow_mut().push(session.clone());
        true
    }

    /// Ends half of the sessions that have rested since the last time, and frees as many buffers: memory
    /// goes back after a peak.
    fn free_unused(&self) {
        self.buffers.rest();
        let mut resting = self.resting.borrow_mut();
        // The last one that rested is taken first: those at the front have rested for longest.
        let count = self.fewest_resting.get().min(resting.len()).div_ceil(2);
        for session in resting.drain(..count) {
            session.is_over.set(true);
            self.sessions.borrow_mut().remove(&session.task.get());
            self.reactor.wake(session.task.get());
        }
        resting.shrink_to(RESTING_SESSIONS / 8);
        self.fewest_resting.set(resting.len());
    }

    /// A session's task has ended by a panic.
    pub fn forget_session(&self, session: &Session) {
        self.sessions.borrow_mut().remove(&session.task.get());
    }

    /// A connection that waits for its next request, without a session.
    pub fn park(&self, client: Box<Client>, presence: Presence) {
        let now_ms = self.reactor.now_ms();
        let view = client.service.view();
        let timeouts = &view.spec.service.timeouts;
        let patience = match client.requests {
            0 => timeouts.request,
            _ => timeouts.keep_alive,
        };
        let mut deadline_ms = now_ms + patience.as_millis() as u64;
        if let Some(idle_ms) = self.draining.get().or(self.easing.get()) {
            deadline_ms = deadline_ms.min(now_ms + idle_ms);
        }
        let mut clients = self.idle_clients.borrow_mut();
        let entry = clients.vacant_entry();
        client.link.set_owner(Owner::IdleClient(entry.key() as u32));
        client.link.set_deadline(deadline_ms);
        entry.insert(Present { client, presence });
    }

    fn expire_idle_client(&'static self, key: u32) {
        let Some(present) = self.idle_clients.borrow_mut().try_remove(key as usize) else { return };
        let client = &present.client;
        let view = client.service.view();
        if client.requests == 0 && view.spec.service.mode == Mode::Http {
            let mut record = Record::new(client.address);
            record.restart(client.address, client.accepted_ms, client.accepted_wall_ms);
            let mut page = Vec::new();
            let own = answer::LocalReply { connection: Some("close"), ..answer::LocalReply::default() };
            answer::error(408, &view.spec.error_pages, own, &mut page);
            if let crate::reactor::Io::Done(count) = client.link.try_write(&page) {
                record.bytes_out = count as u64;
            }
            record.status = 408;
            record.end(Cause::ClientTimeout, Phase::Request);
            account::finish(self, &view, client, &mut record, true);
        }
    }

    /// The day of the week (0 is Monday) and the minute of the day.
    pub fn local_minute(&self) -> (u8, u16) {
        self.time.borrow_mut().minute(self.reactor.now().wall_ms)
    }

    // The log

    /// A line for a service's own targets, or for those of the process.
    pub fn write_log(
        &self,
        service: Option<u32>,
        severity: u8,
        write: impl FnOnce(&mut LocalTime, &mut Vec<u8>),
    ) {
        let mut lines = self.lines.borrow_mut();
        if lines.bytes.is_empty() {
            lines.reserve(LOG_BUFFER + 2048);
        }
        write(&mut self.time.borrow_mut(), &mut lines.bytes);
        lines.mark(service, severity);
        if lines.bytes.len() >= LOG_BUFFER {
            self.log.lines(std::mem::take(&mut lines));
        }
    }

    fn flush_log(&self) {
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        if !lines.bytes.is_empty() {
            self.log.lines(lines);
        }
    }
}

fn local_address(fd: impl AsFd) -> Option<SocketAddr> {
    rustix::net::getsockname(fd).ok().and_then(|a| SocketAddr::try_from(a).ok())
}

#[cfg(test)]
mod tests {
    use super::idle_at_most;

    #[test]
    fn idle_connections_with_servers_take_what_clients_leave() {
        for (descriptors, clients, expect) in [
            (20_000, 0, 15_000),
            (20_000, 64, 14_904),
            (20_000, 7_000, 5_000),
            (20_000, 10_000, 5_000),
            (8, 4, 2),
        ] {
            assert_eq!(idle_at_most(descriptors, clients), expect, "{descriptors} {clients}");
        }
        assert!(idle_at_most(usize::MAX, 40_000) > 1 << 40);
    }
}
