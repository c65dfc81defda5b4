//! The statistics as HAProxy's exporter for Prometheus names them (`use-service prometheus-exporter`), in
//! Prometheus' text format 0.0.4. What nothing is counted for has no line.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use evenkeel_api as api;

use super::sample::Known;
use super::statistics::{self, CHECK_STATES, Row, RowKind, Selection};

/// What a request's query asks for; no scope is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsQuery {
    scopes: BTreeSet<String>,
    /// Names of metrics, and those that are left out.
    only: BTreeSet<String>,
    without: BTreeSet<String>,
    no_maintenance: bool,
}

impl MetricsQuery {
    /// Of the parameters of the query; a scope that is none is an error, as it is with HAProxy.
    pub fn of(query: impl Iterator<Item = (String, String)>) -> Result<MetricsQuery, &'static str> {
        let mut asked = MetricsQuery::default();
        for (key, value) in query {
            match (&*key, &*value) {
                ("scope", "*") => asked.scopes.clear(),
                ("scope", "global" | "frontend" | "backend" | "server" | "listener" | "sticktable") => {
                    asked.scopes.insert(value);
                }
                ("scope", _) => return Err("a scope is one of global, frontend, backend, server, *\n"),
                ("metrics", names) => {
                    for name in names.split(',').filter(|name| !name.is_empty()) {
                        match name.strip_prefix('-') {
                            Some(name) => asked.without.insert(name.to_owned()),
                            None => asked.only.insert(name.to_owned()),
                        };
                    }
                }
                ("no-maint", _) => asked.no_maintenance = true,
                _ => {}
            }
        }
        Ok(asked)
    }

    fn wants(&self, scope: &str) -> bool {
        self.scopes.is_empty() || self.scopes.contains(scope)
    }

    fn wants_metric(&self, name: &str) -> bool {
        !self.without.contains(name) && (self.only.is_empty() || self.only.contains(name))
    }
}

#[derive(Clone, Copy)]
enum Shape {
    /// The number of the column.
    Plain,
    /// A column in milliseconds, as seconds.
    Seconds,
    /// A line for each class of answers.
    Answers,
    /// A line for each state that there is; the one that holds is 1.
    States(&'static [&'static str]),
    /// The size of the limit, or none.
    Limit,
}

struct Metric {
    /// Behind `haproxy_frontend_`, `haproxy_backend_` or `haproxy_server_`.
    name: &'static str,
    column: &'static str,
    shape: Shape,
    /// It only grows.
    counter: bool,
    kinds: &'static [RowKind],
    help: &'static str,
}

const F: RowKind = RowKind::Frontend;
const B: RowKind = RowKind::Backend;
const S: RowKind = RowKind::Server;

const UP_OR_DOWN: &[&str] = &["DOWN", "UP"];
const SERVER_STATES: &[&str] = &["DOWN", "UP", "MAINT", "DRAIN", "NOLB"];
const CODES: [(&str, &str); 6] = [
    ("hrsp_1xx", "1xx"),
    ("hrsp_2xx", "2xx"),
    ("hrsp_3xx", "3xx"),
    ("hrsp_4xx", "4xx"),
    ("hrsp_5xx", "5xx"),
    ("hrsp_other", "other"),
];

const fn gauge(
    name: &'static str,
    column: &'static str,
    kinds: &'static [RowKind],
    help: &'static str,
) -> Metric {
    Metric { name, column, shape: Shape::Plain, counter: false, kinds, help }
}

const fn counter(
    name: &'static str,
    column: &'static str,
    kinds: &'static [RowKind],
    help: &'static str,
) -> Metric {
    Metric { counter: true, ..gauge(name, column, kinds, help) }
}

const fn shaped(metric: Metric, shape: Shape) -> Metric {
    Metric { shape, ..metric }
}

