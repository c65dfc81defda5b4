//! Bytes both ways between two connections: TCP services and upgraded HTTP.
//!
//! Small amounts pass through a buffer, held only while it has bytes; a direction that fills its
//! reads moves on to splice, where the kernel hands pages over. Half-closes are passed on.

use super::ServiceView;
use super::account::count_bytes;
use super::flow::STEPS_A_TURN;
use super::session::Session;
use crate::buffer::Buffer;
use crate::link::Link;
use crate::log::{Cause, Record};
use crate::reactor::{Io, Pipe, Stop};
use crate::worker::Worker;

/// Is shown bytes on their way.
pub type OnFirstBytes<'a> = &'a dyn Fn(&[u8]);

pub struct Sides<'a> {
    pub client: &'a Link,
    pub server: &'a Link,
    pub client_idle_ms: u64,
    pub server_idle_ms: u64,
    /// Is shown the server's first bytes.
    pub first_answer: Option<OnFirstBytes<'a>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// What ended it, `None` for an orderly end.
    pub cause: Option<Cause>,
}

/// How often bytes are counted while they flow without a pause.
const COUNT_MS: u64 = 250;

/// Where bytes are counted as they flow.
pub struct Counts<'a> {
    pub view: &'a ServiceView,
    pub record: &'a mut Record,
}

/// Full reads in a row after which a direction counts as bulk.
const BULK_AFTER: u8 = 2;

#[derive(Default)]
struct Direction {
    buffer: Option<Buffer>,
    pipe: Option<Pipe>,
    full_reads: u8,
    eof: bool,
    /// Reading has failed behind the bytes that are left.
    failed: bool,
    shut: bool,
    total: u64,
}

enum Progress {
    Moved,
    Blocked,
    /// Reading or writing failed: which side of this direction.
    ReadFailed,
    WriteFailed,
}

/// Relays until both sides have ended, one fails, or both are silent for too long. `up` and
/// `down` are bytes that already came from the client and from the server.
pub async fn run(
    worker: &Worker,
    session: &Session,
    sides: Sides<'_>,
    counts: Counts<'_>,
    up: Option<Buffer>,
    down: Option<Buffer>,
) -> Ended {
    let mut up = Direction { buffer: up, ..Direction::default() };
    let mut down = Direction { buffer: down, ..Direction::default() };
    let mut moved_ms = worker.reactor.now_ms();
    let Counts { view, record } = counts;
    let (bytes_in, bytes_out, mut counted_ms) = (record.bytes_in, record.bytes_out, moved_ms);
    let mut steps = 0;
    let mut first_answer = sides.first_answer;
    let cause = loop {
        steps += 1;
        if steps % STEPS_A_TURN == 0 && worker.reactor.breathe().await.is_err() {
            break Some(Cause::Killed);
        }
        let up_step = up.step(worker, sides.client, sides.server, down.shut);
        let down_step = down.step(worker, sides.server, sides.client, up.shut);
        if let Some(buffer) = down.buffer.as_ref().filter(|b| !b.is_empty())
            && let Some(show) = first_answer.take()
        {
            show(buffer.bytes());
        }
        (record.bytes_in, record.bytes_out) = (bytes_in + up.total, bytes_out + down.total);
        session.passes(record);
        if worker.reactor.now_ms() >= counted_ms + COUNT_MS {
            counted_ms = worker.reactor.now_ms();
            count_bytes(worker, view, record);
        }
        match (&up_step, &down_step) {
            (Progress::ReadFailed, _) | (_, Progress::WriteFailed) => break Some(sides.client.why_gone()),
            (Progress::WriteFailed, _) | (_, Progress::ReadFailed) => break Some(Cause::ServerAbort),
            (Progress::Blocked, Progress::Blocked) => {}
            _ => {
                moved_ms = worker.reactor.now_ms();
                continue;
            }
        }
        if up.shut && down.shut {
            break None;
        }
        count_bytes(worker, view, record);
        let idle_ms = sides.client_idle_ms.min(sides.server_idle_ms);
        match worker.reactor.wait(moved_ms + idle_ms).await {
            Ok(()) => {}
            Err(Stop::Killed) => break Some(Cause::Killed),
            Err(Stop::TimedOut) if sides.client_idle_ms <= sides.server_idle_ms => {
                break Some(Cause::ClientTimeout);
            }
            Err(Stop::TimedOut) => break Some(Cause::ServerTimeout),
        }
    };
    if matches!(cause, Some(Cause::ClientAbort | Cause::ServerAbort | Cause::Proxy)) {
        up.push(sides.server);
        down.push(sides.client);
        // Pass the failure on as what it was.
        sides.client.reset_on_close();
        sides.server.reset_on_close();
    }
    for direction in [&mut up, &mut down] {
        if let Some(pipe) = direction.pipe.take() {
            worker.give_pipe(pipe);
        }
    }
    Ended { cause }
}

