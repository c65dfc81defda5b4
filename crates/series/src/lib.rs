//! What was, for graphs: a file of fixed size, from seconds to a year.
//!
//! In: a value of every column each second. Out: the points of some columns over a range.
//! Never: what a column means, an unbounded file, a clock.
//!
//! The file is a head, a directory (which subject has which columns, and since when), and six tiers
//! of rows. A row is the number of its time slot and one `f32` a column; it is found by the slot
//! modulo the tier's rows, and counts only if it carries the slot's number, so a file that was cut
//! or is from before a power failure shows gaps, never wrong times. A tier's row is the mean of the
//! rows below it; nothing is kept in memory that a restart would lose.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

const MAGIC: &[u8; 8] = b"EKSERIE1";
const HEAD: u64 = 64;
/// Name (at most 144 bytes, its length before it), first column, width, since when.
const ENTRY: u64 = 168;
const LONGEST_NAME: usize = 144;

/// Seconds a row stands for, and how many rows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    pub step: u64,
    pub rows: u64,
}

/// Five minutes, an hour, a day, a week, a month, a year.
pub const TIERS: [Tier; 6] = [
    Tier { step: 1, rows: 300 },
    Tier { step: 10, rows: 366 },
    Tier { step: 300, rows: 294 },
    Tier { step: 1_800, rows: 342 },
    Tier { step: 7_200, rows: 378 },
    Tier { step: 86_400, rows: 372 },
];

/// The file. Reading goes on beside writing.
pub struct Store {
    file: File,
    columns: u64,
    entries: u64,
    directory: Mutex<Directory>,
}

#[derive(Default)]
struct Directory {
    known: HashMap<String, Entry>,
    /// Columns given out so far.
    used: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: u64,
    first: u64,
    width: u64,
    /// Rows before this moment are another subject's.
    since: u64,
    /// Named in the last recording.
    present: bool,
}

/// The points of one subject, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    pub step: u64,
    /// Seconds since 1970 of the first row.
    pub start: u64,
    /// One list a column; NaN where nothing is known.
    pub columns: Vec<Vec<f32>>,
}

fn row_bytes(columns: u64) -> u64 {
    8 + 4 * columns
}

