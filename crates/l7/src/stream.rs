//! A stream inside a connection that many share: to its session it is a connection of its own,
//! which speaks HTTP/1; the connection's task turns that into frames and back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use rustix::io::Errno;

use crate::buffer::BufferPool;
use crate::reactor::{Io, Loop};

/// Bytes that a session may write ahead of what the connection has taken.
const AHEAD: usize = 32 * 1024;
/// What all streams of a connection may have ahead; above it, and while memory is short, each has only
/// a little, so that a peer that opens many streams and reads none holds little memory.
const AHEAD_OF_ALL: usize = 256 * 1024;
const LITTLE: usize = 2 * 1024;

/// Memory that a direction keeps while it has no bytes.
const KEPT: usize = 4 * 1024;

/// Memory of a stream's session beside its buffers: its task, its parsed head, what will be logged.
const SESSION: usize = 8 * 1024;

/// What the streams of a connection tell its task.
pub struct Signal {
    reactor: Loop,
    task: Cell<u32>,
    awake: Cell<bool>,
    ready: RefCell<VecDeque<Rc<Stream>>>,
    /// The connection is over: nobody looks any more.
    closed: Cell<bool>,
    /// Streams whose sessions still run.
    alive: Cell<usize>,
    /// Bytes that sessions have written and the connection has not taken.
    ahead: Cell<usize>,
    /// Where the bytes that streams hold are counted.
    memory: Cell<Option<&'static BufferPool>>,
}

impl Signal {
    pub fn new(reactor: Loop) -> Rc<Signal> {
        Rc::new(Signal {
            reactor,
            task: Cell::new(u32::MAX),
            awake: Cell::new(true),
            ready: RefCell::default(),
            closed: Cell::new(false),
            alive: Cell::new(0),
            ahead: Cell::new(0),
            memory: Cell::new(None),
        })
    }

    /// Counts the bytes of streams among those of a loop's buffers.
    pub fn set_memory(&self, memory: &'static BufferPool) {
        self.memory.set(Some(memory));
    }

    /// No stream can be taken on.
    pub fn is_out_of_memory(&self) -> bool {
        self.memory.get().is_some_and(|memory| memory.is_full_for_new())
    }

    fn count(&self, more: usize, less: usize) {
        if let Some(memory) = self.memory.get() {
            memory.count_streams(more, less);
        }
    }

    /// The task to wake when a stream has news.
    pub fn set_task(&self, task: u32) {
        self.task.set(task);
    }

    /// The task is about to look: news from now on wake it again.
    pub fn look(&self) {
        self.awake.set(false);
    }

    /// The end: streams and their connection hold each other no longer.
    pub fn close(&self) {
        self.closed.set(true);
        let listed = std::mem::take(&mut *self.ready.borrow_mut());
        drop(listed);
    }

    pub fn wake(&self) {
        if !self.closed.get() && !self.awake.replace(true) {
            self.reactor.wake(self.task.get());
        }
    }

