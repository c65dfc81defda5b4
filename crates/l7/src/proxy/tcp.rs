//! A connection of a TCP service: as much is read as routes and persistence need, a server is
//! picked, then bytes are relayed.

use std::rc::Rc;

use evenkeel_http::client_hello::{self, NoHello};
use evenkeel_model::{Persistence, Pool, Scheduler};
use evenkeel_routes::Changes;
use evenkeel_rules::FIRST_BYTES;
use rustix::io::Errno;

use super::connect::{self, Trouble};
use super::facts::Hello;
use super::pick::{self, Lease, NoLease, PickRequest};
use super::route::{self, Counted, Verdict};
use super::session::{Client, Scratch, Session, State};
use super::{PoolRuntime, ServiceView, persist, relay};
use crate::buffer::Buffer;
use crate::link::Link;
use crate::log::{Cause, Phase, Record};
use crate::rdp;
use crate::reactor::Io;
use crate::worker::Worker;

/// How long a client may take to its first message where routes or persistence look at it.
const INSPECT_MS: u64 = 5_000;

pub async fn serve(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    mut client: Box<Client>,
) {
    let view = client.service.view();
    let Scratch { record, changes, counted, .. } = scratch;
    record.restart(client.address, client.accepted_ms, client.accepted_wall_ms);
    client.requests = 1;
    let mut first = client.input.take();
    let hello = inspect(worker, &client, &view, &mut first).await;
    record.head_ms = Some(worker.reactor.now_ms());
    let Some(pool) = lead(worker, &client, &view, hello.as_ref(), changes, counted, record).await else {
        client.link.reset_on_close();
        return route::finish(worker, &view, &client, changes, counted, record, false);
    };
    client.take_on(&changes.addresses);
    connect::note_values(worker, &view, &mut client, &pool.spec(), None, changes);
    record.client = client.address;
    (record.pool, record.routed) = (Some(pool.clone()), true);
    let bytes = first.as_ref().map_or(&b""[..], Buffer::bytes);
    let (entry, named) = persist::of_first_bytes(&pool, &client, bytes, hello.as_ref());
    let wish = PickRequest {
        key: pick::key_of_first_bytes(&pool, client.address, bytes),
        named: pool.chosen(changes.server.as_ref()).or(named),
        entry,
        priority: changes.priority,
        avoid: None,
        known_by: None,
    };
    let learns = matches!(pool.spec().pool.persistence, Persistence::TlsSessionId(_));
    match connect(worker, session, record, &client, &view, &pool, wish, first).await {
        Some((lease, server, first)) => {
            session.state.set(State::Relaying);
            let timeouts = view.timeouts(&pool);
            let learn = |bytes: &[u8]| learn_session(worker, &pool, &lease, bytes);
            let sides = relay::Sides {
                client: &client.link,
                server: &server,
                client_idle_ms: timeouts.relay.unwrap_or(timeouts.client).as_millis() as u64,
                server_idle_ms: timeouts.relay.unwrap_or(timeouts.server).as_millis() as u64,
                first_answer: if learns { Some(&learn) } else { None },
            };
            let counts = relay::Counts { view: &view, record };
            let ended = relay::run(worker, session, sides, counts, first, None).await;
            if let Some(cause) = ended.cause {
                record.end(cause, Phase::Data);
            }
            drop(server);
            drop(lease);
        }
        None => client.link.reset_on_close(),
    }
    route::finish(worker, &view, &client, changes, counted, record, false);
}

/// The session id that a server gives a client in its first message (TLS 1.2 and older).
fn learn_session(worker: &Worker, pool: &PoolRuntime, lease: &Lease, bytes: &[u8]) {
    // A handshake record with a ServerHello: its session id stands where the client's does.
    let is_hello = bytes.len() > 44 && bytes[0] == 0x16 && bytes[5] == 2;
    let Some(length) = bytes.get(43).filter(|_| is_hello).map(|b| usize::from(*b)) else { return };
    let session = bytes.get(44..44 + length).filter(|id| !id.is_empty() && id.len() <= 32);
    if let Some(session) = session {
        persist::learn(pool, &lease.server, session, worker.reactor.now_ms());
    }
}

