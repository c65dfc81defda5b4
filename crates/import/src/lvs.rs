//! Piranha's `lvs.cf`.

use crate::draft::{Draft, Pool, Service, Table, Twice, Value, prefix};
use crate::words::{address, name, with_port};

#[derive(Default)]
struct Block {
    line: usize,
    name: String,
    comments: Vec<String>,
    values: Vec<(String, String, usize)>,
    servers: Vec<Block>,
}

impl Block {
    fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(k, ..)| k == key).map(|(_, v, _)| v.as_str())
    }
}

pub fn read(text: &str, draft: &mut Draft) {
    let mut root = Block::default();
    let mut virtuals: Vec<Block> = Vec::new();
    let mut comments = Vec::new();
    let mut depth = 0_usize;
    for (at, line) in text.lines().enumerate() {
        let bare = line.trim();
        if let Some(comment) = bare.strip_prefix('#') {
            comments.push(comment.trim_matches(['#', ' ']).to_owned());
            continue;
        }
        let words: Vec<&str> = bare.split_whitespace().collect();
        match words.as_slice() {
            ["virtual" | "failover", name, ..] if bare.ends_with('{') => {
                virtuals.push(Block {
                    line: at + 1,
                    name: (*name).to_owned(),
                    comments: std::mem::take(&mut comments),
                    ..Block::default()
                });
                depth = 1;
            }
            ["server", name, ..] if bare.ends_with('{') => {
                let server = Block { line: at + 1, name: (*name).to_owned(), ..Block::default() };
                if let Some(last) = virtuals.last_mut() {
                    last.servers.push(server);
                }
                depth = 2;
            }
            ["}", ..] => depth = depth.saturating_sub(1),
            _ => {
                let Some((key, value)) = bare.split_once('=') else { continue };
                let entry = (key.trim().to_owned(), value.trim().trim_matches('"').to_owned(), at + 1);
                let into = match depth {
                    0 => Some(&mut root),
                    1 => virtuals.last_mut(),
                    _ => virtuals.last_mut().and_then(|v| v.servers.last_mut()),
                };
                into.into_iter().for_each(|block| block.values.push(entry.clone()));
            }
        }
    }
    let mode = match root.get("network").unwrap_or("nat") {
        "direct" => "dr",
        "tunnel" => "tun",
        _ => "nat",
    };
    if let Some(router) = root.get("nat_router") {
        let place = router.split_whitespace().next().unwrap_or("");
        let bits = root.get("nat_nmask").and_then(prefix).unwrap_or(24);
        draft.global("network").set_with(
            "floating-ips",
            Value::texts([format!("{place}/{bits}")]),
            "the gateway of the real servers",
        );
    }
    if root.get("backup_active") == Some("1") {
        let primary = root.get("primary").unwrap_or("").to_owned();
        let backup = root.get("backup").unwrap_or("").to_owned();
        draft.left(1, "backup", format!("{primary} and {backup} were a pair: write [pair] on both, then `evenkeel pair invite` (docs/pair.md)"));
    }
    for (key, value, line) in &root.values {
        match key.as_str() {
            "heartbeat" | "heartbeat_port" | "keepalive" | "deadtime" | "reentry" => {
                let why = format!("{value}: how soon a dead node is missed says [pair], where there is one");
                draft.note(*line, key, why);
            }
            "tcp_timeout" | "tcpfin_timeout" | "udp_timeout" => {
                draft.note(*line, key, format!("{value}: see `timeouts` of the services"));
            }
            "serial_no" | "primary" | "backup" | "backup_active" | "service" | "network" | "nat_router"
            | "nat_nmask" | "debug_level" | "primary_private" | "backup_private" | "rsh_command" => {}
            _ => draft.left(*line, key, format!("{value}: not carried over")),
        }
    }
    for one in &virtuals {
        service(one, mode, draft);
    }
}

/// Words of a service or its servers that are not carried over, or differ.
fn what_is_left(one: &Block, draft: &mut Draft) {
    const KNOWN: &[&str] = &[
        "active",
        "address",
        "vip_nmask",
        "port",
        "protocol",
        "scheduler",
        "persistent",
        "pmask",
        "send",
        "expect",
        "send_program",
        "use_regex",
        "timeout",
        "sorry_server",
    ];
    for (key, value, line) in &one.values {
        match (key.as_str(), value.as_str()) {
            ("load_monitor", "none" | "") | ("quiesce_server", "0") => {}
            ("load_monitor", _) => {
                draft.left(
                    *line,
                    key,
                    format!("{value}: an agent on the servers says their weights: see `agent`"),
                );
            }
            ("quiesce_server", _) => {
                draft.note(
                    *line,
                    key,
                    "a server that is down gets no new connections; old ones stay, as there",
                );
            }
            ("reentry", _) => {
                draft.note(*line, key, format!("{value}: a server comes back after `rise` checks that pass"));
            }
            (key, _) if KNOWN.contains(&key) => {}
            (key, _) => draft.left(*line, key, format!("{value}: not carried over")),
        }
    }
    for (key, value, line) in one.servers.iter().flat_map(|real| &real.values) {
        if !["address", "port", "weight", "active"].contains(&key.as_str()) {
            draft.left(*line, key, format!("{value}: not carried over"));
        }
    }
}

