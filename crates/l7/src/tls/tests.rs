use std::sync::Arc;

use rustls::server::ProducesTickets;

use super::hello::{NoHello, parse};
use super::ticket::{self, ServiceTickets, TicketKeys};

/// A ClientHello record with a session id and these extensions.
fn hello(session: &[u8], extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(session.len() as u8);
    body.extend(session);
    body.extend([0, 2, 0x13, 1, 1, 0]);
    let mut all = Vec::new();
    for (kind, value) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend((value.len() as u16).to_be_bytes());
        all.extend(*value);
    }
    body.extend((all.len() as u16).to_be_bytes());
    body.extend(all);
    let mut record = vec![0x16, 3, 1];
    record.extend(((body.len() + 4) as u16).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn sni(name: &[u8]) -> Vec<u8> {
    let length = name.len() as u16;
    let mut value = (length + 3).to_be_bytes().to_vec();
    value.push(0);
    value.extend(length.to_be_bytes());
    value.extend(name);
    value
}

#[test]
fn client_hellos() {
    let name = sni(b"www.example.org");
    let alpn = b"\x00\x0c\x02h2\x08http/1.1";
    let whole = hello(b"abc", &[(10, b"xx"), (0, &name), (16, &alpn[..])]);
    let found = parse(&whole).unwrap();
    assert_eq!(found.server_name, Some("www.example.org"));
    assert_eq!(found.session_id, b"abc");
    assert_eq!(found.alpn, Some(&b"h2"[..]));
    for cut in 0..whole.len() {
        assert_eq!(parse(&whole[..cut]), Err(NoHello::Partial), "cut at {cut}");
    }
    let without = hello(b"", &[]);
    assert_eq!(parse(&without).unwrap().server_name, None);
    let evil = hello(b"", &[(0, &sni(b"a\0b"))]);
    assert_eq!(parse(&evil), Err(NoHello::NotTls));
    assert_eq!(parse(&hello(b"", &[(0, &sni(b""))])), Err(NoHello::NotTls));
    assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(NoHello::NotTls));
    let mut lying = whole.clone();
    lying[43] = 0xff;
    assert_eq!(parse(&lying), Err(NoHello::NotTls));
}

#[test]
fn tickets_open_until_their_key_has_gone() {
    let keys = Arc::new(TicketKeys::new(0));
    let service = ServiceTickets::new(keys.clone(), [1; 32]);
    let ticket = service.encrypt(b"state").unwrap();
    assert_eq!(service.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
    let mut changed = ticket.clone();
    for at in 0..changed.len() {
        changed[at] ^= 1;
        assert_eq!(service.decrypt(&changed), None, "byte {at}");
        changed[at] ^= 1;
    }
    keys.rotate(10);
    assert_eq!(keys.secrets().keys.len(), 1, "too early for a new key");
    keys.rotate(ticket::ROTATION_SECONDS);
    assert!(service.decrypt(&ticket).is_some(), "the earlier key still reads");
    let successor = Arc::new(TicketKeys::new(5));
    successor.set(keys.secrets());
    let successor = ServiceTickets::new(successor, [1; 32]);
    assert!(successor.decrypt(&ticket).is_some(), "a successor reads what this one wrote");
    keys.rotate(2 * ticket::ROTATION_SECONDS);
    keys.rotate(3 * ticket::ROTATION_SECONDS);
    assert_eq!(service.decrypt(&ticket), None);
}

#[test]
fn tickets_open_only_where_they_mean_the_same() {
    let keys = Arc::new(TicketKeys::new(0));
    let [one, same, other] = [[1; 32], [1; 32], [2; 32]].map(|b| ServiceTickets::new(keys.clone(), b));
    let ticket = one.encrypt(b"who somebody is").unwrap();
    assert!(same.decrypt(&ticket).is_some());
    assert_eq!(other.decrypt(&ticket), None);
}
