//! What runs, in the shapes of the API.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use evenkeel_admin::{Kind, Refused};
use evenkeel_api as api;
use evenkeel_balance::Entry;
use evenkeel_l7::{ConnectionInfo, PoolSpec, ServerSpec, ServiceSpec};
use evenkeel_model::AdminState;

use super::control::{Control, monotonic_ms};
use super::handover;

impl Control {
    pub fn status(&self) -> api::Status {
        let config = self.engine().config();
        let pools: std::collections::HashMap<u32, &Arc<PoolSpec>> =
            config.pools.iter().map(|p| (p.id, p)).collect();
        let services =
            config.services.iter().filter_map(|s| Some(self.describe_service(s, pools.get(&s.pool_id)?)));
        api::Status {
            revision: self.revision(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.uptime().as_secs(),
            node: api::Node { role: "active".into() },
            connections: self.engine().connection_count(),
            workers: self.engine().workers(),
            virtual_services: services.collect(),
        }
    }

    fn describe_service(&self, spec: &ServiceSpec, pool: &PoolSpec) -> api::Service {
        let counters = &spec.counters;
        api::Service {
            name: spec.service.name.as_str().into(),
            mode: spec.service.mode.as_str().into(),
            vip: spec.service.vips.iter().map(ToString::to_string).collect(),
            pool: pool.pool.name.as_str().into(),
            state: self.service_state(pool).into(),
            current_connections: counters.sum(|c| c.current_connections.get()),
            total_connections: counters.sum(|c| c.connections.get()),
            requests: counters.sum(|c| c.requests.get()),
            bad_requests: counters.sum(|c| c.bad_requests.get()),
            bytes_in: counters.sum(|c| c.bytes_in.get()),
            bytes_out: counters.sum(|c| c.bytes_out.get()),
            queued: u64::from(pool.waiting.load(Relaxed)),
            real_servers: pool.servers.iter().map(|s| self.describe_server(s)).collect(),
        }
    }

    /// `up`: every server serves. `degraded`: some do. `down`: none can. `halted`: none may.
    pub fn service_state(&self, pool: &PoolSpec) -> &'static str {
        let states = || pool.servers.iter().filter_map(|s| self.engine().state(s.id));
        let serving = states().filter(|s| s.up && s.admin == AdminState::Online && s.weight > 0).count();
        match serving {
            n if n == pool.servers.len() && n > 0 => "up",
            0 if states().count() > 0 && states().all(|s| s.admin != AdminState::Online) => "halted",
            0 => "down",
            _ => "degraded",
        }
    }

    pub fn describe_server(&self, spec: &ServerSpec) -> api::RealServer {
        let state = self.engine().state(spec.id);
        let health = self.health(spec.id);
        let counters = &spec.counters;
        api::RealServer {
            name: spec.server.name.as_str().into(),
            address: spec.server.address.to_string(),
            weight: state.map_or(spec.server.weight.get(), |s| s.weight),
            state: if state.is_none_or(|s| s.up) { "up" } else { "down" }.into(),
            admin_state: state.map_or(spec.server.admin_state, |s| s.admin).as_str().into(),
            backup: spec.server.backup,
            check: api::Check {
                verdict: health.map_or("none", |h| h.verdict).into(),
                detail: health.map_or_else(String::new, |h| h.detail.clone()),
                since_ms: health.map_or(0, |h| h.since_ms),
            },
            current_connections: counters.sum(|c| c.current.get()),
            total_connections: counters.sum(|c| c.total.get()),
            bytes_in: counters.sum(|c| c.bytes_in.get()),
            bytes_out: counters.sum(|c| c.bytes_out.get()),
            connect_errors: counters.sum(|c| c.connect_errors.get()),
            response_errors: counters.sum(|c| c.response_errors.get()),
        }
    }

    pub fn persistence(&self, service: &str) -> Result<Vec<api::PersistenceEntry>, Refused> {
        let pool = self.pool_of(service)?;
        let table = table_of(&pool, service)?;
        let now_ms = monotonic_ms();
        let mut entries: Vec<api::PersistenceEntry> = table
            .entries(now_ms)
            .into_iter()
            .map(|entry| api::PersistenceEntry {
                key: entry.client.to_string(),
                real_server: server_name(&pool, entry.server),
                expires_in_ms: entry.expires_ms.saturating_sub(now_ms),
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    pub fn clear_persistence(&self, service: &str, key: Option<&str>) -> Result<api::Cleared, Refused> {
        let pool = self.pool_of(service)?;
        let table = table_of(&pool, service)?;
        let cleared = match key {
            None => table.clear(None),
            Some(key) => {
                let client: IpAddr = key
                    .parse()
                    .map_err(|_| Refused::new(Kind::Invalid, format!("{key:?} is not an address")))?;
                usize::from(table.remove(client))
            }
        };
        Ok(api::Cleared { cleared })
    }

    pub fn persistence_for_successor(&self) -> Vec<handover::PersistenceEntry> {
        let now_ms = monotonic_ms();
        let config = self.engine().config();
        let tables = config.pools.iter().filter_map(|p| Some((p, p.table.as_ref()?)));
        tables
            .flat_map(|(pool, table)| {
                table.entries(now_ms).into_iter().map(move |entry| handover::PersistenceEntry {
                    pool: pool.pool.name.as_str().into(),
                    client: entry.client,
                    server: server_name(pool, entry.server),
                    expires_ms: entry.expires_ms,
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
                let entry = Entry { client: entry.client, server: server.id, expires_ms: entry.expires_ms };
                table.set(entry, now_ms);
            }
        }
    }
}

fn table_of<'a>(pool: &'a PoolSpec, service: &str) -> Result<&'a evenkeel_balance::SourceTable, Refused> {
    let none = || {
        Refused::new(
            Kind::Failed,
            format!("{service} keeps no persistence table (its persistence is not by source address)"),
        )
    };
    pool.table.as_deref().ok_or_else(none)
}

fn server_name(pool: &PoolSpec, id: u32) -> String {
    let server = pool.servers.iter().find(|s| s.id == id);
    server.map_or_else(|| "(removed)".into(), |s| s.server.name.as_str().into())
}

/// Collects what each loop lists.
pub fn connections(parts: &Receiver<Vec<ConnectionInfo>>, workers: usize) -> Vec<api::Connection> {
    let mut all = Vec::new();
    for _ in 0..workers {
        let Ok(part) = parts.recv_timeout(Duration::from_secs(5)) else { break };
        all.extend(part.into_iter().map(|c| api::Connection {
            client: c.client.to_string(),
            vip: c.vip.to_string(),
            service: c.service,
            real_server: c.server,
            state: c.state.into(),
            age_ms: c.age_ms,
            requests: c.requests,
            bytes_in: c.bytes_in,
            bytes_out: c.bytes_out,
        }));
    }
    all
}
