//! Every configuration that has run, as files in the state directory: the text, and beside it who
//! made it, when, and why.

use std::path::{Path, PathBuf};

use evenkeel_api as api;
use tracing::warn;

use super::control::wall_ms;

/// Revisions that are kept.
const KEPT: usize = 500;

pub struct History {
    folder: PathBuf,
}

impl History {
    pub fn new(state_directory: &Path) -> History {
        History { folder: state_directory.join("revisions") }
    }

    fn file(&self, revision: u64, kind: &str) -> PathBuf {
        self.folder.join(format!("{revision:010}.{kind}"))
    }

    /// Keeps a revision; one that is there already stays as it is.
    pub fn keep(&self, revision: u64, text: &str, about: &api::CommitOptions) {
        if self.text(revision).as_deref() == Some(text) {
            return;
        }
        let described = api::Revision {
            revision,
            time_ms: wall_ms(),
            author: about.author.clone().unwrap_or_default(),
            message: about.message.clone().unwrap_or_default(),
        };
        let keep = || -> std::io::Result<()> {
            evenkeel_files::make_folder(&self.folder)?;
            evenkeel_files::write_private(&self.file(revision, "toml"), text.as_bytes())?;
            evenkeel_files::write_private(&self.file(revision, "json"), &serde_json::to_vec(&described)?)
        };
        if let Err(error) = keep() {
            warn!(%error, folder = %self.folder.display(), "the revision cannot be kept: there is no way back to it");
        }
        self.forget_old();
    }

    fn forget_old(&self) {
        let numbers = self.numbers();
        for revision in numbers.iter().rev().skip(KEPT) {
            let _ = evenkeel_files::remove(&self.file(*revision, "toml"));
            let _ = evenkeel_files::remove(&self.file(*revision, "json"));
        }
    }

    /// In order.
    fn numbers(&self) -> Vec<u64> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let number = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".toml")?.parse().ok();
        let mut numbers: Vec<u64> = entries.filter_map(|e| number(e.file_name())).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The latest first.
    pub fn list(&self) -> Vec<api::Revision> {
        let describe = |revision: u64| {
            let text = std::fs::read(self.file(revision, "json")).ok();
            let known = text.and_then(|text| serde_json::from_slice(&text).ok());
            // The text is what counts; what was said of it may be lost.
            known.unwrap_or(api::Revision { revision, ..api::Revision::default() })
        };
        self.numbers().into_iter().rev().map(describe).collect()
    }

    pub fn text(&self, revision: u64) -> Option<String> {
        std::fs::read_to_string(self.file(revision, "toml")).ok()
    }

    /// The one before, if it is there.
    pub fn before(&self, revision: u64) -> Option<u64> {
        self.numbers().into_iter().rev().find(|n| *n < revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_kept_and_bounded() {
        let folder = std::env::temp_dir().join(format!("evenkeel-history-{}", std::process::id()));
        let history = History::new(&folder);
        let about =
            |message: &str| api::CommitOptions { message: Some(message.into()), ..Default::default() };
        for revision in 1..=KEPT as u64 + 3 {
            history.keep(revision, &format!("# {revision}"), &about("more"));
        }
        history.keep(9, "# 9", &about("again"));
        let all = history.list();
        assert_eq!((all.len(), all[0].revision, all[0].message.as_str()), (KEPT, KEPT as u64 + 3, "more"));
        assert_eq!((history.text(3), history.text(4).as_deref()), (None, Some("# 4")));
        assert_eq!((history.before(9), history.before(4)), (Some(8), None));
        std::fs::write(folder.join("revisions/0000000009.json"), "torn").unwrap();
        assert!(history.list().iter().any(|r| r.revision == 9 && r.message.is_empty()));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
