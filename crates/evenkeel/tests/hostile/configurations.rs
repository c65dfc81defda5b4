//! Configurations that are only asked about: whatever they name is read by those who may configure, in
//! bounded time, and told to nobody.

use std::path::Path;
use std::time::Duration;

use evenkeel_testbed::{command, eventually, require};

use crate::cost::{Attack, Target};

const ADMIN: &str = "[admin]\nsocket = \"FOLDER/admin.sock\"\nlisten = [\"ADMIN\"]\n";
const MARKER: &str = "MARKER-of-a-file";

/// Keys that name a file which is read when a configuration is looked at, each in one of its own.
const KEYS: &[(&str, &str)] = &[
    ("tls.certificates", "tls = { certificates = [\"FILE\"] }"),
    ("tls.certificate-list", "tls = { certificate-list = \"FILE\" }"),
    ("client-auth.ca", "tls = { certificates = [\"SERVER\"], client-auth = { ca = \"FILE\" } }"),
    (
        "client-auth.verify-ca",
        "tls = { certificates = [\"SERVER\"], client-auth = { ca = \"SERVER\", verify-ca = \"FILE\" } }",
    ),
    (
        "client-auth.crl",
        "tls = { certificates = [\"SERVER\"], client-auth = { ca = \"SERVER\", crl = \"FILE\" } }",
    ),
    ("error-pages", "error-pages = { 503 = \"FILE\" }"),
    ("server-tls.ca", "server-tls = { ca = \"FILE\" }"),
    ("server-tls.certificate", "server-tls = { certificate = \"FILE\", verify = false }"),
    ("health-check.tls.ca", "health-check = { type = \"tcp\", tls = { ca = \"FILE\" } }"),
    ("answer.file", "[[virtual-service.route]]\nanswer = { file = \"FILE\" }"),
    ("basic-auth.users", "[[virtual-service.route]]\nbasic-auth = { users = \"FILE\" }"),
    ("pool-map.file", "[[virtual-service.route]]\npool-map = { file = \"FILE\" }"),
    ("a list of a condition", "[[virtual-service.route]]\nwhen = 'path(list \"FILE\")'\ndeny = {}"),
];

/// Those that are used when the configuration runs. Where `+` begins one it stands before the services, behind
/// `@` in `[admin]`.
const RUNNING_KEYS: &[(&str, &str)] = &[
    ("admin.certificate", "@certificate = \"FILE\"\n"),
    ("acme.ca", "+[[acme]]\nname = \"own\"\ndirectory = \"https://127.0.0.1:1/\"\nca = \"FILE\"\n"),
    (
        "acme.external-account.key-file",
        "+[[acme]]\nname = \"own\"\ndirectory = \"https://127.0.0.1:1/\"\nexternal-account = { key-id = \"a\", key-file = \"FILE\" }\n",
    ),
    (
        "acme.dns.key-file",
        "+[[acme]]\nname = \"own\"\ndirectory = \"https://127.0.0.1:1/\"\ndns = { type = \"update\", server = \"127.0.0.1:1\", key-name = \"a\", key-file = \"FILE\" }\n",
    ),
    ("real-server.discover.path", "discover = [{ type = \"file\", path = \"FILE\" }]"),
    (
        "real-server.discover.token-file",
        "discover = [{ type = \"http\", url = \"http://127.0.0.1:1/\", token-file = \"FILE\" }]",
    ),
    (
        "real-server.discover.ca",
        "discover = [{ type = \"http\", url = \"https://127.0.0.1:1/\", ca = \"FILE\" }]",
    ),
    ("real-server.discover.socket", "discover = [{ type = \"docker\", socket = \"FILE\", label = \"a\" }]"),
    ("health-check.command", "health-check = { type = \"script\", command = \"FILE\", interval = \"1s\" }"),
    (
        "health-check.tls.certificate",
        "health-check = { type = \"tcp\", tls = { certificate = \"FILE\", verify = false } }",
    ),
    ("resolver.resolv-conf", "+[resolver]\nresolv-conf = \"FILE\"\n"),
    ("resolver.hosts", "+[resolver]\nhosts = \"FILE\"\n"),
    (
        "alerts.email",
        "+[[alerts.email]]\nserver = \"127.0.0.1:1\"\nto = [\"a@example.org\"]\nfrom = \"b@example.org\"\nca = \"FILE\"\nusername = \"a\"\npassword-file = \"FILE\"\n",
    ),
    ("alerts.webhook.ca", "+[[alerts.webhook]]\nurl = \"https://127.0.0.1:1/\"\nca = \"FILE\"\n"),
    ("alerts.script.command", "+[[alerts.script]]\ncommand = \"FILE\"\n"),
    (
        "alerts.syslog.ca",
        "+[[alerts.syslog]]\nserver = \"127.0.0.1:1\"\ntransport = \"tls\"\nca = \"FILE\"\n",
    ),
    ("log.access", "+[log]\naccess = \"FILE\"\n"),
    ("log.also.to", "+[log]\n[[log.also]]\nto = \"FILE\"\n"),
];

