//! Addresses that this program puts on interfaces: where they belong, adding and removing them, saying so.
//! The thread of a pair does so with the role, `daemon/addresses.rs` on a single node.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use evenkeel_model::{Mode, Snapshot, host_prefix};
use evenkeel_platform::{Announcer, Interface, Network, OwnAddress};
use evenkeel_vrrp::announce::Announcements;
use evenkeel_vrrp::election::Event;
use tracing::{info, warn};

use super::guard::{Guard, GuardedAddress};
use super::network_watcher::{LIFE, Lent, NetworkSnapshot};
use crate::neighbours::{ASKED, is_near};

/// How long somebody who has the address may take to say so: its kernel does it, whatever its daemon does.
const ASK: Duration = Duration::from_millis(15);

pub struct Floating {
    network: Network,
    wanted: BTreeSet<(IpAddr, Option<u8>)>,
    places: BTreeSet<GuardedAddress>,
    held: bool,
    lent: Option<Arc<Lent>>,
    /// Those on interfaces now, of this program.
    added: BTreeSet<GuardedAddress>,
    /// When addresses were last added or removed: what was seen before is no longer true.
    pub changed_at: Instant,
    file: PathBuf,
    /// Writes them down for a later process: a disk must not hold up a takeover. Without a thread it is
    /// done at once.
    notes: Option<Sender<BTreeSet<GuardedAddress>>>,
    announcers: Announcers,
    interfaces: Vec<Interface>,
    announcements: Announcements,
    /// What their times count from.
    started: Instant,
    pub announced_at: Option<Instant>,
    /// Addresses of no interface of this machine's.
    pub unplaced: Vec<IpAddr>,
    /// Those that cannot be here now: somebody else answers for them.
    pub left_out: BTreeSet<IpAddr>,
    /// No longer wanted, but connections to them are still open.
    pub in_use: BTreeSet<IpAddr>,
}

/// Where an address belongs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// It is configured on the machine itself, and stays as it is.
    Own(u32),
    /// An interface has an address of its network.
    Near(u32),
    /// No interface is in its network; a route leads out by this one.
    Routed(u32),
    Nowhere,
}

/// The addresses that the machine has itself. What this program has added makes no network.
pub fn foreign(own: &[OwnAddress], added: &BTreeSet<GuardedAddress>) -> Vec<OwnAddress> {
    own.iter().filter(|o| !added.contains(&(o.interface, o.address, o.prefix))).cloned().collect()
}

/// `foreign`: the addresses that the machine has itself.
pub fn spot(address: IpAddr, foreign: &[OwnAddress], way: Option<u32>) -> Spot {
    if let Some(there) = foreign.iter().find(|o| o.address == address) {
        return Spot::Own(there.interface);
    }
    let near = foreign.iter().filter(|o| is_near(o, address));
    match (near.min_by_key(|o| std::cmp::Reverse(o.prefix)), way) {
        (Some(near), _) => Spot::Near(near.interface),
        (None, Some(interface)) => Spot::Routed(interface),
        (None, None) => Spot::Nowhere,
    }
}

/// What an earlier process noted and the kernel says somebody else has added is not this program's.
fn without_foreign(added: &mut BTreeSet<GuardedAddress>, own: &[OwnAddress]) {
    if own.iter().any(|o| o.marked) {
        for other in own.iter().filter(|o| !o.ours) {
            added.remove(&(other.interface, other.address, other.prefix));
        }
    }
}

/// The addresses that move with the role: VIPs, except such as never leave a machine, and more.
pub fn floating_of(snapshot: &Snapshot) -> BTreeSet<(IpAddr, Option<u8>)> {
    let moves = |a: &IpAddr| !a.is_unspecified() && !a.is_loopback() && !a.is_multicast();
    let vips = snapshot.services.iter().flat_map(|s| s.vips.iter().map(|v| v.address));
    let own = snapshot.addresses.own_vips != Some(false);
    let vips = vips.filter(|_| own).filter(moves).map(|a| (a, None));
    let sources = snapshot.services.iter().filter(|s| s.mode == Mode::Snat);
    let sources = sources.filter_map(|s| s.layer4.as_ref()).flat_map(|l| l.sources.iter().copied());
    let floating = snapshot.addresses.floating.iter().map(|(a, prefix)| (*a, Some(*prefix)));
    let named: BTreeSet<IpAddr> = snapshot.addresses.floating.iter().map(|f| f.0).collect();
    let others = vips.chain(sources.map(|a| (a, None))).filter(|(a, _)| !named.contains(a));
    others.chain(floating).collect()
}

