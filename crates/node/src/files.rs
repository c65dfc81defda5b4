//! The files: for systemd-networkd, -resolved and -timesyncd, the SSH server and apt.

use std::fmt::Write;
use std::path::Path;

use evenkeel_model::{BondMode, Dhcp, Interface, InterfaceKind, NodeSettings};

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFile {
    pub path: String,
    pub text: String,
    pub place: FilePlace,
}

/// Which part of the system reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilePlace {
    Network,
    Names,
    Clock,
    Ssh,
    SshKeys,
    Packages,
}

/// Folders with the beginnings of names that belong to Evenkeel there, and to nobody else.
pub const OWN_PLACES: &[(FilePlace, &str, &str)] = &[
    (FilePlace::Network, "/etc/systemd/network", "05-evenkeel-"),
    (FilePlace::Names, "/etc/systemd/resolved.conf.d", "05-evenkeel"),
    (FilePlace::Clock, "/etc/systemd/timesyncd.conf.d", "05-evenkeel"),
    (FilePlace::Ssh, "/etc/ssh/sshd_config.d", "05-evenkeel"),
    (FilePlace::SshKeys, "/etc/ssh/evenkeel-keys", ""),
    (FilePlace::Packages, "/etc/apt/apt.conf.d", "05evenkeel"),
];

/// Units that read a place at their start only.
pub fn restarts(place: FilePlace) -> Option<&'static str> {
    match place {
        FilePlace::Names => Some("systemd-resolved.service"),
        FilePlace::Clock => Some("systemd-timesyncd.service"),
        FilePlace::Network | FilePlace::Ssh | FilePlace::SshKeys | FilePlace::Packages => None,
    }
}

/// Whether a file is one that Evenkeel writes.
pub fn is_own(path: &Path) -> bool {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return false;
    };
    OWN_PLACES.iter().any(|(_, place, prefix)| folder == Path::new(place) && name.starts_with(prefix))
}

const HEAD: &str = "# Written by Evenkeel from [node] of its configuration; changes here are overwritten.\n";

/// Every file of these settings, in a fixed order.
pub fn files(node: &NodeSettings) -> Vec<NodeFile> {
    let mut files: Vec<NodeFile> = Vec::new();
    let mut put = |place: FilePlace, name: &str, text: String| {
        let of = OWN_PLACES.iter().find(|(of, ..)| *of == place);
        let (folder, prefix) = of.map_or(("", ""), |(_, folder, prefix)| (folder, prefix));
        files.push(NodeFile {
            path: format!("{folder}/{prefix}{name}"),
            text: format!("{HEAD}{text}"),
            place,
        });
    };
    for interface in &node.interfaces {
        if let Some(text) = netdev(interface) {
            put(FilePlace::Network, &format!("{}.netdev", interface.name), text);
        }
        put(FilePlace::Network, &format!("{}.network", interface.name), network(interface, node));
    }
    // Members that have no table of their own.
    for (member, bond) in members(node) {
        if !node.interfaces.iter().any(|i| i.name == member) {
            let text = format!("[Match]\nName={member}\n\n[Network]\nBond={bond}\nLinkLocalAddressing=no\n");
            put(FilePlace::Network, &format!("{member}.network"), text);
        }
    }
    if node.dns.is_some() || node.search.is_some() {
        let mut text = String::from("[Resolve]\n");
        if let Some(dns) = &node.dns {
            // An empty one forgets what was before.
            put_line(&mut text, "DNS", "");
            dns.iter().for_each(|dns| put_line(&mut text, "DNS", &dns.to_string()));
        }
        if let Some(search) = &node.search {
            put_line(&mut text, "Domains", "");
            search.iter().for_each(|domain| put_line(&mut text, "Domains", domain));
        }
        put(FilePlace::Names, ".conf", text);
    }
    if let Some(ntp) = &node.ntp {
        let mut text = String::from("[Time]\n");
        put_line(&mut text, "NTP", "");
        ntp.iter().for_each(|server| put_line(&mut text, "NTP", server));
        put(FilePlace::Clock, ".conf", text);
    }
    if let Some(keys) = &node.ssh_keys {
        let text =
            "AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2 /etc/ssh/evenkeel-keys/%u\n";
        put(FilePlace::Ssh, ".conf", text.into());
        put(FilePlace::SshKeys, "root", keys.iter().map(|key| format!("{key}\n")).collect());
    }
    if let Some(proxy) = &node.proxy {
        put(
            FilePlace::Packages,
            "",
            format!("Acquire::http::Proxy \"{proxy}\";\nAcquire::https::Proxy \"{proxy}\";\n"),
        );
    }
    files
}

