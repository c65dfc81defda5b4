//! The VIPs and floating addresses of a single node: put on the interfaces they belong to, asked for
//! before, announced, and taken away when nothing wants them any more. The thread of a pair does the same
//! with its role; both use `Floating`, which knows how.
//!
//! What the machine has itself stays as it is. What this program adds is marked in the kernel and noted
//! in `addresses.json`, before it is added: after a crash the next process knows it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use evenkeel_api as api;
use evenkeel_model::{Snapshot, host_prefix};
use evenkeel_platform::{Interface, Network, NetworkChanges, OwnAddress, mac_text};
use tracing::{error, info, warn};

use super::layer4::Layer4;
use super::pair::{
    Announcers, Floating, Guard, GuardedAddress, NetworkSeen, Spot, floating_of, foreign, network_snapshot,
    noted, spot,
};

/// How long somebody who has an address may take to say so, before a commit puts it here.
const ASK: Duration = Duration::from_millis(150);
/// The same at a start, and while an address is tried again.
const ASK_AGAIN: Duration = Duration::from_millis(40);
/// Interfaces are looked at again after this time, also without news of a change.
const LOOK: Duration = Duration::from_secs(5);
/// How long the kernel may take to tell its connections, in all.
const BUSY: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct Addresses {
    floating: Option<Floating>,
    changes: Option<NetworkChanges>,
    seen: u64,
    look_at: Option<Instant>,
    /// Added for a configuration that does not run yet.
    fresh: BTreeSet<GuardedAddress>,
    /// The process before has ended: what it left is this one's.
    alone: bool,
    /// Why addresses are not here, as it was told.
    missing: BTreeMap<IpAddr, String>,
}

/// An address that a configuration wants.
struct Want {
    address: IpAddr,
    prefix: u8,
    /// It may be where no interface has its network: a router sends it here.
    routed: bool,
    /// Nobody has to be able to have it: packets to it are translated wherever they come in.
    optional: bool,
}

/// Addresses and what they are to this node. Those of a pair move with the role.
fn wants(snapshot: &Snapshot, nonlocal: bool) -> Vec<Want> {
    let vips = |layer4: bool| -> BTreeSet<IpAddr> {
        let services = snapshot.services.iter().filter(|s| s.mode.is_layer4() == layer4);
        services.flat_map(|s| s.vips.iter().map(|v| v.address)).collect()
    };
    let (of_layer4, of_layer7) = (vips(true), vips(false));
    // Who lets programs listen on addresses that are elsewhere has somebody else move them.
    let moved_by_others = nonlocal && snapshot.pair.is_none() && snapshot.addresses.own_vips.is_none();
    floating_of(snapshot)
        .into_iter()
        .filter(|(address, prefix)| !moved_by_others || prefix.is_some() || !of_layer7.contains(address))
        .map(|(address, prefix)| Want {
            address,
            prefix: prefix.unwrap_or(host_prefix(address)),
            routed: prefix.is_some() || of_layer4.contains(&address),
            optional: prefix.is_none() && !of_layer4.contains(&address) && !of_layer7.contains(&address),
        })
        .collect()
}

/// Whether programs may listen on addresses that this machine does not have.
fn binds_elsewhere() -> bool {
    let set = |file: &str| std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1");
    set("/proc/sys/net/ipv4/ip_nonlocal_bind") || set("/proc/sys/net/ipv6/ip_nonlocal_bind")
}

fn wanted(snapshot: &Snapshot) -> Vec<Want> {
    wants(snapshot, binds_elsewhere())
}

fn addresses_of(wants: &[Want]) -> BTreeSet<IpAddr> {
    wants.iter().map(|w| w.address).collect()
}

fn file_of(snapshot: &Snapshot) -> PathBuf {
    snapshot.state_directory.join("addresses.json")
}

