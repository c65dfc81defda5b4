//! SNMP notifications: told to the machine's SNMP agent over AgentX, which sends them to whom its own
//! configuration names, as traps or informs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_agentx::{Event, Session, View, mib};
use evenkeel_model::AgentxAddress;

use crate::group::Happening;

/// For one step of the exchange.
const STEP: Duration = Duration::from_secs(5);
/// For all of it.
const WHOLE: Duration = Duration::from_secs(20);

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect(to: &AgentxAddress) -> std::io::Result<Box<dyn Stream>> {
    match to {
        AgentxAddress::Socket(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(STEP))?;
            stream.set_write_timeout(Some(STEP))?;
            Ok(Box::new(stream))
        }
        AgentxAddress::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, STEP)?;
            stream.set_read_timeout(Some(STEP))?;
            stream.set_write_timeout(Some(STEP))?;
            Ok(Box::new(stream))
        }
    }
}

struct Exchange<'a> {
    agent: &'a AgentxAddress,
    stream: Box<dyn Stream>,
    session: Session,
    until: Instant,
}

impl Exchange<'_> {
    /// Until the agent has said something that matters.
    fn next(&mut self) -> Result<Event, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.agent);
        let nothing = Arc::new(View::default());
        let mut bytes = [0; 4096];
        while Instant::now() < self.until {
            let count = self.stream.read(&mut bytes).map_err(failed)?;
            if count == 0 {
                return Err(format!("{}: snmpd has closed the connection", self.agent));
            }
            let mut out = Vec::new();
            let events = self.session.received(&bytes[..count], &mut || nothing.clone(), &mut out);
            let events = events.map_err(|why| format!("{}: snmpd sends {why}", self.agent))?;
            self.stream.write_all(&out).map_err(failed)?;
            if let Some(event) = events.into_iter().next() {
                return Ok(event);
            }
        }
        Err(format!("{}: snmpd does not answer", self.agent))
    }
}

/// One notification each; all are taken, or it says why not.
pub fn notify(agent: &AgentxAddress, node: &str, happenings: &[Happening]) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{agent}: {error}");
    let stream = connect(agent).map_err(failed)?;
    let (session, open) = Session::begin(&mib::root(), "Evenkeel's notifications", &[]);
    let mut exchange = Exchange { agent, stream, session, until: Instant::now() + WHOLE };
    exchange.stream.write_all(&open).map_err(failed)?;
    match exchange.next()? {
        Event::Ready => {}
        Event::Refused(why) => return Err(format!("{agent}: snmpd says: {why}")),
        _ => return Err(format!("{agent}: snmpd opens no session")),
    }
    for happening in happenings {
        let Happening { kind, level, subject, text, .. } = happening;
        let bytes = exchange.session.notify(mib::notification(node, kind, level, subject, text));
        exchange.stream.write_all(&bytes).map_err(failed)?;
        match exchange.next()? {
            Event::Notified(Ok(())) => {}
            Event::Notified(Err(why)) => return Err(format!("{agent}: snmpd says: {why}")),
            _ => return Err(format!("{agent}: snmpd has ended the session")),
        }
    }
    // What it has taken is its own now.
    let _ = exchange.stream.write_all(&exchange.session.close());
    Ok("taken by snmpd".into())
}
