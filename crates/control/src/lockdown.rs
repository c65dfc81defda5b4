//! Closing what is open, on both nodes of a pair. The other node goes first; then this one commits,
//! rotates the pair's key, and reports for both.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_config::Change;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::control::Control;
use super::pair::Say;

/// How long the other node may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// A lockdown that waits for the other node.
pub struct Asking {
    who: String,
    from: String,
    report: api::Lockdown,
    reply: Reply<api::Lockdown>,
    until: Instant,
}

impl Control {
    /// Closes what the configuration leaves open, and gives the pair a new key.
    pub fn lockdown(&mut self, who: &str, from: &str, reply: Reply<api::Lockdown>) {
        let mut asking = Asking {
            who: who.to_owned(),
            from: from.to_owned(),
            report: api::Lockdown::default(),
            reply,
            until: Instant::now() + PATIENCE,
        };
        if self.pair().is_none_or(|p| p.settings().peer.is_none()) {
            return self.lock_down(asking);
        }
        if self.sync().asking.is_some() {
            let why = "a lockdown is under way already";
            return drop(asking.reply.send(Err(Refused::new(FailureKind::Failed, why))));
        }
        match self.link_up() {
            Some(link) => {
                link.say(&Say::LockDown { who: who.to_owned() });
                self.sync_mut().asking = Some(asking);
            }
            None => {
                let left = "the other node is not reachable: run `evenkeel lockdown` there";
                asking.report.left.push(left.into());
                self.lock_down(asking);
            }
        }
    }

    /// The other node has done its part.
    pub fn peer_is_locked_down(&mut self, mut theirs: api::Lockdown) {
        let Some(mut asking) = self.sync_mut().asking.take() else { return };
        let name = self.peer_name();
        theirs.done.iter_mut().chain(&mut theirs.left).for_each(|line| *line = format!("{name}: {line}"));
        asking.report.done.extend(theirs.done);
        asking.report.left.extend(theirs.left);
        self.lock_down(asking);
    }

    /// It has not, and is waited for no longer.
    pub fn tick_lockdown(&mut self) {
        let late = |a: &mut Asking| Instant::now() >= a.until;
        if let Some(mut asking) = self.sync_mut().asking.take_if(late) {
            let left = format!("{} did not answer: run `evenkeel lockdown` there", self.peer_name());
            asking.report.left.push(left);
            self.lock_down(asking);
        }
    }

    /// This node's own part, for the other one.
    pub fn lock_down_for_peer(&mut self, who: &str) {
        let mut report = api::Lockdown::default();
        match self.administration().map(|a| a.app().accounts.end_all_sessions(None)) {
            Some(Ok(ended)) => {
                report.done.push(format!("ended {}", evenkeel_model::counted(ended, "session", "sessions")))
            }
            Some(Err(refused)) => report.left.push(format!("sessions: {}", refused.failure.detail)),
            None => {}
        }
        let changes = self.closing_doors("", &mut report);
        info!(who, "the other node is being locked down, and this one with it");
        let Some(link) = self.link_up() else { return };
        let say = link.sayer();
        if changes.is_empty() {
            return say(&Say::LockedDown { report });
        }
        let done = self.commit_lockdown(who, &changes);
        tokio::spawn(async move {
            let report = match done.await {
                Ok(Ok(_)) => report,
                Ok(Err(refused)) => api::Lockdown { done: Vec::new(), left: vec![refused.failure.detail] },
                Err(_) => return warn!("the lockdown ended with the daemon"),
            };
            say(&Say::LockedDown { report });
        });
    }

    fn lock_down(&mut self, asking: Asking) {
        let Asking { who, from, mut report, reply, .. } = asking;
        let mut changes = self.closing_doors(&from, &mut report);
        changes.extend(self.closing_services(&mut report));
        if self.pair().is_some() {
            match self.rotate_key() {
                Ok(_) => report.done.push("the pair has a new key, on both nodes".into()),
                Err(refused) => report.left.push(format!("the pair's key: {}", refused.failure.detail)),
            }
        }
        if self.snapshot().admin.certificate.is_none() && !self.snapshot().admin.listen.is_empty() {
            report
                .left
                .push("the web UI has a certificate of its own making: set [admin] certificate".into());
        }
        if changes.is_empty() {
            report.done.push("the configuration leaves nothing open".into());
            return drop(reply.send(Ok(report)));
        }
        let done = self.commit_lockdown(&who, &changes);
        tokio::spawn(async move {
            let gone = |_| Err(Refused::new(FailureKind::Failed, "the daemon is stopping"));
            let result = done.await.unwrap_or_else(gone).map(|committed| {
                report.done.push(format!("committed as revision {}", committed.revision));
                report
            });
            let _ = reply.send(result);
        });
    }

    /// Commits what closes; what came of it.
    fn commit_lockdown(
        &mut self,
        who: &str,
        changes: &[Change],
    ) -> oneshot::Receiver<Result<api::Committed, Refused>> {
        let (reply, done) = oneshot::channel();
        let options = api::CommitOptions {
            author: Some(who.to_owned()),
            message: Some("lockdown".into()),
            ..Default::default()
        };
        match evenkeel_config::edit(&self.running_text(), changes) {
            Ok(text) => self.commit_on_both(text, options, reply),
            Err(why) => drop(reply.send(Err(Refused::new(FailureKind::Failed, why)))),
        }
        done
    }

    /// What is open in this node's own part.
    fn closing_doors(&self, from: &str, report: &mut api::Lockdown) -> Vec<Change> {
        let admin = &self.snapshot().admin;
        let mut changes = Vec::new();
        let mut set = |at: &[&str], value: Value, why: String| {
            let at = at.iter().map(|part| (*part).to_owned()).collect();
            changes.push(Change::Set { at, value });
            report.done.push(why);
        };
        if !admin.listen.is_empty() && !admin.only_tls13 {
            set(&["admin", "min-tls"], json!("1.3"), "the web UI speaks TLS 1.3 only".into());
        }
        let everybody = |networks: &[(IpAddr, u8)]| networks.is_empty() || networks.iter().any(|n| n.1 == 0);
        let far = |ip: IpAddr| !ip.is_loopback();
        if admin.listen.iter().any(|l| far(l.0.ip())) && everybody(&admin.allow) {
            let mut allowed = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
            if let Ok(ip) = from.parse::<IpAddr>()
                && far(ip)
            {
                allowed.push(format!("{ip}/{}", evenkeel_model::host_prefix(ip)));
            }
            let why = format!("only {} may connect to the web UI ([admin] allow)", allowed.join(", "));
            set(&["admin", "allow"], json!(allowed), why);
        }
        let open_plain = admin.plain_listen.iter().any(|l| far(l.0.ip()));
        if open_plain && everybody(&admin.metrics_allow) {
            let why = "/metrics is for this machine only ([admin] metrics-allow)".to_owned();
            set(&["admin", "metrics-allow"], json!(["127.0.0.0/8", "::1/128"]), why);
        }
        changes
    }

    /// What is open in the part of both nodes.
    fn closing_services(&self, report: &mut api::Lockdown) -> Vec<Change> {
        let mut changes = Vec::new();
        for service in &self.snapshot().services {
            let Some(tls) = &service.tls else { continue };
            if tls.min_version < evenkeel_model::TlsVersion::Tls12 {
                let name = service.name.as_str();
                let at = ["virtual-service", name, "tls", "min-version"].map(str::to_owned).to_vec();
                changes.push(Change::Set { at, value: json!("1.2") });
                report.done.push(format!("{name} speaks TLS 1.2 and 1.3 only"));
            }
        }
        changes
    }
}
