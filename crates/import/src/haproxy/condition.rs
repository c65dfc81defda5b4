//! ACLs as conditions of routes.

use std::collections::BTreeMap;

use super::proxy::Proxy;
use super::sample;
use super::tables::Counted;
use crate::draft::{Draft, ErrorFiles, Userlists};
use crate::words::quoted;

/// Named conditions of a proxy; several lines of one name are one or the other.
#[derive(Default)]
pub struct Acls {
    named: BTreeMap<String, String>,
    pub counted: Counted,
    pub userlists: Userlists,
    /// `http-errors`, by name.
    pub errors: BTreeMap<String, ErrorFiles>,
    /// `http-error` with variables, by their status: the words behind it.
    pub pages: BTreeMap<String, Vec<String>>,
    /// Texts of files that have variables.
    pub files: BTreeMap<String, String>,
    /// How long a tarpit holds its clients.
    pub tarpit: Option<String>,
    /// The word that lets a request in to this program's own pages, where it has them.
    pub own_pages: Option<String>,
    /// Hosts are compared with their ports and by case, as HAProxy does where it is to run as it is.
    exact: bool,
    /// Of a proxy in mode http.
    http: bool,
}

impl Acls {
    pub fn of(proxy: &Proxy, draft: &mut Draft) -> Acls {
        let (counted, userlists) = (Counted::of(proxy, &draft.counted), draft.userlists.clone());
        let files = draft.run.as_ref().map(|run| run.places.files.clone()).unwrap_or_default();
        let tarpit = proxy.time("tarpit").or_else(|| proxy.time("connect"));
        let errors = draft.errors.clone();
        let exact = draft.run.is_some();
        let (http, pages) = (proxy.is_http(), proxy.pages_with_variables());
        let own_pages = draft.run.as_ref().and_then(|run| run.places.stats.as_ref()).map(|s| s.1.clone());
        let mut acls = Acls {
            counted,
            userlists,
            errors,
            files,
            tarpit,
            own_pages,
            exact,
            http,
            pages,
            ..Acls::default()
        };
        let servers = draft.numbers.get(&proxy.line).cloned().unwrap_or_default();
        for word in proxy.all("acl") {
            let words: Vec<String> =
                word.words.iter().map(|w| super::constants::numbered(w, &servers)).collect();
            let Some(name) = words.get(1) else { continue };
            // What waits for an RDP cookie is a part of persistence.
            if words.get(2).is_some_and(|w| w.starts_with("req_rdp_cookie") || w.starts_with("rdp_cookie")) {
                continue;
            }
            match criterion(&words[2..], &acls.counted, exact) {
                Ok(text) => {
                    let entry = acls.named.entry(name.clone()).or_default();
                    *entry = if entry.is_empty() { text } else { format!("{entry} || {text}") };
                }
                Err(why) => {
                    draft.left(word.line, &word.written, format!("{why}: what uses {name} is left out"))
                }
            }
        }
        acls
    }

    /// It is of a configuration that is run as it is.
    pub fn runs(&self) -> bool {
        self.exact
    }

    /// The condition behind `if` or `unless`; empty where there is none.
    pub fn condition(&self, words: &[String]) -> Result<String, String> {
        let Some(sense) = words.first() else { return Ok(String::new()) };
        let mut any: Vec<String> = Vec::new();
        let mut all: Vec<String> = Vec::new();
        let mut at = 1;
        while let Some(word) = words.get(at) {
            at += 1;
            let (not, bare) = match word.strip_prefix('!') {
                Some("") => {
                    at += 1;
                    (true, words.get(at - 1).map_or("", String::as_str))
                }
                Some(rest) => (true, rest),
                None => (false, word.as_str()),
            };
            let text = match bare {
                "or" | "||" | "OR" => {
                    any.push(all.join(" && "));
                    all.clear();
                    continue;
                }
                "{" => {
                    let end = words[at..].iter().position(|w| w == "}").ok_or("a { has no }")?;
                    let text = criterion(&words[at..at + end], &self.counted, self.exact)?;
                    at += end + 1;
                    text
                }
                name => self.named(name)?,
            };
            let wrapped =
                if text.contains(" || ") || not && text.contains(' ') { format!("({text})") } else { text };
            all.push(if not { format!("!{wrapped}") } else { wrapped });
        }
        any.push(all.join(" && "));
        let text = any.join(" || ");
        Ok(match sense.as_str() {
            "unless" if text.contains(' ') => format!("!({text})"),
            "unless" => format!("!{text}"),
            _ => text,
        })
    }

