//! What runs, in the shapes of the API.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_api as api;
use evenkeel_balance::{Activity, Counter, Key, Table};
use evenkeel_l4::{FlowInfo, FlowReader, Plane};
use evenkeel_l7::{ConnectionInfo, PoolSpec, ServerSpec, ServiceSpec};
use evenkeel_model::{AdminState, Origin, Persistence};

use super::control::{Control, monotonic_ms};
use super::handover;

impl Control {
    pub fn connections(&self, filter: api::ConnectionFilter) -> Listing {
        Listing {
            parts: self.engine().connections(),
            workers: self.engine().workers(),
            flows: self.layer4().plane().and_then(|p| p.flow_reader().ok()),
            filter,
        }
    }

    /// Ends the connections of a client, a server or a service, or a single one.
    pub fn close_connections(&self, which: api::Closing) -> Result<Ending, Refused> {
        let refuse = |kind, why: &str| Err(Refused::new(kind, why.to_owned()));
        let is_layer4 = match (&which.service, &which.server, which.client) {
            (_, _, None) if which.client_port.is_some() => {
                return refuse(FailureKind::Invalid, "say of which client the port is");
            }
            (None, None, None) => {
                let why = "say whose connections: of a service, a real server or a client";
                return refuse(FailureKind::Invalid, why);
            }
            (None, Some(_), _) => {
                return refuse(FailureKind::Invalid, "say of which service the real server is");
            }
            (None, None, Some(_)) => None,
            (Some(service), server, _) => Some(self.layer_of(service, server.as_deref())?),
        };
        let plane = self.layer4().plane().filter(|_| is_layer4 != Some(false));
        if plane.is_some() && !self.is_active_node() {
            let why =
                "this node is passive: connections of layer 4 are those of the active node; close them there";
            return refuse(FailureKind::Failed, why);
        }
        let failed = |e: evenkeel_l4::LoadError| Refused::new(FailureKind::Failed, e.to_string());
        let flows = plane.map(Plane::flow_reader).transpose().map_err(failed)?;
        tracing::info!(?which, "connections are closed");
        let sessions = (is_layer4 != Some(true)).then(|| {
            let which = evenkeel_l7::Closing {
                service: which.service.clone(),
                server: which.server.clone(),
                client: which.client,
                client_port: which.client_port,
            };
            (self.engine().close(which), self.engine().workers())
        });
        Ok(Ending { sessions, flows, which, passive: !self.is_active_node() })
    }

    /// Whether a service is of layer 4; refused where there is none, or no such server of it.
    fn layer_of(&self, service: &str, server: Option<&str>) -> Result<bool, Refused> {
        let config = self.engine().config();
        let missing = |why: String| Refused::new(FailureKind::NotFound, why);
        let found = config.services.iter().find(|s| s.service.name.as_str() == service);
        let found = found.ok_or_else(|| missing(format!("there is no virtual service named {service}")))?;
        let is_layer4 = found.service.mode.is_layer4();
        let of = |name: &str| {
            let mut pools = config.pools.iter().filter(|p| found.pool_ids.contains(&p.id));
            pools.any(|p| p.servers.iter().any(|s| s.server.name.as_str() == name))
                || is_layer4 && name == super::layer4::FALLBACK
        };
        match server.filter(|name| !of(name)) {
            Some(name) => Err(missing(format!("{service} has no real server named {name}"))),
            None => Ok(is_layer4),
        }
    }

    fn describe_layer4(&self) -> Option<api::Layer4> {
        let plane = self.layer4().plane()?;
        let (flows, capacity) = plane.flow_count();
        let attached = self.layer4().attached().into_iter();
        Some(api::Layer4 {
            interfaces: attached
                .map(|(name, how)| api::AttachedInterface { name, attached: how.into() })
                .collect(),
            flows,
            capacity,
            reasons: plane.reasons().into_iter().map(|(name, count)| (name.into(), count)).collect(),
            unreachable: self.layer4().unreachable().iter().map(ToString::to_string).collect(),
        })
    }

