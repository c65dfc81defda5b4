//! What is left out where people see parts of a configuration who may not read all of it.
//!
//! One list of words tells secrets by the names of their keys, headers and variables; passwords
//! that are hashed and credentials of HTTP are known by how they look, whatever holds them.

use evenkeel_config::Part;
use serde_json::{Value, json};

pub const LEFT_OUT: &str = "(left out)";

/// Words in the names of keys, headers and variables whose values nobody else should see.
const SECRET: [&str; 16] = [
    "accounts",
    "auth-value",
    "authorization",
    "api-key",
    "apikey",
    "community",
    "credential",
    "key",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "send",
    "token",
    "url",
    "users",
];
/// How hashed passwords and credentials begin.
const LOOKS: [&str; 9] = ["$1$", "$2a$", "$2b$", "$2x$", "$2y$", "$5$", "$6$", "$argon2", "-----BEGIN"];

pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// Headers that let somebody in, beside what has a secret's name.
pub fn is_secret_header(name: &str) -> bool {
    is_secret(name) || name.to_ascii_lowercase().contains("cookie")
}

fn looks_secret(text: &str) -> bool {
    let plain = text.to_ascii_lowercase();
    let credentials = ["bearer ", "basic ", "plain:"].iter().any(|word| plain.contains(word));
    credentials || LOOKS.iter().any(|look| text.contains(look))
}

/// A condition or a text of a route, which may compare with a secret or write one.
pub fn text(text: &str) -> String {
    let plain = text.to_ascii_lowercase();
    let names = ["authorization", "api-key", "apikey", "cookie", "password", "secret", "token"];
    let compares = names.iter().any(|name| plain.contains(name)) && text.matches('"').count() > 2;
    match looks_secret(text) || compares {
        true => LEFT_OUT.to_owned(),
        false => without_credentials(text),
    }
}

/// Facts whose values tell nobody how to come in.
const PLAIN: [&str; 12] = [
    "path", "raw-path", "method", "host", "source", "address", "sni", "port", "version", "scheme", "alpn",
    "server",
];

/// A condition without what it compares headers, cookies, parameters and variables with. What a test is
/// of, its first text in brackets, stays.
pub fn condition(text: &str) -> String {
    let (mut out, mut function, mut is_first) = (String::new(), String::new(), false);
    let mut rest = text;
    while let Some(at) = rest.find('"') {
        let (before, quoted) = rest.split_at(at);
        if let Some(open) = before.rfind('(') {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let word = before[..open].rsplit(|c| !is_word(c)).next().unwrap_or("");
            function = word.to_owned();
            is_first = before[open + 1..].trim().is_empty();
        }
        out.push_str(before);
        let end = closing(quoted);
        let keeps =
            PLAIN.contains(&function.as_str()) || (is_first && !matches!(function.as_str(), "" | "text"));
        match keeps {
            true => out.push_str(&quoted[..end]),
            false => out.push_str(&format!("\"{LEFT_OUT}\"")),
        }
        is_first = false;
        rest = &quoted[end..];
    }
    let shown = out + rest;
    if looks_secret(&shown) { LEFT_OUT.to_owned() } else { without_credentials(&shown) }
}

/// Where a text in quotes ends, which begins with one.
fn closing(quoted: &str) -> usize {
    let mut escaped = false;
    for (at, c) in quoted.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    quoted.len()
}

/// The query of a URL, without its `?`.
pub fn query(query: &str) -> String {
    let shown = text(&format!("?{query}"));
    shown.strip_prefix('?').unwrap_or(&shown).to_owned()
}

/// Without the user in a URL, and without the values of what is secret in its query.
fn without_credentials(text: &str) -> String {
    let mut out = text.to_owned();
    if let Some(at) = out.find("://") {
        let end = out[at + 3..].find(['/', '?', ' ', '"']).map_or(out.len(), |end| at + 3 + end);
        if let Some(user) = out[at + 3..end].rfind('@') {
            out.replace_range(at + 3..at + 3 + user, LEFT_OUT);
        }
    }
    let Some((path, query)) = out.split_once('?') else { return out };
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) || name.contains("sig") => format!("{name}={LEFT_OUT}"),
        _ => pair.to_owned(),
    };
    format!("{path}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
}

/// The values of a configuration without its secrets: by what the schema says of each key, then by words.
pub fn redact(values: &mut Value) {
    evenkeel_config::redact(values, LEFT_OUT, &|part| match part {
        Part::Condition(text) => condition(text),
        Part::Text(one) => text(one),
        Part::Query(one) => query(one),
    });
    by_words(values);
}

fn by_words(values: &mut Value) {
    match values {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let is_header = key.contains("header") && value.is_object();
                match value {
                    _ if is_header => redact_headers(value),
                    Value::Bool(_) => {}
                    _ if is_secret(key) => *value = json!(LEFT_OUT),
                    _ => by_words(value),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(by_words),
        Value::String(one) => {
            let header = one
                .split_once(':')
                .is_some_and(|(name, _)| !name.contains([' ', '/', '"', '(']) && is_secret_header(name));
            *one = if header { LEFT_OUT.to_owned() } else { text(one) };
        }
        _ => {}
    }
}

/// Names of headers are shown, and what is in those that let nobody in.
fn redact_headers(headers: &mut Value) {
    let Value::Object(map) = headers else { return by_words(headers) };
    for (name, value) in map.iter_mut() {
        match is_secret_header(name) {
            true => *value = json!(LEFT_OUT),
            false => by_words(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        let mut values = json!({
            "a": { "password": "x1", "list": [{ "url": "y1", "name": "z" }] },
            "basic-auth": { "accounts": { "ann": "$6$salt$x2" }, "realm": "r" },
            "set-header": { "Authorization": "Basic eDM=", "X-Api-Key": "x4", "X-Odd": "Bearer x5", "X-Plain": "p" },
            "health-check": { "headers": { "Authorization": "Bearer x6" }, "path": "/health?key=x7&a=1" },
            "lines": ["Authorization: x8", "X-Good: fine"],
            "when": "header(\"X-Api-Key\") == \"x9\"",
            "redirect": "https://ann:x10@host/path?sig=x11",
            "b": 1,
        });
        by_words(&mut values);
        let text = values.to_string();
        for n in 1..=11 {
            assert!(!text.contains(&format!("x{n}")) && !text.contains("eDM="), "x{n} in {text}");
        }
        for kept in ["\"z\"", "\"r\"", "\"p\"", "X-Good: fine", "/health?key=", "&a=1", "host/path"] {
            assert!(text.contains(kept), "{kept} in {text}");
        }
    }

    #[test]
    fn conditions_keep_what_they_look_at() {
        for (text, shown) in [
            (r#"path("/a/*", "/b") && method("GET")"#, r#"path("/a/*", "/b") && method("GET")"#),
            (
                r#"header("X-Tenant") == "x1" || host("a")"#,
                r#"header("X-Tenant") == "(left out)" || host("a")"#,
            ),
            (r#"cookie("c", "x1")"#, r#"cookie("c", "(left out)")"#),
            (r#"query("sig") =~ "x1\"x1" && path("/a")"#, r#"query("sig") == "(left out)" && path("/a")"#),
            (r#"text("{header:X}{x1}") == "x1""#, r#"text("(left out)") == "(left out)""#),
        ] {
            assert_eq!(condition(text).replace("=~", "=="), shown);
        }
    }
}
