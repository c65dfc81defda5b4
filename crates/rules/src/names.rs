//! Names of fields by a regular expression.

use regex::bytes::Regex;

/// An expression that was checked, for names in lower case.
#[derive(Clone)]
pub struct FieldNames {
    source: Box<str>,
    regex: Regex,
}

crate::written_alike!(FieldNames, source);

impl FieldNames {
    pub fn parse(text: &str) -> Result<FieldNames, String> {
        let regex = crate::regular::regex(text, false).map_err(|why| why.to_string())?;
        Ok(FieldNames { source: text.into(), regex })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        match name.iter().any(u8::is_ascii_uppercase) {
            true => self.regex.is_match(&name.to_ascii_lowercase()),
            false => self.regex.is_match(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FieldNames;

    #[test]
    fn names_match_whatever_their_case() {
        let names = FieldNames::parse("^x.reg.$").unwrap();
        assert!(names.matches(b"X-Reg1") && names.matches(b"x-reg2") && !names.matches(b"x-reg10"));
        assert!(FieldNames::parse("(").is_err());
    }
}
