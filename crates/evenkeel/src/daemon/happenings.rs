//! What happens, for people: kept for a while, told to those who watch, and to the alerts.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_admin::{Kind, Refused, Reply};
use evenkeel_alert::{Alerts, Flaps, Happening, Verdict};
use evenkeel_api as api;
use evenkeel_l7::PoolSpec;
use tokio::sync::broadcast;
use tracing::warn;

use super::control::{Control, wall_ms};
use super::pair::News;

/// The last ones that are kept.
const KEPT: usize = 1_000;
const DAY: Duration = Duration::from_secs(86_400);

pub struct Happenings {
    recent: VecDeque<api::Happening>,
    feed: broadcast::Sender<api::Happening>,
    alerts: Option<Alerts>,
    flaps: Flaps,
    /// States of the services as they were told.
    services: HashMap<String, &'static str>,
    certificates_at: Instant,
}

impl Default for Happenings {
    fn default() -> Happenings {
        Happenings {
            recent: VecDeque::new(),
            feed: broadcast::channel(256).0,
            alerts: None,
            flaps: Flaps::default(),
            services: HashMap::new(),
            certificates_at: Instant::now() + Duration::from_secs(5),
        }
    }
}

impl Happenings {
    pub fn feed(&self) -> broadcast::Sender<api::Happening> {
        self.feed.clone()
    }

    pub fn list(&self) -> Vec<api::Happening> {
        self.recent.iter().rev().cloned().collect()
    }

    /// Messages that were sent, and that were given up.
    pub fn counts(&self) -> (u64, u64) {
        self.alerts.as_ref().map_or((0, 0), Alerts::counts)
    }
}

impl Control {
    /// The alerts of the running configuration.
    pub fn follow_alerts(&mut self) {
        let (node, settings) = (self.node_name(), self.snapshot().alerts.clone());
        let done = match &mut self.happenings.alerts {
            Some(alerts) => alerts.set(&node, settings),
            place @ None => Alerts::start(&node, settings).map(|alerts| *place = Some(alerts)),
        };
        if let Err(error) = done {
            warn!(%error, "alerts cannot be sent");
        }
    }

