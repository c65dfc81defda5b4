//! Changing a running system without anybody noticing.

use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{
    Connection, Evenkeel, Place, Process, Scripted, command, eventually, get, nginx, require,
};

use crate::{service, start};

/// The configuration number `n`: servers, weights, scheduler and a second service come and go.
fn variant(place: &Place, n: usize) -> String {
    let schedulers = ["round-robin", "least-connections", "random", "maglev"];
    let keys = format!("scheduler = \"{}\"", schedulers[n % 4]);
    let servers = [place.at(9001), place.at(9002), place.at(9003)];
    let used = if n.is_multiple_of(3) { &servers[..2] } else { &servers[..] };
    let mut text = service("web", "http", place.at(8080), used, &keys);
    text = text.replace("9002\"", &format!("9002\"\n  weight = {}", 50 + n));
    if n % 2 == 1 {
        text.push_str(&service("other", "tcp", place.at(8081), &servers, ""));
    }
    text
}

#[test]
fn twenty_changes_and_five_hand_overs_fail_no_request() {
    if !require(&["nginx", "wrk"]) {
        return;
    }
    let place = Place::new("changes");
    let _servers: Vec<Process> =
        (1..=3).map(|n| nginx(&place, &format!("n{n}"), place.at(9000 + n))).collect();
    let mut evenkeel = start(&place, &variant(&place, 0));
    for n in 1..=2 {
        evenkeel.await_server("web", &format!("s{n}"), "up");
    }
    let load = Command::new("wrk")
        .args(["-t1", "-c128", "-d20", "--timeout", "8s", &format!("http://{}/", place.at(8080))])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut old = Vec::new();
    for n in 1..=20 {
        std::thread::sleep(Duration::from_millis(400));
        if n % 4 == 0 {
            old.push(evenkeel.hand_over());
        }
        if n % 2 == 0 {
            evenkeel.commit(&place, &variant(&place, n));
        } else {
            std::fs::write(
                evenkeel.config_path(),
                evenkeel_testbed::Evenkeel::complete(&place, &variant(&place, n)),
            )
            .unwrap();
            let before = evenkeel.log().matches("configuration committed").count();
            evenkeel.process.signal(rustix::process::Signal::HUP);
            eventually("the file is applied", Duration::from_secs(5), || {
                evenkeel.log().matches("configuration committed").count() > before
            });
        }
    }
    let output = load.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("requests in"), "{told}");
    assert!(!told.contains("Socket errors") && !told.contains("Non-2xx"), "{told}\n{}", evenkeel.log());
    for mut process in old {
        eventually("each old process ends", Duration::from_secs(15), || process.has_ended());
    }
}

#[test]
fn sigusr2_starts_a_successor_that_takes_over() {
    let place = Place::new("usr2");
    let _server = Scripted::named(place.at(9001), "one");
    let mut evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], ""));
    evenkeel.process.signal(rustix::process::Signal::USR2);
    eventually("the first process ends", Duration::from_secs(15), || evenkeel.process.has_ended());
    assert_eq!(get(place.at(8080), "/").text(), "one");
    // The successor is nobody's child here: end it by its number, which the log tells.
    let log = evenkeel.log();
    let number = log.split("process=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let pid = rustix::process::Pid::from_raw(number.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    eventually("the successor ends", Duration::from_secs(10), || {
        std::net::TcpStream::connect(place.at(8080)).is_err()
    });
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let place = Place::new("badsuccessor");
    let _server = Scripted::named(place.at(9001), "one");
    let good = service("web", "http", place.at(8080), &[place.at(9001)], "");
    let evenkeel = start(&place, &good);
    let taken = std::net::TcpListener::bind(place.at(8099)).unwrap();
    let bad = good.clone() + &service("more", "http", place.at(8099), &[place.at(9001)], "");
    let path = place.write("bad.toml", evenkeel_testbed::Evenkeel::complete(&place, &bad));
    let failed = evenkeel.cli(&["run", "--config", &path.display().to_string()]);
    assert_eq!(failed.code, 1);
    assert!(failed.err.contains("cannot listen on"), "{}", failed.err);
    assert_eq!(get(place.at(8080), "/").text(), "one");
    let refused = evenkeel.cli(&["commit", &path.display().to_string()]);
    assert!(refused.code == 1 && refused.err.contains("cannot listen on"), "{refused:?}");
    assert_eq!(get(place.at(8080), "/").text(), "one");
    drop(taken);
    let second = evenkeel.cli(&["run", "--no-take-over", "--config", &path.display().to_string()]);
    assert!(second.code == 1 && second.err.contains("another process serves"), "{second:?}");
}

