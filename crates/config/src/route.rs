//! Routes and the tables they count in: from checked keys to actions in their order.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::{
    Action, AddressKind, AnswerRoute, Answers, HeaderEdit, LogLevel, Mode, Name, RateRule, Route, Secret,
    TableRule,
};
use evenkeel_rules::{Expression, Fetch, FieldNames, MapMatch, ParseError, Template};

use crate::problem::Problem;
use crate::rewrite_location;
use crate::section::{Parsed, Section, rate};
use crate::suggest::nearest;

/// What routes can name.
pub struct Names {
    pub pools: HashSet<String>,
    pub tables: HashSet<String>,
    pub servers: HashSet<String>,
}

pub fn tables(root: Section<'_>, problems: &mut Vec<Problem>) -> Vec<Arc<TableRule>> {
    let mut all: Vec<Arc<TableRule>> = Vec::new();
    for (table, _) in root.sections("table") {
        let Some(name) = table.name("name") else { continue };
        if all.iter().any(|t| t.name == name) {
            let place = table.span("name").unwrap_or(0..0);
            problems.push(Problem::new(place, format!("a second table is named {name}")));
            continue;
        }
        let Some(key) = text_or(table, "key", "{source}", problems) else { continue };
        if !key.files().is_empty() {
            let place = table.span("key").unwrap_or(0..0);
            let problem = Problem::new(place, "the key of a table asks no map");
            problems.push(
                problem.help("ask it with `set-variable` in a route before, and write {variable:NAME}"),
            );
        }
        let entries_of = table.name("entries-of");
        if let Some(of) = &entries_of {
            let Some(whole) = all.iter().find(|t| t.name == *of && t.entries_of.is_none()).cloned() else {
                let place = table.span("entries-of").unwrap_or(0..0);
                let problem =
                    Problem::new(place, format!("there is no table {of} with entries before this one"));
                problems.push(problem.help("write the table that has the entries first"));
                continue;
            };
            for given in ["size", "expire", "period"].into_iter().filter(|word| table.value(word).is_some()) {
                let place = table.span(given).unwrap_or(0..0);
                problems.push(Problem::new(place, format!("`{given}` is said by the table {of}")));
            }
            let (size, expire, period) = (whole.size, whole.expire, whole.period);
            all.push(Arc::new(TableRule { name, key, entries_of, size, expire, period }));
            continue;
        }
        all.push(Arc::new(TableRule {
            name,
            key,
            entries_of,
            size: table.number("size", 65_536),
            expire: table.duration("expire", Duration::from_secs(600)),
            period: table.duration("period", Duration::from_secs(10)),
        }));
    }
    all
}

pub fn read(service: Section<'_>, mode: Mode, names: &Names, problems: &mut Vec<Problem>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for (number, (table, span)) in service.sections("route").enumerate() {
        let default = || Name::new(&format!("route-{}", number + 1)).ok();
        let Some(name) = table.name("name").or_else(default) else { continue };
        if routes.iter().any(|r| r.name == name) {
            let place = table.span("name").unwrap_or_else(|| span.clone());
            problems.push(Problem::new(place, format!("the service has a second route named {name}")));
        }
        let mut reader = Reader { table, mode, names, problems: &mut *problems, of_answers: false };
        let Ok(when) = reader.condition() else { continue };
        let actions = reader.actions();
        let ends: Vec<usize> = (0..actions.len()).filter(|i| actions[*i].is_final()).collect();
        if actions.is_empty() {
            let problem = Problem::new(span.clone(), format!("the route {name} does nothing"));
            problems.push(
                problem.help("give it `pool`, `redirect`, `answer`, `deny`, `set-header` or another action"),
            );
        }
        if ends.len() > 1 {
            let problem = Problem::new(span, format!("the route {name} ends in several ways"));
            problems.push(problem.help("keep one of pool, pool-map, redirect, answer, deny and tarpit"));
        }
        routes.push(Route { name, when, actions });
    }
    routes
}

