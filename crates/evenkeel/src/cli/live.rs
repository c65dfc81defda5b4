//! Verbs that ask the daemon.

use std::collections::{BTreeSet, HashMap};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use evenkeel_api as api;
use serde::Serialize;

use super::client::Client;
use super::table::{Table, age, bytes};
use super::{Common, Exit, Failure, Outcome, ServerName, StateArguments, files};
use super::{counted, encoded};

pub fn print_json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    say(&text)
}

/// Prints a line; a reader that went away is no error.
pub fn say(text: &str) -> Outcome {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

pub fn plan(common: &Common, file: &Path) -> Outcome {
    let text = checked(file)?;
    let plan: api::Plan = Client::new(&common.socket).post_text("/api/v1/plan", &text)?;
    if common.json {
        return print_json(&plan);
    }
    print_plan(&plan)
}

/// The text of a file that holds no error; otherwise the errors are printed with their places.
fn checked(file: &Path) -> Result<String, Failure> {
    let text = super::read_file(file)?;
    if evenkeel_config::read(&text).is_err() {
        files::check(file, false)?;
    }
    Ok(text)
}

fn print_plan(plan: &api::Plan) -> Outcome {
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    if plan.steps.is_empty() {
        return say("nothing changes");
    }
    for note in &plan.notes {
        say(&format!("! {note}"))?;
    }
    if let Some(peer) = &plan.peer {
        say(peer)?;
    }
    for step in &plan.steps {
        let sign = match step.action.as_str() {
            "add" => '+',
            "remove" => '-',
            _ => '~',
        };
        let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
        say(&format!("{sign} {}{detail}  ({})", step.subject, step.impact))?;
    }
    Ok(())
}

/// The running revision: what is committed after it was read is made for it.
pub fn running_revision(client: &Client) -> Result<u64, Failure> {
    const PLACE: &str = "/api/v1/configuration";
    match client.tag(PLACE)? {
        Some(revision) => Ok(revision),
        // The answer says why.
        None => client.get::<api::Configuration>(PLACE).map(|c| c.revision),
    }
}

pub fn commit(
    common: &Common,
    file: &Path,
    base: Option<u64>,
    confirm: Option<Duration>,
    message: Option<String>,
) -> Outcome {
    let client = Client::new(&common.socket);
    // Before the file: what others commit from here on is not overwritten.
    let base = base.map_or_else(|| running_revision(&client), Ok);
    let text = checked(file)?;
    let base = Some(base?.to_string());
    let confirm_ms = confirm.map(|c| c.as_millis().to_string());
    let options =
        [("author", Some(author())), ("message", message), ("confirm-ms", confirm_ms), ("base", base)];
    let options = options.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded(&value?))));
    let path = format!("/api/v1/commit?{}", options.collect::<Vec<_>>().join("&"));
    let done: api::Committed = client.post_text(&path, &text)?;
    print_committed(common, &done)
}

pub fn print_committed(common: &Common, done: &api::Committed) -> Outcome {
    if common.json {
        return print_json(done);
    }
    print_plan(&done.plan)?;
    say(&format!("revision {} is running", done.revision))?;
    if let Some(peer) = &done.peer {
        say(&format!("the peer: {peer}"))?;
    }
    match done.confirm_within_ms {
        Some(ms) => {
            say(&format!("it goes back by itself in {} s unless you run `evenkeel confirm`", ms / 1000))
        }
        None => Ok(()),
    }
}

/// Who sits at the terminal.
pub fn author() -> String {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let found = name("SUDO_USER").or_else(|| name("USER")).unwrap_or_else(|| "command line".into());
    found.chars().filter(|c| !c.is_control()).collect()
}

pub fn status(common: &Common, service: Option<&str>) -> Outcome {
    let client = Client::new(&common.socket);
    let status = match service {
        Some(name) => status_of(&client, name)?,
        None => client.get("/api/v1/status")?,
    };
    if common.json {
        return print_json(&status);
    }
    let pair = pair_line(&client);
    say(&format!("{pair}{}", render_status(&status, None)))
}

