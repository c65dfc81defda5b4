use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use evenkeel_balance::{Counter, Figure};
use evenkeel_model::{Action, Name, RateRule, Secret};
use evenkeel_rules::{
    Facts, Fetch, ListForm, LocalTime, Map, MapForm, NetworkSet, PatternSet, Template, read_networks,
    read_patterns,
};

use super::*;

mod indexed;

/// What stands behind the steps: what the tests can compare.
struct Plain;

impl Resources for Plain {
    type Table = String;
    type Rate = u32;
    type Concurrency = u32;
    type Accounts = Vec<(String, Secret)>;
    type Page = String;
}

/// Files are texts by name.
struct Memory;

fn file(path: &Path) -> Result<&'static str, String> {
    match path.to_str().unwrap_or("") {
        "/list" => Ok("/listed*\n"),
        "/spellings" => Ok("/%69nternal/*\n/café\n/x/./y//other\n/no//*\n"),
        "/networks" => Ok("10.0.0.0/8\n"),
        "/map" => Ok("a.example other\n*.b.example main\n"),
        "/bad-map" => Ok("a.example nowhere\n"),
        other => Err(format!("{other} is not there")),
    }
}

impl Loader<Plain> for Memory {
    type Error = String;

    fn patterns(&mut self, path: &Path, form: ListForm) -> Result<Arc<PatternSet>, String> {
        Ok(Arc::new(read_patterns(file(path)?, form).0))
    }

    fn networks(&mut self, path: &Path) -> Result<Arc<NetworkSet>, String> {
        read_networks(file(path)?).map(Arc::new).map_err(|line| format!("line {line}"))
    }

    fn map(&mut self, path: &Path, form: MapForm) -> Result<Arc<Map>, String> {
        Map::read(file(path)?, form).map(Arc::new).map_err(|e| e.why.to_string())
    }

    fn table(&mut self, name: &Name) -> Result<(String, Template), String> {
        Ok((name.to_string(), Template::parse("{source}").map_err(|e| e.message)?))
    }

    fn rate(&mut self, _: &str, rule: &RateRule) -> Result<u32, String> {
        Ok(rule.count)
    }

    fn concurrency(&mut self, _: &str, max: u32) -> Result<u32, String> {
        Ok(max)
    }

    fn accounts(
        &mut self,
        _: Option<&Path>,
        own: &[(String, Secret)],
    ) -> Result<Vec<(String, Secret)>, String> {
        Ok(own.to_vec())
    }

    fn page(&mut self, answer: &Action) -> Result<(String, Option<Template>), String> {
        match answer {
            Action::Answer { body, text, .. } => Ok((body.clone(), text.clone())),
            other => Err(format!("{other:?}")),
        }
    }

    fn unknown_pool(&mut self, file: &Path, name: &str) -> String {
        format!("{}: {name}", file.display())
    }
}

/// A request, and the answer to it.
#[derive(Clone)]
struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    answer: Vec<(&'static str, &'static str)>,
    server: Option<&'static str>,
}

fn get(target: &str) -> Request {
    Request {
        method: "GET",
        target: target.into(),
        headers: vec![("Host", "a.example:81".into()), ("X-A", "one".into())],
        answer: vec![("Server", "theirs")],
        server: None,
    }
}

impl Source<Plain> for Request {
    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn host(&self) -> &[u8] {
        self.headers.iter().find(|(n, _)| *n == "Host").map_or(b"", |(_, host)| host.as_bytes())
    }

