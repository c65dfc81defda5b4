//! Which real server a client goes to: persistence first, then the scheduler, then the queue.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Instant;

use evenkeel_balance::{Key, hash_address, hash_bytes, hash_flow, hash_sdbm};
use evenkeel_model::{Scheduler, SourceAddress};

use super::session::{Client, Session, State};
use super::{PoolRuntime, ServerRuntime, Waiter, persist};
use crate::h1::request::Request;
use crate::link::Link;
use crate::log::Record;
use crate::rdp;
use crate::reactor::Stop;
use crate::spec::{Notice, PoolSpec};
use crate::worker::Worker;

/// What is known of a client when a server is picked for it.
pub struct PickRequest {
    pub key: u64,
    /// The server that the client itself names, by a cookie or a token.
    pub named: Option<usize>,
    /// The client's entry in the pool's table.
    pub entry: Option<Key>,
    /// The server that knows the client by a connection.
    pub known_by: Option<u32>,
    /// Smaller waits less.
    pub priority: i16,
    /// Tried for this request already.
    pub avoid: Option<u32>,
}

/// A place on a server, given back when dropped.
pub struct Lease {
    pub server: Rc<ServerRuntime>,
    /// Where the server stood in the pool when the place was taken.
    index: usize,
    pool: Option<Rc<PoolRuntime>>,
    /// The pool's rules when the place was taken: an attempt follows them to its end.
    #[allow(clippy::redundant_allocation)]
    spec: Option<Rc<Arc<PoolSpec>>>,
    worker: &'static Worker,
    limited: bool,
    /// When it was taken, where the scheduler times answers.
    taken: Option<Instant>,
    /// The head of its answer came: whether that was a failure. What it counts for is known at its end.
    head: Cell<Option<bool>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum NoLease {
    /// No server of the pool can take a client.
    NoServer,
    QueueFull,
    QueueTimeout,
    /// The client has left.
    ClientGone,
    Killed,
}

enum Choice {
    Server {
        index: usize,
        persistent: bool,
    },
    /// Wait: for one server, or for any.
    Full(Option<u32>),
    None,
}

/// The hash that the pool's scheduler wants of a request; one without what is hashed goes anywhere.
pub fn key_of_request(
    worker: &Worker,
    pool: &PoolRuntime,
    client: SocketAddr,
    request: &Request,
    head: &[u8],
) -> u64 {
    let spec = pool.spec();
    let name = spec.pool.hash_key.as_bytes();
    let path_and_query = || {
        let whole = request.path(head);
        let end = memchr::memchr(b'?', whole).unwrap_or(whole.len());
        (&whole[..end], whole.get(end + 1..).unwrap_or_default())
    };
    let part = match spec.pool.scheduler {
        Scheduler::UriHash => Some(path_and_query().0),
        Scheduler::HeaderHash => {
            let named = request.fields.iter().find(|f| f.name.of(head).eq_ignore_ascii_case(name));
            named.map(|field| field.value.of(head))
        }
        Scheduler::QueryHash => query_value(path_and_query().1, name),
        Scheduler::CookieHash => request.cookie(head, name),
        _ => return key_of_client(pool, client),
    };
    let hash = if spec.pool.hash_modulo { hash_sdbm } else { hash_bytes };
    part.map_or_else(|| worker.random(), hash)
}

/// The hash of a connection whose first bytes were looked at.
pub fn key_of_first_bytes(pool: &PoolRuntime, client: SocketAddr, first: &[u8]) -> u64 {
    if pool.spec().pool.scheduler != Scheduler::RdpCookieHash {
        return key_of_client(pool, client);
    }
    let user = rdp::parse(first).unwrap_or_default().user;
    user.map_or_else(|| hash_address(client.ip()), |user| hash_bytes(&rdp::user_key(user)))
}

fn key_of_client(pool: &PoolRuntime, client: SocketAddr) -> u64 {
    match pool.spec().pool.scheduler {
        Scheduler::SourceHash => hash_address(client.ip()),
        Scheduler::Maglev => hash_flow(client),
        _ => 0,
    }
}

pub fn query_value<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut pairs = query.split(|b| *b == b'&');
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

/// Finds a place on a server, waiting in the queue when all are taken.
pub async fn lease(
    worker: &'static Worker,
    session: &Session,
    client: &Link,
    pool: &Rc<PoolRuntime>,
    wish: &PickRequest,
    queue_timeout_ms: u64,
    record: &mut Record,
) -> Result<Lease, NoLease> {
    let deadline_ms = worker.reactor.now_ms() + queue_timeout_ms;
    let mut queued = false;
    loop {
        let wanted = match choose(worker, pool, wish, queued) {
            Choice::None => return Err(NoLease::NoServer),
            Choice::Server { index, persistent } => {
                let Some(server) = pool.server(index) else { return Err(NoLease::NoServer) };
                let places = pool.places(&server, 1);
                let limited = places != 0;
                if !limited || server.reserve(places) {
                    persist::keep(pool, wish, &server, worker.reactor.now_ms());
                    let lease = Lease::new(worker, Some(pool), server, index, limited);
                    if queued && pool.grows() {
                        wake_suited(worker, pool);
                    }
                    return Ok(lease);
                }
                persistent.then_some(server.id)
            }
            Choice::Full(wanted) => wanted,
        };
        let waiting = pool.spec().waiting.load(Relaxed);
        if !queued {
            if waiting >= pool.spec().pool.max_queue {
                return Err(NoLease::QueueFull);
            }
            let ahead = |w: &&Waiter| w.server.is_some() && w.server == wanted;
            record.server_queue = pool.queue.borrow().iter().filter(ahead).count() as u32;
            record.pool_queue = if wanted.is_none() { waiting } else { 0 };
        }
        session.state.set(State::Queued);
        let joins_empty = !queued && pool.queue.borrow().is_empty();
        let place = Queued::join(worker, pool, wanted, wish.priority, queued);
        if !queued && pool.grows() {
            wake_suited(worker, pool);
        }
        queued = true;
        // Another loop may have freed a place just before it could see this client waiting:
        // looked at once more, now that it can.
        if joins_empty && has_place(pool, wanted) {
            continue;
        }
        client.want_read();
        let woken = worker.reactor.wait(deadline_ms).await;
        drop(place);
        let left = client.is_broken() || pool.spec().pool.abort_on_close && client.is_hung_up();
        let why = match woken {
            Ok(()) if left => NoLease::ClientGone,
            Ok(()) => continue,
            Err(Stop::TimedOut) => NoLease::QueueTimeout,
            Err(Stop::Killed) => NoLease::Killed,
        };
        // Whoever woke this client in the same moment meant the place for someone.
        if let Some(next) = pool.queue.borrow_mut().pop_front() {
            worker.reactor.wake(next.task);
        }
        return Err(why);
    }
}

fn choose(worker: &Worker, pool: &PoolRuntime, wish: &PickRequest, queued: bool) -> Choice {
    let known_by = wish.known_by.filter(|id| Some(*id) != wish.avoid).and_then(|id| pool.index_of(id));
    if let Some(index) = known_by.filter(|index| pool.goes_on(*index)) {
        return Choice::Server { index, persistent: true };
    }
    if let Some(index) = persistent_server(worker, pool, wish) {
        match pool.server(index) {
            Some(server) if Some(server.id) == wish.avoid => {}
            Some(server) if pool.is_full(&server, 1) => return Choice::Full(Some(server.id)),
            _ => return Choice::Server { index, persistent: true },
        }
    }
    if !queued && pool.queue.borrow().iter().any(|w| w.server.is_none() && w.priority <= wish.priority) {
        // First come, first served: a place that just became free is somebody's already.
        return Choice::Full(None);
    }
    let servers = pool.servers();
    let is_avoided = |index: usize| servers.get(index).is_some_and(|s| Some(s.id) == wish.avoid);
    let is_free = |index: usize| servers.get(index).is_some_and(|s| !pool.is_full(s, 1));
    let mut balancer = pool.balancer.borrow_mut();
    let random = worker.random();
    if balancer.takes_turns() {
        balancer.catch_up(pool.turn());
    }
    let picked = balancer
        .pick(wish.key, random, |i| is_free(i) && !is_avoided(i))
        // The server that just failed is better than none.
        .or_else(|| wish.avoid.and_then(|_| balancer.pick(wish.key, random, is_free)));
    // Changes that wait for the end of this turn may have left others to pick.
    let refreshed = picked.is_none() && balancer.refresh(worker.reactor.now_ms(), &mut 0);
    let picked =
        if refreshed { balancer.pick(wish.key, random, |i| is_free(i) && !is_avoided(i)) } else { picked };
    match picked {
        Some(index) => Choice::Server { index, persistent: false },
        None if balancer.has_candidates() => Choice::Full(None),
        None => Choice::None,
    }
}

/// Whether a client who waits for one server, or for any, could go ahead.
fn has_place(pool: &PoolRuntime, wanted: Option<u32>) -> bool {
    let (servers, balancer) = (pool.servers(), pool.balancer.borrow());
    balancer.servers().iter().enumerate().any(|(index, server)| {
        let Some(runtime) = servers.get(index) else { return false };
        let suits = match wanted {
            Some(only) => runtime.id == only,
            None => server.takes_new_clients(),
        };
        suits && !pool.is_full(runtime, 0)
    })
}

/// Where places grow with those who wait, one more of them may have made room for whoever has waited longest;
/// who goes ahead looks again for the next.
fn wake_suited(worker: &Worker, pool: &PoolRuntime) {
    let suited = pool.queue.borrow().iter().position(|waiter| has_place(pool, waiter.server));
    let first = suited.and_then(|at| pool.queue.borrow_mut().remove(at));
    first.into_iter().for_each(|waiter| worker.reactor.wake(waiter.task));
}

fn persistent_server(worker: &Worker, pool: &PoolRuntime, wish: &PickRequest) -> Option<usize> {
    let index = persist::find(pool, wish, worker.reactor.now_ms());
    index.filter(|index| pool.takes_persistent(*index))
}

impl Lease {
    pub fn new(
        worker: &'static Worker,
        pool: Option<&Rc<PoolRuntime>>,
        server: Rc<ServerRuntime>,
        index: usize,
        limited: bool,
    ) -> Lease {
        server.connections.set(server.connections.get() + 1);
        let counters = server.counters();
        counters.current.add(1);
        counters.total.add(1);
        let mut taken = None;
        let spec = pool.map(|p| p.spec());
        if let Some(spec) = &spec {
            spec.current.of(worker.core).add(1);
        }
        if let Some(pool) = pool {
            let mut balancer = pool.balancer.borrow_mut();
            balancer.connected(index);
            taken = balancer.times_answers().then(Instant::now);
        }
        Lease { server, index, pool: pool.cloned(), spec, worker, limited, taken, head: Cell::new(None) }
    }

