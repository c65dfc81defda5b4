//! Prometheus text exposition (version 0.0.4). What only the daemon's loop may look at is noted there
//! in one pass ([`Sample::of`]); counters of all event loops are added up, and the text is built, by
//! whoever asked.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use evenkeel_l4::Counts;
use evenkeel_l7::counters::{Counter, LATENCY_BOUNDS_MS, Latency, ServerCounters, ServiceCounters};
use evenkeel_l7::{EngineConfig, PoolSpec, ServerSpec, ServiceSpec};

use super::control::Control;

/// One metric of every service or server.
type Read<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

const SERVICE: &[Read<ServiceCounters>] = &[
    ("evenkeel_service_connections_total", "counter", "Client connections accepted.", |c| {
        c.connections.get()
    }),
    ("evenkeel_service_current_connections", "gauge", "Client connections now.", |c| {
        c.current_connections.get()
    }),
    ("evenkeel_service_requests_total", "counter", "HTTP requests answered.", |c| c.requests.get()),
    (
        "evenkeel_service_bad_requests_total",
        "counter",
        "Requests refused for their syntax or framing.",
        |c| c.bad_requests.get(),
    ),
    ("evenkeel_service_received_bytes_total", "counter", "Bytes from clients.", |c| c.bytes_in.get()),
    ("evenkeel_service_sent_bytes_total", "counter", "Bytes to clients.", |c| c.bytes_out.get()),
    (
        "evenkeel_service_no_server_total",
        "counter",
        "Requests or connections for which no real server was left.",
        |c| c.no_server.get(),
    ),
    ("evenkeel_service_queue_timeouts_total", "counter", "Clients that waited in the queue in vain.", |c| {
        c.queue_timeouts.get()
    }),
    ("evenkeel_service_refused_total", "counter", "Requests or connections that routes refused.", |c| {
        c.refused.get()
    }),
    (
        "evenkeel_service_tls_handshakes_total",
        "counter",
        "TLS handshakes with clients that were finished.",
        |c| c.tls_handshakes.get(),
    ),
    (
        "evenkeel_service_tls_resumed_total",
        "counter",
        "Finished TLS handshakes that resumed a session.",
        |c| c.tls_resumed.get(),
    ),
    ("evenkeel_service_tls_failures_total", "counter", "TLS handshakes with clients that failed.", |c| {
        c.tls_failures.get()
    }),
    (
        "evenkeel_service_client_aborts_total",
        "counter",
        "Clients that went away before their answer was complete.",
        |c| c.client_aborts.get(),
    ),
    (
        "evenkeel_service_retries_total",
        "counter",
        "Further attempts after failed connections to real servers.",
        |c| c.retries.get(),
    ),
];

const SERVER: &[Read<ServerCounters>] = &[
    (
        "evenkeel_server_current_connections",
        "gauge",
        "Requests (http) or connections (tcp) with the real server now.",
        |c| c.current.get(),
    ),
    (
        "evenkeel_server_connections_total",
        "counter",
        "Requests (http) or connections (tcp) sent to the real server.",
        |c| c.total.get(),
    ),
    (
        "evenkeel_server_opened_connections_total",
        "counter",
        "TCP connections opened to the real server.",
        |c| c.connects.get(),
    ),
    (
        "evenkeel_server_reused_connections_total",
        "counter",
        "Requests over a connection opened before.",
        |c| c.reuses.get(),
    ),
    ("evenkeel_server_connect_errors_total", "counter", "Connections that could not be opened.", |c| {
        c.connect_errors.get()
    }),
    (
        "evenkeel_server_response_errors_total",
        "counter",
        "Answers that were missing, late, malformed or cut.",
        |c| c.response_errors.get(),
    ),
    ("evenkeel_server_received_bytes_total", "counter", "Bytes from clients for the real server.", |c| {
        c.bytes_in.get()
    }),
    ("evenkeel_server_sent_bytes_total", "counter", "Bytes of the real server's answers.", |c| {
        c.bytes_out.get()
    }),
];

