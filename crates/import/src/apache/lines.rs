//! The lines of Apache's configuration: joined, without those of conditions that do not hold.

use evenkeel_model::{format_size, parse_size};

use crate::draft::{Draft, Service, Table};

/// Apache of today, for `IfVersion`.
const VERSION: [u32; 3] = [2, 4, 60];

/// What `Define` has said so far.
#[derive(Default)]
struct Defined(std::collections::BTreeMap<String, String>);

impl Defined {
    /// `Define NAME [VALUE]` and `UnDefine NAME`.
    fn take(&mut self, words: &[String]) {
        let Some(name) = words.get(1) else { return };
        match words[0].eq_ignore_ascii_case("define") {
            true => drop(self.0.insert(name.clone(), words.get(2).cloned().unwrap_or_default())),
            false => drop(self.0.remove(name)),
        }
    }

    /// The line with the values of its `${NAME}`; names that are not defined stay as they are.
    fn filled_in(&self, line: String) -> String {
        let mut made = String::new();
        let mut rest = line.as_str();
        while let Some((before, behind)) = rest.split_once("${") {
            let known = behind.split_once('}').and_then(|(name, after)| Some((self.0.get(name)?, after)));
            made.push_str(before);
            match known {
                Some((value, after)) => {
                    made.push_str(value);
                    rest = after;
                }
                None => {
                    made.push_str("${");
                    rest = behind;
                }
            }
        }
        made.push_str(rest);
        made
    }
}

/// Every line with its number. Of `IfModule` all modules are there; `IfVersion` asks a 2.4 of today; `IfDefine` asks
/// the lines before it.
pub fn read(text: &str, draft: &mut Draft) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    // Whether what stands in each open condition holds.
    let mut open: Vec<bool> = Vec::new();
    let mut defined = Defined::default();
    for (at, line) in joined(text) {
        let line = defined.filled_in(line);
        let words = words(line.trim());
        let keyword = words.first().map_or(String::new(), |w| w.to_lowercase());
        match keyword.as_str() {
            "<ifmodule" | "<ifdefine" | "<ifversion" | "<iffile" => {
                open.push(holds(&keyword, &words, &defined))
            }
            "</ifmodule>" | "</ifdefine>" | "</ifversion>" | "</iffile>" => {
                open.pop();
            }
            "define" | "undefine" if open.iter().all(|holds| *holds) => defined.take(&words),
            _ if open.iter().all(|holds| *holds) => all.push((at, line)),
            word if super::access::is_rule(word) && super::closes(&words) => {
                draft.remark(
                    at,
                    &words.join(" "),
                    "it stands in a condition that does not hold for Apache 2.4",
                );
            }
            _ => {}
        }
    }
    all
}

/// Words about Apache's own process and pages, which say nothing of what is passed on.
pub fn is_of_the_process(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "acceptfilter",
        "accessfilename",
        "addcharset",
        "adddefaultcharset",
        "addencoding",
        "addhandler",
        "addlanguage",
        "addtype",
        "customlog",
        "defaultruntimedir",
        "directoryindex",
        "documentroot",
        "errorlog",
        "group",
        "hostnamelookups",
        "listen",
        "loadmodule",
        "logformat",
        "loglevel",
        "maxconnectionsperchild",
        "maxkeepaliverequests",
        "maxrequestworkers",
        "maxsparethreads",
        "minsparethreads",
        "mutex",
        "namevirtualhost",
        "pidfile",
        "proxyrequests",
        "proxyvia",
        "serveradmin",
        "serverlimit",
        "servername",
        "serverroot",
        "serversignature",
        "servertokens",
        "sslcertificatechainfile",
        "sslciphersuite",
        "ssldhparametersfile",
        "sslengine",
        "sslhonorcipherorder",
        "sslpassphrasedialog",
        "sslproxyengine",
        "sslrandomseed",
        "sslsessioncache",
        "sslsessioncachetimeout",
        "sslsessiontickets",
        "startservers",
        "threadlimit",
        "threadsperchild",
        "typesconfig",
        "usecanonicalname",
        "user",
    ];
    WORDS.contains(&word)
}

