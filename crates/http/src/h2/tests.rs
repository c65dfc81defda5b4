//! A connection under a peer that follows no rule: what is refused, and that it stays cheap.

use std::rc::Rc;

use proptest::prelude::*;

use super::frame::{self, ErrorCode, FrameHeader, flag, kind, setting};
use super::hpack::{Decoder, encode};
use super::{ConnectionError, Mux, Role, StreamHandle, StreamIo};
use crate::memory::MemoryBudget;

mod limits;

struct Peer {
    mux: Mux,
    links: Vec<StreamHandle>,
    now_ms: u64,
}

impl Peer {
    fn new() -> Peer {
        Peer::with_memory(Default::default())
    }

    fn with_memory(memory: Rc<MemoryBudget>) -> Peer {
        let mux = Mux::new(Role::Server, memory, false, 7);
        let mut peer = Peer { mux, links: Vec::new(), now_ms: 0 };
        let mut hello = frame::PREFACE.to_vec();
        frame::write_settings(&[], &mut hello);
        peer.send(&hello).unwrap();
        peer.mux.out.clear();
        peer
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        assert_eq!(self.mux.receive(bytes, self.now_ms)?, bytes.len(), "whole frames are taken");
        self.links.extend(self.mux.opened.drain(..).map(|o| o.accept()));
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), ConnectionError> {
        let mut bytes = Vec::new();
        frame::write(kind, flags, stream, payload, &mut bytes);
        self.send(&bytes)
    }

    fn request(&mut self, stream: u32, ends: bool, more: &[(&str, &str)]) -> Result<(), ConnectionError> {
        let mut bytes = Vec::new();
        frame::write_headers(stream, ends, &block(&get(more)), &mut bytes);
        self.send(&bytes)
    }

    /// What was sent to the peer: kind, flags, stream, payload.
    fn answers(&mut self) -> Vec<(u8, u8, u32, Vec<u8>)> {
        self.mux.produce(self.now_ms);
        let (mut all, mut at) = (Vec::new(), 0);
        while let Some(head) = FrameHeader::parse(&self.mux.out[at..]) {
            let payload = self.mux.out[at + 9..at + 9 + head.length].to_vec();
            all.push((head.kind, head.flags, head.stream, payload));
            at += 9 + head.length;
        }
        self.mux.out.clear();
        all
    }

    /// The codes that streams were reset with.
    fn resets(&mut self) -> Vec<(u32, u32)> {
        let all = self.answers().into_iter().filter(|a| a.0 == kind::RST_STREAM);
        all.map(|(_, _, stream, code)| (stream, u32::from_be_bytes(code.try_into().unwrap()))).collect()
    }

    fn text(&mut self, link: usize) -> String {
        let mut buffer = [0; 65_536];
        match self.links[link].read(&mut buffer) {
            StreamIo::Done(count) => String::from_utf8_lossy(&buffer[..count]).into_owned(),
            other => format!("{other:?}"),
        }
    }
}

fn get<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a.example")];
    // A field that is given replaces the usual one; `""` takes it away.
    let usual = usual.into_iter().filter(|(n, _)| !more.iter().any(|(m, _)| m == n));
    usual.chain(more.iter().copied()).filter(|(n, v)| !(n.starts_with(':') && v.is_empty())).collect()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    // Pseudo-fields first, as a good peer sends them.
    let (pseudo, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(n, _)| n.starts_with(':'));
    pseudo.iter().chain(&rest).for_each(|(n, v)| encode(n.as_bytes(), v.as_bytes(), &mut out));
    out
}