    /// Notes who serves, for the log and for listings.
    pub fn note(&self, session: &Session, record: &mut Record) {
        let before = record.server.replace(self.server.clone());
        record.redispatched = before.is_some_and(|b| b.id != self.server.id);
        record.queued_ms = Some(self.worker.reactor.now_ms());
        *session.server.borrow_mut() = Some(self.server.clone());
    }

    /// The server could not be reached. One that refused takes no more of this loop's clients.
    pub fn connect_failed(&self, refused: bool) {
        let server = self.server.id;
        self.server.counters().connect_errors.add(1);
        // What is not left out is tried again.
        let only = self.pool().is_some_and(|spec| !spec.pool.retry_pause.is_zero()) && self.is_the_only_one();
        if refused && !only {
            if let Some(pool) = &self.pool {
                pool.mark_down(server);
                self.worker.pool_changed(pool);
            }
            self.worker.notify(Notice::Refused { server });
        } else {
            self.suspect();
        }
    }

    /// Whether no other server of the pool takes clients.
    fn is_the_only_one(&self) -> bool {
        let Some(pool) = &self.pool else { return true };
        let own = pool.index_of(self.server.id);
        let balancer = pool.balancer.borrow();
        let mut others = balancer.servers().iter().enumerate().filter(|(index, _)| Some(*index) != own);
        !others.any(|(_, server)| server.takes_new_clients())
    }

