//! HAProxy's commands for servers that come and go (its management guide, section 9.3): `add server`,
//! `del server`, and what `set server` says of a server's place and check.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use evenkeel_admin::Request;
use evenkeel_api as api;
use evenkeel_import::{Proxy, ProxyKind, Resolvers, Server};
use serde_json::{Map, Value, json};

use super::certificates::place;
use super::commands::stopping;
use super::sample::Known;

/// Servers that were added and deleted, by the name of their proxy.
#[derive(Default)]
pub struct Added(Mutex<BTreeMap<String, OfProxy>>);

#[derive(Default)]
struct OfProxy {
    /// In their order, with their numbers.
    added: Vec<(Server, u32)>,
    /// Of the configuration, deleted.
    gone: Vec<String>,
    /// Those whose TLS was switched on or off.
    tls: BTreeMap<String, bool>,
}

impl OfProxy {
    /// Every server that there is now, with its number: its place in the configuration, or the first that
    /// was free.
    fn all<'a>(&self, proxy: &'a Proxy) -> Vec<(Cow<'a, Server>, u32)> {
        let numbered = proxy.servers.iter().zip(1..).filter(|(s, _)| !self.gone.contains(&s.name));
        let first = numbered.map(|(server, id)| (Cow::Borrowed(server), id));
        first.chain(self.added.iter().map(|(server, id)| (Cow::Owned(server.clone()), *id))).collect()
    }
}

impl Added {
    fn with<T>(&self, proxy: &str, what: impl FnOnce(&mut OfProxy) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        what(all.entry(proxy.to_owned()).or_default())
    }

    pub fn all<'a>(&self, proxy: &'a Proxy) -> Vec<(Cow<'a, Server>, u32)> {
        self.with(&proxy.name, |of| of.all(proxy))
    }

    /// Whether TLS is spoken with a server, as `show servers state` has it.
    pub fn tls(&self, proxy: &str, server: &Server) -> i8 {
        self.with(proxy, |of| of.tls.get(&server.name).map_or(server.tls, |on| i8::from(*on)))
    }

    fn add(&self, proxy: &Proxy, server: Server) {
        self.with(&proxy.name, |of| {
            let used: BTreeSet<u32> = of.all(proxy).into_iter().map(|(_, id)| id).collect();
            let free = (1..).find(|id| !used.contains(id)).unwrap_or(u32::MAX);
            of.added.push((server, free));
        });
    }

    fn delete(&self, proxy: &str, name: &str) {
        self.with(proxy, |of| of.tls.remove(name));
        self.with(proxy, |of| match of.added.iter().position(|(s, _)| s.name == name) {
            Some(at) => drop(of.added.remove(at)),
            None => of.gone.push(name.to_owned()),
        });
    }
}

/// A backend by its name or number.
pub fn backend<'a>(known: &'a Known, name: &str) -> Option<&'a Proxy> {
    let mut proxies = known.running.proxies.iter().filter(|p| p.kind != ProxyKind::Frontend);
    proxies.find(|p| p.name == name || name.strip_prefix('#').is_some_and(|n| n == p.id.to_string()))
}

/// A server of a backend by its name or number.
pub fn server(known: &Known, proxy: &Proxy, name: &str) -> Option<Server> {
    let is_it = |s: &Server, id: u32| {
        s.name == name || name.strip_prefix('#').is_some_and(|number| number == id.to_string())
    };
    known.added.all(proxy).into_iter().find(|(s, id)| is_it(s, *id)).map(|(s, _)| s.into_owned())
}

/// A line without an end of its own, as some of HAProxy's answers are: the caller ends it.
fn bare(text: &str) -> String {
    text.to_owned()
}

