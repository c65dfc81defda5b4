use std::sync::Arc;

use rustls::server::ProducesTickets;

use super::ticket::{self, ServiceTickets, TicketKeys};

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
    // The same with a successor's or a peer's copy of the keys.
    let copy = Arc::new(TicketKeys::new(0));
    copy.set(keys.secrets());
    let [same, other] = [[1; 32], [2; 32]].map(|b| ServiceTickets::new(copy.clone(), b));
    assert!(same.decrypt(&ticket).is_some());
    assert_eq!(other.decrypt(&ticket), None);
}
