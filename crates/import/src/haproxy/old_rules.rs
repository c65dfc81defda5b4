//! Rules of HAProxy before 2.1 (`reqadd`, `reqrep`, `reqidel`…), said as `http-request` and `http-response`
//! rules. They worked on whole lines of a message: one that matched was replaced by a text as a whole. What
//! cannot be said otherwise stays as it was, and is told later.

use crate::draft::Draft;

/// A line of a proxy in today's words.
pub fn read(words: Vec<String>, number: usize, draft: &mut Draft) -> Vec<String> {
    let mut words = modern(words);
    if without_colon(&mut words) {
        let why = "the colon at the end of the name is left off: HAProxy would send it as a part of the name";
        draft.note(number, &words.join(" "), why);
    }
    words
}

/// A field's name with the colon of its line, which people take along from `reqadd`: HAProxy sends `Name:: value`,
/// which no server reads.
fn without_colon(words: &mut [String]) -> bool {
    let in_field = ["http-request", "http-response", "http-after-response"].contains(&words[0].as_str())
        && words.get(1).is_some_and(|what| {
            ["add-header", "set-header", "replace-header", "replace-value"].contains(&what.as_str())
        });
    let Some(name) = words.get_mut(2).filter(|_| in_field) else { return false };
    let has = name.len() > 1 && name.ends_with(':');
    if has {
        name.pop();
    }
    has
}

/// The same in today's words; as it was where there are none.
fn modern(words: Vec<String>) -> Vec<String> {
    let plain: Vec<&str> = words.iter().map(String::as_str).collect();
    said_anew(&plain).unwrap_or(words)
}

fn said_anew(words: &[&str]) -> Option<Vec<String>> {
    let (keyword, rest) = words.split_first()?;
    let (scope, what) = match keyword.strip_prefix("req") {
        Some(what) => ("http-request", what),
        None => ("http-response", keyword.strip_prefix("rsp")?),
    };
    let what = what.strip_prefix('i').unwrap_or(what);
    let case = if keyword[3..].starts_with('i') { "(?i)" } else { "" };
    let (arguments, condition) = rest.split_at(
        match what {
            "rep" => 2,
            _ => 1,
        }
        .min(rest.len()),
    );
    if !matches!(condition.first(), None | Some(&"if" | &"unless")) {
        return None;
    }
    let mut rule = match (what, arguments) {
        ("add", [field]) => {
            let (name, value) = field.split_once(':')?;
            vec![scope.into(), "add-header".into(), name.trim().into(), value.trim().into()]
        }
        ("del", [search]) => vec![scope.into(), "del-header".into(), whole_field(search)?],
        ("rep", [search, text]) if scope == "http-request" && search.contains(") /") => {
            request_line(search, text, case)?
        }
        ("rep", [search, text]) => field(scope, search, text, case)?,
        _ => return None,
    };
    rule.extend(condition.iter().map(|word| (*word).to_owned()));
    Some(rule)
}

/// `^Name:`, or all of a line that begins so.
fn whole_field(search: &str) -> Option<String> {
    let (name, rest) = named(search)?;
    matches!(rest.trim_start(), "" | ".*" | ".*$" | "(.*)" | "(.*)$").then(|| name.to_owned())
}

/// The name of the field that a search is about, and what is looked for in its value.
fn named(search: &str) -> Option<(&str, &str)> {
    let (name, rest) = search.strip_prefix('^')?.split_once(':')?;
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    is_name.then_some((name, rest))
}

/// A field whose line is written anew.
fn field(scope: &str, search: &str, text: &str, case: &str) -> Option<Vec<String>> {
    let (name, looked_for) = named(search)?;
    let (new_name, value) = text.split_once(':')?;
    if !new_name.eq_ignore_ascii_case(name) {
        return None;
    }
    // The value follows the colon and blanks.
    let looked_for = looked_for.trim_start_matches([' ', '*', '+']).trim_end_matches('$');
    let pattern = match looked_for {
        "" => ".*".to_owned(),
        // All of the line was replaced, whatever followed.
        part if part.ends_with(".*") || part.ends_with("(.*)") => part.to_owned(),
        part => format!("{part}.*"),
    };
    Some(vec![
        scope.into(),
        "replace-header".into(),
        name.into(),
        format!("{case}^{pattern}$"),
        value.trim().into(),
    ])
}