/// The addresses that move with the role: those of the configuration, and those that an earlier one had and that
/// connections are still open to.
#[derive(Clone, Default)]
pub struct Moving {
    pub configured: BTreeSet<(IpAddr, Option<u8>)>,
    leaving: BTreeSet<(IpAddr, Option<u8>)>,
}

impl Moving {
    pub fn of(snapshot: &Snapshot) -> Moving {
        Moving { configured: floating_of(snapshot), leaving: BTreeSet::new() }
    }

    /// Others are configured from now on. What is not any more stays until [`Moving::let_go`].
    pub fn follow(&mut self, snapshot: &Snapshot) {
        let before = std::mem::replace(&mut self.configured, floating_of(snapshot));
        self.leaving.extend(before);
        let configured: BTreeSet<IpAddr> = self.configured.iter().map(|(address, _)| *address).collect();
        self.leaving.retain(|(address, _)| !configured.contains(address));
    }

    /// Those of an earlier process, which still have connections.
    pub fn leave(&mut self, places: BTreeSet<GuardedAddress>) {
        self.leaving.extend(places.into_iter().map(|(_, address, prefix)| (address, Some(prefix))));
    }

    pub fn leaving(&self) -> BTreeSet<IpAddr> {
        self.leaving.iter().map(|(address, _)| *address).collect()
    }

    /// Only these of the leaving ones still have connections. Returns whether any goes.
    pub fn let_go(&mut self, in_use: &BTreeSet<IpAddr>) -> bool {
        let before = self.leaving.len();
        self.leaving.retain(|(address, _)| in_use.contains(address));
        self.leaving.len() < before
    }

    pub fn all(&self) -> BTreeSet<(IpAddr, Option<u8>)> {
        self.configured.union(&self.leaving).copied().collect()
    }
}

