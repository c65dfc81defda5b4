//! Logging in and out, people, tokens, sessions, the audit, lockdown.

use std::net::SocketAddr;
use std::sync::LazyLock;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Extension, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use evenkeel_api as api;
use tokio::sync::Semaphore;

use crate::accounts::{Accounts, By, Who};
use crate::gate::{COOKIE, Detail, Right, cookie, now_ms};
use crate::routes::{Answer, ask, paged};
use crate::table::{Entry, delete, get, post, put};
use crate::{App, FailureKind, Refused, Request};

/// Hashing takes memory and time on purpose: only so many at once.
static HASHING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

pub fn entries() -> Vec<Entry> {
    use Right::{Configure, Open, Own};
    vec![
        get("/api/v1/door", Open, "Whether somebody exists already", door).gives::<api::Door>(),
        post("/api/v1/set-up", Open, "Make the first person, with the code of the first start", set_up)
            .takes::<api::SetUp>()
            .gives::<api::Myself>(),
        post("/api/v1/login", Open, "Begin a session", log_in).takes::<api::Login>().gives::<api::Myself>(),
        post("/api/v1/logout", Own, "End this session", log_out).gives::<api::Door>(),
        get("/api/v1/self", Own, "Who is asking", myself).gives::<api::Myself>(),
        put("/api/v1/self/password", Own, "Change one's own password", change_password)
            .takes::<api::PasswordChange>()
            .gives::<api::Myself>(),
        post("/api/v1/self/second-factor", Own, "Begin to set up a second factor", begin_second_factor)
            .takes::<api::Proof>()
            .gives::<api::SecondFactor>(),
        put("/api/v1/self/second-factor", Own, "Finish it with a first code", finish_second_factor)
            .takes::<api::Code>()
            .gives::<api::Myself>(),
        get("/api/v1/users", Configure, "People", users).query::<api::Page>().gives::<Vec<api::User>>(),
        post("/api/v1/users", Configure, "Add a person", add_user)
            .takes::<api::NewUser>()
            .gives::<Vec<api::User>>(),
        put(
            "/api/v1/users/{name}",
            Configure,
            "Change a person's role, password or second factor",
            change_user,
        )
        .takes::<api::UserChange>()
        .gives::<Vec<api::User>>(),
        delete("/api/v1/users/{name}", Configure, "Remove a person, their sessions and tokens", remove_user)
            .gives::<Vec<api::User>>(),
        get("/api/v1/sessions", Configure, "Who is logged in", sessions).gives::<Vec<api::Session>>(),
        delete("/api/v1/sessions/{id}", Configure, "End a session", end_session).gives::<Vec<api::Session>>(),
        get("/api/v1/tokens", Configure, "Tokens of scripts", tokens)
            .query::<api::Page>()
            .gives::<Vec<api::Token>>(),
        post("/api/v1/tokens", Configure, "Make a token; it is shown once", add_token)
            .takes::<api::NewToken>()
            .gives::<api::Token>(),
        delete("/api/v1/tokens/{id}", Configure, "Revoke a token", remove_token).gives::<Vec<api::Token>>(),
        get("/api/v1/audit", Configure, "What people did, the latest first", audit)
            .query::<api::Page>()
            .gives::<Vec<api::AuditEntry>>(),
        get("/api/v1/audit/verify", Configure, "Whether the audit log was tampered with", verify)
            .gives::<api::AuditVerdict>(),
        post(
            "/api/v1/lockdown",
            Configure,
            "Close what is open: addresses, old TLS, tokens without an end, sessions; rotate keys",
            lockdown,
        )
        .gives::<api::Lockdown>(),
    ]
}

/// Runs what takes long by design where it hurts nobody.
async fn slowly<T: Send + 'static>(
    accounts: &Accounts,
    work: impl FnOnce(Accounts) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let busy = || Refused::new(FailureKind::Failed, "the daemon is stopping");
    let _place = HASHING.acquire().await.map_err(|_| busy())?;
    let accounts = accounts.clone();
    tokio::task::spawn_blocking(move || work(accounts)).await.map_err(|_| busy())?
}

