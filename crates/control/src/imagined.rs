//! A request that nobody sent: what is known of it, and where the routes lead it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use evenkeel_api as api;
use evenkeel_balance::Counter;
use evenkeel_model::{Action, Answers, HeaderEdit, Name, Normalize, Route, Snapshot, VirtualService};
use evenkeel_rules::{
    Captures, Expression, Facts, Fetch, LocalTime, MapMatch, Parameters, Template, is_unclear_path,
    normal_host, normal_path, writable_target,
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
        bare_host(&self.header("host").unwrap_or_else(|| self.vip.to_string()))
    }
}

/// Without the port.
fn bare_host(host: &str) -> String {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => format!("[{address}]"),
        None => host.split(':').next().unwrap_or("").to_owned(),
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
    /// The host that a route has written.
    host: Option<String>,
    /// The answer, when routes of answers are walked, and what routes have added to it before.
    status: Option<u16>,
    answering: Option<String>,
    answer_headers: Vec<(String, String)>,
}

/// Path or query as a route's text makes it.
fn target_part(text: &str, path: bool) -> String {
    String::from_utf8_lossy(&writable_target(text.as_bytes(), path)).into_owned()
}

/// What an edit makes of a list of fields; `value` is a text with what `{1}` stands for in it. Of requests, names are one where servers take them for one.
fn edited(
    headers: &mut Vec<(String, String)>,
    edit: &HeaderEdit,
    of_request: bool,
    value: impl Fn(&Template, Option<&str>) -> String,
) {
    let named = |field: &str, name: &str| match of_request {
        true => evenkeel_rules::is_named_alike(field.as_bytes(), name.as_bytes()),
        false => evenkeel_rules::is_named(field.as_bytes(), name.as_bytes()),
    };
    match edit {
        HeaderEdit::Set { name, value: text } => {
            headers.retain(|(field, _)| !named(field, name));
            headers.push((name.clone(), value(text, None)));
        }
        HeaderEdit::Add { name, value: text } => headers.push((name.clone(), value(text, None))),
        HeaderEdit::Each { name, value: text } => {
            let of_name = headers.iter_mut().filter(|(field, _)| named(field, name));
            of_name.for_each(|(_, old)| *old = value(text, Some(old)));
        }
        HeaderEdit::Remove { name } => headers.retain(|(field, _)| !named(field, name)),
    }
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

    fn change(&self, edit: &HeaderEdit, value: impl Fn(&Template, Option<&str>) -> String) {
        let mut headers = self.headers();
        edited(&mut headers, edit, true, &value);
        let mut now = self.now.borrow_mut();
        match edit {
            HeaderEdit::Set { name, .. } | HeaderEdit::Add { name, .. } | HeaderEdit::Each { name, .. }
                if name.eq_ignore_ascii_case("host") =>
            {
                now.host = headers.last().map(|(_, host)| bare_host(host));
            }
            _ => {}
        }
        now.headers = Some(headers);
    }

    fn change_answer(&self, edit: &HeaderEdit, value: impl Fn(&Template, Option<&str>) -> String) {
        // The texts may ask what is changed.
        let mut headers = self.now.borrow().answer_headers.clone();
        edited(&mut headers, edit, false, value);
        self.now.borrow_mut().answer_headers = headers;
    }

    /// Method and target that the server gets, where routes or the normal form make others of them.
    pub fn changed(&self, normalize: Normalize) -> Option<String> {
        let method = self.now.borrow().method.clone();
        let target = self.target();
        let (path, rest) = target.split_at(target.find('?').unwrap_or(target.len()));
        let normal = match normalize {
            Normalize::Forward => normal_path(path.as_bytes(), Parameters::Keep),
            _ => None,
        };
        let path = normal.map_or(path.to_owned(), |path| String::from_utf8_lossy(&path).into_owned());
        let target = format!("{path}{rest}");
        let asked = &self.asked;
        let same = target == asked.path && method.as_ref().is_none_or(|m| *m == asked.method);
        (!same).then(|| format!("{} {target}", method.as_ref().unwrap_or(&asked.method)))
    }
}

impl Facts for Imagined<'_> {
    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let asked = self.asked;
        let target = self.target();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let value = match fetch {
            Fetch::Host => {
                let written = self.now.borrow().host.clone();
                Some(written.unwrap_or_else(|| self.normal(asked.host(), normal_host)))
            }
            Fetch::Path => Some(self.path(path)),
            Fetch::FullPath => Some(self.normal(path.to_owned(), |path| normal_path(path, Parameters::Keep))),
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
            Fetch::AnswerHeader => {
                let headers = self.now.borrow().answer_headers.clone();
                let mut named = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
                return named.any(|(_, v)| test(v.as_bytes()));
            }
            Fetch::Server => self.now.borrow().answering.clone(),
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
            Fetch::Status => self.now.borrow().status.map(u64::from),
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
    /// Of the answer that ends it, where there is one.
    pub status: Option<u16>,
}

