//! Writes files that are whole or absent after a crash, and waits for a disk a bounded time.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a disk may take: a filesystem that is frozen for a snapshot, or storage whose network is gone, must
/// not stop whoever writes. Well below the silence after which others think that the daemon hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who waits for disks.
const THREAD: &str = "disk";

/// Folders that have not answered in time, and how many threads wait there. Until they are through, nobody else
/// waits for these folders.
static STUCK: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// Where work at a disk is.
#[derive(PartialEq, Eq)]
enum Progress {
    Running,
    /// Nobody waits for it any more.
    GivenUp,
    Done,
}

/// Works at the disk that a folder is on, from a thread of its own, and waits for it a bounded time. What is
/// done after that is dropped, and nothing else is tried in that folder until then.
pub fn at_disk<T: Send + 'static>(
    folder: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    at_disk_for(PATIENCE, folder, work)
}

fn at_disk_for<T: Send + 'static>(
    patience: Duration,
    folder: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let stuck = || STUCK.lock().unwrap_or_else(PoisonError::into_inner);
    let late = || {
        let why = format!("the disk of {} has not answered for {} s", folder.display(), patience.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, why)
    };
    if stuck().contains_key(folder) {
        return Err(late());
    }
    let (sender, receiver) = sync_channel(1);
    let progress = Arc::new(Mutex::new(Progress::Running));
    let (of_thread, key) = (progress.clone(), folder.to_path_buf());
    thread::Builder::new().name(THREAD.into()).spawn(move || {
        let done = work();
        let mut progress = of_thread.lock().unwrap_or_else(PoisonError::into_inner);
        if *progress == Progress::GivenUp {
            // Its undoing may have to wait for the disk as well.
            drop(done);
            let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
            match stuck.get_mut(&key) {
                Some(waiting) if *waiting > 1 => *waiting -= 1,
                _ => drop(stuck.remove(&key)),
            }
        } else {
            let _ = sender.send(done);
        }
        *progress = Progress::Done;
    })?;
    let ended = || Err(io::Error::other("work at a disk has ended without a result"));
    match receiver.recv_timeout(patience) {
        Ok(done) => done,
        Err(RecvTimeoutError::Disconnected) => ended(),
        Err(RecvTimeoutError::Timeout) => {
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            if *progress == Progress::Done {
                return receiver.try_recv().unwrap_or_else(|_| ended());
            }
            *progress = Progress::GivenUp;
            *stuck().entry(folder.to_path_buf()).or_default() += 1;
            Err(late())
        }
    }
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder and those above it, where they are not there.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let made = folder.to_path_buf();
    at_disk(folder, move || fs::create_dir_all(made))
}

/// Removes a file; whether it was there.
pub fn remove(path: &Path) -> io::Result<bool> {
    let file = path.to_path_buf();
    at_disk(folder_of(path), move || match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    })
}

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
    replaced: bool,
}

impl Staged {
    /// Does what usually fails: there is room on the disk, and the folder may be written.
    pub fn write(path: &Path, content: &[u8]) -> io::Result<Staged> {
        let mode = fs::metadata(path).map(|m| m.permissions().mode() & 0o777).unwrap_or(0o640);
        Staged::with_mode(path, content, mode)
    }

    fn with_mode(path: &Path, content: &[u8], mode: u32) -> io::Result<Staged> {
        // Two of one file may be on their way where the disk is slow.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = folder_of(path).to_path_buf();
        let name = path.file_name().ok_or_else(|| io::Error::other("a file name is needed"))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut temporary = folder.clone();
        temporary.push(format!(".{}.{}.{number}", name.to_string_lossy(), std::process::id()));
        let (path, content) = (path.to_path_buf(), content.to_vec());
        at_disk(&folder.clone(), move || {
            let staged = Staged { temporary, path, folder: File::open(folder)?, replaced: false };
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(mode)
                .open(&staged.temporary)?;
            file.write_all(&content)?;
            file.sync_all()?;
            Ok(staged)
        })
    }

    /// Makes it the file's content, in one step.
    pub fn replace(mut self) -> io::Result<()> {
        let folder = folder_of(&self.path).to_path_buf();
        at_disk(&folder, move || {
            fs::rename(&self.temporary, &self.path)?;
            self.replaced = true;
            self.folder.sync_all()
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.replaced {
            return;
        }
        let temporary = std::mem::take(&mut self.temporary);
        if thread::current().name() == Some(THREAD) {
            let _ = fs::remove_file(temporary);
        } else {
            let _ = remove(&temporary);
        }
    }
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
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(write_atomically(&folder.join("none/x"), b"").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_disk_that_hangs_is_waited_for_once_and_used_again_when_it_answers() {
        let folder = std::env::temp_dir().join(format!("evenkeel-disk-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (answer, hangs) = std::sync::mpsc::channel::<()>();
        let shortly = Duration::from_millis(20);
        let hung = at_disk_for(shortly, &folder, move || {
            let _ = hangs.recv();
            Ok(())
        });
        assert_eq!(hung.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let file = folder.join("a");
        let refused = write_atomically(&file, b"one").unwrap_err();
        assert!(refused.to_string().contains("has not answered"), "{refused}");
        assert!(write_atomically(&std::env::temp_dir().join("evenkeel-disk-other"), b"").is_ok());
        drop(answer);
        while STUCK.lock().unwrap().contains_key(&folder) {
            thread::sleep(Duration::from_millis(1));
        }
        write_atomically(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert!(remove(&file).unwrap() && !remove(&file).unwrap());
        // What was put beside a file and is not wanted leaves nothing behind.
        drop(Staged::write(&file, b"three").unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(&folder).unwrap();
        fs::remove_file(std::env::temp_dir().join("evenkeel-disk-other")).unwrap();
    }
}
