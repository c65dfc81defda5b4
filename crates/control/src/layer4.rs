//! Layer 4 in the daemon: turns services and server states into what the packet path needs, and
//! keeps it in step with the kernel's routes, neighbours and interfaces.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use evenkeel_l4::{
    Attached, Batch, Forwarding, Hop, Options, Persist, Pick, Plane, ProbeSpec, Server, ServiceSpec, Sizes,
    Takes, Tap,
};
use evenkeel_l7::{PoolSpec, ServerState};
use evenkeel_model::{
    AdminState, Attach, Fallback, Mode, PacketPath, Persistence, Pool, Scheduler, Snapshot, VirtualService,
};
use evenkeel_platform::{Interface, Network, NetworkChanges, OwnAddress, WayTo};
use tracing::{error, info, warn};

use crate::neighbours::is_near;

/// Neighbours are looked for again after this time, so that a moved one is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// ICMP errors a second that the packet path sends at most.
const ICMP_RATE: u32 = 1000;
/// Marks of sockets of health checks; the server's number is below.
const PROBE_MARK: u32 = 0x4500_0000;
/// The name of the server that takes clients when no real server is left.
pub const FALLBACK: &str = "(fallback)";
/// What the next process must know of the packet path, in the state directory.
const BOOK: &str = "layer-4.json";

#[derive(Default)]
pub struct Layer4 {
    path: Option<Layer4Path>,
}

/// What there is while a service of layer 4 is configured.
struct Layer4Path {
    plane: Plane,
    network: Network,
    changes: NetworkChanges,
    /// Changes of neighbours and of routes that were looked at.
    seen: (u64, u64),
    /// Ways to real servers, until routes change.
    ways: HashMap<IpAddr, WayTo>,
    look_at: Instant,
    rules: PacketPath,
    interfaces: Vec<Interface>,
    /// Those of this machine.
    addresses: Vec<OwnAddress>,
    wanted: AddressSet,
    /// No longer of the configuration, as far as flows may still come to them.
    leaving: BTreeSet<IpAddr>,
    hops: HashMap<IpAddr, Hop>,
    auto_nat: Vec<(IpAddr, Option<IpAddr>)>,
    missing: HashSet<IpAddr>,
}

/// Addresses of a configuration.
#[derive(Default, PartialEq, Eq, Clone)]
struct AddressSet {
    vips: BTreeSet<IpAddr>,
    real: BTreeSet<IpAddr>,
    floating: BTreeSet<IpAddr>,
}

impl Layer4 {
    /// Loads the packet path if this configuration needs one; it must not fail later.
    pub fn prepare(&mut self, snapshot: &Snapshot, directory: &std::path::Path) -> Result<(), String> {
        if !has_layer4(snapshot) || self.path.is_some() {
            return Ok(());
        }
        self.load(snapshot, directory)
    }

    /// Goes on with flows of the process before, though no service of this configuration is of layer 4.
    pub fn finish_flows(&mut self, snapshot: &Snapshot) {
        let directory = &snapshot.state_directory;
        if self.path.is_some() || has_layer4(snapshot) || !directory.join(BOOK).exists() {
            return;
        }
        let loaded = self.load(snapshot, directory);
        let attached = loaded.and_then(|()| self.path.as_mut().map_or(Ok(()), Layer4Path::attach_as_before));
        if let Err(error) = attached {
            warn!(error, "flows of layer 4 that the process before left cannot be finished");
        }
        self.settle(snapshot);
    }

    fn load(&mut self, snapshot: &Snapshot, directory: &std::path::Path) -> Result<(), String> {
        let mut network = Network::open().map_err(|e| format!("netlink cannot be opened: {e}"))?;
        let interfaces = network.interfaces().map_err(|e| format!("the interfaces cannot be read: {e}"))?;
        let changes = NetworkChanges::watch().map_err(|e| format!("netlink cannot be opened: {e}"))?;
        let rules = snapshot.packet_path.clone();
        let random = || std::collections::hash_map::RandomState::new().build_hasher().finish();
        let options = Options {
            sizes: Sizes { flows: rules.connections, persistent: rules.persistent },
            lease: rules.lease,
            book: PathBuf::from(directory).join(BOOK),
            interfaces: interfaces.iter().map(|i| i.index).collect(),
            seed: (random(), random()),
            icmp_rate: ICMP_RATE,
        };
        let plane = Plane::start(&options).map_err(|e| format!("layer 4 cannot be started: {e}"))?;
        // Whether it can be written shows when something is.
        let _ = evenkeel_files::make_folder(directory);
        self.path = Some(Layer4Path {
            plane,
            network,
            changes,
            seen: (0, 0),
            ways: HashMap::new(),
            look_at: Instant::now(),
            rules,
            interfaces,
            addresses: Vec::new(),
            wanted: AddressSet::default(),
            leaving: BTreeSet::new(),
            hops: HashMap::new(),
            auto_nat: Vec::new(),
            missing: HashSet::new(),
        });
        Ok(())
    }

