//! A request that nobody sent: what is known of it, and where the routes lead it, in words. The walk
//! over the routes is the one of the event loops (`evenkeel_routes`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use evenkeel_api as api;
use evenkeel_balance::{Counter, Figure};
use evenkeel_l7::{FileError, ListFiles, unknown_pool};
use evenkeel_model::{
    Action, LogLevel, Name, Normalize, RateRule, Secret, Snapshot, VirtualService, counted, format_duration,
};
use evenkeel_routes::{
    Changes, ClientAddress, Edit, Effects, Loader, Next, Resources, Route, RouteAction, Routes, Source,
    Verdict, Walk,
};
use evenkeel_rules::{
    Facts, Fetch, ListForm, LocalTime, Map, MapForm, NetworkSet, Parameters, PatternSet, Template,
    normal_path,
};

use super::explain::Known;
use super::secrets;

/// What is asked about, read from the question.
pub struct ExplainQuery {
    pub vip: SocketAddr,
    pub path: String,
    pub http: bool,
    pub tls: bool,
    pub client: SocketAddr,
    /// The client as its connection has it, where a header names another one.
    connection: SocketAddr,
    /// Whoever asks may see secrets of the configuration.
    pub reads: bool,
    method: String,
    headers: Vec<(String, String)>,
    /// The host that is asked for, or the VIP.
    host: String,
}

impl ExplainQuery {
    pub fn parse(question: &api::Question) -> Result<ExplainQuery, String> {
        let shape = "expected http://ADDRESS:PORT/PATH, https://ADDRESS:PORT/PATH or tcp://ADDRESS:PORT";
        let (scheme, rest) = question.target.split_once("://").ok_or(shape)?;
        let (http, tls) = match scheme {
            "http" => (true, false),
            "https" => (true, true),
            "tcp" => (false, false),
            _ => return Err(format!("{scheme}:// is not understood: {shape}")),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let bare = http && authority.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let with_port = match (bare, tls) {
            (true, false) => format!("{authority}:80"),
            (true, true) => format!("{authority}:443"),
            (false, _) => authority.into(),
        };
        let vip = with_port.parse().map_err(|_| {
            format!(
                "{authority:?} is not ADDRESS:PORT: name the VIP itself, and the host with --header 'Host: …'"
            )
        })?;
        let source = match &question.source {
            Some(text) => text.parse().map_err(|_| format!("{text:?} is not an address"))?,
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let fields = question.headers.iter().filter_map(|h| h.split_once(':'));
        let headers: Vec<_> = fields.map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned())).collect();
        let host = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("host"));
        let host = host.map_or_else(|| authority.to_owned(), |(_, host)| host.clone());
        Ok(ExplainQuery {
            host,
            vip,
            path: path.into(),
            http,
            tls,
            client: SocketAddr::new(source, 40_000),
            connection: SocketAddr::new(source, 40_000),
            reads: question.reads,
            method: question.method.clone().unwrap_or_else(|| "GET".into()),
            headers,
        })
    }

    /// Takes the client that a header names, as the service does, and says so.
    pub fn believe(&mut self, rule: &ClientAddress) -> Option<String> {
        let header = String::from_utf8_lossy(&rule.header).into_owned();
        let fields = self.headers.iter().rev().filter(|(name, _)| name.eq_ignore_ascii_case(&header));
        let values: Vec<&[u8]> = fields.map(|(_, value)| value.as_bytes()).collect();
        let peer = self.client.ip();
        match rule.find(self.client, values.iter().copied()) {
            Some(address) => {
                self.client = address;
                Some(format!("{peer} is trusted: {header} says that the client is {}", address.ip()))
            }
            None if values.is_empty() => None,
            None if rule.trusts(peer) => Some(format!("{header} names no address: the client is {peer}")),
            None => Some(format!("{peer} is not trusted: what it says in {header} is not looked at")),
        }
    }

    /// A sentence as this person may see it.
    pub fn shown(&self, text: &str) -> String {
        if self.reads { text.to_owned() } else { secrets::text(text) }
    }

    /// A value that the configuration gives to a header or a variable.
    fn value(&self, value: &str) -> String {
        if self.reads { format!("{value:?}") } else { secrets::LEFT_OUT.to_owned() }
    }

    /// A condition, or a part of one.
    fn condition(&self, text: &str) -> String {
        if self.reads { text.to_owned() } else { secrets::condition(text) }
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }

    /// A parameter of the query, which is not an empty one.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let mut named = query.split('&').filter_map(|pair| pair.split_once('='));
        named.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).filter(|v| !v.is_empty())
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies(name).next().map(str::to_owned)
    }

    fn cookies<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("cookie"));
        let pairs = values.flat_map(|(_, v)| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(move |(n, _)| *n == name).map(|(_, value)| value.trim_matches('"'))
    }
}