#[test]
fn a_second_program_does_not_share_ports() {
    let place = Place::new("second");
    let _server = Scripted::named(place.at(9001), "one");
    let vip = service("web", "http", place.at(8080), &[place.at(9001)], "");
    let admin = |socket: &str, listen: u16| {
        format!(
            "[admin]\nsocket = \"{}\"\nlisten = [\"{}\"]\n",
            place.file(socket).display(),
            place.at(listen)
        )
    };
    let mut evenkeel = start(&place, &(admin("admin.sock", 9443) + &vip));
    let other = service("web", "http", place.at(8081), &[place.at(9001)], "");
    let everywhere = other.replace(&place.at(8081).to_string(), "0.0.0.0:8080");
    for (config, port) in [
        (admin("other.sock", 9444) + &vip, "8080"),
        (admin("other.sock", 9444) + &everywhere, "8080"),
        (admin("other.sock", 9443) + &other, "9443"),
    ] {
        let config = evenkeel_testbed::Evenkeel::complete(&place, &config);
        let path = place.write("second.toml", config.replace("/state\"", "/state2\""));
        let second = evenkeel.cli(&["run", "--config", &path.display().to_string()]);
        let expect = second.err.contains("cannot listen on") && second.err.contains(port);
        assert!(second.code == 1 && expect, "{second:?}");
    }
    assert_eq!(get(place.at(8080), "/").text(), "one");
    // Its own successor has the same ports, and so has a wider address of its own.
    let mut old = evenkeel.hand_over();
    assert_eq!(get(place.at(8080), "/").text(), "one");
    eventually("the old process ends", Duration::from_secs(30), || old.has_ended());
    let wider = (admin("admin.sock", 9443) + &vip).replace(&place.at(8080).to_string(), "0.0.0.0:8080");
    evenkeel.commit(&place, &wider);
    assert_eq!(get(place.at(8080), "/").text(), "one");
}

#[test]
fn a_refused_commit_changes_nothing() {
    let place = Place::new("refused");
    let _server = Scripted::named(place.at(9001), "one");
    let servers = [place.at(9001), place.at(9002)];
    let good = service("web", "http", place.at(8080), &servers, "");
    let evenkeel = start(&place, &good);
    evenkeel.ok(&["drain", "web/s1"]);
    evenkeel.ok(&["weight", "web/s2", "7"]);
    let taken = std::net::TcpListener::bind(place.at(8099)).unwrap();
    let stands = || {
        let status = evenkeel.json(&["status"]);
        let servers: Vec<_> = ["s1", "s2"].map(|s| evenkeel.server("web", s)).into();
        let of = |s: &serde_json::Value| (s["admin-state"].clone(), s["weight"].clone());
        let file = std::fs::read_to_string(evenkeel.config_path()).unwrap();
        let state = std::fs::read_to_string(place.folder().join("state/state.json")).unwrap();
        (status["revision"].clone(), servers.iter().map(of).collect::<Vec<_>>(), file, state)
    };
    let before = stands();
    // The file itself says something new of both servers, which would end the live changes.
    let changed = good
        .replace("9001\"", "9001\"\n  weight = 33")
        .replace("9002\"", "9002\"\n  weight = 44\n  admin-state = \"halted\"");
    assert_ne!(changed, good);
    let tls = "tls = { certificates = [\"/nowhere/at-all.pem\"] }";
    let refused = [
        (service("more", "http", place.at(8099), &servers, ""), "cannot listen on"),
        (service("more", "http", place.at(8098), &servers, tls), "at-all.pem"),
    ];
    for (more, why) in refused {
        let path = place.write("refused.toml", Evenkeel::complete(&place, &(changed.clone() + &more)));
        let said = evenkeel.cli(&["commit", &path.display().to_string()]);
        assert!(said.code != 0 && said.err.contains(why), "{said:?}");
        assert_eq!(stands(), before, "after: {why}");
        assert!(std::net::TcpStream::connect(place.at(8098)).is_err());
    }
    let left: Vec<_> = std::fs::read_dir(place.folder()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().starts_with(".evenkeel.toml")), "{left:?}");
    // Without what stood in its way it does all of it.
    drop(taken);
    let port = service("more", "http", place.at(8099), &servers, "");
    evenkeel.commit(&place, &(changed + &port));
    let after = stands();
    assert_eq!(after.1[0].1, 33, "{after:?}");
    assert_eq!((&after.1[1].0, &after.1[1].1), (&"halted".into(), &44.into()), "{after:?}");
}

