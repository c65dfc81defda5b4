//! Health checks: from checked keys to probes. Presets of text protocols become steps.

use std::time::Duration;

use evenkeel_model::{
    AgentCheck, Connect, HealthCheck, HttpProbe, Probe, ProxyVersion, ScriptProbe, StatusSet, Step,
};

use crate::problem::Problem;
use crate::section::Section;
use crate::tls;

pub fn read(pool: Section<'_>, problems: &mut Vec<Problem>) -> HealthCheck {
    let default = HealthCheck::default();
    let Some(section) = pool.section("health-check") else { return default };
    let flag = |key: &str, default: bool| section.value(key).map_or(default, |_| section.flag(key));
    HealthCheck {
        probe: probe(section, &flag, problems),
        interval: section.duration("interval", default.interval),
        fast_interval: section.duration("fast-interval", default.fast_interval),
        down_interval: down_interval(section),
        timeout: section.duration("timeout", default.timeout),
        rise: section.number("rise", default.rise),
        fall: section.number("fall", default.fall),
        address: section.text("address").and_then(|t| t.parse().ok()),
        port: section.integer("port").and_then(|p| u16::try_from(p).ok()),
        tls: section.section("tls").filter(|tls| !is_plain(*tls)).map(tls::of_table),
        plain: section.section("tls").is_some_and(is_plain),
        send_proxy: send_proxy(section, None),
        through_vip: section.flag("through-vip"),
        mark: 0,
        agent: section.section("agent").map(agent),
        fill_in: section.flag("fill-in"),
    }
}

fn down_interval(section: Section<'_>) -> Option<Duration> {
    section.value("down-interval").map(|_| section.duration("down-interval", Duration::ZERO))
}

fn agent(agent: Section<'_>) -> AgentCheck {
    AgentCheck {
        address: agent.text("address").and_then(|t| t.parse().ok()),
        port: agent.number("port", 3333),
        interval: agent.duration("interval", Duration::from_secs(2)),
        send: agent.text("send").unwrap_or_default().to_owned().into(),
    }
}

/// The pool's health check with what a real server has of its own, where it has something.
pub fn of_server(
    server: Section<'_>,
    pool: &HealthCheck,
    problems: &mut Vec<Problem>,
) -> Option<Box<HealthCheck>> {
    let own = server.section("health-check")?;
    let place = || server.span("health-check").unwrap_or(0..0);
    let asks_nobody = pool.probe == Probe::None && own.value("agent").is_none();
    if asks_nobody {
        let message = "the pool probes nobody: `health-check` of a real server does nothing".to_owned();
        problems.push(Problem::new(place(), message).help("give the pool a health check of another type"));
    }
    let connects = !matches!(
        pool.probe,
        Probe::Ping
            | Probe::Dns { .. }
            | Probe::Ntp
            | Probe::Radius { .. }
            | Probe::Sip { udp: true }
            | Probe::Script(_)
    );
    for key in ["tls", "send-proxy", "send-proxy-version"]
        .into_iter()
        .filter(|key| !connects && own.value(key).is_some())
    {
        let message = format!("`{key}` does nothing in a health check that opens no connection");
        problems.push(Problem::new(own.span(key).unwrap_or_else(place), message).help("leave it away"));
    }
    let check = HealthCheck {
        interval: own.duration("interval", pool.interval),
        fast_interval: own.duration("fast-interval", pool.fast_interval),
        down_interval: down_interval(own).or(pool.down_interval),
        timeout: own.duration("timeout", pool.timeout),
        rise: own.number("rise", pool.rise),
        fall: own.number("fall", pool.fall),
        address: own.text("address").and_then(|t| t.parse().ok()).or(pool.address),
        port: own.integer("port").and_then(|p| u16::try_from(p).ok()).or(pool.port),
        tls: match own.section("tls") {
            Some(tls) => (!is_plain(tls)).then(|| tls::of_table(tls)),
            None => pool.tls.clone(),
        },
        plain: own.section("tls").map_or(pool.plain, is_plain),
        send_proxy: send_proxy(own, pool.send_proxy),
        agent: own
            .section("agent")
            .map(agent)
            .or_else(|| pool.agent.clone())
            .filter(|_| own.value("ask-agent").is_none() || own.flag("ask-agent")),
        ..pool.clone()
    };
    (check != *pool).then(|| Box::new(check))
}

/// `tls = { enabled = false }`
fn is_plain(tls: Section<'_>) -> bool {
    tls.value("enabled").is_some() && !tls.flag("enabled")
}

/// Whether and how a check greets, and what it does where nothing is said.
fn send_proxy(section: Section<'_>, otherwise: Option<ProxyVersion>) -> Option<ProxyVersion> {
    let version = match section.text("send-proxy-version") {
        Some("v1") => ProxyVersion::V1,
        Some(_) => ProxyVersion::V2,
        None => otherwise.unwrap_or(ProxyVersion::V2),
    };
    // Who names a version wants the header, unless it says otherwise.
    let named = section.value("send-proxy-version").is_some();
    let sends =
        section.value("send-proxy").map_or(named || otherwise.is_some(), |_| section.flag("send-proxy"));
    sends.then_some(version)
}

