//! `option httpchk` and its like, `http-check` and `tcp-check`: the one health check of a pool.

pub mod steps;

use super::options::DefaultServers;
use super::proxy::{Proxy, Word};
use crate::draft::{Draft, Table};

/// What a proxy's servers are asked.
pub fn check(proxy: &Proxy, draft: &mut Draft) -> Table {
    let mut check = Table::default();
    check.text("type", "tcp");
    // The last one holds.
    let Some(chosen) = proxy.words.iter().rfind(|word| chooses(word)) else { return check };
    let mut words: Vec<&str> = chosen.words[1..].iter().map(String::as_str).collect();
    // A request that the defaults name is one of their rules.
    if words.first() == Some(&"httpchk") && has_own(proxy, "http-check") && !chooses_itself(proxy) {
        words.truncate(1);
    }
    match words.as_slice() {
        ["tcp-check"] => conversation(proxy, &mut check, draft),
        ["httpchk", rest @ ..] => {
            check.text("type", "http");
            request(rest, &mut check);
            requests(proxy, &mut check, draft);
        }
        ["ssl-hello-chk"] => check.text("type", "tls"),
        ["smtpchk"] => check.text("type", "smtp"),
        ["smtpchk", _, host] => {
            check.text("type", "smtp");
            check.text("host", host);
        }
        ["ldap-check"] => check.text("type", "ldap"),
        ["mysql-check"] => check.text("type", "mysql"),
        ["mysql-check", "user", user, rest @ ..] if matches!(rest, [] | ["post-41"] | ["pre-41"]) => {
            check.text("type", "mysql");
            check.text("user", user);
            if rest == ["pre-41"] {
                check.set("old", true);
            }
        }
        ["pgsql-check"] => check.text("type", "postgresql"),
        ["pgsql-check", "user", user] => {
            check.text("type", "postgresql");
            check.text("user", user);
        }
        ["redis-check"] => check.text("type", "redis"),
        ["external-check"] => script(proxy, chosen.line, &mut check, draft),
        // Told with other options that are not there.
        ["spop-check"] => {}
        _ => draft.left(chosen.line, &chosen.written, "not carried over"),
    }
    check
}

/// `option external-check`: the command has HAProxy's four arguments.
fn script(proxy: &Proxy, line: usize, check: &mut Table, draft: &mut Draft) {
    let command = proxy.all("external-check").filter(|word| word.arg(1) == "command").last();
    match command.map(|word| (word.line, word.arg(2))) {
        Some((_, command)) if command.starts_with('/') => {
            check.text("type", "script");
            check.text("command", command);
        }
        Some((line, command)) => {
            let why = format!("{command}: a script is named by its whole path");
            draft.left(line, "external-check command", why);
        }
        None => draft.wrong(line, "option external-check", "'external-check command' is missing"),
    }
}

/// `[METHOD] [URI] [VERSION and headers]` of `option httpchk`.
fn request(words: &[&str], check: &mut Table) {
    match words {
        [] => {
            check.text("method", "OPTIONS");
            fields(check, "");
        }
        // One word is the place that is asked for, whatever it looks like.
        [path] => {
            check.text("method", "OPTIONS");
            check.text("path", path);
            fields(check, "");
        }
        [method, path, more @ ..] => {
            check.text("method", method);
            check.text("path", path);
            fields(check, &more.join(" "));
        }
    }
}

/// A version, 1.0 where none is written, and headers behind it: `HTTP/1.1\r\nHost:\ www`, as they were written
/// before 2.2.
fn fields(check: &mut Table, version: &str) {
    let is_11 = version.starts_with("HTTP/1.1");
    // 1.1 is what is spoken where nothing is written.
    if !is_11 || check.has("version") {
        check.text("version", if is_11 { "1.1" } else { "1.0" });
    }
    for field in version.split("\r\n").skip(1) {
        if let Some((name, value)) = field.split_once(':') {
            header(check, name.trim(), value.trim());
        }
    }
}

fn header(check: &mut Table, name: &str, value: &str) {
    if name.eq_ignore_ascii_case("host") {
        return check.text("host", value);
    }
    check.add_name("headers", name, value);
}

/// An option that says how servers are checked.
fn chooses(word: &Word) -> bool {
    let option = word.arg(1);
    word.words[0] == "option"
        && (["httpchk", "smtpchk", "ssl-hello-chk"].contains(&option) || option.ends_with("-check"))
}

