//! The web UI in a real browser, and the API as strangers meet it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Authority, Evenkeel, Place, Scripted, eventually, get, has_program, require, skip};
use serde_json::{Value, json};

use crate::{service, start};

/// What a call of the API got.
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The cookie of a login and what goes with it.
    fn session(&self) -> Vec<String> {
        let line = self.head.lines().find(|l| l.to_lowercase().starts_with("set-cookie:")).expect("a cookie");
        let cookie = line.split_once(':').unwrap().1.split(';').next().unwrap().trim().to_owned();
        let csrf = self.json()["csrf"].as_str().unwrap().to_owned();
        vec![format!("Cookie: {cookie}"), format!("X-Evenkeel-Csrf: {csrf}")]
    }
}

/// Calls with curl, as scripts do.
fn call(address: SocketAddr, method: &str, path: &str, headers: &[String], body: Option<&str>) -> Got {
    let mut command = Command::new("curl");
    command.args(["-sk", "--path-as-is", "-m", "20", "-i", "-X", method]);
    for header in headers {
        command.args(["-H", header]);
    }
    if body.is_some() {
        if !headers.iter().any(|h| h.starts_with("Content-Type")) {
            command.args(["-H", "Content-Type: application/json"]);
        }
        command.args(["--data-binary", "@-"]);
    }
    let mut child = command
        .arg(format!("https://{address}{path}"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = body.unwrap_or("").to_owned();
    // A server that refuses early closes the pipe.
    std::thread::spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut rest = text.as_str();
    while rest.starts_with("HTTP/1.1 100") {
        rest = rest.split_once("\r\n\r\n").map_or("", |(_, rest)| rest);
    }
    let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Got { status, head: head.to_owned(), body: body.to_owned() }
}

fn token(evenkeel: &Evenkeel, role: &str) -> Vec<String> {
    let token = evenkeel.ok(&["token", "add", &format!("for-{role}"), "--role", role]);
    vec![format!("Authorization: Bearer {}", token.trim())]
}

fn add_user(evenkeel: &Evenkeel, place: &Place, name: &str, role: &str) {
    let file = place.write("password", "correct horse battery\n");
    let command = format!(
        "{} user add {name} --role {role} --password-stdin < {}",
        env!("CARGO_BIN_EXE_evenkeel"),
        file.display()
    );
    let output =
        Command::new("sh").env("EVENKEEL_SOCKET", evenkeel.socket()).args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn log_in(at: SocketAddr, name: &str, password: &str) -> Got {
    let body = json!({ "name": name, "password": password }).to_string();
    call(at, "POST", "/api/v1/login", &[], Some(&body))
}

const PASSWORD: &str = "correct horse battery";

fn ui() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui")
}

/// A daemon with the web UI and nothing else.
fn administered(place: &Place, more: &str) -> Evenkeel {
    let folder = place.folder().display();
    let text = format!(
        "# written by hand\n[admin]\nsocket = \"{folder}/admin.sock\"\nlisten = [\"{}\"]\nplain-listen = [\"{}\"]\n{more}",
        place.at(9443),
        place.at(9080)
    );
    start(place, &text)
}

/// The code that the first start prints.
fn first_code(evenkeel: &Evenkeel) -> String {
    let log = evenkeel.log();
    let at = log.find("with the code ").expect("a code is printed") + "with the code ".len();
    log[at..at + 23].to_owned()
}

#[test]
fn people_walk_through_the_ui() {
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|p| has_program(p));
    let built =
        ui().join("dist/index.html.gz").exists() && ui().join("node_modules/playwright-core").exists();
    let (Some(chromium), true, true) = (chromium, built, has_program("node")) else {
        return skip("chromium, node and `make ui`");
    };
    let path = Command::new("sh").args(["-c", &format!("command -v {chromium}")]).output().unwrap();
    let place = Place::new("web-ui");
    let evenkeel = administered(&place, "");
    let shots = std::env::var_os("EVENKEEL_SHOTS").map_or_else(|| place.folder().to_owned(), PathBuf::from);
    let given = serde_json::json!({
        "base": format!("https://{}", place.at(9443)),
        "vip": place.at(8080).to_string(),
        "servers": [place.at(9001).to_string(), place.at(9002).to_string()],
        "code": first_code(&evenkeel),
        "folder": shots,
        "config": evenkeel.config_path(),
        "chromium": String::from_utf8_lossy(&path.stdout).trim(),
    });
    let output =
        Command::new("node").current_dir(ui()).args(["test/walk.mjs", &given.to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        evenkeel.log()
    );
    println!("{said}");
    assert!(evenkeel.ok(&["audit", "--verify"]).contains("intact"));
}

#[test]
fn strangers_are_turned_away() {
    let place = Place::new("strangers");
    if !require(&["curl"]) {
        return;
    }
    let evenkeel = administered(&place, "");
    let at = place.at(9443);
    let check = |method: &str, path: &str, headers: &[String], body: Option<&str>, expect: u16| {
        let got = call(at, method, path, headers, body);
        assert_eq!(got.status, expect, "{method} {path} {headers:?}: {}", got.body);
        got
    };
    let refused = check("GET", "/api/v1/status", &[], None, 401);
    assert!(refused.head.contains("application/problem+json") && refused.json()["status"] == 401);
    check("GET", "/metrics", &[], None, 401);
    check("GET", "/healthz", &[], None, 200);
    check("GET", "/api/v1/nothing", &[], None, 404);
    for path in ["/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api/../../x"] {
        let got = call(at, "GET", path, &["Accept-Encoding: identity".into()], None);
        assert!(!got.body.contains("root:"), "{path}: {}", got.body);
    }
    // A stranger's words are short.
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(100_000));
    let got = call(at, "POST", "/api/v1/login", &[], Some(&long));
    // A client that goes on sending may see the stream end before it sees the answer.
    assert!([413, 0].contains(&got.status), "{} {}", got.status, got.body);
    check("POST", "/api/v1/login", &[], Some("{"), 400);
    check("POST", "/api/v1/login", &[], Some("{\"name\": 7}"), 422);
    add_user(&evenkeel, &place, "ann", "admin");
    let refused = log_in(at, "ann'; drop table users;--", PASSWORD);
    assert_eq!((refused.status, refused.json()["detail"].as_str()), (401, Some("name or password is wrong")));
    let session = log_in(at, "ann", PASSWORD).session();
    check("GET", "/api/v1/self", &session, None, 200);
    check("GET", "/api/v1/status", &session, None, 200);
    check("POST", "/api/v1/confirm", &session[..1], Some("{}"), 403);
    // Sessions outlive the program; what is logged out does not.
    let mut evenkeel = evenkeel;
    let mut old = evenkeel.hand_over();
    eventually("the old one ends", Duration::from_secs(20), || old.has_ended());
    check("GET", "/api/v1/self", &session, None, 200);
    check("POST", "/api/v1/logout", &session, Some("{}"), 200);
    check("GET", "/api/v1/self", &session, None, 401);
    // Guessing shuts the door, later where somebody has logged in before; the owner of the machine opens it.
    for _ in 0..20 {
        log_in(at, "ann", "guess guess guess");
    }
    assert_eq!(log_in(at, "ann", PASSWORD).status, 429);
    assert!(evenkeel.ok(&["user", "list"]).contains(" s"), "who is locked out is listed");
    let metrics = get(place.at(9080), "/metrics").text();
    let failures = metrics.lines().find(|l| l.starts_with("evenkeel_login_failures_total ")).unwrap();
    assert!(failures.split(' ').nth(1).unwrap().parse::<u64>().unwrap() >= 10, "{failures}");
    // Plain HTTP sends browsers to HTTPS.
    let redirect = get(place.at(9080), "/graphs");
    assert_eq!((redirect.status, redirect.field("location")), (308, Some("https://test:9443/graphs")));
    // The record says who did what, and shows when it is changed.
    let audit = evenkeel.ok(&["audit"]);
    assert!(audit.contains("POST /api/v1/login: ann") && audit.contains("429"), "{audit}");
    let file = place.file("state/audit/audit.log");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("ann", "bob", 1)).unwrap();
    let verdict = evenkeel.cli(&["audit", "--verify"]);
    assert!(verdict.code == 1 && verdict.out.contains("was changed"), "{verdict:?}");
}

