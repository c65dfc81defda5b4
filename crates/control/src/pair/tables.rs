//! What is remembered of clients, kept by others too: each change goes to the peer at once, and to
//! a journal on disk within a second.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_balance::{Change, ChangedEntry, Counter, Key, OnChange, Table};
use evenkeel_l7::EngineConfig;
use tokio::sync::Notify;
use tracing::warn;

use super::super::control::{monotonic_ms, wall_ms};
use super::journal::{Journal, removed_of};
use super::removed::Removed;

pub(super) const CHANGES: u8 = 0;
/// Everything of a table follows, and then nothing else is true.
const BEGIN: u8 = 1;
const END: u8 = 2;
/// Keys that were removed, each with the milliseconds since.
const REMOVED: u8 = 3;
/// Entries of one message.
pub(super) const BATCH: usize = 1_000;
/// How long changes may gather for the disk.
const SAVE: Duration = Duration::from_millis(500);

/// A table with the names of what its numbers mean.
#[derive(Clone)]
pub struct TableRef {
    pub name: String,
    pub table: Arc<Table>,
    servers: Arc<Vec<(u32, String)>>,
}

/// The tables of a configuration: of pools, and of routes.
pub fn tables_of(config: &EngineConfig) -> Vec<TableRef> {
    let pools = config.pools.iter().filter_map(|pool| {
        let servers = pool.servers.iter().map(|s| (s.id, s.server.name.as_str().to_owned()));
        Some(TableRef {
            name: format!("pool:{}", pool.pool.name),
            table: pool.table.clone()?,
            servers: Arc::new(servers.collect()),
        })
    });
    // Entries of a table are told once, by whatever key they are asked.
    let counting = config.tables.iter().filter(|spec| spec.rule.entries_of.is_none()).map(|spec| TableRef {
        name: format!("table:{}", spec.rule.name),
        table: spec.table.clone(),
        servers: Arc::default(),
    });
    pools.chain(counting).collect()
}

pub struct Tables {
    shared: Arc<TablesShared>,
}

struct TablesShared {
    tables: Mutex<Arc<Vec<TableRef>>>,
    wake: Arc<Notify>,
    /// Rung by tables.
    on_change: OnChange,
    stopped: AtomicBool,
    /// The peer is to be told everything.
    whole: AtomicBool,
    /// The peer is to be told what was removed lately.
    tell_removed: AtomicBool,
    removed: Arc<Mutex<Removed>>,
    /// Keys of tables that the peer tells from the start.
    hearing: Mutex<HashMap<String, HashSet<Box<[u8]>>>>,
    /// Messages of the peer for the journal; what it tells is kept on both disks.
    heard: Mutex<Vec<Vec<u8>>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where messages for the peer go.
pub trait Outlet: Send + 'static {
    fn is_open(&self) -> bool;
    fn send(&self, body: Vec<u8>);
    /// What was removed lately: of its own kind, which an older version passes over.
    fn send_removed(&self, body: Vec<u8>);
}

impl Tables {
    /// Must be called within a tokio runtime.
    pub fn start(journal: PathBuf, outlet: impl Outlet) -> Tables {
        let bell = Arc::new(Notify::new());
        let rung = bell.clone();
        let shared = Arc::new(TablesShared {
            tables: Mutex::default(),
            wake: bell,
            on_change: Arc::new(move || rung.notify_one()),
            stopped: AtomicBool::new(false),
            whole: AtomicBool::new(false),
            tell_removed: AtomicBool::new(false),
            removed: Arc::new(Mutex::new(removed_of(&journal))),
            hearing: Mutex::default(),
            heard: Mutex::default(),
        });
        tokio::spawn(pump(shared.clone(), journal, outlet));
        Tables { shared }
    }

    /// Follows these tables from now on.
    pub fn set(&self, tables: Vec<TableRef>) {
        tables.iter().for_each(|table| table.table.watch(&self.shared.on_change));
        *lock(&self.shared.tables) = Arc::new(tables);
    }

