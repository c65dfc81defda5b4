//! The floating addresses of a pair: where they belong, adding and removing them, saying so.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use evenkeel_model::{Mode, Snapshot};
use evenkeel_platform::{Announcer, Interface, Network, OwnAddress};
use tracing::{info, warn};

use super::guard::{Guard, Place};
use super::network_watcher::NetworkSnapshot;
use crate::neighbours::is_near;

/// After a takeover, and after the other node was active too, the addresses are announced again at
/// these times, then every minute: a switch or a router may have missed the first, or have heard the
/// other node last.
const AGAIN_MS: &[u64] =
    &[50, 150, 400, 1_000, 2_000, 4_000, 7_000, 10_000, 15_000, 20_000, 30_000, 45_000, 60_000];
const EVERY: Duration = Duration::from_secs(60);
/// Addresses of an interface that are asked for before a takeover.
const ASKED: usize = 64;
/// How long somebody who has the address may take to say so.
const ASK: Duration = Duration::from_millis(25);

pub struct Floating {
    network: Network,
    wanted: BTreeSet<(IpAddr, Option<u8>)>,
    places: BTreeSet<Place>,
    held: bool,
    /// Those on interfaces now, of this program.
    added: BTreeSet<Place>,
    /// When addresses were last added or removed: what was seen before is no longer true.
    pub changed_at: Instant,
    /// Writes them down for a later process: a disk must not hold up a takeover.
    notes: Sender<BTreeSet<Place>>,
    announcers: HashMap<u32, Announcer>,
    interfaces: Vec<Interface>,
    announcements: Vec<Instant>,
    pub announced_at: Option<Instant>,
    /// Addresses of no interface of this machine's.
    pub unplaced: Vec<IpAddr>,
}

/// The addresses that move with the role: VIPs, except such as never leave a machine, and more.
pub fn floating_of(snapshot: &Snapshot) -> BTreeSet<(IpAddr, Option<u8>)> {
    let moves = |a: &IpAddr| !a.is_unspecified() && !a.is_loopback() && !a.is_multicast();
    let vips = snapshot.services.iter().flat_map(|s| s.vips.iter().map(|v| v.address));
    let own = snapshot.addresses.own_vips;
    let vips = vips.filter(|_| own).filter(moves).map(|a| (a, None));
    let sources = snapshot.services.iter().filter(|s| s.mode == Mode::Snat);
    let sources = sources.filter_map(|s| s.layer4.as_ref()).flat_map(|l| l.sources.iter().copied());
    let floating = snapshot.addresses.floating.iter().map(|(a, prefix)| (*a, Some(*prefix)));
    let named: BTreeSet<IpAddr> = snapshot.addresses.floating.iter().map(|f| f.0).collect();
    let others = vips.chain(sources.map(|a| (a, None))).filter(|(a, _)| !named.contains(a));
    others.chain(floating).collect()
}

/// When addresses are announced once more, the next time last.
fn times_after(now: Instant) -> Vec<Instant> {
    AGAIN_MS.iter().rev().map(|ms| now + Duration::from_millis(*ms)).collect()
}

impl Floating {
    pub fn new(file: PathBuf) -> std::io::Result<Floating> {
        let added = std::fs::read(&file).ok();
        let added = added.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let (notes, inbox) = channel::<BTreeSet<Place>>();
        std::thread::Builder::new().name("addresses".into()).spawn(move || {
            while let Ok(mut added) = inbox.recv() {
                // The last word counts.
                added = inbox.try_iter().last().unwrap_or(added);
                let text = serde_json::to_vec(&added).unwrap_or_default();
                if let Err(error) = evenkeel_platform::write_atomically(&file, &text) {
                    warn!(%error, "the addresses that were added cannot be noted: a later process would leave them");
                }
            }
        })?;
        Ok(Floating {
            network: Network::open()?,
            wanted: BTreeSet::new(),
            places: BTreeSet::new(),
            held: false,
            added,
            changed_at: Instant::now(),
            notes,
            announcers: HashMap::new(),
            interfaces: Vec::new(),
            announcements: Vec::new(),
            announced_at: None,
            unplaced: Vec::new(),
        })
    }

    pub fn set_wanted(&mut self, wanted: BTreeSet<(IpAddr, Option<u8>)>) {
        self.wanted = wanted;
    }

    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    pub fn are_held(&self) -> bool {
        self.held
    }

    pub fn wanted(&self) -> BTreeSet<IpAddr> {
        self.wanted.iter().map(|w| w.0).collect()
    }

