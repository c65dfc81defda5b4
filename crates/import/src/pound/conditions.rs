//! What a `Service` asks of a request, as a condition.

use super::General;
use super::syntax::{is_on, keyword};
use crate::draft::{Draft, based};
use crate::tree::Node;
use crate::words::{is_token, quoted, regex_literal};

/// A line that cannot be asked, and why.
pub struct Unasked<'a> {
    pub node: &'a Node,
    pub why: String,
}

type Asks<'a> = Result<String, Unasked<'a>>;

/// What all the lines ask together; lines that ask nothing are for others. A request that one line keeps out must
/// not come in without it, so the first that cannot be asked is an error.
pub fn all<'a>(nodes: impl Iterator<Item = &'a Node> + Clone, general: &General<'a>) -> Asks<'a> {
    let folds = nodes.clone().find(|node| node.is("IgnoreCase"));
    let folds = folds.map_or(general.folds, |node| node.words.get(1).is_some_and(|v| is_on(v)));
    Ok(each(nodes, folds, general)?.join(" && "))
}

fn each<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    folds: bool,
    general: &General<'a>,
) -> Result<Vec<String>, Unasked<'a>> {
    nodes.filter_map(|node| one(node, folds, general)).collect()
}

/// The condition of a line, if it has one.
fn one<'a>(node: &'a Node, folds: bool, general: &General<'a>) -> Option<Asks<'a>> {
    let negations = node.words.iter().take_while(|word| word.eq_ignore_ascii_case("not")).count();
    let words = &node.words[negations..];
    let asked = match keyword(words).as_str() {
        "url" => Pattern::of(words, Comparison::Regex, folds).and_then(|pattern| pattern.url()),
        "path" => Pattern::of(words, Comparison::Regex, folds).and_then(|pattern| pattern.on("path")),
        "query" => {
            Pattern::of(words, Comparison::Regex, folds).and_then(|pattern| pattern.on("text(\"{query}\")"))
        }
        "queryparam" => parameter(words, folds),
        "method" => Pattern::of(words, Comparison::Exact, folds).and_then(|pattern| pattern.method()),
        "host" => Pattern::of(words, Comparison::Exact, true).and_then(|pattern| pattern.host()),
        "header" | "headrequire" => header(words),
        "headdeny" => header(words).map(|asked| format!("!({asked})")),
        "acl" => sources(node, words, general),
        "match" => return Some(group(node, words, negations, folds, general)),
        "eval" => match words.get(1).and_then(|name| general.conditions.get(name.as_str())) {
            Some(condition) => match each(condition.children.iter(), folds, general) {
                Ok(parts) => Ok(format!("({})", parts.join(" && "))),
                Err(why) => return Some(Err(why)),
            },
            None => Err("there is no Condition of this name before it".into()),
        },
        "basicauth" => Err("only `Not BasicAuth` with `Error 401` is carried over".into()),
        "stringmatch" | "tbf" | "clientcert" | "luamatch" | "contentcapture" => {
            Err("this cannot be asked here".into())
        }
        _ => return None,
    };
    let negated = |asked: String| match negations % 2 == 1 {
        true => format!("!({asked})"),
        false => asked,
    };
    Some(asked.map(negated).map_err(|why| Unasked { node, why }))
}

fn group<'a>(
    node: &'a Node,
    words: &[String],
    negations: usize,
    folds: bool,
    general: &General<'a>,
) -> Asks<'a> {
    let between = match words.get(1).map(|word| word.to_lowercase()).as_deref() {
        None | Some("and") => " && ",
        Some("or") => " || ",
        Some(_) => return Err(Unasked { node, why: "AND or OR is needed".into() }),
    };
    let mut parts = each(node.children.iter(), folds, general)?;
    parts
        .iter_mut()
        .filter(|part| part.contains(" && ") && !part.starts_with(['(', '!']))
        .for_each(|part| *part = format!("({part})"));
    if parts.is_empty() {
        return Err(Unasked { node, why: "it asks nothing".into() });
    }
    let not = if negations % 2 == 1 { "!" } else { "" };
    Ok(format!("{not}({})", parts.join(between)))
}

#[derive(Clone, Copy, PartialEq)]
enum Comparison {
    Regex,
    Exact,
    Begin,
    End,
    Contains,
}

/// A pattern and how it is compared.
struct Pattern<'a> {
    text: &'a str,
    comparison: Comparison,
    folds: bool,
}

