//! The engine as the daemon sees it: starts the loops, gives them configurations, opens and
//! keeps the listening sockets.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use evenkeel_balance::Table;
use evenkeel_model::{
    AdminState, Fallback, Name, Pool, RealServer, Snapshot, TableRule, VirtualService, Weight,
};

use crate::auth;
use crate::counters::PerCore;
use crate::file_error::FileError;
use crate::listen::{check_free, listen, set_mss};
use crate::log::{LogHandle, LogPlan};
use crate::routing::{self, Compiler, Limits, RouteFiles, TableSpec};
use crate::spec::{
    Closing, ConnectionInfo, EngineConfig, Notice, PoolSpec, ServerSpec, ServerState, ServersTls, ServiceSpec,
};
use crate::tls::{self, TicketKeys, TicketSecrets, TlsClient, TlsServer};
use crate::worker::{self, Apply, CHANGES_AN_ORDER, EngineShared, Mailbox, Message, OpenListener, Start};

/// Connections that the kernel holds for a listener before they are accepted.
pub const BACKLOG: i32 = 65_535;
/// How long loops may take to take a configuration over.
const APPLY_LIMIT: Duration = Duration::from_secs(10);

pub struct EngineOptions {
    pub workers: usize,
    pub buffer_memory: u64,
}

pub struct Engine {
    shared: Arc<EngineShared>,
    log: LogHandle,
    workers: usize,
    config: Arc<EngineConfig>,
    states: HashMap<u32, ServerState>,
    /// States that the loops have not been told yet.
    changes: Vec<(u32, ServerState)>,
    /// Where each server is in the configuration: the number of its pool there, and its own.
    places: HashMap<u32, (usize, usize)>,
    listeners: BTreeMap<SocketAddr, ListenerSet>,
    /// Listening sockets of an earlier process, waiting for a service that wants them.
    adopted: HashMap<SocketAddr, Vec<OwnedFd>>,
    shares_ports: bool,
    /// Files for TLS with servers are not read again.
    keeps_files: bool,
    servers: HashMap<(Name, Name, SocketAddr), Arc<ServerSpec>>,
    tickets: Arc<TicketKeys>,
    limits: Limits,
    /// As open files allow.
    most_connections: u32,
    next_id: u32,
    next_listener: u64,
}

struct ListenerSet {
    id: u64,
    service: u32,
    /// One a loop; more when an earlier process had more loops.
    fds: Vec<Arc<OwnedFd>>,
}

/// A configuration for which sockets are bound and files are read.
pub struct PreparedEngine {
    config: EngineConfig,
    wanted: BTreeMap<SocketAddr, u32>,
    fresh: BTreeMap<SocketAddr, Vec<Arc<OwnedFd>>>,
    log: Vec<evenkeel_model::LogTarget>,
}

impl PreparedEngine {
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }
}

