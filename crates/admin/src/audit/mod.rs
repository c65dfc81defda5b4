//! What people did, one JSON object a line; each line's seal proves it and all lines before it.
//!
//! The seal is HMAC-SHA256 over the seal before and the line, with a key of this node's. Removing,
//! changing or inserting a line breaks the chain from there; cutting the end shows by the count and
//! seal that are kept beside it. A full file is put aside and the chain goes on in the next; of the
//! files that are removed for room, number and seal of the last line are kept, sealed as well.

mod repeats;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::{hmac, rand};
use evenkeel_api as api;

use crate::accounts::{Who, Write, hex};
use repeats::{Failure, Repeats};

/// A line longer than this is cut before it is written.
const LONGEST_TEXT: usize = 400;
/// The same for what nobody who is known has sent.
const LONGEST_OF_STRANGERS: usize = 100;
/// A file that is longer is put aside, and so many of those are kept.
const FILE_AT_MOST: u64 = 4 << 20;
const FILES_KEPT: usize = 15;
/// Entries that may wait for a disk that hangs.
const WAITING_AT_MOST: usize = 256;
/// Entries that are listed, the latest.
const LISTED: usize = 20_000;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Mutex<Inner>>,
    /// Entries that wait for their disk.
    waiting: Arc<AtomicUsize>,
}

/// One entry among those that wait.
pub struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

struct Inner {
    folder: PathBuf,
    out: File,
    size: u64,
    full: u64,
    key: hmac::Key,
    number: u64,
    seal: String,
    repeats: Repeats,
}

impl Audit {
    pub fn open(folder: &Path, write: Write) -> Result<Audit, String> {
        let failed = |what: &Path, e: std::io::Error| format!("{}: {e}", what.display());
        let (file, key_file) = (folder.join(CURRENT), folder.join("audit.key"));
        std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let raw = match std::fs::read(&key_file) {
            Ok(raw) if raw.len() == 32 => raw,
            _ => {
                let mut raw = vec![0; 32];
                rand::fill(&mut raw).map_err(|_| "no randomness".to_owned())?;
                write(&key_file, &raw).map_err(|e| failed(&key_file, e))?;
                raw
            }
        };
        // Where nothing can be stored the node serves all the same; the storage alert says that
        // nothing is written.
        let out = match append_to(&file) {
            Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => File::open(&file),
            opened => opened,
        };
        let out = out.map_err(|e| failed(&file, e))?;
        let size = out.metadata().map_err(|e| failed(&file, e))?.len();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &raw);
        let last = files(folder).iter().rev().find_map(|file| entries(file).last());
        let start = Start::read(folder, &key).unwrap_or_default();
        let (number, seal) = last.map_or((start.number, start.seal), |e| (e.number, e.seal));
        let (folder, full) = (folder.to_owned(), FILE_AT_MOST);
        let repeats = Repeats::default();
        let inner = Arc::new(Mutex::new(Inner { folder, out, size, full, key, number, seal, repeats }));
        Ok(Audit { inner, waiting: Arc::default() })
    }

    /// A place among the entries that wait for the disk; none where it holds up too many already.
    pub fn place(&self) -> Option<Waiting> {
        let before = self.waiting.fetch_add(1, Relaxed);
        let waiting = Waiting(self.waiting.clone());
        (before < WAITING_AT_MOST).then_some(waiting)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Written and flushed when this returns.
    pub fn note(&self, who: &Who, what: &str, outcome: &str, now_ms: u64) {
        let mut inner = self.inner();
        inner.say_counts(now_ms);
        inner.write(&who.name, &who.from, what, outcome, now_ms);
    }

    /// Something that was refused, `None` for somebody who is not known: an entry as by `note`, but
    /// what comes again and again is an entry a period, with how often it came.
    pub fn note_failure(&self, who: Option<&Who>, from: &str, what: &str, outcome: &str, now_ms: u64) {
        let mut inner = self.inner();
        inner.say_counts(now_ms);
        let longest = if who.is_some() { LONGEST_TEXT } else { LONGEST_OF_STRANGERS };
        let failure = Failure {
            person: who.map(|w| w.name.clone()),
            from: from.to_owned(),
            what: what.chars().take(longest).collect(),
            outcome: outcome.to_owned(),
        };
        if inner.repeats.is_first(failure.clone(), now_ms) {
            let name = failure.person.as_deref().unwrap_or("nobody");
            inner.write(name, &failure.from, &failure.what, outcome, now_ms);
        }
    }

    /// The latest first.
    pub fn list(&self) -> Vec<api::AuditEntry> {
        let folder = self.inner().folder.clone();
        let mut all = Vec::new();
        for file in files(&folder).iter().rev() {
            let mut of_file: Vec<_> = entries(file).collect();
            of_file.reverse();
            all.append(&mut of_file);
            if all.len() >= LISTED {
                break;
            }
        }
        all.truncate(LISTED);
        all
    }

    pub fn verify(&self) -> api::AuditVerdict {
        // Nothing is put aside meanwhile.
        let inner = self.inner();
        let broken = |entries, detail: String| api::AuditVerdict { entries, intact: false, detail };
        let Some(start) = Start::read(&inner.folder, &inner.key) else {
            return broken(0, format!("{START} was changed"));
        };
        let (mut before, mut last, mut count) = (start.seal, start.number, 0);
        for file in files(&inner.folder) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let lines = File::open(&file).map(|f| BufReader::new(f).lines()).into_iter().flatten();
            for (at, line) in lines.map_while(Result::ok).enumerate() {
                let Ok(entry) = serde_json::from_str::<api::AuditEntry>(&line) else {
                    return broken(count, format!("line {} of {name} is no entry", at + 1));
                };
                // A file that a power cut has kept from being removed.
                if entry.number <= start.number && count == 0 && name != CURRENT {
                    break;
                }
                if entry.number != last + 1 {
                    return broken(count, format!("entry {last} is followed by entry {}", entry.number));
                }
                if entry.seal != seal(&inner.key, &before, &entry) {
                    return broken(count, format!("entry {} was changed", entry.number));
                }
                (before, last, count) = (entry.seal, entry.number, count + 1);
            }
        }
        let head = std::fs::read_to_string(inner.folder.join("audit.head")).unwrap_or_default();
        let kept = head.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        // A power cut between the entry and its count leaves one more entry than was counted.
        if kept > last || (kept == last && last > 0 && head.trim() != format!("{last} {before}")) {
            return broken(count, format!("{kept} entries were written, {last} are there"));
        }
        let all = match count {
            1 => "the one entry is intact".to_owned(),
            _ => format!("all {count} entries are intact"),
        };
        let detail = match start.number {
            0 => all,
            1 => format!("{all}; an older one was removed for room"),
            gone => format!("{all}; {gone} older ones were removed for room"),
        };
        api::AuditVerdict { entries: count, intact: true, detail }
    }
}

