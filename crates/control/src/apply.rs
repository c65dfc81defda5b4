//! Makes a snapshot the running configuration, whole or not at all. Everything that can fail comes
//! first (`make_ready`) and changes nothing that others see; what follows (`switch_to`) cannot fail. Where
//! a later part refuses, those before it go back to what was.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_files::Staged;
use evenkeel_health::Target;
use evenkeel_l4::{ProbeSpec, ServiceSpec};
use evenkeel_l7::{EngineConfig, PoolSpec, PreparedEngine, ServerSpec};
use evenkeel_model::{HealthCheck, Probe, Snapshot};
use tracing::{info, warn};

use super::addresses;
use super::administration::{Prepared, Sockets};
use super::control::{Control, state_of, vip_of};
use super::handover;
use super::layer4;
use super::overrides::Overrides;
use super::pair::{self, Moving, Pair, PeerLink, Resume, Tables};
use super::run_time::under_file;
use super::servers::ServerHealth;
use super::sync::Sync;

/// A configuration for which everything is there.
struct Ready {
    snapshot: Arc<Snapshot>,
    configured: Arc<Snapshot>,
    overrides: Overrides,
    /// What is known of those that are new, or under other rules now.
    servers: HashMap<u32, ServerHealth>,
    doors: Prepared,
    engine: PreparedEngine,
    probing: Probing,
    pair: Option<PreparedPair>,
}

/// Which servers are probed, and how.
#[derive(Default)]
struct Probing {
    targets: Vec<Target>,
    /// Servers of several pools that are probed alike are probed once.
    followers: HashMap<u32, Vec<u32>>,
    /// Those that go through a VIP of layer 4.
    through_vip: Vec<ProbeSpec>,
}

/// This node's part in a pair, started but not yet told to anybody.
pub(super) struct PreparedPair {
    pair: Pair,
    link: Option<(PeerLink, Arc<Tables>)>,
}

impl Control {
    /// Applies the configuration that runs, with servers that were found or changed meanwhile. Its files are
    /// not read anew.
    pub(super) fn apply_again(&mut self) -> Result<(), String> {
        let configured = (*self.configured).clone();
        self.engine.keep_files(true);
        let applied = self.apply_quietly(configured, &[], None);
        self.engine.keep_files(false);
        applied
    }

    /// Makes a snapshot the running configuration; `file` is what the configuration's file shall
    /// hold, where that is part of the change. After an error everything is as it was.
    pub(super) fn apply(
        &mut self,
        new: Snapshot,
        inherited: &[handover::ServerState],
        file: Option<&str>,
    ) -> Result<(), String> {
        self.apply_quietly(new, inherited, file)?;
        self.log_warnings();
        Ok(())
    }

    fn apply_quietly(
        &mut self,
        new: Snapshot,
        inherited: &[handover::ServerState],
        file: Option<&str>,
    ) -> Result<(), String> {
        let file = file.map(|text| self.stage_file(text)).transpose()?.flatten();
        let overrides = under_file(&self.overrides, &self.configured, &new);
        let settled = self.discovery.settle(&new, &self.snapshot, &overrides);
        let ready = self.make_ready(Arc::new(settled), Arc::new(new), overrides, inherited, file)?;
        // Who has had an answer finds the process's other sockets, too.
        self.about_to_serve.take().into_iter().for_each(|about| about());
        self.switch_to(ready);
        Ok(())
    }

    /// Whether a configuration could be applied: whatever can fail is tried (files, sockets, rights,
    /// the disk) and taken back. What runs is not touched.
    pub(super) fn try_out(&mut self, new: &Snapshot, file: &str) -> Result<(), String> {
        let overrides = under_file(&self.overrides, &self.configured, new);
        let new = &self.discovery.settle(new, &self.snapshot, &overrides);
        self.check_storage(file)?;
        let _staged = self.stage_file(file)?;
        if let Some(administration) = &self.administration {
            administration.prepare(new, Sockets::new())?;
        }
        self.acme.shut_doors();
        self.engine.prepare(new, not_here_yet(new)).map_err(|e| e.to_string())?;
        let was_transparent = self.transparent;
        self.set_up_transparency(new)?;
        let tried = self.layer4.try_out(new, &new.state_directory);
        let asking = self.asking(new);
        let tried = tried.and_then(|()| self.addresses.prepare(&self.snapshot, new, &asking));
        let tried = tried.and_then(|()| self.node.prepare(self.snapshot.node.as_ref(), new.node.as_ref()));
        self.addresses.take_back();
        if !was_transparent {
            self.clean_up();
        }
        tried
    }