fn probe(section: Section<'_>, flag: &dyn Fn(&str, bool) -> bool, problems: &mut Vec<Problem>) -> Probe {
    let text = |key: &str, default: &str| section.text(key).unwrap_or(default).to_owned();
    let user = section.text("user").map(|user| (user.to_owned(), text("password", "")));
    match section.text("type") {
        Some("http") => http(section, problems),
        Some("none") => Probe::None,
        Some("tls") => Probe::Tls,
        Some("grpc") => Probe::Grpc { service: text("service", "") },
        Some("smtp") => conversation(&[
            ("", "220"),
            // Any `2…` is a yes (RFC 5321, section 4.2.1).
            (&format!("HELO {}", text("host", "localhost")), "2"),
            ("QUIT", "2"),
        ]),
        Some("imap") => match user {
            None => conversation(&[("", "* OK"), ("a1 LOGOUT", "a1 OK")]),
            Some((user, password)) => {
                let login = format!("a1 LOGIN {} {}", quoted(&user), quoted(&password));
                conversation(&[("", "* OK"), (&login, "a1 OK"), ("a2 LOGOUT", "a2 OK")])
            }
        },
        Some("pop") => match user {
            None => conversation(&[("", "+OK"), ("QUIT", "+OK")]),
            Some((user, password)) => conversation(&[
                ("", "+OK"),
                (&format!("USER {user}"), "+OK"),
                (&format!("PASS {password}"), "+OK"),
                ("QUIT", "+OK"),
            ]),
        },
        Some("ftp") => match user {
            None => conversation(&[("", "220"), ("QUIT", "221")]),
            Some((user, password)) => conversation(&[
                ("", "220"),
                (&format!("USER {user}"), "331"),
                (&format!("PASS {password}"), "230"),
                ("QUIT", "221"),
            ]),
        },
        Some("redis") => {
            let login = section.text("password").map(|password| (resp(&["AUTH", password]), "+OK"));
            let lines: Vec<_> = login.into_iter().chain([(resp(&["PING"]), "+PONG")]).collect();
            conversation(&lines.iter().map(|(send, expect)| (send.as_str(), *expect)).collect::<Vec<_>>())
        }
        Some("mysql") => {
            Probe::Mysql { user: section.text("user").map(str::to_owned), old: section.flag("old") }
        }
        Some("postgresql") => Probe::PostgreSql { user: text("user", "postgres") },
        Some("ldap") => Probe::Ldap,
        Some("rdp") => Probe::Rdp,
        Some("sip") => Probe::Sip { udp: flag("udp", true) },
        Some("ping") => Probe::Ping,
        Some("dns") => Probe::Dns { name: text("name", ".") },
        Some("ntp") => Probe::Ntp,
        Some("radius") => Probe::Radius {
            user: text("user", ""),
            password: text("password", "").into(),
            secret: text("secret", "").into(),
        },
        Some("script") => Probe::Script(ScriptProbe {
            command: text("command", "").into(),
            arguments: section
                .list("arguments")
                .filter_map(|v| Some(v.get_ref().as_str()?.to_owned()))
                .collect(),
            keepalived: section.flag("keepalived"),
        }),
        _ => tcp(section, problems),
    }
}

/// Further requests, and steps of a conversation, that one check may have.
const STEPS_AT_MOST: usize = 64;

fn http(section: Section<'_>, problems: &mut Vec<Problem>) -> Probe {
    let mut probe = request(section, problems);
    for (table, span) in section.sections("then") {
        if probe.then.len() == STEPS_AT_MOST {
            problems
                .push(Problem::new(span, format!("a check has {STEPS_AT_MOST} further requests at most")));
            break;
        }
        probe.then.push((connect(table), request(table, problems)));
    }
    Probe::Http(Box::new(probe))
}

fn connect(table: Section<'_>) -> Connect {
    Connect {
        address: table.text("address").and_then(|t| t.parse().ok()),
        port: table.integer("port").and_then(|p| u16::try_from(p).ok()),
        tls: table.flag("tls"),
        sni: table.text("sni").map(str::to_owned),
        send_proxy: send_proxy(table, None),
    }
}

