//! One configuration on both nodes: commits that are on both, catching up, going back. The rules are
//! `evenkeel_agree`'s; here they meet the texts, the people who wait, and the link.

use std::collections::BTreeSet;

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_agree::admission::CommitRequest;
use evenkeel_agree::agreement::{
    Agreement, Answered, Begin, CommitReply, Greeted, Relation, Settled, Unfollowed,
};
use evenkeel_agree::past::{Head, Lineage, Past};
use evenkeel_api as api;
use evenkeel_model::Snapshot;
use tracing::{info, warn};

use super::addresses::Asking;
use super::control::{Control, monotonic_ms, wall_ms};
use super::overrides::{Live, hash_of_shared, shared_of};
use super::pair::Say;

/// Commits that are under way between the two nodes.
#[derive(Default)]
pub struct Commits {
    agreement: Agreement,
    own: Option<PendingCommit>,
    prepared: Option<Prepared>,
    /// Why the peer's configuration could not be taken here.
    untaken: Option<String>,
    /// Admin states and weights of a backup, for the commit that is asked for next.
    pub(super) restored: Option<Live>,
}

/// A commit of this node's that waits for the peer.
struct PendingCommit {
    text: String,
    /// What ran before.
    before: String,
    options: api::CommitOptions,
    /// Committed here; the peer has been told.
    done: Option<api::Committed>,
    /// Admin states and weights that come with it, of a backup.
    live: Option<Live>,
    reply: Reply<api::Committed>,
}

/// A configuration of the peer's that this node has said it would take.
struct Prepared {
    id: u64,
    stand: Head,
    text: String,
    options: api::CommitOptions,
}

/// How this node's configuration stands to the peer's, for people.
fn words(relation: Relation) -> &'static str {
    match relation {
        Relation::Unknown => "not known",
        Relation::Same | Relation::SameTextOtherHistory => "same",
        Relation::Ahead => "this node is ahead",
        Relation::Behind => "the peer is ahead",
        Relation::Differs => "differs",
    }
}

impl Control {
    pub(super) fn head(&self) -> Head {
        self.overrides().past().head(self.revision())
    }

    /// How this node's configuration stands to the peer's, with the reason why it does not follow.
    pub(super) fn relation_in_words(&self) -> String {
        let relation = self.relation();
        match &self.sync().commits.untaken {
            Some(why) if relation == Relation::Behind => {
                format!("{}, and this node cannot use what it has: {why}", words(relation))
            }
            _ => words(relation).into(),
        }
    }

    pub(super) fn relation(&self) -> Relation {
        self.sync().commits.agreement.relation(self.overrides().past())
    }

    /// The rules, with the past that they look at.
    pub(super) fn agree<T>(&mut self, with: impl FnOnce(&mut Agreement, &Past) -> T) -> T {
        let mut agreement = std::mem::take(&mut self.sync_mut().commits.agreement);
        let result = with(&mut agreement, self.overrides().past());
        self.sync_mut().commits.agreement = agreement;
        result
    }

    // Greetings and catching up

    pub(super) fn greeted(&mut self, stand: Head, way: Lineage) {
        let asks = self.agree(|agreement, own| agreement.on_hello(own, stand, way));
        self.follow_greeting(asks);
    }

    /// Who is ahead brings the other up to date.
    pub(super) fn compare(&mut self) {
        let asks = self.agree(Agreement::compare);
        self.follow_greeting(asks);
    }

    fn follow_greeting(&mut self, asks: Greeted) {
        match asks {
            Greeted::Nothing => {}
            Greeted::Send => self.send_configuration(false),
            Greeted::Adopt => {
                let way = self.sync().commits.agreement.peers_lineage();
                self.overrides_mut().adopt_past(&way);
                self.save_overrides();
                self.say_hello();
            }
            Greeted::Differs => warn!(
                peer = self.sync().peer.as_deref(),
                "the nodes have different configurations, and neither comes from the other: each keeps its own"
            ),
        }
    }

