//! Real servers that are added, set and taken away while the program runs; who is asked for names.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use evenkeel_api as api;

use crate::accounts::Who;
use crate::gate::{Detail, Right};
use crate::routes::{Answer, ask};
use crate::table::{Entry, delete, get, post, put};
use crate::{App, Refused, Request};

const PLACE: &str = "/api/v1/run-time-servers/{pool}/{server}";

pub fn entries() -> Vec<Entry> {
    use Right::{Configure, See};
    vec![
        get(
            "/api/v1/run-time-servers",
            See,
            "Real servers that were added or set at run time, beside what the file says",
            list,
        )
        .gives::<Vec<api::RunTimeServer>>(),
        get("/api/v1/name-servers", See, "What became of the questions to name servers", name_servers)
            .gives::<Vec<api::NameServer>>(),
        post(PLACE, Configure, "Add a real server that the file does not have", add)
            .takes::<api::ServerKeys>()
            .gives::<api::RunTimeServer>(),
        put(PLACE, Configure, "Set keys of a real server, of the file or added", set)
            .takes::<api::ServerKeys>()
            .gives::<api::RunTimeServer>(),
        delete(PLACE, Configure, "Take away what was added, or what was set of a server of the file", remove)
            .gives::<api::RunTimeServer>(),
    ]
}

async fn list(State(App { handle, .. }): State<App>) -> Answer<Vec<api::RunTimeServer>> {
    ask(&handle, Request::RunTimeServers).await.map(Json)
}

async fn name_servers(State(App { handle, .. }): State<App>) -> Answer<Vec<api::NameServer>> {
    ask(&handle, Request::NameServers).await.map(Json)
}

/// What the record of what people did says of it.
fn detail(keys: &api::ServerKeys) -> Extension<Detail> {
    let expires = keys.expires.iter().map(|time| format!("expires {time}"));
    let words: Vec<String> = keys.keys.iter().map(|(k, v)| format!("{k} {v}")).chain(expires).collect();
    Extension(Detail(words.join(", ").chars().take(500).collect()))
}

async fn add(
    State(App { handle, .. }): State<App>,
    Extension(who): Extension<Who>,
    Path((service, server)): Path<(String, String)>,
    Json(keys): Json<api::ServerKeys>,
) -> Result<Response, Refused> {
    let (detail, by) = (detail(&keys), who.name);
    let done = ask(&handle, |reply| Request::AddServer { service, server, keys, by, reply }).await??;
    Ok((detail, Json(done)).into_response())
}

async fn set(
    State(App { handle, .. }): State<App>,
    Extension(who): Extension<Who>,
    Path((service, server)): Path<(String, String)>,
    Json(keys): Json<api::ServerKeys>,
) -> Result<Response, Refused> {
    let (detail, by) = (detail(&keys), who.name);
    let done = ask(&handle, |reply| Request::SetServer { service, server, keys, by, reply }).await??;
    Ok((detail, Json(done)).into_response())
}

async fn remove(
    State(App { handle, .. }): State<App>,
    Path((service, server)): Path<(String, String)>,
) -> Answer<api::RunTimeServer> {
    ask(&handle, |reply| Request::RemoveServer { service, server, even_of_file: false, reply })
        .await?
        .map(Json)
}