/// A file system of its own, as small as is asked for.
struct SmallDisk(String);

impl SmallDisk {
    fn mount(folder: &std::path::Path) -> Option<SmallDisk> {
        let folder = folder.display().to_string();
        std::fs::create_dir_all(&folder).unwrap();
        let mounted = command("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", &folder]);
        if mounted.code != 0 {
            println!("SKIPPED: nothing can be mounted here: {}", mounted.err);
            return None;
        }
        Some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        command("umount", &["--lazy", &self.0]);
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told_and_commits_are_refused() {
    let place = Place::new("state-full");
    let Some(disk) = SmallDisk::mount(&place.file("state")) else { return };
    let _server = Scripted::named(place.at(9001), "one");
    let web = service("web", "http", place.at(8080), &[place.at(9001)], "");
    let one = format!("[graphs]\nsize = \"0\"\n{web}");
    let more = one.clone() + &service("more", "http", place.at(8081), &[place.at(9001)], "");
    let mut evenkeel = start(&place, &one);
    let next = place.write("next.toml", Evenkeel::complete(&place, &more)).display().to_string();
    let is_refused = |evenkeel: &Evenkeel| {
        let file = std::fs::read_to_string(evenkeel.config_path()).unwrap();
        let revision = evenkeel.json(&["status"])["revision"].clone();
        let said = evenkeel.cli(&["commit", &next]);
        assert!(said.code != 0 && said.err.contains("cannot be written"), "{said:?}");
        assert!(said.err.contains("nothing was changed"), "{said:?}");
        assert_eq!(std::fs::read_to_string(evenkeel.config_path()).unwrap(), file);
        assert_eq!(evenkeel.json(&["status"])["revision"], revision);
        assert!(std::net::TcpStream::connect(place.at(8081)).is_err());
    };
    // Full.
    let full = place.file("state/full");
    let mut filling = std::fs::File::create(&full).unwrap();
    while std::io::Write::write_all(&mut filling, &[1; 4096]).is_ok() {}
    drop(filling);
    is_refused(&evenkeel);
    let doctor = |evenkeel: &Evenkeel| evenkeel.cli(&["doctor"]).out;
    assert!(doctor(&evenkeel).contains("cannot be written"), "known since the commit: {}", doctor(&evenkeel));
    std::fs::remove_file(&full).unwrap();
    eventually("doctor has no more to say", Duration::from_secs(25), || {
        !doctor(&evenkeel).contains("cannot be written")
    });
    evenkeel.commit(&place, &one.replace("s1", "renamed"));
    evenkeel.await_server("web", "renamed", "up");
    assert_eq!(get(place.at(8080), "/").status, 200);
    evenkeel.process.signal(rustix::process::Signal::TERM);
    let _ = evenkeel.process.wait();
    // Read-only from the start: known before anybody can ask.
    assert_eq!(command("mount", &["-o", "remount,ro", &disk.0]).code, 0);
    let mut evenkeel = start(&place, &one);
    let said = doctor(&evenkeel);
    assert!(said.contains("cannot be written") && said.contains("Read-only"), "{said}");
    assert_eq!(get(place.at(8080), "/").status, 200);
    is_refused(&evenkeel);
    evenkeel.process.signal(rustix::process::Signal::TERM);
    let _ = evenkeel.process.wait();
}

/// A file system that can be frozen, as for a snapshot: whoever writes waits until it is thawed.
struct FrozenDisk(String);

impl FrozenDisk {
    fn mount(place: &Place, folder: &std::path::Path) -> Option<FrozenDisk> {
        if !require(&["mkfs.ext4", "fsfreeze", "mount", "truncate"]) {
            return None;
        }
        let image = place.file("disk.img").display().to_string();
        let folder = folder.display().to_string();
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(command("truncate", &["-s", "32M", &image]).code, 0);
        assert_eq!(command("mkfs.ext4", &["-q", &image]).code, 0);
        let mounted = command("mount", &["-o", "loop", &image, &folder]);
        if mounted.code != 0 {
            println!("SKIPPED: no file of a file system can be mounted here: {}", mounted.err);
            return None;
        }
        Some(FrozenDisk(folder))
    }

