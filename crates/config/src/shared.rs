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
}
