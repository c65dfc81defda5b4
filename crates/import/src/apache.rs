//! Apache's `mod_proxy_balancer`.

mod access;
mod lines;
mod passes;
mod redirect;
mod remote;
mod rewrite;
mod session;

use access::Access;
use passes::{pass, pass_matching, remote_place, single};
use redirect::{cookies_reversed, redirect, reversed};

use crate::draft::{Draft, Line, Pool, Service, Table, Twice, Value, also, status, unverified};
use crate::words::{address, duration, name, quoted, split_port, with_port};

#[derive(Default)]
struct Host {
    line: usize,
    places: Vec<String>,
    names: Vec<String>,
    comments: Vec<String>,
    lines: Vec<(usize, Vec<String>)>,
    /// Who may come in where, in the order in which later sections take the place of earlier ones.
    access: Vec<Access>,
    /// What sections pass on, which Apache asks before the lines of the host, the last one first.
    located: Vec<(usize, Vec<String>)>,
    server_root: Option<String>,
}

const OF_FILES: &str = "it is about files, which are not served here: what is passed on never asked it";

/// Whether an access rule keeps somebody out.
fn closes(words: &[String]) -> bool {
    let text = words.join(" ").to_lowercase();
    let keyword = text.split(' ').next().unwrap_or("");
    let opens =
        ["order", "allow from all", "require all granted", "sslverifyclient none", "allowmethods reset"];
    access::is_rule(keyword)
        && !keyword.starts_with(['<'])
        && !opens.iter().any(|open| text.starts_with(open))
}

/// A line and its words.
type Words = (usize, Vec<String>);
/// Its line, its name, what is inside.
type Balancer = (usize, String, Vec<Words>);

/// By the name of a balancer's pool: the path of each member.
type Members = std::collections::BTreeMap<String, Vec<String>>;

/// By the name of a balancer's pool: the routes that name the server of a session.
type Sessions = std::collections::BTreeMap<String, Vec<Table>>;

/// What has been read of a file.
#[derive(Default)]
struct Reader {
    server: Host,
    hosts: Vec<Host>,
    balancers: Vec<Balancer>,
    in_host: bool,
    in_proxy: bool,
    /// The end of the section that is open, and what it is: lines of others are not looked at.
    skipped: String,
    section: Option<Access>,
    located: Option<Located>,
    comments: Vec<String>,
}

pub fn read(text: &str, draft: &mut Draft) {
    let server = Host { places: vec!["*:80".into()], ..Host::default() };
    let mut reader = Reader { server, ..Reader::default() };
    for (at, line) in lines::read(text, draft) {
        let bare = line.trim();
        if let Some(comment) = bare.strip_prefix('#') {
            reader.comments.push(comment.trim().to_owned());
            continue;
        }
        let words = lines::words(bare);
        let Some(keyword) = words.first().map(|w| w.to_lowercase()) else { continue };
        match reader.skipped.is_empty() {
            true => reader.line(at, words, &keyword, draft),
            false => reader.line_of_section(at, words, &keyword, draft),
        }
    }
    finish(reader.server, reader.hosts, reader.balancers, draft);
}

impl Reader {
    fn host(&mut self) -> &mut Host {
        match self.hosts.last_mut().filter(|_| self.in_host) {
            Some(host) => host,
            None => &mut self.server,
        }
    }

    fn line_of_section(&mut self, at: usize, words: Vec<String>, keyword: &str, draft: &mut Draft) {
        if keyword == self.skipped {
            self.skipped.clear();
            let rules = self.section.take().filter(Access::has_rules);
            return self.host().access.extend(rules);
        }
        match self.located.as_ref().and_then(|place| located(&words, place)) {
            Some(line) => self.host().located.insert(0, (at, line)),
            None => in_section(at, words, keyword, self.section.as_mut(), draft),
        }
    }

    fn begin(&mut self, end: String, section: Option<Access>, located: Option<Located>) {
        (self.skipped, self.section, self.located) = (end, section, located);
    }

