//! When an active node says where the addresses are (gratuitous ARP, neighbour adverts).
//!
//! In: that the node has the addresses, what the election says, the paths. Out: whether to say it now.

use crate::Millis;
use crate::beat::Role;
use crate::election::{Event, Why};

/// After a takeover, and whenever others may have heard the other node last, it is said again at these times, then
/// every [`EVERY`]: a switch or a router may have missed the first.
pub const AGAIN_MS: [Millis; 13] =
    [50, 150, 400, 1_000, 2_000, 4_000, 7_000, 10_000, 15_000, 20_000, 30_000, 45_000, 60_000];
pub const EVERY: Millis = 60_000;
/// While the other node is not heard it may have taken over behind a cut and died there, which nobody tells: it is said
/// so often for a minute, and then more seldom.
pub const WHILE_SILENT: Millis = 1_000;
pub const LONG_SILENT: Millis = 10_000;

#[derive(Clone, Debug, Default)]
pub struct Announcements {
    held: bool,
    /// The next one last.
    due: Vec<Millis>,
    said_at: Millis,
    doubted: bool,
    /// The other node has not been heard since.
    silent_since: Option<Millis>,
}

impl Announcements {
    /// The addresses are here from now on, or somebody may take them to be elsewhere: it is said at once, and goes
    /// on for a minute.
    pub fn begin(&mut self, now: Millis) {
        self.held = true;
        self.due.clear();
        self.due.extend(AGAIN_MS.iter().rev().map(|ms| now + ms));
        self.due.push(now);
    }

    /// The addresses are not here any more.
    pub fn end(&mut self) {
        self.held = false;
        self.due.clear();
    }

    /// The other node may have been active too, and others may have learnt its place: whatever the order in which
    /// that becomes known, the one that stays active says where the addresses are.
    pub fn on_event(&mut self, event: &Event, now: Millis) {
        let met = matches!(
            event,
            Event::PeerFound | Event::SplitBrain | Event::SplitBrainOver | Event::PeerWasActive
        );
        if met && self.held {
            self.begin(now);
        }
        match event {
            Event::PeerLost | Event::Became(Role::Active, Why::PeerSilent) => {
                self.silent_since.get_or_insert(now);
            }
            Event::PeerFound => self.silent_since = None,
            _ => {}
        }
    }

    /// Whether a path was silent while another was not: what was said meanwhile was not heard behind it.
    pub fn set_doubts(&mut self, doubts: bool, now: Millis) {
        let over = std::mem::replace(&mut self.doubted, doubts) && !doubts;
        if over && self.held {
            self.begin(now);
        }
    }

    /// Whether it is to be said now.
    pub fn poll(&mut self, now: Millis) -> bool {
        let is_due = self.due.last().is_some_and(|at| now >= *at);
        let every = match self.silent_since {
            Some(since) if now < since + EVERY => WHILE_SILENT,
            Some(_) => LONG_SILENT,
            None => EVERY,
        };
        if !self.held || !(is_due || now >= self.said_at + every) {
            return false;
        }
        if is_due {
            self.due.pop();
        }
        self.said_at = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(announcements: &mut Announcements, from: Millis, until: Millis) -> Vec<Millis> {
        (from..=until).filter(|now| announcements.poll(*now)).collect()
    }

    #[test]
    fn they_go_on_for_a_minute_spaced_out_and_then_every_minute() {
        let mut announcements = Announcements::default();
        assert_eq!(times(&mut announcements, 0, 100_000), [], "the addresses are not here");
        announcements.begin(100_000);
        let said = times(&mut announcements, 100_000, 300_000);
        assert_eq!(said[0], 100_000, "at once");
        assert_eq!(said[13], 160_000);
        assert_eq!(said[14..], [220_000, 280_000]);
        assert!(said.windows(2).take(13).all(|two| two[1] - two[0] <= 15_000), "{said:?}");
        announcements.end();
        assert_eq!(times(&mut announcements, 300_000, 400_000), []);
    }

    #[test]
    fn they_begin_anew_when_others_may_have_heard_somebody_else() {
        for event in [Event::PeerFound, Event::SplitBrain, Event::SplitBrainOver, Event::PeerWasActive] {
            let mut announcements = Announcements::default();
            announcements.on_event(&event, 0);
            assert_eq!(times(&mut announcements, 0, 1_000), [], "{event:?}: they are not here");
            announcements.begin(0);
            let _ = times(&mut announcements, 0, 200_000);
            announcements.on_event(&event, 200_001);
            assert_eq!(times(&mut announcements, 200_001, 200_500).len(), 4, "{event:?}");
        }
        let mut announcements = Announcements::default();
        announcements.begin(0);
        let _ = times(&mut announcements, 0, 200_000);
        announcements.on_event(&Event::PeerLost, 200_001);
        assert_eq!(times(&mut announcements, 200_001, 260_000).len(), 60, "it may be active behind a cut");
        assert_eq!(times(&mut announcements, 260_001, 360_000).len(), 10, "and for hours");
        announcements.on_event(&Event::PeerFound, 360_001);
        let _ = times(&mut announcements, 360_001, 421_000);
        assert_eq!(times(&mut announcements, 421_000, 480_000), [], "it is heard");
        let mut announcements = Announcements::default();
        announcements.begin(0);
        let _ = times(&mut announcements, 0, 10_500);
        announcements.set_doubts(true, 10_500);
        assert_eq!(times(&mut announcements, 10_500, 12_000), []);
        announcements.set_doubts(false, 12_000);
        assert_eq!(times(&mut announcements, 12_000, 12_500).len(), 4, "the path is back");
    }
}
