//! `log`: where lines go, of the process and of each section.

use evenkeel_model::SEVERITIES;

use super::keywords;
use super::proxy::{Proxy, SectionKind};
use super::run::LogTarget;
use crate::draft::{Draft, Table};

/// Targets of one section; HAProxy has no bound, files have a few.
const TARGETS_AT_MOST: usize = 64;
/// Where `log` cannot point here, and what can be written instead.
const REFUSED: &[(&str, &str)] = &[
    ("ring@", "there are no rings: name a syslog server by UDP, a socket, or stdout"),
    ("backend@", "there are no backends of syslog servers: name each server by a log line of its own"),
    ("tcp@", "lines go to syslog servers by UDP: name the server without tcp@"),
    ("tcp4@", "lines go to syslog servers by UDP: name the server without tcp4@"),
    ("tcp6@", "lines go to syslog servers by UDP: name the server without tcp6@"),
    ("fd@", "lines go to stdout or stderr of all descriptors"),
    ("abns@", "a socket has a path"),
];

/// What `global` says of the log.
#[derive(Clone, Debug, Default)]
pub struct Global {
    pub logs: Vec<LogTarget>,
    pub tag: Option<String>,
    /// `log-send-hostname`, with a name or without.
    pub host_name: Option<Option<String>>,
}

/// `log ADDRESS [len N] [format F] [sample S] FACILITY [LEVEL [GRAVEST]]`
pub fn target(words: &[String]) -> Result<LogTarget, String> {
    let to = words.get(1).ok_or("an address is needed")?;
    let mut target = LogTarget { place: place(to)?, level: 7, ..LogTarget::default() };
    let mut rest = words[2..].iter().map(String::as_str);
    let facility = loop {
        let word = rest.next().ok_or("a facility is needed: kern, user, daemon, local0 to local7…")?;
        let value = |rest: &mut dyn Iterator<Item = &str>| {
            rest.next().map(str::to_owned).ok_or_else(|| format!("{word} needs a value"))
        };
        match word {
            "len" => {
                let length = value(&mut rest)?;
                target.length = length.parse().map_err(|_| format!("len {length}: not a number"))?;
            }
            "format" => {
                let format = value(&mut rest)?;
                if evenkeel_model::LogHeader::parse(&format).is_none() {
                    return Err(format!("unknown log format '{format}'"));
                }
                target.header = Some(format);
            }
            "sample" => {
                let sample = value(&mut rest)?;
                if evenkeel_model::LogSample::parse(&sample).is_none() {
                    return Err(format!("sample {sample}: not ranges of lines and their number"));
                }
                target.sample = Some(sample);
            }
            "profile" => return Err("profile: the formats of lines are those of log-format".into()),
            facility => break facility,
        }
    };
    let number = |all: &[&str], word: &str| all.iter().position(|w| *w == word).map(|at| at as u8);
    let level =
        |word: &str| number(&SEVERITIES, word).ok_or_else(|| format!("unknown optional log level '{word}'"));
    target.facility =
        number(keywords::FACILITIES, facility).ok_or_else(|| format!("unknown log facility '{facility}'"))?;
    target.level = rest.next().map_or(Ok(7), level)?;
    target.gravest = rest.next().map_or(Ok(0), level)?;
    match rest.next() {
        Some(word) => Err(format!("{word} is too much")),
        None => Ok(target),
    }
}

/// Standard output, a syslog server: the path of a socket, or an address with its port.
fn place(to: &str) -> Result<String, String> {
    match to {
        "stdout" | "fd@1" => return Ok("stdout".into()),
        "stderr" | "fd@2" => return Ok("stderr".into()),
        _ => {}
    }
    if let Some((_, why)) = REFUSED.iter().find(|(prefix, _)| to.starts_with(prefix)) {
        return Err(format!("{to}: {why}"));
    }
    let to = to.strip_prefix("unix@").unwrap_or(to);
    if to.starts_with('/') {
        return Ok(to.to_owned());
    }
    let prefixes = ["udp@", "udp4@", "udp6@", "ipv4@", "ipv6@"];
    let plain = prefixes.iter().find_map(|prefix| to.strip_prefix(prefix)).unwrap_or(to);
    let (host, port) = crate::words::split_port(plain);
    // What is sent to no address in particular arrives on this machine.
    let address = if host.is_empty() { Some("127.0.0.1".into()) } else { crate::words::address(host) };
    let address = address.ok_or_else(|| format!("{to}: write the address of the syslog server"))?;
    let port = port.filter(|port| !port.is_empty()).unwrap_or("514");
    Ok(crate::words::with_port(&address, port))
}

