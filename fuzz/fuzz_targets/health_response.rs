//! Whatever a probed server says, the scan ends with bounded memory.
#![no_main]

use evenkeel_health::ResponseScan;
use evenkeel_model::{HttpProbe, StatusSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let probe = HttpProbe {
        method: "GET".into(),
        path: "/".into(),
        host: None,
        status: StatusSet(vec![(200, 399)]),
        expect: Some("ok".into()),
        headers: Vec::new(),
        body: String::new().into(),
        expect_regex: Some("o.k".into()),
        expect_headers: Vec::new(),
        expect_headers_regex: vec![("server".into(), "^x".into())],
        refuse: Some("down".into()),
        refuse_regex: Some("d.wn".into()),
        refuse_headers_regex: vec![("x-state".into(), "d.wn".into())],
        then: Vec::new(),
    };
    let mut scan = ResponseScan::default();
    for part in bytes.chunks(7) {
        scan.feed(part);
        let _ = scan.judge(&probe, false);
    }
    assert!(scan.judge(&probe, true).is_some());
});
