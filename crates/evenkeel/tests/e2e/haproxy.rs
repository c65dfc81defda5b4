//! `evenkeel haproxy -f`: HAProxy's command line, stats socket and page, beside HAProxy itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Connection, Place, Process, Scripted, eventually, get, require};
use rustix::process::{Pid, Signal, kill_process};

/// This program under the name that makes it take HAProxy's words.
pub fn ours() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.arg("haproxy");
    command
}

struct Told {
    code: i32,
    out: String,
    err: String,
}

fn told(command: &mut Command) -> Told {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Told { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

pub fn ask(socket: &Path, command: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // At once: whoever has its commands answers and closes, be there one more line or not.
    stream.write_all(format!("{command}\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Two web servers behind a frontend with a page, on this place's addresses.
fn config(place: &Place, more: &str) -> (String, PathBuf) {
    let socket = place.file("stats.sock");
    let text = format!(
        "global\n  stats socket {} mode 600 level admin\n{more}\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\nfrontend fe\n  bind {}\n  stats enable\n  stats uri /st\n  stats auth admin:secret\n  stats admin if TRUE\n  default_backend be\nbackend be\n  balance roundrobin\n  stick-table type ip size 10k expire 5m\n  server s1 {} check inter 200 rise 1 fall 1 weight 10\n  server s2 {} weight 10\nbackend spare\n  server s3 {} backup\n",
        socket.display(),
        place.at(8080),
        place.at(9001),
        place.at(9002),
        place.at(9003),
    );
    (text, socket)
}

fn serving(place: &Place) -> bool {
    std::net::TcpStream::connect(place.at(8080)).is_ok()
}

pub fn run(place: &Place, mut command: Command, text: &str) -> Process {
    let file = place.write("haproxy.cfg", text);
    let log = std::fs::File::create(place.file("haproxy.log")).unwrap();
    command.arg("-db").arg("-f").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let process = Process::start(&mut command);
    // The file of the stats socket gets its name when the process serves.
    eventually("it serves", Duration::from_secs(20), || serving(place) && place.file("stats.sock").exists());
    process
}

#[test]
fn configurations_are_checked_in_its_words() {
    let place = Place::new("haproxy-check");
    let check = |text: &str, more: &[&str]| {
        let file = place.write("check.cfg", text);
        told(ours().arg("-c").args(more).arg("-f").arg(file))
    };
    let (good, _) = config(&place, "");
    let ok = check(&good, &[]);
    assert_eq!((ok.code, ok.out.as_str()), (0, "Configuration file is valid\n"), "{}", ok.err);
    let bad = check("global\n  maxcon 5\nlisten a\n  bind 127.0.0.1:1\n  cook x\n", &[]);
    assert_eq!(bad.code, 1);
    for part in [
        "[NOTICE]   (",
        "[ALERT]    (",
        "check.cfg:2] : unknown keyword 'maxcon' in 'global' section",
        "check.cfg:5] : unknown keyword 'cook' in 'listen' section",
        "config : Error(s) found in configuration file : ",
        "config : Fatal errors found in configuration.",
    ] {
        assert!(bad.err.contains(part), "{part}: {}", bad.err);
    }
    // Known and not there is an error too, never a silence.
    let lost = check("listen a\n  mode http\n  bind 127.0.0.1:1\n  rate-limit sessions 10\n", &[]);
    assert_eq!(lost.code, 1);
    assert!(
        lost.err.contains("check.cfg:4] : 'rate-limit sessions 10' is known but not supported"),
        "{}",
        lost.err
    );
    // Variables, quotes and conditions.
    let text = "listen a\n  bind \"127.0.0.1:${PORT-18}1\"\n.if defined(NOWHERE)\n  nonsense\n.else\n  mode http\n.endif\n";
    assert_eq!(check(text, &[]).code, 0);
    assert_eq!(check("defaults x\n mode http\nlisten a from y\n bind 127.0.0.1:1\n", &[]).code, 1);
    let holds = |text: &str| told(ours().args(["-cc", text])).code;
    assert_eq!(
        (holds("version_atleast(2.4) && !streq(a,b)"), holds("version_atleast(9)"), holds("(")),
        (0, 1, 1)
    );
    let version = told(ours().arg("-v"));
    assert!(version.out.starts_with("HAProxy version 2.6"), "{}", version.out);
    assert_eq!(told(ours().args(["-f", "/nowhere/at/all.cfg"])).code, 1);
    assert_eq!(told(ours().arg("-Z")).code, 1);
}

/// Rows of `show stat` by proxy and server, with some of their columns.
fn rows(text: &str, wanted: &[&str]) -> Vec<Vec<String>> {
    let mut lines = text.lines();
    let heads: Vec<&str> = lines.next().unwrap().trim_start_matches("# ").split(',').collect();
    let places: Vec<usize> = wanted
        .iter()
        .map(|w| heads.iter().position(|h| h == w).unwrap_or_else(|| panic!("no {w}")))
        .collect();
    let fields = lines.filter(|l| !l.is_empty()).map(|l| l.split(',').map(str::to_owned).collect::<Vec<_>>());
    fields.map(|f| places.iter().map(|at| f[*at].clone()).collect()).collect()
}

#[test]
fn the_stats_socket_says_what_haproxys_says() {
    if !require(&["haproxy"]) {
        return;
    }
    let (place, other) = (Place::new("haproxy-stats"), Place::new("haproxy-stats-old"));
    let _servers: Vec<Scripted> = [&place, &other]
        .iter()
        .flat_map(|p| [(9001, "one"), (9002, "two")].map(|(port, name)| Scripted::named(p.at(port), name)))
        .collect();
    let ((text, socket), (old_text, old_socket)) = (config(&place, ""), config(&other, ""));
    let _new = run(&place, ours(), &text);
    let _old = run(&other, Command::new("haproxy"), &old_text);
    let wanted = [
        "pxname", "svname", "status", "weight", "act", "bck", "iid", "sid", "type", "stot", "hrsp_2xx",
        "mode",
    ];
    for at in [place.at(8080), other.at(8080)] {
        for _ in 0..6 {
            assert_eq!(get(at, "/").status, 200);
        }
    }
    eventually("the checked server is up on both", Duration::from_secs(5), || {
        [&socket, &old_socket]
            .iter()
            .all(|s| ask(s, "show stat").contains(",s1,") && !ask(s, "show stat").contains("UP 1/"))
    });
    // HAProxy counts the connection that was tried for a start as well: totals of the frontend differ.
    let strip = |mut rows: Vec<Vec<String>>| {
        rows.iter_mut().filter(|r| r[1] == "FRONTEND").for_each(|r| r[9].clear());
        rows
    };
    let (new, old) = (ask(&socket, "show stat"), ask(&old_socket, "show stat"));
    assert_eq!(strip(rows(&new, &wanted)), strip(rows(&old, &wanted)));
    // The columns are HAProxy's, in its order.
    let heads =
        |text: &str| text.lines().next().unwrap().split(',').take(100).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(heads(&new), heads(&old));
    // Words of refusal and of success.
    for command in [
        "get weight be/s1",
        "set weight be/s1 5",
        "get weight be/s1",
        "set weight be/s1 50%",
        "set weight be/s1 300",
        "get weight xx/yy",
        "set server be/nope state ready",
        "set server be/s1 state foo",
        "set server",
        "show backend",
        "show servers state nope",
        "show table nope",
        "show table",
        "clear table be",
        "clear counters",
        "disable server be/s2",
    ] {
        assert_eq!(ask(&socket, command), ask(&old_socket, command), "{command}");
    }
    // Distribution and states after the change.
    for (at, stats) in [(place.at(8080), &socket), (other.at(8080), &old_socket)] {
        let seen: Vec<String> = (0..4).map(|_| get(at, "/").text()).collect();
        assert!(seen.iter().all(|s| s == "one"), "{seen:?}");
        let status = rows(&ask(stats, "show stat"), &["pxname", "svname", "status", "weight"]);
        assert!(status.contains(&["be", "s2", "MAINT", "10"].map(str::to_owned).to_vec()), "{status:?}");
        let state = ask(stats, "show servers state be");
        let fields: Vec<Vec<&str>> = state.lines().skip(2).map(|l| l.split(' ').collect()).collect();
        assert_eq!((fields[1][3], fields[1][5], fields[1][6]), ("s2", "0", "1"), "{state}");
    }
    ask(&socket, "set server be/s2 state ready; set server be/s1 state drain");
    eventually("only the second serves", Duration::from_secs(2), || get(place.at(8080), "/").text() == "two");
    let info = ask(&socket, "show info");
    assert!(
        info.contains("Name: HAProxy\n") && info.contains("\nPid: ") && info.contains("\nUptime_sec: "),
        "{info}"
    );
    assert!(ask(&socket, "add map x y z").contains("Unknown map identifier"));
    assert!(ask(&socket, "nonsense").starts_with("Unknown command"));
    assert!(ask(&socket, "user;set weight be/s1 3").contains("Permission denied"));
    assert!(ask(&socket, "show stat typed").contains("S.3.1.1.svname.1:MGP:str:s1\n"));
    serde_json::from_str::<serde_json::Value>(&ask(&socket, "show stat json")).unwrap();
}

#[test]
fn the_page_shows_and_changes_servers() {
    let place = Place::new("haproxy-page");
    let _servers = [(9001, "one"), (9002, "two")].map(|(port, name)| Scripted::named(place.at(port), name));
    let (text, _) = config(&place, "");
    let _process = run(&place, ours(), &text);
    let at = place.at(8080);
    let send = |head: &str, body: &str| {
        let mut connection = Connection::open(at);
        connection.send(format!("{head} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\nConnection: close\r\nAuthorization: Basic YWRtaW46c2VjcmV0\r\n\r\n{body}", body.len()));
        connection.answer().unwrap()
    };
    assert_eq!(get(at, "/st").status, 401);
    let page = send("GET /st", "");
    assert!(page.status == 200 && page.text().contains("Statistics Report for HAProxy"), "{}", page.text());
    let csv = send("GET /st;csv", "").text();
    assert!(csv.starts_with("# pxname,svname,") && csv.contains("\nbe,BACKEND,"), "{csv}");
    assert!(!send("GET /st?;csv;scope=spare", "").text().contains("\nbe,"));
    let done = send("POST /st", "s=s1&s=s2&action=maint&b=%233");
    assert_eq!((done.status, done.field("location")), (303, Some("/st;st=DONE")));
    assert_eq!(get(at, "/").status, 503);
    assert_eq!(send("POST /st", "s=s1&action=ready&b=be").field("location"), Some("/st;st=DONE"));
    assert_eq!(get(at, "/").text(), "one");
    assert_eq!(send("POST /st", "s=nobody&action=ready&b=be").field("location"), Some("/st;st=ERRP"));
    // Nobody else gets to the page's own server: a header of the client's does not open it.
    let mut connection = Connection::open(at);
    connection.send("GET /st HTTP/1.1\r\nHost: t\r\nX-Evenkeel-Statistics: 0\r\n\r\n");
    assert_eq!(connection.answer().unwrap().status, 401);
}

#[test]
fn a_reload_by_pid_loses_no_request() {
    let place = Place::new("haproxy-reload");
    let _servers = [(9001, "one"), (9002, "two")].map(|(port, name)| Scripted::named(place.at(port), name));
    let (text, socket) = config(&place, "");
    let pidfile = place.file("haproxy.pid");
    let file = place.write("haproxy.cfg", text);
    let start = |more: &[String]| {
        let mut command = ours();
        command.arg("-D").arg("-f").arg(&file).arg("-p").arg(&pidfile).args(more);
        let told = told(&mut command);
        assert_eq!(told.code, 0, "{}", told.err);
        std::fs::read_to_string(&pidfile).unwrap().trim().parse::<i32>().unwrap()
    };
    let mut pid = start(&[]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let failed = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut done, mut failed) = (0, 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut connection = Connection::open(place.at(8080));
                connection.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
                match connection.answer() {
                    Some(answer) if answer.status == 200 => done += 1,
                    _ => failed += 1,
                }
            }
            (done, failed)
        });
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(300));
            let before = pid;
            pid = start(&["-sf".into(), before.to_string()]);
            let gone = || !Path::new(&format!("/proc/{before}/stat")).exists();
            eventually("the old process has ended", Duration::from_secs(10), gone);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.join().unwrap()
    });
    assert!(failed.0 > 50 && failed.1 == 0, "{failed:?} requests done and failed");
    assert!(ask(&socket, "show info").contains(&format!("\nPid: {pid}\n")));
    kill_process(Pid::from_raw(pid).unwrap(), Signal::USR1).unwrap();
    eventually("it finishes", Duration::from_secs(10), || !serving(&place));
    eventually("its socket is gone", Duration::from_secs(10), || !socket.exists());
}

