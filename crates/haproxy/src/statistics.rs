//! The statistics in HAProxy's columns (its management guide, section 9.1).

use evenkeel_api as api;
use evenkeel_import::{Proxy, Server};

use super::sample::{Backend, Counts, Known, Now, Sample};

/// In HAProxy's order. Columns that Evenkeel counts nothing for are empty.
pub const COLUMNS: &[&str] = &[
    "pxname",
    "svname",
    "qcur",
    "qmax",
    "scur",
    "smax",
    "slim",
    "stot",
    "bin",
    "bout",
    "dreq",
    "dresp",
    "ereq",
    "econ",
    "eresp",
    "wretr",
    "wredis",
    "status",
    "weight",
    "act",
    "bck",
    "chkfail",
    "chkdown",
    "lastchg",
    "downtime",
    "qlimit",
    "pid",
    "iid",
    "sid",
    "throttle",
    "lbtot",
    "tracked",
    "type",
    "rate",
    "rate_lim",
    "rate_max",
    "check_status",
    "check_code",
    "check_duration",
    "hrsp_1xx",
    "hrsp_2xx",
    "hrsp_3xx",
    "hrsp_4xx",
    "hrsp_5xx",
    "hrsp_other",
    "hanafail",
    "req_rate",
    "req_rate_max",
    "req_tot",
    "cli_abrt",
    "srv_abrt",
    "comp_in",
    "comp_out",
    "comp_byp",
    "comp_rsp",
    "lastsess",
    "last_chk",
    "last_agt",
    "qtime",
    "ctime",
    "rtime",
    "ttime",
    "agent_status",
    "agent_code",
    "agent_duration",
    "check_desc",
    "agent_desc",
    "check_rise",
    "check_fall",
    "check_health",
    "agent_rise",
    "agent_fall",
    "agent_health",
    "addr",
    "cookie",
    "mode",
    "algo",
    "conn_rate",
    "conn_rate_max",
    "conn_tot",
    "intercepted",
    "dcon",
    "dses",
    "wrew",
    "connect",
    "reuse",
    "cache_lookups",
    "cache_hits",
    "srv_icur",
    "src_ilim",
    "qtime_max",
    "ctime_max",
    "rtime_max",
    "ttime_max",
    "eint",
    "idle_conn_cur",
    "safe_conn_cur",
    "used_conn_cur",
    "need_conn_est",
    "uweight",
    "agg_server_status",
    "agg_server_check_status",
    "agg_check_status",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Frontend = 0,
    Backend = 1,
    Server = 2,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub kind: RowKind,
    pub proxy: u32,
    pub server: u32,
    fields: Vec<(&'static str, String)>,
}

impl Row {
    pub fn get(&self, column: &str) -> &str {
        self.fields.iter().find(|(name, _)| *name == column).map_or("", |(_, value)| value)
    }

    fn set(&mut self, column: &'static str, value: impl ToString) {
        self.fields.push((column, value.to_string()));
    }

    pub fn fields(&self) -> &[(&'static str, String)] {
        &self.fields
    }
}

/// What `show stat` and the page ask for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub proxy: Option<i64>,
    /// Bits: 1 frontends, 2 backends, 4 servers.
    pub kinds: Option<i64>,
    pub server: Option<i64>,
    pub only_up: bool,
    pub no_maintenance: bool,
    /// Only proxies whose names hold this.
    pub scope: Option<String>,
    /// Only these proxies.
    pub names: Vec<String>,
}

pub fn rows(known: &Known, status: &api::Status, selection: &Selection) -> Vec<Row> {
    let mut rows = Vec::new();
    for now in known.now(status) {
        let name = &now.proxy.name;
        let wanted = selection.proxy.is_none_or(|id| id < 0 || id == i64::from(now.proxy.id))
            && selection.scope.as_ref().is_none_or(|part| name.contains(part.as_str()))
            && (selection.names.is_empty() || selection.names.contains(name));
        if wanted {
            rows.extend(rows_of(known, &now));
        }
    }
    rows.retain(|row| {
        let kinds = selection.kinds.unwrap_or(-1);
        let bit = match row.kind {
            RowKind::Frontend => 1,
            RowKind::Backend => 2,
            RowKind::Server => 4,
        };
        let state = row.get("status");
        let is_server = row.kind == RowKind::Server;
        kinds & bit != 0
            && selection.server.is_none_or(|id| id < 0 || id == i64::from(row.server))
            && !(selection.only_up && is_server && (state == "DOWN" || state == "MAINT"))
            && !(selection.no_maintenance && is_server && state == "MAINT")
    });
    rows
}

fn rows_of(known: &Known, now: &Now<'_>) -> Vec<Row> {
    let proxy = now.proxy;
    let mut rows = Vec::new();
    if let Some(counts) = &now.frontend {
        let mut row = counted(known, proxy, "FRONTEND", RowKind::Frontend, 0, counts);
        row.set("slim", known.max_connections);
        row.set("status", if proxy.services.is_empty() { "STOP" } else { "OPEN" });
        row.set("dreq", counts.refused);
        row.set("ereq", counts.bad);
        row.set("rate_lim", 0);
        if proxy.http {
            let sample = known.sample_of(&proxy.name, "FRONTEND");
            row.set("req_rate", sample.rate);
            row.set("req_rate_max", sample.rate_max);
            row.set("req_tot", counts.requests);
        }
        row.set("conn_tot", counts.total);
        row.set("mode", if proxy.http { "http" } else { "tcp" });
        rows.push(row);
    }
    let Some(backend) = &now.backend else { return rows };
    for ((server, shown), id) in backend.servers.iter().zip(&backend.ids) {
        rows.push(server_row(known, proxy, *id, server, *shown));
    }
    rows.push(backend_row(known, proxy, backend));
    rows
}

fn server_row(
    known: &Known,
    proxy: &Proxy,
    id: u32,
    server: &Server,
    shown: Option<&api::RealServer>,
) -> Row {
    let counts = shown.map(Counts::of_server).unwrap_or_default();
    let mut row = counted(known, proxy, &server.name, RowKind::Server, id, &counts);
    row.set("mode", if proxy.http { "http" } else { "tcp" });
    let Some(shown) = shown else {
        row.set("status", "MAINT");
        return row;
    };
    row.set("qcur", 0);
    row.set("qmax", 0);
    row.set("econ", shown.connect_errors);
    row.set("eresp", shown.response_errors);
    row.set("status", state_of(server, shown));
    shown.max_connections.iter().for_each(|most| row.set("slim", most));
    row.set("weight", shown.weight);
    row.set("uweight", shown.weight);
    row.set("act", u8::from(!shown.backup));
    row.set("bck", u8::from(shown.backup));
    row.set("lastchg", since(shown.check.since_ms));
    if server.checked {
        row.set("chkfail", shown.failed_checks);
        row.set("chkdown", shown.downs);
        let now_s = if shown.state == "down" { since(shown.check.since_ms) } else { 0 };
        row.set("downtime", shown.down_ms / 1000 + now_s);
    }
    attempts(&mut row, &counts, known.sample_of(&proxy.name, &server.name), proxy.http);
    row.set("lbtot", counts.total);
    row.set("addr", &shown.address);
    if server.checked {
        let check = &shown.check;
        match &check.outcome {
            Some(outcome) => {
                let (short, long) = check_status(outcome, check.layer);
                row.set("check_status", short);
                row.set("check_desc", long);
            }
            None => row.set("check_status", "INI"),
        }
        check.code.iter().for_each(|code| row.set("check_code", code));
        check.took_ms.iter().for_each(|took| row.set("check_duration", took));
        row.set("last_chk", &check.detail);
    }
    row
}

/// How often servers were asked, and how long they took.
fn attempts(row: &mut Row, counts: &Counts, sample: Sample, http: bool) {
    row.set("wretr", counts.retries);
    row.set("connect", counts.opened);
    row.set("reuse", counts.reused);
    if http {
        row.set("ttime", sample.mean_ms());
    }
}

fn backend_row(known: &Known, proxy: &Proxy, backend: &Backend<'_>) -> Row {
    let mut row = counted(known, proxy, "BACKEND", RowKind::Backend, 0, &backend.counts);
    let sample = known.sample_of(&proxy.name, "BACKEND");
    row.set("qcur", backend.queued);
    row.set("qmax", sample.queue_max.max(backend.queued));
    let serving = |backup: bool| -> Vec<u64> {
        let all = backend.servers.iter().filter_map(|(_, s)| *s);
        all.filter(|s| s.backup == backup && s.state == "up" && s.admin_state == "online" && s.weight > 0)
            .map(|s| u64::from(s.weight))
            .collect()
    };
    let (active, spare) = (serving(false), serving(true));
    // Of backups the first one alone is used.
    let weight: u64 = if active.is_empty() { spare.iter().take(1).sum() } else { active.iter().sum() };
    let (active, spare) = (active.len(), spare.len());
    // A section without any is never down.
    let up = active + spare > 0 || proxy.servers.is_empty();
    row.set("status", if up { "UP" } else { "DOWN" });
    row.set("econ", backend.counts.connect_errors);
    row.set("eresp", backend.counts.answer_errors);
    row.set("weight", weight);
    row.set("uweight", weight);
    row.set("act", active);
    row.set("bck", spare);
    row.set("lbtot", backend.counts.total);
    attempts(&mut row, &backend.counts, sample, proxy.http);
    row.set("mode", if proxy.http { "http" } else { "tcp" });
    row
}

fn counted(known: &Known, proxy: &Proxy, name: &str, kind: RowKind, server: u32, counts: &Counts) -> Row {
    let sample = known.sample_of(&proxy.name, name);
    let mut row = Row { kind, proxy: proxy.id, server, fields: Vec::with_capacity(32) };
    row.set("pxname", &proxy.name);
    row.set("svname", name);
    row.set("scur", counts.current);
    row.set("smax", sample.current_max.max(counts.current).max(u64::from(counts.total > 0)));
    row.set("stot", counts.total);
    row.set("bin", counts.bytes_in);
    row.set("bout", counts.bytes_out);
    row.set("pid", 1);
    row.set("iid", proxy.id);
    row.set("sid", server);
    row.set("type", kind as u8);
    row.set("rate", sample.rate);
    row.set("rate_max", sample.rate_max);
    if proxy.http {
        let classes = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"];
        classes.into_iter().zip(counts.answers).for_each(|(column, count)| row.set(column, count));
        row.set("hrsp_other", 0);
    }
    row
}

/// A server's state in HAProxy's words.
pub fn state_of(server: &Server, shown: &api::RealServer) -> &'static str {
    match (shown.admin_state.as_str(), shown.state.as_str()) {
        ("halted", _) => "MAINT",
        (_, "down") => "DOWN",
        ("draining", _) => "DRAIN",
        _ if !server.checked => "no check",
        _ => "UP",
    }
}

