//! Entries of stick tables, in HAProxy's words and its order.

use evenkeel_api as api;
use evenkeel_import::StickTable;

/// What tables may store, in the order in which HAProxy shows it.
const ORDER: &[&str] = &[
    "server_id",
    "gpt0",
    "gpc0",
    "gpc0_rate",
    "conn_cnt",
    "conn_rate",
    "conn_cur",
    "sess_cnt",
    "sess_rate",
    "http_req_cnt",
    "http_req_rate",
    "http_err_cnt",
    "http_err_rate",
    "bytes_in_cnt",
    "bytes_in_rate",
    "bytes_out_cnt",
    "bytes_out_rate",
    "gpc1",
    "gpc1_rate",
    "server_key",
    "http_fail_cnt",
    "http_fail_rate",
    "gpt",
    "gpc",
    "gpc_rate",
];

/// ` gpc0=1 conn_rate(10000)=3`: what an entry of a table that routes count in has of what it stores.
pub fn counted(table: &StickTable, entry: &api::PersistenceEntry) -> String {
    if table.counted.is_none() {
        return String::new();
    }
    let activity = entry.activity.clone().unwrap_or_default();
    let number = |name: &str| {
        let at = table.numbers.iter().position(|known| known == name);
        at.and_then(|at| activity.numbers.get(at)).copied().unwrap_or_default()
    };
    let mut out = String::new();
    for name in ORDER {
        let is_it = |word: &&String| word.split('(').next() == Some(name);
        let Some(stored) = table.stores.iter().find(is_it) else { continue };
        let argument = stored.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
        let value = |of: api::Counted| if name.ends_with("_rate") { of.rate } else { of.total };
        let bare = name.trim_end_matches("_rate");
        let period = argument.rsplit(',').next().and_then(milliseconds);
        let shown = match (name.ends_with("_rate"), period) {
            (true, Some(period)) => format!("{name}({period})"),
            _ => (*name).to_owned(),
        };
        let value = match bare {
            "gpt0" | "gpc0" | "gpc1" => value(number(&format!("{}:{}", &bare[..3], &bare[3..]))),
            "gpt" | "gpc" => {
                let count = argument.split(',').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(1);
                for at in 0..count {
                    let each = value(number(&format!("{bare}:{at}")));
                    out.push_str(&format!(" {name}[{at}]={each}"));
                }
                continue;
            }
            "conn_cur" => u64::from(activity.current),
            "conn_cnt" | "conn" | "sess_cnt" | "sess" => value(activity.connections),
            "http_req_cnt" | "http_req" => value(activity.requests),
            "http_err_cnt" | "http_err" => value(activity.errors),
            "http_fail_cnt" | "http_fail" => value(activity.failures),
            "bytes_in_cnt" | "bytes_in" => value(activity.bytes_in),
            "bytes_out_cnt" | "bytes_out" => value(activity.bytes_out),
            _ => 0,
        };
        out.push_str(&format!(" {shown}={value}"));
    }
    out
}

/// `10s` as HAProxy shows a period; a number alone is milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let with_unit = || Some(evenkeel_model::parse_duration(text).ok()?.as_millis() as u64);
    text.parse().ok().or_else(with_unit)
}

/// A key as HAProxy has it: where its type is IPv6, addresses of IPv4 are mapped.
pub fn shown_key(kind: &str, key: &str) -> String {
    match key.parse::<std::net::Ipv4Addr>() {
        Ok(address) if kind == "ipv6" => address.to_ipv6_mapped().to_string(),
        _ => key.to_owned(),
    }
}

/// The same the other way round.
pub fn own_key(kind: &str, key: &str) -> String {
    match key.parse::<std::net::IpAddr>() {
        Ok(address) if kind.starts_with("ip") => address.to_canonical().to_string(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_stores_is_shown_in_haproxys_order() {
        let one = |total, rate| api::Counted { total, rate };
        let activity = api::Activity {
            current: 1,
            connections: one(5, 2),
            numbers: vec![one(7, 3), one(9, 0)],
            ..api::Activity::default()
        };
        let entry = api::PersistenceEntry {
            key: "k".into(),
            real_server: None,
            expires_in_ms: 1,
            activity: Some(activity),
        };
        let stores = ["conn_rate(10s)", "gpc0", "gpc0_rate(1m)", "gpt0", "conn_cur"].map(str::to_owned);
        let mut table = StickTable {
            stores: stores.to_vec(),
            counted: Some("t".into()),
            numbers: vec!["gpc:0".into(), "gpt:0".into()],
            ..StickTable::default()
        };
        assert_eq!(
            counted(&table, &entry),
            " gpt0=9 gpc0=7 gpc0_rate(60000)=3 conn_rate(10000)=2 conn_cur=1"
        );
        table.stores = vec!["gpc(2)".into()];
        table.numbers = vec!["gpc:0".into(), "gpc:1".into()];
        assert_eq!(counted(&table, &entry), " gpc[0]=7 gpc[1]=9");
        table.counted = None;
        assert_eq!(counted(&table, &entry), "");
    }
}
