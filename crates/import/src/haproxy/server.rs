//! `server` and `default-server`, and the checks of a backend.

use super::keywords;
use super::options::{self, DefaultServers};
use super::proxy::Proxy;
use super::resolvers;
use crate::draft::{Draft, Pool, Table, Value, unverified};
use crate::words::{address, duration, split_port, with_port};

/// What all servers of a pool have in common in Evenkeel; HAProxy has it a server.
#[derive(Default)]
struct Common {
    /// Servers get requests.
    http: bool,
    /// What each server's agent is asked, where it has one, by its place among the servers.
    agents: Vec<(usize, Table)>,
    /// The server that the one just read follows.
    follows: Option<String>,
    /// What each server that is checked says of its check, by its place among the servers.
    checks: Vec<(usize, Table)>,
    /// What each server speaks, in their order.
    tls: Vec<Option<Tls>>,
    /// What each server speaks beside, in their order.
    dialects: Vec<Dialect>,
    /// `error-limit`, where traffic is observed.
    observes: bool,
    error_limit: Option<String>,
}

/// The PROXY header that a server gets, and whether it speaks HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Dialect {
    greeting: Option<&'static str>,
    h2: bool,
}

impl Dialect {
    fn of(options: &[String]) -> Dialect {
        let mut dialect = Dialect::default();
        for (at, option) in options.iter().enumerate() {
            let value = || options.get(at + 1).map_or("", String::as_str);
            match option.as_str() {
                "send-proxy" => dialect.greeting = Some("v1"),
                "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
                    dialect.greeting = Some("v2");
                }
                "proto" => dialect.h2 = value() == "h2",
                "alpn" => dialect.h2 |= value().contains("h2"),
                _ => {}
            }
        }
        dialect
    }
}

/// What servers speak alike is the pool's; else what differs from the first one is each one's own.
fn dialects(all: &[Dialect], pool: &mut Pool) {
    let Some(first) = all.first() else { return };
    if let Some(version) = first.greeting {
        pool.table.text("send-proxy", version);
    }
    if first.h2 {
        pool.table.text("server-http", "2");
    }
    for (server, own) in pool.servers.iter_mut().zip(all) {
        if own.greeting != first.greeting {
            server.text("send-proxy", own.greeting.unwrap_or("none"));
        }
        if own.h2 != first.h2 {
            server.text("server-http", if own.h2 { "2" } else { "1.1" });
        }
    }
}

/// How servers are spoken to over TLS.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tls {
    unverified: bool,
    ca: Option<String>,
    crl: Option<String>,
    /// From `sni` or `verifyhost`: without either HAProxy looks at no name.
    name: Option<String>,
    certificate: Option<String>,
}

impl Tls {
    fn table(&self) -> Table {
        let mut keys = Table::default();
        if self.unverified {
            keys.set("verify", false);
        } else if self.name.is_none() {
            keys.set("verify-name", false);
        }
        for (key, value) in
            [("ca", &self.ca), ("crl", &self.crl), ("sni", &self.name), ("certificate", &self.certificate)]
        {
            if let Some(value) = value {
                keys.text(key, value);
            }
        }
        keys
    }
}

impl Common {
    /// What all servers ask their agents alike; else each has it as its own.
    fn agent(&mut self, servers: &mut [Table]) -> Option<Table> {
        let (_, first) = self.agents.first()?;
        if self.agents.len() == servers.len() && self.agents.iter().all(|(_, asks)| asks == first) {
            return Some(first.clone());
        }
        for (at, asks) in &self.agents {
            let mut own = Table::default();
            own.set("agent", asks.clone());
            match self.checks.iter_mut().find(|(checked, _)| checked == at) {
                Some((_, check)) => check.set("agent", asks.clone()),
                None => servers[*at].set("health-check", own),
            }
        }
        None
    }
}

