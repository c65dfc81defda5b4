//! One connection of HTTP/2 (RFC 9113), either end of it: frames in and out, streams between them.
//!
//! In: bytes of the peer, what sessions wrote. Out: bytes for the peer, HTTP/1 for the sessions,
//! new streams. Never: a socket, a clock.
//!
//! What a peer may cost is bounded: streams, memory of a stream and of the connection (by the windows),
//! header lists, frames without use. A peer that uses up one of two budgets loses its connection: one of
//! control frames, which time, requests and data in either direction refill, and one of resets by either
//! side, which time and finished requests refill. Frames that do useful work are free.

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
use super::frame::{self, ErrorCode, FrameHeader, HEADER, PAYLOAD_AT_MOST, flag, kind, setting};
use super::hpack::Decoder;
use super::upgrade::Switch;
use crate::h1::request::{Method, Request};
use crate::h1::response::Response;
use crate::h2::run_queue::{RunQueue, Waiter};
use crate::h2::stream::{NOT_SENT, Stream, StreamHandle};
use crate::memory::MemoryBudget;

/// Streams of a client at a time.
const STREAMS_AT_MOST: usize = 100;
/// Sessions of a client's streams at a time: a session can outlive its stream for a moment.
const SESSIONS_AT_MOST: usize = 2 * STREAMS_AT_MOST;
/// Entries of the lists `lingering` and `stalled` before those of streams that are over are removed.
const LISTED_AT_MOST: usize = 2 * STREAMS_AT_MOST;
/// Receive windows, of a stream (the default) and of the connection.
const STREAM_WINDOW: usize = 65_535;
const CONNECTION_WINDOW: usize = 256 * 1024;
/// Output that waits for the peer before streams add no more to it.
const OUT_AT_MOST: usize = 64 * 1024;
/// Output that waits for the peer, answers to control frames among it, before no more frames are taken.
const BACKLOG_AT_MOST: usize = 256 * 1024;
/// Bytes of a header block, where lists may not be larger, and how many CONTINUATION frames may carry it.
const BLOCK_AT_MOST: usize = 64 * 1024;
const CONTINUATIONS_AT_MOST: usize = 16;
/// Frames that carry a larger list have at least so many bytes each.
const FRAGMENT_AT_LEAST: usize = 4 * 1024;
/// Resets of streams: 200 at once, then one each 50 ms.
const RESETS: Budget = Budget::new(200, 50);
/// Control frames (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones): 2,000 at once, then
/// one each 10 ms.
const CONTROL_FRAMES: Budget = Budget::new(2_000, 10);
/// Control frames that a request or an answer adds to the budget.
const FRAMES_A_REQUEST: u32 = 8;
/// A DATA frame of this many bytes is worth its answers (window updates, pings that measure the
/// bandwidth) even where the peer's window cut it short.
const USEFUL_DATA: usize = 1024;
/// Streams that this side has reset and on which frames of the peer are ignored, the latest ones.
const RESETS_REMEMBERED: usize = 256;

/// What the PING behind a first GOAWAY carries.
const GOODBYE: [u8; 8] = *b"goodbye!";
/// How long its answer is waited for.
const GOODBYE_MS: u64 = 5_000;
/// How long data whose session has ended waits for the peer's window without progress.
const STALL_MS: u64 = 60_000;
/// How long a client may go on sending a request whose answer is complete. A reset at once could overtake
/// the answer in the client.
const LINGER_MS: u64 = 500;
/// The largest window (section 6.9.1).
const WINDOW_LIMIT: i64 = 0x7fff_ffff;

/// Which end of the connection this side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Towards clients.
    Server,
    /// Towards real servers.
    Client,
}

/// The connection cannot go on (section 5.4.1): [`Mux::fail`] tells the peer why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionError(pub ErrorCode);

impl From<ErrorCode> for ConnectionError {
    fn from(code: ErrorCode) -> ConnectionError {
        ConnectionError(code)
    }
}

/// What came of a frame.
type Handled = Result<(), ConnectionError>;

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

