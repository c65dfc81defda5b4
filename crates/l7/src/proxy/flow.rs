//! One attempt of an exchange on one server: sends the request, reads the answer, passes it on.
//!
//! Both directions move at the same time, so that an answer may come before the request has
//! ended. Bytes are sent as they come; only heads are rewritten, in place.

mod body;
mod compress;
mod head;
mod tunnel;

use std::rc::Rc;

use evenkeel_model::{Persistence, RetryOn};
use rustix::io::Errno;

pub use self::compress::{Chosen, choose};
use self::compress::{Compressing, Offered};
use super::account::{count_bytes, early};
use super::connect::{self, Kept};
use super::failure::Failure;
use super::persist::CookieFound;
use super::pick::Lease;
use super::session::{Client, Scratch, Session, State};
use super::{PoolRuntime, ServiceView, answer, hidden_body, persist, route};
use crate::buffer::{Buffer, CAPACITY};
use crate::h1::request::Method;
use crate::h1::response::Edits as ResponseEdits;
use crate::h1::{Body, Framing, Malformed};
use crate::link::Link;
use crate::log::Cause;
use crate::reactor::{Io, NEVER, Pipe, Stop};
use crate::worker::Worker;

/// Bodies with at least this much left are moved by splice.
const SPLICE_FROM: u64 = 128 * 1024;
/// Interim answers (1xx) to one request.
const INTERIMS: u8 = 16;

/// Steps after which a busy exchange lets others run.
pub const STEPS_A_TURN: u32 = 32;

/// Who waits for so long holds no more memory than its bytes need.
pub const LULL_MS: u64 = 500;

/// Bytes of a request that are kept during a lull for a server that may say that it has not begun with it.
const KEPT_FOR_ANOTHER: usize = 2 * 1024;

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    NextRequest,
    Close,
    /// Close, but the client may still be sending.
    Linger,
}

/// What holds for all attempts of an exchange.
pub struct Context<'a> {
    pub view: &'a Rc<ServiceView>,
    pub pool: &'a Rc<PoolRuntime>,
    /// What the client's persistence cookie says.
    pub cookie: CookieFound,
    /// What its answers may be compressed by.
    pub coding: Option<Chosen<'a>>,
}

/// The request on its way, kept whole until an answer begins so that it can be sent again.
pub struct Outgoing {
    pub buffer: Buffer,
    pub sent: usize,
    pub body: Body,
    /// Nothing that was sent has left the buffer.
    pub replayable: bool,
    /// A server that may have begun with it may get it again.
    pub idempotent: bool,
    /// It says who the client is, in a way that servers keep for the connection.
    pub names_client: bool,
    /// Bytes of the body that may still come; `None` is no limit.
    pub allowance: Option<u64>,
    /// What follows a chunked body goes on.
    pub keep_trailers: bool,
    /// How often it was tried again.
    pub retries: u32,
}

impl Outgoing {
    /// The server has all of it.
    fn is_sent(&self) -> bool {
        self.body.is_complete() && self.sent == self.buffer.len()
    }
}

