//! The web UI in a real browser, and the API as strangers meet it.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_testbed::{Evenkeel, Place, has_program, skip};

use crate::start;

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
