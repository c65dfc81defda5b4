//! `resolvers` sections, and what servers say of their names.

use crate::draft::{Draft, Table, Value};
use crate::words::{address, duration, split_port};

/// One line of a section. There is one resolver here: what the first section says of a key holds.
pub fn line(words: &[String], number: usize, draft: &mut Draft) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let section = draft.run.as_mut().and_then(|run| run.resolvers.last_mut());
    if let Some(section) = section.filter(|_| word(0) == "nameserver") {
        section.servers.push((word(1).to_owned(), word(2).trim_start_matches("udp@").to_owned()));
    }
    match (word(0), word(1)) {
        ("nameserver", _) => match split_port(word(2)) {
            (host, Some(port)) if address(host).is_some() => {
                let host = address(host).unwrap_or_default();
                let place = Value::text(crate::words::with_port(&host, port));
                let table = draft.global("resolver");
                if !table.get("name-servers").is_some_and(|known| known.items().contains(&place)) {
                    table.push("name-servers", place);
                }
            }
            _ => draft.left(
                number,
                "nameserver",
                format!("{}: a name and an address are needed, with a port over UDP", words[1..].join(" ")),
            ),
        },
        // That is the default.
        ("parse-resolv-conf", _) => {}
        ("resolve_retries", retries) => {
            if !draft.global("resolver").has("retries") {
                draft.global("resolver").number("retries", retries);
            }
        }
        ("accepted_payload_size", size) => {
            let size = size.parse::<u32>().unwrap_or(512).clamp(512, 8192);
            first(draft, "udp-size", size.into());
        }
        // The time for one question; when the next one follows is the TTL's.
        ("timeout", "retry") => timed(draft, "timeout", word(2), number),
        ("timeout", "resolve") => {
            draft.note(number, "timeout resolve", "names are looked up again by their TTL, or by hold valid");
        }
        ("hold", status @ ("valid" | "nx" | "refused" | "timeout" | "other" | "obsolete")) => {
            let Some(time) = duration(word(2), "ms") else {
                return draft.left(number, "hold", format!("{} is no time", word(2)));
            };
            let table = draft.global("resolver");
            let mut hold = table.get("hold").map_or(&[][..], Value::entries).to_vec();
            if !hold.iter().any(|(known, _)| known == status) {
                hold.push((status.to_owned(), Value::text(time)));
                table.set("hold", Value::Table(hold));
            }
        }
        (other, _) => draft.left(number, other, "not carried over"),
    }
}

fn first(draft: &mut Draft, key: &str, value: Value) {
    let table = draft.global("resolver");
    if !table.has(key) {
        table.set(key, value);
    }
}

fn timed(draft: &mut Draft, key: &str, time: &str, number: usize) {
    match duration(time, "ms") {
        Some(time) => first(draft, key, Value::text(time)),
        None => draft.left(number, "timeout", format!("{time} is no time")),
    }
}

/// Whether a server may begin without an address (`init-addr`).
pub fn begins_without(options: &[String]) -> bool {
    init(options).is_some_and(|words| words.iter().any(|w| w == "none" || is_ip(w)))
}

/// What HAProxy would not take as a value of these options.
pub fn unknown_word<'a>(option: &str, value: &'a str) -> Option<&'a str> {
    let known = |word: &&str| match option {
        "resolve-prefer" => ["ipv4", "ipv6"].contains(word),
        _ => ["last", "libc", "none"].contains(word) || is_ip(word),
    };
    value.split(',').map(str::trim).find(|word| !known(word))
}

fn is_ip(word: &str) -> bool {
    word.parse::<std::net::IpAddr>().is_ok()
}

fn init(options: &[String]) -> Option<Vec<String>> {
    let list = value(options, "init-addr")?;
    let words = list.split(',').filter_map(|word| match word.trim() {
        "last" => Some("last".to_owned()),
        "libc" => Some("lookup".to_owned()),
        "none" => Some("none".to_owned()),
        other => Some(other.parse::<std::net::IpAddr>().ok()?.to_string()),
    });
    Some(words.collect())
}

fn value<'a>(options: &'a [String], key: &str) -> Option<&'a str> {
    let at = options.iter().rposition(|o| o == key)?;
    options.get(at + 1).map(String::as_str)
}

/// What a server that is written by name says of its answers.
pub fn of_server(options: &[String], server: &mut Table) {
    let mut keys = Table::default();
    let prefer = value(options, "resolve-prefer");
    // HAProxy's own default, where it looks names up itself.
    let prefer = prefer.or_else(|| value(options, "resolvers").map(|_| "ipv6"));
    if prefer == Some("ipv6") {
        keys.text("prefer", "ipv6");
    }
    if let Some(words) = init(options).filter(|words| !words.is_empty()) {
        keys.texts("init", &words);
    }
    if !keys.lines.is_empty() {
        server.set("resolve", keys);
    }
}
