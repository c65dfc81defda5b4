//! Services, pools and servers as one event loop has them. They outlive configurations: a new one
//! changes their contents, and connections that hold them notice at their next request.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use evenkeel_balance::{Balancer, GONE, Server, Table};
use evenkeel_model::{AdminState, OutlierRule, Persistence, SourceAddress};

use crate::counters::{ServerCounters, ServiceCounters};
use crate::h2::connection::Upstream;
use crate::spec::{PoolSpec, ServerSpec, ServerState, ServiceSpec};
use crate::tls::TlsClient;

/// A virtual service; `view` is what the next request sees.
pub struct Service {
    view: RefCell<Rc<ServiceView>>,
    /// Removed from the configuration: its connections finish, then close.
    pub gone: Cell<bool>,
}

/// A service under one configuration. Held by a request to its end.
pub struct ServiceView {
    pub spec: Arc<ServiceSpec>,
    pub pool: Rc<PoolRuntime>,
    /// The pools that routes name, by their number.
    pub pools: Vec<Rc<PoolRuntime>>,
    pub fallback_server: Option<Rc<ServerRuntime>>,
}

impl Service {
    pub fn new(view: ServiceView) -> Service {
        Service { view: RefCell::new(Rc::new(view)), gone: Cell::new(false) }
    }

    pub fn view(&self) -> Rc<ServiceView> {
        self.view.borrow().clone()
    }

    pub fn replace(&self, view: ServiceView) {
        self.gone.set(false);
        *self.view.borrow_mut() = Rc::new(view);
    }
}

impl ServiceView {
    pub fn counters(&self, core: usize) -> &ServiceCounters {
        self.spec.counters.of(core)
    }
}

/// A client that waits for a place on a server.
#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    pub task: u32,
    /// The only server that will do, for a persistent client.
    pub server: Option<u32>,
    /// Smaller goes first.
    pub priority: i16,
}

pub struct PoolRuntime {
    pub id: u32,
    pub core: usize,
    /// Counted by `Rc` on the path, so that loops do not share its reference count.
    #[allow(clippy::redundant_allocation)]
    spec: RefCell<Rc<Arc<PoolSpec>>>,
    servers: RefCell<Vec<Rc<ServerRuntime>>>,
    pub balancer: RefCell<Balancer>,
    pub queue: RefCell<VecDeque<Waiter>>,
    /// It is in the worker's list of pools that have changed.
    pub is_changed: Cell<bool>,
    by_name: RefCell<HashMap<Vec<u8>, usize>>,
    by_id: RefCell<HashMap<u32, usize>>,
}

impl PoolRuntime {
    pub fn new(
        core: usize,
        spec: Arc<PoolSpec>,
        states: &HashMap<u32, ServerState>,
        now_ms: u64,
        looks: &mut u64,
    ) -> PoolRuntime {
        let scheduler = spec.pool.scheduler;
        let pool = PoolRuntime {
            id: spec.id,
            core,
            spec: RefCell::new(Rc::new(spec.clone())),
            servers: RefCell::default(),
            balancer: RefCell::new(Balancer::new(scheduler, 0, Vec::new(), now_ms)),
            queue: RefCell::default(),
            is_changed: Cell::new(false),
            by_name: RefCell::default(),
            by_id: RefCell::default(),
        };
        pool.apply(spec, states, now_ms, looks);
        pool
    }

    #[allow(clippy::redundant_allocation)]
    pub fn spec(&self) -> Rc<Arc<PoolSpec>> {
        self.spec.borrow().clone()
    }

    /// The number of this turn, among all loops.
    pub fn turn(&self) -> u64 {
        self.spec.borrow().turns.fetch_add(1, Relaxed)
    }

    /// What remembers which server a client belongs to.
    pub fn table(&self) -> Option<Arc<Table>> {
        self.spec.borrow().table.clone()
    }

