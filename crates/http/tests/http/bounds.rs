//! What a connection may hold and work at most, whatever its peer does. Checked after every step.

use evenkeel_http::h2::Usage;
use evenkeel_http::memory::SESSION_MEMORY;

const KIB: usize = 1024;
/// Streams at a time, and sessions, some of whose streams are over.
const STREAMS: usize = 100;
const SESSIONS: usize = 2 * STREAMS;
/// Streams that are over may stay in a list until it is cleaned.
const LIST: usize = 4 * STREAMS;
/// The receive window of the connection.
const WINDOW: usize = 256 * KIB;

/// Panics where a connection holds more than it may.
pub fn check(usage: &Usage, what: &str) {
    let bounds = [
        ("streams", usage.streams, STREAMS),
        ("sessions and new streams", usage.sessions + usage.unaccepted, SESSIONS),
        ("refused requests", usage.rejected, 256),
        ("ready streams", usage.ready, STREAMS + SESSIONS),
        ("wakes", usage.wakes, SESSIONS),
        ("starved streams", usage.starved, STREAMS),
        ("stalled streams", usage.stalled, LIST),
        ("lingering streams", usage.lingering, LIST),
        ("remembered resets", usage.resets, 256),
        ("bytes of a header block", usage.header_block_bytes, 80 * KIB),
        ("bytes of the header table", usage.header_table_bytes, 4 * KIB),
        ("bytes of output", usage.output_bytes, 512 * KIB),
        ("bytes queued", usage.queued_bytes, WINDOW + 32 * KIB + STREAMS * 2 * KIB),
    ];
    for (name, value, most) in bounds {
        assert!(value <= most, "{what}: {value} {name}, {most} are allowed: {usage:?}");
    }
}

/// The most that sessions and streams of one connection may count as memory: a byte that arrives alone
/// takes six in the chunked form of HTTP/1.
pub fn memory() -> usize {
    SESSIONS * (SESSION_MEMORY + 17 * KIB) + 6 * WINDOW + WINDOW + 32 * KIB + STREAMS * 2 * KIB
}

/// Steps of work that a peer may cause with so many bytes, while so many bytes are sent.
///
/// The dearest frames are window updates (13 bytes) and settings (15), which visit every stream.
pub fn work(received: usize, sent: usize) -> u64 {
    let streams = (STREAMS + SESSIONS) as u64;
    4 * streams + 10 * received as u64 + sent as u64 / 9
}