/// How the last check ended, in HAProxy's words: short, and as its log has it.
pub fn check_status(outcome: &str, layer: Option<u8>) -> (&'static str, &'static str) {
    match (outcome, layer) {
        ("passed", None) => ("PROCOK", "External check passed"),
        ("timeout", None) => ("PROCTOUT", "External check timeout"),
        (_, None) => ("PROCERR", "External check error"),
        ("passed", Some(4)) => ("L4OK", "Layer4 check passed"),
        ("timeout", Some(4)) => ("L4TOUT", "Layer4 timeout"),
        (_, Some(4)) => ("L4CON", "Layer4 connection problem"),
        ("passed", Some(6)) => ("L6OK", "Layer6 check passed"),
        ("timeout", Some(6)) => ("L6TOUT", "Layer6 timeout"),
        (_, Some(6)) => ("L6RSP", "Layer6 invalid response"),
        ("passed", _) => ("L7OK", "Layer7 check passed"),
        ("timeout", _) => ("L7TOUT", "Layer7 timeout"),
        ("refused", _) => ("L7STS", "Layer7 wrong status"),
        _ => ("L7RSP", "Layer7 invalid response"),
    }
}

/// The words that the last check of a server can have.
pub const CHECK_STATES: &[&str] = &[
    "HANA", "SOCKERR", "L4OK", "L4TOUT", "L4CON", "L6OK", "L6TOUT", "L6RSP", "L7TOUT", "L7RSP", "L7OK",
    "L7OKC", "L7STS", "PROCERR", "PROCTOUT", "PROCOK",
];

