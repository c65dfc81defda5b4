//! What is remembered for graphs, each second: of the node, every service, every real server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_l7::counters::LATENCY_BOUNDS_MS;
use evenkeel_l7::{PoolSpec, ServerSpec, ServiceSpec};
use evenkeel_model::Snapshot;
use evenkeel_series::{Points, Store};
use tracing::{info, warn};

use super::control::{Control, wall_ms};

/// Name, words, unit.
type Meaning = (&'static str, &'static str, &'static str);

const NODE: &[Meaning] = &[
    ("new", "New connections", "per second"),
    ("current", "Connections now", ""),
    ("in", "Traffic from clients", "bytes per second"),
    ("out", "Traffic to clients", "bytes per second"),
    ("cpu", "Processor", "percent"),
    ("memory", "Memory in use", "percent"),
    ("load", "Load average", ""),
    ("own-memory", "Memory of Evenkeel", "bytes"),
];

const SERVICE: &[Meaning] = &[
    ("new", "New connections", "per second"),
    ("current", "Connections now", ""),
    ("requests", "Requests", "per second"),
    ("in", "Traffic from clients", "bytes per second"),
    ("out", "Traffic to clients", "bytes per second"),
    ("p50", "Response time, half are faster", "milliseconds"),
    ("p95", "Response time, 95% are faster", "milliseconds"),
    ("p99", "Response time, 99% are faster", "milliseconds"),
    ("2xx", "Answers 2xx", "per second"),
    ("3xx", "Answers 3xx", "per second"),
    ("4xx", "Answers 4xx", "per second"),
    ("5xx", "Answers 5xx", "per second"),
    ("refused", "Refused or without a server", "per second"),
];

const SERVER: &[Meaning] = &[
    ("new", "New connections or requests", "per second"),
    ("current", "Connections now", ""),
    ("in", "Traffic to the server", "bytes per second"),
    ("out", "Traffic from the server", "bytes per second"),
    ("errors", "Errors", "per second"),
    ("up", "Up", ""),
];

/// A subject of the store, and how far back.
struct SeriesQuery {
    store: Arc<Store>,
    name: String,
    meanings: &'static [Meaning],
    seconds: u64,
}

const BUCKETS: usize = LATENCY_BOUNDS_MS.len() + 1;

#[derive(Default)]
pub struct Recorder {
    store: Option<Arc<Store>>,
    samples: Option<SyncSender<Sample>>,
    size: u64,
    second: u64,
}

impl Recorder {
    pub fn reconfigure(&mut self, snapshot: &Snapshot) {
        if self.size == snapshot.graphs_size {
            return;
        }
        self.size = snapshot.graphs_size;
        let path = snapshot.state_directory.join("graphs");
        (self.store, self.samples) = (None, None);
        if self.size == 0 {
            return;
        }
        let opened = evenkeel_files::make_folder(&snapshot.state_directory);
        let started = opened.and_then(|()| Store::open(&path, self.size)).and_then(|store| {
            let store = Arc::new(store);
            let (samples, inbox) = sync_channel(2);
            let own = store.clone();
            std::thread::Builder::new()
                .name("graphs".into())
                .spawn(move || Writer::default().run(&own, &inbox))?;
            Ok((store, samples))
        });
        match started {
            Ok((store, samples)) => (self.store, self.samples) = (Some(store), Some(samples)),
            Err(error) => warn!(%error, file = %path.display(), "nothing is remembered for graphs"),
        }
    }
}

/// Growth a second since the last one; nothing is known of the first.
fn rates(before: Option<&Vec<u64>>, now: &[u64], seconds: u64) -> Vec<f32> {
    let known = before.filter(|b| b.len() == now.len());
    let each = now.iter().enumerate();
    each.map(|(at, value)| match known {
        // A counter that began anew has grown by what it is.
        Some(before) if *value < before[at] => *value as f32 / seconds as f32,
        Some(before) => (value - before[at]) as f32 / seconds as f32,
        None => f32::NAN,
    })
    .collect()
}

/// The time below which a share of the answers were; NaN without any.
fn percentile(buckets: &[f32], share: f32) -> f32 {
    let total: f32 = buckets.iter().filter(|v| v.is_finite()).sum();
    if total <= 0.0 {
        return f32::NAN;
    }
    let mut below = 0.0;
    for (at, count) in buckets.iter().enumerate() {
        let from = if at == 0 { 0.0 } else { LATENCY_BOUNDS_MS[at - 1] as f32 };
        let to = LATENCY_BOUNDS_MS.get(at).map_or(from * 2.0, |b| *b as f32);
        if below + count >= share * total && *count > 0.0 {
            return from + (to - from) * (share * total - below) / count;
        }
        below += count;
    }
    LATENCY_BOUNDS_MS[LATENCY_BOUNDS_MS.len() - 1] as f32
}

/// Busy and all time of the processors, in ticks.
fn processor() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let numbers: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let all: u64 = numbers.iter().take(8).sum();
    let idle = numbers.get(3)? + numbers.get(4)?;
    Some((all - idle, all))
}

