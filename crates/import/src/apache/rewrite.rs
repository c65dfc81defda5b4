//! `RewriteCond` and `RewriteRule`: the shapes that most files have of them, to HTTPS and for WebSockets.

use super::{Host, Words, single};
use crate::draft::{Draft, Table};
use crate::words::quoted;

/// Patterns that all paths fit.
pub(super) const ANY: &[&str] =
    &["^", ".*", "(.*)", "^(.*)$", "^(.*)", "^/(.*)$", "^/(.*)", "/(.*)", "^/?(.*)", "^/?(.*)$", "^.*$"];

/// What the conditions before a rule ask.
#[derive(Default)]
struct Conditions {
    hosts: Vec<String>,
    is_upgrade: bool,
    /// Clients that speak TLS already are left out.
    is_plain: bool,
}

/// The host that a rule stands in.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub has_tls: bool,
    pub names: &'a [String],
}

impl Site<'_> {
    /// Whether a place is this host itself, where Apache takes a rule's target for a path of its own.
    fn is_at(&self, scheme: &str, place: &str) -> bool {
        let own = ["%{SERVER_NAME}", "%{HTTP_HOST}"];
        let name = place.split([':', '%']).next().unwrap_or("");
        scheme == if self.has_tls { "https" } else { "http" }
            && (own.iter().any(|own| place.starts_with(own))
                || self.names.iter().any(|known| known.eq_ignore_ascii_case(name)))
    }
}

impl Host {
    pub(super) fn site(&self) -> Site<'_> {
        let has_tls = self.lines.iter().any(|(_, w)| {
            w[0].eq_ignore_ascii_case("SSLEngine") && w.get(1).is_some_and(|v| v.eq_ignore_ascii_case("on"))
        });
        Site { has_tls, names: &self.names }
    }
}

/// Tells of rules that sent clients to whole addresses, where the host is left out.
pub(super) fn left_with_its_host(lines: &[Words], draft: &mut Draft) {
    for (_, (at, rule)) in
        rules_of(lines).filter(|(_, (_, rule))| rule.get(2).is_some_and(|to| to.contains("://")))
    {
        let why = "it is left out with its host, for which nothing listens: write it as a route that has `redirect` or `pool`";
        draft.left(*at, &rule.join(" "), why);
    }
}

/// The rewriting rules of a host, each with the conditions before it.
pub(super) fn rules_of(lines: &[Words]) -> impl Iterator<Item = (&[Words], &Words)> {
    let mut from = 0;
    lines.iter().enumerate().filter_map(move |(at, line)| {
        let is = |word: &str| line.1[0].eq_ignore_ascii_case(word);
        let conditions = &lines[from..at];
        if !is("RewriteCond") {
            from = at + 1;
        }
        is("RewriteRule").then_some((conditions, line))
    })
}

/// Whether a rule is one of those that are carried over.
pub fn is_known(conditions: &[Words], rule: &[String], site: Site<'_>) -> bool {
    conditions.is_empty() && proxied(rule).is_some()
        || asked(conditions).is_some_and(|asked| kind(&asked, rule, site).is_some())
}

enum Shape<'a> {
    Redirect { to: String, status: String },
    Upgrade { place: &'a str, secret: bool },
}

