//! Lists of servers from sources that tests play: files in YAML, HTTPS, Docker's socket, Consul, real name
//! servers; and pools whose servers differ.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_testbed::{Authority, Evenkeel, Place, Process, Scripted, eventually, get, read_head, require};

use crate::discovery::{Mood, NameServer, events, resolver, serves};
use crate::layer4::Lab;
use crate::{service, start};

const LONG: Duration = Duration::from_secs(60);

/// A service on 8000 whose servers are all of lists.
fn listed(place: &Place, discover: &str) -> String {
    resolver(place.at(5300))
        + &service("web", "http", place.at(8000), &[], &format!("discover = [{discover}]"))
}

/// A source that was there fails, empties and halves: what it said last stays, and alerts say why.
fn keeps_its_servers(evenkeel: &Evenkeel, place: &Place, set: &dyn Fn(Option<Vec<SocketAddr>>)) {
    let all = [place.at(9000), place.at(9001), place.at(9002)];
    let count = |evenkeel: &Evenkeel| evenkeel.service("web")["real-servers"].as_array().map_or(0, Vec::len);
    set(Some(all.to_vec()));
    eventually("all three are there", LONG, || count(evenkeel) == 3);
    for (said, why) in [
        (Some(Vec::new()), "it has 0 servers, and at-least is 1"),
        (Some(vec![all[0]]), "it has 1 server, and had 3"),
        (None, "is not taken"),
    ] {
        set(said);
        eventually(why, LONG, || latest(evenkeel).contains(why));
        assert_eq!(count(evenkeel), 3, "{why}");
        assert_eq!(get(place.at(8000), "/").status, 200);
        set(Some(all.to_vec()));
        eventually("it is used again", LONG, || latest(evenkeel).contains("is used again"));
    }
    // Less than half is taken when it stays.
    set(Some(all[..2].to_vec()));
    eventually("one left its list", LONG, || count(evenkeel) == 2);
}

/// What was told last of a list.
fn latest(evenkeel: &Evenkeel) -> String {
    let all = evenkeel.json(&["events"]);
    let mut texts = all.as_array().into_iter().flatten().filter_map(|e| e["text"].as_str());
    texts.find(|text| text.contains("the list ")).unwrap_or_default().to_owned()
}

/// Three web servers on the ports of lists.
fn three(place: &Place) -> Vec<Scripted> {
    (0..3).map(|n| Scripted::named(place.at(9000 + n), &format!("s{n}"))).collect()
}

#[test]
fn a_list_in_yaml_is_followed() {
    let place = Place::new("discovered-yaml");
    let _servers = three(&place);
    let file = place.write("list.yml", format!("- targets: ['{}']\n", place.at(9000)));
    let evenkeel = start(
        &place,
        &listed(&place, &format!("{{ type = \"file\", path = {file:?}, interval = \"200ms\" }}")),
    );
    assert_eq!(get(place.at(8000), "/").text(), "s0");
    keeps_its_servers(&evenkeel, &place, &|servers| {
        let each = |all: Vec<SocketAddr>| all.iter().map(|s| format!("'{s}'")).collect::<Vec<_>>().join(", ");
        // Moved into its place, as such files are.
        let text = servers.map_or("- targets: [".to_owned(), |all| {
            format!("# written elsewhere\n- targets: [{}]\n  labels:\n    weight: 7\n", each(all))
        });
        std::fs::rename(place.write("list.new", text), &file).unwrap();
    });
    assert_eq!(evenkeel.server("web", &place.at(9000).to_string())["weight"], 7);
}

