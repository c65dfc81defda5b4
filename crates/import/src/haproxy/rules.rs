//! `http-request`, `use_backend` and their like as routes.

use std::collections::BTreeMap;

use super::condition::Acls;
use super::proxy::{Proxy, Word};
use crate::draft::Table;
use crate::words::{list, literal, name, quoted};

/// One rule as a route; none where nothing is to be done.
pub fn rule(
    word: &Word,
    acls: &Acls,
    backends: &BTreeMap<&str, &Proxy>,
    http: bool,
) -> Result<Option<Table>, String> {
    let words = &word.words;
    let cut = words.iter().position(|w| w == "if" || w == "unless").unwrap_or(words.len());
    let (does, when) = words.split_at(cut);
    let mut route = Table::default();
    let waits = does.iter().any(|w| w == "inspect-delay") || does.get(2).is_some_and(|w| w == "accept");
    if does[0] == "tcp-request" && waits {
        return Ok(None);
    }
    let condition = acls.condition(when)?;
    let set = |route: &mut Table, key: &str, value: String| {
        if !condition.is_empty() {
            route.set("when", literal(&condition));
        }
        route.set(key, value);
    };
    let table = |name: &str, value: &str| -> Result<String, String> {
        Ok(format!("{{ {} = {} }}", quoted(name), quoted(&variables(value)?)))
    };
    let does: Vec<&str> = does.iter().map(String::as_str).collect();
    match does.as_slice() {
        ["use_backend", backend, ..] => {
            if backend.contains('%') {
                return Err("a backend by variable: see pool-map".into());
            }
            if backends.get(backend).is_none_or(|b| b.all("server").next().is_none()) {
                return Err(format!("there is no backend {backend} with servers"));
            }
            route.text("name", &format!("to-{}", name(backend)));
            set(&mut route, "pool", quoted(&name(backend)));
        }
        ["http-request" | "tcp-request", rest @ ..]
            if rest.first() == Some(&"deny")
                || rest.get(1) == Some(&"reject")
                || rest.first() == Some(&"reject") =>
        {
            let status =
                rest.iter().skip_while(|w| **w != "deny_status" && **w != "status").nth(1).unwrap_or(&"403");
            set(&mut route, "deny", if http { format!("{{ status = {status} }}") } else { "{}".into() });
        }
        ["block"] => set(&mut route, "deny", "{ status = 403 }".into()),
        ["http-request", "tarpit", ..] => set(&mut route, "tarpit", "{}".into()),
        ["http-request", "redirect", rest @ ..] | ["redirect", rest @ ..] => {
            let mut status = "302";
            let mut location = None;
            let mut rest = rest.iter();
            while let Some(word) = rest.next() {
                match *word {
                    "code" => status = rest.next().unwrap_or(&"302"),
                    "location" => location = Some(variables(rest.next().unwrap_or(&""))?),
                    "prefix" => {
                        location = Some(format!(
                            "{}{{path}}",
                            variables(rest.next().unwrap_or(&""))?.trim_end_matches('/')
                        ))
                    }
                    "scheme" => {
                        location = Some(format!("{}://{{host}}{{path}}", rest.next().unwrap_or(&"https")))
                    }
                    "drop-query" => {}
                    other => return Err(format!("redirect {other} is not carried over")),
                }
            }
            let location = location.ok_or("a redirect needs a place")?;
            set(&mut route, "redirect", format!("{{ location = {}, status = {status} }}", quoted(&location)));
        }
        ["http-request", "set-header", name, value @ ..] => {
            set(&mut route, "set-header", table(name, &value.join(" "))?)
        }
        ["http-request", "add-header", name, value @ ..] => {
            set(&mut route, "add-header", table(name, &value.join(" "))?)
        }
        ["http-request", "del-header", name] => set(&mut route, "remove-header", list(&[name])),
        ["http-request", "set-path", path] => set(&mut route, "rewrite-path", quoted(&variables(path)?)),
        ["http-request", "return", rest @ ..] => {
            let after = |key: &str| rest.iter().skip_while(|w| **w != key).nth(1);
            let mut keys = vec![format!("status = {}", after("status").unwrap_or(&"200"))];
            if let Some(text) = after("string").or_else(|| after("lf-string")) {
                keys.push(format!("body = {}", quoted(&variables(text)?)));
            }
            if let Some(file) = after("file") {
                keys.push(format!("file = {}", quoted(file)));
            }
            if let Some(kind) = after("content-type") {
                keys.push(format!("content-type = {}", quoted(kind)));
            }
            set(&mut route, "answer", format!("{{ {} }}", keys.join(", ")));
        }
        ["http-response", "set-header", name, value @ ..] => {
            set(&mut route, "set-response-header", table(name, &value.join(" "))?)
        }
        ["http-response", "add-header", name, value @ ..] => {
            set(&mut route, "add-response-header", table(name, &value.join(" "))?)
        }
        ["http-response", "del-header", name] => set(&mut route, "remove-response-header", list(&[name])),
        ["reqadd", field] | ["rspadd", field] => {
            let (name, value) = field.split_once(':').ok_or("a header has a colon")?;
            let key = if does[0] == "reqadd" { "add-header" } else { "add-response-header" };
            set(&mut route, key, table(name, value.trim())?);
        }
        _ => return Err("not carried over".into()),
    }
    Ok(Some(route))
}

/// A text with HAProxy's variables, with Evenkeel's.
fn variables(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at].replace('{', "{{").replace('}', "}}"));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (word, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or("a %[ has no ]")?,
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        rest = after;
        let fetch = word.split(',').next().unwrap_or("");
        let inner = fetch.split_once('(').map_or("", |(_, a)| a.trim_end_matches(')'));
        let known = match fetch
            .split('(')
            .next()
            .unwrap_or("")
            .trim_start_matches("req.")
            .trim_start_matches("capture.req.")
        {
            "src" | "ci" => "{source}".into(),
            "src_port" | "cp" => "{source-port}".into(),
            "dst" | "fi" => "{destination}".into(),
            "dst_port" | "fp" => "{port}".into(),
            "path" | "HP" => "{path}".into(),
            "uri" | "url" | "HU" => "{uri}".into(),
            "query" | "HQ" => "{query}".into(),
            "method" | "HM" => "{method}".into(),
            "ssl_fc_sni" => "{sni}".into(),
            "ssl_fc_protocol" | "sslv" => "{tls-version}".into(),
            "ssl_c_s_dn" => "{client-cert-subject}".into(),
            "hdr" | "fhdr" if inner.eq_ignore_ascii_case("host") => "{host}".into(),
            "hdr" | "fhdr" if !inner.is_empty() => format!("{{header:{inner}}}"),
            "cook" if !inner.is_empty() => format!("{{cookie:{inner}}}"),
            _ => return Err(format!("the variable {word} has no counterpart")),
        };
        if word.contains(',') {
            return Err(format!("the converters of {word} have no counterpart"));
        }
        out.push_str(&known);
    }
    out.push_str(&rest.replace('{', "{{").replace('}', "}}"));
    Ok(out)
}