fn shown(app: &App, who: &Who) -> api::Myself {
    let (by, csrf) = match &who.by {
        By::Socket => ("socket", None),
        By::Session { csrf, .. } => ("session", Some(csrf.clone())),
        By::Token { .. } => ("token", None),
    };
    let second_factor = app.accounts.has_second_factor(&who.name);
    api::Myself { name: who.name.clone(), role: who.role, csrf, second_factor, by: by.into() }
}

async fn door(State(app): State<App>) -> Answer<api::Door> {
    Ok(Json(app.accounts.door()))
}

fn from(info: Option<&ConnectInfo<SocketAddr>>) -> String {
    info.map_or_else(|| "socket".into(), |c| c.0.ip().to_canonical().to_string())
}

fn agent(headers: &HeaderMap) -> String {
    headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned()
}

async fn set_up(
    State(app): State<App>,
    info: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    Json(request): Json<api::SetUp>,
) -> Response {
    let login = api::Login { name: request.name.clone(), password: request.password.clone(), code: None };
    let done = slowly(&app.accounts, move |a| a.set_up(&request, now_ms())).await;
    match done {
        Ok(()) => enter(app, info, headers, login).await,
        Err(refused) => (Extension(Detail("the first person".into())), refused).into_response(),
    }
}

async fn log_in(
    State(app): State<App>,
    info: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    Json(login): Json<api::Login>,
) -> Response {
    enter(app, info, headers, login).await
}

async fn enter(
    app: App,
    info: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    login: api::Login,
) -> Response {
    let (from, agent) = (from(info.as_deref()), agent(&headers));
    // A session that is logged in again is replaced, not kept beside the new one.
    let old = cookie(&headers).and_then(|c| app.accounts.of_session(c, &from, now_ms()));
    let name = login.name.clone();
    let done = slowly(&app.accounts, move |a| a.log_in(&login, &from, &agent, now_ms())).await;
    let detail = Extension(Detail(name));
    match done {
        Ok((secret, who)) => {
            if let Some(Who { by: By::Session { id, .. }, .. }) = old {
                let _ = app.accounts.log_out(&id);
            }
            let cookie = format!("{COOKIE}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict");
            let body = Json(shown(&app, &who));
            (detail, Extension(who), [(header::SET_COOKIE, cookie)], body).into_response()
        }
        Err(refused) => (detail, refused).into_response(),
    }
}

async fn log_out(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    _: Bytes,
) -> Result<Response, Refused> {
    if let By::Session { id, .. } = &who.by {
        app.accounts.log_out(id)?;
    }
    let gone = format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");
    Ok(([(header::SET_COOKIE, gone)], Json(app.accounts.door())).into_response())
}

async fn myself(State(app): State<App>, Extension(who): Extension<Who>) -> Answer<api::Myself> {
    Ok(Json(shown(&app, &who)))
}

async fn change_password(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Json(change): Json<api::PasswordChange>,
) -> Answer<api::Myself> {
    let own = who.clone();
    slowly(&app.accounts, move |a| a.change_password(&own, &change, now_ms())).await?;
    Ok(Json(shown(&app, &who)))
}

async fn begin_second_factor(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    body: Bytes,
) -> Answer<api::SecondFactor> {
    let invalid = |e: serde_json::Error| Refused::new(FailureKind::Invalid, e.to_string());
    let proof = match body.is_empty() {
        true => api::Proof::default(),
        false => serde_json::from_slice(&body).map_err(invalid)?,
    };
    let node = app.node.clone();
    slowly(&app.accounts, move |a| a.begin_second_factor(&who, &node, &proof, now_ms())).await.map(Json)
}

async fn finish_second_factor(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Json(code): Json<api::Code>,
) -> Answer<api::Myself> {
    app.accounts.finish_second_factor(&who, &code.code, now_ms())?;
    Ok(Json(shown(&app, &who)))
}

async fn users(State(app): State<App>, Query(page): Query<api::Page>) -> Response {
    paged(app.accounts.users(now_ms()), page)
}

