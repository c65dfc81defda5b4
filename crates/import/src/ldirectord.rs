//! `ldirectord.cf`.

use crate::draft::{Draft, Pool, Service, Table, Twice, unverified};
use crate::words::{NO_LOCAL_SERVER, address, host, is_loopback, name, port_number, split_port, with_port};

#[derive(Default)]
struct Virtual {
    line: usize,
    place: String,
    comments: Vec<String>,
    /// Key, value, line.
    options: Vec<(String, String, usize)>,
}

impl Virtual {
    fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().rfind(|(k, ..)| k == key).map(|(_, v, _)| v.as_str())
    }

    /// The lines of its real servers.
    fn reals(&self) -> impl Iterator<Item = &(String, String, usize)> {
        self.options.iter().filter(|(key, ..)| key == "real" || key == "real6")
    }
}

pub fn read(text: &str, draft: &mut Draft) {
    let mut globals = Virtual::default();
    let mut all: Vec<Virtual> = Vec::new();
    let mut comments = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let bare = line.trim();
        if let Some(comment) = bare.strip_prefix('#') {
            // Inside a service it is about that one.
            let service = all.last_mut().filter(|_| line.starts_with([' ', '\t']));
            service.map_or(&mut comments, |service| &mut service.comments).push(comment.trim().to_owned());
            continue;
        }
        let Some((key, value)) = bare.split_once('=') else {
            if !bare.is_empty() {
                draft.left(at + 1, bare, "a line of ldirectord is KEY = VALUE: it is left out");
            }
            continue;
        };
        let (key, value) =
            (key.trim().to_lowercase(), value.split(" #").next().unwrap_or("").trim().to_owned());
        let inside = line.starts_with([' ', '\t']);
        if key == "virtual" || key == "virtual6" {
            all.push(Virtual {
                line: at + 1,
                place: value,
                comments: std::mem::take(&mut comments),
                options: Vec::new(),
            });
        } else {
            let into = if inside { all.last_mut().unwrap_or(&mut globals) } else { &mut globals };
            into.options.push((key, value, at + 1));
        }
    }
    for (key, _, line) in &globals.options {
        match key.as_str() {
            "checktimeout" | "checkinterval" | "negotiatetimeout" | "checkcount" | "failurecount"
            | "fallback" | "fallback6" | "checktype" | "checkcommand" | "checkport" | "quiescent"
            | "readdquiescent" | "autoreload" | "logfile" | "fork" | "supervised" | "cleanstop"
            | "emailalert" | "emailalertfrom" | "smtp" => {}
            "maintenancedir" => draft.left(
                *line,
                key,
                "files take no server out: `evenkeel halt SERVICE SERVER` does, or the API",
            ),
            "fallbackcommand" => {
                draft.left(*line, key, "alerts of type `command` run a program: docs/alerts.md")
            }
            "callback" | "execute" | "emailalertstatus" => {
                draft.note(*line, key, "how ldirectord itself runs: not carried over")
            }
            "emailalertfreq" => draft.note(*line, key, "what lasts is told once, and again when it ends"),
            _ => draft.left(*line, key, "not carried over"),
        }
    }
    if let Some(to) = globals.get("emailalert") {
        let to: Vec<&str> = bare(to).split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
        let text = |key, usual| globals.get(key).map_or(usual, bare);
        draft.mail(text("smtp", "127.0.0.1"), "25", text("emailalertfrom", "root@localhost"), &to);
    }
    for one in &all {
        service(one, &globals, draft);
    }
}

/// What a service may say.
const KNOWN: &[&str] = &[
    "real",
    "real6",
    "fallback",
    "fallback6",
    "servicename",
    "comment",
    "protocol",
    "scheduler",
    "persistent",
    "netmask",
    "checktype",
    "checkcommand",
    "service",
    "request",
    "receive",
    "virtualhost",
    "httpmethod",
    "checkinterval",
    "checktimeout",
    "negotiatetimeout",
    "checkport",
    "failurecount",
    "checkcount",
    "quiescent",
    "cleanstop",
    "login",
    "passwd",
    "secret",
    "database",
    "load",
    "monitorfile",
];

fn bare(text: &str) -> &str {
    text.trim().trim_matches('"')
}

