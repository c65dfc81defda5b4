//! What people are told of managed certificates, and what they may do with them.

use std::path::Path;

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_api as api;

use super::{Entry, job, now};
use crate::control::Control;

impl Control {
    /// What is known of the certificate in a file, where it is a managed one.
    pub(crate) fn managed_by(&self, file: &Path) -> Option<api::Managed> {
        let (name, entry) = self.acme.entries.iter().find(|(_, entry)| entry.managed.file == file)?;
        Some(entry.told(name, self.is_active_node()))
    }

    /// Renews or revokes, now.
    pub(crate) fn manage_certificate(
        &mut self,
        name: &str,
        action: api::CertificateAction,
    ) -> Result<api::Certificate, Refused> {
        if !self.is_active_node() {
            let why = "the other node is active: it orders for both; ask it, or switch over";
            return Err(Refused::new(FailureKind::Failed, why));
        }
        let known: Vec<&str> = self.acme.entries.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        let store = self.acme.store.clone();
        let news = self.acme.news.clone();
        let Some(entry) = self.acme.entries.get_mut(name) else {
            let why =
                format!("no service {name} has a certificate of an authority; those that have: {known}");
            return Err(Refused::new(FailureKind::NotFound, why));
        };
        let failed = |why: String| Refused::new(FailureKind::Failed, why);
        match action {
            api::CertificateAction::Renew => {
                if entry.running.is_some() {
                    return Err(failed("it is being ordered already".into()));
                }
                entry.record.wanted = true;
                entry.record.not_before = None;
                // The other node goes on with it, where the role changes.
                self.keep_record(name);
            }
            api::CertificateAction::Revoke => {
                let pem = store.pem(name).ok_or_else(|| failed("there is no certificate yet".into()))?;
                let (account, _) = store.account(&entry.authority).map_err(failed)?;
                let started = job::revoke(entry.authority.clone(), name.to_owned(), account, pem, news);
                started.map_err(|e| failed(e.to_string()))?;
            }
        }
        self.tick_acme();
        let file = self.acme.entries.get(name).map(|entry| entry.managed.file.display().to_string());
        let file = file.unwrap_or_default();
        let told = self.certificates().into_iter().find(|one| one.file == file);
        told.ok_or_else(|| failed("it is no longer there".into()))
    }
}

impl Entry {
    fn told(&self, name: &str, active: bool) -> api::Managed {
        let ms = |at: i64| at.saturating_mul(1000);
        let at = now();
        let next = self.next_attempt(name, at);
        let state = match (active, &self.running) {
            (false, _) => "passive",
            (true, Some(_)) => "ordering",
            (true, None) if self.record.failures > 0 => "failed",
            (true, None) if self.misses() => "waiting",
            (true, None) => "valid",
        };
        api::Managed {
            name: name.to_owned(),
            authority: self.authority.name.as_str().to_owned(),
            names: self.managed.names.clone(),
            state: state.into(),
            stand_in: self.held.is_none(),
            challenges: self.challenges.iter().map(|c| c.as_str().to_owned()).collect(),
            renewal_ms: self.renewal(name).map(ms),
            next_attempt_ms: Some(ms(next)),
            last_attempt_ms: self.record.last_attempt.map(ms),
            failures: self.record.failures,
            last_error: self.record.last_error.clone(),
        }
    }
}
