//! Secrets of a configuration: who may not read it sees none, by whatever way they ask.

use std::process::Command;

use evenkeel_testbed::{Evenkeel, Place, Scripted};

use crate::start;

/// A configuration with a marker in every place that may hold a secret.
fn planted(place: &Place) -> String {
    let folder = place.folder().display();
    let (vip, tcp, admin) = (place.at(8080), place.at(8081), place.at(9443));
    let (one, two, three) = (place.at(9001), place.at(9002), place.at(9003));
    format!(
        r#"[admin]
socket = "{folder}/admin.sock"
listen = ["{admin}"]

[[alerts.webhook]]
url = "http://{two}/MARKER01/MARKER02?token=MARKER03"

[[virtual-service]]
name = "web"
vip = ["{vip}"]
mode = "http"
health-check = {{ type = "http", path = "/health?api_key=MARKER04", headers = {{ Authorization = "Bearer MARKER05", X-Odd = "MARKER06" }}, method = "POST", body = "MARKER07", agent = {{ port = 3333, send = "MARKER08" }} }}
  [[virtual-service.route]]
  name = "variables"
  set-variable = {{ plain = "MARKER09", token = "MARKER10" }}
  set-header = {{ Authorization = "Basic MARKER11", X-Odd = "MARKER12" }}
  add-header = {{ X-More = "MARKER13" }}
  set-response-header = {{ X-Back = "MARKER14" }}
  capture = {{ seen = "MARKER15" }}
  [[virtual-service.route]]
  name = "compares"
  when = 'header("X-Tenant") == "MARKER16" || cookie("c") == "MARKER17" || query("sig") =~ "MARKER18" || text("{{variable:plain}}") == "MARKER19"'
  deny = {{ status = 403 }}
  [[virtual-service.route]]
  name = "known"
  when = 'path("/staff/*")'
  basic-auth = {{ accounts = {{ ann = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/" }} }}
  [[virtual-service.route]]
  name = "away"
  when = 'path("/away")'
  redirect = {{ location = "https://bob:MARKER20@example.org/in?token=MARKER21" }}
  [[virtual-service.route]]
  name = "query"
  when = 'path("/query")'
  rewrite-query = "api_key=MARKER22"
  [[virtual-service.real-server]]
  name = "s1"
  address = "{one}"

[[virtual-service]]
name = "line"
vip = ["{tcp}"]
mode = "tcp"
health-check = {{ type = "tcp", steps = [{{ send = "MARKER23" }}, {{ send-hex = "4d41524b45523234" }}, {{ expect = "never" }}], timeout = "300ms" }}
  [[virtual-service.real-server]]
  name = "s1"
  address = "{two}"

[[pool]]
name = "mail"
health-check = {{ type = "imap", user = "ann", password = "MARKER25" }}
  [[pool.real-server]]
  name = "s1"
  address = "{two}"

[[pool]]
name = "access"
health-check = {{ type = "radius", user = "ann", password = "MARKER26", secret = "MARKER27", timeout = "300ms" }}
  [[pool.real-server]]
  name = "s1"
  address = "{three}"

[[pool]]
name = "judged"
health-check = {{ type = "script", command = "/bin/false", arguments = ["MARKER28"] }}
  [[pool.real-server]]
  name = "s1"
  address = "{three}"
"#
    )
}

struct People<'a> {
    place: &'a Place,
    tokens: [(&'static str, String); 3],
}

impl People<'_> {
    fn of<'a>(evenkeel: &Evenkeel, place: &'a Place) -> People<'a> {
        let token = |role| (role, evenkeel.ok(&["token", "add", role, "--role", role]).trim().to_owned());
        People { place, tokens: ["viewer", "operator", "admin"].map(token) }
    }

    /// What somebody of this role gets.
    fn ask(&self, role: &str, method: &str, path: &str, body: &str) -> String {
        let (_, token) = self.tokens.iter().find(|(known, _)| *known == role).unwrap();
        let header = format!("Authorization: Bearer {token}");
        let url = format!("https://{}{path}", self.place.at(9443));
        let mut command = Command::new("curl");
        // Streams have no end.
        let limit = if path.ends_with("/live") || path.ends_with("/logs") { "2" } else { "60" };
        command.args([
            "-sk",
            "-m",
            limit,
            "-X",
            method,
            "-H",
            &header,
            "-H",
            "Content-Type: application/json",
        ]);
        if !body.is_empty() {
            command.args(["--data-binary", body]);
        }
        String::from_utf8_lossy(&command.arg(url).output().unwrap().stdout).into_owned()
    }
}

fn reads_the_configuration(path: &str) -> bool {
    path == "/api/v1/configuration" || path == "/api/v1/revisions/{revision}"
}

fn is_clean(what: &str, text: &str) {
    for secret in ["MARKER", "$6$saltsalt", "4d41524b4552"] {
        let found = text.find(secret).map(|at| &text[at.saturating_sub(80)..text.len().min(at + 40)]);
        assert!(found.is_none(), "{what} tells {secret}: {found:?}");
    }
}

#[test]
fn who_may_not_read_the_configuration_sees_no_secret_of_it() {
    if !evenkeel_testbed::require(&["curl"]) {
        return;
    }
    let place = Place::new("secrets");
    let _servers = [Scripted::named(place.at(9001), "one"), Scripted::named(place.at(9002), "two")];
    let evenkeel = start(&place, &planted(&place));
    evenkeel.await_server("line", "s1", "down");
    let people = People::of(&evenkeel, &place);
    // Something to tell of: a second revision, and a change of state.
    evenkeel.commit(&place, &planted(&place).replace("never", "hardly ever"));
    // One that is refused, with the secret in the line at fault.
    let wrong = planted(&place)
        .replace("password = \"MARKER25\"", "password = \"MARKER25\", passwort = \"MARKER29\"");
    let file = place.write("wrong.toml", Evenkeel::complete(&place, &wrong));
    assert_ne!(evenkeel.cli(&["commit", file.to_str().unwrap()]).code, 0);
    for role in ["viewer", "operator"] {
        let all = people.ask(role, "GET", "/api/v1/openapi.json", "");
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        let mut asked = 0;
        for (path, methods) in all["paths"].as_object().unwrap() {
            // An operator may read the configuration itself.
            if methods.get("get").is_none() || role == "operator" && reads_the_configuration(path) {
                continue;
            }
            let path = path.replace("{service}", "web").replace("{revision}", "1");
            let query = if path.contains("series") { "?service=web" } else { "" };
            is_clean(&path, &people.ask(role, "GET", &format!("{path}{query}"), ""));
            asked += 1;
        }
        assert!(asked > 15, "{asked}");
    }
    for verb in [&["status"][..], &["history"], &["doctor"], &["connections"], &["certificates"]] {
        let said = evenkeel.cli(&[&["--json"], verb].concat());
        is_clean(&verb.join(" "), &format!("{}{}", said.out, said.err));
    }
    let vip = place.at(8080);
    for path in ["/", "/staff/x", "/away", "/query?a=1"] {
        let question = format!(r#"{{"target":"http://{vip}{path}"}}"#);
        let told = people.ask("viewer", "POST", "/api/v1/explain", &question);
        assert!(told.contains("\"routes\""), "{told}");
        is_clean(path, &told);
    }
    // Who configures is told all.
    let question = format!(r#"{{"target":"http://{vip}/"}}"#);
    let told = people.ask("operator", "POST", "/api/v1/explain", &question);
    is_clean("explain to an operator", &told);
    let told = people.ask("admin", "POST", "/api/v1/explain", &question);
    assert!(told.contains("MARKER12") && told.contains("MARKER16"), "{told}");
    is_clean("the bundle", &people.ask("admin", "GET", "/api/v1/support-bundle", ""));
    is_clean("the log", &evenkeel.log());
}