fn memory_percent() -> Option<f32> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let value = |name: &str| -> Option<f32> {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(100.0 * (1.0 - value("MemAvailable:")? / value("MemTotal:")?))
}

fn load() -> Option<f32> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn own_memory() -> Option<f32> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f32 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f32)
}

/// Counts of layer 4, which the packet path keeps.
#[derive(Clone, Copy, Default)]
struct Flows {
    new: u64,
    current: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// A service and those of its servers that fit, as they were at one moment.
struct Sampled {
    spec: Arc<ServiceSpec>,
    flows: Option<Flows>,
    servers: Vec<(Arc<ServerSpec>, bool, Option<Flows>)>,
}

/// What the event loop hands to the recorder's thread.
struct Sample {
    second: u64,
    services: Vec<Sampled>,
}

/// The recorder's thread: reads the counters, and writes the row.
#[derive(Default)]
struct Writer {
    /// Counters at the last second, by subject.
    before: HashMap<String, Vec<u64>>,
    processor: Option<(u64, u64)>,
    second: u64,
    told_full: bool,
}

impl Writer {
    fn run(mut self, store: &Store, samples: &Receiver<Sample>) {
        while let Ok(sample) = samples.recv() {
            let (second, subjects) = (sample.second, self.subjects(sample));
            let borrowed: Vec<(&str, &[f32])> =
                subjects.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
            match store.record(second, &borrowed) {
                Ok(full) => {
                    if full && !self.told_full {
                        info!("[graphs] size does not suffice for every real server; services come first");
                    }
                    self.told_full = full;
                }
                Err(error) => {
                    warn!(%error, "graphs cannot be written; nothing more is remembered until the next start");
                    return;
                }
            }
        }
    }