impl LogTarget {
    fn to(&self) -> String {
        match self.place.as_str() {
            "stdout" | "stderr" => self.place.clone(),
            place => format!("syslog:{place}"),
        }
    }

    /// `[log]` alone says all of it.
    fn is_plain(&self, global: &Global) -> bool {
        let plain = (self.length, self.level, self.gravest) == (0, 7, 0) && self.sample.is_none();
        plain && self.header(global).is_none() && self.host_name(global).is_none()
    }

    /// What the target of Evenkeel's would not have by itself.
    fn header(&self, global: &Global) -> Option<&str> {
        let header = self.header.as_deref().unwrap_or("local");
        let header = if header == "local" && global.host_name.is_some() { "rfc3164" } else { header };
        let own = if self.to().starts_with("syslog:") { "local" } else { "raw" };
        Some(header).filter(|header| *header != own)
    }

    fn host_name<'g>(&self, global: &'g Global) -> Option<&'g str> {
        let named = ["rfc3164", "rfc5424"].contains(&self.header(global).unwrap_or_default());
        global.host_name.as_ref().filter(|_| named)?.as_deref()
    }

    fn table(&self, tag: Option<&str>, global: &Global) -> Table {
        let mut table = Table::default();
        table.text("to", &self.to());
        if let Some(tag) = tag {
            table.text("tag", tag);
        }
        table.set("facility", self.facility);
        for (key, level, usual) in [("level", self.level, 7), ("gravest", self.gravest, 0)] {
            if level != usual {
                table.text(key, SEVERITIES[usize::from(level) % 8]);
            }
        }
        for (key, text) in [
            ("header", self.header(global)),
            ("host-name", self.host_name(global)),
            ("sample", self.sample.as_deref()),
        ] {
            if let Some(text) = text {
                table.text(key, text);
            }
        }
        if self.length != 0 {
            table.set("length", self.length as i64);
        }
        table
    }
}

fn tables(targets: &[LogTarget], tag: Option<&str>, global: &Global) -> Vec<Table> {
    targets.iter().map(|target| target.table(tag, global)).collect()
}

impl Proxy {
    /// Where its lines go: what `defaults` say, and what it says itself.
    pub fn logs(&self, global: &Global) -> Vec<LogTarget> {
        let mut targets = Vec::new();
        for word in &self.words {
            match (word.words[0].as_str(), word.arg(1)) {
                ("no", "log") => targets.clear(),
                ("log", "global") => targets.extend(global.logs.iter().cloned()),
                ("log", _) => targets.extend(target(&word.words)),
                _ => {}
            }
        }
        targets.truncate(TARGETS_AT_MOST);
        targets
    }

    pub fn log_tag(&self, global: &Global) -> Option<String> {
        self.last("log-tag").map(|w| w.arg(1).to_owned()).or_else(|| global.tag.clone())
    }

    /// What of its lines `[log]` does not say: their targets and their tag, which of them there are, and when.
    pub fn service_logs(&self, table: &mut Table, draft: &Draft) {
        let targets = self.logs(&draft.logs);
        let tag = self.last("log-tag").map(|w| w.arg(1));
        let wanted = tables(&targets, tag, &draft.logs);
        if wanted != tables(&draft.process_logs, None, &draft.logs) {
            table.set("log", wanted);
        }
        let flags = [
            ("early", "logasap"),
            ("only-trouble", "dontlog-normal"),
            ("trouble-is-error", "log-separate-errors"),
        ];
        let flags = flags.iter().filter(|(_, option)| self.option(option).is_some());
        let lines = flags.fold(Table::default(), |lines, (key, _)| lines.with(key, true));
        if !lines.lines.is_empty() {
            table.set("log-lines", lines);
        }
    }
}