fn pair(out: &mut String, control: &Control) {
    let active = u64::from(control.role() == "active");
    single(
        out,
        "evenkeel_node_active",
        "gauge",
        "1 while this node has the VIPs; a node alone always has.",
        active,
    );
    let Some(pair) = control.pair() else { return };
    let view = pair.shared().view();
    let heard = u64::from(view.peer_alive);
    single(out, "evenkeel_pair_peer_heard", "gauge", "1 while the other node is heard by some path.", heard);
    let split = u64::from(view.split_brain);
    single(out, "evenkeel_pair_split_brain", "gauge", "1 while both nodes are active.", split);
    let trouble = u64::from(view.trouble);
    single(
        out,
        "evenkeel_pair_trouble",
        "gauge",
        "What makes this node less fit to be active, weighed.",
        trouble,
    );
    let name = "evenkeel_pair_refused_total";
    head(out, name, "counter", "Messages of the pair's paths that changed nothing.");
    for (reason, count) in view.refused {
        let _ = writeln!(out, "{name}{{reason=\"{reason}\"}} {count}");
    }
    let Some(link) = control.link_status() else { return };
    let up = u64::from(link.connected);
    single(out, "evenkeel_pair_link_up", "gauge", "1 while the link to the other node is up.", up);
    single(
        out,
        "evenkeel_pair_link_waiting",
        "gauge",
        "Messages that the other node has not taken yet.",
        link.waiting,
    );
}

fn administration(out: &mut String, control: &Control) {
    let (sent, failed) = control.happenings.counts();
    let name = "evenkeel_alerts_total";
    head(out, name, "counter", "Messages of alerts that were sent, or given up.");
    let _ = writeln!(out, "{name}{{result=\"sent\"}} {sent}\n{name}{{result=\"failed\"}} {failed}");
    let failures = control.administration().map_or(0, |a| a.app().accounts.failures());
    single(
        out,
        "evenkeel_login_failures_total",
        "counter",
        "Attempts to log in that failed, by name and by address.",
        failures,
    );
    head(out, "evenkeel_certificate_not_after_seconds", "gauge", "When a certificate ends, since 1970.");
    for one in control.certificates().into_iter().filter(|c| c.trouble.is_none()) {
        let file = one.file.replace('\\', "\\\\").replace('"', "\\\"");
        let seconds = one.not_after_ms / 1000;
        let _ = writeln!(out, "evenkeel_certificate_not_after_seconds{{file=\"{file}\"}} {seconds}");
    }
}

/// What the metrics are made of, free of the daemon's loop.
pub struct Sample {
    /// Lines of the node itself: those that come first, and those that come last.
    first: String,
    last: String,
    config: Arc<EngineConfig>,
    flows: Flows,
    /// Whether a server is up, and its weight, in the order of pools and servers.
    states: Vec<(bool, u16)>,
}

impl Sample {
    /// In the daemon's loop: one look at each server, no text about services.
    pub fn of(control: &Control) -> Sample {
        let config = control.engine().config().clone();
        let state = |server: &ServerSpec| match control.engine().state(server.id) {
            Some(state) => (state.up, state.weight),
            None => (true, 0),
        };
        let states = servers(&config).map(|(_, server)| state(server)).collect();
        let (mut first, mut last) = (String::new(), String::new());
        node(&mut first, control);
        layer4(&mut last, control);
        pair(&mut last, control);
        administration(&mut last, control);
        Sample { first, last, flows: Flows::now(control), config, states }
    }

    /// Anywhere: may take its time.
    pub fn render(&self) -> String {
        let mut out = self.first.clone();
        let services = &self.config.services;
        for (name, kind, help, read) in SERVICE {
            head(&mut out, name, kind, help);
            for (spec, counts) in services.iter().zip(&self.flows.services) {
                let value = spec.counters.sum(read) + of_flows(counts, name);
                let _ = writeln!(out, "{name}{{service=\"{}\"}} {value}", spec.service.name);
            }
        }
        responses(&mut out, services);
        latency(&mut out, services);
        latency_of_servers(&mut out, &self.config);
        head(&mut out, "evenkeel_pool_queued", "gauge", "Clients waiting for a place on a real server.");
        for pool in &self.config.pools {
            let queued = pool.waiting.load(Relaxed);
            let _ = writeln!(out, "evenkeel_pool_queued{{pool=\"{}\"}} {queued}", pool.pool.name);
        }
        for (name, kind, help, read) in SERVER {
            head(&mut out, name, kind, help);
            for (pool, server) in servers(&self.config) {
                let counts = self.flows.servers.get(&server.id).copied().unwrap_or_default();
                let value = server.counters.sum(read) + of_flows(&counts, name);
                let (pool, name_of) = (&pool.pool.name, &server.server.name);
                let _ = writeln!(out, "{name}{{pool=\"{pool}\",server=\"{name_of}\"}} {value}");
            }
        }
        self.states(&mut out);
        out.push_str(&self.last);
        out
    }

    fn states(&self, out: &mut String) {
        let mut each = |name: &str, help: &str, read: fn(&(bool, u16)) -> u16| {
            head(out, name, "gauge", help);
            for ((pool, server), state) in servers(&self.config).zip(&self.states) {
                let (pool, server, value) = (&pool.pool.name, &server.server.name, read(state));
                let _ = writeln!(out, "{name}{{pool=\"{pool}\",server=\"{server}\"}} {value}");
            }
        };
        each("evenkeel_server_up", "1 when the real server's health is good.", |s| u16::from(s.0));
        each("evenkeel_server_weight", "The real server's weight now.", |s| s.1);
    }
}

