//! Sets of patterns and networks, quick however many there are.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::fetch::Fetch;
use crate::gate::{Part, Texts};
use crate::spelling::normal_pattern;

/// How the patterns of a file are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListForm {
    /// Upper and lower case are the same.
    pub folds: bool,
    /// Patterns are brought into the normal form in which this is compared.
    pub normal: Option<Fetch>,
}

/// Patterns with `*` for anything. Exact texts and those with one `*` at an end are found by
/// hash, one look-up for each length that occurs; others are tried one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatternSet {
    folds: bool,
    exact: HashSet<Box<[u8]>>,
    /// `text*`
    prefixes: ByLength,
    /// `*text`
    suffixes: ByLength,
    globs: Vec<Box<[u8]>>,
    /// The same patterns, as long as they are few: comparing some is quicker than hashing.
    few: Vec<Simple>,
}

const FEW: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Simple {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Glob(Box<[u8]>),
}

impl Simple {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Simple::Exact(text) => value == &**text,
            Simple::Prefix(text) => value.starts_with(text),
            Simple::Suffix(text) => value.ends_with(text),
            Simple::Glob(glob) => glob_match(glob, value, &mut |_| {}),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ByLength {
    texts: HashSet<Box<[u8]>>,
    /// Ascending.
    lengths: Vec<usize>,
}

impl ByLength {
    fn insert(&mut self, text: &[u8]) {
        if let Err(at) = self.lengths.binary_search(&text.len()) {
            self.lengths.insert(at, text.len());
        }
        self.texts.insert(text.into());
    }

    fn any<'a>(&self, value: &'a [u8], part: impl Fn(&'a [u8], usize) -> &'a [u8]) -> bool {
        let fitting = self.lengths.iter().take_while(|length| **length <= value.len());
        fitting.into_iter().any(|length| self.texts.contains(part(value, *length)))
    }
}

impl PatternSet {
    pub fn new(folds: bool) -> PatternSet {
        PatternSet { folds, ..PatternSet::default() }
    }

    /// As they were inserted, in no order.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let prefixes = self.prefixes.texts.iter().map(|part| text(part) + "*");
        let suffixes = self.suffixes.texts.iter().map(|part| format!("*{}", text(part)));
        let others = self.exact.iter().chain(&self.globs).map(|part| text(part));
        others.chain(prefixes).chain(suffixes).collect()
    }

    pub(crate) fn replace(&mut self, patterns: impl Iterator<Item = String>) {
        *self = PatternSet::new(self.folds);
        patterns.for_each(|pattern| self.insert(&pattern));
    }

    pub fn insert(&mut self, pattern: &str) {
        let text = if self.folds { pattern.to_ascii_lowercase() } else { pattern.to_owned() };
        let text = text.as_bytes();
        if self.few.len() <= FEW {
            self.few.push(match (text, text.iter().filter(|b| **b == b'*').count()) {
                (_, 0) => Simple::Exact(text.into()),
                ([rest @ .., b'*'], 1) => Simple::Prefix(rest.into()),
                ([b'*', rest @ ..], 1) => Simple::Suffix(rest.into()),
                _ => Simple::Glob(text.into()),
            });
        }
        match (text, text.iter().filter(|b| **b == b'*').count()) {
            (_, 0) => {
                self.exact.insert(text.into());
            }
            ([rest @ .., b'*'], 1) => self.prefixes.insert(rest),
            ([b'*', rest @ ..], 1) => self.suffixes.insert(rest),
            _ => self.globs.push(text.into()),
        }
    }

    /// The exact texts and beginnings that a value must have one of, where there is nothing else.
    pub(crate) fn beginnings(&self) -> Option<Vec<(Box<[u8]>, bool)>> {
        let each = self.few.iter().map(|pattern| match pattern {
            Simple::Exact(text) => Some((text.clone(), true)),
            Simple::Prefix(text) => Some((text.clone(), false)),
            _ => None,
        });
        if self.few.len() <= FEW && !self.folds { each.collect() } else { None }
    }

    /// All of them as parts of what they match; `None` where some are more than a part.
    pub(crate) fn parts(&self) -> Option<Texts> {
        let part = |texts: &HashSet<Box<[u8]>>, part: Part| -> Texts {
            texts.iter().map(|text| (text.clone(), part)).collect()
        };
        let (starts, ends) = (&self.prefixes.texts, &self.suffixes.texts);
        let all = || [part(&self.exact, Part::Whole), part(starts, Part::Start), part(ends, Part::End)];
        self.globs.is_empty().then(|| all().concat())
    }

    /// Those without a `*`.
    pub(crate) fn exact_texts(&self) -> impl Iterator<Item = &[u8]> {
        self.exact.iter().map(|text| &**text)
    }

    pub fn len(&self) -> usize {
        self.exact.len() + self.prefixes.texts.len() + self.suffixes.texts.len() + self.globs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one of the patterns matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        if !self.folds || !value.iter().any(u8::is_ascii_uppercase) {
            return self.holds(value);
        }
        let mut small = [0; 256];
        match small.get_mut(..value.len()) {
            Some(lower) => {
                lower.copy_from_slice(value);
                lower.make_ascii_lowercase();
                self.holds(lower)
            }
            None => self.holds(&value.to_ascii_lowercase()),
        }
    }

