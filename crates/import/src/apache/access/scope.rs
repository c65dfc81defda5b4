//! The requests of a section of Apache's, by its first line.
//!
//! Apache looks at one spelling of a path, servers understand several. What closes looks at the normal form, in
//! which all spellings are one; what opens again wants the path to be written as it is, too, so that nothing
//! but what Apache would let in comes in.

use crate::words::quoted;

#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    Everywhere,
    Path {
        /// The condition where the section refuses.
        closes: String,
        /// The condition where it lets in what an earlier section refuses.
        opens: String,
    },
    /// No condition of a route; why.
    Unknown(String),
}

impl Scope {
    /// The requests of a section that begins with these words, such as `<Location /admin>`.
    pub fn of(words: &[String]) -> Scope {
        let keyword = words[0].to_lowercase();
        let mut rest = words[1..].iter().map(|w| w.trim_end_matches('>')).filter(|w| !w.is_empty());
        let first = rest.next().unwrap_or("");
        let regex =
            if first == "~" { rest.next() } else { Some(first).filter(|_| keyword.ends_with("match")) };
        let unknown =
            || Scope::Unknown(format!("{} names no path that a route can ask for", words.join(" ")));
        let is_proxy = keyword.starts_with("<proxy");
        match regex {
            Some(regex) if super::super::rewrite::ANY.contains(&regex) => Scope::Everywhere,
            Some(regex) if !is_proxy => by_regex(regex).unwrap_or_else(unknown),
            None if is_proxy && first == "*" => Scope::Everywhere,
            None if !is_proxy && first == "/" => Scope::Everywhere,
            None if !is_proxy => by_path(first).unwrap_or_else(unknown),
            _ => unknown(),
        }
    }

    /// The same requests as those of another section, or all.
    pub fn holds_for(&self, other: &Scope) -> bool {
        *self == Scope::Everywhere || self == other
    }
}

/// Texts that have no other spelling than the normal form's.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~/".contains(c))
}

fn by_path(path: &str) -> Option<Scope> {
    let odd = |c: char| "{}\"\\[]%;".contains(c) || c.is_control() || !c.is_ascii();
    let dotted = path.split('/').any(|segment| [".", ".."].contains(&segment));
    if !path.starts_with('/') || path.contains(odd) || path.contains("//") || dotted {
        return None;
    }
    if path.contains(['*', '?']) {
        // Stars stand for anything but a slash, and for the whole path.
        let part = |c: char| match c {
            '*' => "[^/]*".to_owned(),
            '?' => "[^/]".to_owned(),
            plain if is_plain(&plain.to_string()) && plain != '.' => plain.to_string(),
            other => format!("[{other}]"),
        };
        return decoded(&format!("^{}$", path.chars().map(part).collect::<String>()));
    }
    let below = quoted(&format!("{}/*", path.trim_end_matches('/')));
    let all = if path.ends_with('/') { below } else { format!("{}, {below}", quoted(path)) };
    let (closes, opens) = if is_plain(path) {
        (format!("path({all})"), format!("raw-path({all})"))
    } else {
        let text = |name: &str| format!("text(\"{{{name}|url-decode}}\", {all})");
        (text("path"), text("raw-path"))
    };
    Some(Scope::Path { opens: format!("{closes} && {opens}"), closes })
}

/// The requests whose path an expression matches.
pub fn by_regex(regex: &str) -> Option<Scope> {
    evenkeel_rules::regex(regex, false).ok()?;
    // Nothing that could stand for a part of an escape.
    let bare =
        regex.replace("\\.", "").replace("\\/", "").replace("\\-", "").replace(".*", "").replace(".+", "");
    let simple = bare.chars().all(|c| c.is_ascii_alphanumeric() || "-_~/^$|()".contains(c));
    if !simple {
        return decoded(regex);
    }
    let (path, raw) = (format!("path =~ {}", quoted(regex)), format!("raw-path =~ {}", quoted(regex)));
    both(path, raw, regex)
}

/// What closes holds for parameters (`;a=b`), too, of which the normal form has none.
fn both(path: String, raw: String, regex: &str) -> Option<Scope> {
    let decoded = format!("text(\"{{raw-path|url-decode}}\") =~ {}", quoted(regex));
    Some(Scope::Path { closes: format!("{path} || {decoded}"), opens: format!("{path} && {raw}") })
}

/// An expression that is held against the path without its escapes, as Apache does.
fn decoded(regex: &str) -> Option<Scope> {
    let of = |name: &str| format!("text(\"{{{name}|url-decode}}\") =~ {}", quoted(regex));
    both(of("path"), of("raw-path"), regex)
}
