//! One machine of a pair: the daemon, the guard of its addresses, the thread that asks the kernel for them again, and
//! the kernel, which forgets what nobody asks for. Each of them dies or stands still, by seed; the peer hears what it is
//! told.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them. What the processes do
//! with the rules' answers is what the daemon does (`control/pair`: `guard.rs`, `network_watcher.rs`, `thread.rs`).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::chance::Chance;
use super::guard::{GuardOrders, GuardPipe, GuardedAddress};
use super::lease::{Holding, LIFE_MS, Renewal};
use super::world::Broken;

type Millis = u64;

const STEP: Millis = 5;
const END: Millis = 40_000;
const BEAT: Millis = 25;
const DEAD: Millis = 150;
/// The guard's patience with a silent daemon.
const SILENCE: Millis = 250;
/// The thread that asks the kernel looks so often.
const LOOK: Millis = 1_000;
/// Between two starts of a guard.
const START_AGAIN: Millis = 1_000;
/// Less than the kernel's, so that it is full soon.
const PIPE: usize = 8 << 10;
/// A removal that is under way.
const AT_ONCE: Millis = 40;
/// A guard that stands still is replaced by then: the pipe fills, half a second passes.
const REPLACED: Millis = 2_500;
const PLACE: GuardedAddress = (2, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Take,
    Give,
    Kill,
    Freeze(Millis),
    StopGuard(Millis),
    KillGuard,
    StopWatcher(Millis),
    /// The next process of the daemon.
    Replace,
}

struct GuardProcess {
    orders: GuardOrders,
    pipe: VecDeque<u8>,
    stopped_until: Millis,
    stood_still_since: Option<Millis>,
    read_at: Millis,
    started_at: Millis,
}

/// What the thread that asks the kernel does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Rests,
    Asks,
    LooksAgain,
}

struct Machine {
    chance: Chance,
    now: Millis,
    // The daemon.
    runs: bool,
    frozen_until: Millis,
    froze_at: Millis,
    died_at: Option<Millis>,
    active: bool,
    changed_at: Millis,
    said: GuardPipe,
    beat_at: Millis,
    // Its helpers.
    guard: Option<GuardProcess>,
    guard_at: Millis,
    /// Since when one ran that has ended with the daemon.
    guard_ended: Option<Millis>,
    holding: Holding,
    renewal: Renewal,
    asking: Asking,
    asked_at: Millis,
    look_at: Millis,
    watcher_stopped_until: Millis,
    /// It may have missed a renewal that is not yet made up for.
    watcher_late_until: Millis,
    // The kernel, and the other node.
    ends_at: Option<Millis>,
    told: bool,
    trace: Option<Vec<String>>,
}

/// Seeds that broke a rule once: the next process was not to place what the kernel had forgotten (this world's mistake).
pub const FOUND: [u64; 1] = [375_984];

pub fn broken(seed: u64) -> Option<String> {
    play(seed, false).err().map(|b| format!("machine, {} ms: {}", b.at, b.what))
}

pub fn play(seed: u64, traced: bool) -> Result<(), Broken> {
    let mut machine = Machine::new(seed);
    machine.trace = traced.then(Vec::new);
    let result = machine.run();
    machine.trace.iter().flatten().for_each(|line| println!("{line}"));
    result.map_err(|what| Broken { seed, at: machine.now, what })
}

fn plan(chance: &mut Chance) -> Vec<(Millis, Fault)> {
    let mut all = vec![(200, Fault::Take)];
    for _ in 0..3 + chance.below(8) {
        let when = 500 + chance.below(END - 16_000);
        all.push(match chance.below(8) {
            0 => (when, Fault::Give),
            1 | 2 => (when, Fault::StopGuard(20 + chance.below(3_000))),
            3 => (when, Fault::StopGuard(20_000)),
            4 => (when, Fault::KillGuard),
            5 => (when, Fault::StopWatcher(100 + chance.below(11_000))),
            6 => (when, Fault::Replace),
            _ => (when, Fault::Freeze(10 + chance.below(700))),
        });
        if chance.percent(60) {
            all.push((when + 10 + chance.below(4_000), Fault::Take));
        }
    }
    let end = 2_000 + chance.below(END - 14_000);
    all.push((end, if chance.percent(70) { Fault::Kill } else { Fault::Freeze(END) }));
    all.sort_by_key(|(when, _)| *when);
    all
}

