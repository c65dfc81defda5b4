//! What the daemon asks of the packet path: services with everything decided.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use evenkeel_model::{FlowRate, FlowTimeouts, PortRange, SynCookies, Tunnel, Vip};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    Dr,
    Nat,
    Tun(Tunnel),
    Snat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    RoundRobin,
    LeastConnections,
    ShortestExpectedDelay,
    NeverQueue,
    SourceHash,
    DestinationHash,
    Maglev,
    Random,
    First,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persist {
    pub mask: u8,
    pub mask6: u8,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    pub name: String,
    pub vips: Vec<Vip>,
    pub tcp: bool,
    pub udp: bool,
    pub forwarding: Forwarding,
    pub pick: Pick,
    pub persist: Option<Persist>,
    pub timeouts: FlowTimeouts,
    pub rate: Option<FlowRate>,
    pub source_rate: Option<FlowRate>,
    pub syn_cookies: SynCookies,
    /// Addresses of this machine that flows of SNAT come from; empty: that of the route.
    pub sources: Vec<IpAddr>,
    pub source_ports: PortRange,
    pub servers: Vec<Server>,
}

/// The kernel's coarse clock, by which the program keeps time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    pub jiffies: u64,
    pub hertz: u64,
}

/// What a real server takes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    pub new: bool,
    /// Clients that persistence sends there.
    pub persistent: bool,
    pub existing: bool,
    /// Segments of existing flows are answered with a reset.
    pub resets: bool,
    /// Persistence remembers it; backups and their like are not.
    pub remembered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Tells it from the others of the service; decides its place in consistent hashing.
    pub name: String,
    /// Port 0: the port that the client used.
    pub address: SocketAddr,
    pub weight: u16,
    pub takes: Takes,
    /// Flows at a time over which it takes no new ones, until it is below the minimum; 0: no limit.
    pub max_connections: u32,
    pub min_connections: u32,
    /// Gone from the configuration, with flows left: whether they go on.
    pub keep_when_removed: bool,
}

/// A health check whose packets reach the real server with the VIP as target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// The mark of its sockets.
    pub mark: u32,
    pub real: IpAddr,
    pub vip: IpAddr,
    pub tunnel: Option<Tunnel>,
}

/// The way to a real server, as the kernel's routes and neighbours have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub interface: u32,
    pub mac: [u8; 6],
    /// The address that this machine would use.
    pub source: Option<IpAddr>,
    pub mtu: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub active: u32,
    pub inactive: u32,
    pub flows: u64,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
}

/// One entry of the connection table.
#[derive(Clone, Debug)]
pub struct FlowInfo {
    pub service: String,
    pub server: String,
    pub client: SocketAddr,
    pub vip: SocketAddr,
    /// The real server's address and port.
    pub real: SocketAddr,
    pub protocol: &'static str,
    pub state: &'static str,
    pub age: Duration,
    pub expires: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
}