#[test]
fn a_registry_over_https_is_followed_and_servers_differ_in_tls() {
    let place = Place::new("discovered-https");
    let _servers = three(&place);
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "registry.pem", &["registry.test"]);
    let said = Arc::new(Mutex::new(String::from("[]")));
    let now = said.clone();
    // In chunks, and only for who shows the token.
    let _registry = Scripted::start(place.at(9100), move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let body = now.lock().unwrap().clone();
            let known = head.contains("Bearer secret") || head.contains("bearer secret");
            let status = if known { "200 OK" } else { "401 No" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
            for part in body.as_bytes().chunks(7) {
                let _ = write!(stream, "{:x}\r\n", part.len());
                let _ = stream.write_all(part).and_then(|()| stream.write_all(b"\r\n"));
            }
            let _ = stream.write_all(b"0\r\n\r\n");
        }
    });
    let hosts = place.write("hosts", format!("{} registry.test\n", place.at(1).ip()));
    let token = place.write("token", "secret\n");
    // The registry's TLS is another service of the same program; it is a server of `mixed` as well.
    let tls = format!("tls = {{ certificates = [{pem:?}] }}");
    let registry = service("registry", "http", place.at(8443), &[place.at(9100)], &tls);
    let discover = format!(
        "{{ type = \"http\", url = \"https://registry.test:8443/sd\", ca = {:?}, token-file = {token:?}, interval = \"200ms\" }}",
        ca.file
    );
    let mixed = format!(
        "[[virtual-service]]\nname = \"mixed\"\nvip = [\"{}\"]\nmode = \"http\"\nserver-tls = {{ ca = {:?} }}\n  [[virtual-service.real-server]]\n  name = \"secure\"\n  address = \"registry.test:8443\"\n  [[virtual-service.real-server]]\n  name = \"plain\"\n  address = \"{}\"\n  server-tls = {{ enabled = false }}\n",
        place.at(8001),
        ca.file,
        place.at(9000),
    );
    let config = listed(&place, &discover).replace("hosts = \"/dev/null\"", &format!("hosts = {hosts:?}"));
    let evenkeel = start(&place, &format!("{config}{registry}{mixed}"));
    keeps_its_servers(&evenkeel, &place, &|servers| {
        let text = servers.map_or("nonsense".to_owned(), |all| {
            let each: Vec<String> = all.iter().map(ToString::to_string).collect();
            serde_json::json!([{ "targets": each }]).to_string()
        });
        *said.lock().unwrap() = text;
    });
    // Both servers of the mixed pool answer, the one over TLS with what the registry says without a token.
    let (mut plain, mut secure) = (false, false);
    eventually("both kinds of servers answer", LONG, || {
        let answer = get(place.at(8001), "/");
        plain |= answer.text() == "s0";
        secure |= answer.status == 401;
        plain && secure
    });
    // Another authority is not believed.
    let other = Authority::new(&place, "other");
    let text = std::fs::read_to_string(evenkeel.config_path()).unwrap();
    let list = format!("ca = {:?}, token-file", ca.file);
    let text = text.replace(&list, &format!("ca = {:?}, token-file", other.file));
    let next = place.write("next.toml", text);
    evenkeel.ok(&["commit", &next.display().to_string()]);
    eventually("the refusal is told of", LONG, || {
        events(&evenkeel).to_ascii_lowercase().contains("certificate")
    });
    assert_eq!(get(place.at(8000), "/").status, 200);
}

#[test]
fn containers_are_followed_over_dockers_socket() {
    let place = Place::new("discovered-docker");
    let _servers = three(&place);
    let socket = place.file("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let said = Arc::new(Mutex::new(String::from("[]")));
    let (now, asked) = (said.clone(), Arc::new(Mutex::new(String::new())));
    let questions = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            *questions.lock().unwrap() = String::from_utf8_lossy(&head).into_owned();
            let body = now.lock().unwrap().clone();
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.0 200 OK\r\nApi-Version: 1.43\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
    });
    let discover = format!(
        "{{ type = \"docker\", socket = {socket:?}, label = \"evenkeel.pool=web\", network = \"back\", interval = \"200ms\" }}"
    );
    let evenkeel = start(&place, &listed(&place, &discover));
    keeps_its_servers(&evenkeel, &place, &|servers| {
        let container = |(n, at): (usize, &SocketAddr)| {
            serde_json::json!({
                "Id": format!("{n}f"), "Names": [format!("/web-{n}")], "State": "running", "Status": "Up 5 minutes (healthy)",
                "Labels": { "evenkeel.pool": "web", "evenkeel.port": at.port().to_string() },
                "NetworkSettings": { "Networks": { "back": { "IPAddress": at.ip().to_string() } } },
            })
        };
        let text = servers.map_or("nonsense".to_owned(), |all| {
            serde_json::Value::from(all.iter().enumerate().map(container).collect::<Vec<_>>()).to_string()
        });
        *said.lock().unwrap() = text;
    });
    let asked = asked.lock().unwrap().clone();
    assert!(asked.starts_with("GET /containers/json?filters=%7B%22"), "{asked}");
    assert!(asked.contains("evenkeel%2Epool%3Dweb") && asked.contains("running"), "{asked}");
}