#[test]
fn a_master_changes_its_worker() {
    let place = Place::new("haproxy-master");
    let _servers = [(9001, "one"), (9002, "two")].map(|(port, name)| Scripted::named(place.at(port), name));
    let (text, socket) = config(&place, "");
    let mut command = ours();
    let own = place.file("master.sock");
    command.arg("-W").arg("-S").arg(format!("{},mode,600", own.display()));
    let mut master = run(&place, command, &text);
    let worker = || {
        let info = ask(&socket, "show info");
        let line = info.lines().find_map(|l| l.strip_prefix("Pid: "));
        line.and_then(|p| p.parse::<u32>().ok())
    };
    let first = worker().expect("a worker");
    assert_ne!(first, master.id());
    master.signal(Signal::USR2);
    // Whoever has asked the old worker in the moment of its end hears that it is stopping.
    eventually("another worker serves", Duration::from_secs(10), || worker().is_some_and(|w| w != first));
    assert_eq!(get(place.at(8080), "/").status, 200);
    // The master's own socket: its workers, a word for one of them, another reload.
    let second = worker().expect("a worker");
    let is_told = |line: &str| line.starts_with(&format!("{second} ")) && line.contains("worker");
    eventually("the master knows its worker", Duration::from_secs(30), || {
        ask(&own, "show proc").lines().skip_while(|line| *line != "# workers").nth(1).is_some_and(is_told)
    });
    for named in ["@1 show info".to_owned(), format!("@!{second} show info"), "@1; show info".to_owned()] {
        assert!(ask(&own, &named).contains(&format!("\nPid: {second}\n")), "{named}");
    }
    assert!(ask(&own, "@!1 show info").contains("Can't find the target PID"));
    assert!(ask(&own, "reload").starts_with("Success=1"));
    let third = worker().expect("a worker");
    assert_ne!(third, second);
    // A configuration that is not right changes nothing.
    place.write("haproxy.cfg", "global\n  nonsense\n");
    assert!(ask(&own, "reload").starts_with("Success=0"));
    assert_eq!((worker(), get(place.at(8080), "/").status), (Some(third), 200));
    master.signal(Signal::TERM);
    assert_eq!(master.wait(), Some(0));
    assert!(!serving(&place));
}

