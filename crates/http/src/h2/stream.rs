//! One stream of a connection: bytes between its session, which speaks HTTP/1 as if the stream were a
//! connection of its own, and the multiplexer, which turns them into frames and back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::run_queue::{RunQueue, Waiter};
use crate::memory::SESSION_MEMORY;

/// Bytes that a session may write before the connection has taken any of them.
const QUEUE_AT_MOST: usize = 32 * 1024;
/// What all streams of a connection may have queued. Above it, and while memory is short, a stream has
/// room for little, so that a peer that opens many streams and reads none makes this side hold little.
const QUEUES_AT_MOST: usize = 256 * 1024;
const QUEUE_WHEN_SHORT: usize = 2 * 1024;

/// Memory that a direction keeps while it has no bytes.
const KEPT: usize = 1024;

/// What came of an attempt to read or to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamIo {
    /// So many bytes were moved.
    Done(usize),
    /// The peer has sent all that it will send.
    End,
    /// Nothing can be moved now: [`StreamHandle::wait`], then try again.
    Blocked,
    /// The stream was ended by the peer or with its connection, before the end of its bytes.
    Reset,
}

/// Bytes in one direction.
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
            if self.ended || self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        } else if self.start > 2 * QUEUE_AT_MOST {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

/// Marks the number of a stream that this side has opened and that the peer knows nothing of.
pub(super) const NOT_SENT: u32 = 1 << 31;

/// The multiplexer's side of a stream.
pub(super) struct Stream {
    id: Cell<u32>,
    queue: Rc<RunQueue>,
    /// From the multiplexer to the session.
    inbound: RefCell<Half>,
    /// From the session to the multiplexer.
    outbound: RefCell<Half>,
    /// It is in the queue of streams with news.
    is_ready: Cell<bool>,
    /// Who waits for this stream, if anybody does.
    waiter: Cell<Option<Waiter>>,
    /// The stream is over, however far it came.
    broken: Cell<bool>,
    /// The peer says that it has not begun with the request, which can go elsewhere.
    refused: Cell<bool>,
    /// The peer broke a rule on it.
    at_fault: Cell<bool>,
    session_ended: Cell<bool>,
    /// The session wants the peer to know that something was cut.
    cut: Cell<bool>,
    /// Bytes that the session has read since [`Self::take_read`].
    read: Cell<usize>,
    /// Bytes that the session may write however little room there is: the rest of a head, which goes on as a whole.
    head_room: Cell<usize>,
}

impl Stream {
    pub fn new(queue: &Rc<RunQueue>, id: u32) -> Rc<Stream> {
        Rc::new(Stream {
            id: Cell::new(id),
            queue: queue.clone(),
            inbound: RefCell::default(),
            outbound: RefCell::default(),
            is_ready: Cell::new(false),
            waiter: Cell::new(None),
            broken: Cell::new(false),
            refused: Cell::new(false),
            at_fault: Cell::new(false),
            session_ended: Cell::new(false),
            cut: Cell::new(false),
            read: Cell::new(0),
            head_room: Cell::new(0),
        })
    }

    /// Its number on the wire, or a number with [`NOT_SENT`] while nothing was sent on it.
    pub fn id(&self) -> u32 {
        self.id.get()
    }

    pub fn set_id(&self, id: u32) {
        self.id.set(id);
    }

    /// Puts the stream at the end of the queue of those with news, unless it is there already.
    pub fn mark_ready(self: &Rc<Self>) {
        if !self.queue.is_closed() && !self.is_ready.replace(true) {
            self.queue.push_ready(self.clone());
        }
    }

    pub fn unmark_ready(&self) {
        self.is_ready.set(false);
    }

    fn wake_session(&self) {
        if let Some(waiter) = self.waiter.take() {
            self.queue.push_wake(waiter);
        }
    }

    /// Gives the session bytes, appended by `write`.
    pub fn deliver(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut half = self.inbound.borrow_mut();
        let before = half.bytes.len();
        write(&mut half.bytes);
        self.queue.take(half.bytes.len() - before);
        drop(half);
        self.wake_session();
    }

    /// The session gets no more bytes.
    pub fn end(&self) {
        self.inbound.borrow_mut().ended = true;
        self.wake_session();
    }

    /// The stream is over. `refused`: the peer says that it has not begun with the request.
    pub fn break_off(&self, refused: bool) {
        self.broken.set(true);
        self.refused.set(refused);
        self.wake_session();
    }

    /// The stream is over because the peer broke a rule on it.
    pub fn break_for_fault(&self) {
        self.at_fault.set(true);
        self.break_off(false);
    }

    /// Shows what the session has written, and whether that is all of it; `take` says how much it used.
    pub fn collect<T>(&self, take: impl FnOnce(&[u8], bool) -> (usize, T)) -> T {
        let mut half = self.outbound.borrow_mut();
        let ended = half.ended || self.session_ended.get();
        let (count, result) = take(half.pending(), ended);
        half.consume(count);
        drop(half);
        if count > 0 {
            self.head_room.set(0);
            self.queue.give_back(count);
            self.queue.unqueue(count);
            self.wake_session();
        }
        result
    }

    /// How many bytes the session can write now.
    fn room(&self) -> usize {
        let roomy = self.queue.queued() < QUEUES_AT_MOST && !self.queue.memory().is_short();
        let most = if roomy { QUEUE_AT_MOST } else { QUEUE_WHEN_SHORT };
        most.max(self.head_room.get()).saturating_sub(self.outbound.borrow().pending().len())
    }

    /// Has the session go on with a head that is longer than what it may write: nothing of it can be sent before
    /// its end has come. The session holds it already, so that it is bounded.
    pub fn make_room_for_head(&self) {
        if self.room() > 0 {
            return;
        }
        let pending = self.outbound.borrow();
        if memchr::memmem::find(pending.pending(), b"\r\n\r\n").is_none() {
            self.head_room.set(2 * pending.pending().len());
            drop(pending);
            self.wake_session();
        }
    }

    /// Whether bytes of the session wait for the multiplexer.
    pub fn has_outbound(&self) -> bool {
        !self.outbound.borrow().pending().is_empty()
    }

    /// Bytes that the session has read since this was asked last.
    pub fn take_read(&self) -> usize {
        self.read.replace(0)
    }

    /// The session has read everything there was.
    pub fn is_drained(&self) -> bool {
        self.inbound.borrow().pending().is_empty()
    }

    /// Nobody reads or writes this stream any more.
    pub fn session_has_ended(&self) -> bool {
        self.session_ended.get()
    }

    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let outbound = self.outbound.get_mut().pending().len();
        self.queue.give_back(outbound + self.inbound.get_mut().pending().len());
        self.queue.unqueue(outbound);
    }
}