fn request(section: Section<'_>, problems: &mut Vec<Problem>) -> HttpProbe {
    let pairs = |key: &str| {
        let all = section.entries(key).into_iter();
        all.filter_map(|(name, value)| Some((name.to_owned(), value.get_ref().as_str()?.to_owned())))
            .collect::<Vec<_>>()
    };
    check_regex(section, problems);
    for key in ["expect-headers-regex", "refuse-headers-regex"] {
        for (_, value) in section.entries(key) {
            let Some(Err(why)) = value.get_ref().as_str().map(evenkeel_rules::check_regex) else { continue };
            problems.push(Problem::new(value.span(), format!("`{key}`: no regular expression: {why}")));
        }
    }
    HttpProbe {
        method: section.text("method").unwrap_or("GET").to_owned(),
        path: section.text("path").unwrap_or("/").to_owned(),
        version_10: section.text("version") == Some("1.0"),
        host: section.text("host").map(str::to_owned),
        headers: pairs("headers").into_iter().map(|(name, value)| (name, value.into())).collect(),
        body: section.text("body").unwrap_or_default().to_owned().into(),
        status: section.text("status").and_then(StatusSet::parse).unwrap_or(StatusSet(vec![(200, 399)])),
        expect: section.text("expect").map(str::to_owned),
        expect_regex: section.text("expect-regex").map(str::to_owned),
        expect_headers: pairs("expect-headers"),
        expect_headers_regex: pairs("expect-headers-regex"),
        refuse: section.text("refuse").map(str::to_owned),
        refuse_regex: section.text("refuse-regex").map(str::to_owned),
        refuse_headers_regex: pairs("refuse-headers-regex"),
        then: Vec::new(),
    }
}

fn check_regex(section: Section<'_>, problems: &mut Vec<Problem>) {
    for key in ["expect-regex", "refuse-regex"] {
        let Some(Err(why)) = section.text(key).map(evenkeel_rules::check_regex) else { continue };
        let place = section.span(key).unwrap_or(0..0);
        problems.push(Problem::new(place, format!("`{key}`: no regular expression: {why}")));
    }
}

fn tcp(section: Section<'_>, problems: &mut Vec<Problem>) -> Probe {
    let mut steps = Vec::new();
    for key in ["send", "expect"] {
        if let Some(text) = section.text(key) {
            let bytes = text.as_bytes().to_vec();
            steps.push(if key == "send" { Step::Send(bytes.into()) } else { Step::Expect(bytes) });
        }
    }
    for (table, span) in section.sections("steps") {
        check_regex(table, problems);
        let before = steps.len();
        if before == STEPS_AT_MOST {
            problems.push(Problem::new(span, format!("a check has {STEPS_AT_MOST} steps at most")));
            break;
        }
        let within = table.integer("within").and_then(|n| usize::try_from(n).ok());
        steps.extend(within.map(Step::Within));
        if let Some(connection) = table.section("connect") {
            steps.push(Step::Connect(connect(connection)));
        }
        for key in [
            "send",
            "send-hex",
            "expect",
            "expect-hex",
            "expect-regex",
            "refuse",
            "refuse-hex",
            "refuse-regex",
        ] {
            let Some(text) = table.text(key) else { continue };
            let bytes = if key.ends_with("-hex") { hex(text) } else { Some(text.as_bytes().to_vec()) };
            let Some(bytes) = bytes else {
                let place = table.span(key).unwrap_or(0..0);
                problems
                    .push(Problem::new(place, format!("`{key}`: not an even number of hexadecimal digits")));
                continue;
            };
            steps.push(match key {
                "send" | "send-hex" => Step::Send(bytes.into()),
                "expect-regex" => Step::ExpectRegex(text.to_owned()),
                "refuse-regex" => Step::RefuseRegex(text.to_owned()),
                "refuse" | "refuse-hex" => Step::Refuse(bytes),
                _ => Step::Expect(bytes),
            });
        }
        if steps.len() != before + 1 {
            problems.push(
                Problem::new(span, "a step does one thing").help("such as { send = \"PING\\\\r\\\\n\" }"),
            );
        }
    }
    if steps.is_empty() { Probe::Tcp } else { Probe::Steps(steps) }
}

/// Lines to send, each with the beginning of the answer.
fn conversation(lines: &[(&str, &str)]) -> Probe {
    let mut steps = Vec::new();
    for (number, (send, expect)) in lines.iter().enumerate() {
        if !send.is_empty() {
            steps.push(Step::Send(format!("{send}\r\n").into_bytes().into()));
        }
        // At the beginning of a line: `550 220 is full` is no greeting.
        let start = if number == 0 { "^" } else { "(?:^|\\n)" };
        if expect.bytes().all(|b| b.is_ascii_digit()) {
            // The rest of the code; `250-…` are lines before the last one.
            let code = format!("{expect}[0-9]{{{}}}", 3 - expect.len().min(3));
            steps.push(Step::ExpectRegex(format!("{start}(?:{code}-[^\\n]*\\n)*{code}(?: [^\\n]*)?\\r?\\n")));
            continue;
        }
        let escaped: String = expect
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == ' ' { c.to_string() } else { format!("\\{c}") })
            .collect();
        steps.push(Step::ExpectRegex(format!("{start}{escaped}[^\\n]*\\n")));
    }
    Probe::Steps(steps)
}

/// A command of Redis but for the end of its last line.
fn resp(words: &[&str]) -> String {
    let each = words.iter().map(|word| format!("${}\r\n{word}", word.len()));
    format!("*{}\r\n{}", words.len(), each.collect::<Vec<_>>().join("\r\n"))
}

/// A quoted string of IMAP (RFC 3501 section 4.3).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split_whitespace().collect();
    let even = digits.len().is_multiple_of(2) && digits.is_ascii();
    let pairs = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
    if even { pairs.collect() } else { None }
}