/// Reads the first message where something looks at it.
async fn inspect(
    worker: &'static Worker,
    client: &Client,
    view: &ServiceView,
    first: &mut Option<Buffer>,
) -> Option<Hello> {
    let any = |test: fn(&Pool) -> bool| view.pools.iter().any(|p| test(&p.spec().pool));
    let by_rdp = any(|p| {
        matches!(p.persistence, Persistence::RdpCookie(_)) || p.scheduler == Scheduler::RdpCookieHash
    });
    let by_session = any(|p| matches!(p.persistence, Persistence::TlsSessionId(_)));
    let by_hello = (view.spec.routes.wants.hello() || by_session) && client.tls.is_none();
    let wanted = &view.spec.routes.first_bytes;
    if !by_rdp && !by_hello && !wanted.is_asked() {
        return None;
    }
    let deadline_ms = worker.reactor.now_ms() + INSPECT_MS;
    if first.is_none() {
        *first = worker.buffers.get_for_new();
    }
    let buffer = first.as_mut()?;
    loop {
        let rdp_waits = by_rdp && rdp::parse(buffer.bytes()) == Err(rdp::NoRequest::Partial);
        let hello = client_hello::parse(buffer.bytes());
        let hello_waits = by_hello && matches!(hello, Err(NoHello::Partial));
        let full = buffer.is_full();
        // One that the bytes cannot be any more is not waited for.
        if full || !(rdp_waits || hello_waits || wanted.waits(buffer.bytes())) {
            return Some(seen(hello.ok().filter(|_| by_hello), wanted.is_asked(), buffer.bytes()));
        }
        match client.link.try_read(buffer.room()) {
            Io::Done(count) => buffer.filled(count),
            Io::Blocked => {
                client.link.want_read();
                if worker.reactor.wait(deadline_ms).await.is_err() {
                    return Some(seen(None, wanted.is_asked(), buffer.bytes()));
                }
            }
            Io::Eof | Io::Failed(_) => return Some(seen(None, wanted.is_asked(), buffer.bytes())),
        }
    }
}

/// What conditions can ask of a first message.
fn seen(hello: Option<client_hello::Hello<'_>>, first: bool, bytes: &[u8]) -> Hello {
    let kept = if first { &bytes[..bytes.len().min(FIRST_BYTES)] } else { &[] };
    let (first, length) = (kept.to_vec(), bytes.len());
    let Some(hello) = hello else { return Hello { first, length, ..Hello::default() } };
    Hello {
        server_name: hello.server_name.map(str::to_ascii_lowercase),
        alpn: hello.alpn.map(<[u8]>::to_vec),
        session_id: hello.session_id.to_vec(),
        is_tls: true,
        first,
        length,
    }
}

/// The pool that the routes lead to, unless they refuse.
async fn lead(
    worker: &'static Worker,
    client: &Client,
    view: &Rc<ServiceView>,
    hello: Option<&Hello>,
    changes: &mut Changes,
    counted: &mut Counted,
    record: &mut Record,
) -> Option<Rc<PoolRuntime>> {
    if view.spec.routes.list.is_empty() && view.spec.line.requests().is_empty() {
        return Some(view.pool.clone());
    }
    let verdict = route::walk(worker, view, client, None, hello, changes, counted).await;
    record.level = changes.log_level;
    match verdict {
        Verdict::Pool(number) => view.pools.get(number).cloned(),
        verdict => {
            if let Verdict::Silence { vanish: true } = verdict {
                client.link.vanish_on_close();
            }
            view.counters(worker.core).refused.add(1);
            record.end(Cause::Proxy, Phase::Request);
            None
        }
    }
}

