//! A new version for the other node: the bundle goes over the link, piece by piece; there it is handed to who may
//! install it, which checks it as any other. In: steps of a person's command. Never: a judgement of a bundle.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_upgrade::{Outcome, Stage, outcome_folder};
use tracing::{info, warn};

use super::control::Control;
use super::pair::Say;

/// Where the helper listens that installs for a daemon that is not root.
const HELPER: &str = "/run/evenkeel-upgrade.sock";
/// How long the other node may take for a step.
const PATIENCE: Duration = Duration::from_secs(20);
const PIECE_AT_MOST: usize = 4 << 20;
const BUNDLE_AT_MOST: u64 = 8 << 30;

/// A step that the other node has not answered.
pub struct PendingStep {
    id: u64,
    reply: Reply<api::PairUpgraded>,
    until: Instant,
}

fn refused(why: impl Into<String>) -> Refused {
    Refused::new(FailureKind::Failed, why)
}

impl Control {
    /// Has the other node do a step.
    pub fn upgrade_other(&mut self, step: api::PairUpgrade, reply: Reply<api::PairUpgraded>) {
        let Some(link) = self.link_up() else {
            return drop(reply.send(Err(refused("the other node is not reachable over the pair's link"))));
        };
        if self.sync().upgrading.is_some() {
            return drop(reply.send(Err(refused("another upgrade of the pair is under way"))));
        }
        let id = super::pair::random();
        link.say(&Say::Upgrade { id, step });
        self.sync_mut().upgrading = Some(PendingStep { id, reply, until: Instant::now() + PATIENCE });
    }

    /// The other node's answer.
    pub fn other_upgraded(&mut self, id: u64, result: Result<api::PairUpgraded, String>) {
        if let Some(step) = self.sync_mut().upgrading.take_if(|step| step.id == id) {
            let _ = step.reply.send(result.map_err(refused));
        }
    }

    /// It has given none.
    pub fn tick_upgrade(&mut self) {
        let linked = self.link_up().is_some();
        let over = |step: &mut PendingStep| !linked || Instant::now() >= step.until;
        if let Some(step) = self.sync_mut().upgrading.take_if(over) {
            let why = match linked {
                true => {
                    "the other node does not answer: its version may not know how; upgrade it by itself first"
                }
                false => "the link to the other node broke",
            };
            let _ = step.reply.send(Err(refused(why)));
        }
    }

    /// Does a step for the other node.
    pub fn upgrade_for_peer(&mut self, id: u64, step: api::PairUpgrade) {
        let Some(link) = self.link_up() else { return };
        let say = link.sayer();
        let folder = self.snapshot().state_directory.join("upgrade");
        let socket = self.snapshot().admin.socket.clone();
        tokio::task::spawn_blocking(move || {
            let result = carry_out(&folder, &socket, step);
            if let Err(why) = &result {
                warn!(why, "a step of the upgrade that the other node asks for failed");
            }
            say(&Say::Upgraded { id, result });
        });
    }
}

fn carry_out(folder: &Path, socket: &Path, step: api::PairUpgrade) -> Result<api::PairUpgraded, String> {
    let file = folder.join("bundle");
    let failed = |e: std::io::Error| format!("{}: {e}", file.display());
    let state =
        |state, received, detail: &str| Ok(api::PairUpgraded { state, received, detail: detail.into() });
    match step {
        api::PairUpgrade::Piece { offset, data } => {
            let data = data_encoding::BASE64.decode(data.as_bytes());
            let data = data.ok().filter(|data| data.len() <= PIECE_AT_MOST);
            let data = data.ok_or("a piece of the bundle cannot be read")?;
            let received = keep(&file, offset, &data).map_err(failed)?;
            let received = received.ok_or("a piece of the bundle does not follow the one before")?;
            state(api::UpgradeState::Receiving, received, "")
        }
        api::PairUpgrade::Install { number, size, older } => {
            let bundle = File::open(&file).map_err(failed)?;
            let received = bundle.metadata().map_err(failed)?.len();
            if received != size {
                return Err(format!("{received} of {size} bytes of the bundle have come"));
            }
            // Whoever reads it from now on has it open.
            std::fs::remove_file(&file).map_err(failed)?;
            info!(number, "a new version is installed, as the other node asks");
            install(bundle, &head_of(number, size, older, socket))?;
            state(api::UpgradeState::Installing, received, "")
        }
        api::PairUpgrade::Ask { number } => {
            match Outcome::read(&outcome_folder()).filter(|outcome| outcome.number == number) {
                Some(Outcome { stage: Stage::Done, detail, .. }) => {
                    state(api::UpgradeState::Done, 0, &detail)
                }
                Some(Outcome { stage: Stage::Failed, detail, .. }) => {
                    state(api::UpgradeState::Failed, 0, &detail)
                }
                _ => state(api::UpgradeState::Installing, 0, ""),
            }
        }
    }
}