impl<'a> Pattern<'a> {
    /// `[OPTIONS] "PATTERN"` behind the keyword.
    fn of(words: &'a [String], usual: Comparison, folds: bool) -> Result<Pattern<'a>, String> {
        let mut found = Pattern { text: "", comparison: usual, folds };
        let mut rest = words.iter().skip(1);
        let mut text = None;
        while let Some(word) = rest.next() {
            match word.as_str() {
                "-beg" => found.comparison = Comparison::Begin,
                "-end" => found.comparison = Comparison::End,
                "-contain" => found.comparison = Comparison::Contains,
                "-exact" => found.comparison = Comparison::Exact,
                "-re" | "-posix" | "-pcre" | "-perl" => found.comparison = Comparison::Regex,
                "-icase" => found.folds = true,
                "-case" => found.folds = false,
                "-tag" => drop(rest.next()),
                "-decode" | "-file" | "-filewatch" => return Err(format!("{word} is not known here")),
                _ => text = Some(word.as_str()),
            }
        }
        found.text = text.ok_or("it names no pattern")?;
        match found.comparison {
            Comparison::Regex => {
                evenkeel_rules::regex(found.text, false).map(|_| found).map_err(|why| why.to_string())
            }
            _ => Ok(found),
        }
    }

    fn regex(&self) -> String {
        let text = match self.comparison {
            Comparison::Regex => self.text.to_owned(),
            Comparison::Exact => format!("^{}$", regex_literal(self.text)),
            Comparison::Begin => format!("^{}", regex_literal(self.text)),
            Comparison::End => format!("{}$", regex_literal(self.text)),
            Comparison::Contains => regex_literal(self.text),
        };
        quoted(&if self.folds { format!("(?i){text}") } else { text })
    }

    fn on(&self, what: &str) -> Result<String, String> {
        Ok(format!("{what} =~ {}", self.regex()))
    }

    /// Pound's URL is the path with the query, decoded. Where only the path can be meant it is asked, in its normal
    /// form; a pattern that ends where the URL does wants no query.
    fn url(&self) -> Result<String, String> {
        let asks_query =
            self.text.contains(['=', '&']) || ["\\?", "[?]"].iter().any(|sign| self.text.contains(sign));
        let ends = match self.comparison {
            Comparison::Regex => self.text.contains('$'),
            Comparison::Exact | Comparison::End => true,
            Comparison::Begin | Comparison::Contains => false,
        };
        let last =
            self.text.ends_with('$') && self.text.matches('$').count() == 1 && !self.text.contains('|');
        match (asks_query, ends) {
            (false, false) => self.on("path"),
            (false, true) if self.comparison != Comparison::Regex || last || self.text.ends_with(")$") => {
                Ok(format!("{} && !text(\"{{query}}\")", self.on("path")?))
            }
            _ => self.on("text(\"{uri|url-decode}\")"),
        }
    }

    fn host(&self) -> Result<String, String> {
        match self.comparison {
            Comparison::Exact if is_host(self.text) => Ok(format!("host({})", quoted(self.text))),
            // Hosts are in lower case there.
            _ => Pattern { folds: true, ..*self }.on("host"),
        }
    }

    fn method(&self) -> Result<String, String> {
        match self.comparison {
            Comparison::Exact => Ok(format!("method({})", quoted(self.text))),
            _ => self.on("text(\"{method}\")"),
        }
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
}

/// `QueryParam "NAME" [OPTIONS] "PATTERN"`.
fn parameter(words: &[String], folds: bool) -> Result<String, String> {
    let name = words.get(1).filter(|name| is_token(name)).ok_or("it names no parameter")?;
    Pattern::of(&words[1..], Comparison::Regex, folds)?.on(&format!("text(\"{{query:{name}}}\")"))
}

/// `Header "NAME" [OPTIONS] "PATTERN"`, or one pattern for a whole line `NAME: VALUE`, whose case is nothing.
fn header(words: &[String]) -> Result<String, String> {
    let texts = words.iter().skip(1).filter(|word| !word.starts_with('-')).count();
    if let (true, Some(name)) = (texts > 1, words.get(1).filter(|name| is_token(name))) {
        return named(name, &Pattern::of(&words[1..], Comparison::Regex, true)?);
    }
    let whole = Pattern::of(words, Comparison::Regex, true)?;
    let (name, value) = match (whole.comparison, whole.text.split_once(':')) {
        (Comparison::Regex | Comparison::Begin | Comparison::Exact, Some(parts)) => parts,
        (Comparison::Regex, None) if is_token(whole.text.trim_start_matches('^')) => (whole.text, ""),
        _ => return Err("it looks at names and values at once: name the header before its value".into()),
    };
    let name = name.trim_start_matches('^').trim_end_matches([' ', '*']);
    if !is_token(name) || name.contains(['*', '.', '+', '|', '^', '$']) {
        return Err(format!("the header's name {name:?} is a pattern: write one line for each name"));
    }
    if whole.comparison != Comparison::Regex {
        return named(name, &Pattern { text: value.trim_start(), ..whole });
    }
    // What may stand between the colon and the value.
    let written = value;
    let mut value = value.trim_start();
    for blank in ["[ \t]*", "[ \\t]*", "\\s*", "\\s+", "[[:space:]]*", "[[:blank:]]*", "[ ]*"] {
        value = value.strip_prefix(blank).map_or(value, str::trim_start);
    }
    if ["", ".*", "*", "+", "*.*", "+.*"].contains(&value) {
        return Ok(format!("header({})", quoted(name)));
    }
    if value == written && takes_blank(value) {
        return whole_line(name, whole.text);
    }
    evenkeel_rules::regex(value, false).map_err(|why| why.to_string())?;
    if name.eq_ignore_ascii_case("host") && is_whole_host(value) {
        return Ok(format!("host({})", quoted(&value.replace("\\.", ".").replace('$', ""))));
    }
    // The name and its colon stand before it: the value begins so.
    let anchored = match value.starts_with(['^', '(']) || value.starts_with(".*") || value.contains('|') {
        true if value.contains('|') && !value.starts_with('(') => format!("^({value})"),
        true if value.starts_with('(') => format!("^{value}"),
        true => value.to_owned(),
        false => format!("^{value}"),
    };
    named(name, &Pattern { text: &anchored, comparison: Comparison::Regex, folds: true })
}

/// Whether a pattern that stands right behind the colon meets the blank that every client sends there in another way
/// than the value: `.*` with a plain text behind it takes it with the rest, and means the same of the value alone.
fn takes_blank(value: &str) -> bool {
    let Some(rest) = value.strip_prefix(".*") else { return true };
    let rest = rest.strip_prefix("\\").map_or(rest, |escaped| escaped.strip_prefix('.').unwrap_or(rest));
    rest.starts_with(|sign: char| !sign.is_ascii_alphanumeric() && sign != '-')
}

/// The pattern is asked of the line as clients send it, as Pound does it: `.` behind the colon takes the blank.
fn whole_line(name: &str, pattern: &str) -> Result<String, String> {
    evenkeel_rules::regex(pattern, false).map_err(|why| why.to_string())?;
    let pattern = quoted(&format!("(?i){pattern}"));
    Ok(match name.eq_ignore_ascii_case("host") {
        true => format!("text(\"Host: {{host}}\") =~ {pattern}"),
        false => format!("header({}) && text(\"{name}: {{header:{name}}}\") =~ {pattern}", quoted(name)),
    })
}

/// Whether a pattern is the name of a host, whose dots people write with or without a backslash, and not the
/// beginning of one.
fn is_whole_host(pattern: &str) -> bool {
    let plain = pattern.replace("\\.", ".");
    let plain = plain.strip_suffix('$').unwrap_or(&plain);
    let ends = plain
        .rsplit_once('.')
        .is_some_and(|(_, last)| last.len() > 1 && last.bytes().all(|b| b.is_ascii_alphabetic()));
    is_host(plain) && (ends || pattern.ends_with('$'))
}

fn named(name: &str, pattern: &Pattern<'_>) -> Result<String, String> {
    match name.eq_ignore_ascii_case("host") {
        true => pattern.host(),
        false => pattern.on(&format!("header({})", quoted(name))),
    }
}

/// `ACL ["NAME"]`: the client's address is in the list.
fn sources(node: &Node, words: &[String], general: &General<'_>) -> Result<String, String> {
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    if words.contains(&"-forwarded") {
        return Err(
            "-forwarded: say who stands in front by `client-address`, and ask the address then".into()
        );
    }
    let list = |children: &[Node]| {
        let all: Vec<String> =
            children.iter().flat_map(|line| line.words.iter()).map(|network| quoted(network)).collect();
        if all.is_empty() {
            Err("the list is empty".to_owned())
        } else {
            Ok(format!("source({})", all.join(", ")))
        }
    };
    let file =
        |file: &str| format!("source({})", quoted(&format!("@{}", based(Some(&general.folder), file))));
    match words[..] {
        [] => list(&node.children),
        ["-file" | "-filewatch", name] => Ok(file(name)),
        [name] => match general.lists.get(name) {
            Some(known) => match &known.words[2..] {
                [way, name] if way == "-file" || way == "-filewatch" => Ok(file(name)),
                _ => list(&known.children),
            },
            None => Err(format!("there is no ACL {name}")),
        },
        _ => Err("a name or a list is needed".into()),
    }
}

/// The file of a `Not BasicAuth`, which asks for a password together with `Error 401`, and what else is asked.
pub fn login(node: &Node) -> Option<&str> {
    let words = &node.words;
    let asks =
        words.len() > 2 && words[0].eq_ignore_ascii_case("not") && words[1].eq_ignore_ascii_case("basicauth");
    asks.then(|| words.last().map(String::as_str)).flatten()
}

/// Tells what keeps a service out of the result.
pub fn report(unasked: &Unasked<'_>, what: &str, draft: &mut Draft) {
    let words = unasked.node.words.join(" ");
    draft.grave(unasked.node.line, &words, format!("{}: {what} is left out", unasked.why));
}
