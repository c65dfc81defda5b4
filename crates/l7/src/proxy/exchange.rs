//! One HTTP exchange: follows the service's routes (`route`), picks a server, tries it and others
//! where that is safe (`flow`), and answers itself where none can.

use std::rc::Rc;

use evenkeel_model::{CookieMethod, CookiePersistence, Normalize, Persistence, RetryOn};
use evenkeel_routes::RouteAction;
use evenkeel_rules::{Parameters, normal_path};

use super::answer::LocalReply;
use super::connect::is_named_by;
use super::failure::Failure;
use super::flow::{After, Context, Outgoing, choose, transact};
use super::persist::CookieFound;
use super::pick::{self, AnswerEnd, Lease, NoLease, PickRequest};
use super::route::{self, Answered, Verdict};
use super::session::{Client, Scratch, Session};
use super::{PoolRuntime, ServiceView, answer, body_first, connect, forwarded, persist};
use crate::buffer::Buffer;
use crate::h1::field::Field;
use crate::h1::request::{Edits as RequestEdits, Method, Request};
use crate::h1::response::Edits as ResponseEdits;
use crate::h1::{Body, Framing};
use crate::log::{Cause, CookieSent, Phase};
use crate::routing::Page;
use crate::worker::Worker;

/// Bytes of a request line that are logged.
const LOGGED_LINE: usize = 1024;

/// Serves one request whose head is parsed and lies at the start of `buffer`.
pub async fn run(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    client: &mut Client,
    view: &Rc<ServiceView>,
    mut buffer: Buffer,
) -> After {
    scratch.record.head_ms = Some(worker.reactor.now_ms());
    if let Some(rule) = &view.spec.routes.client_address {
        client.believe(rule, &scratch.request, buffer.bytes());
        scratch.record.client = client.address;
    }
    if worker.log.is_wanted() {
        let line = scratch.request.line.of(buffer.bytes());
        scratch.record.line.extend_from_slice(&line[..line.len().min(LOGGED_LINE)]);
        if scratch.request.wide {
            // It goes on with one space between its words, too.
            scratch.record.line.dedup_by(|next, before| *next == b' ' && *before == b' ');
        }
        if client.h2 && scratch.record.line.ends_with(b"HTTP/1.1") {
            let version = scratch.record.line.len() - 3;
            scratch.record.line[version..].copy_from_slice(b"2.0");
        }
    }
    if !view.spec.routes.answers.is_empty() {
        // Routes of answers ask about the request as it came.
        let head = &buffer.bytes()[..scratch.request.head_len];
        scratch.kept_head.clear();
        scratch.kept_head.extend_from_slice(head);
    }
    if let Some(text) = worker.shared.challenges.text(scratch.request.path(buffer.bytes())) {
        let content_type = "application/octet-stream".to_owned();
        let page = Page { content_type, body: text.into_bytes(), ..Page::default() };
        let verdict = Verdict::Answer { status: 200, page: &page, body: None };
        return carry_out(worker, scratch, client, view, verdict, buffer).await;
    }
    let max_body = view.spec.service.max_body;
    if max_body != 0 && matches!(scratch.request.framing, Framing::Length(length) if length > max_body) {
        return fail(worker, scratch, client, view, Failure::TooLarge, false).await;
    }
    if view.spec.routes.refuses(scratch.request.path(buffer.bytes())) {
        return fail(worker, scratch, client, view, Failure::UnclearPath, false).await;
    }
    if is_misdirected(client, view, scratch.request.host.of(buffer.bytes())) {
        return fail(worker, scratch, client, view, Failure::Misdirected, false).await;
    }
    if view.spec.service.wait_for_body
        && let Err(failure) = body_first::wait(worker, scratch, client, view, &mut buffer).await
    {
        return fail(worker, scratch, client, view, failure, false).await;
    }
    let mut pool = &view.pool;
    if !view.spec.routes.list.is_empty() || !view.spec.line.requests().is_empty() {
        let Scratch { request, changes, counted, record, .. } = scratch;
        let request = Some((&*request, buffer.bytes()));
        let verdict = route::walk(worker, view, client, request, None, changes, counted).await;
        client.take_on(&changes.addresses);
        (record.client, record.level) = (client.address, changes.log_level);
        pool = match verdict {
            Verdict::Pool(number) => view.pools.get(number).unwrap_or(pool),
            other => return carry_out(worker, scratch, client, view, other, buffer).await,
        };
    }
    if !Rc::ptr_eq(pool, &view.pool) {
        scratch.record.pool = Some(pool.clone());
    }
    if view.spec.service.normalize == Normalize::Forward {
        normalize(scratch, buffer.bytes());
    }
    scratch.record.routed = true;
    proxy(worker, session, scratch, client, view, pool, buffer).await
}

