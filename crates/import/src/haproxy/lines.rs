//! `log-format` as the text of a line.

use super::proxy::Proxy;
use super::sample;
use crate::draft::{Draft, Table};
use crate::words::quoted;

/// HAProxy's short names, and what stands for them in lines.
const NAMES: &[(&str, &str)] = &[
    ("ci", "{client}"),
    ("cp", "{client-port}"),
    ("fi", "{destination}"),
    ("fp", "{port}"),
    ("si", "{server-address}"),
    ("sp", "{server-port}"),
    ("f", "{service}"),
    ("ft", "{service}{tls-mark}"),
    ("b", "{pool}"),
    ("s", "{server}"),
    ("t", "{time}"),
    ("tr", "{time}"),
    ("T", "{time-utc}"),
    ("trg", "{time-utc}"),
    ("Tl", "{time-local}"),
    ("trl", "{time-local}"),
    ("Ts", "{time-seconds}"),
    ("ms", "{time-milliseconds}"),
    ("TR", "{request-ms}"),
    ("Tw", "{queue-ms}"),
    ("Tc", "{connect-ms}"),
    ("Tr", "{response-ms}"),
    ("Td", "{data-ms}"),
    ("Ta", "{total-ms}"),
    ("Tt", "{total-ms}"),
    ("ST", "{status}"),
    ("U", "{bytes-in}"),
    ("B", "{bytes-out}"),
    ("ts", "{termination}"),
    ("tsc", "{termination-state}"),
    ("ac", "{process-connections}"),
    ("fc", "{service-connections}"),
    ("bc", "{pool-connections}"),
    ("sc", "{server-connections}"),
    ("rc", "{retries}"),
    ("sq", "{server-queue}"),
    ("bq", "{pool-queue}"),
    ("hr", "{{{captured}}}"),
    ("hs", "{{{captured-answer}}}"),
    ("r", "{request}"),
    ("HM", "{request-method}"),
    ("HU", "{request-uri}"),
    ("HP", "{request-path}"),
    ("HPO", "{request-path-only}"),
    ("HQ", "{request-query}"),
    ("HV", "{request-version}"),
    ("H", "{hostname}"),
    ("pid", "{process-id}"),
    ("sslv", "{tls-version}"),
    ("sslc", "{tls-cipher}"),
    ("ID", "{variable:txn.unique-id}"),
    ("CC", "-"),
    ("CS", "-"),
];

/// What `option tcplog` writes.
const TCP_LINE: &str = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";

/// The text of a line of Evenkeel's.
pub fn line(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    let mut all_quoted = false;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at].replace('{', "{{").replace('}', "}}"));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let mut in_quotes = all_quoted;
        if let Some((flags, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            rest = after;
            for flag in flags.split(',').map(str::trim) {
                match flag {
                    "+Q" => in_quotes = true,
                    "-Q" => in_quotes = false,
                    "-X" | "-E" => {}
                    other => return Err(format!("%{{{other}}} has no counterpart")),
                }
            }
        }
        let written = match rest.strip_prefix('[') {
            Some(inner) => {
                let end = sample::end_of(inner).ok_or("a %[ has no ]")?;
                rest = &inner[end + 1..];
                sample::template(&inner[..end])?
            }
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
                let name = &rest[..end];
                rest = &rest[end..];
                if name == "o" {
                    all_quoted = in_quotes;
                    continue;
                }
                let known = NAMES.iter().find(|(known, _)| *known == name);
                known.ok_or_else(|| format!("%{name} has no counterpart"))?.1.to_owned()
            }
        };
        out.push_str(&if in_quotes { format!("\"{written}\"") } else { written });
    }
    out.push_str(&rest.replace('{', "{{").replace('}', "}}"));
    Ok(out)
}

impl Proxy {
    /// The last word on lines is `option tcplog`.
    pub fn lines_are_of_connections(&self) -> bool {
        let last = self.words.iter().rfind(|word| {
            word.words[0] == "log-format"
                || word.words[0] == "option" && ["httplog", "tcplog"].contains(&word.arg(1))
        });
        last.is_some_and(|word| word.arg(1) == "tcplog")
    }

    /// Its own format of lines, unless a later `option` names one of HAProxy's.
    pub fn lines(&self, table: &mut Table, draft: &mut Draft) {
        let last = self.words.iter().rfind(|word| match word.words[0].as_str() {
            "log-format" => true,
            "option" => ["httplog", "tcplog"].contains(&word.arg(1)),
            _ => false,
        });
        // Lines of connections for requests, too, where they are asked for.
        let of_connections = self.is_http() && self.lines_are_of_connections();
        let Some(word) = last.filter(|word| word.words[0] == "log-format" || of_connections) else { return };
        match line(if of_connections { TCP_LINE } else { word.arg(1) }) {
            Ok(text) => table.set("log-format", quoted(&text)),
            Err(why) => draft.left(word.line, &word.words.join(" "), why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_connections_have_fields_that_are_known() {
        assert!(evenkeel_rules::LineFormat::parse(&line(TCP_LINE).unwrap()).is_ok());
    }

    #[test]
    fn formats_of_lines() {
        for (text, expect) in [
            (
                "%ci:%cp [%tr] %ft %b/%s",
                "{client}:{client-port} [{time}] {service}{tls-mark} {pool}/{server}",
            ),
            ("{\"a\":\"%ci\"} 100%%", "{{\"a\":\"{client}\"}} 100%"),
            ("%{+Q}r %ST", "\"{request}\" {status}"),
            ("%{+Q}o %HM %{-Q}B", " \"{request-method}\" {bytes-out}"),
            (
                "ua=%[req.fhdr(User-Agent),lower] v=%[var(txn.a)]",
                "ua={last-header:User-Agent|lower} v={variable:txn.a}",
            ),
            ("%hr", "{{{captured}}}"),
        ] {
            assert_eq!(line(text).as_deref(), Ok(expect), "{text}");
            assert!(evenkeel_rules::LineFormat::parse(expect).is_ok(), "{expect}");
        }
        for bad in ["%[last_rule_line]", "%{+X}ci", "%[src"] {
            assert!(line(bad).is_err(), "{bad}");
        }
    }
}
