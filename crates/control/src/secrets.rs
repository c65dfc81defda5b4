//! What is left out where people see parts of a configuration who may not read all of it.
//!
//! One list of words tells secrets by the names of their keys, headers and variables; passwords
//! that are hashed and credentials of HTTP are known by how they look, whatever holds them.

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

/// The values of a configuration without its secrets.
pub fn redact(values: &mut Value) {
    match values {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let is_header = key.contains("header") && value.is_object();
                match value {
                    _ if is_header => redact_headers(value),
                    Value::Bool(_) => {}
                    _ if is_secret(key) => *value = json!(LEFT_OUT),
                    _ => redact(value),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(redact),
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
    let Value::Object(map) = headers else { return redact(headers) };
    for (name, value) in map.iter_mut() {
        match is_secret_header(name) {
            true => *value = json!(LEFT_OUT),
            false => redact(value),
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
        redact(&mut values);
        let text = values.to_string();
        for n in 1..=11 {
            assert!(!text.contains(&format!("x{n}")) && !text.contains("eDM="), "x{n} in {text}");
        }
        for kept in ["\"z\"", "\"r\"", "\"p\"", "X-Good: fine", "/health?key=", "&a=1", "host/path"] {
            assert!(text.contains(kept), "{kept} in {text}");
        }
    }
}