/// Made-up requests to every route of the document: refusals have a form, and nothing breaks.
#[test]
fn the_api_survives_what_its_document_allows() {
    let place = Place::new("api-fuzz");
    if !require(&["curl"]) {
        return;
    }
    let _server = Scripted::named(place.at(9001), "one");
    let evenkeel = administered(&place, &service("web", "http", place.at(8080), &[place.at(9001)], ""));
    let (at, admin) = (place.at(9443), token(&evenkeel, "admin"));
    let document = call(at, "GET", "/api/v1/openapi.json", &[], None).json();
    assert_eq!(document["openapi"], "3.1.0");
    let odd = [
        "web",
        "0",
        "-1",
        "18446744073709551616",
        "%00",
        "%2e%2e",
        "%22%3E%3Cscript%3E",
        "a%20b",
        "%F0%9F%92%A9",
        "%ff",
    ];
    let bodies = [
        "",
        "{}",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{\"name\":null}",
        "{\"admin-state\":\"\\u0000\",\"weight\":-1}",
        "{\"edits\":[{\"do\":\"set\",\"at\":[],\"value\":1}]}",
        "{\"edits\":[{\"do\":\"move\",\"at\":[\"virtual-service\",\"web\"],\"to\":99999999999}]}",
        "{\"target\":\"http://[::1\"}",
        "{\"address\":\"$(id)\",\"health-check\":{\"type\":\"http\",\"path\":\"\\r\\n\"}}",
        "{\"text\":\"[[[\"}",
        "\u{feff}{}",
        "{\"name\":\"x\",\"role\":\"root\"}",
    ];
    let mut count = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            // Those end the session of this test, the daemon, or the answer.
            let ends = ["/logout", "/lockdown", "/restart", "/live", "/logs", "/doctor"]
                .iter()
                .any(|p| path.ends_with(p));
            if ends {
                continue;
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let query: Vec<String> = parameters
                .iter()
                .filter(|p| p["in"] == "query")
                .map(|p| p["name"].as_str().unwrap().to_owned())
                .collect();
            for (at_word, word) in odd.iter().enumerate() {
                let mut place = path.clone();
                while let Some(start) = place.find('{') {
                    let end = place.find('}').unwrap();
                    place.replace_range(start..=end, word);
                }
                let asked: Vec<String> = query.iter().map(|name| format!("{name}={word}")).collect();
                let whole = if asked.is_empty() { place } else { format!("{place}?{}", asked.join("&")) };
                let body = bodies[(at_word + count) % bodies.len()];
                let body = (method != "get").then_some(body);
                let got = call(at, &method.to_uppercase(), &whole, &admin, body);
                count += 1;
                assert!(
                    (200..500).contains(&got.status),
                    "{method} {whole} {body:?}: {} {}",
                    got.status,
                    got.body
                );
                if got.status >= 400 {
                    let problem = got.json();
                    assert!(
                        problem["detail"].is_string() && problem["status"] == got.status,
                        "{method} {whole}: {}",
                        got.body
                    );
                }
                if path.contains('{') || !query.is_empty() || body.is_some() {
                    continue;
                }
                break;
            }
        }
    }
    assert!(count > 200, "{count} requests");
    assert_eq!(get(place.at(8080), "/").status, 200, "the service is as it was");
    assert!(evenkeel.ok(&["audit", "--verify"]).contains("intact"));
}

