//! Every keyword of HAProxy's has a fate, and the page that tells of them is what the import answers.

use std::path::PathBuf;

use evenkeel_import::{Fate, keyword_fate, keywords, keywords_page};

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/haproxy-keywords.md")
}

/// Those of some places are asked, and the page says the same.
fn the_page_fits(places: &[&str]) {
    let kept = std::fs::read_to_string(file()).unwrap();
    let asked = keywords_page(Some(places));
    let mut table = "";
    for line in asked.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("## ") {
            let start = kept.find(&format!("\n{line}\n")).expect(line) + 1;
            let rest = &kept[start + 3..];
            table = &kept[start..start + 3 + rest.find("\n## ").unwrap_or(rest.len())];
        }
        assert!(
            table.lines().any(|known| known == line),
            "haproxy-keywords.md drifted: make reference: {line}"
        );
    }
    assert!(!asked.contains("| swallowed |"), "a keyword is taken, and nothing becomes of it: {asked}");
    for (place, word) in keywords().filter(|(place, _)| places.contains(place)) {
        assert!(asked.contains(&format!("| `{word}` | ")), "{place} {word}");
    }
    // What HAProxy knows is never called unknown.
    assert!(!asked.contains("unknown keyword"), "{asked}");
}

#[test]
fn the_page_of_keywords_is_current() {
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(file(), keywords_page(None)).unwrap();
    }
    let kept = std::fs::read_to_string(file()).unwrap();
    assert!(keywords().count() > 1_600, "{}", keywords().count());
    let told = kept.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(told, keywords().count(), "haproxy-keywords.md drifted: make reference");
}

#[test]
fn a_word_of_each_fate() {
    assert_eq!(keyword_fate("proxy", "option logasap"), Fate::Works);
    assert!(matches!(keyword_fate("global", "ssl-dh-param-file"), Fate::NoEffect(_)));
    assert!(matches!(keyword_fate("global", "lua-load"), Fate::Refused(why) if why.contains("Lua")));
}

#[test]
fn keywords_of_sections_fit_their_page() {
    the_page_fits(&["section", "global", "proxy"]);
}

#[test]
fn options_of_lines_fit_their_page() {
    the_page_fits(&["bind", "server", "http-check", "tcp-check"]);
}

#[test]
fn rules_of_requests_fit_their_page() {
    the_page_fits(&["http-request", "tcp-request connection", "tcp-request session", "tcp-request content"]);
}

#[test]
fn rules_of_answers_fit_their_page() {
    the_page_fits(&["http-response", "http-after-response", "tcp-response content", "quic-initial"]);
}

#[test]
fn samples_fit_their_page() {
    the_page_fits(&["sample"]);
}

#[test]
fn converters_fit_their_page() {
    the_page_fits(&["converter", "acl"]);
}

/// `map_beg_key` gives the key that fits, where `map_beg` gives its value.
#[test]
fn maps_that_give_what_is_not_known_are_refused() {
    for known in ["map", "map_beg", "map_beg_str", "map_str_int", "map_ip_ip", "map_regm"] {
        assert_eq!(keyword_fate("converter", known), Fate::Works, "{known}");
    }
    for other in ["map_beg_key", "map_str_key", "map_ip_key", "map_sub_key"] {
        assert!(matches!(keyword_fate("converter", other), Fate::Refused(_)), "{other}");
    }
}