#[test]
fn sockets_may_be_given_or_be_files() {
    let place = Place::new("haproxy-fd");
    let _server = Scripted::named(place.at(9001), "one");
    // A listening socket of whoever starts it, as its fourth descriptor.
    let listener = std::net::TcpListener::bind(place.at(8080)).unwrap();
    let path = place.file("front.sock");
    let file = place.write(
        "haproxy.cfg",
        format!(
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\nlisten a\n  bind \"fd@${{FRONT}}\"\n  bind unix@{}\n  server s {}\n",
            path.display(),
            place.at(9001)
        ),
    );
    let inherited = listener.try_clone().unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&inherited);
    let mut command = ours();
    command.arg("-db").arg("-f").arg(file).env("FRONT", number.to_string()).stderr(Stdio::null());
    let process = Process::start(&mut command);
    drop((inherited, listener));
    assert_eq!(get(place.at(8080), "/").text(), "one");
    eventually("the file is there", Duration::from_secs(10), || path.exists());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("one"), "{text}");
    drop(process);
}

/// Sections that lead to each other by sockets of the machine, and the checks that go the same way.
#[test]
fn servers_are_reached_by_sockets() {
    let place = Place::new("haproxy-unix");
    let _server = Scripted::named(place.at(9001), "one");
    let path = place.file("inner.sock").display().to_string();
    let name = format!("abns@evenkeel-{}", place.at(9001).port());
    let (text, _) = config(&place, "");
    let more = format!(
        "listen outer\n  bind {}\n  option httpchk GET /\n  server u unix@{path} send-proxy check inter 100 rise 1 fall 1\nlisten inner\n  bind {path} accept-proxy\n  http-request set-header x-from %[src]\n  server a {name} check inter 100 rise 1 fall 1\nlisten last\n  bind {name}\n  http-request deny deny_status 403 unless {{ req.hdr(x-from) 127.0.0.1 }} or {{ path / }}\n  server s {}\n",
        place.at(8082),
        place.at(9001),
    );
    let process = run(&place, ours(), &(text + &more));
    eventually("both checks pass", Duration::from_secs(20), || get(place.at(8082), "/x").text() == "one");
    drop(process);
}

