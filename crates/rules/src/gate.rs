//! What the path or the host of a request must be for a condition to hold at all. Who has many
//! conditions finds those that can hold by it, and asks no others.

use regex::bytes::Regex;

use crate::evaluate::{Check, Expression, Node, Test};
use crate::fetch::Fetch;

/// How a text stands in what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is the whole.
    Whole,
    /// It is how the whole begins.
    Start,
    /// It is how the whole ends.
    End,
}

/// Texts one of which must be there, each as the [`Part`] that it says.
pub type Texts = Vec<(Box<[u8]>, Part)>;

/// Texts of one condition that are worth an index; one with more of them finds them by itself.
const TEXTS_AT_MOST: usize = 256;

impl Expression {
    /// What the path must have, in the form in which `path` asks for it; `None` where other paths may do.
    pub fn path_texts(&self) -> Option<Texts> {
        self.root.texts(Fetch::Path)
    }

    /// The same of the host, in lower case.
    pub fn host_texts(&self) -> Option<Texts> {
        self.root.texts(Fetch::Host)
    }

    /// Regular expressions one of which must match the path; `None` where other paths may do.
    pub fn path_expressions(&self) -> Option<Vec<&Regex>> {
        self.root.expressions()
    }
}

impl Node {
    fn texts(&self, fetch: Fetch) -> Option<Texts> {
        match self {
            Node::All(nodes) => {
                let each = nodes.iter().filter_map(|node| node.texts(fetch));
                each.min_by_key(Vec::len)
            }
            Node::Any(nodes) => {
                let mut all = Texts::new();
                for node in nodes {
                    all.append(&mut node.texts(fetch)?);
                }
                (all.len() <= TEXTS_AT_MOST).then_some(all)
            }
            Node::Not(_) => None,
            Node::Test(test) => test.texts().filter(|_| test.fetch == fetch),
        }
    }

    fn expressions(&self) -> Option<Vec<&Regex>> {
        match self {
            Node::All(nodes) => nodes.iter().find_map(Node::expressions),
            Node::Any(nodes) => {
                let mut all = Vec::new();
                for node in nodes {
                    all.append(&mut node.expressions()?);
                }
                Some(all)
            }
            Node::Not(_) => None,
            Node::Test(test) => match &test.check {
                Check::Regex { regex, negated: false } if test.fetch == Fetch::Path => Some(vec![regex]),
                _ => None,
            },
        }
    }
}

impl Test {
    fn texts(&self) -> Option<Texts> {
        // Paths are compared as they are, hosts in lower case.
        if self.folds != (self.fetch == Fetch::Host) {
            return None;
        }
        match &self.check {
            Check::Patterns { set, files, .. } if files.is_empty() && set.len() <= TEXTS_AT_MOST => {
                set.parts()
            }
            Check::Exact { value, negated: false } => {
                let value = if self.folds { value.to_ascii_lowercase().into() } else { value.clone() };
                Some(vec![(value, Part::Whole)])
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(condition: &str, path: Option<&[(&str, Part)]>, host: Option<&[(&str, Part)]>) {
        let parsed = Expression::parse(condition).unwrap_or_else(|e| panic!("{condition}: {}", e.message));
        let sorted = |texts: Option<Texts>| {
            texts.map(|texts| {
                let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
                let mut all: Vec<_> = texts.iter().map(|(t, part)| format!("{} {part:?}", text(t))).collect();
                all.sort();
                all
            })
        };
        let wanted = |texts: Option<&[(&str, Part)]>| {
            sorted(texts.map(|texts| texts.iter().map(|(t, part)| (t.as_bytes().into(), *part)).collect()))
        };
        assert_eq!(sorted(parsed.path_texts()), wanted(path), "{condition}");
        assert_eq!(sorted(parsed.host_texts()), wanted(host), "{condition}");
    }

    #[test]
    fn what_must_be_there() {
        use Part::{End, Start, Whole};
        check(r#"path("/a", "/b/*", "*.js")"#, Some(&[("/a", Whole), ("/b/", Start), (".js", End)]), None);
        check(
            r#"host("A.example", "*.B.example")"#,
            None,
            Some(&[("a.example", Whole), (".b.example", End)]),
        );
        check(r#"host("a") && path("/x*") && method("GET")"#, Some(&[("/x", Start)]), Some(&[("a", Whole)]));
        check(r#"host("a") || host("b")"#, None, Some(&[("a", Whole), ("b", Whole)]));
        check(r#"host == "A""#, None, Some(&[("a", Whole)]));
        // These can hold for any other path or host.
        for condition in [
            r#"host("a") || path("/b")"#,
            r#"!host("a") && !path("/b")"#,
            r#"host("a*b*c") && path("/a*b")"#,
            r#"path("@/list") && host("@/list")"#,
            r#"path != "/a" && host != "a""#,
            r#"raw-path("/a") && header("Host", "a")"#,
            r#"text("{path}", "/a")"#,
        ] {
            check(condition, None, None);
        }
    }

    #[test]
    fn expressions_one_of_which_must_match() {
        let found = |condition: &str| {
            let parsed =
                Expression::parse(condition).unwrap_or_else(|e| panic!("{condition}: {}", e.message));
            parsed.path_expressions().map(|all| all.iter().map(|r| r.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(found(r#"path =~ "^/a" && method("GET")"#), Some(vec!["^/a".to_owned()]));
        assert_eq!(found(r#"path =~ "a" || path =~ "b""#), Some(vec!["a".to_owned(), "b".to_owned()]));
        for condition in [r#"path !~ "a""#, r#"path =~ "a" || method("GET")"#, r#"host =~ "a""#] {
            assert_eq!(found(condition), None, "{condition}");
        }
    }
}
