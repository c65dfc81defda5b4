//! One HTTP exchange: the request goes to a real server, its answer comes back.
//!
//! Both directions move at the same time, so that an answer may come before the request has
//! ended. Bytes are sent as they come; only heads are rewritten, in place.

use std::rc::Rc;

use evenkeel_model::{CookiePersistence, Persistence};

use super::account::blame;
use super::pick::{self, Lease, NoLease, Wish};
use super::session::{Client, Scratch, Session, State};
use super::{PoolRuntime, ServiceView, answer, relay};
use crate::buffer::{Buffer, CAPACITY};
use crate::h1::request::Edits as RequestEdits;
use crate::h1::response::Edits as ResponseEdits;
use crate::h1::{Body, Framing};
use crate::reactor::{Io, Pipe, Sock, Stop};
use crate::spec::Notice;
use crate::worker::Worker;
use rustix::io::Errno;

/// Bodies with at least this much left are moved by splice.
const SPLICE_FROM: u64 = 128 * 1024;
/// Interim answers (1xx) to one request.
const INTERIMS: u8 = 16;
/// Bytes of a request line that are logged.
const LOGGED_LINE: usize = 1024;

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    NextRequest,
    Close,
    /// Close, but the client may still be sending.
    Linger,
}

/// The request on its way, kept whole until an answer begins so that it can be sent again.
struct Outgoing {
    buffer: Buffer,
    sent: usize,
    body: Body,
    /// Nothing that was sent has left the buffer.
    replayable: bool,
    idempotent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Refused,
    ConnectTimeout,
    Unreachable,
    /// A connection kept open from before turned out to be closed.
    Stale,
    /// The server closed or reset before it answered.
    NoAnswer,
    AnswerTimeout,
    BadAnswer,
    /// The client's body is malformed, or stopped coming.
    BadBody,
    BodyTimeout,
    ClientGone,
    Killed,
    NoMemory,
    /// The answer has begun and cannot be taken back.
    Cut {
        cause: u8,
    },
}

/// Serves one request whose head is parsed and lies at the start of `buffer`.
pub async fn run(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    client: &mut Client,
    view: &Rc<ServiceView>,
    mut buffer: Buffer,
) -> After {
    let pool = &view.pool;
    let spec = pool.spec();
    scratch.record.head_ms = Some(worker.reactor.now_ms());
    if worker.log.is_wanted() {
        let line = scratch.request.line.of(buffer.bytes());
        scratch.record.line.extend_from_slice(&line[..line.len().min(LOGGED_LINE)]);
    }
    let rule = match &spec.pool.persistence {
        Persistence::Cookie(rule) => Some(rule),
        _ => None,
    };
    let cookie = read_cookie(scratch, pool, rule, &buffer);
    let key = pick::key_of(pool, client.address, scratch.request.path(buffer.bytes()));
    let mut wish = Wish { client: client.address, key, cookie, avoid: None };

    let mut body = Body::new(scratch.request.framing);
    let head_len = scratch.request.head_len;
    match body.feed(&buffer.bytes()[head_len..]) {
        Ok(taken) if head_len + taken < buffer.len() => {
            let Some(mut rest) = worker.buffers.get() else {
                return fail(worker, scratch, client, view, Failure::NoMemory).await;
            };
            rest.append(&buffer.bytes()[head_len + taken..]);
            buffer.truncate(head_len + taken);
            client.input = Some(rest);
        }
        Ok(_) => {}
        Err(_) => return fail(worker, scratch, client, view, Failure::BadBody).await,
    }
    if !rewrite_head(scratch, client, view, rule, &mut buffer) {
        return fail(worker, scratch, client, view, Failure::NoMemory).await;
    }
    let idempotent = scratch.request.method.is_idempotent();
    let mut outgoing = Outgoing { buffer, sent: 0, body, replayable: true, idempotent };

    let queue_ms = view.spec.service.timeouts.queue.as_millis() as u64;
    loop {
        let lease = match pick::lease(worker, session, pool, &wish, queue_ms, &mut scratch.record).await {
            Ok(lease) => lease,
            Err(NoLease::NoServer) => match &view.fallback_server {
                Some(server) => Lease::outside(worker, server.clone()),
                None => return no_server(worker, scratch, client, view, &outgoing).await,
            },
            Err(why) => return not_queued(worker, scratch, client, view, why).await,
        };
        let before = scratch.record.server.replace(lease.server.clone());
        scratch.record.redispatched = before.is_some_and(|b| b.id != lease.server.id);
        scratch.record.queued_ms = Some(worker.reactor.now_ms());
        *session.server.borrow_mut() = Some(lease.server.clone());
        let mut done = transact(worker, session, scratch, client, view, &lease, &mut outgoing, true).await;
        if done == Err(Failure::Stale) {
            outgoing.sent = 0;
            done = transact(worker, session, scratch, client, view, &lease, &mut outgoing, false).await;
        }
        match done {
            Ok(after) => return after,
            Err(failure @ (Failure::Refused | Failure::Unreachable | Failure::ConnectTimeout)) => {
                note_connect_failure(worker, pool, &lease, failure);
                let last = scratch.record.retries >= spec.pool.retries
                    || view.fallback_server.as_ref().is_some_and(|f| f.id == lease.server.id);
                if last || !outgoing.replayable {
                    return fail(worker, scratch, client, view, failure).await;
                }
                scratch.record.retries += 1;
                wish.avoid = Some(lease.server.id);
                outgoing.sent = 0;
            }
            Err(failure) => return fail(worker, scratch, client, view, failure).await,
        }
    }
}

