//! Connections whose node gives its role up, by plan or not, and whose real server is drained, halted or closed: in
//! every mode and protocol, with every limit of connections reached before. Nothing counts as open afterwards, and as
//! many as before are served anew.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use evenkeel_http::h2::frame::{self, flag, kind};
use evenkeel_l7::{Closing, ServerState};
use evenkeel_model::AdminState;
use evenkeel_testbed::{Hosts, Place, eventually};

use crate::http2::{HOST, Wire, head, written};
use crate::{GET, HALF_ANSWER, Running, Server};

/// Not on loopback: connections there do not go with the role.
const ADDRESS: &str = "10.77.0.100";
const HOLDS: usize = 2;
const KEYS: &str = "max-connections = 2\ntimeouts = { queue = \"20s\", server = \"20s\", client = \"20s\" }";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";

/// What a client has open when it happens.
struct Open {
    what: &'static str,
    mode: &'static str,
    server: Server,
    begin: fn(&mut Wire),
    /// The client's connection waits for no server.
    idle: bool,
}

fn ask(wire: &mut Wire) {
    wire.send(GET.as_bytes());
}

fn upgrade(wire: &mut Wire) {
    wire.send(UPGRADE.as_bytes());
}

fn stream(wire: &mut Wire) {
    wire.send(&written(|out| {
        out.extend_from_slice(frame::PREFACE);
        frame::write_settings(&[], out);
        frame::write_headers(1, true, &head("GET", &[HOST]), out);
    }));
}

fn tunnel(wire: &mut Wire) {
    wire.send(&written(|out| {
        out.extend_from_slice(frame::PREFACE);
        frame::write_settings(&[], out);
        let fields = [(":protocol", "websocket"), HOST, ("sec-websocket-version", "13")];
        frame::write_headers(1, false, &head("CONNECT", &fields), out);
    }));
}

const OPENS: &[Open] = &[
    Open { what: "TCP", mode: "tcp", server: Server::Begins("hello"), begin: ask, idle: false },
    Open { what: "HTTP/1", mode: "http", server: Server::Begins(HALF_ANSWER), begin: ask, idle: false },
    Open { what: "HTTP/1, kept", mode: "http", server: Server::Answers, begin: ask, idle: true },
    Open { what: "HTTP/2", mode: "http", server: Server::Begins(HALF_ANSWER), begin: stream, idle: false },
    Open { what: "HTTP/2, kept", mode: "http", server: Server::Answers, begin: stream, idle: true },
    Open { what: "WebSocket", mode: "http", server: Server::Begins(UPGRADED), begin: upgrade, idle: false },
    Open {
        what: "WebSocket, HTTP/2",
        mode: "http",
        server: Server::Begins(UPGRADED),
        begin: tunnel,
        idle: false,
    },
];

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    RoleGone,
    /// What is open is finished for a while, then cut.
    RoleGoneByPlan,
    Drained,
    Halted,
    Closed,
}

use Happens::{Closed, Drained, Halted, RoleGone, RoleGoneByPlan};

fn set_server(running: &mut Running, admin: AdminState) {
    let id = running.engine.config().pools[0].servers[0].id;
    let state = ServerState { up: true, up_since_ms: None, admin, weight: 1, max_connections: None };
    running.engine.set_server(id, state);
    running.engine.tell_changes();
}

impl Happens {
    fn begin(self, running: &mut Running) {
        match self {
            RoleGone => running.engine.cut_clients(),
            RoleGoneByPlan => {
                running.engine.ease(Some(Duration::from_millis(50)));
                std::thread::sleep(Duration::from_millis(100));
                running.engine.cut_clients();
            }
            Drained => set_server(running, AdminState::Draining),
            Halted => set_server(running, AdminState::Halted),
            Closed => {
                let (service, server) = (Some("web".to_owned()), Some("s".to_owned()));
                let closed = running.engine.close(Closing { service, server, ..Closing::default() });
                let _ = closed.recv_timeout(Duration::from_secs(20));
            }
        }
    }

