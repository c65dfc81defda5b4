//! Who may come in, as Apache says it: `Require` with its containers, and `Order`, `Allow`, `Deny`.
//!
//! A section that says so takes the place of the sections before it, so a route refuses those whom the
//! last section that holds for a request does not let in.

use super::Words;
use crate::draft::{Draft, Table, also};
use crate::words::{literal, quoted};

/// A section with rules of access.
#[derive(Clone, Debug)]
pub struct Access {
    /// The condition of its requests, empty for all; or why it has none.
    pub place: Result<String, String>,
    /// The balancer whose requests they are.
    pub balancer: Option<String>,
    /// Sections of locations take the place of those of proxies, wherever they stand.
    pub is_location: bool,
    pub rules: Vec<Words>,
}

impl Access {
    /// A section that begins with these words.
    pub fn of(words: &[String]) -> Access {
        let is_location = words[0].to_lowercase().starts_with("<location");
        Access { place: place(words), balancer: None, is_location, rules: Vec::new() }
    }
}

/// Whom a rule lets in.
#[derive(Clone, Debug, PartialEq)]
enum Who {
    All,
    Nobody,
    Those(String),
}

impl Who {
    fn not(self) -> Who {
        match self {
            Who::All => Who::Nobody,
            Who::Nobody => Who::All,
            Who::Those(when) => Who::Those(format!("!({when})")),
        }
    }

    fn and(self, other: Who) -> Who {
        match (self, other) {
            (Who::Nobody, _) | (_, Who::Nobody) => Who::Nobody,
            (Who::All, one) | (one, Who::All) => one,
            (Who::Those(a), Who::Those(b)) => Who::Those(format!("({a}) && ({b})")),
        }
    }

    fn or(self, other: Who) -> Who {
        match (self, other) {
            (Who::All, _) | (_, Who::All) => Who::All,
            (Who::Nobody, one) | (one, Who::Nobody) => one,
            (Who::Those(a), Who::Those(b)) => Who::Those(format!("({a}) || ({b})")),
        }
    }
}

/// The requests of a section by its first line, such as `<Location /admin>`.
fn place(words: &[String]) -> Result<String, String> {
    let keyword = words[0].to_lowercase();
    let mut rest = words[1..].iter().map(|w| w.trim_end_matches('>')).filter(|w| !w.is_empty());
    let first = rest.next().unwrap_or("");
    let regex = if first == "~" { rest.next() } else { Some(first).filter(|_| keyword.ends_with("match")) };
    match (keyword.as_str(), regex, first) {
        ("<proxy" | "<proxymatch", None, "*") => Ok(String::new()),
        ("<location" | "<locationmatch", Some(regex), _) => Ok(format!("path =~ {}", quoted(regex))),
        ("<location", None, "/") => Ok(String::new()),
        ("<location", None, path) if path.starts_with('/') && !path.contains(['*', '?', '[', '\\']) => {
            let under = path.trim_end_matches('/');
            let below = quoted(&format!("{under}/*"));
            Ok(match path.ends_with('/') {
                true => format!("path({below})"),
                false => format!("path({}, {below})", quoted(path)),
            })
        }
        _ => Err(format!("{} names no path that a route can ask for", words.join(" "))),
    }
}

/// Whether a line belongs to the rules: a rule, or a container of them.
pub fn is_rule(keyword: &str) -> bool {
    super::ACCESS.contains(&keyword)
        || ["<require", "</require", "<limit", "</limit"].iter().any(|begin| keyword.starts_with(begin))
}