    /// Takes a new configuration: servers that stay keep their connections and counts. A large table
    /// is filled with the `looks` that are left; the worker goes on with it.
    pub fn apply(
        &self,
        spec: Arc<PoolSpec>,
        states: &HashMap<u32, ServerState>,
        now_ms: u64,
        looks: &mut u64,
    ) {
        let before: Vec<u32> = self.servers.borrow().iter().map(|s| s.id).collect();
        let measured: HashMap<u32, u32> = {
            let (servers, balancer) = (self.servers.borrow(), self.balancer.borrow());
            servers.iter().zip(balancer.servers()).map(|(s, seen)| (s.id, seen.answer_us)).collect()
        };
        let mut known: HashMap<u32, Rc<ServerRuntime>> =
            self.servers.borrow_mut().drain(..).map(|s| (s.id, s)).collect();
        let servers: Vec<Rc<ServerRuntime>> = spec
            .servers
            .iter()
            .map(|server| match known.remove(&server.id) {
                Some(kept) => {
                    *kept.spec.borrow_mut() = server.clone();
                    if *kept.cookie() != *server.server.cookie() {
                        *kept.cookie.borrow_mut() = server.server.cookie().into();
                    }
                    kept
                }
                None => Rc::new(ServerRuntime::new(self.core, server.clone())),
            })
            .collect();
        for removed in known.values() {
            removed.gone.set(true);
        }
        let names = servers.iter().enumerate();
        *self.by_name.borrow_mut() = match spec.pool.persistence {
            Persistence::Cookie(_) => names
                .filter(|(_, s)| s.is_remembered())
                .map(|(i, s)| (s.cookie().as_bytes().to_vec(), i))
                .collect(),
            _ => HashMap::new(),
        };
        let balanced = servers.iter().map(|s| {
            let spec = s.spec.borrow();
            let state = states.get(&s.id).copied().unwrap_or(ServerState {
                up: true,
                up_since_ms: None,
                admin: spec.server.admin_state,
                weight: spec.server.weight.get(),
            });
            Server {
                name: spec.server.name.as_str().to_owned(),
                weight: state.weight,
                admin: state.admin,
                up: state.up,
                backup: spec.server.backup,
                up_since_ms: state.up_since_ms,
                connections: s.connections.get(),
                answer_us: measured.get(&s.id).copied().unwrap_or(0),
            }
        });
        let slow_start_ms = spec.pool.slow_start.as_millis() as u64;
        let fresh = Balancer::begin(spec.pool.scheduler, slow_start_ms, balanced.collect(), now_ms, looks)
            .bounded(spec.pool.hash_balance_factor);
        let by_id: HashMap<u32, usize> = servers.iter().enumerate().map(|(i, s)| (s.id, i)).collect();
        let place = |id: &u32| by_id.get(id).map_or(GONE, |index| *index as u32);
        let places: Vec<u32> = before.iter().map(place).collect();
        self.balancer.replace_with(|old| {
            let empty = Balancer::begin(spec.pool.scheduler, 0, Vec::new(), now_ms, &mut 0);
            fresh.after(std::mem::replace(old, empty), &places)
        });
        *self.by_id.borrow_mut() = by_id;
        *self.servers.borrow_mut() = servers;
        *self.spec.borrow_mut() = Rc::new(spec);
    }

    /// Health or people changed a server's state; whether it is one of this pool. The worker refreshes
    /// the balancer when it has heard all changes.
    pub fn set_state(&self, server: u32, state: ServerState) -> bool {
        let Some(index) = self.index_of(server) else { return false };
        self.balancer.borrow_mut().note(index, |s| {
            (s.up, s.up_since_ms) = (state.up, state.up_since_ms);
            (s.admin, s.weight) = (state.admin, state.weight);
        });
        true
    }

    /// Whether connections with this server end when it goes down.
    pub fn cuts(&self, server: u32) -> bool {
        self.spec.borrow().pool.cut_when_down && self.index_of(server).is_some()
    }

    /// A refused connection: out at once, before the control side has heard of it.
    pub fn mark_down(&self, server: u32) {
        if let Some(index) = self.index_of(server) {
            self.balancer.borrow_mut().note(index, |s| s.up = false);
        }
    }

    /// Requests to this server open a new connection of HTTP/2 next.
    pub fn forget_upstreams(&self, server: u32) {
        if let Some(runtime) = self.index_of(server).and_then(|index| self.server(index)) {
            runtime.upstreams.borrow_mut().clear();
        }
    }

    pub fn server(&self, index: usize) -> Option<Rc<ServerRuntime>> {
        self.servers.borrow().get(index).cloned()
    }

    pub fn index_of(&self, server: u32) -> Option<usize> {
        self.by_id.borrow().get(&server).copied()
    }

    /// The server that a route names, if it takes clients that belong to it.
    pub fn chosen(&self, name: Option<&evenkeel_model::Name>) -> Option<usize> {
        let name = name?;
        let spec = self.spec();
        self.index_of(spec.servers.iter().find(|s| s.server.name == *name)?.id)
    }

    pub fn index_by_cookie(&self, value: &[u8]) -> Option<usize> {
        self.by_name.borrow().get(value).copied()
    }

    pub fn index_by_address(&self, address: SocketAddr) -> Option<usize> {
        let same = |s: &Rc<ServerRuntime>| {
            s.address.ip() == address.ip() && (s.address.port() == address.port() || s.address.port() == 0)
        };
        self.servers.borrow().iter().position(|s| s.is_remembered() && same(s))
    }

