//! What a machine is beside the load balancer: its name, its networks, its clock, who may come in by SSH.
//! Only what is `Some` or listed is Evenkeel's to write.

use std::net::IpAddr;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings {
    pub host_name: Option<String>,
    pub time_zone: Option<String>,
    /// Name servers of the whole machine.
    pub dns: Option<Vec<IpAddr>>,
    /// Domains that short names are tried in.
    pub search: Option<Vec<String>>,
    pub ntp: Option<Vec<String>>,
    /// Public keys that root may log in with.
    pub ssh_keys: Option<Vec<String>>,
    /// Through which packages are fetched.
    pub proxy: Option<String>,
    pub interfaces: Vec<Interface>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub kind: InterfaceKind,
    pub dhcp: Dhcp,
    /// Router advertisements of IPv6 are taken; `None` leaves it to the system.
    pub advertisements: Option<bool>,
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default gateways, at most one of each family.
    pub gateways: Vec<IpAddr>,
    pub routes: Vec<NodeRoute>,
    pub mtu: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// One that the machine has.
    Present,
    Vlan {
        on: String,
        id: u16,
    },
    Bond {
        members: Vec<String>,
        mode: BondMode,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BondMode {
    #[default]
    ActiveBackup,
    Lacp,
    BalanceRr,
    BalanceXor,
}

impl BondMode {
    pub fn as_str(self) -> &'static str {
        match self {
            BondMode::ActiveBackup => "active-backup",
            BondMode::Lacp => "802.3ad",
            BondMode::BalanceRr => "balance-rr",
            BondMode::BalanceXor => "balance-xor",
        }
    }

    pub fn parse(text: &str) -> Option<BondMode> {
        let all = [BondMode::ActiveBackup, BondMode::Lacp, BondMode::BalanceRr, BondMode::BalanceXor];
        all.into_iter().find(|mode| mode.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dhcp {
    #[default]
    No,
    Ipv4,
    Ipv6,
    Both,
}

impl Dhcp {
    pub fn as_str(self) -> &'static str {
        match self {
            Dhcp::No => "no",
            Dhcp::Ipv4 => "ipv4",
            Dhcp::Ipv6 => "ipv6",
            Dhcp::Both => "both",
        }
    }

    pub fn parse(text: &str) -> Option<Dhcp> {
        [Dhcp::No, Dhcp::Ipv4, Dhcp::Ipv6, Dhcp::Both].into_iter().find(|d| d.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRoute {
    pub to: (IpAddr, u8),
    /// Nothing: the network is on the interface itself.
    pub via: Option<IpAddr>,
    pub metric: Option<u32>,
}