fn service(one: &Virtual, globals: &Virtual, draft: &mut Draft) {
    let (host, port) = split_port(&one.place);
    let port = port.map_or_else(|| "*".into(), port_number);
    let Some(host) = address(host) else {
        return draft.grave(
            one.line,
            "virtual",
            format!("{} is no address and port (a firewall mark?): the service is left out", one.place),
        );
    };
    let protocol = one.get("protocol").unwrap_or(if port == "53" { "udp" } else { "tcp" });
    if protocol == "fwm" {
        return draft.grave(
            one.line,
            "protocol=fwm",
            "write the addresses and ports: vip = [\"ADDRESS:80,443\"] has one entry for all",
        );
    }
    if !["tcp", "udp"].contains(&protocol) {
        draft.left(one.line, &format!("protocol={protocol}"), "it is TCP instead");
    }
    let (mut pool, mode) = real_servers(one, draft);
    if pool.servers.is_empty() {
        return draft.grave(
            one.line,
            "virtual",
            format!("{} has no real servers and is left out", one.place),
        );
    }
    let fallback = |scope: &Virtual| {
        let key = if host.contains(':') { "fallback6" } else { "fallback" };
        scope.get(key).or_else(|| scope.get("fallback")).map(str::to_owned)
    };
    if let Some(fallback) = fallback(one).or_else(|| fallback(globals)) {
        let fallback = fallback.as_str();
        add_fallback(fallback, mode, one.line, &mut pool, draft);
    }
    let wanted = match one.get("servicename").map(bare).filter(|own| !own.is_empty()) {
        Some(own) => name(own),
        None => name(&format!("service-{}-{port}", host.replace([':', '.'], "-"))),
    };
    let mut service = Service {
        name: draft.fresh(&wanted),
        mode: mode.into(),
        vips: vec![with_port(&host, &port)],
        ..Service::default()
    };
    service.table.comments.clone_from(&one.comments);
    service.table.comments.extend(one.get("comment").map(|text| bare(text).to_owned()));
    service.table.text("protocol", if protocol == "udp" { "udp" } else { "tcp" });
    pool.ipvs_scheduler(one.get("scheduler").or(Some("wrr")), one.line, draft);
    pool.by_source(one.get("persistent"), one.get("netmask"));
    check(one, globals, &port, &mut pool, draft);
    for (key, _, line) in one.options.iter().filter(|(key, ..)| !KNOWN.contains(&key.as_str())) {
        draft.left(*line, key, "not carried over");
    }
    service.own = Some(pool);
    draft.services.push(service);
}

/// The real servers of a service, and the mode that all of them have.
fn real_servers(one: &Virtual, draft: &mut Draft) -> (Pool, &'static str) {
    let mut pool = Pool::default();
    let mut mode = "";
    for (key, value, line) in one.reals() {
        let (plain, quoted) = words(value);
        let forward = match plain.get(1).copied().unwrap_or("masq") {
            "gate" => "dr",
            "ipip" => "tun",
            _ => "nat",
        };
        if mode.is_empty() {
            mode = forward;
        } else if mode != forward {
            draft.left(*line, key, format!("one service has one mode here: {mode}"));
        }
        let place = plain.first().copied().unwrap_or("");
        let found = servers(place);
        if found.is_empty() {
            draft.grave(*line, key, format!("{place} is no address and no name: the server is left out"));
        }
        let limit = |kind: &str| quoted.iter().find_map(|word| word.strip_prefix(kind));
        for (real, real_port) in found {
            let mut server = Table::default();
            server.text("name", &name(&real.replace([':', '.'], "-")));
            match real_port.filter(|_| mode == "nat") {
                Some(port) => server.text("address", &with_port(&real, &port)),
                None => server.text("address", &real),
            }
            server.number("weight", plain.get(2).filter(|w| w.parse::<u16>().is_ok()).unwrap_or(&"1"));
            for (kind, to) in [("l:", "min-connections"), ("u:", "max-connections")] {
                limit(kind).iter().for_each(|number| server.number(to, number));
            }
            pool.add(server, Twice::One, *line, draft);
        }
        for word in plain.iter().skip(2).filter(|word| word.parse::<u16>().is_err()) {
            draft.left(*line, key, format!("{word}: not carried over"));
        }
    }
    (pool, mode)
}

/// The words of a line, and those in quotes without them.
fn words(value: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut plain, mut quoted) = (Vec::new(), Vec::new());
    for (at, part) in value.split('"').enumerate() {
        match at % 2 {
            0 => plain.extend(part.split([' ', '\t', ',']).filter(|word| !word.is_empty())),
            _ => quoted.push(part),
        }
    }
    (plain, quoted)
}

/// The question and the answer that stand behind a server, without its limits.
fn own_words(value: &str) -> Vec<&str> {
    let limit = |word: &&str| word.starts_with("l:") || word.starts_with("u:");
    words(value).1.into_iter().filter(|word| !limit(word)).collect()
}

/// What the servers of a service are asked, and what they must say, where they have that of their own and all have
/// the same; told where they differ.
fn own_question<'a>(one: &'a Virtual, draft: &mut Draft) -> Option<(&'a str, Option<&'a str>)> {
    let asked = one.reals().map(|(key, value, line)| {
        let mut rest = own_words(value).into_iter();
        (key, *line, rest.next().map(|request| (request, rest.next())))
    });
    let asked: Vec<_> = asked.collect();
    let (_, _, first) = asked.first()?;
    for (key, line, other) in asked.iter().filter(|(_, _, other)| other != first) {
        let what = other.map_or("what the service says", |(request, _)| request);
        draft.left(
            *line,
            key,
            format!("{what}: all servers of a service are checked alike, as the first is"),
        );
    }
    *first
}