/// What is done with answers.
pub fn read_answers(
    service: Section<'_>,
    mode: Mode,
    names: &Names,
    problems: &mut Vec<Problem>,
) -> Vec<AnswerRoute> {
    let mut all: Vec<AnswerRoute> = Vec::new();
    for (number, (table, span)) in service.sections("answer-route").enumerate() {
        let default = || Name::new(&format!("answer-route-{}", number + 1)).ok();
        let Some(name) = table.name("name").or_else(default) else { continue };
        let mut problem = |message: String, help: &str| {
            problems
                .push(Problem::new(table.span("name").unwrap_or_else(|| span.clone()), message).help(help));
        };
        if mode != Mode::Http {
            problem("`answer-route` needs mode \"http\"".into(), "other modes read no answers");
            continue;
        }
        if all.iter().any(|r| r.route.name == name) {
            problem(format!("the service has a second answer-route named {name}"), "names are unique");
        }
        let mut reader = Reader { table, mode, names, problems: &mut *problems, of_answers: true };
        let Ok(when) = reader.condition() else { continue };
        let actions = reader.answer_actions();
        let stop = table.flag("stop");
        let of = match table.text("of") {
            Some("servers") => Answers::OfServers,
            Some("own") => Answers::Own,
            _ => Answers::All,
        };
        let ends = actions.iter().filter(|action| action.is_final()).count();
        let mut problem = |message: String, help: &str| {
            problems.push(Problem::new(span.clone(), message).help(help));
        };
        if actions.is_empty() && !stop {
            problem(
                format!("the answer-route {name} does nothing"),
                "give it `set-header`, `remove-header`, `status`, `deny`, `stop` or another action",
            );
        }
        if ends > 0 && of == Answers::Own {
            problem(
                "this program's own answers are neither denied nor replaced".into(),
                "of = \"servers\", or remove `deny`, `redirect` and `answer`",
            );
        }
        if ends > 1 {
            problem(format!("the answer-route {name} ends in several ways"), "keep one of them");
        }
        all.push(AnswerRoute { route: Route { name, when, actions }, of, stop });
    }
    all
}

/// The text under a key, or the one that stands for it. None where the validator has refused it.
fn text_or(section: Section<'_>, key: &str, default: &str, problems: &mut Vec<Problem>) -> Option<Template> {
    match section.value(key) {
        Some(_) => section.template(key),
        None => parsed(default, None, key, problems),
    }
}

/// Parses a text that no key of the schema is a text with variables for.
fn parsed(
    text: &str,
    place: Option<Range<usize>>,
    key: &str,
    problems: &mut Vec<Problem>,
) -> Option<Template> {
    let refuse = |error: ParseError| {
        let problem = Problem::new(place.unwrap_or(0..0), format!("`{key}`: {}", error.message));
        problems.push(problem.help(error.help.unwrap_or_default()));
    };
    Template::parse(text).map_err(refuse).ok()
}

/// Tables and pools that texts name and that are not there.
pub fn check_tables(parsed: &Parsed, names: &Names, problems: &mut Vec<Problem>) {
    let mut texts: Vec<_> = parsed.templates.iter().collect();
    texts.sort_by_key(|(at, _)| **at);
    for (at, text) in texts {
        for table in text.tables().into_iter().filter(|table| !names.tables.contains(*table)) {
            let problem = Problem::new(*at..*at + 1, format!("there is no table named {table}"));
            problems.push(problem.help(format!("add [[table]] with name = \"{table}\"")));
        }
        for pool in text.pools().into_iter().filter(|pool| !names.pools.contains(*pool)) {
            let problem = Problem::new(*at..*at + 1, format!("there is no pool named {pool}"));
            problems.push(problem.help(format!("add [[pool]] with name = \"{pool}\"")));
        }
    }
}

/// The validator has refused the text.
struct Refused;

