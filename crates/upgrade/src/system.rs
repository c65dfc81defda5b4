//! The appliance's two system partitions: a new system is written to the one that does not run, and tried once.
//!
//! The boot menu (`packaging/image/grub.cfg`) starts `next` where `tries` is 1, and makes that 0 first: a system
//! that does not come up is left at the next start. One that does makes itself the one that starts.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, PartKind, copy};
use crate::grubenv::GrubEnvironment;

/// Which of the two systems starts.
#[derive(Debug)]
pub struct Boot {
    file: PathBuf,
    environment: GrubEnvironment,
}

impl Boot {
    pub fn read(file: &Path) -> Result<Boot, String> {
        let name = file.display();
        let bytes = std::fs::read(file).map_err(|e| format!("{name}: {e}"))?;
        let environment = GrubEnvironment::parse(&bytes).map_err(|why| format!("{name} {why}"))?;
        Ok(Boot { file: file.to_owned(), environment })
    }

    /// `a` or `b`, as the menu takes it.
    pub fn system(&self) -> &str {
        self.environment.get("system").unwrap_or("a")
    }

    pub fn other(&self) -> &'static str {
        if self.system() == "a" { "b" } else { "a" }
    }

    /// The system that is tried.
    pub fn next(&self) -> Option<&str> {
        self.environment.get("next")
    }

    /// The other system is tried once at the next start.
    pub fn try_other(&mut self) -> Result<(), String> {
        let other = self.other();
        self.environment.set("next", other);
        self.environment.set("tries", "1");
        self.write()
    }

    /// The other system is not tried: it is being written.
    pub fn try_none(&mut self) -> Result<(), String> {
        self.environment.unset("next");
        self.environment.unset("tries");
        self.write()
    }

    /// The system that runs is the one that starts from now on; whether that is new.
    pub fn keep(&mut self, running: &str) -> Result<bool, String> {
        let Some(next) = self.next().map(str::to_owned) else { return Ok(false) };
        let kept = next == running;
        if kept {
            self.environment.set("system", running);
        }
        self.try_none()?;
        Ok(kept)
    }

    /// In place, as GRUB does it: the block is one sector or two, and stays where it is on the disk.
    fn write(&self) -> Result<(), String> {
        let name = self.file.display();
        let bytes = self.environment.bytes().map_err(|why| format!("{name} {why}"))?;
        let written = OpenOptions::new().write(true).open(&self.file).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(|e| format!("{name}: {e}"))
    }
}

/// Writes the system of a bundle to a partition, and reads it back.
pub fn write_partition(bundle: &mut Bundle, partition: &Path) -> Result<(), String> {
    let name = partition.display();
    let part = bundle.part(PartKind::System).cloned().ok_or("the bundle has no system for an appliance")?;
    let failed = |e: std::io::Error| format!("{name}: {e}");
    let mut file = OpenOptions::new().read(true).write(true).open(partition).map_err(failed)?;
    let room = file.seek(SeekFrom::End(0)).map_err(failed)?;
    if room < part.size {
        return Err(format!("{name} has {room} bytes, and the new system needs {}", part.size));
    }
    file.rewind().map_err(failed)?;
    bundle.copy(PartKind::System, &mut file).map_err(|why| format!("{name}: {why}"))?;
    file.sync_all().map_err(failed)?;
    file.rewind().map_err(failed)?;
    let (_, digest) = copy(&mut file, part.size, &mut std::io::sink()).map_err(failed)?;
    match digest == part.sha256 {
        true => Ok(()),
        false => Err(format!("{name} does not hold what was written to it: its disk fails")),
    }
}
