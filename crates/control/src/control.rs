//! What runs, and every way to change it: commit, reload, drain, weights, probes, refusals.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_config::Problem;
use evenkeel_health::{AgentAdmin, Checker};
use evenkeel_l7::{Engine, PoolSpec, ServerSpec, ServerState, ServiceSpec};
use evenkeel_model::{AdminState, Pool, RealServer, Snapshot};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{error, info, warn};

use super::addresses::{self, Addresses};
use super::administration::{Administration, Sockets};
use super::discovery::Discovery;
use super::handover;
use super::happenings::Happenings;
use super::history::History;
use super::layer4::{self, Layer4};
use super::overrides::{Overrides, Unconfirmed};
use super::pair::{self, News, Pair, PairNews, Resume, Say};
use super::recorder::Recorder;
use super::servers::{ServerHealth, Watcher};
use super::sync::Sync;

/// Sockets left with the service manager; its store is bounded too.
const STORED_AT_MOST: usize = 1024;

/// How soon a renewed certificate is noticed.
const FILES_INTERVAL: Duration = Duration::from_secs(2);
/// How soon rules that somebody removed are set again.
const TRANSPARENCY_INTERVAL: Duration = Duration::from_secs(10);

pub struct Setup {
    pub path: PathBuf,
    pub engine: Engine,
    pub checker: Checker,
    pub inherited: Option<handover::State>,
    pub watcher: Option<Watcher>,
    pub about_to_serve: Option<Box<dyn FnOnce()>>,
}

pub struct Control {
    pub(super) path: PathBuf,
    /// The configuration as it runs, with what was discovered.
    pub(super) snapshot: Arc<Snapshot>,
    /// As it is written.
    pub(super) configured: Arc<Snapshot>,
    pub(super) discovery: Discovery,
    pub(super) overrides: Overrides,
    pub(super) engine: Engine,
    pub(super) checker: Checker,
    pub(super) servers: HashMap<u32, ServerHealth>,
    /// When the first of them may be due; they are not looked at before.
    pub(super) server_due: Option<Instant>,
    pub(super) watcher: Option<Watcher>,
    /// Told once, when the first configuration is ready and no client has had an answer yet.
    pub(super) about_to_serve: Option<Box<dyn FnOnce()>>,
    /// Servers that share the probes of another.
    pub(super) followers: HashMap<u32, Vec<u32>>,
    /// Names of the sockets that the service manager keeps.
    pub(super) stored: HashSet<String>,
    pub(super) started: Instant,
    /// When files that the configuration names are looked at again.
    pub(super) files_at: Instant,
    pub(super) files_refused: Option<String>,
    /// Full transparency is set up; looked at again at this time.
    pub(super) transparent: bool,
    pub(super) transparent_at: Instant,
    pub(super) layer4: Layer4,
    /// The VIPs and floating addresses of a single node.
    pub(super) addresses: Addresses,
    /// The machine itself.
    pub(super) node: super::node::NodeKeeper,
    /// This node's part in a pair, once it may be played.
    pub(super) pair: Option<Pair>,
    pub(super) pair_news: Option<PairNews>,
    /// A pair is being made of this node, which serves alone and goes on.
    pub(super) begins_pair: bool,
    /// It takes what the peer has committed, or has had: the peer has asked whether it can be.
    pub(super) follows_peer: bool,
    pub(super) sync: Sync,
    pub(super) keeping: super::keep::Keeping,
    pub(super) acme: super::acme::Acme,
    pub(super) history: History,
    /// What runs, as it was written.
    pub(super) text: String,
    pub(super) administration: Option<Administration>,
    pub(super) happenings: Happenings,
    pub(super) snmp: super::snmp::Snmp,
    pub(super) recorder: Recorder,
    pub(super) storage: super::storage::Storage,
    pub(super) sharing: super::sharing::Sharing,
    pub(super) last_read: std::cell::RefCell<super::reading::LastRead>,
    pub(super) certificates_read: super::certificates::Read,
    pub(super) list_warnings: super::warnings::ListWarnings,
    /// What is told to those who watch.
    pub(super) status_feed: Option<Arc<tokio::sync::watch::Sender<Option<Arc<api::Status>>>>>,
    second_at: Instant,
    /// Pools whose servers have states that layer 4 does not know yet.
    pub(super) changed_pools: HashSet<u32>,
}