/// Finds the server that the client's cookie names, and notes for the log what the cookie was.
fn read_cookie(
    scratch: &mut Scratch,
    pool: &PoolRuntime,
    rule: Option<&CookiePersistence>,
    buffer: &Buffer,
) -> Option<usize> {
    let rule = rule?;
    let value = scratch.request.cookie(buffer.bytes(), rule.name.as_bytes());
    let index = value.and_then(|value| pool.index_by_cookie(value));
    scratch.record.termination.cookie = match (value, index) {
        (None, _) => b'N',
        (Some(_), None) => b'I',
        (Some(_), Some(index)) if pool.takes_persistent(index) => b'V',
        (Some(_), Some(_)) => b'D',
    };
    scratch.record.termination.set_cookie = b'N';
    index
}

fn rewrite_head(
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    rule: Option<&CookiePersistence>,
    buffer: &mut Buffer,
) -> bool {
    let service = &view.spec.service;
    let Scratch { request, head, text, .. } = scratch;
    text.clear();
    if service.forwarded.x_forwarded_for {
        let _ = std::fmt::Write::write_fmt(text, format_args!("{}", client.address.ip().to_canonical()));
    }
    let host = if request.version_11 { String::new() } else { client.vip.to_string() };
    let edits = RequestEdits {
        forwarded_for: service.forwarded.x_forwarded_for.then_some(text.as_str()),
        forwarded_proto: service.forwarded.x_forwarded_proto.then_some("http"),
        hide_cookie: rule.filter(|r| r.indirect).map(|r| r.name.as_bytes()),
        default_host: &host,
    };
    request.write(buffer.bytes(), &edits, head);
    buffer.replace_head(request.head_len, head)
}

fn note_connect_failure(worker: &Worker, pool: &PoolRuntime, lease: &Lease, failure: Failure) {
    let server = lease.server.id;
    lease.server.counters().connect_errors.add(1);
    if failure == Failure::Refused {
        pool.mark_down(server, worker.reactor.now_ms());
        worker.notify(Notice::Refused { server });
    } else {
        worker.notify(Notice::Suspect { server });
    }
}