    fn request_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let named = self.headers.iter().filter(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_bytes()).any(test)
    }

    fn answer_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let named = self.answer.iter().filter(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_bytes()).any(test)
    }

    fn server(&self) -> Option<&str> {
        self.server
    }

    fn figure(&self, table: &String, key: &[u8], figure: Figure) -> Option<u64> {
        assert_eq!((table.as_str(), key), ("t", &b"10.1.2.3"[..]));
        Some(match figure {
            Figure::Current => 1,
            Figure::Total(Counter::Requests) => 7,
            Figure::Rate(Counter::Requests) => 3,
            _ => 0,
        })
    }

    fn texts(&self, _: Fetch, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn address(&self, fetch: Fetch) -> Option<IpAddr> {
        (fetch == Fetch::Source).then_some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)))
    }

    fn number(&self, _: Fetch, _: &[String]) -> Option<u64> {
        None
    }

    fn flag(&self, _: Fetch) -> bool {
        false
    }

    fn local_time(&self) -> LocalTime {
        LocalTime::default()
    }

    fn random(&self) -> u128 {
        0
    }

    fn host_name(&self) -> &[u8] {
        b"lb1"
    }
}

/// Counts as the event loops do: nothing is told.
#[derive(Default)]
struct Counts {
    tracked: Vec<String>,
    /// Limits have no room.
    full: bool,
}

impl Effects<Plain> for Counts {
    fn track(&mut self, table: &String, key: &[u8]) {
        self.tracked.push(format!("{table} {}", text_of(key)));
    }

    fn count(&mut self, table: &String, key: &[u8], counter: Counter, amount: u64, keeps: bool) {
        let sign = if keeps { "=" } else { "+" };
        self.tracked.push(format!("{table} {} {}{sign}{amount}", text_of(key), counter.as_str()));
    }

    fn take(&mut self, _: &u32, _: &[u8]) -> Result<(), u64> {
        if self.full { Err(1_001) } else { Ok(()) }
    }

    fn enter(&mut self, _: &u32, _: &[u8]) -> bool {
        !self.full
    }
}

/// Tells everything, as `explain` does.
#[derive(Default)]
struct Teller {
    counts: Counts,
    /// Names of routes, `!` before those that do not hold.
    asked: Vec<String>,
    passed: Vec<String>,
    /// What each step came to.
    told: Vec<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Target(String),
    Method(String),
    /// Of the request or else of the answer; name, value, and how.
    Header(bool, String, String, &'static str),
    Variable(String, String),
    Captured(String),
    Priority(i16),
    Timeout(u64),
    LogLevel(evenkeel_model::LogLevel),
    Server(String),
    Status(u16),
    Counted(String),
    End(String, Option<usize>),
}

impl Effects<Plain> for Teller {
    fn track(&mut self, table: &String, key: &[u8]) {
        self.counts.track(table, key);
    }

    fn count(&mut self, table: &String, key: &[u8], counter: Counter, amount: u64, keeps: bool) {
        self.counts.count(table, key, counter, amount, keeps);
    }

    fn take(&mut self, limit: &u32, key: &[u8]) -> Result<(), u64> {
        self.counts.take(limit, key)
    }

    fn enter(&mut self, limit: &u32, key: &[u8]) -> bool {
        self.counts.enter(limit, key)
    }

    fn asks_all(&self) -> bool {
        true
    }

    fn asked(&mut self, route: &Route<Plain>, holds: bool, facts: &dyn Facts) {
        let leaves: Vec<_> = route.when.iter().flat_map(|when| when.explain(facts)).collect();
        if leaves.len() == 1 && leaves[0].text == route.when.as_ref().unwrap().as_str() {
            assert_eq!(leaves.iter().all(|leaf| leaf.holds), holds, "{}: {leaves:?}", route.name);
        }
        self.asked.push(format!("{}{}", if holds { "" } else { "!" }, route.name));
    }

    fn passed_over(&mut self, route: &Route<Plain>) {
        self.passed.push(route.name.to_string());
    }

