//! The steps of `tcp-check` in the words in which HAProxy tells where a check has failed.
//!
//! In: the rules of a proxy. Out: a text for the first connection, and one for each step of the check that
//! they became.

use super::{expectation, rules, unglued};
use crate::haproxy::proxy::Proxy;

/// Empty where the check is no conversation.
pub fn told(proxy: &Proxy) -> Vec<String> {
    let chosen = proxy.words.iter().rfind(|word| super::chooses(word));
    if chosen.is_none_or(|word| word.arg(1) != "tcp-check") {
        return Vec::new();
    }
    let mut told = vec!["initial connection step of tcp-check".to_owned()];
    let mut begun = false;
    for (number, word) in rules(proxy, "tcp-check").enumerate() {
        let words: Vec<&str> = word.words[1..].iter().map(String::as_str).collect();
        let apart = unglued(&words);
        let words: Vec<&str> = apart.iter().map(String::as_str).collect();
        let of_variable = |rule: &str| rule.starts_with("set-var") || rule.starts_with("unset-var");
        let (what, count) = match words.as_slice() {
            ["comment", ..] => continue,
            [rule, ..] if of_variable(rule) => continue,
            ["connect", rest @ ..] => (connection(rest), 1),
            ["expect", rest @ ..] => {
                let Ok((not, within, what)) = expectation(rest) else { continue };
                // How much suffices is a step of its own.
                (expected(what), if not && within.is_some() { 2 } else { 1 })
            }
            _ => ("send".to_owned(), 1),
        };
        let comment = words.iter().position(|word| *word == "comment").and_then(|at| words.get(at + 1));
        let comment = comment.map(|text| format!(" comment: '{text}'")).unwrap_or_default();
        let text = format!("step {} of tcp-check ({what}){comment}", number + 1);
        match words.first() {
            Some(&"connect") if !begun => told[0] = text,
            _ => told.extend(std::iter::repeat_n(text, count)),
        }
        begun = true;
    }
    told
}

fn connection(words: &[&str]) -> String {
    let port = words.iter().position(|word| *word == "port").and_then(|at| words.get(at + 1));
    port.map_or_else(|| "connect".to_owned(), |port| format!("connect port {port}"))
}

fn expected(words: &[&str]) -> String {
    match words {
        ["string", text, ..] => format!("expect string '{text}'"),
        ["binary", digits, ..] => {
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let bytes: Vec<u8> = digits.as_bytes().chunks(2).filter_map(byte).collect();
            format!("expect binary '{}'", String::from_utf8_lossy(&bytes))
        }
        ["rbinary", ..] => "expect binary regex".into(),
        ["string-lf", ..] => "expect log-format string".into(),
        ["binary-lf", ..] => "expect log-format binary".into(),
        _ => "expect regex".into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::haproxy::run::running;
    use crate::{Source, SourceKind};

    #[test]
    fn steps_are_told_as_haproxy_does() {
        let steps = |lines: &str| {
            let text = format!(
                "listen a\n mode tcp\n bind 127.0.0.1:1\n option tcp-check\n{lines}\n server s 127.0.0.1:2 check\n"
            );
            let source = Source { file: "a.cfg".into(), text, kind: SourceKind::Haproxy };
            let made = running(&[source], &Default::default(), Default::default());
            made.proxies[0].check_steps.clone()
        };
        assert_eq!(
            steps(" tcp-check connect port 7\n tcp-check connect port 1"),
            ["step 1 of tcp-check (connect port 7)", "step 2 of tcp-check (connect port 1)",]
        );
        // As HAProxy 2.6 counts them: comments and variables too.
        let long = " tcp-check connect\n tcp-check comment a\n tcp-check set-var(check.x) str(a)\n tcp-check send PING\n tcp-check expect string PONG comment \"no pong\"";
        assert_eq!(
            steps(long),
            [
                "step 1 of tcp-check (connect)",
                "step 4 of tcp-check (send)",
                "step 5 of tcp-check (expect string 'PONG') comment: 'no pong'",
            ]
        );
        assert_eq!(
            steps(" tcp-check expect min-recv 5 !rstring ^error comment c"),
            [
                "initial connection step of tcp-check",
                "step 1 of tcp-check (expect regex) comment: 'c'",
                "step 1 of tcp-check (expect regex) comment: 'c'",
            ]
        );
    }
}
