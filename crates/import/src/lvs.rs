//! Piranha's `lvs.cf`.

use crate::draft::{Draft, Pool, Service, Table, Twice, Value, prefix};
use crate::words::{address, is_loopback, name, with_port};

#[derive(Clone, Default)]
struct Block {
    line: usize,
    is_failover: bool,
    name: String,
    comments: Vec<String>,
    values: Vec<(String, String, usize)>,
    servers: Vec<Block>,
}

impl Block {
    fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(k, ..)| k == key).map(|(_, v, _)| v.as_str())
    }

    fn line_of(&self, key: &str) -> usize {
        self.values.iter().find(|(k, ..)| k == key).map_or(self.line, |(.., line)| *line)
    }
}

pub fn read(text: &str, draft: &mut Draft) {
    let mut root = Block::default();
    let mut blocks: Vec<Block> = Vec::new();
    let mut comments = Vec::new();
    let mut depth = 0_usize;
    for (at, line) in text.lines().enumerate() {
        let bare = line.trim();
        if let Some(comment) = bare.strip_prefix('#') {
            let comment = comment.trim_matches(['#', ' ']).to_owned();
            match blocks.last_mut() {
                _ if comment.is_empty() => {}
                Some(block) if depth > 0 => block.comments.push(comment),
                _ => comments.push(comment),
            }
            continue;
        }
        let words: Vec<&str> = bare.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [kind @ ("virtual" | "failover"), name, ..] if bare.ends_with('{') => {
                blocks.push(Block {
                    line: at + 1,
                    is_failover: *kind == "failover",
                    name: name.trim_end_matches('{').to_owned(),
                    comments: std::mem::take(&mut comments),
                    ..Block::default()
                });
                depth = 1;
            }
            ["server", name, ..] if bare.ends_with('{') && depth == 1 => {
                let name = name.trim_end_matches('{').to_owned();
                let server = Block { line: at + 1, name, ..Block::default() };
                blocks.iter_mut().last().into_iter().for_each(|last| last.servers.push(server.clone()));
                depth = 2;
            }
            ["}", ..] => depth = depth.saturating_sub(1),
            _ => {
                let Some((key, value)) = bare.split_once('=') else {
                    draft.left(at + 1, words[0], "it is no `word = value`, and no block begins or ends here");
                    continue;
                };
                let value = value.trim();
                let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
                let entry = (key.trim().replace(' ', "_"), value.to_owned(), at + 1);
                let into = match depth {
                    0 => Some(&mut root),
                    1 => blocks.last_mut(),
                    _ => blocks.last_mut().and_then(|v| v.servers.last_mut()),
                };
                into.into_iter().for_each(|block| block.values.push(entry.clone()));
            }
        }
    }
    globals(&root, draft);
    let mode = match root.get("network").unwrap_or("nat") {
        "direct" => "dr",
        "tunnel" => "tun",
        _ => "nat",
    };
    for one in &blocks {
        if one.is_failover {
            failover(one, draft);
        } else {
            service(one, mode, draft);
        }
    }
}

fn globals(root: &Block, draft: &mut Draft) {
    if let Some(router) = root.get("nat_router") {
        let place = router.split_whitespace().next().unwrap_or("");
        let bits = root.get("nat_nmask").and_then(prefix).unwrap_or(24);
        match address(place) {
            Some(place) => draft.global("network").set_with(
                "floating-ips",
                Value::texts([format!("{place}/{bits}")]),
                "the gateway of the real servers",
            ),
            None => draft.left(root.line_of("nat_router"), "nat_router", format!("{router:?} is no address")),
        }
    }
    for (key, value, line) in &root.values {
        match (key.as_str(), value.as_str()) {
            ("backup_active", "1") => {
                let primary = root.get("primary").unwrap_or("");
                let backup = root.get("backup").unwrap_or("");
                draft.left(*line, key, format!("{primary} and {backup} were a pair: write [pair] on both, then `evenkeel pair invite` (docs/pair.md)"));
            }
            ("service", "fos") => {
                draft.left(
                    *line,
                    key,
                    "fos: its services only moved between the nodes, and nothing was balanced",
                );
            }
            ("network", "nat" | "direct" | "tunnel") => {}
            ("network", _) => draft.left(*line, key, format!("{value} is not known: mode nat is taken")),
            ("heartbeat" | "heartbeat_port" | "keepalive" | "deadtime", _) => {
                let why = format!("{value}: how soon a dead node is missed says [pair], where there is one");
                draft.note(*line, key, why);
            }
            ("tcp_timeout" | "tcpfin_timeout" | "udp_timeout", _) => {
                draft.note(*line, key, format!("{value}: see `timeouts` of the services"));
            }
            ("syncdaemon" | "syncd_iface" | "syncd_id", _) => {
                draft.remark(*line, key, "connections are known to both nodes of a pair by themselves");
            }
            ("monitor_links", "0") => {}
            ("monitor_links", _) => {
                draft.remark(*line, key, "each node of a pair watches its links by itself");
            }
            (
                "serial_no" | "primary" | "backup" | "backup_active" | "service" | "nat_router" | "nat_nmask"
                | "debug_level" | "primary_private" | "backup_private" | "primary_shared" | "backup_shared"
                | "rsh_command",
                _,
            ) => {}
            _ => draft.left(*line, key, format!("{value}: not carried over")),
        }
    }
}

