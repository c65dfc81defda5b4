//! A process of its own that takes the floating addresses away when the daemon dies or no longer
//! runs. It reads lines; the daemon's end of the pipe closes with it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use evenkeel_platform::Network;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{error, warn};

/// Interface, address, length of the network.
pub type Place = (u32, IpAddr, u8);

/// The daemon's side.
pub struct Guard {
    child: Option<Child>,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// `silence`: how long the daemon may say nothing.
    pub fn start(silence: Duration) -> Guard {
        let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut command = Command::new(program);
        command.args(["guard", &silence.as_millis().to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
        // What is sent to the daemon's whole group is not for it.
        command.process_group(0);
        match command.spawn() {
            Ok(mut child) => Guard { pipe: child.stdin.take(), child: Some(child) },
            Err(error) => {
                error!(%error, "the guard of the addresses cannot be started: they would outlive a daemon that is killed");
                Guard { child: None, pipe: None }
            }
        }
    }

    /// Guards nothing.
    pub fn none() -> Guard {
        Guard { child: None, pipe: None }
    }

    fn say(&mut self, line: &str) {
        let Some(pipe) = &mut self.pipe else { return };
        if let Err(error) = pipe.write_all(line.as_bytes()) {
            warn!(%error, "the guard of the addresses has gone");
            self.pipe = None;
        }
    }

    pub fn hold(&mut self, (interface, address, prefix): Place) {
        self.say(&format!("hold {interface} {address} {prefix}\n"));
    }

    pub fn drop_all(&mut self) {
        self.say("drop\n");
    }

    pub fn beat(&mut self) {
        self.say("beat\n");
    }

    pub fn is_there(&self) -> bool {
        self.pipe.is_some()
    }

    /// The addresses stay: another process of this node has them now.
    pub fn leave(mut self) {
        self.say("drop\n");
        self.pipe = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

/// The guard's side: `evenkeel guard MILLISECONDS`.
pub fn run(silence: Duration) -> std::io::Result<()> {
    let _ = evenkeel_platform::run_first();
    // The daemon's end decides, not a signal to both.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Default::default())?;
    }
    let mut network = Network::open()?;
    let mut held: BTreeSet<Place> = BTreeSet::new();
    let mut partial = Vec::new();
    let mut input = std::io::stdin().lock();
    loop {
        let limit = (!held.is_empty()).then_some(silence);
        let limit = limit.and_then(|l| Timespec::try_from(l).ok());
        let ready = match poll(&mut [PollFd::new(&std::io::stdin(), PollFlags::IN)], limit.as_ref()) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if ready == 0 {
            // It may come back to life; then it begins anew.
            remove(&mut network, &mut held);
            continue;
        }
        let mut buffer = [0; 4096];
        let length = match input.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if length == 0 {
            remove(&mut network, &mut held);
            return Ok(());
        }
        partial.extend_from_slice(&buffer[..length]);
        while let Some(end) = partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["hold", interface, address, prefix] => {
                    let place = interface.parse().ok().zip(address.parse().ok()).zip(prefix.parse().ok());
                    held.extend(place.map(|((interface, address), prefix)| (interface, address, prefix)));
                }
                ["drop"] => held.clear(),
                _ => {}
            }
        }
    }
}

fn remove(network: &mut Network, held: &mut BTreeSet<Place>) {
    for (interface, address, prefix) in std::mem::take(held) {
        let _ = network.remove_address(interface, address, prefix);
    }
}