    /// Entries of all tables.
    pub fn count(&self) -> usize {
        let tables = lock(&self.shared.tables).clone();
        tables.iter().map(|table| table.table.len()).sum()
    }

    /// Tells the peer everything.
    pub fn tell_whole(&self) {
        self.shared.whole.store(true, Relaxed);
        self.shared.wake.notify_one();
    }

    /// Tells the peer what was removed lately: it may have been away then.
    pub fn tell_removed(&self) {
        self.shared.tell_removed.store(true, Relaxed);
        self.shared.wake.notify_one();
    }

    /// The peer tells what was removed there lately.
    pub fn apply_removed(&self, body: &[u8]) {
        let tables = lock(&self.shared.tables).clone();
        let Some((name, keys)) = parse_removed(body) else {
            return warn!("a message of the peer about removed entries is not understood");
        };
        let Some(table) = tables.iter().find(|t| t.name == name) else { return };
        let now_ms = monotonic_ms();
        for (key, age_ms) in keys {
            table.table.remove_older(&key, age_ms, now_ms);
        }
    }

    /// A message of the peer.
    pub fn apply_remote(&self, body: &[u8]) {
        let tables = lock(&self.shared.tables).clone();
        let now_ms = monotonic_ms();
        let Some(message) = Message::parse(body) else {
            return warn!("a message of the peer about tables is not understood");
        };
        let Some(table) = tables.iter().find(|t| t.name == message.table) else { return };
        let mut hearing = lock(&self.shared.hearing);
        match message.kind {
            BEGIN => drop(hearing.insert(message.table.clone(), HashSet::new())),
            END => {
                if let Some(known) = hearing.remove(&message.table) {
                    table.table.keep_only(&known);
                }
            }
            _ => {
                if let Some(known) = hearing.get_mut(&message.table) {
                    known.extend(message.entries.iter().map(|e| e.key.bytes().into()));
                }
            }
        }
        drop(hearing);
        let mut removed = lock(&self.shared.removed);
        for entry in message.entries {
            let told = entry.resolve(table);
            if note_removed(&mut removed, table, &told) {
                table.table.apply_remote(&told, now_ms);
            }
        }
        drop(removed);
        lock(&self.shared.heard).push(body.to_vec());
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
        self.shared.wake.notify_one();
    }
}

/// Remembers what goes and forgets what comes back; whether it is to be followed.
fn note_removed(removed: &mut Removed, table: &TableRef, told: &Change) -> bool {
    let (key, now_ms) = (told.key.bytes(), wall_ms());
    match &told.entry {
        None => {
            removed.note(&table.name, key, now_ms);
            true
        }
        Some(entry) => {
            let idle_ms = table.table.expire_ms().saturating_sub(entry.left_ms);
            removed.is_later(&table.name, key, now_ms.saturating_sub(idle_ms))
        }
    }
}

fn note_all_removed(removed: &Mutex<Removed>, table: &TableRef, told: &[Change]) {
    let mut removed = lock(removed);
    for told in told {
        note_removed(&mut removed, table, told);
    }
}

fn tell_removed(removed: &Mutex<Removed>, tables: &[TableRef], outlet: &impl Outlet) {
    let now_ms = wall_ms();
    for table in tables {
        let keys = lock(removed).of(&table.name, table.table.expire_ms(), now_ms);
        for some in keys.chunks(BATCH) {
            let mut body = encode(REMOVED, table, &[]);
            for (key, at_ms) in some {
                body.push(key.len() as u8);
                body.extend(key);
                body.extend(now_ms.saturating_sub(*at_ms).to_be_bytes());
            }
            outlet.send_removed(body);
        }
    }
}

/// The table, and its keys with the time since each was removed.
fn parse_removed(body: &[u8]) -> Option<(String, Vec<(Key, u64)>)> {
    let mut reader = Reader(body);
    if reader.byte()? != REMOVED {
        return None;
    }
    let table = reader.text()?;
    let mut keys = Vec::new();
    while !reader.0.is_empty() {
        let length = usize::from(reader.byte()?);
        let key = reader.take(length).filter(|key| key.len() <= Key::LEN)?;
        keys.push((Key::text(key), reader.long()?));
    }
    Some((table, keys))
}

