//! Ways to keep a client on its real server. Each kind of persistence is one [`Keeper`].

use std::rc::Rc;
use std::sync::Arc;

use evenkeel_balance::SourceTable;
use evenkeel_model::{Persistence, SourcePersistence, mask_address};

use super::PoolRuntime;
use super::pick::Wish;
use crate::spec::PoolSpec;

pub trait Keeper {
    /// The server that a client belongs to, by its place in the pool, if that can be told.
    fn find(&self, pool: &PoolRuntime, wish: &Wish, now_ms: u64) -> Option<usize>;

    /// A client goes to this server from now on.
    fn keep(&self, wish: &Wish, server: u32, now_ms: u64);
}

/// The keeper of a pool, if it has persistence.
pub fn keeper(spec: &PoolSpec) -> Option<Rc<dyn Keeper>> {
    match (&spec.pool.persistence, &spec.table) {
        (Persistence::Source(rule), Some(table)) => {
            Some(Rc::new(BySource { rule: rule.clone(), table: table.clone() }))
        }
        (Persistence::Cookie(_), _) => Some(Rc::new(ByCookie)),
        _ => None,
    }
}

/// By the client's address: a table that all loops share.
struct BySource {
    rule: SourcePersistence,
    table: Arc<SourceTable>,
}

impl BySource {
    fn key(&self, wish: &Wish) -> std::net::IpAddr {
        mask_address(wish.client.ip(), self.rule.mask, self.rule.mask6)
    }
}

impl Keeper for BySource {
    fn find(&self, pool: &PoolRuntime, wish: &Wish, now_ms: u64) -> Option<usize> {
        self.table.lookup(self.key(wish), now_ms).and_then(|id| pool.index_of(id))
    }

    fn keep(&self, wish: &Wish, server: u32, now_ms: u64) {
        self.table.insert_or_get(self.key(wish), server, now_ms, |known| known == server);
    }
}

/// By a cookie that the answer sets: the client itself remembers.
struct ByCookie;

impl Keeper for ByCookie {
    fn find(&self, _: &PoolRuntime, wish: &Wish, _: u64) -> Option<usize> {
        wish.cookie
    }

    fn keep(&self, _: &Wish, _: u32, _: u64) {}
}
