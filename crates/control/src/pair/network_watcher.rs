//! What the kernel says of interfaces and addresses, read on a thread of its own: while somebody else
//! changes the network, such a question may wait, and beats must not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use evenkeel_platform::{Interface, Network, OwnAddress};
use tracing::warn;

use crate::neighbours::is_near;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

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
    pub fn open(bell: Arc<OwnedFd>) -> std::io::Result<NetworkWatcher> {
        let (wanted, inbox) = channel::<BTreeSet<IpAddr>>();
        let (outbox, seen) = channel();
        let mut network = Network::open()?;
        std::thread::Builder::new().name("pair-network_watcher".into()).spawn(move || {
            let mut wanted = BTreeSet::new();
            loop {
                match inbox.recv_timeout(LOOK) {
                    Ok(new) => wanted = inbox.try_iter().last().unwrap_or(new),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                match look(&mut network, &wanted) {
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
pub fn look(network: &mut Network, wanted: &BTreeSet<IpAddr>) -> std::io::Result<NetworkSnapshot> {
    let at = Instant::now();
    let (interfaces, own) = (network.interfaces()?, network.addresses()?);
    let mut ways = BTreeMap::new();
    for address in wanted {
        let is_home = |o: &OwnAddress| !wanted.contains(&o.address) && is_near(o, *address);
        if !own.iter().any(is_home)
            && let Ok(way) = network.way_to(*address)
        {
            ways.insert(*address, way.interface);
        }
    }
    Ok(NetworkSnapshot { at, interfaces, own, ways })
}
