//! A sub-agent of the machine's SNMP agent, on a thread of its own.
//!
//! In: where the agent waits, a function that tells what there is to read. Out: answers to the agent.
//! Never: what the values mean. A connection that breaks is made again, at bounded intervals.

mod stream;

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_agentx::{Event, Session, View, mib};
use evenkeel_model::AgentxAddress;
use tracing::{info, warn};

use stream::Stream;

/// What was told is answered for so long without asking anew: a walk asks a thousand times.
const FRESH: Duration = Duration::from_secs(1);
/// Silence after which the agent is asked whether it lives; after the same again it is given up.
const SILENCE: Duration = Duration::from_secs(15);
/// Pauses before a connection is tried again; the last one stays.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];

/// Why nothing is seen over SNMP, and since when.
pub type Trouble = (String, Instant);

#[derive(Debug, Default)]
struct State {
    ended: bool,
    trouble: Option<Trouble>,
    /// The same connection as the thread's, to wake it.
    stream: Option<Stream>,
}

#[derive(Debug, Default)]
struct Connection {
    state: Mutex<State>,
    changed: Condvar,
}

/// Dropping it ends the session.
pub struct Subagent {
    link: Arc<Connection>,
}

impl Subagent {
    /// `read` is asked on the sub-agent's own thread, and may wait.
    pub fn start(
        address: AgentxAddress,
        read: impl FnMut() -> View + Send + 'static,
    ) -> std::io::Result<Subagent> {
        let link = Arc::new(Connection::default());
        let connecting = ("it is being connected".to_owned(), Instant::now());
        link.lock().trouble = Some(connecting);
        let of_thread = link.clone();
        let thread = std::thread::Builder::new().name("snmp".into());
        thread.spawn(move || of_thread.run(&address, Reading { read, last: None }))?;
        Ok(Subagent { link })
    }

    pub fn trouble(&self) -> Option<Trouble> {
        self.link.lock().trouble.clone()
    }
}

impl Drop for Subagent {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.ended = true;
        if let Some(stream) = state.stream.take() {
            stream.shut_down();
        }
        self.link.changed.notify_all();
    }
}

/// What there is to read, and when that was asked for.
struct Reading<R> {
    read: R,
    last: Option<(Instant, Arc<View>)>,
}

impl<R: FnMut() -> View> Reading<R> {
    fn view(&mut self) -> Arc<View> {
        if let Some((at, view)) = &self.last
            && at.elapsed() < FRESH
        {
            return view.clone();
        }
        let view = Arc::new((self.read)());
        self.last = Some((Instant::now(), view.clone()));
        view
    }
}

impl Connection {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<R: FnMut() -> View>(&self, address: &AgentxAddress, mut reading: Reading<R>) {
        let mut attempt = 0;
        loop {
            let mut was_ready = false;
            let why = match self.serve(address, &mut reading, &mut was_ready) {
                Ok(()) => return,
                Err(why) => why,
            };
            attempt = if was_ready { 0 } else { attempt + 1 };
            let mut state = self.lock();
            if state.ended {
                return;
            }
            state.stream = None;
            let same = state.trouble.as_ref().is_some_and(|(before, _)| *before == why);
            if !same {
                warn!(agent = %address, why, "nothing is seen over SNMP; it is tried again");
            }
            let since = state.trouble.as_ref().map_or_else(Instant::now, |(_, since)| *since);
            state.trouble = Some((why, since));
            let pause = AGAIN[attempt.min(AGAIN.len() - 1)];
            let waited = self.changed.wait_timeout_while(state, pause, |state| !state.ended);
            if waited.unwrap_or_else(PoisonError::into_inner).0.ended {
                return;
            }
        }
    }

    /// One connection; `Ok` when this sub-agent is to end.
    fn serve<R: FnMut() -> View>(
        &self,
        address: &AgentxAddress,
        reading: &mut Reading<R>,
        was_ready: &mut bool,
    ) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{address}: {error}");
        let mut stream = Stream::connect(address).map_err(failed)?;
        stream.set_timeouts(SILENCE).map_err(failed)?;
        {
            let mut state = self.lock();
            if state.ended {
                return Ok(());
            }
            state.stream = Some(stream.try_clone().map_err(failed)?);
        }
        let (mut session, open) = Session::begin(&mib::root(), "Evenkeel", &[mib::root(), mib::vrrp(&[])]);
        stream.write_all(&open).map_err(failed)?;
        let mut bytes = [0; 16 << 10];
        let mut silent = false;
        loop {
            let count = match stream.read(&mut bytes) {
                Ok(0) => return self.ended(format!("{address}: snmpd has closed the connection")),
                Ok(count) => count,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if silent || !session.is_ready() {
                        return self.ended(format!("{address}: snmpd does not answer"));
                    }
                    silent = true;
                    stream.write_all(&session.ping()).map_err(failed)?;
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return self.ended(failed(e)),
            };
            silent = false;
            let mut out = Vec::new();
            let events = session.received(&bytes[..count], &mut || reading.view(), &mut out);
            let events = events.map_err(|why| format!("{address}: snmpd sends {why}"))?;
            stream.write_all(&out).map_err(failed)?;
            for event in events {
                match event {
                    Event::Ready => {
                        *was_ready = true;
                        self.lock().trouble = None;
                        info!(agent = %address, "seen over SNMP");
                    }
                    Event::Refused(why) => return self.ended(format!("{address}: snmpd says: {why}")),
                    Event::Closed => return self.ended(format!("{address}: snmpd has ended the session")),
                    Event::Answered | Event::Notified(_) => {}
                }
            }
        }
    }

    /// The end of a connection: `Ok` if it was wanted.
    fn ended(&self, why: String) -> Result<(), String> {
        if self.lock().ended { Ok(()) } else { Err(why) }
    }
}
