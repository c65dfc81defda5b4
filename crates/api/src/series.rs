//! What was, for graphs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a graph is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SeriesQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A real server of the service; without either the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// `1m`, `5m`, `1h`, `1d`, `7d`, `30d` or `365d`; an hour when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// The values to draw, for a picture; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Series {
    /// Seconds between two points.
    pub step_seconds: u64,
    /// The first point, in seconds since 1970.
    pub start: u64,
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Column {
    pub name: String,
    /// What it is, in words.
    pub title: String,
    /// `per second`, `bytes per second`, `milliseconds`, `percent` or nothing.
    pub unit: String,
    /// `null` where nothing is known.
    pub points: Vec<Option<f32>>,
}