impl Control {
    pub fn start(setup: Setup, text: String, snapshot: Snapshot) -> Result<Control, String> {
        let mut overrides = Overrides::load(&snapshot.state_directory);
        let inherited = setup.inherited.unwrap_or_default();
        setup.engine.adopt_tickets(inherited.ticket_keys.clone());
        overrides.set_text(&text, inherited.revision);
        let mut control = Control {
            path: setup.path,
            snapshot: Arc::new(snapshot.clone()),
            configured: Arc::new(snapshot.clone()),
            discovery: Discovery::start(&snapshot.state_directory).map_err(|e| e.to_string())?,
            overrides,
            engine: setup.engine,
            checker: setup.checker,
            servers: HashMap::new(),
            server_due: None,
            watcher: setup.watcher,
            about_to_serve: setup.about_to_serve,
            followers: HashMap::new(),
            stored: HashSet::new(),
            started: Instant::now(),
            files_at: Instant::now() + FILES_INTERVAL,
            files_refused: None,
            transparent: false,
            transparent_at: Instant::now(),
            layer4: Layer4::default(),
            addresses: Addresses::default(),
            node: super::node::NodeKeeper::new(&snapshot.state_directory),
            pair: None,
            pair_news: None,
            begins_pair: false,
            follows_peer: false,
            sync: Sync::default(),
            keeping: super::keep::Keeping::default(),
            acme: super::acme::Acme::new(&snapshot.state_directory),
            history: History::new(&snapshot.state_directory),
            text: text.clone(),
            administration: None,
            happenings: Happenings::open(&snapshot.state_directory),
            snmp: super::snmp::Snmp::default(),
            recorder: Recorder::default(),
            storage: super::storage::Storage::default(),
            sharing: super::sharing::Sharing::default(),
            last_read: std::cell::RefCell::default(),
            certificates_read: super::certificates::Read::default(),
            list_warnings: Vec::new(),
            status_feed: None,
            second_at: Instant::now(),
            changed_pools: HashSet::new(),
        };
        control.begin_discovery(&snapshot);
        control.apply(snapshot, &inherited.servers, None)?;
        control.engine.forget_adopted();
        let about = api::CommitOptions { author: Some("the file at a start".into()), ..Default::default() };
        control.history.keep(control.revision(), &control.text, &about);
        control.restore_persistence(&inherited.persistence);
        if control.snapshot.pair.is_some() && inherited.persistence.is_empty() {
            let journal = control.snapshot.state_directory.join("clients.journal");
            let entries = pair::replay(&journal, &pair::tables_of(control.engine.config()));
            if entries > 0 {
                info!(entries, "what was remembered of clients is there again");
            }
        }
        control.look_at_storage();
        if let Err(error) = control.overrides.save() {
            warn!(%error, directory = %control.snapshot.state_directory.display(), "the state directory cannot be written: live changes will not survive a restart");
        }
        Ok(control)
    }

    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// What is found comes here; taken once.
    pub fn found_inbox(&mut self) -> UnboundedReceiver<evenkeel_discover::News> {
        self.discovery.inbox.take().unwrap_or_else(|| unbounded_channel().1)
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn revision(&self) -> u64 {
        self.overrides.revision()
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn health(&self, server: u32) -> Option<&ServerHealth> {
        self.servers.get(&server)
    }

    // Configuration

    pub fn plan(&self, text: &str) -> Result<api::Plan, Refused> {
        Ok(self.plan_with_questions(text)?.0)
    }

    pub(super) fn plan_with_questions(
        &self,
        text: &str,
    ) -> Result<(api::Plan, Option<addresses::Questions>), Refused> {
        let new = self.read(text)?;
        self.plan_to(text, &new)
    }

    /// A plan of which the network was asked whether others have the addresses that would come here.
    pub(super) fn plan_when_asked(&self, text: String, to: Reply<api::Plan>) {
        let (plan, questions) = match self.plan_with_questions(&text) {
            Ok(planned) => planned,
            Err(refused) => return drop(to.send(Err(refused))),
        };
        crate::parts::ask_for(questions, move |taken| {
            let _ = to.send(match taken {
                Some((address, why)) => Err(cannot_be_here(&text, address, &why)),
                None => Ok(plan),
            });
        });
    }

    pub(super) fn propose_when_asked(&self, edits: api::Edits, to: Reply<api::Proposal>) {
        let (mut proposal, questions) = match self.propose(edits) {
            Ok(proposed) => proposed,
            Err(refused) => return drop(to.send(Err(refused))),
        };
        crate::parts::ask_for(questions, move |taken| {
            if let Some((address, why)) = taken {
                proposal.problems = cannot_be_here(&proposal.text, address, &why).failure.problems;
                proposal.plan = None;
            }
            let _ = to.send(Ok(proposal));
        });
    }

    fn plan_to(
        &self,
        text: &str,
        new: &Snapshot,
    ) -> Result<(api::Plan, Option<addresses::Questions>), Refused> {
        self.check_pair_name(new)?;
        let addresses = addresses::foresee(&self.snapshot, new, &self.asking(new));
        let (addresses, questions) =
            addresses.map_err(|(address, why)| cannot_be_here(text, address, &why))?;
        let steps = evenkeel_config::plan(&self.configured, new).steps.into_iter();
        let steps = steps.map(|step| api::PlanStep {
            action: step.action.into(),
            subject: step.subject,
            detail: step.detail,
            impact: step.impact.as_str().into(),
        });
        let steps = addresses.into_iter().chain(steps).collect();
        let mut notes = addresses::gateways(&self.snapshot, new);
        notes.extend(evenkeel_config::orders(&self.snapshot, new));
        notes.extend(self.discovery.notes(new));
        notes.extend(super::run_time::notes(&self.overrides, &self.configured, new));
        let plan = api::Plan {
            from: self.revision(),
            steps,
            peer: self.peer_would(new),
            notes,
            warnings: self.warnings_of(new),
        };
        Ok((plan, questions))
    }

    /// Makes a text the running configuration and the file's content, or changes nothing.
    /// The revision gets at least this number.
    pub fn commit_as(
        &mut self,
        text: String,
        revision: u64,
        options: &api::CommitOptions,
    ) -> Result<api::Committed, Refused> {
        let new = self.read(&text)?;
        let (plan, _) = self.plan_to(&text, &new)?;
        self.apply(new, &[], Some(&text)).map_err(|e| Refused::new(FailureKind::Failed, e))?;
        self.committed(&text, revision, options);
        let confirm_within_ms = self.overrides.unconfirmed().and(options.confirm_ms);
        Ok(api::Committed { confirm_within_ms, peer: None, revision: self.revision(), plan })
    }

    fn committed(&mut self, text: &str, revision: u64, options: &api::CommitOptions) {
        text.clone_into(&mut self.text);
        self.forget_last_read();
        // A second commit is confirmed with the first: both go back to what was before.
        let back_to = self.overrides.unconfirmed().map_or(self.revision(), |u| u.back_to);
        self.overrides.set_text(text, revision);
        self.history.keep(self.revision(), text, options);
        self.overrides.set_unconfirmed(options.confirm_ms.map(|ms| Unconfirmed {
            revision: self.overrides.revision(),
            until_ms: wall_ms() + ms,
            back_to,
        }));
        self.save_overrides();
        if let Some(pair) = &self.pair {
            pair.set_revision(self.revision());
        }
        info!(revision = self.revision(), "configuration committed");
        let author = options.author.as_deref().unwrap_or("somebody");
        let why = options.message.as_deref().map_or_else(String::new, |m| format!(": {m}"));
        let told = format!("{author} committed revision {}{why}", self.revision());
        self.happen("configuration", "info", &format!("revision {}", self.revision()), told);
    }

    /// SIGHUP: applies the file if it is valid, and says why if it is not.
    pub fn reload(&mut self) {
        evenkeel_platform::notify_service_manager("RELOADING=1");
        self.engine.log().reopen();
        let result = match crate::text::read_file(&self.path) {
            Ok(text) => match evenkeel_config::read(&text) {
                Ok(mut new) => {
                    new.share(&self.configured);
                    let about =
                        api::CommitOptions { author: Some("the edited file".into()), ..Default::default() };
                    self.apply(new, &[], None).map(|()| self.committed(&text, 0, &about))
                }
                Err(problems) => Err(first_problem(&text, &problems)),
            },
            Err(failure) => Err(failure.message),
        };
        self.tell_configuration();
        if let Err(why) = result {
            error!(file = %self.path.display(), why, "the configuration was not applied; the old one runs on");
        }
        evenkeel_platform::notify_service_manager("READY=1");
    }

    /// Opens the doors of the administration.
    pub fn start_administration(
        &mut self,
        handle: evenkeel_admin::Handle,
        adopted: Sockets,
    ) -> Result<(), crate::outcome::Failure> {
        let status = Arc::new(tokio::sync::watch::channel(None).0);
        let feed = evenkeel_admin::Feed { status: status.clone(), happenings: self.happenings.feed() };
        let (snapshot, node) = (self.snapshot.clone(), self.node_name());
        self.start_snmp(handle.clone());
        self.status_feed = Some(status);
        self.administration = Some(Administration::start(&snapshot, &node, handle, feed, adopted)?);
        Ok(())
    }

    pub fn administration(&self) -> Option<&Administration> {
        self.administration.as_ref()
    }

    pub fn administration_mut(&mut self) -> Option<&mut Administration> {
        self.administration.as_mut()
    }

    /// From now on this process plays the node's part in a pair, if the configuration has one.
    pub fn start_pair(&mut self, news: PairNews, resume: Option<Resume>) -> Result<(), String> {
        self.pair_news = Some(news);
        if let Some(settings) = &self.snapshot.pair {
            self.keeping = super::keep::Keeping::begin(resume.is_some(), settings.keep);
        }
        let ready = self.prepare_pair(&self.snapshot.clone(), resume)?;
        self.follow_pair(ready);
        Ok(())
    }

    pub fn sync(&self) -> &Sync {
        &self.sync
    }

    pub fn sync_mut(&mut self) -> &mut Sync {
        &mut self.sync
    }

    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    pub fn overrides_mut(&mut self) -> &mut Overrides {
        &mut self.overrides
    }

    pub fn layer4_mut(&mut self) -> &mut Layer4 {
        &mut self.layer4
    }

    pub fn pair_mut(&mut self) -> Option<&mut Pair> {
        self.pair.as_mut()
    }

    pub fn running_text(&self) -> String {
        self.text.clone()
    }

    pub fn pair(&self) -> Option<&Pair> {
        self.pair.as_ref()
    }

    pub fn pair_or_refused(&mut self) -> Result<&mut Pair, Refused> {
        let why = "this node is part of no pair: the configuration has no [pair]";
        self.pair.as_mut().ok_or_else(|| Refused::new(FailureKind::NotFound, why))
    }

    pub fn end_pair(&mut self, end: pair::End) -> Option<Resume> {
        let pair = self.pair.take()?;
        self.sync = Sync::default();
        Some(pair.stop(end))
    }

    pub fn on_news(&mut self, news: &News) {
        pair::log(news);
        self.pair_news(news);
        match news {
            News::Role { active, handed_over, .. } => self.follow_role(*active, *handed_over),
            News::Resumed => self.resume_role(),
            News::StoodStill { stall, .. } => self.say(&Say::StoodStill { stall: stall.described() }),
            _ => {}
        }
    }

    /// `active`, `passive` or `joining`.
    pub fn role(&self) -> &'static str {
        match &self.pair {
            Some(pair) => pair.shared().view().role.map_or("joining", |role| role.as_str()),
            None => "active",
        }
    }

    /// Tells layer 4 what has changed since it was last told.
    pub fn flush_layer4(&mut self) {
        if self.changed_pools.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.changed_pools);
        let config = self.engine.config().clone();
        for pool in config.pools.iter().filter(|p| changed.contains(&p.id)) {
            for service in config.services.iter().filter(|s| s.pool_id == pool.id) {
                if let Some(spec) = layer4::specify(&service.service, pool, |id| self.engine.state(id)) {
                    self.layer4.update(spec);
                }
            }
        }
    }

