//! `ldirectord.cf`.

use crate::draft::{Draft, Pool, Service, Table, Twice, unverified};
use crate::words::{address, name, port_number, split_port, with_port};

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
}

pub fn read(text: &str, draft: &mut Draft) {
    let mut globals = Virtual::default();
    let mut all: Vec<Virtual> = Vec::new();
    let mut comments = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let bare = line.trim();
        if let Some(comment) = bare.strip_prefix('#') {
            comments.push(comment.trim().to_owned());
            continue;
        }
        let Some((key, value)) = bare.split_once('=') else { continue };
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
            | "fallback" | "quiescent" | "autoreload" | "logfile" | "fork" | "supervised" | "cleanstop"
            | "maintenancedir" | "emailalert" | "emailalertfrom" | "smtp" => {}
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
        return draft.left(
            one.line,
            "virtual",
            format!("{} is no address and port (a firewall mark?): the service is left out", one.place),
        );
    };
    let protocol = one.get("protocol").unwrap_or("tcp");
    if protocol == "fwm" {
        return draft.left(
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
        return draft.left(one.line, "virtual", format!("{} has no real servers and is left out", one.place));
    }
    if let Some(fallback) = one.get("fallback").or_else(|| globals.get("fallback")) {
        add_fallback(fallback, mode, one.line, &mut pool, draft);
    }
    let wanted = name(&format!("service-{}-{port}", host.replace([':', '.'], "-")));
    let mut service = Service {
        name: draft.fresh(&wanted),
        mode: mode.into(),
        vips: vec![with_port(&host, &port)],
        ..Service::default()
    };
    service.table.comments.clone_from(&one.comments);
    service.table.text("protocol", if protocol == "udp" { "udp" } else { "tcp" });
    pool.ipvs_scheduler(one.get("scheduler"), one.line, draft);
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
    for (key, value, line) in one.options.iter().filter(|(k, ..)| k == "real" || k == "real6") {
        let words: Vec<&str> = value.split_whitespace().collect();
        let forward = match words.get(1).copied().unwrap_or("masq") {
            "gate" => "dr",
            "ipip" => "tun",
            _ => "nat",
        };
        if mode.is_empty() {
            mode = forward;
        } else if mode != forward {
            draft.left(*line, key, format!("one service has one mode here: {mode}"));
        }
        let place = words.first().copied().unwrap_or("");
        let request = words.iter().skip(2).find(|w| w.parse::<u16>().is_err());
        if let Some(request) = request {
            draft.left(*line, key, format!("{request}: all servers of a service are checked alike"));
        }
        let found = servers(place);
        if found.is_empty() {
            draft.left(*line, key, format!("{place} is no address: the server is left out"));
        }
        for (real, real_port) in found {
            let mut server = Table::default();
            server.text("name", &name(&real.replace([':', '.'], "-")));
            match real_port.filter(|_| mode == "nat") {
                Some(port) => server.text("address", &with_port(&real, &port)),
                None => server.text("address", &real),
            }
            server.number("weight", words.get(2).filter(|w| w.parse::<u16>().is_ok()).unwrap_or(&"1"));
            pool.add(server, Twice::One, *line, draft);
        }
    }
    (pool, mode)
}

fn add_fallback(fallback: &str, mode: &str, line: usize, pool: &mut Pool, draft: &mut Draft) {
    let place = fallback.split_whitespace().next().unwrap_or("");
    for word in fallback.split_whitespace().skip(1).filter(|w| !["gate", "masq", "ipip"].contains(w)) {
        draft.left(line, "fallback", format!("{word}: not carried over"));
    }
    let (host, port) = split_port(place);
    let port = port.map(port_number);
    match address(host).filter(|h| !h.starts_with("127.")) {
        Some(host) => {
            let mut server = Table::commented(vec!["fallback".into()]);
            server.text("name", "fallback");
            match port.filter(|_| mode == "nat") {
                Some(port) => server.text("address", &with_port(&host, &port)),
                None => server.text("address", &host),
            }
            server.set("backup", true);
            pool.servers.push(server);
        }
        None => draft.left(
            line,
            "fallback",
            format!("{place}: layer 4 reaches no server of this machine; mode tcp or http can"),
        ),
    }
}

/// `ADDRESS:PORT`, or `FIRST->LAST:PORT`.
fn servers(place: &str) -> Vec<(String, Option<String>)> {
    let (range, port) = split_port(place);
    let port = port.map(port_number);
    let Some((first, last)) = range.split_once("->") else {
        return address(range).map(|a| (a, port)).into_iter().collect();
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
        "80" => "http",
        "443" => "https",
        "25" => "smtp",
        "110" => "pop",
        "143" => "imap",
        "21" => "ftp",
        "53" => "dns",
        "389" => "ldap",
        "3306" => "mysql",
        "5432" => "pgsql",
        "5060" => "sip",
        _ => "none",
    });
    let Some((mut check, used)) = what_is_asked(kind, service, one, globals, draft) else {
        pool.table.set("health-check", Table::default().with_text("type", "none"));
        return;
    };
    if let Some(interval) = get("checkinterval") {
        check.text("interval", &format!("{interval}s"));
    }
    let (first, second) = match kind {
        "negotiate" => ("negotiatetimeout", "checktimeout"),
        _ => ("checktimeout", "negotiatetimeout"),
    };
    if let Some(timeout) = get(first).or_else(|| get(second)) {
        check.text("timeout", &format!("{timeout}s"));
    }
    if let Some(port) = get("checkport") {
        check.number("port", port);
    }
    if let Some(count) = get("failurecount").or_else(|| get("checkcount")) {
        check.number("fall", count);
    }
    for (key, value, line) in &one.options {
        if ASKS.contains(&key.as_str()) && !used.contains(&key.as_str()) {
            draft.left(*line, key, format!("{}: a check of this type does not ask so", bare(value)));
        }
    }
    pool.table.set("health-check", check);
}

/// The words of a service that say what its checks ask.
const ASKS: &[&str] =
    &["request", "receive", "virtualhost", "httpmethod", "login", "passwd", "secret", "database", "load"];

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
            for (key, to) in [("request", "send"), ("receive", "expect-regex")] {
                text(key).iter().for_each(|value| check.text(to, value));
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
            http_check(service, one, &mut check);
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
        (_, "radius") => {
            used = &["login", "passwd", "secret"];
            check.text("type", "radius");
            for (key, to) in [("login", "user"), ("passwd", "password"), ("secret", "secret")] {
                check.text(to, text(key).unwrap_or(""));
            }
        }
        (_, "smtp" | "ldap" | "mysql" | "sip") => check.text("type", service),
        (_, "pgsql") => check.text("type", "postgresql"),
        (_, "dns") => {
            used = &["request"];
            check.text("type", "dns");
            check.text("name", bare(one.get("request").unwrap_or("example.org")));
        }
        (other, service) => {
            draft.left(
                one.line,
                &format!("checktype={other}"),
                format!("{service}: a TCP connection is tried instead"),
            );
            check.text("type", "tcp");
        }
    }
    Some((check, used))
}

fn http_check(service: &str, one: &Virtual, check: &mut Table) {
    check.text("type", "http");
    if service == "https" {
        check.set("tls", unverified());
    }
    if let Some(path) = one.get("request") {
        let path = bare(path);
        check.text("path", &if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
    }
    if let Some(text) = one.get("receive") {
        check.text("expect-regex", bare(text));
    }
    if let Some(host) = one.get("virtualhost") {
        check.text("host", bare(host));
    }
    if let Some(method) = one.get("httpmethod") {
        check.text("method", &method.to_uppercase());
    }
}
