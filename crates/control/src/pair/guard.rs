//! A process of its own that takes the floating addresses away when the daemon dies or no longer
//! runs, and tells the peer that it has died. It reads lines; the daemon's end of the pipe closes with it.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_platform::Network;
pub use evenkeel_vrrp::guard::GuardedAddress;
use evenkeel_vrrp::guard::{GuardOrders, GuardPipe, LastWords};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{error, warn};

/// How long the ending of connections may hold up the removal of their addresses: the other node waits
/// while this one still answers for them.
const ENDING: Duration = Duration::from_millis(100);
/// How long the last words to a guard may take.
const LAST: Duration = Duration::from_millis(200);
/// The peer is told so often that the daemon has died, and with these gaps: a datagram may be lost.
const TOLD: [Duration; 3] = [Duration::ZERO, Duration::from_millis(2), Duration::from_millis(8)];

/// The daemon's side. It belongs to the thread of the election, and never waits for the guard.
pub struct Guard {
    child: Option<Child>,
    pipe: Option<ChildStdin>,
    /// What is said, and waits while the pipe has no room.
    said: GuardPipe,
    started: Instant,
}

impl Guard {
    /// `silence`: how long the daemon may say nothing.
    pub fn start(silence: Duration) -> Guard {
        let mut command = Command::new(evenkeel_platform::THIS_PROGRAM);
        command.arg0("evenkeel");
        command.args(["guard", &silence.as_millis().to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
        // What is sent to the daemon's whole group is not for it.
        command.process_group(0);
        match command.spawn() {
            Ok(child) => Guard::of(child),
            Err(error) => {
                error!(%error, "the guard of the addresses cannot be started: they would outlive a daemon that is killed");
                Guard::none()
            }
        }
    }

    /// Guards nothing.
    pub fn none() -> Guard {
        Guard { child: None, pipe: None, said: GuardPipe::default(), started: Instant::now() }
    }

    fn of(mut child: Child) -> Guard {
        let pipe = child.stdin.take();
        let set = pipe.as_ref().map(|pipe| {
            let flags = rustix::fs::fcntl_getfl(pipe)?;
            rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK)
        });
        let guard = Guard { child: Some(child), pipe, ..Guard::none() };
        if let Some(Err(error)) = set {
            error!(%error, "the guard of the addresses cannot be told anything without waiting for it");
            guard.replaced();
            return Guard::none();
        }
        guard
    }

    /// Ends a guard that does not do its work; it leaves the addresses as they are.
    fn replaced(mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            // Reaped beside.
            std::thread::spawn(move || child.wait());
        }
    }

    fn say(&mut self, what: impl FnOnce(&mut GuardPipe)) {
        if self.pipe.is_some() {
            what(&mut self.said);
            self.flush();
        }
    }

    /// Gives the guard what it takes now.
    fn flush(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        while !self.said.is_empty() {
            match pipe.write(self.said.pending()) {
                Ok(written) => self.said.taken(written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.said.is_stuck(self.started.elapsed().as_millis() as u64) {
                        warn!("the guard of the addresses is stuck: another one takes its place");
                        self.give_up();
                    }
                    return;
                }
                Err(error) => {
                    warn!(%error, "the guard of the addresses has gone");
                    self.give_up();
                    return;
                }
            }
        }
    }

    /// When it was started stays known.
    fn give_up(&mut self) {
        let started = self.started;
        std::mem::replace(self, Guard { started, ..Guard::none() }).replaced();
    }

    pub fn hold(&mut self, place: GuardedAddress) {
        self.say(|pipe| pipe.hold(place));
    }

    pub fn drop_all(&mut self) {
        self.say(GuardPipe::drop_all);
    }

    /// What the peer is told, sealed, when the daemon has died: `None` takes back what was said before.
    pub fn set_last_words(&mut self, words: Option<(IpAddr, SocketAddr, &[u8])>) {
        let message = words.map(|words| data_encoding::HEXLOWER.encode(words.2)).unwrap_or_default();
        self.say(|pipe| pipe.set_last_words(words.map(|(from, to, _)| (from, to, message.as_str()))));
    }

    pub fn has_last_words(&self) -> bool {
        self.said.has_last_words()
    }