fn chooses_itself(proxy: &Proxy) -> bool {
    proxy.words[proxy.inherited..].iter().any(chooses)
}

/// Rules that stand for themselves, wherever they are written.
fn stands_alone(word: &Word) -> bool {
    ["disable-on-404", "send-state"].contains(&word.arg(1))
}

fn has_own(proxy: &Proxy, keyword: &str) -> bool {
    proxy.words[proxy.inherited..].iter().any(|word| word.words[0] == keyword && !stands_alone(word))
}

/// The rules of a check: what a section says of it stands in the place of what its defaults say.
fn rules<'p>(proxy: &'p Proxy, keyword: &'static str) -> impl Iterator<Item = &'p Word> {
    let (inherited, own) = proxy.words.split_at(proxy.inherited);
    let anew = has_own(proxy, keyword) || chooses_itself(proxy);
    let inherited = inherited.iter().filter(move |word| !anew || stands_alone(word));
    inherited.chain(own).filter(move |word| word.words[0] == keyword)
}

/// `http-check` in its order: requests, each with what is expected of its answer.
fn requests(proxy: &Proxy, check: &mut Table, draft: &mut Draft) {
    let mut texts = Texts::of(proxy);
    // The first request is the check's own table.
    let mut further: Vec<Table> = Vec::new();
    let (mut begun, mut sent) = (false, false);
    for word in rules(proxy, "http-check") {
        if word.arg(1) == "disable-on-404" {
            let differs = "a server that answers 404 is down: clients that stay with it are moved";
            draft.note(word.line, "http-check disable-on-404", differs);
        }
        let words: Vec<&str> = word.words[1..].iter().map(String::as_str).collect();
        let apart = unglued(&words);
        let words: Vec<&str> = apart.iter().map(String::as_str).collect();
        let told = match words.as_slice() {
            ["connect", rest @ ..] if begun => {
                let mut next = Table::default();
                next.text("version", "1.0");
                let made = connect_again(proxy, rest, &texts, &mut next);
                sent = false;
                further.push(next);
                made
            }
            ["connect", rest @ ..] => connect(rest, check, &texts),
            ["send", ..] if std::mem::replace(&mut sent, true) => {
                draft.wrong(
                    word.line,
                    "http-check send",
                    "a further request needs http-check connect before it",
                );
                continue;
            }
            [rule, ..] if texts.takes(rule) => texts.set(rule, &words[1..].join(" ")),
            _ => http_rule(&words, further.last_mut().unwrap_or(check), &mut texts),
        };
        begun |= !matches!(words.first(), Some(&("comment" | "disable-on-404" | "send-state")))
            && !words.first().is_some_and(|rule| texts.takes(rule));
        if let Err(why) = told {
            draft.left(word.line, &word.written, why);
        }
    }
    if texts.names_server {
        check.set("fill-in", true);
    }
    if !further.is_empty() {
        check.set("then", further);
    }
}

fn http_rule(words: &[&str], check: &mut Table, texts: &mut Texts) -> Result<(), String> {
    match words {
        ["disable-on-404"] | ["comment", ..] => Ok(()),
        ["send", rest @ ..] => {
            let mut rest = rest.iter();
            while let Some(word) = rest.next() {
                let mut value = || rest.next().copied().unwrap_or("");
                match *word {
                    "meth" => check.text("method", value()),
                    "uri" => check.text("path", value()),
                    "uri-lf" => check.text("path", &texts.made(value())?),
                    "ver" => fields(check, value()),
                    "hdr" => {
                        let name = value();
                        header(check, name, &texts.made(value())?);
                    }
                    "body" => check.text("body", value()),
                    "body-lf" => check.text("body", &texts.made(value())?),
                    "comment" => drop(value()),
                    other => return Err(format!("{other} is not carried over")),
                }
            }
            Ok(())
        }
        ["expect", rest @ ..] => expect(rest, check),
        _ => Err("not carried over".into()),
    }
}

