//! Looking after a node: backup and restore, support bundle, doctor, attempts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest;
use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_agree::admission::admits_backup;
use evenkeel_api as api;
use evenkeel_config::Change;
use evenkeel_health::{Outcome, Target};
use evenkeel_model::{Probe, RealServer, Snapshot, counted};
use serde_json::{Value, json};
use similar::TextDiff;
use tokio::sync::{Semaphore, oneshot};

use super::addresses::Questions;
use super::control::{Control, read, wall_ms};
use super::overrides::Live;

/// Of backups.
const FORMAT: u32 = 1;
/// Each is a process.
static DOCTORS: Semaphore = Semaphore::const_new(2);
/// How long the doctor may take.
const DOCTOR_LIMIT: Duration = Duration::from_secs(60);

fn refuse(kind: FailureKind, why: impl Into<String>) -> Refused {
    Refused::new(kind, why)
}

impl Control {
    // Editing

    /// What runs; the text becomes data when this is called, on any thread.
    pub fn configuration(&self) -> impl FnOnce() -> api::Configuration + Send + use<> {
        let (revision, text) = (self.revision(), self.running_text());
        let confirm_within_ms = self.overrides().unconfirmed().map(|u| u.until_ms.saturating_sub(wall_ms()));
        move || {
            let values = evenkeel_config::values(&text);
            api::Configuration { revision, text, values, confirm_within_ms }
        }
    }

    /// What edits would make of a text, and what committing that would do.
    pub fn propose(&self, edits: api::Edits) -> Result<(api::Proposal, Option<Questions>), Refused> {
        let changes: Vec<Change> = edits.edits.into_iter().map(change).collect();
        let base = edits.text.unwrap_or_else(|| self.running_text());
        let text = match changes.is_empty() {
            true => base,
            false => {
                evenkeel_config::edit(&base, &changes).map_err(|why| refuse(FailureKind::Invalid, why))?
            }
        };
        let (problems, plan, questions) = match self.plan_with_questions(&text) {
            Ok((plan, questions)) => (Vec::new(), Some(plan), questions),
            Err(refused) => (refused.failure.problems, None, None),
        };
        let running = self.running_text();
        let diff = TextDiff::from_lines(&running, &text)
            .unified_diff()
            .context_radius(3)
            .header("running", "proposed")
            .to_string();
        let values = evenkeel_config::values(&text);
        Ok((api::Proposal { text, values, diff, problems, plan }, questions))
    }

    // Backup and restore

    pub fn backup(&self) -> Result<api::Backup, Refused> {
        let mut certificates = BTreeMap::new();
        // The one that the node has made itself is the node's own.
        let own = self.snapshot().state_directory.join("admin.pem");
        // One that an authority has not given yet is ordered again.
        let ordered = |file: &PathBuf| !file.exists() && self.managed_by(file).is_some();
        for file in self.certificate_files().into_keys().filter(|file| *file != own && !ordered(file)) {
            let text = evenkeel_files::read_text(&file, evenkeel_files::PEM_AT_MOST)
                .map_err(|e| refuse(FailureKind::Failed, format!("{}: {e}", file.display())))?;
            certificates.insert(file.display().to_string(), text);
        }
        let accounts = self.snapshot().state_directory.join("accounts.json");
        let mut backup = api::Backup {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            node: self.node_name(),
            made_ms: wall_ms(),
            configuration: self.running_text(),
            live: serde_json::to_string(self.overrides().live()).unwrap_or_default(),
            accounts: std::fs::read_to_string(accounts).unwrap_or_default(),
            certificates,
            digest: String::new(),
        };
        backup.digest = digest_of(&backup);
        Ok(backup)
    }

