//! Regular expressions, bounded: whoever may write one may not stop the program that reads it.

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Of the text: building takes time that grows faster than it.
const TEXT_AT_MOST: usize = 16 << 10;
/// Of the program that it becomes.
const SIZE_AT_MOST: usize = 1 << 20;
/// How deep groups may stand in each other.
const DEPTH_AT_MOST: u32 = 64;

/// A regular expression over bytes, or why the text is none that is taken here, in few words.
pub fn regex(pattern: &str, folds: bool) -> Result<Regex, String> {
    if pattern.len() > TEXT_AT_MOST {
        return Err(format!("it is longer than {TEXT_AT_MOST} bytes"));
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.unicode(false).case_insensitive(folds).size_limit(SIZE_AT_MOST).nest_limit(DEPTH_AT_MOST);
    builder.build().map_err(|e| {
        let why = e.to_string();
        why.lines().last().unwrap_or("").trim_start_matches("error: ").chars().take(200).collect()
    })
}

/// Of the program of many expressions at once, and of what matching keeps of it.
const SET_AT_MOST: usize = 32 << 20;
const KEPT_AT_MOST: usize = 8 << 20;

/// Many expressions that are looked for at once, as [`regex`] reads them where upper and lower case are
/// not the same; `None` where together they are too large.
pub fn regex_set<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Option<RegexSet> {
    let mut builder = RegexSetBuilder::new(patterns);
    builder.unicode(false).size_limit(SET_AT_MOST).dfa_size_limit(KEPT_AT_MOST).nest_limit(DEPTH_AT_MOST);
    builder.build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_ones_are_refused() {
        for (pattern, why) in [
            ("a".repeat(200_000), "longer than"),
            ("(?:a{1000}){1000}".into(), "size limit"),
            ("((a{20}){20}){20}{20}".into(), "size limit"),
            (format!("{}a{}", "(".repeat(100), ")".repeat(100)), "nest"),
            ("(".into(), "unclosed group"),
        ] {
            let error = regex(&pattern, true).unwrap_err();
            assert!(error.contains(why) && error.len() < 300, "{error}");
        }
        assert!(regex("^/(api|shop)/[0-9]{1,6}$", false).unwrap().is_match(b"/api/12"));
        assert!(regex("abc", true).unwrap().is_match(b"xABCx"));
    }
}
