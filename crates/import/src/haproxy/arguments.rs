//! Words behind the last one that a keyword takes: HAProxy refuses them, and so they are told.
//!
//! Who writes one more meant something by it, a condition without its `if` above all.

/// Most words behind a keyword of `global`.
const GLOBAL: &[(&str, usize)] = &[
    ("busy-polling", 0),
    ("ca-base", 1),
    ("chroot", 1),
    ("crt-base", 1),
    ("daemon", 0),
    ("gid", 1),
    ("group", 1),
    ("insecure-fork-wanted", 0),
    ("log-tag", 1),
    ("max-spread-checks", 1),
    ("maxcompcpuusage", 1),
    ("maxcomprate", 1),
    ("maxconn", 1),
    ("maxpipes", 1),
    ("nbthread", 1),
    ("node", 1),
    ("noepoll", 0),
    ("pidfile", 1),
    ("quiet", 0),
    ("spread-checks", 1),
    ("strict-limits", 0),
    ("tune.bufsize", 1),
    ("tune.http.maxhdr", 1),
    ("tune.maxrewrite", 1),
    ("tune.ssl.default-dh-param", 1),
    ("uid", 1),
    ("ulimit-n", 1),
    ("user", 1),
    ("zero-warning", 0),
];

/// The same in proxies.
const PROXIES: &[(&str, usize)] = &[
    ("backlog", 1),
    ("default_backend", 1),
    ("disabled", 0),
    ("dispatch", 1),
    ("enabled", 0),
    ("fullconn", 1),
    ("http-reuse", 1),
    ("id", 1),
    ("maxconn", 1),
    ("mode", 1),
    ("retries", 1),
];

/// Options that are there or not.
const OPTIONS: &[&str] = &[
    "abortonclose",
    "accept-invalid-http-request",
    "accept-invalid-http-response",
    "allbackups",
    "clitcpka",
    "contstats",
    "dontlog-normal",
    "dontlognull",
    "h1-case-adjust-bogus-client",
    "h1-case-adjust-bogus-server",
    "http-buffer-request",
    "http-ignore-probes",
    "http-keep-alive",
    "http-no-delay",
    "http-pretend-keepalive",
    "http-server-close",
    "http-use-proxy-header",
    "httpclose",
    "independent-streams",
    "ldap-check",
    "log-health-checks",
    "log-separate-errors",
    "logasap",
    "nolinger",
    "persist",
    "prefer-last-server",
    "redis-check",
    "socket-stats",
    "splice-auto",
    "splice-request",
    "splice-response",
    "srvtcpka",
    "ssl-hello-chk",
    "tcp-check",
    "tcp-smart-accept",
    "tcp-smart-connect",
    "tcpka",
];

/// What stands behind an answer of a rule before its condition.
const OF_ANSWERS: &[&str] = &[
    "deny_status",
    "status",
    "content-type",
    "errorfile",
    "errorfiles",
    "default-errorfiles",
    "file",
    "lf-file",
    "string",
    "lf-string",
    "hdr",
];

/// Why a line has a word too many, as HAProxy says it.
pub fn surplus(section: &str, words: &[String]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = match words.as_slice() {
        ["no" | "default", rest @ ..] => rest,
        all => all,
    };
    let most = |table: &[(&str, usize)], keyword: &str| {
        let (_, most) = table.iter().find(|(known, _)| *known == keyword)?;
        let more = words.get(most + 1)?;
        Some(format!("'{keyword}' cannot handle unexpected argument '{more}'."))
    };
    match (section, words) {
        ("global", [keyword, ..]) => most(GLOBAL, keyword),
        ("defaults" | "listen" | "frontend" | "backend", [keyword, ..]) => {
            most(PROXIES, keyword).or_else(|| of_a_proxy(words))
        }
        _ => None,
    }
}

fn of_a_proxy(words: &[&str]) -> Option<String> {
    let condition = |word: &&&str| ["if", "unless"].contains(*word);
    let without = |rest: &[&str]| rest.first().filter(|word| !condition(word)).map(|word| (*word).to_owned());
    match words {
        ["option", option, more, ..] if OPTIONS.contains(option) => {
            Some(format!("'option {option}' cannot handle unexpected argument '{more}'."))
        }
        ["option", "httplog", more, ..] if *more != "clf" => {
            Some("keyword 'httplog' only supports option 'clf'.".into())
        }
        ["timeout", which, value, more, ..] => {
            Some(format!("'timeout {which}' : unexpected extra argument '{more}' after value '{value}'."))
        }
        ["log-format", _, _, ..] => {
            Some("log-format expects only one argument, don't forget to escape spaces!".into())
        }
        [
            kind @ ("http-request" | "http-response" | "http-after-response"),
            what @ ("set-header" | "add-header"),
            _,
            _,
            rest @ ..,
        ] => without(rest).map(|more| expects(kind, what, &more)),
        [kind @ ("http-response" | "http-after-response"), "deny", rest @ ..] => without(rest)
            .filter(|more| !OF_ANSWERS.contains(&more.as_str()))
            .map(|more| expects(kind, "deny", &more)),
        [
            "tcp-request" | "tcp-response",
            at @ ("connection" | "session" | "content"),
            what @ ("accept" | "reject"),
            rest @ ..,
        ] => {
            let more = without(rest)?;
            Some(format!("'{} {at} {what}' only accepts 'if' or 'unless' (got '{more}')", words[0]))
        }
        ["use_backend", _, rest @ ..] => without(rest).map(|more| {
            format!("unexpected keyword '{more}' after switching rule, only 'if' and 'unless' are allowed.")
        }),
        ["stick", "on" | "match" | "store-request" | "store-response", _, rest @ ..] => {
            let rest = match rest {
                ["table", _, rest @ ..] => rest,
                all => all,
            };
            without(rest).map(|more| format!("'stick': unknown keyword '{more}'."))
        }
        ["balance", method, rest @ ..] => balance(method, rest),
        _ => of_words(words),
    }
}

