//! The access log: one line a request or connection, in HAProxy's formats or JSON.
//!
//! A loop formats into its own buffer and hands full ones to a writer thread, so that a slow disk
//! never holds up traffic.

mod custom;
mod format;
mod target;
mod termination;
mod time;
mod writer;

use std::net::SocketAddr;
use std::rc::Rc;

use evenkeel_model::LogLevel;

pub use custom::host_name;
pub use format::{LineStyle, write_line};
pub use termination::{Cause, CookieRead, CookieSent, Phase, Termination};
pub use time::LocalTime;
pub use writer::{Lines, LogHandle, LogPlan};

use crate::proxy::{PoolRuntime, ServerRuntime};

/// Everything a log line tells. Times are of the loop's monotonic clock, in milliseconds.
pub struct Record {
    pub client: SocketAddr,
    /// When the request's first byte came (http) or the connection was accepted (tcp).
    pub wall_ms: u64,
    pub start_ms: u64,
    pub head_ms: Option<u64>,
    pub queued_ms: Option<u64>,
    pub connected_ms: Option<u64>,
    pub answered_ms: Option<u64>,
    pub end_ms: u64,
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// How many of them counters have already.
    pub counted_in: u64,
    pub counted_out: u64,
    /// Counters have the request itself.
    pub settled: bool,
    pub termination: Termination,
    pub retries: u32,
    /// The last retry went to another server.
    pub redispatched: bool,
    pub server: Option<Rc<ServerRuntime>>,
    /// Requests before this one in the server's and in the pool's queue.
    pub server_queue: u32,
    pub pool_queue: u32,
    /// The request line as it came, without its line ending.
    pub line: Vec<u8>,
    /// Texts that routes captured, each with a `|` behind it.
    pub captured: Vec<u8>,
    /// And of the answer.
    pub captured_answer: Vec<u8>,
    pub pool: Option<Rc<PoolRuntime>>,
    /// It got as far as a pool.
    pub routed: bool,
    /// The client had closed its side while the server was thinking, in a pool where that ends a request.
    pub given_up: bool,
    /// Its line was written before its end.
    pub written: bool,
    /// What routes say of its line.
    pub level: Option<LogLevel>,
    /// What the line's format asked of the request, one behind the other, and where each ends.
    pub texts: Vec<u8>,
    pub text_ends: Vec<usize>,
}

/// Captured texts with `|` between them.
fn texts(captured: &[u8]) -> &[u8] {
    captured.strip_suffix(b"|").unwrap_or(captured)
}

impl Record {
    /// Notes why the request or connection ended, unless something did before.
    pub fn end(&mut self, cause: Cause, phase: Phase) {
        if self.termination.cause.is_none() {
            (self.termination.cause, self.termination.phase) = (Some(cause), Some(phase));
        }
    }

    /// Something went wrong: it was retried, ended before its time, or the answer is an error of servers.
    pub fn has_trouble(&self, http: bool) -> bool {
        let ended = self.termination.cause.is_some_and(|cause| cause != Cause::LocalReply);
        ended || self.redispatched || self.retries > 0 || http && self.status >= 500
    }

    pub fn new(client: SocketAddr) -> Record {
        Record {
            client,
            wall_ms: 0,
            start_ms: 0,
            head_ms: None,
            queued_ms: None,
            connected_ms: None,
            answered_ms: None,
            end_ms: 0,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            counted_in: 0,
            counted_out: 0,
            settled: false,
            termination: Termination::default(),
            retries: 0,
            redispatched: false,
            server: None,
            server_queue: 0,
            pool_queue: 0,
            line: Vec::new(),
            captured: Vec::new(),
            captured_answer: Vec::new(),
            pool: None,
            routed: false,
            given_up: false,
            written: false,
            level: None,
            texts: Vec::new(),
            text_ends: Vec::new(),
        }
    }

    /// The next request of the same connection; keeps the memory of the line.
    pub fn restart(&mut self, client: SocketAddr, start_ms: u64, wall_ms: u64) {
        // In place, and each of them named: none can be forgotten.
        let Record {
            client: of,
            wall_ms: wall,
            start_ms: start,
            head_ms,
            queued_ms,
            connected_ms,
            answered_ms,
            end_ms,
            status,
            bytes_in,
            bytes_out,
            counted_in,
            counted_out,
            settled,
            termination,
            retries,
            redispatched,
            server,
            server_queue,
            pool_queue,
            line,
            captured,
            captured_answer,
            pool,
            routed,
            given_up,
            written,
            level,
            texts,
            text_ends,
        } = self;
        (*of, *start, *wall, *end_ms, *status) = (client, start_ms, wall_ms, 0, 0);
        (*head_ms, *queued_ms, *connected_ms, *answered_ms) = (None, None, None, None);
        (*bytes_in, *bytes_out, *counted_in, *counted_out) = (0, 0, 0, 0);
        (*retries, *server_queue, *pool_queue) = (0, 0, 0);
        (*redispatched, *routed, *given_up, *written, *settled) = (false, false, false, false, false);
        (*termination, *level) = (Termination::default(), None);
        (*server, *pool) = (None, None);
        [line, captured, captured_answer, texts].into_iter().for_each(Vec::clear);
        text_ends.clear();
    }
}

/// What a line tells beside its record.
pub struct Surroundings<'a> {
    pub service: &'a str,
    pub pool: &'a str,
    pub http: bool,
    pub tls: Option<&'a crate::tls::Facts>,
    pub h2: bool,
    /// Times and sizes are those so far, and are marked by `+`.
    pub early: bool,
    /// Connections now: of the process, the service, the pool, the server.
    pub process: u64,
    pub service_now: u64,
    /// Added up over the pool's servers only where the line shows it.
    pub pool_now: &'a dyn Fn() -> u64,
    pub server_now: u64,
}
