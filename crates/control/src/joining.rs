//! How a node becomes one of a pair with a code: the other node is asked first, and its answer changes this one, or
//! nothing does.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_model::{PairSettings, Snapshot};
use evenkeel_peer::{Applicant, Code, Identity};
use evenkeel_platform::Network;
use tokio::sync::mpsc::UnboundedSender;

use super::control::Control;
use super::pair::{Admission, FromPeer, ask_to_join, own_identity, store_peer};
use super::sync::{SECOND, with_port};

/// A request to join has room for so many addresses.
const MOST_ADDRESSES: usize = 60;

impl Control {
    /// What an invitation, or a node that joins, says of this node and the other one is done, or refused: nothing of it
    /// is dropped.
    pub(super) fn check_part(&self, part: &api::PairPart) -> Result<(), Refused> {
        let refuse = |why: String| Err(Refused::new(FailureKind::Invalid, why));
        if let Some(peer) = part.peer.as_ref().filter(|peer| !peer.is_empty()) {
            let Ok(peer) = with_port(peer).parse::<SocketAddr>() else {
                return refuse(format!("{peer:?} is no address of the other node"));
            };
            let own = Network::open().and_then(|mut network| network.addresses()).unwrap_or_default();
            if own.iter().any(|own| own.address == peer.ip()) {
                return refuse(format!("{} is this node's own address: name the other node's", peer.ip()));
            }
        }
        let Some(settings) = self.pair().map(|pair| pair.settings()) else { return Ok(()) };
        let address = part.peer.as_deref().filter(|peer| !peer.is_empty()).map(with_port);
        let other_peer = address.filter(|peer| settings.peer.is_none_or(|known| known.to_string() != *peer));
        let interface = part.interface.as_ref().filter(|name| !name.is_empty());
        let other_interface =
            interface.filter(|name| settings.routers.iter().all(|router| router.interface != **name));
        let other_name =
            part.name.as_ref().filter(|name| !name.is_empty() && settings.name.as_str() != name.as_str());
        match other_peer.as_ref().or(other_interface).or(other_name) {
            Some(other) => refuse(format!(
                "this node has a [pair] that says otherwise than {other}: change it in the configuration, or leave this out"
            )),
            None => Ok(()),
        }
    }

    /// Two nodes of one name could not be told apart by anybody.
    pub(super) fn check_pair_name(&self, new: &Snapshot) -> Result<(), Refused> {
        let name = |pair: &PairSettings| pair.name.to_string();
        let (Some(running), Some(new)) =
            (self.pair().map(|p| name(p.settings())), new.pair.as_ref().map(name))
        else {
            return Ok(());
        };
        match running != new && self.sync().peer.as_ref() == Some(&new) {
            false => Ok(()),
            true => {
                let why = format!("the other node is named {new:?} already: take another name in [pair]");
                Err(Refused::new(FailureKind::Invalid, why))
            }
        }
    }

    /// Joins the node that made a code. It is asked first; what it says comes back as news.
    pub fn join(&self, join: &api::Join, reply: Reply<api::Pair>) {
        let (code, identity, applicant, news) = match self.joiner(join) {
            Ok(joiner) => joiner,
            Err(refused) => return drop(reply.send(Err(refused))),
        };
        let part = join.part.clone();
        tokio::spawn(async move {
            let result = ask_to_join(&identity, &code, &applicant).await;
            let _ = news.send(FromPeer::Admitted { result, peer: code.address, part, reply });
        });
    }

    /// As whom this node asks. One without `[pair]` makes sure before that it could have one.
    fn joiner(
        &self,
        join: &api::Join,
    ) -> Result<(Code, Identity, Applicant, UnboundedSender<FromPeer>), Refused> {
        let refuse = |why: String| Refused::new(FailureKind::Failed, why);
        let code = Code::parse(&join.code).map_err(|why| Refused::new(FailureKind::Invalid, why))?;
        self.check_part(&join.part)?;
        let settings = match self.pair() {
            Some(_) if self.sync().link.is_none() => {
                return Err(refuse("[pair] has no `peer`: there is no other Evenkeel node to join".into()));
            }
            Some(pair) => Some(pair.settings().clone()),
            None => {
                let text = self.with_pair(&join.part, &peer_of(&join.part, code.address), SECOND)?;
                let new = self.read(&text)?;
                self.check_storage(&text).map_err(refuse)?;
                new.pair
            }
        };
        let settings = settings.ok_or_else(|| refuse("there would be no [pair]".into()))?;
        let name = settings.name.to_string();
        let applicant = Applicant {
            name: name.clone(),
            addresses: own_addresses(),
            port: Some(settings.listen.port()),
            peer: settings.peer,
        };
        let identity = own_identity(&self.pair_folder(), &name).map_err(refuse)?;
        let news = self.pair_news.as_ref().map(|news| news.peer.clone());
        Ok((code, identity, applicant, news.ok_or_else(|| refuse("this program is stopping".into()))?))
    }

    /// The other node has answered: where there is no `[pair]` it is written, and what it sent is taken.
    pub(super) fn admitted(
        &mut self,
        asked: Result<Admission, String>,
        part: &api::PairPart,
        peer: SocketAddr,
    ) -> Result<api::Pair, Refused> {
        let refuse = |why: String| Refused::new(FailureKind::Failed, why);
        let asked = asked.map_err(|why| refuse(format!("{why}; nothing was changed here")))?;
        // Before the other node can hear of them.
        if let Some(administration) = self.administration() {
            administration.app().accounts.give_way()?;
        }
        self.give_way_with_certificates().map_err(refuse)?;
        store_peer(&self.pair_folder(), &asked.certificate).map_err(refuse)?;
        match &self.sync().link {
            Some(link) => link.set_peer(asked.certificate),
            None => self.write_pair(part, &peer_of(part, peer), SECOND)?,
        }
        self.joined(asked.keys, &asked.more).map_err(refuse)?;
        self.pair_status()
    }

    pub(super) fn pair_folder(&self) -> PathBuf {
        self.snapshot().state_directory.join("pair")
    }
}

/// Those of this machine that another one could look for it at; none where they are more than a request holds.
fn own_addresses() -> Vec<IpAddr> {
    let own = Network::open().and_then(|mut network| network.addresses()).unwrap_or_default();
    let own = own.into_iter().filter(|o| !o.ours && !o.address.is_loopback()).map(|o| o.address);
    let own: Vec<IpAddr> = own.collect();
    if own.len() > MOST_ADDRESSES { Vec::new() } else { own }
}

/// The other node's address for `[pair]`: that of the code, unless another one is said.
fn peer_of(part: &api::PairPart, code: SocketAddr) -> String {
    part.peer.as_deref().filter(|peer| !peer.is_empty()).map_or_else(|| code.to_string(), with_port)
}
