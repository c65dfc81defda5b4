//! `http-request`, `use_backend` and their like as routes.

use std::collections::BTreeMap;

use evenkeel_model::LogLevel;

use super::condition::Acls;
use super::proxy::{Proxy, Word};
use super::replies::{NOTHING, Page, Reply};
use super::sample::{self, literal as constant, variables};
use super::{access, answers, stats};
use crate::draft::{Table, Value, also, flag, status};
use crate::words::{name, quoted};

/// A level of log lines, which has the same name here.
pub fn log_level(word: &str) -> Result<&'static str, String> {
    let level = LogLevel::of(word).map(LogLevel::as_str);
    level.ok_or_else(|| {
        format!("'{word}' is no log level: emerg, alert, crit, err, warning, notice, info, debug or silent")
    })
}

/// One rule as a route; none where nothing is to be done.
pub fn rule(
    word: &Word,
    acls: &Acls,
    backends: &BTreeMap<&str, &Proxy>,
    http: bool,
) -> Result<Option<Table>, String> {
    let words = &word.words;
    let cut = words.iter().position(|w| w == "if" || w == "unless").unwrap_or(words.len());
    let (does, when) = words.split_at(cut);
    let mut route = Table::default();
    if does[0] == "tcp-request" && does.get(1).is_some_and(|w| w == "inspect-delay") {
        return Ok(None);
    }
    let condition = acls.condition(when)?;
    let asks = does.first().is_some_and(|w| w == "http-request") && does.get(1).is_some_and(|w| w == "auth");
    if asks {
        let realm = does.iter().skip_while(|w| *w != "realm").nth(1).map_or("restricted", String::as_str);
        if answers::asks_of_answer(&condition) {
            return Err(answers::NONE_YET.into());
        }
        if !access::is_in(&condition) {
            // Nobody is let in.
            route.set(
                "add-response-header",
                table_of("WWW-Authenticate", &format!("Basic realm=\"{realm}\""))?,
            );
            route.set("deny", status(401));
            also(&mut route, &condition);
            return Ok(Some(route));
        }
        let (auth, rest) = access::basic_auth(&condition, realm, &acls.userlists)?;
        if !rest.is_empty() {
            route.when(&rest);
        }
        route.set("basic-auth", auth);
        return Ok(Some(route));
    }
    if access::is_in(&condition) {
        return Err("http_auth is carried over with `http-request auth` alone".into());
    }
    let begin = |route: &mut Table| {
        if !condition.is_empty() {
            route.when(&condition);
        }
    };
    let set = |route: &mut Table, key: &str, value: Value| {
        begin(route);
        route.set(key, value);
    };
    let set_table = |route: &mut Table, key: &str, value: Table| {
        begin(route);
        route.set(key, value);
    };
    let table = table_of;
    let does: Vec<&str> = does.iter().map(String::as_str).collect();
    match does.as_slice() {
        ["use_backend", backend, ..] => {
            if let Some(sample) = backend.strip_prefix("%[").and_then(|b| b.strip_suffix(']')) {
                let asked = sample::looked_up(sample).ok_or("a backend by variable that no map names")?;
                let sample::LookUp { key, file, matching, default } = asked?;
                let mut map = Table::default();
                map.text("file", &file);
                map.text("match", matching);
                map.text("key", &key);
                if let Some(default) = default {
                    if !backends.contains_key(default.as_str()) {
                        return Err(format!("unable to find required use_backend: '{default}'"));
                    }
                    map.text("default", &name(&default));
                }
                set_table(&mut route, "pool-map", map);
                return Ok(Some(route));
            }
            let Some(target) = backends.get(backend) else {
                return Err(format!("unable to find required use_backend: '{backend}'"));
            };
            route.text("name", &format!("to-{}", name(backend)));
            match target.takes_servers(acls.runs()) {
                true => set(&mut route, "pool", Value::text(name(backend))),
                false if http => without_servers(target, acls, &condition, &mut route),
                false => set_table(&mut route, "deny", if http { status(503) } else { Table::default() }),
            }
        }
        ["http-request" | "tcp-request", rest @ ..]
            if rest.first() == Some(&"deny")
                || rest.get(1) == Some(&"reject")
                || rest == ["content", "silent-drop"]
                || ["reject", "silent-drop"].iter().any(|w| rest.first() == Some(w)) =>
        {
            let words = if rest[0] == "deny" && does[0] == "http-request" { &rest[1..] } else { &[][..] };
            let reply = Reply::read(words, "403", acls)?;
            match &reply.keys {
                _ if does.contains(&"silent-drop") => set_table(&mut route, "deny", flag("vanish")),
                _ if http && does.contains(&"reject") || reply.silent => {
                    set_table(&mut route, "deny", flag("silent"))
                }
                Some(_) => set_table(&mut route, "answer", reply.answer()),
                None if http => set_table(&mut route, "deny", reply.only_status()),
                None => set_table(&mut route, "deny", Table::default()),
            }
            reply.add_headers("add-response-header", &mut route);
        }
        ["http-request", "use-service", "prometheus-exporter"] if acls.own_pages.is_some() => {
            let secret = acls.own_pages.as_deref().unwrap_or_default();
            route.text("name", "metrics");
            set(&mut route, "set-header", stats::way_in(secret, "metrics"));
            route.text("pool", stats::POOL);
        }
        ["use-server", server] if !server.contains('%') => {
            set(&mut route, "server", Value::text(name(server)))
        }
        ["block"] => set_table(&mut route, "deny", status(403)),
        ["http-request", "tarpit", rest @ ..] => {
            let reply = Reply::read(rest, "500", acls)?;
            if reply.keys.is_some() || !reply.headers.is_empty() {
                return Err("a tarpit answers with the page of its status: see error-pages".into());
            }
            let mut tarpit = Table::default();
            if let Some(delay) = &acls.tarpit {
                tarpit.text("delay", delay);
            }
            set_table(&mut route, "tarpit", tarpit.with_number("status", &reply.status));
        }
        ["http-request", "redirect", rest @ ..] | ["redirect", rest @ ..] => {
            let (place, text) = redirection(rest, "add-response-header", &mut route)?;
            set_table(&mut route, "redirect", place);
            if let Some(text) = text {
                also(&mut route, &text);
            }
        }
        ["http-request", "set-header", name, value @ ..] => {
            set(&mut route, "set-header", table(name, &value.join(" "))?)
        }
        ["http-request", "add-header", name, value @ ..] => {
            set(&mut route, "add-header", table(name, &value.join(" "))?)
        }
        ["http-request", "del-header", rest @ ..] => {
            let (key, value) = removed("", rest)?;
            set(&mut route, &key, value);
        }
        ["http-request", "set-method", method] => {
            let constant = method.strip_prefix("%[str(").and_then(|m| m.strip_suffix(")]"));
            let method = constant.unwrap_or(method);
            if !crate::words::is_token(method) || ["HEAD", "CONNECT"].contains(&method) {
                return Err(format!("{method} is no method that can be set"));
            }
            set(&mut route, "rewrite-method", Value::text(method));
        }
        ["http-request", "set-src" | "set-dst" | "set-src-port" | "set-dst-port", ..]
        | ["tcp-request", _, "set-src" | "set-dst" | "set-src-port" | "set-dst-port", ..] => {
            let at = if does[0] == "tcp-request" { 2 } else { 1 };
            let key = address_key(does[at], does[1] == "connection");
            set(&mut route, key, Value::text(sample::template(&does[at + 1..].join(" "))?));
        }
        ["http-request", "normalize-uri", normal @ ..] => {
            set(&mut route, "rewrite-uri", Value::text(normalized(normal)?));
        }
        // What it is about cannot fail here.
        ["http-request" | "http-response" | "http-after-response", "strict-mode", "on" | "off"] => {
            return Ok(None);
        }
        // The service's key, see `waits_for_body`.
        ["http-request", "wait-for-body", ..] => return Ok(None),
        ["http-request", "set-timeout", "tunnel", _] => {
            return Err("the time of tunnels is the service's: write timeout tunnel".into());
        }
        ["http-request", "set-timeout", "server", time] => {
            let time = crate::words::duration(time, "ms").ok_or("the time is a number with a unit")?;
            set(&mut route, "server-timeout", Value::text(time));
        }
        ["http-request", "set-query", query] => {
            set(&mut route, "rewrite-query", Value::text(variables(query)?))
        }
        ["http-request", "set-uri", text] if text.starts_with("http") && text.contains("://") => {
            let (_, rest) = text.split_once("://").unwrap_or_default();
            let (host, path) = rest.split_at(rest.find('/').ok_or("a URI with a host has a path")?);
            set(&mut route, "set-header", table("Host", host)?);
            route.text("rewrite-uri", &variables(path)?);
        }
        ["http-request", "set-uri" | "set-pathq", text] => {
            set(&mut route, "rewrite-uri", Value::text(variables(text)?))
        }
        ["http-request", "replace-uri" | "replace-pathq", regex, text] => {
            if text.contains("://") {
                return Err("a URI with a host is not carried over: see set-header Host".into());
            }
            let value = format!("{{uri|{}}}", sample::replace_whole(regex, text)?);
            set(&mut route, "rewrite-uri", Value::text(value));
        }
        // There the connection is answered before it has said anything.
        ["monitor-net", network] => {
            let (address, mask) = network.split_once('/').unwrap_or((network, "32"));
            let bits = crate::draft::prefix(mask).filter(|_| address.parse::<std::net::Ipv4Addr>().is_ok());
            let network = bits.map(|bits| format!("{address}/{bits}"));
            let network = network.ok_or("a network is an IPv4 address with a mask")?;
            match http {
                true => set_table(&mut route, "answer", status(200).with_text("body", "")),
                false => set_table(&mut route, "deny", Table::default()),
            }
            route.text("log-level", "silent");
            also(&mut route, &format!("source({})", quoted(&network)));
        }
        ["monitor-uri", path] => {
            set_table(&mut route, "answer", monitor());
            let at = path.split_once("://").and_then(|(_, rest)| Some((rest, rest.find('/')?)));
            let when = match at {
                Some((rest, slash)) => {
                    let host = rest[..slash].split(':').next().unwrap_or("");
                    format!("host({}) && path({})", quoted(host), quoted(&rest[slash..]))
                }
                None => format!("path({})", quoted(path)),
            };
            also(&mut route, &when);
        }
        ["http-request", "replace-path", regex, text] => {
            let value = format!("{{path|{}}}", sample::replace_whole(regex, text)?);
            set(&mut route, "rewrite-path", Value::text(value));
        }
        ["http-request", verb @ ("replace-header" | "replace-value"), name, regex, text] => {
            let value = format!("{{1|{}}}", replaced(verb, regex, text)?);
            set(&mut route, "edit-header", Value::names([(*name, value)]));
        }
        ["http-request" | "http-response" | "http-after-response" | "tcp-request", rest @ ..]
            if rest.iter().take(2).any(|w| w.starts_with("set-var") || w.starts_with("unset-var")) =>
        {
            let rest = if rest[0] == "content" || rest[0] == "connection" || rest[0] == "session" {
                &rest[1..]
            } else {
                rest
            };
            let (what, name) = rest[0].split_once('(').ok_or("a variable is needed")?;
            let (name, only) = match name.trim_end_matches(')').split_once(',') {
                Some((name, only)) => (name, only.trim()),
                None => (name.trim_end_matches(')'), ""),
            };
            let name = sample::variable(name)?;
            let value = match what {
                "set-var" => sample::template(&rest[1..].join(" "))?,
                "set-var-fmt" => variables(&rest[1..].join(" "))?,
                "unset-var" => String::new(),
                _ => return Err("not carried over".into()),
            };
            set(&mut route, "set-variable", Value::names([(name.as_str(), value)]));
            if what == "set-var" {
                also(&mut route, &sample::presence(&rest[1..].join(" ")));
            }
            match only {
                "" => {}
                "ifexists" | "ifset" | "ifnotempty" => {
                    also(&mut route, &format!("text({})", quoted(&format!("{{variable:{name}}}"))))
                }
                "ifnotexists" | "ifnotset" => {
                    also(&mut route, &format!("!text({})", quoted(&format!("{{variable:{name}}}"))))
                }
                other => {
                    return Err(format!(
                        "{other}: a variable is set by ifexists, ifnotexists, or a condition"
                    ));
                }
            }
        }
        ["http-request" | "tcp-request", rest @ ..]
            if rest.iter().take(2).any(|w| w.starts_with("track-sc")) =>
        {
            let (table, when) = acls.counted.tracked(word)?;
            set(&mut route, "track", Value::text(table));
            also(&mut route, &when);
            if let Some(variable) = acls.counted.notes(word) {
                route.named("set-variable", &variable, "1");
            }
        }
        ["http-request", verb, value @ ..] | ["tcp-request", _, verb, value @ ..]
            if ["sc-inc-", "sc-add-", "sc-set-"].iter().any(|start| verb.starts_with(start)) =>
        {
            let (count, when) = acls
                .counted
                .action(verb, &value.join(" "))
                .unwrap_or_else(|| Err(super::remedies::of(&does)))?;
            set_table(&mut route, "count", count);
            also(&mut route, &when);
        }
        ["http-request", "set-log-level", level] | ["tcp-request", "content", "set-log-level", level] => {
            set(&mut route, "log-level", Value::text(log_level(level)?));
        }
        ["http-request", "disable-l7-retry"] => set(&mut route, "retry", false.into()),
        ["http-request", "capture", what @ .., "len", length]
        | ["tcp-request", "content", "capture", what @ .., "len", length] => {
            set(&mut route, "capture", captured(&what.join(" "), length)?);
        }
        ["capture", "request", "header", name, "len", length] => {
            set(&mut route, "capture", captured(&format!("req.fhdr({name})"), length)?);
        }
        ["http-request", "set-path", path] => set(&mut route, "rewrite-path", Value::text(variables(path)?)),
        ["http-request", "return", rest @ ..] => {
            let reply = Reply::read(rest, "200", acls)?;
            let (key, value) = reply.returned(rest);
            set_table(&mut route, key, value);
            reply.add_headers("add-response-header", &mut route);
        }
        ["http-response" | "http-after-response", "set-header", name, value @ ..] => {
            set(&mut route, "set-response-header", table(name, &value.join(" "))?)
        }
        ["http-response" | "http-after-response", "add-header", name, value @ ..] => {
            set(&mut route, "add-response-header", table(name, &value.join(" "))?)
        }
        ["http-response" | "http-after-response", "del-header", rest @ ..] => {
            let (key, value) = removed("response-", rest)?;
            set(&mut route, &key, value);
        }
        ["http-request", "set-priority-class", class] => {
            // HAProxy has more classes than there are places.
            let number = class.strip_prefix("int(").and_then(|c| c.strip_suffix(')')?.parse::<i64>().ok());
            let number = number.ok_or("a class is written as int(N)")?;
            set(&mut route, "priority", number.clamp(-1000, 1000).into());
        }
        _ => return Err(super::remedies::of(&does)),
    }
    if route.lines.iter().any(answers::asking) {
        return Err(answers::NONE_YET.into());
    }
    Ok(Some(route))
}

