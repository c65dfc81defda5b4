//! The thread that looks names up and follows lists. It tells what changes, and is never waited for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use evenkeel_model::{Discover, DiscoverSource, HostName, HttpSource, ResolverSettings};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use crate::ask::{self, Asking, Counts, QuestionCounts};
use crate::consul;
use crate::docker;
use crate::hosts::{ResolvConf, hosts, resolv_conf};
use crate::http::{self, Heard};
use crate::known::{Answer, Failure, Known};
use crate::listing::{Believed, Details, Endpoint, List, Verdict, file_sd, file_sd_yaml, too_many};
use evenkeel_dns::Service;

/// Look-ups at a time.
const AT_ONCE: usize = 128;
/// How often the hosts file and resolv.conf are looked at.
const FILES: Duration = Duration::from_secs(2);
const CONF_AT_MOST: u64 = 1 << 20;
const HOSTS_AT_MOST: u64 = 16 << 20;
/// How long one question for a list may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between an answer of Consul's and the next question: a service that changes all the time is not a storm.
const CONSUL_REST: Duration = Duration::from_millis(200);
/// Names are few in what most have; more is a mistake or an attack.
const LIST_AT_MOST: u64 = 16 << 20;

/// What is to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    pub resolver: ResolverSettings,
    pub names: BTreeSet<HostName>,
    pub lists: BTreeSet<Discover>,
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In ascending order.
    pub addresses: Vec<IpAddr>,
    /// Why the last look-up found nothing.
    pub failing: Option<Failure>,
    pub by_hosts_file: bool,
}

/// What is known of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub list: Option<List>,
    /// Why what came last was not taken.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Name(HostName, Found),
    List(Arc<Discover>, Listed),
}

/// What was known before a restart.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    pub names: HashMap<HostName, Vec<IpAddr>>,
    pub lists: HashMap<String, List>,
}

/// The handle of the thread, which ends when this is dropped.
pub struct Finder {
    orders: UnboundedSender<Wants>,
    wants: Wants,
    counts: Counts,
}

impl Finder {
    pub fn start(news: UnboundedSender<News>, remembered: Remembered) -> std::io::Result<Finder> {
        let (orders, inbox) = unbounded_channel();
        let counts = Counts::default();
        let own = counts.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("discover".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, Search::new(news, remembered, own).run(inbox));
        })?;
        Ok(Finder { orders, wants: Wants::default(), counts })
    }

    /// What became of questions, by name server.
    pub fn asked(&self) -> BTreeMap<SocketAddr, QuestionCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&mut self, wants: Wants) {
        if wants != self.wants {
            self.wants = wants.clone();
            let _ = self.orders.send(wants);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Name(HostName),
    List(Arc<Discover>),
}

enum Done {
    Files(Result<Files, String>),
    Name(HostName, Result<Answer, Failure>),
    Services(Discover, Result<(Vec<Service>, Duration), Failure>),
    List(Discover, Result<List, String>),
    Consul(Discover, Result<(List, Option<u64>), String>),
}

/// What the files of the system say, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Files {
    paths: (PathBuf, PathBuf),
    hosts: Vec<u8>,
    resolv_conf: Vec<u8>,
}

/// A list that is followed.
struct Followed {
    believed: Believed,
    told: Option<Listed>,
    /// Which state of Consul's is known.
    index: Option<u64>,
}

struct Search {
    news: UnboundedSender<News>,
    remembered: Remembered,
    wants: Wants,
    names: HashMap<HostName, (Known, Option<Found>)>,
    lists: BTreeMap<Discover, Followed>,
    due: BTreeSet<(Instant, Subject)>,
    /// Names in `due`, each once, and those that are being looked up.
    waiting: HashMap<HostName, Option<Instant>>,
    running: usize,
    files: Option<Files>,
    reads_files: bool,
    files_at: Instant,
    hosts: HashMap<HostName, Vec<IpAddr>>,
    conf: ResolvConf,
    asking: Rc<Asking>,
    begun: Instant,
}

