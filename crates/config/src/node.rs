//! Reads `[node]`. What it holds is written into files of the system, so that every text has a grammar: none
//! can end a line or begin another setting.

use std::net::IpAddr;
use std::ops::Range;

use evenkeel_model::{BondMode, Dhcp, Interface, InterfaceKind, NodeRoute, NodeSettings};

use crate::problem::Problem;
use crate::section::{Section, network};

/// Kinds of keys that OpenSSH takes.
const KEY_KINDS: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

pub fn node(root: Section<'_>, problems: &mut Vec<Problem>) -> Option<NodeSettings> {
    let table = root.section("node")?;
    let mut reader = Reader { problems };
    let settings = NodeSettings {
        host_name: reader.text(table, "host-name", is_host_name, "`lb1` or `lb1.example.net`"),
        time_zone: reader.text(table, "time-zone", is_time_zone, "`UTC` or `Europe/Berlin`"),
        dns: table.value("dns").map(|_| addresses(table, "dns")),
        search: reader.texts(table, "search", is_host_name, "`example.net`"),
        ntp: reader.texts(table, "ntp", is_host, "a name or an address"),
        ssh_keys: reader.texts(
            table,
            "ssh-keys",
            is_public_key,
            "a public key as one line, without options: `ssh-ed25519 AAAA… name`",
        ),
        proxy: reader.text(table, "proxy", is_proxy, "`http://HOST:PORT`"),
        interfaces: table
            .sections("interface")
            .filter_map(|(interface, span)| reader.interface(interface, span))
            .collect(),
    };
    reader.between_interfaces(table, &settings.interfaces);
    Some(settings)
}

struct Reader<'p> {
    problems: &'p mut Vec<Problem>,
}