/// Options that need nothing here, those that take something back among them: see `options`.
const MOOT: &[&str] = &[
    "check-reuse-pool",
    "enabled",
    "id",
    "init-state",
    "log-proto",
    "no-backup",
    "no-check",
    "no-check-reuse-pool",
    "no-check-send-proxy",
    "no-check-sni-auto",
    "no-check-ssl",
    "no-renegotiate",
    "no-send-proxy",
    "no-send-proxy-v2",
    "no-send-proxy-v2-ssl",
    "no-send-proxy-v2-ssl-cn",
    "no-sni-auto",
    "no-tfo",
    "no-verifyhost",
    "on-error",
    "pool-low-conn",
    "pool-max-conn",
    "pool-purge-delay",
    "proto-check",
    "resolvers",
    "shard",
    "tcp-ut",
];

/// Servers that one `server-template` may stand for.
const TEMPLATE_AT_MOST: u32 = 1_000;

/// `server-template PREFIX N[-M] PLACE …` as that many servers; other lines as they are. One whose servers are
/// found by SRV records stays: nobody knows how many they are.
pub fn expanded(words: Vec<String>, line: usize, draft: &mut Draft) -> Vec<Vec<String>> {
    let is_template = words.first().is_some_and(|w| w == "server-template");
    if !is_template || words.get(3).is_some_and(|place| place.starts_with('_')) {
        return vec![words];
    }
    let range = words.get(2).and_then(|text| match text.split_once('-') {
        Some((first, last)) => Some((first.parse::<u32>().ok()?, last.parse::<u32>().ok()?)),
        None => Some((1, text.parse().ok()?)),
    });
    let range = range.filter(|(first, last)| *first > 0 && first <= last);
    let (Some((first, last)), Some(_)) = (range, words.get(3)) else {
        let why = "a prefix, a number or a range and an address are needed";
        draft.wrong(line, "server-template", why.to_owned());
        return Vec::new();
    };
    if last - first >= TEMPLATE_AT_MOST {
        let why = format!("{TEMPLATE_AT_MOST} servers at most are made of one line");
        draft.left(line, "server-template", why);
    }
    let numbers = first..=last.min(first + TEMPLATE_AT_MOST - 1);
    let one = |number: u32| {
        let mut server = vec!["server".to_owned(), format!("{}{number}", words[1])];
        server.extend(words[3..].iter().cloned());
        server
    };
    numbers.map(one).collect()
}