/// What a backend without servers answers: its page for 503, where it has one.
fn without_servers(backend: &Proxy, acls: &Acls, condition: &str, route: &mut Table) {
    if !condition.is_empty() {
        route.when(condition);
    }
    let own = backend.words.iter().rfind(|word| {
        let status = word.words.iter().skip_while(|w| *w != "status").nth(1);
        word.words[0] == "http-error" && status.is_some_and(|s| s == "503")
    });
    let words: Vec<&str> = own.iter().flat_map(|word| &word.words[1..]).map(String::as_str).collect();
    // What it cannot be is told where the section is read.
    if let Some(reply) = Reply::read(&words, "503", acls).ok().filter(|reply| reply.keys.is_some()) {
        route.set("answer", reply.answer());
        return reply.add_headers("add-response-header", route);
    }
    let mut scratch = crate::draft::Draft { errors: acls.errors.clone(), ..Default::default() };
    match backend.pages(&mut scratch).get("503") {
        Some(Page::Redirect { status, to }) => {
            let place = Table::default().with_text("location", &constant(to)).with("status", *status);
            route.set("redirect", place);
        }
        Some(Page::File(file)) if file == NOTHING => route.set("deny", flag("silent")),
        Some(Page::File(file)) => route.set("answer", status(503).with_text("file", file)),
        Some(Page::Written(_)) | None => route.set("deny", status(503)),
    }
}