/// Where an address goes, or why it cannot be here.
fn place_of(
    want: &Want,
    seen: &NetworkSeen,
    foreign: &[OwnAddress],
) -> Result<Option<GuardedAddress>, String> {
    let way = seen.ways.get(&want.address).copied();
    if let Some(network) = foreign.iter().find(|o| is_end_of(o, want.address)) {
        return Err(format!(
            "{} is the first or last address of {}/{} on {}: all machines there take it as everybody's; take another address of that network",
            want.address,
            network.address,
            network.prefix,
            name_of(&seen.interfaces, network.interface)
        ));
    }
    match spot(want.address, foreign, way) {
        Spot::Own(_) => Ok(None),
        Spot::Near(interface) => Ok(Some((interface, want.address, want.prefix))),
        Spot::Routed(interface) if want.routed => Ok(Some((interface, want.address, want.prefix))),
        Spot::Routed(_) | Spot::Nowhere if want.optional => Ok(None),
        Spot::Routed(_) | Spot::Nowhere => Err(nowhere(want, seen)),
    }
}

/// Whether an address is the network's own or its broadcast address.
fn is_end_of(own: &OwnAddress, address: IpAddr) -> bool {
    let (IpAddr::V4(a), true) = (address, own.prefix < 31 && crate::neighbours::is_near(own, address)) else {
        return false;
    };
    let hosts = u32::MAX >> own.prefix;
    [0, hosts].contains(&(u32::from(a) & hosts)) && own.address != address
}

fn nowhere(want: &Want, seen: &NetworkSeen) -> String {
    let address = want.address;
    let networks = networks_of(address, seen);
    let here = match networks.is_empty() {
        true => format!("none has an IPv{} network", if address.is_ipv4() { 4 } else { 6 }),
        false => format!("there is {}", networks.join(", ")),
    };
    let whole = host_prefix(address);
    let routed = match want.routed {
        true => "where a router sends it to this machine, give this machine a route that leads there, such as a default route".to_owned(),
        false => format!(
            "where a router sends it to this machine, say so with floating-ips = [\"{address}/{whole}\"] in [network]"
        ),
    };
    format!(
        "{address} is on no interface of this machine, and none has a network that it is in ({here}): give an interface an address of its network, or take an address of a network that is here; {routed}"
    )
}