    /// Puts a backup in place: certificates, the configuration with the live states by a commit, people.
    /// All of it is looked at before anything is written; where a later step fails, what was
    /// written is put back.
    pub fn restore(
        &mut self,
        mut backup: api::Backup,
        options: api::RestoreOptions,
        who: &str,
        reply: Reply<api::Restored>,
    ) {
        let checked = self.check_backup(&backup).and_then(|live| {
            self.may_restore()?;
            backup.configuration = self.part_of(&backup, options.part)?;
            self.can_run(&backup)?;
            Ok(live)
        });
        let live = match checked {
            Err(refused) => return drop(reply.send(Err(refused))),
            Ok(live) => live,
        };
        let mut notes = Vec::new();
        let written = match Written::write(&backup.certificates, &mut notes) {
            Err(refused) => return drop(reply.send(Err(refused))),
            Ok(written) => written,
        };
        // It plays its role until all is done.
        let stays = self.read(&backup.configuration).is_ok_and(|new| new.pair.is_some());
        let hold = self.pair().filter(|_| stays).map(super::pair::Pair::holding);
        notes.push("admin states and live weights are as in the backup".into());
        let made = jiff::Timestamp::from_millisecond(backup.made_ms as i64).unwrap_or_default();
        let options = api::CommitOptions {
            author: Some(who.to_owned()),
            message: Some(format!("restored from a backup of {} made {made:.0}", backup.node)),
            ..Default::default()
        };
        let accounts = self.administration().map(|a| a.app().accounts.clone());
        let accounts = accounts.filter(|_| !backup.accounts.is_empty());
        let people = backup.accounts;
        let finish = move |committed: Result<api::Committed, Refused>| {
            let committed = match committed {
                Ok(committed) => committed,
                Err(refused) => {
                    written.take_back();
                    return Err(refused);
                }
            };
            if let Some(hold) = hold {
                hold.hold()?;
                notes.push("this node stays passive until `evenkeel pair release`".into());
            }
            if let Some(accounts) = accounts {
                let half_done = |refused| without_people(refused, committed.revision);
                let count = accounts.restore(&people).map_err(half_done)?;
                let people = counted(count, "person", "people");
                notes.push(format!("{people} and all tokens are as in the backup; everybody logs in again"));
            }
            notes.extend(committed.plan.warnings);
            Ok(api::Restored { revision: committed.revision, notes })
        };
        let (sender, mut done) = oneshot::channel();
        // They come with the commit: where it is refused, here or by the other node, they stay as they are.
        self.sync_mut().commits.restored = Some(live);
        self.commit_on_both(backup.configuration, options, sender);
        self.sync_mut().commits.restored = None;
        match done.try_recv() {
            Ok(committed) => drop(reply.send(finish(committed))),
            // The other node is asked first.
            Err(_) => drop(tokio::spawn(async move {
                let stopping = |_| Err(refuse(FailureKind::Failed, "the daemon is stopping"));
                let _ = reply.send(finish(done.await.unwrap_or_else(stopping)));
            })),
        }
    }

    /// The configuration of a backup as this node, or as the one that it is of.
    fn part_of(&self, backup: &api::Backup, part: Option<api::RestoreAs>) -> Result<String, Refused> {
        let shared = || {
            let shared = evenkeel_config::shared(&backup.configuration);
            let own = shared.and_then(|shared| evenkeel_config::adopt(&self.running_text(), &shared));
            own.ok_or_else(|| refuse(FailureKind::Invalid, "the backup's configuration is no TOML"))
        };
        let is_of_pair = self.pair().is_some() || self.read(&backup.configuration)?.pair.is_some();
        match part {
            Some(api::RestoreAs::ThisNode) => shared(),
            Some(api::RestoreAs::ThatNode) => {
                self.is_off(&backup.node)?;
                Ok(backup.configuration.clone())
            }
            None if backup.node == self.node_name() || !is_of_pair => Ok(backup.configuration.clone()),
            None => Err(refuse(
                FailureKind::Failed,
                format!(
                    "the backup is of {}, and this is {}: say whether it is restored `--as this-node` (name, peer and doors stay this node's) or `--as that-node` (it becomes {}, which must be off), in the API as=this-node or as=that-node; nothing was changed",
                    backup.node,
                    self.node_name(),
                    backup.node
                ),
            )),
        }
    }

