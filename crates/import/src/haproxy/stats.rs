//! Sockets and pages of statistics.

use super::proxy::Proxy;
use super::run::{StatsPage, StatsSocket};
use crate::draft::{Draft, Table};
use crate::words::{literal, quoted};

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
    let mut socket =
        StatsSocket { line, place, level: "operator".into(), mode: None, user: None, group: None };
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
            "mode" => socket.mode = u32::from_str_radix(&value(), 8).ok(),
            "user" | "uid" => socket.user = Some(value()),
            "group" | "gid" => socket.group = Some(value()),
            "expose-fd" | "process" | "thread" | "backlog" | "maxconn" | "name" | "id"
            | "severity-output" => drop(value()),
            other => draft.left(line, other, "not carried over"),
        }
    }
    if let Some(run) = &mut draft.run {
        run.sockets.push(socket);
    }
}

/// The route to a proxy's page of statistics, where it has one.
pub fn page(proxy: &Proxy, draft: &mut Draft) -> Option<Table> {
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
                match always && value == "if" {
                    true => page.admin = true,
                    false if word.words.iter().any(|w| w == "LOCALHOST") => {
                        draft.left(
                            word.line,
                            "stats admin",
                            "the condition is not carried over: use `stats auth`, and `stats admin if TRUE`",
                        );
                    }
                    false => draft.left(
                        word.line,
                        "stats admin",
                        "only `if TRUE` is carried over: use `stats auth`",
                    ),
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
    if !draft.pools.iter().any(|p| p.name == "haproxy-stats") {
        let mut pool = crate::draft::Pool { name: "haproxy-stats".into(), ..Default::default() };
        pool.table.set("health-check", "{ type = \"none\" }");
        let mut server = Table::default();
        server.text("name", "page");
        server.text("address", &address.to_string());
        pool.servers.push(server);
        draft.pools.push(pool);
    }
    let mut route = Table::default();
    route.text("name", "statistics");
    if path != "/" || exact {
        let pattern = if exact { path } else { format!("{path}*") };
        route.set("when", literal(&format!("path({})", quoted(&pattern))));
    }
    let headers = format!("{{ \"X-Evenkeel-Statistics\" = {} }}", quoted(&format!("{secret} {number}")));
    route.set("set-header", headers);
    route.text("pool", "haproxy-stats");
    if let Some(run) = &mut draft.run {
        run.pages.push(page);
    }
    Some(route)
}
