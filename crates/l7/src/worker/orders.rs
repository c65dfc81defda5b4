//! What a loop does when the control side tells it to: configurations, states of servers, lists.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use evenkeel_model::AdminState;

use super::{Apply, Listener, Message, Pause, Worker};
use crate::proxy::session::Session;
use crate::proxy::{PoolRuntime, ServerRuntime, Service, ServiceView};
use crate::reactor::{Owner, Watch};
use crate::spec::{Closing, ConnectionInfo, ServerState, ServiceSpec};

/// Orders that are taken in one turn.
const ORDERS_A_TURN: usize = 1_024;
/// Looks at servers and at tables that are being filled, in one turn: well under a millisecond.
const LOOKS_A_TURN: u64 = 65_536;

impl Worker {
    pub fn take_orders(&'static self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&*self.bell, &mut count);
        let mut taken = 0;
        loop {
            if taken >= ORDERS_A_TURN {
                // The rest in the next turn.
                let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
                return;
            }
            let Ok(order) = self.orders.try_recv() else { return };
            taken += 1;
            match order {
                Message::Apply(apply) => self.apply(apply),
                Message::Servers(changes) => {
                    taken += changes.len();
                    self.set_servers(&changes);
                }
                Message::Nudge { pool, server } => {
                    let waiter = self.pools.borrow().get(&pool).and_then(|p| p.next_waiter(server));
                    if let Some(waiter) = waiter {
                        self.reactor.wake(waiter.task);
                    }
                }
                Message::Drain { idle_ms } => self.drain(idle_ms),
                Message::Ease { idle_ms } => self.ease(idle_ms),
                Message::CutClients => self.cut_clients(),
                Message::Close(which, reply) => {
                    let _ = reply.send(self.close(&which));
                }
                Message::Verified { number, right } => {
                    if let Some(waiting) = self.passwords.borrow_mut().waiting.get_mut(&number) {
                        waiting.right = Some(right);
                        self.reactor.wake(waiting.task);
                    }
                }
                Message::List(reply) => {
                    let _ = reply.send(self.list());
                }
            }
        }
    }

    fn apply(&'static self, apply: Apply) {
        let now_ms = self.reactor.now_ms();
        self.passwords.borrow_mut().right.clear();
        let config = &apply.config;
        let mut pools = self.pools.borrow_mut();
        let mut old_pools = std::mem::take(&mut *pools);
        // Nobody waits for a loop that begins; clients shall find the servers they had.
        let mut looks = if old_pools.is_empty() { u64::MAX } else { LOOKS_A_TURN };
        for spec in &config.pools {
            let pool = match old_pools.remove(&spec.id) {
                Some(kept) if Arc::ptr_eq(&kept.spec(), spec) => kept,
                Some(kept) => {
                    if kept.spec().reaches_otherwise(spec) {
                        spec.servers.iter().for_each(|server| self.forget_connections(&kept, server.id));
                    }
                    kept.apply(spec.clone(), &apply.states, now_ms, &mut looks);
                    kept
                }
                None => Rc::new(PoolRuntime::new(self.core, spec.clone(), &apply.states, now_ms, &mut looks)),
            };
            // Where its table is on its way.
            if !pool.balancer.borrow_mut().step(&mut 0) {
                self.pool_changed(&pool);
            }
            pools.insert(spec.id, pool);
        }
        let ids = config.pools.iter().flat_map(|p| p.servers.iter().map(|s| (s.id, p.id)));
        *self.pool_of.borrow_mut() = ids.collect();
        let mut services = self.services.borrow_mut();
        let mut old_services = std::mem::take(&mut *services);
        for spec in &config.services {
            let Some(pool) = pools.get(&spec.pool_id) else { continue };
            let routed: Vec<Rc<PoolRuntime>> =
                spec.pool_ids.iter().filter_map(|id| pools.get(id).cloned()).collect();
            let service = match old_services.remove(&spec.id) {
                Some(kept) => {
                    let view = kept.view();
                    let same_pools = view.pools.len() == routed.len()
                        && view.pools.iter().zip(&routed).all(|(a, b)| Rc::ptr_eq(a, b));
                    if !Arc::ptr_eq(&view.spec, spec) || !Rc::ptr_eq(&view.pool, pool) || !same_pools {
                        kept.replace(self.view(spec, pool, routed));
                    }
                    kept
                }
                None => Rc::new(Service::new(self.view(spec, pool, routed))),
            };
            services.insert(spec.id, service);
        }
        for removed in old_services.values() {
            removed.gone.set(true);
        }
        self.listeners.borrow_mut().retain(|_, listener| !apply.close.contains(&listener.id));
        for open in apply.open {
            if let Some(service) = services.get(&open.service) {
                self.listen(open.id, open.fd, open.address, service.clone());
            }
        }
        for pool in pools.values() {
            self.wake_queue(pool);
        }
        let _ = apply.done.send(());
    }

