//! Answers of name servers, the system's files and lists of servers: whatever they hold, reading them ends.
#![no_main]

use evenkeel_discover::{file_sd, file_sd_yaml, hosts};
use evenkeel_dns::{Kind, Reply, reply, zone_begins};
use evenkeel_model::HostName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(name) = HostName::new("a.test") {
        for kind in [Kind::A, Kind::Aaaa, Kind::Srv] {
            match reply(bytes, 7, &name, kind) {
                Ok(Reply::Addresses { addresses, .. }) => assert!(!addresses.is_empty()),
                Ok(Reply::Services { services, .. }) => assert!(services.iter().all(|s| s.port > 0)),
                _ => {}
            }
        }
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(hosts::hosts(&text).values().all(|addresses| !addresses.is_empty()));
    assert!(!hosts::resolv_conf(&text).servers.is_empty());
    zone_begins(bytes);
    let _ = file_sd_yaml(bytes, 10);
    assert!(file_sd(bytes, 10).is_ok_and(|list| list.len() <= 10) || file_sd(bytes, 10).is_err());
});