/// Appends a piece, or begins anew; how much there is then, or nothing where pieces are missing before it.
fn keep(file: &Path, offset: u64, data: &[u8]) -> std::io::Result<Option<u64>> {
    if offset == 0 {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        evenkeel_files::write_private(file, b"")?;
    }
    let mut open = OpenOptions::new().write(true).open(file)?;
    let there = open.seek(SeekFrom::End(0))?;
    if there != offset || there + data.len() as u64 > BUNDLE_AT_MOST {
        return Ok(None);
    }
    open.write_all(data)?;
    Ok(Some(there + data.len() as u64))
}

/// What the helper reads before the bundle.
fn head_of(number: u64, size: u64, older: bool, socket: &Path) -> String {
    format!("{number} {size} {} {}\n", if older { "older" } else { "newer" }, socket.display())
}

/// Hands the bundle to who installs it. It goes on when this process is replaced.
fn install(mut bundle: File, head: &str) -> Result<(), String> {
    let mut to: Box<dyn Write + Send> = match rustix::process::getuid().is_root() {
        true => Box::new(own_helper()?),
        false => Box::new(UnixStream::connect(HELPER).map_err(|e| {
            format!("the helper for upgrades does not answer at {HELPER} ({e}): systemctl enable --now evenkeel-upgrade.socket")
        })?),
    };
    to.write_all(head.as_bytes()).map_err(|e| format!("the helper for upgrades: {e}"))?;
    std::thread::Builder::new()
        .name("upgrade".into())
        .spawn(move || {
            let mut piece = vec![0; 1 << 20];
            while let Ok(count @ 1..) = bundle.read(&mut piece) {
                if to.write_all(&piece[..count]).is_err() {
                    return;
                }
            }
        })
        .map_err(|e| e.to_string())?;
    Ok(())
}

/// A helper of root's own, which nobody else sees: its standard input.
fn own_helper() -> Result<std::process::ChildStdin, String> {
    let program = program();
    let mut command = Command::new(&program);
    command.args(["upgrade", "--helper"]).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
    let input = child.stdin.take().ok_or("the helper for upgrades reads nothing")?;
    std::thread::spawn(move || child.wait());
    Ok(input)
}

/// This program, as it lies on the disk now.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let text = own.to_string_lossy();
    text.strip_suffix(" (deleted)").map_or_else(|| own.clone(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other() {
        let folder = std::env::temp_dir().join(format!("evenkeel-pieces-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let piece = |offset, data: &[u8]| {
            let data = data_encoding::BASE64.encode(data);
            carry_out(&folder, Path::new("/x"), api::PairUpgrade::Piece { offset, data })
                .map(|state| state.received)
        };
        assert_eq!(piece(0, b"abc"), Ok(3));
        assert_eq!(piece(3, b"def"), Ok(6));
        assert!(piece(3, b"def").is_err() && piece(9, b"x").is_err());
        assert_eq!(piece(0, b"x"), Ok(1));
        let install = api::PairUpgrade::Install { number: 1, size: 2, older: false };
        assert!(carry_out(&folder, Path::new("/x"), install).is_err_and(|why| why.contains("1 of 2 bytes")));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
