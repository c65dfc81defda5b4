//! What probes, agents and traffic say about real servers, and what follows from it.

use std::sync::Arc;
use std::time::Instant;

use evenkeel_balance::{Health, Transition};
use evenkeel_health::{AgentState, Report};
use evenkeel_l7::{Notice, PoolSpec, ServerSpec};
use evenkeel_model::Probe;
use tracing::{error, info, warn};

use super::control::{Control, monotonic_ms, wall_ms};
use super::handover;

/// What probes and traffic say about a server.
pub struct ServerHealth {
    pub pool: String,
    pub name: String,
    pub health: Health,
    pub verdict: &'static str,
    pub detail: String,
    pub since_ms: u64,
    pub up_since_ms: Option<u64>,
    /// Without probes: when a refused server is tried again.
    pub retry_at: Option<Instant>,
    /// What its agent said last.
    pub agent: AgentState,
    /// It passes its probes but failed its clients.
    pub paused_until: Option<Instant>,
    /// Pauses lately: each makes the next one longer.
    pub pauses: u32,
}

impl Control {
    pub fn on_report(&mut self, report: Report) {
        for follower in self.followers.get(&report.id).cloned().unwrap_or_default() {
            self.take_report(Report { id: follower, ..report.clone() });
        }
        self.take_report(report);
    }

    fn take_report(&mut self, report: Report) {
        if let Some(agent) = report.agent {
            self.take_agent(report.id, agent);
        }
        if report.agent_only {
            return;
        }
        let Some(server) = self.servers.get_mut(&report.id) else { return };
        let turned = server.health.on_probe(report.passed);
        server.verdict = if report.passed { "passed" } else { "failed" };
        if server.paused_until.is_none() {
            server.detail = report.detail;
        }
        if let Some(transition) = turned {
            self.turned(report.id, transition);
        }
    }

    /// What an agent or a script says of a server, beside up and down.
    fn take_agent(&mut self, id: u32, said: AgentState) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let before = server.agent.clone();
        let now = &mut server.agent;
        now.weight = said.weight.or(now.weight);
        now.up = said.up.or(now.up);
        now.admin = said.admin.or(now.admin);
        if !said.said.is_empty() {
            now.said = said.said;
        }
        if before != *now {
            info!(
                pool = server.pool,
                server = server.name,
                agent = now.said,
                weight = now.weight,
                "the server's agent spoke"
            );
            self.push_id(id);
        }
    }

    pub fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Refused { server } => {
                let Some(health) = self.servers.get_mut(&server) else { return };
                let turned = health.health.on_refused();
                if turned.is_some() {
                    health.detail = "connection refused by traffic".into();
                    health.verdict = "failed";
                    self.turned(server, Transition::Down);
                }
                self.schedule_retry(server);
                self.checker.probe_now(server);
            }
            Notice::Handshake { server, why } => {
                let Some(health) = self.servers.get_mut(&server) else { return };
                let detail = format!("TLS: {why}");
                if health.detail != detail {
                    warn!(pool = health.pool, server = health.name, why, "TLS with the real server failed");
                    health.detail = detail;
                }
                self.checker.probe_now(server);
            }
            Notice::Outlier { server } => self.pause(server),
            Notice::Suspect { server } => self.checker.probe_now(server),
            Notice::Broken { core } => {
                // Its connections are lost already; a supervisor's fresh start is the way back.
                error!(core, "an event loop has failed; ending");
                std::process::exit(1);
            }
            Notice::Drained { .. } => {}
        }
    }

    /// Traffic found a server failing again and again although its probes pass.
    fn pause(&mut self, id: u32) {
        let Some((pool, _)) = self.find_id(id) else { return };
        let Some(rule) = &pool.pool.outlier else { return };
        let paused = |s: &&Arc<ServerSpec>| self.servers.get(&s.id).is_some_and(|h| h.paused_until.is_some());
        let already = pool.servers.iter().filter(paused).count();
        let allowed = pool.servers.len() * usize::from(rule.max_percent) / 100;
        let Some(health) = self.servers.get_mut(&id).filter(|h| h.paused_until.is_none() && h.health.is_up())
        else {
            return;
        };
        if already >= allowed {
            info!(
                pool = health.pool,
                server = health.name,
                "failing its clients, but enough servers are paused"
            );
            return;
        }
        health.pauses = (health.pauses + 1).min(10);
        let pause = rule.pause * health.pauses;
        health.paused_until = Some(Instant::now() + pause);
        health.since_ms = wall_ms();
        health.detail = format!("paused for {} s: {} failures in a row", pause.as_secs_f32(), rule.failures);
        info!(pool = health.pool, server = health.name, reason = health.detail, "server paused");
        self.push_id(id);
    }

    pub fn end_pauses(&mut self, now: Instant) {
        let due = self.servers.iter().filter(|(_, s)| s.paused_until.is_some_and(|until| until <= now));
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(server) = self.servers.get_mut(&id) {
                server.paused_until = None;
                server.since_ms = wall_ms();
                server.up_since_ms = Some(monotonic_ms());
                server.detail = "tried again after a pause".into();
                info!(pool = server.pool, server = server.name, "server's pause has ended");
            }
            self.push_id(id);
        }
        // Who has been good for long enough starts anew.
        for server in self.servers.values_mut().filter(|s| s.paused_until.is_none() && s.pauses > 0) {
            if wall_ms().saturating_sub(server.since_ms) > 60_000 {
                server.pauses = 0;
            }
        }
    }

    fn schedule_retry(&mut self, id: u32) {
        let Some((pool, _)) = self.find_id(id) else { return };
        let check = &pool.pool.health_check;
        if let Some(health) = self.servers.get_mut(&id).filter(|_| check.probe == Probe::None) {
            health.retry_at = Some(Instant::now() + check.interval);
        }
    }

    pub fn turned(&mut self, id: u32, transition: Transition) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        server.since_ms = wall_ms();
        let up = transition == Transition::Up;
        server.up_since_ms = up.then(monotonic_ms);
        let (from, to) = if up { ("down", "up") } else { ("up", "down") };
        info!(
            pool = server.pool,
            server = server.name,
            from,
            to,
            reason = server.detail,
            "server state changed"
        );
        self.push_id(id);
    }
}

impl ServerHealth {
    pub fn new(
        pool: &PoolSpec,
        server: &ServerSpec,
        inherited: Option<&handover::ServerState>,
    ) -> ServerHealth {
        let check = &pool.pool.health_check;
        ServerHealth {
            pool: pool.pool.name.as_str().into(),
            name: server.server.name.as_str().into(),
            health: match inherited {
                Some(known) => Health::resume(check.rise, check.fall, known.up),
                None => Health::new(check.rise, check.fall),
            },
            verdict: "none",
            detail: inherited.map_or_else(|| "not probed yet".into(), |known| known.detail.clone()),
            since_ms: inherited.map_or_else(wall_ms, |known| known.since_ms),
            up_since_ms: None,
            retry_at: None,
            agent: AgentState::default(),
            paused_until: None,
            pauses: 0,
        }
    }

    /// The same server under a new configuration.
    pub fn renew(self, pool: &PoolSpec) -> ServerHealth {
        let check = &pool.pool.health_check;
        let health = match check.probe {
            // Nothing would ever bring it back.
            Probe::None if !self.health.is_up() => Health::new(check.rise, check.fall),
            _ => self.health.clone().with_limits(check.rise, check.fall),
        };
        ServerHealth { health, ..self }
    }
}