    fn named(&self, name: &str) -> Result<String, String> {
        if let Some(text) = self.named.get(name) {
            return Ok(text.clone());
        }
        let text = match name {
            // What is sent in clear on a port of several protocols.
            "HTTP" if !self.http => return Ok(begins_http()),
            "TRUE" | "always_true" => "source-port >= 0",
            "FALSE" => "source-port < 0",
            "METH_CONNECT" => "method(\"CONNECT\")",
            "METH_DELETE" => "method(\"DELETE\")",
            "METH_PUT" => "method(\"PUT\")",
            "METH_TRACE" => "method(\"TRACE\")",
            "HTTP_CONTENT" => "number(\"{header:Content-Length}\") > 0",
            "HTTP_URL_SLASH" => "path(\"/*\")",
            "HTTP_URL_STAR" => "text(\"{uri}\") =~ \"^[*]$\"",
            "HTTP_2.0" => "version(\"2.0\")",
            "METH_GET" => "method(\"GET\", \"HEAD\")",
            "METH_POST" => "method(\"POST\")",
            "METH_HEAD" => "method(\"HEAD\")",
            "METH_OPTIONS" => "method(\"OPTIONS\")",
            "REQ_CONTENT" => "first-bytes-length > 0",
            "LOCALHOST" => "source(\"127.0.0.0/8\")",
            // Where it is asked the request has been read.
            "HTTP" | "WAIT_END" if self.http => "source-port >= 0",
            "HTTP_1.0" => "version(\"1.0\")",
            "HTTP_1.1" => "version(\"1.1\")",
            _ => return Err(format!("there is no ACL {name} here")),
        };
        Ok(text.into())
    }
}

