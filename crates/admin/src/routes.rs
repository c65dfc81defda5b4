//! The routes of the daemon's own things, and the JSON on both sides.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use evenkeel_api as api;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::accounts::{By, Who};
use crate::gate::{Detail, Right, demand, from_socket, headers, may};
use crate::scrape::SCRAPES;
use crate::table::{Entry, delete, get, post, put, router};
use crate::{App, FailureKind, Handle, Refused, Request, live, maintenance, openapi, people, run_time, ui};

/// A configuration of 100,000 services is some 20 MB.
const BODY_AT_MOST: usize = 256 << 20;
/// The same for those who are not known yet.
const STRANGERS_BODY_AT_MOST: usize = 16 << 10;
/// How many of a list, unless more are asked for.
const PAGE: usize = 1000;

/// Every route there is.
pub fn entries() -> Vec<Entry> {
    use Right::{Certificates, Configure, Open, Operate, Read, See};
    let mut all = vec![
        get("/api/v1/status", See, "Virtual services and their real servers", status)
            .query::<StatusQuery>()
            .gives::<api::Status>(),
        get("/api/v1/live", See, "States and happenings as they change: server-sent events", live::stream)
            .gives_text("text/event-stream"),
        get("/api/v1/happenings", See, "What happened lately, the latest first", happenings)
            .query::<api::Page>()
            .gives::<Vec<api::Happening>>(),
        get(
            "/api/v1/configuration",
            Read,
            "The running configuration; its ETag is the revision",
            configuration,
        )
        .gives::<api::Configuration>(),
        post(
            "/api/v1/configuration/propose",
            Configure,
            "What edits would make of a configuration: text, diff, problems, plan; comments stay",
            propose,
        )
        .takes::<api::Edits>()
        .gives::<api::Proposal>(),
        get("/api/v1/schema", See, "JSON Schema of the configuration", schema).gives::<serde_json::Value>(),
        post("/api/v1/plan", Configure, "What committing a text would do", plan)
            .takes_text("application/toml")
            .gives::<api::Plan>(),
        post("/api/v1/commit", Configure, "Make a text the running configuration", commit)
            .query::<api::CommitOptions>()
            .takes_text("application/toml")
            .gives::<api::Committed>(),
        post("/api/v1/confirm", Configure, "Keep a revision that would go back by itself", confirm)
            .gives::<api::Confirmed>(),
        post("/api/v1/rollback", Configure, "Make an earlier revision the running one", rollback)
            .takes::<api::Rollback>()
            .gives::<api::Committed>(),
        get("/api/v1/revisions", See, "Revisions that have run, the latest first", history)
            .query::<api::Page>()
            .gives::<Vec<api::Revision>>(),
        get("/api/v1/revisions/{revision}", Read, "The text of a revision", revision)
            .gives::<api::RevisionText>(),
        post(
            "/api/v1/servers/{service}/{server}",
            Operate,
            "Drain, halt, online, weigh a real server",
            change,
        )
        .takes::<api::ServerChange>()
        .gives::<api::RealServer>(),
        get("/api/v1/connections", See, "Client connections", connections)
            .query::<api::ConnectionFilter>()
            .gives::<Vec<api::Connection>>(),
        delete(
            "/api/v1/connections",
            Operate,
            "Close those of a client, a real server or a service, or a single one",
            close,
        )
        .query::<api::Closing>()
        .gives::<api::Closed>(),
        get("/api/v1/program-log", Operate, "What the program has said of itself lately", program_log)
            .gives::<Vec<String>>(),
        get("/api/v1/persistence/{service}", See, "Which client belongs to which real server", persistence)
            .query::<api::Page>()
            .gives::<Vec<api::PersistenceEntry>>(),
        delete("/api/v1/persistence/{service}", Operate, "Forget entries, or one", clear_persistence)
            .query::<KeyQuery>()
            .gives::<api::Cleared>(),
        post("/api/v1/explain", See, "Why a request goes to which real server", explain)
            .takes::<api::Question>()
            .gives::<api::Explanation>(),
        get("/api/v1/series", See, "What was, for graphs", series)
            .query::<api::SeriesQuery>()
            .gives::<api::Series>(),
        get("/api/v1/series.csv", See, "The same as CSV", series_csv)
            .query::<api::SeriesQuery>()
            .gives_text("text/csv"),
        get("/api/v1/series.png", See, "The same as a picture", series_png)
            .query::<api::SeriesQuery>()
            .gives_text("image/png"),
        get("/api/v1/logs", See, "Access log lines as they come", live::logs).gives_text("text/plain"),
        get("/api/v1/certificates", See, "Certificates and when they end", certificates)
            .gives::<Vec<api::Certificate>>(),
        put(
            "/api/v1/certificates/{name}",
            Certificates,
            "Replace a certificate and its key (PEM)",
            put_certificate,
        )
        .takes_text("application/x-pem-file")
        .gives::<api::Certificate>(),
        post(
            "/api/v1/certificates/{name}/renew",
            Certificates,
            "Order a managed certificate anew, now",
            renew_certificate,
        )
        .gives::<api::Certificate>(),
        post(
            "/api/v1/certificates/{name}/revoke",
            Certificates,
            "Have the authority take back a managed certificate, and order a new one",
            revoke_certificate,
        )
        .gives::<api::Certificate>(),
        get("/api/v1/doctor", See, "What keeps clients from being served, and how to mend it", doctor)
            .gives::<serde_json::Value>(),
        post("/api/v1/attempt", Operate, "Whether a real server would pass its check", attempt)
            .takes::<api::Attempt>()
            .gives::<api::Attempted>(),
        get("/api/v1/who-has", Operate, "Which machines on the network answer for an address", who_has)
            .query::<api::WhoHas>()
            .gives::<Vec<api::Holder>>(),
        post(
            "/api/v1/alerts/test",
            Configure,
            "Send a test message to every receiver of alerts",
            test_alerts,
        )
        .gives::<api::AlertsTested>(),
        get("/api/v1/backup", Configure, "Everything that makes this node what it is", backup)
            .gives::<api::Backup>(),
        post("/api/v1/restore", Configure, "Make a backup the running state", restore)
            .query::<api::RestoreOptions>()
            .takes::<api::Backup>()
            .gives::<api::Restored>(),
        get(
            "/api/v1/support-bundle",
            Configure,
            "What a helper needs to see, without secrets",
            support_bundle,
        )
        .gives::<serde_json::Value>(),
        post("/api/v1/restart", Configure, "Start the program or a part anew; connections are kept", restart)
            .takes::<api::Restart>()
            .gives::<api::Restarting>(),
        get("/api/v1/node", See, "The machine's addresses, routes, names and time", machine)
            .gives::<api::Machine>(),
        get("/api/v1/pair", See, "The pair as this node sees it", pair).gives::<api::Pair>(),
        post("/api/v1/pair/switch-over", Operate, "Make the other node the active one", switch_over)
            .gives::<api::SwitchedOver>(),
        post("/api/v1/pair/upgrade", Configure, "A step of a new version for the other node", upgrade_other)
            .takes::<api::PairUpgrade>()
            .gives::<api::PairUpgraded>(),
        get("/api/v1/pair/upgrade/{number}", Configure, "How far the other node is with it", other_upgraded)
            .gives::<api::PairUpgraded>(),
        post("/api/v1/pair/hold", Operate, "Stay passive until released", hold).gives::<api::Pair>(),
        delete("/api/v1/pair/hold", Operate, "Release", release).gives::<api::Pair>(),
        post("/api/v1/pair/rotate-key", Configure, "Give the pair a new key", rotate_key)
            .gives::<api::Pair>(),
        post("/api/v1/pair/push", Configure, "Give the other node this configuration", push)
            .gives::<api::Pair>(),
        post("/api/v1/pair/invite", Configure, "A one-time code for a node that joins", invite)
            .takes::<api::PairPart>()
            .gives::<api::Invitation>(),
        post("/api/v1/pair/join", Configure, "Join with a code", join)
            .takes::<api::Join>()
            .gives::<api::Pair>(),
        get("/metrics", See, "Prometheus metrics", metrics).gives_text("text/plain"),
        get("/healthz", Open, "Whether the program answers", healthz).gives_text("text/plain"),
        get("/api/v1/openapi.json", Open, "This document", document).gives::<serde_json::Value>(),
    ];
    all.extend(people::entries());
    all.extend(run_time::entries());
    all.extend(maintenance::entries());
    all
}