/// Whoever ends the pump, tables keep no changes for it.
struct Unfollow(Arc<TablesShared>);

impl Drop for Unfollow {
    fn drop(&mut self) {
        for table in lock(&self.0.tables).iter() {
            table.table.unwatch(&self.0.on_change);
        }
    }
}

async fn pump(shared: Arc<TablesShared>, path: PathBuf, outlet: impl Outlet) {
    let _unfollow = Unfollow(shared.clone());
    let mut journal = Journal::open(path);
    let mut save_at = Instant::now() + SAVE;
    loop {
        let _ = tokio::time::timeout(SAVE, shared.wake.notified()).await;
        let tables = lock(&shared.tables).clone();
        if outlet.is_open() && shared.tell_removed.swap(false, Relaxed) {
            tell_removed(&shared.removed, &tables, &outlet);
        }
        if outlet.is_open() && shared.whole.swap(false, Relaxed) {
            for table in tables.iter() {
                outlet.send(encode(BEGIN, table, &[]));
                table.table.snapshot(monotonic_ms(), |told| {
                    told.chunks(BATCH).for_each(|some| outlet.send(encode(CHANGES, table, some)));
                });
                outlet.send(encode(END, table, &[]));
            }
        }
        for table in tables.iter() {
            loop {
                let told = table.table.changes(monotonic_ms(), BATCH);
                if told.is_empty() {
                    break;
                }
                note_all_removed(&shared.removed, table, &told);
                let body = encode(CHANGES, table, &told);
                journal.add(&body);
                if outlet.is_open() {
                    outlet.send(body);
                }
                // Others run here too.
                tokio::task::yield_now().await;
            }
        }
        for body in std::mem::take(&mut *lock(&shared.heard)) {
            match body.first() {
                // What the peer did not name is gone: the journal begins anew.
                Some(&END) => journal.begin_anew(),
                _ => journal.add(&body),
            }
        }
        if shared.stopped.load(Relaxed) {
            return journal.finish(&tables, &shared.removed).await;
        }
        if Instant::now() >= save_at {
            save_at = Instant::now() + SAVE;
            journal.save(&tables, &shared.removed).await;
        }
    }
}

// Messages

pub(super) struct Message {
    pub kind: u8,
    pub table: String,
    pub entries: Vec<NamedEntry>,
}

pub(super) struct NamedEntry {
    pub key: Key,
    pub server: Option<String>,
    pub entry: Option<ChangedEntry>,
}

impl NamedEntry {
    pub fn resolve(self, table: &TableRef) -> Change {
        let number = self.server.and_then(|name| table.servers.iter().find(|(_, n)| *n == name));
        let server = number.map(|(id, _)| *id);
        Change { key: self.key, entry: self.entry.map(|entry| ChangedEntry { server, ..entry }) }
    }
}

const PRESENT: u8 = 1;
const HAS_SERVER: u8 = 2;
const HAS_COUNTS: u8 = 4;
/// Counters behind the first five follow, with their places: nodes that do not know them send none.
const HAS_MORE: u8 = 8;
/// Counters that every node knows.
const FIRST: usize = 5;