impl Inner {
    fn say_counts(&mut self, now_ms: u64) {
        if self.repeats.is_due(now_ms) {
            for count in self.repeats.take() {
                self.write(&count.who, &count.from, &count.what, &count.outcome, now_ms);
            }
        }
    }

    fn write(&mut self, who: &str, from: &str, what: &str, outcome: &str, now_ms: u64) {
        let mut entry = api::AuditEntry {
            number: self.number + 1,
            time_ms: now_ms,
            who: short(who),
            from: short(from),
            what: short(what),
            outcome: short(outcome),
            seal: String::new(),
        };
        entry.seal = seal(&self.key, &self.seal, &entry);
        let Ok(mut line) = serde_json::to_vec(&entry) else { return };
        line.push(b'\n');
        if self.size > 0 && self.size + line.len() as u64 > self.full {
            // If it fails, the file grows on: a line is worth more.
            let _ = self.put_aside();
        }
        if self.append(&line).is_err() {
            // It may have been read-only when this was opened.
            let Ok(out) = append_to(&self.folder.join(CURRENT)) else { return };
            self.out = out;
            if self.append(&line).is_err() {
                return;
            }
        }
        self.size += line.len() as u64;
        (self.number, self.seal) = (entry.number, entry.seal);
        // Not flushed: a count that is one behind after a power cut breaks nothing.
        let head = format!("{} {}\n", self.number, self.seal);
        let _ = replace(&self.folder.join("audit.head"), &head);
    }

    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        let written = self.out.write_all(line).and_then(|()| self.out.sync_data());
        if written.is_err() {
            // Half a line would break the chain.
            let _ = self.out.set_len(self.size);
        }
        written
    }

    /// Begins a new file. The oldest is removed once there are too many, after what goes on behind
    /// it has been written down.
    fn put_aside(&mut self) -> std::io::Result<()> {
        let current = self.folder.join(CURRENT);
        let aside = self.folder.join(format!("audit-{:015}.log", self.number));
        std::fs::rename(&current, &aside)?;
        self.out = append_to(&current)?;
        self.size = 0;
        let mut aside = files(&self.folder);
        aside.pop();
        while aside.len() > FILES_KEPT {
            let oldest = aside.remove(0);
            if let Some(last) = entries(&oldest).last() {
                Start { number: last.number, seal: last.seal }.write(&self.folder, &self.key)?;
            }
            std::fs::remove_file(&oldest)?;
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let now_ms = crate::gate::now_ms();
        for count in self.repeats.take() {
            self.write(&count.who, &count.from, &count.what, &count.outcome, now_ms);
        }
    }
}

