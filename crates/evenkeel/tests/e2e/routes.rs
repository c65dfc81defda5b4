//! Routes: which requests go where, what is changed on the way, who is refused.

use std::io::Write;
use std::time::{Duration, Instant};

use evenkeel_testbed::{Connection, Evenkeel, Place, Scripted, eventually, get, read_head};

use crate::{service, start};

/// Answers with its name and the head that it got.
fn telling(place: &Place, port: u16, name: &'static str) -> Scripted {
    Scripted::start(place.at(port), move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("POST /late") {
                std::thread::sleep(Duration::from_millis(300));
            }
            let body = format!("{name}\n{head}");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nServer: {name}\r\nX-Secret: 1\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    })
}

fn pool(place: &Place, name: &str, port: u16) -> String {
    format!(
        "[[pool]]\nname = \"{name}\"\nhealth-check = {{ type = \"none\" }}\n[[pool.real-server]]\nname = \"{name}1\"\naddress = \"{}\"\n",
        place.at(port)
    )
}

/// A service with one server at 9001, the pools `api` (9002) and `img` (9003), and routes.
fn with_routes(place: &Place, keys: &str, routes: &[&str]) -> String {
    let mut text = pool(place, "api", 9002) + &pool(place, "img", 9003);
    text += &service(
        "web",
        "http",
        place.at(8080),
        &[place.at(9001)],
        &format!("health-check = {{ type = \"none\" }}\n{keys}"),
    );
    for route in routes {
        text += &format!("[[virtual-service.route]]\n{route}\n");
    }
    text
}

fn servers(place: &Place) -> [Scripted; 3] {
    [telling(place, 9001, "web"), telling(place, 9002, "api"), telling(place, 9003, "img")]
}

fn ask(place: &Place, request: &str) -> evenkeel_testbed::Answer {
    let mut connection = Connection::open(place.at(8080));
    connection.send(format!("{request}\r\n\r\n"));
    let method = request.split(' ').next().unwrap_or("GET").to_owned();
    connection.answer_to(&method).unwrap_or_else(|| panic!("no answer to {request}"))
}

fn who(place: &Place, request: &str) -> String {
    ask(place, request).text().lines().next().unwrap_or("").to_owned()
}

#[test]
fn requests_go_where_the_first_route_that_holds_says() {
    let place = Place::new("routes-pools");
    let _servers = servers(&place);
    let evenkeel = start(
        &place,
        &with_routes(
            &place,
            "",
            &[
                "name = \"api\"\nwhen = 'path(\"/api/*\") && method(\"GET\", \"POST\")'\npool = \"api\"",
                "name = \"old\"\nwhen = 'host(\"old.example.org\")'\nredirect = { location = \"https://www.example.org{path}\", status = 301 }",
                "when = 'path(\"/api/v2/*\")'\npool = \"img\"",
                "when = 'header(\"X-To\", \"img\") || cookie(\"to\", \"img\") || query(\"to\", \"img\")'\npool = \"img\"",
            ],
        ),
    );
    assert_eq!(who(&place, "GET /api/v2/x HTTP/1.1\r\nHost: a"), "api", "the written order decides");
    assert_eq!(who(&place, "PUT /api/v2/x HTTP/1.1\r\nHost: a"), "img");
    assert_eq!(who(&place, "GET / HTTP/1.1\r\nHost: a"), "web");
    assert_eq!(who(&place, "GET / HTTP/1.1\r\nHost: a\r\nX-To: img"), "img");
    assert_eq!(who(&place, "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; to=img"), "img");
    assert_eq!(who(&place, "GET /?a=b&to=img HTTP/1.1\r\nHost: a"), "img");
    let moved = ask(&place, "GET /a/b?c=d HTTP/1.1\r\nHost: OLD.example.org:8080");
    assert_eq!((moved.status, moved.field("location")), (301, Some("https://www.example.org/a/b?c=d")));
    for other in ["/%61pi/x", "//api/x", "/./api/x", "/b/../api/x", "/api;a=b/x", "/b/..;/api/x"] {
        let answer = ask(&place, &format!("GET {other} HTTP/1.1\r\nHost: a"));
        let text = answer.text();
        assert!(text.starts_with("api\n") && text.contains(&format!("GET {other} HTTP/1.1")), "{text}");
    }
    assert_eq!(ask(&place, "GET /b%2Fapi HTTP/1.1\r\nHost: a").status, 400);
    assert_eq!(ask(&place, "GET / HTTP/1.1\r\nHost: OLD.example.org.:8080").status, 301);
    // One connection, three requests, three ways; and the pools' servers are counted apart.
    let mut connection = Connection::open(place.at(8080));
    assert!(connection.get("/api/a").text().starts_with("api"));
    assert!(connection.get("/").text().starts_with("web"));
    assert!(connection.get("/?to=img").text().starts_with("img"));
    let explained = evenkeel.ok(&[
        "explain",
        &format!("http://{}/api/v2/x", place.at(8080)),
        "-X",
        "PUT",
        "-H",
        "Host: a",
    ]);
    for line in [
        "- route api does not hold",
        "yes path(\"/api/*\")",
        "no  method(\"GET\", \"POST\")",
        "- route route-3 holds",
        "=> pool img",
        "=> img1",
    ] {
        assert!(explained.contains(line), "{line} in:\n{explained}");
    }
    let explained =
        evenkeel.ok(&["explain", &format!("http://{}/x", place.at(8080)), "-H", "Host: old.example.org"]);
    assert!(
        explained.contains("a route ends it: route old: redirect 301 to https://www.example.org/x"),
        "{explained}"
    );
}