fn config(target: &Target, key: &str, file: &str) -> String {
    let folder = target.place.folder().display();
    let key = key.replace("FILE", file).replace("SERVER", &format!("{folder}/server.pem"));
    let [admin, before, keys, routes] = match key.as_str() {
        routes if routes.starts_with("[[") => ["", "", "", routes],
        key => match (key.strip_prefix('@'), key.strip_prefix('+')) {
            (Some(admin), _) => [admin, "", "", ""],
            (_, Some(before)) => ["", before, "", ""],
            _ => ["", "", key, ""],
        },
    };
    format!(
        "[admin]\nsocket = \"{folder}/admin.sock\"\nlisten = [\"{}\"]\n{admin}\n[state]\ndirectory = \"{folder}/state\"\n{before}\n\
         [[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\n{keys}\n{routes}\n\
         [[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
        target.place.at(9443),
        target.vip(),
        target.place.at(9001)
    )
}

/// Files that are none, hold what nobody should see, or have no end.
fn odd_files(target: &Target) -> Vec<String> {
    let folder = target.place.folder().to_owned();
    let at = |name: &str| folder.join(name).display().to_string();
    assert_eq!(command("mkfifo", &[&at("fifo")]).code, 0);
    std::fs::create_dir(folder.join("folder")).unwrap();
    std::fs::write(folder.join("secret"), format!("{MARKER}:line\nsecond {MARKER}\n\"{MARKER}\n")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("to-zero")).unwrap();
    std::os::unix::fs::symlink(folder.join("secret"), folder.join("to-secret")).unwrap();
    std::fs::File::create(folder.join("huge")).unwrap().set_len(8 << 30).unwrap();
    let own = ["fifo", "folder", "secret", "to-zero", "to-secret", "huge", "none"].map(at);
    own.into_iter().chain(["/dev/zero", "/dev/tty", "/proc/self/environ"].map(String::from)).collect()
}

/// Asks the API; status and answer.
fn ask(target: &Target, token: &str, path: &str, kind: &str, body: &Path) -> (String, String) {
    let url = format!("https://{}{path}", target.place.at(9443));
    let (token, kind) = (format!("Authorization: Bearer {token}"), format!("Content-Type: {kind}"));
    let body = format!("@{}", body.display());
    let output = command(
        "curl",
        &["-sk", "-m", "25", "-w", "\n%{http_code}", "-H", &token, "-H", &kind, "--data-binary", &body, &url],
    );
    let (answer, status) = output.out.rsplit_once('\n').unwrap_or(("", ""));
    (status.to_owned(), answer.to_owned())
}

#[test]
fn files_that_proposed_configurations_name() {
    if !require(&["curl", "mkfifo"]) {
        return;
    }
    let target = Target::start("hostile-files", ADMIN, "");
    let authority = evenkeel_testbed::Authority::new(&target.place, "ca");
    authority.server(&target.place, "server.pem", &["test"]);
    let token = |role: &str| target.evenkeel.ok(&["token", "add", role, "--role", role]).trim().to_owned();
    let tokens = ["viewer", "operator", "certificate-manager", "admin"].map(|role| (role, token(role)));
    let files = odd_files(&target);
    target.endures("configurations that name odd files", 96, |target| {
        let mut attack = Attack::default();
        for (name, key) in KEYS {
            for file in &files {
                let text = config(target, key, file);
                let proposed = target.place.write("proposed.toml", &text);
                let question = serde_json::json!({ "target": format!("http://{}/", target.vip()), "configuration": text });
                let question = target.place.write("question.json", question.to_string());
                attack.sent += 2 * text.len() as u64;
                // Each role once a key; those who may not configure get no further than the gate.
                for (role, token) in tokens.iter().filter(|(role, _)| *role == "admin" || file == &files[0]) {
                    for (path, kind, body) in [
                        ("/api/v1/plan", "application/toml", &proposed),
                        ("/api/v1/explain", "application/json", &question),
                    ] {
                        let (status, answer) = ask(target, token, path, kind, body);
                        let what = format!("{role}, {path}, {name} = {file}");
                        assert!(!answer.contains(MARKER), "{what}: {answer}");
                        assert!(!answer.contains("EVENKEEL_"), "{what}: {answer}");
                        match *role {
                            "admin" => assert_ne!(status, "000", "{what}: no answer"),
                            _ => assert_eq!(status, "403", "{what}"),
                        }
                    }
                }
            }
            assert_eq!(target.evenkeel.cli(&["status"]).code, 0, "{name}: the daemon answers");
        }
        attack
    });
    assert!(!target.evenkeel.log().contains(MARKER), "the log tells what files hold");
}

