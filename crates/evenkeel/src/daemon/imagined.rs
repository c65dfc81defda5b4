//! A request that nobody sent: what is known of it, and where the routes lead it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use evenkeel_api as api;
use evenkeel_balance::Counter;
use evenkeel_model::{Action, HeaderEdit, Name, Snapshot, VirtualService};
use evenkeel_rules::{
    Captures, Expression, Facts, Fetch, LocalTime, MapMatch, Parameters, Template, is_unclear_path,
    normal_host, normal_path,
};

use super::explain::Known;
use super::secrets;

/// What is asked about, read from the question.
pub struct Asked {
    pub vip: SocketAddr,
    pub path: String,
    pub http: bool,
    pub tls: bool,
    pub client: SocketAddr,
    method: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub fn parse(question: &api::Question) -> Result<Asked, String> {
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
        Ok(Asked {
            vip,
            path: path.into(),
            http,
            tls,
            client: SocketAddr::new(source, 40_000),
            method: question.method.clone().unwrap_or_else(|| "GET".into()),
            headers: fields.map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned())).collect(),
        })
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        let values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("cookie"));
        let mut pairs = values.flat_map(|(_, v)| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value.trim_matches('"').to_owned())
    }

    fn host(&self) -> String {
        let host = self.header("host").unwrap_or_else(|| self.vip.to_string());
        match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => format!("[{address}]"),
            None => host.split(':').next().unwrap_or("").to_owned(),
        }
    }
}

/// The request with the configuration and the state that it is held against.
pub struct Imagined<'a> {
    pub asked: &'a Asked,
    /// Conditions see paths and hosts in their normal form.
    pub normalizes: bool,
    pub snapshot: &'a Snapshot,
    pub known: &'a Known<'a>,
    /// What routes have kept on the way.
    pub variables: RefCell<BTreeMap<String, Vec<u8>>>,
    /// What they have made of the request.
    pub now: RefCell<Now>,
}

/// The request as routes have changed it.
#[derive(Clone, Debug, Default)]
pub struct Now {
    target: Option<String>,
    /// What this route makes of it: seen by the next.
    next_target: Option<String>,
    method: Option<String>,
    /// The server that a route has named.
    pub server: Option<Name>,
    headers: Option<Vec<(String, String)>>,
}

impl Imagined<'_> {
    fn normal(&self, text: String, form: impl Fn(&[u8]) -> Option<Vec<u8>>) -> String {
        let other = if self.normalizes { form(text.as_bytes()) } else { None };
        other.map_or(text, |other| String::from_utf8_lossy(&other).into_owned())
    }

    fn path(&self, raw: &str) -> String {
        self.normal(raw.to_owned(), |path| normal_path(path, Parameters::Strip))
    }

    /// What conditions see, where that is not what was asked.
    pub fn seen(&self) -> Option<String> {
        let raw = self.asked.path.split('?').next().unwrap_or("");
        Some(self.path(raw)).filter(|path| path != raw)
    }

    fn target(&self) -> String {
        self.now.borrow().target.clone().unwrap_or_else(|| self.asked.path.clone())
    }

    /// Path and query as they will be.
    fn next_target(&self) -> String {
        self.now.borrow().next_target.clone().unwrap_or_else(|| self.target())
    }

    fn end_route(&self) {
        let mut now = self.now.borrow_mut();
        if let Some(next) = now.next_target.take() {
            now.target = Some(next);
        }
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.now.borrow().headers.clone().unwrap_or_else(|| self.asked.headers.clone())
    }

    fn change(&self, edit: &HeaderEdit, value: impl Fn(&str) -> String) {
        let mut headers = self.headers();
        match edit {
            HeaderEdit::Set { name, value: text } => {
                headers.retain(|(n, _)| !evenkeel_rules::is_named_alike(n.as_bytes(), name.as_bytes()));
                headers.push((name.clone(), value(text)));
            }
            HeaderEdit::Add { name, value: text } => headers.push((name.clone(), value(text))),
            HeaderEdit::Remove { name } => {
                headers.retain(|(n, _)| !evenkeel_rules::is_named_alike(n.as_bytes(), name.as_bytes()))
            }
        }
        self.now.borrow_mut().headers = Some(headers);
    }
}

