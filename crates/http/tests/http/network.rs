//! Two engines against each other through a network that splits, delays and cuts.
//!
//! Sessions run only when they are woken, drivers only when bytes come, time has passed or a session
//! tells them, as in the real program: a wake-up that is lost leaves the world standing still.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::OnceLock;

use evenkeel_http::h1::Body;
use evenkeel_http::h1::request::{Method, Request};
use evenkeel_http::h1::response::Response;
use evenkeel_http::h2::{Mux, Role, StreamHandle, StreamIo};
use evenkeel_http::memory::MemoryBudget;

use crate::bounds;
use crate::random::Random;

const BODY_AT_MOST: usize = 150_000;

/// The bytes that all bodies are cut from.
fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| Random::new(1).bytes(BODY_AT_MOST + 256))
}

/// The body of an exchange, of so many bytes.
fn body(exchange: usize, length: usize) -> &'static [u8] {
    &pattern()[exchange % 251..][..length]
}

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Empty,
    Length,
    Chunked,
    /// Only of answers.
    UntilClose,
}

/// What becomes of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    /// The server answers before it has read the request, and reads no more.
    Early,
    /// The server's session ends amid its answer.
    Cut,
    /// The client goes away amid it.
    Abandoned,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    request: (Shape, usize),
    answer: (Shape, usize),
    fate: Fate,
}

impl Plan {
    /// `heavy`: large messages, most of which come to no good end.
    fn random(random: &mut Random, heavy: bool) -> Plan {
        let length = |random: &mut Random| match random.below(12) {
            0 | 4.. if heavy => BODY_AT_MOST / 3 + random.below(BODY_AT_MOST / 2),
            0 => random.below(BODY_AT_MOST),
            1..4 => 0,
            _ => random.below(3_000),
        };
        let fate = match random.below(if heavy { 5 } else { 10 }) {
            0 => Fate::Early,
            1 => Fate::Cut,
            2 => Fate::Abandoned,
            _ => Fate::Whole,
        };
        let request = random.pick(&[Shape::Empty, Shape::Length, Shape::Chunked]);
        let answer = random.pick(&[Shape::Empty, Shape::Length, Shape::Chunked, Shape::UntilClose]);
        Plan { request: (request, length(random)), answer: (answer, length(random)), fate }
    }
}

/// A message of HTTP/1: its first line and fields, and its body in this shape.
fn message(start: &str, shape: Shape, body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = format!("{start}\r\n").into_bytes();
    match shape {
        Shape::Empty => out.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
        Shape::UntilClose => out.extend_from_slice(b"\r\n"),
        Shape::Length => out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes()),
        Shape::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
    }
    match shape {
        Shape::Empty => {}
        Shape::Length | Shape::UntilClose => out.extend_from_slice(body),
        Shape::Chunked => {
            let mut rest = body;
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(1 + random.below(rest.len().min(20_000)));
                out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
                rest = after;
            }
            out.extend_from_slice(if random.one_in(2) { b"0\r\n\r\n" } else { b"0\r\nx-sum: 1\r\n\r\n" });
        }
    }
    out
}

/// What has been read of a message.
#[derive(Default)]
struct Reading {
    bytes: Vec<u8>,
    ended: bool,
    reset: bool,
}

impl Reading {
    /// Reads once; whether anything came of it.
    fn read(&mut self, handle: &StreamHandle, buffer: &mut [u8]) -> bool {
        if self.ended || self.reset {
            return false;
        }
        match handle.read(buffer) {
            StreamIo::Done(count) => self.bytes.extend_from_slice(&buffer[..count]),
            StreamIo::End => self.ended = true,
            StreamIo::Reset => self.reset = true,
            StreamIo::Blocked => return false,
        }
        true
    }