/// The request with the configuration and the state that it is held against.
pub struct Imagined<'a> {
    pub asked: &'a ExplainQuery,
    pub snapshot: &'a Snapshot,
    pub known: &'a Known<'a>,
    /// The server that answers, when routes of answers are walked.
    pub answering: Option<&'a str>,
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

impl ExplainQuery {
    /// What conditions see, where that is not what was asked, in words.
    pub fn seen(&self) -> impl Iterator<Item = String> {
        let raw = self.path.split('?').next().unwrap_or("");
        let path = normal_path(raw.as_bytes(), Parameters::Strip)
            .map(|seen| format!("{} is asked for: conditions see {}", self.path, shown(&seen)));
        let method = self.method.to_ascii_uppercase();
        let method = (method != self.method)
            .then(|| format!("the method is {}: conditions see {method}", self.method));
        path.into_iter().chain(method)
    }

    /// Method and target that the server gets, where routes or the normal form make others of them.
    pub fn changed(&self, normalize: Normalize, changes: &Changes) -> Option<String> {
        let method = changes.method.as_deref().map(shown);
        let target = changes.target.as_deref().map_or_else(|| self.path.clone(), shown);
        let (path, rest) = target.split_at(target.find('?').unwrap_or(target.len()));
        let normal = match normalize {
            Normalize::Forward => normal_path(path.as_bytes(), Parameters::Keep),
            _ => None,
        };
        let path = normal.map_or(path.to_owned(), |path| shown(&path));
        let target = format!("{path}{rest}");
        let same = target == self.path && method.as_ref().is_none_or(|m| *m == self.method);
        (!same).then(|| format!("{} {target}", method.as_ref().unwrap_or(&self.method)))
    }
}

impl Source<InWords> for Imagined<'_> {
    fn target(&self) -> &[u8] {
        if self.asked.http { self.asked.path.as_bytes() } else { b"" }
    }

    fn method(&self) -> &[u8] {
        self.asked.method.as_bytes()
    }

    fn host(&self) -> &[u8] {
        if self.asked.http { self.asked.host.as_bytes() } else { b"" }
    }

    fn request_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let named = self.asked.headers.iter().filter(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_bytes()).any(test)
    }

    /// Nobody can know what a server will say.
    fn answer_field(&self, _: &[u8], _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn server(&self) -> Option<&str> {
        self.answering
    }

    fn figure(&self, table: &Name, key: &[u8], figure: Figure) -> Option<u64> {
        (self.known.figure)(table, key, figure)
    }

    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let asked = self.asked;
        match fetch {
            Fetch::CookieName => self.request_field(b"cookie", &mut |value| {
                let pairs = value.split(|byte| *byte == b';');
                let name = |pair: &&[u8]| pair.contains(&b'=');
                let mut names = pairs.filter(name).filter_map(|pair| pair.split(|b| *b == b'=').next());
                names.any(|name| test(name.trim_ascii()))
            }),
            Fetch::Cookie => asked.cookies(name).any(|value| test(value.as_bytes())),
            Fetch::Version => asked.http && test(b"1.1"),
            Fetch::Scheme => test(if asked.tls { b"https" } else { b"http" }),
            Fetch::Sni if asked.tls || !asked.http => {
                let host = asked.header("host");
                host.is_some_and(|host| test(evenkeel_routes::without_port(host.as_bytes())))
            }
            _ => false,
        }
    }

    fn address(&self, fetch: Fetch) -> Option<IpAddr> {
        match fetch {
            Fetch::Source => Some(self.asked.client.ip()),
            Fetch::ConnectionSource => Some(self.asked.connection.ip()),
            Fetch::Destination | Fetch::ConnectionDestination => Some(self.asked.vip.ip()),
            _ => None,
        }
    }

    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64> {
        match fetch {
            Fetch::Port => Some(u64::from(self.asked.vip.port())),
            Fetch::SourcePort => Some(u64::from(self.asked.client.port())),
            Fetch::ContentLength => self.asked.header("content-length").map_or(Some(0), |l| l.parse().ok()),
            Fetch::ServersUp | Fetch::Connections | Fetch::ServerUp | Fetch::ServerConnections => {
                let named = |name: &Name| Some(name.as_str()) == arguments.first().map(String::as_str);
                let pool = self.snapshot.pools.iter().find(|p| named(&p.name))?;
                let servers = (self.known.servers)(pool);
                let one =
                    servers.iter().find(|s| arguments.get(1).is_some_and(|name| *s.server.name == **name));
                Some(match fetch {
                    Fetch::ServerUp => u64::from(one?.server.takes_new_clients()),
                    Fetch::ServerConnections => u64::from(one?.server.connections),
                    Fetch::ServersUp => {
                        servers.iter().filter(|s| s.server.takes_new_clients()).count() as u64
                    }
                    _ => servers.iter().map(|s| u64::from(s.server.connections)).sum(),
                })
            }
            _ => None,
        }
    }

    fn flag(&self, fetch: Fetch) -> bool {
        match fetch {
            Fetch::Tls => self.asked.tls,
            Fetch::FirstRequest => true,
            _ => false,
        }
    }

    fn local_time(&self) -> LocalTime {
        let (weekday, minute_of_day) = evenkeel_l7::local_minute();
        LocalTime { weekday, minute_of_day, unix_s: evenkeel_l7::unix_s() }
    }

    /// Nobody has a use for this one's.
    fn random(&self) -> u128 {
        0
    }

    fn host_name(&self) -> &[u8] {
        evenkeel_l7::host_name()
    }
}

