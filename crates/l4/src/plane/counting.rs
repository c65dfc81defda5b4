//! What the packet path counts of servers and services, over changes of the configuration.
//!
//! In: the kernel's counters by the number of a real server. Out: sums that never go back while a service, or a server
//! of it, is configured. Never: rates, time.

use std::net::SocketAddr;

use super::Plane;
use crate::spec::Counts;

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.active += other.active;
        self.inactive += other.inactive;
        self.flows += other.flows;
        self.packets_in += other.packets_in;
        self.bytes_in += other.bytes_in;
        self.packets_out += other.packets_out;
        self.bytes_out += other.bytes_out;
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(all: I) -> Counts {
        all.fold(Counts::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

impl Plane {
    /// Of a real server of a service, in whatever mode its connections began.
    pub fn counts(&self, service: &str, server: &str, address: SocketAddr) -> Counts {
        let mut all = Counts::default();
        let mut next = self.book.find(service, server, address);
        while let Some(number) = next {
            all += self.counts_of(number);
            next = self.book.destinations.get(&number).and_then(|note| note.before).filter(|n| *n != number);
        }
        all
    }

    /// Of real servers that a service has no longer.
    pub fn counts_of_left(&self, service: &str) -> Counts {
        let leaving = self
            .book
            .leaving()
            .filter(|(number, note)| note.service == service && self.book.after(*number).is_none());
        let departed = self.departed.get(service).copied().unwrap_or_default();
        leaving.map(|(number, _)| self.counts_of(number)).chain([departed]).sum()
    }

    fn counts_of(&self, number: u32) -> Counts {
        let load = self.maps.loads.read(number);
        let mut counts = Counts { active: load.active, inactive: load.inactive, ..Counts::default() };
        for cpu in self.maps.traffics.read(number) {
            counts.flows += cpu.flows;
            counts.packets_in += cpu.packets_in;
            counts.bytes_in += cpu.bytes_in;
            counts.packets_out += cpu.packets_out;
            counts.bytes_out += cpu.bytes_out;
        }
        counts += self.handed_on.get(&number).copied().unwrap_or_default();
        counts
    }

    /// A number is given back: what it counted stays with its server, or with the service that had it.
    pub(super) fn keep_counts(&mut self, number: u32) {
        let counts = self.counts_of(number);
        self.handed_on.remove(&number);
        let Some(note) = self.book.destinations.get(&number) else { return };
        match self.book.after(number) {
            Some(now) => *self.handed_on.entry(now).or_default() += counts,
            None if self.book.services.contains_key(&note.service) => {
                *self.departed.entry(note.service.clone()).or_default() += counts;
            }
            None => {}
        }
    }
}
