//! What is gathered from the sources before it is printed.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_config::tree::Section;
pub use evenkeel_config::tree::{Line, Value};

use crate::haproxy::run::{LogTarget, Run};
use crate::words::{split_port, with_port};
use crate::{Diagnostic, Severity};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Comments before it, without `#`.
    pub comments: Vec<String>,
    pub lines: Vec<Line>,
}

/// What a key can be set to.
pub trait Content {
    fn into_value(self) -> Value;
}

macro_rules! plain {
    ($($kind:ty)*) => { $(impl Content for $kind {
        fn into_value(self) -> Value {
            self.into()
        }
    })* };
}

plain!(Value bool i64 u32 u16 u8);

impl Content for Table {
    fn into_value(self) -> Value {
        Value::Table(self.lines.into_iter().map(|line| (line.key, line.value)).collect())
    }
}

impl Content for Vec<Table> {
    fn into_value(self) -> Value {
        Value::List(self.into_iter().map(|table| table.into_value()).collect())
    }
}

impl Table {
    fn set_headers(&self) -> &[(String, Value)] {
        self.get("set-header").map_or(&[], Value::entries)
    }

    pub fn commented(comments: Vec<String>) -> Table {
        Table { comments, ..Table::default() }
    }

    pub fn set(&mut self, key: &str, value: impl Content) {
        self.set_with(key, value, "");
    }

    /// A later word replaces an earlier one.
    pub fn set_with(&mut self, key: &str, value: impl Content, comment: &str) {
        let value = value.into_value();
        self.put(Line { key: key.into(), value, comment: comment.into() });
    }

    pub fn put(&mut self, line: Line) {
        match self.lines.iter_mut().find(|l| l.key == line.key) {
            Some(old) => *old = line,
            None => self.lines.push(line),
        }
    }

    pub fn text(&mut self, key: &str, value: &str) {
        self.set(key, Value::text(value));
    }

    pub fn texts<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        self.set(key, Value::texts(values));
    }

    /// One text by its name, such as a header's.
    pub fn named(&mut self, key: &str, name: &str, text: &str) {
        self.set(key, Value::names([(name, text)]));
    }

    /// A condition.
    pub fn when(&mut self, condition: &str) {
        self.set("when", Value::Literal(condition.into()));
    }

    /// A number as the source writes it, perhaps with zeros in front. What is none is told in the end, and
    /// left out.
    pub fn number(&mut self, key: &str, word: &str) {
        match word.parse::<i64>() {
            Ok(number) if !word.starts_with('+') => self.set(key, number),
            _ => self.set(key, Value::NoNumber(word.into())),
        }
    }

    /// What is said behind a key that is there.
    pub fn comment(&mut self, key: &str, comment: &str) {
        if let Some(line) = self.lines.iter_mut().find(|l| l.key == key) {
            line.comment = comment.into();
        }
    }

    pub fn remove(&mut self, key: &str) {
        self.lines.retain(|line| line.key != key);
    }

    /// The same table with one key more.
    pub fn with(mut self, key: &str, value: impl Content) -> Table {
        self.set(key, value);
        self
    }

    pub fn with_text(mut self, key: &str, value: &str) -> Table {
        self.text(key, value);
        self
    }

    pub fn with_number(mut self, key: &str, word: &str) -> Table {
        self.number(key, word);
        self
    }

    /// One more entry behind those of a list.
    pub fn push(&mut self, key: &str, entry: impl Content) {
        let entry = entry.into_value();
        match self.value_mut(key) {
            Some(Value::List(items)) => items.push(entry),
            _ => self.set(key, Value::List(vec![entry])),
        }
    }

    /// One more entry of a list that a table of its own holds.
    pub fn push_within(&mut self, table: &str, key: &str, entry: Value) {
        let Some(Value::Table(inner)) = self.value_mut(table) else { return };
        match inner.iter_mut().find(|(known, _)| known == key) {
            Some((_, Value::List(items))) => items.push(entry),
            _ => inner.push((key.to_owned(), Value::List(vec![entry]))),
        }
    }

    /// One more name of a key that holds several.
    pub fn add_name(&mut self, key: &str, name: &str, text: &str) {
        let entry = (name.to_owned(), Value::text(text));
        match self.value_mut(key) {
            Some(Value::Names(names)) => names.push(entry),
            _ => self.set(key, Value::Names(vec![entry])),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.lines.iter().find(|l| l.key == key).map(|l| &l.value)
    }

    fn value_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.lines.iter_mut().find(|l| l.key == key).map(|l| &mut l.value)
    }

    /// The text of a key that has one.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// Its condition; an empty one always holds.
    pub fn condition(&self) -> &str {
        self.text_of("when").unwrap_or_default()
    }

    /// The lines of another beside its own.
    pub fn adopt(&mut self, other: &Table) {
        other.lines.iter().for_each(|line| self.put(line.clone()));
    }

    /// As it stands behind a key.
    #[cfg(test)]
    pub fn inline(&self) -> String {
        let line = Line::new("key", self.clone().into_value());
        let section = Section { path: vec!["a"], lines: vec![line], ..Section::default() };
        let text = evenkeel_config::tree::print(&[], &[section]);
        text.trim_start_matches("[a]\nkey = ").trim_end().to_owned()
    }

    fn section<'a>(&self, path: &[&'a str]) -> Section<'a> {
        let (comments, lines) = (self.comments.clone(), self.lines.clone());
        Section { path: path.to_vec(), in_list: false, comments, lines }
    }

    fn entry<'a>(&self, path: &[&'a str]) -> Section<'a> {
        Section { in_list: true, ..self.section(path) }
    }
}

