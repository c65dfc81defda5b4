//! Opens a connection to a real server: from which address, with which header first, and TLS.

use std::net::SocketAddr;
use std::rc::Rc;

use evenkeel_model::{ProxyVersion, SniFrom, SourceAddress};
use evenkeel_routes::{Changes, View};
use evenkeel_rules::Captures;
use rustix::io::Errno;

use super::ServiceView;
use super::facts::RequestFacts;
use super::failure::Failure;
use super::flow::Outgoing;
use super::pick::Lease;
use super::session::Client;
use crate::buffer::Buffer;
use crate::h1::request::Request;
use crate::h2::connection::Upstream;
use crate::link::Link;
use crate::proxy_header::{Addresses, ClientTls, add_value, write_v1, write_v2};
use crate::reactor::{Io, Origin, Sock, Stop};
use crate::spec::PoolSpec;
use crate::tls::{HandshakeError, TlsLink};
use crate::worker::Worker;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Refused,
    Unreachable,
    /// This machine has no descriptor, port or memory left: no fault of the server's.
    Local,
    TimedOut,
    Killed,
    /// The server was there, but TLS with it came to nothing.
    Handshake,
}

fn not_begun(error: std::io::Error) -> Trouble {
    let local = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    match error.raw_os_error() {
        Some(raw) if local.iter().any(|e| e.raw_os_error() == raw) => Trouble::Local,
        _ => Trouble::Unreachable,
    }
}

/// What there is for a request before a connection is opened.
pub struct Kept {
    /// An open connection, with the number of requests it has carried.
    pub reused: Option<(Link, u32)>,
    /// The connection of the request is its client's alone.
    pub is_own: bool,
    /// The server knows the client by it.
    pub knows_client: bool,
}

/// Takes a connection that is open already, where one fits.
pub fn kept(
    worker: &'static Worker,
    client: &mut Client,
    lease: &Lease,
    outgoing: &Outgoing,
    may_reuse: bool,
) -> Kept {
    let shares = lease.shares_connections();
    let once = !outgoing.idempotent;
    let name = name_asked(client, lease, outgoing.buffer.bytes());
    // A server that was told other values of the client gets another connection.
    let may_own = may_reuse && client.told_values == client.header_values;
    let own = client.own.take().filter(|own| may_own && own.server == lease.server.id);
    client.told_values.clone_from(&client.header_values);
    let knew_client = own.as_ref().is_some_and(|own| own.knows_client);
    let own = own.and_then(|own| own.take(once));
    let own = own.filter(|(link, _)| link.name() == name.as_deref());
    Kept {
        // A connection in place of one that has ended knows nobody.
        knows_client: own.is_some() && knew_client || outgoing.names_client,
        is_own: own.is_some() || !shares || outgoing.names_client,
        reused: match own {
            Some(own) => Some(own),
            None if may_reuse && shares => {
                worker.take_idle(&lease.server, client.address, name.as_deref(), once)
            }
            None => None,
        },
    }
}

/// A connection for a request: how many requests it has carried, and whether it is there already.
pub async fn new_connection(
    worker: &'static Worker,
    client: &Client,
    lease: &Lease,
    request: &Buffer,
    connect_ms: u64,
    may_share: bool,
) -> Result<(Link, u32, bool), Failure> {
    if lease.pool().is_some_and(|spec| lease.server.speaks_h2(&spec.pool)) {
        let (link, kept) = stream(worker, client, lease, request, connect_ms, may_share).await?;
        return Ok((link, u32::from(kept), true));
    }
    lease.server.counters().connects.add(1);
    match is_plain(lease) {
        true => Ok((Link::Plain(begin(worker, client, lease)?), 0, false)),
        false => Ok((open(worker, client, lease, Some(request), connect_ms).await?, 0, true)),
    }
}

/// Whether the first bytes of a request can go out at once, before the connection is known to
/// be up.
pub fn is_plain(lease: &Lease) -> bool {
    lease.server.tls().is_none()
        && lease.pool().is_none_or(|spec| lease.server.proxy_version(&spec.pool).is_none())
}

/// Whether a field asks for, or gives, a name that a server keeps for the whole connection: NTLM,
/// and Negotiate, which may be NTLM inside. On such a connection nobody else's request may go.
pub fn is_named_by(field: &[u8], name: &[u8], value: &[u8]) -> bool {
    let scheme = |word: &[u8]| value.get(..word.len()).is_some_and(|v| v.eq_ignore_ascii_case(word));
    field.len() == name.len() && field.eq_ignore_ascii_case(name) && (scheme(b"ntlm") || scheme(b"negotiate"))
}