impl Search {
    fn new(news: UnboundedSender<News>, remembered: Remembered, counts: Counts) -> Search {
        let asking =
            Asking { servers: Vec::new(), timeout: Duration::ZERO, rounds: 1, udp_size: 512, counts };
        Search {
            news,
            remembered,
            wants: Wants::default(),
            names: HashMap::new(),
            lists: BTreeMap::new(),
            due: BTreeSet::new(),
            waiting: HashMap::new(),
            running: 0,
            files: None,
            reads_files: false,
            files_at: Instant::now(),
            hosts: HashMap::new(),
            conf: resolv_conf(""),
            asking: Rc::new(asking),
            begun: Instant::now(),
        }
    }

    async fn run(mut self, mut inbox: UnboundedReceiver<Wants>) {
        let (done, mut finished) = unbounded_channel();
        loop {
            let wanted = !self.names.is_empty() || !self.lists.is_empty();
            if wanted && !self.reads_files && Instant::now() >= self.files_at {
                self.read_files(&done);
            }
            self.start_due(&done);
            let room = self.files.is_some() && self.running < AT_ONCE;
            let next = self.due.first().map(|(at, _)| *at).filter(|_| room);
            let files_at = Some(self.files_at).filter(|_| wanted && !self.reads_files);
            let wake = [next, files_at].into_iter().flatten().min();
            let wake = wake.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(wants) => self.follow(wants),
                    None => return,
                },
                Some(done) = finished.recv() => self.take(done),
                () = sleep_until(wake) => {}
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn follow(&mut self, wants: Wants) {
        let now = Instant::now();
        let other_rules = wants.resolver != self.wants.resolver;
        self.wants = wants;
        let mut names = self.wants.names.clone();
        names.extend(self.wants.lists.iter().filter_map(|d| match &d.source {
            DiscoverSource::Dns(name, _) => Some(name.clone()),
            _ => None,
        }));
        self.names.retain(|name, _| names.contains(name));
        let now_ms = self.now_ms();
        for name in names {
            if !self.names.contains_key(&name) {
                let before = self.remembered.names.get(&name);
                let known = before.map_or_else(Known::default, |a| Known::remembered(a, now_ms));
                self.names.insert(name.clone(), (known, None));
                self.soon(&name, now);
            }
        }
        let lists = self.wants.lists.clone();
        // What a source said is known of it with other rules, too.
        let new: Vec<Discover> = lists.iter().filter(|l| !self.lists.contains_key(l)).cloned().collect();
        let sources: BTreeSet<String> = new.iter().map(|l| l.source.to_string()).collect();
        for (list, followed) in &self.lists {
            let known = followed.believed.list().map(|known| (list.source.to_string(), known.clone()));
            self.remembered.lists.extend(known.filter(|(source, _)| sources.contains(source)));
        }
        self.lists.retain(|list, _| lists.contains(list));
        for list in new {
            let before = self.remembered.lists.get(&list.source.to_string()).cloned();
            let believed = before.map_or_else(Believed::default, Believed::remembered);
            self.lists.insert(list.clone(), Followed { believed, told: None, index: None });
            match &list.source {
                // Of a name that may be known already: its next answer is the list.
                DiscoverSource::Dns(name, _) => self.soon(name, now),
                _ => drop(self.due.insert((now, Subject::List(Arc::new(list))))),
            }
        }
        sources.iter().for_each(|source| drop(self.remembered.lists.remove(source)));
        if other_rules {
            self.files_at = now;
            self.files = self.files.take().filter(|f| f.paths == paths(&self.wants.resolver));
            self.adjust();
            self.look_again();
        }
    }

    /// Looks a name up at this time, and not later; one that is being looked up is there soon enough.
    fn soon(&mut self, name: &HostName, at: Instant) {
        match self.waiting.get(name).copied() {
            Some(None) => return,
            Some(Some(before)) => drop(self.due.remove(&(before, Subject::Name(name.clone())))),
            None => {}
        }
        self.waiting.insert(name.clone(), Some(at));
        self.due.insert((at, Subject::Name(name.clone())));
    }

    /// Rules or files have changed: everything is looked up anew.
    fn look_again(&mut self) {
        let now = Instant::now();
        let waiting = std::mem::take(&mut self.due);
        self.due = waiting.into_iter().map(|(at, subject)| (at.min(now), subject)).collect();
        self.waiting.values_mut().for_each(|at| *at = at.map(|at| at.min(now)));
    }

    /// Who is asked, by the rules and by resolv.conf.
    fn adjust(&mut self) {
        let rules = &self.wants.resolver;
        let own = !rules.servers.is_empty();
        let default = ResolverSettings::default();
        let conf = &self.conf;
        // What the configuration says goes before resolv.conf.
        let timeout = conf.timeout.filter(|_| !own && rules.timeout == default.timeout);
        let rounds = conf.attempts.filter(|_| !own && rules.retries == default.retries);
        let counts = self.asking.counts.clone();
        let servers = if own { rules.servers.clone() } else { conf.servers.clone() };
        let mut all = counts.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|server, _| servers.contains(server));
        for server in &servers {
            all.entry(*server).or_default();
        }
        drop(all);
        self.asking = Rc::new(Asking {
            counts,
            servers,
            timeout: timeout.unwrap_or(rules.timeout),
            rounds: rounds.unwrap_or(rules.retries + 1),
            udp_size: rules.udp_size,
        });
    }

