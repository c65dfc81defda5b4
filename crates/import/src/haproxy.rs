//! `haproxy.cfg`, new and old forms.

mod condition;
mod lexer;
mod proxy;
mod rules;
mod server;

use std::collections::BTreeMap;

use crate::draft::Draft;
use crate::words::name;
use condition::Acls;
use proxy::{Kind, Proxy, Word};

/// Keywords of the `global` section that Evenkeel does by itself, or that mean nothing to it.
const GLOBAL_MOOT: &[&str] = &[
    "daemon",
    "pidfile",
    "ulimit-n",
    "user",
    "group",
    "uid",
    "gid",
    "chroot",
    "nbproc",
    "nbthread",
    "quiet",
    "debug",
    "spread-checks",
    "master-worker",
    "cpu-map",
    "node",
    "description",
    "maxpipes",
    "noepoll",
    "nopoll",
    "nosplice",
    "tune.ssl.default-dh-param",
    "ssl-default-bind-ciphers",
    "ssl-default-bind-ciphersuites",
    "ssl-default-bind-options",
    "ssl-default-server-ciphers",
    "ssl-default-server-ciphersuites",
    "ssl-default-server-options",
    "ca-base",
    "crt-base",
    "hard-stop-after",
    "log-send-hostname",
    "log-tag",
    "server-state-base",
    "server-state-file",
    "set-dumpable",
    "zero-warning",
];

pub fn read(text: &str, variables: &BTreeMap<String, String>, draft: &mut Draft) {
    let mut proxies: Vec<Proxy> = Vec::new();
    let mut defaults: Vec<Word> = Vec::new();
    let mut section = String::new();
    let mut comments: Vec<String> = Vec::new();
    for line in lexer::lines(text, variables) {
        if let Some(comment) = line.comment.filter(|_| line.words.is_empty()) {
            comments.push(comment);
            continue;
        }
        let Some(keyword) = line.words.first().cloned() else { continue };
        let own = std::mem::take(&mut comments);
        let (number, words) = (line.number, line.words);
        match keyword.as_str() {
            "global" => {
                section = keyword;
                draft.head.extend(own);
            }
            "defaults" => {
                section = keyword;
                defaults = Vec::new();
                draft.head.extend(own);
            }
            "listen" | "frontend" | "backend" => {
                section = keyword;
                let kind = match section.as_str() {
                    "listen" => Kind::Listen,
                    "frontend" => Kind::Frontend,
                    _ => Kind::Backend,
                };
                let wanted = words.get(1).map_or("service", String::as_str);
                let mut proxy = Proxy::new(kind, wanted, number, own, defaults.clone());
                // `listen NAME ADDRESS:PORT`, as it was written before 1.5.
                if let Some(bind) = words.get(2) {
                    proxy.words.push(Word {
                        line: number,
                        words: vec!["bind".into(), bind.clone()],
                        comments: vec![],
                    });
                }
                proxies.push(proxy);
            }
            "userlist" | "peers" | "resolvers" | "mailers" | "program" | "cache" | "ring" | "http-errors"
            | "fcgi-app" | "log-forward" | "crt-store" | "traces" => {
                section = keyword.clone();
                let consequence = match keyword.as_str() {
                    "peers" => "tables are the pair's by themselves: see [pair]",
                    "mailers" => "see [alerts] for mail",
                    "userlist" => "write the users into a file with htpasswd -B, and name it in basic-auth",
                    _ => "the section is not carried over",
                };
                draft.left(number, &keyword, consequence);
            }
            _ if section == "global" => global(number, &words, draft),
            _ if section == "defaults" => defaults.push(Word { line: number, words, comments: own }),
            _ if ["listen", "frontend", "backend"].contains(&section.as_str()) => {
                if let Some(proxy) = proxies.last_mut() {
                    proxy.words.push(Word { line: number, words, comments: own });
                }
            }
            // A section that was left as a whole, or none at all.
            _ if section.is_empty() => draft.left(number, &keyword, "it is in no section"),
            _ => {}
        }
    }
    build(&proxies, draft);
}

fn global(number: usize, words: &[String], draft: &mut Draft) {
    match words[0].as_str() {
        "maxconn" => {
            let value = words.get(1).cloned().unwrap_or_default();
            draft.global("limits").set("max-connections", value);
        }
        "stats" => draft.left(
            number,
            "stats",
            "the admin socket is Evenkeel's own: `evenkeel status`, `drain`, `weight`…; see [admin] socket",
        ),
        "log" => match words.get(1).filter(|to| to.parse::<std::net::IpAddr>().is_ok()) {
            Some(address) => {
                let to = crate::words::with_port(address, "514");
                draft.global("log").text("access", &format!("syslog:{to}"));
            }
            None if words.get(1).is_some_and(|to| to.contains(':') && !to.starts_with('/')) => {
                let to = format!("syslog:{}", words[1]);
                draft.global("log").text("access", &to);
            }
            None => draft.left(number, "log", "write [log] access: a file, stdout, or syslog:ADDRESS:PORT"),
        },
        word if GLOBAL_MOOT.contains(&word) || word.starts_with("tune.") || word.starts_with("thread") => {}
        word => draft.left(number, word, "not carried over"),
    }
}

fn build(proxies: &[Proxy], draft: &mut Draft) {
    let backends: BTreeMap<&str, &Proxy> =
        proxies.iter().filter(|p| p.kind != Kind::Frontend).map(|p| (p.name.as_str(), p)).collect();
    for proxy in proxies.iter().filter(|p| p.kind == Kind::Backend) {
        let mut pool = proxy.pool(draft);
        pool.name = name(&proxy.name);
        if pool.servers.is_empty() {
            draft.left(proxy.line, "backend", format!("{} has no servers and is left out", proxy.name));
            continue;
        }
        draft.pools.push(pool);
    }
    for proxy in proxies.iter().filter(|p| p.kind != Kind::Backend) {
        let acls = Acls::of(proxy, draft);
        proxy.services(&backends, &acls, draft);
    }
}
