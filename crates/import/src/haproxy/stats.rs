//! Sockets and pages of statistics.

use std::net::SocketAddr;

use super::condition::Acls;
use super::proxy::{Proxy, Word};
use super::run::{SocketAccess, StatsPage, StatsSocket};
use crate::draft::{Draft, Pool, Table, Value, also, status};
use crate::words::quoted;

/// `stats` of the global section.
pub fn socket(line: usize, words: &[String], draft: &mut Draft) {
    match words.get(1).map(String::as_str) {
        Some("socket") => {}
        // Sessions end by themselves.
        Some("timeout" | "maxconn" | "bind-process") => return,
        _ => return draft.wrong(line, "stats", "'stats' expects 'socket', 'maxconn' or 'timeout'"),
    }
    let Some(place) = words.get(2).cloned() else {
        return draft.wrong(line, "stats", "'stats socket' expects an address or a path to a UNIX socket");
    };
    let mut socket = StatsSocket { line, place, level: "operator".into(), access: SocketAccess::default() };
    let mut rest = words[3..].iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().cloned().unwrap_or_default();
        match word.as_str() {
            "level" => match value() {
                level if ["user", "operator", "admin"].contains(&level.as_str()) => socket.level = level,
                other => draft.wrong(
                    line,
                    "level",
                    format!("'level' expects 'user', 'operator' or 'admin', not '{other}'"),
                ),
            },
            "mode" | "user" | "uid" | "group" | "gid" => drop(socket.access.take(word, &value())),
            "expose-fd" | "process" | "thread" | "backlog" | "maxconn" | "name" | "id"
            | "severity-output" => drop(value()),
            other => draft.left(line, other, "not carried over"),
        }
    }
    if let Some(run) = &mut draft.run {
        run.sockets.push(socket);
    }
}

/// The pool of this program's own pages.
pub const POOL: &str = "haproxy-stats";

/// The header that names one of these pages, behind the word that only this process knows.
pub fn way_in(secret: &str, page: &str) -> Value {
    Value::names([("X-Evenkeel-Statistics", format!("{secret} {page}"))])
}

/// The pool is there, once.
fn make_pool(address: SocketAddr, draft: &mut Draft) {
    if draft.pools.iter().any(|p| p.name == POOL) {
        return;
    }
    let mut pool = Pool { name: POOL.into(), ..Pool::default() };
    pool.table.set("health-check", Table::default().with_text("type", "none"));
    let mut server = Table::default();
    server.text("name", "page");
    server.text("address", &address.to_string());
    pool.servers.push(server);
    draft.pools.push(pool);
}

/// The routes to a proxy's page of statistics, where it has one: to the page whose forms change states by
/// their condition, and what is refused of it.
pub fn pages(proxy: &Proxy, draft: &mut Draft) -> Vec<Table> {
    let mut rules = Rules::default();
    let own = draft.run.as_ref().and_then(|run| run.places.stats.as_ref()).map(|stats| stats.0);
    let exports = |word: &Word| word.words.get(1).is_some_and(|w| w == "use-service");
    if let Some(address) = own.filter(|_| proxy.is_http() && proxy.all("http-request").any(exports)) {
        make_pool(address, draft);
    }
    let Some(page) = page(proxy, &mut rules, draft) else { return Vec::new() };
    let plain = page.clone();
    let mut routes = rules.refused;
    for route in &mut routes {
        let asked = plain.condition().to_owned();
        also(route, &asked);
    }
    if let (Some(when), Some(run)) = (rules.admin, &mut draft.run) {
        // The same page once more, with its forms.
        let number = run.pages.len();
        let Some((_, secret)) = run.places.stats.clone() else { return routes };
        let Some(last) = run.pages.last().cloned() else { return routes };
        run.pages.push(StatsPage { admin: true, ..last });
        let mut admin = page.clone();
        also(&mut admin, &when);
        admin.set("set-header", way_in(&secret, &number.to_string()));
        routes.push(admin);
    }
    routes.push(page);
    routes
}

/// What rules say of a page.
#[derive(Default)]
struct Rules {
    /// When its forms change states.
    admin: Option<String>,
    refused: Vec<Table>,
}

fn page(proxy: &Proxy, rules: &mut Rules, draft: &mut Draft) -> Option<Table> {
    let (address, secret) = draft.run.as_ref()?.places.stats.clone()?;
    let mut on = false;
    let mut page = StatsPage {
        proxy: proxy.name.clone(),
        uri: "/haproxy?stats".into(),
        realm: "HAProxy Statistics".into(),
        ..StatsPage::default()
    };
    for word in proxy.all("stats") {
        let value = word.words.get(2).cloned().unwrap_or_default();
        on = true;
        match word.words.get(1).map_or("", String::as_str) {
            "enable" => {}
            "uri" => page.uri = value,
            "realm" => page.realm = value,
            "auth" => page.users.push(value),
            "refresh" => {
                page.refresh =
                    crate::words::duration(&value, "s").and_then(|d| d.trim_end_matches('s').parse().ok())
            }
            "hide-version" => page.hide_version = true,
            "scope" => page.scope.push(if value == "." { proxy.name.clone() } else { value }),
            "admin" => {
                let always = ["TRUE", "always_true"].contains(&word.words.get(3).map_or("", String::as_str));
                if always && value == "if" {
                    page.admin = true;
                    continue;
                }
                let acls = Acls::of(proxy, &mut draft.scratch());
                match acls.condition(&word.words[2..]) {
                    Ok(when) if when.is_empty() => {
                        draft.wrong(word.line, "stats admin", "'stats admin' expects 'if' or 'unless'");
                    }
                    Ok(when) => {
                        let known = rules.admin.take().map(|known| format!("({known}) || ({when})"));
                        rules.admin = Some(known.unwrap_or(when));
                    }
                    Err(why) => draft.left(word.line, "stats admin", why),
                }
            }
            "http-request" if value == "deny" => {
                let acls = Acls::of(proxy, &mut draft.scratch());
                match acls.condition(word.words.get(3..).unwrap_or_default()) {
                    Ok(when) => {
                        let mut route = Table::default();
                        route.text("name", "statistics-refused");
                        route.set("deny", status(403));
                        also(&mut route, &when);
                        rules.refused.push(route);
                    }
                    Err(why) => draft.left(word.line, &word.written, why),
                }
            }
            "show-legends" | "show-node" | "show-desc" | "show-modules" => {}
            other => draft.left(word.line, &format!("stats {other}"), "not carried over"),
        }
    }
    if !on || !proxy.is_http() {
        return None;
    }
    let number = draft.run.as_ref().map_or(0, |run| run.pages.len());
    let path = page.uri.split('?').next().unwrap_or("").to_owned();
    let exact = page.uri.contains('?');
    make_pool(address, draft);
    let mut route = Table::default();
    route.text("name", "statistics");
    if path != "/" || exact {
        let pattern = if exact { path } else { format!("{path}*") };
        route.when(&format!("path({})", quoted(&pattern)));
    }
    route.set("set-header", way_in(&secret, &number.to_string()));
    route.text("pool", POOL);
    if let Some(run) = &mut draft.run {
        run.pages.push(page);
    }
    Some(route)
}