fn add_fallback(fallback: &str, mode: &str, line: usize, pool: &mut Pool, draft: &mut Draft) {
    let place = fallback.split_whitespace().next().unwrap_or("");
    for word in fallback.split_whitespace().skip(1).filter(|w| !["gate", "masq", "ipip"].contains(w)) {
        draft.left(line, "fallback", format!("{word}: not carried over"));
    }
    let (host, port) = split_port(place);
    let port = port.map(port_number);
    match address(host).filter(|host| !is_loopback(host)) {
        Some(host) => {
            let mut server = Table::commented(vec!["fallback".into()]);
            server.text("name", "fallback");
            match port.filter(|_| mode == "nat") {
                Some(port) => server.text("address", &with_port(&host, &port)),
                None => server.text("address", &host),
            }
            pool.add_last(server);
        }
        None => draft.left(line, "fallback", format!("{place}: {NO_LOCAL_SERVER}")),
    }
}

/// `ADDRESS:PORT`, or `FIRST->LAST:PORT`.
fn servers(place: &str) -> Vec<(String, Option<String>)> {
    let (range, port) = split_port(place);
    let port = port.map(port_number);
    let Some((first, last)) = range.split_once("->") else {
        return host(range).map(|a| (a, port)).into_iter().collect();
    };
    match (first.trim().parse::<std::net::Ipv4Addr>(), last.trim().parse::<std::net::Ipv4Addr>()) {
        (Ok(first), Ok(last)) => (first.to_bits()..=last.to_bits())
            .take(1024)
            .map(|bits| (std::net::Ipv4Addr::from_bits(bits).to_string(), port.clone()))
            .collect(),
        _ => Vec::new(),
    }
}

fn check(one: &Virtual, globals: &Virtual, port: &str, pool: &mut Pool, draft: &mut Draft) {
    let get = |key: &str| one.get(key).or_else(|| globals.get(key));
    let kind = get("checktype").unwrap_or("negotiate");
    let service = one.get("service").unwrap_or(match port {
        "21" => "ftp",
        "25" => "smtp",
        "53" => "dns",
        "80" => "http",
        "110" => "pop",
        "119" => "nntp",
        "143" => "imap",
        "389" => "ldap",
        "443" => "https",
        "587" => "submission",
        "636" => "ldaps",
        "993" => "imaps",
        "995" => "pops",
        "1521" => "oracle",
        "1812" => "radius",
        "3128" => "http_proxy",
        "3306" => "mysql",
        "5432" => "pgsql",
        "5060" => "sip",
        _ => "none",
    });
    let Some((mut check, used)) = what_is_asked(kind, service, one, globals, draft) else {
        pool.table.set("health-check", Table::default().with_text("type", "none"));
        return;
    };
    // What holds where nothing is written: ldirectord's own times.
    check.text("interval", &format!("{}s", get("checkinterval").unwrap_or("10")));
    let (first, second, usual) = match kind {
        "negotiate" => ("negotiatetimeout", "checktimeout", "30"),
        _ => ("checktimeout", "negotiatetimeout", "5"),
    };
    let timeout = get(first).or_else(|| get(second)).unwrap_or(usual);
    check.text("timeout", &format!("{timeout}s"));
    if let Some(port) = get("checkport") {
        check.number("port", port);
    }
    check.number("rise", "1");
    let count = get("failurecount").or_else(|| get("checkcount").filter(|_| kind == "ping"));
    check.number("fall", count.unwrap_or("1"));
    for (key, value, line) in &one.options {
        if ASKS.contains(&key.as_str()) && !used.contains(&key.as_str()) {
            let shown = if SECRET.contains(&key.as_str()) { "it" } else { bare(value) };
            draft.left(*line, key, format!("{shown}: a check of this type does not ask so"));
        }
    }
    pool.table.set("health-check", check);
}

/// The words of a service that say what its checks ask.
const ASKS: &[&str] =
    &["request", "receive", "virtualhost", "httpmethod", "login", "passwd", "secret", "database", "load"];

/// Of them, what no message shows.
const SECRET: &[&str] = &["passwd", "secret"];