/// Notes the values that a PROXY header of this request, or connection, will have.
pub fn note_values(
    worker: &'static Worker,
    view: &ServiceView,
    client: &mut Client,
    spec: &PoolSpec,
    request: Option<(&Request, &[u8])>,
    changes: &Changes,
) {
    client.header_values.clear();
    if spec.pool.proxy_values.is_empty() {
        return;
    }
    let mut values = Vec::new();
    let mut text = Vec::new();
    let asked = RequestFacts { worker, view, client, request, hello: None, answer: None };
    let facts = View { source: &asked, routes: &*view.spec.routes, changes };
    for (kind, template) in &spec.pool.proxy_values {
        text.clear();
        if template.fill(&facts, &Captures::default(), &mut text) {
            add_value(*kind, &text, &mut values);
        }
    }
    client.header_values = values;
}

/// Begins a connection to the server of a lease.
pub fn begin(worker: &Worker, client: &Client, lease: &Lease) -> Result<Sock, Trouble> {
    let sock = match begin_from(worker, client, lease) {
        // One that only waits is worth less than one that is wanted now.
        Err(Trouble::Local) if worker.close_some_idle_servers() => begin_from(worker, client, lease),
        begun => begun,
    }?;
    if let Some(spec) = lease.pool() {
        spec.pool.tcp_keep_alive.iter().for_each(|how| sock.keep_alive(how));
        sock.user_timeout(spec.pool.tcp_user_timeout);
    }
    Ok(sock)
}

/// The same, from the address that its pool says.
fn begin_from(worker: &Worker, client: &Client, lease: &Lease) -> Result<Sock, Trouble> {
    let address = lease.server.address_for(client.vip);
    let Some(spec) = lease.pool() else {
        return Sock::connect(worker.reactor, address).map_err(not_begun);
    };
    let origin = match lease.server.source().unwrap_or(spec.pool.source) {
        SourceAddress::Own if spec.pool.source_interface.is_none() => {
            return Sock::connect(worker.reactor, address).map_err(not_begun);
        }
        SourceAddress::Own => Origin { address: None, foreign: false },
        SourceAddress::Fixed(ip) => Origin { address: Some(SocketAddr::new(ip, 0)), foreign: false },
        SourceAddress::Client => Origin { address: Some(own_address(client)), foreign: true },
    };
    let interface = spec.pool.source_interface.as_deref();
    Sock::connect_from(worker.reactor, address, origin, interface).map_err(not_begun)
}

/// The client's own address, for a server that sees it.
fn own_address(client: &Client) -> SocketAddr {
    let address = client.address_of_connection();
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A connection that is up, with everything said and agreed that comes before the first byte. It holds
/// much, and few requests wait for one: a session is the smaller for it. `request` is what goes out first; in
/// mode tcp there is none.
pub async fn open(
    worker: &Worker,
    client: &Client,
    lease: &Lease,
    request: Option<&Buffer>,
    timeout_ms: u64,
) -> Result<Link, Trouble> {
    Box::pin(agree(worker, client, lease, request, timeout_ms)).await
}

/// The name that a request is for, where its server is asked for that over TLS. `head` is the request as it
/// goes out; empty in mode tcp.
pub fn name_asked(client: &Client, lease: &Lease, head: &[u8]) -> Option<Box<str>> {
    let name = match lease.server.tls()?.name_from()? {
        SniFrom::Host => std::str::from_utf8(evenkeel_routes::without_port(host_of(head))).ok()?,
        SniFrom::ClientSni => client.tls.as_ref()?.sni.as_deref()?,
    };
    (!name.is_empty()).then(|| name.to_ascii_lowercase().into())
}

/// The value of `Host` in a head of HTTP/1.
fn host_of(head: &[u8]) -> &[u8] {
    let lines = head.split(|byte| *byte == b'\n').skip(1).take_while(|line| line.len() > 1);
    let mut values = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(b"host:".len())?;
        name.eq_ignore_ascii_case(b"host:").then(|| value.trim_ascii())
    });
    values.next().unwrap_or_default()
}

async fn agree(
    worker: &Worker,
    client: &Client,
    lease: &Lease,
    request: Option<&Buffer>,
    timeout_ms: u64,
) -> Result<Link, Trouble> {
    let deadline_ms = worker.reactor.now_ms() + timeout_ms;
    let sock = begin(worker, client, lease)?;
    sock.expect_connect(false);
    up(worker, &sock, deadline_ms).await?;
    let Some(spec) = lease.pool() else { return Ok(Link::Plain(sock)) };
    if let Some(version) = lease.server.proxy_version(&spec.pool) {
        introduce(worker, client, &sock, version, deadline_ms).await?;
    }
    let Some(tls) = lease.server.tls() else { return Ok(Link::Plain(sock)) };
    let name = name_asked(client, lease, request.map_or(&[], Buffer::bytes));
    let connection = tls.connection(lease.server.address.ip(), name.as_deref());
    let connection = connection.map_err(|_| Trouble::Handshake)?;
    match TlsLink::handshake(worker.reactor, sock, connection, deadline_ms).await {
        Ok(mut link) => {
            link.for_name(name);
            Ok(Link::Tls(Box::new(link)))
        }
        Err((_, error)) => Err(after_handshake(lease, error)),
    }
}

