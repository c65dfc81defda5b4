//! What sessions write: heads and bodies become frames, within the peer's windows.

use std::rc::Rc;

use super::{
    CONNECTION_WINDOW, LINGER_MS, Mux, OUT_AT_MOST, Receiving, Role, STALL_MS, STREAM_WINDOW, Sending,
    USEFUL_DATA,
};
use crate::h2::dechunk::{Dechunk, Piece};
use crate::h2::frame::{self, Code, PAYLOAD_AT_MOST, flag, kind};
use crate::h2::stream::Stream;
use crate::h2::text::{self, Following};
use crate::h2::upgrade::{Switch, is_websocket, requested_protocol, websocket_accept};

/// Control frames that go with a piece of data: a window update of the stream, one of the connection,
/// a ping that measures the bandwidth.
const FRAMES_A_PIECE: u32 = 3;
/// Bytes whose window updates are free, however late they come.
const UNPAID_AT_MOST: u64 = 1 << 32;

impl Mux {
    /// Turns what sessions have written into frames, until there is enough to send; streams take
    /// turns.
    pub fn produce(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        while let Some((_, id)) = self.lingering.front().copied().filter(|(until_ms, _)| *until_ms <= now_ms)
        {
            self.lingering.pop_front();
            if self.streams.contains_key(&id) {
                self.reset(id, Code::NoError);
                self.finish(id);
            }
        }
        self.end_stalled(now_ms);
        while self.out.len() < OUT_AT_MOST {
            let Some(stream) = self.queue.pop_ready() else { break };
            self.serve(&stream);
        }
        self.grant();
    }

    /// When something is to be done although nothing happens.
    pub fn deadline_ms(&self) -> Option<u64> {
        let lingering = self.lingering.front().map(|(until_ms, _)| *until_ms);
        lingering.into_iter().chain(self.stalled.front().map(|(until_ms, ..)| *until_ms)).min()
    }

    /// Ends answers that a peer has not made room for.
    fn end_stalled(&mut self, now_ms: u64) {
        while let Some((_, id, sent)) =
            self.stalled.front().copied().filter(|(until_ms, ..)| *until_ms <= now_ms)
        {
            self.stalled.pop_front();
            let Some(entry) = self.streams.get_mut(&id) else { continue };
            if entry.sent > sent {
                self.stalled.push_back((now_ms + STALL_MS, id, entry.sent));
            } else {
                self.reset(id, Code::Cancel);
                self.remove(id, |_| {});
            }
        }
    }

    pub(super) fn serve(&mut self, stream: &Rc<Stream>) {
        let id = stream.id;
        self.credit(stream);
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if stream.is_cut() && stream.session_has_ended() {
            // What this side has begun and cannot end.
            let code = if self.role == Role::Client { Code::Cancel } else { Code::Internal };
            self.reset(id, code);
            self.remove(id, |_| {});
            return;
        }
        if entry.sending == Sending::Head && !self.send_head(stream) {
            return self.after(stream);
        }
        self.send_body(stream);
        self.after(stream);
    }

    /// A session that is gone leaves a stream that is not over.
    pub(super) fn after(&mut self, stream: &Rc<Stream>) {
        let id = stream.id;
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if !stream.session_has_ended() {
            return;
        }
        let pending = stream.has_outbound();
        let code = match (entry.sending, self.role) {
            // A reset at once could overtake the answer in clients that still send.
            (Sending::Done, Role::Server) => {
                if !self.lingering.iter().any(|(_, other)| *other == id) {
                    self.lingering.push_back((self.now_ms + LINGER_MS, id));
                }
                return;
            }
            (Sending::Done, Role::Client) => Code::Cancel,
            // The rest waits for the peer's window.
            (Sending::Length(_) | Sending::Chunks(_) | Sending::Raw, _) if pending => {
                if !std::mem::replace(&mut entry.stalled, true) {
                    self.stalled.push_back((self.now_ms + STALL_MS, id, entry.sent));
                }
                return;
            }
            (_, Role::Server) => Code::Internal,
            (_, Role::Client) => Code::Cancel,
        };
        self.reset(id, code);
        self.remove(id, |_| {});
    }

    /// Encodes the head, once it is there as a whole; whether the body can follow.
    pub(super) fn send_head(&mut self, stream: &Rc<Stream>) -> bool {
        let id = stream.id;
        loop {
            let mut block = std::mem::take(&mut self.head);
            block.clear();
            let (role, scheme) = (self.role, self.scheme);
            // What the server takes is known once its settings are there.
            let connects = self.settings_came.then_some(self.peer_connects);
            let (request, response) = (&mut self.request, &mut self.response);
            let Some(entry) = self.streams.get_mut(&id) else { return false };
            let found = stream.collect(|bytes, _| match role {
                Role::Server => match response.parse(bytes, entry.method) {
                    Ok(true) => {
                        let following = text::response_to_block(response, bytes, entry.tunnel, &mut block);
                        (response.head_len, Ok(Some((following, response.is_interim()))))
                    }
                    Ok(false) => (0, Ok(None)),
                    Err(_) => (0, Err(())),
                },
                Role::Client => match request.parse(bytes) {
                    Ok(true) => {
                        let protocol = requested_protocol(request, bytes);
                        let tunnel = protocol.is_some();
                        match connects {
                            None if tunnel => return (0, Ok(None)),
                            Some(false) if tunnel => return (0, Err(())),
                            _ => {}
                        }
                        entry.method = request.method;
                        entry.tunnel = tunnel;
                        entry.switch = protocol.map(|protocol| Switch {
                            protocol: protocol.to_vec(),
                            accept: is_websocket(protocol).then(|| websocket_accept(request, bytes)),
                        });
                        (
                            request.head_len,
                            Ok(Some((
                                text::request_to_block(request, bytes, scheme, protocol, &mut block),
                                false,
                            ))),
                        )
                    }
                    Ok(false) => (0, Ok(None)),
                    Err(_) => (0, Err(())),
                },
            });
            let sent = match found {
                Ok(None) => None,
                Err(()) => {
                    self.reset(id, Code::Internal);
                    self.remove(id, |stream| stream.break_off(false));
                    None
                }
                Ok(Some((following, interim))) => {
                    let ends = following == Following::Nothing && !interim;
                    frame::write_headers(id, ends, &block, &mut self.out);
                    if !interim {
                        entry.sending = match following {
                            Following::Nothing => Sending::Done,
                            Following::Length(length) => Sending::Length(length),
                            Following::Chunks => Sending::Chunks(Dechunk::default()),
                            Following::Raw => Sending::Raw,
                        };
                    }
                    Some((interim, ends))
                }
            };
            self.head = block;
            match sent {
                None => return false,
                Some((true, _)) => {}
                Some((false, true)) => {
                    self.sent_all(id);
                    return false;
                }
                Some((false, false)) => return true,
            }
        }
    }

