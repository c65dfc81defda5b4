//! VRRPV3-MIB (RFC 6527): the virtual routers of this node, read only. What is not counted here is left out.

use std::net::IpAddr;

use evenkeel_agentx::{Value, View, mib};
use evenkeel_api as api;
use evenkeel_platform::{Interface, OwnAddress};

/// vrrpv3OperationsEntry and vrrpv3AssociatedIpAddrEntry.
const OPERATIONS: [u32; 4] = [1, 1, 1, 1];
const ADDRESSES: [u32; 4] = [1, 1, 2, 1];
/// RowStatus: active.
const ACTIVE: i32 = 1;
/// vrrpv3OperationsStatus.
const INITIALIZE: i32 = 1;
const BACKUP: i32 = 2;
const MASTER: i32 = 3;

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Adds the rows of all virtual routers whose interface is there.
pub fn add(view: &mut View, pair: &api::Pair, interfaces: &[Interface], own: &[OwnAddress]) {
    for router in &pair.routers {
        if let Some(interface) = interfaces.iter().find(|interface| interface.name == router.interface) {
            add_router(view, pair, router, interface, own);
        }
    }
}

fn add_router(
    view: &mut View,
    pair: &api::Pair,
    router: &api::PairRouter,
    interface: &Interface,
    own: &[OwnAddress],
) {
    // InetAddressType: ipv4 and ipv6.
    let index = [interface.index, router.router_id.into(), if router.ipv6 { 2 } else { 1 }];
    let addresses = router.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
    let addresses: Vec<IpAddr> = addresses.filter(|address| address.is_ipv6() == router.ipv6).collect();
    let primary = own.iter().find(|own| {
        let is_link_local = matches!(own.address, IpAddr::V6(address) if address.is_unicast_link_local());
        own.interface == interface.index
            && own.address.is_ipv6() == router.ipv6
            && (!router.ipv6 || is_link_local)
            && !addresses.contains(&own.address)
    });
    let primary = primary.map(|own| octets(own.address)).unwrap_or_default();
    let (status, master) = match pair.role.as_str() {
        "active" => (MASTER, primary.clone()),
        "passive" => (BACKUP, Vec::new()),
        _ => (INITIALIZE, Vec::new()),
    };
    let columns = [
        (3, Value::Octets(master)),
        (4, Value::Octets(primary)),
        // Clients see that of the interface.
        (5, Value::Octets(interface.mac.to_vec())),
        (6, Value::Integer(status)),
        (7, Value::gauge(router.priority.into())),
        (8, Value::Integer(addresses.len().min(255) as i32)),
        (9, Value::Integer((router.interval_ms / 10).clamp(1, 4095) as i32)),
        (10, Value::truth(router.preempts)),
        (11, Value::truth(true)),
        (13, Value::Integer(ACTIVE)),
    ];
    for (column, value) in columns {
        view.insert(mib::vrrp(&[&OPERATIONS[..], &[column], &index].concat()), value);
    }
    for address in addresses {
        let bytes: Vec<u32> = octets(address).into_iter().map(u32::from).collect();
        let row = [&index[..], &[bytes.len() as u32], &bytes].concat();
        view.insert(mib::vrrp(&[&ADDRESSES[..], &[2], &row].concat()), Value::Integer(ACTIVE));
    }
}
