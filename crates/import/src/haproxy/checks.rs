//! `option httpchk` and its like, `http-check` and `tcp-check`: the one health check of a pool.

use super::proxy::{Proxy, Word};
use crate::draft::{Draft, Table};
use crate::words::quoted;

/// What a proxy's servers are asked.
pub fn check(proxy: &Proxy, draft: &mut Draft) -> Table {
    let mut check = Table::default();
    check.text("type", "tcp");
    // The last one holds.
    let chosen = proxy.words.iter().rfind(|w| {
        let option = w.arg(1);
        w.words[0] == "option"
            && (["httpchk", "smtpchk", "ssl-hello-chk"].contains(&option) || option.ends_with("-check"))
    });
    let Some(chosen) = chosen else { return check };
    let words: Vec<&str> = chosen.words[1..].iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tcp-check"] => conversation(proxy, &mut check, draft),
        ["httpchk", rest @ ..] => {
            check.text("type", "http");
            request(rest, &mut check);
            let mut sent = false;
            for word in proxy.all("http-check") {
                if word.arg(1) == "disable-on-404" {
                    let differs = "a server that answers 404 is down: clients that stay with it are moved";
                    draft.note(word.line, "http-check disable-on-404", differs);
                }
                if let Err(why) = http_rule(word, &mut check, &mut sent) {
                    draft.left(word.line, &word.words.join(" "), why);
                }
            }
        }
        ["ssl-hello-chk"] => check.text("type", "tls"),
        ["smtpchk"] => check.text("type", "smtp"),
        ["smtpchk", _, host] => {
            check.text("type", "smtp");
            check.text("host", host);
        }
        ["ldap-check"] => check.text("type", "ldap"),
        ["mysql-check"] => check.text("type", "mysql"),
        ["mysql-check", "user", user] | ["mysql-check", "user", user, "post-41"] => {
            check.text("type", "mysql");
            check.text("user", user);
        }
        ["pgsql-check"] => check.text("type", "postgresql"),
        ["pgsql-check", "user", user] => {
            check.text("type", "postgresql");
            check.text("user", user);
        }
        ["redis-check"] => check.text("type", "redis"),
        // Told with other options that are not there.
        ["external-check" | "spop-check"] => {}
        _ => draft.left(chosen.line, &chosen.words.join(" "), "not carried over"),
    }
    check
}

/// `[METHOD] [URI] [VERSION and headers]` of `option httpchk`.
fn request(words: &[&str], check: &mut Table) {
    match words {
        [] => check.text("method", "OPTIONS"),
        [path] => {
            check.text("method", "OPTIONS");
            check.text("path", path);
        }
        [method, path, more @ ..] => {
            check.text("method", method);
            check.text("path", path);
            fields(check, &more.join(" "));
        }
    }
}

/// Headers behind a version: `HTTP/1.1\r\nHost:\ www`, as they were written before 2.2.
fn fields(check: &mut Table, version: &str) {
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
    extend(check, "headers", &format!("{} = {}", quoted(name), quoted(value)));
}

/// One more entry of a table or list in a line.
fn extend(check: &mut Table, key: &str, entry: &str) {
    let (open, close) = if key == "steps" { ('[', ']') } else { ('{', '}') };
    let known = check.get(key).map(|old| format!("{}, ", old[1..old.len() - 1].trim()));
    check.set(key, format!("{open} {}{entry} {close}", known.unwrap_or_default()));
}

fn http_rule(word: &Word, check: &mut Table, sent: &mut bool) -> Result<(), String> {
    let words: Vec<&str> = word.words[1..].iter().map(String::as_str).collect();
    match words.as_slice() {
        ["disable-on-404"] | ["comment", ..] => Ok(()),
        ["connect", rest @ ..] => connect(rest, check),
        ["send", ..] if std::mem::replace(sent, true) => {
            Err("several requests a check are not carried over".into())
        }
        ["send", rest @ ..] => {
            let mut rest = rest.iter();
            while let Some(word) = rest.next() {
                let mut value = || rest.next().copied().unwrap_or("");
                match *word {
                    "meth" => check.text("method", value()),
                    "uri" => check.text("path", value()),
                    "ver" => fields(check, value()),
                    "hdr" => {
                        let name = value();
                        header(check, name, value());
                    }
                    "body" => check.text("body", value()),
                    "comment" => drop(value()),
                    other => return Err(format!("{other} is not carried over")),
                }
            }
            Ok(())
        }
        ["expect", rest @ ..] => {
            let (not, what) = expectation(rest)?;
            match what {
                ["status", status] if not => check.text("status", &others(status)?),
                ["status", status] => check.text("status", status),
                ["string", text @ ..] if !not => check.text("expect", &text.join(" ")),
                ["rstring", text @ ..] if !not => check.text("expect-regex", &text.join(" ")),
                ["hdr" | "fhdr", rest @ ..] if !not => expect_header(rest, check)?,
                ["rstatus", regex] if !not => {
                    let class = [("^2", "200-299"), ("^3", "300-399"), ("^[23]", "200-399")];
                    let known = class.iter().find(|(begin, _)| {
                        let rest = regex.strip_prefix(begin).unwrap_or("?");
                        let rest = rest.trim_end_matches('$');
                        ["", "..", "[0-9]{2}", "[0-9][0-9]", "\\d\\d", "\\d{2}"].contains(&rest)
                    });
                    let (_, status) =
                        known.ok_or("write the statuses as numbers: http-check expect status")?;
                    check.text("status", status);
                }
                _ => return Err("not carried over".into()),
            }
            Ok(())
        }
        _ => Err("not carried over".into()),
    }
}

