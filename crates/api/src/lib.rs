//! The JSON shapes of the REST API, and nothing else. Keys are kebab-case; times are in
//! milliseconds where a name says so.

mod admin;
mod edit;
mod maintenance;
mod pair;
mod series;
mod upgrade;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use admin::*;
pub use edit::*;
pub use maintenance::*;
pub use pair::*;
pub use series::*;
pub use upgrade::*;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    pub revision: u64,
    pub version: String,
    pub uptime_seconds: u64,
    pub node: Node,
    /// Of clients with this very node. A passive one of a pair (`node`, `role`) has none of layer 7: the active one does.
    pub connections: u64,
    pub workers: usize,
    /// Absent while no service is of layer 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_4: Option<Layer4>,
    /// Why nothing can be stored in the state directory. Absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Why SNMP sees nothing of this node, although it should. Absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snmp: Option<String>,
    pub virtual_services: Vec<Service>,
    /// Pools that only routes lead to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
}

/// A pool that is no service's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Pool {
    pub name: String,
    /// `up`, `degraded`, `down` or `halted`.
    pub state: String,
    pub queued: u64,
    pub real_servers: Vec<RealServer>,
}

/// The packet path.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Layer4 {
    pub interfaces: Vec<AttachedInterface>,
    /// Entries of the connection table, as of the last sweep.
    pub flows: u64,
    pub capacity: u64,
    /// What became of packets, by reason.
    pub reasons: std::collections::BTreeMap<String, u64>,
    /// Real servers whose MAC address is not known.
    pub unreachable: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AttachedInterface {
    pub name: String,
    /// `native` (in the driver) or `generic` (in the network stack).
    pub attached: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// `active`, `passive` or `joining`; a node without a pair always is active.
    pub role: String,
    #[serde(default)]
    pub name: String,
    /// The other node of a pair, as it is heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<NodePeer>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct NodePeer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    pub heard: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms_ago: Option<u64>,
    /// Whether the link that keeps both nodes alike is up.
    pub link: bool,
}

