//! Any bytes on a connection of HTTP/2, towards either end of it. Each stream that is opened is
//! answered, and read.
#![no_main]

use evenkeel_http::h2::{Mux, Role, StreamHandle, StreamIo, frame};
use libfuzzer_sys::fuzz_target;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

fuzz_target!(|bytes: &[u8]| {
    for role in [Role::Server, Role::Client] {
        connection(role, bytes);
    }
});

fn connection(role: Role, bytes: &[u8]) {
    let mut mux = Mux::new(role, Default::default(), false, 1);
    let mut handles: Vec<StreamHandle> = Vec::new();
    let mut all = Vec::new();
    if role == Role::Server {
        all.extend_from_slice(frame::PREFACE);
    } else {
        handles.push(mux.open());
        handles[0].write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    }
    frame::write_settings(&[], &mut all);
    all.extend_from_slice(bytes);
    let (mut at, mut end) = (0, 0);
    let mut buffer = [0; 512];
    while end < all.len() {
        end = (end + 97).min(all.len());
        match mux.receive(&all[at..end], end as u64) {
            Ok(taken) => at += taken,
            Err(_) => break,
        }
        for opened in std::mem::take(&mut mux.opened) {
            let handle = opened.accept();
            handle.write(ANSWER);
            handles.push(handle);
        }
        for handle in &handles {
            while let StreamIo::Done(_) = handle.read(&mut buffer) {}
        }
        mux.produce(end as u64);
        assert!(mux.out.len() < 1 << 20, "output is bounded");
        mux.out.clear();
        if handles.len() > 8 {
            handles.clear();
        }
    }
    mux.abandon();
}
