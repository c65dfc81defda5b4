//! Real servers that are added or set while the program runs: held against the same schema and the same rules
//! as those of the file.

use std::collections::HashMap;
use std::path::PathBuf;

use evenkeel_model::{LogFormat, Name, Origin, Pool, RealServer, VirtualService};
use serde_json::{Map, Value};
use toml::de::DeTable;

use super::{Builder, is_looped};
use crate::edit::{Change, edit};
use crate::problem::Problem;
use crate::schema::REAL_SERVER;
use crate::section::Section;
use crate::validate::{self, Findings};
use crate::{discovery, layer4};

/// A real server of this pool with these keys of `[[pool.real-server]]`; every problem where it cannot be one.
/// `before` is the server whose keys are set: the others stay as they are.
pub fn run_time_server(
    pool: &Pool,
    name: &str,
    before: Option<&RealServer>,
    keys: &Map<String, Value>,
) -> Result<RealServer, Vec<String>> {
    let mut keys = keys.clone();
    keys.insert("name".into(), name.into());
    if let Some(before) = before {
        keys.entry("address").or_insert_with(|| before.place().into());
    }
    let sets = keys.iter().map(|(key, value)| Change::Set { at: vec![key.clone()], value: value.clone() });
    let text = edit("", &sets.collect::<Vec<_>>()).map_err(|why| vec![why])?;
    let (document, syntax) = DeTable::parse_recoverable(&text);
    if let Some(error) = syntax.first() {
        return Err(vec![error.message().replace('\n', ", ")]);
    }
    let root = document.get_ref();
    let mut found = Findings::default();
    validate::table(root, 0..0, &REAL_SERVER, &mut found);
    let mut problems = found.problems;
    let section = Section { table: root, parsed: &found.parsed };
    let built = match problems.is_empty() {
        true => build(pool, section, before, &mut problems),
        false => None,
    };
    match built {
        Some(server) if problems.is_empty() => Ok(server),
        _ => Err(problems.iter().map(in_words).collect()),
    }
}

fn in_words(problem: &Problem) -> String {
    match &problem.help {
        Some(help) => format!("{} ({help})", problem.message),
        None => problem.message.clone(),
    }
}

fn build(
    pool: &Pool,
    section: Section<'_>,
    before: Option<&RealServer>,
    problems: &mut Vec<Problem>,
) -> Option<RealServer> {
    let (name, (address, host)): (Name, _) = (section.name("name")?, section.server("address")?);
    let host = host.map(|host| {
        let mut host = discovery::host(None, section, host, problems);
        // What the pool says of names stands in each of its servers that has one.
        let known = before.into_iter().chain(&pool.real_servers).find_map(|s| s.host.as_ref());
        if let Some(known) = known.filter(|_| section.value("resolve").is_none()) {
            (host.prefer_ipv6, host.init) = (known.prefer_ipv6, known.init.clone());
        }
        host
    });
    let check = before.map_or(&pool.health_check, |before| pool.check_of(before));
    let mut builder = Builder {
        problems,
        bound: HashMap::new(),
        taken: layer4::Taken::default(),
        log_format: LogFormat::default(),
        log: crate::log::Common::default(),
        authorities: Vec::new(),
        state_directory: PathBuf::new(),
    };
    let new = builder.real_server(section, name, (address, host), pool.server_tls.clone(), check);
    let Some(before) = before else {
        return Some(RealServer { found_in: Some(Box::new(Origin::RunTime)), ..new });
    };
    let is_set = |key: &str| section.value(key).is_some();
    let mut server = before.clone();
    (server.address, server.host) = (new.address, new.host);
    if is_set("weight") {
        server.weight = new.weight;
    }
    if is_set("max-connections") {
        server.max_connections = new.max_connections;
    }
    if is_set("min-connections") {
        server.min_connections = new.min_connections;
    }
    if is_set("backup") {
        server.backup = new.backup;
    }
    if is_set("keeps-clients") {
        server.keeps_clients = new.keeps_clients;
    }
    if is_set("non-stick") {
        server.non_stick = new.non_stick;
    }
    if is_set("admin-state") {
        server.admin_state = new.admin_state;
    }
    if is_set("cookie") {
        server.cookie = new.cookie;
    }
    if is_set("check") {
        server.check = new.check;
    }
    // What it had of its own is in the check that these were read over.
    if is_set("health-check") && new.health_check.is_some() {
        server.health_check = new.health_check;
    }
    if is_set("source") {
        server.source = new.source;
    }
    if is_set("server-tls") {
        server.speaks = new.speaks;
    }
    if is_set("server-http") {
        server.h2 = new.h2;
    }
    if is_set("send-proxy") {
        server.send_proxy = new.send_proxy;
    }
    Some(server)
}

/// What is at odds between a real server and the others of its pool, and the services that lead to it.
pub fn server_problems(pool: &Pool, services: &[&VirtualService], server: &RealServer) -> Vec<String> {
    let mut found = Vec::new();
    for other in pool.real_servers.iter().filter(|o| o.name != server.name) {
        let (name, place) = (&other.name, server.address);
        if !pool.same_address && server.host.is_none() && other.host.is_none() && other.address == place {
            found.push(format!("{} has the address of {name}, {place}", server.name));
        }
        if other.cookie() == server.cookie() {
            found.push(format!("{} has the cookie of {name}, {:?}", server.name, server.cookie()));
        }
    }
    let check = pool.check_of(server);
    let needs_port = !matches!(check.probe, evenkeel_model::Probe::None | evenkeel_model::Probe::Ping);
    if server.address.port() == 0 && check.port.is_none() && needs_port && server.check {
        found.push(format!(
            "the real server {} has no port, so its health check needs one (such as health-check = {{ port = 80 }})",
            server.name
        ));
    }
    found.extend(service_problems(services, server));
    found
}

/// What is at odds between a real server and the services that lead to it.
pub fn service_problems(services: &[&VirtualService], server: &RealServer) -> Vec<String> {
    let mut found = Vec::new();
    for service in services {
        if service.mode.is_layer4() {
            let wrong = layer4::check_server(service, server).into_iter();
            found.extend(wrong.map(|(_, message, help)| format!("{message} ({help})")));
        } else if is_looped(service, server) {
            found.push(format!("the real server {} is the VIP {} itself", server.name, server.address));
        }
    }
    found
}
