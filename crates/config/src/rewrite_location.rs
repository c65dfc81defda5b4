//! `rewrite-location` of a route of answers: places that name a server, and its cookies, as clients know them.
//!
//! In: the table. Out: edits of headers, as `edit-header` has them. What is looked for is a text, and no expression.

use evenkeel_model::HeaderEdit;
use evenkeel_rules::Template;

use crate::problem::Problem;
use crate::section::Section;

/// Headers that name a place. `URI` may have it in angle brackets, `Refresh` behind a time.
const HEADERS: [(&str, &str); 4] = [
    ("Location", "^()"),
    ("Content-Location", "^()"),
    ("URI", "^(<?)"),
    ("Refresh", "^([0-9.]*;\\s*(?i:url=)?)"),
];

/// The edits of a table, and every problem with it.
pub fn edits(section: Section<'_>, problems: &mut Vec<Problem>) -> Vec<HeaderEdit> {
    let mut edits = Vec::new();
    let mut problem = |key: &str, message: &str, help: &str| {
        problems.push(Problem::new(section.span(key).unwrap_or(0..0), message.to_owned()).help(help));
    };
    let from = section.texts("from");
    for place in &from {
        let (path, begins) = (place.starts_with('/'), place.split_once("://"));
        let has_host = begins.is_some_and(|(scheme, rest)| {
            ["http", "https"].contains(&scheme) && !rest.is_empty() && !rest.starts_with('/')
        });
        if !path && !has_host || !is_plain(place) {
            problem(
                "from",
                &format!("{place:?} is no place"),
                "such as \"http://192.0.2.21:8080/app\" or \"/app\"",
            );
        }
    }
    let to = section.text("to");
    if to.is_some() == from.is_empty() {
        problem(
            "from",
            "`rewrite-location` needs both `from` and `to` for places",
            "what servers say, and what clients get",
        );
    }
    if let Some(to) = to.filter(|_| !from.is_empty()) {
        if !is_plain(to) || to.is_empty() {
            problem(
                "to",
                &format!("{to:?} is no place"),
                "such as \"https://www.example.org/shop\" or \"/shop\"",
            );
        }
        let all = from.iter().map(|place| pattern_of(place)).collect::<Vec<_>>().join("|");
        edits.extend(HEADERS.iter().filter_map(|(name, before)| {
            let text = format!("{{1{}}}", moved(before, &all, to, "([/?#][^\\n]*)?$"));
            each(name, &text, problems)
        }));
    }
    let mut cookies = String::new();
    for (domain, _) in section.sections("cookie-domains") {
        cookies += &domain_of_cookies(domain);
    }
    for (path, _) in section.sections("cookie-paths") {
        let (from, to) = (path.text("from").unwrap_or_default(), path.text("to").unwrap_or_default());
        cookies += &moved("(;\\s*(?i:path)=)", &escaped(from.trim_end_matches('/')), to, "(/[^;]*)?(?=~)");
    }
    for (pair, _) in section.sections("cookie-domains").chain(section.sections("cookie-paths")) {
        for key in ["from", "to"].into_iter().filter(|key| pair.text(key).is_some_and(|text| !is_plain(text)))
        {
            let place = pair.span(key).unwrap_or(0..0);
            problems.push(Problem::new(place, format!("`{key}` is no domain or path of a cookie")));
        }
    }
    if !cookies.is_empty() {
        edits.extend(each("Set-Cookie", &format!("{{1{cookies}}}"), problems));
    }
    edits
}

/// What each header of a name becomes.
fn each(name: &str, text: &str, problems: &mut Vec<Problem>) -> Option<HeaderEdit> {
    match Template::parse(text) {
        Ok(value) => Some(HeaderEdit::Each { name: name.to_owned(), value }),
        Err(error) => {
            problems.push(Problem::new(0..0, format!("`rewrite-location`: {}", error.message)));
            None
        }
    }
}