    pub fn tick_layer4(&mut self) {
        self.layer4.tick();
    }

    /// The kernel has what the configuration says, whatever ran before.
    pub fn clear_leftovers(&mut self) {
        self.layer4.finish_flows(&self.snapshot);
        self.layer4.clear_leftovers(&self.snapshot);
        let news = self.addresses.inherit(&self.snapshot, &self.layer4);
        self.tell_of_addresses(news);
    }

    pub(super) fn tell_of_addresses(&mut self, news: Vec<String>) {
        news.into_iter().for_each(|why| self.happen("node", "error", "addresses", why));
    }

    /// The end of the process: the addresses that it has added stay for the next one, or go.
    pub fn end_addresses(&mut self, end: addresses::End) {
        self.addresses.end(end);
    }

    pub fn layer4(&self) -> &Layer4 {
        &self.layer4
    }

    /// The end of the process, unless another one goes on.
    pub fn clean_up(&mut self) {
        if std::mem::take(&mut self.transparent) {
            evenkeel_platform::remove_transparency();
        }
    }

    /// A service manager's stop may be half of a restart: packets are forwarded on for a while.
    /// A person's interrupt is not.
    pub fn end_layer4(&mut self, for_good: bool) {
        match for_good {
            true => self.layer4.take_away(),
            false => self.layer4.leave_running(),
        }
    }

