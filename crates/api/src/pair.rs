//! The pair of two nodes as the API tells of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pair as one node sees it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Pair {
    pub name: String,
    /// Of this node's program; the other node's is in `link`.
    #[serde(default)]
    pub version: String,
    pub role: String,
    /// Why it has that role.
    pub why: String,
    pub since_ms: u64,
    /// It has the pair's key.
    pub paired: bool,
    /// It stays passive until told otherwise.
    pub held: bool,
    pub split_brain: bool,
    /// What is wrong with this node, weighed.
    pub trouble: u16,
    pub troubles: Vec<String>,
    pub priority: u8,
    pub revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PairPeer>,
    pub paths: Vec<PairPath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beats: Option<PairBeats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<PairWitness>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<PairLink>,
    /// Messages that changed nothing, by reason.
    pub refused: std::collections::BTreeMap<String, u64>,
    /// When the addresses were announced last (gratuitous ARP, neighbour adverts).
    pub announced_ms_ago: Option<u64>,
    pub addresses_without_interface: Vec<String>,
    /// Who else answered for an address at the last takeover.
    pub conflict: Option<String>,
    /// The last time that this node stood still for longer than its peer waits for a beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood_still: Option<StoodStill>,
    /// A second process removes the addresses should this one die or freeze.
    pub guarded: bool,
    /// The election runs before everything else.
    pub real_time: bool,
    /// The virtual routers of VRRP, which all have this node's role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<PairRouter>,
}

/// A virtual router of VRRP.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PairRouter {
    pub interface: String,
    pub router_id: u8,
    pub version: u8,
    pub ipv6: bool,
    pub priority: u8,
    pub interval_ms: u64,
    /// A router of lower priority gives way.
    pub preempts: bool,
    pub addresses: Vec<String>,
}

/// What the other node said last.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PairPeer {
    /// As it has named itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub address: String,
    pub heard: bool,
    pub heard_ms_ago: Option<u64>,
    pub role: Option<String>,
    pub trouble: Option<u16>,
    pub priority: Option<u8>,
    pub revision: Option<u64>,
    pub hears_this_node_ms_ago: Option<u64>,
    /// It says that on one of the paths it does not hear this node, which it hears on another.
    #[serde(default)]
    pub misses_a_path: bool,
    /// The last time that it stood still, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood_still: Option<StoodStill>,
}

impl Pair {
    /// The witness, where this node asks it and has no answer. A passive one that hears its peer does not ask.
    pub fn silent_witness(&self) -> Option<&PairWitness> {
        const LONG_MS: u64 = 3_000;
        let heard = self.peer.as_ref().is_some_and(|peer| peer.heard);
        let asks = self.role == "active" || (self.role == "passive" && !heard && !self.held);
        let witness = self.witness.as_ref().filter(|_| asks && self.since_ms >= LONG_MS)?;
        witness.heard_ms_ago.is_none_or(|ms| ms >= LONG_MS).then_some(witness)
    }
}

impl PairPeer {
    /// It is heard, and hears nothing of this node on any path: one direction between them is cut, or a firewall there
    /// takes what comes in.
    pub fn is_deaf(&self) -> bool {
        self.heard && self.hears_this_node_ms_ago.is_none_or(|ms| ms >= 1_000)
    }
}

/// A node did not run: no beats, no answers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StoodStill {
    pub lasted_ms: u64,
    pub ended_ms_ago: u64,
    /// As far as the kernel tells: steal, other programs, a task of its own, or stopped.
    pub cause: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PairPath {
    pub name: String,
    pub heard_ms_ago: Option<u64>,
    /// Why it does not work: nothing can be sent, or nothing comes while another path carries beats.
    pub trouble: Option<String>,
}

/// How often the nodes tell each other that they live.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PairBeats {
    pub every_ms: u64,
    /// Silence on every path for so long is taken for death.
    pub dead_after_ms: u64,
    /// Where that time is from.
    pub why: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PairWitness {
    pub address: String,
    pub heard_ms_ago: Option<u64>,
}

/// The link over which the nodes keep each other up to date.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PairLink {
    pub connected: bool,
    /// Why it is not, or what it said last.
    pub detail: String,
    pub peer_version: Option<String>,
    /// `same`, `this node is ahead`, `the peer is ahead` or `differs`.
    pub configuration: String,
    /// Messages that wait to be sent.
    pub waiting: u64,
    /// The peer has everything that was said until so long ago.
    pub lag_ms: Option<u64>,
    pub sent: u64,
    pub received: u64,
    /// What both nodes remember now; the active node's is the truth, the difference is what the other
    /// one lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<PairKnowledge>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<PairKnowledge>,
}

/// How much a node of a pair remembers of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PairKnowledge {
    /// Of layer 4, handshakes that are not finished among them.
    pub flows: u64,
    /// Of persistence and of tables of routes.
    pub entries: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SwitchedOver {
    pub active: String,
    pub took_ms: u64,
}

/// What a rehearsal saw: the VIPs as a client would have.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Rehearsal {
    pub there_ms: u64,
    pub back_ms: u64,
    pub target: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Join {
    pub code: String,
    /// What `[pair]` says of this node, where the configuration has none yet.
    #[serde(default, flatten)]
    pub part: PairPart,
}

/// This node's part in a pair that is being made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PairPart {
    /// Its name; the machine's own without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The other node's address and port on the link; who joins knows it from the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The interface of the services, as a second path for beats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What a node that joins needs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Invitation {
    pub code: String,
    pub valid_seconds: u64,
}