    fn line(&mut self, at: usize, words: Vec<String>, keyword: &str, draft: &mut Draft) {
        match keyword {
            "<virtualhost" => {
                let places = words[1..].iter().map(|p| p.trim_end_matches('>').to_owned());
                let places = places.filter(|p| !p.is_empty()).collect();
                let comments = std::mem::take(&mut self.comments);
                self.hosts.push(Host { line: at, places, comments, ..Host::default() });
                self.in_host = true;
            }
            "</virtualhost>" => self.in_host = false,
            "<proxy" => {
                let place = words.get(1).map_or("", String::as_str).trim_end_matches('>').to_owned();
                match place.strip_prefix("balancer://") {
                    Some(name) => {
                        self.balancers.push((at, name.trim_end_matches('/').to_owned(), Vec::new()));
                        self.in_proxy = true;
                    }
                    None => self.begin("</proxy>".into(), Some(Access::of(&words)), None),
                }
            }
            "</proxy>" => self.in_proxy = false,
            // What it asks is no place of a route.
            "<location" | "<locationmatch" | "<proxymatch" | "<if" | "<elseif" | "<else>" => {
                let end = format!("</{}>", keyword[1..].trim_end_matches('>'));
                self.begin(end, Some(Access::of(&words)), Located::of(keyword, &words));
            }
            // What is inside protects or shows files of Apache's own.
            "<directory" | "<directorymatch" | "<files" | "<filesmatch" => {
                self.begin(format!("</{}>", &keyword[1..]), None, None);
            }
            word if word.starts_with("</") && !(self.in_proxy && access::is_rule(word)) => {}
            word if word.starts_with('<') && !(self.in_proxy && access::is_rule(word)) => {
                draft.left(at, &words.join(" "), "what is inside counts for all requests");
            }
            _ if self.in_proxy => {
                self.balancers.last_mut().into_iter().for_each(|b| b.2.push((at, words.clone())))
            }
            "servername" | "serveralias" => {
                let names = words[1..].iter().map(|name| split_port(name).0.to_owned());
                self.host().names.extend(names);
            }
            _ => self.host().lines.push((at, words)),
        }
    }
}

/// The place of a `Location` whose lines are those of the host with the place in front.
struct Located {
    /// A path, or a regular expression.
    place: String,
    matches: bool,
}

impl Located {
    fn of(keyword: &str, words: &[String]) -> Option<Located> {
        let mut rest: Vec<&str> = words[1..].iter().map(|word| word.trim_end_matches('>')).collect();
        rest.retain(|word| !word.is_empty());
        let plain = |path: &&str| path.starts_with('/') && !path.contains(['*', '?', '[']);
        let (place, matches) = match (keyword, rest[..].split_first()) {
            ("<location", Some((&"~", [pattern]))) => (*pattern, true),
            ("<location", Some((path, []))) if plain(path) => (*path, false),
            ("<locationmatch", Some((pattern, []))) => (*pattern, true),
            _ => return None,
        };
        Some(Located { place: place.to_owned(), matches })
    }
}

/// A line of a section as one of its host.
fn located(words: &[String], section: &Located) -> Option<Vec<String>> {
    let keyword = match words[0].to_lowercase().as_str() {
        "proxypass" if section.matches => "ProxyPassMatch",
        "proxypass" => "ProxyPass",
        "proxypassreverse" if !section.matches => "ProxyPassReverse",
        // What holds for every path is the host's.
        "header" | "requestheader" if section.place == "/" => return Some(words.to_vec()),
        _ => return None,
    };
    let place = [keyword.to_owned(), section.place.clone()];
    Some(place.into_iter().chain(words[1..].iter().cloned()).collect())
}

/// A line of a section that only its rules of access are carried over of.
fn in_section(at: usize, words: Vec<String>, keyword: &str, section: Option<&mut Access>, draft: &mut Draft) {
    match (keyword, section) {
        (word, Some(section)) if access::is_rule(word) => section.rules.push((at, words)),
        (word, None) if access::is_rule(word) && closes(&words) => {
            draft.remark(at, &words.join(" "), OF_FILES);
        }
        // Pages of Apache's own, and what says nothing to those who are passed on.
        ("sethandler", _)
            if words.get(1).is_some_and(|w| {
                ["balancer-manager", "server-status", "server-info"].contains(&w.as_str())
            }) => {}
        ("options" | "allowoverride", _) => {}
        (word, None) if word.starts_with('<') || !word.starts_with("proxy") => {}
        (word, _) if word.starts_with("</") => {}
        _ => {
            let why = "what stands in a section is not carried over: write it beside it";
            draft.left(at, &words.join(" "), why);
        }
    }
}

