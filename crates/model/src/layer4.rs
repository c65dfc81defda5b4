//! What a service of layer 4 has beside VIPs and a pool.

use std::net::IpAddr;
use std::time::Duration;

use crate::PortRange;

/// How a packet reaches the real server of mode `tun`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// An IP header around the packet (RFC 2003, RFC 2473).
    Ip,
    /// Generic UDP encapsulation, variant 1: UDP and IP headers around the packet.
    Gue,
}

/// How long a flow is kept after its last packet, by what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// A client's first segment, until its next one; also segments that belong to no known flow.
    pub syn: Duration,
    pub established: Duration,
    /// One side has ended; or the client has, where only the client is seen.
    pub closing: Duration,
    /// Reset, or ended by both sides.
    pub closed: Duration,
    pub udp: Duration,
}

/// New flows a second on average, and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRate {
    pub per_second: u32,
    pub burst: u32,
}

/// When first segments are answered without an entry in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SynCookies {
    Off,
    /// Over the rate of new connections, in place of dropping them.
    #[default]
    OverRate,
    Always,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer4 {
    pub tcp: bool,
    pub udp: bool,
    pub tunnel: Tunnel,
    pub timeouts: FlowTimeouts,
    /// New flows of the whole service; `None` is no limit.
    pub rate: Option<FlowRate>,
    /// New flows of one client address (IPv4) or /64 network (IPv6).
    pub source_rate: Option<FlowRate>,
    /// Of the modes that see both directions; else off.
    pub syn_cookies: SynCookies,
    /// Addresses of this machine that real servers see in mode `snat`; empty is that of the route.
    pub sources: Vec<IpAddr>,
    pub source_ports: PortRange,
    /// Connections that the real servers open themselves leave with this machine's address.
    pub auto_nat: bool,
    /// The addresses of this machine that they leave with, one of IPv4 and one of IPv6 at most; the kernel's choice
    /// where there is none.
    pub auto_nat_addresses: Vec<IpAddr>,
}

/// How the packet path as a whole works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketPath {
    /// Entries of the connection table.
    pub connections: u32,
    /// Clients that persistence remembers.
    pub persistent: u32,
    /// How long packets are forwarded without word from the daemon.
    pub lease: Duration,
    /// The same after an orderly stop, for the next start.
    pub grace: Duration,
    pub attach: Attach,
    /// Names of the interfaces; empty is those that routes lead to.
    pub interfaces: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Native where the driver can, generic elsewhere.
    Auto,
    Native,
    Generic,
}

/// Addresses that this program gives to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// VIPs are put on the interface whose network they are in. Where nothing is said they are, unless
    /// somebody else moves them.
    pub own_vips: Option<bool>,
    /// At a stop they go, with all that this program has added.
    pub remove_at_stop: bool,
    /// Further ones, with prefix length.
    pub floating: Vec<(IpAddr, u8)>,
}
