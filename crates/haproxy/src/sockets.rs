//! Sockets that HAProxy names otherwise than by an address: given descriptors, files, abstract names;
//! and the doors of `stats socket`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_admin::connected::{Conversation, Open};
use evenkeel_import::{Places, SocketAccess, Source, StatsSocket};
use rustix::net::{AddressFamily, SocketAddrAny};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::io::{AsyncRead, AsyncWrite};

use super::commands::Level;

#[derive(Default)]
pub struct Sockets {
    /// Listening sockets by the address that stands for them.
    pub adopted: Vec<(SocketAddr, OwnedFd)>,
    wanted: Vec<(String, SocketAddr, SocketAccess)>,
    /// Files of sockets, to be removed at the end.
    files: Vec<SocketFile>,
}

/// A socket's file under a name of its own until the process serves: one that does not come so far leaves
/// the process before as it is.
#[derive(Clone, Debug)]
struct SocketFile {
    fresh: PathBuf,
    path: PathBuf,
    inode: u64,
}

/// Files that get their names when the process serves.
pub struct ToPublish(Vec<SocketFile>);

impl ToPublish {
    pub fn publish(self) -> std::io::Result<()> {
        self.0.iter().try_for_each(|file| std::fs::rename(&file.fresh, &file.path))
    }
}

/// A door for administrators.
pub enum Door {
    Local(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

/// A client of a door.
pub type Stream = Box<dyn Duplex>;

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// How long a door rests after an accept that failed.
const ACCEPT_REST: Duration = Duration::from_millis(50);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Door {
    /// The next client, and where it comes from: those of a file or an abstract name from one place.
    async fn accept(&self) -> std::io::Result<(Stream, IpAddr)> {
        Ok(match self {
            Door::Local(listener) => (Box::new(listener.accept().await?.0), LOCAL),
            Door::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                (Box::new(stream), peer.ip())
            }
        })
    }

    /// Serves so many clients at a time, over TCP a quarter of them from one address, until the process
    /// ends. One more takes the place of the one that has asked nothing for the longest time.
    pub fn serve<F, S>(self, clients: usize, session: F)
    where
        F: Fn(Stream, Conversation) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let share = if matches!(self, Door::Tcp(_)) { clients / 4 } else { clients };
        let mut open = Open::of(clients, share);
        tokio::spawn(async move {
            loop {
                let Ok((stream, address)) = self.accept().await else {
                    // Out of file descriptors: the client still waits, and would be told of at once.
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                };
                let Some((conversation, ended)) = open.admit(address) else { continue };
                let session = session(stream, conversation);
                tokio::spawn(async move {
                    tokio::select! {
                        () = session => {}
                        Ok(()) = ended => {}
                    }
                });
            }
        });
    }
}

/// A descriptor that this process was given, as one of its own.
fn given(number: &str) -> Result<OwnedFd, String> {
    let raw: i32 = number.parse().map_err(|_| format!("'{number}' is no file descriptor"))?;
    let failed = |e: rustix::io::Errno| format!("cannot use file descriptor '{number}' : {e}");
    let own: Pid = getpid();
    let pidfd = pidfd_open(own, PidfdFlags::empty()).map_err(failed)?;
    let fd = pidfd_getfd(pidfd, raw, PidfdGetfdFlags::empty()).map_err(failed)?;
    rustix::io::ioctl_fionbio(&fd, true).map_err(failed)?;
    Ok(fd)
}

fn own_address(fd: &OwnedFd) -> Option<SocketAddr> {
    let name: SocketAddrAny = rustix::net::getsockname(fd).ok()?;
    SocketAddr::try_from(name).ok()
}

