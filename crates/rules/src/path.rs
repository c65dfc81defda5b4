//! Paths and hosts as conditions see them: in the one spelling that all others mean.
//!
//! A server decodes `%69`, merges `//`, goes up at `..` and forgets `;a=b` before it looks for what
//! was asked. A condition that compared the bytes as they came would be passed by another spelling.

/// What becomes of `;a=b` behind a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// Servers that know them leave them away when they look for what is meant.
    Strip,
    Keep,
}

/// A path or query that a route has made, as it can stand in a request line: captured texts come from
/// one, so little is ever replaced.
pub fn writable_target(text: &[u8], path: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1);
    if path && text.first() != Some(&b'/') && text != b"*" {
        out.push(b'/');
    }
    for byte in text {
        match byte {
            0x21..=0x7e if *byte != b'#' && !(path && *byte == b'?') => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

/// The normal form of a path without its query (RFC 3986, section 6.2.2, and slashes merged);
/// nothing where the path has it already.
pub fn normal_path(path: &[u8], parameters: Parameters) -> Option<Vec<u8>> {
    if is_normal(path, parameters) {
        return None;
    }
    let decoded = decoded(path);
    let mut out = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let bare = &segment[..memchr::memchr(b';', segment).unwrap_or(segment.len())];
        match bare {
            b"" if segment.is_empty() && !is_last => continue,
            b"." => {}
            b".." => out.truncate(memchr::memrchr(b'/', &out).unwrap_or(0)),
            _ => {
                out.push(b'/');
                out.extend_from_slice(if parameters == Parameters::Strip { bare } else { segment });
                // Stripped of all it had, a segment is an empty one: slashes are merged.
                if bare.is_empty() && parameters == Parameters::Strip {
                    out.pop();
                    if is_last {
                        out.push(b'/');
                    }
                }
                continue;
            }
        }
        // What ends in a dot segment names a folder.
        if is_last {
            out.push(b'/');
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Some(out)
}

/// Looks for what another spelling would have, without writing anything.
fn is_normal(path: &[u8], parameters: Parameters) -> bool {
    if path.first() != Some(&b'/') {
        // `*` of OPTIONS.
        return true;
    }
    let mut before = 0;
    for (at, byte) in path.iter().enumerate() {
        let rest = &path[at + 1..];
        let differs = match byte {
            b'/' => before == b'/',
            b';' => parameters == Parameters::Strip,
            b'%' => escape(rest).is_some_and(|byte| is_unreserved(byte) || rest[..2] != hex(byte)),
            b'.' if before == b'/' => {
                let rest = rest.strip_prefix(b".").unwrap_or(rest);
                matches!(rest.first(), None | Some(b'/' | b';'))
            }
            _ => false,
        };
        if differs {
            return false;
        }
        before = *byte;
    }
    true
}

/// Unreserved characters as themselves, escapes of others in upper case.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        at += 1;
        match escape(&path[at..]).filter(|_| *byte == b'%') {
            Some(byte) if is_unreserved(byte) => out.push(byte),
            Some(byte) => {
                out.push(b'%');
                out.extend_from_slice(&hex(byte));
            }
            None => {
                out.push(*byte);
                continue;
            }
        }
        at += 2;
    }
    out
}

/// The byte that two digits behind a `%` stand for.
fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low, ..] = digits else { return None };
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