impl Reader<'_> {
    fn refuse(&mut self, span: Option<Range<usize>>, what: impl Into<String>, help: &str) {
        self.problems.push(Problem::new(span.unwrap_or(0..0), what).help(help));
    }

    fn text(&mut self, table: Section<'_>, key: &str, is: fn(&str) -> bool, like: &str) -> Option<String> {
        let text = table.text(key)?;
        if !is(text) {
            self.refuse(table.span(key), format!("`{key}` cannot be {text:?}"), &format!("write {like}"));
        }
        Some(text.to_owned())
    }

    fn texts(
        &mut self,
        table: Section<'_>,
        key: &str,
        is: fn(&str) -> bool,
        like: &str,
    ) -> Option<Vec<String>> {
        table.value(key)?;
        for item in table.list(key) {
            if item.get_ref().as_str().is_some_and(|text| !is(text)) {
                self.refuse(Some(item.span()), format!("`{key}` cannot hold this"), &format!("write {like}"));
            }
        }
        Some(table.texts(key))
    }

    fn interface(&mut self, table: Section<'_>, span: Range<usize>) -> Option<Interface> {
        let name = table.text("name")?.to_owned();
        if !is_interface(&name) || name == "lo" {
            let what = format!("{name:?} is no name of an interface that can be set");
            self.refuse(table.span("name"), what, "letters, digits, `.`, `_` and `-`, at most 15");
        }
        let kind = self.kind(table, span);
        let gateways = addresses(table, "gateways");
        let own = table.list("addresses").filter_map(|v| network(v.get_ref().as_str()?)).collect::<Vec<_>>();
        for is_ipv6 in [false, true] {
            if gateways.iter().filter(|g| g.is_ipv6() == is_ipv6).count() > 1 {
                let what = "two default gateways of one family";
                self.refuse(table.span("gateways"), what, "keep one; further networks are `route` tables");
            }
        }
        let dhcp = table.text("dhcp").and_then(Dhcp::parse).unwrap_or_default();
        let is_asked = |ipv6: bool| dhcp == Dhcp::Both || dhcp == if ipv6 { Dhcp::Ipv6 } else { Dhcp::Ipv4 };
        for gateway in &gateways {
            let reached = own.iter().any(|(address, prefix)| is_in(*gateway, *address, *prefix));
            let is_local = matches!(gateway, IpAddr::V6(a) if a.is_unicast_link_local());
            if !reached && !is_local && !is_asked(gateway.is_ipv6()) {
                let what = format!("the gateway {gateway} is in no network of {name}");
                self.refuse(table.span("gateways"), what, "the gateway is in the network of an address");
            }
        }
        let mtu = table.integer("mtu").and_then(|mtu| u16::try_from(mtu).ok());
        let has_ipv6 = is_asked(true) || own.iter().any(|(address, _)| address.is_ipv6());
        if mtu.is_some_and(|mtu| mtu < 1280) && has_ipv6 {
            self.refuse(table.span("mtu"), "IPv6 needs an MTU of 1280 or more", "mtu = 1280");
        }
        let routes = table.sections("route").filter_map(|(route, span)| self.route(route, span)).collect();
        let advertisements =
            table.value("router-advertisements").map(|_| table.flag("router-advertisements"));
        Some(Interface { name, kind, dhcp, advertisements, addresses: own, gateways, routes, mtu })
    }

    fn kind(&mut self, table: Section<'_>, span: Range<usize>) -> InterfaceKind {
        let id = table.integer("vlan").and_then(|id| u16::try_from(id).ok());
        let bond = table.value("bond").map(|_| table.texts("bond"));
        match (id, table.text("on"), bond) {
            (Some(id), Some(on), None) => {
                if !is_interface(on) {
                    self.refuse(table.span("on"), format!("{on:?} is no interface"), "`on = \"ens18\"`");
                }
                InterfaceKind::Vlan { on: on.to_owned(), id }
            }
            (None, None, Some(members)) => {
                if members.is_empty() || !members.iter().all(|m| is_interface(m)) {
                    let help = "`bond = [\"ens18\", \"ens19\"]`";
                    self.refuse(table.span("bond"), "a bond is made of interfaces", help);
                }
                let mode = table.text("bond-mode").and_then(BondMode::parse).unwrap_or_default();
                InterfaceKind::Bond { members, mode }
            }
            (None, None, None) => {
                if table.value("bond-mode").is_some() {
                    let what = "`bond-mode` needs `bond`";
                    self.refuse(table.span("bond-mode"), what, "name the interfaces of the bond");
                }
                InterfaceKind::Present
            }
            _ => {
                let what =
                    "a VLAN has `vlan` and `on`, a bond has `bond`; an interface is one of both at most";
                self.refuse(Some(span), what, "`vlan = 10` with `on = \"ens18\"`, or `bond = [...]`");
                InterfaceKind::Present
            }
        }
    }

    fn route(&mut self, table: Section<'_>, span: Range<usize>) -> Option<NodeRoute> {
        let to = network(table.text("to")?)?;
        let via = table.text("via").and_then(|text| text.parse::<IpAddr>().ok());
        if via.is_some_and(|via| via.is_ipv6() != to.0.is_ipv6()) {
            self.refuse(table.span("via").or(Some(span)), "`to` and `via` are of two families", "use one");
        }
        let metric = table.integer("metric").and_then(|metric| u32::try_from(metric).ok());
        Some(NodeRoute { to, via, metric })
    }

    /// What no interface can show alone.
    fn between_interfaces(&mut self, table: Section<'_>, interfaces: &[Interface]) {
        let spans: Vec<_> = table.sections("interface").map(|(_, span)| span).collect();
        let mut addresses = std::collections::HashMap::new();
        let mut members = std::collections::HashMap::new();
        for (at, interface) in interfaces.iter().enumerate() {
            let span = spans.get(at).cloned();
            if interfaces[..at].iter().any(|other| other.name == interface.name) {
                let what = format!("a second interface is named {}", interface.name);
                self.refuse(span.clone(), what, "write one table for each interface");
            }
            for (address, _) in &interface.addresses {
                if let Some(other) = addresses.insert(*address, &interface.name) {
                    let what = format!("{address} is on {other} already");
                    self.refuse(span.clone(), what, "an address is on one interface");
                }
            }
            let InterfaceKind::Bond { members: own, .. } = &interface.kind else { continue };
            for member in own {
                let is_addressed = interfaces
                    .iter()
                    .any(|i| i.name == *member && (i.dhcp != Dhcp::No || !i.addresses.is_empty()));
                if member == &interface.name || is_addressed {
                    let what = format!("{member} is part of {} and cannot have addresses", interface.name);
                    self.refuse(span.clone(), what, "give the addresses to the bond");
                }
                if let Some(other) = members.insert(member, &interface.name) {
                    let what = format!("{member} is part of {other} already");
                    self.refuse(span.clone(), what, "an interface is part of one bond");
                }
            }
        }
        for (at, interface) in interfaces.iter().enumerate() {
            let InterfaceKind::Vlan { on, .. } = &interface.kind else { continue };
            let span = spans.get(at).cloned();
            match interfaces.iter().find(|i| i.name == *on) {
                // Whatever else writes it would lose the VLAN or its own settings.
                None => {
                    let what = format!("{on} carries {} and has no table itself", interface.name);
                    self.refuse(span, what, "write an [[node.interface]] for it, with what it has now");
                }
                Some(carrier) if matches!(carrier.kind, InterfaceKind::Vlan { .. }) => {
                    let what = format!("{on} is a VLAN itself");
                    self.refuse(span, what, "a VLAN is on an interface or a bond");
                }
                Some(_) => {}
            }
        }
    }
}

