//! What is remembered of clients: which server one belongs to, and what it has done lately. A
//! bounded table shared by all event loops.
//!
//! Striped: a look-up takes one of 16 short locks, held for a hash look-up and never across I/O.
//! Only pools and routes that use tables come here. A table grows as keys come, to its bound;
//! then the entry nearest its end among eight gives way.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_128;

use crate::counts::{Activity, Counter, CounterCell, Counts, Figure, Rate};
use crate::hash::{Identity, hash_bytes};

const STRIPES: usize = 16;
const CANDIDATES: usize = 8;

/// What entries are found by: a few bytes, without an allocation. Longer keys are told apart by
/// a hash of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    bytes: [u8; Key::LEN],
    len: u8,
}

impl Key {
    pub const LEN: usize = 64;

    pub fn text(bytes: &[u8]) -> Key {
        let mut key = Key { bytes: [0; Key::LEN], len: Key::LEN as u8 };
        match key.bytes.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                key.len = bytes.len() as u8;
            }
            None => {
                const KEPT: usize = Key::LEN - 16;
                key.bytes[..KEPT].copy_from_slice(&bytes[..KEPT]);
                key.bytes[KEPT..].copy_from_slice(&xxh3_128(bytes).to_be_bytes());
            }
        }
        key
    }

    /// IPv4 and the IPv6 form of it are the same key.
    pub fn address(address: IpAddr) -> Key {
        let v6 = match address {
            IpAddr::V4(a) => a.to_ipv6_mapped(),
            IpAddr::V6(a) => a,
        };
        Key::text(&v6.octets())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The address, of a key that was made of one.
    pub fn to_address(&self) -> Option<IpAddr> {
        let octets: [u8; 16] = self.bytes().try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.bytes().escape_ascii())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub server: Option<u32>,
    pub expires_ms: u64,
    pub activity: Option<Activity>,
}

/// What another node needs to have the same entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    /// Absent: the entry was removed.
    pub entry: Option<ChangedEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedEntry {
    pub server: Option<u32>,
    pub left_ms: u64,
    /// Totals, and for each the counts of the present span and of the one before, with the age of
    /// the present one.
    pub counts: Option<[(u64, u64, u64, u64); Counter::COUNT]>,
}

pub struct Table {
    stripes: [Mutex<Stripe>; STRIPES],
    expire_ms: u64,
    period_ms: u64,
    /// Called when there is something to tell, where another node follows this table.
    on_change: Mutex<Option<OnChange>>,
}

/// How a follower is told; it is known by this very one.
pub type OnChange = Arc<dyn Fn() + Send + Sync>;

struct Slot {
    key: Key,
    server: Option<u32>,
    expires_ms: u64,
    counts: Counts,
    /// It is among the changes to tell.
    changed: bool,
    /// When the other node lets it expire.
    told_ms: u64,
}

#[derive(Default)]
struct Stripe {
    index: HashMap<Box<[u8]>, u32, BuildHasherDefault<Identity>>,
    slots: Vec<Slot>,
    limit: usize,
    hand: usize,
    /// Another node follows: keys of changed entries, and keys of removed ones.
    followed: bool,
    changed: Vec<Key>,
}

impl Table {
    pub fn new(size: u32, expire_ms: u64, period_ms: u64) -> Table {
        let limit = (size as usize).div_ceil(STRIPES).max(1);
        let stripe = || Mutex::new(Stripe { limit, ..Stripe::default() });
        let stripes = std::array::from_fn(|_| stripe());
        Table { stripes, expire_ms, period_ms: period_ms.max(1), on_change: Mutex::default() }
    }

    /// From now on changes are kept for [`Table::changes`], and `on_change` is called when some are there.
    /// A new follower takes the place of the one before.
    pub fn watch(&self, on_change: &OnChange) {
        *lock(&self.on_change) = Some(on_change.clone());
        self.stripes.iter().for_each(|stripe| lock(stripe).followed = true);
    }