impl Facts for Imagined<'_> {
    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let asked = self.asked;
        let target = self.target();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let value = match fetch {
            Fetch::Host => Some(self.normal(asked.host(), normal_host)),
            Fetch::Path => Some(self.path(path)),
            Fetch::RawPath => Some(path.to_owned()),
            Fetch::Method => Some(self.now.borrow().method.clone().unwrap_or_else(|| asked.method.clone())),
            Fetch::Query if name.is_empty() => Some(query.to_owned()),
            Fetch::Query => query.split('&').find_map(|pair| match pair.split_once('=') {
                Some((n, value)) => (n == name).then(|| value.to_owned()),
                None => (pair == name).then(String::new),
            }),
            Fetch::Header => {
                let headers = self.headers();
                let mut named = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
                return named.any(|(_, v)| test(v.as_bytes()));
            }
            Fetch::Variable => return self.variables.borrow().get(name).is_some_and(|value| test(value)),
            Fetch::Cookie => asked.cookie(name),
            Fetch::Version => Some("1.1".to_owned()),
            Fetch::Scheme => Some(if asked.tls { "https" } else { "http" }.to_owned()),
            Fetch::Sni if asked.tls || !asked.http => asked.header("host").map(|_| asked.host()),
            _ => None,
        };
        value.is_some_and(|value| test(value.as_bytes()))
    }

    fn address(&self, fetch: Fetch) -> Option<IpAddr> {
        match fetch {
            Fetch::Source => Some(self.asked.client.ip()),
            Fetch::Destination => Some(self.asked.vip.ip()),
            _ => None,
        }
    }

    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64> {
        match fetch {
            Fetch::Port => Some(u64::from(self.asked.vip.port())),
            Fetch::SourcePort => Some(u64::from(self.asked.client.port())),
            Fetch::ContentLength => self.asked.header("content-length").map_or(Some(0), |l| l.parse().ok()),
            Fetch::ServersUp | Fetch::Connections => {
                let pool = self
                    .snapshot
                    .pools
                    .iter()
                    .find(|p| Some(p.name.as_str()) == arguments.first().map(String::as_str))?;
                let servers = (self.known.servers)(pool);
                Some(match fetch {
                    Fetch::ServersUp => {
                        servers.iter().filter(|s| s.server.takes_new_clients()).count() as u64
                    }
                    _ => servers.iter().map(|s| u64::from(s.server.connections)).sum(),
                })
            }
            Fetch::Rate | Fetch::Count => {
                let [table, counter] = arguments else { return None };
                let activity = (self.known.activity)(table, self).unwrap_or_default();
                Some(match (Counter::parse(counter), fetch) {
                    (None, _) => u64::from(activity.current),
                    (Some(counter), Fetch::Rate) => activity.rates[counter as usize],
                    (Some(counter), _) => activity.totals[counter as usize],
                })
            }
            _ => None,
        }
    }

    fn flag(&self, fetch: Fetch) -> bool {
        fetch == Fetch::Tls && self.asked.tls
    }

    fn local_time(&self) -> LocalTime {
        let (weekday, minute_of_day) = evenkeel_l7::local_minute();
        LocalTime { weekday, minute_of_day }
    }

    /// Nobody has a use for this one's.
    fn random(&self) -> u128 {
        0
    }
}

/// Where the routes lead.
pub struct Walked {
    pub routes: Vec<api::RouteTried>,
    /// None where a route ends it otherwise.
    pub pool: Option<Name>,
    pub ending: String,
}

pub fn walk(imagined: &Imagined<'_>, service: &VirtualService) -> Result<Walked, String> {
    let mut tried = Vec::new();
    if is_refused(imagined, service) {
        let ending = "servers read such a path differently, and a route looks at it: answer 400".to_owned();
        return Ok(Walked { routes: tried, pool: None, ending });
    }
    for route in &service.routes {
        let mut captures = Captures::wanted();
        let mut tests = Vec::new();
        let mut holds = true;
        if let Some(text) = &route.when {
            let mut expression = Expression::parse(text).map_err(|e| e.message)?;
            evenkeel_l7::load_lists(&mut expression).map_err(|e| e.to_string())?;
            holds = expression.holds(imagined, &mut captures);
            let leaves = expression.explain(imagined).into_iter();
            tests = leaves
                .map(|leaf| api::TestTried { test: secrets::text(&leaf.text), holds: leaf.holds })
                .collect();
        }
        let mut actions = Vec::new();
        let mut ending = None;
        for action in route.actions.iter().filter(|_| holds) {
            let (text, pool) = describe(action, imagined, &captures)?;
            if action.is_final() {
                let goes_on = matches!(action, Action::PoolMap { .. }) && pool.is_none();
                ending = (!goes_on).then(|| (text.clone(), pool));
            }
            actions.push(secrets::text(&text));
        }
        imagined.end_route();
        tried.push(api::RouteTried { name: route.name.as_str().into(), holds, tests, actions });
        if let Some((ending, pool)) = ending {
            let ending = format!("route {}: {ending}", route.name);
            return Ok(Walked { routes: tried, pool, ending });
        }
    }
    let ending = "no route ends it".to_owned();
    Ok(Walked { routes: tried, pool: Some(service.pool.clone()), ending })
}

/// The path may mean another thing to the server than to the routes that look at it.
fn is_refused(imagined: &Imagined<'_>, service: &VirtualService) -> bool {
    let routes = service.routes.iter().chain(service.answer_routes.iter().map(|answer| &answer.route));
    let looks = |text: &str| Expression::parse(text).is_ok_and(|when| when.wants().path());
    let in_map = |action: &Action| match action {
        Action::PoolMap { key, .. } => Template::parse(key).is_ok_and(|key| key.wants().path()),
        _ => false,
    };
    let mut reading =
        routes.filter(|route| route.when.as_deref().is_some_and(looks) || route.actions.iter().any(in_map));
    let path = imagined.asked.path.split('?').next().unwrap_or("");
    imagined.normalizes
        && !service.unclear_paths
        && is_unclear_path(path.as_bytes())
        && reading.next().is_some()
}