/// What makes a host of the server itself.
const PASSES: &[&str] = &[
    "proxypass",
    "proxypassmatch",
    "redirect",
    "redirectmatch",
    "redirectpermanent",
    "redirecttemp",
    "rewriterule",
];

/// What is said for the whole server is said for each host. The rest is about the process, or told; where the
/// server passes on itself, it is a host, whose lines are told as those of hosts.
fn inherited(server: &mut Host, hosts: &mut [Host], draft: &mut Draft) {
    let is = |words: &[String], all: &[&str]| all.contains(&words[0].to_lowercase().as_str());
    let inherits = |w: &[String]| is(w, lines::INHERITED) || is(w, &remote::DIRECTIVES);
    let lines: Vec<Words> = server.lines.iter().filter(|(_, w)| inherits(w)).cloned().collect();
    for host in &mut *hosts {
        host.lines.splice(0..0, lines.iter().cloned());
    }
    let passes = server.lines.iter().any(|(_, w)| PASSES.contains(&w[0].to_lowercase().as_str()));
    for (at, words) in server.lines.iter().filter(|_| !passes) {
        if !inherits(words) && !lines::is_of_the_process(&words[0].to_lowercase()) {
            draft.left(*at, &words.join(" "), "not carried over");
        }
    }
    server.lines.retain(|(_, words)| passes || is(words, &["serverroot"]));
}

/// The addresses and ports of `Listen`.
fn listened(server: &Host) -> Vec<String> {
    let lines = server.lines.iter().filter(|(_, words)| words[0].eq_ignore_ascii_case("Listen"));
    let place = |place: &str| match split_port(place) {
        (port, None) if port.bytes().all(|b| b.is_ascii_digit()) => format!("*:{port}"),
        _ => place.to_owned(),
    };
    lines.filter_map(|(_, words)| words.get(1)).map(|one| place(one)).collect()
}

/// Makes pools and services of what was read.
fn finish(mut server: Host, mut hosts: Vec<Host>, mut balancers: Vec<Balancer>, draft: &mut Draft) {
    // What is said for the whole server is said for each host, before its own.
    let root = server.lines.iter().find(|(_, w)| w[0].eq_ignore_ascii_case("ServerRoot"));
    server.server_root = root.and_then(|(_, w)| w.get(1).cloned());
    let ports = listened(&server);
    if !ports.is_empty() {
        server.places.clone_from(&ports);
    }
    inherited(&mut server, &mut hosts, draft);
    for host in hosts.iter_mut().chain([&mut server]) {
        let located = std::mem::take(&mut host.located);
        host.lines.splice(0..0, located);
    }
    for host in &mut hosts {
        host.access.splice(0..0, server.access.iter().cloned());
        host.server_root.clone_from(&server.server_root);
    }
    for (_, of, lines) in &mut balancers {
        let (rules, rest): (Vec<Words>, Vec<Words>) =
            std::mem::take(lines).into_iter().partition(|(_, w)| access::is_rule(&w[0].to_lowercase()));
        *lines = rest;
        if !rules.is_empty() {
            let own = Access::of_balancer(name(of), rules);
            let all = hosts.iter_mut().chain([&mut server]);
            all.for_each(|host| host.access.insert(0, own.clone()));
        }
    }
    let does = |word: &str| {
        ["proxypass", "proxypassmatch"].contains(&word.to_ascii_lowercase().as_str())
            || word.to_ascii_lowercase().starts_with("redirect")
    };
    let passes = |host: &Host| host.lines.iter().any(|(_, w)| does(&w[0])) || rewrites(host);
    if passes(&server) {
        hosts.push(server);
    }
    for host in hosts.iter().filter(|h| !passes(h)) {
        draft.left(host.line, "VirtualHost", "nothing of it is passed on: it is left out");
        rewrite::left_with_its_host(&host.lines, draft);
    }
    let mut sessions = Sessions::default();
    for (line, of, lines) in &balancers {
        let sticky = hosts.iter().flat_map(|h| &h.lines).find_map(|(_, w)| sticky(w, of));
        pool(*line, of, lines, sticky, &hosts, &mut sessions, draft);
    }
    let members: Members = balancers.iter().map(|(_, of, lines)| (name(of), paths_of(lines))).collect();
    hosts.iter().filter(|h| passes(h)).for_each(|host| service(host, &members, &sessions, draft));
}