#[test]
fn requests_become_http1_and_answers_frames() {
    let mut peer = Peer::new();
    peer.request(1, true, &[("cookie", "a=b"), ("cookie", "c=d"), ("te", "trailers"), ("x-a", "1")]).unwrap();
    assert_eq!(peer.text(0), "GET / HTTP/1.1\r\nhost: a.example\r\nx-a: 1\r\ncookie: a=b; c=d\r\n\r\n");
    let answer = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX-B: 2\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\nGrpc-Status: 0\r\n\r\n";
    assert_eq!(peer.links[0].write(answer), StreamIo::Done(answer.len()));
    let answers = peer.answers();
    let kinds: Vec<_> = answers.iter().map(|a| (a.0, a.1)).collect();
    let end = flag::END_HEADERS | flag::END_STREAM;
    assert_eq!(
        kinds,
        [
            (kind::HEADERS, flag::END_HEADERS),
            (kind::HEADERS, flag::END_HEADERS),
            (kind::DATA, 0),
            (kind::HEADERS, end)
        ]
    );
    let mut decoder = Decoder::default();
    let mut fields = Vec::new();
    for part in [&answers[0].3, &answers[1].3, &answers[3].3] {
        decoder
            .decode(part, |n, v| fields.push(format!("{}={}", n.escape_ascii(), v.escape_ascii())))
            .unwrap();
    }
    assert_eq!(fields, [":status=103", "link=x", ":status=200", "x-b=2", "grpc-status=0"]);
    assert_eq!(answers[2].3, b"hello");
    assert_eq!(peer.mux.stream_count(), 0);

    peer.request(3, false, &[(":method", "POST"), ("content-length", "5")]).unwrap();
    peer.frame(kind::DATA, 0, 3, b"he").unwrap();
    peer.frame(kind::DATA, flag::END_STREAM | flag::PADDED, 3, b"\x02llo..").unwrap();
    assert!(peer.text(1).ends_with("content-length: 5\r\n\r\nhello"));
    peer.request(5, false, &[(":method", "POST")]).unwrap();
    peer.frame(kind::DATA, 0, 5, b"0123456789abcdef").unwrap();
    let mut trailers = Vec::new();
    frame::write_headers(
        5,
        true,
        &block(&[("x-sum", "9"), ("content-length", "9"), ("content-type", "a/b")]),
        &mut trailers,
    );
    peer.send(&trailers).unwrap();
    assert!(
        peer.text(2)
            .ends_with("transfer-encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 9\r\n\r\n")
    );
}

#[test]
fn malformed_requests_end_their_stream_alone() {
    let mut peer = Peer::new();
    let cases: &[&[(&str, &str)]] = &[
        &[(":method", "")],
        &[(":path", "")],
        &[(":scheme", "")],
        &[(":scheme", "ftp")],
        &[(":path", "x")],
        &[(":path", "/a b")],
        &[(":path", "/a#b")],
        &[(":path", "*")],
        &[(":authority", "u@a")],
        &[(":authority", "a"), ("host", "b")],
        &[("host", "a.example"), ("host", "a.example")],
        &[(":method", "GE T")],
        &[(":method", "CONNECT")],
        &[(":protocol", "websocket")],
        &[(":status", "200")],
        &[(":what", "x")],
        &[("X-Upper", "1")],
        &[("x y", "1")],
        &[("", "1")],
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "h2c")],
        &[("keep-alive", "1")],
        &[("te", "gzip")],
        &[("x-a", "b\r\nc: d")],
        &[("x-a", "b\nc")],
        &[("x-a", "b\0")],
        &[("x-a", " b")],
        &[("content-length", "5")],
        &[("content-length", "+0")],
        &[("content-length", "0"), ("content-length", "1")],
    ];
    let mut stream = 1;
    for case in cases {
        peer.request(stream, true, case).unwrap();
        assert_eq!(peer.resets(), [(stream, ErrorCode::Protocol as u32)], "{case:?}");
        stream += 2;
    }
    // A request need not name its host (RFC 9113 section 8.3.1).
    peer.request(stream, true, &[(":authority", "")]).unwrap();
    assert_eq!(peer.resets(), []);
    stream += 2;
    // Pseudo-fields behind others, and twice.
    for order in [&[("x-a", "1"), (":method", "GET")][..], &[(":method", "GET"), (":method", "GET")]] {
        let mut bytes = Vec::new();
        let mut all = Vec::new();
        order.iter().for_each(|(n, v)| encode(n.as_bytes(), v.as_bytes(), &mut all));
        all.extend(block(&[(":scheme", "https"), (":path", "/"), (":authority", "a")]));
        frame::write_headers(stream, true, &all, &mut bytes);
        peer.send(&bytes).unwrap();
        assert_eq!(peer.resets().len(), 1);
        stream += 2;
    }
    // A body that is longer or shorter than announced.
    for (data, ends) in [(&b"123456"[..], false), (b"1234", true)] {
        peer.request(stream, false, &[(":method", "POST"), ("content-length", "5")]).unwrap();
        peer.frame(kind::DATA, if ends { flag::END_STREAM } else { 0 }, stream, data).unwrap();
        assert_eq!(peer.resets(), [(stream, ErrorCode::Protocol as u32)]);
        stream += 2;
    }
    peer.request(stream, true, &[]).unwrap();
    assert!(peer.text(peer.links.len() - 1).starts_with("GET / "), "the connection is well");
}

