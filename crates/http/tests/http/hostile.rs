//! One engine against a peer that sends whatever it likes: good frames, wrong ones, noise, floods. The
//! connection may end at any frame; until then what it holds and how much it works is bounded.

use std::rc::Rc;

use evenkeel_http::h2::Role;
use evenkeel_http::h2::frame::{self, ErrorCode, PAYLOAD_AT_MOST, flag, kind, setting};

use crate::bounds;
use crate::peer::{Engine, block, data, frame, get, post, request_block, reset, settings, window_update};
use crate::random::Random;

/// What the driver holds of the peer's bytes at most.
const INPUT_AT_MOST: usize = 32 * 1024;

/// A peer that keeps most rules, and how often it does not.
struct Peer {
    random: Random,
    role: Role,
    /// Streams that were opened lie below it.
    next_stream: u32,
    /// One in so many frames is a wild one.
    wild: usize,
}

impl Peer {
    fn frame(&mut self) -> Vec<u8> {
        if self.random.one_in(self.wild) { self.wild_frame() } else { self.good_frame() }
    }

    /// A stream that was opened, if any was.
    fn stream(&mut self) -> Option<u32> {
        let opened = self.next_stream as usize / 2;
        (opened > 0).then(|| 1 + 2 * (opened - 1 - self.random.below(opened.min(120))) as u32)
    }

    /// A frame that a good peer sends, though perhaps not on this stream.
    fn good_frame(&mut self) -> Vec<u8> {
        let opens = self.role == Role::Server && self.random.one_in(3);
        let stream = match self.stream() {
            Some(stream) if !opens => stream,
            _ if self.role == Role::Client => return frame(kind::PING, 0, 0, &[0; 8]),
            _ => {
                let stream = self.next_stream;
                self.next_stream += 2;
                return if self.random.one_in(2) { get(stream) } else { post(stream) };
            }
        };
        let ends = self.random.one_in(6);
        match self.random.below(12) {
            0..4 => {
                let size = self.random.pick(&[0, 1, 7, 1_000, PAYLOAD_AT_MOST]);
                data(stream, ends, &vec![b'x'; size])
            }
            4..7 => {
                let increment = self.random.pick(&[1, 100, 2_000, 16_384]);
                window_update(self.random.pick(&[0, stream]), increment)
            }
            7 => settings(&[(setting::INITIAL_WINDOW_SIZE, self.random.below(100_000) as u32)]),
            8 => frame(kind::PING, self.random.pick(&[0, 1]), 0, &[0; 8]),
            9 => reset(stream, ErrorCode::Cancel as u32),
            10 => frame(kind::PRIORITY, 0, stream, &[0, 0, 0, 0, 9]),
            _ if self.role == Role::Server => data(stream, true, b"end"),
            _ => {
                let status = self.random.pick(&["200", "103", "304"]);
                let flags = if ends { 5 } else { 4 };
                frame(kind::HEADERS, flags, stream, &block(&[(":status", status)]))
            }
        }
    }

    fn wild_frame(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let anywhere = random.next() as u32 & 0x7fff_ffff;
        let stream = random.pick(&[0, 1, 2, 3, self.next_stream, anywhere]);
        let numbers = [0, 1, 2, 1024, 16_384, 65_535, 0x7fff_ffff, u32::MAX];
        match random.below(8) {
            0 => {
                let length = random.below(200).to_string();
                let long = "y".repeat(random.below(9_000));
                let fields = request_block("POST", &[("content-length", &length), ("x-a", &long)]);
                self.next_stream += 2;
                frame(kind::HEADERS, random.pick(&[4, 5, 0, 1, 0x2c]), self.next_stream - 2, &fields)
            }
            1 => window_update(stream, random.pick(&numbers)),
            2 => {
                let names = [0, 1, 2, 3, 4, 5, 6, 8, 0xff];
                let count = random.pick(&[0, 1, 3, 500]);
                let pairs: Vec<_> =
                    (0..count).map(|_| (random.pick(&names), random.pick(&numbers[..6]))).collect();
                settings(&pairs)
            }
            3 => frame(kind::DATA, random.pick(&[0, 1, 8, 9]), stream, b"\x02data"),
            4 => frame(kind::HEADERS, random.pick(&[4, 5, 0]), stream, &block(&[("x-t", "1")])),
            5 => frame(kind::CONTINUATION, random.pick(&[0, 4]), stream, &block(&[("x-c", "1")])),
            6 => reset(stream, random.pick(&numbers)),
            _ => {
                let size = random.below(40);
                let payload = random.bytes(size);
                frame(random.below(12) as u8, random.next() as u8, stream, &payload)
            }
        }
    }

    /// Bytes for one step.
    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.random.one_in(12) {
            let flood = self.frame();
            let most = self.random.below(INPUT_AT_MOST);
            while bytes.len() + flood.len() < most {
                bytes.extend_from_slice(&flood);
            }
        }
        for _ in 0..1 + self.random.below(12) {
            bytes.extend(self.frame());
        }
        if self.random.one_in(5 * self.wild) {
            let at = self.random.below(bytes.len());
            bytes[at] ^= 1 << self.random.below(8);
        }
        bytes
    }
}

/// An engine that is checked after everything that happens to it.
struct Watched {
    engine: Engine,
    steps: u64,
}

impl Watched {
    fn new(role: Role, memory: usize) -> Watched {
        let mut engine = Engine::new(role, memory);
        let preface: &[u8] = if role == Role::Server { frame::PREFACE } else { b"" };
        engine.send(&[preface, &settings(&[])].concat()).unwrap();
        Watched { engine, steps: 0 }
    }