    pub(super) fn configuration_came(&mut self, stand: Head, way: &Lineage, text: &str, forced: bool) {
        let takes = self.agree(|agreement, own| agreement.on_configuration(own, stand, way.clone(), forced));
        if takes {
            match self.take_configuration(text, stand, way, &from_peer()) {
                Ok(()) => {
                    info!(revision = stand.revision, "took the peer's configuration");
                    self.sync_mut().commits.untaken = None;
                }
                // It is sent now and then; the same reason is told once.
                Err(why) if self.sync().commits.untaken.as_ref() == Some(&why) => {}
                Err(why) => {
                    warn!(why, "the peer's configuration cannot be taken; it is tried again every 10 s");
                    self.sync_mut().commits.untaken = Some(why);
                }
            }
            self.say_hello();
        }
    }

    fn send_configuration(&mut self, forced: bool) {
        let text = self.running_text();
        self.tell_named_files(&text);
        let Some(text) = evenkeel_config::shared(&self.running_text()) else { return };
        let way = self.overrides().past().lineage().clone();
        self.say(&Say::Configuration { stand: self.head(), way, text, forced });
    }

    /// With the way that leads to it, where that is known.
    pub(super) fn take_configuration(
        &mut self,
        shared: &str,
        stand: Head,
        way: &Lineage,
        options: &api::CommitOptions,
    ) -> Result<(), String> {
        let text = evenkeel_config::adopt(&self.running_text(), shared).ok_or("it is no TOML")?;
        let placed = self.read(&text).map(|new| self.place_named_files(&new)).unwrap_or_default();
        self.follows_peer = true;
        let taken = self.commit_as(text, stand.revision, options).map_err(first_of);
        self.follows_peer = false;
        taken.inspect_err(|_| self.take_named_files_back(&placed))?;
        if !way.steps.is_empty() {
            self.overrides_mut().adopt_past(way);
            self.save_overrides();
        }
        Ok(())
    }

    // Commits

    /// Whether the network is asked for the new addresses of a configuration. Before there is a pair the other node may
    /// have them; what it has committed it has asked for.
    pub(super) fn asking(&self, new: &Snapshot) -> Asking {
        let peer = &self.sync().peer_macs;
        let is_known = !peer.is_empty() || self.pair().is_some_and(|pair| !pair.hears_peer());
        match is_known && !self.follows_peer {
            // To one that is alone, or leaves, the other node is a stranger like all others.
            _ if new.pair.is_none() => Asking::Strangers(BTreeSet::new()),
            true => Asking::Strangers(peer.clone()),
            false => Asking::Nobody,
        }
    }

    /// What the other node would do at a commit now; nothing where there is none.
    pub fn peer_would(&self, new: &Snapshot) -> Option<String> {
        self.pair().filter(|p| p.settings().peer.is_some())?;
        let words = match (self.link_up().is_some(), self.relation()) {
            _ if new.pair.is_none() && self.is_active_node() => {
                "this node leaves the pair: refused while the other node is there, which would take the addresses, too (`evenkeel pair switch-over` first)"
            }
            _ if new.pair.is_none() => "this node leaves the pair, and the other one goes on as it is",
            (true, Relation::Same) => "the other node commits it too, or neither does",
            (true, Relation::Differs) => "the other node keeps its own configuration: it differs",
            (true, Relation::Behind) => "the other node is ahead of this one, and does not take it",
            (true, _) => "the other node is behind, and is sent it once it is committed here",
            (false, _) => "the other node is not reachable, and follows when it is back",
        };
        Some(words.into())
    }