pub fn servers(proxy: &Proxy, many_ports: bool, pool: &mut Pool, draft: &mut Draft) {
    let mut common = Common { http: proxy.is_http(), ..Common::default() };
    let mut all: Vec<_> = proxy.all("server").cloned().collect();
    // One server for everybody, in the oldest form.
    if let Some(word) = proxy.all("dispatch").last().filter(|_| all.is_empty()) {
        let mut words = word.words.clone();
        words.splice(0..1, ["server".to_owned(), "dispatch".to_owned()]);
        all.push(super::proxy::Word { words, ..word.clone() });
    }
    let records: Vec<_> = proxy.all("server-template").cloned().collect();
    // What their options say of checks and TLS is said by a server that goes again.
    let named = all.len();
    all.extend(records.iter().map(|word| {
        let mut words = vec!["server".to_owned(), word.arg(1).to_owned(), "192.0.2.1:1".to_owned()];
        words.extend(word.words.iter().skip(4).cloned());
        super::proxy::Word { words, ..word.clone() }
    }));
    let defaults = DefaultServers::of(proxy);
    let options: Vec<Vec<String>> = all.iter().map(|word| defaults.options_of(word)).collect();
    let weighted = options.iter().flatten().any(|option| option == "weight");
    // Those who look at weights by HAProxy's names see HAProxy's.
    let weighted = weighted || draft.run.is_some();
    for (word, options) in all.iter().zip(&options) {
        let (Some(name), Some(place)) = (word.words.get(1), word.words.get(2)) else {
            draft.left(word.line, "server", "a name and an address are needed");
            continue;
        };
        let known = draft.run.as_ref().and_then(|run| run.places.sockets.get(place)).copied();
        let whole = known.map(|a| with_port(&a.ip().to_string(), &a.port().to_string()));
        let (host, port) = split_port(whole.as_deref().unwrap_or(place));
        let looked_up =
            draft.run.as_ref().and_then(|run| run.places.hosts.get(host.trim_matches(['[', ']'])));
        let is_name = address(host).is_none();
        // A name that nobody knows keeps HAProxy from starting, unless `init-addr` says otherwise.
        let unknown =
            is_name && draft.run.is_some() && looked_up.is_none() && !resolvers::begins_without(options);
        let Some(host) = crate::words::host(host).filter(|_| !unknown) else {
            match unknown {
                true => draft.wrong(
                    word.line,
                    name,
                    format!("could not resolve address '{host}': write the server's address, or with `init-addr libc,none` the program starts without it"),
                ),
                false => {
                    let why = format!("{place} is no address: the server is left out; write its address");
                    draft.left(word.line, name, why);
                }
            }
            pool.table
                .comments
                .push(format!("Left out, its address is to be written: {}", word.words.join(" ")));
            continue;
        };
        let mut server = Table::commented(word.comments.clone());
        server.text("name", &crate::words::name(name));
        match port {
            Some(port) if port.parse::<u16>().is_ok() => server.text("address", &with_port(&host, port)),
            Some(port) => {
                draft.left(
                    word.line,
                    place,
                    format!("the port {port} is not carried over: the client's port is kept"),
                );
                server.text("address", &host);
            }
            None if many_ports => {
                server.set_with("address", Value::text(host), "the port that the client came to")
            }
            None => server.text("address", &host),
        }
        if weighted {
            server.set("weight", 1u8);
        }
        if is_name {
            resolvers::of_server(options, &mut server);
        }
        option_by_option(options, word.line, name, &mut server, pool, &mut common, draft);
        if let (Some(of), Some((_, own))) = (common.follows.take(), common.checks.last_mut()) {
            track(&of, word.line, proxy, own, draft);
        }
        let same = |other: &Table| other.get("address") == server.get("address");
        // Servers of one name get different addresses.
        // Servers that are added at run time may have the address of another, too.
        if !is_name && pool.servers.iter().any(same) || draft.run.is_some() {
            pool.table.set("same-address", true);
        }
        pool.servers.push(server);
    }
    dialects(&common.dialects, pool);
    match common.tls.first() {
        Some(Some(first)) if common.tls.iter().all(|tls| tls.as_ref() == Some(first)) => {
            pool.table.set("server-tls", first.table());
        }
        _ => {
            for (server, tls) in pool.servers.iter_mut().zip(&common.tls) {
                if let Some(tls) = tls {
                    server.set("server-tls", tls.table());
                }
            }
        }
    }
    if common.observes {
        let failures = common.error_limit.as_ref().and_then(|n| n.parse::<u32>().ok()).unwrap_or(10).max(1);
        let note = "a pause, in place of a check that fails";
        pool.table.set_with("outlier", Table::default().with("failures", failures), note);
    }
    checks(proxy, common, pool, draft);
    if !records.is_empty() {
        let lists = records.iter().map(|word| {
            let name = word.arg(3).split(':').next().unwrap_or_default();
            Table::default().with_text("type", "dns-srv").with_text("name", name)
        });
        pool.table.set("discover", lists.collect::<Vec<_>>());
        let stay = pool.servers.len().saturating_sub(all.len() - named);
        pool.servers.truncate(stay);
        return;
    }
    if let Some(first) = all.first().filter(|_| pool.servers.is_empty()) {
        let why = "none of its servers could be carried over: it answers nobody";
        draft.grave(first.line, &format!("{} {}", proxy.section(), proxy.name), why);
        pool.servers.push(crate::draft::nobody());
    }
}