#[test]
fn a_backup_makes_another_machine_the_same() {
    let (place, other) = (Place::new("backup"), Place::new("restored"));
    let _server = Scripted::named(place.at(9001), "one");
    let authority = Authority::new(&place, "authority");
    let pem = authority.server(&place, "www.pem", &["www.example.org"]);
    let tls = format!("tls = {{ certificates = [\"{}\"] }}", pem.display());
    let evenkeel = administered(&place, &service("web", "http", place.at(8443), &[place.at(9001)], &tls));
    add_user(&evenkeel, &place, "ann", "admin");
    evenkeel.ok(&["weight", "web/s1", "7"]);
    let file = place.file("lb1.backup");
    let path = file.display().to_string();
    evenkeel.ok(&["backup", &path]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("PRIVATE KEY") && text.contains("argon2id") && !text.contains(PASSWORD));
    // What is not as it was made is refused, and changes nothing.
    let good: Value = serde_json::from_str(&text).unwrap();
    let refused = |change: &dyn Fn(&mut Value), why: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        let bad = place.write("bad.backup", bad.to_string());
        let output = evenkeel.cli(&["restore", &bad.display().to_string()]);
        assert!(output.code != 0 && output.err.contains(why), "{why}: {output:?}");
    };
    refused(&|b| b["configuration"] = json!("# nothing\n"), "altered or damaged");
    refused(&|b| b["format"] = json!(2), "newer");
    refused(&|b| b["extra"] = json!(1), "extra");
    let bit = text.replacen("www.example.org", "wwv.example.org", 1);
    if bit != text {
        let bad = place.write("bit.backup", bit);
        assert_ne!(evenkeel.cli(&["restore", &bad.display().to_string()]).code, 0);
    }
    // Elsewhere, after the first machine is gone.
    std::fs::remove_file(&pem).unwrap();
    drop(evenkeel);
    let target = administered(&other, "");
    let said = target.ok(&["restore", &path]);
    assert!(said.contains("restored as revision 2") && said.contains("1 person"), "{said}");
    assert_eq!(target.server("web", "s1")["weight"], 7);
    assert!(pem.exists() && target.ok(&["user", "list"]).contains("ann"));
    assert!(target.ok(&["history"]).contains("restored from a backup"));
}