impl Machine {
    fn new(seed: u64) -> Machine {
        let mut machine = Machine {
            chance: Chance::new(seed ^ 0x006d_6163_6869),
            now: 0,
            runs: true,
            frozen_until: 0,
            froze_at: 0,
            died_at: None,
            active: false,
            changed_at: 0,
            said: GuardPipe::default(),
            beat_at: 0,
            guard: None,
            guard_at: 0,
            guard_ended: None,
            holding: Holding::None,
            renewal: Renewal::new(0),
            asking: Asking::Rests,
            asked_at: 0,
            look_at: 0,
            watcher_stopped_until: 0,
            watcher_late_until: 0,
            ends_at: None,
            told: false,
            trace: None,
        };
        machine.start_guard();
        machine
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6}  {}", self.now, line()));
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let plan = plan(&mut self.chance);
        let mut next = plan.into_iter().peekable();
        while self.now < END {
            self.now += STEP;
            while let Some((_, fault)) = next.next_if(|(when, _)| *when <= self.now) {
                self.fault(fault);
            }
            if self.ends_at.is_some_and(|at| self.now >= at) {
                self.ends_at = None;
                self.note(|| "the kernel has forgotten the address".into());
            }
            // Who is first of those that run?
            match self.chance.percent(50) {
                true => (self.daemon(), self.guards()?),
                false => (self.guards()?, self.daemon()),
            };
            self.check()?;
        }
        Ok(())
    }

    fn is_frozen(&self) -> bool {
        self.now < self.frozen_until
    }

    fn fault(&mut self, fault: Fault) {
        self.note(|| format!("{fault:?}"));
        let able = self.runs && !self.is_frozen();
        match fault {
            Fault::Take if able && !self.active => self.take(),
            Fault::Give if able && self.active => self.give(),
            Fault::Kill if self.runs => {
                self.runs = false;
                self.died_at = Some(self.now);
            }
            Fault::Freeze(lasts) if able => {
                // One that stands still again before it has looked at its clock counts from the first time.
                if self.froze_at == 0 {
                    self.froze_at = self.now;
                }
                self.frozen_until = self.now + lasts;
            }
            Fault::StopGuard(lasts) => {
                if let Some(guard) = &mut self.guard {
                    guard.stopped_until = guard.stopped_until.max(self.now + lasts);
                }
            }
            // The daemon reads of it at its next word.
            Fault::KillGuard => self.guard = None,
            Fault::StopWatcher(lasts) => {
                self.watcher_stopped_until = self.now + lasts;
                self.watcher_late_until = self.now + lasts + LIFE_MS;
            }
            Fault::Replace if able && self.active => self.replace(),
            Fault::Take | Fault::Give | Fault::Kill | Fault::Freeze(_) | Fault::Replace => {}
        }
    }

    // The daemon

    fn lend(&mut self) {
        self.ends_at = Some(self.now + LIFE_MS);
    }

    fn take(&mut self) {
        (self.active, self.changed_at) = (true, self.now);
        self.place();
    }

    fn place(&mut self) {
        self.said.drop_all();
        self.said.hold(PLACE);
        // The guard knows of it first.
        self.flush();
        self.lend();
        self.holding = Holding::Held;
    }

    fn give(&mut self) {
        (self.active, self.changed_at) = (false, self.now);
        self.holding = Holding::Given;
        self.ends_at = None;
        self.said.drop_all();
        self.flush();
    }

    fn start_guard(&mut self) {
        self.said = GuardPipe::default();
        self.guard = Some(GuardProcess {
            orders: GuardOrders::default(),
            pipe: VecDeque::new(),
            stopped_until: 0,
            stood_still_since: None,
            read_at: self.now,
            started_at: self.now,
        });
        self.guard_at = self.now;
    }

    /// The addresses stay: another process has them. A guard that does not end by itself is killed.
    fn replace(&mut self) {
        let was_there = self.ends_at.is_some();
        self.holding = Holding::Left;
        self.said.drop_all();
        self.flush();
        let stuck = !self.said.is_empty();
        if let Some(mut guard) = self.guard.take()
            && !stuck
            && self.now >= guard.stopped_until
        {
            let bytes: Vec<u8> = guard.pipe.drain(..).collect();
            guard.orders.read(&bytes);
            self.end_guard(&mut guard.orders);
        }
        self.start_guard();
        (self.asking, self.renewal) = (Asking::Rests, Renewal::new(self.now));
        (self.watcher_stopped_until, self.watcher_late_until) = (0, 0);
        let stays = self.ends_at.is_some();
        self.note(|| format!("replaced; the address is there: {stays}"));
        // The next process places them anew when it begins, should the kernel have forgotten them. Here a guard that ends
        // last would take them away from it.
        if stays || !was_there {
            self.changed_at = self.now;
            self.place();
        }
    }

    fn flush(&mut self) {
        let Some(guard) = &mut self.guard else { return };
        while !self.said.is_empty() {
            let room = PIPE - guard.pipe.len();
            let bytes: Vec<u8> = self.said.pending().iter().take(room).copied().collect();
            if bytes.is_empty() {
                if self.said.is_stuck(self.now) {
                    self.guard = None;
                    self.note(|| "the guard is stuck, and given up".into());
                }
                return;
            }
            guard.pipe.extend(&bytes);
            self.said.taken(bytes.len());
        }
    }

    fn daemon(&mut self) {
        if !self.runs || self.is_frozen() {
            return;
        }
        // It did not run: its peer has taken over.
        if self.froze_at > 0 {
            let stood_still = self.now - std::mem::take(&mut self.froze_at);
            if stood_still >= DEAD && self.active {
                self.give();
            }
        }
        if self.now >= self.beat_at + BEAT {
            self.beat_at = self.now;
            let message = "5a".repeat(164);
            let end = SocketAddr::from(([192, 0, 2, 3], 9694));
            if self.active {
                self.said.set_last_words(Some(([192, 0, 2, 2].into(), end, &message)));
            } else if self.said.has_last_words() {
                self.said.set_last_words(None);
            }
            self.said.beat();
        }
        self.flush();
        if self.guard.is_none() && self.now >= self.guard_at + START_AGAIN {
            self.start_guard();
            if self.active {
                self.place();
            }
        }
        if self.now >= self.watcher_stopped_until {
            self.watcher();
        }
    }

    /// Asks the kernel again, and looks what it has; other things happen in between.
    fn watcher(&mut self) {
        match self.asking {
            Asking::Rests if self.now < self.look_at => {}
            Asking::Rests => {
                self.look_at = self.now + LOOK;
                let is_due = self.renewal.is_due(self.now);
                if is_due && self.holding.is_renewed() {
                    (self.asking, self.asked_at) = (Asking::Asks, self.now);
                } else {
                    self.see();
                }
            }
            Asking::Asks => {
                self.lend();
                self.asking = Asking::LooksAgain;
            }
            Asking::LooksAgain => {
                if self.holding.is_taken_back() {
                    self.ends_at = None;
                }
                self.asking = Asking::Rests;
                self.see();
            }
        }
    }

    fn see(&mut self) {
        if self.active && self.ends_at.is_none() {
            self.note(|| "placed again".into());
            self.place();
        }
    }

    // The guard

    fn guards(&mut self) -> Result<(), String> {
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        if self.now < guard.stopped_until {
            guard.stood_still_since.get_or_insert(self.now);
            self.guard = Some(guard);
            return Ok(());
        }
        guard.stood_still_since = None;
        let size = match self.chance.percent(30) {
            true => 1 + self.chance.below(40) as usize,
            false => 4096,
        };
        let bytes: Vec<u8> = guard.pipe.drain(..size.min(guard.pipe.len())).collect();
        if !bytes.is_empty() {
            guard.read_at = self.now;
            guard.orders.read(&bytes);
        } else if !self.runs {
            // What it said before it died was read before.
            self.guard_ended = Some(guard.started_at.max(guard.stopped_until));
            self.end_guard(&mut guard.orders);
            return Ok(());
        } else if guard.orders.is_waiting() && self.now >= guard.read_at + SILENCE {
            let gone = guard.orders.on_silence();
            self.note(|| format!("the guard has heard nothing for too long: {gone:?}"));
            if gone.contains(&PLACE) {
                self.ends_at = None;
            }
            // It may have come back to life just now, and knows by itself that it stood still.
            if !self.is_frozen() && self.froze_at == 0 {
                return Err("a guard took the address from a daemon that runs".into());
            }
        }
        self.guard = Some(guard);
        Ok(())
    }

    fn end_guard(&mut self, orders: &mut GuardOrders) {
        let (gone, words) = orders.on_end();
        if gone.contains(&PLACE) {
            self.ends_at = None;
        }
        self.told |= words.is_some();
        let told = self.told;
        self.note(|| format!("the guard ends: {gone:?}, the peer is told: {told}"));
    }

    // What must hold

    fn check(&self) -> Result<(), String> {
        let there = self.ends_at.is_some();
        let guard = self.guard.as_ref();
        let still = guard.and_then(|g| g.stood_still_since).map_or(0, |since| self.now - since);
        if self.told && self.runs {
            return Err("the peer was told of a death that is none".into());
        }
        let since = self.now - self.changed_at;
        if self.runs && !self.is_frozen() {
            // One that was given up while it was being asked for is taken back with the next step of that thread.
            let is_looked_at = self.asking == Asking::LooksAgain && self.changed_at >= self.asked_at;
            if !self.active && there && since > AT_ONCE && !is_looked_at {
                return Err("an address that was given up is there".into());
            }
            let late = self.now < self.watcher_late_until;
            if self.active && self.froze_at == 0 && !there && since > AT_ONCE && !late {
                return Err("the active node has lost its address".into());
            }
            if self.active && since > REPLACED && still > REPLACED {
                return Err(format!("a guard that has stood still for {still} ms is trusted"));
            }
            return Ok(());
        }
        let gone_since = self.died_at.unwrap_or(self.froze_at);
        let lasts = self.now - gone_since;
        if there && lasts > LIFE_MS + STEP {
            return Err(format!("nobody has taken the address away for {lasts} ms"));
        }
        self.check_guarded(lasts, there)
    }

    /// A daemon that has died or stands still is noticed by a guard that knew of the address, and ran.
    fn check_guarded(&self, lasts: Millis, there: bool) -> Result<(), String> {
        let gone_since = self.now - lasts;
        // Since then nothing else was wrong.
        let calm = self.was_calm(gone_since);
        if !calm || !self.active {
            return Ok(());
        }
        let allowed = if self.runs { SILENCE + AT_ONCE } else { AT_ONCE };
        if there && lasts > allowed + STEP {
            return Err(format!("the guard has left the address for {lasts} ms"));
        }
        let was_frozen = self.froze_at > 0;
        if !self.runs && !was_frozen && lasts > allowed + STEP && !self.told {
            return Err("the peer was not told of the death".into());
        }
        Ok(())
    }

    /// A guard has been there for long, reads what it is told, and the watcher has started it if need be.
    fn was_calm(&self, gone_since: Millis) -> bool {
        let long = 6 * BEAT;
        let guard = self.guard.as_ref().filter(|guard| guard.pipe.len() < PIPE / 8);
        let runs_since = guard.map(|guard| guard.stopped_until.max(guard.started_at)).or(self.guard_ended);
        let guarded = runs_since.is_some_and(|since| since + long < gone_since);
        guarded && self.changed_at + long < gone_since
    }
}