fn option_by_option(
    options: &[String],
    line: usize,
    name: &str,
    server: &mut Table,
    pool: &mut Pool,
    common: &mut Common,
    draft: &mut Draft,
) {
    let mut rest = options.iter();
    let (mut tls, mut speaks_tls) = (Tls { unverified: draft.servers_unverified, ..Tls::default() }, false);
    let (mut has_cookie, mut non_stick) = (false, false);
    let http = common.http;
    let (mut checked, mut check_sni, mut verified) = (false, None, None);
    let (mut own, mut agent, mut asks) = (Table::default(), false, Table::default());
    while let Some(option) = rest.next() {
        let mut value = || rest.next().cloned().unwrap_or_default();
        // Connections that are their clients' own are in no pool.
        let no_pool = option.starts_with("pool-") && pool.table.has("connection-reuse");
        if let Some(why) = keywords::differs(keywords::SERVER_DIFFERS, option).filter(|_| !no_pool) {
            match option.starts_with("pool-") {
                // It is about speed alone.
                true => draft.remark(line, option, why),
                false => draft.note(line, option, why),
            }
        }
        match option.as_str() {
            "weight" => server.number("weight", &value()),
            "maxconn" => server.number("max-connections", &value()),
            "backup" => server.set("backup", true),
            "non-stick" => non_stick = true,
            "stick" => non_stick = false,
            "disabled" => server.set_with("admin-state", Value::text("halted"), "it was disabled"),
            "check" => checked = true,
            "check-ssl" => own.set("tls", unverified()),
            "check-send-proxy" => own.set("send-proxy", true),
            "inter" => interval(&mut own, &value(), line, draft),
            "fastinter" => time(&mut own, "fast-interval", &value()),
            "downinter" => time(&mut own, "down-interval", &value()),
            "ciphers" | "ciphersuites" => {
                drop(value());
                draft.note(line, option, "what is spoken is what is held to be good");
            }
            "rise" => own.number("rise", &value()),
            "fall" => own.number("fall", &value()),
            "port" => own.number("port", &value()),
            // A port behind it says nothing: see `port`.
            "addr" => own.text("address", split_port(&value()).0.trim_matches(['[', ']'])),
            "cookie" => {
                let given = value();
                has_cookie = true;
                if !crate::words::is_token(&given) {
                    draft.left(line, "cookie", format!("{given:?} is no value of a cookie"));
                } else if crate::words::name(name) != given {
                    server.text("cookie", &given);
                }
            }
            "ssl" => speaks_tls = true,
            "no-ssl" => speaks_tls = false,
            "verify" => tls.unverified = value() == "none",
            "ca-file" => tls.ca = draft.placed(draft.ca_base.clone(), &value(), line, option),
            "crl-file" => tls.crl = draft.placed(draft.ca_base.clone(), &value(), line, option),
            "crt" => tls.certificate = draft.placed(draft.crt_base.clone(), &value(), line, option),
            "verifyhost" => verified = Some(value()),
            "sni" => {
                let given = value();
                match name_asked(&given).filter(|name| http || name != "{host}") {
                    Some(name) => tls.name = Some(name),
                    None => draft.left(
                        line,
                        "sni",
                        format!("{given}: a name is written, or taken from the request's Host (req.hdr(host)) or from what the client asked for (ssl_fc_sni)"),
                    ),
                }
            }
            "observe" => {
                common.observes = true;
                drop(value());
            }
            "error-limit" => common.error_limit = Some(value()),
            // See `Dialect`.
            "send-proxy" | "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {}
            "proto" | "alpn" => drop(value()),
            "proxy-v2-options" => {
                for word in value().split(',') {
                    match word.trim() {
                        // What is known of TLS is in each header.
                        "ssl" | "cert-cn" | "authority" => {}
                        "unique-id" => {
                            let id = format!("{{variable:{}}}", super::sample::UNIQUE_ID);
                            header_value("0x05", &id, line, pool, draft);
                        }
                        other => draft.left(line, &format!("proxy-v2-options {other}"), "not carried over"),
                    }
                }
            }
            kind if kind.starts_with("set-proxy-v2-tlv-fmt(") => {
                let kind = kind.trim_start_matches("set-proxy-v2-tlv-fmt(").trim_end_matches(')');
                match super::sample::variables(&value()) {
                    Ok(text) => header_value(kind, &text, line, pool, draft),
                    Err(why) => draft.left(line, option, why),
                }
            }
            "slowstart" => match duration(&value(), "ms") {
                Some(time) => pool.table.text("slow-start", &time),
                None => draft.left(line, "slowstart", "not carried over"),
            },
            "on-marked-down" => {
                if value() == "shutdown-sessions" {
                    pool.table.text("on-marked-down", "close");
                }
            }
            "on-marked-up" => match value().as_str() {
                "shutdown-backup-sessions" => pool.table.text("on-marked-up", "close-backups"),
                other => draft.wrong(
                    line,
                    "on-marked-up",
                    format!("'on-marked-up' expects 'shutdown-backup-sessions' but got '{other}'"),
                ),
            },
            "source" => {
                let from = value();
                let used = source(&from, rest.as_slice(), server, line, draft);
                for _ in 0..used {
                    rest.next();
                }
            }
            "agent-check" => agent = true,
            "no-agent-check" => agent = false,
            "agent-port" => asks.number("port", &value()),
            "agent-inter" => interval(&mut asks, &value(), line, draft),
            "agent-send" => asks.text("send", &value()),
            "track" => {
                checked = true;
                common.follows = Some(value());
            }
            "check-sni" => check_sni = Some(value()),
            "agent-addr" => asks.text("address", value().trim_matches(['[', ']'])),
            "tcp-ut" => match duration(&value(), "ms").filter(|time| !time.starts_with('0')) {
                Some(time) => pool.table.text("server-tcp-user-timeout", &time),
                None => draft.remark(line, option, "as the kernel has it"),
            },
            "minconn" => server.number("min-connections", &value()),
            "maxqueue" => drop(value()),
            "resolve-opts" | "resolve-net" | "redir" | "namespace" | "socks4" | "ws" | "max-reuse"
            | "check-alpn" | "check-proto" => {
                let given = value();
                draft.left(line, option, format!("{given}: {}", super::remedies::of(&[option])));
            }
            "init-addr" | "resolve-prefer" => {
                let given = value();
                if let Some(word) = resolvers::unknown_word(option, &given) {
                    draft.wrong(line, option, format!("unknown word '{word}'"));
                }
            }
            "ssl-min-ver" | "ssl-max-ver" => versions(&[option.clone(), value()], line, draft),
            word if super::bind::Versions::is_flag(word) => versions(&[word.to_owned()], line, draft),
            word => {
                let given = if options::WITH_VALUE.contains(&word) { value() } else { String::new() };
                if !MOOT.contains(&word) {
                    super::remedies::diagnose(draft, line, format!("{word} {given}").trim_end(), &[word]);
                }
            }
        }
    }
    if let Some(verified) = verified.filter(|verified| tls.name.as_ref() != Some(verified)) {
        if tls.name.is_some() && !tls.unverified {
            let why = format!("{verified}: the name that is verified is the one that sni asks for");
            draft.left(line, "verifyhost", why);
        }
        tls.name.get_or_insert(verified);
    }
    let greeting = options.iter().rfind(|o| o.starts_with("send-proxy")).map_or("", String::as_str);
    common.dialects.push(Dialect::of(options));
    // A check of another place does not speak as its server does.
    let elsewhere = own.has("port") || own.has("address");
    // A name is sent where a check speaks TLS, as its server or by itself.
    let asks_tls = (speaks_tls && !elsewhere) || own.has("tls");
    if speaks_tls && !asks_tls {
        own.set("tls", without_tls());
    }
    if let Some(name) = check_sni.filter(|_| asks_tls) {
        let unverified = tls.unverified || !speaks_tls;
        own.set("tls", Tls { name: Some(name), unverified, ..tls.clone() }.table());
    }
    common.tls.push(speaks_tls.then_some(tls));
    // Persistence is one thing here: by cookies, which need a value, or by a table.
    let kept = pool
        .table
        .get("persistence")
        .map(|kind| kind.entries().iter().any(|(key, of)| key == "type" && of.as_text() == Some("cookie")));
    match kept {
        // One is never remembered here unless it says so.
        Some(true) if server.has("backup") && has_cookie => server.set("keeps-clients", true),
        Some(false) if server.has("backup") && !non_stick => server.set("keeps-clients", true),
        _ if server.has("backup") => {}
        Some(true) if !has_cookie => {
            server.set_with("non-stick", true, "it has no cookie");
        }
        Some(false) if non_stick => server.set("non-stick", true),
        _ => {}
    }
    greets(greeting, &mut own);
    if !checked {
        server.set("check", false);
    }
    if agent {
        common.agents.push((pool.servers.len(), asks));
    }
    if checked {
        common.checks.push((pool.servers.len(), own));
    }
}

