//! Keywords of a section that nothing has taken: each is told, with the reason where one is known.

use super::proxy::{Proxy, Word};
use super::{compression, keywords};
use crate::draft::Draft;

/// Keywords that Evenkeel does by itself, or that mean nothing to it.
const MOOT: &[&str] = &[
    "mode",
    "default-server",
    "server",
    "server-template",
    "acl",
    "bind",
    "description",
    "id",
    "backlog",
    // Without a least number of connections it changes nothing, and that is told.
    "fullconn",
    "bind-process",
    "grace",
    "load-server-state-from-file",
    "http-reuse",
    "dispatch",
    "max-keep-alive-queue",
    "default_backend",
    "balance",
    "hash-balance-factor",
    "source",
    "cookie",
    "stick-table",
    "timeout",
    "contimeout",
    "clitimeout",
    "srvtimeout",
    "maxconn",
    "http-check",
    "tcp-check",
    "persist",
    "retries",
    "retry-on",
    "appsession",
    "enabled",
    "disabled",
    "option",
];
const TIMEOUTS: &[&str] = &[
    "check",
    "client",
    "connect",
    "http-keep-alive",
    "http-request",
    "queue",
    "server",
    "tarpit",
    "tunnel",
    "clitimeout",
    "contimeout",
    "srvtimeout",
];
/// Options that are how Evenkeel works anyway, or that mean nothing to it.
const MOOT_OPTIONS: &[&str] = &[
    "redispatch",
    "httpclose",
    "http-server-close",
    "http-keep-alive",
    "forceclose",
    "http-pretend-keepalive",
    "http-tunnel",
    "httplog",
    "httpslog",
    "tcplog",
    "dontlognull",
    "dontlog-normal",
    "log-separate-errors",
    "logasap",
    "log-health-checks",
    "nolinger",
    "splice-auto",
    "splice-request",
    "splice-response",
    "contstats",
    "tcp-smart-accept",
    "tcp-smart-connect",
    "prefer-last-server",
    "http-no-delay",
    "http-use-proxy-header",
    "http-use-htx",
    "httpchk",
    "ssl-hello-chk",
    "smtpchk",
    "ldap-check",
    "mysql-check",
    "pgsql-check",
    "redis-check",
    "tcp-check",
    "forwardfor",
    "http-buffer-request",
    "originalto",
    "socket-stats",
    "independent-streams",
    "http-ignore-probes",
    "idle-close-on-response",
    // See `request-heads`.
    "accept-invalid-http-request",
    // See `header_names`.
    "http-restrict-req-hdr-names",
    // See `Proxy::closes_connections`, `Proxy::pool`.
    "abortonclose",
    "allbackups",
    // See `tcp_keep_alive`.
    "tcpka",
    "clitcpka",
    "srvtcpka",
];
/// Options without which all works, but not quite as it did.
const OPTIONS_THAT_DIFFER: &[(&str, &str)] = &[
    ("persist", "a server that is down gets no clients, whatever their cookie"),
    ("external-check", "the script runs as a user that owns nothing, without HAPROXY_… in its environment"),
    ("h1-case-adjust-bogus-client", "names of headers keep the case that they came with"),
    ("h1-case-adjust-bogus-server", "names of headers keep the case that they came with"),
];

/// What is read as a rule, elsewhere.
const RULES: &[&str] = &[
    "tcp-request",
    "http-request",
    "http-response",
    "http-after-response",
    "block",
    "redirect",
    "use_backend",
    "capture",
    "monitor-uri",
    "monitor-net",
    "use-server",
];

/// Tells of an option that is not carried over, or not quite.
fn what_is_left_of_option(word: &Word, draft: &mut Draft) {
    if super::header_names::is_refused(word, draft) || MOOT_OPTIONS.contains(&word.arg(1)) {
        return;
    }
    match OPTIONS_THAT_DIFFER.iter().find(|(option, _)| *option == word.arg(1)) {
        Some((option, differs)) => draft.note(word.line, option, *differs),
        None => {
            let words: Vec<&str> = word.words.iter().map(String::as_str).collect();
            super::remedies::diagnose(draft, word.line, &word.written, &words);
        }
    }
}

impl Proxy {
    /// What nobody has looked at.
    pub(super) fn what_is_left(&self, draft: &mut Draft) {
        for word in &self.words {
            let keyword = word.words[0].as_str();
            if keyword == "option" && self.option(word.arg(1)).is_none() {
                continue;
            }
            let named = if keyword == "option" { format!("option {}", word.arg(1)) } else { keyword.into() };
            if let Some(why) = keywords::differs(keywords::SECTION_DIFFERS, &named) {
                draft.note(word.line, &named, why);
            }
            let rule = RULES.contains(&keyword);
            match keyword {
                _ if rule => {}
                // See `mail::receivers`.
                "email-alert" => {}
                "tcp-response" if word.arg(1) == "inspect-delay" => {}
                // What is let through anyway.
                "tcp-response" if word.words[1..] == ["content", "accept"] || self.sees(word) => {}
                "stick" => {}
                "compression" if !compression::is_of_requests(word) => {}
                "filter" if word.arg(1) == "compression" => {}
                word if ["clitcpka-", "srvtcpka-"].iter().any(|side| word.starts_with(side)) => {}
                // See `logs::of_all`.
                "log" | "log-tag" => {}
                "option" => what_is_left_of_option(word, draft),
                "no" => {}
                "stats" if draft.run.is_some() => {}
                "stats" => {
                    draft.note(word.line, "stats", "the page is Evenkeel's web UI: see [admin] listen")
                }
                "errorfile" | "errorfiles" | "http-error" | "log-format" => {}
                "errorloc" | "errorloc302" | "errorloc303" => {}
                "monitor" if word.arg(1) == "fail" => {}
                "hash-type"
                    if draft.run.is_some() && word.arg(1) == "map-based" && self.maps_keys("uri-hash") => {}
                "hash-type" => {
                    draft.note(
                        word.line,
                        "hash-type",
                        "servers are chosen by this program's own hash, which is consistent",
                    );
                }
                "unique-id-format" | "unique-id-header" if self.is_http() => {}
                "timeout" if ["client-fin", "server-fin"].contains(&word.arg(1)) => {
                    let why = "what is closed one way alone ends after the usual time of silence";
                    draft.note(word.line, &format!("timeout {}", word.arg(1)), why);
                }
                "timeout" if word.arg(1) == "client-hs" => {
                    let why =
                        "not carried over: TLS has the time of the first request: write timeout http-request";
                    draft.left(word.line, "timeout client-hs", why);
                }
                "timeout" if !TIMEOUTS.contains(&word.arg(1)) => {
                    draft.wrong(word.line, "timeout", format!("unknown timeout '{}'", word.arg(1)));
                }
                // See `checks::script`.
                "external-check" if word.arg(1) == "command" => {}
                "external-check" if word.arg(1) == "path" => {
                    draft.note(
                        word.line,
                        "external-check path",
                        "scripts have the usual folders in their PATH",
                    );
                }
                keyword if MOOT.contains(&keyword) || !keywords::is_of_sections(keyword) => {}
                _ => {
                    let words: Vec<&str> = word.words.iter().map(String::as_str).collect();
                    super::remedies::diagnose(draft, word.line, &word.written, &words);
                }
            }
        }
    }
}
