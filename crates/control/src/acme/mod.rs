//! Certificates that look after themselves: which are due, orders that go on, what the peer has of them.
//! Only the active node orders. Before the authority is told to look, everything that an order needs is on
//! the other node too, so that either answers and either goes on.

mod door;
mod job;
mod store;
mod told;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use evenkeel_acme::{Answer, Failure, Issued, Pending, Seconds, Terms, back_off, renewal_at, spread};
use evenkeel_l7::ChallengeAnswer;
use evenkeel_model::{Authority, Challenge, Managed, Snapshot};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{error, info, warn};

use super::control::{Control, wall_ms};
use super::pair::Say;
use door::Door;
pub use job::News;
use job::{Job, Waiter};
use store::{Held, Record, Store};

/// Orders at a time.
const ORDERS_AT_MOST: usize = 4;
/// How often an authority is asked for the time of renewal.
const ASK_WINDOW: Seconds = 6 * 3600;
/// How long the peer may take to keep what it is sent.
const PEER: Duration = Duration::from_secs(8);
/// The next attempt after an order that failed while it changed hands.
const AFTER_CHANGE: Duration = Duration::from_secs(60);
/// A process that has just started leaves others time to become active.
const AT_START: Duration = Duration::from_secs(2);

/// One certificate.
struct Entry {
    service: String,
    managed: Managed,
    authority: Arc<Authority>,
    challenges: Vec<Challenge>,
    doors: Vec<SocketAddr>,
    record: Record,
    held: Option<Held>,
    /// The key is of the wanted kind.
    key_fits: bool,
    /// An order goes on.
    running: Option<Arc<AtomicBool>>,
    asking: bool,
    /// The order that was begun last is one that went on.
    took_over: bool,
}

/// All of them.
pub struct Acme {
    store: Store,
    entries: BTreeMap<String, Entry>,
    answers: BTreeMap<String, Vec<Answer>>,
    open: Vec<Door>,
    news: UnboundedSender<News>,
    inbox: Option<UnboundedReceiver<News>>,
    /// Threads that wait until the peer has what they want kept.
    waiting: Vec<(u64, Waiter, Instant)>,
    next: u64,
    began: Instant,
}

fn now() -> Seconds {
    (wall_ms() / 1000) as Seconds
}

impl Acme {
    pub fn new(state: &Path) -> Acme {
        let (news, inbox) = unbounded_channel();
        Acme {
            store: Store::new(state),
            entries: BTreeMap::new(),
            answers: BTreeMap::new(),
            open: Vec::new(),
            news,
            inbox: Some(inbox),
            waiting: Vec::new(),
            next: 0,
            began: Instant::now(),
        }
    }

    /// What threads say, for the daemon's loop.
    pub fn inbox(&mut self) -> UnboundedReceiver<News> {
        self.inbox.take().unwrap_or_else(|| unbounded_channel().1)
    }

    /// The listeners that were opened for challenges are closed: somebody may want their addresses.
    pub fn shut_doors(&mut self) {
        self.open.clear();
    }

    /// The certificates of a configuration.
    fn reconfigure(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.entries);
        for service in &snapshot.services {
            let Some(managed) = service.tls.as_ref().and_then(|tls| tls.managed.as_ref()) else { continue };
            let Some((ways, authority)) = evenkeel_config::ways(snapshot, service) else { continue };
            let name = store::name_of(managed);
            let old = before.remove(&name);
            let same = old.as_ref().is_some_and(|o| o.managed == *managed && *o.authority == *authority);
            // A person has changed something: that is worth an attempt.
            let mended = old.is_some() && !same;
            let mut running = old.and_then(|old| old.running);
            if !same {
                // What is ordered is another thing now.
                running.take().into_iter().for_each(|over| over.store(true, Relaxed));
            }
            let mut entry = Entry {
                service: service.name.as_str().to_owned(),
                managed: managed.clone(),
                authority: Arc::new(authority.clone()),
                challenges: ways.challenges,
                doors: ways.doors,
                record: self.store.record(&name),
                held: None,
                key_fits: true,
                running,
                asking: false,
                took_over: false,
            };
            entry.read(&self.store, &name);
            if mended {
                entry.record.not_before = None;
            }
            self.entries.insert(name, entry);
        }
        for (_, gone) in before {
            gone.running.into_iter().for_each(|over| over.store(true, Relaxed));
        }
        let entries = &self.entries;
        self.answers.retain(|name, _| entries.contains_key(name));
    }
}

