//! Who may do what: people, tokens, sessions, and what they have done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody may do. Each may all that the ones before it may, but for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees states, graphs and reports; changes nothing.
    Viewer,
    /// Drains, halts, weighs, switches over.
    Operator,
    /// Sees everything and replaces certificates.
    CertificateManager,
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Operator, Role::CertificateManager, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::CertificateManager => "certificate-manager",
            Role::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let known = Role::ALL.into_iter().find(|r| r.as_str() == text);
        known
            .ok_or_else(|| format!("{text:?} is no role: use viewer, operator, certificate-manager or admin"))
    }
}

/// The first person of a new installation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    /// What the first start has printed.
    pub code: String,
    pub name: String,
    pub password: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub name: String,
    pub password: String,
    /// Six digits, for those who have set up a second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Who is asking.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Myself {
    pub name: String,
    pub role: Role,
    /// To be sent back as `X-Evenkeel-Csrf` with every change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    pub second_factor: bool,
    /// `session`, `token` or `socket`.
    pub by: String,
}

/// What a browser needs to know before anybody has logged in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Door {
    /// Nobody exists yet: the first person is made with the code of the first start.
    pub first: bool,
    pub version: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewUser {
    pub name: String,
    pub role: Role,
    pub password: String,
}

/// A change of one person. Absent fields stay as they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UserChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// False takes the second factor away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_factor: Option<bool>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    pub name: String,
    pub role: Role,
    pub second_factor: bool,
    pub created_ms: u64,
    /// Locked for so long after failed attempts.
    pub locked_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PasswordChange {
    pub old: String,
    pub new: String,
}

/// A second factor that waits for its first code.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecondFactor {
    /// `otpauth://…`, for an authenticator.
    pub url: String,
    /// The same, to type.
    pub secret: String,
    /// The same, to photograph: an SVG image.
    pub picture: String,
}

/// That it is really the person who replaces a second factor.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Of the second factor that is to be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Code {
    pub code: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Session {
    pub id: String,
    pub user: String,
    pub from: String,
    pub agent: String,
    pub created_ms: u64,
    pub seen_ms: u64,
    /// The one that asks.
    pub own: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewToken {
    pub name: String,
    pub role: Role,
    /// Without it the token is valid until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_days: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Token {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub owner: String,
    pub created_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// The token itself, shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// One thing that somebody did, or tried.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AuditEntry {
    pub number: u64,
    pub time_ms: u64,
    pub who: String,
    pub from: String,
    pub what: String,
    pub outcome: String,
    /// Proves this entry and every one before it.
    pub seal: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AuditVerdict {
    pub entries: u64,
    pub intact: bool,
    /// Where and how it is not.
    pub detail: String,
}

/// What a lockdown has closed, and what somebody still has to do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Lockdown {
    pub done: Vec<String>,
    pub left: Vec<String>,
}

/// How many of a list, and from where.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    #[serde(default)]
    pub offset: Option<usize>,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Something that happened, as alerts and the log of the UI tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Happening {
    pub time_ms: u64,
    /// `server-down`, `server-up`, `service-down`, `service-up`, `role`, `split-brain`, `storage`,
    /// `certificate`, `configuration`, `flapping`, `admin-state` or `test`.
    pub kind: String,
    /// `good`, `info`, `warning` or `bad`.
    pub level: String,
    /// What it happened to, such as `web/web1`.
    pub subject: String,
    /// What and why, in a sentence.
    pub text: String,
}

/// A certificate that a service shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Certificate {
    pub file: String,
    /// Who uses it: services, `pool NAME` that shows it to real servers, or `the web UI`.
    pub used_by: Vec<String>,
    pub names: Vec<String>,
    pub issuer: String,
    pub not_before_ms: i64,
    pub not_after_ms: i64,
    pub days_left: i64,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Of a certificate that is ordered and renewed by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<Managed>,
}

/// A certificate that an ACME authority gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Managed {
    /// What commands call it: the name of its service.
    pub name: String,
    pub authority: String,
    /// What it is to be for.
    pub names: Vec<String>,
    /// `valid`, `waiting`, `ordering`, `failed`, or `passive` where the other node orders.
    pub state: String,
    /// A self-signed certificate is served, since there is none yet.
    pub stand_in: bool,
    /// How the authority is shown that the names are this machine's, the preferred way first.
    pub challenges: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt_ms: Option<i64>,
    /// In a row.
    pub failures: u32,
    /// In the authority's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// What can be done with a managed certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateAction {
    /// Order a new one now.
    Renew,
    /// Have the authority take it back, and order a new one.
    Revoke,
}

/// Whether a real server that somebody types would pass its check.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Attempt {
    /// `ADDRESS:PORT` of the real server.
    pub address: String,
    /// As under `health-check` in the configuration.
    #[serde(default)]
    pub health_check: serde_json::Value,
    /// As under `server-tls` in the configuration.
    #[serde(default)]
    pub server_tls: serde_json::Value,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Attempted {
    pub passed: bool,
    /// What the probe found.
    pub detail: String,
    pub took_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AlertsTested {
    /// Each receiver, and what became of the message.
    pub receivers: Vec<AlertOutcome>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AlertOutcome {
    pub receiver: String,
    pub sent: bool,
    pub detail: String,
}

/// Everything that makes a node what it is, in one document.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Backup {
    /// Of this document; a newer one than the program knows is refused.
    pub format: u32,
    pub version: String,
    pub node: String,
    pub made_ms: u64,
    /// The configuration's text.
    pub configuration: String,
    /// Admin states and live weights.
    pub live: String,
    /// People and tokens, with hashes instead of secrets.
    pub accounts: String,
    /// Certificates and keys that the configuration names, by their path.
    pub certificates: std::collections::BTreeMap<String, String>,
    /// SHA-256 over all of the above.
    pub digest: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Restored {
    pub revision: u64,
    pub notes: Vec<String>,
}

/// What is started anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The whole program: a new process takes over the listening sockets.
    #[default]
    Program,
    /// Every check begins again; states stay until it has found something.
    Checks,
    /// The programs of layer 4 are attached again, routes and neighbours are read again.
    Layer4,
    /// The web UI's and API's listeners, with their certificate.
    Web,
    /// The paths to the pair's other node.
    Pair,
    /// Files of the access log are opened again.
    Logs,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Restart {
    #[serde(default)]
    pub part: Part,
}

/// A machine that answers for an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    /// The network interface of this machine on which it answered.
    pub interface: String,
    pub mac: String,
    /// Another address that this MAC is known by: a real server's, perhaps.
    pub known_as: Option<std::net::IpAddr>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WhoHas {
    pub address: std::net::IpAddr,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Restarting {
    pub detail: String,
}
