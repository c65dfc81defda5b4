//! Where lines of the access log go.

use evenkeel_model::{AccessLog, ListenAddress, LogHeader, LogLines, LogSample, LogTarget, SEVERITIES};
use toml::de::DeTable;

use crate::section::Section;

pub fn access_log(text: &str) -> Option<AccessLog> {
    match text {
        "off" => Some(AccessLog::Off),
        "stdout" => Some(AccessLog::Stdout),
        "stderr" => Some(AccessLog::Stderr),
        _ => match text.strip_prefix("syslog:") {
            Some(path) if path.starts_with('/') && !path.chars().any(char::is_control) => {
                Some(AccessLog::SyslogSocket(path.into()))
            }
            Some(address) => Some(AccessLog::Syslog(ListenAddress::parse(address).ok()?.0)),
            None if text.starts_with('/') && !text.chars().any(char::is_control) => {
                Some(AccessLog::File(text.into()))
            }
            None => None,
        },
    }
}

/// What `[log]` says for all places.
pub struct Common {
    tag: String,
    facility: u8,
}

impl Default for Common {
    fn default() -> Self {
        Common { tag: "evenkeel".into(), facility: 16 }
    }
}

impl Common {
    pub fn of(log: Section<'_>) -> Common {
        let Common { tag, facility } = Common::default();
        Common { tag: log.text("tag").map_or(tag, str::to_owned), facility: log.number("facility", facility) }
    }

    fn target(&self, table: Section<'_>, to: &str) -> Option<LogTarget> {
        let access = access_log(to).filter(|access| *access != AccessLog::Off)?;
        let level = |key: &str, default: u8| {
            let known = table.text(key).and_then(|text| SEVERITIES.iter().position(|word| *word == text));
            known.map_or(default, |at| at as u8)
        };
        let header = match access {
            AccessLog::Syslog(_) | AccessLog::SyslogSocket(_) => LogHeader::Local,
            _ => LogHeader::Raw,
        };
        Some(LogTarget {
            access,
            tag: table.text("tag").unwrap_or(&self.tag).into(),
            facility: table.number("facility", self.facility),
            level: level("level", 7),
            gravest: level("gravest", 0),
            header: table.text("header").and_then(LogHeader::parse).unwrap_or(header),
            host_name: table.text("host-name").map(str::to_owned),
            length: table.number("length", 0),
            sample: table.text("sample").and_then(LogSample::parse),
        })
    }

    fn all(&self, table: Section<'_>, key: &str) -> Vec<LogTarget> {
        table.sections(key).filter_map(|(place, _)| self.target(place, place.text("to")?)).collect()
    }
}

/// Where lines go of services that say nothing about it.
pub fn of_process(log: Section<'_>, common: &Common) -> Vec<LogTarget> {
    let empty = DeTable::new();
    let plain = Section { table: &empty, ..log };
    let first = log.text("access").and_then(|to| common.target(plain, to));
    first.into_iter().chain(common.all(log, "also")).collect()
}

pub fn of_service(service: Section<'_>, common: &Common) -> Option<Vec<LogTarget>> {
    service.value("log")?;
    Some(common.all(service, "log"))
}

pub fn lines(service: Section<'_>) -> LogLines {
    let Some(table) = service.section("log-lines") else { return LogLines::default() };
    LogLines {
        early: table.flag("early"),
        only_trouble: table.flag("only-trouble"),
        trouble_is_error: table.flag("trouble-is-error"),
    }
}
