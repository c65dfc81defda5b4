//! One connection of HTTP/2 (RFC 9113), either end of it: frames in and out, streams between them.
//!
//! In: bytes of the peer, what sessions wrote. Out: bytes for the peer, HTTP/1 for the sessions,
//! new streams. Never: a socket, a clock.
//!
//! What a peer may cost is bounded: streams, memory a stream and a connection (by the windows),
//! header lists, frames without use. Two budgets end a connection: one of control frames, which time,
//! requests and data in either direction refill, and one of resets (whoever causes them), which time
//! and finished requests refill. Frames that do useful work never use up a budget for good.

mod budget;
mod receive;
mod send;
mod usage;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use self::budget::Budget;
pub use self::usage::Usage;
use super::dechunk::Dechunk;
use super::fields::{Fields, LIST_AT_MOST};
use super::frame::{self, Code, HEADER, Head, PAYLOAD_AT_MOST, flag, kind, setting};
use super::hpack::Decoder;
use super::upgrade::Switch;
use crate::h1::request::{Method, Request};
use crate::h1::response::Response;
use crate::h2::run_queue::{RunQueue, Waiter};
use crate::h2::stream::{NOT_SENT, Stream, StreamHandle};
use crate::memory::MemoryBudget;

/// Requests of a client at a time.
const STREAMS_AT_MOST: usize = 100;
/// Sessions of streams that are over may take a moment to end.
const SESSIONS_AT_MOST: usize = 2 * STREAMS_AT_MOST;
/// Entries of a list of streams that wait for a time: those of streams that are over are removed when it
/// grows beyond this.
const LISTED_AT_MOST: usize = 2 * STREAMS_AT_MOST;
/// Bytes that a peer may have on their way, for one stream and for all: the default, and more.
const STREAM_WINDOW: usize = 65_535;
const CONNECTION_WINDOW: usize = 256 * 1024;
/// Bytes kept for the peer before streams have to wait.
const OUT_AT_MOST: usize = 64 * 1024;
/// Answers to control frames that pile up because the peer reads nothing.
const BACKLOG_AT_MOST: usize = 256 * 1024;
/// A header block as it comes.
const BLOCK_AT_MOST: usize = 64 * 1024;
const CONTINUATIONS_AT_MOST: u32 = 16;
/// Resets at once, and how long one is remembered: 20 a second for ever.
const RESETS: Budget = Budget::new(200, 50);
/// Control frames at once (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones), and how
/// long one is remembered: 100 a second for ever.
const CONTROL_FRAMES: Budget = Budget::new(2_000, 10);
/// Control frames that go with a request: priorities, window updates, pings.
const FRAMES_A_REQUEST: u32 = 8;
/// A DATA frame of this many bytes is worth its answers (window updates, pings that measure the
/// bandwidth) even where the peer's window cut it short.
const USEFUL_DATA: usize = 1024;
/// Streams this side has reset of late, on which frames may still be under way.
const RESETS_REMEMBERED: usize = 256;
/// How long an answer whose session has ended waits for the peer's window without progress.
const STALL_MS: u64 = 60_000;
/// How long a client may go on sending a request that was answered.
const LINGER_MS: u64 = 500;
const WINDOW_LIMIT: i64 = 0x7fff_ffff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Towards clients.
    Server,
    /// Towards real servers.
    Client,
}

/// The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal(pub Code);

/// A stream that a client opened.
pub struct Opened {
    stream: Rc<Stream>,
}

impl Opened {
    /// Begins its session, which reads the request and writes the answer.
    pub fn accept(self) -> StreamHandle {
        StreamHandle::new(self.stream)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Head,
    Length(u64),
    Chunks(Dechunk),
    Raw,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    /// Of a real server's answer.
    Head,
    Length(u64),
    Chunks,
    Raw,
    /// The body of an answer that has none.
    Nothing,
    Done,
}

struct Entry {
    stream: Rc<Stream>,
    method: Method,
    tunnel: bool,
    sending: Sending,
    receiving: Receiving,
    /// What the peer lets this side send.
    send_window: i64,
    /// What this side lets the peer send.
    receive_window: i64,
    /// Received, and not yet read by the session.
    held: usize,
    /// Read, and not yet granted anew.
    granted: usize,
    /// What a client expects of the answer that asked for an upgrade.
    switch: Option<Switch>,
    /// It is in the list of streams that wait for the connection's window.
    starved: bool,
    /// It is in the list of streams whose session has ended and whose data waits for a window.
    stalled: bool,
    /// It is in the list of answered streams whose requests have not ended.
    lingers: bool,
    /// Bytes of DATA sent.
    sent: u64,
}

struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
    continuations: u32,
}

