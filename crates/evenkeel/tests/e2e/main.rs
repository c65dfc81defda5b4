//! End to end: the program as its users meet it, before real and scripted servers.

mod acme;
mod addresses;
mod alerts;
mod balancing;
mod changes;
mod chaos;
mod command_line;
mod counted;
mod discovered;
mod discovery;
mod explained;
mod first_hour;
mod haproxy;
mod haproxy_added;
mod haproxy_maps;
mod haproxy_metrics;
mod haproxy_places;
mod health;
mod http;
mod http2;
mod import;
mod import_apache;
mod import_apache_routes;
mod kept;
mod layer4;
mod layer4_doctor;
mod layer4_life;
mod libraries;
mod limits;
mod logs;
mod long_heads;
mod maintenance;
mod node;
mod operating;
mod package;
mod pair;
mod pair_faults;
mod pair_keep;
mod pair_membership;
mod pair_people;
mod pair_soak;
mod persistence;
mod places;
mod recipes;
mod routes;
mod run_time;
mod secrets;
mod server_tls;
mod smuggling;
mod snmp;
mod snmp_mib;
mod tcp;
mod tls;
mod transparency;
mod upgrade;
mod upgrade_pair;
mod vips;
mod warnings;
mod web;

use std::net::SocketAddr;

use evenkeel_testbed::{Evenkeel, Place};

fn start(place: &Place, config: &str) -> Evenkeel {
    Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), place, config)
}

/// A service named `web` or whatever, with servers `s1`, `s2`… and further keys.
fn service(name: &str, mode: &str, vip: SocketAddr, servers: &[SocketAddr], keys: &str) -> String {
    let mut text =
        format!("[[virtual-service]]\nname = \"{name}\"\nvip = [\"{vip}\"]\nmode = \"{mode}\"\n{keys}\n");
    for (i, server) in servers.iter().enumerate() {
        text.push_str(&format!(
            "  [[virtual-service.real-server]]\n  name = \"s{}\"\n  address = \"{server}\"\n",
            i + 1
        ));
    }
    text
}
