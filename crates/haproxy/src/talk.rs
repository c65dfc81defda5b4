//! What a client of a door says and takes, whatever is behind it. In: its stream. Out: a payload, whether it
//! took an answer. Never: a command.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::certificates;

/// A line longer than this is no command.
pub(super) const LONGEST: u64 = 16_384;

/// The first line of a request of HTTP: pages of other sites can have a browser send one, with `;prompt` in its
/// path and commands in its body.
pub(super) fn is_of_http(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let method = words.next().unwrap_or("");
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    is_method && words.next_back().is_some_and(|word| word.starts_with("HTTP/"))
}

/// Whether the client took the answer.
pub(super) async fn give<W: AsyncWrite + Unpin>(writer: &mut W, answer: &[u8], idle: Duration) -> bool {
    matches!(tokio::time::timeout(idle, writer.write_all(answer)).await, Ok(Ok(())))
}

/// What follows a command up to an empty line; nothing where it is too long or does not come.
pub(super) async fn payload<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    idle: Duration,
) -> Option<String> {
    let mut all = String::new();
    loop {
        let mut line = Vec::new();
        let read = tokio::time::timeout(idle, reader.take(LONGEST).read_until(b'\n', &mut line)).await;
        let count = read.ok()?.ok()?;
        // The end of the stream is the end of it, too.
        if count == 0 || line.trim_ascii().is_empty() {
            return Some(all);
        }
        all.push_str(&String::from_utf8_lossy(&line));
        if all.len() > certificates::PAYLOAD_AT_MOST {
            return None;
        }
    }
}
