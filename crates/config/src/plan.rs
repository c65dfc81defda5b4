//! The printed steps from one snapshot to the next, and what each does to connections.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use evenkeel_model::{AdminSettings, HealthCheck, Name, Pool, Snapshot, VirtualService};

/// Steps in the order they are carried out. Two equal snapshots have an empty plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
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
}

impl Impact {
    pub fn as_str(self) -> &'static str {
        match self {
            Impact::None => "no connection notices",
            Impact::NewConnections => "new connections follow the new rule, established ones finish",
            Impact::Drains => "established connections finish, no new ones",
            Impact::Restart => "takes effect at the next start",
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
    let service_name = |s: &VirtualService| s.name.clone();
    let pool_name = |p: &Pool| p.name.clone();
    for change in compare(old.pools.iter().map(|p| &**p), new.pools.iter().map(|p| &**p), pool_name) {
        match change {
            Change::Added(pool) => steps.push(step(
                "add",
                format!("pool {}", pool.name),
                format!("{} real servers, {}", pool.real_servers.len(), pool.scheduler.as_str()),
                Impact::None,
            )),
            Change::Removed(pool) => {
                steps.push(step("remove", format!("pool {}", pool.name), String::new(), Impact::Drains))
            }
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
            Change::Both(before, after) => service_steps(before, after, &mut steps),
        }
    }
    Plan { steps }
}

fn step(action: &'static str, subject: String, detail: String, impact: Impact) -> Step {
    Step { action, subject, detail, impact }
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

fn globals(old: &Snapshot, new: &Snapshot, steps: &mut Vec<Step>) {
    let mut changed = |what: &str, differs: bool, impact| {
        if differs {
            steps.push(step("change", what.to_owned(), String::new(), impact));
        }
    };
    changed("[admin] socket", old.admin.socket != new.admin.socket, Impact::Restart);
    let rest = |s: &Snapshot| AdminSettings { socket: PathBuf::new(), ..s.admin.clone() };
    changed("[admin]", rest(old) != rest(new), Impact::None);
    changed("[alerts]", old.alerts != new.alerts, Impact::None);
    changed("[graphs]", old.graphs_size != new.graphs_size, Impact::None);
    changed("[state]", old.state_directory != new.state_directory, Impact::Restart);
    changed("[log]", old.log != new.log, Impact::None);
    changed(
        "[limits] workers, buffer-memory",
        (old.limits.workers, old.limits.buffer_memory) != (new.limits.workers, new.limits.buffer_memory),
        Impact::Restart,
    );
    changed("[pair]", old.pair != new.pair, Impact::None);
    changed("[[table]]", old.tables != new.tables, Impact::None);
    changed(
        "[limits] max-connections",
        old.limits.max_connections != new.limits.max_connections,
        Impact::None,
    );
}

fn pool_steps(before: &Pool, after: &Pool, steps: &mut Vec<Step>) {
    let mut fields: BTreeMap<&str, (String, String)> = BTreeMap::new();
    let mut field = |name, old: String, new: String| {
        if old != new {
            fields.insert(name, (old, new));
        }
    };
    field("scheduler", before.scheduler.as_str().into(), after.scheduler.as_str().into());
    field("hash-key", before.hash_key.clone(), after.hash_key.clone());
    field(
        "hash-balance-factor",
        before.hash_balance_factor.to_string(),
        after.hash_balance_factor.to_string(),
    );
    field("persistence", format!("{:?}", before.persistence), format!("{:?}", after.persistence));
    let drained = |pool: &Pool| if pool.moves_drained { "move" } else { "stay" }.to_owned();
    field("persistence drained", drained(before), drained(after));
    field("health-check", format!("{:?}", before.health_check), format!("{:?}", after.health_check));
    field("slow-start", format!("{:?}", before.slow_start), format!("{:?}", after.slow_start));
    field("server-tls", format!("{:?}", before.server_tls), format!("{:?}", after.server_tls));
    field("send-proxy", format!("{:?}", before.send_proxy), format!("{:?}", after.send_proxy));
    field("source", format!("{:?}", before.source), format!("{:?}", after.source));
    field(
        "source-interface",
        format!("{:?}", before.source_interface),
        format!("{:?}", after.source_interface),
    );
    field("on-marked-down", format!("{:?}", before.cut_when_down), format!("{:?}", after.cut_when_down));
    field(
        "server-tcp-keep-alive",
        format!("{:?}", before.tcp_keep_alive),
        format!("{:?}", after.tcp_keep_alive),
    );
    field("outlier", format!("{:?}", before.outlier), format!("{:?}", after.outlier));
    field("server-http", format!("{:?}", before.server_h2), format!("{:?}", after.server_h2));
    field("connection-reuse", before.own_connections.to_string(), after.own_connections.to_string());
    field("retries", before.retries.to_string(), after.retries.to_string());
    field("retry-on", before.retry_on.to_string(), after.retry_on.to_string());
    field("max-queue", before.max_queue.to_string(), after.max_queue.to_string());
    for (name, (old, new)) in fields {
        let detail = match name {
            "scheduler" | "hash-balance-factor" | "retries" | "retry-on" | "max-queue" | "slow-start" => {
                format!("{name} {old} becomes {new}")
            }
            _ => format!("{name} changes"),
        };
        let impact = if name == "health-check" { Impact::None } else { Impact::NewConnections };
        steps.push(step("change", format!("pool {}", before.name), detail, impact));
    }
    let servers = compare(before.real_servers.iter(), after.real_servers.iter(), |s| s.name.clone());
    for change in servers {
        match change {
            Change::Added(s) => steps.push(step(
                "add",
                format!("real server {}/{}", after.name, s.name),
                format!("{} weight {}", s.address, s.weight.get()),
                Impact::None,
            )),
            Change::Removed(s) => steps.push(step(
                "remove",
                format!("real server {}/{}", after.name, s.name),
                s.address.to_string(),
                Impact::Drains,
            )),
            Change::Both(old, new) if old != new => {
                let mut parts = Vec::new();
                if old.address != new.address {
                    parts.push(format!("address {} becomes {}", old.address, new.address));
                }
                if old.weight != new.weight {
                    parts.push(format!("weight {} becomes {}", old.weight.get(), new.weight.get()));
                }
                if old.max_connections != new.max_connections {
                    parts.push(format!(
                        "max-connections {} becomes {}",
                        old.max_connections, new.max_connections
                    ));
                }
                if old.cookie != new.cookie {
                    parts.push(format!("cookie {} becomes {}", old.cookie(), new.cookie()));
                }
                if old.source != new.source {
                    parts.push("source changes".into());
                }
                if old.check != new.check {
                    parts.push(format!("check {} becomes {}", old.check, new.check));
                }
                if old.health_check != new.health_check {
                    parts.extend(check_changes(before.check_of(old), after.check_of(new)));
                }
                if old.backup != new.backup {
                    parts.push(format!("backup {} becomes {}", old.backup, new.backup));
                }
                if old.non_stick != new.non_stick {
                    parts.push(format!("non-stick {} becomes {}", old.non_stick, new.non_stick));
                }
                if old.admin_state != new.admin_state {
                    parts.push(format!(
                        "admin-state {} becomes {}",
                        old.admin_state.as_str(),
                        new.admin_state.as_str()
                    ));
                }
                let subject = format!("real server {}/{}", after.name, new.name);
                steps.push(step("change", subject, parts.join(", "), Impact::NewConnections));
            }
            Change::Both(..) => {}
        }
    }
}

/// What becomes of the health check of one server that has something of its own there.
fn check_changes(old: &HealthCheck, new: &HealthCheck) -> Vec<String> {
    let word = |value: Option<String>| value.unwrap_or_else(|| "its own".into());
    let time = evenkeel_model::format_duration;
    let mut parts = Vec::new();
    let mut part = |key: &str, old: String, new: String| {
        if old != new {
            parts.push(format!("health-check {key} {old} becomes {new}"));
        }
    };
    part("port", word(old.port.map(|p| p.to_string())), word(new.port.map(|p| p.to_string())));
    part("address", word(old.address.map(|a| a.to_string())), word(new.address.map(|a| a.to_string())));
    part("interval", time(old.interval), time(new.interval));
    part("fast-interval", time(old.fast_interval), time(new.fast_interval));
    part("timeout", time(old.timeout), time(new.timeout));
    part("rise", old.rise.to_string(), new.rise.to_string());
    part("fall", old.fall.to_string(), new.fall.to_string());
    part("send-proxy", old.send_proxy.to_string(), new.send_proxy.to_string());
    if old.tls != new.tls {
        parts.push("health-check tls changes".into());
    }
    parts
}

fn service_steps(before: &VirtualService, after: &VirtualService, steps: &mut Vec<Step>) {
    let subject = || format!("virtual service {}", after.name);
    for vip in before.vips.iter().filter(|v| !after.vips.contains(v)) {
        steps.push(step("remove", subject(), format!("VIP {vip}"), Impact::Drains));
    }
    for vip in after.vips.iter().filter(|v| !before.vips.contains(v)) {
        steps.push(step("add", subject(), format!("VIP {vip}"), Impact::None));
    }
    let mut parts = Vec::new();
    if before.mode != after.mode {
        parts.push(format!("mode {} becomes {}", before.mode.as_str(), after.mode.as_str()));
    }
    if before.pool != after.pool {
        parts.push(format!("pool {} becomes {}", before.pool, after.pool));
    }
    let same = [
        ("forwarded", before.forwarded == after.forwarded),
        ("routes", before.routes == after.routes),
        ("answer-routes", before.answer_routes == after.answer_routes),
        ("proxy-protocol-from", before.proxy_protocol_from == after.proxy_protocol_from),
        ("max-body", before.max_body == after.max_body),
        ("normalize", before.normalize == after.normalize),
        ("unclear-paths", before.unclear_paths == after.unclear_paths),
        ("tcp-keep-alive", before.tcp_keep_alive == after.tcp_keep_alive),
        ("request-trailers", before.request_trailers == after.request_trailers),
        ("error-pages", before.error_pages == after.error_pages),
        ("tls", before.tls == after.tls),
        ("fallback", before.fallback == after.fallback),
        ("timeouts", before.timeouts == after.timeouts),
        ("max-connections", before.max_connections == after.max_connections),
    ];
    parts.extend(same.iter().filter(|(_, same)| !same).map(|(name, _)| format!("{name} changes")));
    if !parts.is_empty() {
        steps.push(step("change", subject(), parts.join(", "), Impact::NewConnections));
    }
}