pub(super) fn encode(kind: u8, table: &TableRef, told: &[Change]) -> Vec<u8> {
    let mut bytes = vec![kind, table.name.len().min(255) as u8];
    bytes.extend(table.name.bytes().take(255));
    for told in told {
        bytes.push(told.key.bytes().len() as u8);
        bytes.extend(told.key.bytes());
        let Some(entry) = &told.entry else {
            bytes.push(0);
            continue;
        };
        let server = entry.server.and_then(|id| table.servers.iter().find(|(n, _)| *n == id));
        let more: Vec<_> = entry.counts.iter().flat_map(|all| all.iter().enumerate().skip(FIRST)).collect();
        let more: Vec<_> = more.into_iter().filter(|(_, one)| **one != NOTHING && one.0 > 0).collect();
        let flags = PRESENT
            | if more.is_empty() { 0 } else { HAS_MORE }
            | if server.is_some() { HAS_SERVER } else { 0 }
            | if entry.counts.is_some() { HAS_COUNTS } else { 0 };
        bytes.push(flags);
        bytes.extend(entry.left_ms.to_be_bytes());
        if let Some((_, name)) = server {
            bytes.push(name.len().min(255) as u8);
            bytes.extend(name.bytes().take(255));
        }
        for counts in entry.counts.iter().flat_map(|all| &all[..FIRST]) {
            write_counts(counts, &mut bytes);
        }
        if !more.is_empty() {
            bytes.push(more.len() as u8);
        }
        for (place, counts) in more {
            bytes.push(place as u8);
            write_counts(counts, &mut bytes);
        }
    }
    bytes
}

/// Total, counts of the present span and of the one before, and the age of the present one.
type Counts = (u64, u64, u64, u64);

const NOTHING: Counts = (0, 0, 0, 0);

fn write_counts((total, now, before, age): &Counts, bytes: &mut Vec<u8>) {
    [total, now, before, age].iter().for_each(|n| bytes.extend(n.to_be_bytes()));
}

pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    pub fn long(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn counts(&mut self) -> Option<Counts> {
        Some((self.long()?, self.long()?, self.long()?, self.long()?))
    }
}

impl Message {
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let mut reader = Reader(bytes);
        let kind = reader.byte()?;
        let table = reader.text()?;
        let mut entries = Vec::new();
        while !reader.0.is_empty() {
            let length = usize::from(reader.byte()?);
            if length > Key::LEN {
                return None;
            }
            let key = Key::text(reader.take(length)?);
            let flags = reader.byte()?;
            if flags & PRESENT == 0 {
                entries.push(NamedEntry { key, server: None, entry: None });
                continue;
            }
            let left_ms = reader.long()?;
            let server = if flags & HAS_SERVER > 0 { Some(reader.text()?) } else { None };
            let mut counts = None;
            if flags & HAS_COUNTS > 0 {
                let all = counts.insert([NOTHING; Counter::COUNT]);
                for one in &mut all[..FIRST] {
                    *one = reader.counts()?;
                }
            }
            if flags & HAS_MORE > 0 {
                for _ in 0..reader.byte()? {
                    let (place, read) = (usize::from(reader.byte()?), reader.counts()?);
                    // One that a later version counts is passed over.
                    if let Some(one) = counts.as_mut().and_then(|all| all.get_mut(place)) {
                        *one = read;
                    }
                }
            }
            entries.push(NamedEntry {
                key,
                server,
                entry: Some(ChangedEntry { server: None, left_ms, counts }),
            });
        }
        Some(Message { kind, table, entries })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn table(name: &str) -> TableRef {
        let servers = Arc::new(vec![(7, "s1".to_owned()), (8, "s2".to_owned())]);
        TableRef { name: name.into(), table: Arc::new(Table::new(10_000, 60_000, 10_000)), servers }
    }

