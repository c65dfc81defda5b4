//! The service manager: tells systemd how the service is doing (sd_notify(3)) and leaves listening
//! sockets in its store, from where the next start gets them (sd_listen_fds(3)). Says nothing
//! where nobody listens.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

pub fn has_service_manager() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Sends lines such as `READY=1` or `MAINPID=42`.
pub fn notify_service_manager(state: &str) {
    send(state, None);
}

/// Leaves a socket in the store, where it stays open while no process of the service runs.
pub fn store_socket(name: &str, socket: BorrowedFd<'_>) {
    send(&format!("FDSTORE=1\nFDNAME={name}"), Some(socket));
}

pub fn forget_socket(name: &str) {
    send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
}

/// The listening TCP sockets that the service manager kept for this start. Others are closed.
pub fn stored_sockets() -> Vec<(SocketAddr, OwnedFd)> {
    let mut handed = listenfd::ListenFd::from_env();
    let taken = (0..handed.len()).filter_map(|index| handed.take_tcp_listener(index).ok().flatten());
    let listening = taken.filter_map(|listener: TcpListener| {
        listener.set_nonblocking(true).ok()?;
        Some((listener.local_addr().ok()?, listener.into()))
    });
    listening.collect()
}

/// The Unix socket that the service manager listens on for this program.
pub fn given_unix_listener() -> Option<UnixListener> {
    listenfd::ListenFd::from_env().take_unix_listener(0).ok().flatten()
}

fn send(state: &str, socket: Option<BorrowedFd<'_>>) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.to_string_lossy();
    let address = match path.strip_prefix('@') {
        Some(name) => UnixAddress::from_abstract_name(name),
        None => UnixAddress::from_pathname(&*path),
    };
    let (Ok(datagrams), Ok(address)) = (UnixDatagram::unbound(), address) else { return };
    if datagrams.connect_addr(&address).is_err() {
        return;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(socket) = &socket {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(socket)));
    }
    let _ = sendmsg(&datagrams, &[IoSlice::new(state.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL);
}
