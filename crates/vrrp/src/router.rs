//! The election of RFC 9568 beside routers of other makes, for several virtual routers that stand
//! and fall together (a sync group).

use std::net::IpAddr;

use crate::Millis;
use crate::advert::{Advert, Version};
use crate::beat::Role;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSettings {
    pub version: Version,
    pub router_id: u8,
    pub priority: u8,
    pub interval_ms: u32,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nobody of higher rank has been heard for the time that RFC 9568 §6.1 computes.
    MasterSilent,
    /// A router of higher rank is there.
    Outranked,
    Told,
}

/// Virtual routers of one node with one role.
pub struct Group {
    routers: Vec<Router>,
    role: Role,
    role_since: Millis,
    /// A router of lower priority gives way.
    preempt: bool,
    trouble: u16,
    /// Stays in the background until told otherwise.
    held: bool,
    changes: Vec<(Role, Change)>,
    to_send: Vec<(usize, Advert)>,
}

struct Router {
    settings: RouterSettings,
    /// That of the master, as it says.
    master_interval_ms: u32,
    down_at: Millis,
    send_at: Millis,
    heard: Option<(IpAddr, u8, Millis)>,
}

impl Router {
    /// RFC 9568 §6.1, RFC 3768 §6.1.
    fn skew_ms(&self, priority: u8) -> Millis {
        let span = match self.settings.version {
            Version::V2 => 1000,
            Version::V3 => Millis::from(self.master_interval_ms),
        };
        (256 - Millis::from(priority)) * span / 256
    }

    fn rest(&mut self, priority: u8, now: Millis) {
        self.down_at = now + 3 * Millis::from(self.master_interval_ms) + self.skew_ms(priority);
    }
}