struct Reader<'a, 'p> {
    /// There is an answer to ask about.
    of_answers: bool,
    table: Section<'a>,
    mode: Mode,
    names: &'p Names,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Reader<'a, '_> {
    fn problem(&mut self, place: Option<Range<usize>>, message: String, help: String) {
        let problem = Problem::new(place.unwrap_or(0..0), message);
        self.problems.push(if help.is_empty() { problem } else { problem.help(help) });
    }

    /// The condition. Where the text is refused the route must not be built: without a condition it
    /// would hold always.
    fn condition(&mut self) -> Result<Option<Expression>, Refused> {
        let table = self.table;
        if table.value("when").is_none() {
            return Ok(None);
        }
        let place = || table.span("when");
        let expression = table.condition("when").ok_or(Refused)?;
        if let Some(test) = expression.needs_http().filter(|_| self.mode == Mode::Tcp) {
            let message = format!("{test} asks about a request, which mode \"tcp\" does not read");
            self.problem(
                place(),
                message,
                "sni, alpn, first-bytes, source, port and time can be asked in mode \"tcp\"".into(),
            );
        }
        if let Some(test) = expression.needs_answer().filter(|_| !self.of_answers) {
            let message = format!("{test} asks about an answer, which there is none of yet");
            self.problem(place(), message, "it can be asked in [[virtual-service.answer-route]]".into());
        }
        for (fetch, arguments) in expression.fetches() {
            let (kind, known) = match fetch {
                _ if fetch.is_of_first_bytes() && self.mode == Mode::Http => {
                    let message = "what a client sends first is asked in mode \"tcp\" alone".to_owned();
                    self.problem(place(), message, "in mode \"http\" it is a request".into());
                    continue;
                }
                Fetch::ServersUp | Fetch::Connections | Fetch::Queued | Fetch::ServerUp => {
                    ("pool", &self.names.pools)
                }
                Fetch::Rate | Fetch::Count | Fetch::InTable => ("table", &self.names.tables),
                _ => continue,
            };
            let asked = arguments.first().map_or("", String::as_str);
            self.known(kind, asked, known, place());
        }
        Ok(Some(expression))
    }

