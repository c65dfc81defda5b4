//! `.if` and its like, and `-cc`: conditions that hold before a line is read (HAProxy's manual, 2.4).

use std::collections::BTreeMap;

/// The version whose configurations are understood.
pub const VERSION: [u32; 2] = [2, 6];

/// What this program can do that HAProxy may be built without.
const FEATURES: &[&str] = &[
    "EPOLL",
    "THREAD",
    "OPENSSL",
    "PCRE",
    "PCRE2",
    "SPLICE",
    "LINUX_SPLICE",
    "TPROXY",
    "LINUX_TPROXY",
    "NS",
    "TFO",
    "GETADDRINFO",
    "SYSTEMD",
];

/// A block that a `.if` began.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    /// The lines of this branch are read.
    pub taken: bool,
    /// One of its branches was taken already, or none may be.
    pub done: bool,
    pub last: bool,
}

/// Whether a condition holds.
pub fn condition_holds(text: &str, variables: &BTreeMap<String, String>) -> Result<bool, String> {
    let words = super::lexer::tokens(text, variables)?;
    let joined: String = words.join(" ");
    if joined.trim().is_empty() {
        return Ok(false);
    }
    let mut parser = Parser { rest: joined.trim(), variables };
    let value = parser.either()?;
    match parser.rest.trim() {
        "" => Ok(value),
        rest => Err(format!("unexpected text after the condition: {rest:?}")),
    }
}

struct Parser<'a> {
    rest: &'a str,
    variables: &'a BTreeMap<String, String>,
}

impl Parser<'_> {
    fn skip(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn either(&mut self) -> Result<bool, String> {
        let mut value = self.both()?;
        while self.skip("||") {
            value |= self.both()?;
        }
        Ok(value)
    }

    fn both(&mut self) -> Result<bool, String> {
        let mut value = self.one()?;
        while self.skip("&&") {
            value &= self.one()?;
        }
        Ok(value)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.skip("!") {
            return self.one().map(|v| !v);
        }
        if self.skip("(") {
            let value = self.either()?;
            return if self.skip(")") { Ok(value) } else { Err("a ( has no )".into()) };
        }
        self.rest = self.rest.trim_start();
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if let Ok(number) = word.parse::<i64>() {
            self.rest = rest;
            return Ok(number != 0);
        }
        let Some(inner) = rest.strip_prefix('(').filter(|_| !word.is_empty()) else {
            return Err(format!("unparsable conditional expression at {:?}", self.rest));
        };
        let (arguments, rest) = inner.split_once(')').ok_or("a ( has no )")?;
        self.rest = rest;
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        self.call(word, &arguments)
    }

    fn call(&self, name: &str, arguments: &[&str]) -> Result<bool, String> {
        match (name, arguments) {
            ("defined", [name]) => Ok(self.variables.contains_key(*name)),
            ("feature", [name]) => Ok(FEATURES.contains(name)),
            ("enabled", [_]) => Ok(true),
            ("streq", [one, other]) => Ok(one == other),
            ("strneq", [one, other]) => Ok(one != other),
            ("version_atleast", [version]) => Ok(VERSION >= number(version)?),
            ("version_before", [version]) => Ok(VERSION < number(version)?),
            // The library is another; what it can do is at least this.
            ("openssl_version_atleast", [_]) => Ok(true),
            ("openssl_version_before" | "ssllib_name_startswith", [_]) => Ok(false),
            _ => Err(format!("unknown predicate or wrong arguments: {name}({})", arguments.join(","))),
        }
    }
}

/// `2.4-dev3` is the version that it leads to.
fn number(text: &str) -> Result<[u32; 2], String> {
    let plain = text.split('-').next().unwrap_or("");
    let mut parts = plain.split('.');
    let mut part =
        || parts.next().map_or(Ok(0), str::parse::<u32>).map_err(|_| format!("{text:?} is no version"));
    Ok([part()?, part()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let variables = BTreeMap::from([("HERE".to_owned(), "1".to_owned())]);
        let holds = |text: &str| condition_holds(text, &variables);
        for text in [
            "version_atleast(2.4)",
            "!version_atleast(1024)",
            "streq(foo,'foo')",
            "streq(\"foo bar\",'foo bar')",
            "defined(HERE) && streq(\"$HERE\",\"1\")",
            "1&&!0&&!((streq(a,b)||!streq(a,a)&&1)||strneq(a,a))",
            "1   &&!   0&&    !((streq(a,b)||!streq(a,a)&&1)||strneq(a,a))",
            "-1000 && 200",
            "feature(OPENSSL) || !feature(OPENSSL)",
        ] {
            assert_eq!(holds(text), Ok(true), "{text}");
        }
        for text in ["", "streq(foo,bar)", "1 && !0 && !((streq(a,a) || !streq(a,a) && 1) || strneq(a,a))"] {
            assert_eq!(holds(text), Ok(false), "{text}");
        }
        for text in ["200rrr", "!(0))", "streq(a,\"a)", "what(1)", "(1"] {
            assert!(holds(text).is_err(), "{text}");
        }
    }
}