/// Connections of one server, in one event loop, that wait for requests of their names over HTTP/2: clients say
/// which names those are.
const NAMED_AT_MOST: usize = 32;

/// A stream to a server that speaks HTTP/2; the flag says that its connection was open before.
pub async fn stream(
    worker: &'static Worker,
    client: &Client,
    lease: &Lease,
    request: &Buffer,
    timeout_ms: u64,
    may_reuse: bool,
) -> Result<(Link, bool), Trouble> {
    let shares = lease.shares_connections();
    let head_size = client.service.view().spec.service.head_size;
    if may_reuse && shares {
        let mut known = lease.server.upstreams.borrow_mut();
        known.retain(|upstream| !upstream.is_over());
        let name = name_asked(client, lease, request.bytes());
        let fits =
            |upstream: &&Rc<Upstream>| upstream.name() == name.as_deref() && upstream.takes_heads(head_size);
        let mut fitting = known.iter().filter(fits);
        if let Some(link) = fitting.find_map(|upstream| upstream.open()) {
            return Ok((link, true));
        }
    }
    lease.server.counters().connects.add(1);
    let link = open(worker, client, lease, Some(request), timeout_ms).await?;
    if link.tls().is_some_and(|tls| !tls.facts().h2) {
        lease.handshake_failed("the server does not speak HTTP/2".to_owned());
        return Err(Trouble::Handshake);
    }
    let upstream = Upstream::start(worker, link, head_size);
    let stream = upstream.open().ok_or(Trouble::Unreachable)?;
    let mut known = lease.server.upstreams.borrow_mut();
    if shares && (upstream.name().is_none() || known.len() < NAMED_AT_MOST) {
        upstream.keep();
        known.push(upstream);
    }
    Ok((stream, false))
}

/// Says who the client is.
async fn introduce(
    worker: &Worker,
    client: &Client,
    sock: &Sock,
    version: ProxyVersion,
    deadline_ms: u64,
) -> Result<(), Trouble> {
    let mut header = Vec::with_capacity(128);
    let addresses = Addresses { source: client.address_of_connection(), destination: client.vip };
    match version {
        ProxyVersion::V1 => write_v1(&addresses, &mut header),
        ProxyVersion::V2 => {
            let tls = client.tls.as_deref().map(|tls| ClientTls {
                version: tls.version,
                server_name: tls.sni.as_deref(),
                common_name: tls.peer.as_deref().map(|peer| peer.common_name.as_str()),
            });
            write_v2(&addresses, tls.as_ref(), &client.header_values, &mut header);
        }
    }
    let mut sent = 0;
    while sent < header.len() {
        match sock.try_write(&header[sent..]) {
            Io::Done(count) => sent += count,
            Io::Blocked => {
                sock.want_write();
                wait(worker, deadline_ms).await?;
            }
            Io::Eof | Io::Failed(_) => return Err(Trouble::Unreachable),
        }
    }
    Ok(())
}

fn after_handshake(lease: &Lease, error: HandshakeError) -> Trouble {
    let why = match error {
        HandshakeError::TimedOut => return Trouble::TimedOut,
        HandshakeError::Killed => return Trouble::Killed,
        HandshakeError::Gone(_) => "the server closed the connection during the handshake".to_owned(),
        HandshakeError::Refused(why) if why.contains("NoApplicationProtocol") => {
            "the server does not speak HTTP/2".to_owned()
        }
        HandshakeError::Refused(why) => why,
    };
    lease.handshake_failed(why);
    Trouble::Handshake
}

/// Waits for something to try again.
pub async fn wait(worker: &Worker, deadline_ms: u64) -> Result<(), Trouble> {
    worker.reactor.wait(deadline_ms).await.map_err(|stop| match stop {
        Stop::TimedOut => Trouble::TimedOut,
        Stop::Killed => Trouble::Killed,
    })
}

/// Waits until a connection that was begun is up.
async fn up(worker: &Worker, sock: &Sock, deadline_ms: u64) -> Result<(), Trouble> {
    while !sock.writable() {
        sock.want_write();
        wait(worker, deadline_ms).await?;
    }
    outcome(sock)
}

/// How an attempt to connect came out, once the socket can be written to.
pub fn outcome(sock: &Sock) -> Result<(), Trouble> {
    match sock.error() {
        Ok(()) => Ok(()),
        Err(Errno::CONNREFUSED) => Err(Trouble::Refused),
        Err(_) => Err(Trouble::Unreachable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_no_fault_of_servers() {
        let check = |errno: Errno, expect| assert_eq!(not_begun(errno.into()), expect, "{errno}");
        check(Errno::MFILE, Trouble::Local);
        check(Errno::ADDRNOTAVAIL, Trouble::Local);
        check(Errno::NETUNREACH, Trouble::Unreachable);
    }
}