fn put_line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key}={value}");
}

/// Interfaces that are part of a bond, with its name.
fn members(node: &NodeSettings) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for bond in &node.interfaces {
        if let InterfaceKind::Bond { members, .. } = &bond.kind {
            found.extend(members.iter().map(|member| (member.as_str(), bond.name.as_str())));
        }
    }
    found
}

/// Interfaces that carry VLANs, each once, with their names.
fn carriers(node: &NodeSettings) -> Vec<(&str, Vec<&str>)> {
    let mut carriers: Vec<(&str, Vec<&str>)> = Vec::new();
    for interface in &node.interfaces {
        let InterfaceKind::Vlan { on, .. } = &interface.kind else { continue };
        match carriers.iter_mut().find(|(carrier, _)| carrier == on) {
            Some((_, vlans)) => vlans.push(&interface.name),
            None => carriers.push((on, vec![&interface.name])),
        }
    }
    carriers
}

/// What makes an interface that is not there by itself.
fn netdev(interface: &Interface) -> Option<String> {
    let name = &interface.name;
    match &interface.kind {
        InterfaceKind::Present => None,
        InterfaceKind::Vlan { id, .. } => {
            Some(format!("[NetDev]\nName={name}\nKind=vlan\n\n[VLAN]\nId={id}\n"))
        }
        InterfaceKind::Bond { mode, .. } => {
            let mut text = format!(
                "[NetDev]\nName={name}\nKind=bond\n\n[Bond]\nMode={}\nMIIMonitorSec=100ms\n",
                mode.as_str()
            );
            if *mode == BondMode::Lacp {
                text.push_str("LACPTransmitRate=fast\nTransmitHashPolicy=layer3+4\n");
            }
            Some(text)
        }
    }
}

