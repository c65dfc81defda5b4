//! Times in which real servers are drained or halted, and come back by themselves. Both nodes of a pair know
//! them; the active one carries them out.

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_api as api;
use evenkeel_model::AdminState;
use tracing::warn;

use super::control::{Control, wall_ms};
use super::overrides::Maintenance;

const MOST: usize = 100;
const MOST_SERVERS: usize = 1_000;
const LONGEST_MS: u64 = 30 * 86_400_000;
const LONGEST_MESSAGE: usize = 500;

fn invalid(why: impl Into<String>) -> Refused {
    Refused::new(FailureKind::Invalid, why)
}

fn described(id: &str, of: &Maintenance) -> api::MaintenanceWindow {
    api::MaintenanceWindow {
        id: id.into(),
        servers: of.servers.clone(),
        from_ms: of.from_ms,
        until_ms: of.until_ms,
        admin_state: of.admin_state.clone(),
        begun: of.begun,
        by: of.by.clone(),
        message: of.message.clone(),
    }
}

impl Control {
    /// Those to come and those that are on, in the order of their beginning.
    pub fn maintenance(&self) -> Vec<api::MaintenanceWindow> {
        let mut all: Vec<_> = self.overrides.maintenance().iter().map(|(id, of)| described(id, of)).collect();
        all.sort_by_key(|one| one.from_ms);
        all
    }

    pub fn plan_maintenance(
        &mut self,
        planned: &api::PlannedMaintenance,
        by: &str,
    ) -> Result<api::MaintenanceWindow, Refused> {
        let now = wall_ms();
        let from_ms = planned.from_ms.unwrap_or(now);
        let admin_state = planned.admin_state.as_deref().unwrap_or("draining");
        if !matches!(AdminState::parse(admin_state), Some(AdminState::Draining | AdminState::Halted)) {
            return Err(invalid(format!("admin-state is draining or halted, not {admin_state:?}")));
        }
        if planned.until_ms <= from_ms.max(now) {
            return Err(invalid("a maintenance ends after its beginning, and not in the past"));
        }
        if planned.until_ms - from_ms > LONGEST_MS {
            return Err(invalid("a maintenance lasts 30 days at most"));
        }
        if planned.servers.is_empty() || planned.servers.len() > MOST_SERVERS {
            return Err(invalid("name the real servers, as SERVICE/SERVER each, 1000 at most"));
        }
        if self.overrides.maintenance().len() >= MOST {
            return Err(invalid("100 are planned already: end some of them first"));
        }
        for name in &planned.servers {
            self.server_named(name)?;
        }
        let message = planned.message.as_deref().unwrap_or("");
        let message: String = message.chars().filter(|c| !c.is_control()).take(LONGEST_MESSAGE).collect();
        let window = Maintenance {
            servers: planned.servers.clone(),
            from_ms,
            until_ms: planned.until_ms,
            admin_state: admin_state.into(),
            begun: false,
            turned: Vec::new(),
            by: by.into(),
            message,
        };
        let ids = self.overrides.maintenance().keys().filter_map(|id| id.parse::<u64>().ok());
        let id = (ids.max().unwrap_or(0) + 1).to_string();
        let mut changed = self.overrides.clone();
        changed.set_maintenance(&id, Some(window.clone()));
        changed.save().map_err(|e| {
            Refused::new(FailureKind::Failed, format!("it could not be stored: {e}; nothing was changed"))
        })?;
        self.overrides = changed;
        self.tell_live();
        self.tick_maintenance();
        let now = self.overrides.maintenance().get(&id).unwrap_or(&window);
        Ok(described(&id, now))
    }

    /// At once: what it has turned is online again.
    pub fn end_maintenance(&mut self, id: &str) -> Result<api::MaintenanceWindow, Refused> {
        let Some(window) = self.overrides.maintenance().get(id).cloned() else {
            let why = format!("there is no maintenance {id}: `evenkeel maintenance list` has those that are");
            return Err(Refused::new(FailureKind::NotFound, why));
        };
        self.finish(id, &window, "is ended");
        Ok(described(id, &window))
    }

    fn server_named(&self, name: &str) -> Result<AdminState, Refused> {
        let Some((service, server)) = name.split_once('/') else {
            return Err(invalid(format!("{name:?} is no SERVICE/SERVER")));
        };
        let pool = self.pool_of(service)?;
        let found = pool.servers.iter().find(|s| s.server.name.as_str() == server);
        let state = found.and_then(|s| self.engine.state(s.id)).map(|s| s.admin);
        let missing =
            || Refused::new(FailureKind::NotFound, format!("{service} has no real server {server}"));
        state.ok_or_else(missing)
    }

    /// Once a second: begins and ends what is due.
    pub(super) fn tick_maintenance(&mut self) {
        if self.overrides.maintenance().is_empty() || self.role() != "active" {
            return;
        }
        let now = wall_ms();
        for (id, window) in self.overrides.maintenance().clone() {
            if now >= window.until_ms {
                let how = if window.begun { "is over" } else { "was missed: no node was there at its time" };
                self.finish(&id, &window, how);
            } else if now >= window.from_ms && !window.begun {
                self.begin(&id, window);
            }
        }
    }

    fn begin(&mut self, id: &str, mut window: Maintenance) {
        // Those that somebody has turned before are that person's affair.
        let online = |name: &&String| self.server_named(name).is_ok_and(|s| s == AdminState::Online);
        window.turned = window.servers.iter().filter(online).cloned().collect();
        window.begun = true;
        // What is to come back is stored before it goes.
        self.overrides.set_maintenance(id, Some(window.clone()));
        self.save_overrides();
        self.tell_live();
        self.turn(&window.turned, &window.admin_state);
        let text = format!("maintenance {id} begins: {} {}", window.turned.join(", "), window.admin_state);
        self.happen("admin-state", "info", &format!("maintenance {id}"), text);
    }

    fn finish(&mut self, id: &str, window: &Maintenance, how: &str) {
        let state = AdminState::parse(&window.admin_state);
        // What people have changed meanwhile stays.
        let still = |name: &&String| self.server_named(name).ok() == state;
        let back: Vec<String> = window.turned.iter().filter(still).cloned().collect();
        self.turn(&back, "online");
        self.overrides.set_maintenance(id, None);
        self.save_overrides();
        self.tell_live();
        let online = if back.is_empty() { String::new() } else { format!(": {} online", back.join(", ")) };
        self.happen(
            "admin-state",
            "info",
            &format!("maintenance {id}"),
            format!("maintenance {id} {how}{online}"),
        );
    }

    fn turn(&mut self, servers: &[String], state: &str) {
        let change = api::ServerChange { admin_state: Some(state.into()), weight: None };
        for name in servers {
            let Some((service, server)) = name.split_once('/') else { continue };
            if let Err(refused) = self.change(service, server, &change) {
                warn!(server = name, why = refused.failure.detail, "a maintenance cannot turn a real server");
            }
        }
    }
}
