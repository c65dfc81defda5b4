//! What goes over kept connections to a server, and what becomes of a request whose kept connection ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use evenkeel_testbed::{Place, Scripted, read_head};

use crate::{Running, SERVER_PORT};

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A server that answers so many requests of a connection and ends it with the next one; the number of connections.
fn server(place: &Place, answers: usize) -> (Scripted, Arc<AtomicU32>) {
    let connections = Arc::new(AtomicU32::new(0));
    let counted = connections.clone();
    let scripted = Scripted::start(place.at(SERVER_PORT), move |mut stream| {
        counted.fetch_add(1, Relaxed);
        for _ in 0..answers {
            if read_head(&mut stream).is_none() || stream.write_all(ANSWER).is_err() {
                return;
            }
        }
        let _ = read_head(&mut stream);
    });
    (scripted, connections)
}

fn client(running: &Running) -> TcpStream {
    let client = TcpStream::connect(running.vip).expect("the service listens");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    client
}

/// The answer's head; empty where the connection ends without one.
fn ask(client: &mut TcpStream) -> Vec<u8> {
    client.write_all(POST).expect("the connection is open");
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") && matches!(client.read(&mut byte), Ok(1)) {
        answer.push(byte[0]);
    }
    answer
}

/// Requests that may go once only use the connection that the same client's last one went over.
#[test]
fn a_client_goes_on_over_its_own_kept_connection() {
    let place = Place::new("kept-own");
    let (_server, connections) = server(&place, 4);
    let running = Running::start(place, "http", "", "");
    let mut client = client(&running);
    for number in 1..=4 {
        assert!(ask(&mut client).starts_with(b"HTTP/1.1 200"), "request {number}");
    }
    assert_eq!(connections.load(Relaxed), 1);
    drop(client);
    running.comes_to_rest("four requests");
}

/// Where that connection ends without an answer so does the client's, which knows whether it may ask again. What
/// came on a new connection gets an answer.
#[test]
fn a_kept_connection_that_ends_is_the_clients_to_judge() {
    let place = Place::new("kept-ended");
    let (_server, _) = server(&place, 1);
    let running = Running::start(place, "http", "", "");
    let mut client = client(&running);
    assert!(ask(&mut client).starts_with(b"HTTP/1.1 200"));
    assert!(running.line("the first").starts_with("200"));
    assert_eq!(ask(&mut client), b"", "no answer that nobody gave");
    assert_eq!(running.line("the second"), "502 SH");
    running.comes_to_rest("a connection that ended");
}