/// A request for another host than the handshake was for, where clients are asked for certificates and this
/// one has shown none: routes may demand one for that host, and the client shows it on a connection of its
/// own (RFC 9110 section 15.5.20).
///
/// Nor is a client served on a connection that it was let in on by other rules, where it would not be by the
/// present ones: its certificate was revoked meanwhile, or is asked for only now.
fn is_misdirected(client: &Client, view: &ServiceView, host: &[u8]) -> bool {
    let Some(tls) = client.tls.as_ref() else { return false };
    if view.spec.tls.as_ref().is_some_and(|present| !present.lets_in(tls)) {
        return true;
    }
    if tls.peer.is_some() {
        return false;
    }
    let asks = view.spec.service.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some());
    let Some(sni) = tls.sni.as_deref().filter(|_| asks) else { return false };
    let bare = |name: &'_ [u8]| name.strip_suffix(b".").map_or(name.len(), <[u8]>::len);
    let host = evenkeel_routes::without_port(host);
    !host.is_empty() && !host[..bare(host)].eq_ignore_ascii_case(&sni.as_bytes()[..bare(sni.as_bytes())])
}

fn path_of(target: &[u8]) -> &[u8] {
    &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
}

/// Has the server get the path in its normal form.
fn normalize(scratch: &mut Scratch, head: &[u8]) {
    let Scratch { request, changes, .. } = scratch;
    let target = changes.target.as_deref().unwrap_or(request.path(head));
    let path = path_of(target);
    if let Some(mut normal) = normal_path(path, Parameters::Keep) {
        normal.extend_from_slice(&target[path.len()..]);
        changes.target = Some(normal);
    }
}

/// What a request asks of the choice among servers.
fn wish_of(
    worker: &'static Worker,
    scratch: &Scratch,
    client: &Client,
    pool: &Rc<PoolRuntime>,
    cookie: CookieFound,
    head: &[u8],
) -> PickRequest {
    let request = &scratch.request;
    PickRequest {
        key: pick::key_of_request(worker, pool, client.address, request, head),
        named: pool.chosen(scratch.changes.server.as_ref()).or(cookie.server),
        entry: persist::entry_of_request(pool, client, request, head),
        priority: scratch.changes.priority,
        avoid: None,
        known_by: client.own.as_ref().filter(|own| own.knows_client).map(|own| own.server),
    }
}