impl Direction {
    /// `last`: the other direction has ended, so that the connections close right after the end of this one.
    fn step(&mut self, worker: &Worker, from: &Link, to: &Link, last: bool) -> Progress {
        if self.shut {
            return Progress::Blocked;
        }
        if let Some(pipe) = self.pipe.as_mut().filter(|p| p.held() > 0) {
            let written = to.splice_from(pipe);
            return self.wrote(written, to);
        }
        if let Some(buffer) = self.buffer.as_mut().filter(|b| !b.is_empty()) {
            let written = match self.eof {
                true => to.try_write_last(buffer.bytes()),
                false => to.try_write(buffer.bytes()),
            };
            if let Io::Done(count) = written {
                buffer.consume(count);
            }
            return self.wrote(written, to);
        }
        if self.failed {
            return Progress::ReadFailed;
        }
        if self.eof {
            self.buffer = None;
            self.shut = true;
            // Closing a socket from which all was read is the same end.
            if !last || to.raw().is_none() {
                to.shutdown_write();
            }
            return Progress::Moved;
        }
        if !from.readable() {
            return self.rest(worker, from);
        }
        if self.full_reads >= BULK_AFTER && from.raw().is_some() && to.raw().is_some() {
            if self.pipe.is_none() {
                self.pipe = worker.take_pipe();
            }
            if let Some(pipe) = &mut self.pipe {
                let read = from.splice_into(pipe, Pipe::SIZE);
                return self.read(worker, read, from);
            }
        }
        let Some(most) = to.takes() else {
            self.buffer = None;
            to.want_write();
            return Progress::Blocked;
        };
        if self.buffer.is_none() {
            self.buffer = worker.buffers.get();
        }
        let Some(buffer) = &mut self.buffer else { return Progress::ReadFailed };
        let read = from.try_read(buffer.room_for(most));
        if let Io::Done(count) = read {
            buffer.filled(count);
            self.full_reads = if buffer.is_full() { self.full_reads + 1 } else { 0 };
            if from.is_hung_up() && from.raw().is_some() {
                self.look_for_end(from);
            }
        }
        self.read(worker, read, from)
    }

    /// The peer has sent all: its end, where these are its last bytes, goes on together with them.
    fn look_for_end(&mut self, from: &Link) {
        let Some(buffer) = self.buffer.as_mut().filter(|b| !b.is_full()) else { return };
        match from.try_read(buffer.room()) {
            Io::Done(count) => buffer.filled(count),
            Io::Eof => self.eof = true,
            Io::Failed(_) => self.failed = true,
            Io::Blocked => {}
        }
    }

    /// Last bytes were sent, and their end will not be.
    fn push(&self, to: &Link) {
        if let Some(sock) = to.raw().filter(|_| self.eof && !self.shut) {
            sock.push();
        }
    }

    fn wrote(&mut self, written: Io, to: &Link) -> Progress {
        match written {
            Io::Done(count) => {
                self.total += count as u64;
                Progress::Moved
            }
            Io::Blocked => {
                to.want_write();
                Progress::Blocked
            }
            Io::Eof | Io::Failed(_) => Progress::WriteFailed,
        }
    }

    fn read(&mut self, worker: &Worker, read: Io, from: &Link) -> Progress {
        match read {
            Io::Done(_) => Progress::Moved,
            Io::Eof => {
                self.eof = true;
                Progress::Moved
            }
            Io::Blocked => self.rest(worker, from),
            Io::Failed(_) => Progress::ReadFailed,
        }
    }

    /// Nothing to move: holds no memory while waiting.
    fn rest(&mut self, worker: &Worker, from: &Link) -> Progress {
        self.buffer = None;
        if let Some(pipe) = self.pipe.take_if(|p| p.held() == 0) {
            worker.give_pipe(pipe);
        }
        from.want_read();
        Progress::Blocked
    }
}