fn expect(words: &[&str], check: &mut Table) -> Result<(), String> {
    let (not, _, what) = expectation(words)?;
    let once = |check: &Table, key: &str| match check.get(key) {
        None => Ok(()),
        Some(_) => Err("a request has one expectation of this kind: write one regular expression".to_owned()),
    };
    let asks_status = check.has("status");
    match what {
        ["status", status] => check.text("status", &if not { others(status)? } else { (*status).to_owned() }),
        ["rstatus", regex] => check.text("status", &statuses(regex, not)?),
        ["string", text @ ..] => {
            let key = if not { "refuse" } else { "expect" };
            once(check, key)?;
            check.text(key, &text.join(" "));
        }
        ["rstring", text @ ..] => {
            let key = if not { "refuse-regex" } else { "expect-regex" };
            once(check, key)?;
            check.text(key, &text.join(" "));
        }
        [kind @ ("hdr" | "fhdr"), rest @ ..] => expect_header(*kind == "hdr", not, rest, check)?,
        _ => return Err("not carried over".into()),
    }
    // What is expected stands in the place of a good status.
    if !asks_status && check.get("status").is_none() {
        check.text("status", "100-599");
    }
    Ok(())
}

/// The statuses that an expression matches, or the others.
fn statuses(regex: &str, not: bool) -> Result<String, String> {
    let made = evenkeel_rules::regex(regex, false)?;
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for status in (100..=599u16).filter(|status| made.is_match(status.to_string().as_bytes()) != not) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == status => *last = status,
            _ => ranges.push((status, status)),
        }
    }
    let one = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    match ranges.as_slice() {
        [] => Err(format!("no status is as {regex} wants it")),
        some => Ok(some.iter().map(one).collect::<Vec<_>>().join(",")),
    }
}

/// `name NAME [value [-m METHOD] TEXT]`: a header that is there, or has a value; of a list each value
/// counts for `hdr`.
fn expect_header(listed: bool, not: bool, words: &[&str], check: &mut Table) -> Result<(), String> {
    let words: Vec<&str> = match words {
        ["name", "-m", "str", rest @ ..] => ["name"].iter().chain(rest).copied().collect(),
        _ => words.to_vec(),
    };
    let literal = |text: &str| {
        let escaped = text.chars().map(|c| match c {
            c if c.is_ascii_alphanumeric() || !c.is_ascii() || c == ' ' => c.to_string(),
            c => format!("\\{c}"),
        });
        escaped.collect::<String>()
    };
    let (from, to) = if listed { ("(?:^|,)\\s*", "\\s*(?:,|$)") } else { ("^\\s*", "\\s*$") };
    let (name, regex) = match words.as_slice() {
        ["name", name] => (*name, String::new()),
        ["name", name, "value", text] | ["name", name, "value", "-m", "str", text] => {
            (*name, format!("{from}{}{to}", literal(text)))
        }
        ["name", name, "value", "-m", "beg", text] => (*name, format!("{from}{}", literal(text))),
        ["name", name, "value", "-m", "end", text] => (*name, format!("{}{to}", literal(text))),
        ["name", name, "value", "-m", "sub", text] => (*name, literal(text)),
        ["name", name, "value", "-m", "reg", text] => (*name, (*text).to_owned()),
        _ => return Err("a header is expected by its whole name, and its value by one text".into()),
    };
    let key = if not { "refuse-headers-regex" } else { "expect-headers-regex" };
    check.add_name(key, name, &regex);
    Ok(())
}

/// What texts of checks know: variables with constants, the names of proxy and server.
struct Texts {
    backend: String,
    variables: std::collections::BTreeMap<String, String>,
    /// Whether a text names its server.
    names_server: bool,
}

impl Texts {
    fn of(proxy: &Proxy) -> Texts {
        Texts { backend: proxy.name.clone(), variables: Default::default(), names_server: false }
    }

    /// Whether a rule is about a variable.
    fn takes(&self, rule: &str) -> bool {
        ["set-var(", "set-var-fmt(", "unset-var("].iter().any(|verb| rule.starts_with(verb))
    }

