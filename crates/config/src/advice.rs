//! What a configuration may say, but hardly means.

use evenkeel_model::{Persistence, SameSite, Snapshot};

/// One sentence for each thing that will not work as it seems.
pub fn warnings(snapshot: &Snapshot) -> Vec<String> {
    let pools = snapshot.pools.iter().filter_map(|pool| match &pool.persistence {
        Persistence::Cookie(rule) if rule.samesite == Some(SameSite::None) && !rule.secure => Some(format!(
            "pool {}: the cookie {} has samesite = \"none\" without secure = true: browsers refuse it",
            pool.name, rule.name
        )),
        _ => None,
    });
    pools.collect()
}