    fn end(self, running: &mut Running) {
        running.engine.ease(None);
        set_server(running, AdminState::Online);
    }

    /// Whether a client that has a server goes on.
    fn spares(self, open: &Open) -> bool {
        self == Drained || open.idle && matches!(self, Halted | Closed)
    }
}

/// Whatever the server says first.
fn begun(running: &Running, open: &Open) -> Wire {
    let mut wire = Wire::open(running, false, b"");
    (open.begin)(&mut wire);
    let mut some = [0; 4096];
    assert!(matches!(wire.read(&mut some), Ok(1..)), "{}: nothing is answered", open.what);
    wire
}

/// The connection ends, or of HTTP/2 the stream, whose connection may go on.
fn has_ended(wire: &mut Wire, is_stream: bool) -> bool {
    let (mut got, mut some) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(head) = frame::FrameHeader::parse(&got).filter(|_| is_stream) {
            let ends = head.kind == kind::DATA && head.flags & flag::END_STREAM > 0;
            if head.stream == 1 && (ends || head.kind == kind::RST_STREAM) {
                return true;
            }
            if got.len() < frame::HEADER + head.length {
                break;
            }
            got.drain(..frame::HEADER + head.length);
        }
        match wire.read(&mut some) {
            Ok(count @ 1..) => got.extend_from_slice(&some[..count]),
            Ok(0) => return true,
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn play(number: u16, open: &Open, happens: Happens) {
    let what = format!("{}: {happens:?}", open.what);
    let place = Place::new(&format!("taken-{happens:?}-{}", open.what.replace([' ', ',', '/'], "-")));
    // The engine of the round before may not have let go of its port yet.
    let [vip, server] = [8_000, 9_000].map(|base| SocketAddr::new(ADDRESS.parse().unwrap(), base + number));
    let _server = open.server.start(server);
    // One has the server's only place, the second one waits for it, or is idle as well.
    let mut running = Running::at([vip, server], place, open.mode, KEYS, "max-connections = 1");
    let mut first = begun(&running, open);
    let pool = running.engine.config().pools[0].clone();
    let service = running.engine.config().services[0].clone();
    let busy = u64::from(!open.idle);
    eventually("the first has its place", Duration::from_secs(20), || {
        pool.current.sum(|counter| counter.get()) == busy
    });
    let second = match open.idle {
        true => begun(&running, open),
        false => {
            let mut second = Wire::open(&running, false, b"");
            (open.begin)(&mut second);
            eventually("the second waits", Duration::from_secs(20), || pool.waiting.load(Relaxed) == 1);
            second
        }
    };
    eventually("the service has all that it takes", Duration::from_secs(20), || {
        service.connections.load(Relaxed) as usize == HOLDS
    });
    happens.begin(&mut running);
    if happens.spares(open) {
        std::thread::sleep(Duration::from_millis(100));
        assert!(service.connections.load(Relaxed) >= 1, "{what}: what is open goes on");
    } else {
        assert!(has_ended(&mut first, open.what.contains("HTTP/2")), "{what}: it goes on");
    }
    drop((first, second));
    // One that has left unseen: its server has not answered yet.
    running.close_all();
    running.comes_to_rest(&what);
    happens.end(&mut running);
    for _ in 0..HOLDS + 1 {
        drop(begun(&running, open));
        running.close_all();
        running.comes_to_rest(&what);
    }
}

#[test]
fn what_ends_with_a_role_or_its_server_leaves_nothing() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("lb", &[("front", &["10.77.0.100/24"])]);
    hosts.inside("lb", || {
        let mut number = 0;
        for open in OPENS {
            for happens in [RoleGone, RoleGoneByPlan, Drained, Halted, Closed] {
                let began = Instant::now();
                number += 1;
                play(number, open, happens);
                println!("{}: {happens:?}: {} ms", open.what, began.elapsed().as_millis());
            }
        }
    });
}
