//! How a node that is alone becomes one of a pair with a code: the other node is asked first, and its answer changes
//! this one, or nothing does.

use std::path::Path;
use std::sync::Arc;

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_peer::Code;

use super::control::Control;
use super::pair::{Admission, ask_to_join, own_identity, store_peer};

impl Control {
    /// Asks the node that made the code. What it says comes back as news.
    pub(super) fn ask_to_join(
        &self,
        code: Code,
        part: api::PairPart,
        peer: String,
        reply: Reply<api::Pair>,
    ) -> Result<(), (Refused, Reply<api::Pair>)> {
        let refuse = |why: String| Refused::new(FailureKind::Failed, why);
        let prepared = || {
            let text = self.with_pair(&part, &peer, super::sync::SECOND)?;
            let new = self.read(&text)?;
            self.check_storage(&text).map_err(refuse)?;
            let name = new.pair.as_ref().map_or_else(|| self.node_name(), |pair| pair.name.as_str().into());
            let folder = new.state_directory.join("pair");
            let identity = own_identity(&folder, &name).map_err(refuse)?;
            let news = self.pair_news.as_ref().map(|news| news.peer.clone());
            let news = news.ok_or_else(|| refuse("this program is stopping".into()))?;
            Ok((Arc::new(identity), name, folder, news))
        };
        let (identity, name, folder, news) = match prepared() {
            Ok(prepared) => prepared,
            Err(refused) => return Err((refused, reply)),
        };
        tokio::spawn(async move {
            let result = ask_to_join(&identity, &code, &name).await;
            let _ = news.send(super::pair::FromPeer::Admitted { result, folder, part, peer, reply });
        });
        Ok(())
    }

    /// The other node has answered: `[pair]` is written, and what it sent is taken.
    pub(super) fn admitted(
        &mut self,
        asked: Result<Admission, String>,
        folder: &Path,
        part: &api::PairPart,
        peer: &str,
    ) -> Result<api::Pair, Refused> {
        let refuse = |why: String| Refused::new(FailureKind::Failed, why);
        let asked = asked.map_err(|why| refuse(format!("{why}; nothing was changed here")))?;
        if self.pair().is_none() {
            store_peer(folder, &asked.certificate).map_err(refuse)?;
            self.write_pair(part, peer, super::sync::SECOND)?;
        }
        self.joined(asked.keys, &asked.more).map_err(refuse)?;
        self.pair_status()
    }
}