/// Each is committed, with the program at work: whatever the files are, it serves, answers and takes the next
/// configuration.
#[test]
fn files_that_a_running_configuration_names() {
    if !require(&["curl", "mkfifo"]) {
        return;
    }
    let target = Target::start("hostile-running", ADMIN, "");
    let token = target.evenkeel.ok(&["token", "add", "admin", "--role", "admin"]).trim().to_owned();
    let files = odd_files(&target);
    let good = config(&target, "", "");
    target.endures("configurations that run with odd files", 96, |target| {
        let mut attack = Attack::default();
        for (name, key) in RUNNING_KEYS {
            for file in &files {
                // What a program of ours writes to is not a device of this machine.
                if name.starts_with("log.") && file.starts_with("/dev") {
                    continue;
                }
                let text = config(target, key, file);
                let body = target.place.write("running.toml", &text);
                attack.sent += text.len() as u64;
                let (status, answer) = ask(target, &token, "/api/v1/commit", "application/toml", &body);
                let what = format!("{name} = {file}");
                assert!(["200", "409", "422"].contains(&&*status), "{what}: {status} {answer}");
                let of_test = ["has no key", "is missing", "needs"].iter().any(|word| answer.contains(word));
                assert!(!of_test, "{what}: the test is wrong: {answer}");
                assert!(!answer.contains(MARKER), "{what}: {answer}");
                // A check that cannot be made takes the server out.
                let is_served = name.starts_with("health-check") || target.is_served();
                assert!(is_served, "{what}: clients are served");
            }
            assert_eq!(target.evenkeel.cli(&["status"]).code, 0, "{name}: the daemon answers");
            let body = target.place.write("good.toml", &good);
            let (status, answer) = ask(target, &token, "/api/v1/commit", "application/toml", &body);
            assert_eq!(status, "200", "{name}: the next configuration is taken: {answer}");
            eventually(&format!("{name}: clients are served again"), Duration::from_secs(60), || {
                target.is_served()
            });
        }
        attack
    });
    assert!(!target.evenkeel.log().contains(MARKER), "the log tells what files hold");
}

/// A new key that names a file joins one of the lists.
#[test]
fn every_key_that_names_a_file_is_tried() {
    /// Files of this program's own, and programs and lines that are opened by a pair alone.
    const OTHERS: [&str; 5] =
        ["[admin] socket", "[state] directory", "[pair] serial", "[pair] notify", "hook command"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/reference/configuration.md")).unwrap();
    let (mut heading, mut count) = ("", 0);
    for line in page.lines() {
        heading = line.strip_prefix('#').unwrap_or(heading).trim_matches(['#', ' ']);
        if !line.contains("absolute path") {
            continue;
        }
        let key = line.split('`').nth(1).expect("a key");
        let other = OTHERS.iter().any(|other| {
            let (of, name) = other.rsplit_once(' ').unwrap();
            name == key && heading.contains(of)
        });
        let forms = ["\"FILE\"", "[\"FILE\"]", "{ 503 = \"FILE\" }"];
        let mut tried = KEYS.iter().chain(RUNNING_KEYS);
        let tried = tried.any(|(_, text)| forms.iter().any(|form| text.contains(&format!("{key} = {form}"))));
        assert!(other || tried, "{heading}: nothing tries odd files as {key}");
        count += 1;
    }
    assert!(count > 30, "{count} keys");
}
