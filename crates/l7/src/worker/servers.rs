//! Connections to real servers that wait for their next request, and resting pipes.

use std::net::SocketAddr;
use std::rc::Rc;

use super::Message;
use super::Worker;
use crate::link::Link;
use crate::proxy::ServerRuntime;
use crate::reactor::{Owner, Pipe};

const RESTING_PIPES: usize = 64;
/// So many places are looked at for the connection that has waited longest.
const PLACES_LOOKED_AT: usize = 32;
/// So many are closed where descriptors have run out.
const CLOSED_AT_ONCE: usize = 64;
const IDLE_SERVER_MS: u64 = 60_000;
/// Of a client that the server knows by the connection.
const KNOWN_SERVER_MS: u64 = 600_000;
/// Servers close idle connections after five seconds and more.
const TRUSTED_MS: u64 = 4_000;
/// A server that closes after each answer has done so by then.
const PROVEN_MS: u64 = 10;
/// A server that reads a body in another way answers once more, and has done so by then.
const REST_MS: u64 = 5;

pub struct IdleServer {
    pub link: Link,
    pub server: Rc<ServerRuntime>,
    /// Requests it has carried.
    carried: u32,
    since_ms: u64,
    /// When anybody may use it; before, the client that left it alone may.
    rested_ms: u64,
    /// Whose last request went over it.
    left_by: Option<SocketAddr>,
    /// The reactor's number of looks when it was left.
    looks: u64,
    /// The number of the client that alone may use it; 0 is anybody.
    whose: u64,
}

/// A connection to a server that waits for the next request of one client, and goes with it.
pub struct PinnedConnection {
    worker: &'static Worker,
    key: u32,
    number: u64,
    pub server: u32,
    /// The server knows who the client is by this connection.
    pub knows_client: bool,
}

impl PinnedConnection {
    /// With the number of requests it has carried; nothing when it has ended.
    pub fn take(self, once: bool) -> Option<(Link, u32)> {
        let now_ms = self.worker.reactor.now_ms();
        let mut all = self.worker.idle_servers.borrow_mut();
        let idle = all.get(self.key as usize).filter(|idle| idle.whose == self.number)?;
        // Another one would have to ask the client for its name again.
        let good = !once || self.knows_client || idle.is_trusted(now_ms);
        let idle = all.try_remove(self.key as usize)?;
        drop(all);
        idle.server.own.borrow_mut().remove(&self.key);
        idle.link.set_owner(Owner::Task);
        let silent = idle.is_silent(self.worker, once);
        (good && silent).then_some((idle.link, idle.carried))
    }
}

impl Drop for PinnedConnection {
    fn drop(&mut self) {
        let mut all = self.worker.idle_servers.borrow_mut();
        let own = all.get(self.key as usize).is_some_and(|idle| idle.whose == self.number);
        let ended = if own { all.try_remove(self.key as usize) } else { None };
        drop(all);
        if let Some(idle) = ended {
            idle.server.own.borrow_mut().remove(&self.key);
        }
    }
}

impl IdleServer {
    /// As good as certain to be open still.
    fn is_trusted(&self, now_ms: u64) -> bool {
        let idle_ms = now_ms.saturating_sub(self.since_ms);
        (self.carried > 1 || idle_ms > PROVEN_MS) && idle_ms < TRUSTED_MS
    }

    /// Nothing has come, and the server has not closed it: what came without being asked for would be
    /// taken for the answer to the next request. The kernel is asked where the loop has not heard from
    /// it since the connection was left, and where the request must not fail (`once`).
    fn is_silent(&self, worker: &Worker, once: bool) -> bool {
        let heard = worker.reactor.looks() > self.looks && !self.link.readable();
        !self.link.is_hung_up() && ((heard && !once) || self.link.is_quiet())
    }
}

impl Worker {
    /// An idle connection to a server, with the number of requests it has carried.
    ///
    /// A server may close a kept connection in the very moment that a request is sent, and a
    /// request that is not idempotent cannot be sent again (RFC 9110 section 9.2.2). `once` asks
    /// for a connection on which that is as good as impossible: the server has kept it open
    /// before, or for a while; it was used lately; and the kernel knows of no end. Of several, the one that
    /// the same client's last request went over.
    ///
    /// After a request with a body it rests for a moment first: what a server makes of a body that it
    /// reads otherwise than we do would be somebody else's answer. The same client need not wait.
    ///
    /// `name`: what servers are asked for, where that is taken from requests.
    pub fn take_idle(
        &self,
        server: &ServerRuntime,
        client: SocketAddr,
        name: Option<&str>,
        once: bool,
    ) -> Option<(Link, u32)> {
        let now_ms = self.reactor.now_ms();
        loop {
            let mut all = self.idle_servers.borrow_mut();
            let rested = |key: &u32| {
                let free = |i: &IdleServer| {
                    (i.rested_ms <= now_ms || i.left_by == Some(client)) && i.link.name() == name
                };
                all.get(*key as usize).is_none_or(free)
            };
            let trusted =
                |key: &&u32| rested(key) && all.get(**key as usize).is_some_and(|i| i.is_trusted(now_ms));
            let left_by_it = |key: &u32| {
                let fits = |i: &IdleServer| {
                    i.left_by == Some(client) && i.is_trusted(now_ms) && i.link.name() == name
                };
                all.get(*key as usize).is_some_and(fits)
            };
            let key = {
                let mut idle = server.idle.borrow_mut();
                // The last that were left: its own is among them where few clients share the server.
                let first = idle.len().saturating_sub(PLACES_LOOKED_AT);
                let own = if once { idle.range(first..).rposition(left_by_it) } else { None };
                match once {
                    false => {
                        let at = idle.iter().rposition(rested)?;
                        idle.remove(at)?
                    }
                    true if own.is_some() => idle.remove(first + own?)?,
                    true if idle.back().as_ref().is_some_and(trusted) => idle.pop_back()?,
                    true if idle.front().as_ref().is_some_and(trusted) => idle.pop_front()?,
                    true => return None,
                }
            };
            let Some(idle) = all.try_remove(key as usize) else { continue };
            drop(all);
            idle.link.set_owner(Owner::Task);
            if idle.is_silent(self, once) {
                return Some((idle.link, idle.carried));
            }
        }
    }

