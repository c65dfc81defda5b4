//! A peer of the engine under test: it writes frames, reads frames, and lets simple sessions answer.

use std::rc::Rc;

use evenkeel_http::h2::frame::{self, ErrorCode, FrameHeader, flag, kind};
use evenkeel_http::h2::hpack::{Decoder, encode};
use evenkeel_http::h2::{ConnectionError, Mux, Role, StreamHandle, StreamIo};
use evenkeel_http::memory::MemoryBudget;

/// A frame that the engine sent.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()))
    }
}

/// A frame in bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(kind, flags, stream, payload, &mut out);
    out
}

/// A header block of literal fields.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| encode(name.as_bytes(), value.as_bytes(), &mut out));
    out
}

/// The block of a plain request, with more fields behind.
pub fn request_block(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];
    block(&[&usual[..], more].concat())
}

/// A whole GET request.
pub fn get(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &request_block("GET", &[]))
}

/// The head of a POST request whose body follows.
pub fn post(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &request_block("POST", &[]))
}

pub fn data(stream: u32, ends: bool, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, if ends { flag::END_STREAM } else { 0 }, stream, bytes)
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_settings(pairs, &mut out);
    out
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// An engine with its sessions, each of which reads its request to the end and then answers.
pub struct Engine {
    pub mux: Mux,
    pub memory: Rc<MemoryBudget>,
    pub sessions: Vec<StreamHandle>,
    pub now_ms: u64,
    /// Accepts new streams in one of so many calls.
    pub accepts_one_in: usize,
    calls: usize,
    /// Bytes of the peer that the engine has not taken.
    pending: Vec<u8>,
}

impl Engine {
    pub fn new(role: Role, memory: usize) -> Engine {
        let memory = Rc::new(MemoryBudget::new(memory));
        let mux = Mux::new(role, memory.clone(), false, 7);
        Engine {
            mux,
            memory,
            sessions: Vec::new(),
            now_ms: 0,
            accepts_one_in: 1,
            calls: 0,
            pending: Vec::new(),
        }
    }

    /// Gives the engine bytes, as its driver would: on an error the connection says why and ends.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.pending.extend_from_slice(bytes);
        let result = self.mux.receive(&self.pending, self.now_ms);
        match &result {
            Ok(taken) => drop(self.pending.drain(..*taken)),
            Err(fatal) => self.mux.fail(fatal.0),
        }
        self.calls += 1;
        if self.calls.is_multiple_of(self.accepts_one_in) {
            self.mux.rejected.clear();
            let opened = self.mux.opened.drain(..);
            self.sessions.extend(opened.map(|opened| opened.accept()));
        }
        while self.mux.next_wake().is_some() {}
        result.map(|_| ())
    }

    /// Bytes of the peer that the engine has not taken.
    pub fn input_len(&self) -> usize {
        self.pending.len()
    }

    /// Sessions whose request has ended answer, and end.
    pub fn answer(&mut self) {
        let mut buffer = [0; 4096];
        self.sessions.retain(|session| {
            loop {
                match session.read(&mut buffer) {
                    StreamIo::Done(_) => {}
                    StreamIo::Blocked => return true,
                    StreamIo::Reset => return false,
                    StreamIo::End => break,
                }
            }
            session.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            false
        });
    }

    /// The frames that the engine has for its peer.
    pub fn frames(&mut self) -> Vec<Frame> {
        self.mux.produce(self.now_ms);
        while self.mux.next_wake().is_some() {}
        let out = std::mem::take(&mut self.mux.out);
        let mut bytes = out.as_slice();
        if let Some(rest) = bytes.strip_prefix(frame::PREFACE) {
            bytes = rest;
        }
        let mut all = Vec::new();
        while let Some(head) = FrameHeader::parse(bytes) {
            let (payload, rest) = bytes[frame::HEADER..].split_at(head.length);
            all.push(Frame {
                kind: head.kind,
                flags: head.flags,
                stream: head.stream,
                payload: payload.to_vec(),
            });
            bytes = rest;
        }
        assert!(bytes.is_empty(), "whole frames are written");
        all
    }
}

/// The status that a HEADERS frame carries.
pub fn status(frame: &Frame) -> Option<String> {
    let mut status = None;
    let decoded = Decoder::default().decode(&frame.payload, |name, value| {
        if name == b":status" {
            status = Some(String::from_utf8_lossy(value).into_owned());
        }
    });
    decoded.ok().and(status)
}

/// The code of an error, by its number.
pub fn number(code: ErrorCode) -> u32 {
    code as u32
}
