//! Sockets and epoll as the origin and the load generator use them.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub fn new() -> anyhow::Result<Poll> {
        Ok(Poll { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(1024) })
    }

    /// Watches for readability, or for writability, level-triggered.
    pub fn add(&self, fd: impl AsFd, token: usize, write: bool) -> anyhow::Result<()> {
        let flags = if write { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token as u64), flags)?;
        Ok(())
    }

    pub fn only_read(&self, fd: impl AsFd, token: usize) -> anyhow::Result<()> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token as u64), epoll::EventFlags::IN)?;
        Ok(())
    }

    pub fn only_write(&self, fd: impl AsFd, token: usize) -> anyhow::Result<()> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token as u64), epoll::EventFlags::OUT)?;
        Ok(())
    }

    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<Vec<usize>> {
        let timeout =
            Timespec { tv_sec: limit.as_secs() as _, tv_nsec: i64::from(limit.subsec_nanos()) as _ };
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.iter().map(|e| e.data.u64() as usize).collect())
    }
}

pub fn connect(address: SocketAddr) -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    match rustix::net::connect(&fd, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

pub fn listen(address: SocketAddr) -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, 65_535)?;
    Ok(fd)
}

pub fn read(fd: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::net::recv(fd, buffer, RecvFlags::empty()).map(|(count, _)| count)
}

pub fn write(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(fd, bytes, SendFlags::NOSIGNAL)
}
