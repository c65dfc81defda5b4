//! What a request is tried again for, on another server, beside a connection that failed.

/// Words of `retry-on`, each with the place of its bit.
const WORDS: [&str; 14] = [
    "no-answer",
    "bad-answer",
    "timeout",
    "401",
    "403",
    "404",
    "408",
    "425",
    "429",
    "500",
    "501",
    "502",
    "503",
    "504",
];

/// Only requests that may be sent twice (RFC 9110, section 9.2.2) and that are still held whole are
/// tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn(u16);

impl RetryOn {
    pub const NOTHING: RetryOn = RetryOn(0);
    pub const NO_ANSWER: RetryOn = RetryOn(1);
    pub const BAD_ANSWER: RetryOn = RetryOn(1 << 1);
    pub const TIMEOUT: RetryOn = RetryOn(1 << 2);

    pub fn parse(word: &str) -> Option<RetryOn> {
        WORDS.iter().position(|w| *w == word).map(|bit| RetryOn(1 << bit))
    }

    pub fn and(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    pub fn has(self, cause: RetryOn) -> bool {
        self.0 & cause.0 != 0
    }

    /// Whether an answer with this status is one to try again for.
    pub fn has_status(self, status: u16) -> bool {
        // Of three digits each: the words after the first three.
        let digits =
            [b'0' + (status / 100) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
        let named = |(bit, word): (usize, &&str)| self.0 & (1 << bit) != 0 && word.as_bytes() == digits;
        self.0 >= 1 << 3 && WORDS.iter().enumerate().any(named)
    }
}

impl std::fmt::Display for RetryOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = WORDS.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        let words: Vec<&str> = named.map(|(_, word)| *word).collect();
        if words.is_empty() { f.write_str("nothing") } else { f.write_str(&words.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_causes() {
        let all = WORDS.iter().filter_map(|w| RetryOn::parse(w)).fold(RetryOn::NOTHING, RetryOn::and);
        assert!(all.has(RetryOn::NO_ANSWER) && all.has_status(504) && all.has_status(401));
        assert!(!all.has_status(200) && !all.has_status(505));
        let few = RetryOn::NO_ANSWER.and(RetryOn::parse("503").unwrap());
        assert!(few.has_status(503) && !few.has_status(500) && !few.has(RetryOn::TIMEOUT));
        assert_eq!(few.to_string(), "no-answer, 503");
        assert_eq!(RetryOn::NOTHING.to_string(), "nothing");
        assert_eq!(RetryOn::parse("200"), None);
    }
}