/// What this side sends next on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// A request's or an answer's head, or an interim answer's.
    Head,
    /// So many bytes of a body that the session writes as they are.
    Length(u64),
    /// A body that the session writes in chunks.
    Chunks(Dechunk),
    /// Everything that the session writes, until it ends.
    Raw,
    /// Nothing: END_STREAM was sent.
    Done,
}

/// Whether the peer must be told that this side's header table is smaller than the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TableUpdate {
    NotNeeded,
    Due,
    Sent,
}

/// What the peer sends next on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    /// The head of a real server's answer.
    Head,
    /// So many bytes of a body.
    Length(u64),
    /// A body without a length, which the session reads in chunks.
    Chunks,
    /// Bytes of another protocol, or a body that ends with the stream.
    Raw,
    /// END_STREAM, because the answer has no body.
    Nothing,
    /// Nothing: END_STREAM came.
    Done,
}

/// A stream that is not over.
struct Entry {
    stream: Rc<Stream>,
    method: Method,
    tunnel: bool,
    sending: Sending,
    receiving: Receiving,
    /// Bytes of DATA that the peer lets this side send.
    send_window: i64,
    /// Bytes of DATA that this side lets the peer send.
    receive_window: i64,
    /// Bytes received that the session has not read.
    held: usize,
    /// Bytes read that no window update has given back to the peer.
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

/// A header block whose end has not come. Its bytes count for the connection.
struct Block {
    stream: u32,
    /// The HEADERS frame had END_STREAM.
    ends: bool,
    bytes: Vec<u8>,
    continuations: u32,
    queue: Rc<RunQueue>,
}

impl Block {
    fn new(queue: &Rc<RunQueue>, stream: u32, ends: bool) -> Block {
        Block { stream, ends, bytes: Vec::new(), continuations: 0, queue: queue.clone() }
    }

    fn append(&mut self, fragment: &[u8]) {
        self.queue.take(fragment.len());
        self.bytes.extend_from_slice(fragment);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.queue.give_back(self.bytes.len());
    }
}

/// One connection. Its driver moves bytes in both directions, tells the time and wakes sessions.
pub struct Mux {
    role: Role,
    queue: Rc<RunQueue>,
    scheme: &'static [u8],
    /// Sessions get the targets of requests with scheme and authority.
    pub absolute: bool,
    decoder: Decoder,
    fields: Fields,
    streams: HashMap<u32, Entry>,
    /// New streams, for the driver to take and to accept.
    pub opened: VecDeque<Opened>,
    /// The statuses of requests that were refused before they had a stream, and how many bytes they were told it
    /// in, for the driver to take and to log.
    pub rejected: Vec<(u16, u32)>,
    /// Bytes for the peer. The driver sends them and removes what was sent.
    pub out: Vec<u8>,
    /// Answered streams whose requests have not ended, with the time to end them.
    lingering: VecDeque<(u64, u32)>,
    /// Streams whose request was answered without a session while it still came, likewise.
    answered: VecDeque<(u64, u32)>,
    now_ms: u64,
    /// Streams with data, which wait for the connection's window; each once.
    starved: Vec<u32>,
    /// Streams whose session has ended and whose data waits for a window: when to look again, the
    /// stream, and what had been sent of it.
    stalled: VecDeque<(u64, u32, u64)>,
    /// The streams that this side reset last.
    recent_resets: VecDeque<u32>,
    block: Option<Block>,
    preface_left: usize,
    settings_came: bool,
    last_opened: u32,
    next_stream: u32,
    /// Streams that this side has opened, whether anything was sent on them or not.
    opened_here: u32,
    send_window: i64,
    /// The peer was given [`CONNECTION_WINDOW`], more than the default.
    window_widened: bool,
    receive_window: i64,
    granted: usize,
    peer_stream_window: i64,
    peer_streams: usize,
    /// The peer understands the extended CONNECT (RFC 8441).
    pub peer_connects: bool,
    /// A first GOAWAY was sent at this time, which names no last stream yet.
    retiring_since_ms: Option<u64>,
    /// GOAWAY was sent, and named this as the last stream that is served.
    goaway_last: Option<u32>,
    /// GOAWAY came, or the connection is over: no more streams are opened.
    goaway_came: bool,
    reset_budget: Budget,
    control_budget: Budget,
    /// Bytes of DATA sent that window updates have not granted anew, counted for the stream's window and
    /// for the connection's.
    uncredited: u64,
    random: u64,
    /// Frames handled and streams visited, for [`Mux::usage`].
    steps: u64,
    request: Request,
    response: Response,
    /// Kept for the next head or block.
    head: Vec<u8>,
    table_update: TableUpdate,
}

impl Mux {
    /// A connection that begins now. `tls` is for the scheme that servers see, `seed` for WebSocket keys.
    pub fn new(role: Role, memory: Rc<MemoryBudget>, tls: bool, seed: u64) -> Mux {
        Mux::with_head_size(role, memory, tls, seed, LIST_AT_MOST)
    }

