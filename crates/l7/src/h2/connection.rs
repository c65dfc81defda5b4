//! The tasks of HTTP/2 connections: a client's, whose streams get a session each, and a real server's, on
//! which sessions of many clients have streams.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use evenkeel_http::h2::frame::ErrorCode;
use evenkeel_http::h2::{Mux, Role};

use super::StreamLink;
use crate::buffer::Buffer;
use crate::link::Link;
use crate::log::{Cause, Phase, Record};
use crate::proxy::account;
use crate::proxy::flow::{LULL_MS, STEPS_A_TURN};
use crate::proxy::session::{Client, Session, State};
use crate::reactor::{Io, Loop, NEVER, Stop};
use crate::worker::Worker;

/// Memory that an idle connection may keep for its output.
const KEPT: usize = 4 * 1024;

/// How long to wait before asking again for memory that there was none of.
const MEMORY_RETRY_MS: u64 = 10;

/// The engine of one connection, and the loop whose tasks it wakes. Its end wakes all sessions.
struct Engine {
    mux: Mux,
    reactor: Loop,
}

impl Engine {
    fn new(worker: &Worker, role: Role, tls: bool, head_size: u32) -> Engine {
        let memory = worker.buffers.memory().clone();
        let mux = Mux::with_head_size(role, memory, tls, worker.random(), head_size as usize);
        Engine { mux, reactor: worker.reactor }
    }

    /// Wakes the sessions that the engine has news for. Needed before the connection's task waits.
    fn wake_sessions(&mut self) {
        while let Some(task) = self.mux.next_wake() {
            self.reactor.wake(task);
        }
    }

    /// Ends all streams: the connection is gone.
    fn abandon(&mut self) {
        self.mux.abandon();
        self.wake_sessions();
    }
}

impl Deref for Engine {
    type Target = Mux;