/// The networks of a family that this machine is in, with their interfaces.
fn networks_of(address: IpAddr, seen: &NetworkSeen) -> Vec<String> {
    let fits = |o: &&OwnAddress| {
        o.address.is_ipv4() == address.is_ipv4()
            && o.prefix < host_prefix(o.address)
            && !o.address.is_loopback()
    };
    let own = seen.own.iter().filter(fits).filter(|o| !is_link_local(o.address));
    own.map(|o| format!("{}/{} on {}", o.address, o.prefix, name_of(&seen.interfaces, o.interface))).collect()
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

fn name_of(interfaces: &[Interface], index: u32) -> String {
    let found = interfaces.iter().find(|i| i.index == index);
    found.map_or_else(|| format!("interface {index}"), |i| i.name.clone())
}

fn taken(address: IpAddr, mac: [u8; 6]) -> String {
    format!(
        "{address} is in use: the machine with the MAC {} answers for it; take another address, or free it there first",
        mac_text(mac)
    )
}

/// What becomes of addresses between two configurations, for a plan, and what the network is to be asked before; or
/// which of them cannot be here.
pub fn foresee(
    old: &Snapshot,
    new: &Snapshot,
    asking: &Asking,
) -> Result<(Vec<api::PlanStep>, Option<Questions>), (IpAddr, String)> {
    let (before, after) = (wanted(old), wanted(new));
    let known = addresses_of(&before);
    let fresh: Vec<&Want> = after.iter().filter(|w| !known.contains(&w.address)).collect();
    let stay = addresses_of(&after);
    let gone: Vec<&Want> = before.iter().filter(|w| !stay.contains(&w.address)).collect();
    let left_out = vips_of_others(new);
    let changed: Vec<(&Want, &Want)> = after
        .iter()
        .filter_map(|w| Some((before.iter().find(|b| b.address == w.address && b.prefix != w.prefix)?, w)))
        .collect();
    if fresh.is_empty() && gone.is_empty() && changed.is_empty() && left_out.is_empty() {
        return Ok((Vec::new(), None));
    }
    let all = known.union(&stay).copied().collect();
    // Where the network cannot be read nothing is foretold; the commit says what is wrong.
    let Ok(seen) = Network::open().and_then(|mut network| network_snapshot(&mut network, &all)) else {
        return Ok((Vec::new(), None));
    };
    let ours: BTreeSet<GuardedAddress> =
        seen.own.iter().filter(|o| o.ours).map(|o| (o.interface, o.address, o.prefix)).collect();
    if let Some(address) = left_out.into_iter().find(|a| seen.own.iter().all(|o| o.address != *a)) {
        let why = "is on no interface of this machine, and own-vips = false in [network] leaves it to others to put it there: do that first, or take that key away";
        return Err((address, format!("{address} {why}")));
    }
    let foreign = foreign(&seen.own, &ours);
    let mut steps = Vec::new();
    for (was, want) in changed {
        let Some(there) = seen.own.iter().find(|o| o.address == want.address && o.ours) else { continue };
        let name = name_of(&seen.interfaces, there.interface);
        let detail = format!("becomes /{} on {name}", want.prefix);
        steps.push(step("change", format!("address {}/{}", was.address, was.prefix), detail));
    }
    let mut places = BTreeSet::new();
    for want in fresh {
        let place = place_of(want, &seen, &foreign).map_err(|why| (want.address, why))?;
        let Some((interface, address, prefix)) = place else { continue };
        places.extend(place);
        let name = name_of(&seen.interfaces, interface);
        let mut detail = match spot(address, &foreign, None) {
            Spot::Near(_) => format!("is put on {name}"),
            _ => format!("is put on {name}, to which a route leads: a router must send it here"),
        };
        if new.pair.is_some() {
            detail.push_str(" of the active node");
        }
        steps.push(step("add", format!("address {address}/{prefix}"), detail));
    }
    for want in gone {
        let there = seen.own.iter().find(|o| o.address == want.address && o.ours);
        let Some(there) = there else { continue };
        let name = name_of(&seen.interfaces, there.interface);
        let detail = format!("is taken from {name} when its last connection has ended");
        steps.push(step("remove", format!("address {}/{}", there.address, there.prefix), detail));
    }
    places.retain(|place| seen.own.iter().all(|own| own.address != place.1));
    let peer = match asking {
        Asking::Strangers(peer) if !places.is_empty() => peer.clone(),
        _ => return Ok((steps, None)),
    };
    let servers = direct_servers(new);
    Ok((steps, Some(Questions { places, servers, peer, interfaces: seen.interfaces })))
}

/// VIPs that programs listen on and that others put on this machine.
fn vips_of_others(new: &Snapshot) -> BTreeSet<IpAddr> {
    if new.addresses.own_vips != Some(false) || new.pair.is_some() || binds_elsewhere() {
        return BTreeSet::new();
    }
    let placed = addresses_of(&wanted(new));
    let listening = new.services.iter().filter(|s| !s.mode.is_layer4());
    let vips = listening.flat_map(|s| s.vips.iter().map(|v| v.address));
    vips.filter(|a| !a.is_unspecified() && !a.is_loopback() && !placed.contains(a)).collect()
}

/// Whether the network is asked for addresses that are new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Nobody but a stranger has them: this machine is none, nor is one with these MACs.
    Strangers(BTreeSet<[u8; 6]>),
    /// The other node may have them already, and cannot be told from a stranger.
    Nobody,
}

/// What a plan asks the network before it promises addresses that would come to this node, or to the active one of a
/// pair, as the commit does.
pub struct Questions {
    places: BTreeSet<GuardedAddress>,
    /// Real servers that may answer for VIPs, and are told of elsewhere.
    servers: BTreeSet<IpAddr>,
    /// The other node's MACs.
    peer: BTreeSet<[u8; 6]>,
    interfaces: Vec<Interface>,
}

