//! An answer that is compressed on its way: the server's bytes go through an encoder into a buffer of their own.
//!
//! Memory is bounded by the loop's budget, work by the turns of the exchange: a turn compresses one buffer.

use evenkeel_http::coding::{self, Encoder, Input, MEMORY, Offer, Wrapper};
use evenkeel_model::{Coding, Compression};

use super::{AnswerProgress, Flow, Phase};
use crate::buffer::Buffer;
use crate::h1::Framing;
use crate::h1::request::{Method, Request};
use crate::h1::response::Response;
use crate::link::Link;
use crate::log::Cause;
use crate::proxy::failure::Failure;
use crate::reactor::Io;
use crate::worker::Worker;

/// Unused encoders that a loop keeps.
const KEPT: usize = 4;

/// What answers to a request may be compressed by.
pub struct Chosen<'a> {
    pub rule: &'a Compression,
    pub coding: Coding,
}

/// The coding for a client, by its request.
pub fn choose<'a>(rule: &'a Compression, request: &Request, head: &[u8]) -> Option<Chosen<'a>> {
    if !request.version_11 || request.method == Method::Head {
        return None;
    }
    let named = |name: &'static str| {
        let fields = request.fields.iter();
        let fields = fields.filter(move |f| f.name.of(head).eq_ignore_ascii_case(name.as_bytes()));
        fields.map(|f| f.value.of(head))
    };
    // The same name twice is the first one.
    let mut names = [""; Coding::ALL.len()];
    names.iter_mut().zip(&rule.codings).for_each(|(name, coding)| {
        *name = if *coding == Coding::Identity { "" } else { coding.name() };
    });
    let takes = coding::choose(named("accept-encoding"), &names);
    let coding = match takes.and_then(|at| rule.codings.get(at)) {
        Some(coding) if !named("user-agent").any(coding::is_broken_browser) => *coding,
        _ => *rule.codings.iter().find(|coding| **coding == Coding::Identity)?,
    };
    Some(Chosen { rule, coding })
}

/// An answer as it is about to go on.
pub struct Offered<'a> {
    pub request: &'a Request,
    pub response: &'a Response,
    pub head: &'a mut Vec<u8>,
    /// Memory for another head.
    pub spare: &'a mut Vec<u8>,
}

/// The state of one answer.
pub struct Compressing {
    worker: &'static Worker,
    /// There until the end.
    encoder: Option<Encoder>,
    /// What the client is to get.
    out: Buffer,
    /// The server has closed behind its last byte.
    ended: bool,
    /// It has no more bytes for now.
    rests: bool,
}

impl Compressing {
    /// Compresses the answer, whose head is rewritten, unless it must stay as it is or there is no memory.
    pub fn begin(
        worker: &'static Worker,
        chosen: &Chosen<'_>,
        offered: Offered<'_>,
    ) -> Option<Box<Compressing>> {
        let Offered { request, response, head, spare } = offered;
        let bodiless = response.framing == Framing::None || request.method == Method::Head;
        if bodiless || !response.version_11 || response.doubtful || worker.buffers.memory().is_short() {
            return None;
        }
        let rule = chosen.rule;
        let coding = (chosen.coding != Coding::Identity).then(|| chosen.coding.name());
        let offer = Offer { coding, types: &rule.types, min_size: rule.min_size };
        if !coding::rewrite(head, &offer, spare) {
            return None;
        }
        let out = worker.buffers.get()?;
        std::mem::swap(head, spare);
        worker.buffers.memory().take(MEMORY);
        let wrapper = match chosen.coding {
            Coding::Gzip => Wrapper::Gzip,
            Coding::Deflate => Wrapper::Zlib,
            Coding::RawDeflate => Wrapper::Raw,
            Coding::Identity => Wrapper::Plain,
        };
        let encoder = match worker.encoders.borrow_mut().pop() {
            Some(mut encoder) => {
                encoder.restart(wrapper);
                encoder
            }
            None => Encoder::new(wrapper),
        };
        Some(Box::new(Compressing { worker, encoder: Some(encoder), out, ended: false, rests: false }))
    }

    /// The head comes first; whether it fitted.
    pub fn begin_with(&mut self, head: &[u8]) -> bool {
        self.out.put_head(0, head)
    }

    /// The server has closed behind its last byte.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The server has nothing more for now; whether what was taken is brought out.
    pub fn rest(&mut self) -> bool {
        self.rests = self.encoder.as_ref().is_some_and(Encoder::holds);
        self.rests
    }

    /// Holds no more memory than what waits for the client needs.
    pub fn hold_little(&mut self) {
        self.out.shrink();
    }

    fn has_ended(&self) -> bool {
        self.encoder.as_ref().is_none_or(Encoder::has_ended)
    }

    /// Makes one chunk of what the server has sent; how many bytes it took, or none for want of memory.
    fn encode(&mut self, bytes: &[u8], ended: bool) -> Option<usize> {
        let input = match (ended || self.ended, self.rests) {
            (true, _) => Input::Ends,
            (false, true) => Input::Rests,
            (false, false) => Input::Goes,
        };
        self.out.clear();
        let out = self.out.grow()?;
        let (taken, chunk) = self.encoder.as_mut()?.encode(bytes, input, out.room());
        out.filled(chunk.end);
        out.consume(chunk.start);
        self.rests &= !chunk.is_empty();
        Some(taken)
    }
}

impl Drop for Compressing {
    fn drop(&mut self) {
        self.worker.buffers.memory().give_back(MEMORY);
        let mut kept = self.worker.encoders.borrow_mut();
        if kept.len() < KEPT {
            kept.extend(self.encoder.take());
        }
    }
}

impl Flow<'_> {
    /// Moves a compressed answer on.
    pub(super) fn pass_compressed(&mut self) -> Result<AnswerProgress, Failure> {
        let Some(compressing) = &mut self.compressing else { return Ok(AnswerProgress::Blocked) };
        if !compressing.out.is_empty() {
            let last = Some(compressing.out.len()).filter(|_| compressing.has_ended());
            self.settle(last);
            let Some(compressing) = &mut self.compressing else { return Ok(AnswerProgress::Blocked) };
            let is_last = last.is_some() && !self.keep_client;
            let send = if is_last { Link::try_write_end } else { Link::try_write };
            let written = send(&self.client.link, compressing.out.bytes());
            if let Io::Done(count) = written {
                compressing.out.consume(count);
                if compressing.out.is_empty() && compressing.has_ended() {
                    self.phase = Phase::Done;
                }
            }
            return self.wrote(written, last);
        }
        let whole = self.down_body.is_complete();
        let bytes = self.down.as_ref().map_or(&[][..], Buffer::bytes);
        if bytes.is_empty() && !whole && !compressing.ended && !compressing.rests {
            return self.refill_down();
        }
        let taken = compressing.encode(bytes, whole).ok_or(Failure::Cut { cause: Cause::Resource })?;
        self.down.iter_mut().for_each(|down| down.consume(taken));
        Ok(AnswerProgress::Moved)
    }
}