/// The route of a rule; `None` where it has none, which is told. A host with TLS has no plain clients.
pub fn route(
    conditions: &[Words],
    line: usize,
    rule: &[String],
    site: Site<'_>,
    draft: &mut Draft,
) -> Option<Table> {
    if let Some(status) = refuses(rule) {
        let refusal = refusal(conditions, rule, status);
        if refusal.is_none() {
            let why = "what it refuses is let in: write it as a route with `deny`";
            draft.grave(line, &rule.join(" "), why);
        }
        return refusal;
    }
    if let Some(route) = passed_on(conditions, rule, draft).or_else(|| other_path(conditions, rule)) {
        return Some(route);
    }
    let asked = asked(conditions);
    let Some((asked, kind)) = asked.and_then(|asked| kind(&asked, rule, site).map(|kind| (asked, kind)))
    else {
        for (at, words) in conditions {
            draft.left(*at, &words.join(" "), "not carried over");
        }
        draft.left(
            line,
            &rule.join(" "),
            "write it as a route that has `redirect`, `rewrite-path` or `pool`",
        );
        return None;
    };
    if asked.is_plain && site.has_tls {
        draft.note(line, &rule.join(" "), "all clients of this host speak TLS");
        return None;
    }
    let mut route = Table::default();
    let mut when = Vec::new();
    if !asked.hosts.is_empty() {
        let hosts: Vec<String> = asked.hosts.iter().map(|host| quoted(host)).collect();
        when.push(format!("host({})", hosts.join(", ")));
    }
    if matches!(kind, Shape::Upgrade { .. }) {
        when.push("header-value(\"Upgrade\") =~ \"(?i)^websocket$\"".into());
    }
    if !when.is_empty() {
        route.when(&when.join(" && "));
    }
    match kind {
        Shape::Redirect { to, status } => {
            route.set("redirect", Table::default().with_text("location", &to).with_number("status", &status));
        }
        Shape::Upgrade { place, secret } => {
            let Some(pool) = single(place, secret, None, draft) else {
                draft.left(
                    line,
                    &rule.join(" "),
                    format!("{place} is no address: write its server into a pool"),
                );
                return None;
            };
            route.text("pool", &pool);
        }
    }
    Some(route)
}

/// The flags of a rule, in lower case.
fn flags(rule: &[String]) -> Vec<String> {
    let flags = rule.get(3).map_or("", |flags| flags.trim_matches(['[', ']']));
    flags.split(',').map(|flag| flag.trim().to_ascii_lowercase()).filter(|flag| !flag.is_empty()).collect()
}

/// The pattern of a rule with its case, and its place, if all its flags are among these.
fn plain<'a>(rule: &'a [String], known: &[&str]) -> Option<(String, &'a str)> {
    let (pattern, to) = (rule.get(1)?, rule.get(2)?);
    let flags = flags(rule);
    let folds = flags.iter().any(|flag| flag == "nc" || flag == "nocase");
    let all = flags.iter().all(|flag| known.contains(&flag.as_str()));
    let pattern = if folds { format!("(?i){pattern}") } else { pattern.clone() };
    let usable = all && !pattern.starts_with('!') && evenkeel_rules::regex(&pattern, false).is_ok();
    usable.then_some((pattern, to.as_str()))
}

/// Pattern and place of a rule that passes requests on.
fn proxied(rule: &[String]) -> Option<(String, &str)> {
    let passes = flags(rule).iter().any(|flag| flag == "p" || flag == "proxy");
    plain(rule, &["p", "proxy", "l", "last", "end", "nc", "nocase", "ne", "qsa"]).filter(|_| passes)
}

/// `RewriteRule REGEX http://…/$1 [P]`.
fn passed_on(conditions: &[Words], rule: &[String], draft: &mut Draft) -> Option<Table> {
    let (pattern, to) = proxied(rule).filter(|_| conditions.is_empty())?;
    let (pool, path) = super::remote_place(to, false, draft)?;
    let mut route = Table::default();
    route.text("name", &format!("to-{pool}"));
    route.when(&format!("path =~ {}", quoted(&pattern)));
    // A place without groups is all that is asked for.
    let whole = to.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()));
    route.text("rewrite-path", &path.or(whole).unwrap_or_else(|| "/".into()));
    route.text("pool", &pool);
    Some(route)
}

