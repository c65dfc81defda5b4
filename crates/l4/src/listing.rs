//! Reads the tables of flows and of persistent clients.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use zerocopy::FromZeros;

use crate::book::DestinationNote;
use crate::plane::Plane;
use crate::program::{LoadError, Loaded};
use crate::shared::*;
use crate::spec::FlowInfo;
use crate::write::Array;

const STATE_NAMES: [&str; STATES as usize] =
    ["", "syn-received", "established", "closing", "closed", "udp", "picked-up", "asking-server"];

/// A client that persistence knows, with its service and real server.
#[derive(Clone, Debug)]
pub struct PersistentInfo {
    pub service: String,
    pub server: String,
    pub client: IpAddr,
    pub expires: Duration,
}

/// Reads the table of flows without holding up its owner.
pub struct FlowReader {
    loaded: Arc<Loaded>,
    flows: Array<FlowBucket>,
    destinations: BTreeMap<u32, DestinationNote>,
}

impl FlowReader {
    /// The flows that `wanted` lets through, at most `limit` of them.
    pub fn flows(
        &self,
        limit: usize,
        wanted: impl Fn(&FlowInfo) -> bool,
    ) -> Result<Vec<FlowInfo>, LoadError> {
        let mut found = Vec::new();
        self.each(|_, info| {
            if found.len() < limit && wanted(&info) {
                found.push(info);
            }
        })?;
        Ok(found)
    }

    /// Closes the flows that `wanted` lets through; how many of them counted as active. Both sides hear of it with what they
    /// send next: a segment is answered with a reset, a datagram begins a new flow.
    pub fn close(&self, wanted: impl Fn(&FlowInfo) -> bool) -> Result<usize, LoadError> {
        let (mut closed, mut failed) = (0, None);
        self.each(|flow, info| {
            if failed.is_some() || !wanted(&info) {
                return;
            }
            match self.loaded.cut(flow) {
                Ok(open) => closed += usize::from(open),
                Err(error) => failed = Some(error),
            }
        })?;
        failed.map_or(Ok(closed), Err)
    }

    /// Every flow that lives, of a real server that is known.
    fn each(&self, mut visit: impl FnMut(&Flow, FlowInfo)) -> Result<(), LoadError> {
        let clock = Clock::of(&self.loaded)?;
        self.flows.each(|_, bucket| {
            for (tag, flow) in bucket.tag.iter().zip(&bucket.flow) {
                if tag >> 32 == 0 || *tag as u32 <= clock.tick {
                    continue;
                }
                let Some(note) = self.destinations.get(&flow.destination) else { continue };
                let vip_port = u16::from_be(flow.vip_port_be);
                let port = if note.address.port() == 0 { vip_port } else { note.address.port() };
                let is_cut = flow.marks & FLOW_CUT > 0 && u32::from(flow.state) != STATE_CLOSED;
                let state = STATE_NAMES[usize::from(flow.state) % STATE_NAMES.len()];
                let info = FlowInfo {
                    service: note.service.clone(),
                    server: note.name.clone(),
                    client: SocketAddr::new(address_of_longs(flow.client), u16::from_be(flow.client_port_be)),
                    vip: SocketAddr::new(address_of_longs(flow.vip), vip_port),
                    real: SocketAddr::new(note.address.ip(), port),
                    protocol: if flow.protocol == 6 { "tcp" } else { "udp" },
                    state: if is_cut { "cut" } else { state },
                    age: clock.time(clock.tick.saturating_sub(flow.created)),
                    expires: clock.time((*tag as u32).saturating_sub(clock.tick)),
                    bytes_in: flow.bytes_in,
                    bytes_out: flow.bytes_out,
                };
                visit(flow, info);
            }
        })
    }
}

impl Plane {
    /// Closes one flow by what its packets say; whether it counted as active.
    pub fn cut(&self, client: SocketAddr, vip: SocketAddr, protocol: u8) -> Result<bool, LoadError> {
        let mut flow = Flow::new_zeroed();
        (flow.client, flow.vip) = (longs(client.ip()), longs(vip.ip()));
        (flow.client_port_be, flow.vip_port_be) = (client.port().to_be(), vip.port().to_be());
        flow.protocol = protocol;
        self.loaded.cut(&flow)
    }

