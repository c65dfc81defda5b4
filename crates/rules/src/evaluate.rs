//! An expression as a tree, and its evaluation.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Template;
use crate::convert::MapLoader;
use crate::fetch::{Fetch, NeedsHttp};
use crate::pattern::{ListForm, NetworkSet, PatternSet, glob_match};
use crate::spelling::has_normal_form;

/// A condition that was checked. Two are equal that are written alike.
#[derive(Clone)]
pub struct Expression {
    pub(crate) source: Box<str>,
    pub(crate) root: Node,
}

crate::written_alike!(Expression, source);

#[derive(Clone, Debug)]
pub(crate) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Box<Test>),
}

#[derive(Clone, Debug)]
pub(crate) struct Test {
    /// As it was written.
    pub text: String,
    pub fetch: Fetch,
    pub needs: NeedsHttp,
    pub folds: bool,
    /// Patterns are brought into the normal form.
    pub normal: bool,
    pub arguments: Vec<String>,
    /// What is asked, where it is a text with variables.
    pub template: Option<Template>,
    pub check: Check,
}

#[derive(Clone, Debug)]
pub(crate) enum Check {
    Present,
    Patterns {
        set: PatternSet,
        globs: Vec<Box<[u8]>>,
        files: Vec<List<PatternSet>>,
    },
    Networks {
        set: NetworkSet,
        files: Vec<List<NetworkSet>>,
    },
    Exact {
        value: Box<[u8]>,
        negated: bool,
    },
    Regex {
        regex: Box<regex::bytes::Regex>,
        negated: bool,
    },
    Numbers(Vec<u64>),
    Compare(Compare, u64),
    Flag,
    /// Minutes of the day.
    Time {
        from: u16,
        to: u16,
    },
    /// Bit 0 is Monday.
    Weekdays(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
}

#[derive(Clone, Debug)]
pub(crate) struct List<T> {
    pub path: PathBuf,
    pub loaded: Option<Arc<T>>,
}

/// The local time that a condition is evaluated at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalTime {
    /// 0 is Monday.
    pub weekday: u8,
    pub minute_of_day: u16,
    /// Seconds since 1970.
    pub unix_s: u64,
}

/// What is known of the request or connection in question.
pub trait Facts {
    /// Gives every value there is to `test` until it says that one will do; whether one did.
    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
    fn address(&self, fetch: Fetch) -> Option<IpAddr>;
    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64>;
    fn flag(&self, fetch: Fetch) -> bool;
    fn local_time(&self) -> LocalTime;
    /// Random bits, others each time.
    fn random(&self) -> u128;
    /// The name of this machine.
    fn host_name(&self) -> &[u8];
}

/// Reads a list of patterns; the flag says whether upper and lower case are the same.
pub type PatternLoader<'a, E> = dyn FnMut(&Path, ListForm) -> Result<Arc<PatternSet>, E> + 'a;
pub type NetworkLoader<'a, E> = dyn FnMut(&Path) -> Result<Arc<NetworkSet>, E> + 'a;

/// What the stars and groups of a condition stood for.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    /// Somebody will read them; otherwise none are kept.
    pub wanted: bool,
    texts: Vec<Vec<u8>>,
    count: usize,
}

impl Captures {
    const AT_MOST: usize = 9;

    pub fn wanted() -> Captures {
        Captures { wanted: true, ..Captures::default() }
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// Nothing but a text, as the first.
    pub fn only(&mut self, text: &[u8]) {
        self.clear();
        self.push(text);
    }

    fn push(&mut self, text: &[u8]) {
        if self.count >= Self::AT_MOST {
            return;
        }
        if self.texts.len() <= self.count {
            self.texts.push(Vec::new());
        }
        self.texts[self.count].clear();
        self.texts[self.count].extend_from_slice(text);
        self.count += 1;
    }

    /// The text of a number from 1.
    pub fn get(&self, number: usize) -> &[u8] {
        let index = number.wrapping_sub(1);
        if index < self.count { &self.texts[index] } else { &[] }
    }
}

/// What the path of a request must be for a condition to hold at all: asked first, so that most
/// of many routes cost next to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGate {
    /// How all of them begin, as far as they are alike, and which bits that is.
    start: u64,
    mask: u64,
    /// Texts, each exact or a beginning.
    texts: Vec<(Box<[u8]>, bool)>,
}