    /// Waits before the same server is tried again, as the pool says; false where the client has left.
    pub async fn pause(&self, client: &Client, at_most_ms: u64) -> bool {
        let pause_ms = self.pool().map_or(0, |spec| spec.pool.retry_pause.as_millis() as u64);
        if pause_ms == 0 {
            return true;
        }
        let until_ms = self.worker.reactor.now_ms() + pause_ms.min(at_most_ms);
        if self.has_left(client) {
            return false;
        }
        loop {
            // The kernel tells of an end of what is read.
            match self.pool().is_some_and(|spec| spec.pool.abort_on_close) {
                true => client.link.want_read(),
                false => client.link.want_hangup(),
            }
            match self.worker.reactor.wait(until_ms).await {
                Ok(()) if self.has_left(client) => return false,
                Ok(()) => {}
                Err(stop) => return stop == Stop::TimedOut,
            }
        }
    }

    fn has_left(&self, client: &Client) -> bool {
        let gives_up = self.pool().is_some_and(|spec| spec.pool.abort_on_close);
        client.link.is_broken() || gives_up && client.link.is_hung_up()
    }

    /// The server broke off: it is probed at once.
    pub fn suspect(&self) {
        self.worker.notify(Notice::Suspect { server: self.server.id });
    }

    /// TLS came to nothing: the daemon says why.
    pub fn handshake_failed(&self, why: String) {
        self.server.counters().connect_errors.add(1);
        self.worker.notify(Notice::Handshake { server: self.server.id, why });
    }

