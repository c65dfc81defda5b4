//! Real servers that are added, set and taken away while the program runs. They are state beside the
//! configuration, as admin states and weights are: kept in the state directory, the same on both nodes of a
//! pair, and shown apart from what the file says.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_api as api;
use evenkeel_config::{run_time_server, server_problems, service_problems};
use evenkeel_model::{Name, Origin, Pool, RealServer, Snapshot, VirtualService, parse_duration};
use tracing::{error, info};

use super::control::{Control, wall_ms};
use super::overrides::{Overrides, RunTime};

/// Servers that people have added or set, of all pools: more is a program that has gone wild.
const AT_MOST: usize = 10_000;
/// Of one server's keys, as JSON.
const KEYS_AT_MOST: usize = 16 << 10;
const EXPIRES_AT_MOST: Duration = Duration::from_secs(366 * 86_400);

/// Makes servers of what is kept; each one once for as long as it and its pool stay what they are.
#[derive(Default)]
pub struct RunTimeServers {
    built: RefCell<HashMap<String, Built>>,
}

struct Built {
    pool: Arc<Pool>,
    of: RunTime,
    server: Result<RealServer, Vec<String>>,
}

impl RunTimeServers {
    /// The pools of a configuration with the servers that were added or set. One that no longer fits is left
    /// out until it does.
    pub fn settle(&self, configured: &Snapshot, servers: &BTreeMap<String, RunTime>) -> Vec<Arc<Pool>> {
        if servers.is_empty() {
            self.built.borrow_mut().clear();
            return configured.pools.clone();
        }
        self.built.borrow_mut().retain(|key, _| servers.contains_key(key));
        let services = services_by_pool(configured);
        let none = Vec::new();
        let pools = configured.pools.iter().map(|pool| {
            let own = of_pool(servers, pool.name.as_str());
            let mut settled: Option<Pool> = None;
            let mut taken = Taken::default();
            for (key, name, of) in own {
                let settled = settled.get_or_insert_with(|| {
                    taken = Taken::of(pool);
                    (**pool).clone()
                });
                if of.gone {
                    if let Some(at) = settled.real_servers.iter().position(|s| s.name.as_str() == name) {
                        taken.leave(&settled.real_servers.remove(at));
                    }
                    if !of.is_another() {
                        continue;
                    }
                }
                let Ok(server) = self.server(pool, key, name, of) else { continue };
                let services = services.get(&pool.name).unwrap_or(&none);
                let fits = service_problems(services, &server).is_empty();
                match settled.real_servers.iter().position(|s| s.name == server.name) {
                    Some(at) if fits && of.over.is_some() => settled.real_servers[at] = server,
                    None if fits && (of.over.is_none() || of.gone) && taken.take(pool, &server) => {
                        settled.real_servers.push(server);
                    }
                    _ => {}
                }
            }
            settled.map_or_else(|| pool.clone(), Arc::new)
        });
        pools.collect()
    }

    fn server(
        &self,
        pool: &Arc<Pool>,
        key: &str,
        name: &str,
        of: &RunTime,
    ) -> Result<RealServer, Vec<String>> {
        let mut built = self.built.borrow_mut();
        if let Some(known) = built.get(key).filter(|k| Arc::ptr_eq(&k.pool, pool) && k.of == *of) {
            return known.server.clone();
        }
        let before = match of.over {
            Some(_) if of.gone => None,
            Some(_) => match pool.real_server(name) {
                Some(before) => Some(before),
                None => return Err(vec![format!("the file has no real server {key}")]),
            },
            None => None,
        };
        let server = run_time_server(pool, name, before, &of.keys);
        let known = Built { pool: pool.clone(), of: of.clone(), server: server.clone() };
        built.insert(key.to_owned(), known);
        server
    }
}

/// What servers of one pool have for themselves.
#[derive(Default)]
struct Taken {
    addresses: HashSet<SocketAddr>,
    cookies: HashSet<String>,
}

