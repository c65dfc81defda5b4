//! A TLS connection over a socket of the loop.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;

use rustix::io::Errno;
use rustls::server::{AcceptedAlert, Acceptor};
use rustls::{Connection, HandshakeKind};

use super::{Chain, Facts, TlsServer};
use crate::challenge::{self, Challenges};
use crate::reactor::{Io, Owner, Reactor, Sock, Stop};

/// Plain bytes that one record carries at most.
pub const RECORD: usize = 16 * 1024;

pub struct TlsLink {
    sock: Sock,
    state: RefCell<State>,
    /// A reset is to be sent: no orderly end.
    cut: Cell<bool>,
    facts: Rc<Facts>,
}

struct State {
    connection: Connection,
    /// Plain bytes that wait to be read, as rustls counts them.
    ready: usize,
    /// Bytes of the caller that are encrypted already and not all sent.
    taken: usize,
    /// The peer's orderly end has come.
    closed: bool,
}

/// Why a handshake came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    TimedOut,
    Killed,
    /// The peer went away, or was never there.
    Gone(Option<Errno>),
    /// It spoke no TLS that is acceptable here, or showed no acceptable certificate.
    Refused(String),
}

/// The socket as rustls reads and writes it.
struct Raw<'a>(&'a Sock);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        result(self.0.try_read(buffer))
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        result(self.0.try_write(bytes))
    }

    /// One record is nearly always one slice: several are sent one after the other.
    fn write_vectored(&mut self, slices: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        let mut total = 0;
        for slice in slices.iter().filter(|s| !s.is_empty()) {
            match self.0.try_write(slice) {
                Io::Done(count) => {
                    total += count;
                    if count < slice.len() {
                        break;
                    }
                }
                _ if total > 0 => break,
                other => return result(other),
            }
        }
        Ok(total)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn result(io: Io) -> std::io::Result<usize> {
    match io {
        Io::Done(count) => Ok(count),
        Io::Eof => Ok(0),
        Io::Blocked => Err(ErrorKind::WouldBlock.into()),
        Io::Failed(errno) => Err(errno.into()),
    }
}

fn gone(error: &std::io::Error) -> HandshakeError {
    HandshakeError::Gone(error.raw_os_error().map(Errno::from_raw_os_error))
}

fn failed(error: &std::io::Error) -> Io {
    match error.kind() {
        ErrorKind::WouldBlock => Io::Blocked,
        _ => Io::Failed(error.raw_os_error().map_or(Errno::PROTO, Errno::from_raw_os_error)),
    }
}

impl TlsLink {
    /// Greets a client of a service. `early` are bytes that were read from the socket before.
    pub async fn accept(
        reactor: &Reactor,
        sock: Sock,
        tls: &TlsServer,
        challenges: &Challenges,
        mut early: &[u8],
        deadline_ms: u64,
    ) -> Result<TlsLink, (Sock, HandshakeError)> {
        let (mut connection, own) =
            match begin(reactor, &sock, (tls, challenges), &mut early, deadline_ms).await {
                Ok(begun) => begun,
                Err(error) => return Err((sock, error)),
            };
        connection.set_buffer_limit(Some(4 * RECORD));
        if let Err(error) = agree(reactor, &sock, &mut connection, early, deadline_ms).await {
            return Err((sock, error));
        }
        if connection.handshake_kind() == Some(HandshakeKind::Resumed)
            && let Err(error) = tls.check_resumed(connection.peer_certificates())
        {
            return Err((sock, HandshakeError::Refused(error.to_string())));
        }
        let mut facts = Facts::of(&connection, own);
        tls.admit(&mut facts);
        Ok(TlsLink::over(sock, connection, facts))
    }

    /// The handshake was all that the authority wanted.
    pub fn is_challenge(&self) -> bool {
        self.state.borrow().connection.alpn_protocol() == Some(challenge::ALPN)
    }

    fn over(sock: Sock, mut connection: Connection, facts: Facts) -> TlsLink {
        let facts = Rc::new(facts);
        let now = connection.process_new_packets();
        let (ready, closed) = now.map_or((0, true), |s| (s.plaintext_bytes_to_read(), s.peer_has_closed()));
        let state = State { connection, ready, taken: 0, closed };
        TlsLink { sock, state: RefCell::new(state), cut: Cell::new(false), facts }
    }

    /// Runs the handshake with a server.
    pub async fn handshake(
        reactor: &Reactor,
        sock: Sock,
        mut connection: Connection,
        deadline_ms: u64,
    ) -> Result<TlsLink, (Sock, HandshakeError)> {
        connection.set_buffer_limit(Some(4 * RECORD));
        if let Err(error) = agree(reactor, &sock, &mut connection, &[], deadline_ms).await {
            return Err((sock, error));
        }
        let facts = Facts::of(&connection, Chain::default());
        Ok(TlsLink::over(sock, connection, facts))
    }

    /// The connection is for requests of this name alone.
    pub fn for_name(&mut self, name: Option<Box<str>>) {
        if let Some(facts) = Rc::get_mut(&mut self.facts) {
            facts.sni = name;
        }
    }

    /// What was agreed on, and who the peer is.
    pub fn facts(&self) -> &Rc<Facts> {
        &self.facts
    }

    pub fn try_read(&self, buffer: &mut [u8]) -> Io {
        let state = &mut *self.state.borrow_mut();
        loop {
            if state.ready > 0 {
                if let Ok(count) = state.connection.reader().read(buffer) {
                    state.ready = state.ready.saturating_sub(count);
                    if count > 0 {
                        return Io::Done(count);
                    }
                }
                state.ready = 0;
            }
            if state.closed {
                return Io::Eof;
            }
            match state.connection.read_tls(&mut Raw(&self.sock)) {
                Ok(0) => return Io::Eof,
                Ok(_) => {}
                Err(error) => return failed(&error),
            }
            match state.connection.process_new_packets() {
                Ok(now) => {
                    state.ready = now.plaintext_bytes_to_read();
                    state.closed = now.peer_has_closed();
                }
                Err(_) => {
                    let _ = state.connection.write_tls(&mut Raw(&self.sock));
                    return Io::Failed(Errno::PROTO);
                }
            }
            // Answers to key updates and the like.
            if state.taken == 0 && state.connection.wants_write() {
                let _ = state.connection.write_tls(&mut Raw(&self.sock));
            }
        }
    }

    pub fn try_write(&self, bytes: &[u8]) -> Io {
        let state = &mut *self.state.borrow_mut();
        if state.taken == 0 {
            if bytes.is_empty() {
                return Io::Done(0);
            }
            let part = &bytes[..bytes.len().min(RECORD)];
            match state.connection.writer().write(part) {
                Ok(count) => state.taken = count,
                Err(error) => return failed(&error),
            }
        }
        while state.connection.wants_write() {
            match state.connection.write_tls(&mut Raw(&self.sock)) {
                Ok(0) => return Io::Failed(Errno::PIPE),
                Ok(_) => {}
                Err(error) => return failed(&error),
            }
        }
        Io::Done(std::mem::take(&mut state.taken))
    }

    pub fn want_read(&self) {
        self.sock.want_read();
        if self.state.borrow().connection.wants_write() {
            self.sock.want_write();
        }
    }

    pub fn want_write(&self) {
        self.sock.want_write();
    }

    pub fn want_hangup(&self) {
        self.sock.want_hangup();
    }

    pub fn readable(&self) -> bool {
        let state = self.state.borrow();
        state.ready > 0 || state.closed || self.sock.readable()
    }

    /// Session tickets may lie unread in the socket: only looking at them shows the difference.
    pub fn is_quiet(&self) -> bool {
        if self.sock.is_quiet() {
            let state = self.state.borrow();
            return state.ready == 0 && !state.closed;
        }
        self.sock.arm();
        let mut nothing = [0; 1];
        matches!(self.try_read(&mut nothing), Io::Blocked)
    }

    pub fn is_broken(&self) -> bool {
        self.sock.is_broken()
    }

    pub fn is_hung_up(&self) -> bool {
        self.sock.is_hung_up() || self.state.borrow().closed
    }

    pub fn ended_cleanly(&self) -> bool {
        self.state.borrow().closed
    }

    pub fn shutdown_write(&self) {
        self.say_goodbye();
        self.sock.shutdown_write();
    }

    fn say_goodbye(&self) {
        let state = &mut *self.state.borrow_mut();
        state.connection.send_close_notify();
        while state.connection.wants_write() {
            if !matches!(state.connection.write_tls(&mut Raw(&self.sock)), Ok(1..)) {
                return;
            }
        }
    }

    pub fn reset_on_close(&self) {
        self.cut.set(true);
        self.sock.reset_on_close();
    }

    pub fn vanish_on_close(&self) {
        self.cut.set(true);
        self.sock.vanish_on_close();
    }

    pub fn set_owner(&self, owner: Owner) {
        self.sock.set_owner(owner);
    }

    pub fn set_deadline(&self, deadline_ms: u64) {
        self.sock.set_deadline(deadline_ms);
    }
}

/// Reads a client's first message, and answers it as the service does for such clients.
async fn begin(
    reactor: &Reactor,
    sock: &Sock,
    (tls, challenges): (&TlsServer, &Challenges),
    early: &mut &[u8],
    deadline_ms: u64,
) -> Result<(Connection, Chain), HandshakeError> {
    let refused = |(error, mut alert): (rustls::Error, AcceptedAlert)| {
        // The alert says why, if it can still be sent.
        let _ = alert.write_all(&mut Raw(sock));
        HandshakeError::Refused(error.to_string())
    };
    let mut acceptor = Acceptor::default();
    loop {
        if !early.is_empty() {
            acceptor.read_tls(early).map_err(|e| gone(&e))?;
        } else {
            match acceptor.read_tls(&mut Raw(sock)) {
                Ok(0) => return Err(HandshakeError::Gone(None)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sock.want_read();
                    wait(reactor, deadline_ms).await?;
                    continue;
                }
                Err(error) => return Err(gone(&error)),
            }
        }
        if let Some(accepted) = acceptor.accept().map_err(refused)? {
            let challenge = challenges.config_for(&accepted.client_hello());
            let config = challenge.unwrap_or_else(|| tls.config_for(&accepted.client_hello()));
            let own = tls.shown_to(&accepted.client_hello());
            let connection = accepted.into_connection(config).map_err(refused)?;
            return Ok((Connection::Server(connection), own));
        }
    }
}

async fn wait(reactor: &Reactor, deadline_ms: u64) -> Result<(), HandshakeError> {
    reactor.wait(deadline_ms).await.map_err(|stop| match stop {
        Stop::TimedOut => HandshakeError::TimedOut,
        Stop::Killed => HandshakeError::Killed,
    })
}

async fn agree(
    reactor: &Reactor,
    sock: &Sock,
    connection: &mut Connection,
    mut early: &[u8],
    deadline_ms: u64,
) -> Result<(), HandshakeError> {
    while !early.is_empty() {
        let taken = connection.read_tls(&mut early);
        taken.map_err(|e| gone(&e))?;
        if let Err(error) = connection.process_new_packets() {
            let _ = connection.write_tls(&mut Raw(sock));
            return Err(HandshakeError::Refused(error.to_string()));
        }
    }
    loop {
        let mut moved = false;
        while connection.wants_write() {
            match connection.write_tls(&mut Raw(sock)) {
                Ok(0) => return Err(HandshakeError::Gone(None)),
                Ok(_) => moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sock.want_write();
                    break;
                }
                Err(error) => return Err(gone(&error)),
            }
        }
        if !connection.is_handshaking() && !connection.wants_write() {
            return Ok(());
        }
        if connection.wants_read() {
            match connection.read_tls(&mut Raw(sock)) {
                Ok(0) => return Err(HandshakeError::Gone(None)),
                Ok(_) => {
                    moved = true;
                    if let Err(error) = connection.process_new_packets() {
                        // The alert says why, if it can still be sent.
                        let _ = connection.write_tls(&mut Raw(sock));
                        return Err(HandshakeError::Refused(error.to_string()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => sock.want_read(),
                Err(error) => return Err(gone(&error)),
            }
        }
        if !moved {
            wait(reactor, deadline_ms).await?;
        }
    }
}

impl Drop for TlsLink {
    fn drop(&mut self) {
        // Without it the peer could not tell the end from a cut.
        if !self.cut.get() && !self.sock.is_broken() {
            self.say_goodbye();
        }
    }
}
