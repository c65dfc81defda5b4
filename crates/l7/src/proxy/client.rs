//! A client's HTTP/1 connection: reads one request after another and has each one answered.

use std::rc::Rc;

use evenkeel_http::h2::is_preface;

use super::account::{self, finish};
use super::exchange;
use super::flow::{After, LULL_MS, STEPS_A_TURN};
use super::session::{Client, Scratch, Session, State};
use super::{ServiceView, answer, route};
use crate::buffer::{Buffer, CAPACITY};
use crate::h1::Malformed;
use crate::h2::connection;
use crate::log::{Cause, Phase};
use crate::reactor::{Io, Stop};
use crate::worker::Worker;

enum Head {
    /// A whole head, with what followed it.
    Ready(Buffer),
    /// The client speaks HTTP/2.
    Two(Buffer),
    /// Nothing has come: the connection can wait without a session.
    Quiet,
    Closed,
    Bad(u16),
    TimedOut,
    NoMemory,
}

/// Serves requests until the connection ends (`None`) or waits for its next one.
pub async fn serve(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    mut client: Box<Client>,
) -> Option<Box<Client>> {
    let mut pipelined = 0;
    loop {
        pipelined += 1;
        if pipelined % STEPS_A_TURN == 0 && worker.reactor.breathe().await.is_err() {
            return None;
        }
        let view = client.service.view();
        let clock = worker.reactor.now();
        scratch.record.restart(client.address, clock.mono_ms, clock.wall_ms);
        session.state.set(State::Reading);
        match read_head(worker, scratch, &mut client, &view).await {
            Head::Ready(buffer) => {
                client.requests += 1;
                session.passes(&scratch.record);
                if let Some(shown) = session.shown.borrow_mut().as_mut() {
                    shown.requests = client.requests;
                }
                let after = exchange::run(worker, session, scratch, &mut client, &view, buffer).await;
                client.bytes_in += scratch.record.bytes_in;
                client.bytes_out += scratch.record.bytes_out;
                session.passed(&client);
                let Scratch { record, changes, counted, .. } = &mut *scratch;
                route::finish(worker, &view, &client, changes, counted, record, true);
                client.give_back();
                if scratch.kept_head.capacity() > 2 * CAPACITY {
                    scratch.hold_no_long_head();
                }
                match after {
                    After::NextRequest if client.h2 => return None,
                    After::NextRequest => {}
                    After::Close => return None,
                    After::Linger => {
                        answer::linger(worker, &client).await;
                        return None;
                    }
                }
            }
            Head::Two(buffer) => {
                client.bytes_in += scratch.record.bytes_in;
                scratch.hold_nothing();
                Box::pin(connection::serve(worker, session, client, Some(buffer))).await;
                return None;
            }
            Head::Quiet => return Some(client),
            Head::Closed => {
                if client.requests == 0 && scratch.record.bytes_in > 0 {
                    scratch.record.end(Cause::ClientAbort, Phase::Request);
                    refuse(worker, scratch, &view, &client, 400).await;
                }
                return None;
            }
            Head::Bad(status) => {
                view.counters(worker.core).bad_requests.add(1);
                scratch.record.end(Cause::Proxy, Phase::Request);
                refuse(worker, scratch, &view, &client, status).await;
                answer::linger(worker, &client).await;
                return None;
            }
            Head::TimedOut => {
                scratch.record.end(Cause::ClientTimeout, Phase::Request);
                refuse(worker, scratch, &view, &client, 408).await;
                return None;
            }
            Head::NoMemory => {
                scratch.record.end(Cause::Resource, Phase::Request);
                refuse(worker, scratch, &view, &client, 503).await;
                if scratch.record.bytes_in > 0 {
                    answer::linger(worker, &client).await;
                }
                return None;
            }
        }
    }
}

