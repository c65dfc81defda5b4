//! keepalived's checkers as health checks.
//!
//! What nothing is written of is what keepalived takes then (its manual, "virtual_server" and
//! "CHECKER_TYPE"): a check each minute, five seconds for an answer, one retry, up again at the first
//! success.

use super::seconds;
use crate::draft::{Draft, Table, unverified};
use crate::tree::Node;
use crate::words::address;

/// Keys of a check that each server may have of its own.
pub const OWN: &[&str] =
    &["port", "address", "timeout", "interval", "fast-interval", "down-interval", "fall", "tls"];
pub const CHECKERS: &[&str] =
    &["TCP_CHECK", "HTTP_GET", "SSL_GET", "SMTP_CHECK", "DNS_CHECK", "MISC_CHECK", "PING_CHECK", "UDP_CHECK"];

/// Words of all checkers that are read, or say nothing here.
const OF_ALL: &[&str] = &[
    "connect_port",
    "connect_timeout",
    "connect_ip",
    "retry",
    "delay_loop",
    "delay_before_retry",
    "warmup",
    "alpha",
    "log_all_failures",
];

/// A checker with the blocks that its words may stand in.
struct Checker<'a> {
    node: &'a Node,
    real: &'a Node,
    service: &'a Node,
}

impl<'a> Checker<'a> {
    /// Its own word, else that of its server or of the service.
    fn value(&self, key: &str) -> Option<&'a str> {
        [self.node, self.real, self.service].into_iter().find_map(|node| node.value(key))
    }

    fn kind(&self) -> &'a str {
        &self.node.words[0]
    }

    fn is_http(&self) -> bool {
        matches!(self.kind(), "HTTP_GET" | "SSL_GET")
    }

    fn speaks_tls(&self) -> bool {
        self.kind() == "SSL_GET"
    }

    /// The host that a page is asked of.
    fn host(&self, url: &'a Node) -> Option<&'a str> {
        url.value("virtualhost").or_else(|| self.value("virtualhost"))
    }

    /// The name that TLS asks for.
    fn sni(&self, url: &'a Node) -> Option<&'a str> {
        let word = self.node.child("enable_sni")?.words.get(1).map_or("", String::as_str);
        self.host(url).filter(|_| !["off", "no", "false"].contains(&word))
    }

    fn urls(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.node.children.iter().filter(|c| c.is("url"))
    }
}

/// The check of a real server; `None` where it has no checker.
pub fn check(real: &Node, service: &Node, draft: &mut Draft) -> Option<Table> {
    let all = real.children.iter().filter(|c| CHECKERS.contains(&c.words[0].as_str()));
    let mut all = all.map(|node| Checker { node, real, service });
    let first = all.next()?;
    let mut check = Table::default();
    let mut pages = Vec::new();
    let known: &[&str] = match first.kind() {
        "TCP_CHECK" => {
            check.text("type", "tcp");
            &[]
        }
        "SMTP_CHECK" => {
            check.text("type", "smtp");
            first.node.value("helo_name").into_iter().for_each(|host| check.text("host", host));
            &["helo_name"]
        }
        "PING_CHECK" => {
            check.text("type", "ping");
            &[]
        }
        "DNS_CHECK" => {
            check.text("type", "dns");
            check.text("name", first.node.value("name").unwrap_or("."));
            &["name"]
        }
        "HTTP_GET" | "SSL_GET" => {
            pages = self::pages(&first, draft);
            OF_HTTP
        }
        "MISC_CHECK" => {
            script(first.node, &mut check);
            &["misc_path", "misc_timeout", "misc_dynamic"]
        }
        other => {
            // A service of UDP need not listen on TCP.
            draft.left(first.node.line, other, "the server is asked for an echo (ICMP) instead");
            check.text("type", "ping");
            &[]
        }
    };
    others(all, &first, &mut pages, draft);
    if first.is_http() {
        requests(&first, pages, &mut check, draft);
    }
    places_and_times(&first, &mut check, draft);
    what_is_left(&first, known, draft);
    Some(check)
}

fn what_is_left(checker: &Checker<'_>, known: &[&str], draft: &mut Draft) {
    for child in &checker.node.children {
        let keyword = child.words[0].as_str();
        if !OF_ALL.contains(&keyword) && !known.contains(&keyword) {
            draft.left(child.line, keyword, "not carried over");
        }
    }
}

/// Further checkers of the same server: pages are requests of the one check, anything else is left.
fn others<'a>(
    rest: impl Iterator<Item = Checker<'a>>,
    first: &Checker<'_>,
    pages: &mut Vec<Table>,
    draft: &mut Draft,
) {
    for more in rest {
        if !first.is_http() || !more.is_http() {
            draft.left(more.node.line, more.kind(), "a server has one check");
            continue;
        }
        for mut page in self::pages(&more, draft) {
            // What is absent is as at the first one, so that it is said here.
            let port = [more.node, first.node].map(|node| node.value("connect_port"));
            let server = more.real.words.get(2).map(String::as_str);
            if let Some(port) = port[0].or(server.filter(|_| port[1].is_some())) {
                page.number("port", port);
            }
            let at = [more.node, first.node].map(|node| node.value("connect_ip").and_then(address));
            let server = more.real.words.get(1).and_then(|host| address(host));
            if let Some(at) = at[0].clone().or(server.filter(|_| at[1].is_some())) {
                page.text("address", at.trim_matches(['[', ']']));
            }
            pages.push(page);
        }
        for key in ["retry", "nb_get_retry", "delay_loop", "delay_before_retry", "connect_timeout"] {
            let line = more.node.child(key).map(|child| child.line);
            if let Some(line) = line.filter(|_| more.value(key) != first.value(key)) {
                let why = format!(
                    "all pages of a server are one check: its times are those of line {}",
                    first.node.line
                );
                draft.left(line, key, why);
            }
        }
        what_is_left(&more, OF_HTTP, draft);
    }
}