    #[test]
    fn messages_come_back_as_they_were_and_nothing_cut_is_taken() {
        let one = table("pool:web");
        let now = monotonic_ms();
        one.table.watch(&(Arc::new(|| {}) as OnChange));
        one.table.set(&Key::text(b"client"), Some(8), now + 5_000, now);
        one.table.count(&Key::text(b"other"), Counter::Requests, 3, now);
        one.table.count(&Key::text(b"other"), Counter::Number2, 4, now);
        one.table.keep(&Key::text(b"other"), Counter::Number8, 9, now);
        one.table.set(&Key::text(b"gone"), Some(7), now + 5_000, now);
        one.table.remove(&Key::text(b"gone"));
        let told = one.table.changes(now, 100);
        // The removed one was noted when it came, and when it went.
        assert_eq!(told.len(), 4);
        assert!(one.table.changes(now, 100).is_empty());
        let bytes = encode(CHANGES, &one, &told);
        let other = table("pool:web");
        other.table.set(&Key::text(b"gone"), Some(7), now + 5_000, now);
        for entry in Message::parse(&bytes).unwrap().entries {
            other.table.apply_remote(&entry.resolve(&other), now);
        }
        assert_eq!(other.table.peek(&Key::text(b"client"), now).unwrap().server, Some(8));
        assert_eq!(other.table.peek(&Key::text(b"gone"), now), None);
        let activity = other.table.peek(&Key::text(b"other"), now).unwrap().activity.unwrap();
        assert_eq!((activity.totals[1], activity.rates[1]), (3, 3));
        let own = Counter::Number2 as usize;
        assert_eq!((activity.totals[own], activity.rates[own]), (4, 4));
        assert_eq!(activity.totals[Counter::Number8 as usize], 9);
        for cut in 0..bytes.len() {
            let _ = Message::parse(&bytes[..cut]);
        }
    }

    /// Whether it tells of removed entries, and the message.
    type Heard = (bool, Vec<u8>);

    #[derive(Clone, Default)]
    struct Sent(Arc<Mutex<Vec<Heard>>>);

    impl Outlet for Sent {
        fn is_open(&self) -> bool {
            true
        }

        fn send(&self, body: Vec<u8>) {
            lock(&self.0).push((false, body));
        }

        fn send_removed(&self, body: Vec<u8>) {
            lock(&self.0).push((true, body));
        }
    }

    /// Storing takes as long as the disk does.
    async fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "not within 30 s: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_was_removed_does_not_come_back_with_a_node_that_starts_first() {
        let journal = std::env::temp_dir().join(format!("evenkeel-removed-{}", std::process::id()));
        let (gone, used) = (Key::text(b"gone"), Key::text(b"used"));
        let before = monotonic_ms();
        // One node removes two entries while the other is away; then it ends, too.
        let one = table("pool:web");
        let tables = Tables::start(journal.clone(), Sent::default());
        tables.set(vec![one.clone()]);
        for key in [&gone, &used] {
            one.table.set(key, Some(7), before + 50_000, before);
            one.table.remove(key);
        }
        let ended = Arc::downgrade(&tables.shared);
        drop(tables);
        until("the removals are stored", || ended.strong_count() == 0).await;
        // The other one starts first with what it had; a client comes to one of the entries.
        let (stale, own) = (table("pool:web"), Sent::default());
        let others = Tables::start(journal.with_extension("other"), own.clone());
        others.set(vec![stale.clone()]);
        stale.table.set(&gone, Some(7), before + 50_000, before);
        stale.table.set(&used, Some(7), before + 50_000, before);
        // Long after it was removed: what a message tells of is later by as long as it was on its way.
        assert_eq!(stale.table.lookup(&used, monotonic_ms() + 20_000), Some(7));
        // They meet.
        let (fresh, sent) = (table("pool:web"), Sent::default());
        let tables = Tables::start(journal.clone(), sent.clone());
        tables.set(vec![fresh.clone()]);
        others.tell_whole();
        tables.tell_removed();
        until("the entries are told", || lock(&own.0).iter().any(|(_, body)| body.first() == Some(&END)))
            .await;
        until("the removals are told", || lock(&sent.0).iter().any(|(removed, _)| *removed)).await;
        for (_, body) in lock(&own.0).iter() {
            tables.apply_remote(body);
        }
        for (_, body) in lock(&sent.0).iter().filter(|(removed, _)| *removed) {
            others.apply_removed(body);
            (0..body.len()).for_each(|cut| drop(parse_removed(&body[..cut])));
        }
        for table in [&stale, &fresh] {
            assert_eq!(table.table.peek(&gone, monotonic_ms()), None);
            assert_eq!(table.table.peek(&used, monotonic_ms()).unwrap().server, Some(7));
        }
        for path in [journal.clone(), journal.with_extension("other")] {
            let _ = std::fs::remove_file(path);
        }
    }
}
