//! What people, probes, agents and traffic say about real servers, and what follows from it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_api as api;
use evenkeel_balance::{Health, Transition};
use evenkeel_health::{AgentState, Report};
use evenkeel_l7::{Notice, PoolSpec, ServerSpec};
use evenkeel_model::{AdminState, Name, Probe, counted};
use tracing::{error, info, warn};

use super::control::{Control, monotonic_ms, wall_ms};
use super::handover;

/// What became of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A probe has ended, whatever follows from it.
    Probed,
    Up,
    Down,
    /// By people.
    Set(AdminState),
}

/// What a watcher is told.
pub struct ServerTurn<'a> {
    pub pool: &'a str,
    pub server: &'a str,
    pub turn: Turn,
    /// The last probe.
    pub report: Option<&'a Report>,
    pub probe: &'a Probe,
    pub rise: u32,
    pub fall: u32,
    /// Servers of the pool that take clients now, and spare ones; not counted after a probe.
    pub active: usize,
    pub backup: usize,
    /// Its connections.
    pub connections: u64,
}

pub type Watcher = Box<dyn Fn(&ServerTurn<'_>)>;

/// What probes and traffic say about a server.
#[derive(Clone)]
pub struct ServerHealth {
    pub pool: Name,
    pub name: Name,
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
    pub last: Option<Box<Report>>,
    /// None as long as it was well.
    pub outages: Option<Box<Outages>>,
}

/// How often and how long a server was down in the life of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outages {
    pub failed_checks: u64,
    pub downs: u64,
    /// Of those that are over.
    pub ended_ms: u64,
    since_ms: Option<u64>,
}

impl Outages {
    /// It went down, or is up again.
    fn turned(&mut self, up: bool, now_ms: u64) {
        if let Some(since_ms) = self.since_ms.take() {
            self.ended_ms += now_ms.saturating_sub(since_ms);
        }
        if !up {
            self.since_ms = Some(now_ms);
            self.downs += 1;
        }
    }
}

impl Control {
    // Live changes

    /// Changes one server, by service (or pool) and name. Stored before it is acknowledged.
    pub fn change(
        &mut self,
        service: &str,
        server: &str,
        change: &api::ServerChange,
    ) -> Result<api::RealServer, Refused> {
        let pool = self.pool_of(service)?;
        let Some(spec) = pool.servers.iter().find(|s| s.server.name.as_str() == server).cloned() else {
            let names: Vec<_> = pool.servers.iter().map(|s| s.server.name.as_str()).collect();
            let why = format!("{service} has no real server named {server}; it has {}", names.join(", "));
            return Err(Refused::new(FailureKind::NotFound, why));
        };
        let pool_name = pool.pool.name.as_str();
        let mut changed = self.overrides.clone();
        if let Some(word) = &change.admin_state {
            let Some(state) = AdminState::parse(word) else {
                let why = format!("admin-state is online, draining or halted, not {word:?}");
                return Err(Refused::new(FailureKind::Invalid, why));
            };
            changed.set_admin(pool_name, server, state);
        }
        if let Some(weight) = change.weight {
            changed.set_weight(pool_name, server, weight);
        }
        if change.admin_state.is_some() || change.weight.is_some() {
            changed.save().map_err(|e| {
                Refused::new(
                    FailureKind::Failed,
                    format!("the change could not be stored: {e}; nothing was changed"),
                )
            })?;
            let before = self.engine.state(spec.id).map(|s| s.admin);
            self.overrides = changed;
            self.tell_live();
            self.push_state(&pool, &spec);
            // Before whoever asked hears that it is done.
            self.tell_states();
            let now = self.engine.state(spec.id).map(|s| s.admin);
            if let Some(admin) = now.filter(|_| before != now) {
                self.tell_watcher(spec.id, Turn::Set(admin));
            }
            info!(
                service,
                server,
                admin_state = change.admin_state,
                weight = change.weight,
                "real server changed"
            );
            let subject = format!("{service}/{server}");
            if let Some(word) = &change.admin_state {
                self.happen("admin-state", "info", &subject, format!("{subject} is set {word}"));
            }
            if let Some(weight) = change.weight {
                self.happen(
                    "admin-state",
                    "info",
                    &subject,
                    format!("{subject} has the weight {weight} now"),
                );
            }
        }
        let mut described = self.describe_server(&pool, &spec);
        if let Some(plane) = self.layer4.plane() {
            let counts = plane.counts(service, server, spec.server.address);
            described.current_connections += u64::from(counts.active);
            described.total_connections += counts.flows;
        }
        Ok(described)
    }

    pub fn pool_of(&self, service: &str) -> Result<Arc<PoolSpec>, Refused> {
        let config = self.engine.config();
        let by_service = config.services.iter().find(|s| s.service.name.as_str() == service);
        let pool = match by_service {
            Some(found) => config.pools.iter().find(|p| p.id == found.pool_id),
            None => config.pools.iter().find(|p| p.pool.name.as_str() == service),
        };
        let missing = || {
            Refused::new(
                FailureKind::NotFound,
                format!("there is no virtual service or pool named {service}"),
            )
        };
        pool.cloned().ok_or_else(missing)
    }