    /// `rests`: the client's last request had a body.
    pub fn keep_idle(
        &self,
        server: &Rc<ServerRuntime>,
        link: Link,
        carried: u32,
        client: SocketAddr,
        rests: bool,
    ) {
        let is_full = self.idle_servers.borrow().len() >= self.shared.idle_servers_at_most();
        if is_full && !self.close_idle_server() {
            return;
        }
        let mut servers = self.idle_servers.borrow_mut();
        let entry = servers.vacant_entry();
        let key = entry.key() as u32;
        let since_ms = self.reactor.now_ms();
        link.set_owner(Owner::IdleServer(key));
        link.set_deadline(since_ms + IDLE_SERVER_MS);
        server.idle.borrow_mut().push_back(key);
        let rested_ms = if rests { since_ms + REST_MS } else { 0 };
        entry.insert(IdleServer {
            link,
            server: server.clone(),
            carried,
            since_ms,
            rested_ms,
            left_by: Some(client),
            looks: self.reactor.looks(),
            whose: 0,
        });
    }

    /// Closes one of the idle connections that have waited longest: of the next few that it comes to, turn
    /// by turn. False where it finds none but such as are one client's.
    fn close_idle_server(&self) -> bool {
        let oldest = {
            let all = self.idle_servers.borrow();
            let places = all.capacity().max(1);
            let start = self.idle_hand.get();
            let next = (start..start + PLACES_LOOKED_AT.min(places)).map(|place| place % places);
            self.idle_hand.set((start + PLACES_LOOKED_AT) % places);
            let found = next.filter_map(|key| Some((key, all.get(key)?)));
            let free = found.filter(|(_, idle)| idle.whose == 0);
            free.min_by_key(|(_, idle)| idle.since_ms).map(|(key, _)| key)
        };
        oldest.is_some_and(|key| {
            self.drop_idle_server(key as u32);
            true
        })
    }

    /// Closes two idle connections where there are more than may be.
    pub fn trim_idle_servers(&self) {
        let at_most = self.shared.idle_servers_at_most();
        for _ in 0..2 {
            if self.idle_servers.borrow().len() > at_most {
                self.close_idle_server();
            }
        }
    }

    /// Descriptors have run out: idle connections go before anybody is refused. Whether there were any.
    pub fn close_some_idle_servers(&self) -> bool {
        (0..CLOSED_AT_ONCE).filter(|_| self.close_idle_server()).count() > 0
    }

    /// Keeps a connection for one client.
    pub fn keep_own(
        &'static self,
        server: &Rc<ServerRuntime>,
        link: Link,
        carried: u32,
        knows_client: bool,
    ) -> PinnedConnection {
        let number = self.own_connections.get() + 1;
        self.own_connections.set(number);
        let mut servers = self.idle_servers.borrow_mut();
        let entry = servers.vacant_entry();
        let key = entry.key() as u32;
        let since_ms = self.reactor.now_ms();
        link.set_owner(Owner::IdleServer(key));
        link.set_deadline(since_ms + if knows_client { KNOWN_SERVER_MS } else { IDLE_SERVER_MS });
        server.own.borrow_mut().insert(key);
        let server_id = server.id;
        let server = server.clone();
        entry.insert(IdleServer {
            link,
            server,
            carried,
            since_ms,
            rested_ms: 0,
            left_by: None,
            looks: self.reactor.looks(),
            whose: number,
        });
        PinnedConnection { worker: self, key, number, server: server_id, knows_client }
    }

    pub fn drop_idle_server(&self, key: u32) {
        if let Some(idle) = self.idle_servers.borrow_mut().try_remove(key as usize) {
            match idle.whose {
                0 => idle.server.idle.borrow_mut().retain(|k| *k != key),
                _ => drop(idle.server.own.borrow_mut().remove(&key)),
            }
        }
    }

    /// Closes every idle connection with a server. Others' are not looked at.
    pub fn drop_idle_of(&self, server: &ServerRuntime) {
        let (shared, own) = (server.idle.take(), server.own.take());
        for key in shared.into_iter().chain(own) {
            let mut all = self.idle_servers.borrow_mut();
            let is_its = all.get(key as usize).is_some_and(|idle| idle.server.id == server.id);
            let ended = if is_its { all.try_remove(key as usize) } else { None };
            drop(all);
            drop(ended);
        }
    }

    pub fn take_pipe(&self) -> Option<Pipe> {
        self.pipes.borrow_mut().pop().or_else(|| Pipe::new().ok())
    }

    pub fn give_pipe(&self, pipe: Pipe) {
        let mut pipes = self.pipes.borrow_mut();
        if pipe.held() == 0 && pipes.len() < RESTING_PIPES {
            pipes.push(pipe);
        }
    }

    pub fn nudge_others(&self, pool: u32, server: u32) {
        for (core, mailbox) in self.shared.mailboxes.iter().enumerate() {
            if core != self.core {
                mailbox.send(Message::Nudge { pool, server });
            }
        }
    }
}
