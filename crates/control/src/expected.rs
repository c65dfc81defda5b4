//! Commits with names and lists that nobody knows yet: they are looked up first, for a bounded time, so that
//! the servers are there when the configuration is.

use std::time::{Duration, Instant};

use evenkeel_admin::Reply;
use evenkeel_api as api;
use evenkeel_model::Snapshot;

use super::control::Control;

/// How long a commit waits for first answers; then each server begins as its `init` says.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);
/// How long what a commit has asked for is looked up on, until both nodes run it.
const LINGER: Duration = Duration::from_secs(30);
/// Commits that wait; more go on at once.
const AT_MOST: usize = 16;

/// A commit that waits, or has just gone on.
pub struct Expected {
    waiting: Option<Waiting>,
    pub snapshot: Snapshot,
    until: Instant,
}

struct Waiting {
    text: String,
    options: api::CommitOptions,
    reply: Reply<api::Committed>,
}

impl Control {
    /// Commits when what is new in the text is known, or after a while.
    pub(super) fn commit_when_known(
        &mut self,
        text: String,
        options: api::CommitOptions,
        reply: Reply<api::Committed>,
    ) {
        let few = self.discovery.expected.len() < AT_MOST;
        let new = self.read(&text).ok().filter(|new| few && !self.is_known(new));
        let Some(snapshot) = new else { return self.commit_on_both(text, options, reply) };
        let waiting = Some(Waiting { text, options, reply });
        self.discovery.expected.push(Expected { waiting, snapshot, until: Instant::now() + FIRST_ANSWERS });
        self.follow_discovery();
    }

    fn is_known(&self, new: &Snapshot) -> bool {
        let running = self.discovery.settle(new, &self.snapshot, &self.overrides);
        !self.discovery.is_missing(new, &running)
    }

    /// Goes on with commits whose names are known, or that have waited for long enough; in their order.
    pub fn go_on_with_commits(&mut self) {
        if self.discovery.expected.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(at) = self.discovery.expected.iter().position(|e| e.waiting.is_some()) {
            let first = &self.discovery.expected[at];
            if now < first.until && !self.is_known(&first.snapshot) {
                break;
            }
            let first = &mut self.discovery.expected[at];
            first.until = now + LINGER;
            if let Some(Waiting { text, options, reply }) = first.waiting.take() {
                self.commit_on_both(text, options, reply);
            }
        }
        self.discovery.expected.retain(|e| e.waiting.is_some() || now < e.until);
        // What an answer leads to is looked up next, such as the targets of a service.
        self.follow_discovery();
    }
}