    /// Until what it gives is dropped: before the daemon, which could not end.
    fn freeze(&self) -> Frozen {
        assert_eq!(command("fsfreeze", &["--freeze", &self.0]).code, 0);
        Frozen(self.0.clone())
    }
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        command("umount", &["--lazy", &self.0]);
    }
}

struct Frozen(String);

impl Drop for Frozen {
    fn drop(&mut self) {
        command("fsfreeze", &["--unfreeze", &self.0]);
    }
}

/// Snapshots of virtual machines freeze their file systems. Clients and people must not wait for it.
#[test]
fn a_disk_that_does_not_answer_holds_up_nobody() {
    let place = Place::new("frozen");
    let Some(disk) = FrozenDisk::mount(&place, &place.file("state")) else { return };
    let _servers = [Scripted::named(place.at(9001), "one"), Scripted::named(place.at(9002), "two")];
    let servers = [place.at(9001), place.at(9002)];
    let one = service("web", "http", place.at(8080), &servers, "");
    let more = one.clone() + &service("more", "http", place.at(8081), &servers, "");
    let mut evenkeel = start(&place, &one);
    evenkeel.await_server("web", "s2", "up");
    let next = place.write("next.toml", Evenkeel::complete(&place, &more)).display().to_string();
    let frozen = disk.freeze();
    let said = evenkeel.cli(&["commit", &next]);
    assert!(said.code != 0 && said.err.contains("has not answered"), "{said:?}");
    assert!(said.err.contains("nothing was changed"), "{said:?}");
    // Nobody waits for it a second time.
    let said = evenkeel.cli(&["drain", "web/s1"]);
    assert!(said.code != 0 && said.err.contains("has not answered"), "{said:?}");
    let mut answers: Vec<_> = (0..4).map(|_| get(place.at(8080), "/").body).collect();
    answers.sort();
    answers.dedup();
    assert_eq!(answers, [b"one".to_vec(), b"two".to_vec()]);
    eventually("doctor says it", Duration::from_secs(40), || {
        evenkeel.cli(&["doctor"]).out.contains("has not answered")
    });
    drop(frozen);
    eventually("it works again", Duration::from_secs(40), || evenkeel.cli(&["drain", "web/s1"]).code == 0);
    assert_eq!(get(place.at(8080), "/").body, b"two");
    evenkeel.commit(&place, &more);
    assert_eq!(get(place.at(8081), "/").status, 200);
    evenkeel.process.signal(rustix::process::Signal::TERM);
    let _ = evenkeel.process.wait();
}

#[test]
fn a_wrong_file_is_refused_and_the_old_one_runs_on() {
    let place = Place::new("wrongfile");
    let _server = Scripted::named(place.at(9001), "one");
    let good = service("web", "http", place.at(8080), &[place.at(9001)], "");
    let evenkeel = start(&place, &good);
    let text = std::fs::read_to_string(evenkeel.config_path()).unwrap();
    std::fs::write(evenkeel.config_path(), text.replace("mode", "mood")).unwrap();
    evenkeel.process.signal(rustix::process::Signal::HUP);
    eventually("the refusal is logged", Duration::from_secs(5), || {
        evenkeel.log().contains("was not applied")
    });
    assert!(evenkeel.log().contains("has no `mode`"), "{}", evenkeel.log());
    assert_eq!(get(place.at(8080), "/").text(), "one");
    let path = place.write("wrong.toml", "[[virtual-service]]\nname = 5");
    assert_eq!(evenkeel.cli(&["commit", &path.display().to_string()]).code, 78);
}

#[test]
fn a_removed_service_drains_and_a_kept_one_does_not_notice() {
    let place = Place::new("removed");
    let _server = Scripted::named(place.at(9001), "one");
    let web = service("web", "http", place.at(8080), &[place.at(9001)], "");
    let gone = service("gone", "http", place.at(8082), &[place.at(9001)], "");
    let evenkeel = start(&place, &format!("{web}{gone}"));
    let (mut kept, mut leaving) = (Connection::open(place.at(8080)), Connection::open(place.at(8082)));
    assert_eq!((kept.get("/").status, leaving.get("/").status), (200, 200));
    let plan = place.write("plan.toml", evenkeel_testbed::Evenkeel::complete(&place, &web));
    let plan = evenkeel.ok(&["plan", &plan.display().to_string()]);
    assert!(plan.contains("- virtual service gone: stops listening"), "{plan}");
    evenkeel.commit(&place, &web);
    assert!(std::net::TcpStream::connect(place.at(8082)).is_err());
    let last = leaving.get("/");
    assert_eq!((last.status, last.field("connection")), (200, Some("close")));
    let answer = kept.get("/");
    assert_eq!((answer.status, answer.field("connection")), (200, None));
    let file = std::fs::read_to_string(evenkeel.config_path()).unwrap();
    assert!(!file.contains("gone"), "the next start reads what was committed");
}

