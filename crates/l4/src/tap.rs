//! Flows for the other node of a pair: what changed lately is read from the program's notes, the
//! whole table now and then; what the other node says is put into the table here.
//!
//! Times are told as what is left of them: the nodes' clocks have nothing in common.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::book::{Book, DestinationNote};
use crate::plane::Plane;
use crate::program::{LoadError, Loaded};
use crate::remembered::Remembers;
use crate::shared::*;
use crate::spec::ServiceSpec;
use crate::write::Array;

/// Between two looks at the notes.
const LOOK: Duration = Duration::from_millis(10);
/// Flows that live long are told again so often, so that they do not expire on the other node.
const WHOLE: Duration = Duration::from_secs(20);
/// Flows of one batch.
const BATCH: usize = 1_000;
/// Buckets between two looks.
const PORTION: u32 = 512;

/// Flows and persistent clients in one message: names once, then records of a fixed size.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    /// Service, real server, its address.
    pub destinations: Vec<(String, String, SocketAddr)>,
    /// Addresses that flows of SNAT come from.
    pub sources: Vec<IpAddr>,
    /// Services whose clients are forgotten, all of them or one; before the clients of this message come.
    #[serde(default)]
    pub forgotten: Vec<(String, Option<IpAddr>)>,
    #[serde(skip)]
    pub flows: Vec<FlowRecord>,
    #[serde(skip)]
    pub clients: Vec<ClientRecord>,
}

/// In network byte order where a number has more than one byte.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FlowRecord {
    client: [u8; 16],
    vip: [u8; 16],
    client_port: [u8; 2],
    vip_port: [u8; 2],
    protocol: u8,
    state: u8,
    source_port: [u8; 2],
    destination: [u8; 4],
    /// Of the batch's sources, counted from one.
    source: [u8; 4],
    left_ms: [u8; 4],
    age_ms: [u8; 4],
    marks: [u8; 4],
    client_number: [u8; 4],
    difference: [u8; 4],
    bytes_in: [u8; 8],
    bytes_out: [u8; 8],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ClientRecord {
    client: [u8; 16],
    destination: [u8; 4],
    left_ms: [u8; 4],
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.clients.is_empty() && self.forgotten.is_empty()
    }

    pub fn encode(&self) -> Vec<u8> {
        let names = serde_json::to_vec(self).unwrap_or_default();
        let mut bytes = Vec::with_capacity(names.len() + 12 + self.flows.len() * size_of::<FlowRecord>());
        for count in [names.len(), self.flows.len(), self.clients.len()] {
            bytes.extend((count as u32).to_be_bytes());
        }
        bytes.extend(names);
        self.flows.iter().for_each(|f| bytes.extend(f.as_bytes()));
        self.clients.iter().for_each(|c| bytes.extend(c.as_bytes()));
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Option<Batch> {
        let count = |at: usize| {
            let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(word) as usize)
        };
        let (names, flows, clients) = (count(0)?, count(4)?, count(8)?);
        let rest = bytes.get(12..)?;
        let (names, rest) = rest.split_at_checked(names)?;
        let (flows, clients_bytes) = rest.split_at_checked(flows.checked_mul(size_of::<FlowRecord>())?)?;
        let clients_bytes = clients_bytes.get(..clients.checked_mul(size_of::<ClientRecord>())?)?;
        let mut batch: Batch = serde_json::from_slice(names).ok()?;
        let each = flows.chunks_exact(size_of::<FlowRecord>());
        batch.flows = each.filter_map(|chunk| FlowRecord::read_from_bytes(chunk).ok()).collect();
        let each = clients_bytes.chunks_exact(size_of::<ClientRecord>());
        batch.clients = each.filter_map(|chunk| ClientRecord::read_from_bytes(chunk).ok()).collect();
        Some(batch)
    }
}

/// A thread that reads flows and hands batches of them out; it ends when this is dropped.
pub struct Tap {
    shared: Arc<TapShared>,
}