/// One attempt on one server.
#[allow(clippy::too_many_arguments)]
async fn transact(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    client: &mut Client,
    view: &ServiceView,
    lease: &Lease,
    outgoing: &mut Outgoing,
    may_reuse: bool,
) -> Result<After, Failure> {
    let now_ms = worker.reactor.now_ms();
    let reused = if may_reuse { worker.take_idle(&lease.server, !outgoing.idempotent) } else { None };
    let (server, reused) = match reused {
        Some(server) => (server, true),
        None => {
            lease.server.counters().connects.add(1);
            let opened = Sock::connect(worker.reactor, lease.server.address);
            (opened.map_err(|_| Failure::Unreachable)?, false)
        }
    };
    if reused {
        lease.server.counters().reuses.add(1);
        scratch.record.connected_ms = Some(now_ms);
    }
    session.state.set(if reused { State::Waiting } else { State::Connecting });
    let timeouts = &view.spec.service.timeouts;
    let mut flow = Flow {
        worker,
        session,
        scratch,
        client,
        view,
        lease,
        outgoing,
        server,
        reused,
        connected: reused,
        connect_deadline_ms: now_ms + timeouts.connect.as_millis() as u64,
        up_dead: false,
        down: None,
        down_body: Body::new(Framing::None),
        phase: Phase::Head,
        pipe: None,
        keep_client: false,
        keep_server: false,
        waits_on_client: false,
        moved_ms: now_ms,
        interims: 0,
        reusable: false,
    };
    let done = flow.run().await;
    let Flow { server, pipe, reusable, .. } = flow;
    if let Some(pipe) = pipe {
        worker.give_pipe(pipe);
    }
    if reusable {
        worker.keep_idle(&lease.server, server);
    }
    done
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Moved,
    Blocked,
    /// A whole 1xx head lies at the start of the buffer.
    Interim,
    /// A whole 101 head does.
    Upgraded,
}

struct Flow<'a> {
    worker: &'static Worker,
    session: &'a Session,
    scratch: &'a mut Scratch,
    client: &'a mut Client,
    view: &'a ServiceView,
    lease: &'a Lease,
    outgoing: &'a mut Outgoing,
    server: Sock,
    reused: bool,
    connected: bool,
    connect_deadline_ms: u64,
    /// The server takes no more of the request.
    up_dead: bool,
    down: Option<Buffer>,
    down_body: Body,
    phase: Phase,
    pipe: Option<Pipe>,
    keep_client: bool,
    keep_server: bool,
    waits_on_client: bool,
    moved_ms: u64,
    interims: u8,
    /// The server's connection can carry another request.
    reusable: bool,
}