/// Whose address it is and of what. A rule of connections counts for all their requests.
fn address_key(verb: &str, of_connection: bool) -> &'static str {
    match (verb, of_connection) {
        ("set-src", true) => "set-connection-source",
        ("set-dst", true) => "set-connection-destination",
        ("set-src", false) => "set-source",
        ("set-dst", false) => "set-destination",
        ("set-src-port", _) => "set-source-port",
        _ => "set-destination-port",
    }
}

/// Path and query in a normal form. With `strict` a wrong escape is refused before, see `Proxy::strictly`.
fn normalized(words: &[&str]) -> Result<String, String> {
    let word = match words {
        ["path-strip-dotdot", "full"] => "path-strip-dotdot-full".to_owned(),
        [word, "strict"] => (*word).to_owned(),
        [word] => (*word).to_owned(),
        _ => return Err("one normal form is named".into()),
    };
    Ok(format!("{{uri|normalize({word})}}"))
}

/// What `replace-header` or `replace-value` makes of a header.
pub fn replaced(verb: &str, regex: &str, text: &str) -> Result<String, String> {
    match verb {
        "replace-value" => sample::replace_values(regex, text),
        _ => sample::replace_whole(regex, text),
    }
}

/// A name with a text with variables.
pub fn table_of(name: &str, value: &str) -> Result<Value, String> {
    Ok(Value::names([(name, variables(value)?)]))
}