    /// Where the addresses belong, ahead of time: a takeover then only adds them.
    pub fn see(&mut self, NetworkSnapshot { interfaces, own, ways, .. }: NetworkSnapshot, guard: &mut Guard) {
        self.interfaces = interfaces;
        // Where the note of an earlier process was lost, or could not be written, the kernel knows.
        let known = own.iter().filter(|o| o.ours && self.wanted.iter().any(|w| w.0 == o.address));
        let loopback = |index: u32| self.interfaces.iter().any(|i| i.index == index && i.loopback);
        let known = known.filter(|o| !loopback(o.interface)).map(|o| (o.interface, o.address, o.prefix));
        self.added.extend(known);
        let foreign = |o: &&OwnAddress| !self.added.contains(&(o.interface, o.address, o.prefix));
        self.unplaced.clear();
        let mut places = BTreeSet::new();
        for (address, prefix) in &self.wanted {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            // One that is configured on the machine itself stays there.
            if own.iter().filter(foreign).any(|o| o.address == *address) {
                continue;
            }
            let home = own.iter().filter(foreign).find(|o| is_near(o, *address));
            let interface = match home {
                Some(home) => Some(home.interface),
                None => ways.get(address).copied(),
            };
            match interface {
                Some(interface) => drop(places.insert((interface, *address, prefix.unwrap_or(whole)))),
                None => self.unplaced.push(*address),
            }
        }
        self.announcers
            .retain(|index, a| self.interfaces.iter().any(|i| i.index == *index && i.mac == a.mac()));
        for index in places.iter().map(|p| p.0) {
            let Some(interface) = self.interfaces.iter().find(|i| i.index == index && !i.loopback) else {
                continue;
            };
            let Entry::Vacant(place) = self.announcers.entry(index) else { continue };
            match Announcer::open(index, &interface.name, interface.mac) {
                Ok(announcer) => drop(place.insert_entry(announcer)),
                Err(error) => warn!(interface = interface.name, %error, "addresses cannot be announced"),
            }
        }
        let changed = places != self.places;
        self.places = places;
        if self.held {
            let there = |p: &Place| own.iter().any(|o| (o.interface, o.address, o.prefix) == *p);
            if changed || !self.places.iter().all(there) {
                self.place(guard);
            }
        } else if !self.added.is_empty() {
            self.remove_all();
            guard.drop_all();
        }
    }

    /// Whoever else has one of the addresses, and answers.
    pub fn conflict(&mut self) -> Option<(IpAddr, [u8; 6])> {
        let mut by_interface: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
        for (interface, address, _) in &self.places {
            by_interface.entry(*interface).or_default().push(*address);
        }
        by_interface.into_iter().find_map(|(interface, addresses)| {
            // Enough to tell, and no flood.
            let some = &addresses[..addresses.len().min(ASKED)];
            self.announcers.get_mut(&interface)?.ask(some, ASK)
        })
    }

    /// Adds the addresses and says so.
    pub fn take(&mut self, guard: &mut Guard) {
        self.held = true;
        self.place(guard);
    }

    fn place(&mut self, guard: &mut Guard) {
        let gone: Vec<Place> = self.added.difference(&self.places).copied().collect();
        for (interface, address, prefix) in gone {
            let _ = self.network.remove_address(interface, address, prefix);
            info!(%address, interface, "address removed");
        }
        guard.drop_all();
        for place in self.places.clone() {
            let (interface, address, prefix) = place;
            guard.hold(place);
            if let Err(error) = self.network.add_address(interface, address, prefix) {
                warn!(%address, interface, %error, "the address cannot be added");
            }
        }
        self.announce_repeatedly();
        self.added = self.places.clone();
        self.note();
        self.changed_at = Instant::now();
    }

    /// Says where the addresses are now, and goes on for a minute: others may have learnt another
    /// place meanwhile, or still hear of one.
    pub fn announce_repeatedly(&mut self) {
        self.announce();
        self.announcements = times_after(Instant::now());
    }

    /// Removes the addresses, at once.
    pub fn give(&mut self, guard: &mut Guard) {
        self.held = false;
        self.announcements.clear();
        self.remove_all();
        guard.drop_all();
    }

    fn remove_all(&mut self) {
        for (interface, address, prefix) in std::mem::take(&mut self.added) {
            let _ = self.network.remove_address(interface, address, prefix);
        }
        self.changed_at = Instant::now();
        self.note();
    }

    fn note(&self) {
        let _ = self.notes.send(self.added.clone());
    }

    fn announce(&mut self) {
        for (interface, address, _) in &self.places {
            if let Some(announcer) = self.announcers.get_mut(interface) {
                let _ = announcer.announce(*address);
            }
        }
        self.announced_at = Some(Instant::now());
    }

    pub fn announce_when_due(&mut self, now: Instant) {
        let late = self.announced_at.is_some_and(|at| now >= at + EVERY);
        let due = self.announcements.last().is_some_and(|at| now >= *at);
        if self.held && (due || late) {
            self.announcements.pop();
            self.announce();
        }
    }

    /// The addresses stay: another process of this node has them now.
    pub fn leave(&mut self) {
        self.held = false;
        self.added.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_go_on_for_a_minute_and_are_spaced_out() {
        let now = Instant::now();
        let mut times = times_after(now);
        let mut before = now;
        let mut gaps = Vec::new();
        while let Some(next) = times.pop() {
            gaps.push(next - before);
            before = next;
        }
        assert_eq!(before - now, Duration::from_secs(60));
        assert!(gaps.iter().all(|gap| *gap <= Duration::from_secs(15)), "{gaps:?}");
        assert!(gaps.len() <= 15, "no flood");
    }
}