impl Entry {
    /// What is on the disk.
    fn read(&mut self, store: &Store, name: &str) {
        let pem = store.pem(name);
        self.held = pem.as_deref().and_then(|pem| store::held(pem).ok());
        let key = pem.as_deref().and_then(store::key_in);
        self.key_fits = key.is_some_and(|key| key.is(self.authority.key_type));
        self.record = store.record(name);
    }

    fn renewal(&self, name: &str) -> Option<Seconds> {
        let held = self.held.as_ref()?;
        let window = self.record.window.filter(|_| self.record.window_of.as_ref() == Some(&held.serial));
        Some(renewal_at(held.not_before, held.not_after, window, spread(name)))
    }

    /// Why a new certificate is needed whatever the time, if it is.
    fn misses(&self) -> bool {
        let Some(held) = &self.held else { return true };
        !self.managed.names.iter().all(|name| held.names.contains(name))
            || held.names.len() != self.managed.names.len()
            || !self.key_fits
            || self.record.wanted
            || (!self.record.authority.is_empty() && self.record.authority != self.authority.directory)
    }

    /// When the next attempt is made.
    fn next_attempt(&self, name: &str, now: Seconds) -> Seconds {
        let wanted = if self.misses() { now } else { self.renewal(name).unwrap_or(now) };
        wanted.max(self.record.not_before.unwrap_or(0))
    }
}

impl Control {
    /// After a configuration has become the running one.
    pub(super) fn follow_acme(&mut self) {
        let snapshot = self.snapshot.clone();
        self.acme.reconfigure(&snapshot);
        self.read_open_orders();
    }

    /// Answers of orders that are open, of this node or of the one that was active.
    fn read_open_orders(&mut self) {
        let store = self.acme.store.clone();
        for (name, entry) in &self.acme.entries {
            let order = store.order(name).filter(|order| order.names == entry.managed.names);
            match order.map(|order| order.answers).filter(|answers| !answers.is_empty()) {
                Some(answers) => drop(self.acme.answers.insert(name.clone(), answers)),
                None => drop(self.acme.answers.remove(name)),
            }
        }
        if let Err(why) = self.show_answers() {
            warn!(why, "answers to challenges");
        }
    }

    /// The event loops answer what is open.
    fn show_answers(&mut self) -> Result<(), String> {
        let all = self.acme.answers.values().flatten().filter_map(|answer| {
            let challenge = Challenge::parse(&answer.challenge)?;
            let (name, token, text) = (answer.name.clone(), answer.token.clone(), answer.text.clone());
            Some(ChallengeAnswer { challenge, name, token, text })
        });
        let all: Vec<ChallengeAnswer> = all.collect();
        self.engine.challenges().set(&all)?;
        self.open_doors();
        Ok(())
    }

    /// Listeners for http-01 where nobody listens, while something is to be answered there. The passive node has
    /// them too: the authority may come at the moment in which the addresses have moved.
    fn open_doors(&mut self) {
        let http = |answers: &Vec<Answer>| answers.iter().any(|a| a.challenge == Challenge::Http.as_str());
        let mut wanted: Vec<SocketAddr> = Vec::new();
        for (name, entry) in &self.acme.entries {
            if self.acme.answers.get(name).is_some_and(http) {
                wanted.extend(&entry.doors);
            }
        }
        wanted.sort();
        wanted.dedup();
        self.acme.open.retain(|door| wanted.contains(&door.address));
        for address in wanted {
            if self.acme.open.iter().any(|door| door.address == address) {
                continue;
            }
            match Door::open(address, self.engine.challenges().clone()) {
                Ok(door) => self.acme.open.push(door),
                Err(error) => warn!(%address, %error, "no listener for http-01"),
            }
        }
    }

    /// Once a second: what is due begins, here where this node is active.
    pub(super) fn tick_acme(&mut self) {
        self.end_waiting();
        if !self.is_active_node() {
            for entry in self.acme.entries.values_mut() {
                entry.running.take().into_iter().for_each(|over| over.store(true, Relaxed));
            }
            self.open_doors();
            return;
        }
        if self.acme.entries.is_empty() || self.acme.began.elapsed() < AT_START {
            return;
        }
        self.open_doors();
        let now = now();
        let running = self.acme.entries.values().filter(|e| e.running.is_some()).count();
        let free = ORDERS_AT_MOST.saturating_sub(running);
        let due = self
            .acme
            .entries
            .iter()
            .filter(|(name, entry)| entry.running.is_none() && entry.next_attempt(name, now) <= now);
        let due: Vec<String> = due.map(|(name, _)| name.clone()).take(free).collect();
        for name in due {
            if let Err(why) = self.begin_order(&name) {
                self.order_failed(&name, &Failure { words: why, retry_after: None, order_lost: false });
            }
        }
        self.ask_windows(now);
    }