/// What HAProxy says at `monitor-uri`.
fn monitor() -> Table {
    status(200)
        .with_text("content-type", "text/html")
        .with_text("body", "<html><body><h1>200 OK</h1>\nService ready.\n</body></html>\n")
}

/// `NAME [-m str|beg|end|sub|reg]` of headers: the key of routes and its value.
pub fn removed(kind: &str, words: &[&str]) -> Result<(String, Value), String> {
    let (key, name) = match words {
        [regex, "-m", "reg"] if kind.is_empty() => ("remove-header-matching".into(), (*regex).to_owned()),
        [name] | [name, "-m", "str"] => (format!("remove-{kind}header"), (*name).to_owned()),
        [name, "-m", "beg"] => (format!("remove-{kind}header"), format!("{name}*")),
        [name, "-m", "end"] => (format!("remove-{kind}header"), format!("*{name}")),
        [name, "-m", "sub"] => (format!("remove-{kind}header"), format!("*{name}*")),
        _ => return Err("not carried over".into()),
    };
    Ok((key, Value::texts([name])))
}

pub fn captured(what: &str, length: &str) -> Result<Value, String> {
    let template = sample::template(what)?;
    let cut = template.strip_suffix('}').map(|t| format!("{t}|bytes(0,{length})}}")).unwrap_or(template);
    let name: String = what.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    Ok(Value::names([(name, cut)]))
}