fn network(interface: &Interface, node: &NodeSettings) -> String {
    let mut text = format!("[Match]\nName={}\n", interface.name);
    if let Some(mtu) = interface.mtu {
        let _ = write!(text, "\n[Link]\nMTUBytes={mtu}\n");
    }
    text.push_str("\n[Network]\n");
    let dhcp = match interface.dhcp {
        Dhcp::No => "no",
        Dhcp::Both => "yes",
        one => one.as_str(),
    };
    put_line(&mut text, "DHCP", dhcp);
    // VIPs are put there by the load balancer itself, and stay where this file is read anew.
    put_line(&mut text, "KeepConfiguration", "static");
    put_line(&mut text, "ConfigureWithoutCarrier", "yes");
    let of_bond = members(node).into_iter().find(|(member, _)| *member == interface.name);
    if let Some((_, bond)) = of_bond {
        put_line(&mut text, "Bond", bond);
        put_line(&mut text, "LinkLocalAddressing", "no");
    }
    if let Some(taken) = interface.advertisements {
        put_line(&mut text, "IPv6AcceptRA", if taken { "yes" } else { "no" });
    }
    for (address, prefix) in &interface.addresses {
        put_line(&mut text, "Address", &format!("{address}/{prefix}"));
    }
    for gateway in &interface.gateways {
        put_line(&mut text, "Gateway", &gateway.to_string());
    }
    for (carrier, vlans) in carriers(node) {
        if carrier == interface.name {
            vlans.iter().for_each(|vlan| put_line(&mut text, "VLAN", vlan));
        }
    }
    for route in &interface.routes {
        let (to, prefix) = route.to;
        let _ = write!(text, "\n[Route]\nDestination={to}/{prefix}\n");
        match route.via {
            Some(via) => put_line(&mut text, "Gateway", &via.to_string()),
            None => put_line(&mut text, "Scope", "link"),
        }
        if let Some(metric) = route.metric {
            put_line(&mut text, "Metric", &metric.to_string());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let node = evenkeel_config::read(text).unwrap().node.unwrap();
        let files = files(&node);
        assert!(files.iter().all(|f| is_own(Path::new(&f.path))), "all files are Evenkeel's own: {files:?}");
        let short: Vec<(&str, &str)> =
            files.iter().map(|f| (f.path.as_str(), f.text.strip_prefix(HEAD).unwrap())).collect();
        assert_eq!(short, expected);
    }

    #[test]
    fn an_empty_table_writes_nothing() {
        check("[node]\n", &[]);
    }

    #[test]
    fn addresses_by_hand() {
        check(
            "[[node.interface]]\nname = \"e0\"\nmtu = 9000\naddresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]\ngateways = [\"192.0.2.1\", \"2001:db8::1\"]\n[[node.interface.route]]\nto = \"10.0.0.0/8\"\nvia = \"192.0.2.9\"\nmetric = 7\n[[node.interface.route]]\nto = \"10.9.0.0/16\"\n",
            &[(
                "/etc/systemd/network/05-evenkeel-e0.network",
                "[Match]\nName=e0\n\n[Link]\nMTUBytes=9000\n\n[Network]\nDHCP=no\nKeepConfiguration=static\nConfigureWithoutCarrier=yes\nAddress=192.0.2.10/24\nAddress=2001:db8::10/64\nGateway=192.0.2.1\nGateway=2001:db8::1\n\n[Route]\nDestination=10.0.0.0/8\nGateway=192.0.2.9\nMetric=7\n\n[Route]\nDestination=10.9.0.0/16\nScope=link\n",
            )],
        );
    }

    #[test]
    fn a_vlan_on_a_bond() {
        check(
            "[[node.interface]]\nname = \"b0\"\nbond = [\"e1\", \"e2\"]\nbond-mode = \"802.3ad\"\n[[node.interface]]\nname = \"v7\"\nvlan = 7\non = \"b0\"\ndhcp = \"both\"\nrouter-advertisements = false\n",
            &[
                (
                    "/etc/systemd/network/05-evenkeel-b0.netdev",
                    "[NetDev]\nName=b0\nKind=bond\n\n[Bond]\nMode=802.3ad\nMIIMonitorSec=100ms\nLACPTransmitRate=fast\nTransmitHashPolicy=layer3+4\n",
                ),
                (
                    "/etc/systemd/network/05-evenkeel-b0.network",
                    "[Match]\nName=b0\n\n[Network]\nDHCP=no\nKeepConfiguration=static\nConfigureWithoutCarrier=yes\nVLAN=v7\n",
                ),
                (
                    "/etc/systemd/network/05-evenkeel-v7.netdev",
                    "[NetDev]\nName=v7\nKind=vlan\n\n[VLAN]\nId=7\n",
                ),
                (
                    "/etc/systemd/network/05-evenkeel-v7.network",
                    "[Match]\nName=v7\n\n[Network]\nDHCP=yes\nKeepConfiguration=static\nConfigureWithoutCarrier=yes\nIPv6AcceptRA=no\n",
                ),
                (
                    "/etc/systemd/network/05-evenkeel-e1.network",
                    "[Match]\nName=e1\n\n[Network]\nBond=b0\nLinkLocalAddressing=no\n",
                ),
                (
                    "/etc/systemd/network/05-evenkeel-e2.network",
                    "[Match]\nName=e2\n\n[Network]\nBond=b0\nLinkLocalAddressing=no\n",
                ),
            ],
        );
    }

    #[test]
    fn names_clock_keys_and_proxy() {
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{} me", "A".repeat(48));
        check(
            &format!(
                "[node]\nhost-name = \"lb1\"\ntime-zone = \"UTC\"\ndns = [\"192.0.2.53\"]\nsearch = [\"example.net\"]\nntp = [\"a.example\", \"192.0.2.7\"]\nssh-keys = [\"{key}\"]\nproxy = \"http://10.0.0.1:3128\"\n"
            ),
            &[
                (
                    "/etc/systemd/resolved.conf.d/05-evenkeel.conf",
                    "[Resolve]\nDNS=\nDNS=192.0.2.53\nDomains=\nDomains=example.net\n",
                ),
                (
                    "/etc/systemd/timesyncd.conf.d/05-evenkeel.conf",
                    "[Time]\nNTP=\nNTP=a.example\nNTP=192.0.2.7\n",
                ),
                (
                    "/etc/ssh/sshd_config.d/05-evenkeel.conf",
                    "AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2 /etc/ssh/evenkeel-keys/%u\n",
                ),
                ("/etc/ssh/evenkeel-keys/root", &format!("{key}\n")),
                (
                    "/etc/apt/apt.conf.d/05evenkeel",
                    "Acquire::http::Proxy \"http://10.0.0.1:3128\";\nAcquire::https::Proxy \"http://10.0.0.1:3128\";\n",
                ),
            ],
        );
    }

    #[test]
    fn files_of_others_are_not_own() {
        for path in [
            "/etc/systemd/network/10-eth0.network",
            "/etc/systemd/network/sub/05-evenkeel-a.network",
            "/etc/ssh/sshd_config",
            "/etc/apt/apt.conf.d/70debconf",
        ] {
            assert!(!is_own(Path::new(path)), "{path}");
        }
    }
}