/// Sends the request to a server of a pool.
async fn proxy(
    worker: &'static Worker,
    session: &Session,
    scratch: &mut Scratch,
    client: &mut Client,
    view: &Rc<ServiceView>,
    pool: &Rc<PoolRuntime>,
    buffer: Buffer,
) -> After {
    let spec = pool.spec();
    let rule = match &spec.pool.persistence {
        Persistence::Cookie(rule) => Some(rule),
        _ => None,
    };
    let request = &scratch.request;
    let wall_s = worker.reactor.now().wall_ms / 1_000;
    let cookie = match rule {
        Some(rule) => persist::read_cookie(pool, rule, request, buffer.bytes(), wall_s),
        None => CookieFound::default(),
    };
    // What the answer says is noted when it comes.
    scratch.record.termination.cookie_read = cookie.read;
    scratch.record.termination.cookie_sent = cookie.read.map(|_| CookieSent::None);
    let mut wish = wish_of(worker, scratch, client, pool, cookie, buffer.bytes());
    connect::note_values(worker, view, client, &spec, Some((request, buffer.bytes())), &scratch.changes);
    let compression = spec.pool.compression.as_ref().or(view.spec.service.compression.as_ref());
    let coding = compression.and_then(|rule| choose(rule, request, buffer.bytes()));
    if coding.as_ref().is_some_and(|chosen| chosen.rule.offload) {
        scratch.changes.request.drop_named(b"accept-encoding");
    }
    let outgoing = outgoing_request(worker, scratch, client, view, pool, rule, buffer);
    let mut outgoing = match outgoing {
        Ok(outgoing) => outgoing,
        Err(failure) => return fail(worker, scratch, client, view, failure, false).await,
    };
    let context = Context { view, pool, cookie, coding };

    let (queue_ms, connect_ms) = view.waits(pool, &scratch.changes);
    loop {
        let record = &mut scratch.record;
        let lease = match pick::lease(worker, session, &client.link, pool, &wish, queue_ms, record).await {
            Ok(lease) => lease,
            Err(NoLease::NoServer) => match &view.fallback_server {
                Some(server) => Lease::outside(worker, server.clone()),
                None => return no_server(worker, scratch, client, view, &outgoing).await,
            },
            Err(why) => return not_queued(worker, scratch, client, view, why, &outgoing).await,
        };
        lease.note(session, &mut scratch.record);
        if wish.avoid == Some(lease.server.id) && !lease.pause(client, connect_ms).await {
            scratch.record.end(client.link.why_gone(), Phase::Connect);
            return fail(worker, scratch, client, view, Failure::ClientGone, false).await;
        }
        let mut done =
            transact(worker, session, scratch, client, &context, &lease, &mut outgoing, true).await;
        if done == Err(Failure::Stale) {
            outgoing.sent = 0;
            done = transact(worker, session, scratch, client, &context, &lease, &mut outgoing, false).await;
        }
        let failure = match done {
            Ok(after) => {
                lease.ended(AnswerEnd::Whole);
                return after;
            }
            Err(failure) => failure,
        };
        let again = judge(&lease, failure, &outgoing, spec.pool.retry_on);
        let last = outgoing.retries >= spec.pool.retries || lease.is_outside();
        if last || !again || !outgoing.replayable {
            return fail(worker, scratch, client, view, failure, outgoing.body.is_complete()).await;
        }
        outgoing.retries += 1;
        scratch.record.retries = outgoing.retries;
        wish.avoid = Some(lease.server.id);
        outgoing.sent = 0;
    }
}

/// The request as it goes on: its head rewritten, with as much of its body as has come.
fn outgoing_request(
    worker: &'static Worker,
    scratch: &mut Scratch,
    client: &mut Client,
    view: &Rc<ServiceView>,
    pool: &Rc<PoolRuntime>,
    rule: Option<&CookiePersistence>,
    mut buffer: Buffer,
) -> Result<Outgoing, Failure> {
    let mut body = Body::new(scratch.request.framing);
    let head_len = scratch.request.head_len;
    match body.feed(&buffer.bytes()[head_len..]) {
        Ok(taken) if !client.set_aside(worker, &mut buffer, head_len + taken) => {
            return Err(Failure::NoMemory);
        }
        Ok(_) => {}
        Err(_) => return Err(Failure::BadBody),
    }
    let keep_trailers = keeps_trailers(view, pool, client, &scratch.request, buffer.bytes());
    if !keep_trailers {
        let trailers = body.trailers();
        buffer.cut_out(head_len + trailers.start..head_len + trailers.end);
    } else if body.has_forged_trailer() {
        return Err(Failure::BadBody);
    }
    let max_body = view.spec.service.max_body;
    let first = (buffer.len() - head_len) as u64;
    if max_body != 0 && first > max_body {
        return Err(Failure::TooLarge);
    }
    let request = &scratch.request;
    let sent = scratch.changes.method.as_deref().map_or(request.method, Method::of);
    let idempotent = request.method.is_idempotent() && sent.is_idempotent() && !scratch.changes.once;
    let head = buffer.bytes();
    let names_client =
        request.fields.iter().any(|f| is_named_by(f.name.of(head), b"authorization", f.value.of(head)));
    let server_h2 = pool.spec().some_speak_h2;
    if !rewrite_head(worker, scratch, client, view, (rule, server_h2), &mut buffer) {
        return Err(Failure::NoMemory);
    }
    let allowance = (max_body != 0).then(|| max_body - first);
    Ok(Outgoing {
        buffer,
        sent: 0,
        body,
        replayable: true,
        idempotent,
        names_client,
        allowance,
        keep_trailers,
        retries: 0,
    })
}