/// The words of `redirect` as the value of the key, and what must hold as well. `add` is the key that adds
/// headers.
pub fn redirection(rest: &[&str], add: &str, route: &mut Table) -> Result<(Table, Option<String>), String> {
    let mut status = "302";
    let mut location = None;
    let (mut ignores_empty, mut drops, mut slash) = (false, false, false);
    let mut cookie = None;
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match *word {
            "code" => status = rest.next().unwrap_or(&"302"),
            "location" => {
                location = Some(variables(rest.next().unwrap_or(&""))?);
                // It is said as a whole.
                drops = true;
            }
            "prefix" => {
                location =
                    Some(format!("{}{{path}}", variables(rest.next().unwrap_or(&""))?.trim_end_matches('/')))
            }
            "scheme" => {
                let scheme = rest.next().unwrap_or(&"https");
                location = Some(format!("{scheme}://{{header:Host}}{{path}}"));
            }
            "drop-query" => drops = true,
            "ignore-empty" => ignores_empty = true,
            "append-slash" => slash = true,
            "set-cookie" => cookie = rest.next().map(|name| format!("{name}; path=/;")),
            "clear-cookie" => cookie = rest.next().map(|name| format!("{name}; path=/; Max-Age=0;")),
            other => return Err(format!("redirect {other} is not carried over")),
        }
    }
    let mut location = location.ok_or("a redirect needs a place")?;
    if let Some(begin) = location.strip_suffix("{path}").filter(|_| slash) {
        let of = if drops { "path" } else { "uri" };
        location = format!("{begin}{{{of}|replace(\"([^/])$\",\"${{1}}/\")}}");
    }
    if let Some(cookie) = cookie {
        route.set(add, Table::default().with_text("Set-Cookie", &constant(&cookie)));
    }
    let mut place = Table::default().with_text("location", &location).with_number("status", status);
    // A query follows where the place ends with the path.
    if drops && location.ends_with("path}") {
        place.set("drop-query", true);
    }
    Ok((place, ignores_empty.then(|| format!("text({})", quoted(&location)))))
}