    /// Leaves the listening sockets with the service manager, so that connections wait in the
    /// kernel while the service restarts.
    pub(super) fn store_sockets(&mut self) {
        if !evenkeel_platform::has_service_manager() {
            return;
        }
        let mut stored = HashSet::new();
        let mut count: HashMap<SocketAddr, usize> = HashMap::new();
        for (address, socket) in self.engine.listening().into_iter().take(STORED_AT_MOST) {
            let number = count.entry(address).or_default();
            *number += 1;
            let name = format!("{address}-{number}").replace(':', "_");
            if !self.stored.contains(&name) {
                evenkeel_platform::store_socket(&name, socket);
            }
            stored.insert(name);
        }
        self.stored.difference(&stored).for_each(|name| evenkeel_platform::forget_socket(name));
        self.stored = stored;
    }

    /// Tells the engine every state that differs from what it has.
    pub(super) fn push_states(&mut self) {
        for pool in &self.engine.config().pools.clone() {
            for server in &pool.servers {
                self.push_state(pool, server);
            }
        }
        self.tell_states();
    }

    /// The loops hear what has become of servers in this turn.
    pub fn tell_states(&mut self) {
        self.engine.tell_changes();
    }

    pub(super) fn push_state(&mut self, pool: &PoolSpec, server: &ServerSpec) {
        let Some(health) = self.servers.get(&server.id) else { return };
        let wanted = state_of(&self.overrides, health, pool, server);
        if self.engine.state(server.id) != Some(wanted) {
            self.engine.set_server(server.id, wanted);
            self.changed_pools.insert(pool.id);
        }
    }

