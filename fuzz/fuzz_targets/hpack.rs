//! Any bytes as header blocks, one after the other; what is decoded can be encoded again.
#![no_main]

use evenkeel_http::h2::hpack::{Decoder, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::default();
    for block in bytes.split(|b| *b == 0xff) {
        let mut fields = Vec::new();
        if decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec()))).is_err() {
            return;
        }
        let mut again = Vec::new();
        fields.iter().for_each(|(name, value)| encode(name, value, &mut again));
        let mut seen = Vec::new();
        let decoded = Decoder::default().decode(&again, |name, value| seen.push((name.to_vec(), value.to_vec())));
        assert!(decoded.is_ok());
        assert_eq!(seen, fields);
    }
});
