//! The link. Each node dials the other and sends on that connection; acknowledgements come back
//! on it. What could not be sent is dropped with the connection: a new one begins with everything.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tracing::{info, warn};

use crate::code::Code;
use crate::frame::{self, Frame, FrameError, LONGEST};
use crate::identity::{Expected, Identity};

const HELLO: u8 = 0;
const JOIN: u8 = 1;
const JOINED: u8 = 2;
/// The code is right, and this node is not the one that was invited: why.
const NOT_ADMITTED: u8 = 3;
/// From here on the frames are the users'.
pub const FIRST_KIND: u8 = 16;
const RETRY: Duration = Duration::from_millis(200);
const CONNECT: Duration = Duration::from_secs(3);
/// A word at least so often, so that a dead link shows.
const IDLE: Duration = Duration::from_millis(500);
const SILENCE: Duration = Duration::from_secs(3);
/// How soon this side ends a connection that it no longer wants.
const WATCH: Duration = Duration::from_millis(250);
/// Bytes that may wait to be sent: the largest tables fit. What is more ends the connection, and the
/// next one begins with everything.
const MOST_WAITING: usize = 256 << 20;
/// Bytes of a stranger's frame.
const STRANGER: usize = 4096;

pub struct LinkOptions {
    pub listen: SocketAddr,
    pub peer: SocketAddr,
    pub identity: Identity,
    /// Its very certificate, once the nodes have joined.
    pub peer_certificate: Option<CertificateDer<'static>>,
    pub program: String,
}

/// What happens on the link.
#[derive(Debug)]
pub enum Event {
    /// Frames may be sent; what was sent before may not have come.
    Up {
        program: String,
    },
    Down(String),
    Frame(Frame),
    /// A node has joined by a code: its certificate is the peer's from now on.
    Joined {
        certificate: CertificateDer<'static>,
        name: String,
    },
}

/// Numbers for people.
#[derive(Debug, Default)]
pub struct LinkState {
    pub up: AtomicBool,
    pub sent: AtomicU64,
    pub acknowledged: AtomicU64,
    pub received: AtomicU64,
    /// When the oldest frame without an answer was sent, in milliseconds since the start; 0 is none.
    pub oldest_ms: AtomicU64,
    pub detail: Mutex<String>,
}

impl LinkState {
    fn say(&self, detail: impl Into<String>) {
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = detail.into();
    }

    pub fn detail(&self) -> String {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn waiting(&self) -> u64 {
        self.sent.load(Relaxed).saturating_sub(self.acknowledged.load(Relaxed))
    }
}

/// Whether a node may join; else what is to be done.
pub type Admits = dyn Fn(&Applicant) -> Result<(), String> + Send;

/// An invitation that is open.
pub struct Invite {
    pub secret: [u8; 16],
    pub until: Instant,
    /// Whether it is for this very node; else what is to be done. It stays open then.
    pub admits: Box<Admits>,
    /// What the one who joins is told.
    pub answer: Joined,
}

/// What a node that joins is told: it holds the pair's key, so that it is never printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Joined {
    pub certificate: String,
    /// The daemon's own matters.
    pub body: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct Hello {
    version: u32,
    oldest: u32,
    program: String,
}

/// What a node that would join says of itself. One of an older version says its name alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Applicant {
    pub name: String,
    /// Those of its machine; none where they are too many.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Where its end of the link listens.
    #[serde(default)]
    pub port: Option<u16>,
    /// Where it will look for the node that it joins.
    #[serde(default)]
    pub peer: Option<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
struct JoinRequest {
    secret: String,
    #[serde(flatten)]
    applicant: Applicant,
}

pub struct Link {
    frames: UnboundedSender<Frame>,
    pub state: Arc<LinkState>,
    shared: Arc<LinkShared>,
}

struct LinkShared {
    options: LinkOptions,
    peer: Mutex<Option<CertificateDer<'static>>>,
    invite: Mutex<Option<Invite>>,
    events: UnboundedSender<Event>,
    state: Arc<LinkState>,
    stopped: AtomicBool,
    started: Instant,
    /// Bytes of frames in the queue.
    waiting: AtomicUsize,
    /// More than may wait was to be sent.
    overflowed: AtomicBool,
}

impl LinkShared {
    /// A frame has left the queue.
    fn taken(&self, frame: &Frame) {
        self.waiting.fetch_sub(size(frame), Relaxed);
    }
}

/// What a frame takes of the room in the queue.
fn size(frame: &Frame) -> usize {
    frame.body.len() + size_of::<Frame>()
}

impl Link {
    /// Must be called within a tokio runtime.
    pub fn start(options: LinkOptions, events: UnboundedSender<Event>) -> std::io::Result<Link> {
        let state = Arc::new(LinkState::default());
        let shared = Arc::new(LinkShared {
            peer: Mutex::new(options.peer_certificate.clone()),
            options,
            invite: Mutex::new(None),
            events,
            state: state.clone(),
            stopped: AtomicBool::new(false),
            started: Instant::now(),
            waiting: AtomicUsize::new(0),
            overflowed: AtomicBool::new(false),
        });
        let (frames, queue) = unbounded_channel();
        tokio::spawn(accept(shared.clone()));
        tokio::spawn(dial(shared.clone(), queue));
        Ok(Link { frames, state, shared })
    }

