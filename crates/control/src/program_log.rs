//! What the program says of itself, to standard error and for a while in memory, so that people see it in
//! the web UI.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Lines that are kept, and how long each may be.
const LINES: usize = 1_000;
const LINE_AT_MOST: usize = 2_000;

static RECENT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Each write is a line, as `tracing_subscriber` makes them.
#[derive(Default)]
pub struct Tee;

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        keep(&mut RECENT.lock().unwrap_or_else(PoisonError::into_inner), bytes);
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn keep(recent: &mut VecDeque<String>, bytes: &[u8]) {
    let bytes = bytes.get(..LINE_AT_MOST).unwrap_or(bytes);
    for line in String::from_utf8_lossy(bytes).lines() {
        if recent.len() >= LINES {
            recent.pop_front();
        }
        recent.push_back(plain(line));
    }
}

/// Without the colours of a terminal and other control characters.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => drop(rest.by_ref().find(char::is_ascii_alphabetic)),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The oldest first.
pub fn recent() -> Vec<String> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_without_colours() {
        let mut recent = VecDeque::new();
        for n in 0..LINES + 5 {
            keep(&mut recent, format!("\u{1b}[32m INFO\u{1b}[0m line {n}\tend\n").as_bytes());
        }
        assert_eq!(recent.len(), LINES);
        assert_eq!(recent.front().map(String::as_str), Some(" INFO line 5 end"));
        keep(&mut recent, &[b'x'; 9_000]);
        assert_eq!(recent.back().map(String::len), Some(LINE_AT_MOST));
        keep(&mut recent, b"\xff\xfe");
    }
}
