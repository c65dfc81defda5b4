//! Session tickets (RFC 5077, RFC 8446 section 4.6.1) under keys that rotate, and that a
//! successor of this process, or a peer, can be given.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;

const NAME_LEN: usize = 16;
const KEY_LEN: usize = 32;
/// A key makes tickets for so long, and reads them for as long again.
pub const ROTATION_SECONDS: u64 = 6 * 3600;
const KEPT: usize = 3;

/// The keys as bytes, the one in use first: name and key.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketSecrets {
    pub keys: Vec<([u8; NAME_LEN], [u8; KEY_LEN])>,
    /// When the first one was made, in seconds of the wall clock.
    pub since: u64,
}

impl std::fmt::Debug for TicketSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ticket keys", self.keys.len())
    }
}

/// What a session of one service means: a digest of the service and of everything that decides
/// whom it lets in.
pub type Binding = [u8; 32];

/// The tickets of one service, under the keys that all share. A ticket opens only where everything
/// that its binding names is the same: a client who was let in elsewhere, or under other rules,
/// shakes hands anew.
pub struct ServiceTickets {
    keys: Arc<TicketKeys>,
    binding: Binding,
}

impl ServiceTickets {
    pub fn new(keys: Arc<TicketKeys>, binding: Binding) -> ServiceTickets {
        ServiceTickets { keys, binding }
    }
}

impl std::fmt::Debug for ServiceTickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceTickets")
    }
}

impl rustls::server::ProducesTickets for ServiceTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        ROTATION_SECONDS as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(plain, &self.binding)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(ticket, &self.binding)
    }
}

/// The keys of this process. Shared by all services and loops.
pub struct TicketKeys {
    inner: RwLock<Inner>,
}

struct Inner {
    secrets: TicketSecrets,
    keys: Vec<([u8; NAME_LEN], LessSafeKey)>,
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl TicketKeys {
    /// New keys. Without randomness there are none, and sessions are not resumed.
    pub fn new(now: u64) -> TicketKeys {
        let keys = TicketKeys { inner: RwLock::new(Inner::of(TicketSecrets::default())) };
        keys.rotate(now);
        keys
    }

    /// Takes over the keys of an earlier process or a peer.
    pub fn set(&self, secrets: TicketSecrets) {
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = Inner::of(secrets);
    }

    pub fn secrets(&self) -> TicketSecrets {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).secrets.clone()
    }

    /// Makes a new key when the one in use is old; `now` is in seconds of the wall clock.
    pub fn rotate(&self, now: u64) {
        let mut secrets = self.secrets();
        if !secrets.keys.is_empty() && now < secrets.since.saturating_add(ROTATION_SECONDS) {
            return;
        }
        let (mut name, mut key) = ([0; NAME_LEN], [0; KEY_LEN]);
        if rand::fill(&mut name).is_err() || rand::fill(&mut key).is_err() {
            return;
        }
        secrets.keys.insert(0, (name, key));
        secrets.keys.truncate(KEPT);
        secrets.since = now;
        self.set(secrets);
    }
}

impl Inner {
    fn of(secrets: TicketSecrets) -> Inner {
        let keys = secrets.keys.iter().filter_map(|(name, key)| {
            Some((*name, LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?)))
        });
        Inner { keys: keys.collect(), secrets }
    }
}

impl TicketKeys {
    fn seal(&self, plain: &[u8], binding: &Binding) -> Option<Vec<u8>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let (name, key) = inner.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + plain.len() + 16);
        ticket.extend_from_slice(name);
        ticket.extend_from_slice(&nonce);
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, associated(name, binding), &mut sealed).ok()?;
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], binding: &Binding) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let (name, key) = inner.keys.iter().find(|(known, _)| known == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let opened = key.open_in_place(nonce, associated(name, binding), &mut plain).ok()?.len();
        plain.truncate(opened);
        Some(plain)
    }
}

/// What is authenticated beside the session itself.
fn associated(name: &[u8; NAME_LEN], binding: &Binding) -> Aad<[u8; NAME_LEN + 32]> {
    let mut all = [0; NAME_LEN + 32];
    all[..NAME_LEN].copy_from_slice(name);
    all[NAME_LEN..].copy_from_slice(binding);
    Aad::from(all)
}
