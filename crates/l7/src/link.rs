//! A connection as the proxy sees it: bytes in and out, plain or encrypted, over a socket or
//! inside another connection. Everything above works on [`Link`] and knows no difference.

use rustix::io::Errno;

use crate::reactor::{Io, Owner, Pipe, Sock};
use crate::tls::TlsLink;

pub enum Link {
    Plain(Sock),
    Tls(Box<TlsLink>),
}

/// Calls the same method of whichever link it is.
macro_rules! each {
    ($self:expr, $link:ident => $call:expr) => {
        match $self {
            Link::Plain($link) => $call,
            Link::Tls($link) => $call,
        }
    };
}

impl Link {
    pub fn try_read(&self, buffer: &mut [u8]) -> Io {
        each!(self, link => link.try_read(buffer))
    }

    /// Sends bytes. After [`Io::Blocked`] the next attempt must be with the same bytes: some of
    /// them may be on their way already.
    pub fn try_write(&self, bytes: &[u8]) -> Io {
        each!(self, link => link.try_write(bytes))
    }

    /// The socket that bytes can be spliced from and to without looking at them.
    pub fn raw(&self) -> Option<&Sock> {
        match self {
            Link::Plain(sock) => Some(sock),
            Link::Tls(_) => None,
        }
    }

    pub fn splice_into(&self, pipe: &mut Pipe, at_most: usize) -> Io {
        self.raw().map_or(Io::Failed(Errno::INVAL), |sock| sock.splice_into(pipe, at_most))
    }

    pub fn splice_from(&self, pipe: &mut Pipe) -> Io {
        self.raw().map_or(Io::Failed(Errno::INVAL), |sock| sock.splice_from(pipe))
    }

    pub fn want_read(&self) {
        each!(self, link => link.want_read())
    }

    pub fn want_write(&self) {
        each!(self, link => link.want_write())
    }

    pub fn want_hangup(&self) {
        each!(self, link => link.want_hangup())
    }

    pub fn readable(&self) -> bool {
        each!(self, link => link.readable())
    }

    /// Whether an idle connection is still open and silent, asked of the kernel.
    pub fn is_quiet(&self) -> bool {
        each!(self, link => link.is_quiet())
    }

    /// Both directions are gone.
    pub fn is_broken(&self) -> bool {
        each!(self, link => link.is_broken())
    }

    pub fn is_hung_up(&self) -> bool {
        each!(self, link => link.is_hung_up())
    }

    /// The peer said that it had sent all, where the protocol can tell that from a cut.
    pub fn ended_cleanly(&self) -> bool {
        match self {
            Link::Plain(_) => true,
            Link::Tls(link) => link.ended_cleanly(),
        }
    }

    pub fn shutdown_write(&self) {
        each!(self, link => link.shutdown_write())
    }

    /// Makes closing tell the peer that something was cut.
    pub fn reset_on_close(&self) {
        each!(self, link => link.reset_on_close())
    }

    pub fn set_owner(&self, owner: Owner) {
        each!(self, link => link.set_owner(owner))
    }

    pub fn set_deadline(&self, deadline_ms: u64) {
        each!(self, link => link.set_deadline(deadline_ms))
    }

    pub fn tls(&self) -> Option<&TlsLink> {
        match self {
            Link::Tls(link) => Some(link),
            Link::Plain(_) => None,
        }
    }
}
