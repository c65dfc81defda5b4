//! An index over the conditions of many routes: which of them can hold for a path and a host. Only
//! those are asked, in their written order; a condition that the index cannot tell from the path or
//! the host is always among them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use evenkeel_balance::hash_bytes;
use evenkeel_rules::{Expression, Texts, regex_set};
use regex::bytes::RegexSet;

/// Fewer routes are asked one after the other: that is as quick.
const FEW: usize = 12;
/// So few candidates with an expression are asked one after the other, too.
const FEW_EXPRESSIONS: usize = 3;

/// A set of routes by their number.
type Bits = Vec<u64>;

/// Hashes texts. Clients choose what is looked for, and never what is found.
#[derive(Default)]
struct TextHasher(u64);

impl Hasher for TextHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= hash_bytes(bytes);
    }

    fn write_usize(&mut self, length: usize) {
        self.0 = (self.0 ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type ByText = HashMap<Box<[u8]>, Found, BuildHasherDefault<TextHasher>>;

/// The routes of one text.
enum Found {
    Few(Vec<u32>),
    /// More than a set has words.
    Many(Bits),
}

impl Found {
    fn add_to(&self, bits: &mut [u64]) {
        match self {
            Found::Few(routes) => routes.iter().for_each(|route| set(bits, *route as usize)),
            Found::Many(routes) => bits.iter_mut().zip(routes).for_each(|(to, from)| *to |= from),
        }
    }
}

fn set(bits: &mut [u64], route: usize) {
    bits[route / 64] |= 1 << (route % 64);
}

/// Texts that stand at one end, by their length.
#[derive(Default)]
struct Ends {
    texts: ByText,
    /// Ascending.
    lengths: Vec<usize>,
}

/// What conditions ask of one text of the request.
struct Column {
    /// Routes that ask nothing of it, or nothing that is here.
    open: Bits,
    whole: ByText,
    starts: Ends,
    ends: Ends,
    /// No route asks anything.
    is_empty: bool,
}

impl Column {
    fn new(each: &[Option<Texts>]) -> Column {
        let words = each.len().div_ceil(64);
        let mut open = vec![0; words];
        let mut routes: [HashMap<&[u8], Vec<u32>>; 3] = Default::default();
        for (number, texts) in each.iter().enumerate() {
            match texts {
                None => set(&mut open, number),
                Some(texts) => texts.iter().for_each(|(text, part)| {
                    routes[*part as usize].entry(text).or_default().push(number as u32);
                }),
            }
        }
        let [whole, starts, ends] = routes.map(|texts| {
            let found = texts.into_iter().map(|(text, routes)| (text.into(), found(routes, words)));
            found.collect::<ByText>()
        });
        let by_length = |texts: ByText| {
            let mut lengths: Vec<usize> = texts.keys().map(|text| text.len()).collect();
            lengths.sort_unstable();
            lengths.dedup();
            Ends { texts, lengths }
        };
        let is_empty = each.iter().all(Option::is_none);
        Column { open, whole, starts: by_length(starts), ends: by_length(ends), is_empty }
    }

    /// The routes that can hold for a value.
    fn look_up(&self, value: &[u8], bits: &mut Bits) {
        bits.clone_from(&self.open);
        let mut add = |texts: &ByText, part: &[u8]| {
            if let Some(found) = texts.get(part) {
                found.add_to(bits);
            }
        };
        if !self.whole.is_empty() {
            add(&self.whole, value);
        }
        for length in self.starts.lengths.iter().take_while(|length| **length <= value.len()) {
            add(&self.starts.texts, &value[..*length]);
        }
        for length in self.ends.lengths.iter().take_while(|length| **length <= value.len()) {
            add(&self.ends.texts, &value[value.len() - length..]);
        }
    }
}

fn found(mut routes: Vec<u32>, words: usize) -> Found {
    routes.dedup();
    if routes.len() <= words.max(4) {
        return Found::Few(routes);
    }
    let mut bits = vec![0; words];
    routes.iter().for_each(|route| set(&mut bits, *route as usize));
    Found::Many(bits)
}

/// Regular expressions that paths must match.
struct Expressions {
    set: RegexSet,
    /// By expression.
    routes: Vec<u32>,
    /// Routes that have none.
    open: Bits,
}

/// See the top of the file.
pub(crate) struct Index {
    path: Column,
    host: Column,
    expressions: Option<Expressions>,
    words: usize,
}

impl Index {
    /// Of the conditions of all routes, in their order; `None` where it would be of no use.
    pub(crate) fn new<'a>(conditions: impl Iterator<Item = Option<&'a Expression>>) -> Option<Index> {
        let conditions: Vec<_> = conditions.collect();
        if conditions.len() < FEW {
            return None;
        }
        let column = |texts: fn(&Expression) -> Option<Texts>| {
            Column::new(&conditions.iter().map(|when| when.and_then(texts)).collect::<Vec<_>>())
        };
        let (path, host) = (column(Expression::path_texts), column(Expression::host_texts));
        let expressions = expressions(&conditions);
        if path.is_empty && host.is_empty && expressions.is_none() {
            return None;
        }
        Some(Index { path, host, expressions, words: conditions.len().div_ceil(64) })
    }

    /// Finds the routes that can hold.
    pub(crate) fn look_up(&self, path: &[u8], host: &[u8], candidates: &mut Candidates) {
        let Candidates { bits, more, lower } = candidates;
        match self.path.is_empty {
            true => {
                bits.clear();
                bits.resize(self.words, u64::MAX);
            }
            false => self.path.look_up(path, bits),
        }
        if !self.host.is_empty {
            lower.clear();
            lower.extend_from_slice(host);
            lower.make_ascii_lowercase();
            self.host.look_up(lower, more);
            bits.iter_mut().zip(&*more).for_each(|(to, from)| *to &= from);
        }
        if let Some(expressions) = &self.expressions {
            expressions.look_up(path, bits, more);
        }
    }
}

fn expressions(conditions: &[Option<&Expression>]) -> Option<Expressions> {
    let (mut patterns, mut routes) = (Vec::new(), Vec::new());
    let mut open = vec![0; conditions.len().div_ceil(64)];
    for (number, when) in conditions.iter().enumerate() {
        match when.and_then(|when| when.path_expressions()) {
            None => set(&mut open, number),
            Some(all) => all.iter().for_each(|one| {
                patterns.push(one.as_str());
                routes.push(number as u32);
            }),
        }
    }
    if patterns.len() <= FEW_EXPRESSIONS {
        return None;
    }
    Some(Expressions { set: regex_set(patterns)?, routes, open })
}

impl Expressions {
    fn look_up(&self, path: &[u8], bits: &mut [u64], more: &mut Bits) {
        let asked: u32 = bits.iter().zip(&self.open).map(|(bits, open)| (bits & !open).count_ones()).sum();
        if asked as usize <= FEW_EXPRESSIONS {
            return;
        }
        more.clone_from(&self.open);
        self.set.matches(path).iter().for_each(|at| set(more, self.routes[at] as usize));
        bits.iter_mut().zip(&*more).for_each(|(to, from)| *to &= from);
    }
}

/// The routes that can hold for one request. Memory is used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    bits: Bits,
    more: Bits,
    lower: Vec<u8>,
}

impl Candidates {
    /// The first one from a number on; behind all where there is none.
    pub(crate) fn next(&self, from: usize) -> usize {
        let mut word = from / 64;
        let mut bits = self.bits.get(word).map_or(0, |bits| bits & (u64::MAX << (from % 64)));
        while bits == 0 {
            word += 1;
            match self.bits.get(word) {
                Some(next) => bits = *next,
                None => return usize::MAX,
            }
        }
        word * 64 + bits.trailing_zeros() as usize
    }
}
