//! What keeps connections alive across a planned change of roles: the new active node sends the packets
//! of connections that it has not seen begin to the node before it, which still has the addresses, but
//! tells nobody.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;

use crate::command::run;
use crate::mac_text;

const TABLE: &str = "evenkeel_keep";
/// Connections whose beginning was seen.
const MOST: u32 = 262_144;
const SYSCTLS: [(&str, u8); 2] = [("arp_ignore", 1), ("arp_announce", 2)];

/// Packets that come in on one interface.
#[derive(Clone, Debug)]
pub struct Forward {
    pub interface: String,
    pub own_mac: [u8; 6],
    /// Of the node before, on this network.
    pub mac: [u8; 6],
    /// What its services listen on.
    pub vips: BTreeSet<SocketAddr>,
    /// Connections (client, VIP) of this node: theirs stay here.
    pub own: Vec<(SocketAddr, SocketAddr)>,
}

/// Sends on what belongs to connections that do not begin from now on, in place of what was sent on before.
pub fn forward(all: &[Forward]) -> Result<(), String> {
    run("nft", &["-f", "-"], &rules(all)).map(drop)
}

pub fn stop_forwarding() {
    // That there is none is no trouble.
    let _ = run("nft", &["delete", "table", "netdev", TABLE], "");
}

fn rules(all: &[Forward]) -> String {
    let mut text = format!("table netdev {TABLE}\ndelete table netdev {TABLE}\ntable netdev {TABLE} {{\n");
    for (number, forward) in all.iter().enumerate() {
        let of = |v6: bool| forward.vips.iter().filter(move |vip| vip.is_ipv6() == v6);
        let families: Vec<(&str, &str, bool)> = [("ip", "ipv4_addr", false), ("ip6", "ipv6_addr", true)]
            .into_iter()
            .filter(|family| of(family.2).next().is_some())
            .collect();
        for (family, kind, v6) in &families {
            let vips: Vec<String> = of(*v6).map(|vip| format!("{} . {}", vip.ip(), vip.port())).collect();
            let _ = write!(
                text,
                " set {family}vips{number} {{\n  type {kind} . inet_service\n  elements = {{ {} }}\n }}\n set {family}own{number} {{\n  type {kind} . inet_service . {kind} . inet_service\n  flags dynamic,timeout\n  timeout 1d\n  size {MOST}\n",
                vips.join(", ")
            );
            let own =
                forward.own.iter().filter(|(_, vip)| vip.is_ipv6() == *v6 && forward.vips.contains(vip));
            let own: Vec<String> = own
                .map(|(c, vip)| format!("{} . {} . {} . {}", c.ip(), c.port(), vip.ip(), vip.port()))
                .collect();
            if !own.is_empty() {
                let _ = writeln!(text, "  elements = {{ {} }}", own.join(", "));
            }
            text.push_str(" }\n");
        }
        let _ = write!(
            text,
            " chain in{number} {{\n  type filter hook ingress device \"{}\" priority -10\n  meta l4proto != tcp accept\n",
            forward.interface
        );
        for (family, ..) in families {
            let key = format!("{family} saddr . tcp sport . {family} daddr . tcp dport");
            let mine = format!("{family} daddr . tcp dport @{family}vips{number}");
            let _ = write!(
                text,
                "  {mine} tcp flags & (syn | ack) == syn add @{family}own{number} {{ {key} }} accept\n  {key} @{family}own{number} accept\n  {mine} ether daddr set {} ether saddr set {} fwd to \"{}\"\n",
                mac_text(forward.mac),
                mac_text(forward.own_mac),
                forward.interface
            );
        }
        text.push_str(" }\n");
    }
    text.push_str("}\n");
    text
}

/// An interface on which this machine tells nobody of addresses that are not on it; ends with this.
#[derive(Debug)]
pub struct Silence(Vec<(String, String)>);

impl Silence {
    pub fn on(interface: &str) -> std::io::Result<Silence> {
        let mut before = Silence(Vec::new());
        for (name, value) in SYSCTLS {
            let file = format!("/proc/sys/net/ipv4/conf/{interface}/{name}");
            let old = std::fs::read_to_string(&file)?.trim().to_owned();
            if old.parse::<u8>().is_ok_and(|old| old < value) {
                std::fs::write(&file, value.to_string())?;
                before.0.push((file, old));
            }
        }
        Ok(before)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        for (file, value) in &self.0 {
            let _ = std::fs::write(file, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_each_family_once_and_what_is_kept_here() {
        let vips = ["192.0.2.1:80", "192.0.2.1:443", "[2001:db8::1]:80"].map(|vip| vip.parse().unwrap());
        let forward = Forward {
            interface: "eth0".into(),
            own_mac: [2, 0, 0, 0, 0, 1],
            mac: [2, 0, 0, 0, 0, 2],
            vips: vips.into(),
            own: vec![
                ("192.0.2.9:5000".parse().unwrap(), "192.0.2.1:80".parse().unwrap()),
                ("192.0.2.9:5001".parse().unwrap(), "192.0.2.7:80".parse().unwrap()),
            ],
        };
        let text = rules(&[forward]);
        assert!(text.contains("elements = { 192.0.2.1 . 80, 192.0.2.1 . 443 }"), "{text}");
        assert!(text.contains("elements = { 192.0.2.9 . 5000 . 192.0.2.1 . 80 }"), "{text}");
        assert!(text.contains("ether daddr set 02:00:00:00:00:02 ether saddr set 02:00:00:00:00:01 fwd"));
        assert_eq!(text.matches("set ip6vips0").count(), 1, "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
    }
}
