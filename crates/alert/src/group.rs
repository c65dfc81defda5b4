//! What is told when: things that happen together make one message, and messages keep a distance.
//! Time is passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    pub time_ms: u64,
    /// `server-down`, `role`, …: the words of `kinds` in the configuration.
    pub kind: String,
    /// `good`, `info`, `warning` or `bad`.
    pub level: String,
    /// What it happened to, such as `web/web1`.
    pub subject: String,
    pub text: String,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub title: String,
    pub text: String,
    pub happenings: Vec<Happening>,
}

/// What waits for one receiver.
#[derive(Clone, Debug)]
pub struct Group {
    node: String,
    gather_ms: u64,
    quiet_ms: u64,
    waiting: Vec<Happening>,
    first_ms: u64,
    sent_ms: Option<u64>,
    /// More than fit.
    lost: usize,
}

/// A message lists no more than this; the rest is counted.
const LISTED: usize = 200;
const WAITING_AT_MOST: usize = 10_000;

fn is_urgent(kind: &str) -> bool {
    matches!(kind, "role" | "split-brain" | "service-down" | "service-on-backups" | "test")
}

impl Group {
    pub fn new(node: &str, gather_ms: u64, quiet_ms: u64) -> Group {
        let node = node.to_owned();
        Group { node, gather_ms, quiet_ms, waiting: Vec::new(), first_ms: 0, sent_ms: None, lost: 0 }
    }

    pub fn on(&mut self, happening: Happening, now_ms: u64) {
        if self.waiting.is_empty() {
            self.first_ms = now_ms;
        }
        match self.waiting.len() < WAITING_AT_MOST {
            true => self.waiting.push(happening),
            false => self.lost += 1,
        }
    }

    /// When the next message is due.
    pub fn due_ms(&self) -> Option<u64> {
        let gathered = (!self.waiting.is_empty()).then_some(self.first_ms + self.gather_ms)?;
        let urgent = self.waiting.iter().any(|h| is_urgent(&h.kind));
        let quiet = self.sent_ms.map_or(0, |sent| sent + self.quiet_ms);
        Some(if urgent { gathered } else { gathered.max(quiet) })
    }

    /// The message, if it is due.
    pub fn take(&mut self, now_ms: u64) -> Option<Message> {
        if self.due_ms().is_none_or(|due| due > now_ms) {
            return None;
        }
        self.sent_ms = Some(now_ms);
        let happenings = std::mem::take(&mut self.waiting);
        Some(message(&self.node, happenings, std::mem::take(&mut self.lost)))
    }
}

/// One message out of many happenings: the title counts, the text lists each subject once.
fn message(node: &str, happenings: Vec<Happening>, lost: usize) -> Message {
    let mut last: BTreeMap<(&str, &str), (usize, &Happening)> = BTreeMap::new();
    for happening in &happenings {
        // Up and down of a server are one story.
        let story = match happening.kind.as_str() {
            "server-up" | "server-down" => "server",
            "service-up" | "service-down" | "service-on-backups" => "service",
            other => other,
        };
        let entry = last.entry((story, &happening.subject)).or_insert((0, happening));
        *entry = (entry.0 + 1, happening);
    }
    let mut stories: Vec<(usize, &Happening)> = last.into_values().collect();
    stories.sort_by_key(|(_, h)| (rank(&h.level), h.time_ms));
    let title = match stories.as_slice() {
        [(1, only)] => format!("[{node}] {}", only.text),
        _ => format!("[{node}] {}", counted(&stories)),
    };
    let mut text = String::new();
    for (times, happening) in stories.iter().take(LISTED) {
        let often = if *times > 1 { format!(" ({times} changes)") } else { String::new() };
        text.push_str(&format!("{}  {}{often}\n", time(happening.time_ms), happening.text));
    }
    let more = stories.len().saturating_sub(LISTED) + lost;
    if more > 0 {
        text.push_str(&format!("… and {more} more\n"));
    }
    Message { title: title.chars().filter(|c| !c.is_control()).take(200).collect(), text, happenings }
}

fn rank(level: &str) -> u8 {
    match level {
        "bad" => 0,
        "warning" => 1,
        "good" => 2,
        _ => 3,
    }
}

fn counted(stories: &[(usize, &Happening)]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for (_, happening) in stories {
        match kinds.iter_mut().find(|(kind, _)| *kind == happening.kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((&happening.kind, 1)),
        }
    }
    let words = |kind: &str, count: usize| {
        let many = if count == 1 { "" } else { "s" };
        match kind {
            "server-down" => format!("{count} real server{many} down"),
            "server-up" => format!("{count} real server{many} up"),
            "service-down" => format!("{count} service{many} down"),
            "service-up" => format!("{count} service{many} up"),
            "service-on-backups" => format!("{count} service{many} on backup servers alone"),
            "flapping" => format!("{count} real server{many} flapping"),
            "certificate" => format!("{count} certificate{many} ending"),
            "configuration" => format!("{count} configuration change{many}"),
            "role" => format!("{count} change{many} of role"),
            "admin-state" => format!("{count} change{many} by hand or maintenance"),
            "split-brain" => format!("{count} split brain{many}"),
            "node" => format!("{count} message{many} of a node"),
            "storage" => format!("{count} message{many} of the state directory"),
            "discovery" => format!("{count} message{many} of the discovery of servers"),
            "snmp" => format!("{count} message{many} of SNMP"),
            "servers" => format!("{count} message{many} of real servers"),
            "machine" => format!("{count} message{many} of the machine"),
            "addresses" => format!("{count} message{many} of addresses"),
            "test" => format!("{count} test{many}"),
            other => format!("{count} of {other}"),
        }
    };
    kinds.into_iter().map(|(kind, count)| words(kind, count)).collect::<Vec<_>>().join(", ")
}

