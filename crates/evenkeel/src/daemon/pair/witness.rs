//! The third machine that is asked when two nodes do not hear each other: `evenkeel witness`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Instant;

use evenkeel_vrrp::seal::{Conversation, Keys as SealKeys};
use evenkeel_vrrp::witness::{Answer, Ask, Witness};

use super::keys::{Keys, random};
use crate::cli::{Exit, Failure, Outcome};

/// Nodes that are answered at a time: two, and their former addresses.
const NODES: usize = 64;

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
    let mut witness = Witness::new(0);
    let mut ends: HashMap<IpAddr, Conversation> = HashMap::new();
    let life = random();
    eprintln!("witness on {listen}; grants leases in 10 s");
    let mut holder = None;
    let mut buffer = [0; 1024];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if ends.len() >= NODES && !ends.contains_key(&from.ip()) {
            ends.clear();
        }
        let fresh =
            || Conversation::new(SealKeys::new(&keys), life.wrapping_add(u64::from(from.port())) | 1, 1);
        let end = ends.entry(from.ip()).or_insert_with(fresh);
        let answer = match end.open(&buffer[..length]) {
            Ok(opened) => Ask::parse(opened.body).map(|ask| witness.ask(&ask, now())),
            // Whoever introduces itself learns this life.
            Err(evenkeel_vrrp::seal::Refused::Stranger) => {
                Some(Answer { number: 0, granted: false, lease_ms: 0 })
            }
            Err(_) => None,
        };
        if let Some(answer) = answer {
            let _ = socket.send_to(&end.seal(&answer.encode()), from);
        }
        if witness.holder(now()) != holder {
            holder = witness.holder(now());
            match holder {
                Some(node) => eprintln!("node {node:016x} ({}) has the lease", from.ip()),
                None => eprintln!("nobody has the lease"),
            }
        }
    }
}
