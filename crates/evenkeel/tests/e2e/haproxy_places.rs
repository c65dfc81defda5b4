//! Where HAProxy's files listen and whom they reach, in every way to write it, beside HAProxy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Place, Process, Scripted, eventually, require};

/// `bind` lines: PORT is one of the case's own and NEXT the one behind it, HOST is the test's address.
const BINDS: [&str; 22] = [
    "HOST:PORT",
    ":::PORT",
    "[::]:PORT",
    ":::PORT v4v6",
    ":::PORT v6only",
    "*:PORT",
    ":PORT",
    "ipv6@:PORT",
    "tcp6@:::PORT v6only",
    "HOST:PORT-NEXT",
    "HOST:PORT,HOST:NEXT",
    "HOST:PORT,:NEXT",
    "ipv4@HOST:PORT",
    "tcp4@HOST:PORT",
    "tcp@HOST:PORT",
    "ipv4@*:PORT",
    "ipv6@::1:PORT",
    "\"HOST:${TWENTY}\"",
    ":::PORT\n  bind *:PORT",
    "FOLDER/PORT.sock",
    "FOLDER/PORT.sock mode 666",
    "unix@FOLDER/PORT.sock mode 640 user nobody group nogroup",
];

/// What a server's address is written as.
const SERVERS: [&str; 10] = [
    "HOST:9001",
    "ipv4@HOST:9001",
    "tcp4@HOST:9001",
    "tcp@HOST:9001",
    "HOST:9001 source HOST",
    "HOST:9001 weight 0",
    "HOST:9001 disabled",
    "${SERVER}",
    "\"${SERVER}\"",
    "HOST:9009",
];

struct Side {
    place: Place,
    first: u16,
    _server: Scripted,
    _process: Process,
}

impl Side {
    fn new(name: &str, mut program: Command, first: u16) -> Side {
        let place = Place::new(&format!("haproxy-places-{name}"));
        let host = place.at(0).ip().to_string();
        let filled = |text: &str, port: u16| {
            let text = text.replace("HOST", &host).replace("NEXT", &(port + 1).to_string());
            let text = text.replace("TWENTY", &format!("PORT{port}"));
            text.replace("${PORT", "${P").replace("PORT", &port.to_string()).replace("${P", "${PORT")
        };
        let mut text = String::from(
            "global\n  unix-bind mode 600\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n",
        );
        let folder = place.folder().display().to_string();
        for (number, bind) in BINDS.iter().enumerate() {
            let port = first + 2 * number as u16;
            program.env(format!("PORT{port}"), port.to_string());
            let bind = filled(bind, port).replace("FOLDER", &folder);
            text.push_str(&format!("listen b{number}\n  bind {bind}\n  server s {}\n", place.at(9001)));
        }
        for (number, server) in SERVERS.iter().enumerate() {
            let at = place.at(first + 100 + number as u16);
            text.push_str(&format!("listen s{number}\n  bind {at}\n  server s {}\n", filled(server, 0)));
        }
        let server = Scripted::named(place.at(9001), "served");
        let file = place.write("places.cfg", text);
        let log = std::fs::File::create(place.file("places.log")).unwrap();
        program.env("SERVER", place.at(9001).to_string()).arg("-db").arg("-f").arg(file);
        let process = Process::start(program.stdout(Stdio::null()).stderr(log));
        let last = place.at(first + 99 + SERVERS.len() as u16);
        eventually("it listens", Duration::from_secs(30), || TcpStream::connect(last).is_ok());
        Side { place, first, _server: server, _process: process }
    }