    /// The body behind a head, its chunks taken off; whether it is complete.
    fn body(&self, head: usize, mut framing: Body) -> (Vec<u8>, bool) {
        let mut bytes = self.bytes[head..].to_vec();
        match &mut framing {
            Body::Chunked(chunked) => {
                let (_, kept) = chunked.extract(&mut bytes).expect("chunks are well-formed");
                bytes.truncate(kept);
            }
            other => {
                let count = other.feed(&bytes).unwrap();
                assert_eq!(count, bytes.len(), "nothing follows the body");
            }
        }
        let complete = framing.is_complete() || matches!(framing, Body::UntilClose) && self.ended;
        (bytes, complete)
    }
}

/// One end of an exchange.
struct Session {
    exchange: usize,
    handle: Option<StreamHandle>,
    /// Bytes to write, and how many of them are written. A server's session learns them from its request.
    out: Vec<u8>,
    written: usize,
    reading: Reading,
    runnable: bool,
    /// The request was sent to a server that did not begin with it.
    refused: bool,
}

impl Session {
    fn new(exchange: usize, handle: StreamHandle) -> Session {
        let (out, reading) = (Vec::new(), Reading::default());
        Session { exchange, handle: Some(handle), out, written: 0, reading, runnable: true, refused: false }
    }

    /// Writes a piece of what is left; whether anything came of it.
    fn write(&mut self, piece: usize) -> bool {
        let (Some(handle), rest) = (&self.handle, &self.out[self.written..]) else { return false };
        if rest.is_empty() || self.reading.reset {
            return false;
        }
        match handle.write(&rest[..rest.len().min(piece)]) {
            StreamIo::Done(count) => self.written += count,
            StreamIo::Blocked => return false,
            // What the peer sent before it ended the stream can still be read.
            StreamIo::End | StreamIo::Reset => {
                return std::mem::replace(&mut self.written, self.out.len()) < self.out.len();
            }
        }
        true
    }

    fn end(&mut self, driver: &mut bool) {
        if let Some(handle) = self.handle.take() {
            self.refused = handle.is_refused();
            handle.close();
            *driver |= handle.take_notice();
        }
    }
}

/// One end of the connection.
struct Side {
    mux: Mux,
    memory: Rc<MemoryBudget>,
    sessions: Vec<Session>,
    /// Bytes that have arrived and that the engine has not taken.
    inbox: Vec<u8>,
    /// The driver has to look.
    notified: bool,
    steps: u64,
}

impl Side {
    fn new(role: Role, memory: usize) -> Side {
        let memory = Rc::new(MemoryBudget::new(memory));
        let mux = Mux::new(role, memory.clone(), false, 3);
        Side { mux, memory, sessions: Vec::new(), inbox: Vec::new(), notified: true, steps: 0 }
    }

    fn wake_sessions(&mut self) {
        while let Some(waiter) = self.mux.next_wake() {
            self.sessions[waiter as usize].runnable = true;
        }
    }

    /// One turn of the driver.
    fn drive(&mut self, now_ms: u64) {
        let received = self.inbox.len();
        let taken = self.mux.receive(&self.inbox, now_ms).expect("the other engine keeps the rules");
        self.inbox.drain(..taken);
        for opened in std::mem::take(&mut self.mux.opened) {
            self.sessions.push(Session::new(usize::MAX, opened.accept()));
        }
        let before = self.mux.out.len();
        self.mux.produce(now_ms);
        self.wake_sessions();
        self.mux.arm();
        self.notified = self.mux.has_ready() && self.mux.out.is_empty();
        let usage = self.mux.usage();
        let work = usage.steps - self.steps;
        self.steps = usage.steps;
        let most = bounds::work(received, self.mux.out.len() - before);
        assert!(work <= most, "{work} steps of work, {most} are allowed");
    }

    fn check(&self, what: &str) {
        bounds::check(&self.mux.usage(), what);
        assert!(self.memory.used() <= bounds::memory(), "{what}: {} bytes", self.memory.used());
    }
}

/// Bytes on their way, with the time when they arrive.
#[derive(Default)]
struct Wire(VecDeque<(u64, Vec<u8>)>);

