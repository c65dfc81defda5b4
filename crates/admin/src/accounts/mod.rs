//! People, their sessions and tokens, in one file of the state directory.
//!
//! In: names, passwords, codes, tokens, and the time. Out: who it is and what they may do, or a
//! refusal that tells an attacker nothing. Never: a password, a token or a session id in the file;
//! only their hashes.

mod lock;
mod pair;
mod password;
mod second_factor;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::{digest, rand};
use evenkeel_api as api;
use evenkeel_api::Role;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{FailureKind, Refused};
pub use lock::network_of;
use lock::{Lock, Purpose};

const MOST_SESSIONS: usize = 1000;
const MOST_USERS: usize = 1000;
const MOST_TOKENS: usize = 1000;
/// How often a session that is used is written down as seen.
const SEEN_STEP_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

/// Who asks, as found by session, token or socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub name: String,
    pub role: Role,
    pub from: String,
    pub by: By,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Socket,
    Session { id: String, csrf: String },
    Token { id: String },
}

/// Replaces a file at once, for the eyes of this user alone.
pub type Write = fn(&Path, &[u8]) -> std::io::Result<()>;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Accounts(Arc<Mutex<Inner>>);

struct Inner {
    file: PathBuf,
    write: Write,
    stored: Stored,
    lock: Lock,
    /// Of the code of the first start, while nobody exists.
    first: Option<String>,
    /// Second factors that wait for their first codes.
    waiting: Vec<Waiting>,
    idle_ms: u64,
}

