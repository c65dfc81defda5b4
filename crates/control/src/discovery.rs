//! Names and lists in the daemon: what the configuration wants found, and the configuration as it runs, with
//! the addresses and servers that were found. What was found last is kept in the state directory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use evenkeel_api as api;
use evenkeel_discover::{Details, Endpoint, Finder, Found, List, Listed, News, Remembered, Wants};
use evenkeel_model::{
    AdminState, Discover, DiscoverSource, Host, HostName, Init, Name, Origin, Pool, RealServer, ServerSpeaks,
    ServerTls, Snapshot, Weight,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{info, warn};

use super::control::{Control, wall_ms};
use super::expected::Expected;
use super::overrides::Overrides;
use super::run_time::RunTimeServers;

/// Changes within this time are applied together.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long a start waits for first answers, of names and of the targets of services together.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);
const FILE: &str = "discovered.json";
const FILE_AT_MOST: u64 = 64 << 20;

/// What was found last, in the state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Stored {
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Where each server that is written by name is, by `pool/server`.
    servers: BTreeMap<String, IpAddr>,
    /// Servers of lists, by source: `ADDRESS:PORT`, weight, backup.
    lists: BTreeMap<String, Vec<(String, Option<u16>, bool)>>,
    /// Since when each server of a list is there, in milliseconds since 1970, by `pool/server`.
    since: BTreeMap<String, u64>,
}

pub struct Discovery {
    finder: Finder,
    /// Taken by the daemon's loop.
    pub inbox: Option<UnboundedReceiver<News>>,
    names: HashMap<HostName, Found>,
    lists: HashMap<Discover, Listed>,
    last: HashMap<String, IpAddr>,
    /// Of a source before its first news.
    last_lists: HashMap<String, List>,
    changed: bool,
    apply_at: Instant,
    file: Sender<Stored>,
    stored: Stored,
    run_time: RunTimeServers,
    /// Commits that wait for first answers.
    pub(super) expected: Vec<Expected>,
}

impl Discovery {
    pub fn start(state_directory: &Path) -> std::io::Result<Discovery> {
        let stored: Stored = evenkeel_files::read(&state_directory.join(FILE), FILE_AT_MOST)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let names = stored.names.iter().filter_map(|(n, a)| Some((HostName::new(n)?, a.clone())));
        let lists: HashMap<String, List> =
            stored.lists.iter().map(|(source, list)| (source.clone(), list_of(list))).collect();
        let remembered = Remembered { names: names.collect(), lists: lists.clone() };
        let (news, inbox): (UnboundedSender<News>, _) = unbounded_channel();
        Ok(Discovery {
            finder: Finder::start(news, remembered)?,
            inbox: Some(inbox),
            names: HashMap::new(),
            lists: HashMap::new(),
            last: stored.servers.iter().map(|(k, v)| (k.clone(), *v)).collect(),
            last_lists: lists,
            changed: false,
            apply_at: Instant::now(),
            file: keep_file(state_directory),
            stored,
            run_time: RunTimeServers::default(),
            expected: Vec::new(),
        })
    }

    fn reconfigure(&mut self, configured: &Snapshot, running: &Snapshot, overrides: &Overrides) {
        let mut wants = Wants { resolver: configured.resolver.clone(), ..Wants::default() };
        let mut want = |configured: &Snapshot, running: &Snapshot| {
            wants.lists.extend(configured.pools.iter().flat_map(|p| p.discover.iter().cloned()));
            let servers = running.pools.iter().flat_map(|p| p.real_servers.iter());
            wants.names.extend(servers.filter_map(|s| s.host.as_ref()).map(|h| h.name.clone()));
        };
        want(configured, running);
        for expected in &self.expected {
            want(&expected.snapshot, &self.settle(&expected.snapshot, running, overrides));
        }
        self.names.retain(|name, _| wants.names.contains(name));
        self.lists.retain(|list, _| wants.lists.contains(list));
        self.finder.set(wants);
    }