/// What a failed attempt says of its server, and whether the request may be tried again.
fn judge(lease: &Lease, failure: Failure, outgoing: &Outgoing, retry_on: RetryOn) -> bool {
    match failure {
        Failure::Cut { .. } if failure.is_the_servers() => lease.ended(AnswerEnd::Broken),
        _ if failure.is_the_servers() => lease.judge(true),
        // The answer came; a rule of this program's keeps it from the client.
        Failure::Denied { .. } | Failure::Replaced { .. } => lease.ended(AnswerEnd::Whole),
        _ => lease.ended(AnswerEnd::LeftOpen),
    }
    match failure {
        Failure::Refused | Failure::Unreachable | Failure::ConnectTimeout => {
            lease.connect_failed(failure == Failure::Refused);
            true
        }
        Failure::Handshake | Failure::Unwanted | Failure::Local => true,
        Failure::NoAnswer => {
            lease.suspect();
            outgoing.idempotent && retry_on.has(RetryOn::NO_ANSWER)
        }
        Failure::BadAnswer | Failure::HalfAnswer => outgoing.idempotent && retry_on.has(RetryOn::BAD_ANSWER),
        Failure::AnswerTimeout => outgoing.idempotent && retry_on.has(RetryOn::TIMEOUT),
        _ => false,
    }
}

/// Whether what follows a chunked body goes on. There it passes every look at the head, and servers of
/// HTTP/1 have taken it for the next request: only gRPC needs it, or whom the configuration names.
fn keeps_trailers(
    view: &ServiceView,
    pool: &PoolRuntime,
    client: &Client,
    request: &Request,
    head: &[u8],
) -> bool {
    let is_grpc = |f: &Field| {
        let value = f.value.of(head);
        f.name.of(head).eq_ignore_ascii_case(b"content-type")
            && value.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
    };
    let h2 = client.h2 && pool.spec().all_speak_h2;
    view.spec.service.request_trailers || (h2 && request.fields.iter().any(is_grpc))
}

fn rewrite_head(
    worker: &Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    (rule, server_h2): (Option<&CookiePersistence>, bool),
    buffer: &mut Buffer,
) -> bool {
    let service = &view.spec.service;
    let Scratch { request, changes, .. } = scratch;
    let (mut written, mut text) = (worker.head.take(), worker.text.take());
    text.clear();
    if service.forwarded.x_forwarded_for {
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{}", client.address.ip().to_canonical()));
    }
    forwarded::add(service, client, request, buffer.bytes(), &mut changes.request);
    // Who is used to HAProxy sees the client's version. HTTP/1.0 has no chunks (RFC 9112 section 6.1).
    let version_10 = service.wide_requests
        && !client.h2
        && !server_h2
        && !request.version_11
        && request.framing != Framing::Chunked;
    let host = if request.version_11 || version_10 { String::new() } else { client.vip.to_string() };
    let drops = |name: &[u8]| changes.request.drops_of_request(name);
    let edits = RequestEdits {
        forwarded_for: service.forwarded.x_forwarded_for.then_some(text.as_str()),
        forwarded_proto: service.forwarded.x_forwarded_proto.then_some(client.scheme()),
        hide_cookie: rule
            .filter(|r| r.indirect && r.method == CookieMethod::Insert)
            .map(|r| r.name.as_bytes()),
        strip_cookie: rule.filter(|r| r.method == CookieMethod::Prefix).map(|r| r.name.as_bytes()),
        default_host: &host,
        version_10,
        target: changes.target.as_deref(),
        keeps_authority: service.wide_requests && !client.h2,
        method: changes.method.as_deref(),
        drops: if changes.request.is_empty() { None } else { Some(&drops) },
        lines: &changes.request.lines,
    };
    request.write(buffer.bytes(), &edits, &mut written);
    let fitted = buffer.put_head(request.head_len, &written);
    worker.head.set(written);
    worker.text.set(text);
    fitted
}

