//! A listener for http-01 where nobody listens: open while a challenge is, it answers those and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use evenkeel_l7::Challenges;

const HEAD_AT_MOST: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients at a time; others are turned away.
const CLIENTS: usize = 32;

/// One open listener.
#[derive(Debug)]
pub struct Door {
    pub address: SocketAddr,
    listener: Arc<TcpListener>,
}

impl Door {
    pub fn open(address: SocketAddr, challenges: Arc<Challenges>) -> std::io::Result<Door> {
        evenkeel_l7::check_free(address, true, false)?;
        let fd: OwnedFd = evenkeel_l7::listen(address, true)?;
        let listener = TcpListener::from(fd);
        // Its thread has nothing else to do.
        listener.set_nonblocking(false)?;
        let listener = Arc::new(listener);
        let (accepting, clients) = (listener.clone(), Arc::new(AtomicUsize::new(0)));
        std::thread::Builder::new().name("acme-http".into()).spawn(move || {
            // It ends when the door is shut.
            while let Ok((stream, _)) = accepting.accept() {
                if clients.load(Relaxed) >= CLIENTS {
                    continue;
                }
                let (challenges, clients) = (challenges.clone(), clients.clone());
                clients.fetch_add(1, Relaxed);
                let counted = clients.clone();
                let started = std::thread::Builder::new().name("acme-http".into()).spawn(move || {
                    let _ = answer(stream, &challenges);
                    clients.fetch_sub(1, Relaxed);
                });
                if started.is_err() {
                    counted.fetch_sub(1, Relaxed);
                }
            }
        })?;
        Ok(Door { address, listener })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Nobody listens from here on, and the thread wakes up.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
    }
}

fn answer(mut stream: TcpStream, challenges: &Challenges) -> std::io::Result<()> {
    let until = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_AT_MOST {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Ok(()),
            count => head.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    }
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let path = words.next().filter(|method| *method == b"GET").and(words.next());
    let (status, body) = match path.and_then(|path| challenges.text(path)) {
        Some(text) => ("200 OK", text),
        None => ("404 Not Found", "404 Not Found\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}
