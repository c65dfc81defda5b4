//! The thread that writes log lines: to a file, standard output, a syslog server, live readers.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};

use evenkeel_model::{AccessLog, LogSettings};

use super::LocalTime;
use crate::reactor;

/// Buffers that may wait for the writer before lines are dropped (and counted).
const WAITING_AT_MOST: usize = 1024;

const FOLLOWER_BUFFERS: usize = 256;

enum Message {
    Lines(Vec<u8>),
    /// A wish was made.
    Command,
}

enum Command {
    Target(LogSettings),
    Follow(SyncSender<Vec<u8>>),
    /// Answers when the lines that waited are written.
    Flush(Sender<()>),
    Reopen,
}

/// Where loops and the control side hand over their lines and wishes.
#[derive(Clone)]
pub struct LogHandle {
    sender: SyncSender<Message>,
    /// Wishes have no bound, so that whoever has one never waits for a disk. They are few: people and
    /// configurations make them.
    wishes: Sender<Command>,
    shared: Arc<WriterState>,
}

#[derive(Default)]
struct WriterState {
    /// Somebody reads: loops format lines only then.
    wanted: AtomicBool,
    dropped: AtomicU64,
}

struct LogWriter {
    receiver: Receiver<Message>,
    wishes: Receiver<Command>,
    shared: Arc<WriterState>,
    target: Target,
    followers: Vec<SyncSender<Vec<u8>>>,
    time: LocalTime,
}

enum Target {
    Off,
    Stdout,
    Stderr,
    File(PathBuf, Option<File>),
    Syslog(SyslogSocket, Line),
}

/// Where a syslog server listens, with the socket to it.
enum SyslogSocket {
    Udp(SocketAddr, Option<UdpSocket>),
    Local(PathBuf, Option<UnixDatagram>),
}

/// What a line for syslog begins with.
struct Line {
    tag: String,
    priority: u8,
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
        let closed = || std::io::Error::other("the log target could not be opened");
        match self {
            SyslogSocket::Udp(address, socket) => {
                socket.as_ref().ok_or_else(closed)?.send_to(datagram, *address)?
            }
            SyslogSocket::Local(_, socket) => socket.as_ref().ok_or_else(closed)?.send(datagram)?,
        };
        Ok(())
    }
}

impl LogHandle {
    /// Starts the writer's thread.
    pub fn start() -> std::io::Result<LogHandle> {
        let (sender, receiver) = sync_channel(WAITING_AT_MOST);
        let (wishes, wished) = channel();
        let shared = Arc::new(WriterState::default());
        let writer = LogWriter {
            receiver,
            wishes: wished,
            shared: shared.clone(),
            target: Target::Off,
            followers: Vec::new(),
            time: LocalTime::new(),
        };
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(LogHandle { sender, wishes, shared })
    }

    pub fn is_wanted(&self) -> bool {
        self.shared.wanted.load(Relaxed)
    }

    /// Buffers of lines that a writer too slow to take them has cost.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Never waits: a loop that logs faster than the disk takes it loses lines, not time.
    pub fn lines(&self, lines: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Lines(lines)) {
            self.shared.dropped.fetch_add(1, Relaxed);
        }
    }

    pub fn set_target(&self, target: LogSettings) {
        // Requests from now on have a line, before the writer has read this.
        if target.access != AccessLog::Off {
            self.shared.wanted.store(true, Relaxed);
        }
        self.wish(Command::Target(target));
    }

    /// Opens the file anew, after a log rotation.
    pub fn reopen(&self) {
        self.wish(Command::Reopen);
    }

    /// Lines from now on, until the receiver is dropped; one that is too slow misses some.
    pub fn subscribe(&self) -> Receiver<Vec<u8>> {
        let (sender, receiver) = sync_channel(FOLLOWER_BUFFERS);
        self.shared.wanted.store(true, Relaxed);
        self.wish(Command::Follow(sender));
        receiver
    }

    pub fn flush(&self) {
        let (sender, receiver) = channel();
        self.wish(Command::Flush(sender));
        let _ = receiver.recv_timeout(std::time::Duration::from_secs(2));
    }

    /// Never waits: a writer whose queue is full looks for wishes after its next lines anyway.
    fn wish(&self, wish: Command) {
        if self.wishes.send(wish).is_ok() {
            let _ = self.sender.try_send(Message::Command);
        }
    }
}

impl LogWriter {
    fn run(mut self) {
        while let Ok(message) = self.receiver.recv() {
            let mut flushes = Vec::new();
            if let Message::Lines(lines) = message {
                self.write(&lines);
            }
            while let Ok(wish) = self.wishes.try_recv() {
                self.settle();
                match wish {
                    Command::Target(target) => self.target = Target::new(target),
                    Command::Follow(follower) => self.followers.push(follower),
                    Command::Reopen => self.target.reopen(),
                    Command::Flush(done) => flushes.push(done),
                }
            }
            for done in flushes {
                let _: Result<(), _> = done.send(());
            }
            let wanted = !matches!(self.target, Target::Off) || !self.followers.is_empty();
            self.shared.wanted.store(wanted, Relaxed);
        }
    }