/// Everything, for the Unix socket, which only its owner may open.
pub fn socket_router(app: &App) -> Router {
    router(entries(), app).layer(from_fn(from_socket)).layer(DefaultBodyLimit::max(BODY_AT_MOST))
}

/// The same and the web UI, for those who log in.
pub fn secure_router(app: &App) -> Router {
    let (open, guarded): (Vec<_>, Vec<_>) = entries().into_iter().partition(|e| e.right == Right::Open);
    let strangers = router(open, app).layer(DefaultBodyLimit::max(STRANGERS_BODY_AT_MOST));
    let known = router(guarded, app).layer(DefaultBodyLimit::max(BODY_AT_MOST));
    strangers.merge(known).fallback(ui::serve).layer(from_fn(headers))
}

/// `/metrics` and `/healthz`, for networks that are allowed to read them.
pub fn metrics_router(app: &App) -> Router {
    Router::new()
        .route("/metrics", axum::routing::get(metrics))
        .route("/healthz", axum::routing::get(healthz))
        .with_state(app.clone())
}

fn gone() -> Refused {
    Refused::new(FailureKind::Failed, "the daemon is stopping")
}

pub async fn ask<T>(
    handle: &Handle,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, Refused> {
    let (reply, answer) = oneshot::channel();
    handle.0.send(request(reply)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

/// A part of a list; how long the whole is stands in a header.
pub fn paged<T: Serialize>(all: Vec<T>, page: api::Page) -> Response {
    let total = all.len();
    let part: Vec<T> =
        all.into_iter().skip(page.offset.unwrap_or(0)).take(page.limit.unwrap_or(PAGE)).collect();
    ([(HeaderName::from_static("x-total-count"), total.to_string())], Json(part)).into_response()
}

/// The revision that a change was made for.
fn base(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" {
        return Ok(None);
    }
    let revision = text.trim_matches('"').parse();
    revision
        .map(Some)
        .map_err(|_| Refused::new(FailureKind::Invalid, "If-Match is no ETag of /api/v1/configuration"))
}

pub type Answer<T> = Result<Json<T>, Refused>;

/// Which part of the status.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct StatusQuery {
    /// Only this virtual service.
    service: Option<String>,
}

async fn status(
    State(App { handle, .. }): State<App>,
    Query(query): Query<StatusQuery>,
) -> Answer<api::Status> {
    match query.service {
        Some(service) => ask(&handle, |reply| Request::ServiceStatus { service, reply }).await?.map(Json),
        None => ask(&handle, Request::Status).await.map(Json),
    }
}

fn text(body: &Bytes) -> Result<String, Refused> {
    let not_text = |_| Refused::new(FailureKind::Invalid, "the configuration is not UTF-8");
    String::from_utf8(body.to_vec()).map_err(not_text)
}

async fn plan(State(App { handle, .. }): State<App>, body: Bytes) -> Answer<api::Plan> {
    let text = text(&body)?;
    ask(&handle, |reply| Request::Plan { text, reply }).await?.map(Json)
}

async fn commit(
    State(App { handle, .. }): State<App>,
    Extension(who): Extension<Who>,
    Query(mut options): Query<api::CommitOptions>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let text = text(&body)?;
    options.base = base(&headers)?.or(options.base);
    // Only the socket's owner may speak for others.
    if who.by != By::Socket || options.author.is_none() {
        options.author = Some(who.name);
    }
    let done = ask(&handle, |reply| Request::Commit { text, options, reply }).await??;
    Ok((Extension(Detail(format!("revision {}", done.revision))), Json(done)).into_response())
}

/// HEAD is for who wants the ETag alone: a large configuration is not turned into data for it.
async fn configuration(State(App { handle, .. }): State<App>, method: Method) -> Result<Response, Refused> {
    let tag = |revision: u64| [(header::ETAG, format!("\"{revision}\""))];
    if method == Method::HEAD {
        return Ok(tag(ask(&handle, Request::RunningRevision).await?).into_response());
    }
    let configuration = ask(&handle, Request::Configuration).await??;
    Ok((tag(configuration.revision), Json(configuration)).into_response())
}

async fn propose(
    State(App { handle, .. }): State<App>,
    Json(edits): Json<api::Edits>,
) -> Answer<api::Proposal> {
    ask(&handle, |reply| Request::Propose { edits, reply }).await?.map(Json)
}

async fn schema(State(App { handle, .. }): State<App>) -> Answer<serde_json::Value> {
    ask(&handle, Request::Schema).await.map(Json)
}

async fn confirm(State(App { handle, .. }): State<App>, _: Bytes) -> Answer<api::Confirmed> {
    ask(&handle, Request::Confirm).await?.map(Json)
}

async fn rollback(
    State(App { handle, .. }): State<App>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    Json(mut rollback): Json<api::Rollback>,
) -> Result<Response, Refused> {
    rollback.base = base(&headers)?.or(rollback.base);
    if who.by != By::Socket || rollback.author.is_none() {
        rollback.author = Some(who.name);
    }
    let done = ask(&handle, |reply| Request::Rollback { rollback, reply }).await??;
    Ok((Extension(Detail(format!("revision {}", done.revision))), Json(done)).into_response())
}

async fn history(
    State(App { handle, .. }): State<App>,
    Query(page): Query<api::Page>,
) -> Result<Response, Refused> {
    ask(&handle, Request::History).await.map(|all| paged(all, page))
}

async fn happenings(
    State(App { handle, .. }): State<App>,
    Query(page): Query<api::Page>,
) -> Result<Response, Refused> {
    ask(&handle, Request::Happenings).await.map(|all| paged(all, page))
}

async fn revision(
    State(App { handle, .. }): State<App>,
    Path(revision): Path<u64>,
) -> Answer<api::RevisionText> {
    ask(&handle, |reply| Request::Revision { revision, reply }).await?.map(Json)
}

async fn change(
    State(App { handle, .. }): State<App>,
    Path((service, server)): Path<(String, String)>,
    Json(change): Json<api::ServerChange>,
) -> Result<Response, Refused> {
    let weight = change.weight.map(|w| format!("weight {w}"));
    let words: Vec<String> = change.admin_state.clone().into_iter().chain(weight).collect();
    let detail = Extension(Detail(words.join(", ")));
    let done = ask(&handle, |reply| Request::Change { service, server, change, reply }).await??;
    Ok((detail, Json(done)).into_response())
}

async fn connections(
    State(App { handle, .. }): State<App>,
    Query(filter): Query<api::ConnectionFilter>,
) -> Answer<Vec<api::Connection>> {
    ask(&handle, |reply| Request::Connections { filter, reply }).await.map(Json)
}

async fn close(
    State(App { handle, .. }): State<App>,
    Query(which): Query<api::Closing>,
) -> Result<Response, Refused> {
    let client = which.client.map(|client| match which.client_port {
        Some(port) => std::net::SocketAddr::new(client, port).to_string(),
        None => client.to_string(),
    });
    let words: Vec<String> = which.service.iter().chain(&which.server).cloned().chain(client).collect();
    let done = ask(&handle, |reply| Request::CloseConnections { which, reply }).await??;
    Ok((Extension(Detail(words.join(" "))), Json(done)).into_response())
}

async fn machine(State(App { handle, .. }): State<App>) -> Answer<api::Machine> {
    ask(&handle, Request::Machine).await?.map(Json)
}

async fn program_log(State(App { handle, .. }): State<App>) -> Answer<Vec<String>> {
    ask(&handle, Request::ProgramLog).await.map(Json)
}

async fn persistence(
    State(App { handle, .. }): State<App>,
    Path(service): Path<String>,
    Query(page): Query<api::Page>,
) -> Result<Response, Refused> {
    let all = ask(&handle, |reply| Request::Persistence { service, reply }).await??;
    // The command line shows all of a table.
    Ok(paged(all, api::Page { limit: page.limit.or(Some(usize::MAX)), ..page }))
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct KeyQuery {
    key: Option<String>,
}

async fn clear_persistence(
    State(App { handle, .. }): State<App>,
    Path(service): Path<String>,
    Query(query): Query<KeyQuery>,
) -> Answer<api::Cleared> {
    let key = query.key;
    ask(&handle, |reply| Request::ClearPersistence { service, key, reply }).await?.map(Json)
}

async fn explain(
    State(App { handle, .. }): State<App>,
    Extension(who): Extension<Who>,
    Json(mut question): Json<api::Question>,
) -> Answer<api::Explanation> {
    if question.configuration.is_some() {
        demand(&who, Right::Configure)?;
    }
    question.reads = may(who.role, Right::Configure);
    ask(&handle, |reply| Request::Explain { question, reply }).await?.map(Json)
}

async fn series(
    State(App { handle, .. }): State<App>,
    Query(query): Query<api::SeriesQuery>,
) -> Answer<api::Series> {
    ask(&handle, |reply| Request::Series { query, reply }).await?.map(Json)
}

async fn series_csv(
    State(App { handle, .. }): State<App>,
    Query(query): Query<api::SeriesQuery>,
) -> Result<Response, Refused> {
    let series = ask(&handle, |reply| Request::Series { query, reply }).await??;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], crate::picture::csv(&series)).into_response())
}

