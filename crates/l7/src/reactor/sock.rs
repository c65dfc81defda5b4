//! A non-blocking socket of a loop, and the pipes that splice needs.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::TcpKeepAlive;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::{Loop, NEVER, NONE, Owner, Target};

pub struct Sock {
    fd: OwnedFd,
    slot: u32,
    reactor: Loop,
}

/// Where a connection seems to come from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub address: Option<SocketAddr>,
    /// The address is not of this machine (IP_TRANSPARENT).
    pub foreign: bool,
}

/// What one attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Done(usize),
    /// The peer will send no more.
    Eof,
    /// Not now: say what is wanted, then wait.
    Blocked,
    Failed(Errno),
}

impl Sock {
    /// Takes a non-blocking socket. The kernel is not asked to watch it before someone waits.
    pub fn new(reactor: Loop, fd: OwnedFd, owner: Owner) -> Sock {
        let slot = reactor.add_slot(owner);
        let sock = Sock { fd, slot, reactor };
        if owner != Owner::Task {
            sock.watch();
        }
        sock
    }

    /// A connection on its way: there is nothing to read before the kernel, asked to watch it, has told of
    /// something.
    fn opening(reactor: Loop, fd: OwnedFd) -> Sock {
        let sock = Sock::new(reactor, fd, Owner::Task);
        sock.clear_readable();
        sock
    }

    /// Has the kernel ask a silent peer whether it is there.
    pub fn keep_alive(&self, how: &TcpKeepAlive) {
        keep_alive(&self.fd, how);
    }

    /// How long the peer may leave what it was sent without an acknowledgement.
    pub fn user_timeout(&self, time: Duration) {
        user_timeout(&self.fd, time);
    }

    /// Starts a TCP connection; it is up when the first write succeeds or [`Self::connected`].
    pub fn connect(reactor: Loop, address: SocketAddr) -> io::Result<Sock> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
        if let Some(local) = evenkeel_files::connect_local(address) {
            return Ok(Sock::opening(reactor, local?));
        }
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        match connect(&fd, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Sock::opening(reactor, fd)),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts a TCP connection from an address, or through a network interface.
    pub fn connect_from(
        reactor: Loop,
        address: SocketAddr,
        origin: Origin,
        interface: Option<&str>,
    ) -> io::Result<Sock> {
        use socket2::{Domain, Protocol, SockRef, Socket, Type};
        if let Some(local) = evenkeel_files::connect_local(address) {
            return Ok(Sock::opening(reactor, local?));
        }
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let options = SockRef::from(&socket);
        if let Some(interface) = interface {
            options.bind_device(Some(interface.as_bytes()))?;
        }
        if let Some(from) = origin.address {
            if origin.foreign {
                options.set_ip_transparent_v4(true)?;
            }
            socket.set_reuse_address(true)?;
            let bound = socket.bind(&from.into());
            match bound {
                // The client's port is in use here: any other will do.
                Err(error) if origin.foreign && error.kind() == io::ErrorKind::AddrInUse => {
                    socket.bind(&SocketAddr::new(from.ip(), 0).into())?;
                }
                other => other?,
            }
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Sock::opening(reactor, socket.into()))
    }