/// Where a check goes, how often and how long.
fn places_and_times(checker: &Checker<'_>, check: &mut Table, draft: &mut Draft) {
    let node = checker.node;
    if let Some(port) = node.value("connect_port") {
        check.number("port", port);
    }
    if let Some(address) = node.value("connect_ip").and_then(address) {
        check.text("address", address.trim_matches(['[', ']']));
    }
    // Seconds and retries where nothing is said.
    let (retries, pause) = match checker.kind() {
        "MISC_CHECK" => (0, Some("1")),
        "DNS_CHECK" => (3, None),
        "HTTP_GET" | "SSL_GET" => (1, Some("3")),
        _ => (1, Some("1")),
    };
    let interval = checker.value("delay_loop").unwrap_or("60");
    let pause = checker.value("delay_before_retry").or(pause).unwrap_or(interval);
    let timeout = match checker.kind() {
        "MISC_CHECK" => node.value("misc_timeout").unwrap_or(interval),
        _ => checker.value("connect_timeout").unwrap_or("5"),
    };
    let mut time = |key: &str, text: &str, least_ms: f64| {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match text.parse::<f64>().ok().filter(|value| plain && value * 1000.0 >= least_ms) {
            Some(_) => check.text(key, &seconds(text)),
            None => draft.wrong(node.line, text, format!("it is no time for `{key}`")),
        }
    };
    time("timeout", timeout, 10.0);
    time("interval", interval, 50.0);
    time("fast-interval", pause, 50.0);
    time("down-interval", interval, 50.0);
    check.set("rise", 1u8);
    // It is a word of pages alone.
    let of_pages = node.value("nb_get_retry").filter(|_| checker.is_http());
    let said = of_pages.or_else(|| checker.value("retry"));
    let retries = said.and_then(|text| text.parse::<u32>().ok()).unwrap_or(retries);
    // The first failure, and every retry.
    check.set("fall", retries.saturating_add(1).min(100));
}

