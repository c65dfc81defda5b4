//! Taking one cookie out of any value leaves the others.
#![no_main]

use evenkeel_l7::h1::field::{find_cookie, without_pair};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    if let Some((_, pair)) = find_cookie(value, b"S") {
        let (before, after) = without_pair(value, &pair);
        assert!(before.len() + after.len() < value.len());
        assert!(find_cookie(before, b"S").is_none(), "the first of its name was taken");
    }
});
