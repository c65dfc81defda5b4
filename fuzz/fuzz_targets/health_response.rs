//! Whatever a probed server says, the scan ends with bounded memory.
#![no_main]

use evenkeel_health::ResponseScan;
use evenkeel_model::{HttpProbe, StatusSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let probe = HttpProbe {
        method: "GET".into(),
        path: "/".into(),
        status: StatusSet(vec![(200, 399)]),
        expect: Some("ok".into()),
        expect_regex: Some("o.k".into()),
        expect_headers_regex: vec![("X-A".into(), "b".into())],
        refuse: Some("no".into()),
        refuse_regex: Some("n.o".into()),
        ..HttpProbe::default()
    };
    let mut scan = ResponseScan::default();
    for part in bytes.chunks(7) {
        scan.feed(part);
        let _ = scan.judge(&probe, false);
    }
    assert!(scan.judge(&probe, true).is_some());
});