    pub(super) fn find_id(&self, id: u32) -> Option<(Arc<PoolSpec>, Arc<ServerSpec>)> {
        self.engine.server(id).map(|(pool, server)| (pool.clone(), server.clone()))
    }

    pub(super) fn push_id(&mut self, id: u32) {
        if let Some((pool, server)) = self.find_id(id) {
            self.push_state(&pool, &server);
        }
    }

    pub(super) fn save_overrides(&self) {
        if let Err(error) = self.overrides.save() {
            error!(%error, "admin states and weights could not be stored");
        }
    }

    pub fn services(&self) -> &[Arc<ServiceSpec>] {
        &self.engine.config().services
    }

    // Time

    /// Servers without probes come back after their interval.
    pub fn on_tick(&mut self) {
        let now = Instant::now();
        self.layer4.tick();
        let news = self.addresses.tick(&self.snapshot, &self.layer4);
        self.tell_of_addresses(news);
        let news = self.node.news();
        news.into_iter().for_each(|why| self.happen("node", "error", "machine", why));
        self.tick_sync();
        self.tick_keeping(now);
        self.tick_storage(now);
        self.tick_sharing(now);
        self.tick_discovery(now);
        if let Some(pair) = &mut self.pair {
            if now >= self.files_at {
                pair.let_go(|leaving| addresses::in_use(leaving, &self.layer4));
            }
            let none = self.servers.is_empty();
            pair.tick(none || self.servers.values().any(|s| s.health.is_up()));
        }
        if now >= self.files_at {
            self.files_at = now + FILES_INTERVAL;
            self.look_at_files();
        }
        if now >= self.second_at {
            self.second_at = (self.second_at + Duration::from_secs(1)).max(now);
            self.on_second();
        }
        if self.transparent && now >= self.transparent_at {
            self.transparent_at = now + TRANSPARENCY_INTERVAL;
            if !evenkeel_platform::transparency_is_set_up() {
                warn!("somebody has removed what full transparency needs: setting it up again");
                if let Err(why) = evenkeel_platform::set_up_transparency() {
                    error!(why, "full transparency cannot be set up");
                }
            }
        }
        if self.server_due.is_some_and(|due| due <= now) {
            self.end_waits(now);
        }
    }

