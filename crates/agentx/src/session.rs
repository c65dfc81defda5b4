//! A sub-agent's session with the agent: opened, a subtree registered, questions answered, notifications sent.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::{Frame, Invalid, Pdu, decode, encode, length};
use crate::oid::Oid;
use crate::view::{VarBind, View};

/// Seconds that the agent waits for an answer of this sub-agent.
const TIMEOUT: u8 = 5;
/// RFC 2741, section 6.2.3: the middle.
const PRIORITY: u8 = 127;
/// RFC 1905: nothing here can be set.
const NOT_WRITABLE: u16 = 17;
const COMMIT_FAILED: u16 = 14;
const UNDO_FAILED: u16 = 15;
/// RFC 2741, section 7.1: what cannot be understood.
const PARSE_ERROR: u16 = 266;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Registering,
    Ready,
    Ended,
}

/// What the agent has made of this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is open, and the subtree is this sub-agent's.
    Ready,
    /// In words, why it is not.
    Refused(String),
    /// A notification was taken, or why not.
    Notified(Result<(), String>),
    /// The agent lives.
    Answered,
    /// The agent has ended it.
    Closed,
}

#[derive(Debug)]
pub struct Session {
    state: State,
    id: u32,
    /// What this sub-agent answers for and has not registered yet; nothing where it only notifies.
    subtrees: VecDeque<Oid>,
    /// The first one is registered: another sub-agent may have the others.
    has_first: bool,
    packet: u32,
    notification: Option<u32>,
    received: Vec<u8>,
}

impl Session {
    /// With the first bytes for the agent. The first of the subtrees must be this sub-agent's.
    pub fn begin(id: &Oid, description: &str, subtrees: &[Oid]) -> (Session, Vec<u8>) {
        let mut session = Session {
            state: State::Opening,
            id: 0,
            subtrees: subtrees.iter().cloned().collect(),
            has_first: false,
            packet: 0,
            notification: None,
            received: Vec::new(),
        };
        let open = Pdu::Open { timeout: TIMEOUT, id: id.clone(), description: description.into() };
        let bytes = session.question(open);
        (session, bytes)
    }

    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    fn question(&mut self, pdu: Pdu) -> Vec<u8> {
        self.packet = self.packet.wrapping_add(1);
        encode(&Frame { session: self.id, transaction: 0, packet: self.packet, pdu })
    }

    /// Asks whether the agent lives.
    pub fn ping(&mut self) -> Vec<u8> {
        self.question(Pdu::Ping)
    }

    pub fn notify(&mut self, binds: Vec<VarBind>) -> Vec<u8> {
        let bytes = self.question(Pdu::Notify(binds));
        self.notification = Some(self.packet);
        bytes
    }

    pub fn close(&mut self) -> Vec<u8> {
        self.state = State::Ended;
        // 5 is reasonShutdown.
        self.question(Pdu::Close { reason: 5 })
    }

    /// Takes bytes of the agent; what is to be sent is added to `out`. `view` is asked for at the first question.
    pub fn received(
        &mut self,
        bytes: &[u8],
        view: &mut dyn FnMut() -> Arc<View>,
        out: &mut Vec<u8>,
    ) -> Result<Vec<Event>, Invalid> {
        self.received.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(whole) = length(&self.received)? {
            if self.received.len() < whole {
                break;
            }
            let message: Vec<u8> = self.received.drain(..whole).collect();
            let frame = decode(&message)?;
            self.on_frame(frame, view, out, &mut events);
        }
        Ok(events)
    }

    fn on_frame(
        &mut self,
        frame: Frame,
        view: &mut dyn FnMut() -> Arc<View>,
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) {
        let answer = |error: u16, binds: Vec<VarBind>| {
            let index = u16::from(error != 0);
            let pdu = Pdu::Response { uptime: 0, error, index, binds };
            encode(&Frame { pdu, ..frame.clone() })
        };
        match &frame.pdu {
            Pdu::Response { error, .. } => self.on_response(&frame, *error, out, events),
            Pdu::Get(_) | Pdu::GetNext(_) | Pdu::GetBulk { .. } => {
                let binds = view().answer(&frame.pdu).unwrap_or_default();
                out.extend(answer(0, binds));
            }
            Pdu::TestSet => out.extend(answer(NOT_WRITABLE, Vec::new())),
            Pdu::CommitSet => out.extend(answer(COMMIT_FAILED, Vec::new())),
            Pdu::UndoSet => out.extend(answer(UNDO_FAILED, Vec::new())),
            // It has no answer.
            Pdu::CleanupSet => {}
            Pdu::Close { .. } => {
                self.state = State::Ended;
                events.push(Event::Closed);
            }
            Pdu::Open { .. } | Pdu::Register { .. } | Pdu::Notify(_) | Pdu::Ping | Pdu::Other(_) => {
                out.extend(answer(PARSE_ERROR, Vec::new()));
            }
        }
    }

    fn on_response(&mut self, frame: &Frame, error: u16, out: &mut Vec<u8>, events: &mut Vec<Event>) {
        if self.notification == Some(frame.packet) {
            self.notification = None;
            let done = if error == 0 { Ok(()) } else { Err(in_words(error)) };
            events.push(Event::Notified(done));
            return;
        }
        match self.state {
            State::Opening | State::Registering if error != 0 && !self.has_first => {
                self.state = State::Ended;
                events.push(Event::Refused(in_words(error)));
            }
            State::Opening => {
                self.id = frame.session;
                self.register(out, events);
            }
            State::Registering => {
                self.has_first = true;
                self.register(out, events);
            }
            // The agent has forgotten this session.
            State::Ready if error != 0 => {
                self.state = State::Ended;
                events.push(Event::Closed);
            }
            State::Ready => events.push(Event::Answered),
            State::Ended => {}
        }
    }
}

impl Session {
    /// Registers the next subtree; without one the session is ready.
    fn register(&mut self, out: &mut Vec<u8>, events: &mut Vec<Event>) {
        match self.subtrees.pop_front() {
            Some(subtree) => {
                self.state = State::Registering;
                out.extend(self.question(Pdu::Register { timeout: TIMEOUT, priority: PRIORITY, subtree }));
            }
            None => {
                self.state = State::Ready;
                events.push(Event::Ready);
            }
        }
    }
}

/// RFC 2741, section 6.2.16.
fn in_words(error: u16) -> String {
    match error {
        256 => "it could not open a session".into(),
        257 => "it does not know this session".into(),
        263 => "another sub-agent answers for this subtree".into(),
        266 => "it did not understand".into(),
        267 => "it refuses the request".into(),
        268 => "it failed to process the request".into(),
        other => format!("it answers with error {other}"),
    }
}
