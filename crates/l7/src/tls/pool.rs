//! TLS with the servers of a pool: what was read of files, as long as these are as they were.

use std::collections::HashMap;
use std::sync::Arc;

use evenkeel_model::{Pool, ServerTls};

use crate::file_error::FileError;
use crate::spec::{PoolSpec, ServersTls};

/// Whether a file of authorities, or a certificate that servers are shown, has changed on disk. Servers that
/// differ in their names alone have the same files.
pub fn is_stale(pool: &PoolSpec) -> bool {
    let mut seen: Vec<ServerTls> = Vec::new();
    pool.tls.iter().any(|((settings, _), tls)| {
        let files = nameless(settings);
        let is_new = !seen.contains(&files);
        let stale = is_new && tls.is_stale(&files);
        seen.extend(is_new.then_some(files));
        stale
    })
}

/// The same for whatever name: what its files are read for.
fn nameless(settings: &ServerTls) -> ServerTls {
    ServerTls { sni: None, sni_from: None, ..settings.clone() }
}

/// What the servers of a pool speak of TLS. Files are read once, whatever the number of servers; not at
/// all where the specification before has them.
pub fn of_pool(pool: &Pool, before: Option<&PoolSpec>) -> Result<ServersTls, FileError> {
    let mut read: ServersTls = HashMap::new();
    let before = before.filter(|b| !is_stale(b));
    for ((settings, h2), known) in before.iter().flat_map(|b| &b.tls) {
        read.insert((nameless(settings), *h2), known.clone());
    }
    let mut all: ServersTls = HashMap::new();
    let own = pool.real_servers.iter().filter_map(|s| Some((s.tls(pool)?, s.speaks_h2(pool))));
    for (settings, h2) in pool.server_tls.iter().map(|tls| (tls, pool.server_h2)).chain(own) {
        let key = (settings.clone(), h2);
        if all.contains_key(&key) {
            continue;
        }
        let same = before.and_then(|b| b.tls.get(&key)).cloned();
        let tls = match (same, read.get(&(nameless(settings), h2))) {
            (Some(same), _) => same,
            (None, Some(known)) => Arc::new(known.named(settings)),
            (None, None) => {
                let alpn: &[&str] = if h2 { &["h2"] } else { &["http/1.1"] };
                Arc::new(super::load_client(settings, alpn)?)
            }
        };
        read.entry((nameless(settings), h2)).or_insert_with(|| tls.clone());
        all.insert(key, tls);
    }
    Ok(all)
}
