use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request as HttpRequest;
use evenkeel_api::Role;
use tokio::sync::{broadcast, mpsc, watch};
use tower::ServiceExt;

use super::*;
use crate::accounts::Accounts;
use crate::gate::{COOKIE, may, now_ms};
use crate::{Audit, Feed};

fn write(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(path, bytes)
}

/// An app whose daemon has stopped: what passes the guard is answered with a 409.
fn app(name: &str) -> App {
    let folder = std::env::temp_dir().join(format!("evenkeel-routes-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let status: api::Status =
        serde_json::from_value(serde_json::json!({ "revision": 1, "version": "", "uptime-seconds": 0,
        "node": { "role": "active" }, "connections": 0, "workers": 1, "virtual-services": [] }))
        .unwrap();
    App {
        handle: Handle(mpsc::channel(1).0),
        accounts: Accounts::open(&folder.join("accounts.json"), 3_600_000, write).unwrap(),
        audit: Audit::open(&folder, write).unwrap(),
        feed: Feed {
            status: Arc::new(watch::channel(Some(Arc::new(status))).0),
            happenings: broadcast::channel(8).0,
        },
        node: "lb1".into(),
    }
}

async fn call(app: &App, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let path = path.replace("{revision}", "1").replace(['{', '}'], "");
    let mut request = HttpRequest::builder().method(method.to_uppercase().as_str()).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header("content-type", "application/json").body(Body::from("{}")).unwrap();
    let router = secure_router(app)
        .layer(Extension(axum::extract::ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 1], 9)))));
    router.oneshot(request).await.unwrap().status().as_u16()
}

/// Every route as every role: the table is the only word on who may.
#[tokio::test]
async fn every_route_as_every_role() {
    let app = app("roles");
    let who = Who { name: "ann".into(), role: Role::Admin, from: String::new(), by: By::Socket };
    let mut tokens = Vec::new();
    for role in Role::ALL {
        let new = api::NewToken { name: role.as_str().into(), role, valid_days: Some(1) };
        tokens.push((role, app.accounts.add_token(&new, &who, now_ms()).unwrap().token.unwrap()));
    }
    for entry in entries() {
        let open = entry.right == Right::Open;
        let nobody = call(&app, entry.method, entry.path, &[]).await;
        assert_eq!(nobody == 401, !open, "{} {nobody}", entry.path);
        for (role, _) in &tokens {
            // Revoking an endless token or a lockdown must not end the walk.
            let new = api::NewToken { name: "walk".into(), role: *role, valid_days: Some(1) };
            let token = app.accounts.add_token(&new, &who, now_ms()).unwrap().token.unwrap();
            let bearer = format!("Bearer {token}");
            let status = call(&app, entry.method, entry.path, &[("authorization", &bearer)]).await;
            let refused = status == 403;
            assert_eq!(
                refused,
                !may(*role, entry.right),
                "{} {} {role:?} {status}",
                entry.method,
                entry.path
            );
            assert_ne!(status, 500, "{}", entry.path);
            let wrong = call(&app, entry.method, entry.path, &[("authorization", "Bearer ek_no")]).await;
            assert_eq!(wrong == 401, !open, "{} {wrong}", entry.path);
        }
    }
    let changes = entries()
        .iter()
        .filter(|e| e.method != "get" && may(Role::Viewer, e.right))
        .map(|e| e.path)
        .collect::<HashSet<_>>();
    let own = [
        "/api/v1/set-up",
        "/api/v1/login",
        "/api/v1/logout",
        "/api/v1/self/password",
        "/api/v1/self/second-factor",
        "/api/v1/explain",
    ];
    assert_eq!(changes, own.into(), "a viewer changes nothing but what is their own");
}

