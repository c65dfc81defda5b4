//! Waits for the body of a request before its routes are asked, as far as the buffer holds it.

use super::ServiceView;
use super::failure::Failure;
use super::session::{Client, Scratch};
use crate::buffer::{Buffer, CAPACITY};
use crate::h1::Body;
use crate::reactor::{Io, Stop};
use crate::worker::Worker;

/// Returns once the body is whole or the buffer is full. A client that wants to be told to send it first is
/// not waited for.
pub async fn wait(
    worker: &Worker,
    scratch: &mut Scratch,
    client: &mut Client,
    view: &ServiceView,
    buffer: &mut Buffer,
) -> Result<(), Failure> {
    if scratch.request.expects_continue {
        return Ok(());
    }
    let deadline_ms = worker.reactor.now_ms() + view.spec.service.timeouts.request.as_millis() as u64;
    let mut body = Body::new(scratch.request.framing);
    let mut fed = scratch.request.head_len;
    loop {
        fed += body.feed(buffer.bytes().get(fed..).unwrap_or(&[])).map_err(|_| Failure::BadBody)?;
        if body.is_complete() || buffer.len() >= CAPACITY {
            return Ok(());
        }
        let buffer = buffer.grow().ok_or(Failure::NoMemory)?;
        buffer.compact();
        let most = CAPACITY - buffer.len();
        let room = buffer.room_for(most);
        if room.is_empty() {
            return Ok(());
        }
        match client.link.try_read(room) {
            Io::Done(count) => {
                buffer.filled(count);
                scratch.record.bytes_in += count as u64;
                continue;
            }
            Io::Eof if !client.h2 => return Err(Failure::BodyCut),
            Io::Eof | Io::Failed(_) => return Err(Failure::ClientGone),
            Io::Blocked => {}
        }
        client.link.want_read();
        worker.reactor.wait(deadline_ms).await.map_err(|stop| match stop {
            Stop::TimedOut => Failure::BodyTimeout,
            Stop::Killed => Failure::Killed,
        })?;
    }
}