/// What servers are asked for over TLS: a name, the host of the request or what its client asked for.
fn name_asked(given: &str) -> Option<String> {
    if let Some(name) = given.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')')) {
        return Some(name.trim_matches('"').to_owned());
    }
    let mut steps = super::sample::chain(given).into_iter();
    let (fetch, argument) = steps.next()?;
    // A name has no port and is compared without heed of case.
    let keeps = |(step, argument): (String, Option<String>)| match step.as_str() {
        "lower" | "host_only" => true,
        "field" => argument.as_deref() == Some("1,:"),
        _ => false,
    };
    let from = match (fetch.as_str(), argument.as_deref()) {
        ("req.hdr" | "hdr" | "req.fhdr" | "fhdr", Some(name)) if name.eq_ignore_ascii_case("host") => {
            "{host}"
        }
        ("ssl_fc_sni", None | Some("")) => "{sni}",
        _ => return None,
    };
    steps.all(keeps).then(|| from.to_owned())
}

/// Servers choose among the versions of TLS that are offered to them: 1.2 and 1.3.
pub fn versions(words: &[String], line: usize, draft: &mut Draft) {
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let value = if word.starts_with("ssl-m") { rest.next().map_or("", String::as_str) } else { "" };
        let moot = match (word.as_str(), value) {
            ("ssl-min-ver", version) => version != "TLSv1.3",
            ("ssl-max-ver", version) => version == "TLSv1.3",
            ("no-tlsv12" | "no-tlsv13", _) => false,
            (flag, _) => !flag.starts_with("force-"),
        };
        if !moot {
            let why = "servers are offered TLS 1.2 and 1.3: what they speak is set there";
            draft.left(line, [word, value].join(" ").trim(), why);
        }
    }
}

