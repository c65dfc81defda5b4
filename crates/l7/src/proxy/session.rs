//! A session: the task that serves one client connection while bytes are in flight.
//!
//! Sessions are kept and used again, the last one first, so that the next connection finds warm
//! memory. A connection that waits for its next request has none.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::Service;
use super::route::Counted;
use crate::buffer::Buffer;
use crate::h1::request::Request;
use crate::h1::response::Response;
use crate::h2::connection;
use crate::link::Link;
use crate::log::Record;
use crate::tls::Facts;
use crate::worker::{PinnedConnection, Presence, Worker};
use evenkeel_http::memory::SESSION_MEMORY;
use evenkeel_model::Mode;
use evenkeel_routes::{Changes, ClientAddress};

/// A client's connection.
pub struct Client {
    pub link: Link,
    pub service: Rc<Service>,
    pub address: SocketAddr,
    pub vip: SocketAddr,
    /// The values of its PROXY header.
    pub values: Option<Rc<[u8]>>,
    /// Those that a server is told in one.
    pub header_values: Vec<u8>,
    /// Those that the server of its own connection was told.
    pub told_values: Vec<u8>,
    /// Who it is was told by a PROXY header.
    pub told: bool,
    /// A trusted peer's header has named the client of this request.
    pub named: bool,
    /// Both as the connection has them, while routes or a header say something else for a request.
    pub came: Option<(SocketAddr, SocketAddr)>,
    pub accepted_ms: u64,
    pub accepted_wall_ms: u64,
    /// What its TLS handshake agreed on.
    pub tls: Option<Rc<Facts>>,
    /// TLS ended before this program, as a PROXY protocol header says.
    pub over_tls: bool,
    /// A stream of HTTP/2.
    pub h2: bool,
    /// What comes before the first request or byte is done: TLS.
    pub greeted: bool,
    pub requests: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Bytes that came before their time: the next pipelined request.
    pub input: Option<Buffer>,
    /// A connection to a server that only this client may use.
    pub own: Option<PinnedConnection>,
}

impl Client {
    /// Keeps what follows the first `taken` bytes for the next request; whether there was memory.
    pub fn set_aside(&mut self, worker: &Worker, buffer: &mut Buffer, taken: usize) -> bool {
        if taken == buffer.len() {
            return true;
        }
        let Some(mut rest) = worker.buffers.get() else { return false };
        if !rest.put(&buffer.bytes()[taken..]) {
            return false;
        }
        buffer.truncate(taken);
        self.input = Some(rest);
        true
    }

    /// Counts as the client that a trusted peer's header names, until [`Client::give_back`].
    pub fn believe(&mut self, rule: &ClientAddress, request: &Request, head: &[u8]) {
        let fields = request.fields.iter().rev();
        let named = fields.filter(|field| field.name.of(head).eq_ignore_ascii_case(&rule.header));
        let values = named.map(|field| field.value.of(head));
        if let Some(address) = rule.find(self.address, values) {
            self.came.get_or_insert((self.address, self.vip));
            (self.address, self.named) = (address, true);
        }
    }

    /// The client as its connection to a server tells it. A header names the client of one request, and others
    /// may follow on the same connections.
    pub fn address_of_connection(&self) -> SocketAddr {
        match self.came {
            Some((address, _)) if self.named => address,
            _ => self.address,
        }
    }

    /// Counts as what routes have said of its address, until [`Client::give_back`].
    pub fn take_on(&mut self, said: &evenkeel_routes::Addresses) {
        if *said != evenkeel_routes::Addresses::default() {
            let before = self.address.ip();
            self.came.get_or_insert((self.address, self.vip));
            (self.address, self.vip) =
                (said.client(self.address, self.told), said.place(self.vip, self.told));
            self.named &= self.address.ip() == before;
        }
    }

    pub fn give_back(&mut self) {
        if let Some((address, vip)) = self.came.take() {
            (self.address, self.vip) = (address, vip);
            self.named = false;
        }
    }

    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() || self.over_tls { "https" } else { "http" }
    }

    /// This answer is the connection's last: the process drains, or the service was removed.
    pub fn must_close(&self, worker: &Worker) -> bool {
        worker.finishes() || self.service.gone.get()
    }
}

/// What a session is doing, for listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Free,
    Greeting,
    Reading,
    Queued,
    Connecting,
    Waiting,
    Answering,
    Relaying,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Free => "idle",
            State::Greeting => "greeting",
            State::Reading => "reading",
            State::Queued => "queued",
            State::Connecting => "connecting",
            State::Waiting => "waiting",
            State::Answering => "answering",
            State::Relaying => "relaying",
        }
    }
}

/// The part of a session that others see. The task owns the rest.
#[derive(Default)]
pub struct Session {
    pub task: Cell<u32>,
    /// It rests, and is not needed any more.
    pub is_over: Cell<bool>,
    pub state: Cell<State>,
    /// A connection is given with its count; a stream of one has none of its own.
    pub job: RefCell<Option<(Box<Client>, Option<Presence>)>>,
    /// The client as listings show it, while there is one.
    pub shown: RefCell<Option<Shown>>,
    pub server: RefCell<Option<Rc<super::ServerRuntime>>>,
    pub bytes_in: Cell<u64>,
    pub bytes_out: Cell<u64>,
    /// What passed before the request or the connection that the record at work is of.
    before: Cell<[u64; 2]>,
}