    /// Commits on both nodes, or says that it could not.
    pub fn commit_on_both(
        &mut self,
        text: String,
        options: api::CommitOptions,
        reply: Reply<api::Committed>,
    ) {
        let request = CommitRequest { base: options.base, running: self.revision() };
        let usable = || self.read(&text).map(drop);
        let storable = || self.check_storage(&text).map_err(|why| Refused::new(FailureKind::Failed, why));
        if let Err((_, why)) = request.admit(usable, storable) {
            let changed =
                || Refused::new(FailureKind::Changed, self.changed_since(options.base.unwrap_or_default()));
            let _ = reply.send(Err(why.unwrap_or_else(changed)));
            return;
        }
        if self.pair().is_some() && self.read(&text).is_ok_and(|new| new.pair.is_none()) {
            return drop(reply.send(self.leave_pair(text, &options)));
        }
        let (linked, now) = (self.link_up().is_some(), monotonic_ms());
        match self.agree(|agreement, own| agreement.begin(own, linked, now)) {
            Begin::Busy => {
                let why = "another commit is under way on one of the nodes; look at what it changed, then try again";
                let _ = reply.send(Err(Refused::new(FailureKind::Failed, why)));
            }
            Begin::Alone => {
                let relation = self.relation();
                let live = self.sync_mut().commits.restored.take();
                let result = self.commit_with(text, live, &options).map(|mut committed| {
                    let paired = self.pair().filter(|p| p.settings().peer.is_some());
                    committed.peer = paired.map(|_| match relation {
                        Relation::Differs => "NOT committed: it has another configuration".into(),
                        Relation::Behind => {
                            "NOT committed: it is ahead of this node, whose machine could not run what it has"
                                .into()
                        }
                        Relation::Ahead if linked => {
                            "NOT committed yet: it is behind, and is sent this one; `evenkeel pair status` there says why"
                                .into()
                        }
                        _ => "NOT committed: it is not reachable now, and follows when it is back".into(),
                    });
                    committed
                });
                self.say_hello();
                self.compare();
                let _ = reply.send(result);
            }
            Begin::Ask { id } => {
                self.tell_named_files(&text);
                let shared = shared_of(&text);
                let hash = hash_of_shared(&shared);
                let past = self.overrides().past();
                let stand = Head { revision: self.revision() + 1, id: past.next(hash), text: hash };
                let base = self.sync().commits.agreement.base(past);
                self.say(&Say::Prepare { id, base, stand, text: shared, options: options.clone() });
                let (before, live) = (self.running_text(), self.sync_mut().commits.restored.take());
                self.sync_mut().commits.own =
                    Some(PendingCommit { text, before, options, done: None, live, reply });
            }
        }
    }

    /// Commits a configuration without `[pair]`: the other node is not asked, and goes on as it is. An active node does
    /// not leave one that can take its addresses: both would have them.
    fn leave_pair(&mut self, text: String, options: &api::CommitOptions) -> Result<api::Committed, Refused> {
        let heard = self.pair().is_some_and(super::pair::Pair::hears_peer);
        if self.is_active_node() && heard {
            self.sync_mut().commits.restored = None;
            let why = "nothing was changed: without [pair] this node would keep its addresses, and the other node, which is there, takes them too: `evenkeel pair switch-over` first, or stop the other node";
            return Err(Refused::new(FailureKind::Failed, why));
        }
        let live = self.sync_mut().commits.restored.take();
        let committed = self.commit_with(text, live, options)?;
        let peer = heard.then(|| {
            "NOT committed: this node has left the pair, and the other one goes on as it is".to_owned()
        });
        Ok(api::Committed { peer, ..committed })
    }

    /// Commits here, with the admin states and weights of a backup, or leaves both as they are.
    fn commit_with(
        &mut self,
        text: String,
        live: Option<Live>,
        options: &api::CommitOptions,
    ) -> Result<api::Committed, Refused> {
        let Some(live) = live else { return self.commit_as(text, 0, options) };
        let before = self.overrides().live().clone();
        self.overrides_mut().restore_live(live);
        let result = self.commit_as(text, 0, options);
        if result.is_err() {
            self.overrides_mut().put_live_back(before);
        }
        self.push_states();
        self.save_overrides();
        result
    }