    /// Whether requests of several clients may go over one connection. What a server learns of a
    /// client by its connection (a PROXY header, an address, a port) is true for that client alone.
    pub fn shares_connections(&self) -> bool {
        let Some(spec) = self.pool() else { return true };
        let own = self.server.proxy_version(&spec.pool).is_none()
            && self.server.source().unwrap_or(spec.pool.source) != SourceAddress::Client;
        own && self.server.address.port() != 0 && !spec.pool.own_connections
    }

    /// The head of an answer came: its time counts now, the exchange when it has ended.
    pub fn answered(&self, failed: bool) {
        self.head.set(Some(failed));
        self.time(failed);
    }

    /// An exchange whose answer had begun is over. A body that broke by the server's fault makes a
    /// failure of any answer; one that the client left makes no success.
    pub fn ended(&self, end: AnswerEnd) {
        if let Some(failed) = outcome(self.head.take(), end) {
            self.count(failed);
        }
    }

    /// Tells how an attempt without an answer went, for the scheduler and the ejection of outliers.
    pub fn judge(&self, failed: bool) {
        self.time(failed);
        self.count(failed);
    }

    fn time(&self, failed: bool) {
        if let (Some(taken), Some(pool)) = (self.taken, &self.pool)
            && let Some(index) = pool.place_of(&self.server, self.index)
        {
            let took_us = taken.elapsed().as_micros().min(u128::from(u32::MAX)) as u32;
            pool.balancer.borrow_mut().answered(index, took_us, failed);
        }
    }

    fn count(&self, failed: bool) {
        let Some(spec) = self.pool() else { return };
        if let Some(rule) = &spec.pool.outlier
            && self.server.judge(rule, failed)
        {
            self.worker.notify(Notice::Outlier { server: self.server.id });
        }
    }

