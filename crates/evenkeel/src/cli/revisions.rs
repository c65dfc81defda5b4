//! Verbs of the configuration's history.

use evenkeel_api as api;
use similar::TextDiff;

use super::client::Client;
use super::live::{author, print_committed, print_json, running_revision, say};
use super::table::Table;
use super::{Common, Outcome};

pub fn confirm(common: &Common) -> Outcome {
    let confirmed: api::Confirmed = Client::new(&common.socket).post("/api/v1/confirm", &())?;
    match common.json {
        true => print_json(&confirmed),
        false => say(&format!("revision {} stays", confirmed.revision)),
    }
}

pub fn rollback(common: &Common, revision: Option<u64>) -> Outcome {
    let client = Client::new(&common.socket);
    let base = Some(running_revision(&client)?);
    let request = api::Rollback { revision, author: Some(author()), base };
    let done: api::Committed = client.post("/api/v1/rollback", &request)?;
    print_committed(common, &done)
}

pub fn history(common: &Common) -> Outcome {
    let revisions: Vec<api::Revision> = Client::new(&common.socket).get("/api/v1/revisions")?;
    if common.json {
        return print_json(&revisions);
    }
    let mut table = Table::new(&["REVISION", "TIME (UTC)", "BY", "WHY"], &[0]);
    for one in revisions {
        table.row(vec![one.revision.to_string(), time(one.time_ms), one.author, one.message]);
    }
    say(table.to_string().trim_end())
}

pub fn diff(common: &Common, from: u64, to: Option<u64>) -> Outcome {
    let client = Client::new(&common.socket);
    let to = match to {
        Some(to) => to,
        None => client.get::<api::Status>("/api/v1/status")?.revision,
    };
    let text = |revision: u64| client.get::<api::RevisionText>(&format!("/api/v1/revisions/{revision}"));
    let (old, new) = (text(from)?.text, text(to)?.text);
    let difference = TextDiff::from_lines(&old, &new);
    let (old_name, new_name) = (format!("revision {from}"), format!("revision {to}"));
    let unified = difference.unified_diff().context_radius(3).header(&old_name, &new_name).to_string();
    match common.json {
        true => print_json(&serde_json::json!({ "from": from, "to": to, "diff": unified })),
        false => say(if unified.is_empty() { "nothing differs" } else { unified.trim_end() }),
    }
}

/// A moment, of the wall clock.
pub fn time(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |t| t.strftime("%F %T").to_string())
}