pub fn walk(imagined: &Imagined<'_>, service: &VirtualService) -> Result<Walked, String> {
    let mut tried = Vec::new();
    if is_refused(imagined, service) {
        let ending = "servers read such a path differently, and a route looks at it: answer 400".to_owned();
        return Ok(Walked { routes: tried, pool: None, ending, status: Some(400) });
    }
    for route in &service.routes {
        let (holds, tests, captures) = hold(imagined, route)?;
        let mut actions = Vec::new();
        let mut ending = None;
        for action in route.actions.iter().filter(|_| holds) {
            let (text, pool) = describe(action, imagined, &captures)?;
            if ends(action, imagined, pool.is_some()) {
                ending = Some((text.clone(), pool, status_of(action)));
            }
            actions.push(secrets::text(&text));
            if ending.is_some() {
                break;
            }
        }
        imagined.end_route();
        tried.push(api::RouteTried { name: route.name.as_str().into(), holds, tests, actions });
        if let Some((ending, pool, status)) = ending {
            let ending = format!("route {}: {ending}", route.name);
            return Ok(Walked { routes: tried, pool, ending, status });
        }
    }
    let ending = "no route ends it".to_owned();
    Ok(Walked { routes: tried, pool: Some(service.pool.clone()), ending, status: None })
}

/// Whether a route holds, each test of its condition, and what it captured.
fn hold(imagined: &Imagined<'_>, route: &Route) -> Result<(bool, Vec<api::TestTried>, Captures), String> {
    let mut captures = Captures::wanted();
    let Some(mut expression) = route.when.clone() else { return Ok((true, Vec::new(), captures)) };
    evenkeel_l7::load_lists(&mut expression).map_err(|e| e.to_string())?;
    let holds = expression.holds(imagined, &mut captures);
    let leaves = expression.explain(imagined).into_iter();
    let tests = leaves.map(|leaf| api::TestTried { test: secrets::text(&leaf.text), holds: leaf.holds });
    Ok((holds, tests.collect(), captures))
}

/// Whether an action is the last one of the walk. Who brings a name and a password is taken to have the
/// right ones.
fn ends(action: &Action, imagined: &Imagined<'_>, has_pool: bool) -> bool {
    match action {
        Action::PoolMap { .. } => has_pool,
        Action::BasicAuth { .. } => imagined.asked.header("authorization").is_none(),
        _ => action.is_final(),
    }
}

fn status_of(action: &Action) -> Option<u16> {
    match action {
        Action::Redirect { status, .. } | Action::Answer { status, .. } | Action::Tarpit { status, .. } => {
            Some(*status)
        }
        Action::Deny { silent: false, status, .. } => Some(*status),
        Action::BasicAuth { .. } => Some(401),
        _ => None,
    }
}

/// Walks the routes of answers, as the data path does: over an answer of a server, or of this program
/// where `server` is none. What nobody can know of it is not there. In words, with the last status, and
/// whether the answer is denied.
pub fn walk_answers(
    imagined: &Imagined<'_>,
    service: &VirtualService,
    status: u16,
    server: Option<&str>,
) -> Result<(Vec<String>, u16, bool), String> {
    let (mut said, mut denied) = (Vec::new(), false);
    {
        let mut now = imagined.now.borrow_mut();
        now.status = Some(status);
        now.answering = server.map(str::to_owned);
    }
    for each in &service.answer_routes {
        let wanted = match each.of {
            Answers::All => true,
            Answers::OfServers => server.is_some(),
            Answers::Own => server.is_none(),
        };
        let name = &each.route.name;
        if !wanted {
            said.push(format!("answer-route {name} is not for such answers"));
            continue;
        }
        let (holds, tests, captures) = hold(imagined, &each.route)?;
        if !holds {
            let failed = tests.iter().filter(|t| !t.holds).map(|t| t.test.as_str()).collect::<Vec<_>>();
            said.push(format!("answer-route {name} does not hold: {}", failed.join(", ")));
            continue;
        }
        let mut actions = Vec::new();
        for action in &each.route.actions {
            let deny = matches!(action, Action::Deny { .. });
            let counts = matches!(
                action,
                Action::SetVariable { .. }
                    | Action::Capture { .. }
                    | Action::ResponseHeader(_)
                    | Action::Status(_)
            );
            // Answers of this program are not denied.
            let happens = counts || (deny && server.is_some());
            if !happens {
                continue;
            }
            actions.push(secrets::text(&describe(action, imagined, &captures)?.0));
            if let Action::Status(status) | Action::Deny { status, .. } = action {
                imagined.now.borrow_mut().status = Some(*status);
            }
            denied |= deny;
        }
        said.push(format!("answer-route {name} holds: {}", actions.join("; ")));
        if each.stop || denied {
            break;
        }
    }
    let status = imagined.now.borrow().status.unwrap_or(status);
    Ok((said, status, denied))
}

