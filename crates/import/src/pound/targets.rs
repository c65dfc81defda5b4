//! Where a `Service` sends requests: back ends, redirects, pages; and who stays where.

use super::syntax::is_on;
use super::{General, changes};
use crate::draft::{Draft, Pool, Table, Twice, Value, also, based, unverified};
use crate::tree::Node;
use crate::words::{host, name, port_number, with_port};

/// The `Priority` of a server that has none.
const PRIORITY: &str = "5";

/// The route of `Redirect [CODE] "URL"`.
pub fn redirect_route(
    redirect: &Node,
    number: usize,
    when: &str,
    comments: &[String],
    draft: &mut Draft,
) -> Option<Table> {
    let mut route = Table::commented(comments.to_vec());
    route.text("name", &format!("redirect-{number}"));
    also(&mut route, when);
    let words = &redirect.words[1..];
    let is_code = |w: &&String| w.len() == 3 && w.bytes().all(|b| b.is_ascii_digit());
    let status = words.iter().find(is_code).map_or("302", String::as_str);
    let to = words.iter().find(|w| !is_code(w)).map_or("/", String::as_str);
    let place = match changes::text(to) {
        Ok(place) => place,
        Err(why) => {
            draft.grave(redirect.line, &redirect.words.join(" "), format!("{why}: the redirect is left out"));
            return None;
        }
    };
    // One without a path of its own keeps that of the request.
    let bare = to.split_once("://").map_or(to, |(_, rest)| rest).trim_end_matches('/');
    let appends = redirect.is("RedirectAppend");
    let keeps_path = !changes::has_groups(to) && (appends || !bare.contains('/'));
    let location = if keeps_path { format!("{}{{path}}", place.trim_end_matches('/')) } else { place };
    let mut place = Table::default().with_text("location", &location).with_number("status", status);
    if !keeps_path {
        place.set("drop-query", true);
    }
    route.set("redirect", place);
    Some(route)
}

/// The pool of a service.
pub fn backends(node: &Node, general: &General<'_>, draft: &mut Draft) -> Pool {
    let mut pool = Pool::default();
    let mut said = false;
    for child in &node.children {
        match child.words[0].to_lowercase().as_str() {
            "backend" | "emergency" | "usebackend" => {
                let own = child.child("Priority").is_some();
                said |= own || named(child, general).is_some_and(|other| other.child("Priority").is_some());
                backend(child, general, &mut pool, draft);
            }
            "session" => session(child, &mut pool, draft),
            "balancer" if child.words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("random")) => {
                pool.table.text("scheduler", "random");
            }
            _ => {}
        }
    }
    // Where nobody has a priority, all have the same share.
    if !said && pool.servers.iter().all(|server| server.get("weight") == Some(&Value::Number(5))) {
        pool.servers.iter_mut().for_each(|server| server.lines.retain(|line| line.key != "weight"));
    }
    // What all are spoken to alike is the pool's.
    let shared = pool.servers.first().and_then(|server| server.get("server-tls")).cloned();
    if let Some(shared) =
        shared.filter(|tls| pool.servers.iter().all(|server| server.get("server-tls") == Some(tls)))
    {
        pool.servers.iter_mut().for_each(|server| server.remove("server-tls"));
        pool.table.set("server-tls", shared);
    }
    if general.transparent && !pool.servers.is_empty() {
        let told = "TProxy: the rules of the kernel are set up by Evenkeel";
        pool.table.set_with("source", Value::text("client"), told);
    }
    pool
}

/// The global back end of this name, in a service.
fn named<'a>(node: &Node, general: &General<'a>) -> Option<&'a Node> {
    general.backends.get(node.words.get(1)?.as_str()).copied()
}

fn backend(node: &Node, general: &General<'_>, pool: &mut Pool, draft: &mut Draft) {
    let place = match (node.words.get(1), named(node, general)) {
        (Some(_), Some(known)) => known,
        (Some(wanted), None) => {
            let why = format!("there is no back end {wanted}: it is left out");
            return draft.grave(node.line, &node.words[0], why);
        }
        (None, _) => node,
    };
    // What a service says of a global one comes first.
    let value = |key: &str| node.value(key).or_else(|| place.value(key));
    let Some(address) = value("Address") else {
        return draft.grave(node.line, &node.words[0], "an Address is needed: it is left out");
    };
    let Some(host) = host(address) else {
        let why = match address.starts_with('/') {
            true => "servers at Unix sockets are not reached: it is left out".to_owned(),
            false => format!("{address} is no address and no name: it is left out"),
        };
        return draft.grave(place.line, "Address", why);
    };
    let https = place.children.iter().any(|line| line.is("HTTPS"));
    let port = value("Port").map(port_number).unwrap_or_else(|| if https { "443" } else { "80" }.into());
    if port.parse::<u16>().is_err() {
        return draft.grave(place.line, "Port", format!("{port} is no port: the server is left out"));
    }
    let mut server = Table::commented(node.comments.clone());
    let wanted =
        node.words.get(1).cloned().unwrap_or_else(|| format!("{}-{port}", host.replace([':', '.'], "-")));
    server.text("name", &name(&wanted));
    server.text("address", &with_port(&host, &port));
    server.number("weight", value("Priority").unwrap_or(PRIORITY));
    if value("Disabled").is_some_and(is_on) {
        server.set_with("admin-state", Value::text("halted"), "it was disabled");
    }
    if node.is("Emergency") {
        server.set("backup", true);
    }
    if https {
        server.set("server-tls", tls(place, general, draft));
    }
    for line in &place.children {
        other_line(line, pool, draft);
    }
    pool.add(server, Twice::Shares, node.line, draft);
}

