use std::sync::Arc;

use super::*;

fn oid(text: &str) -> Oid {
    Oid::new(&text.split('.').map(|arc| arc.parse().unwrap()).collect::<Vec<u32>>())
}

fn view() -> Arc<View> {
    let mut view = View::default();
    view.insert(oid("1.3.6.1.4.1.9.1.1.0"), Value::text("lb1"));
    view.insert(oid("1.3.6.1.4.1.9.2.1.5"), Value::Counter64(u64::MAX));
    view.insert(oid("1.3.6.1.4.1.9.2.1.6"), Value::Counter64(7));
    view.insert(oid("1.3.6.1.4.1.9.2.2.5"), Value::Integer(-1));
    Arc::new(view)
}

fn range(start: &str, include: bool, end: &str) -> SearchRange {
    let end = if end.is_empty() { Oid::default() } else { oid(end) };
    SearchRange { start: oid(start), include, end }
}

fn names(binds: &[VarBind]) -> Vec<String> {
    let each = binds.iter().map(|b| match b.value {
        Value::EndOfMibView => "end".into(),
        Value::NoSuchInstance => "no instance".into(),
        Value::NoSuchObject => "no object".into(),
        _ => b.name.to_string().replace("1.3.6.1.4.1.9.", ""),
    });
    each.collect()
}

#[test]
fn messages_come_back_as_they_were() {
    let binds = vec![
        VarBind { name: oid("1.3.6.1.4.1.9.1"), value: Value::Integer(i32::MIN) },
        VarBind { name: oid("2.5"), value: Value::Octets(b"12345".to_vec()) },
        VarBind { name: oid("1.3.6.1.300.1"), value: Value::Oid(oid("1.3.6.1.6.3")) },
        VarBind { name: Oid::default(), value: Value::Null },
        VarBind { name: oid("1"), value: Value::IpAddress([192, 0, 2, 1]) },
        VarBind { name: oid("1"), value: Value::Counter32(1) },
        VarBind { name: oid("1"), value: Value::Gauge32(u32::MAX) },
        VarBind { name: oid("1"), value: Value::TimeTicks(2) },
        VarBind { name: oid("1"), value: Value::Opaque(vec![1, 2, 3, 4]) },
        VarBind { name: oid("1"), value: Value::Counter64(u64::MAX) },
        VarBind { name: oid("1"), value: Value::EndOfMibView },
    ];
    for pdu in [
        Pdu::Open { timeout: 5, id: oid("1.3.6.1.4.1.9"), description: "evenkeel".into() },
        Pdu::Close { reason: 5 },
        Pdu::Register { timeout: 5, priority: 127, subtree: oid("1.3.6.1.4.1.9") },
        Pdu::Get(vec![range("1.3.6.1.4.1.9", false, "")]),
        Pdu::GetNext(vec![range("1.3.6.1.4.1.9", true, "1.3.6.1.4.1.10")]),
        Pdu::GetBulk { non_repeaters: 1, repetitions: 9, ranges: vec![range("1.3", false, "")] },
        Pdu::Ping,
        Pdu::Notify(binds.clone()),
        Pdu::Response { uptime: 1, error: 263, index: 1, binds },
    ] {
        let frame = Frame { session: 1, transaction: 2, packet: 3, pdu };
        let bytes = encode(&frame);
        assert_eq!(length(&bytes), Ok(Some(bytes.len())));
        assert_eq!(decode(&bytes), Ok(frame));
    }
}

