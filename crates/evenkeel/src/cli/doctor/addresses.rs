//! The addresses that clients use: whether they are here, whether their interfaces work, and whether anybody
//! else answers for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use evenkeel_api as api;
use evenkeel_control::neighbours::{Answers, who_answers};
use evenkeel_model::host_prefix;
use evenkeel_platform::Network;

use super::{Doctor, Level, address_of, host_of, is_layer4};

/// How long a machine that has an address may take to say so.
const ANSWER: Duration = Duration::from_secs(1);

impl Doctor {
    pub(super) fn vips(&mut self, network: &mut Network) {
        let answers = self.ask();
        for service in self.status.virtual_services.clone() {
            self.missing_vips(&service, network, &answers);
        }
        self.idle_interfaces();
        self.who_answers(&answers);
        for service in self.layer4_services() {
            let vips: BTreeSet<IpAddr> = service.vip.iter().filter_map(|v| address_of(v)).collect();
            for vip in vips {
                let whole = host_prefix(vip);
                if let Some(own) = self.addresses.iter().find(|o| o.address == vip && o.prefix < whole) {
                    let name = self.name_of(own.interface);
                    self.report(
                        Level::Warning,
                        &service.name,
                        format!("the VIP {vip} is the own address of {name}: it cannot move to another node, and traffic of this machine itself may be balanced"),
                        "use an address of its own for the VIP",
                    );
                }
            }
            if service.mode == "tun" {
                self.tunnel_room(&service, network);
            }
        }
    }

    /// VIPs that no interface has. Of a pair the active node has them.
    fn missing_vips(
        &mut self,
        service: &api::Service,
        network: &mut Network,
        answers: &BTreeMap<IpAddr, Answers>,
    ) {
        let of_layer4 = is_layer4(&service.mode);
        let vips: BTreeSet<IpAddr> = service.vip.iter().filter_map(|v| address_of(v)).collect();
        for vip in vips {
            let stays = vip.is_loopback() || vip.is_unspecified();
            if self.is_passive() || stays || self.addresses.iter().any(|o| o.address == vip) {
                continue;
            }
            // Layer 4 also takes what a router sends here, which no interface has to have.
            if of_layer4 && !network.way_to(vip).is_ok_and(|w| w.gateway.is_none()) {
                continue;
            }
            let holders = answers.get(&vip).map(|a| a.others.clone()).unwrap_or_default();
            let whole = host_prefix(vip);
            let (what, fix) = match holders.first() {
                Some(holder) => (
                    format!("the VIP {vip} is not here: the machine with the MAC {} has it", holder.mac),
                    "free it there, or give the service another address".to_owned(),
                ),
                None => (
                    format!("the VIP {vip} is on no interface of this machine, so nobody answers ARP for it"),
                    format!(
                        "own-vips = true in [network] and an interface with an address of its network, or: ip addr add {vip}/{whole} dev INTERFACE"
                    ),
                ),
            };
            self.report(Level::Error, &service.name, what, fix);
        }
    }

    /// The VIPs, and the other addresses that this program has put here: floating ones, sources of mode `snat`.
    fn served(&self) -> BTreeSet<IpAddr> {
        let vips =
            self.status.virtual_services.iter().flat_map(|s| s.vip.iter().filter_map(|v| address_of(v)));
        let placed = self.addresses.iter().filter(|o| o.ours && !o.kept).map(|o| o.address);
        vips.chain(placed).filter(|a| !a.is_loopback() && !a.is_unspecified()).collect()
    }

    /// Asks for all of them who has them.
    fn ask(&mut self) -> BTreeMap<IpAddr, Answers> {
        who_answers(&self.served(), ANSWER).unwrap_or_else(|error| {
            let what = format!("who else answers for the VIPs cannot be asked: {error}");
            self.report(Level::Unknown, "network", what, "run it as root");
            BTreeMap::new()
        })
    }

    fn service_of(&self, address: IpAddr) -> Option<&api::Service> {
        let has = |s: &&api::Service| s.vip.iter().any(|v| address_of(v) == Some(address));
        self.status.virtual_services.iter().find(has)
    }

