//! Names of headers that some servers read as others.

use super::proxy::{Proxy, Word};
use crate::draft::Draft;

const OPTION: &str = "http-restrict-req-hdr-names";

impl Proxy {
    /// `option http-restrict-req-hdr-names delete` as the rule that it is, before those that are written.
    pub fn with_odd_names_removed(mut self) -> Proxy {
        let Some(word) = self.option(OPTION).filter(|word| word.arg(2) == "delete") else { return self };
        let words = ["http-request", "del-header", "[^A-Za-z0-9-]", "-m", "reg"];
        let rule = Word {
            words: words.map(str::to_owned).to_vec(),
            comments: vec!["names that some servers read as others".into()],
            ..word.clone()
        };
        let first = self.words.iter().position(|word| word.words[0] == "http-request");
        self.words.insert(first.unwrap_or(self.words.len()), rule);
        self
    }
}

/// Whether the option asks for what there is not, which is told.
pub fn is_refused(word: &Word, draft: &mut Draft) -> bool {
    let rejects = word.arg(1) == OPTION && word.arg(2) == "reject";
    if rejects {
        let why = "reject: requests are not refused for names of headers: write delete, which takes them out";
        draft.left(word.line, OPTION, why);
    }
    rejects
}
