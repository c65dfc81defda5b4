//! How this node is seen over SNMP: as a sub-agent of the machine's SNMP agent.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnmpSettings {
    pub agentx: AgentxAddress,
}

/// Where the SNMP agent waits for its sub-agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentxAddress {
    Socket(PathBuf),
    Tcp(SocketAddr),
}

impl AgentxAddress {
    /// A path, or `ADDRESS:PORT`.
    pub fn parse(text: &str) -> Option<AgentxAddress> {
        match text.starts_with('/') {
            true => Some(AgentxAddress::Socket(text.into())),
            false => text.parse().ok().map(AgentxAddress::Tcp),
        }
    }
}

impl fmt::Display for AgentxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentxAddress::Socket(path) => write!(f, "{}", path.display()),
            AgentxAddress::Tcp(address) => write!(f, "{address}"),
        }
    }
}
