//! TLS: handshakes that never end, hellos that are none.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use evenkeel_testbed::{Authority, Evenkeel, Place, Scripted, eventually, read_head};
use evenkeel_trust::Anyone;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::cost::{Attack, Target};
use crate::http2::{HEADERS, block, frame, preface};

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

type Kept = StreamOwned<ClientConnection, TcpStream>;

/// A connection that stays, with a client's certificate or without.
fn kept(place: &Place, certificate: Option<&Path>, protocol: &[u8]) -> Kept {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match certificate.map(|file| std::fs::read(file).unwrap()) {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&pem).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("test").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(place.at(8443)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut tls = StreamOwned::new(client, stream);
    if protocol == b"h2" {
        tls.write_all(&preface(&[])).unwrap();
    }
    tls
}

/// Sends a request and waits until something comes back.
fn ask(tls: &mut Kept, stream: u32) {
    let request = match tls.conn.alpn_protocol() {
        Some(b"h2") => frame(HEADERS, 5, stream, &block()),
        _ => b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
    };
    let _ = tls.write_all(&request);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let (mut got, mut some) = (Vec::new(), [0; 4096]);
    let answered = |got: &[u8]| {
        got.starts_with(b"HTTP/1.1 ")
            || got.windows(6).any(|w| w[0] == HEADERS && w[2..] == stream.to_be_bytes())
    };
    while !answered(&got) && std::time::Instant::now() < end {
        match tls.read(&mut some) {
            Ok(count @ 1..) => got.extend_from_slice(&some[..count]),
            _ => return,
        }
    }
}

/// Connections outlive the rules that let them in: a certificate is revoked, or asked for only now. What comes
/// on them afterwards reaches no server, by whichever protocol.
#[test]
fn connections_that_are_kept_follow_new_rules_for_clients() {
    let place = Place::new("hostile-kept");
    let (ca, people) = (Authority::new(&place, "ca"), Authority::new(&place, "people"));
    let certificate = ca.server(&place, "server.pem", &["test"]);
    let alice = people.client(&place, "alice.pem", "Alice", 7);
    let bob = people.client(&place, "bob.pem", "Bob", 8);
    let list = people.revocations(&place, "crl.pem", &[66]);
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let _server = Scripted::start(place.at(9001), move |mut stream| {
        while read_head(&mut stream).is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").is_err() {
                return;
            }
        }
    });
    let config = |auth: &str| {
        format!(
            "[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\n\
             tls = {{ certificates = [\"{}\"]{auth} }}\n[[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
            place.at(8443),
            certificate.display(),
            place.at(9001)
        )
    };
    let auth =
        format!(", client-auth = {{ ca = \"{}\", crl = \"{}\" }}", people.file.display(), list.display());
    let evenkeel = Evenkeel::start(env!("CARGO_BIN_EXE_evenkeel"), &place, &config(""));
    let served = |tls: &mut Kept, stream: u32| {
        let before = requests.load(Ordering::SeqCst);
        ask(tls, stream);
        requests.load(Ordering::SeqCst) > before
    };
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let name = String::from_utf8_lossy(protocol).into_owned();
        evenkeel.commit(&place, &config(""));
        people.revocations(&place, "crl.pem", &[66]);
        let mut nobody = kept(&place, None, protocol);
        assert!(served(&mut nobody, 1), "{name}");
        evenkeel.commit(&place, &config(&auth));
        assert!(!served(&mut nobody, 3), "{name}: it was let in before certificates were asked for");
        let (mut a, mut b) = (kept(&place, Some(&alice), protocol), kept(&place, Some(&bob), protocol));
        assert!(served(&mut a, 1) && served(&mut b, 1), "{name}");
        people.revocations(&place, "crl.pem", &[7]);
        let mut stream = 1;
        eventually(&format!("{name}: Alice is revoked"), Duration::from_secs(30), || {
            stream += 2;
            !served(&mut a, stream)
        });
        assert!(served(&mut b, 3), "{name}: Bob is not");
    }
}