pub fn time(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |t| t.strftime("%F %T UTC").to_string())
}

/// Changes of state in so long make a server one that flaps.
const FLAP_CHANGES: usize = 6;
const FLAP_WINDOW_MS: u64 = 600_000;
/// Without a change for so long it no longer does.
const STEADY_MS: u64 = 300_000;

/// Finds real servers that go up and down again and again: told once, then silent until steady.
#[derive(Debug, Default)]
pub struct Flaps {
    changes: HashMap<String, VecDeque<u64>>,
    flapping: HashMap<String, u64>,
}

/// What becomes of a change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Tell,
    /// It has begun to flap: tell that instead.
    Flapping,
    /// It was told that it flaps.
    Silent,
}

impl Flaps {
    pub fn on_change(&mut self, subject: &str, now_ms: u64) -> Verdict {
        if let Some(last) = self.flapping.get_mut(subject) {
            if now_ms.saturating_sub(*last) < STEADY_MS {
                *last = now_ms;
                return Verdict::Silent;
            }
            self.flapping.remove(subject);
            self.changes.remove(subject);
        }
        self.changes
            .retain(|_, all| all.back().is_some_and(|at| now_ms.saturating_sub(*at) < FLAP_WINDOW_MS));
        let changes = self.changes.entry(subject.to_owned()).or_default();
        changes.push_back(now_ms);
        while changes.front().is_some_and(|at| now_ms.saturating_sub(*at) >= FLAP_WINDOW_MS) {
            changes.pop_front();
        }
        if changes.len() < FLAP_CHANGES {
            return Verdict::Tell;
        }
        self.flapping.insert(subject.to_owned(), now_ms);
        Verdict::Flapping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(kind: &str, subject: &str, time_ms: u64) -> Happening {
        let level = if kind.ends_with("down") { "bad" } else { "good" };
        let text = format!("{subject} is {kind}");
        Happening { time_ms, kind: kind.into(), level: level.into(), subject: subject.into(), text }
    }

    #[test]
    fn forty_servers_behind_one_switch_are_one_message() {
        let mut group = Group::new("lb1", 10_000, 300_000);
        for server in 0..40 {
            group.on(happening("server-down", &format!("web/web{server}"), 1_000 + server), 1_000 + server);
        }
        assert_eq!((group.take(10_999), group.due_ms()), (None, Some(11_000)));
        let message = group.take(11_000).unwrap();
        assert_eq!(message.title, "[lb1] 40 real servers down");
        assert_eq!((message.text.lines().count(), message.happenings.len()), (40, 40));
        // Kinds are told in words.
        let changed = [(0, &happening("admin-state", "a", 1)), (1, &happening("admin-state", "b", 1))];
        assert_eq!(counted(&changed), "2 changes by hand or maintenance");
        assert_eq!((group.take(20_000), group.due_ms()), (None, None));
        // They come back: that waits for the quiet time, and what flapped in it is one line.
        for change in 0..5 {
            let kind = if change % 2 == 0 { "server-up" } else { "server-down" };
            group.on(happening(kind, "web/web1", 30_000 + change), 30_000 + change);
        }
        assert_eq!(group.due_ms(), Some(311_000));
        let message = group.take(311_000).unwrap();
        assert_eq!(message.text.lines().count(), 1);
        assert!(message.text.contains("web/web1 is server-up (5 changes)"), "{}", message.text);
    }

    #[test]
    fn what_is_urgent_does_not_wait() {
        let mut group = Group::new("lb1", 10_000, 300_000);
        group.on(happening("server-down", "a/b", 0), 0);
        assert_eq!(group.take(10_000).unwrap().title, "[lb1] a/b is server-down");
        group.on(happening("server-down", "a/c", 20_000), 20_000);
        group.on(happening("service-down", "a", 21_000), 21_000);
        assert_eq!(group.take(30_000).unwrap().title, "[lb1] 1 real server down, 1 service down");
        for at in 0..20_000 {
            group.on(happening("server-down", &format!("x/{at}\u{7}"), at), 40_000);
        }
        let message = group.take(u64::MAX).unwrap();
        assert!(message.happenings.len() == WAITING_AT_MOST && message.text.contains("… and 19800 more"));
    }

    #[test]
    fn only_backups_left_is_urgent() {
        let mut group = Group::new("lb1", 10_000, 300_000);
        group.on(happening("server-down", "a/b", 0), 0);
        assert!(group.take(10_000).is_some());
        group.on(happening("service-on-backups", "a", 20_000), 20_000);
        assert_eq!(group.take(30_000).unwrap().title, "[lb1] a is service-on-backups");
    }

    #[test]
    fn who_flaps_is_told_once() {
        let mut flaps = Flaps::default();
        let said: Vec<Verdict> = (0..9).map(|at| flaps.on_change("a/b", at * 20_000)).collect();
        assert_eq!(said.iter().filter(|v| **v == Verdict::Tell).count(), 5);
        assert_eq!((said[5], said[6], said[8]), (Verdict::Flapping, Verdict::Silent, Verdict::Silent));
        assert_eq!(flaps.on_change("a/c", 180_000), Verdict::Tell);
        assert_eq!(flaps.on_change("a/b", 160_000 + STEADY_MS), Verdict::Tell, "it was steady");
        let rare: Vec<Verdict> = (0..9).map(|at| flaps.on_change("rare", at * 200_000)).collect();
        assert!(rare.iter().all(|v| *v == Verdict::Tell), "{rare:?}");
    }
}
