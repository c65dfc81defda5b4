//! The verbs: what they print, how they end, what they say when something is wrong.

use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Place, Process, Scripted, command, eventually, get};

use crate::{service, start};

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_and_fmt_and_schema() {
    let place = Place::new("check");
    let path = |name: &str| place.file(name).display().to_string();
    place.write("good.toml", service("web", "http", place.at(8080), &[place.at(9001)], ""));
    place.write("bad.toml", "[[virtual-service]]\nname = \"w\"\nvip = [\"x\"]\nmode = \"http\"\n");
    place.write("binary.toml", b"name = \"\xff\xfe\"\n");
    assert_eq!(run(&["check", &path("good.toml")]).0, 0);
    let (code, _, err) = run(&["check", &path("bad.toml")]);
    assert!(code == 78 && err.contains("bad.toml:3:8: error:") && err.contains("2 errors in"), "{err}");
    let (code, out, _) = run(&["check", "--json", &path("bad.toml")]);
    assert!(code == 78 && out.contains("\"line\": 3"), "{out}");
    let (code, _, err) = run(&["check", &path("binary.toml")]);
    assert!(code == 78 && err.contains("not UTF-8"), "{err}");
    assert_eq!(run(&["check", &path("missing.toml")]).0, 1);
    place.write("good.toml", service("web", "http", place.at(8080), &[place.at(9001)], "retries=1"));
    assert_eq!(run(&["fmt", "--check", &path("good.toml")]).0, 1);
    assert_eq!(run(&["fmt", "--write", &path("good.toml")]).0, 0);
    assert_eq!(run(&["fmt", "--check", &path("good.toml")]).0, 0);
    assert!(run(&["schema"]).1.contains("\"virtual-service\""));
    assert_eq!(run(&["frobnicate"]).0, 2);
    assert_eq!(run(&["drain", "web"]).0, 2);
    let (code, _, err) = run(&["status", "--socket", &path("none.sock")]);
    assert!(code == 4 && err.contains("is `evenkeel run` running?"), "{err}");
    let (code, _, _) = run(&["run", "--config", &path("bad.toml")]);
    assert_eq!(code, 78);
    for arguments in [&["run", "--socket", "/tmp/x.sock"][..], &["--socket", "/tmp/x.sock", "run"]] {
        let (code, _, err) = run(arguments);
        assert!(code == 2 && err.contains("its file names"), "{err}");
    }
}

#[test]
fn completion_and_manual() {
    let place = Place::new("manual");
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completion", shell]).1.contains("drain"), "{shell}");
    }
    assert!(run(&["man"]).1.contains(".TH evenkeel"));
    assert_eq!(run(&["man", &place.folder().display().to_string()]).0, 0);
    assert!(place.file("evenkeel-drain.1").exists());
}

#[test]
fn names_that_do_not_exist_are_said_so() {
    let place = Place::new("names");
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], ""));
    let fails = |arguments: &[&str], expect: &str| {
        let output = evenkeel.cli(arguments);
        assert!(output.code == 1 && output.err.contains(expect), "{arguments:?}: {output:?}");
    };
    fails(&["drain", "nothing/s1"], "no virtual service or pool named nothing");
    fails(&["drain", "web/s9"], "has s1");
    fails(&["status", "nothing"], "no virtual service named nothing");
    fails(&["persistence", "list", "web"], "keeps no persistence table");
    fails(&["explain", "http://192.0.2.1:80/"], "no virtual service has the VIP");
    fails(&["explain", "nonsense"], "expected http://");
}

