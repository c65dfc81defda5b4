//! Looking after a node: backup and restore, support bundle, doctor, attempts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest;
use evenkeel_admin::{Kind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_config::Change;
use evenkeel_health::Target;
use evenkeel_model::Probe;
use serde_json::{Value, json};
use similar::TextDiff;
use tokio::sync::{Semaphore, oneshot};

use super::control::{Control, read, wall_ms};
use super::overrides::Live;

/// Of backups.
const FORMAT: u32 = 1;
/// Each is a process.
static DOCTORS: Semaphore = Semaphore::const_new(2);
/// How long the doctor may take.
const DOCTOR_LIMIT: Duration = Duration::from_secs(60);

fn refuse(kind: Kind, why: impl Into<String>) -> Refused {
    Refused::new(kind, why)
}

impl Control {
    // Editing

    pub fn configuration(&self) -> api::Configuration {
        let text = self.running_text();
        let left = self.overrides().unconfirmed().map(|u| u.until_ms.saturating_sub(wall_ms()));
        let values = evenkeel_config::values(&text);
        api::Configuration { revision: self.revision(), text, values, confirm_within_ms: left }
    }

    /// What edits would make of a text, and what committing that would do.
    pub fn propose(&self, edits: api::Edits) -> Result<api::Proposal, Refused> {
        let changes: Vec<Change> = edits.edits.into_iter().map(change).collect();
        let base = edits.text.unwrap_or_else(|| self.running_text());
        let text = match changes.is_empty() {
            true => base,
            false => evenkeel_config::edit(&base, &changes).map_err(|why| refuse(Kind::Invalid, why))?,
        };
        let (problems, plan) = match self.plan(&text) {
            Ok(plan) => (Vec::new(), Some(plan)),
            Err(refused) => (refused.failure.problems, None),
        };
        let running = self.running_text();
        let diff = TextDiff::from_lines(&running, &text)
            .unified_diff()
            .context_radius(3)
            .header("running", "proposed")
            .to_string();
        let values = evenkeel_config::values(&text);
        Ok(api::Proposal { text, values, diff, problems, plan })
    }

    // Backup and restore

    pub fn backup(&self) -> Result<api::Backup, Refused> {
        let mut certificates = BTreeMap::new();
        // The one that the node has made itself is the node's own.
        let own = self.snapshot().state_directory.join("admin.pem");
        for file in self.certificate_files().into_keys().filter(|file| *file != own) {
            let text = std::fs::read_to_string(&file)
                .map_err(|e| refuse(Kind::Failed, format!("{}: {e}", file.display())))?;
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

    /// Puts a backup in place: certificates, live states, people, and the configuration by a commit.
    pub fn restore(&mut self, backup: api::Backup, who: &str, reply: Reply<api::Restored>) {
        match self.restore_files(&backup) {
            Err(refused) => drop(reply.send(Err(refused))),
            Ok(notes) => {
                let made = jiff::Timestamp::from_millisecond(backup.made_ms as i64).unwrap_or_default();
                let options = api::CommitOptions {
                    author: Some(who.to_owned()),
                    message: Some(format!("restored from a backup of {} made {made:.0}", backup.node)),
                    ..Default::default()
                };
                let (sender, done) = oneshot::channel();
                self.commit_on_both(backup.configuration, options, sender);
                answer(done, reply, move |committed| api::Restored { revision: committed.revision, notes });
            }
        }
    }

    fn restore_files(&mut self, backup: &api::Backup) -> Result<Vec<String>, Refused> {
        if backup.format > FORMAT {
            let why = format!(
                "the backup was made by Evenkeel {}, and its format {} is newer than this program knows ({FORMAT})",
                backup.version, backup.format
            );
            return Err(refuse(Kind::Invalid, why));
        }
        if backup.digest != digest_of(backup) {
            return Err(refuse(Kind::Invalid, "the backup was altered or damaged: its digest is another"));
        }
        let live: Live = serde_json::from_str(&backup.live)
            .map_err(|e| refuse(Kind::Invalid, format!("the live states of the backup: {e}")))?;
        // Files are only written where the configuration that comes with them looks for them.
        let named = paths_named(&backup.configuration);
        for path in backup.certificates.keys() {
            if !is_named(path, &named) {
                let why = format!("the backup holds {path}, which its configuration does not name");
                return Err(refuse(Kind::Invalid, why));
            }
        }
        let mut notes = Vec::new();
        for (path, text) in &backup.certificates {
            let file = PathBuf::from(path);
            if let Some(folder) = file.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            let failed = |e: std::io::Error| refuse(Kind::Failed, format!("{path}: {e}"));
            evenkeel_platform::write_private(&file, text.as_bytes()).map_err(failed)?;
            notes.push(format!("wrote {path}"));
        }
        read(&backup.configuration)?;
        if self.pair().is_some() {
            self.pair_or_refused()?.hold(true)?;
            notes.push("this node stays passive until `evenkeel pair release`".into());
        }
        if !backup.accounts.is_empty() {
            let accounts = self.administration().map(|a| a.app().accounts.clone());
            if let Some(accounts) = accounts {
                let count = accounts.restore(&backup.accounts)?;
                notes.push(format!(
                    "{count} people and their tokens are as in the backup; everybody logs in again"
                ));
            }
        }
        self.overrides_mut().restore_live(live);
        self.save_overrides();
        self.push_states();
        notes.push("admin states and live weights are as in the backup".into());
        Ok(notes)
    }

    // For helpers

    /// What a helper needs to see, without secrets.
    pub fn support_bundle(&mut self) -> Value {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut values = evenkeel_config::values(&self.running_text());
        redact(&mut values);
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
            "metrics": super::metrics::render(self),
        })
    }

    /// Runs the doctor as a program of its own: it asks this daemon, which goes on meanwhile.
    pub fn doctor(&self, reply: Reply<Value>) {
        let socket = self.snapshot().admin.socket.clone();
        let Ok(place) = DOCTORS.try_acquire() else {
            let why = "the doctor is looking already; ask again in a moment";
            return drop(reply.send(Err(refuse(Kind::Failed, why))));
        };
        tokio::spawn(async move {
            let _place = place;
            let run = async {
                let program = std::env::current_exe()?;
                let mut command = tokio::process::Command::new(program);
                command.arg("--json").arg("--socket").arg(socket).arg("doctor").kill_on_drop(true);
                command.stdin(std::process::Stdio::null());
                command.output().await
            };
            let failed =
                |why: String| Err(refuse(Kind::Failed, format!("the doctor could not be run: {why}")));
            let result = match tokio::time::timeout(DOCTOR_LIMIT, run).await {
                Err(_) => failed("it took more than a minute".into()),
                Ok(Err(error)) => failed(error.to_string()),
                Ok(Ok(output)) => serde_json::from_slice(&output.stdout)
                    .or_else(|_| failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
            };
            let _ = reply.send(result);
        });
    }

    /// Probes what somebody is about to configure.
    pub fn attempt(&self, attempt: api::Attempt, reply: Reply<api::Attempted>) {
        let target = match target_of(&attempt) {
            Ok(target) => target,
            Err(refused) => return drop(reply.send(Err(refused))),
        };
        let (sender, report) = oneshot::channel();
        self.checker.attempt(target, sender);
        tokio::spawn(async move {
            let gone = |_| refuse(Kind::Failed, "the daemon is stopping");
            let report = report.await.map_err(gone);
            let _ = reply.send(report.map(|r| api::Attempted {
                passed: r.passed,
                detail: r.detail,
                took_ms: r.took.as_millis() as u64,
            }));
        });
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

/// Waits for a commit elsewhere, and answers with what follows from it.
fn answer<T: Send + 'static>(
    done: oneshot::Receiver<Result<api::Committed, Refused>>,
    reply: Reply<T>,
    then: impl FnOnce(api::Committed) -> T + Send + 'static,
) {
    tokio::spawn(async move {
        let result = done.await.unwrap_or_else(|_| Err(refuse(Kind::Failed, "the daemon is stopping")));
        let _ = reply.send(result.map(then));
    });
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

/// Words in the names of keys whose values nobody else should see.
const SECRET: [&str; 6] = ["password", "secret", "url", "users", "key", "send"];

fn redact(values: &mut Value) {
    match values {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let hidden = SECRET.iter().any(|word| key.contains(word)) && !value.is_boolean();
                match hidden {
                    true => *value = json!("(left out)"),
                    false => redact(value),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(redact),
        _ => {}
    }
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
    let text = evenkeel_config::edit("", &changes).map_err(|why| refuse(Kind::Invalid, why))?;
    let snapshot = read(&text).map_err(|refused| {
        let problems = refused.failure.problems.iter().map(|p| p.message.clone()).collect::<Vec<_>>();
        refuse(Kind::Invalid, problems.join("; "))
    })?;
    let pool = snapshot.pools.first().ok_or_else(|| refuse(Kind::Invalid, "there is nothing to try"))?;
    let server = pool.real_servers.first().ok_or_else(|| refuse(Kind::Invalid, "there is no address"))?;
    // A stranger's program is not run for being typed.
    if matches!(pool.health_check.probe, Probe::Script(_)) {
        return Err(refuse(Kind::Invalid, "a script is not tried out before it is committed"));
    }
    let mut check = pool.health_check.clone();
    check.timeout = check.timeout.min(Duration::from_secs(5));
    let tls = pool.server_tls.clone();
    Ok(Target { id: u32::MAX, address: server.address, vip: None, tls, check })
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
    fn secrets_are_left_out() {
        let mut values = json!({ "a": { "password": "x", "list": [{ "url": "y", "name": "z" }] }, "b": 1 });
        redact(&mut values);
        assert_eq!(
            values.to_string(),
            "{\"a\":{\"password\":\"(left out)\",\"list\":[{\"url\":\"(left out)\",\"name\":\"z\"}]},\"b\":1}"
        );
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
