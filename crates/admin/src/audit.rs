//! What people did, one JSON object a line; each line's seal proves it and all lines before it.
//!
//! The seal is HMAC-SHA256 over the seal before and the line, with a key of this node's. Removing,
//! changing or inserting a line breaks the chain from there; cutting the end shows by the count and
//! seal that are kept beside it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{hmac, rand};
use evenkeel_api as api;

use crate::accounts::{Who, Write, hex};

/// A line longer than this is cut before it is written.
const LONGEST_TEXT: usize = 400;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Audit(Arc<Mutex<Inner>>);

struct Inner {
    file: PathBuf,
    out: File,
    key: hmac::Key,
    number: u64,
    seal: String,
}

fn append(file: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)
}

impl Inner {
    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.out.write_all(line).and_then(|()| self.out.sync_data())
    }
}

impl Audit {
    pub fn open(folder: &Path, write: Write) -> Result<Audit, String> {
        let failed = |what: &Path, e: std::io::Error| format!("{}: {e}", what.display());
        let (file, key_file) = (folder.join("audit.log"), folder.join("audit.key"));
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
        let out = match append(&file) {
            Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => File::open(&file),
            opened => opened,
        };
        let out = out.map_err(|e| failed(&file, e))?;
        let last = entries(&file).last();
        let (number, seal) = last.map_or((0, String::new()), |e| (e.number, e.seal));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &raw);
        Ok(Audit(Arc::new(Mutex::new(Inner { file, out, key, number, seal }))))
    }

    /// Written and flushed when this returns.
    pub fn note(&self, who: &Who, what: &str, outcome: &str, now_ms: u64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entry = api::AuditEntry {
            number: inner.number + 1,
            time_ms: now_ms,
            who: short(&who.name),
            from: short(&who.from),
            what: short(what),
            outcome: short(outcome),
            seal: String::new(),
        };
        entry.seal = seal(&inner.key, &inner.seal, &entry);
        let Ok(mut line) = serde_json::to_vec(&entry) else { return };
        line.push(b'\n');
        if inner.write(&line).is_err() {
            // It may have been read-only when this was opened.
            let Ok(out) = append(&inner.file) else { return };
            inner.out = out;
            if inner.write(&line).is_err() {
                return;
            }
        }
        (inner.number, inner.seal) = (entry.number, entry.seal);
        // Not flushed: a count that is one behind after a power cut breaks nothing.
        let head = format!("{} {}\n", inner.number, inner.seal);
        let next = inner.file.with_extension("head.new");
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&next);
        let written = opened.and_then(|mut file| file.write_all(head.as_bytes()));
        let _ = written.and_then(|()| std::fs::rename(&next, inner.file.with_extension("head")));
    }

    /// The latest first.
    pub fn list(&self) -> Vec<api::AuditEntry> {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner).file.clone();
        let mut all: Vec<_> = entries(&file).collect();
        all.reverse();
        all
    }

    pub fn verify(&self) -> api::AuditVerdict {
        let (file, key) = {
            let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (inner.file.clone(), inner.key.clone())
        };
        let lines = File::open(&file).map(|f| BufReader::new(f).lines()).into_iter().flatten();
        let (mut before, mut count) = (String::new(), 0);
        let broken = |entries, detail: String| api::AuditVerdict { entries, intact: false, detail };
        for (at, line) in lines.map_while(Result::ok).enumerate() {
            let Ok(entry) = serde_json::from_str::<api::AuditEntry>(&line) else {
                return broken(count, format!("line {} is no entry", at + 1));
            };
            if entry.number != count + 1 {
                return broken(count, format!("entry {} is followed by entry {}", count, entry.number));
            }
            if entry.seal != seal(&key, &before, &entry) {
                return broken(count, format!("entry {} was changed", entry.number));
            }
            (before, count) = (entry.seal, entry.number);
        }
        let head = std::fs::read_to_string(file.with_extension("head")).unwrap_or_default();
        let kept = head.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        // A power cut between the entry and its count leaves one more entry than was counted.
        if kept > count || (kept == count && count > 0 && head.trim() != format!("{count} {before}")) {
            return broken(count, format!("{kept} entries were written, {count} are there"));
        }
        api::AuditVerdict { entries: count, intact: true, detail: format!("all {count} entries are intact") }
    }
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
}