    /// Nobody asks for changes any more, unless another has followed since: none are kept.
    pub fn unwatch(&self, on_change: &OnChange) {
        let mut place = lock(&self.on_change);
        if !place.as_ref().is_some_and(|now| Arc::ptr_eq(now, on_change)) {
            return;
        }
        *place = None;
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            stripe.followed = false;
            stripe.changed = Vec::new();
            stripe.slots.iter_mut().for_each(|slot| slot.changed = false);
        }
    }

    /// What has changed since the last call, at most so many entries.
    pub fn changes(&self, now_ms: u64, most: usize) -> Vec<Change> {
        let mut change = Vec::new();
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            while change.len() < most {
                let Some(key) = stripe.changed.pop() else { break };
                change.push(stripe.take_change(key, now_ms));
            }
        }
        change
    }

    /// Every live entry, a stripe at a time, as changes would tell it.
    pub fn snapshot(&self, now_ms: u64, mut each: impl FnMut(Vec<Change>)) {
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            let live: Vec<Key> =
                stripe.slots.iter().filter(|s| s.expires_ms > now_ms).map(|s| s.key).collect();
            let change = live.into_iter().map(|key| stripe.take_change(key, now_ms)).collect();
            drop(stripe);
            each(change);
        }
    }

    /// Does what another node has done.
    pub fn apply_remote(&self, change: &Change, now_ms: u64) {
        let mut stripe = self.stripe(&change.key);
        let Some(entry) = &change.entry else {
            stripe.remove(change.key.bytes());
            return;
        };
        let slot = stripe.find_or_insert(&change.key, now_ms, self.expire_ms);
        slot.server = entry.server;
        slot.expires_ms = now_ms + entry.left_ms;
        slot.told_ms = slot.expires_ms;
        if let Some(heard) = &entry.counts {
            let counts = &mut slot.counts;
            counts.any = true;
            for (at, (total, now, before, age)) in heard.iter().enumerate() {
                let rate = Rate { start_ms: now_ms.saturating_sub(*age), now: *now, before: *before };
                let nothing = (*total, *now, *before) == (0, 0, 0);
                if nothing && !counts.has(at) {
                    continue;
                }
                if let Some(cell) = counts.cell(at) {
                    *cell = CounterCell { total: *total, rate };
                }
            }
        }
    }

    /// Forgets entries that another node, which has change everything, does not have.
    pub fn keep_only(&self, known: &HashSet<Box<[u8]>>) {
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            let unknown = stripe.slots.iter().filter(|s| !known.contains(s.key.bytes()));
            let unknown: Vec<Key> = unknown.map(|s| s.key).collect();
            for key in unknown {
                stripe.remove(key.bytes());
            }
        }
    }

    fn ring(&self, new: bool) {
        if new {
            let on_change = lock(&self.on_change).clone();
            on_change.into_iter().for_each(|on_change| on_change());
        }
    }

    /// The server of a key, whose entry lives on for another while.
    pub fn lookup(&self, key: &Key, now_ms: u64) -> Option<u32> {
        let mut stripe = self.stripe(key);
        let slot = stripe.find(key, now_ms)?;
        slot.expires_ms = now_ms + self.expire_ms;
        let server = slot.server;
        // The other node need not know each renewal.
        let stale = slot.told_ms < slot.expires_ms - self.expire_ms / 8;
        let new = stale && stripe.note(key);
        drop(stripe);
        self.ring(new);
        server
    }

    /// The entry as it is, without renewing it.
    pub fn peek(&self, key: &Key, now_ms: u64) -> Option<Entry> {
        let mut stripe = self.stripe(key);
        let slot = stripe.find(key, now_ms)?;
        Some(slot.entry(now_ms, self.period_ms))
    }

    /// One figure of an entry, without renewing it; none where there is no entry.
    pub fn figure(&self, key: &Key, figure: Figure, now_ms: u64) -> Option<u64> {
        let mut stripe = self.stripe(key);
        let counts = &stripe.find(key, now_ms)?.counts;
        Some(match figure {
            Figure::Current => u64::from(counts.current),
            Figure::Total(what) => counts.get(what as usize).total,
            Figure::Rate(what) => counts.get(what as usize).rate.get(now_ms, self.period_ms),
        })
    }

    /// Where two first connections of a client race, the first one's choice holds: the answer is
    /// the server that the client goes to, which may not be the one proposed.
    pub fn insert_or_get(&self, key: &Key, server: u32, now_ms: u64, usable: impl Fn(u32) -> bool) -> u32 {
        let mut stripe = self.stripe(key);
        let slot = stripe.find_or_insert(key, now_ms, self.expire_ms);
        if let Some(known) = slot.server.filter(|known| usable(*known)) {
            return known;
        }
        slot.server = Some(server);
        let new = stripe.note(key);
        drop(stripe);
        self.ring(new);
        server
    }

    /// Puts an entry of another process or of a person in place.
    pub fn set(&self, key: &Key, server: Option<u32>, expires_ms: u64, now_ms: u64) {
        let mut stripe = self.stripe(key);
        let slot = stripe.find_or_insert(key, now_ms, self.expire_ms);
        (slot.server, slot.expires_ms) = (server, expires_ms);
        let new = stripe.note(key);
        drop(stripe);
        self.ring(new);
    }

    /// Removes the entry of one key; whether there was one.
    pub fn remove(&self, key: &Key) -> bool {
        let mut stripe = self.stripe(key);
        let was = stripe.remove(key.bytes());
        let new = was && stripe.note(key);
        drop(stripe);
        self.ring(new);
        was
    }

    /// Removes the entry of a key that was removed elsewhere so long ago, unless it was used since;
    /// whether there was one.
    pub fn remove_older(&self, key: &Key, age_ms: u64, now_ms: u64) -> bool {
        let mut stripe = self.stripe(key);
        let used_before =
            |slot: &mut Slot| slot.expires_ms.saturating_add(age_ms) <= now_ms.saturating_add(self.expire_ms);
        let was = stripe.find(key, now_ms).is_some_and(used_before);
        let new = was && stripe.remove(key.bytes()) && stripe.note(key);
        drop(stripe);
        self.ring(new);
        was
    }

    /// How long an entry lives after its last use.
    pub fn expire_ms(&self) -> u64 {
        self.expire_ms
    }

    /// Removes every entry, or those of one server; how many there were.
    pub fn clear(&self, server: Option<u32>) -> usize {
        let mut cleared = 0;
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            let doomed = stripe.slots.iter().filter(|s| server.is_none() || s.server == server);
            let doomed: Vec<Key> = doomed.map(|s| s.key).collect();
            cleared += doomed.len();
            let mut new = false;
            for key in doomed {
                stripe.remove(key.bytes());
                new |= stripe.note(&key);
            }
            drop(stripe);
            self.ring(new);
        }
        cleared
    }

    /// How many entries there are, with those that have ended and still lie there.
    pub fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).slots.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The live entries, in no order.
    pub fn entries(&self, now_ms: u64) -> Vec<Entry> {
        let mut all = Vec::new();
        for stripe in &self.stripes {
            let stripe = lock(stripe);
            let live = stripe.slots.iter().filter(|s| s.expires_ms > now_ms);
            all.extend(live.map(|slot| slot.entry(now_ms, self.period_ms)));
        }
        all
    }

    /// Counts something that a key did; its entry is made if there is none, and lives on.
    pub fn count(&self, key: &Key, what: Counter, amount: u64, now_ms: u64) {
        self.count_all(key, &[(what, amount)], 0, now_ms);
    }

    /// Counts several things with one look-up, and a connection that began (`1`) or ended (`-1`). Amounts
    /// of nothing take no memory.
    pub fn count_all(&self, key: &Key, counted: &[(Counter, u64)], current: i32, now_ms: u64) {
        let mut stripe = self.stripe(key);
        let counts = &mut stripe.find_or_insert(key, now_ms, self.expire_ms).counts;
        let counted = counted.iter().filter(|(_, amount)| *amount > 0);
        counts.make(counted.clone().fold(0, |all, (what, _)| all | Counts::bit(*what as usize)));
        counts.current = counts.current.saturating_add_signed(current);
        for (what, amount) in counted.clone() {
            if let Some(cell) = counts.cell(*what as usize) {
                cell.total = cell.total.saturating_add(*amount);
                cell.rate.add(*amount, now_ms, self.period_ms);
            }
        }
        let new = counted.count() > 0 && stripe.note(key);
        drop(stripe);
        self.ring(new);
    }

    /// Gives a counter of a key another total; its entry is made if there is none, and lives on.
    pub fn keep(&self, key: &Key, what: Counter, total: u64, now_ms: u64) {
        let mut stripe = self.stripe(key);
        let slot = stripe.find_or_insert(key, now_ms, self.expire_ms);
        if let Some(cell) = slot.counts.cell(what as usize) {
            cell.total = total;
        }
        let new = stripe.note(key);
        drop(stripe);
        self.ring(new);
    }

    /// A connection of a key began (`1`) or ended (`-1`).
    pub fn current(&self, key: &Key, change: i32, now_ms: u64) {
        self.count_all(key, &[], change, now_ms);
    }

    fn stripe(&self, key: &Key) -> MutexGuard<'_, Stripe> {
        lock(&self.stripes[hash_bytes(key.bytes()) as usize % STRIPES])
    }
}

