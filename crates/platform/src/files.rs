//! Files that are whole or absent after a crash, and sockets that only their owner may use.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Replaces a file so that a crash at any moment leaves the old or the new content. Keeps the
/// permissions of the file that was there.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    Staged::write(path, content)?.replace()
}

/// The same, for the eyes of this user alone.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    write_with_mode(path, content, 0o600)
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    Staged::with_mode(path, content, mode)?.replace()
}

/// New content of a file, on the disk beside it. Dropped, it is gone.
#[derive(Debug)]
pub struct Staged {
    temporary: PathBuf,
    path: PathBuf,
    folder: File,
}

impl Staged {
    /// Does what usually fails: there is room on the disk, and the folder may be written.
    pub fn write(path: &Path, content: &[u8]) -> io::Result<Staged> {
        let mode = fs::metadata(path).map(|m| m.permissions().mode() & 0o777).unwrap_or(0o640);
        Staged::with_mode(path, content, mode)
    }

    fn with_mode(path: &Path, content: &[u8], mode: u32) -> io::Result<Staged> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or_else(|| io::Error::other("a file name is needed"))?;
        let mut temporary = folder.to_path_buf();
        temporary.push(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let staged = Staged { temporary, path: path.to_path_buf(), folder: File::open(folder)? };
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&staged.temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Makes it the file's content, in one step.
    pub fn replace(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)?;
        self.folder.sync_all()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Listens on a Unix socket that only this user may open, in place of one that was left behind.
pub fn listen_private(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Bound under another name first, so that nobody connects before the permissions are set and
    // a running process's socket is replaced in one step.
    let fresh = path.with_extension(format!("new.{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_keeps_permissions_and_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("evenkeel-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.toml");
        write_atomically(&path, b"one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(write_atomically(&folder.join("none/x"), b"").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
