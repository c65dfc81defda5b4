//! Services of layer 4: what they have beside others, and what they cannot have.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use evenkeel_model::{
    Addresses, Attach, FlowRate, FlowTimeouts, Layer4, Mode, PacketPath, Persistence, Pool, PortRange,
    PortSet, RealServer, Scheduler, SynCookies, Tunnel, Vip, VirtualService, shared_address,
};
use toml::de::DeTable;

use crate::problem::Problem;
use crate::section::{Section, network, rate};

/// What only a proxy can do.
const OF_LAYER7: &[&str] = &[
    "tls",
    "route",
    "answer-route",
    "forwarded",
    "proxy-protocol-from",
    "client-address",
    "max-body",
    "head-size",
    "request-trailers",
    "close-after-answer",
    "request-heads",
    "wait-for-body",
    "normalize",
    "unclear-paths",
    "error-pages",
    "error-answers",
    "max-connections",
    "slow-start",
    "retries",
    "retry-pause",
    "abort-on-close",
    "compression",
    "backups",
    "retry-on",
    "connection-reuse",
    "full-connections",
    "max-queue",
    "server-http",
    "server-tls",
    "send-proxy",
    "source",
    "source-interface",
    "tcp-keep-alive",
    "server-tcp-keep-alive",
    "tcp-user-timeout",
    "tcp-mss",
    "server-tcp-user-timeout",
    "outlier",
];
const TIMEOUTS_OF_LAYER7: &[&str] =
    &["connect", "client", "server", "queue", "request", "keep-alive", "tunnel"];
const OF_LAYER4: &[&str] = &[
    "tunnel",
    "source-addresses",
    "source-ports",
    "auto-nat",
    "auto-nat-addresses",
    "protection",
    "on-removal",
];
const TIMEOUTS_OF_LAYER4: &[&str] = &["syn", "established", "closing", "closed", "udp"];

/// Reads what a service of layer 4 has; of another one, reports what it cannot have.
pub fn of_service(table: Section<'_>, mode: Mode, problems: &mut Vec<Problem>) -> Option<Layer4> {
    let empty = DeTable::new();
    let timeouts = Section { table: table.section("timeouts").map_or(&empty, |s| s.table), ..table };
    let (keys, timeout_keys, needs) = match mode.is_layer4() {
        true => (OF_LAYER7, TIMEOUTS_OF_LAYER7, "\"http\" or \"tcp\""),
        false => (OF_LAYER4, TIMEOUTS_OF_LAYER4, "\"dr\", \"nat\", \"tun\" or \"snat\""),
    };
    let mut refuse = |place: Option<Range<usize>>, key: &str, needs: &str| {
        let message = format!("`{key}` does nothing in mode {:?}", mode.as_str());
        problems.push(Problem::new(place.unwrap_or(0..0), message).help(format!("it needs mode {needs}")));
    };
    keys.iter().filter(|k| table.value(k).is_some()).for_each(|k| refuse(table.span(k), k, needs));
    for key in timeout_keys.iter().filter(|k| timeouts.value(k).is_some()) {
        refuse(timeouts.span(key), &format!("timeouts.{key}"), needs);
    }
    let udp = matches!(table.text("protocol"), Some("udp" | "both"));
    if !mode.is_layer4() {
        if udp {
            refuse(table.span("protocol"), "protocol = \"udp\"", needs);
        }
        return None;
    }
    let of_mode = [
        ("tunnel", Mode::Tun),
        ("source-addresses", Mode::Snat),
        ("source-ports", Mode::Snat),
        ("auto-nat", Mode::Nat),
        ("auto-nat-addresses", Mode::Nat),
    ];
    for (key, needed) in of_mode.iter().filter(|(k, needed)| *needed != mode && table.value(k).is_some()) {
        refuse(table.span(key), key, &format!("{:?}", needed.as_str()));
    }
    let protection = Section { table: table.section("protection").map_or(&empty, |s| s.table), ..table };
    let both_ways = matches!(mode, Mode::Nat | Mode::Snat);
    if !both_ways && protection.value("syn-cookies").is_some() {
        refuse(
            protection.span("syn-cookies"),
            "protection.syn-cookies",
            "\"nat\" or \"snat\": else the server's numbers are not seen",
        );
    }
    let seconds = |key, default| timeouts.duration(key, Duration::from_secs(default));
    let sources = table.list("source-addresses");
    Some(Layer4 {
        tcp: table.text("protocol") != Some("udp"),
        udp,
        tunnel: if table.text("tunnel") == Some("gue") { Tunnel::Gue } else { Tunnel::Ip },
        timeouts: FlowTimeouts {
            syn: seconds("syn", 30),
            established: seconds("established", 3600),
            closing: seconds("closing", 120),
            closed: seconds("closed", 10),
            udp: seconds("udp", 300),
        },
        rate: protection.text("new-connections").and_then(flow_rate),
        source_rate: protection.text("per-source").and_then(flow_rate),
        syn_cookies: match protection.text("syn-cookies") {
            _ if !both_ways => SynCookies::Off,
            Some("off") => SynCookies::Off,
            Some("always") => SynCookies::Always,
            _ => SynCookies::OverRate,
        },
        sources: sources.filter_map(|v| v.get_ref().as_str()?.parse().ok()).collect(),
        source_ports: table
            .text("source-ports")
            .and_then(ports)
            .unwrap_or(PortRange { first: 1024, last: 32_767 }),
        auto_nat: table.flag("auto-nat"),
        auto_nat_addresses: auto_nat_addresses(table, problems),
    })
}