/// `add server <backend>/<server> <address> [options]`
pub async fn add(known: &Known, words: &[&str]) -> String {
    let Some((backend_name, name)) = words.first().and_then(|place| place.split_once('/')) else {
        return bare("Require 'backend/server'.");
    };
    let Some(proxy) = backend(known, backend_name) else { return bare("No such backend.") };
    if !proxy.dynamic {
        return bare("Backend must use a dynamic load balancing to support dynamic servers.");
    }
    if server(known, proxy, name).is_some() {
        return "Already exists a server with the same name in backend.\n".into();
    }
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.:".contains(*c)) {
        return format!("character '{bad}' is not permitted in server name '{name}'.\n");
    }
    let Some(place) = words.get(1) else {
        return "'server' expects <name> and <addr>[:<port>] as arguments.\n".into();
    };
    let mut new = Server {
        name: name.to_owned(),
        own: evenkeel_import::real_server_name(name),
        rise: 2,
        fall: 3,
        ..Server::default()
    };
    let keys = match keys_of(&words[2..], name, proxy.http, &mut new) {
        Ok(keys) => keys,
        Err(why) => return format!("{why}\n"),
    };
    let mut keys = keys;
    keys.insert("address".into(), json!(address_of(place)));
    let (service, own) = (proxy.pool.clone().unwrap_or_default(), new.own.clone());
    let keys = api::ServerKeys { expires: None, keys };
    let by = "stats socket".to_owned();
    match known.ask(|reply| Request::AddServer { service, server: own, keys, by, reply }).await {
        Some(Ok(_)) => {
            known.added.add(proxy, new);
            "New server registered.\n".into()
        }
        Some(Err(refused)) => format!("{}\n", refused.failure.detail),
        None => stopping(),
    }
}

/// A socket of this machine is known by an address that stands for it.
fn address_of(place: &str) -> String {
    if ["/", "unix@", "abns@"].iter().any(|begin| place.starts_with(begin)) {
        evenkeel_files::reach(place);
        return evenkeel_files::stand_in(place).to_string();
    }
    place.strip_suffix(":0").unwrap_or(place).to_owned()
}

/// The version of HTTP that a server speaks.
fn protocol(name: &str, http: bool) -> Result<&'static str, String> {
    match name {
        "h1" | "h2" if !http => Err("MUX protocol is not usable for server.".into()),
        "h1" => Ok("1.1"),
        "h2" => Ok("2"),
        other => Err(format!("unknown MUX protocol '{other}'")),
    }
}

/// The TLS of a server with these options, whatever else they say.
fn tls_of(options: &[&str], name: &str) -> Result<Value, String> {
    let mut words = Vec::from(["ssl"]);
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if TLS_OPTIONS.contains(option) {
            words.extend([option, rest.next().copied().unwrap_or_default()]);
        }
    }
    let mut keys = keys_of(&words, name, true, &mut Server::default())?;
    Ok(keys.remove("server-tls").unwrap_or_default())
}

/// What options of a server become. It begins in maintenance, and without checks until they are enabled.
fn keys_of(options: &[&str], name: &str, http: bool, new: &mut Server) -> Result<Map<String, Value>, String> {
    let mut keys = Map::new();
    let mut check = Map::new();
    let mut tls = Map::new();
    let mut check_tls = false;
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().copied().unwrap_or_default();
        let number = |text: &str| text.parse::<u32>().ok();
        let time = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => format!("{text}ms"),
            false => text.to_owned(),
        };
        match *option {
            "weight" => {
                let text = value();
                let weight = number(text).unwrap_or(0);
                if weight > 256 {
                    return Err(format!("weight of server {name} is not within 0 and 256 ({weight}).."));
                }
                keys.insert("weight".into(), json!(weight));
            }
            "maxconn" => drop(keys.insert("max-connections".into(), json!(number(value()).unwrap_or(0)))),
            "backup" => drop(keys.insert("backup".into(), json!(true))),
            "non-stick" => drop(keys.insert("non-stick".into(), json!(true))),
            "check" => new.checked = true,
            "disabled" | "enabled" | "no-check" => {}
            "check-ssl" => check_tls = true,
            "inter" => drop(check.insert("interval".into(), json!(time(value())))),
            "fastinter" => drop(check.insert("fast-interval".into(), json!(time(value())))),
            "downinter" => drop(check.insert("down-interval".into(), json!(time(value())))),
            "error-limit" | "id" | "pool-purge-delay" | "pool-max-conn" | "pool-low-conn" => {
                let _ = value();
            }
            "rise" => {
                new.rise = number(value()).unwrap_or(2).max(1);
                check.insert("rise".into(), json!(new.rise));
            }
            "fall" => {
                new.fall = number(value()).unwrap_or(3).max(1);
                check.insert("fall".into(), json!(new.fall));
            }
            "port" => drop(check.insert("port".into(), json!(number(value()).unwrap_or(0)))),
            "addr" => drop(check.insert("address".into(), json!(value()))),
            "ssl" => drop(tls.entry("enabled").or_insert(json!(true))),
            option if TLS_OPTIONS.contains(&option) => tls_option(option, value(), &mut tls)?,
            "proto" => drop(keys.insert("server-http".into(), json!(protocol(value(), http)?))),
            "send-proxy" => drop(keys.insert("send-proxy".into(), json!("v1"))),
            "send-proxy-v2" => drop(keys.insert("send-proxy".into(), json!("v2"))),
            "check-send-proxy" => drop(check.insert("send-proxy".into(), json!(true))),
            "cookie" | "redir" | "init-addr" | "resolvers" | "resolve-prefer" | "resolve-opts" | "track"
            | "on-error" | "observe" | "namespace" => {
                return Err(format!("'{option}' option is not accepted for dynamic server"));
            }
            "agent-check" | "agent-port" | "agent-inter" | "agent-addr" | "agent-send" | "slowstart"
            | "source" | "alpn" | "on-marked-down" | "on-marked-up" | "maxqueue" | "minconn" | "tfo"
            | "usesrc" => {
                return Err(format!(
                    "'{option}' is known but not supported by Evenkeel for servers that are added"
                ));
            }
            _ => return Err(format!("unknown keyword '{option}'")),
        }
    }
    // A check of such a server speaks TLS where it says so itself.
    match (check_tls, tls.contains_key("enabled")) {
        (true, _) => drop(check.insert("tls".into(), json!({ "verify": false }))),
        (false, true) if new.checked => drop(check.insert("tls".into(), json!({ "enabled": false }))),
        _ => {}
    }
    Ok(as_keys(keys, check, tls))
}