/// Does what routes decided, where that is no pool.
async fn carry_out(
    worker: &'static Worker,
    scratch: &mut Scratch,
    client: &mut Client,
    view: &ServiceView,
    verdict: Verdict<'_>,
    mut buffer: Buffer,
) -> After {
    scratch.record.end(Cause::LocalReply, Phase::Request);
    let mut status = 403;
    let mut lines = std::mem::take(&mut scratch.changes.response.lines);
    let mut page = None;
    match verdict {
        Verdict::Pool(_) => {}
        Verdict::Redirect { status: with, location } => {
            status = with;
            crate::h1::request::line(&mut lines, b"Location", &location);
        }
        Verdict::Answer { status: with, page: found, body } => {
            (status, page) = (with, Some((found, body)));
            if view.spec.service.wide_requests {
                without_empty(&mut lines);
            }
        }
        Verdict::Refuse { status: with, retry_after_s } => {
            status = with;
            scratch.record.termination.cause = Some(Cause::Proxy);
            view.counters(worker.core).refused.add(1);
            if let Some(seconds) = retry_after_s {
                crate::h1::request::line(&mut lines, b"Retry-After", seconds.to_string().as_bytes());
            }
        }
        Verdict::Silence { vanish } => {
            if vanish {
                client.link.vanish_on_close();
            }
            scratch.record.termination.cause = Some(Cause::Proxy);
            view.counters(worker.core).refused.add(1);
            return After::Close;
        }
        Verdict::Tarpit { delay_ms, status: with } => {
            status = with;
            scratch.record.termination.cause = Some(Cause::Proxy);
            scratch.record.termination.phase = Some(Phase::Tarpit);
            view.counters(worker.core).refused.add(1);
            if !stays_for(worker, client, delay_ms).await {
                return After::Close;
            }
        }
        Verdict::Unauthorized { realm } => {
            status = 401;
            scratch.record.termination.cause = Some(Cause::Proxy);
            let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            crate::h1::request::line(&mut lines, b"WWW-Authenticate", challenge.as_bytes());
        }
    }
    // Only a request that has come as a whole leaves the connection ready for the next.
    let mut body = Body::new(scratch.request.framing);
    let head_len = scratch.request.head_len;
    let taken = body.feed(&buffer.bytes()[head_len..]).ok().filter(|_| body.is_complete());
    let whole = taken.is_some_and(|taken| client.set_aside(worker, &mut buffer, head_len + taken));
    let keep = stays(worker, scratch, client, whole);
    let head_only = scratch.request.method == Method::Head;
    let connection = answer::connection_field(keep, scratch.request.version_11);
    let own = LocalReply { lines: &lines, connection, head_only, ..LocalReply::default() };
    match &page {
        Some((page, written)) => {
            let (content_type, page_lines) = (&page.content_type, &page.lines);
            let body = written.as_ref().unwrap_or(&page.body);
            LocalReply { status, content_type, page_lines, body, ..own }.write(&mut scratch.head);
        }
        None => answer::error(status, &view.spec.error_pages, own, &mut scratch.head),
    }
    scratch.record.status = status;
    let keep = keep && !scratch.head.is_empty();
    match send_own(worker, scratch, client, view).await && keep {
        true => After::NextRequest,
        false => After::Linger,
    }
}

/// Takes lines without a value away, as HAProxy does in answers of its own.
fn without_empty(lines: &mut Vec<u8>) {
    let mut kept = Vec::with_capacity(lines.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.ends_with(b": \r\n")) {
        kept.extend_from_slice(line);
    }
    *lines = kept;
}