/// A configuration that is only asked about names files: it is for those who may commit it.
#[tokio::test]
async fn proposed_configurations_need_the_right_to_configure() {
    let app = app("proposed");
    let who = Who { name: "ann".into(), role: Role::Admin, from: String::new(), by: By::Socket };
    for role in Role::ALL {
        let new = api::NewToken { name: role.as_str().into(), role, valid_days: Some(1) };
        let token = app.accounts.add_token(&new, &who, now_ms()).unwrap().token.unwrap();
        let ask = async |body: &str| {
            let request = HttpRequest::post("/api/v1/explain")
                .header("content-type", "application/json")
                .header("authorization", format!("Bearer {token}"))
                .body(Body::from(body.to_owned()))
                .unwrap();
            secure_router(&app).oneshot(request).await.unwrap().status().as_u16()
        };
        let expect = if role == Role::Admin { 409 } else { 403 };
        assert_eq!(ask(r#"{"target":"http://127.0.0.1/","configuration":"x"}"#).await, expect, "{role:?}");
        assert_eq!(ask(r#"{"target":"http://127.0.0.1/"}"#).await, 409, "{role:?}");
    }
}

/// A cookie alone changes nothing: another site may have made the browser send it.
#[tokio::test]
async fn other_sites_cannot_act() {
    let app = app("csrf");
    let new = api::NewUser { name: "ann".into(), role: Role::Admin, password: "correct horse".into() };
    let socket = Who { name: "root".into(), role: Role::Admin, from: "socket".into(), by: By::Socket };
    app.accounts.add_user(&new, &socket, now_ms()).unwrap();
    let login = api::Login { name: "ann".into(), password: "correct horse".into(), code: None };
    let (secret, who) = app.accounts.log_in(&login, "192.0.2.1", "", now_ms()).unwrap();
    let By::Session { csrf, .. } = who.by else { panic!() };
    let cookie = format!("other=1; {COOKIE}={secret}");
    let path = "/api/v1/confirm";
    let check = async |extra: &[(&str, &str)], expect| {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend_from_slice(extra);
        assert_eq!(call(&app, "post", path, &headers).await, expect, "{extra:?}");
    };
    check(&[], 403).await;
    check(&[("x-evenkeel-csrf", "guess")], 403).await;
    check(&[("x-evenkeel-csrf", &csrf), ("sec-fetch-site", "cross-site")], 403).await;
    check(&[("x-evenkeel-csrf", &csrf), ("sec-fetch-site", "same-origin")], 409).await;
    // Hop-by-hop games take nothing away.
    assert_eq!(call(&app, "post", path, &[("connection", "authorization, cookie")]).await, 401);
    assert_eq!(call(&app, "get", "/api/v1/self", &[("cookie", &cookie)]).await, 200);
    assert_eq!(
        call(&app, "post", "/api/v1/logout", &[("cookie", &cookie), ("x-evenkeel-csrf", &csrf)]).await,
        200
    );
    assert_eq!(call(&app, "get", "/api/v1/self", &[("cookie", &cookie)]).await, 401, "after logging out");
    assert!(
        app.audit
            .list()
            .iter()
            .any(|e| e.what == "POST /api/v1/confirm" && e.outcome == "409" && e.who == "ann")
    );
    assert!(app.audit.verify().intact);
}

#[test]
fn the_document_describes_every_route() {
    let document = openapi::document();
    for entry in entries() {
        let operation = &document["paths"][entry.path][entry.method];
        assert!(operation["summary"].is_string(), "{} {}", entry.method, entry.path);
        assert!(operation["responses"]["200"].is_object());
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let made = serde_json::to_string_pretty(&document).unwrap() + "\n";
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == made, "docs/reference/openapi.json has drifted: make reference");
    let text = document.to_string();
    let mut names = HashSet::new();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        names.insert(reference.split('"').next().unwrap());
    }
    for name in names {
        assert!(document["components"]["schemas"][name].is_object(), "{name} is defined");
    }
}

/// What a request may bring is as much as its person could want to send.
#[tokio::test]
async fn bodies_are_bounded_by_role() {
    let app = app("bodies");
    let who = Who { name: "ann".into(), role: Role::Admin, from: String::new(), by: By::Socket };
    let body = format!("{{\"x\":\"{}\"}}", "x".repeat(2 << 20));
    for (role, expect) in [(Role::Viewer, 413), (Role::Operator, 413), (Role::CertificateManager, 422)] {
        let new = api::NewToken { name: role.as_str().into(), role, valid_days: Some(1) };
        let token = app.accounts.add_token(&new, &who, now_ms()).unwrap().token.unwrap();
        let request = HttpRequest::builder().method("PUT").uri("/api/v1/self/password");
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.header("content-type", "application/json").body(Body::from(body.clone()));
        let router = secure_router(&app)
            .layer(Extension(axum::extract::ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 1], 9)))));
        assert_eq!(router.oneshot(request.unwrap()).await.unwrap().status().as_u16(), expect, "{role:?}");
    }
}

/// Who wants the revision alone does not have the daemon turn a large text into data.
#[tokio::test]
async fn head_of_the_configuration_asks_for_its_number_alone() {
    let (sender, mut asked) = mpsc::channel(1);
    let app = App { handle: Handle(sender), ..app("head") };
    let who = Who { name: "ann".into(), role: Role::Admin, from: String::new(), by: By::Socket };
    let new = api::NewToken { name: "t".into(), role: Role::Admin, valid_days: Some(1) };
    let token = app.accounts.add_token(&new, &who, now_ms()).unwrap().token.unwrap();
    tokio::spawn(async move {
        if let Some(Request::RunningRevision(reply)) = asked.recv().await {
            let _ = reply.send(7);
        }
    });
    let request =
        HttpRequest::head("/api/v1/configuration").header("authorization", format!("Bearer {token}"));
    let answer = secure_router(&app).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["etag"]), (200, &"\"7\"".parse().unwrap()));
}
