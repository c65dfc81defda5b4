//! Names and passwords of HTTP's basic authentication (RFC 7617).
//!
//! Passwords are hashed with bcrypt or SHA-crypt, which take long on purpose: they run on a thread of
//! their own, one at a time, and what was right lately is remembered as a digest.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, rand};
use sha_crypt::{PasswordHashRef, PasswordVerifier, ShaCrypt};

use evenkeel_model::Secret;

/// Attempts that may wait for the hashing thread; more are asked to come again later.
const WAITING: usize = 64;
/// Of those, of one client address (a /64 of IPv6) at one loop.
pub const WAITING_OF_A_CLIENT: usize = 8;
/// How long a right password is believed without hashing it again.
pub const REMEMBERED_MS: u64 = 5 * 60_000;
pub const REMEMBERED: usize = 4096;

/// Who may come in: names with the hashes of their passwords.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Users {
    hashes: HashMap<String, Secret<Arc<str>>>,
    /// In the order of the file: unknown names cost what one of these does.
    all: Vec<Secret<Arc<str>>>,
}

/// What a password is compared with.
pub struct Expected {
    pub hash: Secret<Arc<str>>,
    /// Otherwise the name is unknown, and no password is right.
    pub known: bool,
}

impl Users {
    /// Reads `NAME:HASH` lines, as `htpasswd -B` writes them.
    pub fn read(text: &str) -> Result<Users, String> {
        let mut users = Users::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, hash)) = line.split_once(':') else {
                return Err(format!("line {}: expected NAME:HASH", number + 1));
            };
            let unknown = |_| {
                format!(
                    "line {}: expected a password hashed with bcrypt (cost {BCRYPT_COST_AT_MOST} at most) or SHA-crypt ({ROUNDS_AT_MOST} rounds at most); write it with htpasswd -B",
                    number + 1
                )
            };
            users.add(name, hash).map_err(unknown)?;
        }
        Ok(users)
    }

    pub fn add(&mut self, name: &str, hash: &str) -> Result<(), String> {
        let known = match () {
            () if hash.starts_with("$5$") || hash.starts_with("$6$") => is_sha_crypt(hash),
            () => is_bcrypt(hash) || hash.starts_with(PLAIN),
        };
        if !known {
            return Err(format!(
                "the password of {name} is hashed neither with bcrypt (cost {BCRYPT_COST_AT_MOST} at most) nor with SHA-crypt ({ROUNDS_AT_MOST} rounds at most); write it with htpasswd -B"
            ));
        }
        let hash = Secret::new(Arc::<str>::from(hash));
        self.all.push(hash.clone());
        self.hashes.insert(name.to_owned(), hash);
        Ok(())
    }

    /// Unknown names cost the same work as known ones: each always that of the same user, since users
    /// may be hashed in several ways. `None` if there are no users at all.
    pub fn expected(&self, name: &str) -> Option<Expected> {
        // Also for names that are known.
        let at =
            digest(&SHA256, name.as_bytes()).as_ref().iter().fold(0usize, |n, b| n << 7 ^ usize::from(*b));
        let other = self.all.get(at % self.all.len().max(1))?;
        let own = self.hashes.get(name);
        Some(Expected { hash: own.unwrap_or(other).clone(), known: own.is_some() })
    }
}

/// What stands before a password that is written as it is.
const PLAIN: &str = "plain:";
/// More rounds would hold up everybody else who logs in.
const ROUNDS_AT_MOST: u32 = 500_000;
/// The same of bcrypt: some two seconds. At 31 one wrong password would take a day.
const BCRYPT_COST_AT_MOST: u32 = 15;

/// `$2y$`, the cost in two digits, `$`, salt and hash.
fn is_bcrypt(hash: &str) -> bool {
    let rest = ["$2y$", "$2b$", "$2a$", "$2x$"].iter().find_map(|prefix| hash.strip_prefix(prefix));
    let cost = rest.and_then(|rest| rest.split_once('$')).map(|(cost, _)| cost);
    let cost = cost
        .filter(|c| c.len() == 2 && c.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|cost| cost.parse::<u32>().ok());
    hash.len() == 60 && cost.is_some_and(|cost| (4..=BCRYPT_COST_AT_MOST).contains(&cost))
}

/// `$5$` or `$6$`, maybe `rounds=N$`, the salt, the hash.
fn is_sha_crypt(hash: &str) -> bool {
    let mut parts = hash.split('$').skip(2).peekable();
    let rounds = parts.next_if(|part| part.starts_with("rounds="));
    let few = rounds.is_none_or(|r| r[7..].parse::<u32>().is_ok_and(|n| n <= ROUNDS_AT_MOST));
    let length = if hash.starts_with("$5$") { 43 } else { 86 };
    let salt = parts.next().is_some_and(|salt| salt.len() <= 16);
    few && salt && parts.next().is_some_and(|end| end.len() == length) && parts.next().is_none()
}

