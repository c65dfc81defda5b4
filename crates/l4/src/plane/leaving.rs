//! Real servers and services that are no longer configured: what they have goes on, nothing new comes to them.
//!
//! In: what is gone from the configuration. Out: destinations that take no new flow, until their last one has ended.
//! Never: a decision about what is configured.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use super::{Plane, PlaneError, hop_of};
use crate::shared::*;
use crate::spec::ServiceSpec;

impl Plane {
    /// Servers that are no longer configured and have flows to finish.
    pub fn finishing(&self) -> impl Iterator<Item = IpAddr> {
        self.book.leaving().map(|(_, note)| note.address.ip())
    }

    /// Servers of a service that are configured no more keep or cut what they have.
    pub(super) fn leave(&mut self, service: &str, present: &HashSet<u32>) -> Result<(), PlaneError> {
        let gone = self.leaving(service, present, self.services.get(service));
        self.retire_each(gone)
    }

    /// Of a service those that are not present and have not left before, and whether they keep what they have.
    fn leaving(&self, service: &str, present: &HashSet<u32>, spec: Option<&ServiceSpec>) -> Vec<(u32, bool)> {
        let keeps = |name: &str| {
            let server = spec.and_then(|spec| spec.servers.iter().find(|s| s.name == name));
            server.is_none_or(|server| server.keep_when_removed)
        };
        let notes = self.book.destinations.iter();
        notes
            .filter(|(number, n)| n.service == service && !n.leaving && !present.contains(number))
            .map(|(number, n)| (*number, keeps(&n.name)))
            .collect()
    }

    fn retire_each(&mut self, gone: Vec<(u32, bool)>) -> Result<(), PlaneError> {
        gone.into_iter().try_for_each(|(number, keeps)| self.retire(number, keeps))
    }

    /// What it has goes on as it did, or ends; nothing new comes.
    fn retire(&mut self, number: u32, keeps: bool) -> Result<(), PlaneError> {
        if let Some(written) = self.written.destinations.get_mut(&number) {
            let has = TAKES_EXISTING | TAKES_PERSISTENT | RESETS_EXISTING;
            written.takes = if keeps { written.takes & has as u16 } else { RESETS_EXISTING as u16 };
            self.maps.destinations.write(number, written)?;
        }
        self.book.leave(number);
        self.unsaved = true;
        Ok(())
    }

    /// A service that is gone: its VIPs are no longer answered for. Its flows finish, but for those of servers that keep
    /// none when they are removed, as when a single server goes.
    pub(super) fn remove_service(
        &mut self,
        name: &str,
        before: Option<&ServiceSpec>,
    ) -> Result<(), PlaneError> {
        self.retire_each(self.leaving(name, &HashSet::new(), before))?;
        self.departed.remove(name);
        if let Some(note) = self.book.services.remove(name) {
            self.unsaved = true;
            self.cooling.extend([note.ring, note.hash].map(|e| (Instant::now(), e)));
            self.written.services.remove(&note.number);
            self.written.tables.remove(&note.number);
        }
        Ok(())
    }

    /// Servers that only finish their flows may move to another MAC or interface, too.
    pub(super) fn follow_finishing(&mut self) -> Result<(), PlaneError> {
        for (number, note) in self.book.leaving() {
            let hop = self.hops.get(&note.address.ip()).map(|h| (hop_of(h), h.mtu));
            let (Some((next_hop, mtu)), Some(written)) = (hop, self.written.destinations.get_mut(&number))
            else {
                continue;
            };
            if (written.next_hop, written.mtu) != (next_hop, mtu) {
                (written.next_hop, written.mtu) = (next_hop, mtu);
                self.maps.destinations.write(number, written)?;
            }
        }
        Ok(())
    }
}