    fn holds(&self, value: &[u8]) -> bool {
        if self.few.len() <= FEW {
            return self.few.iter().any(|pattern| pattern.matches(value));
        }
        self.exact.contains(value)
            || self.prefixes.any(value, |v, length| &v[..length])
            || self.suffixes.any(value, |v, length| &v[v.len() - length..])
            || self.globs.iter().any(|glob| glob_match(glob, value, &mut |_| {}))
    }
}

/// Whether a header has this name, in which `*` stands for anything; upper and lower case are the same.
pub fn is_named(header: &[u8], name: &[u8]) -> bool {
    match memchr::memchr(b'*', name) {
        None => header.eq_ignore_ascii_case(name),
        Some(at) if at + 1 == name.len() => {
            header.get(..at).is_some_and(|begin| begin.eq_ignore_ascii_case(&name[..at]))
        }
        Some(_) => glob_match(&name.to_ascii_lowercase(), &header.to_ascii_lowercase(), &mut |_| {}),
    }
}

/// The same where `-` and all that is no letter or digit are one: servers of CGI, WSGI and PHP read `X_Real_IP`,
/// and some `X.Real~IP`, as `X-Real-IP`, so whoever may not send the one may not send the other.
pub fn is_named_alike(header: &[u8], name: &[u8]) -> bool {
    let plain = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    let same =
        |a: &[u8], b: &[u8]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| plain(*a) == plain(*b));
    match memchr::memchr(b'*', name) {
        None => same(header, name),
        Some(at) if at + 1 == name.len() => header.get(..at).is_some_and(|begin| same(begin, &name[..at])),
        Some(_) => {
            let header: Vec<u8> = header.iter().map(|byte| plain(*byte)).collect();
            let name = name.iter().map(|byte| if *byte == b'*' { b'*' } else { plain(*byte) });
            glob_match(&name.collect::<Vec<u8>>(), &header, &mut |_| {})
        }
    }
}

/// Whether a pattern matches; `star` gets what each `*` stood for. Takes time in proportion to
/// the lengths multiplied at worst.
pub fn glob_match(pattern: &[u8], value: &[u8], star: &mut dyn FnMut(&[u8])) -> bool {
    let mut parts = pattern.split(|b| *b == b'*');
    let first = parts.next().unwrap_or(&[]);
    let Some(mut rest) = value.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            let Some(middle) = rest.strip_suffix(part) else { return false };
            star(middle);
            return true;
        }
        let Some(at) = memchr::memmem::find(rest, part) else { return false };
        star(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    true
}

/// Networks, one look-up for each prefix length that occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    networks: HashSet<(u128, u8)>,
    lengths: Vec<u8>,
}

pub(crate) fn bits(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(a) => a.to_ipv6_mapped().into(),
        IpAddr::V6(a) => a.into(),
    }
}

pub(crate) fn masked(bits: u128, length: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// `ADDRESS` or `ADDRESS/PREFIX` as bits and how many of them count, IPv4 within IPv6.
pub(crate) fn network(text: &str) -> Option<(u128, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address = address.parse::<IpAddr>().ok()?;
    let (width, base) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
    let length: u8 = prefix.map_or(Some(width), |prefix| prefix.parse().ok().filter(|l| *l <= width))?;
    let length = length + base;
    Some((masked(bits(address), length), length))
}

impl NetworkSet {
    /// Adds `ADDRESS` or `ADDRESS/PREFIX`; whether it was one.
    pub fn insert(&mut self, text: &str) -> bool {
        let Some((bits, length)) = network(text) else { return false };
        self.networks.insert((bits, length));
        if let Err(at) = self.lengths.binary_search(&length) {
            self.lengths.insert(at, length);
        }
        true
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = bits(address);
        self.lengths.iter().rev().any(|length| self.networks.contains(&(masked(bits, *length), *length)))
    }

    pub fn len(&self) -> usize {
        self.networks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

/// The entries of a list file: one a line, `#` begins a comment.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines =
        text.lines().enumerate().map(|(i, line)| (i + 1, line.split('#').next().unwrap_or("").trim()));
    lines.filter(|(_, entry)| !entry.is_empty())
}

/// The patterns of a file, and the lines that no value in the normal form matches: they stay as they are.
pub fn read_patterns(text: &str, form: ListForm) -> (PatternSet, Vec<usize>) {
    let (mut set, mut unmatchable) = (PatternSet::new(form.folds), Vec::new());
    // Those that fold are names of hosts, or numbers to which this does nothing.
    let host =
        |entry: &str| if form.folds && !entry.is_ascii() { crate::spelling::host(entry) } else { None };
    for (line, entry) in entries(text) {
        match form.normal.map(|fetch| normal_pattern(fetch, entry.to_owned())) {
            Some(Ok(normal)) => set.insert(&normal),
            Some(Err(_)) => {
                unmatchable.push(line);
                set.insert(entry);
            }
            None => set.insert(host(entry).as_deref().unwrap_or(entry)),
        }
    }
    (set, unmatchable)
}

/// Networks, or the line of the first entry that is none. Entries are not told: a file that was
/// meant for something else may hold secrets.
pub fn read_networks(text: &str) -> Result<NetworkSet, usize> {
    let mut set = NetworkSet::default();
    for (line, entry) in entries(text) {
        if !set.insert(entry) {
            return Err(line);
        }
    }
    Ok(set)
}
