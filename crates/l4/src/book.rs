//! Which numbers the packet path knows things by. Kept on disk, so that the next process reads the
//! tables of this one as they were meant.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::shared::{MAX_DESTINATIONS, MAX_SERVICES, MAX_SLOT_LINES, MAX_SOURCES, SLOTS_A_LINE};

/// A stretch of the table of slots, in whole lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub at: u32,
    pub length: u32,
}

impl Extent {
    fn lines(self) -> u32 {
        self.length.div_ceil(SLOTS_A_LINE)
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Book {
    /// The secret of the tables that this is about.
    pub seed: u64,
    pub services: BTreeMap<String, ServiceNote>,
    pub destinations: BTreeMap<u32, DestinationNote>,
    pub sources: Vec<IpAddr>,
    /// Numbers of destinations by what they are.
    #[serde(skip)]
    index: HashMap<(String, String, SocketAddr), u32>,
    /// Numbers of those that are leaving.
    #[serde(skip)]
    leaving: BTreeSet<u32>,
    /// Where the next free number and the next free slots are likely.
    #[serde(skip)]
    next_service: u32,
    #[serde(skip)]
    next_destination: u32,
    #[serde(skip)]
    next_line: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServiceNote {
    pub number: u32,
    pub ring: Extent,
    pub hash: Extent,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct DestinationNote {
    pub service: String,
    pub name: String,
    pub address: SocketAddr,
    /// How its packets are forwarded; 0 where an earlier version did not note it.
    #[serde(default)]
    pub mode: u8,
    /// No longer configured: there until its last flow has ended.
    pub leaving: bool,
    /// The number that it had in another mode.
    #[serde(default)]
    pub before: Option<u32>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Full {
    #[error("layer 4 holds {MAX_SERVICES} services at most")]
    Services,
    #[error("layer 4 holds {MAX_DESTINATIONS} real servers at most")]
    Destinations,
    #[error("the tables of the schedulers are full: too many real servers in layer 4")]
    Slots,
    #[error("layer 4 holds {MAX_SOURCES} source addresses at most")]
    Sources,
}

impl Book {
    pub fn new(seed: u64) -> Book {
        Book { seed, ..Book::default() }
    }

    pub fn read(text: &[u8]) -> Option<Book> {
        let mut book: Book = serde_json::from_slice(text).ok()?;
        let key = |n: &DestinationNote| (n.service.clone(), n.name.clone(), n.address);
        book.leaving =
            book.destinations.iter().filter(|(_, n)| n.leaving).map(|(number, _)| *number).collect();
        // Those that are configured have the last word.
        let (leaving, present): (Vec<_>, Vec<_>) = book.destinations.iter().partition(|(_, n)| n.leaving);
        book.index = leaving.into_iter().chain(present).map(|(number, n)| (key(n), *number)).collect();
        // Behind everything that is in use.
        let extents = book.services.values().flat_map(|n| [n.ring, n.hash]);
        book.next_line = extents.map(|e| e.at / SLOTS_A_LINE + e.lines()).max().unwrap_or(0);
        Some(book)
    }

    pub fn text(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    pub fn service(&mut self, name: &str) -> Result<u32, Full> {
        if let Some(note) = self.services.get(name) {
            return Ok(note.number);
        }
        let used: HashSet<u32> = match self.services.len() as u32 == self.next_service {
            // Nothing was ever given back.
            true => HashSet::new(),
            false => self.services.values().map(|n| n.number).collect(),
        };
        let mut numbers = (self.next_service..MAX_SERVICES).chain(0..self.next_service);
        let number = numbers.find(|n| !used.contains(n)).ok_or(Full::Services)?;
        self.next_service = number + 1;
        self.services.insert(name.into(), ServiceNote { number, ..ServiceNote::default() });
        Ok(number)
    }

    /// The number of a real server of a service, and whether it is a new one. In another mode it is another, for the
    /// flows of the one before go on as they began.
    pub fn destination(
        &mut self,
        service: &str,
        name: &str,
        address: SocketAddr,
        mode: u8,
    ) -> Result<(u32, bool), Full> {
        let key = (service.to_owned(), name.to_owned(), address);
        let before = self.index.get(&key).copied();
        if let Some(number) = before
            && let Some(note) = self.destinations.get_mut(&number)
            && [0, mode].contains(&note.mode)
        {
            (note.mode, note.leaving) = (mode, false);
            self.leaving.remove(&number);
            return Ok((number, false));
        }
        let mut numbers = (self.next_destination..MAX_DESTINATIONS).chain(0..self.next_destination);
        let number = numbers.find(|n| !self.destinations.contains_key(n)).ok_or(Full::Destinations)?;
        self.next_destination = number + 1;
        let note = DestinationNote {
            service: service.into(),
            name: name.into(),
            address,
            mode,
            leaving: false,
            before,
        };
        self.destinations.insert(number, note);
        self.index.insert(key, number);
        Ok((number, true))
    }

    /// The number of a known real server.
    pub fn find(&self, service: &str, name: &str, address: SocketAddr) -> Option<u32> {
        self.index.get(&(service.to_owned(), name.to_owned(), address)).copied()
    }

    /// It is no longer configured.
    pub fn leave(&mut self, number: u32) {
        if let Some(note) = self.destinations.get_mut(&number) {
            note.leaving = true;
            self.leaving.insert(number);
        }
    }

    pub fn leaving(&self) -> impl Iterator<Item = (u32, &DestinationNote)> {
        self.leaving.iter().filter_map(|number| Some((*number, self.destinations.get(number)?)))
    }

    /// The number of the same server in the mode that it has now.
    pub fn after(&self, number: u32) -> Option<u32> {
        let note = self.destinations.get(&number)?;
        let now = self.find(&note.service, &note.name, note.address)?;
        (now != number).then_some(now)
    }

    pub fn forget_destination(&mut self, number: u32) {
        self.leaving.remove(&number);
        let Some(note) = self.destinations.remove(&number) else { return };
        let key = (note.service, note.name, note.address);
        if self.index.get(&key) == Some(&number) {
            self.index.remove(&key);
        }
        for other in self.destinations.values_mut().filter(|other| other.before == Some(number)) {
            other.before = note.before;
        }
    }

    /// Numbers of addresses that stand beside each other, in this order.
    pub fn sources(&mut self, wanted: &[IpAddr]) -> Result<u32, Full> {
        let known = self.sources.windows(wanted.len().max(1)).position(|w| w == wanted);
        let at = known.unwrap_or(self.sources.len());
        if known.is_none() {
            // What is refused takes no room: others go on using theirs.
            if self.sources.len() + wanted.len() > MAX_SOURCES as usize {
                return Err(Full::Sources);
            }
            self.sources.extend(wanted);
        }
        Ok(at as u32)
    }

    /// A stretch of slots that nothing uses, not even what was given back just now.
    pub fn room(&mut self, length: u32, cooling: &[Extent]) -> Result<Extent, Full> {
        let wanted = Extent { at: 0, length };
        if self.next_line + wanted.lines() <= MAX_SLOT_LINES {
            let line = self.next_line;
            self.next_line += wanted.lines();
            return Ok(Extent { at: line * SLOTS_A_LINE, length });
        }
        // The end is reached: what lies between the others.
        let used = self.services.values().flat_map(|n| [n.ring, n.hash]);
        let mut used: Vec<Extent> = used.chain(cooling.iter().copied()).filter(|e| e.length > 0).collect();
        used.sort_unstable_by_key(|e| e.at);
        let mut line = 0;
        for extent in used {
            if extent.at / SLOTS_A_LINE >= line + wanted.lines() {
                break;
            }
            line = line.max(extent.at / SLOTS_A_LINE + extent.lines());
        }
        match line + wanted.lines() > MAX_SLOT_LINES {
            true => Err(Full::Slots),
            false => Ok(Extent { at: line * SLOTS_A_LINE, length }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_used_again() {
        let mut book = Book::default();
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        assert_eq!(book.service("a"), Ok(0));
        assert_eq!(book.service("b"), Ok(1));
        book.services.remove("a");
        assert_eq!(book.service("c"), Ok(2), "a number is used again late");
        assert_eq!(book.destination("c", "s", address, 1), Ok((0, true)));
        assert_eq!(book.destination("b", "s", address, 1), Ok((1, true)));
        assert_eq!(book.destination("c", "s", address, 1), Ok((0, false)));
        // In another mode beside what it was, whose end leaves it alone.
        assert_eq!(book.destination("c", "s", address, 2), Ok((2, true)));
        book.forget_destination(0);
        assert_eq!(book.find("c", "s", address), Some(2));
        let read = Book::read(&book.text()).unwrap();
        assert_eq!(read.destinations, book.destinations);
    }

    #[test]
    fn sources_that_are_refused_take_no_room() {
        let mut book = Book::default();
        let addresses = |n: u32| -> Vec<IpAddr> {
            (0..n).map(|i| std::net::Ipv4Addr::from(0x0a00_0000 + i).into()).collect()
        };
        assert_eq!(book.sources(&addresses(2)), Ok(0));
        assert_eq!(book.sources(&addresses(MAX_SOURCES + 1)), Err(Full::Sources));
        assert_eq!(book.sources(&addresses(2)), Ok(0));
        assert_eq!(book.sources(&addresses(1)), Ok(0));
    }

    #[test]
    fn room_is_at_the_end_and_then_between_what_is_used() {
        let mut book = Book::default();
        book.service("a").unwrap();
        assert_eq!(book.room(20, &[]).unwrap(), Extent { at: 0, length: 20 });
        assert_eq!(book.room(16, &[]).unwrap().at, 32);
        let note = book.services.get_mut("a").unwrap();
        note.ring = Extent { at: 0, length: 20 };
        note.hash = Extent { at: 64, length: 16 };
        let mut book = Book::read(&book.text()).unwrap();
        assert_eq!(book.room(16, &[]).unwrap().at, 80, "behind what is in use");
        book.room((MAX_SLOT_LINES - 6) * SLOTS_A_LINE, &[]).unwrap();
        assert_eq!(book.room(32, &[]).unwrap().at, 32);
        assert_eq!(book.room(33, &[]).unwrap().at, 80);
        assert_eq!(book.room(16, &[Extent { at: 32, length: 32 }]).unwrap().at, 80);
        assert_eq!(book.room(MAX_SLOT_LINES * SLOTS_A_LINE, &[]), Err(Full::Slots));
    }
}