/// What an earlier process has added and noted.
pub fn noted(file: &Path) -> BTreeSet<GuardedAddress> {
    let text = std::fs::read(file).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write_note(file: &Path, added: &BTreeSet<GuardedAddress>) {
    let text = serde_json::to_vec(added).unwrap_or_default();
    if let Err(error) = evenkeel_files::write_atomically(file, &text) {
        warn!(%error, file = %file.display(), "the addresses that were added cannot be noted: a later process would leave them");
    }
}

/// What speaks for addresses and asks for them, by the index of its interface.
#[derive(Default)]
pub struct Announcers(HashMap<u32, Announcer>);

impl Announcers {
    fn open(&mut self, interfaces: &[Interface], places: &BTreeSet<GuardedAddress>) {
        for index in places.iter().map(|p| p.0) {
            let Some(interface) = interfaces.iter().find(|i| i.index == index && !i.loopback) else {
                continue;
            };
            let Entry::Vacant(place) = self.0.entry(index) else { continue };
            match Announcer::open(index, &interface.name, interface.mac) {
                Ok(announcer) => drop(place.insert_entry(announcer)),
                Err(error) => warn!(interface = interface.name, %error, "addresses cannot be announced"),
            }
        }
    }

    /// Who answers for addresses, beside this machine and one with these MACs.
    pub fn holders(
        &mut self,
        interfaces: &[Interface],
        places: &BTreeSet<GuardedAddress>,
        peer: &BTreeSet<[u8; 6]>,
        within: Duration,
    ) -> BTreeMap<IpAddr, [u8; 6]> {
        self.open(interfaces, places);
        let own = interfaces.iter().filter(|i| !i.loopback).map(|i| i.mac);
        let own: Vec<[u8; 6]> = own.chain(peer.iter().copied()).collect();
        let mut by_interface: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
        places
            .iter()
            .for_each(|(interface, address, _)| by_interface.entry(*interface).or_default().push(*address));
        let mut found = BTreeMap::new();
        for (interface, addresses) in by_interface {
            let Some(announcer) = self.0.get_mut(&interface) else { continue };
            for some in addresses.chunks(ASKED) {
                found.extend(announcer.ask_each(some, &own, within));
            }
        }
        found
    }
}

impl Floating {
    /// Writes down at once which addresses it has added; they stay until they are removed.
    pub fn new(file: PathBuf) -> std::io::Result<Floating> {
        let added = noted(&file);
        Ok(Floating {
            file,
            network: Network::open()?,
            wanted: BTreeSet::new(),
            places: BTreeSet::new(),
            held: false,
            lent: None,
            added,
            changed_at: Instant::now(),
            notes: None,
            announcers: Announcers::default(),
            interfaces: Vec::new(),
            announcements: Announcements::default(),
            started: Instant::now(),
            announced_at: None,
            unplaced: Vec::new(),
            left_out: BTreeSet::new(),
            in_use: BTreeSet::new(),
        })
    }

    /// Never waits for the disk. The addresses are lent: they end with whoever renews them.
    pub fn hurried(file: PathBuf, lent: Arc<Lent>) -> std::io::Result<Floating> {
        let (notes, inbox) = channel::<BTreeSet<GuardedAddress>>();
        let own = file.clone();
        std::thread::Builder::new().name("addresses".into()).spawn(move || {
            while let Ok(mut added) = inbox.recv() {
                // The last word counts.
                added = inbox.try_iter().last().unwrap_or(added);
                write_note(&own, &added);
            }
        })?;
        Ok(Floating { notes: Some(notes), lent: Some(lent), ..Floating::new(file)? })
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

    /// Which of the addresses on interfaces are this program's.
    pub fn take_snapshot(&mut self, seen: &NetworkSnapshot) {
        self.interfaces.clone_from(&seen.interfaces);
        let own = &seen.own;
        // Where the note of an earlier process was lost, or could not be written, the kernel knows.
        let wanted = self.wanted();
        let known = own.iter().filter(|o| o.ours && wanted.contains(&o.address));
        let loopback = |index: u32| self.interfaces.iter().any(|i| i.index == index && i.loopback);
        let known = known.filter(|o| !loopback(o.interface)).map(|o| (o.interface, o.address, o.prefix));
        let known: Vec<GuardedAddress> = known.collect();
        self.added.extend(known);
        without_foreign(&mut self.added, own);
    }

    /// The addresses are here and stay, as a single node has them.
    pub fn keep(&mut self, seen: NetworkSnapshot, guard: &mut Guard) {
        self.held = true;
        self.see(seen, guard);
        if self.added.iter().any(|p| !self.places.contains(p) && !self.in_use.contains(&p.1)) {
            self.place(guard);
        }
    }

    /// Where the addresses belong, ahead of time: a takeover then only adds them.
    pub fn see(&mut self, seen: NetworkSnapshot, guard: &mut Guard) {
        self.take_snapshot(&seen);
        let NetworkSnapshot { own, ways, .. } = seen;
        self.unplaced.clear();
        let foreign = foreign(&own, &self.added);
        let mut places = BTreeSet::new();
        for (address, prefix) in self.wanted.iter().filter(|w| !self.left_out.contains(&w.0)) {
            match spot(*address, &foreign, ways.get(address).copied()) {
                Spot::Own(_) => {}
                Spot::Near(interface) | Spot::Routed(interface) => {
                    places.insert((interface, *address, prefix.unwrap_or(host_prefix(*address))));
                }
                Spot::Nowhere => self.unplaced.push(*address),
            }
        }
        self.announcers
            .0
            .retain(|index, a| self.interfaces.iter().any(|i| i.index == *index && i.mac == a.mac()));
        self.announcers.open(&self.interfaces, &places);
        let changed = places != self.places;
        self.places = places;
        if self.held {
            let there: BTreeSet<GuardedAddress> =
                own.iter().map(|o| (o.interface, o.address, o.prefix)).collect();
            if changed || !self.places.is_subset(&there) {
                self.place(guard);
            }
        } else if !self.added.is_empty() {
            self.remove_all();
            guard.drop_all();
        }
    }

    /// Who else answers for addresses that are not on this machine yet, beside the other node.
    pub fn holders(
        &mut self,
        places: &BTreeSet<GuardedAddress>,
        peer: &BTreeSet<[u8; 6]>,
        within: Duration,
    ) -> BTreeMap<IpAddr, [u8; 6]> {
        self.announcers.holders(&self.interfaces, places, peer, within)
    }

    /// Adds some ahead of the rest, noted before they are there: whoever ends in between leaves none that
    /// nobody knows of. Where one cannot be added none is.
    pub fn add(&mut self, places: &BTreeSet<GuardedAddress>) -> Result<(), (IpAddr, std::io::Error)> {
        self.added.extend(places.iter().copied());
        self.note();
        for place in places {
            let (interface, address, prefix) = *place;
            if let Err(error) = self.network.add_address(interface, address, prefix) {
                self.take_back(places);
                return Err((address, error));
            }
            info!(%address, interface, "address added");
        }
        self.changed_at = Instant::now();
        Ok(())
    }

    pub fn take_back(&mut self, places: &BTreeSet<GuardedAddress>) {
        for place in places {
            let _ = self.network.remove_address(place.0, place.1, place.2);
            self.added.remove(place);
        }
        self.note();
        self.changed_at = Instant::now();
    }

    /// Those on interfaces now, of this program.
    pub fn added(&self) -> &BTreeSet<GuardedAddress> {
        &self.added
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
            self.announcers.0.get_mut(&interface)?.ask(some, ASK)
        })
    }

    /// Adds the addresses and says so.
    pub fn take(&mut self, guard: &mut Guard) {
        self.held = true;
        self.place(guard);
    }

    fn place(&mut self, guard: &mut Guard) {
        let gone = self.added.difference(&self.places).filter(|p| !self.in_use.contains(&p.1));
        let gone: Vec<GuardedAddress> = gone.copied().collect();
        for (interface, address, prefix) in gone {
            let _ = self.network.remove_address(interface, address, prefix);
            self.added.remove(&(interface, address, prefix));
            info!(%address, interface, "address removed");
        }
        guard.drop_all();
        for place in self.places.clone() {
            let (interface, address, prefix) = place;
            guard.hold(place);
            // One that a pair had before is there for a few seconds more: it is said again, for ever.
            let life = if self.lent.is_some() { LIFE } else { Duration::MAX };
            if let Err(error) = self.network.lend_address(interface, address, prefix, life) {
                warn!(%address, interface, %error, "the address cannot be added");
            }
        }
        self.announce_repeatedly();
        self.added.extend(self.places.iter().copied());
        if let Some(lent) = &self.lent {
            lent.hold(&self.added);
        }
        self.note();
        self.changed_at = Instant::now();
    }

    /// Says where the addresses are now, and goes on for a minute: others may have learnt another
    /// place meanwhile, or still hear of one.
    fn announce_repeatedly(&mut self) {
        self.announcements.begin(self.now());
        self.announce_when_due();
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// What the election says may be a reason to say it again.
    pub fn on_event(&mut self, event: &Event) {
        self.announcements.on_event(event, self.now());
    }

    pub fn set_doubts(&mut self, doubts: bool) {
        self.announcements.set_doubts(doubts, self.now());
    }

    /// Removes the addresses, at once.
    pub fn give(&mut self, guard: &mut Guard) {
        self.held = false;
        self.announcements.end();
        self.remove_all();
        guard.drop_all();
    }

    fn remove_all(&mut self) {
        self.lent.iter().for_each(|lent| lent.give());
        for (interface, address, prefix) in std::mem::take(&mut self.added) {
            let _ = self.network.remove_address(interface, address, prefix);
        }
        self.changed_at = Instant::now();
        self.note();
    }

    fn note(&self) {
        match &self.notes {
            Some(notes) => drop(notes.send(self.added.clone())),
            None if self.added.is_empty() => drop(std::fs::remove_file(&self.file)),
            None => write_note(&self.file, &self.added),
        }
    }

    fn announce(&mut self) {
        for (interface, address, _) in &self.places {
            if let Some(announcer) = self.announcers.0.get_mut(interface) {
                let _ = announcer.announce(*address);
            }
        }
        self.announced_at = Some(Instant::now());
    }

    pub fn announce_when_due(&mut self) {
        if self.held && self.announcements.poll(self.now()) {
            self.announce();
        }
    }

    /// The addresses stay: another process of this node has them now.
    pub fn leave(&mut self) {
        self.lent.iter().for_each(|lent| lent.leave());
        self.held = false;
        self.announcements.end();
        self.added.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_has_added_is_not_taken_for_ours() {
        let place = |n: u8| (1, IpAddr::from([192, 0, 2, n]), 32);
        let own = |n: u8, ours: bool, marked: bool| OwnAddress {
            interface: 1,
            address: [192, 0, 2, n].into(),
            prefix: 32,
            ours,
            marked,
            kept: false,
        };
        let noted: BTreeSet<GuardedAddress> = (1..=3).map(place).collect();
        let mut added = noted.clone();
        without_foreign(&mut added, &[own(1, true, true), own(2, false, true)]);
        assert_eq!(added, BTreeSet::from([place(1), place(3)]), "the second is somebody else's now");
        // An old kernel says nothing of any: the note is what there is.
        let mut added = noted.clone();
        without_foreign(&mut added, &[own(1, false, false), own(2, false, false)]);
        assert_eq!(added, noted);
    }
}
