//! A map from texts to texts, as a file holds it: `KEY VALUE` lines.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::bytes::Regex;

use crate::pattern::{bits, masked, network};
use crate::regular::regex;
use crate::token::PublicKey;

/// How keys of a file are compared with what is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MapMatch {
    /// A `*` at the beginning or the end of a key stands for anything.
    #[default]
    Stars,
    Exact,
    /// The longest key that it begins with.
    Begin,
    End,
    /// The longest key that is a part of it between `.`, `/`, `:` and `?`.
    Domain,
    /// The first key of the file that is such a part.
    DomainInOrder,
    /// The first key of the file that is a part of it between `/` and `?`.
    DirectoryInOrder,
    /// The first key of the file that it ends with.
    EndInOrder,
    /// The first key of the file that it contains.
    Contains,
    /// The first regular expression of the file.
    Regex,
    /// The same; `\1` in a value is what the first group found.
    RegexGroups,
    /// The narrowest network that it is in.
    Network,
}

impl MapMatch {
    pub const WORDS: [(&'static str, MapMatch); 12] = [
        ("stars", MapMatch::Stars),
        ("exact", MapMatch::Exact),
        ("begin", MapMatch::Begin),
        ("end", MapMatch::End),
        ("domain", MapMatch::Domain),
        ("domain-in-order", MapMatch::DomainInOrder),
        ("directory-in-order", MapMatch::DirectoryInOrder),
        ("end-in-order", MapMatch::EndInOrder),
        ("contains", MapMatch::Contains),
        ("regex", MapMatch::Regex),
        ("regex-groups", MapMatch::RegexGroups),
        ("network", MapMatch::Network),
    ];

    pub fn of(word: &str) -> Option<MapMatch> {
        MapMatch::WORDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Content {
    /// `KEY VALUE` lines.
    #[default]
    Pairs,
    /// Each line is a key as a whole, whose value is empty.
    List,
    /// A public key or a certificate (PEM), and no lines at all.
    PublicKey,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MapForm {
    pub matching: MapMatch,
    pub content: Content,
    /// Upper and lower case of keys are the same.
    pub folds: bool,
}

impl MapForm {
    pub const PUBLIC_KEY: MapForm =
        MapForm { matching: MapMatch::Stars, content: Content::PublicKey, folds: false };
}

impl From<MapMatch> for MapForm {
    fn from(matching: MapMatch) -> MapForm {
        MapForm { matching, ..MapForm::default() }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Map {
    matching: MapMatch,
    folds: bool,
    exact: HashMap<Box<[u8]>, Box<str>>,
    /// `text*` and `*text`, by length, the longest first.
    prefixes: Ends,
    suffixes: Ends,
    /// Keys that are tried in the file's order.
    contained: Vec<(Box<[u8]>, Box<str>)>,
    expressions: Vec<(Regex, Box<str>)>,
    networks: HashMap<(u128, u8), Box<str>>,
    /// The longest prefix first.
    widths: Vec<u8>,
    public_key: Option<PublicKey>,
}

#[derive(Clone, Debug, Default)]
struct Ends {
    texts: HashMap<Box<[u8]>, Box<str>>,
    lengths: Vec<usize>,
}

impl Ends {
    fn insert(&mut self, key: &[u8], value: &str) {
        if let Err(at) = self.lengths.binary_search_by(|length| key.len().cmp(length)) {
            self.lengths.insert(at, key.len());
        }
        self.texts.entry(key.into()).or_insert_with(|| value.into());
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

/// What stands before a `#` at the beginning of a line or behind white space.
fn without_comment(line: &str) -> &str {
    let begins = |at: &usize| *at == 0 || line.as_bytes()[at - 1].is_ascii_whitespace();
    let comment = line.match_indices('#').map(|(at, _)| at).find(begins);
    line[..comment.unwrap_or(line.len())].trim()
}

/// Where a name, or a path, has its parts.
fn divides(byte: u8) -> bool {
    b"./:?".contains(&byte)
}

fn divides_folders(byte: u8) -> bool {
    b"/?".contains(&byte)
}

/// Whether a text is a part of another one between such signs.
fn is_part_of(part: &[u8], whole: &[u8], divides: fn(u8) -> bool) -> bool {
    !part.is_empty()
        && whole.windows(part.len()).enumerate().any(|(at, found)| {
            let begins = at == 0 || divides(whole[at - 1]);
            found == part && begins && whole.get(at + part.len()).is_none_or(|byte| divides(*byte))
        })
}

impl Map {
    /// Reads the lines of a file; a `#` at the beginning or behind white space begins a comment.
    pub fn read(text: &str, form: impl Into<MapForm>) -> Result<Map, MapError> {
        let form = form.into();
        let mut map = Map { matching: form.matching, folds: form.folds, ..Map::default() };
        if form.content == Content::PublicKey {
            map.public_key = Some(PublicKey::read(text).map_err(|why| MapError { line: 1, why })?);
            return Ok(map);
        }
        for (number, line) in text.lines().enumerate() {
            let line = without_comment(line);
            if line.is_empty() {
                continue;
            }
            let wrong = |why: String| MapError { line: number + 1, why };
            if form.content == Content::List {
                map.insert(line, "").map_err(wrong)?;
                continue;
            }
            let Some((key, value)) = line.split_once(char::is_whitespace) else {
                return Err(wrong("expected KEY VALUE".into()));
            };
            map.insert(key, value.trim()).map_err(wrong)?;
        }
        Ok(map)
    }

    /// Of a file that was read as one.
    pub(crate) fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    /// Of keys that are the same the first one holds.
    fn insert_exact(&mut self, key: &[u8], value: &str) {
        self.exact.entry(key.into()).or_insert_with(|| value.into());
    }

    fn insert(&mut self, key: &str, value: &str) -> Result<(), String> {
        // An expression folds by itself.
        let folded = (self.folds && !self.has_expressions()).then(|| key.to_ascii_lowercase());
        let key = folded.as_deref().unwrap_or(key);
        let bytes = key.as_bytes();
        match self.matching {
            MapMatch::Exact => self.insert_exact(bytes, value),
            MapMatch::Begin | MapMatch::Domain => self.prefixes.insert(bytes, value),
            MapMatch::End => self.suffixes.insert(bytes, value),
            MapMatch::Contains | MapMatch::EndInOrder => self.contained.push((bytes.into(), value.into())),
            MapMatch::DomainInOrder => {
                let bare = key.trim_matches(|c: char| c.is_ascii() && divides(c as u8));
                self.contained.push((bare.as_bytes().into(), value.into()));
            }
            MapMatch::DirectoryInOrder => {
                let bare = key.trim_matches(|c: char| c.is_ascii() && divides_folders(c as u8));
                self.contained.push((bare.as_bytes().into(), value.into()));
            }
            MapMatch::Regex | MapMatch::RegexGroups => {
                let regex = regex(key, self.folds)
                    .map_err(|why| format!("expected a regular expression as the key: {why}"))?;
                self.expressions.push((regex, value.into()));
            }
            MapMatch::Network => {
                let (bits, width) = network(key).ok_or("expected an address or a network as the key")?;
                if let Err(at) = self.widths.binary_search_by(|known| width.cmp(known)) {
                    self.widths.insert(at, width);
                }
                self.networks.entry((bits, width)).or_insert_with(|| value.into());
            }
            MapMatch::Stars => match (key.strip_prefix('*'), key.strip_suffix('*')) {
                _ if key.bytes().filter(|b| *b == b'*').count() > 1 => {
                    return Err("a key has one `*` at most, at its beginning or its end".into());
                }
                (Some(rest), _) => self.suffixes.insert(rest.as_bytes(), value),
                (_, Some(rest)) => self.prefixes.insert(rest.as_bytes(), value),
                _ if key.contains('*') => {
                    return Err("`*` stands at the beginning or the end of a key".into());
                }
                _ => self.insert_exact(bytes, value),
            },
        }
        Ok(())
    }

    /// The value of a key; with stars exact before the longest beginning before the longest end.
    pub fn get(&self, key: &[u8]) -> Option<Cow<'_, str>> {
        match self.matching {
            MapMatch::RegexGroups => {
                let (found, value) =
                    self.expressions.iter().find_map(|(r, v)| Some((r.captures(key)?, v)))?;
                let group = |digit: u32| found.get(digit as usize).map_or(&b""[..], |group| group.as_bytes());
                let mut out = String::new();
                let mut chars = value.chars();
                while let Some(c) = chars.next() {
                    match (c, if c == '\\' { chars.next() } else { None }) {
                        ('\\', Some(digit)) if digit.is_ascii_digit() => {
                            let number = digit.to_digit(10).unwrap_or(0);
                            out.push_str(&String::from_utf8_lossy(group(number)));
                        }
                        ('\\', Some(other)) => out.push(other),
                        (c, _) => out.push(c),
                    }
                }
                Some(Cow::Owned(out))
            }
            _ => self.find(key).map(Cow::Borrowed),
        }
    }

    /// Whether a key fits.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// The first key of the file for which a test holds.
    fn first(&self, holds: impl Fn(&[u8]) -> bool) -> Option<&str> {
        self.contained.iter().find(|(part, _)| holds(part)).map(|(_, value)| &**value)
    }

    fn has_expressions(&self) -> bool {
        matches!(self.matching, MapMatch::Regex | MapMatch::RegexGroups)
    }

    fn find(&self, key: &[u8]) -> Option<&str> {
        let folded = (self.folds && !self.has_expressions()).then(|| key.to_ascii_lowercase());
        let key = folded.as_deref().unwrap_or(key);
        match self.matching {
            MapMatch::Contains => self.first(|part| memchr::memmem::find(key, part).is_some()),
            MapMatch::EndInOrder => self.first(|part| key.ends_with(part)),
            MapMatch::DomainInOrder => self.first(|part| is_part_of(part, key, divides)),
            MapMatch::DirectoryInOrder => self.first(|part| is_part_of(part, key, divides_folders)),
            MapMatch::Regex | MapMatch::RegexGroups => {
                self.expressions.iter().find(|(regex, _)| regex.is_match(key)).map(|(_, value)| &**value)
            }
            MapMatch::Network => {
                let bits = bits(std::str::from_utf8(key).ok()?.trim().parse().ok()?);
                let found =
                    self.widths.iter().find_map(|width| self.networks.get(&(masked(bits, *width), *width)));
                found.map(|value| &**value)
            }
            MapMatch::Domain => {
                let begins = (0..key.len()).filter(|at| *at == 0 || divides(key[at - 1]));
                let found = begins.filter_map(|from| {
                    let rest = &key[from..];
                    let ends = |length: &&usize| rest.get(**length).is_none_or(|byte| divides(*byte));
                    let lengths = self.prefixes.lengths.iter().filter(|length| **length <= rest.len());
                    lengths.filter(ends).find_map(|length| {
                        self.prefixes.texts.get(&rest[..*length]).map(|value| (*length, &**value))
                    })
                });
                found.max_by_key(|(length, _)| *length).map(|(_, value)| value)
            }
            MapMatch::Stars | MapMatch::Exact | MapMatch::Begin | MapMatch::End => {
                let exact = self.exact.get(key).map(|v| &**v);
                exact
                    .or_else(|| self.prefixes.longest(key, |k, length| &k[..length]))
                    .or_else(|| self.suffixes.longest(key, |k, length| &k[k.len() - length..]))
            }
        }
    }

    pub fn values(&self) -> impl Iterator<Item = &str> {
        let ends = self.prefixes.texts.values().chain(self.suffixes.texts.values());
        let listed = self.contained.iter().map(|(_, v)| v).chain(self.expressions.iter().map(|(_, v)| v));
        let all = self.exact.values().chain(ends).chain(listed).chain(self.networks.values());
        all.map(|v| &**v)
    }
}
