//! `evenkeel doctor`: looks for what keeps an installation from working although its configuration
//! is right, and says how to mend it. Runs on the load balancer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use evenkeel_api as api;
use evenkeel_platform::{Interface, Network, OwnAddress};
use serde::Serialize;

use super::client::Client;
use super::live::{print_json, say};
use super::{Common, Exit, Failure, Outcome};

mod addresses;

/// First segments without a second one: younger flows may still get on.
const STUCK_MS: u64 = 2_000;
/// Flows that are looked at.
const LOOKED_AT: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Clients are turned away or hang.
    Error,
    /// Works, but not for everybody or not for long.
    Warning,
    /// Could not be looked at.
    Unknown,
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    subject: String,
    what: String,
    fix: String,
}

struct Doctor {
    status: api::Status,
    interfaces: Vec<Interface>,
    addresses: Vec<OwnAddress>,
    findings: Vec<Finding>,
}

pub fn run(common: &Common) -> Outcome {
    let client = Client::new(&common.socket);
    let status: api::Status = client.get("/api/v1/status")?;
    let flows = format!("/api/v1/connections?limit={LOOKED_AT}");
    let connections: Vec<api::Connection> = client.get(&flows)?;
    let mut network = Network::open()?;
    let mut doctor = Doctor {
        status,
        interfaces: network.interfaces()?,
        addresses: network.addresses()?,
        findings: Vec::new(),
    };
    doctor.storage();
    doctor.snmp();
    doctor.servers();
    // A node without a pair has nothing to say about it.
    if let Ok(pair) = client.get::<api::Pair>("/api/v1/pair") {
        doctor.findings.extend(findings_of_pair(&pair));
        doctor.gateways_that_stay();
    }
    doctor.packet_path();
    doctor.vips(&mut network);
    // What a passive node holds are copies: whether they get on is seen where the packets pass.
    if !doctor.is_passive() {
        doctor.progress(&since_commit(connections, &client));
    }
    doctor.names_of_rdp_clients(&client);
    let mut findings = doctor.findings;
    findings.sort_by_key(|f| f.level);
    if common.json {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            let level = match finding.level {
                Level::Error => "ERROR  ",
                Level::Warning => "WARNING",
                Level::Unknown => "UNKNOWN",
            };
            say(&format!("{level} {}: {}\n        fix: {}", finding.subject, finding.what, finding.fix))?;
        }
        if findings.is_empty() {
            say("nothing is wrong that can be seen from here")?;
        }
    }
    match findings.iter().filter(|f| f.level == Level::Error).count() {
        0 => Ok(()),
        n => Err(Failure::new(
            Exit::Failed,
            match n {
                1 => "1 thing keeps clients from being served".to_owned(),
                n => format!("{n} things keep clients from being served"),
            },
        )),
    }
}

/// Those that began under the configuration that runs: others were handled as the one before said.
fn since_commit(connections: Vec<api::Connection>, client: &Client) -> Vec<api::Connection> {
    let revisions: Vec<api::Revision> = client.get("/api/v1/revisions").unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
    let for_ms = revisions.iter().map(|r| r.time_ms).max().map_or(u64::MAX, |at| now.saturating_sub(at));
    connections.into_iter().filter(|c| c.age_ms <= for_ms).collect()
}

fn is_layer4(mode: &str) -> bool {
    matches!(mode, "dr" | "nat" | "tun" | "snat")
}

/// The address of `ADDRESS:PORTS`.
fn address_of(vip: &str) -> Option<IpAddr> {
    vip.rsplit_once(':')?.0.trim_matches(['[', ']']).parse().ok()
}

fn host_of(server: &str) -> Option<IpAddr> {
    server.parse::<SocketAddr>().map(|a| a.ip()).ok().or_else(|| server.parse().ok())
}

