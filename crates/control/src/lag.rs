//! What the standby lacks: both nodes of a pair tell how much they remember of clients, the active one
//! compares, and people are told when the other node stays behind.

use std::time::{Duration, Instant};

use evenkeel_api::PairKnowledge;
use tracing::warn;

use super::control::Control;
use super::pair::{Say, Tables};

/// How often a node tells.
const EVERY: Duration = Duration::from_secs(2);
/// So long the other node may lack more than a fifth before people are told.
const PATIENCE: Duration = Duration::from_secs(30);
/// So few are on their way at any time.
const FEW: u64 = 20;

#[derive(Default)]
pub struct Knowledge {
    there: Option<PairKnowledge>,
    tell_at: Option<Instant>,
    lacks_since: Option<Instant>,
    is_told: bool,
}

/// What changed for people.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Lacks,
    HasAll,
}

impl Knowledge {
    pub fn there(&self) -> Option<PairKnowledge> {
        self.there
    }

    /// The link is down: what it knows is not known.
    pub fn forget(&mut self) {
        *self = Knowledge { is_told: self.is_told, ..Knowledge::default() };
    }

    fn update(&mut self, here: PairKnowledge, now: Instant) -> Option<Turn> {
        let there = self.there?;
        let lacks = |here: u64, there: u64| here > FEW && there < here - here / 5;
        if !(lacks(here.flows, there.flows) || lacks(here.entries, there.entries)) {
            self.lacks_since = None;
            return std::mem::take(&mut self.is_told).then_some(Turn::HasAll);
        }
        let since = *self.lacks_since.get_or_insert(now);
        let is_new = now - since >= PATIENCE && !self.is_told;
        self.is_told |= is_new;
        is_new.then_some(Turn::Lacks)
    }
}

impl Control {
    pub(super) fn knows(&self) -> PairKnowledge {
        PairKnowledge {
            flows: self.layer4().plane().map_or(0, |plane| plane.flow_count().0),
            entries: self.sync().tables.as_deref().map_or(0, Tables::count) as u64,
        }
    }

    pub(super) fn peer_knows(&mut self, knows: PairKnowledge) {
        self.sync_mut().knowledge.there = Some(knows);
    }

    pub(super) fn tick_knowledge(&mut self, now: Instant) {
        if self.link_up().is_none() || self.sync().knowledge.tell_at.is_some_and(|at| now < at) {
            return;
        }
        let here = self.knows();
        self.say(&Say::Knows { knows: here });
        let is_active = self.is_active_node();
        let knowledge = &mut self.sync_mut().knowledge;
        knowledge.tell_at = Some(now + EVERY);
        let there = knowledge.there.unwrap_or_default();
        let turn = if is_active { knowledge.update(here, now) } else { None };
        let node = self.node_name();
        match turn {
            None => {}
            Some(Turn::Lacks) => {
                let text = format!(
                    "the other node of the pair knows {} of {} flows and {} of {} entries of clients: a takeover now would cut connections",
                    there.flows, here.flows, there.entries, here.entries
                );
                warn!("{text}");
                self.happen("role", "warning", &node, text);
            }
            Some(Turn::HasAll) => {
                let text = "the other node of the pair knows of all clients again".into();
                self.happen("role", "good", &node, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_once_when_the_other_node_stays_behind_and_once_when_it_is_not() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let flows = |flows: u64| PairKnowledge { flows, entries: 0 };
        let mut knowledge = Knowledge::default();
        assert_eq!(knowledge.update(flows(1_000), at(0)), None, "it has told nothing");
        knowledge.there = Some(flows(0));
        assert_eq!(knowledge.update(flows(FEW), at(100)), None, "few");
        assert_eq!(knowledge.update(flows(1_000), at(200)), None);
        assert_eq!(knowledge.update(flows(1_000), at(229)), None);
        assert_eq!(knowledge.update(flows(1_000), at(230)), Some(Turn::Lacks));
        assert_eq!(knowledge.update(flows(1_000), at(300)), None, "once");
        knowledge.there = Some(flows(900));
        assert_eq!(knowledge.update(flows(1_000), at(301)), Some(Turn::HasAll));
        assert_eq!(knowledge.update(flows(1_000), at(302)), None);
        knowledge.there = Some(PairKnowledge { flows: 1_000, entries: 0 });
        let here = PairKnowledge { flows: 1_000, entries: 100 };
        assert_eq!(knowledge.update(here, at(400)), None);
        knowledge.there = Some(here);
        assert_eq!(knowledge.update(here, at(440)), None, "it had them in time");
    }
}
