//! The third machine that is asked when two nodes do not hear each other: `evenkeel witness`.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Instant;

use evenkeel_vrrp::desk::Desk;
use evenkeel_vrrp::seal::Keys as SealKeys;
use evenkeel_vrrp::witness::Witness;

use super::keys::{Keys, random};
use crate::outcome::{Exit, Failure, Outcome};

pub fn run(listen: SocketAddr, folder: &Path) -> Outcome {
    let keys = Keys::load(folder).map_err(|e| Failure::new(Exit::Failed, e))?.secrets();
    if keys.is_empty() {
        let why = format!(
            "{} is missing: copy the file `pair/key` of a node's state directory there",
            folder.join("key").display()
        );
        return Err(Failure::new(Exit::Failed, why));
    }
    let socket = UdpSocket::bind(listen)
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot listen on {listen}: {e}")))?;
    let start = Instant::now();
    let now = || start.elapsed().as_millis() as u64;
    let (file, mut stored_ms) = (folder.join("longest-lease"), longest_lease(folder));
    let witness = stored_ms.map_or_else(|| Witness::new(0), |longest| Witness::after(longest, 0));
    let quiet_ms = witness.quiet_ms(0);
    let mut desk = Desk::new(SealKeys::new(&keys), random(), witness);
    match stored_ms {
        Some(_) => {
            eprintln!("witness on {listen}; lends nothing for {quiet_ms} ms, the longest lease so far")
        }
        None => eprintln!("witness on {listen}; lends nothing for 10 s: what it lent before is not known"),
    }
    let (mut holder, mut is_quiet) = (None, true);
    let mut buffer = [0; 1024];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = desk.answer(&buffer[..length], now()) {
            let longest_ms = desk.witness().longest_ms();
            if longest_ms > stored_ms.unwrap_or(0) {
                if !keep_longest(&file, longest_ms) {
                    continue;
                }
                // Tried once: what is written is right, or is not there.
                stored_ms = Some(longest_ms);
            }
            let _ = socket.send_to(&answer, from);
        }
        if is_quiet && desk.witness().quiet_ms(now()) == 0 {
            is_quiet = false;
            eprintln!("lends leases from now on");
        }
        if desk.holder(now()) != holder {
            holder = desk.holder(now());
            match holder {
                Some(node) => eprintln!("node {node:016x} ({}) has the lease", from.ip()),
                None => eprintln!("nobody has the lease"),
            }
        }
    }
}

/// The longest lease that this witness has lent, where that is known.
fn longest_lease(folder: &Path) -> Option<u32> {
    std::fs::read_to_string(folder.join("longest-lease")).ok()?.trim().parse().ok()
}

/// Keeps it for the next start; whether the answer may leave. Where it cannot be written there must be
/// none, so that the next start waits for the whole time.
fn keep_longest(file: &Path, longest_ms: u32) -> bool {
    let Err(error) = evenkeel_files::write_private(file, longest_ms.to_string().as_bytes()) else {
        return true;
    };
    eprintln!("{} cannot be written: {error}; the next start waits for 10 s", file.display());
    match std::fs::remove_file(file) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_is_kept_or_not_known() {
        let folder = std::env::temp_dir().join(format!("evenkeel-witness-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("longest-lease");
        assert_eq!(longest_lease(&folder), None);
        assert!(keep_longest(&file, 400));
        assert_eq!(longest_lease(&folder), Some(400));
        std::fs::write(&file, "torn").unwrap();
        assert_eq!(longest_lease(&folder), None);
        // It cannot be written: nothing stale is left.
        assert!(keep_longest(&folder.join("nowhere/longest-lease"), 500));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
