//! Settings as `[node]` is written, for whoever reads them anew.

use evenkeel_model::{Dhcp, Interface, InterfaceKind, NodeSettings};

pub fn as_toml(node: &NodeSettings) -> String {
    let mut text = String::from("[node]\n");
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("{key} = {value}\n"));
        }
    };
    line("host-name", node.host_name.as_deref().map(quoted));
    line("time-zone", node.time_zone.as_deref().map(quoted));
    line("dns", node.dns.as_ref().map(|dns| list(dns.iter().map(ToString::to_string))));
    line("search", node.search.as_ref().map(|search| list(search.iter().cloned())));
    line("ntp", node.ntp.as_ref().map(|ntp| list(ntp.iter().cloned())));
    line("ssh-keys", node.ssh_keys.as_ref().map(|keys| list(keys.iter().cloned())));
    line("proxy", node.proxy.as_deref().map(quoted));
    node.interfaces.iter().for_each(|interface| text.push_str(&interface_as_toml(interface)));
    text
}

fn interface_as_toml(interface: &Interface) -> String {
    let mut text = format!("[[node.interface]]\nname = {}\n", quoted(&interface.name));
    match &interface.kind {
        InterfaceKind::Present => {}
        InterfaceKind::Vlan { on, id } => text.push_str(&format!("vlan = {id}\non = {}\n", quoted(on))),
        InterfaceKind::Bond { members, mode } => {
            let members = list(members.iter().cloned());
            text.push_str(&format!("bond = {members}\nbond-mode = {}\n", quoted(mode.as_str())));
        }
    }
    if interface.dhcp != Dhcp::No {
        text.push_str(&format!("dhcp = {}\n", quoted(interface.dhcp.as_str())));
    }
    if let Some(taken) = interface.advertisements {
        text.push_str(&format!("router-advertisements = {taken}\n"));
    }
    let addresses = interface.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}"));
    text.push_str(&format!("addresses = {}\n", list(addresses)));
    text.push_str(&format!("gateways = {}\n", list(interface.gateways.iter().map(ToString::to_string))));
    if let Some(mtu) = interface.mtu {
        text.push_str(&format!("mtu = {mtu}\n"));
    }
    for route in &interface.routes {
        let (to, prefix) = route.to;
        text.push_str(&format!("[[node.interface.route]]\nto = \"{to}/{prefix}\"\n"));
        if let Some(via) = route.via {
            text.push_str(&format!("via = \"{via}\"\n"));
        }
        if let Some(metric) = route.metric {
            text.push_str(&format!("metric = {metric}\n"));
        }
    }
    text
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| quoted(&item)).collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_what_it_was() {
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{} me \\\\ \\\"home\\\"", "A".repeat(48));
        let text = format!(
            "[node]\nhost-name = \"lb1\"\ntime-zone = \"UTC\"\ndns = [\"192.0.2.53\", \"2001:db8::53\"]\nsearch = []\nntp = [\"a.example\"]\nssh-keys = [\"{key}\"]\nproxy = \"http://10.0.0.1:3128\"\n\
             [[node.interface]]\nname = \"e0\"\ndhcp = \"both\"\nrouter-advertisements = false\nmtu = 9000\n\
             [[node.interface]]\nname = \"b0\"\nbond = [\"e1\", \"e2\"]\nbond-mode = \"802.3ad\"\n\
             [[node.interface]]\nname = \"v7\"\nvlan = 7\non = \"b0\"\naddresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]\ngateways = [\"192.0.2.1\"]\n\
             [[node.interface.route]]\nto = \"10.0.0.0/8\"\nvia = \"192.0.2.9\"\nmetric = 7\n[[node.interface.route]]\nto = \"10.1.0.0/16\"\n"
        );
        let node = evenkeel_config::read(&text).unwrap().node.unwrap();
        assert_eq!(evenkeel_config::read(&as_toml(&node)).unwrap().node.unwrap(), node, "{}", as_toml(&node));
    }
}
