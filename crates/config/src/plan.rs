//! The printed steps from one snapshot to the next, and what each does to connections.

mod client_auth;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use evenkeel_model::{
    AdminSettings, HealthCheck, Limits, Name, Pool, ProxyVersion, RealServer, Snapshot, VirtualService,
    counted,
};

/// Steps in the order they are carried out. Two equal snapshots have an empty plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<PlanStep>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    /// `add`, `remove` or `change`.
    pub action: &'static str,
    /// What it is done to: `virtual service web`, `real server web/web1`.
    pub subject: String,
    pub detail: String,
    pub impact: Impact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impact {
    /// No connection notices.
    None,
    /// Established connections finish under the old rules, new ones follow the new.
    NewConnections,
    /// Established connections finish, nothing new is accepted.
    Drains,
    /// The value is read at the next start.
    Restart,
    /// Whoever came that way may lose the connection.
    Cuts,
}

impl Impact {
    pub fn as_str(self) -> &'static str {
        match self {
            Impact::None => "no connection notices",
            Impact::NewConnections => "new connections follow the new rule, established ones finish",
            Impact::Drains => "established connections finish, no new ones",
            Impact::Restart => "takes effect at the next start",
            Impact::Cuts => "connections over it may be cut: commit with a time to confirm",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return writeln!(f, "nothing changes");
        }
        for step in &self.steps {
            let sign = match step.action {
                "add" => '+',
                "remove" => '-',
                _ => '~',
            };
            write!(f, "{sign} {}", step.subject)?;
            if !step.detail.is_empty() {
                write!(f, ": {}", step.detail)?;
            }
            writeln!(f, "  ({})", step.impact.as_str())?;
        }
        Ok(())
    }
}

pub fn plan(old: &Snapshot, new: &Snapshot) -> Plan {
    let mut steps = Vec::new();
    globals(old, new, &mut steps);
    steps.extend(node_steps(old, new));
    let service_name = |s: &VirtualService| s.name.clone();
    let pool_name = |p: &Pool| p.name.clone();
    for change in compare(old.pools.iter().map(|p| &**p), new.pools.iter().map(|p| &**p), pool_name) {
        match change {
            Change::Added(pool) => steps.push(step(
                "add",
                format!("pool {}", pool.name),
                format!(
                    "{}, {}",
                    counted(pool.real_servers.len(), "real server", "real servers"),
                    pool.scheduler.as_str()
                ),
                Impact::None,
            )),
            Change::Removed(pool) => {
                steps.push(step("remove", format!("pool {}", pool.name), String::new(), Impact::Drains))
            }
            Change::Both(before, after) if std::ptr::eq(before, after) => {}
            Change::Both(before, after) => pool_steps(before, after, &mut steps),
        }
    }
    for change in compare(old.services.iter().map(|s| &**s), new.services.iter().map(|s| &**s), service_name)
    {
        match change {
            Change::Added(service) => steps.push(step(
                "add",
                format!("virtual service {}", service.name),
                format!("{} on {}", service.mode.as_str(), vips(service)),
                Impact::None,
            )),
            Change::Removed(service) => steps.push(step(
                "remove",
                format!("virtual service {}", service.name),
                format!("stops listening on {}", vips(service)),
                Impact::Drains,
            )),
            Change::Both(before, after) if std::ptr::eq(before, after) => {}
            Change::Both(before, after) => service_steps(before, after, &mut steps),
        }
    }
    Plan { steps }
}

fn step(action: &'static str, subject: String, detail: String, impact: Impact) -> PlanStep {
    PlanStep { action, subject, detail, impact }
}

enum Change<'a, T> {
    Added(&'a T),
    Removed(&'a T),
    Both(&'a T, &'a T),
}

/// Pairs two lists by name: removals in the old order, then the rest in the new order.
fn compare<'a, T: 'a>(
    old: impl Iterator<Item = &'a T>,
    new: impl Iterator<Item = &'a T>,
    name: impl Fn(&T) -> Name,
) -> Vec<Change<'a, T>> {
    let old: Vec<&T> = old.collect();
    let mut before: HashMap<Name, &T> = old.iter().map(|t| (name(t), *t)).collect();
    let mut rest = Vec::new();
    for after in new {
        rest.push(match before.remove(&name(after)) {
            Some(before) => Change::Both(before, after),
            None => Change::Added(after),
        });
    }
    let removed = old.into_iter().filter(|t| before.contains_key(&name(t))).map(Change::Removed);
    removed.chain(rest).collect()
}