/// Words of a checker of pages that are read, or say nothing here.
const OF_HTTP: &[&str] =
    &["url", "nb_get_retry", "virtualhost", "enable_sni", "http_protocol", "fast_recovery"];

/// The pages of a checker, each as a request of a check.
fn pages(checker: &Checker<'_>, draft: &mut Draft) -> Vec<Table> {
    let mut all = Vec::new();
    for url in checker.urls() {
        if url.value("path").is_none() {
            draft.wrong(url.line, "url", "it has no path: keepalived ignores it, and so it is here");
            continue;
        }
        let mut request = Table::default();
        if checker.speaks_tls() {
            request.set("tls", true);
            checker.sni(url).into_iter().for_each(|sni| request.text("sni", sni));
        }
        page(url, &mut request, draft);
        checker.host(url).into_iter().for_each(|host| request.text("host", host));
        all.push(request);
    }
    all
}

/// The first page is the check's own, the others come then.
fn requests(checker: &Checker<'_>, pages: Vec<Table>, check: &mut Table, draft: &mut Draft) {
    let mut pages = pages.into_iter();
    let Some(mut first) = pages.next() else {
        let why = "it names no page, which keepalived ignores: a TCP connection is tried";
        draft.left(checker.node.line, checker.kind(), why);
        return check.text("type", "tcp");
    };
    check.text("type", "http");
    let sni = first.text_of("sni").map(str::to_owned);
    first.lines.retain(|line| !["tls", "sni"].contains(&line.key.as_str()));
    check.lines.extend(first.lines);
    if checker.speaks_tls() {
        let mut tls = unverified();
        sni.iter().for_each(|sni| tls.text("sni", sni));
        check.set("tls", tls);
    }
    let others: Vec<Table> = pages.collect();
    if !others.is_empty() {
        check.set("then", others);
    }
}

/// The script of a `MISC_CHECK`. keepalived adds no arguments to those that are written.
fn script(found: &Node, check: &mut Table) {
    check.text("type", "script");
    let script = found.value("misc_path").unwrap_or("");
    let mut words = script.split_whitespace();
    // Without it any status but 0 is a failure.
    if found.child("misc_dynamic").is_some() {
        check.text("command", words.next().unwrap_or(""));
        let arguments: Vec<&str> = words.collect();
        if !arguments.is_empty() {
            check.texts("arguments", &arguments);
        }
        check.set("keepalived", true);
    } else {
        check.text("command", SHELL);
        check.texts("arguments", &["-c", &format!("exec {}", for_shell(script)), "misc_check"]);
    }
}

const SHELL: &str = "/bin/sh";