    /// Which of these addresses flows still come to, as a VIP or as an address that SNAT sends from.
    pub fn in_use(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, LoadError> {
        let mut found = BTreeSet::new();
        if addresses.is_empty() {
            return Ok(found);
        }
        self.each_open_flow(|flow| {
            let source =
                self.book.sources.get(usize::from(flow.source)).filter(|_| flow.source_port_be != 0).copied();
            let ends = [Some(address_of_longs(flow.vip)), source];
            found.extend(ends.into_iter().flatten().filter(|end| addresses.contains(end)));
            found.len() < addresses.len()
        })?;
        Ok(found)
    }

    /// Whether any flow has not ended yet.
    pub fn has_open_flows(&self) -> Result<bool, LoadError> {
        let mut any = false;
        self.each_open_flow(|_| {
            any = true;
            false
        })?;
        Ok(any)
    }

    /// Until the visitor has seen enough.
    fn each_open_flow(&self, mut visit: impl FnMut(&Flow) -> bool) -> Result<(), LoadError> {
        let tick = Clock::of(&self.loaded)?.tick;
        self.maps.flows.each_until(|_, bucket| {
            bucket.tag.iter().zip(&bucket.flow).all(|(tag, flow)| {
                let is_over = tag >> 32 == 0
                    || *tag as u32 <= tick
                    || u32::from(flow.state) == STATE_CLOSED
                    || flow.marks & FLOW_CUT > 0
                    || !self.book.destinations.contains_key(&flow.destination);
                is_over || visit(flow)
            })
        })
    }

    pub fn flow_reader(&self) -> Result<FlowReader, LoadError> {
        Ok(FlowReader {
            loaded: self.loaded.clone(),
            flows: Array::of(&self.loaded, "flows")?,
            destinations: self.book.destinations.clone(),
        })
    }

    /// The clients that a service remembers.
    pub fn persistent(&self, service: &str) -> Result<Vec<PersistentInfo>, LoadError> {
        let clock = Clock::of(&self.loaded)?;
        let names: HashMap<u32, &String> = self.book.services.iter().map(|(n, s)| (s.number, n)).collect();
        let mut found = Vec::new();
        self.maps.persistences.each(|_, bucket| {
            for (tag, entry) in bucket.tag.iter().zip(&bucket.entry) {
                if tag >> 32 == 0 || *tag as u32 <= clock.tick {
                    continue;
                }
                let Some(name) = names.get(&entry.service).filter(|n| n.as_str() == service) else {
                    continue;
                };
                let note = self.book.destinations.get(&entry.destination);
                found.push(PersistentInfo {
                    service: (*name).clone(),
                    server: note.map_or_else(|| "(removed)".into(), |n| n.name.clone()),
                    client: address_of_longs(entry.client),
                    expires: clock.time((*tag as u32).saturating_sub(clock.tick)),
                });
            }
        })?;
        Ok(found)
    }

    /// Forgets a service's persistent clients, or one of them; how many there were.
    pub fn forget_persistent(&self, service: &str, client: Option<IpAddr>) -> Result<usize, LoadError> {
        let Some(number) = self.book.services.get(service).map(|n| n.number) else { return Ok(0) };
        let mut changed = Vec::new();
        let mut forgotten = 0;
        self.maps.persistences.each(|index, bucket| {
            let mut bucket = *bucket;
            let before = forgotten;
            for (tag, entry) in bucket.tag.iter_mut().zip(&bucket.entry) {
                let own = entry.service == number && *tag >> 32 != 0;
                if own && client.is_none_or(|c| c == address_of_longs(entry.client)) {
                    *tag = 0;
                    forgotten += 1;
                }
            }
            if forgotten > before {
                changed.push((index, bucket));
            }
        })?;
        for (index, bucket) in changed {
            self.maps.persistences.write(index, &bucket)?;
        }
        Ok(forgotten)
    }
}

/// The kernel's ticks as time.
struct Clock {
    tick: u32,
    tick_length: Duration,
}

impl Clock {
    fn of(loaded: &Loaded) -> Result<Clock, LoadError> {
        let shift = loaded.setup.tick_shift;
        let tick = (loaded.renew(0)? >> shift) as u32;
        let tick_length = Duration::from_micros((1_000_000 << shift) / loaded.hertz);
        Ok(Clock { tick, tick_length })
    }

    fn time(&self, ticks: u32) -> Duration {
        self.tick_length * ticks
    }
}
