//! One value out of a text in JSON, by a path such as `$.user.names[0]`.

/// Containers within containers; what is deeper has no values.
const DEEPEST: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathSegment {
    Key(Box<str>),
    At(usize),
}

/// A path that was read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(Box<[PathSegment]>);

impl JsonPath {
    pub fn parse(text: &str) -> Option<JsonPath> {
        let mut rest = text.strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let (number, after) = after.split_once(']')?;
                steps.push(PathSegment::At(number.parse().ok()?));
                rest = after;
            } else {
                let after = rest.strip_prefix('.')?;
                // A sign behind a backslash is a part of the name.
                let (mut escaped, mut name) = (false, String::new());
                let end = after.char_indices().find_map(|(at, c)| {
                    let plain = !std::mem::take(&mut escaped);
                    match c {
                        '.' | '[' if plain => return Some(at),
                        '\\' if plain => escaped = true,
                        c => name.push(c),
                    }
                    None
                });
                let end = end.unwrap_or(after.len());
                steps.push(PathSegment::Key(name.into()));
                rest = &after[end..];
                if end == 0 {
                    return None;
                }
            }
        }
        Some(JsonPath(steps.into()))
    }

    /// Texts without their quotes, numbers and lists as they are written, `1` and `0` for what is true or
    /// false; nothing for what is not there, `null` and objects.
    pub fn find(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut at = text.trim_ascii_start();
        for step in &self.0 {
            at = match step {
                PathSegment::Key(key) => member(at, key)?,
                PathSegment::At(number) => element(at, *number)?,
            };
        }
        let (value, _) = value(at)?;
        match value {
            [b'"', inner @ .., b'"'] => unescaped(inner),
            b"true" => Some(b"1".to_vec()),
            b"false" => Some(b"0".to_vec()),
            b"null" | [b'{', ..] => None,
            value => Some(value.to_vec()),
        }
    }
}

/// The text from the value of a key on.
fn member<'t>(text: &'t [u8], key: &str) -> Option<&'t [u8]> {
    let mut rest = text.strip_prefix(b"{")?.trim_ascii_start();
    loop {
        let (name, after) = value(rest)?;
        let after = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        if unescaped(name.strip_prefix(b"\"")?.strip_suffix(b"\"")?)? == key.as_bytes() {
            return Some(after);
        }
        let (_, after) = value(after)?;
        rest = after.trim_ascii_start().strip_prefix(b",")?.trim_ascii_start();
    }
}

/// The text from an element of a list on.
fn element(text: &[u8], number: usize) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"[")?.trim_ascii_start();
    for _ in 0..number {
        let (_, after) = value(rest)?;
        rest = after.trim_ascii_start().strip_prefix(b",")?.trim_ascii_start();
    }
    (!rest.starts_with(b"]")).then_some(rest)
}

/// The value that a text begins with, and what follows it.
fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return Some(text.split_at(at + 1));
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            // A word ends with what it stands in.
            b'}' | b']' if depth == 0 => return word(text, at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(text.split_at(at + 1));
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return word(text, at),
            _ => {}
        }
        if depth > DEEPEST {
            return None;
        }
    }
    if quoted || depth > 0 { None } else { word(text, text.len()) }
}

/// What stands between quotes (RFC 8259 section 7).
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (escape, after) = rest.split_first()?;
        rest = after;
        out.push(match escape {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'"' | b'\\' | b'/' => *escape,
            b'u' => {
                let unit = unit(&mut rest)?;
                let pair = (0xd800..0xdc00).contains(&unit);
                let low = if pair { unit_behind(&mut rest)? } else { 0 };
                let code =
                    if pair { 0x1_0000 + ((unit - 0xd800) << 10) + low.checked_sub(0xdc00)? } else { unit };
                let mut buffer = [0; 4];
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
    Some(out)
}

/// Four hexadecimal digits.
fn unit(rest: &mut &[u8]) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    let sound = digits.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| sound)
}

/// The second half of a pair.
fn unit_behind(rest: &mut &[u8]) -> Option<u32> {
    *rest = rest.strip_prefix(b"\\u")?;
    unit(rest).filter(|low| (0xdc00..0xe000).contains(low))
}

/// A number, `true`, `false` or `null`.
fn word(text: &[u8], end: usize) -> Option<(&[u8], &[u8])> {
    let (word, rest) = text.split_at(end);
    let number = |word: &[u8]| {
        let plain = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
        word.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-') && word.iter().all(plain)
    };
    (["true", "false", "null"].iter().any(|w| w.as_bytes() == word) || number(word)).then_some((word, rest))
}

#[cfg(test)]
mod tests {
    use super::JsonPath;

    #[test]
    fn values_are_found_by_their_path() {
        let text = r#" {"a": {"b":"v \"w\" \u00e9\ud83d\ude00"}, "n" : -4.2e1,"l":[1, "two",{"k":3},[]], "t":true, "z":null}"#;
        let find = |path: &str| {
            JsonPath::parse(path).unwrap().find(text.as_bytes()).map(|v| String::from_utf8(v).unwrap())
        };
        for (path, expected) in [
            ("$.a.b", Some("v \"w\" é😀")),
            ("$.n", Some("-4.2e1")),
            ("$.l[0]", Some("1")),
            ("$.l[1]", Some("two")),
            ("$.l[2].k", Some("3")),
            ("$.l[3]", Some("[]")),
            ("$.l[4]", None),
            ("$.l[3][0]", None),
            ("$.a", None),
            ("$.t", Some("1")),
            ("$.z", None),
            ("$.none", None),
            ("$.n.x", None),
        ] {
            assert_eq!(find(path).as_deref(), expected, "{path}");
        }
        for bad in ["a", "$a", "$.", "$[x]", "$[1", "$..a"] {
            assert_eq!(JsonPath::parse(bad), None, "{bad}");
        }
        // What is no JSON has no values, and nothing panics.
        let path = JsonPath::parse("$.a[1]").unwrap();
        for end in 0..text.len() {
            if text.is_char_boundary(end) {
                path.find(&text.as_bytes()[..end]);
            }
        }
        assert_eq!(path.find(&b"{\"a\":".repeat(1000)), None);
        assert_eq!(path.find(&b"[".repeat(1000)), None);
    }
}