/// The number that a check's status has in HAProxy's state files.
pub fn status_number(short: &str) -> usize {
    const ALL: [&str; 21] = [
        "UNK", "INI", "START", "CHECKED", "HANA", "SOCKERR", "L4OK", "L4TOUT", "L4CON", "L6OK", "L6TOUT",
        "L6RSP", "L7TOUT", "L7RSP", "L57DATA", "L7OK", "L7OKC", "L7STS", "PROCERR", "PROCTOUT", "PROCOK",
    ];
    ALL.iter().position(|known| *known == short).unwrap_or(0)
}

fn since(at_ms: u64) -> u64 {
    evenkeel_control::wall_ms().saturating_sub(at_ms) / 1000
}

pub fn csv(rows: &[Row]) -> String {
    let mut out = format!("# {},\n", COLUMNS.join(","));
    for row in rows {
        for column in COLUMNS {
            let value = row.get(column);
            match value.contains([',', '"', '\n']) {
                true => out.push_str(&format!("\"{}\"", value.replace('"', "\"\"").replace('\n', " "))),
                false => out.push_str(value),
            }
            out.push(',');
        }
        out.push('\n');
    }
    out
}

/// `type.proxy.server.column.name.process:origin:value`, a field a line.
pub fn typed(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        let letter = match row.kind {
            RowKind::Frontend => 'F',
            RowKind::Backend => 'B',
            RowKind::Server => 'S',
        };
        for (at, column) in COLUMNS.iter().enumerate() {
            let Some((_, value)) = row.fields().iter().find(|(name, _)| name == column) else { continue };
            let kind = if value.parse::<u64>().is_ok() { "u64" } else { "str" };
            out.push_str(&format!(
                "{letter}.{}.{}.{at}.{column}.1:MGP:{kind}:{value}\n",
                row.proxy, row.server
            ));
        }
        out.push('\n');
    }
    out
}

pub fn json(rows: &[Row]) -> String {
    let all: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            let fields = COLUMNS.iter().enumerate().filter_map(|(at, column)| {
                let (_, value) = row.fields().iter().find(|(name, _)| name == column)?;
                let value = match value.parse::<u64>() {
                    Ok(number) => serde_json::json!({ "type": "u64", "value": number }),
                    Err(_) => serde_json::json!({ "type": "str", "value": value }),
                };
                Some(serde_json::json!({
                    "objType": format!("{:?}", row.kind), "proxyId": row.proxy, "id": row.server,
                    "field": { "pos": at, "name": column }, "processNum": 1, "value": value,
                }))
            });
            fields.collect()
        })
        .collect();
    serde_json::Value::from(all).to_string()
}