/// The path may mean another thing to the server than to the routes that look at it.
fn is_refused(imagined: &Imagined<'_>, service: &VirtualService) -> bool {
    let routes = service.routes.iter().chain(service.answer_routes.iter().map(|answer| &answer.route));
    let looks = |when: &Expression| when.wants().path();
    let in_map = |action: &Action| match action {
        Action::PoolMap { key, .. } => key.wants().path(),
        _ => false,
    };
    let mut reading =
        routes.filter(|route| route.when.as_ref().is_some_and(looks) || route.actions.iter().any(in_map));
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
    let decides = matches!(
        action,
        Action::Track(_)
            | Action::RateLimit(_)
            | Action::ConcurrencyLimit { .. }
            | Action::SetVariable { .. }
            | Action::PoolMap { .. }
    );
    let render_of = |text: &Template, was: Option<&str>| {
        let mut out = Vec::new();
        let mut own = Captures::default();
        let captures = match was {
            Some(was) => {
                own.only(was.as_bytes());
                &own
            }
            None => captures,
        };
        if let Ok(template) = evenkeel_l7::loaded(text) {
            match decides {
                true => template.render(facts, captures, &mut out),
                false => template.render_outward(facts, captures, &mut out),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let render = |text: &Template| render_of(text, None);
    let edit = |of: &str, edit: &HeaderEdit| match edit {
        HeaderEdit::Set { name, .. } if secrets::is_secret_header(name) => {
            format!("{of} header {name} becomes {}", secrets::LEFT_OUT)
        }
        HeaderEdit::Add { name, .. } if secrets::is_secret_header(name) => {
            format!("{of} header {name}: {} is added", secrets::LEFT_OUT)
        }
        HeaderEdit::Set { name, value } => format!("{of} header {name} becomes {:?}", render(value)),
        HeaderEdit::Add { name, value } => format!("{of} header {name}: {:?} is added", render(value)),
        HeaderEdit::Each { name, value } => format!("each {of} header {name} becomes {:?}", value.as_str()),
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
        Action::BasicAuth { realm, .. } => match facts.asked.header("authorization") {
            Some(_) => (format!("a name and a password are asked for ({realm}), and there are some"), None),
            None => (format!("answer 401: a name and a password are asked for ({realm})"), None),
        },
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
            let path = target_part(&render(text), true);
            let query =
                facts.next_target().split_once('?').map_or_else(String::new, |(_, q)| format!("?{q}"));
            facts.now.borrow_mut().next_target = Some(format!("{path}{query}"));
            (format!("the path becomes {path}"), None)
        }
        Action::RewriteQuery(text) => {
            let query = target_part(&render(text), false);
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
            let uri = match uri.split_once('?') {
                Some((path, query)) => format!("{}?{}", target_part(path, true), target_part(query, false)),
                None => target_part(&uri, true),
            };
            facts.now.borrow_mut().next_target = Some(uri.clone());
            (format!("path and query become {uri}"), None)
        }
        Action::Header(e) => {
            facts.change(e, render_of);
            (edit("request", e), None)
        }
        Action::ResponseHeader(e) => {
            facts.change_answer(e, render_of);
            (edit("response", e), None)
        }
        Action::Status(status) => (format!("the status becomes {status}"), None),
        Action::Pool(pool) => (format!("pool {pool}"), Some(pool.clone())),
        Action::PoolMap { key, file, matching, default } => {
            let matching = *matching;
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
        Action::Redirect { location, status, drop_query } => {
            let keeps = !drop_query && location.ends_in_path();
            let query = facts.next_target().split_once('?').map(|(_, query)| format!("?{query}"));
            let query = query.filter(|_| keeps).unwrap_or_default();
            (format!("redirect {status} to {}{query}", render(location)), None)
        }
        Action::Answer { status, .. } => (format!("answer {status}"), None),
        Action::Deny { silent: true, .. } => ("the connection ends without an answer".into(), None),
        Action::Deny { status, .. } => (format!("deny with {status}"), None),
        Action::Tarpit { delay, status } => {
            (format!("tar pit: {status} after {}", evenkeel_model::format_duration(*delay)), None)
        }
    })
}
