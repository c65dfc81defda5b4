//! Asks the machines of the service networks whether this node still reaches them, on a thread of its
//! own, while there is a reason to ask: see [`evenkeel_vrrp::reach`].

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use evenkeel_model::{PairSettings, Snapshot};
use evenkeel_platform::{Announcer, Interface, Network};
use evenkeel_vrrp::election::Election;
use evenkeel_vrrp::reach::Reach;
use tracing::{info, warn};

use super::paths::Path;
use crate::neighbours::is_near;

/// How long a machine may take to answer.
const ANSWER: Duration = Duration::from_millis(40);
/// Between two rounds: the first few, and the later ones.
const SOON: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(250);
const SOON_ROUNDS: u32 = 4;
/// A link that is down outweighs all else: nobody reaches the VIPs there.
const LINK: u16 = 100;
/// Machines that are asked: a bit each.
const MOST: usize = 64;
/// Real servers that are looked at for that.
const SERVERS: usize = 256;

/// Whom to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Interfaces of the service networks.
    interfaces: BTreeSet<String>,
    /// Real servers and the addresses of `ping`; default gateways are asked anyway.
    addresses: BTreeSet<IpAddr>,
}

impl Targets {
    pub fn of(settings: &PairSettings, snapshot: &Snapshot) -> Targets {
        let servers = snapshot.pools.iter().flat_map(|p| p.real_servers.iter()).map(|s| s.address.ip());
        let servers = servers.filter(|a| !a.is_loopback() && !a.is_unspecified()).take(SERVERS);
        Targets {
            interfaces: settings.routers.iter().map(|r| r.interface.clone()).collect(),
            addresses: settings.ping.iter().copied().chain(servers).collect(),
        }
    }
}

enum Order {
    Targets(Targets),
    Ask(bool),
}

/// The side of the pair's thread.
pub struct Surroundings {
    rules: Reach,
    asks: bool,
    told: Option<(u32, u32)>,
    orders: Sender<Order>,
    rounds: Receiver<(u64, u32)>,
    interfaces: BTreeSet<String>,
    /// Interfaces with a carrier, at each change.
    links: Receiver<BTreeSet<String>>,
    up: Option<BTreeSet<String>>,
    opened: Instant,
}

impl Surroundings {
    pub fn open(bell: Arc<OwnedFd>) -> std::io::Result<Surroundings> {
        let links_bell = bell.clone();
        let (orders, inbox) = channel();
        let (outbox, rounds) = channel();
        std::thread::Builder::new().name("pair-reach".into()).spawn(move || {
            let _ = evenkeel_platform::run_first();
            Asker::default().run(&inbox, |round| {
                let heard = outbox.send(round).is_ok();
                let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
                heard
            });
        })?;
        let (tell, links) = channel();
        evenkeel_platform::follow_interfaces(move |interfaces| {
            let up = interfaces.into_iter().filter(|i| i.up && i.carrier).map(|i| i.name).collect();
            let heard = tell.send(up).is_ok();
            let _ = rustix::io::write(&links_bell, &1u64.to_ne_bytes());
            heard
        })?;
        Ok(Surroundings {
            rules: Reach::default(),
            asks: false,
            told: None,
            orders,
            rounds,
            interfaces: BTreeSet::new(),
            links,
            up: None,
            opened: Instant::now(),
        })
    }

    /// What links of the service networks that are down weigh. The kernel tells of them at once.
    pub fn links_down(&mut self) -> u16 {
        if let Some(up) = self.links.try_iter().last() {
            self.up = Some(up);
        }
        let Some(up) = &self.up else { return 0 };
        let down = self.interfaces.difference(up).count();
        u16::try_from(down).unwrap_or(u16::MAX).saturating_mul(LINK)
    }

    pub fn set_targets(&mut self, targets: Targets) {
        self.interfaces.clone_from(&targets.interfaces);
        let _ = self.orders.send(Order::Targets(targets));
    }

    /// Compares the paths, and tells the election what it comes to. `trouble`: whatever else is wrong.
    pub fn update(&mut self, paths: &[Path], election: &mut Election, trouble: u16, now: u64) {
        // A serial line is no network that clients use, but it tells that the peer lives.
        let silent = |p: &Path| p.heard_at.unwrap_or(self.opened).elapsed().as_millis() as u64;
        let silences = paths.iter().map(silent);
        let alive = election.peer_alive();
        let dead_ms = election.settings().dead_ms;
        let doubts = alive && election.peer().is_some_and(|p| p.beat.doubts);
        let asks = self.rules.update(silences.filter(|_| alive), doubts, dead_ms, now);
        for (answers, of) in self.rounds.try_iter() {
            if asks {
                self.rules.answered(answers, of, dead_ms, now);
            }
        }
        if self.rules.begins() || asks != self.asks {
            self.asks = asks;
            let _ = self.orders.send(Order::Ask(asks));
            if asks {
                info!("the peer is heard on one path and not on another: this node asks whom it reaches");
            }
        }
        let reached = self.rules.reached();
        if reached != self.told {
            self.told = reached;
            if let Some((reached, of)) = reached {
                info!(reached, of, "machines of the service network answer this node");
            }
        }
        election.set_doubts(self.rules.doubts(), self.rules.is_undecided(now));
        election.set_trouble(trouble.saturating_add(self.rules.trouble()));
    }

