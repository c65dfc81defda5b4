//! The bound on memory: requests that are held stay within `buffer-memory`, and it goes back.

use std::time::Duration;

use evenkeel_testbed::{Scripted, eventually};

use crate::cost::{Attack, Target, memory_kb};
use crate::http2::{HEADERS, block, frame, preface};

const LIMIT_MB: u64 = 32;

/// A hundred requests whose heads are 12 KB each, by a few bytes that name the table.
fn held() -> Vec<u8> {
    let mut all = preface(&[]);
    for number in 0..100 {
        let mut block = block();
        match number {
            0 => {
                // 3,900 bytes: 127, and 3,773 in two more.
                block.extend_from_slice(b"\x40\x03x-a\x7f\xbd\x1d");
                block.resize(block.len() + 3900, b'y');
            }
            _ => block.extend_from_slice(&[0xbe; 3]),
        }
        all.extend_from_slice(&frame(HEADERS, 5, 2 * number + 1, &block));
    }
    all
}

#[test]
fn held_requests_stay_within_the_limit_and_memory_goes_back() {
    let more = format!("[limits]\nbuffer-memory = \"{LIMIT_MB}MiB\"\nworkers = 1\n");
    let target = Target::start("hostile-memory", &more, "");
    // The server is one that takes requests and says nothing.
    let silent = Scripted::start(target.place.at(9002), |stream| {
        let mut stream = stream;
        while std::io::Read::read(&mut stream, &mut [0; 65_536]).is_ok_and(|count| count > 0) {}
    });
    let config = format!(
        "{more}[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\n\
         [[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n\
         [[virtual-service]]\nname = \"held\"\nvip = [\"{}\"]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\n\
         [[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
        target.vip(),
        target.place.at(9001),
        target.place.at(8081),
        target.place.at(9002)
    );
    target.evenkeel.commit(&target.place, &config);
    let before_kb = memory_kb(&target);
    // A fifth over the limit, and what a debug build needs for itself.
    target.endures("held requests with heads from the table", LIMIT_MB * 6 / 5 + 16, |target| {
        let mut attack = Attack::default();
        let bytes = held();
        for _ in 0..80 {
            let stream = std::net::TcpStream::connect(target.place.at(8081)).expect("the kernel accepts");
            attack.send(&stream, &bytes);
            attack.held.push(stream);
        }
        attack
    });
    eventually("memory goes back", Duration::from_secs(120), || {
        memory_kb(&target) < before_kb + (LIMIT_MB << 10) / 3
    });
    drop(silent);
}