    /// Waits for the first answers of what has no other way to begin; a start without DNS goes on.
    fn wait(&mut self, configured: &Snapshot, running: &Snapshot, deadline: Instant) {
        while self.is_missing(configured, running) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
            while let Some(news) = self.inbox.as_mut().and_then(|inbox| inbox.try_recv().ok()) {
                self.take(news);
            }
        }
        self.changed = false;
    }

    /// Whether the first answer is yet to come of something that has no other way to begin.
    pub fn is_missing(&self, configured: &Snapshot, running: &Snapshot) -> bool {
        let waits = |s: &RealServer| {
            let init = s.host.as_ref().map(|h| (&h.init, &h.name));
            !s.is_placed()
                && init.is_some_and(|(init, name)| {
                    let none = init.iter().position(|i| *i == Init::None).unwrap_or(init.len());
                    init[..none].contains(&Init::Lookup) && !self.names.contains_key(name)
                })
        };
        let mut lists = configured.pools.iter().flat_map(|p| &p.discover);
        running.pools.iter().flat_map(|p| &p.real_servers).any(waits)
            || lists
                .any(|l| !self.lists.contains_key(l) && !self.last_lists.contains_key(&l.source.to_string()))
    }

    fn take(&mut self, news: News) {
        self.changed = true;
        match news {
            News::Name(name, found) => drop(self.names.insert(name, found)),
            News::List(list, listed) => {
                // What its source said last is known of it with other rules, too.
                if let Some(known) = &listed.list {
                    self.last_lists.insert(list.source.to_string(), known.clone());
                }
                self.lists.insert((*list).clone(), listed);
            }
        }
    }

    /// The configuration as it runs: with the servers that were added or set at run time and those of lists,
    /// each name at one address.
    pub fn settle(&self, configured: &Snapshot, running: &Snapshot, overrides: &Overrides) -> Snapshot {
        let before: HashMap<&Name, &Arc<Pool>> = running.pools.iter().map(|p| (&p.name, p)).collect();
        let with = self.run_time.settle(configured, overrides.servers());
        let pools = with.iter().map(|pool| {
            let plain = pool.discover.is_empty() && pool.real_servers.iter().all(|s| s.host.is_none());
            if plain {
                return pool.clone();
            }
            let before = before.get(&pool.name).copied();
            let mut settled = (**pool).clone();
            for discover in &pool.discover {
                self.add_listed(&mut settled, discover);
            }
            self.place(&mut settled, before.map(|p| &**p));
            match before {
                Some(same) if **same == settled => same.clone(),
                _ => Arc::new(settled),
            }
        });
        Snapshot { pools: pools.collect(), ..configured.clone() }
    }

    fn list(&self, discover: &Discover) -> Option<&List> {
        match self.lists.get(discover) {
            Some(listed) => listed.list.as_ref(),
            None => self.last_lists.get(&discover.source.to_string()),
        }
    }

    fn add_listed(&self, pool: &mut Pool, discover: &Discover) {
        let written: HashSet<Name> = pool.real_servers.iter().map(|s| s.name.clone()).collect();
        let addresses: HashSet<SocketAddr> = pool.real_servers.iter().map(|s| s.address).collect();
        for (place, details) in self.list(discover).into_iter().flatten() {
            let Some(server) = listed_server(pool, discover, place, *details) else { continue };
            // What the file itself says of a server goes before.
            let known = server.host.is_none() && addresses.contains(&server.address);
            if !known && !written.contains(&server.name) {
                pool.real_servers.push(server);
            }
        }
    }

    /// Gives each server that is written by name an address: the one it has while that holds, else one that
    /// no other server of the pool has.
    fn place(&self, pool: &mut Pool, before: Option<&Pool>) {
        let before: HashMap<&Name, &RealServer> =
            before.into_iter().flat_map(|p| &p.real_servers).map(|s| (&s.name, s)).collect();
        let mut taken: HashSet<SocketAddr> =
            pool.real_servers.iter().filter(|s| s.host.is_none()).map(|s| s.address).collect();
        let pool_name = pool.name.clone();
        let current = |server: &RealServer, host: &Host| {
            let same = before.get(&server.name).filter(|b| b.is_placed());
            same.filter(|b| b.host.as_ref().is_some_and(|h| h.name == host.name)).map(|b| b.address.ip())
        };
        // Those that stay go before those that move.
        for server in &mut pool.real_servers {
            let Some(host) = server.host.clone() else { continue };
            let known = self.names.get(&host.name);
            let key = format!("{pool_name}/{}", server.name);
            let now = match known {
                Some(found) => {
                    let had = current(server, &host).or_else(|| self.last.get(&key).copied());
                    // One that the configuration gives stays until there is an answer.
                    let given =
                        |ip: &IpAddr| found.addresses.is_empty() && host.init.contains(&Init::Address(*ip));
                    had.or_else(|| self.initial(&host, &key))
                        .filter(|ip| found.addresses.contains(ip) || given(ip))
                }
                None => current(server, &host).or_else(|| self.initial(&host, &key)),
            };
            let place = now.map(|ip| SocketAddr::new(ip, server.address.port()));
            server.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            if let Some(place) = place.filter(|p| taken.insert(*p)) {
                server.address = place;
            }
        }
        for server in &mut pool.real_servers {
            let Some(host) = server.host.as_ref().filter(|_| server.address.ip().is_unspecified()) else {
                continue;
            };
            let found = self.names.get(&host.name).map_or(&[][..], |f| &f.addresses);
            let place = |ip: &IpAddr| SocketAddr::new(*ip, server.address.port());
            let free = found.iter().filter(|ip| !taken.contains(&place(ip)));
            if let Some(ip) = free.min_by_key(|ip| (ip.is_ipv6() != host.prefer_ipv6, **ip)).copied() {
                taken.insert(place(&ip));
                server.address.set_ip(ip);
            }
        }
    }

    /// Where a server is before the first answer.
    fn initial(&self, host: &Host, key: &str) -> Option<IpAddr> {
        for init in &host.init {
            match init {
                Init::Last => {
                    let known = self.last.get(key).copied();
                    let names = || self.stored.names.get(host.name.as_str())?.first().copied();
                    if let Some(last) = known.or_else(names) {
                        return Some(last);
                    }
                }
                Init::Address(address) => return Some(*address),
                Init::None => return None,
                Init::Lookup => {}
            }
        }
        None
    }

    /// Since when a server of a list is there.
    pub fn since(&self, pool: &str, server: &str) -> Option<u64> {
        self.stored.since.get(&format!("{pool}/{server}")).copied()
    }

    pub fn name_servers(&self) -> Vec<api::NameServer> {
        let all = self.finder.asked().into_iter();
        all.map(|(address, asked)| api::NameServer {
            address: address.to_string(),
            sent: asked.sent,
            failed: asked.failed,
            valid: asked.valid,
            alias: asked.alias,
            nothing: asked.nothing,
            no_name: asked.no_name,
            timeout: asked.timeout,
            refused: asked.refused,
            other: asked.other,
            invalid: asked.invalid,
            truncated: asked.truncated,
        })
        .collect()
    }

    /// Why a server has no address.
    pub fn why_not_placed(&self, host: &HostName) -> String {
        match self.names.get(host) {
            None => format!("{host} is being looked up"),
            Some(Found { failing: Some(why), .. }) => format!("{host} is not found: {}", why.as_str()),
            Some(_) => format!("every address of {host} is another server of the pool"),
        }
    }

    /// What is to be said of the names of a configuration that may come.
    pub fn notes(&self, new: &Snapshot) -> Vec<String> {
        let servers = new.pools.iter().flat_map(|p| &p.real_servers);
        let names: BTreeSet<&HostName> = servers.filter_map(|s| Some(&s.host.as_ref()?.name)).collect();
        let note = |name: &&HostName| match self.names.get(name) {
            None => Some(format!("{name} is looked up before this is committed")),
            Some(Found { failing: Some(why), .. }) => Some(format!("{name}: {}", why.as_str())),
            Some(_) => None,
        };
        names.iter().filter_map(note).take(20).collect()
    }

    fn remember(&mut self, running: &Snapshot) {
        let mut now = Stored::default();
        for pool in &running.pools {
            for server in pool.real_servers.iter().filter(|s| s.is_placed()) {
                let Some(host) = &server.host else { continue };
                let ip = server.address.ip();
                let key = format!("{}/{}", pool.name, server.name);
                self.last.insert(key.clone(), ip);
                now.servers.insert(key, ip);
                let found = self.names.get(&host.name).map(|f| f.addresses.clone());
                let known = found.filter(|a| !a.is_empty()).unwrap_or_else(|| vec![ip]);
                now.names.insert(host.name.as_str().to_owned(), known);
            }
            let listed =
                pool.real_servers.iter().filter(|s| matches!(s.found_in.as_deref(), Some(Origin::List(_))));
            for server in listed {
                let key = format!("{}/{}", pool.name, server.name);
                let since = self.stored.since.get(&key).copied().unwrap_or_else(wall_ms);
                now.since.insert(key, since);
            }
            for discover in &pool.discover {
                let list = self.list(discover).into_iter().flatten();
                let list = list.map(|(place, d)| (shown(place), d.weight, d.backup)).collect();
                now.lists.insert(discover.source.to_string(), list);
            }
        }
        let known: HashSet<&String> = now.servers.keys().collect();
        self.last.retain(|key, _| known.contains(key));
        let lists = &now.lists;
        self.last_lists.retain(|source, _| lists.contains_key(source));
        if now != self.stored {
            self.stored = now.clone();
            let _ = self.file.send(now);
        }
    }
}

