//! Reads `[alerts]` and `[snmp]`.

use std::ops::Range;
use std::time::Duration;

use evenkeel_model::{
    AgentxAddress, AlertSettings, Delivery, EmailSettings, MailSecurity, Receiver, SnmpSettings, Transport,
};

use crate::problem::Problem;
use crate::section::Section;

pub fn alerts(root: Section<'_>, problems: &mut Vec<Problem>) -> AlertSettings {
    let empty = toml::de::DeTable::new();
    let table = root.section("alerts").unwrap_or(Section { table: &empty, ..root });
    let mut receivers = Vec::new();
    let kinds = |section: Section<'_>| -> Vec<String> { section.texts("kinds") };
    for (email, span) in table.sections("email") {
        let how = email_of(email, &span, problems);
        receivers.extend(how.map(|how| Receiver { kinds: kinds(email), how: Delivery::Email(how) }));
    }
    for (webhook, span) in table.sections("webhook") {
        let url = webhook.text("url").unwrap_or("").to_owned();
        if !is_url(&url) {
            let what = "a webhook's `url` begins with https:// or http:// and names a host";
            problems.push(Problem::new(webhook.span("url").unwrap_or(span), what));
            continue;
        }
        let slack = webhook.text("shape") == Some("slack");
        let how = Delivery::Webhook { url: url.into(), slack, ca: webhook.text("ca").map(Into::into) };
        receivers.push(Receiver { kinds: kinds(webhook), how });
    }
    for (script, _) in table.sections("script") {
        let command = script.text("command").unwrap_or("").into();
        let how = Delivery::Script { command, timeout: script.duration("timeout", Duration::from_secs(30)) };
        receivers.push(Receiver { kinds: kinds(script), how });
    }
    for (syslog, span) in table.sections("syslog") {
        let Some((_, _)) = host_port(syslog, "server", &span, problems) else { continue };
        let transport = match syslog.text("transport") {
            Some("tcp") => Transport::Tcp,
            Some("tls") => Transport::Tls,
            _ => Transport::Udp,
        };
        let server = syslog.text("server").unwrap_or("").to_owned();
        let facility = syslog.number("facility", 3);
        let how = Delivery::Syslog { server, transport, ca: syslog.text("ca").map(Into::into), facility };
        receivers.push(Receiver { kinds: kinds(syslog), how });
    }
    for (snmp, _) in table.sections("snmp") {
        let how = agentx(snmp, problems).map(|agentx| Delivery::Snmp { agentx });
        receivers.extend(how.map(|how| Receiver { kinds: kinds(snmp), how }));
    }
    AlertSettings {
        gather: table.duration("gather", Duration::from_secs(10)),
        quiet: table.duration("quiet", Duration::from_secs(300)),
        certificate_days: table.number("certificate-days", 21),
        receivers,
    }
}

pub fn snmp(root: Section<'_>, problems: &mut Vec<Problem>) -> Option<SnmpSettings> {
    let agentx = agentx(root.section("snmp")?, problems)?;
    Some(SnmpSettings { agentx })
}

fn agentx(section: Section<'_>, problems: &mut Vec<Problem>) -> Option<AgentxAddress> {
    let text = section.text("agentx").unwrap_or("/var/agentx/master");
    let address = AgentxAddress::parse(text);
    if address.is_none() {
        let what = format!("{text:?} is no address of an SNMP agent");
        let help =
            "the path of its socket, such as /var/agentx/master, or ADDRESS:PORT, such as 127.0.0.1:705";
        problems.push(Problem::new(section.span("agentx").unwrap_or(0..0), what).help(help));
    }
    address
}

fn email_of(email: Section<'_>, span: &Range<usize>, problems: &mut Vec<Problem>) -> Option<EmailSettings> {
    let (host, port) = host_port(email, "server", span, problems)?;
    let to: Vec<String> = email.texts("to");
    let from = email.text("from").unwrap_or("").to_owned();
    for (key, address) in to.iter().map(|t| ("to", t)).chain([("from", &from)]) {
        if !is_mailbox(address) {
            let what = format!("{address:?} is no mail address");
            let place = email.span(key).unwrap_or_else(|| span.clone());
            problems.push(Problem::new(place, what).help("USER@HOST"));
            return None;
        }
    }
    if to.is_empty() {
        problems.push(Problem::new(email.span("to").unwrap_or_else(|| span.clone()), "`to` names nobody"));
        return None;
    }
    let security = match email.text("security") {
        Some("tls") => MailSecurity::Tls,
        Some("none") => MailSecurity::None,
        _ => MailSecurity::StartTls,
    };
    let username = email.text("username").map(str::to_owned);
    let password_file: Option<std::path::PathBuf> = email.text("password-file").map(Into::into);
    if username.is_some() != password_file.is_some() {
        let what = "`username` and `password-file` belong together";
        let place = email.span("username").or_else(|| email.span("password-file"));
        problems.push(Problem::new(place.unwrap_or_else(|| span.clone()), what));
    }
    if username.is_some() && security == MailSecurity::None {
        let what = "a password would be sent unprotected";
        let place = email.span("security").unwrap_or_else(|| span.clone());
        problems.push(Problem::new(place, what).help("security = \"starttls\" or \"tls\""));
    }
    let ca = email.text("ca").map(Into::into);
    Some(EmailSettings { host, port, security, ca, username, password_file, from, to })
}

fn host_port(
    section: Section<'_>,
    key: &str,
    span: &Range<usize>,
    problems: &mut Vec<Problem>,
) -> Option<(String, u16)> {
    let text = section.text(key).unwrap_or("");
    let found = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match found.filter(|(host, port)| *port > 0 && is_host(host)) {
        Some((host, port)) => Some((host.trim_matches(['[', ']']).to_owned(), port)),
        None => {
            let place = section.span(key).unwrap_or_else(|| span.clone());
            let what = format!("{text:?} is no server");
            problems.push(Problem::new(place, what).help("HOST:PORT, such as mail.example.org:587"));
            None
        }
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c))
}

fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|r| r.split(['/', '?', '#']).next());
    host.is_some_and(is_host) && url.chars().all(|c| c.is_ascii_graphic())
}

fn is_mailbox(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    text.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && user.chars().all(plain) && is_host(host) && !host.contains(':')
    })
}