async fn add_user(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Json(new): Json<api::NewUser>,
) -> Result<Response, Refused> {
    let detail = Detail(format!("{} as {}", new.name, new.role.as_str()));
    slowly(&app.accounts, move |a| a.add_user(&new, &who, now_ms())).await?;
    Ok((Extension(detail), Json(app.accounts.users(now_ms()))).into_response())
}

async fn change_user(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
    Json(change): Json<api::UserChange>,
) -> Answer<Vec<api::User>> {
    // A session that was stolen must not become a way in for good.
    let own = app.accounts.is_person(&who, &name) && who.by != By::Socket;
    if own && (change.password.is_some() || change.second_factor == Some(false)) {
        let why = "one's own password and second factor are changed under /api/v1/self, with the old ones";
        return Err(Refused::new(FailureKind::Forbidden, why));
    }
    slowly(&app.accounts, move |a| a.change_user(&name, &change, &who, now_ms())).await?;
    Ok(Json(app.accounts.users(now_ms())))
}

async fn remove_user(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
    _: Bytes,
) -> Answer<Vec<api::User>> {
    app.accounts.remove_user(&name, &who, now_ms())?;
    Ok(Json(app.accounts.users(now_ms())))
}

async fn sessions(State(app): State<App>, Extension(who): Extension<Who>) -> Answer<Vec<api::Session>> {
    Ok(Json(app.accounts.sessions(&who, now_ms())))
}

async fn end_session(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
    _: Bytes,
) -> Answer<Vec<api::Session>> {
    app.accounts.log_out(&id)?;
    Ok(Json(app.accounts.sessions(&who, now_ms())))
}

async fn tokens(State(app): State<App>, Query(page): Query<api::Page>) -> Response {
    paged(app.accounts.tokens(), page)
}

async fn add_token(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Json(new): Json<api::NewToken>,
) -> Result<Response, Refused> {
    let token = app.accounts.add_token(&new, &who, now_ms())?;
    let detail = Detail(format!("{} as {}", new.name, new.role.as_str()));
    Ok((Extension(detail), Json(token)).into_response())
}

async fn remove_token(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(id): Path<String>,
    _: Bytes,
) -> Answer<Vec<api::Token>> {
    app.accounts.remove_token(&id, &who, now_ms())?;
    Ok(Json(app.accounts.tokens()))
}

async fn audit(State(app): State<App>, Query(page): Query<api::Page>) -> Result<Response, Refused> {
    let audit = app.audit.clone();
    let all = tokio::task::spawn_blocking(move || audit.list()).await;
    Ok(paged(all.unwrap_or_default(), page))
}

async fn verify(State(app): State<App>) -> Answer<api::AuditVerdict> {
    let audit = app.audit.clone();
    let verdict = tokio::task::spawn_blocking(move || audit.verify()).await;
    verdict.map(Json).map_err(|_| Refused::new(FailureKind::Failed, "the daemon is stopping"))
}

async fn lockdown(State(app): State<App>, Extension(who): Extension<Who>, _: Bytes) -> Answer<api::Lockdown> {
    let mut report = api::Lockdown::default();
    let endless = app.accounts.revoke_endless_tokens()?;
    match endless.as_slice() {
        [] => report.done.push("no token was without an end".into()),
        names => report.done.push(format!("revoked tokens without an end: {}", names.join(", "))),
    }
    let ended = app.accounts.end_all_sessions(Some(&who))?;
    report.done.push(match ended {
        1 => "ended 1 other session".into(),
        _ => format!("ended {ended} other sessions"),
    });
    let people = app.accounts.users(now_ms());
    for user in people.iter().filter(|u| !u.second_factor && u.role != api::Role::Viewer) {
        report.left.push(format!("{} ({}) has no second factor", user.name, user.role.as_str()));
    }
    let (name, from) = (who.name.clone(), who.from.clone());
    let rest = ask(&app.handle, |reply| Request::Lockdown { who: name, from, reply }).await??;
    report.done.extend(rest.done);
    report.left.extend(rest.left);
    Ok(Json(report))
}