    /// Whether the packet path could be loaded; where it was not, it is not afterwards.
    pub fn try_out(&mut self, snapshot: &Snapshot, directory: &std::path::Path) -> Result<(), String> {
        let was_there = self.path.is_some();
        let tried = self.prepare(snapshot, directory);
        if !was_there {
            self.take_away();
        }
        tried
    }

    /// Makes these the services. Where there are none, [`Layer4::settle`] takes the packet path away when it has
    /// nothing to finish.
    pub fn apply(
        &mut self,
        snapshot: &Snapshot,
        specs: Vec<ServiceSpec>,
        probes: Vec<ProbeSpec>,
    ) -> Result<(), String> {
        let Some(path) = &mut self.path else { return Ok(()) };
        if snapshot.packet_path != path.rules {
            warn!("[layer-4] has changed; it is used after the next restart");
        }
        let before = std::mem::replace(&mut path.wanted, wanted(snapshot));
        path.leaving.extend(before.vips.union(&before.floating));
        path.leaving.retain(|a| !path.wanted.vips.contains(a) && !path.wanted.floating.contains(a));
        // Until the packet path knows the new servers it has the old ones, and goes on to know the way to them.
        path.refresh(&before.real);
        path.plane.set_services(specs).map_err(|e| e.to_string())?;
        path.plane.set_probes(probes).map_err(|e| e.to_string())?;
        path.set_auto_nat(snapshot);
        Ok(())
    }

    /// After a change of the configuration, or one that was refused: layer 4 goes where nothing
    /// needs it, when its last flow has ended.
    pub fn settle(&mut self, snapshot: &Snapshot) {
        let Some(path) = self.path.as_ref().filter(|_| !has_layer4(snapshot)) else { return };
        // What cannot be read is not waited for.
        if path.plane.has_open_flows().unwrap_or(false) {
            info!("no service needs layer 4: it is removed when its last connection has ended");
            return;
        }
        self.take_away();
        info!("layer 4 is removed: no service needs it");
    }

    /// Addresses that flows still come to.
    pub fn in_use(&self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let used = self.path.as_ref().map(|path| path.plane.in_use(addresses));
        used.and_then(|used| used.inspect_err(|error| warn!(%error, "the flows cannot be read")).ok())
            .unwrap_or_default()
    }

    /// Takes away what earlier processes left in the kernel and this configuration does not want. Only
    /// when no other process may go on with it.
    pub fn clear_leftovers(&mut self, snapshot: &Snapshot) {
        let Ok(mut network) = Network::open() else { return };
        let Ok(interfaces) = network.interfaces() else { return };
        let used = |index: u32, how: Attached| {
            self.path.as_ref().is_some_and(|p| p.plane.attached().get(&index) == Some(&how))
        };
        let all: Vec<u32> = interfaces.iter().map(|i| i.index).collect();
        let had = evenkeel_l4::detach_leftovers(&all, used);
        for interface in interfaces.iter().filter(|i| had.contains(&i.index)) {
            info!(interface = interface.name, "a packet path that an earlier process left is removed");
        }
        if self.path.is_some() {
            return;
        }
        let _ = evenkeel_files::remove(&snapshot.state_directory.join(BOOK));
        if !had.is_empty() {
            let _ = evenkeel_platform::set_auto_nat(&[]);
        }
    }

    /// A server of this service has another state.
    pub fn update(&mut self, spec: ServiceSpec) {
        if let Some(path) = &mut self.path
            && let Err(error) = path.plane.set_service(spec)
        {
            error!(%error, "layer 4 does not know the new state of a server");
        }
    }