fn shown(place: &Endpoint) -> String {
    match place {
        Endpoint::Address(address) => address.to_string(),
        Endpoint::Name(name, port) => format!("{name}:{port}"),
    }
}

fn list_of(stored: &[(String, Option<u16>, bool)]) -> List {
    let all = stored.iter().filter_map(|(place, weight, backup)| {
        Some((Endpoint::parse(place)?, Details { weight: *weight, backup: *backup }))
    });
    all.collect()
}

/// A server of a list. Its name is made of its place alone, so that it is the same one in every list.
fn listed_server(pool: &Pool, discover: &Discover, place: &Endpoint, details: Details) -> Option<RealServer> {
    let (name, address, host) = match place {
        Endpoint::Address(address @ SocketAddr::V4(_)) => (address.to_string(), *address, None),
        Endpoint::Address(address) => (format!("ip6-{}-{}", address.ip(), address.port()), *address, None),
        Endpoint::Name(name, port) => {
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port);
            let host = Host { name: name.clone(), prefer_ipv6: false, init: vec![Init::Last, Init::Lookup] };
            (format!("{name}:{port}"), address, Some(host))
        }
    };
    // A long name keeps its end short by its hash.
    let name = Name::new(&name).or_else(|_| {
        let hash = evenkeel_balance::hash_bytes(name.as_bytes());
        Name::new(&format!("{}-{hash:016x}", name.get(..40).unwrap_or("server")))
    });
    let common = pool.real_servers.iter().find(|s| s.found_in.is_none());
    // One that is known by a name is verified by it, as one of the file is.
    let own_name = host.as_ref().zip(
        pool.server_tls
            .as_ref()
            .filter(|tls| tls.verifies_name() && tls.sni.is_none() && tls.sni_from.is_none()),
    );
    let speaks = own_name.map(|(host, tls): (&Host, _)| {
        ServerSpeaks::Tls(ServerTls { sni: Some(host.name.as_str().to_owned()), ..tls.clone() })
    });
    Some(RealServer {
        name: name.ok()?,
        address,
        host,
        found_in: Some(Box::new(Origin::List(discover.source.clone()))),
        weight: details.weight.map_or_else(Weight::default, |w| Weight::new(w.into()).unwrap_or_default()),
        max_connections: common.map_or(0, |s| s.max_connections),
        min_connections: common.map_or(0, |s| s.min_connections),
        backup: details.backup,
        keeps_clients: false,
        non_stick: false,
        admin_state: AdminState::Online,
        cookie: None,
        check: true,
        health_check: None,
        source: None,
        speaks: speaks.map(Box::new),
        h2: None,
        send_proxy: None,
    })
}