struct TapShared {
    stopped: AtomicBool,
    /// Grows when everything shall be told from the start.
    whole: AtomicU64,
    /// Only the active node tells.
    active: AtomicBool,
    /// Clients that somebody has removed, until the thread has told of them.
    forgotten: Mutex<Vec<(String, Option<IpAddr>)>>,
}

struct Reader {
    loaded: Arc<Loaded>,
    flows: Array<FlowBucket>,
    persistences: Array<PersistenceBucket>,
    fresh: Array<u32>,
    heads: Array<FreshHead>,
    read: u64,
    book: Arc<Mutex<Arc<Names>>>,
    shared: Arc<TapShared>,
}

/// What the numbers in the tables mean, as of the last change.
#[derive(Default)]
pub(crate) struct Names {
    destinations: HashMap<u32, (String, String, SocketAddr)>,
    sources: Vec<IpAddr>,
    /// By the number of a destination: how its service remembers clients, if it does.
    remembers: HashMap<u32, Remembers>,
}

impl Names {
    fn of(book: &Book, services: &BTreeMap<String, ServiceSpec>) -> Names {
        let name = |note: &DestinationNote| (note.service.clone(), note.name.clone(), note.address);
        let remembers = |note: &DestinationNote| {
            let persist = services.get(&note.service)?.persist?;
            Some(Remembers::new(book.services.get(&note.service)?.number, persist))
        };
        let each = book.destinations.iter();
        Names {
            remembers: each.filter_map(|(number, note)| Some((*number, remembers(note)?))).collect(),
            destinations: book.destinations.iter().map(|(number, note)| (*number, name(note))).collect(),
            sources: book.sources.clone(),
        }
    }
}

impl Tap {
    pub fn set_active(&self, active: bool) {
        self.shared.active.store(active, Relaxed);
    }

    /// Everything from the start: the other node knows nothing.
    pub fn tell_whole(&self) {
        self.shared.whole.fetch_add(1, Relaxed);
    }

    /// Somebody has removed clients of a service here: the other node forgets them, too. Clients that were read before
    /// are told before.
    pub fn tell_forgotten(&self, service: &str, client: Option<IpAddr>) {
        let mut forgotten = self.shared.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        forgotten.push((service.to_owned(), client));
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
    }
}

impl Plane {
    /// Starts a tap. `names` is renewed by [`Plane::rename`]; `out` gets the batches.
    pub fn tap(&mut self, out: impl FnMut(Batch) + Send + 'static) -> Result<Tap, LoadError> {
        self.set_peer(true)?;
        let shared = Arc::new(TapShared {
            stopped: AtomicBool::new(false),
            whole: AtomicU64::new(1),
            active: AtomicBool::new(false),
            forgotten: Mutex::default(),
        });
        self.rename();
        let mut reader = Reader {
            loaded: self.loaded.clone(),
            flows: Array::of(&self.loaded, "flows")?,
            persistences: Array::of(&self.loaded, "persistences")?,
            fresh: Array::of(&self.loaded, "fresh")?,
            heads: Array::of(&self.loaded, "fresh_heads")?,
            read: 0,
            book: self.names.clone(),
            shared: shared.clone(),
        };
        let started = std::thread::Builder::new().name("flows".into()).spawn(move || reader.run(out));
        if let Err(error) = started {
            warn!(%error, "flows cannot be told to the peer");
        }
        Ok(Tap { shared })
    }

