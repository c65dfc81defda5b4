//! Measures how late the peer's beats come, and sets the time of death by it: see [`evenkeel_vrrp::pace`].

use std::time::{Duration, Instant};

use evenkeel_api as api;
use evenkeel_model::PairSettings;
use evenkeel_vrrp::election::Election;
use evenkeel_vrrp::pace::{Bounds, Pace};

/// Less is no stall but the grain of a timer.
const GRAIN: Duration = Duration::from_millis(2);

pub struct Beats {
    pace: Option<Pace>,
    heard_at: Option<u64>,
    /// How long this thread did not run when it wanted to, since the last beat.
    stalled: Duration,
    woke_at: Instant,
    asked: Duration,
}

impl Beats {
    pub fn of(settings: &PairSettings, now: u64) -> Beats {
        let longest = settings.interval() * settings.dead_after;
        let bounds = settings.adaptive.as_ref().map(|adaptive| Bounds {
            shortest_dead_ms: adaptive.shortest_dead.min(longest).as_millis() as u64,
            longest_dead_ms: longest.as_millis() as u64,
            longest_every_ms: settings.interval().as_millis() as u64,
            learn_ms: adaptive.learn.as_millis() as u64,
        });
        Beats {
            // A serial line takes no more beats than it was given.
            pace: bounds.filter(|_| settings.serial.is_none()).map(|bounds| Pace::new(bounds, now)),
            heard_at: None,
            stalled: Duration::ZERO,
            woke_at: Instant::now(),
            asked: Duration::ZERO,
        }
    }

    /// The thread has waited, for `asked` at most.
    pub fn woke(&mut self, asked: Duration) {
        let (now, before) = (Instant::now(), std::mem::replace(&mut self.asked, asked));
        // What came between two waits is a stall as well.
        let stall = (now - self.woke_at).saturating_sub(asked.max(before));
        self.woke_at = now;
        if stall >= GRAIN {
            self.stalled += stall;
        }
    }

    /// A beat that was not heard before.
    pub fn heard(&mut self, new_life: bool, now: u64) {
        let stalled = std::mem::take(&mut self.stalled).as_millis() as u64;
        let before = self.heard_at.replace(now);
        let Some(pace) = &mut self.pace else { return };
        match before.filter(|_| !new_life) {
            Some(before) => pace.receive(now.saturating_sub(before), stalled, now),
            None => pace.lose(),
        }
    }

    pub fn agree(&mut self, election: &mut Election, now: u64) {
        let Some(pace) = &mut self.pace else { return };
        // While it is silent nothing changes: the silence counts by what was agreed.
        let Some(peer) = election.peer().filter(|_| election.peer_alive()) else { return };
        let peer_wants = u64::from(peer.beat.wants_dead_ms);
        let wants = pace.wants_dead_ms(now);
        let (every, dead) = pace.agree(peer_wants, now);
        election.set_pace(every, dead, wants);
    }

    pub fn view(&self, election: &Election, now: u64) -> api::PairBeats {
        let settings = election.settings();
        let peer = election.peer().map_or(0, |p| u64::from(p.beat.wants_dead_ms));
        let why = match &self.pace {
            None => "as configured".to_owned(),
            Some(pace) => {
                let own = pace.wants_dead_ms(now);
                let late = pace.latest_ms();
                match (own, peer) {
                    (_, 0) => "the peer does not measure".to_owned(),
                    (own, peer) if peer > own => {
                        format!("the peer hears beats that would be wrong below {peer} ms")
                    }
                    _ if pace.is_learning(now) => "it has not been measured for long enough".to_owned(),
                    _ => format!("the latest beat of the last hours came {late} ms after its time"),
                }
            }
        };
        api::PairBeats { every_ms: settings.every_ms, dead_after_ms: settings.dead_ms, why }
    }
}