/// `RewriteRule REGEX /path/$1 [PT]`, which `ProxyPass` sees.
fn other_path(conditions: &[Words], rule: &[String]) -> Option<Table> {
    let passes = flags(rule).iter().any(|flag| flag == "pt" || flag == "passthrough");
    let (pattern, to) = plain(rule, &["pt", "passthrough", "nc", "nocase", "ne", "qsa"])
        .filter(|(_, to)| passes && conditions.is_empty() && to.starts_with('/'))?;
    let mut path = to.to_owned();
    (1..=9).for_each(|group| path = path.replace(&format!("${group}"), &format!("\u{1}{group}\u{2}")));
    if path.contains(['$', '%', '{', '?']) {
        return None;
    }
    let mut route = Table::default();
    route.when(&format!("path =~ {}", quoted(&pattern)));
    route.text("rewrite-path", &path.replace('\u{1}', "{").replace('\u{2}', "}"));
    Some(route)
}

/// The status of a rule that refuses.
fn refuses(rule: &[String]) -> Option<u16> {
    let flags = rule.get(3)?.trim_matches(['[', ']']).to_ascii_lowercase();
    flags.split(',').find_map(|flag| match flag.trim() {
        "f" | "forbidden" => Some(403),
        "g" | "gone" => Some(410),
        _ => None,
    })
}

/// Refused by path, and by method where the only condition asks for it.
fn refusal(conditions: &[Words], rule: &[String], status: u16) -> Option<Table> {
    let pattern = rule.get(1)?;
    let flags = rule.get(3)?.to_ascii_lowercase();
    let folds = flags.trim_matches(['[', ']']).split(',').any(|flag| ["nc", "nocase"].contains(&flag.trim()));
    let mut when = match ANY.contains(&pattern.as_str()) {
        true => String::new(),
        false if pattern.starts_with('!') || pattern == "-" => return None,
        false => {
            let pattern = if folds { format!("(?i){pattern}") } else { pattern.clone() };
            super::access::refused_by(&pattern)?
        }
    };
    match conditions {
        [] => {}
        [(_, words)] if words.get(1)?.eq_ignore_ascii_case("%{REQUEST_METHOD}") => {
            let pattern = words.get(2)?;
            let folds = words.get(3).is_some_and(|flags| flags.to_ascii_lowercase().contains("nc"));
            let (sign, bare) =
                pattern.strip_prefix('!').map_or(("=~", pattern.as_str()), |bare| ("!~", bare));
            let bare = if folds { format!("(?i){bare}") } else { bare.to_owned() };
            evenkeel_rules::regex(&bare, false).ok()?;
            let method = format!("text(\"{{method}}\") {sign} {}", quoted(&bare));
            when = crate::draft::both(&when, &method);
        }
        _ => return None,
    }
    let mut route = Table::default();
    if !when.is_empty() {
        route.when(&when);
    }
    route.set("deny", crate::draft::status(status));
    Some(route)
}

fn asked(conditions: &[Words]) -> Option<Conditions> {
    let mut asked = Conditions::default();
    for (_, words) in conditions {
        let (test, pattern) = (words.get(1)?.to_ascii_lowercase(), words.get(2)?);
        let or = words.get(3).is_some_and(|flags| flags.to_ascii_lowercase().contains("or"));
        let bare = pattern.trim_start_matches('^').trim_end_matches('$').to_ascii_lowercase();
        match test.as_str() {
            "%{server_name}" | "%{http_host}" if pattern.starts_with('=') => {
                asked.hosts.push(pattern[1..].to_owned());
            }
            "%{server_name}" | "%{http_host}" if !pattern.starts_with('!') => {
                let name = bare.replace("\\.", ".");
                let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                asked.hosts.push(Some(name).filter(|n| n.chars().all(plain) && pattern.starts_with('^'))?);
            }
            "%{https}" if !or && matches!(bare.as_str(), "off" | "=off" | "!=on" | "!on") => {
                asked.is_plain = true
            }
            "%{server_port}" if !or && matches!(bare.as_str(), "80" | "=80" | "!443" | "!^443") => {
                asked.is_plain = true;
            }
            "%{http:upgrade}" if !or && bare.trim_start_matches('=') == "websocket" => {
                asked.is_upgrade = true
            }
            // Whoever asks for an upgrade says so in both.
            "%{http:connection}" if !or && bare.trim_start_matches('=') == "upgrade" => {}
            _ => return None,
        }
    }
    Some(asked)
}

