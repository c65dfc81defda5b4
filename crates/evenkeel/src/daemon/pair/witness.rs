//! The third machine that is asked when two nodes do not hear each other: `evenkeel witness`.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Instant;

use evenkeel_vrrp::desk::Desk;
use evenkeel_vrrp::seal::Keys as SealKeys;
use evenkeel_vrrp::witness::Witness;

use super::keys::{Keys, random};
use crate::cli::{Exit, Failure, Outcome};

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
    let mut desk = Desk::new(SealKeys::new(&keys), random(), Witness::new(0));
    eprintln!("witness on {listen}; grants leases in 10 s");
    let mut holder = None;
    let mut buffer = [0; 1024];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = desk.answer(&buffer[..length], now()) {
            let _ = socket.send_to(&answer, from);
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
