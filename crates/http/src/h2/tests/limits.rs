//! What bounds the memory and the work of a connection.

use super::*;

#[test]
fn a_stream_alone_pays_for_its_windows() {
    let mut peer = Peer::new();
    peer.request(1, true, &[]).unwrap();
    peer.frame(kind::WINDOW_UPDATE, 0, 1, &0x7fff_ffffu32.to_be_bytes()).unwrap();
    assert_eq!(peer.resets(), [(1, ErrorCode::FlowControl as u32)]);
    peer.request(3, true, &[]).unwrap();
    peer.frame(kind::WINDOW_UPDATE, 0, 3, &[0; 4]).unwrap();
    assert_eq!(peer.resets(), [(3, ErrorCode::Protocol as u32)]);
    // More than the stream's window, without the session reading.
    peer.request(5, false, &[(":method", "POST")]).unwrap();
    for _ in 0..4 {
        peer.frame(kind::DATA, 0, 5, &[b'x'; 16_384]).unwrap();
    }
    assert_eq!(peer.resets(), [(5, ErrorCode::FlowControl as u32)]);
    // A window of nothing: data waits, and moves when it opens; negative windows too.
    let mut settings = Vec::new();
    frame::write_settings(&[(setting::INITIAL_WINDOW_SIZE, 10)], &mut settings);
    peer.send(&settings).unwrap();
    peer.request(7, true, &[]).unwrap();
    let link = peer.links.len() - 1;
    peer.links[link].write(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n012345678901234567890123456789");
    let sent = |peer: &mut Peer| -> usize {
        peer.answers().iter().filter(|a| a.0 == kind::DATA).map(|a| a.3.len()).sum()
    };
    assert_eq!(sent(&mut peer), 10);
    let mut smaller = Vec::new();
    frame::write_settings(&[(setting::INITIAL_WINDOW_SIZE, 0)], &mut smaller);
    peer.send(&smaller).unwrap();
    peer.frame(kind::WINDOW_UPDATE, 0, 7, &15u32.to_be_bytes()).unwrap();
    assert_eq!(sent(&mut peer), 5);
    peer.send(&settings).unwrap();
    assert_eq!(sent(&mut peer), 10);
    peer.frame(kind::WINDOW_UPDATE, 0, 7, &100u32.to_be_bytes()).unwrap();
    assert_eq!(sent(&mut peer), 5);
    assert_eq!(peer.mux.stream_count(), 0);
}

#[test]
fn floods_are_ended() {
    // Rapid reset: streams opened to be thrown away.
    let mut peer = Peer::new();
    let ended = (0..1000).find_map(|n| {
        let stream = 1 + 2 * n;
        peer.request(stream, true, &[]).err().or_else(|| {
            peer.links.clear();
            peer.frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes()).err().map(|e| (n, e).1)
        })
    });
    assert_eq!(ended, Some(ConnectionError(ErrorCode::EnhanceYourCalm)));
    // The same, with the server made to do the resetting.
    let mut peer = Peer::new();
    let ended = (0..1000).find_map(|n| {
        let stream = 1 + 2 * n;
        peer.request(stream, true, &[])
            .err()
            .or_else(|| peer.frame(kind::WINDOW_UPDATE, 0, stream, &[0; 4]).err())
    });
    assert_eq!(ended, Some(ConnectionError(ErrorCode::EnhanceYourCalm)));
    // Finished requests give the budget back.
    let mut peer = Peer::new();
    for n in 0..5000 {
        peer.request(1 + 2 * n, true, &[]).unwrap();
        if n % 2 == 0 {
            peer.frame(kind::RST_STREAM, 0, 1 + 2 * n, &8u32.to_be_bytes()).unwrap();
        } else {
            peer.links[0].write(b"HTTP/1.1 204 No\r\n\r\n");
        }
        peer.answers();
        peer.links.clear();
    }
    // Frames without use, as fast as they come.
    for (kind, stream, payload) in [
        (kind::PING, 0, &[0; 8][..]),
        (kind::SETTINGS, 0, &[]),
        (kind::PRIORITY, 1, &[0; 5]),
        (kind::DATA, 1, &[]),
        (kind::WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
        (kind::WINDOW_UPDATE, 1, &[0, 0, 16, 0]),
        (kind::RST_STREAM, 3, &[0, 0, 0, 8]),
        (77, 0, &[]),
    ] {
        let mut peer = Peer::new();
        peer.request(1, false, &[(":method", "POST")]).unwrap();
        peer.request(3, true, &[]).unwrap();
        let ended = (0..10_000).find_map(|_| {
            peer.mux.out.clear();
            peer.frame(kind, 0, stream, payload).err()
        });
        assert_eq!(ended, Some(ConnectionError(ErrorCode::EnhanceYourCalm)), "frames of kind {kind}");
    }
    // A window that is opened byte by byte, while there is much to send.
    let mut peer = Peer::new();
    let mut small = Vec::new();
    frame::write_settings(&[(setting::INITIAL_WINDOW_SIZE, 0)], &mut small);
    peer.send(&small).unwrap();
    peer.request(1, true, &[]).unwrap();
    peer.links[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    peer.links[0].write(&[b'x'; 20_000]);
    let ended = (0..10_000).find_map(|_| {
        peer.answers();
        peer.frame(kind::WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()).err()
    });
    assert_eq!(ended, Some(ConnectionError(ErrorCode::EnhanceYourCalm)));
    // Header blocks without end.
    for (size, count) in [(16_384, 10), (0, 1000)] {
        let mut peer = Peer::new();
        peer.frame(kind::HEADERS, 0, 1, &block(&get(&[]))).unwrap();
        let ended = (0..count).find_map(|_| peer.frame(kind::CONTINUATION, 0, 1, &vec![0; size]).err());
        assert_eq!(ended, Some(ConnectionError(ErrorCode::EnhanceYourCalm)));
    }
}

/// Ten gigabytes through a window of 16 KiB, to a client or to a server, each piece paid back by
/// window updates of the stream and of the connection.
#[test]
fn long_transfers_through_small_windows_go_on() {
    const PIECE: usize = 16 * 1024;
    const PIECES: usize = 10 * 1024 * 1024 * 1024 / PIECE;
    for role in [Role::Server, Role::Client] {
        let mut mux = Mux::new(role, Default::default(), false, 7);
        let mut hello = if role == Role::Server { frame::PREFACE.to_vec() } else { Vec::new() };
        frame::write_settings(&[(setting::INITIAL_WINDOW_SIZE, PIECE as u32)], &mut hello);
        if role == Role::Server {
            frame::write_headers(1, true, &block(&get(&[])), &mut hello);
        }
        let client_link = (role == Role::Client).then(|| mux.open());
        assert_eq!(mux.receive(&hello, 0), Ok(hello.len()));
        let link = client_link.unwrap_or_else(|| mux.opened.pop_front().unwrap().accept());
        let size = PIECES * PIECE;
        let head = match role {
            Role::Server => format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"),
            Role::Client => format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"),
        };
        link.write(head.as_bytes());
        mux.produce(0);
        mux.out.clear();
        let piece = vec![b'x'; PIECE];
        let mut paid = Vec::new();
        for part in 0..4u32 {
            frame::write_window_update(1, PIECE as u32 / 4, &mut paid);
            frame::write_window_update(0, PIECE as u32 / 4, &mut paid);
            // A ping that measures the bandwidth, as gRPC sends it.
            if part == 0 {
                frame::write(kind::PING, 0, 0, &[0; 8], &mut paid);
            }
        }
        for n in 0..PIECES {
            assert_eq!(link.write(&piece), StreamIo::Done(PIECE), "piece {n} as {role:?}");
            mux.produce(0);
            assert!(mux.out.len() >= PIECE, "piece {n} as {role:?}");
            mux.out.clear();
            assert_eq!(mux.receive(&paid, 0), Ok(paid.len()), "piece {n} as {role:?}");
        }
    }
}

/// What clients send by the clock on a connection that is otherwise idle goes on for ever.
#[test]
fn a_long_life_is_no_flood() {
    const DAY_MS: u64 = 86_400_000;
    let every = |step_ms: u64, act: &mut dyn FnMut(&mut Peer, u64) -> Result<(), ConnectionError>| {
        let mut peer = Peer::new();
        for n in 0..DAY_MS / step_ms {
            peer.now_ms = n * step_ms;
            assert_eq!(act(&mut peer, n), Ok(()), "after {} s", peer.now_ms / 1000);
            peer.answers();
        }
    };
    every(1_000, &mut |peer, _| peer.frame(kind::PING, 0, 0, &[0; 8]));
    every(10_000, &mut |peer, _| peer.frame(kind::SETTINGS, 0, 0, &[]));
    every(10_000, &mut |peer, _| peer.frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9]));
    // Calls that their clients take back, none of which finishes.
    every(1_000, &mut |peer, n| {
        let stream = 1 + 2 * n as u32;
        peer.request(stream, true, &[])?;
        peer.links.clear();
        peer.frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes())
    });
    // An idle connection to a server that asks whether it is still there.
    let mut mux = Mux::new(Role::Client, Default::default(), false, 7);
    let mut hello = Vec::new();
    frame::write_settings(&[], &mut hello);
    mux.receive(&hello, 0).unwrap();
    let mut ping = Vec::new();
    frame::write(kind::PING, 0, 0, &[0; 8], &mut ping);
    for n in 0..DAY_MS / 1_000 {
        assert_eq!(mux.receive(&ping, n * 1_000), Ok(ping.len()));
        mux.out.clear();
    }
}