/// One test: a fetch, flags, values.
fn criterion(words: &[String], counted: &Counted, exact: bool) -> Result<String, String> {
    let Some(fetch) = words.first() else { return Err("an empty test".into()) };
    if let Some(asked) = counted.asked(fetch) {
        let values: Vec<&str> =
            words[1..].iter().map(String::as_str).filter(|w| !["-m", "int", "bool"].contains(w)).collect();
        let asked = asked?;
        // A table that is asked for an entry says so without more.
        if asked.starts_with("in-table(") {
            return match values.as_slice() {
                [] | ["gt", "0"] | ["1"] => Ok(asked),
                ["lt", "0"] => Ok("source-port < 0".into()),
                _ => Err(format!("{fetch} is there, or is not: write it without a value")),
            };
        }
        if values.is_empty() {
            return Ok(format!("{asked} > 0"));
        }
        return numbers(&asked, &values);
    }
    if let Some(figure) = counted.load(fetch) {
        let figure = figure?;
        let values: Vec<&str> =
            words[1..].iter().map(String::as_str).filter(|w| !["-m", "int", "bool"].contains(w)).collect();
        return match (figure.holds, values.as_slice()) {
            (true, [] | ["1"]) => Ok(figure.test),
            (true, ["0"]) => Ok(format!("!{}", figure.test)),
            (true, _) => Err(format!("{fetch} holds, or does not: write it without a value")),
            (false, []) => Ok(format!("{} > 0", figure.test)),
            (false, values) => numbers(&figure.test, values),
        };
    }
    let parts = sample::chain(fetch);
    if parts.len() > 1 || ["var", "str", "int"].contains(&parts[0].0.as_str()) {
        return converted(fetch, &words[1..]);
    }
    let (mut name, inside) = match fetch.split_once('(') {
        Some((name, rest)) => (name, rest.trim_end_matches(')')),
        None => (fetch.as_str(), ""),
    };
    // One of several values, by its number, is a text.
    let (argument, occurrence) = inside.split_once(',').unwrap_or((inside, ""));
    let every = occurrence.is_empty();
    name = name.strip_prefix("req.").unwrap_or(name);
    let (mut kind, mut folds) = ("", false);
    let mut values: Vec<&str> = Vec::new();
    let mut files: Vec<String> = Vec::new();
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-i" => folds = true,
            "-n" => {}
            // A number by which the command line names it.
            "-u" => drop(rest.next()),
            "-m" => kind = rest.next().map_or("", String::as_str),
            "-f" => files.push(list_file(rest.next())?),
            "--" => values.extend(rest.by_ref().map(String::as_str)),
            flag if is_flag(flag) => return Err(format!("the flag {flag} has no counterpart")),
            value => values.push(value),
        }
    }
    for (ending, of) in METHODS {
        if let Some(base) = name.strip_suffix(ending) {
            (name, kind) = (base, of);
        }
    }
    // A list of whole values or of networks stands beside values; others are asked by themselves.
    let host = name == "hdr" && every && argument.eq_ignore_ascii_case("host");
    let of_many = every && !host && ["hdr", "fhdr", "res.hdr", "res.fhdr", "shdr"].contains(&name);
    let unfolded = folds && (exact || !host);
    if !files.is_empty() && (unfolded || !["", "str", "ip"].contains(&kind)) {
        let text = match of_many {
            true => sample::each(&without_method(fetch), name.ends_with("fhdr"))?,
            false => sample::template(&without_method(fetch))?,
        };
        return listed(&text, kind, folds, &files, &values);
    }
    values.extend(files.iter().map(String::as_str));
    let text;
    let subject = match (name, argument.to_ascii_lowercase().as_str()) {
        ("hdr", _) if kind == "int" && every && !argument.is_empty() => {
            return numbers(&format!("header-number({})", quoted(argument)), &values);
        }
        ("hdr", "host") if every && !exact => ("host", None),
        ("hdr", "host") | ("fhdr", _) if every && !argument.is_empty() => ("header", Some(argument)),
        ("hdr", _) if every && !argument.is_empty() => ("header-value", Some(argument)),
        ("res.fhdr", _) if every && !argument.is_empty() => ("answer-header", Some(argument)),
        ("res.hdr" | "shdr", _) if every && !argument.is_empty() => ("answer-header-value", Some(argument)),
        ("ver" | "req_ver", _) => ("version", None),
        ("http_first_req", _) => return Ok("first-request()".into()),
        ("status", _) => return numbers("status", &values),
        ("cook" | "cookie", _) if !argument.is_empty() => ("cookie", Some(argument)),
        ("url_param" | "urlp", _) if !argument.is_empty() && every => ("query", Some(argument)),
        // The beginning of a URI without a query is that of its path.
        ("url" | "capture.req.uri", _)
            if kind == "beg"
                && files.is_empty()
                && values.iter().all(|v| v.starts_with('/') && !v.contains('?')) =>
        {
            ("path", None)
        }
        ("url", _) => ("text", Some("{url}")),
        ("capture.req.uri", _) => ("text", Some("{uri}")),
        (
            "hdr_cnt" | "fhdr_cnt" | "res.hdr_cnt" | "res.fhdr_cnt" | "shdr_cnt" | "cook_cnt" | "rand"
            | "date",
            _,
        ) => {
            return numbers(&format!("number({})", quoted(&sample::template(fetch)?)), &values);
        }
        ("body", _) if kind == "len" => return numbers("number(\"{body|length}\")", &values),
        ("hdr_val", _) if every && !argument.is_empty() => {
            return numbers(&format!("header-number({})", quoted(argument)), &values);
        }
        ("cook_val" | "urlp_val", _) => {
            return numbers(&format!("number({})", quoted(&sample::template(fetch)?)), &values);
        }
        ("ssl_fc_alpn", _) => ("alpn", None),
        ("ssl_fc_has_sni", _) => return Ok("text(\"{sni}\")".into()),
        ("bool", "true" | "yes" | "on" | "1") => return Ok("source-port >= 0".into()),
        ("bool", "false" | "no" | "off" | "0") => return Ok("source-port < 0".into()),
        ("hdr_ip", "x-forwarded-for") if !fetch.contains(',') => {
            return Err("one of its values is asked: hdr_ip(X-Forwarded-For,-1) for the last".into());
        }
        ("hdr_ip", _) if !argument.is_empty() && argument != "host" => {
            let text = sample::template(&fetch.replacen("hdr_ip(", "hdr(", 1))?;
            return Ok(format!("address({}, {})", quoted(&text), texts(&values)));
        }
        ("path", _) => ("path", None),
        ("method" | "meth", _) => ("method", None),
        ("ssl_fc_sni" | "ssl_sni" | "req_ssl_sni", _) => ("sni", None),
        ("ssl_c_s_dn", "cn") => ("client-cert-cn", None),
        ("src", _) => return Ok(format!("source({})", texts(&values))),
        ("dst", _) => return Ok(format!("destination({})", texts(&values))),
        ("dst_port", _) => return numbers("port", &values),
        ("src_port", _) => return numbers("source-port", &values),
        ("ssl_hello_type" | "req_ssl_hello_type", _) if values == ["1"] => return Ok("tls-hello()".into()),
        ("ssl_hello_type" | "req_ssl_hello_type", _) if values == ["0"] => return Ok("!tls-hello()".into()),
        ("len" | "req_len", _) => return numbers("first-bytes-length", &values),
        ("payload", _) => return payload(fetch, kind, &values),
        ("proto_http" | "req_proto_http", _) => {
            return Ok(begins_http());
        }
        ("ssl_fc", _) => return Ok("tls()".into()),
        ("ssl_fc_is_resumed", _) => return Ok("tls-resumed()".into()),
        ("ssl_c_used" | "ssl_fc_has_crt", _) => return Ok("client-cert()".into()),
        ("http_auth", list) if !list.is_empty() => return Ok(super::access::test(argument, &[])),
        ("http_auth_group", list) if !list.is_empty() => return Ok(super::access::test(argument, &values)),
        ("always_true", _) => return Ok("source-port >= 0".into()),
        ("always_false", _) => return Ok("source-port < 0".into()),
        _ if ["int", "ip"].contains(&kind) => {
            if name == "hdr" && every {
                return Err(format!("one of its values is asked: {name}({argument},-1) for the last"));
            }
            let text = sample::template(&without_method(fetch))?;
            return match kind {
                "int" => numbers(&format!("number({})", quoted(&text)), &values),
                _ => Ok(format!("address({}, {})", quoted(&text), texts(&values))),
            };
        }
        // What has a text can be compared as one.
        _ if ["", "str", "beg", "end", "sub", "dir", "dom", "reg", "len", "found"].contains(&kind) => {
            let plain = without_method(fetch);
            let signs = ["lt", "le", "gt", "ge", "eq"];
            if kind != "len" && values.first().is_some_and(|first| signs.contains(first)) {
                return numbers(&format!("number({})", quoted(&sample::template(&plain)?)), &values);
            }
            text = sample::template(&plain).map_err(|_| format!("the test {fetch} has no counterpart"))?;
            ("text", Some(text.as_str()))
        }
        _ => return Err(format!("the test {fetch} has no counterpart")),
    };
    if kind == "len" {
        return lengths(subject, &values);
    }
    let there = sample::presence(&without_method(fetch));
    if kind == "found" && subject.0 == "text" && !there.is_empty() {
        return Ok(there);
    }
    if values.is_empty() && kind != "found" {
        return Err(format!("the test {fetch} has no values"));
    }
    compared(subject, kind, folds, &values)
}