    fn begin_order(&mut self, name: &str) -> Result<(), String> {
        let store = self.acme.store.clone();
        let news = self.acme.news.clone();
        let Some(entry) = self.acme.entries.get_mut(name) else { return Ok(()) };
        let authority = entry.authority.clone();
        if entry.challenges.is_empty() {
            return Err(format!(
                "nothing here can answer {}: its port {} belongs to a service of another mode, and {} has no port {}",
                authority.name, authority.http_port, entry.service, authority.tls_port
            ));
        }
        let (account, fresh) = store.account(&authority)?;
        let pem = store.pem(name);
        // After a failure another way is tried first.
        let mut challenges = entry.challenges.clone();
        if authority.challenges.is_empty() && !challenges.contains(&Challenge::Dns) {
            let turn = entry.record.failures as usize % challenges.len();
            challenges.rotate_left(turn);
        }
        let replaces = entry.held.as_ref().filter(|held| now() < held.not_after && !entry.misses());
        let replaces = replaces.and(pem.as_deref()).and_then(evenkeel_acme::renewal_id_of);
        let terms = Terms {
            directory: authority.directory.clone(),
            contact: authority.contact.clone(),
            external: None,
            profile: authority.profile.clone(),
            preferred_chain: authority.preferred_chain.clone(),
            names: entry.managed.names.clone(),
            challenges,
            replaces,
            now: now(),
        };
        let key = pem.as_deref().filter(|_| authority.reuse_key).and_then(store::key_in);
        let over = Arc::new(AtomicBool::new(false));
        let pending = store.order(name);
        let goes_on = pending.is_some();
        info!(certificate = name, authority = %authority.name, goes_on, "a certificate is ordered");
        let job = Job {
            name: name.to_owned(),
            authority: authority.clone(),
            terms,
            account,
            key,
            pending,
            over: over.clone(),
            news,
        };
        entry.running = Some(over);
        entry.took_over = goes_on;
        entry.record.last_attempt = Some(now());
        if fresh {
            let file = store.one(&store::file_name(authority.name.as_str()), ".account");
            self.tell_files(vec![file], None);
        }
        job.start().map_err(|e| e.to_string())
    }

    fn ask_windows(&mut self, now: Seconds) {
        let (store, news) = (self.acme.store.clone(), self.acme.news.clone());
        for (name, entry) in &mut self.acme.entries {
            let asked = entry.record.asked_window.is_some_and(|at| now - at < ASK_WINDOW && at <= now);
            let of_other = entry.record.window_of.is_some()
                && entry.record.window_of.as_ref() != entry.held.as_ref().map(|held| &held.serial);
            if entry.asking || entry.running.is_some() || (asked && !of_other) {
                continue;
            }
            let (Some(held), Some(pem)) = (&entry.held, store.pem(name)) else { continue };
            entry.record.asked_window = Some(now);
            entry.record.window_of = Some(held.serial.clone());
            let (authority, of) = (entry.authority.clone(), held.serial.clone());
            entry.asking = job::ask_window(authority, name.clone(), of, pem, news.clone()).is_ok();
        }
    }

    // What threads say

    pub(super) fn on_acme(&mut self, news: News) {
        match news {
            News::Account { authority, pkcs8, url, waiter } => {
                let kept = self.acme.store.keep_account(&authority, &pkcs8, Some(&url));
                let name = store::file_name(authority.name.as_str());
                let file = self.acme.store.one(&name, ".account");
                self.keep_on_both(kept, vec![file], waiter);
            }
            News::Keep { name, pending, waiter } => self.keep_order(&name, &pending, waiter),
            News::Publish { name, answers, waiter } => {
                self.acme.answers.insert(name, answers);
                let _ = waiter.send(self.show_answers());
            }
            News::Ended { name, result } => {
                let over = self.acme.entries.get_mut(&name).and_then(|entry| entry.running.take());
                // Nobody wants it any more; what it has begun goes on elsewhere or with the next attempt.
                let given_up = over.is_none_or(|over| over.load(Relaxed));
                match result {
                    Ok(issued) => self.issued(&name, &issued),
                    Err(_) if given_up => {}
                    Err(failure) => self.order_failed(&name, &failure),
                }
            }
            News::Window { name, of, result } => self.window_came(&name, &of, result),
            News::Revoked { name, result } => self.revoked(&name, result),
        }
    }

