//! What a configuration says, but hardly means: whoever brings it is told, and the log of who runs it, by
//! whatever way it comes.

use std::time::Duration;

use evenkeel_testbed::{Evenkeel, Place, Scripted, command, eventually, require};

const LOGGED: &str = "the configuration runs, but does not all that it seems to say";

/// A configuration with so many rules that never hold: one in its text, one in a list. `number` makes it another.
fn doubtful(place: &Place, number: usize) -> String {
    let list = place.write("paths.txt", "/a\n/list?c\n");
    let text = format!(
        "[admin]\nsocket = \"{}\"\nlisten = [\"{}\"]\n\n[[virtual-service]]\nname = \"web\"\nvip = [\"{}\"]\nmode = \"http\"\n\
         health-check = {{ type = \"none\" }}\n\n\
         [[virtual-service.route]]\nname = \"text{number}\"\nwhen = 'path(\"/text?y\")'\nanswer = {{ status = 403 }}\n\n\
         [[virtual-service.route]]\nname = \"list\"\nwhen = 'path(\"@{}\")'\nanswer = {{ status = 403 }}\n\n\
         [[virtual-service.real-server]]\nname = \"s1\"\naddress = \"{}\"\n",
        place.file("admin.sock").display(),
        place.at(9443),
        place.at(8080),
        list.display(),
        place.at(9001)
    );
    Evenkeel::complete(place, &text)
}

fn running(place: &Place) -> Evenkeel {
    let whole = doubtful(place, 0);
    let text = whole.split_once("[admin]").expect("it begins with the state").1;
    crate::start(place, &format!("[admin]{text}"))
}

fn holds_both(what: &str, told: &str) {
    for part in ["/text?y", "paths.txt, line 2"] {
        assert!(told.contains(part), "{what} says nothing of {part}: {told}");
    }
}

/// Does something that brings a configuration, and waits until the log has both warnings once more.
fn logs_both<T>(what: &str, evenkeel: &Evenkeel, act: impl FnOnce() -> T) -> T {
    let count = |part: &str| {
        evenkeel.log().lines().filter(|line| line.contains(LOGGED) && line.contains(part)).count()
    };
    let before = ["/text?y", "paths.txt, line 2"].map(count);
    let done = act();
    eventually(&format!("{what} is in the log"), Duration::from_secs(10), || {
        ["/text?y", "paths.txt, line 2"].map(count).iter().zip(&before).all(|(now, before)| now > before)
    });
    done
}

#[test]
fn who_brings_a_configuration_hears_its_warnings() {
    if !require(&["curl"]) {
        return;
    }
    let place = Place::new("warnings");
    let _server = Scripted::named(place.at(9001), "one");
    let evenkeel = running(&place);
    let logged = evenkeel.log();
    assert_eq!(logged.matches(LOGGED).count(), 2, "at the start: {logged}");
    // A backup without an admin is not restored.
    let password = place.write("password", "correct horse battery\n");
    let add = format!(
        "EVENKEEL_SOCKET={} {} user add ann --role admin --password-stdin < {}",
        evenkeel.socket().display(),
        env!("CARGO_BIN_EXE_evenkeel"),
        password.display()
    );
    assert_eq!(command("sh", &["-c", &add]).code, 0);
    let url = |path: &str| format!("https://{}/api/v1/{path}", place.at(9443));
    let token = evenkeel.ok(&["token", "add", "tests", "--role", "admin"]);
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let post = |path: &str, kind: &str, body: &str| {
        let (file, kind) = (place.write("body", body), format!("Content-Type: {kind}"));
        let body = format!("@{}", file.display());
        let out = command(
            "curl",
            &["-sk", "-m", "25", "-H", &bearer, "-H", &kind, "--data-binary", &body, &url(path)],
        )
        .out;
        serde_json::from_str::<serde_json::Value>(&out).unwrap_or_else(|_| panic!("{path}: {out}"))
    };
    let file = |number: usize| place.write("new.toml", doubtful(&place, number)).display().to_string();

    // Who asks only.
    let checked = evenkeel.cli(&["check", &file(1)]);
    holds_both("check", &checked.err);
    holds_both("plan", &evenkeel.cli(&["plan", &file(1)]).err);
    holds_both("plan of what runs", &evenkeel.cli(&["plan", &file(0)]).err);
    holds_both("plan --json", &evenkeel.cli(&["plan", &file(1), "--json"]).out);
    holds_both(
        "the API's plan",
        &post("plan", "application/toml", &doubtful(&place, 1))["warnings"].to_string(),
    );
    let edits = serde_json::json!({ "text": doubtful(&place, 1), "edits": [] }).to_string();
    let proposal = post("configuration/propose", "application/json", &edits);
    holds_both("the API's proposal", &proposal["plan"]["warnings"].to_string());

    // Who commits.
    let told = logs_both("a commit of the command line", &evenkeel, || evenkeel.cli(&["commit", &file(1)]));
    assert_eq!(told.code, 0, "{}", told.err);
    holds_both("commit", &told.err);
    let done = logs_both("a commit of the API", &evenkeel, || {
        post("commit", "application/toml", &doubtful(&place, 2))
    });
    holds_both("the API's commit", &done["plan"]["warnings"].to_string());
    let revision = done["revision"].as_u64().expect("a revision");
    logs_both("the edited file", &evenkeel, || {
        std::fs::write(evenkeel.config_path(), doubtful(&place, 3)).expect("it is written");
        evenkeel.process.signal(rustix::process::Signal::HUP);
    });
    let back = logs_both("a rollback", &evenkeel, || {
        post("rollback", "application/json", &format!(r#"{{"revision":{revision}}}"#))
    });
    holds_both("the API's rollback", &back["plan"]["warnings"].to_string());
    let backup = command("curl", &["-sk", "-m", "25", "-H", &bearer, &url("backup")]).out;
    let restored = logs_both("a restore", &evenkeel, || {
        let restored = post("restore", "application/json", &backup);
        assert!(restored["revision"].is_u64(), "{restored}");
        restored
    });
    holds_both("the API's restore", &restored["notes"].to_string());
}

#[test]
fn a_list_that_changes_on_disk_is_told_of() {
    let place = Place::new("warnings-list");
    let _server = Scripted::named(place.at(9001), "one");
    let evenkeel = running(&place);
    place.write("paths.txt", "/a\n/b\n/new?c\n");
    eventually("the changed list is told of", Duration::from_secs(30), || {
        evenkeel.log().lines().any(|line| line.contains(LOGGED) && line.contains("paths.txt, line 3"))
    });
}

#[test]
fn a_node_that_gets_a_configuration_of_its_peer_is_told_of_it() {
    let Some(mut lab) = crate::pair::lab("warnings-pair") else { return };
    let shared = |path: &str| {
        let front = crate::layer4::service("web", "10.77.0.100:80", "http", "", crate::pair::FRONT);
        format!(
            "{front}\n[[virtual-service.route]]\nname = \"text\"\nwhen = 'path(\"{path}\")'\nanswer = {{ status = 403 }}\n"
        )
    };
    lab.start_pair("", &shared("/ab"));
    let told = |node: usize| lab.log(node).lines().any(|line| line.contains(LOGGED) && line.contains("/a?b"));
    assert!(!told(0) && !told(1));
    let file = lab.place.write("new.toml", lab.config(0, "", &shared("/a?b"))).display().to_string();
    let done = lab.cli(0, &["commit", &file]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("/a?b"), "{}", done.err);
    eventually("both nodes tell of it", Duration::from_secs(10), || told(0) && told(1));
}