/// Methods that a request begins with, where a port is for several protocols.
const BEGINS_HTTP: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

fn begins_http() -> String {
    let begins = BEGINS_HTTP.map(|method| quoted(&format!("{method} *")));
    format!("first-bytes({})", begins.join(", "))
}

/// Endings of fetches that name how they are compared.
const METHODS: [(&str, &str); 7] = [
    ("_beg", "beg"),
    ("_end", "end"),
    ("_sub", "sub"),
    ("_reg", "reg"),
    ("_dom", "dom"),
    ("_dir", "dir"),
    ("_len", "len"),
];

/// `path_beg` is the path, `hdr_len(x)` the header.
fn without_method(fetch: &str) -> String {
    let (name, rest) = fetch.split_at(fetch.find('(').unwrap_or(fetch.len()));
    let bare = METHODS.iter().find_map(|(ending, _)| name.strip_suffix(ending));
    format!("{}{rest}", bare.unwrap_or(name))
}

/// A list in a file, as a route names it.
fn list_file(path: Option<&String>) -> Result<String, String> {
    let path = path.ok_or("-f needs a file")?;
    match path.starts_with('/') {
        true => Ok(format!("@{path}")),
        false => Err(format!("the list {path} is named by an absolute path: \"@/etc/evenkeel/list\"")),
    }
}

