//! What a takeover would lack shows only at the next fault, unless somebody looks: a path of beats on which nothing
//! comes, a peer that is heard and hears nothing, a witness that is away. People are told when it lasts, and when it is
//! over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use evenkeel_api as api;
use tracing::warn;

use super::control::Control;

/// How often this node looks.
const EVERY: Duration = Duration::from_secs(2);
/// What is over sooner is not told.
const LASTS: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct PairWatch {
    look_at: Option<Instant>,
    /// By what it is about: since when, and whether it was told.
    open: BTreeMap<String, (Instant, bool)>,
}

impl PairWatch {
    /// What is to be told: a level, and what it is.
    fn update(&mut self, present: &BTreeMap<String, String>, now: Instant) -> Vec<(&'static str, String)> {
        let mut told = Vec::new();
        self.open.retain(|about, (_, was_told)| {
            let stays = present.contains_key(about);
            if !stays && *was_told {
                told.push(("good", format!("{about}: well again")));
            }
            stays
        });
        for (about, what) in present {
            let (since, is_told) = self.open.entry(about.clone()).or_insert((now, false));
            if !*is_told && now - *since >= LASTS {
                *is_told = true;
                told.push(("warning", format!("{about}: {what}")));
            }
        }
        told
    }
}

fn complaints(pair: &api::Pair) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let heard = pair.peer.as_ref().filter(|peer| peer.heard);
    for path in pair.paths.iter().filter(|_| heard.is_some()) {
        if let Some(trouble) = &path.trouble {
            all.insert(format!("path {}", path.name), trouble.clone());
        }
    }
    if heard.is_some_and(api::PairPeer::is_deaf) {
        let what = "it is heard, and does not hear this node on any path: what comes in there is lost";
        all.insert("the peer".into(), what.into());
    }
    if let Some(witness) = pair.silent_witness() {
        let what = "it does not answer: if the nodes lose each other, none is active";
        all.insert(format!("witness {}", witness.address), what.into());
    }
    all
}

impl Control {
    pub(super) fn tick_pair_watch(&mut self, now: Instant) {
        let is_due = self.sync().watch.look_at.is_none_or(|at| now >= at);
        let Some(pair) = self.pair().filter(|_| is_due) else { return };
        let present = complaints(&pair.status(self.revision()));
        let watch = &mut self.sync_mut().watch;
        watch.look_at = Some(now + EVERY);
        let told = watch.update(&present, now);
        let node = self.node_name();
        for (level, text) in told {
            warn!(what = text, "the pair is less safe than it looks, or is well again");
            self.happen("role", level, &node, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_so_is_its_end() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let silent = BTreeMap::from([("path e0".to_owned(), "silent".to_owned())]);
        let nothing = BTreeMap::new();
        let mut watch = PairWatch::default();
        assert_eq!(watch.update(&silent, at(0)), []);
        assert_eq!(watch.update(&nothing, at(8)), [], "over before it was told");
        assert_eq!(watch.update(&silent, at(10)), []);
        assert_eq!(watch.update(&silent, at(20)), [("warning", "path e0: silent".to_owned())]);
        assert_eq!(watch.update(&silent, at(30)), []);
        assert_eq!(watch.update(&nothing, at(40)), [("good", "path e0: well again".to_owned())]);
        assert_eq!(watch.update(&nothing, at(50)), []);
    }
}