    /// Writes the lines that wait: they were made before the wish that is carried out next. No more than
    /// the queue holds, so that loops which go on logging do not put the wish off.
    fn settle(&mut self) {
        for _ in 0..WAITING_AT_MOST {
            match self.receiver.try_recv() {
                Ok(Message::Lines(lines)) => self.write(&lines),
                Ok(Message::Command) => {}
                Err(_) => return,
            }
        }
    }

    fn write(&mut self, lines: &[u8]) {
        let gone = |result| matches!(result, Err(TrySendError::Disconnected(_)));
        self.followers.retain(|follower| !gone(follower.try_send(lines.to_vec())));
        if let Err(error) = self.target.write(lines, &mut self.time) {
            // One line on standard error a failure would flood: the counter tells, writing goes on.
            let _ = error;
            self.shared.dropped.fetch_add(1, Relaxed);
            self.target.reopen();
        }
    }
}

impl Target {
    fn new(LogSettings { access, tag, facility, .. }: LogSettings) -> Target {
        // Severity info.
        let line = Line { tag, priority: facility * 8 + 6 };
        let mut target = match access {
            AccessLog::Off => Target::Off,
            AccessLog::Stdout => Target::Stdout,
            AccessLog::Stderr => Target::Stderr,
            AccessLog::File(path) => Target::File(path, None),
            AccessLog::Syslog(address) => Target::Syslog(SyslogSocket::Udp(address, None), line),
            AccessLog::SyslogSocket(path) => Target::Syslog(SyslogSocket::Local(path, None), line),
        };
        target.reopen();
        target
    }

    fn reopen(&mut self) {
        match self {
            Target::File(path, file) => {
                // Addresses and paths of clients are not for everybody on the machine.
                *file = OpenOptions::new().create(true).append(true).mode(0o640).open(path).ok();
            }
            Target::Syslog(place, _) => place.open(),
            Target::Off | Target::Stdout | Target::Stderr => {}
        }
    }

    fn write(&mut self, lines: &[u8], time: &mut LocalTime) -> std::io::Result<()> {
        let closed = || std::io::Error::other("the log target could not be opened");
        match self {
            Target::Off => Ok(()),
            Target::Stdout => std::io::stdout().lock().write_all(lines),
            Target::Stderr => std::io::stderr().lock().write_all(lines),
            Target::File(_, file) => file.as_mut().ok_or_else(closed)?.write_all(lines),
            Target::Syslog(place, Line { tag, priority }) => {
                let process = std::process::id();
                for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                    // RFC 3164.
                    let stamp = time.syslog(reactor::now().wall_ms);
                    let mut datagram = format!("<{priority}>{stamp} {tag}[{process}]: ").into_bytes();
                    datagram.extend_from_slice(line);
                    place.send(&datagram)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn to_file(path: PathBuf) -> LogSettings {
        LogSettings { access: AccessLog::File(path), tag: "evenkeel".into(), facility: 16 }
    }

    /// A FIFO that nobody reads: opening it, and writing to it, waits for ever.
    #[test]
    fn a_stuck_writer_makes_nobody_wait() {
        let path = std::env::temp_dir().join(format!("evenkeel-log-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let log = LogHandle::start().unwrap();
        log.set_target(to_file(path.clone()));
        let (done, finished) = channel();
        let handle = log.clone();
        let elsewhere = path.with_extension("other");
        let target = to_file(elsewhere.clone());
        std::thread::spawn(move || {
            (0..2 * WAITING_AT_MOST).for_each(|_| handle.lines(b"a line\n".to_vec()));
            handle.set_target(target);
            handle.reopen();
            let _ = done.send(handle.subscribe());
        });
        let follower = finished.recv_timeout(Duration::from_secs(10)).expect("nobody waits");
        assert!(log.dropped() > 0, "lines that found no room are counted");
        // Somebody reads at last: what waited is written, then every wish is carried out.
        let mut reader = File::open(&path).unwrap();
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        let end = Instant::now() + Duration::from_secs(10);
        let followed = loop {
            log.lines(b"last\n".to_vec());
            match follower.recv_timeout(Duration::from_millis(20)) {
                Ok(lines) => break lines,
                Err(_) => assert!(Instant::now() < end, "the wishes were carried out"),
            }
        };
        assert_eq!(followed, b"last\n");
        log.flush();
        assert!(std::fs::read(&elsewhere).unwrap().starts_with(b"last\n"));
        [path, elsewhere].iter().for_each(|file| drop(std::fs::remove_file(file)));
    }
}