    fn subjects(&mut self, sample: Sample) -> Vec<(String, Vec<f32>)> {
        let since = sample.second.saturating_sub(self.second).clamp(1, 60);
        let mut subjects: Vec<(String, Vec<f32>)> = vec![("node".into(), Vec::new())];
        let mut counters: HashMap<String, Vec<u64>> = HashMap::new();
        let before = std::mem::take(&mut self.before);
        let mut rated = |name: &str, values: Vec<u64>| {
            let rates = rates(before.get(name), &values, since);
            counters.insert(name.to_owned(), values);
            rates
        };
        let mut all = Flows::default();
        for Sampled { spec, flows, .. } in &sample.services {
            let counters = &spec.counters;
            let now = flows.unwrap_or_else(|| Flows {
                new: counters.sum(|c| c.connections.get()),
                current: counters.sum(|c| c.current_connections.get()),
                bytes_in: counters.sum(|c| c.bytes_in.get()),
                bytes_out: counters.sum(|c| c.bytes_out.get()),
            });
            all.new += now.new;
            all.current += now.current;
            all.bytes_in += now.bytes_in;
            all.bytes_out += now.bytes_out;
            let mut counts = vec![now.new, counters.sum(|c| c.requests.get()), now.bytes_in, now.bytes_out];
            counts.extend((2..=5).map(|class| counters.sum(|c| c.responses[class].get())));
            counts.push(counters.sum(|c| c.refused.get() + c.no_server.get() + c.bad_requests.get()));
            counts.extend((0..BUCKETS).map(|bucket| counters.sum(|c| c.latency.buckets[bucket].get())));
            let name = format!("service {}", spec.service.name);
            let rate = rated(&name, counts);
            let time = |share| percentile(&rate[9..], share);
            let head = [rate[0], now.current as f32, rate[1], rate[2], rate[3]];
            let times = [time(0.5), time(0.95), time(0.99)];
            subjects.push((name, head.into_iter().chain(times).chain(rate[4..9].iter().copied()).collect()));
        }
        // Services come first where the file is too small.
        for Sampled { spec: service, servers, .. } in &sample.services {
            for (spec, up, flows) in servers {
                let counters = &spec.counters;
                let now = flows.unwrap_or_else(|| Flows {
                    new: counters.sum(|c| c.total.get()),
                    current: counters.sum(|c| c.current.get()),
                    bytes_in: counters.sum(|c| c.bytes_in.get()),
                    bytes_out: counters.sum(|c| c.bytes_out.get()),
                });
                let errors = counters.sum(|c| c.connect_errors.get() + c.response_errors.get());
                let name = format!("server {}/{}", service.service.name, spec.server.name);
                let rate = rated(&name, vec![now.new, now.bytes_in, now.bytes_out, errors]);
                let up = f32::from(u8::from(*up));
                subjects.push((name, vec![rate[0], now.current as f32, rate[1], rate[2], rate[3], up]));
            }
        }
        let busy = processor();
        let cpu = match (busy, self.processor) {
            (Some((busy, all)), Some((busy0, all0))) if all > all0 => {
                100.0 * (busy.saturating_sub(busy0)) as f32 / (all - all0) as f32
            }
            _ => f32::NAN,
        };
        let node = rated("", vec![all.new, all.bytes_in, all.bytes_out]);
        let known = |value: Option<f32>| value.unwrap_or(f32::NAN);
        let gauges = [cpu, known(memory_percent()), known(load()), known(own_memory())];
        let head = [node[0], all.current as f32, node[1], node[2]];
        subjects[0].1 = head.into_iter().chain(gauges).collect();
        (self.before, self.processor, self.second) = (counters, busy, sample.second);
        subjects
    }
}

impl Control {
    /// Once a second. Only looks what there is; counting and writing are the thread's.
    pub fn record(&mut self) {
        let Some((store, samples)) = self.recorder.store.as_ref().zip(self.recorder.samples.as_ref()) else {
            return;
        };
        let second = wall_ms() / 1000;
        if second == self.recorder.second {
            return;
        }
        let config = self.engine().config();
        let pools: HashMap<u32, &Arc<PoolSpec>> = config.pools.iter().map(|p| (p.id, p)).collect();
        let mut room = store.subjects().saturating_sub(1 + config.services.len());
        let sampled = |spec: &Arc<ServiceSpec>| {
            let pool = pools.get(&spec.pool_id)?;
            let plane = self.layer4().plane().filter(|_| spec.service.mode.is_layer4());
            let name = spec.service.name.as_str();
            let flows_of = |counts: evenkeel_l4::Counts| Flows {
                new: counts.flows,
                current: u64::from(counts.active),
                bytes_in: counts.bytes_in,
                bytes_out: counts.bytes_out,
            };
            let mut sum = plane.map(|plane| plane.counts_of_left(name));
            let mut servers = Vec::with_capacity(room.min(pool.servers.len()));
            for server in &pool.servers {
                let counts =
                    plane.map(|plane| plane.counts(name, server.server.name.as_str(), server.server.address));
                if let (Some(sum), Some(counts)) = (&mut sum, counts) {
                    *sum += counts;
                }
                if room > 0 {
                    room -= 1;
                    let up = self.engine().state(server.id).is_none_or(|s| s.up);
                    servers.push((server.clone(), up, counts.map(flows_of)));
                } else if plane.is_none() {
                    break;
                }
            }
            Some(Sampled { spec: spec.clone(), flows: sum.map(flows_of), servers })
        };
        let sample = Sample { second, services: config.services.iter().filter_map(sampled).collect() };
        // A disk that hangs costs seconds of the graphs, and nothing else.
        let _ = samples.try_send(sample);
        self.recorder.second = second;
    }

