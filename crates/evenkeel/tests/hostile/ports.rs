//! Another program of the same user that opens the ports of this one later, and means to share them.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_testbed::eventually;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::cost::Target;

const ADMIN: &str =
    "[admin]\nsocket = \"FOLDER/admin.sock\"\nlisten = [\"ADMIN\"]\nplain-listen = [\"PLAIN\"]\n";

/// Listens where somebody listens already.
fn shares(address: SocketAddr) -> rustix::fd::OwnedFd {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("an option");
    sockopt::set_socket_reuseport(&socket, true).expect("an option");
    rustix::net::bind(&socket, &address).expect("the same user may");
    rustix::net::listen(&socket, 8).expect("the same user may");
    socket
}

#[test]
fn who_shares_a_port_is_told_of() {
    let place = evenkeel_testbed::Place::new("hostile-ports-plain");
    let plain = place.at(9100);
    let target = Target::start("hostile-ports", &ADMIN.replace("PLAIN", &plain.to_string()), "");
    std::thread::sleep(Duration::from_secs(12));
    assert!(!target.evenkeel.log().contains("beside this one"), "{}", target.evenkeel.log());
    let addresses = [target.vip(), target.place.at(9443), plain];
    let shared: Vec<_> = addresses.iter().map(|address| shares(*address)).collect();
    let own = format!("(process {}) listens on TCP", std::process::id());
    for address in addresses {
        eventually(&format!("{address} is told of"), Duration::from_secs(40), || {
            let log = target.evenkeel.log();
            log.lines().any(|line| line.contains(&own) && line.contains(&address.to_string()))
        });
    }
    drop(shared);
    eventually("the end of it is told of", Duration::from_secs(40), || {
        target.evenkeel.ok(&["events"]).contains("no other program listens")
    });
    assert!(target.is_served());
}