    pub fn beat(&mut self) {
        self.say(GuardPipe::beat);
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn is_there(&self) -> bool {
        self.pipe.is_some()
    }

    /// The addresses stay: another process of this node has them now.
    pub fn leave(mut self) {
        self.drop_all();
        let began = Instant::now();
        while !self.said.is_empty() && began.elapsed() < LAST {
            std::thread::sleep(Duration::from_millis(5));
            self.flush();
        }
        if !self.said.is_empty() {
            // It would take the addresses away.
            return self.replaced();
        }
        self.pipe = None;
        let Some(mut child) = self.child.take() else { return };
        while began.elapsed() < LAST {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        std::thread::spawn(move || child.wait());
    }
}

/// The guard's side: `evenkeel guard MILLISECONDS`.
pub fn run(silence: Duration) -> std::io::Result<()> {
    let _ = evenkeel_platform::run_first();
    let _ = rustix::thread::set_name(c"evenkeel-guard");
    // The daemon's end decides, not a signal to both.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Default::default())?;
    }
    let deaths = deaths_of_the_parent()?;
    let mut network = Network::open()?;
    let mut orders = GuardOrders::default();
    let stdin = std::io::stdin();
    loop {
        let limit = orders.is_waiting().then_some(silence);
        let limit = limit.and_then(|l| Timespec::try_from(l).ok());
        let mut ends = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&deaths, PollFlags::IN)];
        match poll(&mut ends, limit.as_ref()) {
            Ok(0) => {
                remove(&mut network, orders.on_silence());
                continue;
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let has_said_something = !ends[0].revents().is_empty();
        let died = !ends[1].revents().is_empty();
        let mut buffer = [0; 4096];
        let length = match has_said_something {
            // What it said before it died comes first.
            true => match rustix::io::read(&stdin, &mut buffer) {
                Ok(length) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            },
            false => 0,
        };
        if length > 0 {
            orders.read(&buffer[..length]);
        } else if has_said_something || died {
            let (held, words) = orders.on_end();
            remove(&mut network, held);
            if let Some(words) = words {
                inform_peer(&words);
            }
            return Ok(());
        }
    }
}

/// Becomes readable when the thread of the election ends, which has started this process: as it runs before all
/// others it is gone at once, while the rest of the daemon may take long to end on a busy machine, and the pipe
/// closes last of all.
fn deaths_of_the_parent() -> std::io::Result<UnixStream> {
    let (deaths, tell) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGUSR1, tell)?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::USR1))?;
    Ok(deaths)
}

/// The peer need not wait until it misses beats: the addresses are gone from here.
fn inform_peer(words: &LastWords) {
    let Ok(message) = data_encoding::HEXLOWER.decode(words.message.as_bytes()) else { return };
    let socket = match UdpSocket::bind((words.from, 0)) {
        Ok(socket) => socket,
        Err(error) => return warn!(%error, "the peer is not told that this daemon has died"),
    };
    for gap in TOLD {
        std::thread::sleep(gap);
        // The peer misses the beats, else.
        let _ = socket.send_to(&message, words.to);
    }
}

/// Clients of the daemon hear that their connections are over while the address is still here to say it
/// from; then it goes.
fn remove(network: &mut Network, held: BTreeSet<GuardedAddress>) {
    let addresses: BTreeSet<IpAddr> = held.iter().map(|place| place.1).collect();
    // Once more for those that came meanwhile.
    for within in [ENDING, ENDING / 4] {
        match evenkeel_platform::end_connections(&addresses, within) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "clients are not told that their connections are over");
                break;
            }
        }
    }
    for (interface, address, prefix) in held {
        let _ = network.remove_address(interface, address, prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that never reads what it is orders.
    fn stuck() -> Guard {
        let mut command = Command::new("sleep");
        Guard::of(command.arg("60").stdin(Stdio::piped()).spawn().unwrap())
    }

    #[test]
    fn a_guard_that_takes_nothing_holds_nobody_up_and_is_replaced() {
        let mut guard = stuck();
        let place = (1, "192.0.2.1".parse().unwrap(), 32);
        let mut longest = Duration::ZERO;
        let began = Instant::now();
        while guard.is_there() && began.elapsed() < Duration::from_secs(20) {
            let before = Instant::now();
            (0..100).for_each(|_| guard.hold(place));
            guard.beat();
            longest = longest.max(before.elapsed());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!guard.is_there(), "it is not trusted any more");
        assert!(longest < Duration::from_secs(5), "{longest:?}");
    }

    #[test]
    fn a_stuck_guard_is_left_in_bounded_time() {
        let mut guard = stuck();
        let place = (1, "192.0.2.1".parse().unwrap(), 32);
        (0..10_000).for_each(|_| guard.hold(place));
        let began = Instant::now();
        guard.leave();
        stuck().leave();
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