fn node(out: &mut String, control: &Control) {
    let engine = control.engine();
    let revision = control.revision();
    single(
        out,
        "evenkeel_configuration_revision",
        "gauge",
        "Revision of the running configuration.",
        revision,
    );
    let uptime = control.uptime().as_secs();
    single(out, "evenkeel_uptime_seconds", "gauge", "Seconds since the program started.", uptime);
    single(
        out,
        "evenkeel_current_connections",
        "gauge",
        "Client connections of all services.",
        engine.connection_count(),
    );
    single(
        out,
        "evenkeel_log_dropped_total",
        "counter",
        "Batches of access log lines that could not be written in time.",
        engine.log().dropped(),
    );
}

/// What the packet path counts, under the names that proxied connections have.
fn of_flows(counts: &Counts, name: &str) -> u64 {
    match name.split_once('_').map_or("", |n| n.1) {
        "service_connections_total" | "server_connections_total" => counts.flows,
        "service_current_connections" | "server_current_connections" => u64::from(counts.active),
        "service_received_bytes_total" | "server_sent_bytes_total" => counts.bytes_in,
        "service_sent_bytes_total" | "server_received_bytes_total" => counts.bytes_out,
        _ => 0,
    }
}

/// What the packet path counts, of all services and servers, each looked up once.
#[derive(Default)]
struct Flows {
    /// In the order of the services.
    services: Vec<Counts>,
    /// By the number of the server.
    servers: HashMap<u32, Counts>,
}

impl Flows {
    /// `count` gives the counts of a service's server; without one, of those that it had.
    fn of(
        services: &[Arc<ServiceSpec>],
        pools: &[Arc<PoolSpec>],
        mut count: impl FnMut(&str, Option<&ServerSpec>) -> Counts,
    ) -> Flows {
        let pools: HashMap<u32, &Arc<PoolSpec>> = pools.iter().map(|p| (p.id, p)).collect();
        let mut flows = Flows::default();
        for spec in services {
            let mut all = Counts::default();
            let pool = pools.get(&spec.pool_id).filter(|_| spec.service.mode.is_layer4());
            for server in pool.iter().flat_map(|p| &p.servers) {
                let counts = count(spec.service.name.as_str(), Some(server));
                all += counts;
                *flows.servers.entry(server.id).or_default() += counts;
            }
            if pool.is_some() {
                all += count(spec.service.name.as_str(), None);
            }
            flows.services.push(all);
        }
        flows
    }

    fn now(control: &Control) -> Flows {
        let config = control.engine().config();
        let plane = control.layer4().plane();
        Flows::of(&config.services, &config.pools, |service, server| {
            let Some(plane) = plane else { return Counts::default() };
            match server {
                Some(spec) => plane.counts(service, spec.server.name.as_str(), spec.server.address),
                None => plane.counts_of_left(service),
            }
        })
    }
}

pub fn flows_of_server(control: &Control, pool: &PoolSpec, server: &ServerSpec) -> Counts {
    let Some(plane) = control.layer4().plane() else { return Counts::default() };
    let services = control.services().iter().filter(|s| s.pool_id == pool.id);
    let name = server.server.name.as_str();
    services.map(|s| plane.counts(s.service.name.as_str(), name, server.server.address)).sum()
}

fn layer4(out: &mut String, control: &Control) {
    let Some(plane) = control.layer4().plane() else { return };
    let (flows, capacity) = plane.flow_count();
    single(out, "evenkeel_layer4_flows", "gauge", "Entries of layer 4's connection table.", flows);
    single(out, "evenkeel_layer4_flow_capacity", "gauge", "Room in layer 4's connection table.", capacity);
    let name = "evenkeel_layer4_packets_total";
    head(out, name, "counter", "What became of packets of layer 4, where it was not plain forwarding.");
    for (reason, count) in plane.reasons() {
        let _ = writeln!(out, "{name}{{reason=\"{reason}\"}} {count}");
    }
}

fn responses(out: &mut String, services: &[Arc<ServiceSpec>]) {
    let name = "evenkeel_service_responses_total";
    head(out, name, "counter", "Answers by class of status.");
    for spec in services {
        for class in 1..=5 {
            let value = spec.counters.sum(|c| c.responses[class].get());
            let _ = writeln!(out, "{name}{{service=\"{}\",code=\"{class}xx\"}} {value}", spec.service.name);
        }
    }
}