/// Lines of the whole server that each host has before its own.
pub const INHERITED: &[&str] = &[
    "header",
    "requestheader",
    "proxytimeout",
    "proxyaddheaders",
    "timeout",
    "keepalive",
    "keepalivetimeout",
    "limitrequestbody",
    "proxypreservehost",
    "sslprotocol",
    "sslverifyclient",
    "sslcacertificatefile",
    "sslcarevocationfile",
    "sslcertificatefile",
    "traceenable",
    "limitrequestfields",
    "limitrequestfieldsize",
    "limitrequestline",
];

/// Bytes of a line of a head that Apache takes where nothing is said.
const LINE: usize = 8190;

/// What passes by itself, and the longest head that can be asked for.
const HEAD: usize = 16 << 10;
const HEAD_AT_MOST: usize = 1 << 20;

/// Reads what a host says of the length of heads, if the line does; a line of that length passes beside all others.
pub fn sizes_heads(word: &str, words: &[String], table: &mut Table) -> bool {
    let number = words.get(1).and_then(|number| number.parse::<usize>().ok());
    match word {
        "limitrequestfieldsize" | "limitrequestline" => {
            // 0 is no limit, of a field alone.
            let line = number.filter(|line| *line > 0).unwrap_or(HEAD_AT_MOST);
            if line > LINE {
                let size = HEAD.saturating_add(line).next_multiple_of(1024).min(HEAD_AT_MOST);
                let mut asked = Table::default();
                asked.text("head-size", &format_size(size as u64));
                take_longer_heads(table, &asked);
            }
            true
        }
        "limitrequestfields" => number.is_some_and(|fields| fields <= 128),
        _ => false,
    }
}

/// Apache's `Timeout` where it is not written, in seconds.
const TIMEOUT: &str = "60";

/// Times and sizes of a host: what is written last holds, and Apache's own where nothing is.
pub fn limits(lines: &[(usize, Vec<String>)], service: &mut Service, draft: &mut Draft) {
    let last = |word: &str| {
        let found = lines.iter().rfind(|(_, words)| words[0].eq_ignore_ascii_case(word));
        found.and_then(|(at, words)| Some((*at, words.get(1)?.as_str())))
    };
    let mut set = |key: &str, value: &str| match super::time(value) {
        Some(time) => service.timeouts.text(key, &time),
        None => draft.wrong(0, key, format!("{value} is no time")),
    };
    let timeout = last("Timeout").map_or(TIMEOUT, |(_, value)| value);
    set("client", timeout);
    set("server", last("ProxyTimeout").map_or(timeout, |(_, value)| value));
    if let Some((_, value)) = last("KeepAliveTimeout") {
        set("keep-alive", value);
    }
    if last("KeepAlive").is_some_and(|(_, value)| value.eq_ignore_ascii_case("off")) {
        service.table.set("close-after-answer", true);
    }
    if let Some((at, _)) = last("LimitRequestBody") {
        draft.remark(at, "LimitRequestBody", "Apache does not ask it of what is passed on; `max-body` would");
    }
    if last("ProxyAddHeaders").is_some_and(|(_, value)| value.eq_ignore_ascii_case("off")) {
        service.table.remove("forwarded");
    }
}

/// What `limits` reads.
pub fn is_limit(word: &str) -> bool {
    const WORDS: &[&str] =
        &["timeout", "proxytimeout", "keepalive", "keepalivetimeout", "limitrequestbody", "proxyaddheaders"];
    WORDS.contains(&word)
}

/// One of two hosts that are one service may have longer heads.
pub fn take_longer_heads(table: &mut Table, other: &Table) {
    let size = |table: &Table| {
        let size = table.text_of("head-size").and_then(|size| parse_size(size).ok());
        size.unwrap_or(0)
    };
    if size(other) > size(table)
        && let Some(longer) = other.get("head-size")
    {
        table.set("head-size", longer.clone());
    }
}

/// The key of a certificate, which is in its file, or in FILE.key beside it.
pub fn key(at: usize, words: &[String], all: &[super::Words], draft: &mut Draft) {
    let value = |words: &[String]| words.get(1).cloned().unwrap_or_default();
    let (key, is_certificate) =
        (value(words), |w: &[String]| w[0].eq_ignore_ascii_case("SSLCertificateFile"));
    let mut files = all.iter().filter(|(_, w)| is_certificate(w)).map(|(_, w)| value(w));
    if files.any(|file| key == file || key == format!("{file}.key")) {
        return;
    }
    let why = "the key is looked for in FILE.key beside the certificate, or in the same file: put it there, or the \
               configuration is refused";
    draft.left(at, &words[0], why);
}