    /// The counts of a service of layer 4 and its servers.
    fn describe_flows(&self, spec: &ServiceSpec, pool: &PoolSpec, described: &mut api::Service) {
        let Some(plane) = self.layer4().plane() else { return };
        let name = spec.service.name.as_str();
        let mut all = plane.counts_of_left(name);
        for (server, shown) in pool.servers.iter().zip(&mut described.real_servers) {
            let counts = plane.counts(name, server.server.name.as_str(), server.server.address);
            shown.current_connections = u64::from(counts.active);
            shown.total_connections = counts.flows;
            (shown.bytes_in, shown.bytes_out) = (counts.bytes_in, counts.bytes_out);
            all += counts;
        }
        described.current_connections += u64::from(all.active);
        described.total_connections += all.flows;
        described.bytes_in += all.bytes_in;
        described.bytes_out += all.bytes_out;
    }

    pub fn status(&self) -> api::Status {
        let config = self.engine().config();
        let pools: std::collections::HashMap<u32, &Arc<PoolSpec>> =
            config.pools.iter().map(|p| (p.id, p)).collect();
        let services =
            config.services.iter().filter_map(|s| Some(self.describe_service(s, pools.get(&s.pool_id)?)));
        let of_services: std::collections::HashSet<u32> = config.services.iter().map(|s| s.pool_id).collect();
        let others = config.pools.iter().filter(|p| !of_services.contains(&p.id));
        let services: Vec<api::Service> = services.collect();
        let of_layer4 = services.iter().filter(|s| !matches!(s.mode.as_str(), "http" | "tcp"));
        let flows = of_layer4.map(|s| s.current_connections).sum();
        self.status_with(services, others.map(|pool| self.describe_pool(pool)).collect(), flows)
    }

    /// Nothing of other services is looked at but their names.
    pub fn status_of(&self, service: &str) -> Result<api::Status, Refused> {
        let config = self.engine().config();
        let found = config.services.iter().find(|s| s.service.name.as_str() == service);
        let found = found.and_then(|s| {
            let pool = config.pools.iter().find(|p| p.id == s.pool_id)?;
            Some(self.describe_service(s, pool))
        });
        let missing =
            || Refused::new(FailureKind::NotFound, format!("there is no virtual service named {service}"));
        // Those of layer 4 as of the last sweep.
        let flows = self.layer4().plane().map_or(0, |plane| plane.flow_count().0);
        found.map(|one| self.status_with(vec![one], Vec::new(), flows)).ok_or_else(missing)
    }

    /// `flows`: connections of layer 4, which no proxy counts.
    fn status_with(
        &self,
        virtual_services: Vec<api::Service>,
        pools: Vec<api::Pool>,
        flows: u64,
    ) -> api::Status {
        api::Status {
            revision: self.revision(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.uptime().as_secs(),
            node: self.describe_node(),
            connections: self.engine().connection_count() + flows,
            workers: self.engine().workers(),
            layer_4: self.describe_layer4(),
            storage: self.storage.trouble(),
            snmp: self.snmp.trouble().map(|(why, _)| why),
            virtual_services,
            pools,
        }
    }

    fn describe_pool(&self, pool: &PoolSpec) -> api::Pool {
        api::Pool {
            name: pool.pool.name.as_str().into(),
            state: self.service_state(pool).into(),
            queued: u64::from(pool.waiting.load(Relaxed)),
            real_servers: pool.servers.iter().map(|s| self.describe_server(pool, s)).collect(),
        }
    }

    fn describe_service(&self, spec: &ServiceSpec, pool: &PoolSpec) -> api::Service {
        let counters = &spec.counters;
        let mut described = api::Service {
            name: spec.service.name.as_str().into(),
            mode: spec.service.mode.as_str().into(),
            vip: spec.service.vips.iter().map(ToString::to_string).collect(),
            pool: pool.pool.name.as_str().into(),
            state: self.service_state(pool).into(),
            current_connections: counters.sum(|c| c.current_connections.get()),
            total_connections: counters.sum(|c| c.connections.get()),
            requests: counters.sum(|c| c.requests.get()),
            bad_requests: counters.sum(|c| c.bad_requests.get()),
            refused: counters.sum(|c| c.refused.get()),
            answers: [1, 2, 3, 4, 5].map(|class: usize| counters.sum(|c| c.responses[class].get())),
            bytes_in: counters.sum(|c| c.bytes_in.get()),
            bytes_out: counters.sum(|c| c.bytes_out.get()),
            client_aborts: counters.sum(|c| c.client_aborts.get()),
            retries: counters.sum(|c| c.retries.get()),
            queued: u64::from(pool.waiting.load(Relaxed)),
            real_servers: pool.servers.iter().map(|s| self.describe_server(pool, s)).collect(),
        };
        if spec.service.mode.is_layer4() {
            self.describe_flows(spec, pool, &mut described);
        }
        described
    }

    /// The servers that are no backups have less weight together than the pool's quorum.
    pub fn lacks_quorum(&self, pool: &PoolSpec) -> bool {
        let quorum = u64::from(pool.pool.quorum);
        let states = pool.servers.iter().filter(|s| !s.server.backup);
        let states = states.filter_map(|s| self.engine().state(s.id));
        let able = states.filter(|s| s.up && s.admin == AdminState::Online);
        quorum > 0 && able.map(|s| u64::from(s.weight)).sum::<u64>() < quorum
    }

    /// `up`: every server serves. `degraded`: some do. `down`: none can. `halted`: none may.
    pub fn service_state(&self, pool: &PoolSpec) -> &'static str {
        let states = || pool.servers.iter().filter_map(|s| self.engine().state(s.id));
        let serving = states().filter(|s| s.up && s.admin == AdminState::Online && s.weight > 0).count();
        let backups = pool.servers.iter().any(|s| {
            s.server.backup
                && self.engine().state(s.id).is_some_and(|s| s.up && s.admin == AdminState::Online)
        });
        match serving {
            1.. if self.lacks_quorum(pool) => {
                if backups {
                    "degraded"
                } else {
                    "down"
                }
            }
            n if n == pool.servers.len() && n > 0 => "up",
            0 if states().count() > 0 && states().all(|s| s.admin != AdminState::Online) => "halted",
            0 => "down",
            _ => "degraded",
        }
    }