    /// The new content of the configuration's file, beside it; nothing where it holds that already.
    fn stage_file(&self, text: &str) -> Result<Option<Staged>, String> {
        if std::fs::read(&self.path).is_ok_and(|now| now == text.as_bytes()) {
            return Ok(None);
        }
        Staged::write(&self.path, text.as_bytes()).map(Some).map_err(|e| self.unwritable(&e))
    }

    fn unwritable(&self, error: &std::io::Error) -> String {
        format!("{} cannot be written: {error}; nothing was changed", self.path.display())
    }

    /// Does everything that can fail.
    fn make_ready(
        &mut self,
        new: Arc<Snapshot>,
        configured: Arc<Snapshot>,
        overrides: Overrides,
        inherited: &[handover::ServerState],
        file: Option<Staged>,
    ) -> Result<Ready, String> {
        let doors = match &self.administration {
            Some(administration) => administration.prepare(&new, Sockets::new())?,
            None => Prepared::default(),
        };
        let overrides = overrides_under(overrides, &self.snapshot, &new);
        self.acme.shut_doors();
        let engine = self.engine.prepare(&new, not_here_yet(&new)).map_err(|e| e.to_string())?;
        let servers = self.servers_under(engine.config(), inherited);
        let known = |id: u32| servers.get(&id).or_else(|| self.servers.get(&id));
        let specs = layer4_specs(engine.config(), &overrides, known);
        let probing = probing(&new, engine.config());
        let was_transparent = self.transparent;
        self.set_up_transparency(&new)?;
        let asking = self.asking(&new);
        let rest = self.layer4.prepare(&new, &new.state_directory).and_then(|()| {
            self.layer4.apply(&new, specs, probing.through_vip.clone())?;
            self.node.prepare(self.snapshot.node.as_ref(), new.node.as_ref())?;
            self.addresses.prepare(&self.snapshot, &new, &asking)?;
            let pair = self.prepare_pair(&new, None)?;
            let stored = file.map_or(Ok(()), Staged::replace).map_err(|e| self.unwritable(&e));
            match (stored, pair) {
                (Ok(()), pair) => Ok(pair),
                (Err(why), pair) => {
                    if let Some(started) = pair {
                        let _ = started.pair.stop(pair::End::Restart);
                    }
                    Err(why)
                }
            }
        });
        match rest {
            Ok(pair) => {
                Ok(Ready { snapshot: new, configured, overrides, servers, doors, engine, probing, pair })
            }
            Err(why) => {
                self.addresses.take_back();
                self.restore_layer4();
                if !was_transparent {
                    self.clean_up();
                }
                Err(why)
            }
        }
    }

    /// Cannot fail.
    fn switch_to(&mut self, ready: Ready) {
        let Ready { snapshot, configured, overrides, servers, doors, engine, probing, pair } = ready;
        self.overrides = overrides;
        self.servers.extend(servers);
        let (states, known) = (&self.overrides, &self.servers);
        self.engine.replace(engine, |pool, server| match known.get(&server.id) {
            Some(health) => state_of(states, health, pool, server),
            None => state_of(states, &ServerHealth::new(pool, server, None), pool, server),
        });
        // The engine knows those of the configuration alone.
        let engine = &self.engine;
        self.servers.retain(|id, _| engine.state(*id).is_some());
        self.snapshot = snapshot.clone();
        self.configured = configured;
        self.followers = probing.followers;
        self.push_states();
        // Layer 4 was told with the configuration.
        self.changed_pools.clear();
        self.layer4.settle(&snapshot);
        // After the packet path knows them.
        self.checker.set_targets(probing.targets);
        if self.transparent && !wants_transparency(&snapshot) {
            self.clean_up();
            info!("full transparency is removed");
        }
        self.store_sockets();
        if let Some(administration) = &mut self.administration {
            administration.reconfigure(&snapshot, doors);
        }
        self.recorder.reconfigure(&snapshot);
        self.follow_alerts();
        self.follow_snmp();
        self.follow_acme();
        self.follow_pair(pair);
        let news = self.addresses.settle(&snapshot, &self.layer4);
        self.tell_of_addresses(news);
        self.node.settle(snapshot.node.as_ref());
        self.follow_discovery();
    }

