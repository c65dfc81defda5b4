//! A thread that keeps the packet path alive: renews the lease, and sweeps flows that have ended.
//!
//! It stops renewing when the process that owns it no longer says that it is well, so that a
//! daemon that hangs loses its traffic as one that is dead does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::error;

use crate::program::Loaded;

/// A daemon that has said nothing for this long is not well.
const SILENCE: Duration = Duration::from_secs(20);
/// A whole sweep of the table takes so many turns of the thread.
const TURNS: u32 = 20;

pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    loaded: Arc<Loaded>,
    started: Instant,
    /// Milliseconds since the start at which the owner was well.
    well_at: AtomicU64,
    stopped: AtomicBool,
    live: AtomicU64,
    lease: Duration,
}

impl Keeper {
    pub fn start(loaded: Arc<Loaded>, lease: Duration) -> std::io::Result<Keeper> {
        let shared = Arc::new(Shared {
            loaded,
            started: Instant::now(),
            well_at: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            live: AtomicU64::new(0),
            lease,
        });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("layer-4".into()).spawn(move || own.run())?;
        Ok(Keeper { shared, thread: Some(thread) })
    }

    /// The owner is well now.
    pub fn well(&self) {
        self.shared.well_at.store(self.shared.started.elapsed().as_millis() as u64, Relaxed);
    }

    /// Flows in the table, as of the last whole sweep.
    pub fn live(&self) -> u64 {
        self.shared.live.load(Relaxed)
    }

    /// Ends the thread; packets are forwarded for `grace` longer.
    pub fn stop(&mut self, grace: Duration) {
        self.shared.stopped.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
            self.shared.renew(grace);
        }
    }
}

impl Shared {
    fn run(&self) {
        let buckets = self.loaded.setup.flow_mask + 1;
        let share = buckets.div_ceil(TURNS).max(1);
        let (mut from, mut live) = (0, 0);
        while !self.stopped.load(Relaxed) {
            let silent = self.started.elapsed().as_millis() as u64 - self.well_at.load(Relaxed);
            if silent < SILENCE.as_millis() as u64 {
                self.renew(self.lease);
            }
            match self.loaded.sweep(from, share.min(buckets - from)) {
                Ok((found, _)) => live += u64::from(found),
                Err(why) => error!(%why, "flows cannot be swept"),
            }
            from += share;
            if from >= buckets {
                self.live.store(live, Relaxed);
                (from, live) = (0, 0);
            }
            std::thread::sleep((self.lease / 8).min(Duration::from_millis(100)));
        }
    }

    fn renew(&self, lease: Duration) {
        let jiffies = (lease.as_millis() as u64 * self.loaded.hertz).div_ceil(1000).max(1);
        if let Err(why) = self.loaded.renew(jiffies) {
            error!(%why, "the lease of layer 4 cannot be renewed");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
    }
}