    /// May a client that belongs to this server go there?
    pub fn takes_persistent(&self, index: usize) -> bool {
        let leaves =
            |server: &Server| server.admin == AdminState::Draining && self.spec.borrow().pool.moves_drained;
        let takes = |server: &Server| server.takes_persistent_clients() && !leaves(server);
        self.balancer.borrow().servers().get(index).is_some_and(takes)
    }

    /// May a connection that the server knows the client by go on there?
    pub fn goes_on(&self, index: usize) -> bool {
        self.balancer.borrow().servers().get(index).is_some_and(Server::takes_persistent_clients)
    }

    /// A place became free: the waiter it suits, taken out of the queue.
    pub fn next_waiter(&self, server: u32) -> Option<Waiter> {
        let mut queue = self.queue.borrow_mut();
        let at = queue.iter().position(|w| w.server.is_none_or(|only| only == server))?;
        queue.remove(at)
    }
}

pub struct ServerRuntime {
    pub id: u32,
    pub core: usize,
    spec: RefCell<Arc<ServerSpec>>,
    pub address: SocketAddr,
    name: String,
    cookie: RefCell<Rc<str>>,
    /// Requests (http) or connections (tcp) this loop has with it.
    pub connections: Cell<u32>,
    /// Idle connections, by their key in the worker's list; the last is the freshest.
    pub idle: RefCell<VecDeque<u32>>,
    /// Keys of idle connections that are one client's each.
    pub own: RefCell<HashSet<u32>>,
    /// Connections of HTTP/2, which requests share.
    pub upstreams: RefCell<Vec<Rc<Upstream>>>,
    pub gone: Cell<bool>,
    counters: Arc<crate::counters::PerCore<ServerCounters>>,
}

impl ServerRuntime {
    pub fn new(core: usize, spec: Arc<ServerSpec>) -> ServerRuntime {
        ServerRuntime {
            id: spec.id,
            core,
            address: spec.server.address,
            name: spec.server.name.as_str().to_owned(),
            cookie: RefCell::new(spec.server.cookie().into()),
            connections: Cell::new(0),
            idle: RefCell::default(),
            own: RefCell::default(),
            upstreams: RefCell::default(),
            gone: Cell::new(false),
            counters: spec.counters.clone(),
            spec: RefCell::new(spec),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cookie(&self) -> Rc<str> {
        self.cookie.borrow().clone()
    }

    /// Whether cookies, tables and tokens keep clients on it.
    pub fn is_remembered(&self) -> bool {
        self.spec.borrow().server.is_remembered()
    }

    /// The address that it shall see, where that is not the pool's.
    pub fn source(&self) -> Option<SourceAddress> {
        self.spec.borrow().server.source
    }

    /// How TLS is spoken with it, if at all.
    pub fn tls(&self) -> Option<Arc<TlsClient>> {
        self.spec.borrow().tls.clone()
    }

    /// Where to connect for a client that came to this address.
    pub fn address_for(&self, vip: SocketAddr) -> SocketAddr {
        match self.address.port() {
            0 => SocketAddr::new(self.address.ip(), vip.port()),
            _ => self.address,
        }
    }

    /// Counts an exchange for outlier ejection; whether it was the failure too many.
    pub fn judge(&self, rule: &OutlierRule, failed: bool) -> bool {
        let failures = &self.spec.borrow().failures;
        if !failed {
            if failures.load(SeqCst) != 0 {
                failures.store(0, SeqCst);
            }
            return false;
        }
        let reached = failures.fetch_add(1, SeqCst) + 1 >= rule.failures;
        if reached {
            failures.store(0, SeqCst);
        }
        reached
    }

    pub fn counters(&self) -> &ServerCounters {
        self.counters.of(self.core)
    }

    pub fn all_current(&self) -> u64 {
        self.counters.sum(|c| c.current.get())
    }

    pub fn max_connections(&self) -> u32 {
        self.spec.borrow().server.max_connections
    }

    pub fn is_full(&self) -> bool {
        let spec = self.spec.borrow();
        let limit = spec.server.max_connections;
        limit != 0 && spec.active.load(SeqCst) >= limit
    }

    /// Takes one of the places of a server that has a limit.
    pub fn reserve(&self) -> bool {
        let spec = self.spec.borrow();
        let limit = spec.server.max_connections;
        let take = |now: u32| (now < limit).then_some(now + 1);
        spec.active.fetch_update(SeqCst, SeqCst, take).is_ok()
    }

    pub fn release(&self) {
        let give = |now: u32| Some(now.saturating_sub(1));
        let _ = self.spec.borrow().active.fetch_update(SeqCst, SeqCst, give);
    }
}