/// Streams that wait for the connection's window are remembered once, and not at all once they are
/// over.
#[test]
fn starved_streams_are_forgotten_with_their_bytes() {
    let mut peer = Peer::new();
    let mut wide = Vec::new();
    frame::write_settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)], &mut wide);
    peer.send(&wide).unwrap();
    for n in 0..40 {
        let stream = 1 + 2 * n;
        peer.request(stream, true, &[]).unwrap();
        let link = peer.links.len() - 1;
        peer.links[link].write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        for _ in 0..10 {
            peer.links[link].write(&[b'x'; 30_000]);
            peer.answers();
        }
    }
    assert!((1..=40).contains(&peer.mux.starved_count()));
    for n in 0..40 {
        peer.frame(kind::RST_STREAM, 0, 1 + 2 * n, &8u32.to_be_bytes()).unwrap();
    }
    peer.links.clear();
    peer.answers();
    assert_eq!((peer.mux.starved_count(), peer.mux.stream_count()), (0, 0));
    assert_eq!(peer.mux.queued(), 0, "no stream is held with its bytes");
}

/// What streams hold counts as memory for buffers, and is given back whatever becomes of them.
#[test]
fn bytes_of_streams_are_counted() {
    let memory = Rc::new(MemoryBudget::new(1 << 20));
    let mut peer = Peer::with_memory(memory.clone());
    let mut none = Vec::new();
    frame::write_settings(&[(setting::INITIAL_WINDOW_SIZE, 0)], &mut none);
    peer.send(&none).unwrap();
    let stream = loop {
        let stream = 1 + 2 * peer.links.len() as u32;
        assert!(stream < 200, "a stream counts for something");
        peer.request(stream, false, &[(":method", "POST")]).unwrap();
        if peer.links.len() as u32 * 2 < stream {
            break stream;
        }
        peer.frame(kind::DATA, 0, stream, &[b'x'; 2_000]).unwrap();
        let link = peer.links.last().unwrap();
        link.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        link.write(&[b'x'; 40_000]);
        peer.answers();
    };
    // It was refused, and can be tried elsewhere: one connection does not get all there is.
    assert_eq!(peer.resets(), [(stream, ErrorCode::RefusedStream as u32)]);
    assert!(memory.is_short() && memory.used() < (1 << 20) * 5 / 8, "{}", memory.used());
    peer.mux.fail(ErrorCode::NoError);
    peer.links.clear();
    drop(peer);
    assert_eq!(memory.used(), 0);
}

/// An answer whose session has ended does not wait for ever for a client that makes no room.
#[test]
fn answers_that_nobody_takes_end() {
    let mut peer = Peer::new();
    let mut none = Vec::new();
    frame::write_settings(&[(setting::INITIAL_WINDOW_SIZE, 0)], &mut none);
    peer.send(&none).unwrap();
    peer.request(1, true, &[]).unwrap();
    peer.links[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    peer.links.clear();
    assert_eq!(peer.resets(), []);
    let deadline = peer.mux.deadline_ms().expect("somebody looks again");
    peer.now_ms = deadline;
    assert_eq!(peer.resets(), [(1, ErrorCode::Cancel as u32)]);
    assert_eq!((peer.mux.stream_count(), peer.mux.deadline_ms()), (0, None));
}