#[test]
fn answers_of_its_own_are_those_that_the_file_says() {
    let place = Place::new("haproxy-answers");
    let file = |name: &str, mark: &str| {
        let text = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nX-From: {mark}\r\n\r\n<p>{mark}</p>"
        );
        place.write(name, text).display().to_string()
    };
    let (one, two, three) = (file("1.http", "one"), file("2.http", "two"), file("3.http", "three"));
    let with_variables = place.write("lf.txt", "at %[path] {as it is}");
    let text = format!(
        "http-errors e\n  errorfile 404 {one}\n  errorfile 500 /dev/null\nglobal\n  stats socket {}\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n  errorfile 400 {three}\n  errorfile 404 {three}\nfrontend fe\n  bind {}\n  errorfiles e 404\n  http-error status 410 errorfile {two}\n  http-request allow if {{ path_beg /free }}\n  http-request deny deny_status 404 if {{ path /section }}\n  http-request deny deny_status 400 if {{ path /inherited }}\n  http-request deny deny_status 410 if {{ path /error }}\n  http-request deny deny_status 404 errorfile {two} if {{ path /file }}\n  http-request deny status 500 errorfiles e if {{ path /shut }}\n  http-request reject if {{ path /reject }}\n  http-request deny status 429 content-type text/x-a lf-file {} hdr X-At %[path] if {{ path /lf }}\n  http-request return status 400 default-errorfiles if {{ path /default }}\n  http-request return file /dev/null content-type text/x-b\n",
        place.file("stats.sock").display(),
        place.at(8080),
        with_variables.display()
    );
    let _running = run(&place, ours(), &text);
    for (path, status, from) in [
        ("/section", 404, Some("one")),
        ("/inherited", 400, Some("three")),
        ("/error", 410, Some("two")),
        ("/file", 404, Some("two")),
        ("/default", 400, Some("three")),
        ("/else", 200, None),
        // No rule of requests is for it any more, and there is no backend.
        ("/free", 503, None),
    ] {
        let answer = Connection::open(place.at(8080)).get(path);
        assert_eq!((answer.status, answer.field("x-from")), (status, from), "{path}");
    }
    let answer = Connection::open(place.at(8080)).get("/lf");
    assert_eq!((answer.status, answer.text().as_str()), (429, "at /lf {as it is}"));
    assert_eq!((answer.field("x-at"), answer.field("content-type")), (Some("/lf"), Some("text/x-a")));
    for path in ["/shut", "/reject"] {
        let mut connection = Connection::open(place.at(8080));
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(connection.read_all(), b"", "{path}");
    }
}