/// Whether a line is about certificates of servers. Apache looks at none unless it is told to, and so it is here.
pub fn is_of_servers_certificates(at: usize, keyword: &str, words: &[String], draft: &mut Draft) -> bool {
    let value = words.get(1).map(|value| value.to_lowercase()).unwrap_or_default();
    match keyword {
        "sslproxycheckpeername" | "sslproxycheckpeercn" | "sslproxycheckpeerexpire" | "sslproxyverify"
            if ["none", "off"].contains(&value.as_str()) => {}
        "sslproxyverify" => {
            let why =
                "no certificate of a server is looked at: write server-tls = { ca = \"FILE\" } of its pool";
            draft.left(at, &words.join(" "), why);
        }
        _ => return false,
    }
    true
}

/// Options of `ProxyPass` that are read elsewhere, or are about Apache's own connections with servers.
pub fn is_of_connections(option: &str) -> bool {
    const OPTIONS: &[&str] = &[
        "acquire",
        "connectiontimeout",
        "disablereuse",
        "enablereuse",
        "flushpackets",
        "flushwait",
        "iobuffersize",
        "keepalive",
        "max",
        "min",
        "nocanon",
        "ping",
        "receivebuffersize",
        "responsefieldsize",
        "retry",
        "smax",
        "stickysession",
        "timeout",
        "ttl",
    ];
    OPTIONS.contains(&option.split('=').next().unwrap_or("").to_lowercase().as_str())
}

fn holds(keyword: &str, words: &[String], defined: &Defined) -> bool {
    let mut asked: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    if let Some(last) = asked.last_mut() {
        *last = last.trim_end_matches('>');
    }
    asked.retain(|word| !word.is_empty());
    let negated = asked.first().is_some_and(|w| w.starts_with('!'));
    match keyword {
        "<ifversion" => {
            let (sign, version) = match asked.as_slice() {
                [sign, version, ..] => (*sign, *version),
                [version] => ("=", *version),
                [] => return true,
            };
            let parts: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
            let order = VERSION[..parts.len().min(3)].cmp(&parts);
            let sign = sign.trim_start_matches('!');
            let found = match sign {
                "=" | "==" => order.is_eq(),
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                ">=" => order.is_ge(),
                _ => order.is_gt(),
            };
            found != negated
        }
        "<ifdefine" => {
            let name = asked.first().map_or("", |name| name.trim_start_matches('!'));
            defined.0.contains_key(name) != negated
        }
        _ => !negated,
    }
}

/// Lines that end with a backslash go on.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let part = line.trim_end().trim_end_matches('\\');
        match all.last_mut().filter(|_| open) {
            Some((_, whole)) => whole.push_str(part),
            None => all.push((at + 1, part.to_owned())),
        }
        open = line.trim_end().ends_with('\\');
    }
    all
}

pub fn words(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (part, text) in line.split('"').enumerate() {
        match part % 2 {
            0 => all.extend(text.split_whitespace().map(str::to_owned)),
            _ => all.push(text.to_owned()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_as_for_a_server_of_today() {
        for (line, expect) in [
            ("<IfModule mod_authz_core.c>", true),
            ("<IfModule !mod_authz_core.c>", false),
            ("<IfVersion >= 2.4>", true),
            ("<IfVersion < 2.4>", false),
            ("<IfVersion !< 2.4>", true),
            ("<IfVersion = 2.4>", true),
            ("<IfVersion > 2.4.90>", false),
            ("<IfDefine SSL>", false),
            ("<IfDefine !SSL>", true),
        ] {
            let words = words(line);
            assert_eq!(holds(&words[0].to_lowercase(), &words, &Defined::default()), expect, "{line}");
        }
        let text =
            "a\n<IfModule !x>\nb\n<IfModule y>\nc\n</IfModule>\nRequire all denied\n</IfModule>\nd \\\n e";
        let mut draft = Draft::default();
        let lines: Vec<String> = read(text, &mut draft).into_iter().map(|(_, line)| line).collect();
        assert_eq!((lines, draft.left.len()), (vec!["a".to_owned(), "d  e".to_owned()], 1));
    }
}
