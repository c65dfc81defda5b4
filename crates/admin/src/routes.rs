//! Paths, methods and the JSON on both sides.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use evenkeel_api as api;
use tokio::sync::{mpsc, oneshot};

use crate::{Handle, Kind, Refused, Request};

/// A configuration of 100,000 services is some 20 MB.
const BODY_AT_MOST: usize = 256 << 20;

/// Everything, for the Unix socket, which only its owner may open.
pub fn socket_router(handle: Handle) -> Router {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/plan", post(plan))
        .route("/api/v1/commit", post(commit))
        .route("/api/v1/confirm", post(confirm))
        .route("/api/v1/rollback", post(rollback))
        .route("/api/v1/revisions", get(history))
        .route("/api/v1/revisions/{revision}", get(revision))
        .route("/api/v1/servers/{service}/{server}", post(change))
        .route("/api/v1/connections", get(connections))
        .route("/api/v1/persistence/{service}", get(persistence).delete(clear_persistence))
        .route("/api/v1/explain", post(explain))
        .route("/api/v1/logs", get(logs))
        .route("/api/v1/pair", get(pair))
        .route("/api/v1/pair/switch-over", post(switch_over))
        .route("/api/v1/pair/hold", post(hold).delete(release))
        .route("/api/v1/pair/rotate-key", post(rotate_key))
        .route("/api/v1/pair/push", post(push))
        .route("/api/v1/pair/invite", post(invite))
        .route("/api/v1/pair/join", post(join))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .layer(DefaultBodyLimit::max(BODY_AT_MOST))
        .with_state(handle)
}

/// `/metrics` and `/healthz` for the networks that may read them.
pub fn metrics_router(handle: Handle, allowed: Vec<(IpAddr, u8)>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .with_state(handle)
        .layer(from_fn_with_state(Arc::new(allowed), only_from))
}

async fn only_from(
    State(allowed): State<Arc<Vec<(IpAddr, u8)>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: HttpRequest,
    next: Next,
) -> Response {
    if allowed.iter().any(|network| contains(*network, peer.ip())) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "not in [admin] metrics-allow\n").into_response()
}

fn contains((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(a) => (u128::from(u32::from(a)) << 96, 32),
        IpAddr::V6(a) => (u128::from(a), 128),
    };
    let ((network, length), (address, address_length)) = (bits(network), bits(address.to_canonical()));
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    length == address_length && network & mask == address & mask
}

fn gone() -> Refused {
    Refused::new(Kind::Failed, "the daemon is stopping")
}