impl Questions {
    /// Which of them another machine answers for. Takes as long as answers may take.
    pub fn ask(self) -> Option<(IpAddr, String)> {
        let Questions { places, servers, peer, interfaces } = self;
        let mut announcers = Announcers::default();
        let holders = others(|asked| announcers.holders(&interfaces, asked, &peer, ASK), &places, &servers);
        holders.into_iter().next().map(|(address, mac)| (address, taken(address, mac)))
    }
}

/// Which of these addresses are an end of a connection that is open: one of this machine's own, or one that layer 4
/// forwards.
pub fn in_use(addresses: &BTreeSet<IpAddr>, layer4: &Layer4) -> BTreeSet<IpAddr> {
    if addresses.is_empty() {
        return BTreeSet::new();
    }
    let mut used = evenkeel_platform::addresses_in_use(addresses, BUSY).unwrap_or_default();
    used.extend(layer4.in_use(addresses));
    used
}

/// What an earlier process or configuration put on interfaces, this one does not want, and connections are open to.
pub fn left_in_use(snapshot: &Snapshot, layer4: &Layer4) -> BTreeSet<GuardedAddress> {
    let wanted: BTreeSet<IpAddr> = floating_of(snapshot).iter().map(|f| f.0).collect();
    let mut left = noted(&file_of(snapshot));
    left.retain(|place| !wanted.contains(&place.1));
    let used = in_use(&left.iter().map(|place| place.1).collect(), layer4);
    left.retain(|place| used.contains(&place.1));
    left
}

fn step(action: &str, subject: String, detail: String) -> api::PlanStep {
    let impact = evenkeel_config::Impact::None.as_str().into();
    api::PlanStep { action: action.into(), subject, detail, impact }
}

/// The gateways that real servers of mode `nat` need which the running configuration does not have.
pub fn gateways(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let fresh: Vec<IpAddr> = hosts_behind(new).difference(&hosts_behind(old)).copied().collect();
    if fresh.is_empty() {
        return Vec::new();
    }
    let seen =
        Network::open().and_then(|mut network| network_snapshot(&mut network, &addresses_of(&wanted(new))));
    let Ok(seen) = seen else { return Vec::new() };
    let mut of: BTreeMap<Option<IpAddr>, Vec<String>> = BTreeMap::new();
    for host in fresh {
        of.entry(gateway_for(host, new, &seen.own)).or_default().push(host.to_string());
    }
    let floats = |address: &IpAddr| new.addresses.floating.iter().any(|f| f.0 == *address);
    of.into_iter()
        .map(|(gateway, hosts)| match gateway {
            Some(gateway) if new.pair.is_some() && !floats(&gateway) => format!(
                "real servers of mode nat need this node as their default gateway, and {gateway} does not move to the other node: name an address of their network in [network] floating-ips, and make that the gateway of {}",
                hosts.join(", ")
            ),
            Some(gateway) => {
                format!("real servers of mode nat need {gateway} as their default gateway: {}", hosts.join(", "))
            }
            None => format!(
                "real servers of mode nat need this machine as their default gateway, and it has no address in their network: name one in [network] floating-ips, for {}",
                hosts.join(", ")
            ),
        })
        .collect()
}

/// Real servers of mode `nat`.
fn hosts_behind(snapshot: &Snapshot) -> BTreeSet<IpAddr> {
    let nat = snapshot.services.iter().filter(|s| s.mode == evenkeel_model::Mode::Nat);
    let pools = nat.filter_map(|s| snapshot.pool(&s.pool));
    pools.flat_map(|p| p.real_servers.iter().map(|s| s.address.ip())).collect()
}