/// Whether a rule sends clients on.
fn rewrites(host: &Host) -> bool {
    rewrite::rules_of(&host.lines)
        .any(|(conditions, (_, rule))| rewrite::is_known(conditions, rule, host.site()))
}

/// The paths that members of a balancer are named with.
fn paths_of(lines: &[Words]) -> Vec<String> {
    let members = lines.iter().filter(|(_, words)| words[0].eq_ignore_ascii_case("BalancerMember"));
    let path = |place: &str| {
        let rest = place.split_once("://").map_or(place, |(_, rest)| rest);
        rest.split_once('/').map_or(String::new(), |(_, path)| path.trim_matches('/').to_owned())
    };
    members.filter_map(|(_, words)| words.get(1)).map(|place| path(place)).collect()
}

fn sticky(words: &[String], of: &str) -> Option<String> {
    let passes = words[0].eq_ignore_ascii_case("ProxyPass")
        && words.iter().any(|w| w.contains(&format!("balancer://{of}")));
    words.iter().filter(|_| passes).find_map(|w| w.strip_prefix("stickysession=")).map(str::to_owned)
}

fn pool(
    line: usize,
    of: &str,
    lines: &[(usize, Vec<String>)],
    from_pass: Option<String>,
    hosts: &[Host],
    sessions: &mut Sessions,
    draft: &mut Draft,
) {
    let mut pool = Pool { name: draft.fresh(&name(of)), ..Pool::default() };
    let mut session = from_pass;
    for (at, words) in lines {
        match words[0].to_lowercase().as_str() {
            "balancermember" => {
                if let Some(server) = member(*at, words, draft) {
                    pool.add(server, Twice::One, *at, draft);
                }
            }
            "proxyset" => {
                for option in &words[1..] {
                    proxy_set(*at, option, &mut pool.table, &mut session, draft);
                }
            }
            _ => draft.left(*at, &words.join(" "), "not carried over"),
        }
    }
    if pool.servers.iter().all(|server| server.has("server-tls")) && !pool.servers.is_empty() {
        pool.servers.iter_mut().for_each(|server| server.lines.retain(|line| line.key != "server-tls"));
        pool.table.set("server-tls", unverified());
    }
    timeouts_of(lines, &TIMEOUTS, &mut pool.table, draft);
    if let Some(session) = session {
        let routes = session::routes(&session, lines, &pool.servers);
        session::persist(&session, hosts, routes.is_empty(), &mut pool.table);
        // What Apache puts into a cookie of its own is the server's name here.
        if !pool.table.has("persistence") {
            sessions.insert(pool.name.clone(), routes);
        }
    }
    if pool.servers.is_empty() {
        return draft.left(line, &format!("balancer://{of}"), "it has no members and is left out");
    }
    draft.pools.push(pool);
}

/// Seconds, or a number with one of Apache's units.
fn time(text: &str) -> Option<String> {
    let minutes = text.strip_suffix("min").or(text.strip_suffix("mi"));
    minutes.map_or_else(|| duration(text, "s"), |number| duration(number, "m"))
}

/// Time-outs of `BalancerMember`, each with its key of a pool.
const TIMEOUTS: [(&str, &str); 2] = [("timeout=", "server"), ("connectiontimeout=", "connect")];

/// The time-outs of a pool's servers: it has them for all of them.
fn timeouts_of(lines: &[Words], options: &[(&str, &str)], pool: &mut Table, draft: &mut Draft) {
    let mut all = Table::default();
    for (option, key) in options {
        let of = |(at, words): &Words| {
            let name = words[0].to_lowercase();
            let value = words.iter().find_map(|word| word.strip_prefix(option)).map(str::to_owned);
            // What `ProxySet` says holds for all.
            let is_one = ["balancermember", "proxypass"].contains(&name.as_str());
            (is_one || name == "proxyset" && value.is_some()).then_some((*at, value))
        };
        let each: Vec<_> = lines.iter().filter_map(of).collect();
        let Some((at, value)) = each.iter().find_map(|(at, value)| Some((*at, value.as_ref()?))) else {
            continue;
        };
        match time(value).filter(|_| each.iter().all(|(_, other)| other.as_ref() == Some(value))) {
            Some(time) => all.text(key, &time),
            None => {
                let why = "a pool has one time-out for all its servers: this one is left out";
                draft.left(at, &format!("{option}{value}"), why);
            }
        }
    }
    if !all.lines.is_empty() {
        pool.set("timeouts", all);
    }
}

