//! Which machines on the networks of this one answer for an address.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use evenkeel_api::Holder;
use evenkeel_model::{host_prefix, mask_address};
use evenkeel_platform::{Announcer, Network, OwnAddress};

/// Whether an address lies in the network of one of this machine's; one alone makes no network.
pub fn is_near(own: &OwnAddress, address: IpAddr) -> bool {
    let whole = host_prefix(address);
    own.address.is_ipv4() == address.is_ipv4()
        && own.prefix < whole
        && mask_address(own.address, own.prefix, own.prefix) == mask_address(address, own.prefix, own.prefix)
}

/// Asks on every interface whose network the address is in. This machine itself does not count.
pub fn who_has(address: IpAddr, within: Duration) -> io::Result<Vec<Holder>> {
    let mut network = Network::open()?;
    let (interfaces, own) = (network.interfaces()?, network.addresses()?);
    let near: BTreeSet<u32> = own.iter().filter(|o| is_near(o, address)).map(|o| o.interface).collect();
    let mut holders = Vec::new();
    for interface in interfaces.iter().filter(|i| near.contains(&i.index) && !i.loopback && i.up) {
        let mut announcer = Announcer::open(interface.index, &interface.name, interface.mac)?;
        for mac in announcer.ask_all(address, within) {
            let known = network.neighbours()?;
            let mut known: Vec<IpAddr> = known
                .iter()
                .filter(|((_, a), m)| **m == mac && *a != address)
                .map(|((_, a), _)| *a)
                .collect();
            // Of the same family first.
            known.sort_by_key(|a| (a.is_ipv4() != address.is_ipv4(), *a));
            holders.push(Holder {
                interface: interface.name.clone(),
                mac: mac.map(|byte| format!("{byte:02x}")).join(":"),
                known_as: known.first().copied(),
            });
        }
    }
    Ok(holders)
}
