//! What a session holds while it is at work: it is what many connections at a time miss in the cache.

use std::future::Future;
use std::rc::Rc;

use super::session::{Client, Scratch, Session};
use super::{client, exchange, flow, greet, pick, relay, session, tcp};
use crate::worker::Worker;

type W = &'static Worker;
type S = &'static Session;
type Memory = &'static mut Scratch;

fn of2<A, B, F: Future>(_: fn(A, B) -> F) -> usize {
    size_of::<F>()
}

fn of4<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

fn of6<A, B, C, D, E, G, F: Future>(_: fn(A, B, C, D, E, G) -> F) -> usize {
    size_of::<F>()
}

fn of7<A, B, C, D, E, G, H, F: Future>(_: fn(A, B, C, D, E, G, H) -> F) -> usize {
    size_of::<F>()
}

fn of8<A, B, C, D, E, G, H, I, F: Future>(_: fn(A, B, C, D, E, G, H, I) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_session_is_small() {
    let whole = of2(session::run as fn(W, Rc<Session>) -> _);
    let parts = [
        ("greet", of4(greet::greet as fn(W, S, Memory, Box<Client>) -> _)),
        ("tcp", of4(tcp::serve as fn(W, S, Memory, Box<Client>) -> _)),
        ("relay", of6(relay::run as fn(W, S, relay::Sides<'static>, relay::Counts<'static>, _, _) -> _)),
        ("http", of4(client::serve as fn(W, S, Memory, Box<Client>) -> _)),
        ("exchange", of6(exchange::run as fn(W, S, Memory, &'static mut Client, _, _) -> _)),
        ("lease", of7(pick::lease as fn(W, S, _, _, _, _, _) -> _)),
        ("transact", of8(flow::transact as fn(W, S, Memory, &'static mut Client, _, _, _, _) -> _)),
    ];
    println!(
        "a session {whole}, scratch {}, client {}: {parts:?}",
        size_of::<Scratch>(),
        size_of::<Client>()
    );
    assert!(whole <= 2_000, "{whole} bytes: {parts:?}");
}