/// The file that is written to; those that were put aside have the number of their last entry.
const CURRENT: &str = "audit.log";
/// Where the chain begins, if not at the first entry.
const START: &str = "audit.start";

/// The last entry that was removed for room.
#[derive(Default)]
struct Start {
    number: u64,
    seal: String,
}

impl Start {
    /// `None` if it was tampered with.
    fn read(folder: &Path, key: &hmac::Key) -> Option<Start> {
        let Ok(text) = std::fs::read_to_string(folder.join(START)) else { return Some(Start::default()) };
        let mut words = text.split_ascii_whitespace();
        let start = Start { number: words.next()?.parse().ok()?, seal: words.next()?.to_owned() };
        (words.next()? == start.proof(key)).then_some(start)
    }

    fn write(&self, folder: &Path, key: &hmac::Key) -> std::io::Result<()> {
        let text = format!("{} {} {}\n", self.number, self.seal, self.proof(key));
        replace(&folder.join(START), &text)
    }

    fn proof(&self, key: &hmac::Key) -> String {
        hex(hmac::sign(key, format!("start {} {}", self.number, self.seal).as_bytes()).as_ref())
    }
}

fn append_to(file: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)
}

fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut next = file.as_os_str().to_owned();
    next.push(".new");
    let mut options = OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    out.write_all(text.as_bytes())?;
    std::fs::rename(&next, file)
}

/// The files of the chain, the oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let is_aside = |p: &PathBuf| {
        let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let number = name.strip_prefix("audit-").and_then(|n| n.strip_suffix(".log"));
        number.is_some_and(|n| n.parse::<u64>().is_ok())
    };
    let mut files: Vec<PathBuf> = names.filter(is_aside).collect();
    files.sort();
    files.push(folder.join(CURRENT));
    files
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

fn seal(key: &hmac::Key, before: &str, entry: &api::AuditEntry) -> String {
    let bare = api::AuditEntry { seal: String::new(), ..entry.clone() };
    let text = serde_json::to_string(&bare).unwrap_or_default();
    hex(hmac::sign(key, format!("{before}\n{text}").as_bytes()).as_ref())
}