pub struct Shown {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    pub service: Rc<Service>,
    pub accepted_ms: u64,
    pub requests: u32,
    /// The task of the HTTP/2 connection that this is a stream of.
    pub stream_of: Option<u32>,
}

/// Memory that a session uses again for each request.
pub struct Scratch {
    pub request: Request,
    pub response: Response,
    /// An answer of this program's own, or another head that is sent as it is.
    pub head: Vec<u8>,
    pub record: Record,
    pub changes: Changes,
    pub counted: Counted,
    /// The request's head as it came, where routes of answers may ask for it.
    pub kept_head: Vec<u8>,
}

impl Scratch {
    pub fn new() -> Scratch {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        Scratch {
            request: Request::default(),
            response: Response::default(),
            head: Vec::new(),
            record: Record::new(nobody),
            changes: Changes::default(),
            counted: Counted::default(),
            kept_head: Vec::new(),
        }
    }
}

impl Scratch {
    /// Frees what heads are written into: the next one brings its own.
    pub fn hold_little(&mut self) {
        self.head = Vec::new();
    }

    /// Frees copies of heads that were longer than most are.
    pub fn hold_no_long_head(&mut self) {
        (self.head, self.kept_head) = (Vec::new(), Vec::new());
    }

    /// Frees everything, for a connection that has sessions of its own for its requests.
    pub fn hold_nothing(&mut self) {
        self.hold_little();
        self.kept_head = Vec::new();
        (self.request, self.response) = (Request::default(), Response::default());
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Session {
    pub fn show(&self, client: &Client) {
        *self.shown.borrow_mut() = Some(Shown {
            client: client.address,
            vip: client.vip,
            service: client.service.clone(),
            accepted_ms: client.accepted_ms,
            requests: client.requests,
            stream_of: match &client.link {
                Link::Stream(stream) => Some(stream.driver()),
                _ => None,
            },
        });
        self.passed(client);
    }

    /// Shows what has passed on the client's connection, up to now.
    pub fn passed(&self, client: &Client) {
        self.before.set([client.bytes_in, client.bytes_out]);
        self.bytes_in.set(client.bytes_in);
        self.bytes_out.set(client.bytes_out);
    }

    /// Shows what has passed with what `record` has counted: not part of the connection's own count yet.
    pub fn passes(&self, record: &Record) {
        let [bytes_in, bytes_out] = self.before.get();
        self.bytes_in.set(bytes_in + record.bytes_in);
        self.bytes_out.set(bytes_out + record.bytes_out);
    }

    fn hide(&self) {
        self.state.set(State::Free);
        *self.shown.borrow_mut() = None;
        *self.server.borrow_mut() = None;
        self.bytes_in.set(0);
        self.bytes_out.set(0);
        self.before.set([0; 2]);
    }
}

/// The life of a session's task: serve the client it is given, rest, serve the next.
pub async fn run(worker: &'static Worker, session: Rc<Session>) {
    let mut scratch = Box::new(Scratch::new());
    loop {
        let job = session.job.borrow_mut().take();
        let Some((client, presence)) = job else {
            if session.is_over.get() {
                return;
            }
            let _ = worker.reactor.wait(crate::reactor::NEVER).await;
            continue;
        };
        session.show(&client);
        session.state.set(State::Reading);
        let occupied = Occupied::new(worker, &session, client.h2);
        let mode = client.service.view().spec.service.mode;
        let greeted = super::greet::greet(worker, &session, &mut scratch, client).await;
        let parked = match (greeted, mode) {
            (None, _) => None,
            (Some(client), Mode::Http) if !client.h2 && client.tls.as_ref().is_some_and(|t| t.h2) => {
                scratch.hold_nothing();
                Box::pin(connection::serve(worker, &session, client, None)).await;
                None
            }
            (Some(client), Mode::Http) => super::client::serve(worker, &session, &mut scratch, client).await,
            // No listener is opened for the modes of layer 4.
            (Some(client), _) => {
                super::tcp::serve(worker, &session, &mut scratch, client).await;
                None
            }
        };
        drop(occupied);
        // Whatever is not parked here has ended, and is no longer counted.
        if let (Some(client), Some(presence)) = (parked, presence) {
            worker.park(client, presence);
        }
        if !worker.release_session(&session) {
            return;
        }
    }
}

/// A session at work; its end, by a panic too, leaves nothing of the client to see.
struct Occupied<'a> {
    worker: &'static Worker,
    session: &'a Session,
    /// What it counts for. Sessions of streams are counted by their streams.
    memory: usize,
}

impl<'a> Occupied<'a> {
    fn new(worker: &'static Worker, session: &'a Session, is_stream: bool) -> Occupied<'a> {
        let memory = if is_stream { 0 } else { SESSION_MEMORY };
        worker.buffers.memory().take(memory);
        Occupied { worker, session, memory }
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.worker.buffers.memory().give_back(self.memory);
        self.session.hide();
        if std::thread::panicking() {
            self.worker.forget_session(self.session);
        }
    }
}