/// What stands behind the steps of routes where they are only put into words.
pub struct InWords;

impl Resources for InWords {
    type Table = Name;
    type Rate = RateRule;
    type Concurrency = u32;
    type Accounts = ();
    type Page = ();
}

/// Compiles routes for their words. Lists and maps are read; pages and passwords are not looked at.
#[derive(Default)]
struct WordLoader<'a> {
    lists: ListFiles,
    tables: &'a [Arc<evenkeel_model::TableRule>],
}

impl Loader<InWords> for WordLoader<'_> {
    type Error = FileError;

    fn patterns(&mut self, file: &Path, form: ListForm) -> Result<Arc<PatternSet>, FileError> {
        self.lists.patterns(file, form)
    }

    fn networks(&mut self, file: &Path) -> Result<Arc<NetworkSet>, FileError> {
        self.lists.networks(file)
    }

    fn map(&mut self, file: &Path, form: MapForm) -> Result<Arc<Map>, FileError> {
        self.lists.map(file, form)
    }

    fn table(&mut self, name: &Name) -> Result<(Name, Template), FileError> {
        let found = self.tables.iter().find(|rule| rule.name == *name);
        let rule = found.ok_or_else(|| FileError::new(Path::new("table"), format!("there is no {name}")))?;
        Ok((name.clone(), rule.key.clone()))
    }

    fn rate(&mut self, _: &str, rule: &RateRule) -> Result<RateRule, FileError> {
        Ok(rule.clone())
    }

    fn concurrency(&mut self, _: &str, max: u32) -> Result<u32, FileError> {
        Ok(max)
    }

    fn accounts(&mut self, _: Option<&Path>, _: &[(String, Secret)]) -> Result<(), FileError> {
        Ok(())
    }

    fn page(&mut self, _: &Action) -> Result<((), Option<Template>), FileError> {
        Ok(((), None))
    }

    fn unknown_pool(&mut self, file: &Path, name: &str) -> FileError {
        unknown_pool(file, name)
    }
}

/// The routes of a service, compiled to be put into words.
pub fn compile(snapshot: &Snapshot, service: &VirtualService) -> Result<Routes<InWords>, String> {
    let names: Vec<Name> = snapshot.pools.iter().map(|pool| pool.name.clone()).collect();
    let mut loader = WordLoader { tables: &snapshot.tables, ..WordLoader::default() };
    evenkeel_routes::compile(service, &names, &mut loader).map_err(|error| error.to_string())
}

/// A walk in words. Limits are taken to have room.
struct Words<'r> {
    asked: &'r ExplainQuery,
    compiled: &'r Routes<InWords>,
    routes: Vec<api::RouteTried>,
    /// What the last step did.
    last: String,
    /// Routes of answers that are for those of others.
    passed: Vec<String>,
}

impl<'r> Words<'r> {
    fn new(asked: &'r ExplainQuery, compiled: &'r Routes<InWords>) -> Words<'r> {
        Words { asked, compiled, routes: Vec::new(), last: String::new(), passed: Vec::new() }
    }

    fn say(&mut self, text: String) {
        let text = self.asked.shown(&text);
        if let Some(route) = self.routes.last_mut() {
            route.actions.push(text.clone());
        }
        self.last = text;
    }
}