    /// The same, with the size of the largest header list that is taken of the peer.
    pub fn with_head_size(
        role: Role,
        memory: Rc<MemoryBudget>,
        tls: bool,
        seed: u64,
        head_size: usize,
    ) -> Mux {
        let mut out = Vec::with_capacity(1024);
        if role == Role::Client {
            out.extend_from_slice(frame::PREFACE);
        }
        let mut settings = vec![(setting::MAX_HEADER_LIST_SIZE, head_size as u32)];
        match role {
            Role::Server => settings.extend([
                (setting::MAX_CONCURRENT_STREAMS, STREAMS_AT_MOST as u32),
                (setting::ENABLE_CONNECT_PROTOCOL, 1),
            ]),
            Role::Client => settings.push((setting::ENABLE_PUSH, 0)),
        }
        frame::write_settings(&settings, &mut out);
        Mux {
            role,
            queue: RunQueue::new(memory),
            scheme: if tls { b"https" } else { b"http" },
            absolute: false,
            decoder: Decoder::default(),
            fields: Fields::new(head_size),
            streams: HashMap::new(),
            opened: VecDeque::new(),
            rejected: Vec::new(),
            out,
            lingering: VecDeque::new(),
            answered: VecDeque::new(),
            now_ms: 0,
            starved: Vec::new(),
            stalled: VecDeque::new(),
            recent_resets: VecDeque::new(),
            block: None,
            preface_left: if role == Role::Server { frame::PREFACE.len() } else { 0 },
            settings_came: false,
            last_opened: 0,
            next_stream: 1,
            opened_here: 0,
            send_window: STREAM_WINDOW as i64,
            receive_window: STREAM_WINDOW as i64,
            // Requests seldom have bodies: the window of the connection grows with the first that has one, or,
            // towards a server, once its settings are there, which come before its answers.
            window_widened: false,
            granted: 0,
            peer_stream_window: STREAM_WINDOW as i64,
            peer_streams: 100,
            peer_connects: false,
            retiring_since_ms: None,
            goaway_last: None,
            goaway_came: false,
            reset_budget: RESETS,
            control_budget: CONTROL_FRAMES,
            uncredited: 0,
            random: seed | 1,
            steps: 0,
            request: Request::default(),
            response: Response::default(),
            head: Vec::new(),
            table_update: TableUpdate::NotNeeded,
        }
    }

    /// The size of the largest header list that is taken of the peer.
    pub fn head_size(&self) -> usize {
        self.fields.list_at_most()
    }

    /// Streams that are not over.
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

