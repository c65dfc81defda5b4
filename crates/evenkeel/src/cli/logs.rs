//! The access log as it is written, with filters that understand both of its formats.

use serde_json::Value;

use super::client::Client;
use super::live::{say, status_of};
use super::{Common, Exit, Failure, Outcome};

#[derive(Debug, Default)]
pub struct Filter {
    pub grep: Option<String>,
    pub service: Option<String>,
    pub server: Option<String>,
    /// `503` or `5xx`
    pub status: Option<String>,
    pub client: Option<String>,
}

/// What a line says, as far as filters ask.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    client: String,
    service: String,
    server: String,
    status: String,
}

impl Line {
    fn parse(text: &str) -> Option<Line> {
        if text.starts_with('{') {
            let value: Value = serde_json::from_str(text).ok()?;
            let get = |key: &str| match &value[key] {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            };
            let client = get("client");
            let client = client.rsplit_once(':').map_or(client.clone(), |(address, _)| address.to_owned());
            return Some(Line {
                client,
                service: get("service"),
                server: get("server"),
                status: get("status"),
            });
        }
        // `CLIENT:PORT [TIME] SERVICE POOL/SERVER TIMERS STATUS …`
        let mut words = text.split(' ');
        let client = words.next()?.rsplit_once(':')?.0.to_owned();
        words.next()?;
        let service = words.next()?.trim_end_matches('~').to_owned();
        let server = words.next()?.split_once('/')?.1.to_owned();
        words.next()?;
        let status = words.next()?.to_owned();
        Some(Line { client, service, server, status })
    }
}

impl Filter {
    /// Whether a line is wanted; nothing where it is in a format of its own, and its parts are asked for.
    fn passes(&self, text: &str) -> Option<bool> {
        if self.grep.as_ref().is_some_and(|wanted| !text.contains(wanted.as_str())) {
            return Some(false);
        }
        if self.service.is_none() && self.server.is_none() && self.status.is_none() && self.client.is_none() {
            return Some(true);
        }
        let line = Line::parse(text)?;
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
        let status = self.status.as_deref().is_none_or(|wanted| {
            let class = wanted.strip_suffix("xx").filter(|digit| digit.len() == 1);
            class.map_or(line.status == wanted, |digit| {
                line.status.len() == 3 && line.status.starts_with(digit)
            })
        });
        let all = status
            && is(&self.service, &line.service)
            && is(&self.server, &line.server)
            && is(&self.client, &line.client);
        Some(all)
    }
}

pub fn tail(common: &Common, follow: bool, filter: &Filter, count: Option<usize>) -> Outcome {
    if !follow {
        let why = "only `logs --follow` is there so far: earlier lines are where [log] access writes them";
        return Err(Failure::new(Exit::Failed, why));
    }
    let client = Client::new(&common.socket);
    if let Some(name) = &filter.service {
        status_of(&client, name)?;
    }
    let lines = client.lines("/api/v1/logs")?;
    let (mut shown, mut told) = (0, false);
    for line in lines {
        let line = line?;
        let passes = filter.passes(&line);
        if passes.is_none() && !told {
            told = true;
            eprintln!(
                "evenkeel: lines in a format of their own (`log-format`) are left out: of them only --grep can choose"
            );
        }
        if passes != Some(true) {
            continue;
        }
        say(&line)?;
        shown += 1;
        if count.is_some_and(|count| shown >= count) {
            return Ok(());
        }
    }
    Err(Failure::new(Exit::Unreachable, "the daemon has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_understand_both_formats() {
        let lines = [
            "10.0.0.1:4000 [20/Nov/2026:21:33:21.123] web~ pool/s1 0/0/0/1/1 503 41 - - SC-- 1/1/0/0/0 0/0 \"GET / HTTP/1.1\"",
            r#"{"time-ms":1,"client":"10.0.0.1:4000","service":"web","pool":"pool","server":"s1","request":"GET / HTTP/1.1","status":503}"#,
        ];
        let some = |text: &str| Some(text.to_owned());
        for line in lines {
            let check = |filter: Filter, passes: bool| {
                assert_eq!(filter.passes(line), Some(passes), "{filter:?} {line}")
            };
            check(Filter::default(), true);
            check(Filter { service: some("web"), server: some("s1"), ..Filter::default() }, true);
            check(Filter { status: some("503"), client: some("10.0.0.1"), ..Filter::default() }, true);
            check(Filter { status: some("5xx"), grep: some("GET /"), ..Filter::default() }, true);
            check(Filter { status: some("4xx"), ..Filter::default() }, false);
            check(Filter { service: some("we"), ..Filter::default() }, false);
            check(Filter { client: some("10.0.0.2"), ..Filter::default() }, false);
            check(Filter { server: some("s2"), ..Filter::default() }, false);
        }
        let own = "X 10.0.0.1 503";
        assert_eq!(Filter { status: some("503"), ..Filter::default() }.passes(own), None);
        assert_eq!(Filter { grep: some("503"), ..Filter::default() }.passes(own), Some(true));
    }
}
