//! Reads texts of configurations, each once: who asks for the same text again soon gets the same snapshot.
//! Parts that are as they run are the running allocations, so that comparing them costs nothing and what
//! has not changed is in memory once.

use evenkeel_admin::Refused;
use evenkeel_model::Snapshot;

use super::control::{Control, read};

/// The text that was read last, until the next second.
#[derive(Default)]
pub(super) struct LastRead(Option<(String, Snapshot)>);

impl Control {
    /// A text as a configuration, or every problem in it.
    pub(super) fn read(&self, text: &str) -> Result<Snapshot, Refused> {
        let mut last = self.last_read.borrow_mut();
        if let Some((_, snapshot)) = last.0.as_ref().filter(|(known, _)| known == text) {
            return Ok(snapshot.clone());
        }
        let mut snapshot = read(text)?;
        snapshot.share(&self.configured);
        last.0 = Some((text.to_owned(), snapshot.clone()));
        Ok(snapshot)
    }

    /// Nobody is likely to ask for it again.
    pub(super) fn forget_last_read(&self) {
        self.last_read.borrow_mut().0 = None;
    }
}
