//! Full transparency: packets that real servers send to clients come back to this machine, and
//! must reach the proxy's sockets although the address is not this machine's.
//!
//! Packets of transparent sockets get a mark (nftables), the mark a routing table of its own, and
//! that table says that everything is local. Set up through `nft` and `ip`, verified by reading
//! back, removed at the end.

use crate::command::run;

/// A mark, a table and a preference that nobody else is likely to use.
const MARK: &str = "0x454b4c";
const TABLE: &str = "17739";

const RULES: &str = "table inet evenkeel_transparency\ndelete table inet evenkeel_transparency\ntable inet evenkeel_transparency {\n chain prerouting {\n  type filter hook prerouting priority mangle; policy accept;\n  meta l4proto tcp socket transparent 1 meta mark set 0x454b4c accept\n }\n}\n";

/// Sets everything up, whatever was there before.
pub fn set_up_transparency() -> Result<(), String> {
    run("nft", &["-f", "-"], RULES)?;
    for family in ["-4", "-6"] {
        // A kernel without IPv6 has nothing to set up there.
        let ignore = |result: Result<String, String>| if family == "-6" { Ok(String::new()) } else { result };
        while run("ip", &[family, "rule", "del", "fwmark", MARK, "lookup", TABLE], "").is_ok() {}
        ignore(run("ip", &[family, "rule", "add", "fwmark", MARK, "lookup", TABLE, "pref", TABLE], ""))?;
        ignore(run(
            "ip",
            &[family, "route", "replace", "local", "default", "dev", "lo", "table", TABLE],
            "",
        ))?;
    }
    match transparency_is_set_up() {
        true => Ok(()),
        false => Err("the rules were set and are not there".into()),
    }
}

/// Whether rules and routes are there, read back from the kernel.
pub fn transparency_is_set_up() -> bool {
    let has = |result: Result<String, String>, word: &str| result.is_ok_and(|text| text.contains(word));
    has(run("nft", &["list", "table", "inet", "evenkeel_transparency"], ""), "socket transparent 1")
        && has(run("ip", &["-4", "rule", "show"], ""), &format!("lookup {TABLE}"))
        && has(run("ip", &["-4", "route", "show", "table", TABLE], ""), "local default")
}

pub fn remove_transparency() {
    let _ = run("nft", &["delete", "table", "inet", "evenkeel_transparency"], "");
    for family in ["-4", "-6"] {
        while run("ip", &[family, "rule", "del", "fwmark", MARK, "lookup", TABLE], "").is_ok() {}
        let _ = run("ip", &[family, "route", "flush", "table", TABLE], "");
    }
}