    fn view(
        &self,
        spec: &Arc<ServiceSpec>,
        pool: &Rc<PoolRuntime>,
        pools: Vec<Rc<PoolRuntime>>,
    ) -> ServiceView {
        let fallback = spec.fallback_server.as_ref();
        ServiceView {
            spec: spec.clone(),
            pool: pool.clone(),
            pools,
            fallback_server: fallback.map(|s| Rc::new(ServerRuntime::new(self.core, s.clone()))),
        }
    }

    fn listen(&self, id: u64, fd: Arc<OwnedFd>, address: SocketAddr, service: Rc<Service>) {
        let mut listeners = self.listeners.borrow_mut();
        let entry = listeners.vacant_entry();
        let watch = Watch::new(self.reactor, fd, Owner::Listener(entry.key() as u32));
        entry.insert(Listener { id, watch, address, service, paused: Cell::new(None) });
    }

    pub(super) fn pause(&self, key: usize, listener: &Listener, why: Pause) {
        listener.watch.pause();
        if listener.paused.replace(Some(why)).is_none() {
            self.paused.borrow_mut().push(key);
        }
    }

    /// Arms paused listeners again, but only those whose reason is over: arming tells at once of the
    /// clients that wait, and a listener armed too early would be paused again in every turn.
    pub(super) fn resume_listeners(&self) {
        let now_ms = self.reactor.now_ms();
        let listeners = self.listeners.borrow();
        self.paused.borrow_mut().retain(|key| {
            let Some(listener) = listeners.get(*key) else { return false };
            let stays = match listener.paused.get() {
                None => return false,
                Some(Pause::Full) => self.shared.is_full() || listener.service.view().spec.is_full(),
                Some(Pause::Until(until_ms)) => now_ms < until_ms,
            };
            if !stays {
                listener.paused.set(None);
                listener.watch.resume();
            }
            stays
        });
    }

    /// The pool's servers have changed: at the end of this turn everything that follows from it is done,
    /// once for all of them.
    pub fn pool_changed(&self, pool: &PoolRuntime) {
        if !pool.is_changed.replace(true) {
            self.changed.borrow_mut().push_back(pool.id);
        }
    }

    /// Does what changes of this turn ask for. Where that is too much, other pools and the rest of large
    /// tables come in the next turns.
    pub(super) fn refresh_pools(&self) {
        let waiting = self.changed.borrow().len();
        if waiting == 0 {
            return;
        }
        let (now_ms, pools) = (self.reactor.now_ms(), self.pools.borrow());
        let mut looks = LOOKS_A_TURN;
        for _ in 0..waiting {
            if looks == 0 {
                return;
            }
            let next = self.changed.borrow_mut().pop_front();
            let Some(pool) = next.and_then(|id| pools.get(&id)) else { continue };
            pool.is_changed.set(false);
            let refreshed = pool.balancer.borrow_mut().refresh(now_ms, &mut looks);
            if refreshed {
                self.wake_queue(pool);
            }
            let finished = pool.balancer.borrow_mut().step(&mut looks);
            if !finished {
                self.pool_changed(pool);
            }
        }
    }

    /// Tells the pools that time has passed, as many as a turn has room for.
    pub(super) fn tick_pools(&self) {
        let mut looks = LOOKS_A_TURN;
        let pools = self.pools.borrow();
        while looks > 0 {
            let Some(id) = self.unticked.borrow_mut().pop() else { return };
            let Some(pool) = pools.get(&id) else { continue };
            looks -= 1;
            let asks = pool.balancer.borrow_mut().tick(&mut looks);
            if asks {
                self.pool_changed(pool);
            }
        }
    }

    fn set_servers(&'static self, changes: &[(u32, ServerState)]) {
        let mut ended = HashSet::new();
        for (server, state) in changes.iter().copied() {
            let id = self.pool_of.borrow().get(&server).copied();
            let Some(pool) = id.and_then(|id| self.pools.borrow().get(&id).cloned()) else { continue };
            ended.extend(pool.backups_to_end(server, state));
            if pool.set_state(server, state) {
                self.pool_changed(&pool);
            }
            let cut = !state.up && pool.cuts(server);
            if state.admin == AdminState::Halted || cut {
                ended.insert(server);
            }
            if state.admin == AdminState::Halted || !state.up {
                self.forget_connections(&pool, server);
            }
        }
        if ended.is_empty() {
            return;
        }
        for session in self.sessions.borrow().values() {
            if session.server.borrow().as_ref().is_some_and(|on| ended.contains(&on.id)) {
                self.reactor.kill(session.task.get());
            }
        }
    }