/// One `BalancerMember`; `None` where it is left out.
fn member(at: usize, words: &[String], draft: &mut Draft) -> Option<Table> {
    let place = words.get(1).map_or("", String::as_str);
    let (scheme, rest) = place.split_once("://").unwrap_or(("http", place));
    let (host, port) = split_port(rest.split('/').next().unwrap_or(""));
    let Some(host) = crate::words::host(host) else {
        draft.left(at, place, "it is no address: the member is left out; write its address");
        return None;
    };
    // A WebSocket is an upgrade of HTTP here.
    let (scheme, known) = match scheme {
        "ws" => ("http", true),
        "wss" => ("https", true),
        other => (other, ["http", "https"].contains(&other)),
    };
    if !known {
        draft.left(at, place, format!("{scheme} is not spoken: the member is left out"));
        return None;
    }
    let port = port.unwrap_or(if scheme == "https" { "443" } else { "80" });
    let mut server = Table::default();
    let wanted = words
        .iter()
        .find_map(|w| w.strip_prefix("route="))
        .map_or_else(|| host.replace([':', '.'], "-"), str::to_owned);
    server.text("name", &name(&wanted));
    server.text("address", &with_port(&host, port));
    if scheme == "https" {
        // Apache checks no certificates of servers unless told to.
        server.set("server-tls", unverified());
    }
    for option in words.iter().skip(2) {
        match option.split_once('=') {
            Some(("loadfactor", value)) => match value.parse::<f64>() {
                Ok(factor) if factor > 0.0 => server.set("weight", (factor * 100.0) as u32),
                _ => draft.left(at, option, "not carried over"),
            },
            Some(("status", value)) if value.contains('H') => {
                server.set_with("backup", true, "a hot standby")
            }
            Some(("status", value)) if value.contains('D') => {
                server.set_with("admin-state", Value::text("halted"), "it was disabled")
            }
            Some(("max", value)) => server.number("max-connections", value),
            Some(("route" | "timeout" | "connectiontimeout", _)) => {}
            Some(("retry", _)) => {
                draft.note(at, option, "a server that failed comes back when its health check succeeds");
            }
            Some((key, _)) if lines::is_of_connections(key) => {}
            _ => draft.left(at, option, "not carried over"),
        }
    }
    Some(server)
}

/// One option of `ProxySet`.
fn proxy_set(at: usize, option: &str, pool: &mut Table, session: &mut Option<String>, draft: &mut Draft) {
    match option.split_once('=') {
        Some(("lbmethod", "byrequests")) => pool.text("scheduler", "round-robin"),
        Some(("lbmethod", "bybusyness")) => pool.text("scheduler", "least-connections"),
        Some(("lbmethod", other)) => {
            let why = "the server with the fewest connections is taken";
            draft.left(at, &format!("lbmethod={other}"), why);
            pool.text("scheduler", "least-connections");
        }
        Some(("stickysession", value)) => *session = Some(value.to_owned()),
        Some(("maxattempts", value)) => pool.number("retries", value),
        Some(("timeout" | "connectiontimeout", _)) => {}
        _ => draft.left(at, option, "not carried over"),
    }
}

