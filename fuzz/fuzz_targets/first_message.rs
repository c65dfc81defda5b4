//! Any bytes as the first message of an RDP or TLS client.
#![no_main]

use evenkeel_http::{client_hello, rdp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = rdp::parse(bytes)
        && let Some(user) = request.user
    {
        assert!(rdp::user_key(user).starts_with(b"user:"));
    }
    if let Ok(found) = client_hello::parse(bytes) {
        assert!(found.session_id.len() <= 32);
        assert!(found.server_name.is_none_or(|name| !name.is_empty() && name.is_ascii()));
    }
});