/// The table that names a status alone.
pub fn status(status: u16) -> Table {
    Table::default().with("status", status)
}

/// Users of this machine are named without it.
pub fn mail_address(name: &str) -> String {
    if name.contains('@') { name.to_owned() } else { format!("{name}@localhost") }
}

/// The table in which one thing is true.
pub fn flag(key: &str) -> Table {
    Table::default().with(key, true)
}

/// How servers are spoken to by those who look at no certificate.
pub fn unverified() -> Table {
    Table::default().with("verify", false)
}

/// The server of those who have none: nothing is sent to it.
pub fn nobody() -> Table {
    let mut nobody = Table::default();
    nobody.text("name", "nobody");
    nobody.text("address", "127.0.0.1:9");
    nobody.set_with("admin-state", Value::text("halted"), "there was no server");
    nobody
}

/// Takes out what all servers say alike of their checks, which is their pool's then; what is left is
/// each one's own. What a server does not say is the same default in a pool.
pub fn take_shared(each: &mut [(usize, Table)]) -> Vec<Line> {
    let Some((_, first)) = each.first() else { return Vec::new() };
    let by_all = |line: &&Line| each.iter().all(|(_, own)| own.get(&line.key) == Some(&line.value));
    let shared: Vec<Line> = first.lines.iter().filter(by_all).cloned().collect();
    for (_, own) in each {
        own.lines.retain(|line| !shared.iter().any(|s| s.key == line.key));
    }
    shared
}

#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub name: String,
    pub table: Table,
    pub servers: Vec<Table>,
}

/// What the same server is that a pool has twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Twice {
    /// Still one: IPVS, keepalived and Apache keep the first.
    One,
    /// One with both their shares.
    Shares,
}

impl Pool {
    /// Adds the server for when all others fail: it takes clients then alone, and nobody asks whether it is well.
    pub fn add_last(&mut self, mut server: Table) {
        server.set("backup", true);
        server.set("check", false);
        self.servers.push(server);
    }

    /// Adds a server that has its name from its address: another port gets a name of its own, the same
    /// server again is none.
    pub fn add(&mut self, mut server: Table, twice: Twice, line: usize, draft: &mut Draft) {
        let called = |other: &Table, name: &str| other.text_of("name") == Some(name);
        let place = server.text_of("address").unwrap_or_default().to_owned();
        let share = |one: &Table| one.get("weight").and_then(Value::as_number);
        let first = self.servers.iter_mut().find(|known| twice == Twice::Shares && is_same(known, &server));
        if let Some(first) = first
            && let (Some(one), Some(other)) = (share(first), share(&server))
        {
            first.set("weight", one.saturating_add(other));
            return draft.remark(line, &place, "it is named twice: here it is one server with both shares");
        }
        if self.has(&server, line, draft) {
            return;
        }
        let wanted = server.text_of("name").unwrap_or_default().to_owned();
        let with_its_port = split_port(&place).1.map(|port| format!("{wanted}-{port}"));
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let mut names = [wanted.clone()].into_iter().chain(with_its_port).chain(numbered);
        if let Some(free) = names.find(|name| !self.servers.iter().any(|other| called(other, name))) {
            server.text("name", &free);
        }
        self.servers.push(server);
    }