pub struct Mux {
    role: Role,
    queue: Rc<RunQueue>,
    scheme: &'static [u8],
    decoder: Decoder,
    fields: Fields,
    streams: HashMap<u32, Entry>,
    pub opened: Vec<Opened>,
    pub out: Vec<u8>,
    /// Answered streams whose requests have not ended, with the time to end them.
    lingering: VecDeque<(u64, u32)>,
    now_ms: u64,
    /// Streams with data, which wait for the connection's window; each once.
    starved: Vec<u32>,
    /// Streams whose session has ended and whose data waits for a window: when to look again, the
    /// stream, and what had been sent of it.
    stalled: VecDeque<(u64, u32, u64)>,
    /// The streams that this side reset last.
    own_resets: VecDeque<u32>,
    block: Option<Block>,
    preface_left: usize,
    settings_came: bool,
    last_opened: u32,
    next_stream: u32,
    /// Streams that this side has opened, whether anything was sent on them or not.
    opened_here: u32,
    send_window: i64,
    /// The connection has its full window.
    wide: bool,
    receive_window: i64,
    granted: usize,
    peer_stream_window: i64,
    peer_streams: usize,
    pub peer_connects: bool,
    /// GOAWAY was sent, and named this as the last stream that is served.
    goaway_last: Option<u32>,
    /// The peer takes no more streams.
    goaway_came: bool,
    reset_budget: Budget,
    control_budget: Budget,
    /// Bytes of DATA sent that window updates have not granted anew, counted for the stream's window and
    /// for the connection's.
    unpaid: u64,
    random: u64,
    /// Frames handled and streams visited, for [`Mux::usage`].
    steps: u64,
    request: Request,
    response: Response,
    head: Vec<u8>,
}

impl Mux {
    pub fn new(role: Role, memory: Rc<MemoryBudget>, tls: bool, seed: u64) -> Mux {
        let mut out = Vec::with_capacity(1024);
        if role == Role::Client {
            out.extend_from_slice(frame::PREFACE);
        }
        let mut settings = vec![(setting::MAX_HEADER_LIST_SIZE, LIST_AT_MOST as u32)];
        match role {
            Role::Server => settings.extend([
                (setting::MAX_CONCURRENT_STREAMS, STREAMS_AT_MOST as u32),
                (setting::ENABLE_CONNECT_PROTOCOL, 1),
            ]),
            Role::Client => settings.push((setting::ENABLE_PUSH, 0)),
        }
        frame::write_settings(&settings, &mut out);
        // Requests seldom have bodies: the window of the connection grows with the first that has one.
        let wide = role == Role::Client;
        if wide {
            frame::write_window_update(0, (CONNECTION_WINDOW - STREAM_WINDOW) as u32, &mut out);
        }
        Mux {
            role,
            queue: RunQueue::new(memory),
            scheme: if tls { b"https" } else { b"http" },
            decoder: Decoder::default(),
            fields: Fields::default(),
            streams: HashMap::new(),
            opened: Vec::new(),
            out,
            lingering: VecDeque::new(),
            now_ms: 0,
            starved: Vec::new(),
            stalled: VecDeque::new(),
            own_resets: VecDeque::new(),
            block: None,
            preface_left: if role == Role::Server { frame::PREFACE.len() } else { 0 },
            settings_came: false,
            last_opened: 0,
            next_stream: 1,
            opened_here: 0,
            send_window: STREAM_WINDOW as i64,
            receive_window: if wide { CONNECTION_WINDOW } else { STREAM_WINDOW } as i64,
            wide,
            granted: 0,
            peer_stream_window: STREAM_WINDOW as i64,
            peer_streams: 100,
            peer_connects: false,
            goaway_last: None,
            goaway_came: false,
            reset_budget: RESETS,
            control_budget: CONTROL_FRAMES,
            unpaid: 0,
            random: seed | 1,
            steps: 0,
            request: Request::default(),
            response: Response::default(),
            head: Vec::new(),
        }
    }

    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Streams that wait for the connection's window.
    #[cfg(test)]
    pub fn starved_count(&self) -> usize {
        self.starved.len()
    }

    /// Sessions that hold a stream of this connection.
    pub fn session_count(&self) -> usize {
        self.queue.sessions()
    }

    /// Whoever is to be woken because a stream that it waits for has news. To be asked until there is
    /// none, after each call that can change a stream.
    pub fn next_wake(&mut self) -> Option<Waiter> {
        self.queue.pop_wake()
    }

    /// Makes the next news of a session call for the driver ([`StreamHandle::take_notice`]).
    pub fn arm(&mut self) {
        self.queue.arm();
    }

    /// Whether sessions have written or read since [`Self::produce`] served them.
    pub fn has_ready(&self) -> bool {
        self.queue.ready_count() > 0
    }

    /// Bytes that sessions have written and that are not yet in frames.
    #[cfg(test)]
    pub fn queued(&self) -> usize {
        self.queue.queued()
    }

    /// Whether another request can go to this real server now.
    pub fn takes_streams(&self) -> bool {
        !self.goaway_came
            && self.streams.len() < self.peer_streams.min(STREAMS_AT_MOST)
            && self.next_stream < 1 << 30
    }