    pub fn tick(&mut self) {
        let Some(path) = &mut self.path else { return };
        path.plane.tick();
        let is_idle = path.wanted.vips.is_empty() && Instant::now() >= path.look_at;
        if is_idle && !path.plane.has_open_flows().unwrap_or(false) {
            self.take_away();
            info!("layer 4 is removed: its last connection has ended");
            return;
        }
        let seen = (path.changes.of_neighbours(), path.changes.of_routes());
        if seen != path.seen || Instant::now() >= path.look_at {
            if seen.1 != path.seen.1 {
                path.ways.clear();
            }
            path.seen = seen;
            path.refresh(&BTreeSet::new());
        }
    }

    /// Tells what flows do, if there are any.
    pub fn tap(&mut self, out: impl FnMut(Batch) + Send + 'static) -> Option<Tap> {
        let path = self.path.as_mut()?;
        path.plane.tap(out).inspect_err(|error| error!(%error, "flows cannot be told to the peer")).ok()
    }

    /// Attaches the programs again and reads the kernel's tables anew. Returns the interfaces.
    pub fn restart(&mut self) -> Result<Option<Vec<String>>, String> {
        let Some(path) = &mut self.path else { return Ok(None) };
        path.plane.attach_again().map_err(|e| e.to_string())?;
        path.ways.clear();
        path.refresh(&BTreeSet::new());
        Ok(Some(self.attached().into_iter().map(|(name, _)| name).collect()))
    }

    pub fn plane(&self) -> Option<&Plane> {
        self.path.as_ref().map(|p| &p.plane)
    }

    /// Interfaces by name, with how the program is attached to them.
    pub fn attached(&self) -> Vec<(String, &'static str)> {
        let Some(path) = &self.path else { return Vec::new() };
        let name = |index: u32| path.interfaces.iter().find(|i| i.index == index).map(|i| i.name.clone());
        let attached = path.plane.attached().iter();
        attached.map(|(index, how)| (name(*index).unwrap_or_default(), how.as_str())).collect()
    }

    /// Real servers whose MAC is not known.
    pub fn unreachable(&self) -> Vec<IpAddr> {
        let missing = self.path.as_ref().map(|p| p.missing.iter().copied().collect());
        let mut missing: Vec<IpAddr> = missing.unwrap_or_default();
        missing.sort();
        missing
    }

    /// Ends with the process, but packets are forwarded for the configured time more.
    pub fn leave_running(&mut self) {
        if let Some(path) = &mut self.path {
            path.plane.leave_running(path.rules.grace);
        }
    }

    /// Takes everything out of the kernel again.
    pub fn take_away(&mut self) {
        if let Some(mut path) = self.path.take() {
            path.take_away();
        }
    }
}

fn has_layer4(snapshot: &Snapshot) -> bool {
    snapshot.services.iter().any(|s| s.mode.is_layer4())
}

fn wanted(snapshot: &Snapshot) -> AddressSet {
    let floating = snapshot.addresses.floating.iter().map(|f| f.0).collect();
    let mut wanted = AddressSet { floating, ..AddressSet::default() };
    for service in snapshot.services.iter().filter(|s| s.mode.is_layer4()) {
        wanted.vips.extend(service.vips.iter().map(|v| v.address));
        if let Some(Fallback::Server(address)) = &service.fallback {
            wanted.real.insert(address.ip());
        }
        let pool = snapshot.pool(&service.pool);
        wanted.real.extend(
            pool.iter().flat_map(|p| p.real_servers.iter().filter(|s| s.is_placed()).map(|s| s.address.ip())),
        );
    }
    wanted
}

impl Layer4Path {
    /// To the interfaces that the process before left the program on.
    fn attach_as_before(&mut self) -> Result<(), String> {
        let all: Vec<u32> = self.interfaces.iter().map(|i| i.index).collect();
        let left = evenkeel_l4::left_on(&all);
        let found = self.interfaces.iter().filter(|i| left.iter().any(|(index, _)| *index == i.index));
        let wanted: Vec<(u32, [u8; 6])> = found.map(|i| (i.index, i.mac)).collect();
        let how = |index: u32| left.iter().find(|(i, _)| *i == index).map(|(_, how)| *how);
        self.plane.set_interfaces(&wanted, how).map_err(|e| e.to_string())
    }

