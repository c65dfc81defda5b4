//! Whether the pair's thread has stood still, for how long, and what the kernel knows of the reason: a node that
//! loses its role for that is to say so, since its peer knows of nothing but silence.

use std::time::{Duration, Instant};

use evenkeel_api as api;
use tracing::warn;

/// What the kernel has counted is read so often; what it counts in a stall is set against the last reading.
const READ_EVERY: Duration = Duration::from_secs(1);
/// A change of role so long after a stall is still its consequence.
const CONSEQUENCE: Duration = Duration::from_secs(3);
/// Less is the grain of timers.
const SHORTEST: Duration = Duration::from_millis(20);

/// The thread stood still.
#[derive(Clone, Debug)]
pub struct Stall {
    /// When it ended.
    pub at: Instant,
    pub lasted: Duration,
    pub cause: String,
}

impl Stall {
    pub fn in_words(&self) -> String {
        format!("this node stood still for {} ({})", seconds(self.lasted.as_millis() as u64), self.cause)
    }

    pub fn described(&self) -> api::StoodStill {
        let ms = |time: Duration| time.as_millis() as u64;
        api::StoodStill {
            lasted_ms: ms(self.lasted),
            ended_ms_ago: ms(self.at.elapsed()),
            cause: self.cause.clone(),
        }
    }
}

pub fn seconds(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1_000.0) }
}

/// What the kernel has counted of the time that this thread did not get.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    /// It wanted to run, and others did.
    queued: Duration,
    /// The hypervisor ran something else, summed up over the cores.
    stolen: Duration,
}

impl Lost {
    fn read() -> Lost {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let queued = text("/proc/thread-self/schedstat");
        let queued = queued.split_whitespace().nth(1).and_then(|ns| ns.parse().ok()).unwrap_or_default();
        // Hundredths of a second, whatever the kernel's own clock is.
        let stolen = text("/proc/stat");
        let stolen = stolen.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse().ok());
        Lost {
            queued: Duration::from_nanos(queued),
            stolen: Duration::from_millis(10 * stolen.unwrap_or(0u64)),
        }
    }
}

/// Why a thread stood still for so long, of which it was held up in one of its tasks.
fn cause(stall: Duration, queued: Duration, stolen: Duration, held_up: Option<(&str, Duration)>) -> String {
    let most = |part: Duration| part >= stall / 2;
    match held_up {
        _ if most(stolen) => "the hypervisor gave the machine no time: steal".into(),
        _ if most(queued) => "other programs had the machine's cores".into(),
        Some((stage, took)) if most(took) => format!("it was held up in {stage}"),
        _ => "the process, or the whole machine, was stopped".into(),
    }
}

/// Notices stalls of the thread that owns it.
pub struct StallWatch {
    woke_at: Instant,
    /// How long the thread wanted to wait at most, now and the time before.
    asked: Duration,
    lost: Lost,
    read_at: Instant,
    held_up: Option<(&'static str, Duration)>,
    pub last: Option<Stall>,
}

impl StallWatch {
    pub fn start() -> StallWatch {
        let now = Instant::now();
        StallWatch {
            woke_at: now,
            asked: Duration::ZERO,
            lost: Lost::read(),
            read_at: now,
            held_up: None,
            last: None,
        }
    }

    /// The thread has waited, for `asked` at most. A stall of at least `long` is told.
    pub fn woke(&mut self, asked: Duration, long: Duration) -> Option<&Stall> {
        let (now, before) = (Instant::now(), std::mem::replace(&mut self.asked, asked));
        // What came between two waits is a stall as well.
        let lasted = (now - self.woke_at).saturating_sub(asked.max(before));
        self.woke_at = now;
        let held_up = self.held_up.take();
        let stalled = lasted >= long.max(SHORTEST);
        if !stalled && now < self.read_at + READ_EVERY {
            return None;
        }
        let lost = Lost::read();
        let was = std::mem::replace(&mut self.lost, lost);
        self.read_at = now;
        if !stalled {
            return None;
        }
        let queued = lost.queued.saturating_sub(was.queued);
        let stolen = lost.stolen.saturating_sub(was.stolen);
        let cause = cause(lasted, queued, stolen, held_up);
        Some(self.last.insert(Stall { at: now, lasted, cause }))
    }

    /// One of the thread's tasks took so long.
    pub fn held_up(&mut self, stage: &'static str, took: Duration) {
        if self.held_up.is_none_or(|(_, longest)| took > longest) {
            self.held_up = Some((stage, took));
        }
    }

    /// The stall that a change of role now would follow from.
    pub fn recent(&self) -> Option<&Stall> {
        self.last.as_ref().filter(|stall| stall.at.elapsed() < CONSEQUENCE)
    }
}

/// Tells what has held the thread up: people will ask why it lost its role.
pub struct Stages(Instant);

impl Stages {
    /// A probe for conflicts takes 60 ms; a peer takes over after 150 by default.
    const SLOW: Duration = Duration::from_millis(100);

    pub fn start() -> Stages {
        Stages(Instant::now())
    }

    pub fn done(&mut self, stage: &'static str, stalls: &mut StallWatch) {
        let now = Instant::now();
        let took = now - self.0;
        if took >= Stages::SLOW {
            warn!(stage, ms = took.as_millis() as u64, "the pair's thread was held up");
        }
        if took >= SHORTEST && stage != "waiting" {
            stalls.held_up(stage, took);
        }
        self.0 = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_took_most_of_the_time() {
        let ms = Duration::from_millis;
        let check = |queued, stolen, held_up, expect: &str| {
            let told = cause(ms(1_000), ms(queued), ms(stolen), held_up);
            assert!(told.contains(expect), "{queued} {stolen} {held_up:?}: {told}");
        };
        check(0, 0, None, "was stopped");
        check(900, 0, None, "other programs");
        check(900, 700, None, "steal");
        check(100, 100, Some(("sending", ms(100))), "was stopped");
        check(100, 0, Some(("sending", ms(900))), "sending");
        check(600, 0, Some(("sending", ms(900))), "other programs");
    }

    #[test]
    fn a_stall_is_noticed_and_lateness_within_a_wait_is_not() {
        let mut watch = StallWatch::start();
        let long = Duration::from_millis(40);
        std::thread::sleep(Duration::from_millis(30));
        assert!(watch.woke(Duration::from_secs(60), long).is_none());
        std::thread::sleep(Duration::from_millis(60));
        // It was ready to wait for as long the time before.
        assert!(watch.woke(Duration::ZERO, long).is_none());
        std::thread::sleep(Duration::from_millis(60));
        let stall = watch.woke(Duration::ZERO, long).expect("nobody asked for that");
        assert!(stall.lasted >= Duration::from_millis(60), "{stall:?}");
        assert!(watch.recent().is_some());
    }
}