/// The keys of a server, with those of its check and of TLS.
fn as_keys(
    mut keys: Map<String, Value>,
    mut check: Map<String, Value>,
    tls: Map<String, Value>,
) -> Map<String, Value> {
    if check.contains_key("send-proxy") && keys.get("send-proxy") == Some(&json!("v2")) {
        check.insert("send-proxy-version".into(), json!("v2"));
    }
    if !check.is_empty() {
        keys.insert("health-check".into(), Value::Object(check));
    }
    if tls.contains_key("enabled") {
        keys.insert("server-tls".into(), Value::Object(or_any_name(tls)));
    }
    keys.entry("weight").or_insert(json!(1));
    keys.insert("check".into(), json!(false));
    keys.insert("admin-state".into(), json!("halted"));
    keys
}

/// Options about TLS, each with a value.
const TLS_OPTIONS: [&str; 6] = ["verify", "verifyhost", "ca-file", "crl-file", "crt", "sni"];

fn tls_option(option: &str, value: &str, tls: &mut Map<String, Value>) -> Result<(), String> {
    match option {
        "verify" => drop(tls.insert("verify".into(), json!(value != "none"))),
        "verifyhost" => drop(tls.entry("sni").or_insert(json!(value))),
        "ca-file" => drop(tls.insert("ca".into(), json!(place(value)))),
        "crl-file" => drop(tls.insert("crl".into(), json!(place(value)))),
        "crt" => drop(tls.insert("certificate".into(), json!(place(value)))),
        _ => {
            let text = value.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')'));
            let text = text.ok_or_else(|| format!("'sni' of {value} is not supported by Evenkeel"))?;
            tls.insert("sni".into(), json!(text));
        }
    }
    Ok(())
}

/// HAProxy looks at no name of a certificate where none is written.
fn or_any_name(mut tls: serde_json::Map<String, Value>) -> serde_json::Map<String, Value> {
    if !tls.contains_key("sni") && tls.get("verify") != Some(&json!(false)) {
        tls.insert("verify-name".into(), json!(false));
    }
    tls
}

/// `del server <backend>/<server>`
pub async fn delete(known: &Known, words: &[&str]) -> String {
    let Some((backend_name, name)) = words.first().and_then(|place| place.split_once('/')) else {
        return bare("Require 'backend/server'.");
    };
    let Some(proxy) = backend(known, backend_name) else { return bare("No such backend.") };
    let Some(found) = server(known, proxy, name) else { return bare("No such server.") };
    let Some(shown) = shown(known, proxy, &found).await else { return bare("No such server.") };
    if shown.admin_state != "halted" {
        return bare("Only servers in maintenance mode can be deleted.");
    }
    if shown.current_connections > 0 {
        return bare("Server still has connections attached to it, cannot remove it.");
    }
    let (service, own) = (proxy.pool.clone().unwrap_or_default(), found.own.clone());
    let even_of_file = true;
    match known.ask(|reply| Request::RemoveServer { service, server: own, even_of_file, reply }).await {
        Some(Ok(_)) => {
            known.added.delete(&proxy.name, &found.name);
            bare("Server deleted.")
        }
        Some(Err(refused)) => format!("{}\n", refused.failure.detail),
        None => stopping(),
    }
}