    /// What graphs, watchers and alerts live on.
    fn on_second(&mut self) {
        self.forget_last_read();
        self.record();
        self.tick_run_time();
        self.tick_maintenance();
        self.tick_acme();
        self.watch_services();
        self.watch_snmp();
        if let Some(feed) = &self.status_feed {
            match feed.receiver_count() > 0 {
                true => drop(feed.send_replace(Some(Arc::new(self.status())))),
                // Nobody needs the last one any more.
                false => drop(feed.send_if_modified(|last| last.take().is_some())),
            }
        }
    }

    /// Certificates are renewed on disk by others: what changed is taken over without a commit.
    pub(super) fn look_at_files(&mut self) {
        self.engine.tickets();
        let snapshot = self.snapshot.clone();
        if let Some(administration) = &mut self.administration {
            administration.look_at_files(&snapshot);
        }
        if !self.engine.files_changed() {
            self.files_refused = None;
            return;
        }
        let configured = (*self.configured).clone();
        match self.apply(configured, &[], None) {
            Ok(()) => info!("changed files are in use"),
            Err(why) if self.files_refused.as_deref() == Some(&why) => {}
            Err(why) => {
                error!(why, "changed files cannot be used; what they held stays in use");
                self.files_refused = Some(why);
            }
        }
    }

    /// The same at once; why what they hold cannot be used.
    pub(super) fn read_files(&mut self) -> Result<(), String> {
        self.look_at_files();
        self.files_refused.clone().map_or(Ok(()), Err)
    }

    // Ending

    pub fn drain(&mut self, idle: Duration) {
        self.engine.drain(idle);
    }

