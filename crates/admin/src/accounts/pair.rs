//! People and tokens of a pair: both nodes have the same, and whoever changed them last, or more often, is followed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Accounts, Stored, StoredSession, StoredUser, refused};
use crate::{FailureKind, Refused};

impl Stored {
    /// What the nodes of a pair have in common.
    fn shared(&self) -> Stored {
        Stored { sessions: Vec::new(), ..self.clone() }
    }

    /// By which it is earlier or later than what another node has. Which codes were taken already does not count.
    fn rank(&self) -> (u64, String) {
        let mut all = self.shared();
        all.users.iter_mut().for_each(|user| user.last_step = 0);
        (self.stamp, as_text(&all))
    }
}

impl Accounts {
    /// People and tokens for the other node of a pair, and how late they are.
    pub fn shared(&self) -> (u64, String) {
        let shared = self.inner().stored.shared();
        (shared.stamp, as_text(&shared))
    }

    /// Those of another node that has any, or had some, are the later ones from now on, however often these changed:
    /// this node becomes the second one of a pair.
    pub fn give_way(&self) -> Result<(), Refused> {
        let mut inner = self.inner();
        let before = inner.stored.clone();
        inner.stored.stamp = 0;
        inner.save_or(before)
    }

    pub fn stamp(&self) -> u64 {
        self.inner().stored.stamp
    }

    /// Takes the other node's people and tokens if they are later, and says what is different then. Sessions of
    /// those who are gone end.
    pub fn adopt(&self, text: &str) -> Result<Option<String>, Refused> {
        let theirs: Stored = serde_json::from_str(text)
            .map_err(|e| refused(FailureKind::Invalid, format!("the people of the other node: {e}")))?;
        let mut inner = self.inner();
        // Where both changed as often while they were apart, both find the same one later.
        if theirs.rank() <= inner.stored.rank() {
            return Ok(None);
        }
        let before = std::mem::take(&mut inner.stored);
        let kept = |s: &StoredSession| {
            let same = |u: &&StoredUser| u.name == s.user;
            let (was, is) = (before.users.iter().find(same), theirs.users.iter().find(same));
            was.zip(is).is_some_and(|(a, b)| a.password == b.password && a.role == b.role)
        };
        let sessions = before.sessions.iter().filter(|s| kept(s)).cloned().collect();
        inner.stored = Stored { sessions, ..theirs };
        inner.stored.keep_steps(&before);
        let change = change_of(&before, &inner.stored);
        inner.save_or(before).map(|()| Some(change))
    }
}

/// Who and what has gone, come or changed, by name.
fn change_of(before: &Stored, after: &Stored) -> String {
    fn named(all: &Stored) -> BTreeMap<String, String> {
        let user = |u: &StoredUser| StoredUser { last_step: 0, ..u.clone() };
        let users = all.users.iter().map(|u| (u.name.clone(), as_text(&user(u))));
        let tokens = all.tokens.iter().map(|t| (format!("token {}", t.name), as_text(t)));
        users.chain(tokens).collect()
    }
    let (before, after) = (named(before), named(after));
    let of = |what: &str, names: Vec<&String>| {
        let list = names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{what}: {list}"))
    };
    let gone = before.keys().filter(|name| !after.contains_key(*name)).collect();
    let new = after.keys().filter(|name| !before.contains_key(*name)).collect();
    let other = after.iter().filter(|(name, now)| before.get(*name).is_some_and(|was| was != *now));
    let parts = [of("gone", gone), of("new", new), of("changed", other.map(|(name, _)| name).collect())];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn as_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