    fn keep_order(&mut self, name: &str, pending: &Pending, waiter: Waiter) {
        let text = serde_json::to_string(pending).map_err(|e| e.to_string());
        let kept = text.and_then(|text| self.acme.store.write(name, ".order", Some(&text)));
        let file = self.acme.store.one(name, ".order");
        self.keep_on_both(kept, vec![file], waiter);
    }

    /// Goes on when the peer has it too, where there is one.
    fn keep_on_both(
        &mut self,
        kept: Result<(), String>,
        files: Vec<(String, Option<String>)>,
        waiter: Waiter,
    ) {
        match kept {
            Ok(()) => self.tell_files(files, Some(waiter)),
            Err(why) => drop(waiter.send(Err(why))),
        }
    }

    fn tell_files(&mut self, files: Vec<(String, Option<String>)>, waiter: Option<Waiter>) {
        if self.link_up().is_none() {
            waiter.into_iter().for_each(|waiter| drop(waiter.send(Ok(()))));
            return;
        }
        self.acme.next += 1;
        let id = self.acme.next;
        let active = self.is_active_node();
        self.say(&Say::Managed { id, active, files });
        self.acme.waiting.extend(waiter.map(|waiter| (id, waiter, Instant::now() + PEER)));
    }

    /// A peer that says nothing does not hold up a certificate for ever.
    fn end_waiting(&mut self) {
        let alone = self.link_up().is_none();
        let now = Instant::now();
        self.acme.waiting.retain(|(_, waiter, until)| {
            let ends = alone || *until <= now;
            if ends {
                if !alone {
                    warn!("the peer does not say that it has kept what was ordered: this node goes on alone");
                }
                let _ = waiter.send(Ok(()));
            }
            !ends
        });
    }

    fn issued(&mut self, name: &str, issued: &Issued) {
        let checked = evenkeel_admin::tls(&issued.pem, false).map(drop);
        let stored = checked.and_then(|()| self.acme.store.write(name, ".pem", Some(&issued.pem)));
        if let Err(why) = stored {
            let words = format!("the certificate is there, but cannot be kept: {why}");
            return self.order_failed(name, &Failure { words, retry_after: None, order_lost: false });
        }
        if let Err(why) = self.acme.store.write(name, ".order", None) {
            warn!(why, "an order that is done");
        }
        let store = self.acme.store.clone();
        let Some(entry) = self.acme.entries.get_mut(name) else { return };
        entry.record = Record {
            changed_ms: wall_ms(),
            authority: entry.authority.directory.clone(),
            last_attempt: Some(now()),
            ..Record::default()
        };
        self.keep_record(name);
        if let Some(entry) = self.acme.entries.get_mut(name) {
            entry.read(&store, name);
        }
        self.acme.answers.remove(name);
        if let Err(why) = self.show_answers() {
            warn!(why, "answers to challenges");
        }
        let files = vec![store.one(name, ".pem"), (format!("{name}.order"), None)];
        self.tell_files(files, None);
        self.look_at_files();
        let Some(entry) = self.acme.entries.get(name) else { return };
        let (names, authority) = (entry.managed.names.join(", "), &entry.authority.name);
        let text = format!("{authority} gave a certificate for {names}; it is in use at {}", entry.service);
        let file = entry.managed.file.display().to_string();
        info!(certificate = name, issuer = issued.issuer, "a certificate was given");
        self.happen("certificate", "good", &file, text);
    }

    fn order_failed(&mut self, name: &str, failure: &Failure) {
        let now = now();
        let Some(entry) = self.acme.entries.get_mut(name) else { return };
        let left = entry.held.as_ref().map(|held| Duration::from_secs((held.not_after - now).max(0) as u64));
        let record = &mut entry.record;
        record.failures = record.failures.saturating_add(1);
        record.last_error = Some(failure.words.clone());
        record.last_attempt = Some(now);
        record.wanted = false;
        let mut wait = back_off(record.failures, failure.retry_after, left, spread(name));
        if std::mem::take(&mut entry.took_over) && failure.retry_after.is_none() && record.failures == 1 {
            // The authority may have come while the addresses were on neither node.
            wait = AFTER_CHANGE;
        }
        record.not_before = Some(now + wait.as_secs() as Seconds);
        record.changed_ms = wall_ms();
        let minutes = wait.as_secs().div_ceil(60);
        let text = format!(
            "no certificate for {} from {}: {}; the next attempt is in {minutes} min, {}",
            entry.managed.names.join(", "),
            entry.authority.name,
            failure.words,
            if entry.held.is_some() { "the one in use stays" } else { "a self-signed one is served" },
        );
        let level =
            if left.is_some_and(|left| left > Duration::from_secs(3 * 86_400)) { "warning" } else { "bad" };
        let file = entry.managed.file.display().to_string();
        error!(certificate = name, why = failure.words, minutes, "no certificate");
        self.keep_record(name);
        if failure.order_lost {
            if let Err(why) = self.acme.store.write(name, ".order", None) {
                warn!(why, "an order that is lost");
            }
            self.tell_files(vec![(format!("{name}.order"), None)], None);
        }
        self.acme.answers.remove(name);
        if let Err(why) = self.show_answers() {
            warn!(why, "answers to challenges");
        }
        self.happen("certificate", level, &file, text);
    }