fn service(host: &Host, members: &Members, sessions: &Sessions, draft: &mut Draft) {
    let vips: Vec<String> = host
        .places
        .iter()
        .filter_map(|place| {
            let (at, port) = split_port(place);
            // All addresses of both families.
            let at = if at == "*" || at == "_default_" { "*".into() } else { address(at)? };
            Some(with_port(&at, port.filter(|p| *p != "*").unwrap_or("80")))
        })
        .collect();
    if vips.is_empty() {
        return draft.left(
            host.line,
            "VirtualHost",
            format!("{} is no address: it is left out", host.places.join(" ")),
        );
    }
    let wanted = name(host.names.first().map_or("web", String::as_str));
    let mut service = Service { name: draft.fresh(&wanted), mode: "http".into(), vips, ..Service::default() };
    service.table.comments.clone_from(&host.comments);
    service.table.texts("forwarded", &["x-forwarded-for", "x-forwarded-host"]);
    let mut told = directives(host, members, &mut service, draft);
    if !told.keeps_host {
        draft.note(host.line, "ProxyPreserveHost", "servers get the client's Host, not their own name");
    }
    let certificate = told.certificate.clone().filter(|_| told.has_tls);
    if let Some(file) = &certificate {
        let mut tls = Table::default();
        told.min_tls.iter().for_each(|version| tls.text("min-version", version));
        if let Some(clients) = told.clients_of_tls(host, draft) {
            tls.set("client-auth", clients);
        }
        tls.texts("certificates", std::slice::from_ref(file));
        service.table.set("tls", tls);
    }
    std::mem::take(&mut told.remote).place(host.line, &mut service.table, draft);
    redirect::place(std::mem::take(&mut told.redirects), &mut service, draft);
    let mut access = told.access;
    access.extend(host.access.iter().cloned());
    let root = host.server_root.clone();
    access::routes(&access, root, &mut service.routes, service.pool.as_ref(), draft);
    service.routes.splice(0..0, told.heads);
    session::place(sessions, &mut service);
    if !answer_the_rest(&mut service) {
        return draft.left(host.line, "VirtualHost", "nothing of it is passed on: it is left out");
    }
    // Several hosts on one address are one service: its routes ask for the host.
    match draft.services.iter_mut().find(|s| s.vips == service.vips && s.mode == "http") {
        Some(known) => merge(known, service, host, certificate),
        None => draft.services.push(service),
    }
}

/// What the directives of a host say of it as a whole.
#[derive(Default)]
struct Directives {
    certificate: Option<String>,
    has_tls: bool,
    min_tls: Option<&'static str>,
    keeps_host: bool,
    /// The `ProxyPass` of all paths, with its line.
    all_passed: Option<(usize, String)>,
    /// Routes that change headers.
    heads: Vec<Table>,
    /// Those of `Redirect`, with their lines.
    redirects: Vec<(usize, String, Table)>,
    /// Rules that stand in no section.
    access: Vec<Access>,
    /// Of clients with certificates: whether they must have one, who vouches for them, who no longer.
    clients: [Option<String>; 3],
    remote: remote::Remote,
}

impl Directives {
    /// Whether a line is about certificates of clients, which is taken then.
    fn takes(&mut self, words: &[String]) -> bool {
        let value = words.get(1).cloned();
        match words[0].to_lowercase().as_str() {
            "sslcacertificatefile" => self.clients[1] = value,
            "sslcarevocationfile" => self.clients[2] = value,
            "sslverifydepth" => {}
            "sslverifyclient" if matches!(value.as_deref(), Some("require" | "optional")) => {
                self.clients[0] = value;
            }
            _ => return false,
        }
        true
    }

    /// Apache takes the first that fits.
    fn passes(
        &mut self,
        at: usize,
        words: &[String],
        members: &Members,
        service: &mut Service,
        draft: &mut Draft,
    ) {
        if let Some((line, first)) = &self.all_passed {
            let why = format!(
                "never reached: `{first}` in line {line} takes all requests before it, in Apache too"
            );
            return draft.remark(at, &words.join(" "), why);
        }
        if words[0].eq_ignore_ascii_case("proxypassmatch") {
            return pass_matching(at, words, service, draft);
        }
        pass(at, words, members, service, draft);
        self.all_passed = service.pool.is_some().then(|| (draft.place(at).1, words.join(" ")));
    }

    /// `client-auth`; where nobody vouches for clients, nobody comes in.
    fn clients_of_tls(&mut self, host: &Host, draft: &mut Draft) -> Option<Table> {
        let [Some(mode), ca, crl] = &self.clients else { return None };
        let Some(ca) = ca else {
            let words = vec!["SSLVerifyClient".to_owned(), mode.clone()];
            self.access.push(Access::of_host(vec![(host.line, words)]));
            return None;
        };
        let mode = if mode == "require" { "required" } else { "optional" };
        draft.note(
            host.line,
            "SSLVerifyClient",
            "authorities in a folder (SSLCACertificatePath) are not asked",
        );
        let mut auth = Table::default().with_text("ca", ca);
        crl.iter().for_each(|file| auth.text("crl", file));
        Some(auth.with_text("mode", mode).with("headers", false))
    }
}