    /// Whether the pool has a server already, which stays as it is then. That is told.
    pub fn has(&self, server: &Table, line: usize, draft: &mut Draft) -> bool {
        let known = self.servers.iter().any(|known| is_same(known, server));
        if known {
            let place = server.text_of("address").unwrap_or_default().to_owned();
            draft.note(line, &place, "it is named twice: the first of the two stays");
        }
        known
    }

    /// One of IPVS's schedulers.
    pub fn ipvs_scheduler(&mut self, word: Option<&str>, line: usize, draft: &mut Draft) {
        match word.map(|word| (word, ipvs_scheduler(word))) {
            Some((_, Some(scheduler))) => self.table.text("scheduler", scheduler),
            Some((word, None)) => draft.left(line, word, "round robin is used instead"),
            None => {}
        }
    }

    /// Clients stay by their address, for so many seconds, masked by a netmask or a length.
    pub fn by_source(&mut self, seconds: Option<&str>, mask: Option<&str>) {
        // No time at all is no persistence.
        let Some(seconds) = seconds.filter(|s| s.trim().bytes().any(|b| b != b'0')) else { return };
        let mut source =
            Table::default().with_text("type", "source").with_text("timeout", &format!("{seconds}s"));
        if let Some(mask) = mask.and_then(prefix) {
            source.set("mask", mask);
        }
        self.table.set("persistence", source);
    }
}

/// One address, and both for the same use.
fn is_same(one: &Table, other: &Table) -> bool {
    one.get("address") == other.get("address") && one.has("backup") == other.has("backup")
}

fn ipvs_scheduler(word: &str) -> Option<&'static str> {
    Some(match word {
        "rr" | "wrr" => "round-robin",
        "lc" | "wlc" => "least-connections",
        "sed" => "shortest-expected-delay",
        "nq" => "never-queue",
        "sh" => "source-hash",
        "dh" => "destination-hash",
        "mh" => "maglev",
        _ => return None,
    })
}

/// Leading bits of a netmask, or the number itself.
pub fn prefix(mask: &str) -> Option<u32> {
    let bits = |m: std::net::Ipv4Addr| m.to_bits().leading_ones();
    mask.parse::<u32>().ok().or_else(|| mask.parse().ok().map(bits))
}

#[derive(Clone, Debug, Default)]
pub struct Service {
    pub name: String,
    pub table: Table,
    pub vips: Vec<String>,
    pub mode: String,
    pub routes: Vec<Table>,
    pub answer_routes: Vec<Table>,
    pub timeouts: Table,
    /// The pool by name, or servers of its own.
    pub pool: Option<String>,
    pub own: Option<Pool>,
}

/// A server that others may follow.
#[derive(Clone, Debug, Default)]
pub struct Tracked {
    pub place: String,
    /// What its section says of checks.
    pub asks: String,
    /// `inter`, `rise` and their like, with their values.
    pub times: Vec<String>,
}

/// Lists of users by name.
pub type Userlists = BTreeMap<String, Userlist>;

#[derive(Clone, Debug, Default)]
pub struct Userlist {
    pub users: Vec<User>,
    /// Members that were named with their group.
    pub members: Vec<(String, String)>,
}

/// Somebody who may come in.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    /// As `basic-auth` has it.
    pub secret: String,
    pub groups: Vec<String>,
}

/// Statuses and the files of their answers.
pub type ErrorFiles = Vec<(String, String)>;

#[derive(Debug, Default)]
pub struct Draft {
    /// The source that is read.
    pub file: String,
    /// Where each file begins, where several are read as one: lines are counted through all of them.
    pub starts: Vec<(usize, String)>,
    pub head: Vec<String>,
    pub globals: Vec<(String, Table)>,
    pub routers: Vec<Table>,
    pub services: Vec<Service>,
    pub pools: Vec<Pool>,
    /// Tables that routes count in.
    pub tables: Vec<Table>,
    /// Their keys, by the names that the source has for them.
    pub counted: crate::haproxy::Keys,
    /// The words of HAProxy's stick tables, by their proxies.
    pub stick_tables: BTreeMap<String, Vec<String>>,
    /// Where HAProxy's servers are and how they are checked, by `PROXY/NAME`.
    pub tracked: BTreeMap<String, Tracked>,
    /// The frontend whose rules are made, by its name.
    pub frontend: String,
    /// HAProxy's numbers of the servers that requests of a section may come to, by the section's line.
    pub numbers: BTreeMap<usize, Vec<(String, String)>>,
    /// Ports that some line of HAProxy's listens on for all clients of IPv4.
    pub ports_of_ipv4: BTreeSet<String>,
    /// HAProxy's lists of users.
    pub userlists: Userlists,
    /// HAProxy's `http-errors`, by name.
    pub errors: BTreeMap<String, ErrorFiles>,
    pub left: Vec<Diagnostic>,
    /// Folders of certificates and authorities that are named without one.
    pub crt_base: Option<String>,
    pub ca_base: Option<String>,
    /// The versions of TLS that listeners speak, where they do not say so themselves.
    pub versions: crate::haproxy::Versions,
    /// How long heads may be.
    pub heads: crate::haproxy::Heads,
    /// Certificates of servers are not looked at, unless a server says otherwise.
    pub servers_unverified: bool,
    /// What HAProxy's `global` says of the log, and what `[log]` says by now.
    pub logs: crate::haproxy::logs::Global,
    pub process_logs: Vec<LogTarget>,
    /// What else is gathered where HAProxy's configuration is run as it is.
    pub run: Option<Run>,
}

