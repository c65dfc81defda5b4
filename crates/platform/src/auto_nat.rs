//! Connections that real servers open themselves: forwarded by the kernel, with this machine's
//! address as their source. One nftables table of its own.

use std::fmt::Write;
use std::net::IpAddr;

use crate::command::run;

/// Sets the servers whose connections are translated; none removes the table.
pub fn set_auto_nat(servers: &[IpAddr]) -> Result<(), String> {
    if servers.is_empty() {
        let _ = run("nft", &["delete", "table", "inet", "evenkeel_auto_nat"], "");
        return Ok(());
    }
    let list = |v4: bool| {
        let own: Vec<String> =
            servers.iter().filter(|s| s.is_ipv4() == v4).map(ToString::to_string).collect();
        own.join(", ")
    };
    let mut rules = String::from(
        "table inet evenkeel_auto_nat\ndelete table inet evenkeel_auto_nat\ntable inet evenkeel_auto_nat {\n chain postrouting {\n  type nat hook postrouting priority srcnat; policy accept;\n",
    );
    for (family, v4) in [("ip", true), ("ip6", false)] {
        let list = list(v4);
        if !list.is_empty() {
            let _ =
                writeln!(rules, "  {family} saddr {{ {list} }} {family} daddr != {{ {list} }} masquerade");
        }
    }
    rules.push_str(" }\n}\n");
    run("nft", &["-f", "-"], &rules)?;
    for (file, v4) in
        [("/proc/sys/net/ipv4/ip_forward", true), ("/proc/sys/net/ipv6/conf/all/forwarding", false)]
    {
        if servers.iter().any(|s| s.is_ipv4() == v4) {
            std::fs::write(file, "1").map_err(|e| format!("{file}: {e}"))?;
        }
    }
    Ok(())
}
