//! Taking one cookie out of any value leaves the others and none of its name.
#![no_main]

use evenkeel_http::h1::field::{find_cookie, write_without};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let mut out = Vec::new();
    assert_eq!(write_without(value, b"S", false, &mut out), !out.is_empty());
    assert!(find_cookie(&out, b"S").is_none());
    assert!(out.len() <= value.len() * 2);
    assert_eq!(find_cookie(value, b"T"), find_cookie(&out, b"T"));
});