fn without_tls() -> Table {
    Table::default().with("enabled", false)
}

/// Checks of a server that wants a PROXY header begin with one, unless they ask elsewhere.
fn greets(greeting: &str, own: &mut Table) {
    let elsewhere = own.has("port") || own.has("address");
    if !greeting.is_empty() && !elsewhere {
        own.set("send-proxy", true);
    }
    if greeting.starts_with("send-proxy-v2") {
        own.text("send-proxy-version", "v2");
    }
}

/// A value of the PROXY header: all servers of a pool are told the same.
fn header_value(kind: &str, text: &str, line: usize, pool: &mut Pool, draft: &mut Draft) {
    const KEY: &str = "send-proxy-values";
    let kind = match kind.strip_prefix("0x").or(kind.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => kind.parse::<u8>().ok(),
    };
    let Some(kind) = kind else {
        return draft.left(line, "set-proxy-v2-tlv-fmt", "a kind is a byte, as 0xE1");
    };
    let (name, value) = (format!("0x{kind:02X}"), Value::text(text));
    let mut all = pool.table.get(KEY).map_or(&[][..], Value::entries).to_vec();
    match all.iter().find(|(known, _)| *known == name) {
        Some((_, known)) if *known == value => {}
        Some(_) => {
            let why = "all servers of a pool are told the same values: those of the first";
            draft.left(line, "set-proxy-v2-tlv-fmt", why);
        }
        None => {
            all.push((name, value));
            pool.table.set(KEY, Value::Table(all));
        }
    }
}

