//! Two nodes that share floating IPs, as configured on one of them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::{Name, Secret};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSettings {
    pub name: Name,
    /// The other node's address on the peer link; without one VRRP alone is spoken.
    pub peer: Option<SocketAddr>,
    /// Where this node takes the peer's connections and beats.
    pub listen: SocketAddr,
    pub priority: u8,
    pub failback: bool,
    /// Beats without which the peer counts as dead.
    pub dead_after: u32,
    /// The time of death follows what is measured, within bounds; `None` is as configured.
    pub adaptive: Option<AdaptiveBeats>,
    /// What a node does when every path is silent and there is no witness.
    pub takes_over_alone: bool,
    /// How long a node that starts listens before it acts.
    pub join: Duration,
    /// How long connections of layer 7 are finished after a planned change of roles; zero ends them with it.
    pub keep: Duration,
    pub serial: Option<PathBuf>,
    pub witness: Option<SocketAddr>,
    pub ping: Vec<IpAddr>,
    /// A command that fails while this node should not be active.
    pub track: Vec<String>,
    /// Called with keepalived's arguments at every change of role.
    pub notify: Option<PathBuf>,
    pub routers: Vec<VrrpSettings>,
}

impl PairSettings {
    /// Between two beats: the shortest of the paths'.
    pub fn interval(&self) -> Duration {
        let each = self.routers.iter().map(|r| r.interval);
        each.min().unwrap_or(PairSettings::INTERVAL)
    }

    pub const INTERVAL: Duration = Duration::from_millis(50);
    /// What a command of `track`, or an address that does not answer, takes off this node's fitness and priority.
    pub const COST_OF_CHECK: u16 = 20;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdaptiveBeats {
    /// Silence for less is never taken for death.
    pub shortest_dead: Duration,
    /// How long the peer's beats are measured before anything becomes shorter.
    pub learn: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrrpSettings {
    pub interface: String,
    pub router_id: u8,
    pub priority: u8,
    pub interval: Duration,
    pub version: u8,
    /// Of version 2, as keepalived's `auth_type PASS` has it.
    pub password: Option<Secret>,
    pub ipv6: bool,
    /// Routers to send to one by one, instead of the group.
    pub unicast: Vec<IpAddr>,
}