/// `name NAME [value -m sub TEXT]`: a header that is there, or whose value holds a text.
fn expect_header(words: &[&str], check: &mut Table) -> Result<(), String> {
    let (name, text) = match words {
        ["name", name] | ["name", "-m", "str", name] => (name, ""),
        ["name", name, "value", "-m", "sub", text]
        | ["name", "-m", "str", name, "value", "-m", "sub", text] => (name, *text),
        _ => return Err("a header is expected by its whole name, and by `value -m sub` alone".into()),
    };
    extend(check, "expect-headers", &format!("{} = {}", quoted(name), quoted(text)));
    Ok(())
}

/// What is expected, without the words about how it is told; whether it must not come.
fn expectation<'w>(words: &'w [&'w str]) -> Result<(bool, &'w [&'w str]), String> {
    match words {
        [
            "comment" | "ok-status" | "error-status" | "tout-status" | "on-success" | "on-error"
            | "status-code",
            _,
            rest @ ..,
        ] => expectation(rest),
        // Bytes are waited for until they are there.
        ["min-recv", _, rest @ ..] => expectation(rest),
        ["!", rest @ ..] => Ok((true, rest)),
        [first, ..] if first.starts_with('!') => Err("not carried over".into()),
        rest => Ok((false, rest)),
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
fn connect(words: &[&str], check: &mut Table) -> Result<(), String> {
    // Without `default` nothing of the server's own way to be checked holds.
    if !words.contains(&"default") && !words.contains(&"send-proxy") {
        check.set("send-proxy", "false");
    }
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().copied().unwrap_or("");
        match *word {
            "default" | "linger" => {}
            "comment" => drop(value()),
            "port" => {
                let port = value();
                port.parse::<u16>().map_err(|_| format!("{port} is no port"))?;
                check.set("port", port);
            }
            "addr" => check.text("address", value()),
            "send-proxy" => check.set("send-proxy", "true"),
            "ssl" => {
                let sni = check.get("tls").is_some_and(|t| t.contains("sni"));
                if !sni {
                    check.set("tls", "{ verify = false }");
                }
            }
            "sni" => check.set("tls", format!("{{ verify = false, sni = {} }}", quoted(value()))),
            other => return Err(format!("{other} is not carried over")),
        }
    }
    Ok(())
}

/// The steps of `tcp-check`.
fn conversation(proxy: &Proxy, check: &mut Table, draft: &mut Draft) {
    let mut begun = false;
    for word in proxy.all("tcp-check") {
        let words: Vec<&str> = word.words[1..].iter().map(String::as_str).collect();
        let taken = match words.as_slice() {
            ["connect", ..] if begun => Err("a check is one conversation over one connection".to_owned()),
            ["connect", rest @ ..] => connect(rest, check),
            ["comment", ..] => continue,
            ["send", text] | ["send", text, "comment", _] => step(check, "send", text),
            ["send-binary", text] | ["send-binary", text, "comment", _] => step(check, "send-hex", text),
            ["expect", rest @ ..] => expectation(rest).and_then(|(not, what)| match what {
                _ if not => Err("what must not come is not carried over".into()),
                ["string", text] => step(check, "expect", text),
                ["binary", text] => step(check, "expect-hex", text),
                ["rstring", text] => step(check, "expect-regex", text),
                _ => Err("not carried over".into()),
            }),
            _ => Err("not carried over".into()),
        };
        begun = true;
        if let Err(why) = taken {
            draft.left(word.line, &word.words.join(" "), why);
        }
    }
}

fn step(check: &mut Table, key: &str, text: &str) -> Result<(), String> {
    // Bytes that no text has, `\x00` to `\xff`.
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    let odd = |byte: &u8| !byte.is_ascii() || byte.is_ascii_control() && !b"\r\n\t".contains(byte);
    if let Some(bytes) = bytes.filter(|all| all.iter().any(odd) && key != "expect-regex") {
        let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        return step(check, &format!("{key}-hex"), &digits);
    }
    extend(check, "steps", &format!("{{ {key} = {} }}", quoted(text)));
    Ok(())
}