    /// Layer 4 as the running configuration has it.
    fn restore_layer4(&mut self) {
        let snapshot = self.snapshot.clone();
        let known = |id: u32| self.servers.get(&id);
        let specs = layer4_specs(self.engine.config(), &self.overrides, known);
        let probes = probing(&snapshot, self.engine.config()).through_vip;
        if let Err(why) = self.layer4.apply(&snapshot, specs, probes) {
            warn!(why, "layer 4 cannot go back to what it was");
        }
        self.layer4.settle(&snapshot);
    }

    /// What is known of the servers of a configuration, as far as that differs from what is known now.
    fn servers_under<'a>(
        &self,
        config: &EngineConfig,
        inherited: &'a [handover::ServerState],
    ) -> HashMap<u32, ServerHealth> {
        let by_name = |s: &'a handover::ServerState| ((s.pool.as_str(), s.name.as_str(), s.address), s);
        let inherited: HashMap<_, _> = inherited.iter().map(by_name).collect();
        let running = self.engine.config().pools.iter().map(|pool| (pool.id, pool));
        let running: HashMap<u32, &Arc<PoolSpec>> = running.collect();
        let mut servers = HashMap::new();
        for pool in &config.pools {
            let stays = running.get(&pool.id).is_some_and(|before| Arc::ptr_eq(before, pool));
            for server in &pool.servers {
                let health = match self.servers.get(&server.id) {
                    Some(old) if stays && old.health.is_up() => continue,
                    Some(old) => old.clone().renew(pool, server),
                    None => {
                        let (pool_name, name) = (pool.pool.name.as_str(), server.server.name.as_str());
                        let known = inherited.get(&(pool_name, name, server.server.address));
                        ServerHealth::new(pool, server, known.copied())
                    }
                };
                servers.insert(server.id, health);
            }
        }
        servers
    }

    /// Sets up what full transparency needs of the kernel, where it is not there yet.
    fn set_up_transparency(&mut self, new: &Snapshot) -> Result<(), String> {
        if wants_transparency(new) && !self.transparent {
            evenkeel_platform::set_up_transparency().map_err(|why| {
                format!("source = \"client\" cannot be set up: {why}; it needs root, nft and ip")
            })?;
            info!("full transparency is set up: nftables table evenkeel_transparency, routing table 17739");
            self.transparent = true;
        }
        Ok(())
    }

    /// Starts this node's part in a pair, where the configuration is the first with one.
    pub(super) fn prepare_pair(
        &self,
        new: &Snapshot,
        resume: Option<Resume>,
    ) -> Result<Option<PreparedPair>, String> {
        let (Some(news), None, Some(settings)) = (&self.pair_news, &self.pair, &new.pair) else {
            return Ok(None);
        };
        let goes_on = || Resume { active: true, life: pair::random(), ..Resume::default() };
        let resume = resume.or_else(|| self.begins_pair.then(goes_on));
        let mut moving = Moving::of(new);
        moving.leave(addresses::left_in_use(new, &self.layer4));
        let pair = Pair::start(settings.clone(), new, resume, moving, news.roles.clone())?;
        if settings.peer.is_none() {
            return Ok(Some(PreparedPair { pair, link: None }));
        }
        let folder = new.state_directory.join("pair");
        let journal = new.state_directory.join("clients.journal");
        match PeerLink::start(settings, &folder, journal, news.peer.clone()) {
            Ok(link) => Ok(Some(PreparedPair { pair, link: Some(link) })),
            Err(why) => {
                pair.stop(pair::End::Restart);
                Err(why)
            }
        }
    }

    pub(super) fn follow_pair(&mut self, ready: Option<PreparedPair>) {
        let snapshot = self.snapshot.clone();
        if let Some(PreparedPair { pair, link }) = ready {
            self.pair = Some(pair);
            if let Some((link, tables)) = link {
                self.sync = Sync::with(link, tables);
            }
        } else if let (Some(pair), Some(settings)) = (&mut self.pair, &snapshot.pair) {
            pair.apply(settings, &snapshot);
        } else if let Some(pair) = self.pair.take() {
            pair.stop(pair::End::Restart);
            self.sync = Sync::default();
            info!("this node is no longer part of a pair");
        }
        let Some(pair) = &self.pair else { return };
        pair.set_revision(self.overrides.revision());
        if let Some(plane) = self.layer4.plane() {
            pair.set_gate(plane.gate());
        }
        self.follow_services();
    }
}

