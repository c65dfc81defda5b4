//! What the streams of one connection share: which of them have news for the multiplexer, which
//! sessions have news from it, and how much memory all of them hold.
//!
//! Nothing is called back. The driver of the connection asks for the sessions to wake after each call
//! of the multiplexer, and is told by the call of a session that it has to look itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::stream::Stream;
use crate::memory::MemoryBudget;

/// The driver's name for whoever waits for a stream: a task, for example.
pub type Waiter = u32;

pub(super) struct RunQueue {
    ready: RefCell<VecDeque<Rc<Stream>>>,
    wakes: RefCell<VecDeque<Waiter>>,
    /// The driver will look without being told.
    notified: Cell<bool>,
    /// The connection is over: no stream is served any more.
    closed: Cell<bool>,
    sessions: Cell<usize>,
    /// Bytes that sessions have written and that are not yet in frames.
    queued: Cell<usize>,
    memory: Rc<MemoryBudget>,
    /// What this connection has taken of it.
    held: Cell<usize>,
}

impl RunQueue {
    pub fn new(memory: Rc<MemoryBudget>) -> Rc<RunQueue> {
        Rc::new(RunQueue {
            ready: RefCell::default(),
            wakes: RefCell::default(),
            notified: Cell::new(true),
            closed: Cell::new(false),
            sessions: Cell::new(0),
            queued: Cell::new(0),
            memory,
            held: Cell::new(0),
        })
    }

    pub fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// Counts bytes that a stream has taken.
    pub fn take(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
        self.memory.take(bytes);
    }

    /// Counts bytes that a stream has given back.
    pub fn give_back(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
        self.memory.give_back(bytes);
    }

    /// The connection holds more than its share of memory that is short: it gets no more streams.
    pub fn is_over_its_share(&self) -> bool {
        self.held.get() > self.memory.share()
    }

    /// From now on the next news of a session is one that the driver has to be told of.
    pub fn arm(&self) {
        self.notified.set(false);
    }

    /// Whether the driver has to be told; true once after each [`Self::arm`].
    pub fn take_notice(&self) -> bool {
        !self.closed.get() && !self.notified.replace(true)
    }

    /// Serves no stream any more. Streams and their connection hold each other no longer.
    pub fn close(&self) {
        self.closed.set(true);
        let ready = std::mem::take(&mut *self.ready.borrow_mut());
        drop(ready);
    }

    pub fn push_ready(&self, stream: Rc<Stream>) {
        self.ready.borrow_mut().push_back(stream);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub fn pop_ready(&self) -> Option<Rc<Stream>> {
        let stream = self.ready.borrow_mut().pop_front()?;
        stream.unmark_ready();
        Some(stream)
    }

    pub fn ready_count(&self) -> usize {
        self.ready.borrow().len()
    }

    pub fn push_wake(&self, waiter: Waiter) {
        self.wakes.borrow_mut().push_back(waiter);
    }

    pub fn pop_wake(&self) -> Option<Waiter> {
        self.wakes.borrow_mut().pop_front()
    }

    pub fn wake_count(&self) -> usize {
        self.wakes.borrow().len()
    }

    pub fn session_begins(&self) {
        self.sessions.set(self.sessions.get() + 1);
    }

    pub fn session_ends(&self) {
        self.sessions.set(self.sessions.get() - 1);
    }

    /// Sessions that hold a stream.
    pub fn sessions(&self) -> usize {
        self.sessions.get()
    }

    pub fn queue(&self, bytes: usize) {
        self.queued.set(self.queued.get() + bytes);
    }

    pub fn unqueue(&self, bytes: usize) {
        self.queued.set(self.queued.get() - bytes);
    }

    pub fn queued(&self) -> usize {
        self.queued.get()
    }
}
