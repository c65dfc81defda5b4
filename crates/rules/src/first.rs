//! What must have come of a connection before conditions can say what protocol it speaks.

use crate::evaluate::{Check, Expression};
use crate::fetch::Fetch;

/// As much of what a client sends first is kept for conditions.
pub const FIRST_BYTES: usize = 64;

/// The beginnings that conditions tell protocols by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstBytes {
    beginnings: Vec<Box<[u8]>>,
    /// Bytes that a condition counts.
    length: usize,
    asked: bool,
}

impl FirstBytes {
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// Something else asks for them: they are waited for until there are any.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Takes over what a condition asks.
    pub fn note(&mut self, when: &Expression) {
        when.visit(&mut |test| {
            let hexadecimal = test.fetch == Fetch::FirstBytesHex;
            match (test.fetch, &test.check) {
                (Fetch::FirstBytes | Fetch::FirstBytesHex, Check::Patterns { set, .. }) => {
                    let texts = set.beginnings().unwrap_or_default().into_iter().map(|(text, _)| text);
                    let decoded = texts.map(|text| if hexadecimal { decode(&text) } else { text });
                    self.beginnings.extend(decoded);
                }
                (Fetch::FirstBytesLength, Check::Compare(_, number)) => {
                    self.length = self.length.max(*number as usize).min(FIRST_BYTES);
                }
                (Fetch::FirstBytes | Fetch::FirstBytesHex | Fetch::FirstBytesLength, _) => {}
                _ => return,
            }
            self.asked = true;
        });
    }

    /// Whether what comes next can still decide something.
    pub fn waits(&self, seen: &[u8]) -> bool {
        let open = |text: &[u8]| text.len().min(FIRST_BYTES) > seen.len() && text.starts_with(seen);
        self.asked
            && (seen.is_empty() || seen.len() < self.length || self.beginnings.iter().any(|text| open(text)))
    }
}

/// The bytes of hexadecimal digits, as far as they are some.
fn decode(digits: &[u8]) -> Box<[u8]> {
    let text = std::str::from_utf8(digits).unwrap_or("");
    let pairs =
        (0..text.len() / 2).map_while(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok());
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_long_as_something_can_still_match() {
        let mut first = FirstBytes::default();
        assert!(!first.waits(b""));
        for text in ["first-bytes(\"SSH-*\")", "!first-bytes-hex(\"16030*\", \"0300*\")"] {
            first.note(&Expression::parse(text).unwrap());
        }
        for (seen, waits) in
            [("", true), ("S", true), ("SSH", true), ("SSH-", false), ("GET", false), ("\x16", true)]
        {
            assert_eq!(first.waits(seen.as_bytes()), waits, "{seen:?}");
        }
        first.note(&Expression::parse("first-bytes-length >= 5").unwrap());
        assert!(first.waits(b"GET ") && !first.waits(b"GET /"));
    }
}