async fn series_png(
    State(App { handle, .. }): State<App>,
    Query(query): Query<api::SeriesQuery>,
) -> Result<Response, Refused> {
    let title = match (&query.service, &query.server) {
        (Some(service), Some(server)) => format!("{service}/{server}"),
        (Some(service), None) => service.clone(),
        _ => "this node".into(),
    };
    let series = ask(&handle, |reply| Request::Series { query, reply }).await??;
    let drawn = tokio::task::spawn_blocking(move || crate::picture::png(&title, &series)).await;
    let bytes = drawn
        .ok()
        .flatten()
        .ok_or_else(|| Refused::new(FailureKind::Failed, "the picture cannot be drawn"))?;
    Ok(([(header::CONTENT_TYPE, "image/png")], bytes).into_response())
}

async fn certificates(State(App { handle, .. }): State<App>) -> Answer<Vec<api::Certificate>> {
    ask(&handle, Request::Certificates).await.map(Json)
}

async fn put_certificate(
    State(App { handle, .. }): State<App>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer<api::Certificate> {
    let pem = text(&body)?;
    ask(&handle, |reply| Request::PutCertificate { name, pem, reply }).await?.map(Json)
}

async fn renew_certificate(State(app): State<App>, Path(name): Path<String>) -> Answer<api::Certificate> {
    manage_certificate(&app.handle, name, api::CertificateAction::Renew).await
}

async fn revoke_certificate(State(app): State<App>, Path(name): Path<String>) -> Answer<api::Certificate> {
    manage_certificate(&app.handle, name, api::CertificateAction::Revoke).await
}

async fn manage_certificate(
    handle: &Handle,
    name: String,
    action: api::CertificateAction,
) -> Answer<api::Certificate> {
    ask(handle, |reply| Request::ManageCertificate { name, action, reply }).await?.map(Json)
}

async fn doctor(State(App { handle, .. }): State<App>) -> Answer<serde_json::Value> {
    ask(&handle, Request::Doctor).await?.map(Json)
}

async fn attempt(
    State(App { handle, .. }): State<App>,
    Extension(who): Extension<Who>,
    Json(attempt): Json<api::Attempt>,
) -> Answer<api::Attempted> {
    let free = may(who.role, Right::Configure);
    ask(&handle, |reply| Request::Attempt { attempt, free, reply }).await?.map(Json)
}

async fn who_has(
    State(App { handle, .. }): State<App>,
    Query(api::WhoHas { address }): Query<api::WhoHas>,
) -> Answer<Vec<api::Holder>> {
    ask(&handle, |reply| Request::WhoHas { address, reply }).await?.map(Json)
}

async fn test_alerts(State(App { handle, .. }): State<App>, _: Bytes) -> Answer<api::AlertsTested> {
    ask(&handle, Request::TestAlerts).await?.map(Json)
}

async fn backup(State(App { handle, .. }): State<App>) -> Answer<api::Backup> {
    ask(&handle, Request::Backup).await?.map(Json)
}

async fn restore(
    State(App { handle, .. }): State<App>,
    Extension(who): Extension<Who>,
    Query(options): Query<api::RestoreOptions>,
    Json(backup): Json<Box<api::Backup>>,
) -> Answer<api::Restored> {
    let who = who.name;
    ask(&handle, |reply| Request::Restore { backup, options, who, reply }).await?.map(Json)
}

async fn support_bundle(State(App { handle, .. }): State<App>) -> Answer<serde_json::Value> {
    ask(&handle, Request::SupportBundle).await?.map(Json)
}

async fn restart(
    State(App { handle, .. }): State<App>,
    Json(restart): Json<api::Restart>,
) -> Answer<api::Restarting> {
    ask(&handle, |reply| Request::Restart { part: restart.part, reply }).await?.map(Json)
}

async fn document() -> Json<serde_json::Value> {
    Json(openapi::document())
}

async fn pair(State(App { handle, .. }): State<App>) -> Answer<api::Pair> {
    ask(&handle, Request::Pair).await?.map(Json)
}

async fn switch_over(State(App { handle, .. }): State<App>, _: Bytes) -> Answer<api::SwitchedOver> {
    ask(&handle, Request::SwitchOver).await?.map(Json)
}

async fn upgrade_other(
    State(App { handle, .. }): State<App>,
    Json(step): Json<api::PairUpgrade>,
) -> Answer<api::PairUpgraded> {
    ask(&handle, |reply| Request::UpgradeOther { step, reply }).await?.map(Json)
}

async fn other_upgraded(
    State(App { handle, .. }): State<App>,
    Path(number): Path<u64>,
) -> Answer<api::PairUpgraded> {
    let step = api::PairUpgrade::Ask { number };
    ask(&handle, |reply| Request::UpgradeOther { step, reply }).await?.map(Json)
}

async fn hold(State(App { handle, .. }): State<App>, _: Bytes) -> Answer<api::Pair> {
    ask(&handle, |reply| Request::Hold { held: true, reply }).await?.map(Json)
}

async fn release(State(App { handle, .. }): State<App>) -> Answer<api::Pair> {
    ask(&handle, |reply| Request::Hold { held: false, reply }).await?.map(Json)
}

async fn rotate_key(State(App { handle, .. }): State<App>, _: Bytes) -> Answer<api::Pair> {
    ask(&handle, Request::RotateKey).await?.map(Json)
}

async fn push(State(App { handle, .. }): State<App>, _: Bytes) -> Answer<api::Pair> {
    ask(&handle, Request::Push).await?.map(Json)
}

async fn join(State(App { handle, .. }): State<App>, Json(join): Json<api::Join>) -> Answer<api::Pair> {
    ask(&handle, |reply| Request::Join { join, reply }).await?.map(Json)
}

/// Who has a pair says nothing more.
async fn invite(State(App { handle, .. }): State<App>, body: Bytes) -> Answer<api::Invitation> {
    let part = match body.is_empty() {
        true => None,
        false => serde_json::from_slice::<Option<api::PairPart>>(&body)
            .map_err(|e| Refused::new(FailureKind::Invalid, e.to_string()))?,
    };
    let part = part.unwrap_or_default();
    ask(&handle, |reply| Request::Invite { part, reply }).await?.map(Json)
}

pub async fn metrics(State(App { handle, .. }): State<App>) -> Result<Response, Refused> {
    let busy = "answers with metrics are under way that are not read: try again";
    let place = SCRAPES.begin().ok_or_else(|| Refused::new(FailureKind::Busy, busy))?;
    let text = place.with(ask(&handle, Request::Metrics).await?);
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((content_type, axum::body::Body::new(text)).into_response())
}

pub async fn healthz() -> &'static str {
    "ok\n"
}

#[cfg(test)]
mod tests;
