//! Any bytes as a request head: what is accepted is forwarded as the same request.
#![no_main]

use evenkeel_http::h1::request::{Edits, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > 16 * 1024 {
        return;
    }
    let mut request = Request::default();
    // What forwarding adds must still be within the bound of fields.
    if request.parse(bytes) != Ok(true) || request.fields.len() > 120 {
        return;
    }
    let edits = Edits { default_host: "h", hide_cookie: Some(b"S"), ..Edits::default() };
    let mut forwarded = Vec::new();
    request.write(bytes, &edits, &mut forwarded);
    let mut again = Request::default();
    assert_eq!(again.parse(&forwarded), Ok(true), "{:?}", String::from_utf8_lossy(&forwarded));
    assert_eq!(again.head_len, forwarded.len());
    assert_eq!((again.framing, again.method), (request.framing, request.method));
    assert_eq!(again.path(&forwarded), request.path(bytes));
    assert_eq!(again.upgrade, request.upgrade);
    // A second hop changes nothing more, but for HTTP/1.0's Connection.
    let mut twice = Vec::new();
    again.write(&forwarded, &edits, &mut twice);
    assert_eq!(twice, forwarded);
});