impl Flow<'_> {
    async fn run(&mut self) -> Result<After, Failure> {
        loop {
            self.waits_on_client = false;
            let up = self.step_up()?;
            let down = self.step_down()?;
            if self.phase == Phase::Done {
                return Ok(self.finish());
            }
            match down {
                Step::Interim => self.pass_interim().await?,
                Step::Upgraded => return self.tunnel().await,
                Step::Moved => self.moved_ms = self.worker.reactor.now_ms(),
                Step::Blocked if up == Step::Moved => self.moved_ms = self.worker.reactor.now_ms(),
                Step::Blocked => self.wait().await?,
            }
        }
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        let timeouts = &self.view.spec.service.timeouts;
        let deadline_ms = match (self.connected, self.waits_on_client) {
            (false, _) => self.connect_deadline_ms,
            (true, true) => self.moved_ms + timeouts.client.as_millis() as u64,
            (true, false) => self.moved_ms + timeouts.server.as_millis() as u64,
        };
        let stop = match self.worker.reactor.wait(deadline_ms).await {
            Ok(()) if self.client.sock.is_broken() => return Err(self.cut(b'C', Failure::ClientGone)),
            Ok(()) => return Ok(()),
            Err(stop) => stop,
        };
        Err(match (stop, self.connected, self.waits_on_client) {
            (Stop::Killed, ..) => self.cut(b'K', Failure::Killed),
            (_, false, _) => Failure::ConnectTimeout,
            (_, true, true) => self.cut(b'c', Failure::BodyTimeout),
            (_, true, false) => self.cut(b's', Failure::AnswerTimeout),
        })
    }

    /// A failure before the answer began can still be answered; later it cannot.
    fn cut(&self, cause: u8, before: Failure) -> Failure {
        if self.phase == Phase::Head { before } else { Failure::Cut { cause } }
    }

    /// Moves the request on: what is in the buffer, then what the client sends.
    fn step_up(&mut self) -> Result<Step, Failure> {
        if self.up_dead {
            return Ok(Step::Blocked);
        }
        let outgoing = &mut *self.outgoing;
        if outgoing.sent < outgoing.buffer.len() {
            return match self.server.try_write(&outgoing.buffer.bytes()[outgoing.sent..]) {
                Io::Done(count) => {
                    outgoing.sent += count;
                    if !self.connected {
                        self.connected = true;
                        self.scratch.record.connected_ms = Some(self.worker.reactor.now_ms());
                        self.session.state.set(State::Waiting);
                    }
                    Ok(Step::Moved)
                }
                Io::Blocked => {
                    self.server.want_write();
                    Ok(Step::Blocked)
                }
                Io::Failed(Errno::CONNREFUSED) if !self.connected => Err(Failure::Refused),
                Io::Failed(_) | Io::Eof if !self.connected => Err(Failure::Unreachable),
                Io::Failed(_) | Io::Eof => {
                    // It may have answered before it stopped reading.
                    self.up_dead = true;
                    Ok(Step::Moved)
                }
            };
        }
        if outgoing.body.is_complete() {
            return Ok(Step::Blocked);
        }
        self.refill_up()
    }

    fn refill_up(&mut self) -> Result<Step, Failure> {
        let outgoing = &mut *self.outgoing;
        outgoing.buffer.clear();
        (outgoing.sent, outgoing.replayable) = (0, false);
        match self.client.sock.try_read(outgoing.buffer.room()) {
            Io::Done(count) => {
                self.scratch.record.bytes_in += count as u64;
                outgoing.buffer.filled(count);
                let taken = outgoing.body.feed(outgoing.buffer.bytes());
                let taken = taken.map_err(|_| self.cut(b'C', Failure::BadBody))?;
                let outgoing = &mut *self.outgoing;
                if taken < count {
                    let mut rest = self.worker.buffers.get().ok_or(Failure::NoMemory)?;
                    rest.append(&outgoing.buffer.bytes()[taken..]);
                    outgoing.buffer.truncate(taken);
                    self.client.input = Some(rest);
                }
                Ok(Step::Moved)
            }
            Io::Blocked => {
                self.client.sock.want_read();
                self.waits_on_client = true;
                Ok(Step::Blocked)
            }
            Io::Eof | Io::Failed(_) => Err(self.cut(b'C', Failure::ClientGone)),
        }
    }

    fn step_down(&mut self) -> Result<Step, Failure> {
        if !self.connected {
            return Ok(Step::Blocked);
        }
        match self.phase {
            Phase::Head => self.read_answer(),
            Phase::Body => self.pass_body(),
            Phase::Done => Ok(Step::Blocked),
        }
    }

    fn read_answer(&mut self) -> Result<Step, Failure> {
        let down = match &mut self.down {
            Some(down) => down,
            None if !self.server.readable() => {
                self.server.want_read();
                return Ok(Step::Blocked);
            }
            none => none.insert(self.worker.buffers.get().ok_or(Failure::NoMemory)?),
        };
        match self.server.try_read(down.room()) {
            Io::Done(count) => down.filled(count),
            Io::Blocked => {
                self.server.want_read();
                if down.is_empty() {
                    self.down = None;
                }
                return Ok(Step::Blocked);
            }
            Io::Eof | Io::Failed(_) => {
                let nothing_came = down.is_empty() && self.interims == 0;
                let outgoing = &self.outgoing;
                let again = self.reused && nothing_came && outgoing.replayable && outgoing.idempotent;
                return Err(if again { Failure::Stale } else { Failure::NoAnswer });
            }
        }
        self.parse_answer()
    }

    fn parse_answer(&mut self) -> Result<Step, Failure> {
        let Some(down) = &mut self.down else { return Ok(Step::Blocked) };
        let Scratch { request, response, .. } = &mut *self.scratch;
        match response.parse(down.bytes(), request.method) {
            Err(_) => Err(Failure::BadAnswer),
            Ok(false) if down.len() >= CAPACITY => Err(Failure::BadAnswer),
            Ok(false) => Ok(Step::Moved),
            Ok(true) if response.is_interim() && self.interims < INTERIMS => Ok(Step::Interim),
            Ok(true) if response.status == 101 && request.upgrade => Ok(Step::Upgraded),
            Ok(true) if response.status < 200 => Err(Failure::BadAnswer),
            Ok(true) => self.begin_answer(),
        }
    }

    /// The final head is there: decides what happens to both connections and rewrites it.
    fn begin_answer(&mut self) -> Result<Step, Failure> {
        let sent_all = self.outgoing.body.is_complete() && self.outgoing.sent == self.outgoing.buffer.len();
        let closing = self.worker.is_draining() || self.client.service.gone.get();
        let pool = self.view.pool.spec();
        let in_pool = self.view.pool.index_of(self.lease.server.id).is_some();
        let Scratch { request, response, head, text, record } = &mut *self.scratch;
        let ends_itself = response.framing != Framing::UntilClose;
        self.keep_client = request.keep_alive && sent_all && ends_itself && !closing;
        self.keep_server = response.keep_alive && sent_all;
        record.status = response.status;
        record.answered_ms = Some(self.worker.reactor.now_ms());
        let connection = match (self.keep_client, request.version_11) {
            (false, _) => Some("close"),
            (true, false) => Some("keep-alive"),
            (true, true) => None,
        };
        let rule = match &pool.pool.persistence {
            // The client has no cookie of the server that served it.
            Persistence::Cookie(rule) if in_pool && record.termination.cookie != b'V' => Some(rule),
            _ => None,
        };
        if let Some(rule) = rule {
            set_cookie(rule, self.lease.server.name(), text);
            record.termination.set_cookie = b'I';
        }
        let edits = ResponseEdits {
            connection,
            set_cookie: rule.map(|_| text.as_str()),
            private: rule.is_some_and(|r| r.nocache),
        };
        let Some(down) = &mut self.down else { return Ok(Step::Blocked) };
        response.write(down.bytes(), &edits, head);
        let old_len = response.head_len;
        let body_len = down.len() - old_len;
        self.down_body = Body::new(response.framing);
        let taken = self.down_body.feed(&down.bytes()[old_len..]).map_err(|_| Failure::BadAnswer)?;
        if taken < body_len {
            // Bytes that no request asked for: the connection cannot be trusted again.
            self.keep_server = false;
            down.truncate(old_len + taken);
        }
        if !down.replace_head(old_len, head) {
            return Err(Failure::BadAnswer);
        }
        self.phase = Phase::Body;
        self.session.state.set(State::Answering);
        self.pass_body()
    }

    fn pass_body(&mut self) -> Result<Step, Failure> {
        if let Some(pipe) = self.pipe.as_mut().filter(|p| p.held() > 0) {
            let written = self.client.sock.splice_from(pipe);
            return self.wrote(written);
        }
        if let Some(down) = self.down.as_mut().filter(|d| !d.is_empty()) {
            let written = self.client.sock.try_write(down.bytes());
            if let Io::Done(count) = written {
                down.consume(count);
                if down.is_empty() && self.down_body.is_complete() {
                    self.phase = Phase::Done;
                }
            }
            return self.wrote(written);
        }
        if self.down_body.is_complete() {
            self.phase = Phase::Done;
            return Ok(Step::Moved);
        }
        self.refill_down()
    }

    fn wrote(&mut self, written: Io) -> Result<Step, Failure> {
        match written {
            Io::Done(count) => {
                self.scratch.record.bytes_out += count as u64;
                self.session.bytes_out.set(self.scratch.record.bytes_out);
                Ok(Step::Moved)
            }
            Io::Blocked => {
                self.client.sock.want_write();
                self.waits_on_client = true;
                Ok(Step::Blocked)
            }
            Io::Eof | Io::Failed(_) => Err(Failure::Cut { cause: b'C' }),
        }
    }

    fn refill_down(&mut self) -> Result<Step, Failure> {
        if let Body::Length(left) = &mut self.down_body
            && *left >= SPLICE_FROM
        {
            if self.pipe.is_none() {
                self.pipe = self.worker.take_pipe();
            }
            if let Some(pipe) = &mut self.pipe {
                let read = self.server.splice_into(pipe, Pipe::SIZE.min(*left as usize));
                if let Io::Done(count) = read {
                    *left -= count as u64;
                    // Large bodies keep no buffer.
                    self.down = None;
                }
                return self.read(read);
            }
        }
        let down = match &mut self.down {
            Some(down) => down,
            none => none.insert(self.worker.buffers.get().ok_or(Failure::Cut { cause: b'R' })?),
        };
        let read = self.server.try_read(down.room());
        if let Io::Done(count) = read {
            down.filled(count);
            let taken = self.down_body.feed(down.bytes()).map_err(|_| Failure::Cut { cause: b'S' })?;
            if taken < count {
                self.keep_server = false;
                down.truncate(taken);
            }
        }
        self.read(read)
    }

    fn read(&mut self, read: Io) -> Result<Step, Failure> {
        match read {
            Io::Done(_) => Ok(Step::Moved),
            Io::Blocked => {
                self.server.want_read();
                Ok(Step::Blocked)
            }
            Io::Eof if matches!(self.down_body, Body::UntilClose) => {
                self.phase = Phase::Done;
                Ok(Step::Moved)
            }
            Io::Eof | Io::Failed(_) => {
                self.lease.server.counters().response_errors.add(1);
                Err(Failure::Cut { cause: b'S' })
            }
        }
    }

    /// Passes a 1xx on; HTTP/1.0 clients do not know them (RFC 9110 section 15.2).
    async fn pass_interim(&mut self) -> Result<(), Failure> {
        self.interims += 1;
        let Some(down) = &mut self.down else { return Ok(()) };
        let Scratch { request, response, head, record, .. } = &mut *self.scratch;
        response.write(down.bytes(), &ResponseEdits::default(), head);
        down.consume(response.head_len);
        down.compact();
        if request.version_11 {
            let timeout_ms = self.view.spec.service.timeouts.client.as_millis() as u64;
            let sent = answer::send(self.worker, self.client, head, timeout_ms).await;
            sent.map_err(|()| Failure::ClientGone)?;
            record.bytes_out += head.len() as u64;
        }
        self.moved_ms = self.worker.reactor.now_ms();
        // The final head may have come with it.
        if self.down.as_ref().is_some_and(|d| !d.is_empty()) {
            match self.parse_answer()? {
                Step::Interim => Box::pin(self.pass_interim()).await?,
                Step::Upgraded => return Err(Failure::BadAnswer),
                Step::Moved | Step::Blocked => {}
            }
        }
        Ok(())
    }

    /// 101: from here on both sides say what they like.
    async fn tunnel(&mut self) -> Result<After, Failure> {
        let Some(mut down) = self.down.take() else { return Err(Failure::BadAnswer) };
        let Scratch { response, head, record, .. } = &mut *self.scratch;
        response.write(down.bytes(), &ResponseEdits::default(), head);
        record.status = 101;
        record.answered_ms = Some(self.worker.reactor.now_ms());
        if !down.replace_head(response.head_len, head) {
            return Err(Failure::BadAnswer);
        }
        self.session.state.set(State::Relaying);
        let idle_ms = self.view.spec.service.timeouts.tunnel.as_millis() as u64;
        let sides = relay::Sides {
            client: &self.client.sock,
            server: &self.server,
            client_idle_ms: idle_ms,
            server_idle_ms: idle_ms,
        };
        let ended = relay::run(self.worker, self.session, sides, self.client.input.take(), Some(down)).await;
        record.bytes_in += ended.bytes_in;
        record.bytes_out += ended.bytes_out;
        if let Some(cause) = ended.cause {
            blame(record, cause, b'D');
        }
        Ok(After::Close)
    }

    /// The answer is complete: keeps what can be used again.
    fn finish(&mut self) -> After {
        let sent_all = self.outgoing.body.is_complete() && self.outgoing.sent == self.outgoing.buffer.len();
        let gone = self.server.is_hung_up() || self.lease.server.gone.get();
        self.reusable = self.keep_server && sent_all && !gone;
        match (self.keep_client, sent_all && self.client.input.is_none()) {
            (true, _) => After::NextRequest,
            (false, true) => After::Close,
            (false, false) => After::Linger,
        }
    }
}

