//! From one process to the next: listening sockets, servers' states and persistence tables go
//! over a Unix socket beside the admin socket. The old process goes on until the new one says
//! that it is ready.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel_l7::tls::TicketSecrets;
use evenkeel_platform::HandoverError;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::pair::Resume;
use crate::outcome::{Exit, Failure};

/// How long a successor may take from the sockets to being ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// A process that is killed has closed all its sockets after this time.
const GOING: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What a process knows that its successor should not have to learn again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    pub revision: u64,
    pub servers: Vec<ServerState>,
    pub persistence: Vec<PersistenceEntry>,
    /// So that TLS sessions are resumed.
    #[serde(default)]
    pub ticket_keys: TicketSecrets,
    /// The process has a role in a pair, and says at the end which.
    #[serde(default)]
    pub in_pair: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerState {
    pub pool: String,
    pub name: String,
    pub address: SocketAddr,
    pub up: bool,
    pub detail: String,
    pub since_ms: u64,
}

/// `expires_ms` is of the monotonic clock, which processes of one boot share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersistenceEntry {
    pub pool: String,
    /// The key's bytes.
    pub key: Vec<u8>,
    pub server: String,
    pub expires_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    listeners: Vec<SocketAddr>,
    admin: Vec<SocketAddr>,
    state: State,
}

/// What was taken over. The old process waits for [`Inherited::ready`].
pub struct Inherited {
    pub listeners: Vec<(SocketAddr, OwnedFd)>,
    pub admin: Vec<(SocketAddr, OwnedFd)>,
    pub state: State,
    in_pair: bool,
    stream: UnixStream,
}

pub fn path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".handover");
    name.into()
}

/// Asks a running process for its sockets; `None` when there is none. One that is being killed still
/// takes connections for a moment and answers none: it is asked again until it has gone.
pub fn take_over(socket: &Path, refuse: bool) -> Result<Option<Inherited>, Failure> {
    let path = path(socket);
    let began = Instant::now();
    loop {
        let Ok(stream) = UnixStream::connect(&path) else { return Ok(None) };
        if refuse {
            let why = format!(
                "another process serves {}; without --no-take-over this one would take over",
                socket.display()
            );
            return Err(Failure::new(Exit::Failed, why));
        }
        match ask(stream) {
            Ok(inherited) => return Ok(Some(inherited)),
            Err(HandoverError::Io(error)) if has_gone(&error) && began.elapsed() < GOING => {
                std::thread::sleep(ASK_AGAIN);
            }
            Err(error) => {
                let why = format!("taking over from {}: {error}", path.display());
                return Err(Failure::new(Exit::Failed, why));
            }
        }
    }
}

fn has_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | UnexpectedEof | BrokenPipe)
}

fn ask(mut stream: UnixStream) -> Result<Inherited, HandoverError> {
    stream.set_read_timeout(Some(READY_LIMIT))?;
    stream.write_all(b"1")?;
    let package = evenkeel_platform::receive(&mut stream)?;
    let manifest: Manifest = serde_json::from_slice(&package.text).map_err(std::io::Error::from)?;
    let mut sockets = package.sockets.into_iter();
    let mut take =
        |addresses: Vec<SocketAddr>| -> Vec<_> { addresses.into_iter().zip(sockets.by_ref()).collect() };
    let (listeners, admin) = (take(manifest.listeners), take(manifest.admin));
    let in_pair = manifest.state.in_pair;
    Ok(Inherited { listeners, admin, state: manifest.state, in_pair, stream })
}

impl Inherited {
    /// The old process may stop now. What it says of its part in a pair comes last, so that the
    /// peer is told without a gap.
    pub fn ready(mut self) -> Result<Option<Resume>, Failure> {
        // One that was killed meanwhile has nothing to say, and all it had is here.
        if self.stream.write_all(b"R").is_err() || !self.in_pair {
            return Ok(None);
        }
        self.stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut text = Vec::new();
        // An old process that dies meanwhile says nothing.
        let _ = self.stream.read_to_end(&mut text);
        Ok(serde_json::from_slice(&text).ok())
    }
}