#[test]
fn parts_start_anew_while_the_rest_runs_on() {
    let place = Place::new("parts");
    if !require(&["curl"]) {
        return;
    }
    let server = Scripted::named(place.at(9001), "one");
    let keys = "health-check = { type = \"http\", interval = \"60s\" }";
    let evenkeel = administered(&place, &service("web", "http", place.at(8080), &[place.at(9001)], keys));
    evenkeel.await_server("web", "s1", "up");
    let at = place.at(9443);
    add_user(&evenkeel, &place, "ann", "admin");
    let session = log_in(at, "ann", PASSWORD).session();
    let mut client = evenkeel_testbed::Connection::open(place.at(8080));
    assert_eq!(client.get("/").text(), "one");
    let restart = |part: &str| {
        let got = call(at, "POST", "/api/v1/restart", &session, Some(&format!("{{\"part\":\"{part}\"}}")));
        (got.status, got.body)
    };
    let probed = server.connections();
    for (part, status, says) in [
        ("checks", 200, "1 check begins again"),
        ("logs", 200, "opened again"),
        ("web", 200, "who is logged in stays so"),
        ("layer4", 404, "no virtual service is of layer 4"),
        ("pair", 404, "part of no pair"),
        ("engine", 422, "unknown variant"),
    ] {
        let (got, body) = restart(part);
        assert!(got == status && body.contains(says), "{part}: {got} {body}");
    }
    assert_eq!(call(at, "GET", "/api/v1/self", &session, None).status, 200);
    assert_eq!(client.get("/").text(), "one", "the client's connection has noticed nothing");
    // The next probe would have been due in a minute.
    eventually("the server was probed anew", Duration::from_secs(5), || server.connections() > probed);
    assert_eq!(evenkeel.server("web", "s1")["state"], "up");
}