/// What a section says of its checks, so that two can be compared.
fn asks(proxy: &Proxy) -> String {
    let of_checks = |word: &&super::proxy::Word| {
        let option =
            word.words[0] == "option" && (word.arg(1).ends_with("chk") || word.arg(1).ends_with("-check"));
        option || ["http-check", "tcp-check"].contains(&word.words[0].as_str())
    };
    proxy.words.iter().filter(of_checks).map(|word| word.words.join(" ")).collect::<Vec<_>>().join("\n")
}

/// The servers of a section, for those that follow them.
pub fn those_to_track(proxy: &Proxy) -> Vec<(String, crate::draft::Tracked)> {
    let defaults = DefaultServers::of(proxy);
    let one = |word: &super::proxy::Word| {
        let options = defaults.options_of(word);
        let wanted = ["inter", "fastinter", "downinter", "rise", "fall", "port", "addr"];
        let named = |pair: &&[String]| wanted.contains(&pair[0].as_str());
        let times = options.windows(2).filter(named).flat_map(<[String]>::to_vec).collect();
        let tracked = crate::draft::Tracked { place: word.arg(2).to_owned(), asks: asks(proxy), times };
        (format!("{}/{}", proxy.name, word.arg(1)), tracked)
    };
    proxy.all("server").map(one).collect()
}

/// `track`: the same check of the same place has the same verdict.
fn track(of: &str, line: usize, section: &Proxy, own: &mut Table, draft: &mut Draft) {
    let name = if of.contains('/') { of.to_owned() } else { format!("{}/{of}", section.name) };
    let Some(tracked) = draft.tracked.get(&name).cloned() else {
        return draft.wrong(line, "track", format!("unable to find {name}, which is tracked"));
    };
    if tracked.asks != asks(section) {
        let why = format!("{of}: it is checked as its own section says: give both the same check");
        return draft.left(line, "track", why);
    }
    let (host, port) = split_port(&tracked.place);
    if let (Some(host), Some(port)) = (address(host), port) {
        own.text("address", &host);
        own.number("port", port);
    }
    for pair in tracked.times.chunks(2) {
        match (pair[0].as_str(), &pair[1]) {
            ("inter", text) => interval(own, text, line, draft),
            ("fastinter", text) => time(own, "fast-interval", text),
            ("downinter", text) => time(own, "down-interval", text),
            ("addr", text) => own.text("address", split_port(text).0.trim_matches(['[', ']'])),
            (key, text) => own.number(key, text),
        }
    }
}

/// HAProxy takes shorter intervals than are of use.
fn interval(table: &mut Table, text: &str, line: usize, draft: &mut Draft) {
    let Some(time) = duration(text, "ms") else { return };
    let short = time.strip_suffix("ms").and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n < 50);
    if short {
        draft.remark(line, "inter", format!("{time} is shorter than 50 ms, which is used instead"));
    }
    table.text("interval", if short { "50ms" } else { &time });
}

fn time(table: &mut Table, key: &str, text: &str) {
    if let Some(time) = duration(text, "ms") {
        let short = time.strip_suffix("ms").and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n < 50);
        table.text(key, if short { "50ms" } else { &time });
    }
}

