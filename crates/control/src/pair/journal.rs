//! The journal of tables on disk. Whoever changes tables never waits for the disk: one thread at a time
//! writes, what comes meanwhile gathers, and where too much gathers the journal is written anew.
//!
//! Its frames: length, checksum, and what the checksum is of: time of writing, message. What is torn at
//! the end is passed over.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use evenkeel_balance::{Change, Key, hash_bytes};
use tokio::task::JoinHandle;
use tracing::error;

use super::super::control::{monotonic_ms, wall_ms};
use super::removed::Removed;
use super::tables::{BATCH, CHANGES, Message, Reader, TableRef, encode, lock};

/// The journal is written anew when it is so much longer than what lives.
const SURPLUS: u64 = 4 << 20;
/// What gathers while the disk is busy; beyond it the journal is written anew.
const BACKLOG: usize = 4 << 20;
/// Frames of the journal: what more claims to be one is damage.
const LONGEST: usize = 1 << 22;

pub(super) struct Journal {
    path: PathBuf,
    /// Frames that are not written yet.
    unsaved: Vec<u8>,
    /// What is written next is all that lives.
    anew: bool,
    on_disk: Option<OnDisk>,
    /// A thread that writes, and gives the file back.
    writing: Option<JoinHandle<OnDisk>>,
}

impl Journal {
    pub fn open(path: PathBuf) -> Journal {
        let on_disk = OnDisk::new(&path);
        Journal { path, unsaved: Vec::new(), anew: false, on_disk: Some(on_disk), writing: None }
    }

    pub fn begin_anew(&mut self) {
        self.anew = true;
        self.unsaved.clear();
    }

    pub fn add(&mut self, body: &[u8]) {
        if self.unsaved.len() > BACKLOG {
            self.begin_anew();
        }
        frame(&mut self.unsaved, wall_ms(), body);
    }

    /// Writes what has gathered, unless the disk is still busy with what came before.
    pub async fn save(&mut self, tables: &Arc<Vec<TableRef>>, removed: &Arc<Mutex<Removed>>) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.written().await;
        if !self.anew && self.unsaved.is_empty() {
            return;
        }
        let mut on_disk = self.on_disk.take().unwrap_or_else(|| OnDisk::new(&self.path));
        let (anew, frames) = (std::mem::take(&mut self.anew), std::mem::take(&mut self.unsaved));
        let (tables, removed) = (tables.clone(), removed.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            on_disk.save(anew, &frames, &tables, &removed);
            on_disk
        }));
    }

    /// Writes the rest.
    pub async fn finish(&mut self, tables: &Arc<Vec<TableRef>>, removed: &Arc<Mutex<Removed>>) {
        self.written().await;
        self.save(tables, removed).await;
        self.written().await;
    }

    async fn written(&mut self) {
        if let Some(writing) = self.writing.take() {
            self.on_disk = writing.await.ok();
        }
    }
}

/// The file, and who may wait for its disk.
struct OnDisk {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    /// Of the last time that it was written as a whole.
    whole: u64,
}

impl OnDisk {
    fn new(path: &Path) -> OnDisk {
        OnDisk { path: path.to_owned(), file: None, length: 0, whole: 0 }
    }

    fn save(&mut self, anew: bool, frames: &[u8], tables: &[TableRef], removed: &Mutex<Removed>) {
        let result = match anew || self.file.is_none() || self.length > 2 * self.whole + SURPLUS {
            true => self.write_whole(tables, removed),
            false => self.append(frames),
        };
        if let Err(error) = result {
            error!(file = %self.path.display(), %error, "what is remembered of clients cannot be stored");
            self.file = None;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes)?;
        file.sync_data()?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn write_whole(&mut self, tables: &[TableRef], removed: &Mutex<Removed>) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let now_ms = wall_ms();
        for table in tables {
            table.table.snapshot(monotonic_ms(), |told| {
                told.chunks(BATCH).for_each(|some| frame(&mut bytes, now_ms, &encode(CHANGES, table, some)));
            });
            for (key, at_ms) in lock(removed).of(&table.name, table.table.expire_ms(), now_ms) {
                let gone = Change { key: Key::text(&key), entry: None };
                frame(&mut bytes, at_ms, &encode(CHANGES, table, &[gone]));
            }
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        evenkeel_files::write_private(&self.path, &bytes)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        (self.length, self.whole) = (bytes.len() as u64, bytes.len() as u64);
        Ok(())
    }
}

fn frame(into: &mut Vec<u8>, at_ms: u64, body: &[u8]) {
    into.extend((body.len() as u32 + 8).to_be_bytes());
    let mut stamped = at_ms.to_be_bytes().to_vec();
    stamped.extend(body);
    into.extend(hash_bytes(&stamped).to_be_bytes());
    into.extend(stamped);
}

/// What a journal holds, each message with the time of its writing.
fn messages(bytes: &[u8], mut each: impl FnMut(u64, Message)) {
    let mut reader = Reader(bytes);
    while let Some(head) = reader.take(4) {
        let length = u32::from_be_bytes(head.try_into().unwrap_or_default()) as usize;
        let (Some(sum), true) = (reader.long(), length <= LONGEST) else { break };
        let Some(stamped) = reader.take(length).filter(|stamped| hash_bytes(stamped) == sum) else { break };
        let mut stamped = Reader(stamped);
        let Some(at) = stamped.long() else { break };
        let Some(message) = Message::parse(stamped.0) else { break };
        each(at, message);
    }
}

/// What a journal says was removed, and did not come back.
pub(super) fn removed_of(path: &Path) -> Removed {
    let mut removed = Removed::default();
    messages(&std::fs::read(path).unwrap_or_default(), |at, message| {
        for entry in message.entries {
            match entry.entry {
                None => removed.note(&message.table, entry.key.bytes(), at),
                Some(_) => {
                    removed.is_later(&message.table, entry.key.bytes(), u64::MAX);
                }
            }
        }
    });
    removed
}

/// Puts what a journal holds into tables; how many entries there were.
pub fn replay(path: &Path, tables: &[TableRef]) -> usize {
    let (now_ms, wall_ms) = (monotonic_ms(), wall_ms());
    let mut count = 0;
    messages(&std::fs::read(path).unwrap_or_default(), |at, message| {
        let Some(table) = tables.iter().find(|t| t.name == message.table) else { return };
        // A clock that was set back makes an entry live longer, not for ever.
        let passed = wall_ms.saturating_sub(at);
        for entry in message.entries {
            let mut told = entry.resolve(table);
            if let Some(entry) = &mut told.entry {
                entry.left_ms = entry.left_ms.saturating_sub(passed);
                if entry.left_ms == 0 {
                    continue;
                }
            }
            table.table.apply_remote(&told, now_ms);
            count += usize::from(told.entry.is_some());
        }
    });
    count
}

#[cfg(test)]
mod tests {
    use evenkeel_balance::ChangedEntry;