    /// A node that is heard is not replaced by this one: both would have its name and address.
    fn is_off(&self, node: &str) -> Result<(), Refused> {
        let heard = self.pair().is_some_and(super::pair::Pair::hears_peer);
        let other = self.sync().peer.as_deref().is_none_or(|peer| peer == node);
        if node == self.node_name() || !heard || !other {
            return Ok(());
        }
        let why = format!("{node} is on, and heard by this node: stop it first; nothing was changed");
        Err(refuse(FailureKind::Failed, why))
    }

    /// Whether what the backup says can be used here, with its files where they are missing.
    fn can_run(&mut self, backup: &api::Backup) -> Result<(), Refused> {
        let new = self.read(&backup.configuration)?;
        self.plan(&backup.configuration)?;
        let missing = |path: &&String| !std::path::Path::new(path.as_str()).exists();
        // With its own certificates in place more is tried at the commit.
        if backup.certificates.keys().any(|path| missing(&path)) {
            return Ok(());
        }
        let failed = |why: String| refuse(FailureKind::Failed, format!("{why}; nothing was changed"));
        self.try_out(&new, &backup.configuration).map_err(failed)
    }

    /// In a pair a backup is both nodes': it does not come from the one that only follows.
    fn may_restore(&self) -> Result<(), Refused> {
        if self.pair().is_none() {
            return Ok(());
        }
        if admits_backup(self.is_active_node(), self.link_up().is_some()).is_err() {
            let why = "this node is passive, and a backup that is restored here would replace what the active node runs: restore it on the active node";
            return Err(refuse(FailureKind::Failed, why));
        }
        Ok(())
    }

    /// Everything that can be wrong with a backup.
    fn check_backup(&self, backup: &api::Backup) -> Result<Live, Refused> {
        let invalid = |why: String| refuse(FailureKind::Invalid, why);
        if backup.format > FORMAT {
            return Err(invalid(format!(
                "the backup was made by Evenkeel {}, and its format {} is newer than this program knows ({FORMAT})",
                backup.version, backup.format
            )));
        }
        if backup.digest != digest_of(backup) {
            return Err(invalid("the backup was altered or damaged: its digest is another".into()));
        }
        let live: Live = serde_json::from_str(&backup.live)
            .map_err(|e| invalid(format!("the live states of the backup: {e}")))?;
        let snapshot = self.read(&backup.configuration)?;
        // Files are only written where the configuration that comes with them looks for them.
        let mut named = paths_named(&backup.configuration);
        let managed = snapshot.services.iter().filter_map(|s| s.tls.as_ref()?.managed.as_ref());
        named.extend(managed.map(|managed| managed.file.display().to_string()));
        for (path, text) in &backup.certificates {
            if !is_named(path, &named) {
                return Err(invalid(format!(
                    "the backup holds {path}, which its configuration does not name"
                )));
            }
            super::certificates::check_pem(text).map_err(|why| invalid(format!("{path}: {why}")))?;
        }
        if !backup.accounts.is_empty() {
            evenkeel_admin::Accounts::check(&backup.accounts)?;
        }
        Ok(live)
    }

    // For helpers

    /// What a helper needs to see, without secrets.
    pub fn support_bundle(&mut self) -> Value {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut values = evenkeel_config::values(&self.running_text());
        super::secrets::redact(&mut values);
        let uname = rustix::system::uname();
        json!({
            "made-ms": wall_ms(),
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node_name(),
            "kernel": uname.release().to_string_lossy(),
            "system": read("/etc/os-release"),
            "memory": read("/proc/meminfo").lines().take(5).collect::<Vec<_>>(),
            "load": read("/proc/loadavg").trim(),
            "limits": read("/proc/self/limits"),
            "configuration": values,
            "status": self.status(),
            "pair": self.pair_status().ok(),
            "happenings": self.happenings.list(),
            "revisions": self.history.list(),
            "certificates": self.certificates(),
            "metrics": super::metrics::Sample::of(self).render(),
        })
    }

