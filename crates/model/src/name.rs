//! Names of services, pools and servers: short, printable, safe in a shell, a log line and a URL.

use std::fmt;
use std::sync::Arc;

/// 1 to 64 characters out of `A-Z a-z 0-9 . _ : -`, starting with a letter or a digit.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error("a name is 1 to 64 characters long, this one has {0}")]
    Length(usize),
    #[error("a name holds letters, digits and . _ : - only, this one holds {0:?}")]
    Character(char),
    #[error("a name starts with a letter or a digit, not with {0:?}")]
    First(char),
}

impl Name {
    pub const MAX_LENGTH: usize = 64;

    pub fn new(text: &str) -> Result<Name, NameError> {
        let length = text.chars().count();
        if length == 0 || length > Self::MAX_LENGTH {
            return Err(NameError::Length(length));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(c));
        }
        match text.chars().next() {
            Some(c) if !c.is_ascii_alphanumeric() => Err(NameError::First(c)),
            _ => Ok(Name(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, which all who have it share.
    pub fn text(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_everywhere() {
        for good in ["web", "web-1", "10.0.0.1:80", "a_b.c", "9"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        assert_eq!(Name::new(""), Err(NameError::Length(0)));
        assert_eq!(Name::new(&"x".repeat(65)), Err(NameError::Length(65)));
        assert_eq!(Name::new("-rf"), Err(NameError::First('-')));
        for bad in ["a b", "a;b", "a\nb", "$(id)", "a/b", "a\u{1b}[2J", "é"] {
            assert!(matches!(Name::new(bad), Err(NameError::Character(_))), "{bad:?}");
        }
    }
}
