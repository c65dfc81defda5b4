//! What happens once on a client's connection before its first request or byte: the PROXY
//! protocol header of a trusted sender, then TLS.

use std::net::{IpAddr, SocketAddr};

use evenkeel_model::{Mode, Name};

use super::account::finish;
use super::answer;
use super::session::{Client, Scratch, Session, State};
use crate::buffer::Buffer;
use crate::link::Link;
use crate::log::{Cause, Phase};
use crate::proxy_header::{self, NoHeader};
use crate::reactor::Io;
use crate::spec::Notice;
use crate::tls::{HandshakeError, TlsLink};
use crate::worker::Worker;

/// Greets a client that has not been greeted; `None` when its connection ended there.
pub async fn greet(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    mut client: Box<Client>,
) -> Option<Box<Client>> {
    if client.greeted || !is_due(&client) {
        client.greeted = true;
        return Some(client);
    }
    // Few requests come to this, and a session is the smaller for it.
    Box::pin(listen(worker, session, scratch, *client)).await.map(Box::new)
}

/// Whether anything comes before the first request or byte.
fn is_due(client: &Client) -> bool {
    let view = client.service.view();
    let service = &view.spec.service;
    let is_on = service.tls.as_ref().is_some_and(|tls| tls.is_on(client.vip));
    is_on || trusts(&service.proxy_protocol_from, client.address.ip())
}

async fn listen(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    client: Client,
) -> Option<Client> {
    let mut client = Client { greeted: true, ..client };
    // A PROXY header may name another place than the one that the client of this machine came to.
    let vip = client.vip;
    let view = client.service.view();
    let service = &view.spec.service;
    let deadline_ms = worker.reactor.now_ms() + service.timeouts.request.as_millis() as u64;
    session.state.set(State::Greeting);
    if trusts(&service.proxy_protocol_from, client.address.ip()) {
        if let Err(NoHeader::Bad) = read_header(worker, &mut client, deadline_ms).await {
            view.counters(worker.core).bad_requests.add(1);
            let record = &mut scratch.record;
            record.restart(client.address, client.accepted_ms, client.accepted_wall_ms);
            record.end(Cause::Proxy, Phase::Request);
            finish(worker, &view, &client, record, service.mode == Mode::Http);
            return None;
        }
        session.show(&client);
    }
    let is_on = service.tls.as_ref().is_some_and(|tls| tls.is_on(vip));
    let Some(tls) = view.spec.tls.as_ref().filter(|_| is_on) else { return Some(client) };
    let counters = view.counters(worker.core);
    let Link::Plain(sock) = client.link else { return Some(client) };
    let early = client.input.take();
    let early_bytes = early.as_ref().map_or(&b""[..], Buffer::bytes);
    match TlsLink::accept(worker.reactor, sock, tls, &worker.shared.challenges, early_bytes, deadline_ms)
        .await
    {
        // An authority has seen what it wanted to see.
        Ok(link) if link.is_challenge() => None,
        Ok(link) => {
            counters.tls_handshakes.add(1);
            counters.tls_resumed.add(u64::from(link.facts().resumed));
            client.tls = Some(link.facts().clone());
            client.link = Link::Tls(Box::new(link));
            Some(client)
        }
        // Whoever looks whether the port is open has done no wrong.
        Err((_, HandshakeError::Gone(_))) => None,
        Err((sock, error)) => {
            let client = Client { link: Link::Plain(sock), ..client };
            counters.tls_failures.add(1);
            let record = &mut scratch.record;
            record.restart(client.address, client.accepted_ms, client.accepted_wall_ms);
            let cause = if error == HandshakeError::TimedOut { Cause::ClientTimeout } else { Cause::Proxy };
            record.end(cause, Phase::Request);
            finish(worker, &view, &client, record, service.mode == Mode::Http);
            if let HandshakeError::Refused(why) = error {
                let of_client = ["invalid peer certificate", "peer sent no certificates"];
                if of_client.iter().any(|begin| why.starts_with(begin)) {
                    report_refusal(worker, &service.name, client.address, why);
                }
                // So that the alert arrives.
                answer::linger(worker, &client).await;
            }
            None
        }
    }
}

/// Says why a client's certificate was refused; the access log has no place for it.
fn report_refusal(worker: &'static Worker, service: &Name, client: SocketAddr, why: String) {
    let now_ms = worker.reactor.now_ms();
    if now_ms >= worker.certificates_told_ms.get() {
        worker.certificates_told_ms.set(now_ms + 1000);
        worker.notify(Notice::ClientCertificate { service: service.clone(), client, why });
    }
}

fn trusts(networks: &[(IpAddr, u8)], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|(network, prefix)| {
        network.is_ipv4() == address.is_ipv4()
            && evenkeel_model::mask_address(address, *prefix, *prefix)
                == evenkeel_model::mask_address(*network, *prefix, *prefix)
    })
}

/// Reads the header that must come first, and believes it.
async fn read_header(worker: &'static Worker, client: &mut Client, deadline_ms: u64) -> Result<(), NoHeader> {
    let mut buffer = worker.buffers.get_for_new().ok_or(NoHeader::Bad)?;
    loop {
        match proxy_header::parse(buffer.bytes()) {
            Ok(header) => {
                if let Some(addresses) = header.addresses {
                    client.told = true;
                    client.address = addresses.source;
                    client.vip = addresses.destination;
                }
                client.over_tls = header.tls;
                let values = buffer.bytes().get(header.values.0..header.values.1).unwrap_or_default();
                client.values = (!values.is_empty()).then(|| values.into());
                buffer.consume(header.len);
                client.input = Some(buffer).filter(|b| !b.is_empty());
                return Ok(());
            }
            Err(NoHeader::Bad) => return Err(NoHeader::Bad),
            Err(NoHeader::Partial) => {}
        }
        match client.link.try_read(buffer.room()) {
            Io::Done(count) => buffer.filled(count),
            Io::Blocked => {
                client.link.want_read();
                worker.reactor.wait(deadline_ms).await.map_err(|_| NoHeader::Bad)?;
            }
            // Nothing at all is whoever looks whether the port is open.
            Io::Eof | Io::Failed(_) if buffer.is_empty() => return Err(NoHeader::Partial),
            Io::Eof | Io::Failed(_) => return Err(NoHeader::Bad),
        }
    }
}