    fn set(&mut self, rule: &str, value: &str) -> Result<(), String> {
        let (verb, name) = rule.split_once('(').unwrap_or((rule, ""));
        let name = name.trim_end_matches(')');
        if !name.starts_with("check.") {
            return Err(format!("a check has variables of its own: write check.… in the place of {name}"));
        }
        match verb {
            "unset-var" => drop(self.variables.remove(name)),
            "set-var" => {
                let value = self.sample(value)?;
                self.variables.insert(name.to_owned(), value);
            }
            _ => {
                let value = self.made(value)?;
                self.variables.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn sample(&mut self, text: &str) -> Result<String, String> {
        let text = text.trim();
        let inner = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(constant) = inner("str").or_else(|| inner("int")).filter(|t| !t.contains(['(', ')'])) {
            return Ok(constant.trim_matches('"').to_owned());
        }
        if let Some(name) = inner("var") {
            return Ok(self.variables.get(name).cloned().unwrap_or_default());
        }
        match text {
            "be_name" => Ok(self.backend.clone()),
            "srv_name" => {
                self.names_server = true;
                Ok("{server}".into())
            }
            _ => {
                Err(format!("{text}: texts of checks know be_name, srv_name, constants and their variables"))
            }
        }
    }

    /// A text with samples.
    fn made(&mut self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                out.push('%');
                rest = after;
            } else if let Some(inner) = rest.strip_prefix('[') {
                let end = super::sample::end_of(inner).ok_or("a %[ has no ]")?;
                out.push_str(&self.sample(&inner[..end])?);
                rest = &inner[end + 1..];
            } else {
                return Err("texts of checks know %[be_name], %[srv_name] and %[var(check.…)]".into());
            }
        }
        Ok(out + rest)
    }
}

/// A connection after the first.
fn connect_again(proxy: &Proxy, words: &[&str], texts: &Texts, next: &mut Table) -> Result<(), String> {
    let defaults = DefaultServers::of(proxy);
    let of_servers = |word: &str| {
        let mut lines = proxy.all("server").chain(proxy.all("server-template"));
        lines.any(|line| defaults.options_of(line).iter().any(|w| w.starts_with(word)))
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().copied().unwrap_or("");
        match *word {
            "default"
                if ["ssl", "check-ssl", "send-proxy", "check-send-proxy"].into_iter().any(of_servers) =>
            {
                return Err("default: write ssl, sni and send-proxy of a further connection".into());
            }
            "default" | "linger" => {}
            "comment" => drop(value()),
            "port" => next.set("port", port(value(), texts)?),
            "addr" => next.text("address", value()),
            "send-proxy" => {
                next.set("send-proxy", true);
                next.text("send-proxy-version", "v1");
            }
            "ssl" => next.set("tls", true),
            "sni" => next.text("sni", value()),
            other => return Err(format!("{other} is not carried over")),
        }
    }
    Ok(())
}

/// A port by its number, or by a variable that has one.
fn port(text: &str, texts: &Texts) -> Result<u16, String> {
    let name = text.strip_prefix("var(").or_else(|| text.strip_prefix("int("));
    let name = name.and_then(|name| name.strip_suffix(')'));
    let known = name.map(|name| texts.variables.get(name).map_or(name, String::as_str));
    let port = known.unwrap_or(text);
    port.parse().map_err(|_| format!("{text} is no port"))
}

/// What is expected, without the words about how it is told; whether it must not come, and how many bytes
/// suffice to say so.
type Expectation<'w> = (bool, Option<usize>, &'w [&'w str]);

/// `!status` as two words.
fn unglued(words: &[&str]) -> Vec<String> {
    let apart = |word: &&str| match word.strip_prefix('!').filter(|rest| KINDS.contains(rest)) {
        Some(rest) => vec!["!".to_owned(), rest.to_owned()],
        None => vec![(*word).to_owned()],
    };
    words.iter().flat_map(apart).collect()
}

/// What can be expected.
const KINDS: &[&str] = &["status", "rstatus", "string", "rstring", "binary", "rbinary", "hdr", "fhdr"];

fn expectation<'w>(words: &'w [&'w str]) -> Result<Expectation<'w>, String> {
    match words {
        [
            "comment" | "ok-status" | "error-status" | "tout-status" | "on-success" | "on-error"
            | "status-code",
            _,
            rest @ ..,
        ] => expectation(rest),
        // Bytes are waited for until they are there.
        ["min-recv", count, rest @ ..] => {
            let (not, _, rest) = expectation(rest)?;
            Ok((not, count.parse().ok(), rest))
        }
        // What it is called may stand behind as well.
        [rest @ .., "comment", _] if rest.len() > 1 => expectation(rest),
        ["!", rest @ ..] => Ok((true, None, rest)),
        [first, ..] if first.starts_with('!') => Err("write a space behind the exclamation mark".into()),
        rest => Ok((false, None, rest)),
    }
}

/// All statuses but these.
fn others(statuses: &str) -> Result<String, String> {
    let mut ranges = Vec::new();
    let mut next = 100u16;
    let bad = || format!("{statuses} are no statuses");
    for part in statuses.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<u16>().map_err(|_| bad())?, to.parse::<u16>().map_err(|_| bad())?);
        if from > next {
            ranges.push(format!("{next}-{}", from - 1));
        }
        next = next.max(to + 1);
    }
    if next <= 599 {
        ranges.push(format!("{next}-599"));
    }
    Ok(ranges.join(","))
}

/// The words of `connect`.
fn connect(words: &[&str], check: &mut Table, texts: &Texts) -> Result<(), String> {
    // Without `default` nothing of the server's own way to be checked holds.
    if !words.contains(&"default") && !words.contains(&"send-proxy") {
        check.set("send-proxy", false);
    }
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().copied().unwrap_or("");
        match *word {
            "default" | "linger" => {}
            "comment" => drop(value()),
            "port" => check.set("port", port(value(), texts)?),
            "addr" => check.text("address", value()),
            "send-proxy" => check.set("send-proxy", true),
            "ssl" => {
                if !check.has("tls") {
                    check.set("tls", Table::default().with("verify", false));
                }
            }
            "sni" => check.set("tls", Table::default().with("verify", false).with_text("sni", value())),
            other => return Err(format!("{other} is not carried over")),
        }
    }
    Ok(())
}

