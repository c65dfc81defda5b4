//! What happens, for people: kept for a while, told to those who watch, and to the alerts.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_alert::{Alerts, Flaps, Happening, Verdict};
use evenkeel_api as api;
use evenkeel_l7::PoolSpec;
use evenkeel_model::AdminState;
use tokio::sync::broadcast;
use tracing::warn;

use super::control::{Control, wall_ms};
use super::pair::{News, seconds};

/// The last ones that are kept.
const KEPT: usize = 1_000;
const DAY: Duration = Duration::from_secs(86_400);
/// A service whose own servers cannot serve, while spare ones do.
const ON_BACKUPS: &str = "on backups";

pub struct Happenings {
    recent: VecDeque<api::Happening>,
    /// To the thread that writes them down.
    diary: Option<Sender<api::Happening>>,
    feed: broadcast::Sender<api::Happening>,
    alerts: Option<Alerts>,
    flaps: Flaps,
    /// States of the services as they were told.
    services: HashMap<String, &'static str>,
    certificates_at: Instant,
}

impl Happenings {
    /// With what earlier processes have seen; without a file when it cannot be kept.
    pub fn open(folder: &Path) -> Happenings {
        let file = folder.join("happenings.log");
        let recent = read(&file);
        let made = evenkeel_files::make_folder(folder);
        let diary = made.and_then(|()| keep_diary(file.clone(), &recent));
        if let Err(error) = &diary {
            warn!(file = %file.display(), %error, "what happens is not kept over a restart");
        }
        Happenings {
            recent,
            diary: diary.ok(),
            feed: broadcast::channel(256).0,
            alerts: None,
            flaps: Flaps::default(),
            services: HashMap::new(),
            certificates_at: Instant::now() + Duration::from_secs(5),
        }
    }