/// A text that fits a line of a file, or one of the values beside it.
fn listed(text: &str, kind: &str, folds: bool, files: &[String], values: &[&str]) -> Result<String, String> {
    let matching = match kind {
        "" | "str" => "exact",
        "beg" => "begin",
        "end" => "end",
        "sub" => "contains",
        "dom" => "domain-in-order",
        "dir" => "directory-in-order",
        "reg" => "regex",
        _ => return Err(format!("a file of values for -m {kind} has no counterpart")),
    };
    let fold = if folds { ",fold" } else { "" };
    let inner = text.strip_suffix('}').filter(|text| text.starts_with('{') && !text[1..].contains('{'));
    let inner = inner.ok_or("a file of values is for one sample, not for a text of several")?;
    let of = |file: &String| {
        let converted =
            format!("{inner}|listed({},{matching}{fold})}}", quoted(file.trim_start_matches('@')));
        format!("text({}, \"1\")", quoted(&converted))
    };
    let mut all: Vec<String> = files.iter().map(of).collect();
    if !values.is_empty() {
        all.push(compared(("text", Some(text)), kind, folds, values)?);
    }
    Ok(all.join(" || "))
}

/// A test of a sample with converters, or of a variable.
fn converted(fetch: &str, words: &[String]) -> Result<String, String> {
    // Nothing is what two texts that are the same differ by.
    let same = sample::chain(fetch).last().is_some_and(|(name, _)| name == "strcmp");
    if same && words.iter().map(String::as_str).ne(["eq", "0"]) {
        return Err("strcmp is compared with `eq 0` alone".into());
    }
    let plain = fetch.replace(",strcmp(", ",secure_memcmp(");
    let template = match is_list(fetch) {
        true => sample::each(&plain, false)?,
        false => sample::template(&plain)?,
    };
    let is_test = sample::chain(fetch).last().is_some_and(|(name, _)| name == "secure_memcmp");
    if same || is_test && words.is_empty() {
        return Ok(format!("text({}, \"1\")", quoted(&template)));
    }
    let (mut kind, mut folds, mut values) = ("str", false, Vec::new());
    let mut files: Vec<String> = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-i" => folds = true,
            "-n" => {}
            "-u" => drop(rest.next()),
            "-m" => kind = rest.next().map_or("", String::as_str),
            "-f" => files.push(list_file(rest.next())?),
            "--" => values.extend(rest.by_ref().map(String::as_str)),
            flag if is_flag(flag) => return Err(format!("the flag {flag} has no counterpart")),
            value => values.push(value),
        }
    }
    if kind == "ip" {
        values.extend(files.iter().map(String::as_str));
        return Ok(format!("address({}, {})", quoted(&template), texts(&values)));
    }
    if !files.is_empty() {
        return listed(&template, kind, folds, &files, &values);
    }
    let signs = ["lt", "le", "gt", "ge", "eq"];
    let last = sample::chain(fetch).pop().map(|(name, _)| name).unwrap_or_default();
    let is_number = |name: &str| {
        ["length", "int", "crc32", "crc32c", "djb2", "sdbm", "xxh32", "cpl", "date"].contains(&name)
            || ["add", "sub", "mul", "div", "mod", "and", "or", "xor", "neg"].contains(&name)
    };
    if kind == "int" || kind == "str" && is_number(&last) || values.first().is_some_and(|v| signs.contains(v))
    {
        let test = numbers(&format!("number({})", quoted(&template)), &values)?;
        // A text that is not there has no length.
        let there = if last == "length" { sample::presence(fetch) } else { String::new() };
        return Ok(if there.is_empty() { test } else { crate::draft::both(&there, &test) });
    }
    if kind == "found" {
        return Ok(format!("present({})", quoted(&template)));
    }
    if kind == "bool" {
        let flag = template.strip_suffix('}').map(|t| format!("{t}|if(\"1\",\"0\")}}")).unwrap_or(template);
        return Ok(format!("text({}, \"1\")", quoted(&flag)));
    }
    if values.is_empty() {
        return Err(format!("the test {fetch} has no values"));
    }
    if kind == "len" {
        return lengths(("text", Some(&template)), &values);
    }
    compared(("text", Some(&template)), kind, folds, &values)
}

