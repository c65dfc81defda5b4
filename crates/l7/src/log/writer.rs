//! The thread that writes log lines: to their targets, and to live readers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};

use evenkeel_model::LogTarget;

use super::LocalTime;
use super::target::Target;

/// Buffers that may wait for the writer before lines are dropped (and counted).
const WAITING_AT_MOST: usize = 1024;

const FOLLOWER_BUFFERS: usize = 256;

/// Lines, and whose they are.
#[derive(Default)]
pub struct Lines {
    pub bytes: Vec<u8>,
    /// Each holds as far as its end.
    marks: Vec<Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    end: usize,
    /// The service whose own targets they go to.
    service: Option<u32>,
    severity: u8,
}

impl Lines {
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// What was written behind the last mark is of this service, and so severe.
    pub fn mark(&mut self, service: Option<u32>, severity: u8) {
        let end = self.bytes.len();
        match self.marks.last_mut() {
            Some(last) if (last.service, last.severity) == (service, severity) => last.end = end,
            _ => self.marks.push(Mark { end, service, severity }),
        }
    }
}

/// Where all lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPlan {
    /// Those of services that are not named here.
    pub process: Vec<LogTarget>,
    pub services: HashMap<u32, Vec<LogTarget>>,
}

impl LogPlan {
    fn is_empty(&self) -> bool {
        self.process.is_empty() && self.services.values().all(Vec::is_empty)
    }
}

enum Message {
    Lines(Lines),
    Wish(Command),
}

enum Command {
    Targets(LogPlan),
    Follow(SyncSender<Vec<u8>>),
    /// Answers when the lines that waited are written.
    Flush(Sender<()>),
    Reopen,
    /// Waits, as for a disk that does not answer.
    #[cfg(test)]
    Hang(Receiver<()>),
}

/// Where loops and the control side hand over their lines and wishes.
#[derive(Clone)]
pub struct LogHandle {
    sender: SyncSender<Message>,
    /// Wishes for which the queue has no room. They have no bound, so that whoever has one never waits for a
    /// disk, and are few: people and configurations make them.
    wishes: Sender<Command>,
    shared: Arc<WriterState>,
}

#[derive(Default)]
struct WriterState {
    /// Somebody reads: loops format lines only then.
    wanted: AtomicBool,
    dropped: AtomicU64,
    /// Wishes that found no room in the queue and are not carried out yet: those that follow go behind them.
    overflowed: AtomicUsize,
}

struct LogWriter {
    receiver: Receiver<Message>,
    wishes: Receiver<Command>,
    shared: Arc<WriterState>,
    /// Each is there once, whoever uses it.
    targets: Vec<(LogTarget, Target)>,
    process: Vec<usize>,
    services: HashMap<u32, Vec<usize>>,
    followers: Vec<SyncSender<Vec<u8>>>,
    time: LocalTime,
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
            targets: Vec::new(),
            process: Vec::new(),
            services: HashMap::new(),
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
    pub fn lines(&self, lines: Lines) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Lines(lines)) {
            self.shared.dropped.fetch_add(1, Relaxed);
        }
    }

    pub fn set_targets(&self, plan: LogPlan) {
        // Requests from now on have a line, before the writer has read this.
        if !plan.is_empty() {
            self.shared.wanted.store(true, Relaxed);
        }
        self.wish(Command::Targets(plan));
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

    /// Behind the lines that were made before it. Never waits: a writer whose queue is full looks for wishes
    /// after its next lines.
    fn wish(&self, wish: Command) {
        let wish = match self.shared.overflowed.load(SeqCst) {
            0 => match self.sender.try_send(Message::Wish(wish)) {
                Err(TrySendError::Full(Message::Wish(wish))) => wish,
                _ => return,
            },
            _ => wish,
        };
        self.shared.overflowed.fetch_add(1, SeqCst);
        let _ = self.wishes.send(wish);
    }
}

impl LogWriter {
    fn run(mut self) {
        while let Ok(message) = self.receiver.recv() {
            match message {
                Message::Lines(lines) => self.write(&lines),
                Message::Wish(wish) => self.carry_out(wish),
            }
            while let Ok(wish) = self.wishes.try_recv() {
                self.settle();
                self.carry_out(wish);
                self.shared.overflowed.fetch_sub(1, SeqCst);
            }
            let wanted = !self.targets.is_empty() || !self.followers.is_empty();
            self.shared.wanted.store(wanted, Relaxed);
        }
    }

    fn carry_out(&mut self, wish: Command) {
        match wish {
            Command::Targets(plan) => self.follow(plan),
            Command::Follow(follower) => self.followers.push(follower),
            Command::Reopen => self.targets.iter_mut().for_each(|(_, target)| target.reopen()),
            #[cfg(test)]
            Command::Hang(end) => drop(end.recv()),
            Command::Flush(done) => {
                let _: Result<(), _> = done.send(());
            }
        }
    }