    /// The pool still has the server, and cookies, tables and tokens keep clients on it.
    pub fn is_remembered(&self) -> bool {
        let place = self.pool.as_ref().and_then(|pool| pool.place_of(&self.server, self.index));
        place.is_some() && self.server.is_remembered()
    }

    /// The rules of the server's pool; the fallback has none.
    pub fn pool(&self) -> Option<&PoolSpec> {
        self.spec.as_ref().map(|spec| &***spec)
    }

    /// The fallback server's: there is nowhere else to try.
    pub fn is_outside(&self) -> bool {
        self.pool.is_none()
    }

    /// A server outside any pool: the fallback.
    pub fn outside(worker: &'static Worker, server: Rc<ServerRuntime>) -> Lease {
        Lease::new(worker, None, server, 0, false)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let server = &self.server;
        server.connections.set(server.connections.get().saturating_sub(1));
        server.counters().current.sub(1);
        if let Some(spec) = &self.spec {
            spec.current.of(self.worker.core).sub(1);
        }
        let Some(pool) = &self.pool else { return };
        if let Some(index) = pool.place_of(server, self.index) {
            pool.balancer.borrow_mut().disconnected(index);
        }
        if !self.limited {
            return;
        }
        server.release();
        if let Some(waiter) = pool.next_waiter(server.id) {
            self.worker.reactor.wake(waiter.task);
        } else if pool.spec().waiting.load(SeqCst) > 0 {
            self.worker.nudge_others(pool.id, server.id);
        }
    }
}

/// How an answer that had begun came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    Whole,
    /// By the server's fault.
    Broken,
    /// Not by the server's fault.
    LeftOpen,
}

/// What an answer counts for in the ejection of outliers, if for anything: `true` is a failure.
fn outcome(head: Option<bool>, end: AnswerEnd) -> Option<bool> {
    match (head, end) {
        (None, AnswerEnd::Whole | AnswerEnd::LeftOpen) => None,
        (_, AnswerEnd::Broken) => Some(true),
        (Some(failed), AnswerEnd::Whole) => Some(failed),
        (Some(failed), AnswerEnd::LeftOpen) => failed.then_some(true),
    }
}

/// A place in the queue, left when dropped.
struct Queued<'a> {
    worker: &'static Worker,
    pool: &'a PoolRuntime,
    task: u32,
}

impl<'a> Queued<'a> {
    fn join(
        worker: &'static Worker,
        pool: &'a PoolRuntime,
        server: Option<u32>,
        priority: i16,
        again: bool,
    ) -> Queued<'a> {
        let waiter = Waiter { task: worker.reactor.current_task(), server, priority };
        let mut queue = pool.queue.borrow_mut();
        // Behind everybody of the same priority; who was woken in vain goes before them.
        let at = match again {
            true => queue.partition_point(|w| w.priority < priority),
            false => queue.partition_point(|w| w.priority <= priority),
        };
        queue.insert(at, waiter);
        drop(queue);
        pool.spec().waiting.fetch_add(1, SeqCst);
        Queued { worker, pool, task: waiter.task }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        debug_assert_eq!(self.task, self.worker.reactor.current_task());
        self.pool.queue.borrow_mut().retain(|w| w.task != self.task);
        self.pool.spec().waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_when_it_has_ended() {
        assert_eq!(outcome(Some(false), AnswerEnd::Whole), Some(false));
        assert_eq!(outcome(Some(true), AnswerEnd::Whole), Some(true));
        assert_eq!(outcome(Some(false), AnswerEnd::Broken), Some(true), "a good head saves no broken body");
        assert_eq!(outcome(None, AnswerEnd::Broken), Some(true));
        assert_eq!(outcome(Some(false), AnswerEnd::LeftOpen), None, "the client left: nobody knows");
        assert_eq!(outcome(Some(true), AnswerEnd::LeftOpen), Some(true));
        assert_eq!(outcome(None, AnswerEnd::Whole), None, "a tunnel");
    }
}
