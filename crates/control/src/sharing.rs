//! Whether another program listens on this one's ports, looked at from a thread of its own every now and then:
//! nobody who opens a port later has to ask.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_platform::Listeners;
use tracing::warn;

use super::control::Control;

const EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Sharing {
    look_at: Option<Instant>,
    /// A thread that looks has the other end.
    found: Arc<Mutex<(Listeners, Vec<String>)>>,
    told: BTreeSet<String>,
}

impl Sharing {
    /// What is new, and whether all is well again.
    fn turn(&mut self) -> (Vec<String>, bool) {
        let Ok(found) = self.found.try_lock().map(|found| found.1.clone()) else {
            return (Vec::new(), false);
        };
        let found: BTreeSet<String> = found.into_iter().collect();
        let new = found.difference(&self.told).cloned().collect();
        let over = found.is_empty() && !self.told.is_empty();
        self.told = found;
        (new, over)
    }

    fn probe(&mut self, now: Instant) {
        if self.look_at.is_some_and(|at| now < at) || Arc::strong_count(&self.found) > 1 {
            return;
        }
        self.look_at = Some(now + EVERY);
        let found = self.found.clone();
        std::thread::spawn(move || {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.1 = found.0.refresh();
        });
    }
}

impl Control {
    pub(super) fn tick_sharing(&mut self, now: Instant) {
        let (new, over) = self.sharing.turn();
        self.sharing.probe(now);
        let node = self.node_name();
        for why in new {
            warn!("{why}");
            self.happen("node", "warning", &node, why);
        }
        if over {
            self.happen(
                "node",
                "good",
                &node,
                "no other program listens on this one's ports any more".into(),
            );
        }
    }
}