/// Lines that a syslog server got, without times, pids and durations.
fn lines(socket: &std::net::UdpSocket) -> Vec<String> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned();
        let (head, line) = text.split_once("]: ").unwrap_or(("", &text));
        let priority = head.split('>').next().unwrap_or("");
        let duration = line.split(", ").find(|part| part.starts_with("check duration: "));
        let duration = duration.map_or("", |d| d.split('.').next().unwrap_or(d));
        all.push(format!(
            "{priority} {}",
            if duration.is_empty() { line.into() } else { line.replace(duration, "check duration") }
        ));
    }
    all
}

#[test]
fn its_log_is_told_what_becomes_of_servers() {
    if !require(&["haproxy"]) {
        return;
    }
    let told = |name: &str, command: Command| {
        let place = Place::new(name);
        let syslog = std::net::UdpSocket::bind(place.at(5514)).unwrap();
        syslog.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let web = |status: &str| {
            Scripted::answering(place.at(9001), format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
        };
        let mut server = web("200 OK");
        let text = format!(
            "global\n  stats socket {} level admin\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\nfrontend fe\n  bind {}\n  default_backend be\nbackend be\n  log {} local0\n  log {} local1 emerg\n  option log-health-checks\n  option httpchk GET /\n  server s1 {} check inter 100ms rise 1 fall 2\n",
            place.file("stats.sock").display(),
            place.at(8080),
            place.at(5514),
            place.at(5514),
            place.at(9001)
        );
        let _running = run(&place, command, &text);
        let mut story = vec![lines(&syslog)];
        drop(server);
        story.push(lines(&syslog));
        server = web("503 Busy");
        story.push(lines(&syslog));
        drop(server);
        story.push(lines(&syslog));
        server = web("200 OK");
        story.push(lines(&syslog));
        for command in ["disable server be/s1", "enable server be/s1"] {
            ask(&place.file("stats.sock"), command);
            story.push(lines(&syslog));
        }
        drop(server);
        story
    };
    // A check that is under way when something happens ends in one of several ways, HAProxy's own as well:
    // it is asked again what it tells.
    let mut told_by_both = Vec::new();
    for round in 0..3 {
        let new = told(&format!("haproxy-log-{round}"), ours());
        let old = told(&format!("haproxy-log-old-{round}"), Command::new("haproxy"));
        if new == old {
            return;
        }
        told_by_both.push((new, old));
    }
    panic!("{told_by_both:#?}");
}

/// As acme.sh's deploy hook for haproxy does it, each command on a connection of its own.
#[test]
fn hooks_roll_certificates_by_the_socket() {
    if !require(&["openssl"]) {
        return;
    }
    let place = Place::new("haproxy-certificates");
    let ca = evenkeel_testbed::Authority::new(&place, "ca");
    let file = ca.server(&place, "www.pem", &["www.example.org"]);
    let next = std::fs::read_to_string(ca.server(&place, "next.pem", &["www.example.org"])).unwrap();
    let strange = std::fs::read_to_string(ca.server(&place, "strange.pem", &["www.example.org"])).unwrap();
    let name = file.display().to_string();
    let more = format!("frontend tls\n  bind {} ssl crt {name}\n  default_backend be\n", place.at(8443));
    let (text, socket) = config(&place, "");
    let _process = run(&place, ours(), &(text + &more));
    let shown = || {
        let at = place.at(8443).to_string();
        let out = evenkeel_testbed::command("openssl", &["s_client", "-connect", &at]).out;
        out.split("-----BEGIN CERTIFICATE")
            .nth(1)
            .map(|rest| rest.split("-----END").next().unwrap_or("").to_owned())
    };
    let listed = ask(&socket, "show ssl cert");
    assert!(listed.lines().any(|line| line == name), "{listed}");
    let before = shown().expect("a certificate");
    // A key of another certificate is refused, and changes nothing.
    let key = next.find("-----BEGIN PRIVATE").unwrap();
    let mixed = next[..key].to_owned() + &strange[strange.find("-----BEGIN PRIVATE").unwrap()..];
    let said = ask(&socket, &format!("set ssl cert {name} <<\n{mixed}"));
    assert!(said.contains("Can't update"), "{said}");
    let said = ask(&socket, &format!("set ssl cert /nowhere.pem <<\n{next}"));
    assert!(said.contains("not referenced"), "{said}");
    let said = ask(&socket, &format!("set ssl cert {name} <<\n{next}"));
    assert!(said.contains("Transaction created for certificate"), "{said}");
    assert!(ask(&socket, "show ssl cert").contains(&format!("*{name}")));
    assert!(ask(&socket, &format!("abort ssl cert {name}")).contains("aborted"));
    assert!(ask(&socket, &format!("commit ssl cert {name}")).contains("No ongoing transaction"));
    assert_eq!(shown().as_ref(), Some(&before));
    ask(&socket, &format!("set ssl cert {name} <<\n{next}"));
    let said = ask(&socket, &format!("commit ssl cert {name}"));
    assert!(said.lines().any(|line| line == "Success!"), "{said}");
    eventually("the new one is served", Duration::from_secs(20), || shown().is_some_and(|now| now != before));
    let about = ask(&socket, &format!("show ssl cert {name}"));
    assert!(about.contains("Status: Used") && about.contains("DNS:www.example.org"), "{about}");
}

/// What acme.sh's deploy hook for haproxy sends for a certificate that is new, and what other hooks do with lists,
/// authorities and revocation lists.
#[test]
fn hooks_add_certificates_to_lists() {
    if !require(&["openssl"]) {
        return;
    }
    let place = Place::new("haproxy-lists");
    let ca = evenkeel_testbed::Authority::new(&place, "ca");
    let other = evenkeel_testbed::Authority::new(&place, "other");
    let path = |file: std::path::PathBuf| file.display().to_string();
    ca.server(&place, "certs/www.pem", &["www.example.org"]);
    let pem = std::fs::read_to_string(ca.server(&place, "new.pem", &["new.example.org"])).unwrap();
    let list = path(place.write("certs/all.list", "www.pem\n"));
    let new = list.replace("all.list", "new.pem");
    let known = path(place.write("known.pem", std::fs::read(&ca.file).unwrap()));
    let more = format!(
        "frontend tls\n  bind {} ssl crt-list {list} ca-file {known} verify optional\n  default_backend be\n",
        place.at(8443)
    );
    let (text, socket) = config(&place, "");
    let _process = run(&place, ours(), &(text + &more));
    let say = |command: &str, expected: &str| {
        let said = ask(&socket, command);
        assert!(said.contains(expected), "{command}: {said}");
    };
    let shown = |name: &str| {
        let at = place.at(8443).to_string();
        let out = evenkeel_testbed::command("openssl", &["s_client", "-connect", &at, "-servername", name]);
        out.out.contains(&format!("CN = {name}"))
    };
    assert!(!ask(&socket, "show ssl cert").lines().any(|line| line == new));
    assert!(ask(&socket, "show ssl crt-list").lines().any(|line| line == list));
    say(&format!("new ssl cert {new}"), "New empty");
    say(&format!("new ssl cert {new}"), "already exists");
    say("new ssl cert /etc/hostname", "a file is there");
    say("new ssl ca-file /etc/hostname", "a file is there");
    say("new ssl cert elsewhere.pem", "New empty");
    say("del ssl cert elsewhere.pem", "deleted!");
    // In memory alone: a file of somebody else in its place stays what it is.
    let late = list.replace("all.list", "late.pem");
    say(&format!("new ssl cert {late}"), "New empty");
    say(&format!("set ssl cert {late} <<\n{pem}"), "Transaction created");
    std::fs::write(&late, "a key").unwrap();
    say(&format!("commit ssl cert {late}"), "Success!");
    say(&format!("del ssl cert {late}"), "deleted");
    assert_eq!(std::fs::read_to_string(&late).unwrap(), "a key");
    say(&format!("add ssl crt-list {list} {new}"), "does not exist");
    say(&format!("set ssl cert {new} <<\n{pem}"), "Transaction created");
    let said = ask(&socket, &format!("commit ssl cert {new}"));
    assert!(said.lines().any(|line| line == "Success!"), "{said}");
    say(&format!("add ssl crt-list {list} {new}"), "Success!");
    eventually("the new one is served", Duration::from_secs(20), || shown("new.example.org"));
    assert!(shown("www.example.org"), "the others are, too");
    say(&format!("show ssl crt-list {list}"), &format!("# {list}\nwww.pem\n{new}\n"));
    say(&format!("del ssl cert {new}"), "in use");
    // A line as payload, and one of two entries.
    say(&format!("add ssl crt-list {list} <<\n{new} more.example.org\n\n"), "Success!");
    say(&format!("add ssl crt-list {list} <<\n{new} [alpn h2] more.example.org\n\n"), "options");
    say(&format!("show ssl crt-list -n {list}"), &format!("{new}:3 more.example.org"));
    say(&format!("del ssl crt-list {list} {new}"), "several entries");
    say(&format!("del ssl crt-list {list} {new}:3"), "deleted in crtlist");
    say(&format!("del ssl crt-list {list} {new}"), "deleted in crtlist");
    say(&format!("del ssl crt-list {list} www.pem"), "last one");
    say("show ssl crt-list /nowhere", "didn't find");
    eventually("the list without it", Duration::from_secs(20), || !shown("new.example.org"));
    say(&format!("del ssl cert {new}"), "deleted!");
    assert!(!std::path::Path::new(&new).exists());
    // Who vouches for clients.
    say("show ssl ca-file", &known);
    say(&format!("show ssl ca-file {known}"), "Subject: /CN=ca");
    say(&format!("set ssl ca-file {known} <<\nnothing\n\n"), "no CA");
    let authority = std::fs::read_to_string(&other.file).unwrap();
    say(&format!("set ssl ca-file {known} <<\n{authority}\n"), "transaction created for CA");
    say(&format!("show ssl ca-file *{known}"), "Subject: /CN=other");
    say(&format!("commit ssl ca-file {known}"), "Success!");
    say(&format!("show ssl ca-file {known}"), "Subject: /CN=other");
    say(&format!("commit ssl ca-file {known}"), "No ongoing transaction");
    // One more beside it, and each by its number.
    say("show ssl ca-file", &format!("{known} - 1 certificate(s)"));
    let first = std::fs::read_to_string(&ca.file).unwrap();
    say(&format!("add ssl ca-file {known} <<\nnothing\n\n"), "no CA");
    say(&format!("add ssl ca-file {known} <<\n{first}\n"), "transaction created for CA");
    say("show ssl ca-file", &format!("*{known} - 2 certificate(s)"));
    say(&format!("abort ssl ca-file {known}"), "aborted for certificate");
    say(&format!("add ssl ca-file {known} <<\n{first}\n"), "transaction created for CA");
    say(&format!("commit ssl ca-file {known}"), "Success!");
    say(&format!("show ssl ca-file {known}:2"), "Subject: /CN=ca");
    assert!(!ask(&socket, &format!("show ssl ca-file {known}:2")).contains("/CN=other"));
    say("add ssl ca-file /nowhere <<\nx\n\n", "Can't update /nowhere!");
    say("set ssl crl-file /nowhere <<\nx\n\n", "not referenced");
}

/// Commands that both programs answer alike, byte for byte.
const SERVER_COMMANDS: &[&str] = &[
    "add server",
    "add server be/d1",
    "add server nobody/d1 HERE:9003",
    "add server be/s1 HERE:9003",
    "add server hashed/d1 HERE:9003",
    "add server be/a/b HERE:9003",
    "add server be/d1 HERE:9003 cookie x",
    "add server be/d1 HERE:9003 weight 300",
    "add server be/d1 HERE:9003 check inter 200 rise 1 fall 1 weight 30",
    "add server be/d1 HERE:9003",
    "get weight be/d1",
    "del server be/d1;show backend",
    "enable health be/d1",
    "enable server be/d1",
    "del server be/d1",
    "set server be/d1 weight 50%",
    "get weight be/d1",
    "disable server be/d1",
    "set server be/d1 addr HERE port 9002",
    "set server be/d1 addr HERE port 9002",
    "set server be/d1 addr HERE port x",
    "set server be/d1 addr HERE",
    "set server be/d1 addr",
    "set server be/d1 addr foo",
    "set server be/d1 addr HERE port +5",
    "set server be/d1 check-port",
    "set server be/d1 check-port x",
    "set server be/d1 check-port 70000",
    "set server be/d1 check-port 9001",
    "set server be/d1 check-addr",
    "set server be/d1 check-addr foo",
    "set server be/d1 check-addr HERE port 9001",
    "set server be/s2 check-port 9001",
    "set server be/s2 fqdn a.test",
    "set server be/s2 fqdn",
    "set server be/no addr HERE",
    "enable health be/s2",
    "disable health be/s2",
    "disable health be/s1",
    "enable health be/s1",
    "enable health",
    "enable health be/no",
    "enable health no/s1",
    "enable agent be/s1",
    "disable agent be/s1",
    "del server",
    "del server be",
    "del server be/no",
    "del server no/no",
    "del server be/d1",
    "del server be/d1",
    "add server be/d1 HERE:9003",
    "del server be/s2",
    "disable server be/s2",
    "del server be/s2",
    "get weight be/s2",
    "get weight be/t2",
    "set server be/t3 addr HERE port 9001",
    "show resolvers none",
];

#[test]
fn servers_come_and_go_by_the_stats_socket() {
    if !require(&["haproxy"]) {
        return;
    }
    let (place, other) = (Place::new("haproxy-servers"), Place::new("haproxy-servers-old"));
    let _servers: Vec<Scripted> = [&place, &other]
        .iter()
        .flat_map(|p| [9001, 9002, 9003].map(|port| Scripted::named(p.at(port), &format!("s{port}"))))
        .collect();
    let with_more = |place: &Place| {
        let (text, socket) = config(place, "");
        let template = format!("  server-template t 2-3 {} weight 10\nbackend spare", place.at(9002));
        let hashed = format!("backend hashed\n  balance source\n  server x {}\n", place.at(9001));
        (text.replace("backend spare", &template) + &hashed, socket)
    };
    let ((text, socket), (old_text, old_socket)) = (with_more(&place), with_more(&other));
    let _new = run(&place, ours(), &text);
    let _old = run(&other, Command::new("haproxy"), &old_text);
    let said = |place: &Place, socket: &Path, command: &str| {
        let here = place.at(1).ip().to_string();
        ask(socket, &command.replace("HERE", &here)).replace(&here, "HERE")
    };
    let mut different = Vec::new();
    for command in SERVER_COMMANDS {
        let (new, old) = (said(&place, &socket, command), said(&other, &old_socket, command));
        if new != old {
            different.push(format!("{command}\n  here:  {new:?}\n  there: {old:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    // Numbers, names, places and admin states of all that is left.
    let table = |socket: &Path, place: &Place| {
        let text = ask(socket, "show servers state be").replace(&place.at(1).ip().to_string(), "HERE");
        let lines = text.lines().filter(|line| line.contains(" be "));
        let fields = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            [2, 3, 4, 6, 7, 18].map(|at| words[at].to_owned()).join(" ")
        };
        lines.map(fields).collect::<Vec<_>>()
    };
    assert_eq!(table(&socket, &place), table(&old_socket, &other));
    // The one that was added takes clients as soon as it is enabled.
    for (socket, place) in [(&socket, &place), (&old_socket, &other)] {
        assert_eq!(ask(socket, "enable server be/d1"), "\n");
        eventually("it serves", Duration::from_secs(30), || get(place.at(8080), "/").text() == "s9003");
    }
}

/// A server that is not up yet: its client waits a second and is served, here as there.
#[test]
fn a_server_that_starts_late_is_tried_again() {
    for (name, command) in [("ours", ours as fn() -> Command), ("theirs", || Command::new("haproxy"))] {
        if name == "theirs" && !require(&["haproxy"]) {
            return;
        }
        let place = Place::new(&format!("haproxy-late-{name}"));
        let socket = place.file("stats.sock");
        let text = format!(
            "global\n  stats socket {} mode 600 level admin\ndefaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\nlisten web\n  mode http\n  bind {}\n  retries 10\n  server s1 {}\nlisten raw\n  mode tcp\n  bind {}\n  retries 10\n  server s1 {}\n",
            socket.display(),
            place.at(8080),
            place.at(9001),
            place.at(8081),
            place.at(9002),
        );
        let _process = run(&place, command(), &text);
        let clients: Vec<_> = [8080, 8081]
            .map(|port| {
                let address = place.at(port);
                std::thread::spawn(move || get(address, "/").status)
            })
            .into_iter()
            .collect();
        // Both have met a closed port: one program counts that at once as a retry, the other as an error.
        eventually("first attempts fail", Duration::from_secs(20), || {
            let rows = rows(&ask(&socket, "show stat"), &["pxname", "svname", "wretr", "econ"]);
            let counted = |row: &[String]| row.iter().any(|n| n.parse::<u64>().is_ok_and(|n| n > 0));
            let tried = |proxy: &str| rows.iter().any(|r| r[0] == proxy && r[1] == "s1" && counted(&r[2..]));
            tried("web") && tried("raw")
        });
        let _servers = [9001, 9002].map(|port| Scripted::named(place.at(port), "late"));
        for client in clients {
            assert_eq!(client.join().unwrap(), 200, "{name}");
        }
    }
}
