//! Services, pools and servers as one event loop has them. They outlive configurations: a new one
//! changes their contents, and connections that hold them notice at their next request.

use std::cell::{Cell, Ref, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use evenkeel_balance::{Balancer, GONE, Server, Table};
use evenkeel_model::{AdminState, OutlierRule, Persistence, Pool, ProxyVersion, SourceAddress, Timeouts};
use evenkeel_routes::Changes;

use crate::counters::{Counter, ServerCounters, ServiceCounters};
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

    /// How long each state may last on the way to this pool.
    pub fn timeouts(&self, pool: &PoolRuntime) -> Timeouts {
        self.spec.service.timeouts.with(&pool.spec().pool.timeouts)
    }

    /// How long a request waits for a place, and for a connection: what a route says, the pool, the service.
    pub fn waits(&self, pool: &PoolRuntime, changes: &Changes) -> (u64, u64) {
        let usual = self.timeouts(pool);
        let queue_ms = changes.queue_timeout_ms.unwrap_or(usual.queue.as_millis() as u64);
        (queue_ms, changes.connect_timeout_ms.unwrap_or(usual.connect.as_millis() as u64))
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
    by_cookie: RefCell<HashMap<Vec<u8>, usize>>,
    /// Numbers of servers in their order, with their places.
    by_id: RefCell<Vec<(u32, u32)>>,
    /// Places of servers in the order of their names, and of their addresses where clients bring those.
    by_name: RefCell<Vec<u32>>,
    by_address: RefCell<Vec<u32>>,
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
            by_cookie: RefCell::default(),
            by_id: RefCell::default(),
            by_name: RefCell::default(),
            by_address: RefCell::default(),
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
                    kept.follow(server.clone());
                    kept
                }
                None => Rc::new(ServerRuntime::new(self.core, server.clone())),
            })
            .collect();
        known.values().for_each(|removed| removed.gone.set(true));
        let names = servers.iter().enumerate();
        *self.by_cookie.borrow_mut() = match spec.pool.persistence {
            Persistence::Cookie(_) => names
                .filter(|(_, s)| s.is_remembered())
                .map(|(i, s)| (s.cookie().as_bytes().to_vec(), i))
                .collect(),
            _ => HashMap::new(),
        };
        let balanced = servers.iter().map(|s| {
            let spec = s.spec.borrow();
            let state = states.get(&s.id).copied().unwrap_or_else(|| ServerState::begin(&spec.server));
            s.limit.set(state.max_connections.unwrap_or(spec.server.max_connections));
            Server {
                name: spec.server.name.text(),
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
            .backups(spec.pool.one_backup, spec.pool.quorum, now_ms, looks)
            .modulo(spec.pool.hash_modulo, now_ms, looks)
            .bounded(spec.pool.hash_balance_factor);
        let by_id = places_by_id(&servers);
        let place = |id: &u32| place_in(&by_id, *id).unwrap_or(GONE);
        let places: Vec<u32> = before.iter().map(place).collect();
        self.balancer.replace_with(|old| {
            let empty = Balancer::begin(spec.pool.scheduler, 0, Vec::new(), now_ms, &mut 0);
            fresh.after(std::mem::replace(old, empty), &places)
        });
        *self.by_id.borrow_mut() = by_id;
        // Sorting keeps the order of equals: of several that will do the first one is found.
        let sorted = |before: fn(&ServerRuntime, &ServerRuntime) -> Ordering| {
            let mut places: Vec<u32> = (0..servers.len() as u32).collect();
            places.sort_by(|a, b| before(&servers[*a as usize], &servers[*b as usize]));
            places
        };
        *self.by_name.borrow_mut() = sorted(|a, b| a.name.cmp(&b.name));
        *self.by_address.borrow_mut() = match spec.pool.persistence {
            Persistence::RdpCookie(_) => sorted(|a, b| a.address.ip().cmp(&b.address.ip())),
            _ => Vec::new(),
        };
        *self.servers.borrow_mut() = servers;
        *self.spec.borrow_mut() = Rc::new(spec);
    }

    /// Health or people changed a server's state; whether it is one of this pool. The worker refreshes
    /// the balancer when it has heard all changes.
    pub fn set_state(&self, server: u32, state: ServerState) -> bool {
        let Some(index) = self.index_of(server) else { return false };
        if let Some(server) = self.servers.borrow().get(index) {
            let configured = server.spec.borrow().server.max_connections;
            server.limit.set(state.max_connections.unwrap_or(configured));
        }
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

    /// The backups whose connections end because this server, which is none, comes back with this state.
    pub fn backups_to_end(&self, server: u32, state: ServerState) -> Vec<u32> {
        let index = self.index_of(server).filter(|_| self.spec.borrow().pool.cut_backups);
        let balancer = self.balancer.borrow();
        let Some(before) = index.and_then(|index| balancer.servers().get(index)) else { return Vec::new() };
        let now = Server { up: state.up, admin: state.admin, weight: state.weight, ..before.clone() };
        if before.backup || before.takes_new_clients() || !now.takes_new_clients() {
            return Vec::new();
        }
        let all = self.servers.borrow();
        all.iter().zip(balancer.servers()).filter(|(_, s)| s.backup).map(|(runtime, _)| runtime.id).collect()
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
        place_in(&self.by_id.borrow(), server).map(|place| place as usize)
    }

    /// The same of a server that had this place when it was picked: a look-up only where another
    /// configuration has moved it.
    pub fn place_of(&self, server: &Rc<ServerRuntime>, before: usize) -> Option<usize> {
        match self.servers.borrow().get(before) {
            Some(there) if Rc::ptr_eq(there, server) => Some(before),
            _ => self.index_of(server.id),
        }
    }

    /// All servers, by their place.
    pub fn servers(&self) -> Ref<'_, [Rc<ServerRuntime>]> {
        Ref::map(self.servers.borrow(), Vec::as_slice)
    }

    /// The server that a route names, if it takes clients that belong to it.
    pub fn chosen(&self, name: Option<&evenkeel_model::Name>) -> Option<usize> {
        self.named(name?.as_str())
    }

    /// The place of the server of a name.
    pub fn named(&self, name: &str) -> Option<usize> {
        let (servers, by_name) = (self.servers.borrow(), self.by_name.borrow());
        let at = by_name.partition_point(|i| *servers[*i as usize].name < *name);
        by_name.get(at).map(|i| *i as usize).filter(|i| *servers[*i].name == *name)
    }

    pub fn index_by_cookie(&self, value: &[u8]) -> Option<usize> {
        self.by_cookie.borrow().get(value).copied()
    }

    /// The server of an address that clients bring; one without a port has every port.
    pub fn index_by_address(&self, address: SocketAddr) -> Option<usize> {
        let (servers, by_address) = (self.servers.borrow(), self.by_address.borrow());
        let of = |i: &u32| &servers[*i as usize];
        let at = by_address.partition_point(|i| of(i).address.ip() < address.ip());
        let same = by_address[at..].iter().take_while(|i| of(i).address.ip() == address.ip());
        let has_port = |s: &ServerRuntime| [address.port(), 0].contains(&s.address.port());
        same.copied().find(|i| of(i).is_remembered() && has_port(of(i))).map(|i| i as usize)
    }

    /// The places of a server now; 0 is no limit. `more` are clients that are counted nowhere yet.
    pub fn places(&self, server: &ServerRuntime, more: u64) -> u32 {
        let (least, most) = (server.least.get(), server.limit.get());
        if least == 0 {
            return most;
        }
        let spec = self.spec.borrow();
        if spec.pool.full_connections == 0 {
            return most;
        }
        let load = spec.current.sum(Counter::get) + u64::from(spec.waiting.load(Relaxed));
        spec.pool.places_at(least, most, load + more)
    }

    /// Whether all places of a server are taken.
    pub fn is_full(&self, server: &ServerRuntime, more: u64) -> bool {
        let places = self.places(server, more);
        places != 0 && server.spec.borrow().active.load(SeqCst) >= places
    }

    /// Whether a client that only waits gives its servers more places.
    pub fn grows(&self) -> bool {
        self.spec.borrow().pool.full_connections != 0
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

/// Numbers of servers in their order, with their places.
fn places_by_id(servers: &[Rc<ServerRuntime>]) -> Vec<(u32, u32)> {
    let mut all: Vec<(u32, u32)> = servers.iter().enumerate().map(|(i, s)| (s.id, i as u32)).collect();
    all.sort_unstable();
    all
}

fn place_in(by_id: &[(u32, u32)], server: u32) -> Option<u32> {
    by_id.binary_search_by_key(&server, |(id, _)| *id).ok().map(|at| by_id[at].1)
}

pub struct ServerRuntime {
    pub id: u32,
    pub core: usize,
    spec: RefCell<Arc<ServerSpec>>,
    /// What every request asks of it, beside the rest of what a request touches.
    limit: Cell<u32>,
    /// Where its places grow with what its pool has to do: the least.
    least: Cell<u32>,
    remembered: Cell<bool>,
    source: Cell<Option<SourceAddress>>,
    /// HTTP/2 or not, and the PROXY header, where those are not as the pool says.
    h2: Cell<Option<bool>>,
    send_proxy: Cell<Option<Option<ProxyVersion>>>,
    pub address: SocketAddr,
    name: Arc<str>,
    cookie: RefCell<Rc<str>>,
    /// Requests (http) or connections (tcp) this loop has with it.
    pub connections: Cell<u32>,
    /// Idle connections, by their key in the worker's list; the last is the freshest.
    pub idle: RefCell<VecDeque<u32>>,
    /// Keys of idle connections that are one client's each.
    pub own: RefCell<BTreeSet<u32>>,
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
            limit: Cell::new(spec.server.max_connections),
            least: Cell::new(spec.server.min_connections),
            remembered: Cell::new(spec.server.is_remembered()),
            source: Cell::new(spec.server.source),
            h2: Cell::new(spec.server.h2),
            send_proxy: Cell::new(spec.server.send_proxy),
            address: spec.server.address,
            name: spec.server.name.text(),
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

    /// Takes what another configuration says of it.
    fn follow(&self, spec: Arc<ServerSpec>) {
        if *self.cookie() != *spec.server.cookie() {
            *self.cookie.borrow_mut() = spec.server.cookie().into();
        }
        self.limit.set(spec.server.max_connections);
        self.least.set(spec.server.min_connections);
        self.remembered.set(spec.server.is_remembered());
        self.source.set(spec.server.source);
        self.h2.set(spec.server.h2);
        self.send_proxy.set(spec.server.send_proxy);
        *self.spec.borrow_mut() = spec;
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cookie(&self) -> Rc<str> {
        self.cookie.borrow().clone()
    }

    /// Whether cookies, tables and tokens keep clients on it.
    pub fn is_remembered(&self) -> bool {
        self.remembered.get()
    }

    /// The address that it shall see, where that is not the pool's.
    pub fn source(&self) -> Option<SourceAddress> {
        self.source.get()
    }

    pub fn speaks_h2(&self, pool: &Pool) -> bool {
        self.h2.get().unwrap_or(pool.server_h2)
    }

    pub fn proxy_version(&self, pool: &Pool) -> Option<ProxyVersion> {
        self.send_proxy.get().unwrap_or(pool.send_proxy)
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

    /// Takes one of so many places.
    pub fn reserve(&self, limit: u32) -> bool {
        let take = |now: u32| (now < limit).then_some(now + 1);
        self.spec.borrow().active.fetch_update(SeqCst, SeqCst, take).is_ok()
    }

    pub fn release(&self) {
        let give = |now: u32| Some(now.saturating_sub(1));
        let _ = self.spec.borrow().active.fetch_update(SeqCst, SeqCst, give);
    }
}