    pub fn describe_server(&self, pool: &PoolSpec, spec: &ServerSpec) -> api::RealServer {
        // Most have none of it.
        let any = !self.overrides().servers().is_empty();
        let names = (pool.pool.name.as_str(), spec.server.name.as_str());
        let run_time = any.then(|| self.overrides().server(names.0, names.1)).flatten();
        let state = self.engine().state(spec.id);
        let health = self.health(spec.id);
        let last = health.and_then(|h| h.last.as_ref());
        let outages = health.and_then(|h| h.outages.as_ref());
        let counters = &spec.counters;
        let (weight, admin) = (spec.server.weight.get(), spec.server.admin_state);
        api::RealServer {
            configured_weight: state.filter(|s| s.weight != weight).map(|_| weight),
            configured_admin_state: state.filter(|s| s.admin != admin).map(|_| admin.as_str().into()),
            host: spec.server.host.as_ref().map(|host| host.name.to_string()),
            set_at_run_time: run_time.filter(|of| of.over.is_some()).map(|of| of.keys.clone()),
            found_since_ms: match spec.server.found_in.as_deref() {
                Some(Origin::List(_)) => self.discovery.since(names.0, names.1),
                Some(Origin::RunTime) => run_time.map(|of| of.since_ms),
                None => None,
            },
            until_ms: run_time.and_then(|of| of.until_ms),
            found_in: spec.server.found_in.as_ref().map(ToString::to_string),
            name: spec.server.name.as_str().into(),
            address: match spec.server.address.port() {
                _ if !spec.server.is_placed() => spec.server.place(),
                // The port is the client's.
                0 => spec.server.address.ip().to_string(),
                _ => spec.server.address.to_string(),
            },
            weight: state.map_or(spec.server.weight.get(), |s| s.weight),
            max_connections: Some(
                state.and_then(|s| s.max_connections).unwrap_or(spec.server.max_connections),
            )
            .filter(|most| *most > 0),
            state: if state.is_none_or(|s| s.up) { "up" } else { "down" }.into(),
            admin_state: state.map_or(spec.server.admin_state, |s| s.admin).as_str().into(),
            backup: spec.server.backup,
            check: api::Check {
                verdict: health.map_or("none", |h| h.verdict).into(),
                detail: match &spec.server.host {
                    Some(host) if !spec.server.is_placed() => self.discovery.why_not_placed(&host.name),
                    _ => health.map_or_else(String::new, |h| h.detail.clone()),
                },
                since_ms: health.map_or(0, |h| h.since_ms),
                outcome: last.map(|r| r.outcome.as_str().into()),
                layer: last.and_then(|r| r.layer.number()),
                code: last.and_then(|r| r.code),
                took_ms: last.map(|r| r.took.as_millis() as u64),
            },
            current_connections: counters.sum(|c| c.current.get()),
            total_connections: counters.sum(|c| c.total.get()),
            bytes_in: counters.sum(|c| c.bytes_in.get()),
            bytes_out: counters.sum(|c| c.bytes_out.get()),
            connect_errors: counters.sum(|c| c.connect_errors.get()),
            response_errors: counters.sum(|c| c.response_errors.get()),
            answers: [1, 2, 3, 4, 5].map(|class: usize| counters.sum(|c| c.responses[class].get())),
            retries: counters.sum(|c| c.retries.get()),
            opened_connections: counters.sum(|c| c.connects.get()),
            reused_connections: counters.sum(|c| c.reuses.get()),
            timed_requests: counters.sum(|c| c.latency.count()),
            request_ms: counters.sum(|c| c.latency.sum_ms.get()),
            failed_checks: outages.map_or(0, |o| o.failed_checks),
            downs: outages.map_or(0, |o| o.downs),
            down_ms: outages.map_or(0, |o| o.ended_ms),
        }
    }