    /// Queues a frame. Never waits; where too much waits already, the connection ends.
    pub fn send(&self, frame: Frame) {
        let size = size(&frame);
        let before = self.shared.waiting.fetch_add(size, Relaxed);
        if before + size > MOST_WAITING {
            self.shared.waiting.fetch_sub(size, Relaxed);
            self.shared.overflowed.store(true, Relaxed);
        } else if self.frames.send(frame).is_err() {
            self.shared.waiting.fetch_sub(size, Relaxed);
        }
    }

    pub fn set_peer(&self, certificate: CertificateDer<'static>) {
        *lock(&self.shared.peer) = Some(certificate);
    }

    pub fn invite(&self, invite: Invite) {
        *lock(&self.shared.invite) = Some(invite);
    }

    /// Changes what is answered to the node that is invited, where one is.
    pub fn change_invitation(&self, change: impl FnOnce(&mut Joined)) {
        if let Some(invite) = lock(&self.shared.invite).as_mut() {
            change(&mut invite.answer);
        }
    }

    pub fn is_up(&self) -> bool {
        self.state.up.load(Relaxed)
    }

    /// How long the oldest frame waits for its answer.
    pub fn lag(&self) -> Option<Duration> {
        let oldest = self.state.oldest_ms.load(Relaxed);
        let now = self.shared.started.elapsed().as_millis() as u64;
        self.is_up().then(|| Duration::from_millis(if oldest == 0 { 0 } else { now.saturating_sub(oldest) }))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What went wrong with TLS, for people. The technical text stays at the end.
fn in_words(error: &std::io::Error) -> String {
    use rustls::{AlertDescription as Alert, Error};
    let Some(cause) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) else {
        return error.to_string();
    };
    let words = match cause {
        Error::AlertReceived(
            Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateRequired
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::HandshakeFailure
            | Alert::UnknownCA,
        ) => {
            "it does not know this node: make the pair again (`evenkeel pair invite` there, `evenkeel pair join` here)"
        }
        Error::General(_) | Error::InvalidCertificate(_) => {
            "it is not the node that this one has joined: make the pair again (`evenkeel pair invite`, `evenkeel pair join`)"
        }
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::PeerIncompatible(_) => {
            "what answers there is no Evenkeel node"
        }
        _ => "the conversation with it could not be secured",
    };
    format!("{words} ({cause})")
}

/// With TLS 1.3 a certificate that the other end refuses shows when it is first heard from.
fn frame_in_words(error: &FrameError) -> String {
    match error {
        FrameError::Io(error) => in_words(error),
        other => other.to_string(),
    }
}

// The way out

async fn dial(shared: Arc<LinkShared>, mut queue: UnboundedReceiver<Frame>) {
    let mut said = String::new();
    while !shared.stopped.load(Relaxed) {
        let known = lock(&shared.peer).clone();
        let ended = match known {
            Some(certificate) => speak(&shared, &mut queue, certificate).await,
            None => Err("the nodes have not joined yet".into()),
        };
        let why = ended.err().unwrap_or_else(|| "the peer has closed the link".into());
        if shared.state.up.swap(false, Relaxed) {
            warn!(why, "the link to the peer is down");
            let _ = shared.events.send(Event::Down(why.clone()));
        } else if why != said {
            info!(why, "the link to the peer is not up");
        }
        shared.state.say(why.clone());
        said = why;
        // What was meant for that connection is worth nothing on the next.
        while let Ok(frame) = queue.try_recv() {
            shared.taken(&frame);
        }
        if queue.is_closed() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn connect(
    shared: &LinkShared,
    certificate: CertificateDer<'static>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let config =
        shared.options.identity.client(Expected::Certificate(certificate)).map_err(|e| e.to_string())?;
    let peer = shared.options.peer;
    let opening = async {
        let stream = TcpStream::connect(peer).await.map_err(|e| format!("{peer}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let name = ServerName::try_from("evenkeel-pair").map_err(|e| e.to_string())?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|e| format!("{peer}: {}", in_words(&e)))
    };
    tokio::time::timeout(CONNECT, opening).await.map_err(|_| format!("{peer} does not answer"))?
}

async fn speak(
    shared: &LinkShared,
    queue: &mut UnboundedReceiver<Frame>,
    certificate: CertificateDer<'static>,
) -> Result<(), String> {
    let stream = connect(shared, certificate).await?;
    let (mut reader, writer) = tokio::io::split(stream);
    let mut writer = BufWriter::new(writer);
    let program = shared.options.program.clone();
    let hello = Hello { version: crate::VERSION, oldest: crate::OLDEST_VERSION, program };
    let body = serde_json::to_vec(&hello).map_err(|e| e.to_string())?;
    let io = |e: std::io::Error| e.to_string();
    frame::write(&mut writer, &Frame { kind: HELLO, body }).await.map_err(io)?;
    writer.flush().await.map_err(io)?;
    let answer = tokio::time::timeout(CONNECT, frame::read(&mut reader, STRANGER)).await;
    let answer = answer.map_err(|_| "the peer says nothing")?.map_err(|e| frame_in_words(&e))?;
    let theirs: Hello =
        serde_json::from_slice(&answer.body).map_err(|_| "the peer does not say its version")?;
    if theirs.version < crate::OLDEST_VERSION || theirs.oldest > crate::VERSION {
        return Err(format!(
            "the peer ({}) speaks versions {} to {} of the link, this node {} to {}",
            theirs.program,
            theirs.oldest,
            theirs.version,
            crate::OLDEST_VERSION,
            crate::VERSION
        ));
    }
    let state = &shared.state;
    state.sent.store(0, Relaxed);
    state.acknowledged.store(0, Relaxed);
    state.oldest_ms.store(0, Relaxed);
    state.up.store(true, Relaxed);
    state.say(format!("with {}", theirs.program));
    info!(peer = theirs.program, "the link to the peer is up");
    let _ = shared.events.send(Event::Up { program: theirs.program });
    shared.overflowed.store(false, Relaxed);
    // Each waits for itself: a peer that takes nothing holds up the writer, and nobody else.
    tokio::select! {
        ended = write_frames(shared, queue, writer) => ended,
        ended = hear_acknowledgements(state, reader) => ended,
        ended = watch(shared) => ended,
    }
}

/// Sends what is queued, and a word now and then.
async fn write_frames(
    shared: &LinkShared,
    queue: &mut UnboundedReceiver<Frame>,
    mut writer: BufWriter<impl AsyncWrite + Unpin>,
) -> Result<(), String> {
    let io = |e: std::io::Error| e.to_string();
    let state = &shared.state;
    let mut pulse = tokio::time::interval(IDLE);
    pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            frame = queue.recv() => {
                let Some(frame) = frame else { return Ok(()) };
                let now = shared.started.elapsed().as_millis() as u64;
                let _ = state.oldest_ms.compare_exchange(0, now.max(1), Relaxed, Relaxed);
                // What waits already goes along.
                let mut next = Some(frame);
                while let Some(frame) = next {
                    shared.taken(&frame);
                    frame::write(&mut writer, &frame).await.map_err(io)?;
                    state.sent.fetch_add(1, Relaxed);
                    next = queue.try_recv().ok();
                }
            }
            _ = pulse.tick() => {
                frame::write(&mut writer, &Frame { kind: HELLO, body: Vec::new() }).await.map_err(io)?;
            }
        }
        writer.flush().await.map_err(io)?;
    }
}

/// Hears what has come to the peer; ends when it is silent, whatever the writer does.
async fn hear_acknowledgements(state: &LinkState, mut reader: impl AsyncRead + Unpin) -> Result<(), String> {
    let mut acknowledged = [0; 8];
    loop {
        let read = tokio::time::timeout(SILENCE, reader.read_exact(&mut acknowledged)).await;
        match read.map_err(|_| "the peer is silent on the link")? {
            Ok(_) => {}
            // One that is killed says no goodbye.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(in_words(&error)),
        }
        state.acknowledged.store(u64::from_be_bytes(acknowledged), Relaxed);
        if state.waiting() == 0 {
            state.oldest_ms.store(0, Relaxed);
        }
    }
}

/// What ends a connection from this side.
async fn watch(shared: &LinkShared) -> Result<(), String> {
    let mut pulse = tokio::time::interval(WATCH);
    loop {
        pulse.tick().await;
        if shared.stopped.load(Relaxed) {
            return Ok(());
        }
        if shared.overflowed.load(Relaxed) {
            return Err("the peer takes less than there is to tell".into());
        }
        if (*lock(&shared.peer)).is_none() {
            return Err("the nodes have parted".into());
        }
    }
}

// The way in

async fn accept(shared: Arc<LinkShared>) {
    let config = match shared.options.identity.server() {
        Ok(config) => Arc::new(config),
        Err(error) => return warn!(%error, "the link cannot be listened on"),
    };
    let mut said = false;
    loop {
        let listener = match open(shared.options.listen, shared.options.peer) {
            Ok(listener) => listener,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    warn!(address = %shared.options.listen, %error, "the link cannot be listened on; trying again");
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        while !shared.stopped.load(Relaxed) {
            let accepted = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
            if matches!(accepted, Ok(Err(_))) {
                // Out of file descriptors: the client still waits, and would be told of at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if let Ok(Ok((stream, from))) = accepted {
                let (shared, acceptor) = (shared.clone(), TlsAcceptor::from(config.clone()));
                tokio::spawn(async move {
                    if let Err(why) = listen(&shared, acceptor, stream).await {
                        tracing::debug!(%from, why, "a connection to the link has ended");
                    }
                });
            }
        }
        return;
    }
}

fn open(listen: SocketAddr, peer: SocketAddr) -> std::io::Result<TcpListener> {
    use tokio::net::TcpSocket;
    let listen = match (listen.is_ipv4(), peer.is_ipv4()) {
        (true, false) => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), listen.port()),
        _ => listen,
    };
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // The next process of this node opens it while this one still has it.
    socket.set_reuseport(true)?;
    socket.bind(listen)?;
    socket.listen(16)
}

async fn listen(shared: &LinkShared, acceptor: TlsAcceptor, stream: TcpStream) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let handshake = tokio::time::timeout(CONNECT, acceptor.accept(stream)).await;
    let mut stream = handshake.map_err(|_| "no handshake")?.map_err(|e| in_words(&e))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).cloned();
    let certificate = certificate.ok_or("no certificate")?.into_owned();
    let known = lock(&shared.peer).clone();
    let first = tokio::time::timeout(CONNECT, frame::read(&mut stream, STRANGER)).await;
    let first = first.map_err(|_| "silent")?.map_err(|e| frame_in_words(&e))?;
    // The peer itself joins anew where it has lost the pair's key.
    if first.kind == JOIN || known.as_ref() != Some(&certificate) {
        return join_request(shared, &mut stream, certificate, &first).await;
    }
    let io = |e: std::io::Error| e.to_string();
    let (mut reader, mut writer) = tokio::io::split(stream);
    if first.kind != HELLO {
        return Err("it does not say hello".into());
    }
    let program = shared.options.program.clone();
    let hello = Hello { version: crate::VERSION, oldest: crate::OLDEST_VERSION, program };
    let body = serde_json::to_vec(&hello).map_err(|e| e.to_string())?;
    frame::write(&mut writer, &Frame { kind: HELLO, body }).await.map_err(io)?;
    writer.flush().await.map_err(io)?;
    let mut count = 0u64;
    loop {
        let read = tokio::time::timeout(SILENCE, frame::read(&mut reader, LONGEST)).await;
        let frame = read.map_err(|_| "silent")?.map_err(|e| e.to_string())?;
        if shared.stopped.load(Relaxed) || *lock(&shared.peer) != known {
            return Ok(());
        }
        if frame.kind >= FIRST_KIND {
            count += 1;
            shared.state.received.fetch_add(1, Relaxed);
            if shared.events.send(Event::Frame(frame)).is_err() {
                return Ok(());
            }
        }
        let acknowledge = async {
            writer.write_all(&count.to_be_bytes()).await?;
            writer.flush().await
        };
        tokio::time::timeout(SILENCE, acknowledge).await.map_err(|_| "it takes no answers")?.map_err(io)?;
    }
}

/// Somebody who is not the peer may say one thing: that it was invited.
async fn join_request(
    shared: &LinkShared,
    stream: &mut tokio_rustls::server::TlsStream<TcpStream>,
    certificate: CertificateDer<'static>,
    frame: &Frame,
) -> Result<(), String> {
    if frame.kind != JOIN {
        return Err("a stranger".into());
    }
    let request: JoinRequest = serde_json::from_slice(&frame.body).map_err(|e| e.to_string())?;
    let answer = {
        let mut place = lock(&shared.invite);
        let Some(invite) = place.as_ref().filter(|i| Instant::now() < i.until) else {
            return Err("nobody is invited".into());
        };
        let right = aws_lc_rs::constant_time::verify_slices_are_equal(
            hex(&invite.secret).as_bytes(),
            request.secret.as_bytes(),
        );
        if right.is_err() {
            // Of 128 random bits nothing is guessed while an invitation lasts; whoever sends wrong
            // codes must not end it for the node that was invited.
            return Err("a wrong code".into());
        }
        let answer = (invite.admits)(&request.applicant).map(|()| invite.answer.clone());
        if answer.is_ok() {
            *place = None;
        }
        answer
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => {
            let refused = Frame { kind: NOT_ADMITTED, body: why.clone().into_bytes() };
            frame::write(stream, &refused).await.map_err(|e| e.to_string())?;
            stream.flush().await.map_err(|e| e.to_string())?;
            let _ = stream.shutdown().await;
            return Err(why);
        }
    };
    let body = serde_json::to_vec(&answer).map_err(|e| e.to_string())?;
    *lock(&shared.peer) = Some(certificate.clone());
    let _ = shared.events.send(Event::Joined { certificate, name: request.applicant.name });
    frame::write(stream, &Frame { kind: JOINED, body }).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let _ = stream.shutdown().await;
    Ok(())
}

/// Joins the node that made a code.
pub async fn join(identity: &Identity, code: &Code, applicant: &Applicant) -> Result<Joined, String> {
    let config = identity.client(Expected::Fingerprint(code.fingerprint)).map_err(|e| e.to_string())?;
    let address = code.address;
    if code.fingerprint == crate::fingerprint(&identity.certificate) {
        return Err("this is this node's own code: run `evenkeel pair join` on the other node".into());
    }
    let joining = async {
        let stream = TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
        let server = ServerName::try_from("evenkeel-pair").map_err(|e| e.to_string())?;
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(server, stream)
            .await
            .map_err(|e| format!("{address}: {}", in_words(&e)))?;
        let request = JoinRequest { secret: hex(&code.secret), applicant: applicant.clone() };
        let body = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
        frame::write(&mut stream, &Frame { kind: JOIN, body }).await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        let refused = "the other node refused: the code has been used, is older than its time, or is wrong";
        let answer = frame::read(&mut stream, LONGEST).await.map_err(|_| refused.to_owned())?;
        if answer.kind == NOT_ADMITTED {
            let why = String::from_utf8_lossy(&answer.body[..answer.body.len().min(STRANGER)]).into_owned();
            return Err(format!("the other node refused: {why}"));
        }
        serde_json::from_slice::<Joined>(&answer.body).map_err(|e| e.to_string())
    };
    tokio::time::timeout(CONNECT * 3, joining).await.map_err(|_| format!("{address} does not answer"))?
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Far {
        acceptor: TlsAcceptor,
        listener: TcpListener,
    }

    /// A link whose peer is a test.
    fn link() -> (Link, UnboundedReceiver<Event>, Far) {
        let identity = |name: &str| {
            let pem = Identity::make(name).unwrap();
            Identity::read(&pem, std::path::Path::new("test")).unwrap()
        };
        let (near, far) = (identity("near"), identity("far"));
        let acceptor = TlsAcceptor::from(Arc::new(far.server().unwrap()));
        let listener = open("127.0.0.1:0".parse().unwrap(), "127.0.0.1:1".parse().unwrap()).unwrap();
        let (events, inbox) = unbounded_channel();
        let options = LinkOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            peer: listener.local_addr().unwrap(),
            identity: near,
            peer_certificate: Some(far.certificate.clone()),
            program: "near".into(),
        };
        (Link::start(options, events).unwrap(), inbox, Far { acceptor, listener })
    }