/// A service that only moves between the nodes: its address floats, its programs are started by somebody else.
fn failover(one: &Block, draft: &mut Draft) {
    let keyword = format!("failover {}", one.name);
    if one.get("active") == Some("0") {
        return draft.left(one.line, &keyword, "it was not active and is left out");
    }
    let bits = one.get("vip_nmask").and_then(prefix).unwrap_or(32);
    match one.get("address").and_then(|a| a.split_whitespace().next()).and_then(address) {
        Some(place) => draft.global("network").push("floating-ips", Value::text(format!("{place}/{bits}"))),
        None => draft.left(one.line, &keyword, "it has no address"),
    }
    draft.left(one.line, &keyword, "its address floats; nothing is started or asked: see `notify` of [pair]");
    for (key, value, line) in &one.values {
        match key.as_str() {
            "active" | "address" | "vip_nmask" => {}
            "start_cmd" | "stop_cmd" => {
                draft.left(
                    *line,
                    key,
                    format!("{value}: it is not run with the role: see `notify` of [pair]"),
                );
            }
            _ => draft.left(*line, key, format!("{value}: the address floats, and nobody asks the service")),
        }
    }
}

/// Words of a service or its servers that are not carried over, or differ.
fn what_is_left(one: &Block, mode: &str, draft: &mut Draft) {
    const KNOWN: &[&str] = &[
        "active",
        "vip_nmask",
        "port",
        "scheduler",
        "persistent",
        "pmask",
        "send",
        "expect",
        "send_program",
        "use_regex",
        "timeout",
        "reentry",
        "sorry_server",
    ];
    let lost = |value: &str| format!("{value}: not carried over");
    for (key, value, line) in &one.values {
        match (key.as_str(), value.as_str()) {
            ("load_monitor", "none" | "") | ("quiesce_server", "0") | ("protocol", "tcp" | "udp") => {}
            ("address", _) => {
                if let Some((_, interface)) = value.split_once(char::is_whitespace) {
                    let why = format!("{interface}: the address is placed where the machine has its network");
                    draft.remark(*line, key, why);
                }
            }
            ("protocol", _) => draft.left(*line, key, format!("{value} is not known: TCP is taken")),
            ("load_monitor", _) => draft.left(
                *line,
                key,
                format!("{value}: an agent on the servers says their weights: see `agent`"),
            ),
            ("quiesce_server", _) => draft.note(
                *line,
                key,
                "a server that is down gets no new connections; old ones stay, as there",
            ),
            ("fwmark", "" | "0") => {}
            ("fwmark", _) => draft.grave(
                *line,
                key,
                format!("{value}: what a rule of the firewall marked was one service; only the address and port here are served, and other ports of it have to be named in `vip`"),
            ),
            (key, _) if KNOWN.contains(&key) => {}
            (key, _) => draft.left(*line, key, lost(value)),
        }
    }
    for (key, value, line) in one.servers.iter().flat_map(|real| &real.values) {
        match key.as_str() {
            "port" if mode != "nat" && Some(value.as_str()) != one.get("port").or(Some("80")) => {
                draft.note(
                    *line,
                    key,
                    format!("{value}: packets keep their port in this mode, there as here"),
                );
            }
            "address" | "port" | "weight" | "active" => {}
            _ => draft.left(*line, key, lost(value)),
        }
    }
}

