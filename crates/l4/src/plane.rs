//! The packet path as the daemon sees it: services go in, counts come out.

mod counting;
mod leaving;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_model::{FlowRate, SynCookies, Tunnel};
use tracing::{info, warn};
use zerocopy::FromZeros;

use crate::book::{Book, Extent, Full};
use crate::keeper::{FlowGate, Keeper};
use crate::program::{Attached, LoadError, Loaded, Predecessor, Run, Sizes};
use crate::shared::*;
use crate::spec::{Clock, Counts, Forwarding, Hop, Pick, ProbeSpec, Server, ServiceSpec};
use crate::table::{self, Member};
use crate::write::{Array, Hash, PerCpu};

/// Ports of a range that get an entry each; a longer range is compared.
const PORTS_LISTED: usize = 256;
/// How long a stretch of slots that was given back may still be read.
const COOLING: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Full(#[from] Full),
    #[error("{0} has more than {MAX_RANGES} long ranges of ports")]
    Ranges(IpAddr),
    #[error("the layer-4 thread cannot be started: {0}")]
    Thread(std::io::Error),
}

#[derive(Clone, Debug)]
pub struct Options {
    pub sizes: Sizes,
    /// Without renewal packets are forwarded for so long.
    pub lease: Duration,
    /// Where the numbers of things are kept for the next process.
    pub book: PathBuf,
    /// Interfaces on which the program of an earlier process may be.
    pub interfaces: Vec<u32>,
    /// Secret of the tables.
    pub seed: (u64, u64),
    /// ICMP errors a second that are sent at most; 0 is no limit.
    pub icmp_rate: u32,
}

pub struct Plane {
    pub(crate) loaded: Arc<Loaded>,
    keeper: Keeper,
    pub(crate) book: Book,
    /// The book on disk is behind.
    unsaved: bool,
    path: PathBuf,
    pub(crate) maps: Maps,
    attached: BTreeMap<u32, Attached>,
    pub(crate) services: BTreeMap<String, ServiceSpec>,
    hops: HashMap<IpAddr, Hop>,
    written: Written,
    cooling: Vec<(Instant, Extent)>,
    probes: Vec<ProbeSpec>,
    /// Flows that change are told to another node.
    has_peer: bool,
    pub(crate) names: Arc<std::sync::Mutex<Arc<crate::tap::Names>>>,
    /// Interfaces whose way out has the program of probes.
    probing: HashSet<u32>,
    /// What servers counted that have left, by service.
    departed: HashMap<String, Counts>,
    /// What a server counted under a number that it had before.
    handed_on: HashMap<u32, Counts>,
}

pub(crate) struct Maps {
    gates: Array<Gate>,
    interfaces: Array<Interface>,
    vips: Hash<VipKey, Vip>,
    services: Array<Service>,
    destinations: Array<Destination>,
    loads: Array<Load>,
    traffics: PerCpu<Traffic>,
    probes: Hash<u32, Probe>,
    reasons: PerCpu<u64>,
    slot_lines: Array<SlotLine>,
    sources: Array<Address>,
    pub flows: Array<FlowBucket>,
    pub persistences: Array<PersistenceBucket>,
}

/// What is in the maps, so that only differences are written.
#[derive(Default)]
struct Written {
    services: HashMap<u32, Service>,
    destinations: HashMap<u32, Destination>,
    vips: BTreeMap<[u8; 20], (VipKey, Vip)>,
    tables: HashMap<u32, (Vec<u32>, Vec<u32>)>,
    sources: usize,
}

impl Maps {
    fn of(loaded: &Loaded) -> Result<Maps, LoadError> {
        Ok(Maps {
            gates: Array::of(loaded, "gates")?,
            interfaces: Array::of(loaded, "interfaces")?,
            vips: Hash::of(loaded, "vips")?,
            services: Array::of(loaded, "services")?,
            destinations: Array::of(loaded, "destinations")?,
            loads: Array::of(loaded, "loads")?,
            traffics: PerCpu::of(loaded, "traffics")?,
            probes: Hash::of(loaded, "probes")?,
            reasons: PerCpu::of(loaded, "reasons")?,
            slot_lines: Array::of(loaded, "slot_lines")?,
            sources: Array::of(loaded, "sources")?,
            flows: Array::of(loaded, "flows")?,
            persistences: Array::of(loaded, "persistences")?,
        })
    }
}

