//! The count of a client's connection: made when it is accepted, taken back by its drop.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::EngineShared;
use crate::counters::PerCore;
use crate::counters::ServiceCounters;
use crate::proxy::Service;
use crate::proxy::session::Client;

/// Counts one connection in everything that counts connections, for as long as it lives. It goes with
/// the connection wherever that goes, so that every way to end it counts it out.
pub struct Presence {
    core: usize,
    clients: Rc<Cell<u32>>,
    shared: Arc<EngineShared>,
    counters: Arc<PerCore<ServiceCounters>>,
    of_service: Arc<AtomicU32>,
}

impl Presence {
    pub fn new(
        core: usize,
        clients: &Rc<Cell<u32>>,
        shared: &Arc<EngineShared>,
        service: &Service,
    ) -> Presence {
        let view = service.view();
        Presence::of(core, clients, shared, &view.spec.counters, &view.spec.connections)
    }

    fn of(
        core: usize,
        clients: &Rc<Cell<u32>>,
        shared: &Arc<EngineShared>,
        counters: &Arc<PerCore<ServiceCounters>>,
        of_service: &Arc<AtomicU32>,
    ) -> Presence {
        clients.set(clients.get() + 1);
        shared.connections.fetch_add(1, Relaxed);
        counters.of(core).connections.add(1);
        counters.of(core).current_connections.add(1);
        of_service.fetch_add(1, Relaxed);
        Presence {
            core,
            clients: clients.clone(),
            shared: shared.clone(),
            counters: counters.clone(),
            of_service: of_service.clone(),
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.clients.set(self.clients.get().saturating_sub(1));
        self.shared.connections.fetch_sub(1, Relaxed);
        self.counters.of(self.core).current_connections.sub(1);
        self.of_service.fetch_sub(1, Relaxed);
    }
}

/// A parked connection with its count; the connection is closed before it is counted out.
pub struct Present {
    pub client: Box<Client>,
    pub presence: Presence,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that counts connections.
    struct Counts {
        clients: Rc<Cell<u32>>,
        shared: Arc<EngineShared>,
        counters: Arc<PerCore<ServiceCounters>>,
        of_service: Arc<AtomicU32>,
    }

    impl Counts {
        fn arrive(&self) -> Presence {
            Presence::of(0, &self.clients, &self.shared, &self.counters, &self.of_service)
        }

        fn now(&self) -> [u64; 4] {
            let of_service = u64::from(self.of_service.load(Relaxed));
            let current = self.counters.sum(|c| c.current_connections.get());
            [u64::from(self.clients.get()), self.shared.connections(), current, of_service]
        }
    }

    #[test]
    fn every_way_to_end_counts_to_zero() {
        let counts = Counts {
            clients: Rc::default(),
            shared: Arc::new(EngineShared::new(Vec::new())),
            counters: Arc::new(PerCore::new(1)),
            of_service: Arc::default(),
        };
        // A session that ends, and one that panics.
        drop(counts.arrive());
        assert_eq!(counts.now(), [0; 4]);
        let presence = counts.arrive();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = presence;
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        assert_eq!(counts.now(), [0; 4]);
        // A task that is killed before it ran to its end: its future is dropped.
        let presence = counts.arrive();
        drop(Box::pin(async move { drop(presence) }));
        assert_eq!(counts.now(), [0; 4]);
        // Parked ones: taken out one by one, cut at a change of role, dropped with the list.
        let mut parked = slab::Slab::new();
        let first = parked.insert(counts.arrive());
        for _ in 0..9 {
            parked.insert(counts.arrive());
        }
        assert_eq!(counts.now(), [10; 4]);
        drop(parked.remove(first));
        assert_eq!(counts.now(), [9; 4]);
        parked.retain(|key, _| key % 2 == 0);
        assert_eq!(counts.now(), [4; 4]);
        drop(parked);
        assert_eq!(counts.now(), [0; 4]);
        assert_eq!(counts.counters.sum(|c| c.connections.get()), 13, "those that came stay counted");
    }
}
