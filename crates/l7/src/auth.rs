//! Names and passwords of HTTP's basic authentication (RFC 7617).
//!
//! Passwords are hashed with bcrypt, which takes long on purpose: it runs on a thread of its own,
//! one at a time, and what was right lately is remembered as a digest.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use aws_lc_rs::digest::{SHA256, digest};

/// Attempts that may wait for the hashing thread; more are refused.
const WAITING: usize = 64;
/// How long a right password is believed without hashing it again.
pub const REMEMBERED_MS: u64 = 5 * 60_000;
pub const REMEMBERED: usize = 4096;

/// Who may come in: names with the hashes of their passwords.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Users(HashMap<String, Arc<str>>);

impl Users {
    /// Reads `NAME:HASH` lines, as `htpasswd -B` writes them.
    pub fn read(text: &str) -> Result<Users, String> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, hash)) = line.split_once(':') else {
                return Err(format!("line {}: expected NAME:HASH", number + 1));
            };
            let known = ["$2y$", "$2b$", "$2a$", "$2x$"].iter().any(|prefix| hash.starts_with(prefix));
            if !known || hash.len() != 60 {
                let why = "the password of {} is not hashed with bcrypt; write it with htpasswd -B";
                return Err(format!("line {}: {}", number + 1, why.replace("{}", name)));
            }
            users.insert(name.to_owned(), hash.into());
        }
        Ok(Users(users))
    }

    pub fn hash_of(&self, name: &str) -> Option<Arc<str>> {
        self.0.get(name).cloned()
    }
}

/// Name and password of an `Authorization` field.
pub fn credentials(field: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") || encoded.len() > 1024 {
        return None;
    }
    let text = String::from_utf8(decode_base64(encoded.trim_ascii())?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text {
        bits = bits << 6 | u32::from(value(*byte)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    (text.len() % 4 != 1).then_some(out)
}

/// What is remembered of a right password.
pub fn fingerprint(name: &str, password: &str, hash: &str) -> [u8; 32] {
    let whole = [name, "\0", password, "\0", hash].concat();
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, whole.as_bytes()).as_ref());
    out
}

/// One password to try.
pub struct Attempt {
    pub core: usize,
    pub number: u64,
    pub password: String,
    pub hash: Arc<str>,
}

/// Starts the hashing thread. `done` gets the loop, the attempt's number, and whether the
/// password was right.
pub fn start(done: impl Fn(usize, u64, bool) + Send + 'static) -> std::io::Result<SyncSender<Attempt>> {
    let (sender, attempts): (SyncSender<Attempt>, Receiver<Attempt>) = sync_channel(WAITING);
    std::thread::Builder::new().name("passwords".into()).spawn(move || {
        while let Ok(attempt) = attempts.recv() {
            let right = bcrypt::verify(&attempt.password, &attempt.hash).unwrap_or(false);
            done(attempt.core, attempt.number, right);
        }
    })?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read() {
        let check = |field: &str, expect: Option<(&str, &str)>| {
            let found = credentials(field.as_bytes());
            assert_eq!(found.as_ref().map(|(n, p)| (n.as_str(), p.as_str())), expect, "{field}");
        };
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame")));
        check("basic YTpi", Some(("a", "b")));
        check("Basic YTo=", Some(("a", "")));
        check("Basic YQ==", None);
        check("Bearer YTpi", None);
        check("Basic !!!!", None);
        check("Basic", None);
    }

    #[test]
    fn users_are_read() {
        let hash = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
        let users = Users::read(&format!("# people\nmyName:{hash}\n")).unwrap();
        assert!(users.hash_of("myName").is_some_and(|h| bcrypt::verify("myPassword", &h).unwrap()));
        assert!(users.hash_of("other").is_none());
        assert!(
            Users::read("a:{SHA}abc\n")
                .unwrap_err()
                .contains("line 1: the password of a is not hashed with bcrypt")
        );
        assert!(Users::read("nobody\n").unwrap_err().contains("NAME:HASH"));
    }
}
