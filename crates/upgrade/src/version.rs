//! Which of two versions is the newer one.

use std::cmp::Ordering;

/// `1.2.3` before `1.2.10`, and `1.3.0-rc1` before `1.3.0`.
fn compare(one: &str, other: &str) -> Ordering {
    let split = |text: &str| -> (Vec<u64>, Option<String>) {
        let (numbers, rest) = match text.split_once(['-', '~', '+']) {
            Some((numbers, rest)) => (numbers.to_owned(), Some(rest.to_owned())),
            None => (text.to_owned(), None),
        };
        (numbers.split('.').map(|n| n.parse().unwrap_or(0)).collect(), rest)
    };
    let ((a, a_rest), (b, b_rest)) = (split(one), split(other));
    let longest = a.len().max(b.len());
    let at = |numbers: &[u64], i: usize| numbers.get(i).copied().unwrap_or(0);
    let numbers = (0..longest).map(|i| at(&a, i).cmp(&at(&b, i))).find(|o| o.is_ne());
    numbers.unwrap_or_else(|| match (a_rest, b_rest) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(&b),
    })
}

pub fn is_newer(candidate: &str, running: &str) -> bool {
    compare(candidate, running).is_gt()
}