fn latency(out: &mut String, services: &[Arc<ServiceSpec>]) {
    let name = "evenkeel_service_response_seconds";
    head(out, name, "histogram", "From a request's first byte to its answer's last.");
    for spec in services {
        let of = |read: &dyn Fn(&Latency) -> u64| spec.counters.sum(|c| read(&c.latency));
        histogram(out, name, &format!("service=\"{}\"", spec.service.name), of);
    }
}

/// The same by real server, of those that have answered.
fn latency_of_servers(out: &mut String, config: &EngineConfig) {
    let name = "evenkeel_server_response_seconds";
    head(out, name, "histogram", "From a request's first byte to its answer's last, by real server.");
    for (pool, spec) in servers(config) {
        let of = |read: &dyn Fn(&Latency) -> u64| spec.counters.sum(|c| read(&c.latency));
        if of(&|l| l.buckets.iter().map(Counter::get).sum()) > 0 {
            let labels = format!("pool=\"{}\",server=\"{}\"", pool.pool.name, spec.server.name);
            histogram(out, name, &labels, of);
        }
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, of: impl Fn(&dyn Fn(&Latency) -> u64) -> u64) {
    let mut below = 0;
    for (bucket, bound) in LATENCY_BOUNDS_MS.iter().enumerate() {
        below += of(&|l| l.buckets[bucket].get());
        let bound = *bound as f64 / 1000.0;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
    }
    below += of(&|l| l.buckets[LATENCY_BOUNDS_MS.len()].get());
    let sum = of(&|l| l.sum_ms.get()) as f64 / 1000.0;
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {below}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}");
    let _ = writeln!(out, "{name}_count{{{labels}}} {below}");
}

/// Every real server with its pool.
fn servers(config: &EngineConfig) -> impl Iterator<Item = (&PoolSpec, &ServerSpec)> {
    config.pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (&**pool, &**server)))
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    head(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_looked_up_once_whatever_the_number_of_services() {
        const SERVICES: usize = 2_000;
        const SERVERS: usize = 5;
        let mut text = String::new();
        for n in 0..SERVICES {
            let _ = write!(
                text,
                "[[virtual-service]]\nname = \"s{n}\"\nvip = [\"10.1.{}.{}:80\"]\nmode = \"nat\"\n",
                n / 250,
                n % 250 + 1
            );
            for server in 1..=SERVERS {
                let _ = write!(
                    text,
                    "[[virtual-service.real-server]]\nname = \"r{server}\"\naddress = \"10.2.{}.{server}:80\"\n",
                    n % 250
                );
            }
        }
        let snapshot = evenkeel_config::read(&text).unwrap();
        let options = evenkeel_l7::EngineOptions { workers: 1, buffer_memory: 1 << 20 };
        let (notices, _inbox) = std::sync::mpsc::channel();
        let mut engine = evenkeel_l7::Engine::start(&options, &notices).unwrap();
        let prepared = engine.prepare(&snapshot, |_| false).unwrap();
        let config = prepared.config();
        let mut asked = 0;
        let flows = Flows::of(&config.services, &config.pools, |_, server| {
            asked += 1;
            Counts { flows: u64::from(server.is_some()), ..Counts::default() }
        });
        // And once a service for the servers that it had.
        assert_eq!(asked, SERVICES * (SERVERS + 1));
        assert_eq!(flows.services.len(), SERVICES);
        assert!(flows.services.iter().all(|c| c.flows == SERVERS as u64));
        assert_eq!(flows.servers.len(), SERVICES * SERVERS);
        assert!(flows.servers.values().all(|c| c.flows == 1));
        // The text needs nothing of the daemon's loop, and tells each server once a metric.
        let states = vec![(true, 3); SERVICES * SERVERS];
        let (first, last) = (String::new(), "evenkeel_node_active 1\n".to_owned());
        let admin = evenkeel_model::AdminState::Online;
        engine.replace(prepared, |_, _| evenkeel_l7::ServerState {
            up: true,
            up_since_ms: Some(0),
            admin,
            weight: 3,
            max_connections: None,
        });
        let sample = Sample { first, last, config: engine.config().clone(), flows, states };
        let text = std::thread::spawn(move || sample.render()).join().unwrap();
        let lines = |start: &str| text.lines().filter(|l| l.starts_with(start)).count();
        assert_eq!(lines("evenkeel_server_up{"), SERVICES * SERVERS);
        assert_eq!(lines("evenkeel_service_connections_total{"), SERVICES);
        assert!(text.contains("evenkeel_server_weight{pool=\"s7\",server=\"r2\"} 3\n"));
        assert!(text.contains("evenkeel_service_connections_total{service=\"s7\"} 5\n"));
        assert!(text.ends_with("evenkeel_node_active 1\n"));
    }
}