/// The status of one virtual service, or that there is none of this name.
pub(super) fn status_of(client: &Client<'_>, name: &str) -> Result<api::Status, Failure> {
    let mut status: api::Status = client.get(&format!("/api/v1/status?service={}", encoded(name)))?;
    // A daemon of an older version sends all.
    status.pools.clear();
    status.virtual_services.retain(|s| s.name == name);
    match status.virtual_services.is_empty() {
        true => Err(Failure::new(Exit::Failed, format!("there is no virtual service named {name}"))),
        false => Ok(status),
    }
}

/// Who this node is in its pair, and how it is with the other; nothing on a node without a pair.
fn pair_line(client: &Client<'_>) -> String {
    client.get::<api::Pair>("/api/v1/pair").map_or_else(|_| String::new(), |pair| describe_pair(&pair))
}

pub(super) fn describe_pair(pair: &api::Pair) -> String {
    let mut text = format!("node {}, {}", pair.name, pair.role);
    if !pair.paired {
        return text + ", not paired yet\n";
    }
    if let Some(peer) = &pair.peer {
        let beat = super::pair::ago(peer.heard_ms_ago);
        // The last that was heard may be the farewell, which gives no role.
        let state = peer.role.as_deref().filter(|_| peer.heard).unwrap_or("SILENT");
        text.push_str(&format!("; peer {} {state}, heard {beat}", peer.address));
    }
    if let Some(link) = &pair.link {
        let state = if link.connected { "connected" } else { "not connected" };
        text.push_str(&format!("; link {state}"));
    }
    text.push('\n');
    if pair.role == "passive" && pair.peer.as_ref().is_some_and(|peer| peer.heard) {
        text.push_str(
            "clients are at the active node, which counts them: what is counted here is this node's own\n",
        );
    }
    text
}