#[test]
fn rules_of_the_connection() {
    let check =
        |what: &str, code: ErrorCode, act: &mut dyn FnMut(&mut Peer) -> Result<(), ConnectionError>| {
            let mut peer = Peer::new();
            assert_eq!(act(&mut peer), Err(ConnectionError(code)), "{what}");
        };
    check("DATA on no stream", ErrorCode::Protocol, &mut |p| p.frame(kind::DATA, 0, 0, b"x"));
    check("DATA on a stream nobody opened", ErrorCode::Protocol, &mut |p| p.frame(kind::DATA, 0, 1, b"x"));
    check("an even stream", ErrorCode::Protocol, &mut |p| p.request(2, true, &[]));
    check("a stream that is over", ErrorCode::StreamClosed, &mut |p| {
        p.request(5, true, &[])?;
        p.request(3, true, &[])
    });
    check("PUSH_PROMISE", ErrorCode::Protocol, &mut |p| p.frame(kind::PUSH_PROMISE, 4, 1, &[0; 8]));
    check("CONTINUATION out of place", ErrorCode::Protocol, &mut |p| p.frame(kind::CONTINUATION, 4, 1, b""));
    check("a frame amid a header block", ErrorCode::Protocol, &mut |p| {
        p.frame(kind::HEADERS, 0, 1, &block(&get(&[])))?;
        p.frame(kind::PING, 0, 0, &[0; 8])
    });
    check("padding beyond the frame", ErrorCode::Protocol, &mut |p| {
        p.frame(kind::HEADERS, flag::PADDED | 5, 1, b"\x09ab")
    });
    check("a block that cannot be decoded", ErrorCode::Compression, &mut |p| {
        p.frame(kind::HEADERS, 5, 1, &[0xff; 9])
    });
    check("PING of a wrong size", ErrorCode::FrameSize, &mut |p| p.frame(kind::PING, 0, 0, b"1234567"));
    check("SETTINGS of a wrong size", ErrorCode::FrameSize, &mut |p| p.frame(kind::SETTINGS, 0, 0, b"12345"));
    check("SETTINGS on a stream", ErrorCode::Protocol, &mut |p| p.frame(kind::SETTINGS, 0, 1, b""));
    check("an acknowledgement with content", ErrorCode::FrameSize, &mut |p| {
        p.frame(kind::SETTINGS, 1, 0, &[0; 6])
    });
    for (name, value, code) in [
        (setting::INITIAL_WINDOW_SIZE, 1 << 31, ErrorCode::FlowControl),
        (setting::MAX_FRAME_SIZE, 16_383, ErrorCode::Protocol),
        (setting::ENABLE_PUSH, 2, ErrorCode::Protocol),
    ] {
        check("a setting out of range", code, &mut |p| {
            let mut bytes = Vec::new();
            frame::write_settings(&[(name, value)], &mut bytes);
            p.send(&bytes)
        });
    }
    check("a window of the connection that overflows", ErrorCode::FlowControl, &mut |p| {
        p.frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes())
    });
    check("no increment at all", ErrorCode::Protocol, &mut |p| p.frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]));
    check("a frame too large", ErrorCode::FrameSize, &mut |p| {
        let head = FrameHeader { length: 16_385, kind: kind::DATA, flags: 0, stream: 1 };
        p.send(&head.bytes())
    });
    check("a stream that depends on itself", ErrorCode::Protocol, &mut |p| {
        p.frame(kind::HEADERS, flag::PRIORITY | 5, 1, &[0, 0, 0, 1, 9])
    });
    let mut other = Mux::new(Role::Server, Default::default(), false, 7);
    assert_eq!(other.receive(b"GET / HTTP/1.1\r\n", 0), Err(ConnectionError(ErrorCode::Protocol)));
    let mut late = frame::PREFACE.to_vec();
    frame::write(kind::PING, 0, 0, &[0; 8], &mut late);
    assert_eq!(other.receive(&[], 0), Ok(0));
    let mut third = Mux::new(Role::Server, Default::default(), false, 7);
    assert_eq!(third.receive(&late, 0), Err(ConnectionError(ErrorCode::Protocol)), "SETTINGS come first");
}