/// A stripe stays sound at every step, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn entry(&self, now_ms: u64, period_ms: u64) -> Entry {
        let counts = &self.counts;
        let activity = counts.any.then(|| Activity {
            totals: std::array::from_fn(|what| counts.get(what).total),
            rates: std::array::from_fn(|what| counts.get(what).rate.get(now_ms, period_ms)),
            current: counts.current,
        });
        Entry { key: self.key, server: self.server, expires_ms: self.expires_ms, activity }
    }
}

impl Stripe {
    fn find(&mut self, key: &Key, now_ms: u64) -> Option<&mut Slot> {
        let at = *self.index.get(key.bytes())? as usize;
        self.slots.get_mut(at).filter(|slot| slot.expires_ms > now_ms)
    }

    /// The entry of a key, renewed; a new one forgets what an expired one knew.
    fn find_or_insert(&mut self, key: &Key, now_ms: u64, expire_ms: u64) -> &mut Slot {
        let expires_ms = now_ms + expire_ms;
        let fresh = || {
            let counts = Counts::default();
            Slot { key: *key, server: None, expires_ms, counts, changed: false, told_ms: 0 }
        };
        let at = match self.index.get(key.bytes()).map(|at| *at as usize) {
            Some(at) => {
                if self.slots[at].expires_ms <= now_ms {
                    // Connections that were counted in are still to be counted out.
                    let current = self.slots[at].counts.current;
                    let changed = self.slots[at].changed;
                    self.slots[at] = fresh();
                    self.slots[at].changed = changed;
                    self.slots[at].counts = Counts::of_current(current);
                }
                at
            }
            None if self.slots.len() < self.limit => {
                self.slots.push(fresh());
                self.index.insert(key.bytes().into(), self.slots.len() as u32 - 1);
                self.slots.len() - 1
            }
            None => {
                let count = self.slots.len();
                let candidates = (0..CANDIDATES.min(count)).map(|i| (self.hand + i) % count);
                let left = |at: &usize| self.slots[*at].expires_ms.saturating_sub(now_ms);
                let victim = candidates.min_by_key(left).unwrap_or(0);
                self.hand = (self.hand + CANDIDATES) % count;
                self.index.remove(self.slots[victim].key.bytes());
                self.index.insert(key.bytes().into(), victim as u32);
                self.slots[victim] = fresh();
                victim
            }
        };
        let slot = &mut self.slots[at];
        slot.expires_ms = expires_ms;
        slot
    }