impl Doctor {
    fn report(
        &mut self,
        level: Level,
        subject: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding { level, subject: subject.into(), what: what.into(), fix: fix.into() });
    }

    fn is_passive(&self) -> bool {
        self.status.node.role != "active"
    }

    fn layer4_services(&self) -> Vec<api::Service> {
        self.status.virtual_services.iter().filter(|s| is_layer4(&s.mode)).cloned().collect()
    }

    fn storage(&mut self) {
        if let Some(why) = self.status.storage.clone() {
            self.report(
                Level::Warning,
                "state directory",
                format!("{why}; commits are refused, and live changes do not survive a restart"),
                "make room on its disk, or mount it writable; it is looked at again every 10 s",
            );
        }
    }

    fn snmp(&mut self) {
        if let Some(why) = self.status.snmp.clone() {
            self.report(
                Level::Warning,
                "snmp",
                format!("nothing of this node is seen over SNMP: {why}"),
                "does snmpd run, with `master agentx`, and may the user of this program open its socket (`agentXPerms`)? docs/snmp.md has the lines",
            );
        }
    }

    fn servers(&mut self) {
        for service in self.status.virtual_services.clone() {
            if service.state == "down" {
                self.report(
                    Level::Error,
                    &service.name,
                    "no real server is up",
                    format!("evenkeel status {}: its last column says what each check found", service.name),
                );
            }
        }
    }

    fn packet_path(&mut self) {
        let Some(layer4) = self.status.layer_4.clone() else { return };
        for server in &layer4.unreachable {
            self.report(
                Level::Error,
                server,
                "its MAC address is not known: it does not answer ARP (or neighbour discovery), or there is no route to it",
                "is the machine up and on the network that the route says? `ip route get ADDRESS; ip neigh`",
            );
        }
        if layer4.interfaces.is_empty() {
            self.report(
                Level::Error,
                "layer 4",
                "the program is attached to no interface",
                "do routes to the real servers exist? name interfaces with [layer-4] interfaces = [...]",
            );
        }
        let explain: &[(&str, Level, &str, &str)] = &[
            (
                "lease-ended",
                Level::Warning,
                "packets were dropped because the daemon did not renew its lease",
                "was it stopped, frozen or starved of CPU? a longer [layer-4] lease bears longer pauses",
            ),
            (
                "table-full",
                Level::Warning,
                "the connection table was full for some new connections",
                "raise [layer-4] connections, or shorten the services' timeouts",
            ),
            (
                "snat-ports-exhausted",
                Level::Error,
                "connections of mode snat were refused: no source port was free",
                "add source-addresses to the service, or widen source-ports",
            ),
            (
                "no-neighbour",
                Level::Warning,
                "packets were dropped while a real server's MAC address was not known",
                "does it answer ARP at all times?",
            ),
            (
                "too-big",
                Level::Warning,
                "packets were too big for the tunnel; their senders were told",
                "raise the MTU between here and the real servers by 20 (ipip), 28 (gue) or 40 (IPv6) bytes; firewalls before here must pass ICMP",
            ),
            (
                "fragment-unknown",
                Level::Warning,
                "fragments came whose first part was never seen",
                "lower the clients' MTU, or look for a path that reorders",
            ),
            (
                "same-at-server",
                Level::Warning,
                "clients used one port for two ports of a VIP that are one port of the server",
                "give the ports of the VIP ports of their own at the server",
            ),
        ];
        for (reason, level, what, fix) in explain {
            let count = layer4.reasons.get(*reason).copied().unwrap_or(0);
            if count > 0 {
                self.report(*level, "layer 4", format!("{what} ({reason}: {count})"), *fix);
            }
        }
        let rewrites = self.layer4_services().iter().any(|s| s.mode != "dr");
        for attached in layer4.interfaces.iter().filter(|_| rewrites) {
            self.offloads(&attached.name, attached.attached == "generic");
        }
    }

    /// Merged packets come to a generic program as one, with checksums that are not filled in.
    fn offloads(&mut self, interface: &str, generic: bool) {
        let Some(text) = output("ethtool", &["-k", interface]) else {
            let fix = "apt install ethtool";
            self.report(Level::Unknown, interface, "its offloads cannot be read without ethtool", fix);
            return;
        };
        let is_on = |feature: &str| text.lines().any(|l| l.trim().starts_with(&format!("{feature}: on")));
        let bad = ["generic-receive-offload", "large-receive-offload", "rx-gro-hw"];
        let on: Vec<&str> = bad.iter().copied().filter(|f| is_on(f)).collect();
        if generic && !on.is_empty() {
            self.report(
                Level::Error,
                interface,
                format!("{} is on: merged packets cannot be rewritten or tunnelled", on.join(", ")),
                format!("ethtool -K {interface} gro off lro off rx-gro-hw off"),
            );
        }
    }

    fn name_of(&self, interface: u32) -> String {
        self.interfaces.iter().find(|i| i.index == interface).map(|i| i.name.clone()).unwrap_or_default()
    }

    fn tunnel_room(&mut self, service: &api::Service, network: &mut Network) {
        let hosts: Vec<IpAddr> = service.real_servers.iter().filter_map(|s| host_of(&s.address)).collect();
        let ways = hosts.iter().filter_map(|h| network.way_to(*h).ok());
        let interfaces: BTreeSet<u32> = ways.map(|w| w.interface).collect();
        for interface in self.interfaces.clone().iter().filter(|i| interfaces.contains(&i.index)) {
            if interface.mtu < 1520 {
                self.report(
                    Level::Warning,
                    &service.name,
                    format!("the MTU of {} is {}: full packets of clients do not fit into the tunnel, and are answered with ICMP \"too big\"", interface.name, interface.mtu),
                    format!("ip link set {} mtu 1600, if switches and real servers bear it; else see that ICMP reaches the clients", interface.name),
                );
            }
        }
    }

    /// Real servers of mode `nat` whose way out stays here when the role goes to the other node.
    fn gateways_that_stay(&mut self) {
        if self.is_passive() {
            return;
        }
        for service in self.layer4_services().iter().filter(|s| s.mode == "nat") {
            let hosts = service.real_servers.iter().filter_map(|s| host_of(&s.address));
            let mut stay: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
            for host in hosts {
                let near =
                    || self.addresses.iter().filter(|o| evenkeel_control::neighbours::is_near(o, host));
                let floats = self
                    .addresses
                    .iter()
                    .any(|o| o.ours && near().any(|n| evenkeel_control::neighbours::is_near(n, o.address)));
                if let Some(own) = near().next().filter(|_| !floats) {
                    stay.entry(own.address).or_default().push(host.to_string());
                }
            }
            for (gateway, hosts) in stay {
                self.report(
                    Level::Warning,
                    &service.name,
                    format!("its real servers need this node as their default gateway, and {gateway} does not move to the other node: after a takeover their answers reach nobody"),
                    format!("name an address of their network in [network] floating-ips, and make that the gateway of {}", hosts.join(", ")),
                );
            }
        }
    }

    /// First segments that were never followed by a second one.
    fn progress(&mut self, connections: &[api::Connection]) {
        #[derive(Default)]
        struct ServerStates {
            stuck: u64,
            clients: BTreeSet<IpAddr>,
            vip: Option<IpAddr>,
            fine: u64,
            answered: u64,
        }
        let mut servers: BTreeMap<(String, String), ServerStates> = BTreeMap::new();
        for c in connections.iter().filter(|c| c.protocol == "tcp") {
            let seen =
                servers.entry((c.service.clone(), c.real_server.clone().unwrap_or_default())).or_default();
            match c.state.as_str() {
                "syn-received" if c.age_ms >= STUCK_MS => {
                    seen.stuck += 1;
                    seen.clients.extend(host_of(&c.client));
                    seen.vip = address_of(&c.vip);
                    seen.answered += u64::from(c.bytes_out > 0);
                }
                "established" | "closing" => seen.fine += 1,
                _ => {}
            }
        }
        for service in self.layer4_services() {
            for ((_, server), seen) in servers.iter().filter(|((name, _), _)| *name == service.name) {
                if seen.stuck == 0 || seen.stuck <= seen.fine {
                    continue;
                }
                let subject = format!("{}/{server}", service.name);
                let clients = super::counted(seen.clients.len(), "client", "clients");
                let vip = seen.vip.map_or_else(|| "VIP".to_owned(), |vip| vip.to_string());
                let what = format!("{clients} sent a first segment and never a second one");
                // One alone may have been a scan, or have gone away.
                let level = if seen.clients.len() <= 1 { Level::Warning } else { Level::Error };
                match service.mode.as_str() {
                    "nat" if seen.answered == 0 => self.report(
                        level,
                        subject,
                        format!("{what}: the server's answers do not come back through this machine"),
                        format!("the real server's default gateway must be {}; with clients in its own network use mode snat", self.gateway_of(&service, server)),
                    ),
                    "nat" | "snat" if seen.answered == 0 => self.report(
                        level,
                        subject,
                        format!("{what}: the server does not answer"),
                        "does it listen on that port, and does its firewall let this machine through?",
                    ),
                    "nat" | "snat" => self.report(
                        level,
                        subject,
                        format!("{what}, although the server answers: the answers do not reach the clients, or their checksums are wrong"),
                        "between virtual machines of one host switch off checksum offload: ethtool -K INTERFACE tx off",
                    ),
                    mode => self.report(
                        level,
                        subject,
                        format!("{what}: the real server does not take packets for the VIP, or its answers do not reach the clients"),
                        format!("on the real server: evenkeel real-server check --mode {mode} --vip {vip} (the VIP on its loopback interface, the service listening on it, a default route to the clients)"),
                    ),
                }
            }
        }
    }

    /// The address of this machine that a real server of mode `nat` needs as its gateway.
    fn gateway_of(&self, service: &api::Service, server: &str) -> String {
        let host = service.real_servers.iter().find(|s| s.name == server).and_then(|s| host_of(&s.address));
        let near = |host: IpAddr| {
            let near = self.addresses.iter().filter(|o| evenkeel_control::neighbours::is_near(o, host));
            // One that floats goes with the role.
            near.max_by_key(|o| (o.ours, o.prefix)).map(|o| o.address)
        };
        match host.and_then(near) {
            Some(gateway) => format!("this machine, {gateway}"),
            None => "this machine, by an address in its network (a floating IP, see [network])".into(),
        }
    }

    /// RDP clients cut the name in their cookie at nine characters.
    fn names_of_rdp_clients(&mut self, client: &Client) {
        for service in self.status.virtual_services.clone().iter().filter(|s| s.mode == "tcp") {
            let path = format!("/api/v1/persistence/{}", service.name);
            let Ok(entries) = client.get::<Vec<api::PersistenceEntry>>(&path) else { continue };
            let cut: Vec<&str> = entries.iter().filter_map(|e| name_that_may_be_cut(&e.key)).collect();
            if let Some(example) = cut.first() {
                self.report(
                    Level::Warning,
                    &service.name,
                    format!("{} nine characters, such as {example}: some clients cut there, and users whose names begin alike then share a real server", super::counted(cut.len(), "name in RDP cookies has", "names in RDP cookies have")),
                    "use a Connection Broker's tokens, or persistence = { type = \"source\" }",
                );
            }
        }
    }
}

