//! From one process to the next: listening sockets, servers' states and persistence tables go
//! over a Unix socket beside the admin socket. The old process goes on until the new one says
//! that it is ready.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_l7::tls::TicketSecrets;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::pair::Resume;
use crate::cli::{Exit, Failure};

/// How long a successor may take from the sockets to being ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

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

/// Asks a running process for its sockets; `None` when there is none.
pub fn take_over(socket: &Path, refuse: bool) -> Result<Option<Inherited>, Failure> {
    let path = path(socket);
    let Ok(mut stream) = UnixStream::connect(&path) else { return Ok(None) };
    if refuse {
        let why = format!(
            "another process serves {}; without --no-take-over this one would take over",
            socket.display()
        );
        return Err(Failure::new(Exit::Failed, why));
    }
    let failed =
        |why: String| Failure::new(Exit::Failed, format!("taking over from {}: {why}", path.display()));
    stream.set_read_timeout(Some(READY_LIMIT))?;
    stream.write_all(b"1")?;
    let package = evenkeel_platform::receive(&mut stream).map_err(|e| failed(e.to_string()))?;
    let manifest: Manifest = serde_json::from_slice(&package.text).map_err(|e| failed(e.to_string()))?;
    let mut sockets = package.sockets.into_iter();
    let mut take =
        |addresses: Vec<SocketAddr>| -> Vec<_> { addresses.into_iter().zip(sockets.by_ref()).collect() };
    let (listeners, admin) = (take(manifest.listeners), take(manifest.admin));
    let in_pair = manifest.state.in_pair;
    Ok(Some(Inherited { listeners, admin, state: manifest.state, in_pair, stream }))
}

impl Inherited {
    /// The old process may stop now. What it says of its part in a pair comes last, so that the
    /// peer is told without a gap.
    pub fn ready(mut self) -> Result<Option<Resume>, Failure> {
        self.stream.write_all(b"R")?;
        if !self.in_pair {
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
