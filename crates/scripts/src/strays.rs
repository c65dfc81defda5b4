//! Ends what a script has left behind: programs that have left its group of processes (`setsid`) and
//! whose parent has ended.
//!
//! Such a program becomes a child of this process, which is a "subreaper" (prctl(2)). Which script it is
//! of, a mark tells that children inherit and only root could take away: the hard limit of file locks,
//! which kernels since 2.4 store and do not use. In: a mark for each script while it runs. Never: ends
//! children of this process that no script has left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getpid, getuid, kill_process, prlimit, set_child_subreaper,
    waitpid,
};
use tokio::process::{Child, Command};

/// Marks of other limits that somebody may have set are below it.
const MARKS_FROM: u64 = 1 << 40;
/// Rounds without a pause while there are some: a program may fork and end faster than any pause.
const EAGER_ROUNDS: u32 = 200;
/// After a script's end its children end one by one, and theirs come here only then: the next look is
/// after this, and each one after twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(2_560);

static SCRIPTS: Mutex<Scripts> = Mutex::new(Scripts::NONE);
static ENDED: Condvar = Condvar::new();

struct Scripts {
    /// Of those that run now, or are being started.
    marks: BTreeSet<u64>,
    /// Their own processes, until they have gone: whoever started them waits for them.
    children: BTreeSet<i32>,
    /// Of `children`, those whose script is over.
    leaving: BTreeSet<i32>,
    /// Processes that were left before their script could be marked, each with the scripts that it can be of.
    unmarked: BTreeMap<i32, BTreeSet<u64>>,
    last_mark: u64,
    /// Whatever this process gets is of a script: it starts nothing else.
    is_runner: bool,
    has_thread: bool,
}

impl Scripts {
    const NONE: Scripts = Scripts {
        marks: BTreeSet::new(),
        children: BTreeSet::new(),
        leaving: BTreeSet::new(),
        unmarked: BTreeMap::new(),
        last_mark: MARKS_FROM,
        is_runner: false,
        has_thread: false,
    };
}

impl Scripts {
    fn is_stray(&mut self, pid: Pid) -> bool {
        if let Some(mark) = mark_of(pid) {
            return !self.marks.contains(&mark);
        }
        if !self.is_runner && !is_nobodys(pid) {
            return false;
        }
        // It ends when each script has ended that ran when it was first seen.
        let (marks, raw) = (&self.marks, Pid::as_raw(Some(pid)));
        let of = self.unmarked.entry(raw).or_insert_with(|| marks.clone());
        of.retain(|mark| marks.contains(mark));
        of.is_empty()
    }
}

fn scripts() -> MutexGuard<'static, Scripts> {
    SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A script that runs. Whatever it has left behind is ended when this is dropped.
pub struct Marked {
    mark: u64,
    pid: Option<i32>,
}

/// This process does nothing but run scripts.
pub fn is_runner() {
    scripts().is_runner = true;
}

/// Starts a script and marks it.
pub fn spawn_marked(command: &mut Command) -> std::io::Result<(Child, Marked)> {
    let mut marked = Marked { mark: new_mark()?, pid: None };
    // Without the lock: a program on a file system that hangs holds up nobody else.
    let child = command.spawn()?;
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
    let mark = Some(marked.mark);
    let _ = prlimit(pid, Resource::Locks, Rlimit { current: mark, maximum: mark });
    marked.pid = pid.map(|pid| Pid::as_raw(Some(pid)));
    let mut scripts = scripts();
    scripts.children.extend(marked.pid);
    scripts.leaving.retain(|pid| Some(*pid) != marked.pid);
    Ok((child, marked))
}

fn new_mark() -> std::io::Result<u64> {
    let mut scripts = scripts();
    if !scripts.has_thread {
        set_child_subreaper(Some(getpid()))?;
        std::thread::Builder::new().name("strays".into()).spawn(sweep_for_ever)?;
        scripts.has_thread = true;
    }
    scripts.last_mark += 1;
    let mark = scripts.last_mark;
    scripts.marks.insert(mark);
    Ok(mark)
}

impl Drop for Marked {
    fn drop(&mut self) {
        let mut scripts = scripts();
        scripts.marks.remove(&self.mark);
        scripts.leaving.extend(self.pid);
        ENDED.notify_one();
    }
}

fn sweep_for_ever() {
    let mut scripts = scripts();
    let (mut pause, mut rounds) = (FIRST_PAUSE, 0);
    loop {
        if sweep(&mut scripts) > 0 && rounds < EAGER_ROUNDS {
            rounds += 1;
            drop(scripts);
            std::thread::yield_now();
            scripts = self::scripts();
            continue;
        }
        rounds = 0;
        (scripts, pause) = if pause > LAST_PAUSE {
            (ENDED.wait(scripts).unwrap_or_else(PoisonError::into_inner), FIRST_PAUSE)
        } else {
            let (guard, slept) = ENDED.wait_timeout(scripts, pause).unwrap_or_else(PoisonError::into_inner);
            (guard, if slept.timed_out() { pause * 2 } else { FIRST_PAUSE })
        };
    }
}

/// Ends what no running script owns. Says how many there still were.
fn sweep(scripts: &mut Scripts) -> usize {
    let mut strays = 0;
    let adopted = adopted();
    for pid in &adopted {
        let raw = Pid::as_raw(Some(*pid));
        if !scripts.children.contains(&raw) && scripts.is_stray(*pid) {
            let _ = kill_process(*pid, Signal::KILL);
            // This process has not started it: nobody else waits for it.
            let _ = waitpid(Some(*pid), WaitOptions::NOHANG);
            strays += 1;
        }
    }
    scripts.unmarked.retain(|pid, _| adopted.iter().any(|one| Pid::as_raw(Some(*one)) == *pid));
    let is_there = |pid: &i32| std::fs::exists(format!("/proc/{pid}")).unwrap_or(false);
    let Scripts { leaving, children, .. } = scripts;
    leaving.retain(|pid| {
        let stays = is_there(pid);
        if !stays {
            children.remove(pid);
        }
        stays
    });
    strays
}

/// Children of this process's first thread, which gets the orphans.
fn adopted() -> Vec<Pid> {
    let pid = getpid().as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn mark_of(pid: Pid) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    let mark = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (mark > MARKS_FROM).then_some(mark)
}

/// Root starts nothing but scripts as `nobody`.
fn is_nobodys(pid: Pid) -> bool {
    let folder = std::fs::metadata(format!("/proc/{}", pid.as_raw_nonzero()));
    getuid().is_root() && folder.is_ok_and(|folder| folder.uid() == super::NOBODY)
}
