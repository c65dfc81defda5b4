//! The body behind the answer to a HEAD that a rule has sent on with another method: the client must not get
//! it, and the connection carries the next request once it has come; before that the answer does not go
//! on, so that the client's next request finds the connection free. In: bytes of the server. Out: whether the
//! connection can be used again.

use crate::buffer::Buffer;
use crate::h1::response::Response;
use crate::h1::{Body, Framing};
use crate::link::Link;
use crate::reactor::Io;
use crate::worker::Worker;

/// More than this is not waited for: the connection ends.
const SKIPPED_AT_MOST: usize = 1 << 20;
/// Nor longer than this.
const WAITED_AT_MOST_MS: u64 = 1_000;

/// Takes what has come of the body out of `down`, which holds the head at its start. None: its end is
/// that of the connection, or is not to be found.
pub fn begin(response: &Response, down: &mut Buffer) -> Option<Box<Body>> {
    let mut body = Body::new(response.framing_with_body);
    let rest = down.bytes().get(response.head_len..).unwrap_or(&[]);
    let whole = body.feed(rest).is_ok_and(|taken| taken == rest.len());
    down.truncate(response.head_len);
    (whole && response.framing_with_body != Framing::UntilClose).then(|| Box::new(body))
}

/// Reads the rest; whether it came.
pub async fn skip(worker: &'static Worker, server: &Link, mut body: Body) -> bool {
    let deadline_ms = worker.reactor.now_ms() + WAITED_AT_MOST_MS;
    let (mut skipped, mut buffer) = (0, None);
    while !body.is_complete() {
        let Some(room) = buffer.take().or_else(|| worker.buffers.get()) else { return false };
        let room = buffer.insert(room);
        room.clear();
        match server.try_read(room.room_for(SKIPPED_AT_MOST)) {
            Io::Done(count) => {
                room.filled(count);
                skipped += count;
                let fits = body.feed(room.bytes()).is_ok_and(|taken| taken == count);
                if !fits || skipped > SKIPPED_AT_MOST {
                    return false;
                }
            }
            Io::Blocked => {
                server.want_read();
                if worker.reactor.wait(deadline_ms).await.is_err() {
                    return false;
                }
            }
            Io::Eof | Io::Failed(_) => return false,
        }
    }
    true
}