    /// Looks at the kernel's tables and follows them, and the ways to these real servers beside those that are wanted.
    fn refresh(&mut self, also: &BTreeSet<IpAddr>) {
        self.look_at = Instant::now() + LOOK_AGAIN;
        if let Err(error) = self.try_look(also) {
            error!(%error, "the kernel's network tables cannot be followed");
        }
    }

    fn try_look(&mut self, also: &BTreeSet<IpAddr>) -> Result<(), String> {
        let io = |e: std::io::Error| e.to_string();
        self.interfaces = self.network.interfaces().map_err(io)?;
        let mut used: BTreeSet<u32> = BTreeSet::new();
        self.interfaces_of_clients(&mut used).map_err(io)?;
        self.leaving = self.plane.in_use(&self.leaving).map_err(|e| e.to_string())?;
        if !self.leaving.is_empty() || self.plane.finishing().next().is_some() {
            used.extend(self.plane.attached().keys());
        }
        let neighbours = self.network.neighbours().map_err(io)?;
        let mut hops = HashMap::new();
        self.missing.clear();
        let known: BTreeSet<IpAddr> =
            self.wanted.real.union(also).copied().chain(self.plane.finishing()).collect();
        for real in known {
            let way = match self.ways.get(&real) {
                Some(way) => *way,
                None => match self.network.way_to(real) {
                    Ok(way) => *self.ways.entry(real).or_insert(way),
                    Err(_) => {
                        self.missing.insert(real);
                        continue;
                    }
                },
            };
            used.insert(way.interface);
            match self.hop(real, &way, &neighbours) {
                Some(hop) => {
                    hops.insert(real, hop);
                }
                None => {
                    self.missing.insert(real);
                    let _ = self.network.look_for(way.interface, way.next_hop(real));
                }
            }
        }
        if !self.rules.interfaces.is_empty() {
            let named = |i: &&Interface| self.rules.interfaces.contains(&i.name);
            used = self.interfaces.iter().filter(named).map(|i| i.index).collect();
        }
        let found = self.interfaces.iter().filter(|i| used.contains(&i.index) && i.up && !i.loopback);
        let attach: Vec<(u32, [u8; 6])> = found.map(|i| (i.index, i.mac)).collect();
        let how = |index: u32| match self.rules.attach {
            Attach::Native => Some(Attached::Native),
            Attach::Generic => Some(Attached::Generic),
            // The driver's way needs a program on the other end of the pair too.
            Attach::Auto if self.interfaces.iter().any(|i| i.index == index && i.veth) => {
                Some(Attached::Generic)
            }
            Attach::Auto => None,
        };
        let before: HashSet<u32> = self.plane.attached().keys().copied().collect();
        self.plane.set_interfaces(&attach, how).map_err(|e| e.to_string())?;
        let fresh = self.plane.attached().iter().filter(|(index, _)| !before.contains(index));
        for (index, _) in fresh.filter(|(_, how)| **how == Attached::Generic) {
            let Some(interface) = self.interfaces.iter().find(|i| i.index == *index && !i.veth) else {
                continue;
            };
            // The network stack hands merged packets on, whose checksums are not filled in.
            match evenkeel_platform::stop_merging(&interface.name) {
                Ok(()) => info!(interface = interface.name, "packets are no longer merged (gro, lro off)"),
                Err(why) => {
                    warn!(interface = interface.name, why, "merging of packets cannot be switched off")
                }
            }
        }
        self.plane.set_hops(hops.clone()).map_err(|e| e.to_string())?;
        self.hops = hops;
        Ok(())
    }

    /// The way to a real server. What was known is used on while its neighbour is looked for.
    fn hop(&self, real: IpAddr, way: &WayTo, neighbours: &HashMap<(u32, IpAddr), [u8; 6]>) -> Option<Hop> {
        let interface = self.interfaces.iter().find(|i| i.index == way.interface && !i.loopback)?;
        let mac = neighbours.get(&(way.interface, way.next_hop(real))).copied();
        let known = self.hops.get(&real).filter(|h| h.interface == way.interface).map(|h| h.mac);
        let source = way.source.filter(|s| !self.wanted.vips.contains(s));
        let source = source.or_else(|| self.own_source(real, way.interface));
        let hop = |mac| Hop { interface: way.interface, mac, source, mtu: interface.mtu };
        mac.or(known).map(hop)
    }

