//! `Redirect` and `ProxyPassReverse`: where clients are sent.

use super::Members;
use crate::draft::{Draft, Service, Table, Value, also};
use crate::words::{name, quoted};
use evenkeel_config::is_plain;

/// Puts redirects behind what is passed on: Apache asks `ProxyPass` first, in whatever order both are written, and
/// `Redirect` only for what is excluded or left.
pub fn place(redirects: Vec<(usize, String, Table)>, service: &mut Service, draft: &mut Draft) {
    let is_excluded = |route: &Table| {
        route.get("deny").is_some_and(|deny| {
            deny.entries().iter().any(|(key, value)| key == "status" && value.as_number() == Some(404))
        })
    };
    let mut routes = Vec::new();
    for route in std::mem::take(&mut service.routes) {
        let when = route.text_of("when").map(str::to_owned).filter(|_| is_excluded(&route));
        for (_, _, redirect) in redirects.iter().filter(|_| when.is_some()) {
            let mut own = redirect.clone();
            also(&mut own, when.as_deref().unwrap_or(""));
            routes.push(own);
        }
        routes.push(route);
    }
    let excludes = routes.iter().any(is_excluded);
    for (at, words, route) in redirects {
        match service.pool.is_some() {
            false => routes.push(route),
            true if excludes => {}
            true => {
                let why = "ProxyPass / takes these requests before it, in Apache too: it is left out";
                draft.left(at, &words, why);
            }
        }
    }
    service.routes = routes;
}

/// `Redirect [STATUS] PATH URL` and `RedirectMatch [STATUS] REGEX URL`.
pub fn redirect(words: &[String]) -> Option<Table> {
    let matches = words[0].eq_ignore_ascii_case("RedirectMatch");
    let (mut status, mut rest) = ("302", &words[1..]);
    match words[0].to_ascii_lowercase().as_str() {
        "redirectpermanent" => status = "301",
        "redirecttemp" => {}
        _ => {
            let named = match rest.first()?.as_str() {
                "permanent" => Some("301"),
                "temp" => Some("302"),
                "seeother" => Some("303"),
                "gone" => Some("410"),
                number => number.parse::<u16>().is_ok().then_some(number),
            };
            if let Some(named) = named {
                (status, rest) = (named, &rest[1..]);
            }
        }
    }
    let (path, to) = (rest.first()?, rest.get(1));
    let mut route = Table::default();
    if matches {
        route.when(&format!("path =~ {}", quoted(path)));
    } else if path != "/" {
        let below = format!("{}/*", path.trim_end_matches('/'));
        route.when(&format!("path({}, {})", quoted(path), quoted(&below)));
    }
    if status.starts_with('4') || status.starts_with('5') {
        route.set("deny", Table::default().with_number("status", status));
        return Some(route);
    }
    let to = to?.replace('{', "{{").replace('}', "}}");
    let to = match (matches, path.as_str()) {
        (true, _) => (1..=9).fold(to, |to, at| to.replace(&format!("${at}"), &format!("{{{at}}}"))),
        // What is behind the path follows, with the query.
        (false, "/") => format!("{}{{path}}", to.trim_end_matches('/')),
        (false, path) => format!("{to}{{uri|replace(\"^{}\",\"\")}}", escaped(path)),
    };
    route.set("redirect", Table::default().with_text("location", &to).with_number("status", status));
    Some(route)
}

/// A text within a regular expression that stands in quotes.
pub fn escaped(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_".contains(c);
    text.chars().map(|c| if plain(c) { c.to_string() } else { format!("[{c}]") }).collect()
}

/// `ProxyPassReverse PATH URL`: places that name the server name the path instead.
pub fn reversed(words: &[String], members: &Members, draft: &Draft) -> Option<Table> {
    let (path, to) = (words.get(1)?, words.get(2)?);
    let (scheme, rest) = to.split_once("://")?;
    let (host, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let hosts: Vec<String> = match scheme {
        "balancer" => {
            let pool = draft.pools.iter().find(|pool| pool.name == name(host))?;
            let addresses = pool.servers.iter().filter_map(|server| server.text_of("address"));
            addresses.map(str::to_owned).collect()
        }
        "http" | "https" | "ws" | "wss" => vec![host.to_owned()],
        _ => return None,
    };
    let path_of = members.get(&name(host)).and_then(|paths| paths.first()).filter(|_| scheme == "balancer");
    let before = path_of.filter(|path| !path.is_empty()).map_or_else(String::new, |path| format!("/{path}"));
    let from = ["http", "https"].into_iter().flat_map(|scheme| {
        let places = hosts.iter().map(move |host| (scheme, host));
        places.map(|(scheme, host)| format!("{scheme}://{}{before}{below}", host.trim_end_matches(":80")))
    });
    let from: Vec<String> = from.collect();
    let route = rewriting(words, Table::default().with("from", Value::texts(&from)).with_text("to", path));
    (is_plain(path) && from.iter().all(|place| is_plain(place)) && !hosts.is_empty()).then_some(route)
}

/// `ProxyPassReverseCookieDomain INNER OUTER` and `ProxyPassReverseCookiePath INNER OUTER`.
pub fn cookies_reversed(words: &[String]) -> Option<Table> {
    let (inner, outer) = (words.get(1)?, words.get(2)?);
    let key = match words[0].to_ascii_lowercase().as_str() {
        "proxypassreversecookiedomain" => "cookie-domains",
        _ => "cookie-paths",
    };
    let pair = Table::default().with_text("from", inner).with_text("to", outer);
    let both = Table::default().with(key, vec![pair]);
    (is_plain(inner) && is_plain(outer)).then(|| rewriting(words, both))
}

fn rewriting(words: &[String], keys: Table) -> Table {
    let mut route = Table::default();
    route.comments.push(words.join(" "));
    route.text("of", "servers");
    route.set("rewrite-location", keys);
    route
}