fn is_right(password: &str, hash: &str) -> bool {
    if let Some(plain) = hash.strip_prefix(PLAIN) {
        // As long as any other, however many letters are right.
        let digest_of = |text: &str| digest(&SHA256, text.as_bytes());
        let (expected, given) = (digest_of(plain), digest_of(password));
        return verify_slices_are_equal(expected.as_ref(), given.as_ref()).is_ok();
    }
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    let parsed = PasswordHashRef::new(hash);
    parsed.is_ok_and(|hash| ShaCrypt::default().verify_password(password.as_bytes(), hash).is_ok())
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

/// What is remembered of a right password: of no use without the key, which no other process has.
pub fn fingerprint(key: &hmac::Key, name: &str, password: &str, hash: &str) -> [u8; 32] {
    let mut whole = hmac::Context::with_key(key);
    for part in [name, password, hash] {
        whole.update(&(part.len() as u64).to_be_bytes());
        whole.update(part.as_bytes());
    }
    let mut out = [0; 32];
    out.copy_from_slice(whole.sign().as_ref());
    out
}

/// A key for those, new for each loop.
pub fn new_key() -> hmac::Key {
    let mut raw = [0; 32];
    // Without randomness TLS would not have started either; the key is a second line of defence.
    let _ = rand::fill(&mut raw);
    hmac::Key::new(hmac::HMAC_SHA256, &raw)
}

/// One password to try.
pub struct Attempt {
    pub core: usize,
    pub number: u64,
    pub password: String,
    pub expected: Expected,
}

/// Starts the hashing thread. `done` gets the loop, the attempt's number, and whether the
/// password was right.
pub fn start(done: impl Fn(usize, u64, bool) + Send + 'static) -> std::io::Result<SyncSender<Attempt>> {
    let (sender, attempts): (SyncSender<Attempt>, Receiver<Attempt>) = sync_channel(WAITING);
    std::thread::Builder::new().name("passwords".into()).spawn(move || {
        while let Ok(attempt) = attempts.recv() {
            let right = is_right(&attempt.password, attempt.expected.hash.expose()) && attempt.expected.known;
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
        let own = users.expected("myName").unwrap();
        assert!(own.known && bcrypt::verify("myPassword", own.hash.expose()).unwrap());
        // An unknown name costs the same, and is never right.
        let other = users.expected("other").unwrap();
        assert!(!other.known && other.hash == own.hash);
        assert!(Users::default().expected("other").is_none());
        assert!(Users::read("a:{SHA}abc\n").unwrap_err().contains("line 1: expected a password hashed"));
        // One wrong password would keep everybody else waiting for hours.
        for cost in ["16", "31", "99", "03", "+5", "x5"] {
            assert!(
                Users::read(&format!("a:{}\n", hash.replace("$05$", &format!("${cost}$")))).is_err(),
                "{cost}"
            );
        }
        assert!(Users::read("nobody\n").unwrap_err().contains("NAME:HASH"));
        assert!(Users::read("a:$6$salt$short\n").is_err());
        assert!(
            Users::read("a:$5$rounds=999999999$salt$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8\n").is_err()
        );
    }

    #[test]
    fn what_is_remembered_needs_the_key() {
        let (key, other) = (new_key(), new_key());
        let own = fingerprint(&key, "ann", "secret", "h");
        assert_eq!(own, fingerprint(&key, "ann", "secret", "h"));
        assert_ne!(own, fingerprint(&other, "ann", "secret", "h"));
        assert_ne!(own, fingerprint(&key, "ann", "secret", "other"));
        assert_ne!(fingerprint(&key, "a\0b", "c", "h"), fingerprint(&key, "a", "b\0c", "h"));
    }

    #[test]
    fn unknown_names_are_hashed_and_never_right() {
        let (sender, answers) = std::sync::mpsc::channel();
        let attempts = start(move |_, number, right| {
            let _ = sender.send((number, right));
        })
        .unwrap();
        for (number, known) in [(1, true), (2, false)] {
            let expected = Expected { hash: Secret::new("plain:open sesame".into()), known };
            attempts.send(Attempt { core: 0, number, password: "open sesame".into(), expected }).unwrap();
        }
        assert_eq!([answers.recv().unwrap(), answers.recv().unwrap()], [(1, true), (2, false)]);
    }

    /// The examples of the specification of SHA-crypt.
    #[test]
    fn hashes_of_each_kind() {
        for (password, hash) in [
            ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            ("Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
            (
                "Hello world!",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            ("open sesame", "plain:open sesame"),
        ] {
            let mut users = Users::default();
            users.add("a", hash).unwrap();
            assert!(is_right(password, hash), "{hash}");
            assert!(!is_right("something else", hash), "{hash}");
        }
    }
}