/// Frames on streams that are over (RFC 9113 section 5.1).
#[test]
fn frames_after_the_end() {
    // The peer ended it, this side too: whatever comes is an error.
    let mut peer = Peer::new();
    peer.request(1, true, &[]).unwrap();
    peer.links[0].write(b"HTTP/1.1 204 No\r\n\r\n");
    peer.answers();
    peer.frame(kind::DATA, 0, 1, b"late").unwrap();
    assert_eq!(peer.resets(), [(1, ErrorCode::StreamClosed as u32)]);
    // Half closed: the peer has said that nothing follows.
    peer.request(3, true, &[]).unwrap();
    peer.frame(kind::DATA, 0, 3, b"late").unwrap();
    assert_eq!(peer.resets(), [(3, ErrorCode::StreamClosed as u32)]);
    // This side reset it: what was under way is ignored, trailers too, and the connection lives.
    peer.request(5, false, &[(":method", "POST"), ("content-length", "1")]).unwrap();
    peer.frame(kind::DATA, 0, 5, b"12").unwrap();
    assert_eq!(peer.resets(), [(5, ErrorCode::Protocol as u32)]);
    peer.frame(kind::DATA, 0, 5, b"more").unwrap();
    let mut trailers = Vec::new();
    frame::write_headers(5, true, &block(&[("x-sum", "9")]), &mut trailers);
    peer.send(&trailers).unwrap();
    assert_eq!(peer.resets(), []);
    // The peer reset it itself.
    peer.request(7, false, &[(":method", "POST")]).unwrap();
    peer.frame(kind::RST_STREAM, 0, 7, &8u32.to_be_bytes()).unwrap();
    peer.frame(kind::DATA, 0, 7, b"late").unwrap();
    assert_eq!(peer.resets(), [(7, ErrorCode::StreamClosed as u32)]);
    peer.frame(kind::WINDOW_UPDATE, 0, 7, &1u32.to_be_bytes()).unwrap();
    peer.frame(kind::PRIORITY, 0, 7, &[0, 0, 0, 0, 1]).unwrap();
    // A header block would change the tables of a stream that both have ended.
    peer.request(9, true, &[]).unwrap();
    let link = peer.links.len() - 1;
    peer.links[link].write(b"HTTP/1.1 204 No\r\n\r\n");
    peer.answers();
    let mut trailers = Vec::new();
    frame::write_headers(9, true, &block(&[("x-sum", "9")]), &mut trailers);
    assert_eq!(peer.send(&trailers), Err(ConnectionError(ErrorCode::StreamClosed)));
}