    /// Does what waits in the queue: it is older than the wish that is carried out next. No more than the queue
    /// holds, so that loops which go on logging do not put the wish off.
    fn settle(&mut self) {
        for _ in 0..WAITING_AT_MOST {
            match self.receiver.try_recv() {
                Ok(Message::Lines(lines)) => self.write(&lines),
                Ok(Message::Wish(wish)) => self.carry_out(wish),
                Err(_) => break,
            }
        }
    }

    /// What is the same in both stays open.
    fn follow(&mut self, plan: LogPlan) {
        let mut before = std::mem::take(&mut self.targets);
        let mut targets: Vec<(LogTarget, Target)> = Vec::new();
        let mut numbers = |wanted: Vec<LogTarget>| -> Vec<usize> {
            let number = |wanted: LogTarget| {
                if let Some(at) = targets.iter().position(|(known, _)| *known == wanted) {
                    return at;
                }
                let target = match before.iter().position(|(known, _)| *known == wanted) {
                    Some(at) => before.swap_remove(at).1,
                    None => Target::new(&wanted),
                };
                targets.push((wanted, target));
                targets.len() - 1
            };
            wanted.into_iter().map(number).collect()
        };
        self.process = numbers(plan.process);
        self.services = plan.services.into_iter().map(|(id, wanted)| (id, numbers(wanted))).collect();
        self.targets = targets;
    }

