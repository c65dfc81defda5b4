//! What the kernel says of interfaces and addresses, read on a thread of its own: while somebody else
//! changes the network, such a question may wait, and beats must not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_platform::{Interface, Network, OwnAddress};
use evenkeel_vrrp::lease::{Holding, LIFE_MS, Renewal};
use tracing::warn;

use super::guard::GuardedAddress;
use crate::neighbours::is_near;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
pub const LIFE: Duration = Duration::from_millis(LIFE_MS);

/// What becomes of the addresses that this node has, shared with the thread that decides.
#[derive(Default)]
pub struct Lent {
    state: AtomicU8,
    places: Mutex<Option<BTreeSet<GuardedAddress>>>,
}

impl Lent {
    fn set(&self, holding: Holding) {
        self.state.store(holding as u8, SeqCst);
    }

    fn holding(&self) -> Holding {
        let state = self.state.load(SeqCst);
        let all = [Holding::Held, Holding::Left, Holding::Given];
        all.into_iter().find(|holding| *holding as u8 == state).unwrap_or_default()
    }

    /// Never waits: what cannot be told now ends by itself, and is held again then.
    pub fn hold(&self, places: &BTreeSet<GuardedAddress>) {
        self.set(Holding::Held);
        if let Ok(mut told) = self.places.try_lock() {
            *told = Some(places.clone());
        }
    }

    /// To be said before they are removed.
    pub fn give(&self) {
        self.set(Holding::Given);
    }

    pub fn leave(&self) {
        self.set(Holding::Left);
    }

    /// Asks for them again. What was given up meanwhile is removed, should this have brought it back.
    fn renew(&self, network: &mut Network, places: &mut BTreeSet<GuardedAddress>) {
        if let Some(new) = self.places.lock().unwrap_or_else(PoisonError::into_inner).take() {
            *places = new;
        }
        for (interface, address, prefix) in places.iter() {
            if !self.holding().is_renewed() {
                return;
            }
            if let Err(error) = network.lend_address(*interface, *address, *prefix, LIFE) {
                warn!(%address, %error, "the address cannot be kept");
            }
            if self.holding().is_taken_back() {
                let _ = network.remove_address(*interface, *address, *prefix);
            }
        }
    }
}

/// The network at one moment.
#[derive(Clone, Debug)]
pub struct NetworkSnapshot {
    /// When the look began.
    pub at: Instant,
    pub interfaces: Vec<Interface>,
    pub own: Vec<OwnAddress>,
    /// Where addresses lie that are in no network of an interface.
    pub ways: BTreeMap<IpAddr, u32>,
}

pub struct NetworkWatcher {
    wanted: Sender<BTreeSet<IpAddr>>,
    seen: Receiver<NetworkSnapshot>,
}

impl NetworkWatcher {
    /// Rings the bell for each look.
    pub fn open(bell: Arc<OwnedFd>, lent: Arc<Lent>) -> std::io::Result<NetworkWatcher> {
        let (wanted, inbox) = channel::<BTreeSet<IpAddr>>();
        let (outbox, seen) = channel();
        let mut network = Network::open()?;
        std::thread::Builder::new().name("pair-network".into()).spawn(move || {
            let (mut wanted, mut places) = (BTreeSet::new(), BTreeSet::new());
            let started = Instant::now();
            let mut renewal = Renewal::new(0);
            loop {
                match inbox.recv_timeout(LOOK) {
                    Ok(new) => wanted = inbox.try_iter().last().unwrap_or(new),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if renewal.is_due(started.elapsed().as_millis() as u64) {
                    lent.renew(&mut network, &mut places);
                }
                match snapshot(&mut network, &wanted) {
                    Ok(seen) => {
                        if outbox.send(seen).is_err() {
                            return;
                        }
                        let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
                    }
                    Err(error) => warn!(%error, "the interfaces cannot be read"),
                }
            }
        })?;
        Ok(NetworkWatcher { wanted, seen })
    }

    /// Looks at once, and from now on for these addresses.
    pub fn look_for(&self, wanted: BTreeSet<IpAddr>) {
        let _ = self.wanted.send(wanted);
    }

    /// The last look, if there was one since the last question.
    pub fn seen(&self) -> Option<NetworkSnapshot> {
        self.seen.try_iter().last()
    }
}

/// One look, at once.
pub fn snapshot(network: &mut Network, wanted: &BTreeSet<IpAddr>) -> std::io::Result<NetworkSnapshot> {
    let at = Instant::now();
    let (interfaces, mut own) = (network.interfaces()?, network.addresses()?);
    own.retain(|o| !o.kept);
    let mut ways = BTreeMap::new();
    // With thousands of VIPs only the others say where networks are.
    let homes: Vec<&OwnAddress> = own.iter().filter(|o| !wanted.contains(&o.address)).collect();
    let loopback = |index: u32| interfaces.iter().any(|i| i.index == index && i.loopback);
    for address in wanted.iter().filter(|a| !homes.iter().any(|o| is_near(o, **a))) {
        // The way to one that is here already is this machine itself.
        let here = own.iter().find(|o| o.address == *address && !loopback(o.interface));
        let way = here.map(|o| o.interface).or_else(|| Some(network.way_to(*address).ok()?.interface));
        let out = way.filter(|index| !loopback(*index)).or_else(|| {
            let gateways = network.default_gateways().unwrap_or_default();
            gateways.iter().find(|(_, gateway)| gateway.is_ipv4() == address.is_ipv4()).map(|g| g.0)
        });
        ways.extend(out.map(|index| (*address, index)));
    }
    Ok(NetworkSnapshot { at, interfaces, own, ways })
}
