//! What the peer sends: frames of the connection and of its streams.

use super::{
    BLOCK_AT_MOST, Block, CONNECTION_WINDOW, CONTINUATIONS_AT_MOST, FRAMES_A_REQUEST, Fatal, Mux, Opened,
    RESETS_REMEMBERED, Receiving, Role, SESSIONS_AT_MOST, STREAM_WINDOW, STREAMS_AT_MOST, Sending,
    USEFUL_DATA, WINDOW_LIMIT,
};
use crate::h2::fields::Fields;
use crate::h2::frame::{self, Code, Head, flag, kind, setting};
use crate::h2::hpack::DecodeError;
use crate::h2::stream::{NOT_SENT, Stream};
use crate::h2::text::{self, Following};

impl Mux {
    pub(super) fn on_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(Fatal(Code::Protocol));
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(Fatal(Code::FrameSize)) };
        }
        let (pairs, []) = payload.as_chunks::<6>() else { return Err(Fatal(Code::FrameSize)) };
        let window_before = self.peer_stream_window;
        let mut widest = window_before;
        for pair in pairs {
            let name = u16::from_be_bytes([pair[0], pair[1]]);
            let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
            self.on_setting(name, value)?;
            widest = widest.max(self.peer_stream_window);
        }
        // Many changes in one frame cost no more than one.
        if widest != window_before || self.peer_stream_window != window_before {
            self.change_stream_windows(self.peer_stream_window - window_before, widest - window_before)?;
        }
        if !std::mem::replace(&mut self.settings_came, true) {
            // Some wait for what the peer says it takes.
            self.streams.values().for_each(|entry| entry.stream.mark_ready());
        }
        frame::write(kind::SETTINGS, flag::ACK, 0, &[], &mut self.out);
        Ok(())
    }

    fn on_setting(&mut self, name: u16, value: u32) -> Result<(), Fatal> {
        match name {
            setting::INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_LIMIT => {
                return Err(Fatal(Code::FlowControl));
            }
            setting::INITIAL_WINDOW_SIZE => self.peer_stream_window = i64::from(value),
            setting::MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                return Err(Fatal(Code::Protocol));
            }
            // A server must not announce pushes of a client (section 6.5.2).
            setting::ENABLE_PUSH if value > u32::from(self.role == Role::Server) => {
                return Err(Fatal(Code::Protocol));
            }
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(Fatal(Code::Protocol)),
            // Once allowed it stays allowed (RFC 8441 section 3).
            setting::ENABLE_CONNECT_PROTOCOL if value == 0 && self.peer_connects => {
                return Err(Fatal(Code::Protocol));
            }
            setting::ENABLE_CONNECT_PROTOCOL => self.peer_connects = value == 1,
            setting::MAX_CONCURRENT_STREAMS => self.peer_streams = value as usize,
            _ => {}
        }
        Ok(())
    }

    /// Changes the send windows of all streams. `most` is the largest change on the way there, which may
    /// not take a window above its limit either (section 6.9.2).
    fn change_stream_windows(&mut self, change: i64, most: i64) -> Result<(), Fatal> {
        self.steps += self.streams.len() as u64;
        for entry in self.streams.values_mut() {
            if entry.send_window + most > WINDOW_LIMIT {
                return Err(Fatal(Code::FlowControl));
            }
            entry.send_window += change;
            entry.stream.mark_ready();
        }
        Ok(())
    }

    pub(super) fn on_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        match (head.stream, payload.len()) {
            (0, 8) => {}
            (0, _) => return Err(Fatal(Code::FrameSize)),
            _ => return Err(Fatal(Code::Protocol)),
        }
        if !head.has(flag::ACK) {
            frame::write(kind::PING, flag::ACK, 0, payload, &mut self.out);
        }
        Ok(())
    }

    pub(super) fn on_goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let (Some(last), 0) = (payload.get(..4), head.stream) else { return Err(Fatal(Code::Protocol)) };
        if payload.len() < 8 {
            return Err(Fatal(Code::FrameSize));
        }
        self.goaway_came = true;
        if self.role == Role::Client {
            // Streams above the last one were not begun with.
            let last = u32::from_be_bytes([last[0] & 0x7f, last[1], last[2], last[3]]);
            let lost: Vec<u32> = self.streams.keys().copied().filter(|id| *id > last).collect();
            for id in lost {
                self.remove(id, |stream| stream.break_off(true));
            }
        }
        Ok(())
    }

    pub(super) fn on_window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let bytes: [u8; 4] = payload.try_into().map_err(|_| Fatal(Code::FrameSize))?;
        let increment = i64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff);
        if head.stream == 0 {
            self.send_window += increment;
            if increment == 0 || self.send_window > WINDOW_LIMIT {
                return Err(Fatal(if increment == 0 { Code::Protocol } else { Code::FlowControl }));
            }
            self.steps += self.starved.len() as u64;
            for id in self.starved.drain(..) {
                if let Some(entry) = self.streams.get_mut(&id) {
                    entry.starved = false;
                    entry.stream.mark_ready();
                }
            }
            return Ok(());
        }
        self.known(head.stream)?;
        let Some(entry) = self.streams.get_mut(&head.stream) else { return Ok(()) };
        entry.send_window += increment;
        if increment == 0 {
            return self.fault(head.stream, Code::Protocol);
        }
        if entry.send_window > WINDOW_LIMIT {
            return self.fault(head.stream, Code::FlowControl);
        }
        entry.stream.mark_ready();
        Ok(())
    }

    /// Whether a window update grants anew what DATA frames have used, and so does work: as often as a
    /// peer likes while each is of some size, so that a window opened byte by byte is no work.
    pub(super) fn pays_back(&mut self, payload: &[u8]) -> bool {
        let Ok(bytes) = <[u8; 4]>::try_from(payload) else { return false };
        let increment = u64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff);
        let enough = increment >= USEFUL_DATA as u64 && self.unpaid > 0;
        if enough {
            self.unpaid = self.unpaid.saturating_sub(increment);
        }
        enough
    }

    /// Frames of streams that nobody has opened are an error of the connection (section 5.1).
    pub(super) fn known(&self, stream: u32) -> Result<(), Fatal> {
        let opened = match self.role {
            Role::Server => stream % 2 == 1 && stream <= self.last_opened,
            Role::Client => stream % 2 == 1 && stream < self.next_stream,
        };
        if opened { Ok(()) } else { Err(Fatal(Code::Protocol)) }
    }

    // What the peer says of a stream

    pub(super) fn on_reset(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let bytes: [u8; 4] = payload.try_into().map_err(|_| Fatal(Code::FrameSize))?;
        self.known(head.stream)?;
        let untouched = u32::from_be_bytes(bytes) == Code::RefusedStream as u32;
        let existed = self.remove(head.stream, |stream| stream.break_off(untouched));
        match (existed, self.role) {
            (true, Role::Server) => self.charge_reset(),
            // Resets of streams that are over do nothing: they are control frames.
            (false, _) => self.charge_control(),
            _ => Ok(()),
        }
    }

    /// Takes a control frame out of the budget.
    pub(super) fn charge_control(&mut self) -> Result<(), Fatal> {
        if self.control_budget.charge() { Ok(()) } else { Err(Fatal(Code::EnhanceYourCalm)) }
    }

    /// A reset has a price, whoever sent it.
    pub(super) fn charge_reset(&mut self) -> Result<(), Fatal> {
        if self.reset_budget.charge() { Ok(()) } else { Err(Fatal(Code::EnhanceYourCalm)) }
    }

    /// Resets a stream; frames of the peer that are under way are ignored (section 5.1).
    pub(super) fn reset(&mut self, stream: u32, code: Code) {
        if stream & NOT_SENT != 0 {
            // To the peer it is idle, and a reset would be an error of the connection.
            return;
        }
        frame::write_reset(stream, code, &mut self.out);
        if self.own_resets.len() == RESETS_REMEMBERED {
            self.own_resets.pop_front();
        }
        self.own_resets.push_back(stream);
    }

    /// Whether frames on a stream that is not open are no error: this side has reset it, or has said that it
    /// does not serve it (section 6.8), and they were under way.
    fn is_ignored(&self, stream: u32) -> bool {
        self.goaway_last.is_some_and(|last| stream > last) || self.own_resets.contains(&stream)
    }

    /// Frames that come on a stream which is over: under way when this side reset it, or an error.
    fn after_the_end(&mut self, stream: u32) -> Result<(), Fatal> {
        if self.is_ignored(stream) {
            return Ok(());
        }
        self.reset(stream, Code::StreamClosed);
        self.charge_reset()
    }

    /// Ends a stream that the peer treats wrongly.
    pub(super) fn fault(&mut self, stream: u32, code: Code) -> Result<(), Fatal> {
        self.known(stream)?;
        self.reset(stream, code);
        self.remove(stream, |stream| stream.break_off(false));
        self.charge_reset()
    }

    /// Forgets a stream, whose bytes on their way count no more.
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

    pub(super) fn on_data(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        self.known(head.stream)?;
        self.receive_window -= payload.len() as i64;
        if self.receive_window < 0 {
            return Err(Fatal(Code::FlowControl));
        }
        if !self.wide {
            self.wide = true;
            let more = CONNECTION_WINDOW - STREAM_WINDOW;
            frame::write_window_update(0, more as u32, &mut self.out);
            self.receive_window += more as i64;
        }
        let data = frame::unpad(&head, payload).ok_or(Fatal(Code::Protocol))?;
        let ends = head.has(flag::END_STREAM);
        let Some(entry) = self.streams.get_mut(&head.stream) else {
            // The connection's window is theirs again.
            self.granted += payload.len();
            self.grant();
            return self.after_the_end(head.stream);
        };
        entry.receive_window -= payload.len() as i64;
        entry.held += data.len();
        entry.granted += payload.len() - data.len();
        self.granted += payload.len() - data.len();
        if entry.receive_window < 0 {
            return self.fault(head.stream, Code::FlowControl);
        }
        let good = match &mut entry.receiving {
            Receiving::Length(left) => {
                let enough = left.checked_sub(data.len() as u64);
                *left = enough.unwrap_or(0);
                enough.is_some() && (!ends || *left == 0)
            }
            Receiving::Chunks | Receiving::Raw => true,
            Receiving::Nothing => data.is_empty() && ends,
            Receiving::Head => return self.fault(head.stream, Code::Protocol),
            Receiving::Done => return self.fault(head.stream, Code::StreamClosed),
        };
        if !good {
            return self.fault(head.stream, Code::Protocol);
        }
        let chunked = entry.receiving == Receiving::Chunks;
        if !data.is_empty() && !entry.stream.session_has_ended() {
            entry.stream.deliver(|out| {
                if chunked {
                    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                }
                out.extend_from_slice(data);
                if chunked {
                    out.extend_from_slice(b"\r\n");
                }
            });
        }
        if ends {
            if chunked {
                entry.stream.deliver(|out| out.extend_from_slice(b"0\r\n\r\n"));
            }
            self.received_all(head.stream);
        }
        if let Some(entry) = self.streams.get(&head.stream) {
            entry.stream.mark_ready();
        }
        Ok(())
    }

    /// The peer has sent the last of a stream.
    pub(super) fn received_all(&mut self, stream: u32) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.receiving = Receiving::Done;
        entry.stream.end();
        if entry.sending == Sending::Done {
            self.finish(stream);
        }
    }

    pub(super) fn finish(&mut self, stream: u32) {
        self.remove(stream, |_| {});
        self.reset_budget.give_back(1);
    }

    pub(super) fn on_headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let fresh = match self.role {
            Role::Server => {
                let fresh = head.stream > self.last_opened;
                if head.stream.is_multiple_of(2) {
                    return Err(Fatal(Code::Protocol));
                }
                self.last_opened = self.last_opened.max(head.stream);
                fresh
            }
            Role::Client => {
                self.known(head.stream)?;
                false
            }
        };
        let open = fresh || self.streams.contains_key(&head.stream);
        if !open && self.role == Role::Server && !self.is_ignored(head.stream) {
            // The peer itself has ended this stream (section 5.1).
            return Err(Fatal(Code::StreamClosed));
        }
        let itself = payload.get(usize::from(head.has(flag::PADDED))..).and_then(|p| p.get(..4));
        if head.has(flag::PRIORITY)
            && itself.is_some_and(|p| u32::from_be_bytes([p[0] & 0x7f, p[1], p[2], p[3]]) == head.stream)
        {
            return Err(Fatal(Code::Protocol));
        }
        let fragment = frame::unpad(&head, payload).ok_or(Fatal(Code::Protocol))?;
        let ends = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.on_block(head.stream, ends, fragment);
        }
        self.block = Some(Block { stream: head.stream, ends, bytes: fragment.to_vec(), continuations: 0 });
        Ok(())
    }

    pub(super) fn on_continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let Some(mut block) = self.block.take() else { return Err(Fatal(Code::Protocol)) };
        block.continuations += 1;
        block.bytes.extend_from_slice(payload);
        if block.bytes.len() > BLOCK_AT_MOST || block.continuations > CONTINUATIONS_AT_MOST {
            return Err(Fatal(Code::EnhanceYourCalm));
        }
        if head.has(flag::END_HEADERS) {
            return self.on_block(block.stream, block.ends, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    pub(super) fn on_block(&mut self, stream: u32, ends: bool, block: &[u8]) -> Result<(), Fatal> {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        let decoded = self.decoder.decode(block, |name, value| fields.push(name, value));
        let done = match decoded {
            Err(DecodeError::Malformed) => Err(Fatal(Code::Compression)),
            Err(DecodeError::TooMuch) => Err(Fatal(Code::EnhanceYourCalm)),
            Ok(()) if self.streams.contains_key(&stream) => {
                self.control_budget.give_back(FRAMES_A_REQUEST);
                self.on_more(stream, ends, &fields)
            }
            // Trailers or answers that were under way when this side reset the stream.
            Ok(()) if self.role == Role::Client || self.is_ignored(stream) => self.charge_control(),
            Ok(()) => self.on_request(stream, ends, &fields),
        };
        self.fields = fields;
        done
    }

    pub(super) fn on_request(&mut self, id: u32, ends: bool, fields: &Fields) -> Result<(), Fatal> {
        let sessions = self.queue.sessions() + self.opened.len();
        let crowded = self.streams.len() >= STREAMS_AT_MOST || sessions >= SESSIONS_AT_MOST;
        if crowded || self.queue.memory().refuses_new() {
            self.reset(id, Code::RefusedStream);
            return self.charge_reset();
        }
        if fields.too_many {
            // Too large a head has an answer of its own (section 10.5.1).
            let mut block = Vec::new();
            crate::h2::hpack::encode_status(431, &mut block);
            frame::write_headers(id, true, &block, &mut self.out);
            if !ends {
                self.reset(id, Code::NoError);
            }
            return self.charge_reset();
        }
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        let key = self.websocket_key();
        let received = text::request_to_text(fields, ends, &key, &mut head);
        let done = match received {
            Err(_) => {
                self.reset(id, Code::Protocol);
                self.charge_reset()
            }
            Ok(received) => {
                let stream = Stream::new(&self.queue, id);
                stream.deliver(|out| out.extend_from_slice(&head));
                let receiving = match received.following {
                    Following::Nothing => Receiving::Done,
                    Following::Length(length) => Receiving::Length(length),
                    Following::Chunks => Receiving::Chunks,
                    Following::Raw => Receiving::Raw,
                };
                if receiving == Receiving::Done {
                    stream.end();
                }
                self.insert(stream.clone(), received.method, receiving);
                if let Some(entry) = self.streams.get_mut(&id) {
                    entry.tunnel = receiving == Receiving::Raw;
                }
                self.opened.push(Opened { stream });
                self.control_budget.give_back(FRAMES_A_REQUEST);
                Ok(())
            }
        };
        self.head = head;
        done
    }

    /// A block for a stream that is open: an answer, or trailers.
    pub(super) fn on_more(&mut self, id: u32, ends: bool, fields: &Fields) -> Result<(), Fatal> {
        let Some(entry) = self.streams.get_mut(&id) else { return Ok(()) };
        if fields.too_many {
            return self.fault(id, Code::EnhanceYourCalm);
        }
        if entry.receiving == Receiving::Head {
            let mut head = Vec::with_capacity(512);
            let switch = entry.switch.as_ref();
            let (status, following) =
                match text::response_to_text(fields, ends, entry.method, switch, &mut head) {
                    Ok(read) => read,
                    Err(_) => return self.fault(id, Code::Protocol),
                };
            let interim = (100..200).contains(&status);
            if interim && ends {
                return self.fault(id, Code::Protocol);
            }
            entry.stream.deliver(|out| out.extend_from_slice(&head));
            if !interim {
                entry.receiving = match following {
                    Following::Nothing => Receiving::Nothing,
                    Following::Length(length) => Receiving::Length(length),
                    Following::Chunks => Receiving::Chunks,
                    Following::Raw => Receiving::Raw,
                };
                if ends {
                    self.received_all(id);
                }
            }
            return Ok(());
        }
        // Trailers end a stream, and what was announced must have come.
        let complete = match entry.receiving {
            Receiving::Length(left) => left == 0,
            Receiving::Done => return self.fault(id, Code::StreamClosed),
            _ => true,
        };
        if !ends || !complete {
            return self.fault(id, Code::Protocol);
        }
        let mut lines = Vec::new();
        if text::trailers_to_text(fields, &mut lines).is_err() {
            return self.fault(id, Code::Protocol);
        }
        if entry.receiving == Receiving::Chunks {
            entry.stream.deliver(|out| out.extend_from_slice(&lines));
        }
        self.received_all(id);
        Ok(())
    }

    /// Sixteen random bytes, as a WebSocket's client sends them (RFC 6455 section 4.1).
    pub(super) fn websocket_key(&mut self) -> String {
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