/// Says in `[log]` what is the same for all services, and tells of lines that are none.
pub fn of_all(proxies: &[Proxy], draft: &mut Draft) {
    for proxy in proxies {
        draft.file.clone_from(&proxy.file);
        for word in proxy.all("log").filter(|word| word.arg(1) != "global") {
            if let Err(why) = target(&word.words) {
                told(word.line, &word.words, &why, draft);
            }
        }
        if proxy.logs(&draft.logs).len() == TARGETS_AT_MOST {
            let why = format!("lines go to {TARGETS_AT_MOST} places at most");
            draft.left(proxy.line, "log", why);
        }
    }
    let speaking = || proxies.iter().filter(|p| p.kind != SectionKind::Backend);
    let mut each = speaking().map(|p| p.logs(&draft.logs));
    let first = each.next();
    let process = match first {
        Some(first) if !first.is_empty() && each.all(|other| other == first) => first,
        _ => draft.logs.logs.clone(),
    };
    let global = draft.logs.clone();
    let tag = global.tag.clone().or_else(|| {
        // Programs that read HAProxy's lines know them by this.
        (draft.run.is_some()).then(|| "haproxy".to_owned())
    });
    if let Some(run) = &mut draft.run {
        run.process.logs.clone_from(&global.logs);
        run.process.log_tag.clone_from(tag.as_ref().unwrap_or(&String::new()));
    }
    let any = speaking().any(|p| !p.logs(&global).is_empty());
    if !any {
        return;
    }
    if let Some(tag) = tag {
        draft.global("log").text("tag", &tag);
    }
    let plain = process.first().filter(|first| first.is_plain(&global));
    if let Some(first) = plain {
        draft.global("log").text("access", &first.to());
        draft.global("log").set("facility", first.facility);
    }
    let others = &process[usize::from(plain.is_some())..];
    if !others.is_empty() {
        draft.global("log").set("also", tables(others, None, &global));
    }
    draft.process_logs = process;
}

/// What is no line of HAProxy's, and what cannot be done.
pub fn told(number: usize, words: &[String], why: &str, draft: &mut Draft) {
    let known = why.contains("unknown") || why.contains("needed") || why.contains("too much");
    match known {
        true => draft.wrong(number, "log", why),
        false => draft.left(number, &words.join(" "), why),
    }
}

impl Global {
    pub fn line(&mut self, words: &[String]) -> Result<(), String> {
        match words[0].as_str() {
            "log" => self.logs.push(target(words)?),
            "log-tag" => self.tag = words.get(1).cloned(),
            _ => self.host_name = Some(words.get(1).cloned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn targets_of_lines() {
        let global = Global::default();
        for (text, expect) in [
            ("log /dev/log local0", "{ to = \"syslog:/dev/log\", facility = 16 }"),
            ("log unix@/dev/log local0", "{ to = \"syslog:/dev/log\", facility = 16 }"),
            (
                "log 192.0.2.1 local1 notice alert",
                "{ to = \"syslog:192.0.2.1:514\", facility = 17, level = \"notice\", gravest = \"alert\" }",
            ),
            ("log :99 local0", "{ to = \"syslog:127.0.0.1:99\", facility = 16 }"),
            ("log : daemon", "{ to = \"syslog:127.0.0.1:514\", facility = 3 }"),
            ("log stdout format raw daemon", "{ to = \"stdout\", facility = 3 }"),
            ("log stdout daemon", "{ to = \"stdout\", facility = 3, header = \"local\" }"),
            (
                "log udp@192.0.2.1:99 len 4096 format rfc5424 sample 1,3-4:5 local7",
                "{ to = \"syslog:192.0.2.1:99\", facility = 23, header = \"rfc5424\", sample = \"1,3-4:5\", length = 4096 }",
            ),
        ] {
            assert_eq!(target(&words(text)).unwrap().table(None, &global).inline(), expect, "{text}");
        }
        for bad in [
            "log",
            "log 192.0.2.1",
            "log 192.0.2.1 local9",
            "log 192.0.2.1 local0 loud",
            "log 192.0.2.1 local0 info info info",
            "log 192.0.2.1 sample 5:3 local0",
            "log 192.0.2.1 format odd local0",
            "log ring@r local0",
            "log backend@b local0",
            "log tcp@192.0.2.1:514 local0",
            "log fd@7 local0",
        ] {
            assert!(target(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_of_the_machine_is_sent_where_it_is_wanted() {
        let named = Global { host_name: Some(Some("box".into())), ..Global::default() };
        let table = target(&words("log 192.0.2.1 local0")).unwrap().table(None, &named);
        assert_eq!(table.text_of("header"), Some("rfc3164"));
        assert_eq!(table.text_of("host-name"), Some("box"));
    }
}
