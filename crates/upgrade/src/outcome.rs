//! How an upgrade that another node has asked for went: one small file, written by who installs and read by the
//! daemon, which is another process then.

use std::path::{Path, PathBuf};

/// A folder in place of the usual one, for tests and demonstrations; root's environment alone says so.
const FOLDER: &str = "EVENKEEL_UPGRADE_FOLDER";
const LONGEST: usize = 4096;

/// Where it lies: root's, and readable for the daemon.
pub fn outcome_folder() -> PathBuf {
    std::env::var_os(FOLDER).map_or_else(|| "/var/lib/evenkeel-upgrade".into(), PathBuf::from)
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Installing,
    Done,
    Failed,
}

/// The outcome of the upgrade of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub number: u64,
    pub stage: Stage,
    pub detail: String,
}

impl Outcome {
    /// What the file of a folder says; nothing where there is none, or none that can be read.
    pub fn read(folder: &Path) -> Option<Outcome> {
        let text = std::fs::read_to_string(folder.join("outcome")).ok()?;
        let (head, detail) = text.split_once('\n')?;
        let (number, stage) = head.split_once(' ')?;
        let stage = match stage {
            "installing" => Stage::Installing,
            "done" => Stage::Done,
            "failed" => Stage::Failed,
            _ => return None,
        };
        Some(Outcome { number: number.parse().ok()?, stage, detail: detail.trim_end().to_owned() })
    }

    /// Writes the file, in place of the one before.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        let stage = match self.stage {
            Stage::Installing => "installing",
            Stage::Done => "done",
            Stage::Failed => "failed",
        };
        let detail: String = self.detail.chars().take(LONGEST).collect();
        std::fs::create_dir_all(folder)?;
        let next = folder.join("outcome.next");
        std::fs::write(&next, format!("{} {stage}\n{detail}\n", self.number))?;
        std::fs::rename(next, folder.join("outcome"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = std::env::temp_dir().join(format!("evenkeel-outcome-{}", std::process::id()));
        assert_eq!(Outcome::read(&folder), None);
        for (stage, detail) in [(Stage::Installing, ""), (Stage::Failed, "one\ntwo"), (Stage::Done, "ok")] {
            let outcome = Outcome { number: 7, stage, detail: detail.into() };
            outcome.write(&folder).unwrap();
            assert_eq!(Outcome::read(&folder), Some(outcome));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
