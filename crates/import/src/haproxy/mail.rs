//! `mailers` and `email-alert`: who is told by mail of servers that go down.

use std::collections::BTreeMap;

use super::proxy::Proxy;
use crate::draft::{Draft, Table, Value, mail_address};
use crate::words::{split_port, with_port};

/// The mail servers of each section, by its name.
pub type Mailers = BTreeMap<String, Vec<String>>;

/// A line of a section `mailers`.
pub fn line(words: &[String], section: &str, mailers: &mut Mailers, number: usize, draft: &mut Draft) {
    match words.first().map(String::as_str) {
        Some("mailer") => match words.get(2) {
            Some(place) => mailers.entry(section.to_owned()).or_default().push(place.clone()),
            None => draft.wrong(number, "mailer", "'mailer' expects <name> and <addr>[:<port>] as arguments"),
        },
        Some("timeout") => draft.note(number, "timeout mail", "a mail server has its time: see [alerts]"),
        _ => draft.wrong(number, "mailers", format!("unknown keyword '{}' in 'mailers' section", words[0])),
    }
}

/// What sections say of mail, as receivers of alerts; they are told of every service.
pub fn receivers(proxies: &[Proxy], mailers: &Mailers, draft: &mut Draft) {
    let mut all: Vec<Table> = Vec::new();
    for proxy in proxies {
        let Some(first) = proxy.all("email-alert").next().map(|word| word.line) else { continue };
        let value = |of: &str| {
            let said = proxy.all("email-alert").filter(|word| word.arg(1) == of).last();
            said.map(|word| word.words.get(2).cloned().unwrap_or_default())
        };
        let (Some(section), Some(from), Some(to)) = (value("mailers"), value("from"), value("to")) else {
            let why = "no mail is sent: it needs mailers, from and to";
            draft.note(first, "email-alert", why);
            continue;
        };
        let Some(servers) = mailers.get(&section) else {
            draft.wrong(first, "email-alert", format!("unable to find mailers '{section}'"));
            continue;
        };
        let level = value("level").unwrap_or_else(|| "alert".into());
        let mut kinds = vec!["server-down", "service-down"];
        if ["notice", "info", "debug"].contains(&level.as_str()) {
            kinds.extend(["server-up", "service-up"]);
        }
        for place in servers {
            let (host, port) = split_port(place);
            let receiver = Table::default()
                .with_text("server", &with_port(host, port.unwrap_or("25")))
                .with_text("security", "none")
                .with_text("from", &mail_address(&from))
                .with("to", Value::texts([mail_address(&to)]))
                .with("kinds", Value::texts(&kinds));
            if !all.contains(&receiver) {
                all.push(receiver);
            }
        }
        if value("myhostname").is_some() {
            draft.note(first, "email-alert myhostname", "mail servers are told the name of this machine");
        }
        let why =
            "mails tell of every service, and of what happens within ten seconds together: see [alerts]";
        draft.note(first, "email-alert", why);
    }
    if !all.is_empty() {
        draft.global("alerts").set("email", all);
    }
}
