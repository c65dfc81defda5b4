//! Who asks, and may they: one table says what each role may do; every route names its right.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use evenkeel_api as api;
use evenkeel_api::Role;

use tracing::warn;

use crate::accounts::{By, Who, same};
use crate::connected::Conversation;
use crate::given::{Coming, Going};
use crate::live::REQUESTS;
use crate::{App, Audit, FailureKind, Refused, leftover};

/// An answer does not wait longer for the audit log.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing: it is there for those who are not known yet.
    Open,
    /// One's own password, sessions and second factor.
    Own,
    /// States, graphs, reports, logs.
    See,
    /// The configuration's text, which may hold secrets.
    Read,
    /// What is live: admin states, weights, persistence, roles of the pair.
    Operate,
    /// Certificates and their keys.
    Certificates,
    /// The configuration, people, backups.
    Configure,
}

/// The one table.
const MAY: &[(Role, &[Right])] = &[
    (Role::Viewer, &[Right::Open, Right::Own, Right::See]),
    (Role::Operator, &[Right::Open, Right::Own, Right::See, Right::Read, Right::Operate]),
    (Role::CertificateManager, &[Right::Open, Right::Own, Right::See, Right::Read, Right::Certificates]),
    (
        Role::Admin,
        &[
            Right::Open,
            Right::Own,
            Right::See,
            Right::Read,
            Right::Operate,
            Right::Certificates,
            Right::Configure,
        ],
    ),
];

pub fn may(role: Role, right: Right) -> bool {
    MAY.iter().any(|(r, rights)| *r == role && rights.contains(&right))
}

/// For what a request asks beyond its route: a configuration that is only proposed makes the
/// program open the files that it names, which is for those who may commit it.
pub fn demand(who: &Who, right: Right) -> Result<(), Refused> {
    match may(who.role, right) {
        true => Ok(()),
        false => Err(Refused::new(
            FailureKind::Forbidden,
            format!("the role {} may not do this", who.role.as_str()),
        )),
    }
}

/// How much a request of a role may bring: only those who configure send whole configurations.
fn body_at_most(role: Role) -> usize {
    match role {
        // A configuration of 100,000 services is some 20 MB.
        Role::Admin => 256 << 20,
        Role::CertificateManager => 16 << 20,
        Role::Viewer | Role::Operator => 1 << 20,
    }
}

pub const COOKIE: &str = "__Host-evenkeel";
const CSRF: &str = "x-evenkeel-csrf";

/// What the audit says of a request, beside its route.
#[derive(Clone)]
pub struct Detail(pub String);

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut pairs = all.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn who(app: &App, headers: &HeaderMap, from: &str) -> Option<Who> {
    match bearer(headers) {
        Some(token) => app.accounts.of_token(token, from, now_ms()),
        None => app.accounts.of_session(cookie(headers)?, from, now_ms()),
    }
}

/// A browser sends its cookie with requests that other sites have made it send.
fn is_forged(who: &Who, method: &Method, headers: &HeaderMap) -> bool {
    let By::Session { csrf, .. } = &who.by else { return false };
    let value = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if value("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    !method.is_safe() && !value(CSRF).is_some_and(|given| same(given, csrf))
}

/// In front of every route of the listener: `right` is the route's.
pub async fn guard(State((app, right)): State<(App, Right)>, request: HttpRequest, next: Next) -> Response {
    let socket = request.extensions().get::<Who>().cloned();
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let from = from.map_or_else(String::new, |c| c.0.ip().to_canonical().to_string());
    let (method, what) = (request.method().clone(), format!("{} {}", request.method(), request.uri().path()));
    let found = socket.or_else(|| who(&app, request.headers(), &from));
    let refusal = match &found {
        _ if right == Right::Open => None,
        None => Some(Refused::new(FailureKind::Unknown, "log in, or send a token: Authorization: Bearer …")),
        Some(who) if is_forged(who, &method, request.headers()) => Some(Refused::new(
            FailureKind::Forbidden,
            "the request does not come from Evenkeel's own pages: X-Evenkeel-Csrf is missing or wrong",
        )),
        Some(who) => demand(who, right).err(),
    };
    let known = found.clone();
    let conversation = request.extensions().get::<Conversation>().cloned();
    let under_way = conversation.as_ref().map(|conversation| {
        if found.is_some() {
            conversation.prove();
        }
        conversation.begin()
    });
    // Of live streams others are counted.
    let counted = found.as_ref().filter(|who| who.by != By::Socket && !is_live(request.uri().path()));
    let (place, refusal) = match (refusal, counted.map(|who| REQUESTS.place_of(&who.name))) {
        (None, Some(Err(_))) => {
            let why = "too many of your requests are under way: wait for their answers";
            (None, Some(Refused::new(FailureKind::Busy, why)))
        }
        (refusal, place) => (place.and_then(Result::ok), refusal),
    };
    let (parts, body) = request.into_parts();
    let (body, leftover) = leftover::lend(Coming::of(body, still(&app, found.as_ref())));
    let mut request = HttpRequest::from_parts(parts, body);
    let response = match refusal {
        Some(refusal) => {
            drop(request);
            refusal.into_response()
        }
        None => {
            if let Some(who) = found {
                DefaultBodyLimit::max(body_at_most(who.role)).apply(&mut request);
                request.extensions_mut().insert(who);
            }
            explained(next.run(request).await).await
        }
    };
    let response = match known.as_ref().is_some_and(|who| !app.accounts.still(who, now_ms())) {
        // A body that came to its end too late, not one who has logged out.
        true if response.status().is_client_error() => {
            Refused::new(FailureKind::Unknown, "the session, the token or its role has ended").into_response()
        }
        _ => response,
    };
    if response.status().is_client_error() {
        leftover.drain().await;
    }
    // What changes nothing is not worth a line, but whoever was turned away is.
    let changes = !matches!(right, Right::Open | Right::See | Right::Read);
    let told = response.extensions().get::<Detail>().is_some() || response.status() == StatusCode::FORBIDDEN;
    if !method.is_safe() && (changes || told) {
        let who = response.extensions().get::<Who>().cloned().or(known);
        let detail = response.extensions().get::<Detail>().map(|d| d.0.clone());
        let (failed, status) = (response.status().is_client_error(), response.status().as_u16().to_string());
        let audit = app.audit.clone();
        let what = detail.map_or(what.clone(), |d| format!("{what}: {d}"));
        note_down(audit, who, failed, from, what, status).await;
    }
    response.map(|body| Going::of(body, under_way, place))
}

/// Whether whoever sent a request may still do what they might when its head came.
fn still(app: &App, who: Option<&Who>) -> impl Fn() -> bool + Send + Sync + 'static {
    let (accounts, who) = (app.accounts.clone(), who.cloned());
    move || who.as_ref().is_none_or(|who| accounts.still(who, now_ms()))
}

