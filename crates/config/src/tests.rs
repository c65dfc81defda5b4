//! Walks every key of the schema: each has an effect on what is read, and a plan that speaks of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::schema::{Key, ROOT, Table, ValueKind};
use crate::{format, plan, read};

/// Files in which a key may stand, with a line `# TABLE` where keys of that table go.
const FILES: [&str; 9] = [
    r#"
# admin
# state
# log
# limits
# layer-4
# network
# graphs
# alerts
# snmp
# pair
# node
[[table]]
name = "some"
key = "{port}"
[[table]]
name = "t"
key = "{source}"
# table
[[pool]]
name = "other"
full-connections = 100
# pool
[[pool.real-server]]
name = "o1"
address = "192.0.2.20:80"
max-connections = 500
# pool.real-server
[[pool]]
name = "some"
[[pool.real-server]]
name = "s1"
address = "192.0.2.23:80"
[[virtual-service]]
name = "web"
vip = ["192.0.2.1:8080"]
mode = "http"
pool = "other"
# virtual-service
[[virtual-service]]
name = "own"
vip = ["192.0.2.1:8081"]
mode = "http"
full-connections = 100
# virtual-service
[[virtual-service.real-server]]
name = "w1"
address = "192.0.2.21:80"
max-connections = 500
# virtual-service.real-server
[[virtual-service.real-server]]
name = "w2"
address = "192.0.2.22:80"
"#,
    r#"
[[virtual-service]]
name = "l4"
vip = ["192.0.2.1:80"]
mode = "nat"
health-check = { type = "tcp", port = 80 }
auto-nat = true
# virtual-service
[[virtual-service.real-server]]
name = "n1"
address = "192.0.2.21:80"
# virtual-service.real-server
"#,
    r#"
[[virtual-service]]
name = "tcp"
vip = ["192.0.2.1:3389"]
mode = "tcp"
# virtual-service
[[virtual-service.real-server]]
name = "c1"
address = "192.0.2.21:3389"
# virtual-service.real-server
"#,
    r#"
[pair]
name = "a"
peer = "192.0.2.50:9443"
listen = "192.0.2.51:9443"
# pair
"#,
    r#"
[[pool]]
name = "keyed"
scheduler = "header-hash"
hash-key = "X-First"
# pool
[[pool.real-server]]
name = "k1"
address = "192.0.2.20:80"
# pool.real-server
[[virtual-service]]
name = "keyed"
vip = ["192.0.2.1:80"]
mode = "http"
pool = "keyed"
# virtual-service
[[virtual-service]]
name = "own"
vip = ["192.0.2.1:81"]
mode = "http"
scheduler = "cookie-hash"
hash-key = "first"
# virtual-service
[[virtual-service.real-server]]
name = "k1"
address = "192.0.2.20"
"#,
    r#"
[[virtual-service]]
name = "wide"
vip = ["192.0.2.1:80-90"]
mode = "snat"
# virtual-service
[[virtual-service.real-server]]
name = "s1"
address = "192.0.2.20"
# virtual-service.real-server
"#,
    r#"
[[virtual-service]]
name = "tunnelled"
vip = ["192.0.2.1:80"]
mode = "tun"
pool = "inside"
# virtual-service
[[virtual-service]]
name = "rdp"
vip = ["192.0.2.1:3389"]
mode = "tcp"
pool = "desktops"
[[pool]]
name = "inside"
# pool
[[pool.real-server]]
name = "i1"
address = "192.0.2.20:80"
[[pool]]
name = "desktops"
# pool
[[pool.real-server]]
name = "d1"
address = "192.0.2.21:3389"
"#,
    r#"
[[acme]]
name = "some"
directory = "https://ca.example.org/directory"
# acme
[[virtual-service]]
name = "managed"
vip = ["192.0.2.1:7,443", "192.0.2.7:99"]
mode = "http"
# virtual-service
[[virtual-service.route]]
when = 'host("a.example.org") && !host("b.example.org")'
deny = {}
[[virtual-service.real-server]]
name = "m1"
address = "192.0.2.20:80"
"#,
    r#"
[pair]
name = "one"
vrrp = [{ interface = "first", router-id = 9 }]
# pair
[resolver]
timeout = "1s"
# resolver
[[virtual-service]]
name = "named"
vip = ["192.0.2.1:80"]
mode = "http"
# virtual-service
[[virtual-service.real-server]]
name = "n1"
address = "a.test:80"
# virtual-service.real-server
[[virtual-service]]
name = "other"
vip = ["192.0.2.1:81"]
mode = "http"
pool = "names"
[[pool]]
name = "names"
# pool
[[pool.real-server]]
name = "n2"
address = "b.test:80"
# pool.real-server
"#,
];