/// Writes what was found, on a thread of its own: a slow disk must hold up nothing.
fn keep_file(state_directory: &Path) -> Sender<Stored> {
    let (sender, inbox) = channel::<Stored>();
    let file = state_directory.join(FILE);
    std::thread::spawn(move || {
        let mut silent = false;
        while let Ok(mut stored) = inbox.recv() {
            while let Ok(later) = inbox.try_recv() {
                stored = later;
            }
            let bytes = serde_json::to_vec_pretty(&stored).unwrap_or_default();
            let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            let done = folder.and_then(|()| evenkeel_files::write_atomically(&file, &bytes));
            if let Err(error) = &done
                && !silent
            {
                warn!(%error, "what was discovered cannot be stored: a start without DNS will not know it");
            }
            silent = done.is_err();
        }
    });
    sender
}

impl Control {
    /// Before the first configuration is applied: what can be known of its names and lists is found.
    pub(super) fn begin_discovery(&mut self, configured: &Snapshot) {
        // The targets of services are names themselves.
        let deadline = Instant::now() + FIRST_ANSWERS;
        for _ in 0..2 {
            let running = self.discovery.settle(configured, &self.snapshot, &self.overrides);
            self.discovery.reconfigure(configured, &running, &self.overrides);
            self.discovery.wait(configured, &running, deadline);
        }
    }