    /// What clients of all kinds meet at one of the binds.
    fn of_bind(&self, number: usize) -> Vec<String> {
        let port = self.first + 2 * number as u16;
        let host = self.place.at(0).ip();
        let hosts = [host, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let each = hosts.into_iter().flat_map(|host| [port, port + 1].map(|p| SocketAddr::new(host, p)));
        let mut all: Vec<String> = each.map(|at| answer(TcpStream::connect(at))).collect();
        let path: PathBuf = self.place.file(&format!("{port}.sock"));
        if let Ok(about) = std::fs::metadata(&path) {
            all.push(answer(UnixStream::connect(&path)));
            all.push(format!("{:o} of {}:{}", about.mode() & 0o777, about.uid(), about.gid()));
        }
        all
    }

    fn of_server(&self, number: usize) -> String {
        answer(TcpStream::connect(self.place.at(self.first + 100 + number as u16)))
    }
}

/// The status of an answer, or what became of the connection.
fn answer(stream: std::io::Result<impl Read + Write>) -> String {
    let Ok(mut stream) = stream else { return "nobody".into() };
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    let read = asked.and_then(|()| stream.read_to_string(&mut text));
    text.split(' ').nth(1).map_or_else(|| format!("{read:?}"), str::to_owned)
}

#[test]
fn places_are_those_of_haproxy() {
    if !require(&["haproxy"]) {
        return;
    }
    let mut ours = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    ours.arg("haproxy");
    let (theirs, ours) = (Side::new("old", Command::new("haproxy"), 17_000), Side::new("new", ours, 18_000));
    for (number, bind) in BINDS.iter().enumerate() {
        assert_eq!(theirs.of_bind(number), ours.of_bind(number), "bind {bind}");
    }
    for (number, server) in SERVERS.iter().enumerate() {
        assert_eq!(theirs.of_server(number), ours.of_server(number), "server s {server}");
    }
}

/// Connections with a backup, when the server that it stood in for is back: beside HAProxy.
#[test]
fn connections_with_backups_end_where_that_is_wanted() {
    if !require(&["haproxy"]) {
        return;
    }
    let echo = |at: SocketAddr| {
        Scripted::start(at, |mut stream| {
            let mut buffer = [0; 100];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let _ = stream.write_all(&buffer[..count]);
            }
        })
    };
    let stays = |name: &str, program: Command, option: &str| -> bool {
        let place = Place::new(&format!("haproxy-marked-up-{name}"));
        let text = format!(
            "global\n  stats socket {}\ndefaults\n  mode tcp\n  timeout connect 2s\n  timeout client 9s\n  timeout server 9s\nlisten a\n  bind {}\n  server main {} check inter 100 rise 1 fall 1 {option}\n  server spare {} backup\n",
            place.file("stats.sock").display(),
            place.at(8080),
            place.at(9001),
            place.at(9002),
        );
        let _spare = echo(place.at(9002));
        let _process = crate::haproxy::run(&place, program, &text);
        let mut held = None;
        eventually("the backup serves", Duration::from_secs(10), || {
            let Ok(mut stream) = TcpStream::connect(place.at(8080)) else { return false };
            stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            let told = stream.write_all(b"x").is_ok() && matches!(stream.read(&mut [0; 8]), Ok(1));
            held = Some(stream).filter(|_| told);
            told
        });
        let mut held = held.unwrap();
        let main = echo(place.at(9001));
        eventually("the server is back", Duration::from_secs(10), || {
            let before = main.connections();
            // Its checks come as well, but say nothing.
            let mut new = TcpStream::connect(place.at(8080)).unwrap();
            let _ = new.write_all(b"y");
            let _ = new.read(&mut [0; 8]);
            main.connections() > before
        });
        std::thread::sleep(Duration::from_millis(500));
        held.write_all(b"z").is_ok() && matches!(held.read(&mut [0; 8]), Ok(1))
    };
    const WORD: &str = "on-marked-up shutdown-backup-sessions";
    for (option, expect) in [("", true), (WORD, false)] {
        let own = stays("own", crate::haproxy::ours(), option);
        let other = stays("other", Command::new("haproxy"), option);
        assert_eq!((own, other), (expect, expect), "{option}");
    }
}

