//! A connection as the proxy sees it: bytes in and out, plain or encrypted, over a socket or
//! inside another connection. Everything above works on [`Link`] and knows no difference.

use rustix::io::Errno;

use crate::h2::StreamLink;
use crate::log::Cause;
use crate::reactor::{Io, Owner, Pipe, Sock};
use crate::tls::TlsLink;

/// Reads of less than half of this are not worth their calls.
const LEAST_READ: usize = 1024;

pub enum Link {
    Plain(Sock),
    Tls(Box<TlsLink>),
    Stream(StreamLink),
}

/// Calls the same method of whichever link it is.
macro_rules! each {
    ($self:expr, $link:ident => $call:expr) => {
        match $self {
            Link::Plain($link) => $call,
            Link::Tls($link) => $call,
            Link::Stream($link) => $call,
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

    /// The same with the last bytes before [`Self::shutdown_write`] or the drop, which must follow at once.
    pub fn try_write_last(&self, bytes: &[u8]) -> Io {
        match self {
            Link::Plain(sock) => sock.try_write_last(bytes),
            Link::Tls(_) | Link::Stream(_) => self.try_write(bytes),
        }
    }

    /// The same with the last bytes of all: the end of a plain connection goes out with them, in one packet.
    /// It is said here, for a socket that is closed with bytes unread would take them away again.
    pub fn try_write_end(&self, bytes: &[u8]) -> Io {
        let Link::Plain(sock) = self else { return self.try_write(bytes) };
        let written = sock.try_write_last(bytes);
        if written == Io::Done(bytes.len()) {
            sock.shutdown_write();
        }
        written
    }

    /// How many bytes to read for this side. A stream whose peer does not read has room for little:
    /// what it could not take would stay in buffers that others need. `None` means to wait until it
    /// has taken some.
    pub fn takes(&self) -> Option<usize> {
        match self {
            Link::Plain(_) | Link::Tls(_) => Some(self.at_once()),
            Link::Stream(link) => match link.room() {
                room if room >= crate::buffer::CAPACITY => Some(usize::MAX),
                // The head may grow on its way.
                room if room >= LEAST_READ => Some(room / 2),
                _ => None,
            },
        }
    }

    /// How many bytes go with one call at most: what is read beyond a record of TLS would make a second
    /// one, for a few bytes.
    pub fn at_once(&self) -> usize {
        match self {
            Link::Plain(_) | Link::Stream(_) => usize::MAX,
            Link::Tls(_) => crate::tls::RECORD,
        }
    }

    /// The socket that bytes can be spliced from and to without looking at them.
    pub fn raw(&self) -> Option<&Sock> {
        match self {
            Link::Plain(sock) => Some(sock),
            Link::Tls(_) | Link::Stream(_) => None,
        }
    }

    pub fn splice_into(&self, pipe: &mut Pipe, at_most: usize) -> Io {
        self.raw().map_or(Io::Failed(Errno::INVAL), |sock| sock.splice_into(pipe, at_most))
    }

    pub fn splice_from(&self, pipe: &mut Pipe) -> Io {
        self.raw().map_or(Io::Failed(Errno::INVAL), |sock| sock.splice_from(pipe))
    }

    pub fn want_read(&self) {
        match self {
            Link::Plain(link) => link.want_read(),
            Link::Tls(link) => link.want_read(),
            Link::Stream(link) => link.want(),
        }
    }

    pub fn want_write(&self) {
        match self {
            Link::Plain(link) => link.want_write(),
            Link::Tls(link) => link.want_write(),
            Link::Stream(link) => link.want(),
        }
    }

    pub fn want_hangup(&self) {
        match self {
            Link::Plain(link) => link.want_hangup(),
            Link::Tls(link) => link.want_hangup(),
            Link::Stream(link) => link.want(),
        }
    }

    pub fn readable(&self) -> bool {
        each!(self, link => link.readable())
    }

    /// Whether an idle connection is still open and silent, asked of the kernel.
    pub fn is_quiet(&self) -> bool {
        match self {
            Link::Plain(link) => link.is_quiet(),
            Link::Tls(link) => link.is_quiet(),
            Link::Stream(link) => !link.readable(),
        }
    }

    /// Both directions are gone.
    pub fn is_broken(&self) -> bool {
        each!(self, link => link.is_broken())
    }

    pub fn is_hung_up(&self) -> bool {
        match self {
            Link::Plain(link) => link.is_hung_up(),
            Link::Tls(link) => link.is_hung_up(),
            Link::Stream(link) => link.is_broken(),
        }
    }

    /// The peer said that it had sent all, where the protocol can tell that from a cut.
    pub fn ended_cleanly(&self) -> bool {
        match self {
            Link::Plain(_) | Link::Stream(_) => true,
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

    /// Makes closing tell the peer nothing.
    pub fn vanish_on_close(&self) {
        each!(self, link => link.vanish_on_close())
    }

    /// Streams always belong to a task.
    pub fn set_owner(&self, owner: Owner) {
        match self {
            Link::Plain(link) => link.set_owner(owner),
            Link::Tls(link) => link.set_owner(owner),
            Link::Stream(_) => {}
        }
    }

    pub fn set_deadline(&self, deadline_ms: u64) {
        match self {
            Link::Plain(link) => link.set_deadline(deadline_ms),
            Link::Tls(link) => link.set_deadline(deadline_ms),
            Link::Stream(_) => {}
        }
    }

    /// The peer says that it has not begun with the request.
    pub fn is_untouched(&self) -> bool {
        matches!(self, Link::Stream(link) if link.is_refused())
    }

    /// Of a connection to a real server: the name that it is for alone, where such names are taken from
    /// requests.
    pub fn name(&self) -> Option<&str> {
        self.tls().and_then(|tls| tls.facts().sni.as_deref())
    }

    /// The peer has sent what cannot be read as HTTP/2.
    pub fn is_at_fault(&self) -> bool {
        matches!(self, Link::Stream(link) if link.is_at_fault())
    }

    /// To blame where a client's link is broken.
    pub fn why_gone(&self) -> Cause {
        if self.is_at_fault() { Cause::Proxy } else { Cause::ClientAbort }
    }

    pub fn tls(&self) -> Option<&TlsLink> {
        match self {
            Link::Tls(link) => Some(link),
            Link::Plain(_) | Link::Stream(_) => None,
        }
    }
}
