//! `[node]` of the configuration, kept on this machine: asked for before a commit, applied after it.
//!
//! Root writes it itself; a daemon that is not root asks the helper (`evenkeel node-helper`, behind a socket of
//! systemd), which reads the settings by the same rules and writes nothing but its own files. A thread applies,
//! since programs of the system are waited for.

mod machine;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use evenkeel_model::NodeSettings;
use tracing::{info, warn};

pub use machine::Machine;

/// Where the helper listens.
const HELPER: &str = "/run/evenkeel-node.sock";
/// A folder in place of `/`, in which no program is run.
const ROOT_OF_TESTS: &str = "EVENKEEL_NODE_ROOT";
const QUESTION_AT_MOST: u64 = 1 << 20;
const ANSWER_AT_MOST: u64 = 64 << 10;
/// A check looks at files alone.
const CHECK_WITHIN: Duration = Duration::from_secs(10);
const APPLY_WITHIN: Duration = Duration::from_secs(120);
/// What failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Who writes to the machine.
#[derive(Clone, Debug)]
enum Hand {
    Own(Machine),
    Helper,
}

impl Hand {
    fn here() -> Hand {
        match std::env::var_os(ROOT_OF_TESTS) {
            Some(root) => Hand::Own(Machine::below(root.into())),
            None if rustix::process::getuid().is_root() => Hand::Own(Machine::here()),
            None => Hand::Helper,
        }
    }

    fn check(&self, node: &NodeSettings) -> Result<(), String> {
        match self {
            Hand::Own(machine) => machine.check(node),
            Hand::Helper => ask("check", Some(node), CHECK_WITHIN),
        }
    }

    fn apply(&self, node: Option<&NodeSettings>) -> Result<(), String> {
        match self {
            Hand::Own(machine) => machine.apply(node),
            Hand::Helper => ask("apply", node, APPLY_WITHIN),
        }
    }
}

/// One question to the helper: a word in the first line, the settings below.
fn ask(word: &str, node: Option<&NodeSettings>, within: Duration) -> Result<(), String> {
    let failed = |e: std::io::Error| {
        format!(
            "the helper for [node] does not answer at {HELPER} ({e}): systemctl enable --now evenkeel-node.socket"
        )
    };
    let mut stream = UnixStream::connect(HELPER).map_err(failed)?;
    stream.set_read_timeout(Some(within)).map_err(failed)?;
    stream.set_write_timeout(Some(within)).map_err(failed)?;
    let settings = node.map(evenkeel_node::as_toml).unwrap_or_default();
    stream.write_all(format!("{word}\n{settings}").as_bytes()).map_err(failed)?;
    stream.shutdown(std::net::Shutdown::Write).map_err(failed)?;
    let mut answer = String::new();
    stream.take(ANSWER_AT_MOST).read_to_string(&mut answer).map_err(failed)?;
    match answer.trim() {
        "ok" => Ok(()),
        "" => Err("the helper for [node] gave no answer: journalctl -u 'evenkeel-node@*'".into()),
        why => Err(why.to_owned()),
    }
}

/// The helper: one question on standard input, its answer on standard output.
pub fn answer_question() -> std::io::Result<()> {
    let mut question = String::new();
    std::io::stdin().lock().take(QUESTION_AT_MOST).read_to_string(&mut question)?;
    let machine = match std::env::var_os(ROOT_OF_TESTS) {
        Some(root) => Machine::below(root.into()),
        None => Machine::here(),
    };
    let answer = match answer_to(&question, &machine) {
        Ok(()) => "ok".to_owned(),
        Err(why) => why,
    };
    println!("{answer}");
    Ok(())
}

/// Nothing that comes is believed: the settings are read as a configuration is.
fn answer_to(question: &str, machine: &Machine) -> Result<(), String> {
    let (word, text) = question.split_once('\n').unwrap_or((question, ""));
    let snapshot = evenkeel_config::read(text)
        .map_err(|problems| problems.first().map_or("no settings".into(), |p| p.message.clone()))?;
    match (word, &snapshot.node) {
        ("check", Some(node)) => machine.check(node),
        ("check", None) => Ok(()),
        ("apply", node) => machine.apply(node.as_ref()),
        _ => Err("neither `check` nor `apply` is asked".into()),
    }
}