    fn done(&mut self, step: &RouteAction<Plain>, text: &[u8], pool: Option<usize>) {
        let text = text_of(text);
        let header = |of_request, edit: &Edit| {
            let (name, how) = match edit {
                Edit::Set { name, .. } => (name, "set"),
                Edit::Add { name, .. } => (name, "add"),
                Edit::Each { name, .. } => (name, "each"),
                Edit::Remove { name } => (name, "remove"),
                Edit::RemoveMatching(names) => (&names.as_str().as_bytes().into(), "matching"),
            };
            Told::Header(of_request, text_of(name), text.clone(), how)
        };
        self.told.push(match step {
            RouteAction::RewritePath(_) | RouteAction::RewriteQuery(_) | RouteAction::RewriteUri(_) => {
                Told::Target(text)
            }
            RouteAction::RewriteMethod(method) => Told::Method(text_of(method)),
            RouteAction::Header(edit) => header(true, edit),
            RouteAction::ResponseHeader(edit) => header(false, edit),
            RouteAction::SetVariable { name, .. } => Told::Variable(name.to_string(), text),
            RouteAction::Capture { .. } => Told::Captured(text),
            RouteAction::Priority(priority) => Told::Priority(*priority),
            RouteAction::ServerTimeout(time) => Told::Timeout(*time),
            RouteAction::LogLevel(level) => Told::LogLevel(*level),
            RouteAction::Server(name) => Told::Server(name.to_string()),
            RouteAction::Status(status) => Told::Status(*status),
            RouteAction::Track { .. }
            | RouteAction::RateLimit { .. }
            | RouteAction::ConcurrencyLimit { .. } => Told::Counted(text),
            _ => Told::End(text, pool),
        });
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The routes of a service in mode http, compiled.
fn routes(text: &str) -> Routes<Plain> {
    compiled(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn compiled(text: &str) -> Result<Routes<Plain>, String> {
    let pool = |name: &str| {
        format!(
            "[[pool]]\nname = '{name}'\n[[pool.real-server]]\nname = '{name}1'\naddress = '127.0.0.1:1'\n"
        )
    };
    let whole = format!(
        "{}{}[[table]]\nname = 't'\n[[virtual-service]]\nname = 's'\nvip = ['127.0.0.1:80']\nmode = 'http'\npool = 'main'\n{text}",
        pool("main"),
        pool("other")
    );
    let snapshot = evenkeel_config::read(&whole).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let names: Vec<Name> = snapshot.pools.iter().map(|p| p.name.clone()).collect();
    compile(&snapshot.services[0], &names, &mut Memory)
}

fn route(text: &str) -> String {
    format!("[[virtual-service.route]]\n{text}\n")
}

fn answer_route(text: &str) -> String {
    format!("[[virtual-service.answer-route]]\n{text}\n")
}

/// A verdict to compare.
fn ending(verdict: &Verdict<'_, Plain>) -> String {
    match verdict {
        Verdict::Pool(number) => format!("pool {number}"),
        Verdict::Redirect { status, location } => format!("{status} {}", text_of(location)),
        Verdict::Answer { status, page, body } => {
            format!("answer {status} {}", body.as_deref().map_or_else(|| (*page).clone(), text_of))
        }
        Verdict::Refuse { status, retry_after_s } => format!("refuse {status} {retry_after_s:?}"),
        Verdict::Silence { vanish: false } => "silence".into(),
        Verdict::Silence { vanish: true } => "vanish".into(),
        Verdict::Tarpit { delay_ms, status } => format!("tarpit {delay_ms} {status}"),
        Verdict::Unauthorized { realm } => format!("password {realm}"),
    }
}

/// Walks to the end; passwords are right.
fn walked(
    routes: &Routes<Plain>,
    request: &Request,
    effects: &mut impl Effects<Plain>,
    changes: &mut Changes,
) -> String {
    let mut walk = Walk::new(routes, request, changes);
    loop {
        if let Next::End(verdict) = walk.run(request, effects, changes) {
            return ending(&verdict);
        }
    }
}

fn walk_of(text: &str, request: &Request) -> (String, Changes, Teller) {
    let (mut teller, mut changes) = (Teller::default(), Changes::default());
    let end = walked(&routes(text), request, &mut teller, &mut changes);
    (end, changes, teller)
}

fn lines(changes: &HeadChanges) -> String {
    text_of(&changes.lines).replace("\r\n", ";")
}

#[test]
fn each_ending_ends_it() {
    for (action, end) in [
        ("pool = 'other'", "pool 1"),
        ("pool-map = { file = '/map', key = '{host}' }", "pool 1"),
        ("pool-map = { file = '/map', key = 'X.B.EXAMPLE' }", "pool 0"),
        ("pool-map = { file = '/map', key = 'c', default = 'other' }", "pool 1"),
        ("redirect = { location = 'https://b{path}' }", "302 https://b/a?q=1"),
        ("redirect = { location = 'https://b{path}', status = 301, drop-query = true }", "301 https://b/a"),
        ("redirect = { location = '/c?{query:q}' }", "302 /c?1"),
        ("answer = { status = 404, body = '{path}' }", "answer 404 {path}"),
        ("answer = { body = 'at {path}', variables = true }", "answer 200 at /a"),
        ("deny = { status = 410 }", "refuse 410 None"),
        ("deny = { silent = true }", "silence"),
        ("deny = { vanish = true }", "vanish"),
        ("tarpit = { delay = '3s', status = 500 }", "tarpit 3000 500"),
    ] {
        let (found, changes, teller) =
            walk_of(&(route(action) + &route("rewrite-path = '/late'")), &get("/a?q=1"));
        assert_eq!((found.as_str(), changes.target), (end, None), "{action}");
        assert!(matches!(teller.told.as_slice(), [Told::End(..)]), "{action}: {:?}", teller.told);
        assert_eq!(teller.asked, ["route-1"], "{action}: the next route is not asked");
    }
    let (end, _, teller) = walk_of(&route("pool-map = { file = '/map', key = 'c' }"), &get("/"));
    assert_eq!(
        (end.as_str(), teller.told),
        ("pool 0", vec![Told::End("c".into(), None)]),
        "nothing is found"
    );
}

#[test]
fn each_action_that_goes_on() {
    let request = get("/a;p=1/b?q=1&r");
    let changed = |action: &str| {
        let (end, changes, teller) = walk_of(&route(action), &request);
        assert_eq!(end, "pool 0", "{action}");
        (changes, teller)
    };
    for (action, target) in [
        ("rewrite-path = '/n w'", "/n%20w?q=1&r"),
        ("rewrite-path = '{path}/x'", "/a;p=1/b/x?q=1&r"),
        ("rewrite-query = 'x={query:q}'", "/a;p=1/b?x=1"),
        ("rewrite-query = ''", "/a;p=1/b"),
        ("rewrite-uri = '/u?v'", "/u?v"),
    ] {
        let (changes, teller) = changed(action);
        assert_eq!(changes.target.as_deref().map(text_of).as_deref(), Some(target), "{action}");
        assert_eq!(teller.told, [Told::Target(target.into())], "{action}");
    }
    let (changes, _) = changed("rewrite-method = 'PUT'");
    assert_eq!(changes.method.as_deref(), Some(&b"PUT"[..]));
    let (changes, _) =
        changed("set-header = { X-A = '{method}' }\nadd-header = { X-B = '1' }\nremove-header = ['X_C*']");
    assert_eq!(lines(&changes.request), "X-A: GET;X-B: 1;");
    assert!(changes.request.drops_of_request(b"x_a") && changes.request.drops_of_request(b"X-C-D"));
    let (changes, _) =
        changed("set-response-header = { X-A = \"a{query:q}\" }\nremove-response-header = ['Server']");
    assert_eq!(lines(&changes.response), "X-A: a1;");
    assert!(changes.response.drops(b"server") && !changes.response.drops(b"X_A"));
    let (changes, _) = changed("capture = { one = '{query:q}', two = '{path}' }");
    assert_eq!(text_of(&changes.captured), "1|/a;p=1/b|");
    let (changes, _) = changed("priority = -5\nserver = 'main1'\nserver-timeout = '7s'");
    assert_eq!((changes.priority, changes.server_timeout_ms), (-5, Some(7_000)));
    assert_eq!(changes.server.as_ref().map(Name::as_str), Some("main1"));
    let (changes, teller) = changed("set-variable = { v = '{path}' }");
    assert_eq!(changes.variables.get("v"), Some(&b"/a/b"[..]), "what decides has no parameters");
    assert_eq!(teller.told, [Told::Variable("v".into(), "/a/b".into())]);
    let (_, teller) = changed(
        "track = 't'\nrate-limit = { rate = '5/1s' }\nconcurrency-limit = { max = 2, key = '{path}' }",
    );
    assert_eq!(teller.counts.tracked, ["t 10.1.2.3"]);
    let keys = ["10.1.2.3", "10.1.2.3", "/a/b"];
    assert_eq!(teller.told, keys.map(|key| Told::Counted(key.into())));
    for (rule, counted) in [
        ("number = 'number-2', add = '3'", "t 10.1.2.3 number-2+3"),
        ("number = 'number-8', set = '7'", "t 10.1.2.3 number-8=7"),
    ] {
        let (_, teller) = changed(&format!("count = {{ table = 't', {rule} }}"));
        assert_eq!(teller.counts.tracked, [counted]);
    }
}

#[test]
fn limits_without_room_refuse() {
    for (action, end) in [
        ("rate-limit = { rate = '5/1s' }", "refuse 429 Some(2)"),
        ("concurrency-limit = { max = 2, status = 503 }", "refuse 503 None"),
    ] {
        let mut effects = Counts { full: true, ..Counts::default() };
        let routes = routes(&route(&format!("{action}\npool = 'other'")));
        assert_eq!(walked(&routes, &get("/"), &mut effects, &mut Changes::default()), end);
    }
}

#[test]
fn a_password_is_a_pause() {
    let text = route("name = 'p'\nbasic-auth = { realm = 'R', accounts = { a = 'hash' } }\npool = 'other'");
    let (routes, request, mut changes) = (routes(&text), get("/"), Changes::default());
    let mut teller = Teller::default();
    let mut walk = Walk::new(&routes, &request, &mut changes);
    let Next::Password { realm, accounts } = walk.run(&request, &mut teller, &mut changes) else {
        panic!("no password is asked for");
    };
    assert_eq!((realm, accounts.len(), &teller.told), ("R", 1, &Vec::new()));
    assert_eq!(walk.route().unwrap().name.as_str(), "p");
    match walk.run(&request, &mut teller, &mut changes) {
        Next::End(verdict) => assert_eq!(ending(&verdict), "pool 1"),
        Next::Password { .. } => panic!("it is asked for once"),
    }
    assert_eq!(teller.asked, ["p"], "the condition is not asked again");
}

#[test]
fn a_route_sees_what_those_before_it_have_made() {
    let text = [
        "rewrite-path = '/x'\nset-header = { X-Old = '{path}' }",
        "when = 'path(\"/x\") && header(\"X-Old\", \"/a\")'\nset-header = { Host = 'new.example:82' }\nrewrite-method = 'PUT'",
        "when = 'host(\"new.example\") && method(\"PUT\")'\nremove-header = ['X-Old']\nset-variable = { v = 'kept' }",
        "when = 'header(\"X-Old\")'\ndeny = {}",
        "when = 'variable(\"v\", \"kept\")'\nrewrite-query = 'z'\nredirect = { location = '{path}' }",
    ];
    let (end, changes, teller) = walk_of(&text.map(route).concat(), &get("/a?q"));
    assert_eq!(end, "302 /x?z");
    assert_eq!(teller.asked, ["route-1", "route-2", "route-3", "!route-4", "route-5"]);
    assert_eq!(changes.target.as_deref(), Some(&b"/x?z"[..]));
    // The path in its normal form is that of the new target.
    let text = route("rewrite-path = '/%61//b'") + &route("when = 'path(\"/a/b\")'\npool = 'other'");
    assert_eq!(walk_of(&text, &get("/")).0, "pool 1");
}

#[test]
fn conditions_ask_lists_tables_and_what_was_captured() {
    for (when, target, holds) in [
        ("path(\"@/list\")", "/listed/x", true),
        ("path(\"@/list\")", "/else", false),
        ("path(\"@/spellings\")", "/internal/x", true),
        ("path(\"@/spellings\")", "/%69nternal/./x", true),
        ("path(\"@/spellings\")", "/caf%C3%A9", true),
        ("path(\"@/spellings\")", "/x/y/other", true),
        ("source(\"@/networks\")", "/", true),
        ("rate(\"t\", \"requests\") == 3 && count(\"t\", \"requests\") == 7", "/", true),
        ("count(\"t\", \"current\") > 1", "/", false),
        ("text(\"{host|map(/map)}\", \"other\")", "/", true),
    ] {
        let (end, ..) = walk_of(&route(&format!("when = '{when}'\npool = 'other'")), &get(target));
        assert_eq!(end == "pool 1", holds, "{when} {target}");
    }
    let text = route("when = 'path(\"/u/*/x*\")'\nredirect = { location = '/{1}-{2}' }");
    assert_eq!(walk_of(&text, &get("/u/7/xy")).0, "302 /7-y");
}

#[test]
fn what_cannot_be_read_is_no_route() {
    for text in [
        "when = 'path(\"@/none\")'\ndeny = {}",
        "when = 'source(\"@/list\")'\ndeny = {}",
        "when = 'text(\"{host|map(/none)}\", \"a\")'\ndeny = {}",
        "set-header = { X-A = '{host|map(/none)}' }",
        "pool-map = { file = '/none' }",
        "pool-map = { file = '/bad-map' }",
    ] {
        assert!(compiled(&route(text)).is_err(), "{text}");
    }
}

#[test]
fn answers() {
    let text = [
        "name = 'own'\nof = 'own'\nstatus = 404\ndeny = {}",
        "name = 'theirs'\nof = 'servers'\nwhen = 'answer-header(\"Server\", \"theirs\")'\nset-header = { Server = '{server}', X-S = '{status}' }\nstatus = 201\nset-variable = { v = '{status}' }",
        "name = 'seen'\nwhen = 'status == 201 && answer-header(\"Server\", \"main1\")'\ncapture = { a = '{variable:v}{header:X-A}' }\nstop = true",
        "name = 'late'\nset-header = { X-Late = '1' }",
    ];
    // Only servers' answers are denied: the first route says so of none.
    let text = text.map(|t| answer_route(&t.replace("\ndeny = {}", ""))).concat();
    let (routes, mut teller, mut changes) = (routes(&text), Teller::default(), Changes::default());
    let request = Request { server: Some("main1"), ..get("/a") };
    let verdict = walk_answer(&routes, &request, 200, &mut teller, &mut changes);
    assert_eq!(verdict, AnswerVerdict { status: Some(201), ..AnswerVerdict::default() });
    assert_eq!(
        (&teller.passed, teller.asked.as_slice()),
        (&vec!["own".to_owned()], &["theirs".into(), "seen".into()][..])
    );
    assert_eq!(lines(&changes.response), "Server: main1;X-S: 201;", "in the order of the actions");
    assert_eq!(text_of(&changes.captured_answer), "200one|");
    let (mut teller, mut changes) = (Teller::default(), Changes::default());
    let verdict = walk_answer(&routes, &get("/a"), 503, &mut teller, &mut changes);
    assert_eq!((verdict.status, teller.passed.as_slice()), (Some(404), &["theirs".to_owned()][..]));
    assert_eq!(lines(&changes.response), "X-Late: 1;");
}

#[test]
fn only_answers_of_servers_are_denied() {
    let text =
        answer_route("when = 'status == 200'\ndeny = { status = 502 }") + &answer_route("status = 203");
    let routes = routes(&text);
    let of = |server| {
        let request = Request { server, ..get("/") };
        walk_answer(&routes, &request, 200, &mut Counts::default(), &mut Changes::default())
    };
    assert_eq!(of(Some("main1")), AnswerVerdict { deny: Some(502), ..AnswerVerdict::default() });
    assert_eq!(of(None), AnswerVerdict { status: Some(203), ..AnswerVerdict::default() });
}

#[test]
fn only_answers_of_servers_are_replaced() {
    let text = answer_route("set-header = { X-Gone = '1' }")
        + &answer_route("add-header = { X-Stays = '2' }\nredirect = { location = 'https://b{path}' }")
        + &answer_route("set-header = { X-Late = '3' }");
    let routes = routes(&text);
    let of = |server| {
        let mut changes = Changes::default();
        let request = Request { server, ..get("/a?q") };
        let verdict = walk_answer(&routes, &request, 200, &mut Counts::default(), &mut changes);
        (verdict.instead, text_of(&changes.replacement), lines(&changes.response))
    };
    assert_eq!(of(Some("main1")), (Some((1, 1)), "https://b/a?q".into(), "X-Stays: 2;".into()));
    assert_eq!(of(None), (None, String::new(), "X-Gone: 1;X-Stays: 2;X-Late: 3;".into()));
}

#[test]
fn variables_of_the_connection_stay() {
    let routes = routes(&route("set-variable = { v = '1', 'sess.w' = '2' }"));
    let mut changes = Changes::default();
    walked(&routes, &get("/"), &mut Counts::default(), &mut changes);
    changes.clear();
    assert_eq!((changes.variables.get("v"), changes.variables.get("sess.w")), (None, Some(&b"2"[..])));
}

/// A number below a bound, of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const CONDITIONS: &[&str] = &[
    "path(\"/a*\")",
    "path(\"/b\") || query(\"q\")",
    "!(path(\"/a*\"))",
    "method(\"PUT\")",
    "host(\"new.example\")",
    "header(\"X-A\", \"one\") && !(header(\"X-B\"))",
    "variable(\"v\", \"/a*\")",
    "path(\"@/list\") || source(\"@/networks\")",
    "path(\"/*/*\") && method(\"GET\")",
];
const ACTIONS: &[&str] = &[
    "rewrite-path = '/a/{1}%2F x'",
    "rewrite-query = '{query:q}#'",
    "rewrite-uri = '{header:X-A}/b?{path}'",
    "rewrite-method = 'PUT'",
    "set-header = { X-A = '{path}', Host = 'new.example' }",
    "add-header = { X-A = '{uri}' }",
    "remove-header = ['X-*']",
    "set-response-header = { X-R = '{method}{1}' }",
    "remove-response-header = ['X-R']",
    "set-variable = { v = '{path}' }",
    "capture = { c = '{variable:v}' }",
    "priority = 3",
    "server = 'main1'",
    "server-timeout = '2s'",
    "log-level = 'warning'",
    "track = 't'",
    "rate-limit = { rate = '5/1s', key = '{path}' }",
    "basic-auth = { accounts = { a = 'hash' } }",
];
const ENDINGS: &[&str] = &[
    "",
    "",
    "",
    "pool = 'other'",
    "pool-map = { file = '/map' }",
    "redirect = { location = 'https://x{path}' }",
    "answer = { body = '{uri}', variables = true }",
    "deny = {}",
    "tarpit = {}",
];

/// Makes of a request what was told, step by step, by rules of its own: what `explain` says is read so.
fn replay(told: &[Told], changes: &mut Changes) {
    for one in told {
        match one.clone() {
            Told::Target(target) => changes.target = Some(target.into_bytes()),
            Told::Method(method) => changes.method = Some(method.into_bytes().into()),
            Told::Header(of_request, name, value, how) => {
                let head = if of_request { &mut changes.request } else { &mut changes.response };
                if how != "add" {
                    // What was added under the name goes again.
                    let prefix = name.trim_end_matches('*').to_ascii_lowercase();
                    let text = text_of(&head.lines);
                    let kept = text.split_inclusive("\r\n").filter(|line| {
                        let field = line.split(':').next().unwrap_or("").to_ascii_lowercase();
                        !(if name.ends_with('*') { field.starts_with(&prefix) } else { field == prefix })
                    });
                    head.lines = kept.collect::<String>().into_bytes();
                    head.drop_named(name.as_bytes());
                }
                if how != "remove" {
                    head.add(name.as_bytes(), value.as_bytes());
                }
            }
            Told::Variable(name, value) => changes.variables.set(&name, value.as_bytes()),
            Told::Captured(text) => changes.captured.extend_from_slice(format!("{text}|").as_bytes()),
            Told::Priority(priority) => changes.priority = priority,
            Told::Timeout(time) => changes.server_timeout_ms = Some(time),
            Told::LogLevel(level) => changes.log_level = Some(level),
            Told::Server(name) => changes.server = Name::new(&name).ok(),
            Told::Status(_) | Told::Counted(_) | Told::End(..) => {}
        }
    }
}

/// What a server, a client and the log get.
fn outcome(changes: &Changes) -> String {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(text_of);
    let drops = ["X-A", "X-B", "Host", "X-R"].map(|name| {
        (changes.request.drops_of_request(name.as_bytes()), changes.response.drops(name.as_bytes()))
    });
    format!(
        "{:?} {:?} {} {} {drops:?} {} {} {:?} {:?} {:?} {:?}",
        text(&changes.target),
        changes.method.as_deref().map(text_of),
        lines(&changes.request),
        lines(&changes.response),
        text_of(&changes.captured),
        changes.priority,
        changes.server_timeout_ms,
        changes.log_level,
        changes.server,
        changes.variables.get("v").map(text_of),
    )
}

/// Random routes and requests: the walk that tells does the same as the one that does not, and what it
/// tells is what happens.
#[test]
fn what_is_told_is_what_happens() {
    for seed in 1..=400u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut text = String::new();
        for _ in 0..1 + dice.below(5) {
            let (condition, first, second) =
                (dice.one(CONDITIONS), dice.below(ACTIONS.len()), dice.below(ACTIONS.len()));
            let mut body = if dice.below(4) > 0 { format!("when = '{condition}'\n") } else { String::new() };
            body += ACTIONS[first];
            body.push('\n');
            if first != second {
                body += ACTIONS[second];
                body.push('\n');
            }
            text += &route(&(body + dice.one(ENDINGS)));
        }
        let routes = routes(&text);
        for _ in 0..8 {
            let target = ["/", "/a/b?q=1", "/b", "/%61//x;p?q", "/listed?r", "/a"][dice.below(6)];
            let mut request = get(target);
            request.method = ["GET", "PUT"][dice.below(2)];
            if dice.below(2) == 0 {
                request.headers.push(("X-B", "two".into()));
            }
            let full = dice.below(8) == 0;
            let (mut quiet, mut happened) = (Counts { full, ..Counts::default() }, Changes::default());
            let end = walked(&routes, &request, &mut quiet, &mut happened);
            let mut teller = Teller { counts: Counts { full, ..Counts::default() }, ..Teller::default() };
            let mut said = Changes::default();
            let about = format!("seed {seed}, {target}\n{text}");
            assert_eq!(walked(&routes, &request, &mut teller, &mut said), end, "{about}");
            assert_eq!(
                (outcome(&said), &teller.counts.tracked),
                (outcome(&happened), &quiet.tracked),
                "{about}"
            );
            let mut replayed = Changes::default();
            replay(&teller.told, &mut replayed);
            assert_eq!(outcome(&replayed), outcome(&happened), "{about}{:?}", teller.told);
            if let Some(Told::End(location, pool)) = teller.told.last() {
                let pool = pool.map(|number| format!("pool {number}"));
                assert!(pool.is_none_or(|pool| pool == end), "{about}{end}");
                assert!(!end.starts_with("302") || end == format!("302 {location}"), "{about}{end}");
            }
        }
    }
}
