//! Which machines on the networks of this one answer for an address.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use evenkeel_api::Holder;
use evenkeel_model::{host_prefix, mask_address};
use evenkeel_platform::{Announcer, Network, OwnAddress, mac_text};

/// Addresses that one interface asks for at a time.
pub const ASKED: usize = 64;

/// Who answers for an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The interfaces that asked: those with an address of its network that are up.
    pub asked: BTreeSet<String>,
    pub others: Vec<Holder>,
    /// Interfaces of this machine itself that answered what another one of them asked: both are in one segment.
    pub own: BTreeSet<String>,
}

/// Whether an address lies in the network of one of this machine's; one alone makes no network.
pub fn is_near(own: &OwnAddress, address: IpAddr) -> bool {
    let whole = host_prefix(address);
    own.address.is_ipv4() == address.is_ipv4()
        && own.prefix < whole
        && mask_address(own.address, own.prefix, own.prefix) == mask_address(address, own.prefix, own.prefix)
}

/// Asks for addresses on every interface whose network they are in.
pub fn who_answers(addresses: &BTreeSet<IpAddr>, within: Duration) -> io::Result<BTreeMap<IpAddr, Answers>> {
    let mut network = Network::open()?;
    let (interfaces, own) = (network.interfaces()?, network.addresses()?);
    let mut all: BTreeMap<IpAddr, Answers> = addresses.iter().map(|a| (*a, Answers::default())).collect();
    for interface in interfaces.iter().filter(|i| !i.loopback && i.up) {
        let of_it: Vec<&OwnAddress> = own.iter().filter(|o| o.interface == interface.index).collect();
        let near = addresses.iter().copied().filter(|a| of_it.iter().any(|o| is_near(o, *a)));
        let near: Vec<IpAddr> = near.collect();
        if near.is_empty() {
            continue;
        }
        let mut announcer = Announcer::open(interface.index, &interface.name, interface.mac)?;
        for some in near.chunks(ASKED) {
            let heard = announcer.ask_all(some, within);
            let known = network.neighbours()?;
            for address in some {
                let answers = all.entry(*address).or_default();
                answers.asked.insert(interface.name.clone());
                for mac in heard.get(address).into_iter().flatten() {
                    if let Some(itself) = interfaces.iter().find(|i| i.mac == *mac && !i.loopback) {
                        answers.own.insert(itself.name.clone());
                        continue;
                    }
                    let same = known.iter().filter(|((_, a), m)| *m == mac && a != address);
                    // Of the same family first.
                    let known_as =
                        same.map(|((_, a), _)| *a).min_by_key(|a| (a.is_ipv4() != address.is_ipv4(), *a));
                    answers.others.push(Holder {
                        interface: interface.name.clone(),
                        mac: mac_text(*mac),
                        known_as,
                    });
                }
            }
        }
    }
    Ok(all)
}

/// Who answers for one address.
pub fn who_has(address: IpAddr, within: Duration) -> io::Result<Answers> {
    Ok(who_answers(&BTreeSet::from([address]), within)?.remove(&address).unwrap_or_default())
}
