//! What sessions write: heads and bodies become frames, within the peer's windows.

use std::rc::Rc;

use super::{
    BLOCK_AT_MOST, CONNECTION_WINDOW, LINGER_MS, LISTED_AT_MOST, Mux, OUT_AT_MOST, Receiving, Role, STALL_MS,
    STREAM_WINDOW, Sending, TableUpdate, USEFUL_DATA,
};
use crate::h2::dechunk::{Dechunk, Piece};
use crate::h2::frame::{self, ErrorCode, PAYLOAD_AT_MOST, flag, kind};
use crate::h2::hpack;
use crate::h2::stream::{NOT_SENT, Stream};
use crate::h2::text::{self, BodyFraming};
use crate::h2::upgrade::{Switch, is_websocket, requested_protocol, websocket_accept};

/// Control frames that go with a piece of data: a window update of the stream, one of the connection,
/// a ping that measures the bandwidth.
const FRAMES_A_PIECE: u32 = 3;
/// Bytes whose window updates are free, however late they come.
const UNCREDITED_AT_MOST: u64 = 1 << 32;

impl Mux {
    /// Turns what sessions have written into frames, until there is enough to send; streams take
    /// turns.
    pub fn produce(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.settle_at_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            self.settle();
        }
        while let Some((_, id)) = self.lingering.front().copied().filter(|(until_ms, _)| *until_ms <= now_ms)
        {
            self.lingering.pop_front();
            self.steps += 1;
            if self.streams.contains_key(&id) {
                self.reset(id, ErrorCode::NoError);
                self.finish(id);
            }
        }
        while let Some((_, id)) = self.answered.front().copied().filter(|(until_ms, _)| *until_ms <= now_ms) {
            self.answered.pop_front();
            self.steps += 1;
            self.reset(id, ErrorCode::NoError);
        }
        self.end_stalled(now_ms);
        while self.out.len() < OUT_AT_MOST {
            let Some(stream) = self.queue.pop_ready() else { break };
            self.steps += 1;
            self.serve(&stream);
        }
        self.grant();
    }

    /// When [`Self::produce`] has something to do although nothing else happens.
    pub fn deadline_ms(&self) -> Option<u64> {
        let lingering = self.lingering.front().map(|(until_ms, _)| *until_ms);
        let answered = self.answered.front().map(|(until_ms, _)| *until_ms);
        lingering
            .into_iter()
            .chain(answered)
            .chain(self.stalled.front().map(|(until_ms, ..)| *until_ms))
            .chain(self.settle_at_ms())
            .min()
    }

    /// Ends streams whose session has ended and which the peer has not made room for.
    fn end_stalled(&mut self, now_ms: u64) {
        while let Some((_, id, sent)) =
            self.stalled.front().copied().filter(|(until_ms, ..)| *until_ms <= now_ms)
        {
            self.stalled.pop_front();
            self.steps += 1;
            let Some(entry) = self.streams.get_mut(&id) else { continue };
            if entry.sent > sent {
                self.stalled.push_back((now_ms + STALL_MS, id, entry.sent));
            } else {
                self.reset(id, ErrorCode::Cancel);
                self.remove(id, |_| {});
            }
        }
    }

    fn serve(&mut self, stream: &Rc<Stream>) {
        let id = stream.id();
        self.credit(stream);
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if stream.is_cut() && stream.session_has_ended() {
            // The message was cut short, and the peer has to know.
            let code = if self.role == Role::Client { ErrorCode::Cancel } else { ErrorCode::Internal };
            self.reset(id, code);
            self.remove(id, |_| {});
            return;
        }
        if entry.sending == Sending::Head && !self.send_head(stream) {
            return self.end_after_session(stream);
        }
        self.send_body(stream);
        self.end_after_session(stream);
    }

    /// Removes entries of streams that are over from lists that have become long. At most half of a list is
    /// left, so that the next time is as many entries away.
    fn prune_lists(&mut self) {
        let streams = &self.streams;
        if self.lingering.len() > LISTED_AT_MOST {
            self.steps += self.lingering.len() as u64;
            self.lingering.retain(|(_, id)| streams.contains_key(id));
        }
        if self.stalled.len() > LISTED_AT_MOST {
            self.steps += self.stalled.len() as u64;
            self.stalled.retain(|(_, id, _)| streams.contains_key(id));
        }
    }

    /// Ends the stream of a session that has ended, at once or when its data is sent.
    fn end_after_session(&mut self, stream: &Rc<Stream>) {
        let id = stream.id();
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if !stream.session_has_ended() {
            return;
        }
        let pending = stream.has_outbound();
        let code = match (entry.sending, self.role) {
            // The client still sends; see LINGER_MS.
            (Sending::Done, Role::Server) => {
                if !std::mem::replace(&mut entry.lingers, true) {
                    self.lingering.push_back((self.now_ms + LINGER_MS, id));
                    self.prune_lists();
                }
                return;
            }
            (Sending::Done, Role::Client) => ErrorCode::Cancel,
            // The rest waits for the peer's window.
            (Sending::Length(_) | Sending::Chunks(_) | Sending::Raw, _) if pending => {
                if !std::mem::replace(&mut entry.stalled, true) {
                    self.stalled.push_back((self.now_ms + STALL_MS, id, entry.sent));
                    self.prune_lists();
                }
                return;
            }
            (_, Role::Server) => ErrorCode::Internal,
            (_, Role::Client) => ErrorCode::Cancel,
        };
        self.reset(id, code);
        self.remove(id, |_| {});
    }

    /// Sends heads that are there as a whole: interim ones, and the one that the body follows. Whether
    /// that one has been sent and a body follows it.
    fn send_head(&mut self, stream: &Rc<Stream>) -> bool {
        loop {
            let mut block = std::mem::take(&mut self.head);
            block.clear();
            self.begin_block(&mut block);
            let encoded = match self.role {
                Role::Server => self.encode_response(stream, &mut block),
                Role::Client => self.encode_request(stream, &mut block),
            };
            let written = encoded.map(|head| head.map(|head| self.write_head(stream, head, &block)));
            if block.capacity() <= BLOCK_AT_MOST {
                self.head = block;
            }
            match written {
                Ok(None) => {
                    stream.make_room_for_head();
                    return false;
                }
                Ok(Some(Written::Interim)) => {}
                Ok(Some(Written::BodyFollows)) => return true,
                Ok(Some(Written::Whole)) => {
                    self.sent_all(stream.id());
                    return false;
                }
                Err(Unsendable) => {
                    self.reset(stream.id(), ErrorCode::Internal);
                    self.remove(stream.id(), |stream| stream.break_off(false));
                    return false;
                }
            }
        }
    }

    /// Encodes an answer's head; `None` while it is not there as a whole.
    fn encode_response(
        &mut self,
        stream: &Stream,
        block: &mut Vec<u8>,
    ) -> Result<Option<EncodedHead>, Unsendable> {
        let Some(entry) = self.streams.get_mut(&stream.id()) else { return Ok(None) };
        let response = &mut self.response;
        stream.collect(|bytes, _| match response.parse(bytes, entry.method) {
            Ok(true) => {
                let following = text::response_to_block(response, bytes, entry.tunnel, block);
                let interim = response.is_interim();
                (response.head_len, Ok(Some(EncodedHead { following, interim })))
            }
            Ok(false) => (0, Ok(None)),
            Err(_) => (0, Err(Unsendable)),
        })
    }

    /// Encodes a request's head; `None` while it is not there as a whole, or asks for a tunnel and the
    /// server has not said yet whether it makes any.
    fn encode_request(
        &mut self,
        stream: &Stream,
        block: &mut Vec<u8>,
    ) -> Result<Option<EncodedHead>, Unsendable> {
        let connects = self.settings_came.then_some(self.peer_connects);
        let Some(entry) = self.streams.get_mut(&stream.id()) else { return Ok(None) };
        let (request, scheme) = (&mut self.request, self.scheme);
        stream.collect(|bytes, _| {
            match request.parse(bytes) {
                Ok(true) => {}
                Ok(false) => return (0, Ok(None)),
                Err(_) => return (0, Err(Unsendable)),
            }
            let protocol = requested_protocol(request, bytes);
            match (protocol, connects) {
                (Some(_), None) => return (0, Ok(None)),
                (Some(_), Some(false)) => return (0, Err(Unsendable)),
                _ => {}
            }
            entry.method = request.method;
            entry.tunnel = protocol.is_some();
            entry.switch = protocol.map(|protocol| Switch {
                protocol: protocol.to_vec(),
                accept: is_websocket(protocol).then(|| websocket_accept(request, bytes)),
            });
            let following = text::request_to_block(request, bytes, scheme, protocol, block);
            (request.head_len, Ok(Some(EncodedHead { following, interim: false })))
        })
    }

    /// Begins an empty header block; [`Self::write_block`] sends it.
    pub(super) fn begin_block(&self, block: &mut Vec<u8>) {
        if self.table_update == TableUpdate::Due {
            hpack::encode_table_size(0, block);
        }
    }

    pub(super) fn write_block(&mut self, stream: u32, ends: bool, block: &[u8]) {
        if self.table_update == TableUpdate::Due {
            self.table_update = TableUpdate::Sent;
        }
        frame::write_headers(stream, ends, block, &mut self.out);
    }

    fn write_head(&mut self, stream: &Stream, head: EncodedHead, block: &[u8]) -> Written {
        self.give_number(stream);
        let ends = head.following == BodyFraming::Empty && !head.interim;
        self.write_block(stream.id(), ends, block);
        if head.interim {
            return Written::Interim;
        }
        if let Some(entry) = self.streams.get_mut(&stream.id()) {
            entry.sending = match head.following {
                BodyFraming::Empty => Sending::Done,
                BodyFraming::Length(length) => Sending::Length(length),
                BodyFraming::Chunked => Sending::Chunks(Dechunk::default()),
                BodyFraming::Raw => Sending::Raw,
            };
        }
        if ends { Written::Whole } else { Written::BodyFollows }
    }

    /// Numbers a stream that this side opened. That is done when its head is sent, not when it is opened:
    /// on the wire numbers must grow (section 5.1.1), and sessions send their heads in any order.
    fn give_number(&mut self, stream: &Stream) {
        if stream.id() & NOT_SENT == 0 {
            return;
        }
        let Some(entry) = self.streams.remove(&stream.id()) else { return };
        stream.set_id(self.next_stream);
        self.streams.insert(self.next_stream, entry);
        self.next_stream += 2;
    }

    /// Sends what the windows allow of a body.
    fn send_body(&mut self, stream: &Rc<Stream>) {
        let id = stream.id();
        let Some(entry) = self.streams.get_mut(&id) else { return };
        let window = entry.send_window.min(self.send_window).clamp(0, PAYLOAD_AT_MOST as i64) as usize;
        let mut writer =
            DataWriter { stream: id, out: &mut self.out, sent: 0, trailers: None, malformed: false };
        let sending = entry.sending;
        let (next, more) = stream.collect(|bytes, ended| writer.write(sending, bytes, ended, window));
        let DataWriter { sent, trailers, malformed, .. } = writer;
        entry.sending = next;
        entry.send_window -= sent as i64;
        self.send_window -= sent as i64;
        entry.sent += sent as u64;
        self.count_sent(sent, more);
        if malformed {
            // Nothing that follows would make a whole message of it.
            self.reset(id, ErrorCode::Internal);
            self.remove(id, |stream| stream.break_off(false));
            return;
        }
        if let Some(section) = trailers {
            let mut block = Vec::new();
            self.begin_block(&mut block);
            let start = block.len();
            text::trailers_to_block(&section, &mut block);
            match block.len() == start {
                true => frame::write(kind::DATA, flag::END_STREAM, id, &[], &mut self.out),
                false => self.write_block(id, true, &block),
            }
        }
        if next == Sending::Done {
            self.sent_all(id);
        } else if more {
            self.wait_for_window(stream);
        }
    }

    /// Lets the peer send the control frames that go with this much data.
    fn count_sent(&mut self, sent: usize, more: bool) {
        if sent == 0 {
            return;
        }
        self.uncredited = (self.uncredited + 2 * sent as u64).min(UNCREDITED_AT_MOST);
        // What the window cut into small pieces is no reason to answer.
        if !more || sent >= USEFUL_DATA {
            self.control_budget.give_back(FRAMES_A_PIECE);
        }
    }

    /// A stream has more to send: it takes its next turn, or waits for a window update.
    fn wait_for_window(&mut self, stream: &Rc<Stream>) {
        let id = stream.id();
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if self.send_window <= 0 {
            if !std::mem::replace(&mut entry.starved, true) {
                self.starved.push(id);
            }
        } else if entry.send_window > 0 {
            stream.mark_ready();
        }
    }

    /// This side has sent END_STREAM.
    fn sent_all(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.sending = Sending::Done;
        if entry.receiving == Receiving::Done {
            self.finish(id);
        }
    }

    /// Gives back to the peer what the session has read, a good part of the window at a time.
    fn credit(&mut self, stream: &Rc<Stream>) {
        let consumed = stream.take_read();
        let Some(entry) = self.streams.get_mut(&stream.id()) else { return };
        let read = if stream.is_drained() { entry.held } else { consumed.min(entry.held) };
        entry.held -= read;
        entry.granted += read;
        self.granted += read;
        let wanted = !matches!(entry.receiving, Receiving::Done) && !stream.session_has_ended();
        if entry.granted >= STREAM_WINDOW / 2 && wanted {
            frame::write_window_update(stream.id(), entry.granted as u32, &mut self.out);
            entry.receive_window += entry.granted as i64;
            entry.granted = 0;
        }
    }

    /// Gives back to the peer what all sessions have read, for the connection's window.
    pub(super) fn grant(&mut self) {
        if self.granted >= CONNECTION_WINDOW / 2 {
            frame::write_window_update(0, self.granted as u32, &mut self.out);
            self.receive_window += self.granted as i64;
            self.granted = 0;
        }
    }
}