/// Whose entries a list of persistence shows.
fn whose_entries(client: &Client<'_>) -> &'static str {
    let is_passive = client.get::<api::Pair>("/api/v1/pair").is_ok_and(|pair| pair.role == "passive");
    match is_passive {
        true => ": what this passive node uses once it is active, as the active one has told it",
        false => "",
    }
}

/// Rates need an earlier status and the time since.
fn render_status(status: &api::Status, before: Option<(&api::Status, Duration)>) -> String {
    let totals: HashMap<String, u64> = before
        .iter()
        .flat_map(|(old, _)| old.virtual_services.iter())
        .flat_map(|s| {
            let own = (s.name.clone(), s.requests.max(s.total_connections));
            let servers = s.real_servers.iter();
            servers.map(|r| (format!("{}/{}", s.name, r.name), r.total_connections)).chain([own])
        })
        .chain(before.iter().flat_map(|(old, _)| &old.pools).flat_map(|p| {
            let servers = p.real_servers.iter();
            servers.map(|r| (format!("{}/{}", p.name, r.name), r.total_connections))
        }))
        .collect();
    let rate = |name: &str, now: u64| match before {
        Some((_, elapsed)) => {
            let old = totals.get(name).copied().unwrap_or(now);
            format!("{:.0}/s", now.saturating_sub(old) as f64 / elapsed.as_secs_f64().max(0.001))
        }
        None => now.to_string(),
    };
    let total = if before.is_some() { "RATE" } else { "TOTAL" };
    let mut table = Table::new(
        &["NAME", "STATE", "ADMIN", "WEIGHT", "CURRENT", total, "IN", "OUT", "ADDRESS / LAST CHECK"],
        &[3, 4, 5, 6, 7],
    );
    for service in &status.virtual_services {
        table.row(vec![
            service.name.clone(),
            service.state.clone(),
            service.mode.clone(),
            String::new(),
            service.current_connections.to_string(),
            rate(&service.name, service.requests.max(service.total_connections)),
            bytes(service.bytes_in),
            bytes(service.bytes_out),
            service.vip.join(" "),
        ]);
        add_servers(&mut table, &service.name, &service.real_servers, &rate);
    }
    for pool in &status.pools {
        let mut row = vec![pool.name.clone(), pool.state.clone(), "pool".into()];
        row.resize(9, String::new());
        table.row(row);
        add_servers(&mut table, &pool.name, &pool.real_servers, &rate);
    }
    let packets = status.layer_4.as_ref().map_or_else(String::new, render_layer4);
    format!(
        "revision {}, {}, up {}\n{packets}\n{table}",
        status.revision,
        counted(status.connections, "connection", "connections"),
        age(status.uptime_seconds * 1000)
    )
}

fn add_servers(table: &mut Table, of: &str, servers: &[api::RealServer], rate: &dyn Fn(&str, u64) -> String) {
    for server in servers {
        let name = format!("{of}/{}", server.name);
        table.row(vec![
            format!("  {}{}", server.name, if server.backup { " (backup)" } else { "" }),
            server.state.clone(),
            server.admin_state.clone(),
            server.weight.to_string(),
            server.current_connections.to_string(),
            rate(&name, server.total_connections),
            bytes(server.bytes_in),
            bytes(server.bytes_out),
            format!("{}{}  {}", server.address, origin(server), server.check.detail),
        ]);
    }
}

/// Where its address is from, where that is not the configuration's file alone.
fn origin(server: &api::RealServer) -> String {
    let host = server.host.as_ref().filter(|host| !server.address.starts_with(host.as_str()));
    let host = host.map_or_else(String::new, |host| format!(" ({host})"));
    let now = evenkeel_control::wall_ms();
    let since = server.found_since_ms.map(|at| format!(" for {}", age(now.saturating_sub(at))));
    let since = since.unwrap_or_default();
    let list = server.found_in.as_ref().map_or_else(String::new, |list| format!(" [{list}{since}]"));
    let set = server.set_at_run_time.as_ref().map_or_else(String::new, |keys| {
        let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
        format!(" [{} set at run time]", keys.join(", "))
    });
    let ends =
        server.until_ms.map_or_else(String::new, |at| format!(" [goes in {}]", age(at.saturating_sub(now))));
    host + &list + &set + &ends
}

fn render_layer4(layer4: &api::Layer4) -> String {
    let attached: Vec<String> =
        layer4.interfaces.iter().map(|i| format!("{} ({})", i.name, i.attached)).collect();
    let mut text =
        format!("layer 4 on {}: {} of {} flows\n", attached.join(", "), layer4.flows, layer4.capacity);
    // What went well is in the table below.
    let quiet = ["new-flow", "icmp-forwarded", "fragment-forwarded"];
    let loud: Vec<String> = layer4
        .reasons
        .iter()
        .filter(|(name, count)| **count > 0 && !quiet.contains(&name.as_str()))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !loud.is_empty() {
        text.push_str(&format!("packets not forwarded: {}\n", loud.join(", ")));
    }
    if !layer4.unreachable.is_empty() {
        text.push_str(&format!("no MAC address known of: {}\n", layer4.unreachable.join(", ")));
    }
    text
}

pub fn top(common: &Common, count: Option<u32>) -> Outcome {
    let client = Client::new(&common.socket);
    let mut before: Option<(api::Status, Instant)> = None;
    let mut shown = 0;
    loop {
        let status: api::Status = client.get("/api/v1/status")?;
        let now = Instant::now();
        shown += 1;
        if common.json {
            print_json(&status)?;
            if count.is_some_and(|count| shown >= count) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(1));
            continue;
        }
        let clear = if std::io::stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "" };
        let earlier = before.as_ref().map(|(status, at)| (status, now - *at));
        let pair = pair_line(&client);
        say(&format!("{clear}{pair}{}", render_status(&status, earlier)))?;
        before = Some((status, now));
        if count.is_some_and(|count| shown >= count) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub fn connections(common: &Common, filter: &api::ConnectionFilter) -> Outcome {
    let mut query = String::new();
    let client = filter.client.map(|c| c.to_string());
    let limit = filter.limit.map(|l| l.to_string());
    for (key, value) in [
        ("service", &filter.service),
        ("server", &filter.server),
        ("state", &filter.state),
        ("client", &client),
        ("limit", &limit),
    ] {
        if let Some(value) = value {
            let mark = if query.is_empty() { '?' } else { '&' };
            query.push_str(&format!("{mark}{key}={}", escape(value)));
        }
    }
    let all: Vec<api::Connection> =
        Client::new(&common.socket).get(&format!("/api/v1/connections{query}"))?;
    if all.is_empty() {
        known(&Client::new(&common.socket).get("/api/v1/status")?, filter)?;
    }
    if common.json {
        return print_json(&all);
    }
    let mut table = Table::new(
        &["", "CLIENT", "VIP", "SERVICE", "SERVER", "STATE", "AGE", "REQUESTS", "IN", "OUT"],
        &[6, 7, 8, 9],
    );
    for c in &all {
        table.row(vec![
            c.protocol.clone(),
            c.client.clone(),
            c.vip.clone(),
            c.service.clone(),
            c.real_server.clone().unwrap_or_else(|| "-".into()),
            c.state.clone(),
            age(c.age_ms),
            c.requests.to_string(),
            bytes(c.bytes_in),
            bytes(c.bytes_out),
        ]);
    }
    say(&format!("{table}\n{}", sum_of(&all)))
}

/// The states of connections: of the modes `tcp` and `http`, then of layer 4.
const STATES: &str = "idle, greeting, reading, queued, connecting, waiting, answering, relaying; syn-received, established, closing, closed, udp, picked-up, asking-server, cut";

/// Refuses filters that nothing can ever fit.
fn known(status: &api::Status, filter: &api::ConnectionFilter) -> Outcome {
    let refuse = |why: String| Err(Failure::new(Exit::Failed, why));
    let services = &status.virtual_services;
    if let Some(name) = filter.service.as_ref().filter(|name| !services.iter().any(|s| s.name == **name)) {
        return refuse(format!("there is no virtual service named {name}"));
    }
    let of_services = services.iter().flat_map(|s| &s.real_servers);
    let mut all = of_services.chain(status.pools.iter().flat_map(|p| &p.real_servers));
    // The server of a fallback is listed by that name.
    let mut is_known = |name: &str| name == "fallback" || all.any(|r| r.name == name);
    if let Some(name) = filter.server.as_deref().filter(|name| !is_known(name)) {
        return refuse(format!("there is no real server named {name}"));
    }
    match &filter.state {
        Some(state) if !STATES.split([',', ';']).any(|known| known.trim() == state) => {
            refuse(format!("{state} is no state of connections: those are {STATES}"))
        }
        _ => Ok(()),
    }
}

/// Tells how many connections a list has. Streams are no connections of their own, and entries of layer 4 that
/// are closed or cut are none any more.
pub(super) fn sum_of(all: &[api::Connection]) -> String {
    let (open, over): (Vec<_>, Vec<_>) =
        all.iter().partition(|c| !matches!(c.state.as_str(), "closed" | "cut"));
    let clients: BTreeSet<&str> = open.iter().map(|c| host_part(&c.client)).collect();
    let clients = counted(clients.len() as u64, "client", "clients");
    let of_http2: BTreeSet<u64> = open.iter().filter_map(|c| c.http2).collect();
    let alone = open.iter().filter(|c| c.http2.is_none()).count();
    let connections = counted((alone + of_http2.len()) as u64, "connection", "connections");
    match over.len() {
        0 => format!("{connections} of {clients}"),
        1 => format!("{connections} of {clients}; 1 more that has ended"),
        over => format!("{connections} of {clients}; {over} more that have ended"),
    }
}

/// Without the port.
fn host_part(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// Whose connections: of an address, or of one port of it.
pub type ClientPlace = (std::net::IpAddr, Option<u16>);

/// Closes the connections of a service, a real server or a client, or a single one.
pub fn close(common: &Common, of: Option<&str>, client: Option<ClientPlace>) -> Outcome {
    let (service, server) = match of.map(|of| of.split_once('/').unwrap_or((of, ""))) {
        Some((service, "")) => (Some(service.to_owned()), None),
        Some((service, server)) => (Some(service.to_owned()), Some(server.to_owned())),
        None => (None, None),
    };
    let (client, port) = client.map_or((None, None), |(address, port)| (Some(address), port));
    let said = [
        ("service", service),
        ("server", server),
        ("client", client.map(|address| address.to_string())),
        ("client-port", port.map(|port| port.to_string())),
    ];
    let parts = said.iter().filter_map(|(key, value)| Some(format!("{key}={}", escape(value.as_ref()?))));
    let query = parts.collect::<Vec<_>>().join("&");
    let done: api::Closed = Client::new(&common.socket).delete(&format!("/api/v1/connections?{query}"))?;
    if common.json {
        return print_json(&done);
    }
    let mut text = format!("{} closed", counted(done.closed as u64, "connection", "connections"));
    if done.at_next_packet > 0 {
        let whose = if done.at_next_packet == done.closed {
            "".into()
        } else {
            format!("{} of ", done.at_next_packet)
        };
        text += &format!(
            "; {whose}layer 4: the next packet of either side is answered with a reset, a client's next datagram begins a new flow"
        );
    }
    say(&text)
}

/// A client's address, with a port or without.
pub fn client_of(text: &str) -> Result<ClientPlace, String> {
    let whole = text.parse::<std::net::SocketAddr>().map(|place| (place.ip(), Some(place.port())));
    let bare = || text.parse::<std::net::IpAddr>().map(|address| (address, None));
    whole.or_else(|_| bare()).map_err(|_| "it is no address, and no ADDRESS:PORT".into())
}

/// A value of a query (RFC 3986, section 2.1).
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:".contains(&b);
    text.bytes().fold(String::new(), |mut out, byte| {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// Whether the connections of a service are those of the other node: layer 4 is known to both.
fn has_them_elsewhere(client: &Client<'_>, service: &str) -> Result<bool, Failure> {
    let status: api::Status = client.get("/api/v1/status")?;
    let proxied = |s: &api::Service| s.name == service && ["http", "tcp"].contains(&s.mode.as_str());
    Ok(status.node.role == "passive" && status.virtual_services.iter().any(proxied))
}

pub fn change_state(common: &Common, arguments: &StateArguments, state: &str) -> Outcome {
    let ServerName { service, server } = &arguments.server;
    let change = api::ServerChange { admin_state: Some(state.into()), weight: None };
    let client = Client::new(&common.socket);
    let path = format!("/api/v1/servers/{service}/{server}");
    let mut now: api::RealServer = client.post(&path, &change)?;
    let started = Instant::now();
    let waits = arguments.wait && state != "online";
    let elsewhere = has_them_elsewhere(&client, service)?;
    if elsewhere && waits {
        let why = format!(
            "{service}/{server} is {state} on both nodes, but this one is passive, and the active node has the connections: wait for their end there, by the same command"
        );
        return Err(Failure::new(Exit::Failed, why));
    }
    while waits && now.current_connections > 0 {
        if started.elapsed() >= arguments.timeout {
            let left = counted(now.current_connections, "connection", "connections");
            let why = format!("{service}/{server} is {state}, but still has {left}");
            return Err(Failure::new(Exit::TimedOut, why));
        }
        if std::io::stderr().is_terminal() {
            let left = counted(now.current_connections, "connection", "connections");
            eprint!("\r{service}/{server}: {left} left \x1b[K");
        }
        std::thread::sleep(Duration::from_millis(200));
        now = client.post(&path, &api::ServerChange::default())?;
    }
    if waits && std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    if common.json {
        return print_json(&now);
    }
    let left = match now.current_connections {
        0 if elsewhere => "and the active node has its connections".to_owned(),
        0 => "no connections".to_owned(),
        n => counted(n, "connection", "connections"),
    };
    say(&format!("{service}/{server} is {state}, {left}"))
}

pub fn weight(common: &Common, name: &ServerName, weight: u16) -> Outcome {
    let change = api::ServerChange { admin_state: None, weight: Some(weight) };
    let path = format!("/api/v1/servers/{}/{}", name.service, name.server);
    let now: api::RealServer = Client::new(&common.socket).post(&path, &change)?;
    if common.json {
        return print_json(&now);
    }
    say(&format!("{}/{} has weight {}", name.service, name.server, now.weight))
}

pub fn persistence(common: &Common, service: &str, key: Option<&str>, server: Option<&str>) -> Outcome {
    let path = format!("/api/v1/persistence/{service}");
    let client = Client::new(&common.socket);
    let mut entries: Vec<api::PersistenceEntry> = client.get(&path)?;
    entries.retain(|entry| {
        key.is_none_or(|text| entry.key.contains(text))
            && server.is_none_or(|name| entry.real_server.as_deref() == Some(name))
    });
    if common.json {
        return print_json(&entries);
    }
    let counts = entries.iter().any(|e| e.activity.is_some());
    let heads = ["KEY", "SERVER", "EXPIRES IN", "CURRENT", "CONNECTIONS", "REQUESTS", "ERRORS", "IN", "OUT"];
    let mut table = Table::new(if counts { &heads } else { &heads[..3] }, &[2, 3, 4, 5, 6, 7, 8]);
    for entry in &entries {
        let server = entry.real_server.clone().unwrap_or_else(|| "-".into());
        let mut row = vec![entry.key.clone(), server, age(entry.expires_in_ms)];
        if counts {
            let activity = entry.activity.clone().unwrap_or_default();
            let sum = |c: api::Counted| format!("{} ({})", c.total, c.rate);
            row.push(activity.current.to_string());
            row.extend([activity.connections, activity.requests, activity.errors].map(sum));
            row.extend([activity.bytes_in, activity.bytes_out].map(|c| bytes(c.total)));
        }
        table.row(row);
    }
    let count = counted(entries.len() as u64, "entry", "entries");
    say(&format!("{table}\n{count}{}", whose_entries(&client)))
}

pub fn clear_persistence(common: &Common, service: &str, key: Option<&str>) -> Outcome {
    let query = key.map(|k| format!("?key={k}")).unwrap_or_default();
    let path = format!("/api/v1/persistence/{service}{query}");
    let done: api::Cleared = Client::new(&common.socket).delete(&path)?;
    if common.json {
        return print_json(&done);
    }
    say(&format!("{} cleared", counted(done.cleared as u64, "entry", "entries")))
}

pub fn explain(common: &Common, question: api::Question, config: Option<&Path>) -> Outcome {
    let question = api::Question { configuration: config.map(checked).transpose()?, ..question };
    let answer = match Client::new(&common.socket).post("/api/v1/explain", &question) {
        // A proposed configuration can be asked without a daemon; every server then counts as up.
        Err(failure) if failure.exit == Exit::Unreachable && config.is_some() => {
            eprintln!("evenkeel: no daemon is running: every real server is taken to be up");
            evenkeel_control::explain_offline(&question).map_err(|why| Failure::new(Exit::Failed, why))?
        }
        other => other?,
    };
    if common.json {
        return print_json(&answer);
    }
    say(&format!(
        "virtual service {}, pool {}, scheduler {}",
        answer.service, answer.pool, answer.scheduler
    ))?;
    for route in &answer.routes {
        let verdict = if route.holds { "holds" } else { "does not hold" };
        say(&format!("- route {} {verdict}", route.name))?;
        for test in &route.tests {
            say(&format!("    {} {}", if test.holds { "yes" } else { "no " }, test.test))?;
        }
        for action in &route.actions {
            say(&format!("    => {action}"))?;
        }
    }
    for reason in &answer.reasons {
        say(&format!("- {reason}"))?;
    }
    if answer.candidates.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["SERVER", "WEIGHT", "CURRENT", "VERDICT"], &[1, 2]);
    for candidate in &answer.candidates {
        table.row(vec![
            candidate.real_server.clone(),
            candidate.effective_weight.to_string(),
            candidate.current_connections.to_string(),
            candidate.verdict.clone(),
        ]);
    }
    say(&format!("\n{table}"))?;
    match &answer.real_server {
        Some(server) => say(&format!("=> {server}")),
        None if answer.candidates.iter().any(|c| c.verdict == "possible") => {
            say("=> one of those that are possible: the packet path decides")
        }
        None => say("=> no real server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_ended_entries_are_no_connections() {
        let row = |client: &str, http2: Option<u64>, state: &str| {
            let fields = serde_json::json!({
                "client": client, "vip": "192.0.2.1:80", "service": "s", "state": state, "http2": http2,
                "age-ms": 1, "requests": 1, "bytes-in": 1, "bytes-out": 1,
            });
            serde_json::from_value::<api::Connection>(fields).unwrap()
        };
        let one = [row("10.0.0.1:1", Some(7), "relaying"), row("10.0.0.1:1", Some(7), "waiting")];
        assert_eq!(sum_of(&one), "1 connection of 1 client");
        // The connection itself was not asked for.
        assert_eq!(sum_of(&one[1..]), "1 connection of 1 client");
        let all = [&one[..], &[row("10.0.0.2:1", None, "closed"), row("10.0.0.3:1", None, "idle")]].concat();
        assert_eq!(sum_of(&all), "2 connections of 2 clients; 1 more that has ended");
    }
}
