//! Connections that real servers open themselves: forwarded by the kernel, with this machine's
//! address as their source. One nftables table of its own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use crate::command::run;

/// Sets the servers whose connections are translated, each with the address that they leave with where it is not the
/// kernel's choice; none removes the table.
pub fn set_auto_nat(servers: &[(IpAddr, Option<IpAddr>)]) -> Result<(), String> {
    if servers.is_empty() {
        let _ = run("nft", &["delete", "table", "inet", "evenkeel_auto_nat"], "");
        return Ok(());
    }
    run("nft", &["-f", "-"], &rules(servers))?;
    for (file, v4) in
        [("/proc/sys/net/ipv4/ip_forward", true), ("/proc/sys/net/ipv6/conf/all/forwarding", false)]
    {
        if servers.iter().any(|(s, _)| s.is_ipv4() == v4) {
            std::fs::write(file, "1").map_err(|e| format!("{file}: {e}"))?;
        }
    }
    Ok(())
}

/// The table. What servers say to each other stays as it is.
fn rules(servers: &[(IpAddr, Option<IpAddr>)]) -> String {
    let mut rules = String::from(
        "table inet evenkeel_auto_nat\ndelete table inet evenkeel_auto_nat\ntable inet evenkeel_auto_nat {\n chain postrouting {\n  type nat hook postrouting priority srcnat; policy accept;\n",
    );
    let list = |all: &[IpAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for (family, v4) in [("ip", true), ("ip6", false)] {
        let own = servers.iter().filter(|(s, _)| s.is_ipv4() == v4);
        let all: Vec<IpAddr> = own.clone().map(|(server, _)| *server).collect();
        let mut by_address: BTreeMap<Option<IpAddr>, Vec<IpAddr>> = BTreeMap::new();
        own.for_each(|(server, address)| by_address.entry(*address).or_default().push(*server));
        for (address, some) in by_address {
            let verdict =
                address.map_or_else(|| "masquerade".to_owned(), |a| format!("snat {family} to {a}"));
            let _ = writeln!(
                rules,
                "  {family} saddr {{ {} }} {family} daddr != {{ {} }} {verdict}",
                list(&some),
                list(&all)
            );
        }
    }
    rules.push_str(" }\n}\n");
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_leave_with_the_address_of_their_service() {
        let [a, b, c]: [IpAddr; 3] = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|text| text.parse().unwrap());
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        let made = rules(&[(a, None), (b, Some(own)), (c, None)]);
        for rule in [
            "ip saddr { 10.0.0.1 } ip daddr != { 10.0.0.1, 10.0.0.2 } masquerade\n",
            "ip saddr { 10.0.0.2 } ip daddr != { 10.0.0.1, 10.0.0.2 } snat ip to 192.0.2.1\n",
            "ip6 saddr { fd00::1 } ip6 daddr != { fd00::1 } masquerade\n",
        ] {
            assert!(made.contains(rule), "{rule}\n{made}");
        }
    }
}
