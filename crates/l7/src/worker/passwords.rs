//! Passwords on their way to the hashing thread and back.

use std::collections::HashMap;
use std::sync::Arc;

use super::Worker;
use crate::auth::{self, Attempt};

/// How long a request waits for its password to be hashed.
const PASSWORD_MS: u64 = 10_000;

/// Passwords that were right lately, and requests that wait for theirs to be hashed.
#[derive(Default)]
pub struct Passwords {
    pub right: HashMap<[u8; 32], u64>,
    /// By number: the task, and what was found.
    pub waiting: HashMap<u64, (u32, Option<bool>)>,
    pub next: u64,
}

impl Worker {
    /// Whether a password fits its hash; hashed elsewhere, unless it was right lately.
    pub async fn verify_password(&'static self, name: &str, password: String, hash: Arc<str>) -> bool {
        let fingerprint = auth::fingerprint(name, &password, &hash);
        let now_ms = self.reactor.now_ms();
        if self.passwords.borrow().right.get(&fingerprint).is_some_and(|until| *until > now_ms) {
            return true;
        }
        let number = {
            let mut passwords = self.passwords.borrow_mut();
            passwords.next += 1;
            let number = passwords.next;
            passwords.waiting.insert(number, (self.reactor.current_task(), None));
            number
        };
        let attempt = Attempt { core: self.core, number, password, hash };
        let sent = self.shared.passwords.get().is_some_and(|thread| thread.try_send(attempt).is_ok());
        let found = |this: &Worker| this.passwords.borrow().waiting.get(&number).and_then(|w| w.1);
        let deadline_ms = now_ms + PASSWORD_MS;
        while sent && found(self).is_none() && self.reactor.wait(deadline_ms).await.is_ok() {}
        let right = found(self).unwrap_or(false);
        let mut passwords = self.passwords.borrow_mut();
        passwords.waiting.remove(&number);
        if right {
            if passwords.right.len() >= auth::REMEMBERED {
                passwords.right.clear();
            }
            passwords.right.insert(fingerprint, now_ms + auth::REMEMBERED_MS);
        }
        right
    }
}
