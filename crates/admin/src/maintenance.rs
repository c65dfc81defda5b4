//! Times in which real servers take no new clients: planned, listed, ended.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use evenkeel_api as api;

use crate::accounts::Who;
use crate::gate::{Detail, Right};
use crate::routes::{Answer, ask};
use crate::table::{Entry, delete, get, post};
use crate::{App, Refused, Request};

pub fn entries() -> Vec<Entry> {
    use Right::{Operate, See};
    vec![
        get("/api/v1/maintenance", See, "Times in which real servers are drained or halted", list)
            .gives::<Vec<api::MaintenanceWindow>>(),
        post("/api/v1/maintenance", Operate, "Plan a time in which real servers take no new clients", plan)
            .takes::<api::PlannedMaintenance>()
            .gives::<api::MaintenanceWindow>(),
        delete(
            "/api/v1/maintenance/{id}",
            Operate,
            "End a maintenance now, or drop one that has not begun",
            end,
        )
        .gives::<api::MaintenanceWindow>(),
    ]
}

async fn list(State(App { handle, .. }): State<App>) -> Answer<Vec<api::MaintenanceWindow>> {
    ask(&handle, Request::Maintenance).await.map(Json)
}

async fn plan(
    State(App { handle, .. }): State<App>,
    Extension(who): Extension<Who>,
    Json(planned): Json<api::PlannedMaintenance>,
) -> Result<Response, Refused> {
    let detail = Extension(Detail(planned.servers.join(", ").chars().take(500).collect()));
    let by = who.name;
    let done = ask(&handle, |reply| Request::PlanMaintenance { planned, by, reply }).await??;
    Ok((detail, Json(done)).into_response())
}

async fn end(
    State(App { handle, .. }): State<App>,
    Path(id): Path<String>,
) -> Answer<api::MaintenanceWindow> {
    ask(&handle, |reply| Request::EndMaintenance { id, reply }).await?.map(Json)
}