/// The values of a list of them, with converters: each is asked.
fn is_list(fetch: &str) -> bool {
    let parts = sample::chain(fetch);
    let Some((name, argument)) = parts.first() else { return false };
    let list = ["hdr", "req.hdr", "res.hdr", "shdr", "hdr_ip", "req.hdr_ip"].contains(&name.as_str());
    let argument = argument.as_deref().unwrap_or("");
    list && !argument.contains(',') && !argument.eq_ignore_ascii_case("host")
}

/// How many bytes a text has, as a regular expression; nothing holds of a text that is not there.
fn lengths((function, argument): (&str, Option<&str>), values: &[&str]) -> Result<String, String> {
    if function == "path" {
        return numbers("number(\"{path|length}\")", values);
    }
    let subject = argument.map_or_else(|| function.to_owned(), |a| format!("{function}({})", quoted(a)));
    let signs = ["eq", "lt", "le", "gt", "ge"];
    let sign = values.first().copied().filter(|word| signs.contains(word));
    let one = |value: &&str| -> Option<String> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n < 1000);
        let (from, to) = match (sign, value.split_once(':')) {
            (None, Some((from, to))) => (from.to_owned(), to.to_owned()),
            (None | Some("eq"), None) => (number(value)?.to_string(), number(value)?.to_string()),
            (Some("lt"), _) => (String::new(), number(value)?.checked_sub(1)?.to_string()),
            (Some("le"), _) => (String::new(), number(value)?.to_string()),
            (Some("gt"), _) => ((number(value)? + 1).to_string(), String::new()),
            (Some("ge"), _) => (number(value)?.to_string(), String::new()),
            _ => return None,
        };
        let good = [&from, &to].iter().all(|n| n.is_empty() || number(n).is_some());
        let from = if from.is_empty() { "0" } else { &from };
        good.then(|| format!("{subject} =~ {}", quoted(&format!("^(?s-u:.{{{from},{to}}})$"))))
    };
    let all: Option<Vec<String>> = values.iter().filter(|word| Some(**word) != sign).map(one).collect();
    all.filter(|all| !all.is_empty())
        .map(|all| all.join(" || "))
        .ok_or_else(|| format!("the lengths {} have no counterpart", values.join(" ")))
}

fn is_flag(word: &str) -> bool {
    word.len() == 2 && word.starts_with('-') && word.as_bytes()[1].is_ascii_alphabetic()
}

/// What a text is compared with: by patterns with `*`, or by a regular expression where those cannot
/// say it.
fn compared(
    (function, argument): (&str, Option<&str>),
    kind: &str,
    folds: bool,
    values: &[&str],
) -> Result<String, String> {
    let subject = match argument {
        Some(argument) => format!("{function}({})", quoted(argument)),
        None => function.to_owned(),
    };
    // Names of hosts are compared without case in any case.
    let folds = folds && function != "host";
    let flag = if folds { "(?i)" } else { "" };
    let regex = |text: &str| format!("{subject} =~ {}", quoted(&format!("{flag}{text}")));
    if kind == "reg" {
        return Ok(values.iter().map(|v| regex(v)).collect::<Vec<_>>().join(" || "));
    }
    let ends = if kind == "dom" { "[/?.:]" } else { "[/?]" };
    let trimmed: Vec<&str> = match kind {
        "dom" => values.iter().map(|v| v.trim_matches(['/', '?', '.', ':'])).collect(),
        "dir" => values.iter().map(|v| v.trim_matches(['/', '?'])).collect(),
        _ => values.to_vec(),
    };
    let listed = |v: &&str| v.starts_with('@');
    if folds && values.iter().any(listed) {
        return Err("values of a file are compared with case: -i has no counterpart for -f".into());
    }
    if folds || trimmed.iter().any(|v| v.contains('*')) && !values.iter().any(listed) {
        let all: Vec<String> = trimmed.iter().map(|v| escaped(v)).collect();
        let any = if all.len() == 1 { all[0].clone() } else { format!("(?:{})", all.join("|")) };
        return Ok(regex(&match kind {
            "" | "str" => format!("^{any}$"),
            "beg" => format!("^{any}"),
            "end" => format!("{any}$"),
            "sub" => any,
            "dir" | "dom" => format!("(?:^|{ends}){any}(?:{ends}|$)"),
            other => return Err(format!("the match -m {other} has no counterpart")),
        }));
    }
    let call = |values: &[String]| {
        let first: Vec<String> = argument.map(quoted).into_iter().collect();
        let all: Vec<String> = first.into_iter().chain(values.iter().map(|v| quoted(v))).collect();
        format!("{function}({})", all.join(", "))
    };
    let patterns = |shape: fn(&str) -> String| trimmed.iter().map(|v| shape(v)).collect::<Vec<_>>();
    let each = |shape: fn(&str) -> Vec<String>| trimmed.iter().flat_map(|v| shape(v)).collect::<Vec<_>>();
    Ok(match kind {
        "" | "str" => call(&patterns(|v| v.to_owned())),
        "beg" => call(&patterns(|v| format!("{v}*"))),
        "end" => call(&patterns(|v| format!("*{v}"))),
        "sub" => call(&patterns(|v| format!("*{v}*"))),
        "dir" if function == "path" => call(&each(|v| vec![format!("*/{v}/*"), format!("*/{v}")])),
        "dom" if function == "host" => {
            call(&each(|v| vec![v.to_owned(), format!("*.{v}"), format!("{v}.*"), format!("*.{v}.*")]))
        }
        "dir" | "dom" => {
            let all: Vec<String> = trimmed.iter().map(|v| escaped(v)).collect();
            regex(&format!("(?:^|{ends})(?:{})(?:{ends}|$)", all.join("|")))
        }
        "found" => call(&["*".to_owned()]),
        other => return Err(format!("the match -m {other} has no counterpart")),
    })
}