fn kind<'a>(asked: &Conditions, rule: &'a [String], site: Site<'_>) -> Option<Shape<'a>> {
    let (pattern, to) = (rule.get(1)?, rule.get(2)?);
    if !ANY.contains(&pattern.as_str()) {
        return None;
    }
    let flags = rule.get(3).map_or("", |f| f.trim_matches(['[', ']']));
    let flags: Vec<&str> = flags.split(',').map(str::trim).collect();
    let has = |names: &[&str]| flags.iter().any(|f| names.iter().any(|name| f.eq_ignore_ascii_case(name)));
    let (scheme, rest) = to.split_once("://")?;
    let (place, below) = rest.split_at(rest.find(['/', '%', '$']).unwrap_or(rest.len()));
    // The whole path goes on.
    let follows = |below: &str| matches!(below, "%{REQUEST_URI}" | "/$1" | "$1");
    if has(&["P", "proxy"]) {
        let (secret, known) =
            (["wss", "https"].contains(&scheme), ["ws", "wss", "http", "https"].contains(&scheme));
        return (asked.is_upgrade && known && follows(below)).then_some(Shape::Upgrade { place, secret });
    }
    if asked.is_upgrade || !["http", "https"].contains(&scheme) {
        return None;
    }
    let code = flags.iter().find_map(|flag| {
        let (name, code) = flag.split_once('=').unwrap_or((flag, "302"));
        ["r", "redirect"].contains(&name.to_ascii_lowercase().as_str()).then_some(code)
    });
    // A whole address of another host or scheme is a redirect without the flag, too.
    let code = code.or_else(|| {
        let whole = rest.split(['/', '$']).next().unwrap_or(rest);
        (!whole.is_empty() && !site.is_at(scheme, whole)).then_some("302")
    })?;
    let status = match code.to_ascii_lowercase().as_str() {
        "permanent" => "301".to_owned(),
        "temp" => "302".to_owned(),
        "seeother" => "303".to_owned(),
        number => number.parse::<u16>().ok().filter(|n| (301..=308).contains(n))?.to_string(),
    };
    let to = ["%{SERVER_NAME}", "%{HTTP_HOST}"].iter().find_map(|name| {
        let below = rest.strip_prefix(name)?;
        follows(below).then(|| format!("{scheme}://{{host}}{{path}}"))
    });
    let to = to.or_else(|| {
        let plain = !place.is_empty() && !place.contains(['{', '}', '"']);
        (plain && follows(below)).then(|| format!("{scheme}://{place}{{path}}"))
    })?;
    Some(Shape::Redirect { to, status })
}

#[cfg(test)]
mod tests {
    use crate::{Source, SourceKind, import};

    fn made(lines: &str) -> crate::Imported {
        let text = format!("<VirtualHost *:80>\n ServerName a.example.org\n{lines}\n</VirtualHost>\n");
        let source = Source { kind: SourceKind::Apache, file: "a.conf".into(), text };
        let made = import(&[source], &Default::default());
        evenkeel_config::read(&made.text).unwrap_or_else(|e| panic!("{e:?}\n{}", made.text));
        made
    }

