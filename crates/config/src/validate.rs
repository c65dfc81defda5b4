//! Holds a parsed document against the schema and reports everything that does not fit.

use std::ops::Range;

use evenkeel_model::{
    HostName, ListenAddress, LogSample, Name, StatusSet, Vip, format_duration, format_size, parse_duration,
    parse_size,
};
use evenkeel_rules::{Expression, LineFormat, ParseError, Template};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::Problem;
use crate::schema::{Key, Table, ValueKind, Variant, Word};
use crate::section::{self, Parsed};
use crate::suggest::nearest;

/// What holding a document against the schema has brought.
#[derive(Default)]
pub struct Findings {
    pub problems: Vec<Problem>,
    pub parsed: Parsed,
}

impl Findings {
    /// Judges a text; keeps the tree of one that has a grammar, so that it is parsed here alone.
    fn text(&mut self, span: Range<usize>, text: &str, key: &str, kind: &ValueKind) {
        let at = span.start;
        let kept = match kind {
            ValueKind::Condition => {
                Expression::parse(text).map(|tree| drop(self.parsed.conditions.insert(at, tree)))
            }
            ValueKind::Template => {
                Template::parse(text).map(|tree| drop(self.parsed.templates.insert(at, tree)))
            }
            ValueKind::LogFormat if text.contains('{') => {
                LineFormat::parse(text).map(|line| drop(self.parsed.lines.insert(at, line)))
            }
            _ => return self.problems.extend(check_text(span, text, key, kind)),
        };
        self.problems.extend(kept.err().map(|error| within(span, error)));
    }
}

pub fn table(table: &DeTable<'_>, place: Range<usize>, schema: &Table, out: &mut Findings) {
    let described = match schema.name {
        "" => "the file".to_owned(),
        name => format!("`{name}`"),
    };
    keys(table, place, &described, schema.keys, &[], out);
}

fn keys(
    table: &DeTable<'_>,
    place: Range<usize>,
    described: &str,
    known: &[Key],
    also_known: &[&str],
    out: &mut Findings,
) {
    for (name, value) in table.iter() {
        let found = known.iter().find(|k| k.name == name.get_ref());
        match found {
            Some(key) => check(value, key.name, &key.kind, out),
            None if also_known.contains(&&**name.get_ref()) => {}
            None => out.problems.push(unknown_key(name, described, known, also_known)),
        }
    }
    for key in known.iter().filter(|k| k.required && !table.contains_key(k.name)) {
        let message = format!("{described} has no `{}`, which it needs", key.name);
        out.problems.push(Problem::new(place.clone(), message).help(key.doc));
    }
}

fn unknown_key(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    described: &str,
    known: &[Key],
    also_known: &[&str],
) -> Problem {
    let words = known.iter().map(|k| k.name).chain(also_known.iter().copied());
    let shown: String = name.get_ref().chars().take(80).collect();
    let problem = Problem::new(name.span(), format!("{described} has no key {shown:?}"));
    match nearest(name.get_ref(), words.clone()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("keys here: {}", words.collect::<Vec<_>>().join(", "))),
    }
}

