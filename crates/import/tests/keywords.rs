//! Every keyword of HAProxy's has a fate, and the page that tells of them is what the import answers.

use evenkeel_import::{Fate, keyword_fate, keywords, keywords_page};

#[test]
fn the_page_of_keywords_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/haproxy-keywords.md");
    let made = keywords_page();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "haproxy-keywords.md drifted: run make reference");
}