    #[test]
    fn what_certbot_and_others_write_for_https() {
        for lines in [
            "RewriteEngine on\nRewriteCond %{SERVER_NAME} =a.example.org [OR]\nRewriteCond %{SERVER_NAME} =b.example.org\nRewriteRule ^ https://%{SERVER_NAME}%{REQUEST_URI} [END,NE,R=permanent]",
            "RewriteEngine On\nRewriteCond %{HTTPS} off\nRewriteRule ^(.*)$ https://%{HTTP_HOST}%{REQUEST_URI} [L,R=301]",
            "RewriteCond %{HTTPS} !=on\nRewriteRule ^/?(.*) https://%{SERVER_NAME}/$1 [R=301,L]",
        ] {
            let made = made(lines);
            let redirect = "redirect = { location = \"https://{host}{path}\", status = 301 }";
            assert!(made.text.contains(redirect), "{lines}\n{}", made.text);
            assert_eq!(
                made.text.contains("host(\"a.example.org\", \"b.example.org\")"),
                lines.contains("OR")
            );
            assert!(!made.left.iter().any(|l| l.keyword.contains("Rewrite")), "{:?}", made.left);
        }
        let elsewhere = made("RewriteRule ^ https://www.example.org%{REQUEST_URI} [R]").text;
        assert!(
            elsewhere.contains("location = \"https://www.example.org{path}\", status = 302"),
            "{elsewhere}"
        );
    }

    #[test]
    fn upgrades_that_go_to_a_server() {
        let text = made(
            "RewriteCond %{HTTP:Upgrade} =websocket [NC]\nRewriteCond %{HTTP:Connection} upgrade [NC]\n\
             RewriteRule /(.*) ws://192.0.2.3:3000/$1 [P,L]\nProxyPass /ws/ wss://192.0.2.4/ws/\n\
             ProxyPass /static !\nProxyPass / http://192.0.2.3:3000/",
        )
        .text;
        for part in [
            "when = 'header-value(\"Upgrade\") =~ \"(?i)^websocket$\"'\n  pool = \"192-0-2-3-3000\"",
            "address = \"192.0.2.4:443\"",
            "when = 'path(\"/static\", \"/static/*\")'\n  deny = { status = 404 }",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_is_refused_stays_refused() {
        for (lines, expect) in [
            (
                "RewriteCond %{REQUEST_METHOD} ^(TRACE|TRACK)\nRewriteRule .* - [F]",
                "when = 'text(\"{method}\") =~ \"^(TRACE|TRACK)\"'\n  deny = { status = 403 }",
            ),
            (
                "RewriteRule ^/secret/ - [G,NC,L]",
                "when = 'text(\"{path|url-decode}\") =~ \"(?i)^/secret/\" || text(\"{raw-path|url-decode}\") =~ \"(?i)^/secret/\"'\n  deny = { status = 410 }",
            ),
        ] {
            let made = made(&format!("{lines}\nProxyPass / http://192.0.2.3:3000/"));
            assert!(made.text.contains(expect), "{lines}\n{}", made.text);
            assert!(!made.left.iter().any(|l| l.keyword.contains("Rewrite")), "{:?}", made.left);
        }
        for lines in [
            "RewriteCond %{REMOTE_ADDR} !^10\\.\nRewriteRule ^/secret - [F]",
            "RewriteRule !^/open - [F]",
            "RewriteRule ^/(?=x) - [F]",
        ] {
            let made = made(&format!("{lines}\nProxyPass / http://192.0.2.3:3000/"));
            let grave = |l: &&crate::Diagnostic| l.severity == crate::Severity::Critical;
            assert_eq!(made.left.iter().filter(grave).count(), 1, "{lines}: {:?}", made.left);
        }
    }

    #[test]
    fn other_rules_are_told() {
        for lines in [
            "RewriteCond %{REQUEST_URI} ^/x\nRewriteRule ^/y /z [L]",
            "RewriteRule ^/old/(.*)$ /new/$1 [PT,L]",
            "RewriteRule ^/old/(.*)$ /new/$1",
            "RewriteCond %{HTTP_HOST} ^.*b\\.org$\nRewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R]",
        ] {
            let made = made(&format!("{lines}\nProxyPass / http://192.0.2.3:3000/"));
            let told = made.left.iter().filter(|l| l.keyword.contains("Rewrite")).count();
            assert_eq!(told, lines.lines().count(), "{:?}", made.left);
        }
    }
}