/// Whether a rule is one that keeps somebody off, by its words in HAProxy.
fn keeps_off(rule: &str) -> bool {
    let mut words = rule.split_whitespace();
    match words.next() {
        Some("block" | "reqdeny" | "reqideny" | "reqtarpit" | "reqitarpit" | "rspdeny" | "rspideny") => true,
        Some("http-request" | "http-response") => {
            matches!(words.next(), Some("deny" | "reject" | "tarpit" | "silent-drop" | "auth"))
        }
        Some("tcp-response") => words.take(2).any(|w| matches!(w, "reject" | "close" | "silent-drop")),
        Some("tcp-request") => words.take(2).any(|w| matches!(w, "reject" | "silent-drop")),
        _ => false,
    }
}

/// A condition that holds where both do; an empty one always does.
pub fn both(first: &str, second: &str) -> String {
    let wrapped = |text: &str| if text.contains(" || ") { format!("({text})") } else { text.to_owned() };
    match (first, second) {
        ("", only) | (only, "") => only.to_owned(),
        _ => format!("{} && {}", wrapped(first), wrapped(second)),
    }
}

/// The route only applies where another condition holds as well.
pub fn also(route: &mut Table, when: &str) {
    if when.is_empty() {
        return;
    }
    let value = Value::Literal(both(when, route.condition()));
    match route.value_mut("when") {
        Some(known) => *known = value,
        None => route.lines.insert(usize::from(route.has("name")), Line::new("when", value)),
    }
}

/// Headers that are set one after the other on the same condition are one route.
pub fn together(routes: Vec<Table>) -> Vec<Table> {
    let mut out: Vec<Table> = Vec::new();
    for route in routes {
        let old = out.last_mut().filter(|before| may_join(before, &route));
        match old.and_then(|before| before.value_mut("set-header")) {
            Some(Value::Names(old)) => old.extend(route.set_headers().iter().cloned()),
            _ => out.push(route),
        }
    }
    out
}

/// Whether the headers of a route can be set with those of the one before.
fn may_join(before: &Table, route: &Table) -> bool {
    let plain = |table: &Table| {
        let known =
            |line: &Line| ["when", "set-header"].contains(&line.key.as_str()) && line.comment.is_empty();
        table.lines.iter().all(known) && table.has("set-header")
    };
    // What asks for a header may see the one that was just set.
    let mut asks = route.condition().contains("header");
    for line in &route.lines {
        line.value.for_each_text(&mut |text| {
            asks |= ["{header", "-header", "header:"].iter().any(|word| text.contains(word));
        });
    }
    // The last one of a name holds.
    let known = |name: &str| before.set_headers().iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    plain(before)
        && plain(route)
        && route.comments.is_empty()
        && !asks
        && before.get("when") == route.get("when")
        && !route.set_headers().iter().any(|(name, _)| known(name))
}

/// A file in its folder, unless it has one.
pub fn based(base: Option<&String>, file: &str) -> String {
    match base {
        Some(base) if !file.starts_with('/') => format!("{}/{file}", base.trim_end_matches('/')),
        _ => file.to_owned(),
    }
}

impl Draft {
    /// A file with its folder; told where nobody says which that is.
    pub fn placed(&mut self, base: Option<String>, file: &str, line: usize, keyword: &str) -> Option<String> {
        let whole = based(base.as_ref(), file);
        if whole.starts_with('/') {
            return Some(whole);
        }
        let why = format!("{file} is looked for where the process is started: write its whole path");
        self.left(line, keyword, why);
        None
    }