    // What is found out

    pub fn on_report(&mut self, report: Report) {
        for follower in self.followers.get(&report.id).cloned().unwrap_or_default() {
            self.take_report(Report { id: follower, ..report.clone() });
        }
        self.take_report(report);
    }

    fn take_report(&mut self, report: Report) {
        if let Some(agent) = report.agent.clone() {
            self.take_agent(report.id, agent);
        }
        if report.agent_only {
            return;
        }
        let Some(server) = self.servers.get_mut(&report.id) else { return };
        if server.health.is_up() && !report.passed {
            server.outages.get_or_insert_default().failed_checks += 1;
        }
        let turned = server.health.on_probe(report.passed);
        // What its agent says of it has the last word.
        let agent_says_down = server.agent.up == Some(false);
        if !agent_says_down {
            server.verdict = if report.passed { "passed" } else { "failed" };
        }
        if server.paused_until.is_none() && !agent_says_down {
            server.detail.clone_from(&report.detail);
        }
        let id = report.id;
        server.last = Some(Box::new(report));
        self.tell_watcher(id, Turn::Probed);
        if let Some(transition) = turned {
            self.turned(id, transition);
        }
    }

    /// What an agent or a script says of a server, beside up and down.
    fn take_agent(&mut self, id: u32, said: AgentState) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let before = server.agent.clone();
        let now = &mut server.agent;
        now.weight = said.weight.or(now.weight);
        now.max_connections = said.max_connections.or(now.max_connections);
        now.up = said.up.or(now.up);
        now.admin = said.admin.or(now.admin);
        if !said.said.is_empty() {
            now.said = said.said;
        }
        if before != *now {
            info!(
                pool = server.pool.as_str(),
                server = server.name.as_str(),
                agent = now.said,
                weight = now.weight,
                "the server's agent spoke"
            );
            let (was_down, is_down) = (before.up == Some(false), now.up == Some(false));
            self.follow_agent(id, was_down, is_down);
            self.push_id(id);
        }
    }

    /// A server that its agent takes down, or lets be up again, has turned as by a probe.
    fn follow_agent(&mut self, id: u32, was_down: bool, is_down: bool) {
        let Some(server) = self.servers.get_mut(&id).filter(|_| was_down || is_down) else { return };
        match (is_down, &server.last) {
            (true, _) => {
                (server.verdict, server.detail) = ("failed", format!("agent: {}", server.agent.said))
            }
            (false, Some(last)) => {
                server.verdict = if last.passed { "passed" } else { "failed" };
                server.detail.clone_from(&last.detail);
            }
            (false, None) => {
                (server.verdict, server.detail) = ("none", format!("agent: {}", server.agent.said))
            }
        }
        // A server that probes have found down has been told of already.
        if was_down == is_down || !server.health.is_up() {
            return;
        }
        server.since_ms = wall_ms();
        if is_down || server.outages.is_some() {
            server.outages.get_or_insert_default().turned(!is_down, server.since_ms);
        }
        server.up_since_ms = (!is_down).then(monotonic_ms);
        let (pool, name, said) = (server.pool.clone(), server.name.clone(), server.agent.said.clone());
        self.server_turned(pool.as_str(), name.as_str(), !is_down, &format!("agent: {said}"));
        self.tell_watcher(id, if is_down { Turn::Down } else { Turn::Up });
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
                    let (pool, server) = (health.pool.as_str(), health.name.as_str());
                    warn!(pool, server, why, "TLS with the real server failed");
                    health.detail = detail;
                }
                self.checker.probe_now(server);
            }
            Notice::ClientCertificate { service, client, why } => {
                warn!(service = service.as_str(), client = %client, why, "a client's certificate was refused");
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
                pool = health.pool.as_str(),
                server = health.name.as_str(),
                "failing its clients, but enough servers are paused"
            );
            return;
        }
        health.pauses = (health.pauses + 1).min(10);
        let pause = rule.pause * health.pauses;
        let until = Instant::now() + pause;
        health.paused_until = Some(until);
        health.since_ms = wall_ms();
        health.detail = format!(
            "paused for {} s: {} in a row",
            pause.as_secs_f32(),
            counted(rule.failures, "failure", "failures")
        );
        info!(
            pool = health.pool.as_str(),
            server = health.name.as_str(),
            reason = health.detail,
            "server paused"
        );
        self.expect(until);
        self.push_id(id);
    }

    /// Some server is due at this time, or before.
    fn expect(&mut self, at: Instant) {
        self.server_due = Some(self.server_due.map_or(at, |due| due.min(at)));
    }

    /// What time alone changes of servers: pauses end, those that nobody probes are tried again.
    pub(super) fn end_waits(&mut self, now: Instant) {
        self.end_pauses(now);
        let due = self.servers.iter().filter(|(_, s)| s.retry_at.is_some_and(|at| at <= now));
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(server) = self.servers.get_mut(&id) {
                server.retry_at = None;
                server.health = Health::new(1, 1);
                server.detail = "not probed; tried again after a refusal".into();
                self.turned(id, Transition::Up);
            }
        }
        self.server_due = self.servers.values().filter_map(|server| server.due(now)).min();
    }

    fn end_pauses(&mut self, now: Instant) {
        let due = self.servers.iter().filter(|(_, s)| s.paused_until.is_some_and(|until| until <= now));
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(server) = self.servers.get_mut(&id) {
                server.paused_until = None;
                server.since_ms = wall_ms();
                server.up_since_ms = Some(monotonic_ms());
                server.detail = "tried again after a pause".into();
                info!(pool = server.pool.as_str(), server = server.name.as_str(), "server's pause has ended");
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
        let Some((pool, server)) = self.find_id(id) else { return };
        let check = pool.pool.check_of(&server.server);
        let unprobed = check.probe == Probe::None || !server.server.check;
        if let Some(health) = self.servers.get_mut(&id).filter(|_| unprobed) {
            let at = Instant::now() + check.interval;
            health.retry_at = Some(at);
            self.expect(at);
        }
    }

    pub fn turned(&mut self, id: u32, transition: Transition) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        server.since_ms = wall_ms();
        let up = transition == Transition::Up;
        if !up || server.outages.is_some() {
            server.outages.get_or_insert_default().turned(up, server.since_ms);
        }
        server.up_since_ms = up.then(monotonic_ms);
        let (from, to) = if up { ("down", "up") } else { ("up", "down") };
        info!(
            pool = server.pool.as_str(),
            server = server.name.as_str(),
            from,
            to,
            reason = server.detail,
            "server state changed"
        );
        let (pool, name, reason) = (server.pool.clone(), server.name.clone(), server.detail.clone());
        // Down by its agent it is told of already, and stays so.
        if self.servers.get(&id).is_some_and(|s| s.agent.up != Some(false)) {
            self.server_turned(pool.as_str(), name.as_str(), up, &reason);
        }
        self.push_id(id);
        self.tell_watcher(id, if up { Turn::Up } else { Turn::Down });
    }

    fn tell_watcher(&self, id: u32, turn: Turn) {
        let (Some(watcher), Some(health)) = (&self.watcher, self.servers.get(&id)) else { return };
        let Some((pool, server)) = self.find_id(id) else { return };
        let serves = |s: &ServerSpec| {
            self.engine.state(s.id).is_some_and(|state| state.up && state.admin == AdminState::Online)
        };
        let serving = |backup: bool| match turn {
            // Nobody asks after each probe.
            Turn::Probed => 0,
            _ => pool.servers.iter().filter(|s| s.server.backup == backup && serves(s)).count(),
        };
        let check = pool.pool.check_of(&server.server);
        watcher(&ServerTurn {
            pool: health.pool.as_str(),
            server: health.name.as_str(),
            turn,
            report: health.last.as_deref(),
            probe: &check.probe,
            rise: check.rise,
            fall: check.fall,
            active: serving(false),
            backup: serving(true),
            connections: server.counters.sum(|c| c.current.get()),
        });
    }
}

