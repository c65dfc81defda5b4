//! A chunked body in any pieces ends in the same place, or fails the same way.
#![no_main]

use evenkeel_http::h1::chunked::Chunked;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (piece, bytes) = input;
    let mut whole = Chunked::default();
    let expected = whole.feed(&bytes);
    let mut pieces = Chunked::default();
    let mut taken = 0;
    for part in bytes.chunks(usize::from(piece).max(1)) {
        match pieces.feed(part) {
            Ok(count) => taken += count,
            Err(error) => return assert_eq!(expected, Err(error)),
        }
        if pieces.is_complete() {
            break;
        }
    }
    assert_eq!(expected, Ok(taken));
    assert_eq!(whole.is_complete(), pieces.is_complete());
});