    pub fn state_for_successor(&self) -> handover::State {
        let config = self.engine.config();
        let each = config.pools.iter().flat_map(|p| p.servers.iter().map(move |s| (p, s)));
        let servers = each.filter_map(|(pool, server)| {
            let health = self.servers.get(&server.id)?;
            Some(handover::ServerState {
                pool: pool.pool.name.as_str().into(),
                name: server.server.name.as_str().into(),
                address: server.server.address,
                up: health.health.is_up(),
                detail: health.detail.clone(),
                since_ms: health.since_ms,
            })
        });
        handover::State {
            revision: self.revision(),
            servers: servers.collect(),
            persistence: self.persistence_for_successor(),
            ticket_keys: self.engine.tickets().secrets(),
            in_pair: self.pair.is_some(),
        }
    }
}

/// What people, probes and the agent make of a server, together.
pub(super) fn state_of(
    overrides: &Overrides,
    health: &ServerHealth,
    pool: &PoolSpec,
    server: &ServerSpec,
) -> ServerState {
    let agent = &health.agent;
    let mut admin = admin_of(overrides, &pool.pool, &server.server);
    if admin == AdminState::Online {
        admin = match agent.admin {
            Some(AgentAdmin::Drain) => AdminState::Draining,
            Some(AgentAdmin::Maintenance) => AdminState::Halted,
            _ => AdminState::Online,
        };
    }
    let weight = weight_of(overrides, &pool.pool, &server.server);
    let share = u32::from(agent.weight.unwrap_or(100));
    ServerState {
        up: server.server.is_placed()
            && health.health.is_up()
            && health.paused_until.is_none()
            && agent.up != Some(false),
        up_since_ms: health.up_since_ms,
        admin,
        weight: (u32::from(weight) * share).div_ceil(100) as u16,
        max_connections: agent.max_connections,
    }
}

/// The first VIP and port of a service that uses a pool.
pub(super) fn vip_of(snapshot: &Snapshot, pool: &Pool) -> Option<SocketAddr> {
    let service = snapshot.services.iter().find(|s| s.pool == pool.name)?;
    service.vips.first()?.socket_addresses().next()
}

fn admin_of(overrides: &Overrides, pool: &Pool, server: &RealServer) -> AdminState {
    overrides.admin(pool.name.as_str(), server.name.as_str()).unwrap_or(server.admin_state)
}

fn weight_of(overrides: &Overrides, pool: &Pool, server: &RealServer) -> u16 {
    overrides.weight(pool.name.as_str(), server.name.as_str()).unwrap_or(server.weight.get())
}

pub fn read(text: &str) -> Result<Snapshot, Refused> {
    evenkeel_config::read(text).map_err(|problems| {
        let problems = crate::text::describe(text, &problems);
        let detail = format!("the configuration has {}", errors(problems.len()));
        Refused {
            kind: FailureKind::Invalid,
            failure: api::Failure { detail, problems, ..Default::default() },
        }
    })
}

/// An address that this machine cannot have is a problem of the text that names it.
fn cannot_be_here(text: &str, address: std::net::IpAddr, why: &str) -> Refused {
    let name = address.to_string();
    let found = text.lines().enumerate().find_map(|(line, words)| Some((line, words.find(&name)?)));
    let (line, column) = found.map_or((1, 1), |(line, column)| (line + 1, column + 1));
    let (message, help) = why.split_once(": ").unwrap_or((why, ""));
    let help = Some(help.to_owned()).filter(|help| !help.is_empty());
    let problems = vec![api::Problem { line, column, message: message.to_owned(), help }];
    Refused {
        kind: FailureKind::Invalid,
        failure: api::Failure { detail: why.into(), problems, ..Default::default() },
    }
}

fn errors(n: usize) -> String {
    crate::text::counted(n as u64, "error", "errors")
}

fn first_problem(text: &str, problems: &[Problem]) -> String {
    let described = crate::text::describe(text, problems);
    let first = described.first().map(|p| format!("line {}, column {}: {}", p.line, p.column, p.message));
    let first = first.unwrap_or_default();
    match problems.len() {
        1 => format!("1 error: {first}"),
        n => format!("{}, the first: {first}", errors(n)),
    }
}

pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// The clock of the engine's event loops.
pub fn monotonic_ms() -> u64 {
    evenkeel_l7::monotonic_ms()
}