/// Names of the counted reasons, in the order of their numbers.
const REASON_NAMES: [(&str, u32); 22] = [
    ("same-at-server", REASON_SAME_AT_SERVER),
    ("new-flow", REASON_NEW_FLOW),
    ("lease-ended", REASON_LEASE_ENDED),
    ("malformed", REASON_MALFORMED),
    ("no-real-server", REASON_NO_REAL_SERVER),
    ("no-neighbour", REASON_NO_NEIGHBOUR),
    ("table-full", REASON_TABLE_FULL),
    ("evicted", REASON_EVICTED),
    ("snat-ports-exhausted", REASON_PORTS_EXHAUSTED),
    ("ttl-exceeded", REASON_TTL_EXCEEDED),
    ("too-big", REASON_TOO_BIG),
    ("fragment-unknown", REASON_FRAGMENT_UNKNOWN),
    ("rate-limited", REASON_RATE_LIMITED),
    ("source-rate-limited", REASON_SOURCE_LIMITED),
    ("reset-sent", REASON_RESET_SENT),
    ("stray-reset", REASON_STRAY_RESET),
    ("unknown-flow", REASON_UNKNOWN_FLOW),
    ("icmp-forwarded", REASON_ICMP_FORWARDED),
    ("fragment-forwarded", REASON_FRAGMENT_FORWARDED),
    ("cookie-sent", REASON_COOKIE_SENT),
    ("cookie-wrong", REASON_COOKIE_WRONG),
    ("stateless", REASON_STATELESS),
];

impl Plane {
    /// Loads the program. Where an earlier process left one on an interface, its tables are used
    /// on and no flow is lost.
    pub fn start(options: &Options) -> Result<Plane, PlaneError> {
        let predecessor = Predecessor::find(&options.interfaces);
        let text = std::fs::read(&options.book).unwrap_or_default();
        let known = Book::read(&text)
            .filter(|book| predecessor.as_ref().is_some_and(|p| p.setup.seed_a == book.seed));
        let predecessor = predecessor.filter(|_| known.is_some());
        let loaded = Arc::new(Loaded::load(options, predecessor.as_ref())?);
        let book = match (loaded.adopted, known) {
            (true, Some(book)) => book,
            _ => Book::new(loaded.setup.seed_a),
        };
        let maps = Maps::of(&loaded)?;
        // Packets may come before the thread's first turn.
        loaded.renew(options.lease.as_millis() as u64 * loaded.hertz / 1000 + 1)?;
        let keeper = Keeper::start(loaded.clone(), options.lease).map_err(PlaneError::Thread)?;
        let written = Written::default();
        let mut plane = Plane {
            keeper,
            unsaved: true,
            path: options.book.clone(),
            attached: BTreeMap::new(),
            services: BTreeMap::new(),
            hops: HashMap::new(),
            cooling: Vec::new(),
            probes: Vec::new(),
            has_peer: false,
            names: Arc::default(),
            probing: HashSet::new(),
            written,
            departed: HashMap::new(),
            handed_on: HashMap::new(),
            loaded,
            book,
            maps,
        };
        plane.remember();
        if plane.loaded.adopted {
            info!("layer 4 goes on with the flows of the process before");
        }
        Ok(plane)
    }

    /// What an earlier process wrote is there already.
    fn remember(&mut self) {
        for note in self.book.services.values() {
            self.written.services.insert(note.number, self.maps.services.read(note.number));
        }
        for number in self.book.destinations.keys() {
            self.written.destinations.insert(*number, self.maps.destinations.read(*number));
        }
        if self.loaded.adopted {
            for key in self.maps.vips.keys() {
                let bytes = zerocopy::transmute!(key);
                self.written.vips.insert(bytes, (key, Vip::new_zeroed()));
            }
        }
    }

    /// From now on changes of flows are noted for a [`crate::Tap`].
    pub fn set_peer(&mut self, has_peer: bool) -> Result<(), LoadError> {
        self.has_peer = has_peer;
        self.set_marks()
    }

    pub fn gate(&self) -> FlowGate {
        self.keeper.gate()
    }

