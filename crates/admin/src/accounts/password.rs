//! Argon2id (RFC 9106), as PHC strings.

use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};

use crate::{FailureKind, Refused};

const SHORTEST: usize = 10;
const LONGEST: usize = 1024;
/// KiB of memory times passes over it; this program's own passwords take 38 MiB.
const COST_AT_MOST: u64 = 512 << 10;

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

/// Whether passwords can be held against a hash from elsewhere, and for no more than a moment.
pub fn is_usable(hash: &str) -> bool {
    PasswordHash::new(hash).ok().and_then(|hash| cost(&hash)).is_some_and(|cost| cost <= COST_AT_MOST)
}

/// KiB of memory times passes over it.
fn cost(hash: &PasswordHash) -> Option<u64> {
    let parameters = Params::try_from(&hash.params).ok()?;
    let known = hash.algorithm.as_str() == "argon2id";
    known.then(|| u64::from(parameters.m_cost()) * u64::from(parameters.t_cost()))
}

#[cfg(test)]
thread_local! {
    /// What hashing has cost this thread.
    pub static SPENT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Takes the same time whether or not there is such a person.
pub fn is_right(stored: Option<&str>, given: &str) -> bool {
    // Made before it is needed: the first unknown name would take twice as long.
    let nobody = NOBODY.as_str();
    let known = stored.unwrap_or(nobody);
    let given = if given.len() > LONGEST { "" } else { given };
    let parsed = PasswordHash::new(known);
    #[cfg(test)]
    SPENT.set(SPENT.get() + parsed.as_ref().ok().and_then(cost).unwrap_or(0));
    let right = parsed.is_ok_and(|hash| Argon2::default().verify_password(given.as_bytes(), &hash).is_ok());
    right && stored.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_from_elsewhere_are_held_against_a_bound() {
        let own = hashed("open sesame").unwrap();
        assert!(is_usable(&own) && is_right(Some(&own), "open sesame"));
        for costly in ["m=4194304,t=2", "m=19456,t=100000", "m=524288,t=2"] {
            assert!(!is_usable(&own.replace("m=19456,t=2", costly)), "{costly}");
        }
        for odd in ["", "open sesame", "$2y$05$c4WoMPo3SXsafkva", &own.replace("argon2id", "argon2d")] {
            assert!(!is_usable(odd), "{odd}");
        }
    }
}
