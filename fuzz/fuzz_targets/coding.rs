//! Any bytes as a response head that is to be compressed: what it becomes is a head in chunks. And as what a client
//! takes.
#![no_main]

use evenkeel_http::coding::{Offer, choose, is_broken_browser, rewrite};
use evenkeel_http::h1::Framing;
use evenkeel_http::h1::request::Method;
use evenkeel_http::h1::response::{Edits, Response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let names = ["gzip", "deflate"];
    assert!(choose(std::iter::once(bytes), &names).is_none_or(|at| at < names.len()));
    is_broken_browser(bytes);
    let mut response = Response::default();
    if response.parse(bytes, Method::Get) != Ok(true) {
        return;
    }
    let (mut head, mut made) = (Vec::new(), Vec::new());
    response.write(bytes, &Edits::default(), &mut head);
    let types = ["text/*".to_owned(), "*".to_owned()];
    for coding in [Some("gzip"), None] {
        let offer = Offer { coding, types: &types, min_size: 1 };
        if !rewrite(&head, &offer, &mut made) {
            continue;
        }
        let mut again = Response::default();
        assert_eq!(again.parse(&made, Method::Get), Ok(true), "{:?}", String::from_utf8_lossy(&made));
        assert_eq!((again.head_len, again.framing), (made.len(), Framing::Chunked));
    }
});
