//! The stats socket: HAProxy's runtime commands (its management guide, section 9.3).

use std::sync::Arc;

use evenkeel_admin::Request;
use evenkeel_api as api;
use evenkeel_import::{Proxy, ProxyKind, Server, StickTable};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::certificates;
use super::maps::{self, FileKind};
use super::sample::Known;
use super::servers;
use super::sockets::Door;
use super::ssl;
use super::statistics::{self, Selection, check_status, status_number};
use super::stick_table;
use super::talk;
use evenkeel_admin::connected::Conversation;

/// Clients at a time, of one door.
const CLIENTS: usize = 64;
/// Silence after which a client is let go.
const IDLE: std::time::Duration = std::time::Duration::from_secs(10);
/// The same of one who wants a prompt: a person.
const IDLE_PERSON: std::time::Duration = std::time::Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    User,
    Operator,
    Admin,
}

impl Level {
    pub fn of(word: &str) -> Level {
        match word {
            "admin" => Level::Admin,
            "user" => Level::User,
            _ => Level::Operator,
        }
    }
}

const HELP: &str = "The following commands are valid at this level:
  add acl|map [@<ver>] <file> <entry>   : add an entry, or a payload of them, to a list or a map
  add server <bk>/<srv>                   : create a new server
  add ssl crt-list <list> <cert> [options]: add to crt-list file <list> a line <cert> or a payload
  abort ssl ca-file|crl-file <file>       : abort a transaction for a CA or CRL file
  abort ssl cert <certfile>               : abort a transaction for a certificate file
  clear acl|map [@<ver>] <file>         : remove all entries of a list or a map
  clear counters [all]                    : clear max statistics counters
  clear table <table> [<filter>]*         : remove an entry from a table (filter: key)
  commit acl|map @<ver> <file>          : put a prepared version of a list or a map in place
  commit ssl ca-file|crl-file <file>      : commit a CA or CRL file
  commit ssl cert <certfile>              : commit a certificate file
  del acl|map <file> [<key>|#<ref>]     : remove entries of a list or a map
  del server <bk>/<srv>                   : remove a dynamically added server
  del ssl cert <certfile>                 : delete an unused certificate file
  del ssl crt-list <list> <cert[:line]>   : delete a line <cert> from crt-list file <list>
  disable agent                           : disable agent checks
  disable health                          : disable health checks
  disable server (DEPRECATED)             : disable a server for maintenance (use 'set server' instead)
  debug dev log <text>                    : write a line to the log (needs expert-mode)
  expert-mode on|off                      : let this session use commands for developers
  enable agent                            : enable agent checks
  enable health                           : enable health checks
  enable server  (DEPRECATED)             : enable a disabled server (use 'set server' instead)
  get acl|map <file> <key>              : look an entry of a list or a map up
  get weight <bk>/<srv>                   : report a server's current weight
  new ssl cert <certfile>                 : create a new certificate file to be used in a crt-list
  prepare acl|map <file>                : begin a new version of a list or a map
  operator                                : lower the level of the current CLI session to operator
  set map <file> [<key>|#<ref>] <value> : change entries of a map
  set server <bk>/<srv> [opts]            : change a server's state, weight or address
  set ssl ca-file|crl-file <file> <payload>: replace a CA or CRL file
  set ssl cert <certfile> <payload>       : replace a certificate file
  set weight <bk>/<srv>  (DEPRECATED)     : change a server's weight (use 'set server' instead)
  show acl|map [@<ver>] [<file>]        : list lists and maps, or the entries of one
  show backend                            : list backends in the current running config
  show cli level                          : display the level of the current CLI session
  show cli sockets                        : dump list of cli sockets
  show env [var]                          : dump environment variables known to the process
  show info [desc|json|typed|float]*      : report information about the running process
  show resolvers [id]                     : dumps counters from all resolvers section and associated name servers
  show servers conn [<backend>]           : dump server connections status (all or for a single backend)
  show servers state [<backend>]          : dump volatile server information (all or for a single backend)
  show sess                               : report the list of current sessions
  show ssl ca-file|crl-file [<file>]      : display the CA or CRL files, or the details of a file
  show ssl crt-list [-n] [<list>]         : show the list of crt-lists or the content of a crt-list file <list>
  show ssl cert [<certfile>]              : display the SSL certificates used in memory, or the details of a file
  show stat [desc|json|no-maint|typed|up]*: report counters for each proxy and server
  show table <table> [<filter>]*          : report table usage stats or dump this table's contents (filter: key)
  show version                            : show version of the current process
  user                                    : lower the level of the current CLI session to user
  help [<command>]                        : list matching or all commands
  prompt                                  : toggle interactive mode with prompt
  quit                                    : disconnect
";

/// HAProxy's commands that are known and not there.
const MISSING: &[&str] = &[
    "disable dynamic-cookie",
    "disable frontend",
    "enable dynamic-cookie",
    "enable frontend",
    "get var",
    "set dynamic-cookie-key",
    "set maxconn",
    "set profiling",
    "set rate-limit",
    "set severity-output",
    "set ssl ocsp-response",
    "set ssl tls-key",
    "set table",
    "set timeout",
    "set var",
    "show activity",
    "show cache",
    "show errors",
    "show events",
    "show fd",
    "show libs",
    "show peers",
    "show pools",
    "show profiling",
    "show schema",
    "show ssl ocsp-response",
    "show startup-logs",
    "show tasks",
    "show threads",
    "show tls-keys",
    "show trace",
    "shutdown frontend",
    "shutdown session",
    "trace",
    "debug",
];

/// What `set server` says of a server's place.
const PLACES: &[&str] = &["addr", "check-addr", "check-port", "fqdn", "ssl"];

/// Serves a door until the process ends.
pub fn serve(door: Door, level: Level, known: Arc<Known>) {
    door.serve(CLIENTS, move |stream, conversation| {
        let known = known.clone();
        async move { session(stream, level, &known, &conversation).await }
    });
}

struct Session<'a> {
    known: &'a Known,
    level: Level,
    prompt: bool,
    /// `expert-mode on` was said.
    expert: bool,
    ended: bool,
}

async fn session<S>(stream: S, level: Level, known: &Known, conversation: &Conversation)
where
    S: AsyncRead + AsyncWrite,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::new(reader);
    let mut session = Session { known, level, prompt: false, expert: false, ended: false };
    loop {
        let mut line = Vec::new();
        let idle = if session.prompt { IDLE_PERSON } else { IDLE };
        let read =
            tokio::time::timeout(idle, (&mut reader).take(talk::LONGEST).read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(n)) if n > 0) {
            return;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        if talk::is_of_http(&text) {
            return;
        }
        let mut out = String::new();
        let payload = match certificates::wants_payload(&text) {
            false => String::new(),
            true => match talk::payload(&mut reader, idle).await {
                Some(payload) => payload,
                None => return,
            },
        };
        conversation.prove();
        let under_way = conversation.begin();
        for command in split_commands(text.trim_end_matches(['\r', '\n'])) {
            let words = words_of(&command);
            if words.is_empty() {
                continue;
            }
            out.push_str(&session.carry_out(&words, &payload).await);
            // Each answer ends with an empty line.
            out.push('\n');
            if session.ended {
                break;
            }
        }
        if session.prompt && !session.ended {
            out.push_str("> ");
        }
        // Who does not read the answer keeps nobody out.
        drop(under_way);
        if !talk::give(&mut writer, out.as_bytes(), idle).await || session.ended || !session.prompt {
            let _ = writer.shutdown().await;
            return;
        }
    }
}