    fn window_came(&mut self, name: &str, of: &str, result: Result<Option<(Seconds, Seconds)>, String>) {
        let Some(entry) = self.acme.entries.get_mut(name) else { return };
        entry.asking = false;
        entry.record.asked_window = Some(now());
        match result {
            Ok(window) => {
                entry.record.window = window;
                entry.record.window_of = Some(of.to_owned());
            }
            Err(why) => info!(certificate = name, why, "the authority does not say when to renew"),
        }
        self.keep_record(name);
    }

    fn revoked(&mut self, name: &str, result: Result<(), String>) {
        let Some(entry) = self.acme.entries.get_mut(name) else { return };
        let file = entry.managed.file.display().to_string();
        match result {
            Ok(()) => {
                (entry.record.revoked, entry.record.wanted, entry.record.not_before) = (true, true, None);
                self.keep_record(name);
                self.happen(
                    "certificate",
                    "warning",
                    &file,
                    format!("the certificate {name} was revoked; a new one is ordered"),
                );
            }
            Err(why) => self.happen("certificate", "bad", &file, why),
        }
    }

    fn keep_record(&mut self, name: &str) {
        let Some(entry) = self.acme.entries.get_mut(name) else { return };
        entry.record.changed_ms = wall_ms().max(entry.record.changed_ms + 1);
        let text = serde_json::to_string(&entry.record).map_err(|e| e.to_string());
        let kept = text.and_then(|text| self.acme.store.write(name, ".record", Some(&text)));
        match kept {
            Ok(()) => {
                let file = self.acme.store.one(name, ".record");
                self.tell_files(vec![file], None);
            }
            Err(why) => warn!(why, "what is known of a certificate cannot be kept"),
        }
    }

    // The pair

    /// Everything, to a peer that came.
    pub(super) fn tell_managed(&mut self) {
        let all = self.acme.store.all();
        // What is over here is over there.
        let over = self.acme.entries.keys().map(|name| format!("{name}.order"));
        let over: Vec<_> =
            over.filter(|o| !all.iter().any(|(file, _)| file == o)).map(|o| (o, None)).collect();
        self.tell_files(over, None);
        for (file, content) in all {
            self.tell_files(vec![(file, Some(content))], None);
        }
    }

    /// What the peer has of certificates.
    pub(super) fn take_managed(&mut self, id: u64, active: bool, files: Vec<(String, Option<String>)>) {
        // Two nodes that think that they are active believe each other's certificates, and no orders.
        let of_active = active && !self.is_active_node();
        let mut failed = None;
        let mut changed = false;
        for (file, content) in files {
            match self.acme.store.take(&file, content.as_deref(), of_active) {
                Ok(taken) => changed |= taken,
                Err(why) => {
                    warn!(why, "a file of the peer's certificates was not taken");
                    failed = Some(why);
                }
            }
        }
        self.say(&Say::ManagedKept { id, failed });
        if changed {
            self.read_store();
        }
    }

    /// Files came or went.
    fn read_store(&mut self) {
        let store = self.acme.store.clone();
        for (name, entry) in self.acme.entries.iter_mut().filter(|(_, entry)| entry.running.is_none()) {
            entry.read(&store, name);
        }
        self.read_open_orders();
        self.look_at_files();
    }

    /// This node joins another one: what it has ordered itself is worth nothing there.
    pub(super) fn give_way_with_certificates(&mut self) -> Result<(), String> {
        self.acme.store.give_way()?;
        self.read_store();
        Ok(())
    }

    pub(super) fn managed_kept(&mut self, id: u64, failed: Option<String>) {
        if let Some(why) = failed {
            warn!(why, "the peer could not keep what was ordered");
        }
        let at = self.acme.waiting.iter().position(|(waiting, ..)| *waiting == id);
        if let Some((_, waiter, _)) = at.map(|at| self.acme.waiting.swap_remove(at)) {
            let _ = waiter.send(Ok(()));
        }
    }
}
