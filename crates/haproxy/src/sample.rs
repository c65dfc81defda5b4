//! What the running process knows for its statistics: HAProxy's names beside Evenkeel's, and the rates
//! and maxima that are taken once a second.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_admin::{Handle, Request};
use evenkeel_api as api;
use evenkeel_import::{Proxy, ProxyKind, Running};
use tokio::sync::oneshot;

pub struct Known {
    pub running: Running,
    pub started: Instant,
    pub max_connections: u32,
    handle: OnceLock<Handle>,
    samples: Mutex<BTreeMap<String, Sample>>,
    pub certificates: super::certificates::Transactions,
    pub files: super::ssl::Files,
    pub added: super::servers::Added,
    pub maps: super::maps::Maps,
}

/// What one row of the statistics has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub rate: u64,
    pub rate_max: u64,
    pub current_max: u64,
    pub queue_max: u64,
    total: u64,
    known: bool,
    /// What was known of times at the last look, and what counts of the last thousand requests or so.
    timed: (u64, u64),
    lately: (u64, u64),
}

impl Sample {
    /// Milliseconds that requests took of late.
    pub fn mean_ms(&self) -> u64 {
        self.lately.1.checked_div(self.lately.0).unwrap_or(0)
    }

    fn see_times(&mut self, timed: (u64, u64)) {
        self.lately.0 += timed.0.saturating_sub(self.timed.0);
        self.lately.1 += timed.1.saturating_sub(self.timed.1);
        self.timed = timed;
        while self.lately.0 > 2 * LATELY {
            self.lately = (self.lately.0 / 2, self.lately.1 / 2);
        }
    }
}

/// Mean times are those of so many requests.
const LATELY: u64 = 1024;

/// Counters of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub current: u64,
    pub total: u64,
    pub requests: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub refused: u64,
    pub bad: u64,
    pub connect_errors: u64,
    pub answer_errors: u64,
    pub answers: [u64; 5],
    pub queued: u64,
    pub retries: u64,
    pub opened: u64,
    pub reused: u64,
    /// Requests whose time was taken, and the milliseconds of all of them.
    pub timed: (u64, u64),
}

impl Counts {
    pub fn of_service(service: &api::Service) -> Counts {
        Counts {
            current: service.current_connections,
            total: service.total_connections,
            requests: service.requests,
            bytes_in: service.bytes_in,
            bytes_out: service.bytes_out,
            refused: service.refused,
            retries: service.retries,
            bad: service.bad_requests,
            answers: service.answers,
            ..Counts::default()
        }
    }

    pub fn of_server(server: &api::RealServer) -> Counts {
        Counts {
            current: server.current_connections,
            total: server.total_connections,
            requests: server.total_connections,
            bytes_in: server.bytes_in,
            bytes_out: server.bytes_out,
            connect_errors: server.connect_errors,
            answer_errors: server.response_errors,
            answers: server.answers,
            retries: server.retries,
            opened: server.opened_connections,
            reused: server.reused_connections,
            timed: (server.timed_requests, server.request_ms),
            ..Counts::default()
        }
    }

    pub fn add(&mut self, other: &Counts) {
        self.current += other.current;
        self.total += other.total;
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.refused += other.refused;
        self.bad += other.bad;
        self.connect_errors += other.connect_errors;
        self.answer_errors += other.answer_errors;
        self.queued += other.queued;
        self.retries += other.retries;
        self.opened += other.opened;
        self.reused += other.reused;
        self.timed = (self.timed.0 + other.timed.0, self.timed.1 + other.timed.1);
        self.answers.iter_mut().zip(other.answers).for_each(|(a, b)| *a += b);
    }
}

/// A proxy as it is now.
pub struct Now<'a> {
    pub proxy: &'a Proxy,
    pub frontend: Option<Counts>,
    pub backend: Option<Backend<'a>>,
}

pub struct Backend<'a> {
    pub servers: Vec<(Cow<'a, evenkeel_import::Server>, Option<&'a api::RealServer>)>,
    /// Their numbers: those of servers that were deleted are not used again.
    pub ids: Vec<u32>,
    pub queued: u64,
    pub counts: Counts,
}