/// Ends a request that failed: an answer where one is still possible. `whole`: the client has sent
/// all of it.
async fn fail(
    worker: &'static Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    failure: Failure,
    whole: bool,
) -> After {
    let counters = view.counters(worker.core);
    let (status, cause, phase) = match failure {
        Failure::Refused | Failure::Unreachable | Failure::Handshake => {
            (503, Cause::ServerAbort, Phase::Connect)
        }
        Failure::ConnectTimeout => (503, Cause::ServerTimeout, Phase::Connect),
        Failure::Stale | Failure::NoAnswer | Failure::HalfAnswer | Failure::Unwanted => {
            (502, Cause::ServerAbort, Phase::Headers)
        }
        Failure::BadAnswer => (502, Cause::Proxy, Phase::Headers),
        Failure::Denied { status } => (status, Cause::Proxy, Phase::Headers),
        Failure::Replaced { by } => {
            let status = replacement(worker, scratch, client, view, by, whole);
            (status, Cause::LocalReply, Phase::Headers)
        }
        Failure::AnswerTimeout => (504, Cause::ServerTimeout, Phase::Headers),
        Failure::UnclearPath => (400, Cause::Proxy, Phase::Request),
        Failure::Misdirected => (421, Cause::Proxy, Phase::Request),
        Failure::BadBody => (400, Cause::Proxy, Phase::Data),
        Failure::TooLarge => (413, Cause::Proxy, Phase::Data),
        // Before its routes are asked it is still on its way.
        Failure::BodyTimeout if !scratch.record.routed => (408, Cause::ClientTimeout, Phase::Request),
        Failure::BodyTimeout => (408, Cause::ClientTimeout, Phase::Data),
        Failure::BodyCut => {
            counters.client_aborts.add(1);
            // HAProxy's lines name the pool then, and no server.
            scratch.record.routed = true;
            (400, Cause::ClientAbort, Phase::Request)
        }
        Failure::Killed => (503, Cause::Killed, Phase::Headers),
        Failure::NoMemory => (503, Cause::Resource, Phase::Headers),
        Failure::Local => (503, Cause::Resource, Phase::Connect),
        // HTTP/1's malformed bodies are answered likewise; here the stream has been reset already.
        Failure::ClientGone if client.link.is_at_fault() => {
            counters.bad_requests.add(1);
            scratch.record.status = 400;
            scratch.record.end(Cause::Proxy, Phase::Data);
            return After::Close;
        }
        Failure::ClientGone => {
            counters.client_aborts.add(1);
            scratch.record.end(Cause::ClientAbort, Phase::Headers);
            return After::Close;
        }
        Failure::Cut { cause } => {
            if cause.is_the_clients() {
                counters.client_aborts.add(1);
            }
            counters.bad_requests.add(u64::from(client.link.is_at_fault()));
            scratch.record.end(cause, Phase::Data);
            // The client must not take what it has for the whole.
            client.link.reset_on_close();
            return After::Close;
        }
    };
    if matches!(failure, Failure::BadBody | Failure::TooLarge | Failure::UnclearPath | Failure::Misdirected) {
        counters.bad_requests.add(1);
    }
    if let (502 | 504, Some(server), false) =
        (status, &scratch.record.server, matches!(failure, Failure::Denied { .. } | Failure::Replaced { .. }))
    {
        server.counters().response_errors.add(1);
    }
    scratch.record.end(cause, phase);
    let whole = whole && failure != Failure::Killed;
    match failure {
        Failure::Replaced { .. } => send_whole(worker, scratch, client, view, whole).await,
        _ => answer_error(worker, scratch, client, view, status, whole).await,
    }
}

/// Writes the redirection or page that a route of answers puts in the place of a server's; its status.
fn replacement(
    worker: &Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    (route, step): (usize, usize),
    whole: bool,
) -> u16 {
    let step = view.spec.routes.answers.get(route).and_then(|answer| answer.route.steps.get(step));
    let mut lines = std::mem::take(&mut scratch.changes.response.lines);
    let text = std::mem::take(&mut scratch.changes.replacement);
    let keep = stays(worker, scratch, client, whole);
    let connection = answer::connection_field(keep, scratch.request.version_11);
    let head_only = scratch.request.method == Method::Head;
    let status = match step {
        Some(RouteAction::Redirect { status, .. }) => {
            crate::h1::request::line(&mut lines, b"Location", &text);
            let own = LocalReply { lines: &lines, connection, head_only, ..LocalReply::default() };
            answer::error(*status, &view.spec.error_pages, own, &mut scratch.head);
            *status
        }
        Some(RouteAction::Answer { status, page, text: written }) => {
            if view.spec.service.wide_requests {
                without_empty(&mut lines);
            }
            let own = LocalReply { lines: &lines, connection, head_only, ..LocalReply::default() };
            let (content_type, page_lines) = (&page.content_type, &page.lines);
            let body = if written.is_some() { &text } else { &page.body };
            LocalReply { status: *status, content_type, page_lines, body, ..own }.write(&mut scratch.head);
            *status
        }
        // No other step replaces an answer.
        _ => {
            scratch.head.clear();
            502
        }
    };
    scratch.record.status = status;
    status
}

/// Sends the answer that lies in `head`.
async fn send_whole(
    worker: &'static Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    whole: bool,
) -> After {
    // An empty page closes the connection without a word.
    let keep = stays(worker, scratch, client, whole) && !scratch.head.is_empty();
    match send_own(worker, scratch, client, view).await && keep {
        true => After::NextRequest,
        false => After::Linger,
    }
}

/// Lets a client wait; whether it is still there then.
async fn stays_for(worker: &'static Worker, client: &Client, delay_ms: u64) -> bool {
    let until_ms = worker.reactor.now_ms() + delay_ms;
    client.link.want_hangup();
    // Before the first wait too: the reset of a stream may have come with its request.
    while !client.link.is_broken() && worker.reactor.wait(until_ms).await.is_ok() {}
    !client.link.is_broken()
}