const METRICS: &[Metric] = &[
    gauge("current_queue", "qcur", &[B, S], "Requests that wait for a server now."),
    gauge("max_queue", "qmax", &[B, S], "Most requests that waited at once."),
    gauge("current_sessions", "scur", &[F, B, S], "Connections that are open now."),
    gauge("max_sessions", "smax", &[F, B, S], "Most connections that were open at once."),
    shaped(
        gauge("limit_sessions", "slim", &[F, S], "Most connections that may be open at once."),
        Shape::Limit,
    ),
    counter("sessions_total", "stot", &[F, B, S], "Connections since the start."),
    counter("bytes_in_total", "bin", &[F, B, S], "Bytes that came from clients."),
    counter("bytes_out_total", "bout", &[F, B, S], "Bytes that went to clients."),
    counter("requests_denied_total", "dreq", &[F], "Requests that rules refused."),
    counter("request_errors_total", "ereq", &[F], "Requests that could not be read."),
    counter("connection_errors_total", "econ", &[B, S], "Connections to servers that failed."),
    counter("response_errors_total", "eresp", &[B, S], "Answers that were broken or did not come."),
    counter("retry_warnings_total", "wretr", &[B, S], "Further attempts after a server was asked in vain."),
    shaped(
        gauge("status", "status", &[F, B], "State of the section: the line that is 1 holds."),
        Shape::States(UP_OR_DOWN),
    ),
    shaped(
        gauge("status", "status", &[S], "State of the server: the line that is 1 holds."),
        Shape::States(SERVER_STATES),
    ),
    gauge("weight", "weight", &[B, S], "Weight, of a backend the sum of those that serve."),
    gauge("uweight", "uweight", &[B, S], "Weight as it was set."),
    gauge("active_servers", "act", &[B], "Servers that serve and are no backups."),
    gauge("backup_servers", "bck", &[B], "Backups that could serve."),
    counter("check_failures_total", "chkfail", &[S], "Checks that failed."),
    counter("check_up_down_total", "chkdown", &[S], "Times that the server went down."),
    counter("downtime_seconds_total", "downtime", &[S], "How long the server was down."),
    counter("connection_attempts_total", "connect", &[B, S], "Connections that were opened to servers."),
    counter("connection_reuses_total", "reuse", &[B, S], "Requests over a connection that was open."),
    shaped(
        gauge(
            "total_time_average_seconds",
            "ttime",
            &[B, S],
            "How long the last thousand requests took, each.",
        ),
        Shape::Seconds,
    ),
    gauge("check_last_change_seconds", "lastchg", &[S], "Seconds since the last change of state."),
    counter("loadbalanced_total", "lbtot", &[B, S], "Times that a server was chosen."),
    gauge("limit_session_rate", "rate_lim", &[F], "Most connections in a second; 0 is no limit."),
    gauge("max_session_rate", "rate_max", &[F, B, S], "Most connections that came within a second."),
    shaped(
        gauge("check_status", "check_status", &[S], "How the last check ended: the line that is 1 holds."),
        Shape::States(CHECK_STATES),
    ),
    gauge("check_code", "check_code", &[S], "Status that the last check was answered with."),
    shaped(
        gauge("check_duration_seconds", "check_duration", &[S], "How long the last check took."),
        Shape::Seconds,
    ),
    shaped(
        counter("http_responses_total", "hrsp_1xx", &[F, B, S], "Answers by class of status."),
        Shape::Answers,
    ),
    gauge("http_requests_rate_max", "req_rate_max", &[F], "Most requests that came within a second."),
    counter("http_requests_total", "req_tot", &[F], "Requests since the start."),
    counter("connections_total", "conn_tot", &[F], "Connections that were taken."),
];

/// The answer to a request of a page of metrics.
pub fn text(known: &Known, status: &api::Status, asked: &MetricsQuery) -> String {
    let mut out = String::new();
    if asked.wants("global") {
        process(known, status, asked, &mut out);
    }
    let selection = Selection { no_maintenance: asked.no_maintenance, ..Selection::default() };
    let rows = statistics::rows(known, status, &selection);
    for (kind, scope) in [(F, "frontend"), (B, "backend"), (S, "server")] {
        if asked.wants(scope) {
            of_kind(&rows, kind, scope, asked, &mut out);
        }
    }
    out
}