/// Keys that cannot be seen here: what they say is what holds without them, or they mean nothing alone.
const UNSEEN: [&str; 19] = [
    // They mean nothing without a place.
    "log.facility",
    "log.tag",
    // They need a second interface: see node.rs.
    "node.interface.on",
    "node.interface.vlan",
    "pool.health-check[tcp].steps",
    "pool.name",
    "pool.real-server",
    "pool.real-server.resolve",
    "pool.resolve",
    "pool.timeouts",
    "resolver.hold",
    "virtual-service.health-check[tcp].steps",
    "virtual-service.log-lines",
    "virtual-service.real-server",
    "virtual-service.real-server.resolve",
    "virtual-service.resolve",
    "virtual-service.timeouts",
    // They need `send-proxy` beside them: see send_proxy_values.
    "pool.send-proxy-values",
    "virtual-service.send-proxy-values",
];

/// What a table says beside the key that is tried, so that the whole means something.
const BESIDE: [(&str, &str); 24] = [
    ("pair.vrrp", "interface = \"some\", router-id = 7, version = 2"),
    ("virtual-service.answer-route.rewrite-location", "from = [\"/first\"], to = \"/second\""),
    ("node.interface", "name = \"b0\", bond = [\"eth1\"]"),
    ("node.interface", "name = \"eth1\", addresses = [\"192.0.2.10/24\"]"),
    ("pool.health-check[tcp]", "send-proxy = true"),
    ("pool.real-server.health-check", "send-proxy = true"),
    ("virtual-service.real-server.health-check", "send-proxy = true"),
    ("acme.dns[update]", "server = \"192.0.2.8:81\", key-name = \"k\", key-file = \"/etc/k\""),
    ("virtual-service.tls", "acme = \"some\", names = [\"a.example.org\"]"),
    (
        "alerts.email",
        "server = \"mail.example.org:587\", from = \"a@example.org\", to = [\"b@example.org\"], username = \"u\", password-file = \"/etc/p\"",
    ),
    ("alerts.snmp", "agentx = \"192.0.2.8:81\""),
    ("alerts.syslog", "server = \"log.example.org:514\""),
    ("pool.discover[http]", "url = \"https://example.org/first\""),
    ("virtual-service.discover[http]", "url = \"https://example.org/first\""),
    ("pool.discover[consul]", "url = \"https://example.org\", service = \"web\""),
    ("virtual-service.discover[consul]", "url = \"https://example.org\", service = \"web\""),
    ("alerts.webhook", "url = \"https://example.org/hook\""),
    ("virtual-service.tls", "certificates = [\"/etc/first.pem\"]"),
    ("virtual-service.tls.client-auth", "ca = \"/etc/first.pem\""),
    ("virtual-service.route", "deny = { status = 404 }"),
    ("virtual-service.route.count", "table = \"t\", number = \"number-2\""),
    ("virtual-service.route.basic-auth", "users = \"/etc/users\""),
    ("virtual-service.answer-route", "set-header = { X-First = \"1\" }"),
    ("virtual-service.protection", "new-connections = \"9/9s\""),
];

