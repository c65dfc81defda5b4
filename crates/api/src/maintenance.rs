//! Times in which real servers take no new clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A time in which real servers are drained or halted; at its end those that it has turned are online again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MaintenanceWindow {
    pub id: String,
    /// `SERVICE/SERVER` each.
    pub servers: Vec<String>,
    pub from_ms: u64,
    pub until_ms: u64,
    /// `draining` or `halted`.
    pub admin_state: String,
    /// It is on.
    pub begun: bool,
    /// Who planned it, and why.
    pub by: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedMaintenance {
    /// `SERVICE/SERVER` each.
    pub servers: Vec<String>,
    /// In milliseconds since 1970; now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<u64>,
    pub until_ms: u64,
    /// `draining` (when absent) or `halted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