/// RFC 2741, section 5.1: the prefix, padding, and byte order as another would write them.
#[test]
fn bytes_are_those_of_the_standard() {
    let frame =
        Frame { session: 1, transaction: 2, packet: 3, pdu: Pdu::Get(vec![range("1.3.6.1.2.1", true, "")]) };
    let expect = [
        1, 5, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 12, // head
        1, 2, 1, 0, 0, 0, 0, 1, // 1.3.6.1.2, one further part
        0, 0, 0, 0, // no end
    ];
    assert_eq!(encode(&frame), expect);
    let little = [
        1, 5, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 12, 0, 0, 0, // head
        1, 2, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(decode(&little), Ok(frame.clone()));
    let context = [
        1, 5, 0x18, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 20, // head
        0, 0, 0, 1, b'x', 0, 0, 0, // a context
        1, 2, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0,
    ];
    assert_eq!(decode(&context), Ok(frame));
}

#[test]
fn questions_find_what_there_is() {
    let view = view();
    let check = |pdu: Pdu, expect: &[&str]| assert_eq!(names(&view.answer(&pdu).unwrap()), expect, "{pdu:?}");
    let base = "1.3.6.1.4.1.9";
    let at = |rest: &str, include, end: &str| {
        let end = if end.is_empty() { String::new() } else { format!("{base}.{end}") };
        range(&if rest.is_empty() { base.to_owned() } else { format!("{base}.{rest}") }, include, &end)
    };
    check(
        Pdu::Get(vec![at("1.1.0", false, ""), at("2.1.9", false, ""), at("7.1", false, "")]),
        &["1.1.0", "no instance", "no object"],
    );
    check(Pdu::GetNext(vec![at("", false, "")]), &["1.1.0"]);
    check(Pdu::GetNext(vec![at("1.1.0", true, ""), at("1.1.0", false, "")]), &["1.1.0", "2.1.5"]);
    check(Pdu::GetNext(vec![at("1.1.0", false, "2.1.5"), at("2.2.5", false, "")]), &["end", "end"]);
    let bulk = |non_repeaters, repetitions, ranges| Pdu::GetBulk { non_repeaters, repetitions, ranges };
    check(bulk(1, 3, vec![at("", false, ""), at("2.1", false, "")]), &["1.1.0", "2.1.5", "2.1.6", "2.2.5"]);
    check(bulk(9, 3, vec![at("2.2.5", false, "")]), &["end"]);
    check(bulk(0, u16::MAX, vec![at("2.1.6", false, "")]), &["2.2.5", "end"]);
    let many = bulk(0, u16::MAX, vec![at("", false, ""); 300]);
    assert!(view.answer(&many).unwrap().len() <= 1_000, "an answer has a bound");
}

fn respond(to: &[u8], session: u32, error: u16) -> Vec<u8> {
    let asked = decode(to).unwrap();
    let pdu = Pdu::Response { uptime: 0, error, index: 0, binds: Vec::new() };
    encode(&Frame { session, pdu, ..asked })
}

/// One that is open and registered.
fn ready() -> Session {
    let (mut session, open) = Session::begin(&mib::root(), "evenkeel", &[mib::root(), mib::vrrp(&[])]);
    let empty = Arc::new(View::default());
    let mut out = Vec::new();
    // Bytes come as they like.
    let answer = respond(&open, 42, 0);
    let (first, second) = answer.split_at(7);
    assert_eq!(session.received(first, &mut || empty.clone(), &mut out), Ok(vec![]));
    assert_eq!(session.received(second, &mut || empty.clone(), &mut out), Ok(vec![]));
    let register = decode(&out).unwrap();
    assert_eq!(
        (register.session, &register.pdu),
        (42, &Pdu::Register { timeout: 5, priority: 127, subtree: mib::root() })
    );
    let answer = respond(&out, 42, 0);
    out.clear();
    assert_eq!(session.received(&answer, &mut || empty.clone(), &mut out), Ok(vec![]));
    assert!(matches!(decode(&out).unwrap().pdu, Pdu::Register { subtree, .. } if subtree == mib::vrrp(&[])));
    // Another one has it: this one goes on.
    let answer = respond(&out, 42, 263);
    assert_eq!(session.received(&answer, &mut || empty.clone(), &mut Vec::new()), Ok(vec![Event::Ready]));
    assert!(session.is_ready());
    session
}

#[test]
fn a_session_opens_answers_and_notifies() {
    let mut session = ready();
    let view = view();
    let mut out = Vec::new();
    let get = Pdu::GetNext(vec![range("1.3.6.1.4.1.9.1", false, "")]);
    let asked = Frame { session: 42, transaction: 8, packet: 9, pdu: get };
    assert_eq!(session.received(&encode(&asked), &mut || view.clone(), &mut out), Ok(vec![]));
    let answer = decode(&out).unwrap();
    assert_eq!((answer.session, answer.transaction, answer.packet), (42, 8, 9));
    assert!(matches!(&answer.pdu, Pdu::Response { error: 0, binds, .. } if names(binds) == ["1.1.0"]));
    // Nothing can be set.
    out.clear();
    session
        .received(&encode(&Frame { pdu: Pdu::TestSet, ..asked.clone() }), &mut || view.clone(), &mut out)
        .unwrap();
    assert!(matches!(decode(&out).unwrap().pdu, Pdu::Response { error: 17, index: 1, .. }));
    let told = session.notify(mib::notification("lb1", "role", "warning", "lb1", "lb1 is active"));
    let taken = session.received(&respond(&told, 42, 0), &mut || view.clone(), &mut out);
    assert_eq!(taken, Ok(vec![Event::Notified(Ok(()))]));
    let ping = session.ping();
    assert_eq!(
        session.received(&respond(&ping, 42, 0), &mut || view.clone(), &mut out),
        Ok(vec![Event::Answered])
    );
    let ping = session.ping();
    assert_eq!(
        session.received(&respond(&ping, 42, 257), &mut || view.clone(), &mut out),
        Ok(vec![Event::Closed])
    );
}

#[test]
fn a_refusal_is_said_in_words() {
    let (mut session, open) = Session::begin(&mib::root(), "evenkeel", &[mib::root()]);
    let empty = Arc::new(View::default());
    let events = session.received(&respond(&open, 0, 263), &mut || empty.clone(), &mut Vec::new()).unwrap();
    assert_eq!(events, [Event::Refused("another sub-agent answers for this subtree".into())]);
    assert!(!session.is_ready());
}

/// Whatever comes: an error or an answer, never a panic, and never more memory than a message.
#[test]
fn hostile_bytes_do_no_harm() {
    let view = view();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let ranges = vec![range("1.3.6.1.4.1.9.1", true, "1.3.6.1.4.1.10"); 3];
    let binds = vec![VarBind { name: oid("1.3.6.1.4.1.9"), value: Value::text("some text") }];
    let samples = [
        Pdu::Get(ranges.clone()),
        Pdu::GetBulk { non_repeaters: 1, repetitions: 90, ranges },
        Pdu::Response { uptime: 0, error: 0, index: 0, binds: binds.clone() },
        Pdu::Notify(binds),
        Pdu::Open { timeout: 0, id: oid("1.3"), description: "some".into() },
    ]
    .map(|pdu| encode(&Frame { session: 42, transaction: 1, packet: 1, pdu }));
    for round in 0..200_000_usize {
        let mut bytes = samples[round % samples.len()].clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(bytes.len() - (random() as usize % 8).min(bytes.len()));
        let _ = decode(&bytes);
        if round % 100 == 0 {
            let mut session = ready();
            let mut out = Vec::new();
            let _ = session.received(&bytes, &mut || view.clone(), &mut out);
            assert!(out.len() < LONGEST);
        }
    }
    // A length that nobody could hold is refused before anything is kept.
    let mut long = samples[0].clone();
    long[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(length(&long), Err(Invalid::Length));
    assert_eq!(decode(&long), Err(Invalid::Length));
    // A text that says to be longer than its message.
    let notify = encode(&Frame {
        session: 1,
        transaction: 1,
        packet: 1,
        pdu: Pdu::Notify(vec![VarBind { name: oid("1"), value: Value::text("abcd") }]),
    });
    let mut text = notify.clone();
    let at = text.len() - 8;
    text[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(decode(&text), Err(Invalid::Short));
}