/// A floating address of the host's network, else this machine's own there.
fn gateway_for(host: IpAddr, new: &Snapshot, own: &[OwnAddress]) -> Option<IpAddr> {
    let mask = |address: IpAddr, prefix: u8| evenkeel_model::mask_address(address, prefix, prefix);
    let alike = |a: &IpAddr| a.is_ipv4() == host.is_ipv4();
    let floating = new.addresses.floating.iter().filter(|(a, _)| alike(a));
    let near = own.iter().filter(|o| crate::neighbours::is_near(o, host));
    let near = near.max_by_key(|o| o.prefix);
    // One that is written without its network lies in that of an interface.
    let mut floating = floating.filter(|(address, prefix)| {
        let in_own = *prefix < host_prefix(*address) && mask(*address, *prefix) == mask(host, *prefix);
        in_own || near.is_some_and(|o| mask(*address, o.prefix) == mask(host, o.prefix))
    });
    floating.next().map(|f| f.0).or(near.map(|o| o.address))
}

/// Addresses that this configuration is given by this node, or by the role.
pub fn placed_by_us(snapshot: &Snapshot) -> BTreeSet<IpAddr> {
    addresses_of(&wanted(snapshot))
}

/// Who else answers for addresses. A real server of mode `dr` or `tun` that does has the ARP problem, and
/// no claim: clients that are served by this machine meanwhile are better off.
fn others(
    mut holders: impl FnMut(&BTreeSet<GuardedAddress>) -> BTreeMap<IpAddr, [u8; 6]>,
    places: &BTreeSet<GuardedAddress>,
    servers: &BTreeSet<IpAddr>,
) -> BTreeMap<IpAddr, [u8; 6]> {
    let mut found = holders(places);
    if found.is_empty() || servers.is_empty() {
        return found;
    }
    let interfaces: BTreeSet<u32> = places.iter().map(|p| p.0).collect();
    let asked = interfaces.iter().flat_map(|i| servers.iter().map(|s| (*i, *s, 0))).collect();
    let of_servers: BTreeMap<[u8; 6], IpAddr> =
        holders(&asked).into_iter().map(|(server, mac)| (mac, server)).collect();
    found.retain(|vip, mac| {
        let server = of_servers.get(mac);
        if let Some(server) = server {
            warn!(%vip, %server, "a real server answers for the VIP, and clients go there past this machine: `evenkeel doctor` says how to mend it");
        }
        server.is_none()
    });
    found
}

/// Real servers that have the VIP themselves.
fn direct_servers(snapshot: &Snapshot) -> BTreeSet<IpAddr> {
    use evenkeel_model::Mode;
    let direct = snapshot.services.iter().filter(|s| matches!(s.mode, Mode::Dr | Mode::Tun));
    let pools = direct.filter_map(|s| snapshot.pool(&s.pool));
    pools.flat_map(|p| p.real_servers.iter().map(|s| s.address.ip())).collect()
}

impl Addresses {
    fn open(&mut self, snapshot: &Snapshot) -> Result<&mut Floating, String> {
        if self.floating.is_none() {
            let opened = Floating::new(file_of(snapshot)).and_then(|f| Ok((f, NetworkChanges::watch()?)));
            let (floating, changes) = opened.map_err(|e| format!("netlink cannot be opened: {e}"))?;
            self.floating = Some(floating);
            self.changes = Some(changes);
        }
        self.floating.as_mut().ok_or_else(|| "netlink cannot be opened".into())
    }