fn hex(byte: u8) -> [u8; 2] {
    let digit = |half: u8| b"0123456789ABCDEF"[usize::from(half & 15)];
    [digit(byte >> 4), digit(byte)]
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether servers differ in what a path means: some take an escaped slash, or a backslash, for the
/// end of a segment, some end a name at a zero byte, some read `%u0069` or `%C1%A9` as `i`.
pub fn is_unclear_path(path: &[u8]) -> bool {
    let unclear = |rest: &[u8]| match escape(rest) {
        Some(b'/' | b'\\' | 0) => true,
        Some(first @ (0xc0 | 0xc1 | 0xe0 | 0xf0)) => is_overlong(first, &rest[2..]),
        Some(_) => false,
        None => is_utf16(rest),
    };
    memchr::memchr2_iter(b'%', b'\\', path).any(|at| path[at] == b'\\' || unclear(&path[at + 1..]))
}

/// Whether the escape behind this byte makes it a character that UTF-8 writes with fewer bytes (RFC 3629
/// section 10). A right decoder refuses it; older ones of Java and Windows do not.
fn is_overlong(first: u8, rest: &[u8]) -> bool {
    let second = rest.strip_prefix(b"%").and_then(escape);
    second.is_some_and(|second| match first {
        0xe0 => (0x80..0xa0).contains(&second),
        0xf0 => (0x80..0x90).contains(&second),
        _ => (0x80..0xc0).contains(&second),
    })
}

/// `u` and four digits behind a `%`, which IIS takes for a character.
fn is_utf16(rest: &[u8]) -> bool {
    let [b'u' | b'U', digits @ ..] = rest else { return false };
    digits.get(..4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// A host without its port: in lower case, without final dots, unreserved characters as themselves; nothing
/// where it is so already.
pub fn normal_host(host: &[u8]) -> Option<Vec<u8>> {
    if !host.iter().any(|byte| byte.is_ascii_uppercase() || *byte == b'%') && host.last() != Some(&b'.') {
        return None;
    }
    let mut normal = decoded(host).to_ascii_lowercase();
    let end = normal.iter().rposition(|byte| *byte != b'.').map_or(0, |at| at + 1);
    normal.truncate(end);
    (normal != host).then_some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expect: &str) {
        let found = normal_path(path.as_bytes(), Parameters::Strip).unwrap_or_else(|| path.into());
        assert_eq!(String::from_utf8_lossy(&found), expect, "{path}");
        assert_eq!(normal_path(&found, Parameters::Strip), None, "{path} is normal then");
    }

    #[test]
    fn other_spellings_of_a_path_are_one() {
        for path in [
            "/internal/x",
            "/%69nternal/x",
            "/%69%6Eternal/x",
            "//internal/x",
            "///internal//x",
            "/./internal/x",
            "/a/../internal/x",
            "/a/%2e%2e/internal/x",
            "/a/.%2E/internal/x",
            "/../internal/x",
            "/a/b/../../internal/./x",
            "/internal;a=b/x",
            "/internal/x;a=b;c",
            "/a/..;x/internal/x",
            "/;x/internal/x",
            "/.;/internal/x",
            "/;/;a/internal/x",
        ] {
            check(path, "/internal/x");
        }
        check("/", "/");
        check("//", "/");
        check("/..", "/");
        check("/a/..", "/");
        check("/a/.", "/a/");
        check("/a/b/..", "/a/");
        check("/a//", "/a/");
        check("/a/;x", "/a/");
        check("/;x", "/");
        check("/.well-known/x...", "/.well-known/x...");
        check("/...", "/...");
        check("/%2f%3b%e9", "/%2F%3B%E9");
        check("/%", "/%");
        check("/%4", "/%4");
        check("/%zz%7e", "/%zz~");
        check("*", "*");
        check("/a%20b", "/a%20b");
    }

    #[test]
    fn what_goes_to_servers_keeps_its_parameters() {
        let keep = |path: &str| {
            let found = normal_path(path.as_bytes(), Parameters::Keep);
            found.map(|found| String::from_utf8_lossy(&found).into_owned())
        };
        assert_eq!(keep("/a;x/b"), None);
        assert_eq!(keep("//a;x/%62").as_deref(), Some("/a;x/b"));
        assert_eq!(keep("/a/..;x/b").as_deref(), Some("/b"));
    }

    #[test]
    fn what_servers_read_differently() {
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a%00", "/%u0069nternal", "/a%U002Fb"] {
            assert!(is_unclear_path(path.as_bytes()), "{path}");
        }
        for path in ["/a%c0%afb", "/%c1%a9nternal", "/%C0%AE%C0%AE/b", "/a%e0%80%afb", "/a%f0%80%80%afb"] {
            assert!(is_unclear_path(path.as_bytes()), "{path}");
        }
        let written = [
            "/%C3%A9",
            "/%E2%82%AC",
            "/%E0%A4%85",
            "/%F0%9F%98%80",
            "/%e9t%e9",
            "/%c0",
            "/%c0a",
            "/%u",
            "/%u00",
        ];
        for path in ["/a%20b", "/%", "/%2", "/%252f", "/a/b"].into_iter().chain(written) {
            assert!(!is_unclear_path(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(normal_host(b"a.example"), None);
        assert_eq!(normal_host(b"A.Example.").as_deref(), Some(&b"a.example"[..]));
        assert_eq!(normal_host(b"[::1]"), None);
        assert_eq!(normal_host(b"a.example..").as_deref(), Some(&b"a.example"[..]));
        assert_eq!(normal_host(b"%61.ex%61mple%2E").as_deref(), Some(&b"a.example"[..]));
        assert_eq!(normal_host(b"a%2fb"), None);
        assert_eq!(normal_host(b".").as_deref(), Some(&b""[..]));
    }
}
