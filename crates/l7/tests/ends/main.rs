//! Every way in which a request or a connection can end, with the engine inside this process: what the client gets,
//! which letters the line of the log has, and that nothing counts as open afterwards.

mod compression;
mod http2;
mod http2_servers;
mod taken_away;
mod tls;
mod versions;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use evenkeel_l7::{Closing, Engine, EngineOptions, Notice, ServerState};
use evenkeel_testbed::{Connection, Place, Scripted, eventually, read_head};

/// The engine with one service and one real server; it logs how each request ended.
struct Running {
    engine: Engine,
    lines: Receiver<Vec<u8>>,
    /// Lines that came with an earlier one.
    pending: RefCell<VecDeque<String>>,
    vip: SocketAddr,
    _notices: Receiver<Notice>,
    _place: Place,
}

const SERVER_PORT: u16 = 9001;

impl Running {
    fn start(place: Place, mode: &str, keys: &str, server_keys: &str) -> Running {
        let addresses = [place.at(8080), place.at(SERVER_PORT)];
        Running::at(addresses, place, mode, keys, server_keys)
    }

    /// With a VIP and a server of these addresses.
    fn at(
        [vip, server]: [SocketAddr; 2],
        place: Place,
        mode: &str,
        keys: &str,
        server_keys: &str,
    ) -> Running {
        let text = format!(
            "[[virtual-service]]\nname = \"web\"\nvip = [\"{vip}\"]\nmode = \"{mode}\"\nhealth-check = {{ type = \"none\" }}\nlog-format = \"{{status}} {{termination}}\"\n{keys}\n[[virtual-service.real-server]]\nname = \"s\"\naddress = \"{server}\"\n{server_keys}\n"
        );
        let snapshot = evenkeel_config::read(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        let (notices, inbox) = channel();
        let options = EngineOptions { workers: 1, buffer_memory: 8 << 20 };
        let mut engine = Engine::start(&options, &notices).expect("the engine starts");
        let lines = engine.log().subscribe();
        let prepared = engine.prepare(&snapshot, |_| false).expect("it can be prepared");
        engine.replace(prepared, |_, _| ServerState {
            up: true,
            up_since_ms: None,
            admin: evenkeel_model::AdminState::Online,
            weight: 1,
            max_connections: None,
        });
        Running { engine, lines, pending: RefCell::default(), vip, _notices: inbox, _place: place }
    }

    /// The next line of the log. What only connected and left has none.
    fn line(&self, what: &str) -> String {
        let mut pending = self.pending.borrow_mut();
        if pending.is_empty() {
            let lines = self.lines.recv_timeout(Duration::from_secs(20));
            let lines = lines.unwrap_or_else(|_| panic!("{what}: there is no line"));
            pending.extend(String::from_utf8_lossy(&lines).lines().map(str::to_owned));
        }
        pending.pop_front().unwrap_or_default()
    }

    /// Nothing counts as open, waiting or busy.
    fn comes_to_rest(&self, what: &str) {
        let config = self.engine.config().clone();
        eventually(&format!("{what}: every counter is zero"), Duration::from_secs(20), || {
            let services = config.services.iter().all(|service| {
                let counted = service.counters.sum(|c| c.current_connections.get());
                let listed = service.connections.load(std::sync::atomic::Ordering::Relaxed);
                counted == 0 && listed == 0
            });
            let pools = config.pools.iter().all(|pool| {
                let busy = |server: &std::sync::Arc<evenkeel_l7::ServerSpec>| {
                    let active = server.active.load(std::sync::atomic::Ordering::Relaxed);
                    server.counters.sum(|c| c.current.get()) + u64::from(active)
                };
                pool.waiting.load(std::sync::atomic::Ordering::Relaxed) == 0
                    && pool.current.sum(|counter| counter.get()) == 0
                    && pool.servers.iter().map(busy).sum::<u64>() == 0
            });
            services && pools && self.engine.connection_count() == 0
        });
    }

    fn close_all(&self) {
        let closed = self.engine.close(Closing::default());
        let _ = closed.recv_timeout(Duration::from_secs(20));
    }
}

/// What the real server does with a connection.
#[derive(Clone, Copy)]
enum Server {
    /// Nobody listens.
    Absent,
    Answers,
    /// Ends the connection without a word, once it has read the request.
    Closes,
    /// Reads, and says nothing.
    Silent,
    /// Says this, then ends the connection.
    Says(&'static str),
    /// Says this, and nothing more.
    Begins(&'static str),
    /// Answers with four megabytes, as far as they are taken.
    Large,
}

impl Server {
    fn start(self, address: SocketAddr) -> Option<Scripted> {
        let hold = |stream: &mut TcpStream| {
            let mut rest = [0; 1024];
            while matches!(stream.read(&mut rest), Ok(1..)) {}
        };
        Some(match self {
            Server::Absent => return None,
            Server::Answers => Scripted::named(address, "fine"),
            Server::Closes => Scripted::start(address, |mut stream| drop(read_head(&mut stream))),
            Server::Large => {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n";
                Scripted::answering(address, [head.as_bytes(), &vec![b'x'; 4 << 20]].concat())
            }
            Server::Silent => Scripted::start(address, move |mut stream| hold(&mut stream)),
            Server::Says(text) => Scripted::start(address, move |mut stream| {
                if read_head(&mut stream).is_some() {
                    let _ = stream.write_all(text.as_bytes());
                }
            }),
            Server::Begins(text) => Scripted::start(address, move |mut stream| {
                if read_head(&mut stream).is_some() {
                    let _ = stream.write_all(text.as_bytes());
                    hold(&mut stream);
                }
            }),
        })
    }
}

/// What the client does.
#[derive(Clone, Copy)]
enum Client {
    /// Sends this, and waits for the answer or the end.
    Asks(&'static str),
    /// Sends this, and leaves when the server has it.
    Leaves(&'static str),
    /// Sends this, and stops sending, but reads on.
    HalfCloses(&'static str),
    /// Sends this; an administrator closes the connection when the server has it.
    IsClosed(&'static str),
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const POST_HALF: &str = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\n12345";
const HALF_HEAD: &str = "GET / HTTP/1.1\r\nHost: a.exa";
const HALF_ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345";
const SHORT: &str = "timeouts = { client = \"20s\", request = \"20s\", server = \"300ms\" }";
const IMPATIENT: &str = "timeouts = { client = \"300ms\", request = \"300ms\", server = \"20s\" }";

struct End {
    what: &'static str,
    keys: &'static str,
    server: Server,
    client: Client,
    /// Of the log: the status and how it ended.
    line: &'static str,
}

const fn end(
    what: &'static str,
    keys: &'static str,
    server: Server,
    client: Client,
    line: &'static str,
) -> End {
    End { what, keys, server, client, line }
}

fn play(ends: &[End], mode: &str) {
    for (number, end) in ends.iter().enumerate() {
        let place = Place::new(&format!("ends-{mode}-{number}"));
        let server = end.server.start(place.at(SERVER_PORT));
        let running = Running::start(place, mode, end.keys, "");
        let reached = || server.as_ref().is_some_and(|server| server.connections() > 0);
        let mut client = Connection::open(running.vip);
        let (Client::Asks(text) | Client::Leaves(text) | Client::HalfCloses(text) | Client::IsClosed(text)) =
            end.client;
        client.send(text);
        let has_head = mode == "tcp" || text.contains("\r\n\r\n");
        if has_head && matches!(end.client, Client::Leaves(_) | Client::IsClosed(_)) {
            eventually("the server has it", Duration::from_secs(20), reached);
        }
        if let (Server::Begins(_), Client::Leaves(_) | Client::IsClosed(_)) = (end.server, end.client) {
            // What follows is about the body. A client that leaves with bytes unread resets.
            assert!(client.stream().peek(&mut [0]).is_ok_and(|came| came == 1), "{}", end.what);
        }
        match end.client {
            Client::Asks(_) => {}
            Client::Leaves(_) => drop(client),
            Client::HalfCloses(_) => client.finish_sending(),
            Client::IsClosed(_) => running.close_all(),
        }
        assert_eq!(running.line(end.what), end.line, "{}", end.what);
        if !matches!(end.client, Client::Leaves(_)) {
            running.close_all();
        }
        running.comes_to_rest(end.what);
    }
}

/// Ends of requests over HTTP/1.1.
const REQUESTS: &[End] = &[
    end("an answer", "", Server::Answers, Client::Asks(GET), "200 --"),
    end("a client that sends no more", "", Server::Answers, Client::HalfCloses(GET), "200 --"),
    // The client's head
    end("no request but an end of one", "", Server::Answers, Client::Leaves(HALF_HEAD), "400 CR"),
    end("half a head, and silence", IMPATIENT, Server::Answers, Client::Asks(HALF_HEAD), "408 cR"),
    end("no HTTP", "", Server::Answers, Client::Asks("\x01\x02\r\n\r\n"), "400 PR"),
    end("no host", "", Server::Answers, Client::Asks("GET / HTTP/1.1\r\n\r\n"), "400 PR"),
    // What routes say
    end("a page", ANSWER, Server::Answers, Client::Asks(GET), "200 LR"),
    end("a refusal", DENY, Server::Answers, Client::Asks(GET), "403 PR"),
    end("a redirect", REDIRECT, Server::Answers, Client::Asks(GET), "302 LR"),
    end("a tar pit", TARPIT, Server::Answers, Client::Asks(GET), "429 PT"),
    // Connecting
    end("nobody listens", "", Server::Absent, Client::Asks(GET), "503 SC"),
    end("an administrator while it waits", "", Server::Silent, Client::IsClosed(GET), "503 KH"),
    // The client's body
    end("half a body, and the end", "", Server::Silent, Client::Leaves(POST_HALF), "-1 CH"),
    end("half a body, and silence", IMPATIENT, Server::Silent, Client::Asks(POST_HALF), "408 cD"),
    end("a body that is too large", "max-body = \"4B\"", Server::Silent, Client::Asks(POST_HALF), "413 PD"),
    end("a broken body", "", Server::Silent, Client::Asks(BAD_CHUNK), "400 PD"),
    // The server's head
    end("the server says nothing", SHORT, Server::Silent, Client::Asks(GET), "504 sH"),
    end("the server ends without a word", "", Server::Closes, Client::Asks(GET), "502 SH"),
    end("half a head of an answer", "", Server::Says("HTTP/1.1 200 OK\r\nA: "), Client::Asks(GET), "502 SH"),
    end("no head of an answer", "", Server::Says("hello\r\n\r\n"), Client::Asks(GET), "502 PH"),
    // A client that has closed its sending side may still wait for its answer.
    end("the client closes before", SHORT, Server::Silent, Client::Leaves(GET), "504 sH"),
    end("it has left by that", ABORT, Server::Silent, Client::Leaves(GET), "400 CH"),
    // The server's body
    end("half an answer, and the end", "", Server::Says(HALF_ANSWER), Client::Asks(GET), "200 SD"),
    end("half an answer, and silence", SHORT, Server::Begins(HALF_ANSWER), Client::Asks(GET), "200 sD"),
    end("the client leaves in an answer", "", Server::Begins(HALF_ANSWER), Client::Leaves(GET), "200 CD"),
    end("an administrator in an answer", "", Server::Begins(HALF_ANSWER), Client::IsClosed(GET), "200 KD"),
    end("an answer that ends with its connection", "", Server::Says(UNTIL_END), Client::Asks(GET), "200 --"),
];

const ABORT: &str = "abort-on-close = true";
const ANSWER: &str = "route = [{ answer = { body = \"here\" } }]";
const DENY: &str = "route = [{ deny = {} }]";
const REDIRECT: &str = "route = [{ redirect = { location = \"https://a.example/\" } }]";
const TARPIT: &str = "route = [{ tarpit = { delay = \"100ms\", status = 429 } }]";
const BAD_CHUNK: &str = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
const UNTIL_END: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it";

/// Ends of connections in mode tcp.
const CONNECTIONS: &[End] = &[
    end("both end", "", Server::Says("hello"), Client::HalfCloses(GET), "-1 --"),
    end("nobody listens", "", Server::Absent, Client::Asks(GET), "-1 SC"),
    end("the client leaves", "", Server::Begins("hello"), Client::Leaves(GET), "-1 CD"),
    end("the client is silent", IMPATIENT, Server::Begins("hello"), Client::Asks(GET), "-1 cD"),
    end("the server is silent", SHORT, Server::Silent, Client::Asks(GET), "-1 sD"),
    end("an administrator", "", Server::Begins("hello"), Client::IsClosed(GET), "-1 KD"),
];

#[test]
fn every_end_of_a_request_is_told_and_leaves_nothing() {
    play(REQUESTS, "http");
}

#[test]
fn every_end_of_a_connection_is_told_and_leaves_nothing() {
    play(CONNECTIONS, "tcp");
}

/// Those that wait for a place on a server.
#[test]
fn ends_in_the_queue_are_told_and_leave_nothing() {
    let leaves = |client: Connection, _: &Running| drop(client);
    let is_closed = |mut client: Connection, running: &Running| {
        running.close_all();
        let _ = client.answer();
    };
    let waits = |mut client: Connection, _: &Running| {
        assert_eq!(client.answer().map(|answer| answer.status), Some(503));
    };
    type Act = fn(Connection, &Running);
    let ends: [(&str, &str, Act, &str); 3] = [
        ("it leaves", "20s", leaves, "-1 CQ"),
        ("an administrator", "20s", is_closed, "503 KQ"),
        ("it waits too long", "200ms", waits, "503 sQ"),
    ];
    for (what, queue, act, line) in ends {
        let place = Place::new(&format!("ends-queue-{}", what.len()));
        let _server = Server::Silent.start(place.at(SERVER_PORT));
        let keys = format!("abort-on-close = true\ntimeouts = {{ queue = \"{queue}\", server = \"20s\" }}");
        let running = Running::start(place, "http", &keys, "max-connections = 1");
        let mut first = Connection::open(running.vip);
        first.send(GET);
        let pool = running.engine.config().pools[0].clone();
        let busy = || pool.current.sum(|counter| counter.get()) == 1;
        eventually("the first is with the server", Duration::from_secs(20), busy);
        let mut second = Connection::open(running.vip);
        second.send(GET);
        let waiting = || pool.waiting.load(std::sync::atomic::Ordering::Relaxed) == 1;
        eventually("the second waits", Duration::from_secs(20), waiting);
        act(second, &running);
        // The first one is closed as well there, in either order.
        let both = what == "an administrator";
        let lines = [Some(running.line(what)), both.then(|| running.line(what))];
        assert!(lines.iter().flatten().any(|told| told == line), "{what}: {lines:?}");
        drop(first);
        running.close_all();
        running.comes_to_rest(what);
    }
}

/// A service may close its clients' connections behind each answer; its own answers are among them.
#[test]
fn connections_close_behind_each_answer_where_it_is_asked_for() {
    for (keys, closes) in [("", false), ("close-after-answer = true", true)] {
        for own in ["", ANSWER] {
            let place = Place::new(&format!("ends-close-{closes}-{}", own.len()));
            let _server = Server::Answers.start(place.at(SERVER_PORT));
            let running = Running::start(place, "http", &format!("{keys}\n{own}"), "");
            let mut client = Connection::open(running.vip);
            let answer = client.get("/");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.field("connection") == Some("close"), closes, "{keys} {own}");
            match closes {
                true => assert!(client.is_closed(), "{own}"),
                false => assert_eq!(client.get("/").status, 200),
            }
        }
    }
}
