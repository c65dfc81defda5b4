//! `log-format` as the text of a line.

use super::proxy::{Proxy, Word};
use super::sample;
use crate::draft::{Draft, Table};

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

/// What `option httplog` writes, as far as captured headers.
const HTTP_LINE: &str =
    "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq ";
/// The end of what `option httpslog` writes. Who has a line of a request has no error of TLS.
const HTTPS_END: &str = "%{+Q}r 0/%[ssl_fc,iif(0000,-)]/%[ssl_fc,iif(0,-)]/%[ssl_fc,iif(0,-)]/%[ssl_fc_is_resumed] %[ssl_fc_sni]/%sslv/%sslc";
const PLAIN_LINE: &str = "Connect from %ci:%cp to %fi:%fp";

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

/// The options that name one of HAProxy's formats.
const OPTIONS: &[&str] = &["httplog", "httpslog", "tcplog"];

/// Which of HAProxy's formats lines have.
enum Form<'p> {
    Http,
    /// Of `option httpslog`.
    Https,
    Tcp,
    /// None is named: a line tells who has come.
    Plain,
    Own(&'p Word),
}

impl Proxy {
    fn form(&self) -> Form<'_> {
        let last = self.words.iter().rfind(|word| match word.words[0].as_str() {
            "log-format" => true,
            "option" => OPTIONS.contains(&word.arg(1)) && self.option(word.arg(1)).is_some(),
            _ => false,
        });
        match last.map(|word| (word, word.arg(1))) {
            None => Form::Plain,
            Some((word, _)) if word.words[0] == "log-format" => Form::Own(word),
            Some((_, "tcplog")) => Form::Tcp,
            Some((_, "httpslog")) => Form::Https,
            Some(_) => Form::Http,
        }
    }

    /// Whether lines have captures of requests or of answers.
    fn captures(&self, side: &str) -> bool {
        self.words.iter().any(|word| match (word.words[0].as_str(), word.arg(1), word.arg(2)) {
            ("capture", of, "header") => of == side,
            ("declare", "capture", of) => of == side,
            (rules @ ("http-request" | "http-response"), "capture", _) => rules.ends_with(side),
            ("tcp-request", "content", "capture") => side == "request",
            _ => false,
        })
    }

    fn slots(&self) -> String {
        let slots = [("request", "%hr "), ("response", "%hs ")];
        slots.iter().filter(|(side, _)| self.captures(side)).map(|(_, text)| *text).collect()
    }

    /// HAProxy writes no brackets where nothing is captured at all.
    fn without_slots_of_none(&self, format: &str) -> String {
        let slots = [("request", "hr"), ("response", "hs")];
        let absent = |name: &str| slots.iter().any(|(side, slot)| *slot == name && !self.captures(side));
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            // A sign for itself, flags or a sample, or a name.
            let end = match rest[1..].chars().next() {
                Some('%') => 2,
                Some('{') => rest.find('}').map_or(rest.len(), |at| at + 1),
                _ => 1,
            };
            let name = rest[end..].split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
            let whole = end + if end == 2 && rest.starts_with("%%") { 0 } else { name.len() };
            if whole == end || !absent(name) {
                out.push_str(&rest[..whole]);
            }
            rest = &rest[whole..];
        }
        out + rest
    }

    /// Its own format of lines, or one of HAProxy's that lines do not have by themselves.
    pub fn lines(&self, table: &mut Table, draft: &mut Draft) {
        let (number, text) = match self.form() {
            Form::Own(word) => (word.line, self.without_slots_of_none(word.arg(1))),
            // Lines of connections for requests, too, where they are asked for.
            Form::Tcp if self.is_http() => (self.line, TCP_LINE.to_owned()),
            Form::Https if self.is_http() => {
                let slots = self.slots();
                (self.line, format!("{HTTP_LINE}{slots}{HTTPS_END}"))
            }
            // HAProxy's line has the place of an answer's captures where there is no answer, too.
            Form::Http if self.is_http() && self.captures("response") => {
                (self.line, format!("{HTTP_LINE}{}%{{+Q}}r", self.slots()))
            }
            Form::Plain if !self.logs(&draft.logs).is_empty() => {
                let kind = if self.is_http() { "HTTP" } else { "TCP" };
                (self.line, format!("{PLAIN_LINE} (%f/{kind})"))
            }
            _ => return,
        };
        match line(&text) {
            Ok(text) => table.text("log-format", &text),
            Err(why) => draft.left(number, &format!("log-format {text}"), why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_connections_have_fields_that_are_known() {
        for text in [TCP_LINE, PLAIN_LINE, &format!("{HTTP_LINE}{HTTPS_END}")] {
            assert!(evenkeel_rules::LineFormat::parse(&line(text).unwrap()).is_ok(), "{text}");
        }
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