    fn known(&mut self, kind: &str, name: &str, known: &HashSet<String>, place: Option<Range<usize>>) {
        if known.contains(name) {
            return;
        }
        let help = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("add [[{kind}]] with name = \"{name}\""),
        };
        self.problem(place, format!("there is no {kind} named {name}"), help);
    }

    fn reference(&mut self, section: Section<'_>, key: &str, kind: &str) -> Option<Name> {
        let name = section.name(key)?;
        let names = self.names;
        let known = if kind == "pool" { &names.pools } else { &names.tables };
        self.known(kind, name.as_str(), known, section.span(key));
        Some(name)
    }

    /// What only a request has needs mode "http".
    fn http(&mut self, key: &str) -> bool {
        if self.table.value(key).is_some() && self.mode == Mode::Tcp {
            let message = format!("`{key}` needs mode \"http\"");
            self.problem(self.table.span(key), message, String::new());
        }
        self.table.value(key).is_some()
    }

    /// A text of mode tcp asks nothing about requests.
    fn readable(&mut self, place: Option<Range<usize>>, what: &str, text: &Template) {
        if text.needs_http() && self.mode == Mode::Tcp {
            let message = format!("{what} asks about a request, which mode \"tcp\" does not read");
            self.problem(place, message, String::new());
        }
    }

    fn actions(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        if self.table.value("track").is_some() {
            all.extend(self.reference(self.table, "track", "table").map(Action::Track));
        }
        all.extend(self.count());
        all.extend(self.limits());
        if self.http("basic-auth")
            && let Some(auth) = self.table.section("basic-auth")
        {
            let realm = auth.text("realm").unwrap_or("restricted").replace(['"', '\\'], "'");
            let users = auth.text("users").map(Into::into);
            let entries = auth.entries("accounts").into_iter();
            let accounts: Vec<(String, Secret)> = entries
                .filter_map(|(name, hash)| {
                    Some((name.to_owned(), hash.get_ref().as_str()?.to_owned().into()))
                })
                .collect();
            if users.is_none() && accounts.is_empty() {
                let place = self.table.span("basic-auth").unwrap_or(0..0);
                let problem = Problem::new(place, "`basic-auth` names nobody who may come in");
                self.problems.push(problem.help("write users = \"/etc/evenkeel/users\", or accounts"));
            }
            all.push(Action::BasicAuth { realm, users, accounts });
        }
        for (name, value) in self.templates("set-variable") {
            all.push(Action::SetVariable { name, value });
        }
        for (name, value) in self.templates("capture") {
            all.push(Action::Capture { name, value });
        }
        if self.table.value("priority").is_some() {
            all.push(Action::Priority(self.table.number("priority", 0)));
        }
        self.log_level(&mut all);
        if let Some(server) = self.table.name("server") {
            let servers = &self.names.servers;
            self.known("real-server", server.as_str(), servers, self.table.span("server"));
            all.push(Action::Server(server));
        }
        all.extend(self.at_servers());
        if self.http("rewrite-method")
            && let Some(method) = self.table.text("rewrite-method")
        {
            if ["HEAD", "CONNECT"].contains(&method) {
                let place = self.table.span("rewrite-method");
                let message = format!("{method} changes what an answer is: the client asked for another");
                self.problem(place, message, "such as \"GET\"".into());
            }
            all.push(Action::RewriteMethod(method.into()));
        }
        for (key, which) in AddressKind::ALL {
            all.extend(self.table.template(key).map(|value| Action::SetAddress { which, value }));
        }
        if self.http("rewrite-path") {
            all.extend(self.table.template("rewrite-path").map(Action::RewritePath));
        }
        if self.http("rewrite-query") {
            all.extend(self.table.template("rewrite-query").map(Action::RewriteQuery));
        }
        if self.http("rewrite-uri") {
            all.extend(self.table.template("rewrite-uri").map(Action::RewriteUri));
        }
        self.headers("", Action::Header, &mut all);
        self.headers("response-", Action::ResponseHeader, &mut all);
        all.extend(self.endings());
        all
    }

    /// How long servers have, and whether another one may be asked.
    fn at_servers(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        if self.http("server-timeout") && self.table.value("server-timeout").is_some() {
            let time = self.table.duration("server-timeout", Duration::from_secs(30));
            all.push(Action::ServerTimeout(time));
        }
        if self.http("connect-timeout") && self.table.value("connect-timeout").is_some() {
            let time = self.table.duration("connect-timeout", Duration::from_secs(5));
            all.push(Action::ConnectTimeout(time));
        }
        if self.http("queue-timeout") && self.table.value("queue-timeout").is_some() {
            let time = self.table.duration("queue-timeout", Duration::from_secs(5));
            all.push(Action::QueueTimeout(time));
        }
        if self.http("retry") && !self.table.flag("retry") {
            all.push(Action::Once);
        }
        all
    }

    /// What becomes of a number in a table.
    fn count(&mut self) -> Option<Action> {
        let count = self.table.section("count")?;
        let place = self.table.span("count");
        let table = self.reference(count, "table", "table")?;
        let number = count.text("number")?.strip_prefix("number-")?.parse().ok()?;
        let (add, set) = (count.value("add").is_some(), count.value("set").is_some());
        if add && set {
            self.problem(place.clone(), "`count` adds and sets".into(), "keep one of them".into());
        }
        let key = if set { "set" } else { "add" };
        let value = text_or(count, key, "1", self.problems)?;
        self.readable(place, "the text", &value);
        Some(Action::Count { table, number, value, keeps: set })
    }

    fn limits(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        if let Some(limit) = self.table.section("rate-limit")
            && let Some((count, period)) = limit.text("rate").and_then(rate)
        {
            let status = limit.number("status", 429);
            let key = self.key(limit, "{source}");
            all.extend(key.map(|key| Action::RateLimit(RateRule { key, count, period, status })));
        }
        if let Some(limit) = self.table.section("concurrency-limit") {
            let key = self.key(limit, "{source}");
            let (max, status) = (limit.number("max", 1), limit.number("status", 429));
            all.extend(key.map(|key| Action::ConcurrencyLimit { key, max, status }));
        }
        all
    }

    fn key(&mut self, section: Section<'_>, default: &str) -> Option<Template> {
        let text = text_or(section, "key", default, self.problems)?;
        self.readable(section.span("key"), "the key", &text);
        Some(text)
    }

    /// Pairs of a name and a text with variables.
    fn templates(&mut self, key: &str) -> Vec<(String, Template)> {
        if self.table.value(key).is_none() {
            return Vec::new();
        }
        let mut all = Vec::new();
        for (name, value) in self.table.entries(key) {
            let Some(text) = self.table.template_of(value) else { continue };
            self.readable(Some(value.span()), name, &text);
            if !self.of_answers && text.needs_answer() {
                let message = format!("{name} asks about an answer, which there is none of yet");
                let help = "it can be asked in [[virtual-service.answer-route]]";
                self.problem(Some(value.span()), message, help.into());
            }
            all.push((name.to_owned(), text));
        }
        all
    }

    fn log_level(&self, all: &mut Vec<Action>) {
        let level = self.table.text("log-level").and_then(LogLevel::of);
        all.extend(level.map(Action::LogLevel));
    }

    fn answer_actions(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        self.log_level(&mut all);
        let pairs = |all: &mut Vec<Action>, pairs: Vec<(String, Template)>, set: bool| {
            all.extend(pairs.into_iter().map(|(name, value)| match set {
                true => Action::SetVariable { name, value },
                false => Action::Capture { name, value },
            }));
        };
        pairs(&mut all, self.templates("set-variable"), true);
        pairs(&mut all, self.templates("capture"), false);
        if self.table.value("status").is_some() {
            all.push(Action::Status(self.table.number("status", 200)));
        }
        if let Some(places) = self.table.section("rewrite-location") {
            let edits = rewrite_location::edits(places, self.problems);
            all.extend(edits.into_iter().map(Action::ResponseHeader));
        }
        self.headers("", Action::ResponseHeader, &mut all);
        if let Some(deny) = self.table.section("deny") {
            all.push(Action::Deny {
                status: deny.number("status", 502),
                silent: deny.flag("silent"),
                vanish: false,
            });
        }
        self.pages(&mut all);
        all
    }

    /// Redirections and pages.
    fn pages(&mut self, all: &mut Vec<Action>) {
        if self.http("redirect")
            && let Some(redirect) = self.table.section("redirect")
        {
            let status = redirect.number("status", 302);
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                let message = format!("{status} is no redirection");
                self.problem(redirect.span("status"), message, "301, 302, 303, 307 or 308".into());
            }
            let (location, drop_query) = (redirect.template("location"), redirect.flag("drop-query"));
            all.extend(location.map(|location| Action::Redirect { location, status, drop_query }));
        }
        if self.http("answer")
            && let Some(answer) = self.table.section("answer")
        {
            let body = answer.text("body").unwrap_or_default().to_owned();
            if answer.value("body").is_some() && answer.value("file").is_some() {
                self.problem(
                    self.table.span("answer"),
                    "`answer` has a body and a file".into(),
                    "keep one of them".into(),
                );
            }
            let variables = answer.flag("variables");
            let has_text = variables && answer.value("file").is_none();
            let text = match has_text {
                true => parsed(&body, self.table.span("answer"), "body", self.problems),
                false => None,
            };
            all.push(Action::Answer {
                status: answer.number("status", 200),
                content_type: answer.text("content-type").map(str::to_owned),
                file: answer.text("file").map(Into::into),
                body,
                variables,
                text,
            });
        }
    }

    fn headers(&mut self, kind: &str, action: impl Fn(HeaderEdit) -> Action, all: &mut Vec<Action>) {
        let remove = format!("remove-{kind}header");
        if self.http(&remove) {
            for item in self.table.list(&remove) {
                let Some(name) = item.get_ref().as_str() else { continue };
                self.header_name(name, item.span());
                all.push(action(HeaderEdit::Remove { name: name.to_owned() }));
            }
        }
        // Answers are not there yet where routes of requests are asked.
        let matching = "remove-header-matching";
        if kind.is_empty() && self.table.value(matching).is_some() && self.http(matching) {
            for item in self.table.list(matching) {
                match FieldNames::parse(item.get_ref().as_str().unwrap_or_default()) {
                    Ok(names) => all.push(action(HeaderEdit::RemoveMatching(names))),
                    Err(why) => {
                        let message = format!("no regular expression: {why}");
                        self.problem(Some(item.span()), message, String::new());
                    }
                }
            }
        }
        for word in ["set", "add", "edit"] {
            let key = format!("{word}-{kind}header");
            // Answers are not there yet where routes of requests are asked.
            if word == "edit" && !kind.is_empty() {
                continue;
            }
            self.http(&key);
            for (name, value) in self.templates(&key) {
                self.header_name(&name, self.table.span(&key).unwrap_or(0..0));
                all.push(action(match word {
                    "set" => HeaderEdit::Set { name, value },
                    "add" => HeaderEdit::Add { name, value },
                    _ => HeaderEdit::Each { name, value },
                }));
            }
        }
    }

    /// Framing and hops belong to the program: changed by hand they would break connections.
    fn header_name(&mut self, name: &str, place: Range<usize>) {
        const OWN: [&str; 9] = [
            "content-length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "te",
            "trailer",
            "keep-alive",
            "proxy-connection",
            "http2-settings",
        ];
        if OWN.contains(&name.to_ascii_lowercase().as_str()) {
            let message = format!("{name} says how the message is framed: the program sets it itself");
            self.problem(Some(place), message, String::new());
        }
    }

    fn endings(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        if self.table.value("pool").is_some() {
            all.extend(self.reference(self.table, "pool", "pool").map(Action::Pool));
        }
        if let Some(map) = self.table.section("pool-map")
            && let Some(file) = map.text("file")
        {
            let key = self.key(map, if self.mode == Mode::Tcp { "{sni}" } else { "{host}" });
            let default = self.reference(map, "default", "pool");
            // A word that there is none of was refused by the schema.
            let matching = map.text("match").map_or(Some(MapMatch::Stars), MapMatch::of);
            all.extend(key.zip(matching).map(|(key, matching)| {
                let file = file.into();
                Action::PoolMap { key, file, matching, default }
            }));
        }
        self.pages(&mut all);
        if let Some(deny) = self.table.section("deny") {
            let vanish = deny.flag("vanish");
            let silent = vanish || deny.flag("silent");
            all.push(Action::Deny { status: deny.number("status", 403), silent, vanish });
        }
        if self.http("tarpit")
            && let Some(tarpit) = self.table.section("tarpit")
        {
            let delay = tarpit.duration("delay", Duration::from_secs(10));
            all.push(Action::Tarpit { delay, status: tarpit.number("status", 500) });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::{Key, ROOT, ValueKind};

    /// A value of each kind that is right, or broken where the kind has a grammar of its own.
    fn value(kind: &ValueKind, broken: bool) -> Option<String> {
        Some(match kind {
            ValueKind::Condition if broken => "'path('".into(),
            ValueKind::Condition => "'path(\"/a\")'".into(),
            ValueKind::Template if broken => "'{nobody}'".into(),
            ValueKind::Template => "'/{path}'".into(),
            ValueKind::LogFormat if broken => "'{client'".into(),
            ValueKind::LogFormat => "'{client}'".into(),
            ValueKind::Map(inner) => format!("{{ X-A = {} }}", value(inner, broken)?),
            ValueKind::Rate => "'5/1s'".into(),
            ValueKind::File => "'/etc/hosts'".into(),
            ValueKind::Integer { min, .. } => min.max(&302).to_string(),
            _ => return None,
        })
    }

    /// Every key of a table that holds a text with a grammar, each with a right and a broken text.
    fn texts(keys: &[Key], before: &str, out: &mut Vec<(String, String)>) {
        for key in keys {
            let path = format!("{before}{}", key.name);
            match &key.kind {
                ValueKind::Table(table) => {
                    // What else the table needs stands beside the key.
                    let beside: String = table
                        .keys
                        .iter()
                        .filter(|k| {
                            k.required && !matches!(k.kind, ValueKind::Condition | ValueKind::Template)
                        })
                        .filter_map(|k| Some(format!("{path}.{} = {}\n", k.name, value(&k.kind, false)?)))
                        .collect();
                    let mut inner = Vec::new();
                    texts(table.keys, &format!("{path}."), &mut inner);
                    out.extend(
                        inner
                            .into_iter()
                            .map(|(good, bad)| (format!("{beside}{good}"), format!("{beside}{bad}"))),
                    );
                }
                kind @ (ValueKind::Condition | ValueKind::Template | ValueKind::LogFormat)
                | kind @ ValueKind::Map(ValueKind::Template) => {
                    let line = |broken| value(kind, broken).map(|value| format!("{path} = {value}\n"));
                    out.extend(line(false).zip(line(true)));
                }
                _ => {}
            }
        }
    }

    fn keys_of<'a>(keys: &'a [Key], name: &str) -> &'a [Key] {
        match keys.iter().find(|k| k.name == name).map(|k| &k.kind) {
            Some(ValueKind::Table(table) | ValueKind::Tables(table)) => table.keys,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn a_broken_text_is_refused_at_every_key() {
        let service = keys_of(ROOT.keys, "virtual-service");
        let head = "[[table]]\nname = 'c'\nkey = '{source}'\n[[pool]]\nname = 'p'\n[[pool.real-server]]\nname = 'a'\naddress = '127.0.0.1:1'\n";
        let vip = "[[virtual-service]]\nname = 's'\nvip = ['127.0.0.1:80']\nmode = 'http'\npool = 'p'\n";
        let mut seen = 0;
        for (place, keys, more) in [
            ("[[virtual-service.route]]\n", keys_of(service, "route"), "deny = { status = 403 }\n"),
            ("[[virtual-service.answer-route]]\n", keys_of(service, "answer-route"), "status = 404\n"),
            ("", service, ""),
            ("[log]\n", keys_of(ROOT.keys, "log"), ""),
            ("[[table]]\nname = 't'\n", keys_of(ROOT.keys, "table"), ""),
        ] {
            let mut all = Vec::new();
            texts(keys, "", &mut all);
            assert!(!all.is_empty(), "{place}");
            // The values of the PROXY header belong to the pool.
            for (good, bad) in all.into_iter().filter(|(good, _)| !good.starts_with("send-proxy-values")) {
                // Redirects and maps are endings of their own.
                let ends = ["redirect", "pool-map"].iter().any(|word| good.starts_with(word));
                let counts = if good.starts_with("count") {
                    "count.table = 'c'\ncount.number = 'number-1'\n"
                } else {
                    ""
                };
                let more = if ends { "" } else { more };
                let whole = |text: &str| format!("{head}{vip}{place}{text}{counts}{more}");
                crate::read(&whole(&good)).unwrap_or_else(|e| panic!("{good}: {e:?}"));
                let problems = crate::read(&whole(&bad)).expect_err(&bad);
                assert!(!problems.is_empty() && problems.iter().all(|p| !p.message.is_empty()), "{bad}");
                seen += 1;
            }
        }
        assert!(seen >= 22, "{seen} texts");
        // No key of the schema is a text with variables for it: it may be a plain page as well.
        let answer = |more: &str| {
            crate::read(&format!(
                "{head}{vip}[[virtual-service.route]]\nanswer = {{ body = '{{nobody}}'{more} }}\n"
            ))
        };
        assert!(answer("").is_ok() && answer(", variables = true").is_err());
    }
}
