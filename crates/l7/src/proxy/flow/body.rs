//! An answer's bytes on their way to the client.

use super::{AnswerProgress, Flow, Phase};
use crate::buffer::Buffer;
use crate::link::Link;
use crate::proxy::failure::Failure;
use crate::proxy::route;
use crate::proxy::session::Scratch;
use crate::reactor::Io;

impl Flow<'_> {
    pub(super) fn pass_body(&mut self) -> Result<AnswerProgress, Failure> {
        if self.compressing.is_some() {
            return self.pass_compressed();
        }
        if let Some(pipe) = self.pipe.as_mut().filter(|p| p.held() > 0) {
            let last = Some(pipe.held()).filter(|_| self.down_body.is_complete());
            self.settle(last);
            let Some(pipe) = &mut self.pipe else { return Ok(AnswerProgress::Blocked) };
            let written = self.client.link.splice_from(pipe);
            return self.wrote(written, last);
        }
        let held = self.down.as_ref().map_or(0, Buffer::len);
        if held > 0 {
            let last = Some(held).filter(|_| self.down_body.is_complete());
            self.settle(last);
            let Some(down) = &mut self.down else { return Ok(AnswerProgress::Blocked) };
            let is_last = last.is_some() && !self.keep_client;
            let send = if is_last { Link::try_write_end } else { Link::try_write };
            let written = send(&self.client.link, down.bytes());
            if let Io::Done(count) = written {
                down.consume(count);
                if down.is_empty() && self.down_body.is_complete() {
                    self.phase = Phase::Done;
                }
            }
            return self.wrote(written, last);
        }
        if self.down_body.is_complete() {
            self.phase = Phase::Done;
            return Ok(AnswerProgress::Moved);
        }
        self.refill_down()
    }

    /// Counts the answer before its last bytes, so many, leave.
    pub(super) fn settle(&mut self, last: Option<usize>) {
        if let Some(last) = last {
            let Scratch { counted, record, .. } = &mut *self.scratch;
            route::settle(self.worker, self.context.view, counted, record, last);
        }
    }

    /// `last`: how many bytes there were, if they are the answer's last.
    pub(super) fn wrote(&mut self, written: Io, last: Option<usize>) -> Result<AnswerProgress, Failure> {
        if last.is_some_and(|last| written != Io::Done(last)) {
            self.scratch.counted.stay(self.worker);
        }
        match written {
            Io::Done(count) => {
                self.scratch.record.bytes_out += count as u64;
                self.session.passes(&self.scratch.record);
                Ok(AnswerProgress::Moved)
            }
            Io::Blocked => Ok(self.wait_for_client()),
            Io::Eof | Io::Failed(_) => Err(Failure::Cut { cause: self.client.link.why_gone() }),
        }
    }

    pub(super) fn wait_for_client(&mut self) -> AnswerProgress {
        self.client.link.want_write();
        self.waits_on_client = true;
        AnswerProgress::Blocked
    }
}
