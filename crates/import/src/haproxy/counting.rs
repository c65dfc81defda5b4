//! ACLs that count as they are asked (`sc0_inc_gpc0`, `src_clr_gpc1`…), as a rule that counts and an ACL that
//! only asks.

use std::collections::BTreeMap;

use super::proxy::{Proxy, Word};

/// What a test changes: the rule that does so, and the test that is left.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counting {
    /// `sc-inc-gpc0(0)`, with the value that is set behind it.
    rule: Vec<String>,
    /// What asks for the same number afterwards.
    test: Vec<String>,
}

/// One test that counts; none where it is another, or is compared as nobody can afterwards.
fn counting(test: &[String], own: &str) -> Option<Counting> {
    let (fetch, compared) = test.split_first()?;
    let (name, arguments) = match fetch.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')?),
        None => (fetch.as_str(), ""),
    };
    let (before, after) = name.split_once("_inc_gpc").or_else(|| name.split_once("_clr_gpc"))?;
    let clears = name.contains("_clr_");
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    // An array's index stands first.
    let (index, arguments) = match (after, arguments.as_slice()) {
        ("0" | "1", rest) => (None, rest.to_vec()),
        ("", [index, rest @ ..]) => (Some(*index), rest.to_vec()),
        _ => return None,
    };
    let entry = match (before, arguments.as_slice()) {
        ("src", []) => format!("src:{own}"),
        ("src", [table]) => format!("src:{table}"),
        ("sc", [_, table]) => format!("table:{table}"),
        ("sc", [number]) => (*number).to_owned(),
        (tracked, rest) => match (tracked.strip_prefix("sc")?, rest) {
            (number, []) => number.parse::<u8>().ok()?.to_string(),
            (_, [table]) => format!("table:{table}"),
            _ => return None,
        },
    };
    let place = index.map_or_else(|| entry.clone(), |index| format!("{index},{entry}"));
    let verb = if clears { "sc-set-gpc" } else { "sc-inc-gpc" };
    let mut rule = vec![format!("{verb}{after}({place})")];
    if clears {
        // What is asked is the number before; that it was one holds always.
        let always = matches!(compared, [sign, zero] if sign == "ge" && zero == "0");
        rule.push("0".into());
        return always.then(|| Counting { rule, test: vec!["always_true".into()] });
    }
    let asks = fetch.replacen("_inc_gpc", "_get_gpc", 1);
    let test = [asks].into_iter().chain(compared.iter().cloned()).collect();
    Some(Counting { rule, test })
}

/// A term of a condition: its words, and what it changes.
struct Term {
    words: Vec<String>,
    counting: Option<Counting>,
}

/// The terms of the first group, and where the next group begins.
fn terms(words: &[String], named: &BTreeMap<&str, Counting>, own: &str) -> Option<(Vec<Term>, usize)> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < words.len() && !["or", "||", "OR"].contains(&words[at].as_str()) {
        let from = at;
        let bare = words[at].trim_start_matches('!');
        // A `!` may stand alone.
        let bare = match bare {
            "" => {
                at += 1;
                words.get(at)?.as_str()
            }
            bare => bare,
        };
        let counting = if bare == "{" {
            let end = at + words[at..].iter().position(|word| word == "}")?;
            let inner = &words[at + 1..end];
            at = end;
            counting(inner, own)
        } else {
            named.get(bare).cloned()
        };
        at += 1;
        all.push(Term { words: words[from..at].to_vec(), counting });
    }
    Some((all, at))
}

/// A rule with a condition that counts, as the rules that count and the rule that asks.
fn spelled_out(word: &Word, named: &BTreeMap<&str, Counting>, own: &str) -> Option<Vec<Word>> {
    let ruleset = match word.words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["http-request", ..] => vec!["http-request".to_owned()],
        ["tcp-request", "content", ..] => vec!["tcp-request".to_owned(), "content".to_owned()],
        _ => return None,
    };
    let sense = word.words.iter().rposition(|word| word == "if" || word == "unless")?;
    let (first, end) = terms(&word.words[sense + 1..], named, own)?;
    let (others, _) = terms(word.words[sense + 1..].get(end + 1..).unwrap_or(&[]), named, own)?;
    if !first.iter().any(|term| term.counting.is_some()) || others.iter().any(|t| t.counting.is_some()) {
        return None;
    }
    let mut rules = Vec::new();
    let mut before: Vec<String> = Vec::new();
    for term in first {
        let Some(counting) = term.counting else {
            before.extend(term.words);
            continue;
        };
        let mut words = [&ruleset[..], &counting.rule].concat();
        if !before.is_empty() {
            words.push("if".into());
            words.extend(before.iter().cloned());
        }
        rules.push(Word { words, comments: Vec::new(), ..word.clone() });
        let not = term.words[0].starts_with('!').then(|| "!".to_owned());
        before.extend(not);
        before.push("{".into());
        before.extend(counting.test);
        before.push("}".into());
    }
    let rest = word.words[sense + 1 + end..].iter().cloned();
    let words = word.words[..=sense].iter().cloned().chain(before).chain(rest).collect();
    rules.push(Word { words, ..word.clone() });
    Some(rules)
}

