//! The state of a file, without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// What is held in its place, else its inode, its length, and when it was changed; nothing where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    None,
    Held(u64),
    File(u64, u64, SystemTime),
}

pub fn stamp(path: &Path) -> Stamp {
    if let Some(version) = crate::held_version(path) {
        return Stamp::Held(version);
    }
    let about = std::fs::metadata(path);
    let found = about.and_then(|about| Ok(Stamp::File(about.ino(), about.len(), about.modified()?)));
    found.unwrap_or(Stamp::None)
}