/// The addresses that could not be bound. Nothing was changed.
#[derive(Debug, Default)]
pub struct ApplyError {
    pub unbound: Vec<(SocketAddr, std::io::Error)>,
    /// Files that services need and that cannot be used.
    pub files: Vec<FileError>,
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (address, error)) in self.unbound.iter().enumerate() {
            let comma = if i > 0 { "; " } else { "" };
            write!(f, "{comma}cannot listen on {address}: {error}")?;
        }
        for (i, error) in self.files.iter().enumerate() {
            let comma = if i > 0 || !self.unbound.is_empty() { "; " } else { "" };
            write!(f, "{comma}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {}

/// Open files for all that is no client or its server.
const RESERVE: u64 = 512;

fn connections_within(open_files: u64) -> u32 {
    let reserve = RESERVE.min(open_files / 2);
    u32::try_from((open_files - reserve) / 2).unwrap_or(u32::MAX).max(1)
}

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
        let shared = Arc::new(EngineShared::new(boxes));
        let answers = Arc::downgrade(&shared);
        let hashing = auth::start(move |core, number, right| {
            if let Some(mailbox) = answers.upgrade().as_ref().and_then(|s| s.mailboxes.get(core)) {
                mailbox.send(Message::Verified { number, right });
            }
        })?;
        let _ = shared.passwords.set(hashing);
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
            tables: Vec::new(),
            max_connections: u32::MAX,
        };
        Ok(Engine {
            shared,
            log,
            workers: options.workers,
            config: Arc::new(config),
            states: HashMap::new(),
            changes: Vec::new(),
            places: HashMap::new(),
            listeners: BTreeMap::new(),
            adopted: HashMap::new(),
            shares_ports: false,
            keeps_files: false,
            servers: HashMap::new(),
            tickets: Arc::new(TicketKeys::new(wall_seconds())),
            limits: Limits::default(),
            most_connections: u32::MAX,
            next_id: 1,
            next_listener: 1,
        })
    }

    /// Takes no more clients at a time than so many open files allow, whatever configurations say:
    /// one each, one for its server, and a reserve for the admin listeners, probes and files. How
    /// many those are. Connections to servers that wait for their next request may take what clients leave.
    pub fn hold_within(&mut self, open_files: u64) -> u32 {
        self.most_connections = connections_within(open_files);
        self.shared.set_descriptors((self.most_connections as usize).saturating_mul(2));
        self.most_connections
    }

    pub fn log(&self) -> &LogHandle {
        &self.log
    }

    pub fn config(&self) -> &Arc<EngineConfig> {
        &self.config
    }

    /// Where answers to challenges of authorities are put.
    pub fn challenges(&self) -> &Arc<crate::challenge::Challenges> {
        &self.shared.challenges
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

    /// Another program, which this one replaces without its sockets, may listen on the same ports.
    pub fn share_ports(&mut self) {
        self.shares_ports = true;
    }

    /// Configurations that follow differ in servers alone: files for TLS with them are not read again.
    pub fn keep_files(&mut self, keeps: bool) {
        self.keeps_files = keeps;
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

    /// Does everything that can fail before a snapshot becomes the running configuration: files are
    /// read, sockets bound. What runs is not touched; dropping the result undoes it. `not_here_yet` says
    /// which addresses this machine is given later, or another node has now.
    pub fn prepare(
        &mut self,
        snapshot: &Snapshot,
        not_here_yet: impl Fn(IpAddr) -> bool,
    ) -> Result<PreparedEngine, ApplyError> {
        let config = self.specify(snapshot).map_err(|files| ApplyError { files, ..ApplyError::default() })?;
        let mut wanted: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for service in config.services.iter().filter(|s| !s.service.mode.is_layer4()) {
            let vips = service.service.vips.iter();
            wanted.extend(vips.flat_map(|v| v.socket_addresses()).map(|a| (a, service.id)));
        }
        let mut fresh: BTreeMap<SocketAddr, Vec<Arc<OwnedFd>>> = BTreeMap::new();
        let mut unbound = Vec::new();
        let new: Vec<SocketAddr> =
            wanted.keys().filter(|a| !self.listeners.contains_key(a)).copied().collect();
        let own = self.listeners.keys().chain(self.adopted.keys());
        let mut own: HashSet<u16> = own.map(SocketAddr::port).collect();
        for address in new {
            match self.open(address, not_here_yet(address.ip()), &own) {
                Ok(fds) => {
                    own.insert(address.port());
                    fresh.insert(address, fds);
                }
                Err(error) => unbound.push((address, error)),
            }
        }
        if !unbound.is_empty() {
            return Err(ApplyError { unbound, ..ApplyError::default() });
        }
        Ok(PreparedEngine { config, wanted, fresh, log: snapshot.log.clone() })
    }

    /// Makes what was prepared the running configuration. `initial` gives the state of servers that
    /// are new.
    pub fn replace(
        &mut self,
        prepared: PreparedEngine,
        initial: impl Fn(&PoolSpec, &ServerSpec) -> ServerState,
    ) {
        let PreparedEngine { config, wanted, fresh, log } = prepared;
        for pool in &config.pools {
            for server in &pool.servers {
                self.states.entry(server.id).or_insert_with(|| initial(pool, server));
            }
        }
        let known: HashSet<u32> = config.pools.iter().flat_map(|p| p.servers.iter().map(|s| s.id)).collect();
        self.states.retain(|id, _| known.contains(id));
        self.servers.retain(|_, spec| known.contains(&spec.id));
        // The first request already has its line.
        let own = |service: &Arc<ServiceSpec>| Some((service.id, service.service.log.clone()?));
        let services = config.services.iter().filter_map(own).collect();
        self.log.set_targets(LogPlan { process: log, services });
        self.hand_out(config, &wanted, fresh);
    }

    fn hand_out(
        &mut self,
        config: EngineConfig,
        wanted: &BTreeMap<SocketAddr, u32>,
        mut fresh: BTreeMap<SocketAddr, Vec<Arc<OwnedFd>>>,
    ) {
        let mss_of: HashMap<u32, u16> = config.services.iter().map(|s| (s.id, s.service.tcp_mss)).collect();
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
            let mss = mss_of.get(service).copied().unwrap_or(0);
            set.fds.iter().for_each(|fd| set_mss(fd, mss));
            self.listeners.insert(*address, set);
        }
        close.extend(kept.values().map(|set| set.id));
        self.shared.set_max_connections(config.max_connections);
        self.config = Arc::new(config);
        self.places.clear();
        for (number, pool) in self.config.pools.iter().enumerate() {
            let servers = pool.servers.iter().enumerate();
            self.places.extend(servers.map(|(place, server)| (server.id, (number, place))));
        }
        self.tell_changes();
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

    /// `own`: ports that this process, or the one before it, has already; another address of the same
    /// port may be in its place.
    fn open(
        &mut self,
        address: SocketAddr,
        floating: bool,
        own: &HashSet<u16>,
    ) -> std::io::Result<Vec<Arc<OwnedFd>>> {
        let adopted = self.adopted.remove(&address).unwrap_or_default();
        let mut fds: Vec<Arc<OwnedFd>> = adopted.into_iter().map(Arc::new).collect();
        if fds.is_empty() && !self.shares_ports && !own.contains(&address.port()) {
            check_free(address, floating, self.listeners.is_empty())?;
        }
        while fds.len() < self.workers {
            match listen(address, floating) {
                Ok(fd) => fds.push(Arc::new(fd)),
                // One that was given and does not share its address: the loops share it.
                Err(error) => match fds.first() {
                    Some(given) => fds.push(Arc::new(given.try_clone()?)),
                    None => return Err(error),
                },
            }
        }
        Ok(fds)
    }

    /// Health or a person changed a server's state. The loops hear of it at [`Self::tell_changes`].
    pub fn set_server(&mut self, server: u32, state: ServerState) {
        self.states.insert(server, state);
        self.changes.push((server, state));
    }

    /// Tells the loops every state that was set since the last time, in one order for each of them.
    pub fn tell_changes(&mut self) {
        for changes in std::mem::take(&mut self.changes).chunks(CHANGES_AN_ORDER) {
            let changes: Arc<[(u32, ServerState)]> = changes.into();
            for mailbox in &self.shared.mailboxes {
                mailbox.send(Message::Servers(changes.clone()));
            }
        }
    }

    /// A server by its number, with its pool.
    pub fn server(&self, id: u32) -> Option<(&Arc<PoolSpec>, &Arc<ServerSpec>)> {
        let (pool, server) = self.places.get(&id)?;
        let pool = self.config.pools.get(*pool)?;
        Some((pool, pool.servers.get(*server)?))
    }

    /// Ends every client connection to a VIP that another node has now.
    pub fn cut_clients(&self) {
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Message::CutClients);
        }
    }

    /// Ends client connections; each loop says how many.
    pub fn close(&self, which: Closing) -> Receiver<usize> {
        let (reply, answers) = channel();
        let which = Arc::new(which);
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Message::Close(which.clone(), reply.clone()));
        }
        answers
    }

    /// Finishes what there is, as before the end of a process, but goes on listening: every answer is its
    /// connection's last, and idle ones end after so long. `None`: as usual again.
    pub fn ease(&self, idle: Option<Duration>) {
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Message::Ease { idle_ms: idle.map(|idle| idle.as_millis() as u64) });
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
    fn specify(&mut self, snapshot: &Snapshot) -> Result<EngineConfig, Vec<FileError>> {
        let old = self.config.clone();
        let old_pools: HashMap<&Name, &Arc<PoolSpec>> = old.pools.iter().map(|p| (&p.pool.name, p)).collect();
        let old_services: HashMap<&Name, &Arc<ServiceSpec>> =
            old.services.iter().map(|s| (&s.service.name, s)).collect();
        let mut files = Vec::new();
        let mut pools: Vec<Arc<PoolSpec>> = Vec::new();
        for pool in &snapshot.pools {
            match old_pools.get(&pool.name) {
                Some(same) if same.pool == *pool && !tls::pool::is_stale(same) => {
                    pools.push(Arc::clone(same))
                }
                before => {
                    match tls::pool::of_pool(pool, before.filter(|_| self.keeps_files).map(|b| &***b)) {
                        Ok(tls) => pools.push(Arc::new(self.pool_spec(pool, before.copied(), tls))),
                        Err(error) => files.push(error),
                    }
                }
            }
        }
        let ids: HashMap<&Name, u32> = pools.iter().map(|p| (&p.pool.name, p.id)).collect();
        let tables = table_specs(&snapshot.tables, &old);
        let names: Vec<Name> = pools.iter().map(|p| p.pool.name.clone()).collect();
        let same_tables = tables.iter().zip(&old.tables).all(|(a, b)| Arc::ptr_eq(a, b));
        let mut limits = std::mem::take(&mut self.limits);
        limits.prune();
        let mut compiler = Compiler::new(&tables, &mut limits);
        let mut services = Vec::new();
        for service in &snapshot.services {
            let Some(pool_id) = ids.get(&service.pool).copied() else { continue };
            let before = old_services.get(&service.name).copied();
            let tls = match self.service_tls(service, before) {
                Ok(tls) => tls,
                Err(error) => {
                    files.push(error);
                    continue;
                }
            };
            let same = before.filter(|b| b.service == *service && b.pool_id == pool_id && same_tables);
            let fresh = |b: &&Arc<ServiceSpec>| {
                let known =
                    b.routes.pools.iter().zip(&b.pool_ids).all(|(name, id)| ids.get(name) == Some(id));
                same_tls(&b.tls, &tls) && known && !b.route_files.changed()
            };
            if let Some(same) = same.filter(fresh) {
                services.push(Arc::clone(same));
                continue;
            }
            let routed = compiler.compile(service, &names);
            match routed.and_then(|routes| Ok((routes, routing::error_pages(service)?))) {
                Ok(((routes, files), pages)) => {
                    let pool_ids = routes.pools.iter().filter_map(|name| ids.get(name).copied()).collect();
                    let mut spec = self.service_spec(service, pool_id, before, tls);
                    (spec.routes, spec.error_pages, spec.pool_ids) = (Arc::new(routes), pages, pool_ids);
                    spec.route_files = files;
                    services.push(Arc::new(spec));
                }
                Err(error) => files.push(error),
            }
        }
        self.limits = limits;
        if !files.is_empty() {
            return Err(files);
        }
        Ok(EngineConfig {
            services,
            max_connections: snapshot.limits.max_connections.min(self.most_connections),
            pools: pools.clone(),
            tables,
        })
    }

    /// The TLS of a service; what runs goes on where its settings and files are the same.
    fn service_tls(
        &self,
        service: &VirtualService,
        before: Option<&Arc<ServiceSpec>>,
    ) -> Result<Option<Arc<TlsServer>>, FileError> {
        let Some(settings) = &service.tls else { return Ok(None) };
        let before = before.and_then(|b| Some((b.service.tls == service.tls, b.tls.as_ref()?)));
        match before.filter(|(same, tls)| *same && tls.fingerprint == tls::fingerprint(settings)) {
            Some((_, same)) => Ok(Some(same.clone())),
            None => {
                let running = before.map(|(_, tls)| &**tls);
                let tls = tls::load_server(service.name.as_str(), settings, &self.tickets, running)?;
                Ok(Some(Arc::new(tls)))
            }
        }
    }

    /// Whether a file of a running service or pool has changed on disk.
    pub fn files_changed(&self) -> bool {
        self.config.services.iter().any(|s| match (&s.service.tls, &s.tls) {
            (Some(settings), Some(tls)) => tls.fingerprint != tls::fingerprint(settings),
            _ => false,
        } || s.route_files.changed())
            || self.config.pools.iter().any(|pool| tls::pool::is_stale(pool))
    }

    /// Keys of an earlier process, so that its clients' sessions are resumed.
    pub fn adopt_tickets(&self, secrets: TicketSecrets) {
        if !secrets.keys.is_empty() {
            self.tickets.set(secrets);
        }
    }

    /// The keys of TLS session tickets; they change with time.
    pub fn tickets(&self) -> &TicketKeys {
        self.tickets.rotate(wall_seconds());
        &self.tickets
    }

    fn pool_spec(&mut self, pool: &Arc<Pool>, before: Option<&Arc<PoolSpec>>, tls: ServersTls) -> PoolSpec {
        let table = match (pool.persistence.table(), before) {
            (Some(_), Some(before)) if before.pool.persistence == pool.persistence => before.table.clone(),
            (Some(rule), _) => Some(Arc::new(Table::new(rule.size, rule.expire.as_millis() as u64, 1_000))),
            (None, _) => None,
        };
        let servers = pool.real_servers.iter().map(|server| {
            let of_server = server.tls(pool).map(|settings| (settings.clone(), server.speaks_h2(pool)));
            let tls = of_server.and_then(|key| tls.get(&key)).cloned();
            self.server_spec(&pool.name, server, tls)
        });
        let servers: Vec<_> = servers.collect();
        PoolSpec {
            servers,
            id: before.map_or_else(|| self.id(), |b| b.id),
            waiting: before.map_or_else(Arc::default, |b| b.waiting.clone()),
            current: before.map_or_else(|| Arc::new(PerCore::new(self.workers)), |b| b.current.clone()),
            turns: before.map_or_else(Arc::default, |b| b.turns.clone()),
            some_speak_h2: pool.real_servers.iter().any(|server| server.speaks_h2(pool)),
            all_speak_h2: pool.real_servers.iter().all(|server| server.speaks_h2(pool)),
            pool: pool.clone(),
            table,
            tls,
        }
    }

    fn server_spec(
        &mut self,
        pool: &Name,
        server: &RealServer,
        tls: Option<Arc<TlsClient>>,
    ) -> Arc<ServerSpec> {
        let key = (pool.clone(), server.name.clone(), server.address);
        let spec = match self.servers.get(&key) {
            Some(same) if same.server == *server && is_one(&same.tls, &tls) => return same.clone(),
            Some(before) => ServerSpec {
                id: before.id,
                tls,
                server: server.clone(),
                counters: before.counters.clone(),
                active: before.active.clone(),
                failures: before.failures.clone(),
            },
            None => ServerSpec {
                id: self.id(),
                tls,
                server: server.clone(),
                counters: Arc::new(PerCore::new(self.workers)),
                active: Arc::new(AtomicU32::new(0)),
                failures: Arc::default(),
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
        tls: Option<Arc<TlsServer>>,
    ) -> ServiceSpec {
        let fallback_server = match &service.fallback {
            Some(Fallback::Server(address)) => Some(Arc::new(self.fallback(*address))),
            _ => None,
        };
        ServiceSpec {
            id: before.map_or_else(|| self.id(), |b| b.id),
            pool_id,
            pool_ids: vec![pool_id],
            routes: Arc::default(),
            route_files: RouteFiles::default(),
            error_pages: Vec::new(),
            line: crate::log::LineStyle::of(&service.log_format),
            service: service.clone(),
            counters: before.map_or_else(|| Arc::new(PerCore::new(self.workers)), |b| b.counters.clone()),
            connections: before.map_or_else(Arc::default, |b| b.connections.clone()),
            fallback_server,
            tls,
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
                min_connections: 0,
                backup: true,
                keeps_clients: false,
                non_stick: false,
                admin_state: AdminState::Online,
                cookie: None,
                check: true,
                health_check: None,
                source: None,
                host: None,
                found_in: None,
                speaks: None,
                h2: None,
                send_proxy: None,
            },
            tls: None,
            counters: Arc::new(PerCore::new(self.workers)),
            active: Arc::default(),
            failures: Arc::default(),
        }
    }

    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }
}