    /// A stream that has news; each is listed once.
    pub fn next(&self) -> Option<Rc<Stream>> {
        let stream = self.ready.borrow_mut().pop_front()?;
        stream.listed.set(false);
        Some(stream)
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    pub fn alive(&self) -> usize {
        self.alive.get()
    }

    #[cfg(test)]
    pub fn ahead(&self) -> usize {
        self.ahead.get()
    }
}

/// Bytes one way.
#[derive(Default)]
struct Half {
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Half {
    fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        } else if self.start > 2 * AHEAD {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

pub struct Stream {
    pub id: u32,
    signal: Rc<Signal>,
    /// To the session.
    inward: RefCell<Half>,
    /// From the session.
    outward: RefCell<Half>,
    listed: Cell<bool>,
    /// The session's task waits for this stream.
    waits: Cell<bool>,
    task: Cell<u32>,
    /// The stream is over, however far it came.
    broken: Cell<bool>,
    /// The peer says that it has done nothing: the request can go elsewhere.
    untouched: Cell<bool>,
    session_gone: Cell<bool>,
    cut: Cell<bool>,
    consumed: Cell<usize>,
}

impl Stream {
    pub fn new(signal: &Rc<Signal>, id: u32) -> Rc<Stream> {
        Rc::new(Stream {
            id,
            signal: signal.clone(),
            inward: RefCell::default(),
            outward: RefCell::default(),
            listed: Cell::new(false),
            waits: Cell::new(false),
            task: Cell::new(u32::MAX),
            broken: Cell::new(false),
            untouched: Cell::new(false),
            session_gone: Cell::new(false),
            cut: Cell::new(false),
            consumed: Cell::new(0),
        })
    }

    fn note(self: &Rc<Self>) {
        self.list();
        self.signal.wake();
    }

    /// Puts the stream at the end of those that have news.
    pub fn list(self: &Rc<Self>) {
        if !self.signal.closed.get() && !self.listed.replace(true) {
            self.signal.ready.borrow_mut().push_back(self.clone());
        }
    }

    fn wake_session(&self) {
        if self.waits.replace(false) {
            self.signal.reactor.wake(self.task.get());
        }
    }

    // The connection's side.

    /// Gives the session bytes, written by `write`.
    pub fn deliver(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut half = self.inward.borrow_mut();
        let before = half.bytes.len();
        write(&mut half.bytes);
        self.signal.count(half.bytes.len() - before, 0);
        drop(half);
        self.wake_session();
    }

    /// The session gets no more bytes.
    pub fn end(&self) {
        self.inward.borrow_mut().ended = true;
        self.wake_session();
    }

    pub fn break_off(&self, untouched: bool) {
        self.broken.set(true);
        self.untouched.set(untouched);
        self.wake_session();
    }

    /// Shows what the session has written, and whether that is all; `take` says how much of it
    /// was used.
    pub fn collect<T>(&self, take: impl FnOnce(&[u8], bool) -> (usize, T)) -> T {
        let mut half = self.outward.borrow_mut();
        let ended = half.ended || self.session_gone.get();
        let (count, result) = take(half.pending(), ended);
        half.consume(count);
        drop(half);
        if count > 0 {
            self.signal.count(0, count);
            self.signal.ahead.set(self.signal.ahead.get().saturating_sub(count));
            self.wake_session();
        }
        result
    }

    /// Bytes that the session has read since this was asked last.
    pub fn consumed(&self) -> usize {
        self.consumed.replace(0)
    }

    /// Nothing waits for the session to read it.
    pub fn is_drained(&self) -> bool {
        self.inward.borrow().pending().is_empty()
    }

    pub fn session_is_gone(&self) -> bool {
        self.session_gone.get()
    }

    /// The session wants the peer to know that something was cut.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = self.outward.get_mut().pending().len();
        self.signal.count(0, left + self.inward.get_mut().pending().len());
        self.signal.ahead.set(self.signal.ahead.get().saturating_sub(left));
    }
}

/// The session's side. Dropping it ends the stream.
pub struct StreamLink(Rc<Stream>);

impl StreamLink {
    pub fn new(stream: Rc<Stream>) -> StreamLink {
        stream.signal.alive.set(stream.signal.alive.get() + 1);
        stream.signal.count(SESSION, 0);
        StreamLink(stream)
    }

    pub fn try_read(&self, buffer: &mut [u8]) -> Io {
        let stream = &self.0;
        let mut half = stream.inward.borrow_mut();
        let pending = half.pending();
        if pending.is_empty() {
            return match (half.ended, stream.broken.get()) {
                (true, _) => Io::Eof,
                (false, true) => Io::Failed(Errno::CONNRESET),
                (false, false) => Io::Blocked,
            };
        }
        let count = pending.len().min(buffer.len());
        buffer[..count].copy_from_slice(&pending[..count]);
        half.consume(count);
        drop(half);
        stream.signal.count(0, count);
        stream.consumed.set(stream.consumed.get() + count);
        stream.note();
        Io::Done(count)
    }

    pub fn try_write(&self, bytes: &[u8]) -> Io {
        let stream = &self.0;
        if stream.broken.get() {
            return Io::Failed(Errno::PIPE);
        }
        let room = self.room();
        if room == 0 {
            return Io::Blocked;
        }
        let mut half = stream.outward.borrow_mut();
        let count = bytes.len().min(room);
        half.bytes.extend_from_slice(&bytes[..count]);
        drop(half);
        stream.signal.count(count, 0);
        stream.signal.ahead.set(stream.signal.ahead.get() + count);
        stream.note();
        Io::Done(count)
    }

    /// How many bytes can be written now.
    pub fn room(&self) -> usize {
        let stream = &self.0;
        let short = stream.signal.memory.get().is_some_and(|memory| memory.is_short());
        let most = if stream.signal.ahead.get() < AHEAD_OF_ALL && !short { AHEAD } else { LITTLE };
        most.saturating_sub(stream.outward.borrow().pending().len())
    }

    pub fn want(&self) {
        self.0.task.set(self.0.signal.reactor.current_task());
        self.0.waits.set(true);
    }

    pub fn readable(&self) -> bool {
        let half = self.0.inward.borrow();
        !half.pending().is_empty() || half.ended || self.0.broken.get()
    }

    pub fn is_broken(&self) -> bool {
        self.0.broken.get()
    }

    pub fn is_untouched(&self) -> bool {
        self.0.untouched.get()
    }

    pub fn shutdown_write(&self) {
        self.0.outward.borrow_mut().ended = true;
        self.0.note();
    }

    pub fn reset_on_close(&self) {
        self.0.cut.set(true);
    }
}

impl Drop for StreamLink {
    fn drop(&mut self) {
        self.0.signal.alive.set(self.0.signal.alive.get() - 1);
        self.0.signal.count(0, SESSION);
        self.0.session_gone.set(true);
        self.0.note();
    }
}