    /// An address of the interface that is no VIP, the nearest to the server.
    fn own_source(&self, real: IpAddr, interface: u32) -> Option<IpAddr> {
        let own = self.addresses.iter().filter(|o| {
            o.interface == interface
                && o.address.is_ipv4() == real.is_ipv4()
                && !self.wanted.vips.contains(&o.address)
        });
        own.max_by_key(|o| in_network(real, o.address, o.prefix)).map(|o| o.address)
    }

    /// The interfaces that clients come by. The addresses themselves are put there by others.
    fn interfaces_of_clients(&mut self, used: &mut BTreeSet<u32>) -> std::io::Result<()> {
        self.addresses = self.network.addresses()?;
        let own = &self.addresses;
        for address in self.wanted.vips.iter().chain(&self.wanted.floating) {
            let near = own.iter().filter(|o| o.address != *address && is_near(o, *address));
            let there = own.iter().find(|o| o.address == *address);
            // An address of no network here is routed to this machine.
            let interface = match (near.min_by_key(|o| std::cmp::Reverse(o.prefix)), there) {
                (Some(near), _) => Some(near.interface),
                (None, Some(there)) => Some(there.interface),
                (None, None) => self.network.way_to(*address).ok().map(|way| way.interface),
            };
            used.extend(interface);
        }
        Ok(())
    }

    fn set_auto_nat(&mut self, snapshot: &Snapshot) {
        let mut servers: Vec<(IpAddr, Option<IpAddr>)> = Vec::new();
        for service in &snapshot.services {
            let Some(layer4) = service.layer4.as_ref().filter(|layer4| layer4.auto_nat) else { continue };
            let pool = snapshot.pool(&service.pool);
            for server in pool.iter().flat_map(|p| &p.real_servers).filter(|s| s.is_placed()) {
                let ip = server.address.ip();
                let mut own = layer4.auto_nat_addresses.iter().filter(|a| a.is_ipv4() == ip.is_ipv4());
                servers.push((ip, own.next().copied()));
            }
        }
        // Of several services the first one that names an address has its way.
        servers.sort_by_key(|(server, address)| (*server, address.is_none()));
        servers.dedup_by_key(|(server, _)| *server);
        if servers == self.auto_nat {
            return;
        }
        match evenkeel_platform::set_auto_nat(&servers) {
            Ok(()) => info!(servers = servers.len(), "auto-nat is set up: nftables table evenkeel_auto_nat"),
            Err(why) => error!(why, "auto-nat cannot be set up"),
        }
        self.auto_nat = servers;
    }

    fn take_away(&mut self) {
        self.plane.remove();
        if !self.auto_nat.is_empty() {
            let _ = evenkeel_platform::set_auto_nat(&[]);
        }
    }
}

fn in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    use evenkeel_model::mask_address;
    mask_address(address, prefix, prefix) == mask_address(network, prefix, prefix)
}

/// How the health check of a server goes through the VIP of the first service that wants it so.
pub fn probe(snapshot: &Snapshot, pool: &Pool, server: u32, real: IpAddr) -> Option<ProbeSpec> {
    let services = snapshot.services.iter().filter(|s| s.pool == pool.name);
    let service = services.into_iter().find(|s| matches!(s.mode, Mode::Dr | Mode::Tun))?;
    let vip = service.vips.iter().find(|v| v.address.is_ipv4() == real.is_ipv4())?;
    Some(ProbeSpec {
        mark: PROBE_MARK | (server & 0x00ff_ffff),
        real,
        vip: vip.address,
        tunnel: service.layer4.as_ref().filter(|_| service.mode == Mode::Tun).map(|l| l.tunnel),
    })
}

