//! Argon2id (RFC 9106), as PHC strings.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

use crate::{FailureKind, Refused};

const SHORTEST: usize = 10;
const LONGEST: usize = 1024;

/// Checked where there is no such person, so that an answer takes as long.
static NOBODY: LazyLock<String> = LazyLock::new(|| hashed("nobody's").unwrap_or_default());

fn hashed(password: &str) -> Option<String> {
    Argon2::default().hash_password(password.as_bytes()).ok().map(|h| h.to_string())
}

pub fn make(password: &str) -> Result<String, Refused> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        let why = format!("a password has at least {SHORTEST} characters and at most {LONGEST} bytes");
        return Err(Refused::new(FailureKind::Invalid, why));
    }
    hashed(password).ok_or_else(|| Refused::new(FailureKind::Failed, "the password cannot be hashed"))
}

/// Takes the same time whether or not there is such a person.
pub fn is_right(stored: Option<&str>, given: &str) -> bool {
    let known = stored.unwrap_or(&NOBODY);
    let given = if given.len() > LONGEST { "" } else { given };
    let parsed = PasswordHash::new(known);
    let right = parsed.is_ok_and(|hash| Argon2::default().verify_password(given.as_bytes(), &hash).is_ok());
    right && stored.is_some()
}