    /// What somebody is told who commits what was made for another revision than the running one.
    fn changed_since(&self, base: u64) -> String {
        let revision = self.revision();
        let told = format!(
            "nothing was changed: it was made for revision {base}, and revision {revision} is the running one"
        );
        let Some(before) = self.history.text(base) else { return format!("{told}; look at what changed") };
        let changed = difference(&before, &self.running_text());
        format!("{told}. What changed meanwhile (`evenkeel diff {base} {revision}`):\n{changed}")
    }

    /// The peer asks: all that could make its commit fail here is tried.
    pub(super) fn prepare(
        &mut self,
        id: u64,
        base: u64,
        stand: Head,
        shared: String,
        options: api::CommitOptions,
    ) -> Result<(), String> {
        let (active, now) = (self.is_active_node(), monotonic_ms());
        match self.agree(|agreement, own| agreement.on_ask(own, active, id, base, now)) {
            CommitReply::Yes { gave_up: false } => {}
            CommitReply::Yes { gave_up: true } => {
                let theirs = difference(&shared_of(&self.running_text()), &shared);
                if let Some(own) = self.sync_mut().commits.own.take() {
                    let why = format!(
                        "the other node commits another change of the same revision now; nothing was changed here. Its change:\n{theirs}"
                    );
                    let _ = own.reply.send(Err(Refused::new(FailureKind::Failed, why)));
                }
            }
            CommitReply::OtherBase => {
                return Err(format!("it has revision {}, which this node does not know", self.revision()));
            }
            CommitReply::Busy => {
                let own = self.sync().commits.own.as_ref();
                let ours = own.map(|own| difference(&shared_of(&self.running_text()), &shared_of(&own.text)));
                return Err(format!(
                    "it commits another change of the same revision now. Its change:\n{}",
                    ours.unwrap_or_default()
                ));
            }
        }
        let usable = evenkeel_config::adopt(&self.running_text(), &shared)
            .ok_or_else(|| "it is no TOML".to_owned())
            .and_then(|text| Ok((self.read(&text).map_err(first_of)?, text)))
            .and_then(|(new, text)| {
                let placed = self.place_named_files(&new);
                self.try_out(&new, &text).inspect_err(|_| self.take_named_files_back(&placed))
            });
        if let Err(why) = usable {
            self.agree(|agreement, _| agreement.withdraw(id));
            return Err(why);
        }
        self.sync_mut().commits.prepared = Some(Prepared { id, stand, text: shared, options });
        Ok(())
    }

    pub(super) fn on_prepared(&mut self, id: u64, refused: Option<String>) {
        let now = monotonic_ms();
        let is_refused = refused.is_some();
        let then = self.agree(|agreement, own| agreement.on_answer(own, id, is_refused, now));
        if then == Answered::Late {
            return;
        }
        let Some(own) = self.sync_mut().commits.own.take() else { return };
        let refuse = |why: String| Refused::new(FailureKind::Failed, why);
        match then {
            Answered::Late => {}
            Answered::GiveUp => {
                let why = refused.unwrap_or_default();
                let _ = own
                    .reply
                    .send(Err(refuse(format!("nothing was changed: the other node refuses: {why}"))));
            }
            Answered::Changed => {
                let why = "nothing was changed: the configuration was changed here meanwhile; look at it, then try again";
                let _ = own.reply.send(Err(refuse(why.into())));
            }
            Answered::Commit => match self.commit_with(own.text.clone(), own.live.clone(), &own.options) {
                Err(refused) => {
                    self.agree(|agreement, _| agreement.failed());
                    let _ = own.reply.send(Err(refused));
                }
                Ok(committed) => {
                    self.say(&Say::Commit { id });
                    self.say_hello();
                    self.sync_mut().commits.own = Some(PendingCommit { done: Some(committed), ..own });
                }
            },
        }
    }