    /// What is told to it is not heard by this one, which it knows the lists and tables of.
    pub fn scratch(&self) -> Draft {
        let (counted, userlists) = (self.counted.clone(), self.userlists.clone());
        let (file, starts, errors) = (self.file.clone(), self.starts.clone(), self.errors.clone());
        let (frontend, numbers) = (self.frontend.clone(), self.numbers.clone());
        Draft {
            frontend,
            numbers,
            file,
            starts,
            counted,
            userlists,
            errors,
            run: self.run.clone(),
            ..Draft::default()
        }
    }

    /// How much there is of each kind of thing.
    pub fn gathered(&self) -> [usize; 4] {
        [self.services.len(), self.pools.len(), self.globals.len(), self.left.len()]
    }

    /// A source that added nothing and of which nothing was told is of another kind, or the wrong file.
    pub fn told_if_empty(&mut self, source: &crate::Source, before: [usize; 4]) {
        if self.gathered() == before {
            self.file.clone_from(&source.file);
            let word = source.kind.as_str();
            self.grave(
                1,
                word,
                format!("nothing that {word} serves is in this file: is it another one, or of another kind?"),
            );
        }
    }

    pub fn left(&mut self, line: usize, keyword: &str, consequence: impl Into<String>) {
        let severity = if keeps_off(keyword) { Severity::Critical } else { Severity::Unsupported };
        self.add(severity, line, keyword, consequence.into());
    }

    /// Left with nothing in its place: somebody gets in, or a service serves nobody.
    pub fn grave(&mut self, line: usize, keyword: &str, consequence: impl Into<String>) {
        self.add(Severity::Critical, line, keyword, consequence.into());
    }

    /// Said for those who read the result; nothing differs in what it does.
    pub fn remark(&mut self, line: usize, keyword: &str, consequence: impl Into<String>) {
        self.add(Severity::Remark, line, keyword, consequence.into());
    }

    /// Something differs that nobody will miss.
    pub fn note(&mut self, line: usize, keyword: &str, consequence: impl Into<String>) {
        self.add(Severity::Note, line, keyword, consequence.into());
    }

    pub fn wrong(&mut self, line: usize, keyword: &str, why: impl Into<String>) {
        self.add(Severity::Invalid, line, keyword, why.into());
    }

    fn add(&mut self, severity: Severity, line: usize, keyword: &str, consequence: String) {
        let (file, line) = self.place(line);
        let left = Diagnostic { severity, file, line, keyword: keyword.to_owned(), consequence };
        // What several proxies have from the same defaults is told once.
        if !self.left.contains(&left) {
            self.left.push(left);
        }
    }

    /// The file that a line stands in, and its number there.
    pub fn place(&self, line: usize) -> (String, usize) {
        match self.starts.iter().rfind(|(start, _)| *start < line) {
            Some((start, file)) => (file.clone(), line - start),
            None => (self.file.clone(), line),
        }
    }

    /// A text of a global table, if it is there.
    pub fn known(&self, table: &str, key: &str) -> Option<String> {
        let (_, table) = self.globals.iter().find(|(name, _)| name == table)?;
        table.text_of(key).map(str::to_owned)
    }

    pub fn global(&mut self, table: &str) -> &mut Table {
        let at = match self.globals.iter().position(|(name, _)| name == table) {
            Some(at) => at,
            None => {
                self.globals.push((table.to_owned(), Table::default()));
                self.globals.len() - 1
            }
        };
        &mut self.globals[at].1
    }

    /// Who is told by mail, over an SMTP server of this address and port.
    pub fn mail(&mut self, server: &str, port: &str, from: &str, to: &[&str]) {
        let to: Vec<String> = to.iter().map(|one| mail_address(one)).collect();
        let email = Table::default()
            .with_text("server", &with_port(server, port))
            .with_text("security", "none")
            .with_text("from", &mail_address(from))
            .with("to", Value::texts(&to));
        self.global("alerts").set("email", vec![email]);
    }

    /// A name that no other service or pool has.
    pub fn fresh(&self, wanted: &str) -> String {
        let taken = |name: &str| {
            self.services.iter().any(|s| s.name == name) || self.pools.iter().any(|p| p.name == name)
        };
        let mut name = wanted.to_owned();
        let mut number = 2;
        while taken(&name) {
            name = format!("{wanted}-{number}");
            number += 1;
        }
        name
    }