/// Another process that wants to take over.
pub struct Successor(UnixStream);

/// A successor that has the sockets and is starting.
pub struct Waiting(UnixStream);

/// Hears of successors from now on.
pub fn listen(socket: &Path) -> Result<UnboundedReceiver<Successor>, Failure> {
    let listener = evenkeel_platform::listen_private(&path(socket))?;
    let (sender, receiver) = unbounded_channel();
    std::thread::Builder::new().name("handover".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut version = [0];
            let mut stream = stream;
            let asked = stream.read_exact(&mut version).is_ok() && version == *b"1";
            if asked && sender.send(Successor(stream)).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

impl Successor {
    pub fn give(
        mut self,
        listeners: &[(SocketAddr, BorrowedFd<'_>)],
        admin: &[(SocketAddr, BorrowedFd<'_>)],
        state: &State,
    ) -> anyhow::Result<Waiting> {
        let addresses = |sockets: &[(SocketAddr, BorrowedFd<'_>)]| -> Vec<SocketAddr> {
            sockets.iter().map(|(address, _)| *address).collect()
        };
        let manifest = serde_json::json!({
            "listeners": addresses(listeners),
            "admin": addresses(admin),
            "state": state,
        });
        let text = serde_json::to_vec(&manifest)?;
        let fds: Vec<BorrowedFd<'_>> = listeners.iter().chain(admin).map(|(_, fd)| *fd).collect();
        self.0.set_write_timeout(Some(Duration::from_secs(5)))?;
        evenkeel_platform::send(&mut self.0, &text, &fds)?;
        Ok(Waiting(self.0))
    }
}

impl Waiting {
    /// The last word.
    pub fn say(&mut self, resume: &Resume) {
        let text = serde_json::to_vec(resume).unwrap_or_default();
        let _ = self.0.write_all(&text);
    }

    pub fn until_ready(&mut self) -> std::io::Result<()> {
        self.0.set_read_timeout(Some(READY_LIMIT))?;
        let mut word = [0];
        self.0.read_exact(&mut word)?;
        if word == *b"R" { Ok(()) } else { Err(std::io::Error::other("an unknown word")) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn socket(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("evenkeel-handover-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("admin.sock")
    }

    /// A process that is being killed: the kernel takes connections, nobody reads from them.
    fn dying(socket: &Path, asked: usize) -> std::thread::JoinHandle<UnixListener> {
        let _ = std::fs::remove_file(path(socket));
        let listener = UnixListener::bind(path(socket)).unwrap();
        std::thread::spawn(move || {
            for _ in 0..asked {
                let (stream, _) = listener.accept().unwrap();
                // Unread bytes make it a reset.
                std::thread::sleep(Duration::from_millis(20));
                drop(stream);
            }
            listener
        })
    }

    #[test]
    fn a_predecessor_that_is_being_killed_is_none() {
        let socket = socket("killed");
        let dying = dying(&socket, 3);
        // Its sockets are closed last.
        let closed = std::thread::spawn(move || drop(dying.join().unwrap()));
        assert!(take_over(&socket, false).unwrap().is_none());
        closed.join().unwrap();
        std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    }

    #[test]
    fn one_that_answers_late_is_taken_over_from_and_may_die_after() {
        let socket = socket("late");
        let dying = dying(&socket, 2);
        let old = std::thread::spawn(move || {
            let listener = dying.join().unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut version = [0];
            stream.read_exact(&mut version).unwrap();
            let state = State { revision: 7, in_pair: true, ..State::default() };
            Successor(stream).give(&[], &[], &state).unwrap();
        });
        let inherited = take_over(&socket, false).unwrap().unwrap();
        old.join().unwrap();
        assert_eq!(inherited.state.revision, 7);
        assert!(inherited.ready().unwrap().is_none(), "it was killed before it could say its last word");
        std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    }
}