fn directives(host: &Host, members: &Members, service: &mut Service, draft: &mut Draft) -> Directives {
    let mut told = Directives::default();
    for (conditions, (at, rule)) in rewrite::rules_of(&host.lines) {
        service.routes.extend(rewrite::route(conditions, *at, rule, host.site(), draft));
    }
    told.has_tls = host.site().has_tls;
    lines::limits(&host.lines, service, draft);
    for (at, words) in &host.lines {
        match words[0].to_lowercase().as_str() {
            _ if told.takes(words) || told.remote.takes(*at, words, draft) => {}
            "proxypass" | "proxypassmatch" => told.passes(*at, words, members, service, draft),
            "sslengine" | "rewriteengine" | "rewritecond" | "rewriterule" => {}
            "sslcertificatefile" => told.certificate = words.get(1).cloned(),
            "sslprotocol" => {
                let only = words[1..].iter().all(|w| w == "-all" || w.trim_start_matches('+') == "TLSv1.3");
                told.min_tls = only.then_some("1.3");
            }
            "proxypassreverse" => match reversed(words, members, draft) {
                Some(route) => service.answer_routes.push(route),
                None => draft.left(
                    *at,
                    &words.join(" "),
                    "places in answers that name the server stay as they are",
                ),
            },
            "proxypassreversecookiedomain" | "proxypassreversecookiepath" => match cookies_reversed(words) {
                Some(route) => service.answer_routes.push(route),
                None => draft.left(*at, &words.join(" "), "cookies stay as servers set them"),
            },
            "redirect" | "redirectmatch" | "redirectpermanent" | "redirecttemp" => match redirect(words) {
                Some(route) => told.redirects.push((*at, words.join(" "), route)),
                None => draft.left(*at, &words.join(" "), "write it as a route that has `redirect`"),
            },
            "proxypreservehost" => {
                told.keeps_host = words.get(1).is_some_and(|v| v.eq_ignore_ascii_case("on"))
            }
            "header" | "requestheader" => {
                // The cookie of a balancer is its persistence.
                if !words.iter().any(|w| w.contains("BALANCER_WORKER_ROUTE")) {
                    match header(words) {
                        Some(route) => told.heads.push(route),
                        None => draft.left(*at, &words.join(" "), "not carried over"),
                    }
                }
            }
            "sslcertificatekeyfile" => lines::key(*at, words, &host.lines, draft),
            word if lines::is_of_servers_certificates(*at, word, words, draft) => {}
            "traceenable" if words.get(1).is_some_and(|w| w.eq_ignore_ascii_case("on")) => {}
            "traceenable" => {
                let mut route = Table::default();
                route.when("method(\"TRACE\")");
                route.set("deny", status(405));
                service.routes.insert(0, route);
            }
            word if lines::sizes_heads(word, words, &mut service.table) => {}
            word if lines::is_of_the_process(word) || lines::is_limit(word) => {}
            word if access::is_rule(word) => told.access.push(Access::of_host(vec![(*at, words.clone())])),
            _ => draft.left(*at, &words.join(" "), "not carried over"),
        }
    }
    told
}

/// A service needs a pool, and an answer for what no route takes; whether anything is passed on.
fn answer_the_rest(service: &mut Service) -> bool {
    if service.pool.is_some() || service.own.is_some() {
        return true;
    }
    let mut rest = Table::default();
    rest.text("name", "not-here");
    rest.set("deny", status(404));
    match service.routes.iter().find_map(|r| r.text_of("pool").map(str::to_owned)) {
        Some(pool) => {
            rest.comments.push("What is not passed on was Apache's own.".into());
            service.pool = Some(pool);
        }
        // A host that only sends elsewhere.
        None if !service.routes.is_empty() => {
            service.own = Some(Pool { servers: vec![crate::draft::nobody()], ..Pool::default() });
        }
        None => return false,
    }
    service.routes.push(rest);
    true
}