/// Commands are separated by `;`, unless it is escaped.
pub fn split_commands(line: &str) -> Vec<String> {
    let mut commands = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let last = commands.len() - 1;
        match c {
            '\\' => {
                commands[last].push('\\');
                commands[last].extend(chars.next());
            }
            ';' => commands.push(String::new()),
            c => commands[last].push(c),
        }
    }
    commands
}

fn words_of(command: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

impl Session<'_> {
    async fn carry_out(&mut self, words: &[String], payload: &str) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["help", ..] => HELP.into(),
            ["quit"] => {
                self.ended = true;
                String::new()
            }
            ["prompt", ..] => {
                self.prompt = !self.prompt;
                String::new()
            }
            ["user"] => {
                self.level = Level::User;
                String::new()
            }
            ["operator"] => {
                self.level = self.level.min(Level::Operator);
                String::new()
            }
            ["expert-mode", how @ ("on" | "off")] => match self.allowed(Level::Admin) {
                Ok(()) => {
                    self.expert = *how == "on";
                    String::new()
                }
                Err(no) => no,
            },
            ["debug", "dev", "log", rest @ ..] if self.expert => {
                super::journal::remark(&self.known.running.process, &rest.join(" "));
                String::new()
            }
            ["show", rest @ ..] => self.show(rest).await,
            ["get", "weight", place, ..] => self.get_weight(place).await,
            ["get", kind @ ("map" | "acl"), file, key] => match FileKind::of(kind) {
                Some(kind) => maps::get(self.known, kind, file, key).await,
                None => unknown(&words),
            },
            [
                what @ ("add" | "del" | "set" | "clear" | "prepare" | "commit"),
                kind @ ("map" | "acl"),
                rest @ ..,
            ] => match (self.allowed(Level::Operator), FileKind::of(kind)) {
                (Ok(()), Some(kind)) => maps::change(self.known, what, kind, rest, payload).await,
                (Err(no), _) => no,
                (_, None) => unknown(&words),
            },
            ["clear", "counters", ..] => self.allowed(Level::Operator).map_or_else(
                |no| no,
                |()| {
                    self.known.forget_maxima();
                    String::new()
                },
            ),
            ["clear", "table", rest @ ..] => match self.allowed(Level::Operator) {
                Ok(()) => self.clear_table(rest).await,
                Err(no) => no,
            },
            [what @ ("set" | "commit" | "abort" | "new" | "add" | "del"), "ssl", rest @ ..] => {
                match self.allowed(Level::Admin) {
                    Ok(()) => {
                        let done = ssl::change(self.known, what, rest, payload).await;
                        done.unwrap_or_else(|| unknown(&words))
                    }
                    Err(no) => no,
                }
            }
            [what @ ("add" | "del"), "server", rest @ ..] => match (self.allowed(Level::Admin), *what) {
                (Err(no), _) => no,
                (Ok(()), "add") => servers::add(self.known, rest).await,
                (Ok(()), _) => servers::delete(self.known, rest).await,
            },
            ["set" | "enable" | "disable", ..] => match self.allowed(Level::Admin) {
                Ok(()) => self.change(&words).await,
                Err(no) => no,
            },
            _ => unknown(&words),
        }
    }

    fn allowed(&self, level: Level) -> Result<(), String> {
        if self.level >= level { Ok(()) } else { Err("Permission denied\n".into()) }
    }

    async fn show(&self, words: &[&str]) -> String {
        match words {
            ["cli", "level"] => format!("{:?}\n", self.level).to_lowercase(),
            ["cli", "sockets"] => {
                let each =
                    self.known.running.sockets.iter().map(|s| format!("{} {} all\n", s.place, s.level));
                format!("# socket lvl processes\n{}", each.collect::<String>())
            }
            ["version"] => format!("{}-evenkeel-{}\n", super::VERSION, env!("CARGO_PKG_VERSION")),
            ["backend", ..] => {
                let backends = self.known.running.proxies.iter().filter(|p| p.kind != ProxyKind::Frontend);
                format!("# name\n{}", backends.map(|p| format!("{}\n", p.name)).collect::<String>())
            }
            ["env", name, ..] => std::env::var(name)
                .map_or_else(|_| "Variable not found\n".into(), |value| format!("{name}={value}\n")),
            ["env"] => match self.allowed(Level::Operator) {
                Ok(()) => std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect(),
                Err(no) => no,
            },
            ["stat", rest @ ..] => self.show_stat(rest).await,
            ["info", rest @ ..] => self.show_info(rest).await,
            ["servers", what @ ("state" | "conn"), rest @ ..] => self.show_servers(what, rest).await,
            ["table", rest @ ..] => self.show_table(rest).await,
            ["ssl", rest @ ..] => match self.allowed(Level::Operator) {
                Ok(()) => {
                    let shown = ssl::show(self.known, rest).await;
                    shown.unwrap_or_else(|| unknown(&[&["show"], words].concat()))
                }
                Err(no) => no,
            },
            ["sess", ..] => self.show_sessions().await,
            [kind @ ("map" | "acl"), rest @ ..] => match FileKind::of(kind) {
                Some(kind) => maps::show(self.known, kind, rest).await,
                None => unknown(&[&["show"], words].concat()),
            },
            ["resolvers", rest @ ..] => servers::resolvers(self.known, rest).await,
            _ => unknown(&[&["show"], words].concat()),
        }
    }

    async fn show_stat(&self, words: &[&str]) -> String {
        let Some(status) = self.known.status().await else { return stopping() };
        let mut selection = Selection::default();
        let (mut typed, mut json) = (false, false);
        let mut numbers = 0;
        for word in words {
            match *word {
                "typed" => typed = true,
                "json" => json = true,
                "up" => selection.only_up = true,
                "no-maint" => selection.no_maintenance = true,
                "desc" | "float" => {}
                word => {
                    let number = word.parse::<i64>().ok();
                    let of_name = self.known.running.proxies.iter().find(|p| p.name == word);
                    match numbers {
                        0 => {
                            selection.proxy = number.or(of_name.map(|p| i64::from(p.id)));
                            if selection.proxy.is_none() {
                                return "No such proxy.\n".into();
                            }
                        }
                        1 => selection.kinds = number,
                        _ => selection.server = number,
                    }
                    numbers += 1;
                }
            }
        }
        let rows = statistics::rows(self.known, &status, &selection);
        match (typed, json) {
            (true, _) => statistics::typed(&rows),
            (_, true) => statistics::json(&rows) + "\n",
            _ => statistics::csv(&rows),
        }
    }

    async fn show_info(&self, words: &[&str]) -> String {
        let Some(status) = self.known.status().await else { return stopping() };
        let uptime = self.known.started.elapsed().as_secs();
        let of_all = |read: fn(&api::Service) -> u64| status.virtual_services.iter().map(read).sum::<u64>();
        let (day, hour, minute, second) =
            (uptime / 86_400, uptime / 3600 % 24, uptime / 60 % 60, uptime % 60);
        let rate: u64 =
            self.known.running.proxies.iter().map(|p| self.known.sample_of(&p.name, "FRONTEND").rate).sum();
        let node = self.known.running.process.node.clone().unwrap_or_else(super::process::host_name);
        let mut lines: Vec<(&str, String)> = vec![
            ("Name", "HAProxy".into()),
            ("Version", format!("{}-evenkeel-{}", super::VERSION, env!("CARGO_PKG_VERSION"))),
            ("Nbthread", status.workers.to_string()),
            ("Nbproc", "1".into()),
            ("Process_num", "1".into()),
            ("Pid", std::process::id().to_string()),
            ("Uptime", format!("{day}d {hour}h{minute:02}m{second:02}s")),
            ("Uptime_sec", uptime.to_string()),
            ("Maxconn", self.known.max_connections.to_string()),
            ("Hard_maxconn", self.known.max_connections.to_string()),
            ("CurrConns", status.connections.to_string()),
            ("CumConns", of_all(|s| s.total_connections).to_string()),
            ("CumReq", of_all(|s| s.requests).to_string()),
            ("ConnRate", rate.to_string()),
            ("SessRate", rate.to_string()),
            ("node", node),
            ("Stopping", "0".into()),
            ("TotalBytesOut", of_all(|s| s.bytes_out).to_string()),
        ];
        if let Some(description) = &self.known.running.process.description {
            lines.push(("description", description.clone()));
        }
        if words.contains(&"json") {
            let all = lines.iter().enumerate().map(|(at, (name, value))| {
                let value = match value.parse::<u64>() {
                    Ok(number) => serde_json::json!({ "type": "u64", "value": number }),
                    Err(_) => serde_json::json!({ "type": "str", "value": value }),
                };
                serde_json::json!({ "field": { "pos": at, "name": name }, "processNum": 1, "value": value })
            });
            return serde_json::Value::from(all.collect::<Vec<_>>()).to_string() + "\n";
        }
        let typed = words.contains(&"typed");
        let line = |(at, (name, value)): (usize, &(&str, String))| {
            let kind = if value.parse::<u64>().is_ok() { "u64" } else { "str" };
            if typed { format!("{at}.{name}.1:POS:{kind}:{value}\n") } else { format!("{name}: {value}\n") }
        };
        lines.iter().enumerate().map(line).collect()
    }

    async fn show_servers(&self, what: &str, words: &[&str]) -> String {
        let Some(status) = self.known.status().await else { return stopping() };
        let only = words.first();
        let all = self.known.now(&status);
        if only.is_some_and(|name| !all.iter().any(|n| n.proxy.name == **name && n.backend.is_some())) {
            return "Can't find backend.\n".into();
        }
        let mut out = match what {
            "state" => "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n".to_owned(),
            _ => "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim idle_cur idle_per_thr[1]\n".into(),
        };
        for now in all.iter().filter(|n| only.is_none_or(|name| n.proxy.name == **name)) {
            let Some(backend) = &now.backend else { continue };
            for ((server, shown), id) in backend.servers.iter().zip(&backend.ids) {
                let Some(shown) = shown else { continue };
                let (address, port) = shown.address.rsplit_once(':').unwrap_or((&shown.address, "0"));
                let address = address.trim_matches(['[', ']']);
                let proxy = now.proxy;
                if what == "conn" {
                    let current = shown.current_connections;
                    out.push_str(&format!(
                        "{}/{} {}/{id} {address} {port} - 0 {current} {current} 0 0 0 -1 0 0\n",
                        proxy.name, server.name, proxy.id
                    ));
                    continue;
                }
                let up = if shown.state == "up" && shown.admin_state != "halted" { 2 } else { 0 };
                let admin = match shown.admin_state.as_str() {
                    "halted" => 1,
                    "draining" => 8,
                    _ => 0,
                };
                let outcome = shown.check.outcome.as_deref().filter(|_| server.checked);
                let check = outcome.map_or(1, |o| status_number(check_status(o, shown.check.layer).0));
                let (result, health) = match (outcome, shown.state.as_str()) {
                    (None, _) => (0, server.rise),
                    (Some("passed"), "up") => (3, server.rise + server.fall - 1),
                    (Some(outcome), state) => {
                        (if outcome == "passed" { 3 } else { 2 }, if state == "up" { server.rise } else { 0 })
                    }
                };
                // Configured and enabled; paused as well.
                let state = match (server.checked, shown.admin_state.as_str()) {
                    (false, _) => 0,
                    (true, "halted") => 14,
                    (true, _) => 6,
                };
                let host = shown.host.as_deref().unwrap_or("-");
                let tls = self.known.added.tls(&proxy.name, server);
                let initial = shown.configured_weight.unwrap_or(shown.weight);
                let seconds = evenkeel_control::wall_ms().saturating_sub(shown.check.since_ms) / 1000;
                out.push_str(&format!(
                    "{} {} {id} {} {address} {up} {admin} {} {initial} {seconds} {check} {result} {health} {state} 0 0 0 {host} {port} - {tls} 0 - - 0\n",
                    proxy.id, proxy.name, server.name, shown.weight
                ));
            }
        }
        out
    }

    /// Where the entries of a table are: in that of routes, or in that of the proxy's pool.
    fn place_of(&self, table: &StickTable) -> Option<String> {
        let of_proxy = || self.known.running.proxies.iter().find(|p| p.name == table.name)?.pool.clone();
        table.counted.clone().or_else(of_proxy)
    }

    async fn entries(&self, table: &StickTable) -> Vec<api::PersistenceEntry> {
        let Some(service) = self.place_of(table) else { return Vec::new() };
        let found = self.known.ask(|reply| Request::Persistence { service, reply }).await;
        found.and_then(Result::ok).unwrap_or_default()
    }

    async fn show_table(&self, words: &[&str]) -> String {
        let only = words.first();
        let mut out = String::new();
        let all = self.known.running.tables.iter().filter(|t| only.is_none_or(|name| t.name == **name));
        for table in all {
            let entries = self.entries(table).await;
            let StickTable { name, kind, size, .. } = table;
            out.push_str(&format!("# table: {name}, type: {kind}, size:{size}, used:{}\n", entries.len()));
            if only.is_none() {
                continue;
            }
            let proxy = self.known.running.proxies.iter().find(|p| p.name == *name);
            let key = words.iter().position(|w| *w == "key").and_then(|at| words.get(at + 1));
            let key = key.map(|key| stick_table::own_key(kind, key));
            let wanted = |e: &&api::PersistenceEntry| key.as_ref().is_none_or(|key| e.key == *key);
            for (at, entry) in entries.iter().enumerate().filter(|(_, e)| wanted(e)) {
                let servers = proxy.map(|proxy| self.known.added.all(proxy)).unwrap_or_default();
                let server = servers.iter().find(|(s, _)| Some(&s.own) == entry.real_server.as_ref());
                let named = server.map_or_else(String::new, |(server, id)| {
                    format!(" server_id={id} server_name={}", server.name)
                });
                let counted = stick_table::counted(table, entry);
                out.push_str(&format!(
                    "{:#x}: key={} use={} exp={} shard=0{named}{counted}\n",
                    at + 1,
                    stick_table::shown_key(kind, &entry.key),
                    entry.activity.as_ref().map_or(0, |activity| activity.current),
                    entry.expires_in_ms
                ));
            }
        }
        match (out.is_empty(), only) {
            (true, Some(_)) => "No such table\n".into(),
            _ => out,
        }
    }

    async fn clear_table(&self, words: &[&str]) -> String {
        let all = &self.known.running.tables;
        let found = words.first().and_then(|name| all.iter().find(|table| table.name == **name));
        let Some(table) = found else {
            return if words.is_empty() {
                "\"table\" expects a table name\n".into()
            } else {
                "No such table\n".into()
            };
        };
        let key = match words[1..] {
            [] => None,
            ["key", key] => Some(stick_table::own_key(&table.kind, key)),
            _ => return "Only 'key' is supported as a filter\n".into(),
        };
        let Some(pool) = self.place_of(table) else { return String::new() };
        let done = self
            .known
            .ask(|reply| Request::ClearPersistence { service: pool, key: key.clone(), reply })
            .await;
        match done {
            Some(Ok(_)) => String::new(),
            Some(Err(_)) if key.is_some() => "Key not found.\n".into(),
            // A table that keeps nobody holds nothing.
            Some(Err(_)) => String::new(),
            None => stopping(),
        }
    }

    async fn show_sessions(&self) -> String {
        let filter = api::ConnectionFilter::default();
        let Some(all) = self.known.ask(|reply| Request::Connections { filter, reply }).await else {
            return stopping();
        };
        let mut out = String::new();
        for (at, c) in all.iter().enumerate() {
            let server = c.real_server.as_deref().unwrap_or("<none>");
            out.push_str(&format!(
                "{:#x}: proto=tcpv4 src={} fe={} be={} srv={server} age={}s calls=1 rate=0\n",
                at + 1,
                c.client,
                c.service,
                c.service,
                c.age_ms / 1000
            ));
        }
        out
    }

    /// The backend and the server of `backend/server`.
    fn find(&self, place: &str) -> Result<(&Proxy, Server), String> {
        let Some((backend, server)) = place.split_once('/') else {
            return Err("Require 'backend/server'.\n".into());
        };
        let proxy = servers::backend(self.known, backend).ok_or("No such backend.\n")?;
        let found = servers::server(self.known, proxy, server);
        Ok((proxy, found.ok_or("No such server.\n")?))
    }

    async fn shown(&self, place: &str) -> Result<api::RealServer, String> {
        let (proxy, server) = self.find(place)?;
        let status = self.known.status().await.ok_or_else(stopping)?;
        let all = self.known.now(&status);
        let now = all.iter().find(|n| n.proxy.name == proxy.name && n.backend.is_some());
        let servers = now.and_then(|n| n.backend.as_ref()).map(|b| &b.servers);
        let found = servers.and_then(|all| all.iter().find(|(known, _)| known.name == server.name)?.1);
        found.cloned().ok_or_else(|| "No such server.\n".into())
    }

    async fn get_weight(&self, place: &str) -> String {
        match self.shown(place).await {
            Ok(shown) => {
                format!("{} (initial {})\n", shown.weight, shown.configured_weight.unwrap_or(shown.weight))
            }
            Err(why) => why,
        }
    }

    async fn change(&self, words: &[&str]) -> String {
        let state = |word| api::ServerChange { admin_state: Some(word), ..api::ServerChange::default() };
        let outcome = match words {
            ["set", "server"] => Err("Require 'backend/server'.\n".to_owned()),
            ["set", "server", place, "state", word] => match *word {
                "ready" => self.order(place, state("online".to_owned())).await,
                "drain" => self.order(place, state("draining".to_owned())).await,
                "maint" => self.order(place, state("halted".to_owned())).await,
                _ => self
                    .find(place)
                    .and(Err("'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n".to_owned())),
            },
            ["set", "server", place, "state"] => self
                .find(place)
                .and(Err("'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n".to_owned())),
            ["set", "server", place, "weight", weight] | ["set", "weight", place, weight] => {
                self.set_weight(place, weight).await
            }
            ["set", "weight", ..] => Err("Require <weight> or <weight%>.\n".to_owned()),
            ["set", "server", place, rest @ ..] if !rest.is_empty() && PLACES.contains(&rest[0]) => {
                let (proxy, server) = match self.find(place) {
                    Ok(found) => found,
                    Err(why) => return why,
                };
                return servers::set(self.known, proxy, &server, rest).await.unwrap_or_default();
            }
            [how @ ("enable" | "disable"), what @ ("health" | "agent"), rest @ ..] => {
                match self.find(rest.first().copied().unwrap_or_default()) {
                    Ok((proxy, server)) => {
                        servers::checks(self.known, proxy, &server, what, *how == "enable").await
                    }
                    Err(why) => Err(why),
                }
            }
            ["set", "server", place, what @ ("agent" | "agent-addr" | "agent-port" | "agent-send" | "health"), ..] => {
                self.find(place).and(Err(format!(
                    "'set server <srv> {what}' is known but not supported by Evenkeel: change the configuration.\n"
                )))
            }
            ["set", "server", place, ..] => self.find(place).and(Err(
                "usage:\nset server <backend>/<server> weight [<weight>|<weight%>]\nset server <backend>/<server> state [ready|drain|maint]\n".to_owned(),
            )),
            ["enable", "server", place] => self.order(place, state("online".to_owned())).await,
            ["disable", "server", place] => self.order(place, state("halted".to_owned())).await,
            ["enable" | "disable", "server"] => Err("Require 'backend/server'.\n".to_owned()),
            _ => return unknown(words),
        };
        outcome.err().unwrap_or_default()
    }

    async fn set_weight(&self, place: &str, text: &str) -> Result<(), String> {
        let shown = self.shown(place).await?;
        let initial = shown.configured_weight.unwrap_or(shown.weight);
        let weight = match text.strip_suffix('%') {
            Some(percent) => {
                let percent: u64 = percent.parse().map_err(|_| "Invalid weight value.\n")?;
                if percent > 25_600 {
                    return Err("Relative weight can only be between 0 and 256000 inclusive.\n".into());
                }
                (u64::from(initial) * percent).div_ceil(100)
            }
            None => {
                let weight: u64 = text.parse().map_err(|_| "Invalid weight value.\n")?;
                if weight > 256 {
                    return Err("Absolute weight can only be between 0 and 256 inclusive.\n".into());
                }
                weight
            }
        };
        let weight = Some(weight.min(65_535) as u16);
        self.order(place, api::ServerChange { weight, ..api::ServerChange::default() }).await
    }

    async fn order(&self, place: &str, change: api::ServerChange) -> Result<(), String> {
        let (proxy, server) = self.find(place)?;
        change_server(self.known, proxy, &server, change).await
    }
}