#[test]
fn heads_are_changed_both_ways() {
    let place = Place::new("routes-heads");
    let _servers = servers(&place);
    let _evenkeel = start(
        &place,
        &with_routes(
            &place,
            "forwarded = [\"x-forwarded-for\", \"x-forwarded-host\", \"x-forwarded-port\", \"x-real-ip\", \"forwarded\"]",
            &[
                "set-header = { X-A = \"{method} {scheme} {port}\", X-B = \"gone\" }\nadd-header = { X-C = \"one\" }\nremove-header = [\"X-Internal-*\"]",
                "when = 'path(\"/shop/*/item/*\")'\nrewrite-path = \"/item/{2}\"\nrewrite-query = \"shop={1}&{query}\"\nset-header = { Host = \"shop.internal\", X-B = \"{1}\" }\nadd-header = { X-C = \"two\" }",
                "remove-response-header = [\"Server\"]\nset-response-header = { X-Secret = \"2\", X-From = \"{path}\" }",
            ],
        ),
    );
    let answer = ask(
        &place,
        "GET /shop/7/item/9?q=1 HTTP/1.1\r\nHost: shop.example\r\nX-A: forged\r\nX-internal-user: root\r\nX-Real-IP: 9.9.9.9\r\nX-B: x",
    );
    let text = answer.text();
    let port = place.at(8080).port();
    for line in [
        "GET /item/9?shop=7&q=1 HTTP/1.1\r\n".to_owned(),
        format!("X-A: GET http {port}\r\n"),
        "X-B: 7\r\n".into(),
        "X-C: one\r\n".into(),
        "X-C: two\r\n".into(),
        "Host: shop.internal\r\n".into(),
        "X-Forwarded-Host: shop.example\r\n".into(),
        format!("X-Forwarded-Port: {port}\r\n"),
        "proto=http;host=\"shop.example\"\r\n".into(),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
    for line in ["forged", "root", "9.9.9.9", "gone"] {
        assert!(!text.contains(line), "{line} in {text}");
    }
    assert_eq!(text.matches("Host:").count() - text.matches("-Host:").count(), 1, "{text}");
    assert_eq!(answer.field("server"), None);
    // A later route sees what an earlier one has made of the path.
    assert_eq!((answer.field("x-secret"), answer.field("x-from")), (Some("2"), Some("/item/9")));
}

#[test]
fn heads_may_grow_far() {
    let place = Place::new("routes-growth");
    let _servers = servers(&place);
    let long = "x".repeat(3000);
    let _evenkeel = start(
        &place,
        &with_routes(
            &place,
            "",
            &[&format!(
                "set-header = {{ X-Long = \"{long}\" }}\nset-response-header = {{ X-Long = \"{long}\" }}"
            )],
        ),
    );
    let answer = ask(&place, "GET / HTTP/1.1\r\nHost: a\r\nX-Own: 1");
    assert!(answer.text().contains(&format!("X-Long: {long}\r\n")));
    assert_eq!(answer.field("x-long"), Some(long.as_str()));
}

#[test]
fn this_program_answers_itself() {
    let place = Place::new("routes-answers");
    let _servers = servers(&place);
    let page = place.write("page.html", "<h1>Hello</h1>");
    let raw =
        place.write("503.http", "HTTP/1.0 503 No\r\nContent-Type: application/json\r\nX-Why: gone\r\nCache-Control: private\r\nContent-Length: 99\r\n\r\n{\"down\":true}");
    let silence = place.write("silence", "");
    let evenkeel = start(
        &place,
        &with_routes(
            &place,
            &format!(
                "max-body = \"1KiB\"\nerror-pages = {{ 403 = \"{}\", 503 = \"{}\", 418 = \"{}\" }}",
                page.display(),
                raw.display(),
                silence.display()
            ),
            &[
                &format!(
                    "when = 'path(\"/page\")'\nanswer = {{ status = 200, file = \"{}\" }}",
                    page.display()
                ),
                "when = 'path(\"/text\")'\nanswer = { body = \"hi\" }\nset-response-header = { X-Y = \"z\" }",
                "when = 'path(\"/no\")'\ndeny = {}",
                "when = 'path(\"/pit\")'\ntarpit = { delay = \"400ms\", status = 500 }",
                "when = 'path(\"/gone\")'\ndeny = { status = 410 }",
                "when = 'path(\"/silence\")'\ndeny = { status = 418 }",
                "when = 'path(\"/shut\")'\ndeny = { silent = true }",
                &format!(
                    "when = 'path(\"/typed\")'\nanswer = {{ file = \"{}\", content-type = \"text/x-own\" }}",
                    page.display()
                ),
            ],
        ),
    );
    let mut connection = Connection::open(place.at(8080));
    let page = connection.get("/page");
    assert_eq!((page.status, page.text().as_str()), (200, "<h1>Hello</h1>"));
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    let text = connection.get("/text");
    assert_eq!((text.text().as_str(), text.field("x-y")), ("hi", Some("z")));
    let denied = connection.get("/no");
    assert_eq!((denied.status, denied.text().as_str()), (403, "<h1>Hello</h1>"), "the page for its status");
    assert_eq!(connection.get("/gone").status, 410, "the connection is still good");
    for path in ["/silence", "/shut"] {
        let mut silent = Connection::open(place.at(8080));
        silent.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(silent.read_all(), b"", "{path} closes without a word");
    }
    assert_eq!(connection.get("/typed").field("content-type"), Some("text/x-own"));
    let started = Instant::now();
    assert_eq!(connection.get("/pit").status, 500);
    assert!(started.elapsed() >= Duration::from_millis(390));
    let head = ask(&place, "HEAD /page HTTP/1.1\r\nHost: a");
    assert_eq!((head.status, head.field("content-length")), (200, Some("14")));
    // Bodies: announced, and found to be too large on the way.
    let large = ask(&place, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000");
    assert_eq!(large.status, 413);
    let mut chunked = Connection::open(place.at(8080));
    chunked.send(format!(
        "POST /late HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n",
        900,
        "x".repeat(900)
    ));
    std::thread::sleep(Duration::from_millis(50));
    chunked.send(format!("{:x}\r\n{}\r\n0\r\n\r\n", 900, "x".repeat(900)));
    assert_eq!(chunked.answer().map(|a| a.status), Some(413));
    // A redirected upload: the answer comes, the connection ends.
    let mut upload = Connection::open(place.at(8080));
    upload.send("POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf");
    let answer = upload.answer().unwrap();
    assert_eq!((answer.status, answer.field("connection")), (403, Some("close")));
    drop(_servers);
    eventually("no server is left", Duration::from_secs(5), || {
        let down = ask(&place, "GET / HTTP/1.1\r\nHost: a");
        down.status == 503
            && down.text() == "{\"down\":true}"
            && down.field("content-type") == Some("application/json")
            && (down.field("x-why"), down.field("cache-control")) == (Some("gone"), Some("private"))
            && down.field("content-length") == Some("13")
    });
    assert_eq!(evenkeel.service("web")["state"], "down");
}

#[test]
fn clients_that_come_too_often_are_refused() {
    let place = Place::new("routes-limits");
    let _servers = servers(&place);
    let tables = pool(&place, "slow", 9004)
        + "[[table]]\nname = \"clients\"\nperiod = \"10s\"\n[[table]]\nname = \"keys\"\nkey = \"{header:X-Key}\"\n";
    let evenkeel = start(
        &place,
        &(tables
            + &with_routes(
                &place,
                "",
                &[
                    "track = \"clients\"",
                    "when = 'header(\"X-Key\")'\ntrack = \"keys\"",
                    "when = 'rate(\"keys\", \"requests\") > 3'\ndeny = { status = 429 }",
                    "when = 'path(\"/limited\")'\nrate-limit = { rate = \"5/10s\", key = \"{source}\" }",
                    "when = 'path(\"/slow\")'\nconcurrency-limit = { max = 2 }\npool = \"slow\"",
                ],
            )),
    );
    let statuses: Vec<u16> = (0..7).map(|_| get(place.at(8080), "/limited").status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    let refused = get(place.at(8080), "/limited");
    assert!(
        refused.field("retry-after").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| (1..=2).contains(&s)))
    );
    let keyed: Vec<u16> =
        (0..5).map(|_| ask(&place, "GET / HTTP/1.1\r\nHost: a\r\nX-Key: k1").status).collect();
    assert_eq!(keyed, [200, 200, 200, 429, 429]);
    assert_eq!(ask(&place, "GET / HTTP/1.1\r\nHost: a\r\nX-Key: k2").status, 200, "another key");
    // Two at a time of one that takes its time.
    let _slow = Scripted::start(place.at(9004), |mut stream| {
        while read_head(&mut stream).is_some() {
            std::thread::sleep(Duration::from_millis(500));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut all: Vec<Connection> = (0..3).map(|_| Connection::open(place.at(8080))).collect();
    for connection in &mut all {
        connection.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut statuses: Vec<u16> = all.iter_mut().map(|c| c.answer().unwrap().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(get(place.at(8080), "/slow").status, 200, "places are given back");
    let listed = evenkeel.json(&["persistence", "list", "clients"]);
    assert_eq!(listed[0]["key"], all[0].stream().local_addr().unwrap().ip().to_string());
    assert_eq!(listed[0]["activity"]["requests"]["total"], 18);
    assert!(listed[0]["activity"]["errors"]["total"].as_u64().unwrap() >= 6, "{listed}");
    assert_eq!(listed[0]["activity"]["current"], 0);
    let keys = evenkeel.ok(&["persistence", "list", "keys"]);
    assert!(keys.contains("k1") && keys.contains("k2"), "{keys}");
    evenkeel.ok(&["persistence", "clear", "keys", "k1"]);
    eventually("a cleared key starts anew", Duration::from_secs(5), || {
        ask(&place, "GET / HTTP/1.1\r\nHost: a\r\nX-Key: k1").status == 200
    });
}

#[test]
fn names_and_passwords_are_asked_for() {
    let place = Place::new("routes-auth");
    let _servers = servers(&place);
    // htpasswd -nbB alice secret, cost 5.
    let users = place.write("users", "alice:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n");
    let _evenkeel = start(
        &place,
        &with_routes(
            &place,
            "",
            &[&format!(
                "when = 'path(\"/private/*\")'\nbasic-auth = {{ users = \"{}\", realm = \"ours\" }}",
                users.display()
            )],
        ),
    );
    let private = |more: &str| ask(&place, &format!("GET /private/ HTTP/1.1\r\nHost: a{more}"));
    let none = private("");
    assert_eq!(
        (none.status, none.field("www-authenticate")),
        (401, Some("Basic realm=\"ours\", charset=\"UTF-8\""))
    );
    assert_eq!(get(place.at(8080), "/").status, 200);
    // alice:myPassword, alice:wrong, bob:myPassword
    for _ in 0..3 {
        assert_eq!(private("\r\nAuthorization: Basic YWxpY2U6bXlQYXNzd29yZA==").status, 200);
        assert_eq!(private("\r\nAuthorization: Basic YWxpY2U6d3Jvbmc=").status, 401);
        assert_eq!(private("\r\nAuthorization: Basic Ym9iOm15UGFzc3dvcmQ=").status, 401);
    }
}

#[test]
fn lists_and_maps_in_files_are_followed_as_they_change() {
    let place = Place::new("routes-files");
    let _servers = servers(&place);
    let mut hosts: String = (0..100_000).map(|i| format!("h{i}.example.org api\n")).collect();
    hosts.push_str("*.img.example img\n");
    let map = place.write("pools.map", &hosts);
    let blocked = place.write("blocked.list", "# nobody yet\n192.0.2.0/24\n");
    let agents = place.write("agents.list", "BadBot*\n*crawler*\n");
    let evenkeel = start(
        &place,
        &with_routes(
            &place,
            "",
            &[
                &format!("when = 'source(\"@{}\")'\ndeny = {{}}", blocked.display()),
                &format!(
                    "when = 'header(\"User-Agent\", \"@{}\")'\ndeny = {{ status = 418 }}",
                    agents.display()
                ),
                &format!("pool-map = {{ file = \"{}\" }}", map.display()),
            ],
        ),
    );
    let host = |host: &str| who(&place, &format!("GET / HTTP/1.1\r\nHost: {host}"));
    assert_eq!(host("H99999.example.org:80"), "api");
    assert_eq!(host("a.b.img.example"), "img");
    assert_eq!(host("h100000.example.org"), "web");
    assert_eq!(ask(&place, "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: BadBot/2").status, 418);
    std::fs::write(&map, "*.img.example api\n").unwrap();
    eventually("the changed map is used", Duration::from_secs(10), || host("x.img.example") == "api");
    std::fs::write(&map, "x nowhere\n").unwrap();
    eventually("a bad map is refused", Duration::from_secs(10), || evenkeel.log().contains("nowhere"));
    assert_eq!(host("x.img.example"), "api", "the last good one stays");
    let config = |list: &str| {
        Evenkeel::complete(
            &place,
            &with_routes(&place, "", &[&format!("when = 'source(\"@{list}\")'\ndeny = {{}}")]),
        )
    };
    let bad = place.write("bad.list", "10.0.0.0/8\nten\n");
    let file = place.write("bad.toml", config(&bad.display().to_string()));
    let output = evenkeel.cli(&["check", &file.display().to_string()]);
    assert!(
        output.code == 78 && output.err.contains("bad.list: line 2: expected an address or a network"),
        "{}",
        output.err
    );
    std::fs::write(&map, "x api\n").unwrap();
    std::fs::write(&blocked, "127.0.0.0/8\n").unwrap();
    eventually("the changed list is used", Duration::from_secs(10), || {
        ask(&place, "GET / HTTP/1.1\r\nHost: a").status == 403
    });
}

#[test]
fn maps_say_what_headers_redirects_and_pools_become() {
    let place = Place::new("routes-maps");
    let _servers = servers(&place);
    let file = |name: &str, text: &str| place.write(name, text).display().to_string();
    let moved = file("moved.map", "/old /new#part\n/gone https://else.example/\n");
    let zones = file("zones.map", "127.0.0.0/8 here\n0.0.0.0/0 elsewhere\n");
    let names = file("names.map", "^([a-z]+)-([0-9]+)\\. \\2:\\1\n");
    let pools = file("pools.map", "api.example api\nexample img\n");
    let keys = |lookup: &str| format!("{{path|map(\\\"{moved}\\\"{lookup})}}");
    let routes = [
        format!(
            "set-header = {{ X-Zone = '{{source|map(\"{zones}\",network)}}', X-Name = '{{host|map(\"{names}\",regex-groups,\"none\")}}' }}"
        ),
        format!(
            "when = 'text(\"{}\")'\nredirect = {{ location = '{}', status = 301 }}",
            keys(""),
            keys("").replace('\\', "")
        ),
        format!("pool-map = {{ file = \"{pools}\", match = \"domain\", key = \"{{host|lower}}\" }}"),
    ];
    let all: Vec<&str> = routes.iter().map(String::as_str).collect();
    let evenkeel = start(&place, &with_routes(&place, "", &all));
    let answer = ask(&place, "GET /old HTTP/1.1\r\nHost: a");
    assert_eq!((answer.status, answer.field("location")), (301, Some("/new#part")));
    let told = |host: &str| ask(&place, &format!("GET /x HTTP/1.1\r\nHost: {host}")).text();
    let seen = told("web-12.API.example:80");
    assert!(
        seen.starts_with("api\n") && seen.contains("X-Zone: here") && seen.contains("X-Name: 12:web"),
        "{seen}"
    );
    let seen = told("www.example");
    assert!(seen.starts_with("img\n") && seen.contains("X-Name: none"), "{seen}");
    assert!(told("example.org").starts_with("img\n") && told("sample").starts_with("web\n"));
    let explained = evenkeel.ok(&["explain", &format!("http://{}/gone", place.at(8080))]);
    assert!(explained.contains("redirect 301 to https://else.example/"), "{explained}");
    // Files are followed as they change; what is wrong in one is said with its line.
    std::fs::write(place.file("moved.map"), "/old /newer\n").unwrap();
    eventually("the changed map is used", Duration::from_secs(10), || {
        ask(&place, "GET /old HTTP/1.1\r\nHost: a").field("location") == Some("/newer")
    });
    std::fs::write(place.file("zones.map"), "127.0.0.0/8 here\nnowhere x\n").unwrap();
    let check = evenkeel.cli(&["check", &evenkeel.config_path().display().to_string()]);
    assert!(
        check.code == 78
            && check.err.contains("zones.map: line 2: expected an address or a network as the key"),
        "{}",
        check.err
    );
    // Where no map can be asked.
    for (text, why) in [
        (
            format!("[[table]]\nname = \"t\"\nkey = '{{source|map(\"{zones}\")}}'\n"),
            "the key of a table asks no map",
        ),
        (format!("[log]\nformat = '{{source|map(\"{zones}\")}}'\n"), "a line asks no map"),
    ] {
        let wrong = place.write("wrong.toml", Evenkeel::complete(&place, &text));
        let told = evenkeel.cli(&["check", &wrong.display().to_string()]);
        assert!(told.code == 78 && told.err.contains(why), "{}", told.err);
    }
}

#[test]
fn the_queue_goes_by_priority_and_captures_are_logged() {
    let place = Place::new("routes-priority");
    let _server = Scripted::start(place.at(9001), |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            std::thread::sleep(Duration::from_millis(if head.contains("/first") { 400 } else { 30 }));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let log = place.file("access.log");
    let mut config = format!("[log]\naccess = \"{}\"\n[limits]\nworkers = 1\n", log.display());
    config += &with_routes(
        &place,
        "",
        &[
            "capture = { agent = \"{header:User-Agent}\", id = \"{query:id}\" }",
            "when = 'path(\"/vip\")'\npriority = -5",
            "when = 'path(\"/bulk\")'\npriority = 5",
        ],
    )
    .replace(
        &format!("address = \"{}\"\n", place.at(9001)),
        &format!("address = \"{}\"\nmax-connections = 1\n", place.at(9001)),
    );
    let _evenkeel = start(&place, &config);
    let order = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (i, path) in ["/first", "/bulk", "/plain", "/vip"].into_iter().enumerate() {
            let (order, address) = (&order, place.at(8080));
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(80 * i as u64));
                let mut connection = Connection::open(address);
                connection
                    .send(format!("GET {path}?id={i} HTTP/1.1\r\nHost: a\r\nUser-Agent: t\"{i}\r\n\r\n"));
                assert_eq!(connection.answer().map(|a| a.status), Some(200));
                order.lock().unwrap().push(path);
            });
        }
    });
    assert_eq!(*order.lock().unwrap(), ["/first", "/vip", "/plain", "/bulk"]);
    eventually("captures are in the log", Duration::from_secs(5), || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains(" {t#223|3} \"GET /vip?id=3 HTTP/1.1\"")
    });
}

#[test]
fn values_are_converted_kept_and_tested() {
    let place = Place::new("routes-converters");
    let _servers = servers(&place);
    let config = with_routes(
        &place,
        "",
        &[
            "set-variable = { user = \"{header:X-User|lower}\", \"sess.first\" = \"{variable:sess.first|default(\\\"{\\\")}\" }",
            "when = 'variable(\"user\", \"admin\")'\nset-header = { X-Role = \"{variable:user|sha256|hex|bytes(0,8)}\" }",
            "when = 'text(\"{path|field(2,\\\"/\\\")}\", \"api\") && number(\"{path|length}\") > 6'\npool = \"api\"",
            "when = 'path(\"/hello\")'\nanswer = { body = \"Hello, {source} {{}}\", variables = true }",
            "when = 'path(\"/old/*\")'\nset-header = { X-Old = \"yes\" }\nrewrite-path = \"{path|replace(\\\"^/old/([a-z]+)\\\",\\\"/new/${1}\\\")}\"",
            "when = 'path(\"/new/*\") && header(\"X-Old\", \"yes\")'\nset-header = { X-Seen = \"{header:X-Old} {path}\" }",
        ],
    );
    let evenkeel = start(&place, &config);
    // SHA-256 of "admin" begins with 8c6976e5.
    let mut connection = Connection::open(place.at(8080));
    connection.send("GET /x HTTP/1.1\r\nHost: t\r\nX-User: ADMIN\r\n\r\n");
    let answer = connection.answer().unwrap().text();
    assert!(answer.contains("X-Role: 8c6976e5\r\n"), "{answer}");
    // What one request has kept is not the next one's.
    let answer = connection.get("/x").text();
    assert!(!answer.contains("X-Role"), "{answer}");
    assert!(get(place.at(8080), "/api/list").text().starts_with("api\n"));
    assert!(get(place.at(8080), "/api/x").text().starts_with("web\n"));
    let answer = get(place.at(8080), "/old/page/1").text();
    // Later routes see the path and the head as they have become.
    assert!(answer.contains("GET /new/page/1 ") && answer.contains("X-Seen: yes /new/page/1"), "{answer}");
    assert_eq!(get(place.at(8080), "/hello").text(), "Hello, 127.0.0.1 {}");
    let url = format!("http://{}/x", place.at(8080));
    let explained = evenkeel.ok(&["explain", &url, "--header", "X-User: Admin"]);
    assert!(explained.contains("user is \"admin\"") && explained.contains("8c6976e5"), "{explained}");
}

#[test]
fn answers_have_routes_of_their_own() {
    let place = Place::new("answer-routes");
    // Says what the path asks for: /STATUS/TYPE.
    let _server = Scripted::start(place.at(9001), |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
            let mut parts = target.split('/').skip(1);
            let (status, kind) = (parts.next().unwrap_or("200"), parts.next().unwrap_or("plain"));
            let body = if status == "304" { "" } else { "body" };
            let _ = write!(
                stream,
                "HTTP/1.1 {status} Said\r\nServer: secret\r\nX-Debug-A: 1\r\nContent-Type: text/{kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let log = place.file("access.log");
    let mut text = format!("[log]\naccess = \"{}\"\nformat = \"json\"\n", log.display());
    text +=
        &with_routes(&place, "", &["when = 'path(\"/own\")'\nanswer = { status = 403, body = \"mine\" }"]);
    for route in [
        "set-variable = { seen = \"{status}/{answer-header:content-type}\" }\ncapture = { seen = \"{variable:seen} {server}\" }",
        "remove-header = [\"Server\", \"X-Debug-*\"]\nset-header = { X-Seen = \"{variable:seen} {path} {header:X-Ask}\" }",
        "when = 'answer-header(\"Server\")'\nset-header = { X-Never = \"the header is gone\" }",
        "when = 'status >= 500 && !path(\"/503/*\")'\nof = \"servers\"\ndeny = {}",
        "when = 'status == 503'\nof = \"servers\"\nstatus = 418\nstop = true",
        "when = 'status >= 400'\nof = \"own\"\nset-header = { X-Own = \"{status}\" }",
        "when = 'answer-header(\"Content-Type\", \"text/html*\") && method(\"GET\")'\nadd-header = { Cache-Control = \"no-cache\" }",
        "set-header = { X-Last = \"yes\" }",
    ] {
        text += &format!("[[virtual-service.answer-route]]\n{route}\n");
    }
    let evenkeel = start(&place, &text);
    let asked = |path: &str| ask(&place, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nX-Ask: me"));
    let answer = asked("/200/html");
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
    assert_eq!(answer.field("X-Seen"), Some("200/text/html /200/html me"));
    assert_eq!(
        (answer.field("Server"), answer.field("X-Debug-A"), answer.field("X-Never")),
        (None, None, None)
    );
    assert_eq!((answer.field("Cache-Control"), answer.field("X-Last")), (Some("no-cache"), Some("yes")));
    assert_eq!(asked("/304").status, 304);
    // One that is denied is an error of this program's, and those have their routes as well.
    let answer = asked("/500");
    assert_eq!((answer.status, answer.field("X-Own")), (502, Some("502")));
    assert!(!answer.text().contains("body"), "{}", answer.text());
    let answer = asked("/503/plain");
    assert_eq!((answer.status, answer.text().as_str(), answer.field("X-Last")), (418, "body", None));
    let answer = asked("/own");
    assert_eq!((answer.status, answer.text().as_str(), answer.field("X-Own")), (403, "mine", Some("403")));
    assert_eq!(
        (answer.field("X-Last"), answer.field("X-Seen")),
        (Some("yes"), Some("403/text/plain; charset=utf-8 /own me"))
    );
    // A kept connection goes on; HEAD has no body.
    let mut connection = Connection::open(place.at(8080));
    for _ in 0..3 {
        assert_eq!(connection.get("/200/html").field("X-Last"), Some("yes"));
    }
    assert_eq!(ask(&place, "HEAD /own HTTP/1.1\r\nHost: test").field("X-Own"), Some("403"));
    eventually("captures are in the log", Duration::from_secs(5), || {
        std::fs::read_to_string(&log).is_ok_and(|text| {
            text.contains("200/text/html s1")
                && text.contains("\"status\":418")
                && text.contains("403/text/plain; charset=utf-8 ")
        })
    });
    let told = evenkeel.ok(&["explain", &format!("http://{}/200", place.at(8080))]);
    assert!(told.contains("answer-route answer-route-4 does not hold: status >= 500"), "{told}");
}

/// What is decoded on the way into a head must not end a line of it.
#[test]
fn decoded_values_add_no_lines() {
    let place = Place::new("injection");
    let _servers = servers(&place);
    let mut text = with_routes(
        &place,
        "",
        &[
            "when = 'path(\"/away\")'\nredirect = { location = \"/{query:q|url-decode}\" }",
            "set-header = { X-Asked = \"{query:q|url-decode}\" }\nset-response-header = { X-Told = \"{query:q|url-decode}\" }",
        ],
    );
    text += "[[virtual-service.answer-route]]\nadd-header = { X-Also = \"{query:q|url-decode}\" }\n";
    let _evenkeel = start(&place, &text);
    let attack = "a%0d%0aEvil:%20yes%0aWorse:1%00";
    for path in ["/", "/away"] {
        let answer = ask(&place, &format!("GET {path}?q={attack} HTTP/1.1\r\nHost: test"));
        assert_eq!((answer.field("Evil"), answer.field("Worse")), (None, None), "{path}");
        assert_eq!(answer.field("X-Also"), Some("a  Evil: yes Worse:1"), "{path}");
        if path == "/" {
            assert_eq!(answer.field("X-Told"), Some("a  Evil: yes Worse:1"));
            assert!(answer.text().contains("X-Asked: a  Evil: yes Worse:1 \r\n"), "{}", answer.text());
        } else {
            assert_eq!(answer.field("Location"), Some("/a  Evil: yes Worse:1"));
        }
    }
}

#[test]
fn what_a_message_is_framed_by_stays_whatever_is_removed() {
    let place = Place::new("routes-removed");
    let _servers = servers(&place);
    let _evenkeel = start(
        &place,
        &with_routes(
            &place,
            "",
            &[
                "remove-header = [\"co*\", \"*-end\", \"*mid*\", \"x-*-z\", \"t*\"]\nremove-response-header = [\"*\"]",
            ],
        ),
    );
    let mut connection = Connection::open(place.at(8080));
    for round in 0..3 {
        connection.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nCookie: a=b\r\nAt-END: 1\r\nA-Mid-B: 1\r\nX-Y-Z: 1\r\nX-Y: stays\r\nContent-Length: 5\r\n\r\nGET /");
        let answer = connection.answer_to("POST").expect("an answer");
        let text = answer.text();
        assert!(text.contains("Content-Length: 5\r\n") && text.contains("X-Y: stays\r\n"), "{round}: {text}");
        for gone in ["Content-Type", "Cookie", "At-END", "A-Mid-B", "X-Y-Z"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        assert_eq!((answer.field("server"), answer.field("x-secret")), (None, None));
    }
}

#[test]
fn methods_addresses_and_times_by_route() {
    let place = Place::new("routes-methods");
    let slow = Scripted::start(place.at(9001), |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.contains(" /slow") || head.contains(" /report") {
                std::thread::sleep(Duration::from_secs(3));
            }
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        }
    });
    let _evenkeel = start(
        &place,
        &service(
            "web",
            "http",
            place.at(8080),
            &[place.at(9001)],
            "health-check = { type = \"none\" }\ntimeouts = { server = \"1500ms\" }",
        )
        .replace(
            "  [[virtual-service.real-server]]",
            "[[virtual-service.route]]\nwhen = 'path(\"/as-get\")'\nrewrite-method = \"GET\"\n[[virtual-service.route]]\nwhen = 'path(\"/as-get\") && method(\"GET\")'\nset-header = { X-Seen = \"{method}\", X-Id = \"{uuid}\" }\n[[virtual-service.route]]\nwhen = 'address(\"{header:X-Real-IP}\", \"192.0.2.0/24\", \"2001:db8::/32\")'\ndeny = { status = 418 }\n[[virtual-service.route]]\nwhen = 'path(\"/report\")'\nserver-timeout = \"20s\"\n[[virtual-service.real-server]]",
        ),
    );
    // The body that the server sends behind its head is nobody's, least of all the next client's.
    let mut connection = Connection::open(place.at(8080));
    for _ in 0..5 {
        connection.send("HEAD /as-get HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = connection.answer_to("HEAD").expect("an answer");
        assert_eq!(answer.status, 200);
        let text = connection.get("/plain").text();
        assert!(text.starts_with("GET /plain HTTP/1.1\r\n"), "{text}");
    }
    assert_eq!(slow.connections(), 1, "it is taken off, and the connection is used again");
    let text = ask(&place, "OPTIONS /as-get HTTP/1.1\r\nHost: a").text();
    assert!(text.starts_with("GET /as-get HTTP/1.1\r\n") && text.contains("X-Seen: GET\r\n"), "{text}");
    let id = |text: &str| text.split("X-Id: ").nth(1).unwrap().split('\r').next().unwrap().to_owned();
    let other = id(&ask(&place, "GET /as-get HTTP/1.1\r\nHost: a").text());
    assert!(other != id(&text) && other.len() == 36 && other.as_bytes()[14] == b'4', "{other}");
    for (address, status) in [
        ("192.0.2.7", 418),
        ("192.0.2.7:4711", 418),
        ("[2001:db8::1]", 418),
        ("198.51.100.1", 200),
        ("192.0.2.7, 198.51.100.1", 200),
        ("nonsense", 200),
    ] {
        let answer = ask(&place, &format!("GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: {address}"));
        assert_eq!(answer.status, status, "{address}");
    }
    assert_eq!(ask(&place, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0").status, 504);
    assert_eq!(ask(&place, "POST /report HTTP/1.1\r\nHost: a\r\nContent-Length: 0").status, 200);
}

#[test]
fn a_route_names_the_server() {
    let place = Place::new("routes-server");
    let names = ["one", "two", "three"];
    let mut servers: Vec<Scripted> =
        names.iter().zip(9001..).map(|(name, port)| Scripted::named(place.at(port), name)).collect();
    let addresses = [9001, 9002, 9003].map(|port| place.at(port));
    let text = service("web", "http", place.at(8080), &addresses, "health-check = { type = \"none\" }").replacen(
        "  [[virtual-service.real-server]]",
        "[[virtual-service.route]]\nwhen = 'header(\"X-To\", \"two\")'\nserver = \"s2\"\n[[virtual-service.real-server]]",
        1,
    );
    let evenkeel = start(&place, &text);
    let ask = |more: &str| ask(&place, &format!("GET / HTTP/1.1\r\nHost: a{more}")).text();
    for _ in 0..6 {
        assert_eq!(ask("\r\nX-To: two"), "two");
    }
    let others: std::collections::HashSet<String> = (0..6).map(|_| ask("")).collect();
    assert_eq!(others.len(), 3, "{others:?}");
    let url = format!("http://{}/", place.at(8080));
    let said = evenkeel.ok(&["explain", &url, "-H", "X-To: two"]);
    assert!(said.contains("a route names s2"), "{said}");
    // One that cannot take it is not insisted on.
    servers.remove(1);
    evenkeel.ok(&["halt", "web/s2"]);
    for _ in 0..4 {
        assert!(["one", "three"].contains(&ask("\r\nX-To: two").as_str()));
    }
}
