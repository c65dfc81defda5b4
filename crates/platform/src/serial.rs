//! A serial line as a way for short messages, framed as in RFC 1055 (SLIP).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, speed, tcgetattr, tcsetattr};

const END: u8 = 0xc0;
const ESCAPE: u8 = 0xdb;
const ESCAPED_END: u8 = 0xdc;
const ESCAPED_ESCAPE: u8 = 0xdd;
/// Longer ones are noise.
const LONGEST: usize = 1024;
/// Messages that wait for their reader; more are lost, as on a line that is cut.
const WAITING: usize = 64;

pub struct SerialLine {
    file: File,
    /// Read by a thread of its own: the kernel lets whoever asks a terminal for bytes wait for a worker
    /// of ordinary priority that brings them, however short the time that the asker has.
    messages: Receiver<Vec<u8>>,
    closed: Arc<AtomicBool>,
    /// What a full line has not taken yet.
    unsent: Vec<u8>,
}

impl SerialLine {
    /// Rings the bell (an eventfd) for every message that comes.
    pub fn open(path: &Path, bell: Arc<OwnedFd>) -> io::Result<SerialLine> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path)?;
        let mut terminal = tcgetattr(&file)?;
        terminal.make_raw();
        terminal.set_speed(speed::B115200)?;
        tcsetattr(&file, OptionalActions::Now, &terminal)?;
        let (outbox, messages) = sync_channel(WAITING);
        let closed = Arc::new(AtomicBool::new(false));
        let (line, end) = (file.try_clone()?, closed.clone());
        std::thread::Builder::new().name("serial".into()).spawn(move || {
            // Without the priority it is a slower path, not a wrong one.
            let _ = crate::run_first();
            read(line, &end, &outbox, &bell);
        })?;
        Ok(SerialLine { file, messages, closed, unsent: Vec::new() })
    }

    /// Sends a message, or nothing where the line has not taken the last one yet.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() {
            // One at the start too: noise before it ends there.
            self.unsent.push(END);
            for byte in message {
                match *byte {
                    END => self.unsent.extend([ESCAPE, ESCAPED_END]),
                    ESCAPE => self.unsent.extend([ESCAPE, ESCAPED_ESCAPE]),
                    plain => self.unsent.push(plain),
                }
            }
            self.unsent.push(END);
        }
        match self.file.write(&self.unsent) {
            Ok(taken) => {
                self.unsent.drain(..taken);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The messages that have come in whole.
    pub fn receive(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.messages.try_iter()
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        self.closed.store(true, Relaxed);
    }
}

fn read(mut line: File, closed: &AtomicBool, outbox: &SyncSender<Vec<u8>>, bell: &OwnedFd) {
    const A_WHILE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
    let mut frames = Frames::default();
    let mut buffer = [0; 4096];
    while !closed.load(Relaxed) {
        let _ = poll(&mut [PollFd::new(&line, PollFlags::IN)], Some(&A_WHILE));
        match line.read(&mut buffer) {
            Ok(length) if length > 0 => {
                for message in frames.take(&buffer[..length]) {
                    match outbox.try_send(message) {
                        Ok(()) | Err(TrySendError::Full(_)) => {}
                        Err(TrySendError::Disconnected(_)) => return,
                    }
                }
                let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A line whose other end is gone is ready all the time.
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Finds messages in what comes.
#[derive(Default)]
struct Frames {
    partial: Vec<u8>,
    escaped: bool,
}

impl Frames {
    fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for byte in bytes {
            match *byte {
                END => {
                    self.escaped = false;
                    if !self.partial.is_empty() {
                        whole.push(std::mem::take(&mut self.partial));
                    }
                }
                ESCAPE if !self.escaped => self.escaped = true,
                byte => {
                    let meant = match (std::mem::take(&mut self.escaped), byte) {
                        (true, ESCAPED_END) => END,
                        (true, ESCAPED_ESCAPE) => ESCAPE,
                        _ => byte,
                    };
                    if self.partial.len() < LONGEST {
                        self.partial.push(meant);
                    }
                }
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_between_noise() {
        let mut frames = Frames::default();
        assert!(frames.take(b"noise").is_empty());
        let found = frames.take(&[END, b'a', ESCAPE, ESCAPED_END, ESCAPE, ESCAPED_ESCAPE, b'b', END, b'c']);
        assert_eq!(found, [b"noise".to_vec(), vec![b'a', END, ESCAPE, b'b']]);
        assert_eq!(frames.take(&[END, END, END]), [b"c".to_vec()]);
        let long = vec![b'x'; LONGEST * 2];
        assert!(frames.take(&long).is_empty());
        assert_eq!(frames.take(&[END])[0].len(), LONGEST);
    }
}