/// A mail server that takes everything; each mail with its envelope.
fn mail_server(at: SocketAddr) -> (Scripted, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let mails = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = mails.clone();
    let server = Scripted::start(at, move |mut stream| {
        let _ = stream.write_all(b"220 mail ESMTP\r\n");
        let (mut said, mut buffer) = (String::new(), [0; 4096]);
        let mut in_mail = false;
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            said.push_str(&String::from_utf8_lossy(&buffer[..count]));
            if in_mail {
                if !said.ends_with("\r\n.\r\n") {
                    continue;
                }
                kept.lock().unwrap().push(std::mem::take(&mut said));
            }
            let last = said.lines().next_back().unwrap_or("").to_ascii_uppercase();
            in_mail = last.starts_with("DATA");
            let answer = if in_mail { "354 go on\r\n" } else { "250 ok\r\n" };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (server, mails)
}

/// `mailers` and `email-alert`: the mail comes from and goes to whom HAProxy's does.
#[test]
fn mails_tell_of_servers_that_go_down() {
    if !require(&["haproxy"]) {
        return;
    }
    let envelope = |name: &str, program: Command| -> (Vec<String>, bool) {
        let place = Place::new(&format!("haproxy-mail-{name}"));
        let (_mail, mails) = mail_server(place.at(2525));
        let text = format!(
            "global\n  stats socket {}\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 9s\n  timeout server 9s\nmailers told\n  mailer one {}\nlisten web\n  bind {}\n  email-alert mailers told\n  email-alert from lb@example.org\n  email-alert to ops@example.org\n  email-alert level alert\n  server s1 {} check inter 100 rise 1 fall 1\n",
            place.file("stats.sock").display(),
            place.at(2525),
            place.at(8080),
            place.at(9001),
        );
        let server = Scripted::named(place.at(9001), "s1");
        let _process = crate::haproxy::run(&place, program, &text);
        eventually("the server serves", Duration::from_secs(10), || {
            answer(TcpStream::connect(place.at(8080))) == "200"
        });
        drop(server);
        // Evenkeel's alerts gather what happens within ten seconds.
        eventually("a mail comes", Duration::from_secs(30), || !mails.lock().unwrap().is_empty());
        let all = mails.lock().unwrap().join("\n");
        let of = |word: &str| all.lines().find(|line| line.to_ascii_uppercase().starts_with(word));
        let who = |line: &str| line[line.find('<').unwrap() + 1..line.find('>').unwrap()].to_owned();
        (["MAIL FROM", "RCPT TO"].map(|word| who(of(word).unwrap())).into(), all.contains("s1"))
    };
    let own = envelope("own", crate::haproxy::ours());
    assert_eq!(own, envelope("other", Command::new("haproxy")));
    assert_eq!(own, (vec!["lb@example.org".into(), "ops@example.org".into()], true));
}

/// A stream from this address of the machine.
fn connect_from(source: &str, target: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let socket = socket.expect("a socket");
    let source: SocketAddr = SocketAddr::new(source.parse().expect("an address"), 0);
    rustix::net::bind(&socket, &source).expect("it is bound");
    rustix::net::connect(&socket, &target).expect("it is connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    stream
}

/// Asks on a prompt; what comes up to the next one, nothing where the connection has ended.
fn prompted(stream: &mut TcpStream, command: &str) -> Option<String> {
    stream.write_all(command.as_bytes()).ok()?;
    let mut said = Vec::new();
    while !said.ends_with(b"> ") {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).ok().filter(|count| *count > 0)?;
        said.extend_from_slice(&some[..count]);
    }
    Some(String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn open_prompts_of_a_stats_socket_keep_nobody_out() {
    let place = Place::new("haproxy-prompts");
    let door = place.at(9999);
    let text = format!(
        "global\n  stats socket ipv4@{door} level admin\n  stats socket {} mode 600\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\nlisten l\n  bind {}\n",
        place.file("stats.sock").display(),
        place.at(8080),
    );
    let _process = crate::haproxy::run(&place, crate::haproxy::ours(), &text);
    let mut person = connect_from("127.77.0.9", door);
    assert!(prompted(&mut person, "prompt\n").is_some());
    // From one address, then from many: prompts that wait, clients that say nothing, half a command.
    let mut held = Vec::new();
    for number in 0..300 {
        let source = match number {
            ..150 => "127.77.0.1".to_owned(),
            _ => format!("127.77.1.{}", number % 40),
        };
        let mut stream = connect_from(&source, door);
        match number % 3 {
            0 => drop(prompted(&mut stream, "prompt\n")),
            1 => stream.write_all(b"show in").expect("it is sent"),
            _ => {}
        }
        held.push(stream);
        if number % 20 == 0 {
            let said =
                prompted(&mut person, "show info\n").unwrap_or_else(|| panic!("{number}: it was ended"));
            assert!(said.contains("Name:"), "{said:?}");
        }
    }
    for source in ["127.77.0.1", "127.77.1.1", "127.77.0.2"] {
        let mut stream = connect_from(source, door);
        stream.write_all(b"show info\n").expect("it is sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("an answer");
        assert!(said.contains("Name:"), "{source}: {said:?}");
    }
    assert!(prompted(&mut person, "show info\n").is_some(), "who asks stays");
    // A page of another site has a browser send this.
    for line in ["POST /;prompt HTTP/1.1", "GET /;prompt HTTP/1.0", "PROPFIND ;prompt; HTTP/1.1"] {
        let mut stream = connect_from("127.77.0.3", door);
        let request =
            format!("{line}\r\nHost: {door}\r\nContent-Type: text/plain\r\n\r\nshow info\nshow stat\n");
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty(), "{line}: {}", String::from_utf8_lossy(&said));
    }
}