    /// To be called when services have changed.
    pub fn rename(&self) {
        let names = Arc::new(Names::of(&self.book, &self.services));
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Puts flows of the other node into the table; how many are there now.
    pub fn adopt(&self, batch: &Batch) -> Result<usize, LoadError> {
        let tick_ms = tick_ms(&self.loaded);
        let known: HashMap<(&str, &str, SocketAddr), u32> = self
            .book
            .destinations
            .iter()
            .map(|(number, n)| ((n.service.as_str(), n.name.as_str(), n.address), *number))
            .collect();
        let numbers: Vec<Option<u32>> = batch
            .destinations
            .iter()
            .map(|(service, name, address)| known.get(&(service.as_str(), name.as_str(), *address)).copied())
            .collect();
        let sources: Vec<Option<u32>> = batch
            .sources
            .iter()
            .map(|a| self.book.sources.iter().position(|b| b == a).map(|at| at as u32))
            .collect();
        for (service, client) in &batch.forgotten {
            self.forget_persistent(service, *client)?;
        }
        let number_of = |index: [u8; 4]| numbers.get(u32::from_be_bytes(index) as usize).copied().flatten();
        let mut adopted = 0;
        for record in &batch.flows {
            let Some(destination) = number_of(record.destination) else { continue };
            let source = match u32::from_be_bytes(record.source) {
                0 => 0,
                n => match sources.get(n as usize - 1).copied().flatten() {
                    Some(source) => source,
                    None => continue,
                },
            };
            let mut adoption = Adoption::new_zeroed();
            adoption.client = longs(record.client);
            adoption.vip = longs(record.vip);
            adoption.client_port_be = u16::from_ne_bytes(record.client_port);
            adoption.vip_port_be = u16::from_ne_bytes(record.vip_port);
            adoption.protocol = record.protocol;
            adoption.state = record.state % STATES as u8;
            adoption.source_port_be = u16::from_ne_bytes(record.source_port);
            adoption.destination = destination;
            adoption.source = source;
            adoption.ticks = u32::from_be_bytes(record.left_ms).div_ceil(tick_ms).max(1);
            adoption.age = u32::from_be_bytes(record.age_ms) / tick_ms;
            adoption.marks = u32::from_be_bytes(record.marks);
            adoption.client_number = u32::from_be_bytes(record.client_number);
            adoption.difference = u32::from_be_bytes(record.difference);
            adoption.bytes_in = u64::from_be_bytes(record.bytes_in);
            adoption.bytes_out = u64::from_be_bytes(record.bytes_out);
            adopted += usize::from(self.loaded.adopt(&mut adoption)?);
        }
        for record in &batch.clients {
            let Some(destination) = number_of(record.destination) else { continue };
            let index = u32::from_be_bytes(record.destination) as usize;
            let service = batch.destinations.get(index).and_then(|d| self.book.services.get(&d.0));
            let Some(service) = service else { continue };
            let mut client = AdoptedClient::new_zeroed();
            client.client = longs(record.client);
            client.service = service.number;
            client.destination = destination;
            client.ticks = u32::from_be_bytes(record.left_ms).div_ceil(tick_ms).max(1);
            self.loaded.adopt_client(&mut client)?;
        }
        Ok(adopted)
    }
}

fn tick_ms(loaded: &Loaded) -> u32 {
    (((1000u64 << loaded.setup.tick_shift) / loaded.hertz) as u32).max(1)
}

fn longs(octets: [u8; 16]) -> [u64; 2] {
    zerocopy::transmute!(octets)
}

fn octets(longs: [u64; 2]) -> [u8; 16] {
    zerocopy::transmute!(longs)
}

/// A batch that is being filled.
struct Filling<'a, F: FnMut(Batch)> {
    names: Arc<Names>,
    batch: Batch,
    destinations: HashMap<u32, u32>,
    sources: HashMap<u16, u32>,
    /// Whose clients are in it already: one of them has many flows.
    remembered: HashSet<(u32, [u64; 2])>,
    out: &'a mut F,
}