    /// Opens a stream for a request, which its session then writes.
    pub fn open(&mut self) -> StreamHandle {
        self.opened_here = (self.opened_here + 1) % NOT_SENT;
        let stream = Stream::new(&self.queue, NOT_SENT | self.opened_here);
        self.insert(stream.clone(), Method::Other, Receiving::Head);
        StreamHandle::new(stream)
    }

    fn insert(&mut self, stream: Rc<Stream>, method: Method, receiving: Receiving) {
        let entry = Entry {
            method,
            tunnel: false,
            sending: Sending::Head,
            receiving,
            send_window: self.peer_stream_window,
            receive_window: STREAM_WINDOW as i64,
            held: 0,
            granted: 0,
            switch: None,
            starved: false,
            stalled: false,
            lingers: false,
            sent: 0,
            stream: stream.clone(),
        };
        self.streams.insert(stream.id(), entry);
    }

    /// Takes what bytes it can of those that the peer sent: whole frames.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) -> Result<usize, Fatal> {
        self.now_ms = now_ms;
        self.control_budget.refill(now_ms);
        self.reset_budget.refill(now_ms);
        let mut at = 0;
        if self.preface_left > 0 {
            let done = frame::PREFACE.len() - self.preface_left;
            let count = self.preface_left.min(bytes.len());
            if bytes[..count] != frame::PREFACE[done..done + count] {
                return Err(Fatal(Code::Protocol));
            }
            self.preface_left -= count;
            at = count;
        }
        while let Some(head) = Head::parse(&bytes[at..]) {
            if head.length > PAYLOAD_AT_MOST {
                return Err(Fatal(Code::FrameSize));
            }
            let Some(payload) = bytes.get(at + HEADER..at + HEADER + head.length) else { break };
            if self.out.len() > BACKLOG_AT_MOST {
                break;
            }
            self.frame(head, payload)?;
            at += HEADER + head.length;
        }
        Ok(at)
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        self.steps += 1;
        if !self.settings_came && head.kind != kind::SETTINGS {
            return Err(Fatal(Code::Protocol));
        }
        let continues = head.kind == kind::CONTINUATION;
        if self.block.as_ref().is_some_and(|b| !continues || b.stream != head.stream) {
            return Err(Fatal(Code::Protocol));
        }
        match head.kind {
            kind::DATA if !payload.is_empty() || head.has(flag::END_STREAM) => {
                self.control_budget.give_back(1);
            }
            // Bounded with the header block, the streams and the budget of resets.
            kind::HEADERS | kind::CONTINUATION | kind::RST_STREAM => {}
            kind::WINDOW_UPDATE if self.pays_back(payload) => {}
            _ => self.charge_control()?,
        }
        match head.kind {
            kind::DATA => self.on_data(head, payload),
            kind::HEADERS => self.on_headers(head, payload),
            kind::CONTINUATION => self.on_continuation(head, payload),
            kind::SETTINGS => self.on_settings(head, payload),
            kind::PING => self.on_ping(head, payload),
            kind::WINDOW_UPDATE => self.on_window_update(head, payload),
            kind::RST_STREAM => self.on_reset(head, payload),
            kind::GOAWAY => self.on_goaway(head, payload),
            kind::PRIORITY => match (head.stream, payload.len()) {
                (0, _) => Err(Fatal(Code::Protocol)),
                (id, 5)
                    if u32::from_be_bytes([payload[0] & 0x7f, payload[1], payload[2], payload[3]]) == id =>
                {
                    self.fault(id, Code::Protocol)
                }
                (_, 5) => Ok(()),
                (id, _) => self.fault(id, Code::FrameSize),
            },
            kind::PUSH_PROMISE => Err(Fatal(Code::Protocol)),
            // Unknown ones are ignored (section 4.1).
            _ => Ok(()),
        }
    }

    // The end

    /// Takes no more streams; those that there are finish.
    pub fn retire(&mut self) {
        if self.goaway_last.is_none() {
            self.goaway_last = Some(self.last_opened);
            frame::write_goaway(self.last_opened, Code::NoError, &mut self.out);
        }
    }

    pub fn is_retired(&self) -> bool {
        self.goaway_last.is_some() || self.goaway_came
    }

    /// Ends everything, and says why.
    pub fn fail(&mut self, code: Code) {
        if code != Code::NoError || self.goaway_last.is_none() {
            // The last stream must not be a later one than was said before (section 6.8).
            let last = *self.goaway_last.get_or_insert(self.last_opened);
            frame::write_goaway(last, code, &mut self.out);
        }
        self.goaway_came = true;
        self.abandon();
    }

    /// The connection is gone.
    pub fn abandon(&mut self) {
        self.goaway_came = true;
        for (_, entry) in self.streams.drain() {
            entry.stream.break_off(false);
        }
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        self.abandon();
        self.queue.close();
    }
}
