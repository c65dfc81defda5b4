//! Heads of answers: those that are longer than a buffer is, and those that another server may do better than.

use super::{AnswerProgress, Flow};
use crate::buffer::CAPACITY;
use crate::proxy::client::ends_within;
use crate::proxy::failure::Failure;

/// Whether a head may have ended in the bytes that came last. A long one is parsed again only then.
pub(super) fn may_be_whole(bytes: &[u8], came: usize) -> bool {
    let seen = bytes.len().saturating_sub(came);
    seen <= CAPACITY || ends_within(bytes, seen)
}

impl Flow<'_> {
    /// The end of the head has not come: makes room for it, as far as heads may go.
    pub(super) fn read_more_of_head(&mut self) -> Result<AnswerProgress, Failure> {
        let Some(down) = &mut self.down else { return Ok(AnswerProgress::Moved) };
        let head_size = self.context.view.spec.service.head_size as usize;
        if down.len() >= head_size {
            return Err(Failure::BadAnswer);
        }
        if down.holds_a_full_head() {
            down.widen(head_size).ok_or(Failure::NoMemory)?;
        }
        Ok(AnswerProgress::Moved)
    }

    /// The answer is one that another server may do better than.
    pub(super) fn is_unwanted(&self) -> bool {
        let Some(spec) = self.lease.pool() else { return false };
        let (retry_on, outgoing) = (spec.pool.retry_on, &self.outgoing);
        let able = outgoing.idempotent && outgoing.replayable && outgoing.is_sent();
        able && outgoing.retries < spec.pool.retries && retry_on.has_status(self.scratch.response.status)
    }
}