fn addresses(table: Section<'_>, key: &str) -> Vec<IpAddr> {
    table.list(key).filter_map(|v| v.get_ref().as_str()?.parse().ok()).collect()
}

fn is_in(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let same = |a: u128, b: u128, bits: u32| {
        let left = bits - u32::from(prefix);
        left >= bits || a >> left == b >> left
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_host(text: &str) -> bool {
    is_host_name(text) || text.parse::<IpAddr>().is_ok()
}

/// A path below the folder of time zones, and nowhere else.
fn is_time_zone(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    };
    text.split('/').all(is_part)
}

fn is_public_key(text: &str) -> bool {
    let mut words = text.split(' ');
    let kind = words.next().unwrap_or("");
    let key = words.next().unwrap_or("");
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    // The key begins with the length and the name of its kind.
    KEY_KINDS.contains(&kind) && key.starts_with("AAAA") && key.len() >= 60 && key.bytes().all(is_base64)
}

fn is_proxy(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-:@%[]/".contains(&b);
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use crate::read;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        match (read(text), expected) {
            (Ok(_), None) => {}
            (Err(problems), Some(expected)) => {
                let said: Vec<String> = problems.into_iter().map(|p| p.message).collect();
                assert!(said.iter().any(|s| s.contains(expected)), "{text}: {said:?}");
            }
            (read, expected) => panic!("{text}: {read:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn every_text_has_a_grammar() {
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{}", "A".repeat(48));
        for (text, expected) in [
            ("host-name = \"lb1.example.net\"".to_owned(), None),
            ("host-name = \"lb 1\"".into(), Some("host-name")),
            ("host-name = \"-lb\"".into(), Some("host-name")),
            ("time-zone = \"America/Argentina/Buenos_Aires\"".into(), None),
            ("time-zone = \"../../etc/shadow\"".into(), Some("time-zone")),
            ("time-zone = \"/etc/shadow\"".into(), Some("time-zone")),
            ("ntp = [\"pool.ntp.org\", \"2001:db8::1\"]".into(), None),
            ("ntp = [\"a b\"]".into(), Some("ntp")),
            ("ntp = [\"a\\n[x]\"]".into(), Some("")),
            (format!("ssh-keys = [\"{key} me@home\"]"), None),
            (format!("ssh-keys = [\"command=\\\"x\\\" {key}\"]"), Some("ssh-keys")),
            ("ssh-keys = [\"ssh-ed25519 short\"]".into(), Some("ssh-keys")),
            ("proxy = \"http://10.0.0.1:3128\"".into(), None),
            ("proxy = \"http://a\\\";Apt::x \\\"\"".into(), Some("proxy")),
        ] {
            check(&format!("[node]\n{text}\n"), expected);
        }
    }

    #[test]
    fn interfaces_that_cannot_be_are_refused() {
        let with = |keys: &str| format!("[node]\n[[node.interface]]\nname = \"e0\"\n{keys}\n");
        check(&with("addresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]"), None);
        check(&with("addresses = [\"192.0.2.10/24\"]\ngateways = [\"198.51.100.1\"]"), Some("in no network"));
        check(&with("addresses = [\"2001:db8::1/64\"]\ngateways = [\"fe80::1\"]"), None);
        check(
            &with("addresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\", \"192.0.2.2\"]"),
            Some("two default"),
        );
        check(&with("vlan = 7"), Some("a VLAN has"));
        check(&with("vlan = 7\non = \"e1\""), Some("no table itself"));
        check(&with("vlan = 7\non = \"e1\"\n[[node.interface]]\nname = \"e1\""), None);
        check(&with("vlan = 7\non = \"e1\"\nbond = [\"e2\"]"), Some("a VLAN has"));
        check(&with("bond = []"), Some("a bond is made"));
        check(&with("bond-mode = \"802.3ad\""), Some("needs `bond`"));
        check(&with("mtu = 1000\naddresses = [\"2001:db8::1/64\"]"), Some("1280"));
        check(
            &with("[[node.interface.route]]\nto = \"10.0.0.0/8\"\nvia = \"2001:db8::1\""),
            Some("two families"),
        );
        check(&with("[[node.interface]]\nname = \"e0\""), Some("a second interface"));
        let twice = "addresses = [\"192.0.2.10/24\"]\n[[node.interface]]\nname = \"e1\"\naddresses = [\"192.0.2.10/24\"]";
        check(&with(twice), Some("on e0 already"));
        let member = "addresses = [\"192.0.2.10/24\"]\n[[node.interface]]\nname = \"b0\"\nbond = [\"e0\"]";
        check(&with(member), Some("cannot have addresses"));
        check("[node]\n[[node.interface]]\nname = \"../x\"\n", Some("no name of an interface"));
        check("[node]\n[[node.interface]]\nname = \"lo\"\n", Some("no name of an interface"));
    }
}
