//! One event loop: edge-triggered epoll, tasks, timers. One a thread, nothing shared.
//!
//! A task is a future that waits for nothing but [`Reactor::wait`]: it tries its I/O, says with
//! [`Sock::want_read`] or [`Sock::want_write`] what would move it on, and waits. Any wake-up is
//! only a reason to try again, so a stale one does no harm.
//!
//! In: file descriptors, deadlines. Out: tasks that run. Never: protocol, policy, locks.

mod sock;
mod wheel;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};
use slab::Slab;

pub use sock::{Io, Origin, Pipe, Sock, Watch, keep_alive, user_timeout};
use wheel::{Target, Wheel};

/// The event loop of this thread; it lives as long as the process.
pub type Loop = &'static Reactor;

pub const NEVER: u64 = u64::MAX;
const NONE: u32 = u32::MAX;

pub struct Reactor {
    epoll: OwnedFd,
    slots: RefCell<Slab<Slot>>,
    tasks: RefCell<Slab<Task>>,
    woken: RefCell<VecDeque<u32>>,
    wheel: RefCell<Wheel>,
    clock: Cell<Clock>,
    current: Cell<u32>,
    generation: Cell<u32>,
    /// Turns in which the kernel told of everything that had happened.
    looks: Cell<u64>,
}

/// The time as of the last wake-up of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Milliseconds of the monotonic clock, the same in every process of this boot.
    pub mono_ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// Who is told about events of a file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The task that last said it wants to read or write.
    Task,
    /// The loop's user, with a number of its own.
    Listener(u32),
    IdleClient(u32),
    IdleServer(u32),
    Mailbox,
}

/// Something the loop's user must handle itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Ready(Owner),
    /// The deadline set with [`Sock::set_deadline`] has passed.
    Deadline(Owner),
}

/// Why a wait ended without anything to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    TimedOut,
    /// Someone called [`Reactor::kill`].
    Killed,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline_ms: u64,
    /// When the wheel will look at it; never later than the deadline.
    armed_ms: u64,
}

const IDLE_TIMER: Timer = Timer { deadline_ms: NEVER, armed_ms: NEVER };

struct Slot {
    generation: u32,
    readable: bool,
    writable: bool,
    /// The peer will send no more, or the connection is broken: reading tells.
    hung_up: bool,
    broken: bool,
    registered: bool,
    reader: u32,
    writer: u32,
    owner: Owner,
    timer: Timer,
}

struct Task {
    generation: u32,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    killed: bool,
    timer: Timer,
}

impl Reactor {
    /// A loop for this thread. It is never freed: its sockets and tasks refer to it for ever.
    pub fn leak() -> std::io::Result<Loop> {
        let reactor = Reactor {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: RefCell::default(),
            tasks: RefCell::default(),
            woken: RefCell::default(),
            wheel: RefCell::new(Wheel::new(now().mono_ms)),
            clock: Cell::new(now()),
            current: Cell::new(NONE),
            generation: Cell::new(0),
            looks: Cell::new(0),
        };
        Ok(Box::leak(Box::new(reactor)))
    }

    pub fn now(&self) -> Clock {
        self.clock.get()
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.get().mono_ms
    }