    /// Puts those on interfaces that a new configuration wants and the running one does not, or says why
    /// one cannot be there and changes nothing. At a start the rest is served without it.
    pub fn prepare(&mut self, running: &Snapshot, new: &Snapshot, asking: &Asking) -> Result<(), String> {
        let (wants, strict) = (wanted(new), self.alone);
        if wants.is_empty() || (new.pair.is_some() && !strict) {
            return Ok(());
        }
        let known = addresses_of(&wanted(running));
        let is_new = |address: &IpAddr| strict && !known.contains(address);
        let seen =
            Network::open().and_then(|mut network| network_snapshot(&mut network, &addresses_of(&wants)));
        let seen = match seen {
            Ok(seen) => seen,
            // Where nothing can be seen nothing is placed; what is here already can be served.
            Err(error) => {
                warn!(%error, "the interfaces cannot be read: addresses are not placed");
                return Ok(());
            }
        };
        let floating = self.open(new)?;
        floating.take_snapshot(&seen);
        let foreign = foreign(&seen.own, floating.added());
        let mut places = BTreeSet::new();
        for want in &wants {
            match place_of(want, &seen, &foreign) {
                Ok(place) => places.extend(place),
                Err(why) if is_new(&want.address) => return Err(why),
                Err(_) => {}
            }
        }
        let here: BTreeSet<IpAddr> = seen.own.iter().map(|o| o.address).collect();
        places.retain(|place| !here.contains(&place.1));
        // Of a pair the role decides who has them; before it moves its thread asks.
        places.retain(|place| new.pair.is_none() || is_new(&place.1));
        if places.is_empty() || (new.pair.is_some() && *asking == Asking::Nobody) {
            return Ok(());
        }
        let within = if strict { ASK } else { ASK_AGAIN };
        let nobody = BTreeSet::new();
        let peer = match asking {
            Asking::Strangers(peer) => peer,
            Asking::Nobody => &nobody,
        };
        let holders = others(|asked| floating.holders(asked, peer, within), &places, &direct_servers(new));
        if let Some((address, mac)) = holders.iter().find(|(address, _)| is_new(address)) {
            return Err(taken(*address, *mac));
        }
        if new.pair.is_some() {
            return Ok(());
        }
        places.retain(|place| !holders.contains_key(&place.1));
        floating.add(&places).map_err(|(address, error)| {
            format!(
                "{address} is not on this machine, and cannot be added: {error}; the program needs the right CAP_NET_ADMIN, or: ip addr add {address}/{} dev INTERFACE",
                host_prefix(address)
            )
        })?;
        self.fresh = places;
        Ok(())
    }

    /// The configuration that was prepared for does not come.
    pub fn take_back(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        if let Some(floating) = self.floating.as_mut().filter(|_| !fresh.is_empty()) {
            floating.take_back(&fresh);
        }
    }

    /// What the process before left is this one's from now on.
    pub fn inherit(&mut self, snapshot: &Snapshot, layer4: &Layer4) -> Vec<String> {
        self.alone = true;
        self.settle(snapshot, layer4)
    }

    /// The addresses of the configuration that runs, and no others. Returns what people must know.
    pub fn settle(&mut self, snapshot: &Snapshot, layer4: &Layer4) -> Vec<String> {
        self.fresh.clear();
        if !self.alone {
            return Vec::new();
        }
        if snapshot.pair.is_some() {
            // They are its thread's.
            if let Some(mut floating) = self.floating.take() {
                floating.leave();
            }
            return Vec::new();
        }
        let nothing = wanted(snapshot).is_empty();
        if nothing && self.floating.is_none() && !file_of(snapshot).exists() {
            return Vec::new();
        }
        if let Err(why) = self.open(snapshot) {
            error!(why, "the addresses of this node cannot be followed");
            return Vec::new();
        }
        let news = self.observe(snapshot, layer4);
        if nothing && self.floating.as_ref().is_some_and(|f| f.added().is_empty()) {
            self.floating = None;
        }
        news
    }

    pub fn tick(&mut self, snapshot: &Snapshot, layer4: &Layer4) -> Vec<String> {
        let Some(floating) = self.floating.as_mut().filter(|_| self.alone && snapshot.pair.is_none()) else {
            return Vec::new();
        };
        let now = Instant::now();
        floating.announce_when_due();
        let changes = self.changes.as_ref().map_or(0, NetworkChanges::of_routes);
        if changes == self.seen && self.look_at.is_some_and(|at| now < at) {
            return Vec::new();
        }
        self.observe(snapshot, layer4)
    }