/// Whether the client's connection is ready for the next request after an answer of this program's own.
fn stays(worker: &Worker, scratch: &Scratch, client: &Client, whole: bool) -> bool {
    let request = &scratch.request;
    let closes = client.must_close(worker) || client.service.view().spec.service.close_after_answer;
    whole && request.keep_alive && !closes
}

async fn answer_error(
    worker: &'static Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    status: u16,
    whole: bool,
) -> After {
    let head_only = scratch.request.method == Method::Head;
    let keep = stays(worker, scratch, client, whole);
    let connection = answer::connection_field(keep, scratch.request.version_11);
    let own = LocalReply { connection, head_only, ..LocalReply::default() };
    answer::error(status, &view.spec.error_pages, own, &mut scratch.head);
    scratch.record.status = status;
    send_whole(worker, scratch, client, view, whole).await
}

/// Whether all of it was sent.
async fn send_own(
    worker: &'static Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
) -> bool {
    if !view.spec.routes.answers.is_empty() {
        edit_own(worker, scratch, client, view);
    }
    let Scratch { head, record, counted, .. } = scratch;
    // Where the client does not take them at once, its places in limits are free a little early.
    route::settle(worker, view, counted, record, head.len());
    let timeout_ms = view.spec.service.timeouts.client.as_millis() as u64;
    let sent = answer::send(worker, client, head, timeout_ms).await.is_ok();
    if sent {
        scratch.record.bytes_out += scratch.head.len() as u64;
    }
    sent
}

/// Has the routes of answers change one of this program's own, which lies whole in `head`.
fn edit_own(worker: &'static Worker, scratch: &mut Scratch, client: &Client, view: &ServiceView) {
    let Scratch { request, response, head, record, changes, kept_head, .. } = scratch;
    if response.parse(head, request.method) != Ok(true) {
        return;
    }
    // What routes of the request have said is in the head already.
    changes.response.clear();
    let answered = Answered {
        request: (request, kept_head),
        response: (response, head),
        server: None,
        server_tls: None,
    };
    let verdict = route::walk_answer(worker, view, client, &answered, changes);
    let drops = |name: &[u8]| changes.response.drops(name);
    let edits = ResponseEdits {
        connection: answer::connection_field(response.keep_alive, request.version_11),
        drops: if changes.response.is_empty() { None } else { Some(&drops) },
        lines: &changes.response.lines,
        status: verdict.status.map(|status| (status, answer::reason(status))),
        ..ResponseEdits::default()
    };
    let mut edited = Vec::with_capacity(head.len() + changes.response.lines.len() + 64);
    response.write(head, &edits, &mut edited);
    edited.extend_from_slice(&head[response.head_len..]);
    *head = edited;
    record.status = verdict.status.unwrap_or(record.status);
}

/// No real server is left: the fallback page, or 503.
async fn no_server(
    worker: &'static Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    outgoing: &Outgoing,
) -> After {
    view.counters(worker.core).no_server.add(1);
    scratch.record.end(Cause::ServerAbort, Phase::Connect);
    let whole = outgoing.body.is_complete();
    let keep = stays(worker, scratch, client, whole);
    let head_only = scratch.request.method == Method::Head;
    let connection = answer::connection_field(keep, scratch.request.version_11);
    let page = view.spec.service.fallback.as_ref();
    let Some(status) = page.and_then(|p| answer::page(p, connection, head_only, &mut scratch.head)) else {
        return answer_error(worker, scratch, client, view, 503, whole).await;
    };
    scratch.record.status = status;
    match send_own(worker, scratch, client, view).await && keep {
        true => After::NextRequest,
        false => After::Linger,
    }
}

async fn not_queued(
    worker: &'static Worker,
    scratch: &mut Scratch,
    client: &Client,
    view: &ServiceView,
    why: NoLease,
    outgoing: &Outgoing,
) -> After {
    if why == NoLease::ClientGone {
        scratch.record.end(client.link.why_gone(), Phase::Queue);
        return fail(worker, scratch, client, view, Failure::ClientGone, false).await;
    }
    let (cause, counters) = (
        if why == NoLease::Killed { Cause::Killed } else { Cause::ServerTimeout },
        view.counters(worker.core),
    );
    counters.queue_timeouts.add(1);
    scratch.record.end(cause, Phase::Queue);
    let whole = outgoing.body.is_complete() && why != NoLease::Killed;
    answer_error(worker, scratch, client, view, 503, whole).await
}
