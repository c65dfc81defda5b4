//! Passwords on their way to the hashing thread and back.

use std::collections::HashMap;
use std::net::IpAddr;

use aws_lc_rs::hmac;

use super::Worker;
use crate::auth::{self, Attempt, Expected};

/// How long a request waits for its password to be hashed.
const PASSWORD_MS: u64 = 10_000;

/// Passwords that were right lately, and requests that wait for theirs to be hashed.
pub struct Passwords {
    key: hmac::Key,
    pub right: HashMap<[u8; 32], u64>,
    /// By number.
    pub waiting: HashMap<u64, Waiting>,
    pub next: u64,
}

pub struct Waiting {
    pub task: u32,
    network: IpAddr,
    /// What was found.
    pub right: Option<bool>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords { key: auth::new_key(), right: HashMap::new(), waiting: HashMap::new(), next: 0 }
    }
}

impl Passwords {
    /// A number for a request that is to wait; `None` if too many of its client's wait.
    fn enter(&mut self, task: u32, network: IpAddr) -> Option<u64> {
        let own = self.waiting.values().filter(|w| w.network == network).count();
        if own >= auth::WAITING_OF_A_CLIENT {
            return None;
        }
        self.next += 1;
        self.waiting.insert(self.next, Waiting { task, network, right: None });
        Some(self.next)
    }
}

/// Nobody could look; that says nothing about the password.
#[derive(Debug)]
pub struct Busy;

impl Worker {
    /// Whether a password is the expected one; hashed elsewhere, unless it was right lately.
    pub async fn verify_password(
        &'static self,
        client: IpAddr,
        name: &str,
        password: String,
        expected: Expected,
    ) -> Result<bool, Busy> {
        let now_ms = self.reactor.now_ms();
        let (fingerprint, number) = {
            let mut passwords = self.passwords.borrow_mut();
            let fingerprint = auth::fingerprint(&passwords.key, name, &password, expected.hash.expose());
            if expected.known && passwords.right.get(&fingerprint).is_some_and(|until| *until > now_ms) {
                return Ok(true);
            }
            let number = passwords.enter(self.reactor.current_task(), network_of(client)).ok_or(Busy)?;
            (fingerprint, number)
        };
        let attempt = Attempt { core: self.core, number, password, expected };
        let sent = self.shared.passwords.get().is_some_and(|thread| thread.try_send(attempt).is_ok());
        let found = |this: &Worker| this.passwords.borrow().waiting.get(&number).and_then(|w| w.right);
        let deadline_ms = now_ms + PASSWORD_MS;
        while sent && found(self).is_none() && self.reactor.wait(deadline_ms).await.is_ok() {}
        let found = found(self);
        let mut passwords = self.passwords.borrow_mut();
        passwords.waiting.remove(&number);
        if found == Some(true) {
            if passwords.right.len() >= auth::REMEMBERED {
                passwords.right.clear();
            }
            passwords.right.insert(fingerprint, now_ms + auth::REMEMBERED_MS);
        }
        found.ok_or(Busy)
    }
}

/// A /64 of IPv6 is one client.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_few_places() {
        let mut passwords = Passwords::default();
        let network = |text: &str| network_of(text.parse().unwrap());
        let entered = (0..150).filter(|_| passwords.enter(1, network("2001:db8::1")).is_some()).count();
        assert_eq!(entered, auth::WAITING_OF_A_CLIENT);
        assert!(passwords.enter(1, network("2001:db8::ffff")).is_none(), "the same /64");
        assert!(passwords.enter(1, network("2001:db8:0:1::1")).is_some());
        let first = passwords.enter(1, network("::ffff:192.0.2.1")).unwrap();
        assert_eq!(passwords.waiting[&first].network, network("192.0.2.1"));
    }
}
