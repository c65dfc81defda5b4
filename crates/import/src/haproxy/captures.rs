//! What is captured of requests, by the number of its line.

use super::proxy::{Proxy, Word};

impl Proxy {
    /// `capture.req.hdr(N)` as the header that is the Nth captured, where no rule changes it before.
    pub fn with_captures_named(&self) -> Proxy {
        let mut proxy = self.clone();
        let slots: Vec<Option<String>> = self.words.iter().filter_map(captured_header).collect();
        for (at, name) in slots.iter().enumerate() {
            let changes = |word: &Word| {
                let edits = word.arg(1).contains("header");
                edits && name.as_ref().is_some_and(|name| word.arg(2).eq_ignore_ascii_case(name))
            };
            let Some(name) = name.as_ref().filter(|_| !self.words.iter().any(changes)) else { continue };
            let (from, to) = (format!("capture.req.hdr({at})"), format!("req.fhdr({name})"));
            let texts = proxy.words.iter_mut().flat_map(|word| &mut word.words);
            texts.for_each(|text| *text = text.replace(&from, &to));
        }
        proxy
    }
}

/// What a line captures of a request, where it is a header as a whole; none of lines that capture nothing.
fn captured_header(word: &Word) -> Option<Option<String>> {
    let header = |sample: &str| {
        let name = sample.trim_start_matches("req.").strip_prefix("fhdr(").or_else(|| {
            sample.trim_start_matches("req.").strip_prefix("hdr(").filter(|n| n.eq_ignore_ascii_case("host)"))
        })?;
        name.strip_suffix(')').filter(|name| !name.contains([',', '('])).map(str::to_owned)
    };
    match (word.words[0].as_str(), word.arg(1), word.arg(2)) {
        ("capture", "request", "header") => Some(Some(word.arg(3).to_owned())),
        ("http-request", "capture", sample) if word.words.iter().any(|w| w == "len") => Some(header(sample)),
        ("declare", "capture", "request") => Some(None),
        _ => None,
    }
}
