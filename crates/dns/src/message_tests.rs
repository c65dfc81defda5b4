//! Answers as they should be, and as nobody should believe them.

use super::*;

fn host(text: &str) -> HostName {
    HostName::new(text).unwrap()
}

fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|l| !l.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
    out
}

/// An answer with these flags to `web.internal`.
fn answer(kind: Kind, flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0, 7];
    out.extend(flags.to_be_bytes());
    out.extend([0, 1]);
    out.extend((records.len() as u16).to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(wire("web.internal"));
    out.extend(kind.number().to_be_bytes());
    out.extend([0, 1]);
    records.iter().for_each(|r| out.extend(r));
    out
}

/// Points at the name of the question.
const OWNER: &[u8] = &[0xc0, 12];

fn check(kind: Kind, flags: u16, records: &[Vec<u8>], expect: Result<Reply, Bad>) {
    assert_eq!(reply(&answer(kind, flags, records), 7, &host("web.internal"), kind), expect);
}

#[test]
fn a_question_is_what_is_asked() {
    let asked = question(0x1234, &host("a.bc"), Kind::Aaaa, 1232);
    let mut expect = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, b'a', 2, b'b', b'c', 0, 0, 28, 0, 1];
    expect.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    assert_eq!(asked, expect);
}

#[test]
fn answers() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let two = [record(OWNER, 1, 60, &[10, 0, 0, 2]), record(OWNER, 1, 30, &[10, 0, 0, 1])];
    let addresses = vec![ip("10.0.0.2"), ip("10.0.0.1")];
    check(Kind::A, 0x8180, &two, Ok(Reply::Addresses { addresses, ttl: 30 }));
    let v6 = [record(
        OWNER,
        28,
        9,
        &ip("2001:db8::1").to_canonical().to_string().parse::<Ipv6Addr>().unwrap().octets(),
    )];
    check(Kind::Aaaa, 0x8180, &v6, Ok(Reply::Addresses { addresses: vec![ip("2001:db8::1")], ttl: 9 }));
    check(Kind::A, 0x8180, &[], Ok(Reply::Nothing));
    check(Kind::A, 0x8183, &[], Ok(Reply::NoName));
    check(Kind::A, 0x8185, &[], Ok(Reply::Refused));
    check(Kind::A, 0x8182, &[], Ok(Reply::Failed));
    check(Kind::A, 0x8380, &two, Ok(Reply::Truncated));
    let alias =
        [record(OWNER, 5, 20, &wire("real.internal")), record(&wire("Real.Internal"), 1, 60, &[10, 0, 0, 9])];
    check(Kind::A, 0x8180, &alias, Ok(Reply::Addresses { addresses: vec![ip("10.0.0.9")], ttl: 20 }));
    check(Kind::A, 0x8180, &alias[..1], Ok(Reply::Alias { name: host("real.internal"), ttl: 20 }));
    let mut data = vec![0, 1, 0, 50, 31, 144];
    data.extend(wire("b.internal"));
    let service = Service { priority: 1, weight: 50, port: 8080, target: host("b.internal") };
    let srv = [record(OWNER, 33, 5, &data)];
    check(Kind::Srv, 0x8180, &srv, Ok(Reply::Services { services: vec![service], ttl: 5 }));
    // The service is decidedly not there.
    check(Kind::Srv, 0x8180, &[record(OWNER, 33, 5, &[0, 0, 0, 0, 0, 0, 0])], Ok(Reply::Nothing));
}

#[test]
fn lies_are_not_believed() {
    let good = answer(Kind::A, 0x8180, &[record(OWNER, 1, 60, &[10, 0, 0, 2])]);
    let ask = |bytes: &[u8], id, name: &str, kind| reply(bytes, id, &host(name), kind);
    assert!(ask(&good, 7, "web.internal", Kind::A).is_ok());
    assert_eq!(ask(&good, 8, "web.internal", Kind::A), Err(Bad::Other));
    assert_eq!(ask(&good, 7, "web.internal", Kind::Aaaa), Err(Bad::Other));
    assert_eq!(ask(&good, 7, "web2.internal", Kind::A), Err(Bad::Other));
    for cut in 0..good.len() {
        assert!(ask(&good[..cut], 7, "web.internal", Kind::A).is_err(), "{cut}");
    }
    // A question is no answer, nor is a message of another operation.
    check(Kind::A, 0x0180, &[], Err(Bad::Other));
    check(Kind::A, 0x8980, &[], Err(Bad::Other));
    // Addresses of others, and such that no server has.
    check(Kind::A, 0x8180, &[record(&wire("evil.internal"), 1, 60, &[10, 0, 0, 2])], Ok(Reply::Nothing));
    for none in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]] {
        check(Kind::A, 0x8180, &[record(OWNER, 1, 60, &none)], Ok(Reply::Nothing));
    }
    check(Kind::A, 0x8180, &[record(OWNER, 1, 60, &[10, 0, 0])], Err(Bad::Record));
    // Pointers to themselves, forwards, and in a circle.
    check(Kind::A, 0x8180, &[record(&[0xc0, 30], 1, 60, &[10, 0, 0, 2])], Err(Bad::Name));
    check(Kind::A, 0x8180, &[record(&[0xc0, 200], 1, 60, &[10, 0, 0, 2])], Err(Bad::Name));
    check(Kind::A, 0x8180, &[record(&[1, b'a', 0xc0, 30], 1, 60, &[10, 0, 0, 2])], Err(Bad::Name));
    // Aliases in a circle.
    let circle = [record(OWNER, 5, 20, &wire("b.internal")), record(&wire("b.internal"), 5, 20, OWNER)];
    check(Kind::A, 0x8180, &circle, Ok(Reply::Failed));
    // A dot inside of a label is not the dot between two.
    let dotted = [12, b'w', b'e', b'b', b'.', b'i', b'n', b't', b'e', b'r', b'n', b'a', b'l', 0];
    check(Kind::A, 0x8180, &[record(&dotted, 1, 60, &[10, 0, 0, 2])], Ok(Reply::Nothing));
    // An alias to no host name is none.
    check(Kind::A, 0x8180, &[record(OWNER, 5, 20, &[3, b'a', b'/', b'b', 0])], Ok(Reply::Nothing));
}

#[test]
fn any_bytes_end() {
    let good = answer(Kind::Srv, 0x8180, &[record(OWNER, 33, 5, &[0, 1, 0, 50, 31, 144, 0xc0, 12])]);
    let mut state = 1u64;
    for _ in 0..200_000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        let _ = reply(&bytes, 7, &host("web.internal"), Kind::Srv);
    }
}
