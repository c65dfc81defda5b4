//! Warnings of a configuration: what it says, but hardly means. Whoever asks for a configuration is told, and
//! the log of the node that runs it, by whatever way it came.

use std::sync::Arc;

use evenkeel_model::{Snapshot, VirtualService};
use tracing::warn;

use super::control::Control;

/// Warnings of the lists that a running service's conditions name.
pub(super) type ListWarnings = Vec<(Arc<VirtualService>, Vec<String>)>;

impl Control {
    /// Lists of services that do not change are not read again.
    pub(super) fn warnings_of(&self, new: &Snapshot) -> Vec<String> {
        let mut warnings = evenkeel_config::warnings(new);
        for service in &new.services {
            match self.list_warnings.iter().find(|(known, _)| Arc::ptr_eq(known, service)) {
                Some((_, known)) => warnings.extend_from_slice(known),
                None => warnings.extend(evenkeel_l7::unmatchable_lists(new, service)),
            }
        }
        warnings
    }

    /// Of what runs, with files as they are now.
    pub(super) fn log_warnings(&mut self) {
        let configured = self.configured.clone();
        let lists = |service: &Arc<VirtualService>| {
            (service.clone(), evenkeel_l7::unmatchable_lists(&configured, service))
        };
        self.list_warnings = configured.services.iter().map(lists).collect();
        for warning in self.warnings_of(&configured) {
            warn!(warning, "the configuration runs, but does not all that it seems to say");
        }
    }
}
