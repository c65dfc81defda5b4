//! The engine as the daemon sees it: starts the loops, gives them configurations, opens and
//! keeps the listening sockets.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use evenkeel_balance::SourceTable;
use evenkeel_model::{
    AdminState, Fallback, Name, Persistence, Pool, RealServer, Snapshot, VirtualService, Weight,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::counters::PerCore;
use crate::log::LogHandle;
use crate::spec::{ConnectionInfo, EngineConfig, Notice, PoolSpec, ServerSpec, ServerState, ServiceSpec};
use crate::worker::{self, Apply, Mailbox, Message, OpenListener, Shared, Start};

/// Connections that the kernel holds for a listener before they are accepted.
const BACKLOG: i32 = 65_535;
/// How long loops may take to take a configuration over.
const APPLY_LIMIT: Duration = Duration::from_secs(10);

pub struct EngineOptions {
    pub workers: usize,
    pub buffer_memory: u64,
}

pub struct Engine {
    shared: Arc<Shared>,
    log: LogHandle,
    workers: usize,
    config: Arc<EngineConfig>,
    states: HashMap<u32, ServerState>,
    listeners: BTreeMap<SocketAddr, ListenerSet>,
    /// Listening sockets of an earlier process, waiting for a service that wants them.
    adopted: HashMap<SocketAddr, Vec<OwnedFd>>,
    servers: HashMap<(Name, Name, SocketAddr), Arc<ServerSpec>>,
    next_id: u32,
    next_listener: u64,
}

struct ListenerSet {
    id: u64,
    service: u32,
    /// One a loop; more when an earlier process had more loops.
    fds: Vec<Arc<OwnedFd>>,
}

/// The addresses that could not be bound. Nothing was changed.
#[derive(Debug)]
pub struct ApplyError {
    pub unbound: Vec<(SocketAddr, std::io::Error)>,
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (address, error)) in self.unbound.iter().enumerate() {
            let comma = if i > 0 { "; " } else { "" };
            write!(f, "{comma}cannot listen on {address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {}

impl Engine {
    /// Starts the loops, idle. Notices go to `notices`.
    pub fn start(options: &EngineOptions, notices: &Sender<Notice>) -> std::io::Result<Engine> {
        let log = LogHandle::start()?;
        let mut boxes = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..options.workers {
            let (mailbox, orders, bell) = Mailbox::new()?;
            boxes.push(mailbox);
            ends.push((orders, bell));
        }
        let shared = Arc::new(Shared::new(boxes));
        for (core, (orders, bell)) in ends.into_iter().enumerate() {
            let start = Start {
                core,
                shared: shared.clone(),
                log: log.clone(),
                buffer_memory: options.buffer_memory / options.workers as u64,
                notices: notices.clone(),
                orders,
                bell,
            };
            let name = format!("loop-{core}");
            std::thread::Builder::new().name(name).spawn(move || worker::guard(start))?;
        }
        let config = EngineConfig {
            services: Vec::new(),
            pools: Vec::new(),
            log_format: evenkeel_model::LogFormat::Haproxy,
            max_connections: u32::MAX,
        };
        Ok(Engine {
            shared,
            log,
            workers: options.workers,
            config: Arc::new(config),
            states: HashMap::new(),
            listeners: BTreeMap::new(),
            adopted: HashMap::new(),
            servers: HashMap::new(),
            next_id: 1,
            next_listener: 1,
        })
    }

    pub fn log(&self) -> &LogHandle {
        &self.log
    }

    pub fn config(&self) -> &Arc<EngineConfig> {
        &self.config
    }

    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Client connections now.
    pub fn connection_count(&self) -> u64 {
        self.shared.connections()
    }

    pub fn state(&self, server: u32) -> Option<ServerState> {
        self.states.get(&server).copied()
    }

    /// Listening sockets of an earlier process: used instead of new ones where they fit.
    pub fn adopt(&mut self, sockets: Vec<(SocketAddr, OwnedFd)>) {
        for (address, fd) in sockets {
            self.adopted.entry(address).or_default().push(fd);
        }
    }

    /// Closes adopted sockets that no service wanted.
    pub fn forget_adopted(&mut self) {
        self.adopted.clear();
    }

    /// The sockets to hand to the next process.
    pub fn listening(&self) -> Vec<(SocketAddr, BorrowedFd<'_>)> {
        use std::os::fd::AsFd;
        let all = self.listeners.iter();
        all.flat_map(|(address, set)| set.fds.iter().map(|fd| (*address, fd.as_fd()))).collect()
    }

    /// Makes a snapshot the running configuration. `initial` gives the state of servers that are
    /// new. When an address cannot be bound nothing changes.
    pub fn apply(
        &mut self,
        snapshot: &Snapshot,
        initial: impl Fn(&Pool, &RealServer) -> ServerState,
    ) -> Result<(), ApplyError> {
        let config = self.specify(snapshot);
        let mut wanted: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for service in &config.services {
            let vips = service.service.vips.iter();
            wanted.extend(vips.flat_map(|v| v.socket_addresses()).map(|a| (a, service.id)));
        }
        let mut fresh: BTreeMap<SocketAddr, Vec<Arc<OwnedFd>>> = BTreeMap::new();
        let mut unbound = Vec::new();
        let new: Vec<SocketAddr> =
            wanted.keys().filter(|a| !self.listeners.contains_key(a)).copied().collect();
        for address in new {
            match self.open(address) {
                Ok(fds) => {
                    fresh.insert(address, fds);
                }
                Err(error) => unbound.push((address, error)),
            }
        }
        if !unbound.is_empty() {
            return Err(ApplyError { unbound });
        }
        for pool in &config.pools {
            for server in &pool.servers {
                self.states.entry(server.id).or_insert_with(|| initial(&pool.pool, &server.server));
            }
        }
        let known: std::collections::HashSet<u32> =
            config.pools.iter().flat_map(|p| p.servers.iter().map(|s| s.id)).collect();
        self.states.retain(|id, _| known.contains(id));
        self.servers.retain(|_, spec| known.contains(&spec.id));
        self.hand_out(config, &wanted, fresh);
        self.log.set_target(snapshot.log.access.clone());
        Ok(())
    }

    fn hand_out(
        &mut self,
        config: EngineConfig,
        wanted: &BTreeMap<SocketAddr, u32>,
        mut fresh: BTreeMap<SocketAddr, Vec<Arc<OwnedFd>>>,
    ) {
        let mut close = Vec::new();
        let mut opened = Vec::new();
        let mut kept = std::mem::take(&mut self.listeners);
        for (address, service) in wanted {
            let set = match (kept.remove(address), fresh.remove(address)) {
                (Some(set), _) if set.service == *service => set,
                (Some(set), _) => {
                    close.push(set.id);
                    opened.push(*address);
                    ListenerSet { id: self.listener_id(), service: *service, fds: set.fds }
                }
                (None, Some(fds)) => {
                    opened.push(*address);
                    ListenerSet { id: self.listener_id(), service: *service, fds }
                }
                (None, None) => continue,
            };
            self.listeners.insert(*address, set);
        }
        close.extend(kept.values().map(|set| set.id));
        self.shared.set_max_connections(config.max_connections);
        self.config = Arc::new(config);
        let states = Arc::new(self.states.clone());
        let (done, finished) = channel();
        for (core, mailbox) in self.shared.mailboxes.iter().enumerate() {
            let open =
                opened.iter().flat_map(|address| self.listeners.get(address).map(|set| (address, set)));
            let mine = open.flat_map(|(address, set)| {
                let fds = set.fds.iter().enumerate().filter(|(i, _)| i % self.workers == core);
                fds.map(|(_, fd)| OpenListener {
                    id: set.id,
                    service: set.service,
                    address: *address,
                    fd: fd.clone(),
                })
            });
            mailbox.send(Message::Apply(Apply {
                config: self.config.clone(),
                states: states.clone(),
                close: close.clone(),
                open: mine.collect(),
                done: done.clone(),
            }));
        }
        wait_for(&finished, self.workers);
    }

    fn listener_id(&mut self) -> u64 {
        self.next_listener += 1;
        self.next_listener
    }

    fn open(&mut self, address: SocketAddr) -> std::io::Result<Vec<Arc<OwnedFd>>> {
        let adopted = self.adopted.remove(&address).unwrap_or_default();
        let mut fds: Vec<Arc<OwnedFd>> = adopted.into_iter().map(Arc::new).collect();
        while fds.len() < self.workers {
            fds.push(Arc::new(listen(address)?));
        }
        Ok(fds)
    }

    /// Health or a person changed a server's state.
    pub fn set_server(&mut self, server: u32, state: ServerState) {
        self.states.insert(server, state);
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Message::Server { server, state });
        }
    }

    /// Every client connection.
    pub fn connections(&self) -> Receiver<Vec<ConnectionInfo>> {
        let (reply, answers) = channel();
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Message::List(reply.clone()));
        }
        answers
    }

    /// Stops accepting; each loop sends [`Notice::Drained`] when its last connection has ended.
    /// Connections without a request are closed after `idle`.
    pub fn drain(&mut self, idle: Duration) {
        self.listeners.clear();
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Message::Drain { idle_ms: idle.as_millis() as u64 });
        }
    }

    /// The snapshot with identities: what did not change is the same allocation as before.
    fn specify(&mut self, snapshot: &Snapshot) -> EngineConfig {
        let old = self.config.clone();
        let old_pools: HashMap<&Name, &Arc<PoolSpec>> = old.pools.iter().map(|p| (&p.pool.name, p)).collect();
        let old_services: HashMap<&Name, &Arc<ServiceSpec>> =
            old.services.iter().map(|s| (&s.service.name, s)).collect();
        let pools: Vec<Arc<PoolSpec>> = snapshot
            .pools
            .iter()
            .map(|pool| match old_pools.get(&pool.name) {
                Some(same) if *same.pool == **pool => Arc::clone(same),
                before => Arc::new(self.pool_spec(pool, before.copied())),
            })
            .collect();
        let ids: HashMap<&Name, u32> = pools.iter().map(|p| (&p.pool.name, p.id)).collect();
        let services = snapshot.services.iter().filter_map(|service| {
            let pool_id = *ids.get(&service.pool)?;
            Some(match old_services.get(&service.name) {
                Some(same) if *same.service == **service && same.pool_id == pool_id => Arc::clone(same),
                before => Arc::new(self.service_spec(service, pool_id, before.copied())),
            })
        });
        EngineConfig {
            services: services.collect(),
            log_format: snapshot.log.format,
            max_connections: snapshot.limits.max_connections,
            pools: pools.clone(),
        }
    }

    fn pool_spec(&mut self, pool: &Arc<Pool>, before: Option<&Arc<PoolSpec>>) -> PoolSpec {
        let table = match (&pool.persistence, before) {
            (rule @ Persistence::Source(_), Some(before)) if before.pool.persistence == *rule => {
                before.table.clone()
            }
            (Persistence::Source(rule), _) => {
                Some(Arc::new(SourceTable::new(rule.size, rule.timeout.as_millis() as u64)))
            }
            _ => None,
        };
        let servers = pool.real_servers.iter().map(|server| self.server_spec(&pool.name, server));
        PoolSpec {
            servers: servers.collect(),
            id: before.map_or_else(|| self.id(), |b| b.id),
            waiting: before.map_or_else(Arc::default, |b| b.waiting.clone()),
            pool: pool.clone(),
            table,
        }
    }

    fn server_spec(&mut self, pool: &Name, server: &RealServer) -> Arc<ServerSpec> {
        let key = (pool.clone(), server.name.clone(), server.address);
        let spec = match self.servers.get(&key) {
            Some(same) if same.server == *server => return same.clone(),
            Some(before) => ServerSpec {
                id: before.id,
                server: server.clone(),
                counters: before.counters.clone(),
                active: before.active.clone(),
            },
            None => ServerSpec {
                id: self.id(),
                server: server.clone(),
                counters: Arc::new(PerCore::new(self.workers)),
                active: Arc::new(AtomicU32::new(0)),
            },
        };
        let spec = Arc::new(spec);
        self.servers.insert(key, spec.clone());
        spec
    }

    fn service_spec(
        &mut self,
        service: &Arc<VirtualService>,
        pool_id: u32,
        before: Option<&Arc<ServiceSpec>>,
    ) -> ServiceSpec {
        let fallback_server = match &service.fallback {
            Some(Fallback::Server(address)) => Some(Arc::new(self.fallback(*address))),
            _ => None,
        };
        ServiceSpec {
            id: before.map_or_else(|| self.id(), |b| b.id),
            pool_id,
            service: service.clone(),
            counters: before.map_or_else(|| Arc::new(PerCore::new(self.workers)), |b| b.counters.clone()),
            connections: before.map_or_else(Arc::default, |b| b.connections.clone()),
            fallback_server,
        }
    }

    fn fallback(&mut self, address: SocketAddr) -> ServerSpec {
        // The name is a constant that is a valid one.
        let name = Name::new("fallback").unwrap_or_else(|_| unreachable!());
        ServerSpec {
            id: self.id(),
            server: RealServer {
                name,
                address,
                weight: Weight::default(),
                max_connections: 0,
                backup: true,
                admin_state: AdminState::Online,
            },
            counters: Arc::new(PerCore::new(self.workers)),
            active: Arc::default(),
        }
    }

    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }
}

fn wait_for(finished: &Receiver<()>, count: usize) {
    for _ in 0..count {
        if finished.recv_timeout(APPLY_LIMIT).is_err() {
            return;
        }
    }
}

/// Opens a listening TCP socket that shares its address with others of this program.
pub fn listen(address: SocketAddr) -> std::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    // Accepted connections inherit it.
    sockopt::set_tcp_nodelay(&fd, true)?;
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}
