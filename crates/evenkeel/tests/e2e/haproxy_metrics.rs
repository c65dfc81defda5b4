//! `http-request use-service prometheus-exporter`, beside HAProxy: dashboards find their metrics.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Place, Scripted, eventually, get, require};

use crate::haproxy::{ours, run};

/// What a page of metrics says: the type of each metric, and the value of each line.
struct Metrics {
    types: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

impl Metrics {
    fn of(text: &str) -> Metrics {
        let mut all = Metrics { types: BTreeMap::new(), values: BTreeMap::new() };
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                assert!(all.types.insert(name.into(), kind.into()).is_none(), "{name} has two types");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
                let metric = name.split('{').next().unwrap();
                assert!(all.types.contains_key(metric), "{metric} has no type");
                assert!(all.values.insert(name.into(), value.into()).is_none(), "{name} is there twice");
            }
        }
        all
    }
}

struct Told {
    all: Metrics,
    /// The status and the first line of some questions.
    asked: Vec<(u16, String)>,
}

fn of(name: &str, program: Command) -> Told {
    let place = Place::new(&format!("haproxy-metrics-{name}"));
    let _server = Scripted::named(place.at(9001), "s1");
    let text = format!(
        "global\n stats socket {}\ndefaults\n mode http\n timeout connect 2s\n timeout client 5s\n timeout server 5s\nfrontend fe\n bind {}\n http-request use-service prometheus-exporter if {{ path /metrics }}\n http-request deny if {{ path /metrics /denied }}\n default_backend be\nfrontend pass\n mode tcp\n bind {}\n default_backend raw\nbackend be\n option httpchk GET /\n server s1 {} check inter 200 rise 1 fall 1\n server s2 {} check inter 200 rise 1 fall 1\n server s3 {} disabled\nbackend raw\n mode tcp\n server x {}\n",
        place.file("stats.sock").display(),
        place.at(8080),
        place.at(8081),
        place.at(9001),
        place.at(9002),
        place.at(9001),
        place.at(9001),
    );
    let _process = run(&place, program, &text);
    let metrics = || get(place.at(8080), "/metrics");
    eventually("both checks have ended", Duration::from_secs(20), || {
        let text = metrics().text();
        text.contains("status{proxy=\"be\",server=\"s2\",state=\"DOWN\"} 1")
            && text.contains("check_status{proxy=\"be\",server=\"s1\",state=\"L7OK\"} 1")
    });
    // What came before was no request: HAProxy counts connections without one among the answers.
    let before = Metrics::of(&metrics().text());
    for path in ["/a", "/b", "/denied"] {
        get(place.at(8080), path);
    }
    eventually("both answers are counted", Duration::from_secs(5), || {
        metrics().text().contains("haproxy_backend_http_responses_total{proxy=\"be\",code=\"2xx\"} 2")
    });
    let answer = metrics();
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4"));
    let mut all = Metrics::of(&answer.text());
    for (line, value) in all.values.iter_mut().filter(|(line, _)| line.contains("http_responses_total{")) {
        let number = |text: &String| text.parse::<u64>().unwrap();
        *value = (number(value) - number(&before.values[line])).to_string();
    }
    let questions =
        ["?scope=server", "?scope=backend&scope=server", "?scope=*", "?scope=none", "?scope=server&no-maint"];
    let asked = questions.map(|question| {
        let answer = get(place.at(8080), &format!("/metrics{question}"));
        let text = answer.text();
        let names: Vec<&str> = text.lines().filter(|line| line.contains("server_weight{")).collect();
        let first = text.lines().find(|line| !line.starts_with('#')).unwrap_or("");
        let first = first.split(['{', ' ']).next().unwrap_or("");
        let told = if answer.status == 200 { format!("{first} {names:?}") } else { String::new() };
        (answer.status, told)
    });
    Told { all, asked: asked.into() }
}

#[test]
fn metrics_have_the_names_and_values_of_haproxys_exporter() {
    if !require(&["haproxy"]) {
        return;
    }
    let own = of("own", ours());
    let other = of("other", Command::new("haproxy"));
    for (name, kind) in &own.all.types {
        assert_eq!(Some(kind), other.all.types.get(name), "{name}");
    }
    // Versions are each one's own.
    let theirs = |line: &String| line.contains("build_info") || other.all.values.contains_key(line);
    assert_eq!(own.all.values.keys().find(|line| !theirs(line)), None);
    let mut compared = 0;
    for (line, value) in &own.all.values {
        let same = [
            "check_failures_total{",
            "check_up_down_total{",
            "http_responses_total{",
            "_status{",
            "weight{",
            "active_servers{",
            "backup_servers{",
        ];
        // Requests for the page itself are counted beside the others, as often as was waited.
        let waited = line.contains("frontend") && line.contains("2xx");
        if same.iter().any(|part| line.contains(part)) && !waited {
            assert_eq!(Some(value), other.all.values.get(line), "{line}");
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
    assert_eq!(own.asked, other.asked);
}
