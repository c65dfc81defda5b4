//! `evenkeel real-server`: makes a Linux machine a real server of mode `dr` or `tun`, looks at
//! whether it is one, and undoes it; for other systems it prints what to do.

mod steps;
mod unit;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use evenkeel_l4::Decapsulator;
use evenkeel_model::host_prefix;
use evenkeel_platform::{Interface, Network};
use serde::Serialize;

use super::live::{print_json, say};
use super::{Common, Exit, Failure, Outcome};

#[derive(Debug, Subcommand)]
pub enum RealServerVerb {
    /// Make this machine a real server for these VIPs
    #[command(after_help = "Example: evenkeel real-server setup --mode dr --vip 192.0.2.10 --persist")]
    Setup {
        #[command(flatten)]
        arguments: Arguments,
        /// Do it again at every boot (a systemd unit for each VIP)
        #[arg(long)]
        persist: bool,
    },
    /// Say whether this machine is a real server for these VIPs, and what is missing
    #[command(after_help = "Example: evenkeel real-server check --mode dr --vip 192.0.2.10")]
    Check {
        #[command(flatten)]
        arguments: Arguments,
    },
    /// Undo what `setup` did
    #[command(after_help = "Example: evenkeel real-server undo --mode dr --vip 192.0.2.10")]
    Undo {
        #[command(flatten)]
        arguments: Arguments,
    },
    /// Print the steps for an operating system, this one or another
    #[command(after_help = "Example: evenkeel real-server steps windows --mode dr --vip 192.0.2.10")]
    Steps {
        system: System,
        #[command(flatten)]
        arguments: Arguments,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[arg(long, default_value = "dr")]
    mode: ServerMode,
    /// An address that clients use; several are possible
    #[arg(long, required = true, value_name = "ADDRESS")]
    vip: Vec<IpAddr>,
    /// The interface that packets come by [default: that of the default route, else every one]
    #[arg(long)]
    interface: Vec<String>,
    /// Mode dr: accept packets for the VIP by an address on the loopback interface, or by an
    /// nftables redirect without any address
    #[arg(long, default_value = "loopback")]
    method: Method,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServerMode {
    Dr,
    Tun,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    Loopback,
    Redirect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    Linux,
    Windows,
    Solaris,
    Macos,
    Bsd,
}

/// One thing that must be so, and how to make it so by hand.
#[derive(Serialize)]
struct Finding {
    ok: bool,
    what: String,
    fix: String,
}

const TABLE: &str = "evenkeel_real_server";
/// Answers ARP for addresses of the interface asked on alone, and names no other in questions.
const ARP: [(&str, &str); 4] = [
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
    ("net/ipv4/conf/lo/arp_ignore", "1"),
    ("net/ipv4/conf/lo/arp_announce", "2"),
];

pub fn run(common: &Common, verb: RealServerVerb) -> Outcome {
    match verb {
        RealServerVerb::Setup { arguments, persist } => {
            setup(&arguments)?;
            if persist {
                unit::write(&arguments)?;
            }
            check(common, &arguments)
        }
        RealServerVerb::Check { arguments } => check(common, &arguments),
        RealServerVerb::Undo { arguments } => undo(common, &arguments),
        RealServerVerb::Steps { arguments, .. } if arguments.method == Method::Redirect => {
            let why = "steps are printed for method loopback alone: on Linux `evenkeel real-server setup --method redirect` does the other, elsewhere there is none";
            Err(Failure::new(Exit::Failed, why))
        }
        RealServerVerb::Steps { system, arguments } => {
            let text = steps::steps(system, &arguments);
            match common.json {
                true => print_json(&serde_json::json!({ "steps": text })),
                false => say(&text),
            }
        }
    }
}

fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("{why}; it needs root"))
}

impl Arguments {
    fn on_loopback(&self) -> bool {
        self.mode == ServerMode::Tun || self.method == Method::Loopback
    }

