//! The state of a file, without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// Its inode, its length, and when it was changed; nothing where there is none.
pub type Stamp = Option<(u64, u64, SystemTime)>;

pub fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.ino(), about.len(), about.modified().ok()?))
}
