//! Changes of the configuration's text, by place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The running configuration as it was written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Configuration {
    pub revision: u64,
    pub text: String,
    /// The same as data, for forms.
    pub values: serde_json::Value,
    /// It goes back to what was before unless it is confirmed within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within_ms: Option<u64>,
}

/// Edits that make a candidate out of a text.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Edits {
    /// What they are made to; the running configuration when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default)]
    pub edits: Vec<Edit>,
}

/// One edit. The place is a list of keys; in a list of tables a name (or a number) says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub enum Edit {
    /// Sets a value, or makes it.
    Set { at: Vec<String>, value: serde_json::Value },
    /// Takes a value, a table or one of a list away.
    Remove { at: Vec<String> },
    /// Adds a table to a list of tables.
    Add { at: Vec<String>, value: serde_json::Value },
    /// Moves one of a list of tables to another place in it.
    Move { at: Vec<String>, to: usize },
}

/// What would be committed, and what that would do.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Proposal {
    pub text: String,
    /// The same as data, where it is TOML.
    pub values: serde_json::Value,
    /// Unified, from the running configuration.
    pub diff: String,
    pub problems: Vec<super::Problem>,
    /// Absent while there are problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<super::Plan>,
}
