//! HAProxy's configuration as it is run: what is made of it for Evenkeel, and what only those need
//! who know it by HAProxy's names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::{lexer, read};
use crate::draft::Draft;
use crate::words::split_port;
use crate::{Diagnostic, Severity, Source, SourceKind};

/// What the machine makes of words that are no addresses.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Sockets by what HAProxy calls them (`fd@5`, `unix@/run/x`, `/run/x`): the address that stands
    /// for them.
    pub sockets: BTreeMap<String, SocketAddr>,
    pub hosts: BTreeMap<String, IpAddr>,
    /// Texts of files of answers with variables.
    pub files: BTreeMap<String, String>,
    /// Where pages of statistics are served, and what a request must bring along to be believed.
    pub stats: Option<(SocketAddr, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    Frontend,
    Backend,
    Listen,
}

#[derive(Clone, Debug, Default)]
pub struct Server {
    /// As HAProxy has it.
    pub name: String,
    /// The real server's.
    pub own: String,
    pub checked: bool,
    /// An agent is asked about it.
    pub agent: bool,
    /// Its name is looked up again and again (`resolvers`).
    pub resolved: bool,
    pub rise: u32,
    pub fall: u32,
    /// TLS is spoken with it (1), nothing was said of it (0), or `no-ssl` (-1).
    pub tls: i8,
    /// Options that say how TLS is spoken, where `ssl` stood before `no-ssl`: it can be switched on.
    pub tls_options: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Proxy {
    pub name: String,
    pub kind: ProxyKind,
    pub id: u32,
    pub http: bool,
    /// The virtual services that it became.
    pub services: Vec<String>,
    /// The pool's name, or that of the service whose own it is.
    pub pool: Option<String>,
    pub servers: Vec<Server>,
    /// Servers may be added: its balancing is one of those that HAProxy calls dynamic.
    pub dynamic: bool,
    pub disabled: bool,
    /// Where it tells what becomes of its servers.
    pub logs: Vec<LogTarget>,
    pub log_tag: String,
    pub logs_checks: bool,
    /// The steps of its servers' check as HAProxy tells of them: the first connection, then each step.
    pub check_steps: Vec<String>,
}

/// A stick table, as HAProxy names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StickTable {
    pub name: String,
    /// Of its keys.
    pub kind: String,
    pub size: u64,
    /// What it stores, each with its argument.
    pub stores: Vec<String>,
    /// The table of routes that it became, where something is counted in it.
    pub counted: Option<String>,
    /// What `gpc` and `gpt` of it are (`gpc:0`), in the order of that table's numbers.
    pub numbers: Vec<String>,
}

/// A line `log`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTarget {
    /// `stdout`, `stderr`, `ADDRESS:PORT`, or the path of a socket.
    pub place: String,
    pub facility: u8,
    /// Nothing less severe than this is told (7 is all).
    pub level: u8,
    /// What is more severe is told as this.
    pub gravest: u8,
    /// `format`, if it is said.
    pub header: Option<String>,
    pub length: u32,
    pub sample: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSocket {
    pub line: usize,
    pub place: String,
    pub level: String,
    pub access: SocketAccess,
}

/// Who may use a socket's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketAccess {
    pub mode: Option<u32>,
    /// A name or a number.
    pub user: Option<String>,
    pub group: Option<String>,
}

impl SocketAccess {
    /// Takes a word with its value; whether it is one of those that say it.
    pub fn take(&mut self, word: &str, value: &str) -> bool {
        match word {
            "mode" => self.mode = u32::from_str_radix(value, 8).ok(),
            "user" | "uid" => self.user = Some(value.to_owned()),
            "group" | "gid" => self.group = Some(value.to_owned()),
            _ => return false,
        }
        true
    }

    /// What words say of it, each with its value behind it.
    pub fn of(words: &[&str]) -> SocketAccess {
        let mut access = SocketAccess::default();
        for pair in words.windows(2) {
            access.take(pair[0], pair[1]);
        }
        access
    }

