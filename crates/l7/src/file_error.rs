//! Files that a configuration names and that cannot be used.

use std::path::{Path, PathBuf};

/// A file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    pub file: PathBuf,
    pub why: String,
    /// It is not there or may not be read; the rest of the program has nothing against it.
    pub missing: bool,
}

impl FileError {
    pub fn new(file: &Path, why: impl Into<String>) -> FileError {
        FileError { file: file.to_owned(), why: why.into(), missing: false }
    }

    pub fn unreadable(file: &Path, error: &std::io::Error) -> FileError {
        FileError { file: file.to_owned(), why: error.to_string(), missing: true }
    }
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for FileError {}