#[test]
fn sigterm_finishes_requests_and_stops_within_its_bound() {
    let place = Place::new("sigterm");
    let _server = Scripted::start(place.at(9001), |mut stream| {
        use std::io::Write;
        while evenkeel_testbed::read_head(&mut stream).is_some() {
            std::thread::sleep(Duration::from_millis(500));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let keys = "health-check = { type = \"none\" }";
    let mut evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9001)], keys));
    let mut busy = Connection::open(place.at(8080));
    let _idle = Connection::open(place.at(8080));
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    std::thread::sleep(Duration::from_millis(100));
    evenkeel.process.signal(rustix::process::Signal::TERM);
    let answer = busy.answer().unwrap();
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("ok", Some("close")));
    eventually("it stops", Duration::from_secs(5), || evenkeel.process.has_ended());
    assert_eq!(evenkeel.process.wait(), Some(0));
    assert!(!evenkeel.socket().exists());
}

/// The service manager's end of its socket: messages, each with the socket that came along.
fn next_message(manager: &std::os::unix::net::UnixDatagram) -> (String, Option<std::os::fd::OwnedFd>) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut text = [0; 512];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [std::io::IoSliceMut::new(&mut text)];
    let read = recvmsg(manager, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).expect("a message");
    let mut sockets = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let socket = sockets.next();
    (String::from_utf8_lossy(&text[..read.bytes]).into_owned(), socket)
}

#[test]
fn sockets_left_with_the_service_manager_survive_a_restart() {
    let place = Place::new("fdstore");
    let _server = Scripted::named(place.at(9001), "one");
    let config =
        format!("[limits]\nworkers = 1\n{}", service("web", "http", place.at(8080), &[place.at(9001)], ""));
    let path = place.write("evenkeel.toml", evenkeel_testbed::Evenkeel::complete(&place, &config));
    let notify = place.file("notify.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let quiet = std::process::Stdio::null;
    let mut first = Process::start(
        Command::new(program)
            .args(["run", "--config"])
            .arg(&path)
            .env("NOTIFY_SOCKET", &notify)
            .stderr(quiet()),
    );
    let mut stored = None;
    loop {
        let (text, socket) = next_message(&manager);
        if text.starts_with("FDSTORE=1") {
            assert!(text.contains("FDNAME=127."), "{text}");
            stored = socket;
        } else if text.starts_with("READY=1") {
            break;
        }
    }
    let stored = stored.expect("the listening socket");
    assert_eq!(get(place.at(8080), "/").text(), "one");
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.wait(), Some(0));
    // Between the two processes: the kernel keeps the connection.
    let mut waiting = Connection::open(place.at(8080));
    waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    // What systemd does: descriptor 3, and the number of the process it is meant for.
    let script = format!(
        "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec {program} run --config {}",
        path.display()
    );
    let second = Command::new("sh")
        .args(["-c", &script])
        .stdin(std::process::Stdio::from(stored))
        .stderr(quiet())
        .spawn();
    let second = Process::from(second.unwrap());
    assert_eq!(waiting.answer().expect("an answer from the second process").text(), "one");
    drop(second);
}