async fn refuse(
    worker: &Worker,
    scratch: &mut Scratch,
    view: &Rc<ServiceView>,
    client: &Client,
    status: u16,
) {
    let own = answer::LocalReply { connection: Some("close"), ..answer::LocalReply::default() };
    answer::error(status, &view.spec.error_pages, own, &mut scratch.head);
    scratch.record.status = status;
    account::settle(worker, view, &mut scratch.record, scratch.head.len() as u64);
    let timeout_ms = view.spec.service.timeouts.client.as_millis() as u64;
    if answer::send(worker, client, &scratch.head, timeout_ms.min(5_000)).await.is_ok() {
        scratch.record.bytes_out += scratch.head.len() as u64;
    }
    finish(worker, view, client, &mut scratch.record, true);
}

async fn read_head(worker: &Worker, scratch: &mut Scratch, client: &mut Client, view: &ServiceView) -> Head {
    scratch.request.wide = view.spec.service.wide_requests;
    scratch.response.wide = view.spec.service.wide_requests;
    scratch.request.loose = view.spec.service.loose_requests;
    let head_size = view.spec.service.head_size as usize;
    let mut input = client.input.take();
    let mut deadline_ms = 0;
    // Bytes that were looked at already and hold no whole head.
    let mut seen = 0;
    loop {
        if let Some(buffer) = input.as_mut().filter(|b| b.len() > seen) {
            let first = seen == 0;
            if first {
                let clock = worker.reactor.now();
                (scratch.record.start_ms, scratch.record.wall_ms) = (clock.mono_ms, clock.wall_ms);
                deadline_ms = clock.mono_ms + view.spec.service.timeouts.request.as_millis() as u64;
            }
            // A head that came in pieces is parsed again only when its end may have come.
            if first && client.requests == 0 && client.tls.is_none() && is_preface(buffer.bytes()) {
                return input.map_or(Head::Closed, Head::Two);
            }
            if first || ends_within(buffer.bytes(), seen) {
                match scratch.request.parse(buffer.bytes()) {
                    Ok(true) if scratch.request.head_len > head_size => return Head::Bad(431),
                    Ok(true) => return input.map_or(Head::Closed, Head::Ready),
                    Ok(false) => {}
                    Err(Malformed::UnknownCoding) if scratch.request.wide => return Head::Bad(422),
                    Err(malformed) => return Head::Bad(malformed.status()),
                }
            }
            seen = buffer.len();
            buffer.compact();
            if buffer.holds_a_full_head() || buffer.len() >= head_size {
                if buffer.len() >= head_size {
                    return Head::Bad(431);
                }
                if buffer.widen(head_size).is_none() {
                    return Head::NoMemory;
                }
            }
        }
        let may_read = seen == 0 || client.link.readable();
        if may_read {
            let Some(buffer) = take_or_get(worker, &mut input) else { return Head::NoMemory };
            match client.link.try_read(buffer.room()) {
                Io::Done(count) => {
                    buffer.filled(count);
                    scratch.record.bytes_in += count as u64;
                    continue;
                }
                Io::Eof | Io::Failed(_) => return Head::Closed,
                Io::Blocked if buffer.is_empty() => return Head::Quiet,
                Io::Blocked => {}
            }
        }
        if worker.buffers.is_filling() {
            input.iter_mut().for_each(Buffer::shrink);
        }
        client.link.want_read();
        let lull_ms = worker.reactor.now_ms() + LULL_MS;
        match worker.reactor.wait(deadline_ms.min(lull_ms)).await {
            Ok(()) => {}
            Err(Stop::TimedOut) if lull_ms < deadline_ms => input.iter_mut().for_each(Buffer::shrink),
            Err(Stop::TimedOut) => return Head::TimedOut,
            Err(Stop::Killed) => return Head::Closed,
        }
    }
}

fn take_or_get<'a>(worker: &Worker, input: &'a mut Option<Buffer>) -> Option<&'a mut Buffer> {
    if input.is_none() {
        *input = worker.buffers.get_for_new();
    }
    input.as_mut().and_then(Buffer::grow)
}

/// An empty line ends in the bytes after `seen`.
pub fn ends_within(bytes: &[u8], seen: usize) -> bool {
    let fresh = &bytes[seen.saturating_sub(3)..];
    memchr::memmem::find(fresh, b"\n\r\n").is_some() || memchr::memmem::find(fresh, b"\n\n").is_some()
}