    /// Follows the interfaces: what is missing comes back, what nobody wants goes.
    fn observe(&mut self, snapshot: &Snapshot, layer4: &Layer4) -> Vec<String> {
        self.look_at = Some(Instant::now() + LOOK);
        self.seen = self.changes.as_ref().map_or(0, NetworkChanges::of_routes);
        let Some(floating) = &mut self.floating else { return Vec::new() };
        let wants = wanted(snapshot);
        let seen =
            Network::open().and_then(|mut network| network_snapshot(&mut network, &addresses_of(&wants)));
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                warn!(%error, "the interfaces cannot be read");
                return Vec::new();
            }
        };
        floating.take_snapshot(&seen);
        let mut missing = BTreeMap::new();
        let (mut asked, mut unplaced) = (BTreeSet::new(), BTreeSet::new());
        let here: BTreeSet<IpAddr> = seen.own.iter().map(|o| o.address).collect();
        let foreign = foreign(&seen.own, floating.added());
        for want in &wants {
            let is_here = here.contains(&want.address);
            match place_of(want, &seen, &foreign) {
                Ok(Some(place)) if !is_here && !floating.added().contains(&place) => {
                    asked.insert(place);
                }
                Ok(None) if !is_here => drop(unplaced.insert(want.address)),
                Ok(_) => {}
                Err(why) => drop(missing.insert(want.address, why)),
            }
        }
        let ask = |places: &BTreeSet<GuardedAddress>| floating.holders(places, &BTreeSet::new(), ASK_AGAIN);
        let holders = others(ask, &asked, &direct_servers(snapshot));
        missing.extend(holders.into_iter().map(|(address, mac)| (address, taken(address, mac))));
        floating.left_out = missing.keys().copied().chain(unplaced).collect();
        floating.set_wanted(wants.iter().map(|w| (w.address, Some(w.prefix))).collect());
        let unwanted: BTreeSet<IpAddr> = floating.added().iter().map(|p| p.1).collect();
        let unwanted = unwanted.difference(&floating.wanted()).copied().collect();
        floating.in_use = in_use(&unwanted, layer4);
        floating.keep(seen, &mut Guard::none());
        let is_new = |(address, why): &(&IpAddr, &String)| self.missing.get(*address) != Some(*why);
        let news: Vec<String> = missing.iter().filter(is_new).map(|(_, why)| why.clone()).collect();
        news.iter().for_each(|why| error!(why, "an address of this configuration is not here"));
        for address in self.missing.keys().filter(|a| !missing.contains_key(*a)) {
            info!(%address, "an address that was missing is here");
        }
        self.missing = missing;
        news
    }

    /// The end of the process.
    pub fn end(&mut self, how: End) {
        let Some(mut floating) = self.floating.take().filter(|_| self.alone) else { return };
        match how {
            End::Remove => floating.give(&mut Guard::none()),
            End::Keep => floating.leave(),
        }
    }
}

