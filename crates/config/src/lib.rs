//! TOML text to a checked [`evenkeel_model::Snapshot`], in two stages: the text is held against
//! one schema (which also makes the JSON Schema and the reference page), then built into types.
//!
//! In: text. Out: a snapshot or every problem at once, each with its place; a plan between two
//! snapshots; the canonical form of a file. Never: a file, a socket, a clock.

mod acme;
mod advice;
mod alert;
mod build;
mod discovery;
mod edit;
mod format;
mod health;
mod layer4;
mod log;
mod node;
mod pair;
mod plan;
mod problem;
mod publish;
mod redact;
mod rewrite_location;
mod route;
mod schema;
mod section;
mod shared;
mod suggest;
#[cfg(test)]
mod tests;
mod tls;
pub mod tree;
mod validate;

pub use acme::{Ways, orders, ways};
pub use advice::warnings;
pub use build::{read, run_time_server, server_problems, service_problems};
pub use edit::{Change, edit, values};
pub use format::format;
pub use plan::{Impact, Plan, PlanStep, plan};
pub use problem::{Problem, Report};
pub use publish::{json_schema, reference_markdown, routes_markdown};
pub use redact::{Part, redact};
pub use rewrite_location::is_plain;
pub use shared::{OWN as OWN_TABLES, adopt, shared, shared_of_read};
