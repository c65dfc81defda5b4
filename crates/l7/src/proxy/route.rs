//! The routes of a service, walked for one request, connection or answer: what the walk counts and
//! limits here, and what of it goes into the log line. The walk itself is `evenkeel_routes`.

use std::sync::Arc;

use evenkeel_balance::{ConcurrencyLimit, Counter, Key, RateLimit};
use evenkeel_routes::{AnswerVerdict, Changes, Effects, Next, View, Walk};

use super::facts::{Answer, Hello, RequestFacts};
use super::session::Client;
use super::{ServiceView, account};
use crate::auth;
use crate::h1::request::Request;
use crate::h1::response::Response;
use crate::log::Record;
use crate::routing::{Live, TableSpec};
use crate::tls::Facts;
use crate::worker::{Busy, Worker};

/// Where the routes lead.
pub type Verdict<'r> = evenkeel_routes::Verdict<'r, Live>;

/// What a request is counted for until it ends, and what its log line has asked. Memory is used again
/// for the next.
#[derive(Default)]
pub struct Counted {
    tracked: Vec<Tracked>,
    places: Vec<ConcurrencySlot>,
    /// Its answer was counted as an error or a failure.
    judged: bool,
    /// What the line's format asked, and where each text ends.
    texts: Vec<u8>,
    text_ends: Vec<usize>,
}

/// A request that an entry of a table counts as going on.
struct Tracked {
    table: Arc<TableSpec>,
    key: Key,
    /// It does not count as going on any more.
    ended: bool,
    /// Bytes of both directions that were counted.
    counted: (u64, u64),
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if !self.ended {
            self.table.table.current(&self.key, -1, crate::reactor::now().mono_ms);
        }
    }
}

/// One of the requests that a key may have at a time.
struct ConcurrencySlot {
    limit: Arc<ConcurrencyLimit>,
    number: u64,
    /// It was given back.
    left: bool,
}

impl ConcurrencySlot {
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.limit.leave(self.number);
        }
    }
}

impl Drop for ConcurrencySlot {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Counted {
    fn clear(&mut self) {
        self.texts.clear();
        self.text_ends.clear();
        self.tracked.clear();
        self.places.clear();
        self.judged = false;
    }

    /// Counts an answer as an error or a failure of every tracked key, once.
    pub fn judge(&mut self, worker: &Worker, status: u16) {
        let what = match status {
            400..500 => Counter::Errors,
            // HAProxy counts so, too: what a server cannot do is no failure of its.
            501 | 505 => return,
            500.. => Counter::Failures,
            _ => return,
        };
        if !std::mem::replace(&mut self.judged, true) {
            let now_ms = worker.reactor.now_ms();
            self.tracked.iter().for_each(|t| t.table.table.count(&t.key, what, 1, now_ms));
        }
    }

    /// Counts what has passed, with `last` bytes that are about to leave. From here on the request is over for
    /// tables and limits.
    fn leave(&mut self, worker: &Worker, record: &Record, last: u64) {
        let now_ms = worker.reactor.now_ms();
        for tracked in &mut self.tracked {
            let (bytes_in, bytes_out) = tracked.counted;
            let counts = [
                (Counter::BytesIn, record.bytes_in.saturating_sub(bytes_in)),
                (Counter::BytesOut, (record.bytes_out + last).saturating_sub(bytes_out)),
            ];
            if tracked.ended && counts.iter().all(|(_, bytes)| *bytes == 0) {
                continue;
            }
            let current = if tracked.ended { 0 } else { -1 };
            tracked.table.table.count_all(&tracked.key, &counts, current, now_ms);
            tracked.counted = (bytes_in + counts[0].1, bytes_out + counts[1].1);
            tracked.ended = true;
        }
        self.places.iter_mut().for_each(ConcurrencySlot::leave);
    }

    /// The client did not take all that was about to leave: the request goes on.
    pub fn stay(&mut self, worker: &Worker) {
        let now_ms = worker.reactor.now_ms();
        for tracked in self.tracked.iter_mut().filter(|tracked| tracked.ended) {
            tracked.table.table.current(&tracked.key, 1, now_ms);
            tracked.ended = false;
        }
        for place in self.places.iter_mut().filter(|place| place.left) {
            place.limit.stay(place.number);
            place.left = false;
        }
    }

    /// Counts for every tracked key what was not counted before, at the end.
    fn count(&mut self, worker: &Worker, record: &Record, http: bool) {
        if http {
            self.judge(worker, record.status);
        } else if record.termination.cause.is_some() {
            let now_ms = worker.reactor.now_ms();
            self.tracked.iter().for_each(|t| t.table.table.count(&t.key, Counter::Errors, 1, now_ms));
        }
        self.leave(worker, record, 0);
    }
}

/// Counts an answer before its last bytes, so many, leave: who has an answer finds it counted, whatever loop
/// or connection asks.
pub fn settle(worker: &Worker, view: &ServiceView, counted: &mut Counted, record: &mut Record, last: usize) {
    counted.judge(worker, record.status);
    counted.leave(worker, record, last as u64);
    account::settle(worker, view, record, last as u64);
}

/// Counts and limits of a walk, in the tables that the event loops share.
struct Counting<'a> {
    counted: &'a mut Counted,
    /// It is a request, and not a connection.
    http: bool,
    /// The first of its connection.
    first: bool,
    now_ms: u64,
}