/// The value of a `Set-Cookie` that names a server.
fn set_cookie(rule: &CookiePersistence, server: &str, out: &mut String) {
    out.clear();
    out.push_str(&rule.name);
    out.push('=');
    out.push_str(server);
    out.push_str("; path=/");
    if let Some(domain) = &rule.domain {
        out.push_str("; domain=");
        out.push_str(domain);
    }
    if rule.httponly {
        out.push_str("; HttpOnly");
    }
    if rule.secure {
        out.push_str("; Secure");
    }
    if let Some(samesite) = rule.samesite {
        out.push_str("; SameSite=");
        out.push_str(samesite.as_str());
    }
}

/// Ends a request that failed: an answer where one is still possible.
async fn fail(
    worker: &Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    failure: Failure,
) -> After {
    let counters = view.counters(worker.core);
    let (status, cause, phase) = match failure {
        Failure::Refused | Failure::Unreachable => (503, b'S', b'C'),
        Failure::ConnectTimeout => (503, b's', b'C'),
        Failure::Stale | Failure::NoAnswer => (502, b'S', b'H'),
        Failure::BadAnswer => (502, b'P', b'H'),
        Failure::AnswerTimeout => (504, b's', b'H'),
        Failure::BadBody => (400, b'P', b'D'),
        Failure::BodyTimeout => (408, b'c', b'D'),
        Failure::Killed => (503, b'K', b'H'),
        Failure::NoMemory => (503, b'R', b'H'),
        Failure::ClientGone => {
            counters.client_aborts.add(1);
            blame(&mut scratch.record, b'C', b'H');
            return After::Close;
        }
        Failure::Cut { cause } => {
            if cause == b'C' || cause == b'c' {
                counters.client_aborts.add(1);
            }
            blame(&mut scratch.record, cause, b'D');
            // The client must not take what it has for the whole.
            client.sock.reset_on_close();
            return After::Close;
        }
    };
    if failure == Failure::BadBody {
        counters.bad_requests.add(1);
    }
    if let (502 | 504, Some(server)) = (status, &scratch.record.server) {
        server.counters().response_errors.add(1);
    }
    blame(&mut scratch.record, cause, phase);
    answer_error(worker, scratch, client, view, status).await
}