fn service(one: &Block, mode: &str, draft: &mut Draft) {
    let host = one.get("address").and_then(|a| a.split_whitespace().next()).and_then(address);
    let (Some(host), port) = (host, one.get("port").unwrap_or("80")) else {
        let place = one.get("address").unwrap_or("").to_owned();
        return draft.left(
            one.line,
            &format!("virtual {}", one.name),
            format!("{place:?} is no address: the service is left out"),
        );
    };
    if one.get("active") == Some("0") {
        return draft.left(one.line, &format!("virtual {}", one.name), "it was not active and is left out");
    }
    let mut service = Service {
        name: draft.fresh(&name(&one.name)),
        mode: mode.into(),
        vips: vec![with_port(&host, port)],
        ..Service::default()
    };
    service.table.comments.clone_from(&one.comments);
    service.table.text("protocol", if one.get("protocol") == Some("udp") { "udp" } else { "tcp" });
    let mut pool = Pool::default();
    pool.ipvs_scheduler(one.get("scheduler"), one.line, draft);
    pool.by_source(one.get("persistent"), one.get("pmask"));
    pool.table.set("health-check", check(one, port, draft));
    for real in &one.servers {
        let Some(place) = real.get("address").and_then(address) else {
            draft.left(real.line, &format!("server {}", real.name), "it has no address and is left out");
            continue;
        };
        let mut server = Table::default();
        server.text("name", &name(&real.name));
        match real.get("port").or(Some(port)).filter(|_| mode == "nat") {
            Some(port) => server.text("address", &with_port(&place, port)),
            None => server.text("address", &place),
        }
        server.number("weight", real.get("weight").unwrap_or("1"));
        if real.get("active") == Some("0") {
            server.set_with("admin-state", Value::text("halted"), "it was not active");
        }
        pool.add(server, Twice::One, real.line, draft);
    }
    if let Some(sorry) = one.get("sorry_server").and_then(address) {
        let mut server = Table::default();
        server.text("name", "sorry");
        server.text("address", &if mode == "nat" { with_port(&sorry, port) } else { sorry });
        server.set("backup", true);
        pool.servers.push(server);
    }
    if pool.servers.is_empty() {
        return draft.left(one.line, &format!("virtual {}", one.name), "it has no servers and is left out");
    }
    what_is_left(one, draft);
    service.own = Some(pool);
    draft.services.push(service);
}

fn check(one: &Block, port: &str, draft: &mut Draft) -> Table {
    let mut check = Table::default();
    let expects = if one.get("use_regex") == Some("1") { "expect-regex" } else { "expect" };
    match (one.get("send_program"), one.get("expect")) {
        (Some(program), _) => {
            draft.left(one.line, "send_program", format!("{program}: write health-check = {{ type = \"script\", … }}; a TCP connection is tried instead"));
            check.text("type", "tcp");
        }
        (None, Some(expect)) if port == "80" && one.get("send").is_some_and(|s| s.starts_with("GET ")) => {
            check.text("type", "http");
            check.text("path", one.get("send").and_then(|s| s.split(' ').nth(1)).unwrap_or("/"));
            if !expect.starts_with("HTTP") {
                check.text(expects, expect);
            }
        }
        (None, Some(expect)) => {
            check.text("type", "tcp");
            let send = one.get("send").map(|send| send.replace("\\r", "\r").replace("\\n", "\n"));
            if expects == "expect" {
                send.iter().for_each(|send| check.text("send", send));
                check.text("expect", expect);
            } else {
                if let Some(send) = &send {
                    check.push("steps", Table::default().with_text("send", send));
                }
                check.push("steps", Table::default().with_text("expect-regex", expect));
            }
        }
        (None, None) => check.text("type", "tcp"),
    }
    if let Some(timeout) = one.get("timeout") {
        check.text("interval", &format!("{timeout}s"));
    }
    check
}

#[cfg(test)]
mod tests {
    use crate::{Source, SourceKind, import};

    #[test]
    fn what_piranha_says_is_carried_or_told() {
        let text = "network = nat\ndeadtime = 18\nzap = 1\nvirtual a {\n address = 192.0.2.10\n port = 25\n expect = \"220 .*\"\n use_regex = 1\n load_monitor = uptime\n reentry = 15\n server b {\n  address = 192.0.2.11\n  odd = 1\n }\n}\n";
        let source = Source { kind: SourceKind::Lvs, file: "lvs.cf".into(), text: text.into() };
        let made = import(&[source], &Default::default());
        assert!(made.text.contains("expect-regex = \"220 .*\""), "{}", made.text);
        let told: Vec<(usize, &str)> = made.left.iter().map(|l| (l.line, l.keyword.as_str())).collect();
        assert_eq!(told, [(2, "deadtime"), (3, "zap"), (9, "load_monitor"), (10, "reentry"), (13, "odd")]);
    }
}