impl ServerHealth {
    pub fn new(
        pool: &PoolSpec,
        server: &ServerSpec,
        inherited: Option<&handover::ServerState>,
    ) -> ServerHealth {
        let check = pool.pool.check_of(&server.server);
        ServerHealth {
            pool: pool.pool.name.clone(),
            name: server.server.name.clone(),
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
            last: None,
            outages: None,
        }
    }

    /// When time alone may change it next.
    fn due(&self, now: Instant) -> Option<Instant> {
        // Whether its pauses are forgotten is looked at every second.
        let good = (self.pauses > 0).then(|| now + Duration::from_secs(1));
        self.paused_until.or(good).into_iter().chain(self.retry_at).min()
    }

    /// The same server under a new configuration.
    pub fn renew(self, pool: &PoolSpec, server: &ServerSpec) -> ServerHealth {
        let check = pool.pool.check_of(&server.server);
        let unprobed = check.probe == Probe::None || !server.server.check;
        let health = match self.health.is_up() {
            // Nothing would ever bring it back.
            false if unprobed => Health::new(check.rise, check.fall),
            _ => self.health.clone().with_limits(check.rise, check.fall),
        };
        ServerHealth { health, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are tens of thousands of them: what few have is behind a pointer.
    #[test]
    fn what_is_known_of_a_server_is_small() {
        assert!(size_of::<ServerHealth>() <= 208, "{} bytes", size_of::<ServerHealth>());
    }
}