/// An action in words, and the pool that it chooses.
fn describe(
    action: &Action,
    facts: &Imagined<'_>,
    captures: &Captures,
) -> Result<(String, Option<Name>), String> {
    let render = |text: &str| {
        let mut out = Vec::new();
        if let Ok(template) = evenkeel_l7::loaded(text) {
            template.render(facts, captures, &mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let edit = |of: &str, edit: &HeaderEdit| match edit {
        HeaderEdit::Set { name, .. } if secrets::is_secret_header(name) => {
            format!("{of} header {name} becomes {}", secrets::LEFT_OUT)
        }
        HeaderEdit::Add { name, .. } if secrets::is_secret_header(name) => {
            format!("{of} header {name}: {} is added", secrets::LEFT_OUT)
        }
        HeaderEdit::Set { name, value } => format!("{of} header {name} becomes {:?}", render(value)),
        HeaderEdit::Add { name, value } => format!("{of} header {name}: {:?} is added", render(value)),
        HeaderEdit::Remove { name } => format!("{of} header {name} is removed"),
    };
    Ok(match action {
        Action::Track(table) => (format!("counted in table {table}"), None),
        Action::RateLimit(rule) => {
            let period = evenkeel_model::format_duration(rule.period);
            (format!("{} may come {} times in {period}", render(&rule.key), rule.count), None)
        }
        Action::ConcurrencyLimit { key, max, .. } => {
            (format!("{} may have {max} requests at a time", render(key)), None)
        }
        Action::BasicAuth { realm, .. } => (format!("a name and a password are asked for ({realm})"), None),
        Action::SetVariable { name, value } => {
            let value = render(value);
            facts.variables.borrow_mut().insert(name.clone(), value.clone().into_bytes());
            let shown = if secrets::is_secret(name) { secrets::LEFT_OUT } else { &value };
            (format!("{name} is {shown:?}"), None)
        }
        Action::Capture { name, value } => (format!("log {name}: {:?}", render(value)), None),
        Action::Priority(priority) => (format!("priority {priority} in the queue"), None),
        Action::Server(name) => {
            facts.now.borrow_mut().server = Some(name.clone());
            (format!("the server is {name}, if it can"), None)
        }
        Action::ServerTimeout(time) => {
            (format!("the server has {} for each answer", evenkeel_model::format_duration(*time)), None)
        }
        Action::RewritePath(text) => {
            let path = render(text);
            let query =
                facts.next_target().split_once('?').map_or_else(String::new, |(_, q)| format!("?{q}"));
            facts.now.borrow_mut().next_target = Some(format!("{path}{query}"));
            (format!("the path becomes {path}"), None)
        }
        Action::RewriteQuery(text) => {
            let query = render(text);
            let path = facts.next_target().split('?').next().unwrap_or("").to_owned();
            facts.now.borrow_mut().next_target =
                Some(format!("{path}?{query}").trim_end_matches('?').to_owned());
            (format!("the query becomes {query}"), None)
        }
        Action::RewriteMethod(method) => {
            facts.now.borrow_mut().method = Some(method.clone());
            (format!("the method becomes {method}"), None)
        }
        Action::RewriteUri(text) => {
            let uri = render(text);
            facts.now.borrow_mut().next_target = Some(uri.clone());
            (format!("path and query become {uri}"), None)
        }
        Action::Header(e) => {
            facts.change(e, render);
            (edit("request", e), None)
        }
        Action::ResponseHeader(e) => (edit("response", e), None),
        Action::Status(status) => (format!("the status becomes {status}"), None),
        Action::Pool(pool) => (format!("pool {pool}"), Some(pool.clone())),
        Action::PoolMap { key, file, matching, default } => {
            let matching = MapMatch::of(matching).unwrap_or_default();
            let key = render(key);
            let key = if matching == MapMatch::Stars { key.to_ascii_lowercase() } else { key };
            let found = evenkeel_l7::look_up(file, matching, key.as_bytes()).map_err(|e| e.to_string())?;
            let pool = found.as_deref().and_then(|name| Name::new(name).ok()).or_else(|| default.clone());
            let text = match (&found, &pool) {
                (Some(name), _) => format!("{} has {key}: pool {name}", file.display()),
                (None, Some(default)) => format!("{} has no {key}: pool {default}", file.display()),
                (None, None) => format!("{} has no {key}: the next route is tried", file.display()),
            };
            (text, pool)
        }
        Action::Redirect { location, status, .. } => {
            (format!("redirect {status} to {}", render(location)), None)
        }
        Action::Answer { status, .. } => (format!("answer {status}"), None),
        Action::Deny { silent: true, .. } => ("the connection ends without an answer".into(), None),
        Action::Deny { status, .. } => (format!("deny with {status}"), None),
        Action::Tarpit { delay, status } => {
            (format!("tar pit: {status} after {}", evenkeel_model::format_duration(*delay)), None)
        }
    })
}