fn no_config() -> EngineConfig {
    EngineConfig { services: Vec::new(), pools: Vec::new(), tables: Vec::new(), max_connections: 0 }
}

/// Lists of a service's conditions with lines that nothing matches.
pub fn unmatchable_lists(snapshot: &Snapshot, service: &VirtualService) -> Vec<String> {
    let answers = service.answer_routes.iter().map(|answer| &answer.route);
    let mut conditions = service.routes.iter().chain(answers).flat_map(|route| &route.when);
    if conditions.all(|when| when.files().is_empty()) {
        return Vec::new();
    }
    let tables = table_specs(&snapshot.tables, &no_config());
    let names: Vec<Name> = snapshot.pools.iter().map(|p| p.name.clone()).collect();
    let mut limits = Limits::default();
    let mut compiler = Compiler::new(&tables, &mut limits);
    // Files that cannot be read are told elsewhere.
    let _ = compiler.compile(service, &names);
    compiler.unmatchable().to_vec()
}

/// Every file of a configuration that cannot be used, without using any.
pub fn check_files(snapshot: &Snapshot) -> Vec<FileError> {
    let tickets = Arc::new(TicketKeys::new(0));
    let services = snapshot.services.iter().filter_map(|s| Some((s.name.as_str(), s.tls.as_ref()?)));
    let services =
        services.filter_map(|(name, settings)| tls::load_server(name, settings, &tickets, None).err());
    let mut errors: Vec<FileError> = services
        .chain(snapshot.pools.iter().filter_map(|pool| tls::pool::of_pool(pool, None).err()))
        .collect();
    let tables = table_specs(&snapshot.tables, &no_config());
    let names: Vec<Name> = snapshot.pools.iter().map(|p| p.name.clone()).collect();
    let mut limits = Limits::default();
    let mut compiler = Compiler::new(&tables, &mut limits);
    for service in &snapshot.services {
        errors.extend(compiler.compile(service, &names).err());
        errors.extend(routing::error_pages(service).err());
    }
    errors
}