/// The written count at once, and as many in each period.
fn flow_rate(text: &str) -> Option<FlowRate> {
    let (count, period) = rate(text)?;
    let per_second = (f64::from(count) / period.as_secs_f64()).ceil();
    Some(FlowRate { per_second: (per_second as u32).max(1), burst: count })
}

pub fn ports(text: &str) -> Option<PortRange> {
    match PortSet::parse(text).ok()?.ranges() {
        [range] if text != "*" => Some(*range),
        _ => None,
    }
}

/// What a service of layer 4 needs of its pool.
/// The addresses that servers' own connections leave with.
fn auto_nat_addresses(table: Section<'_>, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    let key = "auto-nat-addresses";
    let all: Vec<IpAddr> = table.list(key).filter_map(|v| v.get_ref().as_str()?.parse().ok()).collect();
    let place = || table.span(key).unwrap_or(0..0);
    if table.value(key).is_some() && !table.flag("auto-nat") {
        problems.push(Problem::new(place(), "`auto-nat-addresses` needs `auto-nat = true`"));
    }
    if all.iter().filter(|a| a.is_ipv4()).count() > 1 || all.iter().filter(|a| a.is_ipv6()).count() > 1 {
        let problem = Problem::new(place(), "`auto-nat-addresses` has two of one IP version");
        problems
            .push(problem.help("a connection leaves with one: name one of IPv4, of IPv6, or one of each"));
    }
    all
}

pub fn check_pool(table: Section<'_>, service: &VirtualService, pool: &Pool, problems: &mut Vec<Problem>) {
    let mode = service.mode.as_str();
    let place = |key: &str| table.span(key).or_else(|| table.span("pool")).unwrap_or(0..0);
    let mut report = |key: &str, message: String, help: &str| {
        problems.push(Problem::new(place(key), message).help(help));
    };
    if pool.moves_drained {
        let message = format!("`drained = \"move\"` needs a proxy, mode {mode:?} has none");
        report("persistence", message, "in layer 4 halt the server instead");
    }
    if !matches!(pool.persistence, Persistence::None | Persistence::Source(_)) {
        let message =
            format!("persistence by {} needs a proxy, mode {mode:?} has none", pool.persistence.as_str());
        report("persistence", message, "in layer 4 use { type = \"source\" }");
    }
    if pool.scheduler.is_of_layer7() {
        let reads = if pool.scheduler == Scheduler::LeastResponseTime { "times" } else { "reads" };
        let what = if pool.scheduler.reads_requests() { "requests" } else { "what passes" };
        let scheduler = pool.scheduler.as_str();
        let message = format!("scheduler {scheduler:?} {reads} {what}, mode {mode:?} does not");
        report("scheduler", message, "in layer 4 use \"maglev\" or \"source-hash\"");
    }
    let check = &pool.health_check;
    if check.through_vip {
        if !matches!(service.mode, Mode::Dr | Mode::Tun) {
            let message =
                format!("`through-vip` does nothing in mode {mode:?}: the server never sees the VIP");
            report("health-check", message, "it needs mode \"dr\" or \"tun\"");
        }
        let mixed = pool.real_servers.iter().any(|s| {
            s.host.is_none() && !service.vips.iter().any(|v| v.address.is_ipv4() == s.address.is_ipv4())
        });
        if service.mode == Mode::Tun && mixed {
            let message = "`through-vip` needs one IP version inside and outside of the tunnel".to_owned();
            report("health-check", message, "check the server's own address instead");
        }
    }
    for server in &pool.real_servers {
        for (key, message, help) in check_server(service, server) {
            report(key, message, help);
        }
    }
}