    pub fn has_adopted(&self) -> bool {
        self.loaded.adopted
    }

    /// To be called again and again while the daemon is well.
    pub fn tick(&mut self) {
        self.keeper.well();
        let now = Instant::now();
        self.cooling.retain(|(since, _)| now - *since < COOLING);
        let has_ended = |number: &u32| {
            let load = self.maps.loads.read(*number);
            load.active == 0 && load.inactive == 0
        };
        let gone: Vec<u32> = self.book.leaving().map(|(number, _)| number).filter(has_ended).collect();
        for number in &gone {
            self.keep_counts(*number);
            self.book.forget_destination(*number);
            self.unsaved = true;
            self.written.destinations.remove(number);
        }
        if !gone.is_empty()
            && let Err(error) = self.set_marks()
        {
            warn!(%error, "the gate of layer 4 cannot be set");
        }
        self.save();
    }

    fn save(&mut self) {
        if !std::mem::take(&mut self.unsaved) {
            return;
        }
        let made = self.path.parent().map_or(Ok(()), evenkeel_files::make_folder);
        let text = self.book.text();
        let written = made.and_then(|()| evenkeel_files::write_atomically(&self.path, text.as_ref()));
        if let Err(error) = written {
            warn!(%error, file = %self.path.display(), "a restart would lose layer 4's flows");
        }
    }

    // Interfaces

    /// The interfaces whose packets are looked at, with their MACs and the wanted way to attach;
    /// without a wish native where that is possible and generic elsewhere.
    pub fn set_interfaces(
        &mut self,
        wanted: &[(u32, [u8; 6])],
        how: impl Fn(u32) -> Option<Attached>,
    ) -> Result<(), PlaneError> {
        let kept: HashSet<u32> = wanted.iter().map(|w| w.0).collect();
        let gone: Vec<u32> = self.attached.keys().filter(|i| !kept.contains(i)).copied().collect();
        for interface in gone {
            if let Some(how) = self.attached.remove(&interface) {
                self.loaded.detach(interface, how);
                self.maps.interfaces.write(interface, &Interface::new_zeroed())?;
            }
        }
        for (interface, mac) in wanted {
            let entry = Interface { mac: *mac, marks: INTERFACE_IN_USE as u16 };
            if self.maps.interfaces.read(*interface) != entry {
                self.maps.interfaces.write(*interface, &entry)?;
            }
            if !self.attached.contains_key(interface) {
                let attached = self.attach(*interface, how(*interface))?;
                info!(interface, mode = attached.as_str(), "layer 4 is attached");
                self.attached.insert(*interface, attached);
            }
        }
        Ok(())
    }

    fn attach(&self, interface: u32, how: Option<Attached>) -> Result<Attached, LoadError> {
        if let Some(how) = how {
            // Whatever is attached otherwise is in the way.
            let other = if how == Attached::Native { Attached::Generic } else { Attached::Native };
            self.loaded.detach(interface, other);
            return self.loaded.attach(interface, how).map(|()| how);
        }
        match self.loaded.attach(interface, Attached::Native) {
            Ok(()) => Ok(Attached::Native),
            Err(_) => self.loaded.attach(interface, Attached::Generic).map(|()| Attached::Generic),
        }
    }

    /// Puts the program on its interfaces once more, in place of whatever is there now. No packet
    /// passes in between.
    pub fn attach_again(&self) -> Result<(), PlaneError> {
        for (interface, how) in &self.attached {
            self.loaded.attach(*interface, *how)?;
        }
        Ok(())
    }

    pub fn attached(&self) -> &BTreeMap<u32, Attached> {
        &self.attached
    }

    /// Where next hops are, as of now. Services that use them are written again.
    pub fn set_hops(&mut self, hops: HashMap<IpAddr, Hop>) -> Result<(), PlaneError> {
        if hops == self.hops {
            return Ok(());
        }
        self.hops = hops;
        self.follow_finishing()?;
        for spec in self.services.values().cloned().collect::<Vec<_>>() {
            self.write_service(&spec)?;
        }
        // Tunnels of probes have an own address of the way, too.
        self.set_probes(self.probes.clone())
    }

    // Services

