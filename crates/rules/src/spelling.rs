//! Patterns of conditions in the form in which their values are compared: one in another spelling would
//! never match, and a route that should protect something would not.
//!
//! In: a pattern as somebody wrote it. Out: the same in the normal form, or why nothing can match it.

use crate::evaluate::{Check, Expression, Node, Test};
use crate::fetch::Fetch;
use crate::path::{Parameters, normal_path};

impl Expression {
    /// Writes the patterns in the normal form, in which values are compared then. What nothing can match stays.
    pub fn normalize(&mut self) {
        self.root.normalize();
    }

    /// Tests with patterns that no value in the normal form matches, and why.
    pub fn unmatchable(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.visit(&mut |test| {
            let patterns = match &test.check {
                Check::Patterns { set, .. } => set.texts(),
                Check::Exact { value, .. } => vec![String::from_utf8_lossy(value).into_owned()],
                _ => return,
            };
            let why = patterns.into_iter().find_map(|pattern| normal_pattern(test.fetch, pattern).err());
            all.extend(why.map(|why| format!("{} never holds: {why}", test.text)));
        });
        all
    }
}

impl Node {
    fn normalize(&mut self) {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter_mut().for_each(Node::normalize),
            Node::Not(node) => node.normalize(),
            Node::Test(test) => test.normalize(),
        }
    }
}

impl Test {
    fn normalize(&mut self) {
        let fetch = self.fetch;
        self.normal = true;
        let normal = |text: &str| normal_pattern(fetch, text.to_owned()).unwrap_or_else(|_| text.to_owned());
        let as_bytes = |text: &[u8]| Some(normal(std::str::from_utf8(text).ok()?).into_bytes().into());
        match &mut self.check {
            Check::Patterns { set, globs, .. } => {
                let texts = set.texts();
                if texts.iter().any(|text| normal(text) != *text) {
                    set.replace(texts.iter().map(|text| normal(text)));
                    globs.iter_mut().for_each(|glob| *glob = as_bytes(glob).unwrap_or_else(|| glob.clone()));
                }
            }
            Check::Exact { value, .. } => *value = as_bytes(value).unwrap_or_else(|| value.clone()),
            _ => {}
        }
    }
}

/// The pattern as it is compared with what `fetch` says.
pub(crate) fn normal_pattern(fetch: Fetch, pattern: String) -> Result<String, &'static str> {
    match fetch {
        Fetch::Host => {
            if pattern.rsplit_once(':').is_some_and(|(host, port)| is_port(port) && !host.contains(':')) {
                return Err("a host is compared without its port");
            }
            host(&pattern).ok_or(NO_HOST)
        }
        Fetch::Sni => host(&pattern).ok_or(NO_HOST),
        Fetch::Path => path(pattern),
        Fetch::Method => Ok(pattern.to_ascii_uppercase()),
        Fetch::Scheme => Ok(pattern.to_ascii_lowercase()),
        _ => Ok(pattern),
    }
}

const NO_HOST: &str = "no host name has these letters";

/// Whether what it says has a normal form at all.
pub(crate) fn has_normal_form(fetch: Fetch) -> bool {
    matches!(fetch, Fetch::Host | Fetch::Sni | Fetch::Path | Fetch::Method | Fetch::Scheme)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'*')
}