/// The first bytes of a path, zeros behind it: asked of many gates, taken once.
#[derive(Clone, Copy, Debug)]
pub struct PathStart(u64);

impl PathStart {
    pub fn of(path: &[u8]) -> PathStart {
        let mut first = [0; 8];
        let count = path.len().min(8);
        first[..count].copy_from_slice(&path[..count]);
        PathStart(u64::from_le_bytes(first))
    }
}

impl PathGate {
    fn new(texts: Vec<(Box<[u8]>, bool)>) -> PathGate {
        let mut alike = texts.first().map_or(0, |(text, _)| text.len().min(8));
        for (text, _) in &texts {
            let same = texts[0].0.iter().zip(text.iter()).take_while(|(a, b)| a == b).count();
            alike = alike.min(same);
        }
        let mask = if alike == 8 { u64::MAX } else { (1 << (8 * alike)) - 1 };
        let start = texts.first().map_or(0, |(text, _)| PathStart::of(text).0 & mask);
        PathGate { start, mask, texts }
    }

    pub fn lets(&self, path: &[u8], start: PathStart) -> bool {
        let all = || {
            let one = |(text, exact): &(Box<[u8]>, bool)| {
                if *exact { path == &**text } else { path.starts_with(text) }
            };
            self.texts.iter().any(one)
        };
        start.0 & self.mask == self.start && all()
    }
}

/// One test of a condition, for explanations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub text: String,
    pub holds: bool,
}

impl Expression {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    pub fn holds(&self, facts: &dyn Facts, captures: &mut Captures) -> bool {
        self.root.holds(facts, captures)
    }

    /// Every test with its outcome, in the written order, also those that evaluating skips.
    pub fn explain(&self, facts: &dyn Facts) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        self.root.visit(&mut |test| {
            let holds = test.holds(facts, &mut Captures::default());
            leaves.push(Leaf { text: test.text.clone(), holds });
        });
        leaves
    }

    /// The paths that it can hold for, where a test of them must hold.
    pub fn path_gate(&self) -> Option<PathGate> {
        let tests = match &self.root {
            Node::All(nodes) => nodes.as_slice(),
            node => std::slice::from_ref(node),
        };
        tests.iter().find_map(|node| match node {
            Node::Test(test) if test.fetch == Fetch::Path => match &test.check {
                Check::Patterns { set, files, .. } if files.is_empty() => set.beginnings().map(PathGate::new),
                Check::Exact { value, negated: false } => Some(PathGate::new(vec![(value.clone(), true)])),
                _ => None,
            },
            _ => None,
        })
    }

    /// The whole host names that it asks for, where it is not turned around.
    pub fn hosts(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.root.hosts(&mut all);
        all
    }

    /// The first test that needs a request to be read, as it was written.
    pub fn needs_http(&self) -> Option<String> {
        self.first_that(NeedsHttp::Yes)
    }

    /// The first test that needs an answer.
    pub fn needs_answer(&self) -> Option<String> {
        self.first_that(NeedsHttp::Answer)
    }

    fn first_that(&self, needs: NeedsHttp) -> Option<String> {
        let mut found = None;
        self.root.visit(&mut |test| {
            if test.needs == needs && found.is_none() {
                found = Some(test.text.clone());
            }
        });
        found
    }

    pub(crate) fn visit(&self, each: &mut dyn FnMut(&Test)) {
        self.root.visit(each);
    }

    /// What is asked, each with its arguments.
    pub fn fetches(&self) -> Vec<(Fetch, Vec<String>)> {
        let mut all = Vec::new();
        self.root.visit(&mut |test| all.push((test.fetch, test.arguments.clone())));
        all
    }

    /// Loads the lists that stand in files.
    pub fn load<E>(
        &mut self,
        patterns: &mut PatternLoader<'_, E>,
        networks: &mut NetworkLoader<'_, E>,
    ) -> Result<(), E> {
        self.root.load(patterns, networks)
    }

    /// Loads the maps that texts in it ask.
    pub fn load_maps<E>(&mut self, load: &mut MapLoader<'_, E>) -> Result<(), E> {
        self.root.load_maps(load)
    }

    pub fn files(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        self.root.visit(&mut |test| {
            match &test.check {
                Check::Patterns { files, .. } => all.extend(files.iter().map(|f| f.path.clone())),
                Check::Networks { files, .. } => all.extend(files.iter().map(|f| f.path.clone())),
                _ => {}
            }
            all.extend(test.template.iter().flat_map(Template::files));
        });
        all
    }
}

