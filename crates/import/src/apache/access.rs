//! Who may come in, as Apache says it: `Require` with its containers, `Order`, `Allow` and `Deny`, passwords,
//! TLS and methods.
//!
//! A section takes the place of the sections before it in each kind of rules that it has, so a route refuses
//! those whom the last section of a kind that holds for a request does not let in. What cannot be said stays
//! closed: nobody comes in whom Apache kept out.

mod login;
mod scope;
mod who;

use super::Words;
use crate::draft::{Draft, Table, also, status};
use login::Login;
use scope::Scope;
use who::{Rule, Rules, Who};

/// What becomes of a rule that has no counterpart.
const NOBODY: &str = "nobody comes in by it; write it as a route with `deny` or `basic-auth`";
const CLOSED: &str = "its place is closed (403) until it is written as a route with `deny` or `basic-auth`";
const LOCAL: &str = r#"source("127.0.0.0/8", "::1/128")"#;

/// A section with rules of access.
#[derive(Clone, Debug)]
pub struct Access {
    place: Scope,
    /// The balancer whose requests they are.
    balancer: Option<String>,
    /// Sections of locations take the place of those of proxies, wherever they stand.
    is_location: bool,
    pub rules: Vec<Words>,
}

impl Access {
    /// A section that begins with these words.
    pub fn of(words: &[String]) -> Access {
        let keyword = words[0].to_lowercase();
        let is_location = !keyword.starts_with("<proxy");
        Access { place: Scope::of(words), balancer: None, is_location, rules: Vec::new() }
    }

    /// The rules of a balancer.
    pub fn of_balancer(name: String, rules: Vec<Words>) -> Access {
        Access { place: Scope::Everywhere, balancer: Some(name), is_location: false, rules }
    }

    /// Rules of a host that stand in no section.
    pub fn of_host(rules: Vec<Words>) -> Access {
        Access { place: Scope::Everywhere, balancer: None, is_location: false, rules }
    }

    /// Whether there is a rule in it, not only its frame.
    pub fn has_rules(&self) -> bool {
        self.rules.iter().any(|(_, words)| !words[0].starts_with('<'))
    }
}

/// Whether a line belongs to the rules: a rule, or a frame around some.
pub fn is_rule(keyword: &str) -> bool {
    const RULES: &[&str] = &[
        "require",
        "allow",
        "deny",
        "order",
        "satisfy",
        "sslverifyclient",
        "sslrequire",
        "sslrequiressl",
        "allowmethods",
    ];
    const FRAMES: &[&str] = &["<require", "</require", "<limit", "</limit", "<if", "</if", "<else", "</else"];
    RULES.contains(&keyword)
        || keyword.starts_with("auth")
        || FRAMES.iter().any(|begin| keyword.starts_with(begin))
}

/// The condition of requests that an expression refuses, in every spelling of their paths.
pub fn refused_by(regex: &str) -> Option<String> {
    match scope::by_regex(regex)? {
        Scope::Path { closes, .. } => Some(closes),
        Scope::Everywhere | Scope::Unknown(_) => None,
    }
}