async fn answer_error(
    worker: &Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    status: u16,
) -> After {
    answer::error(status, true, &mut scratch.head);
    scratch.record.status = status;
    send_own(worker, scratch, client, view).await;
    After::Linger
}

async fn send_own(worker: &Worker, scratch: &mut Scratch, client: &Client, view: &ServiceView) {
    let timeout_ms = view.spec.service.timeouts.client.as_millis() as u64;
    if answer::send(worker, client, &scratch.head, timeout_ms).await.is_ok() {
        scratch.record.bytes_out += scratch.head.len() as u64;
    }
}

/// No real server is left: the fallback page, or 503.
async fn no_server(
    worker: &Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    outgoing: &Outgoing,
) -> After {
    view.counters(worker.core).no_server.add(1);
    blame(&mut scratch.record, b'S', b'C');
    let closing = worker.is_draining() || client.service.gone.get();
    let keep = scratch.request.keep_alive && outgoing.body.is_complete() && !closing;
    let head_only = scratch.request.method == crate::h1::request::Method::Head;
    let page = view.spec.service.fallback.as_ref();
    let Some(status) = page.and_then(|p| answer::page(p, !keep, head_only, &mut scratch.head)) else {
        return answer_error(worker, scratch, client, view, 503).await;
    };
    scratch.record.status = status;
    send_own(worker, scratch, client, view).await;
    if keep && scratch.request.version_11 { After::NextRequest } else { After::Linger }
}

async fn not_queued(
    worker: &Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    why: NoLease,
) -> After {
    let (cause, counters) = (if why == NoLease::Killed { b'K' } else { b's' }, view.counters(worker.core));
    counters.queue_timeouts.add(1);
    blame(&mut scratch.record, cause, b'Q');
    answer_error(worker, scratch, client, view, 503).await
}