    /// Sends bytes and lets the engine work; whether the connection goes on.
    fn send(&mut self, bytes: &[u8], what: &str) -> bool {
        let before = self.engine.mux.out.len();
        let received = self.engine.input_len() + bytes.len();
        let goes_on = self.engine.send(bytes).is_ok();
        self.engine.mux.produce(self.engine.now_ms);
        while self.engine.mux.next_wake().is_some() {}
        self.check(received, before, what);
        goes_on
    }

    fn check(&mut self, received: usize, out_before: usize, what: &str) {
        let usage = self.engine.mux.usage();
        bounds::check(&usage, what);
        let work = usage.steps - self.steps;
        self.steps = usage.steps;
        let most = bounds::work(received, usage.output_bytes.saturating_sub(out_before));
        assert!(work <= most, "{what}: {work} steps of work, {most} are allowed: {usage:?}");
        let used = self.engine.memory.used();
        assert!(used <= bounds::memory(), "{what}: {used} bytes of memory");
    }

    /// What a session may do at any time.
    fn disturb_sessions(&mut self, random: &mut Random) {
        let mut buffer = [0; 5_000];
        for session in &self.engine.sessions {
            match random.below(6) {
                0 | 1 => drop(session.read(&mut buffer)),
                2 => drop(session.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")),
                3 => drop(
                    session.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
                ),
                4 => drop(session.write(&[b'x'; 20_000])),
                _ => {}
            }
        }
        if random.one_in(2) {
            self.engine.sessions.retain(|_| !random.one_in(4));
        }
        if random.one_in(3) {
            self.engine.answer();
        }
    }
}

fn play(seed: u64) -> bool {
    let mut random = Random::new(seed);
    let role = if random.one_in(4) { Role::Client } else { Role::Server };
    let memory = random.pick(&[usize::MAX, usize::MAX, 300_000]);
    let wild = random.pick(&[3, 100, 10_000]);
    let mut watched = Watched::new(role, memory);
    watched.engine.accepts_one_in = random.pick(&[1, 1, 4]);
    let reads_little = random.one_in(3);
    let mut peer = Peer { random: Random::new(seed ^ 0xffff), role, next_stream: 1, wild };
    let what = format!("seed {seed}");
    let mut goes_on = true;
    for _ in 0..30 {
        if role == Role::Client && watched.engine.mux.takes_streams() {
            let session = watched.engine.mux.open();
            session.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
            watched.engine.sessions.push(session);
            peer.next_stream += 2;
        }
        watched.engine.now_ms += random.pick(&[0, 1, 30, 700]);
        let full = watched.engine.input_len() >= INPUT_AT_MOST;
        goes_on = watched.send(&if full { Vec::new() } else { peer.bytes() }, &what);
        watched.disturb_sessions(&mut random);
        watched.check(0, watched.engine.mux.out.len(), &what);
        if !goes_on {
            break;
        }
        if !(reads_little && random.one_in(2)) {
            watched.engine.mux.out.clear();
        }
    }
    let memory = watched.engine.memory.clone();
    drop(watched);
    assert_eq!((memory.used(), Rc::strong_count(&memory)), (0, 1), "seed {seed}: something is left behind");
    goes_on
}

#[test]
fn random_peers_cost_little() {
    let survived = (0..2_000).filter(|seed| play(*seed)).count();
    assert!((200..1_800).contains(&survived), "some connections end, some go on: {survived}");
}

/// What peers do a thousand times without breaking a rule, or until the connection ends.
#[test]
fn nothing_grows_with_repetition() {
    type Cycle = (&'static str, fn(&mut Watched, u32) -> Vec<u8>);
    let cycles: &[Cycle] = &[
        ("requests answered before they end", |watched, stream| {
            let goes_on = watched.send(&post(stream), "early answers");
            assert!(goes_on);
            for session in watched.engine.sessions.drain(..) {
                session.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
            }
            assert!(watched.send(b"", "early answers"));
            data(stream, true, b"")
        }),
        ("answers that wait for a window", |watched, stream| {
            let small = settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
            assert!(watched.send(&[small, get(stream)].concat(), "stalled answers"));
            for session in watched.engine.sessions.drain(..) {
                session.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789abcdefghij");
            }
            assert!(watched.send(b"", "stalled answers"));
            watched.engine.now_ms += 12;
            window_update(stream, 2_000)
        }),
        ("requests taken back before a session takes them", |watched, stream| {
            watched.engine.accepts_one_in = usize::MAX;
            watched.engine.now_ms += 60;
            [get(stream), reset(stream, ErrorCode::Cancel as u32)].concat()
        }),
        ("initial windows, twice two thousand", |_, stream| {
            let pair = [(setting::INITIAL_WINDOW_SIZE, 20), (setting::INITIAL_WINDOW_SIZE, 10)];
            [post(stream), settings(&pair.repeat(1_300))].concat()
        }),
        ("a long name, copied by two bytes a time", |_, stream| {
            let mut fields = request_block("GET", &[]);
            fields.extend_from_slice(b"\x40\x7f\xa1\x1e");
            fields.extend_from_slice(&[b'n'; 4000]);
            fields.push(0);
            while fields.len() < PAYLOAD_AT_MOST - 2 {
                fields.extend_from_slice(b"\x7e\x00");
            }
            frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &fields)
        }),
        ("windows opened byte by byte", |_, stream| {
            [get(stream), window_update(0, 1), window_update(stream, 1)].concat()
        }),
    ];
    for (name, cycle) in cycles {
        let mut watched = Watched::new(Role::Server, usize::MAX);
        for n in 0..1_500 {
            let bytes = cycle(&mut watched, 1 + 2 * n);
            if !watched.send(&bytes, name) {
                break;
            }
            watched.engine.mux.out.clear();
        }
    }
}