fn check(value: &Spanned<DeValue<'_>>, key: &str, kind: &ValueKind, out: &mut Findings) {
    let found = value.get_ref();
    match kind {
        ValueKind::Flag if found.is_bool() => {}
        ValueKind::Integer { min, max } if found.is_integer() => match section::integer(found) {
            Some(n) if (*min..=*max).contains(&n) => {}
            _ => out.problems.push(
                Problem::new(value.span(), format!("`{key}` is out of range"))
                    .help(format!("a whole number from {min} to {max}")),
            ),
        },
        ValueKind::List(inner) => match found.as_array() {
            Some(items) => items.iter().for_each(|item| check(item, key, inner, out)),
            None => out.problems.push(wrong_type(value, key, kind)),
        },
        ValueKind::CertificateNames => match (found.as_array(), found.as_str()) {
            (Some(items), _) => {
                let name = ValueKind::Text { max: 255, lines: false };
                items.iter().for_each(|item| check(item, key, &name, out));
            }
            (None, Some("routes")) => {}
            _ => out.problems.push(wrong_type(value, key, kind)),
        },
        ValueKind::Table(schema) => match found.as_table() {
            Some(inner) => table(inner, value.span(), schema, out),
            None => out.problems.push(wrong_type(value, key, kind)),
        },
        ValueKind::Tables(schema) => match found.as_array() {
            Some(items) if items.iter().all(|i| i.get_ref().is_table()) => {
                for item in items.iter() {
                    if let Some(inner) = item.get_ref().as_table() {
                        table(inner, item.span(), schema, out);
                    }
                }
            }
            _ => out.problems.push(wrong_type(value, key, kind)),
        },
        ValueKind::Typed(variants) => match found.as_table() {
            Some(inner) => typed(inner, value.span(), key, variants, out),
            None => out.problems.push(wrong_type(value, key, kind)),
        },
        ValueKind::Map(inner) => match found.as_table() {
            Some(table) => {
                for (name, value) in table.iter() {
                    out.problems.extend(check_text(name.span(), name.get_ref(), key, &ValueKind::Token));
                    check(value, name.get_ref(), inner, out);
                }
            }
            None => out.problems.push(wrong_type(value, key, kind)),
        },
        ValueKind::Flag | ValueKind::Integer { .. } => out.problems.push(wrong_type(value, key, kind)),
        _ => match found.as_str() {
            Some(text) => out.text(value.span(), text, key, kind),
            None => out.problems.push(wrong_type(value, key, kind)),
        },
    }
}

fn wrong_type(value: &Spanned<DeValue<'_>>, key: &str, kind: &ValueKind) -> Problem {
    let found = value.get_ref().type_str();
    let expected = expectation(kind);
    Problem::new(value.span(), format!("`{key}` is {expected}, not a value of type {found}"))
}

/// What a value of this kind is, in words and with an example.
pub fn expectation(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Text { .. } => "a text in quotes".into(),
        ValueKind::Name => "a name in quotes".into(),
        ValueKind::Flag => "true or false".into(),
        ValueKind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        ValueKind::Duration { .. } => "a duration such as \"2s\"".into(),
        ValueKind::Size { .. } => "a size such as \"64KiB\"".into(),
        ValueKind::Choice(words) => format!("one of {}", choices(words)),
        ValueKind::Listen => "an address and a port such as \"192.0.2.10:80\"".into(),
        ValueKind::Vip => {
            "an address and ports such as \"192.0.2.10:80,443\", or \"*:80\" for all addresses".into()
        }
        ValueKind::Network => "a network such as \"192.0.2.0/24\"".into(),
        ValueKind::NetworkOrFile => "a network such as \"192.0.2.0/24\", or a file of networks".into(),
        ValueKind::File => "an absolute path in quotes".into(),
        ValueKind::Statuses => "statuses such as \"200-399\"".into(),
        ValueKind::HttpPath => "a path such as \"/healthz\"".into(),
        ValueKind::Token => "a word in quotes".into(),
        ValueKind::ServerName => "a host name, \"{host}\" or \"{sni}\"".into(),
        ValueKind::Server => "an address or a name, with or without a port, such as \"192.0.2.10:80\"".into(),
        ValueKind::Condition => "a condition such as 'path(\"/api/*\")'".into(),
        ValueKind::Template => "a text in quotes, which may hold {variables}".into(),
        ValueKind::Rate => "a rate such as \"100/10s\"".into(),
        ValueKind::Sample => "lines of so many, such as \"1,3-4:10\"".into(),
        ValueKind::Ports => "ports such as \"1024-32767\"".into(),
        ValueKind::Address => "an address such as \"192.0.2.10\"".into(),
        ValueKind::Source => "an address, \"client\" or \"own\"".into(),
        ValueKind::Map(inner) => format!("a table of names, each with {}", expectation(inner)),
        ValueKind::AccessLog => {
            "\"stdout\", \"stderr\", \"off\", \"syslog:ADDRESS:PORT\", \"syslog:/SOCKET\" or a file".into()
        }
        ValueKind::LogFormat => "\"haproxy\", \"json\", or a text with {fields}".into(),
        ValueKind::CertificateNames => "\"routes\", or a list of names such as \"www.example.org\"".into(),
        ValueKind::List(inner) => format!("a list, each {}", expectation(inner)),
        ValueKind::Table(_) => "a table".into(),
        ValueKind::Tables(schema) => format!("a list of tables, written [[{}]]", schema.name),
        ValueKind::Typed(variants) => {
            let types: Vec<_> = variants.iter().map(|v| format!("{:?}", v.word)).collect();
            format!("a table such as {{ type = {} }}", types.join(" | "))
        }
    }
}