    /// The entries of a service's or pool's persistence, or of a table that routes count in.
    pub fn persistence(&self, name: &str) -> Result<Vec<api::PersistenceEntry>, Refused> {
        if let Some(plane) = self.keeps_in_kernel(name) {
            let known =
                plane.persistent(name).map_err(|e| Refused::new(FailureKind::Failed, e.to_string()))?;
            let mut entries: Vec<api::PersistenceEntry> = known
                .into_iter()
                .map(|entry| api::PersistenceEntry {
                    key: entry.client.to_string(),
                    real_server: Some(entry.server),
                    expires_in_ms: entry.expires.as_millis() as u64,
                    activity: None,
                })
                .collect();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            return Ok(entries);
        }
        let found = self.table_of(name)?;
        let now_ms = monotonic_ms();
        let mut entries: Vec<api::PersistenceEntry> = found
            .table
            .entries(now_ms)
            .into_iter()
            .map(|entry| api::PersistenceEntry {
                key: found.show(&entry.key),
                real_server: entry.server.map(|id| found.server_name(id)),
                expires_in_ms: entry.expires_ms.saturating_sub(now_ms),
                activity: entry.activity.map(|a| describe_activity(&a)),
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Services of layer 4 remember their clients beside the packets.
    fn keeps_in_kernel(&self, name: &str) -> Option<&Plane> {
        let config = self.engine().config();
        let service = config.services.iter().find(|s| s.service.name.as_str() == name)?;
        let pool = config.pools.iter().find(|p| p.id == service.pool_id)?;
        let keeps =
            service.service.mode.is_layer4() && matches!(pool.pool.persistence, Persistence::Source(_));
        self.layer4().plane().filter(|_| keeps)
    }

    pub fn clear_persistence(&self, name: &str, key: Option<&str>) -> Result<api::Cleared, Refused> {
        if let Some(plane) = self.keeps_in_kernel(name) {
            if !self.is_active_node() {
                let why = "this node is passive, and clients of layer 4 are remembered by the active one: clear them there";
                return Err(Refused::new(FailureKind::Failed, why.to_owned()));
            }
            let invalid =
                |_| Refused::new(FailureKind::Invalid, format!("{:?} is not an address", key.unwrap_or("")));
            let client = key.map(str::parse).transpose().map_err(invalid)?;
            let cleared = plane.forget_persistent(name, client);
            let cleared = cleared.map_err(|e| Refused::new(FailureKind::Failed, e.to_string()))?;
            if let Some(tap) = &self.sync().tap {
                tap.tell_forgotten(name, client);
            }
            return Ok(api::Cleared { cleared });
        }
        let found = self.table_of(name)?;
        let cleared = match key {
            None => found.table.clear(None),
            Some(key) => {
                let key = found.read(key).map_err(|why| Refused::new(FailureKind::Invalid, why))?;
                usize::from(found.table.remove(&key))
            }
        };
        Ok(api::Cleared { cleared })
    }

    fn table_of(&self, name: &str) -> Result<Found, Refused> {
        let config = self.engine().config();
        if let Some(spec) = config.tables.iter().find(|t| t.rule.name.as_str() == name) {
            return Ok(Found { table: spec.table.clone(), pool: None });
        }
        let pool = self.pool_of(name).map_err(|_| {
            Refused::new(
                FailureKind::NotFound,
                format!("there is no virtual service, pool or table named {name}"),
            )
        })?;
        match &pool.table {
            Some(table) => Ok(Found { table: table.clone(), pool: Some(pool.clone()) }),
            None => {
                let kind = pool.pool.persistence.as_str();
                let why = format!("{name} keeps no persistence table (its persistence is {kind})");
                Err(Refused::new(FailureKind::Failed, why))
            }
        }
    }

    pub fn persistence_for_successor(&self) -> Vec<handover::PersistenceEntry> {
        let now_ms = monotonic_ms();
        let config = self.engine().config();
        let tables = config.pools.iter().filter_map(|p| Some((p, p.table.as_ref()?)));
        tables
            .flat_map(|(pool, table)| {
                table.entries(now_ms).into_iter().filter_map(move |entry| {
                    Some(handover::PersistenceEntry {
                        pool: pool.pool.name.as_str().into(),
                        key: entry.key.bytes().to_vec(),
                        server: server_name(pool, entry.server?),
                        expires_ms: entry.expires_ms,
                    })
                })
            })
            .collect()
    }

    pub fn restore_persistence(&self, entries: &[handover::PersistenceEntry]) {
        let now_ms = monotonic_ms();
        let config = self.engine().config();
        for entry in entries {
            let Some(pool) = config.pools.iter().find(|p| p.pool.name.as_str() == entry.pool) else {
                continue;
            };
            let server = pool.servers.iter().find(|s| s.server.name.as_str() == entry.server);
            if let (Some(table), Some(server)) = (&pool.table, server) {
                table.set(&Key::text(&entry.key), Some(server.id), entry.expires_ms, now_ms);
            }
        }
    }
}

/// A table with what its keys mean.
struct Found {
    table: Arc<Table>,
    /// The pool whose persistence it is; none of a table that routes count in.
    pool: Option<Arc<PoolSpec>>,
}

impl Found {
    fn by_address(&self) -> bool {
        self.pool.as_ref().is_some_and(|p| matches!(p.pool.persistence, Persistence::Source(_)))
    }

    fn show(&self, key: &Key) -> String {
        match key.to_address().filter(|_| self.by_address()) {
            Some(address) => address.to_string(),
            None if key.bytes().iter().all(|b| b.is_ascii_graphic() || *b == b' ') => {
                String::from_utf8_lossy(key.bytes()).into_owned()
            }
            None => key.bytes().iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        }
    }

    fn read(&self, text: &str) -> Result<Key, String> {
        if self.by_address() {
            let address = text.parse().map_err(|_| format!("{text:?} is not an address"))?;
            return Ok(Key::address(address));
        }
        let digits = text.strip_prefix("0x").filter(|d| d.len() % 2 == 0);
        let bytes = digits.and_then(|digits| {
            (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
                .collect()
        });
        let bytes: Vec<u8> = bytes.unwrap_or_else(|| text.as_bytes().to_vec());
        Ok(Key::text(&bytes))
    }

    fn server_name(&self, id: u32) -> String {
        self.pool.as_ref().map_or_else(String::new, |pool| server_name(pool, id))
    }
}

fn describe_activity(activity: &Activity) -> api::Activity {
    let counted = |counter: Counter| api::Counted {
        total: activity.totals[counter as usize],
        rate: activity.rates[counter as usize],
    };
    let numbers: Vec<api::Counted> = (1..=8).map(|number| counted(Counter::number(number))).collect();
    api::Activity {
        current: activity.current,
        connections: counted(Counter::Connections),
        requests: counted(Counter::Requests),
        errors: counted(Counter::Errors),
        bytes_in: counted(Counter::BytesIn),
        bytes_out: counted(Counter::BytesOut),
        failures: counted(Counter::Failures),
        numbers: if numbers.iter().any(|one| one.total > 0 || one.rate > 0) { numbers } else { Vec::new() },
    }
}

fn server_name(pool: &PoolSpec, id: u32) -> String {
    let server = pool.servers.iter().find(|s| s.id == id);
    server.map_or_else(|| "(removed)".into(), |s| s.server.name.as_str().into())
}

/// Connections of both layers, to be collected beside the daemon's loop.
pub struct Listing {
    parts: Receiver<Vec<ConnectionInfo>>,
    workers: usize,
    flows: Option<FlowReader>,
    filter: api::ConnectionFilter,
}

/// Connections of both layers that end, to be waited for beside the daemon's loop.
pub struct Ending {
    /// How many each loop has closed, and the number of loops.
    sessions: Option<(Receiver<usize>, usize)>,
    flows: Option<FlowReader>,
    which: api::Closing,
    /// The other node of the pair has the clients.
    passive: bool,
}

impl Ending {
    pub fn carry_out(self) -> Result<api::Closed, Refused> {
        let which = &self.which;
        let sessions = self.sessions.map_or(0, |(answers, loops)| {
            (0..loops).map_while(|_| answers.recv_timeout(FOR_CLOSING).ok()).sum()
        });
        let fits = |flow: &FlowInfo| {
            which.service.as_ref().is_none_or(|wanted| *wanted == flow.service)
                && which.server.as_ref().is_none_or(|wanted| *wanted == flow.server)
                && which.client.is_none_or(|wanted| wanted.to_canonical() == flow.client.ip())
                && which.client_port.is_none_or(|wanted| wanted == flow.client.port())
        };
        let cut = self.flows.map_or(Ok(0), |flows| flows.close(fits));
        let cut = cut.map_err(|e| Refused::new(FailureKind::Failed, e.to_string()))?;
        if self.passive && sessions + cut == 0 {
            let why = "no connection of them is here: this node is passive, and the active one has its own; close them there";
            return Err(Refused::new(FailureKind::Failed, why.to_owned()));
        }
        Ok(api::Closed { closed: sessions + cut, at_next_packet: cut })
    }
}

/// How long a loop may take to close connections.
const FOR_CLOSING: Duration = Duration::from_secs(5);
/// Connections listed unless the question says how many.
const LISTED: usize = 10_000;

impl Listing {
    pub fn collect(self) -> Vec<api::Connection> {
        let limit = self.filter.limit.unwrap_or(LISTED);
        let mut all = Vec::new();
        for _ in 0..self.workers {
            let Ok(part) = self.parts.recv_timeout(Duration::from_secs(5)) else { break };
            let part = part
                .into_iter()
                .filter(|c| self.is_wanted(&c.service, c.server.as_deref(), c.state, c.client.ip()));
            all.extend(part.map(|c| api::Connection {
                protocol: "tcp".into(),
                client: c.client.to_string(),
                vip: c.vip.to_string(),
                service: c.service,
                real_server: c.server,
                http2: c.http2.map(|number| (c.core as u64) << 32 | u64::from(number)),
                state: c.state.into(),
                age_ms: c.age_ms,
                requests: c.requests,
                bytes_in: c.bytes_in,
                bytes_out: c.bytes_out,
            }));
        }
        all.truncate(limit);
        let Some(reader) = &self.flows else { return all };
        let wanted = |f: &FlowInfo| self.is_wanted(&f.service, Some(&f.server), f.state, f.client.ip());
        let flows = reader.flows(limit - all.len(), wanted).unwrap_or_default();
        all.extend(flows.into_iter().map(|f| api::Connection {
            protocol: f.protocol.into(),
            client: f.client.to_string(),
            vip: f.vip.to_string(),
            service: f.service,
            real_server: Some(f.server),
            http2: None,
            state: f.state.into(),
            age_ms: f.age.as_millis() as u64,
            requests: 0,
            bytes_in: f.bytes_in,
            bytes_out: f.bytes_out,
        }));
        all
    }

    fn is_wanted(&self, service: &str, server: Option<&str>, state: &str, client: IpAddr) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|w| Some(w) == found);
        is(&self.filter.service, Some(service))
            && is(&self.filter.server, server)
            && is(&self.filter.state, Some(state))
            && self.filter.client.is_none_or(|wanted| wanted == client)
    }
}