/// The steps of `tcp-check`.
fn conversation(proxy: &Proxy, check: &mut Table, draft: &mut Draft) {
    let mut begun = false;
    let mut texts = Texts::of(proxy);
    for word in rules(proxy, "tcp-check") {
        let words: Vec<&str> = word.words[1..].iter().map(String::as_str).collect();
        let apart = unglued(&words);
        let words: Vec<&str> = apart.iter().map(String::as_str).collect();
        let taken = match words.as_slice() {
            ["comment", ..] => continue,
            [rule, ..] if texts.takes(rule) => {
                if let Err(why) = texts.set(rule, &words[1..].join(" ")) {
                    draft.left(word.line, &word.written, why);
                }
                continue;
            }
            ["connect", rest @ ..] if begun => {
                let mut next = Table::default();
                connect_again(proxy, rest, &texts, &mut next)
                    .map(|()| check.push("steps", Table::default().with("connect", next)))
            }
            ["connect", rest @ ..] => connect(rest, check, &texts),
            ["send", text] | ["send", text, "comment", _] => step(check, "send", text),
            ["send-lf", text] | ["send-lf", text, "comment", _] => {
                texts.made(text).and_then(|text| step(check, "send", &text))
            }
            ["send-binary", text] | ["send-binary", text, "comment", _] => step(check, "send-hex", text),
            ["send-binary-lf", text] | ["send-binary-lf", text, "comment", _] => {
                let whole = texts.made(text).and_then(|text| match text.contains("{server}") {
                    true => Err("the name of a server is no hexadecimal number".into()),
                    false => Ok(text),
                });
                whole.and_then(|text| step(check, "send-hex", &text))
            }
            ["expect", rest @ ..] => expectation(rest).and_then(|(not, within, what)| match what {
                ["string", text] if not => refuse(check, "refuse", text, within),
                ["binary", text] if not => refuse(check, "refuse-hex", text, within),
                ["rstring", text] if not => refuse(check, "refuse-regex", text, within),
                ["string", text] => step(check, "expect", text),
                ["string-lf", text] if !not => {
                    texts.made(text).and_then(|text| match text.contains("{server}") {
                        true => Err("an answer is not compared with the name of its server".into()),
                        false => step(check, "expect", &text),
                    })
                }
                ["binary", text] => step(check, "expect-hex", text),
                ["rstring", text] => step(check, "expect-regex", text),
                _ => Err("not carried over".into()),
            }),
            _ => Err("not carried over".into()),
        };
        begun = true;
        if let Err(why) = taken {
            draft.left(word.line, &word.written, why);
        }
    }
    if texts.names_server {
        check.set("fill-in", true);
    }
}

/// What must not come.
fn refuse(check: &mut Table, key: &str, text: &str, within: Option<usize>) -> Result<(), String> {
    if let Some(count) = within {
        let count = u32::try_from(count).unwrap_or(u32::MAX).clamp(1, 65_536);
        check.push("steps", Table::default().with("within", count));
    }
    check.push("steps", Table::default().with_text(key, text));
    Ok(())
}

fn step(check: &mut Table, key: &str, text: &str) -> Result<(), String> {
    // Bytes that no text has, `\x00` to `\xff`.
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    let odd = |byte: &u8| !byte.is_ascii() || byte.is_ascii_control() && !b"\r\n\t".contains(byte);
    if let Some(bytes) = bytes.filter(|all| all.iter().any(odd) && key != "expect-regex") {
        let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        return step(check, &format!("{key}-hex"), &digits);
    }
    check.push("steps", Table::default().with_text(key, text));
    Ok(())
}