    /// The other node has committed what this one said it would.
    pub(super) fn follow_commit(&mut self, id: u64) {
        let prepared = self.sync_mut().commits.prepared.take_if(|p| p.id == id);
        let failed = match (self.agree(|agreement, own| agreement.on_commit(own, id)), prepared) {
            (Ok(()), Some(p)) => {
                self.take_configuration(&p.text, p.stand, &Lineage::default(), &p.options).err()
            }
            (Err(Unfollowed::Changed), _) => Some("its configuration was changed there meanwhile".into()),
            (Err(Unfollowed::NotPrepared), _) | (Ok(()), None) => Some("it was not prepared".into()),
        };
        match &failed {
            None => self.agree(|agreement, own| agreement.followed(own)),
            Some(why) => warn!(why, "a commit of the peer cannot be followed"),
        }
        self.say(&Say::Committed { id, failed });
        self.say_hello();
    }

    pub(super) fn on_committed(&mut self, id: u64, failed: Option<String>) {
        let has_failed = failed.is_some();
        if !self.agree(|agreement, own| agreement.on_committed(own, id, has_failed)) {
            return;
        }
        let Some(PendingCommit { done: Some(mut committed), reply, before, .. }) =
            self.sync_mut().commits.own.take()
        else {
            return;
        };
        let answer = match failed {
            None => {
                committed.peer = Some("committed".into());
                Ok(committed)
            }
            Some(why) => Err(self.go_back(before, &why)),
        };
        let _ = reply.send(answer);
    }

    /// The other node said that it could, and could not after all: it is on both or on neither.
    fn go_back(&mut self, before: String, why: &str) -> Refused {
        let author = Some("evenkeel: the other node could not follow".into());
        let options = api::CommitOptions { author, ..api::CommitOptions::default() };
        let revision = self.revision();
        let gone_back = self.commit_as(before, 0, &options);
        self.say_hello();
        self.compare();
        let told = match gone_back {
            Ok(_) => format!("nothing is changed: the other node could not follow after all: {why}"),
            Err(refused) => format!(
                "the nodes differ: the other node could not follow: {why}; this node runs revision {revision} and could not go back: {}",
                first_of(refused)
            ),
        };
        Refused::new(FailureKind::Failed, told)
    }

    pub(super) fn link_came(&mut self) {
        self.agree(|agreement, _| agreement.on_link_up());
        self.say_hello();
        self.compare();
    }

    pub(super) fn link_broke(&mut self) {
        self.sync_mut().commits.prepared = None;
        if let Some(settled) = self.agree(|agreement, _| agreement.on_link_down()) {
            self.settle(settled, "the link to the peer broke");
        }
    }

    pub(super) fn tick_commits(&mut self) {
        let now = monotonic_ms();
        if let Some(settled) = self.agree(|agreement, _| agreement.tick(now)) {
            self.settle(settled, "the peer did not answer in time");
        }
        if self.link_up().is_some() && self.agree(|agreement, own| agreement.is_due_again(own, now)) {
            self.compare();
        }
    }

    /// The peer will not answer any more.
    fn settle(&mut self, settled: Settled, why: &str) {
        let Some(own) = self.sync_mut().commits.own.take() else { return };
        let answer = match (settled, own.done) {
            (Settled::Done, Some(mut committed)) => {
                committed.peer = Some(format!("not confirmed: {why}; it follows when it is back"));
                Ok(committed)
            }
            _ => Err(Refused::new(FailureKind::Failed, format!("nothing was changed: {why}"))),
        };
        let _ = own.reply.send(answer);
    }

    /// The running revision stays.
    pub fn confirm(&mut self) -> Result<api::Confirmed, Refused> {
        if self.overrides().unconfirmed().is_none() {
            return Err(Refused::new(FailureKind::NotFound, "no commit waits to be confirmed"));
        }
        self.overrides_mut().set_unconfirmed(None);
        self.save_overrides();
        let revision = self.revision();
        self.say(&Say::Confirm { revision });
        info!(revision, "the configuration is confirmed");
        Ok(api::Confirmed { revision })
    }