/// Puts routes into a service that refuse those who may not come in.
pub fn routes(all: &[Access], routes: &mut Vec<Table>, default: Option<&String>, draft: &mut Draft) {
    let mut all = all.to_vec();
    all.sort_by_key(|one| one.is_location);
    let judged: Vec<(&Access, Result<Who, String>)> =
        all.iter().map(|one| (one, one.place.clone().and_then(|_| allowed(&one.rules)))).collect();
    let mut front = Vec::new();
    for (at, (one, who)) in judged.iter().enumerate() {
        let who = match who {
            Ok(who) => who.clone(),
            Err(why) => {
                report(one, why, draft);
                continue;
            }
        };
        let place = one.place.clone().unwrap_or_default();
        let mut refused = who.not();
        // A later section is the one that counts where it holds as well.
        for (later, who) in &judged[at + 1..] {
            if let (Ok(place), Ok(_), None) = (&later.place, who, &later.balancer) {
                let elsewhere = if place.is_empty() { Who::Nobody } else { Who::Those(place.clone()).not() };
                refused = refused.and(elsewhere);
            }
        }
        let mut route = Table::default();
        route.text("name", &format!("access-{}", at + 1));
        match refused {
            Who::Nobody => continue,
            Who::All if place.is_empty() => {}
            Who::All => route.set("when", literal(&place)),
            Who::Those(when) => {
                route.set("when", literal(&when));
                also(&mut route, &place);
            }
        }
        route.set("deny", "{ status = 403 }");
        match &one.balancer {
            None => front.push(route),
            Some(pool) => before_its_routes(pool, &route, routes, default),
        }
    }
    // Redirects of the server come before its rules of access, what is passed on after them.
    let first = routes.iter().position(|r| r.get("pool").is_some()).unwrap_or(routes.len());
    routes.splice(first..first, front);
}

/// The rules of a balancer are asked where its requests are known.
fn before_its_routes(pool: &str, route: &Table, routes: &mut Vec<Table>, default: Option<&String>) {
    let wanted = quoted(pool);
    let mut at = 0;
    while at < routes.len() {
        if routes[at].get("pool") == Some(&wanted) {
            let mut own = route.clone();
            let when = routes[at].get("when").map(crate::words::unquoted).unwrap_or_default();
            also(&mut own, &when);
            own.text("name", &format!("access-{pool}-{}", at + 1));
            routes.insert(at, own);
            at += 1;
        }
        at += 1;
    }
    if default.is_some_and(|default| default == pool) {
        routes.push(route.clone());
    }
}

fn report(access: &Access, why: &str, draft: &mut Draft) {
    for (line, words) in &access.rules {
        let text = words.join(" ");
        if super::closes(words) {
            draft.grave(*line, &text, format!("{why}: {}", super::OPEN));
        }
    }
}

/// Whom the rules of one section let in.
fn allowed(rules: &[Words]) -> Result<Who, String> {
    let has = |wanted: &[&str]| rules.iter().any(|(_, w)| wanted.contains(&w[0].to_lowercase().as_str()));
    if rules.iter().any(|(_, w)| w[0].to_lowercase().starts_with("<limit")) {
        return Err("rules of some methods only are no route here".into());
    }
    let auth =
        |(_, w): &&Words| w[0].to_lowercase().starts_with("auth") || w[0].to_lowercase().starts_with("ssl");
    if let Some((_, words)) = rules.iter().find(auth) {
        return Err(format!("{} asks for users or certificates", words[0]));
    }
    let (old, new) = (
        has(&["order", "allow", "deny"]),
        rules.iter().any(|(_, w)| w[0].to_lowercase().contains("require")),
    );
    match (old, new) {
        (true, true) => Err("Order, Allow and Deny stand beside Require".into()),
        (true, false) => by_order(rules),
        (false, _) => {
            let mut rest = rules.iter();
            let all = container(&mut rest, "any")?;
            Ok(all.unwrap_or(Who::All))
        }
    }
}

/// The rules up to the end of a container of a kind: `any`, `all` or `none`.
fn container(rest: &mut std::slice::Iter<'_, Words>, kind: &str) -> Result<Option<Who>, String> {
    let mut each: Vec<(bool, Who)> = Vec::new();
    while let Some((_, words)) = rest.next() {
        let keyword = words[0].to_lowercase();
        let one = match keyword.as_str() {
            "<requireany>" => container(rest, "any")?.map(|who| (false, who)),
            "<requireall>" => container(rest, "all")?.map(|who| (false, who)),
            // It fails where one holds, and lets nobody in by itself.
            "<requirenone>" => container(rest, "none")?.map(|who| (true, who.not())),
            "require" => Some(require(&words[1..])?),
            "satisfy" => return Err("Satisfy asks for users as well".into()),
            word if word.starts_with("</") => break,
            _ => return Err(format!("{} is not understood", words.join(" "))),
        };
        each.extend(one);
    }
    if each.is_empty() {
        return Ok(None);
    }
    let negated = each.iter().any(|(negated, _)| *negated);
    Ok(Some(match kind {
        // As in Apache, what only refuses lets nobody in.
        "all" if each.iter().all(|(negated, _)| *negated) => Who::Nobody,
        "all" => each.into_iter().fold(Who::All, |all, (_, who)| all.and(who)),
        _ if negated => return Err("`not` stands where it has no effect".into()),
        _ => each.into_iter().fold(Who::Nobody, |all, (_, who)| all.or(who)),
    }))
}