impl Known {
    pub fn new(running: Running, snapshot: &evenkeel_model::Snapshot) -> Known {
        Known {
            maps: super::maps::Maps::of(&running.text),
            running,
            started: Instant::now(),
            max_connections: snapshot.limits.max_connections,
            handle: OnceLock::new(),
            samples: Mutex::default(),
            certificates: super::certificates::Transactions::of(snapshot),
            files: super::ssl::Files::of(snapshot),
            added: super::servers::Added::default(),
        }
    }

    /// From now on the daemon answers, and is looked at once a second.
    pub fn begin(self: &std::sync::Arc<Known>, handle: Handle) {
        let _ = self.handle.set(handle);
        let known = self.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            loop {
                tick.tick().await;
                let Some(status) = known.status().await else { return };
                known.sample(&status);
            }
        });
    }

    pub async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.handle.get()?.0.send(request(reply)).await.ok()?;
        answer.await.ok()
    }

    pub async fn status(&self) -> Option<api::Status> {
        self.ask(Request::Status).await
    }

    /// Every proxy with what the daemon says of it.
    pub fn now<'a>(&'a self, status: &'a api::Status) -> Vec<Now<'a>> {
        let shown = self.running.proxies.iter().filter(|p| !p.disabled);
        shown
            .map(|proxy| Now {
                proxy,
                frontend: frontend(proxy, status),
                backend: self.backend(proxy, status),
            })
            .collect()
    }

    fn backend<'a>(&self, proxy: &'a Proxy, status: &'a api::Status) -> Option<Backend<'a>> {
        if proxy.kind == ProxyKind::Frontend {
            return None;
        }
        let pool = proxy.pool.as_deref();
        let of_pool =
            status.pools.iter().find(|p| Some(p.name.as_str()) == pool).map(|p| (&p.real_servers, p.queued));
        let of_service = status
            .virtual_services
            .iter()
            .find(|s| Some(s.pool.as_str()) == pool || Some(s.name.as_str()) == pool)
            .map(|s| (&s.real_servers, s.queued));
        let found = of_pool.or(of_service);
        let by_name = |own: &str| found.and_then(|(all, _)| all.iter().find(|s| s.name == own));
        let all = self.added.all(proxy).into_iter();
        let (servers, ids): (Vec<_>, Vec<u32>) = all
            .map(|(known, id)| {
                let shown = by_name(&known.own);
                ((known, shown), id)
            })
            .unzip();
        let mut counts = Counts::default();
        servers.iter().filter_map(|(_, s)| *s).for_each(|s| counts.add(&Counts::of_server(s)));
        Some(Backend { servers, ids, queued: found.map_or(0, |f| f.1), counts })
    }

    fn sample(&self, status: &api::Status) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut see = |key: String, counts: &Counts| {
            let sample = samples.entry(key).or_default();
            let total = counts.total.max(counts.requests);
            sample.rate = if sample.known { total.saturating_sub(sample.total) } else { total };
            (sample.total, sample.known) = (total, true);
            sample.see_times(counts.timed);
            sample.rate_max = sample.rate_max.max(sample.rate);
            sample.current_max = sample.current_max.max(counts.current).max(u64::from(total > 0));
            sample.queue_max = sample.queue_max.max(counts.queued);
        };
        for now in self.now(status) {
            let name = &now.proxy.name;
            now.frontend.iter().for_each(|counts| see(format!("{name}/FRONTEND"), counts));
            if let Some(backend) = &now.backend {
                let counts = Counts { queued: backend.queued, ..backend.counts };
                see(format!("{name}/BACKEND"), &counts);
                for (known, server) in &backend.servers {
                    server.iter().for_each(|s| see(format!("{name}/{}", known.name), &Counts::of_server(s)));
                }
            }
        }
    }

    pub fn sample_of(&self, proxy: &str, row: &str) -> Sample {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.get(&format!("{proxy}/{row}")).copied().unwrap_or_default()
    }

    /// `clear counters`: the maxima begin anew.
    pub fn forget_maxima(&self) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in samples.values_mut() {
            (sample.rate_max, sample.current_max, sample.queue_max) = (sample.rate, 0, 0);
        }
    }
}

fn frontend(proxy: &Proxy, status: &api::Status) -> Option<Counts> {
    if proxy.kind == ProxyKind::Backend {
        return None;
    }
    let mut counts = Counts::default();
    for service in status.virtual_services.iter().filter(|s| proxy.services.contains(&s.name)) {
        counts.add(&Counts::of_service(service));
    }
    Some(counts)
}