/// A head in a header block, and what follows it.
struct EncodedHead {
    following: BodyFraming,
    interim: bool,
}

enum Written {
    Interim,
    /// No body follows.
    Whole,
    BodyFollows,
}

/// What a session wrote cannot be said to this peer.
struct Unsendable;

/// Writes the DATA frames of one stream's turn.
struct DataWriter<'a> {
    stream: u32,
    out: &'a mut Vec<u8>,
    /// Bytes that count for the windows.
    sent: usize,
    /// The lines behind the last chunk, once it is there.
    trailers: Option<Vec<u8>>,
    /// The session's chunks cannot be read.
    malformed: bool,
}

impl DataWriter<'_> {
    fn data(&mut self, bytes: &[u8], ends: bool) {
        self.sent += bytes.len();
        let flags = if ends { flag::END_STREAM } else { 0 };
        frame::write(kind::DATA, flags, self.stream, bytes, self.out);
    }

    /// Writes at most `window` bytes of a body: how many of the bytes were used, the state after it, and
    /// whether more is there that waits for the window or for another turn.
    fn write(
        &mut self,
        sending: Sending,
        bytes: &[u8],
        ended: bool,
        window: usize,
    ) -> (usize, (Sending, bool)) {
        match sending {
            Sending::Length(left) => {
                let count = (left.min(bytes.len() as u64) as usize).min(window);
                let rest = left - count as u64;
                if count > 0 {
                    self.data(&bytes[..count], rest == 0);
                }
                let next = if rest == 0 { Sending::Done } else { Sending::Length(rest) };
                (count, (next, count < bytes.len() && rest > 0))
            }
            Sending::Raw => {
                let count = bytes.len().min(window);
                let all = count == bytes.len();
                if count > 0 || (all && ended) {
                    self.data(&bytes[..count], all && ended);
                }
                (count, (if all && ended { Sending::Done } else { Sending::Raw }, !all))
            }
            Sending::Chunks(state) => self.write_chunks(state, bytes, window),
            Sending::Head | Sending::Done => (0, (sending, false)),
        }
    }

    /// Takes the chunks off.
    fn write_chunks(&mut self, mut state: Dechunk, bytes: &[u8], window: usize) -> (usize, (Sending, bool)) {
        let (mut at, mut room) = (0, window);
        loop {
            let (taken, piece) = state.next(&bytes[at..], room);
            let start = at;
            at += taken;
            match piece {
                Piece::Data(range) => {
                    room -= range.len();
                    self.data(&bytes[start..][range], false);
                }
                Piece::End(range) => {
                    self.trailers = Some(bytes[start..][range].to_vec());
                    return (at, (Sending::Done, false));
                }
                Piece::More => {
                    let waits = matches!(state, Dechunk::Data(_)) && room == 0 && at < bytes.len();
                    return (at, (Sending::Chunks(state), waits));
                }
                Piece::Malformed => {
                    self.malformed = true;
                    return (bytes.len(), (Sending::Done, false));
                }
            }
        }
    }
}