    /// Whether another session may begin: of a connection that holds more than its share of memory that is
    /// short, one at a time.
    pub fn takes_session(&self) -> bool {
        self.session_count() == 0 || !self.queue.is_over_its_share()
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

    /// Opens a stream for a request, which its session writes next.
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

    /// Takes whole frames from what the peer sent; how many bytes it took. The rest is to be given again,
    /// with more behind it.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) -> Result<usize, ConnectionError> {
        self.now_ms = now_ms;
        self.control_budget.refill(now_ms);
        self.reset_budget.refill(now_ms);
        let mut at = 0;
        if self.preface_left > 0 {
            let done = frame::PREFACE.len() - self.preface_left;
            let count = self.preface_left.min(bytes.len());
            if bytes[..count] != frame::PREFACE[done..done + count] {
                return Err(ErrorCode::Protocol.into());
            }
            self.preface_left -= count;
            at = count;
        }
        while let Some(head) = FrameHeader::parse(&bytes[at..]) {
            if head.length > PAYLOAD_AT_MOST {
                return Err(ErrorCode::FrameSize.into());
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

    fn frame(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        self.steps += 1;
        if !self.settings_came && head.kind != kind::SETTINGS {
            return Err(ErrorCode::Protocol.into());
        }
        let continues = head.kind == kind::CONTINUATION;
        if self.block.as_ref().is_some_and(|b| !continues || b.stream != head.stream) {
            return Err(ErrorCode::Protocol.into());
        }
        match head.kind {
            kind::DATA if !payload.is_empty() || head.has(flag::END_STREAM) => {
                self.control_budget.give_back(1);
            }
            // Bounded with the header block, the streams and the budget of resets.
            kind::HEADERS | kind::CONTINUATION | kind::RST_STREAM => {}
            kind::WINDOW_UPDATE if self.credits_sent_data(payload) => {}
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
                (0, _) => Err(ErrorCode::Protocol.into()),
                (id, 5)
                    if u32::from_be_bytes([payload[0] & 0x7f, payload[1], payload[2], payload[3]]) == id =>
                {
                    self.stream_error(id, ErrorCode::Protocol)
                }
                (_, 5) => Ok(()),
                (id, _) => self.stream_error(id, ErrorCode::FrameSize),
            },
            kind::PUSH_PROMISE => Err(ErrorCode::Protocol.into()),
            // Frames of unknown kinds are ignored (section 4.1).
            _ => Ok(()),
        }
    }

    /// Frees what heads and blocks are made in: the next one brings its own.
    pub fn hold_little(&mut self) {
        self.hold_no_large_head();
        self.request.fields = Vec::new();
        self.opened.shrink_to_fit();
        self.streams.shrink_to_fit();
    }

    /// Frees what heads are decoded into.
    fn hold_no_large_head(&mut self) {
        self.head = Vec::new();
        self.fields = Fields::new(self.fields.list_at_most());
        self.decoder.hold_little();
    }

    /// Asks the client to open no more streams. Those that it has opened before it reads so are served: the
    /// last one is named when the client has answered a PING that follows (RFC 9113 6.8), or after five seconds.
    pub fn retire(&mut self, now_ms: u64) {
        if self.retiring_since_ms.is_none() && self.goaway_last.is_none() {
            self.retiring_since_ms = Some(now_ms);
            frame::write_goaway(u32::MAX >> 1, ErrorCode::NoError, &mut self.out);
            frame::write(kind::PING, 0, 0, &GOODBYE, &mut self.out);
        }
    }

    /// Names the last stream that is served; those that are open finish.
    pub(super) fn settle(&mut self) {
        if self.goaway_last.is_none() {
            self.goaway_last = Some(self.last_opened);
            frame::write_goaway(self.last_opened, ErrorCode::NoError, &mut self.out);
        }
    }

    /// The peer was asked to open no more streams, or has asked so.
    pub fn is_retired(&self) -> bool {
        self.retiring_since_ms.is_some() || self.is_settled()
    }

    /// No more streams are taken on, by either side.
    pub fn is_settled(&self) -> bool {
        self.goaway_last.is_some() || self.goaway_came
    }

    /// When the last stream is named although the client has not answered.
    fn settle_at_ms(&self) -> Option<u64> {
        self.retiring_since_ms.filter(|_| !self.is_settled()).map(|since| since + GOODBYE_MS)
    }

    /// Ends the connection and all its streams, and tells the peer why.
    pub fn fail(&mut self, code: ErrorCode) {
        if code != ErrorCode::NoError || self.goaway_last.is_none() {
            // The last stream must not be a later one than was said before (section 6.8).
            let last = *self.goaway_last.get_or_insert(self.last_opened);
            frame::write_goaway(last, code, &mut self.out);
        }
        self.goaway_came = true;
        // Streams of a server's connection are not told apart: none of them may have caused it, and their
        // requests can go elsewhere.
        if code != ErrorCode::NoError && self.role == Role::Server {
            if self.streams.is_empty() {
                self.rejected.push((400, 0));
            }
            for (_, entry) in self.streams.drain() {
                entry.stream.break_for_fault();
            }
        }
        self.abandon();
    }

    /// Ends all streams: the connection is gone, or will be closed.
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
