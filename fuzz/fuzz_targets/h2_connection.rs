//! Any bytes as frames, towards either end of a connection of HTTP/2.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| evenkeel_l7::h2::exercise(bytes));