/// The daemon's side: what the machine has, and who makes it so.
#[derive(Debug)]
pub struct NodeKeeper {
    hand: Hand,
    /// There while the machine has settings of ours, so that a start without `[node]` knows.
    marker: PathBuf,
    /// What the thread was told last; nothing before it was told anything.
    told: Option<Option<NodeSettings>>,
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Thread {
    work: Sender<Option<NodeSettings>>,
    ended: Receiver<Result<(), String>>,
}

impl NodeKeeper {
    pub fn new(state_directory: &Path) -> NodeKeeper {
        let marker = state_directory.join("node-applied");
        NodeKeeper { hand: Hand::here(), marker, told: None, thread: None }
    }

    /// Whether the machine could be as a configuration has it. Changes nothing.
    pub fn prepare(&self, running: Option<&NodeSettings>, new: Option<&NodeSettings>) -> Result<(), String> {
        match new {
            Some(node) if running != Some(node) => {
                self.hand.check(node).map_err(|why| format!("[node]: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// The machine is made as the running configuration has it.
    pub fn settle(&mut self, node: Option<&NodeSettings>) {
        let is_known = match &self.told {
            Some(told) => told.as_ref() == node,
            // Where nothing was ever written, nothing is asked of anybody.
            None => node.is_none() && !self.marker.exists(),
        };
        self.told = Some(node.cloned());
        if is_known {
            return;
        }
        if self.thread.is_none() {
            match self.start() {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => return warn!(%error, "[node] cannot be applied"),
            }
        }
        if let Some(thread) = &self.thread {
            let _ = thread.work.send(node.cloned());
        }
    }

    fn start(&self) -> std::io::Result<Thread> {
        let (work, orders) = channel::<Option<NodeSettings>>();
        let (tell, ended) = channel();
        let (hand, marker) = (self.hand.clone(), self.marker.clone());
        std::thread::Builder::new().name("node".into()).spawn(move || {
            let mut again: Option<Option<NodeSettings>> = None;
            loop {
                let order = match again.is_some() {
                    true => match orders.recv_timeout(AGAIN_AFTER) {
                        Ok(order) => order,
                        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => again.take().unwrap_or_default(),
                        Err(_) => return,
                    },
                    false => match orders.recv() {
                        Ok(order) => order,
                        Err(_) => return,
                    },
                };
                // Of several the last one counts.
                let order = orders.try_iter().last().unwrap_or(order);
                // Before the first file is written: a machine without power in between is known at the start.
                let _ = std::fs::write(&marker, b"files of [node] are on this machine\n");
                let done = hand.apply(order.as_ref());
                again = done.is_err().then(|| order.clone());
                if done.is_ok() && order.is_none() {
                    let _ = std::fs::remove_file(&marker);
                }
                if tell.send(done).is_err() {
                    return;
                }
            }
        })?;
        Ok(Thread { work, ended })
    }

    /// What people must know of what was applied.
    pub fn news(&mut self) -> Vec<String> {
        let Some(thread) = &self.thread else { return Vec::new() };
        let news = thread.ended.try_iter().filter_map(|done| match done {
            Ok(()) => {
                info!("the machine is as [node] has it");
                None
            }
            Err(why) => Some(format!("[node] is not applied as a whole: {why}")),
        });
        news.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helper_believes_nothing() {
        let folder = std::env::temp_dir().join(format!("evenkeel-node-helper-{}", std::process::id()));
        let machine = Machine::below(folder.clone());
        for (question, said) in [
            ("", "neither"),
            ("remove\n[node]\n", "neither"),
            ("apply\n[node]\nhost-name = \"a\\nb\"\n", ""),
            ("apply\n[node]\ntime-zone = \"../x\"\n", "time-zone"),
            ("apply\n[[node.interface]]\nname = \"../../x\"\n", "no name of an interface"),
        ] {
            let why = answer_to(question, &machine).unwrap_err();
            assert!(why.contains(said), "{question}: {why}");
        }
        assert!(!folder.exists(), "nothing was written");
    }
}