impl Node {
    fn holds(&self, facts: &dyn Facts, captures: &mut Captures) -> bool {
        match self {
            Node::All(nodes) => nodes.iter().all(|node| node.holds(facts, captures)),
            Node::Any(nodes) => nodes.iter().any(|node| node.holds(facts, captures)),
            Node::Not(node) => !node.holds(facts, captures),
            Node::Test(test) => test.holds(facts, captures),
        }
    }

    fn hosts(&self, all: &mut Vec<String>) {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().for_each(|node| node.hosts(all)),
            Node::Test(test) if test.fetch == Fetch::Host => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
                match &test.check {
                    Check::Patterns { set, .. } => all.extend(set.exact_texts().map(text)),
                    Check::Exact { value, negated: false } => all.push(text(value)),
                    _ => {}
                }
            }
            Node::Not(_) | Node::Test(_) => {}
        }
    }

    fn visit(&self, each: &mut dyn FnMut(&Test)) {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().for_each(|node| node.visit(each)),
            Node::Not(node) => node.visit(each),
            Node::Test(test) => each(test),
        }
    }

    fn load_maps<E>(&mut self, load: &mut MapLoader<'_, E>) -> Result<(), E> {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter_mut().try_for_each(|node| node.load_maps(load)),
            Node::Not(node) => node.load_maps(load),
            Node::Test(test) => test.template.as_mut().map_or(Ok(()), |text| text.load(load)),
        }
    }

    fn load<E>(
        &mut self,
        patterns: &mut PatternLoader<'_, E>,
        networks: &mut NetworkLoader<'_, E>,
    ) -> Result<(), E> {
        match self {
            Node::All(nodes) | Node::Any(nodes) => {
                nodes.iter_mut().try_for_each(|node| node.load(patterns, networks))
            }
            Node::Not(node) => node.load(patterns, networks),
            Node::Test(test) => {
                match &mut test.check {
                    Check::Patterns { files, .. } => {
                        let normal = test.normal && has_normal_form(test.fetch);
                        let form = ListForm { folds: test.folds, normal: normal.then_some(test.fetch) };
                        for file in files {
                            file.loaded = Some(patterns(&file.path, form)?);
                        }
                    }
                    Check::Networks { files, .. } => {
                        for file in files {
                            file.loaded = Some(networks(&file.path)?);
                        }
                    }
                    _ => {}
                }
                Ok(())
            }
        }
    }
}

