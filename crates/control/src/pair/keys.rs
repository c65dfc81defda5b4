//! The pair's keys on this node's disk, and the number that tells this node from the other.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

/// The first key seals, all of them open.
#[derive(Clone)]
pub struct Keys {
    file: PathBuf,
    node: u64,
    secrets: Vec<[u8; 32]>,
}

/// A number that nobody can guess, and that is never 0.
pub fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish().max(1)
}

fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).unwrap_or_else(|_| {
        key.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_be_bytes()));
    });
    key
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

impl Keys {
    pub fn load(folder: &Path) -> Result<Keys, String> {
        let failed = |what: &Path, e: std::io::Error| format!("{}: {e}", what.display());
        evenkeel_files::make_folder(folder).map_err(|e| failed(folder, e))?;
        let (file, node_file) = (folder.join("key"), folder.join("node"));
        let node =
            std::fs::read_to_string(&node_file).ok().and_then(|t| u64::from_str_radix(t.trim(), 16).ok());
        let node = match node {
            Some(node) => node,
            None => {
                let node = random();
                evenkeel_files::write_atomically(&node_file, format!("{node:016x}\n").as_bytes())
                    .map_err(|e| failed(&node_file, e))?;
                node
            }
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(&file, error)),
        };
        let secrets: Option<Vec<[u8; 32]>> = text.lines().map(|line| unhex(line)?.try_into().ok()).collect();
        let secrets = secrets.ok_or_else(|| {
            format!("{} is damaged: join the pair again with `evenkeel pair join`", file.display())
        })?;
        Ok(Keys { file, node, secrets })
    }

    pub fn secrets(&self) -> Vec<[u8; 32]> {
        self.secrets.clone()
    }

    pub fn node(&self) -> u64 {
        self.node
    }

    /// Makes the first key if there is none.
    pub fn ensure(&mut self) -> Result<[u8; 32], String> {
        match self.secrets.first() {
            Some(key) => Ok(*key),
            None => {
                let key = random_key();
                self.store(vec![key])?;
                Ok(key)
            }
        }
    }

    /// A key that nobody has yet.
    pub fn fresh() -> [u8; 32] {
        random_key()
    }

    pub fn store(&mut self, secrets: Vec<[u8; 32]>) -> Result<(), String> {
        let text: String = secrets.iter().map(|key| hex(key) + "\n").collect();
        evenkeel_files::write_private(&self.file, text.as_bytes())
            .map_err(|e| format!("{}: {e}", self.file.display()))?;
        self.secrets = secrets;
        Ok(())
    }
}
