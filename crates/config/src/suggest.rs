//! The word that was probably meant.

/// Words of other load balancers, and what they are called here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("frontend", "virtual-service"),
    ("vserver", "virtual-service"),
    ("listen", "virtual-service"),
    ("service", "virtual-service"),
    ("backend", "pool"),
    ("farm", "pool"),
    ("cluster", "pool"),
    ("upstream", "pool"),
    ("server", "real-server"),
    ("node", "real-server"),
    ("member", "real-server"),
    ("rip", "real-server"),
    ("balance", "scheduler"),
    ("algorithm", "scheduler"),
    ("lb-algo", "scheduler"),
    ("affinity", "persistence"),
    ("stickiness", "persistence"),
    ("sticky", "persistence"),
    ("monitor", "health-check"),
    ("check", "health-check"),
    ("checks", "health-check"),
    ("bind", "vip"),
    ("maxconn", "max-connections"),
    ("slowstart", "slow-start"),
    ("forwardfor", "forwarded"),
    ("roundrobin", "round-robin"),
    ("leastconn", "least-connections"),
    ("source", "source-hash"),
    ("uri", "uri-hash"),
    ("drain", "draining"),
    ("disabled", "halted"),
];

/// The nearest of `known`, when it is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.replace('_', "-").to_ascii_lowercase();
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == word)
        && let Some(found) = known.clone().find(|k| k == ours)
    {
        return Some(found);
    }
    known
        .map(|k| (distance(&word, k), k))
        .filter(|(d, k)| *d <= (k.len().max(word.len()) / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["scheduler", "persistence", "health-check", "max-connections", "vip"];
        let check = |word: &str, expect: Option<&str>| {
            assert_eq!(nearest(word, known.into_iter()), expect, "{word}");
        };
        check("sheduler", Some("scheduler"));
        check("persistance", Some("persistence"));
        check("health_check", Some("health-check"));
        check("maxconn", Some("max-connections"));
        check("balance", Some("scheduler"));
        check("vpi", Some("vip"));
        check("zebra", None);
        check(&"x".repeat(100_000), None);
    }
}