impl Test {
    fn name(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    fn any(&self, facts: &dyn Facts, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match &self.template {
            Some(template) => {
                let asks_presence = self.fetch == Fetch::Present;
                template.any(facts, &mut |text, there| {
                    (if asks_presence { there } else { !text.is_empty() }) && test(text)
                })
            }
            None => match self.fetch.list() {
                Some(header) => facts.texts(header, self.name(), &mut |list| values(list).any(&mut *test)),
                None => facts.texts(self.fetch, self.name(), test),
            },
        }
    }

    /// Whether a number holds; of a list each is asked. One below 0 is none.
    fn any_number(&self, facts: &dyn Facts, test: &mut dyn FnMut(u64) -> bool) -> bool {
        if let Some(template) = &self.template {
            let number = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse::<u64>().ok();
            return template.any(facts, &mut |text, _| number(text).is_some_and(&mut *test));
        }
        if self.fetch != Fetch::HeaderNumber {
            return facts.number(self.fetch, &self.arguments).is_some_and(test);
        }
        let number = |value: &[u8]| u64::try_from(crate::number::leading(value)).ok();
        self.any(facts, &mut |value| !value.is_empty() && number(value).is_some_and(&mut *test))
    }

    /// Whether an address holds; of several values each is asked.
    fn any_address(&self, facts: &dyn Facts, test: &mut dyn FnMut(IpAddr) -> bool) -> bool {
        let Some(template) = &self.template else { return facts.address(self.fetch).is_some_and(test) };
        template.any(facts, &mut |text, _| address_in(text).is_some_and(&mut *test))
    }

    fn holds(&self, facts: &dyn Facts, captures: &mut Captures) -> bool {
        match &self.check {
            Check::Present => self.any(facts, &mut |_| true),
            Check::Patterns { set, globs, files } => self.any(facts, &mut |value| {
                if captures.wanted && !globs.is_empty() {
                    return set.matches(value) && {
                        capture(globs, value, self.folds, captures);
                        true
                    } || files.iter().any(|f| f.loaded.as_ref().is_some_and(|l| l.matches(value)));
                }
                set.matches(value)
                    || files.iter().any(|f| f.loaded.as_ref().is_some_and(|l| l.matches(value)))
            }),
            Check::Networks { set, files } => self.any_address(facts, &mut |address| {
                set.contains(address)
                    || files.iter().any(|f| f.loaded.as_ref().is_some_and(|l| l.contains(address)))
            }),
            Check::Exact { value, negated } => {
                let same = |found: &[u8]| match self.folds {
                    true => found.eq_ignore_ascii_case(value),
                    false => found == &**value,
                };
                self.any(facts, &mut |found| same(found)) != *negated
            }
            Check::Regex { regex, negated } => {
                let matched = self.any(facts, &mut |value| {
                    if !captures.wanted || *negated || regex.captures_len() == 1 {
                        return regex.is_match(value);
                    }
                    let Some(found) = regex.captures(value) else { return false };
                    captures.clear();
                    for group in found.iter().skip(1) {
                        captures.push(group.map_or(&[], |g| g.as_bytes()));
                    }
                    true
                });
                matched != *negated
            }
            Check::Numbers(numbers) => self.any_number(facts, &mut |n| numbers.contains(&n)),
            Check::Compare(compare, with) => self.any_number(facts, &mut |number| match compare {
                Compare::Equal => number == *with,
                Compare::NotEqual => number != *with,
                Compare::Less => number < *with,
                Compare::AtMost => number <= *with,
                Compare::More => number > *with,
                Compare::AtLeast => number >= *with,
            }),
            Check::Flag if matches!(self.fetch, Fetch::InTable | Fetch::ServerUp) => {
                facts.number(self.fetch, &self.arguments).is_some_and(|there| there > 0)
            }
            Check::Flag => facts.flag(self.fetch),
            Check::Time { from, to } => {
                let now = facts.local_time().minute_of_day;
                if from <= to { (*from..*to).contains(&now) } else { now >= *from || now < *to }
            }
            Check::Weekdays(mask) => mask >> facts.local_time().weekday & 1 == 1,
        }
    }
}

/// The address that a text is, with or without a port.
pub(crate) fn address_in(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let with_port = || Some(text.parse::<std::net::SocketAddr>().ok()?.ip());
    let address = text.trim_matches(['[', ']']).parse::<IpAddr>().ok().or_else(with_port)?;
    Some(address.to_canonical())
}

/// The values of a list; a comma in quotes is none between them.
pub(crate) fn values(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let mut parts = list.split(move |byte| {
        let plain = !std::mem::take(&mut escaped);
        match byte {
            b'"' if plain => quoted = !quoted,
            b'\\' if plain && quoted => escaped = true,
            b',' => return !quoted,
            _ => {}
        }
        false
    });
    std::iter::from_fn(move || parts.next().map(<[u8]>::trim_ascii))
}

/// Keeps what the stars of the first pattern that matches stand for.
fn capture(globs: &[Box<[u8]>], value: &[u8], folds: bool, captures: &mut Captures) {
    let lower = if folds { value.to_ascii_lowercase() } else { Vec::new() };
    let subject = if folds { &lower } else { value };
    for glob in globs {
        if glob_match(glob, subject, &mut |_| {}) {
            captures.clear();
            glob_match(glob, subject, &mut |star| captures.push(star));
            return;
        }
    }
}