/// The name in an entry of an RDP client, where it ends exactly where Windows cuts.
fn name_that_may_be_cut(key: &str) -> Option<&str> {
    key.strip_prefix("user:").filter(|name| name.chars().count() == 9)
}

/// What keeps the other node from taking over.
fn findings_of_pair(pair: &api::Pair) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |level, subject: &str, what: String, fix: &str| {
        findings.push(Finding { level, subject: subject.into(), what, fix: fix.into() });
    };
    if pair.split_brain {
        let what = "both nodes are active: clients reach now the one and now the other".into();
        report(Level::Error, "pair", what, "mend the paths between the nodes: evenkeel pair status");
    }
    if !pair.paired {
        let fix = "evenkeel pair invite on the first node, evenkeel pair join CODE on the second";
        return report_alone(findings, fix);
    }
    for peer in pair.peer.iter().filter(|p| !p.heard) {
        let since = peer
            .heard_ms_ago
            .map_or_else(|| "was never heard".to_owned(), |ms| format!("was last heard {} s ago", ms / 1000));
        let what = format!("the peer {} {since}: nothing takes over if this node fails", peer.address);
        let fix = "is the other machine on, evenkeel running there, and the pair's port open in firewalls?";
        report(Level::Warning, "pair", what, fix);
    }
    // A peer that is silent on every path has been told of.
    let heard = pair.peer.as_ref().is_some_and(|p| p.heard);
    for path in pair.paths.iter().filter(|_| heard) {
        if let Some(trouble) = &path.trouble {
            let what = format!("the path {} between the nodes does not work: {trouble}", path.name);
            report(
                Level::Warning,
                "pair",
                what,
                "mend that network, cable or firewall; the other paths bear it meanwhile",
            );
        }
    }
    for peer in pair.peer.iter().filter(|p| p.is_deaf() && pair.role != "joining") {
        let what = format!(
            "the peer {} is heard and does not hear this node on any path: while that lasts it gives no role, nor takes one, by anybody's wish",
            peer.address
        );
        let fix = "what comes in there is lost: look at its firewall first, then at the networks between";
        report(Level::Error, "pair", what, fix);
    }
    if pair.peer.as_ref().is_some_and(|p| p.misses_a_path && !p.is_deaf())
        && pair.paths.iter().all(|p| p.trouble.is_none())
    {
        let what = "the peer does not hear this node on one of the paths between the nodes".into();
        let fix = "evenkeel pair status on the other node names it: mend that network, cable or firewall";
        report(Level::Warning, "pair", what, fix);
    }
    if let Some((level, what)) = silent_witness(pair) {
        let fix = "is `evenkeel witness` running there, with the pair's present key, and its port open in firewalls?";
        report(level, "pair", what, fix);
    }
    for link in pair.link.iter().filter(|_| heard) {
        if !link.connected {
            let what = format!("the link that keeps both nodes alike is down: {}", link.detail);
            report(Level::Warning, "pair", what, "is TCP to the pair's port let through in both directions?");
        } else if !matches!(link.configuration.as_str(), "" | "same") {
            let what = format!("the configurations of the nodes differ: {}", link.configuration);
            report(
                Level::Warning,
                "pair",
                what,
                "evenkeel pair push, on the node whose configuration is right",
            );
        }
    }
    findings
}

