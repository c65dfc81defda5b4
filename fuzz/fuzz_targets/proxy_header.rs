//! Any bytes as a PROXY header; what is accepted says the same when it is written again.
#![no_main]

use evenkeel_http::proxy_header::{parse, write_v1, write_v2};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = parse(bytes) else { return };
    assert!(header.len <= bytes.len());
    let Some(addresses) = header.addresses else { return };
    for version in [1, 2] {
        let mut again = Vec::new();
        match version {
            1 => write_v1(&addresses, &mut again),
            _ => write_v2(&addresses, None, b"", &mut again),
        }
        let parsed = parse(&again).unwrap();
        assert_eq!(parsed.len, again.len());
        let seen = parsed.addresses.unwrap();
        let same = |a: std::net::SocketAddr, b: std::net::SocketAddr| {
            a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
        };
        assert!(same(seen.source, addresses.source) && same(seen.destination, addresses.destination));
    }
});
