//! Packets for an address that is not this machine's, taken as if it were: an nftables redirect.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use crate::command::run;

/// Redirects these addresses, beside those that the table has.
pub fn add_redirects(table: &str, addresses: &[IpAddr]) -> Result<(), String> {
    let mut all: BTreeSet<IpAddr> = redirects(table).into_iter().collect();
    all.extend(addresses);
    write(table, &all)
}

/// Redirects these no longer; without any left the table goes.
pub fn remove_redirects(table: &str, addresses: &[IpAddr]) -> Result<(), String> {
    let mut all: BTreeSet<IpAddr> = redirects(table).into_iter().collect();
    let before = all.len();
    all.retain(|address| !addresses.contains(address));
    match (before == all.len(), all.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => run("nft", &["delete", "table", "inet", table], "").map(drop),
        (false, false) => write(table, &all),
    }
}

/// The addresses that are redirected.
pub fn redirects(table: &str) -> Vec<IpAddr> {
    let listed = run("nft", &["list", "table", "inet", table], "").unwrap_or_default();
    let redirected = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "daddr").skip(1);
        let address = words.next()?.parse().ok()?;
        (words.next() == Some("redirect")).then_some(address)
    });
    redirected.collect()
}

fn write(table: &str, addresses: &BTreeSet<IpAddr>) -> Result<(), String> {
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
