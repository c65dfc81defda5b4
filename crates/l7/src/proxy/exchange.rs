//! One HTTP exchange: picks a server, tries it and others where that is safe (`flow`), and
//! answers itself where none can.

use std::rc::Rc;

use evenkeel_model::{CookiePersistence, Persistence};

use super::account::blame;
use super::flow::{After, Failure, Outgoing, transact};
use super::pick::{self, Lease, NoLease, Wish};
use super::session::{Client, Scratch, Session};
use super::{PoolRuntime, ServiceView, answer};
use crate::buffer::Buffer;
use crate::h1::Body;
use crate::h1::request::Edits as RequestEdits;
use crate::worker::Worker;

/// Bytes of a request line that are logged.
const LOGGED_LINE: usize = 1024;

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
        Ok(taken) if !client.set_aside(worker, &mut buffer, head_len + taken) => {
            return fail(worker, scratch, client, view, Failure::NoMemory).await;
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
        lease.note(session, &mut scratch.record);
        let mut done = transact(worker, session, scratch, client, view, &lease, &mut outgoing, true).await;
        if done == Err(Failure::Stale) {
            outgoing.sent = 0;
            done = transact(worker, session, scratch, client, view, &lease, &mut outgoing, false).await;
        }
        match done {
            Ok(after) => return after,
            Err(failure @ (Failure::Refused | Failure::Unreachable | Failure::ConnectTimeout)) => {
                lease.connect_failed(failure == Failure::Refused);
                let last = scratch.record.retries >= spec.pool.retries || lease.is_outside();
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
    let keep = scratch.request.keep_alive && outgoing.body.is_complete() && !client.must_close(worker);
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