    pub(super) fn send_body(&mut self, stream: &Rc<Stream>) {
        let id = stream.id;
        let Some(entry) = self.streams.get_mut(&id) else { return };
        let window = entry.send_window.min(self.send_window).clamp(0, PAYLOAD_AT_MOST as i64) as usize;
        let out = &mut self.out;
        let mut trailers = None;
        let mut sent = 0;
        let mut data = |bytes: &[u8], ends: bool| {
            sent += bytes.len() as i64;
            frame::write(kind::DATA, if ends { flag::END_STREAM } else { 0 }, id, bytes, out);
        };
        let sending = entry.sending;
        let (next, more) = stream.collect(|bytes, ended| match sending {
            Sending::Length(left) => {
                let count = (left.min(bytes.len() as u64) as usize).min(window);
                let rest = left - count as u64;
                if count > 0 {
                    data(&bytes[..count], rest == 0);
                }
                let more = count < bytes.len() && rest > 0;
                (count, (if rest == 0 { Sending::Done } else { Sending::Length(rest) }, more))
            }
            Sending::Raw => {
                let count = bytes.len().min(window);
                let all = count == bytes.len();
                if count > 0 || (all && ended) {
                    data(&bytes[..count], all && ended);
                }
                (count, (if all && ended { Sending::Done } else { Sending::Raw }, !all))
            }
            Sending::Chunks(mut state) => {
                let (mut at, mut room) = (0, window);
                loop {
                    let (taken, piece) = state.next(&bytes[at..], room);
                    match piece {
                        Piece::Data(range) => {
                            room -= range.len();
                            data(&bytes[at..][range], false);
                            at += taken;
                        }
                        Piece::End(range) => {
                            let section = &bytes[at..][range];
                            trailers = Some(section.to_vec());
                            at += taken;
                            break (at, (Sending::Done, false));
                        }
                        Piece::More => {
                            at += taken;
                            let waits = matches!(state, Dechunk::Data(_)) && room == 0 && at < bytes.len();
                            break (at, (Sending::Chunks(state), waits));
                        }
                        // A session does not write such a thing; should it, the stream is cut.
                        Piece::Wrong => break (bytes.len(), (Sending::Raw, false)),
                    }
                }
            }
            other => (0, (other, false)),
        });
        entry.sending = next;
        entry.send_window -= sent;
        self.send_window -= sent;
        let bytes = sent.unsigned_abs();
        entry.sent += bytes;
        if bytes > 0 {
            self.unpaid = (self.unpaid + 2 * bytes).min(UNPAID_AT_MOST);
            // What the window cut into small pieces is no reason to answer.
            if !more || bytes >= USEFUL_DATA as u64 {
                self.control_budget.give_back(FRAMES_A_PIECE);
            }
        }
        if let Some(section) = trailers {
            let mut block = Vec::new();
            text::trailers_to_block(&section, &mut block);
            match block.is_empty() {
                true => frame::write(kind::DATA, flag::END_STREAM, id, &[], &mut self.out),
                false => frame::write_headers(id, true, &block, &mut self.out),
            }
        }
        if next == Sending::Done {
            self.sent_all(id);
        } else if more {
            if self.send_window <= 0 {
                if let Some(entry) = self.streams.get_mut(&id).filter(|entry| !entry.starved) {
                    entry.starved = true;
                    self.starved.push(id);
                }
            } else if entry.send_window > 0 {
                stream.mark_ready();
            }
        }
    }

    pub(super) fn sent_all(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.sending = Sending::Done;
        if entry.receiving == Receiving::Done {
            self.finish(id);
        }
    }

    /// What a session has read, the peer may send again.
    pub(super) fn credit(&mut self, stream: &Rc<Stream>) {
        let consumed = stream.take_read();
        let Some(entry) = self.streams.get_mut(&stream.id) else { return };
        let read = if stream.is_drained() { entry.held } else { consumed.min(entry.held) };
        entry.held -= read;
        entry.granted += read;
        self.granted += read;
        let wanted = !matches!(entry.receiving, Receiving::Done) && !stream.session_has_ended();
        if entry.granted >= STREAM_WINDOW / 2 && wanted {
            frame::write_window_update(stream.id, entry.granted as u32, &mut self.out);
            entry.receive_window += entry.granted as i64;
            entry.granted = 0;
        }
    }

    pub(super) fn grant(&mut self) {
        if self.granted >= CONNECTION_WINDOW / 2 {
            frame::write_window_update(0, self.granted as u32, &mut self.out);
            self.receive_window += self.granted as i64;
            self.granted = 0;
        }
    }
}