    pub fn try_read(&self, buffer: &mut [u8]) -> Io {
        if !self.readable() {
            return Io::Blocked;
        }
        let room = buffer.len();
        let done = attempt(|| rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty()).map(|(n, _)| n));
        match done {
            Io::Done(0) => return Io::Eof,
            // A short read has drained the socket: the next byte is a new edge.
            Io::Done(count) if count < room => self.clear_readable(),
            Io::Blocked => self.clear_readable(),
            _ => {}
        }
        done
    }

    pub fn try_write(&self, bytes: &[u8]) -> Io {
        self.send(bytes, SendFlags::NOSIGNAL)
    }

    /// The same with the last bytes of all: the kernel keeps them for the end that follows at once
    /// ([`Self::shutdown_write`], or that the socket is dropped), so that both go in one packet.
    pub fn try_write_last(&self, bytes: &[u8]) -> Io {
        self.send(bytes, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    /// Sends what [`Self::try_write_last`] has left with the kernel, where no end follows after all.
    pub fn push(&self) {
        let _ = rustix::net::sockopt::set_tcp_nodelay(&self.fd, true);
    }

    fn send(&self, bytes: &[u8], flags: SendFlags) -> Io {
        if !self.writable() {
            return Io::Blocked;
        }
        let done = attempt(|| rustix::net::send(&self.fd, bytes, flags));
        match done {
            Io::Done(count) if count < bytes.len() => self.clear_writable(),
            Io::Blocked => self.clear_writable(),
            _ => {}
        }
        done
    }

    /// Moves bytes from this socket into a pipe without copying them through this process.
    pub fn splice_into(&self, pipe: &mut Pipe, at_most: usize) -> Io {
        if !self.readable() {
            return Io::Blocked;
        }
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let done = attempt(|| rustix::pipe::splice(&self.fd, None, &pipe.write, None, at_most, flags));
        match done {
            Io::Done(0) => return Io::Eof,
            Io::Done(count) => pipe.held += count,
            Io::Blocked => self.clear_readable(),
            _ => {}
        }
        done
    }

    pub fn splice_from(&self, pipe: &mut Pipe) -> Io {
        if !self.writable() {
            return Io::Blocked;
        }
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let done = attempt(|| rustix::pipe::splice(&pipe.read, None, &self.fd, None, pipe.held, flags));
        match done {
            Io::Done(count) => pipe.held -= count.min(pipe.held),
            Io::Blocked => self.clear_writable(),
            _ => {}
        }
        done
    }

    /// A connection is being opened: `optimistic` tries the first write at once, otherwise the
    /// kernel says when it is up.
    pub fn expect_connect(&self, optimistic: bool) {
        if !optimistic {
            self.clear_writable();
        }
    }

    /// The error that a connection attempt ended with, if it did.
    pub fn error(&self) -> Result<(), Errno> {
        rustix::net::sockopt::socket_error(&self.fd).unwrap_or(Ok(()))
    }

    /// Whether an idle connection is still open and silent, asked of the kernel.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(&self.fd, &mut byte, flags), Err(Errno::AGAIN))
    }

    /// Tells the peer that no more bytes come.
    pub fn shutdown_write(&self) {
        let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Write);
    }

    /// Makes closing send a reset instead of an orderly end.
    pub fn reset_on_close(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.fd, Some(std::time::Duration::ZERO));
    }

    /// Makes closing send nothing at all: a socket in repair mode ends without a packet (CAP_NET_ADMIN). Where
    /// that is not allowed, a reset that the first router drops.
    pub fn vanish_on_close(&self) {
        self.reset_on_close();
        if nix::sys::socket::setsockopt(&self.fd, nix::sys::socket::sockopt::TcpRepair, &1).is_err() {
            let _ = rustix::net::sockopt::set_ip_ttl(&self.fd, 1);
            let _ = socket2::SockRef::from(&self.fd).set_unicast_hops_v6(1);
        }
    }

    pub fn want_read(&self) {
        let mut slots = self.reactor.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(self.slot as usize) {
            slot.reader = self.reactor.current.get();
            self.reactor.register(self.slot, slot, self.fd.as_fd());
        }
    }

    /// Wakes the task when the peer breaks off, if the kernel is watching this socket anyway.
    pub fn want_hangup(&self) {
        if let Some(slot) = self.reactor.slots.borrow_mut().get_mut(self.slot as usize)
            && slot.registered
        {
            slot.reader = self.reactor.current.get();
        }
    }

    pub fn want_write(&self) {
        let mut slots = self.reactor.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(self.slot as usize) {
            slot.writer = self.reactor.current.get();
            self.reactor.register(self.slot, slot, self.fd.as_fd());
        }
    }

    /// Who hears of this socket from now on; the kernel watches it.
    pub fn set_owner(&self, owner: Owner) {
        let mut slots = self.reactor.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(self.slot as usize) {
            (slot.owner, slot.reader, slot.writer) = (owner, NONE, NONE);
            slot.timer.deadline_ms = NEVER;
            self.reactor.register(self.slot, slot, self.fd.as_fd());
        }
    }

    fn watch(&self) {
        let mut slots = self.reactor.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(self.slot as usize) {
            self.reactor.register(self.slot, slot, self.fd.as_fd());
        }
    }

    /// When the owner, where it is not a task, hears of this socket at the latest.
    pub fn set_deadline(&self, deadline_ms: u64) {
        let mut slots = self.reactor.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(self.slot as usize) {
            slot.timer.deadline_ms = deadline_ms;
            let generation = slot.generation;
            self.reactor.arm(&mut slot.timer, Target::Slot(self.slot), generation);
        }
    }

    pub fn readable(&self) -> bool {
        let slots = self.reactor.slots.borrow();
        slots.get(self.slot as usize).is_none_or(|s| s.readable || s.hung_up)
    }

    pub fn writable(&self) -> bool {
        let slots = self.reactor.slots.borrow();
        slots.get(self.slot as usize).is_none_or(|s| s.writable || s.broken)
    }

    /// Both directions are gone: reset, or closed by the peer after we closed ours.
    pub fn is_broken(&self) -> bool {
        let slots = self.reactor.slots.borrow();
        slots.get(self.slot as usize).is_none_or(|s| s.broken)
    }

    /// The peer has closed its side, as far as the loop has heard.
    pub fn is_hung_up(&self) -> bool {
        let slots = self.reactor.slots.borrow();
        slots.get(self.slot as usize).is_none_or(|s| s.hung_up)
    }

    /// The next read asks the kernel, whatever the loop has been told.
    pub fn arm(&self) {
        if let Some(slot) = self.reactor.slots.borrow_mut().get_mut(self.slot as usize) {
            slot.readable = true;
        }
    }

    fn clear_readable(&self) {
        if let Some(slot) = self.reactor.slots.borrow_mut().get_mut(self.slot as usize) {
            slot.readable = false;
        }
    }

    fn clear_writable(&self) {
        if let Some(slot) = self.reactor.slots.borrow_mut().get_mut(self.slot as usize) {
            slot.writable = false;
        }
    }
}