    fn write(&mut self, lines: &Lines) {
        let gone = |result| matches!(result, Err(TrySendError::Disconnected(_)));
        self.followers.retain(|follower| !gone(follower.try_send(lines.bytes.clone())));
        let mut from = 0;
        for mark in &lines.marks {
            let part = &lines.bytes[from..mark.end];
            from = mark.end;
            let wanted = mark.service.map_or(&self.process, |id| {
                // One that is gone by now: its last lines go where most go.
                self.services.get(&id).unwrap_or(&self.process)
            });
            for at in wanted {
                let (settings, target) = &mut self.targets[*at];
                if mark.severity > settings.level {
                    continue;
                }
                let severity = mark.severity.max(settings.gravest);
                if let Err(error) = target.write(part, severity, settings, &mut self.time) {
                    // One line on standard error a failure would flood: the counter tells, writing goes on.
                    self.shared.dropped.fetch_add(1, Relaxed);
                    // Opened anew, a pipe would end for its reader.
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        target.reopen();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use evenkeel_model::{AccessLog, LogHeader, LogSample};

    use super::*;

    fn to_file(path: PathBuf) -> LogTarget {
        LogTarget {
            access: AccessLog::File(path),
            tag: "evenkeel".into(),
            facility: 16,
            level: 7,
            gravest: 0,
            header: LogHeader::Raw,
            host_name: None,
            length: 0,
            sample: None,
        }
    }

    fn all_to(path: PathBuf) -> LogPlan {
        LogPlan { process: vec![to_file(path)], ..LogPlan::default() }
    }

    fn lines_of(text: &[u8], service: Option<u32>, severity: u8) -> Lines {
        let mut lines = Lines { bytes: text.to_vec(), ..Lines::default() };
        lines.mark(service, severity);
        lines
    }

    /// Named pipes: one that nobody reads, one whose reader stops for a while. Neither keeps lines from
    /// other places, nor a new configuration from being heard.
    #[test]
    fn pipes_that_nobody_reads_hold_nothing_up() {
        let folder = std::env::temp_dir().join(format!("evenkeel-log-pipes-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let place = |name: &str| folder.join(name);
        let pipe = |name: &str| {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, place(name), rustix::fs::FileType::Fifo, mode, 0).unwrap();
            to_file(place(name))
        };
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
        let unread = pipe("unread");
        let slow = pipe("slow");
        let mut reader =
            File::from(rustix::fs::open(place("slow"), flags, rustix::fs::Mode::empty()).unwrap());
        let log = LogHandle::start().unwrap();
        log.set_targets(LogPlan {
            process: vec![unread, slow, to_file(place("file"))],
            ..LogPlan::default()
        });
        let until_it_has = |name: &str, length: usize| {
            let end = Instant::now() + Duration::from_secs(20);
            while std::fs::metadata(place(name)).map_or(0, |about| about.len() as usize) < length {
                assert!(Instant::now() < end, "{name} gets its lines");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        // More than a pipe holds, in lines of a hundred bytes.
        let lines = format!("{}\n", "x".repeat(99)).repeat(2000);
        log.lines(lines_of(lines.as_bytes(), None, 6));
        until_it_has("file", lines.len());
        let mut some = vec![0; 1 << 20];
        let taken = std::io::Read::read(&mut reader, &mut some).unwrap();
        assert!((1..lines.len()).contains(&taken), "{taken}");
        log.lines(lines_of(b"last\n", None, 6));
        log.set_targets(all_to(place("other")));
        log.lines(lines_of(b"elsewhere\n", None, 6));
        until_it_has("other", b"elsewhere\n".len());
        let count = std::io::Read::read(&mut reader, &mut some).unwrap();
        let rest = String::from_utf8_lossy(&some[..count]).into_owned();
        assert!(rest.ends_with("\nlast\n"), "on a line of its own: {rest:?}");
        assert!(log.dropped() >= 2);
        let _ = std::fs::remove_dir_all(&folder);
    }

    /// Each line where its service's lines go, as far as its severity goes.
    #[test]
    fn services_have_their_own_targets() {
        let folder = std::env::temp_dir().join(format!("evenkeel-logs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let place = |name: &str| folder.join(name);
        let sample = |text: &str| LogSample::parse(text);
        let own = vec![
            LogTarget { level: 3, ..to_file(place("errors")) },
            LogTarget { header: LogHeader::Short, gravest: 5, ..to_file(place("short")) },
            LogTarget { sample: sample("1:2"), ..to_file(place("odd")) },
            LogTarget { sample: sample("2:2"), length: 4, ..to_file(place("even")) },
        ];
        let services = HashMap::from([(7, own), (8, Vec::new())]);
        let log = LogHandle::start().unwrap();
        log.set_targets(LogPlan { process: vec![to_file(place("process"))], services });
        let mut lines = lines_of(b"one\n", Some(7), 6);
        lines.bytes.extend_from_slice(b"two\n");
        lines.mark(Some(7), 3);
        lines.bytes.extend_from_slice(b"three\nfourth\n");
        lines.mark(Some(7), 6);
        lines.bytes.extend_from_slice(b"nowhere\n");
        lines.mark(Some(8), 3);
        lines.bytes.extend_from_slice(b"process\n");
        lines.mark(None, 6);
        log.lines(lines);
        log.flush();
        let read = |name: &str| std::fs::read_to_string(place(name)).unwrap();
        assert_eq!(read("errors"), "two\n");
        assert_eq!(read("short"), "<6>one\n<5>two\n<6>three\n<6>fourth\n");
        assert_eq!(read("odd"), "one\nthree\n");
        assert_eq!(read("even"), "two\nfour\n");
        assert_eq!(read("process"), "process\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// A FIFO that nobody reads: opening it, and writing to it, waits for ever.
    /// A plan that finds room in the queue, and a later one that finds none: the later one holds.
    #[test]
    fn wishes_are_carried_out_in_their_order() {
        let path = std::env::temp_dir().join(format!("evenkeel-log-order-{}", std::process::id()));
        let place = |name: &str| path.with_extension(name);
        let log = LogHandle::start().unwrap();
        let (end_of_hang, hangs) = channel();
        log.wish(Command::Hang(hangs));
        // One place stays free; the writer may take the wish above from the queue or not.
        (0..WAITING_AT_MOST - 2).for_each(|_| log.lines(lines_of(b"a line\n", None, 6)));
        for name in ["first", "second", "third", "fourth"] {
            log.set_targets(all_to(place(name)));
        }
        drop(end_of_hang);
        log.flush();
        log.lines(lines_of(b"last\n", None, 6));
        log.flush();
        assert_eq!(std::fs::read(place("fourth")).unwrap(), b"last\n");
        for name in ["first", "second", "third", "fourth"] {
            let _ = std::fs::remove_file(place(name));
        }
    }

    #[test]
    fn a_stuck_writer_makes_nobody_wait() {
        let path = std::env::temp_dir().join(format!("evenkeel-log-{}", std::process::id()));
        let log = LogHandle::start().unwrap();
        log.set_targets(all_to(path.clone()));
        let (end_of_hang, hangs) = channel();
        log.wish(Command::Hang(hangs));
        let (done, finished) = channel();
        let handle = log.clone();
        let elsewhere = path.with_extension("other");
        let target = all_to(elsewhere.clone());
        std::thread::spawn(move || {
            (0..2 * WAITING_AT_MOST).for_each(|_| handle.lines(lines_of(b"a line\n", None, 6)));
            handle.set_targets(target);
            handle.reopen();
            let _ = done.send(handle.subscribe());
        });
        let follower = finished.recv_timeout(Duration::from_secs(10)).expect("nobody waits");
        assert!(log.dropped() > 0, "lines that found no room are counted");
        // The disk answers at last: what waited is written, then every wish is carried out.
        drop(end_of_hang);
        let end = Instant::now() + Duration::from_secs(10);
        let followed = loop {
            log.lines(lines_of(b"last\n", None, 6));
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