    use super::super::tables::tests::table;
    use super::*;

    /// A disk that does not answer: here it is the lock that who writes everything must have.
    #[tokio::test]
    async fn nobody_waits_for_the_disk_and_what_gathers_is_bounded() {
        let path = std::env::temp_dir().join(format!("evenkeel-slow-disk-{}", std::process::id()));
        let one = table("pool:web");
        let (tables, removed) = (Arc::new(vec![one.clone()]), Arc::new(Mutex::new(Removed::default())));
        let mut journal = Journal::open(path.clone());
        one.table.set(&Key::text(b"first"), Some(7), monotonic_ms() + 50_000, monotonic_ms());
        let change = |key: &[u8]| {
            let entry = ChangedEntry { server: Some(7), left_ms: 50_000, counts: None };
            encode(CHANGES, &one, &[Change { key: Key::text(key), entry: Some(entry) }])
        };
        // Another thread has the lock: this one waits for things.
        let (release, held) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(std::sync::Barrier::new(2)));
        let busy = std::thread::spawn({
            let (removed, release, held) = (removed.clone(), release.clone(), held.clone());
            move || {
                let _busy = lock(&removed);
                held.wait();
                release.wait();
            }
        });
        held.wait();
        journal.add(&change(b"first"));
        journal.save(&tables, &removed).await;
        for _ in 0..200_000 {
            journal.add(&change(b"again"));
        }
        // The disk is still busy: nothing is begun, nothing is waited for.
        journal.save(&tables, &removed).await;
        assert!(journal.writing.as_ref().is_some_and(|writing| !writing.is_finished()));
        assert!(journal.anew && journal.unsaved.len() <= BACKLOG + 200, "{}", journal.unsaved.len());
        one.table.set(&Key::text(b"last"), Some(8), monotonic_ms() + 50_000, monotonic_ms());
        release.wait();
        busy.join().unwrap();
        journal.finish(&tables, &removed).await;
        let fresh = table("pool:web");
        assert_eq!(replay(&path, std::slice::from_ref(&fresh)), 2);
        // What comes later is appended.
        journal.add(&change(b"later"));
        journal.finish(&tables, &removed).await;
        assert_eq!(replay(&path, std::slice::from_ref(&fresh)), 3);
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_journal_cut_or_altered_anywhere_gives_what_is_whole() {
        let one = table("pool:web");
        let now = monotonic_ms();
        let mut bytes = Vec::new();
        for n in 0..20u8 {
            let told = Change {
                key: Key::text(&[n]),
                entry: Some(ChangedEntry { server: Some(7), left_ms: 50_000, counts: None }),
            };
            frame(&mut bytes, wall_ms(), &encode(CHANGES, &one, &[told]));
        }
        let path = std::env::temp_dir().join(format!("evenkeel-journal-{}", std::process::id()));
        let size = bytes.len() / 20;
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let fresh = table("pool:web");
            assert_eq!(replay(&path, std::slice::from_ref(&fresh)), cut / size, "cut at {cut}");
            assert_eq!(fresh.table.entries(now).len(), cut / size);
        }
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 4;
            std::fs::write(&path, &altered).unwrap();
            assert!(replay(&path, &[table("pool:web")]) >= at / size, "altered at {at}");
        }
        let _ = std::fs::remove_file(&path);
    }
}