/// One `Require`; whether it is negated.
fn require(words: &[String]) -> Result<(bool, Who), String> {
    let lower: Vec<String> = words.iter().map(|w| w.to_lowercase()).collect();
    let plain: Vec<&str> = lower.iter().map(String::as_str).collect();
    let who = match plain.as_slice() {
        ["not", ..] => {
            let (negated, who) = require(&words[1..])?;
            return if negated { Err("not not".into()) } else { Ok((true, who.not())) };
        }
        ["all", "granted"] => Who::All,
        ["all", "denied"] => Who::Nobody,
        ["local"] => Who::Those(r#"source("127.0.0.0/8", "::1/128")"#.into()),
        ["ip", all @ ..] if !all.is_empty() => sources(all)?,
        ["method", ..] if words.len() > 1 => {
            let each: Vec<String> = words[1..].iter().map(|m| quoted(&m.to_uppercase())).collect();
            Who::Those(format!("method({})", each.join(", ")))
        }
        ["host" | "forward-dns", ..] => return Err("names of clients are not looked up".into()),
        _ => return Err(format!("Require {} has no counterpart", words.join(" "))),
    };
    Ok((false, who))
}

/// `Order`, `Allow from` and `Deny from`.
fn by_order(rules: &[Words]) -> Result<Who, String> {
    let (mut allow, mut deny, mut allow_first) = (Who::Nobody, Who::Nobody, false);
    for (_, words) in rules {
        let keyword = words[0].to_lowercase();
        match keyword.as_str() {
            "order" => {
                let order = words[1..].concat().to_lowercase();
                allow_first = match order.as_str() {
                    "deny,allow" => false,
                    "allow,deny" | "mutual-failure" => true,
                    other => return Err(format!("Order {other} is not known")),
                };
            }
            "allow" | "deny" if words.get(1).is_some_and(|w| w.eq_ignore_ascii_case("from")) => {
                let lower: Vec<String> = words[2..].iter().map(|w| w.to_lowercase()).collect();
                let who = match lower.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                    ["all"] => Who::All,
                    all => sources(all)?,
                };
                let side = if keyword == "allow" { &mut allow } else { &mut deny };
                *side = side.clone().or(who);
            }
            _ => return Err(format!("{} has no counterpart", words.join(" "))),
        }
    }
    Ok(if allow_first { allow.and(deny.not()) } else { deny.not().or(allow) })
}

/// Addresses and networks, those of the first numbers alone as well.
fn sources(all: &[&str]) -> Result<Who, String> {
    let each: Result<Vec<String>, String> = all.iter().map(|one| network(one).map(|n| quoted(&n))).collect();
    let each = each?;
    match each.is_empty() {
        true => Err("an address is missing".into()),
        false => Ok(Who::Those(format!("source({})", each.join(", ")))),
    }
}

fn network(text: &str) -> Result<String, String> {
    let bad = || format!("{text} is no address: names of clients are not looked up");
    let (host, mask) = text.split_once('/').map_or((text, None), |(host, mask)| (host, Some(mask)));
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        let most = u32::from(evenkeel_model::host_prefix(address));
        let length = mask.map_or(Some(most), crate::draft::prefix).filter(|n| *n <= most).ok_or_else(bad)?;
        return Ok(format!("{host}/{length}"));
    }
    // `10.1` is all that begins with it.
    let parts: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let sound = parts.len() < 4 && parts.iter().all(|part| part.parse::<u8>().is_ok());
    if !sound || mask.is_some() {
        return Err(bad());
    }
    let whole: Vec<&str> = parts.iter().copied().chain(std::iter::repeat("0")).take(4).collect();
    Ok(format!("{}/{}", whole.join("."), parts.len() * 8))
}

#[cfg(test)]
mod tests {
    use crate::{Severity, Source, SourceKind, import};

    fn made(inside: &str) -> crate::Imported {
        let text = format!(
            "<VirtualHost 192.0.2.1:80>\n ServerName a.test\n ProxyPreserveHost On\n{inside}\n ProxyPass / http://192.0.2.2:8080/\n</VirtualHost>\n"
        );
        let source = Source { kind: SourceKind::Apache, file: "a.conf".into(), text };
        let made = import(&[source], &Default::default());
        evenkeel_config::read(&made.text).unwrap_or_else(|e| panic!("{e:?}\n{}", made.text));
        made
    }