/// The check with its type and question, and which of [`ASKS`] it uses; `None` without a check.
fn what_is_asked(
    kind: &str,
    service: &str,
    one: &Virtual,
    globals: &Virtual,
    draft: &mut Draft,
) -> Option<(Table, &'static [&'static str])> {
    let mut check = Table::default();
    let text = |key: &str| one.get(key).map(bare);
    // What is used of the words that say what is asked.
    let mut used: &'static [&'static str] = &[];
    if !["on", "off", "ping", "negotiate", "connect", "external", "external-perl"].contains(&kind) {
        draft.left(one.line, &format!("checktype={kind}"), "each check asks as `negotiate` does");
    }
    match (kind, service) {
        ("on" | "off", _) => return None,
        ("ping", _) => check.text("type", "ping"),
        ("negotiate", "simpletcp") => {
            check.text("type", "tcp");
            let send =
                text("request").map(|sent| Table::default().with_text("send", &sent.replace("\\n", "\n")));
            let expect = text("receive").map(|text| Table::default().with_text("expect-regex", text));
            let steps: Vec<Table> = send.into_iter().chain(expect).collect();
            if !steps.is_empty() {
                check.set("steps", steps);
            }
            used = &["request", "receive"];
        }
        ("connect", _) | ("negotiate", "none") => check.text("type", "tcp"),
        ("external" | "external-perl", _) => {
            check.text("type", "script");
            let mut words =
                bare(one.get("checkcommand").or_else(|| globals.get("checkcommand")).unwrap_or(""))
                    .split_whitespace();
            check.text("command", words.next().unwrap_or(""));
            let arguments: Vec<&str> = words.collect();
            if !arguments.is_empty() {
                check.texts("arguments", &arguments);
            }
        }
        (_, "http" | "https") => {
            used = &["request", "receive", "virtualhost", "httpmethod"];
            http_check(service, one, own_question(one, draft), &mut check);
        }
        (_, "imap" | "imaps" | "pop" | "pops" | "ftp") => {
            used = &["login", "passwd"];
            check.text("type", service.trim_end_matches('s'));
            if service.ends_with('s') {
                check.set("tls", unverified());
            }
            for (key, to) in [("login", "user"), ("passwd", "password")] {
                text(key).iter().for_each(|value| check.text(to, value));
            }
        }
        _ if spoken(service, one, &mut check, &mut used) => {}
        (other, service) => {
            draft.left(
                one.line,
                &format!("checktype={other}"),
                format!("{service}: a TCP connection is tried instead"),
            );
            check.text("type", "tcp");
        }
    }
    if check.text_of("type") != Some("http") {
        for (key, value, line) in one.reals() {
            if let [request, ..] = own_words(value)[..] {
                draft.left(*line, key, format!("{request}: a check of this type does not ask so"));
            }
        }
    }
    Some((check, used))
}

/// The check of a service's protocol, if it is one of these; and which of [`ASKS`] it uses.
fn spoken(service: &str, one: &Virtual, check: &mut Table, used: &mut &'static [&'static str]) -> bool {
    let text = |key: &str| one.get(key).map(bare);
    match service {
        "smtp" | "ldap" | "sip" => check.text("type", service),
        "submission" => check.text("type", "smtp"),
        "ldaps" => {
            check.text("type", "ldap");
            check.set("tls", unverified());
        }
        // A greeting of 200 or 201 (RFC 3977, section 5.1.1).
        "nntp" => {
            check.text("type", "tcp");
            check.set("steps", vec![Table::default().with_text("expect-regex", "^20[01]")]);
        }
        // Who has a password is not let in: the greeting is what is looked at then.
        "mysql" => {
            check.text("type", service);
            if let (Some(user), None) = (text("login"), text("passwd")) {
                *used = &["login"];
                check.text("user", user);
            }
        }
        "pgsql" => {
            *used = &["login"];
            check.text("type", "postgresql");
            text("login").iter().for_each(|user| check.text("user", user));
        }
        "radius" => {
            *used = &["login", "passwd", "secret"];
            check.text("type", "radius");
            for (key, to) in [("login", "user"), ("passwd", "password"), ("secret", "secret")] {
                check.text(to, text(key).unwrap_or(""));
            }
        }
        "dns" => {
            *used = &["request"];
            check.text("type", "dns");
            check.text("name", text("request").unwrap_or("example.org"));
        }
        _ => return false,
    }
    true
}

fn http_check(service: &str, one: &Virtual, own: Option<(&str, Option<&str>)>, check: &mut Table) {
    check.text("type", "http");
    if service == "https" {
        check.set("tls", unverified());
    }
    if let Some(path) = own.map(|(request, _)| request).or(one.get("request")) {
        let path = bare(path);
        check.text("path", &if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
    }
    if let Some(text) = own.and_then(|(_, receive)| receive).or(one.get("receive")) {
        check.text("expect-regex", bare(text));
    }
    if let Some(host) = one.get("virtualhost") {
        check.text("host", bare(host));
    }
    if let Some(method) = one.get("httpmethod") {
        check.text("method", &method.to_uppercase());
    }
}