fn service(one: &Block, mode: &str, draft: &mut Draft) {
    let keyword = format!("virtual {}", one.name);
    let host = one.get("address").and_then(|a| a.split_whitespace().next()).and_then(address);
    let (Some(host), port) = (host, one.get("port").unwrap_or("80")) else {
        let place = one.get("address").unwrap_or("").to_owned();
        return draft.grave(one.line, &keyword, format!("{place:?} is no address: the service is left out"));
    };
    if one.get("active") == Some("0") {
        return draft.left(one.line, &keyword, "it was not active and is left out");
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
    pool.by_source(one.get("persistent").filter(|seconds| *seconds != "0"), one.get("pmask"));
    pool.table.set("health-check", check(one, draft));
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
    sorry(one, mode, port, &mut pool, draft);
    if pool.servers.is_empty() {
        return draft.grave(one.line, &keyword, "it has no servers and is left out");
    }
    what_is_left(one, mode, draft);
    service.own = Some(pool);
    draft.services.push(service);
}

fn sorry(one: &Block, mode: &str, port: &str, pool: &mut Pool, draft: &mut Draft) {
    let Some(wanted) = one.get("sorry_server").filter(|wanted| !wanted.is_empty()) else { return };
    let line = one.line_of("sorry_server");
    let Some(place) = address(wanted) else {
        return draft.left(
            line,
            "sorry_server",
            format!("{wanted:?} is no address: nobody serves when all are down"),
        );
    };
    if is_loopback(&place) {
        let why = "at layer 4 this machine itself is no real server: nobody serves when all are down";
        return draft.left(line, "sorry_server", why);
    }
    let mut server = Table::default().with_text("name", "sorry");
    server.text("address", &if mode == "nat" { with_port(&place, port) } else { place });
    pool.add_last(server);
}

/// What nanny, Piranha's program of checks, asks: it compares the beginning of the answer, whatever its status.
fn check(one: &Block, draft: &mut Draft) -> Table {
    let mut check = Table::default();
    let is_regex = one.get("use_regex") == Some("1");
    let send = one.get("send").filter(|send| !send.is_empty()).map(escaped);
    let expect = one.get("expect").filter(|expect| !expect.is_empty()).map(escaped);
    let page = send.as_deref().and_then(page);
    if let Some(program) = one.get("send_program").filter(|program| !program.is_empty()) {
        draft.left(one.line_of("send_program"), "send_program", format!("{program}: write health-check = {{ type = \"script\", … }}; a TCP connection is tried instead"));
        check.text("type", "tcp");
    } else if let (Some(page), Some("HTTP" | "HTTP/"), false) = (page, expect.as_deref(), is_regex) {
        check.text("type", "http");
        check.text("path", page);
        check.text("version", "1.0");
        check.set_with("status", Value::text("100-599"), "any answer passed");
    } else {
        check.text("type", "tcp");
        match expect {
            Some(expect) if is_regex => {
                send.iter().for_each(|send| check.push("steps", Table::default().with_text("send", send)));
                check.push("steps", Table::default().with_text("expect-regex", &expect));
            }
            Some(expect) => {
                send.iter().for_each(|send| check.text("send", send));
                check.text("expect", &expect);
            }
            // A question whose answer nobody looks at.
            None => {}
        }
    }
    let seconds = |key: &str| one.get(key).and_then(|text| text.parse::<u32>().ok()).filter(|n| *n > 0);
    for key in ["timeout", "reentry"] {
        if let Some(word) = one.get(key).filter(|word| *word != "0" && seconds(key).is_none()) {
            draft.wrong(one.line_of(key), key, format!("{word:?} is no number of seconds"));
        }
    }
    let every = seconds("timeout").unwrap_or(10);
    check.text("interval", &format!("{every}s"));
    if let Some(reentry) = seconds("reentry") {
        let line = format!("it comes back after {reentry} s without a failure");
        check.set_with("rise", i64::from(reentry.div_ceil(every).clamp(1, 1000)), &line);
    }
    check
}

/// The path of `GET PATH HTTP/1.0` and nothing else.
fn page(send: &str) -> Option<&str> {
    let line = send.strip_prefix("GET ")?.trim_end_matches(['\r', '\n']);
    let path = line.strip_suffix(" HTTP/1.0").unwrap_or(line).trim();
    (path.starts_with('/') && !path.contains(char::is_whitespace)).then_some(path)
}

/// `\n`, `\r`, `\t`, and a backslash before what stands for itself.
fn escaped(text: &str) -> String {
    let mut made = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => made.push('\n'),
                Some('r') => made.push('\r'),
                Some('t') => made.push('\t'),
                other => made.extend(other),
            },
            (plain, false) => made.push(plain),
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use crate::SourceKind;
    use crate::tests::told;

    fn made(text: &str) -> crate::Imported {
        crate::tests::made(SourceKind::Lvs, text)
    }

    #[test]
    fn what_piranha_says_is_carried_or_told() {
        let made = made(
            "network = nat\ndeadtime = 18\nzap = 1\nodd line\nvirtual a {\n address = 192.0.2.10 eth0:1\n port = 25\n expect = \"220 .*\"\n use_regex = 1\n load_monitor = uptime\n timeout = 6\n reentry = 15\n # of the servers\n server b {\n  address = 192.0.2.11\n  odd = 1\n }\n}\n",
        );
        let text = &made.text;
        assert!(text.contains("expect-regex = \"220 .*\""), "{text}");
        assert!(text.contains("interval = \"6s\", rise = 3"), "{text}");
        assert!(text.contains("# of the servers\n[[virtual-service]]"), "{text}");
        let told: Vec<(usize, &str)> = told(&made).iter().map(|(line, word, _)| (*line, *word)).collect();
        let expected =
            [(4, "odd"), (2, "deadtime"), (3, "zap"), (6, "address"), (10, "load_monitor"), (16, "odd")];
        assert_eq!(told, expected);
    }

    /// Piranha compares the beginning of an answer: any status passes where that is `HTTP`.
    #[test]
    fn its_questions_stay_its_questions() {
        let ask = |words: &str| {
            let text = format!(
                "virtual a {{\n address = 192.0.2.10\n{words}\n server b {{\n  address = 192.0.2.11\n }}\n}}\n"
            );
            let made = made(&text);
            assert_eq!(told(&made), [], "{words}");
            made.text.lines().find_map(|line| line.strip_prefix("health-check = ")).unwrap().to_owned()
        };
        let page = r#"send = "GET /up HTTP/1.0\r\n\r\n""#;
        assert!(
            ask(&format!("port = 8080\n{page}\nexpect = \"HTTP\""))
                .starts_with(r#"{ type = "http", path = "/up", version = "1.0", status = "100-599""#)
        );
        assert!(
            ask(&format!("{page}\nexpect = \"HTTP/1.1 200\""))
                .starts_with(r#"{ type = "tcp", send = "GET /up HTTP/1.0\r\n\r\n", expect = "HTTP/1.1 200""#)
        );
        assert!(ask(page).starts_with(r#"{ type = "tcp", interval"#), "nobody looks at the answer");
        assert!(ask(r#"send = "a\\b\tc"\nexpect = """#).starts_with(r#"{ type = "tcp", interval"#));
    }

    #[test]
    fn what_serves_nobody_or_only_moves_is_told() {
        let made = made(
            "service = fos\nfailover mail {\n active = 1\n address = 192.0.2.20 eth0:2\n vip_nmask = 255.255.255.0\n port = 25\n start_cmd = \"/etc/init.d/mail start\"\n}\nvirtual a {\n address = 192.0.2.10\n fwmark = 3\n sorry_server = 127.0.0.1\n server b {\n  address = 192.0.2.11\n }\n}\nvirtual none {\n address = 192.0.2.12\n}\n",
        );
        let text = &made.text;
        assert!(text.contains("floating-ips = [\"192.0.2.20/24\"]"), "{text}");
        assert!(!text.contains("127.0.0.1"), "{text}");
        let expected = [
            (1, "service", "lost"),
            (2, "failover mail", "lost"),
            (6, "port", "lost"),
            (7, "start_cmd", "lost"),
            (12, "sorry_server", "lost"),
            (11, "fwmark", "grave"),
            (17, "virtual none", "grave"),
        ];
        assert_eq!(told(&made), expected);
    }
}
