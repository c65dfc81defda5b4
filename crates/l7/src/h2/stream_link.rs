//! A stream of HTTP/2 as a link: to its session it is a connection of its own.

use evenkeel_http::h2::{StreamHandle, StreamIo};
use rustix::io::Errno;

use crate::reactor::{Io, Loop};

/// A session's side of a stream. Dropping it ends the stream.
pub struct StreamLink {
    handle: StreamHandle,
    reactor: Loop,
    /// The task that drives the stream's connection.
    driver: u32,
}

impl StreamLink {
    pub fn new(handle: StreamHandle, reactor: Loop, driver: u32) -> StreamLink {
        StreamLink { handle, reactor, driver }
    }

    /// The task of the connection that this is a stream of.
    pub fn driver(&self) -> u32 {
        self.driver
    }

    fn notify(&self) {
        if self.handle.take_notice() {
            self.reactor.wake(self.driver);
        }
    }

    pub fn try_read(&self, buffer: &mut [u8]) -> Io {
        match self.handle.read(buffer) {
            StreamIo::Done(count) => {
                self.notify();
                Io::Done(count)
            }
            StreamIo::End => Io::Eof,
            StreamIo::Blocked => Io::Blocked,
            StreamIo::Reset => Io::Failed(Errno::CONNRESET),
        }
    }

    pub fn try_write(&self, bytes: &[u8]) -> Io {
        match self.handle.write(bytes) {
            StreamIo::Done(count) => {
                self.notify();
                Io::Done(count)
            }
            StreamIo::Blocked => Io::Blocked,
            StreamIo::End | StreamIo::Reset => Io::Failed(Errno::PIPE),
        }
    }

    /// How many bytes can be written now.
    pub fn room(&self) -> usize {
        self.handle.room()
    }

    /// The task is woken when something happens. What has ended already wakes it at once: the reset of a stream
    /// may have come with its request, before anybody waited.
    pub fn want(&self) {
        let task = self.reactor.current_task();
        self.handle.wait(task);
        if self.handle.is_broken() {
            self.reactor.wake(task);
        }
    }

    pub fn readable(&self) -> bool {
        self.handle.readable()
    }

    pub fn is_broken(&self) -> bool {
        self.handle.is_broken()
    }

    pub fn is_refused(&self) -> bool {
        self.handle.is_refused()
    }

    pub fn is_at_fault(&self) -> bool {
        self.handle.is_at_fault()
    }

    pub fn shutdown_write(&self) {
        self.handle.end_writes();
        self.notify();
    }

    pub fn reset_on_close(&self) {
        self.handle.reset_on_close();
    }

    /// The other streams of the connection go on: this one is reset.
    pub fn vanish_on_close(&self) {
        self.handle.reset_on_close();
    }
}

impl Drop for StreamLink {
    fn drop(&mut self) {
        self.handle.close();
        self.notify();
    }
}
