//! The machine that this node is: its addresses, routes, names and time, for people.

use std::net::IpAddr;

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_platform::{Interface, Network, Route};

use super::control::{Control, wall_ms};
use evenkeel_model::host_prefix;

/// Routes that are shown; a router may have a million.
const ROUTES: usize = 500;
/// Of a file of names.
const TEXT_AT_MOST: u64 = 64 << 10;

impl Control {
    /// This node and how it stands to its peer, for the head of every page.
    pub fn describe_node(&self) -> api::Node {
        let status = self.pair().map(|pair| pair.status(self.revision()));
        let peer = status.and_then(|status| status.peer).map(|peer| api::NodePeer {
            name: self.sync().peer.clone(),
            address: peer.address,
            role: peer.role,
            heard: peer.heard,
            heard_ms_ago: peer.heard_ms_ago,
            link: self.link_up().is_some(),
        });
        api::Node { role: self.role().into(), name: self.node_name(), peer }
    }

    pub fn machine(&self, reply: Reply<api::Machine>) {
        let name = self.node_name();
        tokio::task::spawn_blocking(move || {
            let failed = |e: std::io::Error| {
                Refused::new(FailureKind::Failed, format!("the machine's network cannot be read: {e}"))
            };
            let _ = reply.send(read_machine(name).map_err(failed));
        });
    }
}

fn read_machine(name: String) -> std::io::Result<api::Machine> {
    let mut network = Network::open()?;
    let (interfaces, own) = (network.interfaces()?, network.addresses()?);
    let routes = network.routes()?;
    let addresses = |index: u32| {
        let own = own.iter().filter(|o| o.interface == index);
        own.map(|o| api::MachineAddress { address: format!("{}/{}", o.address, o.prefix), placed: o.ours })
            .collect()
    };
    let described = interfaces.iter().map(|i| api::MachineInterface {
        name: i.name.clone(),
        mac: evenkeel_platform::mac_text(i.mac),
        mtu: i.mtu,
        up: i.up,
        carrier: i.carrier,
        addresses: addresses(i.index),
    });
    let (resolvers, search) = names(&text("/etc/resolv.conf"));
    Ok(api::Machine {
        name,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        time_ms: wall_ms(),
        time_zone: time_zone(),
        synchronised: std::path::Path::new("/run/systemd/timesync/synchronized").exists(),
        resolvers,
        search,
        routes: routes.iter().take(ROUTES).map(|route| describe(route, &interfaces)).collect(),
        interfaces: described.collect(),
    })
}

fn text(file: &str) -> String {
    evenkeel_files::read_text(std::path::Path::new(file), TEXT_AT_MOST).unwrap_or_default()
}

fn describe(route: &Route, interfaces: &[Interface]) -> api::MachineRoute {
    let name = interfaces.iter().find(|i| i.index == route.interface).map(|i| i.name.clone());
    let to = match route.prefix {
        0 => "default".to_owned(),
        prefix if prefix == host_prefix(route.to) => route.to.to_string(),
        prefix => format!("{}/{prefix}", route.to),
    };
    let kind = |gateway: IpAddr| gateway.to_string();
    api::MachineRoute { to, by: route.gateway.map(kind), interface: name.unwrap_or_default() }
}

/// Name servers, and the domains in which short names are looked for (resolv.conf(5)).
fn names(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => servers.extend(words.next()),
            // The last of them counts.
            Some("search" | "domain") => search = words.collect(),
            _ => {}
        }
    }
    (servers, search)
}

fn time_zone() -> Option<String> {
    let link = std::fs::read_link("/etc/localtime").ok()?;
    let name = link.to_string_lossy().split_once("zoneinfo/").map(|(_, name)| name.to_owned());
    name.or_else(|| Some(text("/etc/timezone").trim().to_owned()).filter(|zone| !zone.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_resolver_reads_them() {
        let text = "# made by hand\nnameserver 192.0.2.53\ndomain old.example\nsearch a.example b.example\nnameserver\n";
        let (servers, search) = names(text);
        assert_eq!(
            (servers, search),
            (vec!["192.0.2.53".into()], vec!["a.example".into(), "b.example".into()])
        );
    }

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let machine = read_machine("node".into()).unwrap();
        let loopback = machine.interfaces.iter().find(|i| i.name == "lo").unwrap();
        assert!(loopback.addresses.iter().any(|a| a.address == "127.0.0.1/8" && !a.placed), "{loopback:?}");
        assert!(machine.time_ms > 0 && !machine.host.is_empty());
    }
}