/// What becomes of the addresses at the end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Keep,
    Remove,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(own: &[(u32, &str, u8)], ways: &[(&str, u32)]) -> NetworkSeen {
        let own = own.iter().map(|(interface, address, prefix)| OwnAddress {
            interface: *interface,
            address: address.parse().unwrap(),
            prefix: *prefix,
            ours: false,
            marked: true,
            kept: false,
        });
        let interface = |index: u32| Interface {
            index,
            name: format!("e{index}"),
            mac: [0; 6],
            mtu: 1500,
            up: true,
            carrier: true,
            loopback: false,
            veth: false,
        };
        NetworkSeen {
            at: Instant::now(),
            interfaces: (1..4).map(interface).collect(),
            own: own.collect(),
            ways: ways.iter().map(|(address, interface)| (address.parse().unwrap(), *interface)).collect(),
        }
    }

    fn snapshot(network: &str, vip: &str, mode: &str) -> Snapshot {
        let port = if mode == "dr" { "" } else { ":80" };
        let text = format!(
            "{network}\n[[virtual-service]]\nname = \"web\"\nvip = [\"{vip}:80\"]\nmode = \"{mode}\"\n[[virtual-service.real-server]]\nname = \"a\"\naddress = \"10.0.0.9{port}\"\n"
        );
        evenkeel_config::read(&text).unwrap()
    }

    fn places(snapshot: &Snapshot, seen: &NetworkSeen) -> Vec<Result<Option<GuardedAddress>, String>> {
        wants(snapshot, false).iter().map(|want| place_of(want, seen, &seen.own)).collect()
    }

    #[test]
    fn an_address_goes_where_its_network_is_and_else_nowhere() {
        let here =
            seen(&[(1, "10.0.0.1", 24), (2, "10.0.0.129", 25), (3, "192.0.2.7", 32)], &[("198.51.100.5", 1)]);
        let at = |vip: &str, mode: &str| places(&snapshot("", vip, mode), &here);
        let vip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(at("10.0.0.50", "http"), [Ok(Some((1, vip("10.0.0.50"), 32)))]);
        assert_eq!(at("10.0.0.200", "tcp"), [Ok(Some((2, vip("10.0.0.200"), 32)))], "the closest network");
        assert_eq!(at("10.0.0.1", "http"), [Ok(None)], "the machine's own stays its own");
        assert_eq!(at("127.0.0.5", "http"), [], "it never leaves the machine");
        assert_eq!(at("0.0.0.0", "http"), []);
        let refused = at("192.0.2.9", "http").remove(0).unwrap_err();
        assert!(refused.contains("10.0.0.1/24 on e1") && refused.contains("floating-ips"), "{refused}");
        // By a default route: nobody would look for it here, unless a router is told to.
        assert!(at("198.51.100.5", "http")[0].is_err());
        assert_eq!(at("198.51.100.5", "dr"), [Ok(Some((1, vip("198.51.100.5"), 32)))]);
        let said = snapshot("[network]\nfloating-ips = [\"198.51.100.5/32\"]", "198.51.100.5", "http");
        assert_eq!(places(&said, &here), [Ok(Some((1, vip("198.51.100.5"), 32)))]);
    }

    #[test]
    fn servers_behind_nat_are_told_their_gateway() {
        let here = seen(&[(1, "10.0.0.1", 24)], &[]);
        let gateway = |network: &str| {
            let host = "10.0.0.9".parse().unwrap();
            gateway_for(host, &snapshot(network, "10.0.0.50", "nat"), &here.own).map(|g| g.to_string())
        };
        assert_eq!(gateway("").as_deref(), Some("10.0.0.1"));
        for floating in ["10.0.0.254/24", "10.0.0.254/32"] {
            let network = format!("[network]\nfloating-ips = [\"{floating}\"]");
            assert_eq!(gateway(&network).as_deref(), Some("10.0.0.254"), "{floating}");
        }
        let elsewhere = "[network]\nfloating-ips = [\"10.9.0.254/24\"]";
        assert_eq!(gateway(elsewhere).as_deref(), Some("10.0.0.1"));
        let nat = hosts_behind(&snapshot("", "10.0.0.50", "nat"));
        assert_eq!((nat.len(), hosts_behind(&snapshot("", "10.0.0.50", "dr")).len()), (1, 0));
    }

    #[test]
    fn vips_are_left_to_whoever_moves_them() {
        let addresses = |network: &str, mode: &str, nonlocal: bool| {
            addresses_of(&wants(&snapshot(network, "10.0.0.50", mode), nonlocal)).len()
        };
        assert_eq!(addresses("", "http", false), 1);
        assert_eq!(addresses("[network]\nown-vips = false", "http", false), 0);
        assert_eq!(addresses("", "http", true), 0, "ip_nonlocal_bind says that somebody else does it");
        assert_eq!(
            addresses("[network]\nown-vips = true", "http", true),
            1,
            "but the file has the last word"
        );
        assert_eq!(addresses("", "dr", true), 1, "nothing listens for layer 4");
    }
}