/// On the wire stream numbers must grow (RFC 9113 section 5.1.1), whichever session writes first; a
/// stream on which nothing was sent is idle to the peer, and a reset of it would end the connection.
#[test]
fn streams_are_numbered_when_their_heads_are_sent() {
    let mut mux = Mux::new(Role::Client, Default::default(), false, 1);
    let mut hello = Vec::new();
    frame::write_settings(&[], &mut hello);
    mux.receive(&hello, 0).unwrap();
    let heads = |mux: &mut Mux| {
        mux.produce(0);
        let (mut all, mut at) = (Vec::new(), 0);
        while let Some(head) = FrameHeader::parse(&mux.out[at..]) {
            all.push((head.kind, head.stream));
            at += frame::HEADER + head.length;
        }
        mux.out.clear();
        all
    };
    mux.produce(0);
    mux.out.clear();
    let (slow, unused, quick) = (mux.open(), mux.open(), mux.open());
    quick.write(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(heads(&mut mux), [(kind::HEADERS, 1)]);
    drop(unused);
    assert_eq!(heads(&mut mux), []);
    slow.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(heads(&mut mux), [(kind::HEADERS, 3)]);
    // One that waits for what the server says of tunnels is passed by others.
    let mut mux = Mux::new(Role::Client, Default::default(), false, 1);
    mux.out.clear();
    let (tunnel, plain) = (mux.open(), mux.open());
    tunnel.write(b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    plain.write(b"GET /p HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(heads(&mut mux), [(kind::HEADERS, 1)]);
    let mut connects = Vec::new();
    frame::write_settings(&[(setting::ENABLE_CONNECT_PROTOCOL, 1)], &mut connects);
    mux.receive(&connects, 0).unwrap();
    assert_eq!(heads(&mut mux), [(kind::SETTINGS, 0), (kind::WINDOW_UPDATE, 0), (kind::HEADERS, 3)]);
    // The server served neither: both can go elsewhere.
    let mut goaway = Vec::new();
    let waiting = mux.open();
    frame::write_goaway(0, ErrorCode::NoError, &mut goaway);
    mux.receive(&goaway, 0).unwrap();
    assert!(tunnel.is_refused() && plain.is_refused() && waiting.is_refused());
}

/// A request that crosses the first GOAWAY is served: the last stream is named a round trip later.
#[test]
fn a_request_that_crosses_goaway_is_served() {
    let mut peer = Peer::new();
    peer.request(1, true, &[]).unwrap();
    peer.mux.retire(7);
    peer.mux.retire(8);
    let last = |answer: &(u8, u8, u32, Vec<u8>)| u32::from_be_bytes(answer.3[..4].try_into().unwrap());
    let answers = peer.answers();
    let [goaway, ping] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((goaway.0, last(goaway), ping.0), (kind::GOAWAY, u32::MAX >> 1, kind::PING));
    assert!(peer.mux.is_retired() && !peer.mux.is_settled());
    assert_eq!(peer.mux.deadline_ms(), Some(5_007));
    peer.request(3, true, &[]).unwrap();
    assert_eq!(peer.links.len(), 2, "it was sent before the client knew");
    peer.frame(kind::PING, flag::ACK, 0, b"another!").unwrap();
    assert!(!peer.mux.is_settled());
    let echo = ping.3.clone();
    peer.frame(kind::PING, flag::ACK, 0, &echo).unwrap();
    assert_eq!(peer.answers().iter().map(last).collect::<Vec<_>>(), [3]);
    assert!(peer.mux.is_settled() && peer.mux.deadline_ms().is_none());
    peer.request(5, true, &[]).unwrap();
    assert_eq!(peer.links.len(), 2);
    // Without an answer it is named after five seconds.
    let mut silent = Peer::new();
    silent.mux.retire(7);
    silent.now_ms = 5_006;
    assert_eq!(silent.answers().len(), 2);
    silent.now_ms = 5_007;
    assert_eq!(silent.answers().iter().map(last).collect::<Vec<_>>(), [0]);
}

/// What a client sends before it has read GOAWAY is no error (RFC 9113 section 6.8).
#[test]
fn streams_behind_the_last_one_are_ignored() {
    let mut peer = Peer::new();
    peer.request(1, false, &[(":method", "POST")]).unwrap();
    peer.mux.settle();
    assert_eq!(peer.answers().len(), 1);
    peer.request(3, false, &[(":method", "POST")]).unwrap();
    peer.frame(kind::DATA, 0, 3, b"body").unwrap();
    peer.frame(kind::WINDOW_UPDATE, 0, 3, &1u32.to_be_bytes()).unwrap();
    let mut trailers = Vec::new();
    frame::write_headers(3, true, &block(&[("x-sum", "9")]), &mut trailers);
    peer.send(&trailers).unwrap();
    peer.frame(kind::RST_STREAM, 0, 3, &8u32.to_be_bytes()).unwrap();
    assert_eq!((peer.links.len(), peer.resets()), (1, vec![]));
    peer.frame(kind::DATA, flag::END_STREAM, 1, b"rest").unwrap();
    assert!(peer.text(0).ends_with("4\r\nrest\r\n0\r\n\r\n"), "the stream before it is served");
    // The last stream that was named stays the last.
    peer.mux.fail(ErrorCode::Protocol);
    let goaway = peer.answers().pop().unwrap();
    assert_eq!(goaway.3, [1u32.to_be_bytes(), (ErrorCode::Protocol as u32).to_be_bytes()].concat());
}

/// A peer that takes a smaller header table than the default waits for the next block to confirm it
/// (RFC 7541 section 4.2).
#[test]
fn a_smaller_header_table_is_confirmed() {
    let mut peer = Peer::new();
    let mut firsts = Vec::new();
    for (n, size) in [4_096, 100, 0, 4_096].into_iter().enumerate() {
        let mut settings = Vec::new();
        frame::write_settings(&[(setting::HEADER_TABLE_SIZE, size)], &mut settings);
        peer.send(&settings).unwrap();
        peer.request(1 + 2 * n as u32, true, &[]).unwrap();
        peer.links[n].write(b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 204 No\r\n\r\n");
        let blocks = peer.answers().into_iter().filter(|a| a.0 == kind::HEADERS);
        firsts.push(blocks.map(|a| a.3[0]).collect::<Vec<_>>());
    }
    assert_eq!(firsts, [[0x08, 0x89], [0x20, 0x89], [0x08, 0x89], [0x08, 0x89]]);
}

/// A chunked body that cannot be read is never passed on as a whole one.
#[test]
fn broken_chunks_reset_the_stream() {
    let mut peer = Peer::new();
    peer.request(1, true, &[]).unwrap();
    peer.links[0].write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n");
    peer.links.clear();
    let answers = peer.answers();
    let kinds: Vec<_> = answers.iter().map(|a| (a.0, a.1)).collect();
    assert_eq!(kinds, [(kind::HEADERS, flag::END_HEADERS), (kind::DATA, 0), (kind::RST_STREAM, 0)]);
    assert_eq!(peer.mux.stream_count(), 0);
}

/// What a server must not say to a client (RFC 9113 section 6.5.2, RFC 8441 section 3).
#[test]
fn settings_of_servers() {
    let check = |settings: &[(u16, u32)], more: &[(u16, u32)], expect| {
        let mut mux = Mux::new(Role::Client, Default::default(), false, 7);
        let mut bytes = Vec::new();
        frame::write_settings(settings, &mut bytes);
        frame::write_settings(more, &mut bytes);
        assert_eq!(mux.receive(&bytes, 0).map(|_| ()), expect, "{settings:?} {more:?}");
    };
    check(&[(setting::ENABLE_PUSH, 0)], &[], Ok(()));
    check(&[(setting::ENABLE_PUSH, 1)], &[], Err(ConnectionError(ErrorCode::Protocol)));
    check(&[(setting::ENABLE_CONNECT_PROTOCOL, 1)], &[(setting::ENABLE_CONNECT_PROTOCOL, 1)], Ok(()));
    check(
        &[(setting::ENABLE_CONNECT_PROTOCOL, 1)],
        &[(setting::ENABLE_CONNECT_PROTOCOL, 0)],
        Err(ConnectionError(ErrorCode::Protocol)),
    );
}

#[test]
fn header_bombs_get_431_and_too_many_streams_are_refused() {
    let mut peer = Peer::new();
    // One entry of 4000 bytes in the table, then named four thousand times.
    let mut bomb = block(&get(&[]));
    bomb.push(0x40);
    bomb.extend_from_slice(b"\x01x\x7f\xa1\x1e");
    bomb.extend_from_slice(&[b'a'; 4000]);
    bomb.extend(std::iter::repeat_n(0xbe, 4000));
    peer.frame(kind::HEADERS, 5, 1, &bomb).unwrap();
    let answers = peer.answers();
    let mut fields = Vec::new();
    let ends = flag::END_HEADERS | flag::END_STREAM;
    assert_eq!((answers[0].0, answers[0].1, answers[0].2, answers.len()), (kind::HEADERS, ends, 1, 1));
    Decoder::default().decode(&answers[0].3, |n, v| fields.push((n.to_vec(), v.to_vec()))).unwrap();
    assert_eq!(fields, [(b":status".to_vec(), b"431".to_vec())]);
    assert!(peer.links.is_empty());
    // The same with a body to follow: the answer comes alone, what is under way does no harm, and the
    // reset comes later: clients lose an answer that it comes with.
    let mut peer = Peer::new();
    peer.frame(kind::HEADERS, 4, 1, &bomb).unwrap();
    let answers = peer.answers();
    let kinds: Vec<_> = answers.iter().map(|a| (a.0, a.1)).collect();
    assert_eq!(kinds, [(kind::HEADERS, ends)]);
    peer.frame(kind::DATA, 0, 1, b"bo").unwrap();
    peer.frame(kind::DATA, flag::END_STREAM, 1, b"dy").unwrap();
    assert_eq!(peer.resets(), []);
    peer.now_ms = peer.mux.deadline_ms().expect("the reset is due");
    assert_eq!(peer.resets(), [(1, ErrorCode::NoError as u32)]);
    assert_eq!(peer.mux.deadline_ms(), None);
    peer.links.clear();
    for n in 1..=101 {
        peer.request(1 + 2 * n, true, &[]).unwrap();
    }
    assert_eq!(peer.resets(), [(203, ErrorCode::RefusedStream as u32)]);
    assert_eq!(peer.links.len(), 100);
}

#[test]
fn sessions_that_end_early_end_their_stream() {
    let mut peer = Peer::new();
    // A whole answer before the request has ended: nothing is wrong.
    peer.request(1, false, &[(":method", "POST")]).unwrap();
    peer.links[0].write(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
    peer.links.clear();
    assert_eq!(peer.resets(), [], "it may take a moment to notice");
    peer.frame(kind::DATA, 0, 1, b"more").unwrap();
    peer.now_ms = 1_000;
    assert_eq!(peer.resets(), [(1, ErrorCode::NoError as u32)]);
    // Data that was on its way is taken and thrown away.
    peer.frame(kind::DATA, 0, 1, b"late").unwrap();
    // Half an answer.
    peer.request(3, true, &[]).unwrap();
    peer.links[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf");
    peer.links.clear();
    assert_eq!(peer.resets(), [(3, ErrorCode::Internal as u32)]);
    // An answer that ends with its connection.
    peer.request(5, true, &[]).unwrap();
    peer.links[0].write(b"HTTP/1.1 200 OK\r\n\r\nall");
    peer.links.clear();
    let answers = peer.answers();
    let last = answers.last().unwrap();
    assert_eq!((last.0, last.1, last.3.as_slice()), (kind::DATA, flag::END_STREAM, &b"all"[..]));
    // The same, cut.
    peer.request(7, true, &[]).unwrap();
    peer.links[0].write(b"HTTP/1.1 200 OK\r\n\r\nhalf");
    peer.links[0].reset_on_close();
    peer.links.clear();
    assert_eq!(peer.resets(), [(7, ErrorCode::Internal as u32)]);
    assert_eq!(peer.mux.stream_count(), 0);
}

#[test]
fn websockets_are_tunnelled() {
    let mut peer = Peer::new();
    peer.request(
        1,
        false,
        &[(":method", "CONNECT"), (":protocol", "websocket"), ("sec-websocket-version", "13")],
    )
    .unwrap();
    let text = peer.text(0);
    assert!(
        text.starts_with("GET / HTTP/1.1\r\n") && text.contains("upgrade: websocket\r\nsec-websocket-key: "),
        "{text}"
    );
    peer.links[0].write(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nframe");
    let answers = peer.answers();
    let mut fields = Vec::new();
    Decoder::default()
        .decode(&answers[0].3, |n, v| fields.push(format!("{}={}", n.escape_ascii(), v.escape_ascii())))
        .unwrap();
    assert_eq!(fields, [":status=200"]);
    assert_eq!(answers[1].3, b"frame");
    peer.frame(kind::DATA, 0, 1, b"back").unwrap();
    assert_eq!(peer.text(0), "back");
    // A client may have nothing to say in it.
    peer.request(5, true, &[(":method", "CONNECT"), (":protocol", "chat")]).unwrap();
    assert!(peer.text(1).contains("upgrade: chat\r\n"), "a tunnel");
    peer.links[1].write(b"HTTP/1.1 101 Switching\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\nhello");
    assert_eq!(peer.answers().last().unwrap().3, b"hello");
    peer.request(7, false, &[(":method", "CONNECT"), (":protocol", "h2c")]).unwrap();
    assert_eq!(peer.resets(), [(7, ErrorCode::Protocol as u32)]);
}

#[test]
fn a_connection_that_ends_leaves_no_memory_behind() {
    let memory = Rc::new(MemoryBudget::default());
    let mut mux = Mux::new(Role::Client, memory.clone(), false, 1);
    let links: Vec<_> = (0..5).map(|_| mux.open()).collect();
    for link in &links {
        link.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert!(memory.used() > 0);
    drop(mux);
    links[0].write(b"late");
    drop(links);
    assert_eq!(memory.used(), 0);
    assert_eq!(Rc::strong_count(&memory), 1, "nobody else holds a stream");
}

#[test]
fn both_ends_understand_each_other() {
    let mut client = Mux::new(Role::Client, Default::default(), true, 1);
    let mut server = Mux::new(Role::Server, Default::default(), true, 2);
    let asks: Vec<_> = (0..20).map(|_| client.open()).collect();
    for (n, link) in asks.iter().enumerate() {
        let body = "x".repeat(n * 1000);
        let text = format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len().max(1)).replace("\r\n1\r\n\r\n0", "\r\n0");
        assert_eq!(link.write(text.as_bytes()), StreamIo::Done(text.len()));
    }
    let mut serving: Vec<(StreamHandle, Vec<u8>)> = Vec::new();
    let mut got: Vec<Vec<u8>> = vec![Vec::new(); asks.len()];
    let mut buffer = vec![0; 65_536];
    for _ in 0..200 {
        client.produce(0);
        let taken = server.receive(&client.out, 0).unwrap();
        client.out.drain(..taken);
        serving.extend(server.opened.drain(..).map(|o| (o.accept(), Vec::new())));
        for (link, seen) in &mut serving {
            while let StreamIo::Done(count) = link.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
                if seen.ends_with(b"0\r\n\r\n") {
                    link.write(
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
                            seen.len(),
                            "y".repeat(seen.len())
                        )
                        .as_bytes(),
                    );
                }
            }
        }
        server.produce(0);
        let taken = client.receive(&server.out, 0).unwrap();
        server.out.drain(..taken);
        for (link, seen) in asks.iter().zip(&mut got) {
            while let StreamIo::Done(count) = link.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
            }
        }
    }
    assert!(
        serving
            .iter()
            .all(|(_, seen)| memchr::memmem::find(seen, b"content-type: application/grpc").is_some())
    );
    for (n, seen) in got.iter().enumerate() {
        let text = String::from_utf8_lossy(seen);
        let length: usize =
            text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with(&"y".repeat(length)),
            "{n}: {}",
            &text[..100]
        );
        assert!(length > n * 1000);
    }
    assert_eq!((client.stream_count(), server.stream_count()), (0, 0));
}

proptest! {
    #[test]
    fn noise_ends_connections_and_nothing_else(frames in proptest::collection::vec((0u8..11, any::<u8>(), 0u32..8, proptest::collection::vec(any::<u8>(), 0..64)), 0..60)) {
        let mut peer = Peer::new();
        for (kind, flags, stream, payload) in frames {
            if peer.frame(kind, flags, stream, &payload).is_err() {
                break;
            }
            peer.mux.produce(0);
            if stream == 3 {
                peer.links.clear();
            }
        }
        peer.mux.fail(ErrorCode::NoError);
    }
}
