//! `evenkeel upgrade --pair`: both nodes, one after the other, by one command. The passive one comes first, then the
//! role moves, then the other one. Each step begins where both are well, and one that fails leaves the rest as it is.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel_api as api;
use evenkeel_upgrade::{Outcome, Stage, outcome_folder};

use super::client::Client;
use super::live::say;
use super::upgrade::{UpgradeArguments, failed};
use super::{Common, Exit, Failure};

/// Each one is a line of the audit.
const PIECE: usize = 4 << 20;
/// How long the other node may take to install, where that needs no restart of the machine.
const INSTALL: Duration = Duration::from_secs(600);
/// How long both nodes may take to be well after a step, the restart of a machine among them.
const SETTLE: Duration = Duration::from_secs(360);
const LOOK: Duration = Duration::from_millis(300);

/// What is asked for, and how the bundle is installed on this node.
pub struct PairUpgrade<'a> {
    pub client: Client<'a>,
    pub file: &'a Path,
    pub version: &'a str,
    pub older: bool,
    pub install_here: &'a dyn Fn() -> Result<(), Failure>,
}

impl PairUpgrade<'_> {
    /// Upgrades both nodes; what was done, in a sentence.
    pub fn run(&self) -> Result<String, Failure> {
        let pair = self.pair()?;
        let both = |pair: &api::Pair| pair.version == self.version && theirs(pair) == self.version;
        // The version that both run already is taken anew where that is asked for.
        let anew = self.older && both(&pair);
        let here = anew || pair.version != self.version;
        let there = anew || theirs(&pair) != self.version;
        if !here && !there {
            return Ok(format!("both nodes run {} already", self.version));
        }
        self.settled(None, None)?;
        if self.pair()?.role == "active" {
            self.when(there, "the other node", || self.install_there())?;
            self.when(here, "the switch-over", || self.switch_over("passive"))?;
            self.when(here, "this node", || self.install_here())?;
        } else {
            self.when(here, "this node", || self.install_here())?;
            self.when(there, "the switch-over", || self.switch_over("active"))?;
            self.when(there, "the other node", || self.install_there())?;
        }
        Ok(format!("both nodes run {}", self.version))
    }

    /// Does a step that is needed; where it fails, what is where is told as well.
    fn when(
        &self,
        needed: bool,
        what: &str,
        step: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if !needed {
            return Ok(());
        }
        step().map_err(|failure| {
            let stands = match self.client.get::<api::Pair>("/api/v1/pair") {
                Ok(pair) => {
                    let role = &pair.role;
                    format!("this node ({role}) runs {}, the other one {}", pair.version, theirs(&pair))
                }
                Err(_) => "this node's daemon does not answer".into(),
            };
            let why = format!(
                "{what}: {}\n{stands}; nothing else was changed. The same command goes on from here",
                failure.message
            );
            Failure::new(failure.exit, why)
        })
    }

    fn pair(&self) -> Result<api::Pair, Failure> {
        let pair: api::Pair = self.client.get("/api/v1/pair")?;
        if !pair.paired {
            return Err(failed("this node has not joined another one: --pair is for two"));
        }
        if pair.held {
            return Err(failed("this node is held passive: `evenkeel pair release` first"));
        }
        Ok(pair)
    }

    fn install_here(&self) -> Result<(), Failure> {
        say(&format!("this node: taking {}", self.version))?;
        (self.install_here)()?;
        self.settled(Some(self.version), None)
    }

    /// Sends the bundle, has it installed, and waits until that node is well.
    fn install_there(&self) -> Result<(), Failure> {
        say(&format!("the other node: sending {}", self.version))?;
        let size = self.send()?;
        let number = u64::from(std::process::id()) << 32
            | u64::from(std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos()));
        self.step(&api::PairUpgrade::Install { number, size, older: self.older })?;
        say(&format!("the other node: taking {}", self.version))?;
        let begun = Instant::now();
        loop {
            std::thread::sleep(LOOK);
            // The link breaks and comes again while the program there is replaced.
            match self.client.get::<api::PairUpgraded>(&format!("/api/v1/pair/upgrade/{number}")) {
                Ok(api::PairUpgraded { state: api::UpgradeState::Done, .. }) => break,
                Ok(api::PairUpgraded { state: api::UpgradeState::Failed, detail, .. }) => {
                    return Err(failed(detail));
                }
                // The appliance has started another system, which knows nothing of the question.
                Ok(_) if !self.older && self.pair().is_ok_and(|pair| theirs(&pair) == self.version) => break,
                Ok(_) | Err(_) if begun.elapsed() < INSTALL => {}
                Ok(_) => return Err(Failure::new(Exit::TimedOut, "it does not say that it is done")),
                Err(failure) => return Err(failure),
            }
        }
        self.settled(None, Some(self.version))
    }

    fn send(&self) -> Result<u64, Failure> {
        let unreadable = |e: std::io::Error| failed(format!("{}: {e}", self.file.display()));
        let mut file = File::open(self.file).map_err(unreadable)?;
        let (mut piece, mut sent) = (vec![0; PIECE], 0);
        loop {
            let count = file.read(&mut piece).map_err(unreadable)?;
            if count == 0 {
                return Ok(sent);
            }
            let data = data_encoding::BASE64.encode(&piece[..count]);
            let there = self.step(&api::PairUpgrade::Piece { offset: sent, data })?;
            sent += count as u64;
            if there.received != sent {
                return Err(failed(format!("it has {} of {sent} bytes of the bundle", there.received)));
            }
        }
    }

    fn step(&self, step: &api::PairUpgrade) -> Result<api::PairUpgraded, Failure> {
        self.client.post("/api/v1/pair/upgrade", step)
    }

    fn switch_over(&self, role: &str) -> Result<(), Failure> {
        let done: api::SwitchedOver = self.client.post("/api/v1/pair/switch-over", &())?;
        let begun = Instant::now();
        while self.client.get::<api::Pair>("/api/v1/pair").is_ok_and(|pair| pair.role != role) {
            if begun.elapsed() > SETTLE {
                return Err(Failure::new(Exit::TimedOut, "the role did not move"));
            }
            std::thread::sleep(LOOK);
        }
        say(&format!("{} is active now", done.active))?;
        self.settled(None, None)
    }

    /// Waits until both nodes hear each other, run the same configuration and have told each other all they know,
    /// and the versions are these.
    fn settled(&self, here: Option<&str>, there: Option<&str>) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut why;
        loop {
            why = match self.client.get::<api::Pair>("/api/v1/pair") {
                Ok(pair) => unsettled(&pair, here, there),
                Err(failure) => Some(failure.message),
            };
            let Some(why) = &why else { return Ok(()) };
            if begun.elapsed() > SETTLE {
                return Err(Failure::new(Exit::TimedOut, format!("the pair is not well: {why}")));
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn theirs(pair: &api::Pair) -> &str {
    let link = pair.link.as_ref().filter(|link| link.connected);
    link.and_then(|link| link.peer_version.as_deref()).unwrap_or("an unknown version")
}

/// What keeps a pair from the next step.
fn unsettled(pair: &api::Pair, here: Option<&str>, there: Option<&str>) -> Option<String> {
    let (Some(link), Some(peer)) = (&pair.link, &pair.peer) else { return Some("there is no link".into()) };
    if !link.connected || !peer.heard {
        return Some(format!("the other node is not heard: {}", link.detail));
    }
    if here.is_some_and(|version| pair.version != version) {
        return Some(format!("this node runs {}", pair.version));
    }
    if there.is_some_and(|version| theirs(pair) != version) {
        return Some(format!("the other node runs {}", theirs(pair)));
    }
    if link.configuration != "same" {
        return Some(format!("the configurations are not the same: {}", link.configuration));
    }
    if link.waiting > 0 || link.lag_ms.is_some_and(|lag| lag > 2_000) {
        return Some("the other node has not taken everything yet".into());
    }
    match peer.trouble {
        Some(trouble) if trouble > pair.trouble && pair.role == "active" => {
            Some("the other node is in trouble: evenkeel pair status there".into())
        }
        _ => None,
    }
}

/// `evenkeel upgrade --helper`: installs what another node of the pair has sent. Its daemon writes a line and the
/// bundle to standard input; nothing of it is believed before the bundle is checked.
pub fn helper(json: bool, only_newer: bool) -> Result<(), Failure> {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 4096 && input.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    let mut words = line.splitn(4, ' ');
    let (number, size) =
        (words.next().and_then(|n| n.parse().ok()), words.next().and_then(|n| n.parse().ok()));
    let (Some(number), Some(size), Some(older), Some(socket)) = (number, size, words.next(), words.next())
    else {
        return Err(failed("no upgrade is asked for on standard input"));
    };
    let write =
        |stage, detail: &str| Outcome { number, stage, detail: detail.into() }.write(&outcome_folder());
    write(Stage::Installing, "")?;
    let ask = UpgradeArguments {
        only_newer,
        ..UpgradeArguments::of_peer(PathBuf::new(), older == "older" && !only_newer)
    };
    let done = take(&mut input.take(size), size, ask, socket.into(), json);
    match &done {
        Ok(()) => write(Stage::Done, "")?,
        Err(failure) => write(Stage::Failed, &failure.message)?,
    }
    done
}

/// A bundle of more is none.
const BUNDLE_AT_MOST: u64 = 8 << 30;

fn take(
    input: &mut impl Read,
    size: u64,
    ask: UpgradeArguments,
    socket: PathBuf,
    json: bool,
) -> Result<(), Failure> {
    if size > BUNDLE_AT_MOST {
        return Err(failed(format!("a bundle has {BUNDLE_AT_MOST} bytes at most, not {size}")));
    }
    let folder = super::upgrade::Private::make()?;
    let file = folder.path().join("bundle");
    let mut copy = File::create(&file)?;
    if std::io::copy(input, &mut copy)? != size {
        return Err(failed("the bundle did not come as a whole"));
    }
    copy.flush()?;
    let common = Common { socket, json };
    super::upgrade::run(&common, &UpgradeArguments { file: Some(file), ..ask })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_well_where_both_have_all() {
        let pair = serde_json::json!({
            "name": "lb1", "version": "1", "role": "active", "why": "", "since-ms": 0, "paired": true, "held": false,
            "split-brain": false, "trouble": 0, "troubles": [], "priority": 100, "revision": 1, "paths": [],
            "refused": {}, "announced-ms-ago": null, "addresses-without-interface": [], "conflict": null,
            "guarded": true, "real-time": true,
            "peer": { "address": "10.0.0.2:1", "heard": true, "heard-ms-ago": 1, "role": "passive", "trouble": 0,
                      "priority": 50, "revision": 1, "hears-this-node-ms-ago": 1 },
            "link": { "connected": true, "detail": "", "peer-version": "2", "configuration": "same", "waiting": 0,
                      "lag-ms": 1, "sent": 1, "received": 1 }
        });
        let read = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut pair = pair.clone();
            change(&mut pair);
            serde_json::from_value::<api::Pair>(pair).unwrap()
        };
        assert_eq!(unsettled(&read(&|_| ()), Some("1"), Some("2")), None);
        assert!(unsettled(&read(&|_| ()), Some("2"), None).is_some());
        assert!(unsettled(&read(&|_| ()), None, Some("3")).is_some());
        for (key, value) in [
            ("connected", serde_json::json!(false)),
            ("configuration", "differs".into()),
            ("waiting", 3.into()),
            ("lag-ms", 9_000.into()),
        ] {
            assert!(
                unsettled(&read(&|pair| pair["link"][key] = value.clone()), None, None).is_some(),
                "{key}"
            );
        }
        assert!(unsettled(&read(&|pair| pair["peer"]["trouble"] = 9.into()), None, None).is_some());
    }
}