/// `^([^ :]*) /old(.*)` and `\1 /new\2`: the method stays, the address changes.
fn request_line(search: &str, text: &str, case: &str) -> Option<Vec<String>> {
    let (method, path) = search.strip_prefix('^')?.split_once(") /")?;
    if !matches!(method, "([^ :]*" | "([^ ]*" | "(.*" | "([^ :]+" | "([^ ]+" | "([A-Z]+") {
        return None;
    }
    let path = path.trim_end_matches('$');
    let new = text.strip_prefix("\\1 /")?;
    // What is left of the line holds the version: it must be in the last group, which must end the text.
    let groups = groups_of(path)?;
    if groups == 0 || !path.ends_with("(.*)") || !new.ends_with(&format!("\\{}", groups + 1)) {
        return None;
    }
    // The method was the first group.
    let mut renumbered = String::with_capacity(new.len());
    let mut rest = new.chars().peekable();
    while let Some(letter) = rest.next() {
        match (letter, rest.peek().and_then(|next| next.to_digit(10))) {
            ('\\', Some(0 | 1)) => return None,
            ('\\', Some(group)) => {
                rest.next();
                renumbered.push_str(&format!("\\{}", group - 1));
            }
            _ => renumbered.push(letter),
        }
    }
    Some(vec![
        "http-request".into(),
        "replace-uri".into(),
        format!("{case}^/{path}$"),
        format!("/{renumbered}"),
    ])
}

/// How many groups a pattern has that can be named; none where brackets are taken literally.
fn groups_of(pattern: &str) -> Option<usize> {
    (!pattern.contains("\\(") && !pattern.contains('['))
        .then(|| pattern.matches('(').count() - pattern.matches("(?").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &[&str], new: &[&str]) {
        let words = old.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(modern(words), new, "{old:?}");
    }

    #[test]
    fn old_rules_are_said_in_todays_words() {
        check(
            &["reqadd", "X-Scheme: https", "if", "tls"],
            &["http-request", "add-header", "X-Scheme", "https", "if", "tls"],
        );
        check(&["rspadd", "X-Served-By: a: b"], &["http-response", "add-header", "X-Served-By", "a: b"]);
        check(&["reqidel", "^X-Forwarded-For:.*"], &["http-request", "del-header", "X-Forwarded-For"]);
        check(&["rspdel", "^Server:"], &["http-response", "del-header", "Server"]);
        check(
            &["reqirep", "^Host:", "Host: app.example"],
            &["http-request", "replace-header", "Host", "(?i)^.*$", "app.example"],
        );
        check(
            &["rspirep", "^Location: http://(.*):8080/(.*)", "Location: https://\\1/\\2", "if", "x"],
            &[
                "http-response",
                "replace-header",
                "Location",
                "(?i)^http://(.*):8080/(.*)$",
                "https://\\1/\\2",
                "if",
                "x",
            ],
        );
        check(
            &["reqrep", "^([^ :]*) /webcam/(.*)", "\\1 /\\2"],
            &["http-request", "replace-uri", "^/webcam/(.*)$", "/\\1"],
        );
        check(
            &["reqrep", "^([^ :]*) /(a|b)/(.*)", "\\1 /new/\\2/\\3"],
            &["http-request", "replace-uri", "^/(a|b)/(.*)$", "/new/\\1/\\2"],
        );
    }

    #[test]
    fn a_colon_is_no_part_of_a_name() {
        let strip = |line: &str| {
            let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            without_colon(&mut words).then(|| words.join(" "))
        };
        let stripped = strip("http-request set-header X-Forwarded-Proto: https if tls");
        assert_eq!(stripped.as_deref(), Some("http-request set-header X-Forwarded-Proto https if tls"));
        for line in ["http-request set-header A b:", "http-request deny if a:", "server a: b", "http-request"]
        {
            assert_eq!(strip(line), None, "{line}");
        }
    }

    #[test]
    fn what_has_no_other_words_stays() {
        for old in [
            &["reqdeny", "^GET /admin"][..],
            &["reqrep", "^([^ :]*) /a (.*)", "\\1 /b"],
            &["reqrep", "^GET /a(.*)", "POST /a\\1"],
            &["reqrep", "^([^ :]*) /(.*)", "\\1 /\\2\\1"],
            &["reqrep", "^Host: x", "X-Host: y"],
            &["reqdel", "^X-[a-z]*:.*"],
            &["reqdel", "^X-A: secret"],
            &["reqadd", "no colon"],
            &["reqadd", "A: b", "c"],
            &["server", "a", "1.2.3.4:80"],
        ] {
            check(old, old);
        }
    }
}