    /// Runs the doctor as a program of its own: it asks this daemon, which goes on meanwhile.
    pub fn doctor(&self, reply: Reply<Value>) {
        let socket = self.snapshot().admin.socket.clone();
        let Ok(place) = DOCTORS.try_acquire() else {
            let why = "the doctor is looking already; ask again in a moment";
            return drop(reply.send(Err(refuse(FailureKind::Failed, why))));
        };
        tokio::spawn(async move {
            let _place = place;
            let run = async {
                let mut command = tokio::process::Command::new(evenkeel_platform::THIS_PROGRAM);
                command.arg("--json").arg("--socket").arg(socket).arg("doctor").kill_on_drop(true);
                command.stdin(std::process::Stdio::null());
                command.output().await
            };
            let failed =
                |why: String| Err(refuse(FailureKind::Failed, format!("the doctor could not be run: {why}")));
            let result = match tokio::time::timeout(DOCTOR_LIMIT, run).await {
                Err(_) => failed("it took more than a minute".into()),
                Ok(Err(error)) => failed(error.to_string()),
                Ok(Ok(output)) => serde_json::from_slice(&output.stdout)
                    .or_else(|_| failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
            };
            let _ = reply.send(result);
        });
    }

    /// Probes what somebody is about to configure. Whoever is not `free` to configure reaches real
    /// servers of the running configuration alone, with its files, and learns no words of theirs.
    pub fn attempt(&self, attempt: &api::Attempt, free: bool, reply: Reply<api::Attempted>) {
        let allowed = |target: Target| match free || is_known(self.snapshot(), &target) {
            true => Ok(target),
            false => Err(refuse(
                FailureKind::Forbidden,
                "only real servers of the running configuration, with its server-tls: others need the right to configure",
            )),
        };
        let target = match target_of(attempt).and_then(allowed) {
            Ok(target) => target,
            Err(refused) => return drop(reply.send(Err(refused))),
        };
        let (sender, report) = oneshot::channel();
        self.checker.attempt(target, sender);
        tokio::spawn(async move {
            let gone = |_| refuse(FailureKind::Failed, "the daemon is stopping");
            let report = report.await.map_err(gone);
            let _ = reply.send(report.map(|r| api::Attempted {
                passed: r.passed,
                detail: if free { r.detail } else { in_words(r.outcome).into() },
                took_ms: r.took.as_millis() as u64,
            }));
        });
    }
}

/// The address is a real server's, and no file is named that its pool does not name.
fn is_known(snapshot: &Snapshot, target: &Target) -> bool {
    let names_no_file = target.tls.as_ref().is_none_or(|t| [&t.ca, &t.crl, &t.certificate] == [&None; 3]);
    snapshot.pools.iter().any(|pool| {
        let port = target.address.port();
        let is = |s: &RealServer| {
            let known = port == s.address.port() || Some(port) == pool.check_of(s).port;
            s.address.ip() == target.address.ip() && known
        };
        let speaks = |s: &RealServer| names_no_file || s.tls(pool) == target.tls.as_ref();
        pool.real_servers.iter().any(|s| is(s) && speaks(s))
    })
}

/// How an attempt went, without what the server said.
fn in_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "it passes",
        Outcome::Timeout => "no answer in time",
        Outcome::Unreachable => "it cannot be reached",
        Outcome::Local => "this machine has no descriptor, port or memory left to ask with",
        Outcome::Invalid => "the answer is not understood",
        Outcome::Refused => "the answer is not the expected one",
    }
}

