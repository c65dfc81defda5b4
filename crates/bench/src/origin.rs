//! The cheap origin: it counts ends of heads and sends canned answers. `/s` is 128 bytes, `/k`
//! 10 KiB, `/m` 1 MiB.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::poll::{Poll, listen, read, write};

struct Peer {
    fd: OwnedFd,
    /// What is still to be sent: which answer, from where.
    pending: Option<(usize, usize)>,
    closing: bool,
}

pub fn serve(address: SocketAddr) -> anyhow::Result<()> {
    const SIZES: [usize; 3] = [128, 10 * 1024, 1 << 20];
    let answers: Vec<Vec<u8>> = SIZES
        .iter()
        .map(|size| {
            let mut answer = format!("HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n").into_bytes();
            answer.resize(answer.len() + size, b'x');
            answer
        })
        .collect();
    let listener = listen(address)?;
    let mut poll = Poll::new()?;
    poll.add(&listener, 0, false)?;
    let mut peers: HashMap<usize, Peer> = HashMap::new();
    let mut next = 1;
    let mut buffer = vec![0u8; 65_536];
    loop {
        for token in poll.wait(Duration::from_secs(60))? {
            if token == 0 {
                while let Ok(fd) =
                    rustix::net::accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
                {
                    poll.add(&fd, next, false)?;
                    peers.insert(next, Peer { fd, pending: None, closing: false });
                    next += 1;
                }
                continue;
            }
            let Some(peer) = peers.get_mut(&token) else { continue };
            if !turn(&poll, token, peer, &answers, &mut buffer)? {
                peers.remove(&token);
            }
        }
    }
}

/// Reads or goes on sending; `false` when the connection is over.
fn turn(
    poll: &Poll,
    token: usize,
    peer: &mut Peer,
    answers: &[Vec<u8>],
    buffer: &mut [u8],
) -> anyhow::Result<bool> {
    if peer.pending.is_some() {
        return flush(poll, token, peer, answers);
    }
    let count = match read(&peer.fd, buffer) {
        Ok(0) | Err(Errno::CONNRESET | Errno::PIPE) => return Ok(false),
        Ok(count) => count,
        Err(_) => return Ok(true),
    };
    let request = &buffer[..count];
    if !request.ends_with(b"\r\n\r\n") {
        return Ok(true);
    }
    let which = match request.get(5) {
        Some(b'k') => 1,
        Some(b'm') => 2,
        _ => 0,
    };
    peer.closing = request.windows(17).any(|w| w.eq_ignore_ascii_case(b"connection: close"));
    peer.pending = Some((which, 0));
    flush(poll, token, peer, answers)
}

fn flush(poll: &Poll, token: usize, peer: &mut Peer, answers: &[Vec<u8>]) -> anyhow::Result<bool> {
    let Some((which, mut sent)) = peer.pending else { return Ok(true) };
    let waited = sent > 0;
    while sent < answers[which].len() {
        match write(&peer.fd, &answers[which][sent..]) {
            Ok(count) => sent += count,
            Err(Errno::AGAIN) => {
                if !waited {
                    poll.only_write(&peer.fd, token)?;
                }
                peer.pending = Some((which, sent));
                return Ok(true);
            }
            Err(_) => return Ok(false),
        }
    }
    peer.pending = None;
    if waited {
        poll.only_read(&peer.fd, token)?;
    }
    Ok(!peer.closing)
}
