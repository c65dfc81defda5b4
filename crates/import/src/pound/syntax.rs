//! Lines, words and blocks.

use crate::tree::{Node, Tree};

/// Keywords that open a block whatever stands behind them.
const BLOCKS: &[&str] = &[
    "listenhttp",
    "listenhttps",
    "tunnel",
    "service",
    "emergency",
    "session",
    "match",
    "condition",
    "rewrite",
    "combineheaders",
    "resolver",
    "configtext",
];

/// The words of a line. In quotes a backslash stands before a quote or another backslash; `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut signs = line.chars().peekable();
    loop {
        while signs.next_if(|c| c.is_whitespace()).is_some() {}
        match signs.peek() {
            None | Some('#') => return words,
            Some('"') => {
                signs.next();
                let mut word = String::new();
                while let Some(sign) = signs.next().filter(|sign| *sign != '"') {
                    let escaped = signs.next_if(|next| sign == '\\' && ['"', '\\'].contains(next));
                    word.push(escaped.unwrap_or(sign));
                }
                words.push(word);
            }
            Some(_) => {
                let mut word = String::new();
                while let Some(sign) = signs.next_if(|c| !c.is_whitespace() && *c != '"') {
                    word.push(sign);
                }
                words.push(word);
            }
        }
    }
}

/// The keyword behind any `Not`.
pub fn keyword(words: &[String]) -> String {
    let word = words.iter().find(|word| !word.eq_ignore_ascii_case("not"));
    word.map(|word| word.to_lowercase()).unwrap_or_default()
}

/// Whether the lines up to `End` belong to this one. `within` is whether it stands in a block itself.
fn opens(words: &[String], within: bool) -> bool {
    let word = keyword(words);
    let rest = words.iter().skip_while(|word| word.eq_ignore_ascii_case("not")).skip(1);
    let mut names = rest.filter(|word| !word.eq_ignore_ascii_case("-forwarded"));
    match word.as_str() {
        // A name within a service is that of a list which stands elsewhere; a file needs no lines.
        "acl" => match names.next() {
            None => true,
            Some(_) => !within && names.next().is_none(),
        },
        "trustedip" => names.next().is_none(),
        // A block in new versions; old ones have the socket's path behind it.
        "control" => !within && names.next().is_none(),
        "backend" => true,
        _ => BLOCKS.contains(&word.as_str()),
    }
}

pub fn parse(text: &str) -> Vec<Node> {
    let mut tree = Tree::new();
    let mut comments = Vec::new();
    let mut depth = 0_usize;
    for (at, line) in text.lines().enumerate() {
        if let Some(comment) = line.trim().strip_prefix('#') {
            comments.push(comment.trim().to_owned());
            continue;
        }
        let words = words(line);
        let Some(first) = words.first() else { continue };
        if first.eq_ignore_ascii_case("end") {
            tree.end();
            depth = depth.saturating_sub(1);
            continue;
        }
        let opens = opens(&words, depth > 0);
        tree.push(Node {
            line: at + 1,
            words,
            children: Vec::new(),
            comments: std::mem::take(&mut comments),
        });
        if opens {
            tree.begin();
            depth += 1;
        }
    }
    tree.finish()
}

pub fn is_on(value: &str) -> bool {
    ["1", "yes", "true", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
