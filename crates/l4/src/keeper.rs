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
    shared: Arc<KeeperShared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Opens and closes the way of packets, from any thread.
#[derive(Clone)]
pub struct FlowGate(Arc<KeeperShared>);

impl FlowGate {
    /// At once: packets are forwarded, or are the network stack's own.
    pub fn set(&self, open: bool) {
        self.0.active.store(open, Relaxed);
        let lease = if open { self.0.lease } else { Duration::ZERO };
        if let Err(why) = self.0.loaded.renew_gate(self.0.jiffies(lease)) {
            error!(%why, "the gate of layer 4 cannot be set");
        }
    }
}

struct KeeperShared {
    loaded: Arc<Loaded>,
    started: Instant,
    /// Milliseconds since the start at which the owner was well.
    well_at: AtomicU64,
    stopped: AtomicBool,
    /// This node has the VIPs.
    active: AtomicBool,
    live: AtomicU64,
    lease: Duration,
}

impl Keeper {
    pub fn start(loaded: Arc<Loaded>, lease: Duration) -> std::io::Result<Keeper> {
        let shared = Arc::new(KeeperShared {
            loaded,
            started: Instant::now(),
            well_at: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            active: AtomicBool::new(true),
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

    pub fn gate(&self) -> FlowGate {
        FlowGate(self.shared.clone())
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
            if self.shared.active.load(Relaxed) {
                self.shared.renew(grace);
            }
        }
    }
}

impl KeeperShared {
    fn run(&self) {
        let buckets = self.loaded.setup.flow_mask + 1;
        let share = buckets.div_ceil(TURNS).max(1);
        let (mut from, mut live) = (0, 0);
        while !self.stopped.load(Relaxed) {
            let silent = self.started.elapsed().as_millis() as u64 - self.well_at.load(Relaxed);
            if silent < SILENCE.as_millis() as u64 && self.active.load(Relaxed) {
                self.renew(self.lease);
                // The role may have gone in between.
                if !self.active.load(Relaxed) {
                    self.close();
                }
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

    fn close(&self) {
        self.renew(Duration::ZERO);
    }

    fn renew(&self, lease: Duration) {
        if let Err(why) = self.loaded.renew(self.jiffies(lease)) {
            error!(%why, "the lease of layer 4 cannot be renewed");
        }
    }

    fn jiffies(&self, lease: Duration) -> u64 {
        (lease.as_millis() as u64 * self.loaded.hertz).div_ceil(1000).max(1)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
    }
}
