//! What samples in rules are known beforehand: names of proxies and of listeners.

use super::proxy::{Proxy, SectionKind, Word};

impl Proxy {
    /// Samples that are known beforehand. `frontend`: the one whose rules are made. Answers come from a backend
    /// that is known where there is one alone.
    fn constants(&self, frontend: &str, of_answers: bool) -> Vec<(&'static str, String)> {
        let frontend = if frontend.is_empty() { &self.name } else { frontend };
        let mut all = vec![("fe_name", frontend.to_owned())];
        // A `listen` is one as well where others answer.
        let others = self.last("default_backend").is_some() || self.last("use_backend").is_some();
        let is_frontend = self.kind == SectionKind::Frontend || others && self.kind == SectionKind::Listen;
        let one = || self.last("default_backend").filter(|_| self.last("use_backend").is_none());
        match is_frontend && of_answers {
            true => all.extend(one().map(|word| ("be_name", word.arg(1).to_owned()))),
            false => all.push(("be_name", self.name.clone())),
        }
        let named = |word: &Word| word.words.iter().skip_while(|w| *w != "name").nth(1).cloned();
        let mut names = self.all("bind").map(named);
        if let Some(first) = names.next().flatten()
            && names.all(|name| name.as_ref() == Some(&first))
        {
            all.push(("so_name", first));
        }
        all
    }

    /// A rule's word with them as texts.
    pub fn with_constants(&self, word: &Word, frontend: &str) -> Word {
        let of_answers =
            word.words[0].starts_with("http-response") || word.words[0].starts_with("http-after");
        with_constants(word, &self.constants(frontend, of_answers))
    }
}

/// A text whose `srv_id` is said by the names of servers, which are known with their numbers.
pub fn numbered(text: &str, servers: &[(String, String)]) -> String {
    let pairs: Vec<String> = servers.iter().map(|(name, id)| format!("{name},{id}")).collect();
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("srv_id").filter(|_| !pairs.is_empty()) {
        out.push_str(before);
        // It has no argument, and is no part of another word.
        let alone = !after.starts_with(|c: char| c.is_ascii_alphanumeric() || "_(".contains(c));
        match alone {
            true => out.push_str(&format!("srv_name,server_number({})", pairs.join(","))),
            false => out.push_str("srv_id"),
        }
        rest = after;
    }
    out + rest
}

/// Verbs of rules with texts in which the log's short names stand as well.
const FORMATTED: [&str; 9] = [
    "add-header",
    "set-header",
    "replace-header",
    "replace-value",
    "redirect",
    "return",
    "set-path",
    "set-query",
    "set-uri",
];

/// `%s`, `%b` and `%f` of the log as the samples that they are short for.
pub fn spelled_out(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // Its flags stay before it.
        if let Some((flags, name)) = rest.strip_prefix("%{").and_then(|rest| rest.split_once('}')) {
            let short = name.chars().take_while(char::is_ascii_alphabetic).collect::<String>();
            let whole = match short.as_str() {
                "s" => "[srv_name]",
                "b" => "[be_name]",
                "f" => "[fe_name]",
                other => other,
            };
            out.push_str(&format!("%{{{flags}}}{whole}"));
            rest = &name[short.len()..];
            continue;
        }
        let end = rest[1..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |end| end + 1);
        let (short, after) = match &rest[..end] {
            "%s" => ("%[srv_name]", &rest[end..]),
            "%b" => ("%[be_name]", &rest[end..]),
            "%f" => ("%[fe_name]", &rest[end..]),
            "%" if rest.starts_with("%%") => ("%%", &rest[2..]),
            other => (other, &rest[end..]),
        };
        out.push_str(short);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The word with samples that are known beforehand as texts.
fn with_constants(word: &Word, constants: &[(&str, String)]) -> Word {
    let mut word = word.clone();
    let takes_formats = word.words.get(1).is_some_and(|verb| FORMATTED.contains(&verb.as_str()));
    for text in &mut word.words {
        if takes_formats {
            *text = spelled_out(text);
        }
        for (sample, value) in constants {
            let value = value.replace('%', "%%");
            *text = text.replace(&format!("%{{+Q}}[{sample}]"), &format!("\"{value}\""));
            *text = text.replace(&format!("%[{sample}]"), &value);
        }
    }
    word
}
