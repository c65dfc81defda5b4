//! Packets for an address that is not this machine's, taken as if it were: an nftables redirect.

use std::fmt::Write;
use std::net::IpAddr;

use crate::command::run;

pub fn set_redirect(table: &str, addresses: &[IpAddr]) -> Result<(), String> {
    let mut rules = format!(
        "table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n chain prerouting {{\n  type nat hook prerouting priority dstnat; policy accept;\n"
    );
    for address in addresses {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        let _ = writeln!(rules, "  {family} daddr {address} redirect");
    }
    rules.push_str(" }\n}\n");
    run("nft", &["-f", "-"], &rules).map(drop)
}

pub fn has_redirect(table: &str, address: IpAddr) -> bool {
    let listed = run("nft", &["list", "table", "inet", table], "");
    listed.is_ok_and(|text| text.contains(&format!("daddr {address} redirect")))
}

pub fn remove_redirect(table: &str) {
    let _ = run("nft", &["delete", "table", "inet", table], "");
}