impl Effects<InWords> for Words<'_> {
    fn track(&mut self, _: &Name, _: &[u8]) {}

    fn count(&mut self, _: &Name, _: &[u8], _: Counter, _: u64, _: bool) {}

    fn take(&mut self, _: &RateRule, _: &[u8]) -> Result<(), u64> {
        Ok(())
    }

    fn enter(&mut self, _: &u32, _: &[u8]) -> bool {
        true
    }

    fn asks_all(&self) -> bool {
        true
    }

    fn asked(&mut self, route: &Route<InWords>, holds: bool, facts: &dyn Facts) {
        let leaves = route.when.iter().flat_map(|when| when.explain(facts));
        let tests =
            leaves.map(|leaf| api::TestTried { test: self.asked.condition(&leaf.text), holds: leaf.holds });
        self.routes.push(api::RouteTried {
            name: route.name.as_str().into(),
            holds,
            tests: tests.collect(),
            actions: Vec::new(),
        });
    }

    fn passed_over(&mut self, route: &Route<InWords>) {
        self.passed.push(format!("answer-route {} is not for such answers", route.name));
    }

    fn done(&mut self, step: &RouteAction<InWords>, text: &[u8], pool: Option<usize>) {
        let routes = self.compiled;
        let pool = pool.and_then(|number| routes.pools.get(number));
        let told = match step {
            RouteAction::Track { table } => {
                routes.tables.get(*table).map(|t| format!("counted in table {}", t.name))
            }
            step => Some(words(self.asked, step, &shown(text), pool)),
        };
        self.say(told.unwrap_or_default());
    }
}

/// A step that was carried out, in words. `text` is what it rendered, `pool` where it leads.
fn words(asked: &ExplainQuery, step: &RouteAction<InWords>, text: &str, pool: Option<&Name>) -> String {
    let path = text.split('?').next().unwrap_or("");
    match step {
        RouteAction::Track { .. } => format!("counted as {text}"),
        RouteAction::Count { counter, keeps: true, .. } => format!("{} becomes {text}", counter.as_str()),
        RouteAction::Count { counter, .. } => format!("{} grows by {text}", counter.as_str()),
        RouteAction::RateLimit { limit, .. } => {
            let times = counted(limit.count, "time", "times");
            format!("{text} may come {times} in {}", format_duration(limit.period))
        }
        RouteAction::ConcurrencyLimit { limit, .. } => {
            format!("{text} may have {} at a time", counted(*limit, "request", "requests"))
        }
        RouteAction::BasicAuth { realm, .. } => asks_password(realm),
        RouteAction::SetVariable { name, .. } => format!("{name} is {}", asked.value(text)),
        RouteAction::Capture { name, .. } => format!("log {name}: {}", asked.value(text)),
        RouteAction::SetAddress { which, .. } => {
            format!("{} is {text}", which.key().trim_start_matches("set-").replace('-', " "))
        }
        RouteAction::Priority(priority) => format!("priority {priority} in the queue"),
        RouteAction::Server(name) => format!("the server is {name}, if it can"),
        RouteAction::ServerTimeout(time_ms) => {
            let time = std::time::Duration::from_millis(*time_ms);
            format!("the server has {} for each answer", format_duration(time))
        }
        RouteAction::ConnectTimeout(time_ms) => format!("connecting may take {time_ms} ms"),
        RouteAction::LogLevel(LogLevel::Silent) => "it has no log line".into(),
        RouteAction::LogLevel(level) => format!("the log line is marked {}", level.as_str()),
        RouteAction::Once => "no other server is asked after one has had it".into(),
        RouteAction::QueueTimeout(time_ms) => format!("a place may be waited for {time_ms} ms"),
        RouteAction::RewritePath(_) => format!("the path becomes {path}"),
        RouteAction::RewriteQuery(_) => {
            let query = text.split_once('?').map_or("", |(_, query)| query);
            let query = if asked.reads { query.to_owned() } else { secrets::query(query) };
            format!("the query becomes {query}")
        }
        RouteAction::RewriteMethod(method) => format!("the method becomes {}", shown(method)),
        RouteAction::RewriteUri(_) => format!("path and query become {text}"),
        RouteAction::Header(change) => edited("request", change, &asked.value(text)),
        RouteAction::ResponseHeader(change) => edited("response", change, &asked.value(text)),
        RouteAction::Status(status) => format!("the status becomes {status}"),
        RouteAction::Pool(_) => format!("pool {}", pool.map_or("", Name::as_str)),
        RouteAction::PoolMap { file, map, .. } => {
            let (file, found) = (file.display(), map.get(text.as_bytes()));
            match (found, pool) {
                (Some(_), Some(pool)) => format!("{file} has {text}: pool {pool}"),
                (_, Some(pool)) => format!("{file} has no {text}: pool {pool}"),
                (_, None) => format!("{file} has no {text}: the next route is tried"),
            }
        }
        RouteAction::Redirect { status, .. } => format!("redirect {status} to {text}"),
        RouteAction::Answer { status, .. } => format!("answer {status}"),
        RouteAction::Silence { vanish: false } => "the connection ends without an answer".into(),
        RouteAction::Silence { vanish: true } => "the connection ends, and the client is not told".into(),
        RouteAction::Deny { status } => format!("deny with {status}"),
        RouteAction::Tarpit { delay, status } => {
            format!("tar pit: {status} after {}", format_duration(*delay))
        }
    }
}

