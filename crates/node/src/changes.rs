//! The steps from one setting to the next, in words, and whether people are cut off by them.

use evenkeel_model::{Interface, InterfaceKind, NodeSettings};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    pub action: Action,
    /// `host name`, `interface ens18`.
    pub subject: String,
    pub detail: String,
    pub cut: Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Add,
    Remove,
    Change,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Add => "add",
            Action::Remove => "remove",
            Action::Change => "change",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Nothing,
    /// Whoever came over this interface or address may be cut off.
    Connections,
}

/// What becomes of the machine. Nothing where both are the same.
pub fn changes(old: Option<&NodeSettings>, new: Option<&NodeSettings>) -> Vec<NodeChange> {
    let none = NodeSettings::default();
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let mut steps = Vec::new();
    let one = |text: &Option<String>| text.clone();
    let many = |texts: &Option<Vec<String>>| texts.as_ref().map(|texts| texts.join(", "));
    let dns = |node: &NodeSettings| {
        let dns = node.dns.as_ref();
        dns.map(|dns| dns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    let keys = |node: &NodeSettings| node.ssh_keys.as_ref().map(|keys| key_names(keys));
    for (subject, before, after) in [
        ("host name", one(&old.host_name), one(&new.host_name)),
        ("time zone", one(&old.time_zone), one(&new.time_zone)),
        ("name servers", dns(old), dns(new)),
        ("search domains", many(&old.search), many(&new.search)),
        ("time servers", many(&old.ntp), many(&new.ntp)),
        ("SSH keys", keys(old), keys(new)),
        ("proxy for packages", one(&old.proxy), one(&new.proxy)),
    ] {
        let same_keys = subject != "SSH keys" || old.ssh_keys == new.ssh_keys;
        if before == after && same_keys {
            continue;
        }
        let (action, detail) = match (before, after) {
            (_, None) => (Action::Remove, "as it was before this program set it".into()),
            (None, Some(after)) => (Action::Add, after),
            (Some(_), Some(after)) => (Action::Change, after),
        };
        steps.push(NodeChange { action, subject: subject.into(), detail, cut: Cut::Nothing });
    }
    for before in &old.interfaces {
        if !new.interfaces.iter().any(|i| i.name == before.name) {
            let detail = match before.kind {
                InterfaceKind::Present => "is left to the machine's own settings",
                _ => "is taken away",
            };
            let subject = format!("interface {}", before.name);
            let cut = Cut::Connections;
            steps.push(NodeChange { action: Action::Remove, subject, detail: detail.into(), cut });
        }
    }
    for after in &new.interfaces {
        let subject = format!("interface {}", after.name);
        match old.interfaces.iter().find(|i| i.name == after.name) {
            None => {
                let cut = match after.kind {
                    InterfaceKind::Present | InterfaceKind::Bond { .. } => Cut::Connections,
                    InterfaceKind::Vlan { .. } => Cut::Nothing,
                };
                steps.push(NodeChange { action: Action::Add, subject, detail: described(after), cut });
            }
            Some(before) if before == after => {}
            Some(before) => {
                let (detail, cut) = differences(before, after);
                steps.push(NodeChange { action: Action::Change, subject, detail, cut });
            }
        }
    }
    steps
}

/// Keys by the names that people gave them: the keys themselves tell nobody anything.
fn key_names(keys: &[String]) -> String {
    let name = |key: &String| key.splitn(3, ' ').nth(2).unwrap_or("without a name").to_owned();
    match keys.is_empty() {
        true => "none".into(),
        false => keys.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

fn described(interface: &Interface) -> String {
    let mut parts = match &interface.kind {
        InterfaceKind::Present => vec![],
        InterfaceKind::Vlan { on, id } => vec![format!("VLAN {id} on {on}")],
        InterfaceKind::Bond { members, mode } => {
            vec![format!("bond of {} ({})", members.join(", "), mode.as_str())]
        }
    };
    parts.push(format!("DHCP {}", interface.dhcp.as_str()));
    parts.extend(interface.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")));
    parts.extend(interface.gateways.iter().map(|gateway| format!("gateway {gateway}")));
    parts.extend(interface.mtu.map(|mtu| format!("MTU {mtu}")));
    parts.join(", ")
}

fn differences(old: &Interface, new: &Interface) -> (String, Cut) {
    let mut parts = Vec::new();
    let mut cut = Cut::Nothing;
    for (address, prefix) in old.addresses.iter().filter(|a| !new.addresses.contains(a)) {
        parts.push(format!("{address}/{prefix} is taken away"));
        cut = Cut::Connections;
    }
    for (address, prefix) in new.addresses.iter().filter(|a| !old.addresses.contains(a)) {
        parts.push(format!("{address}/{prefix} is put on it"));
    }
    if old.gateways != new.gateways {
        let gateways = new.gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let none = if gateways.is_empty() { "none".into() } else { gateways };
        parts.push(format!("default gateway {none}"));
        cut = Cut::Connections;
    }
    if old.dhcp != new.dhcp {
        parts.push(format!("DHCP {} becomes {}", old.dhcp.as_str(), new.dhcp.as_str()));
        cut = Cut::Connections;
    }
    if old.kind != new.kind {
        parts.push("is made anew".into());
        cut = Cut::Connections;
    }
    if old.mtu != new.mtu {
        parts.push(new.mtu.map_or("MTU of the driver".into(), |mtu| format!("MTU {mtu}")));
    }
    if old.routes != new.routes {
        parts.push("routes change".into());
        cut = Cut::Connections;
    }
    if old.advertisements != new.advertisements {
        parts.push("router advertisements change".into());
    }
    (parts.join(", "), cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Option<NodeSettings> {
        evenkeel_config::read(text).unwrap().node
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let (old, new) = (node(old), node(new));
        let said: Vec<String> = changes(old.as_ref(), new.as_ref())
            .into_iter()
            .map(|c| {
                let cut = if c.cut == Cut::Connections { " (cuts)" } else { "" };
                format!("{} {}: {}{cut}", c.action.as_str(), c.subject, c.detail)
            })
            .collect();
        assert_eq!(said, expected);
        assert_eq!(changes(new.as_ref(), new.as_ref()), []);
    }

    #[test]
    fn a_plan_says_what_is_cut() {
        let of =
            |address: &str| format!("[[node.interface]]\nname = \"e0\"\naddresses = [\"{address}/24\"]\n");
        check("", "[node]\nhost-name = \"a\"\n", &["add host name: a"]);
        check("[node]\nhost-name = \"a\"\n", "", &["remove host name: as it was before this program set it"]);
        check("", &of("10.0.0.1"), &["add interface e0: DHCP no, 10.0.0.1/24 (cuts)"]);
        check(
            &of("10.0.0.1"),
            &of("10.0.0.2"),
            &["change interface e0: 10.0.0.1/24 is taken away, 10.0.0.2/24 is put on it (cuts)"],
        );
        check(&of("10.0.0.1"), "", &["remove interface e0: is left to the machine's own settings (cuts)"]);
        let key = |name: &str| {
            format!("[node]\nssh-keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{} {name}\"]\n", "A".repeat(48))
        };
        check(&key("ann"), &key("bob"), &["change SSH keys: bob"]);
    }
}
