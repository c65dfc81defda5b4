//! `evenkeel server`: real servers that come, change and go while the program runs.

use std::time::Duration;

use clap::{Args, Subcommand};
use evenkeel_api as api;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::live::{print_json, say};
use super::table::{Table, age};
use super::{Common, Exit, Failure, Outcome, ServerName, duration};

#[derive(Debug, Subcommand)]
pub enum ServerVerb {
    /// Add a real server that the file does not have
    #[command(
        after_help = "It is on both nodes of a pair, and is held against the same rules as one of the file.\nExamples: evenkeel server add web/web3 --address 10.0.0.3:8080 --weight 50\n          evenkeel server add web/web4 --address web4.internal:8080 --expires 5m\n          evenkeel server add web/web5 --address 10.0.0.5:443 --key 'server-tls={ sni = \"a.example.org\" }'"
    )]
    Add(Arguments),
    /// Set keys of a real server, of the file or added; the file itself stays as it is
    #[command(
        after_help = "What is set of a server of the file lasts until the file says something new of it, or `evenkeel server remove`.\nExample: evenkeel server set web/web1 --address 10.0.0.9:8080"
    )]
    Set(Arguments),
    /// Remove a real server that was added, or take back what was set of one of the file
    #[command(
        after_help = "Its connections finish; new clients go elsewhere.\nExample: evenkeel server remove web/web3"
    )]
    Remove {
        #[arg(value_name = "POOL/NAME")]
        server: ServerName,
    },
    /// List what was added or set
    #[command(after_help = "Example: evenkeel server list --json")]
    List,
}

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(value_name = "POOL/NAME")]
    server: ServerName,
    /// Where it is, such as 10.0.0.3:8080 or web3.internal:8080
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<String>,
    /// Its share beside the other servers
    #[arg(long)]
    weight: Option<u16>,
    /// Requests or connections at a time
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// Takes clients only while no other server of the pool can
    #[arg(long)]
    backup: bool,
    /// What a persistence cookie names it by
    #[arg(long)]
    cookie: Option<String>,
    /// Any other key of [[pool.real-server]], with a value as in the file
    #[arg(long, value_name = "KEY=VALUE")]
    key: Vec<String>,
    /// It goes by itself after this time, such as 5m
    #[arg(long, value_parser = duration, value_name = "TIME")]
    expires: Option<Duration>,
}

impl Arguments {
    fn keys(&self) -> Result<api::ServerKeys, Failure> {
        let mut keys = Map::new();
        for pair in &self.key {
            let wrong =
                || Failure::new(Exit::Usage, format!("{pair:?} is not KEY=VALUE, such as check=false"));
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            let read = evenkeel_config::values(&format!("value = {value}"));
            let text = || evenkeel_config::values(&format!("value = {value:?}"));
            let read = read.get("value").cloned().or_else(|| text().get("value").cloned());
            keys.insert(key.trim().to_owned(), read.filter(|v| !v.is_null()).ok_or_else(wrong)?);
        }
        let mut set = |key: &str, value: Option<Value>| {
            keys.extend(value.map(|value| (key.to_owned(), value)));
        };
        set("address", self.address.as_ref().map(|a| json!(a)));
        set("weight", self.weight.map(|w| json!(w)));
        set("max-connections", self.max_connections.map(|n| json!(n)));
        set("backup", self.backup.then(|| json!(true)));
        set("cookie", self.cookie.as_ref().map(|c| json!(c)));
        Ok(api::ServerKeys { expires: self.expires.map(|time| format!("{}ms", time.as_millis())), keys })
    }
}

fn path(name: &ServerName) -> String {
    format!("/api/v1/run-time-servers/{}/{}", super::encoded(&name.service), super::encoded(&name.server))
}

pub fn run(common: &Common, verb: ServerVerb) -> Outcome {
    let client = Client::new(&common.socket);
    match verb {
        ServerVerb::Add(arguments) => {
            let keys = arguments.keys()?;
            if !keys.keys.contains_key("address") {
                let why = "a real server that is added needs --address, such as --address 10.0.0.3:8080";
                return Err(Failure::new(Exit::Usage, why));
            }
            told(common, &client.post(&path(&arguments.server), &keys)?, "is added")
        }
        ServerVerb::Set(arguments) => {
            let keys = arguments.keys()?;
            if keys.keys.is_empty() && keys.expires.is_none() {
                let why = "nothing is set: say --address, --weight, --key or --expires";
                return Err(Failure::new(Exit::Usage, why));
            }
            told(common, &client.put(&path(&arguments.server), &keys)?, "is set")
        }
        ServerVerb::Remove { server } => {
            let gone: api::RunTimeServer = client.delete(&path(&server))?;
            let what =
                if gone.added { "is removed; its connections finish" } else { "is as the file says again" };
            match common.json {
                true => print_json(&gone),
                false => say(&format!("{}/{} {what}", gone.pool, gone.name)),
            }
        }
        ServerVerb::List => list(common, &client.get::<Vec<_>>("/api/v1/run-time-servers")?),
    }
}

fn told(common: &Common, server: &api::RunTimeServer, what: &str) -> Outcome {
    if common.json {
        return print_json(server);
    }
    say(&format!("{}/{} {what}: {}{}", server.pool, server.name, keys_of(server), ends(server)))
}

fn keys_of(server: &api::RunTimeServer) -> String {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words: Vec<String> = server.keys.iter().map(|(k, v)| format!("{k} {}", shown(v))).collect();
    words.join(", ")
}

/// When it goes, if it does.
fn ends(server: &api::RunTimeServer) -> String {
    let now = evenkeel_control::wall_ms();
    server.until_ms.map_or_else(String::new, |at| format!(", goes in {}", age(at.saturating_sub(now))))
}

fn list(common: &Common, all: &[api::RunTimeServer]) -> Outcome {
    if common.json {
        return print_json(&all);
    }
    if all.is_empty() {
        return say("no real server was added or set at run time");
    }
    let mut table = Table::new(&["SERVER", "WHAT", "SINCE", "BY", "KEYS"], &[]);
    let now = evenkeel_control::wall_ms();
    for server in all {
        let what = if server.added { "added" } else { "set" };
        let why_not = server.why_not_in_use.as_ref();
        let why_not = why_not.map_or_else(String::new, |why| format!("  NOT IN USE: {why}"));
        table.row(vec![
            format!("{}/{}", server.pool, server.name),
            what.into(),
            age(now.saturating_sub(server.since_ms)),
            server.by.clone(),
            format!("{}{}{why_not}", keys_of(server), ends(server)),
        ]);
    }
    say(table.to_string().trim_end())
}