impl Taken {
    fn of(pool: &Pool) -> Taken {
        let mut taken = Taken::default();
        for server in &pool.real_servers {
            taken.addresses.extend(Some(server.address).filter(|_| server.host.is_none()));
            taken.cookies.insert(server.cookie().to_owned());
        }
        taken
    }

    /// A server that goes leaves all of it.
    fn leave(&mut self, server: &RealServer) {
        self.addresses.remove(&server.address);
        self.cookies.remove(server.cookie());
    }

    /// Whether all of it was free.
    fn take(&mut self, pool: &Pool, server: &RealServer) -> bool {
        let has_own = server.host.is_some() || pool.same_address || !self.addresses.contains(&server.address);
        let free = has_own && self.cookies.insert(server.cookie().to_owned());
        if free && server.host.is_none() {
            self.addresses.insert(server.address);
        }
        free
    }
}

/// The entries of one pool: key, name of the server, what is kept.
fn of_pool<'a>(
    servers: &'a BTreeMap<String, RunTime>,
    pool: &str,
) -> impl Iterator<Item = (&'a String, &'a str, &'a RunTime)> + use<'a> {
    let first = format!("{pool}/");
    let own = servers.range(first.clone()..).take_while({
        let first = first.clone();
        move |(key, _)| key.starts_with(&first)
    });
    own.map(move |(key, of)| (key, &key[first.len()..], of))
}

fn services_by_pool(snapshot: &Snapshot) -> HashMap<&Name, Vec<&VirtualService>> {
    let mut all: HashMap<&Name, Vec<&VirtualService>> = HashMap::new();
    for service in &snapshot.services {
        all.entry(&service.pool).or_default().push(&**service);
    }
    all
}

/// A server that was added lasts until the file has one of its name; keys that were set until the file says
/// something new of that server.
pub fn under_file(overrides: &Overrides, old: &Snapshot, new: &Snapshot) -> Overrides {
    let mut overrides = overrides.clone();
    if overrides.servers().is_empty() {
        return overrides;
    }
    let before: HashMap<&str, &Pool> = old.pools.iter().map(|p| (p.name.as_str(), &**p)).collect();
    let after: HashMap<&str, &Pool> = new.pools.iter().map(|p| (p.name.as_str(), &**p)).collect();
    overrides.retain_servers(|key, of| {
        let Some((pool, name)) = key.split_once('/') else { return false };
        let find = |pools: &HashMap<&str, &Pool>| pools.get(pool).and_then(|p| p.real_server(name).cloned());
        let (was, is) = (find(&before), find(&after));
        match &of.over {
            None => is.is_none(),
            Some(place) => is.as_ref().is_some_and(|is| is.place() == *place) && (was.is_none() || was == is),
        }
    });
    overrides
}

/// What is to be said of servers that were added or set, of a configuration that may come.
pub fn notes(overrides: &Overrides, old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let then = under_file(overrides, old, new);
    let gone = overrides.servers().iter().filter(|(key, _)| !then.servers().contains_key(*key));
    let mut all: Vec<String> = gone
        .map(|(key, of)| match of.over {
            None => format!("{key} was added at run time and is in the file now: what the file says holds"),
            Some(_) => format!("{key} was set at run time; the file says something new of it, which holds"),
        })
        .take(20)
        .collect();
    let pools: HashSet<&str> = new.pools.iter().map(|p| p.name.as_str()).collect();
    let is_there = |key: &&String| key.split_once('/').is_some_and(|(pool, _)| pools.contains(pool));
    let added = then.servers().iter().filter(|(_, of)| of.over.is_none());
    let (stay, wait): (Vec<&String>, Vec<&String>) = added.map(|(key, _)| key).partition(is_there);
    if !stay.is_empty() {
        let few = crate::text::counted(stay.len() as u64, "real server", "real servers");
        all.push(format!("{few} that the file does not have stay: `evenkeel server list`"));
    }
    all.extend(wait.iter().take(20).map(|key| format!("{key} was added at run time, and loses its pool")));
    all
}

impl Control {
    /// Adds a real server that the file does not have. Whole or nothing; stored before it is acknowledged.
    pub fn add_server(
        &mut self,
        place: &str,
        name: &str,
        keys: api::ServerKeys,
        by: &str,
    ) -> Result<api::RunTimeServer, Refused> {
        let pool = self.configured_pool(place)?;
        let pool_name = pool.name.as_str().to_owned();
        let taken = |why: String| Err(Refused::new(FailureKind::Invalid, why));
        // One that was taken away leaves its name to another.
        let gone = self.overrides.server(&pool_name, name).is_some_and(|of| of.gone && !of.is_another());
        if pool.real_server(name).is_some() && !gone {
            return taken(format!(
                "{pool_name} has a real server named {name} in the configuration's file: `evenkeel server set` changes it"
            ));
        }
        let running = self.snapshot.pool(&pool.name).and_then(|p| p.real_server(name));
        match running.and_then(|s| s.found_in.as_deref()) {
            Some(Origin::RunTime) => {
                return taken(format!(
                    "{pool_name} has a real server named {name}, which was added at run time: `evenkeel server set` changes it"
                ));
            }
            Some(Origin::List(list)) => {
                return taken(format!("{pool_name} has a real server named {name}, from the list {list}"));
            }
            None => {}
        }
        if self.overrides.servers().len() >= AT_MOST {
            return Err(no_room());
        }
        let until_ms = until(&keys)?;
        let of = RunTime {
            over: pool.real_server(name).map(|server| server.place()),
            gone,
            keys: keys.keys,
            since_ms: wall_ms(),
            until_ms,
            by: by.to_owned(),
        };
        self.check(&pool, name, None, &of)?;
        self.put(&pool_name, name, Some(of), "added")?;
        self.run_time_server(&pool_name, name)
    }

    /// Sets keys of a real server, whether the file has it or it was added.
    pub fn set_server(
        &mut self,
        place: &str,
        name: &str,
        keys: api::ServerKeys,
        by: &str,
    ) -> Result<api::RunTimeServer, Refused> {
        let pool = self.configured_pool(place)?;
        let pool_name = pool.name.as_str().to_owned();
        let known = self.overrides.server(&pool_name, name).cloned();
        let in_file = pool.real_server(name);
        let mut of = match (known, in_file) {
            (Some(known), _) => known,
            (None, Some(server)) => RunTime {
                over: Some(server.place()),
                gone: false,
                keys: serde_json::Map::new(),
                since_ms: wall_ms(),
                until_ms: None,
                by: by.to_owned(),
            },
            (None, None) => return Err(self.nobody(&pool, name)),
        };
        if self.overrides.servers().len() >= AT_MOST && self.overrides.server(&pool_name, name).is_none() {
            return Err(no_room());
        }
        if keys.expires.is_some() {
            of.until_ms = until(&keys)?;
        }
        of.by = by.to_owned();
        for (key, value) in keys.keys {
            match (of.keys.get_mut(&key), value) {
                // Keys of a table are set one by one.
                (Some(serde_json::Value::Object(old)), serde_json::Value::Object(new)) => old.extend(new),
                (_, value) => drop(of.keys.insert(key, value)),
            }
        }
        self.check(&pool, name, in_file, &of)?;
        self.put(&pool_name, name, Some(of), "set")?;
        self.run_time_server(&pool_name, name)
    }

    /// Takes a server away that was added, or what was set of one of the file.
    pub fn remove_server(
        &mut self,
        place: &str,
        name: &str,
        even_of_file: bool,
    ) -> Result<api::RunTimeServer, Refused> {
        // Its pool may have gone.
        let pool_name = match self.configured_pool(place) {
            Ok(pool) => pool.name.as_str().to_owned(),
            Err(refused) => match self.overrides.server(place, name) {
                Some(_) => place.to_owned(),
                None => return Err(refused),
            },
        };
        if even_of_file && let Some(server) = self.configured_pool(place)?.real_server(name) {
            let over = Some(server.place());
            let keys = serde_json::Map::new();
            let of =
                RunTime { over, gone: true, keys, since_ms: wall_ms(), until_ms: None, by: String::new() };
            self.put(&pool_name, name, Some(of), "removed")?;
            return self.run_time_server(&pool_name, name);
        }
        if self.overrides.server(&pool_name, name).is_none() {
            let pool = self.configured_pool(place)?;
            if pool.real_server(name).is_some() {
                let why = format!(
                    "{pool_name}/{name} is in the configuration's file: take it out there, or `evenkeel halt {pool_name}/{name}`"
                );
                return Err(Refused::new(FailureKind::Invalid, why));
            }
            return Err(self.nobody(&pool, name));
        }
        let gone = self.run_time_server(&pool_name, name)?;
        let what = if gone.added { "removed" } else { "as the file says again" };
        self.put(&pool_name, name, None, what)?;
        Ok(gone)
    }

    /// All that were added or set.
    pub fn run_time_servers(&self) -> Vec<api::RunTimeServer> {
        let all = self.overrides.servers().iter();
        all.filter_map(|(key, of)| {
            let (pool, name) = key.split_once('/')?;
            Some(self.describe_run_time(pool, name, of))
        })
        .collect()
    }

    fn run_time_server(&self, pool: &str, name: &str) -> Result<api::RunTimeServer, Refused> {
        let of = self.overrides.server(pool, name);
        let missing =
            || Refused::new(FailureKind::NotFound, format!("there is no real server {pool}/{name}"));
        of.map(|of| self.describe_run_time(pool, name, of)).ok_or_else(missing)
    }

    fn describe_run_time(&self, pool: &str, name: &str, of: &RunTime) -> api::RunTimeServer {
        let running = Name::new(pool).ok().and_then(|pool| self.snapshot.pool(&pool));
        let server = running.and_then(|pool| pool.real_server(name));
        let in_use =
            server.is_some_and(|s| of.over.is_some() || s.found_in.as_deref() == Some(&Origin::RunTime));
        let why_not = match (running, in_use) {
            (_, true) => None,
            (None, _) => Some(format!("there is no pool {pool} now")),
            (Some(_), _) => {
                let configured = self.configured_pool(pool).ok();
                let why = configured.and_then(|p| {
                    let before = p.real_server(name).filter(|_| of.over.is_some());
                    self.check(&p, name, before, of).err()
                });
                Some(why.map_or_else(|| "it does not fit".into(), |why| why.failure.detail))
            }
        };
        api::RunTimeServer {
            pool: pool.to_owned(),
            name: name.to_owned(),
            added: of.over.is_none() || of.is_another(),
            keys: of.keys.clone(),
            since_ms: of.since_ms,
            until_ms: of.until_ms,
            by: of.by.clone(),
            why_not_in_use: why_not,
        }
    }

    /// Those whose time has come go.
    pub(super) fn tick_run_time(&mut self) {
        let now = wall_ms();
        let due = self.overrides.servers().iter().filter(|(_, of)| of.until_ms.is_some_and(|at| at <= now));
        let due: Vec<String> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some((pool, name)) = key.split_once('/') else { continue };
            if let Err(refused) = self.put(pool, name, None, "gone: its time has come") {
                error!(server = key, why = refused.failure.detail, "a real server cannot be taken away");
            }
        }
    }

    /// The servers that the peer has are this node's too.
    pub(super) fn follow_run_time(&mut self) {
        if let Err(why) = self.apply_again() {
            self.happen("discovery", "error", "servers", format!("the peer's servers cannot be used: {why}"));
        }
    }

    fn configured_pool(&self, place: &str) -> Result<Arc<Pool>, Refused> {
        let named = self.pool_of(place)?;
        let found = self.configured.pool(&named.pool.name).cloned();
        found.ok_or_else(|| Refused::new(FailureKind::NotFound, format!("there is no pool {place}")))
    }

    fn nobody(&self, pool: &Pool, name: &str) -> Refused {
        let running = self.snapshot.pool(&pool.name).and_then(|p| p.real_server(name));
        let why = match running.and_then(|s| s.found_in.as_deref()) {
            Some(Origin::List(list)) => {
                format!("{}/{name} is from the list {list}, which says what it is", pool.name)
            }
            _ => format!("{} has no real server named {name}", pool.name),
        };
        Refused::new(FailureKind::NotFound, why)
    }

    /// Whether what is kept makes a server beside all others.
    fn check(
        &self,
        pool: &Arc<Pool>,
        name: &str,
        before: Option<&RealServer>,
        of: &RunTime,
    ) -> Result<(), Refused> {
        let too_long = serde_json::to_vec(&of.keys).is_ok_and(|text| text.len() > KEYS_AT_MOST);
        let problems = match run_time_server(pool, name, before, &of.keys) {
            _ if too_long => vec!["its keys are too long".to_owned()],
            Err(problems) => problems,
            Ok(server) => {
                let mut beside = (**pool).clone();
                let others = self.snapshot.pool(&pool.name).into_iter().flat_map(|p| &p.real_servers);
                if of.is_another() {
                    beside.real_servers.retain(|s| s.name.as_str() != name);
                }
                beside.real_servers.extend(others.filter(|s| s.found_in.is_some()).cloned());
                let services = services_by_pool(&self.configured);
                let none = Vec::new();
                server_problems(&beside, services.get(&pool.name).unwrap_or(&none), &server)
            }
        };
        if problems.is_empty() {
            return Ok(());
        }
        let why = format!("{}/{name} cannot be that: {}", pool.name, problems.join("; "));
        Err(Refused::new(FailureKind::Invalid, why))
    }

    /// Makes it so, on the disk first; what cannot be applied changes nothing.
    fn put(&mut self, pool: &str, name: &str, of: Option<RunTime>, what: &str) -> Result<(), Refused> {
        let key = format!("{pool}/{name}");
        let before = self.overrides.clone();
        let mut changed = before.clone();
        let weight = |of: Option<&RunTime>| of.and_then(|of| of.keys.get("weight").cloned());
        let sets_weight = weight(of.as_ref()) != weight(before.server(pool, name));
        // What was said of the one that was there before is not said of the next.
        let is_other = of.is_none() && before.server(pool, name).is_some_and(|b| b.over.is_none());
        changed.forget(pool, name, is_other, is_other || sets_weight);
        changed.set_server(&key, of);
        changed.save().map_err(|e| {
            Refused::new(
                FailureKind::Failed,
                format!("the change could not be stored: {e}; nothing was changed"),
            )
        })?;
        self.overrides = changed;
        if let Err(why) = self.apply_again() {
            self.overrides = before;
            self.save_overrides();
            return Err(Refused::new(FailureKind::Failed, format!("{why}; nothing was changed")));
        }
        self.tell_live();
        info!(pool, server = name, what, "real server at run time");
        self.happen("admin-state", "info", &key, format!("{key} is {what}"));
        Ok(())
    }
}

fn no_room() -> Refused {
    let why = format!("{AT_MOST} real servers have been added or set, and there can be no more");
    Refused::new(FailureKind::Invalid, why)
}

/// When it goes by itself.
fn until(keys: &api::ServerKeys) -> Result<Option<u64>, Refused> {
    let Some(text) = &keys.expires else { return Ok(None) };
    let invalid = |why: String| Refused::new(FailureKind::Invalid, format!("`expires`: {why}"));
    let time = parse_duration(text).map_err(|e| invalid(e.to_string()))?;
    if time.is_zero() || time > EXPIRES_AT_MOST {
        return Err(invalid("it is more than nothing, and a year at most".into()));
    }
    Ok(Some(wall_ms() + time.as_millis() as u64))
}

#[cfg(test)]
#[path = "run_time_tests.rs"]
mod tests;