    /// The interfaces that the load balancer's packets come by.
    fn interfaces(&self, network: &mut Network) -> Result<Vec<Interface>, Failure> {
        let all = network.interfaces().map_err(failed)?;
        if let Some(unknown) = self.interface.iter().find(|n| !all.iter().any(|i| i.name == **n)) {
            let names: Vec<_> = all.iter().map(|i| i.name.as_str()).collect();
            let why = format!("there is no interface {unknown}; there are {}", names.join(", "));
            return Err(Failure::new(Exit::Failed, why));
        }
        if !self.interface.is_empty() {
            return Ok(all.into_iter().filter(|i| self.interface.contains(&i.name)).collect());
        }
        let outside: IpAddr = [192, 0, 2, 1].into();
        let default = network.way_to(outside).ok().map(|way| way.interface);
        let up = all.into_iter().filter(|i| i.up && !i.loopback);
        Ok(up.filter(|i| default.is_none_or(|d| d == i.index)).collect())
    }
}

fn setup(arguments: &Arguments) -> Outcome {
    let mut network = Network::open().map_err(failed)?;
    let interfaces = arguments.interfaces(&mut network)?;
    // Before the address is there: nobody may hear of it.
    if arguments.vip.iter().any(IpAddr::is_ipv4) {
        for (key, value) in ARP {
            std::fs::write(Path::new("/proc/sys").join(key), value)
                .map_err(|e| failed(format!("{key} cannot be set: {e}")))?;
        }
    }
    if arguments.on_loopback() {
        let loopback = loopback(&mut network)?;
        for vip in &arguments.vip {
            let add = network.add_address(loopback, *vip, host_prefix(*vip));
            add.map_err(|e| failed(format!("{vip} cannot be added to the loopback interface: {e}")))?;
        }
    } else {
        evenkeel_platform::add_redirects(TABLE, &arguments.vip).map_err(failed)?;
    }
    if arguments.mode == ServerMode::Tun {
        for interface in interfaces {
            Decapsulator::open(interface.index, &arguments.vip).map_err(failed)?;
        }
    }
    Ok(())
}

fn loopback(network: &mut Network) -> Result<u32, Failure> {
    let all = network.interfaces().map_err(failed)?;
    let found = all.iter().find(|i| i.loopback).map(|i| i.index);
    found.ok_or_else(|| Failure::new(Exit::Failed, "there is no loopback interface"))
}

fn findings(arguments: &Arguments) -> Result<Vec<Finding>, Failure> {
    let mut network = Network::open().map_err(failed)?;
    let own = network.addresses().map_err(failed)?;
    let loopback = loopback(&mut network)?;
    let redirected = evenkeel_platform::redirects(TABLE);
    let by_address = |vip: &IpAddr| is_by_address(arguments, *vip, &redirected);
    let mut all = Vec::new();
    for vip in &arguments.vip {
        let elsewhere = own.iter().find(|o| o.address == *vip && o.interface != loopback);
        if let Some(elsewhere) = elsewhere {
            let names = network.interfaces().map_err(failed)?;
            let name = names.iter().find(|i| i.index == elsewhere.interface).map(|i| i.name.clone());
            let name = name.unwrap_or_default();
            all.push(Finding {
                ok: false,
                what: format!("{vip} is on {name}, where this machine answers ARP for it"),
                fix: format!("ip addr del {vip}/{} dev {name}", elsewhere.prefix),
            });
        }
        if by_address(vip) {
            all.push(Finding {
                ok: own.iter().any(|o| o.address == *vip && o.interface == loopback),
                what: format!("{vip} is on the loopback interface"),
                fix: format!("ip addr add {vip}/{} dev lo", host_prefix(*vip)),
            });
        } else {
            all.push(Finding {
                ok: redirected.contains(vip),
                what: format!("packets for {vip} are redirected to this machine"),
                fix: format!("nft add rule inet {TABLE} prerouting ip daddr {vip} redirect"),
            });
        }
    }
    if arguments.vip.iter().any(|vip| vip.is_ipv4() && by_address(vip)) {
        for (key, wanted) in &ARP[..2] {
            let found = std::fs::read_to_string(Path::new("/proc/sys").join(key)).unwrap_or_default();
            let number = |text: &str| text.trim().parse::<u32>().unwrap_or(0);
            let name = key.replace('/', ".");
            all.push(Finding {
                ok: number(&found) >= number(wanted),
                what: format!("{name} is {} (at least {wanted} is needed: no ARP for the VIP)", found.trim()),
                fix: format!("sysctl -w {name}={wanted}"),
            });
        }
    }
    if arguments.mode == ServerMode::Tun {
        for interface in arguments.interfaces(&mut network)? {
            let opened = Decapsulator::on(interface.index).map_or_else(Vec::new, |d| d.vips());
            let by_kernel = has_tunnel(&mut network);
            all.extend(arguments.vip.iter().map(|vip| Finding {
                ok: by_kernel || opened.contains(vip),
                what: format!("tunnels are opened on {} for {vip}", interface.name),
                fix: format!("evenkeel real-server setup --mode tun --vip {vip}"),
            }));
        }
    }
    Ok(all)
}