impl<F: FnMut(Batch)> Filling<'_, F> {
    fn destination(&mut self, number: u32) -> Option<[u8; 4]> {
        if let Some(known) = self.destinations.get(&number) {
            return Some(known.to_be_bytes());
        }
        let name = self.names.destinations.get(&number)?.clone();
        let index = self.batch.destinations.len() as u32;
        self.batch.destinations.push(name);
        self.destinations.insert(number, index);
        Some(index.to_be_bytes())
    }

    fn add(&mut self, flow: &Flow, left_ticks: u32, tick: u32, tick_ms: u32) {
        // Not established yet: the other node could do nothing for it.
        if u32::from(flow.state) == STATE_SYN || u32::from(flow.state) == STATE_COOKIE {
            return;
        }
        let Some(destination) = self.destination(flow.destination) else { return };
        let mut source = 0;
        if flow.source_port_be != 0 {
            let Some(address) = self.names.sources.get(usize::from(flow.source)).copied() else { return };
            source = *self.sources.entry(flow.source).or_insert_with(|| {
                self.batch.sources.push(address);
                self.batch.sources.len() as u32
            });
        }
        self.batch.flows.push(FlowRecord {
            client: octets(flow.client),
            vip: octets(flow.vip),
            client_port: flow.client_port_be.to_ne_bytes(),
            vip_port: flow.vip_port_be.to_ne_bytes(),
            protocol: flow.protocol,
            state: flow.state,
            source_port: flow.source_port_be.to_ne_bytes(),
            destination,
            source: source.to_be_bytes(),
            left_ms: left_ticks.saturating_mul(tick_ms).to_be_bytes(),
            age_ms: tick.saturating_sub(flow.created).saturating_mul(tick_ms).to_be_bytes(),
            marks: flow.marks.to_be_bytes(),
            client_number: flow.client_number.to_be_bytes(),
            difference: flow.difference.to_be_bytes(),
            bytes_in: flow.bytes_in.to_be_bytes(),
            bytes_out: flow.bytes_out.to_be_bytes(),
        });
        if self.batch.flows.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            (self.out)(std::mem::take(&mut self.batch));
        }
        self.batch = Batch::default();
        self.destinations.clear();
        self.sources.clear();
    }

    /// What the program remembers of the client of a flow, where its service remembers any.
    fn add_client(&mut self, flow: &Flow, tables: &Reader, tick: u32, tick_ms: u32) {
        let Some(remembers) = self.names.remembers.get(&flow.destination).copied() else { return };
        if flow.marks & FLOW_PERSISTENT == 0 || flow.state == STATE_SYN as u8 {
            return;
        }
        let key = remembers.key(flow.client);
        let (bucket, fingerprint) = remembers.place(key, &tables.loaded.setup);
        if !self.remembered.insert((bucket, key)) {
            return;
        }
        let content = tables.persistences.read(bucket);
        if let Some((destination, left)) = remembers.find(key, fingerprint, &content, tick) {
            self.remember(key, destination, left.saturating_mul(tick_ms));
        }
    }

    fn remember(&mut self, client: [u64; 2], destination: u32, left_ms: u32) {
        let Some(destination) = self.destination(destination) else { return };
        let left_ms = left_ms.to_be_bytes();
        self.batch.clients.push(ClientRecord { client: octets(client), destination, left_ms });
        if self.batch.clients.len() >= BATCH {
            self.flush();
        }
    }
}

