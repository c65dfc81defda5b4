//! Which servers a configuration runs with where some were added or set at run time.

use serde_json::json;

use super::*;

const FILE: &str = "real-server = [{ name = \"a\", address = \"10.0.0.1:80\", cookie = \"c\" }]";

fn snapshot(pool: &str) -> Snapshot {
    let service =
        "[[virtual-service]]\nname = \"web\"\nvip = [\"192.0.2.10:80\"]\nmode = \"http\"\npool = \"p\"\n";
    evenkeel_config::read(&format!("[[pool]]\nname = \"p\"\n{pool}\n{service}")).unwrap()
}

fn overrides(servers: &[(&str, Option<&str>, serde_json::Value)]) -> Overrides {
    let mut all = Overrides::load(std::path::Path::new("/nonexistent"));
    for (key, over, keys) in servers {
        let keys = keys.as_object().unwrap().clone();
        let over = over.map(str::to_owned);
        all.set_server(
            key,
            Some(RunTime { over, gone: false, keys, since_ms: 1, until_ms: None, by: "t".into() }),
        );
    }
    all
}

fn shown(pools: &[Arc<Pool>]) -> String {
    let servers = pools[0].real_servers.iter();
    let each = servers.map(|s| {
        let mark = if s.found_in.is_some() { "+" } else { "" };
        format!("{mark}{}={}*{}", s.name, s.place(), s.weight.get())
    });
    each.collect::<Vec<_>>().join(" ")
}

#[test]
fn servers_are_added_and_set_beside_the_file() {
    let configured = snapshot(FILE);
    let check = |servers: &[(&str, Option<&str>, serde_json::Value)], expect: &str| {
        let settled = RunTimeServers::default().settle(&configured, overrides(servers).servers());
        assert_eq!(shown(&settled), expect, "{servers:?}");
    };
    let file = "a=10.0.0.1:80*100";
    check(&[], file);
    let b = json!({ "address": "10.0.0.2:80", "weight": 7 });
    check(&[("p/b", None, b.clone())], &format!("{file} +b=10.0.0.2:80*7"));
    check(&[("p/b", None, json!({ "address": "b.test:80" }))], &format!("{file} +b=b.test:80*100"));
    // Of another pool, and of one whose name begins alike.
    check(&[("p2/b", None, b.clone())], file);
    check(&[("p/a", Some("10.0.0.1:80"), json!({ "address": "10.0.0.9:81" }))], "a=10.0.0.9:81*100");
    check(&[("p/a", Some("10.0.0.1:80"), json!({ "weight": 3 }))], "a=10.0.0.1:80*3");
    // What does not fit is left out: a name, an address and a cookie that others have, the service itself.
    check(&[("p/a", None, b.clone())], file);
    check(&[("p/b", None, json!({ "address": "10.0.0.1:80" }))], file);
    check(&[("p/b", None, json!({ "address": "10.0.0.2:80", "cookie": "c" }))], file);
    check(&[("p/b", None, json!({ "address": "192.0.2.10:80" }))], file);
    check(&[("p/b", None, json!({ "address": "10.0.0.2:80", "no-key": 1 }))], file);
    let twice = [("p/b", None, b.clone()), ("p/c", None, b)];
    check(&twice, &format!("{file} +b=10.0.0.2:80*7"));
}

#[test]
fn keys_are_checked_as_in_the_file() {
    let configured = snapshot(FILE);
    let pool = &configured.pools[0];
    let check = |keys: serde_json::Value, expect: &str| {
        let why = run_time_server(pool, "b", None, keys.as_object().unwrap()).unwrap_err().join("; ");
        assert!(why.contains(expect), "{keys}: {why}");
    };
    check(json!({}), "has no `address`");
    check(json!({ "address": "10.0.0.2:80", "weigth": 1 }), "did you mean `weight`");
    check(json!({ "address": "10.0.0.2:80", "weight": 65_536 }), "out of range");
    check(json!({ "address": "10.0.0.2:80", "backup": "yes" }), "backup");
    check(json!({ "address": "10.0.0.256:80" }), "address");
    check(json!({ "address": "10.0.0.2:80", "x = 1\ny": 1 }), "has no key");
}

#[test]
fn what_was_set_of_a_health_check_is_set_over_the_own() {
    let own =
        "real-server = [{ name = \"a\", address = \"10.0.0.1:80\", health-check = { port = 81, rise = 7 } }]";
    let configured = snapshot(own);
    let set = overrides(&[("p/a", Some("10.0.0.1:80"), json!({ "health-check": { "port": 82 } }))]);
    let settled = RunTimeServers::default().settle(&configured, set.servers());
    let check = settled[0].check_of(&settled[0].real_servers[0]);
    assert_eq!((check.port, check.rise), (Some(82), 7));
}

#[test]
fn the_file_goes_before_what_it_says_anew() {
    let b = json!({ "address": "10.0.0.2:80" });
    let all = overrides(&[
        ("p/b", None, b.clone()),
        ("p/a", Some("10.0.0.1:80"), json!({ "weight": 3 })),
        ("gone/b", None, b),
    ]);
    let check = |new: &str, expect: &[&str]| {
        let then = under_file(&all, &snapshot(FILE), &snapshot(new));
        assert_eq!(then.servers().keys().collect::<Vec<_>>(), expect, "{new}");
    };
    check(FILE, &["gone/b", "p/a", "p/b"]);
    check(&format!("retries = 1\n{FILE}"), &["gone/b", "p/a", "p/b"]);
    check("real-server = [{ name = \"a\", address = \"10.0.0.1:80\", weight = 9 }]", &["gone/b", "p/b"]);
    check("real-server = [{ name = \"x\", address = \"10.0.0.1:80\" }]", &["gone/b", "p/b"]);
    check("real-server = [{ name = \"b\", address = \"10.0.0.7:80\" }]", &["gone/b"]);
    let told = notes(
        &all,
        &snapshot(FILE),
        &snapshot("real-server = [{ name = \"b\", address = \"10.0.0.7:80\" }]"),
    );
    assert!(told[1].contains("p/b was added at run time and is in the file now"), "{told:?}");
    assert!(told.last().unwrap().contains("gone/b"), "{told:?}");
}
