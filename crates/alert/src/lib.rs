//! Tells people what has happened: mail, webhook, script, syslog, SNMP.
//!
//! In: happenings, settings. Out: messages. Never: what counts as a happening, the traffic. Each
//! receiver has a thread of its own, so that one that hangs holds up no other.

mod deliver;
mod group;
mod snmp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver as Inbox, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evenkeel_model::{AlertSettings, Delivery, Receiver};
use tracing::{info, warn};

pub use group::{Flaps, Group, Happening, Message, Verdict};

/// Happenings that may wait for a receiver's thread.
const QUEUE: usize = 10_000;
/// Pauses before a message is tried again; then it is given up.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// Who is told. Dropping it ends the threads when they have sent what waits.
pub struct Alerts {
    node: String,
    settings: AlertSettings,
    receivers: Vec<ReceiverInbox>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
}

struct ReceiverInbox {
    receiver: Receiver,
    inbox: SyncSender<Happening>,
}

impl Alerts {
    pub fn start(node: &str, settings: AlertSettings) -> std::io::Result<Alerts> {
        let counts = Arc::new(Counts::default());
        let mut alerts =
            Alerts { node: node.into(), settings: settings.clone(), receivers: Vec::new(), counts };
        alerts.set(node, settings)?;
        Ok(alerts)
    }

    /// Receivers that stay the same keep what waits for them.
    pub fn set(&mut self, node: &str, settings: AlertSettings) -> std::io::Result<()> {
        let same_pace = (settings.gather, settings.quiet, node)
            == (self.settings.gather, self.settings.quiet, &*self.node);
        let mut before = std::mem::take(&mut self.receivers);
        for receiver in &settings.receivers {
            let known = before.iter().position(|t| same_pace && t.receiver == *receiver);
            let told = match known {
                Some(at) => before.swap_remove(at),
                None => self.start_delivery(node, receiver.clone(), &settings)?,
            };
            self.receivers.push(told);
        }
        (self.node, self.settings) = (node.into(), settings);
        Ok(())
    }

    fn start_delivery(
        &self,
        node: &str,
        receiver: Receiver,
        settings: &AlertSettings,
    ) -> std::io::Result<ReceiverInbox> {
        let (inbox, queue) = sync_channel(QUEUE);
        // A log is told of each thing at once.
        let (gather, quiet) = match receiver.how {
            Delivery::Syslog { .. } | Delivery::Snmp { .. } => (0, 0),
            _ => (settings.gather.as_millis() as u64, settings.quiet.as_millis() as u64),
        };
        let group = Group::new(node, gather, quiet);
        let (node, told, counts) = (node.to_owned(), receiver.clone(), self.counts.clone());
        std::thread::Builder::new()
            .name("alert".into())
            .spawn(move || serve(&node, &told, group, &queue, &counts))?;
        Ok(ReceiverInbox { receiver, inbox })
    }

    pub fn on(&self, happening: &Happening) {
        for told in self.receivers.iter().filter(|t| t.receiver.wants(&happening.kind)) {
            // A full queue has thousands that say the same.
            let _ = told.inbox.try_send(happening.clone());
        }
    }

    /// Messages that were sent, and that were given up.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.sent.load(Relaxed), self.counts.failed.load(Relaxed))
    }
}

/// Sends a test message to every receiver, and tells what became of it. Blocks.
pub fn test(node: &str, settings: &AlertSettings) -> Vec<(String, Result<String, String>)> {
    let happening = Happening {
        time_ms: now_ms(),
        kind: "test".into(),
        level: "info".into(),
        subject: node.into(),
        text: format!("this is a test of the alerts of {node}"),
    };
    let mut group = Group::new(node, 0, 0);
    group.on(happening, 0);
    let Some(message) = group.take(0) else { return Vec::new() };
    let each = settings.receivers.iter();
    each.map(|r| (r.name(), deliver::deliver(&r.how, node, &message))).collect()
}

fn serve(node: &str, receiver: &Receiver, mut group: Group, queue: &Inbox<Happening>, counts: &Counts) {
    let start = Instant::now();
    let now = || start.elapsed().as_millis() as u64;
    loop {
        let wait = group
            .due_ms()
            .map_or(Duration::from_secs(3600), |due| Duration::from_millis(due.saturating_sub(now())));
        let ended = match queue.recv_timeout(wait) {
            Ok(happening) => {
                group.on(happening, now());
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        // The last words are said at once.
        let message = group.take(if ended { u64::MAX } else { now() });
        if let Some(message) = message {
            send(node, receiver, &message, counts, ended);
        }
        if ended {
            return;
        }
    }
}

fn send(node: &str, receiver: &Receiver, message: &Message, counts: &Counts, ended: bool) {
    let pauses: &[Duration] = if ended { &[] } else { &AGAIN };
    let mut pauses = pauses.iter();
    loop {
        match deliver::deliver(&receiver.how, node, message) {
            Ok(_) => {
                counts.sent.fetch_add(1, Relaxed);
                info!(receiver = receiver.name(), title = message.title, "alert sent");
                return;
            }
            Err(why) => match pauses.next() {
                Some(pause) => {
                    warn!(receiver = receiver.name(), why, "an alert was not taken; it is tried again");
                    std::thread::sleep(*pause);
                }
                None => {
                    counts.failed.fetch_add(1, Relaxed);
                    warn!(receiver = receiver.name(), why, title = message.title, "an alert is given up");
                    return;
                }
            },
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
