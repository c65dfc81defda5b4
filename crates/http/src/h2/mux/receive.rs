//! What the peer sends: frames of the connection and of its streams.

use std::io::Write;

use super::{
    BLOCK_AT_MOST, Block, CONNECTION_WINDOW, CONTINUATIONS_AT_MOST, FRAGMENT_AT_LEAST, FRAMES_A_REQUEST,
    GOODBYE, Handled, LINGER_MS, Mux, Opened, RESETS_REMEMBERED, Receiving, Role, SESSIONS_AT_MOST,
    STREAM_WINDOW, STREAMS_AT_MOST, Sending, TableUpdate, USEFUL_DATA, WINDOW_LIMIT,
};
use crate::h2::fields::{Fields, LIST_AT_MOST};
use crate::h2::frame::{self, ErrorCode, FrameHeader, flag, kind, setting};
use crate::h2::hpack::{DecodeError, TABLE_SIZE, encode_status};
use crate::h2::stream::{NOT_SENT, Stream};
use crate::h2::text::{self, BodyFraming};

impl Mux {
    pub(super) fn on_settings(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(ErrorCode::Protocol.into());
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(ErrorCode::FrameSize.into()) };
        }
        let (pairs, []) = payload.as_chunks::<6>() else { return Err(ErrorCode::FrameSize.into()) };
        let window_before = self.peer_stream_window;
        let mut widest = window_before;
        for pair in pairs {
            let name = u16::from_be_bytes([pair[0], pair[1]]);
            let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
            self.on_setting(name, value)?;
            widest = widest.max(self.peer_stream_window);
        }
        // Many changes in one frame visit the streams once.
        if widest != window_before || self.peer_stream_window != window_before {
            self.change_stream_windows(self.peer_stream_window - window_before, widest - window_before)?;
        }
        if !std::mem::replace(&mut self.settings_came, true) {
            // Some wait to know whether the peer makes tunnels.
            self.streams.values().for_each(|entry| entry.stream.mark_ready());
        }
        frame::write(kind::SETTINGS, flag::ACK, 0, &[], &mut self.out);
        if self.role == Role::Client && !self.window_widened {
            self.widen_window();
        }
        Ok(())
    }

    /// Gives the peer all of the connection's window.
    fn widen_window(&mut self) {
        self.window_widened = true;
        let more = CONNECTION_WINDOW - STREAM_WINDOW;
        frame::write_window_update(0, more as u32, &mut self.out);
        self.receive_window += more as i64;
    }

    fn on_setting(&mut self, name: u16, value: u32) -> Handled {
        match name {
            setting::INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_LIMIT => {
                return Err(ErrorCode::FlowControl.into());
            }
            setting::INITIAL_WINDOW_SIZE => self.peer_stream_window = i64::from(value),
            setting::MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                return Err(ErrorCode::Protocol.into());
            }
            // A server must not announce pushes of a client (section 6.5.2).
            setting::ENABLE_PUSH if value > u32::from(self.role == Role::Server) => {
                return Err(ErrorCode::Protocol.into());
            }
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return Err(ErrorCode::Protocol.into());
            }
            // Once allowed it stays allowed (RFC 8441 section 3).
            setting::ENABLE_CONNECT_PROTOCOL if value == 0 && self.peer_connects => {
                return Err(ErrorCode::Protocol.into());
            }
            setting::ENABLE_CONNECT_PROTOCOL => self.peer_connects = value == 1,
            setting::HEADER_TABLE_SIZE => self.shrink_header_table(value),
            setting::MAX_CONCURRENT_STREAMS => self.peer_streams = value as usize,
            _ => {}
        }
        Ok(())
    }

    /// Changes the send windows of all streams. `most` is the largest change on the way there, which may
    /// not take a window above its limit either (section 6.9.2).
    fn change_stream_windows(&mut self, change: i64, most: i64) -> Handled {
        self.steps += self.streams.len() as u64;
        for entry in self.streams.values_mut() {
            if entry.send_window + most > WINDOW_LIMIT {
                return Err(ErrorCode::FlowControl.into());
            }
            entry.send_window += change;
            entry.stream.mark_ready();
        }
        Ok(())
    }

    /// This side never adds to its header table, but a smaller table must be confirmed in the next block
    /// (RFC 7541 section 4.2). It is given up altogether: nothing is left to shrink again.
    fn shrink_header_table(&mut self, size: u32) {
        if self.table_update == TableUpdate::NotNeeded && (size as usize) < TABLE_SIZE {
            self.table_update = TableUpdate::Due;
        }
    }

    pub(super) fn on_ping(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        match (head.stream, payload.len()) {
            (0, 8) => {}
            (0, _) => return Err(ErrorCode::FrameSize.into()),
            _ => return Err(ErrorCode::Protocol.into()),
        }
        if !head.has(flag::ACK) {
            frame::write(kind::PING, flag::ACK, 0, payload, &mut self.out);
        } else if self.retiring_since_ms.is_some() && payload == GOODBYE {
            self.settle();
        }
        Ok(())
    }

    pub(super) fn on_goaway(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        let (Some(last), 0) = (payload.get(..4), head.stream) else {
            return Err(ErrorCode::Protocol.into());
        };
        if payload.len() < 8 {
            return Err(ErrorCode::FrameSize.into());
        }
        self.goaway_came = true;
        if self.role == Role::Client {
            // The server has not begun with later streams: their requests can go elsewhere.
            let last = u32::from_be_bytes([last[0] & 0x7f, last[1], last[2], last[3]]);
            let lost: Vec<u32> = self.streams.keys().copied().filter(|id| *id > last).collect();
            for id in lost {
                self.remove(id, |stream| stream.break_off(true));
            }
        }
        Ok(())
    }

    pub(super) fn on_window_update(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        let bytes: [u8; 4] = payload.try_into().map_err(|_| ErrorCode::FrameSize)?;
        let increment = i64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff);
        if head.stream == 0 {
            return self.widen_connection_window(increment);
        }
        self.check_not_idle(head.stream)?;
        let Some(entry) = self.streams.get_mut(&head.stream) else { return Ok(()) };
        entry.send_window += increment;
        if increment == 0 {
            return self.stream_error(head.stream, ErrorCode::Protocol);
        }
        if entry.send_window > WINDOW_LIMIT {
            return self.stream_error(head.stream, ErrorCode::FlowControl);
        }
        entry.stream.mark_ready();
        Ok(())
    }

    /// Lets the connection send more, and the streams that waited for that.
    fn widen_connection_window(&mut self, increment: i64) -> Handled {
        self.send_window += increment;
        if increment == 0 {
            return Err(ErrorCode::Protocol.into());
        }
        if self.send_window > WINDOW_LIMIT {
            return Err(ErrorCode::FlowControl.into());
        }
        self.steps += self.starved.len() as u64;
        for id in self.starved.drain(..) {
            if let Some(entry) = self.streams.get_mut(&id) {
                entry.starved = false;
                entry.stream.mark_ready();
            }
        }
        Ok(())
    }

    /// Whether a window update gives back what sent DATA frames have used. Such updates are free, unless
    /// they are small: a peer that opens its window byte by byte pays for each update.
    pub(super) fn credits_sent_data(&mut self, payload: &[u8]) -> bool {
        let Ok(bytes) = <[u8; 4]>::try_from(payload) else { return false };
        let increment = u64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff);
        let enough = increment >= USEFUL_DATA as u64 && self.uncredited > 0;
        if enough {
            self.uncredited = self.uncredited.saturating_sub(increment);
        }
        enough
    }

    /// A frame on a stream that nobody has opened ends the connection (section 5.1).
    pub(super) fn check_not_idle(&self, stream: u32) -> Handled {
        let opened = match self.role {
            Role::Server => stream % 2 == 1 && stream <= self.last_opened,
            Role::Client => stream % 2 == 1 && stream < self.next_stream,
        };
        if opened { Ok(()) } else { Err(ErrorCode::Protocol.into()) }
    }

    // Frames of one stream

    pub(super) fn on_reset(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        let bytes: [u8; 4] = payload.try_into().map_err(|_| ErrorCode::FrameSize)?;
        self.check_not_idle(head.stream)?;
        let refused = u32::from_be_bytes(bytes) == ErrorCode::RefusedStream as u32;
        let existed = self.remove(head.stream, |stream| stream.break_off(refused));
        match (existed, self.role) {
            (true, Role::Server) => self.charge_reset(),
            // The reset of a stream that is over does nothing: it counts as a control frame.
            (false, _) => self.charge_control(),
            _ => Ok(()),
        }
    }

    /// Charges the peer for a control frame; an error when its budget is used up.
    pub(super) fn charge_control(&mut self) -> Handled {
        if self.control_budget.charge() { Ok(()) } else { Err(ErrorCode::EnhanceYourCalm.into()) }
    }

    /// Charges the peer for the reset of a stream, whichever side sent it.
    pub(super) fn charge_reset(&mut self) -> Handled {
        if self.reset_budget.charge() { Ok(()) } else { Err(ErrorCode::EnhanceYourCalm.into()) }
    }

    /// Sends a reset and remembers it: frames that the peer has sent already are then ignored (section 5.1).
    pub(super) fn reset(&mut self, stream: u32, code: ErrorCode) {
        if stream & NOT_SENT != 0 {
            // For the peer the stream is idle, and a reset of an idle stream ends the connection.
            return;
        }
        frame::write_reset(stream, code, &mut self.out);
        self.ignore(stream);
    }

    /// What still comes on a stream is no error.
    fn ignore(&mut self, stream: u32) {
        if self.recent_resets.len() == RESETS_REMEMBERED {
            self.recent_resets.pop_front();
        }
        self.recent_resets.push_back(stream);
    }

    /// Whether frames on a stream that is not open are no error, because the peer may have sent them before
    /// it read that this side has reset the stream or does not serve it (section 6.8).
    fn is_ignored(&self, stream: u32) -> bool {
        self.goaway_last.is_some_and(|last| stream > last) || self.recent_resets.contains(&stream)
    }

    /// A frame came on a stream that is over.
    fn on_closed_stream(&mut self, stream: u32) -> Handled {
        if self.is_ignored(stream) {
            return Ok(());
        }
        self.reset(stream, ErrorCode::StreamClosed);
        self.charge_reset()
    }

    /// Ends a stream because the peer broke a rule on it (section 5.4.2).
    pub(super) fn stream_error(&mut self, stream: u32, code: ErrorCode) -> Handled {
        self.check_not_idle(stream)?;
        self.reset(stream, code);
        self.remove(stream, |stream| stream.break_for_fault());
        self.charge_reset()
    }

    /// Forgets a stream and calls `last` on it; whether it existed. What its session has not read counts as
    /// read for the connection's window.
    pub(super) fn remove(&mut self, stream: u32, last: impl FnOnce(&Stream)) -> bool {
        let Some(entry) = self.streams.remove(&stream) else { return false };
        self.granted += entry.held;
        if entry.starved {
            self.steps += self.starved.len() as u64;
            self.starved.retain(|id| *id != stream);
        }
        last(&entry.stream);
        true
    }

    pub(super) fn on_data(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        self.check_not_idle(head.stream)?;
        self.receive_window -= payload.len() as i64;
        if self.receive_window < 0 {
            return Err(ErrorCode::FlowControl.into());
        }
        if !self.window_widened {
            self.widen_window();
        }
        let data = frame::unpad(&head, payload).ok_or(ErrorCode::Protocol)?;
        let ends = head.has(flag::END_STREAM);
        let Some(entry) = self.streams.get_mut(&head.stream) else {
            // The bytes are thrown away, so the connection's window is given back at once.
            self.granted += payload.len();
            self.grant();
            return self.on_closed_stream(head.stream);
        };
        entry.receive_window -= payload.len() as i64;
        entry.held += data.len();
        entry.granted += payload.len() - data.len();
        self.granted += payload.len() - data.len();
        if entry.receive_window < 0 {
            return self.stream_error(head.stream, ErrorCode::FlowControl);
        }
        match entry.receiving.check_data(data.len(), ends) {
            Ok(()) => {}
            Err(code) => return self.stream_error(head.stream, code),
        }
        let chunked = entry.receiving == Receiving::Chunks;
        if !data.is_empty() && !entry.stream.session_has_ended() {
            entry.stream.deliver(|out| match chunked {
                true => write_chunk(data, out),
                false => out.extend_from_slice(data),
            });
        }
        entry.stream.mark_ready();
        if ends {
            if chunked {
                entry.stream.deliver(|out| out.extend_from_slice(b"0\r\n\r\n"));
            }
            self.received_all(head.stream);
        }
        Ok(())
    }

    /// The peer has sent END_STREAM.
    fn received_all(&mut self, stream: u32) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.receiving = Receiving::Done;
        entry.stream.end();
        if entry.sending == Sending::Done {
            self.finish(stream);
        }
    }

    /// Both sides have sent END_STREAM.
    pub(super) fn finish(&mut self, stream: u32) {
        self.remove(stream, |_| {});
        self.reset_budget.give_back(1);
    }

    pub(super) fn on_headers(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        let fresh = match self.role {
            Role::Server => {
                let fresh = head.stream > self.last_opened;
                if head.stream.is_multiple_of(2) {
                    return Err(ErrorCode::Protocol.into());
                }
                self.last_opened = self.last_opened.max(head.stream);
                fresh
            }
            Role::Client => {
                self.check_not_idle(head.stream)?;
                false
            }
        };
        let open = fresh || self.streams.contains_key(&head.stream);
        if !open && self.role == Role::Server && !self.is_ignored(head.stream) {
            // The peer has ended this stream itself (section 5.1).
            return Err(ErrorCode::StreamClosed.into());
        }
        let itself = payload.get(usize::from(head.has(flag::PADDED))..).and_then(|p| p.get(..4));
        if head.has(flag::PRIORITY)
            && itself.is_some_and(|p| u32::from_be_bytes([p[0] & 0x7f, p[1], p[2], p[3]]) == head.stream)
        {
            return Err(ErrorCode::Protocol.into());
        }
        let fragment = frame::unpad(&head, payload).ok_or(ErrorCode::Protocol)?;
        let ends = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.on_block(head.stream, ends, fragment);
        }
        let block = self.block.insert(Block::new(&self.queue, head.stream, ends));
        block.append(fragment);
        Ok(())
    }

    pub(super) fn on_continuation(&mut self, head: FrameHeader, payload: &[u8]) -> Handled {
        let Some(mut block) = self.block.take() else { return Err(ErrorCode::Protocol.into()) };
        block.continuations += 1;
        block.append(payload);
        if !self.may_be_so_long(&block) {
            return Err(ErrorCode::EnhanceYourCalm.into());
        }
        if head.has(flag::END_HEADERS) {
            return self.on_block(block.stream, block.ends, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// Whether a header block may go on. One that is larger than others ever are is taken while there is memory.
    fn may_be_so_long(&self, block: &Block) -> bool {
        let (size, more) = (self.head_size(), self.head_size().saturating_sub(LIST_AT_MOST));
        let fits = block.bytes.len() <= BLOCK_AT_MOST
            || (block.bytes.len() <= size && !self.queue.memory().is_short());
        fits && block.continuations as usize <= CONTINUATIONS_AT_MOST + more / FRAGMENT_AT_LEAST
    }

    fn on_block(&mut self, stream: u32, ends: bool, block: &[u8]) -> Handled {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        let decoded = self.decoder.decode(block, |name, value| fields.push(name, value));
        let done = match decoded {
            Err(DecodeError::Malformed) => Err(ErrorCode::Compression.into()),
            Err(DecodeError::TooMuch) => Err(ErrorCode::EnhanceYourCalm.into()),
            Ok(()) if self.streams.contains_key(&stream) => {
                self.control_budget.give_back(FRAMES_A_REQUEST);
                self.on_answer_or_trailers(stream, ends, &fields)
            }
            // Trailers or answers that the peer sent before it read the reset.
            Ok(()) if self.role == Role::Client || self.is_ignored(stream) => self.charge_control(),
            Ok(()) => self.on_request(stream, ends, &fields),
        };
        self.fields = fields;
        if self.fields.is_large() {
            self.hold_no_large_head();
        }
        done
    }

    fn on_request(&mut self, id: u32, ends: bool, fields: &Fields) -> Handled {
        let sessions = self.queue.sessions() + self.opened.len();
        let full = self.streams.len() >= STREAMS_AT_MOST || sessions >= SESSIONS_AT_MOST;
        if full || self.queue.is_over_its_share() || self.queue.memory().refuses_new() {
            self.reset(id, ErrorCode::RefusedStream);
            return self.charge_reset();
        }
        if fields.too_many {
            // A head that is too large is answered with a status of its own (section 10.5.1).
            let mut block = Vec::new();
            self.begin_block(&mut block);
            encode_status(431, &mut block);
            let before = self.out.len();
            self.write_block(id, true, &block);
            self.rejected.push((431, (self.out.len() - before) as u32));
            if !ends {
                // Clients lose the answer if the reset comes with it: what they send is ignored, and they
                // are told a little later.
                self.ignore(id);
                self.answered.push_back((self.now_ms + LINGER_MS, id));
                if self.answered.len() > RESETS_REMEMBERED
                    && let Some((_, oldest)) = self.answered.pop_front()
                {
                    self.reset(oldest, ErrorCode::NoError);
                }
            }
            return self.charge_reset();
        }
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        let key = self.websocket_key();
        let done = match text::request_to_text(fields, ends, &key, self.absolute, &mut head) {
            Err(_) => {
                self.rejected.push((400, 0));
                self.reset(id, ErrorCode::Protocol);
                self.charge_reset()
            }
            Ok(received) => {
                self.open_received(id, received, &head, ends);
                self.control_budget.give_back(FRAMES_A_REQUEST);
                Ok(())
            }
        };
        self.head = head;
        done
    }

    /// Opens a stream for a request, whose head its session will read.
    fn open_received(&mut self, id: u32, received: text::Received, head: &[u8], ends: bool) {
        let stream = Stream::new(&self.queue, id);
        stream.deliver(|out| out.extend_from_slice(head));
        let receiving = match received.following {
            BodyFraming::Empty => Receiving::Done,
            BodyFraming::Length(length) => Receiving::Length(length),
            BodyFraming::Chunked => Receiving::Chunks,
            // A tunnel whose client says nothing in it.
            BodyFraming::Raw if ends => Receiving::Done,
            BodyFraming::Raw => Receiving::Raw,
        };
        let tunnel = received.following == BodyFraming::Raw;
        if receiving == Receiving::Done {
            stream.end();
        }
        self.insert(stream.clone(), received.method, receiving);
        if let Some(entry) = self.streams.get_mut(&id) {
            entry.tunnel = tunnel;
        }
        self.opened.push_back(Opened { stream });
    }

    /// A header block on an open stream: an answer's head, or trailers.
    fn on_answer_or_trailers(&mut self, id: u32, ends: bool, fields: &Fields) -> Handled {
        let Some(entry) = self.streams.get(&id) else { return Ok(()) };
        if fields.too_many {
            return self.stream_error(id, ErrorCode::EnhanceYourCalm);
        }
        let received = match entry.receiving {
            Receiving::Head => self.on_answer(id, ends, fields),
            _ => self.on_trailers(id, ends, fields),
        };
        match received {
            Ok(()) => Ok(()),
            Err(code) => self.stream_error(id, code),
        }
    }

    fn on_answer(&mut self, id: u32, ends: bool, fields: &Fields) -> Result<(), ErrorCode> {
        let Some(entry) = self.streams.get_mut(&id) else { return Ok(()) };
        let mut head = Vec::with_capacity(512);
        let switch = entry.switch.as_ref();
        let (status, following) = text::response_to_text(fields, ends, entry.method, switch, &mut head)
            .map_err(|_| ErrorCode::Protocol)?;
        let interim = (100..200).contains(&status);
        if interim && ends {
            return Err(ErrorCode::Protocol);
        }
        entry.stream.deliver(|out| out.extend_from_slice(&head));
        if interim {
            return Ok(());
        }
        entry.receiving = match following {
            BodyFraming::Empty => Receiving::Nothing,
            BodyFraming::Length(length) => Receiving::Length(length),
            BodyFraming::Chunked => Receiving::Chunks,
            BodyFraming::Raw => Receiving::Raw,
        };
        if ends {
            self.received_all(id);
        }
        Ok(())
    }

    fn on_trailers(&mut self, id: u32, ends: bool, fields: &Fields) -> Result<(), ErrorCode> {
        let Some(entry) = self.streams.get_mut(&id) else { return Ok(()) };
        // Trailers end a stream; the body must have come in the announced length.
        match entry.receiving {
            Receiving::Done => return Err(ErrorCode::StreamClosed),
            Receiving::Length(1..) => return Err(ErrorCode::Protocol),
            _ if !ends => return Err(ErrorCode::Protocol),
            _ => {}
        }
        let mut lines = Vec::new();
        text::trailers_to_text(fields, &mut lines).map_err(|_| ErrorCode::Protocol)?;
        if entry.receiving == Receiving::Chunks {
            entry.stream.deliver(|out| out.extend_from_slice(&lines));
        }
        self.received_all(id);
        Ok(())
    }

    /// Sixteen random bytes, as a WebSocket's client sends them (RFC 6455 section 4.1).
    fn websocket_key(&mut self) -> String {
        let mut bytes = [0; 16];
        for part in bytes.as_chunks_mut::<8>().0 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            *part = self.random.to_le_bytes();
        }
        data_encoding::BASE64.encode(&bytes)
    }
}

impl Receiving {
    /// Counts the bytes of a DATA frame; the error that it is, if it may not come now.
    fn check_data(&mut self, length: usize, ends: bool) -> Result<(), ErrorCode> {
        match self {
            Receiving::Length(left) => {
                *left = left.checked_sub(length as u64).ok_or(ErrorCode::Protocol)?;
                if ends && *left > 0 { Err(ErrorCode::Protocol) } else { Ok(()) }
            }
            Receiving::Chunks | Receiving::Raw => Ok(()),
            Receiving::Nothing if length == 0 && ends => Ok(()),
            Receiving::Nothing | Receiving::Head => Err(ErrorCode::Protocol),
            Receiving::Done => Err(ErrorCode::StreamClosed),
        }
    }
}

/// Appends data as a chunk of HTTP/1.
fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}