/// A further host on the address of a service.
fn merge(known: &mut Service, mut service: Service, host: &Host, certificate: Option<String>) {
    let hosts = host.names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
    let mut route = Table::commented(host.comments.clone());
    route.text("name", &service.name);
    if let Some(pool) = &service.pool {
        route.text("pool", pool);
    }
    let mut routes = std::mem::take(&mut service.routes);
    if service.pool.is_some() {
        routes.push(route);
    }
    // The time of the first host is that of the service.
    let time = |service: &Service| service.timeouts.text_of("server").map(str::to_owned);
    if let Some(own) = time(&service).filter(|own| time(known).as_ref() != Some(own)) {
        for route in routes.iter_mut().filter(|route| route.has("pool") && !route.has("server-timeout")) {
            route.text("server-timeout", &own);
        }
    }
    for mut route in std::mem::take(&mut service.answer_routes) {
        also(&mut route, &format!("host({hosts})"));
        known.answer_routes.push(route);
    }
    for (number, route) in routes.iter_mut().enumerate() {
        also(route, &format!("host({hosts})"));
        route.lines.retain(|line| line.key != "name");
        let called = format!("{}-{}", service.name, number + 1);
        route.lines.insert(0, Line::new("name", Value::text(called)));
    }
    lines::take_longer_heads(&mut known.table, &service.table);
    // Apache's first host is for every other name: its routes come last.
    known.routes.splice(0..0, routes);
    if let Some(file) = certificate.filter(|_| known.table.has("tls")) {
        // The first one is for those who name no host.
        known.table.push_within("tls", "certificates", Value::text(file));
    }
}

/// `RequestHeader` and `Header` with plain values.
fn header(words: &[String]) -> Option<Table> {
    let ours = if words[0].eq_ignore_ascii_case("Header") { "response-" } else { "" };
    let rest: Vec<&str> =
        words[1..].iter().map(String::as_str).filter(|w| *w != "always" && *w != "onsuccess").collect();
    let mut route = Table::default();
    match rest.as_slice() {
        ["unset", header] => route.texts(&format!("remove-{ours}header"), &[*header]),
        [how @ ("set" | "add" | "append"), header, value] if !value.contains('%') => {
            let how = if *how == "set" { "set" } else { "add" };
            let value = value.replace('{', "{{").replace('}', "}}");
            route.named(&format!("{how}-{ours}header"), header, &value);
        }
        _ => return None,
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use crate::{Severity, Source, SourceKind, import};

    fn made(text: &str) -> crate::Imported {
        let source = Source { kind: SourceKind::Apache, file: "a.conf".into(), text: text.into() };
        let made = import(&[source], &Default::default());
        evenkeel_config::read(&made.text).unwrap_or_else(|e| panic!("{e:?}\n{}", made.text));
        made
    }

    #[test]
    fn hosts_that_send_elsewhere_are_routes() {
        let made = made(
            "<VirtualHost *:80>\n ServerName old.example.org\n Redirect permanent / https://www.example.org/\n</VirtualHost>\n<VirtualHost *:80>\n ServerName www.example.org\n ProxyPreserveHost On\n Redirect 301 /a https://x.example.org/b\n RedirectMatch ^/u/(.*)$ https://u.example.org/$1\n Redirect gone /g\n ProxyPass /app/ http://192.0.2.2:8080/\n ProxyPassReverse /app/ http://192.0.2.2:8080/\n</VirtualHost>\n",
        );
        for part in [
            "redirect = { location = \"https://www.example.org{path}\", status = 301 }",
            "when = 'host(\"www.example.org\") && path(\"/a\", \"/a/*\")'",
            "location = \"https://x.example.org/b{uri|replace(\\\"^/a\\\",\\\"\\\")}\", status = 301",
            "path =~ \"^/u/(.*)$\"'\n  redirect = { location = \"https://u.example.org/{1}\", status = 302 }",
            "deny = { status = 410 }",
            "# ProxyPassReverse /app/ http://192.0.2.2:8080/",
            "rewrite-location = { from = [\"http://192.0.2.2:8080/\", \"https://192.0.2.2:8080/\"], to = \"/app/\" }",
        ] {
            assert!(made.text.contains(part), "{part}\n{}", made.text);
        }
        assert!(made.left.iter().all(|l| l.severity != Severity::Critical), "{:?}", made.left);
    }
}