    /// The conditions of the routes that refuse.
    fn refused(inside: &str) -> Vec<String> {
        let made = made(inside);
        assert!(made.left.is_empty(), "{:?}\n{}", made.left, made.text);
        let lines: Vec<&str> = made.text.lines().map(str::trim).collect();
        let of = |at: usize| match lines[at - 1].strip_prefix("when = ") {
            Some(when) => crate::words::unquoted(when),
            None => "always".into(),
        };
        (0..lines.len()).filter(|at| lines[*at] == "deny = { status = 403 }").map(of).collect()
    }

    #[test]
    fn who_may_come_in_is_a_route() {
        let cases: &[(&str, &[&str])] = &[
            (
                "<Location /admin>\n Require ip 10.0.0.0/8 192.168\n</Location>",
                &[r#"path("/admin", "/admin/*") && !(source("10.0.0.0/8", "192.168.0.0/16"))"#],
            ),
            ("<Location />\n Require all denied\n</Location>", &["always"]),
            ("<Location />\n Require all granted\n</Location>", &[]),
            (
                "<Location /a/>\n Require all denied\n</Location>\n<Location /a/b>\n Require local\n</Location>",
                &[
                    r#"path("/a/*") && !(path("/a/b", "/a/b/*"))"#,
                    r#"path("/a/b", "/a/b/*") && !(source("127.0.0.0/8", "::1/128"))"#,
                ],
            ),
            (
                "<Proxy *>\n Order deny,allow\n Deny from all\n Allow from 192.168.0.0/255.255.0.0\n</Proxy>",
                &[r#"!(source("192.168.0.0/16"))"#],
            ),
            (
                "<Location /x>\n Require ip 192.0.2.7\n</Location>\n<Proxy *>\n Require ip 192.0.2.8\n</Proxy>",
                &[
                    r#"(!(source("192.0.2.8/32"))) && (!(path("/x", "/x/*")))"#,
                    r#"path("/x", "/x/*") && !(source("192.0.2.7/32"))"#,
                ],
            ),
            (
                "<Location /x>\n Order Allow,Deny\n Allow from all\n Deny from 192.0.2.7\n</Location>",
                &[r#"path("/x", "/x/*") && !(!(source("192.0.2.7/32")))"#],
            ),
            (
                "<LocationMatch \"^/(a|b)\">\n <RequireAll>\n  Require all granted\n  Require not ip 192.0.2.7\n </RequireAll>\n</LocationMatch>",
                &[r#"path =~ "^/(a|b)" && !(!(source("192.0.2.7/32")))"#],
            ),
            (
                "<Location /x>\n <RequireAny>\n  Require ip 192.0.2.7\n  Require method GET\n </RequireAny>\n</Location>",
                &[r#"path("/x", "/x/*") && (!((source("192.0.2.7/32")) || (method("GET"))))"#],
            ),
            (
                "<Location /x>\n <RequireAll>\n  Require ip 10\n  <RequireNone>\n   Require ip 10.9\n  </RequireNone>\n </RequireAll>\n</Location>",
                &[r#"path("/x", "/x/*") && !((source("10.0.0.0/8")) && (!(source("10.9.0.0/16"))))"#],
            ),
        ];
        for (inside, expected) in cases {
            assert_eq!(refused(inside), *expected, "{inside}");
        }
    }

    /// Nothing that kept somebody out is left out in silence.
    #[test]
    fn what_no_route_can_ask_is_grave() {
        for inside in [
            "<Location /x>\n AuthType Basic\n Require valid-user\n</Location>",
            "<Location /x>\n Require host example.org\n</Location>",
            "<Location /x>\n Deny from example.org\n</Location>",
            "<Location /x*>\n Require all denied\n</Location>",
            "<Location /x>\n <LimitExcept GET>\n  Deny from all\n </LimitExcept>\n</Location>",
            "<Location /x>\n Require all granted\n Deny from all\n</Location>",
        ] {
            let made = made(inside);
            assert!(made.left.iter().any(|l| l.severity == Severity::Critical), "{inside}: {:?}", made.left);
        }
    }
}