fn change(edit: api::Edit) -> Change {
    match edit {
        api::Edit::Set { at, value } => Change::Set { at, value },
        api::Edit::Remove { at } => Change::Remove { at },
        api::Edit::Add { at, value } => Change::Add { at, value },
        api::Edit::Move { at, to } => Change::Move { at, to },
    }
}

/// Files that a restore has written, with what they held before.
struct Written(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Written {
    fn write(files: &BTreeMap<String, String>, notes: &mut Vec<String>) -> Result<Written, Refused> {
        let mut written = Written(Vec::new());
        for (path, text) in files {
            let file = PathBuf::from(path);
            if let Some(folder) = file.parent() {
                let _ = evenkeel_files::make_folder(folder);
            }
            let before = evenkeel_files::read(&file, evenkeel_files::PEM_AT_MOST).ok();
            if let Err(error) = evenkeel_files::write_private(&file, text.as_bytes()) {
                written.take_back();
                return Err(refuse(FailureKind::Failed, format!("{path}: {error}; nothing was changed")));
            }
            written.0.push((file, before));
            notes.push(format!("wrote {path}"));
        }
        Ok(written)
    }

    fn take_back(self) {
        for (file, before) in self.0 {
            let done = match before {
                Some(bytes) => evenkeel_files::write_private(&file, &bytes),
                None => evenkeel_files::remove(&file).map(drop),
            };
            if let Err(error) = done {
                tracing::error!(file = %file.display(), %error, "what was before a restore cannot be put back");
            }
        }
    }
}

/// The configuration is restored, and people and tokens could not be written.
fn without_people(mut refused: Refused, revision: u64) -> Refused {
    let why = &refused.failure.detail;
    refused.failure.detail = format!(
        "the configuration is the backup's, as revision {revision}; people and tokens are as before: {why}"
    );
    refused
}

fn digest_of(backup: &api::Backup) -> String {
    let bare = api::Backup { digest: String::new(), ..backup.clone() };
    let text = serde_json::to_vec(&bare).unwrap_or_default();
    evenkeel_admin::hex(digest::digest(&digest::SHA256, &text).as_ref())
}

/// Files and folders of certificates that a configuration names.
fn paths_named(text: &str) -> Vec<String> {
    let values = evenkeel_config::values(text);
    let services = values["virtual-service"].as_array().into_iter().flatten();
    let lists = services.filter_map(|s| s["tls"]["certificates"].as_array()).flatten();
    let admin = values["admin"]["certificate"].as_str().into_iter();
    lists.filter_map(Value::as_str).chain(admin).map(str::to_owned).collect()
}

/// Whether a path is one of those, or in a folder that is, and climbs out of none.
fn is_named(path: &str, named: &[String]) -> bool {
    let plain = path.starts_with('/') && !path.split('/').any(|part| part == "..");
    let holds = |n: &String| path == n || path.starts_with(&format!("{}/", n.trim_end_matches('/')));
    plain && named.iter().any(holds)
}

fn target_of(attempt: &api::Attempt) -> Result<Target, Refused> {
    let mut pool = json!({
        "name": "attempt",
        "real-server": [{ "name": "attempt", "address": attempt.address }],
    });
    let check = match attempt.health_check.is_null() {
        true => json!({ "type": "tcp" }),
        false => attempt.health_check.clone(),
    };
    pool["health-check"] = check;
    if !attempt.server_tls.is_null() {
        pool["server-tls"] = attempt.server_tls.clone();
    }
    let changes = [Change::Add { at: vec!["pool".into()], value: pool }];
    let text = evenkeel_config::edit("", &changes).map_err(|why| refuse(FailureKind::Invalid, why))?;
    let snapshot = read(&text).map_err(|refused| {
        let problems = refused.failure.problems.iter().map(|p| p.message.clone()).collect::<Vec<_>>();
        refuse(FailureKind::Invalid, problems.join("; "))
    })?;
    let pool =
        snapshot.pools.first().ok_or_else(|| refuse(FailureKind::Invalid, "there is nothing to try"))?;
    let server =
        pool.real_servers.first().ok_or_else(|| refuse(FailureKind::Invalid, "there is no address"))?;
    // A stranger's program is not run for being typed.
    if matches!(pool.health_check.probe, Probe::Script(_)) {
        return Err(refuse(FailureKind::Invalid, "a script is not tried out before it is committed"));
    }
    let mut check = pool.health_check.of(server.name.as_str());
    check.timeout = check.timeout.min(Duration::from_secs(5));
    if let Some(host) = &server.host {
        let why = format!("give the address of {} to try: names are looked up for what runs", host.name);
        return Err(refuse(FailureKind::Invalid, why));
    }
    let tls = pool.server_tls.clone();
    Ok(Target { id: u32::MAX, address: server.address, vip: None, tls, check: check.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_shows_that_it_was_altered() {
        let mut backup = api::Backup {
            format: 1,
            version: "1".into(),
            node: "lb1".into(),
            made_ms: 7,
            configuration: "a".into(),
            live: "{}".into(),
            accounts: String::new(),
            certificates: BTreeMap::new(),
            digest: String::new(),
        };
        backup.digest = digest_of(&backup);
        let good = backup.clone();
        backup.configuration = "b".into();
        assert!(digest_of(&good) == good.digest && digest_of(&backup) != backup.digest);
    }

    #[test]
    fn no_path_climbs_out() {
        let named = paths_named(
            "[admin]\ncertificate = \"/etc/e/admin.pem\"\n[[virtual-service]]\ntls = { certificates = [\"/etc/e/certs/\", \"/etc/e/a.pem\"] }\n",
        );
        let check = |path: &str, expect| assert_eq!(is_named(path, &named), expect, "{path}");
        check("/etc/e/admin.pem", true);
        check("/etc/e/a.pem", true);
        check("/etc/e/certs/www.pem", true);
        check("/etc/e/certs/../../shadow", false);
        check("/etc/e/certs", false);
        check("/etc/e/a.pem.sh", false);
        check("/home/ann/.ssh/authorized_keys", false);
        check("etc/e/a.pem", false);
        check("", false);
    }

    #[test]
    fn attempts_without_the_right_to_configure_reach_known_servers_alone() {
        let snapshot = read("[[virtual-service]]\nname = \"s\"\nvip = [\"127.0.0.1:1\"]\nmode = \"http\"\n[[virtual-service.real-server]]\nname = \"r\"\naddress = \"127.0.0.2:80\"\n").unwrap();
        let check = |address: &str, tls: Value, expect| {
            let attempt =
                api::Attempt { address: address.into(), health_check: Value::Null, server_tls: tls };
            let target = target_of(&attempt).unwrap();
            assert_eq!(is_known(&snapshot, &target), expect, "{address} {:?}", target.tls);
        };
        check("127.0.0.2:80", Value::Null, true);
        check("127.0.0.2:80", json!({ "verify": false }), true);
        check("127.0.0.2:80", json!({ "ca": "/etc/shadow" }), false);
        check("127.0.0.2:81", Value::Null, false);
        check("127.0.0.3:80", Value::Null, false);
    }

    #[test]
    fn what_is_typed_is_checked_as_a_configuration_is() {
        let attempt = |address: &str, check: Value| api::Attempt {
            address: address.into(),
            health_check: check,
            server_tls: Value::Null,
        };
        assert!(target_of(&attempt("127.0.0.1:80", Value::Null)).is_ok());
        assert!(target_of(&attempt("127.0.0.1:80", json!({ "type": "http", "path": "/x" }))).is_ok());
        assert!(target_of(&attempt("nonsense", Value::Null)).is_err());
        assert!(
            target_of(&attempt("127.0.0.1:80", json!({ "type": "script", "command": "/bin/id" }))).is_err()
        );
    }
}