    pub fn node_name(&self) -> String {
        match &self.snapshot().pair {
            Some(pair) => pair.name.as_str().into(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }

    pub fn happen(&mut self, kind: &str, level: &str, subject: &str, text: String) {
        let happening = api::Happening {
            time_ms: wall_ms(),
            kind: kind.into(),
            level: level.into(),
            subject: subject.into(),
            text,
        };
        // Both nodes of a pair see the same servers: one of them tells of it.
        let of_servers =
            ["server-", "service-", "flapping", "certificate"].iter().any(|k| kind.starts_with(k));
        let here = self.role() == "active";
        let happenings = &mut self.happenings;
        if let Some(alerts) = happenings.alerts.as_ref().filter(|_| here || !of_servers) {
            alerts.on(&Happening {
                time_ms: happening.time_ms,
                kind: happening.kind.clone(),
                level: happening.level.clone(),
                subject: happening.subject.clone(),
                text: happening.text.clone(),
            });
        }
        let _ = happenings.feed.send(happening.clone());
        happenings.recent.push_back(happening);
        if happenings.recent.len() > KEPT {
            happenings.recent.pop_front();
        }
    }

    pub fn server_turned(&mut self, pool: &str, server: &str, up: bool, reason: &str) {
        let subject = format!("{pool}/{server}");
        let (kind, level, word) =
            if up { ("server-up", "good", "up") } else { ("server-down", "bad", "down") };
        match self.happenings.flaps.on_change(&subject, wall_ms()) {
            Verdict::Tell => self.happen(kind, level, &subject, format!("{subject} is {word}: {reason}")),
            Verdict::Flapping => {
                let text = format!(
                    "{subject} goes up and down again and again, now {word}: {reason}; no more is told until it is steady"
                );
                self.happen("flapping", "warning", &subject, text);
            }
            Verdict::Silent => {}
        }
    }

    pub fn pair_news(&mut self, news: &News) {
        let node = self.node_name();
        match news {
            News::Role { role, why, .. } => {
                let level = if role.as_str() == "active" { "warning" } else { "info" };
                self.happen("role", level, &node, format!("{node} is {}: {why}", role.as_str()));
            }
            News::SplitBrain(true) => {
                let text = format!("both nodes of the pair are active; {node} sees it");
                self.happen("split-brain", "bad", &node, text);
            }
            News::SplitBrain(false) => {
                self.happen("split-brain", "good", &node, "one node of the pair is active again".into());
            }
            News::PeerLost => self.happen("role", "warning", &node, format!("{node} does not hear its peer")),
            News::PeerFound => self.happen("role", "good", &node, format!("{node} hears its peer")),
        }
    }

    /// Once a second: services that came or went, certificates that end.
    pub fn watch_services(&mut self) {
        let config = self.engine().config();
        let pools: HashMap<u32, &Arc<PoolSpec>> = config.pools.iter().map(|p| (p.id, p)).collect();
        let mut turned = Vec::new();
        for spec in &config.services {
            let Some(pool) = pools.get(&spec.pool_id) else { continue };
            let name = spec.service.name.as_str();
            let now = match self.service_state(pool) {
                state @ ("down" | "halted") => state,
                _ => "up",
            };
            let before = self.happenings.services.get(name).copied().unwrap_or("up");
            if before != now {
                let why = pool.servers.first().and_then(|s| self.health(s.id)).map(|h| h.detail.clone());
                turned.push((name.to_owned(), before, now, why));
            }
        }
        // Those that are gone are forgotten.
        if self.happenings.services.len() > config.services.len() {
            let known: HashSet<String> = config.services.iter().map(|s| s.service.name.to_string()).collect();
            self.happenings.services.retain(|name, _| known.contains(name));
        }
        for (name, before, now, why) in turned {
            match (before, now) {
                ("up", "down") => {
                    let why = why.unwrap_or_else(|| "nothing".into());
                    let text = format!("{name} is down: no real server can serve; the first says: {why}");
                    self.happen("service-down", "bad", &name, text);
                }
                ("down", "up") => self.happen("service-up", "good", &name, format!("{name} is served again")),
                _ => {}
            }
            self.happenings.services.insert(name, now);
        }
        if Instant::now() >= self.happenings.certificates_at {
            self.happenings.certificates_at = Instant::now() + DAY;
            let days = i64::from(self.snapshot().alerts.certificate_days);
            for certificate in
                self.certificates().into_iter().filter(|c| c.trouble.is_none() && c.days_left < days)
            {
                let (names, file) = (certificate.names.join(", "), &certificate.file);
                let left = certificate.days_left;
                let level = if left < 7 { "bad" } else { "warning" };
                let when = if left < 0 { "has ended".into() } else { format!("ends in {left} days") };
                let text = format!(
                    "the certificate of {names} {when} ({file}, used by {})",
                    certificate.used_by.join(", ")
                );
                self.happen("certificate", level, file, text);
            }
        }
    }

    pub fn test_alerts(&self, reply: Reply<api::AlertsTested>) {
        let (node, settings) = (self.node_name(), self.snapshot().alerts.clone());
        if settings.receivers.is_empty() {
            let why = "the configuration has no receivers: add [[alerts.email]], [[alerts.webhook]], [[alerts.script]] or [[alerts.syslog]]";
            let _ = reply.send(Err(Refused::new(Kind::Failed, why)));
            return;
        }
        tokio::task::spawn_blocking(move || {
            let outcome = |(receiver, done): (String, Result<String, String>)| {
                let sent = done.is_ok();
                api::AlertOutcome { receiver, sent, detail: done.unwrap_or_else(|why| why) }
            };
            let receivers = evenkeel_alert::test(&node, &settings).into_iter().map(outcome).collect();
            let _ = reply.send(Ok(api::AlertsTested { receivers }));
        });
    }
}