    /// The other's, where nothing is said.
    fn or(self, other: &SocketAccess) -> SocketAccess {
        SocketAccess {
            mode: self.mode.or(other.mode),
            user: self.user.or_else(|| other.user.clone()),
            group: self.group.or_else(|| other.group.clone()),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsPage {
    pub proxy: String,
    pub uri: String,
    pub realm: String,
    pub users: Vec<String>,
    /// The condition of `stats admin`, if it always holds.
    pub admin: bool,
    pub refresh: Option<u32>,
    pub hide_version: bool,
    pub scope: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub daemon: bool,
    pub master_worker: bool,
    pub quiet: bool,
    pub pidfile: Option<String>,
    pub maxconn: Option<u64>,
    pub threads: Option<u64>,
    pub node: Option<String>,
    pub description: Option<String>,
    pub zero_warning: bool,
    pub environment: Vec<(String, Option<String>)>,
    /// Where lines go that are of no proxy.
    pub logs: Vec<LogTarget>,
    pub log_tag: String,
}

#[derive(Clone, Debug, Default)]
pub struct Run {
    pub places: Places,
    pub proxies: Vec<Proxy>,
    pub sockets: Vec<StatsSocket>,
    pub pages: Vec<StatsPage>,
    pub process: Process,
    pub resolvers: Vec<Resolvers>,
    pub tables: Vec<StickTable>,
}

/// A `resolvers` section: its name, and its name servers with their addresses.
#[derive(Clone, Debug, Default)]
pub struct Resolvers {
    pub name: String,
    pub servers: Vec<(String, String)>,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Running {
    pub text: String,
    pub left: Vec<Diagnostic>,
    pub proxies: Vec<Proxy>,
    pub sockets: Vec<StatsSocket>,
    pub pages: Vec<StatsPage>,
    pub process: Process,
    pub resolvers: Vec<Resolvers>,
    pub tables: Vec<StickTable>,
}

/// What only the machine knows.
#[derive(Default)]
pub struct HostNeeds {
    /// Sockets that are bound.
    pub binds: BTreeMap<String, SocketAccess>,
    /// Sockets that servers listen on.
    pub servers: BTreeSet<String>,
    /// Host names of servers.
    pub hosts: BTreeSet<String>,
    /// Files of answers with variables.
    pub files: BTreeSet<String>,
}

pub fn places(sources: &[Source], variables: &BTreeMap<String, String>) -> HostNeeds {
    let HostNeeds { mut binds, mut servers, mut hosts, mut files } = HostNeeds::default();
    let mut of_all = SocketAccess::default();
    for line in sources.iter().flat_map(|s| lexer::lines(&s.text, variables)) {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let named = words.iter().skip_while(|word| **word != "lf-file").nth(1);
        files.extend(named.map(|file| (*file).to_owned()));
        let (all, is_bind) = match words.as_slice() {
            ["unix-bind", said @ ..] => {
                of_all = SocketAccess::of(said);
                continue;
            }
            ["bind", place, ..] | ["listen" | "frontend", _, place, ..] => (*place, true),
            ["server", _, place, ..] | ["server-template", _, _, place, ..] => (*place, false),
            _ => continue,
        };
        for place in all.split(',') {
            if is_socket(place) {
                if is_bind {
                    binds.insert(place.to_owned(), SocketAccess::of(&words).or(&of_all));
                } else if !place.starts_with("fd@") {
                    servers.insert(place.to_owned());
                }
            } else if !is_bind {
                let host = split_port(crate::words::family(place).1).0.trim_matches(['[', ']']);
                if host.parse::<IpAddr>().is_err() && !host.is_empty() && host != "*" {
                    hosts.insert(host.to_owned());
                }
            }
        }
    }
    HostNeeds { binds, servers, hosts, files }
}

pub fn is_socket(place: &str) -> bool {
    place.starts_with('/') || ["fd@", "unix@", "abns@"].iter().any(|p| place.starts_with(p))
}

pub fn running(sources: &[Source], variables: &BTreeMap<String, String>, places: Places) -> Running {
    let mut draft = Draft { run: Some(Run { places, ..Run::default() }), ..Draft::default() };
    let haproxy: Vec<&Source> = sources.iter().filter(|s| s.kind == SourceKind::Haproxy).collect();
    read(&haproxy, variables, &mut draft);
    draft.drop_unsound();
    let text = draft.print();
    // What lacks a line that was refused has no fault of its own.
    if draft.left.iter().all(|l| matches!(l.severity, Severity::Remark | Severity::Note)) {
        crate::proof::prove(&text, &haproxy, &mut draft);
    }
    let Run { proxies, sockets, pages, process, resolvers, tables, .. } =
        draft.run.take().unwrap_or_default();
    Running { text, left: draft.left, proxies, sockets, pages, process, resolvers, tables }
}