    /// A name that no other service has. A pool may have it, unless the service has servers of its own.
    pub fn fresh_service(&self, wanted: &str, has_own: bool) -> String {
        let another = self.services.iter().any(|s| s.name == wanted);
        let of_pool = has_own && self.pools.iter().any(|p| p.name == wanted);
        if another || of_pool { self.fresh(wanted) } else { wanted.to_owned() }
    }

    /// Routes of a service that would have one name are numbered.
    fn number_routes(&mut self) {
        for service in &mut self.services {
            for routes in [&mut service.routes, &mut service.answer_routes] {
                let mut known = BTreeSet::new();
                for route in routes.iter_mut() {
                    let Some(wanted) = route.text_of("name").map(str::to_owned) else { continue };
                    let numbered = (2..).map(|number| format!("{wanted}-{number}"));
                    let free =
                        std::iter::once(wanted.clone()).chain(numbered).find(|name| !known.contains(name));
                    let name = free.unwrap_or_default();
                    if name != wanted
                        && let Some(line) = route.lines.iter_mut().find(|line| line.key == "name")
                    {
                        line.value = Value::text(name.clone());
                    }
                    known.insert(name);
                }
            }
        }
    }

    /// Words that are no numbers, such as those of empty variables, are left out and told; so are tables
    /// with a name twice.
    pub fn drop_unsound(&mut self) {
        self.number_routes();
        let mut dropped: Vec<(String, String)> = Vec::new();
        let services = self.services.iter_mut().flat_map(|s| {
            let own = s.own.iter_mut().flat_map(|p| p.servers.iter_mut().chain([&mut p.table]));
            let routes = s.routes.iter_mut().chain(&mut s.answer_routes);
            routes.chain([&mut s.table, &mut s.timeouts]).chain(own)
        });
        let pools = self.pools.iter_mut().flat_map(|p| p.servers.iter_mut().chain([&mut p.table]));
        let others = self.globals.iter_mut().map(|(_, t)| t).chain(&mut self.routers).chain(&mut self.tables);
        let mut twice: Vec<(String, String)> = Vec::new();
        for table in services.chain(pools).chain(others) {
            table.lines.retain_mut(|line| {
                line.value.take_no_numbers(&mut dropped);
                if let Value::NoNumber(word) = &line.value {
                    dropped.push((line.key.clone(), word.clone()));
                    return false;
                }
                let repeated = line.value.repeated_key();
                twice.extend(repeated.map(|name| (line.key.clone(), name.to_owned())));
                repeated.is_none()
            });
        }
        for (key, value) in dropped {
            self.wrong(0, &key, format!("{value:?} is no value: it is left out"));
        }
        for (key, name) in twice {
            self.wrong(0, &key, format!("{name:?} is there twice: it is left out"));
        }
    }

    pub fn print(&self) -> String {
        let mut sections = Vec::new();
        for (name, table) in &self.globals {
            sections.push(table.section(&name.split('.').collect::<Vec<_>>()));
            if name == "pair" {
                sections.extend(self.routers.iter().map(|router| router.entry(&["pair", "vrrp"])));
            }
        }
        sections.extend(self.tables.iter().map(|table| table.entry(&["table"])));
        for service in &self.services {
            const LIST: &str = "virtual-service";
            sections.push(service.head().entry(&[LIST]));
            sections.extend(service.routes.iter().map(|route| route.entry(&[LIST, "route"])));
            sections.extend(service.answer_routes.iter().map(|route| route.entry(&[LIST, "answer-route"])));
            let servers = service.own.iter().flat_map(|own| &own.servers);
            sections.extend(servers.map(|server| server.entry(&[LIST, "real-server"])));
        }
        for pool in &self.pools {
            let mut head = Table::commented(pool.table.comments.clone());
            head.text("name", &pool.name);
            head.adopt(&pool.table);
            sections.push(head.entry(&["pool"]));
            sections.extend(pool.servers.iter().map(|server| server.entry(&["pool", "real-server"])));
        }
        evenkeel_config::tree::print(&self.head, &sections)
    }
}

impl Service {
    /// Its own keys.
    fn head(&self) -> Table {
        let mut head = Table::commented(self.table.comments.clone());
        head.text("name", &self.name);
        head.texts("vip", &self.vips);
        head.text("mode", &self.mode);
        if let Some(pool) = &self.pool {
            head.text("pool", pool);
        }
        head.adopt(&self.table);
        if !self.timeouts.lines.is_empty() {
            head.set("timeouts", self.timeouts.clone());
        }
        if let Some(own) = &self.own {
            head.adopt(&own.table);
        }
        head
    }
}