/// A witness that is away shows when it is needed, unless somebody looks. A passive node that hears its peer does not
/// ask it.
fn silent_witness(pair: &api::Pair) -> Option<(Level, String)> {
    let witness = pair.silent_witness()?;
    let heard = pair.peer.as_ref().is_some_and(|p| p.heard);
    let since = match witness.heard_ms_ago {
        Some(ms) => format!("has not answered for {} s", ms / 1000),
        None => "has never answered".into(),
    };
    let then = match (heard, pair.role.as_str()) {
        (true, _) => "nobody is active once the nodes lose each other",
        (false, "active") => "this node stays active only while its peer's promise lasts",
        (false, _) => "this node does not become active",
    };
    let level = if heard { Level::Warning } else { Level::Error };
    Some((level, format!("the witness {} {since}: {then}", witness.address)))
}

fn report_alone(mut findings: Vec<Finding>, fix: &str) -> Vec<Finding> {
    let what = "this node waits for a second one: nothing takes over if it fails".to_owned();
    findings.push(Finding { level: Level::Warning, subject: "pair".into(), what, fix: fix.into() });
    findings
}

/// What a program prints, whatever it exits with; `None` where it is not installed.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_end_where_windows_cuts() {
        assert_eq!(name_that_may_be_cut("user:alexander"), Some("alexander"));
        assert_eq!(name_that_may_be_cut("user:\u{e4}lexander"), Some("\u{e4}lexander"));
        for whole in ["user:jack", "user:alexandra1", "source:10.0.0.1", "123456789"] {
            assert_eq!(name_that_may_be_cut(whole), None, "{whole}");
        }
    }

    fn pair(heard: bool) -> api::Pair {
        let fields = serde_json::json!({
            "name": "a", "role": "passive", "why": "", "since-ms": 1, "paired": true, "held": false,
            "split-brain": false, "trouble": 0, "troubles": [], "priority": 100, "revision": 1,
            "peer": { "address": "192.0.2.2", "heard": heard, "heard-ms-ago": 5_000, "hears-this-node-ms-ago": 20 },
            "paths": [{ "name": "eth0" }], "refused": {}, "addresses-without-interface": [],
            "guarded": true, "real-time": true,
        });
        let mut pair: api::Pair = serde_json::from_value(fields).unwrap();
        pair.link =
            Some(api::PairLink { connected: heard, configuration: "same".into(), ..Default::default() });
        pair
    }

    #[test]
    fn a_healthy_pair_has_no_findings() {
        assert!(findings_of_pair(&pair(true)).is_empty());
    }

    #[test]
    fn a_dead_peer_is_told_once() {
        let mut pair = pair(false);
        pair.paths[0].trouble = Some("silent".into());
        let found = findings_of_pair(&pair);
        assert!(found.len() == 1 && found[0].what.contains("192.0.2.2 was last heard 5 s ago"), "{found:?}");
    }

    #[test]
    fn status_names_node_role_peer_and_link() {
        let text = crate::cli::live::describe_pair(&pair(false));
        let whole = "node a, passive; peer 192.0.2.2 SILENT, heard 5000 ms ago; link not connected\n";
        assert_eq!(text, whole);
    }

    #[test]
    fn a_silent_path_and_a_difference_are_told() {
        let mut pair = pair(true);
        pair.paths[0].trouble = Some("silent for 9 s".into());
        pair.link.as_mut().unwrap().configuration = "differs".into();
        let found = findings_of_pair(&pair);
        assert!(found[0].what.contains("eth0") && found[1].what.contains("differ"), "{found:?}");
    }

    #[test]
    fn a_path_that_the_other_node_misses_is_told() {
        let mut pair = pair(true);
        pair.peer.as_mut().unwrap().misses_a_path = true;
        let found = findings_of_pair(&pair);
        assert!(found.len() == 1 && found[0].fix.contains("on the other node"), "{found:?}");
    }

    #[test]
    fn a_witness_that_is_away_is_told_of_by_the_node_that_asks_it() {
        let finds = |role: &str, heard: bool, witness_ms: Option<u64>| {
            let mut pair = pair(heard);
            (pair.role, pair.since_ms) = (role.into(), 60_000);
            pair.witness =
                Some(api::PairWitness { address: "192.0.2.9:9695".into(), heard_ms_ago: witness_ms });
            findings_of_pair(&pair).iter().filter(|f| f.what.contains("192.0.2.9")).count()
        };
        for silent in [None, Some(9_000)] {
            assert_eq!((finds("active", true, silent), finds("passive", false, silent)), (1, 1));
            assert_eq!(finds("passive", true, silent), 0, "it does not ask");
        }
        assert_eq!(finds("active", true, Some(50)), 0);
    }

    #[test]
    fn a_node_that_waits_for_its_peer_says_so() {
        let mut pair = pair(true);
        pair.paired = false;
        assert!(findings_of_pair(&pair)[0].fix.contains("pair invite"));
    }

    #[test]
    fn what_is_counted_is_singular_for_one() {
        use evenkeel_control::text::{counted, place};
        assert_eq!(place("a.conf", 0), "a.conf");
        assert_eq!(place("a.conf", 7), "a.conf:7");
        assert_eq!(counted(1, "entry", "entries"), "1 entry");
        assert_eq!(counted(0, "entry", "entries"), "0 entries");
    }
}
