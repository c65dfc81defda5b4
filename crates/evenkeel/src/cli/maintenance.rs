//! `evenkeel maintenance`: times in which real servers take no new clients.

use std::time::Duration;

use clap::Subcommand;
use evenkeel_api as api;
use evenkeel_control::text::encoded;
use evenkeel_control::wall_ms;
use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, ToSpan, Zoned};

use super::client::Client;
use super::live::{print_json, say};
use super::revisions::time;
use super::table::Table;
use super::{Common, Outcome, ServerName, duration};

#[derive(Debug, Subcommand)]
pub enum MaintenanceVerb {
    /// Drain real servers at a time, and have them back by themselves
    #[command(
        after_help = "Both nodes of a pair know it. Servers that somebody has drained or halted before stay as they are.\nExample: evenkeel maintenance plan web/web1 mail/web1 --at 02:00 --for 2h --message 'new disks'"
    )]
    Plan {
        #[arg(required = true, value_name = "SERVICE/SERVER")]
        servers: Vec<ServerName>,
        /// When: 02:00 (the next one), 2026-12-01T02:00, or with a time zone 2026-12-01T02:00+01:00; at once without it
        #[arg(long, value_parser = moment, value_name = "TIME")]
        at: Option<u64>,
        /// For how long
        #[arg(long = "for", value_parser = duration, value_name = "TIME")]
        long: Duration,
        /// Close their connections, too
        #[arg(long)]
        halt: bool,
        /// Why
        #[arg(long, short, value_name = "TEXT")]
        message: Option<String>,
    },
    /// List those to come and those that are on
    #[command(after_help = "Example: evenkeel maintenance list --json")]
    List,
    /// End one now, or drop one that has not begun
    #[command(after_help = "Example: evenkeel maintenance list, then: evenkeel maintenance end ID")]
    End { id: String },
}

/// Milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    read_moment(text, &Zoned::now()).ok_or_else(|| {
        "a time is 02:00, 2026-12-01T02:00 (of this machine's time zone) or 2026-12-01T02:00+01:00".into()
    })
}

fn read_moment(text: &str, now: &Zoned) -> Option<u64> {
    let zone = now.time_zone().clone();
    let at = if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else if let Ok(at) = text.parse::<DateTime>() {
        at.to_zoned(zone).ok()?.timestamp()
    } else {
        let clock: Time = text.parse().ok()?;
        let today = now.date().to_datetime(clock).to_zoned(zone).ok()?;
        let next = if today > *now { today } else { today.checked_add(1.day()).ok()? };
        next.timestamp()
    };
    u64::try_from(at.as_millisecond()).ok()
}

pub fn run(common: &Common, verb: MaintenanceVerb) -> Outcome {
    let client = Client::new(&common.socket);
    let all: Vec<api::MaintenanceWindow> = match verb {
        MaintenanceVerb::List => client.get("/api/v1/maintenance")?,
        MaintenanceVerb::End { id } => vec![client.delete(&format!("/api/v1/maintenance/{}", encoded(&id)))?],
        MaintenanceVerb::Plan { servers, at, long, halt, message } => {
            let planned = api::PlannedMaintenance {
                servers: servers.iter().map(|s| format!("{}/{}", s.service, s.server)).collect(),
                from_ms: at,
                until_ms: at.unwrap_or_else(wall_ms).saturating_add(long.as_millis() as u64),
                admin_state: halt.then(|| "halted".to_owned()),
                message,
            };
            vec![client.post("/api/v1/maintenance", &planned)?]
        }
    };
    if common.json {
        return print_json(&all);
    }
    if all.is_empty() {
        return say("no maintenance is planned");
    }
    let mut table = Table::new(&["ID", "FROM", "UNTIL", "NOW", "SERVERS", "STATE", "BY", "WHY"], &[]);
    for one in all {
        let now = if one.begun { "on" } else { "to come" };
        let servers = one.servers.join(", ");
        let (from, until) = (time(one.from_ms), time(one.until_ms));
        table.row(vec![one.id, from, until, now.into(), servers, one.admin_state, one.by, one.message]);
    }
    say(table.to_string().trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(1));
        let now = "2026-11-28T11:00:00Z".parse::<Timestamp>().unwrap().to_zoned(zone);
        let check = |text: &str, expect: &str| {
            let expect = expect.parse::<Timestamp>().unwrap().as_millisecond();
            assert_eq!(read_moment(text, &now), Some(expect as u64), "{text}");
        };
        check("13:30", "2026-11-28T12:30:00Z");
        check("02:00", "2026-11-29T01:00:00Z");
        check("2026-12-01T02:00", "2026-12-01T01:00:00Z");
        check("2026-12-01 02:00", "2026-12-01T01:00:00Z");
        check("2026-12-01T02:00:00+05:00", "2026-11-30T21:00:00Z");
        for wrong in ["", "tomorrow", "25:00", "2026-13-01T00:00"] {
            assert_eq!(read_moment(wrong, &now), None, "{wrong}");
        }
    }
}