impl Proxy {
    /// The same with rules that count where an ACL counts as it is asked.
    pub fn with_counting_spelled_out(self) -> Proxy {
        let mut lines: BTreeMap<&str, Vec<&Word>> = BTreeMap::new();
        for word in self.words.iter().filter(|word| word.words[0] == "acl" && word.words.len() > 2) {
            lines.entry(&word.words[1]).or_default().push(word);
        }
        // Of several lines each is asked where those before it do not hold.
        let single = lines.into_iter().filter(|(_, lines)| lines.len() == 1);
        let named: BTreeMap<&str, Counting> = single
            .filter_map(|(name, lines)| Some((name, counting(&lines[0].words[2..], &self.name)?)))
            .collect();
        let (mut words, mut inherited) = (Vec::new(), self.inherited);
        for (at, word) in self.words.iter().enumerate() {
            let is_counting =
                word.words[0] == "acl" && word.words.get(1).is_some_and(|n| named.contains_key(&**n));
            if is_counting {
                // Its rules ask for themselves.
                let mut word = word.clone();
                word.words.truncate(2);
                word.words.extend(named[word.words[1].as_str()].test.clone());
                words.push(word);
                continue;
            }
            let rules = spelled_out(word, &named, &self.name).unwrap_or_else(|| vec![word.clone()]);
            if at < self.inherited {
                inherited += rules.len() - 1;
            }
            words.extend(rules);
        }
        Proxy { words, inherited, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_a_test_changes_and_what_asks_for_it_afterwards() {
        for (test, rule, left) in [
            ("sc0_inc_gpc0 gt 5", "sc-inc-gpc0(0)", "sc0_get_gpc0 gt 5"),
            ("sc2_inc_gpc0(t) gt 5", "sc-inc-gpc0(table:t)", "sc2_get_gpc0(t) gt 5"),
            ("sc_inc_gpc1(1) gt 5", "sc-inc-gpc1(1)", "sc_get_gpc1(1) gt 5"),
            ("sc_inc_gpc(3,1) gt 5", "sc-inc-gpc(3,1)", "sc_get_gpc(3,1) gt 5"),
            ("src_inc_gpc0 gt 5", "sc-inc-gpc0(src:own)", "src_get_gpc0 gt 5"),
            ("src_clr_gpc0(t) ge 0", "sc-set-gpc0(src:t) 0", "always_true"),
        ] {
            let found = counting(&words(test), "own").unwrap();
            assert_eq!((found.rule.join(" "), found.test.join(" ")), (rule.into(), left.into()), "{test}");
        }
        for other in ["src_clr_gpc0 gt 3", "sc0_get_gpc0 gt 5", "path_beg /inc", "sc_inc_gpc gt 5"] {
            assert_eq!(counting(&words(other), "own"), None, "{other}");
        }
    }

    #[test]
    fn a_condition_counts_where_those_before_it_hold() {
        let kill = counting(&words("sc0_inc_gpc0 gt 5"), "own").unwrap();
        let named = BTreeMap::from([("kill", kill)]);
        let rules = |text: &str| {
            let word = Word::new(7, words(text), Vec::new());
            let all = spelled_out(&word, &named, "own")?;
            Some(all.iter().map(|word| word.words.join(" ")).collect::<Vec<_>>())
        };
        assert_eq!(
            rules("http-request deny if abuse kill || other").unwrap(),
            [
                "http-request sc-inc-gpc0(0) if abuse",
                "http-request deny if abuse { sc0_get_gpc0 gt 5 } || other"
            ]
        );
        assert_eq!(
            rules("tcp-request content reject unless !kill { src_inc_gpc1(t) lt 3 }").unwrap(),
            [
                "tcp-request content sc-inc-gpc0(0)",
                "tcp-request content sc-inc-gpc1(src:t) if ! { sc0_get_gpc0 gt 5 }",
                "tcp-request content reject unless ! { sc0_get_gpc0 gt 5 } { src_get_gpc1(t) lt 3 }"
            ]
        );
        // What stands behind `or` is asked only where all before it does not hold.
        assert_eq!(rules("http-request deny if other or kill"), None);
        assert_eq!(rules("http-request deny if abuse"), None);
    }
}