/// The machine that a node is: what it has of the network, its names, its time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    pub name: String,
    pub host: String,
    pub time_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Whether its clock is known to be synchronised.
    pub synchronised: bool,
    pub resolvers: Vec<String>,
    pub search: Vec<String>,
    pub interfaces: Vec<MachineInterface>,
    pub routes: Vec<MachineRoute>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MachineInterface {
    pub name: String,
    pub mac: String,
    pub mtu: u32,
    pub up: bool,
    pub carrier: bool,
    pub addresses: Vec<MachineAddress>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MachineAddress {
    /// With the length of its network.
    pub address: String,
    /// By this program: a VIP or a floating address.
    pub placed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MachineRoute {
    /// `default`, or a network.
    pub to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub interface: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Service {
    pub name: String,
    pub mode: String,
    pub vip: Vec<String>,
    pub pool: String,
    /// `up`, `degraded`, `down` or `halted`.
    pub state: String,
    /// Through this very node. On the passive one of a pair: none in the modes `http` and `tcp`, and in layer 4 what the
    /// active one has told of.
    pub current_connections: u64,
    pub total_connections: u64,
    pub requests: u64,
    pub bad_requests: u64,
    /// Connections and requests that rules or limits have refused.
    #[serde(default)]
    pub refused: u64,
    /// Answers by class: 1xx, 2xx, 3xx, 4xx, 5xx.
    #[serde(default)]
    pub answers: [u64; 5],
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Clients that went away before their answer was complete.
    #[serde(default)]
    pub client_aborts: u64,
    /// Further attempts after a real server was asked in vain.
    #[serde(default)]
    pub retries: u64,
    pub queued: u64,
    pub real_servers: Vec<RealServer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RealServer {
    pub name: String,
    pub address: String,
    /// The name that it is written by; `address` is where that is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Where it is from, where it is not of the configuration's file: a list, or `added at run time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_in: Option<String>,
    /// Since when it is there, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_since_ms: Option<u64>,
    /// Keys of it that were set at run time, and what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at_run_time: Option<serde_json::Map<String, serde_json::Value>>,
    /// When it goes by itself, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    pub weight: u16,
    /// Connections, or requests, that it takes at once: as configured, or as its agent says; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// `up` or `down`.
    pub state: String,
    /// `online`, `draining` or `halted`.
    pub admin_state: String,
    /// What the configuration says, where somebody has changed it live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_admin_state: Option<String>,
    pub backup: bool,
    pub check: Check,
    /// From this very node: see the service.
    pub current_connections: u64,
    pub total_connections: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub connect_errors: u64,
    pub response_errors: u64,
    /// Answers by class: 1xx, 2xx, 3xx, 4xx, 5xx.
    #[serde(default)]
    pub answers: [u64; 5],
    /// Further attempts after it was asked in vain.
    #[serde(default)]
    pub retries: u64,
    /// Connections that were opened to it, and requests over one that was open.
    #[serde(default)]
    pub opened_connections: u64,
    #[serde(default)]
    pub reused_connections: u64,
    /// Requests whose time was taken, and the milliseconds of all of them together, from the request to the
    /// end of its answer.
    #[serde(default)]
    pub timed_requests: u64,
    #[serde(default)]
    pub request_ms: u64,
    /// Since the process began: checks that failed while it was up, times that it went down, and how long
    /// outages took that are over.
    #[serde(default)]
    pub failed_checks: u64,
    #[serde(default)]
    pub downs: u64,
    #[serde(default)]
    pub down_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// `passed`, `failed` or `none` before the first probe.
    pub verdict: String,
    /// What the last probe found, or why traffic took the server out.
    pub detail: String,
    /// When the server's state last changed, in milliseconds since 1970.
    pub since_ms: u64,
    /// How the last probe ended: `passed`, `timeout`, `unreachable` (no connection), `invalid` (an
    /// answer that makes no sense, or none) or `refused` (not the answer that was expected).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Where: 4 is the connection, 6 TLS, 7 the service's own protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u8>,
    /// The code of the answer in the service's own protocol, such as the status of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// How long the last probe took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

/// Live change of one real server. Absent fields stay as they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServerChange {
    pub admin_state: Option<String>,
    pub weight: Option<u16>,
}

/// Keys of a real server that is added or set at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ServerKeys {
    /// It goes by itself after this time, such as `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Keys of `[[pool.real-server]]`, such as `address` and `weight`.
    #[serde(flatten)]
    pub keys: serde_json::Map<String, serde_json::Value>,
}

/// What became of the questions to one name server, since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct NameServer {
    pub address: String,
    pub sent: u64,
    /// They could not be sent, or their answer could not be received.
    pub failed: u64,
    pub valid: u64,
    /// Another name, of which nothing was said.
    pub alias: u64,
    /// The name exists and has nothing of the kind.
    pub nothing: u64,
    pub no_name: u64,
    pub timeout: u64,
    pub refused: u64,
    pub other: u64,
    pub invalid: u64,
    /// Cut off over TCP, too.
    pub truncated: u64,
}

/// A real server that was added at run time, or keys of one of the file that were set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunTimeServer {
    pub pool: String,
    pub name: String,
    /// The file does not have it.
    pub added: bool,
    /// Keys of `[[pool.real-server]]`.
    pub keys: serde_json::Map<String, serde_json::Value>,
    pub since_ms: u64,
    /// When it goes by itself, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Who was the last to say something of it.
    pub by: String,
    /// Why it is not in use, such as a pool that has gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not_in_use: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The running revision that the plan starts from.
    pub from: u64,
    pub steps: Vec<PlanStep>,
    /// What the other node of a pair will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What other machines need for it, such as the gateway of real servers of mode `nat`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the configuration says, but hardly means, such as a pattern that nothing matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

// The published document keeps the name `Step`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Step")]
pub struct PlanStep {
    pub action: String,
    pub subject: String,
    pub detail: String,
    pub impact: String,
}

/// What is said of a commit, beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CommitOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Without a word the revision before comes back after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_ms: Option<u64>,
    /// Only if this is the running revision (`If-Match`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
}

/// One configuration that has run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Revision {
    pub revision: u64,
    pub time_ms: u64,
    pub author: String,
    pub message: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevisionText {
    pub revision: u64,
    pub text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Rollback {
    /// Absent: the one before the running one.
    #[serde(default)]
    pub revision: Option<u64>,
    #[serde(default)]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Confirmed {
    pub revision: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Committed {
    /// It goes back by itself unless it is confirmed within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within_ms: Option<u64>,
    /// What became of it on the other node of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    pub revision: u64,
    pub plan: Plan,
}

/// Why a request was not carried out: problem details of RFC 9457.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The kind of failure, the same in every language.
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub status: u16,
    /// What was wrong, where, and what to do.
    pub detail: String,
    /// Configuration problems with their places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    pub line: usize,
    pub column: usize,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Which connections to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionFilter {
    pub service: Option<String>,
    pub server: Option<String>,
    pub state: Option<String>,
    pub client: Option<std::net::IpAddr>,
    /// At most so many; 10,000 unless said otherwise.
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Connection {
    /// `tcp` or `udp`.
    #[serde(default)]
    pub protocol: String,
    pub client: String,
    pub vip: String,
    pub service: String,
    pub real_server: Option<String>,
    /// An HTTP/2 connection and its streams, which are listed each, have one number and count as one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http2: Option<u64>,
    /// What `closed` and `cut` say of a connection of layer 4: it counts as open no more.
    pub state: String,
    pub age_ms: u64,
    pub requests: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PersistenceEntry {
    pub key: String,
    pub real_server: Option<String>,
    pub expires_in_ms: u64,
    /// What the key has done, in tables that routes count in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
}

/// Totals of an entry's life, rates over its table's period, and connections now.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Activity {
    pub current: u32,
    pub connections: Counted,
    pub requests: Counted,
    pub errors: Counted,
    pub bytes_in: Counted,
    pub bytes_out: Counted,
    #[serde(default)]
    pub failures: Counted,
    /// What routes count themselves, from `number-1` on; none of them while all are 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<Counted>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    pub total: u64,
    pub rate: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Cleared {
    pub cleared: usize,
}

/// Whose part a restored node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreAs {
    /// It keeps its own name, peer, doors of the administration and state folder.
    ThisNode,
    /// It becomes the node that the backup is of.
    ThatNode,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RestoreOptions {
    #[serde(rename = "as")]
    pub part: Option<RestoreAs>,
}

/// Whose connections are to be closed: those that fit all that is said.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Closing {
    pub service: Option<String>,
    pub server: Option<String>,
    pub client: Option<std::net::IpAddr>,
    /// The client's port, for one connection.
    pub client_port: Option<u16>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Closed {
    /// Of both layers.
    pub closed: usize,
    /// Those among them that are of layer 4: the next packet of either side is answered with a reset, the
    /// next datagram begins a new flow.
    #[serde(default)]
    pub at_next_packet: usize,
}

/// A request or connection that is asked about.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// `http://VIP:PORT/path`, or `tcp://VIP:PORT`.
    pub target: String,
    #[serde(default)]
    pub headers: Vec<String>,
    pub source: Option<String>,
    /// The request method; GET when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// A proposed configuration to ask instead of the running one.
    pub configuration: Option<String>,
    /// Whoever asks may read the configuration, secrets and all. It is no part of what is sent.
    #[serde(skip)]
    pub reads: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    pub service: String,
    pub pool: String,
    pub scheduler: String,
    /// Every route that was tried, in its order.
    #[serde(default)]
    pub routes: Vec<RouteTried>,
    /// Each consideration in its order, in a sentence.
    pub reasons: Vec<String>,
    /// The real server that the next such client goes to; `None` when there is none.
    pub real_server: Option<String>,
    pub candidates: Vec<Candidate>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RouteTried {
    pub name: String,
    pub holds: bool,
    /// Every test of the condition with its outcome.
    pub tests: Vec<TestTried>,
    /// What the route does, where it holds.
    pub actions: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TestTried {
    pub test: String,
    pub holds: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    pub real_server: String,
    pub effective_weight: u32,
    pub current_connections: u64,
    /// `chosen`, or why not.
    pub verdict: String,
}