    /// Adds a task; it first runs when woken.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> u32 {
        let generation = self.next_generation();
        let task = Task { generation, future: Some(Box::pin(future)), killed: false, timer: IDLE_TIMER };
        self.tasks.borrow_mut().insert(task) as u32
    }

    pub fn current_task(&self) -> u32 {
        self.current.get()
    }

    /// Runs a task soon, in this turn of the loop.
    pub fn wake(&self, task: u32) {
        self.woken.borrow_mut().push_back(task);
    }

    /// Makes every present and later wait of a task fail, until [`Self::forgive`].
    pub fn kill(&self, task: u32) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(task as usize) {
            task.killed = true;
        }
        self.wake(task);
    }

    pub fn forgive(&self, task: u32) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(task as usize) {
            task.killed = false;
        }
    }

    /// Gives control back until something happens; the deadline is on the monotonic clock.
    pub fn wait(&self, deadline_ms: u64) -> Wait<'_> {
        Wait { reactor: self, deadline_ms, waited: false }
    }

    /// Lets the other tasks run, for one that always finds something to do.
    pub async fn breathe(&self) -> Result<(), Stop> {
        self.wake(self.current.get());
        self.wait(NEVER).await
    }

    /// Grows with each turn in which the kernel has told of everything: a socket that was silent at an
    /// earlier number, and that no event has come for, was still silent when this turn began.
    pub fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// Sleeps until something happens, at most `limit`, and runs the tasks concerned.
    /// `handle` gets what is not a task's business.
    pub fn turn(
        &self,
        events: &mut Vec<epoll::Event>,
        limit: Duration,
        mut handle: impl FnMut(Event),
    ) -> std::io::Result<()> {
        let now_ms = self.now_ms();
        let sleep_ms = match self.woken.borrow().is_empty() {
            true => self.wheel.borrow().next_ms().map_or(NEVER, |at| at.saturating_sub(now_ms)),
            false => 0,
        };
        let sleep = limit.min(Duration::from_millis(sleep_ms));
        let timeout =
            Timespec { tv_sec: sleep.as_secs() as _, tv_nsec: i64::from(sleep.subsec_nanos()) as _ };
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if events.len() < events.capacity() {
            self.looks.set(self.looks.get() + 1);
        }
        self.clock.set(now());
        for event in events.iter() {
            self.dispatch(event.data.u64(), event.flags, &mut handle);
        }
        self.expire(&mut handle);
        // Tasks woken by tasks run now; those that they wake run in the next turn.
        let count = self.woken.borrow().len();
        for _ in 0..count {
            let next = self.woken.borrow_mut().pop_front();
            if let Some(task) = next {
                self.run(task);
            }
        }
        Ok(())
    }

    fn dispatch(&self, token: u64, flags: epoll::EventFlags, handle: &mut impl FnMut(Event)) {
        use epoll::EventFlags as F;
        let (index, generation) = (token as u32, (token >> 32) as u32);
        let (owner, reader, writer) = {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(index as usize) else { return };
            if slot.generation != generation {
                return;
            }
            let broken = flags.intersects(F::HUP | F::ERR);
            slot.broken |= broken;
            slot.hung_up |= broken || flags.intersects(F::RDHUP);
            let reads = slot.hung_up || flags.intersects(F::IN);
            let writes = broken || flags.intersects(F::OUT);
            slot.readable |= reads;
            slot.writable |= writes;
            if slot.owner != Owner::Task {
                (slot.owner, NONE, NONE)
            } else {
                let reader = if reads { std::mem::replace(&mut slot.reader, NONE) } else { NONE };
                let writer = if writes { std::mem::replace(&mut slot.writer, NONE) } else { NONE };
                (slot.owner, reader, writer)
            }
        };
        if owner != Owner::Task {
            return handle(Event::Ready(owner));
        }
        if reader != NONE {
            self.run(reader);
        }
        if writer != NONE && writer != reader {
            self.run(writer);
        }
    }

    fn expire(&self, handle: &mut impl FnMut(Event)) {
        let now_ms = self.now_ms();
        let mut due = Vec::new();
        self.wheel.borrow_mut().advance(now_ms, &mut due);
        for entry in due {
            match entry.target {
                Target::Task(index) => {
                    let passed = match self.tasks.borrow_mut().get_mut(index as usize) {
                        Some(task) if task.generation == entry.generation => {
                            self.look_at(&mut task.timer, entry.target, entry.generation)
                        }
                        _ => false,
                    };
                    if passed {
                        self.run(index);
                    }
                }
                Target::Slot(index) => {
                    let passed = match self.slots.borrow_mut().get_mut(index as usize) {
                        Some(slot) if slot.generation == entry.generation => self
                            .look_at(&mut slot.timer, entry.target, entry.generation)
                            .then_some(slot.owner),
                        _ => None,
                    };
                    if let Some(owner) = passed.filter(|o| *o != Owner::Task) {
                        handle(Event::Deadline(owner));
                    }
                }
            }
        }
    }

    /// The wheel came to a timer: it has passed, or is armed anew for the rest of its time.
    fn look_at(&self, timer: &mut Timer, target: Target, generation: u32) -> bool {
        timer.armed_ms = NEVER;
        if timer.deadline_ms <= self.now_ms() {
            timer.deadline_ms = NEVER;
            return true;
        }
        self.arm(timer, target, generation);
        false
    }

    fn arm(&self, timer: &mut Timer, target: Target, generation: u32) {
        if timer.deadline_ms < timer.armed_ms {
            timer.armed_ms = self.wheel.borrow_mut().insert(timer.deadline_ms, target, generation);
        }
    }

    /// Polls one task. A panic ends that task alone.
    pub fn run(&self, index: u32) {
        let taken = self.tasks.borrow_mut().get_mut(index as usize).and_then(|t| t.future.take());
        let Some(mut future) = taken else { return };
        let outer = self.current.replace(index);
        let mut context = Context::from_waker(Waker::noop());
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        self.current.set(outer);
        match polled {
            Ok(Poll::Pending) => {
                if let Some(task) = self.tasks.borrow_mut().get_mut(index as usize) {
                    task.future = Some(future);
                }
            }
            // The panic's message is on standard error already.
            Ok(Poll::Ready(())) | Err(_) => {
                self.tasks.borrow_mut().try_remove(index as usize);
            }
        }
    }

    fn next_generation(&self) -> u32 {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.generation.get()
    }

    fn add_slot(&self, owner: Owner) -> u32 {
        let slot = Slot {
            generation: self.next_generation(),
            readable: true,
            writable: true,
            hung_up: false,
            broken: false,
            registered: false,
            reader: NONE,
            writer: NONE,
            owner,
            timer: IDLE_TIMER,
        };
        self.slots.borrow_mut().insert(slot) as u32
    }

    fn register(&self, index: u32, slot: &mut Slot, fd: BorrowedFd<'_>) {
        use epoll::EventFlags as F;
        if slot.registered {
            return;
        }
        slot.registered = true;
        let token = u64::from(index) | (u64::from(slot.generation) << 32);
        let both = F::IN | F::OUT | F::RDHUP | F::ET;
        let flags = match slot.owner {
            Owner::Listener(_) => F::IN,
            Owner::Mailbox => F::IN | F::ET,
            _ => both,
        };
        if epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags).is_err() {
            // Out of memory or watches: the connection is treated as broken, which ends it.
            (slot.broken, slot.hung_up, slot.readable, slot.writable) = (true, true, true, true);
        }
    }
}

/// Waits for a wake-up; see [`Reactor::wait`].
pub struct Wait<'a> {
    reactor: &'a Reactor,
    deadline_ms: u64,
    waited: bool,
}

impl Future for Wait<'_> {
    type Output = Result<(), Stop>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let reactor = self.reactor;
        let index = reactor.current.get();
        let mut tasks = reactor.tasks.borrow_mut();
        let Some(task) = tasks.get_mut(index as usize) else { return Poll::Ready(Err(Stop::Killed)) };
        if task.killed {
            return Poll::Ready(Err(Stop::Killed));
        }
        if self.deadline_ms <= reactor.now_ms() {
            return Poll::Ready(Err(Stop::TimedOut));
        }
        if self.waited {
            task.timer.deadline_ms = NEVER;
            return Poll::Ready(Ok(()));
        }
        self.waited = true;
        task.timer.deadline_ms = self.deadline_ms;
        let generation = task.generation;
        reactor.arm(&mut task.timer, Target::Task(index), generation);
        Poll::Pending
    }
}

/// The time now, of both clocks.
pub fn now() -> Clock {
    let millis = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
    };
    Clock { mono_ms: millis(ClockId::Monotonic), wall_ms: millis(ClockId::Realtime) }
}