fn vips(service: &VirtualService) -> String {
    service.vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The keys whose fields differ. Every field of the type is listed, `elsewhere` those that
/// another part of the plan speaks of: a field that is added and forgotten here does not compile.
macro_rules! changed_keys {
    ($type:ident, $old:expr, $new:expr, { $($field:ident => $key:literal,)* } elsewhere { $($other:ident)* }) => {{
        let $type { $($field: _,)* $($other: _,)* } = $old;
        let mut keys: Vec<&'static str> = Vec::new();
        $(if $old.$field != $new.$field { keys.push($key); })*
        keys
    }};
}

/// `interval 2s becomes 700ms`, or `interval changes` where a value is not one word.
fn described(key: &str, old: Option<String>, new: Option<String>) -> String {
    match (old, new) {
        (Some(old), Some(new)) => format!("{key} {old} becomes {new}"),
        _ => format!("{key} changes"),
    }
}

fn globals(old: &Snapshot, new: &Snapshot, steps: &mut Vec<PlanStep>) {
    let keys = changed_keys!(Snapshot, old, new, {
        alerts => "[alerts]",
        snmp => "[snmp]",
        resolver => "[resolver]",
        graphs_size => "[graphs]",
        state_directory => "[state]",
        log => "[log]",
        packet_path => "[layer-4]",
        addresses => "[network]",
        pair => "[pair]",
        tables => "[[table]]",
        authorities => "[[acme]]",
    } elsewhere { admin limits services pools node });
    let mut changed = |what: &str, impact| {
        steps.push(step("change", what.to_owned(), String::new(), impact));
    };
    if old.admin.socket != new.admin.socket {
        changed("[admin] socket", Impact::Restart);
    }
    let rest = |s: &Snapshot| AdminSettings { socket: PathBuf::new(), ..s.admin.clone() };
    if rest(old) != rest(new) {
        changed("[admin]", Impact::None);
    }
    for key in keys {
        let at_start = ["[state]", "[layer-4]"].contains(&key);
        changed(key, if at_start { Impact::Restart } else { Impact::None });
    }
    let limits = changed_keys!(Limits, &old.limits, &new.limits, {
        max_connections => "[limits] max-connections",
        workers => "[limits] workers",
        buffer_memory => "[limits] buffer-memory",
    } elsewhere {});
    for key in limits {
        changed(key, if key.ends_with("max-connections") { Impact::None } else { Impact::Restart });
    }
}

/// What becomes of the machine itself.
fn node_steps(old: &Snapshot, new: &Snapshot) -> impl Iterator<Item = PlanStep> {
    evenkeel_node::changes(old.node.as_ref(), new.node.as_ref()).into_iter().map(|change| {
        let impact = match change.cut {
            evenkeel_node::Cut::Nothing => Impact::None,
            evenkeel_node::Cut::Connections => Impact::Cuts,
        };
        step(change.action.as_str(), format!("node: {}", change.subject), change.detail, impact)
    })
}

fn pool_steps(before: &Pool, after: &Pool, steps: &mut Vec<PlanStep>) {
    let keys = changed_keys!(Pool, before, after, {
        scheduler => "scheduler",
        hash_key => "hash-key",
        hash_balance_factor => "hash-balance-factor",
        hash_modulo => "hash-table",
        persistence => "persistence",
        moves_drained => "persistence drained",
        timeouts => "timeouts",
        health_check => "health-check",
        slow_start => "slow-start",
        retries => "retries",
        retry_pause => "retry-pause",
        abort_on_close => "abort-on-close",
        compression => "compression",
        quorum => "quorum",
        one_backup => "backups",
        retry_on => "retry-on",
        full_connections => "full-connections",
        max_queue => "max-queue",
        send_proxy => "send-proxy",
        proxy_values => "send-proxy-values",
        source => "source",
        source_interface => "source-interface",
        cut_when_down => "on-marked-down",
        cut_backups => "on-marked-up",
        cut_when_removed => "on-removal",
        tcp_keep_alive => "server-tcp-keep-alive",
        tcp_user_timeout => "server-tcp-user-timeout",
        outlier => "outlier",
        own_connections => "connection-reuse",
        server_h2 => "server-http",
        server_tls => "server-tls",
        discover => "discover",
        same_address => "same-address",
    } elsewhere { name real_servers });
    let value = |key: &str, pool: &Pool| match key {
        "scheduler" => Some(pool.scheduler.as_str().to_owned()),
        "hash-balance-factor" => Some(pool.hash_balance_factor.to_string()),
        "slow-start" => Some(format!("{:?}", pool.slow_start)),
        "retries" => Some(pool.retries.to_string()),
        "retry-on" => Some(pool.retry_on.to_string()),
        "full-connections" => Some(pool.full_connections.to_string()),
        "max-queue" => Some(pool.max_queue.to_string()),
        _ => None,
    };
    for key in keys {
        let impact = if ["health-check", "same-address"].contains(&key) {
            Impact::None
        } else {
            Impact::NewConnections
        };
        let detail = described(key, value(key, before), value(key, after));
        steps.push(step("change", format!("pool {}", before.name), detail, impact));
    }
    let servers = compare(before.real_servers.iter(), after.real_servers.iter(), |s| s.name.clone());
    for change in servers {
        match change {
            Change::Added(s) => steps.push(step(
                "add",
                format!("real server {}/{}", after.name, s.name),
                format!("{} weight {}", s.place(), s.weight.get()),
                Impact::None,
            )),
            Change::Removed(s) => steps.push(step(
                "remove",
                format!("real server {}/{}", after.name, s.name),
                s.place(),
                Impact::Drains,
            )),
            Change::Both(old, new) if old != new => {
                let parts = server_changes((before, old), (after, new));
                let subject = format!("real server {}/{}", after.name, new.name);
                steps.push(step("change", subject, parts.join(", "), Impact::NewConnections));
            }
            Change::Both(..) => {}
        }
    }
}

fn server_changes((before, old): (&Pool, &RealServer), (after, new): (&Pool, &RealServer)) -> Vec<String> {
    let keys = changed_keys!(RealServer, old, new, {
        address => "address",
        weight => "weight",
        max_connections => "max-connections",
        min_connections => "min-connections",
        backup => "backup",
        keeps_clients => "keeps-clients",
        non_stick => "non-stick",
        admin_state => "admin-state",
        cookie => "cookie",
        check => "check",
        health_check => "health-check",
        source => "source",
        host => "resolve",
        speaks => "server-tls",
        h2 => "server-http",
        send_proxy => "send-proxy",
    } elsewhere { name found_in });
    let keys = with_place(keys, old, new);
    let value = |key: &str, server: &RealServer| match key {
        "address" => Some(server.place()),
        "weight" => Some(server.weight.get().to_string()),
        "max-connections" => Some(server.max_connections.to_string()),
        "min-connections" => Some(server.min_connections.to_string()),
        "backup" => Some(server.backup.to_string()),
        "keeps-clients" => Some(server.keeps_clients.to_string()),
        "non-stick" => Some(server.non_stick.to_string()),
        "admin-state" => Some(server.admin_state.as_str().to_owned()),
        "cookie" => Some(server.cookie().to_owned()),
        "check" => Some(server.check.to_string()),
        _ => None,
    };
    let mut parts = Vec::new();
    for key in keys {
        match key {
            "health-check" => parts.extend(check_changes(before.check_of(old), after.check_of(new))),
            _ => parts.push(described(key, value(key, old), value(key, new))),
        }
    }
    parts
}

/// The name that a server is written by is part of its address.
fn with_place(mut keys: Vec<&'static str>, old: &RealServer, new: &RealServer) -> Vec<&'static str> {
    let rules = |s: &RealServer| s.host.as_ref().map(|h| (h.prefer_ipv6, h.init.clone()));
    if rules(old) == rules(new) || old.host.is_none() || new.host.is_none() {
        keys.retain(|k| {
            *k != "resolve" || (old.host.is_some() && new.host.is_some() && rules(old) != rules(new))
        });
    }
    if old.place() != new.place() && !keys.contains(&"address") {
        keys.insert(0, "address");
    }
    keys
}

/// What becomes of the health check of one server that has something of its own there.
fn check_changes(old: &HealthCheck, new: &HealthCheck) -> Vec<String> {
    let keys = changed_keys!(HealthCheck, old, new, {
        probe => "type",
        port => "port",
        address => "address",
        interval => "interval",
        fast_interval => "fast-interval",
        down_interval => "down-interval",
        timeout => "timeout",
        rise => "rise",
        fall => "fall",
        tls => "tls",
        plain => "tls",
        send_proxy => "send-proxy",
        through_vip => "through-vip",
        agent => "agent",
        fill_in => "fill-in",
    } elsewhere { mark });
    let word = |value: Option<String>| value.unwrap_or_else(|| "its own".into());
    let time = evenkeel_model::format_duration;
    let value = |key: &str, check: &HealthCheck| match key {
        "port" => Some(word(check.port.map(|p| p.to_string()))),
        "address" => Some(word(check.address.map(|a| a.to_string()))),
        "interval" => Some(time(check.interval)),
        "fast-interval" => Some(time(check.fast_interval)),
        "down-interval" => Some(word(check.down_interval.map(time))),
        "timeout" => Some(time(check.timeout)),
        "rise" => Some(check.rise.to_string()),
        "fall" => Some(check.fall.to_string()),
        "send-proxy" => Some(match check.send_proxy {
            None => "false".into(),
            Some(ProxyVersion::V1) => "v1".into(),
            Some(ProxyVersion::V2) => "v2".into(),
        }),
        _ => None,
    };
    let part = |key: &str| described(key, value(key, old), value(key, new));
    let parts = keys.into_iter().map(|key| format!("health-check {}", part(key)));
    parts.collect()
}

fn service_steps(before: &VirtualService, after: &VirtualService, steps: &mut Vec<PlanStep>) {
    let subject = || format!("virtual service {}", after.name);
    for vip in before.vips.iter().filter(|v| !after.vips.contains(v)) {
        steps.push(step("remove", subject(), format!("VIP {vip}"), Impact::Drains));
    }
    for vip in after.vips.iter().filter(|v| !before.vips.contains(v)) {
        steps.push(step("add", subject(), format!("VIP {vip}"), Impact::None));
    }
    let mut keys = changed_keys!(VirtualService, before, after, {
        mode => "mode",
        pool => "pool",
        forwarded => "forwarded",
        fallback => "fallback",
        timeouts => "timeouts",
        max_connections => "max-connections",
        routes => "routes",
        answer_routes => "answer-routes",
        proxy_protocol_from => "proxy-protocol-from",
        client_address => "client-address",
        max_body => "max-body",
        head_size => "head-size",
        normalize => "normalize",
        unclear_paths => "unclear-paths",
        wide_requests => "request-heads",
        loose_requests => "request-heads",
        tcp_keep_alive => "tcp-keep-alive",
        tcp_user_timeout => "tcp-user-timeout",
        tcp_mss => "tcp-mss",
        request_trailers => "request-trailers",
        close_after_answer => "close-after-answer",
        hides_certificate_fields => "X-Client-Cert fields of clients are removed",
        wait_for_body => "wait-for-body",
        compression => "compression",
        error_pages => "error-pages",
        error_answers => "error-answers",
        log_format => "log-format",
        log => "log",
        log_lines => "log-lines",
        layer4 => "layer 4",
    } elsewhere { name vips tls });
    let (client_auth, other_tls) = client_auth::client_auth_step(before, after);
    if other_tls {
        keys.push("tls");
    }
    steps.extend(client_auth);
    let value = |key: &str, service: &VirtualService| match key {
        "mode" => Some(service.mode.as_str().to_owned()),
        "pool" => Some(service.pool.to_string()),
        "max-connections" => Some(service.max_connections.to_string()),
        _ => None,
    };
    let part = |key| described(key, value(key, before), value(key, after));
    if !keys.is_empty() {
        let detail = keys.into_iter().map(part).collect::<Vec<_>>().join(", ");
        steps.push(step("change", subject(), detail, Impact::NewConnections));
    }
}