/// A change of one server, for the socket and for the page.
pub async fn change_server(
    known: &Known,
    proxy: &Proxy,
    server: &Server,
    change: api::ServerChange,
) -> Result<(), String> {
    let (service, server) = (proxy.pool.clone().unwrap_or_default(), server.own.clone());
    match known.ask(|reply| Request::Change { service, server, change, reply }).await {
        Some(Ok(_)) => Ok(()),
        Some(Err(refused)) => Err(format!("{}\n", refused.failure.detail)),
        None => Err(stopping()),
    }
}

pub fn stopping() -> String {
    "The process is stopping.\n".into()
}

fn unknown(words: &[&str]) -> String {
    let text = words.join(" ");
    match MISSING.iter().find(|known| text.starts_with(**known)) {
        Some(known) => format!("'{known}' is known but not supported by Evenkeel.\n"),
        None => {
            let first = words.first().copied().unwrap_or("");
            let close = HELP.lines().skip(1).filter(|l| l.trim_start().split(' ').next() == Some(first));
            let close: String = close.map(|l| format!("{l}\n")).collect();
            match close.is_empty() {
                true => format!("Unknown command: '{first}'. {HELP}"),
                false => format!(
                    "Unknown command, but maybe one of the following ones is a better match:\n{close}"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_and_words() {
        assert_eq!(split_commands("show info;show stat \\; x"), ["show info", "show stat \\; x"]);
        assert_eq!(
            words_of("  set  server a\\ b/c  state ready "),
            ["set", "server", "a b/c", "state", "ready"]
        );
        assert!(unknown(&["show", "fd", "x"]).contains("known but not supported"));
        assert!(unknown(&["foo"]).starts_with("Unknown command"));
        assert!(Level::of("admin") > Level::of("operator") && Level::of("operator") > Level::of("user"));
    }
}