impl Wire {
    fn send(&mut self, out: &mut Vec<u8>, now_ms: u64, random: &mut Random) {
        // A slow network takes part of it, and only so much at a time.
        if out.is_empty() || self.0.len() > 8 {
            return;
        }
        let count = if random.one_in(4) { 1 + random.below(out.len()) } else { out.len() };
        let last = self.0.back().map_or(0, |(due, _)| *due);
        let delay = if random.one_in(3) { random.below(20) as u64 } else { 0 };
        self.0.push_back((last.max(now_ms + delay), out.drain(..count).collect()));
    }

    fn arrive(&mut self, inbox: &mut Vec<u8>, now_ms: u64, random: &mut Random) -> bool {
        let mut any = false;
        while let Some((_, bytes)) = self.0.front_mut().filter(|(due, _)| *due <= now_ms) {
            let count = if random.one_in(4) { 1 + random.below(bytes.len()) } else { bytes.len() };
            inbox.extend(bytes.drain(..count));
            any = true;
            match bytes.is_empty() {
                true => drop(self.0.pop_front()),
                false => break,
            }
        }
        any
    }
}

struct World {
    random: Random,
    now_ms: u64,
    client: Side,
    server: Side,
    to_server: Wire,
    to_client: Wire,
    plans: Vec<Plan>,
    /// How much sessions read and write at once.
    piece: usize,
    cut: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let server_memory = if random.one_in(8) { 200_000 + random.below(400_000) } else { usize::MAX };
        let heavy = random.one_in(60);
        let count = if heavy { 40 } else { random.pick(&[1, 2, 5, 20]) };
        let plans = (0..count).map(|_| Plan::random(&mut random, heavy)).collect();
        World {
            now_ms: 0,
            client: Side::new(Role::Client, usize::MAX),
            server: Side::new(Role::Server, server_memory),
            to_server: Wire::default(),
            to_client: Wire::default(),
            plans,
            piece: random.pick(&[100, 3_000, 40_000]),
            cut: false,
            random,
        }
    }

    fn open(&mut self, exchange: usize) {
        let plan = self.plans[exchange];
        let handle = self.client.mux.open();
        let mut session = Session::new(exchange, handle);
        let body = body(exchange, plan.request.1);
        let start = format!("POST /{exchange} HTTP/1.1\r\nHost: a");
        session.out = message(&start, plan.request.0, body, &mut self.random);
        self.client.sessions.push(session);
    }

    /// One turn of a client's session.
    fn run_client(&mut self, index: usize, buffer: &mut [u8]) {
        let side = &mut self.client;
        let session = &mut side.sessions[index];
        let Some(handle) = &session.handle else { return };
        let fate = self.plans[session.exchange].fate;
        if fate == Fate::Abandoned && self.random.one_in(3) {
            handle.reset_on_close();
            return session.end(&mut side.notified);
        }
        let mut moved = session.write(self.piece);
        let Some(handle) = &session.handle else { return };
        moved |= session.reading.read(handle, &mut buffer[..self.piece]);
        side.notified |= handle.take_notice();
        if session.reading.ended || session.reading.reset {
            session.end(&mut side.notified);
        } else if !moved {
            handle.wait(index as u32);
            session.runnable = false;
        }
    }

    /// One turn of a server's session.
    fn run_server(&mut self, index: usize, buffer: &mut [u8]) {
        let side = &mut self.server;
        let session = &mut side.sessions[index];
        let Some(handle) = &session.handle else { return };
        let mut moved = false;
        let plan = self.plans.get(session.exchange).copied();
        if plan.is_none_or(|plan| plan.fate != Fate::Early) {
            moved |= session.reading.read(handle, &mut buffer[..self.piece]);
        }
        if session.exchange == usize::MAX && !session.reading.bytes.is_empty() {
            let mut request = Request::default();
            if request.parse(&session.reading.bytes).expect("a good head") {
                let path = request.path(&session.reading.bytes);
                session.exchange = std::str::from_utf8(&path[1..]).unwrap().parse().unwrap();
            }
        }
        if let Some(plan) = plan
            && session.out.is_empty()
            && (session.reading.ended || plan.fate == Fate::Early)
        {
            let (shape, length) = plan.answer;
            let body = body(session.exchange + 1, length);
            session.out = message("HTTP/1.1 200 OK", shape, body, &mut self.random);
        }
        if session.reading.reset {
            return session.end(&mut side.notified);
        }
        moved |= session.write(self.piece);
        let Some(handle) = &session.handle else { return };
        side.notified |= handle.take_notice();
        if session.reading.reset {
            return session.end(&mut side.notified);
        }
        let half = plan.is_some_and(|plan| plan.fate == Fate::Cut) && session.written > session.out.len() / 2;
        if half {
            handle.reset_on_close();
        }
        if half || (session.written == session.out.len() && !session.out.is_empty()) {
            session.end(&mut side.notified);
        } else if !moved {
            handle.wait(index as u32);
            session.runnable = false;
        }
    }

    /// One step of the world; whether anything happened.
    fn step(&mut self, buffer: &mut [u8]) -> bool {
        let mut moved = false;
        self.client.notified |= self.to_client.arrive(&mut self.client.inbox, self.now_ms, &mut self.random);
        self.server.notified |= self.to_server.arrive(&mut self.server.inbox, self.now_ms, &mut self.random);
        for side in [&mut self.client, &mut self.server] {
            let due = side.mux.deadline_ms().is_some_and(|deadline| deadline <= self.now_ms);
            let room = !side.inbox.is_empty() || (side.mux.has_ready() && side.mux.out.is_empty());
            if side.notified || due || room {
                let before = (side.inbox.len(), side.mux.usage());
                side.drive(self.now_ms);
                moved |= side.notified || before != (side.inbox.len(), side.mux.usage());
            }
        }
        self.to_server.send(&mut self.client.mux.out, self.now_ms, &mut self.random);
        self.to_client.send(&mut self.server.mux.out, self.now_ms, &mut self.random);
        for index in 0..self.client.sessions.len() {
            if self.client.sessions[index].runnable && !self.random.one_in(4) {
                self.run_client(index, buffer);
            }
        }
        for index in 0..self.server.sessions.len() {
            if self.server.sessions[index].runnable && !self.random.one_in(4) {
                self.run_server(index, buffer);
            }
        }
        let live = |side: &Side| side.sessions.iter().any(|s| s.runnable && s.handle.is_some());
        moved || live(&self.client) || live(&self.server) || self.client.notified || self.server.notified
    }

    /// When something happens next although nothing can be done now.
    fn next_ms(&self) -> Option<u64> {
        let due = |wire: &Wire| wire.0.front().map(|(due, _)| *due);
        let all = [
            due(&self.to_client),
            due(&self.to_server),
            self.client.mux.deadline_ms(),
            self.server.mux.deadline_ms(),
        ];
        all.into_iter().flatten().min()
    }

    fn cut_connection(&mut self) {
        self.cut = true;
        (self.to_client, self.to_server) = (Wire::default(), Wire::default());
        for side in [&mut self.client, &mut self.server] {
            side.inbox.clear();
            side.mux.out.clear();
            side.mux.abandon();
            side.wake_sessions();
            side.notified = false;
        }
    }

    fn is_over(&self) -> bool {
        let over = |side: &Side| side.sessions.iter().all(|session| session.handle.is_none());
        over(&self.client) && over(&self.server)
    }

    fn run(&mut self, seed: u64) {
        let mut buffer = vec![0; self.piece];
        let cut_at = if self.random.one_in(5) { self.random.below(60) } else { usize::MAX };
        let retire_at = if self.random.one_in(5) { self.random.below(60) } else { usize::MAX };
        let mut opened = 0;
        for step in 0.. {
            assert!(
                step < 20_000,
                "seed {seed}: no end is in sight: {:?}, {:?}, {:?}",
                self.waiting(),
                self.client.mux.usage(),
                self.server.mux.usage()
            );
            if opened < self.plans.len() && self.client.mux.takes_streams() && self.random.one_in(2) {
                self.open(opened);
                opened += 1;
            }
            if step == cut_at {
                self.cut_connection();
            }
            if step == retire_at && !self.cut {
                self.server.mux.retire(self.now_ms);
                self.server.notified = true;
            }
            let moved = self.step(&mut buffer);
            self.client.check("client");
            self.server.check("server");
            let more = opened < self.plans.len() && self.client.mux.takes_streams();
            if moved || more {
                self.now_ms += self.random.below(2) as u64;
            } else if let Some(next_ms) = self.next_ms() {
                self.now_ms = self.now_ms.max(next_ms);
            } else {
                assert!(self.is_over(), "seed {seed}: all wait, nothing will come: {:?}", self.waiting());
                return;
            }
        }
    }

    /// What still waits, for the message of a failure.
    fn waiting(&self) -> Vec<(usize, Plan, usize, usize)> {
        let waits = |session: &&Session| session.handle.is_some();
        let all = self.client.sessions.iter().filter(waits);
        all.map(|s| (s.exchange, self.plans[s.exchange], s.written, s.reading.bytes.len())).collect()
    }

    /// Exchanges that nothing disturbed are whole on both sides.
    fn check_bodies(&self, seed: u64) -> usize {
        let mut whole = 0;
        for session in &self.client.sessions {
            let plan = self.plans[session.exchange];
            if plan.fate == Fate::Abandoned {
                continue;
            }
            let mut response = Response::default();
            let bytes = &session.reading.bytes;
            if bytes.is_empty() || !response.parse(bytes, Method::Post).expect("a good head") {
                let lost = self.cut || session.refused || plan.fate == Fate::Cut;
                assert!(lost, "seed {seed}: exchange {} got no answer", session.exchange);
                continue;
            }
            if response.status != 200 {
                continue;
            }
            let (got, complete) = session.reading.body(response.head_len, Body::new(response.framing));
            let length = if plan.answer.0 == Shape::Empty { 0 } else { plan.answer.1 };
            let expect = body(session.exchange + 1, length);
            assert!(expect.starts_with(&got), "seed {seed}: exchange {} is garbled", session.exchange);
            let may_be_cut = self.cut || plan.fate == Fate::Cut;
            assert!(complete || may_be_cut, "seed {seed}: exchange {} is cut", session.exchange);
            if plan.fate == Fate::Cut && plan.answer.0 != Shape::Empty && got.len() < expect.len() {
                assert!(!complete, "seed {seed}: exchange {} hides that it was cut", session.exchange);
            }
            whole += usize::from(complete);
        }
        for session in self.server.sessions.iter().filter(|s| s.reading.ended) {
            let plan = self.plans[session.exchange];
            let mut request = Request::default();
            assert!(request.parse(&session.reading.bytes).unwrap());
            let (got, complete) = session.reading.body(request.head_len, Body::new(request.framing));
            let length = if plan.request.0 == Shape::Empty { 0 } else { plan.request.1 };
            let expect = body(session.exchange, length);
            assert!(complete && got == expect, "seed {seed}: request {} is garbled", session.exchange);
        }
        whole
    }
}

#[test]
fn exchanges_survive_a_bad_network() {
    let mut whole = 0;
    for seed in 0..1_500 {
        let mut world = World::new(seed);
        world.run(seed);
        whole += world.check_bodies(seed);
        let World { client, server, .. } = world;
        for side in [client, server] {
            let memory = side.memory.clone();
            drop(side);
            assert_eq!(memory.used(), 0, "seed {seed}: memory is left behind");
            assert_eq!(Rc::strong_count(&memory), 1, "seed {seed}: a stream is left behind");
        }
    }
    assert!(whole > 4_000, "most exchanges come to their end: {whole}");
}