    /// Closes the idle connections with a server, and opens new ones of HTTP/2 for what comes next.
    fn forget_connections(&self, pool: &PoolRuntime, server: u32) {
        pool.forget_upstreams(server);
        if let Some(runtime) = pool.index_of(server).and_then(|index| pool.server(index)) {
            self.drop_idle_of(&runtime);
        }
    }

    /// Places may have become free: everybody looks again, in their order.
    fn wake_queue(&self, pool: &PoolRuntime) {
        for waiter in std::mem::take(&mut *pool.queue.borrow_mut()) {
            self.reactor.wake(waiter.task);
        }
    }

    fn drain(&'static self, idle_ms: u64) {
        self.draining.set(Some(idle_ms));
        self.listeners.borrow_mut().clear();
        self.finish(idle_ms);
    }

    fn ease(&'static self, idle_ms: Option<u64>) {
        self.easing.set(idle_ms);
        if let Some(idle_ms) = idle_ms {
            self.finish(idle_ms);
        }
    }

    fn finish(&'static self, idle_ms: u64) {
        // Connections of HTTP/2 say goodbye.
        self.sessions.borrow().keys().for_each(|task| self.reactor.wake(*task));
        let now_ms = self.reactor.now_ms();
        for (_, parked) in self.idle_clients.borrow().iter() {
            parked.client.link.set_deadline(now_ms + idle_ms);
        }
    }

    /// A socket that stayed would answer a later connection with the same ports. Those on loopback
    /// are nobody else's.
    fn cut_clients(&'static self) {
        let moved = |vip: std::net::SocketAddr| !vip.ip().is_loopback();
        let mut idle = self.idle_clients.borrow_mut();
        idle.retain(|_, super::Present { client, .. }| {
            if moved(client.vip) {
                client.link.reset_on_close();
            }
            !moved(client.vip)
        });
        drop(idle);
        for session in self.sessions.borrow().values() {
            if session.shown.borrow().as_ref().is_some_and(|shown| moved(shown.vip)) {
                self.reactor.kill(session.task.get());
            }
        }
    }

    /// Ends the connections of a client, a server or a service, now.
    fn close(&'static self, which: &Closing) -> usize {
        let fits = |service: &Service, server: Option<&str>, client: std::net::SocketAddr| {
            which.fits(service.view().spec.service.name.as_str(), server, client)
        };
        let mut idle = self.idle_clients.borrow_mut();
        let before = idle.len();
        idle.retain(|_, super::Present { client, .. }| !fits(&client.service, None, client.address));
        let parked = before - idle.len();
        drop(idle);
        // A connection of HTTP/2 is one, however many streams it has.
        let mut closed = HashSet::new();
        for session in self.sessions.borrow().values() {
            let shown = session.shown.borrow();
            let Some(shown) = shown.as_ref() else { continue };
            let server = session.server.borrow();
            if fits(&shown.service, server.as_ref().map(|s| s.name()), shown.client) {
                self.reactor.kill(session.task.get());
                closed.insert(shown.stream_of.unwrap_or(session.task.get()));
            }
        }
        parked + closed.len()
    }

    fn list(&self) -> Vec<ConnectionInfo> {
        let now_ms = self.reactor.now_ms();
        let idle = self.idle_clients.borrow();
        let name = |service: &Service| service.view().spec.service.name.as_str().to_owned();
        let mut all: Vec<ConnectionInfo> = idle
            .iter()
            .map(|(_, parked)| &parked.client)
            .map(|client| ConnectionInfo {
                client: client.address,
                vip: client.vip,
                service: name(&client.service),
                server: None,
                http2: None,
                state: "idle",
                age_ms: now_ms.saturating_sub(client.accepted_ms),
                requests: client.requests,
                bytes_in: client.bytes_in,
                bytes_out: client.bytes_out,
                core: self.core,
            })
            .collect();
        let sessions = self.sessions.borrow();
        let of = |s: &Session| s.shown.borrow().as_ref().and_then(|shown| shown.stream_of);
        let with_streams: HashSet<u32> = sessions.values().filter_map(|s| of(s)).collect();
        for session in sessions.values() {
            let shown = session.shown.borrow();
            let Some(shown) = shown.as_ref() else { continue };
            let task = session.task.get();
            all.push(ConnectionInfo {
                client: shown.client,
                vip: shown.vip,
                service: name(&shown.service),
                server: session.server.borrow().as_ref().map(|s| s.name().to_owned()),
                http2: shown.stream_of.or_else(|| with_streams.contains(&task).then_some(task)),
                state: session.state.get().as_str(),
                age_ms: now_ms.saturating_sub(shown.accepted_ms),
                requests: shown.requests,
                bytes_in: session.bytes_in.get(),
                bytes_out: session.bytes_out.get(),
                core: self.core,
            });
        }
        all
    }
}