#[test]
fn a_service_of_consul_is_followed() {
    let place = Place::new("discovered-consul");
    let _servers = three(&place);
    // The state and its number: a question with that number waits for the next one.
    let state = Arc::new((Mutex::new((1u64, String::from("[]"))), std::sync::Condvar::new()));
    let now = state.clone();
    let _consul = Scripted::start(place.at(8500), move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let first = head.lines().next().unwrap_or_default();
            assert!(first.starts_with("GET /v1/health/service/web?stale&passing=1&tag=blue"), "{first}");
            let index =
                first.split("&index=").nth(1).and_then(|rest| rest.split(['&', ' ']).next()?.parse().ok());
            let (lock, changed) = &*now;
            let state = lock.lock().unwrap();
            let waits = |state: &mut (u64, String)| index == Some(state.0);
            let (state, _) = changed.wait_timeout_while(state, Duration::from_secs(2), waits).unwrap();
            let (number, body) = state.clone();
            drop(state);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nX-Consul-Index: {number}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let discover = format!(
        "{{ type = \"consul\", url = \"http://{}\", service = \"web\", tag = \"blue\", interval = \"2s\" }}",
        place.at(8500)
    );
    let evenkeel = start(&place, &listed(&place, &discover));
    keeps_its_servers(&evenkeel, &place, &|servers| {
        let instance = |at: &SocketAddr| {
            serde_json::json!({
                "Node": { "Address": "192.0.2.1" },
                "Service": { "ID": format!("web-{at}"), "Service": "web", "Address": at.ip().to_string(), "Port": at.port(), "Weights": { "Passing": 1, "Warning": 1 } },
            })
        };
        let text = servers.map_or("nonsense".to_owned(), |all| {
            serde_json::Value::from(all.iter().map(instance).collect::<Vec<_>>()).to_string()
        });
        let (lock, changed) = &*state;
        let mut state = lock.lock().unwrap();
        let next = state.0 + 1;
        *state = (next, text);
        drop(state);
        changed.notify_all();
    });
    let found = evenkeel.server("web", &place.at(9000).to_string());
    assert!(found["found-in"].as_str().unwrap().starts_with("consul http://"), "{found}");
}

#[test]
fn names_that_are_new_in_a_commit_are_known_when_it_is_made() {
    let (place, other) = (Place::new("discovered-commit"), Place::new("discovered-commit-other"));
    let (a, b) = (place.at(9000), other.at(9000));
    let _servers = [Scripted::named(a, "a"), Scripted::named(b, "b")];
    let dns = NameServer::start(place.at(5300), Mood::Says(vec![b.ip()]));
    let config = resolver(place.at(5300)) + &service("web", "http", place.at(8000), &[a], "");
    let evenkeel = start(&place, &config);
    assert_eq!(get(place.at(8000), "/").text(), "a");
    let named = config.replace(&a.to_string(), "b.test:9000");
    evenkeel.commit(&place, &named);
    assert_eq!(evenkeel.server("web", "s1")["address"], b.to_string());
    for _ in 0..5 {
        assert_eq!(get(place.at(8000), "/").text(), "b");
    }
    // Who is never answered is waited for no longer than that, and the rest of the commit is made.
    dns.becomes(Mood::Silent, 0);
    let silent =
        format!("{named}  [[virtual-service.real-server]]\n  name = \"s2\"\n  address = \"c.test:9000\"\n");
    evenkeel.commit(&place, &silent);
    assert_eq!(evenkeel.server("web", "s2")["state"], "down");
    assert_eq!(get(place.at(8000), "/").text(), "b");
    // What is wrong is said at once.
    let bad =
        place.write("bad.toml", Evenkeel::complete(&place, &silent.replace("s2\"", "s2\"\n  weigth = 1")));
    assert_eq!(evenkeel.cli(&["commit", &bad.display().to_string()]).code, 78);
}

/// A name server for `internal`, whose zone a test writes.
fn knot(place: &Place, at: SocketAddr, records: &str) -> Process {
    let folder = place.folder().display().to_string();
    place.write(
        "zones/internal.zone",
        format!(
            "$ORIGIN internal.\n$TTL 1\n@ SOA ns admin 1 3600 600 86400 1\n@ NS ns\nns A {}\n{records}",
            at.ip()
        ),
    );
    std::fs::create_dir_all(place.file("db")).unwrap();
    let config = place.write(
        "knot.conf",
        format!(
            "server:\n  rundir: {folder}\n  listen: {}@{}\ndatabase:\n  storage: {folder}/db\nlog:\n  - target: stderr\n    any: info\n\
             zone:\n  - domain: internal\n    storage: {folder}/zones\n    file: internal.zone\n",
            at.ip(),
            at.port()
        ),
    );
    let log = std::fs::File::create(place.file("knot.log")).unwrap();
    let process =
        Process::start(Command::new("knotd").arg("-c").arg(config).stdout(Stdio::null()).stderr(log));
    eventually("the name server runs", LONG, || {
        std::fs::read_to_string(place.file("knot.log")).unwrap_or_default().contains("server started")
    });
    process
}

#[test]
fn srv_records_of_a_real_name_server_are_servers() {
    if !require(&["knotd"]) {
        return;
    }
    let (place, other) = (Place::new("discovered-srv"), Place::new("discovered-srv-other"));
    let (a, b) = (place.at(9000), other.at(9001));
    let _servers = [Scripted::named(a, "a"), Scripted::named(b, "b")];
    let records = format!(
        "a A {}\nb A {}\n_http._tcp SRV 10 60 9000 a\n_http._tcp SRV 20 5 9001 b\nmany SRV 0 1 9000 a\n{}",
        a.ip(),
        b.ip(),
        // So many that they are cut off over UDP.
        (0..100).map(|n| format!("many SRV 0 1 {} a\n", 20_000 + n)).collect::<String>()
    );
    let _knot = knot(&place, place.at(5300), &records);
    let discover = "{ type = \"dns-srv\", name = \"_http._tcp.internal\" }";
    let evenkeel = start(&place, &listed(&place, discover));
    serves(&place, "a");
    let first = evenkeel.server("web", "a.internal:9000");
    assert_eq!(
        (&first["weight"], &first["backup"], &first["address"]),
        (&60.into(), &false.into(), &a.to_string().into())
    );
    let second = evenkeel.server("web", "b.internal:9001");
    assert_eq!((&second["weight"], &second["backup"]), (&5.into(), &true.into()));
    // Its backup takes over.
    evenkeel.ok(&["halt", "web/a.internal:9000"]);
    serves(&place, "b");
    let all = listed(&place, "{ type = \"dns-srv\", name = \"many.internal\" }");
    evenkeel.commit(&place, &all);
    eventually("all of a long answer are there", LONG, || {
        evenkeel.service("web")["real-servers"].as_array().map(Vec::len) == Some(101)
    });
}

#[test]
fn servers_of_layer_4_have_names() {
    let Some(mut lab) = Lab::new("discovered-layer4", false) else { return };
    let hosts = lab.place.write("hosts", "10.77.0.11 s1.test\n10.78.0.11 b.test\n10.77.0.12 s2.test\n");
    let resolver = format!(
        "[resolver]\nhosts = {hosts:?}\nresolv-conf = \"/dev/null\"\ntimeout = \"200ms\"\nretries = 0\nmax-ttl = \"200ms\"\nmin-ttl = \"100ms\"\nhold = {{ obsolete = \"0s\" }}\n"
    );
    let services = [
        crate::layer4::service("snat", "10.77.0.101:80", "snat", "", &[("s1", "s1.test:8080")]),
        crate::layer4::service("nat", "10.77.0.105:80", "nat", "", &[("b", "b.test:8080")]),
    ]
    .concat();
    let config = lab.config(&resolver, &services);
    lab.start(&config);
    lab.serves("c", "10.77.0.101", &["s1"], "10.77.0.1", 8080);
    lab.serves("c", "10.77.0.105", &["b1"], "10.77.0.2", 8080);
    // They move.
    lab.place.write("hosts", "10.77.0.12 s1.test\n10.78.0.12 b.test\n");
    let moved = |vip: &str, name: &str| {
        eventually(&format!("{name} answers at {vip}"), LONG, || {
            lab.curl("c", &format!("http://{vip}/"), &[]).out.starts_with(name)
        });
    };
    moved("10.77.0.101", "s2");
    moved("10.77.0.105", "b2");
    lab.serves("c", "10.77.0.101", &["s2"], "10.77.0.1", 8080);
    lab.serves("c", "10.77.0.105", &["b2"], "10.77.0.2", 8080);
    // One that is added at run time, too.
    let added = lab.cli(&["server", "add", "snat/x", "--address", "10.77.0.11:8080"]);
    assert_eq!(added.code, 0, "{added:?}");
    lab.serves("c", "10.77.0.101", &["s1", "s2"], "10.77.0.1", 8080);
    let other_family = lab.cli(&["server", "add", "snat/y", "--address", "[fd77::11]:8080"]);
    assert!(other_family.err.contains("not of one IP version"), "{other_family:?}");
    assert_eq!(lab.cli(&["server", "remove", "snat/x"]).code, 0);
    lab.serves("c", "10.77.0.101", &["s2"], "10.77.0.1", 8080);
}