/// One system call, begun again when a signal interrupts it.
fn attempt(mut call: impl FnMut() -> Result<usize, Errno>) -> Io {
    loop {
        return match call() {
            Ok(count) => Io::Done(count),
            Err(Errno::AGAIN) => Io::Blocked,
            Err(Errno::INTR) => continue,
            Err(error) => Io::Failed(error),
        };
    }
}

/// A listening socket that other loops and the control side hold too.
pub struct Watch {
    fd: Arc<OwnedFd>,
    slot: u32,
    reactor: Loop,
}

impl Watch {
    pub fn new(reactor: Loop, fd: Arc<OwnedFd>, owner: Owner) -> Watch {
        let watch = Watch { fd, slot: reactor.add_slot(owner), reactor };
        watch.resume();
        watch
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The kernel stops telling of this socket until [`Self::resume`].
    pub fn pause(&self) {
        let mut slots = self.reactor.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(self.slot as usize).filter(|s| s.registered) {
            slot.registered = false;
            let _ = rustix::event::epoll::delete(&self.reactor.epoll, &self.fd);
        }
    }

    pub fn resume(&self) {
        let mut slots = self.reactor.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(self.slot as usize) {
            self.reactor.register(self.slot, slot, self.fd.as_fd());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Closing alone would not do: the socket stays open elsewhere.
        self.pause();
        self.reactor.slots.borrow_mut().try_remove(self.slot as usize);
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        self.reactor.slots.borrow_mut().try_remove(self.slot as usize);
    }
}

/// A kernel pipe that holds bytes between two sockets.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// How much a pipe is asked to hold.
    pub const SIZE: usize = 256 * 1024;

    pub fn new() -> io::Result<Pipe> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused above the user's quota: the default of 64 KiB then has to do.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, Self::SIZE);
        Ok(Pipe { read, write, held: 0 })
    }

    pub fn held(&self) -> usize {
        self.held
    }
}

/// How long the peer may leave what it was sent without an acknowledgement; zero is as the kernel has it. Other
/// sockets than TCP's have no such time.
pub fn user_timeout(fd: &OwnedFd, time: Duration) {
    if time.is_zero() {
        return;
    }
    let time_ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(fd, time_ms);
}

/// Has the kernel ask a silent peer whether it is there. Sockets that are no TCP's have no such question.
pub fn keep_alive(fd: &OwnedFd, how: &TcpKeepAlive) {
    let settings = socket2::TcpKeepalive::new().with_time(how.idle).with_interval(how.interval);
    let _ = socket2::SockRef::from(fd).set_tcp_keepalive(&settings.with_retries(how.probes));
}
