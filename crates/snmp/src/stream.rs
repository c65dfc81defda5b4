//! A connection to the agent, over its socket or TCP.

use std::io::{Read, Result, Write};
use std::net::Shutdown;
use std::time::Duration;

use evenkeel_model::AgentxAddress;
use socket2::{Domain, SockAddr, Socket, Type};

/// How long the agent may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Stream(Socket);

impl Stream {
    pub fn connect(to: &AgentxAddress) -> Result<Stream> {
        let (domain, address) = match to {
            AgentxAddress::Socket(path) => (Domain::UNIX, SockAddr::unix(path)?),
            AgentxAddress::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.connect_timeout(&address, CONNECT)?;
        Ok(Stream(socket))
    }

    pub fn set_timeouts(&self, limit: Duration) -> Result<()> {
        self.0.set_read_timeout(Some(limit))?;
        self.0.set_write_timeout(Some(limit))
    }

    pub fn try_clone(&self) -> Result<Stream> {
        self.0.try_clone().map(Stream)
    }

    /// Whoever reads from it sees its end.
    pub fn shut_down(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}