#[test]
fn a_commit_that_nobody_confirms_goes_back_and_any_revision_comes_back() {
    let place = Place::new("revisions");
    let servers = [place.at(9001)];
    let text = |scheduler: &str| {
        service("web", "http", place.at(8080), &servers, &format!("scheduler = \"{scheduler}\""))
    };
    let evenkeel = start(&place, &text("round-robin"));
    let running =
        |evenkeel: &evenkeel_testbed::Evenkeel| std::fs::read_to_string(evenkeel.config_path()).unwrap();
    let file = |scheduler: &str| {
        let text = evenkeel_testbed::Evenkeel::complete(&place, &text(scheduler));
        place.write(&format!("{scheduler}.toml"), text).display().to_string()
    };
    // Nobody confirms.
    let done = evenkeel.json(&["commit", &file("maglev"), "--confirm", "1s", "--message", "just trying"]);
    assert_eq!((&done["revision"], &done["confirm-within-ms"]), (&2.into(), &1000.into()), "{done}");
    assert!(running(&evenkeel).contains("maglev"));
    eventually("it goes back", Duration::from_secs(5), || running(&evenkeel).contains("round-robin"));
    assert_eq!(evenkeel.json(&["status"])["revision"], 3);
    // Somebody does.
    evenkeel.ok(&["commit", &file("random"), "--confirm", "2s"]);
    evenkeel.ok(&["confirm"]);
    assert_ne!(evenkeel.cli(&["confirm"]).code, 0, "nothing waits any more");
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(running(&evenkeel).contains("random"));
    // A daemon that dies meanwhile goes back when it is there again.
    evenkeel.ok(&["commit", &file("first"), "--confirm", "1s"]);
    evenkeel.process.signal(rustix::process::Signal::KILL);
    std::thread::sleep(Duration::from_millis(1_200));
    drop(evenkeel);
    let config = place.folder().join("evenkeel.toml").display().to_string();
    let again = start_again(&place, &config);
    eventually("it goes back after a crash", Duration::from_secs(10), || {
        std::fs::read_to_string(&config).unwrap().contains("random")
    });
    // History, differences, and the way back.
    let socket = place.file("admin.sock").display().to_string();
    let cli = |arguments: &[&str]| {
        let output = evenkeel_testbed::command(
            env!("CARGO_BIN_EXE_evenkeel"),
            &[arguments, &["--socket", &socket]].concat(),
        );
        assert_eq!(output.code, 0, "{arguments:?}: {}{}", output.out, output.err);
        output.out
    };
    let history = cli(&["history"]);
    assert!(history.contains("just trying") && history.contains("not confirmed"), "{history}");
    let diff = cli(&["diff", "1", "2"]);
    assert!(
        diff.contains("-scheduler = \"round-robin\"") && diff.contains("+scheduler = \"maglev\""),
        "{diff}"
    );
    cli(&["rollback", "2"]);
    assert!(std::fs::read_to_string(&config).unwrap().contains("maglev"));
    cli(&["rollback"]);
    assert!(std::fs::read_to_string(&config).unwrap().contains("random"));
    drop(again);
}

fn start_again(place: &Place, config: &str) -> Process {
    let log = std::fs::File::create(place.file("again.log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(["run", "--config", config]).stdin(std::process::Stdio::null());
    let output = log.try_clone().unwrap();
    Process::start(command.stdout(output).stderr(log))
}

/// SIGKILL at any moment of a commit: the file, the history and the running configuration are the
/// old or the new one, whole.
#[test]
fn a_kill_at_any_moment_leaves_the_old_or_the_new() {
    let place = Place::new("kill-commit");
    let _server = Scripted::named(place.at(9001), "one");
    // Long enough that a torn write would show.
    let filler: String = (0..2000).map(|n| format!("# line {n} of a long file\n")).collect();
    let text = |word: &str| {
        let keys = format!("retries = {}", word.len());
        format!(
            "# {word}\n{filler}{}# end of {word}\n",
            service("web", "http", place.at(8080), &[place.at(9001)], &keys)
        )
    };
    let texts = ["odd", "longer"].map(|word| Evenkeel::complete(&place, &text(word)));
    let files = [0, 1].map(|n| place.write(&format!("next{n}.toml"), &texts[n]));
    let mut evenkeel = start(&place, &text("odd"));
    let mut seen = [0, 0];
    for round in 0..24_u64 {
        let mut commit = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"))
            .env("EVENKEEL_SOCKET", evenkeel.socket())
            .arg("commit")
            .arg(&files[(round % 2) as usize])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(3 + round * 7 % 60));
        evenkeel.process.kill();
        let _ = commit.wait();
        let left = std::fs::read_to_string(evenkeel.config_path()).unwrap();
        let which = texts.iter().position(|t| *t == left).unwrap_or_else(|| panic!("torn: {left}"));
        seen[which] += 1;
        evenkeel.start_again();
        let shown = evenkeel.json(&["history"]);
        let latest = shown[0]["revision"].as_u64().unwrap();
        assert_eq!(evenkeel.json(&["status"])["revision"], latest);
        let kept =
            std::fs::read_to_string(place.file(&format!("state/revisions/{latest:010}.toml"))).unwrap();
        assert!(texts.contains(&kept) && kept == left, "revision {latest}");
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}
