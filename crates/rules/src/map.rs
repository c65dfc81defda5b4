//! A map from texts to texts, as a file holds it: `KEY VALUE` lines.

use std::collections::HashMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    exact: HashMap<Box<[u8]>, Box<str>>,
    /// `text*` and `*text`, by length, the longest first.
    prefixes: Ends,
    suffixes: Ends,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ends {
    texts: HashMap<Box<[u8]>, Box<str>>,
    lengths: Vec<usize>,
}

impl Ends {
    fn insert(&mut self, key: &[u8], value: &str) {
        if let Err(at) = self.lengths.binary_search_by(|length| key.len().cmp(length)) {
            self.lengths.insert(at, key.len());
        }
        self.texts.insert(key.into(), value.into());
    }

    fn longest<'a>(&self, key: &'a [u8], part: impl Fn(&'a [u8], usize) -> &'a [u8]) -> Option<&str> {
        let fitting = self.lengths.iter().filter(|length| **length <= key.len());
        fitting.into_iter().find_map(|length| self.texts.get(part(key, *length))).map(|v| &**v)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapError {
    pub line: usize,
    pub why: String,
}

impl Map {
    /// Reads `KEY VALUE` lines; `#` begins a comment, a key may begin or end with `*`.
    pub fn read(text: &str) -> Result<Map, MapError> {
        let mut map = Map::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let wrong = |why: &str| MapError { line: number + 1, why: why.into() };
            let Some((key, value)) = line.split_once(char::is_whitespace) else {
                return Err(wrong("expected KEY VALUE"));
            };
            match (key.strip_prefix('*'), key.strip_suffix('*')) {
                _ if key.bytes().filter(|b| *b == b'*').count() > 1 => {
                    return Err(wrong("a key has one `*` at most, at its beginning or its end"));
                }
                (Some(rest), _) => map.suffixes.insert(rest.as_bytes(), value.trim()),
                (_, Some(rest)) => map.prefixes.insert(rest.as_bytes(), value.trim()),
                _ if key.contains('*') => {
                    return Err(wrong("`*` stands at the beginning or the end of a key"));
                }
                _ => {
                    map.exact.insert(key.as_bytes().into(), value.trim().into());
                }
            }
        }
        Ok(map)
    }

    /// The value of a key: exact before the longest beginning before the longest end.
    pub fn get(&self, key: &[u8]) -> Option<&str> {
        let exact = self.exact.get(key).map(|v| &**v);
        exact
            .or_else(|| self.prefixes.longest(key, |k, length| &k[..length]))
            .or_else(|| self.suffixes.longest(key, |k, length| &k[k.len() - length..]))
    }

    pub fn values(&self) -> impl Iterator<Item = &str> {
        let all = self.exact.values().chain(self.prefixes.texts.values()).chain(self.suffixes.texts.values());
        all.map(|v| &**v)
    }

    pub fn len(&self) -> usize {
        self.exact.len() + self.prefixes.texts.len() + self.suffixes.texts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