    pub fn series(&self, query: &api::SeriesQuery, reply: Reply<api::Series>) {
        match self.find_series(query) {
            Ok(SeriesQuery { store, name, meanings, seconds }) => {
                let wanted: Vec<String> =
                    query.values.iter().flat_map(|v| v.split(',')).map(str::to_owned).collect();
                let now = wall_ms() / 1000;
                tokio::task::spawn_blocking(move || {
                    let found = store.read(&name, seconds, now);
                    let failed = |e: std::io::Error| Refused::new(FailureKind::Failed, e.to_string());
                    let missing = || Refused::new(FailureKind::NotFound, "nothing is remembered of it yet");
                    let points = found.map_err(failed).and_then(|p| p.ok_or_else(missing));
                    let _ = reply.send(points.map(|p| described(p, meanings, &wanted)));
                });
            }
            Err(refused) => drop(reply.send(Err(refused))),
        }
    }

    fn find_series(&self, query: &api::SeriesQuery) -> Result<SeriesQuery, Refused> {
        let seconds = match query.range.as_deref() {
            Some("1m") => 60,
            Some("5m") => 290,
            None | Some("1h") => 3_600,
            Some("1d") => 86_400,
            Some("7d") => 7 * 86_400,
            Some("30d") => 30 * 86_400,
            Some("365d") => 365 * 86_400,
            Some(other) => {
                let why = format!("range is 1m, 5m, 1h, 1d, 7d, 30d or 365d, not {other:?}");
                return Err(Refused::new(FailureKind::Invalid, why));
            }
        };
        let store = self.recorder.store.clone();
        let store = store
            .ok_or_else(|| Refused::new(FailureKind::Failed, "[graphs] size is 0: nothing is remembered"))?;
        let (name, meanings) = match (&query.service, &query.server) {
            (Some(service), Some(server)) => (format!("server {service}/{server}"), SERVER),
            (Some(service), None) => (format!("service {service}"), SERVICE),
            (None, None) => ("node".into(), NODE),
            (None, Some(_)) => return Err(Refused::new(FailureKind::Invalid, "`server` needs `service`")),
        };
        Ok(SeriesQuery { store, name, meanings, seconds })
    }
}

fn described(points: Points, meanings: &[Meaning], wanted: &[String]) -> api::Series {
    let columns = meanings
        .iter()
        .zip(points.columns)
        .filter(|((name, _, _), _)| wanted.is_empty() || wanted.iter().any(|w| w == name));
    let columns = columns.map(|((name, title, unit), values)| api::Column {
        name: (*name).into(),
        title: (*title).into(),
        unit: (*unit).into(),
        points: values.into_iter().map(|v| v.is_finite().then_some(v)).collect(),
    });
    api::Series { step_seconds: points.step, start: points.start, columns: columns.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_percentiles() {
        assert_eq!(rates(Some(&vec![10, 5]), &[30, 2], 2), [10.0, 1.0]);
        assert!(rates(None, &[1], 1)[0].is_nan());
        let mut buckets = vec![0.0; BUCKETS];
        assert!(percentile(&buckets, 0.5).is_nan());
        (buckets[0], buckets[3]) = (90.0, 10.0);
        assert!(percentile(&buckets, 0.5) < 1.0);
        assert_eq!(percentile(&buckets, 0.95), 7.5);
    }
}
