//! How a node that is alone becomes one of a pair with a code: the other node is asked first, and its answer changes
//! this one, or nothing does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_peer::Code;
use evenkeel_platform::Network;

use super::control::Control;
use super::pair::{Admission, ask_to_join, own_identity, store_peer};

impl Control {
    /// What an invitation says of this node and the other one is done, or refused: nothing of it is dropped.
    pub(super) fn check_invitation(&self, part: &api::PairPart) -> Result<(), Refused> {
        let refuse = |why: String| Err(Refused::new(FailureKind::Invalid, why));
        if let Some(peer) = &part.peer {
            let Ok(peer) = super::sync::with_port(peer).parse::<SocketAddr>() else {
                return refuse(format!("{peer:?} is no address of the other node"));
            };
            let own = Network::open().and_then(|mut network| network.addresses()).unwrap_or_default();
            if own.iter().any(|own| own.address == peer.ip()) {
                return refuse(format!("{} is this node's own address: name the other node's", peer.ip()));
            }
        }
        let Some(settings) = self.pair().map(|pair| pair.settings()) else { return Ok(()) };
        let address = part.peer.as_deref().map(super::sync::with_port);
        let other_peer = address.filter(|peer| settings.peer.is_none_or(|known| known.to_string() != *peer));
        let interface = part.interface.as_ref().filter(|name| !name.is_empty());
        let other_interface =
            interface.filter(|name| settings.routers.iter().all(|router| router.interface != **name));
        let other_name = part.name.as_ref().filter(|name| settings.name.as_str() != name.as_str());
        match other_peer.as_ref().or(other_interface).or(other_name) {
            Some(other) => refuse(format!(
                "this node has a [pair] that says otherwise than {other}: change it in the configuration, or leave this out"
            )),
            None => Ok(()),
        }
    }

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