/// The words of a command, none of which the shell makes something else of.
fn for_shell(command: &str) -> String {
    let plain = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./:@%+=,-".contains(&b));
    let word = |word: &str| match plain(word) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    command.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Where servers of a service have scripts of their own: one that runs each server's, by its address and port.
pub fn each_its_own(service: &Node, draft: &mut Draft) -> Option<Table> {
    let servers = service.children.iter().filter(|child| child.is("real_server"));
    let mut each = Vec::new();
    for real in servers {
        let checker = real.children.iter().find(|child| CHECKERS.contains(&child.words[0].as_str()))?;
        let script = checker.value("misc_path").filter(|_| checker.is("MISC_CHECK"))?;
        let host = real.words.get(1).and_then(|host| address(host))?;
        each.push((host.trim_matches(['[', ']']).to_owned(), real.words.get(2), script, checker));
    }
    let dynamic = |checker: &Node| checker.child("misc_dynamic").is_some();
    let (_, _, first, checker) = each.first()?;
    if each.iter().all(|(_, _, script, other)| script == first && dynamic(checker) == dynamic(other)) {
        return None;
    }
    // The address is enough, unless one machine has several servers.
    let shared = each.iter().any(|(host, port, ..)| each.iter().any(|(h, p, ..)| h == host && p != port));
    let mut cases = String::new();
    for (host, port, script, checker) in &each {
        let place = if shared { format!("{host}-{}", port.map_or("0", |port| port)) } else { host.clone() };
        let run = for_shell(script);
        let run = if dynamic(checker) {
            format!("{run}; case $? in 1|126|127) exit 1 ;; esac")
        } else {
            format!("exec {run}")
        };
        cases.push_str(&format!("{place}) {run} ;; "));
        if dynamic(checker) {
            let why = "each server has a script of its own: what it says of the server's weight is not carried over";
            draft.left(checker.line, "misc_dynamic", why);
        }
    }
    let asked = if shared { "$3-$4" } else { "$3" };
    let script = format!("case {asked} in {cases}*) exit 1 ;; esac");
    let mut check = Table::default();
    check.text("command", SHELL);
    check.texts("arguments", &["-c", &script, "misc_check"]);
    Some(check)
}

/// A page that is asked for, and what is expected of it.
fn page(url: &Node, request: &mut Table, draft: &mut Draft) {
    let (mut statuses, mut pattern, mut refuses, mut flags) = (Vec::new(), None, false, String::new());
    for child in &url.children {
        let value = child.words.get(1).map_or("", String::as_str);
        match child.words[0].as_str() {
            "path" => request.text("path", value),
            "status_code" => statuses.extend(child.words[1..].iter().filter_map(|word| {
                let found = status(word);
                if found.is_none() {
                    draft.wrong(
                        child.line,
                        &format!("status_code {word}"),
                        "it is no status: it is left out",
                    );
                }
                found
            })),
            "regex" => pattern = Some((child.line, value)),
            "regex_no_match" => refuses = true,
            "regex_options" => {
                for option in &child.words[1..] {
                    match flag(option) {
                        Some(flag) => flags.push_str(flag),
                        None => {
                            draft.left(child.line, &format!("regex_options {option}"), "not carried over")
                        }
                    }
                }
            }
            "virtualhost" | "regex_stack" => {}
            "digest" => {
                let why = "the page is not compared: write expect = \"a text of the page\" instead of a sum of all of it";
                draft.left(child.line, "digest", why);
            }
            keyword => draft.left(child.line, keyword, "not carried over"),
        }
    }
    request.text("status", &if statuses.is_empty() { "200-299".into() } else { statuses.join(",") });
    let Some((line, pattern)) = pattern else { return };
    let pattern = if flags.is_empty() { pattern.to_owned() } else { format!("(?{flags}){pattern}") };
    match evenkeel_rules::regex(&pattern, false) {
        Ok(_) => request.text(if refuses { "refuse-regex" } else { "expect-regex" }, &pattern),
        Err(why) => draft.left(line, &format!("regex {pattern}"), format!("the page is not compared: {why}")),
    }
}

/// A status, or the first and the last of some.
fn status(word: &str) -> Option<String> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    let sound = (100..=599).contains(&first) && (first..=599).contains(&last);
    sound.then(|| if first == last { first.to_string() } else { format!("{first}-{last}") })
}

/// The flag of an option of PCRE; empty where it changes nothing here.
fn flag(option: &str) -> Option<&'static str> {
    Some(match option {
        "caseless" => "i",
        "multiline" => "m",
        "dotall" => "s",
        "extended" => "x",
        "ungreedy" => "U",
        "no_auto_capture" | "no_auto_possess" | "no_dotstar_anchor" | "no_start_optimize" | "never_utf"
        | "never_ucp" | "auto_callout" => "",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_reach_a_script_as_they_are() {
        let command = "it's a;b $HOME `id` \\ \"q\" 'x' plain/1.2";
        let line = format!("printf '%s ' {}", super::for_shell(command));
        let run = std::process::Command::new(super::SHELL).args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8(run.stdout).unwrap().trim_end(), command, "{line}");
    }
}
