//! Converters of addresses: normal forms of HAProxy's `normalize-uri`, each for itself, and parameters of a
//! query. Functions over bytes; what is no path or escape is left as it is.

/// One normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normal {
    /// `//` is `/`.
    MergeSlashes,
    /// Without `/./`.
    StripDot,
    /// Without `/x/../`; `true`: nor `/../` at the beginning.
    StripDotDot(bool),
    /// Parameters by their names.
    SortQuery,
    /// `%2f` is `%2F`.
    Uppercase,
    /// `%41` is `A`.
    DecodeUnreserved,
    StripFragment,
    EncodeFragment,
}

impl Normal {
    pub const WORDS: [(&str, Normal); 9] = [
        ("path-merge-slashes", Normal::MergeSlashes),
        ("path-strip-dot", Normal::StripDot),
        ("path-strip-dotdot", Normal::StripDotDot(false)),
        ("path-strip-dotdot-full", Normal::StripDotDot(true)),
        ("query-sort-by-name", Normal::SortQuery),
        ("percent-to-uppercase", Normal::Uppercase),
        ("percent-decode-unreserved", Normal::DecodeUnreserved),
        ("fragment-strip", Normal::StripFragment),
        ("fragment-encode", Normal::EncodeFragment),
    ];

    pub fn of(word: &str) -> Option<Normal> {
        Normal::WORDS.iter().find(|(known, _)| *known == word).map(|(_, normal)| *normal)
    }

    /// Path and query in this form.
    pub fn apply(self, target: &[u8]) -> Vec<u8> {
        let at = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(at);
        let with_path = |path: Vec<u8>| [path.as_slice(), query].concat();
        match self {
            Normal::MergeSlashes | Normal::StripDot | Normal::StripDotDot(_) if !path.starts_with(b"/") => {
                target.to_vec()
            }
            Normal::MergeSlashes => with_path(merged(path)),
            Normal::StripDot => with_path(without_dots(&path[1..])),
            Normal::StripDotDot(full) => with_path(without_parents(&path[1..], full)),
            Normal::SortQuery => [path, &sorted(query)].concat(),
            Normal::Uppercase => escapes(target, |digits, _| Some(digits.to_ascii_uppercase())),
            Normal::DecodeUnreserved => escapes(target, |_, byte| {
                (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)).then(|| vec![byte])
            }),
            Normal::StripFragment => {
                target[..target.iter().position(|byte| *byte == b'#').unwrap_or(target.len())].to_vec()
            }
            Normal::EncodeFragment => {
                target.split(|byte| *byte == b'#').collect::<Vec<_>>().join(&b"%23"[..])
            }
        }
    }
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || out.last() != Some(&b'/') {
            out.push(*byte);
        }
    }
    out
}

fn rooted(segments: &[&[u8]]) -> Vec<u8> {
    [&b"/"[..], &segments.join(&b'/')].concat()
}

fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    if segments.last() == Some(&&b"."[..]) {
        segments.push(b"");
    }
    segments.retain(|segment| *segment != b".");
    rooted(&segments)
}

fn without_parents(path: &[u8], full: bool) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    if segments.last() == Some(&&b".."[..]) {
        segments.push(b"");
    }
    let (mut kept, mut up) = (vec![segments.pop().unwrap_or(b"")], 0);
    for segment in segments.into_iter().rev() {
        match segment {
            b".." => up += 1,
            _ if up > 0 => up -= 1,
            segment => kept.push(segment),
        }
    }
    if !full {
        kept.extend(std::iter::repeat_n(&b".."[..], up));
    }
    kept.reverse();
    rooted(&kept)
}

fn sorted(query: &[u8]) -> Vec<u8> {
    let Some(parameters) = query.strip_prefix(b"?") else { return query.to_vec() };
    let mut all: Vec<&[u8]> = parameters.split(|byte| *byte == b'&').collect();
    all.sort_by_key(|parameter| parameter.split(|byte| *byte == b'=').next());
    [&b"?"[..], &all.join(&b'&')].concat()
}

/// Another text for each escape, given its two digits and the byte that it stands for.
fn escapes(text: &[u8], other: impl Fn(&[u8], u8) -> Option<Vec<u8>>) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *byte == b'%');
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        match (digits, value) {
            (Some(digits), Some(value)) => {
                match other(digits, value) {
                    Some(text) if text.len() == 1 => out.extend(text),
                    Some(text) => out.extend([&b"%"[..], &text].concat()),
                    None => out.extend([&b"%"[..], digits].concat()),
                }
                rest = &after[2..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// The value of a parameter; empty where it has none.
pub fn parameter<'t>(text: &'t [u8], name: &[u8], sign: u8) -> Option<&'t [u8]> {
    text.split(|byte| *byte == sign).find_map(|pair| value_of(pair, name))
}

/// The value of `name=value`, or of `name` alone.
pub fn value_of<'t>(pair: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    match pair.strip_prefix(name)? {
        [b'=', value @ ..] => Some(value),
        [] => Some(&[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_normal_form_for_itself() {
        for (word, from, to) in [
            ("path-merge-slashes", "///foo///bar///?a=//", "/foo/bar/?a=//"),
            ("path-merge-slashes", "*", "*"),
            ("path-strip-dot", "/./a/././b/.?.", "/a/b/?."),
            ("path-strip-dot", "/.", "/"),
            ("path-strip-dot", "/.a/b.", "/.a/b."),
            ("path-strip-dotdot", "/foo/..", "/"),
            ("path-strip-dotdot", "/foo/bar/../", "/foo/"),
            ("path-strip-dotdot", "/foo/../../bar/", "/../bar/"),
            ("path-strip-dotdot-full", "/foo/../../bar/", "/bar/"),
            ("path-strip-dotdot", "/foo//../../bar/", "/bar/"),
            ("path-strip-dotdot", "/foo/../?b=/a/../", "/?b=/a/../"),
            ("query-sort-by-name", "/?c&b=2&a&b=1", "/?a&b=2&b=1&c"),
            ("query-sort-by-name", "/?aaaa=&a=&aa=", "/?a=&aa=&aaaa="),
            ("query-sort-by-name", "/?", "/?"),
            ("percent-to-uppercase", "/%2f%zz%a?%2f", "/%2F%zz%a?%2F"),
            ("percent-decode-unreserved", "/%41%2f%7E?%2d%", "/A%2f~?-%"),
            ("fragment-strip", "/a#b#c", "/a"),
            ("fragment-encode", "/a#b#c", "/a%23b%23c"),
        ] {
            let normal = Normal::of(word).unwrap_or_else(|| panic!("{word}"));
            assert_eq!(String::from_utf8_lossy(&normal.apply(from.as_bytes())), to, "{word} {from}");
        }
        assert_eq!(Normal::of("path-strip"), None);
    }

    #[test]
    fn parameters_that_are_there() {
        let found =
            |text: &str, name: &str| parameter(text.as_bytes(), name.as_bytes(), b'&').map(<[u8]>::len);
        assert_eq!(found("a=1&test=34", "test"), Some(2));
        assert_eq!(found("a&test&b", "test"), Some(0));
        assert_eq!(found("a&tests=1", "test"), None);
    }
}
