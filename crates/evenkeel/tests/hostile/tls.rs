//! TLS: handshakes that never end, hellos that are none.

use std::net::TcpStream;

use evenkeel_testbed::Authority;

use crate::cost::{Attack, Target};

/// The beginning of a ClientHello that says it is 508 bytes long.
pub const HALF_HELLO: &[u8] = &[
    0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
    20,
];

#[test]
fn handshakes_that_do_not_end() {
    let target = Target::start("hostile-tls", "", "");
    let authority = Authority::new(&target.place, "ca");
    let certificate = authority.server(&target.place, "server.pem", &["test"]);
    let secure = target.place.at(8443);
    let config = format!(
        "[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\npool = \"p\"\n\
         [[virtual-service]]\nname = \"secure\"\nvip = [\"{secure}\"]\nmode = \"http\"\npool = \"p\"\n\
         tls = {{ certificates = [\"{}\"] }}\n\
         [[pool]]\nname = \"p\"\n[[pool.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
        target.vip(),
        certificate.display(),
        target.place.at(9001)
    );
    target.evenkeel.commit(&target.place, &config);
    let large = [&[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff, 3, 3][..], &[0x41; 16_000]].concat();
    let shapes: [(&str, &[u8]); 4] = [
        ("half a ClientHello", HALF_HELLO),
        ("a ClientHello of 16 MB", &large),
        ("no TLS at all", b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("an alert", &[0x15, 3, 3, 0, 2, 2, 40]),
    ];
    for (what, bytes) in shapes {
        target.endures(what, 48, |_| {
            let mut attack = Attack::default();
            for _ in 0..300 {
                let stream = TcpStream::connect(secure).expect("the kernel accepts");
                attack.send(&stream, bytes);
                attack.held.push(stream);
            }
            attack
        });
    }
}