/// The session's side of a stream. Dropping it ends the stream.
///
/// After each call that changes something, and after [`Self::close`], the caller asks
/// [`Self::take_notice`] whether it has to wake the connection's driver.
pub struct StreamHandle(Rc<Stream>);

impl StreamHandle {
    pub(super) fn new(stream: Rc<Stream>) -> StreamHandle {
        stream.queue.session_begins();
        stream.queue.take(SESSION_MEMORY);
        StreamHandle(stream)
    }

    /// Reads what the peer sent, as HTTP/1.
    pub fn read(&self, buffer: &mut [u8]) -> StreamIo {
        let stream = &self.0;
        let mut half = stream.inbound.borrow_mut();
        let pending = half.pending();
        if pending.is_empty() {
            return match (half.ended, stream.broken.get()) {
                (true, _) => StreamIo::End,
                (false, true) => StreamIo::Reset,
                (false, false) => StreamIo::Blocked,
            };
        }
        let count = pending.len().min(buffer.len());
        buffer[..count].copy_from_slice(&pending[..count]);
        half.consume(count);
        drop(half);
        stream.queue.give_back(count);
        stream.read.set(stream.read.get() + count);
        stream.mark_ready();
        StreamIo::Done(count)
    }

    /// Writes HTTP/1 for the peer, as much as there is room for.
    pub fn write(&self, bytes: &[u8]) -> StreamIo {
        let stream = &self.0;
        if stream.broken.get() {
            return StreamIo::Reset;
        }
        let room = self.room();
        if room == 0 {
            return StreamIo::Blocked;
        }
        let count = bytes.len().min(room);
        stream.outbound.borrow_mut().bytes.extend_from_slice(&bytes[..count]);
        stream.queue.take(count);
        stream.queue.queue(count);
        stream.mark_ready();
        StreamIo::Done(count)
    }

    /// How many bytes can be written now.
    pub fn room(&self) -> usize {
        self.0.room()
    }

    /// Whether the connection's driver has to be woken for what was done; true once until it has looked.
    pub fn take_notice(&self) -> bool {
        self.0.queue.take_notice()
    }

    /// Names whom to wake when the stream has news: bytes, room, or its end.
    pub fn wait(&self, waiter: Waiter) {
        self.0.waiter.set(Some(waiter));
    }

    /// Whether a read would not be [`StreamIo::Blocked`].
    pub fn readable(&self) -> bool {
        let half = self.0.inbound.borrow();
        !half.pending().is_empty() || half.ended || self.0.broken.get()
    }

    /// The stream was ended by the peer or with its connection.
    pub fn is_broken(&self) -> bool {
        self.0.broken.get()
    }

    /// The peer says that it has not begun with the request: it can be sent elsewhere.
    pub fn is_refused(&self) -> bool {
        self.0.refused.get()
    }

    /// The peer broke a rule on it, for which it was reset from here.
    pub fn is_at_fault(&self) -> bool {
        self.0.at_fault.get()
    }

    /// Nothing more will be written.
    pub fn end_writes(&self) {
        self.0.outbound.borrow_mut().ended = true;
        self.0.mark_ready();
    }

    /// Makes the end of the session a reset of the stream: something was cut.
    pub fn reset_on_close(&self) {
        self.0.cut.set(true);
    }

    /// Ends the session. What it wrote is still sent.
    pub fn close(&self) {
        if !self.0.session_ended.replace(true) {
            self.0.queue.session_ends();
            self.0.queue.give_back(SESSION_MEMORY);
            self.0.mark_ready();
        }
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.close();
    }
}
