//! What a connection holds and how much it has worked, in numbers that tests put bounds on.

use super::Mux;

/// What a connection holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Streams that are not over.
    pub streams: usize,
    /// New streams that no session has accepted yet.
    pub unaccepted: usize,
    /// Sessions that hold a stream, over or not.
    pub sessions: usize,
    /// Refused requests that the driver has not been told of yet.
    pub rejected: usize,
    /// Streams in the queue of those with news.
    pub ready: usize,
    /// Waiters that the driver has not been told of yet.
    pub wakes: usize,
    /// Entries of the list of streams that wait for the connection's window.
    pub starved: usize,
    /// Entries of the list of streams whose session has ended and whose data waits for a window.
    pub stalled: usize,
    /// Entries of the list of answered streams whose requests go on.
    pub lingering: usize,
    /// Streams that were reset and are remembered.
    pub resets: usize,
    /// Bytes of a header block whose end has not come.
    pub header_block_bytes: usize,
    /// Bytes of the dynamic header table, as RFC 7541 section 4.1 counts them.
    pub header_table_bytes: usize,
    /// Bytes for the peer that have not been sent.
    pub output_bytes: usize,
    /// Bytes that sessions have written and that are not yet in frames.
    pub queued_bytes: usize,
    /// Work since the beginning: frames, streams visited, 64 bytes copied for a header field.
    pub steps: u64,
}

impl Mux {
    /// What the connection holds now.
    pub fn usage(&self) -> Usage {
        Usage {
            streams: self.streams.len(),
            unaccepted: self.opened.len(),
            sessions: self.queue.sessions(),
            rejected: self.rejected.len(),
            ready: self.queue.ready_count(),
            wakes: self.queue.wake_count(),
            starved: self.starved.len(),
            stalled: self.stalled.len(),
            lingering: self.lingering.len(),
            resets: self.recent_resets.len(),
            header_block_bytes: self.block.as_ref().map_or(0, |block| block.bytes.len()),
            header_table_bytes: self.decoder.table_size(),
            output_bytes: self.out.len(),
            queued_bytes: self.queue.queued(),
            steps: self.steps + self.decoder.copied() / 64,
        }
    }
}