/// One attempt on one server.
#[allow(clippy::too_many_arguments)]
pub async fn transact(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    client: &mut Client,
    context: &Context<'_>,
    lease: &Lease,
    outgoing: &mut Outgoing,
    may_reuse: bool,
) -> Result<After, Failure> {
    let now_ms = worker.reactor.now_ms();
    let Kept { reused, is_own, knows_client } = connect::kept(worker, client, lease, outgoing, may_reuse);
    let (_, connect_ms) = context.view.waits(context.pool, &scratch.changes);
    session.state.set(if reused.is_some() { State::Waiting } else { State::Connecting });
    let (server, carried, connected) = match reused {
        Some((server, carried)) => (server, carried, true),
        None => {
            connect::new_connection(worker, client, lease, &outgoing.buffer, connect_ms, may_reuse).await?
        }
    };
    let reused = carried > 0;
    if reused {
        lease.server.counters().reuses.add(1);
    }
    if connected {
        scratch.record.connected_ms = Some(worker.reactor.now_ms());
        session.state.set(State::Waiting);
    }
    let had_body = scratch.request.framing != Framing::None;
    let mut flow = Flow {
        worker,
        session,
        scratch,
        client,
        context,
        lease,
        outgoing,
        server,
        reused,
        connected,
        connect_deadline_ms: now_ms + connect_ms,
        up_dead: false,
        down: None,
        down_body: Body::new(Framing::None),
        phase: Phase::Head,
        pipe: None,
        compressing: None,
        keep_client: false,
        without_chunks: false,
        keep_server: false,
        waits_on_client: false,
        lulled: false,
        moved_ms: worker.reactor.now_ms(),
        interims: 0,
        unread_head: false,
        reusable: false,
        is_own,
        knows_client,
        hidden: None,
    };
    let done = flow.run().await;
    let Flow { server, pipe, reusable, is_own, knows_client, .. } = flow;
    if let Some(pipe) = pipe {
        worker.give_pipe(pipe);
    }
    if reusable && !matches!(server, Link::Stream(_)) {
        let carried = carried.saturating_add(1);
        match is_own {
            false => worker.keep_idle(&lease.server, server, carried, client.address, had_body),
            true if client.h2 => {}
            true => client.own = Some(worker.keep_own(&lease.server, server, carried, knows_client)),
        }
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
enum AnswerProgress {
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
    context: &'a Context<'a>,
    lease: &'a Lease,
    outgoing: &'a mut Outgoing,
    server: Link,
    reused: bool,
    connected: bool,
    connect_deadline_ms: u64,
    /// The server takes no more of the request.
    up_dead: bool,
    down: Option<Buffer>,
    down_body: Body,
    phase: Phase,
    pipe: Option<Pipe>,
    compressing: Option<Box<Compressing>>,
    keep_client: bool,
    /// The client knows no chunks.
    without_chunks: bool,
    keep_server: bool,
    waits_on_client: bool,
    /// It has held little since nothing moves.
    lulled: bool,
    moved_ms: u64,
    interims: u8,
    /// Bytes of the next head came with an interim answer.
    unread_head: bool,
    /// The server's connection can carry another request.
    reusable: bool,
    /// Of this client alone.
    is_own: bool,
    /// By the connection.
    knows_client: bool,
    /// What comes behind the answer and no client asked for.
    hidden: Option<Box<Body>>,
}

/// Follows the body of an answer through what lies in a buffer behind its head; how much of it belongs
/// to the body. What does not is forgotten.
fn feed_answer(
    body: &mut Body,
    down: &mut Buffer,
    head_len: usize,
    without_chunks: bool,
) -> Result<usize, Malformed> {
    let (taken, kept) = match body {
        Body::Chunked(chunked) if without_chunks => chunked.extract(&mut down.bytes_mut()[head_len..])?,
        body => body.feed(&down.bytes()[head_len..]).map(|taken| (taken, taken))?,
    };
    down.truncate(head_len + kept);
    Ok(taken)
}

impl Flow<'_> {
    async fn run(&mut self) -> Result<After, Failure> {
        let mut steps = 0;
        loop {
            steps += 1;
            if steps % STEPS_A_TURN == 0 {
                count_bytes(self.worker, self.context.view, &mut self.scratch.record);
                let paused = self.worker.reactor.breathe().await;
                paused.map_err(|_| self.cut(Cause::Killed, Failure::Killed))?;
            }
            self.waits_on_client = false;
            let up = self.step_up()?;
            let down = self.step_down()?;
            if let Some(hidden) = self.hidden.take() {
                self.keep_server &= Box::pin(hidden_body::skip(self.worker, &self.server, *hidden)).await;
                self.moved();
                continue;
            }
            if self.phase == Phase::Done {
                return Ok(self.finish());
            }
            match down {
                AnswerProgress::Interim => Box::pin(self.pass_interim()).await?,
                AnswerProgress::Upgraded => return Box::pin(self.tunnel()).await,
                AnswerProgress::Moved => self.moved(),
                AnswerProgress::Blocked if up == AnswerProgress::Moved => self.moved(),
                AnswerProgress::Blocked => self.wait().await?,
            }
        }
    }

    fn moved(&mut self) {
        self.moved_ms = self.worker.reactor.now_ms();
        self.lulled = false;
    }

    /// Gives back what of the request was sent and will not be sent again. A server that ends a kept
    /// connection after a lull has begun with the request.
    fn let_go(&mut self) {
        let outgoing = &mut *self.outgoing;
        if !self.connected || outgoing.sent < outgoing.buffer.len() {
            return;
        }
        let retries = self.lease.pool().is_some_and(|spec| {
            outgoing.retries < spec.pool.retries && spec.pool.retry_on != RetryOn::NOTHING
        });
        let may_be_stale = self.reused && !self.lulled;
        let may_be_refused = matches!(self.server, Link::Stream(_))
            && (outgoing.buffer.len() <= KEPT_FOR_ANOTHER || !self.lulled);
        let may_go_again = may_be_refused || outgoing.idempotent && (retries || may_be_stale);
        if !outgoing.replayable || !may_go_again {
            outgoing.buffer.clear();
            outgoing.buffer.shrink();
            (outgoing.sent, outgoing.replayable) = (0, false);
        } else if self.worker.buffers.is_filling() {
            outgoing.buffer.shrink();
        }
    }

    /// Frees what a request need not hold while nothing moves: room for bytes that may never come.
    fn hold_little(&mut self) {
        self.lulled = true;
        self.let_go();
        self.outgoing.buffer.shrink();
        self.down.iter_mut().for_each(Buffer::shrink);
        self.compressing.iter_mut().for_each(|compressing| compressing.hold_little());
        self.scratch.hold_little();
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        if self.phase == Phase::Body || !self.outgoing.body.is_complete() {
            count_bytes(self.worker, self.context.view, &mut self.scratch.record);
        }
        self.let_go();
        let timeouts = self.context.view.timeouts(self.context.pool);
        let deadline_ms = match (self.connected, self.waits_on_client) {
            (false, _) => self.connect_deadline_ms,
            (true, true) => self.moved_ms + timeouts.client.as_millis() as u64,
            (true, false) => {
                let own = self.scratch.changes.server_timeout_ms;
                self.moved_ms + own.unwrap_or(timeouts.server.as_millis() as u64)
            }
        };
        // Asking the kernel for it is worth it where somebody has waited for a while already.
        match self.lulled || self.gives_up_on_close() {
            true => self.client.link.want_read(),
            false => self.client.link.want_hangup(),
        }
        let lull_ms = if self.lulled { NEVER } else { self.worker.reactor.now_ms() + LULL_MS };
        let stop = match self.worker.reactor.wait(deadline_ms.min(lull_ms)).await {
            Ok(()) if self.client.link.is_broken() || self.is_given_up() => {
                self.scratch.record.given_up = !self.client.link.is_broken();
                return Err(self.cut(self.client.link.why_gone(), Failure::ClientGone));
            }
            Ok(()) => return Ok(()),
            Err(Stop::TimedOut) if lull_ms < deadline_ms => {
                self.hold_little();
                return Ok(());
            }
            Err(stop) => stop,
        };
        Err(match (stop, self.connected, self.waits_on_client) {
            (Stop::Killed, ..) => self.cut(Cause::Killed, Failure::Killed),
            (_, false, _) => Failure::ConnectTimeout,
            (_, true, true) => self.cut(Cause::ClientTimeout, Failure::BodyTimeout),
            (_, true, false) => self.cut(Cause::ServerTimeout, Failure::AnswerTimeout),
        })
    }

    /// The client has sent all and has closed its side before the answer came: in a pool that takes this for a
    /// client that has left.
    fn is_given_up(&self) -> bool {
        self.gives_up_on_close() && self.client.link.is_hung_up()
    }

    fn gives_up_on_close(&self) -> bool {
        self.phase == Phase::Head && self.lease.pool().is_some_and(|spec| spec.pool.abort_on_close)
    }

    /// A failure before the answer began can still be answered; later it cannot.
    fn cut(&self, cause: Cause, before: Failure) -> Failure {
        if self.phase == Phase::Head { before } else { Failure::Cut { cause } }
    }

    /// Moves the request on: what is in the buffer, then what the client sends.
    fn step_up(&mut self) -> Result<AnswerProgress, Failure> {
        if self.up_dead {
            return Ok(AnswerProgress::Blocked);
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
                    Ok(AnswerProgress::Moved)
                }
                Io::Blocked => {
                    self.server.want_write();
                    Ok(AnswerProgress::Blocked)
                }
                Io::Failed(Errno::CONNREFUSED) if !self.connected => Err(Failure::Refused),
                Io::Failed(_) | Io::Eof if !self.connected => Err(Failure::Unreachable),
                Io::Failed(_) | Io::Eof => {
                    // It may have answered before it stopped reading.
                    self.up_dead = true;
                    Ok(AnswerProgress::Moved)
                }
            };
        }
        if outgoing.body.is_complete() {
            return Ok(AnswerProgress::Blocked);
        }
        self.refill_up()
    }

    fn refill_up(&mut self) -> Result<AnswerProgress, Failure> {
        let outgoing = &mut *self.outgoing;
        outgoing.buffer.clear();
        (outgoing.sent, outgoing.replayable) = (0, false);
        if !self.client.link.readable() {
            return Ok(self.wait_for_body());
        }
        if outgoing.buffer.grow().is_none() {
            return Err(self.cut(Cause::Resource, Failure::NoMemory));
        }
        match self.client.link.try_read(outgoing.buffer.room_for(self.server.at_once())) {
            Io::Done(count) => {
                self.scratch.record.bytes_in += count as u64;
                self.session.passes(&self.scratch.record);
                outgoing.buffer.filled(count);
                let taken = outgoing.body.feed(outgoing.buffer.bytes());
                let taken = taken.map_err(|_| self.cut(Cause::ClientAbort, Failure::BadBody))?;
                if let Some(allowance) = &mut self.outgoing.allowance {
                    let left = allowance.checked_sub(taken as u64);
                    *allowance = left.unwrap_or(0);
                    if left.is_none() {
                        return Err(self.cut(Cause::Proxy, Failure::TooLarge));
                    }
                }
                if !self.client.set_aside(self.worker, &mut self.outgoing.buffer, taken) {
                    return Err(Failure::NoMemory);
                }
                if !self.outgoing.keep_trailers {
                    let trailers = self.outgoing.body.trailers();
                    self.outgoing.buffer.cut_out(trailers);
                } else if self.outgoing.body.has_forged_trailer() {
                    return Err(self.cut(Cause::Proxy, Failure::BadBody));
                }
                Ok(AnswerProgress::Moved)
            }
            Io::Blocked => Ok(self.wait_for_body()),
            Io::Eof | Io::Failed(_) => Err(self.cut(self.client.link.why_gone(), Failure::ClientGone)),
        }
    }

    fn wait_for_body(&mut self) -> AnswerProgress {
        self.client.link.want_read();
        self.waits_on_client = true;
        AnswerProgress::Blocked
    }

    fn step_down(&mut self) -> Result<AnswerProgress, Failure> {
        if !self.connected {
            return Ok(AnswerProgress::Blocked);
        }
        match self.phase {
            Phase::Head => self.read_answer(),
            Phase::Body => self.pass_body(),
            Phase::Done => Ok(AnswerProgress::Blocked),
        }
    }

    fn read_answer(&mut self) -> Result<AnswerProgress, Failure> {
        if std::mem::take(&mut self.unread_head) {
            return self.parse_answer();
        }
        let Some(most) = self.client.link.takes() else { return Ok(self.wait_for_client()) };
        if !self.server.readable() {
            self.server.want_read();
            return Ok(AnswerProgress::Blocked);
        }
        let down = match &mut self.down {
            Some(down) => down.grow().ok_or(Failure::NoMemory)?,
            none => none.insert(self.worker.buffers.get().ok_or(Failure::NoMemory)?),
        };
        match self.server.try_read(down.room_for(most)) {
            Io::Done(count) => {
                down.filled(count);
                if down.len() > CAPACITY && !head::may_be_whole(down.bytes(), count) {
                    return self.read_more_of_head();
                }
            }
            Io::Blocked => {
                self.server.want_read();
                if down.is_empty() {
                    self.down = None;
                }
                return Ok(AnswerProgress::Blocked);
            }
            Io::Failed(_) if self.server.is_at_fault() => return Err(Failure::BadAnswer),
            Io::Eof | Io::Failed(_) => {
                let nothing_came = down.is_empty() && self.interims == 0;
                let outgoing = &self.outgoing;
                let untouched = self.server.is_untouched();
                let safe = untouched || (self.reused && outgoing.idempotent);
                let again = safe && outgoing.replayable;
                return Err(match nothing_came {
                    true if again => Failure::Stale,
                    true => Failure::NoAnswer,
                    false => Failure::HalfAnswer,
                });
            }
        }
        self.parse_answer()
    }

    fn parse_answer(&mut self) -> Result<AnswerProgress, Failure> {
        let Some(down) = &mut self.down else { return Ok(AnswerProgress::Blocked) };
        let Scratch { request, response, .. } = &mut *self.scratch;
        match response.parse(down.bytes(), request.method) {
            Err(_) => Err(Failure::BadAnswer),
            Ok(false) => self.read_more_of_head(),
            Ok(true) if response.head_len > self.context.view.spec.service.head_size as usize => {
                Err(Failure::BadAnswer)
            }
            Ok(true) if response.is_interim() && self.interims < INTERIMS => Ok(AnswerProgress::Interim),
            Ok(true) if response.status == 101 && request.upgrade => {
                match request.wide && response.lacks_websocket_proof(down.bytes()) {
                    true => Err(Failure::BadAnswer),
                    false => Ok(AnswerProgress::Upgraded),
                }
            }
            Ok(true) if response.status < 200 => Err(Failure::BadAnswer),
            Ok(true) if self.is_unwanted() => {
                self.lease.judge(self.scratch.response.status >= 500);
                Err(Failure::Unwanted)
            }
            Ok(true) => self.begin_answer(),
        }
    }

    /// The final head is there: decides what happens to both connections and rewrites it.
    fn begin_answer(&mut self) -> Result<AnswerProgress, Failure> {
        let sent_all = self.outgoing.is_sent();
        let always = self.context.view.spec.service.close_after_answer;
        let closing = always || self.client.must_close(self.worker);
        let pool = self.context.pool.spec();
        let remembered = self.lease.is_remembered();
        let now = self.worker.reactor.now();
        let Scratch { request, response, record, changes, counted, kept_head, head: spare, .. } =
            &mut *self.scratch;
        let (mut head, mut text) = (self.worker.head.take(), self.worker.text.take());
        // HTTP/1.0 has no chunks: they are taken off, and the end of the connection ends the body.
        self.without_chunks = response.framing == Framing::Chunked && !request.version_11;
        let ends_itself =
            response.framing != Framing::UntilClose && !self.without_chunks && !response.doubtful;
        self.keep_client = request.keep_alive && sent_all && ends_itself && !closing;
        // Asked with another method, a HEAD has a body behind its answer.
        let has_hidden = changes.method.is_some() && request.method == Method::Head;
        self.keep_server = response.keep_alive && sent_all;
        record.status = response.status;
        record.answered_ms = Some(now.mono_ms);
        self.lease.answered(response.status >= 500);
        if matches!(response.status, 401 | 407)
            && let Some(down) = &self.down
            && answer::asks_for_credentials(response, down.bytes())
        {
            (self.is_own, self.knows_client) = (true, true);
        }
        // Who is used to HAProxy sees the server's version.
        let of_10 = !response.version_11 && response.framing != Framing::Chunked && !self.client.h2;
        let version_10 = of_10 && self.context.view.spec.service.wide_requests;
        let connection = answer::connection_field(self.keep_client, request.version_11 && !version_10);
        let Some(down) = &mut self.down else { return Ok(AnswerProgress::Blocked) };
        let server = self.lease.server.cookie();
        let (mut inserted, mut cookie) = (None, None);
        match &pool.pool.persistence {
            Persistence::Cookie(rule) if remembered => {
                let found = &self.context.cookie;
                let exchanged = (&*request, &*response, down.bytes());
                (inserted, cookie) =
                    persist::answer_cookie(rule, found, exchanged, &server, now.wall_ms, record, &mut text);
            }
            Persistence::AppCookie { name, .. } if remembered => {
                let value = response.sets_cookie(down.bytes(), name.as_bytes()).filter(|v| !v.is_empty());
                if let Some(value) = value {
                    persist::learn(self.context.pool, &self.lease.server, value, now.mono_ms);
                }
            }
            _ => {}
        }
        let mut status = None;
        if !self.context.view.spec.routes.answers.is_empty() && response.status != 101 {
            let answered = route::Answered {
                request: (request, kept_head),
                response: (response, down.bytes()),
                server: Some(self.lease.server.name()),
                server_tls: self.server.tls().map(|tls| &**tls.facts()),
            };
            counted.judge(self.worker, response.status);
            let verdict = route::walk_answer(self.worker, self.context.view, self.client, &answered, changes);
            record.level = changes.log_level;
            if verdict.silent {
                (record.status, record.answered_ms) = (0, None);
                return Err(Failure::Cut { cause: Cause::Proxy });
            }
            match (verdict.deny, verdict.instead) {
                (Some(status), _) => return Err(Failure::Denied { status }),
                (_, Some(by)) => {
                    record.answered_ms = None;
                    return Err(Failure::Replaced { by });
                }
                _ => {}
            }
            status = verdict.status;
            record.status = status.unwrap_or(record.status);
        }
        let drops = |name: &[u8]| changes.response.drops(name);
        let edits = ResponseEdits {
            status: status.map(|status| (status, answer::reason(status))),
            connection,
            set_cookie: inserted.map(|_| text.as_str()),
            private: inserted.is_some_and(|r| r.nocache),
            cookie,
            drops: if changes.response.is_empty() { None } else { Some(&drops) },
            lines: &changes.response.lines,
            without_chunks: !request.version_11,
            version_10,
        };
        response.write(down.bytes(), &edits, &mut head);
        self.compressing = self.context.coding.as_ref().and_then(|chosen| {
            let offered = Offered { request, response, head: &mut head, spare };
            Compressing::begin(self.worker, chosen, offered)
        });
        self.without_chunks |= self.compressing.is_some() && response.framing == Framing::Chunked;
        let old_len = response.head_len;
        if has_hidden {
            self.hidden = hidden_body::begin(response, down);
            self.keep_server &= self.hidden.is_some();
        }
        let body_len = down.len() - old_len;
        self.down_body = Body::new(response.framing);
        let fed = feed_answer(&mut self.down_body, down, old_len, self.without_chunks);
        if fed.map_err(|_| Failure::BadAnswer)? < body_len {
            // Bytes that no request asked for: the connection cannot be trusted again.
            self.keep_server = false;
        }
        counted.judge(self.worker, record.status);
        early(self.worker, self.context.view, self.client, record, (head.len() as u64, true));
        let fitted = match &mut self.compressing {
            Some(compressing) => {
                down.consume(old_len);
                compressing.begin_with(&head)
            }
            None => down.put_head(old_len, &head),
        };
        self.worker.head.set(head);
        self.worker.text.set(text);
        if !fitted {
            return Err(Failure::BadAnswer);
        }
        self.phase = Phase::Body;
        self.session.state.set(State::Answering);
        match self.hidden.is_some() {
            true => Ok(AnswerProgress::Moved),
            false => self.pass_body(),
        }
    }

    fn refill_down(&mut self) -> Result<AnswerProgress, Failure> {
        if let Body::Length(left) = &mut self.down_body
            && *left >= SPLICE_FROM
            && self.compressing.is_none()
            && self.server.raw().is_some()
            && self.client.link.raw().is_some()
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
        let Some(most) = self.client.link.takes() else {
            self.down = None;
            return Ok(self.wait_for_client());
        };
        let down = match &mut self.down {
            Some(down) => down.grow().ok_or(Failure::Cut { cause: Cause::Resource })?,
            none => none.insert(self.worker.buffers.get().ok_or(Failure::Cut { cause: Cause::Resource })?),
        };
        let read = self.server.try_read(down.room_for(most));
        if read == Io::Blocked {
            // Nothing is held while the server has nothing to say.
            self.down = None;
            if self.compressing.as_mut().is_some_and(|compressing| compressing.rest()) {
                self.server.want_read();
                return Ok(AnswerProgress::Moved);
            }
        } else if let Io::Done(count) = read {
            down.filled(count);
            let fed = feed_answer(&mut self.down_body, down, 0, self.without_chunks);
            if fed.map_err(|_| Failure::Cut { cause: Cause::ServerAbort })? < count {
                self.keep_server = false;
            }
        }
        self.read(read)
    }

    fn read(&mut self, read: Io) -> Result<AnswerProgress, Failure> {
        match read {
            Io::Done(_) => Ok(AnswerProgress::Moved),
            Io::Blocked => {
                self.server.want_read();
                Ok(AnswerProgress::Blocked)
            }
            Io::Eof if matches!(self.down_body, Body::UntilClose) && self.server.ended_cleanly() => {
                match &mut self.compressing {
                    Some(compressing) => compressing.end(),
                    None => self.phase = Phase::Done,
                }
                Ok(AnswerProgress::Moved)
            }
            Io::Eof | Io::Failed(_) => {
                self.lease.server.counters().response_errors.add(1);
                Err(Failure::Cut { cause: Cause::ServerAbort })
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
            let timeout_ms = self.context.view.spec.service.timeouts.client.as_millis() as u64;
            let sent = answer::send(self.worker, self.client, head, timeout_ms).await;
            sent.map_err(|()| Failure::ClientGone)?;
            record.bytes_out += head.len() as u64;
        }
        self.moved_ms = self.worker.reactor.now_ms();
        self.unread_head = self.down.as_ref().is_some_and(|d| !d.is_empty());
        Ok(())
    }

    /// The answer is complete: keeps what can be used again.
    fn finish(&mut self) -> After {
        let sent_all = self.outgoing.is_sent();
        let gone = self.server.is_hung_up() || self.lease.server.gone.get();
        self.reusable = self.keep_server && sent_all && !gone;
        match (self.keep_client, sent_all && self.client.input.is_none()) {
            (true, _) => After::NextRequest,
            (false, true) => After::Close,
            (false, false) => After::Linger,
        }
    }
}