impl Reader {
    fn run(&mut self, mut out: impl FnMut(Batch)) {
        let (mut told, mut whole_at) = (0, Instant::now());
        self.read = self.heads.read(0).count;
        while !self.shared.stopped.load(Relaxed) {
            std::thread::sleep(LOOK);
            if !self.shared.active.load(Relaxed) {
                self.read = self.heads.read(0).count;
                self.take_forgotten();
                continue;
            }
            let forgotten = self.take_forgotten();
            if !forgotten.is_empty() {
                out(Batch { forgotten, ..Batch::default() });
            }
            let whole = self.shared.whole.load(Relaxed);
            let result = if whole != told || Instant::now() >= whole_at {
                let urgent = whole != told;
                told = whole;
                whole_at = Instant::now() + WHOLE;
                self.tell_all(urgent, &mut out)
            } else {
                self.tell_fresh(&mut out).map(|overrun| {
                    if overrun {
                        whole_at = Instant::now();
                    }
                })
            };
            if let Err(error) = result {
                warn!(%error, "flows cannot be read for the peer");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    fn take_forgotten(&self) -> Vec<(String, Option<IpAddr>)> {
        std::mem::take(&mut *self.shared.forgotten.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn filling<'a, F: FnMut(Batch)>(&self, out: &'a mut F) -> Filling<'a, F> {
        let names = self.book.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (batch, destinations, sources) = (Batch::default(), HashMap::new(), HashMap::new());
        Filling { names, batch, destinations, sources, remembered: HashSet::new(), out }
    }

    fn tick(&self) -> Result<u32, LoadError> {
        Ok((self.loaded.renew(0)? >> self.loaded.setup.tick_shift) as u32)
    }

    /// What the program has noted since the last look; whether some notes are lost.
    fn tell_fresh(&mut self, out: &mut impl FnMut(Batch)) -> Result<bool, LoadError> {
        let head = self.heads.read(0).count;
        if head == self.read {
            return Ok(false);
        }
        let overrun = head - self.read > u64::from(FRESH) * 3 / 4;
        let from = if overrun { head - u64::from(FRESH) / 2 } else { self.read };
        let (tick, tick_ms) = (self.tick()?, tick_ms(&self.loaded));
        let mut filling = self.filling(out);
        let mut buckets: HashMap<u32, u8> = HashMap::new();
        for at in from..head {
            let slot = self.fresh.read((at % u64::from(FRESH)) as u32);
            *buckets.entry(slot / WAYS).or_default() |= 1 << (slot % WAYS);
        }
        for (bucket, ways) in buckets {
            let content = self.flows.read(bucket);
            for way in (0..WAYS as usize).filter(|way| ways & 1 << way > 0) {
                let left = (content.tag[way] as u32).saturating_sub(tick);
                if content.tag[way] >> 32 != 0 && left > 0 {
                    let flow = &content.flow[way];
                    filling.add(flow, left, tick, tick_ms);
                    filling.add_client(flow, self, tick, tick_ms);
                }
            }
        }
        filling.flush();
        self.read = head;
        Ok(overrun)
    }

    /// The whole table; slowly, unless the other node knows nothing.
    fn tell_all(&mut self, urgent: bool, out: &mut impl FnMut(Batch)) -> Result<(), LoadError> {
        let (tick, tick_ms) = (self.tick()?, tick_ms(&self.loaded));
        // What changes meanwhile is told afterwards.
        self.read = self.heads.read(0).count;
        let pause = if urgent { Duration::ZERO } else { Duration::from_millis(2) };
        let mut filling = self.filling(out);
        let (stopped, active) = (&self.shared.stopped, &self.shared.active);
        self.flows.each(|index, bucket| {
            if stopped.load(Relaxed) || !active.load(Relaxed) {
                return;
            }
            if index % PORTION == PORTION - 1 {
                std::thread::sleep(pause);
            }
            for (tag, flow) in bucket.tag.iter().zip(&bucket.flow) {
                let left = (*tag as u32).saturating_sub(tick);
                if tag >> 32 != 0 && left > 0 {
                    filling.add(flow, left, tick, tick_ms);
                }
            }
        })?;
        self.persistences.each(|_, bucket| {
            for (tag, entry) in bucket.tag.iter().zip(&bucket.entry) {
                let left = (*tag as u32).saturating_sub(tick);
                if tag >> 32 == 0 || left == 0 {
                    continue;
                }
                filling.remember(entry.client, entry.destination, left.saturating_mul(tick_ms));
            }
        })?;
        filling.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let mut batch = Batch {
            destinations: vec![("web".into(), "s1".into(), "10.0.0.1:80".parse().unwrap())],
            sources: vec!["10.0.0.9".parse().unwrap()],
            ..Batch::default()
        };
        batch.flows.push(FlowRecord { state: 2, ..FlowRecord::new_zeroed() });
        batch.clients.push(ClientRecord::new_zeroed());
        let bytes = batch.encode();
        let read = Batch::parse(&bytes).unwrap();
        assert_eq!((read.flows.len(), read.flows[0].state, read.clients.len()), (1, 2, 1));
        assert_eq!(read.destinations, batch.destinations);
        for cut in 0..bytes.len() {
            assert!(Batch::parse(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }
}
