//! A connection of a TCP service: a server is picked at once, then bytes are relayed.

use super::account::{blame, finish};
use super::pick::{self, Lease, NoLease, Wish};
use super::session::{Client, Scratch, Session, State};
use super::{ServiceView, relay};
use crate::buffer::Buffer;
use crate::log::Record;
use crate::reactor::{Io, Sock, Stop};
use crate::worker::Worker;
use rustix::io::Errno;

pub async fn serve(worker: &'static Worker, session: &Session, scratch: &mut Scratch, mut client: Client) {
    let view = client.service.view();
    let record = &mut scratch.record;
    record.restart(client.address, client.accepted_ms, client.accepted_wall_ms);
    record.head_ms = Some(client.accepted_ms);
    client.requests = 1;
    if let Some((lease, server, first)) = connect(worker, session, record, &client, &view).await {
        session.state.set(State::Relaying);
        let timeouts = &view.spec.service.timeouts;
        let sides = relay::Sides {
            client: &client.sock,
            server: &server,
            client_idle_ms: timeouts.client.as_millis() as u64,
            server_idle_ms: timeouts.server.as_millis() as u64,
        };
        let ended = relay::run(worker, session, sides, first, None).await;
        record.bytes_in += ended.bytes_in;
        record.bytes_out += ended.bytes_out;
        if let Some(cause) = ended.cause {
            blame(record, cause, b'D');
        }
        drop(server);
        drop(lease);
    } else {
        client.sock.reset_on_close();
    }
    finish(worker, &view, &client, record, false);
}

/// Finds a server that takes the connection. Returns it with what is still to be sent of the
/// client's first bytes.
async fn connect(
    worker: &'static Worker,
    session: &Session,
    record: &mut Record,
    client: &Client,
    view: &ServiceView,
) -> Option<(Lease, Sock, Option<Buffer>)> {
    let pool = &view.pool;
    let timeouts = &view.spec.service.timeouts;
    let key = pick::key_of(pool, client.address, b"");
    let mut wish = Wish { client: client.address, key, cookie: None, avoid: None };
    let queue_ms = timeouts.queue.as_millis() as u64;
    let mut first = None;
    loop {
        let lease = match pick::lease(worker, session, pool, &wish, queue_ms, record).await {
            Ok(lease) => lease,
            Err(NoLease::NoServer) => match &view.fallback_server {
                Some(server) => Lease::outside(worker, server.clone()),
                None => {
                    view.counters(worker.core).no_server.add(1);
                    blame(record, b'S', b'C');
                    return None;
                }
            },
            Err(why) => {
                view.counters(worker.core).queue_timeouts.add(1);
                blame(record, if why == NoLease::Killed { b'K' } else { b's' }, b'Q');
                return None;
            }
        };
        lease.note(session, record);
        session.state.set(State::Connecting);
        lease.server.counters().connects.add(1);
        let timeout_ms = timeouts.connect.as_millis() as u64;
        match open(worker, client, &lease, timeout_ms, &mut first, &mut record.bytes_in).await {
            Ok(server) => {
                record.connected_ms = Some(worker.reactor.now_ms());
                return Some((lease, server, first));
            }
            Err(Trouble::Killed) => {
                blame(record, b'K', b'C');
                return None;
            }
            Err(trouble) => {
                lease.connect_failed(trouble == Trouble::Refused);
                if record.retries >= pool.spec().pool.retries || lease.is_outside() {
                    blame(record, if trouble == Trouble::TimedOut { b's' } else { b'S' }, b'C');
                    return None;
                }
                record.retries += 1;
                wish.avoid = Some(lease.server.id);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Refused,
    Unreachable,
    TimedOut,
    Killed,
}

/// Opens a connection. Bytes that the client has sent already go with it: on a near network
/// the first write finds the connection up and saves a wake-up.
async fn open(
    worker: &Worker,
    client: &Client,
    lease: &Lease,
    timeout_ms: u64,
    first: &mut Option<Buffer>,
    sent: &mut u64,
) -> Result<Sock, Trouble> {
    let deadline_ms = worker.reactor.now_ms() + timeout_ms;
    let server = Sock::connect(worker.reactor, lease.server.address).map_err(|_| Trouble::Unreachable)?;
    if first.is_none() {
        let mut buffer = worker.buffers.get().ok_or(Trouble::Unreachable)?;
        if let Io::Done(count) = client.sock.try_read(buffer.room()) {
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
                    return Ok(server);
                }
                Io::Blocked => {}
                Io::Failed(Errno::CONNREFUSED) => return Err(Trouble::Refused),
                Io::Failed(_) | Io::Eof => return Err(Trouble::Unreachable),
            }
        } else if server.writable() {
            return match server.error() {
                Ok(()) => Ok(server),
                Err(Errno::CONNREFUSED) => Err(Trouble::Refused),
                Err(_) => Err(Trouble::Unreachable),
            };
        }
        server.want_write();
        match worker.reactor.wait(deadline_ms).await {
            Ok(()) => {}
            Err(Stop::TimedOut) => return Err(Trouble::TimedOut),
            Err(Stop::Killed) => return Err(Trouble::Killed),
        }
    }
}