#[test]
fn status_and_explain_say_what_and_why() {
    let place = Place::new("status");
    let _one = Scripted::named(place.at(9001), "one");
    let mut evenkeel =
        start(&place, &service("web", "http", place.at(8080), &[place.at(9001), place.at(9002)], ""));
    evenkeel.await_server("web", "s2", "down");
    let status = evenkeel.ok(&["status"]);
    assert!(status.contains("degraded") && status.contains("connection refused"), "{status}");
    let json = evenkeel.json(&["status"]);
    assert_eq!(json["node"]["role"], "active");
    assert_eq!(json["revision"], 1);
    assert_eq!(evenkeel.service("web")["real-servers"][1]["check"]["verdict"], "failed");
    let told = evenkeel.ok(&["explain", &format!("http://{}/", place.at(8080))]);
    assert!(told.contains("=> s1") && told.contains("down"), "{told}");
    let proposed = place.write(
        "proposed.toml",
        service("web", "http", place.at(8080), &[place.at(9001)], "scheduler = \"first\""),
    );
    let told = evenkeel.ok(&[
        "explain",
        &format!("http://{}/", place.at(8080)),
        "--config",
        &proposed.display().to_string(),
    ]);
    assert!(told.contains("scheduler first"), "{told}");
    get(place.at(8080), "/");
    assert!(evenkeel.ok(&["top", "--count", "2"]).contains("/s"));
    // What happened is known after a crash.
    assert!(evenkeel.ok(&["events"]).contains("web/s2 is down: connection refused"));
    let happened = evenkeel.json(&["events"]);
    evenkeel.process.kill();
    evenkeel.start_again();
    let now = evenkeel.json(&["events"]);
    assert!(now.as_array().unwrap().ends_with(happened.as_array().unwrap()), "{now}");
}

#[test]
fn the_demo_survives_the_loss_of_a_server() {
    let started = std::time::Instant::now();
    let (code, out, err) = run(&["demo", "--duration", "9s", "--port", "18080"]);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(out.contains("was killed") && out.contains("down") && out.contains(" 0 failed"), "{out}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn nothing_stays_of_a_demo_that_ends_early() {
    use rustix::process::Signal;
    for (signal, port) in [(Signal::HUP, 18_100), (Signal::TERM, 18_110), (Signal::KILL, 18_120)] {
        let mut demo = Process::start(
            Command::new(env!("CARGO_BIN_EXE_evenkeel"))
                .args(["demo", "--duration", "60s", "--port", &port.to_string()])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null()),
        );
        let folder = std::env::temp_dir().join(format!("evenkeel-demo-{}", demo.id()));
        let listens = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        eventually("the demo serves", Duration::from_secs(20), || (0..6).all(|n| listens(port + n)));
        assert!(folder.exists());
        demo.signal(signal);
        eventually("the demo ends", Duration::from_secs(5), || demo.has_ended());
        eventually("so do its children", Duration::from_secs(5), || !(0..6).any(|n| listens(port + n)));
        eventually("its files are gone", Duration::from_secs(5), || !folder.exists());
    }
}

#[test]
fn steps_for_other_systems_are_whole_commands() {
    let steps = |system: &str, vip: &str| {
        let arguments = ["real-server", "steps", system, "--mode", "dr", "--vip", vip];
        let printed = command(env!("CARGO_BIN_EXE_evenkeel"), &arguments);
        assert_eq!(printed.code, 0, "{}", printed.err);
        printed.out
    };
    let windows = steps("windows", "192.0.2.9");
    for part in
        ["Get-NlbClusterNode", "New-NetFirewallRule", "New-WebBinding", "netsh interface ipv4 show interface"]
    {
        assert!(windows.contains(part), "{part}: {windows}");
    }
    for (system, v4, v6) in [
        ("linux", "ip addr add 192.0.2.9/32 dev lo", "ip -6 addr add 2001:db8::9/128 dev lo nodad"),
        ("windows", "-IPAddress 192.0.2.9 -PrefixLength 32 -SkipAsSource", "-PrefixLength 128"),
        ("solaris", "ipadm create-addr -T static -a 192.0.2.9/32 lo0/", "2001:db8::9/128"),
        (
            "macos",
            "sudo ifconfig lo0 alias 192.0.2.9 netmask 255.255.255.255",
            "inet6 2001:db8::9 prefixlen 128",
        ),
        ("bsd", "ifconfig lo0 alias 192.0.2.9 netmask 255.255.255.255", "inet6 2001:db8::9 prefixlen 128"),
    ] {
        let (four, six) = (steps(system, "192.0.2.9"), steps(system, "2001:db8::9"));
        assert!(four.contains(v4) && four.contains("1. "), "{four}");
        assert!(six.contains(v6) && six.contains("2001:db8::9"), "{six}");
        // What nobody may forget on any of them.
        assert!([&four, &six].iter().all(|text| text.contains("default route must lead to the clients")));
    }
}
