//! What nobody but its receiver may see.

use std::fmt;

/// A value that prints nothing: it cannot get into a message, a log or an answer by mistake. Whoever
/// sends it to where it belongs takes it out with [`Secret::expose`].
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret<T = String>(T);

impl<T> Secret<T> {
    pub const fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Secret<T> {
        Secret(value)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_nothing() {
        let all = (Secret::from("marker".to_owned()), vec![("name", Secret::new(b"marker".to_vec()))]);
        let text = format!("{all:?} {all:#?} {} {:>40}", all.0, all.0);
        assert!(!text.contains("marker") && !text.contains("109"), "{text}");
        assert_eq!(all.0.expose(), "marker");
    }
}
