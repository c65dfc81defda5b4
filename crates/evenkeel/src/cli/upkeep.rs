//! Verbs of looking after a node: backups, lockdown, certificates, what happened, alerts.

use std::io::Write;
use std::path::Path;

use evenkeel_api as api;
use evenkeel_control::text::encoded;

use super::client::Client;
use super::live::{print_json, say};
use super::revisions::time;
use super::table::Table;
use super::{Common, Exit, Failure, Outcome};

fn write_out(common: &Common, file: Option<&Path>, value: &impl serde::Serialize, what: &str) -> Outcome {
    let bytes = serde_json::to_vec_pretty(value).map_err(anyhow::Error::from)?;
    match file {
        Some(file) => {
            let wrong = |e| Failure::new(Exit::Failed, format!("{} cannot be written: {e}", file.display()));
            evenkeel_files::write_private(file, &bytes).map_err(wrong)?;
            if common.json {
                return print_json(&serde_json::json!({ "file": file.display().to_string() }));
            }
            say(&format!("{what} is in {}", file.display()))
        }
        None => Ok(std::io::stdout().write_all(&bytes)?),
    }
}

pub fn backup(common: &Common, file: Option<&Path>) -> Outcome {
    let backup: api::Backup = Client::new(&common.socket).get("/api/v1/backup")?;
    write_out(common, file, &backup, "the backup")
}

pub fn restore(common: &Common, file: &Path, part: Option<&str>) -> Outcome {
    let text = super::read_file(file)?;
    let wrong = |e| Failure::new(Exit::Failed, format!("{} is no backup: {e}", file.display()));
    let backup: api::Backup = serde_json::from_str(&text).map_err(wrong)?;
    let path = part.map_or_else(|| "/api/v1/restore".to_owned(), |part| format!("/api/v1/restore?as={part}"));
    let restored: api::Restored = Client::new(&common.socket).post(&path, &backup)?;
    if common.json {
        return print_json(&restored);
    }
    let notes = restored.notes.iter().map(|n| format!("\n  {n}")).collect::<String>();
    say(&format!("restored as revision {}{notes}", restored.revision))
}

pub fn support_bundle(common: &Common, file: Option<&Path>) -> Outcome {
    let bundle: serde_json::Value = Client::new(&common.socket).get("/api/v1/support-bundle")?;
    write_out(common, file, &bundle, "the bundle, without secrets,")
}

pub fn lockdown(common: &Common) -> Outcome {
    let report: api::Lockdown = Client::new(&common.socket).post("/api/v1/lockdown", &())?;
    if common.json {
        return print_json(&report);
    }
    let mut text = String::new();
    report.done.iter().for_each(|line| text.push_str(&format!("done  {line}\n")));
    report.left.iter().for_each(|line| text.push_str(&format!("LEFT  {line}\n")));
    say(text.trim_end())
}

pub fn restart(common: &Common, part: &str) -> Outcome {
    let what = serde_json::json!({ "part": part });
    let started: api::Restarting = Client::new(&common.socket).post("/api/v1/restart", &what)?;
    if common.json { print_json(&started) } else { say(&started.detail) }
}

pub fn who_has(common: &Common, address: std::net::IpAddr) -> Outcome {
    let holders: Vec<api::Holder> =
        Client::new(&common.socket).get(&format!("/api/v1/who-has?address={address}"))?;
    if common.json {
        return print_json(&holders);
    }
    if holders.is_empty() {
        return say(&format!("no other machine on this node's networks answers for {address}"));
    }
    let mut table = Table::new(&["MAC", "INTERFACE", "KNOWN AS"], &[]);
    for holder in holders {
        let known = holder.known_as.map_or_else(|| "-".into(), |a| a.to_string());
        table.row(vec![holder.mac, holder.interface, known]);
    }
    say(table.to_string().trim_end())
}

