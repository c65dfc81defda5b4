//! Reads `[pair]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::{AdaptiveBeats, Mode, Name, PairSettings, VirtualService, VrrpSettings};

use crate::problem::Problem;
use crate::section::Section;

pub const PORT: u16 = 9694;

pub fn pair(
    root: Section<'_>,
    services: &[Arc<VirtualService>],
    problems: &mut Vec<Problem>,
) -> Option<PairSettings> {
    let table = root.section("pair")?;
    let name = table.name("name").or_else(|| Name::new("node").ok())?;
    let place =
        |section: Section<'_>, key: &str| section.span(key).or_else(|| root.span("pair")).unwrap_or(0..0);
    let peer = table.listen("peer");
    let priority = table.number("priority", 100);
    let routers: Vec<VrrpSettings> =
        table.sections("vrrp").map(|(vrrp, _)| router(vrrp, priority, peer.is_some(), problems)).collect();
    for (at, (vrrp, span)) in table.sections("vrrp").enumerate() {
        let Some(own) = routers.get(at) else { continue };
        let same = |r: &VrrpSettings| {
            (&r.interface, r.router_id, r.ipv6) == (&own.interface, own.router_id, own.ipv6)
        };
        if routers[..at].iter().any(same) {
            let what = format!("a second virtual router {} on {}", own.router_id, own.interface);
            problems.push(Problem::new(vrrp.span("router-id").unwrap_or(span), what));
        }
    }
    let serial = table.text("serial").map(Into::into);
    if peer.is_none() {
        if routers.is_empty() {
            let what = "a pair needs `peer`, or [[pair.vrrp]] for routers of other makes";
            let help =
                "peer = \"ADDRESS:9694\" with the other node's address, then `evenkeel pair invite` there";
            problems.push(Problem::new(place(table, "name"), what).help(help));
        }
        for key in ["serial", "witness"] {
            if table.value(key).is_some() {
                let what = format!("`{key}` needs `peer`: only another Evenkeel speaks there");
                problems.push(Problem::new(place(table, key), what));
            }
        }
    }
    let listen = table.listen("listen").unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT));
    if peer.is_some_and(|p| p.is_ipv4() != listen.is_ipv4() && !listen.ip().is_unspecified()) {
        let what = "`listen` and `peer` are of different families";
        problems.push(Problem::new(place(table, "listen"), what));
    }
    // A translation to a node's own address ends with the node.
    for service in services.iter().filter(|s| s.mode == Mode::Snat) {
        let own = service.layer4.as_ref().is_none_or(|l| l.sources.is_empty());
        if own && peer.is_some() {
            let what = format!("the service {} has no source-addresses", service.name);
            let help = "in a pair, mode \"snat\" needs addresses that move with the role: name some in `source-addresses` of the service and in `floating-ips` of [network]";
            problems.push(Problem::new(place(table, "name"), what).help(help));
        }
    }
    Some(PairSettings {
        name,
        peer,
        listen,
        priority,
        failback: table.flag("failback"),
        dead_after: table.number("dead-after", 3),
        adaptive: (table.text("beats") != Some("fixed")).then(|| AdaptiveBeats {
            shortest_dead: table.duration("shortest-dead-time", Duration::from_millis(30)),
            learn: table.duration("learning-time", Duration::from_secs(600)),
        }),
        takes_over_alone: table.text("on-silence") != Some("wait"),
        join: table.duration("join-wait", Duration::from_secs(1)),
        keep: table.duration("switch-over-drain", Duration::from_secs(60)),
        serial,
        witness: table.listen("witness"),
        ping: table.list("ping").filter_map(|v| v.get_ref().as_str()?.parse::<IpAddr>().ok()).collect(),
        track: table.list("track").filter_map(|v| Some(v.get_ref().as_str()?.to_owned())).collect(),
        notify: table.text("notify").map(Into::into),
        routers,
    })
}

fn router(vrrp: Section<'_>, priority: u8, sealed: bool, problems: &mut Vec<Problem>) -> VrrpSettings {
    let default = if sealed { PairSettings::INTERVAL } else { Duration::from_secs(1) };
    let interval = vrrp.duration("interval", default);
    let version = vrrp.number("version", 3);
    let ipv6 = vrrp.text("family") == Some("ipv6");
    let mut refuse = |key: &str, what: &str, help: &str| {
        problems.push(Problem::new(vrrp.span(key).unwrap_or(0..0), what).help(help));
    };
    if version == 2 && !sealed && (!interval.as_millis().is_multiple_of(1000) || interval.as_secs() > 255) {
        refuse("interval", "VRRP version 2 knows whole seconds up to 255 alone", "use version 3, or \"1s\"");
    }
    if version == 2 && ipv6 {
        refuse("version", "VRRP version 2 knows no IPv6", "version = 3");
    }
    let password = vrrp.text("password").map(|text| text.to_owned().into());
    if password.is_some() && (version != 2 || sealed) {
        refuse(
            "password",
            "only VRRP version 2 without `peer` has passwords",
            "version = 2, or leave it out",
        );
    }
    let unicast: Vec<IpAddr> =
        vrrp.list("unicast").filter_map(|v| v.get_ref().as_str()?.parse().ok()).collect();
    if unicast.iter().any(|a| a.is_ipv6() != ipv6) {
        refuse(
            "unicast",
            "an address of another family than the router's",
            "set `family`, or another address",
        );
    }
    VrrpSettings {
        interface: vrrp.text("interface").unwrap_or("").into(),
        router_id: vrrp.number("router-id", 1),
        priority: vrrp.number("priority", priority),
        interval,
        version,
        password,
        ipv6,
        unicast,
    }
}