#[test]
fn a_lockdown_closes_what_is_open() {
    let place = Place::new("lockdown");
    if !require(&["curl", "openssl"]) {
        return;
    }
    let _server = Scripted::named(place.at(9001), "one");
    let authority = Authority::new(&place, "authority");
    let pem = authority.server(&place, "www.pem", &["www.example.org"]);
    let evenkeel = administered(&place, &service("web", "http", place.at(8080), &[place.at(9001)], ""));
    let at = place.at(9443);
    add_user(&evenkeel, &place, "ann", "admin");
    let session = log_in(at, "ann", PASSWORD).session();
    let endless = evenkeel.ok(&["token", "add", "old", "--role", "viewer", "--days", "0"]);
    let endless = vec![format!("Authorization: Bearer {}", endless.trim())];
    let ending = token(&evenkeel, "viewer");
    let speaks = |version: &str| {
        let argument = format!("-{version}");
        let target = at.to_string();
        let output = Command::new("openssl")
            .args(["s_client", "-brief", &argument, "-connect", &target])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).contains("CONNECTION ESTABLISHED")
    };
    assert!(speaks("tls1_2") && speaks("tls1_3") && !speaks("tls1_1"));
    assert_eq!(call(at, "GET", "/api/v1/status", &endless, None).status, 200);
    let report = evenkeel.ok(&["lockdown"]);
    for line in [
        "revoked tokens without an end: old",
        "ended 1 other session",
        "TLS 1.3 only",
        "LEFT  ann (admin) has no second factor",
        "certificate of its own making",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
    assert!(speaks("tls1_3") && !speaks("tls1_2"));
    assert_eq!(call(at, "GET", "/api/v1/status", &endless, None).status, 401);
    assert_eq!(call(at, "GET", "/api/v1/self", &session, None).status, 401);
    assert_eq!(call(at, "GET", "/api/v1/status", &ending, None).status, 200);
    assert!(evenkeel.ok(&["history"]).contains("lockdown"));
    // One that is not there is refused before anything changes.
    let text = std::fs::read_to_string(evenkeel.config_path()).unwrap();
    let before = evenkeel.json(&["status"])["revision"].clone();
    let bad = text
        .replace("[admin]\n", "[admin]\ncertificate = \"/nowhere/admin.pem\"\n")
        .replace("\"web\"", "\"other\"");
    let bad = place.write("bad.toml", bad);
    let refused = evenkeel.cli(&["commit", &bad.display().to_string()]);
    assert!(refused.code == 1 && refused.err.contains("/nowhere/admin.pem"), "{refused:?}");
    assert_eq!(evenkeel.json(&["status"])["revision"], before);
    assert!(evenkeel.ok(&["status"]).contains("web") && speaks("tls1_3"));
    // A certificate of one's own, given by the API and by the file.
    let keys = format!("certificate = \"{}\"\n", place.file("admin-own.pem").display());
    let first = authority.server(&place, "admin-own.pem", &["lb1.example.org"]);
    let config = std::fs::read_to_string(evenkeel.config_path())
        .unwrap()
        .replace("[admin]\n", &format!("[admin]\n{keys}"));
    let next = place.write("with.toml", config);
    evenkeel.ok(&["commit", &next.display().to_string()]);
    let shown = || {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &at.to_string()])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    eventually("the own certificate is shown", Duration::from_secs(5), || {
        shown().contains("CN = lb1.example.org")
    });
    let new = authority.server(&place, "new.pem", &["lb2.example.org"]);
    let wrong = evenkeel.cli(&["cert", "--replace", "admin-own.pem", &authority.file.display().to_string()]);
    assert!(wrong.code != 0 && wrong.err.contains("private key"), "{wrong:?}");
    let nothing = evenkeel.cli(&["cert", "--replace", "other.pem", &pem.display().to_string()]);
    assert!(nothing.code != 0 && nothing.err.contains("no service uses"), "{nothing:?}");
    evenkeel.ok(&["cert", "--replace", "admin-own.pem", &new.display().to_string()]);
    eventually("the new certificate is shown", Duration::from_secs(5), || {
        shown().contains("CN = lb2.example.org")
    });
    assert!(evenkeel.ok(&["cert"]).contains("lb2.example.org") && first.exists());
    let bundle = evenkeel.ok(&["support-bundle"]);
    assert!(bundle.contains("\"kernel\"") && !bundle.contains("PRIVATE KEY"));
}