    pub(super) fn peer_confirmed(&mut self, revision: u64) {
        if self.overrides().unconfirmed().is_some_and(|u| u.revision == revision) {
            self.overrides_mut().set_unconfirmed(None);
            self.save_overrides();
            info!(revision, "the configuration is confirmed on the other node");
        }
    }

    pub fn roll_back(&mut self, rollback: api::Rollback, reply: Reply<api::Committed>) {
        let wanted = rollback.revision.or_else(|| self.history.before(self.revision()));
        let found = wanted.and_then(|revision| Some((revision, self.history.text(revision)?)));
        let Some((revision, text)) = found else {
            let why = match wanted {
                Some(revision) => {
                    format!("revision {revision} is not kept; `evenkeel history` lists those that are")
                }
                None => "there is no revision before the running one".into(),
            };
            let _ = reply.send(Err(Refused::new(FailureKind::NotFound, why)));
            return;
        };
        let message = Some(format!("back to revision {revision}"));
        self.commit_on_both(
            text,
            api::CommitOptions { author: rollback.author, message, confirm_ms: None, base: rollback.base },
            reply,
        );
    }

    pub fn revision_text(&self, revision: u64) -> Result<api::RevisionText, Refused> {
        let missing = || Refused::new(FailureKind::NotFound, format!("revision {revision} is not kept"));
        self.history.text(revision).map(|text| api::RevisionText { revision, text }).ok_or_else(missing)
    }

    /// Goes back where nobody confirmed in time. The passive node waits a little longer: the active
    /// one does it for both.
    pub(super) fn look_at_unconfirmed(&mut self) {
        let Some(unconfirmed) = self.overrides().unconfirmed() else { return };
        let grace_ms = if self.is_active_node() { 0 } else { 3_000 };
        if wall_ms() < unconfirmed.until_ms + grace_ms || self.sync().commits.agreement.is_pending() {
            return;
        }
        warn!(back_to = unconfirmed.back_to, "nobody has confirmed the configuration: going back");
        let (reply, _) = tokio::sync::oneshot::channel();
        let author = Some("evenkeel: not confirmed".into());
        let revision = Some(unconfirmed.back_to);
        self.roll_back(api::Rollback { revision, author, base: None }, reply);
        if !self.sync().commits.agreement.is_pending() {
            // Done, or impossible: not again.
            self.overrides_mut().set_unconfirmed(None);
            self.save_overrides();
        }
    }

    /// After a change that was made here alone, such as an edited file.
    pub fn tell_configuration(&mut self) {
        if self.link_up().is_some() {
            self.say_hello();
            self.compare();
        }
    }

    /// The peer shall have this node's configuration, whatever it has.
    pub fn push_configuration(&mut self) -> Result<api::Pair, Refused> {
        if self.link_up().is_none() {
            return Err(Refused::new(FailureKind::Failed, "the peer is not reachable"));
        }
        self.send_configuration(true);
        self.pair_status()
    }
}

pub(super) fn from_peer() -> api::CommitOptions {
    api::CommitOptions { author: Some("the other node".into()), ..api::CommitOptions::default() }
}

/// The lines that differ, for people.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let left = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(left).take_while(|(a, b)| a == b).count();
    let removed = old[head..old.len() - tail].iter().map(|line| format!("- {line}"));
    let added = new[head..new.len() - tail].iter().map(|line| format!("+ {line}"));
    removed.chain(added).take(40).collect::<Vec<_>>().join("\n")
}

/// The first reason of a refusal.
fn first_of(refused: Refused) -> String {
    match refused.failure.problems.first() {
        Some(p) => format!("line {}: {}", p.line, p.message),
        None => refused.failure.detail,
    }
}