/// Finds a server that takes the connection. Returns it with what is still to be sent of the
/// client's first bytes.
#[allow(clippy::too_many_arguments)]
async fn connect(
    worker: &'static Worker,
    session: &Session,
    record: &mut Record,
    client: &Client,
    view: &ServiceView,
    pool: &Rc<PoolRuntime>,
    mut wish: PickRequest,
    mut first: Option<Buffer>,
) -> Option<(Lease, Link, Option<Buffer>)> {
    let (queue_ms, timeout_ms) = {
        let timeouts = view.timeouts(pool);
        (timeouts.queue.as_millis() as u64, timeouts.connect.as_millis() as u64)
    };
    let mut retries = 0;
    loop {
        let lease = match pick::lease(worker, session, &client.link, pool, &wish, queue_ms, record).await {
            Ok(lease) => lease,
            Err(NoLease::NoServer) => match &view.fallback_server {
                Some(server) => Lease::outside(worker, server.clone()),
                None => {
                    view.counters(worker.core).no_server.add(1);
                    record.end(Cause::ServerAbort, Phase::Connect);
                    return None;
                }
            },
            Err(NoLease::ClientGone) => {
                view.counters(worker.core).client_aborts.add(1);
                record.end(Cause::ClientAbort, Phase::Queue);
                return None;
            }
            Err(why) => {
                view.counters(worker.core).queue_timeouts.add(1);
                let cause = if why == NoLease::Killed { Cause::Killed } else { Cause::ServerTimeout };
                record.end(cause, Phase::Queue);
                return None;
            }
        };
        lease.note(session, record);
        session.state.set(State::Connecting);
        lease.server.counters().connects.add(1);
        if wish.avoid == Some(lease.server.id) && !lease.pause(client, timeout_ms).await {
            record.end(Cause::ClientAbort, Phase::Connect);
            return None;
        }
        match open(worker, client, &lease, timeout_ms, &mut first, &mut record.bytes_in).await {
            Ok(server) => {
                lease.judge(false);
                record.connected_ms = Some(worker.reactor.now_ms());
                super::account::early(worker, view, client, record, (0, false));
                return Some((lease, server, first));
            }
            Err(Trouble::Killed) => {
                record.end(Cause::Killed, Phase::Connect);
                return None;
            }
            Err(trouble) => {
                if trouble != Trouble::Local {
                    lease.judge(true);
                }
                if !matches!(trouble, Trouble::Handshake | Trouble::Local) {
                    lease.connect_failed(trouble == Trouble::Refused);
                }
                if retries >= pool.spec().pool.retries || lease.is_outside() {
                    let cause =
                        if trouble == Trouble::TimedOut { Cause::ServerTimeout } else { Cause::ServerAbort };
                    record.end(cause, Phase::Connect);
                    return None;
                }
                retries += 1;
                record.retries = retries;
                wish.avoid = Some(lease.server.id);
            }
        }
    }
}

/// Opens a connection. Bytes that the client has sent already go with it: on a near network
/// the first write finds the connection up and saves a wake-up.
async fn open(
    worker: &'static Worker,
    client: &Client,
    lease: &Lease,
    timeout_ms: u64,
    first: &mut Option<Buffer>,
    sent: &mut u64,
) -> Result<Link, Trouble> {
    if !connect::is_plain(lease) {
        return connect::open(worker, client, lease, None, timeout_ms).await;
    }
    let deadline_ms = worker.reactor.now_ms() + timeout_ms;
    let server = connect::begin(worker, client, lease)?;
    if first.is_none() {
        let mut buffer = worker.buffers.get().ok_or(Trouble::Unreachable)?;
        if let Io::Done(count) = client.link.try_read(buffer.room()) {
            buffer.filled(count);
            *first = Some(buffer);
        }
    }
    // Sent here, so that success shows the connection to be up without asking.
    server.expect_connect(first.is_some());
    loop {
        if let Some(buffer) = first {
            match server.try_write(buffer.bytes()) {
                Io::Done(count) => {
                    buffer.consume(count);
                    *sent += count as u64;
                    return Ok(Link::Plain(server));
                }
                Io::Blocked => {}
                Io::Failed(Errno::CONNREFUSED) => return Err(Trouble::Refused),
                Io::Failed(_) | Io::Eof => return Err(Trouble::Unreachable),
            }
        } else if server.writable() {
            return connect::outcome(&server).map(|()| Link::Plain(server));
        }
        server.want_write();
        connect::wait(worker, deadline_ms).await?;
    }
}
