//! Configurations that are only asked about: whatever they name is read by those who may configure, in
//! bounded time, and told to nobody.

use std::path::Path;

use evenkeel_testbed::{command, require};

use crate::cost::{Attack, Target};

const ADMIN: &str = "[admin]\nsocket = \"FOLDER/admin.sock\"\nlisten = [\"ADMIN\"]\n";
const MARKER: &str = "MARKER-of-a-file";

/// Every key of the schema that names a file which is read, each in a configuration of its own.
const KEYS: &[(&str, &str)] = &[
    ("tls.certificates", "tls = { certificates = [\"FILE\"] }"),
    ("tls.certificate-list", "tls = { certificate-list = \"FILE\" }"),
    ("client-auth.ca", "tls = { certificates = [\"SERVER\"], client-auth = { ca = \"FILE\" } }"),
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

fn config(target: &Target, key: &str, file: &str) -> String {
    let folder = target.place.folder().display();
    let key = key.replace("FILE", file).replace("SERVER", &format!("{folder}/server.pem"));
    let (keys, routes) = if key.starts_with("[[") { ("", key.as_str()) } else { (key.as_str(), "") };
    format!(
        "[admin]\nsocket = \"{folder}/admin.sock\"\nlisten = [\"{}\"]\n[state]\ndirectory = \"{folder}/state\"\n\
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