/// A table under its rule; what it holds is kept while the rule stays.
/// Tables with the entries that they had; one with another's entries stands behind that one.
fn table_specs(rules: &[Arc<TableRule>], old: &EngineConfig) -> Vec<Arc<TableSpec>> {
    let mut all: Vec<Arc<TableSpec>> = Vec::new();
    for rule in rules {
        let whole = rule.entries_of.as_ref().and_then(|of| all.iter().find(|t| t.rule.name == *of));
        let spec = table_spec(rule, whole.map(|whole| &whole.table), old);
        all.push(spec);
    }
    all
}

fn table_spec(rule: &Arc<TableRule>, whole: Option<&Arc<Table>>, old: &EngineConfig) -> Arc<TableSpec> {
    let same = old.tables.iter().find(|t| t.rule == *rule);
    if let Some(same) = same.filter(|t| whole.is_none_or(|whole| Arc::ptr_eq(whole, &t.table))) {
        return same.clone();
    }
    if let Some(whole) = whole {
        return Arc::new(TableSpec { rule: rule.clone(), table: whole.clone() });
    }
    let (expire_ms, period_ms) = (rule.expire.as_millis() as u64, rule.period.as_millis() as u64);
    let table = Arc::new(Table::new(rule.size, expire_ms, period_ms));
    Arc::new(TableSpec { rule: rule.clone(), table })
}

fn same_tls(one: &Option<Arc<TlsServer>>, other: &Option<Arc<TlsServer>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn is_one(one: &Option<Arc<TlsClient>>, other: &Option<Arc<TlsClient>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn wall_seconds() -> u64 {
    crate::reactor::now().wall_ms / 1_000
}

fn wait_for(finished: &Receiver<()>, count: usize) {
    for _ in 0..count {
        if finished.recv_timeout(APPLY_LIMIT).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_open_files() {
        for (files, expect) in [(0, 1), (64, 16), (1_024, 256), (4_096, 1_792), (u64::MAX, u32::MAX)] {
            assert_eq!(connections_within(files), expect, "{files}");
        }
    }
}