struct Waiting {
    user: String,
    secret: String,
    /// What it was allowed to replace.
    before: Option<String>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Stored {
    /// Counts changes of people and tokens: of two nodes' the higher one is the later.
    #[serde(default)]
    stamp: u64,
    users: Vec<StoredUser>,
    tokens: Vec<StoredToken>,
    sessions: Vec<StoredSession>,
}

impl Stored {
    /// A code that was taken here is not taken again because people come from elsewhere.
    fn keep_steps(&mut self, before: &Stored) {
        for user in &mut self.users {
            let same = |u: &&StoredUser| u.name == user.name && u.second_factor == user.second_factor;
            let step = before.users.iter().find(same).map_or(0, |u| u.last_step);
            user.last_step = user.last_step.max(step);
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StoredUser {
    name: String,
    role: Role,
    /// PHC string, Argon2id.
    password: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second_factor: Option<String>,
    /// The step of the last code that was taken: each is good once.
    #[serde(default)]
    last_step: u64,
    created_ms: u64,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StoredToken {
    id: String,
    name: String,
    role: Role,
    owner: String,
    created_ms: u64,
    expires_ms: Option<u64>,
    hash: String,
    /// The id of the token that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_with: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StoredSession {
    id: String,
    user: String,
    from: String,
    agent: String,
    created_ms: u64,
    seen_ms: u64,
    csrf: String,
    hash: String,
}

fn refused(kind: FailureKind, why: impl Into<String>) -> Refused {
    Refused::new(kind, why)
}

/// So many random bytes as hexadecimal digits.
fn random(bytes: usize) -> String {
    let mut raw = vec![0; bytes];
    if rand::fill(&mut raw).is_err() {
        // Without randomness there is no secret; nothing good can follow.
        std::process::abort();
    }
    hex(&raw)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn hash(secret: &str) -> String {
    hex(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

/// Compares secrets: how long it takes says nothing of how far they are the same.
pub fn same(a: &str, b: &str) -> bool {
    #[cfg(test)]
    tests::COMPARED.set(tests::COMPARED.get() + 1);
    aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

/// The role whose rights both have. Operators and managers of certificates share those of viewers.
fn lesser(a: Role, b: Role) -> Role {
    match (a, b) {
        (a, b) if a == b => a,
        (Role::Admin, other) | (other, Role::Admin) => other,
        _ => Role::Viewer,
    }
}

fn valid_name(name: &str) -> Result<(), Refused> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    // `.` and `..` cannot be named in a URL, and what begins with `-` is an option to many programs.
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    match begins && name.len() <= 64 && name.chars().all(good) {
        true => Ok(()),
        false => Err(refused(
            FailureKind::Invalid,
            "a name has 1 to 64 letters, digits and `-_.@`, begins with a letter or a digit, and has nothing else",
        )),
    }
}

impl Accounts {
    /// Reads the file, or begins without anybody.
    pub fn open(file: &Path, idle_ms: u64, write: Write) -> Result<Accounts, String> {
        let mut stored: Stored = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| format!("{} is damaged: {e}; nobody can log in", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Stored::default(),
            Err(error) => return Err(format!("{} cannot be read: {error}", file.display())),
        };
        for token in &mut stored.tokens {
            // Tokens that were made with a token had that in their owner's name once.
            if let Some((person, _)) = token.owner.split_once(" (token ") {
                token.owner = person.to_owned();
            }
        }
        let mut lock = Lock::default();
        stored.sessions.iter().for_each(|s| lock.succeeded(&s.user, &s.from, s.seen_ms));
        let inner =
            Inner { file: file.to_owned(), write, stored, lock, first: None, waiting: Vec::new(), idle_ms };
        Ok(Accounts(Arc::new(Mutex::new(inner))))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_idle(&self, idle_ms: u64) {
        self.inner().idle_ms = idle_ms;
    }

    /// A code with which the first person can be made; `None` when somebody exists.
    pub fn first_code(&self) -> Option<String> {
        let mut inner = self.inner();
        if !inner.stored.users.is_empty() {
            return None;
        }
        let code = random(10);
        let code = [&code[..5], &code[5..10], &code[10..15], &code[15..]].join("-");
        inner.first = Some(hash(&code));
        Some(code)
    }

    pub fn door(&self) -> api::Door {
        let first = self.inner().stored.users.is_empty();
        api::Door { first, version: env!("CARGO_PKG_VERSION").into() }
    }

    /// Makes the first person.
    pub fn set_up(&self, set_up: &api::SetUp, now_ms: u64) -> Result<(), Refused> {
        {
            let mut inner = self.inner();
            let expected = inner.first.as_ref().filter(|_| inner.stored.users.is_empty());
            if !expected.is_some_and(|e| same(e, &hash(set_up.code.trim()))) {
                // Of its 80 random bits nothing is guessed; a lock would only keep the right one out.
                inner.lock.count();
                return Err(refused(
                    FailureKind::Unknown,
                    "this is not the code that the last start has printed",
                ));
            }
        }
        let (name, password) = (set_up.name.clone(), set_up.password.clone());
        let new = api::NewUser { name, role: Role::Admin, password };
        self.insert_user(&new, |accounts| Ok(accounts.inner()), now_ms)?;
        self.inner().first = None;
        Ok(())
    }

    /// The cookie's value and who it is. Slow on purpose: call it where blocking is fine.
    pub fn log_in(
        &self,
        login: &api::Login,
        from: &str,
        agent: &str,
        now_ms: u64,
    ) -> Result<(String, Who), Refused> {
        let user = {
            let inner = self.inner();
            inner.lock.may(Purpose::Password, &login.name, from, now_ms)?;
            inner.stored.users.iter().find(|u| u.name == login.name).cloned()
        };
        let right = password::is_right(user.as_ref().map(|u| u.password.as_str()), &login.password);
        let mut inner = self.inner();
        let Some(user) = user.filter(|_| right) else {
            inner.lock.failed(Purpose::Password, &login.name, from, now_ms);
            return Err(refused(FailureKind::Unknown, "name or password is wrong"));
        };
        if let Some(secret) = &user.second_factor {
            let Some(code) = login.code.as_deref().filter(|c| !c.is_empty()) else {
                return Err(refused(
                    FailureKind::SecondFactor,
                    "the six digits of the second factor are needed",
                ));
            };
            inner.lock.may(Purpose::Code, &login.name, from, now_ms)?;
            // As it is now: two that came at once must not both be let in by one code.
            let last_step = inner.user(&user.name)?.last_step;
            let Some(step) = second_factor::step(secret, code, now_ms, last_step) else {
                inner.lock.failed(Purpose::Code, &login.name, from, now_ms);
                return Err(refused(FailureKind::SecondFactor, "the code is wrong, or was used before"));
            };
            let stored = inner.stored.users.iter_mut().find(|u| u.name == user.name);
            stored.into_iter().for_each(|u| u.last_step = step);
        }
        // Removed, or given another password, role or second factor, while the password was looked at.
        let same = |u: &StoredUser| {
            let (now, then) = (&u.second_factor, &user.second_factor);
            u.name == user.name && u.password == user.password && u.role == user.role && now == then
        };
        if !inner.stored.users.iter().any(same) {
            return Err(refused(FailureKind::Unknown, "name or password is wrong"));
        }
        inner.lock.succeeded(&user.name, from, now_ms);
        let (secret, csrf, id) = (random(32), random(16), random(8));
        let agent: String = agent.chars().filter(|c| !c.is_control()).take(200).collect();
        inner.end_old_sessions(now_ms);
        inner.stored.sessions.push(StoredSession {
            id: id.clone(),
            user: user.name.clone(),
            from: from.into(),
            agent,
            created_ms: now_ms,
            seen_ms: now_ms,
            csrf: csrf.clone(),
            hash: hash(&secret),
        });
        // A disk that is full keeps nobody out who comes to mend it.
        if let Err(refused) = inner.save() {
            warn!(user = user.name, why = refused.failure.detail, "a session ends with this process");
        }
        let by = By::Session { id, csrf };
        Ok((secret, Who { name: user.name, role: user.role, from: from.into(), by }))
    }

    /// Whose session this is.
    pub fn of_session(&self, secret: &str, from: &str, now_ms: u64) -> Option<Who> {
        let mut inner = self.inner();
        let (hash, idle) = (hash(secret), inner.idle_ms);
        let session = inner.stored.sessions.iter_mut().find(|s| same(&s.hash, &hash))?;
        if now_ms.saturating_sub(session.seen_ms) > idle {
            return None;
        }
        let write = now_ms.saturating_sub(session.seen_ms) > SEEN_STEP_MS;
        if write {
            session.seen_ms = now_ms;
        }
        let session = session.clone();
        let user = inner.stored.users.iter().find(|u| u.name == session.user)?;
        let by = By::Session { id: session.id, csrf: session.csrf };
        let who = Who { name: user.name.clone(), role: user.role, from: from.into(), by };
        if write {
            let _ = inner.save();
        }
        Some(who)
    }

    /// Whose token this is.
    pub fn of_token(&self, token: &str, from: &str, now_ms: u64) -> Option<Who> {
        let inner = self.inner();
        let hash = hash(token);
        let token = inner.stored.tokens.iter().find(|t| same(&t.hash, &hash))?;
        if token.expires_ms.is_some_and(|at| at <= now_ms) {
            return None;
        }
        let name = format!("{} (token {})", token.owner, token.name);
        let role = inner.role_of(token);
        Some(Who { name, role, from: from.into(), by: By::Token { id: token.id.clone() } })
    }

    pub fn log_out(&self, session: &str) -> Result<(), Refused> {
        let mut inner = self.inner();
        let before = inner.stored.sessions.len();
        inner.stored.sessions.retain(|s| s.id != session);
        match inner.stored.sessions.len() < before {
            true => inner.save_removal(),
            false => Err(refused(FailureKind::NotFound, "there is no such session")),
        }
    }

    pub fn sessions(&self, own: &Who, now_ms: u64) -> Vec<api::Session> {
        let inner = self.inner();
        let alive =
            inner.stored.sessions.iter().filter(|s| now_ms.saturating_sub(s.seen_ms) <= inner.idle_ms);
        let describe = |s: &StoredSession| api::Session {
            id: s.id.clone(),
            user: s.user.clone(),
            from: s.from.clone(),
            agent: s.agent.clone(),
            created_ms: s.created_ms,
            seen_ms: s.seen_ms,
            own: matches!(&own.by, By::Session { id, .. } if *id == s.id),
        };
        alive.map(describe).collect()
    }

    /// Everybody logs in again, but for the session of one. How many sessions were ended.
    pub fn end_all_sessions(&self, but: Option<&Who>) -> Result<usize, Refused> {
        let mut inner = self.inner();
        let before = inner.stored.sessions.len();
        let kept = but.and_then(|who| match &who.by {
            By::Session { id, .. } => Some(id),
            _ => None,
        });
        inner.stored.sessions.retain(|s| kept == Some(&s.id));
        let ended = before - inner.stored.sessions.len();
        inner.save_removal().map(|()| ended)
    }

    /// Whether somebody is that person, or uses a token of theirs.
    pub fn is_person(&self, who: &Who, name: &str) -> bool {
        match &who.by {
            By::Token { id } => self.inner().stored.tokens.iter().any(|t| t.id == *id && t.owner == name),
            _ => who.name == name,
        }
    }

    pub fn has_second_factor(&self, name: &str) -> bool {
        self.inner().stored.users.iter().any(|u| u.name == name && u.second_factor.is_some())
    }

    pub fn users(&self, now_ms: u64) -> Vec<api::User> {
        let inner = self.inner();
        let describe = |u: &StoredUser| api::User {
            name: u.name.clone(),
            role: u.role,
            second_factor: u.second_factor.is_some(),
            created_ms: u.created_ms,
            locked_ms: inner.lock.left_ms(&u.name, now_ms),
        };
        inner.stored.users.iter().map(describe).collect()
    }

    /// Who changes people or tokens may still do so now: passwords are hashed in turn, and whoever waits for that
    /// may be removed meanwhile.
    fn acting(&self, by: &Who, now_ms: u64) -> Result<MutexGuard<'_, Inner>, Refused> {
        let inner = self.inner();
        match inner.still(by, now_ms) {
            true => Ok(inner),
            false => Err(refused(FailureKind::Unknown, "the session, the token or its role has ended")),
        }
    }

    pub fn add_user(&self, new: &api::NewUser, by: &Who, now_ms: u64) -> Result<(), Refused> {
        self.insert_user(new, |accounts| accounts.acting(by, now_ms), now_ms)
    }

    fn insert_user<'a>(
        &'a self,
        new: &api::NewUser,
        lock: impl FnOnce(&'a Accounts) -> Result<MutexGuard<'a, Inner>, Refused>,
        now_ms: u64,
    ) -> Result<(), Refused> {
        valid_name(&new.name)?;
        let password = password::make(&new.password)?;
        let mut inner = lock(self)?;
        if inner.stored.users.iter().any(|u| u.name == new.name) {
            return Err(refused(FailureKind::Failed, format!("there is a user {:?} already", new.name)));
        }
        if inner.stored.users.len() >= MOST_USERS {
            return Err(refused(FailureKind::Failed, format!("{MOST_USERS} users are the most")));
        }
        let before = inner.stored.clone();
        inner.stored.users.push(StoredUser {
            name: new.name.clone(),
            role: new.role,
            password,
            second_factor: None,
            last_step: 0,
            created_ms: now_ms,
        });
        inner.save_people(before)
    }

    /// A new role or password ends the sessions of that person.
    pub fn change_user(
        &self,
        name: &str,
        change: &api::UserChange,
        by: &Who,
        now_ms: u64,
    ) -> Result<(), Refused> {
        let password = change.password.as_deref().map(password::make).transpose()?;
        let mut inner = self.acting(by, now_ms)?;
        if change.role.is_some_and(|r| r != Role::Admin) {
            inner.keep_an_admin(name)?;
        }
        let before = inner.stored.clone();
        let user = inner.user(name)?;
        let ends = password.is_some() || change.role.is_some_and(|r| r != user.role);
        user.role = change.role.unwrap_or(user.role);
        if let Some(password) = password {
            user.password = password;
        }
        match change.second_factor {
            Some(false) => user.second_factor = None,
            Some(true) if user.second_factor.is_none() => {
                inner.stored = before;
                let why = "a second factor is set up by its owner: POST /api/v1/self/second-factor";
                return Err(refused(FailureKind::Invalid, why));
            }
            _ => {}
        }
        inner.lock.unlock(name);
        if ends {
            inner.stored.sessions.retain(|s| s.user != name);
        }
        inner.save_people(before)
    }

    pub fn remove_user(&self, name: &str, by: &Who, now_ms: u64) -> Result<(), Refused> {
        let mut inner = self.acting(by, now_ms)?;
        inner.user(name)?;
        inner.keep_an_admin(name)?;
        inner.stored.users.retain(|u| u.name != name);
        inner.stored.sessions.retain(|s| s.user != name);
        let owned = inner.stored.tokens.iter().filter(|t| t.owner == name).map(|t| t.id.clone()).collect();
        inner.remove_tokens(owned);
        inner.waiting.retain(|waiting| waiting.user != name);
        inner.save_people_removal()
    }

    /// Ends the person's other sessions.
    pub fn change_password(
        &self,
        who: &Who,
        change: &api::PasswordChange,
        now_ms: u64,
    ) -> Result<(), Refused> {
        self.password_is_right(who, &change.old, now_ms)?;
        let new = password::make(&change.new)?;
        let mut inner = self.acting(who, now_ms)?;
        let before = inner.stored.clone();
        inner.user(&who.name)?.password = new;
        let own = |s: &StoredSession| matches!(&who.by, By::Session { id, .. } if *id == s.id);
        inner.stored.sessions.retain(|s| s.user != who.name || own(s));
        inner.save_people(before)
    }

    fn password_is_right(&self, who: &Who, given: &str, now_ms: u64) -> Result<(), Refused> {
        let old = {
            let mut inner = self.inner();
            inner.lock.may(Purpose::Password, &who.name, &who.from, now_ms)?;
            inner.user(&who.name)?.password.clone()
        };
        if !password::is_right(Some(&old), given) {
            self.inner().lock.failed(Purpose::Password, &who.name, &who.from, now_ms);
            return Err(refused(FailureKind::Invalid, "the password is wrong"));
        }
        Ok(())
    }

    pub fn tokens(&self) -> Vec<api::Token> {
        self.inner().stored.tokens.iter().map(|t| described(t, None)).collect()
    }

    pub fn add_token(&self, new: &api::NewToken, who: &Who, now_ms: u64) -> Result<api::Token, Refused> {
        valid_name(&new.name)?;
        let mut inner = self.acting(who, now_ms)?;
        if inner.stored.tokens.len() >= MOST_TOKENS {
            return Err(refused(FailureKind::Failed, format!("{MOST_TOKENS} tokens are the most")));
        }
        if lesser(new.role, who.role) != new.role {
            return Err(refused(FailureKind::Forbidden, "a token may not do more than who makes it"));
        }
        let mut expires_ms = new.valid_days.map(|days| now_ms + u64::from(days) * DAY_MS);
        let (mut owner, mut made_with) = (who.name.clone(), None);
        // A token that is made with a token belongs to the same person, and ends with it.
        if let By::Token { id } = &who.by {
            let maker = inner.stored.tokens.iter().find(|t| t.id == *id);
            let maker = maker.ok_or_else(|| refused(FailureKind::Unknown, "the token was revoked"))?;
            owner.clone_from(&maker.owner);
            made_with = Some(id.clone());
            expires_ms = [expires_ms, maker.expires_ms].into_iter().flatten().min();
        }
        let secret = format!("ek_{}", random(32));
        let token = StoredToken {
            id: random(8),
            name: new.name.clone(),
            role: new.role,
            owner,
            created_ms: now_ms,
            expires_ms,
            hash: hash(&secret),
            made_with,
        };
        let shown = described(&token, Some(secret));
        let before = inner.stored.clone();
        inner.stored.tokens.push(token);
        inner.save_people(before).map(|()| shown)
    }

    pub fn remove_token(&self, id: &str, by: &Who, now_ms: u64) -> Result<(), Refused> {
        let mut inner = self.acting(by, now_ms)?;
        let before = inner.stored.tokens.len();
        inner.remove_tokens(vec![id.to_owned()]);
        match inner.stored.tokens.len() < before {
            true => inner.save_people_removal(),
            false => Err(refused(FailureKind::NotFound, "there is no such token")),
        }
    }

    /// Names of the tokens that never end, which are revoked by this.
    pub fn revoke_endless_tokens(&self) -> Result<Vec<String>, Refused> {
        let mut inner = self.inner();
        let endless = inner.stored.tokens.iter().filter(|t| t.expires_ms.is_none());
        let endless = endless.map(|t| t.id.clone()).collect();
        let removed = inner.remove_tokens(endless);
        inner.save_people_removal()?;
        Ok(removed.into_iter().map(|t| t.name).collect())
    }

    /// Whoever asked may still do so: nothing has been revoked in the meantime.
    pub fn still(&self, who: &Who, now_ms: u64) -> bool {
        self.inner().still(who, now_ms)
    }

    /// Whether `restore` would take a text.
    pub fn check(text: &str) -> Result<(), Refused> {
        of_backup(text).map(drop)
    }

    /// Takes people and tokens from a backup; sessions end. How many people there are.
    pub fn restore(&self, text: &str) -> Result<usize, Refused> {
        let stored = of_backup(text)?;
        let mut inner = self.inner();
        let stamp = inner.stored.stamp.max(stored.stamp);
        let before = std::mem::replace(&mut inner.stored, Stored { stamp, sessions: Vec::new(), ..stored });
        inner.stored.keep_steps(&before);
        inner.save_people(before).map(|()| inner.stored.users.len())
    }

    /// Attempts that failed, since the start.
    pub fn failures(&self) -> u64 {
        self.inner().lock.failures()
    }
}

fn of_backup(text: &str) -> Result<Stored, Refused> {
    let stored: Stored = serde_json::from_str(text)
        .map_err(|e| refused(FailureKind::Invalid, format!("the people of the backup: {e}")))?;
    for user in &stored.users {
        valid_name(&user.name)?;
        if !password::is_usable(&user.password) {
            let why = format!("the backup has no usable password of {:?}", user.name);
            return Err(refused(FailureKind::Invalid, why));
        }
    }
    // A node that scripts run by tokens, or the socket alone, has no people.
    match stored.users.is_empty() || stored.users.iter().any(|u| u.role == Role::Admin) {
        true => Ok(stored),
        false => {
            let why = "the backup has people, but no admin among them: nobody could administer the node. Make one of them admin where the backup comes from, and back up again";
            Err(refused(FailureKind::Invalid, why))
        }
    }
}

fn described(token: &StoredToken, secret: Option<String>) -> api::Token {
    api::Token {
        id: token.id.clone(),
        name: token.name.clone(),
        role: token.role,
        owner: token.owner.clone(),
        created_ms: token.created_ms,
        expires_ms: token.expires_ms,
        token: secret,
    }
}

impl Inner {
    fn still(&self, who: &Who, now_ms: u64) -> bool {
        match &who.by {
            By::Socket => true,
            By::Session { id, .. } => {
                let session = self.stored.sessions.iter().find(|s| s.id == *id);
                let user = session.and_then(|s| self.stored.users.iter().find(|u| u.name == s.user));
                user.is_some_and(|u| u.role == who.role)
            }
            By::Token { id } => {
                let token = self.stored.tokens.iter().find(|t| t.id == *id);
                token
                    .is_some_and(|t| t.expires_ms.is_none_or(|at| at > now_ms) && self.role_of(t) == who.role)
            }
        }
    }

    fn user(&mut self, name: &str) -> Result<&mut StoredUser, Refused> {
        let found = self.stored.users.iter_mut().find(|u| u.name == name);
        found.ok_or_else(|| refused(FailureKind::NotFound, format!("there is no user {name:?}")))
    }

    /// What a token may do now: no more than the person whose it is. Tokens that were made at the
    /// socket are nobody's but the machine's.
    fn role_of(&self, token: &StoredToken) -> Role {
        let owner = self.stored.users.iter().find(|u| u.name == token.owner);
        owner.map_or(token.role, |owner| lesser(token.role, owner.role))
    }

    /// Revokes tokens and whatever was made with them.
    fn remove_tokens(&mut self, mut ids: Vec<String>) -> Vec<StoredToken> {
        let mut removed = Vec::new();
        while let Some(id) = ids.pop() {
            let all = std::mem::take(&mut self.stored.tokens).into_iter();
            let (gone, kept): (Vec<_>, _) = all.partition(|t| t.id == id);
            let made_with: &dyn Fn(&&StoredToken) -> bool = &|t| t.made_with.as_ref() == Some(&id);
            ids.extend(kept.iter().filter(made_with).map(|t: &StoredToken| t.id.clone()));
            self.stored.tokens = kept;
            removed.extend(gone);
        }
        removed
    }

    fn keep_an_admin(&self, without: &str) -> Result<(), Refused> {
        let left = self.stored.users.iter().any(|u| u.role == Role::Admin && u.name != without);
        match left {
            true => Ok(()),
            false => Err(refused(
                FailureKind::Failed,
                format!("{without:?} is the last admin; make another first"),
            )),
        }
    }

    fn end_old_sessions(&mut self, now_ms: u64) {
        let idle = self.idle_ms;
        self.stored.sessions.retain(|s| now_ms.saturating_sub(s.seen_ms) <= idle);
        if self.stored.sessions.len() >= MOST_SESSIONS {
            self.stored.sessions.remove(0);
        }
    }

    /// People or tokens have changed; where that cannot be written they are as `before`.
    fn save_people(&mut self, before: Stored) -> Result<(), Refused> {
        self.stored.stamp += 1;
        self.save_or(before)
    }

    fn save_or(&mut self, before: Stored) -> Result<(), Refused> {
        self.save().inspect_err(|_| self.stored = before)
    }

    /// People or tokens are gone.
    fn save_people_removal(&mut self) -> Result<(), Refused> {
        self.stored.stamp += 1;
        self.save_removal()
    }

    /// Somebody is locked out: that holds at once, even where it cannot be written.
    fn save_removal(&mut self) -> Result<(), Refused> {
        self.save().map_err(|mut refused| {
            refused.failure.detail.push_str("; it holds until this program starts anew, and then no more");
            refused
        })
    }

    fn save(&self) -> Result<(), Refused> {
        let bytes = serde_json::to_vec_pretty(&self.stored).unwrap_or_default();
        (self.write)(&self.file, &bytes).map_err(|e| {
            refused(FailureKind::Failed, format!("{} cannot be written: {e}", self.file.display()))
        })
    }
}

#[cfg(test)]
mod tests;