/// A service of layer 4 as the packet path needs it, with the states that its servers have now.
pub fn specify(
    service: &VirtualService,
    pool: &PoolSpec,
    state: impl Fn(u32) -> Option<ServerState>,
) -> Option<ServiceSpec> {
    let layer4 = service.layer4.as_ref()?;
    let forwarding = match service.mode {
        Mode::Dr => Forwarding::Dr,
        Mode::Nat => Forwarding::Nat,
        Mode::Tun => Forwarding::Tun(layer4.tunnel),
        Mode::Snat => Forwarding::Snat,
        Mode::Http | Mode::Tcp => return None,
    };
    let rules = &pool.pool;
    let mut servers: Vec<(bool, Server)> = Vec::new();
    for spec in pool.servers.iter().filter(|s| s.server.is_placed()) {
        let Some(now) = state(spec.id) else { continue };
        let server = Server {
            name: spec.server.name.as_str().into(),
            address: spec.server.address,
            weight: now.weight,
            takes: Takes { remembered: spec.server.is_remembered(), ..takes(now, rules.cut_when_down) },
            max_connections: spec.server.max_connections,
            min_connections: spec.server.min_connections,
            keep_when_removed: !rules.cut_when_removed,
        };
        servers.push((spec.server.backup, server));
    }
    let weight = |of: bool| {
        let able = servers.iter().filter(|(backup, s)| *backup == of && s.takes.new);
        able.map(|(_, s)| u64::from(s.weight)).sum::<u64>()
    };
    // Below the quorum backups serve in the place of the others.
    let (primary, backups) = (weight(false), weight(true));
    let primaries_serve = primary > 0 && (primary >= u64::from(rules.quorum) || backups == 0);
    if primaries_serve || backups > 0 {
        servers.iter_mut().filter(|s| s.0 == primaries_serve).for_each(|s| s.1.takes.new = false);
    }
    if primaries_serve && rules.cut_backups {
        let ended = Takes { resets: true, ..Takes::default() };
        servers.iter_mut().filter(|s| s.0).for_each(|s| s.1.takes = ended);
    }
    let mut servers: Vec<Server> = servers.into_iter().map(|s| s.1).collect();
    if let Some(Fallback::Server(address)) = &service.fallback {
        let alone = !servers.iter().any(|s| s.takes.new && s.weight > 0);
        servers.push(Server {
            name: FALLBACK.into(),
            address: *address,
            weight: 1,
            takes: Takes { new: alone, persistent: alone, existing: true, ..Takes::default() },
            max_connections: 0,
            min_connections: 0,
            keep_when_removed: true,
        });
    }
    Some(ServiceSpec {
        name: service.name.as_str().into(),
        vips: service.vips.clone(),
        tcp: layer4.tcp,
        udp: layer4.udp,
        forwarding,
        pick: pick_of(rules.scheduler),
        persist: match &rules.persistence {
            Persistence::Source(rule) => {
                Some(Persist { mask: rule.mask, mask6: rule.mask6, timeout: rule.timeout })
            }
            _ => None,
        },
        timeouts: layer4.timeouts,
        rate: layer4.rate,
        source_rate: layer4.source_rate,
        syn_cookies: layer4.syn_cookies,
        sources: layer4.sources.clone(),
        source_ports: layer4.source_ports,
        servers,
    })
}

fn pick_of(scheduler: Scheduler) -> Pick {
    match scheduler {
        Scheduler::RoundRobin => Pick::RoundRobin,
        Scheduler::LeastConnections => Pick::LeastConnections,
        Scheduler::ShortestExpectedDelay => Pick::ShortestExpectedDelay,
        Scheduler::NeverQueue => Pick::NeverQueue,
        Scheduler::SourceHash => Pick::SourceHash,
        Scheduler::DestinationHash => Pick::DestinationHash,
        Scheduler::Maglev => Pick::Maglev,
        // `check` lets none of these be written for a service of layer 4.
        Scheduler::UriHash
        | Scheduler::HeaderHash
        | Scheduler::QueryHash
        | Scheduler::CookieHash
        | Scheduler::RdpCookieHash => Pick::Maglev,
        Scheduler::LeastResponseTime => Pick::LeastConnections,
        Scheduler::Random => Pick::Random,
        Scheduler::First => Pick::First,
    }
}

fn takes(now: ServerState, cut_when_down: bool) -> Takes {
    if now.admin == AdminState::Halted {
        return Takes { resets: true, ..Takes::default() };
    }
    if !now.up {
        return Takes { existing: !cut_when_down, resets: cut_when_down, ..Takes::default() };
    }
    let new = now.admin == AdminState::Online && now.weight > 0;
    Takes { new, persistent: true, existing: true, ..Takes::default() }
}