/// Which addresses this node is given after its sockets are bound, or another node has now.
fn not_here_yet(new: &Snapshot) -> impl Fn(IpAddr) -> bool {
    let (placed, of_a_pair) = (addresses::placed_by_us(new), new.pair.is_some());
    move |address| of_a_pair || placed.contains(&address)
}

fn wants_transparency(snapshot: &Snapshot) -> bool {
    snapshot.pools.iter().any(|p| p.is_transparent())
}

/// A live change lasts until the file itself says something new for that server.
fn overrides_under(mut overrides: Overrides, old: &Snapshot, new: &Snapshot) -> Overrides {
    if !overrides.have_states() {
        return overrides;
    }
    let old: HashMap<_, _> = old.pools.iter().map(|p| (&p.name, p)).collect();
    for pool in &new.pools {
        let Some(before) = old.get(&pool.name).filter(|before| !Arc::ptr_eq(before, pool)) else { continue };
        let servers: HashMap<_, _> = before.real_servers.iter().map(|s| (&s.name, s)).collect();
        for server in &pool.real_servers {
            let Some(was) = servers.get(&server.name) else { continue };
            let (admin, weight) = (was.admin_state != server.admin_state, was.weight != server.weight);
            overrides.forget(pool.name.as_str(), server.name.as_str(), admin, weight);
        }
    }
    overrides
}

/// Services of layer 4 as the packet path needs them.
fn layer4_specs<'a>(
    config: &EngineConfig,
    overrides: &Overrides,
    known: impl Fn(u32) -> Option<&'a ServerHealth>,
) -> Vec<ServiceSpec> {
    let pools: HashMap<u32, _> = config.pools.iter().map(|p| (p.id, p)).collect();
    let services = config.services.iter().filter(|s| s.service.mode.is_layer4());
    services
        .filter_map(|service| {
            let pool = pools.get(&service.pool_id)?;
            let by_id: HashMap<u32, _> = pool.servers.iter().map(|s| (s.id, s)).collect();
            layer4::specify(&service.service, pool, |id| {
                Some(state_of(overrides, known(id)?, pool, by_id.get(&id)?))
            })
        })
        .collect()
}

/// Who is probed under a configuration.
fn probing(snapshot: &Snapshot, config: &EngineConfig) -> Probing {
    let mut probing = Probing::default();
    let mut alike = HashMap::new();
    // The check that servers of a pool have in common.
    let mut common: Option<(&HealthCheck, Arc<HealthCheck>)> = None;
    for pool in &config.pools {
        for server in &pool.servers {
            // There is nobody to ask yet.
            if !server.server.is_placed() {
                continue;
            }
            let own = pool.pool.check_of(&server.server);
            let asks = server.server.check && (own.probe != Probe::None || own.agent.is_some());
            if !asks && !own.through_vip {
                continue;
            }
            let mut address = server.server.address;
            if address.port() == 0 {
                address.set_port(own.port.unwrap_or(0));
            }
            let through_vip = match own.through_vip {
                true => layer4::probe(snapshot, &pool.pool, server.id, address.ip()),
                false => None,
            };
            let is_plain = server.server.check && !own.fill_in && through_vip.is_none();
            let check = match &common {
                Some((of, common)) if is_plain && std::ptr::eq(*of, own) => Arc::clone(common),
                _ => {
                    let check = Arc::new(check_as(own, server, through_vip.as_ref()));
                    common = is_plain.then(|| (own, check.clone()));
                    check
                }
            };
            probing.through_vip.extend(through_vip);
            let is_script = matches!(check.probe, Probe::Script(_));
            let vip = if is_script { vip_of(snapshot, &pool.pool) } else { None };
            // Probes speak TLS as traffic does.
            let tls = server.server.tls(&pool.pool).cloned();
            let key = (address, check.clone(), vip, tls.clone());
            match alike.get(&key) {
                Some(&first) => probing.followers.entry(first).or_default().push(server.id),
                None => {
                    alike.insert(key, server.id);
                    probing.targets.push(Target { id: server.id, address, vip, tls, check });
                }
            }
        }
    }
    probing
}

/// A check as it is made of this server.
fn check_as(own: &HealthCheck, server: &ServerSpec, through_vip: Option<&ProbeSpec>) -> HealthCheck {
    let mut check = own.of(server.server.name.as_str());
    if !server.server.check {
        (check.probe, check.agent) = (Probe::None, None);
    }
    if let Some(probe) = through_vip {
        check.mark = probe.mark;
    }
    check
}