impl Sockets {
    /// What the machine makes of the words that are no addresses. Nothing is opened yet.
    pub fn places(
        &mut self,
        sources: &[Source],
        variables: &BTreeMap<String, String>,
        stats: (SocketAddr, String),
        only_check: bool,
    ) -> Result<Places, String> {
        let evenkeel_import::HostNeeds { binds, servers, hosts, files } =
            evenkeel_import::places(sources, variables);
        let mut places = Places { stats: Some(stats), ..Places::default() };
        for (bind, access) in binds {
            let mut address = evenkeel_files::stand_in(&bind);
            if let Some(number) = bind.strip_prefix("fd@") {
                if !only_check {
                    let fd = given(number)?;
                    address = own_address(&fd).filter(|a| a.port() > 0).unwrap_or(address);
                    self.adopted.push((address, fd));
                }
            } else {
                self.wanted.push((bind.clone(), address, access));
            }
            places.sockets.insert(bind, address);
        }
        for server in servers {
            evenkeel_files::reach(&server);
            places.sockets.insert(server.clone(), evenkeel_files::stand_in(&server));
        }
        for host in hosts {
            let found = (host.as_str(), 0).to_socket_addrs().ok().and_then(|mut all| all.next());
            if let Some(found) = found {
                places.hosts.insert(host, found.ip());
            }
        }
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(|e| format!("the file {file}: {e}"))?;
            places.files.insert(file, text);
        }
        Ok(places)
    }

    /// Opens the files and abstract names that services are bound to.
    pub fn open_listeners(&mut self) -> Result<(), String> {
        for (bind, address, access) in std::mem::take(&mut self.wanted) {
            let listener = self.listen(&bind, &access)?;
            self.adopted.push((address, listener.into()));
        }
        // Where there is nobody yet, the first clients of one proxy find the sockets of the others.
        for file in self.files.iter_mut().filter(|file| std::fs::symlink_metadata(&file.path).is_err()) {
            if std::fs::rename(&file.fresh, &file.path).is_ok() {
                file.fresh.clone_from(&file.path);
            }
        }
        Ok(())
    }

    fn listen(&mut self, place: &str, access: &SocketAccess) -> Result<UnixListener, String> {
        let failed = |e: std::io::Error| format!("Starting proxy: cannot bind UNIX socket [{place}]: {e}");
        let listener = match place.strip_prefix("abns@") {
            Some(name) => {
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(failed)?;
                UnixListener::bind_addr(&address).map_err(failed)?
            }
            None => {
                let path = Path::new(place.strip_prefix("unix@").unwrap_or(place));
                // Whoever comes meanwhile finds the old one or the new one, never none.
                let mut fresh = path.as_os_str().to_owned();
                fresh.push(format!(".{}.tmp", std::process::id()));
                let fresh = PathBuf::from(fresh);
                let _ = std::fs::remove_file(&fresh);
                let listener = UnixListener::bind(&fresh).map_err(failed)?;
                if let Some(mode) = access.mode {
                    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))
                        .map_err(failed)?;
                }
                give(&fresh, access).map_err(|why| format!("Starting proxy: [{place}]: {why}"))?;
                let inode = std::fs::symlink_metadata(&fresh).map_err(failed)?.ino();
                self.files.push(SocketFile { fresh, path: path.to_owned(), inode });
                listener
            }
        };
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    }

    /// The doors of `stats socket`, and what may be done there.
    pub fn open_doors(&mut self, wanted: &[StatsSocket]) -> Result<Vec<(Door, Level)>, String> {
        let mut doors = Vec::new();
        for socket in wanted {
            let level = Level::of(&socket.level);
            let place = socket.place.as_str();
            let failed =
                |e: std::io::Error| format!("Starting frontend GLOBAL: cannot bind socket [{place}]: {e}");
            let door = if let Some(number) = place.strip_prefix("fd@") {
                door_of(given(number)?).map_err(failed)?
            } else if place.starts_with('/') || place.starts_with("unix@") || place.starts_with("abns@") {
                let mode = socket.access.mode.or(Some(0o600));
                let listener = self.listen(place, &SocketAccess { mode, ..socket.access.clone() })?;
                Door::Local(tokio::net::UnixListener::from_std(listener).map_err(failed)?)
            } else {
                let plain = evenkeel_import::without_family(place);
                let plain =
                    plain.strip_prefix("*:").map_or_else(|| plain.to_owned(), |p| format!("0.0.0.0:{p}"));
                let plain = if plain.starts_with(':') { format!("0.0.0.0{plain}") } else { plain };
                let listener = std::net::TcpListener::bind(&plain).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Door::Tcp(tokio::net::TcpListener::from_std(listener).map_err(failed)?)
            };
            doors.push((door, level));
        }
        Ok(doors)
    }

    /// A door in a folder that nobody else may look into.
    pub fn open_private(&mut self, path: &Path) -> Result<Door, String> {
        let own = SocketAccess { mode: Some(0o600), ..SocketAccess::default() };
        let listener = self.listen(&path.display().to_string(), &own)?;
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        Ok(Door::Local(tokio::net::UnixListener::from_std(listener).map_err(failed)?))
    }

    pub fn to_publish(&self) -> ToPublish {
        ToPublish(self.files.clone())
    }

    fn remove_files(&self) {
        for SocketFile { fresh, path, inode } in &self.files {
            // A successor has put its own there.
            for file in [fresh, path] {
                if std::fs::symlink_metadata(file).is_ok_and(|m| m.ino() == *inode) {
                    let _ = std::fs::remove_file(file);
                }
            }
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.remove_files();
    }
}

/// The owner that a socket's file is to have.
fn give(file: &Path, access: &SocketAccess) -> Result<(), String> {
    let user = access.user.as_deref().map(|name| number_of("/etc/passwd", name)).transpose()?;
    let group = access.group.as_deref().map(|name| number_of("/etc/group", name)).transpose()?;
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    std::os::unix::fs::chown(file, user, group).map_err(|e| format!("the owner cannot be set: {e}"))
}

fn door_of(fd: OwnedFd) -> std::io::Result<Door> {
    let name: SocketAddrAny = rustix::net::getsockname(fd.as_fd())?;
    match name.address_family() {
        AddressFamily::UNIX => Ok(Door::Local(tokio::net::UnixListener::from_std(fd.into())?)),
        _ => Ok(Door::Tcp(tokio::net::TcpListener::from_std(fd.into())?)),
    }
}

/// The number of a user or a group, by its name.
fn number_of(file: &str, name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let found =
        text.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name));
    let number = found.and_then(|fields| fields.get(2)?.parse().ok());
    number.ok_or_else(|| format!("'{name}' is not in {file}"))
}