    impl Far {
        async fn accept(&self) -> tokio_rustls::server::TlsStream<TcpStream> {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut stream = self.acceptor.accept(stream).await.unwrap();
            assert_eq!(frame::read(&mut stream, STRANGER).await.unwrap().kind, HELLO);
            let hello = Hello { version: crate::VERSION, oldest: crate::VERSION, program: "far".into() };
            let body = serde_json::to_vec(&hello).unwrap();
            frame::write(&mut stream, &Frame { kind: HELLO, body }).await.unwrap();
            stream.flush().await.unwrap();
            stream
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test hangs");
        });
    }

    #[test]
    fn trouble_with_tls_is_told_in_words() {
        use rustls::{AlertDescription, Error};
        let said = |error: Error| in_words(&std::io::Error::other(error));
        let unknown = said(Error::AlertReceived(AlertDescription::UnknownCA));
        assert!(
            unknown.starts_with("it does not know this node") && unknown.contains("pair invite"),
            "{unknown}"
        );
        assert!(said(Error::General("this is not the peer's certificate".into())).contains("has joined"));
        assert!(
            said(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)).contains("no Evenkeel")
        );
        assert_eq!(in_words(&std::io::Error::other("plain")), "plain");
    }

    #[test]
    fn a_peer_that_stops_reading_is_found_silent() {
        run(async {
            let (link, mut events, far) = link();
            let _stream = far.accept().await;
            assert!(matches!(events.recv().await, Some(Event::Up { .. })));
            // More than all buffers on the way hold.
            for _ in 0..64 {
                link.send(Frame { kind: FIRST_KIND, body: vec![0; 1 << 20] });
            }
            match events.recv().await {
                Some(Event::Down(why)) => assert!(why.contains("silent"), "{why}"),
                other => panic!("{other:?}"),
            }
            assert!(!link.is_up());
            // The next connection begins with an empty queue.
            let mut stream = far.accept().await;
            assert!(matches!(events.recv().await, Some(Event::Up { .. })));
            link.send(Frame { kind: FIRST_KIND, body: b"anew".to_vec() });
            let came = loop {
                let frame = frame::read(&mut stream, LONGEST).await.unwrap();
                if frame.kind >= FIRST_KIND {
                    break frame;
                }
            };
            assert_eq!(came.body, b"anew");
            assert_eq!(link.shared.waiting.load(Relaxed), 0);
        });
    }

    #[test]
    fn more_than_may_wait_ends_the_connection() {
        run(async {
            let (link, mut events, far) = link();
            let _stream = far.accept().await;
            assert!(matches!(events.recv().await, Some(Event::Up { .. })));
            for _ in 0..9 {
                link.send(Frame { kind: FIRST_KIND, body: vec![0; MOST_WAITING / 8] });
                assert!(link.shared.waiting.load(Relaxed) <= MOST_WAITING);
            }
            match events.recv().await {
                Some(Event::Down(why)) => assert!(why.contains("takes less"), "{why}"),
                other => panic!("{other:?}"),
            }
        });
    }

    #[test]
    fn the_own_code_is_refused() {
        run(async {
            let pem = Identity::make("near").unwrap();
            let identity = Identity::read(&pem, std::path::Path::new("test")).unwrap();
            let fingerprint = crate::fingerprint(&identity.certificate);
            let code = Code { address: "127.0.0.1:1".parse().unwrap(), secret: [1; 16], fingerprint };
            let refused = join(&identity, &code, &Applicant::default()).await.err().unwrap();
            assert!(refused.contains("own code"), "{refused}");
        });
    }
}