/// Values of a kind, each with the names of the keys inside it that it tries.
fn values(kind: &ValueKind, at: &str) -> Vec<(String, String)> {
    let here = |all: &[&str]| all.iter().map(|v| (at.to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    match kind {
        ValueKind::Text { .. } => here(&[
            "\"some\"",
            "\"{path}\"",
            "\"/some\"",
            "\"a@example.org\"",
            "\"eth0\"",
            "\"0a0b\"",
            "\"https://example.org/some\"",
            "\"example.org:99\"",
            "\"192.0.2.9:705\"",
            "\"http://example.org/some\"",
            "\"http://example.org\"",
            "\"http://example.org:3128\"",
            "\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g some\"",
        ]),
        ValueKind::Name => here(&["\"other\"", "\"t\"", "\"w2\"", "\"some\""]),
        ValueKind::Flag => here(&["true", "false"]),
        ValueKind::Integer { min, max } => {
            let numbers = [7, *min, *max, min + 1, max - 1];
            numbers
                .iter()
                .filter(|n| (min..=max).contains(n))
                .map(|n| (at.to_owned(), n.to_string()))
                .collect()
        }
        ValueKind::Duration { .. } => here(&["\"7s\"", "\"700ms\"", "\"7ms\"", "\"7m\"", "\"7h\"", "\"2d\""]),
        ValueKind::Size { .. } => here(&["\"7MiB\"", "\"70KiB\"", "\"3GiB\"", "\"7KiB\"", "\"70MiB\""]),
        ValueKind::Choice(words) => words.iter().map(|w| (at.to_owned(), format!("{:?}", w.word))).collect(),
        ValueKind::Listen => here(&["\"127.0.0.1:19999\""]),
        ValueKind::Vip => here(&["\"192.0.2.7:99\""]),
        ValueKind::Network => here(&["\"192.0.2.0/24\"", "\"192.0.2.77/32\""]),
        ValueKind::NetworkOrFile => here(&["\"192.0.2.0/24\"", "\"/etc/some.list\""]),
        ValueKind::File => here(&["\"/etc/some.pem\""]),
        ValueKind::Statuses => here(&["\"201-299\"", "\"204\""]),
        ValueKind::HttpPath => here(&["\"/some\""]),
        ValueKind::Token => here(&["\"X-Some\"", "\"last\""]),
        ValueKind::ServerName => here(&["\"some.example\"", "\"{host}\"", "\"{sni}\""]),
        ValueKind::Server => here(&["\"192.0.2.8:81\""]),
        ValueKind::Condition => here(&["'method(\"GET\")'", "'source(\"192.0.2.0/24\")'"]),
        ValueKind::Template => here(&["\"{source}\"", "\"some\"", "\"{path}\""]),
        ValueKind::Rate => here(&["\"7/3s\""]),
        ValueKind::Sample => here(&["\"1,3-4:10\""]),
        ValueKind::Address => here(&["\"192.0.2.9\""]),
        ValueKind::Ports => here(&["\"10000-20000\"", "\"2000-3000\""]),
        ValueKind::Source => here(&["\"192.0.2.3\"", "\"client\""]),
        ValueKind::AccessLog => here(&["\"/var/log/some.log\"", "\"stdout\""]),
        ValueKind::LogFormat => here(&["\"json\""]),
        ValueKind::CertificateNames => here(&["[\"www.example.org\"]", "\"routes\""]),
        ValueKind::Map(kind) => {
            let mut all = wrapped(values(kind, at), "{ X-Some = ", " }");
            all.extend(wrapped(values(kind, at), "{ 503 = ", " }"));
            all
        }
        ValueKind::List(kind) => wrapped(values(kind, at), "[", "]"),
        ValueKind::Table(table) => tables(table.keys, at, ""),
        ValueKind::Tables(table) => wrapped(tables(table.keys, at, ""), "[", "]"),
        ValueKind::Typed(variants) => variants
            .iter()
            .flat_map(|v| tables(v.keys, &format!("{at}[{}]", v.word), &format!("type = {:?}", v.word)))
            .collect(),
    }
}

fn wrapped(all: Vec<(String, String)>, before: &str, after: &str) -> Vec<(String, String)> {
    all.into_iter().map(|(at, value)| (at, format!("{before}{value}{after}"))).collect()
}

/// Inline tables with each of the keys in turn, beside those that must be there.
fn tables(keys: &[Key], at: &str, first: &str) -> Vec<(String, String)> {
    let required: Vec<(&str, String)> = keys
        .iter()
        .filter(|k| k.required)
        .filter_map(|k| Some((k.name, format!("{} = {}", k.name, values(&k.kind, "").first()?.1))))
        .collect();
    let mut besides = vec![required];
    let key_of = |part: &'static str| (part.split(' ').next().unwrap_or(""), part.to_owned());
    let more = BESIDE.iter().filter(|(table, _)| *table == at);
    besides.extend(more.map(|(_, text)| text.split(", ").map(key_of).collect()));
    let mut all = Vec::new();
    for beside in &besides {
        let parts = |but: &str| {
            let others = beside.iter().filter(|(name, _)| *name != but).map(|(_, text)| text.clone());
            Some(first.to_owned()).filter(|f| !f.is_empty()).into_iter().chain(others).collect::<Vec<_>>()
        };
        all.push((at.to_owned(), format!("{{ {} }}", parts("").join(", "))));
        for key in keys {
            for (at, value) in values(&key.kind, &format!("{at}.{}", key.name)) {
                let mut parts = parts(key.name);
                parts.push(format!("{} = {value}", key.name));
                all.push((at, format!("{{ {} }}", parts.join(", "))));
            }
        }
    }
    all
}

/// The file with a key in a table, instead of the one that may be there.
fn with(file: &str, table: &str, key: &str, value: &str, occurrence: usize) -> Option<String> {
    let marker = format!("# {table}\n");
    let at = file.match_indices(&marker).nth(occurrence)?.0;
    let start = file[..at].rfind("\n[").map_or(0, |i| i + 1);
    let line = format!("{key} = ");
    let before: String = file[start..at].split_inclusive('\n').filter(|l| !l.starts_with(&line)).collect();
    let header = if ROOT.keys.iter().any(|k| k.name == table && matches!(k.kind, ValueKind::Table(_)))
        && !file.contains(&format!("[{table}]"))
    {
        format!("[{table}]\n")
    } else {
        String::new()
    };
    let rest = &file[at + marker.len()..];
    Some(format!("{}{before}{header}{key} = {value}\n{rest}", &file[..start]))
}

/// Tables of the file by what leads to them.
fn places(keys: &'static [Key], before: &str, found: &mut Vec<(String, &'static Table)>) {
    for key in keys {
        let path = if before.is_empty() { key.name.to_owned() } else { format!("{before}.{}", key.name) };
        match &key.kind {
            ValueKind::Table(table) if before.is_empty() => found.push((path, table)),
            ValueKind::Tables(table) if key.name != "route" && key.name != "answer-route" => {
                found.push((path.clone(), table));
                places(table.keys, &path, found);
            }
            _ => {}
        }
    }
}

/// What of a key was seen: it can be written, it changes what is read, a plan speaks of it.
#[derive(Default)]
struct Seen {
    read: bool,
    differs: bool,
    silent: Option<String>,
    refused: String,
}

#[test]
fn every_key_has_an_effect_and_a_plan_speaks_of_it() {
    let mut all = Vec::new();
    places(ROOT.keys, "", &mut all);
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for file in FILES {
        let base = read(file).unwrap_or_else(|p| panic!("{p:?}"));
        for (path, table) in &all {
            for key in table.keys {
                for (at, value) in values(&key.kind, &format!("{path}.{}", key.name)) {
                    let seen = seen.entry(at).or_default();
                    for text in (0..2).filter_map(|n| with(file, path, key.name, &value, n)) {
                        let new = match read(&text) {
                            Ok(new) => new,
                            Err(problems) => {
                                let why = problems.iter().map(|p| p.message.clone());
                                seen.refused = format!("{value}: {}", why.collect::<Vec<_>>().join("; "));
                                continue;
                            }
                        };
                        seen.read = true;
                        if new == base {
                            continue;
                        }
                        if !seen.differs {
                            let formatted = format(&text).unwrap_or_else(|p| panic!("{text}: {p:?}"));
                            assert_eq!(
                                read(&formatted).as_ref(),
                                Ok(&new),
                                "fmt changes what it means: {text}"
                            );
                        }
                        seen.differs = true;
                        let plan = plan(&base, &new);
                        let vague = |s: &&crate::PlanStep| {
                            s.detail.is_empty() && s.action == "change" && !s.subject.starts_with('[')
                        };
                        if plan.steps.is_empty() || plan.steps.iter().any(|s| vague(&s)) {
                            seen.silent = Some(format!("{value}: {plan}"));
                        }
                    }
                }
            }
        }
    }
    let mut problems = BTreeSet::new();
    for (at, seen) in &seen {
        if UNSEEN.contains(&at.as_str()) {
            assert!(!seen.differs, "{at} is seen: take it off the list");
        } else if let Some(plan) = &seen.silent {
            problems.insert(format!("{at}: the plan is silent: {plan}"));
        } else if !seen.read {
            problems.insert(format!("{at}: never accepted: {}", seen.refused));
        } else if !seen.differs {
            problems.insert(format!("{at}: no effect"));
        }
    }
    assert!(seen.len() > 300, "{}", seen.len());
    assert!(problems.is_empty(), "{}", problems.into_iter().collect::<Vec<_>>().join("\n"));
}

/// What a service with `tls = { … }` and these lines before it wants, or the problems.
fn managed(before: &str, tls: &str) -> Result<Vec<String>, String> {
    let text = format!(
        "[[virtual-service]]\nname = \"w\"\nvip = [\"192.0.2.1:443\"]\nmode = \"http\"\ntls = {{ {tls} }}\n\
         [[virtual-service.route]]\nwhen = 'host(\"B.example.org\", \"a.example.org\", \"*.c.org\") && !host(\"d.org\")'\ndeny = {{}}\n\
         [[virtual-service.real-server]]\nname = \"m1\"\naddress = \"192.0.2.20:80\"\n{before}"
    );
    let problems =
        |all: Vec<crate::Problem>| all.iter().map(|p| p.message.clone()).collect::<Vec<_>>().join("; ");
    let snapshot = read(&text).map_err(problems)?;
    let managed = snapshot.services[0].tls.as_ref().and_then(|tls| tls.managed.clone()).ok_or("nothing")?;
    assert!(
        snapshot.authorities.iter().any(|a| a.name == managed.authority && a.directory.starts_with("https:"))
    );
    Ok(managed.names)
}

#[test]
fn what_is_ordered_for_a_service() {
    let wanted = managed(
        "",
        "acme = \"letsencrypt\", names = [\"WWW.example.org.\", \"192.0.2.1\", \"www.example.org\"]",
    );
    assert_eq!(wanted.unwrap(), ["192.0.2.1", "www.example.org"]);
    let wanted = managed("", "acme = \"letsencrypt-staging\", names = \"routes\"");
    assert_eq!(wanted.unwrap(), ["a.example.org", "b.example.org"]);
    let hook = "[[acme]]\nname = \"ours\"\ndirectory = \"https://ca/d\"\ndns = { type = \"hook\", command = \"/h\" }";
    assert_eq!(managed(hook, "acme = \"ours\", names = [\"*.example.org\"]").unwrap(), ["*.example.org"]);
    for (before, tls, why) in [
        ("", "acme = \"letsencrypt\", names = []", "no name to order"),
        ("", "acme = \"letsencrypt\", names = [\"localhost\"]", "no name that a certificate can have"),
        ("", "acme = \"letsencrypt\", names = [\"*.example.org\"]", "by dns-01 only"),
        ("", "acme = \"letsencrpyt\", names = [\"a.org\"]", "no authority named letsencrpyt"),
        ("", "certificates = [\"/a\"], names = [\"a.org\"]", "no authority is named"),
        ("[[acme]]\nname = \"x\"", "certificates = [\"/a\"]", "no directory of an authority"),
        (
            "[[acme]]\nname = \"zerossl\"\n[[acme]]\nname = \"zerossl\"",
            "certificates = [\"/a\"]",
            "a second [[acme]]",
        ),
        (
            "[[acme]]\nname = \"zerossl\"\nchallenges = [\"dns-01\"]",
            "certificates = [\"/a\"]",
            "somebody who writes records",
        ),
    ] {
        let problems = managed(before, tls).unwrap_err();
        assert!(problems.contains(why), "{problems} instead of {why}");
    }
}

#[test]
fn a_version_of_tls_is_left_to_speak() {
    let with = |keys: &str| {
        let text = format!(
            "[[virtual-service]]\nname = \"s\"\nvip = [\"192.0.2.1:443\"]\nmode = \"http\"\ntls = {{ certificates = [\"/a\"], {keys} }}\n[[virtual-service.real-server]]\nname = \"n\"\naddress = \"192.0.2.2:80\"\n"
        );
        read(&text).map_err(|problems| problems.iter().map(|p| p.message.clone()).collect::<String>())
    };
    for good in ["max-version = \"1.2\"", "min-version = \"1.2\", max-version = \"1.3\", policy = \"modern\""]
    {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in ["min-version = \"1.3\", max-version = \"1.2\"", "policy = \"modern\", max-version = \"1.2\""]
    {
        assert!(with(bad).unwrap_err().contains("no version of TLS"), "{bad}");
    }
}

/// Each change of `client-auth` says who comes in, and what becomes of those who are in.
#[test]
fn plans_say_who_comes_in_by_certificate() {
    let with = |mode: &str, auth: &str| {
        let text = format!(
            "[[pool]]\nname = \"p\"\n[[pool.real-server]]\nname = \"n\"\naddress = \"192.0.2.2:80\"\n\
             [[virtual-service]]\nname = \"s\"\nvip = [\"192.0.2.1:443\"]\nmode = \"{mode}\"\npool = \"p\"\n\
             tls = {{ certificates = [\"/a.pem\"]{auth} }}\n"
        );
        read(&text).unwrap()
    };
    let auth = |keys: &str| format!(", client-auth = {{ {keys} }}");
    let a = auth("ca = \"/a\"");
    let cuts = "(connections over it may be cut: commit with a time to confirm)";
    let new_ones = "(new connections follow the new rule, established ones finish)";
    let held = "the next request of a connection that is open is held against it too, and who may no longer come in gets a 421; no TLS session from before is resumed";
    let check = |old: &str, new: &str, sign: char, words: &str, narrows: bool| {
        let expect = |rest: &str, impact: &str| {
            format!("{sign} client-auth of virtual service s: {words}; {rest}  {impact}\n")
        };
        let step = |mode| {
            let plan = plan(&with(mode, old), &with(mode, new)).to_string();
            plan.lines()
                .filter(|line| line.contains(" client-auth of "))
                .map(|line| format!("{line}\n"))
                .collect()
        };
        let found: String = step("http");
        let (rest, impact) =
            if narrows { (held, cuts) } else { ("no TLS session from before is resumed", new_ones) };
        assert_eq!(found, expect(rest, impact));
        let found: String = step("tcp");
        let stay = "connections that are open stay until they end; no TLS session from before is resumed";
        assert_eq!(found, expect(if narrows { stay } else { rest }, new_ones));
    };
    check("", &a, '+', "only clients with a certificate of /a are let in", true);
    let optional = auth("ca = \"/a\", mode = \"optional\"");
    let may = "clients may show a certificate of /a: without one they are let in, with a bad one not";
    check("", &optional, '+', may, true);
    check(&a, "", '-', "every client is let in, and none is asked for a certificate", false);
    check(&a, &optional, '~', "clients without a certificate are let in too", false);
    check(&optional, &a, '~', "clients without a certificate are refused", true);
    let other = auth("ca = \"/b\"");
    check(&a, &other, '~', "certificates of /b are let in, those of /a no longer", true);
    let [one, two] = ["/c", "/d"].map(|crl| auth(&format!("ca = \"/a\", crl = \"{crl}\"")));
    check(&a, &one, '~', "what /c revokes is refused", true);
    check(&one, &two, '~', "what /d revokes is refused, no longer /c", true);
    check(&two, &a, '~', "what /d revokes is let in", false);
    let ignore = auth("ca = \"/a\", ignore = [\"expired\", \"revoked\"]");
    let faults = "certificates are let in in spite of expired, revoked: routes have to ask for it";
    check(&a, &ignore, '~', faults, false);
    check(&ignore, &a, '~', "certificates are refused for expired, revoked", true);
    let all = auth("ca = \"/a\", crl = \"/c\", ignore = [\"expired\"]");
    let words = "only clients with a certificate of /a are let in; what /c revokes is refused; certificates are let in in spite of expired: routes have to ask for it";
    check("", &all, '+', words, true);
    // What servers are told changes nothing about who comes in.
    let untold = auth("ca = \"/a\", headers = false");
    let found = plan(&with("http", &a), &with("http", &untold)).to_string();
    assert!(found.contains("real servers are no longer told who the client is  (new"), "{found}");
    let other_keys = plan(&with("http", &a), &with("http", &format!("{a}, strict-sni = true"))).to_string();
    assert!(other_keys.contains("~ virtual service s: tls changes"), "{other_keys}");
    assert!(!other_keys.contains("client-auth"), "{other_keys}");
}

#[test]
fn send_proxy_values() {
    let with = |keys: &str| {
        let text = format!(
            "[[pool]]\nname = \"p\"\n{keys}\n[[pool.real-server]]\nname = \"n\"\naddress = \"192.0.2.2:80\"\n\
             [[virtual-service]]\nname = \"s\"\nvip = [\"192.0.2.1:80\"]\nmode = \"http\"\npool = \"p\"\n"
        );
        read(&text).map_err(|problems| problems.iter().map(|p| p.message.clone()).collect::<String>())
    };
    let base = with("send-proxy = \"v2\"").unwrap();
    let new = with("send-proxy = \"v2\"\nsend-proxy-values = { 0xE1 = \"{header:X-A}\" }").unwrap();
    let plan = plan(&base, &new).to_string();
    assert!(plan.contains("send-proxy-values"), "{plan}");
    for (keys, why) in [
        ("send-proxy-values = { 0xE1 = \"a\" }", "needs send-proxy"),
        ("send-proxy = \"v1\"\nsend-proxy-values = { 0xE1 = \"a\" }", "needs send-proxy"),
        ("send-proxy = \"v2\"\nsend-proxy-values = { 503 = \"a\" }", "no kind"),
    ] {
        let problems = with(keys).unwrap_err();
        assert!(problems.contains(why), "{problems} instead of {why}");
    }
}

/// What a large file has in common with the running one is in memory once, and no step of a plan.
#[test]
fn what_stays_is_the_running_allocation() {
    let text = |weight: u32, vip: u32| {
        let services = (0..20).map(|n| {
            let (weight, vip) = (if n == 7 { weight } else { 100 }, if n == 9 { vip } else { 80 });
            format!(
                "[[virtual-service]]\nname = \"s{n}\"\nvip = [\"10.0.0.{n}:{vip}\"]\nmode = \"http\"\n[[virtual-service.real-server]]\nname = \"r\"\naddress = \"10.1.0.{n}:80\"\nweight = {weight}\n"
            )
        });
        services.collect::<String>()
    };
    let running = read(&text(100, 80)).unwrap();
    let mut next = read(&text(70, 81)).unwrap();
    next.share(&running);
    let one = |same: bool| usize::from(same);
    let pools = next.pools.iter().zip(&running.pools).map(|(a, b)| one(Arc::ptr_eq(a, b)));
    let services = next.services.iter().zip(&running.services).map(|(a, b)| one(Arc::ptr_eq(a, b)));
    assert_eq!((pools.sum::<usize>(), services.sum::<usize>()), (19, 19));
    assert_eq!(next, read(&text(70, 81)).unwrap(), "it says what the text says");
    let subjects: Vec<String> = plan(&running, &next).steps.into_iter().map(|step| step.subject).collect();
    assert_eq!(subjects, ["real server s7/r", "virtual service s9", "virtual service s9"]);
}
