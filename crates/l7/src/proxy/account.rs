//! The end of a request or connection: counters and the log line.

use evenkeel_model::LogLevel;

use super::ServiceView;
use super::session::Client;
use crate::counters::Counter;
use crate::log::{Record, Surroundings, write_line};
use crate::worker::Worker;

/// Severities of syslog.
const ERROR: u8 = 3;
const INFO: u8 = 6;

/// Adds the bytes that have passed since the last time: a long transfer is seen while it goes on.
pub fn count_bytes(worker: &Worker, view: &ServiceView, record: &mut Record) {
    count_bytes_with(worker, view, record, 0);
}

/// And so many that are about to leave.
fn count_bytes_with(worker: &Worker, view: &ServiceView, record: &mut Record, last: u64) {
    let bytes_in = record.bytes_in.saturating_sub(record.counted_in);
    let bytes_out = (record.bytes_out + last).saturating_sub(record.counted_out);
    if bytes_in == 0 && bytes_out == 0 {
        return;
    }
    record.counted_in += bytes_in;
    record.counted_out += bytes_out;
    let counters = view.counters(worker.core);
    counters.bytes_in.add(bytes_in);
    counters.bytes_out.add(bytes_out);
    if let Some(server) = &record.server {
        let counters = server.counters();
        counters.bytes_in.add(bytes_in);
        counters.bytes_out.add(bytes_out);
    }
}

/// Counts a request before the last bytes of its answer, so many, leave; once.
pub fn settle(worker: &Worker, view: &ServiceView, record: &mut Record, last: u64) {
    count_bytes_with(worker, view, record, last);
    if std::mem::replace(&mut record.settled, true) {
        return;
    }
    let counters = view.counters(worker.core);
    counters.requests.add(1);
    counters.count_status(record.status);
    if let Some(server) = &record.server
        && let Some(class) = server.counters().responses.get(usize::from(record.status / 100))
    {
        class.add(1);
    }
}

/// Closes a record: counts it, writes its line if anybody reads lines.
pub fn finish(worker: &Worker, view: &ServiceView, client: &Client, record: &mut Record, http: bool) {
    let now_ms = worker.reactor.now_ms();
    record.end_ms = now_ms;
    let counters = view.counters(worker.core);
    if http {
        settle(worker, view, record, 0);
        counters.latency.observe(now_ms.saturating_sub(record.start_ms));
    } else {
        count_bytes(worker, view, record);
    }
    counters.retries.add(u64::from(record.retries));
    if let Some(server) = &record.server {
        let counters = server.counters();
        counters.retries.add(u64::from(record.retries));
        if http {
            counters.latency.observe(now_ms.saturating_sub(record.start_ms));
        }
    }
    if worker.log.is_wanted() && !record.written {
        log(worker, view, client, record, http);
    }
}

/// Where a service's lines are early, writes the line once an answer's head, of so many bytes, goes out, or
/// the server's connection stands.
pub fn early(
    worker: &Worker,
    view: &ServiceView,
    client: &Client,
    record: &mut Record,
    (head, http): (u64, bool),
) {
    if !view.spec.service.log_lines.early || record.written || !worker.log.is_wanted() {
        return;
    }
    record.end_ms = worker.reactor.now_ms();
    record.bytes_out += head;
    log(worker, view, client, record, http);
    record.bytes_out -= head;
    record.written = true;
}

fn log(worker: &Worker, view: &ServiceView, client: &Client, record: &Record, http: bool) {
    if record.level == Some(LogLevel::Silent) {
        return;
    }
    let service = &view.spec.service;
    let trouble = record.has_trouble(http);
    if service.log_lines.only_trouble && !trouble {
        return;
    }
    let severity = match record.level {
        Some(LogLevel::Severity(severity)) => severity,
        _ if service.log_lines.trouble_is_error && trouble => ERROR,
        _ => INFO,
    };
    let pool = record.pool.as_ref().unwrap_or(&view.pool).spec();
    let around = Surroundings {
        service: service.name.as_str(),
        pool: pool.pool.name.as_str(),
        http,
        tls: client.tls.as_deref(),
        h2: client.h2,
        early: service.log_lines.early,
        process: worker.shared.connections(),
        service_now: view.spec.counters.sum(|c| c.current_connections.get()),
        pool_now: &|| pool.current.sum(Counter::get),
        server_now: record.server.as_ref().map_or(0, |s| s.all_current()),
    };
    debug_assert_eq!(record.client, client.address);
    let own = service.log.as_ref().map(|_| view.spec.id);
    worker.write_log(own, severity, |time, out| write_line(&view.spec.line, record, &around, time, out));
}
