//! Contents that stand in for those of files while this process runs: what HAProxy's commands change in memory
//! alone. A file that is held need not be there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

struct Held {
    content: Arc<[u8]>,
    version: u64,
}

struct All {
    files: BTreeMap<PathBuf, Held>,
    versions: u64,
}

static ALL: RwLock<All> = RwLock::new(All { files: BTreeMap::new(), versions: 0 });

fn all() -> RwLockReadGuard<'static, All> {
    ALL.read().unwrap_or_else(PoisonError::into_inner)
}

/// From now on `read` finds this in the file; with nothing, what the file holds. What it found before.
pub fn hold(path: &Path, content: Option<Arc<[u8]>>) -> Option<Arc<[u8]>> {
    let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
    all.versions += 1;
    let version = all.versions;
    let before = match content {
        Some(content) => all.files.insert(path.to_owned(), Held { content, version }),
        None => all.files.remove(path),
    };
    before.map(|held| held.content)
}

pub fn held(path: &Path) -> Option<Arc<[u8]>> {
    all().files.get(path).map(|held| held.content.clone())
}

/// Changes with what is held; none where nothing is.
pub fn held_version(path: &Path) -> Option<u64> {
    all().files.get(path).map(|held| held.version)
}

/// Files of a folder that are held, be they there or not.
pub fn held_in(folder: &Path) -> Vec<PathBuf> {
    all().files.keys().filter(|path| path.parent() == Some(folder)).cloned().collect()
}

/// Whether there is such a file, or it is held.
pub fn is_file(path: &Path) -> bool {
    held_version(path).is_some() || path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_read_in_the_place_of_the_file() {
        let file = std::env::temp_dir().join(format!("evenkeel-held-{}", std::process::id()));
        std::fs::write(&file, "file").unwrap();
        let read = || crate::read(&file, 6).map_err(|e| e.kind());
        assert!(held_version(&file).is_none() && is_file(&file));
        assert_eq!(hold(&file, Some(b"memory".as_slice().into())), None);
        let first = held_version(&file);
        assert_eq!(read().unwrap(), b"memory");
        hold(&file, Some(b"longer!".as_slice().into()));
        assert!(held_version(&file) != first);
        assert_eq!(read(), Err(std::io::ErrorKind::FileTooLarge));
        assert!(held_in(&std::env::temp_dir()).contains(&file));
        std::fs::remove_file(&file).unwrap();
        assert!(is_file(&file));
        assert!(hold(&file, None).is_some());
        assert!(!is_file(&file) && read().is_err());
    }
}