async fn shown(known: &Known, proxy: &Proxy, server: &Server) -> Option<api::RealServer> {
    let status = known.status().await?;
    let all = known.now(&status);
    let now = all.iter().find(|n| n.proxy.name == proxy.name)?;
    let servers = &now.backend.as_ref()?.servers;
    servers.iter().find(|(known, _)| known.name == server.name)?.1.cloned()
}

/// Where a server is: its address without brackets, and its port.
fn split(address: &str) -> (String, String) {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host.trim_matches(['[', ']']).to_owned(), port.to_owned())
        }
        _ => (address.to_owned(), "0".to_owned()),
    }
}

fn joined(ip: IpAddr, port: u16) -> String {
    match port {
        0 => ip.to_string(),
        _ => std::net::SocketAddr::new(ip, port).to_string(),
    }
}

/// `set server <b>/<s> addr|check-addr|check-port|fqdn …`; nothing where it is another command.
pub async fn set(known: &Known, proxy: &Proxy, server: &Server, words: &[&str]) -> Option<String> {
    const BY: &str = "by 'stats socket command'\n";
    Some(match words {
        ["addr"] => "set server <b>/<s> addr requires an address and optionally a port.\n".into(),
        ["addr", text, rest @ ..] => {
            let Ok(ip) = text.parse::<IpAddr>() else { return Some(format!("Invalid addr '{text}' {BY}")) };
            let Some(now) = shown(known, proxy, server).await else {
                return Some("No such server.\n".into());
            };
            let (before, port) = split(&now.address);
            let mut told = match before.parse() == Ok(ip) {
                true => "no need to change the addr".to_owned(),
                false => format!("IP changed from '{before}' to '{ip}'"),
            };
            let mut new_port = port.parse().unwrap_or(0);
            if rest.first() == Some(&"port") {
                let given = rest.get(1).copied().unwrap_or_default();
                told.push_str(", ");
                told.push_str(&match given.parse::<i64>() {
                    _ if given.starts_with(['+', '-']) => "can't change <port> to port map because it is incompatible with current health check port configuration (use 'port' statement from the 'server' directive.".to_owned(),
                    Err(_) => format!("problem converting port '{given}' to an int"),
                    // HAProxy keeps the lower bits.
                    Ok(number) if number as u16 == new_port => "no need to change the port".to_owned(),
                    Ok(number) => {
                        new_port = number as u16;
                        format!("port changed from '{port}' to '{new_port}'")
                    }
                });
            }
            let to = joined(ip, new_port);
            if to != now.address
                && let Err(why) = order(known, proxy, server, json!({ "address": to })).await
            {
                return Some(why);
            }
            format!("{told} {BY}")
        }
        ["ssl", word] => switch_tls(known, proxy, server, word).await.unwrap_or_else(|why| why),
        ["ssl", ..] => "'set server <srv> ssl' expects 'on' or 'off'.\n".into(),
        ["check-addr" | "check-port", ..] => check_place(known, proxy, server, words).await,
        ["fqdn"] => "set server <b>/<s> fqdn requires a FQDN.\n".into(),
        ["fqdn", name, ..] => {
            let Some(now) = shown(known, proxy, server).await else {
                return Some("No such server.\n".into());
            };
            if !server.resolved {
                return Some("set server <b>/<s> fqdn failed because no resolution is configured.\n".into());
            }
            let host = now.host.as_deref().unwrap_or("(null)");
            if host.eq_ignore_ascii_case(name) {
                return Some(format!("no need to change the FDQN {BY}"));
            }
            let (_, port) = split(&now.address);
            let to = if port == "0" { (*name).to_owned() } else { format!("{name}:{port}") };
            match order(known, proxy, server, json!({ "address": to })).await {
                Ok(()) => {
                    looked_up(known, proxy, server).await;
                    format!("{}/{} changed its FQDN from {host} to {name} {BY}", proxy.name, server.name)
                }
                Err(why) => why,
            }
        }
        _ => return None,
    })
}