    /// Makes these the services, all of them.
    pub fn set_services(&mut self, wanted: Vec<ServiceSpec>) -> Result<(), PlaneError> {
        let names: HashSet<&str> = wanted.iter().map(|s| s.name.as_str()).collect();
        let gone: Vec<String> =
            self.book.services.keys().filter(|n| !names.contains(n.as_str())).cloned().collect();
        for spec in &wanted {
            self.write_service(spec)?;
        }
        let wanted = wanted.into_iter().map(|s| (s.name.clone(), s)).collect();
        let before = std::mem::replace(&mut self.services, wanted);
        self.set_marks()?;
        self.write_vips()?;
        for name in gone {
            self.remove_service(&name, before.get(&name))?;
        }
        self.save();
        self.rename();
        Ok(())
    }

    /// The health checks that go through a VIP, all of them.
    pub fn set_probes(&mut self, wanted: Vec<ProbeSpec>) -> Result<(), PlaneError> {
        for spec in &wanted {
            let hop = self.hops.get(&spec.real);
            let probe = Probe {
                real: words(spec.real),
                vip: words(spec.vip),
                tunnel_source: hop.and_then(|h| h.source).map_or([0; 4], words),
                mode: if spec.tunnel.is_some() { MODE_TUN } else { MODE_DR },
                tunnel: if spec.tunnel == Some(Tunnel::Gue) { TUNNEL_GUE } else { TUNNEL_IPIP },
            };
            self.maps.probes.write(&spec.mark, &probe)?;
        }
        let marks: HashSet<u32> = wanted.iter().map(|p| p.mark).collect();
        for spec in self.probes.iter().filter(|p| !marks.contains(&p.mark)) {
            self.maps.probes.remove(&spec.mark);
        }
        self.probes = wanted;
        self.set_marks()?;
        let interfaces: Vec<u32> = self.attached.keys().copied().collect();
        for interface in interfaces {
            match (self.probes.is_empty(), self.probing.contains(&interface)) {
                (false, false) => {
                    self.loaded.attach_probes(interface)?;
                    self.probing.insert(interface);
                }
                (true, true) => {
                    self.loaded.detach_probes(interface);
                    self.probing.remove(&interface);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes one known service this.
    pub fn set_service(&mut self, spec: ServiceSpec) -> Result<(), PlaneError> {
        self.write_service(&spec)?;
        self.services.insert(spec.name.clone(), spec);
        Ok(())
    }

    fn set_marks(&self) -> Result<(), LoadError> {
        // Of servers that finish their flows, too.
        let both_ways = |d: &Destination| [MODE_NAT, MODE_SNAT].contains(&u32::from(d.mode));
        let replies = if self.written.destinations.values().any(both_ways) { GATE_REPLIES } else { 0 };
        let probes = if self.probes.is_empty() { 0 } else { GATE_PROBES };
        let marks = replies | probes | if self.has_peer { GATE_PEER } else { 0 };
        let gate = self.maps.gates.read(0);
        // Only where it differs: the kernel writes beside it.
        match gate.marks == marks {
            true => Ok(()),
            false => self.maps.gates.write(0, &Gate { marks, ..gate }),
        }
    }

    fn write_service(&mut self, spec: &ServiceSpec) -> Result<(), PlaneError> {
        let number = self.book.service(&spec.name)?;
        let (mut members, mut all) = (Vec::new(), Vec::new());
        let mut present = HashSet::new();
        for server in &spec.servers {
            let place =
                self.book.destination(&spec.name, &server.name, server.address, mode_of(spec.forwarding))?;
            self.write_destination(spec, number, server, place)?;
            present.insert(place.0);
            let member = Member { number: place.0, name: &server.name, weight: server.weight };
            if server.takes.new && server.weight > 0 {
                members.push(member.clone());
            }
            if server.weight > 0 {
                all.push(member);
            }
        }
        self.leave(&spec.name, &present)?;
        // Who leaves keeps its place until its last flow has ended: nobody else's clients move.
        let notes = self.book.destinations.iter().filter(|(_, n)| n.leaving && n.service == spec.name);
        let leaving: Vec<(u32, String, u16)> = notes
            .filter_map(|(number, n)| {
                let weight = self.written.destinations.get(number)?.weight;
                Some((*number, n.name.clone(), weight as u16))
            })
            .filter(|l| l.2 > 0)
            .collect();
        all.extend(leaving.iter().map(|(number, name, weight)| Member {
            number: *number,
            name,
            weight: *weight,
        }));
        // The same order on every node.
        all.sort_by(|a, b| a.name.cmp(b.name));
        let tables = (table::ring(spec.pick, &members), table::hash(spec.pick, &all, &members));
        if self.written.tables.get(&number) != Some(&tables) {
            let ring = self.write_table(&tables.0)?;
            // Noted at once, so that the second does not get the same room.
            let cooling = (Instant::now(), ring);
            self.cooling.push(cooling);
            let hash = self.write_table(&tables.1)?;
            if let Some(note) = self.book.services.get_mut(&spec.name) {
                let old = [std::mem::replace(&mut note.ring, ring), std::mem::replace(&mut note.hash, hash)];
                self.cooling.extend(old.map(|extent| (Instant::now(), extent)));
            }
            self.written.tables.insert(number, tables);
            self.unsaved = true;
        }
        let note = self.book.services.get(&spec.name).cloned().unwrap_or_default();
        let service = self.service_of(spec, note.ring, note.hash);
        if self.written.services.get(&number) != Some(&service) {
            self.maps.services.write(number, &service)?;
            self.written.services.insert(number, service);
        }
        Ok(())
    }

    fn write_table(&mut self, slots: &[u32]) -> Result<Extent, PlaneError> {
        let cooling: Vec<Extent> = self.cooling.iter().map(|c| c.1).collect();
        let extent = self.book.room(slots.len() as u32, &cooling)?;
        let lines: Vec<SlotLine> = slots
            .chunks(SLOTS_A_LINE as usize)
            .map(|chunk| {
                let mut line = SlotLine { destination: [MAX_DESTINATIONS; SLOTS_A_LINE as usize] };
                line.destination[..chunk.len()].copy_from_slice(chunk);
                line
            })
            .collect();
        self.maps.slot_lines.write_many(extent.at / SLOTS_A_LINE, &lines)?;
        Ok(extent)
    }

    fn write_destination(
        &mut self,
        spec: &ServiceSpec,
        service: u32,
        server: &Server,
        (number, fresh): (u32, bool),
    ) -> Result<(), PlaneError> {
        if fresh {
            self.unsaved = true;
            self.maps.loads.write(number, &Load::new_zeroed())?;
            self.maps.traffics.clear(number)?;
        }
        let destination = self.destination_of(spec, service, server)?;
        if self.written.destinations.get(&number) != Some(&destination) {
            self.maps.destinations.write(number, &destination)?;
            self.written.destinations.insert(number, destination);
        }
        Ok(())
    }

    fn destination_of(
        &mut self,
        spec: &ServiceSpec,
        service: u32,
        server: &Server,
    ) -> Result<Destination, PlaneError> {
        let hop = self.hops.get(&server.address.ip()).copied();
        let mut sources = spec.sources.clone();
        if sources.is_empty() {
            sources.extend(hop.and_then(|h| h.source));
        }
        sources.retain(|s| s.is_ipv4() == server.address.is_ipv4());
        let source_at = match spec.forwarding {
            Forwarding::Snat => self.write_sources(&sources)?,
            _ => 0,
        };
        let takes = [
            (server.takes.new, TAKES_NEW),
            (server.takes.persistent, TAKES_PERSISTENT),
            (server.takes.existing, TAKES_EXISTING),
            (server.takes.resets, RESETS_EXISTING),
            (server.takes.remembered, TAKES_REMEMBERED),
        ];
        Ok(Destination {
            next_hop: hop.as_ref().map_or(0, hop_of),
            unused: [0; 6],
            port_be: match spec.forwarding {
                Forwarding::Nat | Forwarding::Snat => server.address.port().to_be(),
                _ => 0,
            },
            address: words(server.address.ip()),
            tunnel_source: hop.and_then(|h| h.source).map_or([0; 4], words),
            service,
            takes: takes.iter().filter(|t| t.0).map(|t| t.1 as u16).sum(),
            mode: mode_of(spec.forwarding),
            tunnel: match spec.forwarding {
                Forwarding::Tun(Tunnel::Gue) => TUNNEL_GUE,
                _ => TUNNEL_IPIP,
            } as u8,
            mtu: hop.map_or(1500, |h| h.mtu),
            source_at: source_at as u16,
            source_count: sources.len() as u16,
            weight: u32::from(server.weight),
            upper: server.max_connections,
            lower: server.min_connections,
            port_first: spec.source_ports.first,
            port_last: spec.source_ports.last,
        })
    }

    fn write_sources(&mut self, sources: &[IpAddr]) -> Result<u32, PlaneError> {
        let at = self.book.sources(sources)?;
        for (index, address) in self.book.sources.iter().enumerate().skip(self.written.sources) {
            self.maps.sources.write(index as u32, &Address { word: words(*address) })?;
        }
        self.written.sources = self.book.sources.len();
        Ok(at)
    }

    fn service_of(&self, spec: &ServiceSpec, ring: Extent, hash: Extent) -> Service {
        let ticks = |time: Duration| {
            let jiffies = time.as_millis() as u64 * self.loaded.hertz / 1000;
            u32::try_from(jiffies >> self.loaded.setup.tick_shift)
                .unwrap_or(u32::MAX / 4)
                .clamp(1, u32::MAX / 4)
                + 1
        };
        let mut timeout_ticks = [ticks(spec.timeouts.syn); STATES as usize];
        timeout_ticks[STATE_ESTABLISHED as usize] = ticks(spec.timeouts.established);
        timeout_ticks[STATE_CLOSING as usize] = ticks(spec.timeouts.closing);
        timeout_ticks[STATE_CLOSED as usize] = ticks(spec.timeouts.closed);
        timeout_ticks[STATE_UDP as usize] = ticks(spec.timeouts.udp);
        let rate = |rate: Option<FlowRate>| {
            let Some(rate) = rate else { return (0, 0) };
            let interval = (self.loaded.hertz * 1024 / u64::from(rate.per_second.max(1))).max(1);
            (interval, interval * u64::from(rate.burst))
        };
        let (flow_interval, flow_burst) = rate(spec.rate);
        let (source_interval, source_burst) = rate(spec.source_rate);
        Service {
            ring_at: ring.at,
            ring_length: ring.length,
            hash_at: hash.at,
            hash_length: hash.length,
            scheduler: match spec.pick {
                Pick::RoundRobin => SCHEDULER_RING,
                Pick::LeastConnections => SCHEDULER_LEAST,
                Pick::ShortestExpectedDelay => SCHEDULER_DELAY,
                Pick::NeverQueue => SCHEDULER_NEVER_QUEUE,
                Pick::SourceHash => SCHEDULER_SOURCE,
                Pick::DestinationHash => SCHEDULER_DESTINATION,
                Pick::Maglev => SCHEDULER_FLOW,
                Pick::Random => SCHEDULER_RANDOM,
                Pick::First => SCHEDULER_FIRST,
            },
            persistence_ticks: spec.persist.map_or(0, |p| ticks(p.timeout)),
            mask: mask_words(spec.persist.map_or(32, |p| p.mask), true),
            mask6: mask_words(spec.persist.map_or(128, |p| p.mask6), false),
            timeout_ticks,
            cookies: match spec.syn_cookies {
                SynCookies::Off => COOKIES_NEVER,
                SynCookies::OverRate => COOKIES_OVER_RATE,
                SynCookies::Always => COOKIES_ALWAYS,
            },
            unused: 0,
            flow_interval,
            flow_burst,
            source_interval,
            source_burst,
        }
    }

    fn write_vips(&mut self) -> Result<(), PlaneError> {
        let mut wanted: BTreeMap<[u8; 20], (VipKey, Vip)> = BTreeMap::new();
        for spec in self.services.values() {
            let service = self.book.service(&spec.name)?;
            let protocols = [(spec.tcp, 6u8), (spec.udp, 17)];
            for vip in &spec.vips {
                // That the address is a VIP at all: for fragments, which have no port.
                add_vip(&mut wanted, vip.address, 0, 0, service);
                for (_, protocol) in protocols.iter().filter(|p| p.0) {
                    for range in vip.ports.ranges() {
                        if usize::from(range.last - range.first) < PORTS_LISTED {
                            for port in range.first..=range.last {
                                add_vip(&mut wanted, vip.address, port, *protocol, service);
                            }
                        } else {
                            let entry = add_vip(&mut wanted, vip.address, 0, *protocol, MAX_SERVICES);
                            let count = entry.range_count as usize;
                            let Some(place) = entry.ranges.get_mut(count) else {
                                return Err(PlaneError::Ranges(vip.address));
                            };
                            *place = PortRange { first: range.first, last: range.last, service };
                            entry.range_count += 1;
                        }
                    }
                }
            }
        }
        for (bytes, (key, vip)) in &wanted {
            if self.written.vips.get(bytes).map(|w| &w.1) != Some(vip) {
                self.maps.vips.write(key, vip)?;
            }
        }
        for (_, (key, _)) in self.written.vips.iter().filter(|(bytes, _)| !wanted.contains_key(*bytes)) {
            self.maps.vips.remove(key);
        }
        self.written.vips = wanted;
        Ok(())
    }

    // Watching

    /// What became of packets, by reason.
    pub fn reasons(&self) -> Vec<(&'static str, u64)> {
        let of = |number| self.maps.reasons.read(number).iter().sum();
        REASON_NAMES.iter().map(|(name, number)| (*name, of(*number))).collect()
    }

    /// One of them by its name.
    pub fn reason(&self, name: &str) -> u64 {
        let number = REASON_NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        number.map_or(0, |number| self.maps.reasons.read(number).iter().sum())
    }

    /// Where the rates of sources are kept, for a comparison.
    pub fn source_slots(&self) -> SourceSlots {
        let services = self.book.services.iter().map(|(name, note)| (name.clone(), note.number)).collect();
        SourceSlots { seed: self.loaded.setup.seed_b, services }
    }

    /// Flows in the table and room in it.
    pub fn flow_count(&self) -> (u64, u64) {
        (self.keeper.live(), u64::from(self.maps.flows.length()) * u64::from(WAYS))
    }

    /// Names the interface that frames of test runs come in on, without attaching anything.
    pub fn set_frame_interface(&self, interface: u32, mac: [u8; 6]) -> Result<(), LoadError> {
        self.maps.interfaces.write(interface, &Interface { mac, marks: INTERFACE_IN_USE as u16 })
    }

    /// One frame through the program, as if it came in on the loopback interface.
    pub fn run_frame(&self, frame: &[u8], out: &mut [u8], repeat: u32) -> Result<Run, LoadError> {
        self.loaded.run_frame(frame, out, repeat)
    }

    pub fn clock(&self) -> Result<Clock, LoadError> {
        Ok(Clock { jiffies: self.loaded.renew(0)?, hertz: self.loaded.hertz })
    }

    // Ending

    /// Leaves the program in place: it forwards for `grace` longer, or until a next process goes on.
    pub fn leave_running(&mut self, grace: Duration) {
        self.save();
        self.keeper.stop(grace);
    }

    /// Takes the program away; packets for VIPs go to the kernel again.
    pub fn remove(&mut self) {
        self.keeper.stop(Duration::from_millis(1));
        for interface in std::mem::take(&mut self.probing) {
            self.loaded.detach_probes(interface);
        }
        for (interface, how) in std::mem::take(&mut self.attached) {
            self.loaded.detach(interface, how);
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn mode_of(forwarding: Forwarding) -> u8 {
    let mode = match forwarding {
        Forwarding::Dr => MODE_DR,
        Forwarding::Nat => MODE_NAT,
        Forwarding::Tun(_) => MODE_TUN,
        Forwarding::Snat => MODE_SNAT,
    };
    mode as u8
}

fn hop_of(hop: &Hop) -> u64 {
    crate::shared::hop(hop.mac, hop.interface as u16)
}

fn add_vip(
    all: &mut BTreeMap<[u8; 20], (VipKey, Vip)>,
    address: IpAddr,
    port: u16,
    protocol: u8,
    service: u32,
) -> &mut Vip {
    let key = VipKey { address: words(address), port_be: port.to_be(), protocol, unused: 0 };
    let empty = || (key, Vip { service, ..Vip::new_zeroed() });
    &mut all.entry(zerocopy::transmute!(key)).or_insert_with(empty).1
}