    /// Notes a change to tell; whether the other node had nothing to hear of this stripe before.
    fn note(&mut self, key: &Key) -> bool {
        if !self.followed {
            return false;
        }
        let first = self.changed.is_empty();
        if let Some(at) = self.index.get(key.bytes())
            && std::mem::replace(&mut self.slots[*at as usize].changed, true)
        {
            return false;
        }
        self.changed.push(*key);
        first
    }

    fn take_change(&mut self, key: Key, now_ms: u64) -> Change {
        let at = self.index.get(key.bytes()).map(|at| *at as usize);
        let Some(slot) = at.and_then(|at| self.slots.get_mut(at)) else { return Change { key, entry: None } };
        slot.changed = false;
        slot.told_ms = slot.expires_ms;
        let left_ms = slot.expires_ms.saturating_sub(now_ms);
        if left_ms == 0 {
            return Change { key, entry: None };
        }
        let counts = slot.counts.any.then(|| {
            std::array::from_fn(|at| {
                let CounterCell { total, rate } = slot.counts.get(at);
                (total, rate.now, rate.before, now_ms.saturating_sub(rate.start_ms))
            })
        });
        Change { key, entry: Some(ChangedEntry { server: slot.server, left_ms, counts }) }
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(at) = self.index.remove(key) else { return false };
        self.slots.swap_remove(at as usize);
        if let Some(moved) = self.slots.get(at as usize) {
            self.index.insert(moved.key.bytes().into(), at);
        }
        self.hand = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> Key {
        Key::address(IpAddr::V4(n.into()))
    }

    #[test]
    fn changes_are_kept_only_while_somebody_follows() {
        let table = Table::new(1_000, 1_000, 1_000);
        let rung = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let on_change = |by| {
            let rung = rung.clone();
            let on_change: OnChange = Arc::new(move || {
                rung.fetch_add(by, std::sync::atomic::Ordering::Relaxed);
            });
            on_change
        };
        let (first, second) = (on_change(1), on_change(100));
        let kept = |table: &Table| table.stripes.iter().map(|s| lock(s).changed.len()).sum::<usize>();
        table.watch(&first);
        table.set(&client(1), Some(7), 1_000, 0);
        assert_eq!((kept(&table), rung.load(std::sync::atomic::Ordering::Relaxed)), (1, 1));
        table.unwatch(&first);
        assert_eq!(kept(&table), 0);
        for turn in 0..100 {
            table.set(&client(turn % 10), Some(7), 1_000, 0);
            table.remove(&client(turn % 10));
        }
        assert_eq!(kept(&table), 0, "nobody would ever take them");
        // The next follower is told, and the one before cannot end that.
        table.watch(&second);
        table.unwatch(&first);
        table.set(&client(1), Some(7), 1_000, 0);
        assert_eq!((kept(&table), rung.load(std::sync::atomic::Ordering::Relaxed)), (1, 101));
        assert_eq!(table.changes(0, 10).len(), 1);
    }

    #[test]
    fn entries_live_for_a_while_after_their_last_use() {
        let table = Table::new(100, 1_000, 1_000);
        assert_eq!(table.insert_or_get(&client(1), 7, 0, |_| true), 7);
        assert_eq!(table.insert_or_get(&client(1), 8, 10, |_| true), 7, "the first choice holds");
        assert_eq!(table.lookup(&client(1), 900), Some(7));
        assert_eq!(table.lookup(&client(1), 1_800), Some(7));
        assert_eq!(table.lookup(&client(1), 2_801), None);
        assert_eq!(table.insert_or_get(&client(1), 8, 2_801, |_| true), 8);
        let other = table.insert_or_get(&client(1), 9, 2_802, |s| s != 8);
        assert_eq!(other, 9, "a dead server's entry gives way");
        assert!(table.remove(&client(1)));
        assert!(!table.remove(&client(1)));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_fresh() {
        let table = Table::new(160, 1_000, 1_000);
        for n in 0..10_000 {
            table.insert_or_get(&client(n), n, u64::from(n), |_| true);
        }
        let entries = table.entries(0);
        assert!((150..=160).contains(&entries.len()), "{} entries", entries.len());
        let recent = entries.iter().filter(|e| e.server > Some(9_000)).count();
        assert!(recent > 130, "{recent} are recent");
        assert_eq!(table.clear(Some(9_999)), 1);
        assert_eq!(table.clear(None), entries.len() - 1);
        assert!(table.entries(0).is_empty());
    }

    #[test]
    fn keys_of_every_kind() {
        let table = Table::new(16_000, 1_000, 1_000);
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let long = [b'x'; 500];
        let mut other = long;
        other[499] = b'y';
        for (i, key) in
            [Key::address(v6), Key::text(b"user"), Key::text(&long), Key::text(&other)].iter().enumerate()
        {
            table.set(key, Some(i as u32), 50, 0);
        }
        assert_eq!(table.peek(&Key::address(v6), 10).and_then(|e| e.server), Some(0));
        assert_eq!(table.peek(&Key::address(v6), 10).and_then(|e| e.key.to_address()), Some(v6));
        assert_eq!(table.lookup(&Key::text(&long), 10), Some(2));
        assert_eq!(table.lookup(&Key::text(&other), 10), Some(3));
        assert_eq!(table.peek(&Key::text(b"user"), 60), None);
        assert_eq!(client(0x0a00_0001).to_address(), "10.0.0.1".parse().ok());
    }

    #[test]
    fn activity_is_counted_over_a_period() {
        let table = Table::new(100, 60_000, 10_000);
        let key = Key::text(b"k");
        for second in 0..10 {
            table.count(&key, Counter::Requests, 10, second * 1_000);
        }
        let activity = |now_ms| table.peek(&key, now_ms).and_then(|e| e.activity).unwrap();
        assert_eq!(activity(9_999).rates[Counter::Requests as usize], 100);
        assert_eq!(activity(15_000).rates[Counter::Requests as usize], 50);
        assert_eq!(activity(25_000).rates[Counter::Requests as usize], 0);
        assert_eq!(activity(25_000).totals[Counter::Requests as usize], 100);
        table.count(&key, Counter::Number1, 2, 25_000);
        table.keep(&key, Counter::Number8, 7, 25_000);
        table.keep(&key, Counter::Number8, 9, 25_000);
        assert_eq!(activity(25_000).totals[Counter::Number8 as usize], 9);
        assert_eq!(activity(25_000).rates[Counter::Number1 as usize], 2);
        assert_eq!(activity(25_000).rates[Counter::Number8 as usize], 0, "what is kept has no rate");
        table.current(&key, 1, 26_000);
        table.current(&key, 1, 26_000);
        table.current(&key, -1, 26_000);
        assert_eq!(activity(26_000).current, 1);
        assert_eq!(table.peek(&key, 26_000).and_then(|e| e.server), None);
    }

    /// What a table of a million clients costs is decided here.
    #[test]
    fn an_entry_holds_what_was_counted_and_no_more() {
        assert!(size_of::<Slot>() <= 128, "{} bytes", size_of::<Slot>());
        let table = Table::new(100, 60_000, 10_000);
        let key = Key::text(b"k");
        let cells = || {
            let mut stripe = table.stripe(&key);
            stripe.find(&key, 1).map_or(0, |slot| slot.counts.cells.len())
        };
        table.set(&key, Some(7), 50_000, 1);
        assert_eq!(cells(), 0);
        table.count_all(&key, &[(Counter::Requests, 1), (Counter::Connections, 0)], 1, 1);
        assert_eq!(cells(), 1, "nothing was counted of connections");
        let ended = [(Counter::BytesIn, 7), (Counter::BytesOut, 9), (Counter::Errors, 0)];
        table.count_all(&key, &ended, -1, 1);
        table.count_all(&key, &ended, 0, 1);
        assert_eq!(cells(), 3);
    }

    /// Whatever was counted in whatever order, one figure is what the whole entry says.
    #[test]
    fn figures_are_those_of_the_whole_entry() {
        let table = Table::new(100, 60_000, 10_000);
        let key = Key::text(b"k");
        assert_eq!(table.figure(&key, Figure::Current, 0), None, "there is no entry");
        let mut expected = [0; Counter::COUNT];
        for step in 0..200_u64 {
            let what = Counter::ALL[(step * 11 % 13) as usize];
            let now_ms = step * 97;
            match step % 7 {
                0 => table.keep(&key, what, step, now_ms),
                _ => table.count(&key, what, step, now_ms),
            }
            let total = &mut expected[what as usize];
            *total = if step % 7 == 0 { step } else { *total + step };
            table.current(&key, 1, now_ms);
            let whole = table.peek(&key, now_ms).and_then(|entry| entry.activity).unwrap();
            assert_eq!(whole.totals, expected);
            assert_eq!(table.figure(&key, Figure::Current, now_ms), Some(step + 1));
            for what in Counter::ALL {
                let figure = |figure| table.figure(&key, figure, now_ms).unwrap();
                assert_eq!(figure(Figure::Total(what)), whole.totals[what as usize]);
                assert_eq!(figure(Figure::Rate(what)), whole.rates[what as usize]);
            }
        }
    }
}