/// What a service of layer 4 needs of a real server: the key that is at odds with it, what is wrong, and help.
pub fn check_server(
    service: &VirtualService,
    server: &RealServer,
) -> Vec<(&'static str, String, &'static str)> {
    let mut found = Vec::new();
    let (mode, address) = (service.mode.as_str(), server.address);
    let has = |v4: bool| service.vips.iter().any(|v| v.address.is_ipv4() == v4);
    let ports = service.vips.iter().map(|v| &v.ports);
    let keeps_port = matches!(service.mode, Mode::Dr | Mode::Tun);
    if keeps_port && address.port() != 0 && ports.clone().all(|p| !p.contains(address.port())) {
        let message = format!(
            "the real server {} has port {}, but mode {mode:?} cannot change ports",
            server.name,
            address.port()
        );
        found.push(("mode", message, "leave the port away (its own is the client's), or use mode \"nat\""));
    }
    if service.mode != Mode::Tun && server.host.is_none() && has(!address.is_ipv4()) {
        let message = format!(
            "the real server {} and a VIP of {} are not of one IP version",
            server.name, service.name
        );
        found.push(("vip", message, "only mode \"tun\" carries one version in the other; make two services"));
    }
    if server.host.is_none() && service.vips.iter().any(|v| v.address == address.ip()) {
        let message = format!("the real server {} has the VIP {} as its address", server.name, address.ip());
        let help = "give the server's own address; the VIP is beside it, on its loopback interface";
        found.push(("vip", message, help));
    }
    found
}

/// Who has which ports of which address.
#[derive(Default)]
pub struct Taken {
    ranges: BTreeMap<(IpAddr, bool, u16), (u16, String)>,
}

impl Taken {
    /// Takes the ports of a VIP; the owner of one that is taken already.
    pub fn take(&mut self, vip: &Vip, layer4: &Layer4, owner: &str) -> Result<(), (SocketAddr, String)> {
        for (udp, _) in [(false, layer4.tcp), (true, layer4.udp)].iter().filter(|p| p.1) {
            for range in vip.ports.ranges() {
                if let Some((port, other)) = self.owner(vip.address, *udp, *range) {
                    return Err((SocketAddr::new(vip.address, port), other.to_owned()));
                }
                self.ranges.insert((vip.address, *udp, range.first), (range.last, owner.to_owned()));
            }
        }
        Ok(())
    }

    /// Who has one of these ports.
    pub fn owner(&self, address: IpAddr, udp: bool, range: PortRange) -> Option<(u16, &str)> {
        let before = self.ranges.range((address, udp, 0)..=(address, udp, range.last)).next_back()?;
        let ((_, _, first), (last, owner)) = before;
        (*last >= range.first).then_some(((*first).max(range.first), owner.as_str()))
    }
}

pub fn packet_path(root: Section<'_>) -> PacketPath {
    let empty = DeTable::new();
    let table = Section { table: root.section("layer-4").map_or(&empty, |s| s.table), ..root };
    PacketPath {
        connections: table.number("connections", 1_000_000),
        persistent: table.number("persistent-clients", 262_144),
        lease: table.duration("lease", Duration::from_secs(1)),
        grace: table.duration("grace", Duration::from_secs(30)),
        attach: match table.text("attach") {
            Some("native") => Attach::Native,
            Some("generic") => Attach::Generic,
            _ => Attach::Auto,
        },
        interfaces: table.list("interfaces").filter_map(|v| Some(v.get_ref().as_str()?.into())).collect(),
    }
}

pub fn addresses(root: Section<'_>, problems: &mut Vec<Problem>) -> Addresses {
    let empty = DeTable::new();
    let table = Section { table: root.section("network").map_or(&empty, |s| s.table), ..root };
    for item in table.list("floating-ips") {
        let address = item.get_ref().as_str().and_then(network).map(|(address, _)| address);
        if let Some((address, what)) = address.and_then(|a| Some((a, shared_address(a)?))) {
            problems.push(Problem::new(
                item.span(),
                format!("{address} is {what}: no machine has it for itself"),
            ));
        }
    }
    Addresses {
        own_vips: table.value("own-vips").map(|_| table.flag("own-vips")),
        remove_at_stop: table.text("at-stop") == Some("remove"),
        floating: table.list("floating-ips").filter_map(|v| network(v.get_ref().as_str()?)).collect(),
    }
}