    fn keep(&mut self, happening: api::Happening) {
        if let Some(diary) = &self.diary {
            let _ = diary.send(happening.clone());
        }
        let _ = self.feed.send(happening.clone());
        self.recent.push_back(happening);
        if self.recent.len() > KEPT {
            self.recent.pop_front();
        }
    }

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

/// The last ones of a file; lines that a crash has cut are passed over.
fn read(file: &Path) -> VecDeque<api::Happening> {
    let text = std::fs::read(file).unwrap_or_default();
    let lines = text.split(|b| *b == b'\n').rev();
    let mut recent: VecDeque<_> =
        lines.filter_map(|line| serde_json::from_slice(line).ok()).take(KEPT).collect();
    recent.make_contiguous().reverse();
    recent
}

fn write(to: &mut impl Write, happening: &api::Happening) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(happening)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Begins a file of what is known, and goes on writing on a thread of its own: a slow disk must hold
/// up nothing. The file is begun anew before it grows large.
fn keep_diary(file: PathBuf, recent: &VecDeque<api::Happening>) -> std::io::Result<Sender<api::Happening>> {
    let begin = move |recent: &VecDeque<api::Happening>| -> std::io::Result<File> {
        let mut text = Vec::new();
        recent.iter().try_for_each(|happening| write(&mut text, happening))?;
        evenkeel_files::write_private(&file, &text)?;
        File::options().append(true).open(&file)
    };
    let mut open = begin(recent)?;
    let mut recent = recent.clone();
    let (diary, inbox) = channel::<api::Happening>();
    std::thread::Builder::new().name("happenings".into()).spawn(move || {
        let mut written = recent.len();
        let mut silent = false;
        while let Ok(happening) = inbox.recv() {
            let mut done = write(&mut open, &happening);
            recent.push_back(happening);
            if recent.len() > KEPT {
                recent.pop_front();
            }
            written += 1;
            if written > 4 * KEPT {
                done = done.and_then(|()| begin(&recent).map(|anew| open = anew));
                written = recent.len();
            }
            if let Err(error) = done.as_ref()
                && !std::mem::replace(&mut silent, true)
            {
                warn!(%error, "what happens cannot be written down");
            }
            silent &= done.is_err();
        }
    })?;
    Ok(diary)
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
        happenings.keep(happening);
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
            // Nothing has changed for people.
            News::Resumed => {}
            News::SplitBrain(true) => {
                let text = format!("both nodes of the pair are active; {node} sees it");
                self.happen("split-brain", "bad", &node, text);
            }
            News::SplitBrain(false) => {
                self.happen("split-brain", "good", &node, "one node of the pair is active again".into());
            }
            News::PeerWasActive => {
                let text = format!("the peer of {node} was active, too, for a moment");
                self.happen("split-brain", "warning", &node, text);
            }
            News::StoodStill { stall, was_active: true } => {
                let lasted = seconds(stall.lasted.as_millis() as u64);
                let text = format!("{node} stood still for {lasted} while it was active: {}", stall.cause);
                self.happen("role", "warning", &node, text);
            }
            // No client has noticed.
            News::StoodStill { .. } => {}
            News::PeerLost => self.happen("role", "warning", &node, format!("{node} does not hear its peer")),
            News::PeerFound => self.happen("role", "good", &node, format!("{node} hears its peer")),
        }
    }

    /// Why a server serves nobody: what people have set comes before what its check says, which may have passed.
    fn why_not(&self, server: u32) -> Option<String> {
        match self.engine().state(server) {
            Some(state) if state.admin != AdminState::Online => Some(format!("is {}", state.admin.as_str())),
            Some(state) if state.up && state.weight == 0 => Some("has weight 0".into()),
            _ => self.health(server).map(|health| format!("says: {}", health.detail)),
        }
    }

    fn is_on_backups(&self, pool: &PoolSpec) -> bool {
        let serves = |backup: bool| {
            pool.servers.iter().filter(|s| s.server.backup == backup).any(|s| {
                let state = self.engine().state(s.id);
                state.is_some_and(|s| s.up && s.admin == AdminState::Online && s.weight > 0)
            })
        };
        let others = serves(false) && !self.lacks_quorum(pool);
        pool.servers.iter().any(|s| !s.server.backup) && !others && serves(true)
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
                _ if self.is_on_backups(pool) => ON_BACKUPS,
                _ => "up",
            };
            let before = self.happenings.services.get(name).copied().unwrap_or("up");
            if before != now {
                let why = match self.lacks_quorum(pool) {
                    true => Some(format!("less weight is up than the quorum of {}", pool.pool.quorum)),
                    false => {
                        let first = pool.servers.first().and_then(|s| self.why_not(s.id));
                        first.map(|why| format!("no other can serve; the first {why}"))
                    }
                };
                turned.push((name.to_owned(), before, now, why));
            }
        }
        // Those that are gone are forgotten.
        if self.happenings.services.len() > config.services.len() {
            let known: HashSet<String> = config.services.iter().map(|s| s.service.name.to_string()).collect();
            self.happenings.services.retain(|name, _| known.contains(name));
        }
        for (name, before, now, why) in turned {
            let why = why.unwrap_or_else(|| "nothing".into());
            match (before, now) {
                ("up" | ON_BACKUPS, "down") => {
                    let text = format!("{name} is down: {why}");
                    self.happen("service-down", "bad", &name, text);
                }
                ("up" | "down", ON_BACKUPS) => {
                    let text = format!("{name} is served by its backup servers alone: {why}");
                    self.happen("service-on-backups", "bad", &name, text);
                }
                ("down", "up") => self.happen("service-up", "good", &name, format!("{name} is served again")),
                (ON_BACKUPS, "up") => {
                    let text =
                        format!("{name} is served by its own servers again, no longer by backups alone");
                    self.happen("service-up", "good", &name, text);
                }
                _ => {}
            }
            self.happenings.services.insert(name, now);
        }
        if Instant::now() >= self.happenings.certificates_at {
            self.happenings.certificates_at = Instant::now() + DAY;
            let days = i64::from(self.snapshot().alerts.certificate_days);
            for certificate in
                self.certificates().into_iter().filter(|c| c.trouble.is_none() && ends_soon(c, days))
            {
                let (names, file) = (certificate.names.join(", "), &certificate.file);
                let left = certificate.days_left;
                // Less than a twelfth of its life is left: a week of three months, half a day of six.
                let level = if ends_within(&certificate, 7, 12) { "bad" } else { "warning" };
                let when = match left {
                    ..=-1 => "has ended".into(),
                    1 => "ends in 1 day".to_owned(),
                    _ => format!("ends in {left} days"),
                };
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
            let why = "the configuration has no receivers: add [[alerts.email]], [[alerts.webhook]], [[alerts.script]], [[alerts.syslog]] or [[alerts.snmp]]";
            let _ = reply.send(Err(Refused::new(FailureKind::Failed, why)));
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

/// Whether so few days of a certificate are left, and no more than such a part of its life: one of six days is
/// no alarm on its first.
fn ends_within(certificate: &api::Certificate, days: i64, part: i64) -> bool {
    let left = certificate.not_after_ms - wall_ms() as i64;
    let life = certificate.not_after_ms - certificate.not_before_ms;
    left < (days * 86_400_000).min(life / part)
}

/// One that renews itself is told of when its renewal is late, others in time for a person.
fn ends_soon(certificate: &api::Certificate, days: i64) -> bool {
    ends_within(certificate, days, if certificate.managed.is_some() { 6 } else { 3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_outlives_a_crash_and_stays_bounded() {
        let folder = std::env::temp_dir().join(format!("evenkeel-happenings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("happenings.log");
        let one = |n: u64| api::Happening {
            time_ms: n,
            kind: "test".into(),
            level: "info".into(),
            subject: "web/web1".into(),
            text: format!("number {n}"),
        };
        let last = |happenings: &Happenings| happenings.list().first().map(|h| h.time_ms);
        let mut happenings = Happenings::open(&folder);
        assert_eq!(last(&happenings), None);
        let count = 4 * KEPT as u64 + 7;
        (1..=count).for_each(|n| happenings.keep(one(n)));
        let started = Instant::now();
        let written = |n: u64| read(&file).back().is_some_and(|h| h.time_ms == n);
        while !written(count) && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(happenings);
        // Cut in the middle of a line, and begun anew.
        let text = std::fs::read(&file).unwrap();
        assert!(text.iter().filter(|b| **b == b'\n').count() < 2 * KEPT);
        std::fs::write(&file, &text[..text.len() - 5]).unwrap();
        let again = Happenings::open(&folder);
        assert_eq!((last(&again), again.list().len()), (Some(count - 1), KEPT));
        std::fs::write(&file, b"\xff\0 no line at all").unwrap();
        assert_eq!(last(&Happenings::open(&folder)), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
