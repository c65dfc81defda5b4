//! What a change of `client-auth` means: who comes in from now on, and what becomes of those who are in.
//!
//! In: a service before and after. Out: a step, where anything changes. Never: looks into the files that it
//! names. That their contents change is no change of the configuration.

use evenkeel_model::{ClientAuth, Mode, TlsSettings, VirtualService};

use super::{Impact, PlanStep, step};

/// The step, and whether `tls` has other changes.
pub(super) fn client_auth_step(before: &VirtualService, after: &VirtualService) -> (Option<PlanStep>, bool) {
    let rest = |service: &VirtualService| {
        let without = |tls: &TlsSettings| TlsSettings { client_auth: None, ..tls.clone() };
        service.tls.as_ref().map(without)
    };
    let auth = |service: &VirtualService| service.tls.as_ref().and_then(|tls| tls.client_auth.clone());
    let others = rest(before) != rest(after);
    let (old, new) = (auth(before), auth(after));
    if old == new {
        return (None, others);
    }
    let change = Comparison::new(old.as_ref(), new.as_ref());
    let action = match (&old, &new) {
        (None, _) => "add",
        (_, None) => "remove",
        _ => "change",
    };
    let (of_those_in, impact) = match (change.narrows, after.mode) {
        _ if !change.sessions_end => (None, Impact::NewConnections),
        (true, Mode::Http) => (Some(HELD_AGAINST_IT), Impact::Cuts),
        (true, _) => (Some("connections that are open stay until they end"), Impact::NewConnections),
        (false, _) => (None, Impact::NewConnections),
    };
    let sessions = change.sessions_end.then_some("no TLS session from before is resumed");
    let words = change.words.into_iter().chain(of_those_in.into_iter().chain(sessions).map(String::from));
    let detail = words.collect::<Vec<_>>().join("; ");
    (Some(step(action, format!("client-auth of virtual service {}", after.name), detail, impact)), others)
}

const HELD_AGAINST_IT: &str = "the next request of a connection that is open is held against it too, and who may no longer come in gets a 421";

#[derive(Default)]
struct Comparison {
    words: Vec<String>,
    /// Somebody who came in does so no longer.
    narrows: bool,
    /// Its rules are others, so that sessions made by the old ones are not good.
    sessions_end: bool,
}

impl Comparison {
    fn new(old: Option<&ClientAuth>, new: Option<&ClientAuth>) -> Comparison {
        let mut change = Comparison::default();
        match (old, new) {
            (_, None) => {
                change.say(false, "every client is let in, and none is asked for a certificate".into())
            }
            (None, Some(new)) => change.added(new),
            (Some(old), Some(new)) => change.changed(old, new),
        }
        change
    }

    /// Something else decides who comes in.
    fn say(&mut self, narrows: bool, words: String) {
        self.words.push(words);
        self.narrows |= narrows;
        self.sessions_end = true;
    }

    fn added(&mut self, new: &ClientAuth) {
        let ca = new.ca.display();
        match new.required {
            true => self.say(true, format!("only clients with a certificate of {ca} are let in")),
            false => self.say(
                true,
                format!(
                    "clients may show a certificate of {ca}: without one they are let in, with a bad one not"
                ),
            ),
        }
        if let Some(more) = &new.verify_ca {
            self.say(true, format!("certificates of {} are let in too", more.display()));
        }
        if let Some(crl) = &new.crl {
            self.say(true, format!("what {} revokes is refused", crl.display()));
        }
        self.faults(&[], new);
    }

    fn changed(&mut self, old: &ClientAuth, new: &ClientAuth) {
        match (old.required, new.required) {
            (false, true) => self.say(true, "clients without a certificate are refused".into()),
            (true, false) => self.say(false, "clients without a certificate are let in too".into()),
            _ => {}
        }
        if old.ca != new.ca {
            let (old, new) = (old.ca.display(), new.ca.display());
            self.say(true, format!("certificates of {new} are let in, those of {old} no longer"));
        }
        if old.verify_ca != new.verify_ca {
            if let Some(more) = &new.verify_ca {
                self.say(true, format!("certificates of {} are let in too", more.display()));
            }
            if let Some(gone) = &old.verify_ca {
                self.say(true, format!("certificates of {} are let in no longer", gone.display()));
            }
        }
        match (&old.crl, &new.crl) {
            (old, Some(new)) if old.as_ref() != Some(new) => {
                let instead =
                    old.as_ref().map_or_else(String::new, |old| format!(", no longer {}", old.display()));
                self.say(true, format!("what {} revokes is refused{instead}", new.display()));
            }
            (Some(old), None) => {
                self.say(false, format!("what {} revokes is let in", old.display()));
            }
            _ => {}
        }
        let known = old.ignore.iter().map(|fault| fault.as_str()).collect::<Vec<_>>();
        self.faults(&known, new);
        let no_longer: Vec<&str> = old
            .ignore
            .iter()
            .filter(|fault| !new.ignore.contains(fault))
            .map(|fault| fault.as_str())
            .collect();
        if !no_longer.is_empty() {
            self.say(true, format!("certificates are refused for {}", no_longer.join(", ")));
        }
        if old.headers != new.headers {
            let whether = if new.headers { "are told" } else { "are no longer told" };
            self.words.push(format!("real servers {whether} who the client is"));
        }
    }

    /// What may be wrong with a certificate now and could not before.
    fn faults(&mut self, before: &[&str], new: &ClientAuth) {
        let faults = new.ignore.iter().map(|fault| fault.as_str());
        let added: Vec<&str> = faults.filter(|fault| !before.contains(fault)).collect();
        if !added.is_empty() {
            let added = added.join(", ");
            self.say(
                false,
                format!("certificates are let in in spite of {added}: routes have to ask for it"),
            );
        }
    }
}