/// A host name as clients send it: without final dots, names with letters beyond ASCII as `xn--…` (UTS 46).
/// `*` stands for anything, in a part of its own or among ASCII letters.
pub(crate) fn host(pattern: &str) -> Option<String> {
    let bare = pattern.trim_end_matches(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']);
    if bare.is_ascii() {
        return Some(bare.to_owned());
    }
    let part = |part: &str| match (part.is_ascii(), part.contains('*')) {
        (true, _) => Some(part.to_owned()),
        (false, true) => None,
        (false, false) => idna::domain_to_ascii(part).ok().filter(|ascii| !ascii.is_empty()),
    };
    let parts: Option<Vec<String>> = bare.split('.').map(part).collect();
    Some(parts?.join("."))
}

fn path(pattern: String) -> Result<String, &'static str> {
    if pattern.contains('?') {
        return Err("a path ends before its query: `query` compares that");
    }
    if pattern.contains('#') {
        return Err("a path ends before `#`");
    }
    if pattern.contains(';') {
        return Err("a path is compared without its parameters (`;…`): `raw-path` has them");
    }
    let written = pattern.bytes().fold(String::with_capacity(pattern.len()), |mut out, byte| {
        match byte {
            0x21..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    });
    // Written anew, `*/../*` and `*//*`, by which odd spellings are to be refused, would match every path.
    if written.contains('*') && has_odd_parts(&written) {
        return Err(
            "no path has `//`, `.` or `..` between its slashes in the normal form: `raw-path` has them",
        );
    }
    // What begins with `*` goes through the same form behind a slash, which is taken off again.
    let (written, is_end) = match written.strip_prefix('*') {
        Some(end) if !end.starts_with('/') => (format!("/*{end}"), true),
        Some(end) => return normal_spelling(end).map(|end| format!("*{end}")),
        None => (written, false),
    };
    let normal = normal_spelling(&written)?;
    Ok(if is_end { normal.strip_prefix('/').unwrap_or(&normal).to_owned() } else { normal })
}

/// Whether the normal form has other parts, not only other letters in them.
fn has_odd_parts(path: &str) -> bool {
    let is_dots = |part: &str| matches!(part.replace("%2e", ".").replace("%2E", ".").as_str(), "." | "..");
    path.contains("//") || path.split('/').any(is_dots)
}

fn normal_spelling(path: &str) -> Result<String, &'static str> {
    match normal_path(path.as_bytes(), Parameters::Strip) {
        None => Ok(path.to_owned()),
        Some(normal) => String::from_utf8(normal).map_err(|_| "no path has these letters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fetch: Fetch, pattern: &str, expect: Result<&str, &str>) {
        let found = normal_pattern(fetch, pattern.to_owned());
        assert_eq!(found.as_deref().map_err(|why| why.split(' ').next_back().unwrap()), expect, "{pattern}");
    }

    #[test]
    fn hosts() {
        let same = |pattern, expect| {
            check(Fetch::Host, pattern, Ok(expect));
            check(Fetch::Sni, pattern, Ok(expect));
        };
        same("A.example", "A.example");
        same("a.example.", "a.example");
        same("*.a.example", "*.a.example");
        same("[2001:db8::1]", "[2001:db8::1]");
        same("straße.example", "xn--strae-oqa.example");
        same("BÜCHER.example", "xn--bcher-kva.example");
        same("*.bücher.example", "*.xn--bcher-kva.example");
        same("bu\u{308}cher.example", "xn--bcher-kva.example");
        same("\u{ff53}ecret.example", "secret.example");
        same("bücher\u{3002}example", "xn--bcher-kva.example");
        check(Fetch::Host, "a.example:8080", Err("port"));
        check(Fetch::Host, "a.example:*", Err("port"));
        check(Fetch::Host, "b*ü.example", Err("letters"));
        check(Fetch::Host, "a\u{200d}b.example", Err("letters"));
    }

    #[test]
    fn paths() {
        let same = |pattern, expect| check(Fetch::Path, pattern, Ok(expect));
        for plain in ["/", "*", "/internal/*", "/.*", "*.php", "*/wp-admin/*", "/a/*.jpg", "/caf%C3%A9", "*~"]
        {
            same(plain, plain);
        }
        same("/internal//x", "/internal/x");
        same("/%69nternal/*", "/internal/*");
        same("/x/../y", "/y");
        same("/dir/./z", "/dir/z");
        same("/café/*", "/caf%C3%A9/*");
        same("/caf%c3%a9/*", "/caf%C3%A9/*");
        same("/a b", "/a%20b");
        same("*.ph%70", "*.php");
        for every_path in ["*/../*", "*//*", "//*", "/../*", "*/.", "*/%2e%2E/*", "/internal//*", "*//x"] {
            check(Fetch::Path, every_path, Err("them"));
        }
        check(Fetch::Path, "/a;b/*", Err("them"));
        check(Fetch::Path, "/q?x=1", Err("that"));
        check(Fetch::Path, "/a#b", Err("`#`"));
    }

    #[test]
    fn others() {
        check(Fetch::Method, "delete", Ok("DELETE"));
        check(Fetch::Scheme, "HTTPS", Ok("https"));
        check(Fetch::RawPath, "/a;b//c", Ok("/a;b//c"));
    }
}