/// A text as a regular expression that means it alone.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// `payload(0,N)` with what it is or how it begins.
fn payload(fetch: &str, kind: &str, values: &[&str]) -> Result<String, String> {
    let inside = fetch.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
    let length = inside.strip_prefix("0,").and_then(|n| n.trim().parse::<usize>().ok());
    let length = length.ok_or("payload is carried over from its beginning")?;
    let bytes = |value: &&str| match kind {
        "bin" => value.to_ascii_lowercase(),
        _ => value.bytes().map(|b| format!("{b:02x}")).collect(),
    };
    let texts: Vec<String> = values.iter().map(bytes).collect();
    let whole = texts.iter().all(|text| text.len() == 2 * length && length <= 64);
    if !(["bin", "str"].contains(&kind) && whole || kind == "beg") || texts.is_empty() {
        return Err(format!("the test {fetch} -m {kind} has no counterpart"));
    }
    let all: Vec<String> = texts.iter().map(|text| quoted(&format!("{text}*"))).collect();
    Ok(format!("first-bytes-hex({})", all.join(", ")))
}

fn texts(values: &[&str]) -> String {
    values.iter().map(|v| quoted(v)).collect::<Vec<_>>().join(", ")
}

fn numbers(subject: &str, values: &[&str]) -> Result<String, String> {
    let sign = |word: &str| {
        Some(match word {
            "lt" => "<",
            "le" => "<=",
            "gt" => ">",
            "ge" => ">=",
            "eq" => "==",
            _ => return None,
        })
    };
    if let [word, number] = values
        && let Some(sign) = sign(word)
        && number.parse::<u64>().is_ok()
    {
        return Ok(format!("{subject} {sign} {number}"));
    }
    let one = |text: &&str| -> Option<String> {
        if text.parse::<u64>().is_ok() {
            return Some(format!("{subject} == {text}"));
        }
        let (from, to) = text.split_once(':')?;
        let good = [from, to].iter().all(|n| n.is_empty() || n.parse::<u64>().is_ok());
        match (good, from, to) {
            (false, ..) | (_, "", "") => None,
            (_, from, "") => Some(format!("{subject} >= {from}")),
            (_, "", to) => Some(format!("{subject} <= {to}")),
            (_, from, to) => Some(format!("({subject} >= {from} && {subject} <= {to})")),
        }
    };
    let plain = values.iter().filter(|v| sign(v).is_none());
    let each: Option<Vec<String>> = plain.map(one).collect();
    let each = each.filter(|all| !all.is_empty());
    each.map(|all| all.join(" || "))
        .ok_or_else(|| format!("the numbers {} have no counterpart", values.join(" ")))
}