fn choices(words: &[Word]) -> String {
    words.iter().map(|w| format!("{:?}", w.word)).collect::<Vec<_>>().join(", ")
}

fn typed(table: &DeTable<'_>, place: Range<usize>, key: &str, variants: &[Variant], out: &mut Findings) {
    let words = || variants.iter().map(|v| v.word);
    let types = words().collect::<Vec<_>>().join(", ");
    let Some(tag) = table.get("type") else {
        let message = format!("`{key}` has no `type`, which it needs");
        out.problems.push(Problem::new(place, message).help(format!("one of {types}")));
        return;
    };
    let Some(word) = tag.get_ref().as_str() else {
        out.problems.push(Problem::new(tag.span(), format!("`type` is one of {types}, in quotes")));
        return;
    };
    match variants.iter().find(|v| v.word == word) {
        Some(variant) => {
            let described = format!("`{key}` of type {word:?}");
            keys(table, place, &described, variant.keys, &["type"], out);
        }
        None => {
            let problem = Problem::new(tag.span(), format!("`{key}` has no type {word:?}"));
            out.problems.push(match nearest(word, words()) {
                Some(near) => problem.help(format!("did you mean {near:?}?")),
                None => problem.help(format!("one of {types}")),
            });
        }
    }
}

fn check_text(span: Range<usize>, text: &str, key: &str, kind: &ValueKind) -> Option<Problem> {
    let refuse = |why: String| {
        let problem = Problem::new(span.clone(), format!("`{key}`: {why}"));
        Some(problem.help(format!("expected {}", expectation(kind))))
    };
    let control = |c: char| c.is_control();
    let is_file = |text: &str| text.starts_with('/') && !text.chars().any(control);
    match kind {
        ValueKind::Text { max, lines } => {
            let allowed = |c: char| *lines && matches!(c, '\n' | '\t' | '\r');
            if text.len() > *max {
                return refuse(format!("longer than {max} bytes"));
            }
            match text.chars().find(|c| control(*c) && !allowed(*c)) {
                Some(c) => refuse(format!("holds the control character {c:?}")),
                None => None,
            }
        }
        ValueKind::Name => Name::new(text).err().and_then(|e| refuse(e.to_string())),
        ValueKind::Duration { min_ms, max_ms } => match parse_duration(text) {
            Err(error) => refuse(error.to_string()),
            Ok(d) if !(*min_ms..=*max_ms).contains(&(d.as_millis() as u64)) => {
                let show = |ms: u64| format_duration(std::time::Duration::from_millis(ms));
                refuse(format!("from {} to {}, not {text}", show(*min_ms), show(*max_ms)))
            }
            Ok(_) => None,
        },
        ValueKind::Size { min, max } => match parse_size(text) {
            Err(error) => refuse(error.to_string()),
            Ok(n) if !(*min..=*max).contains(&n) => {
                refuse(format!("from {} to {}, not {text}", format_size(*min), format_size(*max)))
            }
            Ok(_) => None,
        },
        ValueKind::Choice(words) => check_choice(span, text, key, words),
        ValueKind::Listen if text.parse::<std::net::IpAddr>().is_ok() => {
            refuse("an address without a port".into())
        }
        ValueKind::Listen => ListenAddress::parse(text).err().and_then(|e| refuse(e.to_string())),
        ValueKind::Server if evenkeel_model::bare_address(text).is_some() => None,
        ValueKind::Server if HostName::with_port(text).is_some() => None,
        ValueKind::Server => ListenAddress::parse(text).err().and_then(|e| refuse(e.to_string())),
        ValueKind::Rate if section::rate(text).is_none() => refuse("not a rate".into()),
        ValueKind::Sample if LogSample::parse(text).is_none() => refuse("not numbers of lines".into()),
        ValueKind::Ports if crate::layer4::ports(text).is_none() => refuse("not a range of ports".into()),
        ValueKind::Address if text.parse::<std::net::IpAddr>().is_err() => refuse("not an address".into()),
        ValueKind::Source
            if !matches!(text, "client" | "own") && text.parse::<std::net::IpAddr>().is_err() =>
        {
            refuse("neither an address nor one of these words".into())
        }
        ValueKind::Vip => Vip::parse_all(text).err().and_then(|e| refuse(e.to_string())),
        ValueKind::Network if section::network(text).is_none() => refuse("not a network".into()),
        ValueKind::NetworkOrFile if !is_file(text) && section::network(text).is_none() => {
            refuse("neither a network nor an absolute path".into())
        }
        ValueKind::File if !is_file(text) => refuse("not an absolute path".into()),
        ValueKind::Statuses if StatusSet::parse(text).is_none() => refuse("not a set of statuses".into()),
        ValueKind::HttpPath => {
            let plain = |b: u8| b.is_ascii_graphic() && b != b'#';
            // The whole server is asked by `OPTIONS *`.
            let good = text == "*" || text.starts_with('/') && text.len() <= 2048 && text.bytes().all(plain);
            if good { None } else { refuse("not a request path".into()) }
        }
        ValueKind::ServerName if matches!(text, "{host}" | "{sni}") => None,
        ValueKind::Token | ValueKind::ServerName => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let good = !text.is_empty() && text.len() <= 128 && text.bytes().all(plain);
            if good { None } else { refuse("not a single word".into()) }
        }
        ValueKind::AccessLog => match crate::log::access_log(text) {
            Some(_) => None,
            None => refuse(format!("{text:?} is none of these")),
        },
        ValueKind::LogFormat if matches!(text, "haproxy" | "json") => None,
        ValueKind::LogFormat => refuse(format!("{text:?} is neither haproxy nor json, and has no {{field}}")),
        _ => None,
    }
}

/// A mistake inside a text: the text begins behind its quote, and holds no escapes if its length
/// fits; else the whole text is pointed at.
fn within(span: Range<usize>, error: ParseError) -> Problem {
    let inner = span.start + 1 + error.span.start..span.start + 1 + error.span.end.max(error.span.start + 1);
    let place = if inner.end < span.end { inner } else { span };
    let problem = Problem::new(place, error.message);
    match error.help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

fn check_choice(span: Range<usize>, text: &str, key: &str, words: &[Word]) -> Option<Problem> {
    match words.iter().find(|w| w.word == text) {
        Some(_) => None,
        None => {
            let shown: String = text.chars().take(80).collect();
            let problem = Problem::new(span, format!("`{key}` has no choice {shown:?}"));
            Some(match nearest(text, words.iter().map(|w| w.word)) {
                Some(near) => problem.help(format!("did you mean {near:?}?")),
                None => problem.help(format!("one of {}", choices(words))),
            })
        }
    }
}
