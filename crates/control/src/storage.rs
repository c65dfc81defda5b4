//! Whether the state directory can be written: asked before a commit, and looked at from a thread of its
//! own every now and then, so that people hear of it before something is lost.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_files::Staged;
use tracing::warn;

use super::control::Control;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// What a commit stores beside the text: who made it, and the live changes.
const BESIDE: usize = 8 << 10;

/// What the last look found.
#[derive(Default)]
pub struct Storage {
    look_at: Option<Instant>,
    /// A thread that looks has the other end; a disk that hangs is looked at once.
    found: Arc<Mutex<Option<String>>>,
    /// The receivers of alerts know of trouble.
    told: bool,
}

impl Storage {
    /// As it is known now, whether the receivers of alerts have been told of it yet or not.
    pub fn trouble(&self) -> Option<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something that had to be stored could not be: that is as good as a look.
    pub fn set_trouble(&self, why: String) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// What people are to be told: there is trouble, or no more.
    fn turn(&mut self) -> Option<Result<(), String>> {
        let found = self.trouble();
        let is_new = found.is_some() != std::mem::replace(&mut self.told, found.is_some());
        is_new.then(|| found.map_or(Ok(()), Err))
    }

    fn probe(&mut self, folder: &Path, now: Instant) {
        if self.look_at.is_some_and(|at| now < at) || Arc::strong_count(&self.found) > 1 {
            return;
        }
        self.look_at = Some(now + EVERY);
        let (found, folder) = (self.found.clone(), folder.to_path_buf());
        std::thread::spawn(move || {
            let trouble = check(&folder, BESIDE).err();
            *found.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        });
    }
}

/// Whether so much can be stored.
fn check(folder: &Path, bytes: usize) -> Result<(), String> {
    evenkeel_files::make_folder(folder)
        .and_then(|()| Staged::write(&folder.join("room"), &vec![0; bytes]))
        .map(drop)
        .map_err(|error| format!("the state directory {} cannot be written: {error}", folder.display()))
}

impl Control {
    /// Whether a commit of this text can be stored, with the number of its revision and a way back.
    pub(super) fn check_storage(&self, text: &str) -> Result<(), String> {
        let folder = &self.snapshot().state_directory;
        let state = std::fs::metadata(folder.join("state.json")).map_or(0, |m| m.len() as usize);
        // One that is full for a long text may have room for a short one: then the next look says so.
        let checked = check(folder, text.len() + state + BESIDE)
            .inspect_err(|why| self.storage.set_trouble(why.clone()));
        checked.map_err(|why| format!("{why}; nothing was changed"))
    }

    /// At a start, before anybody can ask how this node is.
    pub(super) fn look_at_storage(&mut self) {
        if let Err(why) = check(&self.snapshot().state_directory, BESIDE) {
            self.storage.set_trouble(why);
        }
    }

    pub(super) fn tick_storage(&mut self, now: Instant) {
        let folder = self.snapshot().state_directory.clone();
        let turn = self.storage.turn();
        self.storage.probe(&folder, now);
        let node = self.node_name();
        match turn {
            None => {}
            Some(Err(why)) => {
                warn!("{why}");
                let text = format!("{why}: commits are refused, and live changes do not survive a restart");
                self.happen("storage", "warning", &node, text);
            }
            Some(Ok(())) => {
                self.happen("storage", "good", &node, "the state directory can be written again".into());
                // What people have said meanwhile.
                self.save_overrides();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_once_that_nothing_can_be_stored_and_once_that_it_can() {
        let folder = std::env::temp_dir().join(format!("evenkeel-storage-{}", std::process::id()));
        // A file where the folder would be.
        std::fs::write(&folder, "").unwrap();
        let mut storage = Storage::default();
        let began = Instant::now();
        let mut probe = |seconds| {
            storage.probe(&folder, began + Duration::from_secs(seconds));
            while Arc::strong_count(&storage.found) > 1 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let turn = storage.turn();
            (turn, storage.trouble().is_some())
        };
        assert!(matches!(probe(0), (Some(Err(why)), true) if why.contains("cannot be written")));
        assert_eq!(probe(11), (None, true));
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(probe(12), (None, true), "not looked at yet");
        assert_eq!(probe(22), (Some(Ok(())), false));
        // A commit that could not be stored is known at once.
        storage.set_trouble("full".into());
        assert_eq!(storage.trouble().as_deref(), Some("full"));
        assert_eq!(storage.turn(), Some(Err("full".into())));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
        std::fs::remove_dir(&folder).unwrap();
    }
}