/// Packets for the VIP are taken by its address on the loopback interface. One that `setup` redirects
/// needs none, whichever method `check` is called with.
fn is_by_address(arguments: &Arguments, vip: IpAddr, redirected: &[IpAddr]) -> bool {
    arguments.on_loopback() && (arguments.mode == ServerMode::Tun || !redirected.contains(&vip))
}

/// The kernel's own tunnel device, set up by somebody else.
fn has_tunnel(network: &mut Network) -> bool {
    network.interfaces().is_ok_and(|all| all.iter().any(|i| i.up && i.name.starts_with("tunl")))
}

fn check(common: &Common, arguments: &Arguments) -> Outcome {
    let all = findings(arguments)?;
    let wrong = all.iter().filter(|f| !f.ok).count();
    if common.json {
        print_json(&all)?;
    } else {
        for finding in &all {
            say(&format!("{} {}", if finding.ok { "ok     " } else { "MISSING" }, finding.what))?;
            if !finding.ok {
                say(&format!("        fix: {}", finding.fix))?;
            }
        }
    }
    match wrong {
        0 => Ok(()),
        n => Err(Failure::new(Exit::Failed, format!("{n} of {} points are not right", all.len()))),
    }
}

fn undo(common: &Common, arguments: &Arguments) -> Outcome {
    let mut network = Network::open().map_err(failed)?;
    let own = network.addresses().map_err(failed)?;
    let loopback = loopback(&mut network)?;
    let mut done: BTreeMap<String, &str> = BTreeMap::new();
    for vip in
        arguments.vip.iter().filter(|v| own.iter().any(|o| o.address == **v && o.interface == loopback))
    {
        network.remove_address(loopback, *vip, host_prefix(*vip)).map_err(failed)?;
        done.insert(vip.to_string(), "removed from the loopback interface");
    }
    evenkeel_platform::remove_redirects(TABLE, &arguments.vip).map_err(failed)?;
    for interface in arguments.interfaces(&mut network)? {
        if let Some(opener) = Decapsulator::on(interface.index) {
            opener.close(interface.index, &arguments.vip).map_err(failed)?;
            done.insert(interface.name, "opens no tunnels for it");
        }
    }
    for vip in &arguments.vip {
        if unit::remove(*vip)? {
            done.insert(format!("at boot, {vip}"), "not set up any more");
        }
    }
    // With no VIP of IPv4 left the settings for ARP go back to the kernel's own.
    let kept = own.iter().filter(|o| o.interface == loopback && !arguments.vip.contains(&o.address));
    let mut kept = kept.map(|o| o.address).chain(evenkeel_platform::redirects(TABLE));
    let left = kept.any(|address| address.is_ipv4() && !address.is_loopback());
    if !left && arguments.vip.iter().any(IpAddr::is_ipv4) {
        for (key, _) in ARP {
            std::fs::write(Path::new("/proc/sys").join(key), "0").map_err(failed)?;
        }
        done.insert("arp_ignore, arp_announce".into(), "back to 0");
    }
    if common.json {
        return print_json(&done);
    }
    for (what, how) in &done {
        say(&format!("{what}: {how}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirected_vip_needs_no_address() {
        let vip: IpAddr = [192, 0, 2, 9].into();
        let arguments = |mode, method| Arguments { mode, vip: vec![vip], interface: Vec::new(), method };
        let dr = arguments(ServerMode::Dr, Method::Loopback);
        assert!(is_by_address(&dr, vip, &[]));
        assert!(!is_by_address(&dr, vip, &[vip]), "set up with --method redirect, checked without");
        assert!(!is_by_address(&arguments(ServerMode::Dr, Method::Redirect), vip, &[]));
        assert!(is_by_address(&arguments(ServerMode::Tun, Method::Loopback), vip, &[vip]));
    }
}