/// `set server … ssl on|off`, of one that has `ssl` among its options.
async fn switch_tls(known: &Known, proxy: &Proxy, server: &Server, word: &str) -> Result<String, String> {
    if server.tls_options.is_empty() {
        return Err("'set server <srv> ssl' cannot be set.\n\
                    default-server should define ssl settings before no-ssl.\n"
            .into());
    }
    let tls = match word {
        "on" => {
            let options: Vec<&str> = server.tls_options.iter().map(String::as_str).collect();
            tls_of(&options, &server.name)?
        }
        "off" => json!({ "enabled": false }),
        _ => return Err("'set server <srv> ssl' expects 'on' or 'off'.\n".into()),
    };
    order(known, proxy, server, json!({ "server-tls": tls })).await?;
    known.added.with(&proxy.name, |of| of.tls.insert(server.name.clone(), word == "on"));
    Ok("server ssl setting updated.\n".into())
}

/// Waits until a server's new name has an address, or for a while.
async fn looked_up(known: &Known, proxy: &Proxy, server: &Server) {
    const WAITED: std::time::Duration = std::time::Duration::from_secs(2);
    let found = async {
        while shown(known, proxy, server)
            .await
            .is_some_and(|now| split(&now.address).0.parse::<IpAddr>().is_err())
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(WAITED, found).await;
}

async fn check_place(known: &Known, proxy: &Proxy, server: &Server, words: &[&str]) -> String {
    if !server.checked {
        return bare("health checks are not enabled on this server");
    }
    let mut keys = Map::new();
    let mut rest = words;
    if words[0] == "check-addr" {
        let Some(text) = words.get(1) else {
            return "set server <b>/<s> check-addr requires an address and optionally a port.\n".into();
        };
        let Ok(ip) = text.parse::<IpAddr>() else { return format!("invalid addr '{text}'") };
        keys.insert("address".into(), json!(ip.to_string()));
        rest = &words[2..];
    }
    match (words[0], rest.get(1)) {
        ("check-port", None) => return "set server <b>/<s> check-port requires a port.\n".into(),
        (_, Some(text)) if words[0] == "check-port" || rest[0] == "port" => match text.parse::<i64>() {
            Err(_) => return bare("provided port is not an integer"),
            Ok(number) if !(0..=65_535).contains(&number) => return bare("provided port is invalid"),
            // The server's own.
            Ok(0) => {
                let Some(now) = shown(known, proxy, server).await else { return bare("No such server.") };
                let port = split(&now.address).1.parse::<u16>().unwrap_or(0);
                keys.extend((port > 0).then(|| ("port".to_owned(), json!(port))));
            }
            Ok(number) => drop(keys.insert("port".into(), json!(number))),
        },
        _ => {}
    }
    if keys.is_empty() {
        return String::new();
    }
    order(known, proxy, server, json!({ "health-check": keys })).await.err().unwrap_or_default()
}

/// `enable|disable health|agent <backend>/<server>`
pub async fn checks(
    known: &Known,
    proxy: &Proxy,
    server: &Server,
    what: &str,
    enabled: bool,
) -> Result<(), String> {
    let configured = if what == "agent" { server.agent } else { server.checked };
    match (what, configured, enabled) {
        (_, false, false) => Ok(()),
        ("agent", false, true) => Err("Agent was not configured on this server, cannot enable.\n".into()),
        ("agent", true, _) => {
            order(known, proxy, server, json!({ "health-check": { "ask-agent": enabled } })).await
        }
        (_, false, true) => Err("Health check was not configured on this server, cannot enable.\n".into()),
        _ => order(known, proxy, server, json!({ "check": enabled })).await,
    }
}

async fn order(known: &Known, proxy: &Proxy, server: &Server, keys: Value) -> Result<(), String> {
    let (service, own) = (proxy.pool.clone().unwrap_or_default(), server.own.clone());
    let keys = keys.as_object().cloned().unwrap_or_default();
    let keys = api::ServerKeys { expires: None, keys };
    let by = "stats socket".to_owned();
    match known.ask(|reply| Request::SetServer { service, server: own, keys, by, reply }).await {
        Some(Ok(_)) => Ok(()),
        Some(Err(refused)) => Err(format!("{}\n", refused.failure.detail)),
        None => Err(stopping()),
    }
}

/// `show resolvers [<section>]`. Name servers of no section are the system's, which HAProxy has as `default`.
pub async fn resolvers(known: &Known, words: &[&str]) -> String {
    let Some(asked) = known.ask(Request::NameServers).await else { return stopping() };
    let mut sections = known.running.resolvers.clone();
    let named = |address: &String| sections.iter().any(|s| s.servers.iter().any(|(_, at)| at == address));
    let others = asked.iter().map(|a| &a.address).filter(|address| !named(address));
    let others = others.map(|at| (at.strip_suffix(":53").unwrap_or(at).to_owned(), at.clone())).collect();
    if !sections.iter().any(|s| s.name == "default") {
        sections.push(Resolvers { name: "default".into(), servers: others });
    }
    let mut out = String::new();
    for section in sections.iter().filter(|s| words.first().is_none_or(|name| s.name == *name)) {
        out.push_str(&format!("Resolvers section {}\n", section.name));
        for (name, address) in &section.servers {
            let all = asked.iter().find(|a| a.address == *address).map_or([0; 14], |a| {
                let (snd_error, any_err) = (a.failed, a.nothing);
                [
                    a.sent,
                    snd_error,
                    a.valid,
                    0,
                    a.alias,
                    0,
                    any_err,
                    a.no_name,
                    a.timeout,
                    a.refused,
                    a.other,
                    a.invalid,
                    0,
                    a.truncated,
                ]
            });
            out.push_str(&format!(" nameserver {name}:\n"));
            for (key, count) in COUNTERS.iter().zip(all.into_iter().chain([0])) {
                out.push_str(&format!("  {:<13}{count}\n", format!("{key}:")));
            }
        }
    }
    match (out.is_empty(), words) {
        (true, [_, ..]) => "Can't find that resolvers section\n".into(),
        _ => out,
    }
}

const COUNTERS: [&str; 15] = [
    "sent",
    "snd_error",
    "valid",
    "update",
    "cname",
    "cname_error",
    "any_err",
    "nx",
    "timeout",
    "refused",
    "other",
    "invalid",
    "too_big",
    "truncated",
    "outdated",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_servers_that_are_added() {
        let check = |options: &str, expect: Result<&str, &str>| {
            let mut new = Server { name: "s".into(), own: "s".into(), ..Server::default() };
            let options: Vec<&str> = options.split_whitespace().collect();
            let found = keys_of(&options, "s", true, &mut new).map(|keys| Value::Object(keys).to_string());
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{options:?}");
        };
        check("", Ok(r#"{"weight":1,"check":false,"admin-state":"halted"}"#));
        check(
            "check weight 30 backup maxconn 9 inter 500 rise 4 port 88",
            Ok(
                r#"{"weight":30,"backup":true,"max-connections":9,"health-check":{"interval":"500ms","rise":4,"port":88},"check":false,"admin-state":"halted"}"#,
            ),
        );
        check(
            "ssl verify none sni str(a.test)",
            Ok(
                r#"{"server-tls":{"enabled":true,"verify":false,"sni":"a.test"},"weight":1,"check":false,"admin-state":"halted"}"#,
            ),
        );
        check(
            "ssl ca-file /ca.pem",
            Ok(
                r#"{"server-tls":{"enabled":true,"ca":"/ca.pem","verify-name":false},"weight":1,"check":false,"admin-state":"halted"}"#,
            ),
        );
        check(
            "ssl verify none check",
            Ok(
                r#"{"health-check":{"tls":{"enabled":false}},"server-tls":{"enabled":true,"verify":false},"weight":1,"check":false,"admin-state":"halted"}"#,
            ),
        );
        check(
            "proto h2 send-proxy-v2",
            Ok(r#"{"server-http":"2","send-proxy":"v2","weight":1,"check":false,"admin-state":"halted"}"#),
        );
        assert!(keys_of(&["agent-check"], "s", true, &mut Server::default()).is_err());
        check("weight 300", Err("weight of server s is not within 0 and 256 (300).."));
        check("cookie x", Err("'cookie' option is not accepted for dynamic server"));
        check("foo", Err("unknown keyword 'foo'"));
    }

    #[test]
    fn places() {
        for (text, host, port) in [
            ("10.0.0.1:80", "10.0.0.1", "80"),
            ("[::1]:80", "::1", "80"),
            ("::1", "::1", "0"),
            ("10.0.0.1", "10.0.0.1", "0"),
            ("a.test:80", "a.test", "80"),
        ] {
            assert_eq!(split(text), (host.to_owned(), port.to_owned()), "{text}");
        }
    }
}
