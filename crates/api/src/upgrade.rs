//! A new version for the other node of a pair, step by step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step, for the other node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum PairUpgrade {
    /// Keep these bytes of the bundle (base64), which follow those that came before; at 0 another one begins.
    Piece { offset: u64, data: String },
    /// All of it is there: check it and take it. The number is for `ask`.
    Install { number: u64, size: u64, older: bool },
    /// How far is it?
    Ask { number: u64 },
}

/// How far the other node is with a new version.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PairUpgraded {
    pub state: UpgradeState,
    /// Bytes of the bundle that it has.
    pub received: u64,
    /// What it did, or why it failed.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeState {
    Receiving,
    Installing,
    Done,
    Failed,
}