    /// Nobody but this machine may answer, and of this one an interface that takes what comes.
    fn who_answers(&mut self, answers: &BTreeMap<IpAddr, Answers>) {
        for (address, answers) in answers {
            let service = self.service_of(*address).cloned();
            let of_layer4 = service.as_ref().is_some_and(|s| is_layer4(&s.mode));
            let here = self.addresses.iter().any(|o| o.address == *address);
            if here && of_layer4 {
                self.own_answers(*address, &answers.own);
            }
            // One that is missing has been told of, with who has it.
            if here || of_layer4 || self.is_passive() {
                self.strangers(*address, service.as_ref(), answers);
            }
        }
    }

    /// Clients that learn the MAC of an interface without layer 4 are turned away there.
    fn own_answers(&mut self, address: IpAddr, own: &BTreeSet<String>) {
        let Some(layer4) = &self.status.layer_4 else { return };
        let bare = own.iter().filter(|name| !layer4.interfaces.iter().any(|a| a.name == **name));
        let bare: Vec<&str> = bare.map(String::as_str).collect();
        if bare.is_empty() {
            return;
        }
        let names = bare.join(", ");
        self.report(
            Level::Warning,
            &names,
            format!("this machine answers for the VIP {address} by {names}, too, where layer 4 is not attached: clients that learn that MAC are turned away"),
            format!("name it in [layer-4] interfaces as well, or have it keep silent: sysctl -w net.ipv4.conf.{}.arp_ignore=1", bare[0]),
        );
    }

    fn strangers(&mut self, address: IpAddr, service: Option<&api::Service>, answers: &Answers) {
        let asked = if address.is_ipv4() { "ARP" } else { "neighbour discovery" };
        for holder in &answers.others {
            let at =
                |s: &&api::RealServer| holder.known_as.is_some() && host_of(&s.address) == holder.known_as;
            let mut all = self.status.virtual_services.iter().flat_map(|s| &s.real_servers);
            let server =
                service.and_then(|s| s.real_servers.iter().find(at)).or_else(|| all.find(at)).cloned();
            // The active node is the one that answers.
            if server.is_none() && self.is_passive() {
                continue;
            }
            let direct = service.filter(|s| matches!(s.mode.as_str(), "dr" | "tun"));
            let who = match (&server, holder.known_as) {
                (Some(server), _) => {
                    format!("the real server {} ({}, {})", server.name, server.address, holder.mac)
                }
                (None, Some(address)) => format!("{address} ({})", holder.mac),
                (None, None) => format!("a machine with the MAC {}", holder.mac),
            };
            let kind = if service.is_some() { "VIP" } else { "address" };
            let fix = match direct {
                Some(service) => format!(
                    "on that machine: evenkeel real-server setup --mode {} --vip {address} (and take {address} off its network card)",
                    service.mode
                ),
                None => format!("take {address} off that machine, or give this one another address"),
            };
            let subject = service.map_or_else(|| address.to_string(), |s| s.name.clone());
            let what = format!(
                "{who} answers {asked} for the {kind} {address}: clients go there directly and past this machine"
            );
            self.report(Level::Error, subject, what, fix);
        }
    }

    /// Interfaces with addresses of clients, or with layer 4, by which nothing comes.
    fn idle_interfaces(&mut self) {
        let served = self.served();
        let of_layer4 = self.status.layer_4.iter().flat_map(|l| l.interfaces.iter().map(|a| a.name.clone()));
        let of_layer4: BTreeSet<String> = of_layer4.collect();
        for interface in self.interfaces.clone().iter().filter(|i| !(i.loopback || i.up && i.carrier)) {
            let on_it = self.addresses.iter().filter(|o| o.interface == interface.index);
            let lost: BTreeSet<IpAddr> = on_it.map(|o| o.address).filter(|a| served.contains(a)).collect();
            if lost.is_empty() && !of_layer4.contains(&interface.name) {
                continue;
            }
            let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
            let lost = match lost.is_empty() {
                true => "layer 4 gets nothing by it".to_owned(),
                false => format!("clients do not reach {}", lost.join(", ")),
            };
            let (why, fix) = match interface.up {
                false => ("is down", format!("ip link set {} up", interface.name)),
                true => (
                    "has no carrier",
                    "is its cable in, and the switch or the virtual network at its other end up?".to_owned(),
                ),
            };
            self.report(Level::Error, &interface.name, format!("the interface {why}: {lost}"), fix);
        }
    }
}
