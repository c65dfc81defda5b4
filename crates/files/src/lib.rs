//! Reads the files that a configuration names (lists, maps, pages, certificates, keys, passwords), and writes
//! files that are whole or absent after a crash.
//!
//! In: a path and a limit, or a content. Out: what the file holds, or why not, without a word of its content.
//! A content that is held in memory stands in for the file's (`hold`).
//! Never: a FIFO, a device, a socket or a directory is opened or waited for; more than the limit
//! is read; a disk that hangs is waited for without a bound.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

mod held;
mod local;
mod stamp;
mod write;

pub use held::{held, held_in, held_version, hold, is_file};
pub use local::{connect_local, reach, stand_in};
pub use stamp::{Stamp, stamp};
pub use write::{Staged, at_disk, make_folder, remove, write_atomically, write_private};

/// Lists and maps.
pub const LIST_AT_MOST: u64 = 64 << 20;
/// Certificates, keys, authorities and revocation lists; a bundle of thousands of authorities is
/// below 1 MiB, lists of what was revoked are larger.
pub const PEM_AT_MOST: u64 = 16 << 20;
/// Pages, passwords and other short texts.
pub const TEXT_AT_MOST: u64 = 1 << 20;

/// What a regular file of at most so many bytes holds.
pub fn read(path: &Path, at_most: u64) -> Result<Vec<u8>> {
    // The usual way to name an empty file.
    if path == Path::new("/dev/null") {
        return Ok(Vec::new());
    }
    let too_large = || Error::new(ErrorKind::FileTooLarge, format!("larger than {} MiB", at_most >> 20));
    if let Some(held) = held(path) {
        return if held.len() as u64 > at_most { Err(too_large()) } else { Ok(held.to_vec()) };
    }
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > at_most {
        return Err(too_large());
    }
    // It may grow while it is read, and files of /proc say that they are empty.
    let mut bytes = Vec::with_capacity(length as usize + 1);
    file.take(at_most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > at_most {
        return Err(too_large());
    }
    Ok(bytes)
}

/// The same as text.
pub fn read_text(path: &Path, at_most: u64) -> Result<String> {
    let bytes = read(path, at_most)?;
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "is not UTF-8"))
}

fn open(path: &Path) -> Result<File> {
    let no_file = || Error::new(ErrorKind::InvalidInput, "is no regular file");
    // Opening some devices does something: they are not opened at all.
    if !std::fs::metadata(path)?.is_file() {
        return Err(no_file());
    }
    // Where the path has become something else meanwhile, opening it does not wait.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(no_file()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let folder = std::env::temp_dir().join(format!("evenkeel-named-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (file, fifo, link) = (folder.join("a"), folder.join("fifo"), folder.join("link"));
        std::fs::write(&file, "12345").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert_eq!(read(&link, 5).unwrap(), b"12345");
        assert_eq!(read(&file, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert!(read(Path::new("/dev/null"), 5).unwrap().is_empty());
        assert!(!read(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
        assert_eq!(read(Path::new("/proc/self/status"), 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        for odd in [&fifo, &folder, &folder.join("socket"), Path::new("/dev/zero"), Path::new("/dev/tty")] {
            assert_eq!(read(odd, 5).unwrap_err().to_string(), "is no regular file", "{}", odd.display());
        }
        assert_eq!(read(&folder.join("none"), 5).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
