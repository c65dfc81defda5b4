//! What two nodes of a pair have in common: the file without what is each node's own.

use toml_edit::DocumentMut;

/// Tables that are each node's own.
pub const OWN: &[&str] = &["pair", "admin", "state", "node"];

/// The part of a file that both nodes have, comments and layout kept. `None` where it is no TOML.
pub fn shared(text: &str) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    OWN.iter().for_each(|key| drop(document.remove(key)));
    Some(document.to_string())
}

/// The same of a text that [`crate::read`] has found nothing wrong with, in one walk over it where it is
/// written plainly: a large file need not become a tree of tables and a text again for its hash.
pub fn shared_of_read(text: &str) -> Option<String> {
    plainly_shared(text).or_else(|| shared(text))
}

/// Nothing where the text has something that the walk does not know, or that would be written otherwise.
fn plainly_shared(text: &str) -> Option<String> {
    if text.contains('\r') || text.starts_with('\u{feff}') || !text.ends_with('\n') {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    // What is before a header belongs to it: comments and empty lines.
    let (mut at, mut loose, mut kept, mut at_root) = (0, 0, true, true);
    while at < text.len() {
        let line = text[at..].split('\n').next().unwrap_or_default();
        let end = at + line.len() + 1;
        let words = line.trim_start_matches([' ', '\t']);
        if words.is_empty() || words.starts_with('#') {
            at = end;
            continue;
        }
        if line.starts_with('[') {
            (kept, at_root) = (!OWN.contains(&header(line)?), false);
            at = end;
        } else {
            let name = words.split(|c: char| !is_bare(c)).next().unwrap_or_default();
            let value = words[name.len()..].trim_start_matches([' ', '\t']).strip_prefix('=')?;
            if name.is_empty() || at_root && OWN.contains(&name) {
                return None;
            }
            at = end_of_value(text, end - 1 - value.len())?;
        }
        if kept {
            out.push_str(&text[loose..at]);
        }
        loose = at;
    }
    out.push_str(&text[loose..]);
    Some(out)
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The first name of a table's header.
fn header(line: &str) -> Option<&str> {
    let inner = match line.strip_prefix("[[") {
        Some(rest) => rest.split_once("]]"),
        None => line[1..].split_once(']'),
    };
    let (names, rest) = inner?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let plain = names.split('.').all(|name| !name.is_empty() && name.chars().all(is_bare));
    (plain && (rest.is_empty() || rest.starts_with('#'))).then(|| names.split('.').next())?
}

/// Where the line behind a value begins.
fn end_of_value(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (from, 0usize);
    loop {
        match *bytes.get(at)? {
            b'\n' if depth == 0 => return Some(at + 1),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b'#' => {
                at += bytes[at..].iter().position(|byte| *byte == b'\n')?;
                continue;
            }
            quote @ (b'"' | b'\'') => {
                at = end_of_text(bytes, at, quote)?;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
}

/// What follows a text in quotes that begins here.
fn end_of_text(bytes: &[u8], from: usize, quote: u8) -> Option<usize> {
    let is_long = bytes[from..].starts_with(&[quote; 3]);
    let mut at = from + if is_long { 3 } else { 1 };
    loop {
        match *bytes.get(at)? {
            b'\\' if quote == b'"' => at += 2,
            b'\n' if !is_long => return None,
            byte if byte == quote && !is_long => return Some(at + 1),
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => {
                // One or two more belong to the text.
                let more = bytes[at + 3..].iter().take(2).take_while(|b| **b == quote).count();
                return Some(at + 3 + more);
            }
            _ => at += 1,
        }
    }
}

/// This node's file with the shared part of the other's.
pub fn adopt(own: &str, shared: &str) -> Option<String> {
    let own: DocumentMut = own.parse().ok()?;
    let mut kept = DocumentMut::new();
    for (key, item) in own.iter().filter(|(key, _)| OWN.contains(key)) {
        kept.insert(key, item.clone());
    }
    let mut text = kept.to_string();
    let rest = self::shared(shared)?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    // What is before the first table belongs to the head of the file.
    let (head, tables) = head_of(&rest);
    Some(format!("{head}{text}{tables}"))
}

/// Plain keys of the top level must stand before every table.
fn head_of(text: &str) -> (&str, &str) {
    let mut at = 0;
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with('[') {
            break;
        }
        at += line.len();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            end = at;
        }
    }
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "# of lb1\n[pair]\nname = \"lb1\"\npeer = \"10.0.0.2:9694\"\n[[pair.vrrp]]\ninterface = \"eth0\"\nrouter-id = 5\n\n[admin]\nsocket = \"/tmp/a\"\n\n# what we sell\n[[virtual-service]]\nname = \"web\" # the shop\nvip = [\"10.0.0.9:80\"]\n";
    const OTHER: &str =
        "[pair]\nname = \"lb2\"\npeer = \"10.0.0.1:9694\"\n[[virtual-service]]\nname = \"old\"\n";

    #[test]
    fn each_node_keeps_its_own() {
        let common = shared(ONE).unwrap();
        assert!(
            !common.contains("lb1") && !common.contains("/tmp/a") && !common.contains("eth0"),
            "{common}"
        );
        assert!(common.contains("# what we sell") && common.contains("# the shop"));
        let adopted = adopt(OTHER, &common).unwrap();
        assert!(adopted.contains("lb2") && adopted.contains("web") && !adopted.contains("old"), "{adopted}");
        assert_eq!(shared(&adopted).unwrap().trim(), common.trim(), "the same on both");
        let again = adopt(&adopted, &common).unwrap();
        assert_eq!(again, adopted);
        assert_eq!(shared("[broken"), None);
    }

    /// Whatever a text is made of, the walk over it finds what its tree of tables says, or finds nothing.
    #[test]
    fn the_walk_and_the_tree_agree() {
        let pieces = [
            "[admin]\nsocket = \"/tmp/a\" # mine\n",
            "# above\n\n[pair]\nname = 'lb1'\n\n  # inside\npriority=3\n",
            "[[pair.vrrp]]\ninterface = \"eth0\"\n",
            "[state] # said\n",
            "[node]\nx = { a = 1, b = [ \"]\", '}' ] }\n",
            "[limits]\nworkers = 1\n",
            "[log.common]\ntext = \"\"\"\n[admin]\n\\\"\"\" \\\n\"\"\"\"\"\n",
            "[log.raw]\ntext = '''\n[pair]\n'''''\nb = 'it'\n",
            "\n# of a list\n[[virtual-service]]\nname = \"web#1\"\t# [admin]\nvip = [\n  \"10.0.0.1:80\", # one ]\n  \"[::1]:80\",\n]\n",
            "[[virtual-service]]\n\tname=\"b\"\n  empty = []\n[[virtual-service.real-server]]\nname = \"r\"\n",
            "   \n# loose\n",
            "[virtual.admin]\na = 1\n",
            "[ spaced ]\na = 1\n",
            "  [indented]\na = 1\n",
            "[dotted]\na.b = 1\nc = 2\na.d = 3\n",
            "[\"quoted\"]\n\"a\" = 1\n",
            "[escapes]\na = \"\\\\\"\nb = \"\\\"\" # \"\n",
        ];
        let heads =
            ["", "top = 1\n", "# head\n\ntop = [1,\n2]\n\n", "pair = { name = \"x\" }\n", "admin.x = 1\n"];
        let mut random = 11u64;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let (mut walked, mut valid) = (0, 0);
        for round in 0..4_000 {
            let mut text = heads[if round % 2 == 0 { 0 } else { next(heads.len()) }].to_owned();
            (0..next(7)).for_each(|_| text.push_str(pieces[next(pieces.len())]));
            if next(20) == 0 {
                text.pop();
            }
            let Some(tree) = shared(&text) else { continue };
            valid += 1;
            if let Some(walk) = plainly_shared(&text) {
                walked += 1;
                assert_eq!(walk, tree, "of\n{text}");
            }
        }
        assert!(valid > 1_000 && walked > valid / 4, "{valid} {walked}");
        let plain = pieces[..10].concat();
        assert_eq!(plainly_shared(&plain), shared(&plain));
        assert!(shared(&plain).is_some());
    }
}