/// Waits until the audit log has an entry, but not for a disk that hangs.
async fn note_down(audit: Audit, who: Option<Who>, failed: bool, from: String, what: String, status: String) {
    let Some(waiting) = audit.place() else {
        return warn!(what, "not in the audit log: its disk does not answer");
    };
    // The disk is waited for elsewhere; the answer is sent when it has been written, or the disk hangs.
    let written = tokio::task::spawn_blocking(move || {
        match (who, failed) {
            (Some(who), false) => audit.note(&who, &what, &status, now_ms()),
            (who, _) => {
                let from = who.as_ref().map_or(from, |w| w.from.clone());
                audit.note_failure(who.as_ref(), &from, &what, &status, now_ms());
            }
        }
        drop(waiting);
    });
    if tokio::time::timeout(PATIENCE, written).await.is_err() {
        warn!("an entry of the audit log waits for its disk, which does not answer");
    }
}

/// Answers without an end, which have bounds of their own.
fn is_live(path: &str) -> bool {
    matches!(path, "/api/v1/live" | "/api/v1/logs")
}

/// What a library has refused in plain words, in the form of every refusal.
async fn explained(response: Response) -> Response {
    let is_problem =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().ends_with(b"json"));
    if is_problem || !response.status().is_client_error() {
        return response;
    }
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&body).into_owned();
    problem(status, "what was sent is not valid", api::Failure { detail, ..api::Failure::default() })
}

/// Problem details of RFC 9457.
fn problem(status: StatusCode, title: &str, failure: api::Failure) -> Response {
    let failure = api::Failure { title: title.into(), status: status.as_u16(), ..failure };
    let body = serde_json::to_vec(&failure).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}

/// Everything that comes by the Unix socket, which only its owner may open.
pub async fn from_socket(mut request: HttpRequest, next: Next) -> Response {
    let person = request.headers().get("x-evenkeel-user").and_then(|v| v.to_str().ok()).unwrap_or("root");
    let name = person.chars().filter(|c| !c.is_control()).take(64).collect();
    request.extensions_mut().insert(Who { name, role: Role::Admin, from: "socket".into(), by: By::Socket });
    next.run(request).await
}

/// What every answer of the listener says to browsers.
pub async fn headers(request: HttpRequest, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    );
    if is_api {
        set(header::CACHE_CONTROL, "no-store");
    }
    response
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, title) = match self.kind {
            FailureKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "what was sent is not valid"),
            FailureKind::NotFound => (StatusCode::NOT_FOUND, "not found"),
            FailureKind::Failed => (StatusCode::CONFLICT, "it could not be done"),
            FailureKind::Changed => (StatusCode::PRECONDITION_FAILED, "somebody else has changed it"),
            FailureKind::Unknown => (StatusCode::UNAUTHORIZED, "not logged in"),
            FailureKind::SecondFactor => (StatusCode::UNAUTHORIZED, "second factor"),
            FailureKind::Forbidden => (StatusCode::FORBIDDEN, "not allowed"),
            FailureKind::Locked => (StatusCode::TOO_MANY_REQUESTS, "too many attempts"),
            FailureKind::Busy => (StatusCode::TOO_MANY_REQUESTS, "too many requests at once"),
        };
        problem(status, title, self.failure)
    }
}