/// Stands in a pool without servers, as long as none was added.
pub fn nobody(pool: &Pool) -> Table {
    let mut nobody = crate::draft::nobody();
    if pool.table.has("health-check") {
        nobody.set("check", false);
    }
    nobody
}

/// The pool's one health check.
fn checks(proxy: &Proxy, mut common: Common, pool: &mut Pool, draft: &mut Draft) {
    if pool.servers.is_empty() {
        // Those that are added are checked as the backend says.
        if draft.run.is_some() && proxy.is_dynamic() {
            let check = super::checks::check(proxy, draft);
            pool.table.set("health-check", check);
            pool.table.set("same-address", true);
        }
        return;
    }
    if common.checks.is_empty() {
        pool.servers.iter_mut().for_each(|s| s.lines.retain(|l| l.key != "check"));
        if !common.agents.is_empty() {
            let mut check = Table::default();
            check.text("type", "none");
            if let Some(agent) = common.agent(&mut pool.servers) {
                check.set("agent", agent);
            }
            pool.table.set("health-check", check);
            return;
        }
        pool.table.set_with(
            "health-check",
            Table::default().with_text("type", "none"),
            "no server was checked; a refused connection counts all the same",
        );
        return;
    }
    let mut check = super::checks::check(proxy, draft);
    let timeout = proxy.time("check");
    if let Some(timeout) = &timeout {
        check.text("timeout", timeout);
    }
    let agent = common.agent(&mut pool.servers);
    let mut each = common.checks;
    // Others speak TLS only where they are told to.
    let as_servers = check.text_of("type") == Some("http");
    let plain = Table::default().with("tls", without_tls());
    for (_, own) in &mut each {
        own.lines.retain(|line| as_servers || line.key != "tls" || Some(&line.value) != plain.get("tls"));
        // What `connect` says comes first.
        own.lines.retain(|line| !check.has(&line.key));
        let sends = own.get("send-proxy").or(check.get("send-proxy")) == Some(&Value::Flag(true));
        let is_v2 = own.has("send-proxy-version");
        own.lines.retain(|line| line.key != "send-proxy-version");
        if sends && !is_v2 {
            own.text("send-proxy-version", "v1");
        }
        // HAProxy waits as long as it is to the next check.
        if timeout.is_none() && draft.run.is_some() {
            let interval = own.text_of("interval").unwrap_or("2s").to_owned();
            own.text("timeout", &interval);
        }
    }
    // It has kept the servers' own word off.
    check.lines.retain(|line| line.key != "send-proxy" || line.value != Value::Flag(false));
    for line in crate::draft::take_shared(&mut each) {
        check.put(line);
    }
    if let Some(agent) = agent {
        check.set("agent", agent);
    }
    pool.table.set("health-check", check);
    for (at, own) in each.into_iter().filter(|(_, own)| !own.lines.is_empty()) {
        pool.servers[at].set("health-check", own);
    }
}

/// `source ADDRESS [usesrc WHOSE] [interface NAME]`, of a proxy or a server; how many of the further
/// words belong to it.
pub fn source(from: &str, more: &[String], table: &mut Table, line: usize, draft: &mut Draft) -> usize {
    match more {
        [uses, whose, ..] if uses == "usesrc" => {
            if ["clientip", "client"].contains(&whose.as_str()) {
                let note = "full transparency: the rules of the kernel are set up by Evenkeel";
                table.set_with("source", Value::text("client"), note);
            } else {
                draft.left(line, "usesrc", format!("{whose}: not carried over"));
            }
            2
        }
        [interface, name, ..] if interface == "interface" => {
            draft.left(line, "interface", format!("{name}: write source-interface in the pool"));
            2
        }
        _ => {
            table.text("source", if is_any(from) { "own" } else { split_port(from).0 });
            0
        }
    }
}

pub fn is_any(from: &str) -> bool {
    from.starts_with("0.0.0.0") || from.starts_with('*') || from == "::"
}