fn entries(file: &Path) -> impl Iterator<Item = api::AuditEntry> + use<> {
    let lines = File::open(file).map(|f| BufReader::new(f).lines()).into_iter().flatten();
    lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::By;

    fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        std::fs::write(path, bytes)
    }

    #[test]
    fn so_many_entries_wait_for_a_disk_and_no_more() {
        let folder = std::env::temp_dir().join(format!("evenkeel-audit-places-{}", std::process::id()));
        let audit = Audit::open(&folder, |path, bytes| std::fs::write(path, bytes)).unwrap();
        let clones: Vec<Audit> = (0..2 * WAITING_AT_MOST).map(|_| audit.clone()).collect();
        let mut places: Vec<_> = clones.iter().map_while(Audit::place).collect();
        assert_eq!(places.len(), WAITING_AT_MOST);
        places.pop();
        assert!(audit.place().is_some());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_was_tampered_with_shows() {
        let folder = std::env::temp_dir().join(format!("evenkeel-audit-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let who =
            Who { name: "ann\n".into(), role: api::Role::Admin, from: "192.0.2.1".into(), by: By::Socket };
        for what in ["one", "two", "three"] {
            Audit::open(&folder, write).unwrap().note(&who, what, "200", 7);
        }
        let audit = Audit::open(&folder, write).unwrap();
        assert!(audit.verify().intact && audit.list()[0].what == "three" && audit.list()[0].who == "ann");
        let file = folder.join("audit.log");
        let good = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = good.lines().collect();
        for bad in [
            good.replace("two", "2wo"),
            format!("{}\n{}\n", lines[0], lines[2]),
            format!("{}\n{}\n", lines[0], lines[1]),
            format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2]),
            String::new(),
            good.replacen('{', "", 1),
        ] {
            std::fs::write(&file, &bad).unwrap();
            let verdict = audit.verify();
            assert!(!verdict.intact && !verdict.detail.is_empty(), "{bad}");
        }
        std::fs::write(&file, &good).unwrap();
        assert!(audit.verify().intact);
        let _ = std::fs::remove_dir_all(&folder);
    }

    fn opened(name: &str) -> (PathBuf, Audit) {
        let folder = std::env::temp_dir().join(format!("evenkeel-audit-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let audit = Audit::open(&folder, write).unwrap();
        (folder, audit)
    }

    fn ann() -> Who {
        Who { name: "ann".into(), role: api::Role::Admin, from: "192.0.2.1".into(), by: By::Socket }
    }

    #[test]
    fn strangers_do_not_fill_the_disk() {
        let (folder, audit) = opened("strangers");
        let what = format!("POST /api/v1/login: {}", "x".repeat(400));
        for n in 0..20_000u64 {
            audit.note_failure(None, &format!("192.0.2.{}", n % 250), &what, "401", 1_000 + n);
        }
        audit.note(&ann(), "POST /api/v1/commit", "200", 30_000);
        let size = |f: &Path| std::fs::metadata(f).unwrap().len();
        assert!(size(&folder.join(CURRENT)) < 10_000);
        // The count is an entry when the period is over.
        audit.note(&ann(), "POST /api/v1/commit", "200", 1_000 + repeats::PERIOD_MS);
        let list = audit.list();
        assert!(list.iter().any(|e| e.what.contains("more failures of several kinds")), "{list:?}");
        assert!(list.iter().any(|e| e.what.starts_with("79 more like this")), "{list:?}");
        assert!(audit.verify().intact);
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn the_chain_goes_on_in_the_next_file() {
        let (folder, audit) = opened("files");
        audit.inner().full = 1_000;
        for n in 0..20 {
            audit.note(&ann(), &format!("change {n}"), "200", n);
        }
        drop(audit);
        let audit = Audit::open(&folder, write).unwrap();
        audit.inner().full = 1_000;
        for n in 20..30 {
            audit.note(&ann(), &format!("change {n}"), "200", n);
        }
        assert!(files(&folder).len() > 4);
        let list: Vec<String> = audit.list().into_iter().map(|e| e.what).collect();
        let expect: Vec<String> = (0..30).rev().map(|n| format!("change {n}")).collect();
        assert!(list == expect && audit.verify().intact && audit.verify().entries == 30, "{list:?}");
        // A file in the middle that is changed, or gone, shows.
        let middle = files(&folder)[2].clone();
        let good = std::fs::read(&middle).unwrap();
        std::fs::write(&middle, String::from_utf8_lossy(&good).replace("\"200\"", "\"201\"")).unwrap();
        let changed = audit.verify().intact;
        std::fs::remove_file(&middle).unwrap();
        assert!(!changed && !audit.verify().intact);
        std::fs::write(&middle, &good).unwrap();
        assert!(audit.verify().intact);
        // Many more: the oldest go, the rest is bounded and proves itself.
        for n in 0..200 {
            audit.note(&ann(), "again", "200", n);
        }
        let left = files(&folder);
        let verdict = audit.verify();
        assert!(
            left.len() == FILES_KEPT + 1 && verdict.intact && verdict.detail.contains("removed for room")
        );
        // Removed by somebody else.
        std::fs::remove_file(&left[0]).unwrap();
        assert!(!audit.verify().intact);
        let start = folder.join(START);
        let forged = std::fs::read_to_string(&start).unwrap().replacen('1', "2", 1);
        std::fs::write(&start, forged).unwrap();
        assert!(!audit.verify().intact);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