    pub(super) fn follow_discovery(&mut self) {
        let (configured, running) = (self.configured.clone(), self.snapshot.clone());
        self.discovery.reconfigure(&configured, &running, &self.overrides);
        self.discovery.remember(&running);
    }

    pub fn on_found(&mut self, news: News) {
        match &news {
            News::Name(name, found) => {
                let before = self.discovery.names.get(name).and_then(|f| f.failing);
                if before != found.failing {
                    self.tell_of_name(name, found);
                }
            }
            News::List(list, listed) => {
                let before = self.discovery.lists.get(&**list).and_then(|l| l.trouble.clone());
                if before != listed.trouble {
                    self.tell_of_list(&list.source, listed);
                }
            }
        }
        self.discovery.take(news);
    }

    fn tell_of_name(&mut self, name: &HostName, found: &Found) {
        let (level, text) = match (found.failing, found.addresses.is_empty()) {
            (None, _) => ("good", format!("{name} is found again")),
            (Some(why), true) => {
                ("bad", format!("{name} cannot be looked up: {}; its servers are down", why.as_str()))
            }
            (Some(why), false) => (
                "warning",
                format!("{name} cannot be looked up: {}; its last address stays in use", why.as_str()),
            ),
        };
        self.happen("discovery", level, name.as_str(), text);
    }

    fn tell_of_list(&mut self, source: &DiscoverSource, listed: &Listed) {
        let source = source.to_string();
        let (level, text) = match &listed.trouble {
            None => ("good", format!("the list {source} is used again")),
            Some(why) => ("warning", format!("the list {source} is not taken: {why}; its servers stay")),
        };
        self.happen("discovery", level, &source, text);
    }

    /// Applies what was found, all of a while at once.
    pub(super) fn tick_discovery(&mut self, now: Instant) {
        self.go_on_with_commits();
        if !self.discovery.changed || now < self.discovery.apply_at {
            return;
        }
        self.discovery.changed = false;
        self.discovery.apply_at = now + TOGETHER;
        let configured = self.configured.clone();
        let settled = self.discovery.settle(&configured, &self.snapshot, &self.overrides);
        if settled.pools == self.snapshot.pools {
            self.follow_discovery();
            return;
        }
        self.log_moves(&settled);
        if let Err(why) = self.apply_again() {
            self.happen("discovery", "error", "servers", format!("what was found cannot be applied: {why}"));
        }
    }

    fn log_moves(&self, settled: &Snapshot) {
        let server = |snapshot: &Snapshot| -> HashMap<(Name, Name), SocketAddr> {
            let each = snapshot.pools.iter().flat_map(|p| p.real_servers.iter().map(move |s| (p, s)));
            let found = each.filter(|(_, s)| s.host.is_some() || s.found_in.is_some());
            found.map(|(p, s)| ((p.name.clone(), s.name.clone()), s.address)).collect()
        };
        let (before, after) = (server(&self.snapshot), server(settled));
        for ((pool, name), address) in &after {
            match before.get(&(pool.clone(), name.clone())) {
                Some(same) if same == address => {}
                Some(old) => {
                    info!(%pool, server = %name, from = %old, to = %address, "server's address changed")
                }
                None => info!(%pool, server = %name, %address, "server found"),
            }
        }
        for (pool, name) in before.keys().filter(|key| !after.contains_key(*key)) {
            info!(%pool, server = %name, "server left its list");
        }
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