    fn read_files(&mut self, done: &UnboundedSender<Done>) {
        let (paths, done) = (paths(&self.wants.resolver), done.clone());
        self.reads_files = true;
        tokio::task::spawn_blocking(move || {
            let read = |path: &Path, at_most| match evenkeel_files::read(path, at_most) {
                Ok(bytes) => Ok(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(format!("{}: {error}", path.display())),
            };
            let hosts = read(&paths.0, HOSTS_AT_MOST);
            let conf = read(&paths.1, CONF_AT_MOST);
            let files = hosts.and_then(|hosts| Ok(Files { paths, hosts, resolv_conf: conf? }));
            let _ = done.send(Done::Files(files));
        });
    }

    fn take_files(&mut self, read: Result<Files, String>) {
        self.reads_files = false;
        self.files_at = Instant::now() + FILES;
        let files = match (read, &self.files) {
            (Ok(files), known) if known.as_ref() != Some(&files) => files,
            // What cannot be read now stays as it was.
            (Err(_), None) => Files { paths: paths(&self.wants.resolver), ..Files::default() },
            _ => return,
        };
        if files.paths != paths(&self.wants.resolver) {
            self.files_at = Instant::now();
            return;
        }
        self.hosts = hosts(&String::from_utf8_lossy(&files.hosts));
        self.conf = resolv_conf(&String::from_utf8_lossy(&files.resolv_conf));
        self.files = Some(files);
        self.adjust();
        self.look_again();
    }

    fn start_due(&mut self, done: &UnboundedSender<Done>) {
        let now = Instant::now();
        while self.files.is_some() && self.running < AT_ONCE {
            if self.due.first().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let Some((_, subject)) = self.due.pop_first() else { return };
            match subject {
                Subject::Name(name) => self.look_up(name, done.clone()),
                Subject::List(list) => self.look_at((*list).clone(), done.clone()),
            }
        }
    }

    fn look_up(&mut self, name: HostName, done: UnboundedSender<Done>) {
        if !self.names.contains_key(&name) {
            self.waiting.remove(&name);
            return;
        }
        self.waiting.insert(name.clone(), None);
        self.running += 1;
        if let Some(addresses) = self.hosts.get(&name).filter(|a| !a.is_empty()) {
            let ttl = self.wants.resolver.max_ttl;
            let answer = Answer { addresses: addresses.clone(), ttl, whole: true };
            let _ = done.send(Done::Name(name, Ok(answer)));
            return;
        }
        let (asking, names) = (self.asking.clone(), self.conf.candidates(&name));
        tokio::task::spawn_local(async move {
            let answer = ask::addresses(&asking, &names).await;
            let _ = done.send(Done::Name(name, answer));
        });
    }

    fn look_at(&mut self, list: Discover, done: UnboundedSender<Done>) {
        let Some(followed) = self.lists.get(&list) else { return };
        let index = followed.index;
        // One that Consul keeps waiting takes nobody's place.
        self.running += usize::from(!matches!(list.source, DiscoverSource::Consul(_)));
        match list.source.clone() {
            DiscoverSource::File(path) => {
                tokio::task::spawn_blocking(move || {
                    let read = evenkeel_files::read(&path, LIST_AT_MOST).map_err(|e| e.to_string());
                    let is_yaml = path.extension().is_some_and(|e| e == "yml" || e == "yaml");
                    let form = if is_yaml { file_sd_yaml } else { file_sd };
                    let found = read.and_then(|bytes| form(&bytes, list.at_most));
                    let _ = done.send(Done::List(list, found));
                });
            }
            DiscoverSource::Docker(source) => {
                tokio::task::spawn_blocking(move || {
                    let got = docker::containers(&source, PATIENCE, LIST_AT_MOST as usize);
                    let found = got.and_then(|bytes| docker::servers(&bytes, &source, list.at_most));
                    let _ = done.send(Done::List(list, found));
                });
            }
            DiscoverSource::Http(source) => {
                let got = self.get(source, String::new(), PATIENCE);
                tokio::task::spawn_local(async move {
                    let found = got.await.and_then(|heard| file_sd(&heard.body, list.at_most));
                    let _ = done.send(Done::List(list, found));
                });
            }
            DiscoverSource::Consul(source) => {
                // Consul adds up to a sixteenth to the time that it may wait.
                let patience = PATIENCE + list.interval + list.interval / 8;
                let got = self.get(source.at, consul::question(index, list.interval), patience);
                tokio::task::spawn_local(async move {
                    let found = got.await.and_then(|heard| {
                        let list = consul::servers(&heard.body, list.at_most)?;
                        Ok((list, consul::next_index(index, heard.index)))
                    });
                    let _ = done.send(Done::Consul(list, found));
                });
            }
            DiscoverSource::DnsSrv(name) => {
                let asking = self.asking.clone();
                tokio::task::spawn_local(async move {
                    let services = ask::services(&asking, &name).await;
                    let _ = done.send(Done::Services(list, services));
                });
            }
            DiscoverSource::Dns(..) => self.running -= 1,
        }
    }

    /// What an address says over HTTP, whose host is looked up first.
    fn get(
        &self,
        source: HttpSource,
        query: String,
        patience: Duration,
    ) -> impl Future<Output = Result<Heard, String>> + use<> {
        let bare = source.host.trim_matches(['[', ']']);
        let name = HostName::new(bare);
        let own = bare.parse().ok().map(|ip: IpAddr| vec![ip]);
        let own = own.or_else(|| self.hosts.get(name.as_ref()?).cloned());
        let names = name.map_or_else(Vec::new, |name| self.conf.candidates(&name));
        let asking = self.asking.clone();
        async move {
            let addresses = match own {
                Some(own) => own,
                None => match ask::addresses(&asking, &names).await {
                    Ok(answer) => answer.addresses,
                    Err(failure) => return Err(format!("{}: {}", source.host, failure.as_str())),
                },
            };
            let got = tokio::task::spawn_blocking(move || {
                http::get(&source, &query, &addresses, patience, LIST_AT_MOST)
            });
            got.await.unwrap_or_else(|_| Err("it cannot be asked".into()))
        }
    }

    fn take(&mut self, done: Done) {
        if let Done::Files(files) = done {
            return self.take_files(files);
        }
        self.running -= usize::from(!matches!(done, Done::Consul(..)));
        match done {
            Done::Files(_) => {}
            Done::Consul(list, found) => {
                let retry_after = self.wants.resolver.retry_after;
                let Some(followed) = self.lists.get_mut(&list) else { return };
                followed.index = found.as_ref().ok().and_then(|(_, index)| *index);
                // Without a state to wait for it is asked now and then.
                let again = match (&found, followed.index) {
                    (Ok(_), Some(_)) => CONSUL_REST,
                    (Ok(_), None) => Duration::from_secs(5),
                    (Err(_), _) => retry_after,
                };
                self.take_list(&list, found.map(|(list, _)| list));
                self.again(list, again);
            }
            Done::Name(name, answer) => self.take_name(name, answer),
            Done::List(list, found) => {
                let again = list.interval;
                self.take_list(&list, found);
                self.again(list, again);
            }
            Done::Services(list, found) => {
                let rules = &self.wants.resolver;
                let again = match &found {
                    Ok((_, ttl)) => rules.hold.valid.unwrap_or((*ttl).clamp(rules.min_ttl, rules.max_ttl)),
                    Err(_) => rules.retry_after,
                };
                let found = found.map_err(|failure| failure.as_str().to_owned());
                let found = found.and_then(|(services, _)| listed(&services, list.at_most));
                self.take_list(&list, found);
                self.again(list, again);
            }
        }
    }

    /// Looks at a list again after a while; one that went and came back meanwhile is looked at once.
    fn again(&mut self, list: Discover, after: Duration) {
        let is_followed = self.lists.contains_key(&list);
        let subject = Subject::List(Arc::new(list));
        if is_followed && !self.due.iter().any(|(_, due)| *due == subject) {
            self.due.insert((Instant::now() + after, subject));
        }
    }

    fn take_name(&mut self, name: HostName, answer: Result<Answer, Failure>) {
        let now_ms = self.now_ms();
        let by_hosts_file = self.hosts.contains_key(&name);
        self.waiting.remove(&name);
        let Some((known, told)) = self.names.get_mut(&name) else { return };
        let rules = &self.wants.resolver;
        let again = match &answer {
            Ok(answer) => known.on_answer(now_ms, answer, rules),
            Err(failure) => known.on_failure(now_ms, *failure, rules),
        };
        let found = Found { addresses: known.addresses(), failing: known.failing(), by_hosts_file };
        if told.as_ref() != Some(&found) {
            *told = Some(found.clone());
            let _ = self.news.send(News::Name(name.clone(), found.clone()));
        }
        let of_name = |d: &&Discover| matches!(&d.source, DiscoverSource::Dns(n, _) if *n == name);
        for list in self.lists.keys().filter(of_name).cloned().collect::<Vec<_>>() {
            let DiscoverSource::Dns(_, port) = list.source else { continue };
            let places = found.addresses.iter().map(|ip| Endpoint::Address(SocketAddr::new(*ip, port)));
            let servers: List = places.map(|place| (place, Details::default())).collect();
            let servers = match (found.failing, servers.len() > list.at_most as usize) {
                (Some(failure), _) => Err(failure.as_str().to_owned()),
                (None, true) => Err(too_many(list.at_most)),
                (None, false) => Ok(servers),
            };
            self.take_list(&list, servers);
        }
        self.soon(&name, Instant::now() + again);
    }

    fn take_list(&mut self, list: &Discover, found: Result<List, String>) {
        let now_ms = self.now_ms();
        let Some(followed) = self.lists.get_mut(list) else { return };
        let trouble = match found.map(|new| followed.believed.on_list(now_ms, new, list)) {
            Ok(Verdict::Taken | Verdict::Same) => None,
            Ok(Verdict::Kept(why)) => {
                // What waits is asked for again, not for its change.
                followed.index = None;
                Some(why)
            }
            Err(why) => Some(why),
        };
        let listed = Listed { list: followed.believed.list().cloned(), trouble };
        if followed.told.as_ref() != Some(&listed) {
            followed.told = Some(listed.clone());
            let _ = self.news.send(News::List(Arc::new(list.clone()), listed));
        }
    }
}

fn paths(rules: &ResolverSettings) -> (PathBuf, PathBuf) {
    (rules.hosts.clone(), rules.resolv_conf.clone())
}

/// Servers of SRV records: those of the first priority, later ones as backups. Weights become shares of
/// the largest; a weight of 0 is a very small one (RFC 2782).
fn listed(services: &[Service], at_most: u32) -> Result<List, String> {
    if services.len() > at_most as usize {
        return Err(too_many(at_most));
    }
    let first = services.iter().map(|s| s.priority).min().unwrap_or(0);
    let all_zero = services.iter().all(|s| s.weight == 0);
    let mut list = List::new();
    for service in services {
        let weight = if all_zero { None } else { Some(service.weight.max(1)) };
        let details = Details { weight, backup: service.priority > first };
        list.entry(Endpoint::Name(service.target.clone(), service.port)).or_insert(details);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_servers() {
        let service = |priority, weight, target: &str| Service {
            priority,
            weight,
            port: 80,
            target: HostName::new(target).unwrap(),
        };
        let all = [service(10, 60, "a"), service(10, 0, "b"), service(20, 5, "c"), service(10, 60, "a")];
        let list = listed(&all, 10).unwrap();
        let shown: Vec<_> = list.values().map(|d| (d.weight, d.backup)).collect();
        assert_eq!(shown, [(Some(60), false), (Some(1), false), (Some(5), true)]);
        assert!(listed(&all, 3).is_err());
        assert_eq!(listed(&[service(0, 0, "a")], 3).unwrap().values().next().unwrap().weight, None);
    }
}