impl Group {
    pub fn new(routers: Vec<RouterSettings>, preempt: bool, now: Millis) -> Group {
        let routers = routers.into_iter().map(|settings| Router {
            master_interval_ms: settings.interval_ms,
            down_at: 0,
            send_at: now,
            heard: None,
            settings,
        });
        let mut group = Group {
            routers: routers.collect(),
            role: Role::Passive,
            role_since: now,
            preempt,
            trouble: 0,
            held: false,
            changes: Vec::new(),
            to_send: Vec::new(),
        };
        for at in 0..group.routers.len() {
            let priority = group.priority(at);
            group.routers[at].rest(priority, now);
        }
        group
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn role_since(&self) -> Millis {
        self.role_since
    }

    /// Who was heard last on a router, its priority, and when.
    pub fn heard(&self, router: usize) -> Option<(IpAddr, u8, Millis)> {
        self.routers.get(router)?.heard
    }

    pub fn take_changes(&mut self) -> Vec<(Role, Change)> {
        std::mem::take(&mut self.changes)
    }

    /// Messages to send, with the number of their router.
    pub fn take_messages(&mut self) -> Vec<(usize, Advert)> {
        std::mem::take(&mut self.to_send)
    }

    pub fn set_trouble(&mut self, trouble: u16) {
        self.trouble = trouble;
    }

    /// RFC 9568 keeps 255 for the owner of the addresses, and 0 for giving up.
    fn priority(&self, router: usize) -> u8 {
        let configured = u16::from(self.routers[router].settings.priority);
        configured.saturating_sub(self.trouble).clamp(1, 254) as u8
    }

    pub fn priority_of(&self, router: usize) -> u8 {
        if router < self.routers.len() { self.priority(router) } else { 0 }
    }

    /// What the adverts of a router name.
    pub fn set_addresses(&mut self, router: usize, addresses: Vec<IpAddr>) {
        if let Some(place) = self.routers.get_mut(router) {
            place.settings.addresses = addresses;
        }
    }

    pub fn receive(&mut self, router: usize, advert: &Advert, from: IpAddr, own: IpAddr, now: Millis) {
        if router >= self.routers.len() {
            return;
        }
        let priority = self.priority(router);
        let place = &mut self.routers[router];
        if advert.router_id != place.settings.router_id || advert.version != place.settings.version {
            return;
        }
        place.heard = Some((from, advert.priority, now));
        match self.role {
            Role::Active => {
                if advert.priority == 0 {
                    self.send(router, priority, now);
                } else if (advert.priority, from) > (priority, own) {
                    self.give_up(Change::Outranked, Some(router), now);
                    self.back_up(router, advert, now);
                } else {
                    // RFC 9568 §6.4.3: the sender learns at once who is active.
                    self.send(router, priority, now);
                }
            }
            _ if advert.priority == 0 => place.down_at = now + place.skew_ms(priority),
            _ if !self.preempt || self.held || advert.priority >= priority => {
                self.back_up(router, advert, now);
            }
            _ => {}
        }
    }

    fn back_up(&mut self, router: usize, advert: &Advert, now: Millis) {
        let priority = self.priority(router);
        let place = &mut self.routers[router];
        if place.settings.version == Version::V3 {
            place.master_interval_ms = advert.interval_ms.max(10);
        }
        place.rest(priority, now);
    }

    pub fn tick(&mut self, now: Millis) {
        match self.role {
            Role::Active => {
                for router in 0..self.routers.len() {
                    if self.routers[router].send_at <= now {
                        self.send(router, self.priority(router), now);
                    }
                }
            }
            _ => {
                let silent = !self.routers.is_empty() && self.routers.iter().all(|r| r.down_at <= now);
                if silent && !self.held {
                    self.become_active(Change::MasterSilent, now);
                }
            }
        }
    }

    /// Gives the role up; another router takes it.
    pub fn resign(&mut self, now: Millis) {
        if self.role == Role::Active {
            self.give_up(Change::Told, None, now);
        }
    }

    pub fn hold(&mut self, held: bool, now: Millis) {
        self.held = held;
        if held {
            self.resign(now);
        }
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    fn become_active(&mut self, why: Change, now: Millis) {
        (self.role, self.role_since) = (Role::Active, now);
        self.changes.push((Role::Active, why));
        for router in 0..self.routers.len() {
            self.routers[router].master_interval_ms = self.routers[router].settings.interval_ms;
            self.send(router, self.priority(router), now);
        }
    }

    /// The whole group goes; where nobody outranked it, that is said.
    fn give_up(&mut self, why: Change, outranked: Option<usize>, now: Millis) {
        (self.role, self.role_since) = (Role::Passive, now);
        self.changes.push((Role::Passive, why));
        for router in 0..self.routers.len() {
            if outranked != Some(router) {
                self.send(router, 0, now);
            }
            let priority = self.priority(router);
            self.routers[router].rest(priority, now);
        }
    }

    fn send(&mut self, router: usize, priority: u8, now: Millis) {
        let place = &mut self.routers[router];
        let settings = &place.settings;
        place.send_at = now + Millis::from(settings.interval_ms);
        let advert = Advert {
            version: settings.version,
            router_id: settings.router_id,
            priority,
            interval_ms: settings.interval_ms,
            addresses: settings.addresses.clone(),
        };
        self.to_send.push((router, advert));
    }

    pub fn next_at(&self, now: Millis) -> Millis {
        let each = self.routers.iter();
        let next = match self.role {
            Role::Active => each.map(|r| r.send_at).min(),
            // The last of them decides.
            _ => each.map(|r| r.down_at).max(),
        };
        next.unwrap_or(now + 1000).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(router_id: u8, priority: u8, interval_ms: u32) -> RouterSettings {
        RouterSettings { version: Version::V3, router_id, priority, interval_ms, addresses: Vec::new() }
    }

    fn advert(router_id: u8, priority: u8, interval_ms: u32) -> Advert {
        Advert { version: Version::V3, router_id, priority, interval_ms, addresses: Vec::new() }
    }

    fn own() -> IpAddr {
        "10.0.0.1".parse().unwrap()
    }

    fn other() -> IpAddr {
        "10.0.0.2".parse().unwrap()
    }

    #[test]
    fn silence_makes_active_after_three_intervals_and_the_skew() {
        let mut group = Group::new(vec![settings(1, 156, 100)], true, 0);
        group.tick(338);
        assert_eq!(group.role(), Role::Passive);
        group.tick(339);
        assert_eq!(group.role(), Role::Active);
        assert_eq!(group.take_messages().len(), 1);
        group.tick(400);
        assert!(group.take_messages().is_empty());
        group.tick(439);
        assert_eq!(group.take_messages().len(), 1);
    }

    #[test]
    fn the_higher_rank_wins() {
        let mut group = Group::new(vec![settings(1, 100, 100)], true, 0);
        group.receive(0, &advert(1, 100, 200), other(), own(), 100);
        group.tick(700);
        assert_eq!(group.role(), Role::Passive, "the master's own interval counts");
        group.receive(0, &advert(1, 0, 200), other(), own(), 701);
        group.tick(701 + 120);
        assert_eq!(group.role(), Role::Passive);
        group.tick(701 + 121);
        assert_eq!(group.role(), Role::Active, "given up: only the skew is waited for");
        group.take_messages();
        group.receive(0, &advert(1, 90, 100), other(), own(), 900);
        assert_eq!((group.role(), group.take_messages().len()), (Role::Active, 1));
        group.receive(0, &advert(2, 255, 100), other(), own(), 900);
        assert_eq!(group.role(), Role::Active, "another router's business");
        group.receive(0, &advert(1, 100, 100), other(), own(), 900);
        assert_eq!(group.role(), Role::Passive, "the higher address of two alike");
    }

    #[test]
    fn without_preemption_a_lower_one_stays() {
        let mut group = Group::new(vec![settings(1, 200, 100)], false, 0);
        for at in 1..50 {
            group.receive(0, &advert(1, 50, 100), other(), own(), at * 100);
            group.tick(at * 100 + 50);
        }
        assert_eq!(group.role(), Role::Passive);
    }

    #[test]
    fn a_group_stands_and_falls_together() {
        let mut group = Group::new(vec![settings(1, 100, 100), settings(2, 100, 100)], true, 0);
        for at in 1..20 {
            group.receive(1, &advert(2, 200, 100), other(), own(), at * 100);
            group.tick(at * 100 + 50);
        }
        assert_eq!(group.role(), Role::Passive, "the second one's master lives");
        group.tick(5_000);
        assert_eq!(group.role(), Role::Active);
        group.take_messages();
        group.receive(1, &advert(2, 200, 100), other(), own(), 5_010);
        assert_eq!(group.role(), Role::Passive);
        let sent = group.take_messages();
        assert_eq!(sent.iter().map(|(r, a)| (*r, a.priority)).collect::<Vec<_>>(), [(0, 0)]);
    }

    #[test]
    fn trouble_lowers_the_priority() {
        let mut group = Group::new(vec![settings(1, 150, 100)], true, 0);
        group.tick(1_000);
        group.set_trouble(100);
        assert_eq!(group.priority_of(0), 50);
        group.receive(0, &advert(1, 100, 100), other(), own(), 1_010);
        assert_eq!(group.role(), Role::Passive);
        group.set_trouble(1_000);
        assert_eq!(group.priority_of(0), 1);
    }
}
