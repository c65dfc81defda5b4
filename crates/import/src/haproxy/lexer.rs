//! Lines into words: quotes, escapes, variables, comments (HAProxy's configuration manual, 2.2).

use std::collections::BTreeMap;

pub struct Line {
    pub number: usize,
    pub words: Vec<String>,
    /// Of a line that has nothing else.
    pub comment: Option<String>,
    /// A quote that does not end.
    pub problem: Option<&'static str>,
}

pub fn lines(text: &str, variables: &BTreeMap<String, String>) -> Vec<Line> {
    text.lines().enumerate().map(|(at, line)| split(at + 1, line, variables)).collect()
}

/// The words of a text that is no line of a file.
pub fn tokens(text: &str, variables: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let line = split(1, text, variables);
    match line.problem {
        Some(problem) => Err(problem.into()),
        None => Ok(line.words),
    }
}

pub fn split(number: usize, line: &str, variables: &BTreeMap<String, String>) -> Line {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut comment = None;
    let mut problem = None;
    let mut chars = line.chars().peekable();
    let mut weak = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                weak = !weak;
                word.get_or_insert_default();
            }
            '\'' if !weak => {
                let mut ended = false;
                let strong: String = chars
                    .by_ref()
                    .take_while(|c| {
                        ended = *c == '\'';
                        !ended
                    })
                    .collect();
                if !ended {
                    problem = Some("unmatched quote");
                }
                word.get_or_insert_default().push_str(&strong);
            }
            '\\' => match chars.next() {
                Some('n') => word.get_or_insert_default().push('\n'),
                Some('r') => word.get_or_insert_default().push('\r'),
                Some('t') => word.get_or_insert_default().push('\t'),
                Some('x') => {
                    let code: String = chars.by_ref().take(2).collect();
                    let byte = u8::from_str_radix(&code, 16).map_or('?', char::from);
                    word.get_or_insert_default().push(byte);
                }
                Some('$') if !weak => word.get_or_insert_default().push_str("\\$"),
                Some(sign @ (' ' | '\\' | '#' | '\'' | '"' | '$')) => word.get_or_insert_default().push(sign),
                // Any other backslash stays: regular expressions have many.
                Some(other) => word.get_or_insert_default().extend(['\\', other]),
                None => {}
            },
            '$' if weak => {
                let braced = chars.next_if_eq(&'{').is_some();
                let mut key = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    key.push(c);
                }
                // `${NAME-default}`, and `${NAME[*]}` for several words.
                let mut fallback = String::new();
                if braced {
                    fallback = chars.by_ref().take_while(|c| *c != '}').collect();
                }
                let several = fallback.starts_with("[*]");
                let fallback = fallback.trim_start_matches("[*]").trim_start_matches('-').to_owned();
                let value = variables.get(&key).cloned().unwrap_or(fallback);
                if several {
                    let mut parts = value.split_whitespace();
                    if let Some(first) = parts.next() {
                        word.get_or_insert_default().push_str(first);
                    }
                    for part in parts {
                        words.extend(word.replace(part.to_owned()));
                    }
                } else {
                    word.get_or_insert_default().push_str(&value);
                }
            }
            '#' if !weak => {
                let rest: String = chars.by_ref().collect();
                comment = Some(rest.trim().to_owned());
            }
            c if c.is_whitespace() && !weak => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if weak {
        problem = Some("unmatched quote");
    }
    Line { number, words, comment, problem }
}

/// The words of a line that are addresses: variables stand in them without quotes as well.
pub fn expand_addresses(words: &mut [String], variables: &BTreeMap<String, String>) {
    let first: Vec<&str> = words.iter().take(2).map(String::as_str).collect();
    let place = match first.as_slice() {
        ["bind" | "log" | "source" | "dispatch", _] => 1,
        ["server" | "peer" | "nameserver" | "mailer" | "listen" | "frontend", _] | ["stats", "socket"] => 2,
        _ => return,
    };
    if let Some(word) = words.get_mut(place) {
        *word = expanded(word, variables);
    }
    if words[0] == "server" {
        let named =
            (3..words.len()).filter(|at| ["addr", "agent-addr", "source"].contains(&words[at - 1].as_str()));
        for at in named.collect::<Vec<_>>() {
            words[at] = expanded(&words[at], variables);
        }
    }
}

/// A text with the values of its `${NAME}` and `$NAME`; nothing stands for one that is not there.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let inner = rest.strip_prefix('{').unwrap_or(rest);
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        out.push_str(variables.get(&inner[..end]).map_or("", String::as_str));
        let after = &inner[end..];
        rest = if inner.len() < rest.len() { after.strip_prefix('}').unwrap_or(after) } else { after };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_variables_without_quotes() {
        let variables = BTreeMap::from([("PORT".to_owned(), "80".to_owned())]);
        let check = |line: &str, expect: &str| {
            let mut words = split(1, line, &variables).words;
            expand_addresses(&mut words, &variables);
            assert_eq!(words.join(" "), expect, "{line}");
        };
        check("bind 127.0.0.1:${PORT} ssl", "bind 127.0.0.1:80 ssl");
        check("bind :$PORT", "bind :80");
        check("server s1 127.0.0.1:${PORT} check addr ${NONE}x", "server s1 127.0.0.1:80 check addr x");
        check("server ${PORT} 127.0.0.1:1", "server ${PORT} 127.0.0.1:1");
        check("http-request set-header a ${PORT}", "http-request set-header a ${PORT}");
    }

    #[test]
    fn words() {
        let variables = BTreeMap::from([("PORT".to_owned(), "80 81".to_owned())]);
        let check = |line: &str, expect: &[&str]| {
            assert_eq!(lines(line, &variables)[0].words, expect, "{line}");
        };
        check("bind :80  # all", &["bind", ":80"]);
        check(r"a\ b 'c # d' e\#f", &["a b", "c # d", "e#f"]);
        check(r"reqrep ^([^\ :]*)\ /a\.b \1\\", &["reqrep", "^([^ :]*) /a\\.b", "\\1\\"]);
        check(r#"x "a $PORT b" "${PORT}" '$PORT' "${NONE-7}""#, &["x", "a 80 81 b", "80 81", "$PORT", "7"]);
        check(r"a\$b", &[r"a\$b"]);
        check(r#"return string "it's""#, &["return", "string", "it's"]);
        check("  ", &[]);
        assert_eq!(lines("# why", &variables)[0].comment.as_deref(), Some("why"));
    }
}
