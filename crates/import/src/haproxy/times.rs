//! Times of lines as HAProxy reads them: a number and a unit, of which it looks at the first letter alone.

use crate::draft::Draft;

/// Words of a line behind which a time stands.
const OF_SERVERS: [&str; 5] = ["inter", "fastinter", "downinter", "slowstart", "agent-inter"];

/// Sets times right that HAProxy takes with a warning, such as `15min`, and tells of those that are none.
pub fn settle(words: &mut [String], number: usize, draft: &mut Draft) {
    let first = words.first().cloned().unwrap_or_default();
    let places: Vec<usize> = match first.as_str() {
        "timeout" => vec![2],
        "contimeout" | "clitimeout" | "srvtimeout" => vec![1],
        "server" | "default-server" | "server-template" => behind(words, &OF_SERVERS),
        "stick-table" => behind(words, &["expire"]),
        _ => return,
    };
    for at in places {
        let Some(word) = words.get_mut(at).filter(|word| !word.is_empty()) else { continue };
        match known(word) {
            Some(time) if time == word.len() => {}
            Some(time) => {
                let rest = word.split_off(time);
                draft.note(number, &format!("{first} {word}{rest}"), format!("it is taken as {word}"));
            }
            None => draft.wrong(
                number,
                &first,
                format!("'{word}' is no time: a number with us, ms, s, m, h or d"),
            ),
        }
    }
}

fn behind(words: &[String], names: &[&str]) -> Vec<usize> {
    let is_name = |at: &usize| names.contains(&words[*at].as_str());
    (1..words.len()).filter(is_name).map(|at| at + 1).collect()
}

/// How much of a word is a time.
fn known(word: &str) -> Option<usize> {
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let unit = &word[digits..];
    let length = match unit.as_bytes() {
        _ if digits == 0 => return None,
        [] => 0,
        [b'u', b's', ..] | [b'm', b's', ..] => 2,
        [b's' | b'm' | b'h' | b'd', ..] => 1,
        _ => return None,
    };
    Some(digits + length)
}

#[cfg(test)]
mod tests {
    use super::known;

    #[test]
    fn times_and_what_follows_them() {
        for (word, time) in [
            ("5", 1),
            ("2s", 2),
            ("15min", 3),
            ("2sec", 2),
            ("1h30m", 2),
            ("10msec", 4),
            ("7us", 3),
            ("1d", 2),
        ] {
            assert_eq!(known(word), Some(time), "{word}");
        }
        for word in ["abc", "10S", "1.5s", "-1", "5u", "s"] {
            assert_eq!(known(word), None, "{word}");
        }
    }
}
