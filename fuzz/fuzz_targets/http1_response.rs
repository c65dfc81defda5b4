//! Any bytes as a response head: what is accepted is forwarded with the same framing.
#![no_main]

use evenkeel_http::h1::request::Method;
use evenkeel_http::h1::response::{Edits, Response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > 16 * 1024 {
        return;
    }
    for method in [Method::Get, Method::Head] {
        let mut response = Response::default();
        if response.parse(bytes, method) != Ok(true) {
            continue;
        }
        let mut forwarded = Vec::new();
        response.write(bytes, &Edits::default(), &mut forwarded);
        let mut again = Response::default();
        assert_eq!(again.parse(&forwarded, method), Ok(true), "{:?}", String::from_utf8_lossy(&forwarded));
        assert_eq!(again.head_len, forwarded.len());
        assert_eq!((again.framing, again.status), (response.framing, response.status));
    }
});