impl Effects<Live> for Counting<'_> {
    fn track(&mut self, table: &Arc<TableSpec>, key: &[u8]) {
        let key = Key::text(key);
        let counter = if self.http { Counter::Requests } else { Counter::Connections };
        let counts = [(counter, 1), (Counter::Connections, u64::from(self.http && self.first))];
        table.table.count_all(&key, &counts, 1, self.now_ms);
        self.counted.tracked.push(Tracked { table: table.clone(), key, ended: false, counted: (0, 0) });
    }

    fn count(&mut self, table: &Arc<TableSpec>, key: &[u8], counter: Counter, amount: u64, keeps: bool) {
        match keeps {
            true => table.table.keep(&Key::text(key), counter, amount, self.now_ms),
            false => table.table.count(&Key::text(key), counter, amount, self.now_ms),
        }
    }

    fn take(&mut self, limit: &Arc<RateLimit>, key: &[u8]) -> Result<(), u64> {
        limit.take(key, self.now_ms)
    }

    fn enter(&mut self, limit: &Arc<ConcurrencyLimit>, key: &[u8]) -> bool {
        let number = limit.enter(key);
        let place = number.map(|number| ConcurrencySlot { limit: limit.clone(), number, left: false });
        self.counted.places.extend(place);
        number.is_some()
    }
}

/// Nothing is counted for an answer.
struct OfAnswers;

impl Effects<Live> for OfAnswers {
    fn track(&mut self, _: &Arc<TableSpec>, _: &[u8]) {}

    fn count(&mut self, _: &Arc<TableSpec>, _: &[u8], _: Counter, _: u64, _: bool) {}

    fn take(&mut self, _: &Arc<RateLimit>, _: &[u8]) -> Result<(), u64> {
        Ok(())
    }

    fn enter(&mut self, _: &Arc<ConcurrencyLimit>, _: &[u8]) -> bool {
        true
    }
}

/// Walks the routes of a service. `request` is the parsed request with its head, in mode http.
pub async fn walk<'v>(
    worker: &'static Worker,
    view: &'v ServiceView,
    client: &Client,
    request: Option<(&Request, &[u8])>,
    hello: Option<&Hello>,
    changes: &mut Changes,
    counted: &mut Counted,
) -> Verdict<'v> {
    let routes = &*view.spec.routes;
    let asked = RequestFacts { worker, view, client, request, hello, answer: None };
    let mut walk = Walk::new(routes, &asked, changes);
    let verdict = loop {
        // A check of a password may have taken a while.
        let (http, first, now_ms) = (request.is_some(), client.requests <= 1, worker.reactor.now_ms());
        let mut effects = Counting { counted: &mut *counted, http, first, now_ms };
        match walk.run(&asked, &mut effects, changes) {
            Next::End(verdict) => break verdict,
            Next::Password { realm, accounts } => match Box::pin(knows(&asked, accounts)).await {
                Ok(true) => {}
                Ok(false) => break Verdict::Unauthorized { realm },
                Err(Busy) => break Verdict::Refuse { status: 503, retry_after_s: Some(1) },
            },
        }
    };
    walk.end(changes);
    if worker.log.is_wanted() {
        for text in view.spec.line.requests() {
            View { source: &asked, routes, changes }.render_outward(text, &mut counted.texts);
            counted.text_ends.push(counted.texts.len());
        }
    }
    verdict
}

/// An answer for `walk_answer`: the request with its head as it came, and the answer's own.
pub struct Answered<'a> {
    pub request: (&'a Request, &'a [u8]),
    pub response: (&'a Response, &'a [u8]),
    /// None where this program answers itself.
    pub server: Option<&'a str>,
    /// TLS with that server.
    pub server_tls: Option<&'a Facts>,
}

/// Walks the routes of answers. What becomes of the head is in `changes.response` afterwards.
pub fn walk_answer(
    worker: &'static Worker,
    view: &ServiceView,
    client: &Client,
    answered: &Answered<'_>,
    changes: &mut Changes,
) -> AnswerVerdict {
    let (response, head) = answered.response;
    let (server, server_tls) = (answered.server, answered.server_tls);
    let answer = Some(Answer { response, head, server, server_tls });
    let asked = RequestFacts { worker, view, client, request: Some(answered.request), hello: None, answer };
    evenkeel_routes::walk_answer(&view.spec.routes, &asked, response.status, &mut OfAnswers, changes)
}

/// Whether the request names a user with the right password.
async fn knows(asked: &RequestFacts<'_>, users: &auth::Users) -> Result<bool, Busy> {
    let Some((request, head)) = asked.request else { return Ok(false) };
    let named = |f: &&crate::h1::field::Field| f.name.of(head).eq_ignore_ascii_case(b"authorization");
    let field = request.fields.iter().find(named).map(|f| f.value.of(head));
    let Some((name, password)) = field.and_then(auth::credentials) else { return Ok(false) };
    match users.expected(&name) {
        Some(expected) => {
            let client = asked.client.address.ip();
            asked.worker.verify_password(client, &name, password, expected).await
        }
        None => Ok(false),
    }
}

/// Notes what was captured for the log line.
pub fn note(changes: &Changes, counted: &Counted, record: &mut Record) {
    record.captured.clone_from(&changes.captured);
    record.captured_answer.clone_from(&changes.captured_answer);
    record.texts.clone_from(&counted.texts);
    record.text_ends.clone_from(&counted.text_ends);
}

/// Counts a request that ended, with what its routes track.
pub fn finish(
    worker: &Worker,
    view: &ServiceView,
    client: &Client,
    changes: &mut Changes,
    counted: &mut Counted,
    record: &mut Record,
    http: bool,
) {
    let captured = !changes.captured.is_empty() || !changes.captured_answer.is_empty();
    if !counted.tracked.is_empty() || captured || !counted.text_ends.is_empty() {
        note(changes, counted, record);
        counted.count(worker, record, http);
        // A place is taken until here.
        counted.tracked.clear();
        counted.places.clear();
    }
    record.level = changes.log_level;
    account::finish(worker, view, client, record, http);
    changes.clear();
    counted.clear();
}