fn asks_password(realm: &str) -> String {
    format!("answer 401: a name and a password are asked for ({realm})")
}

/// A change of a head. `value` is as it may be shown.
fn edited(of: &str, edit: &Edit, value: &str) -> String {
    match edit {
        Edit::Set { name, .. } => format!("{of} header {} becomes {value}", shown(name)),
        Edit::Add { name, .. } => format!("{of} header {}: {value} is added", shown(name)),
        Edit::Each { name, .. } => format!("each {of} header {} becomes {value}", shown(name)),
        Edit::Remove { name } => format!("{of} header {} is removed", shown(name)),
        Edit::RemoveMatching(names) => format!("{of} headers that match {} are removed", names.as_str()),
    }
}

/// Where the routes lead.
pub struct Walked {
    pub routes: Vec<api::RouteTried>,
    /// None where a route ends it otherwise.
    pub pool: Option<Name>,
    pub ending: String,
    /// Of the answer that ends it, where there is one.
    pub status: Option<u16>,
}

/// Walks the routes. Who brings a name and a password is taken to have the right ones.
pub fn walk(imagined: &Imagined<'_>, routes: &Routes<InWords>, changes: &mut Changes) -> Walked {
    if routes.refuses(imagined.asked.path.as_bytes()) {
        let ending = "servers read such a path differently, and a route looks at it: answer 400".to_owned();
        return Walked { routes: Vec::new(), pool: None, ending, status: Some(400) };
    }
    let mut words = Words::new(imagined.asked, routes);
    let mut walk = Walk::new(routes, imagined, changes);
    let verdict = loop {
        match walk.run(imagined, &mut words, changes) {
            Next::End(verdict) => break verdict,
            Next::Password { realm, .. } if imagined.asked.header("authorization").is_none() => {
                words.say(asks_password(realm));
                break Verdict::Unauthorized { realm };
            }
            Next::Password { realm, .. } => {
                words.say(format!("a name and a password are asked for ({realm}), and there are some"));
            }
        }
    };
    walk.end(changes);
    let ending = match walk.route() {
        Some(route) => format!("route {}: {}", route.name, words.last),
        None => "no route ends it".to_owned(),
    };
    let (pool, status) = match verdict {
        Verdict::Pool(number) => (routes.pools.get(number).cloned(), None),
        Verdict::Redirect { status, .. }
        | Verdict::Answer { status, .. }
        | Verdict::Refuse { status, .. }
        | Verdict::Tarpit { status, .. } => (None, Some(status)),
        Verdict::Unauthorized { .. } => (None, Some(401)),
        Verdict::Silence { .. } => (None, None),
    };
    Walked { routes: words.routes, pool, ending, status }
}

/// Walks the routes of answers over one with a status. What nobody can know of it is not there. In words,
/// with the last status, and whether the answer is denied.
pub fn walk_answers(
    imagined: &Imagined<'_>,
    routes: &Routes<InWords>,
    status: u16,
    changes: &mut Changes,
) -> (Vec<String>, u16, bool) {
    let mut words = Words::new(imagined.asked, routes);
    let verdict = evenkeel_routes::walk_answer(routes, imagined, status, &mut words, changes);
    let mut said = words.passed;
    for route in words.routes {
        let name = &route.name;
        said.push(match route.holds {
            true => format!("answer-route {name} holds: {}", route.actions.join("; ")),
            false => {
                let failed: Vec<_> = route.tests.iter().filter(|t| !t.holds).map(|t| &*t.test).collect();
                format!("answer-route {name} does not hold: {}", failed.join(", "))
            }
        });
    }
    let last = verdict.deny.or(verdict.status).unwrap_or(status);
    (said, last, verdict.deny.is_some())
}