async fn ask<T>(handle: &Handle, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Refused> {
    let (reply, answer) = oneshot::channel();
    handle.0.send(request(reply)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.kind {
            Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Failed => StatusCode::CONFLICT,
        };
        (status, Json(self.failure)).into_response()
    }
}

type Answer<T> = Result<Json<T>, Refused>;

async fn status(State(handle): State<Handle>) -> Answer<api::Status> {
    ask(&handle, Request::Status).await.map(Json)
}

fn text(body: &Bytes) -> Result<String, Refused> {
    let not_text = |_| Refused::new(Kind::Invalid, "the configuration is not UTF-8");
    String::from_utf8(body.to_vec()).map_err(not_text)
}

async fn plan(State(handle): State<Handle>, body: Bytes) -> Answer<api::Plan> {
    let text = text(&body)?;
    ask(&handle, |reply| Request::Plan { text, reply }).await?.map(Json)
}

async fn commit(
    State(handle): State<Handle>,
    Query(options): Query<api::CommitOptions>,
    body: Bytes,
) -> Answer<api::Committed> {
    let text = text(&body)?;
    ask(&handle, |reply| Request::Commit { text, options, reply }).await?.map(Json)
}

async fn confirm(State(handle): State<Handle>, _: Bytes) -> Answer<api::Confirmed> {
    ask(&handle, Request::Confirm).await?.map(Json)
}

async fn rollback(
    State(handle): State<Handle>,
    Json(rollback): Json<api::Rollback>,
) -> Answer<api::Committed> {
    ask(&handle, |reply| Request::Rollback { rollback, reply }).await?.map(Json)
}

async fn history(State(handle): State<Handle>) -> Answer<Vec<api::Revision>> {
    ask(&handle, Request::History).await.map(Json)
}

async fn revision(State(handle): State<Handle>, Path(revision): Path<u64>) -> Answer<api::RevisionText> {
    ask(&handle, |reply| Request::Revision { revision, reply }).await?.map(Json)
}

async fn change(
    State(handle): State<Handle>,
    Path((service, server)): Path<(String, String)>,
    Json(change): Json<api::ServerChange>,
) -> Answer<api::RealServer> {
    ask(&handle, |reply| Request::Change { service, server, change, reply }).await?.map(Json)
}

async fn connections(
    State(handle): State<Handle>,
    Query(filter): Query<api::ConnectionFilter>,
) -> Answer<Vec<api::Connection>> {
    ask(&handle, |reply| Request::Connections { filter, reply }).await.map(Json)
}

async fn persistence(
    State(handle): State<Handle>,
    Path(service): Path<String>,
) -> Answer<Vec<api::PersistenceEntry>> {
    ask(&handle, |reply| Request::Persistence { service, reply }).await?.map(Json)
}

#[derive(serde::Deserialize)]
struct KeyQuery {
    key: Option<String>,
}

async fn clear_persistence(
    State(handle): State<Handle>,
    Path(service): Path<String>,
    Query(query): Query<KeyQuery>,
) -> Answer<api::Cleared> {
    let key = query.key;
    ask(&handle, |reply| Request::ClearPersistence { service, key, reply }).await?.map(Json)
}

async fn explain(
    State(handle): State<Handle>,
    Json(question): Json<api::Question>,
) -> Answer<api::Explanation> {
    ask(&handle, |reply| Request::Explain { question, reply }).await?.map(Json)
}

async fn pair(State(handle): State<Handle>) -> Answer<api::Pair> {
    ask(&handle, Request::Pair).await?.map(Json)
}

async fn switch_over(State(handle): State<Handle>, _: Bytes) -> Answer<api::SwitchedOver> {
    ask(&handle, Request::SwitchOver).await?.map(Json)
}

async fn hold(State(handle): State<Handle>, _: Bytes) -> Answer<api::Pair> {
    ask(&handle, |reply| Request::Hold { held: true, reply }).await?.map(Json)
}

async fn release(State(handle): State<Handle>) -> Answer<api::Pair> {
    ask(&handle, |reply| Request::Hold { held: false, reply }).await?.map(Json)
}

async fn rotate_key(State(handle): State<Handle>, _: Bytes) -> Answer<api::Pair> {
    ask(&handle, Request::RotateKey).await?.map(Json)
}

async fn push(State(handle): State<Handle>, _: Bytes) -> Answer<api::Pair> {
    ask(&handle, Request::Push).await?.map(Json)
}

async fn join(State(handle): State<Handle>, Json(join): Json<api::Join>) -> Answer<api::Pair> {
    ask(&handle, |reply| Request::Join { code: join.code, reply }).await?.map(Json)
}

async fn invite(State(handle): State<Handle>, _: Bytes) -> Answer<api::Invitation> {
    ask(&handle, Request::Invite).await?.map(Json)
}

async fn metrics(State(handle): State<Handle>) -> Result<Response, Refused> {
    let text = ask(&handle, Request::Metrics).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn healthz() -> &'static str {
    "ok\n"
}

/// Access log lines as they come, until the reader goes away.
async fn logs(State(handle): State<Handle>) -> Result<Response, Refused> {
    let lines = ask(&handle, Request::Logs).await?;
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    tokio::task::spawn_blocking(move || {
        loop {
            match lines.recv_timeout(Duration::from_secs(1)) {
                Ok(batch) => {
                    if sender.blocking_send(batch.into()).is_err() {
                        return;
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !sender.is_closed() => {}
                Err(_) => return,
            }
        }
    });
    let stream = Lines(receiver);
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::new(stream)).into_response())
}

/// A body fed by a channel.
struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|item| item.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let check = |network: &str, prefix, address: &str, expect| {
            let network = (network.parse().unwrap(), prefix);
            assert_eq!(contains(network, address.parse().unwrap()), expect, "{network:?} {address}");
        };
        check("127.0.0.0", 8, "127.9.9.9", true);
        check("127.0.0.0", 8, "128.0.0.1", false);
        check("127.0.0.0", 8, "::ffff:127.0.0.1", true);
        check("0.0.0.0", 0, "8.8.8.8", true);
        check("0.0.0.0", 0, "::1", false);
        check("::1", 128, "::1", true);
        check("2001:db8::", 32, "2001:db8:1::", true);
    }
}
