//! A place where lines of the log go: a file, standard output, a syslog server.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use evenkeel_model::{AccessLog, LogHeader, LogTarget};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::LocalTime;
use super::custom::host_name;
use crate::reactor;

/// A target with what it holds open.
pub struct Target {
    output: Output,
    /// Lines that it was offered.
    offered: u64,
    /// The line that goes out, with its header.
    line: Vec<u8>,
}

enum Output {
    Off,
    Stdout,
    Stderr,
    File(LogFile),
    Syslog(SyslogSocket),
}

/// How long lines wait for the reader of a named pipe.
const PIPE_WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A file, or a named pipe that another program reads. Neither is waited for without a bound: a thread that
/// hangs in one place would write nothing anywhere, and never hear that the place is another now.
struct LogFile {
    path: PathBuf,
    file: Option<File>,
    /// The reader of a pipe did not take what came last, and is not waited for again.
    stuck: bool,
    /// Of the last line only a part was taken.
    torn: bool,
}

impl LogFile {
    fn open(&mut self) {
        // A pipe that nobody reads is not waited for.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        // Addresses and paths of clients are not for everybody on the machine.
        let how = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .custom_flags(flags.bits() as i32)
            .clone();
        self.file = how.open(&self.path).ok();
        (self.stuck, self.torn) = (false, false);
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if std::mem::take(&mut self.torn) {
            self.write_all(b"\n")?;
        }
        self.write_all(lines)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        let file = self.file.as_mut().ok_or_else(closed)?;
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.stuck = false;
                    self.torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.stuck => {
                    let mut ready = [PollFd::new(&*file, PollFlags::OUT)];
                    self.stuck = !matches!(poll(&mut ready, Some(&PIPE_WAIT)), Ok(1..));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where a syslog server listens, with the socket to it.
enum SyslogSocket {
    Udp(SocketAddr, Option<UdpSocket>),
    Local(PathBuf, Option<UnixDatagram>),
}

impl SyslogSocket {
    fn open(&mut self) {
        match self {
            SyslogSocket::Udp(address, socket) => {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                *socket = UdpSocket::bind(any).ok();
            }
            // Its server may begin anew at any time.
            SyslogSocket::Local(path, socket) => {
                *socket = UnixDatagram::unbound().ok().filter(|s| {
                    let _ = s.set_nonblocking(true);
                    s.connect(path).is_ok()
                });
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> std::io::Result<()> {
        match self {
            SyslogSocket::Udp(address, socket) => {
                socket.as_ref().ok_or_else(closed)?.send_to(datagram, *address)?
            }
            SyslogSocket::Local(_, socket) => socket.as_ref().ok_or_else(closed)?.send(datagram)?,
        };
        Ok(())
    }
}

fn closed() -> std::io::Error {
    std::io::Error::other("the log target could not be opened")
}

impl Target {
    pub fn new(settings: &LogTarget) -> Target {
        let output = match &settings.access {
            AccessLog::Off => Output::Off,
            AccessLog::Stdout => Output::Stdout,
            AccessLog::Stderr => Output::Stderr,
            AccessLog::File(path) => {
                Output::File(LogFile { path: path.clone(), file: None, stuck: false, torn: false })
            }
            AccessLog::Syslog(address) => Output::Syslog(SyslogSocket::Udp(*address, None)),
            AccessLog::SyslogSocket(path) => Output::Syslog(SyslogSocket::Local(path.clone(), None)),
        };
        let mut target = Target { output, offered: 0, line: Vec::new() };
        target.reopen();
        target
    }

    pub fn reopen(&mut self) {
        match &mut self.output {
            Output::File(file) => file.open(),
            Output::Syslog(socket) => socket.open(),
            Output::Off | Output::Stdout | Output::Stderr => {}
        }
    }

    /// Whole lines, each with its line ending.
    pub fn write(
        &mut self,
        lines: &[u8],
        severity: u8,
        settings: &LogTarget,
        time: &mut LocalTime,
    ) -> std::io::Result<()> {
        let as_they_are = settings.header == LogHeader::Raw
            && settings.length == 0
            && settings.sample.is_none()
            && !matches!(self.output, Output::Syslog(_));
        if as_they_are {
            return self.put(lines);
        }
        for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let number = self.offered;
            self.offered += 1;
            if settings.sample.as_ref().is_some_and(|sample| !sample.has(number)) {
                continue;
            }
            let mut whole = std::mem::take(&mut self.line);
            whole.clear();
            header(settings, severity, time, &mut whole);
            whole.extend_from_slice(line);
            if settings.length != 0 {
                whole.truncate(settings.length as usize);
            }
            if !matches!(self.output, Output::Syslog(_)) {
                whole.push(b'\n');
            }
            let done = self.put(&whole);
            self.line = whole;
            done?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.output {
            Output::Off => Ok(()),
            Output::Stdout => std::io::stdout().lock().write_all(bytes),
            Output::Stderr => std::io::stderr().lock().write_all(bytes),
            Output::File(file) => file.write(bytes),
            Output::Syslog(socket) => socket.send(bytes),
        }
    }
}

/// What stands before a line.
fn header(settings: &LogTarget, severity: u8, time: &mut LocalTime, out: &mut Vec<u8>) {
    let (priority, process) = (settings.facility * 8 + severity, std::process::id());
    let own = || String::from_utf8_lossy(host_name()).into_owned();
    let host = || settings.host_name.clone().unwrap_or_else(own);
    let tag = &settings.tag;
    let now = reactor::now().wall_ms;
    let text = match settings.header {
        LogHeader::Raw => return,
        LogHeader::Local => format!("<{priority}>{} {tag}[{process}]: ", time.syslog(now)),
        LogHeader::Rfc3164 => format!("<{priority}>{} {} {tag}[{process}]: ", time.syslog(now), host()),
        LogHeader::Rfc5424 => format!("<{priority}>1 {} {} {tag} {process} - - ", time.rfc3339(now), host()),
        LogHeader::Priority => format!("<{priority}>"),
        LogHeader::Short => format!("<{severity}>"),
        LogHeader::Timed => format!("<{severity}>{} ", time.rfc3339(now)),
        LogHeader::Iso => format!("{} ", time.rfc3339(now)),
    };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_lines() {
        let settings = |header| LogTarget {
            access: AccessLog::Stdout,
            tag: "lb".into(),
            facility: 16,
            level: 7,
            gravest: 0,
            header,
            host_name: Some("box".into()),
            length: 0,
            sample: None,
        };
        let id = std::process::id();
        // Digits of the time, and letters of the month, are left out.
        for (header_of, before, after) in [
            (LogHeader::Local, "<134>", format!(" lb[{id}]: ")),
            (LogHeader::Rfc3164, "<134>", format!(" box lb[{id}]: ")),
            (LogHeader::Rfc5424, "<134>1 2", format!(" box lb {id} - - ")),
            (LogHeader::Priority, "<134>", "<134>".into()),
            (LogHeader::Short, "<6>", "<6>".into()),
            (LogHeader::Timed, "<6>2", " ".into()),
            (LogHeader::Iso, "2", " ".into()),
        ] {
            let mut out = Vec::new();
            header(&settings(header_of), 6, &mut LocalTime::new(), &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(before) && text.ends_with(&after), "{header_of:?}: {text:?}");
        }
    }
}