fn head(out: &mut String, name: &str, counter: bool, help: &str) {
    let kind = if counter { "counter" } else { "gauge" };
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn process(known: &Known, status: &api::Status, asked: &MetricsQuery, out: &mut String) {
    let of_all = |read: fn(&api::Service) -> u64| status.virtual_services.iter().map(read).sum::<u64>();
    let uptime = known.started.elapsed().as_secs();
    let started = (evenkeel_control::wall_ms() / 1000).saturating_sub(uptime);
    let rate: u64 = known.running.proxies.iter().map(|p| known.sample_of(&p.name, "FRONTEND").rate).sum();
    let most = u64::from(known.max_connections);
    let all: [(&str, bool, u64, &str); 12] = [
        ("nbthread", false, status.workers as u64, "Threads that forward."),
        ("nbproc", false, 1, "Processes that serve."),
        ("uptime_seconds", false, uptime, "Seconds since the start."),
        ("max_connections", false, most, "Most connections that may be open at once."),
        ("hard_max_connections", false, most, "The same as it was at the start."),
        ("current_connections", false, status.connections, "Connections that are open now."),
        ("connections_total", true, of_all(|s| s.total_connections), "Connections since the start."),
        ("requests_total", true, of_all(|s| s.requests), "Requests since the start."),
        ("current_connection_rate", false, rate, "Connections of the last second."),
        ("current_session_rate", false, rate, "The same."),
        ("bytes_out_total", true, of_all(|s| s.bytes_out), "Bytes that went to clients."),
        ("start_time_seconds", false, started, "When the process started, in seconds since 1970."),
    ];
    for (name, counter, value, help) in all {
        let name = format!("haproxy_process_{name}");
        if asked.wants_metric(&name) {
            head(out, &name, counter, help);
            let _ = writeln!(out, "{name} {value}");
        }
    }
    let name = "haproxy_process_build_info";
    if asked.wants_metric(name) {
        head(out, name, false, "The version that runs.");
        let own = env!("CARGO_PKG_VERSION");
        let _ = writeln!(out, "{name}{{version=\"{}-evenkeel-{own}\"}} 1", super::VERSION);
    }
}

fn of_kind(rows: &[Row], kind: RowKind, scope: &str, asked: &MetricsQuery, out: &mut String) {
    for metric in METRICS.iter().filter(|metric| metric.kinds.contains(&kind)) {
        let name = format!("haproxy_{scope}_{}", metric.name);
        if !asked.wants_metric(&name) {
            continue;
        }
        let mut lines = String::new();
        for row in rows.iter().filter(|row| row.kind == kind) {
            let labels = labels(row);
            written(metric, row, &mut |more, value| {
                let _ = writeln!(lines, "{name}{{{labels}{more}}} {value}");
            });
        }
        if !lines.is_empty() {
            head(out, &name, metric.counter, metric.help);
            out.push_str(&lines);
        }
    }
}

/// Gives each line of a metric: labels of its own, and the value.
fn written(metric: &Metric, row: &Row, line: &mut dyn FnMut(&str, &str)) {
    let value = row.get(metric.column);
    match metric.shape {
        Shape::Limit if value.is_empty() => line("", "NaN"),
        _ if value.is_empty() => {}
        Shape::Plain | Shape::Limit => line("", value),
        Shape::Seconds => {
            if let Ok(ms) = value.parse::<u64>() {
                line("", &format!("{}.{:03}000", ms / 1000, ms % 1000));
            }
        }
        Shape::Answers => {
            for (column, code) in CODES {
                line(&format!(",code=\"{code}\""), row.get(column));
            }
        }
        Shape::States(all) => {
            let held = match value {
                "OPEN" | "no check" => "UP",
                "STOP" => "DOWN",
                other => other,
            };
            for state in all {
                line(&format!(",state=\"{state}\""), if *state == held { "1" } else { "0" });
            }
        }
    }
}

fn labels(row: &Row) -> String {
    let proxy = format!("proxy=\"{}\"", escaped(row.get("pxname")));
    match row.kind {
        RowKind::Server => format!("{proxy},server=\"{}\"", escaped(row.get("svname"))),
        _ => proxy,
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_chooses() {
        let of = |text: &str| {
            let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            MetricsQuery::of(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        let asked = of("scope=server&scope=global&no-maint").unwrap();
        assert!(asked.wants("server") && asked.wants("global") && !asked.wants("frontend"));
        assert!(asked.no_maintenance);
        let asked = of("metrics=haproxy_server_status,-haproxy_server_weight").unwrap();
        assert!(asked.wants("frontend") && asked.wants_metric("haproxy_server_status"));
        assert!(
            !asked.wants_metric("haproxy_server_weight") && !asked.wants_metric("haproxy_server_max_queue")
        );
        assert!(of("scope=none").is_err());
        assert!(of("scope=server&scope=*").unwrap().wants("backend"));
    }
}
