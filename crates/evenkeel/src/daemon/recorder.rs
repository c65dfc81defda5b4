//! What is remembered for graphs, each second: of the node, every service, every real server.

use std::collections::HashMap;
use std::sync::Arc;

use evenkeel_admin::{Kind, Refused, Reply};
use evenkeel_api as api;
use evenkeel_l7::counters::LATENCY_BOUNDS_MS;
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
struct Wanted {
    store: Arc<Store>,
    name: String,
    meanings: &'static [Meaning],
    seconds: u64,
}

const BUCKETS: usize = LATENCY_BOUNDS_MS.len() + 1;

#[derive(Default)]
pub struct Recorder {
    store: Option<Arc<Store>>,
    size: u64,
    /// Counters at the last second, by subject.
    before: HashMap<String, Vec<u64>>,
    processor: Option<(u64, u64)>,
    second: u64,
    told_full: bool,
}

impl Recorder {
    pub fn follow(&mut self, snapshot: &Snapshot) {
        if self.size == snapshot.graphs_size {
            return;
        }
        self.size = snapshot.graphs_size;
        let path = snapshot.state_directory.join("graphs");
        self.store = None;
        if self.size == 0 {
            return;
        }
        let opened = std::fs::create_dir_all(&snapshot.state_directory);
        match opened.and_then(|()| Store::open(&path, self.size)) {
            Ok(store) => self.store = Some(Arc::new(store)),
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

impl Control {
    /// Once a second.
    pub fn record(&mut self, status: &api::Status) {
        let now = wall_ms() / 1000;
        let since = now.saturating_sub(self.recorder.second).clamp(1, 60);
        if self.recorder.store.is_none() || now == self.recorder.second {
            return;
        }
        let mut subjects: Vec<(String, Vec<f32>)> = Vec::new();
        let mut counters: HashMap<String, Vec<u64>> = HashMap::new();
        let mut rated = |recorder: &Recorder, name: &str, values: Vec<u64>| {
            let rates = rates(recorder.before.get(name), &values, since);
            counters.insert(name.to_owned(), values);
            rates
        };
        let recorder = &self.recorder;
        let busy = processor();
        let cpu = match (busy, recorder.processor) {
            (Some((busy, all)), Some((busy0, all0))) if all > all0 => {
                100.0 * (busy.saturating_sub(busy0)) as f32 / (all - all0) as f32
            }
            _ => f32::NAN,
        };
        let of_all = |read: fn(&api::Service) -> u64| status.virtual_services.iter().map(read).sum::<u64>();
        let sums = [of_all(|s| s.total_connections), of_all(|s| s.bytes_in), of_all(|s| s.bytes_out)];
        let node = rated(recorder, "", sums.to_vec());
        let known = |value: Option<f32>| value.unwrap_or(f32::NAN);
        let current = of_all(|s| s.current_connections) as f32;
        let gauges = [cpu, known(memory_percent()), known(load()), known(own_memory())];
        let values = [node[0], current, node[1], node[2]].into_iter().chain(gauges).collect();
        subjects.push(("node".into(), values));
        for (service, spec) in status.virtual_services.iter().zip(self.services()) {
            let name = format!("service {}", service.name);
            let counters = &spec.counters;
            let mut counts =
                vec![service.total_connections, service.requests, service.bytes_in, service.bytes_out];
            counts.extend((2..=5).map(|class| counters.sum(|c| c.responses[class].get())));
            counts.push(counters.sum(|c| c.refused.get() + c.no_server.get() + c.bad_requests.get()));
            counts.extend((0..BUCKETS).map(|bucket| counters.sum(|c| c.latency[bucket].get())));
            let rate = rated(recorder, &name, counts);
            let time = |share| percentile(&rate[9..], share);
            let values = vec![
                rate[0],
                service.current_connections as f32,
                rate[1],
                rate[2],
                rate[3],
                time(0.5),
                time(0.95),
                time(0.99),
                rate[4],
                rate[5],
                rate[6],
                rate[7],
                rate[8],
            ];
            subjects.push((name, values));
        }
        // Services come first where the file is too small.
        for service in &status.virtual_services {
            for server in &service.real_servers {
                let name = format!("server {}/{}", service.name, server.name);
                let counts = vec![
                    server.total_connections,
                    server.bytes_in,
                    server.bytes_out,
                    server.connect_errors + server.response_errors,
                ];
                let rate = rated(recorder, &name, counts);
                let up = f32::from(u8::from(server.state == "up"));
                let current = server.current_connections as f32;
                subjects.push((name, vec![rate[0], current, rate[1], rate[2], rate[3], up]));
            }
        }
        let borrowed: Vec<(&str, &[f32])> =
            subjects.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        let recorder = &mut self.recorder;
        (recorder.before, recorder.processor, recorder.second) = (counters, busy, now);
        let Some(store) = &recorder.store else { return };
        match store.record(now, &borrowed) {
            Ok(full) => {
                if full && !recorder.told_full {
                    info!("[graphs] size does not suffice for every real server; services come first");
                }
                recorder.told_full = full;
            }
            Err(error) => {
                warn!(%error, "graphs cannot be written; nothing more is remembered until the next commit");
                recorder.store = None;
                recorder.size = 0;
            }
        }
    }

    pub fn series(&self, query: &api::SeriesQuery, reply: Reply<api::Series>) {
        match self.find_series(query) {
            Ok(Wanted { store, name, meanings, seconds }) => {
                let wanted: Vec<String> =
                    query.values.iter().flat_map(|v| v.split(',')).map(str::to_owned).collect();
                let now = wall_ms() / 1000;
                tokio::task::spawn_blocking(move || {
                    let found = store.read(&name, seconds, now);
                    let failed = |e: std::io::Error| Refused::new(Kind::Failed, e.to_string());
                    let missing = || Refused::new(Kind::NotFound, "nothing is remembered of it yet");
                    let points = found.map_err(failed).and_then(|p| p.ok_or_else(missing));
                    let _ = reply.send(points.map(|p| described(p, meanings, &wanted)));
                });
            }
            Err(refused) => drop(reply.send(Err(refused))),
        }
    }

    fn find_series(&self, query: &api::SeriesQuery) -> Result<Wanted, Refused> {
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
                return Err(Refused::new(Kind::Invalid, why));
            }
        };
        let store = self.recorder.store.clone();
        let store =
            store.ok_or_else(|| Refused::new(Kind::Failed, "[graphs] size is 0: nothing is remembered"))?;
        let (name, meanings) = match (&query.service, &query.server) {
            (Some(service), Some(server)) => (format!("server {service}/{server}"), SERVER),
            (Some(service), None) => (format!("service {service}"), SERVICE),
            (None, None) => ("node".into(), NODE),
            (None, Some(_)) => return Err(Refused::new(Kind::Invalid, "`server` needs `service`")),
        };
        Ok(Wanted { store, name, meanings, seconds })
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