/// A converter that moves what begins with `from` to `to`. What follows stays, behind a border of the path.
fn moved(before: &str, from: &str, to: &str, rest: &str) -> String {
    let to = to.trim_end_matches('/');
    let (rest, end) = match rest.strip_suffix("(?=~)") {
        // The value of an attribute ends where the next one begins.
        Some(rest) => (rest, "(\\s*(?:;|$))"),
        None => (rest, ""),
    };
    let last = if end.is_empty() { "" } else { "${3}" };
    let whole = if end.is_empty() { "$" } else { end };
    // The root of all stays one.
    let root = match to.is_empty() {
        true => {
            replace(&format!("{before}(?:{from}){whole}"), if end.is_empty() { "${1}/" } else { "${1}/${2}" })
        }
        false => String::new(),
    };
    root + &replace(&format!("{before}(?:{from}){rest}{end}"), &format!("${{1}}{to}${{2}}{last}"))
}

/// A domain of cookies as another one, or as none: the cookie is the host's alone then.
fn domain_of_cookies(pair: Section<'_>) -> String {
    let (from, to) = (pair.text("from").unwrap_or_default(), pair.text("to").unwrap_or_default());
    let from = escaped(from.trim_start_matches('.'));
    let (begin, end) = ("(;\\s*domain=)[.]?", "(\\s*(?:;|$))");
    let text = if to.is_empty() { "${2}".to_owned() } else { format!("${{1}}{to}${{2}}") };
    replace(&format!("(?i){begin}{from}{end}"), &text)
}

/// The places that a text names: with or without the port that its scheme has anyway.
fn pattern_of(place: &str) -> String {
    let Some((scheme, rest)) = place.split_once("://") else { return escaped(place.trim_end_matches('/')) };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let bare = host.strip_suffix(usual).unwrap_or(host);
    let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let port = if has_port { String::new() } else { format!("(?:{usual})?") };
    let path = escaped(path.trim_end_matches('/'));
    format!("(?i:{scheme}://{}){port}{path}", escaped(bare))
}

fn replace(regex: &str, text: &str) -> String {
    format!("|replace(\"{}\",\"{text}\")", regex.replace('\\', "\\\\"))
}

/// A text within a regular expression.
fn escaped(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "/-_:".contains(c);
    text.chars().map(|c| if plain(c) { c.to_string() } else { format!("\\{c}") }).collect()
}

/// Whether nothing in a text has a meaning beside itself.
pub fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() && !"\"\\$^{}<>|;#?`".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_a_text_of_routes() {
        let head = "[[virtual-service]]\nname = 's'\nvip = ['127.0.0.1:80']\nmode = 'http'\n[[virtual-service.real-server]]\nname = 'a'\naddress = '127.0.0.1:1'\n[[virtual-service.answer-route]]\n";
        let all = "rewrite-location = { from = [\"http://[2001:db8::1]:81/a.b/\", \"/c+d\"], to = \"/\", cookie-domains = [{ from = \".a.b\", to = \"\" }], cookie-paths = [{ from = \"/\", to = \"/x\" }, { from = \"/x\", to = \"/\" }] }\n";
        let snapshot = crate::read(&format!("{head}{all}")).unwrap();
        assert_eq!(snapshot.services[0].answer_routes[0].route.actions.len(), HEADERS.len() + 1);
        for bad in [
            "from = [\"/a\"]",
            "to = \"/a\"",
            "from = [\"ftp://a/\"], to = \"/\"",
            "from = [\"/a\"], to = \"a$1\"",
            "cookie-paths = [{ from = \"/a;\", to = \"/\" }]",
        ] {
            let problems = crate::read(&format!("{head}rewrite-location = {{ {bad} }}\n")).unwrap_err();
            assert!(!problems.is_empty(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        for good in ["http://a.example:8080/b", "/b", "/", ".a.example", "http://[2001:db8::1]:80/"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["a\"b", "a$1", "a{b", "a\\b", "a b", "ä", "a;b"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
