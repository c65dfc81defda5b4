//! One configuration under Debian's HAProxy and under `evenkeel haproxy -f`, with the same clients and
//! servers: what clients get, what servers see, which are chosen, lines of the log, states.
//!
//! Many small configurations run in one process of each side, on ports of their own. What the program
//! refuses with a message is listed where the cases are; what differs without one fails.

mod arguments;
mod case;
mod compare;
mod conditions;
mod keywords;
mod rules;
mod samples;
mod settings;
mod side;
mod tokens;

use compare::compare;
use evenkeel_testbed::Place;

/// Files that cases name.
fn prepare(place: &Place) {
    place.write("words.lst", "/app/One.php\none\nwww.example.org\nRed\n/app\nX=1\n");
    place.write("networks.lst", "# who is let in\n10.0.0.0/8\n127.0.0.0/8\n");
    place.write("names.map", "/app /mapped\none first\nwww.example.org WWW\n127.0.0.0/8 loop\n");
    // The first of keys that are the same holds.
    place.write("twice.map", "/a first\n/a second\nabc abc1\nabc abc2\nthree 3\nthree 4\n/p p\n");
    place.write(
        "503.http",
        "HTTP/1.0 503 Service Unavailable\r\nCache-Control: no-cache\r\nContent-Type: text/plain\r\nX-Page: own\r\n\r\nsorry",
    );
    place.write("403.http", "HTTP/1.0 403 Forbidden\r\nContent-Type: text/plain\r\nX-Page: own\r\n\r\nno");
    place.write("rsa.pem", tokens::RSA_KEY);
    place.write("curve.pem", tokens::CURVE_KEY);
    place.write("page.html", "<b>page</b>\n");
    place.write("page.lf", "path %[path] of %[req.hdr(host)]\n");
}

#[test]
fn fetches_flags_and_ways_to_compare() {
    compare("flags", &conditions::flags(), conditions::TOLD, conditions::KNOWN);
}

#[test]
fn samples_and_converters() {
    compare("samples", &samples::all(), samples::TOLD, samples::KNOWN);
}

#[test]
fn passwords_and_tokens() {
    compare("tokens", &tokens::all(), &[], tokens::KNOWN);
}

#[test]
fn rules_of_requests() {
    compare("requests", &rules::of_requests(), rules::TOLD, rules::KNOWN);
}

#[test]
fn rules_of_answers_and_connections() {
    compare("answers", &rules::of_answers(), rules::TOLD, rules::KNOWN);
}

#[test]
fn options_balance_cookies_and_pages() {
    compare("settings", &settings::all(), settings::TOLD, settings::KNOWN);
}

#[test]
fn checks_and_states() {
    compare("checks", &settings::checks(), settings::TOLD, settings::KNOWN);
}

#[test]
fn defaults_and_scopes() {
    compare("scopes", &settings::scopes(), settings::TOLD, settings::KNOWN);
}

#[test]
fn every_word_of_haproxy_works_or_is_told() {
    if !evenkeel_testbed::require(&["haproxy"]) {
        return;
    }
    let gone = keywords::swallowed();
    let gone: Vec<&String> = gone.iter().filter(|word| !keywords::MOOT.contains(&word.as_str())).collect();
    assert!(gone.is_empty(), "{} words are swallowed: {gone:#?}", gone.len());
    let kept = keywords::not_taken_back();
    assert!(kept.is_empty(), "these take nothing back of default-server: {kept:?}");
}

/// Debian's own file, and the examples of its package: what HAProxy takes is taken, or told by its line.
#[test]
fn examples_of_the_package_are_taken_or_told() {
    let folders = ["/etc/haproxy", "/usr/share/doc/haproxy/examples"];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let files: Vec<_> =
        files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "cfg")).collect();
    if files.is_empty() {
        return evenkeel_testbed::skip("the examples of HAProxy's package");
    }
    let check = |program: &str, words: &[&str], file: &std::path::Path| {
        let output = std::process::Command::new(program).args(words).arg("-c").arg("-f").arg(file).output();
        let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for file in files {
        let (code, said) = check(env!("CARGO_BIN_EXE_evenkeel"), &["haproxy"], &file);
        assert!(matches!(code, Some(0 | 1)), "{}: {code:?} {said}", file.display());
        let alerts: Vec<&str> = said.lines().filter(|line| line.starts_with("[ALERT]")).collect();
        let ends = |line: &str| line.contains("Error(s) found") || line.contains("Fatal errors found");
        for alert in alerts.iter().filter(|line| !ends(line)) {
            assert!(alert.contains("parsing [") && !alert.contains(":0]"), "{}: {alert}", file.display());
            // A mistake in it is one for HAProxy as well.
            if !alert.contains("is known but not supported") && evenkeel_testbed::has_program("haproxy") {
                let (old, theirs) = check("haproxy", &[], &file);
                assert_ne!(old, Some(0), "{}: {alert}\n{theirs}", file.display());
            }
        }
    }
}
