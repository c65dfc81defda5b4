//! What is captured of requests, by the number of its line.

use super::proxy::{Proxy, Word};

impl Proxy {
    /// `capture.req.hdr(N)` as the header that is the Nth captured, where no rule changes it before; what
    /// else is captured and asked for is kept in a variable.
    pub fn with_captures_named(&self) -> Proxy {
        let mut proxy = self.clone();
        let slots: Vec<Option<String>> = self.words.iter().filter_map(captured_header).collect();
        for (at, name) in slots.iter().enumerate() {
            let changes = |word: &Word| {
                let edits = word.arg(1).contains("header");
                edits && name.as_ref().is_some_and(|name| word.arg(2).eq_ignore_ascii_case(name))
                    || slot_written(word) == Some(at)
            };
            let Some(name) = name.as_ref().filter(|_| !self.words.iter().any(changes)) else { continue };
            proxy.asks_slot(at, &format!("req.fhdr({name})"));
        }
        proxy.with_slots_kept()
    }

    /// Puts a sample in the place of `capture.req.hdr(N)`; false where nobody asks for it.
    fn asks_slot(&mut self, at: usize, sample: &str) -> bool {
        let from = format!("capture.req.hdr({at})");
        let texts = self.words.iter_mut().flat_map(|word| &mut word.words);
        texts.filter(|text| text.contains(&from)).map(|text| *text = text.replace(&from, sample)).count() > 0
    }

    /// `declare capture request` with the rules that fill it by `id N`, and rules with `len N` that are asked
    /// for: a variable has the text, and the line of the log too.
    fn with_slots_kept(mut self) -> Proxy {
        let lengths: Vec<String> =
            self.words.iter().filter(|word| captured_header(word).is_some()).map(length_of).collect();
        let named = |at: usize| format!("txn.captured-{at}");
        // What `capture request header` takes is taken before any rule.
        let lines = self.words.iter().filter(|word| captured_header(word).is_some());
        let by_rules: Vec<bool> = lines.map(|word| word.words[0] != "capture").collect();
        let asked: Vec<bool> = (0..lengths.len())
            .map(|at| by_rules[at] && self.asks_slot(at, &format!("var({})", named(at))))
            .collect();
        let filled: Vec<usize> = self.words.iter().filter_map(slot_written).collect();
        let mut out = Vec::new();
        let mut next = 0;
        for mut word in std::mem::take(&mut self.words) {
            let own = captured_header(&word).map(|_| next);
            next += usize::from(own.is_some());
            let is_rule = word.words[0] == "http-request";
            let slot = slot_written(&word).or(own.filter(|_| is_rule)).filter(|at| *at < lengths.len());
            // One that no rule fills is told: HAProxy's line has its empty brackets.
            if word.words[0] == "declare" && own.is_some_and(|at| filled.contains(&at)) {
                continue;
            }
            if let (Some(at), Some(option)) = (slot, option_of(&word)) {
                if asked[at] {
                    let sample = format!("{},bytes(0,{})", word.words[2..option].join(" "), lengths[at]);
                    let mut words = vec!["http-request".into(), format!("set-var({})", named(at)), sample];
                    words.extend_from_slice(&word.words[option + 2..]);
                    out.push(Word { words, comments: Vec::new(), ..word.clone() });
                }
                word.words[option] = "len".into();
                word.words[option + 1].clone_from(&lengths[at]);
            }
            out.push(word);
        }
        self.words = out;
        self
    }
}

/// Where `len N` or `id N` of a rule stands.
fn option_of(word: &Word) -> Option<usize> {
    let end = word.words.iter().position(|w| w == "if" || w == "unless").unwrap_or(word.words.len());
    let at = word.words[..end].iter().rposition(|w| w == "len" || w == "id")?;
    (at > 2 && at + 1 < end).then_some(at)
}

/// The slot that a rule fills by `id N`.
fn slot_written(word: &Word) -> Option<usize> {
    let rule = word.words[0] == "http-request" && word.arg(1) == "capture";
    let at = option_of(word).filter(|at| rule && word.words[*at] == "id")?;
    word.words[at + 1].parse().ok()
}

/// How many bytes a line keeps.
fn length_of(word: &Word) -> String {
    word.words.iter().skip_while(|w| *w != "len").nth(1).cloned().unwrap_or_default()
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