impl Store {
    /// Opens a file of this size, or makes one. One of another size begins anew; the old is removed.
    pub fn open(path: &Path, size: u64) -> io::Result<Store> {
        // Half a percent for the directory: subjects have six columns and more.
        let rows: u64 = TIERS.iter().map(|t| t.rows).sum();
        let entries = (size / (6 * 4 * rows)).max(4);
        let rest = size.saturating_sub(HEAD + entries * ENTRY + 8 * rows);
        let columns = (rest / (4 * rows)).max(64);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut head = [0; HEAD as usize];
        let known = file.read_exact_at(&mut head, 0).is_ok()
            && head[..8] == *MAGIC
            && head[8..16] == columns.to_le_bytes()
            && head[16..24] == entries.to_le_bytes();
        if !known {
            file.set_len(0)?;
            head = [0; HEAD as usize];
            head[..8].copy_from_slice(MAGIC);
            head[8..16].copy_from_slice(&columns.to_le_bytes());
            head[16..24].copy_from_slice(&entries.to_le_bytes());
            file.write_all_at(&head, 0)?;
        }
        file.set_len(HEAD + entries * ENTRY + rows * row_bytes(columns))?;
        let store = Store { file, columns, entries, directory: Mutex::default() };
        store.read_directory()?;
        Ok(store)
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_directory(&self) -> io::Result<()> {
        let mut directory = self.directory();
        let mut raw = [0; ENTRY as usize];
        for place in 0..self.entries {
            self.file.read_exact_at(&mut raw, HEAD + place * ENTRY)?;
            let number = |at: usize| {
                u64::from_le_bytes([
                    raw[at],
                    raw[at + 1],
                    raw[at + 2],
                    raw[at + 3],
                    raw[at + 4],
                    raw[at + 5],
                    raw[at + 6],
                    raw[at + 7],
                ])
            };
            let length = usize::from(raw[0]);
            let Some(name) = raw.get(1..1 + length).and_then(|n| std::str::from_utf8(n).ok()) else {
                continue;
            };
            let (packed, since) = (number(152), number(160));
            let (first, width) = (packed >> 16, packed & 0xffff);
            if length == 0 || width == 0 || first + width > self.columns {
                continue;
            }
            directory.used = directory.used.max(first + width);
            directory.known.insert(name.to_owned(), Entry { place, first, width, since, present: false });
        }
        Ok(())
    }

    fn write_entry(&self, name: &str, entry: Entry) -> io::Result<()> {
        let mut raw = [0; ENTRY as usize];
        raw[0] = name.len() as u8;
        raw[1..1 + name.len()].copy_from_slice(name.as_bytes());
        raw[152..160].copy_from_slice(&(entry.first << 16 | entry.width).to_le_bytes());
        raw[160..168].copy_from_slice(&entry.since.to_le_bytes());
        self.file.write_all_at(&raw, HEAD + entry.place * ENTRY)
    }

    /// How many subjects it can hold at most.
    pub fn subjects(&self) -> usize {
        self.entries as usize
    }

    /// Remembers a second: what each subject's columns are. Subjects that do not fit are left out;
    /// whether that happened is told.
    pub fn record(&self, now: u64, subjects: &[(&str, &[f32])]) -> io::Result<bool> {
        let mut row = vec![f32::NAN; self.columns as usize];
        let mut directory = self.directory();
        directory.known.values_mut().for_each(|e| e.present = false);
        for (name, _) in subjects {
            if let Some(entry) = directory.known.get_mut(*name) {
                entry.present = true;
            }
        }
        // Widths for which there is no place any more: nobody searches for one again.
        let mut full = std::collections::HashSet::new();
        for (name, values) in subjects {
            if full.contains(&values.len()) && !directory.known.contains_key(*name) {
                continue;
            }
            let Some(entry) = self.place_of(&mut directory, name, values.len() as u64, now)? else {
                full.insert(values.len());
                continue;
            };
            let first = entry.first as usize;
            row[first..first + values.len()].copy_from_slice(values);
        }
        drop(directory);
        self.write_row(0, now / TIERS[0].step, &row)?;
        for (tier, Tier { step, .. }) in TIERS.iter().enumerate().skip(1) {
            // The slot that has just ended.
            let slot = (now / step).saturating_sub(1);
            if self.stamp(tier, slot)? != slot {
                self.roll_up(tier, slot)?;
            }
        }
        Ok(!full.is_empty())
    }

    fn place_of(
        &self,
        directory: &mut Directory,
        name: &str,
        width: u64,
        now: u64,
    ) -> io::Result<Option<Entry>> {
        if let Some(entry) = directory.known.get(name).filter(|e| e.width == width) {
            return Ok(Some(*entry));
        }
        if name.is_empty() || name.len() > LONGEST_NAME || width == 0 || width > 0xffff {
            return Ok(None);
        }
        let count = directory.known.len() as u64;
        let entry = if directory.used + width <= self.columns && count < self.entries {
            let taken: std::collections::HashSet<u64> = directory.known.values().map(|e| e.place).collect();
            let Some(place) = (0..self.entries).find(|p| !taken.contains(p)) else { return Ok(None) };
            let first = directory.used;
            directory.used += width;
            Entry { place, first, width, since: now, present: true }
        } else {
            // The place of somebody of the same width who is gone.
            let gone = directory.known.iter().find(|(_, e)| !e.present && e.width == width);
            let Some((old, entry)) = gone.map(|(name, e)| (name.clone(), *e)) else { return Ok(None) };
            directory.known.remove(&old);
            Entry { since: now, present: true, ..entry }
        };
        self.write_entry(name, entry)?;
        directory.known.insert(name.to_owned(), entry);
        Ok(Some(entry))
    }

    fn offset(&self, tier: usize, slot: u64) -> u64 {
        let before: u64 = TIERS[..tier].iter().map(|t| t.rows).sum();
        HEAD + self.entries * ENTRY + (before + slot % TIERS[tier].rows) * row_bytes(self.columns)
    }

    fn stamp(&self, tier: usize, slot: u64) -> io::Result<u64> {
        let mut raw = [0; 8];
        self.file.read_exact_at(&mut raw, self.offset(tier, slot))?;
        Ok(u64::from_le_bytes(raw))
    }

    fn write_row(&self, tier: usize, slot: u64, row: &[f32]) -> io::Result<()> {
        let mut raw = Vec::with_capacity(row_bytes(self.columns) as usize);
        raw.extend_from_slice(&slot.to_le_bytes());
        // Columns beyond those given out stay as they are.
        let used = self.directory().used as usize;
        row[..used].iter().for_each(|v| raw.extend_from_slice(&v.to_le_bytes()));
        self.file.write_all_at(&raw, self.offset(tier, slot))
    }

    /// `count` columns of a row from `first`, if the row is of that slot.
    fn read_row(
        &self,
        tier: usize,
        slot: u64,
        first: u64,
        count: u64,
        raw: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if self.stamp(tier, slot)? != slot {
            return Ok(false);
        }
        raw.resize(4 * count as usize, 0);
        self.file.read_exact_at(raw, self.offset(tier, slot) + 8 + 4 * first)?;
        Ok(true)
    }

    fn roll_up(&self, tier: usize, slot: u64) -> io::Result<()> {
        let used = self.directory().used;
        let (below, step) = (TIERS[tier - 1].step, TIERS[tier].step);
        let (mut sums, mut counts) = (vec![0f64; used as usize], vec![0u32; used as usize]);
        let mut raw = Vec::new();
        for lower in slot * step / below..(slot + 1) * step / below {
            if !self.read_row(tier - 1, lower, 0, used, &mut raw)? {
                continue;
            }
            for (at, value) in floats(&raw).enumerate().filter(|(_, v)| v.is_finite()) {
                sums[at] += f64::from(value);
                counts[at] += 1;
            }
        }
        let mean =
            |(sum, count): (f64, u32)| if count == 0 { f32::NAN } else { (sum / f64::from(count)) as f32 };
        let row: Vec<f32> = sums.into_iter().zip(counts).map(mean).collect();
        self.write_row(tier, slot, &row)
    }

    /// The last `seconds` of a subject, in the finest tier that holds them; `None` if it is not known.
    pub fn read(&self, name: &str, seconds: u64, now: u64) -> io::Result<Option<Points>> {
        let Some(entry) = self.directory().known.get(name).copied() else { return Ok(None) };
        let fits = |t: &Tier| t.step * (t.rows - 2) >= seconds;
        let tier = TIERS.iter().position(fits).unwrap_or(TIERS.len() - 1);
        let Tier { step, rows } = TIERS[tier];
        // The slot of this moment has not ended yet, but of the first tier.
        let last = if tier == 0 { now } else { (now / step).saturating_sub(1) };
        let count = seconds.div_ceil(step).clamp(1, rows - 2);
        let first = last.saturating_sub(count - 1);
        let mut columns = vec![Vec::with_capacity(count as usize); entry.width as usize];
        let mut raw = Vec::new();
        for slot in first..=last {
            let own = slot * step + step > entry.since;
            let there = own && self.read_row(tier, slot, entry.first, entry.width, &mut raw)?;
            let values = floats(if there { &raw } else { &[] }).chain(std::iter::repeat(f32::NAN));
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        }
        Ok(Some(Points { step, start: first * step, columns }))
    }
}

fn floats(raw: &[u8]) -> impl Iterator<Item = f32> {
    raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const START: u64 = 1_700_006_400 / 86_400 * 86_400;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("evenkeel-series-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn column(store: &Store, name: &str, seconds: u64, now: u64) -> Vec<f32> {
        store.read(name, seconds, now).unwrap().unwrap().columns[0].clone()
    }

    #[test]
    fn seconds_become_a_day() {
        let path = path("day");
        let mut store = Store::open(&path, 1 << 20).unwrap();
        for second in 0..7_300 {
            if second == 3_000 {
                store = Store::open(&path, 1 << 20).unwrap();
            }
            // A server that stops for ten minutes.
            let value = if (4_800..5_400).contains(&second) { 0.0 } else { 10.0 };
            store.record(START + second, &[("web", &[value, second as f32])]).unwrap();
        }
        let now = START + 7_299;
        let last = store.read("web", 60, now).unwrap().unwrap();
        assert_eq!((last.step, last.columns[0].len(), last.columns[1].last()), (1, 60, Some(&7299.0)));
        let hour = column(&store, "web", 3_600, now);
        assert_eq!(hour.len(), 360);
        assert_eq!(hour.iter().filter(|v| **v == 0.0).count(), 60, "a visible drop of ten minutes");
        assert_eq!(hour.iter().filter(|v| **v == 10.0).count(), 300);
        let day = store.read("web", 86_400, now).unwrap().unwrap();
        assert_eq!((day.step, day.columns[0].len()), (300, 288));
        let known: Vec<f32> = day.columns[0].iter().copied().filter(|v| v.is_finite()).collect();
        assert_eq!((known.len(), known.iter().filter(|v| **v == 0.0).count()), (24, 2));
        assert_eq!(store.read("none", 60, now).unwrap(), None);
        let size = std::fs::metadata(&path).unwrap().len();
        assert!(size <= 1 << 20, "{size}");
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn a_gap_is_a_gap_and_a_place_is_given_again() {
        let path = path("gap");
        let store = Store::open(&path, 0).unwrap();
        let wide = vec![1.0; 30];
        assert!(!store.record(START, &[("a", &wide), ("b", &wide)]).unwrap());
        assert!(store.record(START + 1, &[("a", &wide), ("b", &wide), ("c", &wide)]).unwrap(), "no room");
        assert!(store.read("c", 60, START + 1).unwrap().is_none());
        // Five minutes later the ring has wrapped: old rows are no new ones.
        assert!(!store.record(START + 301, &[("a", &wide), ("c", &wide)]).unwrap(), "b's place is free");
        let a = column(&store, "a", 298, START + 301);
        assert_eq!(a.iter().filter(|v| v.is_finite()).count(), 1, "the wrapped rows are gone");
        let again = Store::open(&path, 0).unwrap();
        let c = column(&again, "c", 298, START + 302);
        assert_eq!(c.iter().filter(|v| v.is_finite()).count(), 1, "nothing of b's");
        assert!(again.read("b", 60, START).unwrap().is_none());
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn damage_shows_gaps() {
        let path = path("damage");
        let store = Store::open(&path, 1 << 18).unwrap();
        for second in 0..100 {
            store.record(START + second, &[("web", &[1.0])]).unwrap();
        }
        drop(store);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(9_000).unwrap();
        let store = Store::open(&path, 1 << 18).unwrap();
        let left = column(&store, "web", 298, START + 99).iter().filter(|v| v.is_finite()).count();
        assert!(left < 100, "{left}");
        // A directory of noise, and a file that is something else.
        file.write_all_at(&[0xa5; 4000], HEAD).unwrap();
        drop(Store::open(&path, 1 << 18).unwrap());
        file.write_all_at(b"something else", 0).unwrap();
        let store = Store::open(&path, 1 << 18).unwrap();
        assert!(store.read("web", 60, START).unwrap().is_none());
        let _ = std::fs::remove_file(&path);
    }
}