/// How a back end with `HTTPS` is spoken to.
fn tls(place: &Node, general: &General<'_>, draft: &mut Draft) -> Table {
    let mut tls = unverified();
    if let Some(sni) = place.value("ServerName") {
        tls.text("sni", sni);
        draft.note(
            place.line,
            "ServerName",
            "the server is asked for this name; Host stays as the client sent it",
        );
    }
    let shown = place.value("Cert").or_else(|| place.value("HTTPS"));
    if let Some(file) = shown.filter(|file| !file.is_empty()) {
        tls.text("certificate", &based(Some(&general.folder), file));
    }
    tls
}

fn other_line(line: &Node, pool: &mut Pool, draft: &mut Draft) {
    let value = line.words.get(1).map_or("", String::as_str);
    match line.words[0].to_lowercase().as_str() {
        "address" | "port" | "priority" | "https" | "disabled" | "servername" | "cert" => {}
        "haport" if value.parse::<u16>().is_ok() => {
            let check = Table::default().with_text("type", "tcp").with_number("port", value);
            pool.table.set("health-check", check);
        }
        "haportaddr" | "haport" => {
            draft.left(line.line, &line.words.join(" "), "servers are probed at their own address and port")
        }
        // See `shared_timeout`.
        "timeout" => {}
        "connto" | "wstimeout" => draft.left(
            line.line,
            &line.words.join(" "),
            "timeouts of one server are not carried over: a route has `server-timeout` and `connect-timeout`",
        ),
        "ciphers" | "disable" => draft.note(
            line.line,
            &line.words.join(" "),
            "TLS 1.2 and 1.3 are spoken, with authenticated encryption alone",
        ),
        "resolve" if ["all", "first"].contains(&value) => draft.note(
            line.line,
            &line.words.join(" "),
            "names are looked up again and again: docs/discovery.md",
        ),
        "family" | "overridettl" | "retryinterval" => draft.note(
            line.line,
            &line.words.join(" "),
            "names are looked up by their TTL: docs/discovery.md",
        ),
        _ => draft.left(line.line, &line.words.join(" "), "not carried over"),
    }
}

/// The `TimeOut` that the servers of a service have; told where they differ.
pub fn shared_timeout(node: &Node, general: &General<'_>, draft: &mut Draft) -> Option<String> {
    let lines = node.children.iter().filter(|c| c.is("BackEnd") || c.is("UseBackend"));
    let each: Vec<Option<&str>> =
        lines.map(|line| named(line, general).unwrap_or(line).value("TimeOut")).collect();
    let first = each.iter().flatten().next()?;
    if each.iter().any(|other| *other != Some(first)) {
        let why = format!("servers of one service have one timeout here: all have {first} s");
        draft.left(node.line, "TimeOut", why);
    }
    Some(format!("{first}s"))
}

/// Who stays at a server.
fn session(node: &Node, pool: &mut Pool, draft: &mut Draft) {
    for word in node.children.iter().filter(|c| !["Type", "TTL", "ID"].iter().any(|k| c.is(k))) {
        draft.left(word.line, &word.words[0], "not carried over");
    }
    let time = node.value("TTL").map_or_else(|| "5m".into(), |t| format!("{t}s"));
    let id = node.value("ID").unwrap_or("session").to_owned();
    let kind = |kind: &str| Table::default().with_text("type", kind);
    let kept = |table: Table, name: &str| table.with_text("name", name).with_text("expire", &time);
    let value = match node.value("Type").unwrap_or("IP").to_uppercase().as_str() {
        "COOKIE" => kept(kind("app-cookie"), &id),
        "HEADER" => kept(kind("header"), &id),
        "BASIC" => kept(kind("header"), "Authorization"),
        "IP" => kind("source").with_text("timeout", &time),
        other => {
            let why = format!("{other}: clients do not stay at a server by this");
            return draft.left(node.line, "Session", why);
        }
    };
    pool.table.set("persistence", value);
}