/// What is done with certificates that are ordered and renewed by themselves.
#[derive(clap::Subcommand, Debug)]
pub enum CertificateVerb {
    /// List certificates: names, issuer, where they are used, when they end, the next attempt, the last error
    #[command(after_help = "Example: evenkeel cert list --json")]
    List,
    /// Order the certificate of a service anew, now
    #[command(after_help = "Example: evenkeel cert renew web")]
    Renew {
        /// The service
        name: String,
        /// As it always is
        #[arg(long)]
        now: bool,
    },
    /// Make one PEM file of a certificate, its chain and its key that come as DER, PKCS#12, PEM or with a passphrase
    #[command(after_help = "Example: evenkeel cert import www.p12 --passphrase-file secret --out www.pem")]
    Import(super::certificate_file::ImportArguments),
    /// Have the authority take back the certificate of a service, and order a new one
    #[command(after_help = "Example: evenkeel cert revoke web")]
    Revoke {
        /// The service
        name: String,
    },
}

pub fn certificates(
    common: &Common,
    verb: Option<CertificateVerb>,
    replace: Option<(String, std::path::PathBuf)>,
) -> Outcome {
    let client = Client::new(&common.socket);
    let path = |name: &str, what: &str| format!("/api/v1/certificates/{}/{what}", encoded(name));
    let all: Vec<api::Certificate> = match (verb, replace) {
        (Some(CertificateVerb::Renew { name, now: _ }), _) => vec![client.post(&path(&name, "renew"), &())?],
        (Some(CertificateVerb::Revoke { name }), _) => vec![client.post(&path(&name, "revoke"), &())?],
        (Some(CertificateVerb::Import(arguments)), _) => {
            return super::certificate_file::import(common, &arguments);
        }
        (Some(CertificateVerb::List) | None, None) => client.get("/api/v1/certificates")?,
        (_, Some((name, file))) => {
            let pem = super::read_file(&file)?;
            vec![client.put_text(&format!("/api/v1/certificates/{}", encoded(&name)), &pem)?]
        }
    };
    if common.json {
        return print_json(&all);
    }
    let mut table = Table::new(&["DAYS LEFT", "NAMES", "USED BY", "FILE", "ISSUER", "RENEWAL"], &[0]);
    for one in all {
        let (days, issuer) = match one.trouble {
            Some(trouble) => ("?".into(), trouble),
            None => (one.days_left.to_string(), one.issuer),
        };
        let renewal = one.managed.as_ref().map_or_else(String::new, renewal);
        table.row(vec![days, one.names.join(", "), one.used_by.join(", "), one.file, issuer, renewal]);
    }
    say(table.to_string().trim_end())
}

/// What becomes of a managed certificate, in words.
fn renewal(managed: &api::Managed) -> String {
    let at = |ms: Option<i64>| ms.map_or_else(|| "soon".into(), |ms| time(u64::try_from(ms).unwrap_or(0)));
    let error = managed.last_error.as_deref().unwrap_or("");
    match managed.state.as_str() {
        "ordering" => "being ordered".into(),
        "failed" => format!("again {}: {error}", at(managed.next_attempt_ms)),
        "passive" => "by the active node".into(),
        _ => at(managed.next_attempt_ms),
    }
}

pub fn happenings(common: &Common, limit: usize) -> Outcome {
    let all: Vec<api::Happening> =
        Client::new(&common.socket).get(&format!("/api/v1/happenings?limit={limit}"))?;
    if common.json {
        return print_json(&all);
    }
    let mut table = Table::new(&["TIME (UTC)", "KIND", "WHAT"], &[]);
    for one in all.into_iter().rev() {
        table.row(vec![time(one.time_ms), one.kind, one.text]);
    }
    say(table.to_string().trim_end())
}

pub fn test_alerts(common: &Common) -> Outcome {
    let tested: api::AlertsTested = Client::new(&common.socket).post("/api/v1/alerts/test", &())?;
    let failed = tested.receivers.iter().filter(|r| !r.sent).count();
    if common.json {
        print_json(&tested)?;
    } else {
        let mut table = Table::new(&["RECEIVER", "SENT", "SAID"], &[]);
        for one in tested.receivers {
            table.row(vec![one.receiver, if one.sent { "yes" } else { "NO" }.into(), one.detail]);
        }
        say(table.to_string().trim_end())?;
    }
    match failed {
        0 => Ok(()),
        n => Err(Failure::new(Exit::Failed, format!("{n} receivers did not take the message"))),
    }
}
