//! A serial line as a way for short messages, framed as in RFC 1055 (SLIP).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, speed, tcgetattr, tcsetattr};

const END: u8 = 0xc0;
const ESCAPE: u8 = 0xdb;
const ESCAPED_END: u8 = 0xdc;
const ESCAPED_ESCAPE: u8 = 0xdd;
/// Longer ones are noise.
const LONGEST: usize = 1024;

pub struct SerialLine {
    file: File,
    partial: Vec<u8>,
    escaped: bool,
    /// What a full line has not taken yet.
    unsent: Vec<u8>,
}

impl SerialLine {
    pub fn open(path: &Path) -> io::Result<SerialLine> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path)?;
        let mut terminal = tcgetattr(&file)?;
        terminal.make_raw();
        terminal.set_speed(speed::B115200)?;
        tcsetattr(&file, OptionalActions::Now, &terminal)?;
        Ok(SerialLine { file, partial: Vec::new(), escaped: false, unsent: Vec::new() })
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
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 4096];
        let Ok(length) = self.file.read(&mut buffer) else { return Vec::new() };
        let mut whole = Vec::new();
        for byte in &buffer[..length] {
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

impl AsFd for SerialLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