    fn deref(&self) -> &Mux {
        &self.mux
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Mux {
        &mut self.mux
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Why reading has ended for now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// Nothing has come: the link wakes the task when there is more.
    Drained,
    /// The engine takes no more frames until its output is sent.
    HeldBack,
    /// There is no buffer to read into.
    NoMemory,
    /// The connection is over, or the peer broke a rule.
    Ended,
}

/// Reads once, into a buffer that is held only while it has bytes.
fn fill(worker: &Worker, link: &Link, input: &mut Option<Buffer>) -> Result<usize, Pause> {
    if !link.readable() {
        link.want_read();
        return Err(Pause::Drained);
    }
    if input.is_none() {
        *input = worker.buffers.get();
    }
    let Some(buffer) = input.as_mut().and_then(Buffer::grow) else { return Err(Pause::NoMemory) };
    match link.try_read(buffer.room()) {
        Io::Done(count) => {
            buffer.filled(count);
            Ok(count)
        }
        Io::Blocked => {
            link.want_read();
            Err(Pause::Drained)
        }
        Io::Eof | Io::Failed(_) => Err(Pause::Ended),
    }
}

/// Serves a connection to its end. `first` are bytes that came already.
pub async fn serve(
    worker: &'static Worker,
    session: &Session,
    mut client: Box<Client>,
    first: Option<Buffer>,
) {
    session.state.set(State::Relaying);
    let head_size = client.service.view().spec.service.head_size;
    let mut connection = Connection {
        worker,
        task: worker.reactor.current_task(),
        mux: Engine::new(worker, Role::Server, client.tls.is_some(), head_size),
        input: first,
        sent: 0,
        moved_ms: worker.reactor.now_ms(),
        failed: false,
        gone: false,
    };
    connection.mux.absolute = client.service.view().spec.service.wide_requests;
    let mut steps = 0;
    let mut lulled = false;
    loop {
        steps += 1;
        if steps % STEPS_A_TURN == 0 && worker.reactor.breathe().await.is_err() {
            connection.mux.fail(ErrorCode::NoError);
            connection.write(&client.link);
            return;
        }
        let pause = connection.read(&mut client, session);
        connection.start_sessions(&mut client, session);
        connection.mux.produce(worker.reactor.now_ms());
        connection.mux.wake_sessions();
        client.bytes_out += connection.write(&client.link);
        session.passed(&client);
        if connection.gone {
            return connection.mux.abandon();
        }
        if client.must_close(worker) && !connection.mux.is_retired() {
            connection.mux.retire(worker.reactor.now_ms());
            continue;
        }
        let flushed = connection.sent == connection.mux.out.len();
        let over = connection.failed || (connection.mux.is_settled() && connection.mux.stream_count() == 0);
        if flushed && over {
            // Closing at once could destroy frames that the client has not read.
            return crate::proxy::answer::linger(worker, &client).await;
        }
        connection.mux.arm();
        if flushed && (connection.mux.has_ready() || pause == Pause::HeldBack) {
            continue;
        }
        connection.rest();
        let until_ms = connection.moved_ms.saturating_add(time_limit_ms(&connection, &client, flushed));
        let next_ms = next_turn_ms(worker, &connection.mux, pause);
        let lull_ms = if lulled { NEVER } else { worker.reactor.now_ms() + LULL_MS };
        let woken = worker.reactor.wait(until_ms.min(next_ms).min(lull_ms)).await;
        lulled = woken == Err(Stop::TimedOut) && lull_ms < until_ms.min(next_ms);
        match woken {
            Ok(()) => {}
            Err(Stop::TimedOut) if lulled => connection.hold_little(),
            Err(Stop::TimedOut) if next_ms < until_ms => {}
            Err(Stop::TimedOut) if flushed && !connection.mux.is_retired() => {
                connection.mux.retire(worker.reactor.now_ms());
            }
            Err(_) => {
                connection.mux.fail(ErrorCode::NoError);
                connection.write(&client.link);
                return;
            }
        }
    }
}

/// How long the client may stay silent.
fn time_limit_ms(connection: &Connection, client: &Client, flushed: bool) -> u64 {
    // The engine has a limit of its own for the answer to its goodbye.
    if connection.mux.is_retired() && !connection.mux.is_settled() {
        return NEVER;
    }
    let timeouts = &client.service.view().spec.service.timeouts;
    let timeout = match (flushed, connection.mux.stream_count()) {
        (false, _) => timeouts.client,
        (true, 0) if client.requests == 0 => timeouts.request,
        (true, 0) => timeouts.keep_alive,
        (true, _) => std::time::Duration::MAX,
    };
    u64::try_from(timeout.as_millis()).unwrap_or(NEVER)
}

struct Connection {
    worker: &'static Worker,
    task: u32,
    mux: Engine,
    input: Option<Buffer>,
    /// Bytes of the output that the kernel has.
    sent: usize,
    moved_ms: u64,
    /// The peer broke a rule: GOAWAY is sent, then the connection is closed.
    failed: bool,
    gone: bool,
}

impl Connection {
    /// Reads what there is, and starts sessions on the way.
    fn read(&mut self, client: &mut Client, session: &Session) -> Pause {
        while !self.failed {
            if let Some(buffer) = self.input.as_mut().filter(|b| !b.is_empty()) {
                match self.mux.receive(buffer.bytes(), self.worker.reactor.now_ms()) {
                    Ok(taken) => buffer.consume(taken),
                    Err(error) => {
                        self.mux.fail(error.0);
                        self.failed = true;
                    }
                }
                buffer.compact();
                let full = buffer.is_full();
                self.log_rejected(client);
                self.start_sessions(client, session);
                if full {
                    return Pause::HeldBack;
                }
            }
            if self.failed {
                break;
            }
            match fill(self.worker, &client.link, &mut self.input) {
                Ok(count) => {
                    client.bytes_in += count as u64;
                    self.moved_ms = self.worker.reactor.now_ms();
                }
                Err(pause) => {
                    self.gone = pause == Pause::Ended;
                    return pause;
                }
            }
        }
        Pause::Ended
    }

    /// Writes a line for each request that was refused before it had a session. They are bounded as resets are.
    #[cold]
    fn log_each_rejected(&mut self, client: &Client) {
        let view = client.service.view();
        for (status, sent) in self.mux.rejected.drain(..) {
            let clock = self.worker.reactor.now();
            let mut record = Record::new(client.address);
            record.restart(client.address, clock.mono_ms, clock.wall_ms);
            record.status = status;
            record.bytes_out = u64::from(sent);
            record.end(Cause::Proxy, Phase::Request);
            view.counters(self.worker.core).bad_requests.add(1);
            account::finish(self.worker, &view, client, &mut record, true);
        }
    }

    fn log_rejected(&mut self, client: &Client) {
        if !self.mux.rejected.is_empty() {
            self.log_each_rejected(client);
        }
    }

    /// Starts sessions for new streams. While memory is short a connection has few sessions at a time, so that
    /// a client that reads nothing does not hold memory that others need; its other streams wait.
    fn start_sessions(&mut self, client: &mut Client, session: &Session) {
        while self.mux.takes_session() {
            let Some(opened) = self.mux.opened.pop_front() else { return };
            client.requests += 1;
            if let Some(shown) = session.shown.borrow_mut().as_mut() {
                shown.requests = client.requests;
            }
            let clock = self.worker.reactor.now();
            self.worker.start_session(Box::new(Client {
                link: Link::Stream(StreamLink::new(opened.accept(), self.worker.reactor, self.task)),
                service: client.service.clone(),
                address: client.address,
                vip: client.vip,
                values: client.values.clone(),
                header_values: Vec::new(),
                told_values: Vec::new(),
                told: client.told,
                named: false,
                came: None,
                accepted_ms: clock.mono_ms,
                accepted_wall_ms: clock.wall_ms,
                tls: client.tls.clone(),
                over_tls: client.over_tls,
                h2: true,
                greeted: true,
                requests: 0,
                bytes_in: 0,
                bytes_out: 0,
                input: None,
                own: None,
            }));
        }
    }

    /// Sends what the kernel takes, and tells how many bytes that were.
    fn write(&mut self, link: &Link) -> u64 {
        let out = &mut self.mux.out;
        let mut written = 0;
        while self.sent < out.len() {
            match link.try_write(&out[self.sent..]) {
                Io::Done(count) => {
                    self.sent += count;
                    written += count as u64;
                    self.moved_ms = self.worker.reactor.now_ms();
                }
                Io::Blocked => {
                    link.want_write();
                    // TLS wants the same bytes again, so they stay where they are.
                    return written;
                }
                Io::Eof | Io::Failed(_) => {
                    self.gone = true;
                    return written;
                }
            }
        }
        out.clear();
        self.sent = 0;
        written
    }

    /// Frees room for bytes that may not come for long.
    fn hold_little(&mut self) {
        self.input.iter_mut().for_each(Buffer::shrink);
        self.mux.hold_little();
        if self.mux.out.is_empty() {
            self.mux.out = Vec::new();
        }
    }

    /// Holds no memory that it does not need while waiting.
    fn rest(&mut self) {
        self.input.take_if(|b| b.is_empty());
        if self.mux.out.is_empty() && self.mux.out.capacity() > KEPT && self.mux.stream_count() == 0 {
            self.mux.out = Vec::new();
        }
    }
}

/// A connection to a real server as sessions share it.
pub struct Upstream {
    mux: RefCell<Engine>,
    reactor: Loop,
    task: Cell<u32>,
    /// The name that it is for alone, where names of servers are taken from requests.
    name: Option<Box<str>>,
    /// It waits for further requests; another one ends with its last stream.
    kept: Cell<bool>,
}

impl Upstream {
    /// Takes a connection that is up, for answers with heads of so many bytes, and gives it a task.
    pub fn start(worker: &'static Worker, link: Link, head_size: u32) -> Rc<Upstream> {
        let reactor = worker.reactor;
        let mux = Engine::new(worker, Role::Client, link.tls().is_some(), head_size);
        let name = link.name().map(Into::into);
        let task = Cell::new(u32::MAX);
        let upstream = Rc::new(Upstream { mux: mux.into(), reactor, task, name, kept: Cell::new(false) });
        upstream.task.set(reactor.spawn(run(worker, upstream.clone(), link)));
        reactor.wake(upstream.task.get());
        upstream
    }

    /// A stream for a request, if the server takes one more.
    pub fn open(&self) -> Option<Link> {
        let mut mux = self.mux.borrow_mut();
        let stream = mux.takes_streams().then(|| mux.open())?;
        Some(Link::Stream(StreamLink::new(stream, self.reactor, self.task.get())))
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether heads of answers may have so many bytes: the server was told so when it began.
    pub fn takes_heads(&self, head_size: u32) -> bool {
        self.mux.borrow().head_size() >= head_size as usize
    }

    /// Has it wait for further requests.
    pub fn keep(&self) {
        self.kept.set(true);
    }

    pub fn is_over(&self) -> bool {
        self.mux.borrow().is_retired()
    }
}

/// How long a connection to a real server stays without a stream.
const IDLE_MS: u64 = 60_000;

/// The life of a connection to a real server.
async fn run(worker: &'static Worker, upstream: Rc<Upstream>, link: Link) {
    let mut input: Option<Buffer> = None;
    let mut sent = 0;
    let mut steps = 0;
    let mut used_ms = worker.reactor.now_ms();
    loop {
        steps += 1;
        if steps % STEPS_A_TURN == 0 && worker.reactor.breathe().await.is_err() {
            return upstream.mux.borrow_mut().abandon();
        }
        let pause = read(worker, &upstream, &link, &mut input);
        let mut gone = pause == Pause::Ended;
        {
            let mut mux = upstream.mux.borrow_mut();
            mux.produce(worker.reactor.now_ms());
            mux.wake_sessions();
            // The last frames say why this side ends it.
            while sent < mux.out.len() {
                match link.try_write(&mux.out[sent..]) {
                    Io::Done(count) => sent += count,
                    Io::Blocked => {
                        link.want_write();
                        break;
                    }
                    Io::Eof | Io::Failed(_) => {
                        gone = true;
                        break;
                    }
                }
            }
            if sent == mux.out.len() {
                mux.out.clear();
                sent = 0;
            }
            let idle = mux.stream_count() == 0;
            if !idle {
                used_ms = worker.reactor.now_ms();
            }
            let unused = idle && worker.reactor.now_ms() >= used_ms + IDLE_MS;
            let is_done = mux.is_retired() || !upstream.kept.get() || worker.is_draining();
            if gone || unused || (idle && is_done) {
                return mux.abandon();
            }
        }
        {
            let mut mux = upstream.mux.borrow_mut();
            mux.arm();
            if sent == 0 && (mux.has_ready() || pause == Pause::HeldBack) {
                continue;
            }
        }
        input.take_if(|b| b.is_empty());
        let (idle, next_ms) = {
            let mux = upstream.mux.borrow();
            (mux.stream_count() == 0, next_turn_ms(worker, &mux, pause))
        };
        let until_ms = if idle { used_ms + IDLE_MS } else { NEVER };
        let _ = worker.reactor.wait(until_ms.min(next_ms)).await;
    }
}

/// Reads what there is.
fn read(worker: &Worker, upstream: &Upstream, link: &Link, input: &mut Option<Buffer>) -> Pause {
    loop {
        if let Some(buffer) = input.as_mut().filter(|b| !b.is_empty()) {
            let mut mux = upstream.mux.borrow_mut();
            match mux.receive(buffer.bytes(), worker.reactor.now_ms()) {
                Ok(taken) => buffer.consume(taken),
                Err(error) => {
                    mux.fail(error.0);
                    return Pause::Ended;
                }
            }
            buffer.compact();
            if buffer.is_full() {
                return Pause::HeldBack;
            }
        }
        if let Err(pause) = fill(worker, link, input) {
            return pause;
        }
    }
}

/// When the engine or the reading has to go on although nothing happens.
fn next_turn_ms(worker: &Worker, mux: &Mux, pause: Pause) -> u64 {
    let deadline_ms = mux.deadline_ms().unwrap_or(NEVER);
    match pause {
        Pause::NoMemory => deadline_ms.min(worker.reactor.now_ms() + MEMORY_RETRY_MS),
        _ => deadline_ms,
    }
}
