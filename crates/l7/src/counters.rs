//! Counters with one writer each: every event loop counts for itself, readers add up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).saturating_sub(amount), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One value a core, each on cache lines of its own.
#[derive(Debug)]
pub struct PerCore<T>(Vec<Padded<T>>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerCore<T> {
    pub fn new(cores: usize) -> PerCore<T> {
        PerCore((0..cores).map(|_| Padded::default()).collect())
    }

    pub fn of(&self, core: usize) -> &T {
        &self.0[core].0
    }

    pub fn sum(&self, read: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().map(|padded| read(&padded.0)).sum()
    }
}

/// Upper bounds of the response time histogram, in milliseconds.
pub const LATENCY_BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

#[derive(Debug, Default)]
pub struct ServiceCounters {
    pub connections: Counter,
    pub current_connections: Counter,
    pub requests: Counter,
    /// Requests that a client's bad framing or syntax ended.
    pub bad_requests: Counter,
    /// TLS handshakes: finished, of them resumed, and failed.
    pub tls_handshakes: Counter,
    pub tls_resumed: Counter,
    pub tls_failures: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    /// By first digit of the status; index 0 counts none.
    pub responses: [Counter; 6],
    /// Refused by routes: denied, limited, sent to the tar pit.
    pub refused: Counter,
    pub queue_timeouts: Counter,
    pub no_server: Counter,
    pub client_aborts: Counter,
    pub retries: Counter,
    pub latency: Latency,
}

/// How long answers took, by bucket.
#[derive(Debug, Default)]
pub struct Latency {
    pub buckets: [Counter; LATENCY_BOUNDS_MS.len() + 1],
    pub sum_ms: Counter,
}

impl Latency {
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    pub fn observe(&self, millis: u64) {
        let bucket = LATENCY_BOUNDS_MS.iter().position(|bound| millis <= *bound);
        self.buckets[bucket.unwrap_or(LATENCY_BOUNDS_MS.len())].add(1);
        self.sum_ms.add(millis);
    }
}

impl ServiceCounters {
    pub fn count_status(&self, status: u16) {
        if let Some(class) = self.responses.get(usize::from(status / 100)) {
            class.add(1);
        }
    }
}

#[derive(Debug, Default)]
pub struct ServerCounters {
    /// Connections (tcp) or requests (http) with it now.
    pub current: Counter,
    pub total: Counter,
    /// Connections opened to it.
    pub connects: Counter,
    /// Requests that went over a connection opened before.
    pub reuses: Counter,
    pub connect_errors: Counter,
    pub response_errors: Counter,
    pub retries: Counter,
    /// From its clients to it, and back.
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub responses: [Counter; 6],
    pub latency: Latency,
}