    pub fn trouble(&self) -> u16 {
        self.rules.trouble()
    }

    /// For people, where something is missing.
    pub fn describe(&self) -> Option<String> {
        let (reached, of) = self.rules.reached().filter(|(reached, of)| reached < of)?;
        Some(format!(
            "{reached} of {of} machines of the service network answer (default gateway, real servers)"
        ))
    }
}

#[derive(Default)]
struct Asker {
    targets: Targets,
    asks: bool,
    rounds: u32,
    announcers: BTreeMap<u32, Announcer>,
}

impl Asker {
    fn run(&mut self, orders: &Receiver<Order>, mut tell: impl FnMut((u64, u32)) -> bool) {
        loop {
            let order = match self.asks {
                false => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => orders.recv_timeout(if self.rounds < SOON_ROUNDS { SOON } else { LATER }),
            };
            match order {
                Ok(Order::Targets(targets)) => self.targets = targets,
                Ok(Order::Ask(asks)) => {
                    (self.asks, self.rounds) = (asks, 0);
                    self.announcers.clear();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.asks {
                self.rounds = self.rounds.saturating_add(1);
                match self.round() {
                    Ok(round) if !tell(round) => return,
                    Ok(_) => {}
                    Err(error) => warn!(%error, "the machines of the service network cannot be asked"),
                }
            }
        }
    }

    /// Asks all of them at the same time, an interface after the other.
    fn round(&mut self) -> std::io::Result<(u64, u32)> {
        let mut network = Network::open()?;
        let interfaces = network.interfaces()?;
        let served = interfaces.iter().filter(|i| self.targets.interfaces.contains(&i.name));
        let served: Vec<&Interface> = served.collect();
        let asked = self.targets.next_hops(&mut network, &served)?;
        let own = network.addresses()?;
        let (mut answers, mut bit) = (0u64, 0u32);
        for interface in served {
            let here: Vec<IpAddr> = asked.iter().filter(|a| a.0 == interface.index).map(|a| a.1).collect();
            if here.is_empty() {
                continue;
            }
            let near = |o: &&evenkeel_platform::OwnAddress| {
                o.interface == interface.index && here.iter().any(|a| is_near(o, *a))
            };
            let source = own.iter().filter(|o| !o.ours).find(near).and_then(|o| match o.address {
                IpAddr::V4(address) => Some::<Ipv4Addr>(address),
                IpAddr::V6(_) => None,
            });
            let answered = match interface.up && interface.carrier {
                true => self.announcer(interface)?.answering(source, &here, ANSWER),
                false => BTreeSet::new(),
            };
            for address in &here {
                answers |= u64::from(answered.contains(address)) << bit;
                bit += 1;
            }
        }
        Ok((answers, bit))
    }

    fn announcer(&mut self, interface: &Interface) -> std::io::Result<&mut Announcer> {
        match self.announcers.entry(interface.index) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => {
                Ok(place.insert(Announcer::open(interface.index, &interface.name, interface.mac)?))
            }
        }
    }
}

impl Targets {
    /// The machines themselves, or the routers before them, on these interfaces.
    fn next_hops(
        &self,
        network: &mut Network,
        interfaces: &[&Interface],
    ) -> std::io::Result<BTreeSet<(u32, IpAddr)>> {
        let own: BTreeSet<IpAddr> = network.addresses()?.iter().map(|o| o.address).collect();
        let mut hops: Vec<(u32, IpAddr)> = network.default_gateways()?;
        for address in &self.addresses {
            if let Ok(way) = network.way_to(*address) {
                hops.push((way.interface, way.next_hop(*address)));
            }
        }
        hops.retain(|(interface, hop)| {
            interfaces.iter().any(|i| i.index == *interface) && !own.contains(hop)
        });
        let mut kept = BTreeSet::new();
        for hop in hops {
            if kept.len() < MOST {
                kept.insert(hop);
            }
        }
        Ok(kept)
    }
}