/// Words that are read one by one, each with so many behind it.
const STICK_TABLE: &[(&str, usize)] = &[
    ("type", 1),
    ("len", 1),
    ("size", 1),
    ("expire", 1),
    ("store", 1),
    ("peers", 1),
    ("srvkey", 1),
    ("write-to", 1),
    ("nopurge", 0),
    ("recv-only", 0),
];
const HTTP_SEND: &[(&str, usize)] = &[
    ("comment", 1),
    ("meth", 1),
    ("uri", 1),
    ("uri-lf", 1),
    ("ver", 1),
    ("hdr", 2),
    ("hdr-lf", 2),
    ("body", 1),
    ("body-lf", 1),
];
const TCP_CONNECT: &[(&str, usize)] = &[
    ("port", 1),
    ("addr", 1),
    ("comment", 1),
    ("sni", 1),
    ("alpn", 1),
    ("proto", 1),
    ("send-proxy", 0),
    ("ssl", 0),
    ("via-socks4", 0),
    ("linger", 0),
    ("default", 0),
];
const SOURCE: &[(&str, usize)] = &[("usesrc", 1), ("interface", 1)];
const USERS: &[(&str, usize)] = &[("user", 1), ("post-41", 0), ("pre-41", 0)];

/// The first word that is none of these.
fn stray<'a>(mut rest: &[&'a str], known: &[(&str, usize)]) -> Option<&'a str> {
    while let [word, more @ ..] = rest {
        let Some((_, takes)) = known.iter().find(|(name, _)| name == word) else { return Some(word) };
        rest = more.get(*takes..).unwrap_or(&[]);
    }
    None
}

fn of_words(words: &[&str]) -> Option<String> {
    let said = |what: &str, more: &str| Some(format!("'{what}' cannot handle unexpected argument '{more}'."));
    match words {
        ["stick-table", rest @ ..] => {
            stray(rest, STICK_TABLE).map(|more| format!("stick-table: unknown argument '{more}'."))
        }
        ["http-check", "disable-on-404" | "send-state", more, ..] => said("http-check", more),
        [kind @ ("http-check" | "tcp-check"), "connect", rest @ ..] => {
            stray(rest, TCP_CONNECT).and_then(|more| said(&format!("{kind} connect"), more))
        }
        ["http-check", "send", rest @ ..] => {
            stray(rest, HTTP_SEND).and_then(|more| said("http-check send", more))
        }
        ["tcp-check", what @ ("send" | "send-lf" | "send-binary" | "send-binary-lf"), _, rest @ ..] => {
            stray(rest, &[("comment", 1)]).and_then(|more| said(&format!("tcp-check {what}"), more))
        }
        ["option", check @ ("mysql-check" | "pgsql-check"), rest @ ..] => {
            stray(rest, USERS).and_then(|more| said(&format!("option {check}"), more))
        }
        ["hash-type", _, function, ..]
            if !["sdbm", "djb2", "crc32", "wt6", "none", "avalanche"].contains(function) =>
        {
            Some(format!(
                "'hash-type' only supports 'sdbm', 'djb2', 'crc32', or 'wt6' hash functions (got '{function}')."
            ))
        }
        ["hash-type", _, _, modifier, ..] if *modifier != "avalanche" => Some(format!(
            "'hash-type' only supports 'avalanche' as a modifier for hash functions (got '{modifier}')."
        )),
        ["source", _, rest @ ..] => stray(rest, SOURCE).map(|more| {
            format!("'source' only supports optional keywords 'interface' and 'usesrc' (got '{more}').")
        }),
        _ => None,
    }
}

fn expects(kind: &str, what: &str, more: &str) -> String {
    format!("'{kind} {what}' expects either 'if' or 'unless' followed by a condition but found '{more}'.")
}

fn balance(method: &str, rest: &[&str]) -> Option<String> {
    let allowed: &[&str] = match method {
        "uri" => &["len", "depth", "path-only", "whole"],
        "url_param" => &["check_post", "max_wait"],
        _ if method.starts_with("hdr(") => &["use_domain_only"],
        _ => return None,
    };
    let rest = if method == "url_param" { rest.get(1..)? } else { rest };
    let more = rest.iter().find(|w| !allowed.contains(*w) && w.parse::<u32>().is_err())?;
    let list = allowed.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
    Some(format!("balance {method} only accepts {list} (got '{more}')."))
}