/// Puts routes into a service that refuse those who may not come in.
pub fn routes(
    all: &[Access],
    server_root: Option<String>,
    routes: &mut Vec<Table>,
    default: Option<&String>,
    draft: &mut Draft,
) {
    let mut all = all.to_vec();
    all.sort_by_key(|one| one.is_location);
    let judged: Vec<(&Access, Rules)> =
        (0..all.len()).map(|at| (&all[at], judge(&all, at, server_root.clone(), draft))).collect();
    let mut front = Vec::new();
    // Passwords are asked for last.
    for kind in [2, 1, 3, 0] {
        for (at, (one, rules)) in judged.iter().enumerate() {
            let Some(rule) = &rules[kind] else { continue };
            let elsewhere = elsewhere(&judged[at + 1..], kind);
            for mut route in refusals(one, rule, &elsewhere) {
                match &one.balancer {
                    None => {
                        route.text("name", &format!("access-{}", front.len() + 1));
                        // The name stands first.
                        route.lines.rotate_right(1);
                        front.push(route);
                    }
                    Some(pool) => before_its_routes(pool, &route, routes, default),
                }
            }
        }
    }
    (0..judged.len()).for_each(|at| stays_closed(&judged, at, draft));
    // What is excluded from ProxyPass is kept from servers as well.
    let excludes = routes.iter().any(|route| route.has("deny"));
    if excludes || judged.iter().any(|(one, _)| matches!(one.place, Scope::Path { .. })) {
        // Apache takes `..;` for a name, servers take it for the folder above.
        let mut route = Table::default();
        route.text("name", "access-unclear");
        route.when(r#"text("{raw-path|url-decode}", "*/..;*")"#);
        route.set("deny", status(400));
        front.insert(0, route);
    }
    // Redirects of the server come before its rules of access, what is passed on after them.
    let first = routes.iter().position(|r| r.has("pool")).unwrap_or(routes.len());
    routes.splice(first..first, front);
}

/// What a section says; a rule that is none of a route closes its place, which is told.
fn judge(all: &[Access], at: usize, server_root: Option<String>, draft: &mut Draft) -> Rules {
    let one = &all[at];
    let mut login = Login::at(server_root);
    let before =
        all[..at].iter().filter(|other| other.balancer.is_none() && other.place.holds_for(&one.place));
    before.for_each(|other| login.take(&other.rules));
    login.take(&one.rules);
    let mut found = match who::read(&one.rules, &login, draft) {
        Ok(found) => found,
        Err(why) => {
            report(one, &format!("{why}: {CLOSED}"), draft);
            [Some(Rule::nobody()), Some(Rule::nobody()), None, None]
        }
    };
    // Apache answers 500 then.
    let asks = |access: &Access| access.rules.iter().any(|(_, w)| w[0].eq_ignore_ascii_case("AuthType"));
    let requires = |access: &&Access| who::requires(&access.rules);
    if found[0].is_none() && asks(one) && !all[..=at].iter().any(|other| requires(&other)) {
        report(one, &format!("AuthType stands without Require: {CLOSED}"), draft);
        found[0] = Some(Rule::nobody());
    }
    for rule in found.iter_mut().flatten() {
        if let Some(users) = &rule.users {
            let why = "passwords of bcrypt and SHA-crypt are taken (htpasswd -B), those of MD5 and SHA-1 are not: \
                       `evenkeel check` names the line";
            let line = one.rules.first().map_or(0, |(line, _)| *line);
            draft.note(line, &format!("AuthUserFile {}", users.file()), why);
        }
        // Where it is about is not known, so that it is about everything.
        if let Scope::Unknown(why) = &one.place
            && !rule.lets_all_in()
        {
            report(
                one,
                &format!("{why}: all of its host is closed (403) until it is written as a route"),
                draft,
            );
            *rule = Rule::nobody();
        }
    }
    found
}

fn report(access: &Access, why: &str, draft: &mut Draft) {
    for (line, words) in access.rules.iter().filter(|(_, words)| super::closes(words)) {
        draft.grave(*line, &words.join(" "), why);
    }
}

/// The requests that no later section has rules of the same kind for.
fn elsewhere(later: &[(&Access, Rules)], kind: usize) -> Who {
    let mut who = Who::All;
    for (other, rules) in later {
        if rules[kind].is_some() && other.balancer.is_none() {
            who = who.and(match &other.place {
                Scope::Everywhere => Who::Nobody,
                Scope::Path { opens, .. } => Who::Those(opens.clone()).not(),
                Scope::Unknown(_) => Who::All,
            });
        }
    }
    who
}

/// The routes that a rule needs: one that refuses, one that asks for a password, one for those of other names.
fn refusals(one: &Access, rule: &Rule, elsewhere: &Who) -> Vec<Table> {
    let place = match &one.place {
        Scope::Path { closes, .. } => closes.as_str(),
        Scope::Everywhere | Scope::Unknown(_) => "",
    };
    let route = |who: Who, set: &dyn Fn(&mut Table)| {
        let mut route = Table::default();
        match who.and(elsewhere.clone()) {
            Who::Nobody => return None,
            Who::All if place.is_empty() => {}
            Who::All => route.when(place),
            Who::Those(when) => {
                route.when(&when);
                also(&mut route, place);
            }
        }
        set(&mut route);
        Some(route)
    };
    let mut all: Vec<Table> = Vec::new();
    all.extend(route(rule.with_password.clone().not(), &|route| route.set("deny", status(rule.status))));
    if let Some(users) = &rule.users {
        let asked = rule.with_password.clone().and(rule.at_once.clone().not());
        all.extend(route(asked.clone(), &|route| users.ask(route)));
        if let Some(others) = users.others() {
            all.extend(route(asked.and(Who::Those(others)), &|route| route.set("deny", status(403))));
        }
    }
    all
}

/// A later section may open for some requests what an earlier one closes, and cannot be said.
fn stays_closed(judged: &[(&Access, Rules)], at: usize, draft: &mut Draft) {
    let (one, rules) = &judged[at];
    let cannot = matches!(one.place, Scope::Unknown(_)) || one.balancer.is_some();
    for (kind, rule) in rules.iter().enumerate() {
        let closed = |(other, rules): &(&Access, Rules)| {
            other.balancer.is_none() && rules[kind].as_ref().is_some_and(|rule| !rule.lets_all_in())
        };
        if cannot
            && rule.as_ref().is_some_and(|rule| rule.at_once != Who::Nobody)
            && judged[..at].iter().any(closed)
        {
            for (line, words) in &one.rules {
                draft.left(*line, &words.join(" "), "what a section before it closes stays closed");
            }
        }
    }
}

/// The rules of a balancer are asked where its requests are known.
fn before_its_routes(pool: &str, route: &Table, routes: &mut Vec<Table>, default: Option<&String>) {
    let named = |mut route: Table, at: usize| {
        route.text("name", &format!("access-{pool}-{}", at + 1));
        route.lines.rotate_right(1);
        route
    };
    let mut at = 0;
    while at < routes.len() {
        if routes[at].text_of("pool") == Some(pool) {
            let mut own = route.clone();
            let when = routes[at].condition().to_owned();
            also(&mut own, &when);
            routes.insert(at, named(own, at));
            at += 1;
        }
        at += 1;
    }
    if default.is_some_and(|default| default == pool) {
        routes.push(named(route.clone(), at));
    }
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
                    r#"path("/a/*") && !(path("/a/b", "/a/b/*") && raw-path("/a/b", "/a/b/*"))"#,
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
                    r#"(!(source("192.0.2.8/32"))) && (!(path("/x", "/x/*") && raw-path("/x", "/x/*")))"#,
                    r#"path("/x", "/x/*") && !(source("192.0.2.7/32"))"#,
                ],
            ),
            (
                "<Location /x>\n Order Allow,Deny\n Allow from all\n Deny from 192.0.2.7\n</Location>",
                &[r#"path("/x", "/x/*") && !(!(source("192.0.2.7/32")))"#],
            ),
            (
                "<LocationMatch \"^/(a|b)\">\n <RequireAll>\n  Require all granted\n  Require not ip 192.0.2.7\n </RequireAll>\n</LocationMatch>",
                &[
                    r#"(path =~ "^/(a|b)" || text("{raw-path|url-decode}") =~ "^/(a|b)") && !(!(source("192.0.2.7/32")))"#,
                ],
            ),
            (
                "<Location /x>\n <RequireAny>\n  Require ip 192.0.2.7\n  Require method GET\n </RequireAny>\n</Location>",
                &[r#"path("/x", "/x/*") && (!((source("192.0.2.7/32")) || (method("GET", "HEAD"))))"#],
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
            "<Location /[xz]>\n Require all denied\n</Location>",
            "<Location /x>\n <Limit GET>\n  Deny from all\n </Limit>\n <Limit PUT>\n  Deny from all\n </Limit>\n</Location>",
            "<Location /x>\n AuthMerging And\n Require ip 192.0.2.7\n</Location>",
        ] {
            let made = made(inside);
            assert!(made.left.iter().any(|l| l.severity == Severity::Critical), "{inside}: {:?}", made.left);
        }
    }
}
